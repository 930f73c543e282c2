/* stats.h - round-trip error: what is counted, merged and derived. Fixed
 * size whatever the tensor. Counts are integers and may be added in any
 * order; sums are binary64 and must be added in plan order, so that the same
 * input prints the same figures for any number of threads. */
#ifndef F8_STATS_H
#define F8_STATS_H

#include "exact.h"

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
    /* Behind them what else is counted, of weights that have a bin already. */
    F8_HIST_SATURATED,   /* |w / scale| > 448 */
    F8_HIST_BECAME_ZERO, /* w != 0, v == 0 */
    F8_HIST_SMALL,       /* by code, zeros and subnormals: sign, then 0 to 7 */
    F8_SMALL_CODES = 8,  /* of each sign */
    F8_HIST_BINS = F8_HIST_SMALL + 2 * F8_SMALL_CODES
};

typedef struct f8_sums {
    double w2;      /* sum of w^2         */
    double e2;      /* sum of (v - w)^2   */
    double wv;      /* sum of w v         */
    double v2;      /* sum of v^2         */
    double max_abs; /* largest |v - w|    */
} f8_sums;

/* A set of codes, a bit each. Only normal ones are put into it: the histogram
 * counts the others. */
typedef struct f8_codes {
    uint64_t bits[4];
} f8_codes;

/* elems and blocks are those that were measured, and all the rest is of them;
 * those that were not are counted apart. */
typedef struct f8_stats {
    uint64_t tensors, elems, blocks;
    uint64_t unmeasured_elems, unmeasured_blocks;
    f8_sums sums;
    uint64_t hist[F8_HIST_BINS];
    f8_codes seen;
} f8_stats;

typedef struct f8_place {
    uint64_t row, col;
} f8_place;

/* What is measured of a tensor, or part of it, beside its histogram. Sums are
 * exact and places are the first in order of blocks, so that it is the same
 * however the tensor was cut into parts, as long as these are added in order.
 */
typedef struct f8_finds {
    f8_exact w2, e2, wv, v2; /* as in f8_sums */
    double max_abs;
    f8_place max_at;           /* where max_abs is, when it is not 0 */
    double worst_w2, worst_e2; /* of the block with the largest relative RMS */
    f8_place worst_at;         /* its first weight, when worst_e2 is not 0 */
    f8_codes seen;
    /* Only verify meets such blocks, so that the journal need not keep them. */
    uint64_t unmeasured_elems, unmeasured_blocks;
} f8_finds;

void f8_sums_add(f8_sums *to, const f8_sums *from);
/* sqrt(e2 / w2), 0 when there is no error, infinite when only w2 is 0. */
double f8_sums_relative_rms(const f8_sums *sums);
void f8_hist_add(uint64_t to[F8_HIST_BINS], const uint64_t from[F8_HIST_BINS]);
void f8_stats_add(f8_stats *to, const f8_stats *from);
/* Adds a block of a tensor, the largest error apart; place is its first
 * weight's. */
void f8_finds_block(f8_finds *finds, const f8_sums *block, f8_place place);
/* Adds a later part that begins at `place`. */
void f8_finds_add(f8_finds *to, const f8_finds *from, f8_place place);
void f8_finds_sums(const f8_finds *finds, f8_sums *sums);
bool f8_codes_all_normal(const f8_codes *seen);
void f8_codes_add(f8_codes *to, const f8_codes *from);
/* Of the 254 finite codes, those that were not seen. */
unsigned f8_codes_unused(const f8_codes *seen,
                         const uint64_t hist[F8_HIST_BINS]);
/* The error below which a share of all with one lies, linear inside its bin;
 * NaN when the histogram is empty. */
double f8_hist_quantile(const uint64_t hist[F8_HIST_BINS], double share);
double f8_hist_median(const uint64_t hist[F8_HIST_BINS]);
double f8_hist_p999(const uint64_t hist[F8_HIST_BINS]);
/* Lower edge of bin i from F8_HIST_LINEAR to F8_HIST_ABOVE, whose lower edge is
 * the upper one of the last with two. */
double f8_hist_edge(int i);
/* The public form; name is borrowed. */
void f8_stats_finish(const f8_stats *stats, const char *name,
                     f8_error_stats *out);

#endif
