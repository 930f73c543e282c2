/* test_quant.c - scales by hand, matrices as blocks, and the check of codes
 * that stand already. docs/format.md, section 3. */
#include "helpers.h"

#include <float.h>
#include <math.h>

#include "quant.h"

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* ---- scales -------------------------------------------------------------- */

/* What is stored for amax, as bits of the stored type, and its value. */
static void expect_scale(float amax, f8_scale_dtype dtype, uint32_t stored,
                         float value)
{
    unsigned char to[8];
    size_t n = dtype == F8_SCALE_UE8M0 ? 1 : dtype == F8_SCALE_F32 ? 4 : 2;
    uint32_t found = 0;

    memset(to, 0xa5, sizeof to);
    float returned = f8_scale_store(amax, dtype, to + 1); /* not aligned */
    for (size_t i = 0; i < n; i++)
        found |= (uint32_t)to[1 + i] << 8 * i;
    if (found != stored || bits_of(returned) != bits_of(value))
        fail_msg("amax %a: stored 0x%x, value %a; expected 0x%x, %a",
                 (double)amax, (unsigned)found, (double)returned,
                 (unsigned)stored, (double)value);
    assert_int_equal(to[0], 0xa5);
    assert_int_equal(to[1 + n], 0xa5);
    assert_int_equal(bits_of(f8_scale_load(to + 1, dtype)), bits_of(value));
}

static void test_bf16_scales(void **state)
{
    (void)state;
    expect_scale(448, F8_SCALE_BF16, 0x3f80, 1);
    expect_scale(448, F8_SCALE_DEFAULT, 0x3f80, 1);
    expect_scale(0, F8_SCALE_BF16, 0x3f80, 1); /* a block of zeros */
    expect_scale(448 * 0x1p-20f, F8_SCALE_BF16, 0x3580, 0x1p-20f);
    /* bfloat16 has 7 bits behind the point. 1 + 2^-8 lies between 1 (even) and
     * 1 + 2^-7; 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6 (even). Both times
     * 448 is a whole number of binary32. */
    expect_scale(449.75f, F8_SCALE_BF16, 0x3f80, 1);
    expect_scale(453.25f, F8_SCALE_BF16, 0x3f82, 1.015625f);
    /* The next binary32 after 449.75 gives a quotient of 1 + 2^-8 + 2^-23,
     * which is above the middle; the one before gives one below. */
    expect_scale(0x1.c1c002p+8f, F8_SCALE_BF16, 0x3f81, 1.0078125f);
    expect_scale(0x1.c1bffep+8f, F8_SCALE_BF16, 0x3f80, 1);
    /* The largest binary32: 2^128 / 448 = 2^119 * 1.142857; 0.142857 * 128 is
     * 18.3, so the mantissa is 18 and the bits are (119 + 127) << 7 | 18. */
    expect_scale(FLT_MAX, F8_SCALE_BF16, 0x7b12, 0x1.24p+119f);
}

static void test_small_bf16_scales(void **state)
{
    (void)state;
    /* 2^-126 is the smallest normal number; 448 * 2^-126 its amax. */
    expect_scale(448 * 0x1p-126f, F8_SCALE_BF16, 0x0080, 0x1p-126f);
    expect_scale(448 * 0x1p-125f, F8_SCALE_BF16, 0x0100, 0x1p-125f);
    expect_scale(448 * 0x1p-127f, F8_SCALE_BF16, 0x0080, 0x1p-126f);
    expect_scale(0x1p-126f, F8_SCALE_BF16, 0x0080, 0x1p-126f);
    expect_scale(0x1p-149f, F8_SCALE_BF16, 0x0080, 0x1p-126f);
    /* Below 2^-126, but rounded to it. */
    expect_scale(448 * 0x1p-126f * (1 - 0x1p-10f), F8_SCALE_BF16, 0x0080,
                 0x1p-126f);
}

static void test_f32_scales(void **state)
{
    (void)state;
    expect_scale(448, F8_SCALE_F32, 0x3f800000, 1);
    expect_scale(0, F8_SCALE_F32, 0x3f800000, 1);
    /* numpy: (np.float32(1) / np.float32(448)).view(np.uint32), and 3. */
    expect_scale(1, F8_SCALE_F32, 0x3b124925, float_of(0x3b124925));
    expect_scale(3, F8_SCALE_F32, 0x3bdb6db7, float_of(0x3bdb6db7));
    expect_scale(449.75f, F8_SCALE_F32, 0x3f808000, 1.00390625f);
    expect_scale(448 * 0x1p-126f, F8_SCALE_F32, 0x00800000, 0x1p-126f);
    expect_scale(447 * 0x1p-126f, F8_SCALE_F32, 0x00800000, 0x1p-126f);
    expect_scale(0x1p-149f, F8_SCALE_F32, 0x00800000, 0x1p-126f);
}

static void test_ue8m0_scales(void **state)
{
    (void)state;
    /* Exact powers of two stay, all else goes up. */
    expect_scale(448, F8_SCALE_UE8M0, 127, 1);
    expect_scale(0, F8_SCALE_UE8M0, 127, 1);
    expect_scale(896, F8_SCALE_UE8M0, 128, 2);
    expect_scale(449, F8_SCALE_UE8M0, 128, 2);
    expect_scale(447, F8_SCALE_UE8M0, 127, 1);
    expect_scale(224, F8_SCALE_UE8M0, 126, 0.5f);
    expect_scale(225, F8_SCALE_UE8M0, 127, 1);
    expect_scale(1, F8_SCALE_UE8M0, 119, 0x1p-8f); /* 1 / 448 > 2^-9 */
    /* 256 x 2^120 is infinite, and 248 the least that becomes 256. */
    expect_scale(0x1.effffep127f, F8_SCALE_UE8M0, 247, 0x1p120f);
    expect_scale(0x1.fp127f, F8_SCALE_UE8M0, 246, 0x1p119f);
    expect_scale(FLT_MAX, F8_SCALE_UE8M0, 246, 0x1p119f);
    /* The smallest normal number, the one subnormal that has a code, what
     * lies between them, and all that is below. */
    expect_scale(448 * 0x1p-126f, F8_SCALE_UE8M0, 1, 0x1p-126f);
    expect_scale(449 * 0x1p-126f, F8_SCALE_UE8M0, 2, 0x1p-125f);
    expect_scale(448 * 0x1p-127f, F8_SCALE_UE8M0, 0, 0x1p-127f);
    expect_scale(449 * 0x1p-127f, F8_SCALE_UE8M0, 1, 0x1p-126f);
    expect_scale(447 * 0x1p-127f, F8_SCALE_UE8M0, 0, 0x1p-127f);
    expect_scale(0x1p-149f, F8_SCALE_UE8M0, 0, 0x1p-127f);
}

static void test_scale_load(void **state)
{
    static const uint8_t e8m0[] = {0, 1, 127, 254, 255};

    (void)state;
    assert_true(f8_scale_load(&e8m0[0], F8_SCALE_UE8M0) == 0x1p-127f);
    assert_true(f8_scale_load(&e8m0[1], F8_SCALE_UE8M0) == 0x1p-126f);
    assert_true(f8_scale_load(&e8m0[2], F8_SCALE_UE8M0) == 1);
    assert_true(f8_scale_load(&e8m0[3], F8_SCALE_UE8M0) == 0x1p127f);
    assert_true(isnan(f8_scale_load(&e8m0[4], F8_SCALE_UE8M0)));
    /* Little endian: 0xc0a0 is -5, 0x7f80 an infinity, 0x0001 2^-133. */
    assert_true(f8_scale_load("\xa0\xc0", F8_SCALE_BF16) == -5);
    assert_true(isinf(f8_scale_load("\x80\x7f", F8_SCALE_BF16)));
    assert_true(f8_scale_load("\x01\x00", F8_SCALE_BF16) == 0x1p-133f);
    assert_true(f8_scale_load("\x00\x00\xa0\xc0", F8_SCALE_F32) == -5);
}

static void test_scale_storage(void **state)
{
    f8_scale_dtype found = F8_SCALE_DEFAULT;

    (void)state;
    assert_int_equal(f8_scale_storage(F8_SCALE_DEFAULT), F8_DTYPE_BF16);
    assert_int_equal(f8_scale_storage(F8_SCALE_BF16), F8_DTYPE_BF16);
    assert_int_equal(f8_scale_storage(F8_SCALE_F32), F8_DTYPE_F32);
    assert_int_equal(f8_scale_storage(F8_SCALE_UE8M0), F8_DTYPE_E8M0);
    for (int dtype = 0; dtype < F8_DTYPE_COUNT; dtype++) {
        bool known = dtype == F8_DTYPE_BF16 || dtype == F8_DTYPE_F32 ||
                     dtype == F8_DTYPE_E8M0;
        assert_int_equal(f8_scale_from_storage((f8_dtype)dtype, &found), known);
        if (known)
            assert_int_equal(f8_scale_storage(found), dtype);
    }
}

/* ---- panels -------------------------------------------------------------- */

/* Numbers that repeat nowhere near: the upper bits of a multiplicative
 * generator, as bfloat16 with an exponent of -4 or 0. */
static uint16_t weight_bits(uint64_t i)
{
    uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint16_t)((x >> 48 & 0x83ff) | 0x3d80);
}

static void expect_same_sums(const f8_sums *a, const f8_sums *b)
{
    assert_true(a->w2 == b->w2);
    assert_true(a->e2 == b->e2);
    assert_true(a->wv == b->wv);
    assert_true(a->v2 == b->v2);
    assert_true(a->max_abs == b->max_abs);
}

/* 300 x 200 gives blocks of 128 or 44 rows and 128 or 72 columns. All at once
 * they give what each gives as a matrix of its own. */
static void check_against_blocks(f8_scale_dtype dtype)
{
    enum { ROWS = 300, COLS = 200, STRIDE = 205, CODES = 203 };
    static uint16_t weights[ROWS * STRIDE], packed[128 * 128];
    static uint8_t codes[ROWS * CODES], block_codes[128 * 128];
    static uint64_t hist[F8_HIST_BINS], block_hist[F8_HIST_BINS];
    size_t scale_bytes = f8_dtype_bytes(f8_scale_storage(dtype));
    uint8_t scales[3 * 2 * 4], block_scale[4];
    f8_sums sums = {0}, block_sums = {0};
    f8_spot spot;

    for (uint64_t i = 0; i < ROWS * STRIDE; i++)
        weights[i] = weight_bits(i);
    memset(codes, 0xee, sizeof codes);
    memset(scales, 0xee, sizeof scales);
    memset(hist, 0, sizeof hist);
    memset(block_hist, 0, sizeof block_hist);
    f8_panel panel = {weights,
                      STRIDE * 2,
                      F8_DTYPE_BF16,
                      ROWS,
                      COLS,
                      codes,
                      CODES,
                      dtype,
                      scales,
                      false,
                      F8_SCALES_DEFAULT,
                      false,
                      NULL};
    assert_true(panel_quantise(&f8_kernel_ref, &panel, &sums, hist, &spot));
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 2; j++) {
            unsigned rows = i < 2 ? 128 : 44, cols = j < 1 ? 128 : 72;
            for (unsigned r = 0; r < rows; r++)
                memcpy(packed + r * cols,
                       weights + (i * 128 + r) * STRIDE + j * 128, cols * 2);
            f8_panel one = {packed,
                            cols * 2,
                            F8_DTYPE_BF16,
                            rows,
                            cols,
                            block_codes,
                            cols,
                            dtype,
                            block_scale,
                            false,
                            F8_SCALES_DEFAULT,
                            false,
                            NULL};
            assert_true(panel_quantise(&f8_kernel_ref, &one, &block_sums,
                                       block_hist, &spot));
            assert_memory_equal(scales + (i * 2 + j) * scale_bytes, block_scale,
                                scale_bytes);
            for (unsigned r = 0; r < rows; r++)
                assert_memory_equal(codes + (i * 128 + r) * CODES + j * 128,
                                    block_codes + r * cols, cols);
        }
    }
    assert_memory_equal(hist, block_hist, sizeof hist);
    expect_same_sums(&sums, &block_sums);
    /* Nothing is written between the rows or behind the scales. */
    for (unsigned r = 0; r < ROWS; r++) {
        for (unsigned c = COLS; c < CODES; c++)
            assert_int_equal(codes[r * CODES + c], 0xee);
    }
    for (size_t i = 6 * scale_bytes; i < sizeof scales; i++)
        assert_int_equal(scales[i], 0xee);
}

static void test_ragged_panel(void **state)
{
    (void)state;
    check_against_blocks(F8_SCALE_BF16);
    check_against_blocks(F8_SCALE_F32);
    check_against_blocks(F8_SCALE_UE8M0);
}

/* Codes of one small block by hand. amax is 448, so the scale is 1. */
static void test_block_by_hand(void **state)
{
    /* 0x38 is 1 (exponent 7, mantissa 0); 0x7e 448; 0x01 2^-9. 17 lies
     * between 16 (0x58, even) and 18 (0x59); 19 between 18 and 20 (0x5a,
     * even); 2^-10 between 0 and 2^-9, and 0 is even. */
    static const float weights[3][3] = {
        {448, -448, 1}, {17, 19, 0x1p-10f}, {-0.0f, 0x1p-9f, -1.0625f}};
    static const uint8_t expected[3][3] = {
        {0x7e, 0xfe, 0x38}, {0x58, 0x5a, 0x00}, {0x80, 0x01, 0xb8}};
    uint64_t hist[F8_HIST_BINS] = {0};
    uint8_t codes[3][3];
    float scale = 0;
    f8_sums sums = {0};
    f8_spot spot;

    (void)state;
    f8_panel panel = {weights,
                      12,
                      F8_DTYPE_F32,
                      3,
                      3,
                      &codes[0][0],
                      3,
                      F8_SCALE_F32,
                      (uint8_t *)&scale,
                      false,
                      F8_SCALES_DEFAULT,
                      false,
                      NULL};
    assert_true(panel_quantise(&f8_kernel_ref, &panel, &sums, hist, &spot));
    assert_true(scale == 1);
    assert_memory_equal(codes, expected, sizeof codes);
    /* The errors are 1, 1, 2^-10 and 0.0625; one weight is zero. */
    assert_true(sums.max_abs == 1);
    assert_true(fabs(sums.e2 - (2 + 0x1p-20 + 0x1p-8)) < 1e-9);
    assert_int_equal(hist[F8_HIST_ZERO], 1);
    /* 448, 448, 1 and 2^-9 are exact. */
    assert_int_equal(hist[F8_HIST_EXACT], 4);
    /* 2^-10 became 0: a relative error of 1 = 2^0. */
    assert_int_equal(hist[F8_HIST_COARSE + 4 * 64], 1);
}

static void test_odd_weights(void **state)
{
    enum { ROWS = 260, COLS = 300 };
    static float weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    static uint64_t hist[F8_HIST_BINS];
    uint8_t scales[3 * 3 * 2];
    f8_sums sums = {0};
    f8_spot spot = {0, 0, 0};

    (void)state;
    f8_panel panel = {weights,
                      COLS * 4,
                      F8_DTYPE_F32,
                      ROWS,
                      COLS,
                      codes,
                      COLS,
                      F8_SCALE_BF16,
                      scales,
                      false,
                      F8_SCALES_DEFAULT,
                      false,
                      NULL};
    weights[259 * COLS + 299] = -INFINITY;
    assert_false(panel_quantise(&f8_kernel_ref, &panel, &sums, hist, &spot));
    assert_int_equal(spot.row, 259);
    assert_int_equal(spot.col, 299);
    assert_true(isinf(spot.value) && spot.value < 0);
    /* The first by block: row 130 of the first column of blocks comes before
     * row 129 of the second. In a block the first by row. */
    weights[129 * COLS + 257] = NAN;
    weights[131 * COLS + 0] = NAN;
    weights[130 * COLS + 7] = INFINITY;
    weights[130 * COLS + 9] = NAN;
    assert_false(panel_quantise(&f8_kernel_ref, &panel, &sums, hist, &spot));
    assert_int_equal(spot.row, 130);
    assert_int_equal(spot.col, 7);
    assert_true(isinf(spot.value) && spot.value > 0);
    /* And a whole band before the next: row 127, last columns. */
    weights[127 * COLS + 298] = NAN;
    assert_false(panel_quantise(&f8_kernel_ref, &panel, &sums, hist, &spot));
    assert_int_equal(spot.row, 127);
    assert_int_equal(spot.col, 298);
    assert_true(isnan(spot.value));
}

/* ---- checking codes ------------------------------------------------------ */

static uint8_t scratch[128 * 128];

/* One row of weights in binary32 against codes, with one scale of 1. */
static f8_check check_row(const float *weights, const uint8_t *codes,
                          unsigned n, f8_sums *sums, uint64_t *hist)
{
    static uint8_t copy[128];
    float scale = 1;
    f8_check check = {0};

    memcpy(copy, codes, n);
    f8_panel panel = {weights,
                      n * 4,
                      F8_DTYPE_F32,
                      1,
                      n,
                      copy,
                      n,
                      F8_SCALE_F32,
                      (uint8_t *)&scale,
                      false,
                      F8_SCALES_DEFAULT,
                      false,
                      NULL};
    panel_check(&f8_kernel_ref, &panel, scratch, &check, sums, hist);
    assert_memory_equal(copy, codes, n); /* it only looks */
    return check;
}

static void test_check_accepts_what_is_as_near(void **state)
{
    /* 17 is as near to 16 (0x58) as to 18 (0x59); 2^-10 to 0 as to 2^-9; both
     * zeros are zero; beyond 448 nothing is nearer than 448. */
    static const float weights[] = {17, 17, 0x1p-10f,  0x1p-10f, -0.0f, -0.0f,
                                    0,  0,  -0x1p-10f, 500,      -1000, 1};
    static const uint8_t codes[] = {0x58, 0x59, 0x00, 0x01, 0x80, 0x00,
                                    0x00, 0x80, 0x00, 0x7e, 0xfe, 0x38};
    uint64_t hist[F8_HIST_BINS] = {0};
    f8_sums sums = {0};

    (void)state;
    f8_check check = check_row(weights, codes, 12, &sums, hist);
    assert_int_equal(check.not_nearest, 0);
    assert_int_equal(check.nan_codes, 0);
    assert_int_equal(check.bad_scales, 0);
    assert_int_equal(check.far_scales, 0);
}

static void test_check_counts_faults(void **state)
{
    /* 1 is 0x38; its neighbours, the other sign, and both NaN codes. 448, so
     * that the scale of 1 is right. With NaN codes the block has no error. */
    static const float weights[] = {1, 1, 1, 1, 1, 1, 17, -1, 0, 448};
    static const uint8_t codes[] = {0x38, 0x39, 0x37, 0xb8, 0x7f,
                                    0xff, 0x5a, 0x38, 0x01, 0x7e};
    uint64_t hist[F8_HIST_BINS] = {0};
    f8_sums sums = {0};

    (void)state;
    f8_check check = check_row(weights, codes, 10, &sums, hist);
    assert_int_equal(check.not_nearest, 6);
    assert_int_equal(check.nan_codes, 2);
    assert_int_equal(check.bad_scales, 0);
    assert_int_equal(check.wrong.row, 0);
    assert_int_equal(check.wrong.col, 1);
    assert_true(check.wrong.value == 1);
    assert_int_equal(check.nan.row, 0);
    assert_int_equal(check.nan.col, 4);
    for (size_t i = 0; i < F8_HIST_BINS; i++)
        assert_int_equal(hist[i], 0);
    assert_int_equal(check.blocks, 0);
    assert_true(sums.w2 == 0 && sums.e2 == 0 && sums.max_abs == 0);
}

/* Eight blocks beside each other, of 448 with the code 0x7e under a scale of 1
 * but for what is said here; the others are measured, without an error. */
static void test_check_leaves_out(void **state)
{
    enum { BLOCKS = 8, COLS = BLOCKS * 128 - 28, ROWS = 2 };
    static float weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    float scales[BLOCKS] = {1, 0, 1, 0x1p126f, 0x1p126f, 0x1p119f, 1, NAN};
    uint64_t hist[F8_HIST_BINS] = {0};
    f8_finds finds;
    f8_check check = {0};

    (void)state;
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) {
        weights[i] = 448;
        codes[i] = 0x7e;
    }
    codes[2 * 128 + 5] = 0xff; /* NaN */
    /* Under 2^126 codes from 4 on are infinite; 2 is 0x40, which 2^127 has. */
    for (size_t i = 0; i < ROWS * (size_t)COLS; i++) {
        if (i % COLS / 128 == 4) {
            weights[i] = 0x1p127f;
            codes[i] = 0x40;
        } else if (i % COLS / 128 == 5) { /* 448 x 2^119 is still finite */
            weights[i] = 448 * 0x1p119f;
        }
    }
    weights[COLS + 6 * 128] = INFINITY;
    f8_panel panel = {.weights = weights,
                      .stride_bytes = COLS * sizeof *weights,
                      .dtype = F8_DTYPE_F32,
                      .rows = ROWS,
                      .cols = COLS,
                      .codes = codes,
                      .codes_stride = COLS,
                      .scale_dtype = F8_SCALE_F32,
                      .scales = (uint8_t *)scales,
                      .finds = &finds};
    memset(&finds, 0, sizeof finds);
    f8_panel_check(f8_kernel_best(), &panel, scratch, &check, hist);
    assert_int_equal(check.bad_scales, 2);
    assert_int_equal(check.nan_codes, 1);
    assert_int_equal(check.odd_weights, 1);
    assert_int_equal(check.far_scales, 2); /* blocks 3 and 4 */
    assert_int_equal(check.infinite, 0);
    assert_int_equal(check.blocks, 3);
    assert_int_equal(finds.unmeasured_blocks, 5);
    /* The last block has 100 columns. */
    assert_int_equal(finds.unmeasured_elems, ROWS * (4 * 128 + 100));
    assert_int_equal(hist[F8_HIST_EXACT], ROWS * 3 * 128);
    for (size_t i = F8_HIST_EXACT + 1; i < F8_HIST_BINS; i++)
        assert_int_equal(hist[i], 0);
    assert_true(f8_exact_value(&check.e8m0_e2) == 0);
    assert_true(finds.max_abs == 0);
}

/* Under a scale of 2^121, which is not far off, 1.96875 x 2^127 is 126, whose
 * nearest code is 128, 0x70: but 128 x 2^121 is infinite. */
static void test_check_infinite(void **state)
{
    static const float weights[] = {0x1.f8p127f, 0};
    static const uint8_t codes[] = {0x70, 0x00};
    uint64_t hist[F8_HIST_BINS] = {0};
    float scale = 0x1p121f;
    f8_finds finds;
    f8_check check = {0};

    (void)state;
    f8_panel panel = {.weights = weights,
                      .stride_bytes = sizeof weights,
                      .dtype = F8_DTYPE_F32,
                      .rows = 1,
                      .cols = 2,
                      .codes = (uint8_t *)(uintptr_t)codes,
                      .codes_stride = 2,
                      .scale_dtype = F8_SCALE_F32,
                      .scales = (uint8_t *)&scale,
                      .finds = &finds};
    memset(&finds, 0, sizeof finds);
    f8_panel_check(f8_kernel_best(), &panel, scratch, &check, hist);
    assert_int_equal(check.not_nearest, 0);
    assert_int_equal(check.far_scales, 0);
    assert_int_equal(check.infinite, 1);
    assert_true(check.beyond.value == scale);
    assert_int_equal(finds.unmeasured_elems, 2);
    for (size_t i = 0; i < F8_HIST_BINS; i++)
        assert_int_equal(hist[i], 0);
}

/* The first fault may be a scale; the first code that is not the nearest has
 * a place of its own. */
static void test_check_first_wrong_code(void **state)
{
    /* Blocks of 128 columns: a scale that lies far off its weights, with the
     * nearest codes; a NaN; and two codes one step away. 1 is 0x38, 448 0x7e,
     * 1/8 0x20. */
    enum { COLS = 384 };
    static float weights[COLS];
    static uint8_t codes[COLS];
    static const float scales[] = {8, 1, 1};
    uint64_t hist[F8_HIST_BINS] = {0};
    f8_check check = {0};
    f8_sums sums = {0};

    (void)state;
    for (unsigned i = 0; i < COLS; i++) {
        weights[i] = i >= 128 && i % 128 == 0 ? 448 : 1;
        codes[i] = i < 128 ? 0x20 : i % 128 == 0 ? 0x7e : 0x38;
    }
    codes[130] = 0x7f;
    codes[300] = 0x39;
    codes[301] = 0x37;
    f8_panel panel = {.weights = weights,
                      .stride_bytes = sizeof weights,
                      .dtype = F8_DTYPE_F32,
                      .rows = 1,
                      .cols = COLS,
                      .codes = codes,
                      .codes_stride = COLS,
                      .scale_dtype = F8_SCALE_F32,
                      .scales = (uint8_t *)(uintptr_t)scales};
    panel_check(&f8_kernel_ref, &panel, scratch, &check, &sums, hist);
    assert_int_equal(check.far_scales, 1);
    assert_int_equal(check.nan_codes, 1);
    assert_int_equal(check.not_nearest, 2);
    assert_int_equal(check.far.col, 0);
    assert_int_equal(check.wrong.row, 0);
    assert_int_equal(check.wrong.col, 300);
    assert_true(check.wrong.value == 1);
}

static void test_check_far_scales(void **state)
{
    /* With a scale of 1, amax may be from 448 / 4 to 448 * 4. */
    static const struct {
        float amax;
        uint64_t far_scales;
    } cases[] = {{112, 0}, {111, 1}, {448, 0}, {1792, 0}, {1800, 1}, {0, 0}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t hist[F8_HIST_BINS] = {0};
        uint8_t code = f8_e4m3_encode(cases[i].amax);
        f8_sums sums = {0};
        f8_check check = check_row(&cases[i].amax, &code, 1, &sums, hist);
        assert_int_equal(check.far_scales, cases[i].far_scales);
        assert_int_equal(check.not_nearest, 0);
    }
}

/* Below the least scale and its octave none can be nearer. */
static void test_check_least_scales(void **state)
{
    static const struct {
        float scale;
        uint64_t far_scales;
    } cases[] = {{0x1p-126f, 0}, {0x1.8p-126f, 0}, {0x1p-125f, 1}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t hist[F8_HIST_BINS] = {0};
        float weight = 0x1p-149f, scale = cases[i].scale;
        uint8_t code = 0;
        f8_check check = {0};
        f8_sums sums = {0};
        f8_panel panel = {.weights = &weight,
                          .stride_bytes = 4,
                          .dtype = F8_DTYPE_F32,
                          .rows = 1,
                          .cols = 1,
                          .codes = &code,
                          .codes_stride = 1,
                          .scale_dtype = F8_SCALE_F32,
                          .scales = (uint8_t *)&scale};
        panel_check(&f8_kernel_ref, &panel, scratch, &check, &sums, hist);
        assert_int_equal(check.far_scales, cases[i].far_scales);
        assert_int_equal(check.not_nearest, 0);
    }
}

/* All weights are 448, and every scale but one is 1; a block of each row of
 * blocks gets a scale that is none. */
static void test_check_bad_scales(void **state)
{
    enum { ROWS = 200, COLS = 300 };
    static const float bad[] = {0, -1, INFINITY, NAN, -0.0f, -INFINITY};
    static float weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    uint64_t hist[F8_HIST_BINS];
    float scales[6];

    (void)state;
    for (size_t i = 0; i < ROWS * COLS; i++) {
        weights[i] = 448;
        codes[i] = 0x7e;
    }
    f8_panel panel = {weights,
                      COLS * 4,
                      F8_DTYPE_F32,
                      ROWS,
                      COLS,
                      codes,
                      COLS,
                      F8_SCALE_F32,
                      (uint8_t *)scales,
                      false,
                      F8_SCALES_DEFAULT,
                      false,
                      NULL};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        f8_check check = {0};
        f8_sums sums = {0};
        memset(hist, 0, sizeof hist);
        for (size_t k = 0; k < 6; k++)
            scales[k] = 1;
        scales[4] = bad[i]; /* rows from 128, columns from 128 */
        panel_check(&f8_kernel_ref, &panel, scratch, &check, &sums, hist);
        assert_int_equal(check.bad_scales, 1);
        assert_int_equal(check.not_nearest, 0);
        assert_int_equal(check.nan_codes, 0);
        assert_int_equal(check.bad.row, 128);
        assert_int_equal(check.bad.col, 128);
        assert_int_equal(bits_of(check.bad.value), bits_of(bad[i]));
        /* The 72 x 128 weights of that block are left out. */
        assert_true(sums.w2 == 448.0 * 448 * (ROWS * COLS - 72 * 128));
        assert_int_equal(hist[F8_HIST_EXACT], ROWS * COLS - 72 * 128);
    }
}

/* Faults add up over calls, and the first stays the first. Ragged edges and
 * strides are looked at like the rest. */
static void test_check_adds_up(void **state)
{
    enum { ROWS = 130, COLS = 140, STRIDE = 144 };
    static uint16_t weights[ROWS * STRIDE];
    static uint8_t codes[ROWS * STRIDE];
    static uint64_t hist[F8_HIST_BINS];
    uint8_t scales[4 * 2];
    f8_check check = {0};
    f8_sums sums = {0}, again = {0};
    f8_spot spot;

    (void)state;
    for (uint64_t i = 0; i < ROWS * STRIDE; i++)
        weights[i] = weight_bits(i);
    f8_panel panel = {weights,
                      STRIDE * 2,
                      F8_DTYPE_BF16,
                      ROWS,
                      COLS,
                      codes,
                      STRIDE,
                      F8_SCALE_BF16,
                      scales,
                      false,
                      F8_SCALES_DEFAULT,
                      false,
                      NULL};
    assert_true(panel_quantise(&f8_kernel_ref, &panel, &sums, hist, &spot));
    panel_check(&f8_kernel_ref, &panel, scratch, &check, &again, hist);
    assert_int_equal(check.not_nearest + check.nan_codes, 0);
    expect_same_sums(&sums, &again);

    codes[129 * STRIDE + 139] ^= 0x80; /* weights are never zero */
    panel_check(&f8_kernel_ref, &panel, scratch, &check, &again, hist);
    assert_int_equal(check.not_nearest, 1);
    assert_int_equal(check.wrong.row, 129);
    assert_int_equal(check.wrong.col, 139);
    assert_true(check.wrong.value ==
                float_of((uint32_t)weights[129 * STRIDE + 139] << 16));
    codes[0] = 0x7f;
    panel_check(&f8_kernel_ref, &panel, scratch, &check, &again, hist);
    assert_int_equal(check.not_nearest, 2);
    assert_int_equal(check.nan_codes, 1);
    assert_int_equal(check.wrong.row, 129);
    assert_int_equal(check.nan.row, 0);
    assert_int_equal(check.nan.col, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16_scales),
        cmocka_unit_test(test_small_bf16_scales),
        cmocka_unit_test(test_f32_scales),
        cmocka_unit_test(test_ue8m0_scales),
        cmocka_unit_test(test_scale_load),
        cmocka_unit_test(test_scale_storage),
        cmocka_unit_test(test_ragged_panel),
        cmocka_unit_test(test_block_by_hand),
        cmocka_unit_test(test_odd_weights),
        cmocka_unit_test(test_check_accepts_what_is_as_near),
        cmocka_unit_test(test_check_counts_faults),
        cmocka_unit_test(test_check_leaves_out),
        cmocka_unit_test(test_check_infinite),
        cmocka_unit_test(test_check_far_scales),
        cmocka_unit_test(test_check_first_wrong_code),
        cmocka_unit_test(test_check_least_scales),
        cmocka_unit_test(test_check_bad_scales),
        cmocka_unit_test(test_check_adds_up),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
