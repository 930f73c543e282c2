/* pipeline.c - workers that each take an item, work on it in their own
 * buffers, and retire it in its turn. See pipeline.h.
 *
 * One mutex guards the cursor, the ring and all callbacks marked `locked`.
 * A worker holds it for microseconds an item of some megabytes. The ring
 * bounds how far a fast worker may run ahead of the slowest. */
#include "pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* 4 MiB a read: large enough that system calls and disk latency vanish, small
 * enough that twenty workers stay within the default budget. */
#define CHUNK_MAX_BYTES (UINT64_C(4) << 20)
/* But a band of a wide matrix is read and written as a whole: its rows are
 * pieces of a few kilobytes that lie apart. Nobody has wider ones than this. */
#define BAND_MAX_BYTES (UINT64_C(32) << 20)
/* One 128 x 128 block of binary32, the least a worker can do its work in. */
#define CHUNK_MIN_BYTES (UINT64_C(64) << 10)

enum {
    SLOTS_A_WORKER = 4, /* of the ring: how far a fast worker may run ahead of
                           the slowest */
    FEW_WORKERS = 4,    /* but enough to have a disk busy */
    FEW_THREADS = 8     /* and to keep up with a fast one */
};

typedef struct slot {
    f8_item item;
    f8_outcome outcome;
    bool done; /* worked on; waits for its turn to retire */
} slot;

typedef struct pipeline {
    const f8_pipeline_ops *ops;
    uint64_t units;
    unsigned workers;
    uint64_t chunk_bytes, piece_bytes; /* of a buffer; of most items */
    sem_t turns;                       /* as many as threads */

    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t moved;  /* something was retired, or the run failed */
    /* The cursor: what is handed out next. */
    uint64_t unit, row, col, begin;
    bool unit_begun;
    f8_work work; /* of `unit`, when unit_begun */
    /* Items by sequence number; slot = number % ring_size. */
    slot *ring;
    uint64_t ring_size, issued, retired;
    uint64_t *shard_open; /* items issued and not retired, by shard */
    bool *shard_issued;   /* the cursor has left the shard */
    uint64_t bytes_done;
    f8_status status; /* the first failure wins */
    f8_error error;
} pipeline;

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- workers ------------------------------------------------------------- */

/* Reads and writes past the page cache block, so a disk that wants several
 * requests at a time needs more workers than there are CPUs. */
static unsigned worker_count(const f8_crew *crew)
{
    unsigned threads = crew->threads;

    if (threads < 2)
        return FEW_WORKERS;
    return threads + (threads < 16 ? threads : 16);
}

void f8_worker_compute(f8_worker *worker)
{
    while (sem_wait(worker->turns) != 0)
        continue; /* a signal came */
}

void f8_worker_computed(f8_worker *worker)
{
    sem_post(worker->turns);
}

/* ---- budget -------------------------------------------------------------- */

/* A chunk in, a chunk out (codes take half of it, but a comparison needs it
 * all), scales, the worker itself and its slots of the ring. A chunk holds
 * elements of two bytes or more, whatever becomes of them; bands of one column
 * have most scales for their size, one of four bytes for 128 elements. Elements
 * that have two scales, an old and a new one, have four bytes. */
static uint64_t scales_bytes(uint64_t chunk_bytes)
{
    return chunk_bytes / 2 / F8_BLOCK * 4 + 64;
}

static uint64_t worker_bytes(uint64_t chunk_bytes)
{
    return 2 * (chunk_bytes + 2 * F8_ALIGN) + scales_bytes(chunk_bytes) +
           sizeof(f8_worker) + SLOTS_A_WORKER * sizeof(slot);
}

/* What the workers of a run have: how many there are, the size of a buffer. */
typedef struct share {
    unsigned workers;
    uint64_t chunk_bytes;
} share;

/* Where a band is wider than a chunk, fewer workers with larger buffers, if
 * the budget has room for so many that a disk does not wait for them. */
static share share_of_disk(const f8_crew *crew)
{
    share s = {worker_count(crew), CHUNK_MAX_BYTES};
    uint64_t few = least(s.workers, crew->threads < FEW_WORKERS
                                        ? FEW_WORKERS
                                        : least(crew->threads, FEW_THREADS));

    if (crew->band_bytes > CHUNK_MAX_BYTES &&
        crew->band_bytes <= BAND_MAX_BYTES) {
        uint64_t chunk = f8_ceil_div(crew->band_bytes, CHUNK_MIN_BYTES);
        chunk *= CHUNK_MIN_BYTES;
        uint64_t fit = crew->memory_bytes / worker_bytes(chunk);
        if (fit >= few)
            return (share){fit < s.workers ? (unsigned)fit : s.workers, chunk};
    }
    while (s.chunk_bytes > CHUNK_MIN_BYTES &&
           worker_bytes(s.chunk_bytes) > crew->memory_bytes / s.workers)
        s.chunk_bytes -= CHUNK_MIN_BYTES;
    return s;
}

/* Where nothing is on a disk, workers beyond the threads would only fill the
 * CPUs' caches. The buffers stay: items are cut alike wherever files are. */
static share share_for(const f8_crew *crew)
{
    share s = share_of_disk(crew);

    if (crew->in_memory && s.workers > crew->threads)
        s.workers = crew->threads;
    return s;
}

f8_status f8_pipeline_chunk(const f8_crew *crew, uint64_t *chunk_bytes,
                            f8_error *err)
{
    uint64_t least = worker_bytes(CHUNK_MIN_BYTES) * worker_count(crew);

    if (crew->memory_bytes < least)
        return f8_fail(err, F8_ERR_NOMEM,
                       "a memory budget of %llu bytes is too small for %u "
                       "threads: expected at least %llu",
                       (unsigned long long)crew->memory_bytes, crew->threads,
                       (unsigned long long)least);
    *chunk_bytes = share_for(crew).chunk_bytes;
    return F8_OK;
}

uint64_t f8_pipeline_memory(const f8_crew *crew)
{
    share s = share_for(crew);
    return worker_bytes(s.chunk_bytes) * s.workers;
}

/* ---- cutting ------------------------------------------------------------- */

/* What a buffer must hold of each element. */
static size_t room_an_element(const f8_work *work)
{
    size_t source_bytes = f8_dtype_bytes(work->dtype);
    size_t widest_bytes = f8_dtype_bytes(work->widest);

    return source_bytes > widest_bytes ? source_bytes : widest_bytes;
}

uint64_t f8_pipeline_band(const f8_work *work)
{
    uint64_t bytes;

    if (!work->matrix)
        return 0;
    if (!f8_mul_u64(work->cols, F8_BLOCK * room_an_element(work), &bytes))
        return UINT64_MAX;
    return bytes;
}

/* The next panel of the cursor's matrix: as many whole bands as fit, or,
 * where one band is wider than a chunk, part of one band's columns. */
static void cut_matrix(pipeline *p, f8_item *item)
{
    const f8_work *w = &p->work;
    uint64_t band_bytes = f8_pipeline_band(w);

    item->row = p->row;
    item->col = p->col;
    if (band_bytes <= p->chunk_bytes) {
        uint64_t bands = p->piece_bytes / band_bytes;
        bands = bands > 0 ? bands : 1;
        item->rows = least(bands * F8_BLOCK, w->rows - p->row);
        item->cols = w->cols;
        p->row += item->rows;
    } else {
        uint64_t fit = p->chunk_bytes / (F8_BLOCK * room_an_element(w));
        item->rows = least(F8_BLOCK, w->rows - p->row);
        item->cols = least(fit / F8_BLOCK * F8_BLOCK, w->cols - p->col);
        p->col += item->cols;
        if (p->col == w->cols) {
            p->col = 0;
            p->row += item->rows;
        }
    }
    item->bytes = item->rows * item->cols * f8_dtype_bytes(w->dtype);
    item->last = p->row == w->rows;
}

static void cut_bytes(pipeline *p, f8_item *item)
{
    item->begin = p->begin;
    item->bytes = least(p->piece_bytes, p->work.bytes - p->begin);
    p->begin += item->bytes;
    item->last = p->begin == p->work.bytes;
}

/* Moves the cursor to the next unit that is not skipped. */
static f8_status next_unit(pipeline *p, f8_error *err)
{
    const f8_pipeline_ops *ops = p->ops;
    int64_t before = p->unit_begun ? (int64_t)p->work.shard : -1;

    while (p->unit < p->units) {
        ops->get(ops->ctx, p->unit, &p->work);
        if (!ops->skip || !ops->skip(ops->ctx, p->work.shard))
            break;
        p->unit++;
    }
    bool end = p->unit == p->units;
    p->row = p->col = p->begin = 0;
    if (before >= 0 && (end || before != (int64_t)p->work.shard))
        p->shard_issued[before] = true;
    p->unit_begun = !end;
    if (!end && before != (int64_t)p->work.shard && ops->shard_begin)
        return ops->shard_begin(ops->ctx, p->work.shard, err);
    return F8_OK;
}

/* Hands out the next item; false at the end of the units. The cursor always
 * stands on a unit with something left, or at the end. */
static bool next_item(pipeline *p, f8_item *item)
{
    if (p->unit == p->units)
        return false;
    memset(item, 0, sizeof *item);
    item->unit = p->unit;
    p->shard_open[p->work.shard]++;
    if (p->work.matrix)
        cut_matrix(p, item);
    else
        cut_bytes(p, item);
    return true;
}

/* ---- running ------------------------------------------------------------- */

/* Under the mutex. */
static void fail(pipeline *p, f8_status status, const f8_error *error)
{
    if (p->status == F8_OK) {
        p->status = status;
        p->error = *error;
    }
    pthread_cond_broadcast(&p->moved);
}

static void report(pipeline *p, int64_t shard)
{
    f8_error error;

    if (p->status == F8_OK && p->ops->progress &&
        p->ops->progress(p->ops->ctx, p->bytes_done, shard) != 0)
        fail(p, f8_fail(&error, F8_ERR_CANCELLED, "stopped"), &error);
}

/* Ends a shard outside the mutex, which is held before and after. */
static void end_shard(pipeline *p, uint32_t shard)
{
    f8_status status = F8_OK;
    f8_error error;

    if (p->ops->shard_end) {
        pthread_mutex_unlock(&p->mutex);
        status = p->ops->shard_end(p->ops->ctx, shard, &error);
        pthread_mutex_lock(&p->mutex);
    }
    if (status != F8_OK)
        fail(p, status, &error);
    else
        report(p, (int64_t)shard);
}

/* Retires every item whose turn has come. Under the mutex, which is given up
 * while a shard is ended: others may go on retiring meanwhile. */
static void retire_ready(pipeline *p)
{
    f8_error error;

    while (p->status == F8_OK && p->retired < p->issued) {
        slot *s = &p->ring[p->retired % p->ring_size];
        if (!s->done)
            return;
        f8_work work;
        f8_item item = s->item;
        p->ops->get(p->ops->ctx, item.unit, &work);
        f8_status status = F8_OK;
        if (p->ops->retire)
            status = p->ops->retire(p->ops->ctx, &item, &s->outcome, &error);
        s->done = false;
        p->retired++;
        p->bytes_done += item.bytes;
        p->shard_open[work.shard]--;
        pthread_cond_broadcast(&p->moved);
        if (status != F8_OK) {
            fail(p, status, &error);
            return;
        }
        report(p, -1);
        if (p->shard_issued[work.shard] && p->shard_open[work.shard] == 0)
            end_shard(p, work.shard);
    }
}

/* Takes one item and works on it; false when there is none left or the run
 * has failed. Under the mutex, given up during the work itself. */
static bool step(pipeline *p, f8_worker *worker)
{
    f8_error error;
    f8_status status;

    while (p->status == F8_OK && p->issued - p->retired == p->ring_size)
        pthread_cond_wait(&p->moved, &p->mutex);
    uint64_t number = p->issued;
    slot *s = &p->ring[number % p->ring_size];
    if (p->status != F8_OK || !next_item(p, &s->item))
        return false;
    memset(&s->outcome, 0, sizeof s->outcome);
    p->issued++;
    if (s->item.last) {
        p->unit++;
        status = next_unit(p, &error);
        if (status != F8_OK)
            fail(p, status, &error);
    }
    pthread_mutex_unlock(&p->mutex);
    status = p->ops->work(p->ops->ctx, worker, &s->item, &s->outcome, &error);
    pthread_mutex_lock(&p->mutex);
    if (status != F8_OK) {
        fail(p, status, &error);
        return false;
    }
    s->done = true;
    retire_ready(p);
    return p->status == F8_OK;
}

typedef struct thread_start {
    pipeline *p;
    f8_worker worker;
} thread_start;

static void *run_worker(void *arg)
{
    thread_start *start = arg;
    pipeline *p = start->p;
    f8_worker *worker = &start->worker;
    f8_error error;

    f8_status status = F8_OK;
    if (p->ops->worker_begin)
        status = p->ops->worker_begin(p->ops->ctx, worker, &error);
    pthread_mutex_lock(&p->mutex);
    if (status != F8_OK)
        fail(p, status, &error);
    while (p->status == F8_OK && step(p, worker))
        continue;
    pthread_mutex_unlock(&p->mutex);
    if (p->ops->worker_end)
        p->ops->worker_end(p->ops->ctx, worker);
    return NULL;
}

static void free_workers(thread_start *starts, unsigned threads)
{
    for (unsigned i = 0; starts && i < threads; i++) {
        free(starts[i].worker.in);
        free(starts[i].worker.out);
        free(starts[i].worker.scales);
    }
    free(starts);
}

/* All memory of the run, taken before its first byte is read. */
static thread_start *new_workers(pipeline *p)
{
    thread_start *starts = f8_alloc(p->workers, sizeof *starts);

    for (unsigned i = 0; starts && i < p->workers; i++) {
        f8_worker *w = &starts[i].worker;
        starts[i].p = p;
        w->turns = &p->turns;
        w->in = f8_aligned_alloc(p->chunk_bytes);
        w->out = f8_aligned_alloc(p->chunk_bytes);
        w->scales = f8_alloc(scales_bytes(p->chunk_bytes), 1);
        if (!w->in || !w->out || !w->scales) {
            free_workers(starts, p->workers);
            return NULL;
        }
    }
    return starts;
}

/* Starts the threads and waits for them. With fewer than asked for the run is
 * slower, not wrong, so only the first must start. */
static f8_status run_threads(pipeline *p, thread_start *starts, f8_error *err)
{
    unsigned started = 0;
    int reason = 0;
    pthread_t *ids = f8_alloc(p->workers, sizeof *ids);

    if (!ids)
        return f8_fail_nomem(err, "the workers");
    while (started < p->workers && reason == 0) {
        reason =
            pthread_create(&ids[started], NULL, run_worker, &starts[started]);
        started += reason == 0;
    }
    for (unsigned i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    free(ids);
    if (started == 0)
        return f8_fail_errno(err, reason, "cannot start a thread");
    return F8_OK;
}

/* The widest of the matrices that are not skipped. */
static uint64_t widest_band(const f8_pipeline_ops *ops, uint64_t units)
{
    uint64_t widest = 0;
    f8_work work;

    for (uint64_t i = 0; i < units; i++) {
        ops->get(ops->ctx, i, &work);
        uint64_t bytes = f8_pipeline_band(&work);
        if (bytes > widest && !(ops->skip && ops->skip(ops->ctx, work.shard)))
            widest = bytes;
    }
    return widest;
}

f8_status f8_pipeline_run(const f8_pipeline_ops *ops, uint64_t units,
                          uint32_t shards, const f8_crew *asked, f8_error *err)
{
    f8_crew crew = *asked;

    crew.band_bytes = widest_band(ops, units);
    uint64_t chunk_bytes = 0;
    f8_status status = f8_pipeline_chunk(&crew, &chunk_bytes, err);
    if (status != F8_OK)
        return status;
    unsigned workers = share_for(&crew).workers;
    pipeline p = {.ops = ops,
                  .units = units,
                  .workers = workers,
                  .chunk_bytes = chunk_bytes,
                  .piece_bytes = least(chunk_bytes, CHUNK_MAX_BYTES),
                  .ring_size = (uint64_t)workers * SLOTS_A_WORKER,
                  .mutex = PTHREAD_MUTEX_INITIALIZER,
                  .moved = PTHREAD_COND_INITIALIZER};

    if (sem_init(&p.turns, 0, crew.threads) != 0)
        return f8_fail_errno(err, errno, "cannot make a semaphore");
    p.ring = f8_alloc(p.ring_size, sizeof *p.ring);
    p.shard_open = f8_alloc(shards, sizeof *p.shard_open);
    p.shard_issued = f8_alloc(shards, sizeof *p.shard_issued);
    thread_start *starts = new_workers(&p);
    if (!p.ring || !p.shard_open || !p.shard_issued || !starts) {
        status = f8_fail_nomem(err, "the workers' buffers");
        goto out;
    }
    status = next_unit(&p, err);
    if (status == F8_OK)
        status = run_threads(&p, starts, err);
    if (status == F8_OK && p.status != F8_OK) {
        status = p.status;
        if (err)
            *err = p.error;
    }
out:
    free_workers(starts, p.workers);
    free(p.shard_issued);
    free(p.shard_open);
    free(p.ring);
    pthread_cond_destroy(&p.moved);
    pthread_mutex_destroy(&p.mutex);
    sem_destroy(&p.turns);
    return status;
}
