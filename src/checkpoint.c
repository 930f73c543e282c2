/* checkpoint.c - config, index and shards of a folder as one tensor list, all
 * three held against each other. See checkpoint.h. */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An index of the largest models (100,000 tensors) has about 10 MB. */
#define INDEX_MAX_BYTES UINT64_C(100000000)
#define CONFIG_MAX_BYTES UINT64_C(16000000)

/* ---- problems ------------------------------------------------------------ */

f8_status f8_problem(f8_problems *problems, f8_error *err, const char *format,
                     ...)
{
    char line[sizeof err->message];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!problems)
        return f8_fail(err, F8_ERR_FORMAT, "%s", line);
    problems->total++;
    if (problems->count >= F8_PROBLEMS_KEPT)
        return F8_OK;
    /* Through an error, which makes the line safe to print. */
    f8_error clean;
    f8_fail(&clean, F8_ERR_FORMAT, "%s", line);
    char *copy =
        f8_arena_copy(&problems->strings, clean.message, strlen(clean.message));
    if (!copy || !f8_grow((void **)&problems->lines, &problems->capacity,
                          problems->count, sizeof *problems->lines))
        return f8_fail_nomem(err, "the list of faults");
    problems->lines[problems->count++] = copy;
    return F8_OK;
}

f8_status f8_problem_from(f8_problems *problems, f8_status status,
                          f8_error *err)
{
    f8_error none;

    if (status != F8_ERR_FORMAT || !problems || !err)
        return status;
    /* The message is copied: err may be filled again while it is noted. */
    none = *err;
    return f8_problem(problems, err, "%s", none.message);
}

void f8_problems_free(f8_problems *problems)
{
    free(problems->lines);
    f8_arena_free(&problems->strings);
    memset(problems, 0, sizeof *problems);
}

/* ---- pieces -------------------------------------------------------------- */

typedef struct opening {
    f8_checkpoint *cp;
    f8_problems *problems;
    f8_error *err;
    json_t *index; /* the whole document */
    json_t *map;   /* its weight_map */
} opening;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* A small JSON document that must be an object. *text keeps the bytes. */
static f8_status load_json(const char *path, const char *name,
                           uint64_t max_bytes, f8_buf *text, json_t **out,
                           f8_error *err)
{
    json_error_t why;

    *out = NULL;
    f8_status status = f8_read_file(path, max_bytes, text, err);
    if (status != F8_OK)
        return status;
    if (!strncmp(text->data, "\xef\xbb\xbf", 3))
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s: not valid JSON: begins with a byte order mark",
                       name);
    *out = json_loadb(text->data, text->length, JSON_REJECT_DUPLICATES, &why);
    if (!*out)
        return f8_fail(err, F8_ERR_FORMAT, "%s:%d:%d: not valid JSON: %s", name,
                       why.line, why.column, why.text);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return f8_fail(err, F8_ERR_FORMAT, "%s: expected a JSON object", name);
    }
    return F8_OK;
}

static f8_status read_config(opening *o, bool required)
{
    f8_checkpoint *cp = o->cp;
    char *path = f8_path_join(cp->dir, F8_CONFIG_NAME);

    if (!path)
        return f8_fail_nomem(o->err, "a path");
    f8_status status = F8_OK;
    bool there = access(path, F_OK) == 0;
    if (required && !there)
        status = f8_fail(o->err, F8_ERR_FORMAT, "%s: expected %s, found none",
                         cp->dir, F8_CONFIG_NAME);
    else if (there)
        status = load_json(path, F8_CONFIG_NAME, CONFIG_MAX_BYTES,
                           &cp->config_text, &cp->config, o->err);
    const json_t *type = json_object_get(cp->config, "model_type");
    if (status == F8_OK && json_is_string(type))
        cp->model_type = json_string_value(type);
    else if (status == F8_OK && cp->config && required)
        status =
            f8_problem(o->problems, o->err,
                       "%s: expected a string \"model_type\"", F8_CONFIG_NAME);
    free(path);
    return f8_problem_from(o->problems, status, o->err);
}

static int by_file_name(const void *a, const void *b)
{
    const f8_shard_file *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Appends a shard's name; duplicates are dropped later, after sorting. */
static f8_status add_file(opening *o, size_t *capacity, const char *name)
{
    f8_checkpoint *cp = o->cp;
    const char *copy = f8_arena_copy(&cp->strings, name, strlen(name));

    if (!copy || !f8_grow((void **)&cp->files, capacity, cp->files_count,
                          sizeof *cp->files))
        return f8_fail_nomem(o->err, "the list of shards");
    cp->files[cp->files_count++] = (f8_shard_file){.name = copy};
    return F8_OK;
}

static void sort_files(f8_checkpoint *cp)
{
    uint32_t kept = 0;

    if (cp->files_count == 0)
        return;
    qsort(cp->files, cp->files_count, sizeof *cp->files, by_file_name);
    for (uint32_t i = 1; i < cp->files_count; i++) {
        if (strcmp(cp->files[kept].name, cp->files[i].name) != 0)
            cp->files[++kept] = cp->files[i];
    }
    cp->files_count = kept + 1;
}

static bool is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* The shards that the index names. */
static f8_status files_of_index(opening *o)
{
    const char *tensor, *before = "";
    json_t *file;
    size_t capacity = 0;

    json_object_foreach(o->map, tensor, file)
    {
        const char *name = json_string_value(file);
        f8_status status = F8_OK;
        if (!name || !is_plain_name(name))
            status = f8_problem(o->problems, o->err,
                                "%s: weight_map: tensor %s: expected a plain "
                                "file name, found %s",
                                F8_INDEX_NAME, tensor,
                                name ? name : "something else");
        else if (strcmp(name, before) != 0)
            status = add_file(o, &capacity, before = name);
        if (status != F8_OK)
            return status;
    }
    sort_files(o->cp);
    return F8_OK;
}

static f8_status read_index(opening *o, const char *path)
{
    f8_buf text = {0};

    f8_status status = load_json(path, F8_INDEX_NAME, INDEX_MAX_BYTES, &text,
                                 &o->index, o->err);
    f8_buf_free(&text);
    if (status != F8_OK)
        return status;
    o->cp->has_index = true;
    json_t *map = json_object_get(o->index, "weight_map");
    if (!json_is_object(map))
        return f8_fail(o->err, F8_ERR_FORMAT,
                       "%s: expected an object \"weight_map\"", F8_INDEX_NAME);
    o->map = map;
    const json_t *total =
        json_object_get(json_object_get(o->index, "metadata"), "total_size");
    if (json_is_integer(total))
        o->cp->index_total_size = json_integer_value(total);
    else if (json_is_real(total) && json_real_value(total) >= 0 &&
             json_real_value(total) < 0x1p63) /* some writers print 7.1e10 */
        o->cp->index_total_size = (int64_t)json_real_value(total);
    return files_of_index(o);
}

static f8_status find_files(opening *o)
{
    f8_checkpoint *cp = o->cp;
    size_t capacity = 0;
    f8_status status = F8_OK;
    char *index = f8_path_join(cp->dir, F8_INDEX_NAME);
    char *single = f8_path_join(cp->dir, F8_SINGLE_NAME);

    if (!index || !single)
        status = f8_fail_nomem(o->err, "a path");
    else if (access(index, F_OK) == 0)
        status = read_index(o, index);
    else if (access(single, F_OK) == 0)
        status = add_file(o, &capacity, F8_SINGLE_NAME);
    else
        status = f8_fail(o->err, F8_ERR_FORMAT,
                         "%s: expected %s or %s, found neither", cp->dir,
                         F8_INDEX_NAME, F8_SINGLE_NAME);
    free(single);
    free(index);
    return status;
}

/* A shard that the index does not name is loaded by nobody, and nobody says
 * so: refuse to guess what it is. */
static f8_status check_strays(opening *o)
{
    f8_checkpoint *cp = o->cp;
    f8_status status = F8_OK;
    DIR *dir = opendir(cp->dir);
    const struct dirent *entry;

    if (!dir)
        return f8_fail_errno(o->err, errno, "%s: cannot list", cp->dir);
    /* No other thread has this stream.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while (status == F8_OK && (entry = readdir(dir))) {
        f8_shard_file key = {.name = entry->d_name};
        if (!ends_with(entry->d_name, ".safetensors"))
            continue;
        if (cp->files_count == 0 || !bsearch(&key, cp->files, cp->files_count,
                                             sizeof key, by_file_name))
            status =
                cp->has_index
                    ? f8_problem(o->problems, o->err,
                                 "%s: lies beside the shards, but %s does "
                                 "not name it",
                                 entry->d_name, F8_INDEX_NAME)
                    : f8_problem(o->problems, o->err,
                                 "%s: lies beside %s, but there is no %s",
                                 entry->d_name, F8_SINGLE_NAME, F8_INDEX_NAME);
    }
    closedir(dir);
    return status;
}

static f8_status read_shard(opening *o, uint32_t i)
{
    f8_checkpoint *cp = o->cp;
    f8_shard_file *file = &cp->files[i];
    size_t before = cp->tensors.count;
    int fd = -1;
    char *path = f8_path_join(cp->dir, file->name);

    if (!path)
        return f8_fail_nomem(o->err, "a path");
    f8_status status =
        f8_open_read(path, &fd, &file->bytes, &file->mtime_ns, o->err);
    if (status == F8_ERR_IO && o->err && o->err->sys_errno == ENOENT &&
        cp->has_index)
        status = f8_fail(o->err, F8_ERR_FORMAT,
                         "%s: the index names this file, but it is missing",
                         file->name);
    if (status == F8_OK)
        status = f8_st_read_header(fd, file->bytes, file->name, i, &cp->strings,
                                   &cp->tensors, &file->header_hash, o->err);
    if (status != F8_OK)
        cp->tensors.count = before;
    if (fd >= 0)
        close(fd);
    free(path);
    return f8_problem_from(o->problems, status, o->err);
}

static int by_name(const void *a, const void *b)
{
    const f8_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static f8_status sort_names(opening *o)
{
    f8_checkpoint *cp = o->cp;
    size_t count = cp->tensors.count;

    cp->by_name = f8_alloc(count, sizeof *cp->by_name);
    if (!cp->by_name)
        return f8_fail_nomem(o->err, "the tensor list");
    for (size_t i = 0; i < count; i++) {
        cp->by_name[i] = &cp->tensors.items[i];
        cp->tensor_bytes += cp->tensors.items[i].bytes;
    }
    if (count > 0)
        qsort(cp->by_name, count, sizeof *cp->by_name, by_name);
    return F8_OK;
}

/* Every tensor of a shard stands in the index with that shard's name. */
static f8_status check_shards_against_index(opening *o)
{
    const f8_checkpoint *cp = o->cp;
    f8_status status = F8_OK;

    for (size_t i = 0; i < cp->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        const char *file = cp->files[t->file].name;
        const char *said = json_string_value(json_object_get(o->map, t->name));
        if (!said)
            status =
                f8_problem(o->problems, o->err, "%s: tensor %s is not in %s",
                           file, t->name, F8_INDEX_NAME);
        else if (strcmp(said, file) != 0)
            status = f8_problem(o->problems, o->err,
                                "%s: tensor %s is here, %s puts it in %s", file,
                                t->name, F8_INDEX_NAME, said);
    }
    return status;
}

/* Every tensor of the index is in the shard it names. */
static f8_status check_index_against_shards(opening *o)
{
    const char *name;
    json_t *file;

    json_object_foreach(o->map, name, file)
    {
        if (f8_checkpoint_find(o->cp, name))
            continue;
        f8_status status = f8_problem(
            o->problems, o->err, "%s: tensor %s is missing from %s",
            F8_INDEX_NAME, name,
            json_string_value(file) ? json_string_value(file) : "its shard");
        if (status != F8_OK)
            return status;
    }
    return F8_OK;
}

static f8_status check_index(opening *o)
{
    const f8_checkpoint *cp = o->cp;

    if (!o->map)
        return F8_OK;
    /* Wrong in many a published index, and no loader minds: a fault of a
     * result, but no reason to refuse a source. */
    if (o->problems && (uint64_t)cp->index_total_size != cp->tensor_bytes) {
        f8_status noted =
            cp->index_total_size < 0
                ? f8_problem(o->problems, o->err,
                             "%s: expected total_size %llu, found none",
                             F8_INDEX_NAME,
                             (unsigned long long)cp->tensor_bytes)
                : f8_problem(o->problems, o->err,
                             "%s: expected total_size %llu, found %lld",
                             F8_INDEX_NAME,
                             (unsigned long long)cp->tensor_bytes,
                             (long long)cp->index_total_size);
        if (noted != F8_OK)
            return noted;
    }
    f8_status status = check_shards_against_index(o);
    if (status == F8_OK)
        status = check_index_against_shards(o);
    return status;
}

/* ---- opening ------------------------------------------------------------- */

static f8_checkpoint *new_checkpoint(const char *dir)
{
    f8_checkpoint *cp = f8_alloc(1, sizeof *cp);

    if (!cp)
        return NULL;
    cp->model_type = "";
    cp->index_total_size = -1;
    cp->dir = strdup(dir);
    if (!cp->dir) {
        free(cp);
        return NULL;
    }
    return cp;
}

f8_status f8_checkpoint_open(const char *dir, bool need_config,
                             f8_problems *problems, f8_checkpoint **checkpoint,
                             f8_error *err)
{
    /* The checks read what was said, so there must be one. */
    f8_error own = {0};
    opening o = {.cp = new_checkpoint(dir),
                 .problems = problems,
                 .err = err ? err : &own};

    *checkpoint = NULL;
    if (!o.cp)
        return f8_fail_nomem(err, "a checkpoint");
    f8_status status = F8_OK;
    DIR *probe = opendir(dir);
    if (!probe)
        status = f8_fail_errno(err, errno, "%s: cannot open the folder", dir);
    else
        closedir(probe);
    if (status == F8_OK)
        status = read_config(&o, need_config);
    if (status == F8_OK)
        status = f8_problem_from(problems, find_files(&o), o.err);
    if (status == F8_OK)
        status = check_strays(&o);
    for (uint32_t i = 0; i < o.cp->files_count && status == F8_OK; i++)
        status = read_shard(&o, i);
    if (status == F8_OK)
        status = sort_names(&o);
    if (status == F8_OK)
        status = check_index(&o);
    json_decref(o.index);
    if (status == F8_OK)
        *checkpoint = o.cp;
    else
        f8_checkpoint_free(o.cp);
    return status;
}

f8_status f8_checkpoint_open_file(const char *path, f8_checkpoint **checkpoint,
                                  f8_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t capacity = 0;
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    opening o = {.cp = dir ? new_checkpoint(dir) : NULL, .err = err};

    *checkpoint = NULL;
    free(dir);
    if (!o.cp)
        return f8_fail_nomem(err, "a checkpoint");
    f8_status status = add_file(&o, &capacity, slash ? slash + 1 : path);
    if (status == F8_OK)
        status = read_shard(&o, 0);
    if (status == F8_OK)
        status = sort_names(&o);
    if (status == F8_OK)
        *checkpoint = o.cp;
    else
        f8_checkpoint_free(o.cp);
    return status;
}

void f8_checkpoint_free(f8_checkpoint *cp)
{
    if (!cp)
        return;
    free(cp->dir);
    free(cp->files);
    free(cp->tensors.items);
    free(cp->by_name);
    f8_buf_free(&cp->config_text);
    json_decref(cp->config);
    f8_arena_free(&cp->strings);
    free(cp);
}

const f8_tensor *f8_checkpoint_find(const f8_checkpoint *cp, const char *name)
{
    f8_tensor key = {.name = name};
    const f8_tensor *at = &key;

    if (cp->tensors.count == 0)
        return NULL;
    f8_tensor **found = bsearch(&at, cp->by_name, cp->tensors.count,
                                sizeof *cp->by_name, by_name);
    return found ? *found : NULL;
}

const json_t *f8_checkpoint_quantization(const f8_checkpoint *cp,
                                         const char **where)
{
    static const char *const keys[] = {"quantization_config",
                                       "compression_config"};
    static const char *const inner[] = {"text_config.quantization_config",
                                        "text_config.compression_config"};
    const json_t *text = json_object_get(cp->config, "text_config");

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        *where = keys[i];
        const json_t *found = json_object_get(cp->config, keys[i]);
        if (found) /* null too: our own would be a second of that name */
            return found;
        *where = inner[i];
        found = json_object_get(text, keys[i]);
        if (found)
            return found;
    }
    return NULL;
}
