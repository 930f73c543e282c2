/* test_pipeline.c - the workers with made-up work: what is cut, in which
 * order it is retired, and how a run ends. Worker threads only take notes;
 * the test looks at them when the run is over, because an assertion of cmocka
 * may only fail in the main thread. */
#include "helpers.h"

#include <malloc.h>
#include <sched.h>

#include "pipeline.h"
#include "source.h"

enum { MAX_UNITS = 32, MAX_SHARDS = 8 };

#define KIB(n) (UINT64_C(n) << 10)

typedef struct fake {
    /* What there is to do. */
    f8_work units[MAX_UNITS];
    uint64_t units_count;
    uint32_t shards;
    bool skipped[MAX_SHARDS];
    uint64_t chunk_bytes;
    uint64_t most_bytes, widest; /* of items but those of so many columns */
    /* When to fail: 0 never, else at the n-th call. */
    uint64_t fail_work, fail_retire, fail_begin, fail_end, fail_worker;
    uint64_t stop_progress;

    /* Notes. Those of `work` and shard_end are under `mutex`; the others come
     * from functions that the pipeline never runs two of at a time. */
    pthread_mutex_t mutex;
    char problem[256];              /* the first one */
    unsigned char *seen[MAX_UNITS]; /* how often each element or byte */
    uint64_t works, ends, workers_begun, workers_ended;
    unsigned threads, computing; /* between compute and computed */
    int in_locked;    /* must be 0 when a locked function is entered */
    f8_item previous; /* retired last */
    uint64_t retired, retired_bytes, begins, progresses, shards_told;
    uint64_t last_progress;
    int begun[MAX_SHARDS], ended[MAX_SHARDS];
    uint64_t retired_of_shard[MAX_SHARDS]; /* bytes */
    bool worked_on[MAX_SHARDS];
    bool stopped; /* progress asked for it */
    double sum;   /* in retiring order */
} fake;

/* ---- notes --------------------------------------------------------------- */

static void note(fake *f, const char *problem)
{
    if (!f->problem[0])
        snprintf(f->problem, sizeof f->problem, "%s", problem);
}

static void note_work(fake *f, const char *problem)
{
    pthread_mutex_lock(&f->mutex);
    note(f, problem);
    pthread_mutex_unlock(&f->mutex);
}

static void enter(fake *f)
{
    if (f->in_locked++ != 0)
        note(f, "two locked functions at a time");
}

static void leave(fake *f)
{
    f->in_locked--;
}

/* ---- the functions ------------------------------------------------------- */

static void fake_get(void *ctx, uint64_t unit, f8_work *work)
{
    fake *f = ctx;

    enter(f);
    if (unit >= f->units_count)
        note(f, "get: no such unit");
    else
        *work = f->units[unit];
    leave(f);
}

static bool fake_skip(void *ctx, uint32_t shard)
{
    fake *f = ctx;

    enter(f);
    bool skipped = shard < f->shards && f->skipped[shard];
    if (shard >= f->shards)
        note(f, "skip: no such shard");
    leave(f);
    return skipped;
}

static f8_status fake_worker_begin(void *ctx, f8_worker *worker, f8_error *err)
{
    fake *f = ctx;

    pthread_mutex_lock(&f->mutex);
    uint64_t number = ++f->workers_begun;
    pthread_mutex_unlock(&f->mutex);
    worker->user = worker; /* kept until worker_end */
    if (number == f->fail_worker)
        return f8_fail(err, F8_ERR_NOMEM, "no worker");
    return F8_OK;
}

static void fake_worker_end(void *ctx, f8_worker *worker)
{
    fake *f = ctx;

    pthread_mutex_lock(&f->mutex);
    f->workers_ended++;
    if (worker->user != worker)
        note(f, "worker_end: another user pointer");
    pthread_mutex_unlock(&f->mutex);
}

static f8_status fake_shard_begin(void *ctx, uint32_t shard, f8_error *err)
{
    fake *f = ctx;
    f8_status status = F8_OK;

    enter(f);
    if (shard >= f->shards || f->skipped[shard])
        note(f, "shard_begin: not a shard to be written");
    else if (f->begun[shard]++ != 0)
        note(f, "shard_begin: twice");
    if (++f->begins == f->fail_begin)
        status = f8_fail(err, F8_ERR_SPACE, "begin of shard %u", shard);
    leave(f);
    return status;
}

/* Marks what the item covers; says what is wrong with it, or NULL. */
static const char *mark(fake *f, const f8_item *item)
{
    const f8_work *w = &f->units[item->unit];
    unsigned char *seen = f->seen[item->unit];
    size_t elem = f8_dtype_bytes(w->dtype);

    if (item->bytes > f->chunk_bytes)
        return "an item larger than a chunk";
    if (f->most_bytes && item->bytes > f->most_bytes && w->cols != f->widest)
        return "a large item that is not of the wide matrix";
    if (!w->matrix) {
        if (item->begin + item->bytes > w->bytes)
            return "bytes behind the unit's end";
        if (item->last != (item->begin + item->bytes == w->bytes))
            return "last: not the last bytes";
        for (uint64_t i = 0; i < item->bytes; i++)
            seen[item->begin + i]++;
        return NULL;
    }
    if (item->row % 128 != 0 || item->col % 128 != 0)
        return "a panel that begins inside a block";
    if (item->rows == 0 || item->cols == 0 ||
        item->row + item->rows > w->rows || item->col + item->cols > w->cols)
        return "a panel outside the matrix";
    if (item->rows % 128 != 0 && item->row + item->rows != w->rows)
        return "a panel that ends inside a block of rows";
    if (item->cols % 128 != 0 && item->col + item->cols != w->cols)
        return "a panel that ends inside a block of columns";
    if (item->cols != w->cols && item->rows > 128)
        return "a narrow panel of more than one band";
    if (item->bytes != item->rows * item->cols * elem)
        return "bytes: not those of the panel";
    if (item->last != (item->row + item->rows == w->rows &&
                       item->col + item->cols == w->cols))
        return "last: not the last panel";
    for (uint64_t r = 0; r < item->rows; r++) {
        for (uint64_t c = 0; c < item->cols; c++)
            seen[(item->row + r) * w->cols + item->col + c]++;
    }
    return NULL;
}

/* All buffers are written as far as a conversion would write them: source
 * bytes in, codes (or bytes to compare) out, four bytes a scale. */
static const char *fill_buffers(const fake *f, f8_worker *worker,
                                const f8_item *item)
{
    const f8_work *w = &f->units[item->unit];
    f8_scale_range scales = {0, 0};

    if (w->matrix)
        scales = f8_item_scales(item, w->cols, F8_SCALE_F32);
    if (item->bytes > malloc_usable_size(worker->in) ||
        item->bytes > malloc_usable_size(worker->out))
        return "a chunk does not fit its buffer";
    if (scales.bytes > malloc_usable_size(worker->scales))
        return "scales do not fit their buffer";
    memset(worker->in, 1, item->bytes);
    memset(worker->out, 2, item->bytes);
    memset(worker->scales, 3, scales.bytes);
    return NULL;
}

/* Different items take different time, so that threads overtake each other. */
static void dawdle(fake *f, f8_worker *worker, const f8_item *item)
{
    uint64_t x = (item->unit * 31 + item->row + item->col * 7 + item->begin) *
                 UINT64_C(0x9e3779b97f4a7c15);

    f8_worker_compute(worker);
    pthread_mutex_lock(&f->mutex);
    if (++f->computing > f->threads)
        note(f, "more compute at a time than there are threads");
    pthread_mutex_unlock(&f->mutex);
    for (uint64_t i = x >> 62; i > 0; i--)
        sched_yield();
    pthread_mutex_lock(&f->mutex);
    f->computing--;
    pthread_mutex_unlock(&f->mutex);
    f8_worker_computed(worker);
}

static f8_status fake_work(void *ctx, f8_worker *worker, const f8_item *item,
                           f8_outcome *outcome, f8_error *err)
{
    static const f8_outcome zero;
    fake *f = ctx;
    const char *problem = mark(f, item);

    if (!problem)
        problem = fill_buffers(f, worker, item);
    if (memcmp(outcome, &zero, sizeof zero) != 0)
        problem = "an outcome that is not empty";
    if (problem)
        note_work(f, problem);
    outcome->hist[item->unit] = item->bytes;
    outcome->finds.max_abs =
        1.0 / (double)(3 + item->row + item->col + item->begin);
    outcome->faults = item->unit + 1;
    dawdle(f, worker, item);
    pthread_mutex_lock(&f->mutex);
    uint64_t number = ++f->works;
    f->worked_on[f->units[item->unit].shard] = true;
    pthread_mutex_unlock(&f->mutex);
    if (number == f->fail_work)
        return f8_fail(err, F8_ERR_VALUE, "item %u", (unsigned)number);
    return F8_OK;
}

/* Whether b is what comes directly after a, both retired. */
static bool follows(const fake *f, const f8_item *a, const f8_item *b)
{
    const f8_work *w = &f->units[b->unit];

    if (a->unit != b->unit) {
        if (!a->last || b->row || b->col || b->begin)
            return false;
        for (uint64_t u = a->unit + 1; u < b->unit; u++) {
            if (!f->skipped[f->units[u].shard])
                return false;
        }
        return b->unit > a->unit;
    }
    if (!w->matrix)
        return b->begin == a->begin + a->bytes;
    if (a->col + a->cols < w->cols)
        return b->row == a->row && b->col == a->col + a->cols;
    return b->row == a->row + a->rows && b->col == 0;
}

static f8_status fake_retire(void *ctx, const f8_item *item,
                             const f8_outcome *outcome, f8_error *err)
{
    fake *f = ctx;
    uint32_t shard = f->units[item->unit].shard;
    f8_status status = F8_OK;

    enter(f);
    if (f->retired > 0 && !follows(f, &f->previous, item))
        note(f, "retire: out of order");
    if (outcome->faults != item->unit + 1)
        note(f, "retire: another item's outcome");
    if (f->ended[shard])
        note(f, "retire: after the end of the shard");
    for (uint64_t i = 0; i < F8_HIST_BINS; i++) {
        if (outcome->hist[i] != (i == item->unit ? item->bytes : 0))
            note(f, "retire: another item's histogram");
    }
    f->previous = *item;
    f->retired_bytes += item->bytes;
    f->retired_of_shard[shard] += item->bytes;
    f->sum += outcome->finds.max_abs;
    if (++f->retired == f->fail_retire)
        status =
            f8_fail(err, F8_ERR_INTERNAL, "retired %u", (unsigned)f->retired);
    leave(f);
    return status;
}

/* Not under the pipeline's lock, so others may retire meanwhile; what they
 * write about this shard they have written before. */
static f8_status fake_shard_end(void *ctx, uint32_t shard, f8_error *err)
{
    fake *f = ctx;
    uint64_t bytes = 0;

    for (uint64_t u = 0; u < f->units_count; u++)
        bytes += f->units[u].shard == shard ? f->units[u].bytes : 0;
    pthread_mutex_lock(&f->mutex);
    if (f->retired_of_shard[shard] != bytes)
        note(f, "shard_end: not all of it is retired");
    if (f->ended[shard]++ != 0)
        note(f, "shard_end: twice");
    uint64_t number = ++f->ends;
    pthread_mutex_unlock(&f->mutex);
    sched_yield();
    if (number == f->fail_end)
        return f8_fail(err, F8_ERR_IO, "end of shard %u", shard);
    return F8_OK;
}

static int fake_progress(void *ctx, uint64_t bytes, int64_t shard)
{
    fake *f = ctx;

    enter(f);
    if (f->stopped)
        note(f, "progress: after it asked to stop");
    if (bytes < f->last_progress)
        note(f, "progress: backwards");
    if (shard >= 0 && (shard >= f->shards || !f->ended[shard]))
        note(f, "progress: a shard that has not ended");
    f->last_progress = bytes;
    f->shards_told += shard >= 0;
    if (++f->progresses == f->stop_progress)
        f->stopped = true;
    leave(f);
    return f->stopped;
}

/* ---- running ------------------------------------------------------------- */

static void add_matrix(fake *f, uint32_t shard, uint64_t rows, uint64_t cols,
                       f8_dtype dtype)
{
    assert_true(f->units_count < MAX_UNITS);
    f->units[f->units_count++] =
        (f8_work){.matrix = true,
                  .shard = shard,
                  .rows = rows,
                  .cols = cols,
                  .dtype = dtype,
                  .bytes = rows * cols * f8_dtype_bytes(dtype)};
    f->shards = shard + 1;
}

static void add_bytes(fake *f, uint32_t shard, uint64_t bytes)
{
    assert_true(f->units_count < MAX_UNITS);
    f->units[f->units_count++] =
        (f8_work){.shard = shard, .dtype = F8_DTYPE_F64, .bytes = bytes};
    f->shards = shard + 1;
}

/* Shapes that have been trouble before, and their neighbours. */
static void add_usual_units(fake *f)
{
    add_matrix(f, 0, 1, 1, F8_DTYPE_BF16);
    add_bytes(f, 0, 0);
    add_matrix(f, 0, 128, 128, F8_DTYPE_F32); /* a chunk of 64 KiB */
    add_matrix(f, 0, 129, 257, F8_DTYPE_BF16);
    add_bytes(f, 0, 1);
    add_matrix(f, 1, 1, 50000, F8_DTYPE_BF16);
    add_matrix(f, 1, 50000, 1, F8_DTYPE_BF16);
    add_bytes(f, 1, KIB(64));
    add_bytes(f, 1, KIB(64) + 1);
    add_bytes(f, 2, 0); /* a shard of nothing */
    add_matrix(f, 3, 300, 1000, F8_DTYPE_F32);
    add_matrix(f, 3, 128, 256, F8_DTYPE_BF16);
    add_matrix(f, 3, 256, 257, F8_DTYPE_F16);
    add_bytes(f, 4, KIB(300));
    add_matrix(f, 4, 40, 127, F8_DTYPE_BF16);
    add_matrix(f, 4, 257, 3, F8_DTYPE_F32);
    add_bytes(f, 4, 0);
}

static uint64_t elements(const f8_work *w)
{
    return w->matrix ? w->rows * w->cols : w->bytes;
}

static void fake_begin(fake *f)
{
    memset(f, 0, sizeof *f);
    pthread_mutex_init(&f->mutex, NULL);
}

/* The bytes of the widest 128 rows of what is worked on. */
static uint64_t fake_band(const fake *f)
{
    uint64_t widest = 0;

    for (uint64_t u = 0; u < f->units_count; u++) {
        const f8_work *w = &f->units[u];
        uint64_t bytes = 128 * w->cols * f8_dtype_bytes(w->dtype);
        if (w->matrix && !f->skipped[w->shard] && bytes > widest)
            widest = bytes;
    }
    return widest;
}

static f8_status fake_run(fake *f, unsigned threads, uint64_t memory_bytes,
                          f8_error *err)
{
    const f8_pipeline_ops ops = {.ctx = f,
                                 .get = fake_get,
                                 .skip = fake_skip,
                                 .worker_begin = fake_worker_begin,
                                 .worker_end = fake_worker_end,
                                 .shard_begin = fake_shard_begin,
                                 .work = fake_work,
                                 .retire = fake_retire,
                                 .shard_end = fake_shard_end,
                                 .progress = fake_progress};

    f->threads = threads;
    f8_crew crew = {.threads = threads, .memory_bytes = memory_bytes};
    crew.band_bytes = fake_band(f);
    f8_pipeline_chunk(&crew, &f->chunk_bytes, NULL);
    crew.band_bytes = 0; /* a run finds it out */
    for (uint64_t u = 0; u < f->units_count; u++) {
        f->seen[u] = calloc(elements(&f->units[u]) + 1, 1);
        assert_non_null(f->seen[u]);
    }
    f8_status status =
        f8_pipeline_run(&ops, f->units_count, f->shards, &crew, err);
    if (f->problem[0])
        fail_msg("%u threads: %s", threads, f->problem);
    assert_int_equal(f->in_locked, 0);
    assert_int_equal(f->workers_begun, f->workers_ended);
    return status;
}

static void fake_end(fake *f)
{
    for (uint64_t u = 0; u < f->units_count; u++)
        free(f->seen[u]);
    pthread_mutex_destroy(&f->mutex);
}

/* Every element of what is not skipped was worked on once, and every callback
 * had its turn. */
static void expect_complete(const fake *f)
{
    uint64_t bytes = 0;
    uint32_t shards = 0;

    for (uint64_t u = 0; u < f->units_count; u++) {
        const f8_work *w = &f->units[u];
        unsigned times = f->skipped[w->shard] ? 0 : 1;
        bytes += times * w->bytes;
        for (uint64_t i = 0; i < elements(w); i++) {
            if (f->seen[u][i] != times)
                fail_msg("unit %u, element %u: seen %u times", (unsigned)u,
                         (unsigned)i, f->seen[u][i]);
        }
    }
    for (uint32_t s = 0; s < f->shards; s++) {
        int times = f->skipped[s] ? 0 : 1;
        assert_int_equal(f->begun[s], times);
        assert_int_equal(f->ended[s], times);
        assert_int_equal(f->worked_on[s], times);
        shards += (uint32_t)times;
    }
    assert_int_equal(f->retired, f->works);
    assert_int_equal(f->retired_bytes, bytes);
    assert_int_equal(f->last_progress, bytes);
    assert_int_equal(f->shards_told, shards);
    assert_int_equal(f->progresses, f->retired + shards);
}

/* The least budget, as the message about a budget of one byte says. */
static uint64_t least_budget(unsigned threads)
{
    f8_error err = {0};
    uint64_t chunk = 0;
    unsigned long long least = 0;
    unsigned said = 0;
    int end = 0;

    const f8_crew crew = {.threads = threads, .memory_bytes = 1};
    assert_int_equal(f8_pipeline_chunk(&crew, &chunk, &err), F8_ERR_NOMEM);
    assert_int_equal(err.status, F8_ERR_NOMEM);
    int fields = sscanf(err.message,
                        "a memory budget of 1 bytes is too small for %u "
                        "threads: expected at least %llu%n",
                        &said, &least, &end);
    assert_int_equal(fields, 2);
    assert_int_equal(strlen(err.message), end);
    assert_int_equal(said, threads);
    return least;
}

/* ---- budget -------------------------------------------------------------- */

static void test_least_budget(void **state)
{
    static const unsigned threads[] = {1, 2, 3, 16, 1000};
    uint64_t chunk = 0;
    f8_error err = {0};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        unsigned t = threads[i];
        uint64_t least = least_budget(t);
        /* Two chunks of one block of binary32 (64 KiB) for every thread, and
         * for those who wait for the disk, of whom there are some. */
        assert_true(least > 2 * KIB(64) * t);
        assert_true(least < 5 * 3 * KIB(64) * t);
        f8_crew crew = {.threads = t, .memory_bytes = least};
        expect_ok(f8_pipeline_chunk(&crew, &chunk, &err), &err);
        assert_int_equal(chunk, KIB(64));
        assert_int_equal(f8_pipeline_memory(&crew), least);
        crew.memory_bytes--;
        assert_int_equal(f8_pipeline_chunk(&crew, &chunk, &err), F8_ERR_NOMEM);
    }
    /* As many wait as compute, but no more than sixteen: 32 and 48 workers. */
    assert_true(3 * least_budget(16) == 2 * least_budget(32));
}

/* The budget is a promise, and more of it never gives less. */
static void test_budget_is_kept(void **state)
{
    uint64_t chunk = 0, before = 0;
    f8_error err = {0};

    (void)state;
    for (unsigned t = 1; t <= 40; t += 3) {
        before = 0;
        for (uint64_t b = least_budget(t); b < UINT64_C(1) << 30; b += b / 3) {
            const f8_crew crew = {.threads = t, .memory_bytes = b};
            expect_ok(f8_pipeline_chunk(&crew, &chunk, &err), &err);
            assert_true(f8_pipeline_memory(&crew) <= b);
            assert_true(chunk >= before);
            assert_int_equal(chunk % KIB(64), 0);
            before = chunk;
        }
        /* There is a largest one, whatever there is to spend. */
        const f8_crew rich = {.threads = t, .memory_bytes = UINT64_C(1) << 40};
        expect_ok(f8_pipeline_chunk(&rich, &chunk, &err), &err);
        assert_int_equal(chunk, KIB(4096));
    }
}

/* Where all is in memory nobody waits for a disk: one worker a thread, with the
 * buffers that it would have beside others. */
static void test_budget_in_memory(void **state)
{
    uint64_t chunk = 0;
    f8_error err = {0};

    (void)state;
    for (unsigned t = 1; t <= 40; t += 3) {
        const uint64_t budgets[] = {least_budget(t), 3 * least_budget(t),
                                    UINT64_C(1) << 40};
        const uint64_t chunks[] = {KIB(64), 3 * KIB(64), KIB(4096)};
        for (size_t i = 0; i < COUNT_OF(budgets); i++) {
            f8_crew crew = {.threads = t, .memory_bytes = budgets[i]};
            uint64_t on_disk = f8_pipeline_memory(&crew);
            unsigned more = t == 1 ? 3 : t < 16 ? t : 16;
            crew.in_memory = true;
            assert_int_equal(f8_pipeline_memory(&crew) * (t + more),
                             on_disk * t);
            expect_ok(f8_pipeline_chunk(&crew, &chunk, &err), &err);
            assert_int_equal(chunk, chunks[i]);
        }
    }
}

/* Bands of 28,672 bfloat16 columns, as in a Llama of 70 billion weights, have
 * 7 MiB; of 53,248, as in one of 405, 13 MiB. */
static void test_budget_for_wide_bands(void **state)
{
    static const struct {
        unsigned threads;
        uint64_t memory, band, chunk;
        unsigned most; /* workers */
    } cases[] = {
        {2, KIB(256 * 1024), KIB(7 * 1024), KIB(7 * 1024), 4},
        {20, KIB(256 * 1024), KIB(7 * 1024), KIB(7 * 1024), 18},
        {20, KIB(256 * 1024), KIB(13 * 1024), KIB(13 * 1024), 9},
        {64, KIB(256 * 1024), KIB(13 * 1024), KIB(13 * 1024), 9},
        {1, KIB(256 * 1024), KIB(13 * 1024) - 1, KIB(13 * 1024), 4},
        /* Fewer than four workers would leave a disk idle, and fewer than eight
         * of more threads a fast one: as before. */
        {8, KIB(112 * 1024), KIB(7 * 1024), KIB(3520), 16},
        {2, KIB(48 * 1024), KIB(7 * 1024), KIB(4 * 1024), 4},
        {2, KIB(256 * 1024), KIB(33 * 1024), KIB(4 * 1024), 4},
        {2, KIB(256 * 1024), UINT64_MAX, KIB(4 * 1024), 4},
        /* An ordinary one. */
        {2, KIB(256 * 1024), KIB(4 * 1024), KIB(4 * 1024), 4},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const f8_crew crew = {.threads = cases[i].threads,
                              .memory_bytes = cases[i].memory,
                              .band_bytes = cases[i].band};
        uint64_t chunk = 0;
        f8_error err = {0};
        expect_ok(f8_pipeline_chunk(&crew, &chunk, &err), &err);
        assert_int_equal(chunk, cases[i].chunk);
        uint64_t all = f8_pipeline_memory(&crew);
        assert_true(all <= cases[i].memory);
        assert_true(all >= 2 * chunk * cases[i].most);
        assert_true(all < 2 * chunk * (cases[i].most + 1));
    }
}

static void test_too_small_a_budget_starts_nothing(void **state)
{
    fake f;
    f8_error err = {0};

    (void)state;
    fake_begin(&f);
    add_bytes(&f, 0, 10);
    assert_int_equal(fake_run(&f, 2, least_budget(2) - 1, &err), F8_ERR_NOMEM);
    assert_int_equal(err.status, F8_ERR_NOMEM);
    assert_int_equal(f.begins, 0);
    assert_int_equal(f.workers_begun, 0);
    assert_int_equal(f.works, 0);
    fake_end(&f);
}

/* ---- the whole ----------------------------------------------------------- */

static void test_every_element_once(void **state)
{
    double sum = 0;

    (void)state;
    for (unsigned threads = 1; threads <= 16; threads++) {
        fake f;
        f8_error err = {0};
        fake_begin(&f);
        add_usual_units(&f);
        expect_ok(fake_run(&f, threads, least_budget(threads), &err), &err);
        expect_complete(&f);
        /* The order of the additions, so the sum, is always the same. */
        if (threads == 1)
            sum = f.sum;
        assert_true(f.sum == sum);
        fake_end(&f);
    }
}

/* Odd sizes of a chunk: 320 KiB is no power of two, and so on. */
static void test_other_chunks(void **state)
{
    uint64_t least = least_budget(2);

    (void)state;
    for (uint64_t budget = least; budget < 6 * least; budget += least / 3) {
        fake f;
        f8_error err = {0};
        fake_begin(&f);
        add_usual_units(&f);
        expect_ok(fake_run(&f, 2, budget, &err), &err);
        expect_complete(&f);
        fake_end(&f);
    }
}

/* Matrices with as many scales for their size as there can be: one column, or
 * one more than whole blocks. Their scales must fit whatever the chunk. */
static void test_scales_fit(void **state)
{
    static const struct {
        uint64_t rows, cols;
        f8_dtype dtype;
    } shapes[] = {
        {100000, 1, F8_DTYPE_BF16}, {100000, 1, F8_DTYPE_F32},
        {40000, 2, F8_DTYPE_BF16},  {3000, 129, F8_DTYPE_BF16},
        {1, 300000, F8_DTYPE_BF16}, {2, 100000, F8_DTYPE_F32},
        {129, 3000, F8_DTYPE_BF16}, {1000, 257, F8_DTYPE_F16},
        {100001, 1, F8_DTYPE_F16},
    };

    uint64_t least = least_budget(1);

    (void)state;
    for (uint64_t budget = least; budget < 6 * least; budget += least) {
        for (size_t i = 0; i < COUNT_OF(shapes); i++) {
            fake f;
            f8_error err = {0};
            fake_begin(&f);
            add_matrix(&f, 0, shapes[i].rows, shapes[i].cols, shapes[i].dtype);
            expect_ok(fake_run(&f, 1, budget, &err), &err);
            expect_complete(&f);
            fake_end(&f);
        }
    }
}

/* A band that is wider than a chunk is worked on as a whole where the budget
 * allows, and the others are cut as ever. */
static void test_wide_bands_are_whole(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 4; threads += 3) {
        fake f;
        f8_error err = {0};
        fake_begin(&f);
        add_matrix(&f, 0, 300, 17000, F8_DTYPE_BF16); /* 4.2 MiB a band */
        add_matrix(&f, 0, 3000, 1000, F8_DTYPE_F32);
        add_bytes(&f, 0, KIB(9000));
        f.most_bytes = KIB(4096);
        f.widest = 17000;
        expect_ok(fake_run(&f, threads, KIB(64 * 1024), &err), &err);
        expect_complete(&f);
        /* Three bands; 3000 rows by 8 bands of 128; 9000 KiB. */
        assert_int_equal(f.works, 3 + 3 + 3);
        fake_end(&f);
    }
}

static void test_nothing_to_do(void **state)
{
    fake f;
    f8_error err = {0};

    (void)state;
    fake_begin(&f);
    expect_ok(fake_run(&f, 3, least_budget(3), &err), &err);
    assert_int_equal(f.works, 0);
    assert_int_equal(f.progresses, 0);
    fake_end(&f);
}

static void test_skipped_shards(void **state)
{
    (void)state;
    /* Every subset of the five shards. */
    for (unsigned set = 0; set < 32; set++) {
        fake f;
        f8_error err = {0};
        fake_begin(&f);
        add_usual_units(&f);
        for (unsigned s = 0; s < 5; s++)
            f.skipped[s] = set >> s & 1;
        expect_ok(fake_run(&f, 3, least_budget(3), &err), &err);
        expect_complete(&f);
        fake_end(&f);
    }
}

/* Only `get` and `work` are asked for. */
static f8_status bare_work(void *ctx, f8_worker *worker, const f8_item *item,
                           f8_outcome *outcome, f8_error *err)
{
    fake *f = ctx;

    (void)worker;
    (void)outcome;
    (void)err;
    pthread_mutex_lock(&f->mutex);
    f->works++;
    f->retired_bytes += item->bytes;
    pthread_mutex_unlock(&f->mutex);
    return F8_OK;
}

static void test_without_callbacks(void **state)
{
    fake f;
    f8_error err = {0};
    uint64_t bytes = 0;

    (void)state;
    fake_begin(&f);
    add_usual_units(&f);
    const f8_pipeline_ops ops = {.ctx = &f, .get = fake_get, .work = bare_work};
    const f8_crew crew = {.threads = 4, .memory_bytes = least_budget(4)};
    expect_ok(f8_pipeline_run(&ops, f.units_count, f.shards, &crew, &err),
              &err);
    for (uint64_t u = 0; u < f.units_count; u++)
        bytes += f.units[u].bytes;
    assert_int_equal(f.retired_bytes, bytes);
    fake_end(&f);
}

/* ---- failing ------------------------------------------------------------- */

/* Runs with one thread and with four; both have several workers. */
static void expect_failure(const fake *wish, f8_status status,
                           const char *message)
{
    for (unsigned threads = 1; threads <= 4; threads += 3) {
        fake f = *wish;
        f8_error err = {0};
        pthread_mutex_init(&f.mutex, NULL);
        add_usual_units(&f);
        expect_error(fake_run(&f, threads, least_budget(threads), &err), &err,
                     status, message);
        fake_end(&f);
    }
}

static void test_failures(void **state)
{
    fake f;

    (void)state;
    memset(&f, 0, sizeof f);
    f.fail_work = 5;
    expect_failure(&f, F8_ERR_VALUE, "item 5");
    f.fail_work = 1;
    expect_failure(&f, F8_ERR_VALUE, "item 1");
    f.fail_work = 0;
    f.fail_retire = 7;
    expect_failure(&f, F8_ERR_INTERNAL, "retired 7");
    f.fail_retire = 0;
    f.fail_begin = 1; /* before any thread is started */
    expect_failure(&f, F8_ERR_SPACE, "begin of shard 0");
    f.fail_begin = 4;
    expect_failure(&f, F8_ERR_SPACE, "begin of shard 3");
    f.fail_begin = 0;
    f.fail_end = 1;
    expect_failure(&f, F8_ERR_IO, "end of shard 0");
    f.fail_end = 5; /* the last thing that happens */
    expect_failure(&f, F8_ERR_IO, "end of shard 4");
}

static void test_worker_that_cannot_begin(void **state)
{
    fake f;
    f8_error err = {0};

    (void)state;
    fake_begin(&f);
    add_usual_units(&f);
    f.fail_worker = 1;
    expect_error(fake_run(&f, 1, least_budget(1), &err), &err, F8_ERR_NOMEM,
                 "no worker");
    fake_end(&f);
}

/* The caller need not want to know why. */
static void test_failure_without_error(void **state)
{
    fake f;

    (void)state;
    fake_begin(&f);
    add_usual_units(&f);
    f.fail_work = 5;
    assert_int_equal(fake_run(&f, 1, least_budget(1), NULL), F8_ERR_VALUE);
    fake_end(&f);
}

/* Of many units the second fails at once. All others wait until its worker
 * has gone; then the first fails too, and the rest come to a good end. */
typedef struct race {
    pthread_mutex_t mutex;
    pthread_cond_t gone;
    unsigned begun, ended;
    uint64_t worked, retired;
} race;

static void race_get(void *ctx, uint64_t unit, f8_work *work)
{
    (void)ctx;
    (void)unit;
    *work = (f8_work){.bytes = 1};
}

static f8_status race_work(void *ctx, f8_worker *worker, const f8_item *item,
                           f8_outcome *outcome, f8_error *err)
{
    race *r = ctx;

    (void)worker;
    (void)outcome;
    pthread_mutex_lock(&r->mutex);
    r->worked++;
    while (item->unit != 1 && r->ended == 0)
        pthread_cond_wait(&r->gone, &r->mutex);
    pthread_mutex_unlock(&r->mutex);
    if (item->unit == 1)
        return f8_fail(err, F8_ERR_VALUE, "the first failure");
    if (item->unit == 0)
        return f8_fail(err, F8_ERR_IO, "the second failure");
    return F8_OK;
}

static f8_status race_worker_begin(void *ctx, f8_worker *worker, f8_error *err)
{
    race *r = ctx;

    (void)worker;
    (void)err;
    pthread_mutex_lock(&r->mutex);
    r->begun++;
    pthread_mutex_unlock(&r->mutex);
    return F8_OK;
}

static void race_worker_end(void *ctx, f8_worker *worker)
{
    race *r = ctx;

    (void)worker;
    pthread_mutex_lock(&r->mutex);
    r->ended++;
    pthread_cond_broadcast(&r->gone);
    pthread_mutex_unlock(&r->mutex);
}

static f8_status race_retire(void *ctx, const f8_item *item,
                             const f8_outcome *outcome, f8_error *err)
{
    race *r = ctx;

    (void)item;
    (void)outcome;
    (void)err;
    r->retired++;
    return F8_OK;
}

static void test_first_error_wins(void **state)
{
    (void)state;
    for (unsigned threads = 2; threads <= 4; threads++) {
        race r = {
            PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0};
        const f8_pipeline_ops ops = {.ctx = &r,
                                     .get = race_get,
                                     .worker_begin = race_worker_begin,
                                     .worker_end = race_worker_end,
                                     .work = race_work,
                                     .retire = race_retire};
        f8_error err = {0};
        alarm(60); /* a hang becomes a failure */
        const f8_crew crew = {.threads = threads,
                              .memory_bytes = least_budget(threads)};
        expect_error(f8_pipeline_run(&ops, 1000, 1, &crew, &err), &err,
                     F8_ERR_VALUE, "the first failure");
        alarm(0);
        assert_int_equal(r.ended, r.begun);
        /* Nobody took another item after the failure. */
        assert_true(r.worked >= 2 && r.worked <= r.begun);
        /* Nothing is retired before the first item, which was never good. */
        assert_int_equal(r.retired, 0);
    }
}

static void test_cancel(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 4; threads += 3) {
        for (uint64_t stop = 1; stop < 20; stop += 6) {
            fake f;
            f8_error err = {0};
            fake_begin(&f);
            add_usual_units(&f);
            f.stop_progress = stop;
            expect_error(fake_run(&f, threads, least_budget(threads), &err),
                         &err, F8_ERR_CANCELLED, "stopped");
            assert_int_equal(f.progresses, stop);
            assert_true(f.retired <= stop);
            fake_end(&f);
        }
    }
}

/* Asked for with the last shard, when all is done already. */
static void test_cancel_at_the_end(void **state)
{
    fake f;
    f8_error err = {0};

    (void)state;
    fake_begin(&f);
    add_bytes(&f, 0, 3);
    f.stop_progress = 2;
    expect_error(fake_run(&f, 1, least_budget(1), &err), &err, F8_ERR_CANCELLED,
                 "stopped");
    assert_int_equal(f.retired, 1);
    assert_int_equal(f.ended[0], 1);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_budget),
        cmocka_unit_test(test_budget_is_kept),
        cmocka_unit_test(test_budget_in_memory),
        cmocka_unit_test(test_budget_for_wide_bands),
        cmocka_unit_test(test_too_small_a_budget_starts_nothing),
        cmocka_unit_test(test_every_element_once),
        cmocka_unit_test(test_other_chunks),
        cmocka_unit_test(test_wide_bands_are_whole),
        cmocka_unit_test(test_scales_fit),
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_skipped_shards),
        cmocka_unit_test(test_without_callbacks),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_worker_that_cannot_begin),
        cmocka_unit_test(test_failure_without_error),
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_at_the_end),
    };
    return cmocka_run_group_tests_name("pipeline", tests, NULL, NULL);
}
