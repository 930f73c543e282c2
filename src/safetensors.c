/* safetensors.c - the container format: headers parsed with distrust and
 * written in one fixed way. Knows nothing of models; see safetensors.h.
 *
 * The header is split into its entries here and each entry is parsed by
 * jansson on its own, so that memory for the JSON of one entry is all that is
 * needed: a tree of a 60,000-tensor header would take ten times its text. */
#include "safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Far more than any model's: a name has about 100 bytes, an entry 100. */
#define NAME_MAX_BYTES ((size_t)512)
#define ENTRY_MAX_BYTES ((size_t)4096)
#define METADATA_MAX_BYTES ((size_t)4 << 20)

/* ---- reading ------------------------------------------------------------- */

typedef struct reader {
    const char *text;
    size_t length, at;
    uint64_t data_start, data_bytes; /* of the file's tensor data */
    const char *label;
    uint32_t file;
    f8_arena *names;
    f8_tensor_list *list;
    f8_error *err;
} reader;

static f8_status bad_header(const reader *r, const char *expected)
{
    return f8_fail(r->err, F8_ERR_FORMAT, "%s: header, byte %zu: expected %s",
                   r->label, r->at, expected);
}

static void skip_space(reader *r)
{
    while (r->at < r->length && strchr(" \t\r\n", r->text[r->at]) &&
           r->text[r->at])
        r->at++;
}

/* Consumes c after white space; false when something else stands there. */
static bool take(reader *r, char c)
{
    skip_space(r);
    if (r->at >= r->length || r->text[r->at] != c)
        return false;
    r->at++;
    return true;
}

/* Parses one JSON value in place and steps over it. `most` bounds its text,
 * and with it the memory that a hostile header can make the parser take. */
static json_t *take_value(reader *r, size_t most)
{
    json_error_t why;

    skip_space(r);
    size_t left = r->length - r->at;
    json_t *value = json_loadb(r->text + r->at, left < most ? left : most,
                               JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK |
                                   JSON_REJECT_DUPLICATES,
                               &why);
    if (value) {
        r->at += (size_t)why.position;
        return value;
    }
    if (json_error_code(&why) == json_error_null_character)
        f8_fail(r->err, F8_ERR_FORMAT,
                "%s: header, byte %zu: expected no NUL character", r->label,
                r->at);
    else if (left > most &&
             json_error_code(&why) == json_error_premature_end_of_input)
        f8_fail(r->err, F8_ERR_FORMAT,
                "%s: header, byte %zu: expected a value of at most %zu bytes",
                r->label, r->at, most);
    else
        f8_fail(r->err, F8_ERR_FORMAT, "%s: header, byte %zu: %s", r->label,
                r->at + (size_t)why.position, why.text);
    return NULL;
}

static f8_status bad_entry(const reader *r, const char *name, const char *what)
{
    return f8_fail(r->err, F8_ERR_FORMAT, "%s: tensor %s: %s", r->label, name,
                   what);
}

static f8_status read_shape(const reader *r, const json_t *shape, f8_tensor *t)
{
    uint64_t elems = 1;

    if (!json_is_array(shape))
        return bad_entry(r, t->name, "shape: expected an array of integers");
    size_t rank = json_array_size(shape);
    if (rank > F8_MAX_RANK)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: tensor %s: expected at most %d dimensions, found "
                       "%zu",
                       r->label, t->name, F8_MAX_RANK, rank);
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad_entry(r, t->name,
                             "shape: expected integers of at least 0");
        t->shape[i] = (uint64_t)json_integer_value(dim);
        if (!f8_mul_u64(elems, t->shape[i], &elems))
            return bad_entry(r, t->name, "shape: the product overflows");
    }
    t->rank = (unsigned)rank;
    t->elems = elems;
    return F8_OK;
}

static f8_status read_offsets(const reader *r, const json_t *offsets,
                              f8_tensor *t)
{
    const json_t *begin = json_array_get(offsets, 0);
    const json_t *end = json_array_get(offsets, 1);
    uint64_t bytes;

    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(begin) || !json_is_integer(end))
        return bad_entry(r, t->name,
                         "data_offsets: expected two integers [begin, end]");
    json_int_t from = json_integer_value(begin), to = json_integer_value(end);
    if (from < 0 || to < from)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: tensor %s: data_offsets: expected 0 <= begin <= "
                       "end, found [%lld, %lld]",
                       r->label, t->name, (long long)from, (long long)to);
    if ((uint64_t)to > r->data_bytes)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: tensor %s: ends at data byte %lld, but the file "
                       "has only %llu; is it truncated?",
                       r->label, t->name, (long long)to,
                       (unsigned long long)r->data_bytes);
    if (!f8_mul_u64(t->elems, f8_dtype_bytes(t->dtype), &bytes))
        return bad_entry(r, t->name, "shape: the product overflows");
    if (bytes != (uint64_t)(to - from))
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: tensor %s: dtype and shape need %llu bytes, "
                       "data_offsets give %lld",
                       r->label, t->name, (unsigned long long)bytes,
                       (long long)(to - from));
    t->offset = r->data_start + (uint64_t)from;
    t->bytes = bytes;
    return F8_OK;
}

/* One "name": {dtype, shape, data_offsets}. */
static f8_status read_tensor(reader *r, const char *name, const json_t *value)
{
    f8_tensor t = {.file = r->file};
    const json_t *dtype = json_object_get(value, "dtype");
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");

    if (!json_is_object(value) || json_object_size(value) != 3 || !dtype ||
        !shape || !offsets)
        return bad_entry(r, name,
                         "expected an object of dtype, shape, data_offsets");
    if (!json_is_string(dtype) ||
        !f8_dtype_parse(json_string_value(dtype), &t.dtype))
        return f8_fail(r->err, F8_ERR_FORMAT, "%s: tensor %s: unknown dtype %s",
                       r->label, name,
                       json_is_string(dtype) ? json_string_value(dtype)
                                             : "(not a string)");
    t.name = f8_arena_copy(r->names, name, strlen(name));
    if (!t.name || !f8_grow((void **)&r->list->items, &r->list->capacity,
                            r->list->count, sizeof t))
        return f8_fail_nomem(r->err, "the tensor list");
    f8_status status = read_shape(r, shape, &t);
    if (status == F8_OK)
        status = read_offsets(r, offsets, &t);
    if (status == F8_OK)
        r->list->items[r->list->count++] = t;
    return status;
}

static f8_status read_metadata(const reader *r, json_t *value)
{
    const char *key;
    json_t *text;

    if (!json_is_object(value))
        return bad_header(r, "__metadata__ to be an object of strings");
    json_object_foreach(value, key, text)
    {
        if (!json_is_string(text))
            return bad_header(r, "__metadata__ to be an object of strings");
    }
    return F8_OK;
}

/* One member of the outermost object. */
static f8_status read_member(reader *r, bool *saw_metadata)
{
    f8_status status = F8_ERR_FORMAT;
    json_t *value = NULL;

    skip_space(r);
    if (r->at >= r->length || r->text[r->at] != '"')
        return bad_header(r, "a tensor name in quotes");
    json_t *key = take_value(r, NAME_MAX_BYTES + 2);
    if (!key)
        return F8_ERR_FORMAT;
    if (!take(r, ':')) {
        status = bad_header(r, "':'");
        goto out;
    }
    bool metadata = !strcmp(json_string_value(key), "__metadata__");
    value = take_value(r, metadata ? METADATA_MAX_BYTES : ENTRY_MAX_BYTES);
    if (!value)
        goto out;
    if (!metadata) {
        status = read_tensor(r, json_string_value(key), value);
    } else if (*saw_metadata) {
        status = bad_header(r, "one __metadata__, found a second");
    } else {
        *saw_metadata = true;
        status = read_metadata(r, value);
    }
out:
    json_decref(value);
    json_decref(key);
    return status;
}

static f8_status read_members(reader *r)
{
    bool saw_metadata = false;

    if (!take(r, '{'))
        return bad_header(r, "'{'");
    if (!take(r, '}')) {
        do {
            f8_status status = read_member(r, &saw_metadata);
            if (status != F8_OK)
                return status;
        } while (take(r, ','));
        if (!take(r, '}'))
            return bad_header(r, "',' or '}'");
    }
    skip_space(r);
    if (r->at != r->length)
        return bad_header(r, "only spaces after the closing '}'");
    return F8_OK;
}

static int by_offset(const void *a, const void *b)
{
    const f8_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) /* an empty tensor before what follows it */
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static f8_status check_names(const reader *r, const f8_tensor *items,
                             size_t count)
{
    f8_status status = F8_OK;
    const char **names = f8_alloc(count, sizeof *names);

    if (!names)
        return f8_fail_nomem(r->err, "the tensor list");
    for (size_t i = 0; i < count; i++)
        names[i] = items[i].name;
    qsort(names, count, sizeof *names, by_text);
    for (size_t i = 1; i < count && status == F8_OK; i++) {
        if (!strcmp(names[i - 1], names[i]))
            status = bad_entry(r, names[i], "stands in the header twice");
    }
    free(names);
    return status;
}

/* Tensors must tile the data: no hole, no overlap, nothing behind. */
static f8_status check_tiling(const reader *r, const f8_tensor *items,
                              size_t count)
{
    uint64_t end = r->data_start;
    uint64_t file_end = r->data_start + r->data_bytes;

    for (size_t i = 0; i < count; i++) {
        const f8_tensor *t = &items[i];
        if (t->offset != end)
            return f8_fail(r->err, F8_ERR_FORMAT,
                           "%s: tensor %s: expected to begin at data byte "
                           "%llu, where the one before it ends, found %llu "
                           "(%s)",
                           r->label, t->name,
                           (unsigned long long)(end - r->data_start),
                           (unsigned long long)(t->offset - r->data_start),
                           t->offset > end ? "a hole" : "an overlap");
        end = t->offset + t->bytes;
    }
    if (end != file_end)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: the header's tensors end at data byte %llu, but "
                       "the file has %llu",
                       r->label, (unsigned long long)(end - r->data_start),
                       (unsigned long long)r->data_bytes);
    return F8_OK;
}

f8_status f8_st_read_header(int fd, uint64_t file_bytes, const char *label,
                            uint32_t file, f8_arena *names,
                            f8_tensor_list *list, uint64_t *header_hash,
                            f8_error *err)
{
    unsigned char prefix[8];
    uint64_t length = 0;
    size_t first = list->count;

    if (file_bytes < sizeof prefix)
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s: %llu bytes, expected at least the 8 of a "
                       "safetensors header length",
                       label, (unsigned long long)file_bytes);
    f8_status status = f8_read_at(fd, prefix, sizeof prefix, 0, label, err);
    if (status != F8_OK)
        return status;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (length > F8_ST_HEADER_MAX_BYTES)
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s: header of %llu bytes, expected at most %llu; is "
                       "this a safetensors file?",
                       label, (unsigned long long)length,
                       (unsigned long long)F8_ST_HEADER_MAX_BYTES);
    if (length > file_bytes - sizeof prefix)
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s: header of %llu bytes, but the file ends after "
                       "%llu; is it truncated?",
                       label, (unsigned long long)length,
                       (unsigned long long)(file_bytes - sizeof prefix));
    char *text = f8_alloc(length, 1);
    if (!text)
        return f8_fail_nomem(err, label);
    reader r = {.text = text,
                .length = (size_t)length,
                .data_start = sizeof prefix + length,
                .data_bytes = file_bytes - sizeof prefix - length,
                .label = label,
                .file = file,
                .names = names,
                .list = list,
                .err = err};
    status = f8_read_at(fd, text, r.length, sizeof prefix, label, err);
    if (status == F8_OK)
        status = read_members(&r);
    if (status == F8_OK) {
        f8_tensor *items = list->items + first;
        size_t count = list->count - first;
        if (count > 0)
            qsort(items, count, sizeof *items, by_offset);
        status = check_names(&r, items, count);
        if (status == F8_OK)
            status = check_tiling(&r, items, count);
    }
    if (header_hash)
        *header_hash = f8_hash(F8_HASH_START, text, r.length);
    free(text);
    return status;
}

/* ---- writing ------------------------------------------------------------- */

void f8_st_header_begin(f8_buf *buf)
{
    buf->length = 0;
    f8_buf_append(buf, "\0\0\0\0\0\0\0\0", 8);
    f8_buf_puts(buf, "{\"__metadata__\":{\"format\":\"pt\"}");
}

void f8_st_header_add(f8_buf *buf, const char *name, f8_dtype dtype,
                      unsigned rank, const uint64_t *shape, uint64_t begin,
                      uint64_t end)
{
    f8_buf_append(buf, ",", 1);
    f8_buf_json_string(buf, name);
    f8_buf_printf(buf, ":{\"dtype\":\"%s\",\"shape\":[", f8_dtype_name(dtype));
    for (unsigned i = 0; i < rank; i++)
        f8_buf_printf(buf, "%s%llu", i ? "," : "",
                      (unsigned long long)shape[i]);
    f8_buf_printf(buf, "],\"data_offsets\":[%llu,%llu]}",
                  (unsigned long long)begin, (unsigned long long)end);
}

void f8_st_header_finish(f8_buf *buf)
{
    f8_buf_append(buf, "}", 1);
    while (!buf->failed && buf->length % 8 != 0)
        f8_buf_append(buf, " ", 1);
    if (buf->failed)
        return;
    uint64_t length = buf->length - 8;
    for (int i = 0; i < 8; i++)
        buf->data[i] = (char)(length >> 8 * i & 0xff);
}
