/* test_manifest.c - the index and config.json as bytes. What is expected was
 * printed by Python's json.dumps as docs/format.md, sections 4 and 5, say, or
 * follows from those sections by hand. */
#include "helpers.h"

#include "manifest.h"

/* ---- config.json --------------------------------------------------------- */

/* {"a": "x", "size": [128, 128], "none": [], "in": {"k": 1}, "empty": {}} */
static json_t *small_value(void)
{
    json_t *value =
        json_pack("{s:s, s:[ii], s:[], s:{s:i}, s:{}}", "a", "\xc3\xa9\"",
                  "size", 128, 128, "none", "in", "k", 1, "empty");
    assert_non_null(value);
    return value;
}

static void expect_splice(const char *config, const char *expected)
{
    f8_error err = {0};
    f8_buf text = {0}, source = {0};
    json_t *value = small_value();

    f8_buf_puts(&source, config);
    expect_ok(f8_json_splice(&source, "key", value, &text, &err), &err);
    assert_string_equal(text.data, expected);
    assert_int_equal(text.length, strlen(expected));
    /* The source is only read. */
    assert_string_equal(source.data, config);
    f8_buf back = {0};
    expect_ok(f8_json_cut(&text, NULL, "key", &back, &err), &err);
    assert_string_equal(back.data, config);
    f8_buf_free(&back);
    json_decref(value);
    f8_buf_free(&source);
    f8_buf_free(&text);
}

#define VALUE_ON_ONE_LINE                                                    \
    "{\"a\": \"\xc3\xa9\\\"\", \"size\": [128, 128], \"none\": [], \"in\": " \
    "{\"k\": 1}, \"empty\": {}}"

/* The value with `u` as indentation, at depth 1. */
#define VALUE_INDENTED(u)                                            \
    "{\n" u u "\"a\": \"\xc3\xa9\\\"\",\n" u u "\"size\": [\n" u u u \
    "128,\n" u u u "128\n" u u "],\n" u u "\"none\": [],\n" u u      \
    "\"in\": {\n" u u u "\"k\": 1\n" u u "},\n" u u "\"empty\": {}\n" u "}"

static void test_splice_indented(void **state)
{
    (void)state;
    expect_splice("{\n  \"b\": 1\n}\n",
                  "{\n  \"b\": 1,\n  \"key\": " VALUE_INDENTED("  ") "\n}\n");
    expect_splice("{\n    \"b\": {\n        \"c\": []\n    }\n}",
                  "{\n    \"b\": {\n        \"c\": []\n    },\n    "
                  "\"key\": " VALUE_INDENTED("    ") "\n}");
    expect_splice(
        "{\n\t\"b\": \"}\"\n}\n",
        "{\n\t\"b\": \"}\",\n\t\"key\": " VALUE_INDENTED("\t") "\n}\n");
    /* Keys at the start of their lines: breaks, but nothing before them. */
    expect_splice("{\n\"b\": 1\n}",
                  "{\n\"b\": 1,\n\"key\": " VALUE_INDENTED("") "\n}");
}

/* Only the line breaks that are added are ours; those that stand there stay,
 * as does white space before the first brace and behind the last. */
static void test_splice_keeps_bytes(void **state)
{
    (void)state;
    expect_splice("{\r\n  \"b\": 1,\r\n  \"c\": 2\r\n}\r\n",
                  "{\r\n  \"b\": 1,\r\n  \"c\": 2,\n  \"key\": " VALUE_INDENTED(
                      "  ") "\r\n}\r\n");
    expect_splice(
        "\n {\n  \"b\": 1}  \n\n",
        "\n {\n  \"b\": 1,\n  \"key\": " VALUE_INDENTED("  ") "}  \n\n");
    /* Numbers as they were written, also where Python would print others. */
    expect_splice("{\n  \"eps\": 1e-06,\n  \"theta\": 10000000.00,\n  \"u\": "
                  "\"\\u00e9\"\n  }",
                  "{\n  \"eps\": 1e-06,\n  \"theta\": 10000000.00,\n  \"u\": "
                  "\"\\u00e9\",\n  \"key\": " VALUE_INDENTED("  ") "\n  }");
    /* The first key decides, not how the others are indented. */
    expect_splice("{\n  \"b\": 1,\n      \"c\": 2\n}",
                  "{\n  \"b\": 1,\n      \"c\": 2,\n  \"key\": " VALUE_INDENTED(
                      "  ") "\n}");
}

/* "the white space between the first line break after the opening brace and
 * the first key" holds a second line break here, so the unit is "\n ". What
 * json.dumps prints with it has twice the lines, and every one but the first
 * is prefixed by the unit; computed in Python from those two sentences. */
static void test_splice_behind_an_empty_line(void **state)
{
    (void)state;
    /* The unit is what stands behind the last break, one space. */
    expect_splice("{\n\n \"b\": 1\n}",
                  "{\n\n \"b\": 1,\n \"key\": " VALUE_INDENTED(" ") "\n}");
}

static void test_splice_on_one_line(void **state)
{
    (void)state;
    expect_splice("{\"b\": 1}", "{\"b\": 1, \"key\": " VALUE_ON_ONE_LINE "}");
    expect_splice("{\"b\":1}\n", "{\"b\":1, \"key\": " VALUE_ON_ONE_LINE "}\n");
    expect_splice("{ \"b\": 1 }",
                  "{ \"b\": 1, \"key\": " VALUE_ON_ONE_LINE " }");
    /* A break behind the first key gives no unit. */
    expect_splice("{\"b\": [\n1,\n2\n]\n}",
                  "{\"b\": [\n1,\n2\n], \"key\": " VALUE_ON_ONE_LINE "\n}");
}

static void test_splice_into_nothing(void **state)
{
    (void)state;
    expect_splice("{}", "{ \"key\": " VALUE_ON_ONE_LINE "}");
    expect_splice("{ }\n", "{ \"key\": " VALUE_ON_ONE_LINE " }\n");
    expect_splice("{\n}", "{ \"key\": " VALUE_ON_ONE_LINE "\n}");
}

/* ---- taking a member out ------------------------------------------------- */

static void expect_cut(const char *outer, const char *key, const char *config,
                       const char *expected)
{
    f8_error err = {0};
    f8_buf text = {0}, source = {0};

    f8_buf_puts(&source, config);
    expect_ok(f8_json_cut(&source, outer, key, &text, &err), &err);
    assert_string_equal(text.data, expected);
    assert_int_equal(text.length, strlen(expected));
    f8_buf_free(&source);
    f8_buf_free(&text);
}

static void test_cut(void **state)
{
    (void)state;
    /* What others wrote: the member may stand anywhere. */
    expect_cut(NULL, "q", "{\"q\": {\"a\": [1, {}]}, \"b\": 2}", "{\"b\": 2}");
    expect_cut(NULL, "q", "{\n  \"q\": 1,\n  \"b\": 2\n}", "{\n  \"b\": 2\n}");
    expect_cut(NULL, "q", "{\n  \"a\": 1,\n  \"q\": 2,\n  \"b\": 3\n}\n",
               "{\n  \"a\": 1,\n  \"b\": 3\n}\n");
    expect_cut(NULL, "q", "{\"a\":1 , \"q\":2 , \"b\":3}",
               "{\"a\":1 , \"b\":3}");
    expect_cut(NULL, "q", "{\n  \"q\": 1\n}", "{\n}");
    /* Values and inner keys of the same name are others. */
    expect_cut(NULL, "q", "{\"a\": {\"q\": 1}, \"b\": \"q\", \"q\": \"}\"}",
               "{\"a\": {\"q\": 1}, \"b\": \"q\"}");
    /* However the key is spelled. */
    expect_cut(NULL, "q", "{\"\\u0071\": 1, \"b\": 2}", "{\"b\": 2}");
    expect_cut("o", "q", "{\"q\": 0, \"o\": {\"q\": 1, \"c\": 2}, \"z\": 3}",
               "{\"q\": 0, \"o\": {\"c\": 2}, \"z\": 3}");
    expect_cut("o", "q", "{\"o\": {\"c\": 2, \"q\": 1}}",
               "{\"o\": {\"c\": 2}}");
    expect_cut("o", "q", "{\"o\": { \"q\": 1 }, \"q\": 0}",
               "{\"o\": { }, \"q\": 0}");
}

/* A plan as far as f8_manifest_config looks at it. */
static void expect_config(f8_scale_dtype scale_dtype, const char *config,
                          const char *expected)
{
    f8_error err = {0};
    f8_buf text = {0};
    f8_checkpoint source = {.dir = NULL};
    f8_plan plan = {.source = &source, .scale_dtype = scale_dtype};

    f8_buf_puts(&source.config_text, config);
    plan.not_converted = json_pack("[ss]", "lm_head", "m.0.norm");
    expect_ok(f8_manifest_config(&plan, &text, &err), &err);
    assert_string_equal(text.data, expected);
    json_decref(plan.not_converted);
    f8_buf_free(&source.config_text);
    f8_buf_free(&text);
}

static void test_config(void **state)
{
    (void)state;
    expect_config(F8_SCALE_BF16, "{\n  \"model_type\": \"x\"\n}\n",
                  "{\n"
                  "  \"model_type\": \"x\",\n"
                  "  \"quantization_config\": {\n"
                  "    \"quant_method\": \"fp8\",\n"
                  "    \"fmt\": \"e4m3\",\n"
                  "    \"activation_scheme\": \"dynamic\",\n"
                  "    \"weight_block_size\": [\n"
                  "      128,\n"
                  "      128\n"
                  "    ],\n"
                  "    \"modules_to_not_convert\": [\n"
                  "      \"lm_head\",\n"
                  "      \"m.0.norm\"\n"
                  "    ]\n"
                  "  }\n"
                  "}\n");
    expect_config(F8_SCALE_UE8M0, "{\"model_type\": \"x\"}",
                  "{\"model_type\": \"x\", \"quantization_config\": "
                  "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", "
                  "\"activation_scheme\": \"dynamic\", \"scale_fmt\": "
                  "\"ue8m0\", \"weight_block_size\": [128, 128], "
                  "\"modules_to_not_convert\": [\"lm_head\", \"m.0.norm\"]}}");
    /* F32 scales need no word: loaders take them as they come. */
    expect_config(F8_SCALE_F32, "{\"model_type\": \"x\"}",
                  "{\"model_type\": \"x\", \"quantization_config\": "
                  "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", "
                  "\"activation_scheme\": \"dynamic\", \"weight_block_size\": "
                  "[128, 128], \"modules_to_not_convert\": [\"lm_head\", "
                  "\"m.0.norm\"]}}");
}

/* ---- the index ----------------------------------------------------------- */

typedef struct made_unit {
    const char *name;
    bool quantised;
    uint32_t shard;
} made_unit;

/* A plan as far as f8_manifest_index looks at it. */
static void expect_index(const made_unit *made, size_t count,
                         const char *weight_map)
{
    static char one[] = "model-00001-of-00002.safetensors";
    static char two[] = "model-00002-of-00002.safetensors";
    f8_shard shards[2] = {{.name = one}, {.name = two}};
    f8_unit *units = calloc(count, sizeof *units);
    uint64_t *results = calloc(count, sizeof *results);
    f8_error err = {0};
    f8_buf text = {0}, expected = {0};

    assert_true(units && results);
    for (size_t i = 0; i < count; i++) {
        units[i].name = made[i].name;
        units[i].action = made[i].quantised ? F8_QUANTIZE : F8_KEEP;
        units[i].shard = made[i].shard;
        units[i].parts = 1;
        results[i] = i;
    }
    f8_plan plan = {.units = units,
                    .units_count = count,
                    .results = results,
                    .results_count = count,
                    .shards = shards,
                    .shards_count = 2,
                    .parameters = 35951822704,
                    .result_bytes = 37485194464};
    expect_ok(f8_manifest_index(&plan, &text, &err), &err);
    f8_buf_printf(&expected,
                  "{\n"
                  "  \"metadata\": {\n"
                  "    \"total_parameters\": 35951822704,\n"
                  "    \"total_size\": 37485194464\n"
                  "  },\n"
                  "  \"weight_map\": {\n%s\n"
                  "  }\n"
                  "}\n",
                  weight_map);
    assert_string_equal(text.data, expected.data);
    assert_int_equal(f8_manifest_index_bytes(&plan), text.length);
    f8_buf_free(&expected);
    f8_buf_free(&text);
    free(results);
    free(units);
}

#define IN_1 "\": \"model-00001-of-00002.safetensors\""
#define IN_2 "\": \"model-00002-of-00002.safetensors\""

static void test_index(void **state)
{
    static const made_unit units[] = {
        {"m.2.w", false, 0}, {"m.10.w", true, 0},        {"m.1.w", true, 1},
        {"M", false, 1},     {"\xc3\xa9\n\"", false, 1}, {"\x01", true, 0},
    };

    (void)state;
    /* By bytes: upper case first, "10" before "2", U+00E9 last. */
    expect_index(units, COUNT_OF(units),
                 "    \"\\u0001" IN_1 ",\n"
                 "    \"\\u0001_scale_inv" IN_1 ",\n"
                 "    \"M" IN_2 ",\n"
                 "    \"m.1.w" IN_2 ",\n"
                 "    \"m.1.w_scale_inv" IN_2 ",\n"
                 "    \"m.10.w" IN_1 ",\n"
                 "    \"m.10.w_scale_inv" IN_1 ",\n"
                 "    \"m.2.w" IN_1 ",\n"
                 "    \"\xc3\xa9\\n\\\"" IN_2);
}

/* Names between a weight's and its scale's, and around both. Sorted with
 * Python: sorted(names, key=str.encode). */
static void test_index_with_names_around_a_scale(void **state)
{
    static const made_unit units[] = {
        {"a_scale", false, 0},
        {"a_scale_in", false, 0},
        {"a_t", false, 0},
        {"a_s", true, 0},
        {"a", true, 0},
        {"a_scale_inv_x", false, 0},
        {"a.b", false, 0},
        {"aa", true, 0},
        {"a_scale_inw", false, 0},
        {"a_scale_inu", false, 0},
        {"a_", true, 0},
    };

    (void)state;
    expect_index(units, COUNT_OF(units),
                 "    \"a" IN_1 ",\n"
                 "    \"a.b" IN_1 ",\n"
                 "    \"a_" IN_1 ",\n"
                 "    \"a__scale_inv" IN_1 ",\n"
                 "    \"a_s" IN_1 ",\n"
                 "    \"a_s_scale_inv" IN_1 ",\n"
                 "    \"a_scale" IN_1 ",\n"
                 "    \"a_scale_in" IN_1 ",\n"
                 "    \"a_scale_inu" IN_1 ",\n"
                 "    \"a_scale_inv" IN_1 ",\n"
                 "    \"a_scale_inv_x" IN_1 ",\n"
                 "    \"a_scale_inw" IN_1 ",\n"
                 "    \"a_t" IN_1 ",\n"
                 "    \"aa" IN_1 ",\n"
                 "    \"aa_scale_inv" IN_1);
}

/* Two quantised weights of which one's name goes on as a scale's would:
 * a_scale_inv comes before a_scale_scale_inv, as "i" comes before "s". */
static void test_index_with_a_weight_called_scale(void **state)
{
    static const made_unit units[] = {{"a", true, 0}, {"a_scale", true, 0}};

    (void)state;
    expect_index(units, COUNT_OF(units),
                 "    \"a" IN_1 ",\n"
                 "    \"a_scale" IN_1 ",\n"
                 "    \"a_scale_inv" IN_1 ",\n"
                 "    \"a_scale_scale_inv" IN_1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splice_indented),
        cmocka_unit_test(test_splice_keeps_bytes),
        cmocka_unit_test(test_splice_behind_an_empty_line),
        cmocka_unit_test(test_splice_on_one_line),
        cmocka_unit_test(test_splice_into_nothing),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_index_with_names_around_a_scale),
        cmocka_unit_test(test_index_with_a_weight_called_scale),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
