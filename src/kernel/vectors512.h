/* vectors512.h - AVX-512 F, BW, VL and DQ: the vectors of shuffle.h and again.h
 * as 64 bytes. */
#ifndef F8_KERNEL_VECTORS512_H
#define F8_KERNEL_VECTORS512_H

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
#define v_max8(a, b) _mm512_max_epu8(a, b)
#define v_max_u16(a, b) _mm512_max_epu16(a, b)
#define v_more8(a, b) _mm512_movm_epi8(_mm512_cmpgt_epi8_mask(a, b))
#define v_is_zero16(a) _mm512_movm_epi16(_mm512_testn_epi16_mask(a, a))
#define v_shl16(a, n) _mm512_slli_epi16(a, n)
#define v_shr16(a, n) _mm512_srli_epi16(a, n)
#define v_shl32(a, n) _mm512_slli_epi32(a, n)
#define v_shr32(a, n) _mm512_srli_epi32(a, n)
#define v_look(table, index) _mm512_shuffle_epi8(table, index)
#define v_look_low(table, index) v_look(table, index) /* by four bits */
#define v_first(low, high) _mm512_unpacklo_epi8(low, high)
#define v_second(low, high) _mm512_unpackhi_epi8(low, high)
/* The low halves of one, the high halves of the other. */
#define v_halves(low, high) _mm512_mask_mov_epi16(low, 0xaaaaaaaau, high)
#define v_float(a) _mm512_castsi512_ps(a)
#define v_subf(a, b) _mm512_sub_ps(a, b)
#define v_addf(a, b) _mm512_add_ps(a, b)
#define v_mulf(a, b) _mm512_mul_ps(a, b)
#define v_maxf(a, b) _mm512_max_ps(a, b)
#define v_absf(a) _mm512_abs_ps(a)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define v_fms(a, b, c) _mm512_fmsub_ps(a, b, c)

/* Bytes of two vectors of words, packed: the seven bits M of a bfloat16, eight
 * times its exponent, mod 256 and of numbers without sign, and something that
 * has its sign. */
static inline vi v_mantissas(vi a, vi b)
{
    return _mm512_packus_epi16(v_and(a, v_set16(0x7f)),
                               v_and(b, v_set16(0x7f)));
}

static inline vi v_eights(vi a, vi b)
{
    vi exponent = _mm512_packus_epi16(v_shr16(a, 7), v_shr16(b, 7));
    return v_and(v_shl16(exponent, 3), v_set8(0xf8));
}

static inline vi v_signs(vi a, vi b)
{
    return _mm512_packs_epi16(a, b);
}

/* Bytes of words that are all ones or zero. */
static inline vi v_narrow(vi a, vi b)
{
    return _mm512_packs_epi16(a, b);
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

/* The other way: packed bytes to where unpacking makes words of them. */
static inline vi v_apart(vi a)
{
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0),
                                    a);
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

#endif
