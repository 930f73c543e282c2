/* ref.c - the definition of correct as a table; its text is in plain.h. Also
 * the few scalar functions that other rooms use. */
#include "again.h"
#include "finds.h"
#include "restore.h"
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

float f8_dequantise_one(uint8_t code, float scale, f8_dtype dtype)
{
    float value = decode(code) * scale;
    uint16_t half;

    if (dtype == F8_DTYPE_F32)
        return value;
    half = dtype == F8_DTYPE_BF16 ? narrow_bf16(value) : narrow_f16(value);
    return f8_widen(&half, dtype);
}

/* Element by element, without a table. */
static uint8_t dequantise_ref(const f8_code_block *block, float scale)
{
    uint8_t most = 0;

    for (unsigned r = 0; r < block->rows; r++) {
        unsigned char *to =
            (unsigned char *)block->values + r * block->values_stride;
        for (unsigned c = 0; c < block->cols; c++) {
            uint8_t code = block->codes[r * block->codes_stride + c];
            float value = decode(code) * scale;
            uint16_t half = block->dtype == F8_DTYPE_BF16 ? narrow_bf16(value)
                                                          : narrow_f16(value);
            if (block->dtype == F8_DTYPE_F32)
                memcpy(to + c * sizeof value, &value, sizeof value);
            else
                memcpy(to + c * sizeof half, &half, sizeof half);
            most = (code & 0x7f) > most ? (uint8_t)(code & 0x7f) : most;
        }
    }
    return most;
}

const f8_kernel f8_kernel_ref = {
    .name = "ref",
    .amax = amax_plain,
    .quantise = quantise_plain,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_plain,
    .dequantise = dequantise_ref,
    .see = see_plain,
    .locate = locate_plain,
};
