/* words.h - codes as the upper halves of binary32, with the vector operations
 * v_... of shuffle.h's includer. */
#ifndef F8_KERNEL_WORDS_H
#define F8_KERNEL_WORDS_H

/* Words of VECTOR codes, in the order that unpacking makes words of, from what
 * their three low bits give for an exponent of zero and no sign: both are added
 * here. */
static inline void words_of(vi codes, vi low, vi high, vi *first, vi *second)
{
    vi octave_low = v_and(v_shl16(codes, 4), v_set8(0x80));
    vi octave_high = v_or(v_and(v_shr16(codes, 4), v_set8(0x07)),
                          v_and(codes, v_set8(0x80)));

    *first = v_add16(v_first(low, high), v_first(octave_low, octave_high));
    *second = v_add16(v_second(low, high), v_second(octave_low, octave_high));
}

#endif
