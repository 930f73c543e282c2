/* differences.c - what `diff` prints; see differences.h. Numbers first, then
 * what they are made of: config, names, types, shapes, values. */
#include "differences.h"
#include "groups.h"
#include "message.h"
#include "text.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for a kind's name; 28 + 8 + 11 + 10 + 12 = 69. */
#define KIND_COLUMNS 28
/* Of a value of config.json. */
#define VALUE_COLUMNS 28

static void blank(void)
{
    message_text("\n");
}

static void more(uint64_t left, const char *what)
{
    if (left > 0)
        message_line("  ... and %s more%s", text_count(left).text, what);
}

/* ---- numbers ----------------------------------------------------------- */

static void pair(const char *label, const char *a, const char *b)
{
    message_line("%-26s%19s%19s", label, a, b);
}

/* A count, when it is not 0. */
static void fact(const char *label, uint64_t count)
{
    if (count > 0)
        message_line("%-26s%19s", label, text_count(count).text);
}

static void sides(const char *label, uint64_t a, uint64_t b)
{
    if (a > 0 || b > 0)
        pair(label, text_count(a).text, text_count(b).text);
}

static void numbers(const f8_diff_summary *s)
{
    pair("", "A", "B");
    pair("tensors", text_count(s->a_tensors).text,
         text_count(s->b_tensors).text);
    pair("bytes", text_count(s->a_bytes).text, text_count(s->b_bytes).text);
    pair("", text_bytes(s->a_bytes).text, text_bytes(s->b_bytes).text);
    pair("files", text_count(s->a_files).text, text_count(s->b_files).text);
    sides("only there", s->a_only, s->b_only);
    sides("taken apart by the rules", s->a_fused, s->b_fused);
    sides("FP8 without scales", s->a_bare, s->b_bare);
    blank();
    fact("identical", s->identical);
    fact("equal in value", s->equal);
    fact("different", s->different);
    fact("of other dtype", s->dtypes);
    fact("of other shape", s->shapes);
    fact("of other name", s->renamed);
    fact("in other files", s->moved);
    fact("config differences", s->settings);
    message_line("%-26s%19s", "time", text_seconds(s->seconds).text);
}

/* ---- config.json ------------------------------------------------------- */

/* At most so many characters of text, which is UTF-8. */
static void cut(const char *text, char to[VALUE_COLUMNS * 4 + 4])
{
    size_t n = 0, characters = 0;
    while (text[n]) {
        bool begins = ((unsigned char)text[n] & 0xc0) != 0x80;
        if (begins && ++characters > VALUE_COLUMNS)
            break;
        n++;
    }
    /* The last one makes room for the mark. */
    while (text[n] && n > 0 && ((unsigned char)text[--n] & 0xc0) == 0x80)
        continue;
    snprintf(to, VALUE_COLUMNS * 4 + 4, "%.*s%s", (int)n, text,
             text[n] ? "..." : "");
}

/* A value in few words: lists and objects only by how long they are. */
static void print_value(const char *json, char to[VALUE_COLUMNS * 4 + 4])
{
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    if (!value)
        message_no_memory();
    if (json_is_array(value))
        snprintf(to, VALUE_COLUMNS, "[%zu entries]", json_array_size(value));
    else if (json_is_object(value))
        snprintf(to, VALUE_COLUMNS, "{%zu members}", json_object_size(value));
    else
        cut(json, to);
    json_decref(value);
}

static void config_list(const f8_diff *diff, uint64_t total, uint64_t top)
{
    f8_diff_setting setting;
    char a[VALUE_COLUMNS * 4 + 4], b[VALUE_COLUMNS * 4 + 4];
    uint64_t i = 0;
    if (total == 0)
        return;
    blank();
    message_line("config.json");
    for (; i < top && f8_diff_get_setting(diff, i, &setting); i++) {
        if (setting.a)
            print_value(setting.a, a);
        if (setting.b)
            print_value(setting.b, b);
        if (!setting.a || !setting.b)
            message_line("  %s: only in %s, %s", setting.path,
                         setting.a ? "A" : "B", setting.a ? a : b);
        else if (strcmp(a, b) == 0) /* both are cut, or lists */
            message_line("  %s: %s -> others", setting.path, a);
        else
            message_line("  %s: %s -> %s", setting.path, a, b);
    }
    more(total - i, "");
}

/* ---- names ------------------------------------------------------------- */

/* Prints and empties the list. `title` stands above, and each heading once
 * above its names. */
static void print_groups(groups *list, const char *title, uint64_t top)
{
    const char *heading = "", *last = "";
    char *line = NULL;
    size_t at = 0;
    if (list->count == 0)
        return;
    groups_sort(list);
    blank();
    message_line("%s", title);
    for (uint64_t lines = 0; at < list->count && lines < top; lines++) {
        at += groups_line(list, at, &heading, &line);
        if (strcmp(heading, last) != 0)
            message_line("  %s", heading);
        last = heading;
        message_line("  %s%s", *heading ? "  " : "", line);
        free(line);
    }
    more(list->count - at, " tensors");
    groups_free(list);
}

static void single_list(const f8_diff *diff, bool in_b, uint64_t top)
{
    f8_diff_single single;
    groups list = {0};
    for (uint64_t i = 0; f8_diff_get_single(diff, in_b, i, &single); i++)
        groups_add(&list, "", single.name);
    print_groups(&list, in_b ? "only in B" : "only in A", top);
}

static void dtype_heading(const f8_diff_side *side, char to[64])
{
    if (side->has_scale)
        snprintf(to, 64, "%s with %s scales", f8_dtype_name(side->dtype),
                 f8_dtype_name(side->scale_dtype));
    else
        snprintf(to, 64, "%s", f8_dtype_name(side->dtype));
}

static void dtype_list(const f8_diff *diff, uint64_t top)
{
    f8_diff_change change;
    char heading[160], a[64], b[64];
    groups list = {0};
    for (uint64_t i = 0; f8_diff_get_change(diff, i, &change); i++) {
        if (!change.dtype)
            continue;
        dtype_heading(&change.a, a);
        dtype_heading(&change.b, b);
        snprintf(heading, sizeof heading, "%s -> %s", a, b);
        groups_add(&list, heading, change.name);
    }
    print_groups(&list, "other dtypes", top);
}

static void shape_list(const f8_diff *diff, uint64_t top)
{
    f8_diff_change change;
    char heading[512];
    groups list = {0};
    for (uint64_t i = 0; f8_diff_get_change(diff, i, &change); i++) {
        if (!change.shape)
            continue;
        snprintf(heading, sizeof heading, "%s -> %s",
                 text_shape(change.a.rank, change.a.shape).text,
                 text_shape(change.b.rank, change.b.shape).text);
        groups_add(&list, heading, change.name);
    }
    print_groups(&list, "other shapes, not compared", top);
}

static void bare_list(const f8_diff *diff, bool in_b, uint64_t total,
                      uint64_t top)
{
    const char *line = NULL;
    uint64_t i = 0;
    if (total == 0)
        return;
    blank();
    message_line("FP8 of %s whose codes were compared as they are",
                 in_b ? "B" : "A");
    for (; i < top && (line = f8_diff_bare(diff, in_b, i)); i++)
        message_line("  %s", line);
    more(total - i, "");
}

/* ---- values ------------------------------------------------------------ */

/* As a percentage, or as a power of ten where that would show nothing. */
static figure ratio(double value)
{
    figure out;
    if (value > 0 && value < 1e-4)
        snprintf(out.text, sizeof out.text, "%.1e", value);
    else
        out = text_percent(value);
    return out;
}

static void kind_row(const f8_diff_values *values)
{
    const char *name = values->name;
    if (strlen(name) >= KIND_COLUMNS) {
        message_line("%s", name);
        name = "";
    }
    message_line(
        "%-*s%8s%11s%10s%12s", KIND_COLUMNS, name,
        text_count(values->tensors).text, ratio(values->relative_rms).text,
        text_real(values->sqnr_db, 2).text, text_real(values->cosine, 8).text);
}

static void kind_list(const f8_diff *diff)
{
    f8_diff_values values;
    blank();
    message_line("%-*s%8s%11s%10s%12s", KIND_COLUMNS, "different, by kind",
                 "tensors", "rel. RMS", "SQNR dB", "cosine");
    for (uint64_t i = 0; f8_diff_get_kind(diff, i, &values); i++)
        kind_row(&values);
    f8_diff_get_overall(diff, &values);
    kind_row(&values);
}

/* What the figures do not say. */
static void remark(const f8_diff_values *values, char to[96])
{
    if (values->not_finite > 0)
        snprintf(to, 96, " (%.32s NaN or infinite in one)",
                 text_count(values->not_finite).text);
    else if (isnan(values->relative_rms))
        snprintf(to, 96, " (%.32s of %.32s elements)",
                 text_count(values->differing).text,
                 text_count(values->elems).text);
    else if (values->differing == 0)
        snprintf(to, 96, " (other bytes, same values)");
    else
        *to = '\0';
}

static void worst_list(const f8_diff *diff, uint64_t top)
{
    f8_diff_values values;
    char note[96];
    uint64_t i = 0, left = 0;
    blank();
    message_line("%9s%9s%12s  %s", "rel. RMS", "SQNR dB", "cosine",
                 "worst, by relative RMS");
    for (; i < top && f8_diff_get_values(diff, i, &values); i++) {
        remark(&values, note);
        message_line("%9s%9s%12s  %s%s", ratio(values.relative_rms).text,
                     text_real(values.sqnr_db, 2).text,
                     text_real(values.cosine, 8).text, values.name, note);
    }
    while (f8_diff_get_values(diff, i + left, &values))
        left++;
    more(left, "");
}

/* ---- all of it --------------------------------------------------------- */

void table_diff(const f8_diff *diff, const char *a, const char *b, uint64_t top)
{
    f8_diff_summary s;
    f8_diff_values values;
    f8_diff_get_summary(diff, &s);
    if (s.same) {
        message_line("%s and %s are the same: %s tensors, %s", a, b,
                     text_count(s.a_tensors).text,
                     text_bytes_fully(s.a_bytes).text);
        if (s.moved > 0)
            message_line("%s of them in files of other names",
                         text_count(s.moved).text);
        return;
    }
    message_line("%s and %s differ", a, b);
    blank();
    numbers(&s);
    config_list(diff, s.settings, top);
    single_list(diff, false, top);
    single_list(diff, true, top);
    dtype_list(diff, top);
    shape_list(diff, top);
    bare_list(diff, false, s.a_bare, top);
    bare_list(diff, true, s.b_bare, top);
    if (!f8_diff_get_values(diff, 0, &values))
        return;
    kind_list(diff);
    worst_list(diff, top);
}
