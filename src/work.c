/* work.c - what is done with one item. See work.h. */
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dequant.h"

/* The source's files that a worker has open. */
typedef struct handles {
    f8_handle source;
    f8_handle scales; /* where they are not in the same file */
} handles;

/* One item and all that belongs to it. */
typedef struct job {
    const f8_plan *plan;
    const f8_kernel *kernel;
    f8_behind *behind;
    const f8_output *out;
    f8_worker *worker;
    const f8_item *item;
    const f8_unit *unit;
    const f8_tensor *source;
    const f8_tensor *scale; /* of the source, when that is FP8 */
    const f8_handle *scale_handle;
} job;

void f8_work_describe(const f8_plan *plan, uint64_t unit, f8_work *work)
{
    const f8_unit *u = &plan->units[unit];

    memset(work, 0, sizeof *work);
    work->matrix = u->action != F8_KEEP || u->stride || u->to_stride;
    work->shard = u->shard;
    work->bytes = u->bytes;
    work->dtype = plan->source->tensors.items[u->source].dtype;
    if (!work->matrix)
        return;
    work->rows = f8_unit_rows(u);
    work->cols = f8_unit_cols(u);
    if (u->action == F8_DEQUANTIZE)
        work->widest = plan->value_dtype;
    else if (f8_plan_scale(plan, u->source))
        work->widest = F8_DTYPE_F32; /* what is quantised anew */
}

f8_status f8_work_begin(f8_worker *worker, f8_error *err)
{
    handles *h = f8_alloc(1, sizeof *h);

    if (!h)
        return f8_fail_nomem(err, "a worker");
    h->source = h->scales = F8_HANDLE_NONE;
    worker->user = h;
    return F8_OK;
}

void f8_work_end(f8_worker *worker)
{
    handles *h = worker->user;

    if (h) {
        f8_handle_close(&h->source);
        f8_handle_close(&h->scales);
    }
    free(h);
}

/* ---- writing ------------------------------------------------------------- */

/* Where an item begins in the shard's file, in elements of so many bytes. */
static uint64_t offset_of(const job *j, size_t elem_bytes)
{
    return j->out->data_start + j->unit->data_begin +
           (j->item->row * f8_unit_cols(j->unit) + j->item->col) * elem_bytes;
}

/* Rows of a panel that is narrower than its matrix lie apart in the file. */
static f8_status write_rows(const job *j, const unsigned char *rows,
                            size_t elem_bytes, f8_error *err)
{
    const f8_item *item = j->item;
    const f8_output *out = j->out;
    uint64_t at = offset_of(j, elem_bytes);
    uint64_t stride = f8_unit_cols(j->unit) * elem_bytes;
    size_t n = (size_t)(item->cols * elem_bytes);
    f8_status status = F8_OK;

    if (item->cols == f8_unit_cols(j->unit))
        return f8_file_write(&out->file, rows, (size_t)item->rows * n, at,
                             out->temporary, err);
    for (uint64_t r = 0; r < item->rows && status == F8_OK; r++)
        status = f8_file_write_cached(&out->file, rows + r * n, n,
                                      at + r * stride, out->temporary, err);
    return status;
}

/* Writes packed rows of a matrix that lies transposed in the result; `spare`
 * has room for as many. Its columns are runs of a kilobyte or less there, with
 * the other parts' between them, which follow soon: they go through the
 * cache. */
static f8_status write_across(const job *j, const unsigned char *rows,
                              size_t elem_bytes, unsigned char *spare,
                              f8_error *err)
{
    const f8_item *item = j->item;
    const f8_output *out = j->out;
    uint64_t at = out->data_start + j->unit->data_begin;
    size_t n = (size_t)item->rows * elem_bytes;
    f8_status status = F8_OK;

    f8_transpose(rows, spare, (size_t)item->rows, (size_t)item->cols,
                 elem_bytes);
    for (uint64_t c = 0; c < item->cols && status == F8_OK; c++)
        status = f8_file_write_cached(
            &out->file, spare + c * n, n,
            at +
                ((item->col + c) * j->unit->to_stride + item->row) * elem_bytes,
            out->temporary, err);
    if (status == F8_OK)
        f8_behind_written(j->behind, item, &out->file, out->data_start);
    return status;
}

/* ---- quantising ---------------------------------------------------------- */

static f8_status fail_value(const job *j, const f8_spot *spot, f8_error *err)
{
    const f8_tensor *t = j->source;
    const f8_unit *u = j->unit;
    bool part = j->plan->decisions[u->source].rule->kind == F8_RULE_SPLIT;

    return f8_fail(err, F8_ERR_VALUE,
                   "%s: tensor %s%s%s, row %llu, column %llu: expected a "
                   "finite weight, found %s",
                   j->plan->source->files[t->file].name, t->name,
                   part ? ", part " : "", part ? u->name : "",
                   (unsigned long long)(j->item->row + spot->row),
                   (unsigned long long)(j->item->col + spot->col),
                   f8_odd_name(spot->value));
}

/* Quantises packed weights; codes and scales are where they are to be put. */
static f8_status quantise(const job *j, const void *weights, f8_dtype dtype,
                          uint8_t *codes, uint8_t *scales, f8_outcome *outcome,
                          f8_error *err)
{
    const f8_item *item = j->item;
    const f8_unit *u = j->unit;
    f8_spot spot = {0, 0, 0};
    f8_panel panel = {
        .weights = weights,
        .stride_bytes = (size_t)(item->cols * f8_dtype_bytes(dtype)),
        .dtype = dtype,
        .rows = item->rows,
        .cols = item->cols,
        .codes = codes,
        .codes_stride = (size_t)item->cols,
        .scale_dtype = j->plan->scale_dtype,
        .scales = scales,
        .stream = j->out->file.direct_fd >= 0,
        .choice = j->plan->choice,
        .exact = f8_has_few_blocks(f8_unit_rows(u), f8_unit_cols(u)),
        .finds = &outcome->finds};
    f8_scale_range range =
        f8_item_scales(item, f8_unit_cols(u), panel.scale_dtype);

    f8_worker_compute(j->worker);
    bool good = f8_panel_quantise(j->kernel, &panel, outcome->hist, &spot);
    f8_worker_computed(j->worker);
    if (!good)
        return fail_value(j, &spot, err);
    f8_status status = write_rows(j, codes, 1, err);
    if (status != F8_OK)
        return status;
    return f8_file_write_cached(&j->out->file, scales, (size_t)range.bytes,
                                j->out->data_start + u->scale_begin +
                                    range.begin,
                                j->out->temporary, err);
}

/* An item's weights, packed and in the result's order; worker->out is scratch
 * here. */
static f8_status read_weights(const job *j, unsigned char **weights,
                              f8_error *err)
{
    const handles *h = j->worker->user;
    size_t elem_bytes = f8_dtype_bytes(j->source->dtype);

    if (j->unit->stride) {
        f8_behind_reading(j->behind, j->item, &h->source);
        f8_status status = f8_read_across(
            &h->source, j->unit->offset, j->unit->stride, elem_bytes, j->item,
            j->worker->in, j->worker->out, weights, err);
        f8_behind_read(j->behind);
        return status;
    }
    return f8_read_panel(&h->source, j->unit->offset, f8_unit_cols(j->unit),
                         elem_bytes, j->item, j->worker->in, weights, err);
}

static f8_status quantise_item(const job *j, f8_outcome *outcome, f8_error *err)
{
    f8_dtype dtype = j->source->dtype;
    unsigned char *weights;

    f8_status status = read_weights(j, &weights, err);
    if (status != F8_OK)
        return status;
    return quantise(j, weights, dtype,
                    j->worker->out + offset_of(j, 1) % F8_ALIGN,
                    j->worker->scales, outcome, err);
}

/* ---- dequantising -------------------------------------------------------- */

/* Names the place in the source's tensor, of which the unit may be a part. */
static f8_status fail_code(const job *j, f8_code_fault fault,
                           const f8_code_spot *spot, f8_dtype dtype,
                           f8_error *err)
{
    const f8_tensor *t = fault == F8_CODES_BAD_SCALE ? j->scale : j->source;
    uint64_t before =
        (j->unit->offset - j->source->offset) / f8_unit_cols(j->unit);
    uint64_t height = j->source->shape[j->source->rank - 2];
    unsigned long long row = before % height + j->item->row + spot->row;
    unsigned long long col = j->item->col + spot->col;
    char expert[40] = "", found[128];

    if (t->rank == 3)
        snprintf(expert, sizeof expert, ", expert %llu",
                 (unsigned long long)(before / height));
    switch (fault) {
    case F8_CODES_BAD_SCALE:
        row /= F8_BLOCK;
        col /= F8_BLOCK;
        snprintf(found, sizeof found,
                 "expected a finite scale that is not negative, found %g",
                 (double)spot->scale);
        break;
    case F8_CODES_ZERO_SCALE:
        snprintf(found, sizeof found,
                 "expected a code of zero where the scale is 0, found %g",
                 (double)f8_e4m3_decode(spot->code));
        break;
    case F8_CODES_TOO_LARGE:
        snprintf(found, sizeof found,
                 "expected a value that %s holds, found %g",
                 f8_dtype_name(dtype), spot->value);
        break;
    case F8_CODES_NAN:
    case F8_CODES_FINE:
    default:
        snprintf(found, sizeof found, "expected a finite code, found NaN");
        break;
    }
    return f8_fail(
        err, F8_ERR_VALUE, "%s: tensor %s%s, row %llu, column %llu: %s",
        j->plan->source->files[t->file].name, t->name, expert, row, col, found);
}

/* Reads codes into worker->in, their scales into worker->scales, and restores
 * them at `values`, packed. */
static f8_status restore(const job *j, f8_dtype dtype, void *values,
                         f8_error *err)
{
    const handles *h = j->worker->user;
    const f8_item *item = j->item;
    const f8_unit *u = j->unit;
    f8_code_spot spot;
    f8_code_panel panel = {
        .codes_stride = (size_t)item->cols,
        .rows = item->rows,
        .cols = item->cols,
        .scale_dtype = j->plan->pairs.partners[u->source].scale_dtype,
        .scales = j->worker->scales,
        .dtype = dtype,
        .values = values,
        .values_stride = (size_t)(item->cols * f8_dtype_bytes(dtype))};
    f8_scale_range range =
        f8_item_scales(item, f8_unit_cols(u), panel.scale_dtype);
    unsigned char *codes = NULL;

    f8_status status = f8_read_panel(&h->source, u->offset, f8_unit_cols(u), 1,
                                     item, j->worker->in, &codes, err);
    if (status == F8_OK)
        status = f8_read_at(j->scale_handle->file.fd, j->worker->scales,
                            (size_t)range.bytes, u->from_scale + range.begin,
                            j->scale_handle->path, err);
    if (status != F8_OK)
        return status;
    panel.codes = codes;
    f8_worker_compute(j->worker);
    f8_code_fault fault = f8_panel_dequantise(j->kernel, &panel, &spot);
    f8_worker_computed(j->worker);
    return fault == F8_CODES_FINE ? F8_OK
                                  : fail_code(j, fault, &spot, dtype, err);
}

static f8_status dequantise_item(const job *j, f8_error *err)
{
    f8_dtype dtype = j->plan->value_dtype;
    size_t elem_bytes = f8_dtype_bytes(dtype);
    unsigned char *values =
        j->worker->out + offset_of(j, elem_bytes) % F8_ALIGN;

    f8_status status = restore(j, dtype, values, err);
    if (status != F8_OK)
        return status;
    /* The codes have been read. */
    return j->unit->to_stride
               ? write_across(j, values, elem_bytes, j->worker->in, err)
               : write_rows(j, values, elem_bytes, err);
}

/* Old codes and new ones share a buffer, since a chunk holds four bytes for
 * each; the same goes for the scales. */
static f8_status requantise_item(const job *j, f8_outcome *outcome,
                                 f8_error *err)
{
    const f8_item *item = j->item;
    size_t n = (size_t)(item->rows * item->cols);
    size_t used = (n + 2 * F8_ALIGN) / F8_ALIGN * F8_ALIGN + F8_ALIGN;
    f8_scale_range old =
        f8_item_scales(item, f8_unit_cols(j->unit),
                       j->plan->pairs.partners[j->unit->source].scale_dtype);

    f8_status status = restore(j, F8_DTYPE_F32, j->worker->out, err);
    if (status != F8_OK)
        return status;
    return quantise(j, j->worker->out, F8_DTYPE_F32,
                    j->worker->in + used + offset_of(j, 1) % F8_ALIGN,
                    j->worker->scales + old.bytes, outcome, err);
}

/* ---- copying ------------------------------------------------------------- */

static f8_status copy_item(const job *j, f8_error *err)
{
    const handles *h = j->worker->user;
    const f8_output *out = j->out;
    uint64_t to = out->data_start + j->unit->data_begin + j->item->begin;
    size_t n = (size_t)j->item->bytes;
    unsigned char *data;

    f8_status status =
        f8_handle_read(&h->source, j->worker->in, n,
                       j->unit->offset + j->item->begin, &data, err);
    if (status != F8_OK)
        return status;
    if (out->file.direct_fd >= 0 &&
        (uintptr_t)data % F8_ALIGN != to % F8_ALIGN) {
        unsigned char *aligned = j->worker->out + to % F8_ALIGN;
        memcpy(aligned, data, n);
        data = aligned;
    }
    return f8_file_write(&out->file, data, n, to, out->temporary, err);
}

/* A matrix that is kept, but lies transposed in the source or in the result. */
static f8_status copy_across(const job *j, f8_error *err)
{
    unsigned char *rows;

    f8_status status = read_weights(j, &rows, err);
    if (status != F8_OK)
        return status;
    size_t elem_bytes = f8_dtype_bytes(j->source->dtype);
    size_t n = (size_t)(j->item->rows * j->item->cols) * elem_bytes;
    if (j->unit->to_stride) { /* from where elements may not be aligned */
        memcpy(j->worker->out, rows, n);
        return write_across(j, j->worker->out, elem_bytes, j->worker->in, err);
    }
    unsigned char *aligned =
        j->worker->out + offset_of(j, elem_bytes) % F8_ALIGN;
    memcpy(aligned, rows, n);
    return write_rows(j, aligned, elem_bytes, err);
}

f8_status f8_work_do(f8_task *task, const f8_output *output, f8_worker *worker,
                     const f8_item *item, f8_outcome *outcome, f8_error *err)
{
    const f8_plan *plan = task->plan;
    const f8_unit *u = &plan->units[item->unit];
    handles *h = worker->user;
    job j = {.plan = plan,
             .kernel = task->kernel,
             .behind = &task->behind,
             .out = output,
             .worker = worker,
             .item = item,
             .unit = u,
             .source = &plan->source->tensors.items[u->source],
             .scale = f8_plan_scale(plan, u->source),
             .scale_handle = &h->source};

    f8_status status =
        f8_handle_use(&h->source, plan->source, j.source->file, err);
    if (status == F8_OK && j.scale && j.scale->file != j.source->file) {
        j.scale_handle = &h->scales;
        status = f8_handle_use(&h->scales, plan->source, j.scale->file, err);
    }
    if (status != F8_OK)
        return status;
    if (u->action == F8_KEEP)
        return u->stride || u->to_stride ? copy_across(&j, err)
                                         : copy_item(&j, err);
    if (!j.scale)
        return quantise_item(&j, outcome, err);
    return u->action == F8_QUANTIZE ? requantise_item(&j, outcome, err)
                                    : dequantise_item(&j, err);
}
