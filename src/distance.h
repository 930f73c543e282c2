/* distance.h - how far numbers of one tensor are from those of another, of
 * whatever dtypes. Sums are kept to twice the precision of binary64, so that
 * they come out the same however a tensor was cut into pieces. */
#ifndef F8_DISTANCE_H
#define F8_DISTANCE_H

#include "os.h"

/* Elements that are summed in one go: 128 of a row of a matrix with scales, so
 * many of anything else. Pieces begin at multiples of it. */
enum { F8_RUN_ELEMS = 1024 };

/* high + low, where low is what high is too coarse for. */
typedef struct f8_wide {
    double high, low;
} f8_wide;

/* Of weights w and v. Where both are NaN or the same infinity there is no
 * difference; where else one of them is not finite the element is odd, and in
 * none of the sums. */
typedef struct f8_distance {
    f8_wide w2, e2, wv, v2; /* sums of w^2, (v - w)^2, w v, v^2 */
    double max_abs;         /* largest |v - w| */
    uint64_t differing;     /* elements with v != w, odd ones too */
    uint64_t odd;
} f8_distance;

/* Whether the elements are numbers of which differences make sense: floating
 * point of any width. */
bool f8_dtype_is_real(f8_dtype dtype);

/* n elements at `from`, in any alignment, exactly; dtype is real. */
void f8_numbers(const void *from, f8_dtype dtype, size_t n, double *to);
/* n codes of e4m3 times a scale, as engines compute it, in binary32. */
void f8_numbers_scaled(const uint8_t *codes, float scale, size_t n, double *to);

/* Adds at most F8_RUN_ELEMS elements. */
void f8_distance_run(f8_distance *distance, const double *w, const double *v,
                     size_t n);
void f8_distance_add(f8_distance *to, const f8_distance *from);

/* sqrt(e2 / w2), 0 without error, infinite when only w2 is 0; the same in
 * decibel, 10 log10(w2 / e2); wv / sqrt(w2 v2), 1 where both are all zero, 0
 * where one is. Of F64 beyond 1e150 they are NaN. */
double f8_distance_relative_rms(const f8_distance *distance);
double f8_distance_sqnr_db(const f8_distance *distance);
double f8_distance_cosine(const f8_distance *distance);

#endif
