/* synth.c - writes a checkpoint of random numbers with the layout of a real
 * model. layout.c says which tensors and files there are; here they get their
 * values and go to disk, shard after shard, a shard by several threads.
 *
 * values.c makes the numbers; each depends on its place alone, so that the
 * threads may take pieces in any order. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layout.h"
#include "safetensors.h"

#define SHARD_BYTES UINT64_C(5000000000)
#define CHUNK_BYTES ((size_t)1 << 20) /* one write; one buffer a thread */
#define THREADS_MAX 16 /* generating outruns any disk long before that */
#define TEMPORARY ".fp8cast-synth.tmp"
#define INDEX_NAME "model.safetensors.index.json"

typedef struct shard {
    size_t first, count; /* tensors of the layout */
    uint64_t bytes;
} shard;

/* A piece of one tensor that fits a buffer. */
typedef struct chunk {
    const f8_layout_tensor *tensor;
    uint64_t first; /* element */
    size_t elems;
    uint64_t offset; /* in the file */
} chunk;

typedef struct synth {
    const char *dir;
    f8_synth_options options;
    f8_layout layout;
    shard *shards;
    size_t shard_count;
    unsigned threads;
    unsigned char *buffers; /* `threads` times CHUNK_BYTES */

    /* The shard being written; set before its threads start. */
    int fd;
    const char *path;
    const shard *shard;

    pthread_mutex_t lock; /* guards all below; held for the callback too */
    size_t tensor;        /* next to hand out, from `first` of the shard */
    uint64_t elem;        /* next of that tensor                         */
    uint64_t offset;      /* of that element in the file                 */
    f8_progress progress;
    f8_status status; /* the first failure; the others drain */
    f8_error error;
} synth;

/* ---- the threads of one shard ------------------------------------------ */

/* False when nothing is left, or something failed. */
static bool take_chunk(synth *s, chunk *c)
{
    pthread_mutex_lock(&s->lock);
    bool more =
        s->status == F8_OK && s->tensor < s->shard->first + s->shard->count;
    if (more) {
        const f8_layout_tensor *t = &s->layout.tensors[s->tensor];
        size_t elem_bytes = f8_dtype_bytes(t->dtype);
        uint64_t left = t->elems - s->elem;
        size_t n = CHUNK_BYTES / elem_bytes;
        if (n > left)
            n = (size_t)left;
        *c = (chunk){t, s->elem, n, s->offset};
        s->elem += n;
        s->offset += n * elem_bytes;
        if (s->elem == t->elems) {
            s->tensor++;
            s->elem = 0;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return more;
}

/* Counts what has been done and tells the caller. `finished` as in
 * f8_progress. The lock is held. */
static void report(synth *s, uint64_t bytes, const char *finished)
{
    s->progress.bytes_done += bytes;
    s->progress.shards_done += finished != NULL;
    s->progress.finished = finished;
    if (s->status == F8_OK && s->options.progress != NULL &&
        s->options.progress(s->options.progress_user, &s->progress) != 0)
        s->status = f8_fail(&s->error, F8_ERR_CANCELLED,
                            "%s: stopped after %llu of %llu bytes", s->dir,
                            (unsigned long long)s->progress.bytes_done,
                            (unsigned long long)s->progress.bytes_total);
}

static void finish_chunk(synth *s, uint64_t bytes, f8_status status,
                         const f8_error *error)
{
    pthread_mutex_lock(&s->lock);
    if (status == F8_OK) {
        report(s, bytes, NULL);
    } else if (s->status == F8_OK) {
        s->status = status;
        s->error = *error;
    }
    pthread_mutex_unlock(&s->lock);
}

typedef struct worker {
    synth *synth;
    unsigned char *buffer;
    pthread_t thread;
} worker;

static void *work(void *argument)
{
    const worker *w = argument;
    synth *s = w->synth;
    chunk c;
    while (take_chunk(s, &c)) {
        f8_error error = {0};
        size_t bytes = c.elems * f8_dtype_bytes(c.tensor->dtype);
        f8_values_fill(&c.tensor->values, c.tensor->name, c.tensor->dtype,
                       s->options.seed, c.first, c.elems, w->buffer);
        f8_status status =
            f8_write_at(s->fd, w->buffer, bytes, c.offset, s->path, &error);
        finish_chunk(s, bytes, status, &error);
    }
    return NULL;
}

/* Writes the data of s->shard behind a header of header_bytes. */
static f8_status write_data(synth *s, uint64_t header_bytes, f8_error *err)
{
    worker workers[THREADS_MAX] = {0};
    unsigned started = 1;
    assert(s->threads > 0);
    s->tensor = s->shard->first;
    s->elem = 0;
    s->offset = header_bytes;
    for (unsigned i = 0; i < s->threads; i++)
        workers[i] = (worker){s, s->buffers + i * CHUNK_BYTES, 0};
    /* A thread that cannot be had is no failure: the others do its work, this
     * one among them. */
    while (started < s->threads &&
           pthread_create(&workers[started].thread, NULL, work,
                          &workers[started]) == 0)
        started++;
    work(&workers[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    if (s->status != F8_OK && err != NULL)
        *err = s->error;
    return s->status;
}

/* ---- shards ------------------------------------------------------------ */

static void shard_name(const synth *s, size_t i, char *name, size_t size)
{
    if (s->shard_count == 1)
        snprintf(name, size, "model.safetensors");
    else
        snprintf(name, size, "model-%05zu-of-%05zu.safetensors", i + 1,
                 s->shard_count);
}

static f8_status add_shard(synth *s, size_t *capacity, size_t first,
                           size_t count, uint64_t bytes, f8_error *err)
{
    if (!f8_grow((void **)&s->shards, capacity, s->shard_count,
                 sizeof *s->shards))
        return f8_fail_nomem(err, "the list of shards");
    s->shards[s->shard_count++] = (shard){first, count, bytes};
    return F8_OK;
}

/* As many tensors a shard as SHARD_BYTES take; a larger one is alone. */
static f8_status fill_shards(synth *s, f8_error *err)
{
    size_t capacity = 0, first = 0;
    uint64_t bytes = 0;
    f8_status status = F8_OK;
    for (size_t i = 0; status == F8_OK && i < s->layout.tensor_count; i++) {
        uint64_t more = s->layout.tensors[i].bytes;
        if (i > first && bytes + more > SHARD_BYTES) {
            status = add_shard(s, &capacity, first, i - first, bytes, err);
            first = i;
            bytes = 0;
        }
        bytes += more;
    }
    if (status == F8_OK)
        status = add_shard(s, &capacity, first, s->layout.tensor_count - first,
                           bytes, err);
    return status;
}

/* Exactly `count` shards: each ends at the tensor boundary that is nearest to
 * its share of the bytes and leaves a tensor for every later shard. */
static f8_status divide_shards(synth *s, uint64_t count, f8_error *err)
{
    size_t tensors = s->layout.tensor_count;
    if (count > tensors)
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "%llu shards asked for, but there are only %zu tensors",
                       (unsigned long long)count, tensors);
    size_t capacity = 0, at = 0;
    uint64_t share = s->layout.bytes / count, rest = s->layout.bytes % count;
    uint64_t sum = 0;
    f8_status status = F8_OK;
    for (uint64_t k = 0; status == F8_OK && k < count; k++) {
        uint64_t target = share * (k + 1) + rest * (k + 1) / count;
        size_t first = at, last = tensors - (size_t)(count - 1 - k);
        uint64_t before = sum;
        do {
            sum += s->layout.tensors[at++].bytes;
        } while (at < last &&
                 (k == count - 1 ||
                  sum + s->layout.tensors[at].bytes / 2 <= target));
        status = add_shard(s, &capacity, first, at - first, sum - before, err);
    }
    return status;
}

static f8_status write_header(synth *s, uint64_t *bytes, f8_error *err)
{
    f8_buf header = {0};
    uint64_t begin = 0;
    f8_st_header_begin(&header);
    for (size_t i = 0; i < s->shard->count; i++) {
        const f8_layout_tensor *t = &s->layout.tensors[s->shard->first + i];
        f8_st_header_add(&header, t->name, t->dtype, t->rank, t->shape, begin,
                         begin + t->bytes);
        begin += t->bytes;
    }
    f8_st_header_finish(&header);
    *bytes = header.length;
    f8_status status;
    if (header.failed)
        status = f8_fail_nomem(err, "the header of a shard");
    else if (header.length - 8 > F8_ST_HEADER_MAX_BYTES)
        status = f8_fail(err, F8_ERR_ARGUMENT,
                         "a header of %zu bytes, no reader takes more than "
                         "%llu: ask for more shards",
                         header.length - 8,
                         (unsigned long long)F8_ST_HEADER_MAX_BYTES);
    else
        status =
            f8_write_at(s->fd, header.data, header.length, 0, s->path, err);
    f8_buf_free(&header);
    return status;
}

/* The open file s->fd: header and data, or header and a hole. */
static f8_status write_contents(synth *s, f8_error *err)
{
    uint64_t header_bytes = 0;
    f8_status status = write_header(s, &header_bytes, err);
    if (status != F8_OK)
        return status;
    if (!s->options.sparse)
        return write_data(s, header_bytes, err);
    if (ftruncate(s->fd, (off_t)(header_bytes + s->shard->bytes)) != 0)
        return f8_fail_errno(
            err, errno, "%s: making it %llu bytes long", s->path,
            (unsigned long long)(header_bytes + s->shard->bytes));
    s->progress.bytes_done += s->shard->bytes;
    return F8_OK;
}

static f8_status write_shard(synth *s, size_t i, f8_error *err)
{
    char name[64];
    shard_name(s, i, name, sizeof name);
    char *temporary = f8_path_join(s->dir, TEMPORARY);
    char *path = f8_path_join(s->dir, name);
    f8_status status = F8_OK;
    s->shard = &s->shards[i];
    s->path = path;
    s->fd = -1;
    if (temporary == NULL || path == NULL)
        status = f8_fail_nomem(err, "a path");
    if (status == F8_OK)
        status = f8_create_file(temporary, &s->fd, err);
    if (status == F8_OK)
        status = write_contents(s, err);
    if (status == F8_OK)
        status = f8_sync_close(s->fd, path, err);
    else if (s->fd >= 0)
        close(s->fd);
    if (status == F8_OK)
        status = f8_publish(temporary, path, err);
    if (status == F8_OK) {
        pthread_mutex_lock(&s->lock);
        report(s, 0, name);
        status = s->status;
        if (status != F8_OK && err != NULL)
            *err = s->error;
        pthread_mutex_unlock(&s->lock);
    }
    free(temporary);
    free(path);
    return status;
}

/* ---- other files ------------------------------------------------------- */

static f8_status write_text(const synth *s, const char *name,
                            const f8_buf *text, f8_error *err)
{
    f8_status status;
    char *temporary = f8_path_join(s->dir, TEMPORARY);
    char *path = f8_path_join(s->dir, name);
    if (temporary == NULL || path == NULL || text->failed)
        status = f8_fail_nomem(err, name);
    else
        status = f8_write_file(temporary, path, text->data, text->length, err);
    free(temporary);
    free(path);
    return status;
}

/* The shard that holds a tensor: the last one that begins at or before it. */
static size_t shard_of(const synth *s, size_t tensor)
{
    size_t low = 0, high = s->shard_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (s->shards[middle].first <= tensor)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static f8_status write_index(const synth *s, f8_error *err)
{
    f8_buf text = {0};
    f8_buf_printf(&text,
                  "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n"
                  "  \"weight_map\": {",
                  (unsigned long long)s->layout.bytes);
    for (size_t i = 0; i < s->layout.tensor_count; i++) {
        const f8_layout_tensor *t = s->layout.by_name[i];
        char name[64];
        shard_name(s, shard_of(s, (size_t)(t - s->layout.tensors)), name,
                   sizeof name);
        f8_buf_puts(&text, i > 0 ? ",\n    " : "\n    ");
        f8_buf_json_string(&text, t->name);
        f8_buf_printf(&text, ": \"%s\"", name);
    }
    f8_buf_puts(&text, "\n  }\n}\n");
    f8_status status = write_text(s, INDEX_NAME, &text, err);
    f8_buf_free(&text);
    return status;
}

/* Side files, then the index, then config.json: a folder with a config is a
 * whole checkpoint. */
static f8_status write_files(const synth *s, f8_error *err)
{
    f8_status status = F8_OK;
    const f8_layout_file *config = NULL;
    for (size_t i = 0; status == F8_OK && i < s->layout.file_count; i++) {
        const f8_layout_file *file = &s->layout.files[i];
        if (strcmp(file->name, "config.json") == 0)
            config = file;
        else
            status = write_text(s, file->name, &file->text, err);
    }
    if (status == F8_OK && s->shard_count > 1)
        status = write_index(s, err);
    if (status == F8_OK && config != NULL)
        status = write_text(s, config->name, &config->text, err);
    return status;
}

/* ---- the folder -------------------------------------------------------- */

/* Makes sure that dir is there and empty. *made tells whether it was made. */
static f8_status claim_dir(const char *dir, bool *made, f8_error *err)
{
    *made = false;
    DIR *listing = opendir(dir);
    if (listing == NULL && errno == ENOENT) {
        f8_status status = f8_make_dir(dir, err);
        *made = status == F8_OK;
        return status;
    }
    if (listing == NULL && errno == ENOTDIR)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: not a folder; synth writes into a new or an "
                       "empty folder",
                       dir);
    if (listing == NULL)
        return f8_fail_errno(err, errno, "%s: opening the folder", dir);
    f8_status status = F8_OK;
    const struct dirent *entry;
    errno = 0;
    /* No other thread has this stream.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while (status == F8_OK && (entry = readdir(listing)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = f8_fail(err, F8_ERR_REFUSED,
                             "%s: not empty, it has %.200s; synth writes into "
                             "a new or an empty folder",
                             dir, entry->d_name);
    if (status == F8_OK && errno != 0)
        status = f8_fail_errno(err, errno, "%s: listing the folder", dir);
    closedir(listing);
    return status;
}

static void remove_file(const synth *s, const char *name)
{
    char *path = f8_path_join(s->dir, name);
    if (path != NULL)
        unlink(path);
    free(path);
}

/* After a failure: the folder was empty, so all that has our names is ours.
 * Without it the same command could not be given again. Nothing is done about
 * what cannot be removed: the failure that led here is the one to tell. */
static void remove_files(const synth *s, bool made)
{
    remove_file(s, TEMPORARY);
    remove_file(s, INDEX_NAME);
    for (size_t i = 0; i < s->shard_count; i++) {
        char name[64];
        shard_name(s, i, name, sizeof name);
        remove_file(s, name);
    }
    for (size_t i = 0; i < s->layout.file_count; i++)
        remove_file(s, s->layout.files[i].name);
    if (made)
        rmdir(s->dir);
}

static f8_status check_space(const synth *s, f8_error *err)
{
    uint64_t space = 0;
    if (s->options.sparse)
        return F8_OK;
    f8_status status = f8_free_space(s->dir, &space, err);
    if (status == F8_OK && space < s->layout.bytes)
        status = f8_fail(err, F8_ERR_SPACE,
                         "%s: %llu bytes to write, %llu bytes free", s->dir,
                         (unsigned long long)s->layout.bytes,
                         (unsigned long long)space);
    return status;
}

/* ---- the whole --------------------------------------------------------- */

static f8_status build_layout(synth *s, f8_error *err)
{
    const f8_synth_options *o = &s->options;
    const char *names[] = {"layers", "experts", "hidden", "inter", "vocab"};
    uint64_t values[] = {o->layers, o->experts, o->hidden, o->inter, o->vocab};
    f8_layout_setting settings[5];
    size_t count = 0;
    for (size_t i = 0; i < 5; i++) {
        if (values[i] == 0)
            continue;
        if (values[i] > INT64_MAX)
            return f8_fail(err, F8_ERR_ARGUMENT, "%s: %llu is too large",
                           names[i], (unsigned long long)values[i]);
        settings[count++] = (f8_layout_setting){names[i], (int64_t)values[i]};
    }
    return f8_layout_build(f8_builtin_layouts,
                           o->layout ? o->layout : "qwen3.6-35b-a3b-mini",
                           settings, count, &s->layout, err);
}

/* Everything that can be known before the folder is touched. */
static f8_status prepare(synth *s, f8_error *err)
{
    f8_status status = build_layout(s, err);
    if (status == F8_OK)
        status = s->options.shards == 0
                     ? fill_shards(s, err)
                     : divide_shards(s, s->options.shards, err);
    if (status == F8_OK && s->shard_count > UINT32_MAX)
        status = f8_fail(err, F8_ERR_ARGUMENT, "%zu shards are too many",
                         s->shard_count);
    if (status != F8_OK)
        return status;
    s->progress.bytes_total = s->layout.bytes;
    s->progress.shards_total = (uint32_t)s->shard_count;
    if (s->options.sparse)
        return F8_OK;
    s->threads = f8_cpu_count();
    if (s->threads > THREADS_MAX)
        s->threads = THREADS_MAX;
    s->buffers = f8_alloc(s->threads, CHUNK_BYTES);
    return s->buffers != NULL ? F8_OK : f8_fail_nomem(err, "the buffers");
}

f8_status f8_synth(const char *dir, const f8_synth_options *options,
                   f8_error *err)
{
    synth s = {.dir = dir, .lock = PTHREAD_MUTEX_INITIALIZER};
    f8_status status = F8_OK;
    bool made = false, ours = false;
    if (dir == NULL || *dir == '\0')
        status = f8_fail(err, F8_ERR_ARGUMENT, "no folder to write to");
    else if (options != NULL && options->size < sizeof options->size)
        status =
            f8_fail(err, F8_ERR_ARGUMENT, "f8_synth_options.size is not set");
    else if (options != NULL)
        memcpy(&s.options, options,
               options->size < sizeof s.options ? options->size
                                                : sizeof s.options);

    if (status == F8_OK)
        status = prepare(&s, err);
    if (status == F8_OK) {
        status = claim_dir(dir, &made, err);
        ours = status == F8_OK;
    }
    if (status == F8_OK)
        status = check_space(&s, err);
    for (size_t i = 0; status == F8_OK && i < s.shard_count; i++)
        status = write_shard(&s, i, err);
    if (status == F8_OK)
        status = write_files(&s, err);
    if (status != F8_OK && ours)
        remove_files(&s, made);

    free(s.buffers);
    free(s.shards);
    f8_layout_free(&s.layout);
    pthread_mutex_destroy(&s.lock);
    return status;
}
