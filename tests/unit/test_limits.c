/* test_limits.c - what a result may have: docs/format.md, section 1. Each limit
 * but that of the index's length, which takes a million long names, is met
 * exactly, which is allowed, and then exceeded by one. */
#include "helpers.h"

#include "limits.h"
#include "manifest.h"

static const char rules_of_all[] =
    "family test\n"
    "keep      * optional\n"
    "quantize  *.q optional\n"
    "split     *.x experts=0 parts=1:a,b optional\n";

/* The text `c` n times; the caller frees it. */
static char *repeated(char c, size_t n)
{
    char *text = malloc(n + 1);

    assert_non_null(text);
    memset(text, c, n);
    text[n] = '\0';
    return text;
}

static const char *put(const char *dir, const char *config,
                       const made_tensor *tensors, size_t count)
{
    return put_source(dir, rules_of_all, config, tensors, count);
}

static void expect_planned(const char *src, const f8_options *options)
{
    f8_plan_free(plan_with(src, options));
}

/* ---- tensors ------------------------------------------------------------- */

/* Two parts each, and a scale of each part: 4 x 65,536 = 262,144 tensors of
 * the result are one of the source's, and four are 1,048,576. Three, and 53,392
 * experts of a fourth, are 1,000,000. */
static void test_tensors(void **state)
{
    made_tensor tensors[] = {{"a.experts.x", F8_DTYPE_BF16, 3, {65536, 2, 1}},
                             {"b.experts.x", F8_DTYPE_BF16, 3, {65536, 2, 1}},
                             {"c.experts.x", F8_DTYPE_BF16, 3, {65536, 2, 1}},
                             {"d.experts.x", F8_DTYPE_BF16, 3, {53392, 2, 1}}};
    f8_options options = source_options(*state);
    const char *src = put(*state, TEST_CONFIG, tensors, COUNT_OF(tensors));
    f8_plan *plan = plan_with(src, &options);

    assert_int_equal(plan->fp8_weights, 500000);
    f8_plan_free(plan);
    tensors[3].shape[0]++;
    put(*state, TEST_CONFIG, tensors, COUNT_OF(tensors));
    expect_no_plan(
        src, &options, F8_ERR_REFUSED,
        "tensor d.experts.x: expected a result of at most 1000000 "
        "tensors, scales among them, found more (my.rules:4: split *.x)");
    /* Without scales it is half as many. */
    const f8_override keep = {.glob = "*.x"};
    options.overrides = &keep;
    options.overrides_count = 1;
    expect_planned(src, &options);
}

/* The way back takes weights of three dimensions apart, too. */
static void test_tensors_back(void **state)
{
    enum { WEIGHTS = 16, FULL = 65536, REST = 1000000 - 15 * FULL };
    made_tensor tensors[2 * WEIGHTS];
    char names[2 * WEIGHTS][24];
    f8_options options = back_options(*state, false);

    for (int i = 0; i < WEIGHTS; i++) {
        snprintf(names[2 * i], sizeof names[0], "%02d", i);
        snprintf(names[2 * i + 1], sizeof names[0], "%02d_scale_inv", i);
        uint64_t experts = i < WEIGHTS - 1 ? FULL : REST;
        tensors[2 * i] =
            (made_tensor){names[2 * i], F8_DTYPE_E4M3, 3, {experts, 1, 1}};
        tensors[2 * i + 1] =
            (made_tensor){names[2 * i + 1], F8_DTYPE_F32, 3, {experts, 1, 1}};
    }
    const char *src = put(*state, FP8_CONFIG, tensors, COUNT_OF(tensors));
    expect_planned(src, &options);
    tensors[2 * WEIGHTS - 2].shape[0]++;
    tensors[2 * WEIGHTS - 1].shape[0]++;
    put(*state, FP8_CONFIG, tensors, COUNT_OF(tensors));
    expect_no_plan(src, &options, F8_ERR_REFUSED,
                   "tensor 15: expected at most 1000000 matrices and other "
                   "tensors, found more");
}

/* ---- names --------------------------------------------------------------- */

/* 502 bytes and those of `_scale_inv`, which are 10, are 512. */
static void test_name_of_a_scale(void **state)
{
    f8_options options = source_options(*state);
    char *name = repeated('n', 503), message[2048];
    made_tensor tensor = {name + 1, F8_DTYPE_BF16, 2, {1, 1}};

    memcpy(name + 501, ".q", 2);
    const char *src = put(*state, TEST_CONFIG, &tensor, 1);
    expect_planned(src, &options);
    tensor.name = name;
    put(*state, TEST_CONFIG, &tensor, 1);
    snprintf(message, sizeof message,
             "tensor %s: would be called %s_scale_inv in the result: expected "
             "a name of at most 512 bytes, found 513",
             name, name);
    expect_no_plan(src, &options, F8_ERR_REFUSED, message);
    free(name);
}

/* `.0.a.weight` takes the place of `.x`: nine bytes more. */
static void test_name_of_a_part(void **state)
{
    f8_options options = source_options(*state);
    const f8_override keep = {.glob = "*.x"};
    char *name = repeated('n', 504), message[2048];
    made_tensor tensor = {name + 1, F8_DTYPE_BF16, 3, {1, 2, 1}};

    options.overrides = &keep;
    options.overrides_count = 1;
    memcpy(name + 502, ".x", 2);
    const char *src = put(*state, TEST_CONFIG, &tensor, 1);
    expect_planned(src, &options);
    tensor.name = name;
    put(*state, TEST_CONFIG, &tensor, 1);
    snprintf(message, sizeof message,
             "tensor %s: would be called %.*s.0.a.weight in the result: "
             "expected a name of at most 512 bytes, found 513",
             name, 502, name);
    expect_no_plan(src, &options, F8_ERR_REFUSED, message);
    free(name);
}

/* 478 bytes, `.`, the number of an expert, `.a.weight`: 493 where the number
 * has five digits. Of E experts two parts each are 986 E bytes, less those of
 * fewer digits, 2 x (9000 + 900 x 2 + 90 x 3 + 10 x 4) = 22,220: 47,305,780 of
 * 48,000, and 48,291,780 of 49,000. */
static void test_names_in_all(void **state)
{
    f8_options options = source_options(*state);
    const f8_override keep = {.glob = "*.x"};
    char *name = repeated('n', 480), message[2048];
    made_tensor tensor = {name, F8_DTYPE_BF16, 3, {48000, 2, 1}};

    options.overrides = &keep;
    options.overrides_count = 1;
    /* Of what is called so only one module is listed. */
    memcpy(name + 470, ".experts.x", 10);
    const char *src = put(*state, TEST_CONFIG, &tensor, 1);
    expect_planned(src, &options);
    tensor.shape[0] = 49000;
    put(*state, TEST_CONFIG, &tensor, 1);
    snprintf(message, sizeof message,
             "%s: expected a result with names of tensors of at most 48000000 "
             "bytes in all, found more",
             src);
    expect_no_plan(src, &options, F8_ERR_REFUSED, message);
    /* The names of scales count as well: half as many weights, quantised. */
    options.overrides_count = 0;
    tensor.shape[0] = 24500;
    put(*state, TEST_CONFIG, &tensor, 1);
    expect_no_plan(src, &options, F8_ERR_REFUSED, message);
    free(name);
}

/* ---- files --------------------------------------------------------------- */

static void test_shards(void **state)
{
    enum { SHARDS = 10000 };
    f8_options options = source_options(*state);
    made_tensor *tensors = calloc(SHARDS + 1, sizeof *tensors);
    char(*names)[8] = calloc(SHARDS + 1, sizeof *names);

    assert_true(tensors && names);
    for (int i = 0; i <= SHARDS; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        tensors[i] = (made_tensor){names[i], F8_DTYPE_U8, 1, {1}};
    }
    options.shard_bytes = 1;
    const char *src = put(*state, TEST_CONFIG, tensors, SHARDS);
    expect_planned(src, &options);
    put(*state, TEST_CONFIG, tensors, SHARDS + 1);
    expect_no_plan(src, &options, F8_ERR_REFUSED,
                   "--shard-size: expected a result of at most 10000 shards, "
                   "found 10001 of at most 1 bytes; a larger one makes fewer");
    free(names);
    free(tensors);
}

/* config.json with n bytes of filling. */
static f8_buf padded_config(size_t n)
{
    f8_buf text = {0};
    char *filling = repeated('x', n);

    f8_buf_printf(&text, "{\"model_type\": \"test\", \"x\": \"%s\"}", filling);
    assert_false(text.failed);
    free(filling);
    return text;
}

static void test_config(void **state)
{
    static const made_tensor tensor = {"a", F8_DTYPE_U8, 1, {1}};
    /* What is added on one line, by hand: docs/format.md, section 5. */
    static const char added[] =
        ", \"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": "
        "\"e4m3\", \"activation_scheme\": \"dynamic\", \"weight_block_size\": "
        "[128, 128], \"modules_to_not_convert\": [\"a\"]}";
    const size_t around = sizeof "{\"model_type\": \"test\", \"x\": \"\"}" - 1;
    f8_options options = source_options(*state);

    for (size_t more = 0; more < 2; more++) {
        f8_buf config =
            padded_config(4000000 - around - (sizeof added - 1) + more);
        const char *src = put(*state, config.data, &tensor, 1);
        if (more == 0)
            expect_planned(src, &options);
        else
            expect_no_plan(src, &options, F8_ERR_REFUSED,
                           "config.json of the result: expected at most "
                           "4000000 bytes, found 4000001, with the names of 1 "
                           "modules that are kept");
        f8_buf_free(&config);
    }
}

/* ---- sizes --------------------------------------------------------------- */

/* Two files of holes with 2^55 and 2^55 + more bytes of tensors. */
static f8_status open_large(const char *dir, uint64_t more, f8_error *err)
{
    const char *src = path_in(dir, "large");
    made_tensor a = {"a", F8_DTYPE_U8, 1, {UINT64_C(1) << 55}};
    made_tensor b = {"b", F8_DTYPE_U8, 1, {(UINT64_C(1) << 55) + more}};
    f8_checkpoint *cp = NULL;

    if (!exists(src))
        make_dir(src);
    put_text(path_in(src, "config.json"), TEST_CONFIG);
    put_text(path_in(src, "model.safetensors.index.json"),
             "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": "
             "\"2.safetensors\"}}");
    put_shard(path_in(src, "1.safetensors"), &a, 1);
    put_shard(path_in(src, "2.safetensors"), &b, 1);
    f8_status status = f8_checkpoint_open(src, F8_OPEN_CONFIG, NULL, &cp, err);
    if (status == F8_OK)
        assert_true(cp->tensor_bytes == UINT64_C(1) << 56);
    f8_checkpoint_free(cp);
    return status;
}

static void test_bytes_in_all(void **state)
{
    const char *probe = path_in(*state, "probe");
    f8_error err = {0};

    put_text(probe, "");
    if (truncate(probe, (off_t)1 << 56) != 0)
        skip(); /* of what file systems there are, tmpfs has such */
    expect_ok(open_large(*state, 0, &err), &err);
    char message[2048];
    snprintf(message, sizeof message,
             "%s/large: expected tensors of at most 72057594037927936 bytes in "
             "all, found more",
             (const char *)*state);
    expect_error(open_large(*state, 1, &err), &err, F8_ERR_FORMAT, message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_tensors),         TEST_IN_DIR(test_tensors_back),
        TEST_IN_DIR(test_name_of_a_scale), TEST_IN_DIR(test_name_of_a_part),
        TEST_IN_DIR(test_names_in_all),    TEST_IN_DIR(test_shards),
        TEST_IN_DIR(test_config),          TEST_IN_DIR(test_bytes_in_all),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
