/* neon.c - NEON, part of every 64-bit ARM: the vectors of shuffle.h as 16
 * bytes. */
#include <arm_neon.h>
#include <stdint.h>

#define VECTOR 16
typedef uint8x16_t vi;
typedef float32x4_t vf;

#define as16(a) vreinterpretq_u16_u8(a)
#define as32(a) vreinterpretq_u32_u8(a)
#define of16(a) vreinterpretq_u8_u16(a)
#define of32(a) vreinterpretq_u8_u32(a)

static inline vi v_load(const void *from)
{
    return vld1q_u8((const uint8_t *)from);
}

static inline void v_store(void *to, vi a)
{
    vst1q_u8((uint8_t *)to, a);
}

static inline void v_store_codes(uint8_t *to, vi a, int stream)
{
    (void)stream; /* there is no such store that helps */
    v_store(to, a);
}

static inline void v_fence(void)
{
}

static inline vi v_table(const uint8_t table[16])
{
    return vld1q_u8(table);
}

static inline vi v_set8(int x)
{
    return vdupq_n_u8((uint8_t)x);
}

static inline vi v_set16(int x)
{
    return of16(vdupq_n_u16((uint16_t)x));
}

static inline vi v_set32(uint32_t x)
{
    return of32(vdupq_n_u32(x));
}

#define v_and(a, b) vandq_u8(a, b)
#define v_or(a, b) vorrq_u8(a, b)
#define v_xor(a, b) veorq_u8(a, b)
#define v_andnot(a, b) vbicq_u8(b, a) /* b without a */
#define v_test8(a, b) vtstq_u8(a, b)
#define v_add8(a, b) vaddq_u8(a, b)
#define v_sub8(a, b) vsubq_u8(a, b)
#define v_add16(a, b) of16(vaddq_u16(as16(a), as16(b)))
#define v_sub16(a, b) of16(vsubq_u16(as16(a), as16(b)))
#define v_subs_u16(a, b) of16(vqsubq_u16(as16(a), as16(b)))
#define v_max8(a, b) vmaxq_u8(a, b)
#define v_apart(a) (a)
#define v_max_u16(a, b) of16(vmaxq_u16(as16(a), as16(b)))
#define v_more8(a, b) vcgtq_u8(a, b) /* below 128, where signs are equal */
#define v_is_zero16(a) of16(vceqzq_u16(as16(a)))
#define v_shl16(a, n) of16(vshlq_n_u16(as16(a), n))
#define v_shr16(a, n) of16(vshrq_n_u16(as16(a), n))
#define v_shl32(a, n) of32(vshlq_n_u32(as32(a), n))
#define v_shr32(a, n) of32(vshrq_n_u32(as32(a), n))
#define v_look(table, index) vqtbl1q_u8(table, index)
#define v_look_low(table, index) v_look(table, v_and(index, v_set8(0x0f)))
#define v_first(low, high) vzip1q_u8(low, high)
#define v_second(low, high) vzip2q_u8(low, high)
/* The low halves of one, the high halves of the other. */
#define v_halves(low, high) vbslq_u8(v_set32(0xffff), low, high)
#define v_float(a) vreinterpretq_f32_u8(a)
#define v_subf(a, b) vsubq_f32(a, b)
#define v_addf(a, b) vaddq_f32(a, b)
#define v_mulf(a, b) vmulq_f32(a, b)
#define v_maxf(a, b) vmaxq_f32(a, b)
#define v_absf(a) vabsq_f32(a)
#define v_fma(a, b, c) vfmaq_f32(c, a, b)
#define v_fms(a, b, c) vfmaq_f32(vnegq_f32(c), a, b)
/* Of two vectors of words: the seven bits M of a bfloat16, and something that
 * has its sign. */
#define v_mantissas(a, b) v_and(vuzp1q_u8(a, b), v_set8(0x7f))
#define v_signs(a, b) vuzp2q_u8(a, b)
/* Bytes of words that are all ones or zero. */
#define v_narrow(a, b) vuzp1q_u8(a, b)
#define v_natural(a) (a) /* packing keeps the order */

/* Full adder of bits: returns the carries of *sum + a + b. */
static inline vi v_add_bits(vi *sum, vi a, vi b)
{
    vi differ = v_xor(a, b), carry = vbslq_u8(differ, *sum, a);
    *sum = v_xor(*sum, differ);
    return carry;
}

/* Eight times the exponent mod 256: the four low bits of the high byte and the
 * top bit of the low one. */
static inline vi v_eights(vi a, vi b)
{
    vi low = vshlq_n_u8(vshrq_n_u8(vuzp1q_u8(a, b), 7), 3);
    return vsliq_n_u8(low, vuzp2q_u8(a, b), 4);
}

static inline uint32_t v_sum8(vi a)
{
    return vaddlvq_u8(a);
}

static inline int v_any(vi a)
{
    return vmaxvq_u8(a) != 0;
}

#include "again.h"
#include "restore_words.h"
#include "search.h"
#include "shuffle.h"

const f8_kernel f8_kernel_neon = {
    .name = "neon",
    .amax = amax_shuffle,
    .quantise = quantise_shuffle,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_vectors,
    .dequantise = dequantise_words,
    .see = see_shuffle,
    .locate = locate_plain,
};
