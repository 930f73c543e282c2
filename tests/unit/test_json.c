/* test_json.c - the strict parser itself: numbers, skipped values, and the
 * borders of the window through which a file is read. What headers and indexes
 * make of it is in test_safetensors.c and test_checkpoint.c. */
#include "helpers.h"

#include <inttypes.h>

#include "json.h"

#define WINDOW 65536

static void begin(f8_json *json, const char *text, f8_error *err)
{
    memset(err, 0, sizeof *err);
    f8_json_begin(json, text, strlen(text), "f", "", err);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        bool fits;
        int64_t value;
    } good[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"-0.9", true, 0},
        {"7", true, 7},
        {"7.9", true, 7},
        {"7.1903645408e10", true, 71903645408},
        {"7.19E+1", true, 71},
        {"719e-1", true, 71},
        {"0.00719e4", true, 71},
        {"0.0e999999999999999999999", true, 0},
        {"1e-999999999999999999999", true, 0},
        {"1e999999999999999999999", false, 0},
        {"-1", false, 0},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775807.999", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"18446744073709551616", false, 0},
        {"0.000000000000000000000000000001e31", true, 10},
        {"1000000000000000000000000000000e-29", true, 10},
        {"1.000000000000000000000000000000e1", true, 10},
    };
    static const char *const bad[] = {
        "",    "-",  "01", "-01", "1.",  ".5",    "1e",       "1e+",
        "1.e", "+1", "1x", "0x1", "--1", "1.2.3", "Infinity", "\"1\""};
    f8_json json;
    f8_error err;
    int64_t value;
    bool fits;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        begin(&json, good[i].text, &err);
        expect_ok(f8_json_number(&json, &value, &fits), &err);
        expect_ok(f8_json_finish(&json), &err);
        if (fits != good[i].fits || (fits && value != good[i].value))
            fail_msg("%s: %d, %" PRId64, good[i].text, fits, value);
        f8_json_free(&json);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        begin(&json, bad[i], &err);
        if (f8_json_number(&json, &value, &fits) == F8_OK)
            fail_msg("'%s' was taken", bad[i]);
        assert_non_null(
            strstr(err.message, "expected a number as JSON has it"));
        f8_json_free(&json);
    }
}

/* In a text that people edit a place is a line and a column, in bytes. */
static void test_places(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "f:1:1: expected a value, found the end"},
        {"\n", "f:2:1: expected a value, found the end"},
        {"{\r\n  \"\xc3\xa9\": ?", "f:2:9: expected a value, found '?'"},
        {"{\n\"a\":1,\n\"a\":1}",
         "f:3:7: the object that ends here has two keys \"a\""},
    };
    f8_json json;
    f8_error err;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f8_json_begin(&json, cases[i].text, strlen(cases[i].text), "f", NULL,
                      &err);
        expect_error(f8_json_skip(&json, 1000), &err, F8_ERR_FORMAT,
                     cases[i].message);
        f8_json_free(&json);
    }
}

static void test_skip(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[1, -2.5e3, true, false, null, \"\", {}, [], {\"a\": {\"a\": 1}}]",
         NULL},
        {"", "f: byte 0: expected a value, found the end"},
        {"nul", "f: byte 0: expected a value, found nul"},
        {"nulll", "f: byte 0: expected a value, found nulll"},
        {"True", "f: byte 0: expected a value, found True"},
        {"[1,]", "f: byte 3: expected a value, found ']'"},
        {"[,1]", "f: byte 1: expected a value, found ','"},
        {"[1", "f: byte 2: expected ',' or ']', found the end"},
        {"[1}", "f: byte 2: expected ',' or ']', found '}'"},
        {"{\"a\":1,}", "f: byte 7: expected a key in quotes, found '}'"},
        {"{\"a\" 1}", "f: byte 5: expected ':', found 1"},
        {"{a:1}", "f: byte 1: expected a key in quotes, found a"},
        {"{\"a\":{\"b\":1,\"c\":{},\"b\":2}}",
         "f: byte 25: the object that ends here has two keys \"b\""},
        {"{\"b\":1,\"a\":{\"b\":1},\"\\u0062\":2}",
         "f: byte 30: the object that ends here has two keys \"b\""},
        {"[\"\x1f\"]", "f: byte 2: expected no control character in a string"},
        {"[\"\x7f\"]", NULL},
        {"/**/1", "f: byte 0: expected a value, found '/'"},
    };
    f8_json json;
    f8_error err;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        begin(&json, cases[i].text, &err);
        f8_status status = f8_json_skip(&json, 1000);
        if (status == F8_OK)
            status = f8_json_finish(&json);
        if (cases[i].message)
            expect_error(status, &err, F8_ERR_FORMAT, cases[i].message);
        else
            expect_ok(status, &err);
        f8_json_free(&json);
    }
}

/* 64 levels are taken and 65 are not, whatever comes behind. */
static void test_depth(void **state)
{
    f8_json json;
    f8_error err;
    char text[200000];

    (void)state;
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    text[130] = '\0';
    begin(&json, text, &err);
    expect_ok(f8_json_skip(&json, 1000), &err);
    f8_json_free(&json);
    memset(text, '[', sizeof text);
    text[sizeof text - 1] = '\0';
    begin(&json, text, &err);
    expect_error(f8_json_skip(&json, 1000000), &err, F8_ERR_FORMAT,
                 "f: byte 65: expected no more than 64 levels of brackets");
    f8_json_free(&json);
}

static void test_longest_values(void **state)
{
    f8_json json;
    f8_error err;

    (void)state;
    begin(&json, " [1,2]", &err);
    expect_ok(f8_json_skip(&json, 5), &err);
    f8_json_free(&json);
    begin(&json, " [1,2]", &err);
    expect_error(f8_json_skip(&json, 4), &err, F8_ERR_FORMAT,
                 "f: byte 1: expected a value of at most 4 bytes");
    f8_json_free(&json);
    begin(&json, "[\"12345\"]", &err);
    expect_error(f8_json_skip(&json, 4), &err, F8_ERR_FORMAT,
                 "f: byte 1: expected a string of at most 4 bytes");
    f8_json_free(&json);
}

/* Everything that needs looking ahead, at every place around the end of the
 * first window: it must read as it does anywhere. */
static void test_window(void **state)
{
    static const char tail[] = "\\u00e9\\ud83d\\ude00\xf0\x9f\x98\x80\\n\" : "
                               "9223372036854775807, \"b\": true}";
    static const char decoded[] = "\xc3\xa9\xf0\x9f\x98\x80\xf0\x9f\x98\x80\n";
    const char *path = path_in(*state, "f");
    static char text[WINDOW + 200], key[WINDOW + 200];

    for (size_t shift = 0; shift < sizeof tail + 4; shift++) {
        size_t start = WINDOW + 2 - shift; /* of the tail */
        const char *found;
        f8_json json;
        f8_error err = {0};
        uint64_t value;
        bool more;
        memset(text, 'k', sizeof text);
        memcpy(text, "{\"", 2);
        memcpy(text + start, tail, sizeof tail - 1);
        put_file(path, text, start + sizeof tail - 1);
        memset(key, 'k', sizeof key);
        memcpy(key + start - 2, decoded, sizeof decoded);
        int fd = open(path, O_RDONLY);
        assert_true(fd >= 0);
        uint64_t n = start + sizeof tail - 1;
        expect_ok(f8_json_begin_file(&json, fd, 0, n, "f", "", &err), &err);
        expect_ok(f8_json_enter(&json, '{', &more), &err);
        expect_ok(f8_json_key(&json, sizeof key, "a key", &found), &err);
        assert_string_equal(found, key);
        assert_true(f8_json_uint(&json, &value));
        assert_true(value == INT64_MAX);
        expect_ok(f8_json_next(&json, '}', &more), &err);
        expect_ok(f8_json_key(&json, 1, "a key", &found), &err);
        assert_string_equal(found, "b");
        expect_ok(f8_json_skip(&json, 10), &err);
        expect_ok(f8_json_next(&json, '}', &more), &err);
        assert_false(more);
        expect_ok(f8_json_finish(&json), &err);
        assert_true(f8_json_hash(&json) ==
                    f8_hash(F8_HASH_START, text, (size_t)n));
        f8_json_free(&json);
        assert_int_equal(close(fd), 0);
    }
}

/* A file that is shorter than it was said to be: that is the message, not what
 * the JSON would be without the rest. */
static void test_file_that_ends_early(void **state)
{
    const char *path = path_in(*state, "f"), *key;
    f8_json json;
    f8_error err = {0};
    bool more;

    put_text(path, "{\"a\"");
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    expect_ok(f8_json_begin_file(&json, fd, 0, 9, "f", "", &err), &err);
    assert_int_equal(f8_json_enter(&json, '{', &more), F8_ERR_IO);
    assert_int_equal(f8_json_key(&json, 9, "a key", &key), F8_ERR_IO);
    assert_int_equal(f8_json_skip(&json, 9), F8_ERR_IO);
    assert_int_equal(f8_json_finish(&json), F8_ERR_IO);
    assert_string_equal(err.message,
                        "f: ends at byte 4, 5 more were expected; did it "
                        "change while it was read?");
    f8_json_free(&json);
    assert_int_equal(close(fd), 0);
}

/* Table 3-7 of the Unicode standard: first and last of each row, and what lies
 * just outside. */
static void test_utf8(void **state)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "a\xc3\xa9z"};
    static const char *const bad[] = {"\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "a\xc3z"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(f8_json_is_utf8(good[i]));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(f8_json_is_utf8(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_places), cmocka_unit_test(test_skip),
        cmocka_unit_test(test_depth),  cmocka_unit_test(test_longest_values),
        TEST_IN_DIR(test_window),      TEST_IN_DIR(test_file_that_ends_early),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
