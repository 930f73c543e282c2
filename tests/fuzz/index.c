/* index.c - fuzz target: model.safetensors.index.json, read out of a file as
 * it is in use, so that the window's borders are met. What is accepted must be
 * what a plain reader over jansson's tree finds, entry for entry. */
#include "fuzz.h"

#include <jansson.h>
#include <sys/mman.h>
#include <unistd.h>

#include "index.h"

static bool plain(const char *name)
{
    return *name && strlen(name) <= 255 && !strchr(name, '/') &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Whether docs/format.md, section 1, accepts the tree. */
static bool reference(const json_t *tree)
{
    json_t *map = json_object_get(tree, "weight_map");
    const char *name;
    json_t *file;

    if (!json_is_object(map))
        return false;
    json_object_foreach(map, name, file)
    {
        if (strlen(name) > F8_NAME_MAX_BYTES || !json_is_string(file) ||
            !plain(json_string_value(file)))
            return false;
    }
    return true;
}

static void check_same(const f8_index *index, const json_t *tree)
{
    const json_t *map = json_object_get(tree, "weight_map");
    const json_t *size =
        json_object_get(json_object_get(tree, "metadata"), "total_size");

    require(index->count == json_object_size(map), "another number of tensors");
    for (size_t i = 0; i < index->count; i++) {
        const f8_index_entry *e = &index->entries[i];
        const char *file = json_string_value(json_object_get(map, e->tensor));
        require(file && !strcmp(file, e->file), "tensor %s", e->tensor);
        require(f8_index_find(index, e->tensor) == e, "cannot find %s",
                e->tensor);
    }
    for (size_t i = 1; i < index->files_count; i++)
        require(strcmp(index->files[i - 1], index->files[i]) < 0,
                "files are not sorted");
    if (json_is_integer(size))
        require(
            index->total_size ==
                (json_integer_value(size) < 0 ? -1 : json_integer_value(size)),
            "total_size %lld", (long long)index->total_size);
    else if (!json_is_real(size))
        require(index->total_size == -1, "a total_size");
}

/* More brackets, longer strings and more digits than one of the two takes; and
 * a NUL, which jansson overlooks behind a number. */
static bool readers_differ(const char *text, size_t n)
{
    size_t brackets = 0, digits = 0;

    for (size_t i = 0; i < n; i++) {
        brackets += text[i] == '[' || text[i] == '{';
        digits = text[i] >= '0' && text[i] <= '9' ? digits + 1 : 0;
        /* Real numbers that are too large are an error of jansson's. */
        if (digits >= 19 || !text[i] || brackets > F8_JSON_DEPTH ||
            (digits && (text[i + (i + 1 < n)] | 0x20) == 'e'))
            return true;
    }
    return n > 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    f8_json json;
    f8_index index = {0};
    f8_error err = {0};
    json_error_t why;

    if (fd < 0)
        fd = memfd_create("index", MFD_CLOEXEC);
    require(fd >= 0 && ftruncate(fd, 0) == 0 &&
                pwrite(fd, data, size, 0) == (ssize_t)size,
            "cannot write a memory file");
    f8_status status = f8_json_begin_file(&json, fd, 0, size, "f", "", &err);
    require(status == F8_OK, "%s", err.message);
    status = f8_index_read(&json, &index);
    json_t *tree =
        json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, &why);
    if (status == F8_OK) {
        require(f8_json_hash(&json) == f8_hash(F8_HASH_START, data, size),
                "another hash");
        require(tree || readers_differ((const char *)data, size),
                "accepted, but jansson says: %s", why.text);
        if (tree)
            check_same(&index, tree);
    } else {
        require(status == F8_ERR_FORMAT && !strncmp(err.message, "f: ", 3) &&
                    !strpbrk(err.message, "\n\r\033"),
                "status %d, '%s'", (int)status, err.message);
        require(!reference(tree) || readers_differ((const char *)data, size),
                "refused: %s", err.message);
    }
    json_decref(tree);
    f8_index_free(&index);
    f8_json_free(&json);
    return 0;
}
