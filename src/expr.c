/* expr.c - takes words, strings and numbers from a line, and evaluates integer
 * expressions straight from their text. There is no syntax tree: a layout
 * evaluates some thousand short expressions, once. Neighbours: layout.c is
 * the only user. */
#include "expr.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Parentheses and signs nest this deep at most, so that no text can exhaust
 * the stack. */
#define DEPTH_MAX 64

typedef struct evaluation {
    f8_cursor *cursor;
    const f8_scope *scope;
    unsigned depth;
    f8_error *err;
} evaluation;

typedef enum operation {
    OP_OR,
    OP_AND,
    OP_EQ,
    OP_NE,
    OP_LE,
    OP_GE,
    OP_LT,
    OP_GT,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_MOD
} operation;

typedef struct binary {
    const char *text;
    int level; /* a higher level binds tighter */
    operation op;
} binary;

enum { LEVEL_OR, LEVEL_AND, LEVEL_COMPARE, LEVEL_SUM, LEVEL_PRODUCT, LEVELS };

/* Longer spellings come first: "<=" must not be read as "<". */
static const binary operators[] = {
    {"||", LEVEL_OR, OP_OR},      {"&&", LEVEL_AND, OP_AND},
    {"==", LEVEL_COMPARE, OP_EQ}, {"!=", LEVEL_COMPARE, OP_NE},
    {"<=", LEVEL_COMPARE, OP_LE}, {">=", LEVEL_COMPARE, OP_GE},
    {"<", LEVEL_COMPARE, OP_LT},  {">", LEVEL_COMPARE, OP_GT},
    {"+", LEVEL_SUM, OP_ADD},     {"-", LEVEL_SUM, OP_SUB},
    {"*", LEVEL_PRODUCT, OP_MUL}, {"/", LEVEL_PRODUCT, OP_DIV},
    {"%", LEVEL_PRODUCT, OP_MOD},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

const f8_binding *f8_scope_find(const f8_scope *scope, const char *name,
                                size_t length)
{
    for (size_t i = scope->count; i > 0; i--) {
        const f8_binding *item = &scope->items[i - 1];
        if (item->length == length && memcmp(item->name, name, length) == 0)
            return item;
    }
    return NULL;
}

f8_status f8_cursor_fail(const f8_cursor *cursor, const char *at,
                         f8_status status, f8_error *err, const char *format,
                         ...)
{
    char sentence[512];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return f8_fail(err, status, "%s:%u:%zu: %s", cursor->label, cursor->number,
                   (size_t)(at - cursor->line) + 1, sentence);
}

void f8_cursor_skip_blanks(f8_cursor *cursor)
{
    while (cursor->at < cursor->end &&
           (*cursor->at == ' ' || *cursor->at == '\t'))
        cursor->at++;
}

bool f8_cursor_take(f8_cursor *cursor, const char *text)
{
    f8_cursor_skip_blanks(cursor);
    size_t length = strlen(text);
    if ((size_t)(cursor->end - cursor->at) < length ||
        memcmp(cursor->at, text, length) != 0)
        return false;
    cursor->at += length;
    return true;
}

bool f8_cursor_name(f8_cursor *cursor, const char **name, size_t *length)
{
    f8_cursor_skip_blanks(cursor);
    const char *at = cursor->at;
    if (at == cursor->end || !is_name_start(*at))
        return false;
    while (at < cursor->end && (is_name_start(*at) || is_digit(*at)))
        at++;
    *name = cursor->at;
    *length = (size_t)(at - cursor->at);
    cursor->at = at;
    return true;
}

bool f8_cursor_end(f8_cursor *c)
{
    f8_cursor_skip_blanks(c);
    return c->at == c->end || *c->at == '#';
}

f8_status f8_cursor_finish(f8_cursor *c, f8_error *err)
{
    if (f8_cursor_end(c))
        return F8_OK;
    return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, err,
                          "unexpected text at the end of the line");
}

f8_status f8_cursor_expect(f8_cursor *c, const char *text, f8_error *err)
{
    if (f8_cursor_take(c, text))
        return F8_OK;
    return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, err, "expected '%s'", text);
}

f8_status f8_cursor_expect_name(f8_cursor *c, const char **name, size_t *length,
                                f8_error *err)
{
    if (f8_cursor_name(c, name, length))
        return F8_OK;
    return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, err, "expected a name");
}

f8_status f8_cursor_expect_word(f8_cursor *c, const char **word, size_t *length,
                                f8_error *err)
{
    if (f8_cursor_end(c))
        return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, err, "expected a word");
    *word = c->at;
    while (c->at < c->end && *c->at != ' ' && *c->at != '\t')
        c->at++;
    *length = (size_t)(c->at - *word);
    return F8_OK;
}

f8_status f8_cursor_expect_string(f8_cursor *c, const char **text,
                                  size_t *length, f8_error *err)
{
    f8_status status = f8_cursor_expect(c, "\"", err);
    if (status != F8_OK)
        return status;
    *text = c->at;
    while (c->at < c->end && *c->at != '"')
        c->at++;
    *length = (size_t)(c->at - *text);
    return f8_cursor_expect(c, "\"", err);
}

/* Digits and power of ten are exact doubles, so that their quotient is rounded
 * once: the same on every machine, which strtod with its locale is not. */
f8_status f8_cursor_expect_decimal(f8_cursor *c, double *value, f8_error *err)
{
    bool negative = f8_cursor_take(c, "-");
    f8_cursor_skip_blanks(c);
    const char *start = c->at;
    double digits = 0, power = 1;
    unsigned count = 0;
    bool fraction = false;
    for (; c->at < c->end; c->at++) {
        if (*c->at == '.' && !fraction && count > 0) {
            fraction = true;
            continue;
        }
        if (*c->at < '0' || *c->at > '9')
            break;
        digits = digits * 10 + (*c->at - '0');
        power = fraction ? power * 10 : power;
        count++;
    }
    if (count == 0 || count > 15 || digits / power > 1000)
        return f8_cursor_fail(c, start, F8_ERR_FORMAT, err,
                              "expected a decimal number up to 1000 with at "
                              "most 15 digits");
    *value = negative ? -(digits / power) : digits / power;
    return F8_OK;
}

/* What stands at the cursor, for "…, found X". */
static f8_status fail_found(const evaluation *e, const char *expected)
{
    const f8_cursor *c = e->cursor;
    if (c->at == c->end)
        return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, e->err,
                              "expected %s, found the end of the line",
                              expected);
    /* Half a UTF-8 character would spoil the message. */
    if (*c->at < ' ' || *c->at > '~')
        return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, e->err,
                              "expected %s, found byte 0x%02x", expected,
                              (unsigned char)*c->at);
    return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, e->err,
                          "expected %s, found '%c'", expected, *c->at);
}

static f8_status eval_number(evaluation *e, int64_t *value)
{
    f8_cursor *c = e->cursor;
    const char *start = c->at;
    int64_t total = 0;
    for (; c->at < c->end && is_digit(*c->at); c->at++) {
        int64_t digit = *c->at - '0';
        if (__builtin_mul_overflow(total, INT64_C(10), &total) ||
            __builtin_add_overflow(total, digit, &total))
            return f8_cursor_fail(c, start, F8_ERR_FORMAT, e->err,
                                  "this number does not fit 64 bits");
    }
    *value = total;
    return F8_OK;
}

static f8_status eval_name(evaluation *e, int64_t *value)
{
    const char *name = NULL;
    size_t length = 0;
    if (!f8_cursor_name(e->cursor, &name, &length))
        return fail_found(e, "a number, a name or '('");
    const f8_binding *found = f8_scope_find(e->scope, name, length);
    if (found == NULL)
        return f8_cursor_fail(e->cursor, name, F8_ERR_FORMAT, e->err,
                              "'%.*s' is not defined here",
                              (int)(length < 100 ? length : 100), name);
    *value = found->value;
    return F8_OK;
}

static f8_status eval_level(evaluation *e, int level, int64_t *value);

/* A number, a name, a negated operand or a parenthesis. */
/* NOLINTNEXTLINE(misc-no-recursion): DEPTH_MAX */
static f8_status eval_operand(evaluation *e, int64_t *value)
{
    f8_cursor *c = e->cursor;
    f8_cursor_skip_blanks(c);
    const char *start = c->at;
    if (c->at < c->end && is_digit(*c->at))
        return eval_number(e, value);
    if (c->at == c->end || (*c->at != '-' && *c->at != '('))
        return eval_name(e, value);
    if (e->depth == DEPTH_MAX)
        return f8_cursor_fail(c, start, F8_ERR_FORMAT, e->err,
                              "more than %d levels of parentheses and signs",
                              DEPTH_MAX);

    e->depth++;
    c->at++;
    f8_status status =
        *start == '-' ? eval_operand(e, value) : eval_level(e, LEVEL_OR, value);
    e->depth--;
    if (status != F8_OK)
        return status;
    if (*start == '(')
        return f8_cursor_take(c, ")") ? F8_OK : fail_found(e, "')'");
    if (__builtin_sub_overflow(INT64_C(0), *value, value))
        return f8_cursor_fail(c, start, F8_ERR_ARGUMENT, e->err,
                              "the negated value does not fit 64 bits");
    return F8_OK;
}

/* False when the result does not fit 64 bits; divisors are not zero. */
static bool compute(operation op, int64_t a, int64_t b, int64_t *out)
{
    switch (op) {
    case OP_OR:
        *out = a != 0 || b != 0;
        return true;
    case OP_AND:
        *out = a != 0 && b != 0;
        return true;
    case OP_EQ:
        *out = a == b;
        return true;
    case OP_NE:
        *out = a != b;
        return true;
    case OP_LE:
        *out = a <= b;
        return true;
    case OP_GE:
        *out = a >= b;
        return true;
    case OP_LT:
        *out = a < b;
        return true;
    case OP_GT:
        *out = a > b;
        return true;
    case OP_ADD:
        return !__builtin_add_overflow(a, b, out);
    case OP_SUB:
        return !__builtin_sub_overflow(a, b, out);
    case OP_MUL:
        return !__builtin_mul_overflow(a, b, out);
    case OP_DIV:
    case OP_MOD:
        break;
    }
    /* INT64_MIN / -1 is the one quotient that does not fit, and C leaves its
     * remainder undefined along with it. */
    if (a == INT64_MIN && b == -1)
        return false;
    *out = op == OP_DIV ? a / b : a % b;
    return true;
}

static const binary *take_operator(evaluation *e, int level)
{
    f8_cursor *c = e->cursor;
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        const char *back = c->at;
        if (!f8_cursor_take(c, operators[i].text))
            continue;
        if (operators[i].level == level)
            return &operators[i];
        /* The longest spelling that fits belongs to another level. */
        c->at = back;
        return NULL;
    }
    return NULL;
}

/* Operators of `level` and tighter ones, from left to right. */
/* NOLINTNEXTLINE(misc-no-recursion): DEPTH_MAX */
static f8_status eval_level(evaluation *e, int level, int64_t *value)
{
    if (level == LEVELS)
        return eval_operand(e, value);
    f8_status status = eval_level(e, level + 1, value);
    const binary *op;
    while (status == F8_OK && (op = take_operator(e, level)) != NULL) {
        const char *at = e->cursor->at - strlen(op->text);
        int64_t right = 0;
        status = eval_level(e, level + 1, &right);
        if (status != F8_OK)
            return status;
        if ((op->op == OP_DIV || op->op == OP_MOD) && right == 0)
            return f8_cursor_fail(e->cursor, at, F8_ERR_ARGUMENT, e->err,
                                  "division by zero");
        if (!compute(op->op, *value, right, value))
            return f8_cursor_fail(e->cursor, at, F8_ERR_ARGUMENT, e->err,
                                  "the result of '%s' does not fit 64 bits",
                                  op->text);
        /* a < b < c would surprise: the caller refuses the second one. */
        if (level == LEVEL_COMPARE)
            break;
    }
    return status;
}

f8_status f8_expr_eval(f8_cursor *cursor, const f8_scope *scope, int64_t *value,
                       f8_error *err)
{
    evaluation e = {cursor, scope, 0, err};
    *value = 0;
    return eval_level(&e, LEVEL_OR, value);
}
