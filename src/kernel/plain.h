/* plain.h - the arithmetic in plain C: the definition of correct, as inline
 * functions. ref.c makes the table "c" of them; the files of other
 * instruction sets compile the same text with their own flags for whatever
 * they have no hand-written version of.
 *
 * Everything is IEEE binary32, rounded to nearest, ties to even, one
 * operation after the other as written; the build forbids contraction and
 * fast-math. The loops over a row are without branches so that a compiler can
 * vectorise them, which changes no bit.
 *
 * Statistics. Let 2^k be the scale's power of two, s' = scale / 2^k in [1, 2),
 * w' = w / 2^k and v' = code * s'. Dividing by 2^k changes no digit and keeps
 * squares from under- and overflowing. A weight is *plain* when
 * 2^-6 <= |w / scale| <= 448: its code is a normal number and not clamped, so
 * for bfloat16 weights and scales e' = v' - w' is an integer of eight bits
 * times a power of two and every product below is exact; that is what lets
 * other implementations use fused or bfloat16 multiply-adds. The weights that
 * are not plain (zeros, about one in ten thousand of a normal distribution)
 * are summed one by one in binary64.
 *
 * Relative errors are counted one by one, into bins, but for the plain weights
 * of a bfloat16 block with a bfloat16 scale of ordinary size: those that have
 * the nearest code are counted by mantissa, as groups.h describes.
 *
 * The sums of plain weights run in 16 binary32 lanes: of squares of w' and e'
 * and of their products, from which those of v' follow, and where the codes
 * were not just made, so that a v' may be anything, of products with v'. Of
 * each 32 elements of a row, lane i takes elements 2i + 1 and then 2i. Every
 * FLUSH_ROWS rows the lanes are added to binary64. This fixes the order of the
 * additions, so sums are the same bits everywhere. */
#ifndef F8_KERNEL_PLAIN_H
#define F8_KERNEL_PLAIN_H

#include "groups.h"

enum { LANES = 16, FLUSH_ROWS = 32 };

static inline const unsigned char *row_at(const f8_block *block, unsigned r)
{
    return (const unsigned char *)block->weights + r * block->stride_bytes;
}

/* Magnitudes order like their bits, NaN above infinity above all finite
 * numbers, so one maximum finds both amax and the odd ones. */
static inline uint32_t amax_halves(const f8_block *block)
{
    int16_t top[F8_BLOCK] = {0}, most = 0;

    for (unsigned r = 0; r < block->rows; r++) {
        int16_t half[F8_BLOCK];
        memcpy(half, row_at(block, r), block->cols * sizeof *half);
        for (unsigned i = 0; i < block->cols; i++) {
            int16_t a = (int16_t)(half[i] & 0x7fff);
            top[i] = a > top[i] ? a : top[i];
        }
    }
    for (unsigned i = 0; i < block->cols; i++)
        most = top[i] > most ? top[i] : most;
    if (block->dtype == F8_DTYPE_BF16)
        return (uint32_t)most << 16;
    return bits_of(widen_f16((uint16_t)most));
}

static inline uint32_t amax_plain(const f8_block *block)
{
    int32_t top[F8_BLOCK] = {0}, most = 0;

    if (block->dtype != F8_DTYPE_F32)
        return amax_halves(block);
    for (unsigned r = 0; r < block->rows; r++) {
        int32_t bits[F8_BLOCK];
        memcpy(bits, row_at(block, r), block->cols * sizeof *bits);
        for (unsigned i = 0; i < block->cols; i++) {
            int32_t a = bits[i] & 0x7fffffff;
            top[i] = a > top[i] ? a : top[i];
        }
    }
    for (unsigned i = 0; i < block->cols; i++)
        most = top[i] > most ? top[i] : most;
    return (uint32_t)most;
}

/* ---- statistics ---------------------------------------------------------- */

/* A vector of the compiler's, since gcc 12 makes a tangle of plain loops. */
typedef float lane_floats __attribute__((vector_size(4 * LANES)));

typedef struct lanes {
    lane_floats w2, we, e2;
} lanes;

/* Products with values, where the codes are anybody's: v may be far from w,
 * and then w and e say little of it. */
typedef struct value_sums {
    lane_floats now_wv, now_v2;
    double wv[LANES], v2[LANES];
} value_sums;

/* Sums of one block, in units of the scale's power of two. */
typedef struct tally {
    double w2[LANES], we[LANES], e2[LANES];    /* plain weights */
    double rest_w2, rest_e2, rest_wv, rest_v2; /* the others */
    double max_abs;
    float scale;        /* s' */
    float down;         /* 2^-k */
    double up;          /* 2^k */
    value_sums *values; /* NULL: they follow from the others */
    uint64_t *hist;
} tally;

/* Only the exponent of a scale decides k. Scales below 2^-127, which only
 * others write, are left subnormal: 2^-k must stay finite. Written with bits
 * since the library's frexp() and ldexp() take a tenth of a block's time. */
static inline void tally_begin(tally *t, float scale, uint64_t *hist)
{
    int32_t k = (int32_t)(bits_of(scale) >> 23) - 127;
    uint64_t up = (uint64_t)(1023 + k) << 52;

    memset(t, 0, sizeof *t);
    t->hist = hist;
    /* 2^-127 is subnormal. */
    t->down = from_bits(k == 127 ? 0x00400000u : (uint32_t)(127 - k) << 23);
    t->scale = scale * t->down;
    memcpy(&t->up, &up, sizeof up);
}

/* Adds the lanes, times a power of two, to the binary64 sums. */
static inline void tally_flush(tally *t, const lanes *from, double factor)
{
    for (int i = 0; i < LANES; i++) {
        t->w2[i] += (double)from->w2[i] * factor;
        t->we[i] += (double)from->we[i] * factor;
        t->e2[i] += (double)from->e2[i] * factor;
    }
}

static inline void values_flush(value_sums *v)
{
    for (int i = 0; i < LANES; i++) {
        v->wv[i] += (double)v->now_wv[i];
        v->v2[i] += (double)v->now_v2[i];
    }
    memset(&v->now_wv, 0, sizeof v->now_wv);
    memset(&v->now_v2, 0, sizeof v->now_v2);
}

/* v = w + e, so of codes that are near sum wv = sum w^2 + sum we, and
 * sum v^2 = sum w^2 + 2 sum we + sum e^2. */
static inline void tally_end(const tally *t, f8_sums *sums)
{
    double w2 = 0, we = 0, e2 = 0, square = t->up * t->up;
    double max_abs = t->max_abs * t->up;

    for (int i = 0; i < LANES; i++) {
        w2 += t->w2[i];
        we += t->we[i];
        e2 += t->e2[i];
    }
    double wv = w2 + we, v2 = w2 + 2 * we + e2;
    if (t->values) {
        wv = v2 = 0;
        for (int i = 0; i < LANES; i++) {
            wv += t->values->wv[i];
            v2 += t->values->v2[i];
        }
    }
    sums->w2 += (w2 + t->rest_w2) * square;
    sums->e2 += (e2 + t->rest_e2) * square;
    sums->wv += (wv + t->rest_wv) * square;
    sums->v2 += (v2 + t->rest_v2) * square;
    sums->max_abs = max_abs > sums->max_abs ? max_abs : sums->max_abs;
}

/* A code below the normal ones, of a weight that may be 0. */
static inline void tally_small(tally *t, bool is_zero, uint8_t code)
{
    t->hist[F8_HIST_SMALL + (code >> 7) * F8_SMALL_CODES + (code & 7)]++;
    t->hist[F8_HIST_BECAME_ZERO] += !is_zero && (code & 0x7f) == 0;
}

static inline bool is_small(uint8_t code)
{
    return (code & 0x78) == 0;
}

/* A weight that is not plain. */
static inline void tally_rest(tally *t, float weight, uint8_t code)
{
    if (is_small(code))
        tally_small(t, weight == 0, code);
    if (weight == 0 && (code & 0x7f) == 0) {
        t->hist[F8_HIST_ZERO]++;
        return;
    }
    double w = (double)weight / t->up;
    double v = (double)(decode(code) * t->scale);
    double e = fabs(v - w);
    t->rest_w2 += w * w;
    t->rest_e2 += e * e;
    t->rest_wv += w * v;
    t->rest_v2 += v * v;
    t->max_abs = e > t->max_abs ? e : t->max_abs;
    t->hist[F8_HIST_SATURATED] += fabs(w) > 448 * (double)t->scale;
    t->hist[weight == 0 ? F8_HIST_ZERO : bin_of((float)(e / fabs(w)))]++;
}

/* Of each 2 * LANES numbers first those of odd, then those of even place. Not
 * inline: gcc 12 at -O3 merges this with the sums below into wrong code. */
__attribute__((noinline)) static void split(const float *x, unsigned n,
                                            float *out)
{
    for (unsigned i = 0; i < n; i += 2 * LANES) {
        for (unsigned j = 0; j < LANES; j++)
            out[i + j] = x[i + 2 * j + 1];
        for (unsigned j = 0; j < LANES; j++)
            out[i + LANES + j] = x[i + 2 * j];
    }
}

/* Adds products of n elements, LANES at a time. */
static inline void add_products(const float *w, const float *e, unsigned n,
                                lanes *now)
{
    for (unsigned i = 0; i < n; i += LANES) {
        lane_floats wi, ei;
        memcpy(&wi, w + i, sizeof wi);
        memcpy(&ei, e + i, sizeof ei);
        now->w2 += wi * wi;
        now->we += wi * ei;
        now->e2 += ei * ei;
    }
}

/* Adds the products of a row's n values, of plain weights, with themselves and
 * with the weights, which are split already. */
static inline void add_values(const float *split_w, const uint32_t *plain,
                              const uint8_t *codes, unsigned n, float scale,
                              value_sums *values)
{
    float v[F8_BLOCK] = {0}, split_v[F8_BLOCK];
    unsigned whole = (n + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);

    for (unsigned i = 0; i < n; i++)
        v[i] = plain[i] ? decode(codes[i]) * scale : 0;
    split(v, whole, split_v);
    for (unsigned i = 0; i < whole; i += LANES) {
        lane_floats some_w, some_v;
        memcpy(&some_w, split_w + i, sizeof some_w);
        memcpy(&some_v, split_v + i, sizeof some_v);
        values->now_wv += some_w * some_v;
        values->now_v2 += some_v * some_v;
    }
}

/* How often a block's weights fell into each bin, then how often each mantissa
 * occurred. Increments of one counter wait for each other, so there are four
 * of each. A block has 2^14 weights. */
enum {
    COUNT_WAYS = 4,
    SLOT_NONE = F8_HIST_BINS, /* nobody reads this one */
    SLOT_MANTISSA,
    SLOTS = SLOT_MANTISSA + MANTISSAS
};

typedef struct slot_counts {
    uint16_t at[COUNT_WAYS][SLOTS];
} slot_counts;

/* How plain weights are counted: by the bin of their error; or by mantissa,
 * those with the nearest code, which a code just made always is. */
typedef enum by { BY_BIN, BY_MANTISSA, BY_MANTISSA_IF_NEAREST } by;

static inline int32_t slot_of(by how, float w, float e, float x, uint8_t code,
                              uint32_t mantissa)
{
    int32_t bin = bin_of(fabsf(e) / fabsf(w));
    int32_t slot = SLOT_MANTISSA + (int32_t)mantissa;

    if (how == BY_BIN)
        return bin;
    return how == BY_MANTISSA || code == encode(x) ? slot : bin;
}

/* A row of n weights, their quotients by the scale, and their codes. */
static inline void tally_row(tally *t, lanes *now, slot_counts *counts,
                             const float *weights, const float *x,
                             const uint8_t *codes, unsigned n, by how)
{
    float w[F8_BLOCK] = {0}, e[F8_BLOCK] = {0};
    float split_w[F8_BLOCK], split_e[F8_BLOCK];
    int32_t slot[F8_BLOCK] = {0};
    uint32_t plain[F8_BLOCK], top = 0, odd = 0;

    for (unsigned i = 0; i < n; i++) {
        uint32_t q = bits_of(x[i]) & 0x7fffffffu;
        uint32_t in = (uint32_t)(q >= bits_of(PLAIN_LEAST)) &
                      (uint32_t)(q <= bits_of(PLAIN_MOST));
        float scaled = weights[i] * t->down;
        /* Who counts has codes.
         * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        float error = decode(codes[i]) * t->scale - scaled;
        plain[i] = in;
        odd += (in ^ 1) | is_small(codes[i]);
        w[i] = from_bits(bits_of(scaled) & (0 - in));
        e[i] = from_bits(bits_of(error) & (0 - in));
        uint32_t a = bits_of(e[i]) & 0x7fffffffu;
        top = a > top ? a : top;
    }
    unsigned whole = (n + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
    split(w, whole, split_w); /* zeros fill up and change no sum */
    split(e, whole, split_e);
    add_products(split_w, split_e, whole, now);
    if (t->values)
        add_values(split_w, plain, codes, n, t->scale, t->values);
    double max_abs = (double)from_bits(top);
    t->max_abs = max_abs > t->max_abs ? max_abs : t->max_abs;

    for (unsigned i = 0; i < n; i++) {
        uint32_t m = bits_of(weights[i]) >> 16 & (MANTISSAS - 1);
        int32_t here = slot_of(how, w[i], e[i], x[i], codes[i], m);
        slot[i] = plain[i] ? here : SLOT_NONE;
    }
    for (unsigned i = n; i < whole; i++)
        slot[i] = SLOT_NONE;
    for (unsigned i = 0; i < whole; i += COUNT_WAYS)
        for (unsigned j = 0; j < COUNT_WAYS; j++)
            counts->at[j][slot[i + j]]++;
    for (unsigned i = 0; odd && i < n; i++) {
        if (!plain[i])
            tally_rest(t, weights[i], codes[i]);
        else if (is_small(codes[i])) /* made by others */
            tally_small(t, false, codes[i]);
    }
}

/* Whether a block's plain weights are counted by mantissa. The range of scales
 * is that of bytes.h, where all of a block's arithmetic goes by mantissas. */
static inline bool by_mantissa(const f8_block *block, float scale)
{
    return block->dtype == F8_DTYPE_BF16 && (bits_of(scale) & 0xffffu) == 0 &&
           scale >= 0x1p-36f && scale <= 0x1p36f;
}

/* ---- the functions of a table -------------------------------------------- */

/* Quantises and measures rows of a block that are next to each other, with
 * all sums in one set of lanes. Without `to` the codes stand already. */
static inline void rows_plain(const f8_block *block, unsigned first,
                              unsigned end, float scale, const uint8_t *codes,
                              uint8_t *to, size_t codes_stride, tally *t,
                              lanes *now, slot_counts *counts, by how)
{
    unsigned n = block->cols;

    for (unsigned r = first; r < end; r++) {
        float w[F8_BLOCK], x[F8_BLOCK];
        widen_row(row_at(block, r), block->dtype, n, w);
        for (unsigned i = 0; i < n; i++)
            x[i] = w[i] / scale;
        if (to) {
            uint8_t *row = to + r * codes_stride;
            for (unsigned i = 0; i < n; i++)
                row[i] = (uint8_t)encode(x[i]);
        }
        if (t)
            tally_row(t, now, counts, w, x, codes + r * codes_stride, n, how);
    }
}

/* The histogram of a block whose rows are counted. */
static inline void counts_end_plain(const slot_counts *counts,
                                    const f8_block *block, float scale, by how,
                                    uint64_t *hist)
{
    uint32_t sum[SLOTS];
    float error[MANTISSAS];
    error_bins bins;

    for (unsigned i = 0; i < SLOTS; i++)
        sum[i] = (uint32_t)counts->at[0][i] + counts->at[1][i] +
                 counts->at[2][i] + counts->at[3][i];
    for (unsigned i = 0; i < F8_HIST_BINS; i++)
        hist[i] += sum[i];
    if (how == BY_BIN)
        return;
    for (uint32_t m = 0; m < MANTISSAS; m++) {
        float w = from_bits(0x3f800000u | m << 16);
        error[m] = decode(encode(w / scale)) * scale - w;
    }
    error_bins_begin(&bins, error);
    count_mantissas(&bins, sum + SLOT_MANTISSA, block->exact, hist);
}

/* Compiled once for each way of counting: `how` is a constant. */
static inline __attribute__((always_inline)) void measured_plain(
    const f8_block *block, float scale, const uint8_t *codes, uint8_t *to,
    size_t codes_stride, f8_sums *sums, uint64_t *hist, by how)
{
    slot_counts counts;
    value_sums values;
    tally t;

    memset(&counts, 0, sizeof counts);
    memset(&values, 0, sizeof values);
    tally_begin(&t, scale, hist);
    t.values = to ? NULL : &values; /* which were not just made */
    for (unsigned r = 0; r < block->rows; r += FLUSH_ROWS) {
        unsigned left = block->rows - r;
        lanes now;
        memset(&now, 0, sizeof now);
        rows_plain(block, r, r + (left < FLUSH_ROWS ? left : FLUSH_ROWS), scale,
                   codes, to, codes_stride, &t, &now, &counts, how);
        tally_flush(&t, &now, 1);
        if (t.values)
            values_flush(t.values);
    }
    tally_end(&t, sums);
    counts_end_plain(&counts, block, t.scale, how, hist);
}

static inline void quantise_plain(const f8_block *block, float scale,
                                  uint8_t *codes, size_t codes_stride,
                                  f8_sums *sums, uint64_t *hist)
{
    if (!sums)
        rows_plain(block, 0, block->rows, scale, codes, codes, codes_stride,
                   NULL, NULL, NULL, BY_BIN);
    else if (by_mantissa(block, scale))
        measured_plain(block, scale, codes, codes, codes_stride, sums, hist,
                       BY_MANTISSA);
    else
        measured_plain(block, scale, codes, codes, codes_stride, sums, hist,
                       BY_BIN);
}

static inline void measure_plain(const f8_block *block, float scale,
                                 const uint8_t *codes, size_t codes_stride,
                                 f8_sums *sums, uint64_t *hist)
{
    if (by_mantissa(block, scale))
        measured_plain(block, scale, codes, NULL, codes_stride, sums, hist,
                       BY_MANTISSA_IF_NEAREST);
    else
        measured_plain(block, scale, codes, NULL, codes_stride, sums, hist,
                       BY_BIN);
}

#endif
