/* numbers.h - binary32 as bits, e4m3 codes, and widening of elements: the
 * scalar functions that the definition (plain.h) and its tables (groups.h,
 * bytes.h) are made of.
 *
 * Everything is IEEE binary32, rounded to nearest, ties to even, one
 * operation after the other as written; the build forbids contraction and
 * fast-math. */
#ifndef F8_KERNEL_NUMBERS_H
#define F8_KERNEL_NUMBERS_H

#include "kernel.h"

#include <math.h>
#include <string.h>

#define PLAIN_LEAST 0x1p-6f
#define PLAIN_MOST 448.0f /* the largest code's value */

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
    float magnitude = fabsf(x);
    float q = magnitude < 448 ? magnitude : 448;
    uint32_t a = bits_of(q);
    uint32_t normal = ((a + 0x7ffffu + ((a >> 20) & 1)) >> 20) - 960u;
    uint32_t small = bits_of(q + 0x1p14f) - 0x46800000u;
    uint32_t code = q < PLAIN_LEAST ? small : normal;
    return code | ((bits_of(x) >> 24) & 0x80u);
}

/* Value of a code: placed in a binary32's exponent and mantissa it is 2^-120
 * too small, subnormals included. */
static inline float decode(uint32_t code)
{
    return from_bits((code & 0x80u) << 24 | (code & 0x7fu) << 20) * 0x1p120f;
}

/* ---- narrowing ----------------------------------------------------------- */

static inline uint16_t narrow_bf16(float x)
{
    uint32_t u = bits_of(x);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

/* Halves that are subnormal are multiples of 2^-24, the spacing of binary32
 * from 0.5 on; from 65520 on all is infinity. */
static inline uint16_t narrow_f16(float x)
{
    uint32_t sign = bits_of(x) >> 16 & 0x8000u, a = bits_of(x) & 0x7fffffffu;
    uint32_t normal = ((a + 0xfffu + ((a >> 13) & 1)) >> 13) - (112u << 10);
    uint32_t small = bits_of(from_bits(a) + 0.5f) - 0x3f000000u;
    uint32_t h = a < 0x38800000u ? small : a >= 0x47800000u ? 0x7c00u : normal;
    return (uint16_t)(sign | h);
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

static inline void widen_row(const unsigned char *row, f8_dtype dtype,
                             unsigned n, float *out)
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

#endif
