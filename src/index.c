/* index.c - model.safetensors.index.json, read as it comes: of a text of
 * 30 MB only the names are kept. See index.h. */
#include "index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "safetensors.h"

/* Longer than any file system's. */
#define FILE_NAME_MAX_BYTES ((size_t)255)
/* Keys that are not ours, and what stands behind them. */
#define KEY_MAX_BYTES ((size_t)1000)
#define OTHER_MAX_BYTES ((size_t)1000000)
/* The keys of metadata, and of the whole, in bytes: there are two or three. */
#define KEYS_MAX_BYTES ((size_t)16000)

static bool is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* The place in files where name stands, or would. */
static size_t place_of(const f8_index *index, const char *name, bool *there)
{
    size_t low = 0, high = index->files_count;

    *there = false;
    while (low < high && !*there) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(index->files[middle], name);
        *there = order == 0;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return high;
}

/* The one copy of a file's name, NULL when there are too many of them. */
static f8_status add_file(f8_json *json, f8_index *index, const char *name,
                          const char **copy)
{
    bool there;
    size_t at = place_of(index, name, &there);

    if (there) {
        *copy = index->files[at];
        return F8_OK;
    }
    if (index->files_count == F8_SHARDS_MAX)
        return f8_fail(json->err, F8_ERR_FORMAT,
                       "%s: weight_map: expected at most %d shards, found more",
                       json->label, F8_SHARDS_MAX);
    *copy = f8_arena_copy(&index->strings, name, strlen(name));
    if (!*copy || !f8_grow((void **)&index->files, &index->files_capacity,
                           index->files_count, sizeof *index->files))
        return f8_fail_nomem(json->err, "the list of shards");
    memmove(index->files + at + 1, index->files + at,
            (index->files_count++ - at) * sizeof *index->files);
    index->files[at] = *copy;
    return F8_OK;
}

static f8_status add_entry(f8_json *json, f8_index *index, const char *tensor)
{
    if (index->count >= F8_TENSORS_MAX)
        return f8_fail(json->err, F8_ERR_FORMAT,
                       "%s: weight_map: expected at most %d tensors, found "
                       "more",
                       json->label, F8_TENSORS_MAX);
    index->names_bytes += strlen(tensor);
    if (index->names_bytes > F8_NAMES_MAX_BYTES)
        return f8_fail(json->err, F8_ERR_FORMAT,
                       "%s: weight_map: expected names of at most %d bytes in "
                       "all, found more",
                       json->label, F8_NAMES_MAX_BYTES);
    const char *copy = f8_arena_copy(&index->strings, tensor, strlen(tensor));
    if (!copy || !f8_grow((void **)&index->entries, &index->capacity,
                          index->count, sizeof *index->entries))
        return f8_fail_nomem(json->err, "the index");
    index->entries[index->count++] = (f8_index_entry){.tensor = copy};
    return F8_OK;
}

/* "tensor": "file", */
static f8_status read_entry(f8_json *json, f8_index *index)
{
    const char *text;

    f8_status status =
        f8_json_key(json, F8_NAME_MAX_BYTES, "a tensor name", &text);
    if (status == F8_OK)
        status = add_entry(json, index, text);
    if (status != F8_OK)
        return status;
    f8_index_entry *e = &index->entries[index->count - 1];
    if (f8_json_peek(json) != '"') {
        char found[64];
        f8_json_found(json, found, sizeof found);
        if (json->status != F8_OK)
            return json->status;
        return f8_fail(json->err, F8_ERR_FORMAT,
                       "%s: weight_map: tensor %s: expected a plain file "
                       "name, found %s",
                       json->label, e->tensor, found);
    }
    status = f8_json_string(json, FILE_NAME_MAX_BYTES, "a file name", &text);
    if (status == F8_OK && !is_plain_name(text))
        status = f8_fail(json->err, F8_ERR_FORMAT,
                         "%s: weight_map: tensor %s: expected a plain file "
                         "name, found \"%s\"",
                         json->label, e->tensor, text);
    /* Tensors of a shard mostly follow each other. */
    if (status == F8_OK && e > index->entries && !strcmp(e[-1].file, text))
        e->file = e[-1].file;
    else if (status == F8_OK)
        status = add_file(json, index, text, &e->file);
    return status;
}

static int by_tensor(const void *a, const void *b)
{
    const f8_index_entry *x = a, *y = b;
    return strcmp(x->tensor, y->tensor);
}

static f8_status sort_entries(f8_json *json, f8_index *index)
{
    if (index->count > 0)
        qsort(index->entries, index->count, sizeof *index->entries, by_tensor);
    for (size_t i = 1; i < index->count; i++) {
        if (!by_tensor(&index->entries[i - 1], &index->entries[i]))
            return f8_fail(json->err, F8_ERR_FORMAT,
                           "%s: weight_map: tensor %s stands there twice",
                           json->label, index->entries[i].tensor);
    }
    return F8_OK;
}

static f8_status read_weight_map(f8_json *json, f8_index *index)
{
    f8_status status;
    bool more;

    if (f8_json_peek(json) != '{')
        return f8_json_expected(json, "weight_map to be an object");
    for (status = f8_json_enter(json, '{', &more); status == F8_OK && more;
         status = f8_json_next(json, '}', &more)) {
        status = read_entry(json, index);
        if (status != F8_OK)
            return status;
    }
    return status == F8_OK ? sort_entries(json, index) : status;
}

/* A key that must not be among `seen`, each with its NUL, and now is. */
static f8_status take_key(f8_json *json, f8_buf *seen, const char **key)
{
    f8_status status = f8_json_key(json, KEY_MAX_BYTES, "a key in quotes", key);
    if (status != F8_OK)
        return status;
    for (size_t at = 0; at < seen->length; at += strlen(seen->data + at) + 1) {
        if (!strcmp(seen->data + at, *key))
            return f8_fail(json->err, F8_ERR_FORMAT,
                           "%s: the key \"%s\" stands there twice", json->label,
                           *key);
    }
    f8_buf_append(seen, *key, strlen(*key) + 1);
    if (seen->failed)
        return f8_fail_nomem(json->err, json->label);
    if (seen->length > KEYS_MAX_BYTES)
        return f8_fail(json->err, F8_ERR_FORMAT,
                       "%s: expected a few keys beside weight_map, found more "
                       "than %zu bytes of them",
                       json->label, KEYS_MAX_BYTES);
    return F8_OK;
}

/* Some writers print 7.1e10; a negative or huge one is none. */
static f8_status read_total_size(f8_json *json, f8_index *index)
{
    int c = f8_json_peek(json);
    int64_t value;
    bool fits;

    if (c != '-' && (c < '0' || c > '9'))
        return f8_json_skip(json, OTHER_MAX_BYTES);
    f8_status status = f8_json_number(json, &value, &fits);
    if (status == F8_OK && fits)
        index->total_size = value;
    return status;
}

static f8_status read_metadata(f8_json *json, f8_index *index)
{
    f8_buf seen = {0};
    f8_status status;
    bool more;

    if (f8_json_peek(json) != '{')
        return f8_json_skip(json, OTHER_MAX_BYTES);
    for (status = f8_json_enter(json, '{', &more); status == F8_OK && more;
         status = f8_json_next(json, '}', &more)) {
        const char *key;
        status = take_key(json, &seen, &key);
        if (status == F8_OK && !strcmp(key, "total_size"))
            status = read_total_size(json, index);
        else if (status == F8_OK)
            status = f8_json_skip(json, OTHER_MAX_BYTES);
        if (status != F8_OK)
            break;
    }
    f8_buf_free(&seen);
    return status;
}

f8_status f8_index_read(f8_json *json, f8_index *index)
{
    bool more, saw_map = false;
    f8_buf seen = {0};
    f8_status status;

    memset(index, 0, sizeof *index);
    index->total_size = -1;
    for (status = f8_json_enter(json, '{', &more); status == F8_OK && more;
         status = f8_json_next(json, '}', &more)) {
        const char *key;
        status = take_key(json, &seen, &key);
        if (status == F8_OK && !strcmp(key, "weight_map")) {
            saw_map = true;
            status = read_weight_map(json, index);
        } else if (status == F8_OK && !strcmp(key, "metadata")) {
            status = read_metadata(json, index);
        } else if (status == F8_OK) {
            status = f8_json_skip(json, OTHER_MAX_BYTES);
        }
        if (status != F8_OK)
            break;
    }
    if (status == F8_OK)
        status = f8_json_finish(json);
    if (status == F8_OK && !saw_map)
        status = f8_fail(json->err, F8_ERR_FORMAT,
                         "%s: expected an object \"weight_map\"", json->label);
    f8_buf_free(&seen);
    return status;
}

void f8_index_free(f8_index *index)
{
    free(index->entries);
    free(index->files);
    f8_arena_free(&index->strings);
    memset(index, 0, sizeof *index);
}

const f8_index_entry *f8_index_find(const f8_index *index, const char *tensor)
{
    const f8_index_entry key = {.tensor = tensor};

    return index->count == 0 ? NULL
                             : bsearch(&key, index->entries, index->count,
                                       sizeof key, by_tensor);
}
