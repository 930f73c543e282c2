/* avx512.c - AVX-512 F, BW, VL and DQ (Skylake server and later): the vectors
 * of shuffle.h as 64 bytes. */
#include <immintrin.h>
#include <stdint.h>

#define VECTOR 64
typedef __m512i vi;
typedef __m512 vf;

static inline vi v_load(const void *from)
{
    return _mm512_loadu_si512(from);
}

static inline void v_store(void *to, vi a)
{
    _mm512_storeu_si512(to, a);
}

static inline void v_store_codes(uint8_t *to, vi a, int stream)
{
    if (stream)
        _mm512_stream_si512((__m512i *)(void *)to, a);
    else
        v_store(to, a);
}

static inline void v_fence(void)
{
    _mm_sfence();
}

static inline vi v_table(const uint8_t table[16])
{
    return _mm512_broadcast_i32x4(
        _mm_loadu_si128((const __m128i *)(const void *)table));
}

static inline vi v_set8(int x)
{
    return _mm512_set1_epi8((char)x);
}

static inline vi v_set16(int x)
{
    return _mm512_set1_epi16((short)x);
}

static inline vi v_set32(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}

#define v_and(a, b) _mm512_and_si512(a, b)
#define v_or(a, b) _mm512_or_si512(a, b)
#define v_xor(a, b) _mm512_xor_si512(a, b)
#define v_andnot(a, b) _mm512_andnot_si512(a, b) /* b without a */
#define v_test8(a, b) _mm512_movm_epi8(_mm512_test_epi8_mask(a, b))
#define v_add8(a, b) _mm512_add_epi8(a, b)
#define v_sub8(a, b) _mm512_sub_epi8(a, b)
#define v_add16(a, b) _mm512_add_epi16(a, b)
#define v_sub16(a, b) _mm512_sub_epi16(a, b)
#define v_subs_u16(a, b) _mm512_subs_epu16(a, b)
#define v_max_u16(a, b) _mm512_max_epu16(a, b)
#define v_more8(a, b) _mm512_movm_epi8(_mm512_cmpgt_epi8_mask(a, b))
#define v_is_zero16(a) _mm512_movm_epi16(_mm512_testn_epi16_mask(a, a))
#define v_shl16(a, n) _mm512_slli_epi16(a, n)
#define v_shr16(a, n) _mm512_srli_epi16(a, n)
#define v_shl32(a, n) _mm512_slli_epi32(a, n)
#define v_shr32(a, n) _mm512_srli_epi32(a, n)
#define v_look(table, index) _mm512_shuffle_epi8(table, index)
#define v_first(low, high) _mm512_unpacklo_epi8(low, high)
#define v_second(low, high) _mm512_unpackhi_epi8(low, high)
/* The low halves of one, the high halves of the other. */
#define v_halves(low, high) _mm512_mask_mov_epi16(low, 0xaaaaaaaau, high)
#define v_float(a) _mm512_castsi512_ps(a)
#define v_subf(a, b) _mm512_sub_ps(a, b)
#define v_maxf(a, b) _mm512_max_ps(a, b)
#define v_absf(a) _mm512_abs_ps(a)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)

static inline vi v_pack_low(vi a, vi b)
{
    return _mm512_packus_epi16(v_and(a, v_set16(0xff)),
                               v_and(b, v_set16(0xff)));
}

static inline vi v_pack_high(vi a, vi b)
{
    return _mm512_packus_epi16(v_shr16(a, 8), v_shr16(b, 8));
}

/* Packing and unpacking stay inside 16 bytes; this puts packed bytes in the
 * order of their words. */
static inline vi v_natural(vi a)
{
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0),
                                    a);
}

/* Full adder of bits: returns the carries of *sum + a + b. They are made from
 * the new sum, equal inputs or else the opposite of the sum, since the old one
 * would have to be copied first. */
static inline vi v_add_bits(vi *sum, vi a, vi b)
{
    *sum = _mm512_ternarylogic_epi64(*sum, a, b, 0x96);
    return _mm512_ternarylogic_epi64(a, *sum, b, 0xb2);
}

static inline uint32_t v_sum8(vi a)
{
    return (uint32_t)_mm512_reduce_add_epi64(
        _mm512_sad_epu8(a, _mm512_setzero_si512()));
}

static inline int v_any(vi a)
{
    return _mm512_test_epi8_mask(a, a) != 0;
}

#include "search.h"
#include "shuffle.h"

const f8_kernel f8_kernel_avx512 = {
    .name = "avx512",
    .amax = amax_shuffle,
    .quantise = quantise_shuffle,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_again,
    .see = see_shuffle,
    .locate = locate_plain,
};
