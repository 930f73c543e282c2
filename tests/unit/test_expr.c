/* test_expr.c - the layout language's expressions against values worked out
 * by hand, and the place and wording of every error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "expr.h"

static f8_binding names[] = {
    {"layers", 6, 40},       {"L", 1, 7}, {"most", 4, INT64_MAX},
    {"least", 5, INT64_MIN}, {"L", 1, 3}, /* hides the first L, as an inner loop
                                             does */
};
static const f8_scope scope = {names, sizeof names / sizeof names[0], 0};

static f8_cursor cursor_on(const char *text)
{
    return (f8_cursor){"t", 9, text, text, text + strlen(text)};
}

static void gives(const char *text, int64_t expected)
{
    f8_error err = {0};
    int64_t value = 0;
    f8_cursor c = cursor_on(text);
    f8_status status = f8_expr_eval(&c, &scope, &value, &err);
    if (status != F8_OK || value != expected)
        fail_msg("%s: got %lld, expected %lld (%s)", text, (long long)value,
                 (long long)expected, err.message);
    assert_int_equal(f8_cursor_finish(&c, &err), F8_OK);
}

static void fails(const char *text, f8_status expected, const char *message)
{
    f8_error err = {0};
    int64_t value = 0;
    f8_cursor c = cursor_on(text);
    f8_status status = f8_expr_eval(&c, &scope, &value, &err);
    if (status == F8_OK)
        status = f8_cursor_finish(&c, &err);
    assert_int_equal(status, expected);
    assert_int_equal(err.status, expected);
    assert_string_equal(err.message, message);
}

static void test_values(void **state)
{
    (void)state;
    gives("0", 0);
    gives("  42  # the answer", 42);
    gives("9223372036854775807", INT64_MAX);
    gives("layers", 40);
    gives("L", 3);
    gives("-5", -5);
    gives("--5", 5);
    gives("-(2+3)", -5);
    gives("7/2", 3);
    gives("-7/2", -3); /* towards zero, as in C */
    gives("-7%4", -3);
    gives("7%-4", 3);
    gives("least", INT64_MIN);
    gives("-most-1", INT64_MIN);
    gives("L % 4 == 3", 1);
    gives("L % 4 != 3", 0);
    gives("3 < 4", 1);
    gives("4 < 4", 0);
    gives("4 <= 4", 1);
    gives("5 > 4", 1);
    gives("4 > 4", 0);
    gives("4 >= 5", 0);
    gives("3 && -1", 1);
    gives("3 && 0", 0);
    gives("0 || 0", 0);
    gives("0 || 7", 1);
}

static void test_precedence(void **state)
{
    (void)state;
    gives("2+3*4", 14);
    gives("(2+3)*4", 20);
    gives("20-3-2", 15);
    gives("100/5/2", 10);
    gives("2*7%4", 2);
    gives("2*(7%4)", 6);
    gives("-2*3", -6);
    gives("2*-3", -6);
    gives("1+1 == 2", 1);
    gives("1 < 2 && 3 < 2", 0);
    gives("1 || 0 && 0", 1);
    gives("(1 || 0) && 0", 0);
    gives("8 - (4 < 8) * (8 - 4)", 4);
}

static void test_syntax_errors(void **state)
{
    (void)state;
    fails("", F8_ERR_FORMAT,
          "t:9:1: expected a number, a name or '(', found the end of "
          "the line");
    fails("1 +", F8_ERR_FORMAT,
          "t:9:4: expected a number, a name or '(', found the end of "
          "the line");
    fails("2 * ]", F8_ERR_FORMAT,
          "t:9:5: expected a number, a name or '(', found ']'");
    fails("2 * \xc3\xa9", F8_ERR_FORMAT,
          "t:9:5: expected a number, a name or '(', found byte 0xc3");
    fails("(1 + 2", F8_ERR_FORMAT,
          "t:9:7: expected ')', found the end of the line");
    fails("(1 2)", F8_ERR_FORMAT, "t:9:4: expected ')', found '2'");
    fails("1 + heads", F8_ERR_FORMAT, "t:9:5: 'heads' is not defined here");
    fails("Layers", F8_ERR_FORMAT, "t:9:1: 'Layers' is not defined here");
    fails("1 2", F8_ERR_FORMAT,
          "t:9:3: unexpected text at the end of the line");
    fails("1 & 2", F8_ERR_FORMAT,
          "t:9:3: unexpected text at the end of the line");
    fails("1 < 2 < 3", F8_ERR_FORMAT,
          "t:9:7: unexpected text at the end of the line");
    fails("9223372036854775808", F8_ERR_FORMAT,
          "t:9:1: this number does not fit 64 bits");
}

static void test_value_errors(void **state)
{
    (void)state;
    fails("1 / (L - 3)", F8_ERR_ARGUMENT, "t:9:3: division by zero");
    fails("1 + 5 % 0", F8_ERR_ARGUMENT, "t:9:7: division by zero");
    /* Both sides are evaluated, whatever the first one is. */
    fails("0 && 1 / 0", F8_ERR_ARGUMENT, "t:9:8: division by zero");
    fails("most + 1", F8_ERR_ARGUMENT,
          "t:9:6: the result of '+' does not fit 64 bits");
    fails("least - 1", F8_ERR_ARGUMENT,
          "t:9:7: the result of '-' does not fit 64 bits");
    fails("4294967296 * 2147483648", F8_ERR_ARGUMENT,
          "t:9:12: the result of '*' does not fit 64 bits");
    fails("least / -1", F8_ERR_ARGUMENT,
          "t:9:7: the result of '/' does not fit 64 bits");
    fails("least % -1", F8_ERR_ARGUMENT,
          "t:9:7: the result of '%' does not fit 64 bits");
    fails("1 - -least", F8_ERR_ARGUMENT,
          "t:9:5: the negated value does not fit 64 bits");
}

/* A text of nothing but opening parentheses must not exhaust the stack. */
static void test_depth(void **state)
{
    (void)state;
    char text[200] = {0};
    memset(text, '(', 64);
    text[64] = '1';
    memset(text + 65, ')', 64);
    gives(text, 1);
    memset(text, '(', 150);
    text[150] = '\0';
    fails(text, F8_ERR_FORMAT,
          "t:9:65: more than 64 levels of parentheses and signs");
    memset(text, '-', 150);
    fails(text, F8_ERR_FORMAT,
          "t:9:65: more than 64 levels of parentheses and signs");
}

/* The longest expression is taken and the rest left for the caller. */
static void test_rest(void **state)
{
    (void)state;
    f8_error err = {0};
    int64_t value = 0;
    f8_cursor c = cursor_on("2 * L, 5]");
    assert_int_equal(f8_expr_eval(&c, &scope, &value, &err), F8_OK);
    assert_int_equal(value, 6);
    assert_true(f8_cursor_take(&c, ","));
    assert_int_equal(f8_expr_eval(&c, &scope, &value, &err), F8_OK);
    assert_int_equal(value, 5);
    assert_string_equal(c.at, "]");
}

static void test_decimals(void **state)
{
    (void)state;
    const struct {
        const char *text;
        double value;
    } good[] = {{"0.02", 0.02},
                {"1", 1},
                {"-0.25", -0.25},
                {"1000", 1000},
                {"0.1 0.2", 0.1},
                {"0.123456789012", //
                 0.123456789012},
                {" 2.7# x", 2.7},
                {"3.", 3}};
    const char *bad[] = {"",     ".5", "x", "1001", "- ", "0.0000000000000001",
                         "-2e3x" /* 2, then text */};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        f8_cursor c = cursor_on(good[i].text);
        double value = 0;
        assert_int_equal(f8_cursor_expect_decimal(&c, &value, NULL), F8_OK);
        /* The compiler's literal is the correctly rounded one. */
        assert_memory_equal(&value, &good[i].value, sizeof value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        f8_cursor c = cursor_on(bad[i]);
        double value = 0;
        f8_status status = f8_cursor_expect_decimal(&c, &value, NULL);
        if (status == F8_OK)
            status = f8_cursor_finish(&c, NULL);
        assert_int_equal(status, F8_ERR_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_syntax_errors),
        cmocka_unit_test(test_value_errors),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_decimals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
