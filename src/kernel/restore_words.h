/* restore_words.h - codes to bfloat16 where only tables of 16 bytes can be
 * looked up in registers: one text for AVX2, AVX-512 BW and NEON, with the
 * operations v_... of shuffle.h's includer.
 *
 * As long as all results are normal, rounding depends on a code's mantissa
 * alone, and its exponent is added to the result's: eight values for normal
 * codes, eight for subnormal ones. Other scales, other dtypes and ragged
 * edges take restore.h's way. */
#ifndef F8_KERNEL_RESTORE_WORDS_H
#define F8_KERNEL_RESTORE_WORDS_H

#include "restore.h"
#include "words.h"

/* The values of codes by their three low bits: of exponent 0 those from 8 on,
 * of any other those before, less the exponent. */
typedef struct word_tables {
    vi low, high;
} word_tables;

static inline void word_tables_begin(word_tables *t, float scale)
{
    uint8_t low[16], high[16];

    for (uint32_t i = 0; i < 16; i++) {
        /* 8 + i is a code of exponent 1, and one of them is 2^7 in a word. */
        uint32_t code = i < 8 ? 8 + i : i - 8;
        uint32_t word = narrow_bf16(decode(code) * scale);
        word -= i < 8 ? 0x80u : 0u;
        low[i] = (uint8_t)word;
        high[i] = (uint8_t)(word >> 8);
    }
    t->low = v_table(low);
    t->high = v_table(high);
}

/* Puts the values of VECTOR codes at `to`. */
static inline void restore_vector(vi codes, const word_tables *t, uint8_t *to)
{
    vi a = v_and(codes, v_set8(0x7f));
    vi small = v_and(v_more8(v_set8(8), a), v_set8(8));
    vi index = v_or(v_and(codes, v_set8(7)), small), first, second;

    words_of(codes, v_look(t->low, index), v_look(t->high, index), &first,
             &second);
    v_store(to, first);
    v_store(to + VECTOR, second);
}

static inline uint8_t dequantise_words(const f8_code_block *block, float scale)
{
    word_tables t;
    vi top = v_set8(0);
    uint8_t lane[VECTOR], most = 0;

    /* 2^-9 is the least code that is not zero, and none is as large as 2^9. */
    if (block->dtype != F8_DTYPE_BF16 || block->cols != F8_BLOCK ||
        !(scale >= 0x1p-117f && scale <= 0x1p118f))
        return dequantise_plain(block, scale);
    word_tables_begin(&t, scale);
    for (unsigned r = 0; r < block->rows; r++) {
        const uint8_t *codes = block->codes + r * block->codes_stride;
        uint8_t *to = (uint8_t *)block->values + r * block->values_stride;
        for (unsigned i = 0; i < F8_BLOCK; i += VECTOR) {
            vi some = v_load(codes + i);
            top = v_max8(top, v_and(some, v_set8(0x7f)));
            restore_vector(v_apart(some), &t, to + sizeof(uint16_t) * i);
        }
    }
    v_store(lane, top);
    for (unsigned i = 0; i < VECTOR; i++)
        most = lane[i] > most ? lane[i] : most;
    return most;
}

#endif
