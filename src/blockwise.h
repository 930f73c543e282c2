/* blockwise.h - FP8 blockwise checkpoints as weights and their scales: which
 * tensor is which, and whether they fit each other. Ours, the official Qwen
 * ones (BF16 scales), DeepSeek's (F32 scales) and those with powers of two
 * (F8_E8M0, or U8 that holds the same). Reads headers only.
 *
 * A weight is F8_E4M3 of two dimensions, or three when the first counts
 * experts. The scale of weight X is called X_scale_inv and has the weight's
 * shape with the last two dimensions divided by 128, rounded up; it may lie
 * in another shard. Value = code x scale. Source: docs/format.md, section 9;
 * DeepSeek-V3, inference/fp8_cast_bf16.py. */
#ifndef F8_BLOCKWISE_H
#define F8_BLOCKWISE_H

#include "checkpoint.h"
#include "scales.h"

#define F8_SCALE_SUFFIX "_scale_inv"

/* Whether a tensor of this name would be the scale of another. */
bool f8_is_scale_name(const char *name);

/* Whether transformers reads a tensor or module of this name: it leaves out the
 * draft layer, which the two engines read. Of a draft layer among the others'
 * numbers only what no other layer has is known for it. */
bool f8_transformers_reads(const char *name);

/* What one tensor of the checkpoint is. */
typedef enum f8_role {
    F8_ROLE_PLAIN, /* neither: what was kept */
    F8_ROLE_WEIGHT,
    F8_ROLE_SCALE
} f8_role;

typedef struct f8_partner {
    f8_role role;
    /* Weight: its scale. Scale: its weight. NULL for the others, and where a
     * problem was noted. Points into checkpoint->tensors. */
    const f8_tensor *other;
    f8_scale_dtype scale_dtype; /* of weight and scale, where other is set */
} f8_partner;

typedef struct f8_blockwise {
    f8_partner
        *partners; /* partners[i] is about checkpoint->tensors.items[i] */
} f8_blockwise;

/* Gives every tensor its role and partner. config.json must say FP8 with
 * blocks of 128 x 128: what is of another kind (one scale a tensor, GPTQ,
 * compressed-tensors, MXFP4...) or not quantised is refused with one line,
 * F8_ERR_REFUSED, that says what was found. A weight without scale, a scale
 * without weight, a scale of another shape or dtype is F8_ERR_FORMAT, or,
 * where `problems` is not NULL, one line in it for each. out is emptied first;
 * f8_blockwise_free it in any case. */
f8_status f8_blockwise_read(const f8_checkpoint *checkpoint,
                            f8_problems *problems, f8_blockwise *out,
                            f8_error *err);
void f8_blockwise_free(f8_blockwise *blockwise);

/* The same for one FP8 weight, without a look at quant_method. partner->other
 * is NULL after a problem. *seen is the tensor that was meant for its scale,
 * whether it fits or not, or NULL. */
f8_status f8_blockwise_scale(const f8_checkpoint *checkpoint,
                             const f8_tensor *weight, f8_problems *problems,
                             f8_partner *partner, const f8_tensor **seen,
                             f8_error *err);

/* Notes "tensor T: expected shape [...], found [...]" as f8_problem does. */
f8_status f8_problem_shape(f8_problems *problems, const f8_tensor *t,
                           unsigned rank, const uint64_t *shape, f8_error *err);

#endif
