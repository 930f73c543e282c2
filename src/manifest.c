/* manifest.c - index and config.json as text. See manifest.h. */
#include "manifest.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

/* ---- the index ----------------------------------------------------------- */

typedef struct entry {
    const f8_unit *unit;
    bool scale;
} entry;

/* Byte i of the entry's full name, its scale's suffix included. */
static unsigned char name_byte(const entry *e, size_t length, size_t i)
{
    static const char suffix[] = F8_SCALE_SUFFIX;

    if (i < length)
        return (unsigned char)e->unit->name[i];
    i -= length;
    return e->scale && i < sizeof suffix ? (unsigned char)suffix[i] : 0;
}

static int compare_names(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    size_t n = strlen(x->unit->name), m = strlen(y->unit->name);

    for (size_t i = 0;; i++) {
        unsigned char p = name_byte(x, n, i), q = name_byte(y, m, i);
        if (p != q || !p)
            return p < q ? -1 : p > q;
    }
}

/* All before the first entry. */
static void print_metadata(const f8_plan *plan, f8_buf *text)
{
    f8_buf_printf(text,
                  "{\n  \"metadata\": {\n    \"total_parameters\": %llu,\n"
                  "    \"total_size\": %llu\n  },\n  \"weight_map\": {",
                  (unsigned long long)plan->parameters,
                  (unsigned long long)plan->result_bytes);
}

static const char before_first[] = "\n    ", before_other[] = ",\n    ",
                  between[] = ": ", index_end[] = "\n  }\n}\n";

uint64_t f8_manifest_index_bytes(const f8_plan *plan)
{
    f8_buf metadata = {0};
    /* Each entry is counted with a comma; the first has none. */
    uint64_t bytes =
        sizeof index_end - 1 + sizeof before_first - sizeof before_other;

    print_metadata(plan, &metadata);
    bytes += metadata.length;
    f8_buf_free(&metadata);
    for (uint64_t i = 0; i < plan->results_count; i++) {
        const f8_unit *u = &plan->units[plan->results[i]];
        uint64_t name = f8_json_string_bytes(u->name);
        uint64_t rest = sizeof before_other - 1 + sizeof between - 1 +
                        f8_json_string_bytes(plan->shards[u->shard].name);
        bytes += name + rest;
        if (u->action == F8_QUANTIZE)
            bytes += name + sizeof F8_SCALE_SUFFIX - 1 + rest;
    }
    return bytes;
}

f8_status f8_manifest_index(const f8_plan *plan, f8_buf *text, f8_error *err)
{
    uint64_t count = 0;
    entry *entries = f8_alloc(2 * plan->units_count, sizeof *entries);

    if (!entries)
        return f8_fail_nomem(err, "the index");
    for (uint64_t i = 0; i < plan->units_count; i++) {
        if (plan->units[i].parts > 0)
            entries[count++] = (entry){&plan->units[i], false};
        if (plan->units[i].action == F8_QUANTIZE)
            entries[count++] = (entry){&plan->units[i], true};
    }
    qsort(entries, count, sizeof *entries, compare_names);
    print_metadata(plan, text);
    f8_buf name = {0};
    for (uint64_t i = 0; i < count; i++) {
        const f8_unit *u = entries[i].unit;
        name.length = 0;
        f8_buf_printf(&name, "%s%s", u->name,
                      entries[i].scale ? F8_SCALE_SUFFIX : "");
        f8_buf_puts(text, i ? before_other : before_first);
        f8_buf_json_string(text, name.data ? name.data : "");
        f8_buf_puts(text, between);
        f8_buf_json_string(text, plan->shards[u->shard].name);
    }
    f8_buf_puts(text, index_end);
    bool failed = text->failed || name.failed;
    f8_buf_free(&name);
    free(entries);
    return failed ? f8_fail_nomem(err, "the index") : F8_OK;
}

/* ---- config.json --------------------------------------------------------- */

typedef struct printer {
    f8_buf *text;
    const char *unit; /* one level of indentation, or NULL: on one line */
    size_t unit_length;
} printer;

static void new_line(const printer *p, unsigned depth)
{
    if (!p->unit)
        return;
    f8_buf_append(p->text, "\n", 1);
    for (unsigned i = 0; i < depth; i++)
        f8_buf_append(p->text, p->unit, p->unit_length);
}

static void print_value(const printer *p, const json_t *value, unsigned depth);

static void print_comma(const printer *p, bool first)
{
    if (!first)
        f8_buf_puts(p->text, p->unit ? "," : ", ");
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as jansson reads */
static void print_object(const printer *p, const json_t *object, unsigned depth)
{
    const char *key;
    json_t *value;
    bool first = true;

    f8_buf_puts(p->text, "{");
    /* jansson's macro wants a mutable object and changes nothing. */
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        print_comma(p, first);
        first = false;
        new_line(p, depth + 1);
        f8_buf_json_string(p->text, key);
        f8_buf_puts(p->text, ": ");
        print_value(p, value, depth + 1);
    }
    if (!first)
        new_line(p, depth);
    f8_buf_puts(p->text, "}");
}

/* The kinds of values that a quantization_config has. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as jansson reads */
static void print_value(const printer *p, const json_t *value, unsigned depth)
{
    if (json_is_string(value)) {
        f8_buf_json_string(p->text, json_string_value(value));
    } else if (json_is_integer(value)) {
        f8_buf_printf(p->text, "%lld", (long long)json_integer_value(value));
    } else if (json_is_object(value)) {
        print_object(p, value, depth);
    } else {
        size_t n = json_array_size(value);
        f8_buf_puts(p->text, "[");
        for (size_t i = 0; i < n; i++) {
            print_comma(p, i == 0);
            new_line(p, depth + 1);
            print_value(p, json_array_get(value, i), depth + 1);
        }
        if (n > 0)
            new_line(p, depth);
        f8_buf_puts(p->text, "]");
    }
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

f8_status f8_json_splice(const f8_buf *config, const char *key,
                         const json_t *value, f8_buf *text, f8_error *err)
{
    const char *data = config->data;
    size_t open = 0, end = config->length;
    printer p = {.text = text};

    while (data[open] != '{')
        open++;
    while (data[end - 1] != '}')
        end--;
    end--; /* at the closing brace */
    while (is_space(data[end - 1]))
        end--;
    bool empty = end == open + 1;
    size_t first = open + 1; /* of the first key */
    while (is_space(data[first])) {
        if (data[first] == '\n')
            p.unit = data + first + 1;
        first++;
    }
    if (empty)
        p.unit = NULL;
    if (p.unit)
        p.unit_length = (size_t)(data + first - p.unit);
    f8_buf_append(text, data, end);
    print_comma(&p, empty);
    if (empty)
        f8_buf_puts(text, " ");
    new_line(&p, 1);
    f8_buf_json_string(text, key);
    f8_buf_puts(text, ": ");
    print_value(&p, value, 1);
    f8_buf_append(text, data + end, config->length - end);
    return text->failed ? f8_fail_nomem(err, "config.json") : F8_OK;
}

/* ---- taking it out again ------------------------------------------------- */

/* A stretch of the text, which is to go. */
typedef struct stretch {
    uint64_t begin, end;
    bool found;
    bool leads; /* it is the first member; another may follow */
} stretch;

/* Of the member called key: up to the next member when it is the first, else
 * from the end of the one before it. The object may have to be found in one
 * that it is the member `outer` of.
 * NOLINTNEXTLINE(misc-no-recursion): once, for outer */
static f8_status find_member(f8_json *json, const char *outer, const char *key,
                             size_t most, stretch *out)
{
    bool more;

    f8_json_peek(json);
    uint64_t brace = f8_json_at(json) + 1, before = brace;
    f8_status status = f8_json_enter(json, '{', &more);
    for (; status == F8_OK && more; status = f8_json_next(json, '}', &more)) {
        const char *name = "";
        f8_json_peek(json);
        uint64_t start = f8_json_at(json);
        if (out->leads && !outer)
            out->end = start;
        if (!outer)
            out->leads = false;
        status = f8_json_key(json, most, "a key in quotes", &name);
        if (status != F8_OK)
            return status;
        bool ours = strcmp(name, outer ? outer : key) == 0;
        status = ours && outer ? find_member(json, NULL, key, most, out)
                               : f8_json_skip(json, most);
        if (status != F8_OK)
            return status;
        if (ours && !outer)
            *out = (stretch){before == brace ? start : before, f8_json_at(json),
                             true, before == brace};
        before = f8_json_at(json);
    }
    if (out->leads && !outer)
        out->begin = brace; /* it is the only one: with the space before it */
    return status;
}

f8_status f8_json_cut(const f8_buf *config, const char *outer, const char *key,
                      f8_buf *text, f8_error *err)
{
    stretch gone = {0, 0, false, false};
    f8_json json;

    f8_json_begin(&json, config->data, config->length, F8_CONFIG_NAME, NULL,
                  err);
    f8_status status = find_member(&json, outer, key, config->length, &gone);
    f8_json_free(&json);
    if (status != F8_OK)
        return status;
    if (!gone.found)
        return f8_fail(err, F8_ERR_INTERNAL, "%s: no member %s", F8_CONFIG_NAME,
                       key);
    f8_buf_append(text, config->data, (size_t)gone.begin);
    f8_buf_append(text, config->data + gone.end,
                  config->length - (size_t)gone.end);
    return text->failed ? f8_fail_nomem(err, F8_CONFIG_NAME) : F8_OK;
}

/* The source's config.json without any quantization; the caller frees it. */
static f8_status unquantised(const f8_checkpoint *source, f8_buf *text,
                             f8_error *err)
{
    f8_status status = F8_OK;

    f8_buf_append(text, source->config_text.data, source->config_text.length);
    for (int i = 0; i < F8_QUANTIZATION_PLACES && status == F8_OK; i++) {
        const f8_quantization_place *place = &f8_quantization_places[i];
        f8_buf rest = {0};
        if (text->failed)
            return f8_fail_nomem(err, F8_CONFIG_NAME);
        if (!f8_checkpoint_quantization_at(source, place))
            continue;
        status = f8_json_cut(text, place->outer, place->key, &rest, err);
        f8_buf_free(text);
        *text = rest;
    }
    return status;
}

f8_status f8_manifest_config(const f8_plan *plan, f8_buf *text, f8_error *err)
{
    f8_buf base = {0};
    f8_status status = unquantised(plan->source, &base, err);
    if (status != F8_OK || plan->direction == F8_FROM_FP8) {
        *text = base;
        return status;
    }
    json_t *value = json_object();
    bool good =
        value &&
        !json_object_set_new(value, "quant_method", json_string("fp8")) &&
        !json_object_set_new(value, "fmt", json_string("e4m3")) &&
        !json_object_set_new(value, "activation_scheme",
                             json_string("dynamic"));

    if (good && plan->scale_dtype == F8_SCALE_UE8M0)
        good = !json_object_set_new(value, "scale_fmt", json_string("ue8m0"));
    good = good &&
           !json_object_set_new(value, "weight_block_size",
                                json_pack("[ii]", F8_BLOCK, F8_BLOCK)) &&
           !json_object_set_new(value, "modules_to_not_convert",
                                f8_json_copy(plan->not_converted));
    if (good)
        status = f8_json_splice(&base, "quantization_config", value, text, err);
    else
        status = f8_fail_nomem(err, "config.json");
    json_decref(value);
    f8_buf_free(&base);
    return status;
}
