/* stats.h - round-trip error: what is counted, merged and derived. Fixed
 * size whatever the tensor. Counts are integers and may be added in any
 * order; sums are binary64 and must be added in plan order, so that the same
 * input prints the same figures for any number of threads. */
#ifndef F8_STATS_H
#define F8_STATS_H

#include "os.h"

/* Histogram of |v - w| / |w|: exact weights, then steps of 2^-12 up to 2^-4,
 * then 64 bins an octave by the binary32 exponent and the top six bits of its
 * mantissa. A weight with a normal code is at most 1/17 off, half a step from
 * two codes of eight steps or more; larger errors are those of subnormal
 * codes, and 1 that of a weight that became zero. Around the usual median,
 * 0.0217, a bin is 1.1 % wide. */
enum {
    F8_HIST_EXACT = 0,
    F8_HIST_LINEAR = 1,
    F8_HIST_STEPS_PER_UNIT = 4096,
    F8_HIST_COARSE = F8_HIST_LINEAR + F8_HIST_STEPS_PER_UNIT / 16,
    F8_HIST_COARSE_EXPONENT = -4,
    F8_HIST_COARSE_PER_OCTAVE = 64,
    F8_HIST_COARSE_OCTAVES = 5, /* 2^-4 to 2^1 */
    F8_HIST_ABOVE =
        F8_HIST_COARSE + F8_HIST_COARSE_PER_OCTAVE * F8_HIST_COARSE_OCTAVES,
    F8_HIST_ZERO, /* w == 0: no relative error */
    F8_HIST_BINS
};

typedef struct f8_sums {
    double w2;      /* sum of w^2         */
    double e2;      /* sum of (v - w)^2   */
    double wv;      /* sum of w v         */
    double v2;      /* sum of v^2         */
    double max_abs; /* largest |v - w|    */
} f8_sums;

typedef struct f8_stats {
    uint64_t tensors, elems, blocks;
    f8_sums sums;
    uint64_t hist[F8_HIST_BINS];
} f8_stats;

void f8_sums_add(f8_sums *to, const f8_sums *from);
/* sqrt(e2 / w2), 0 when there is no error, infinite when only w2 is 0. */
double f8_sums_relative_rms(const f8_sums *sums);
void f8_stats_add(f8_stats *to, const f8_stats *from);
/* Median of the histogram, linear inside its bin; NaN when it is empty. */
double f8_hist_median(const uint64_t hist[F8_HIST_BINS]);
/* The public form; name is borrowed. */
void f8_stats_finish(const f8_stats *stats, const char *name,
                     f8_error_stats *out);

#endif
