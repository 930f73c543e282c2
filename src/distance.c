/* distance.c - differences of numbers, summed. See distance.h. */
#include "distance.h"

#include "kernel/numbers.h"

/* ---- numbers ------------------------------------------------------------- */

bool f8_dtype_is_real(f8_dtype dtype)
{
    return dtype == F8_DTYPE_F64 || dtype == F8_DTYPE_F32 ||
           dtype == F8_DTYPE_BF16 || dtype == F8_DTYPE_F16 ||
           dtype == F8_DTYPE_E4M3 || dtype == F8_DTYPE_E5M2 ||
           dtype == F8_DTYPE_E8M0;
}

/* decode() takes 0x7f for 480. */
static float e4m3_value(uint8_t code)
{
    return (code & 0x7f) == 0x7f ? NAN : decode(code);
}

static double e8m0_value(uint8_t code)
{
    return code == 0xff ? (double)NAN : ldexp(1, code - 127);
}

void f8_numbers(const void *from, f8_dtype dtype, size_t n, double *to)
{
    const uint8_t *at = from;
    uint16_t half[F8_RUN_ELEMS];
    float single[F8_RUN_ELEMS];

    if (dtype == F8_DTYPE_BF16 || dtype == F8_DTYPE_F16)
        memcpy(half, from, n * sizeof *half);
    if (dtype == F8_DTYPE_F64)
        memcpy(to, from, n * sizeof *to);
    else if (dtype == F8_DTYPE_F32)
        memcpy(single, from, n * sizeof *single);
    for (size_t i = 0; dtype == F8_DTYPE_F32 && i < n; i++)
        to[i] = (double)single[i];
    for (size_t i = 0; dtype == F8_DTYPE_BF16 && i < n; i++)
        to[i] = (double)from_bits((uint32_t)half[i] << 16);
    for (size_t i = 0; dtype == F8_DTYPE_F16 && i < n; i++)
        to[i] = (double)widen_f16(half[i]);
    for (size_t i = 0; dtype == F8_DTYPE_E4M3 && i < n; i++)
        to[i] = (double)e4m3_value(at[i]);
    /* The upper half of a binary16. */
    for (size_t i = 0; dtype == F8_DTYPE_E5M2 && i < n; i++)
        to[i] = (double)widen_f16((uint16_t)(at[i] << 8));
    for (size_t i = 0; dtype == F8_DTYPE_E8M0 && i < n; i++)
        to[i] = e8m0_value(at[i]);
}

void f8_numbers_scaled(const uint8_t *codes, float scale, size_t n, double *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (double)(e4m3_value(codes[i]) * scale);
}

/* ---- sums ---------------------------------------------------------------- */

/* The rounding error of a sum is itself a number (Knuth, "The Art of Computer
 * Programming", volume 2, 4.2.2, theorem B). */
static void add_wide(f8_wide *to, double more)
{
    double sum = to->high + more;
    double part = sum - to->high;
    double error = (to->high - (sum - part)) + (more - part);

    to->high = sum;
    if (isfinite(sum)) /* else there is no error to speak of */
        to->low += error;
}

static double wide_value(const f8_wide *wide)
{
    return isfinite(wide->high) ? wide->high + wide->low : wide->high;
}

/* Two sums side by side, as all CPUs have them, and two of those in turn: as
 * many as registers hold. */
enum { LANES = 2, TURNS = 2, STRIDE = LANES * TURNS };
typedef double lane_doubles __attribute__((vector_size(8 * LANES)));
typedef int64_t lane_counts __attribute__((vector_size(8 * LANES)));

typedef struct lanes {
    lane_doubles w2, e2, wv, v2;
    lane_counts most; /* the bits of doubles */
    lane_counts differing;
} lanes;

static inline void sum_lanes(lanes *sums, const double *w_at,
                             const double *v_at)
{
    lane_doubles w, v;

    memcpy(&w, w_at, sizeof w);
    memcpy(&v, v_at, sizeof v);
    lane_doubles e = v - w;
    /* Without the sign; vectors have no fabs() and no choice but by bits. */
    lane_counts magnitude = (lane_counts)e & INT64_MAX;
    lane_counts larger = (lane_doubles)magnitude > (lane_doubles)sums->most;
    sums->w2 += w * w;
    sums->e2 += e * e;
    sums->wv += w * v;
    sums->v2 += v * v;
    sums->most = (magnitude & larger) | (sums->most & ~larger);
    sums->differing -= v != w; /* -1 where it is true */
}

static double across(const lane_doubles *lane)
{
    double sum = 0;

    for (int k = 0; k < LANES; k++)
        sum += (*lane)[k];
    return sum;
}

static void add_lanes(lanes *to, const lanes *from)
{
    lane_counts larger = (lane_doubles)from->most > (lane_doubles)to->most;

    to->w2 += from->w2;
    to->e2 += from->e2;
    to->wv += from->wv;
    to->v2 += from->v2;
    to->most = (from->most & larger) | (to->most & ~larger);
    to->differing += from->differing;
}

static lanes sum_run(const double *w, const double *v, size_t n)
{
    double tail[2][STRIDE] = {{0}};
    lanes even = {0}, odd = {0};
    size_t i = 0;

    for (; i + STRIDE <= n; i += STRIDE) {
        sum_lanes(&even, w + i, v + i);
        sum_lanes(&odd, w + i + LANES, v + i + LANES);
    }
    if (i < n) {
        memcpy(tail[0], w + i, (n - i) * sizeof *w);
        memcpy(tail[1], v + i, (n - i) * sizeof *v);
        sum_lanes(&even, tail[0], tail[1]);
        sum_lanes(&odd, tail[0] + LANES, tail[1] + LANES);
    }
    add_lanes(&even, &odd);
    return even;
}

/* Sets to zero what is in no sum. */
static void take_out(double *w, double *v, size_t n, f8_distance *distance)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(w[i]) && isfinite(v[i]))
            continue;
        bool same = w[i] == v[i] || (isnan(w[i]) && isnan(v[i]));
        distance->odd += !same;
        distance->differing += !same;
        w[i] = v[i] = 0;
    }
}

void f8_distance_run(f8_distance *distance, const double *w, const double *v,
                     size_t n)
{
    double own[2][F8_RUN_ELEMS];
    lanes sums = sum_run(w, v, n);

    /* A sum is not finite when an element is not, or a square is too large. */
    if (!isfinite(across(&sums.w2) + across(&sums.v2))) {
        memcpy(own[0], w, n * sizeof *w);
        memcpy(own[1], v, n * sizeof *v);
        take_out(own[0], own[1], n, distance);
        sums = sum_run(own[0], own[1], n);
    }
    add_wide(&distance->w2, across(&sums.w2));
    add_wide(&distance->e2, across(&sums.e2));
    add_wide(&distance->wv, across(&sums.wv));
    add_wide(&distance->v2, across(&sums.v2));
    for (int k = 0; k < LANES; k++) {
        double most = ((lane_doubles)sums.most)[k];
        distance->differing += (uint64_t)sums.differing[k];
        if (most > distance->max_abs)
            distance->max_abs = most;
    }
}

static void merge_wide(f8_wide *to, const f8_wide *from)
{
    add_wide(to, from->high);
    to->low += from->low;
}

void f8_distance_add(f8_distance *to, const f8_distance *from)
{
    merge_wide(&to->w2, &from->w2);
    merge_wide(&to->e2, &from->e2);
    merge_wide(&to->wv, &from->wv);
    merge_wide(&to->v2, &from->v2);
    to->differing += from->differing;
    to->odd += from->odd;
    if (from->max_abs > to->max_abs)
        to->max_abs = from->max_abs;
}

/* ---- what they come to --------------------------------------------------- */

double f8_distance_relative_rms(const f8_distance *distance)
{
    double e2 = wide_value(&distance->e2);

    return e2 == 0 ? 0 : sqrt(e2 / wide_value(&distance->w2));
}

double f8_distance_sqnr_db(const f8_distance *distance)
{
    double e2 = wide_value(&distance->e2);

    return e2 == 0 ? (double)INFINITY
                   : 10 * log10(wide_value(&distance->w2) / e2);
}

double f8_distance_cosine(const f8_distance *distance)
{
    double w2 = wide_value(&distance->w2), v2 = wide_value(&distance->v2);

    if (w2 == 0 && v2 == 0)
        return 1;
    if (w2 == 0 || v2 == 0)
        return 0;
    return wide_value(&distance->wv) / sqrt(w2) / sqrt(v2);
}
