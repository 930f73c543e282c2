/* ref.c - the arithmetic in plain C: the definition of correct.
 *
 * Everything is IEEE binary32, rounded to nearest, ties to even, one
 * operation after the other as written; the build forbids contraction and
 * fast-math. The loops over a row are without branches so that a compiler can
 * vectorise them, which changes no bit.
 *
 * Error sums are taken in units of the scale: with x = w / scale and c the
 * value of the code, |x| <= 448, so no square under- or overflows binary32;
 * a block's sums are then scaled by scale^2 in binary64. */
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

/* Error of one row, n elements. Lane i takes the elements i, i + 16, …, which
 * fixes the order of the additions for every implementation. */
typedef struct lanes {
    double x2[LANES], e2[LANES], xc[LANES], c2[LANES];
    float max_abs[LANES];
} lanes;

static void measure_16(const float *x, const float *c, float sum[4][LANES],
                       float *max_abs)
{
    for (int i = 0; i < LANES; i++) {
        float e = c[i] - x[i];
        sum[0][i] += x[i] * x[i];
        sum[1][i] += e * e;
        sum[2][i] += x[i] * c[i];
        sum[3][i] += c[i] * c[i];
        float a = fabsf(e);
        max_abs[i] = a > max_abs[i] ? a : max_abs[i];
    }
}

/* Histogram bin of |c - x| / |x|; see stats.h. */
static inline int32_t bin_of(float x, float c)
{
    float relative = fabsf(c - x) / fabsf(x);
    int32_t bin = (int32_t)(bits_of(relative) >> 17) -
                  (F8_HIST_LOWEST_EXPONENT + 127) * F8_HIST_PER_OCTAVE +
                  F8_HIST_FIRST;

    bin = bin < F8_HIST_BELOW ? F8_HIST_BELOW : bin;
    bin = bin > F8_HIST_ABOVE ? F8_HIST_ABOVE : bin;
    return x == 0 ? F8_HIST_ZERO : bin;
}

static void measure_row(const float *x, const uint8_t *codes, unsigned n,
                        lanes *acc, uint64_t *hist)
{
    float c[F8_BLOCK], sum[4][LANES] = {{0}};
    int32_t bin[F8_BLOCK];
    unsigned whole = n - n % LANES;

    for (unsigned i = 0; i < n; i++)
        c[i] = decode(codes[i]);
    for (unsigned i = 0; i < whole; i += LANES)
        measure_16(x + i, c + i, sum, acc->max_abs);
    if (whole < n) { /* zeros change no sum */
        float xt[LANES] = {0}, ct[LANES] = {0};
        memcpy(xt, x + whole, (n - whole) * sizeof *xt);
        memcpy(ct, c + whole, (n - whole) * sizeof *ct);
        measure_16(xt, ct, sum, acc->max_abs);
    }
    for (int i = 0; i < LANES; i++) {
        acc->x2[i] += (double)sum[0][i];
        acc->e2[i] += (double)sum[1][i];
        acc->xc[i] += (double)sum[2][i];
        acc->c2[i] += (double)sum[3][i];
    }
    for (unsigned i = 0; i < n; i++)
        bin[i] = bin_of(x[i], c[i]);
    for (unsigned i = 0; i < n; i++)
        hist[bin[i]]++;
}

static void fold(const lanes *acc, float scale, f8_sums *sums)
{
    double x2 = 0, e2 = 0, xc = 0, c2 = 0, s = (double)scale;

    for (int i = 0; i < LANES; i++) {
        double a = (double)acc->max_abs[i] * s;
        x2 += acc->x2[i];
        e2 += acc->e2[i];
        xc += acc->xc[i];
        c2 += acc->c2[i];
        sums->max_abs = a > sums->max_abs ? a : sums->max_abs;
    }
    sums->w2 += x2 * s * s;
    sums->e2 += e2 * s * s;
    sums->wv += xc * s * s;
    sums->v2 += c2 * s * s;
}

static void quantise_ref(const f8_block *block, float scale, uint8_t *codes,
                         size_t codes_stride, f8_sums *sums, uint64_t *hist)
{
    unsigned n = block->cols;
    lanes acc = {{0}, {0}, {0}, {0}, {0}};

    for (unsigned r = 0; r < block->rows; r++) {
        float x[F8_BLOCK];
        uint8_t *to = codes + r * codes_stride;
        widen_row(row_at(block, r), block->dtype, n, x);
        for (unsigned i = 0; i < n; i++)
            x[i] = x[i] / scale;
        for (unsigned i = 0; i < n; i++)
            to[i] = (uint8_t)encode(x[i]);
        if (sums)
            measure_row(x, to, n, &acc, hist);
    }
    if (sums)
        fold(&acc, scale, sums);
}

static void measure_ref(const f8_block *block, float scale,
                        const uint8_t *codes, size_t codes_stride,
                        f8_sums *sums, uint64_t *hist)
{
    lanes acc = {{0}, {0}, {0}, {0}, {0}};

    for (unsigned r = 0; r < block->rows; r++) {
        float x[F8_BLOCK];
        widen_row(row_at(block, r), block->dtype, block->cols, x);
        for (unsigned i = 0; i < block->cols; i++)
            x[i] = x[i] / scale;
        measure_row(x, codes + r * codes_stride, block->cols, &acc, hist);
    }
    fold(&acc, scale, sums);
}

const f8_kernel f8_kernel_ref = {
    .name = "c",
    .amax = amax_ref,
    .quantise = quantise_ref,
    .measure = measure_ref,
};
