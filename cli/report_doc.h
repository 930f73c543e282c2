/* report_doc.h - a report read back: the JSON that quantize and verify write
 * with --report (docs/report.schema.json), as a struct. It may come from
 * anyone: every type, index and range is checked and every length has a limit,
 * so that who draws it need not ask again. Members that are not known are
 * passed over. */
#ifndef FP8CAST_CLI_REPORT_DOC_H
#define FP8CAST_CLI_REPORT_DOC_H

#include <jansson.h>

#include "fp8cast.h"
#include "options.h"

/* What cannot be told, such as the error relative to zeros, or anything where
 * nothing was measured, is NaN; relative RMS may be infinite. */
typedef struct report_measures {
    uint64_t elems, blocks; /* that were measured, which the rest is of */
    uint64_t unmeasured_elems, unmeasured_blocks;
    uint64_t zeros, saturated, became_zero, codes_unused;
    double median, p999; /* of |v - w| / |w|            */
    double relative_rms, sqnr_db, cosine, max_abs_error;
} report_measures;

/* All tensors of one kind, of one layer, or of the whole. */
typedef struct report_group {
    const char *name;
    uint64_t tensors;
    report_measures error;
} report_group;

/* Of the tensors of one kind in one layer; indices into those arrays. */
typedef struct report_cell {
    size_t layer, kind;
    uint64_t tensors;
    double relative_rms;
} report_cell;

typedef struct report_tensor {
    const char *name;
    size_t layer, kind;
    uint64_t shape[2];
    report_measures error;
    bool has_largest, has_block; /* false: there is no error */
    uint64_t largest[2];         /* row and column           */
    uint64_t block[2];           /* the same, in blocks      */
    double block_rms;
} report_tensor;

typedef struct report_rule {
    const char *text;
    bool quantize;
    uint64_t source_tensors, results, source_bytes, result_bytes;
} report_rule;

/* counts[i] relative errors lie in [edges[i], edges[i + 1]), ascending. */
typedef struct report_histogram {
    uint64_t exact, above;
    double *edges;
    uint64_t *counts;
    size_t bins;
    double total; /* of all that is counted */
} report_histogram;

typedef struct report_side {
    const char *name;
    uint64_t tensors, bytes, shards;
} report_side;

/* Faults or warnings, of which the first are told. */
typedef struct report_remarks {
    uint64_t total;
    const char **lines;
    size_t lines_count;
} report_remarks;

/* Strings are UTF-8 without NUL, and may hold anything else. They belong to
 * `root`, and all of it goes with report_doc_free. */
typedef struct report_doc {
    json_t *root;
    const char *version; /* of the program that wrote it           */
    bool is_verify;      /* written by verify, not by quantize     */
    report_remarks faults, warnings; /* of verify                  */
    bool is_requantized; /* the source was FP8 blockwise           */
    bool follows_links;  /* those of the source, wherever they lead */
    report_side source, result;
    const char *model_type, *family;
    const char *card; /* YAML front matter of the source, or NULL */
    uint64_t fp8_weights, scales, kept, kept_bytes, parameters;
    const char *choice;      /* "amax", "mse", "pow2"; NULL: not known */
    const char *scale_dtype; /* NULL: not known                        */
    const char *layout;
    const char *given_rules; /* of --rules, or NULL                    */
    uint64_t shard_bytes;    /* of --shard-size, or 0                  */
    f8_override *overrides;  /* in the order given                     */
    size_t overrides_count;
    report_rule *rules;
    size_t rules_count;
    report_group overall;
    report_group *kinds, *layers;
    size_t kinds_count, layers_count;
    report_cell *cells;
    size_t cells_count;
    report_histogram histogram;
    report_tensor *worst; /* largest relative RMS first */
    size_t worst_count;
    size_t tensors_count;
} report_doc;

/* Checks a document, which becomes out's, and was read from the file `name`.
 * False, with one sentence in `problem` that names file, member, expectation
 * and finding, when it is no such report. Call report_doc_free in either
 * case. */
bool report_doc_take(json_t *root, const char *name, report_doc *out,
                     char problem[PROBLEM_BYTES]);
void report_doc_free(report_doc *report);

#endif
