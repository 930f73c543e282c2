/* plan.h - everything that is decided, as data: which tensors become what, in
 * which result shard, at which offset. Made from headers alone; the pipeline
 * only moves bytes. */
#ifndef F8_PLAN_H
#define F8_PLAN_H

#include "blockwise.h"
#include "fuse.h"
#include "original.h"
#include "rules.h"
#include "sidefiles.h"

#define F8_DEFAULT_SHARD_BYTES UINT64_C(5000000000)
#define F8_DEFAULT_MEMORY_BYTES (UINT64_C(256) << 20)
/* The hub's libraries refuse to read longer headers. */
#define F8_HEADER_MAX_BYTES UINT64_C(25000000)

enum { F8_MAX_KINDS = 64, F8_KIND_BYTES = 64, F8_MAX_LAYERS = 1024 };

struct f8_work; /* pipeline.h */

/* One result: a kept tensor, a quantised weight with its scale, or a weight
 * that is FP8 no more. Results that are put together from several matrices
 * have a unit for each, next to each other and of the same size. */
typedef struct f8_unit {
    const char *name; /* of the result */
    uint32_t source;  /* index of the source tensor */
    uint32_t shard;
    f8_action action;
    uint16_t kind;  /* quantised: index into plan->kinds */
    uint16_t layer; /* and into plan->layers */
    uint16_t rank;  /* of the result, as shape is */
    const uint64_t *shape;
    uint64_t rows, cols; /* of this unit's matrix, when it is one */
    uint64_t result;     /* index of the result that it belongs to */
    uint64_t parts;      /* of the result's first unit: how many it has; 0 of
                          * the others */
    uint64_t offset;     /* of the first source byte, in the source's shard */
    uint64_t bytes;      /* of the source */
    uint64_t from_scale; /* where the source is FP8: of the first byte of this
                          * unit's scales, in the shard of the scale tensor
                          * that plan->pairs names */
    /* 0 when the source's bytes are in the result's order. Else the source
     * has the matrix transposed: each column of the result is a run there, and
     * the next one begins so many elements behind it. */
    uint64_t stride;
    /* The same the other way round, where fused experts become transposed: 0,
     * or the elements from one column of the matrix to the next in the
     * result, where each is a run. */
    uint64_t to_stride;
    uint64_t data_begin;  /* in the result shard's data */
    uint64_t scale_begin; /* quantised */
} f8_unit;

/* What was decided for one source tensor. */
typedef struct f8_decision {
    const char *name;        /* by which the rules know the tensor */
    const f8_rename *rename; /* that led to it; NULL: the tensor has it */
    const f8_rule *rule;
    const char *decided_by;
    f8_action action;
    bool linear; /* when kept: a loader would build a Linear */
    bool across; /* of a split: the parts lie along axis 2, transposed */
    uint64_t first_unit, units_count; /* none of a scale */
    uint64_t part_shape[2]; /* of a split: rows and columns of one part */
    const char *file; /* the result file that the layout says; NULL: any */
} f8_decision;

typedef struct f8_shard {
    char *name;
    const char *file; /* that the layout says; NULL: cut by size */
    uint64_t first_unit, units_count;
    uint64_t data_bytes;   /* tensor data */
    uint64_t tensors;      /* scales counted */
    uint64_t header_bytes; /* as reckoned when the shards were cut */
} f8_shard;

struct f8_plan {
    f8_direction direction;
    f8_dtype value_dtype; /* of what is dequantised */
    f8_checkpoint *source;
    f8_blockwise pairs; /* of a source in FP8; else without partners */
    f8_rules *rules;    /* NULL where none are needed */
    f8_fusion fusion;   /* of experts, on the way back */
    json_t *original;   /* what the source was like (original.h), or, on the
                         * way back, its source; NULL: not known */
    f8_side_files sides;
    f8_scale_dtype scale_dtype;
    f8_scales choice;
    const char *layout; /* "card" or the name of a section of the rules */
    uint64_t shard_bytes;
    uint64_t memory_bytes;
    unsigned threads;
    f8_decision *decisions; /* one a source tensor */
    f8_unit *units;
    uint64_t units_count;
    uint64_t *results; /* the first unit of each */
    uint64_t results_count;
    f8_shard *shards;
    uint64_t shards_count;
    json_t *not_converted; /* array of module names */
    char (*kinds)[F8_KIND_BYTES];
    size_t kinds_count;
    const char **layers;
    size_t layers_count;
    uint64_t names_bytes; /* of all units, while they are made */
    uint64_t fp8_weights, dequantized, fused, kept, parameters, result_bytes;
    /* Tells the source's files apart: names, sizes, times of change, headers,
     * config. The other hashes all that shapes the result, source included. */
    uint64_t source_fingerprint, fingerprint;
    f8_arena strings;
};

/* Rows and columns of a unit that is a matrix. */
static inline uint64_t f8_unit_rows(const f8_unit *u)
{
    return u->rows;
}
static inline uint64_t f8_unit_cols(const f8_unit *u)
{
    return u->cols;
}

/* Decides every tensor of an open checkpoint: fills rules, decisions and
 * units, but cuts no shards. Overrides may be NULL. Used by verify too. */
f8_status f8_plan_decide(f8_plan *plan, const f8_options *options,
                         f8_error *err);

/* The same for F8_FROM_FP8; plan->pairs must be read. */
f8_status f8_plan_decide_back(f8_plan *plan, const f8_options *options,
                              f8_error *err);

/* Of source tensor i: its scale, or NULL when it is no FP8 weight. */
static inline const f8_tensor *f8_plan_scale(const f8_plan *plan, uint32_t i)
{
    const f8_partner *p =
        plan->pairs.partners ? &plan->pairs.partners[i] : NULL;
    return p && p->role == F8_ROLE_WEIGHT ? p->other : NULL;
}
static inline bool f8_plan_is_scale(const f8_plan *plan, uint32_t i)
{
    return plan->pairs.partners &&
           plan->pairs.partners[i].role == F8_ROLE_SCALE;
}

/* Finds the scales of a unit whose source is FP8: those of the matrix that
 * begins at row `row` of slice `slice` of the source's weight. */
void f8_unit_find_scales(const f8_plan *plan, f8_unit *u, uint64_t slice,
                         uint64_t row);

/* Numbers the results once all units stand, and refuses two of one name. */
f8_status f8_plan_number_results(f8_plan *plan, f8_error *err);

/* How the tensors that are taken apart lie, once all are decided: checks their
 * shapes and fills `across` of their decisions. See orient.c. */
f8_status f8_plan_orient(f8_plan *plan, f8_error *err);

/* Fills plan->original of a plan to FP8, once its results are numbered. */
f8_status f8_plan_record(f8_plan *plan, f8_error *err);

/* Frees what the plan owns, not the plan itself. */
void f8_plan_clear(f8_plan *plan);

/* Gives every source tensor its first unit: in reading order, or, where the
 * layout names files, file by file, the first file that is needed first. */
f8_status f8_plan_order(f8_plan *plan, f8_error *err);

/* Whether the result has an index: only a single file with the usual name is
 * found without. */
bool f8_plan_has_index(const f8_plan *plan);

/* Cuts the units into shards, and fixes names, offsets and totals. */
f8_status f8_plan_cut_shards(f8_plan *plan, f8_error *err);

/* What a unit is stored as, and its bytes there, without scales. */
f8_dtype f8_unit_dtype(const f8_plan *plan, const f8_unit *u);
uint64_t f8_unit_result_bytes(const f8_plan *plan, const f8_unit *u);
/* Of its scales in the result; none of a unit that is not quantised. */
uint64_t f8_unit_scale_bytes(const f8_plan *plan, const f8_unit *u);
/* A unit as the pipeline sees it. */
void f8_plan_work(const f8_plan *plan, uint64_t unit, struct f8_work *work);

/* The first bytes of result shard i into buf, which is emptied first. */
f8_status f8_plan_shard_header(const f8_plan *plan, uint64_t i, f8_buf *buf,
                               f8_error *err);

/* Changes what becomes of a unit; verify does, to what it found. False when
 * memory ran out. */
bool f8_plan_set_action(f8_plan *plan, uint64_t unit, f8_action action);

/* options with every default filled in; refuses a size that is not ours. */
f8_status f8_options_fill(const f8_options *options, f8_options *filled,
                          f8_error *err);

#endif
