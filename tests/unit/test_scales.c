/* test_scales.c - the choice of scales: by hand, and the search for the least
 * error against brute force, which tries every bfloat16 number within two
 * octaves of amax / 448 and sums in integers of 128 bits. A failure names its
 * seed; F8_SCALES_SEED=N repeats it. */
#include "helpers.h"

#include <float.h>
#include <math.h>

#include "quant.h"

__extension__ typedef unsigned __int128 wide;

static uint64_t seed = 1, random_state;

static uint64_t next_random(void)
{
    uint64_t x = random_state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static double uniform(void)
{
    return ((double)(next_random() >> 11) + 0.5) * 0x1p-53;
}

static double gauss(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float of_half(unsigned half)
{
    return float_of((uint32_t)half << 16);
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint16_t to_half(double x)
{
    uint32_t u = bits_of((float)x);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- distributions ------------------------------------------------------- */

static double student(int degrees)
{
    double chi2 = 0;
    for (int i = 0; i < degrees; i++) {
        double g = gauss();
        chi2 += g * g;
    }
    return gauss() / sqrt(chi2 / degrees);
}

static double student3(void)
{
    return student(3);
}

static double student5(void)
{
    return student(5);
}

static double evenly(void)
{
    return 2 * uniform() - 1;
}

static double with_outliers(void)
{
    return uniform() < 0.002 ? 30 * gauss() : gauss();
}

/* All but a few become subnormal codes. */
static double far_outlier(void)
{
    return uniform() < 0.0005 ? 3000 : gauss();
}

static double sparse(void)
{
    return uniform() < 0.02 ? gauss() : 0;
}

static double tiny(void)
{
    return ldexp(gauss(), -100);
}

static double subnormal(void)
{
    return ldexp(gauss(), -124);
}

/* Few values: ties between scales. */
static double discrete(void)
{
    return (double)(int)(next_random() % 7) / 4 - 0.75;
}

static double powers(void)
{
    return ldexp(1, -(int)(next_random() % 24));
}

/* Every exponent about as often. */
static double spread(void)
{
    return exp2(-24 * uniform());
}

/* Up to the largest bfloat16, so that 512 scales would not all be finite. */
static double huge(void)
{
    return ldexp(1 + 0.992 * uniform(), 127);
}

/* The same, of few values, which scales fit that make an infinity of some. */
static double huge_powers(void)
{
    return uniform() < 0.02 ? huge() : ldexp(129, 119 - (int)(uniform() * 4));
}

static const struct {
    const char *name;
    double (*draw)(void);
} distributions[] = {
    {"gauss", gauss},
    {"t3", student3},
    {"t5", student5},
    {"uniform", evenly},
    {"outliers", with_outliers},
    {"far outlier", far_outlier},
    {"sparse", sparse},
    {"tiny", tiny},
    {"subnormal", subnormal},
    {"discrete", discrete},
    {"powers", powers},
    {"spread", spread},
    {"huge", huge},
    {"huge powers", huge_powers},
};

/* ---- brute force --------------------------------------------------------- */

/* How often each magnitude occurs, by its bits. */
typedef struct tally {
    unsigned count;
    struct {
        uint16_t half;
        uint32_t times;
    } of[128 * 128];
} tally;

static void tally_make(const uint16_t *weights, size_t n, tally *t)
{
    static uint32_t times[0x8000];

    memset(times, 0, sizeof times);
    for (size_t i = 0; i < n; i++)
        times[weights[i] & 0x7fff]++;
    t->count = 0;
    for (unsigned a = 0x7fff; a > 0; a--) { /* the largest first */
        if (times[a] == 0)
            continue;
        t->of[t->count].half = (uint16_t)a;
        t->of[t->count++].times = times[a];
    }
}

/* What an engine makes of a weight under a scale. */
static float value_of(float w, float scale)
{
    return f8_e4m3_decode(f8_e4m3_encode(w / scale)) * scale;
}

/* sum (w - s q(w / s))^2 in units of a square of 2^unit, which every
 * difference is a whole number of; `enough` and more is not told apart. */
static wide error_of(const tally *t, float scale, int unit, wide enough)
{
    wide sum = 0;

    for (unsigned i = 0; i < t->count && sum < enough; i++) {
        float w = of_half(t->of[i].half);
        double value = (double)f8_e4m3_decode(f8_e4m3_encode(w / scale));
        double off = ldexp((double)w - (double)scale * value, -unit);
        uint64_t whole = (uint64_t)fabs(off);
        assert_true((double)whole == fabs(off));
        sum += (wide)whole * whole * t->of[i].times;
    }
    return sum;
}

static unsigned brute_force(const tally *t)
{
    unsigned middle = bits_of(of_half(t->of[0].half) / 448) >> 16;
    unsigned first = middle < 0x80 + 256 ? 0x80 : middle - 256;
    /* Of the least weight and of the least step between codes. */
    int unit = (int)(t->of[t->count - 1].half >> 7) - 127 - 7;
    int step = (int)(first >> 7) - 127 - 7 - 9;
    unsigned best = 0;
    wide least = ~(wide)0;

    unit = unit < -133 ? -133 : unit; /* subnormal numbers */
    unit = step < unit ? step : unit;
    for (unsigned half = first; half <= middle + 257; half++) {
        if (isinf(value_of(of_half(t->of[0].half), of_half(half))))
            continue; /* so is the error */
        wide error = error_of(t, of_half(half), unit, least);
        if (error < least) {
            least = error;
            best = half;
        }
    }
    return best;
}

static void check_block(const uint16_t *weights, unsigned rows, unsigned cols,
                        const char *what)
{
    static f8_scale_squares squares;
    static tally t;
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
    f8_block block = {weights, cols * 2, F8_DTYPE_BF16, rows,
                      cols,    false,    false};

    tally_make(weights, (size_t)rows * cols, &t);
    if (t.count == 0)
        return;
    unsigned expected = brute_force(&t);
    f8_scale_squares_fill(&squares);
    for (size_t k = 0; k <= kernels; k++) {
        const f8_kernel *kernel = k < kernels ? list[k] : &f8_kernel_ref;
        float found = kernel->search(&squares, &block, of_half(t.of[0].half));
        if (bits_of(found) != (uint32_t)expected << 16)
            fail_msg("%s, %s, %u x %u: scale %a, expected %a (seed 0x%llx)",
                     kernel->name, what, rows, cols, (double)found,
                     (double)of_half(expected), (unsigned long long)seed);
    }
}

static void check_distribution(size_t d, unsigned blocks)
{
    static uint16_t weights[128 * 128];

    for (unsigned b = 0; b < blocks; b++) {
        /* One in eight is whole, the others have an edge. */
        bool whole = b % 8 == 0;
        unsigned rows = whole ? 128 : 1 + (unsigned)(next_random() % 40);
        unsigned cols = whole ? 128 : 1 + (unsigned)(next_random() % 128);
        double size = exp2(8 * uniform() - 10);
        if (distributions[d].draw == huge ||
            distributions[d].draw == huge_powers)
            size = 1;
        for (size_t i = 0; i < (size_t)rows * cols; i++)
            weights[i] = to_half(distributions[d].draw() * size);
        check_block(weights, rows, cols, distributions[d].name);
    }
}

static void test_search_against_brute_force(void **state)
{
    (void)state;
    random_state = seed;
    for (size_t d = 0; d < COUNT_OF(distributions); d++) {
        /* Subnormal weights go the direct way, which is slow. */
        bool slow = distributions[d].draw == subnormal;
        check_distribution(d, slow ? 12 : 160);
    }
}

/* Weights of one bit more than a multiple of 464 scales, where saturation
 * begins, and exactly of one. */
static void test_search_at_the_edge(void **state)
{
    static uint16_t weights[128 * 128];

    (void)state;
    random_state = seed + 1;
    for (unsigned i = 0; i < 60; i++) {
        unsigned half = to_half(464 * (double)of_half(0x3b80 + 2 * i));
        for (size_t k = 0; k < 128 * 128; k++)
            weights[k] = to_half(ldexp(spread(), -7));
        for (unsigned step = 0; step < 3; step++) {
            weights[77] = (uint16_t)(half + step - 1);
            check_block(weights, 128, 128, "edge");
        }
    }
}

/* The scale of least error, but for its making an infinity of the largest
 * weight, is 0x7b2c. tests/reference/scales.py finds 0x7b0a, under which that
 * saturates. */
static void test_search_keeps_weights_finite(void **state)
{
    enum { N = 128 * 128 };
    static uint16_t weights[N];
    static float singles[N];
    f8_scale_squares squares;
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    (void)state;
    for (unsigned i = 0; i < N; i++)
        weights[i] = (uint16_t)(i == 77 ? 0x7f7f : 0x7e81 - 0x80 * (i % 4));
    for (unsigned i = 0; i < N; i++)
        singles[i] = of_half(weights[i]);
    check_block(weights, 128, 128, "almost infinite");
    f8_scale_squares_fill(&squares);
    for (size_t k = 0; k < kernels; k++) {
        f8_block block = {weights, 256, F8_DTYPE_BF16, 128, 128, false, false};
        float found = list[k]->search(&squares, &block, singles[77]);
        assert_int_equal(bits_of(found), 0x7b0a0000);
        block = (f8_block){singles, 512, F8_DTYPE_F32, 128, 128, false, false};
        found = list[k]->search(&squares, &block, singles[77]);
        assert_int_equal(bits_of(found), 0x7b0a0000);
    }
}

/* ---- by hand ------------------------------------------------------------- */

static void test_search_by_hand(void **state)
{
    /* A scale without error is w / code. 1 / code is a bfloat16 number only
     * for powers of two; of codes from 232 to 464 that is 256. 3 is 384 * 2^-7
     * and 256 * 3 * 2^-8: the smaller scale wins. 448 is 448 * 1. A weight
     * below 2^-126 * 2^-9 / 2 is zero under every scale: the least wins. */
    static const struct {
        float weight, scale;
    } cases[] = {{1, 0x1p-8f},         {3, 0x1p-7f},  {-3, 0x1p-7f},
                 {0x1p-90f, 0x1p-98f}, {0x1.cp8f, 1}, {0x1p-133f, 0x1p-126f}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint16_t weight = to_half((double)cases[i].weight);
        f8_scale_squares squares;
        f8_block block = {&weight, 2, F8_DTYPE_BF16, 1, 1, false, false};
        f8_scale_squares_fill(&squares);
        float found =
            f8_kernel_ref.search(&squares, &block, fabsf(cases[i].weight));
        if (found != cases[i].scale)
            fail_msg("%a: scale %a, expected %a", (double)cases[i].weight,
                     (double)found, (double)cases[i].scale);
    }
}

static void test_pow2(void **state)
{
    (void)state;
    assert_true(f8_scale_pow2(0) == 1);
    assert_true(f8_scale_pow2(448) == 1);
    assert_true(f8_scale_pow2(449) == 2);
    assert_true(f8_scale_pow2(447) == 1);
    assert_true(f8_scale_pow2(224) == 0.5f);
    assert_true(f8_scale_pow2(1) == 0x1p-8f); /* 1 / 448 > 2^-9 */
    assert_true(f8_scale_pow2(448 * 0x1p-126f) == 0x1p-126f);
    assert_true(f8_scale_pow2(448 * 0x1p-127f) == 0x1p-126f);
    assert_true(f8_scale_pow2(0x1p-149f) == 0x1p-126f);
    /* 248 is the tie of 240 and 256, and 256 x 2^120 infinite. */
    assert_true(f8_scale_pow2(0x1.cp127f) == 0x1p119f); /* 448 * 2^119 */
    assert_true(f8_scale_pow2(0x1.c00002p127f) == 0x1p120f);
    assert_true(f8_scale_pow2(0x1.effffep127f) == 0x1p120f);
    assert_true(f8_scale_pow2(0x1.fp127f) == 0x1p119f);
    assert_true(f8_scale_pow2(FLT_MAX) == 0x1p119f);
}

/* What engines round up to has room for what they read. */
static void test_again(void **state)
{
    (void)state;
    assert_true(f8_scale_again(0) == 1);
    assert_true(f8_scale_again(448) == 1);
    assert_true(f8_scale_again(449) == 2);
    assert_true(f8_scale_again(0x1p-149f) == 0x1p-126f);
    assert_true(f8_scale_again(0x1.effffep127f) == 0x1p120f);
    assert_true(f8_scale_again(FLT_MAX) == 0x1p120f);
    assert_true(f8_scale_again(INFINITY) == 0x1p120f);
}

/* No weight, however large, becomes infinite, whatever the choice. */
static void test_choice_keeps_weights_finite(void **state)
{
    static const f8_scale_dtype dtypes[] = {F8_SCALE_BF16, F8_SCALE_F32,
                                            F8_SCALE_UE8M0};
    f8_scale_squares squares;

    (void)state;
    f8_scale_squares_fill(&squares);
    for (uint32_t bits = 0x7f000000; bits < 0x7f800000; bits += 0x3fff) {
        float w = float_of(bits);
        f8_block block = {&w, 4, F8_DTYPE_F32, 1, 1, false, false};
        for (unsigned n = 0; n < 9; n++) {
            f8_scales choice = (f8_scales)(F8_SCALES_AMAX + n / 3);
            f8_scale_rule rule = {choice, dtypes[n % 3], &squares};
            uint8_t to[4];
            float scale =
                f8_scale_choose(f8_kernel_best(), &rule, &block, w, to);
            if (!isfinite(value_of(w, scale)))
                fail_msg("%a, %s, %s: scale %a", (double)w,
                         f8_scales_name(choice),
                         f8_scale_dtype_name(dtypes[n % 3]), (double)scale);
        }
    }
}

static void expect_chosen(f8_scales choice, f8_scale_dtype dtype, float weight,
                          float scale, uint32_t stored)
{
    uint16_t half = to_half((double)weight);
    unsigned char to[8];
    f8_scale_squares squares;
    f8_scale_rule rule = {choice, dtype, &squares};
    f8_block block = {&half, 2, F8_DTYPE_BF16, 1, 1, false, false};
    size_t n = f8_dtype_bytes(f8_scale_storage(dtype));
    uint32_t found = 0;

    memset(to, 0xa5, sizeof to);
    f8_scale_squares_fill(&squares);
    assert_true(f8_scale_choose(&f8_kernel_ref, &rule, &block, weight,
                                to + 1) == scale); /* not aligned */
    for (size_t i = 0; i < n; i++)
        found |= (uint32_t)to[1 + i] << 8 * i;
    assert_int_equal(found, stored);
    assert_int_equal(to[0], 0xa5);
    assert_int_equal(to[1 + n], 0xa5);
}

static void test_choice(void **state)
{
    (void)state;
    expect_chosen(F8_SCALES_AMAX, F8_SCALE_BF16, 896, 2, 0x4000);
    expect_chosen(F8_SCALES_DEFAULT, F8_SCALE_F32, 896, 2, 0x40000000);
    /* 449 has no bfloat16; 450 / 448 is 1.0045, which rounds to 1 + 2^-7. */
    expect_chosen(F8_SCALES_AMAX, F8_SCALE_BF16, 450, 1.0078125f, 0x3f81);
    expect_chosen(F8_SCALES_POW2, F8_SCALE_BF16, 450, 2, 0x4000);
    expect_chosen(F8_SCALES_POW2, F8_SCALE_F32, 450, 2, 0x40000000);
    expect_chosen(F8_SCALES_POW2, F8_SCALE_UE8M0, 450, 2, 128);
    expect_chosen(F8_SCALES_AMAX, F8_SCALE_UE8M0, 450, 2, 128);
    expect_chosen(F8_SCALES_MSE, F8_SCALE_BF16, 3, 0x1p-7f, 0x3c00);
    expect_chosen(F8_SCALES_MSE, F8_SCALE_F32, 3, 0x1p-7f, 0x3c000000);
    /* A block of zeros has 1 by every rule. */
    for (int choice = F8_SCALES_DEFAULT; choice <= F8_SCALES_POW2; choice++) {
        expect_chosen((f8_scales)choice, F8_SCALE_BF16, 0, 1, 0x3f80);
        expect_chosen((f8_scales)choice, F8_SCALE_F32, 0, 1, 0x3f800000);
        expect_chosen((f8_scales)choice, F8_SCALE_UE8M0, 0, 1, 127);
    }
    assert_string_equal(f8_scales_name(F8_SCALES_DEFAULT), "amax");
    assert_string_equal(f8_scales_name(F8_SCALES_AMAX), "amax");
    assert_string_equal(f8_scales_name(F8_SCALES_MSE), "mse");
    assert_string_equal(f8_scales_name(F8_SCALES_POW2), "pow2");
    assert_null(f8_scales_name((f8_scales)4));
}

/* ---- what a check finds out about scales --------------------------------- */

enum { ROWS = 130, COLS = 200, BLOCKS = 4 };

static f8_check quantise_and_check(const uint16_t *weights, f8_scales choice,
                                   f8_scale_dtype dtype, uint8_t *codes,
                                   uint8_t *scales, f8_sums *sums)
{
    static uint64_t hist[F8_HIST_BINS];
    static uint8_t scratch[128 * 128];
    f8_sums first = {0, 0, 0, 0, 0};
    f8_check check = {0};
    f8_spot spot;
    f8_panel panel = {.weights = weights,
                      .stride_bytes = COLS * 2,
                      .dtype = F8_DTYPE_BF16,
                      .rows = ROWS,
                      .cols = COLS,
                      .codes = codes,
                      .codes_stride = COLS,
                      .scale_dtype = dtype,
                      .scales = scales,
                      .choice = choice};

    assert_true(panel_quantise(f8_kernel_best(), &panel, &first, hist, &spot));
    memset(sums, 0, sizeof *sums);
    panel_check(f8_kernel_best(), &panel, scratch, &check, sums, hist);
    assert_int_equal(check.not_nearest + check.nan_codes + check.far_scales, 0);
    assert_true(first.e2 == sums->e2 && first.w2 == sums->w2);
    assert_int_equal(check.blocks, BLOCKS);
    assert_true(f8_exact_value(&check.w2) == sums->w2);
    return check;
}

/* What the engine makes of it, one weight after the other. */
static double engine_error(const uint16_t *weights, const uint8_t *codes,
                           const uint8_t *scales, f8_scale_dtype dtype)
{
    size_t bytes = f8_dtype_bytes(f8_scale_storage(dtype));
    float value[ROWS * COLS], most[BLOCKS] = {0};
    double sum = 0;

    for (size_t i = 0; i < ROWS * COLS; i++) {
        size_t block = i / COLS / 128 * 2 + i % COLS / 128;
        value[i] = f8_e4m3_decode(codes[i]) *
                   f8_scale_load(scales + block * bytes, dtype);
        most[block] = fmaxf(most[block], fabsf(value[i]));
    }
    for (size_t i = 0; i < ROWS * COLS; i++) {
        size_t block = i / COLS / 128 * 2 + i % COLS / 128;
        int up;
        double part = frexp((double)most[block] / 448, &up);
        float scale = ldexpf(1, part == 0.5 ? up - 1 : up);
        float again = f8_e4m3_decode(f8_e4m3_encode(value[i] / scale)) * scale;
        double off = (double)again - (double)of_half(weights[i]);
        sum += off * off;
    }
    return sum;
}

/* A block's squared error once its values have been quantised with `again`,
 * one after the other, in units of `again`. */
static double error_again(const uint16_t *weights, const uint8_t *codes,
                          unsigned rows, unsigned cols, float scale,
                          float again)
{
    double sum = 0;

    for (unsigned r = 0; r < rows; r++) {
        for (unsigned c = 0; c < cols; c++) {
            size_t i = (size_t)r * COLS + c;
            float value = f8_e4m3_decode(codes[i]) * scale / again;
            double off = (double)f8_e4m3_decode(f8_e4m3_encode(value)) -
                         (double)of_half(weights[i]) / (double)again;
            sum += off * off;
        }
    }
    return sum;
}

/* Weights of all sizes and, but for the first few rounds, codes that are
 * nobody's, so that any may be subnormal before or after. The scales run over
 * those that vectors are for, and beyond. */
static void test_distance(void **state)
{
    static uint16_t weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    (void)state;
    random_state = seed + 3;
    for (unsigned round = 0; round < 300; round++) {
        int size = (int)(next_random() % 100) - 50;
        float mantissa = 1 + (float)(next_random() % 128) / 128;
        float scale = ldexpf(mantissa, size);
        if (round % 16 == 15) /* no bfloat16 number */
            scale *= 1.0001f;
        unsigned rows = round % 3 ? 128 : 1 + round % 128;
        unsigned cols = round % 4 ? 128 : 1 + round % 127;
        float most = 0;
        for (size_t i = 0; i < ROWS * COLS; i++) {
            double x = round % 2 ? gauss() * 100 : with_outliers();
            weights[i] = to_half(x * (double)scale);
            codes[i] = f8_e4m3_encode(of_half(weights[i]) / scale);
            if (round > 20 && next_random() % 64 == 0)
                codes[i] = (uint8_t)(next_random() & 0xf7);
            most = fmaxf(most, fabsf(f8_e4m3_decode(codes[i])));
        }
        float again = f8_scale_again(most * scale);
        if (round % 8 == 7) /* more codes become subnormal */
            again *= 64;
        f8_block block = {weights, COLS * 2, F8_DTYPE_BF16, rows,
                          cols,    false,    false};
        double expected =
            f8_kernel_ref.distance(&block, scale, again, codes, COLS, false);
        double square = (double)again * (double)again;
        double true_sum = error_again(weights, codes, rows, cols, scale, again);
        if (fabs(expected / square - true_sum) > 1e-6 * true_sum)
            fail_msg("seed %llu, round %u: %a, expected %a",
                     (unsigned long long)seed, round, expected / square,
                     true_sum);
        for (size_t k = 0; k < kernels; k++) {
            double found =
                list[k]->distance(&block, scale, again, codes, COLS, false);
            if (found != expected)
                fail_msg("seed %llu, round %u, %s: %a, expected %a",
                         (unsigned long long)seed, round, list[k]->name, found,
                         expected);
        }
    }
}

/* A row of quotients by the scale: normal codes, of both signs; in every second
 * row half of them zeros; and in most of them one weight or more of another
 * kind. */
static void some_row(unsigned kind, double *x, unsigned n)
{
    unsigned at = (unsigned)(next_random() % n), step = 1 + at % 40;

    for (unsigned i = 0; i < n; i++) {
        double usual = gauss() * 50;
        x[i] = fabs(usual) < 0.125 ? 1 : usual;
        if (kind % 2 && next_random() % 2)
            x[i] = next_random() % 2 ? 0.0 : -0.0;
    }
    for (unsigned i = at; i < n; i += step) {
        double sign = next_random() % 2 ? -1 : 1;
        switch (kind / 2) {
        case 1: /* becomes zero */
            x[i] = sign * 0x1p-11;
            break;
        case 2: /* not plain, with the least normal code */
            x[i] = sign * 0x1p-6 * (1 - uniform() / 16);
            break;
        case 3: /* subnormal, now or after the second rounding */
            x[i] = sign * 0x1p-5 * uniform();
            break;
        case 4: /* saturated, or next to it */
            x[i] = sign * 448 * (1 + uniform() / 8);
            break;
        default:
            break;
        }
    }
}

/* The nearest codes come to the same distance when they are said to be that,
 * in rows of which most are plain and others are not. */
static void test_distance_of_nearest(void **state)
{
    static uint16_t weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    (void)state;
    random_state = seed + 4;
    for (unsigned round = 0; round < 400; round++) {
        float scale = ldexpf(1 + (float)(next_random() % 128) / 128,
                             (int)(next_random() % 80) - 40);
        unsigned rows = round % 3 ? 128 : 1 + round % 128;
        unsigned kinds = round % 2 ? 10 : 8;
        double x[COLS];
        float most = 0;
        for (size_t i = 0; i < ROWS * COLS; i++) {
            if (i % COLS == 0)
                some_row((unsigned)(next_random() % kinds), x, COLS);
            weights[i] = to_half(x[i % COLS] * (double)scale);
            codes[i] = f8_e4m3_encode(of_half(weights[i]) / scale);
            most = fmaxf(most, fabsf(f8_e4m3_decode(codes[i])));
        }
        float again = f8_scale_again(most * scale);
        if (round % 8 == 7)
            again *= 16;
        /* No code becomes subnormal. */
        if (round % 2 == 0 && most < 224)
            again = f8_scale_again(224 * scale);
        f8_block block = {weights, COLS * 2, F8_DTYPE_BF16, rows,
                          128,     false,    false};
        double expected =
            f8_kernel_ref.distance(&block, scale, again, codes, COLS, false);
        for (size_t k = 0; k < kernels; k++) {
            double found =
                list[k]->distance(&block, scale, again, codes, COLS, true);
            if (found != expected)
                fail_msg("seed %llu, round %u, %s: %a, expected %a",
                         (unsigned long long)seed, round, list[k]->name, found,
                         expected);
        }
    }
}

static void test_check_of_scales(void **state)
{
    static uint16_t weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    static const struct {
        f8_scales choice;
        f8_scale_dtype dtype;
        uint64_t amax, pow2; /* blocks */
    } cases[] = {
        {F8_SCALES_AMAX, F8_SCALE_BF16, 4, 0},
        {F8_SCALES_AMAX, F8_SCALE_F32, 4, 0},
        {F8_SCALES_POW2, F8_SCALE_BF16, 0, 4},
        {F8_SCALES_POW2, F8_SCALE_F32, 0, 4},
        {F8_SCALES_AMAX, F8_SCALE_UE8M0, 4, 4},
        {F8_SCALES_MSE, F8_SCALE_BF16, 0, 0},
    };
    double amax_error = 0;

    (void)state;
    random_state = seed + 2;
    for (size_t i = 0; i < ROWS * COLS; i++)
        weights[i] = to_half(gauss() * 0.02);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint8_t scales[BLOCKS * 4];
        f8_sums sums;
        f8_check check = quantise_and_check(
            weights, cases[i].choice, cases[i].dtype, codes, scales, &sums);
        /* The best scale of a block may happen to be amax's. */
        if (cases[i].choice == F8_SCALES_MSE)
            assert_true(check.amax_blocks < BLOCKS);
        else
            assert_int_equal(check.amax_blocks, cases[i].amax);
        assert_int_equal(check.pow2_blocks, cases[i].pow2);
        double expected = engine_error(weights, codes, scales, cases[i].dtype);
        double again = f8_exact_value(&check.e8m0_e2);
        assert_true(fabs(again - expected) <= 1e-5 * expected);
        if (i == 0)
            amax_error = sums.e2;
        if (cases[i].pow2 == BLOCKS) /* nothing is lost once more */
            assert_true(again == sums.e2);
        else
            assert_true(again > 1.5 * sums.e2);
        if (cases[i].choice == F8_SCALES_MSE)
            assert_true(sums.e2 < amax_error);
    }
}

/* Codes of others, of which the largest of a block is not the one that its
 * largest weight would have: twice the scale, and yet one code of 448, for
 * which the engine's scale must have room. */
static void test_check_of_foreign_codes(void **state)
{
    static uint16_t weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS], scratch[128 * 128];
    static uint64_t hist[F8_HIST_BINS];
    uint8_t scales[BLOCKS * 4];
    f8_sums sums, ignored = {0, 0, 0, 0, 0};
    static const size_t places[BLOCKS] = {5, 150, 128 * COLS + 7,
                                          129 * COLS + 199};

    (void)state;
    random_state = seed + 3;
    for (size_t i = 0; i < ROWS * COLS; i++)
        weights[i] = to_half(gauss() * 0.02);
    quantise_and_check(weights, F8_SCALES_AMAX, F8_SCALE_F32, codes, scales,
                       &sums);
    for (size_t k = 0; k < BLOCKS; k++) {
        float scale = 2 * f8_scale_load(scales + 4 * k, F8_SCALE_F32);
        memcpy(scales + 4 * k, &scale, sizeof scale);
    }
    for (size_t i = 0; i < ROWS * COLS; i++) {
        size_t block = i / COLS / 128 * 2 + i % COLS / 128;
        float scale = f8_scale_load(scales + 4 * block, F8_SCALE_F32);
        codes[i] = (uint8_t)f8_e4m3_encode(of_half(weights[i]) / scale);
    }
    double before = engine_error(weights, codes, scales, F8_SCALE_F32);
    for (size_t k = 0; k < BLOCKS; k++)
        codes[places[k]] = 0x7e;
    f8_check check = {0};
    const f8_panel panel = {.weights = weights,
                            .stride_bytes = COLS * 2,
                            .dtype = F8_DTYPE_BF16,
                            .rows = ROWS,
                            .cols = COLS,
                            .codes = codes,
                            .codes_stride = COLS,
                            .scale_dtype = F8_SCALE_F32,
                            .scales = scales};
    panel_check(f8_kernel_best(), &panel, scratch, &check, &ignored, hist);
    assert_int_equal(check.not_nearest, BLOCKS);
    assert_int_equal(check.far_scales, 0);
    double expected = engine_error(weights, codes, scales, F8_SCALE_F32);
    double again = f8_exact_value(&check.e8m0_e2);
    assert_true(expected > 1.01 * before);
    assert_true(fabs(again - expected) <= 1e-5 * expected);
}

/* Scales of others, up to the largest that there are, over codes of all sizes:
 * whatever is wrong with them, what is measured are numbers. */
static void test_check_of_huge_scales(void **state)
{
    static const float sizes[] = {
        0x1p-149f, 0x1p-126f,   0x1.8p-100f, 0x1.02p0f,   0x1.2345p100f,
        0x1p120f,  0x1.fep119f, 0x1.58p120f, 0x1.fep127f, FLT_MAX};
    static float weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS], scratch[128 * 128];
    static uint64_t hist[F8_HIST_BINS];

    (void)state;
    random_state = seed + 5;
    for (size_t n = 0; n < COUNT_OF(sizes) * COUNT_OF(sizes) * 3; n++) {
        float size = sizes[n % 10], scale = sizes[n / 10 % 10];
        float scales[BLOCKS] = {scale, scale, scale, scale};
        f8_finds finds = {.max_abs = 0};
        f8_check check = {0};
        for (size_t i = 0; i < ROWS * COLS; i++) {
            weights[i] = (float)uniform() * size;
            codes[i] = n < 100   ? f8_e4m3_encode(weights[i] / scale)
                       : n < 200 ? (uint8_t)(next_random() % 0x7f)
                                 : (uint8_t)(next_random() % 2);
        }
        const f8_panel panel = {.weights = weights,
                                .stride_bytes = COLS * 4,
                                .dtype = F8_DTYPE_F32,
                                .rows = ROWS,
                                .cols = COLS,
                                .codes = codes,
                                .codes_stride = COLS,
                                .scale_dtype = F8_SCALE_F32,
                                .scales = (uint8_t *)scales,
                                .finds = &finds};
        f8_panel_check(f8_kernel_best(), &panel, scratch, &check, hist);
        f8_sums sums;
        f8_finds_sums(&finds, &sums);
        double again = f8_exact_value(&check.e8m0_e2);
        /* 16 times the codes' range, the squares of that, and all of them. */
        double most = 0x1p9 * fmax((double)size, 0x1p9 * (double)scale);
        most *= most;
        assert_true(again >= 0 && again <= most);
        assert_true(sums.e2 >= 0 && sums.e2 <= most);
        assert_true(sums.v2 >= 0 && sums.v2 <= most);
        assert_true(isfinite(sums.wv) && isfinite(sums.w2));
    }
}

static void test_matrix_call(void **state)
{
    static const uint16_t three = 0x4040;
    f8_error err = {0};
    uint8_t code, scale[2];

    (void)state;
    assert_int_equal(f8_quantize_matrix(&three, F8_DTYPE_BF16, 1, 1,
                                        F8_SCALE_BF16, F8_SCALES_MSE, &code,
                                        scale, NULL, &err),
                     F8_OK);
    assert_memory_equal(scale, "\x00\x3c", 2); /* 2^-7 */
    assert_int_equal(code, 0x7c);              /* 384 = 1.5 * 2^8 */
    assert_int_equal(f8_quantize_matrix(&three, F8_DTYPE_BF16, 1, 1,
                                        F8_SCALE_UE8M0, F8_SCALES_MSE, &code,
                                        scale, NULL, &err),
                     F8_ERR_ARGUMENT);
    assert_string_equal(err.message,
                        "scales of the least error are no powers of two: "
                        "expected a scale dtype of bf16 or f32, found ue8m0");
    assert_int_equal(f8_quantize_matrix(&three, F8_DTYPE_BF16, 1, 1,
                                        F8_SCALE_BF16, (f8_scales)4, &code,
                                        scale, NULL, &err),
                     F8_ERR_ARGUMENT);
    assert_string_equal(err.message, "no such choice of scales: 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_by_hand),
        cmocka_unit_test(test_search_against_brute_force),
        cmocka_unit_test(test_search_at_the_edge),
        cmocka_unit_test(test_search_keeps_weights_finite),
        cmocka_unit_test(test_pow2),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_choice_keeps_weights_finite),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_distance_of_nearest),
        cmocka_unit_test(test_check_of_scales),
        cmocka_unit_test(test_check_of_foreign_codes),
        cmocka_unit_test(test_check_of_huge_scales),
        cmocka_unit_test(test_matrix_call),
    };
    const char *given = getenv("F8_SCALES_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    return cmocka_run_group_tests_name("scales", tests, NULL, NULL);
}
