/* scales.c - which scale a block gets and how it is stored. See scales.h. */
#include "scales.h"

#include "kernel/numbers.h"

#include <float.h>
#include <math.h>
#include <string.h>

f8_dtype f8_scale_storage(f8_scale_dtype dtype)
{
    switch (dtype) {
    case F8_SCALE_F32:
        return F8_DTYPE_F32;
    case F8_SCALE_UE8M0:
        return F8_DTYPE_E8M0;
    case F8_SCALE_DEFAULT:
    case F8_SCALE_BF16:
        break;
    }
    return F8_DTYPE_BF16;
}

bool f8_scale_from_storage(f8_dtype stored, f8_scale_dtype *out)
{
    switch ((int)stored) {
    case F8_DTYPE_BF16:
        *out = F8_SCALE_BF16;
        return true;
    case F8_DTYPE_F32:
        *out = F8_SCALE_F32;
        return true;
    case F8_DTYPE_E8M0:
        *out = F8_SCALE_UE8M0;
        return true;
    default:
        return false;
    }
}

const char *f8_scale_dtype_name(f8_scale_dtype dtype)
{
    static const char *const names[] = {"bf16", "bf16", "f32", "ue8m0"};

    return (unsigned)dtype <= F8_SCALE_UE8M0 ? names[dtype] : NULL;
}

const char *f8_scales_name(f8_scales choice)
{
    switch (choice) {
    case F8_SCALES_DEFAULT:
    case F8_SCALES_AMAX:
        return "amax";
    case F8_SCALES_MSE:
        return "mse";
    case F8_SCALES_POW2:
        return "pow2";
    }
    return NULL;
}

/* The least power of two that is at least scale, as e8m0: its biased
 * exponent. Code 0 is 2^-127, a subnormal of binary32. */
static uint8_t round_up_e8m0(float scale)
{
    uint32_t u = bits_of(scale);

    if (u <= 0x00400000u) /* 2^-127 and below */
        return 0;
    return (uint8_t)((u >> 23) + ((u & 0x7fffffu) != 0));
}

/* The scale of the amax rule: 1 for a block of zeros. */
static float amax_scale(float amax)
{
    return amax > 0 ? amax / 448.0f : 1.0f;
}

/* From here on an amax over 2^120 has the code of 256, and 256 x 2^120 is no
 * binary32 number: an engine would compute an infinity. Under 2^119 it has
 * that of 448, as every larger quotient. */
#define POW2_ENDS 0x1.fp127f /* 248 x 2^120; 248 is the tie of 240 and 256 */

/* The least power of two that is at least amax / 448, as e8m0, or the one
 * before it where that makes an infinity of amax. */
static uint8_t pow2_code(float amax)
{
    uint8_t code = round_up_e8m0(amax_scale(amax));

    return amax >= POW2_ENDS ? (uint8_t)(code - 1) : code;
}

float f8_scale_store(float amax, f8_scale_dtype dtype, void *to)
{
    float scale = amax_scale(amax);

    if (dtype == F8_SCALE_UE8M0) {
        uint8_t code = pow2_code(amax);
        memcpy(to, &code, sizeof code);
        return f8_scale_load(to, dtype);
    }
    /* Below the smallest normal number a divisor loses its precision and
     * engines that flush subnormals would read zero. */
    if (dtype == F8_SCALE_F32) {
        scale = scale < 0x1p-126f ? 0x1p-126f : scale;
        memcpy(to, &scale, sizeof scale);
        return scale;
    }
    uint16_t half = narrow_bf16(scale);
    half = half < 0x0080u ? 0x0080u : half; /* 2^-126 */
    memcpy(to, &half, sizeof half);
    return f8_scale_load(to, F8_SCALE_BF16);
}

float f8_scale_load(const void *at, f8_scale_dtype dtype)
{
    uint8_t code;
    uint16_t half;
    float scale;

    switch (dtype) {
    case F8_SCALE_UE8M0:
        memcpy(&code, at, sizeof code);
        if (code == 0xff)
            return NAN;
        return from_bits(code ? (uint32_t)code << 23 : 0x00400000u);
    case F8_SCALE_F32:
        memcpy(&scale, at, sizeof scale);
        return scale;
    case F8_SCALE_DEFAULT:
    case F8_SCALE_BF16:
    default:
        memcpy(&half, at, sizeof half);
        return from_bits((uint32_t)half << 16);
    }
}

/* A normal number: 2^-127 is none. */
static float normal_pow2(uint8_t code)
{
    code = code ? code : 1;
    return f8_scale_load(&code, F8_SCALE_UE8M0);
}

float f8_scale_pow2(float amax)
{
    return normal_pow2(pow2_code(amax));
}

float f8_scale_again(float largest)
{
    /* The comparison is true of an infinity. */
    float finite = largest > FLT_MAX ? FLT_MAX : largest;

    return normal_pow2(round_up_e8m0(amax_scale(finite)));
}

/* A positive normal bfloat16 as it is. */
static void store_half(float scale, f8_scale_dtype dtype, void *to)
{
    uint16_t half = narrow_bf16(scale);

    if (dtype == F8_SCALE_F32)
        memcpy(to, &scale, sizeof scale);
    else
        memcpy(to, &half, sizeof half);
}

float f8_scale_choose(const f8_kernel *kernel, const f8_scale_rule *rule,
                      const f8_block *block, float amax, void *to)
{
    float scale;

    if (rule->dtype == F8_SCALE_UE8M0 || amax == 0)
        return f8_scale_store(amax, rule->dtype, to);
    switch (rule->choice) {
    case F8_SCALES_MSE:
        scale = kernel->search(rule->squares, block, amax);
        break;
    case F8_SCALES_POW2:
        scale = f8_scale_pow2(amax);
        break;
    case F8_SCALES_DEFAULT:
    case F8_SCALES_AMAX:
    default:
        return f8_scale_store(amax, rule->dtype, to);
    }
    store_half(scale, rule->dtype, to);
    return scale;
}
