/* test_distance.c - numbers of every dtype, and sums of their differences,
 * worked out by hand. */
#include "helpers.h"

#include <math.h>

#include "distance.h"

static void expect_close(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-14 * fabs(expected)))
        fail_msg("got %.17g, expected %.17g", value, expected);
}

/* ---- numbers ------------------------------------------------------------- */

static void test_codes(void **state)
{
    uint8_t codes[256];
    double values[256], scaled[256];

    (void)state;
    for (int i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    f8_numbers(codes, F8_DTYPE_E4M3, 256, values);
    f8_numbers_scaled(codes, 0.3f, 256, scaled);
    for (int i = 0; i < 256; i++) {
        float value = f8_e4m3_decode((uint8_t)i);
        if (isnan(value)) {
            assert_true(isnan(values[i]) && isnan(scaled[i]));
            continue;
        }
        assert_true(values[i] == (double)value);
        assert_true(scaled[i] == (double)(value * 0.3f));
    }
    assert_true(isnan(values[0x7f]) && isnan(values[0xff]));
    /* An engine's product is binary32, and may be too large for it. */
    f8_numbers_scaled(codes + 0x7e, 0x1p120f, 1, scaled);
    assert_true(isinf(scaled[0]));
}

static void test_small_dtypes(void **state)
{
    /* e5m2: 1, -1.75, the largest, the least, infinity, NaN. */
    static const uint8_t e5m2[] = {0x3c, 0xbf, 0x7b, 0x01, 0x7c, 0x7f};
    static const double are[] = {1, -1.75, 57344, 0x1p-16};
    static const uint8_t e8m0[] = {127, 0, 254, 255};
    double values[6];

    (void)state;
    f8_numbers(e5m2, F8_DTYPE_E5M2, 6, values);
    for (int i = 0; i < 4; i++)
        assert_true(values[i] == are[i]);
    assert_true(isinf(values[4]) && isnan(values[5]));
    f8_numbers(e8m0, F8_DTYPE_E8M0, 4, values);
    assert_true(values[0] == 1 && values[1] == 0x1p-127 &&
                values[2] == 0x1p127 && isnan(values[3]));
}

static void test_large_dtypes(void **state)
{
    static const unsigned char bf16[] = {0, 0x80, 0x3f, 0, 0xc0};
    static const unsigned char f16[] = {0x00, 0x3c, 0x01, 0x00};
    const float f32[] = {0x1p-149f, -3};
    const double f64[] = {0.1, 1e300};
    double values[2];

    (void)state;
    f8_numbers(bf16 + 1, F8_DTYPE_BF16, 2, values); /* at an odd address */
    assert_true(values[0] == 1 && values[1] == -2);
    f8_numbers(f16, F8_DTYPE_F16, 2, values);
    assert_true(values[0] == 1 && values[1] == 0x1p-24);
    f8_numbers(f32, F8_DTYPE_F32, 2, values);
    assert_true(values[0] == 0x1p-149 && values[1] == -3);
    f8_numbers(f64, F8_DTYPE_F64, 2, values);
    assert_true(values[0] == 0.1 && values[1] == 1e300);
}

static void test_real(void **state)
{
    (void)state;
    assert_true(f8_dtype_is_real(F8_DTYPE_BF16));
    assert_true(f8_dtype_is_real(F8_DTYPE_E8M0));
    assert_false(f8_dtype_is_real(F8_DTYPE_U8));
    assert_false(f8_dtype_is_real(F8_DTYPE_BOOL));
    assert_false(f8_dtype_is_real(F8_DTYPE_I64));
}

/* ---- sums ---------------------------------------------------------------- */

/* Any number of elements, whatever is left over behind whole lanes. */
static void test_lengths(void **state)
{
    double w[F8_RUN_ELEMS], v[F8_RUN_ELEMS];

    (void)state;
    for (size_t n = 1; n <= 13; n++) {
        f8_distance d = {0};
        double w2 = 0, v2 = 0, wv = 0;
        for (size_t i = 0; i < n; i++) {
            w[i] = (double)i + 1;
            v[i] = i == n - 1 ? -w[i] : w[i];
            w2 += w[i] * w[i];
            v2 += v[i] * v[i];
            wv += w[i] * v[i];
        }
        f8_distance_run(&d, w, v, n);
        assert_int_equal(d.differing, 1);
        assert_int_equal(d.odd, 0);
        assert_true(d.max_abs == 2 * (double)n);
        expect_close(f8_distance_relative_rms(&d), 2 * (double)n / sqrt(w2));
        expect_close(f8_distance_sqnr_db(&d),
                     10 * log10(w2 / (4.0 * (double)(n * n))));
        expect_close(f8_distance_cosine(&d), wv / sqrt(w2) / sqrt(v2));
    }
}

static void test_zeros(void **state)
{
    const double zeros[] = {0, -0.0, 0}, ones[] = {1, 1, 1};
    const double other[] = {-0.0, 0, 0};
    f8_distance d = {0};

    (void)state;
    f8_distance_run(&d, zeros, other, 3);
    assert_int_equal(d.differing, 0);
    assert_true(f8_distance_relative_rms(&d) == 0);
    assert_true(isinf(f8_distance_sqnr_db(&d)));
    assert_true(f8_distance_cosine(&d) == 1);
    f8_distance_run(&d, zeros, ones, 3);
    assert_int_equal(d.differing, 3);
    assert_true(isinf(f8_distance_relative_rms(&d)));
    assert_true(f8_distance_cosine(&d) == 0);
}

static void test_not_finite(void **state)
{
    const double w[] = {NAN, NAN, INFINITY, INFINITY, 1, 3, -INFINITY};
    const double v[] = {NAN, 1, INFINITY, -INFINITY, NAN, 4, 7};
    f8_distance d = {0};

    (void)state;
    f8_distance_run(&d, w, v, 7);
    assert_int_equal(d.odd, 4); /* all but 0, 2 and 5 */
    assert_int_equal(d.differing, 5);
    assert_true(d.max_abs == 1);
    expect_close(f8_distance_relative_rms(&d), 1.0 / 3);
}

/* Squares beyond binary64 are no fault of the elements. */
static void test_overflow(void **state)
{
    const double w[] = {1e200, 1}, v[] = {-1e200, 1};
    f8_distance d = {0};

    (void)state;
    f8_distance_run(&d, w, v, 2);
    f8_distance_run(&d, w, v, 2);
    assert_int_equal(d.odd, 0);
    assert_int_equal(d.differing, 2);
    assert_true(d.max_abs == 2e200);
    assert_true(isnan(f8_distance_relative_rms(&d)));
}

/* However runs are put together, the figures are the same, bit for bit: plain
 * sums would not be. */
static void test_any_order(void **state)
{
    enum { RUNS = 500 };
    static f8_distance runs[RUNS];
    double w[64], v[64], plain = 0, backwards = 0;
    f8_distance all = {0}, reverse = {0}, halves[2];
    uint64_t seed = 1;

    (void)state;
    memset(halves, 0, sizeof halves);
    for (int r = 0; r < RUNS; r++) {
        for (int i = 0; i < 64; i++) {
            seed = seed * UINT64_C(6364136223846793005) +
                   UINT64_C(1442695040888963407);
            w[i] = ldexp((double)(int64_t)seed, -63 - r % 7);
            v[i] = w[i] + w[i] * (double)(seed >> 40) * 0x1p-28;
        }
        f8_distance_run(&runs[r], w, v, 64);
        f8_distance_add(&all, &runs[r]);
        f8_distance_add(&halves[r > 77], &runs[r]);
        plain += runs[r].w2.high;
    }
    for (int r = RUNS; r-- > 0;) {
        f8_distance_add(&reverse, &runs[r]);
        backwards += runs[r].w2.high;
    }
    f8_distance_add(&halves[0], &halves[1]);
    assert_true(plain != backwards);
    assert_true(f8_distance_relative_rms(&all) ==
                f8_distance_relative_rms(&reverse));
    assert_true(f8_distance_relative_rms(&all) ==
                f8_distance_relative_rms(&halves[0]));
    assert_true(f8_distance_cosine(&all) == f8_distance_cosine(&reverse));
    assert_true(f8_distance_cosine(&all) == f8_distance_cosine(&halves[0]));
    assert_int_equal(all.differing, reverse.differing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_small_dtypes),
        cmocka_unit_test(test_large_dtypes),
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_any_order),
    };
    return cmocka_run_group_tests_name("distance", tests, NULL, NULL);
}
