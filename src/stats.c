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

void f8_codes_add(f8_codes *to, const f8_codes *from)
{
    for (int i = 0; i < 4; i++)
        to->bits[i] |= from->bits[i];
}

bool f8_codes_all_normal(const f8_codes *seen)
{
    const uint64_t low = ~UINT64_C(0xff), high = ~(UINT64_C(1) << 63);

    return seen->bits[0] == low && seen->bits[1] == high &&
           seen->bits[2] == low && seen->bits[3] == high;
}

unsigned f8_codes_unused(const f8_codes *seen,
                         const uint64_t hist[F8_HIST_BINS])
{
    unsigned used = 0;

    for (int i = 0; i < 4; i++)
        used += (unsigned)__builtin_popcountll(seen->bits[i]);
    for (int i = 0; i < 2 * F8_SMALL_CODES; i++)
        used += hist[F8_HIST_SMALL + i] > 0;
    return 254 - used;
}

void f8_hist_add(uint64_t to[F8_HIST_BINS], const uint64_t from[F8_HIST_BINS])
{
    for (int i = 0; i < F8_HIST_BINS; i++)
        to[i] += from[i];
}

void f8_stats_add(f8_stats *to, const f8_stats *from)
{
    to->tensors += from->tensors;
    to->elems += from->elems;
    to->blocks += from->blocks;
    to->unmeasured_elems += from->unmeasured_elems;
    to->unmeasured_blocks += from->unmeasured_blocks;
    f8_sums_add(&to->sums, &from->sums);
    f8_hist_add(to->hist, from->hist);
    f8_codes_add(&to->seen, &from->seen);
}

/* ---- parts of a tensor --------------------------------------------------- */

/* The first of equals stays. */
static void note_worst(f8_finds *finds, double w2, double e2, f8_place place)
{
    /* Infinite where nothing but error is. */
    if (e2 > 0 &&
        (finds->worst_e2 == 0 || e2 / w2 > finds->worst_e2 / finds->worst_w2)) {
        finds->worst_w2 = w2;
        finds->worst_e2 = e2;
        finds->worst_at = place;
    }
}

void f8_finds_block(f8_finds *finds, const f8_sums *block, f8_place place)
{
    f8_exact_add(&finds->w2, block->w2);
    f8_exact_add(&finds->e2, block->e2);
    f8_exact_add(&finds->wv, block->wv);
    f8_exact_add(&finds->v2, block->v2);
    note_worst(finds, block->w2, block->e2, place);
}

void f8_finds_add(f8_finds *to, const f8_finds *from, f8_place place)
{
    f8_place worst_at = {place.row + from->worst_at.row,
                         place.col + from->worst_at.col};

    f8_exact_merge(&to->w2, &from->w2);
    f8_exact_merge(&to->e2, &from->e2);
    f8_exact_merge(&to->wv, &from->wv);
    f8_exact_merge(&to->v2, &from->v2);
    note_worst(to, from->worst_w2, from->worst_e2, worst_at);
    if (from->max_abs > to->max_abs) {
        to->max_abs = from->max_abs;
        to->max_at = (f8_place){place.row + from->max_at.row,
                                place.col + from->max_at.col};
    }
    f8_codes_add(&to->seen, &from->seen);
    to->unmeasured_elems += from->unmeasured_elems;
    to->unmeasured_blocks += from->unmeasured_blocks;
}

void f8_finds_sums(const f8_finds *finds, f8_sums *sums)
{
    sums->w2 = f8_exact_value(&finds->w2);
    sums->e2 = f8_exact_value(&finds->e2);
    sums->wv = f8_exact_value(&finds->wv);
    sums->v2 = f8_exact_value(&finds->v2);
    sums->max_abs = finds->max_abs;
}

/* ---- quantiles ----------------------------------------------------------- */

double f8_hist_edge(int i)
{
    if (i < F8_HIST_COARSE)
        return (double)(i - F8_HIST_LINEAR) / F8_HIST_STEPS_PER_UNIT;
    int n = i - F8_HIST_COARSE;
    double mantissa =
        1 + (double)(n % F8_HIST_COARSE_PER_OCTAVE) / F8_HIST_COARSE_PER_OCTAVE;
    return ldexp(mantissa,
                 F8_HIST_COARSE_EXPONENT + n / F8_HIST_COARSE_PER_OCTAVE);
}

double f8_hist_quantile(const uint64_t hist[F8_HIST_BINS], double share)
{
    uint64_t total = 0, before = 0;

    for (int i = F8_HIST_EXACT; i <= F8_HIST_ABOVE; i++)
        total += hist[i];
    if (total == 0)
        return NAN;
    double wanted = (double)total * share;
    int i = F8_HIST_EXACT;
    while ((double)(before + hist[i]) < wanted)
        before += hist[i++];
    if (i == F8_HIST_EXACT) /* so many weights are */
        return 0;
    double low = f8_hist_edge(i);
    if (i == F8_HIST_ABOVE)
        return low;
    double part = (wanted - (double)before) / (double)hist[i];
    return low + part * (f8_hist_edge(i + 1) - low);
}

double f8_hist_median(const uint64_t hist[F8_HIST_BINS])
{
    return f8_hist_quantile(hist, 0.5);
}

double f8_hist_p999(const uint64_t hist[F8_HIST_BINS])
{
    return f8_hist_quantile(hist, 0.999);
}

/* ---- the public form ----------------------------------------------------- */

/* Rounding may take it over the ends of its range. */
static double cosine_of(const f8_sums *s)
{
    if (s->w2 == 0 && s->v2 == 0)
        return 1; /* nothing differs */
    if (s->w2 == 0 || s->v2 == 0)
        return 0;
    return fmax(-1, fmin(1, s->wv / sqrt(s->w2) / sqrt(s->v2)));
}

void f8_stats_finish(const f8_stats *stats, const char *name,
                     f8_error_stats *out)
{
    const f8_sums *s = &stats->sums;
    bool is_known = stats->blocks > 0 || stats->unmeasured_blocks == 0;

    memset(out, 0, sizeof *out);
    out->name = name;
    out->tensors = stats->tensors;
    out->elems = stats->elems;
    out->blocks = stats->blocks;
    out->unmeasured_elems = stats->unmeasured_elems;
    out->unmeasured_blocks = stats->unmeasured_blocks;
    out->zeros = stats->hist[F8_HIST_ZERO];
    out->median_relative_error = f8_hist_median(stats->hist);
    out->p999_relative_error = f8_hist_p999(stats->hist);
    if (is_known) {
        out->relative_rms = f8_sums_relative_rms(s);
        out->sqnr_db = s->e2 == 0 ? INFINITY : 10 * log10(s->w2 / s->e2);
        out->cosine = cosine_of(s);
        out->max_abs_error = s->max_abs;
    } else {
        out->relative_rms = out->sqnr_db = NAN;
        out->cosine = out->max_abs_error = NAN;
    }
    out->saturated = stats->hist[F8_HIST_SATURATED];
    out->became_zero = stats->hist[F8_HIST_BECAME_ZERO];
    out->codes_unused = f8_codes_unused(&stats->seen, stats->hist);
}
