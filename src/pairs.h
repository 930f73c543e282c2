/* pairs.h - two checkpoints side by side: which tensor of one stands for which
 * of the other, by name and, where experts are fused in one and stand one by
 * one in the other, by the rules. Scales of FP8 weights belong to their
 * weights. Reads headers only; nothing here is an error but a rules file. */
#ifndef F8_PAIRS_H
#define F8_PAIRS_H

#include "blockwise.h"
#include "fuse.h"

/* One side of a pair: a tensor, or one expert's part of a fused one. */
typedef struct f8_side {
    const f8_tensor *tensor;
    const f8_tensor *scale; /* NULL: none */
    f8_scale_dtype scale_dtype;
    bool is_part;
    uint64_t offset;       /* of its first byte, in its file */
    uint64_t scale_offset; /* of the first scale of its first expert */
    uint64_t scale_row;    /* the row of that expert that it begins with */
} f8_side;

typedef struct f8_pair {
    const char *name; /* a's; of a part as if it stood alone */
    f8_side a, b;     /* at most one of them is a part */
    uint64_t part_shape[2];
    bool same_shape, same_dtype; /* the scales', too */
    bool is_comparable;          /* in value, or byte by byte */
} f8_pair;

/* What has no counterpart: a tensor, or a part of one whose other parts do. */
typedef struct f8_single {
    const char *name;
    const f8_tensor *tensor;
    bool is_part;
    uint64_t part_shape[2];
} f8_single;

typedef struct f8_singles {
    f8_single *items;
    size_t count, capacity;
} f8_singles;

/* What is known of one checkpoint's tensors, one of each for each. */
typedef struct f8_members {
    f8_checkpoint *checkpoint; /* borrowed */
    f8_partner *partners;
    bool *is_taken;       /* by a pair, or by pairs of parts */
    f8_problems problems; /* FP8 without a scale that fits */
    f8_singles singles;   /* in reading order */
    uint64_t fused;       /* tensors taken apart for the other side */
} f8_members;

typedef struct f8_pairs {
    f8_members a, b;
    f8_pair *items; /* in a's reading order */
    size_t count, capacity;
    f8_rules *rules; /* NULL: none fit */
    f8_arena strings;
} f8_pairs;

/* Pairs all tensors of a and b, which must outlive it. `rules` as in
 * f8_options; without it those of a's model_type, else of b's, else none. out
 * is emptied first; f8_pairs_free it in any case. */
f8_status f8_pairs_find(f8_checkpoint *a, f8_checkpoint *b, const char *rules,
                        f8_pairs *out, f8_error *err);
void f8_pairs_free(f8_pairs *pairs);

/* Dimensions of one side, *rank of them. */
const uint64_t *f8_side_shape(const f8_pair *pair, const f8_side *side,
                              unsigned *rank);
/* Elements of a pair whose shapes are the same. */
uint64_t f8_pair_elems(const f8_pair *pair);
/* Whether it is compared in value, not byte by byte. */
bool f8_pair_is_real(const f8_pair *pair);

#endif
