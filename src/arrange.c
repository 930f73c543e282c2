/* arrange.c - layouts of a family. See arrange.h. */
#include "arrange.h"

#include <stdlib.h>
#include <string.h>

#include "builtin.h"
#include "glob.h"

/* ---- which rules --------------------------------------------------------- */

static const f8_section *find_section(const f8_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->sections_count; i++) {
        if (!strcmp(rules->sections[i].name, name))
            return &rules->sections[i];
    }
    return NULL;
}

static bool is_of(const char *layout, const char *chosen)
{
    return layout && chosen && !strcmp(layout, chosen);
}

/* Puts the rules of the chosen section where they belong among the first
 * count ones, which are of every layout. */
static void merge_rules(f8_rules *rules, const char *chosen)
{
    size_t count = 0;

    for (size_t i = 0; i < rules->rules_count; i++) {
        if (!rules->rules[i].layout)
            rules->rules[count++] = rules->rules[i];
        else if (is_of(rules->rules[i].layout, chosen)) {
            f8_rule rule = rules->rules[i];
            size_t k = 0;
            while (k < count &&
                   strcmp(rules->rules[k].pattern, rule.pattern) != 0)
                k++;
            rules->rules[k] = rule;
            count += k == count;
        }
    }
    rules->rules_count = count;
    count = 0;
    for (size_t i = 0; i < rules->places_count; i++) {
        if (is_of(rules->places[i].layout, chosen))
            rules->places[count++] = rules->places[i];
    }
    rules->places_count = count;
}

/* Names the built-in families that have the layout. */
static f8_status refuse(const f8_rules *rules, const char *layout,
                        f8_error *err)
{
    f8_buf known = {0};
    f8_status status = F8_OK;

    for (size_t i = 0; f8_builtin_rules[i].name && status == F8_OK; i++) {
        f8_rules *other = NULL;
        status = f8_rules_parse(f8_builtin_rules[i].name,
                                f8_builtin_rules[i].text, &other, err);
        if (status == F8_OK && find_section(other, layout))
            f8_buf_printf(&known, "%s%s", known.length ? ", " : "",
                          other->family);
        f8_rules_free(other);
    }
    if (known.failed)
        status = f8_fail_nomem(err, "the rules");
    if (status == F8_OK)
        status =
            f8_fail(err, F8_ERR_RULES,
                    "--layout %.200s: %s has no such layout; families that "
                    "have one of this name: %s",
                    layout, rules->label, known.length ? known.data : "none");
    f8_buf_free(&known);
    return status;
}

f8_status f8_arrange(f8_rules *rules, const char *layout, f8_error *err)
{
    const f8_section *chosen = NULL;

    if (layout && strcmp(layout, F8_LAYOUT_CARD) != 0) {
        chosen = find_section(rules, layout);
        if (!chosen)
            return refuse(rules, layout, err);
    }
    merge_rules(rules, chosen ? chosen->name : NULL);
    if (chosen)
        rules->sections[0] = *chosen;
    rules->sections_count = chosen != NULL;
    return F8_OK;
}

/* ---- which file ---------------------------------------------------------- */

bool f8_arrange_file(const f8_rules *rules, const char *tensor, f8_buf *buf)
{
    size_t i = rules->places_count;

    while (i > 0 && !f8_glob_match(rules->places[i - 1].pattern, tensor))
        i--;
    if (i == 0)
        return false;
    const f8_file_place *place = &rules->places[i - 1];
    const char *number = strstr(place->file, "{n}");
    buf->length = 0;
    if (number) {
        /* What stands before the pattern's `{n}` stands in the name. */
        const char *digits =
            tensor + (strstr(place->pattern, "{n}") - place->pattern);
        f8_buf_printf(buf, "%.*s%.*s%s", (int)(number - place->file),
                      place->file, (int)strspn(digits, "0123456789"), digits,
                      number + strlen("{n}"));
    } else {
        f8_buf_puts(buf, place->file);
    }
    return true;
}

/* ---- which order --------------------------------------------------------- */

/* As people count: layers.2 before layers.10. Digits that differ in leading
 * zeros alone are told apart by the bytes. */
static int compare_names(const char *a, const char *b)
{
    static const char digits[] = "0123456789";
    const char *x = a, *y = b;

    while (*x && *y) {
        const char *p = x + strspn(x, "0"), *q = y + strspn(y, "0");
        size_t n = strspn(p, digits), m = strspn(q, digits);
        bool number = strchr(digits, *x) && strchr(digits, *y);
        int order = 0;
        if (number && n != m)
            return n < m ? -1 : 1;
        if (number)
            order = strncmp(p, q, n);
        else
            order = (unsigned char)*x - (unsigned char)*y;
        if (order != 0)
            return order;
        x = number ? p + n : x + 1;
        y = number ? q + m : y + 1;
    }
    if (*x || *y)
        return *x ? 1 : -1;
    return strcmp(a, b);
}

static int by_name(const void *a, const void *b)
{
    return compare_names(json_string_value(*(json_t *const *)a),
                         json_string_value(*(json_t *const *)b));
}

f8_status f8_arrange_list(json_t *list, f8_error *err)
{
    size_t count = json_array_size(list);
    json_t **entries = f8_alloc(count, sizeof *entries);
    bool failed = false;

    if (!entries)
        return f8_fail_nomem(err, "the module list");
    for (size_t i = 0; i < count; i++)
        entries[i] = json_incref(json_array_get(list, i));
    qsort(entries, count, sizeof(json_t *), by_name);
    for (size_t i = 0; i < count; i++)
        failed = json_array_set_new(list, i, entries[i]) != 0 || failed;
    free(entries);
    return failed ? f8_fail_nomem(err, "the module list") : F8_OK;
}
