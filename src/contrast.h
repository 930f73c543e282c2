/* contrast.h - the bytes of two checkpoints held against each other, pair by
 * pair, through the pipeline. */
#ifndef F8_CONTRAST_H
#define F8_CONTRAST_H

#include "distance.h"
#include "pairs.h"

/* What the bytes of a pair came to. Of integers only distance.differing. */
typedef struct f8_gap {
    f8_distance distance;
    bool other_bytes; /* of weight or scale, or another dtype */
} f8_gap;

/* Fills findings, zeroed, one for each of pairs. Those of pairs that cannot be
 * compared, or have no elements, stay as they are. Of options, which are
 * filled, threads, memory_bytes and progress are read; progress counts the
 * bytes of both sides, without scales. */
f8_status f8_contrast(const f8_pairs *pairs, const f8_options *options,
                      f8_gap *findings, f8_error *err);

#endif
