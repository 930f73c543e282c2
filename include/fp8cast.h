/* fp8cast.h - everything a program needs to turn a BF16 safetensors checkpoint
 * into an FP8 blockwise one and to prove the result.
 *
 * The boundary: this header promises plan, run, verify, diff, inspect, the
 * roofline, what engines make of a result, synthesise and the arithmetic
 * itself. Nothing here prints, exits, reads the
 * environment or keeps global state. Distinct objects may be used from
 * distinct threads at the same time; one object from one thread at a time,
 * except that const getters may run concurrently with each other, and that one
 * plan may be executed by several threads, each into a folder of its own.
 *
 * Conventions. Every fallible call returns f8_status and, when it fails and
 * `err` is not NULL, fills *err once. Output pointers are set to NULL on
 * failure, so there is nothing to free. Strings returned by getters belong to
 * the object they came from and live until it is freed. Option structs begin
 * with their size (sizeof the struct the caller was compiled with, so that a
 * later library knows which fields are there); a zero in any other field means
 * "the default". Sizes are bytes unless the name says
 * otherwise; `elems` counts tensor elements, `blocks` 128 x 128 blocks.
 */
#ifndef FP8CAST_H
#define FP8CAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define F8_VERSION_MAJOR 0
#define F8_VERSION_MINOR 1
#define F8_VERSION_PATCH 0
#define F8_VERSION "0.1.0"

#if defined(__GNUC__)
#define F8_API __attribute__((visibility("default")))
#else
#define F8_API
#endif

/* Edge of a quantisation block, in elements. The loaders read it from
 * config.json's weight_block_size; 128 is the only size they all accept. */
#define F8_BLOCK 128

/* Largest rank of a tensor that is accepted. */
#define F8_MAX_RANK 8

/* ---- status and errors ------------------------------------------------- */

typedef enum f8_status {
    F8_OK = 0,
    F8_ERR_ARGUMENT,  /* the caller passed something unusable            */
    F8_ERR_IO,        /* a system call failed; sys_errno says how        */
    F8_ERR_NOMEM,     /* memory ran out, or the budget is too small      */
    F8_ERR_FORMAT,    /* a file breaks its format                        */
    F8_ERR_RULES,     /* a rules file is wrong, or does not fit          */
    F8_ERR_REFUSED,   /* well-formed, but doing it would be a mistake    */
    F8_ERR_SPACE,     /* not enough free space for the result            */
    F8_ERR_VALUE,     /* a NaN or Inf in a weight to be quantised, a code
                         or scale that cannot be dequantised             */
    F8_ERR_CANCELLED, /* the progress callback asked to stop             */
    F8_ERR_INTERNAL   /* a defect in fp8cast                             */
} f8_status;

/* Filled once, where the fact is known. `message` is one line without
 * control characters and without a trailing newline: what, where, what was
 * expected, what was found. */
typedef struct f8_error {
    f8_status status;
    int sys_errno; /* errno of the failed call, or 0 */
    char message[2048];
} f8_error;

/* A short fixed name such as "io" or "format"; never NULL. */
F8_API const char *f8_status_name(f8_status status);

/* "0.1.0" of the library that is actually linked. */
F8_API const char *f8_version(void);

/* ---- element types ----------------------------------------------------- */

typedef enum f8_dtype {
    F8_DTYPE_BOOL,
    F8_DTYPE_U8,
    F8_DTYPE_I8,
    F8_DTYPE_E5M2, /* "F8_E5M2" */
    F8_DTYPE_E4M3, /* "F8_E4M3": e4m3fn, no infinities, NaN = 0x7f, 0xff */
    F8_DTYPE_E8M0, /* "F8_E8M0": power-of-two scales, exponent + 127 */
    F8_DTYPE_I16,
    F8_DTYPE_U16,
    F8_DTYPE_F16,
    F8_DTYPE_BF16,
    F8_DTYPE_I32,
    F8_DTYPE_U32,
    F8_DTYPE_F32,
    F8_DTYPE_I64,
    F8_DTYPE_U64,
    F8_DTYPE_F64,
    F8_DTYPE_COUNT
} f8_dtype;

/* The spelling in a safetensors header ("BF16"); NULL for no such dtype. */
F8_API const char *f8_dtype_name(f8_dtype dtype);

/* Bytes of one element; 0 for no such dtype. */
F8_API size_t f8_dtype_bytes(f8_dtype dtype);

/* ---- options ----------------------------------------------------------- */

typedef enum f8_scale_dtype {
    F8_SCALE_DEFAULT = 0, /* bf16 */
    F8_SCALE_BF16,
    F8_SCALE_F32,
    F8_SCALE_UE8M0 /* rounded up to a power of two, stored as F8_E8M0 */
} f8_scale_dtype;

/* "bf16", "f32" or "ue8m0"; NULL for no such dtype. The default's is "bf16". */
F8_API const char *f8_scale_dtype_name(f8_scale_dtype dtype);

/* How the scale of a block is chosen; docs/quality.md compares the results.
 * With F8_SCALE_UE8M0 scales are powers of two whatever is chosen, and
 * F8_SCALES_MSE is refused. */
typedef enum f8_scales {
    F8_SCALES_DEFAULT = 0, /* amax                                          */
    F8_SCALES_AMAX,        /* largest |w| / 448                             */
    F8_SCALES_MSE,         /* the bfloat16 number of least squared error    */
    F8_SCALES_POW2         /* largest |w| / 448, up to a power of two, or
                              the one below where a weight would else be
                              infinite                                      */
} f8_scales;

/* "amax", "mse" or "pow2"; NULL for no such choice. The default's is "amax". */
F8_API const char *f8_scales_name(f8_scales choice);

/* Kernels that this CPU runs, slowest first: "c", and of "avx2", "avx512",
 * "vbmi" and "neon" those that there are; NULL past the end. */
F8_API const char *f8_cpu_name(size_t i);

/* One --keep or --quantize. The glob is matched against source tensor names:
 * `*` any run of characters, `?` one character, `{n}` a decimal number. Later
 * overrides win over earlier ones and over the family's rules. */
typedef struct f8_override {
    const char *glob;
    bool quantize; /* false: keep */
} f8_override;

/* Which way a plan goes. */
typedef enum f8_direction {
    F8_TO_FP8 = 0, /* f8_quantize executes it */
    F8_FROM_FP8    /* f8_dequantize does      */
} f8_direction;

/* Told about progress; called from worker threads and the caller's, never two
 * at a time. A non-zero return stops the run with F8_ERR_CANCELLED. */
typedef struct f8_progress { /* bytes_resumed <= bytes_done <= bytes_total */
    uint64_t bytes_done;     /* source bytes finished, resumed ones included */
    uint64_t bytes_total;    /* source bytes in all: of tensors, and, of
                                verify, of files beside them; 0 while it
                                compares names, or looks at what DST has,
                                before it reads these                      */
    uint64_t bytes_resumed;  /* of bytes_done: finished by an earlier run  */
    uint32_t shards_done;
    uint32_t shards_total;
    const char *finished; /* name of the shard just finished, else NULL   */
} f8_progress;
typedef int (*f8_progress_fn)(void *user, const f8_progress *progress);

typedef struct f8_options {
    size_t size;           /* sizeof(f8_options)                           */
    unsigned threads;      /* 0: the CPUs this process may run on          */
    uint64_t memory_bytes; /* budget for buffers; 0: 256 MiB               */
    uint64_t shard_bytes;  /* result shard size; 0: 5,000,000,000          */
    const char *rules;     /* family name or path of a file; NULL: by
                              config.json's model_type                     */
    const f8_override *overrides; /* borrowed for the call                 */
    size_t overrides_count;
    f8_scale_dtype scale_dtype;
    bool overwrite;    /* replace an earlier, different conversion in DST, and,
                          beside the weights of a finished one, files that are
                          not the source's                                   */
    bool follow_links; /* plan, diff: files of SRC, or A and B, may be links
                          that lead out of it; else only a hub's cache may have
                          such */
    f8_progress_fn progress;
    void *progress_user;
    const char *cpu; /* kernels, as f8_cpu_name has them; NULL: the fastest that
                        this CPU runs. Changes no byte. f8_plan_create only
                        looks whether there are such                         */
    f8_scales scales; /* how scales are chosen                            */
    /* What is quantised and which file has it: NULL for "card", or a layout
     * that the family's rules have, such as "official". Not read by verify. */
    const char *layout;
    f8_direction direction; /* plan: F8_FROM_FP8 plans the way back, of
                               which only the fields below and size, threads,
                               memory, shard size, links, cpu and, for fuse,
                               rules are read                               */
    f8_dtype value_dtype;   /* F8_FROM_FP8: BF16, F16 or F32; 0: BF16        */
    bool fuse;       /* F8_FROM_FP8: experts become what they were before: the
                        fused tensors that the family's rules split, or stay
                        one by one                                          */
    bool requantize; /* plan, F8_TO_FP8: a source in FP8 blockwise is taken,
                        as the values that it stands for                    */
} f8_options;

/* ---- plan: what a conversion will do, from headers alone --------------- */

typedef struct f8_plan f8_plan;

typedef struct f8_plan_summary {
    const char *model_type; /* from config.json                            */
    const char *family;     /* name of the rules that were used            */
    const char *layout;     /* "card", "official" or another        */
    uint64_t source_tensors, source_bytes, source_shards;
    uint64_t result_tensors, result_bytes, result_shards;
    uint64_t fp8_weights, scales, kept;
    uint64_t result_parameters; /* elements of all weights, without scales */
    uint64_t side_files, side_bytes;
    uint64_t left_behind;  /* files of SRC that are not carried over  */
    uint64_t disk_bytes;   /* free space a conversion from scratch needs */
    uint64_t memory_bytes; /* buffers and tables, the peak expected   */
    unsigned threads;
    f8_scales choice; /* how scales are chosen; never the default's 0 */
    f8_direction direction;
    uint64_t dequantized; /* results that were FP8 and are it no more         */
    uint64_t fused;       /* results made of several source tensors           */
    f8_dtype value_dtype; /* of what is dequantised                           */
} f8_plan_summary;

typedef enum f8_action {
    F8_KEEP,
    F8_QUANTIZE,
    F8_DEQUANTIZE /* an FP8 weight, with its scale, to BF16, F16 or F32 */
} f8_action;

/* One tensor of the source and what becomes of it. */
typedef struct f8_plan_source {
    const char *name;
    const char *file; /* the shard it is in */
    f8_dtype dtype;
    unsigned rank;
    const uint64_t *shape;
    f8_action action;
    uint64_t results; /* 1, or the number of parts it is split into; 0 of a
                         scale, which goes into its weight                 */
    uint64_t first;   /* index of its first result                         */
    const char *decided_by; /* "qwen3_5_moe.rules:12: keep …" or "--keep …" */
} f8_plan_source;

/* One tensor of the result; a quantised one stands for weight and scale. */
typedef struct f8_plan_result {
    const char *name;
    f8_action action;
    f8_dtype dtype;
    unsigned rank;
    const uint64_t *shape;
    f8_dtype scale_dtype;    /* quantised only; the scale's name is
                                `name` + "_scale_inv"                      */
    uint64_t scale_shape[2]; /* ceil(rows / 128), ceil(cols / 128)         */
    uint32_t shard;          /* 0-based                                    */
} f8_plan_result;

/* Reads config.json, the index and every shard's header under directory
 * `src`; no weight byte. Refuses anything malformed, unknown to the rules or
 * already quantised; with F8_FROM_FP8 or requantize, anything that is not FP8
 * blockwise (then without rules, but for fuse). The plan is immutable; free it
 * with f8_plan_free. */
F8_API f8_status f8_plan_create(const char *src, const f8_options *options,
                                f8_plan **plan, f8_error *err);
F8_API void f8_plan_free(f8_plan *plan); /* NULL is fine */

F8_API void f8_plan_get_summary(const f8_plan *plan, f8_plan_summary *out);

/* i < source_tensors, in reading order: by shard name, then offset. */
F8_API void f8_plan_get_source(const f8_plan *plan, uint64_t i,
                               f8_plan_source *out);

/* i < fp8_weights + dequantized + kept, in writing order. */
F8_API void f8_plan_get_result(const f8_plan *plan, uint64_t i,
                               f8_plan_result *out);

/* File name of result shard i < result_shards. */
F8_API const char *f8_plan_shard_name(const f8_plan *plan, uint64_t i);

/* i < left_behind: path relative to SRC of a file that is not carried over. */
F8_API const char *f8_plan_left_behind(const f8_plan *plan, uint64_t i);

/* Sentence i that the rules have for whoever converts this family; NULL at the
 * end. What an engine cannot do with it is a finding, see below. */
F8_API const char *f8_plan_note(const f8_plan *plan, uint64_t i);

/* Module i of quantization_config.modules_to_not_convert; NULL at the end. */
F8_API const char *f8_plan_not_converted(const f8_plan *plan, uint64_t i);

/* ---- serving: what inference engines will make of the result ------------ */

typedef enum f8_engine {
    F8_VLLM,
    F8_SGLANG,
    F8_TRANSFORMERS,
    F8_ENGINE_COUNT
} f8_engine;

/* "vllm", "sglang" or "transformers"; NULL for no such engine. */
F8_API const char *f8_engine_name(f8_engine engine);

typedef struct f8_serving f8_serving;

/* Sizes of tensor parallelism, 1 to F8_TP_MAX, that are powers of two. */
#define F8_TP_MAX 64

/* Bit k of a set of sizes stands for 2^k devices. Sentences live as long as
 * the f8_serving. */
typedef struct f8_serving_engine {
    const char *name, *version; /* the version whose source was read        */
    bool is_divided;            /* has tensor parallelism of its own        */
    const char *unknown;        /* why the sets are not known; else NULL    */
    uint32_t tp_sizes;          /* loads, divided among so many             */
    uint32_t ep_sizes;    /* loads so, experts spread whole over the devices */
    uint32_t small_sizes; /* of tp_sizes: only with experts' scales spread
                             over smaller blocks                            */
    const char *limit;    /* what does not fit the least other size, or NULL */
    const char *ep_limit; /* the same with experts spread                   */
    uint64_t warnings;
} f8_serving_engine;

typedef struct f8_finding {
    f8_engine engine;
    bool is_warning;    /* it fails or computes nonsense; else worth knowing */
    const char *what;   /* a sentence                                       */
    const char *where;  /* kind of the weights; "" for the whole            */
    const char *tensor; /* the first of them, or NULL                       */
    uint64_t tensors;
} f8_finding;

/* Reckons from the plan alone; the caller frees *serving. The plan may be
 * freed before. F8_ERR_ARGUMENT for a plan that is not F8_TO_FP8. */
F8_API f8_status f8_plan_serving(const f8_plan *plan, f8_serving **serving,
                                 f8_error *err);
F8_API void f8_serving_get_engine(const f8_serving *serving, f8_engine engine,
                                  f8_serving_engine *out);
/* What does not fit so many devices, a power of two up to F8_TP_MAX, like
 * `limit`; `spread`: like `ep_limit`. NULL: they load it, or it is not known,
 * or a warning says why there is no size at all. */
F8_API const char *f8_serving_limit(const f8_serving *serving, f8_engine engine,
                                    unsigned devices, bool spread);
/* Finding i, warnings first; false past the end. */
F8_API bool f8_serving_get_finding(const f8_serving *serving, size_t i,
                                   f8_finding *out);
F8_API void f8_serving_free(f8_serving *serving); /* NULL is fine */

/* ---- error statistics -------------------------------------------------- */

/* Round-trip error of quantised weights: w the source, v = code * scale what
 * an engine computes. Measured over every element of every block; but verify
 * may meet blocks that have none, by a scale that is no positive number, a
 * NaN or an infinity in w or v. Figures are of the others, and NaN where there
 * are none. */
typedef struct f8_error_stats {
    const char *name; /* kind ("self_attn.q_proj"), or tensor name; NULL
                         of f8_quantize_matrix                            */
    uint64_t tensors; /* quantised weights                                */
    uint64_t elems;   /* that were measured                               */
    uint64_t blocks;  /* likewise                                         */
    uint64_t zeros;   /* w == 0; these have no relative error             */
    double median_relative_error; /* median of |v - w| / |w|, from a
                                     histogram; true to two bins, 2^-11
                                     below 1/16, then 1/32 of it        */
    double relative_rms; /* sqrt(sum (v-w)^2 / sum w^2)                    */
    double sqnr_db;      /* 10 log10(sum w^2 / sum (v-w)^2)                */
    double cosine;       /* sum wv / sqrt(sum w^2 * sum v^2)               */
    double max_abs_error;
    double p999_relative_error; /* 99.9th percentile of |v - w| / |w|, like
                                   the median                            */
    uint64_t saturated;         /* |w / scale| > 448                      */
    uint64_t became_zero;       /* w != 0, v == 0                         */
    unsigned codes_unused;      /* of the 254 finite codes                */
    uint64_t unmeasured_elems, unmeasured_blocks;
} f8_error_stats;

/* One quantised tensor. */
typedef struct f8_tensor_error {
    f8_error_stats error; /* its name; .tensors is 1                    */
    size_t layer, kind;   /* indices of f8_report_get_layer, _get_kind   */
    uint64_t rows, cols;
    uint64_t max_row, max_col; /* where error.max_abs_error is, the first by
                                  block, row, column; 0 when there is none */
    uint64_t worst_block_row, worst_block_col; /* in blocks: the one with the
                                  largest relative RMS, which is           */
    double worst_block_rms;
} f8_tensor_error;

/* The tensors of one kind in one layer, of which there is one at least. */
typedef struct f8_error_cell {
    size_t layer, kind;
    uint64_t tensors;
    double relative_rms; /* NaN: nothing of them was measured */
} f8_error_cell;

/* Weights other than 0 with from <= |v - w| / |w| < to; those without error
 * come first, from 0 to 0, and to infinity goes the last. */
typedef struct f8_error_bin {
    double from, to;
    uint64_t count;
} f8_error_bin;

/* What one rule decided. A rule that the caller's overrides, or another's
 * result, go against, has a share for either action. */
typedef struct f8_rule_share {
    const char *rule; /* as in f8_plan_source.decided_by */
    f8_action action;
    uint64_t source_tensors, results;
    uint64_t source_bytes, result_bytes; /* scales counted */
} f8_rule_share;

/* Both checkpoints as they are. */
typedef struct f8_report_sides {
    /* As in f8_plan_summary; of verify's layout, what f8_verdict_summary says,
     * or "other". */
    const char *model_type, *family, *layout;
    uint64_t source_tensors, source_bytes, source_shards;
    uint64_t result_tensors, result_bytes, result_shards;
    uint64_t fp8_weights, scales;
    uint64_t kept, kept_bytes; /* what is not FP8 in the result             */
    uint64_t parameters;  /* elements of all weights, without scales        */
    f8_scales choice;     /* F8_SCALES_DEFAULT: verify cannot tell          */
    f8_scale_dtype dtype; /* F8_SCALE_DEFAULT: several, or none             */
    bool requantized;     /* the source was FP8 blockwise                   */
} f8_report_sides;

typedef struct f8_report f8_report;

typedef struct f8_report_summary {
    bool already_done;       /* DST was finished before; nothing was done  */
    uint32_t shards_resumed; /* finished by an earlier run and kept        */
    uint64_t source_bytes, result_bytes;
    uint64_t quantized, kept; /* result tensors, scales not counted        */
    double seconds;           /* of this run                               */
    uint64_t dequantized;     /* result tensors                            */
} f8_report_summary;

F8_API void f8_report_get_summary(const f8_report *report,
                                  f8_report_summary *out);
/* Over all quantised weights; .tensors == 0 when there were none. */
F8_API void f8_report_get_overall(const f8_report *report, f8_error_stats *out);
/* By kind, in order of first appearance. False when i is past the end. */
F8_API bool f8_report_get_kind(const f8_report *report, size_t i,
                               f8_error_stats *out);
/* Likewise by layer: the tensor's name up to and with the first number behind
 * `layers.` or `blocks.`, or "" when it is in none. Of more than 1024 layers
 * the last are one, "other". */
F8_API bool f8_report_get_layer(const f8_report *report, size_t i,
                                f8_error_stats *out);
/* Layer by kind, in order of first appearance. */
F8_API bool f8_report_get_cell(const f8_report *report, size_t i,
                               f8_error_cell *out);
/* The histogram of errors over all quantised weights. */
F8_API bool f8_report_get_bin(const f8_report *report, size_t i,
                              f8_error_bin *out);
/* Every quantised tensor; quantize's in writing, verify's in reading order. */
F8_API bool f8_report_get_tensor(const f8_report *report, uint64_t i,
                                 f8_tensor_error *out);
/* Indices of the tensors with the largest relative RMS, worst first, at most
 * 20; of which nothing was measured is not among them. */
F8_API bool f8_report_get_worst(const f8_report *report, size_t i,
                                uint64_t *tensor);
/* In order of first use. */
F8_API bool f8_report_get_rule(const f8_report *report, size_t i,
                               f8_rule_share *out);
F8_API void f8_report_get_sides(const f8_report *report, f8_report_sides *out);
/* Of a conversion into a folder that was begun or finished before: the i-th
 * file that DST has otherwise than it would be written (one beside the weights,
 * or config.json), and that was left as it is. NULL past the end. Lives as long
 * as the report. */
F8_API const char *f8_report_get_unlike(const f8_report *report, size_t i);
F8_API void f8_report_free(f8_report *report); /* NULL is fine */

/* ---- quantize ---------------------------------------------------------- */

/* Executes `plan` into directory `dst` (made if absent). Every file is
 * written under .fp8cast/, synced, then renamed; config.json and the index
 * come last. A run that was stopped at any point is continued by the same
 * call; what a stopped one was writing stays under .fp8cast/ until then. While
 * another process or thread writes there: F8_ERR_REFUSED. In a folder that is
 * finished only missing files are written, or with overwrite those that are not
 * the source's; what else lies there is not touched. Options that shape the
 * result are the plan's; of `options` only overwrite, progress and cpu are read
 * here. On success *report is the caller's to free. */
F8_API f8_status f8_quantize(const f8_plan *plan, const char *dst,
                             const f8_options *options, f8_report **report,
                             f8_error *err);

/* What a conversion would meet in its result folder. */
typedef enum f8_meeting {
    F8_MEETS_NOTHING,  /* a new or empty folder                              */
    F8_MEETS_UNDONE,   /* an earlier run of the same plan, to be continued   */
    F8_MEETS_FINISHED, /* the result: nothing is left to do                  */
    F8_MEETS_ANOTHER   /* another conversion or config, to be overwritten    */
} f8_meeting;

/* Looks at `dst` as f8_quantize or f8_dequantize would before they write, and
 * fails as they would: with F8_ERR_REFUSED and the reason, or with F8_ERR_IO
 * where they could make no folder or file. But the free space is left to
 * f8_plan_summary.disk_bytes, and neither a run that is at work there nor a
 * file of the source that is a link into `dst` is seen. Touches nothing.
 * *shards_done are finished by an earlier run. */
F8_API f8_status f8_plan_meet(const f8_plan *plan, const char *dst,
                              bool overwrite, f8_meeting *meeting,
                              uint64_t *shards_done, f8_error *err);

/* ---- dequantize -------------------------------------------------------- */

/* The same for a plan of F8_FROM_FP8: value = f32(code) * f32(scale) as
 * binary32, rounded once to the plan's dtype, to nearest, ties to even. The
 * product is exact for scales in BF16 or powers of two. F8_ERR_VALUE, with
 * tensor, row and column, for a NaN code, a scale that is negative or not
 * finite, a scale of zero with codes that are not, and a value too large for
 * the dtype. config.json loses its quantization_config and no other byte. */
F8_API f8_status f8_dequantize(const f8_plan *plan, const char *dst,
                               const f8_options *options, f8_report **report,
                               f8_error *err);

/* ---- verify ------------------------------------------------------------ */

typedef struct f8_verdict f8_verdict;

typedef struct f8_verdict_summary {
    uint64_t faults; /* 0: dst is a true FP8 copy of src                */
    uint64_t quantized, kept;   /* tensors of dst, scales not counted        */
    uint64_t codes_not_nearest; /* codes that are not the nearest e4m3 to
                                   weight / stored scale                   */
    uint64_t codes_nan;
    double seconds;
    /* Blocks whose error was measured, and how many of them have the scale
     * that F8_SCALES_AMAX or F8_SCALES_POW2 would give; one may be both. */
    uint64_t blocks, blocks_amax, blocks_pow2;
    f8_scales choice; /* that all of them agree with; F8_SCALES_DEFAULT: none */
    /* Relative RMS once an engine has rounded each scale up to a power of two
     * and quantised what it read anew; NaN if no block was measured. */
    double e8m0_relative_rms;
    /* The family's layout that quantises just what is FP8 in dst; NULL: none
     * does. As long as the verdict. */
    const char *layout;
    /* Of what stands beside the weights: what is not as in src and may change
     * how dst is served, and what is worth knowing. Neither is a fault. */
    uint64_t warnings, notes;
} f8_verdict_summary;

/* Rereads both checkpoints and compares every byte that matters, and the files
 * beside the weights; `dst` may come from any converter. Returns F8_OK when the
 * comparison could be made, whatever it found: look at .faults. Of `options`
 * threads, memory_bytes, rules, progress and cpu are read; what is quantised
 * and what is kept is taken from `dst` and held against its own
 * modules_to_not_convert. Links are followed, wherever they lead. */
F8_API f8_status f8_verify(const char *src, const char *dst,
                           const f8_options *options, f8_verdict **verdict,
                           f8_error *err);
F8_API void f8_verdict_get_summary(const f8_verdict *verdict,
                                   f8_verdict_summary *out);
/* One line per fault, the first 100 only; NULL at the end. */
F8_API const char *f8_verdict_fault(const f8_verdict *verdict, size_t i);
/* Likewise. */
F8_API const char *f8_verdict_warning(const f8_verdict *verdict, size_t i);
F8_API const char *f8_verdict_note(const f8_verdict *verdict, size_t i);
/* What engines will make of dst. Lives as long as the verdict. */
F8_API const f8_serving *f8_verdict_serving(const f8_verdict *verdict);
/* Error statistics of dst, as for a report. */
F8_API const f8_report *f8_verdict_report(const f8_verdict *verdict);
F8_API void f8_verdict_free(f8_verdict *verdict); /* NULL is fine */

/* ---- diff: what differs between two checkpoints ------------------------- */

typedef struct f8_diff f8_diff;

/* Pairs of tensors are counted as identical (dtype, shape and every byte), as
 * equal (every value, in another dtype or other bytes: -0 for 0, other codes
 * and scales) or as different; those of another shape, or of numbers and
 * integers, are not compared and counted as changes only. A scale belongs to
 * its FP8 weight. NaN is equal to NaN. */
typedef struct f8_diff_summary {
    bool same; /* names, dtypes, shapes, bytes and config; how tensors are
                  spread over files does not count, nor does __metadata__ */
    uint64_t a_tensors, b_tensors, a_bytes, b_bytes, a_files, b_files;
    uint64_t moved; /* tensors that lie in a file of another name in b */
    uint64_t identical, equal, different; /* pairs */
    uint64_t a_fused, b_fused; /* tensors taken apart: the other side has
                                  their experts one by one */
    uint64_t a_only, b_only;   /* tensors, or parts of fused ones */
    uint64_t dtypes, shapes;   /* pairs of another dtype, of another shape */
    uint64_t renamed;          /* pairs that the rules know by one name */
    uint64_t settings;         /* differences of config.json */
    uint64_t a_bare, b_bare;   /* FP8 weights without scales that fit: their
                                  codes were compared as they are */
    double seconds;
} f8_diff_summary;

/* One side of a difference. */
typedef struct f8_diff_side {
    const char *name; /* of the tensor in the file: of a part, the fused one */
    const char *file;
    f8_dtype dtype;
    unsigned rank; /* of a part: 2, its own matrix */
    uint64_t shape[F8_MAX_RANK];
    bool has_scale;
    f8_dtype scale_dtype;
} f8_diff_side;

/* A tensor that the other side lacks. */
typedef struct f8_diff_single {
    const char *name; /* of a part of a fused tensor: as if it stood alone */
    f8_diff_side side;
} f8_diff_single;

/* A pair whose dtypes or shapes are not the same. */
typedef struct f8_diff_change {
    const char *name;
    bool dtype, shape;
    f8_diff_side a, b;
} f8_diff_change;

/* A value of config.json that is not the same. */
typedef struct f8_diff_setting {
    const char *path;  /* "text_config.layer_types[3]"                 */
    const char *a, *b; /* JSON on one line; NULL: not there           */
} f8_diff_setting;

/* How far the values v of b are from the values w of a, over one pair, or all
 * different pairs of a kind. Elements that are not finite in one and not the
 * same in the other are counted, and in no other figure. For integers, which
 * are compared byte by byte, all figures are NaN. */
typedef struct f8_diff_values {
    const char *name;  /* of a pair, or kind ("self_attn.q_proj")       */
    f8_diff_side a, b; /* of a pair only                                */
    uint64_t tensors, elems;
    uint64_t differing;  /* elements that are not equal                   */
    uint64_t not_finite; /* of those: NaN or infinite in a or b           */
    double relative_rms; /* sqrt(sum (v-w)^2 / sum w^2)                    */
    double sqnr_db;      /* 10 log10(sum w^2 / sum (v-w)^2)                */
    double cosine;       /* sum wv / sqrt(sum w^2 * sum v^2)               */
    double max_abs_error;
} f8_diff_values;

/* Compares two checkpoint folders or .safetensors files, quantised or not, by
 * whomever; b is measured against a. Returns F8_OK when the comparison could be
 * made, whatever it found: look at .same. Experts that are fused in one and
 * stand one by one in the other are paired by the rules. Of `options` threads,
 * memory_bytes, rules, follow_links and progress are read; without rules those
 * of a's model_type, of b's, or none. Results do not depend on the threads. */
F8_API f8_status f8_diff_create(const char *a, const char *b,
                                const f8_options *options, f8_diff **diff,
                                f8_error *err);
F8_API void f8_diff_free(f8_diff *diff); /* NULL is fine */
F8_API void f8_diff_get_summary(const f8_diff *diff, f8_diff_summary *out);
/* Those below are false past the end. Tensors only in a, or in b, by name. */
F8_API bool f8_diff_get_single(const f8_diff *diff, bool in_b, uint64_t i,
                               f8_diff_single *out);
/* By name. */
F8_API bool f8_diff_get_change(const f8_diff *diff, uint64_t i,
                               f8_diff_change *out);
/* In the order of a's config; the first 10,000 only. */
F8_API bool f8_diff_get_setting(const f8_diff *diff, uint64_t i,
                                f8_diff_setting *out);
/* Different pairs, and equal ones of one dtype whose bytes are not the same:
 * first those that have no figures or odd elements, then by relative RMS, the
 * worst first; of equal ones by name. */
F8_API bool f8_diff_get_values(const f8_diff *diff, uint64_t i,
                               f8_diff_values *out);
/* Over the same pairs; .tensors == 0 when there are none. */
F8_API void f8_diff_get_overall(const f8_diff *diff, f8_diff_values *out);
/* The same pairs by kind, in a's reading order. */
F8_API bool f8_diff_get_kind(const f8_diff *diff, uint64_t i,
                             f8_diff_values *out);
/* Why FP8 weights of a, or b, have no scales, a line each, the first 100 only;
 * NULL at the end. */
F8_API const char *f8_diff_bare(const f8_diff *diff, bool in_b, uint64_t i);

/* ---- inspect ----------------------------------------------------------- */

typedef struct f8_inventory f8_inventory;

typedef struct f8_inventory_summary {
    uint64_t tensors, bytes, files;
    bool has_index; /* a checkpoint folder with an index           */
    bool agrees;    /* index and shards name the same tensors      */
    /* Of config.json, 80 bytes of each value at most: "" when there is none;
     * "none", "fp8, e4m3, 128 x 128 blocks", ... */
    const char *model_type, *quantization;
    uint64_t dtype_tensors[F8_DTYPE_COUNT];
    uint64_t dtype_bytes[F8_DTYPE_COUNT];
} f8_inventory_summary;

typedef struct f8_tensor_info {
    const char *name, *file;
    f8_dtype dtype;
    unsigned rank;
    const uint64_t *shape;
    uint64_t bytes;
    uint64_t offset; /* of the first byte in the file */
} f8_tensor_info;

/* `path` is a checkpoint folder or one .safetensors file. Links are followed,
 * wherever they lead. */
F8_API f8_status f8_inspect(const char *path, f8_inventory **inventory,
                            f8_error *err);
F8_API void f8_inventory_get_summary(const f8_inventory *inventory,
                                     f8_inventory_summary *out);
F8_API bool f8_inventory_get(const f8_inventory *inventory, uint64_t i,
                             f8_tensor_info *out);
/* Where index and shards disagree, a line each; NULL at the end. */
F8_API const char *f8_inventory_problem(const f8_inventory *inventory,
                                        size_t i);
F8_API void f8_inventory_free(f8_inventory *inventory);

/* ---- roofline: what a decoding step reads ------------------------------ */

typedef struct f8_roofline f8_roofline;

typedef struct f8_roofline_summary {
    bool is_quantized; /* the checkpoint is in FP8; `before` is then its
                          weights in BF16, else `after` is the plan's result */
    uint64_t batch, context;
    double before_bytes, after_bytes; /* read (state: and written) a step     */
    double not_read_before_bytes;     /* stored, but no part of a plain step: */
    double not_read_after_bytes; /* vision, audio, multi-token prediction */
    uint64_t experts, experts_per_token; /* 0: no routed experts              */
    double experts_read; /* distinct ones a layer, expected for the batch:
                            experts (1 - (1 - chosen / experts)^batch)        */
} f8_roofline_summary;

typedef struct f8_roofline_group {
    const char *name; /* "routed experts", "KV cache"                         */
    double before_bytes, after_bytes;
} f8_roofline_group;

/* A machine that serves models, with the bandwidth that its maker publishes. */
typedef struct f8_machine {
    const char *name;
    double bytes_per_second;
} f8_machine;

/* Reckons, from config.json and headers of folder `path`, the bytes that one
 * decoding step of the language model moves: `batch` sequences (0: 1) of
 * `context` earlier tokens each, key-value cache in BF16. Bandwidth divided by
 * it, times batch, bounds the tokens a second. Options as for f8_plan_create,
 * but that links are followed, wherever they lead.
 * Williams, Waterman and Patterson, "Roofline", 2009. */
F8_API f8_status f8_roofline_create(const char *path, const f8_options *options,
                                    uint64_t batch, uint64_t context,
                                    f8_roofline **roofline, f8_error *err);
F8_API void f8_roofline_free(f8_roofline *roofline); /* NULL is fine */
F8_API void f8_roofline_get_summary(const f8_roofline *roofline,
                                    f8_roofline_summary *out);
/* Group i, without those of no bytes; false past the end. */
F8_API bool f8_roofline_get_group(const f8_roofline *roofline, size_t i,
                                  f8_roofline_group *out);
/* Built-in machine i, slowest first; false past the end. */
F8_API bool f8_roofline_get_machine(const f8_roofline *roofline, size_t i,
                                    f8_machine *out);

/* ---- the source's card --------------------------------------------------- */

/* Room for the front matter of a model card, its NUL included. */
#define F8_CARD_BYTES 65537

/* The YAML front matter of `src`/README.md, which is what stands between a
 * first line `---` and the next one, into `card`, without those lines and
 * without a look at the YAML. "" when there is no such file that can be read (a
 * folder or a fifo of that name is none), or it has none, or one that does not
 * fit, is not UTF-8 or holds a NUL. A README.md that is a link out of `src`
 * gives F8_ERR_REFUSED unless links are followed; a hub's cache may have such.
 */
F8_API f8_status f8_read_card(const char *src, bool follow_links,
                              char card[F8_CARD_BYTES], f8_error *err);

/* ---- synth: checkpoints with a real model's layout --------------------- */

typedef struct f8_synth_options {
    size_t size;        /* sizeof(f8_synth_options)                        */
    const char *layout; /* NULL: "qwen3.6-35b-a3b-mini"                    */
    uint64_t layers, experts, hidden, inter, vocab; /* 0: the layout's own */
    uint64_t seed;
    uint64_t shards; /* 0: as many as 5 GB each takes                   */
    bool sparse;     /* headers over holes; weights read as zero        */
    f8_progress_fn progress;
    void *progress_user;
} f8_synth_options;

/* Writes a checkpoint folder: weights, config.json, index, side files. The
 * same options give the same bytes on every machine. `dir` must be absent or
 * empty. */
F8_API f8_status f8_synth(const char *dir, const f8_synth_options *options,
                          f8_error *err);

/* ---- built-in data ----------------------------------------------------- */

/* Name of built-in family i, and the text of its rules; NULL past the end. */
F8_API const char *f8_family_name(size_t i);
F8_API const char *f8_family_text(size_t i);
/* The same for synth layouts. */
F8_API const char *f8_layout_name(size_t i);
F8_API const char *f8_layout_text(size_t i);

/* ---- the arithmetic ---------------------------------------------------- */

/* Nearest e4m3fn code to x, ties to even; |x| > 448 saturates to 448, zero
 * keeps its sign, NaN becomes 0x7f. Open Compute Project, "OFP8" 1.0, 2023. */
F8_API uint8_t f8_e4m3_encode(float x);
/* Value of a code, exactly; NaN for 0x7f and 0xff. */
F8_API float f8_e4m3_decode(uint8_t code);

/* Quantises a row-major matrix of rows x cols elements at `weights`, dtype
 * BF16, F16 or F32, into rows x cols codes and ceil(rows/128) x ceil(cols/128)
 * scales of the given dtype:
 *     scale = stored(amax / 448), or what `choice` makes of the block;
 *             1.0 for an all-zero block
 *     code  = e4m3(clamp(w / scale, -448, 448))
 * The caller owns all buffers; weights and scales need no alignment. A NaN or
 * Inf gives F8_ERR_VALUE and names its row and column. `stats` may be NULL. */
F8_API f8_status f8_quantize_matrix(const void *weights, f8_dtype dtype,
                                    uint64_t rows, uint64_t cols,
                                    f8_scale_dtype scale_dtype,
                                    f8_scales choice, uint8_t *codes,
                                    void *scales, f8_error_stats *stats,
                                    f8_error *err);

/* The way back, as engines compute it: f32(code) * f32(scale), in f32. The
 * caller owns all buffers; codes of NaN give NaN. */
F8_API f8_status f8_dequantize_matrix(const uint8_t *codes, const void *scales,
                                      f8_scale_dtype scale_dtype, uint64_t rows,
                                      uint64_t cols, float *values,
                                      f8_error *err);

#ifdef __cplusplus
}
#endif

#endif
