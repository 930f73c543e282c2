/* layout.c - runs the text of a layout line by line and collects tensors and
 * files. Expressions are expr.c's; writing a checkpoint is synth.c's. Lines
 * are executed directly, loops by running their lines again: a layout is a
 * few hundred lines, so nothing is gained by compiling it first. */
#include "layout.h"

#include <stdlib.h>
#include <string.h>

#include "expr.h"

/* Blocks nest this deep at most, and layouts extend each other so far. */
#define DEPTH_MAX 8
#define EXTENDS_MAX 4

/* Lines that may be run in all. Bounds time and memory for any layer count:
 * the full layout runs about 2,000, and every tensor costs one. */
#define STEPS_MAX 200000

typedef struct line {
    const char *start, *end;
    size_t close; /* of a line that opens a block: index of its `end` */
} line;

/* A value given for a parameter, by the caller or an extending layout. */
typedef struct setting {
    const char *name;
    size_t length;
    int64_t value;
    bool used;
} setting;

typedef struct reader {
    const f8_builtin *table;
    f8_layout *layout;
    const char *label; /* "NAME.layout" */
    line *lines;
    size_t line_count, line_capacity;
    f8_scope scope;
    setting *settings;
    size_t setting_count, setting_capacity;
    unsigned depth; /* of blocks */
    uint64_t steps;
    f8_buf *text; /* of the file whose lines are being read, or NULL */
    f8_error *err;
} reader;

/* ---- parameters -------------------------------------------------------- */

static f8_status bind(reader *r, const char *name, size_t length, int64_t value)
{
    if (!f8_grow((void **)&r->scope.items, &r->scope.capacity, r->scope.count,
                 sizeof *r->scope.items))
        return f8_fail_nomem(r->err, "the names of a layout");
    r->scope.items[r->scope.count++] = (f8_binding){name, length, value};
    return F8_OK;
}

static setting *find_setting(reader *r, const char *name, size_t length)
{
    for (size_t i = 0; i < r->setting_count; i++)
        if (r->settings[i].length == length &&
            memcmp(r->settings[i].name, name, length) == 0)
            return &r->settings[i];
    return NULL;
}

static f8_status add_setting(reader *r, const char *name, size_t length,
                             int64_t value)
{
    if (find_setting(r, name, length) != NULL)
        return F8_OK;
    if (!f8_grow((void **)&r->settings, &r->setting_capacity, r->setting_count,
                 sizeof *r->settings))
        return f8_fail_nomem(r->err, "the parameters of a layout");
    r->settings[r->setting_count++] = (setting){name, length, value, false};
    return F8_OK;
}

/* NAME = EXPR, binding nothing yet. */
static f8_status read_assignment(reader *r, f8_cursor *c, const char **name,
                                 size_t *length, int64_t *value)
{
    f8_status status = f8_cursor_expect_name(c, name, length, r->err);
    if (status == F8_OK)
        status = f8_cursor_expect(c, "=", r->err);
    if (status == F8_OK)
        status = f8_expr_eval(c, &r->scope, value, r->err);
    if (status == F8_OK)
        status = f8_cursor_finish(c, r->err);
    if (status == F8_OK && f8_scope_find(&r->scope, *name, *length) != NULL)
        status = f8_cursor_fail(c, *name, F8_ERR_FORMAT, r->err,
                                "'%.*s' is defined twice",
                                (int)(*length < 100 ? *length : 100), *name);
    return status;
}

static f8_status do_param(reader *r, f8_cursor *c, size_t index)
{
    (void)index;
    const char *name = NULL;
    size_t length = 0;
    int64_t value = 0;
    f8_status status = read_assignment(r, c, &name, &length, &value);
    if (status != F8_OK)
        return status;
    setting *given = find_setting(r, name, length);
    if (given != NULL) {
        given->used = true;
        value = given->value;
    }
    return bind(r, name, length, value);
}

static f8_status do_let(reader *r, f8_cursor *c, size_t index)
{
    (void)index;
    const char *name = NULL;
    size_t length = 0;
    int64_t value = 0;
    f8_status status = read_assignment(r, c, &name, &length, &value);
    return status == F8_OK ? bind(r, name, length, value) : status;
}

static f8_status do_require(reader *r, f8_cursor *c, size_t index)
{
    (void)index;
    const char *text = NULL;
    size_t length = 0;
    int64_t holds = 0;
    f8_status status = f8_expr_eval(c, &r->scope, &holds, r->err);
    if (status == F8_OK)
        status = f8_cursor_expect_string(c, &text, &length, r->err);
    if (status == F8_OK)
        status = f8_cursor_finish(c, r->err);
    if (status == F8_OK && holds == 0)
        status = f8_cursor_fail(c, c->line, F8_ERR_ARGUMENT, r->err, "%.*s",
                                (int)(length < 400 ? length : 400), text);
    return status;
}

/* ---- tensors ----------------------------------------------------------- */

/* PATTERN with each {EXPR} replaced by its value. */
static f8_status read_tensor_name(reader *r, f8_cursor *c, const char **name)
{
    f8_buf buf = {0};
    f8_status status = F8_OK;
    f8_cursor_skip_blanks(c);
    const char *start = c->at;
    while (status == F8_OK && c->at < c->end && *c->at != ' ' &&
           *c->at != '\t') {
        if (*c->at != '{') {
            f8_buf_append(&buf, c->at++, 1);
            continue;
        }
        int64_t value = 0;
        c->at++;
        status = f8_expr_eval(c, &r->scope, &value, r->err);
        if (status == F8_OK)
            status = f8_cursor_expect(c, "}", r->err);
        f8_buf_printf(&buf, "%lld", (long long)value);
    }
    if (status == F8_OK && c->at == start)
        status = f8_cursor_fail(c, start, F8_ERR_FORMAT, r->err,
                                "expected a tensor name");
    *name = NULL;
    if (status == F8_OK && !buf.failed)
        *name = f8_arena_copy(&r->layout->strings, buf.data, buf.length);
    if (status == F8_OK && *name == NULL)
        status = f8_fail_nomem(r->err, "a tensor name");
    f8_buf_free(&buf);
    return status;
}

static f8_status read_dtype(reader *r, f8_cursor *c, f8_dtype *dtype)
{
    static const f8_dtype known[] = {F8_DTYPE_BF16, F8_DTYPE_F16, F8_DTYPE_F32};
    const char *word = NULL;
    size_t length = 0;
    f8_status status = f8_cursor_expect_word(c, &word, &length, r->err);
    if (status != F8_OK)
        return status;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const char *text = f8_dtype_name(known[i]);
        if (strlen(text) == length && memcmp(text, word, length) == 0) {
            *dtype = known[i];
            return F8_OK;
        }
    }
    return f8_cursor_fail(c, word, F8_ERR_FORMAT, r->err,
                          "expected BF16, F16 or F32");
}

/* [EXPR, EXPR, …] into shape, elems and bytes. */
static f8_status read_shape(reader *r, f8_cursor *c, f8_layout_tensor *t)
{
    f8_status status = f8_cursor_expect(c, "[", r->err);
    const char *start = c->at;
    t->elems = 1;
    do {
        int64_t value = 0;
        f8_cursor_skip_blanks(c);
        const char *at = c->at;
        if (status == F8_OK)
            status = f8_expr_eval(c, &r->scope, &value, r->err);
        if (status != F8_OK)
            return status;
        if (t->rank == F8_MAX_RANK)
            return f8_cursor_fail(c, at, F8_ERR_FORMAT, r->err,
                                  "more than %d dimensions", F8_MAX_RANK);
        if (value < 1)
            return f8_cursor_fail(
                c, at, F8_ERR_ARGUMENT, r->err,
                "tensor %.200s: dimension %u is %lld, it must be at least 1",
                t->name, t->rank + 1, (long long)value);
        t->shape[t->rank++] = (uint64_t)value;
        if (!f8_mul_u64(t->elems, (uint64_t)value, &t->elems))
            t->elems = UINT64_MAX;
    } while (f8_cursor_take(c, ","));
    /* Sizes are offsets too, which are signed in the system's calls. */
    if (!f8_mul_u64(t->elems, f8_dtype_bytes(t->dtype), &t->bytes) ||
        t->bytes > INT64_MAX)
        return f8_cursor_fail(c, start, F8_ERR_ARGUMENT, r->err,
                              "tensor %.200s: its size does not fit 63 bits",
                              t->name);
    return f8_cursor_expect(c, "]", r->err);
}

static f8_status read_values(reader *r, f8_cursor *c, f8_values *values)
{
    f8_cursor_skip_blanks(c);
    const char *start = c->at;
    f8_status status = F8_OK;
    bool two = true;
    if (f8_cursor_take(c, "normal ")) {
        *values = (f8_values){F8_DRAW_NORMAL, true, 0, 0};
        two = false;
    } else if (f8_cursor_take(c, "around ")) {
        *values = (f8_values){F8_DRAW_NORMAL, false, 0, 0};
    } else if (f8_cursor_take(c, "uniform ")) {
        *values = (f8_values){F8_DRAW_UNIFORM, false, 0, 0};
    } else {
        return f8_cursor_fail(c, start, F8_ERR_FORMAT, r->err,
                              "expected normal, around or uniform");
    }
    if (two)
        status = f8_cursor_expect_decimal(c, &values->low, r->err);
    if (status == F8_OK)
        status = f8_cursor_expect_decimal(c, &values->high, r->err);
    if (status == F8_OK) {
        double least = values->draw == F8_DRAW_UNIFORM ? values->low : 0;
        if (values->high < least)
            status = f8_cursor_fail(c, start, F8_ERR_FORMAT, r->err,
                                    "a negative deviation, or a range that "
                                    "ends before it begins");
    }
    return status;
}

static f8_status do_tensor(reader *r, f8_cursor *c, size_t index)
{
    (void)index;
    f8_layout *layout = r->layout;
    f8_layout_tensor t = {0};
    f8_status status = read_tensor_name(r, c, &t.name);
    if (status == F8_OK)
        status = read_dtype(r, c, &t.dtype);
    if (status == F8_OK)
        status = read_shape(r, c, &t);
    if (status == F8_OK)
        status = read_values(r, c, &t.values);
    if (status == F8_OK)
        status = f8_cursor_finish(c, r->err);
    if (status != F8_OK)
        return status;
    if (!f8_add_u64(layout->bytes, t.bytes, &layout->bytes) ||
        layout->bytes > INT64_MAX)
        return f8_cursor_fail(c, c->line, F8_ERR_ARGUMENT, r->err,
                              "the size of all tensors does not fit 63 bits");
    if (!f8_grow((void **)&layout->tensors, &layout->tensor_capacity,
                 layout->tensor_count, sizeof *layout->tensors))
        return f8_fail_nomem(r->err, "the tensors of a layout");
    layout->tensors[layout->tensor_count++] = t;
    return F8_OK;
}

/* ---- files ------------------------------------------------------------- */

/* ? "TEXT" or ? "TEXT" : "TEXT", behind the condition. */
static f8_status append_choice(reader *r, f8_cursor *c, bool first)
{
    const char *text = NULL;
    size_t length = 0;
    f8_status status = f8_cursor_expect_string(c, &text, &length, r->err);
    if (status == F8_OK && first)
        f8_buf_append(r->text, text, length);
    if (status != F8_OK || !f8_cursor_take(c, ":"))
        return status;
    status = f8_cursor_expect_string(c, &text, &length, r->err);
    if (status == F8_OK && !first)
        f8_buf_append(r->text, text, length);
    return status;
}

/* What stands behind "${", and the closing brace. */
static f8_status append_value(reader *r, f8_cursor *c)
{
    int64_t value = 0;
    f8_status status = f8_expr_eval(c, &r->scope, &value, r->err);
    if (status != F8_OK)
        return status;
    if (f8_cursor_take(c, "?")) {
        status = append_choice(r, c, value != 0);
    } else if (f8_cursor_take(c, ":")) {
        status = f8_cursor_expect(c, "x4", r->err);
        f8_buf_printf(r->text, "%04llx", (unsigned long long)value);
    } else {
        f8_buf_printf(r->text, "%lld", (long long)value);
    }
    return status == F8_OK ? f8_cursor_expect(c, "}", r->err) : status;
}

/* A line that begins with '|': the rest, without one blank, is the file's. */
static f8_status do_text(reader *r, f8_cursor *c)
{
    if (r->text == NULL)
        return f8_cursor_fail(c, c->at, F8_ERR_FORMAT, r->err,
                              "a line of text outside a file");
    c->at++;
    if (c->at < c->end && *c->at == ' ')
        c->at++;
    f8_status status = F8_OK;
    while (status == F8_OK && c->at < c->end) {
        if (c->end - c->at >= 2 && c->at[0] == '$' && c->at[1] == '{') {
            c->at += 2;
            status = append_value(r, c);
        } else {
            f8_buf_append(r->text, c->at++, 1);
        }
    }
    f8_buf_puts(r->text, "\n");
    if (status == F8_OK && r->text->failed)
        status = f8_fail_nomem(r->err, "the text of a file");
    return status;
}

/* ---- blocks ------------------------------------------------------------ */

static f8_status run_lines(reader *r, size_t from, size_t to);

/* Runs the lines of the block that line `index` opens. Names that they
 * define end with the block. */
static f8_status run_block(reader *r, size_t index)
{
    size_t names = r->scope.count;
    r->depth++;
    f8_status status = run_lines(r, index + 1, r->lines[index].close);
    r->depth--;
    r->scope.count = names;
    return status;
}

static f8_status do_each(reader *r, f8_cursor *c, size_t index)
{
    const char *name = NULL;
    size_t length = 0;
    int64_t count = 0;
    f8_status status = f8_cursor_expect_name(c, &name, &length, r->err);
    if (status == F8_OK)
        status = f8_cursor_expect(c, "<", r->err);
    if (status == F8_OK)
        status = f8_expr_eval(c, &r->scope, &count, r->err);
    if (status == F8_OK)
        status = f8_cursor_finish(c, r->err);
    size_t names = r->scope.count;
    for (int64_t i = 0; status == F8_OK && i < count; i++) {
        status = bind(r, name, length, i);
        if (status == F8_OK)
            status = run_block(r, index);
        r->scope.count = names;
    }
    return status;
}

static f8_status do_when(reader *r, f8_cursor *c, size_t index)
{
    int64_t holds = 0;
    f8_status status = f8_expr_eval(c, &r->scope, &holds, r->err);
    if (status == F8_OK)
        status = f8_cursor_finish(c, r->err);
    return status == F8_OK && holds != 0 ? run_block(r, index) : status;
}

static f8_status do_file(reader *r, f8_cursor *c, size_t index)
{
    f8_layout *layout = r->layout;
    const char *word = NULL;
    size_t length = 0;
    f8_status status = f8_cursor_expect_word(c, &word, &length, r->err);
    if (status == F8_OK)
        status = f8_cursor_finish(c, r->err);
    if (status != F8_OK)
        return status;
    if (memchr(word, '/', length) != NULL || word[0] == '.')
        return f8_cursor_fail(c, word, F8_ERR_FORMAT, r->err,
                              "a file name has no '/' and no leading '.'");
    char *name = f8_arena_copy(&layout->strings, word, length);
    if (name == NULL ||
        !f8_grow((void **)&layout->files, &layout->file_capacity,
                 layout->file_count, sizeof *layout->files))
        return f8_fail_nomem(r->err, "the files of a layout");
    for (size_t i = 0; i < layout->file_count; i++)
        if (strcmp(layout->files[i].name, name) == 0)
            return f8_cursor_fail(c, word, F8_ERR_FORMAT, r->err,
                                  "file %.200s comes twice", name);
    f8_layout_file *file = &layout->files[layout->file_count++];
    *file = (f8_layout_file){name, {0}};
    /* No file block nests in this one, so `files` cannot move meanwhile. */
    r->text = &file->text;
    status = run_block(r, index);
    r->text = NULL;
    return status;
}

/* ---- lines ------------------------------------------------------------- */

enum { AT_TOP = 1, OPENS_BLOCK = 2, IN_FILE = 4 };

typedef struct directive {
    const char *word;
    unsigned flags; /* where it may stand, and whether `end` belongs to it */
    f8_status (*run)(reader *r, f8_cursor *c, size_t index);
} directive;

static const directive directives[] = {
    {"param", AT_TOP, do_param},
    {"let", 0, do_let},
    {"require", AT_TOP, do_require},
    {"tensor", 0, do_tensor},
    {"each", OPENS_BLOCK | IN_FILE, do_each},
    {"when", OPENS_BLOCK | IN_FILE, do_when},
    {"file", OPENS_BLOCK | AT_TOP, do_file},
};

static f8_cursor cursor_at(const reader *r, size_t index)
{
    const line *l = &r->lines[index];
    return (f8_cursor){r->label, (unsigned)index + 1, l->start, l->start,
                       l->end};
}

/* The directive that the line begins with, taken; NULL when there is none. */
static const directive *take_directive(f8_cursor *c)
{
    const char *word = NULL;
    size_t length = 0;
    if (!f8_cursor_name(c, &word, &length))
        return NULL;
    for (size_t i = 0; i < sizeof directives / sizeof directives[0]; i++)
        if (strlen(directives[i].word) == length &&
            memcmp(directives[i].word, word, length) == 0)
            return &directives[i];
    c->at = word;
    return NULL;
}

static f8_status run_line(reader *r, size_t index, const directive **which)
{
    f8_cursor c = cursor_at(r, index);
    *which = NULL;
    if (f8_cursor_end(&c))
        return F8_OK;
    if (++r->steps > STEPS_MAX)
        return f8_cursor_fail(&c, c.at, F8_ERR_ARGUMENT, r->err,
                              "the layout grows too large: more than %d lines "
                              "to evaluate",
                              STEPS_MAX);
    if (*c.at == '|')
        return do_text(r, &c);
    const char *at = c.at;
    *which = take_directive(&c);
    if (*which == NULL)
        return f8_cursor_fail(&c, at, F8_ERR_FORMAT, r->err,
                              "no directive begins like this");
    if (((*which)->flags & AT_TOP) != 0 && r->depth > 0)
        return f8_cursor_fail(&c, at, F8_ERR_FORMAT, r->err,
                              "'%s' cannot stand in a block", (*which)->word);
    if (((*which)->flags & IN_FILE) == 0 && r->text != NULL)
        return f8_cursor_fail(&c, at, F8_ERR_FORMAT, r->err,
                              "'%s' cannot stand in a file", (*which)->word);
    return (*which)->run(r, &c, index);
}

static f8_status run_lines(reader *r, size_t from, size_t to)
{
    f8_status status = F8_OK;
    for (size_t i = from; status == F8_OK && i < to; i++) {
        const directive *which = NULL;
        status = run_line(r, i, &which);
        if (which != NULL && (which->flags & OPENS_BLOCK) != 0)
            i = r->lines[i].close;
    }
    return status;
}

/* Finds the `end` of every block. */
static f8_status match_blocks(reader *r)
{
    size_t open[DEPTH_MAX] = {0};
    size_t depth = 0;
    for (size_t i = 0; i < r->line_count; i++) {
        f8_cursor c = cursor_at(r, i);
        f8_cursor_skip_blanks(&c);
        const char *at = c.at;
        const directive *d = take_directive(&c);
        if (d != NULL && (d->flags & OPENS_BLOCK) != 0) {
            if (depth == DEPTH_MAX)
                return f8_cursor_fail(&c, at, F8_ERR_FORMAT, r->err,
                                      "blocks nest deeper than %d", DEPTH_MAX);
            open[depth++] = i;
        } else if (f8_cursor_take(&c, "end") && f8_cursor_end(&c)) {
            if (depth == 0)
                return f8_cursor_fail(&c, at, F8_ERR_FORMAT, r->err,
                                      "'end' without a block");
            r->lines[open[--depth]].close = i;
        }
    }
    if (depth > 0) {
        f8_cursor c = cursor_at(r, open[depth - 1]);
        return f8_cursor_fail(&c, c.at, F8_ERR_FORMAT, r->err,
                              "this block has no 'end'");
    }
    return F8_OK;
}

/* ---- whole layouts ----------------------------------------------------- */

static f8_status fail_unknown(reader *r, const char *name)
{
    f8_buf known = {0};
    for (const f8_builtin *entry = r->table; entry->name != NULL; entry++)
        f8_buf_printf(&known, "%s%s", known.length > 0 ? ", " : "",
                      entry->name);
    f8_status status = f8_fail(r->err, F8_ERR_ARGUMENT,
                               "no layout is called '%.100s'; "
                               "known: %s",
                               name, known.data != NULL ? known.data : "none");
    f8_buf_free(&known);
    return status;
}

static f8_status load_text(reader *r, const char *name)
{
    const f8_builtin *entry = r->table;
    while (entry->name != NULL && strcmp(entry->name, name) != 0)
        entry++;
    if (entry->name == NULL)
        return fail_unknown(r, name);
    r->label = f8_arena_printf(&r->layout->strings, "%s.layout", name);
    if (r->label == NULL)
        return f8_fail_nomem(r->err, "the name of a layout");
    r->line_count = 0;
    for (const char *at = entry->text; *at != '\0';) {
        const char *end = strchr(at, '\n');
        if (end == NULL)
            end = at + strlen(at);
        if (!f8_grow((void **)&r->lines, &r->line_capacity, r->line_count,
                     sizeof *r->lines))
            return f8_fail_nomem(r->err, "the lines of a layout");
        r->lines[r->line_count++] = (line){at, end, 0};
        at = *end == '\n' ? end + 1 : end;
    }
    return match_blocks(r);
}

/* Reads a layout that begins with `extends BASE`: the values it gives to
 * parameters become settings. *base is NULL when the layout extends none. */
static f8_status read_extension(reader *r, const char **base)
{
    *base = NULL;
    f8_status status = F8_OK;
    for (size_t i = 0; status == F8_OK && i < r->line_count; i++) {
        f8_cursor c = cursor_at(r, i);
        const char *name = NULL;
        size_t length = 0;
        int64_t value = 0;
        if (f8_cursor_end(&c))
            continue;
        if (*base == NULL) {
            if (!f8_cursor_take(&c, "extends "))
                return F8_OK;
            status = f8_cursor_expect_word(&c, &name, &length, r->err);
            if (status == F8_OK)
                status = f8_cursor_finish(&c, r->err);
            if (status == F8_OK)
                *base = f8_arena_copy(&r->layout->strings, name, length);
            if (status == F8_OK && *base == NULL)
                status = f8_fail_nomem(r->err, "the name of a layout");
            continue;
        }
        if (!f8_cursor_take(&c, "param "))
            return f8_cursor_fail(&c, c.at, F8_ERR_FORMAT, r->err,
                                  "a layout that extends another one has "
                                  "'param' lines only");
        status = read_assignment(r, &c, &name, &length, &value);
        if (status == F8_OK)
            status = add_setting(r, name, length, value);
        if (status == F8_OK)
            status = bind(r, name, length, value);
    }
    return status;
}

static int compare_names(const void *a, const void *b)
{
    const f8_layout_tensor *const *left = a;
    const f8_layout_tensor *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

/* Everything that can only be checked at the end. */
static f8_status finish_layout(reader *r, const char *name)
{
    f8_layout *layout = r->layout;
    for (size_t i = 0; i < r->setting_count; i++)
        if (!r->settings[i].used)
            return f8_fail(r->err, F8_ERR_ARGUMENT,
                           "layout %.100s has no parameter '%.*s'", name,
                           (int)r->settings[i].length, r->settings[i].name);
    if (layout->tensor_count == 0)
        return f8_fail(r->err, F8_ERR_ARGUMENT, "layout %.100s has no tensors",
                       name);
    layout->by_name = f8_alloc(layout->tensor_count, sizeof *layout->by_name);
    if (layout->by_name == NULL)
        return f8_fail_nomem(r->err, "the index of a layout");
    for (size_t i = 0; i < layout->tensor_count; i++)
        layout->by_name[i] = &layout->tensors[i];
    qsort(layout->by_name, layout->tensor_count, sizeof *layout->by_name,
          compare_names);
    for (size_t i = 1; i < layout->tensor_count; i++)
        if (compare_names(&layout->by_name[i - 1], &layout->by_name[i]) == 0)
            return f8_fail(r->err, F8_ERR_FORMAT,
                           "layout %.100s has tensor %.300s twice", name,
                           layout->by_name[i]->name);
    return F8_OK;
}

f8_status f8_layout_build(const f8_builtin *table, const char *name,
                          const f8_layout_setting *settings,
                          size_t settings_count, f8_layout *layout,
                          f8_error *err)
{
    reader r = {.table = table, .layout = layout, .err = err};
    f8_status status = F8_OK;
    *layout = (f8_layout){0};
    for (size_t i = 0; status == F8_OK && i < settings_count; i++)
        status = add_setting(&r, settings[i].name, strlen(settings[i].name),
                             settings[i].value);

    const char *base = name;
    for (unsigned level = 0; status == F8_OK && base != NULL; level++) {
        const char *current = base;
        r.scope.count = 0;
        if (level > EXTENDS_MAX)
            status = f8_fail(err, F8_ERR_FORMAT,
                             "layout %.100s extends too many others", name);
        if (status == F8_OK)
            status = load_text(&r, current);
        if (status == F8_OK)
            status = read_extension(&r, &base);
    }
    if (status == F8_OK)
        status = run_lines(&r, 0, r.line_count);
    if (status == F8_OK)
        status = finish_layout(&r, name);
    free(r.lines);
    free(r.scope.items);
    free(r.settings);
    return status;
}

void f8_layout_free(f8_layout *layout)
{
    for (size_t i = 0; i < layout->file_count; i++)
        f8_buf_free(&layout->files[i].text);
    free(layout->files);
    free(layout->tensors);
    free(layout->by_name);
    f8_arena_free(&layout->strings);
    *layout = (f8_layout){0};
}

static const f8_builtin *builtin(size_t i)
{
    const f8_builtin *entry = f8_builtin_layouts;
    while (entry->name != NULL && i > 0) {
        entry++;
        i--;
    }
    return entry;
}

const char *f8_layout_name(size_t i)
{
    return builtin(i)->name;
}

const char *f8_layout_text(size_t i)
{
    return builtin(i)->text;
}
