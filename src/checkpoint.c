/* checkpoint.c - config, index and shards of a folder as one tensor list, all
 * three held against each other. See checkpoint.h. */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index.h"

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
    f8_index index;
    bool has_map; /* the index was read to its end */
} opening;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Whether there is anything of that name: a link that leads nowhere or round
 * in circles too, which opening it will say. What cannot be looked at is not
 * taken for absent. */
static f8_status look_for(const char *path, bool *there, f8_error *err)
{
    struct stat st;

    *there = lstat(path, &st) == 0;
    if (*there || errno == ENOENT)
        return F8_OK;
    return f8_fail_errno(err, errno, "%s: cannot stat", path);
}

/* config.json as a tree, and its bytes. Our parser has the first word, since it
 * is stricter and says more; the library's may still find a number too large.
 */
f8_status f8_json_object(const f8_buf *text, const char *label, json_t **out,
                         f8_error *err)
{
    /* When memory runs out early nobody fills it in. */
    json_error_t why = {.line = 0};
    f8_status status;
    f8_json json;

    *out = NULL;
    f8_json_begin(&json, text->data, text->length, label, NULL, err);
    if (f8_json_peek(&json) != '{')
        status = f8_json_expected(&json, "a JSON object");
    else
        status = f8_json_skip(&json, text->length);
    if (status == F8_OK)
        status = f8_json_finish(&json);
    f8_json_free(&json);
    if (status != F8_OK)
        return status;
    *out = json_loadb(text->data, text->length, JSON_REJECT_DUPLICATES, &why);
    if (*out)
        return F8_OK;
    /* That is all it can find fault with by now; when memory runs out it says
     * anything. */
    enum json_error_code code = json_error_code(&why);
    if (code == json_error_numeric_overflow ||
        code == json_error_null_character || code == json_error_stack_overflow)
        return f8_fail(err, F8_ERR_FORMAT, "%s:%d:%d: %s", label, why.line,
                       why.column, why.text);
    return f8_fail_nomem(err, label);
}

json_t *f8_json_copy(const json_t *value)
{
    json_t *copy = json_deep_copy(value);

    if (!copy || json_equal(copy, value))
        return copy;
    json_decref(copy); /* some versions lose members when memory runs out */
    return NULL;
}

static f8_status load_config(f8_checkpoint *cp, f8_error *err)
{
    f8_status status =
        f8_folder_read_file(&cp->folder, F8_CONFIG_NAME, F8_CONFIG_MAX_BYTES,
                            &cp->config_text, err);
    if (status == F8_OK)
        status =
            f8_json_object(&cp->config_text, F8_CONFIG_NAME, &cp->config, err);
    return status;
}

/* A folder without it may be one that quantize has not finished. To say so is
 * a courtesy: what cannot be looked at counts as not begun. */
static f8_status no_config(const opening *o)
{
    bool begun = false;
    char *journal = f8_path_join(o->cp->dir, F8_WORK_DIR "/journal.json");

    if (!journal)
        return f8_fail_nomem(o->err, "a path");
    (void)look_for(journal, &begun, NULL);
    free(journal);
    return f8_fail(o->err, F8_ERR_FORMAT, "%s: expected %s, found none%s",
                   o->cp->dir, F8_CONFIG_NAME,
                   begun ? "; a conversion into this folder is not finished, "
                           "the same command continues it"
                         : "");
}

static f8_status read_config(opening *o, bool required)
{
    f8_checkpoint *cp = o->cp;
    char *path = f8_path_join(cp->dir, F8_CONFIG_NAME);

    if (!path)
        return f8_fail_nomem(o->err, "a path");
    bool there;
    f8_status status = look_for(path, &there, o->err);
    if (status == F8_OK && required && !there)
        status = no_config(o);
    else if (status == F8_OK && there)
        status = load_config(cp, o->err);
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

/* The shards, by name. */
static f8_status set_files(opening *o, const char *const *names, size_t count)
{
    f8_checkpoint *cp = o->cp;

    cp->files = f8_alloc(count, sizeof *cp->files);
    for (size_t i = 0; cp->files && i < count; i++) {
        const char *copy =
            f8_arena_copy(&cp->strings, names[i], strlen(names[i]));
        if (!copy)
            return f8_fail_nomem(o->err, "the list of shards");
        cp->files[cp->files_count++] = (f8_shard_file){.name = copy};
    }
    return cp->files ? F8_OK : f8_fail_nomem(o->err, "the list of shards");
}

static f8_status read_index(opening *o)
{
    uint64_t bytes = 0;
    f8_json json = {0};
    int fd;

    f8_status status = f8_folder_open_file(&o->cp->folder, F8_INDEX_NAME, &fd,
                                           &bytes, NULL, o->err);
    if (status != F8_OK)
        return status;
    o->cp->has_index = true;
    if (bytes > F8_INDEX_MAX_BYTES)
        status = f8_fail(o->err, F8_ERR_FORMAT,
                         "%s: %llu bytes, expected at most %llu", F8_INDEX_NAME,
                         (unsigned long long)bytes,
                         (unsigned long long)F8_INDEX_MAX_BYTES);
    else
        status =
            f8_json_begin_file(&json, fd, 0, bytes, F8_INDEX_NAME, "", o->err);
    if (status == F8_OK)
        status = f8_index_read(&json, &o->index);
    f8_json_free(&json);
    close(fd);
    if (status != F8_OK)
        return status;
    o->has_map = true;
    o->cp->index_total_size = o->index.total_size;
    return set_files(o, o->index.files, o->index.files_count);
}

static f8_status find_files(opening *o)
{
    f8_checkpoint *cp = o->cp;
    const char *const single_name = F8_SINGLE_NAME;
    bool has_index = false, has_single = false;
    f8_status status;
    char *index = f8_path_join(cp->dir, F8_INDEX_NAME);
    char *single = f8_path_join(cp->dir, F8_SINGLE_NAME);

    if (!index || !single) {
        status = f8_fail_nomem(o->err, "a path");
        goto out;
    }
    status = look_for(index, &has_index, o->err);
    if (status == F8_OK && !has_index)
        status = look_for(single, &has_single, o->err);
    if (status == F8_OK && has_index)
        status = read_index(o);
    else if (status == F8_OK && has_single)
        status = set_files(o, &single_name, 1);
    else if (status == F8_OK)
        status = f8_fail(o->err, F8_ERR_FORMAT,
                         "%s: expected %s or %s, found neither", cp->dir,
                         F8_INDEX_NAME, F8_SINGLE_NAME);
out:
    free(single);
    free(index);
    return status;
}

/* Mistral's own form, which vLLM looks for before all else. */
static bool is_consolidated(const char *name)
{
    static const char start[] = "consolidated";

    return !strncmp(name, start, sizeof start - 1);
}

/* Who collects problems wants to know what loaders make of them. vLLM and
 * SGLang read all shards of the folder, or, of an index, those that it names;
 * transformers the one with the usual name, or else those of the index. Read in
 * vLLM 0.32.0 and SGLang 0.5.23 (_prepare_weights and
 * filter_duplicate_safetensors_files of model_loader) and transformers 5.23.0
 * (modeling_utils.py, _get_resolved_checkpoint_files). */
static const char *made_of_stray(const opening *o, const char *name)
{
    if (!o->problems)
        return "";
    if (is_consolidated(name))
        return "; vLLM reads it in place of all others";
    if (o->cp->has_index && !strcmp(name, F8_SINGLE_NAME))
        return "; transformers reads it in place of the shards";
    if (o->cp->has_index)
        return "; vLLM, SGLang and transformers do not read it and say nothing";
    return o->cp->files_count > 0
               ? "; vLLM and SGLang read it too, transformers does not"
               : "; vLLM and SGLang read it without one, transformers raises";
}

static f8_status tell_stray(opening *o, const char *name)
{
    const char *then = made_of_stray(o, name);

    if (o->cp->has_index)
        return f8_problem(o->problems, o->err,
                          "%s: lies beside the shards, but %s does not name "
                          "it%s",
                          name, F8_INDEX_NAME, then);
    if (o->cp->files_count > 0)
        return f8_problem(o->problems, o->err,
                          "%s: lies beside %s, but there is no %s%s", name,
                          F8_SINGLE_NAME, F8_INDEX_NAME, then);
    return f8_problem(o->problems, o->err, "%s: there is no %s that names it%s",
                      name, F8_INDEX_NAME, then);
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
    while (status == F8_OK && (errno = 0, entry = readdir(dir))) {
        f8_shard_file key = {.name = entry->d_name};
        if (!ends_with(entry->d_name, ".safetensors"))
            continue;
        if (cp->files_count == 0 || !bsearch(&key, cp->files, cp->files_count,
                                             sizeof key, by_file_name))
            status = tell_stray(o, entry->d_name);
    }
    if (status == F8_OK && errno != 0)
        status = f8_fail_errno(o->err, errno, "%s: cannot list", cp->dir);
    closedir(dir);
    return status;
}

static f8_status read_shard(opening *o, uint32_t i)
{
    f8_checkpoint *cp = o->cp;
    f8_shard_file *file = &cp->files[i];
    size_t before = cp->tensors.count;
    int fd = -1;

    f8_status status = f8_folder_open_file(
        &cp->folder, file->name, &fd, &file->bytes, &file->mtime_ns, o->err);
    if (status == F8_ERR_IO && o->err && o->err->sys_errno == ENOENT &&
        cp->has_index)
        status = f8_fail(o->err, F8_ERR_FORMAT,
                         "%s: the index names this file, but it is missing%s",
                         file->name, o->problems ? "; all loaders raise" : "");
    if (status == F8_OK)
        status = f8_st_read_header(fd, file->bytes, file->name, i, &cp->strings,
                                   &cp->tensors, &file->head, o->err);
    if (status != F8_OK) {
        cp->tensors.count = before;
        cp->has_gaps = true;
    }
    if (fd >= 0)
        close(fd);
    return f8_problem_from(o->problems, status, o->err);
}

/* Of equal names the first that was read comes first. */
static int by_name(const void *a, const void *b)
{
    const f8_tensor *const *x = a, *const *y = b;
    int order = strcmp((*x)->name, (*y)->name);

    return order ? order : (*x > *y) - (*x < *y);
}

/* Of a tensor that stands in several shards the one that the index means is
 * put first, and so is the one that is found by its name. */
static void put_meant_first(opening *o)
{
    f8_tensor **t = o->cp->by_name;
    size_t count = o->cp->tensors.count;

    for (size_t first = 0, i = 1; i < count; i++) {
        if (strcmp(t[first]->name, t[i]->name) != 0) {
            first = i;
            continue;
        }
        const f8_index_entry *said = f8_index_find(&o->index, t[i]->name);
        if (said && !strcmp(said->file, o->cp->files[t[i]->file].name)) {
            f8_tensor *meant = t[i];
            t[i] = t[first];
            t[first] = meant;
        }
    }
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
        if (!f8_add_u64(cp->tensor_bytes, cp->tensors.items[i].bytes,
                        &cp->tensor_bytes) ||
            cp->tensor_bytes > F8_DATA_MAX_BYTES)
            return f8_fail(o->err, F8_ERR_FORMAT,
                           "%s: expected tensors of at most %llu bytes in all, "
                           "found more",
                           cp->dir, (unsigned long long)F8_DATA_MAX_BYTES);
    }
    if (count > 0)
        qsort(cp->by_name, count, sizeof *cp->by_name, by_name);
    put_meant_first(o);
    return F8_OK;
}

/* One that the index puts into another shard, where it may be as well. */
static f8_status tell_misplaced(opening *o, const f8_tensor *t,
                                const char *said)
{
    const f8_checkpoint *cp = o->cp;
    const f8_tensor *found = f8_checkpoint_find(cp, t->name);
    bool twice = found && !strcmp(cp->files[found->file].name, said);

    return f8_problem(
        o->problems, o->err, "%s: tensor %s is here%s, %s puts it in %s%s",
        cp->files[t->file].name, t->name, twice ? " too" : "", F8_INDEX_NAME,
        said, twice && o->problems ? "; loaders take either" : "");
}

/* Every tensor of a shard stands in the index with that shard's name. */
static f8_status check_shards_against_index(opening *o)
{
    const f8_checkpoint *cp = o->cp;
    f8_status status = F8_OK;

    for (size_t i = 0; i < cp->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        const char *file = cp->files[t->file].name;
        const f8_index_entry *said = f8_index_find(&o->index, t->name);
        if (!said)
            status =
                f8_problem(o->problems, o->err, "%s: tensor %s is not in %s",
                           file, t->name, F8_INDEX_NAME);
        else if (strcmp(said->file, file) != 0)
            status = tell_misplaced(o, t, said->file);
    }
    return status;
}

/* Every tensor of the index is in the shard it names. */
static f8_status check_index_against_shards(opening *o)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < o->index.count && status == F8_OK; i++) {
        const f8_index_entry *e = &o->index.entries[i];
        if (!f8_checkpoint_find(o->cp, e->tensor))
            status = f8_problem(o->problems, o->err,
                                "%s: tensor %s is missing from %s",
                                F8_INDEX_NAME, e->tensor, e->file);
    }
    return status;
}

static f8_status check_index(opening *o)
{
    const f8_checkpoint *cp = o->cp;

    if (!o->has_map)
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
    cp->folder = F8_FOLDER_NONE;
    cp->dir = strdup(dir);
    if (!cp->dir) {
        free(cp);
        return NULL;
    }
    return cp;
}

f8_status f8_checkpoint_open(const char *dir, int flags, f8_problems *problems,
                             f8_checkpoint **checkpoint, f8_error *err)
{
    /* The checks read what was said, so there must be one. */
    f8_error own = {0};
    opening o = {.cp = new_checkpoint(dir),
                 .problems = problems,
                 .err = err ? err : &own};

    *checkpoint = NULL;
    if (!o.cp)
        return f8_fail_nomem(err, "a checkpoint");
    f8_status status = f8_folder_open(dir, (flags & F8_OPEN_FOLLOW_LINKS) != 0,
                                      &o.cp->folder, o.err);
    if (status == F8_OK)
        status = read_config(&o, (flags & F8_OPEN_CONFIG) != 0);
    if (status == F8_OK) {
        status = find_files(&o);
        o.cp->has_gaps = status != F8_OK;
        status = f8_problem_from(problems, status, o.err);
    }
    if (status == F8_OK)
        status = check_strays(&o);
    for (uint32_t i = 0; i < o.cp->files_count && status == F8_OK; i++)
        status = read_shard(&o, i);
    if (status == F8_OK)
        status = sort_names(&o);
    if (status == F8_OK)
        status = check_index(&o);
    f8_index_free(&o.index);
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
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    const char *name = slash ? slash + 1 : path;
    opening o = {.cp = dir ? new_checkpoint(dir) : NULL, .err = err};

    *checkpoint = NULL;
    free(dir);
    if (!o.cp)
        return f8_fail_nomem(err, "a checkpoint");
    f8_status status = f8_folder_open(o.cp->dir, true, &o.cp->folder, err);
    if (status == F8_OK)
        status = set_files(&o, &name, 1);
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
    f8_folder_close(&cp->folder);
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
    size_t low = 0, high = cp->tensors.count;

    /* The first of equal names, which bsearch does not promise. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(cp->by_name[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    bool found =
        low < cp->tensors.count && !strcmp(cp->by_name[low]->name, name);
    return found ? cp->by_name[low] : NULL;
}

#define PLACE(key)                             \
    {NULL, key, key},                          \
    {                                          \
        "text_config", key, "text_config." key \
    }
const f8_quantization_place f8_quantization_places[F8_QUANTIZATION_PLACES] = {
    PLACE("quantization_config"), PLACE("compression_config")};

uint64_t f8_checkpoint_number(const f8_checkpoint *cp, const char *key)
{
    const json_t *value =
        json_object_get(json_object_get(cp->config, "text_config"), key);

    if (!value)
        value = json_object_get(cp->config, key);
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : 0;
    return n > 0 ? (uint64_t)n : 0;
}

const json_t *f8_checkpoint_tied(const f8_checkpoint *cp)
{
    static const char key[] = "tie_word_embeddings";
    const json_t *value = json_object_get(cp->config, key);

    if (!json_is_boolean(value))
        value =
            json_object_get(json_object_get(cp->config, "text_config"), key);
    return json_is_boolean(value) ? value : NULL;
}

const json_t *f8_checkpoint_quantization_at(const f8_checkpoint *cp,
                                            const f8_quantization_place *place)
{
    const json_t *around =
        place->outer ? json_object_get(cp->config, place->outer) : cp->config;

    return json_object_get(around, place->key);
}

const json_t *f8_checkpoint_quantization(const f8_checkpoint *cp,
                                         const char **where)
{
    for (int i = 0; i < F8_QUANTIZATION_PLACES; i++) {
        const json_t *found =
            f8_checkpoint_quantization_at(cp, &f8_quantization_places[i]);
        *where = f8_quantization_places[i].where;
        if (found) /* null too: our own would be a second of that name */
            return found;
    }
    return NULL;
}
