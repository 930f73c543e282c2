/* expr.h - integer expressions of the layout language, and the cursor that
 * walks a line of it. Knows nothing of layouts. Grammar: docs/layouts.md. */
#ifndef F8_EXPR_H
#define F8_EXPR_H

#include "error.h"

/* A place in one line of text. Messages name label:number:column, where the
 * column counts bytes from 1. */
typedef struct f8_cursor {
    const char *label; /* what the text is called, such as "mini.layout" */
    unsigned number;   /* of the line, from 1                            */
    const char *line;  /* its first byte                                 */
    const char *at;    /* the next byte to read                          */
    const char *end;   /* behind its last byte                           */
} f8_cursor;

typedef struct f8_binding {
    const char *name; /* not terminated: it lies in the layout's text */
    size_t length;
    int64_t value;
} f8_binding;

/* Names that an expression may use. A later binding hides an earlier one. */
typedef struct f8_scope {
    f8_binding *items;
    size_t count, capacity;
} f8_scope;

/* NULL when the scope has no such name. */
const f8_binding *f8_scope_find(const f8_scope *scope, const char *name,
                                size_t length);

/* Fills *err with "label:line:column: sentence", the column being that of
 * `at`, and returns status. */
f8_status f8_cursor_fail(const f8_cursor *cursor, const char *at,
                         f8_status status, f8_error *err, const char *format,
                         ...) __attribute__((format(printf, 5, 6)));

void f8_cursor_skip_blanks(f8_cursor *cursor);

/* Takes `text` when it comes next, behind blanks. */
bool f8_cursor_take(f8_cursor *cursor, const char *text);

/* Takes a name (a letter or _, then also digits) behind blanks. *name is not
 * terminated. False, and nothing taken, when there is none. */
bool f8_cursor_name(f8_cursor *cursor, const char **name, size_t *length);

/* Only blanks and a comment (from '#') are left. */
bool f8_cursor_end(f8_cursor *cursor);
/* F8_ERR_FORMAT unless f8_cursor_end. */
f8_status f8_cursor_finish(f8_cursor *cursor, f8_error *err);

/* Take what must come next, behind blanks, or fail with F8_ERR_FORMAT: given
 * text; a name; a run of bytes up to the next blank; a string in double
 * quotes without escapes; a decimal number such as -0.25, at most 1000 and
 * with at most 15 digits. Texts are not terminated. */
f8_status f8_cursor_expect(f8_cursor *cursor, const char *text, f8_error *err);
f8_status f8_cursor_expect_name(f8_cursor *cursor, const char **name,
                                size_t *length, f8_error *err);
f8_status f8_cursor_expect_word(f8_cursor *cursor, const char **word,
                                size_t *length, f8_error *err);
f8_status f8_cursor_expect_string(f8_cursor *cursor, const char **text,
                                  size_t *length, f8_error *err);
f8_status f8_cursor_expect_decimal(f8_cursor *cursor, double *value,
                                   f8_error *err);

/* Evaluates the longest expression at the cursor and leaves the cursor behind
 * it. F8_ERR_FORMAT when it is not written correctly or uses an unknown name,
 * F8_ERR_ARGUMENT when its value does not exist (overflow, division by zero):
 * that depends on the parameters, which are the user's. */
f8_status f8_expr_eval(f8_cursor *cursor, const f8_scope *scope, int64_t *value,
                       f8_error *err);

#endif
