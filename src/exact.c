/* exact.c - sums without rounding. See exact.h. */
#include "exact.h"

#include <math.h>
#include <string.h>

enum { LIMB_BITS = 32 };
static const int64_t limb_mask = 0xffffffff;

/* As binary64 stores them. */
enum {
    MANTISSA_BITS = 52,
    EXPONENT_MOST = F8_EXACT_TOP - 1 + 1023 /* below 2^F8_EXACT_TOP */
};
static const uint64_t mantissa_mask = (UINT64_C(1) << MANTISSA_BITS) - 1;

void f8_exact_add(f8_exact *to, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> MANTISSA_BITS & 0x7ff);
    uint64_t mantissa = bits & mantissa_mask;
    if (exponent > EXPONENT_MOST) { /* of infinities and NaN too */
        exponent = EXPONENT_MOST;
        mantissa = mantissa_mask;
    }
    if (exponent == 0)
        exponent = 1; /* subnormal: no hidden bit */
    else
        mantissa |= mantissa_mask + 1;
    int at = exponent - 1075 - F8_EXACT_LOWEST; /* of the lowest bit */
    if (at < 0) {
        mantissa = at > -64 ? mantissa >> -at : 0;
        at = 0;
    }
    int shift = at % LIMB_BITS;
    int64_t *limb = to->limb + at / LIMB_BITS;
    int64_t low = (int64_t)(mantissa << shift) & limb_mask;
    int64_t middle = (int64_t)(mantissa >> (LIMB_BITS - shift)) & limb_mask;
    /* In two steps, since by 64 at once nothing may be shifted. */
    int64_t high = (int64_t)(mantissa >> LIMB_BITS >> (LIMB_BITS - shift));
    int64_t sign = -(int64_t)(bits >> 63); /* all ones: negate */
    limb[0] += (low ^ sign) - sign;
    limb[1] += (middle ^ sign) - sign;
    limb[2] += (high ^ sign) - sign;
}

void f8_exact_merge(f8_exact *to, const f8_exact *from)
{
    for (int i = 0; i < F8_EXACT_LIMBS; i++)
        to->limb[i] += from->limb[i];
}

/* All digits but the highest from 0 to 2^32 - 1. */
static void carry(f8_exact *sum)
{
    for (int i = 0; i + 1 < F8_EXACT_LIMBS; i++) {
        int64_t digit = sum->limb[i] & limb_mask;
        sum->limb[i + 1] += (sum->limb[i] - digit) / (limb_mask + 1);
        sum->limb[i] = digit;
    }
}

/* A sum has but one such form, so what is made of it depends on the sum. */
double f8_exact_value(const f8_exact *sum)
{
    f8_exact digits = *sum;
    double value = 0;

    carry(&digits);
    bool negative = digits.limb[F8_EXACT_LIMBS - 1] < 0;
    for (int i = 0; negative && i < F8_EXACT_LIMBS; i++)
        digits.limb[i] = -digits.limb[i];
    if (negative)
        carry(&digits);
    for (int i = F8_EXACT_LIMBS; i-- > 0;)
        value += ldexp((double)digits.limb[i], LIMB_BITS * i + F8_EXACT_LOWEST);
    return negative ? -value : value;
}
