/* stats.c - round-trip error statistics: merge and derive. See stats.h. */
#include "stats.h"

#include <math.h>
#include <string.h>

void f8_sums_add(f8_sums *to, const f8_sums *from)
{
    to->w2 += from->w2;
    to->e2 += from->e2;
    to->wv += from->wv;
    to->v2 += from->v2;
    if (from->max_abs > to->max_abs)
        to->max_abs = from->max_abs;
}

double f8_sums_relative_rms(const f8_sums *sums)
{
    return sums->e2 == 0 ? 0 : sqrt(sums->e2 / sums->w2);
}

void f8_stats_add(f8_stats *to, const f8_stats *from)
{
    to->tensors += from->tensors;
    to->elems += from->elems;
    to->blocks += from->blocks;
    f8_sums_add(&to->sums, &from->sums);
    for (int i = 0; i < F8_HIST_BINS; i++)
        to->hist[i] += from->hist[i];
}

/* Lower edge of bin i; of F8_HIST_ABOVE too, which is the last one's end. */
static double edge(int i)
{
    if (i < F8_HIST_COARSE)
        return (double)(i - F8_HIST_LINEAR) / F8_HIST_STEPS_PER_UNIT;
    int n = i - F8_HIST_COARSE;
    double mantissa =
        1 + (double)(n % F8_HIST_COARSE_PER_OCTAVE) / F8_HIST_COARSE_PER_OCTAVE;
    return ldexp(mantissa,
                 F8_HIST_COARSE_EXPONENT + n / F8_HIST_COARSE_PER_OCTAVE);
}

double f8_hist_median(const uint64_t hist[F8_HIST_BINS])
{
    uint64_t total = 0, before = 0;

    for (int i = F8_HIST_EXACT; i <= F8_HIST_ABOVE; i++)
        total += hist[i];
    if (total == 0)
        return NAN;
    double half = (double)total / 2;
    int i = F8_HIST_EXACT;
    while ((double)(before + hist[i]) < half)
        before += hist[i++];
    if (i == F8_HIST_EXACT) /* at least half the weights are */
        return 0;
    double low = edge(i);
    if (i == F8_HIST_ABOVE)
        return low;
    double share = (half - (double)before) / (double)hist[i];
    return low + share * (edge(i + 1) - low);
}

void f8_stats_finish(const f8_stats *stats, const char *name,
                     f8_error_stats *out)
{
    const f8_sums *s = &stats->sums;

    memset(out, 0, sizeof *out);
    out->name = name;
    out->tensors = stats->tensors;
    out->elems = stats->elems;
    out->blocks = stats->blocks;
    out->zeros = stats->hist[F8_HIST_ZERO];
    out->median_relative_error = f8_hist_median(stats->hist);
    out->relative_rms = f8_sums_relative_rms(s);
    out->sqnr_db = s->e2 == 0 ? INFINITY : 10 * log10(s->w2 / s->e2);
    if (s->w2 == 0 && s->v2 == 0)
        out->cosine = 1; /* nothing differs */
    else if (s->w2 == 0 || s->v2 == 0)
        out->cosine = 0;
    else
        out->cosine = s->wv / sqrt(s->w2) / sqrt(s->v2);
    out->max_abs_error = s->max_abs;
}
