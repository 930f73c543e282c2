/* test_arith.c - the public arithmetic against values that PyTorch computed.
 *
 * The files under F8_TEST_DATA "/arith" are described in their README.md;
 * neither the library nor the Python reference had a part in them. Beside
 * them stand the few cases that need no table: errors, unaligned buffers and
 * the statistics, which are recomputed here in the plainest way.
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

#include <fp8cast.h>

#ifndef F8_TEST_DATA
#define F8_TEST_DATA "tests/golden"
#endif

/* ---- golden files ------------------------------------------------------ */

typedef struct golden {
    uint8_t *bytes;
    size_t size;
    size_t position;
} golden;

static golden golden_open(const char *name)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/arith/%s", F8_TEST_DATA, name);
    assert_true(length > 0 && (size_t)length < sizeof path);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("cannot open %s", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size > 0);
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    golden data = {malloc((size_t)size), (size_t)size, 0};
    assert_non_null(data.bytes);
    assert_int_equal(fread(data.bytes, 1, data.size, file), data.size);
    assert_int_equal(fclose(file), 0);
    return data;
}

static const uint8_t *golden_take(golden *data, size_t size)
{
    assert_true(size <= data->size - data->position);
    const uint8_t *start = data->bytes + data->position;
    data->position += size;
    return start;
}

/* A case that is not read would be a case that is not tested. */
static void golden_close(golden *data)
{
    assert_int_equal(data->position, data->size);
    free(data->bytes);
}

static uint32_t load_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 |
           (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t load_u16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float load_f32(const uint8_t *bytes)
{
    return float_of_bits(load_u32(bytes));
}

static float float_of_bf16(uint32_t bits)
{
    return float_of_bits(bits << 16);
}

static float float_of_f16(uint32_t bits)
{
    int exponent = (int)(bits >> 10 & 31);
    float mantissa = (float)(bits & 1023);
    float value;
    if (exponent == 31)
        value = mantissa > 0 ? NAN : INFINITY;
    else if (exponent == 0)
        value = ldexpf(mantissa, -24);
    else
        value = ldexpf(1024.0f + mantissa, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

/* ---- scalars ----------------------------------------------------------- */

typedef float (*widen_fn)(uint32_t bits);

static void check_all_patterns(const uint8_t *codes, float scale,
                               widen_fn widen)
{
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float weight = widen(bits);
        if (!isfinite(weight))
            continue;
        uint8_t code = f8_e4m3_encode(weight / scale);
        if (code != codes[bits])
            fail_msg("pattern 0x%04x, scale %a: code 0x%02x, expected 0x%02x",
                     (unsigned)bits, (double)scale, (unsigned)code,
                     (unsigned)codes[bits]);
    }
}

static void test_encode_bf16(void **state)
{
    (void)state;
    golden data = golden_open("bf16_e4m3.bin");
    uint32_t count = load_u32(golden_take(&data, 4));
    for (uint32_t i = 0; i < count; i++) {
        float scale = float_of_bf16(load_u16(golden_take(&data, 4)));
        check_all_patterns(golden_take(&data, 65536), scale, float_of_bf16);
    }
    golden_close(&data);
}

static void test_encode_f16(void **state)
{
    (void)state;
    golden data = golden_open("f16_e4m3.bin");
    uint32_t count = load_u32(golden_take(&data, 4));
    for (uint32_t i = 0; i < count; i++) {
        float scale = load_f32(golden_take(&data, 4));
        check_all_patterns(golden_take(&data, 65536), scale, float_of_f16);
    }
    golden_close(&data);
}

static void test_encode_f32(void **state)
{
    (void)state;
    golden data = golden_open("f32_e4m3.bin");
    uint32_t count = load_u32(golden_take(&data, 4));
    const uint8_t *inputs = golden_take(&data, 4 * (size_t)count);
    const uint8_t *codes = golden_take(&data, count);
    for (uint32_t i = 0; i < count; i++) {
        float value = load_f32(inputs + 4 * (size_t)i);
        uint8_t code = f8_e4m3_encode(value);
        if (code != codes[i])
            fail_msg("%a: code 0x%02x, expected 0x%02x", (double)value,
                     (unsigned)code, (unsigned)codes[i]);
    }
    golden_close(&data);
}

static void test_encode_special(void **state)
{
    (void)state;
    assert_int_equal(f8_e4m3_encode(NAN), 0x7f);
    assert_int_equal(f8_e4m3_encode(-NAN), 0x7f);
    assert_int_equal(f8_e4m3_encode(INFINITY), 0x7e);
    assert_int_equal(f8_e4m3_encode(-INFINITY), 0xfe);
    assert_int_equal(f8_e4m3_encode(0.0f), 0x00);
    assert_int_equal(f8_e4m3_encode(-0.0f), 0x80);
}

static void test_decode(void **state)
{
    (void)state;
    golden data = golden_open("e4m3_f32.bin");
    for (unsigned code = 0; code < 256; code++) {
        float expected = load_f32(golden_take(&data, 4));
        float value = f8_e4m3_decode((uint8_t)code);
        if (isnan(expected))
            assert_true(isnan(value));
        else
            assert_int_equal(bits_of_float(value), bits_of_float(expected));
    }
    golden_close(&data);
}

/* ---- scales ------------------------------------------------------------ */

static void check_scale(float amax, f8_scale_dtype dtype, const uint8_t *wanted,
                        size_t size)
{
    uint8_t code;
    uint8_t scale[4] = {0};
    f8_error err;
    f8_status status =
        f8_quantize_matrix(&amax, F8_DTYPE_F32, 1, 1, dtype, F8_SCALES_DEFAULT,
                           &code, scale, NULL, &err);
    if (status != F8_OK)
        fail_msg("amax %a: %s", (double)amax, err.message);
    if (memcmp(scale, wanted, size) != 0)
        fail_msg("amax %a, scale dtype %d: 0x%08x, expected 0x%08x",
                 (double)amax, (int)dtype, (unsigned)load_u32(scale),
                 (unsigned)(size == 4   ? load_u32(wanted)
                            : size == 2 ? load_u16(wanted)
                                        : wanted[0]));
}

static void test_scales(void **state)
{
    (void)state;
    golden data = golden_open("scales.bin");
    size_t count = load_u32(golden_take(&data, 4));
    const uint8_t *amax = golden_take(&data, 4 * count);
    const uint8_t *bf16 = golden_take(&data, 2 * count);
    const uint8_t *f32 = golden_take(&data, 4 * count);
    const uint8_t *ue8m0 = golden_take(&data, count);
    for (size_t i = 0; i < count; i++) {
        float value = load_f32(amax + 4 * i);
        check_scale(value, F8_SCALE_DEFAULT, bf16 + 2 * i, 2);
        check_scale(value, F8_SCALE_BF16, bf16 + 2 * i, 2);
        check_scale(-value, F8_SCALE_BF16, bf16 + 2 * i, 2);
        check_scale(value, F8_SCALE_F32, f32 + 4 * i, 4);
        check_scale(value, F8_SCALE_UE8M0, ue8m0 + i, 1);
    }
    golden_close(&data);
}

/* ---- matrices ---------------------------------------------------------- */

typedef struct scale_form {
    f8_scale_dtype option;
    f8_dtype dtype;
    size_t bytes;
} scale_form;

static const scale_form scale_forms[] = {
    {F8_SCALE_BF16, F8_DTYPE_BF16, 2},
    {F8_SCALE_F32, F8_DTYPE_F32, 4},
    {F8_SCALE_UE8M0, F8_DTYPE_E8M0, 1},
};

typedef struct matrix {
    size_t rows, cols, elems, col_blocks, blocks;
    f8_dtype dtype;
    const uint8_t *weights;
} matrix;

static matrix matrix_take(golden *data)
{
    static const f8_dtype dtypes[] = {F8_DTYPE_BF16, F8_DTYPE_F16,
                                      F8_DTYPE_F32};
    matrix m;
    m.rows = load_u32(golden_take(data, 4));
    m.cols = load_u32(golden_take(data, 4));
    m.elems = m.rows * m.cols;
    m.col_blocks = (m.cols + F8_BLOCK - 1) / F8_BLOCK;
    m.blocks = (m.rows + F8_BLOCK - 1) / F8_BLOCK * m.col_blocks;
    uint32_t tag = load_u32(golden_take(data, 4));
    assert_true(tag < 3);
    m.dtype = dtypes[tag];
    m.weights = golden_take(data, m.elems * f8_dtype_bytes(m.dtype));
    return m;
}

static float matrix_weight(const matrix *m, size_t i)
{
    if (m->dtype == F8_DTYPE_BF16)
        return float_of_bf16(load_u16(m->weights + 2 * i));
    if (m->dtype == F8_DTYPE_F16)
        return float_of_f16(load_u16(m->weights + 2 * i));
    return load_f32(m->weights + 4 * i);
}

static float scale_value(const uint8_t *scales, size_t i, f8_dtype dtype)
{
    if (dtype == F8_DTYPE_BF16)
        return float_of_bf16(load_u16(scales + 2 * i));
    if (dtype == F8_DTYPE_F32)
        return load_f32(scales + 4 * i);
    return ldexpf(1.0f, (int)scales[i] - 127);
}

static size_t matrix_block(const matrix *m, size_t i)
{
    return i / m->cols / F8_BLOCK * m->col_blocks + i % m->cols / F8_BLOCK;
}

static void check_dequantize(const matrix *m, const uint8_t *codes,
                             const uint8_t *scales, f8_dtype dtype)
{
    float *values = malloc(m->elems * sizeof *values);
    assert_non_null(values);
    f8_scale_dtype kind = dtype == F8_DTYPE_BF16  ? F8_SCALE_BF16
                          : dtype == F8_DTYPE_F32 ? F8_SCALE_F32
                                                  : F8_SCALE_UE8M0;
    assert_int_equal(f8_dequantize_matrix(codes, scales, kind, m->rows, m->cols,
                                          values, NULL),
                     F8_OK);
    for (size_t i = 0; i < m->elems; i++) {
        float expected = f8_e4m3_decode(codes[i]) *
                         scale_value(scales, matrix_block(m, i), dtype);
        assert_int_equal(bits_of_float(values[i]), bits_of_float(expected));
    }
    free(values);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void assert_near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

/* The statistics the plain way: every error kept, then sorted. A median from
 * a histogram with 64 bins an octave is off by one bin, 1.1 %, at most. */
static void check_stats(const matrix *m, const uint8_t *codes,
                        const uint8_t *scales, f8_dtype dtype,
                        const f8_error_stats *stats)
{
    double *relative = malloc(m->elems * sizeof *relative);
    assert_non_null(relative);
    size_t count = 0;
    double ww = 0, vv = 0, wv = 0, ee = 0, largest = 0;
    for (size_t i = 0; i < m->elems; i++) {
        double w = (double)matrix_weight(m, i);
        float scale = scale_value(scales, matrix_block(m, i), dtype);
        double v = (double)(f8_e4m3_decode(codes[i]) * scale);
        ww += w * w;
        vv += v * v;
        wv += w * v;
        ee += (v - w) * (v - w);
        largest = fmax(largest, fabs(v - w));
        if (w < 0 || w > 0)
            relative[count++] = fabs(v - w) / fabs(w);
    }
    assert_int_equal(stats->elems, m->elems);
    assert_int_equal(stats->blocks, m->blocks);
    assert_int_equal(stats->zeros, m->elems - count);
    assert_near(stats->max_abs_error, largest, 0);
    if (count > 1000) {
        qsort(relative, count, sizeof *relative, by_value);
        double median = relative[count / 2];
        assert_near(stats->median_relative_error, median, 0.02 * median);
        assert_near(stats->relative_rms, sqrt(ee / ww), 1e-6);
        assert_near(stats->sqnr_db, 10 * log10(ww / ee), 1e-3);
        assert_near(stats->cosine, wv / sqrt(ww * vv), 1e-6);
    }
    free(relative);
}

static void check_quantize(const matrix *m, const scale_form *form,
                           const uint8_t *codes, const uint8_t *scales)
{
    size_t scale_bytes = m->blocks * form->bytes;
    size_t weight_bytes = m->elems * f8_dtype_bytes(m->dtype);
    /* Weights and scales at odd addresses, and a byte behind each result that
     * must stay as it was. */
    uint8_t *room = malloc(weight_bytes + 1);
    uint8_t *made_codes = malloc(m->elems + 1);
    uint8_t *made_scales = malloc(scale_bytes + 2);
    assert_true(room != NULL && made_codes != NULL && made_scales != NULL);
    memcpy(room + 1, m->weights, weight_bytes);
    made_codes[m->elems] = 0x5a;
    made_scales[scale_bytes + 1] = 0x5a;
    f8_error_stats stats;
    f8_error err;
    f8_status status = f8_quantize_matrix(
        room + 1, m->dtype, m->rows, m->cols, form->option, F8_SCALES_DEFAULT,
        made_codes, made_scales + 1, &stats, &err);
    if (status != F8_OK)
        fail_msg("%s", err.message);
    assert_memory_equal(made_scales + 1, scales, scale_bytes);
    assert_memory_equal(made_codes, codes, m->elems);
    assert_int_equal(made_codes[m->elems], 0x5a);
    assert_int_equal(made_scales[scale_bytes + 1], 0x5a);
    assert_null(stats.name); /* there is none to tell */
    check_stats(m, codes, scales, form->dtype, &stats);
    free(room);
    free(made_codes);
    free(made_scales);
}

static void test_matrices(void **state)
{
    (void)state;
    static const char *const names[] = {
        "1x1_bf16",
        "1x1_f16",
        "1x1_f32",
        "127x129_bf16",
        "127x129_f16",
        "127x129_f32",
        "128x128_bf16",
        "200x300_bf16",
        "200x300_f32",
        "zero_10x200_bf16",
        "zero_10x200_f16",
        "zero_10x200_f32",
        "minus_zero_130x5_bf16",
        "minus_zero_130x5_f16",
        "minus_zero_130x5_f32",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[64];
        snprintf(file, sizeof file, "matrix_%s.bin", names[i]);
        golden data = golden_open(file);
        matrix m = matrix_take(&data);
        for (size_t k = 0; k < 3; k++) {
            const scale_form *form = &scale_forms[k];
            const uint8_t *codes = golden_take(&data, m.elems);
            const uint8_t *scales = golden_take(&data, m.blocks * form->bytes);
            check_quantize(&m, form, codes, scales);
            check_dequantize(&m, codes, scales, form->dtype);
        }
        golden_close(&data);
    }
}

/* The floor of F8_E8M0 is a subnormal float: it must not be flushed. */
static void test_dequantize_least_scale(void **state)
{
    (void)state;
    const uint8_t codes[2] = {0x7e, 0x81};
    const uint8_t scale = 0;
    float values[2];
    assert_int_equal(
        f8_dequantize_matrix(codes, &scale, F8_SCALE_UE8M0, 1, 2, values, NULL),
        F8_OK);
    assert_int_equal(bits_of_float(values[0]),
                     bits_of_float(ldexpf(448.0f, -127)));
    assert_int_equal(bits_of_float(values[1]),
                     bits_of_float(-ldexpf(1.0f, -136)));
}

/* ---- errors ------------------------------------------------------------ */

#define ROWS 150
#define COLS 90

static void check_refused(f8_dtype dtype, uint32_t pattern)
{
    /* Numbers that occur in no other part of a message. */
    const size_t row = 137, col = 79;
    size_t size = f8_dtype_bytes(dtype);
    uint8_t *weights = calloc((size_t)ROWS * COLS, size);
    uint8_t *codes = malloc((size_t)ROWS * COLS);
    assert_true(weights != NULL && codes != NULL);
    for (size_t i = 0; i < size; i++)
        weights[(row * COLS + col) * size + i] = (uint8_t)(pattern >> 8 * i);
    for (size_t k = 0; k < 3; k++) {
        uint8_t scales[2 * 4];
        f8_error err;
        memset(&err, 0, sizeof err);
        assert_int_equal(f8_quantize_matrix(
                             weights, dtype, ROWS, COLS, scale_forms[k].option,
                             F8_SCALES_DEFAULT, codes, scales, NULL, &err),
                         F8_ERR_VALUE);
        assert_int_equal(err.status, F8_ERR_VALUE);
        if (strstr(err.message, "137") == NULL ||
            strstr(err.message, "79") == NULL)
            fail_msg("row 137, column 79 are not in: %s", err.message);
        assert_null(strchr(err.message, '\n'));
        /* The error is optional. */
        assert_int_equal(f8_quantize_matrix(
                             weights, dtype, ROWS, COLS, scale_forms[k].option,
                             F8_SCALES_DEFAULT, codes, scales, NULL, NULL),
                         F8_ERR_VALUE);
    }
    free(weights);
    free(codes);
}

static void test_not_finite(void **state)
{
    (void)state;
    static const uint32_t bf16[] = {0x7f80, 0xff80, 0x7fc0,
                                    0xffc0, 0x7f81, 0xffff};
    static const uint32_t f16[] = {0x7c00, 0xfc00, 0x7e00,
                                   0xfe00, 0x7c01, 0xffff};
    static const uint32_t f32[] = {0x7f800000, 0xff800000, 0x7fc00000,
                                   0xffc00000, 0x7f800001, 0xffffffff};
    for (size_t i = 0; i < 6; i++) {
        check_refused(F8_DTYPE_BF16, bf16[i]);
        check_refused(F8_DTYPE_F16, f16[i]);
        check_refused(F8_DTYPE_F32, f32[i]);
    }
}

static void test_wrong_dtype(void **state)
{
    (void)state;
    const uint8_t weight[8] = {0};
    uint8_t code, scale[4];
    float value;
    f8_error err;
    assert_int_equal(f8_quantize_matrix(weight, F8_DTYPE_I32, 1, 1,
                                        F8_SCALE_BF16, F8_SCALES_DEFAULT, &code,
                                        scale, NULL, &err),
                     F8_ERR_ARGUMENT);
    assert_int_equal(err.status, F8_ERR_ARGUMENT);
    assert_int_equal(f8_dequantize_matrix(weight, scale, (f8_scale_dtype)99, 1,
                                          1, &value, &err),
                     F8_ERR_ARGUMENT);
}

/* Nothing, 2^65 elements, 2^64 bytes, and 2^63, which no pointer can span: all
 * are refused before a weight is read. */
static void test_impossible_sizes(void **state)
{
    (void)state;
    static const struct {
        f8_dtype dtype;
        uint64_t rows, cols;
        const char *message;
    } cases[] = {
        {F8_DTYPE_BF16, 0, 4, "a matrix of 0 x 4 elements"},
        {F8_DTYPE_BF16, 4, 0, "a matrix of 4 x 0 elements"},
        {F8_DTYPE_BF16, UINT64_C(1) << 62, 8,
         "a matrix of 4611686018427387904 x 8 elements"},
        {F8_DTYPE_F32, UINT64_C(1) << 62, 1,
         "a matrix of 4611686018427387904 x 1 elements"},
        {F8_DTYPE_BF16, UINT64_C(1) << 61, 2,
         "a matrix of 2305843009213693952 x 2 elements"},
    };
    const uint8_t weight[8] = {0};
    uint8_t code = 0x5a, scale[4] = {0x5a};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[128];
        f8_error err = {0};
        snprintf(expected, sizeof expected, "%s cannot be quantised",
                 cases[i].message);
        assert_int_equal(f8_quantize_matrix(weight, cases[i].dtype,
                                            cases[i].rows, cases[i].cols,
                                            F8_SCALE_BF16, F8_SCALES_AMAX,
                                            &code, scale, NULL, &err),
                         F8_ERR_ARGUMENT);
        assert_string_equal(err.message, expected);
    }
    assert_int_equal(code, 0x5a);
    assert_int_equal(scale[0], 0x5a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_bf16),
        cmocka_unit_test(test_encode_f16),
        cmocka_unit_test(test_encode_f32),
        cmocka_unit_test(test_encode_special),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_scales),
        cmocka_unit_test(test_matrices),
        cmocka_unit_test(test_dequantize_least_scale),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_wrong_dtype),
        cmocka_unit_test(test_impossible_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
