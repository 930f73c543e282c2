/* exact.h - sums of binary64 numbers without rounding, so that they are the
 * same in any order: a tensor's sum does not depend on how it was cut into
 * parts, which threads and memory decide. Fixed size. */
#ifndef F8_EXACT_H
#define F8_EXACT_H

#include "os.h"

/* Sums of squares of what binary32 can hold, and of products with codes, lie
 * well inside of 2^-448 to 2^383. Digits below are cut off, each number's by
 * itself, which no order changes. */
enum { F8_EXACT_LIMBS = 26, F8_EXACT_LOWEST = -448, F8_EXACT_TOP = 352 };

/* Digits of 32 bits, lowest first, of either sign: carries wait until the sum
 * is asked for, for which there is room for 2^30 numbers. */
typedef struct f8_exact {
    int64_t limb[F8_EXACT_LIMBS];
} f8_exact;

/* Whatever is not smaller than 2^F8_EXACT_TOP, an infinity or a NaN, counts as
 * the largest number that is, with its sign: sums are made of what others'
 * files hold, and stay numbers whatever that is. */
void f8_exact_add(f8_exact *to, double x);
void f8_exact_merge(f8_exact *to, const f8_exact *from);
/* The nearest binary64, or one of the two beside it. */
double f8_exact_value(const f8_exact *sum);

#endif
