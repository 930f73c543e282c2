/* header.c - fuzz target: the header of a safetensors file. The input is the
 * size of the data in two bytes, little-endian, and the header's text. What
 * our reader accepts must be what a plain reader over jansson's tree accepts,
 * and, written as we write it, must be read as the same again. */
#include "fuzz.h"

#include <jansson.h>

#include "safetensors.h"

/* ---- the plain reader ---------------------------------------------------- */

/* One entry by the rules of docs/format.md, section 1, without the tiling. */
static bool good_entry(const json_t *entry, uint64_t data_bytes)
{
    const json_t *dtype = json_object_get(entry, "dtype");
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0);
    const json_t *end = json_array_get(offsets, 1);
    uint64_t bytes = 1;
    f8_dtype known;

    if (!json_is_object(entry) || json_object_size(entry) != 3 ||
        !json_is_string(dtype) || !json_is_array(shape) ||
        json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end) ||
        !f8_dtype_parse(json_string_value(dtype), &known) ||
        json_array_size(shape) > F8_MAX_RANK)
        return false;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return false;
        if (!f8_mul_u64(bytes, (uint64_t)json_integer_value(dim), &bytes))
            return false;
    }
    if (!f8_mul_u64(bytes, f8_dtype_bytes(known), &bytes))
        return false;
    json_int_t from = json_integer_value(begin), to = json_integer_value(end);
    return from >= 0 && to >= from && (uint64_t)to <= data_bytes &&
           (uint64_t)(to - from) == bytes;
}

/* Every byte of the data belongs to one tensor. With less than 65,536 bytes
 * that can be counted; a tensor without any stands at a border of others. */
static bool good_tiling(json_t *tree, uint64_t data_bytes)
{
    static unsigned char owners[65537], inner[65537];
    const char *name;
    json_t *entry;
    bool good = true;

    memset(owners, 0, data_bytes + 1);
    memset(inner, 0, data_bytes + 1);
    json_object_foreach(tree, name, entry)
    {
        const json_t *offsets = json_object_get(entry, "data_offsets");
        if (!strcmp(name, "__metadata__"))
            continue;
        uint64_t begin =
            (uint64_t)json_integer_value(json_array_get(offsets, 0));
        uint64_t end = (uint64_t)json_integer_value(json_array_get(offsets, 1));
        for (uint64_t i = begin; i < end; i++) {
            good = good && !owners[i];
            owners[i] = 1;
            inner[i] = i > begin;
        }
    }
    for (uint64_t i = 0; i < data_bytes; i++)
        good = good && owners[i];
    json_object_foreach(tree, name, entry)
    {
        const json_t *offsets = json_object_get(entry, "data_offsets");
        if (strcmp(name, "__metadata__") != 0 &&
            inner[json_integer_value(json_array_get(offsets, 0))])
            good = false;
    }
    return good;
}

static bool reference(const char *text, size_t n, uint64_t data_bytes)
{
    json_error_t why;
    json_t *tree = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    bool good = json_is_object(tree);
    const char *name, *key;
    json_t *entry, *value;

    json_object_foreach(tree, name, entry)
    {
        if (strcmp(name, "__metadata__") != 0) {
            good = good && strlen(name) <= F8_NAME_MAX_BYTES &&
                   good_entry(entry, data_bytes);
            continue;
        }
        good = good && json_is_object(entry);
        json_object_foreach(entry, key, value) good =
            good && json_is_string(value);
    }
    good = good && good_tiling(tree, data_bytes);
    json_decref(tree);
    return good;
}

/* What jansson takes and we refuse: -0, and a NUL, which it overlooks behind a
 * number. */
static bool readers_differ(const char *text, size_t n)
{
    return memchr(text, '-', n) || memchr(text, '\0', n);
}

/* ---- the round trip ------------------------------------------------------ */

static void check_round_trip(const f8_tensor_list *list, uint64_t data_start,
                             uint64_t data_bytes)
{
    f8_buf text = {0};
    f8_arena names = {0};
    f8_tensor_list again = {0};
    f8_error err = {0};

    f8_st_header_begin(&text);
    for (size_t i = 0; i < list->count; i++) {
        const f8_tensor *t = &list->items[i];
        f8_st_header_add(&text, t->name, t->dtype, t->rank, t->shape,
                         t->offset - data_start,
                         t->offset - data_start + t->bytes);
    }
    f8_st_header_finish(&text);
    f8_status status = f8_st_parse_header(
        text.data + F8_ST_PREFIX_BYTES, text.length - F8_ST_PREFIX_BYTES,
        data_bytes, "f", &names, &again, &err);
    require(status == F8_OK, "written, it is refused: %s", err.message);
    require(again.count == list->count, "another number of tensors");
    for (size_t i = 0; i < list->count; i++) {
        const f8_tensor *x = &list->items[i], *y = &again.items[i];
        require(!strcmp(x->name, y->name) && x->dtype == y->dtype &&
                    x->rank == y->rank && x->elems == y->elems &&
                    x->bytes == y->bytes &&
                    x->offset - data_start == y->offset - text.length &&
                    !memcmp(x->shape, y->shape, sizeof x->shape),
                "tensor %s has changed", x->name);
    }
    free(again.items);
    f8_arena_free(&names);
    f8_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    f8_arena names = {0};
    f8_tensor_list list = {0};
    f8_error err = {0};

    if (size < 2)
        return -1;
    uint64_t data_bytes = (uint64_t)data[0] | (uint64_t)data[1] << 8;
    const char *text = (const char *)data + 2;
    size -= 2;
    f8_status status =
        f8_st_parse_header(text, size, data_bytes, "f", &names, &list, &err);
    require(status == F8_OK ||
                (status == F8_ERR_FORMAT && !strncmp(err.message, "f: ", 3) &&
                 !strpbrk(err.message, "\n\r\033")),
            "status %d, '%s'", (int)status, err.message);
    /* Of what is refused a fourth: the tree is what takes longest. */
    if (status == F8_OK || (size % 4 == 0 && !readers_differ(text, size))) {
        bool good = reference(text, size, data_bytes);
        require(status == F8_OK ? good || readers_differ(text, size) : !good,
                "the plain reader %s it, ours says '%s'",
                good ? "accepts" : "refuses", err.message);
    }
    if (status == F8_OK)
        check_round_trip(&list, F8_ST_PREFIX_BYTES + size, data_bytes);
    free(list.items);
    f8_arena_free(&names);
    return 0;
}
