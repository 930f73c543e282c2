/* restore.h - from codes and a scale to values, the way back of plain.h. All
 * values of a block depend on 256 codes, so they stand in a table, and that
 * is filled by the definition: value = f32(code) * scale in binary32, rounded
 * to nearest even. */
#ifndef F8_KERNEL_RESTORE_H
#define F8_KERNEL_RESTORE_H

#include "numbers.h"

enum { CODES = 256, CODE_SIGN = 0x80 };

/* The values of all codes, of which those of one sign suffice to be reckoned.
 * NaN codes have some value that nobody uses. */
static inline void values_of_codes(float scale, float *values)
{
    for (uint32_t i = 0; i < CODE_SIGN; i++)
        values[i] = decode(i) * scale;
    for (uint32_t i = 0; i < CODE_SIGN; i++)
        values[CODE_SIGN + i] = from_bits(bits_of(values[i]) | 0x80000000u);
}

/* The same as BF16 or F16. */
static inline void halves_of_codes(float scale, f8_dtype dtype,
                                   uint16_t *halves)
{
    float values[CODES];

    values_of_codes(scale, values);
    if (dtype == F8_DTYPE_BF16) {
        for (unsigned i = 0; i < CODES; i++)
            halves[i] = narrow_bf16(values[i]);
    } else {
        for (unsigned i = 0; i < CODES; i++)
            halves[i] = narrow_f16(values[i]);
    }
}

/* The largest code of a block, without its sign. */
static inline uint8_t largest_code(const f8_code_block *block)
{
    uint8_t top[F8_BLOCK] = {0}, most = 0;

    for (unsigned r = 0; r < block->rows; r++) {
        const uint8_t *codes = block->codes + r * block->codes_stride;
        for (unsigned i = 0; i < block->cols; i++) {
            uint8_t a = codes[i] & 0x7f;
            top[i] = a > top[i] ? a : top[i];
        }
    }
    for (unsigned i = 0; i < block->cols; i++)
        most = top[i] > most ? top[i] : most;
    return most;
}

/* Puts an entry of the table for each code; `bytes` is a constant wherever
 * this is compiled, so that a copy is one store. */
__attribute__((always_inline)) static inline void restore_by(
    const f8_code_block *block, const void *table, size_t bytes)
{
    const unsigned char *from = table;

    for (unsigned r = 0; r < block->rows; r++) {
        const uint8_t *codes = block->codes + r * block->codes_stride;
        unsigned char *to =
            (unsigned char *)block->values + r * block->values_stride;
        for (unsigned i = 0; i < block->cols; i++)
            memcpy(to + i * bytes, from + codes[i] * bytes, bytes);
    }
}

static inline uint8_t dequantise_plain(const f8_code_block *block, float scale)
{
    float values[CODES];
    uint16_t halves[CODES];

    if (block->dtype == F8_DTYPE_F32) {
        values_of_codes(scale, values);
        restore_by(block, values, sizeof *values);
    } else {
        halves_of_codes(scale, block->dtype, halves);
        restore_by(block, halves, sizeof *halves);
    }
    return largest_code(block);
}

#endif
