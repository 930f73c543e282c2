/* test_arrange.c - layouts in rules files (docs/rules.md, "Layouts"): which
 * rule takes whose place, which file takes a tensor, how a list is sorted, and
 * a plan made with one. What is expected was worked out by hand. */
#include "helpers.h"

#include "arrange.h"
#include "plan.h"

static const char text[] = "family  f\n"
                           "keep      a.{n}.w\n"
                           "quantize  b.*\n"
                           "layout    one\n"
                           "quantize  a.{n}.w  optional\n"
                           "keep      c.w\n"
                           "file      rest  *\n"
                           "file      a-{n}x  a.{n}.*\n"
                           "list      sorted\n"
                           "end\n"
                           "layout    two\n"
                           "keep      b.*\n"
                           "end\n";

static f8_rules *arranged(const char *source, const char *layout)
{
    f8_rules *rules = NULL;
    f8_error err = {0};

    expect_ok(f8_rules_parse("my.rules", source, &rules, &err), &err);
    expect_ok(f8_arrange(rules, layout, &err), &err);
    return rules;
}

/* ---- which rules --------------------------------------------------------- */

static void test_card_has_no_section(void **state)
{
    static const char *const names[] = {NULL, "card"};
    (void)state;

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        f8_rules *rules = arranged(text, names[i]);
        assert_int_equal(rules->rules_count, 2);
        assert_int_equal(rules->sections_count, 0);
        assert_int_equal(rules->places_count, 0);
        assert_string_equal(f8_rules_find(rules, "a.7.w")->text,
                            "my.rules:2: keep a.{n}.w");
        f8_rules_free(rules);
    }
}

static void test_a_section_replaces_and_adds(void **state)
{
    f8_rules *rules = arranged(text, "one");
    (void)state;

    assert_int_equal(rules->rules_count, 3);
    assert_string_equal(rules->rules[0].text, "my.rules:5: quantize a.{n}.w");
    assert_true(rules->rules[0].optional);
    assert_string_equal(rules->rules[1].text, "my.rules:3: quantize b.*");
    assert_string_equal(rules->rules[2].text, "my.rules:6: keep c.w");
    assert_int_equal(rules->sections_count, 1);
    assert_string_equal(rules->sections[0].name, "one");
    assert_true(rules->sections[0].sorted);
    assert_int_equal(rules->places_count, 2);
    f8_rules_free(rules);

    rules = arranged(text, "two");
    assert_int_equal(rules->rules_count, 2);
    assert_string_equal(rules->rules[1].text, "my.rules:12: keep b.*");
    assert_string_equal(rules->sections[0].name, "two");
    assert_false(rules->sections[0].sorted);
    assert_int_equal(rules->places_count, 0);
    f8_rules_free(rules);
}

static void test_no_such_layout(void **state)
{
    f8_rules *rules = NULL;
    f8_error err = {0};
    (void)state;

    expect_ok(f8_rules_parse("my.rules", text, &rules, &err), &err);
    expect_error(f8_arrange(rules, "three", &err), &err, F8_ERR_RULES,
                 "--layout three: my.rules has no such layout; families that "
                 "have one of this name: none");
    expect_error(f8_arrange(rules, "official", &err), &err, F8_ERR_RULES,
                 "--layout official: my.rules has no such layout; families "
                 "that have one of this name: qwen3_5_moe");
    f8_rules_free(rules);
}

/* ---- which file ---------------------------------------------------------- */

static void expect_file(const f8_rules *rules, const char *tensor,
                        const char *file)
{
    f8_buf name = {0};

    assert_true(f8_arrange_file(rules, tensor, &name));
    assert_string_equal(name.data, file);
    f8_buf_free(&name);
}

static void test_files(void **state)
{
    f8_rules *rules = arranged(text, "one");
    f8_buf name = {0};
    (void)state;

    expect_file(rules, "a.7.w", "a-7x");
    expect_file(rules, "a.012.w", "a-012x");
    expect_file(rules, "a.b.w", "rest");
    expect_file(rules, "b.a.7.w", "rest");
    f8_rules_free(rules);
    rules = arranged("family f\nkeep *\nlayout l\nfile x  x.*\nend\n", "l");
    expect_file(rules, "x.1", "x");
    assert_false(f8_arrange_file(rules, "y.1", &name));
    f8_rules_free(rules);
    f8_buf_free(&name);
}

/* ---- which order --------------------------------------------------------- */

static void test_list_counts_as_people_do(void **state)
{
    static const char *const given[] = {"m.10.b", "m.2.b", "lm",   "m.2",
                                        "m.02.a", "m.2.a", "m.b",  "m.99",
                                        "m",      "m.123", "n.1x", "n.1.x"};
    static const char *const wanted[] = {"lm",    "m",     "m.2",    "m.02.a",
                                         "m.2.a", "m.2.b", "m.10.b", "m.99",
                                         "m.123", "m.b",   "n.1.x",  "n.1x"};
    json_t *list = json_array();
    f8_error err = {0};
    (void)state;

    for (size_t i = 0; i < COUNT_OF(given); i++)
        json_array_append_new(list, json_string(given[i]));
    expect_ok(f8_arrange_list(list, &err), &err);
    assert_int_equal(json_array_size(list), COUNT_OF(wanted));
    for (size_t i = 0; i < COUNT_OF(wanted); i++)
        assert_string_equal(json_string_value(json_array_get(list, i)),
                            wanted[i]);
    json_decref(list);
    list = json_array();
    expect_ok(f8_arrange_list(list, &err), &err);
    json_decref(list);
}

/* ---- the language -------------------------------------------------------- */

static void test_errors(void **state)
{
    static const bad_rules cases[] = {
        {"layout\n",
         "my.rules:1:7: expected one layout name at the end of the line"},
        {"layout a b\n", "my.rules:1:10: expected one layout name, found 'b'"},
        {"layout card\n", "my.rules:1:8: expected another name: what stands "
                          "above is this, found 'card'"},
        {"layout a\nend\nlayout a\n",
         "my.rules:3:8: expected a layout that has no "
         "section yet, found 'a'"},
        {"file a *\n",
         "my.rules:1:1: expected 'layout NAME' before 'file', found 'file'"},
        {"layout a\nfile a\n", "my.rules:2:7: expected a file's name and a "
                               "name pattern at the end of the line"},
        {"layout a\nfile a * b\n", "my.rules:2:10: expected a file's name and "
                                   "a name pattern, found 'b'"},
        {"layout a\nfile ../a *\n",
         "my.rules:2:6: expected letters, digits, '_', '-' and at most one "
         "'{n}', found '../a'"},
        {"layout a\nfile a{n}{n} a.{n}\n",
         "my.rules:2:10: expected letters, digits, '_', '-' and at most one "
         "'{n}', found '{n}'"},
        {"layout a\nfile a{n} *.{n}\n",
         "my.rules:2:11: expected a pattern with '{n}' before any '*' or '?', "
         "found '*.{n}'"},
        {"layout a\nfile a{n} b\n",
         "my.rules:2:11: expected a pattern with '{n}' before any '*' or '?', "
         "found 'b'"},
        {"layout a\nfile a {m}\n", "my.rules:2:8: expected '{n}', the only "
                                   "placeholder, found '{m}'"},
        {"layout a\nlayout b\n", "my.rules:2:1: expected 'end' before another "
                                 "layout, found 'layout'"},
        {"end\n", "my.rules:1:1: expected 'layout NAME' before 'end', found "
                  "'end'"},
        {"layout a\nend a\n",
         "my.rules:2:5: expected nothing behind 'end', found 'a'"},
        {"family f\nkeep *\nlayout a\n",
         "my.rules: expected 'end' of layout a"},
        {"list sorted\n",
         "my.rules:1:1: expected 'layout NAME' before 'list', found 'list'"},
        {"layout a\nlist\n",
         "my.rules:2:5: expected 'sorted' at the end of the line"},
        {"layout a\nlist sorted x\n",
         "my.rules:2:13: expected 'sorted', found 'x'"},
    };
    (void)state;

    expect_bad_rules(cases, COUNT_OF(cases));
}

/* ---- a plan -------------------------------------------------------------- */

static const made_tensor tensors[] = {
    {.name = "a.10.w", .dtype = F8_DTYPE_BF16, .rank = 2, .shape = {128, 128}},
    {.name = "z", .dtype = F8_DTYPE_BF16, .rank = 1, .shape = {4}},
    {.name = "a.2.w", .dtype = F8_DTYPE_BF16, .rank = 2, .shape = {128, 128}},
    {.name = "a.10.v", .dtype = F8_DTYPE_F32, .rank = 1, .shape = {4}},
    {.name = "y", .dtype = F8_DTYPE_BF16, .rank = 1, .shape = {4}},
};

static f8_status plan_of(const char *dir, const char *rules, f8_options options,
                         f8_plan **plan, f8_error *err)
{
    const char *src =
        put_source(dir, rules, TEST_CONFIG, tensors, COUNT_OF(tensors));

    options.size = sizeof options;
    options.threads = 2;
    options.rules = path_in(dir, "my.rules");
    return f8_plan_create(src, &options, plan, err);
}

static const char plan_rules[] = "family f\n"
                                 "keep *\n"
                                 "layout one\n"
                                 "quantize *.w\n"
                                 "file rest *\n"
                                 "file a-{n} a.{n}.*\n"
                                 "list sorted\n"
                                 "end\n";

static void test_plan_file_by_file(void **state)
{
    /* Files in the order in which their first tensors are read; the F32 comes
     * first in its file's data, but last among its results. */
    static const struct {
        const char *name;
        uint32_t shard;
        uint64_t begin;
    } wanted[] = {{"a.10.w", 0, 16 + 2},
                  {"a.10.v", 0, 0},
                  {"z", 1, 0},
                  {"y", 1, 8},
                  {"a.2.w", 2, 2}};
    static const char *const files[] = {"a-10.safetensors", "rest.safetensors",
                                        "a-2.safetensors"};
    f8_plan *plan = NULL;
    f8_error err = {0};
    f8_plan_summary summary;

    expect_ok(
        plan_of(*state, plan_rules, (f8_options){.layout = "one"}, &plan, &err),
        &err);
    f8_plan_get_summary(plan, &summary);
    assert_string_equal(summary.layout, "one");
    assert_int_equal(summary.result_shards, COUNT_OF(files));
    for (size_t i = 0; i < COUNT_OF(files); i++)
        assert_string_equal(f8_plan_shard_name(plan, i), files[i]);
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        assert_string_equal(plan->units[i].name, wanted[i].name);
        assert_int_equal(plan->units[i].shard, wanted[i].shard);
        assert_int_equal(plan->units[i].data_begin, wanted[i].begin);
    }
    assert_int_equal(plan->decisions[3].first_unit, 1);
    assert_string_equal(f8_plan_not_converted(plan, 0), "a.10.v");
    assert_string_equal(f8_plan_not_converted(plan, 1), "y");
    assert_string_equal(f8_plan_not_converted(plan, 2), "z");
    assert_true(f8_plan_has_index(plan));
    f8_plan_free(plan);
}

/* A single file needs an index too when it has not the usual name; and the
 * plans of two layouts are two plans. */
static void test_plan_of_one_file(void **state)
{
    f8_plan *card = NULL, *one = NULL;
    f8_error err = {0};
    const char *rules = "family f\nkeep *\nlayout one\nfile model *\nend\n";

    expect_ok(plan_of(*state, rules, (f8_options){0}, &card, &err), &err);
    assert_false(f8_plan_has_index(card));
    expect_ok(plan_of(*state, rules, (f8_options){.layout = "one"}, &one, &err),
              &err);
    assert_true(f8_plan_has_index(one));
    assert_string_equal(f8_plan_shard_name(one, 0), "model.safetensors");
    assert_true(card->fingerprint != one->fingerprint);
    f8_plan_free(card);
    f8_plan_free(one);
}

static void test_plan_errors(void **state)
{
    f8_plan *plan = NULL;
    f8_error err = {0};

    expect_error(plan_of(*state, plan_rules,
                         (f8_options){.layout = "one", .shard_bytes = 1}, &plan,
                         &err),
                 &err, F8_ERR_ARGUMENT,
                 "--shard-size: layout one says itself which file takes a "
                 "tensor");
    expect_error(
        plan_of(*state, "family f\nkeep *\nlayout l\nfile a a.*\nend\n",
                (f8_options){.layout = "l"}, &plan, &err),
        &err, F8_ERR_RULES, "layout l: no 'file' of my.rules names tensor z");
    assert_null(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_card_has_no_section),
        cmocka_unit_test(test_a_section_replaces_and_adds),
        cmocka_unit_test(test_no_such_layout),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_list_counts_as_people_do),
        cmocka_unit_test(test_errors),
        TEST_IN_DIR(test_plan_file_by_file),
        TEST_IN_DIR(test_plan_of_one_file),
        TEST_IN_DIR(test_plan_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
