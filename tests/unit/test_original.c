/* test_original.c - what a plan to FP8 remembers of its source for the way back
 * (original.h), and what the way back makes of it. Records, shapes and offsets
 * were worked out by hand from docs/format.md, sections 2, 7 and 9. */
#include "helpers.h"

#include <stdlib.h>

#include "plan.h"

/* Memory's names are m, published ones p. */
static const char rules[] =
    "family test\n"
    "rename    {n}.m.gate       {n}.p.gate\n"
    "rename    {n}.m.experts.up {n}.p.experts.up\n"
    "keep      {n}.p.gate optional\n"
    "quantize  {n}.p.experts.{n}.a.weight optional\n"
    "quantize  {n}.p.experts.{n}.b.weight optional\n"
    "quantize  {n}.p.experts.{n}.c.weight optional\n"
    "split     {n}.p.experts.up experts=0 parts=1:a,b published=apart "
    "optional\n"
    "split     {n}.p.experts.down experts=0 parts=2:c optional\n";

static f8_plan *plan_to(const char *dir)
{
    f8_options options = source_options(dir);

    return plan_with(path_in(dir, "src"), &options);
}

static f8_plan *plan_back(const char *dir)
{
    f8_options options = back_options(dir, true);

    return plan_with(path_in(dir, "src"), &options);
}

/* ---- what is remembered -------------------------------------------------- */

static void expect_record(const char *dir, const made_tensor *tensors,
                          size_t count, const char *expected)
{
    put_source(dir, rules, TEST_CONFIG, tensors, count);
    f8_plan *plan = plan_to(dir);
    char *found = json_dumps(json_object_get(plan->original, "tensors"),
                             JSON_COMPACT | JSON_SORT_KEYS);

    assert_string_equal(found, expected);
    free(found);
    f8_plan_free(plan);
}

/* One pattern speaks for all layers, as long as all are alike. */
static void test_record(void **state)
{
    static const made_tensor memory[] = {
        {"0.m.gate", F8_DTYPE_BF16, 1, {4}},
        {"1.m.gate", F8_DTYPE_BF16, 1, {4}},
        {"0.m.experts.up", F8_DTYPE_BF16, 3, {2, 6, 4}},
        {"1.m.experts.up", F8_DTYPE_BF16, 3, {2, 6, 4}},
        {"0.p.experts.down", F8_DTYPE_BF16, 3, {2, 3, 4}}};
    static const made_tensor published[] = {
        {"0.p.gate", F8_DTYPE_BF16, 1, {4}},
        {"0.p.experts.0.a.weight", F8_DTYPE_BF16, 2, {3, 4}},
        {"0.p.experts.0.b.weight", F8_DTYPE_BF16, 2, {3, 4}},
        {"0.p.experts.0.c.weight", F8_DTYPE_BF16, 2, {4, 3}}};
    static const made_tensor both[] = {
        {"0.p.gate", F8_DTYPE_BF16, 1, {4}},
        {"1.m.gate", F8_DTYPE_BF16, 1, {4}},
        {"0.p.experts.0.a.weight", F8_DTYPE_BF16, 2, {3, 4}},
        {"0.p.experts.0.b.weight", F8_DTYPE_BF16, 2, {3, 4}},
        {"1.p.experts.up", F8_DTYPE_BF16, 3, {2, 6, 4}}};

    expect_record(*state, memory, COUNT_OF(memory),
                  "{\"{n}.m.experts.up\":\"renamed\","
                  "\"{n}.m.gate\":\"renamed\","
                  "\"{n}.p.experts.down\":\"transposed\","
                  "\"{n}.p.experts.up\":\"fused\"}");
    expect_record(*state, published, COUNT_OF(published), "{}");
    expect_record(*state, both, COUNT_OF(both),
                  "{\"1.m.gate\":\"renamed\",\"1.p.experts.up\":\"fused\"}");
}

/* ---- what becomes of it -------------------------------------------------- */

static const made_tensor result[] = {
    {"0.p.gate", F8_DTYPE_F32, 1, {5}},
    {"0.p.experts.0.a.weight", F8_DTYPE_BF16, 2, {3, 4}},
    {"0.p.experts.0.b.weight", F8_DTYPE_BF16, 2, {3, 4}},
    {"0.p.experts.1.a.weight", F8_DTYPE_BF16, 2, {3, 4}},
    {"0.p.experts.1.b.weight", F8_DTYPE_BF16, 2, {3, 4}},
    {"0.p.experts.0.c.weight", F8_DTYPE_BF16, 2, {4, 3}},
    {"0.p.experts.1.c.weight", F8_DTYPE_BF16, 2, {4, 3}}};

/* Writes a journal about these tensors that says `tensors`. */
static void put_journal(const char *dir, const char *tensors)
{
    char text[1024];
    uint64_t names = 0;

    for (size_t i = 0; i < COUNT_OF(result); i++)
        names = f8_original_name(names, result[i].name);
    snprintf(text, sizeof text,
             "{\"original\":{\"results\":\"%016llx\",\"tensors\":%s}}",
             (unsigned long long)names, tensors);
    if (!exists(path_in(dir, "src/.fp8cast")))
        make_dir(path_in(dir, "src/.fp8cast"));
    put_text(path_in(dir, "src/.fp8cast/journal.json"), text);
}

static void expect_result(const f8_plan *plan, uint64_t i, const char *name,
                          unsigned rank, uint64_t rows, uint64_t cols)
{
    f8_plan_result found;

    f8_plan_get_result(plan, i, &found);
    assert_string_equal(found.name, name);
    assert_int_equal(found.rank, rank);
    assert_int_equal(found.shape[rank - 2], rows);
    assert_int_equal(found.shape[rank - 1], cols);
}

/* The parts of an expert that lies transposed begin side by side, three
 * elements apart, where each of its four columns is a run of three in rows of
 * six. The F32 gate comes first. */
static void test_across(void **state)
{
    static const uint64_t begins[] = {20, 26, 68, 74};

    put_source(*state, rules, FP8_CONFIG, result, COUNT_OF(result));
    put_journal(*state, "{\"{n}.p.experts.up\":\"transposed\","
                        "\"{n}.m.experts.up\":\"renamed\"}");
    f8_plan *plan = plan_back(*state);
    assert_int_equal(plan->results_count, 4);
    expect_result(plan, 1, "0.m.experts.up", 3, 4, 6);
    for (size_t i = 0; i < COUNT_OF(begins); i++) {
        const f8_unit *u = &plan->units[1 + i];
        assert_int_equal(u->data_begin, begins[i]);
        assert_int_equal(u->to_stride, 6);
        assert_int_equal(u->rows, 3);
        assert_int_equal(u->cols, 4);
    }
    /* The other experts stood one by one, and the gate had its own name. */
    assert_string_equal(plan->units[0].name, "0.p.gate");
    expect_result(plan, 2, "0.p.experts.0.c.weight", 2, 4, 3);
    expect_result(plan, 3, "0.p.experts.1.c.weight", 2, 4, 3);
    assert_int_equal(plan->units[5].data_begin, 20 + 96);
    f8_plan_free(plan);
}

static void test_along(void **state)
{
    put_source(*state, rules, FP8_CONFIG, result, COUNT_OF(result));
    put_journal(*state, "{\"0.p.experts.up\":\"fused\","
                        "\"0.p.experts.down\":\"fused\","
                        "\"{n}.m.gate\":\"renamed\"}");
    f8_plan *plan = plan_back(*state);
    assert_int_equal(plan->results_count, 3);
    assert_string_equal(plan->units[0].name, "0.m.gate");
    expect_result(plan, 1, "0.p.experts.up", 3, 6, 4);
    expect_result(plan, 2, "0.p.experts.down", 3, 4, 3);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(plan->units[1 + i].data_begin, 20 + 24 * i);
        assert_int_equal(plan->units[1 + i].to_stride, 0);
    }
    f8_plan_free(plan);
}

/* Nothing is said, or of other tensors: up is published one by one, down
 * transposed. */
static void expect_published(const char *dir)
{
    f8_plan *plan = plan_back(dir);

    assert_int_equal(plan->results_count, 6);
    assert_string_equal(plan->units[0].name, "0.p.gate");
    expect_result(plan, 4, "0.p.experts.1.b.weight", 2, 3, 4);
    expect_result(plan, 5, "0.p.experts.down", 3, 3, 4);
    f8_plan_free(plan);
}

#define ANOTHER                                                    \
    "{\"original\":{\"results\":\"0123456789abcdef\",\"tensors\":" \
    "{\"{n}.p.experts.up\":\"fused\"}}}"

static void test_unknown(void **state)
{
    static const char *const others[] = {
        "{}", "{\"original\":null}",
        "{\"original\":{\"tensors\":{\"{n}.p.experts.up\":\"fused\"}}}",
        ANOTHER};

    put_source(*state, rules, FP8_CONFIG, result, COUNT_OF(result));
    expect_published(*state);
    make_dir(path_in(*state, "src/.fp8cast"));
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        put_text(path_in(*state, "src/.fp8cast/journal.json"), others[i]);
        expect_published(*state);
    }
    /* Our own, but its tensors are no object. */
    put_journal(*state, "[\"{n}.p.experts.up\"]");
    expect_published(*state);
}

/* Of a conversion by other rules, or by an earlier state of these. */
static void test_other_rules(void **state)
{
    f8_options options = back_options(*state, true);

    const char *src =
        put_source(*state, rules, FP8_CONFIG, result, COUNT_OF(result));
    put_journal(*state, "{\"{n}.p.experts.up\":\"fused\","
                        "\"*.p.experts.down\":\"fused\"}");
    expect_no_plan(
        src, &options, F8_ERR_RULES,
        ".fp8cast/journal.json: \"*.p.experts.down\" was fused before, "
        "but no split or rename of my.rules knows it; expected the "
        "rules of that conversion");
}

static void test_not_json(void **state)
{
    static const struct {
        const char *text, *found;
    } cases[] = {
        {"{\"original\":", ":1:13: expected a value, found the end"},
        {"[]", ":1:1: expected a JSON object, found '['"},
        {"null", ":1:1: expected a JSON object, found null"},
        {"{\"original\":1e999}", ":1:17: real number overflow near '1e999'"},
    };
    char message[2 * 4096];
    const char *path = path_in(*state, "src/.fp8cast/journal.json");
    f8_options options = back_options(*state, true);

    const char *src =
        put_source(*state, rules, FP8_CONFIG, result, COUNT_OF(result));
    make_dir(path_in(*state, "src/.fp8cast"));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put_text(path, cases[i].text);
        snprintf(message, sizeof message, "%s%s", path, cases[i].found);
        expect_no_plan(src, &options, F8_ERR_FORMAT, message);
    }
    /* Who does not fuse does not read it. */
    options.fuse = false;
    options.rules = NULL;
    f8_plan_free(plan_with(src, &options));
}

/* Rules that leave the axis open must say what is published. */
static void test_no_axis(void **state)
{
    f8_options options = back_options(*state, true);

    const char *src =
        put_source(*state, rules, FP8_CONFIG, result, COUNT_OF(result));
    put_text(options.rules, "family test\n"
                            "split {n}.p.experts.down experts=0 parts=c "
                            "rows=r columns=c\n");
    expect_no_plan(src, &options, F8_ERR_REFUSED,
                   "tensor 0.p.experts.0.c.weight: cannot be fused into "
                   "0.p.experts.down: expected rules with published=1, 2 or "
                   "apart, which says which way that lies (my.rules:2: split "
                   "{n}.p.experts.down)");
}

/* Elements of eight bytes are never transposed; along, they are only moved. */
static void test_wide_elements(void **state)
{
    static const made_tensor wide[] = {
        {"0.p.experts.0.c.weight", F8_DTYPE_F64, 2, {4, 3}}};
    f8_options options = back_options(*state, true);

    const char *src =
        put_source(*state, rules, FP8_CONFIG, wide, COUNT_OF(wide));
    expect_no_plan(
        src, &options, F8_ERR_REFUSED,
        "tensor 0.p.experts.0.c.weight: expected BF16, F16 or F32 to "
        "transpose into 0.p.experts.down, found F64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_record),      TEST_IN_DIR(test_across),
        TEST_IN_DIR(test_along),       TEST_IN_DIR(test_unknown),
        TEST_IN_DIR(test_other_rules), TEST_IN_DIR(test_not_json),
        TEST_IN_DIR(test_no_axis),     TEST_IN_DIR(test_wide_elements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
