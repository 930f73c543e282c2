/* dequant.c - codes and scales back to values. See dequant.h; the arithmetic
 * of a block is the kernel's. */
#include "dequant.h"

#include <math.h>

/* Whether the value of a code, or of any smaller one, is finite. */
static bool is_finite(uint8_t code, float scale, f8_dtype dtype)
{
    return isfinite(f8_dequantise_one(code, scale, dtype));
}

/* The first code of a block that has the fault. */
static void find_code(const f8_code_block *block, f8_code_fault fault,
                      f8_code_spot *spot)
{
    for (unsigned r = 0; r < block->rows; r++) {
        for (unsigned c = 0; c < block->cols; c++) {
            uint8_t code = block->codes[r * block->codes_stride + c];
            uint8_t a = code & 0x7f;
            bool hit = fault == F8_CODES_NAN ? a == 0x7f
                       : fault == F8_CODES_ZERO_SCALE
                           ? a != 0
                           : !is_finite(code, spot->scale, block->dtype);
            if (!hit)
                continue;
            spot->row += r;
            spot->col += c;
            spot->code = code;
            spot->value = (double)f8_e4m3_decode(code) * (double)spot->scale;
            return;
        }
    }
}

/* A block that is restored already: `most` is its largest code. */
static f8_code_fault judge(const f8_code_block *block, uint8_t most,
                           f8_code_spot *spot)
{
    f8_code_fault fault = F8_CODES_FINE;

    if (most == 0x7f)
        fault = F8_CODES_NAN;
    else if (spot->scale == 0 && most > 0)
        fault = F8_CODES_ZERO_SCALE;
    else if (!is_finite(most, spot->scale, block->dtype))
        fault = F8_CODES_TOO_LARGE;
    if (fault != F8_CODES_FINE)
        find_code(block, fault, spot);
    return fault;
}

f8_code_fault f8_panel_dequantise(const f8_kernel *kernel,
                                  const f8_code_panel *p, f8_code_spot *spot)
{
    size_t elem_bytes = f8_dtype_bytes(p->dtype);
    size_t scale_bytes = f8_dtype_bytes(f8_scale_storage(p->scale_dtype));
    const uint8_t *scale = p->scales;

    for (uint64_t row = 0; row < p->rows; row += F8_BLOCK) {
        for (uint64_t col = 0; col < p->cols; col += F8_BLOCK) {
            uint64_t rows = p->rows - row, cols = p->cols - col;
            f8_code_block block = {
                .codes = p->codes + row * p->codes_stride + col,
                .codes_stride = p->codes_stride,
                .values = (char *)p->values + row * p->values_stride +
                          col * elem_bytes,
                .values_stride = p->values_stride,
                .dtype = p->dtype,
                .rows = (unsigned)(rows < F8_BLOCK ? rows : F8_BLOCK),
                .cols = (unsigned)(cols < F8_BLOCK ? cols : F8_BLOCK)};
            *spot = (f8_code_spot){row, col,
                                   f8_scale_load(scale, p->scale_dtype), 0, 0};
            scale += scale_bytes;
            /* -0 too, for which values would have the other sign. */
            if (!isfinite(spot->scale) || signbit(spot->scale))
                return F8_CODES_BAD_SCALE;
            uint8_t most = kernel->dequantise(&block, spot->scale);
            f8_code_fault fault = judge(&block, most, spot);
            if (fault != F8_CODES_FINE)
                return fault;
        }
    }
    return F8_CODES_FINE;
}
