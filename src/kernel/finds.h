/* finds.h - what is asked of a block beside its codes and sums: which codes
 * occur in it, and where its largest error is. Plain C, compiled by each
 * file of an instruction set with its own flags. */
#ifndef F8_KERNEL_FINDS_H
#define F8_KERNEL_FINDS_H

#include "plain.h"

/* ---- which codes occur --------------------------------------------------- */

/* To set a bit for each code would take longer than to quantise. So codes are
 * compared with one range of magnitudes, all of which were met with both signs;
 * only those outside are looked at. Weights are many in the middle and few at
 * both ends, so after some blocks there is little left to look at. The range
 * runs on from the largest code to the smallest, where there is nothing to find
 * (zeros, subnormals, NaN), so that it can leave out either end. */
enum { MAGNITUDES = 128, FIRST_NORMAL = 8 };

typedef struct met_range {
    unsigned first, count; /* magnitudes mod 128 */
} met_range;

/* A bit for each magnitude that was met with both signs, or need not be. */
static inline void met_both(const f8_codes *seen, uint64_t met[2])
{
    met[0] = (seen->bits[0] & seen->bits[2]) | 0xff;
    met[1] = (seen->bits[1] & seen->bits[3]) | UINT64_C(1) << 63;
}

static inline bool is_met(const uint64_t met[2], unsigned magnitude)
{
    return met[magnitude / 64 % 2] >> magnitude % 64 & 1;
}

/* The longest range: between two neighbours of what was not met. */
static inline met_range met_longest(const uint64_t met[2])
{
    met_range best = {0, MAGNITUDES};
    int start = -1, before = -1;

    for (unsigned half = 0; half < 2; half++) {
        for (uint64_t left = ~met[half]; left; left &= left - 1) {
            int at = (int)(64 * half) + __builtin_ctzll(left);
            unsigned gap = (unsigned)(at - before - 1);
            if (start < 0)
                best = (met_range){0, 0}, start = at;
            else if (gap > best.count)
                best = (met_range){(unsigned)before + 1, gap};
            before = at;
        }
    }
    if (start >= 0 && (unsigned)(start + MAGNITUDES - before - 1) > best.count)
        best = (met_range){(unsigned)before + 1,
                           (unsigned)(start + MAGNITUDES - before - 1)};
    return best;
}

/* A vector of the compiler's, as in plain.h; of gcc 12's only those that the
 * CPU has are fast. */
#if defined(__AVX512BW__)
enum { BYTES = 64 };
#elif defined(__AVX2__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
typedef uint8_t byte_vector __attribute__((vector_size(BYTES)));

/* All ones where a code is outside the range. */
static inline byte_vector outside(const uint8_t *codes, const met_range *range)
{
    byte_vector code;

    memcpy(&code, codes, sizeof code);
    return (byte_vector)(((code - (uint8_t)range->first) & 0x7f) >
                         (uint8_t)(range->count - 1));
}

/* Whether any code of some rows of 128 is. */
static inline bool is_any_outside(const uint8_t *codes, size_t codes_stride,
                                  unsigned rows, const met_range *range)
{
    byte_vector any = {0};
    uint64_t words[BYTES / 8], all = 0;

    for (unsigned r = 0; r < rows; r++, codes += codes_stride) {
        for (unsigned i = 0; i < F8_BLOCK; i += BYTES)
            any |= outside(codes + i, range);
    }
    memcpy(words, &any, sizeof words);
    for (unsigned i = 0; i < BYTES / 8; i++)
        all |= words[i];
    return all != 0;
}

static inline void see_code(uint8_t code, f8_codes *seen)
{
    uint8_t magnitude = code & 0x7f;

    if (magnitude >= FIRST_NORMAL && magnitude != 0x7f)
        seen->bits[code / 64] |= UINT64_C(1) << code % 64;
}

/* Looks at those of a row of 128 that are, eight at a time. */
static inline void see_row(const uint8_t *codes, const met_range *range,
                           f8_codes *seen)
{
    uint8_t mask[F8_BLOCK];

    for (unsigned i = 0; i < F8_BLOCK; i += BYTES) {
        byte_vector some = outside(codes + i, range);
        memcpy(mask + i, &some, sizeof some);
    }
    for (unsigned i = 0; i < F8_BLOCK; i += 8) {
        uint64_t eight;
        memcpy(&eight, mask + i, sizeof eight);
        for (unsigned k = i; eight != 0 && k < i + 8; k++) {
            if (mask[k])
                see_code(codes[k], seen);
        }
    }
}

/* Makes the range as long as it can be at both ends. */
static inline void extend(met_range *range, const f8_codes *seen)
{
    uint64_t met[2];

    met_both(seen, met);
    while (range->count < MAGNITUDES &&
           is_met(met, range->first + range->count))
        range->count++;
    while (range->count < MAGNITUDES &&
           is_met(met, range->first + MAGNITUDES - 1)) {
        range->first = (range->first + MAGNITUDES - 1) % MAGNITUDES;
        range->count++;
    }
}

static inline void see_plain(const uint8_t *codes, size_t codes_stride,
                             unsigned rows, unsigned cols, f8_codes *seen)
{
    enum { ROWS = 8 };
    uint64_t met[2];

    met_both(seen, met);
    met_range range = met_longest(met);
    for (unsigned r = 0; r < rows && range.count < MAGNITUDES; r++) {
        const uint8_t *row = codes + r * codes_stride;
        if (cols < F8_BLOCK) {
            for (unsigned i = 0; i < cols; i++)
                see_code(row[i], seen);
            continue;
        }
        unsigned n = rows - r < ROWS ? rows - r : ROWS;
        if (r % ROWS == 0 && !is_any_outside(row, codes_stride, n, &range)) {
            r += n - 1;
            continue;
        }
        see_row(row, &range, seen);
        extend(&range, seen);
    }
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
