/* quant.h - a row-major matrix as 128 x 128 blocks: scales, ragged edges, one
 * kernel call a block. Knows no files. */
#ifndef F8_QUANT_H
#define F8_QUANT_H

#include "scales.h"

/* Part of a matrix: whole bands of 128 rows (the last may be shorter), all
 * columns or a panel that begins at a multiple of 128. */
typedef struct f8_panel {
    const void *weights;
    size_t stride_bytes; /* between rows of weights */
    f8_dtype dtype;
    uint64_t rows, cols;
    uint8_t *codes; /* rows x cols, rows `codes_stride` apart */
    size_t codes_stride;
    f8_scale_dtype scale_dtype;
    uint8_t *scales; /* ceil(rows/128) x ceil(cols/128), packed */
    /* Nobody reads the codes soon, as when they go to a file opened with
     * O_DIRECT: they may bypass the caches, if rows of them start at multiples
     * of 64 bytes. Changes no byte. */
    bool stream;
    f8_scales choice; /* of quantising: how scales are chosen */
    bool exact;       /* count every error by itself: f8_has_few_blocks() */
    /* What is found in the panel is added here, unless it is NULL; places are
     * the panel's. */
    f8_finds *finds;
} f8_panel;

/* Whether a matrix has so few blocks that their errors should be counted one
 * by one. From 32 blocks on counting by groups moves a median by about 0.1 %,
 * with one block by up to 2 %. */
static inline bool f8_has_few_blocks(uint64_t rows, uint64_t cols)
{
    return f8_ceil_div(rows, F8_BLOCK) < 32 &&
           f8_ceil_div(rows, F8_BLOCK) * f8_ceil_div(cols, F8_BLOCK) < 32;
}

/* Where a NaN or an infinity was found, inside the panel. */
typedef struct f8_spot {
    uint64_t row, col;
    float value;
} f8_spot;

/* "NaN", "Inf" or "-Inf", of a value that is one of them. */
const char *f8_odd_name(float value);

/* Fills codes and scales and adds the error to the panel's finds and to hist;
 * without finds it is not measured. False when a weight is not finite; *spot
 * then says which, the first by block and row. */
bool f8_panel_quantise(const f8_kernel *kernel, const f8_panel *panel,
                       uint64_t *hist, f8_spot *spot);

/* What a check of stored codes found; faults add up over calls. */
typedef struct f8_check {
    uint64_t not_nearest; /* codes that are not the nearest e4m3 */
    uint64_t nan_codes;
    uint64_t bad_scales;  /* not finite or not positive */
    uint64_t odd_weights; /* blocks whose source holds a NaN or an infinity */
    uint64_t far_scales;  /* nowhere near amax / 448: see f8_panel_check */
    /* Blocks with other scales under which code x scale, in binary32, is
     * infinite. */
    uint64_t infinite;
    /* Blocks whose error was measured, those among them with the scale that
     * amax or a power of two gives, and over all of them the sums that an
     * engine comes to that makes every scale a power of two. */
    uint64_t blocks, amax_blocks, pow2_blocks;
    uint64_t power_blocks; /* whose scale is any power of two */
    f8_exact w2, e8m0_e2;
    bool has_first;
    f8_spot first; /* the first code or block with a fault, inside the panel */
    f8_spot wrong; /* the first of not_nearest, where there are any */
} f8_check;

/* Checks the panel's codes and scales against its weights. A scale may be up
 * to 4 times larger or smaller than amax / 448 (powers of two, scales chosen
 * for the least error); beyond that codes can all be nearest, saturated or
 * zero, and yet hold nothing of the weights. `scratch` holds
 * 128 x 128 bytes. Blocks with a bad scale or an odd weight have no error, nor
 * have those of which an engine reads a NaN or an infinity: finds, which there
 * must be, have but their number, and hist has nothing of them. */
void f8_panel_check(const f8_kernel *kernel, const f8_panel *panel,
                    uint8_t *scratch, f8_check *check, uint64_t *hist);

#endif
