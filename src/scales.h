/* scales.h - the scale of a block: how it is stored, and by which rule it is
 * chosen. The arithmetic of section 3 of docs/format.md that is about scales;
 * the search for the least error is the kernel's (kernel/search.h). */
#ifndef F8_SCALES_H
#define F8_SCALES_H

#include "kernel/kernel.h"

/* safetensors dtype that scales of this kind are stored in. */
f8_dtype f8_scale_storage(f8_scale_dtype dtype);
/* Which kind a stored scale is; false when loaders know no such scale. */
bool f8_scale_from_storage(f8_dtype stored, f8_scale_dtype *out);

/* Stores amax / 448 as dtype at `to` (1, 2 or 4 bytes) and returns the value
 * that was stored, which is what weights must be divided by. In UE8M0 that is a
 * power of two: rounded up, or the one below it where amax's code under that
 * times it is infinite. */
float f8_scale_store(float amax, f8_scale_dtype dtype, void *to);
/* Value of a stored scale; `at` needs no alignment. */
float f8_scale_load(const void *at, f8_scale_dtype dtype);

/* amax / 448 rounded up to a power of two, a normal one, or the one below it
 * where amax's code under that times it is infinite; 1 for amax 0. */
float f8_scale_pow2(float amax);
/* The power of two with which an engine quantises values anew of which
 * `largest`, not negative, is the largest: largest / 448 rounded up to a normal
 * one. Of an infinity no engine makes anything: it is taken for the largest
 * binary32 number, so that the result is always finite. */
float f8_scale_again(float largest);

#define F8_NO_MSE_UE8M0                                           \
    "scales of the least error are no powers of two: expected a " \
    "scale dtype of bf16 or f32, found ue8m0"

/* How scales are chosen and stored. */
typedef struct f8_scale_rule {
    f8_scales choice;
    f8_scale_dtype dtype;
    const f8_scale_squares *squares; /* filled, for F8_SCALES_MSE */
} f8_scale_rule;

/* Chooses and stores a block's scale, like f8_scale_store. amax is the
 * block's and finite. */
float f8_scale_choose(const f8_kernel *kernel, const f8_scale_rule *rule,
                      const f8_block *block, float amax, void *to);

#endif
