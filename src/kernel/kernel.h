/* kernel.h - the table of functions that touch every weight. A kernel takes
 * pointers and counts: no allocation, no I/O, no globals. ref.c is the
 * definition of correct; any other table must match it bit for bit. */
#ifndef F8_KERNEL_H
#define F8_KERNEL_H

#include "stats.h"

/* One block of a row-major matrix: at most F8_BLOCK rows of at most F8_BLOCK
 * elements, rows `stride_bytes` apart, of dtype BF16, F16 or F32, in any
 * alignment. */
typedef struct f8_block {
    const void *weights;
    size_t stride_bytes;
    f8_dtype dtype;
    unsigned rows, cols;
    bool stream; /* nobody reads the codes soon: they may bypass the caches */
    bool exact;  /* errors are counted one by one; else groups.h may share
                    them out, which is right for many blocks together */
} f8_block;

/* One block of codes and where its values go: at most F8_BLOCK rows of at
 * most F8_BLOCK elements, in any alignment. dtype is BF16, F16 or F32. */
typedef struct f8_code_block {
    const uint8_t *codes;
    size_t codes_stride;
    void *values;
    size_t values_stride; /* in bytes */
    f8_dtype dtype;
    unsigned rows, cols;
} f8_code_block;

enum { F8_MANTISSAS = 128 }; /* of a bfloat16 */

/* Squared errors of every bfloat16 mantissa under every mantissa of a scale;
 * search.h says in which units. Always the same: filled once for many blocks,
 * in a caller's memory since the library keeps no state. */
typedef struct f8_scale_squares {
    uint16_t of[F8_MANTISSAS][F8_MANTISSAS]; /* [weight's][scale's] */
} f8_scale_squares;

typedef struct f8_kernel {
    const char *name;

    /* The largest |w| as the bits of a binary32. From 0x7f800000 on the block
     * holds a NaN or an infinity. */
    uint32_t (*amax)(const f8_block *block);

    /* codes[r * codes_stride + c] = e4m3(clamp(w / scale, -448, 448)).
     * With sums and hist, not NULL, the round-trip error is added to them. */
    void (*quantise)(const f8_block *block, float scale, uint8_t *codes,
                     size_t codes_stride, f8_sums *sums, uint64_t *hist);

    /* The error of codes that stand already. NaN codes count as 480. */
    void (*measure)(const f8_block *block, float scale, const uint8_t *codes,
                    size_t codes_stride, f8_sums *sums, uint64_t *hist);

    /* The normal bfloat16 s for which sum (w - s e4m3(w / s))^2 is least, the
     * smallest such s where several are; amax is the block's largest |w|,
     * finite and not 0. */
    float (*search)(const f8_scale_squares *squares, const f8_block *block,
                    float amax);

    /* Sum of (v - w)^2 where v is what codes that stand already, none of them
     * NaN, become when quantised anew with the scale `again`, a power of two
     * under which none saturates. It is quicker where the codes are `nearest`:
     * those that quantise() makes. */
    double (*distance)(const f8_block *block, float scale, float again,
                       const uint8_t *codes, size_t codes_stride, bool nearest);

    /* values[r][c] = dtype(f32(code) * scale): the product in binary32, then
     * rounded to nearest even. Returns the largest code without its sign,
     * which tells whether any value is a NaN (0x7f, of whatever bits) or not
     * finite. scale is not negative. */
    uint8_t (*dequantise)(const f8_code_block *block, float scale);

    /* Adds the normal codes that occur in a block to seen. */
    void (*see)(const uint8_t *codes, size_t codes_stride, unsigned rows,
                unsigned cols, f8_codes *seen);

    /* Where |v - w|, in binary32, is largest: the first such weight by rows. */
    void (*locate)(const f8_block *block, float scale, const uint8_t *codes,
                   size_t codes_stride, unsigned *row, unsigned *col);
} f8_kernel;

/* Fills the table that search() reads. */
void f8_scale_squares_fill(f8_scale_squares *squares);

/* The definition. Slow; nothing but tests should use it. */
extern const f8_kernel f8_kernel_ref;

enum { F8_KERNELS_MAX = 8 };

/* The fastest table that this CPU can run; never NULL. */
const f8_kernel *f8_kernel_best(void);
/* "c", "avx2", "avx512", "vbmi" or "neon"; NULL for any other name and for
 * those that this CPU cannot run. */
const f8_kernel *f8_kernel_by_name(const char *name);
/* The best for NULL, else the one called name; F8_ERR_ARGUMENT with the names
 * that would do. */
f8_status f8_kernel_choose(const char *name, const f8_kernel **kernel,
                           f8_error *err);
/* Fills list with those that this CPU can run, slowest first, "c" always
 * among them; returns how many. F8_KERNELS_MAX is room for all. */
size_t f8_kernel_list(const f8_kernel **list, size_t room);

/* A code's value under a scale, as dequantise() rounds it, widened again. */
float f8_dequantise_one(uint8_t code, float scale, f8_dtype dtype);

/* One element as binary32, exactly. dtype is BF16, F16 or F32. */
float f8_widen(const void *element, f8_dtype dtype);

#endif
