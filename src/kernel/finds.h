/* finds.h - what is asked of a block beside its codes and sums: which codes
 * occur in it, and where its largest error is. Plain C, compiled by each
 * file of an instruction set with its own flags. */
#ifndef F8_KERNEL_FINDS_H
#define F8_KERNEL_FINDS_H

#include "plain.h"

/* ---- which codes occur --------------------------------------------------- */

/* To set a bit for each code would take longer than to quantise. So groups of
 * rows are asked by vectors whether they hold anything that was not met yet,
 * which after some blocks is seldom; when all codes were met nobody asks any
 * more (quant.c). Magnitudes that were met with both signs need no look;
 * neither do zeros, subnormals and NaN. */
enum { MAGNITUDES = 128, FIRST_NORMAL = 8, SEE_ROWS = 8 };

typedef struct met_codes {
    uint64_t magnitudes[2];          /* a bit each */
    uint8_t missing[MAGNITUDES / 8]; /* the same turned round, eight a byte */
    /* The longest range of those met, mod 128: it runs on from the largest
     * code to the smallest, so that it can leave out either end. */
    unsigned first, count;
} met_codes;

static inline void met_longest(met_codes *met)
{
    int start = -1, before = -1;

    met->first = 0;
    met->count = MAGNITUDES;
    for (unsigned half = 0; half < 2; half++) {
        for (uint64_t left = ~met->magnitudes[half]; left; left &= left - 1) {
            int at = (int)(64 * half) + __builtin_ctzll(left);
            unsigned gap = (unsigned)(at - before - 1);
            if (start < 0) {
                start = at;
                met->count = 0;
            } else if (gap > met->count) {
                met->first = (unsigned)before + 1;
                met->count = gap;
            }
            before = at;
        }
    }
    if (start >= 0 &&
        (unsigned)(start + MAGNITUDES - before - 1) > met->count) {
        met->first = (unsigned)before + 1;
        met->count = (unsigned)(start + MAGNITUDES - before - 1);
    }
}

/* All of it from what was seen, if that changes anything: the second sign of
 * a magnitude does. `met` is all zeros at first. */
static inline void met_update(met_codes *met, const f8_codes *seen)
{
    uint64_t low = (seen->bits[0] & seen->bits[2]) | 0xff;
    uint64_t high = (seen->bits[1] & seen->bits[3]) | UINT64_C(1) << 63;

    if (low == met->magnitudes[0] && high == met->magnitudes[1])
        return;
    met->magnitudes[0] = low;
    met->magnitudes[1] = high;
    for (unsigned i = 0; i < MAGNITUDES / 8; i++)
        met->missing[i] = (uint8_t) ~(met->magnitudes[i / 8] >> i % 8 * 8);
    met_longest(met);
}

static inline void see_code(uint8_t code, f8_codes *seen)
{
    uint8_t magnitude = code & 0x7f;

    if (magnitude >= FIRST_NORMAL && magnitude != 0x7f)
        seen->bits[code / 64] |= UINT64_C(1) << code % 64;
}

/* Asks rows of 128 codes; mask, of as many bytes, gets what is not zero where
 * a code must be looked at. */
typedef bool see_filter(const uint8_t *codes, size_t codes_stride,
                        unsigned rows, const met_codes *met, uint8_t *mask);

/* Lets through what is outside of the range: compilers make vectors of this. */
static inline bool see_outside(const uint8_t *codes, size_t codes_stride,
                               unsigned rows, const met_codes *met,
                               uint8_t *mask)
{
    uint8_t first = (uint8_t)met->first, count = (uint8_t)met->count, any = 0;

    for (unsigned r = 0; r < rows; r++) {
        for (unsigned i = 0; i < F8_BLOCK; i++) {
            uint8_t above = (uint8_t)(codes[i] - first) & 0x7f;
            uint8_t outside = above >= count;
            mask[i] = outside;
            any |= outside;
        }
        codes += codes_stride;
        mask += F8_BLOCK;
    }
    return any;
}

/* Looks at the codes that the filter let through, which are few. */
static inline void see_masked(const uint8_t *codes, size_t codes_stride,
                              unsigned rows, const uint8_t *mask,
                              f8_codes *seen)
{
    for (unsigned r = 0; r < rows; r++, codes += codes_stride) {
        const uint8_t *row = mask + r * F8_BLOCK;
        uint64_t eights[F8_BLOCK / 8], any = 0;
        memcpy(eights, row, sizeof eights);
        for (unsigned i = 0; i < F8_BLOCK / 8; i++)
            any |= eights[i];
        for (unsigned i = 0; any != 0 && i < F8_BLOCK / 8; i++) {
            for (unsigned k = 8 * i; eights[i] != 0 && k < 8 * i + 8; k++) {
                if (row[k])
                    see_code(codes[k], seen);
            }
        }
    }
}

/* All codes of some rows: a byte for each. */
static inline void see_all(const uint8_t *codes, size_t codes_stride,
                           unsigned rows, unsigned cols, f8_codes *seen)
{
    uint8_t mark[256] = {0};

    for (unsigned r = 0; r < rows; r++) {
        for (unsigned i = 0; i < cols; i++)
            mark[codes[r * codes_stride + i]] = 1;
    }
    for (unsigned code = 0; code < 256; code++) {
        if (mark[code])
            see_code((uint8_t)code, seen);
    }
}

/* In the first rows most codes are new. */
__attribute__((always_inline)) static inline void see_by(
    see_filter *filter, const uint8_t *codes, size_t codes_stride,
    unsigned rows, unsigned cols, f8_codes *seen)
{
    enum { FEW_MET = 64, FIRST_ROWS = 16 };
    uint8_t mask[SEE_ROWS * F8_BLOCK];
    unsigned begin = 0;
    met_codes met = {{0}, {0}, 0, 0};

    met_update(&met, seen);
    if (cols < F8_BLOCK)
        begin = rows;
    else if (met.count < FEW_MET)
        begin = rows < FIRST_ROWS ? rows : FIRST_ROWS;
    if (begin > 0) {
        see_all(codes, codes_stride, begin, cols, seen);
        met_update(&met, seen);
    }
    for (unsigned r = begin; r < rows && met.count < MAGNITUDES;
         r += SEE_ROWS) {
        const uint8_t *from = codes + r * codes_stride;
        unsigned n = rows - r < SEE_ROWS ? rows - r : SEE_ROWS;
        if (!filter(from, codes_stride, n, &met, mask))
            continue;
        see_masked(from, codes_stride, n, mask, seen);
        met_update(&met, seen);
    }
}

static inline void see_plain(const uint8_t *codes, size_t codes_stride,
                             unsigned rows, unsigned cols, f8_codes *seen)
{
    see_by(see_outside, codes, codes_stride, rows, cols, seen);
}

/* ---- where the largest error is ------------------------------------------ */

static inline void locate_plain(const f8_block *block, float scale,
                                const uint8_t *codes, size_t codes_stride,
                                unsigned *row, unsigned *col)
{
    uint32_t most = 0;
    tally t;

    tally_begin(&t, scale, NULL);
    *row = *col = 0;
    for (unsigned r = 0; r < block->rows; r++) {
        float w[F8_BLOCK];
        uint32_t e[F8_BLOCK], top = 0;
        const uint8_t *from = codes + r * codes_stride;
        widen_row(row_at(block, r), block->dtype, block->cols, w);
        for (unsigned i = 0; i < block->cols; i++) {
            float error = decode(from[i]) * t.scale - w[i] * t.down;
            e[i] = bits_of(error) & 0x7fffffffu;
            top = e[i] > top ? e[i] : top;
        }
        if (top <= most)
            continue;
        most = top;
        *row = r;
        for (*col = 0; e[*col] < top; ++*col)
            continue;
    }
}

#endif
