/* ref.c - the arithmetic in plain C: the definition of correct.
 *
 * Everything is IEEE binary32, rounded to nearest, ties to even, one
 * operation after the other as written; the build forbids contraction and
 * fast-math. The loops over a row are without branches so that a compiler can
 * vectorise them, which changes no bit.
 *
 * Error sums are taken with the power of two of the scale divided out: of
 * w' = w / 2^k and v' = code * (scale / 2^k), where 1 <= scale / 2^k < 2. That
 * changes no digit, keeps squares from under- and overflowing binary32, and
 * v' - w' is exact for bfloat16 weights and scales wherever they are close. A
 * block's sums are then scaled by 2^2k in binary64. */
#include "kernel.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

static inline uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* ---- e4m3 ---------------------------------------------------------------- */

/* Code of a binary32 that is no NaN.
 *
 * Normal codes (from 2^-6): exponent and three mantissa bits are the top of
 * the binary32, so rounding is the integer trick "add half, and the lowest
 * kept bit, minus one"; 960 = (127 - 7) << 3 changes the exponent's bias.
 * Subnormal codes are multiples of 2^-9, the spacing of binary32 at 2^14:
 * adding 2^14 rounds to that grid and leaves the code in the low bits. */
static inline uint32_t encode(float x)
{
    uint32_t u = bits_of(x);
    uint32_t a = u & 0x7fffffffu;

    a = a > 0x43e00000u ? 0x43e00000u : a; /* 448.0f */
    uint32_t normal = ((a + 0x7ffffu + ((a >> 20) & 1)) >> 20) - 960u;
    uint32_t small = bits_of(from_bits(a) + 0x1p14f) - 0x46800000u;
    uint32_t code = a < 0x3c800000u ? small : normal; /* 2^-6 */
    return code | ((u >> 24) & 0x80u);
}

/* Value of a code: placed in a binary32's exponent and mantissa it is 2^-120
 * too small, subnormals included. */
static inline float decode(uint32_t code)
{
    return from_bits((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f;
}

uint8_t f8_e4m3_encode(float x)
{
    if (isnan(x))
        return 0x7f;
    return (uint8_t)encode(x);
}

float f8_e4m3_decode(uint8_t code)
{
    if ((code & 0x7f) == 0x7f)
        return NAN;
    return decode(code);
}

/* ---- widening ------------------------------------------------------------ */

static inline float widen_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t a = h & 0x7fffu;

    /* An all-ones exponent is an infinity or a NaN in binary32 too. */
    uint32_t odd = 0x7f800000u | a << 13;
    uint32_t plain = bits_of(from_bits(a << 13) * 0x1p112f);
    return from_bits(sign | (a >= 0x7c00u ? odd : plain));
}

static void widen_row(const unsigned char *row, f8_dtype dtype, unsigned n,
                      float *out)
{
    if (dtype == F8_DTYPE_F32) {
        memcpy(out, row, n * sizeof *out);
        return;
    }
    uint16_t half[F8_BLOCK];
    memcpy(half, row, n * sizeof *half);
    if (dtype == F8_DTYPE_BF16) {
        for (unsigned i = 0; i < n; i++)
            out[i] = from_bits((uint32_t)half[i] << 16);
    } else {
        for (unsigned i = 0; i < n; i++)
            out[i] = widen_f16(half[i]);
    }
}

float f8_widen(const void *element, f8_dtype dtype)
{
    float out;
    widen_row(element, dtype, 1, &out);
    return out;
}

static const unsigned char *row_at(const f8_block *block, unsigned r)
{
    return (const unsigned char *)block->weights + r * block->stride_bytes;
}

/* ---- the table ----------------------------------------------------------- */

/* Magnitudes of binary32 order like their bits, NaN above infinity above all
 * finite numbers, so one unsigned maximum finds both amax and the odd ones. */
static uint32_t amax_ref(const f8_block *block)
{
    uint32_t top = 0;

    for (unsigned r = 0; r < block->rows; r++) {
        float w[F8_BLOCK];
        widen_row(row_at(block, r), block->dtype, block->cols, w);
        for (unsigned i = 0; i < block->cols; i++) {
            uint32_t a = bits_of(w[i]) & 0x7fffffffu;
            top = a > top ? a : top;
        }
    }
    return top;
}

/* Error of a block. Lane i takes the elements i, i + 16, ... of a row, which
 * fixes the order of the additions for every implementation. */
typedef struct lanes {
    double w2[LANES], e2[LANES], wv[LANES], v2[LANES];
    float max_abs[LANES];
    float down;  /* 2^-k */
    float scale; /* scale / 2^k */
    double up;   /* 2^k */
} lanes;

/* Only the exponent of a scale decides k. Scales below 2^-127, which only
 * others write, are left subnormal: 2^-k must stay finite. */
static void lanes_begin(lanes *acc, float scale)
{
    int k;

    memset(acc, 0, sizeof *acc);
    frexpf(scale, &k);
    k = k - 1 < -127 ? -127 : k - 1;
    acc->down = ldexpf(1, -k);
    acc->scale = scale * acc->down;
    acc->up = ldexp(1, k);
}

static void measure_16(const float *w, const float *v, float sum[4][LANES],
                       float *max_abs)
{
    for (int i = 0; i < LANES; i++) {
        float e = v[i] - w[i];
        sum[0][i] += w[i] * w[i];
        sum[1][i] += e * e;
        sum[2][i] += w[i] * v[i];
        sum[3][i] += v[i] * v[i];
        float a = fabsf(e);
        max_abs[i] = a > max_abs[i] ? a : max_abs[i];
    }
}

/* Histogram bin of |v - w| / |w|; see stats.h. */
static inline int32_t bin_of(float w, float v)
{
    float relative = fabsf(v - w) / fabsf(w);
    int32_t bin = (int32_t)(bits_of(relative) >> 17) -
                  (F8_HIST_LOWEST_EXPONENT + 127) * F8_HIST_PER_OCTAVE +
                  F8_HIST_FIRST;

    bin = bin < F8_HIST_BELOW ? F8_HIST_BELOW : bin;
    bin = bin > F8_HIST_ABOVE ? F8_HIST_ABOVE : bin;
    return w == 0 ? F8_HIST_ZERO : bin;
}

/* One row of n weights and their codes. */
static void measure_row(const float *weights, const uint8_t *codes, unsigned n,
                        lanes *acc, uint64_t *hist)
{
    float w[F8_BLOCK], v[F8_BLOCK], sum[4][LANES] = {{0}};
    int32_t bin[F8_BLOCK];
    unsigned whole = n - n % LANES;

    for (unsigned i = 0; i < n; i++)
        w[i] = weights[i] * acc->down;
    for (unsigned i = 0; i < n; i++)
        v[i] = decode(codes[i]) * acc->scale;
    for (unsigned i = 0; i < whole; i += LANES)
        measure_16(w + i, v + i, sum, acc->max_abs);
    if (whole < n) { /* zeros change no sum */
        float wt[LANES] = {0}, vt[LANES] = {0};
        memcpy(wt, w + whole, (n - whole) * sizeof *wt);
        memcpy(vt, v + whole, (n - whole) * sizeof *vt);
        measure_16(wt, vt, sum, acc->max_abs);
    }
    for (int i = 0; i < LANES; i++) {
        acc->w2[i] += (double)sum[0][i];
        acc->e2[i] += (double)sum[1][i];
        acc->wv[i] += (double)sum[2][i];
        acc->v2[i] += (double)sum[3][i];
    }
    for (unsigned i = 0; i < n; i++)
        bin[i] = bin_of(w[i], v[i]);
    for (unsigned i = 0; i < n; i++)
        hist[bin[i]]++;
}

static void lanes_end(const lanes *acc, f8_sums *sums)
{
    double w2 = 0, e2 = 0, wv = 0, v2 = 0, square = acc->up * acc->up;

    for (int i = 0; i < LANES; i++) {
        double a = (double)acc->max_abs[i] * acc->up;
        w2 += acc->w2[i];
        e2 += acc->e2[i];
        wv += acc->wv[i];
        v2 += acc->v2[i];
        sums->max_abs = a > sums->max_abs ? a : sums->max_abs;
    }
    sums->w2 += w2 * square;
    sums->e2 += e2 * square;
    sums->wv += wv * square;
    sums->v2 += v2 * square;
}

static void quantise_ref(const f8_block *block, float scale, uint8_t *codes,
                         size_t codes_stride, f8_sums *sums, uint64_t *hist)
{
    unsigned n = block->cols;
    lanes acc;

    lanes_begin(&acc, scale);
    for (unsigned r = 0; r < block->rows; r++) {
        float w[F8_BLOCK], x[F8_BLOCK];
        uint8_t *to = codes + r * codes_stride;
        widen_row(row_at(block, r), block->dtype, n, w);
        for (unsigned i = 0; i < n; i++)
            x[i] = w[i] / scale;
        for (unsigned i = 0; i < n; i++)
            to[i] = (uint8_t)encode(x[i]);
        if (sums)
            measure_row(w, to, n, &acc, hist);
    }
    if (sums)
        lanes_end(&acc, sums);
}

static void measure_ref(const f8_block *block, float scale,
                        const uint8_t *codes, size_t codes_stride,
                        f8_sums *sums, uint64_t *hist)
{
    lanes acc;

    lanes_begin(&acc, scale);
    for (unsigned r = 0; r < block->rows; r++) {
        float w[F8_BLOCK];
        widen_row(row_at(block, r), block->dtype, block->cols, w);
        measure_row(w, codes + r * codes_stride, block->cols, &acc, hist);
    }
    lanes_end(&acc, sums);
}

const f8_kernel f8_kernel_ref = {
    .name = "c",
    .amax = amax_ref,
    .quantise = quantise_ref,
    .measure = measure_ref,
};
