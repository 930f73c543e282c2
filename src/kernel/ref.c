/* ref.c - the definition of correct as a table; its text is in plain.h. Also
 * the few scalar functions that other rooms use. */
#include "plain.h"

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

float f8_widen(const void *element, f8_dtype dtype)
{
    float out;
    widen_row(element, dtype, 1, &out);
    return out;
}

const f8_kernel f8_kernel_ref = {
    .name = "ref",
    .amax = amax_plain,
    .quantise = quantise_plain,
    .measure = measure_plain,
};
