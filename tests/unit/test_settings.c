/* test_settings.c - differences of two JSON trees, as paths. */
#include "helpers.h"

#include "settings.h"

/* Compares two texts; "" stands for nothing there. The list is printed as
 * "path a b", a line each, with a dash for what is not there. */
static char *differences(const char *name, const char *a, const char *b,
                         uint64_t *total)
{
    f8_settings found;
    f8_error err;
    f8_buf text = {0};
    json_t *x = *a ? json_loads(a, JSON_DECODE_ANY, NULL) : NULL;
    json_t *y = *b ? json_loads(b, JSON_DECODE_ANY, NULL) : NULL;

    assert_true((x || !*a) && (y || !*b));
    assert_int_equal(f8_settings_compare(name, x, y, &found, &err), F8_OK);
    for (size_t i = 0; i < found.count; i++)
        f8_buf_printf(&text, "%s %s %s\n", found.items[i].path,
                      found.items[i].a ? found.items[i].a : "-",
                      found.items[i].b ? found.items[i].b : "-");
    f8_buf_puts(&text, "");
    *total = found.total;
    f8_settings_free(&found);
    json_decref(x);
    json_decref(y);
    return text.data;
}

static void expect(const char *a, const char *b, const char *lines)
{
    uint64_t total;
    char *found = differences("", a, b, &total);

    assert_string_equal(found ? found : "", lines);
    free(found);
}

static void test_equal(void **state)
{
    (void)state;
    expect("{}", "{}", "");
    expect("{\"a\": 1, \"b\": [1, {\"c\": null}]}",
           "{\"b\": [1, {\"c\": null}], \"a\": 1}", "");
    expect("{\"a\": 1}", "{\"a\": 1.0}", "");
    expect("{\"a\": [1e4, 10000]}", "{\"a\": [10000, 10000.0]}", "");
}

static void test_members(void **state)
{
    (void)state;
    expect("{\"a\": 1, \"b\": 2}", "{\"b\": 3, \"c\": null}",
           "a 1 -\nb 2 3\nc - null\n");
    expect("{\"a\": {\"b\": {\"c\": true}}}", "{\"a\": {\"b\": {\"c\": 1}}}",
           "a.b.c true 1\n");
    expect("{\"a\": {}}", "{\"a\": []}", "a {} []\n");
    expect("{\"a\": null}", "{}", "a null -\n");
    expect("{\"a\": \"x\"}", "{\"a\": \"y\"}", "a \"x\" \"y\"\n");
}

static void test_arrays(void **state)
{
    (void)state;
    expect("{\"a\": [1, [2, 3]]}", "{\"a\": [0, [2, 4]]}",
           "a[0] 1 0\na[1][1] 3 4\n");
    expect("{\"a\": [1, 2]}", "{\"a\": [1]}", "a [1,2] [1]\n");
    expect("{\"a\": [{\"b\": 1}]}", "{\"a\": [{\"b\": 2}]}", "a[0].b 1 2\n");
}

static void test_paths(void **state)
{
    (void)state;
    /* What a path could be taken apart at stands in quotes. */
    expect("{\"a.b\": 1, \"\": {\"c d\": 1}}",
           "{\"a.b\": 2, \"\": {\"c d\": 2}}",
           "\"a.b\" 1 2\n\"\".\"c d\" 1 2\n");
}

static void test_digits(void **state)
{
    (void)state;
    /* As short as a person writes it, but for two that would look alike. */
    expect("{\"a\": 0.1}", "{\"a\": 1e-06}", "a 0.1 1e-6\n");
    expect("{\"a\": 0.3}", "{\"a\": 0.30000000000000004}",
           "a 0.29999999999999999 0.30000000000000004\n");
    expect("{\"a\": 9007199254740993}", "{\"a\": 9007199254740992}",
           "a 9007199254740993 9007199254740992\n");
}

static void test_one_side(void **state)
{
    uint64_t total;
    char *found = differences("config.json", "", "{\"a\": 1}", &total);

    (void)state;
    assert_string_equal(found, "config.json - {\"a\":1}\n");
    free(found);
    found = differences("config.json", "", "", &total);
    assert_true(!found || !*found);
    assert_int_equal(total, 0);
    free(found);
}

/* A hostile config: a long key around a long list, so that all paths together
 * would be gigabytes. */
static void test_bounded(void **state)
{
    enum { KEY = 1000000, COUNT = 30000 };
    json_t *sides[2];
    f8_settings found;
    f8_error err;
    char *key = malloc(KEY + 1);

    (void)state;
    assert_non_null(key);
    memset(key, 'k', KEY);
    key[KEY] = '\0';
    for (int side = 0; side < 2; side++) {
        json_t *list = json_array();
        for (int i = 0; i < COUNT; i++)
            json_array_append_new(list, json_integer(side));
        sides[side] = json_object();
        json_object_set_new(sides[side], key, list);
    }
    assert_int_equal(f8_settings_compare("", sides[0], sides[1], &found, &err),
                     F8_OK);
    assert_int_equal(found.total, COUNT);
    assert_in_range(found.count, 1, 100);
    f8_settings_free(&found);
    /* With a short key it is the number that bounds. */
    assert_int_equal(f8_settings_compare("", json_object_get(sides[0], key),
                                         json_object_get(sides[1], key), &found,
                                         &err),
                     F8_OK);
    assert_int_equal(found.total, COUNT);
    assert_int_equal(found.count, F8_SETTINGS_KEPT);
    f8_settings_free(&found);
    json_decref(sides[0]);
    json_decref(sides[1]);
    free(key);
}

/* What a walk told, a line each; it ends with `last`. */
typedef struct told {
    f8_buf lines;
    const char *last;
} told;

static f8_status tell(void *ctx, const f8_setting_place *place, f8_error *err)
{
    told *t = ctx;

    f8_buf_printf(&t->lines, "%s %s %c%c\n", place->path,
                  place->key ? place->key : "-", place->a ? 'a' : '-',
                  place->b ? 'b' : '-');
    /* The objects around a member are those that have it. */
    if (place->key) {
        assert_ptr_equal(json_object_get(place->outer_a, place->key), place->a);
        assert_ptr_equal(json_object_get(place->outer_b, place->key), place->b);
    }
    return t->last && !strcmp(place->path, t->last)
               ? f8_fail(err, F8_ERR_CANCELLED, "enough")
               : F8_OK;
}

static void test_walk(void **state)
{
    json_t *a =
        json_loads("{\"x\": 1, \"y\": {\"z\": [1, 2], \"w\": 3}}", 0, NULL);
    json_t *b = json_loads("{\"y\": {\"z\": [1, 4], \"w\": 3.0, \"v\": 0}, "
                           "\"x\": 1}",
                           0, NULL);
    told t = {.last = NULL};
    f8_error err;

    (void)state;
    assert_int_equal(f8_settings_walk("", a, b, tell, &t, &err), F8_OK);
    /* 3 and 3.0 too: who minds is to say. */
    assert_string_equal(t.lines.data, "y.z[1] - ab\ny.w w ab\ny.v v -b\n");
    f8_buf_free(&t.lines);
    t.last = "y.w";
    assert_int_equal(f8_settings_walk("", a, b, tell, &t, &err),
                     F8_ERR_CANCELLED);
    assert_string_equal(t.lines.data, "y.z[1] - ab\ny.w w ab\n");
    f8_buf_free(&t.lines);
    json_decref(a);
    json_decref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),   cmocka_unit_test(test_members),
        cmocka_unit_test(test_arrays),  cmocka_unit_test(test_paths),
        cmocka_unit_test(test_digits),  cmocka_unit_test(test_one_side),
        cmocka_unit_test(test_bounded), cmocka_unit_test(test_walk),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
