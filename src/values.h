/* values.h - the numbers of a synthetic checkpoint, each computed from its
 * place alone. */
#ifndef F8_VALUES_H
#define F8_VALUES_H

#include "os.h"

typedef enum f8_draw {
    F8_DRAW_NORMAL, /* low: mean, high: standard deviation */
    F8_DRAW_UNIFORM /* from low up to high                 */
} f8_draw;

/* How the values of a tensor are drawn. */
typedef struct f8_values {
    f8_draw draw;
    bool varied; /* `high` is multiplied by a factor drawn for the tensor */
    double low, high;
} f8_values;

/* Elements first to first + elems - 1 of the tensor called `tensor`, of dtype
 * BF16, F16 or F32, as they stand in a file, into `out`, which is aligned to 4
 * bytes. Depends on the seed, the name, dtype and values, and the position
 * alone. */
void f8_values_fill(const f8_values *values, const char *tensor, f8_dtype dtype,
                    uint64_t seed, uint64_t first, size_t elems, void *out);

#endif
