/* test_stats.c - figures derived from sums and histograms, worked out by
 * hand. The bins of the histogram are described in stats.h: steps of 2^-12 up
 * to 2^-4, then 64 an octave. */
#include "helpers.h"

#include <math.h>

#include "stats.h"

/* The bin from `step` steps of 2^-12 to one more. */
static int fine(int step)
{
    return F8_HIST_LINEAR + step;
}

/* The bin whose lower edge is 2^exponent * (1 + part / 64). */
static int coarse(int exponent, int part)
{
    return F8_HIST_COARSE + (exponent + 4) * 64 + part;
}

static void expect_close(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12 * fabs(expected)))
        fail_msg("got %.17g, expected %.17g", value, expected);
}

/* ---- the median ---------------------------------------------------------- */

static void test_empty_histogram(void **state)
{
    uint64_t hist[F8_HIST_BINS] = {0};

    (void)state;
    assert_true(isnan(f8_hist_median(hist)));
    /* Weights that are zero have no relative error, so they do not count. */
    hist[F8_HIST_ZERO] = 1000;
    assert_true(isnan(f8_hist_median(hist)));
}

static void test_median_inside_a_bin(void **state)
{
    uint64_t hist[F8_HIST_BINS] = {0};

    (void)state;
    /* From 88 to 89 steps; half of what is there is half of the bin. */
    hist[fine(88)] = 4;
    expect_close(f8_hist_median(hist), 88.5 / 4096);
    hist[F8_HIST_ZERO] = 77;
    expect_close(f8_hist_median(hist), 88.5 / 4096);
    /* One before, three in the bin from 131 to 132 steps: half, 2, is a third
     * of the way. */
    memset(hist, 0, sizeof hist);
    hist[fine(80)] = 1;
    hist[fine(131)] = 3;
    expect_close(f8_hist_median(hist), (131 + 1.0 / 3) / 4096);
    /* Three before and one in the bin behind: two thirds of the first. */
    hist[fine(80)] = 3;
    hist[fine(131)] = 1;
    expect_close(f8_hist_median(hist), (80 + 2.0 / 3) / 4096);
}

static void test_median_between_bins(void **state)
{
    uint64_t hist[F8_HIST_BINS] = {0};

    (void)state;
    /* Half of all lie below the upper edge of the first bin. */
    hist[fine(81)] = 2;
    hist[coarse(-1, 0)] = 2;
    expect_close(f8_hist_median(hist), 82.0 / 4096);
    /* The last of these bins ends where octaves begin, at 256 steps. */
    memset(hist, 0, sizeof hist);
    hist[fine(255)] = 2;
    expect_close(f8_hist_median(hist), 255.5 / 4096);
    hist[coarse(-1, 0)] = 2;
    expect_close(f8_hist_median(hist), 0.0625);
    /* And so does the last of an octave. */
    memset(hist, 0, sizeof hist);
    hist[coarse(-3, 63)] = 2;
    expect_close(f8_hist_median(hist), 0.125 * (1 + 63.5 / 64));
    hist[coarse(0, 0)] = 2;
    expect_close(f8_hist_median(hist), 0.25);
}

static void test_median_at_the_ends(void **state)
{
    uint64_t hist[F8_HIST_BINS] = {0};

    (void)state;
    /* Most weights exact: the median is 0. */
    hist[F8_HIST_EXACT] = 5;
    hist[fine(88)] = 4;
    assert_true(f8_hist_median(hist) == 0);
    /* The first and the last bin with two edges. */
    memset(hist, 0, sizeof hist);
    hist[F8_HIST_LINEAR] = 2;
    expect_close(f8_hist_median(hist), 0.5 / 4096);
    memset(hist, 0, sizeof hist);
    hist[F8_HIST_ABOVE - 1] = 2;
    expect_close(f8_hist_median(hist), 1 + 63.5 / 64);
    /* Behind it nothing is told apart: 5 octaves from 2^-4 end at 2. */
    memset(hist, 0, sizeof hist);
    hist[F8_HIST_ABOVE] = 2;
    expect_close(f8_hist_median(hist), 2);
    /* 1 exact, 256 steps, 5 octaves. */
    assert_int_equal(F8_HIST_ABOVE, 1 + 256 + 5 * 64);
}

static void test_p999(void **state)
{
    uint64_t hist[F8_HIST_BINS] = {0};

    (void)state;
    assert_true(isnan(f8_hist_p999(hist)));
    /* 998 exact, then 2: half of the way through their bin lie 999. */
    hist[F8_HIST_EXACT] = 998;
    hist[fine(200)] = 2;
    expect_close(f8_hist_p999(hist), 200.5 / 4096);
    /* What is counted beside the errors is none of them. */
    hist[F8_HIST_SATURATED] = hist[F8_HIST_BECAME_ZERO] = 5000;
    hist[F8_HIST_SMALL] = 5000;
    expect_close(f8_hist_p999(hist), 200.5 / 4096);
    hist[F8_HIST_EXACT] = 9999;
    assert_true(f8_hist_p999(hist) == 0);
}

/* ---- exact sums ---------------------------------------------------------- */

static double sum_of(const double *x, size_t n)
{
    f8_exact sum = {{0}};

    for (size_t i = 0; i < n; i++)
        f8_exact_add(&sum, x[i]);
    return f8_exact_value(&sum);
}

static void test_exact_sums(void **state)
{
    static const double gone[] = {0x1p200, 1, -0x1p200, 0x1p-300};
    static const double small[] = {-0x1.fffffffffffffp-340, 0x1p-340};
    static const double carry[] = {0x1.fffffffffffffp31, 0x1p-21, 0x1p31,
                                   -0x1p-100};
    static const double ends[] = {-3.5, 0x1p300, 0.25, -0x1p300, -0.0, 0};

    (void)state;
    assert_true(sum_of(NULL, 0) == 0);
    assert_true(sum_of(gone, 1) == 0x1p200);
    assert_true(sum_of(gone, 3) == 1);
    assert_true(sum_of(gone, 4) == 1); /* the nearest */
    assert_true(sum_of(small, 2) == -0x0.fffffffffffffp-340);
    assert_true(sum_of(carry, 3) == 0x1.8p32);
    assert_true(sum_of(ends, 6) == -3.25);
    /* Below the lowest digit, each number's are cut off by themselves. */
    assert_true(sum_of((double[]){0x1.8p-448, 0x1.8p-448}, 2) == 0x1p-447);
    assert_true(sum_of((double[]){4.9e-324}, 1) == 0);
}

/* Of what is too large nothing is known but that, and that a sum stays one. */
static void test_exact_sums_of_too_large_numbers(void **state)
{
    static const double most = 0x1.fffffffffffffp351;
    static const double large[] = {0x1p352, 1.7976931348623157e308, INFINITY,
                                   NAN};

    (void)state;
    assert_true(sum_of(&most, 1) == most);
    assert_true(sum_of((double[]){most, most}, 2) == 2 * most);
    for (size_t i = 0; i < COUNT_OF(large); i++) {
        double x = fabs(large[i]);
        assert_true(sum_of(&x, 1) == most);
        x = -x;
        assert_true(sum_of(&x, 1) == -most);
        assert_true(sum_of((double[]){3, x, -x}, 3) == 3);
    }
}

/* In any order, and in any parts. */
static void test_exact_sums_in_any_order(void **state)
{
    enum { N = 1000 };
    double x[N], first = 0;
    uint64_t seed = 1;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = ldexp((double)(int64_t)seed, (int)(seed >> 20 & 127) - 64);
    }
    for (unsigned round = 0; round < 20; round++) {
        f8_exact part[3] = {{{0}}};
        for (size_t i = 0; i < N; i++)
            f8_exact_add(&part[(i + round) % 3], x[i]);
        f8_exact_merge(&part[round % 3], &part[(round + 1) % 3]);
        f8_exact_merge(&part[round % 3], &part[(round + 2) % 3]);
        double sum = f8_exact_value(&part[round % 3]);
        if (round == 0)
            first = sum;
        assert_true(sum == first);
        for (size_t i = N - 1; i > 0; i--) {
            size_t k = (i * 7919 + round) % (i + 1);
            double other = x[i];
            x[i] = x[k];
            x[k] = other;
        }
    }
    long double check = 0;
    for (size_t i = 0; i < N; i++)
        check += x[i];
    assert_true(fabsl(check - first) <= 1e-12L * fabsl(check));
}

/* ---- what is found ------------------------------------------------------- */

static f8_finds part_with(double max_abs, uint64_t row, double w2, double e2)
{
    f8_finds part = {.max_abs = max_abs, .max_at = {row, 1}};

    f8_finds_block(&part, &(f8_sums){.w2 = w2, .e2 = e2}, (f8_place){0, 128});
    return part;
}

static void test_places(void **state)
{
    f8_finds all = {.max_abs = 0};
    f8_finds parts[] = {part_with(1, 5, 100, 1), part_with(3, 6, 100, 9),
                        part_with(3, 7, 100, 9), part_with(2, 8, 0, 0)};
    f8_sums sums;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        f8_finds_add(&all, &parts[i], (f8_place){i * 128, 256});
    /* Of equals the first; places are those of the whole. */
    assert_true(all.max_abs == 3);
    assert_int_equal(all.max_at.row, 128 + 6);
    assert_int_equal(all.max_at.col, 256 + 1);
    assert_true(all.worst_e2 == 9 && all.worst_w2 == 100);
    assert_int_equal(all.worst_at.row, 128);
    assert_int_equal(all.worst_at.col, 256 + 128);
    f8_finds_sums(&all, &sums);
    assert_true(sums.w2 == 300 && sums.e2 == 19 && sums.max_abs == 3);
    /* Nothing but error is the worst there is. */
    f8_finds_block(&all, &(f8_sums){.w2 = 0, .e2 = 1e-9}, (f8_place){384, 0});
    assert_int_equal(all.worst_at.row, 384);
    f8_finds_block(&all, &(f8_sums){.w2 = 1, .e2 = 1e9}, (f8_place){512, 0});
    assert_int_equal(all.worst_at.row, 384);
}

static void test_codes_unused(void **state)
{
    uint64_t hist[F8_HIST_BINS] = {0};
    f8_codes seen = {{0}}, more = {{UINT64_C(1) << 63, 1, 0, 2}};

    (void)state;
    assert_int_equal(f8_codes_unused(&seen, hist), 254);
    f8_codes_add(&seen, &more);
    f8_codes_add(&seen, &more);
    hist[F8_HIST_SMALL] = 1000;
    hist[F8_HIST_SMALL + 15] = 1;
    assert_int_equal(f8_codes_unused(&seen, hist), 254 - 3 - 2);
    assert_false(f8_codes_all_normal(&seen));
    /* All but zeros, subnormals and NaN, of either sign. */
    seen = (f8_codes){
        {~UINT64_C(0xff), UINT64_MAX >> 1, ~UINT64_C(0xff), UINT64_MAX >> 1}};
    assert_true(f8_codes_all_normal(&seen));
    assert_int_equal(f8_codes_unused(&seen, hist), 14);
}

/* ---- merging ------------------------------------------------------------- */

static void fill_stats(f8_stats *s, uint64_t seed)
{
    s->tensors = seed;
    s->elems = seed * 1000;
    s->blocks = seed * 3;
    for (unsigned i = 0; i < F8_HIST_BINS; i++)
        s->hist[i] = (seed * 2654435761u + i * 40503u) % 1009;
    /* Multiples of 1/4 below 2^50 add without rounding. */
    s->sums = (f8_sums){(double)seed, (double)seed / 4, (double)seed / 2,
                        (double)seed * 3, (double)(seed * 7 % 5)};
}

static void test_merge_in_any_order(void **state)
{
    static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                          {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    f8_stats parts[3], sum;

    (void)state;
    memset(parts, 0, sizeof parts);
    fill_stats(&parts[0], 1); /* max_abs 2 */
    fill_stats(&parts[1], 2); /* 4 */
    fill_stats(&parts[2], 5); /* 0 */
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        memset(&sum, 0, sizeof sum);
        for (unsigned k = 0; k < 3; k++)
            f8_stats_add(&sum, &parts[orders[i][k]]);
        assert_int_equal(sum.tensors, 8);
        assert_int_equal(sum.elems, 8000);
        assert_int_equal(sum.blocks, 24);
        for (unsigned b = 0; b < F8_HIST_BINS; b++)
            assert_int_equal(sum.hist[b], parts[0].hist[b] + parts[1].hist[b] +
                                              parts[2].hist[b]);
        assert_true(sum.sums.w2 == 8);
        assert_true(sum.sums.e2 == 2);
        assert_true(sum.sums.wv == 4);
        assert_true(sum.sums.v2 == 24);
        assert_true(sum.sums.max_abs == 4);
    }
}

/* ---- derived figures ----------------------------------------------------- */

static void test_figures(void **state)
{
    /* w = (3, 4), v = (3, 5): the squares add up to 25 and 34, the products to
     * 29, and the error is (0, 1). */
    f8_stats s;
    f8_error_stats out;

    (void)state;
    memset(&s, 0, sizeof s);
    s.tensors = 1;
    s.elems = 2;
    s.blocks = 1;
    s.sums = (f8_sums){25, 1, 29, 34, 1};
    s.hist[F8_HIST_ZERO] = 6;
    s.hist[coarse(-2, 0)] = 2;
    f8_stats_finish(&s, "kind", &out);
    assert_string_equal(out.name, "kind");
    assert_int_equal(out.tensors, 1);
    assert_int_equal(out.elems, 2);
    assert_int_equal(out.blocks, 1);
    assert_int_equal(out.zeros, 6);
    expect_close(out.median_relative_error, 0.25 * (1 + 0.5 / 64));
    expect_close(out.relative_rms, 0.2);           /* sqrt(1 / 25) */
    expect_close(out.sqnr_db, 13.979400086720377); /* 10 log10(25) */
    expect_close(out.cosine, 0.99469179382655132); /* 29 / sqrt(850) */
    assert_true(out.max_abs_error == 1);
}

static void test_figures_without_error(void **state)
{
    f8_stats s;
    f8_error_stats out;

    (void)state;
    memset(&s, 0, sizeof s);
    s.sums = (f8_sums){25, 0, 25, 25, 0};
    f8_stats_finish(&s, NULL, &out);
    assert_null(out.name);
    assert_true(out.relative_rms == 0);
    assert_true(isinf(out.sqnr_db) && out.sqnr_db > 0);
    expect_close(out.cosine, 1);
    /* Zeros stored as zeros. */
    memset(&s, 0, sizeof s);
    f8_stats_finish(&s, NULL, &out);
    assert_true(out.relative_rms == 0);
    assert_true(isinf(out.sqnr_db) && out.sqnr_db > 0);
    assert_true(out.cosine == 1);
}

/* Weights of which nothing is left, and zeros that became something: the
 * cosine's formula is 0 / 0, and to call that 1 would be to call it perfect. */
static void test_cosine_when_one_side_is_zero(void **state)
{
    f8_stats s;
    f8_error_stats out;

    (void)state;
    memset(&s, 0, sizeof s);
    s.sums = (f8_sums){25, 25, 0, 0, 4};
    f8_stats_finish(&s, NULL, &out);
    expect_close(out.relative_rms, 1);
    assert_true(out.sqnr_db == 0);
    assert_false(out.cosine == 1);
    s.sums = (f8_sums){0, 25, 0, 25, 4};
    f8_stats_finish(&s, NULL, &out);
    assert_false(out.cosine == 1);
}

/* Blocks without an error are counted, and are in no figure. */
static void test_figures_of_what_was_measured(void **state)
{
    f8_stats some, none, both;
    f8_error_stats out;

    (void)state;
    memset(&some, 0, sizeof some);
    some.tensors = some.blocks = 1;
    some.elems = 20;
    some.unmeasured_blocks = 3;
    some.unmeasured_elems = 60;
    some.sums = (f8_sums){16, 9, 0, 0, 1};
    memset(&none, 0, sizeof none);
    none.tensors = 1;
    none.unmeasured_blocks = 2;
    none.unmeasured_elems = 40;
    f8_stats_finish(&none, NULL, &out);
    assert_int_equal(out.elems, 0);
    assert_int_equal(out.blocks, 0);
    assert_int_equal(out.unmeasured_elems, 40);
    assert_int_equal(out.unmeasured_blocks, 2);
    assert_true(isnan(out.relative_rms) && isnan(out.sqnr_db));
    assert_true(isnan(out.cosine) && isnan(out.max_abs_error));
    assert_true(isnan(out.median_relative_error));

    both = none;
    f8_stats_add(&both, &some);
    f8_stats_finish(&both, NULL, &out);
    assert_int_equal(out.tensors, 2);
    assert_int_equal(out.elems, 20);
    assert_int_equal(out.blocks, 1);
    assert_int_equal(out.unmeasured_elems, 100);
    assert_int_equal(out.unmeasured_blocks, 5);
    expect_close(out.relative_rms, 0.75);
    assert_true(out.max_abs_error == 1);
}

static void test_relative_rms_of_zeros(void **state)
{
    (void)state;
    assert_true(f8_sums_relative_rms(&(f8_sums){0, 0, 0, 0, 0}) == 0);
    assert_true(isinf(f8_sums_relative_rms(&(f8_sums){0, 9, 0, 9, 3})));
    expect_close(f8_sums_relative_rms(&(f8_sums){16, 9, 0, 0, 0}), 0.75);
    /* Tiny and huge sums, whose product would not be a number any more. */
    expect_close(f8_sums_relative_rms(&(f8_sums){4e300, 1e300, 0, 0, 0}), 0.5);
    expect_close(f8_sums_relative_rms(&(f8_sums){4e-300, 1e-300, 0, 0, 0}),
                 0.5);
}

/* The cosine's denominator is taken apart for the same reason. */
static void test_cosine_of_huge_sums(void **state)
{
    f8_stats s;
    f8_error_stats out;

    (void)state;
    memset(&s, 0, sizeof s);
    s.sums = (f8_sums){4e200, 1e198, 3.9e200, 4e200, 1};
    f8_stats_finish(&s, NULL, &out);
    expect_close(out.cosine, 0.975);
    s.sums = (f8_sums){4e-200, 1e-202, 3.9e-200, 4e-200, 1};
    f8_stats_finish(&s, NULL, &out);
    expect_close(out.cosine, 0.975);
}

/* Sums are rounded, and a cosine lies from -1 to 1 whatever they are. */
static void test_cosine_within_its_range(void **state)
{
    f8_stats s;
    f8_error_stats out;

    (void)state;
    memset(&s, 0, sizeof s);
    s.sums = (f8_sums){4, 0, 4.000001, 4, 0};
    f8_stats_finish(&s, NULL, &out);
    assert_true(out.cosine == 1);
    s.sums.wv = -s.sums.wv;
    f8_stats_finish(&s, NULL, &out);
    assert_true(out.cosine == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_histogram),
        cmocka_unit_test(test_median_inside_a_bin),
        cmocka_unit_test(test_median_between_bins),
        cmocka_unit_test(test_median_at_the_ends),
        cmocka_unit_test(test_p999),
        cmocka_unit_test(test_exact_sums),
        cmocka_unit_test(test_exact_sums_of_too_large_numbers),
        cmocka_unit_test(test_exact_sums_in_any_order),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_codes_unused),
        cmocka_unit_test(test_merge_in_any_order),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_figures_without_error),
        cmocka_unit_test(test_cosine_when_one_side_is_zero),
        cmocka_unit_test(test_figures_of_what_was_measured),
        cmocka_unit_test(test_relative_rms_of_zeros),
        cmocka_unit_test(test_cosine_of_huge_sums),
        cmocka_unit_test(test_cosine_within_its_range),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
