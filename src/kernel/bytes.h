/* bytes.h - tables for quantising bfloat16 without arithmetic on each weight.
 *
 * With a bfloat16 scale s and a plain weight w = +-2^E (1 + M/128) (plain.h),
 * everything depends on the seven bits M, up to a power of two:
 *   code            = (step[M] + 8 E) mod 256, and w's sign
 *   e = v - w       is a bfloat16 number: its bits are those of w plus
 *                     change[M], mod 2^16
 *   |e| / |w|       = a function of M, so it is enough to count the M
 * Files that include this hold one instruction set each. A block that does
 * not fit (other dtypes, ragged edges, extreme scales) takes plain.h's way. */
#ifndef F8_KERNEL_BYTES_H
#define F8_KERNEL_BYTES_H

#include "plain.h"

enum { MANTISSAS = 128 };

/* No bfloat16 can hold a zero times 2^E without a test, so an error of zero
 * stands as 2^(E - 80): far below half a unit in the last place of any sum of
 * true errors, hence without effect but in sums that are all zero, which
 * without_zeros() clears. */
enum { ZERO_EXPONENT = -80 };

typedef struct byte_tables {
    uint8_t step[MANTISSAS];
    uint8_t change_low[MANTISSAS], change_high[MANTISSAS];
    float error[MANTISSAS]; /* of 1 + M/128, exact */
    uint8_t bin[MANTISSAS]; /* of |e| / |w|: at most 1/17, bin 241 */
    uint16_t least, most;   /* |w| as bits: bounds of the plain weights */
} byte_tables;

/* Whether codes may bypass the caches: only whole lines do so cheaply. */
static inline bool may_stream(const f8_block *block, const uint8_t *codes,
                              size_t codes_stride)
{
    return block->stream && ((uintptr_t)codes | codes_stride) % 64 == 0;
}

/* The range keeps every product and every stand-in for zero normal. */
static inline bool bytes_fit(const f8_block *block, float scale)
{
    return block->dtype == F8_DTYPE_BF16 && block->cols == F8_BLOCK &&
           (bits_of(scale) & 0xffffu) == 0 && scale >= 0x1p-36f &&
           scale <= 0x1p36f;
}

static inline void bytes_begin(byte_tables *t, float scale)
{
    uint32_t up = bits_of(scale) >> 23; /* biased exponent */
    float s = from_bits((bits_of(scale) & 0x7fffffu) | 0x3f800000u);
    uint32_t code[MANTISSAS], change[MANTISSAS], bin[MANTISSAS];
    float e[MANTISSAS];

    for (uint32_t m = 0; m < MANTISSAS; m++) {
        float w = from_bits(0x3f800000u | m << 16);
        code[m] = encode(w / s);
        e[m] = decode(code[m]) * s - w;
        bin[m] = (uint32_t)bin_of(fabsf(e[m]) / w);
        uint32_t bits = bits_of(e[m]) >> 16;
        uint32_t zero = (uint32_t)(127 + ZERO_EXPONENT) << 7;
        change[m] = (e[m] == 0 ? zero : bits) - (0x3f80u | m);
    }
    memcpy(t->error, e, sizeof e);
    for (uint32_t m = 0; m < MANTISSAS; m++)
        t->step[m] = (uint8_t)(code[m] - 8 * up);
    for (uint32_t m = 0; m < MANTISSAS; m++)
        t->change_low[m] = (uint8_t)change[m];
    for (uint32_t m = 0; m < MANTISSAS; m++)
        t->change_high[m] = (uint8_t)(change[m] >> 8);
    for (uint32_t m = 0; m < MANTISSAS; m++)
        t->bin[m] = (uint8_t)bin[m];
    t->least = (uint16_t)((bits_of(scale) >> 16) - (6 << 7));
    t->most = (uint16_t)(bits_of(scale * PLAIN_MOST) >> 16);
}

/* Clears what only stand-ins for zero added up to. True sums are multiples of
 * 2^-34, in units of the scale's power of two; stand-ins stay below 2^-50. */
static inline void without_zeros(lane_floats *lane, double factor)
{
    for (int i = 0; i < LANES; i++)
        if (fabs((double)(*lane)[i] * factor) < 0x1p-42)
            (*lane)[i] = 0;
}

/* How often each M occurred, into the histogram. */
static inline void count_mantissas(const byte_tables *t,
                                   const uint32_t count[MANTISSAS],
                                   uint64_t *hist)
{
    for (unsigned m = 0; m < MANTISSAS; m++)
        hist[t->bin[m]] += count[m];
}

/* The weights of a row that are not plain, one by one, and, where t is given,
 * their share of the statistics and the histogram of the whole row. */
static inline void odd_row(const byte_tables *tables, float scale,
                           const unsigned char *from, uint8_t *to, tally *t)
{
    for (unsigned i = 0; i < F8_BLOCK; i++) {
        uint16_t bits;
        memcpy(&bits, from + 2 * i, sizeof bits);
        uint16_t a = bits & 0x7fffu;
        if (a >= tables->least && a <= tables->most) {
            if (t)
                t->count[i % COPIES][tables->bin[a & (MANTISSAS - 1)]]++;
            continue;
        }
        float w = from_bits((uint32_t)bits << 16);
        to[i] = a == 0 ? (uint8_t)(bits >> 8) : (uint8_t)encode(w / scale);
        if (t)
            tally_rest(t, w, to[i]);
    }
}

/* The same row of the next block, weights and room for codes, into the
 * second-level cache: rows are too far apart for the hardware to see where
 * this goes. An address past the end is no harm; it is never used. */
static inline void fetch_ahead(const unsigned char *row, const uint8_t *codes,
                               bool stream)
{
    uintptr_t next = (uintptr_t)row + 2 * F8_BLOCK;
    uintptr_t room = (uintptr_t)codes + F8_BLOCK;

    for (unsigned i = 0; i < 4; i++)
        __builtin_prefetch((const void *)(next + 64 * i), 0, 2);
    for (unsigned i = 0; i < 2 && !stream; i++)
        __builtin_prefetch((const void *)(room + 64 * i), 1, 2);
}

/* ---- counting M by pairs ------------------------------------------------- */

/* One increment counts two weights: at [M of one][M of the other]. Counters
 * of eight bits keep the table in half of the first-level cache; each that
 * runs over takes 256 from the total, which fold_pairs() checks. */
typedef struct pair_counts {
    _Alignas(64) uint8_t at[MANTISSAS * MANTISSAS];
} pair_counts;

/* 64 indices, eight at a time. */
static inline void count_pairs(pair_counts *pairs, const uint16_t *index)
{
    for (int i = 0; i < F8_BLOCK / 2; i += 4) {
        uint64_t four;
        memcpy(&four, index + i, sizeof four);
        pairs->at[four & 0xffff]++;
        pairs->at[four >> 16 & 0xffff]++;
        pairs->at[four >> 32 & 0xffff]++;
        pairs->at[four >> 48]++;
    }
}

/* Adds what the table holds to count. False, and count is as it was, when a
 * counter ran over. */
static inline bool fold_pairs(const pair_counts *pairs, uint32_t expected,
                              uint32_t count[MANTISSAS])
{
    uint16_t row[MANTISSAS], column[MANTISSAS] = {0};
    uint32_t total = 0;

    for (unsigned r = 0; r < MANTISSAS; r++) {
        const uint8_t *at = pairs->at + r * MANTISSAS;
        uint32_t sum = 0;
        for (unsigned c = 0; c < MANTISSAS; c++)
            sum += at[c];
        for (unsigned c = 0; c < MANTISSAS; c++)
            column[c] = (uint16_t)(column[c] + at[c]);
        row[r] = (uint16_t)sum;
        total += sum;
    }
    if (total != expected)
        return false;
    for (unsigned m = 0; m < MANTISSAS; m++)
        count[m] += (uint32_t)row[m] + column[m];
    return true;
}

/* Whether all weights of a row are plain. */
static inline bool is_plain_row(const uint16_t *w, const byte_tables *t)
{
    bool plain = true;

    for (unsigned i = 0; i < F8_BLOCK; i++) {
        uint16_t a = w[i] & 0x7fff;
        plain = plain && a >= t->least && a <= t->most;
    }
    return plain;
}

/* The slow way to count, of all rows but the odd ones: odd_row() has counted
 * those. */
static inline void count_again(const f8_block *block, const byte_tables *t,
                               uint32_t count[MANTISSAS])
{
    memset(count, 0, MANTISSAS * sizeof *count);
    for (unsigned r = 0; r < block->rows; r++) {
        uint16_t w[F8_BLOCK];
        memcpy(w, row_at(block, r), sizeof w);
        if (!is_plain_row(w, t))
            continue;
        for (unsigned i = 0; i < F8_BLOCK; i++)
            count[w[i] & (MANTISSAS - 1)]++;
    }
}

/* Into the histogram what `counted` pairs and a block's odd rows came to. */
static inline void counts_end(const pair_counts *pairs, uint32_t counted,
                              const f8_block *block, const byte_tables *t,
                              uint64_t *hist)
{
    uint32_t count[MANTISSAS] = {0};

    if (!fold_pairs(pairs, counted, count))
        count_again(block, t, count);
    count_mantissas(t, count, hist);
}

#endif
