/* stats.h - round-trip error: what is counted, merged and derived. Fixed
 * size whatever the tensor. Counts are integers and may be added in any
 * order; sums are binary64 and must be added in plan order, so that the same
 * input prints the same figures for any number of threads. */
#ifndef F8_STATS_H
#define F8_STATS_H

#include "os.h"

/* Histogram of |v - w| / |w|, by the binary32 exponent and the top six bits of
 * its mantissa: 64 bins an octave, 1 to 1.6 % wide. Octaves 2^-16 to 2^0 are
 * told apart; e4m3's error lies between 2^-11 and 2^-4 for normal codes and
 * reaches 1 where a weight becomes zero. */
enum {
    F8_HIST_PER_OCTAVE = 64,
    F8_HIST_OCTAVES = 17,
    F8_HIST_BELOW = 0, /* smaller than 2^-16, exact ones included */
    F8_HIST_FIRST = 1,
    F8_HIST_ABOVE = F8_HIST_FIRST + F8_HIST_PER_OCTAVE * F8_HIST_OCTAVES,
    F8_HIST_ZERO, /* w == 0: no relative error */
    F8_HIST_BINS
};
#define F8_HIST_LOWEST_EXPONENT (-16)

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
