/* fuse.h - the way back from `split` (rules.h): which fused expert tensor
 * matrices that stand one by one belong to, and where in it. The inverse of
 * what plan.c does with a rule such as
 *
 *     split  P.experts.gate_up_proj  experts=0  parts=1:gate_proj,up_proj
 *
 * P.experts.3.up_proj.weight [R, C] is rows [R, 2R) of expert 3 of
 * P.experts.gate_up_proj [E, 2R, C]. Knows names and shapes only. */
#ifndef F8_FUSE_H
#define F8_FUSE_H

#include "checkpoint.h"
#include "original.h"
#include "rules.h"

/* Where one matrix belongs, by its name alone. */
typedef struct f8_fuse_place {
    const f8_rule *rule; /* the split that makes this name */
    size_t expert_at;    /* in the name: where the expert's number begins */
    size_t parent_bytes; /* of the name: "P.experts."; "P." of a split with
                          * into=experts, whose tail has the rest */
    const char *tail;    /* fused name = parent + tail: "gate_up_proj" */
    uint64_t expert;     /* index on axis 0 */
    unsigned part;       /* of rule->parts_count on axis 1, each R rows */
} f8_fuse_place;

/* Name of part i % parts of expert i / parts of a fused tensor that `rule`
 * splits; NULL when memory runs out. */
const char *f8_split_name(f8_arena *strings, const char *fused,
                          const f8_rule *rule, uint64_t i);

/* False when no split of these rules makes such a name (a split whose pattern
 * has a placeholder behind its last dot cannot be undone by name). */
bool f8_fuse_find(const f8_rules *rules, const char *name,
                  f8_fuse_place *place);

/* Name of the fused tensor that the matrix called name has a place in; false
 * when it is too long for a tensor. */
bool f8_fuse_name(const char *name, const f8_fuse_place *place,
                  char fused[F8_NAME_MAX_BYTES + 1]);

/* One fused tensor and its parts. */
typedef struct f8_fused_tensor {
    const char *name;
    uint64_t shape[3]; /* experts, parts x rows of one, cols; of one that lies
                        * across experts, cols, parts x rows */
    bool across;
    uint64_t experts;
    unsigned parts;          /* of an expert */
    const f8_tensor **items; /* [expert * parts + part], row-major order in
                              * the fused tensor; experts * parts of them */
} f8_fused_tensor;

typedef struct f8_fusion {
    f8_fused_tensor *tensors; /* in the order of their first part's reading */
    size_t count;
    uint32_t *of; /* one a tensor of the checkpoint: 1 + index of the fused
                   * tensor that it is a part of, or 0 */
    const f8_tensor **items; /* behind tensors[].items */
    f8_arena strings;
} f8_fusion;

/* Finds every fused tensor of which the checkpoint has parts, but for those
 * that stood one by one before, as `original` or else the rules have it
 * (original.h). Refused with one line that names the tensor (F8_ERR_REFUSED): a
 * part of an expert that is missing, a part that is no matrix or not of the
 * others' shape, a tensor of which nobody says which way it lay. Dtypes
 * are the caller's to compare. Scales (blockwise.h) have names that match no
 * part. out is emptied first; f8_fusion_free it in any case. */
f8_status f8_fusion_find(const f8_checkpoint *checkpoint, const f8_rules *rules,
                         const json_t *original, f8_fusion *out, f8_error *err);
void f8_fusion_free(f8_fusion *fusion);

#endif
