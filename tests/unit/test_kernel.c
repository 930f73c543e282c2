/* test_kernel.c - every kernel that this CPU can run against plain C, bit for
 * bit: codes, scales, values, what is not finite, sums and histogram. In the
 * manner of checkasm: buffers end at pages that may not be touched, on either
 * side, and what surrounds a result must stay as it was.
 *
 * F8_KERNEL_SEED in the environment repeats a run; failures print the seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "quant.h"

/* ---- random numbers ------------------------------------------------------ */

static uint64_t seed = 0x9e3779b97f4a7c15, state;

static uint64_t next_random(void)
{
    uint64_t x = state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static double uniform(void)
{
    return (double)(next_random() >> 11) * 0x1p-53;
}

static double gauss(void)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform();
    return sum;
}

/* ---- guarded memory ------------------------------------------------------ */

/* `size` bytes between pages without access: at their very end, or at their
 * very start when `low`. */
typedef struct guarded {
    uint8_t *map;
    size_t map_bytes;
    uint8_t *bytes;
} guarded;

static guarded guarded_new(size_t size, bool low)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (size + page - 1) / page * page + (size == 0 ? page : 0);
    guarded g = {NULL, room + 2 * page, NULL};
    void *map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    g.map = map;
    memset(g.map, 0xa5, g.map_bytes);
    assert_int_equal(mprotect(g.map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(g.map + page + room, page, PROT_NONE), 0);
    g.bytes = low ? g.map + page : g.map + page + room - size;
    return g;
}

static void guarded_free(guarded *g)
{
    assert_int_equal(munmap(g->map, g->map_bytes), 0);
}

/* ---- comparing ----------------------------------------------------------- */

typedef struct outcome {
    bool ok;
    f8_spot spot;
    f8_sums sums;
    uint64_t hist[F8_HIST_BINS];
} outcome;

static void compare_outcomes(const char *name, const char *what,
                             const outcome *plain, const outcome *other)
{
    if (plain->ok != other->ok)
        fail_msg("%s, %s: finite %d, expected %d (seed 0x%llx)", name, what,
                 other->ok, plain->ok, (unsigned long long)seed);
    if (memcmp(&plain->sums, &other->sums, sizeof plain->sums) != 0)
        fail_msg("%s, %s: sums differ: w2 %a %a e2 %a %a wv %a %a v2 %a %a "
                 "max %a %a (seed 0x%llx)",
                 name, what, plain->sums.w2, other->sums.w2, plain->sums.e2,
                 other->sums.e2, plain->sums.wv, other->sums.wv, plain->sums.v2,
                 other->sums.v2, plain->sums.max_abs, other->sums.max_abs,
                 (unsigned long long)seed);
    for (int i = 0; i < F8_HIST_BINS; i++) {
        if (plain->hist[i] != other->hist[i])
            fail_msg("%s, %s: bin %d: %llu, expected %llu (seed 0x%llx)", name,
                     what, i, (unsigned long long)other->hist[i],
                     (unsigned long long)plain->hist[i],
                     (unsigned long long)seed);
    }
}

static void compare_bytes(const char *name, const char *what,
                          const uint8_t *plain, const uint8_t *other,
                          size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (plain[i] != other[i])
            fail_msg("%s, %s: byte %zu is 0x%02x, expected 0x%02x (seed "
                     "0x%llx)",
                     name, what, i, other[i], plain[i],
                     (unsigned long long)seed);
    }
}

typedef struct matrix {
    const uint8_t *weights;
    f8_dtype dtype;
    size_t rows, cols;
    bool exact;
} matrix;

static size_t matrix_bytes(const matrix *m)
{
    return m->rows * m->cols * f8_dtype_bytes(m->dtype);
}

/* Quantises m, from memory with guards that begins `offset` bytes early. */
static outcome quantise(const f8_kernel *kernel, const matrix *m,
                        f8_scale_dtype scale_dtype, bool low, bool stream,
                        size_t offset, uint8_t *codes, uint8_t *scales)
{
    size_t blocks = (m->rows + 127) / 128 * ((m->cols + 127) / 128);
    size_t scale_bytes = blocks * f8_dtype_bytes(f8_scale_storage(scale_dtype));
    guarded w = guarded_new(matrix_bytes(m) + offset, low);
    guarded c = guarded_new(m->rows * m->cols + offset, low);
    guarded s = guarded_new(scale_bytes, low);
    uint8_t *from = w.bytes + (low ? offset : 0);
    uint8_t *to = c.bytes + (low ? offset : 0);
    f8_finds finds;
    outcome out;

    memset(&finds, 0, sizeof finds);
    memset(&out, 0, sizeof out);
    memcpy(from, m->weights, matrix_bytes(m));
    f8_panel panel = {.weights = from,
                      .stride_bytes = m->cols * f8_dtype_bytes(m->dtype),
                      .dtype = m->dtype,
                      .rows = m->rows,
                      .cols = m->cols,
                      .codes = to,
                      .codes_stride = m->cols,
                      .scale_dtype = scale_dtype,
                      .scales = s.bytes,
                      .stream = stream,
                      .exact = m->exact,
                      .finds = &finds};
    out.ok = f8_panel_quantise(kernel, &panel, out.hist, &out.spot);
    f8_finds_sums(&finds, &out.sums);
    if (out.ok) {
        memcpy(codes, to, m->rows * m->cols);
        memcpy(scales, s.bytes, scale_bytes);
    }
    assert_memory_equal(from, m->weights, matrix_bytes(m));
    guarded_free(&w);
    guarded_free(&c);
    guarded_free(&s);
    return out;
}

static void check_codes(const f8_kernel *kernel, const matrix *m,
                        f8_scale_dtype scale_dtype, uint8_t *codes,
                        uint8_t *scales, f8_check *check, outcome *out)
{
    static uint8_t scratch[F8_BLOCK * F8_BLOCK];
    f8_finds finds;
    f8_panel panel = {.weights = m->weights,
                      .stride_bytes = m->cols * f8_dtype_bytes(m->dtype),
                      .dtype = m->dtype,
                      .rows = m->rows,
                      .cols = m->cols,
                      .codes = codes,
                      .codes_stride = m->cols,
                      .scale_dtype = scale_dtype,
                      .scales = scales,
                      .exact = m->exact,
                      .finds = &finds};
    memset(&finds, 0, sizeof finds);
    memset(out, 0, sizeof *out);
    memset(check, 0, sizeof *check);
    f8_panel_check(kernel, &panel, scratch, check, out->hist);
    f8_finds_sums(&finds, &out->sums);
    out->ok = true;
}

/* Whether all of a block's values are numbers, as an engine reads them. */
static bool has_numbers(const f8_block *block, const uint8_t *codes,
                        size_t stride, float scale)
{
    for (size_t r = 0; r < block->rows; r++) {
        for (size_t c = 0; c < block->cols; c++) {
            if (!isfinite(f8_e4m3_decode(codes[r * stride + c]) * scale))
                return false;
        }
    }
    return true;
}

/* The error of codes that stand, block by block and by definition. Returns
 * whether all blocks have one. */
static bool measure_codes(const matrix *m, f8_scale_dtype scale_dtype,
                          const uint8_t *codes, const uint8_t *scales,
                          outcome *out)
{
    size_t size = f8_dtype_bytes(m->dtype), block = 0;
    size_t scale_size = f8_dtype_bytes(f8_scale_storage(scale_dtype));
    f8_finds finds;
    bool are_all = true;

    memset(&finds, 0, sizeof finds);
    memset(out, 0, sizeof *out);
    out->ok = true;
    for (size_t i = 0; i < m->rows; i += F8_BLOCK) {
        for (size_t j = 0; j < m->cols; j += F8_BLOCK, block++) {
            size_t rows = m->rows - i, cols = m->cols - j;
            f8_block part = {
                .weights = m->weights + (i * m->cols + j) * size,
                .stride_bytes = m->cols * size,
                .dtype = m->dtype,
                .rows = (unsigned)(rows < F8_BLOCK ? rows : F8_BLOCK),
                .cols = (unsigned)(cols < F8_BLOCK ? cols : F8_BLOCK),
                .exact = m->exact};
            f8_sums own = {0, 0, 0, 0, 0};
            const uint8_t *first = codes + i * m->cols + j;
            float scale =
                f8_scale_load(scales + block * scale_size, scale_dtype);
            if (!has_numbers(&part, first, m->cols, scale)) {
                are_all = false;
                continue;
            }
            f8_kernel_ref.measure(&part, scale, first, m->cols, &own,
                                  out->hist);
            f8_finds_block(&finds, &own, (f8_place){i, j});
            finds.max_abs = fmax(finds.max_abs, own.max_abs);
        }
    }
    f8_finds_sums(&finds, &out->sums);
    return are_all;
}

/* Codes measured as if they were anybody's have sums with values of their own,
 * which follow from those with errors where codes were just made: the same
 * numbers, rounded otherwise. */
static void compare_measured(const char *name, const char *what,
                             const outcome *measured, const outcome *other)
{
    outcome alike = *measured;
    const f8_sums *sums = &other->sums;

    if (fabs(sums->wv - alike.sums.wv) <= 1e-5 * sqrt(sums->w2 * sums->v2))
        alike.sums.wv = sums->wv;
    if (fabs(sums->v2 - alike.sums.v2) <= 1e-5 * sums->v2)
        alike.sums.v2 = sums->v2;
    compare_outcomes(name, what, &alike, other);
}

/* Everything about one matrix: quantised by all kernels; then its codes
 * checked, as they are and with some changed. */
static void check_matrix(const matrix *given, f8_scale_dtype scale_dtype,
                         const char *what)
{
    static bool exact; /* every second matrix */
    matrix now = *given, *m = &now;
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
    size_t elems = m->rows * m->cols;
    size_t scale_room = ((m->rows + 127) / 128) * ((m->cols + 127) / 128) * 4;
    uint8_t *plain_codes = malloc(elems), *codes = malloc(elems);
    uint8_t *plain_scales = calloc(scale_room, 1);
    uint8_t *scales = calloc(scale_room, 1);
    f8_check found, plain_found;
    outcome checked, plain_checked;
    assert_true(plain_codes && codes && plain_scales && scales);

    exact = !exact;
    now.exact = exact;
    outcome plain = quantise(&f8_kernel_ref, m, scale_dtype, false, false, 0,
                             plain_codes, plain_scales);
    for (size_t k = 0; k < kernels; k++) {
        for (unsigned variant = 0; variant < 4; variant++) {
            outcome out =
                quantise(list[k], m, scale_dtype, variant & 1, variant & 2,
                         variant == 3 ? 0 : variant, codes, scales);
            compare_outcomes(list[k]->name, what, &plain, &out);
            if (!plain.ok) {
                assert_int_equal(plain.spot.row, out.spot.row);
                assert_int_equal(plain.spot.col, out.spot.col);
                continue;
            }
            compare_bytes(list[k]->name, what, plain_codes, codes, elems);
            compare_bytes(list[k]->name, what, plain_scales, scales,
                          scale_room);
        }
    }
    if (plain.ok) {
        for (int changed = 0; changed < 2; changed++) {
            if (changed) {
                for (size_t i = 0; i < 1 + elems / 100; i++)
                    plain_codes[next_random() % elems] = (uint8_t)next_random();
            }
            outcome measured;
            bool are_all = measure_codes(m, scale_dtype, plain_codes,
                                         plain_scales, &measured);
            check_codes(&f8_kernel_ref, m, scale_dtype, plain_codes,
                        plain_scales, &plain_found, &plain_checked);
            compare_measured("ref, checked", what, &measured, &plain_checked);
            if (!changed) {
                assert_true(are_all); /* no weight became infinite */
                compare_measured("ref, made", what, &measured, &plain);
                assert_int_equal(plain_found.not_nearest, 0);
            }
            for (size_t k = 0; k < kernels; k++) {
                check_codes(list[k], m, scale_dtype, plain_codes, plain_scales,
                            &found, &checked);
                compare_outcomes(list[k]->name, what, &plain_checked, &checked);
                assert_int_equal(found.not_nearest, plain_found.not_nearest);
                assert_int_equal(found.nan_codes, plain_found.nan_codes);
                double again = f8_exact_value(&found.e8m0_e2);
                double plain_again = f8_exact_value(&plain_found.e8m0_e2);
                if (again != plain_again)
                    fail_msg("%s, %s: e8m0_e2 %a, expected %a (seed 0x%llx)",
                             list[k]->name, what, again, plain_again,
                             (unsigned long long)seed);
                assert_int_equal(found.wrong.row, plain_found.wrong.row);
                assert_int_equal(found.wrong.col, plain_found.wrong.col);
                assert_int_equal(found.nan.row, plain_found.nan.row);
                assert_int_equal(found.nan.col, plain_found.nan.col);
            }
        }
    }
    free(plain_codes);
    free(codes);
    free(plain_scales);
    free(scales);
}

/* ---- making weights ------------------------------------------------------ */

static uint16_t to_f16(double x)
{
    double a = fabs(x);
    unsigned sign = signbit(x) ? 0x8000u : 0;
    int exponent;

    if (a >= 65504)
        return (uint16_t)(sign | 0x7bff);
    (void)frexp(a, &exponent);
    exponent = exponent < -13 ? -13 : exponent;
    unsigned m = (unsigned)lrint(ldexp(a, 11 - exponent));
    /* A subnormal's leading bit, if it has one, carries into the exponent. */
    return (uint16_t)(sign | (((unsigned)(exponent + 13) << 10) + m));
}

static void put(uint8_t *to, f8_dtype dtype, double x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (dtype == F8_DTYPE_F32) {
        memcpy(to, &u, 4);
        return;
    }
    uint16_t half = dtype == F8_DTYPE_F16
                        ? to_f16(x)
                        : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    memcpy(to, &half, 2);
}

typedef double (*shape_fn)(void);

static double shape_gauss(void)
{
    return gauss() * 0.02;
}

static double shape_uniform(void)
{
    return 2 * uniform() - 1;
}

/* Many zeros of both signs. */
static double shape_sparse(void)
{
    return uniform() < 0.5 ? (uniform() < 0.5 ? 0.0 : -0.0) : gauss();
}

/* Codes of every exponent, subnormal and zero ones too. */
static double shape_wide(void)
{
    return ldexp(uniform() < 0.5 ? -1 - uniform() : 1 + uniform(),
                 -(int)(next_random() % 24));
}

/* One outlier makes nearly all others subnormal. */
static double shape_outlier(void)
{
    return uniform() < 0.0005 ? 1000 : gauss() * 0.01;
}

/* All alike: a counter of eight bits runs over. */
static double shape_alike(void)
{
    return 0.7;
}

/* Codes times a power of two: no error at all. */
static double shape_exact(void)
{
    return ldexp((double)(8 + next_random() % 8), -(int)(next_random() % 8));
}

static void fill(uint8_t *to, f8_dtype dtype, size_t elems, shape_fn shape,
                 int power)
{
    for (size_t i = 0; i < elems; i++)
        put(to + i * f8_dtype_bytes(dtype), dtype, ldexp(shape(), power));
}

static const f8_dtype dtypes[] = {F8_DTYPE_BF16, F8_DTYPE_F16, F8_DTYPE_F32};
static const f8_scale_dtype scale_dtypes[] = {F8_SCALE_BF16, F8_SCALE_F32,
                                              F8_SCALE_UE8M0};

static void check_shape(size_t rows, size_t cols, shape_fn shape, int power,
                        f8_dtype dtype, const char *what)
{
    uint8_t *weights = malloc(rows * cols * 4);
    assert_non_null(weights);
    fill(weights, dtype, rows * cols, shape, power);
    matrix m = {weights, dtype, rows, cols, false};
    for (size_t s = 0; s < 3; s++)
        check_matrix(&m, scale_dtypes[s], what);
    free(weights);
}

/* ---- tests --------------------------------------------------------------- */

static int start(void **unused)
{
    (void)unused;
    state = seed;
    return 0;
}

static void test_shapes(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        shape_fn shape;
    } shapes[] = {
        {"gauss", shape_gauss},     {"uniform", shape_uniform},
        {"sparse", shape_sparse},   {"wide", shape_wide},
        {"outlier", shape_outlier}, {"alike", shape_alike},
        {"exact", shape_exact},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t d = 0; d < 3; d++)
            check_shape(130, 384, shapes[i].shape, 0, dtypes[d],
                        shapes[i].name);
}

static void test_powers(void **unused)
{
    (void)unused;
    static const int powers[] = {-140, -126, -118, -60, -36, -30, -20, 13,
                                 14,   -6,   6,    20,  36,  50,  120};
    for (size_t i = 0; i < sizeof powers / sizeof *powers; i++) {
        char what[32];
        snprintf(what, sizeof what, "gauss * 2^%d", powers[i]);
        check_shape(128, 256, shape_gauss, powers[i], F8_DTYPE_BF16, what);
        check_shape(128, 128, shape_exact, powers[i] - 4, F8_DTYPE_BF16, what);
        check_shape(33, 130, shape_gauss, powers[i], F8_DTYPE_F32, what);
        if (powers[i] >= -20 && powers[i] <= 20)
            check_shape(33, 130, shape_wide, powers[i], F8_DTYPE_F16, what);
    }
}

static void test_ragged(void **unused)
{
    (void)unused;
    for (size_t cols = 1; cols <= 257; cols++) {
        size_t rows = 1 + next_random() % 140;
        char what[32];
        snprintf(what, sizeof what, "%zu x %zu", rows, cols);
        check_shape(rows, cols, shape_gauss, 0, dtypes[cols % 3], what);
        if (cols >= 126 && cols <= 130)
            check_shape(rows, cols, shape_wide, 0, F8_DTYPE_BF16, what);
    }
    for (size_t rows = 1; rows <= 130; rows++)
        check_shape(rows, 128, shape_gauss, 0, F8_DTYPE_BF16, "rows");
}

/* Every finite pattern of 16 bits beside every kind of scale, through the
 * kernels themselves: scales that no amax would give clamp and underflow. */
static void test_all_patterns(void **unused)
{
    (void)unused;
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
    static uint16_t weights[65536];
    static uint8_t plain[65536], codes[65536];
    static const float scales[] = {
        1,           0x1.02p0f, 0x1.fep0f, 0x1.8p-13f,    0x1.6ap3f,
        0x1.fep-36f, 0x1p36f,   0x1p-60f,  0x1.234568p0f, 0x1p-126f,
        0x1p-127f,   0x1.fep6f, 0x1p7f};

    for (size_t i = 0; i < 65536; i++)
        weights[i] = (uint16_t)i;
    for (int shuffled = 0; shuffled < 2; shuffled++) {
        for (size_t i = 65535; shuffled && i > 0; i--) {
            size_t j = next_random() % (i + 1);
            uint16_t keep = weights[i];
            weights[i] = weights[j];
            weights[j] = keep;
        }
        for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
            for (size_t d = 0; d < 2; d++) {
                for (size_t k = 0; k < kernels; k++) {
                    outcome a, b;
                    memset(&a, 0, sizeof a);
                    memset(&b, 0, sizeof b);
                    for (size_t i = 0; i < 65536; i += 128 * 128) {
                        f8_block block = {.weights = weights + i,
                                          .stride_bytes = 256,
                                          .dtype = dtypes[d],
                                          .rows = 128,
                                          .cols = 128};
                        f8_kernel_ref.quantise(&block, scales[s], plain + i,
                                               128, &a.sums, a.hist);
                        list[k]->quantise(&block, scales[s], codes + i, 128,
                                          &b.sums, b.hist);
                        assert_int_equal(f8_kernel_ref.amax(&block),
                                         list[k]->amax(&block));
                    }
                    compare_bytes(list[k]->name, "all patterns", plain, codes,
                                  65536);
                    for (int i = 0; i < F8_HIST_BINS; i++)
                        assert_int_equal(a.hist[i], b.hist[i]);
                    /* Sums hold NaN, whose bits are nobody's business. */
                    memset(codes, 0, sizeof codes);
                    for (size_t i = 0; i < 65536; i += 128 * 128) {
                        f8_block block = {.weights = weights + i,
                                          .stride_bytes = 256,
                                          .dtype = dtypes[d],
                                          .rows = 128,
                                          .cols = 128};
                        list[k]->quantise(&block, scales[s], codes + i, 128,
                                          NULL, NULL);
                    }
                    compare_bytes(list[k]->name, "all patterns, bare", plain,
                                  codes, 65536);
                }
            }
        }
    }
}

/* As above without NaN and infinity, so that sums can be compared. */
static void test_finite_patterns(void **unused)
{
    (void)unused;
    static uint8_t weights[2 * 65536];
    for (size_t i = 0; i < 65536; i++) {
        uint16_t w = (uint16_t)(i * 40503u);
        w = (w & 0x7f80) == 0x7f80 ? (uint16_t)(w & 0x807f) : w;
        memcpy(weights + 2 * i, &w, 2);
    }
    for (size_t s = 0; s < 3; s++) {
        matrix m = {weights, F8_DTYPE_BF16, 256, 256, false};
        check_matrix(&m, scale_dtypes[s], "finite patterns");
    }
}

static void test_not_finite(void **unused)
{
    (void)unused;
    static const uint32_t odd[3][3] = {{0x7f80, 0xff80, 0x7fc1},
                                       {0x7c00, 0xfc00, 0x7e01},
                                       {0x7f800000, 0xff800000, 0x7f800001}};
    enum { ROWS = 131, COLS = 259 };
    uint8_t *weights = malloc((size_t)ROWS * COLS * 4);
    assert_non_null(weights);
    for (size_t d = 0; d < 3; d++) {
        size_t size = f8_dtype_bytes(dtypes[d]);
        for (int i = 0; i < 60; i++) {
            fill(weights, dtypes[d], (size_t)ROWS * COLS, shape_gauss, 0);
            size_t at = next_random() % ((size_t)ROWS * COLS);
            memcpy(weights + at * size, &odd[d][i % 3], size);
            matrix m = {weights, dtypes[d], ROWS, COLS, false};
            check_matrix(&m, scale_dtypes[i % 3], "not finite");
        }
    }
    free(weights);
}

/* Weights halfway between two codes, and next to it. */
static void test_ties(void **unused)
{
    (void)unused;
    static uint16_t weights[128 * 128];
    for (unsigned scale = 128; scale < 256; scale++) {
        float s = ldexpf((float)scale, -7);
        for (size_t i = 0; i < 128 * 128; i++) {
            unsigned code = (unsigned)(next_random() % 126);
            double middle = ((double)f8_e4m3_decode((uint8_t)code) +
                             (double)f8_e4m3_decode((uint8_t)(code + 1))) /
                            2 * (double)s;
            put((uint8_t *)&weights[i], F8_DTYPE_BF16,
                next_random() % 2 ? middle : -middle);
            weights[i] = (uint16_t)(weights[i] + next_random() % 3 - 1);
            if ((weights[i] & 0x7f80) == 0x7f80)
                weights[i] = 0;
        }
        const f8_kernel *list[F8_KERNELS_MAX];
        size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
        static uint8_t plain[128 * 128], codes[128 * 128];
        f8_block block = {.weights = weights,
                          .stride_bytes = 256,
                          .dtype = F8_DTYPE_BF16,
                          .rows = 128,
                          .cols = 128};
        outcome a;
        memset(&a, 0, sizeof a);
        f8_kernel_ref.quantise(&block, s, plain, 128, &a.sums, a.hist);
        for (size_t k = 0; k < kernels; k++) {
            outcome b;
            memset(&b, 0, sizeof b);
            list[k]->quantise(&block, s, codes, 128, &b.sums, b.hist);
            compare_bytes(list[k]->name, "ties", plain, codes, sizeof plain);
            compare_outcomes(list[k]->name, "ties", &a, &b);
        }
    }
}

/* The sums themselves, recomputed in the plainest way: a compiler once got
 * them wrong, and then all kernels would agree. */
static void test_sums(void **unused)
{
    (void)unused;
    enum { ROWS = 256, COLS = 256 };
    static float weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS], scales[16];
    fill((uint8_t *)weights, F8_DTYPE_F32, (size_t)ROWS * COLS, shape_gauss, 0);
    for (size_t s = 0; s < 3; s++) {
        matrix m = {(uint8_t *)weights, F8_DTYPE_F32, ROWS, COLS, false};
        outcome out = quantise(&f8_kernel_ref, &m, scale_dtypes[s], false,
                               false, 0, codes, scales);
        size_t size = f8_dtype_bytes(f8_scale_storage(scale_dtypes[s]));
        double w2 = 0, e2 = 0, wv = 0, v2 = 0, max_abs = 0;
        for (size_t i = 0; i < ROWS * COLS; i++) {
            size_t block = i / COLS / 128 * 2 + i % COLS / 128;
            float scale = f8_scale_load(scales + block * size, scale_dtypes[s]);
            double w = (double)weights[i];
            double v = (double)(f8_e4m3_decode(codes[i]) * scale);
            w2 += w * w;
            e2 += (v - w) * (v - w);
            wv += w * v;
            v2 += v * v;
            max_abs = fmax(max_abs, fabs(v - w));
        }
        assert_true(fabs(out.sums.w2 / w2 - 1) < 1e-6);
        assert_true(fabs(out.sums.e2 / e2 - 1) < 1e-6);
        assert_true(fabs(out.sums.wv / wv - 1) < 1e-6);
        assert_true(fabs(out.sums.v2 / v2 - 1) < 1e-6);
        assert_true(fabs(out.sums.max_abs - max_abs) == 0);
    }
}

/* Codes of others that are far too small, or of the wrong sign, under scales
 * that are right: what they come to is not what is left of the weights. */
static void test_sums_of_foreign_codes(void **unused)
{
    (void)unused;
    enum { N = 128 * 128 };
    static uint8_t weights[4 * N], codes[N];
    static const uint8_t all[] = {1, 2, 8, 16, 24, 0x81, 0x7e};

    for (size_t n = 0; n < 3 * sizeof all; n++) {
        f8_dtype dtype = dtypes[n % 3];
        size_t size = f8_dtype_bytes(dtype);
        f8_block block = {weights, 128 * size, dtype, 128, 128, false, false};
        f8_sums sums = {0, 0, 0, 0, 0};
        uint64_t hist[F8_HIST_BINS] = {0};
        const float scale = 0x1.12p-12f;
        double w2 = 0, wv = 0, v2 = 0;
        fill(weights, dtype, N, shape_gauss, 0);
        memset(codes, all[n / 3], sizeof codes);
        f8_kernel_best()->measure(&block, scale, codes, 128, &sums, hist);
        for (size_t i = 0; i < N; i++) {
            double w = (double)f8_widen(weights + size * i, dtype);
            double v = (double)(f8_e4m3_decode(codes[i]) * scale);
            w2 += w * w;
            wv += w * v;
            v2 += v * v;
        }
        assert_true(fabs(sums.w2 - w2) <= 1e-6 * w2);
        assert_true(fabs(sums.v2 - v2) <= 1e-6 * v2);
        assert_true(fabs(sums.wv - wv) <= 1e-6 * sqrt(w2 * v2));
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Relative errors of m in binary64, sorted, without those of zeros. */
static size_t relative_errors(const matrix *m, const uint8_t *codes,
                              const uint8_t *scales, double *errors)
{
    size_t n = 0;

    for (size_t i = 0; i < m->rows * m->cols; i++) {
        size_t row = i / m->cols, col = i % m->cols;
        size_t block = row / 128 * (m->cols / 128) + col / 128;
        double w = (double)f8_widen(m->weights + 2 * i, m->dtype);
        double v = (double)f8_e4m3_decode(codes[i]) *
                   (double)f8_scale_load(scales + 2 * block, F8_SCALE_BF16);
        if (w != 0)
            errors[n++] = fabs(v - w) / fabs(w);
    }
    qsort(errors, n, sizeof *errors, by_value);
    return n;
}

/* The median that groups and bins come to, against all errors sorted: within a
 * bin's width, 2^-12, of those whose rank is a half, give or take `ranks`. Not
 * of one of them: where all blocks have one scale, weights have but 128 errors,
 * and a median jumps from one to the next. Counted exactly it is the one. */
static void check_median_of(size_t rows, size_t cols, shape_fn shape,
                            const char *what, bool exact)
{
    const double ranks = exact ? 0 : 0.004;
    enum { ELEMS = 1024 * 1024, BLOCKS = 128 };
    static uint8_t weights[2 * ELEMS], codes[ELEMS], scales[2 * BLOCKS];
    static double errors[ELEMS];
    matrix m = {weights, F8_DTYPE_BF16, rows, cols, exact};

    assert_true(rows * cols <= ELEMS);
    assert_true((rows + 127) / 128 * (cols / 128) <= BLOCKS);
    fill(weights, F8_DTYPE_BF16, rows * cols, shape, 0);
    outcome out = quantise(f8_kernel_best(), &m, F8_SCALE_BF16, false, false, 0,
                           codes, scales);
    size_t n = relative_errors(&m, codes, scales, errors);
    double found = f8_hist_median(out.hist);
    double low = errors[(size_t)((double)n * (0.5 - ranks))] - 0x1p-12;
    double high = errors[(size_t)((double)n * (0.5 + ranks))] + 0x1p-12;
    if (!(found >= low && found <= high))
        fail_msg("%s: median %.6f, expected %.6f to %.6f (seed 0x%llx)", what,
                 found, low, high, (unsigned long long)seed);
}

static void check_median(shape_fn shape, const char *what, bool exact)
{
    check_median_of(512, 1024, shape, what, exact);
}

/* Nearly all zeros: of a block's few weights none divide evenly. */
static double shape_rare(void)
{
    return uniform() < 0.001 ? gauss() : 0;
}

static double shape_one_in_a_hundred(void)
{
    return uniform() < 0.01 ? gauss() : 0;
}

/* Weights of few values. */
static double values[40];
static unsigned values_used;

static double shape_values(void)
{
    return values[next_random() % values_used];
}

static double shape_int8(void)
{
    return round(gauss() * 30) * 0.0173;
}

static double shape_student(void)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        double x = gauss();
        sum += x * x;
    }
    return 0.02 * gauss() / sqrt(sum / 4);
}

static void test_medians(void **unused)
{
    (void)unused;
    for (int exact = 0; exact < 2; exact++) {
        check_median(shape_gauss, "gauss", exact);
        check_median(shape_uniform, "uniform", exact);
        check_median(shape_student, "student", exact);
        check_median(shape_int8, "int8", exact);
    }
    check_median_of(1024, 1024, shape_rare, "rare", false);
    check_median_of(1024, 1024, shape_one_in_a_hundred, "1 %", false);
    check_median_of(1, 16384, shape_gauss, "one row", false);
    check_median_of(8, 16384, shape_gauss, "eight rows", false);
    for (values_used = 3; values_used <= 40; values_used++) {
        for (unsigned i = 0; i < values_used; i++)
            values[i] = gauss();
        check_median(shape_values, "few values", false);
    }
}

/* Weights that are all alike fill one counter, while zeros in every second
 * row are taken off again: each weight must be counted once. */
static void test_each_is_counted_once(void **unused)
{
    (void)unused;
    enum { ROWS = 128, COLS = 128, WITH_ZERO = 64 };
    static uint16_t weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS], scales[4];
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    for (size_t i = 0; i < ROWS * COLS; i++)
        weights[i] = 0x3f81; /* 1 + 2^-7 */
    for (size_t r = 0; r < WITH_ZERO; r++)
        weights[2 * r * COLS] = 0;
    for (size_t k = 0; k < kernels; k++) {
        matrix m = {(uint8_t *)weights, F8_DTYPE_BF16, ROWS, COLS, false};
        outcome out = quantise(list[k], &m, F8_SCALE_BF16, false, false, 0,
                               codes, scales);
        uint64_t total = 0;
        for (size_t i = 0; i <= F8_HIST_ZERO; i++)
            total += out.hist[i];
        assert_int_equal(total, ROWS * COLS);
        assert_int_equal(out.hist[F8_HIST_ZERO], WITH_ZERO);
    }
}

/* ---- zeros --------------------------------------------------------------- */

/* What is left of rows of a matrix once it has been pruned, and more. */
typedef enum row_kind {
    ROW_FULL,
    ROW_ONE_ZERO,
    ROW_SPARSE,     /* half of it */
    ROW_ZEROS,      /* all of it */
    ROW_WITH_SMALL, /* zeros and weights whose codes are subnormal or zero */
    ROW_WITH_LARGE, /* zeros and weights that saturate */
    ROW_KINDS
} row_kind;

static double some_weight(row_kind kind, unsigned col, unsigned one)
{
    double zero = next_random() % 2 ? 0.0 : -0.0, w = gauss() * 0.02;

    if (kind == ROW_ZEROS || (kind == ROW_ONE_ZERO && col == one))
        return zero;
    if (kind >= ROW_SPARSE && next_random() % 2)
        return zero;
    if (kind == ROW_WITH_SMALL && next_random() % 8 == 0)
        return ldexp(w, -(int)(next_random() % 30));
    if (kind == ROW_WITH_LARGE && next_random() % 8 == 0)
        return ldexp(w, 10);
    return w == 0 ? 0.02 : w;
}

/* Rows as chance puts them, so that every kind comes after every other;
 * returns how many zeros there are and how many of those are negative. */
static uint64_t fill_pruned(uint8_t *weights, f8_dtype dtype, size_t rows,
                            size_t cols, uint64_t *negative)
{
    size_t size = f8_dtype_bytes(dtype);
    uint64_t zeros = 0;

    *negative = 0;
    for (size_t r = 0; r < rows; r++) {
        row_kind kind = (row_kind)(next_random() % ROW_KINDS);
        unsigned one = (unsigned)(next_random() % cols);
        for (unsigned c = 0; c < cols; c++) {
            uint8_t *at = weights + (r * cols + c) * size;
            put(at, dtype, some_weight(kind, c, one));
            float w = f8_widen(at, dtype);
            zeros += w == 0;
            *negative += w == 0 && signbit(w);
        }
    }
    return zeros;
}

static void check_pruned(const f8_kernel *kernel, const f8_block *block,
                         float scale, uint64_t zeros, uint64_t negative)
{
    enum { CODES = F8_BLOCK * F8_BLOCK };
    _Alignas(64) static uint8_t plain[CODES], codes[CODES];
    outcome a, b;

    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    f8_kernel_ref.quantise(block, scale, plain, F8_BLOCK, &a.sums, a.hist);
    kernel->quantise(block, scale, codes, F8_BLOCK, &b.sums, b.hist);
    for (unsigned r = 0; r < block->rows; r++)
        compare_bytes(kernel->name, "pruned", plain + (size_t)r * F8_BLOCK,
                      codes + (size_t)r * F8_BLOCK, block->cols);
    compare_outcomes(kernel->name, "pruned", &a, &b);
    assert_int_equal(b.hist[F8_HIST_ZERO], zeros);
    /* Weights that became zero have such codes too. */
    uint64_t signs = b.hist[F8_HIST_SMALL + F8_SMALL_CODES];
    assert_true(signs >= negative);
    assert_int_equal(b.hist[F8_HIST_SMALL] + signs,
                     zeros + b.hist[F8_HIST_BECAME_ZERO]);
    memset(codes, 0x5a, sizeof codes);
    kernel->quantise(block, scale, codes, F8_BLOCK, NULL, NULL);
    for (unsigned r = 0; r < block->rows; r++)
        compare_bytes(kernel->name, "pruned, bare",
                      plain + (size_t)r * F8_BLOCK,
                      codes + (size_t)r * F8_BLOCK, block->cols);
}

static void test_pruned(void **unused)
{
    (void)unused;
    static uint8_t weights[4 * F8_BLOCK * F8_BLOCK];
    static const float scales[] = {0x1.8p-13f, 0x1.02p-12f, 0x1p-16f, 0x1p-60f,
                                   0x1.234568p-13f};
    static const unsigned sides[] = {128, 128, 128, 1, 5, 77, 127};
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    for (unsigned n = 0; n < 400; n++) {
        f8_dtype dtype = n % 8 ? F8_DTYPE_BF16 : dtypes[n / 8 % 3];
        unsigned rows = sides[n % 7], cols = sides[n / 7 % 7];
        uint64_t negative;
        uint64_t zeros = fill_pruned(weights, dtype, rows, cols, &negative);
        f8_block block = {.weights = weights,
                          .stride_bytes = cols * f8_dtype_bytes(dtype),
                          .dtype = dtype,
                          .rows = rows,
                          .cols = cols,
                          .stream = n % 2 == 1,
                          .exact = n % 3 == 0};
        for (size_t k = 0; k < kernels; k++)
            check_pruned(list[k], &block, scales[n % 5], zeros, negative);
        matrix m = {weights, dtype, rows, cols, false};
        if (n % 4 == 0)
            check_matrix(&m, scale_dtypes[n % 3], "pruned");
    }
}

/* Nothing but zeros, a sign here and there: what comes of them is known. */
static void check_zero_block(const f8_kernel *kernel, f8_dtype dtype,
                             size_t rows, size_t cols, bool stream)
{
    static uint8_t weights[4 * 3 * F8_BLOCK * F8_BLOCK];
    static uint8_t codes[3 * F8_BLOCK * F8_BLOCK], scales[16];
    size_t size = f8_dtype_bytes(dtype), elems = rows * cols;
    unsigned one_in = 1 + (unsigned)(next_random() % 300);
    uint64_t negative = 0;
    matrix m = {weights, dtype, rows, cols, false};

    assert_true(elems <= sizeof codes);
    memset(weights, 0, elems * size);
    for (size_t i = 0; i < elems; i++) {
        bool is_negative = next_random() % one_in == 0;
        weights[(i + 1) * size - 1] = is_negative ? 0x80 : 0;
        negative += is_negative;
    }
    outcome out =
        quantise(kernel, &m, F8_SCALE_BF16, !stream, stream, 0, codes, scales);
    static const f8_sums none = {0, 0, 0, 0, 0};
    assert_true(out.ok);
    assert_memory_equal(&out.sums, &none, sizeof none);
    for (size_t i = 0; i < elems; i++)
        assert_int_equal(codes[i], weights[(i + 1) * size - 1]);
    for (size_t i = 0; i * 128 < rows; i++)
        assert_memory_equal(scales + 2 * i, "\x80\x3f", 2); /* 1 */
    for (int i = 0; i < F8_HIST_BINS; i++)
        assert_int_equal(out.hist[i], i == F8_HIST_ZERO    ? elems
                                      : i == F8_HIST_SMALL ? elems - negative
                                      : i == F8_HIST_SMALL + F8_SMALL_CODES
                                          ? negative
                                          : 0);
}

/* Codes of zeros as they are, and one of them wrong. */
static void check_zeros_checked(const f8_kernel *kernel)
{
    enum { ROWS = 200, COLS = 150, ELEMS = ROWS * COLS, AT = 130 * COLS + 14 };
    static uint16_t weights[ELEMS];
    static uint8_t codes[ELEMS];
    uint16_t scales[4] = {0x3f80, 0x3f80, 0x3f81, 0x3f80}; /* one no power */
    matrix m = {(uint8_t *)weights, F8_DTYPE_BF16, ROWS, COLS, false};
    f8_check check;
    outcome out;

    memset(codes, 0, sizeof codes);
    for (int wrong = 0; wrong < 2; wrong++) {
        /* One scale, or the other zero. An engine that wants powers of two has
         * 1.0078125 / 2^-8 = 258, of which it makes 256. */
        codes[AT] = wrong ? 0x38 : 0x80;
        check_codes(kernel, &m, F8_SCALE_BF16, codes, (uint8_t *)scales, &check,
                    &out);
        assert_int_equal(check.blocks, 4);
        assert_int_equal(check.amax_blocks, 3);
        assert_int_equal(check.not_nearest, wrong);
        assert_int_equal(check.far_scales, 0);
        assert_int_equal(out.hist[F8_HIST_ZERO], ELEMS);
        assert_int_equal(out.hist[F8_HIST_SMALL], ELEMS - 1);
        assert_int_equal(out.hist[F8_HIST_SMALL + F8_SMALL_CODES], !wrong);
        assert_true(out.sums.e2 == wrong * 1.0078125 * 1.0078125 &&
                    out.sums.w2 == 0);
        assert_true(f8_exact_value(&check.e8m0_e2) == wrong);
        assert_int_equal(check.wrong.row, wrong ? AT / COLS : 0);
        assert_int_equal(check.wrong.col, wrong ? AT % COLS : 0);
    }
}

static void test_zero_blocks(void **unused)
{
    (void)unused;
    static const size_t shapes[][2] = {{128, 128}, {256, 128}, {384, 128},
                                       {1, 1},     {300, 5},   {37, 127}};
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    for (size_t k = 0; k < kernels; k++) {
        for (unsigned n = 0; n < 6 * 3 * 2; n++)
            check_zero_block(list[k], dtypes[n / 2 % 3], shapes[n / 6][0],
                             shapes[n / 6][1], n % 2);
        check_zeros_checked(list[k]);
    }
}

/* ---- the way back -------------------------------------------------------- */

/* Of 0 and ends of ranges, of powers of two, of bfloat16 and of binary32. */
static float some_scale(unsigned i)
{
    static const float ends[] = {
        0,           0x1p-149f,     0x1p-130f,      0x1p-127f, 0x1p-126f,
        0x1.8p-118f, 0x1p-117f,     0x1.fep-118f,   0x1p-24f,  0x1p-10f,
        1,           0x1.fffffep0f, 0x1p7f,         0x1p118f,  0x1.02p118f,
        0x1.fep118f, 0x1p119f,      0x1.fffffep127f};
    enum { ENDS = sizeof ends / sizeof *ends };
    uint32_t bits;
    float scale;

    if (i < ENDS)
        return ends[i];
    scale = (float)ldexp(1 + uniform(), (int)(next_random() % 280) - 150);
    memcpy(&bits, &scale, sizeof bits);
    bits &= i % 3 == 0 ? 0x7f800000u : i % 3 == 1 ? 0x7fff0000u : 0x7fffffffu;
    memcpy(&scale, &bits, sizeof bits);
    return isfinite(scale) ? scale : 1;
}
enum { SCALES_TRIED = 64 };

/* x, a binary32 number, to the nearest of `digits` digits, ties to even;
 * `least` is the exponent of the least normal number, `most` of the largest. */
static double nearest(double x, int digits, int least, int most)
{
    int exponent;

    if (x == 0 || !isfinite(x))
        return x;
    frexp(x, &exponent);
    exponent = exponent - 1 < least ? least : exponent - 1;
    double unit = ldexp(1, exponent - digits + 1);
    double rounded = rint(x / unit) * unit;
    return fabs(rounded) >= ldexp(1, most + 1) ? copysign(INFINITY, x)
                                               : rounded;
}

/* The definition against binary64, which holds all products exactly. */
static void test_values(void **unused)
{
    (void)unused;
    for (unsigned i = 0; i < SCALES_TRIED; i++) {
        float scale = some_scale(i);
        for (int code = 0; code < 256; code++) {
            if ((code & 0x7f) == 0x7f)
                continue;
            double exact =
                (double)f8_e4m3_decode((uint8_t)code) * (double)scale;
            double single = nearest(exact, 24, -126, 127);
            double expected[] = {nearest(single, 8, -126, 127),
                                 nearest(single, 11, -14, 15), single};
            for (int k = 0; k < 3; k++) {
                double found =
                    (double)f8_dequantise_one((uint8_t)code, scale, dtypes[k]);
                if (memcmp(&found, &expected[k], sizeof found) != 0)
                    fail_msg("code %d, scale %a, %s: %a, expected %a", code,
                             (double)scale, f8_dtype_name(dtypes[k]), found,
                             expected[k]);
            }
        }
    }
}

/* Restores a block from and into memory with guards; what lies between rows
 * must stay. */
static uint8_t restore(const f8_kernel *kernel, const uint8_t *codes,
                       unsigned rows, unsigned cols, float scale,
                       f8_dtype dtype, bool low, size_t offset,
                       uint8_t *restored)
{
    size_t gap = 3, elem = f8_dtype_bytes(dtype);
    size_t from_stride = cols + gap, to_stride = cols * elem + gap;
    size_t from_bytes = (rows - 1) * from_stride + cols;
    size_t to_bytes = (rows - 1) * to_stride + cols * elem;
    guarded c = guarded_new(from_bytes + offset, low);
    guarded v = guarded_new(to_bytes + offset, low);
    uint8_t *from = c.bytes + (low ? offset : 0);
    uint8_t *to = v.bytes + (low ? offset : 0);

    memset(from, 0x7f, from_bytes); /* between rows: a NaN */
    for (unsigned r = 0; r < rows; r++)
        memcpy(from + r * from_stride, codes + (size_t)r * cols, cols);
    memset(to, 0xa5, to_bytes);
    f8_code_block block = {.codes = from,
                           .codes_stride = from_stride,
                           .values = to,
                           .values_stride = to_stride,
                           .dtype = dtype,
                           .rows = rows,
                           .cols = cols};
    uint8_t most = kernel->dequantise(&block, scale);
    for (unsigned r = 0; r < rows; r++) {
        memcpy(restored + r * cols * elem, to + r * to_stride, cols * elem);
        for (size_t i = cols * elem; i < to_stride && r + 1 < rows; i++)
            assert_int_equal(to[r * to_stride + i], 0xa5);
    }
    guarded_free(&c);
    guarded_free(&v);
    return most;
}

static void check_restored(unsigned rows, unsigned cols, float scale,
                           const uint8_t *codes)
{
    static uint8_t plain[4 * F8_BLOCK * F8_BLOCK];
    static uint8_t other[4 * F8_BLOCK * F8_BLOCK];
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    for (int d = 0; d < 3; d++) {
        size_t bytes = (size_t)rows * cols * f8_dtype_bytes(dtypes[d]);
        uint8_t expected = restore(&f8_kernel_ref, codes, rows, cols, scale,
                                   dtypes[d], true, 0, plain);
        for (size_t k = 0; k < kernels; k++) {
            size_t offset = next_random() % 64;
            uint8_t most = restore(list[k], codes, rows, cols, scale, dtypes[d],
                                   k % 2, offset, other);
            assert_int_equal(most, expected);
            compare_bytes(list[k]->name, f8_dtype_name(dtypes[d]), plain, other,
                          bytes);
        }
    }
}

static void test_restoring(void **unused)
{
    static uint8_t codes[F8_BLOCK * F8_BLOCK];
    static const unsigned sides[] = {1, 2, 31, 64, 127, 128};

    (void)unused;
    for (unsigned i = 0; i < SCALES_TRIED; i++) {
        uint8_t top = (uint8_t)(i % 4 == 0 ? 0x7e : next_random() % 0x7f);
        for (size_t k = 0; k < sizeof codes; k++) {
            codes[k] = (uint8_t)next_random();
            if ((codes[k] & 0x7f) > top)
                codes[k] = (codes[k] & 0x80) | top;
        }
        check_restored(i % 2 ? 128 : 3, 128, some_scale(i), codes);
        check_restored(sides[next_random() % 6], sides[next_random() % 6],
                       some_scale(i), codes);
    }
    /* A NaN is told wherever it stands; what else it becomes is no matter. */
    for (unsigned i = 0; i < 40; i++) {
        const f8_kernel *list[F8_KERNELS_MAX];
        size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
        static uint8_t restored[4 * F8_BLOCK * F8_BLOCK];
        memset(codes, 0x7e, sizeof codes);
        codes[next_random() % sizeof codes] = i % 2 ? 0x7f : 0xff;
        for (size_t k = 0; k < kernels; k++)
            assert_int_equal(restore(list[k], codes, 128, 128, 1,
                                     i % 3 ? F8_DTYPE_BF16 : F8_DTYPE_F32,
                                     false, 0, restored),
                             0x7f);
    }
}

/* ---- what is found in a block -------------------------------------------- */

/* A code at random: all of them alike, the usual ones of a block, or few. */
static uint8_t some_code(unsigned way, float unit)
{
    if (way == 0)
        return (uint8_t)next_random();
    if (way == 1)
        return f8_e4m3_encode((float)gauss() * unit);
    return (uint8_t)(0x30 + next_random() % 3 * 0x41);
}

/* Bit by bit, as its declaration says. */
static void see_simply(const uint8_t *codes, size_t stride, unsigned rows,
                       unsigned cols, f8_codes *seen)
{
    for (unsigned r = 0; r < rows; r++) {
        for (unsigned c = 0; c < cols; c++) {
            uint8_t code = codes[r * stride + c];
            if ((code & 0x78) != 0 && (code & 0x7f) != 0x7f)
                seen->bits[code / 64] |= UINT64_C(1) << code % 64;
        }
    }
}

/* Blocks one after the other, so that more and more is seen. */
static void test_codes_seen(void **unused)
{
    (void)unused;
    static const unsigned shapes[][2] = {{128, 128}, {128, 127}, {1, 128},
                                         {13, 128},  {21, 128},  {128, 1}};
    enum { SHAPES = sizeof shapes / sizeof *shapes, BLOCKS = 12 };
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    for (unsigned n = 0; n < 3 * SHAPES; n++) {
        unsigned rows = shapes[n % SHAPES][0], cols = shapes[n % SHAPES][1];
        size_t stride = cols + (n % 2 ? 5 : 0), bytes = rows * stride;
        f8_codes seen[F8_KERNELS_MAX], expected = {{0}};
        memset(seen, 0, sizeof seen);
        for (unsigned i = 0; i < BLOCKS; i++) {
            guarded g = guarded_new(bytes, n % 4 < 2);
            for (size_t k = 0; k < bytes; k++)
                g.bytes[k] = some_code(n / SHAPES, i < 6 ? 100 : 1);
            see_simply(g.bytes, stride, rows, cols, &expected);
            for (size_t k = 0; k < kernels; k++) {
                list[k]->see(g.bytes, stride, rows, cols, &seen[k]);
                if (memcmp(&seen[k], &expected, sizeof expected) != 0)
                    fail_msg("%s: %u x %u, block %u: other codes seen (seed "
                             "0x%llx)",
                             list[k]->name, rows, cols, i,
                             (unsigned long long)seed);
            }
            guarded_free(&g);
        }
    }
}

/* One code after the other is seen, whichever were before; in the last place
 * of a block too. */
static void test_each_code_is_seen(void **unused)
{
    (void)unused;
    enum { ROWS = 24, BYTES = ROWS * 128 };
    static uint8_t codes[BYTES];
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    for (size_t k = 0; k < kernels; k++) {
        f8_codes seen = {{0}}, expected = {{0}};
        for (unsigned i = 0; i < 256; i++) {
            uint8_t code = (uint8_t)(i * 89 + 30); /* 89 is odd: all of them */
            memset(codes, 0, sizeof codes);
            codes[i % 2 ? BYTES - 1 : next_random() % BYTES] = code;
            see_simply(codes, 128, ROWS, 128, &expected);
            list[k]->see(codes, 128, ROWS, 128, &seen);
            assert_memory_equal(&seen, &expected, sizeof seen);
        }
        assert_true(f8_codes_all_normal(&seen));
    }
}

static void test_largest_error_is_located(void **unused)
{
    (void)unused;
    enum { ROWS = 128, COLS = 128 };
    static uint16_t weights[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);

    for (unsigned n = 0; n < 20; n++) {
        unsigned rows = n % 3 ? ROWS : 77, cols = n % 4 ? COLS : 100;
        f8_block block = {weights, COLS * 2, F8_DTYPE_BF16, rows,
                          cols,    false,    false};
        for (unsigned i = 0; i < ROWS * COLS; i++) {
            float w = (float)(gauss() * 0.01);
            uint32_t u;
            memcpy(&u, &w, sizeof u);
            weights[i] = (uint16_t)(u >> 16);
        }
        float scale = 0x1.8p-15f;
        f8_kernel_ref.quantise(&block, scale, codes, COLS, NULL, NULL);
        double top = -1;
        unsigned row = 0, col = 0;
        for (unsigned r = 0; r < rows; r++) {
            for (unsigned c = 0; c < cols; c++) {
                double w =
                    (double)f8_widen(&weights[r * COLS + c], F8_DTYPE_BF16);
                double v =
                    (double)f8_e4m3_decode(codes[r * COLS + c]) * (double)scale;
                if (fabs(v - w) > top) {
                    top = fabs(v - w);
                    row = r;
                    col = c;
                }
            }
        }
        for (size_t k = 0; k < kernels; k++) {
            unsigned r = 999, c = 999;
            list[k]->locate(&block, scale, codes, COLS, &r, &c);
            if (r != row || c != col)
                fail_msg("%s: largest error at %u, %u, expected %u, %u (seed "
                         "0x%llx)",
                         list[k]->name, r, c, row, col,
                         (unsigned long long)seed);
        }
    }
}

static void test_names(void **unused)
{
    (void)unused;
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
    assert_true(kernels >= 1);
    assert_string_equal(list[0]->name, "c");
    assert_ptr_equal(list[kernels - 1], f8_kernel_best());
    for (size_t k = 0; k < kernels; k++)
        assert_ptr_equal(f8_kernel_by_name(list[k]->name), list[k]);
    assert_null(f8_kernel_by_name("mmx"));
    print_message("kernels:");
    for (size_t k = 0; k < kernels; k++)
        print_message(" %s", list[k]->name);
    print_message("\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_names, start),
        cmocka_unit_test_setup(test_shapes, start),
        cmocka_unit_test_setup(test_powers, start),
        cmocka_unit_test_setup(test_ragged, start),
        cmocka_unit_test_setup(test_all_patterns, start),
        cmocka_unit_test_setup(test_finite_patterns, start),
        cmocka_unit_test_setup(test_not_finite, start),
        cmocka_unit_test_setup(test_ties, start),
        cmocka_unit_test_setup(test_each_is_counted_once, start),
        cmocka_unit_test_setup(test_pruned, start),
        cmocka_unit_test_setup(test_zero_blocks, start),
        cmocka_unit_test_setup(test_codes_seen, start),
        cmocka_unit_test_setup(test_each_code_is_seen, start),
        cmocka_unit_test_setup(test_largest_error_is_located, start),
        cmocka_unit_test_setup(test_sums, start),
        cmocka_unit_test_setup(test_sums_of_foreign_codes, start),
        cmocka_unit_test_setup(test_medians, start),
        cmocka_unit_test_setup(test_values, start),
        cmocka_unit_test_setup(test_restoring, start),
    };
    const char *given = getenv("F8_KERNEL_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
