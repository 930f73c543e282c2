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

/* No bfloat16 can hold a zero times 2^E without a test, so an error of zero
 * stands as 2^(E - 80): far below half a unit in the last place of any sum of
 * true errors, hence without effect but in sums that are all zero, which
 * without_zeros() clears. */
enum { ZERO_EXPONENT = -80 };

typedef struct byte_tables {
    uint8_t step[MANTISSAS];
    uint8_t change_low[MANTISSAS], change_high[MANTISSAS];
    float error[MANTISSAS]; /* of 1 + M/128, exact */
    uint16_t least, most;   /* |w| as bits: bounds of the plain weights */
    error_bins bins;        /* only where errors are measured */
} byte_tables;

/* A block and all that belongs to it; an instruction set has its own consts. */
typedef struct job {
    const f8_block *block;
    const byte_tables *tables;
    const struct consts *consts;
    float scale;
    uint8_t *codes;
    size_t codes_stride;
    bool stream;
} job;

/* Whether codes may bypass the caches: only whole lines do so cheaply. */
static inline bool may_stream(const f8_block *block, const uint8_t *codes,
                              size_t codes_stride)
{
    return block->stream && ((uintptr_t)codes | codes_stride) % 64 == 0;
}

/* by_mantissa()'s range keeps every product and every stand-in for zero
 * normal. */
static inline bool bytes_fit(const f8_block *block, float scale)
{
    return block->cols == F8_BLOCK && by_mantissa(block, scale);
}

static inline void bytes_begin(byte_tables *t, float scale, bool measured)
{
    uint32_t up = bits_of(scale) >> 23; /* biased exponent */
    float s = from_bits((bits_of(scale) & 0x7fffffu) | 0x3f800000u);
    uint32_t code[MANTISSAS], change[MANTISSAS];
    float e[MANTISSAS];

    for (uint32_t m = 0; m < MANTISSAS; m++) {
        float w = from_bits(0x3f800000u | m << 16);
        /* Quotients from 1/2 to 2: encode() and decode() of normal codes. */
        uint32_t q = bits_of(w / s);
        uint32_t top = (q + 0x7ffffu + (q >> 20 & 1)) >> 20;
        code[m] = top - 960u;
        e[m] = from_bits(top << 20) * s - w;
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
    t->least = (uint16_t)((bits_of(scale) >> 16) - (6 << 7));
    t->most = (uint16_t)(bits_of(scale * PLAIN_MOST) >> 16);
    if (measured)
        error_bins_begin(&t->bins, e);
}

/* Whether a plain weight's error may be larger than all before: it is at most
 * half of the widest step between codes, 32. Of a panel's blocks only those
 * with the largest scales so far need to look for their largest error. */
static inline bool may_raise(const f8_sums *sums, float scale)
{
    return sums->max_abs < 16 * (double)scale;
}

/* Clears what only stand-ins for zero added up to. True sums are multiples of
 * 2^-34, in units of the scale's power of two; stand-ins stay below 2^-50. */
static inline void without_zeros(lane_floats *lane, double factor)
{
    for (int i = 0; i < LANES; i++)
        if (fabs((double)(*lane)[i] * factor) < 0x1p-42)
            (*lane)[i] = 0;
}

/* One weight that is not plain: its code, and, where t is given, its share of
 * the statistics. */
static inline void odd_weight(uint16_t bits, float scale, uint8_t *to, tally *t)
{
    float w = from_bits((uint32_t)bits << 16);

    *to = w == 0 ? (uint8_t)(bits >> 8) : (uint8_t)encode(w / scale);
    if (t)
        tally_rest(t, w, *to);
}

/* Those of a row, with its zeros or without. They are counted like the others,
 * which is taken back from group where that is given; it may run below zero
 * until all is counted. */
static inline void odd_row(const byte_tables *tables, float scale,
                           const unsigned char *from, uint8_t *to, tally *t,
                           uint32_t *group, bool zeros)
{
    uint16_t w[F8_BLOCK], least = tables->least;
    uint16_t span = (uint16_t)(tables->most - least);
    uint16_t none = zeros ? 0xffff : 0; /* is left out */
    uint8_t odd[F8_BLOCK];

    memcpy(w, from, sizeof w);
    for (unsigned i = 0; i < F8_BLOCK; i++) {
        uint16_t a = w[i] & 0x7fff;
        odd[i] = ((uint16_t)(a - least) > span) & (a != none);
    }
    for (unsigned i = 0; i < F8_BLOCK; i += 8) {
        uint64_t eight; /* the first in the lowest byte */
        memcpy(&eight, odd + i, sizeof eight);
        for (; eight != 0; eight &= eight - 1) {
            unsigned at = i + (unsigned)__builtin_ctzll(eight) / 8;
            odd_weight(w[at], scale, to + at, t);
            if (group)
                group[group_of(&tables->bins, w[at] % MANTISSAS)]--;
        }
    }
}

/* Zeros that were dealt with elsewhere, as tally_rest() counts them, and taken
 * back as above. */
static inline void tally_zeros(tally *t, const byte_tables *tables,
                               uint32_t all, uint32_t negative, uint32_t *group)
{
    t->hist[F8_HIST_ZERO] += all;
    t->hist[F8_HIST_SMALL] += all - negative;
    t->hist[F8_HIST_SMALL + F8_SMALL_CODES] += negative;
    group[group_of(&tables->bins, 0)] -= all;
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

/* Every plain weight of a block by its M, while the block is in the cache:
 * increments of one counter wait for each other, so there are four of each.
 * Weights that are not plain go to a counter that nobody reads. */
static inline void count_again(const f8_block *block, const byte_tables *t,
                               uint32_t count[MANTISSAS])
{
    uint32_t at[COUNT_WAYS][MANTISSAS + 1] = {{0}};
    uint16_t index[F8_BLOCK], span = (uint16_t)(t->most - t->least);

    for (unsigned r = 0; r < block->rows; r++) {
        uint16_t w[F8_BLOCK];
        memcpy(w, row_at(block, r), sizeof w);
        for (unsigned i = 0; i < F8_BLOCK; i++) {
            uint16_t above = (uint16_t)((w[i] & 0x7fff) - t->least);
            index[i] = above <= span ? w[i] & (MANTISSAS - 1) : MANTISSAS;
        }
        for (unsigned i = 0; i < F8_BLOCK; i += COUNT_WAYS)
            for (unsigned j = 0; j < COUNT_WAYS; j++)
                at[j][index[i + j]]++;
    }
    for (unsigned m = 0; m < MANTISSAS; m++)
        count[m] = at[0][m] + at[1][m] + at[2][m] + at[3][m];
}

/* A block's histogram from the counts of its groups. */
static inline void groups_end(const f8_block *block, const byte_tables *t,
                              const uint32_t group[GROUPS], uint64_t *hist)
{
    uint32_t count[MANTISSAS], each[GROUPS];

    divide_groups(&t->bins, group, each);
    if (!block->exact && !are_too_coarse(group, each)) {
        share_out(&t->bins, group, each, hist);
        return;
    }
    count_again(block, t, count);
    count_mantissas(&t->bins, count, block->exact, hist);
}

#endif
