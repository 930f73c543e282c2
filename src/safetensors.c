/* safetensors.c - the container format: headers parsed with distrust and
 * written in one fixed way. Knows nothing of models; see safetensors.h.
 *
 * The header is pulled entry by entry out of a window of the file, so that it
 * takes no more memory than the list of its tensors, however long it is. */
#include "safetensors.h"

#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far more than any model's, which say little more than "format". */
#define METADATA_MAX_BYTES ((size_t)4 << 20)
/* Keys and dtypes; the longest that is known has 12. */
#define WORD_MAX_BYTES ((size_t)64)

/* ---- reading ------------------------------------------------------------- */

typedef struct reader {
    f8_json json;
    uint64_t data_start, data_bytes; /* of the file's tensor data */
    const char *label;
    uint32_t file;
    f8_st_head head;
    f8_arena *names;
    f8_tensor_list *list;
    f8_error *err;
} reader;

/* The fields of an entry, in whatever order they come. */
typedef struct entry {
    f8_tensor tensor;
    uint64_t begin, end;
    bool saw_dtype, saw_shape, saw_offsets;
} entry;

static f8_status bad_entry(const reader *r, const char *name, const char *what)
{
    return f8_fail(r->err, F8_ERR_FORMAT, "%s: tensor %s: %s", r->label, name,
                   what);
}

/* What was expected of a tensor's field, and what stands there. */
static f8_status bad_field(reader *r, const char *name, const char *expected)
{
    char found[64];

    f8_json_found(&r->json, found, sizeof found);
    if (r->json.status != F8_OK) /* the file could not be read */
        return r->json.status;
    return f8_fail(r->err, F8_ERR_FORMAT, "%s: tensor %s: %s, found %s",
                   r->label, name, expected, found);
}

static f8_status bad_fields(const reader *r, const char *name)
{
    return bad_entry(r, name,
                     "expected an object of dtype, shape, data_offsets");
}

static f8_status read_dtype(reader *r, entry *e)
{
    const char *text;

    if (f8_json_peek(&r->json) != '"')
        return bad_field(r, e->tensor.name, "dtype: expected a string");
    f8_status status =
        f8_json_string(&r->json, WORD_MAX_BYTES, "a dtype", &text);
    if (status == F8_OK && !f8_dtype_parse(text, &e->tensor.dtype))
        status = f8_fail(r->err, F8_ERR_FORMAT,
                         "%s: tensor %s: unknown dtype \"%s\"", r->label,
                         e->tensor.name, text);
    return status;
}

static f8_status read_shape(reader *r, entry *e)
{
    f8_tensor *t = &e->tensor;
    f8_status status;
    bool more;

    t->elems = 1;
    if (f8_json_peek(&r->json) != '[')
        return bad_field(r, t->name, "shape: expected an array");
    for (status = f8_json_enter(&r->json, '[', &more); status == F8_OK && more;
         status = f8_json_next(&r->json, ']', &more)) {
        uint64_t dim;
        if (t->rank == F8_MAX_RANK)
            return f8_fail(r->err, F8_ERR_FORMAT,
                           "%s: tensor %s: expected at most %d dimensions, "
                           "found more",
                           r->label, t->name, F8_MAX_RANK);
        if (!f8_json_uint(&r->json, &dim))
            return bad_field(r, t->name,
                             "shape: expected digits of a number below 2^63");
        t->shape[t->rank++] = dim;
        if (!f8_mul_u64(t->elems, dim, &t->elems))
            return bad_entry(r, t->name, "shape: the product overflows");
    }
    return status;
}

static f8_status read_offsets(reader *r, entry *e)
{
    uint64_t *offsets[] = {&e->begin, &e->end};
    size_t count = 0;
    f8_status status;
    bool more;

    if (f8_json_peek(&r->json) != '[')
        return bad_field(r, e->tensor.name,
                         "data_offsets: expected [begin, end]");
    for (status = f8_json_enter(&r->json, '[', &more); status == F8_OK && more;
         status = f8_json_next(&r->json, ']', &more)) {
        if (count == 2)
            break;
        if (!f8_json_uint(&r->json, offsets[count]))
            return bad_field(r, e->tensor.name,
                             "data_offsets: expected digits of a number below "
                             "2^63");
        count++;
    }
    if (status == F8_OK && (count != 2 || more))
        status = bad_entry(r, e->tensor.name,
                           "data_offsets: expected two numbers [begin, end]");
    return status;
}

/* Whether the fields agree with each other and with the file. */
static f8_status check_entry(const reader *r, entry *e)
{
    f8_tensor *t = &e->tensor;

    if (e->end < e->begin)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: tensor %s: data_offsets: expected begin <= end, "
                       "found [%llu, %llu]",
                       r->label, t->name, (unsigned long long)e->begin,
                       (unsigned long long)e->end);
    if (e->end > r->data_bytes)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: tensor %s: ends at data byte %llu, but the file "
                       "has only %llu; is it truncated?",
                       r->label, t->name, (unsigned long long)e->end,
                       (unsigned long long)r->data_bytes);
    if (!f8_mul_u64(t->elems, f8_dtype_bytes(t->dtype), &t->bytes))
        return bad_entry(r, t->name, "shape: the product overflows");
    if (t->bytes != e->end - e->begin)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: tensor %s: dtype and shape need %llu bytes, "
                       "data_offsets give %llu",
                       r->label, t->name, (unsigned long long)t->bytes,
                       (unsigned long long)(e->end - e->begin));
    t->offset = r->data_start + e->begin;
    return F8_OK;
}

static f8_status read_field(reader *r, entry *e)
{
    const struct {
        const char *name;
        bool *saw;
        f8_status (*read)(reader *, entry *);
    } fields[] = {{"dtype", &e->saw_dtype, read_dtype},
                  {"shape", &e->saw_shape, read_shape},
                  {"data_offsets", &e->saw_offsets, read_offsets}};
    const char *key;

    f8_status status =
        f8_json_key(&r->json, F8_NAME_MAX_BYTES, "a field's name", &key);
    if (status != F8_OK)
        return status;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(key, fields[i].name) != 0)
            continue;
        if (*fields[i].saw)
            return f8_fail(r->err, F8_ERR_FORMAT, "%s: tensor %s: %s twice",
                           r->label, e->tensor.name, key);
        *fields[i].saw = true;
        return fields[i].read(r, e);
    }
    return bad_fields(r, e->tensor.name);
}

/* One "name": {dtype, shape, data_offsets}, behind the ':'. */
static f8_status read_tensor(reader *r, const char *name)
{
    f8_tensor_list *list = r->list;
    entry e = {.tensor.file = r->file};
    f8_status status;
    bool more;

    if (list->count >= F8_TENSORS_MAX)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: expected at most %d tensors in a checkpoint, found "
                       "more",
                       r->label, F8_TENSORS_MAX);
    list->names_bytes += strlen(name);
    if (list->names_bytes > F8_NAMES_MAX_BYTES)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: expected tensor names of at most %d bytes in a "
                       "checkpoint, found more",
                       r->label, F8_NAMES_MAX_BYTES);
    e.tensor.name = f8_arena_copy(r->names, name, strlen(name));
    if (!e.tensor.name || !f8_grow((void **)&list->items, &list->capacity,
                                   list->count, sizeof *list->items))
        return f8_fail_nomem(r->err, "the tensor list");
    if (f8_json_peek(&r->json) != '{')
        return bad_fields(r, e.tensor.name);
    for (status = f8_json_enter(&r->json, '{', &more); status == F8_OK && more;
         status = f8_json_next(&r->json, '}', &more)) {
        status = read_field(r, &e);
        if (status != F8_OK)
            return status;
    }
    if (status == F8_OK && !(e.saw_dtype && e.saw_shape && e.saw_offsets))
        status = bad_fields(r, e.tensor.name);
    if (status == F8_OK)
        status = check_entry(r, &e);
    if (status == F8_OK)
        list->items[list->count++] = e.tensor;
    return status;
}

/* One member of the outermost object. */
static f8_status read_member(reader *r)
{
    const char *name;

    f8_status status =
        f8_json_key(&r->json, F8_NAME_MAX_BYTES, "a tensor name", &name);
    if (status != F8_OK)
        return status;
    if (strcmp(name, "__metadata__") != 0)
        return read_tensor(r, name);
    if (r->head.has_metadata)
        return f8_fail(r->err, F8_ERR_FORMAT,
                       "%s: header: expected one __metadata__, found a second",
                       r->label);
    r->head.has_metadata = true;
    if (f8_json_peek(&r->json) != '{')
        return f8_json_expected(&r->json,
                                "__metadata__ to be an object of strings");
    return f8_json_skip_strings(&r->json, METADATA_MAX_BYTES, "format",
                                r->head.format, sizeof r->head.format);
}

static f8_status read_members(reader *r)
{
    f8_status status;
    bool more;

    for (status = f8_json_enter(&r->json, '{', &more); status == F8_OK && more;
         status = f8_json_next(&r->json, '}', &more)) {
        status = read_member(r);
        if (status != F8_OK)
            return status;
    }
    return status == F8_OK ? f8_json_finish(&r->json) : status;
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

/* All of a header: r->json stands at its beginning. */
static f8_status read_header(reader *r)
{
    size_t first = r->list->count;

    f8_status status = read_members(r);
    if (status != F8_OK)
        return status;
    size_t count = r->list->count - first;
    f8_tensor *items = count > 0 ? r->list->items + first : NULL;
    if (count > 0)
        qsort(items, count, sizeof *items, by_offset);
    status = check_names(r, items, count);
    return status == F8_OK ? check_tiling(r, items, count) : status;
}

/* The header's length, which stands before it. */
static f8_status read_length(int fd, uint64_t file_bytes, const char *label,
                             uint64_t *length, f8_error *err)
{
    unsigned char prefix[F8_ST_PREFIX_BYTES];

    *length = 0;
    if (file_bytes < sizeof prefix)
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s: %llu bytes, expected at least the 8 of a "
                       "safetensors header length",
                       label, (unsigned long long)file_bytes);
    f8_status status = f8_read_at(fd, prefix, sizeof prefix, 0, label, err);
    if (status != F8_OK)
        return status;
    for (int i = sizeof prefix - 1; i >= 0; i--)
        *length = *length << 8 | prefix[i];
    if (*length > F8_ST_HEADER_MAX_BYTES)
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s: header of %llu bytes, expected at most %llu; is "
                       "this a safetensors file?",
                       label, (unsigned long long)*length,
                       (unsigned long long)F8_ST_HEADER_MAX_BYTES);
    if (*length > file_bytes - sizeof prefix)
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s: header of %llu bytes, but the file ends after "
                       "%llu; is it truncated?",
                       label, (unsigned long long)*length,
                       (unsigned long long)(file_bytes - sizeof prefix));
    return F8_OK;
}

f8_status f8_st_read_header(int fd, uint64_t file_bytes, const char *label,
                            uint32_t file, f8_arena *names,
                            f8_tensor_list *list, f8_st_head *head,
                            f8_error *err)
{
    uint64_t length;

    f8_status status = read_length(fd, file_bytes, label, &length, err);
    if (status != F8_OK)
        return status;
    reader r = {.data_start = F8_ST_PREFIX_BYTES + length,
                .data_bytes = file_bytes - F8_ST_PREFIX_BYTES - length,
                .label = label,
                .file = file,
                .names = names,
                .list = list,
                .err = err};
    status = f8_json_begin_file(&r.json, fd, F8_ST_PREFIX_BYTES, length, label,
                                "header, ", err);
    if (status == F8_OK)
        status = read_header(&r);
    r.head.hash = f8_json_hash(&r.json);
    if (status == F8_OK && head)
        *head = r.head;
    f8_json_free(&r.json);
    return status;
}

f8_status f8_st_parse_header(const char *text, size_t n, uint64_t data_bytes,
                             const char *label, f8_arena *names,
                             f8_tensor_list *list, f8_error *err)
{
    reader r = {.data_start = F8_ST_PREFIX_BYTES + n,
                .data_bytes = data_bytes,
                .label = label,
                .names = names,
                .list = list,
                .err = err};

    f8_json_begin(&r.json, text, n, label, "header, ", err);
    f8_status status = read_header(&r);
    f8_json_free(&r.json);
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
