/* values.c - the numbers of a synthetic checkpoint.
 *
 * They come from counters, not from a running state: element i of a tensor
 * depends on the seed, the tensor's name and i alone, so that neither thread
 * count nor machine nor the other tensors change a byte. For the same reason
 * there is no libm here: integers, and single IEEE operations, which round
 * alike everywhere. docs/layouts.md states the formulas. */
#include "values.h"

#include <float.h>
#include <string.h>

/* Excess precision would change the bytes (x87 does that). */
_Static_assert(FLT_EVAL_METHOD == 0, "values need plain binary32 arithmetic");

#define BATCH_ELEMS 1024 /* binary32 values at a time: they stay in cache */

/* Sebastiano Vigna's splitmix64 (2015): output i of the generator seeded with
 * `key` is mix(key + i * GOLDEN), i from 1. */
#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Hashing and drawing are two loops, because in one the compilers make the
 * whole of it slower: 430 against 310 million elements a second, on x86-64
 * without AVX, with gcc 12 and clang 14 alike. */
static void hash_elems(uint64_t *out, size_t n, uint64_t counter)
{
    for (size_t i = 0; i < n; i++)
        out[i] = mix(counter + (uint64_t)i * GOLDEN);
}

/* The sum of eight words from 0 to 65535 has mean 8 * 32767.5 and variance
 * 8 * (65536^2 - 1) / 12 = 2863311530. */
#define SUM_MEAN 262140
#define SUM_DEVIATION 53509.91992145008

/* Nearly Gaussian, never beyond 4.9 deviations. Four words are the hash's,
 * four are those of a multiple of it, folded so that every bit of the hash
 * reaches the low words too: a second hash gave the same moments, slower. The
 * multiplier is any odd number whose bits look random. */
static void draw_normal(float *out, size_t n, const uint64_t *hashes,
                        float mean, float scale)
{
    const uint64_t low = UINT64_C(0x0000ffff0000ffff);
    for (size_t i = 0; i < n; i++) {
        uint64_t a = hashes[i];
        uint64_t b = a * UINT64_C(0xd1342543de82ef95);
        b ^= b >> 32;
        uint64_t sums = (a & low) + (a >> 16 & low) + (b & low) +
                        (b >> 16 & low); /* two, 32 bits apart */
        int32_t sum = (int32_t)((sums & 0xffffffff) + (sums >> 32));
        out[i] = mean + scale * (float)(sum - SUM_MEAN);
    }
}

static void draw_uniform(float *out, size_t n, const uint64_t *hashes,
                         float from, float span)
{
    for (size_t i = 0; i < n; i++)
        out[i] = from + span * ((float)(int32_t)(hashes[i] >> 40) * 0x1p-24f);
}

static inline uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline uint16_t little16(uint16_t x)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap16(x);
#else
    return x;
#endif
}

static inline uint32_t little32(uint32_t x)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap32(x);
#else
    return x;
#endif
}

/* To nearest, ties to even; a layout cannot ask for anything that overflows,
 * and there is no NaN. */
static void store_bf16(uint16_t *out, const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = float_bits(values[i]);
        bits += 0x7fff + (bits >> 16 & 1);
        out[i] = little16((uint16_t)(bits >> 16));
    }
}

static void store_f16(uint16_t *out, const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = float_bits(values[i]);
        uint32_t sign = bits >> 16 & 0x8000;
        uint32_t size = bits & 0x7fffffff;
        uint32_t half;
        if (size < 0x38800000) {
            /* Below 2^-14 binary16 has steps of 2^-24, as binary32 has from
             * 0.5 up: the addition rounds. */
            float magnitude = values[i] < 0 ? -values[i] : values[i];
            half = float_bits(magnitude + 0.5f) - float_bits(0.5f);
        } else {
            size += 0xfff + (size >> 13 & 1);
            half = (size - 0x38000000) >> 13;
        }
        out[i] = little16((uint16_t)(sign | half));
    }
}

static void store_f32(uint32_t *out, const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = little32(float_bits(values[i]));
}

static void store(f8_dtype dtype, void *out, const float *values, size_t n)
{
    if (dtype == F8_DTYPE_BF16)
        store_bf16(out, values, n);
    else if (dtype == F8_DTYPE_F16)
        store_f16(out, values, n);
    else
        store_f32(out, values, n);
}

void f8_values_fill(const f8_values *values, const char *tensor, f8_dtype dtype,
                    uint64_t seed, uint64_t first, size_t elems, void *out)
{
    uint64_t hashes[BATCH_ELEMS];
    float batch[BATCH_ELEMS];
    uint64_t name = f8_hash(F8_HASH_START, tensor, strlen(tensor));
    uint64_t key = mix(mix(seed + GOLDEN) + name);
    double factor = 1;
    if (values->varied)
        factor = 0.75 + (double)(int64_t)(mix(key) >> 11) * 0x1p-54;
    float low = (float)values->low;
    float scale = (float)(values->high * factor / SUM_DEVIATION);
    float span = (float)(values->high - values->low);

    for (size_t done = 0; done < elems; done += BATCH_ELEMS) {
        size_t n = elems - done < BATCH_ELEMS ? elems - done : BATCH_ELEMS;
        hash_elems(hashes, n, key + (first + done + 1) * GOLDEN);
        if (values->draw == F8_DRAW_NORMAL)
            draw_normal(batch, n, hashes, low, scale);
        else
            draw_uniform(batch, n, hashes, low, span);
        store(dtype, (unsigned char *)out + done * f8_dtype_bytes(dtype), batch,
              n);
    }
}
