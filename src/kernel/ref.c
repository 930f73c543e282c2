/* ref.c - the definition of correct as a table; its text is in plain.h. Also
 * the few scalar functions that other rooms use. */
#include "finds.h"
#include "search.h"

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

void f8_scale_squares_fill(f8_scale_squares *squares)
{
    for (int w = 0; w < F8_MANTISSAS; w++) {
        for (int s = 0; s < F8_MANTISSAS; s++)
            squares->of[w][s] = normal_square(w, s);
    }
}

const f8_kernel f8_kernel_ref = {
    .name = "ref",
    .amax = amax_plain,
    .quantise = quantise_plain,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_again,
    .see = see_plain,
    .locate = locate_plain,
};
