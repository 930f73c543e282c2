/* search.h - the scale of least squared error, as inline functions: every
 * kernel file compiles this text with its own flags and puts scale_search()
 * into its table.
 *
 * Which scales can win. Let err(s) be the error of a block of n <= 2^14
 * weights under scale s, and s0 the least bfloat16 scale that is at least
 * amax / 464, so that no quotient is above 464, from where on 448 is not the
 * nearest number any more: nothing saturates. The winner lies in [s0, 2 s0):
 *
 * - From s0 on err(2 s) >= err(s), because the numbers that 2 s can represent
 *   are among those that s can: normal ones are the same, subnormal ones are
 *   every second. So of s and 2 s the smaller is never worse.
 * - Below s0 it is the other way round. Going from s < s0 to the s 2^j in
 *   [s0, 2 s0) costs at most what its subnormal codes cost, half a step each:
 *   n (2^-10 2^j s)^2 <= 4^j s^2 / 64. It gains at least what saturation of
 *   the largest weight costs beyond rounding. For j = 1 that is 64 (x - 464)
 *   s^2 or more, with x = amax / s > 464; bfloat16 numbers with mantissas W
 *   and S (128 to 255) have x - 464 = 16 (2^i W - 29 S) / S >= 16 / 255, so it
 *   is at least 4 s^2, against 1/16 s^2. For j > 1, x is above 464 2^(j - 1)
 *   and the gain, (x - 448)^2 - (x / 16)^2 units of s^2 or more, far larger
 *   still. So s is strictly worse, and clipping never pays.
 *
 * That leaves 128 scales, one of each mantissa, and each is evaluated.
 *
 * Infinities. A scale under which some code times it, in binary32, is infinite
 * has an infinite error. A code is at most 18/17 of its quotient, so that needs
 * an amax above 17/18 of 2^128. There s0 is not such a scale, 448 times it
 * being below 2^128 / 464 * 448 * (1 + 2^-7), nor is any below. So
 * those below s0 / 2 lose still: of them and 2 s, at most s0, both saturate at
 * x = amax / s > 928, which costs 2 s less by (x - 448)^2 - (x - 896)^2, above
 * 2^17 s^2. But from s0 / 2 on each must be tried.
 *
 * What one costs. With w = +-2^E W / 128 and s = 2^k S / 128 the error of a
 * normal code is 2^E / 2048 times the distance of 16 W from the nearest
 * multiple of S, or of 2 S where W >= S: an integer of eight bits that
 * neither E nor k changes. So the block is counted by E and W, the counts of
 * each W are added with weights 4^E, and one table of 128 x 128 squares gives
 * all sums. Codes that may be subnormal, quotients below 2^-4, are evaluated
 * singly, each of the few values that occur once; below 2^-10 all scales make
 * zero of a weight and its error decides nothing.
 *
 * In units of 2^(k0 - 17), k0 being the exponent of s0, every one of these
 * errors is an integer and the sums of their squares stay below 2^61. So they
 * are exact, ties are ties, and the same scale wins on every machine. */
#ifndef F8_KERNEL_SEARCH_H
#define F8_KERNEL_SEARCH_H

#include "plain.h"

/* Exponents of counted weights, relative to k0. */
enum {
    EXP_LEAST = -10, /* 2^-10 s0 and less is zero for all scales */
    EXP_NORMAL = -4, /* from here on normal codes for all scales */
    EXP_HALF = 3,    /* where sums begin anew, to stay within 32 bits */
    EXP_MOST = 9,    /* 464 s0 is below 2^10 2^k0 */
    EXP_ROWS = EXP_MOST - EXP_LEAST + 1
};

/* An amax from which on some code times its scale may be infinite: less than
 * 17/18 of 2^128. */
#define MAY_OVERFLOW 0x1.ep127f

/* Row 0 collects what lies below EXP_LEAST and is not read. */
typedef struct weight_counts {
    uint16_t at[(1 + EXP_ROWS) * F8_MANTISSAS];
} weight_counts;

static inline const uint16_t *row_of(const weight_counts *c, int exponent)
{
    return c->at + (exponent - EXP_LEAST + 1) * F8_MANTISSAS;
}

/* The square of a's distance from the nearest multiple of t, with 1 / t.
 * Exact: both are integers far below 2^24, and no quotient of theirs that is
 * not halfway between two integers comes so near to it that the rounding of
 * the reciprocal could matter. */
static inline uint32_t square_off(float a, float t, float reciprocal)
{
    float off = a - t * (float)(int32_t)(a * reciprocal + 0.5f);
    return (uint32_t)(int32_t)(off * off);
}

/* Entry of the table of squares: 16 W against steps of S, or of 2 S. */
static inline uint16_t normal_square(int w, int s)
{
    float scale = (float)(F8_MANTISSAS + s);
    float step = w < s ? scale : 2 * scale;

    return (uint16_t)square_off(16 * (float)(F8_MANTISSAS + w), step, 1 / step);
}

/* ---- counting ------------------------------------------------------------ */

/* Counts the block's weights by exponent and mantissa; `below` are the bits
 * of the first weight of row 0. The one place that says how much a weight
 * counts. */
static inline void count_weights(const f8_block *block, uint16_t below,
                                 weight_counts *to)
{
    weight_counts copy[COUNT_WAYS];

    memset(copy, 0, sizeof copy);
    for (unsigned r = 0; r < block->rows; r++) {
        uint16_t w[F8_BLOCK] = {0};
        memcpy(w, row_at(block, r), block->cols * sizeof *w);
        for (unsigned i = 0; i < F8_BLOCK; i++) {
            uint16_t a = w[i] & 0x7fff;
            w[i] = a > below ? (uint16_t)(a - below) : 0;
        }
        for (unsigned i = 0; i < F8_BLOCK; i += COUNT_WAYS) {
            uint64_t four;
            memcpy(&four, w + i, sizeof four);
            copy[0].at[four & 0xffff]++;
            copy[1].at[four >> 16 & 0xffff]++;
            copy[2].at[four >> 32 & 0xffff]++;
            copy[3].at[four >> 48]++;
        }
    }
    for (unsigned i = 0; i < sizeof to->at / sizeof *to->at; i++)
        to->at[i] = (uint16_t)(copy[0].at[i] + copy[1].at[i] + copy[2].at[i] +
                               copy[3].at[i]);
}

/* sum[m] = the counts of mantissa m in rows first to last, times 4 for each
 * row above the first. */
static inline void weigh_rows(const weight_counts *c, int first, int last,
                              uint32_t sum[F8_MANTISSAS])
{
    memset(sum, 0, F8_MANTISSAS * sizeof *sum);
    for (int e = last; e >= first; e--) {
        const uint16_t *count = row_of(c, e);
        for (unsigned m = 0; m < F8_MANTISSAS; m++)
            sum[m] = 4 * sum[m] + count[m];
    }
}

/* ---- evaluating ---------------------------------------------------------- */

static inline void add_normal(const f8_scale_squares *squares,
                              const weight_counts *c,
                              uint64_t error[F8_MANTISSAS])
{
    uint32_t low[F8_MANTISSAS], high[F8_MANTISSAS];
    uint64_t low_sum[F8_MANTISSAS] = {0}, high_sum[F8_MANTISSAS] = {0};

    weigh_rows(c, EXP_NORMAL, EXP_HALF - 1, low);
    weigh_rows(c, EXP_HALF, EXP_MOST, high);
    for (unsigned m = 0; m < F8_MANTISSAS; m++) {
        const uint16_t *square = squares->of[m];
        for (unsigned s = 0; s < F8_MANTISSAS; s++) {
            low_sum[s] += (uint64_t)low[m] * square[s];
            high_sum[s] += (uint64_t)high[m] * square[s];
        }
    }
    /* A row's unit is 2^(E - 11), 2^(E - k0 + 6) of ours. */
    for (unsigned s = 0; s < F8_MANTISSAS; s++)
        error[s] += (low_sum[s] << 2 * (EXP_NORMAL + 6)) +
                    (high_sum[s] << 2 * (EXP_HALF + 6));
}

/* Steps between subnormal codes, in our units, and their reciprocals. */
typedef struct fine_steps {
    float step[F8_MANTISSAS], reciprocal[F8_MANTISSAS];
} fine_steps;

/* Weights below 2^-5 s: all codes are multiples of one step. */
static inline void add_subnormal(float w, uint32_t count, const fine_steps *of,
                                 uint32_t error[F8_MANTISSAS])
{
    for (unsigned s = 0; s < F8_MANTISSAS; s++)
        error[s] += count * square_off(w, of->step[s], of->reciprocal[s]);
}

/* Weights below 2^-4 s: from 2^-5 s on, which is 16 steps, every second. */
static inline void add_mixed(float w, uint32_t count, const fine_steps *of,
                             uint32_t error[F8_MANTISSAS])
{
    for (unsigned s = 0; s < F8_MANTISSAS; s++) {
        float factor = w < 16 * of->step[s] ? 1.0f : 2.0f;
        error[s] += count * square_off(w, of->step[s] * factor,
                                       of->reciprocal[s] / factor);
    }
}

/* Each error is at most 510 and there are 2^14 at most: 32 bits will do. */
static inline void add_small(const weight_counts *c, const fine_steps *of,
                             uint64_t error[F8_MANTISSAS])
{
    uint32_t sum[F8_MANTISSAS] = {0};

    for (int e = EXP_LEAST; e < EXP_NORMAL; e++) {
        const uint16_t *count = row_of(c, e);
        for (int m = 0; m < F8_MANTISSAS; m++) {
            float w = (float)((F8_MANTISSAS + m) << (e - EXP_LEAST));
            if (count[m] && e < EXP_NORMAL - 1)
                add_subnormal(w, count[m], of, sum);
            else if (count[m])
                add_mixed(w, count[m], of, sum);
        }
    }
    for (unsigned s = 0; s < F8_MANTISSAS; s++)
        error[s] += sum[s];
}

static inline float from_half(unsigned half)
{
    return from_bits((uint32_t)half << 16);
}

/* Bits of s0. */
static inline unsigned first_scale(float amax)
{
    unsigned half = bits_of((float)((double)amax / 464)) >> 16;

    half += (double)from_half(half) * 464 < (double)amax;
    return half < 0x0080 ? 0x0080 : half;
}

/* Of 128 scales with errors by mantissa, those from m0 on have exponent k0,
 * the others the next one. */
static inline float search_counts(const f8_scale_squares *squares,
                                  const f8_block *block, unsigned first)
{
    unsigned m0 = first % F8_MANTISSAS, best = 0;
    uint64_t error[F8_MANTISSAS] = {0};
    fine_steps of;
    weight_counts c;

    count_weights(
        block,
        (uint16_t)(first - m0 - (1 - EXP_LEAST) * (unsigned)F8_MANTISSAS), &c);
    /* A scale is 2^10 S or 2^11 S of our units, a step 2^-9 of it. */
    for (unsigned s = 0; s < F8_MANTISSAS; s++) {
        of.step[s] = (float)((F8_MANTISSAS + s) << (s < m0 ? 2 : 1));
        of.reciprocal[s] = 1 / of.step[s];
    }
    add_normal(squares, &c, error);
    add_small(&c, &of, error);
    for (unsigned i = 1; i < F8_MANTISSAS; i++) {
        if (error[(m0 + i) % F8_MANTISSAS] < error[(m0 + best) % F8_MANTISSAS])
            best = i;
    }
    return from_half(first + best);
}

/* ---- the direct way ------------------------------------------------------ */

/* Sum of F8_BLOCK squares, in a fixed order. */
static inline double sum_squares(const float off[F8_BLOCK])
{
    enum { SUMS = 8 };
    double sum[SUMS] = {0}, all = 0;

    for (unsigned i = 0; i < F8_BLOCK; i += SUMS) {
        for (unsigned j = 0; j < SUMS; j++)
            sum[j] += (double)off[i + j] * (double)off[i + j];
    }
    for (unsigned j = 0; j < SUMS; j++)
        all += sum[j];
    return all;
}

static inline double row_error(const float w[F8_BLOCK], float scale)
{
    float off[F8_BLOCK];

    for (unsigned i = 0; i < F8_BLOCK; i++)
        off[i] = decode(encode(w[i] / scale)) * scale - w[i];
    return sum_squares(off);
}

/* Of `scales` scales from the first on. */
static inline float search_weights(const f8_block *block, unsigned first,
                                   unsigned scales)
{
    double error[2 * F8_MANTISSAS] = {0};
    unsigned best = 0;

    for (unsigned r = 0; r < block->rows; r++) {
        float w[F8_BLOCK] = {0}; /* a zero has no error */
        widen_row(row_at(block, r), block->dtype, block->cols, w);
        for (unsigned i = 0; i < scales; i++)
            error[i] += row_error(w, from_half(first + i));
    }
    for (unsigned i = 1; i < scales; i++)
        best = error[i] < error[best] ? i : best;
    return from_half(first + best);
}

/* ---- the functions of a table -------------------------------------------- */

static inline float scale_search(const f8_scale_squares *squares,
                                 const f8_block *block, float amax)
{
    unsigned first = first_scale(amax);

    if (amax >= MAY_OVERFLOW)
        return search_weights(block, first - F8_MANTISSAS, 2 * F8_MANTISSAS);
    /* All rows but the one that is not read must hold normal numbers. */
    if (block->dtype == F8_DTYPE_BF16 && first / F8_MANTISSAS > -EXP_LEAST)
        return search_counts(squares, block, first);
    /* Weights that are not bfloat16, or so small that they are subnormal. One
     * scale more, that before s0: F32 weights can exceed 464 of them by so
     * little that saturation costs less than subnormal codes. */
    bool before = first > 0x0080;
    return search_weights(block, first - before, F8_MANTISSAS + before);
}

#endif
