/* contrast.c - reads the bytes of all pairs and compares them. See contrast.h.
 *
 * Two FP8 weights, or one and another dtype, go through in panels with their
 * scales; everything else in runs of bytes. Both are compared in pieces that
 * do not depend on the size of a worker's buffers.
 *
 * Most of what is compared is either equal everywhere or nowhere, and equal
 * bytes need no arithmetic. Pairs that are equal in part need the sums of those
 * parts after all: they are read a second time. */
#include "contrast.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "source.h"

/* A matrix of a pair, or all of it. */
typedef struct unit {
    uint32_t pair, matrix;
} unit;

typedef struct run {
    const f8_pairs *pairs;
    f8_gap *findings;
    const f8_options *options;
    unit *units;
    uint64_t units_count;
    bool *is_mixed; /* one a pair: part of it was equal, and not measured */
    bool is_second; /* measures those that turned out to be so */
    f8_progress progress;
} run;

/* ---- the bytes ----------------------------------------------------------- */

/* A worker's files, and scales of an item. */
typedef struct reader {
    f8_handle weights, scales;
} reader;

typedef struct readers {
    reader a, b;
} readers;

static bool has_scales(const f8_pair *pair)
{
    return pair->a.scale || pair->b.scale;
}

/* Of the pair's matrices, where it has scales; of the parts, if it is one. */
static void matrix_shape(const f8_pair *pair, uint64_t *rows, uint64_t *cols)
{
    unsigned rank;
    const uint64_t *shape = f8_side_shape(pair, &pair->a, &rank);

    *rows = shape[rank - 2];
    *cols = shape[rank - 1];
}

/* Bytes of an element in the side that has larger ones. */
static size_t step_bytes(const f8_pair *pair)
{
    size_t x = f8_dtype_bytes(pair->a.tensor->dtype);
    size_t y = f8_dtype_bytes(pair->b.tensor->dtype);

    return x > y ? x : y;
}

/* A panel with scales is cut as if it were of binary32 at least: a worker's
 * room for scales then holds those of both sides. */
static f8_dtype panel_dtype(const f8_pair *pair)
{
    return step_bytes(pair) > f8_dtype_bytes(F8_DTYPE_F32) ? F8_DTYPE_F64
                                                           : F8_DTYPE_F32;
}

static void get_work(void *ctx, uint64_t i, f8_work *work)
{
    const run *r = ctx;
    const f8_pair *pair = &r->pairs->items[r->units[i].pair];

    memset(work, 0, sizeof *work);
    work->matrix = has_scales(pair);
    if (work->matrix) {
        matrix_shape(pair, &work->rows, &work->cols);
        work->dtype = panel_dtype(pair);
    } else {
        work->bytes = f8_pair_elems(pair) * step_bytes(pair);
    }
}

static f8_status begin_worker(void *ctx, f8_worker *worker, f8_error *err)
{
    (void)ctx;
    readers *r = f8_alloc(1, sizeof *r);

    if (!r)
        return f8_fail_nomem(err, "a worker");
    r->a.weights = r->a.scales = F8_HANDLE_NONE;
    r->b.weights = r->b.scales = F8_HANDLE_NONE;
    worker->user = r;
    return F8_OK;
}

static void close_reader(reader *r)
{
    f8_handle_close(&r->weights);
    f8_handle_close(&r->scales);
}

static void end_worker(void *ctx, f8_worker *worker)
{
    readers *r = worker->user;

    (void)ctx;
    if (r) {
        close_reader(&r->a);
        close_reader(&r->b);
    }
    free(r);
}

/* ---- matrices with scales ------------------------------------------------ */

/* One side's part of a panel, in memory. */
typedef struct panel {
    const f8_side *side;
    uint64_t begin, rows, cols;
    const unsigned char *data;
    const unsigned char *scales; /* from the row of blocks of the first row */
    uint64_t across;             /* scales of a row of blocks, packed */
} panel;

/* Row of blocks of the scale tensor that a row of the panel belongs to. */
static uint64_t block_row(const panel *p, uint64_t row)
{
    return (p->side->scale_row + p->begin + row) / F8_BLOCK;
}

/* Rows of blocks are as long as the matrix, panels may be narrower: then they
 * are one band high, which of an expert's part may begin between blocks. */
static f8_status read_scales(const f8_handle *handle, panel *p,
                             const f8_item *item, uint64_t cols,
                             uint64_t matrix, unsigned char *to, f8_error *err)
{
    const f8_tensor *t = p->side->scale;
    size_t each = f8_dtype_bytes(t->dtype);
    uint64_t whole = f8_ceil_div(cols, F8_BLOCK);
    uint64_t high = t->shape[t->rank - 2];
    uint64_t first = block_row(p, 0), last = block_row(p, item->rows - 1);
    uint64_t at =
        p->side->scale_offset +
        ((matrix * high + first) * whole + item->col / F8_BLOCK) * each;
    f8_status status = F8_OK;

    p->scales = to;
    p->across = f8_ceil_div(item->cols, F8_BLOCK);
    if (item->cols == cols)
        return f8_read_at(handle->file.fd, to,
                          (size_t)((last - first + 1) * whole * each), at,
                          handle->path, err);
    for (uint64_t i = first; i <= last && status == F8_OK; i++) {
        size_t n = (size_t)p->across * each;
        status = f8_read_at(handle->file.fd, to + (i - first) * n, n,
                            at + (i - first) * whole * each, handle->path, err);
    }
    return status;
}

static f8_status read_panel(reader *r, const f8_checkpoint *cp, panel *p,
                            const f8_item *item, const f8_pair *pair,
                            uint64_t matrix, unsigned char *buffer,
                            unsigned char *scales, f8_error *err)
{
    const f8_side *side = p->side;
    size_t each = f8_dtype_bytes(side->tensor->dtype);
    uint64_t rows, cols;
    unsigned char *data = NULL;

    matrix_shape(pair, &rows, &cols);
    p->begin = item->row;
    p->rows = item->rows;
    p->cols = item->cols;
    f8_status status = f8_handle_use(&r->weights, cp, side->tensor->file, err);
    if (status == F8_OK)
        status = f8_read_panel(&r->weights,
                               side->offset + matrix * rows * cols * each, cols,
                               each, item, buffer, &data, err);
    p->data = data;
    if (status != F8_OK || !side->scale)
        return status;
    status = f8_handle_use(&r->scales, cp, side->scale->file, err);
    if (status == F8_OK)
        status = read_scales(&r->scales, p, item, cols, matrix, scales, err);
    return status;
}

/* Up to 128 numbers of a row, from a column that is a multiple of 128. */
static void panel_numbers(const panel *p, uint64_t row, uint64_t col, size_t n,
                          double *to)
{
    f8_dtype dtype = p->side->tensor->dtype;
    const unsigned char *from =
        p->data + (row * p->cols + col) * f8_dtype_bytes(dtype);

    if (!p->side->scale) {
        f8_numbers(from, dtype, n, to);
        return;
    }
    uint64_t block =
        (block_row(p, row) - block_row(p, 0)) * p->across + col / F8_BLOCK;
    size_t each = f8_dtype_bytes(p->side->scale->dtype);
    float scale = f8_scale_load(p->scales + block * each, p->side->scale_dtype);
    f8_numbers_scaled(from, scale, n, to);
}

/* Blocks in order of rows, and each row of a block for itself, so that sums do
 * not depend on how wide a panel is. */
static void compare_panels(const panel *a, const panel *b,
                           f8_distance *distance)
{
    double w[F8_BLOCK], v[F8_BLOCK];

    for (uint64_t row = 0; row < a->rows; row++) {
        for (uint64_t col = 0; col < a->cols; col += F8_BLOCK) {
            uint64_t left = a->cols - col;
            size_t n = left < F8_BLOCK ? (size_t)left : F8_BLOCK;
            panel_numbers(a, row, col, n, w);
            panel_numbers(b, row, col, n, v);
            f8_distance_run(distance, w, v, n);
        }
    }
}

/* Whether codes and scales are the same bytes, of sides of the same dtypes. A
 * part may begin inside of a block: then the same bytes may mean other values.
 */
static bool are_same_panels(const panel *a, const panel *b)
{
    size_t each = f8_dtype_bytes(a->side->tensor->dtype);
    uint64_t blocks = block_row(a, a->rows - 1) - block_row(a, 0) + 1;

    assert(a->scales && b->scales); /* one side has them, so both do */
    if (a->side->scale_row % F8_BLOCK != b->side->scale_row % F8_BLOCK ||
        memcmp(a->data, b->data, (size_t)(a->rows * a->cols) * each) != 0)
        return false;
    each = f8_dtype_bytes(a->side->scale->dtype);
    return memcmp(a->scales, b->scales, (size_t)(blocks * a->across) * each) ==
           0;
}

static f8_status work_on_panel(const run *r, f8_worker *worker,
                               const f8_item *item, f8_outcome *outcome,
                               f8_error *err)
{
    const unit *u = &r->units[item->unit];
    const f8_pair *pair = &r->pairs->items[u->pair];
    readers *files = worker->user;
    panel a = {.side = &pair->a}, b = {.side = &pair->b};
    size_t most = (size_t)((f8_ceil_div(item->rows, F8_BLOCK) + 1) *
                           f8_ceil_div(item->cols, F8_BLOCK) * 4);

    f8_status status =
        read_panel(&files->a, r->pairs->a.checkpoint, &a, item, pair, u->matrix,
                   worker->in, worker->scales, err);
    if (status == F8_OK)
        status = read_panel(&files->b, r->pairs->b.checkpoint, &b, item, pair,
                            u->matrix, worker->out, worker->scales + most, err);
    if (status != F8_OK)
        return status;
    outcome->faults = !pair->same_dtype || !are_same_panels(&a, &b);
    if (!outcome->faults && !r->is_second)
        return F8_OK;
    f8_worker_compute(worker);
    compare_panels(&a, &b, &outcome->distance);
    f8_worker_computed(worker);
    return F8_OK;
}

/* ---- everything else ----------------------------------------------------- */

static void count_unequal(const unsigned char *a, const unsigned char *b,
                          size_t elems, size_t each, f8_distance *distance)
{
    for (size_t i = 0; i < elems; i++)
        distance->differing += memcmp(a + i * each, b + i * each, each) != 0;
}

static void compare_flat(const f8_pair *pair, const unsigned char *a,
                         const unsigned char *b, size_t elems,
                         f8_distance *distance)
{
    f8_dtype p = pair->a.tensor->dtype, q = pair->b.tensor->dtype;
    double w[F8_RUN_ELEMS], v[F8_RUN_ELEMS];

    if (!f8_pair_is_real(pair)) {
        count_unequal(a, b, elems, f8_dtype_bytes(p), distance);
        return;
    }
    for (size_t i = 0; i < elems; i += F8_RUN_ELEMS) {
        size_t n = elems - i < F8_RUN_ELEMS ? elems - i : F8_RUN_ELEMS;
        f8_numbers(a + i * f8_dtype_bytes(p), p, n, w);
        f8_numbers(b + i * f8_dtype_bytes(q), q, n, v);
        f8_distance_run(distance, w, v, n);
    }
}

static f8_status read_flat(reader *r, const f8_checkpoint *cp,
                           const f8_side *side, uint64_t first, size_t elems,
                           unsigned char *buffer, unsigned char **data,
                           f8_error *err)
{
    size_t each = f8_dtype_bytes(side->tensor->dtype);
    f8_status status = f8_handle_use(&r->weights, cp, side->tensor->file, err);

    if (status == F8_OK)
        status = f8_handle_read(&r->weights, buffer, elems * each,
                                side->offset + first * each, data, err);
    return status;
}

static f8_status work_on_run(const run *r, f8_worker *worker,
                             const f8_item *item, f8_outcome *outcome,
                             f8_error *err)
{
    const f8_pair *pair = &r->pairs->items[r->units[item->unit].pair];
    size_t step = step_bytes(pair), elems = (size_t)item->bytes / step;
    readers *files = worker->user;
    unsigned char *a = NULL, *b = NULL;

    f8_status status =
        read_flat(&files->a, r->pairs->a.checkpoint, &pair->a,
                  item->begin / step, elems, worker->in, &a, err);
    if (status == F8_OK)
        status = read_flat(&files->b, r->pairs->b.checkpoint, &pair->b,
                           item->begin / step, elems, worker->out, &b, err);
    if (status != F8_OK)
        return status;
    outcome->faults = !pair->same_dtype || memcmp(a, b, elems * step) != 0;
    if (!outcome->faults && !r->is_second)
        return F8_OK;
    f8_worker_compute(worker);
    compare_flat(pair, a, b, elems, &outcome->distance);
    f8_worker_computed(worker);
    return F8_OK;
}

static f8_status work(void *ctx, f8_worker *worker, const f8_item *item,
                      f8_outcome *outcome, f8_error *err)
{
    const run *r = ctx;

    if (has_scales(&r->pairs->items[r->units[item->unit].pair]))
        return work_on_panel(r, worker, item, outcome, err);
    return work_on_run(r, worker, item, outcome, err);
}

static uint64_t bytes_of(const f8_pair *pair, uint64_t elems)
{
    return elems * (f8_dtype_bytes(pair->a.tensor->dtype) +
                    f8_dtype_bytes(pair->b.tensor->dtype));
}

static f8_status retire(void *ctx, const f8_item *item,
                        const f8_outcome *outcome, f8_error *err)
{
    run *r = ctx;
    size_t i = r->units[item->unit].pair;
    const f8_pair *pair = &r->pairs->items[i];
    f8_gap *finding = &r->findings[i];
    uint64_t step =
        has_scales(pair) ? f8_dtype_bytes(panel_dtype(pair)) : step_bytes(pair);

    (void)err;
    f8_distance_add(&finding->distance, &outcome->distance);
    finding->other_bytes |= outcome->faults > 0;
    r->is_mixed[i] |= outcome->faults == 0;
    r->progress.bytes_done += bytes_of(pair, item->bytes / step);
    return F8_OK;
}

static int tell(void *ctx, uint64_t bytes, int64_t shard)
{
    run *r = ctx;

    (void)bytes; /* of one side, and as if they were larger */
    (void)shard; /* there is only one, and it is not a file */
    if (!r->options->progress)
        return 0;
    return r->options->progress(r->options->progress_user, &r->progress);
}

/* Whether this pass reads the pair. */
static bool is_read(const run *r, size_t i)
{
    const f8_pair *pair = &r->pairs->items[i];

    if (r->is_second)
        return r->is_mixed[i] && r->findings[i].other_bytes;
    return pair->is_comparable && f8_pair_elems(pair) > 0;
}

static uint64_t matrices_of(const f8_pair *pair)
{
    unsigned rank;
    const uint64_t *shape = f8_side_shape(pair, &pair->a, &rank);

    return has_scales(pair) && rank == 3 ? shape[0] : 1;
}

static f8_status make_units(run *r, f8_error *err)
{
    const f8_pairs *pairs = r->pairs;
    uint64_t count = 0;

    for (size_t i = 0; i < pairs->count; i++) {
        count += is_read(r, i) ? matrices_of(&pairs->items[i]) : 0;
        if (count > F8_TENSORS_MAX)
            return f8_fail(err, F8_ERR_REFUSED,
                           "tensor %s: expected at most %d matrices and other "
                           "tensors to compare, found more",
                           pairs->items[i].name, F8_TENSORS_MAX);
    }
    free(r->units);
    r->units = f8_alloc(count, sizeof *r->units);
    if (!r->units)
        return f8_fail_nomem(err, "the comparison");
    r->units_count = 0;
    for (size_t i = 0; i < pairs->count; i++) {
        const f8_pair *pair = &pairs->items[i];
        if (!is_read(r, i))
            continue;
        for (uint64_t k = 0; k < matrices_of(pair); k++)
            r->units[r->units_count++] = (unit){(uint32_t)i, (uint32_t)k};
        r->progress.bytes_total += bytes_of(pair, f8_pair_elems(pair));
        memset(&r->findings[i].distance, 0, sizeof(f8_distance));
    }
    return F8_OK;
}

f8_status f8_contrast(const f8_pairs *pairs, const f8_options *options,
                      f8_gap *findings, f8_error *err)
{
    run r = {.pairs = pairs, .findings = findings, .options = options};
    const f8_pipeline_ops ops = {.ctx = &r,
                                 .get = get_work,
                                 .worker_begin = begin_worker,
                                 .worker_end = end_worker,
                                 .work = work,
                                 .retire = retire,
                                 .progress = tell};

    const f8_crew crew = {.threads = options->threads,
                          .memory_bytes = options->memory_bytes,
                          .in_memory =
                              f8_path_in_memory(pairs->a.checkpoint->dir) &&
                              f8_path_in_memory(pairs->b.checkpoint->dir)};

    r.is_mixed = f8_alloc(pairs->count, sizeof *r.is_mixed);
    if (!r.is_mixed)
        return f8_fail_nomem(err, "the comparison");
    f8_status status = F8_OK;
    for (int pass = 0; pass < 2 && status == F8_OK; pass++) {
        r.is_second = pass == 1;
        status = make_units(&r, err);
        if (status == F8_OK && r.units_count > 0)
            status = f8_pipeline_run(&ops, r.units_count, 1, &crew, err);
    }
    free(r.units);
    free(r.is_mixed);
    return status;
}
