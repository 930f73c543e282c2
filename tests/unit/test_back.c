/* test_back.c - plans of the way back and of sources in FP8: which units make
 * up a result, where they lie in it, where their scales are. All offsets were
 * worked out by hand from docs/format.md, sections 2, 4 and 9. */
#include "helpers.h"

#include "plan.h"

static const char rules[] =
    "family test\n"
    "keep      * optional\n"
    "quantize  *.q.weight optional\n"
    "quantize  *.experts.{n}.*.weight optional\n"
    "split     *.experts.up experts=0 parts=1:a,b optional\n";

/* Two experts of two parts of 3 x 4; the parts stand in another order than in
 * the fused tensor, with a kept tensor between them. */
static const made_tensor experts[] = {
    {"m.experts.1.b.weight", F8_DTYPE_E4M3, 2, {3, 4}},
    {"m.experts.1.b.weight_scale_inv", F8_DTYPE_F32, 2, {1, 1}},
    {"m.experts.0.b.weight", F8_DTYPE_E4M3, 2, {3, 4}},
    {"m.experts.0.b.weight_scale_inv", F8_DTYPE_F32, 2, {1, 1}},
    {"m.norm", F8_DTYPE_F32, 1, {5}},
    {"m.experts.0.a.weight", F8_DTYPE_E4M3, 2, {3, 4}},
    {"m.experts.0.a.weight_scale_inv", F8_DTYPE_F32, 2, {1, 1}},
    {"m.experts.1.a.weight", F8_DTYPE_E4M3, 2, {3, 4}},
    {"m.experts.1.a.weight_scale_inv", F8_DTYPE_F32, 2, {1, 1}},
    {"m.q.weight", F8_DTYPE_E4M3, 2, {2, 2}},
    {"m.q.weight_scale_inv", F8_DTYPE_F32, 2, {1, 1}}};

static void test_fused(void **state)
{
    static const char *const parts[] = {
        "m.experts.0.a.weight", "m.experts.0.b.weight", "m.experts.1.a.weight",
        "m.experts.1.b.weight"};
    const char *src =
        put_source(*state, rules, FP8_CONFIG, experts, COUNT_OF(experts));
    f8_options options = back_options(*state, true);
    f8_plan *plan = plan_with(src, &options);
    f8_plan_summary summary;
    f8_plan_result result;
    f8_plan_source source;

    f8_plan_get_summary(plan, &summary);
    assert_int_equal(summary.direction, F8_FROM_FP8);
    assert_int_equal(summary.value_dtype, F8_DTYPE_BF16);
    assert_int_equal(summary.source_tensors, 11);
    assert_int_equal(summary.result_tensors, 3);
    assert_int_equal(summary.dequantized, 2);
    assert_int_equal(summary.fused, 1);
    assert_int_equal(summary.kept, 1);
    assert_int_equal(summary.fp8_weights, 0);
    assert_int_equal(summary.result_parameters, 4 * 12 + 5 + 4);
    assert_int_equal(summary.result_bytes, 2 * 4 * 12 + 4 * 5 + 2 * 4);
    f8_plan_get_result(plan, 0, &result);
    assert_string_equal(result.name, "m.experts.up");
    assert_int_equal(result.action, F8_DEQUANTIZE);
    assert_int_equal(result.dtype, F8_DTYPE_BF16);
    assert_int_equal(result.rank, 3);
    assert_int_equal(result.shape[0], 2);
    assert_int_equal(result.shape[1], 6);
    assert_int_equal(result.shape[2], 4);
    /* F32 first: the norm takes 20 bytes. */
    assert_int_equal(plan->units_count, 6);
    for (uint64_t i = 0; i < 4; i++) {
        const f8_unit *u = &plan->units[i];
        const f8_tensor *t = &plan->source->tensors.items[u->source];
        assert_string_equal(t->name, parts[i]);
        assert_int_equal(u->data_begin, 20 + 24 * i);
        assert_int_equal(u->parts, i == 0 ? 4 : 0);
        assert_int_equal(u->offset, t->offset);
        /* Each scale stands behind its weight. */
        assert_int_equal(u->from_scale, t->offset + 12);
    }
    assert_string_equal(plan->units[4].name, "m.norm");
    assert_int_equal(plan->units[4].data_begin, 0);
    assert_int_equal(plan->units[5].data_begin, 20 + 96);
    /* What is asked of a source tensor: a part's result, a scale's none. */
    f8_plan_get_source(plan, 0, &source);
    assert_int_equal(source.results, 1);
    assert_int_equal(source.first, 0);
    assert_string_equal(source.decided_by,
                        "F8_E4M3 with m.experts.1.b.weight_scale_inv");
    f8_plan_get_source(plan, 1, &source);
    assert_int_equal(source.results, 0);
    assert_string_equal(source.decided_by, "scale of m.experts.1.b.weight");
    f8_plan_get_source(plan, 9, &source);
    assert_int_equal(source.first, 2);
    f8_plan_free(plan);
}

static void test_parts_of_two_dtypes(void **state)
{
    static const made_tensor mixed[] = {
        {"m.experts.0.a.weight", F8_DTYPE_E4M3, 2, {3, 4}},
        {"m.experts.0.a.weight_scale_inv", F8_DTYPE_F32, 2, {1, 1}},
        {"m.experts.0.b.weight", F8_DTYPE_BF16, 2, {3, 4}}};
    const char *src =
        put_source(*state, rules, FP8_CONFIG, mixed, COUNT_OF(mixed));
    f8_options options = back_options(*state, true);

    /* In BF16 they go together. */
    f8_plan_free(plan_with(src, &options));
    options.value_dtype = F8_DTYPE_F32;
    expect_no_plan(src, &options, F8_ERR_REFUSED,
                   "tensor m.experts.0.b.weight: would be BF16, and "
                   "m.experts.0.a.weight, which is to be fused with it into "
                   "m.experts.up, would be F32");
}

static void test_name_taken(void **state)
{
    static const made_tensor both[] = {
        {"m.experts.0.a.weight", F8_DTYPE_BF16, 2, {3, 4}},
        {"m.experts.0.b.weight", F8_DTYPE_BF16, 2, {3, 4}},
        {"m.experts.up", F8_DTYPE_BF16, 1, {3}}};
    const char *src =
        put_source(*state, rules, FP8_CONFIG, both, COUNT_OF(both));
    f8_options options = back_options(*state, true);

    expect_no_plan(src, &options, F8_ERR_REFUSED,
                   "two results would be called m.experts.up, of the source's "
                   "m.experts.0.a.weight and m.experts.up");
}

/* A weight of three dimensions is one result, whatever cuts it into units. */
static void test_three_dimensions(void **state)
{
    static const made_tensor three[] = {
        {"m.w", F8_DTYPE_E4M3, 3, {3, 130, 200}},
        {"m.w_scale_inv", F8_DTYPE_BF16, 3, {3, 2, 2}}};
    const char *src =
        put_source(*state, rules, FP8_CONFIG, three, COUNT_OF(three));
    f8_options options = back_options(*state, false);

    options.value_dtype = F8_DTYPE_F32;
    f8_plan *plan = plan_with(src, &options);
    const f8_tensor *w = f8_checkpoint_find(plan->source, "m.w");
    const f8_tensor *s = f8_checkpoint_find(plan->source, "m.w_scale_inv");
    f8_plan_source source;

    assert_null(plan->rules);
    assert_int_equal(plan->results_count, 1);
    assert_int_equal(plan->units_count, 3);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(plan->units[i].rows, 130);
        assert_int_equal(plan->units[i].cols, 200);
        assert_int_equal(plan->units[i].offset, w->offset + i * 26000);
        assert_int_equal(plan->units[i].from_scale, s->offset + i * 8);
        assert_int_equal(plan->units[i].data_begin, i * 104000);
    }
    f8_plan_get_source(plan, 0, &source);
    assert_int_equal(source.results, 1);
    f8_plan_free(plan);
}

/* Anew: the parts of a fused weight in FP8 have their own rows of scales. */
static void test_requantise_split(void **state)
{
    static const made_tensor fused[] = {
        {"m.experts.up", F8_DTYPE_E4M3, 3, {2, 512, 130}},
        {"m.experts.up_scale_inv", F8_DTYPE_F32, 3, {2, 4, 2}}};
    static const made_tensor narrow[] = {
        {"m.experts.up", F8_DTYPE_E4M3, 3, {2, 128, 130}},
        {"m.experts.up_scale_inv", F8_DTYPE_F32, 3, {2, 1, 2}}};
    const char *src =
        put_source(*state, rules, FP8_CONFIG, fused, COUNT_OF(fused));
    f8_options options = back_options(*state, false);

    options.direction = F8_TO_FP8;
    expect_no_plan(src, &options, F8_ERR_REFUSED,
                   "config.json: already quantised? expected no "
                   "\"quantization_config\", found one; --requantize takes "
                   "FP8 blockwise");
    options.requantize = true;
    f8_plan *plan = plan_with(src, &options);
    const f8_tensor *s =
        f8_checkpoint_find(plan->source, "m.experts.up_scale_inv");
    assert_int_equal(plan->units_count, 4);
    assert_string_equal(plan->units[3].name, "m.experts.1.b.weight");
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(plan->units[i].rows, 256);
        assert_int_equal(plan->units[i].parts, 1);
        assert_int_equal(plan->units[i].from_scale, s->offset + i * 16);
        assert_int_equal(plan->units[i].action, F8_QUANTIZE);
    }
    assert_int_equal(plan->fp8_weights, 4);
    f8_plan_free(plan);

    put_source(*state, rules, FP8_CONFIG, narrow, COUNT_OF(narrow));
    expect_no_plan(src, &options, F8_ERR_RULES,
                   "tensor m.experts.up: expected parts of a multiple of 128 "
                   "rows, since no block of FP8 can be split, found 64 "
                   "(my.rules:5: split *.experts.up)");
}

static void test_wrong_way(void **state)
{
    const char *src =
        put_source(*state, rules, FP8_CONFIG, experts, COUNT_OF(experts));
    f8_options options = back_options(*state, false);
    const char *dst = path_in(*state, "dst");
    f8_report *report = NULL;
    f8_error err = {0};

    f8_plan *plan = plan_with(src, &options);
    expect_error(f8_quantize(plan, dst, &options, &report, &err), &err,
                 F8_ERR_ARGUMENT,
                 "expected a plan to quantise, found one to dequantise");
    f8_plan_free(plan);
    options.direction = F8_TO_FP8;
    options.requantize = true;
    plan = plan_with(src, &options);
    expect_error(f8_dequantize(plan, dst, &options, &report, &err), &err,
                 F8_ERR_ARGUMENT,
                 "expected a plan to dequantise, found one to quantise");
    f8_plan_free(plan);
    assert_false(exists(dst));
    options.direction = (f8_direction)7;
    expect_no_plan(src, &options, F8_ERR_ARGUMENT, "no such direction: 7");
    options.direction = F8_FROM_FP8;
    options.value_dtype = F8_DTYPE_I8;
    expect_no_plan(src, &options, F8_ERR_ARGUMENT,
                   "values: expected BF16, F16 or F32, found I8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_fused),
        TEST_IN_DIR(test_parts_of_two_dtypes),
        TEST_IN_DIR(test_name_taken),
        TEST_IN_DIR(test_three_dimensions),
        TEST_IN_DIR(test_requantise_split),
        TEST_IN_DIR(test_wrong_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
