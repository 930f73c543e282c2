/* avx2.c - AVX2 and FMA: the vectors of shuffle.h as 32 bytes. */
#include <immintrin.h>
#include <stdint.h>

#define VECTOR 32
typedef __m256i vi;
typedef __m256 vf;

static inline vi v_load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static inline void v_store(void *to, vi a)
{
    _mm256_storeu_si256((__m256i *)to, a);
}

static inline void v_store_codes(uint8_t *to, vi a, int stream)
{
    if (stream)
        _mm256_stream_si256((__m256i *)(void *)to, a);
    else
        v_store(to, a);
}

static inline void v_fence(void)
{
    _mm_sfence();
}

static inline vi v_table(const uint8_t table[16])
{
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)(const void *)table));
}

static inline vi v_set8(int x)
{
    return _mm256_set1_epi8((char)x);
}

static inline vi v_set16(int x)
{
    return _mm256_set1_epi16((short)x);
}

static inline vi v_set32(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}

#define v_and(a, b) _mm256_and_si256(a, b)
#define v_or(a, b) _mm256_or_si256(a, b)
#define v_xor(a, b) _mm256_xor_si256(a, b)
#define v_andnot(a, b) _mm256_andnot_si256(a, b) /* b without a */
#define v_add8(a, b) _mm256_add_epi8(a, b)
#define v_sub8(a, b) _mm256_sub_epi8(a, b)
#define v_add16(a, b) _mm256_add_epi16(a, b)
#define v_sub16(a, b) _mm256_sub_epi16(a, b)
#define v_subs_u16(a, b) _mm256_subs_epu16(a, b)
#define v_max8(a, b) _mm256_max_epu8(a, b)
#define v_max_u16(a, b) _mm256_max_epu16(a, b)
#define v_more8(a, b) _mm256_cmpgt_epi8(a, b)
#define v_is_zero16(a) _mm256_cmpeq_epi16(a, _mm256_setzero_si256())
#define v_shl16(a, n) _mm256_slli_epi16(a, n)
#define v_shr16(a, n) _mm256_srli_epi16(a, n)
#define v_shl32(a, n) _mm256_slli_epi32(a, n)
#define v_shr32(a, n) _mm256_srli_epi32(a, n)
#define v_look(table, index) _mm256_shuffle_epi8(table, index)
#define v_look_low(table, index) v_look(table, index) /* by four bits */
#define v_first(low, high) _mm256_unpacklo_epi8(low, high)
#define v_second(low, high) _mm256_unpackhi_epi8(low, high)
/* The low halves of one, the high halves of the other. */
#define v_halves(low, high) _mm256_blend_epi16(low, high, 0xaa)
#define v_float(a) _mm256_castsi256_ps(a)
#define v_subf(a, b) _mm256_sub_ps(a, b)
#define v_addf(a, b) _mm256_add_ps(a, b)
#define v_mulf(a, b) _mm256_mul_ps(a, b)
#define v_maxf(a, b) _mm256_max_ps(a, b)
#define v_absf(a) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a)
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define v_fms(a, b, c) _mm256_fmsub_ps(a, b, c)

/* Bytes of two vectors of words, packed: the seven bits M of a bfloat16, eight
 * times its exponent, mod 256 and of numbers without sign, and something that
 * has its sign. */
static inline vi v_mantissas(vi a, vi b)
{
    return _mm256_packus_epi16(v_and(a, v_set16(0x7f)),
                               v_and(b, v_set16(0x7f)));
}

static inline vi v_eights(vi a, vi b)
{
    vi exponent = _mm256_packus_epi16(v_shr16(a, 7), v_shr16(b, 7));
    return v_and(v_shl16(exponent, 3), v_set8(0xf8));
}

static inline vi v_signs(vi a, vi b)
{
    return _mm256_packs_epi16(a, b);
}

/* Bytes of words that are all ones or zero. */
static inline vi v_narrow(vi a, vi b)
{
    return _mm256_packs_epi16(a, b);
}

/* Packing and unpacking stay inside 16 bytes; this puts packed bytes in the
 * order of their words. */
static inline vi v_natural(vi a)
{
    return _mm256_permute4x64_epi64(a, 0xd8);
}

/* All ones where a has the bit that is b. */
static inline vi v_test8(vi a, vi b)
{
    return _mm256_cmpeq_epi8(v_and(a, b), b);
}

/* The bytes that v_first, then v_second puts into words in their order. */
static inline vi v_apart(vi a)
{
    return _mm256_permute4x64_epi64(a, 0xd8);
}

/* Full adder of bits: returns the carries of *sum + a + b. */
static inline vi v_add_bits(vi *sum, vi a, vi b)
{
    vi differ = v_xor(a, b), carry = v_or(v_and(a, b), v_and(differ, *sum));
    *sum = v_xor(*sum, differ);
    return carry;
}

static inline uint32_t v_sum8(vi a)
{
    vi eighths = _mm256_sad_epu8(a, _mm256_setzero_si256());
    __m128i sum = _mm_add_epi64(_mm256_castsi256_si128(eighths),
                                _mm256_extracti128_si256(eighths, 1));
    return (uint32_t)_mm_extract_epi32(sum, 0) +
           (uint32_t)_mm_extract_epi32(sum, 2);
}

static inline int v_any(vi a)
{
    return !_mm256_testz_si256(a, a);
}

#include "again.h"
#include "restore_words.h"
#include "search.h"
#include "shuffle.h"

const f8_kernel f8_kernel_avx2 = {
    .name = "avx2",
    .amax = amax_shuffle,
    .quantise = quantise_shuffle,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_vectors,
    .dequantise = dequantise_words,
    .see = see_shuffle,
    .locate = locate_plain,
};
