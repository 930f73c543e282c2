/* settings.c - two JSON trees side by side. See settings.h. Trees are at most
 * as deep as json.c reads them, so they may be walked by recursion. */
#include "settings.h"

#include <stdlib.h>
#include <string.h>

typedef struct walk {
    f8_settings_told *told;
    void *ctx;
    f8_buf path;
    f8_error *err;
} walk;

/* ---- noting -------------------------------------------------------------- */

/* What a person wrote, and what tells all numbers apart. */
enum { FEW_DIGITS = 15, ALL_DIGITS = 17 };

static char *print(const json_t *value, int digits)
{
    size_t flags =
        JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION((size_t)digits);

    return value ? json_dumps(value, flags) : NULL;
}

f8_setting_texts f8_setting_print(const json_t *a, const json_t *b)
{
    f8_setting_texts texts = {print(a, FEW_DIGITS), print(b, FEW_DIGITS)};

    if (texts.a && texts.b && !strcmp(texts.a, texts.b)) {
        free(texts.a);
        free(texts.b);
        texts.a = print(a, ALL_DIGITS);
        texts.b = print(b, ALL_DIGITS);
    }
    return texts;
}

static const char *keep(f8_settings *out, const char *text)
{
    return text ? f8_arena_copy(&out->strings, text, strlen(text)) : NULL;
}

/* A place in the list. */
static f8_status note(void *ctx, const f8_setting_place *place, f8_error *err)
{
    f8_settings *out = ctx;
    const json_t *a = place->a, *b = place->b;

    if (f8_settings_equal_numbers(a, b))
        return F8_OK;
    out->total++;
    if (out->count >= F8_SETTINGS_KEPT ||
        out->strings.bytes >= F8_SETTINGS_KEPT_BYTES)
        return F8_OK;
    f8_setting_texts texts = f8_setting_print(a, b);
    f8_setting setting = {.path = keep(out, place->path),
                          .a = keep(out, texts.a),
                          .b = keep(out, texts.b)};
    free(texts.a);
    free(texts.b);
    if (!setting.path || (a && !setting.a) || (b && !setting.b) ||
        !f8_grow((void **)&out->items, &out->capacity, out->count,
                 sizeof setting))
        return f8_fail_nomem(err, "the differences of config.json");
    out->items[out->count++] = setting;
    return F8_OK;
}

/* ---- paths --------------------------------------------------------------- */

/* A key that could be mistaken for two, or for none, stands in quotes. */
static bool is_plain(const char *key)
{
    return *key && !strpbrk(key, ".[]\" ");
}

static void enter_key(walk *w, const char *key)
{
    if (w->path.length > 0)
        f8_buf_puts(&w->path, ".");
    if (is_plain(key))
        f8_buf_puts(&w->path, key);
    else
        f8_buf_json_string(&w->path, key);
}

static void leave(walk *w, size_t length)
{
    w->path.length = length;
    if (w->path.data)
        w->path.data[length] = '\0';
}

/* ---- comparing ----------------------------------------------------------- */

bool f8_settings_equal_numbers(const json_t *a, const json_t *b)
{
    if (!json_is_number(a) || !json_is_number(b))
        return false;
    if (json_is_integer(a) && json_is_integer(b))
        return json_integer_value(a) == json_integer_value(b);
    return json_number_value(a) == json_number_value(b);
}

/* What differs there, and for the member of an object whose: the path is where
 * the walk stands. */
static f8_status tell(walk *w, f8_setting_place place)
{
    if (w->path.failed)
        return f8_fail_nomem(w->err, "the differences of config.json");
    place.path = w->path.data ? w->path.data : "";
    return w->told(w->ctx, &place, w->err);
}

static f8_status compare(walk *w, f8_setting_place place);

/* NOLINTNEXTLINE(misc-no-recursion): as deep as json.c reads */
static f8_status compare_objects(walk *w, const json_t *a, const json_t *b)
{
    f8_status status = F8_OK;
    size_t length = w->path.length;
    f8_setting_place place = {.outer_a = a, .outer_b = b};
    const char *key;
    json_t *value;

    /* jansson's macro wants mutable objects and changes nothing. */
    json_object_foreach((json_t *)(uintptr_t)a, key, value)
    {
        if (status != F8_OK)
            break;
        place.key = key;
        place.a = value;
        place.b = json_object_get(b, key);
        enter_key(w, key);
        status = compare(w, place);
        leave(w, length);
    }
    place.a = NULL;
    json_object_foreach((json_t *)(uintptr_t)b, key, value)
    {
        if (status != F8_OK)
            break;
        if (json_object_get(a, key))
            continue;
        place.key = key;
        place.b = value;
        enter_key(w, key);
        status = tell(w, place);
        leave(w, length);
    }
    return status;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as json.c reads */
static f8_status compare_arrays(walk *w, const json_t *a, const json_t *b)
{
    f8_status status = F8_OK;
    size_t length = w->path.length;

    for (size_t i = 0; i < json_array_size(a) && status == F8_OK; i++) {
        f8_buf_printf(&w->path, "[%zu]", i);
        status = compare(w, (f8_setting_place){.a = json_array_get(a, i),
                                               .b = json_array_get(b, i)});
        leave(w, length);
    }
    return status;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as json.c reads */
static f8_status compare(walk *w, f8_setting_place place)
{
    const json_t *a = place.a, *b = place.b;

    if (!a && !b)
        return F8_OK;
    if (json_is_object(a) && json_is_object(b))
        return compare_objects(w, a, b);
    if (json_is_array(a) && json_is_array(b) &&
        json_array_size(a) == json_array_size(b))
        return compare_arrays(w, a, b);
    return json_equal(a, b) ? F8_OK : tell(w, place);
}

f8_status f8_settings_walk(const char *name, const json_t *a, const json_t *b,
                           f8_settings_told *told, void *ctx, f8_error *err)
{
    walk w = {.told = told, .ctx = ctx, .err = err};

    f8_buf_puts(&w.path, name);
    f8_status status = compare(&w, (f8_setting_place){.a = a, .b = b});
    f8_buf_free(&w.path);
    return status;
}

f8_status f8_settings_compare(const char *name, const json_t *a,
                              const json_t *b, f8_settings *out, f8_error *err)
{
    memset(out, 0, sizeof *out);
    return f8_settings_walk(name, a, b, note, out, err);
}

void f8_settings_free(f8_settings *settings)
{
    free(settings->items);
    f8_arena_free(&settings->strings);
    memset(settings, 0, sizeof *settings);
}
