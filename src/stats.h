/* stats.h - round-trip error: what is counted, merged and derived. Fixed
 * size whatever the tensor. Counts are integers and may be added in any
 * order; sums are binary64 and must be added in plan order, so that the same
 * input prints the same figures for any number of threads. */
#ifndef F8_STATS_H
#define F8_STATS_H

#include "os.h"

/* Histogram of |v - w| / |w|, in steps of 2^-12 up to 2^-4.
 *
 * A weight with a normal code is at most 1/17 off: it was half a step from two
 * codes of eight steps or more. Below 1/32 the error of weights that know
 * nothing of the codes is uniform, and half of them are below ln 2 / 32 =
 * 0.0217 when the weights' logarithms are, near it for all usual shapes. So
 * bins are one step wide around there and wider elsewhere: 0 to 78 in
 * sixteens, 78 to 99 in ones, 99 to 256 in thirty-twos, and one bin for exact
 * weights. That leaves 32 bins for normal codes, few enough to be counted in
 * registers (kernel/vbmi.c). The median comes out to 0.01 % for F32 weights,
 * 0.25 % for bfloat16 ones, whose errors take only 128 values a block, and
 * 0.8 % where scales are powers of two besides. From 2^-4 on, bins are by the
 * binary32 exponent and the top four bits of its mantissa. */
enum {
    F8_HIST_EXACT = 0,
    F8_HIST_LOW = 1,
    F8_HIST_LOW_STEPS = 16,
    F8_HIST_FINE_FROM = 78, /* steps */
    F8_HIST_FINE = 6,
    F8_HIST_HIGH_FROM = 99, /* steps */
    F8_HIST_HIGH = F8_HIST_FINE + F8_HIST_HIGH_FROM - F8_HIST_FINE_FROM,
    F8_HIST_HIGH_STEPS = 32,
    F8_HIST_COARSE = F8_HIST_HIGH + 5,
    F8_HIST_STEPS_PER_UNIT = 4096,
    F8_HIST_COARSE_PER_OCTAVE = 16,
    F8_HIST_COARSE_OCTAVES = 5, /* 2^-4 to 2^1; a weight that is lost is 1 */
    F8_HIST_ABOVE =
        F8_HIST_COARSE + F8_HIST_COARSE_PER_OCTAVE * F8_HIST_COARSE_OCTAVES,
    F8_HIST_ZERO, /* w == 0: no relative error */
    F8_HIST_BINS
};
#define F8_HIST_COARSE_EXPONENT (-4)

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
