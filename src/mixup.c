/* mixup.c - whose weights a matrix has. See mixup.h. */
#include "mixup.h"

#include <stdlib.h>
#include <string.h>

#include "source.h"

/* Blocks that are compared before a matrix is taken for another's. */
enum { PROBES = 16 };

typedef struct suspect {
    const f8_agreement *pair;
    const f8_kernel *kernel;
    const f8_unit *unit;
    const f8_counterpart *part;
    f8_handle source, result, scales;
    void *in, *spare, *out;
    uint8_t scratch[F8_BLOCK * F8_BLOCK];
    uint64_t hist[F8_HIST_BINS];
    f8_finds finds;
} suspect;

/* ---- which names are alike ----------------------------------------------- */

static size_t word_length(const char *name)
{
    return strcspn(name, ".");
}

/* Whether the names have the same words but for one. */
static bool is_alike(const char *a, const char *b)
{
    unsigned others = 0;

    for (;;) {
        size_t n = word_length(a), m = word_length(b);
        others += n != m || memcmp(a, b, n) != 0;
        if (others > 1 || a[n] != b[m])
            return false;
        if (!a[n])
            return others == 1;
        a += n + 1;
        b += m + 1;
    }
}

static bool is_candidate(const f8_plan *plan, const f8_unit *u,
                         const f8_unit *other)
{
    f8_dtype dtype = plan->source->tensors.items[other->source].dtype;

    return other != u && other->rank == 2 &&
           (dtype == F8_DTYPE_BF16 || dtype == F8_DTYPE_F16 ||
            dtype == F8_DTYPE_F32) &&
           f8_unit_rows(other) == f8_unit_rows(u) &&
           f8_unit_cols(other) == f8_unit_cols(u) &&
           is_alike(u->name, other->name);
}

/* ---- whether codes fit weights ------------------------------------------- */

static f8_status read_weights(suspect *s, const f8_unit *from,
                              const f8_item *item, unsigned char **weights,
                              f8_error *err)
{
    const f8_tensor *t = &s->pair->plan.source->tensors.items[from->source];
    size_t elem_bytes = f8_dtype_bytes(t->dtype);
    f8_status status =
        f8_handle_use(&s->source, s->pair->plan.source, t->file, err);

    if (status != F8_OK)
        return status;
    if (from->stride)
        return f8_read_across(&s->source, from->offset, from->stride,
                              elem_bytes, item, s->in, s->spare, weights, err);
    return f8_read_panel(&s->source, from->offset, f8_unit_cols(from),
                         elem_bytes, item, s->in, weights, err);
}

/* Whether the codes of a piece of a block are the nearest to another unit's
 * weights. *any: there is one that is not zero, so that this says something. */
static f8_status compare(suspect *s, const f8_unit *from, const f8_item *item,
                         bool *fits, bool *any, f8_error *err)
{
    const f8_counterpart *part = s->part;
    uint64_t cols = f8_unit_cols(s->unit);
    f8_scale_range range = f8_item_scales(item, cols, part->scale_dtype);
    uint8_t scale[sizeof(float)];
    unsigned char *weights = NULL, *codes = NULL;
    f8_dtype dtype = s->pair->plan.source->tensors.items[from->source].dtype;
    f8_check check = {0};

    f8_status status = read_weights(s, from, item, &weights, err);
    if (status == F8_OK)
        status = f8_read_panel(&s->result, part->weight->offset, cols, 1, item,
                               s->out, &codes, err);
    if (status == F8_OK)
        status =
            f8_read_at(s->scales.file.fd, scale, (size_t)range.bytes,
                       part->scale->offset + range.begin, s->scales.path, err);
    if (status != F8_OK)
        return status;
    f8_panel panel = {.weights = weights,
                      .stride_bytes =
                          (size_t)(item->cols * f8_dtype_bytes(dtype)),
                      .dtype = dtype,
                      .rows = item->rows,
                      .cols = item->cols,
                      .codes = codes,
                      .codes_stride = (size_t)item->cols,
                      .scale_dtype = part->scale_dtype,
                      .scales = scale,
                      .finds = &s->finds};
    f8_panel_check(s->kernel, &panel, s->scratch, &check, s->hist);
    *fits = !check.not_nearest && !check.nan_codes && !check.bad_scales &&
            !check.odd_weights;
    /* Who read them has them, which gcc's analyzer cannot see. */
    for (uint64_t i = 0; codes && i < item->rows * item->cols && !*any; i++)
        *any = (codes[i] & 0x7f) != 0;
    return F8_OK;
}

/* The block of index i, counted along the rows; of it one row, or all. */
static f8_item block_item(const f8_unit *u, uint64_t i, bool one_row)
{
    uint64_t across = f8_ceil_div(f8_unit_cols(u), F8_BLOCK);
    f8_item item = {.row = i / across * F8_BLOCK, .col = i % across * F8_BLOCK};
    uint64_t rows = f8_unit_rows(u) - item.row;
    uint64_t cols = f8_unit_cols(u) - item.col;

    item.rows = one_row ? 1 : rows < F8_BLOCK ? rows : F8_BLOCK;
    item.cols = cols < F8_BLOCK ? cols : F8_BLOCK;
    return item;
}

/* First the row that is known to be wrong, which rules nearly all out; then
 * blocks here and there. */
static f8_status is_from(suspect *s, const f8_unit *from, const f8_spot *wrong,
                         bool *yes, f8_error *err)
{
    const f8_unit *u = s->unit;
    uint64_t across = f8_ceil_div(f8_unit_cols(u), F8_BLOCK);
    uint64_t blocks = across * f8_ceil_div(f8_unit_rows(u), F8_BLOCK);
    uint64_t probes = blocks < PROBES ? blocks : PROBES;
    f8_item item = block_item(
        u, wrong->row / F8_BLOCK * across + wrong->col / F8_BLOCK, true);
    bool fits = false, any = false;

    *yes = false;
    item.row = wrong->row;
    f8_status status = compare(s, from, &item, &fits, &any, err);
    for (uint64_t k = 0; k < probes && fits && status == F8_OK; k++) {
        item = block_item(u, k * blocks / probes, false);
        status = compare(s, from, &item, &fits, &any, err);
    }
    *yes = fits && any;
    return status;
}

static f8_status open_suspect(suspect *s, f8_error *err)
{
    const uint64_t block_bytes = F8_BLOCK * F8_BLOCK * sizeof(float);

    s->source = s->result = s->scales = F8_HANDLE_NONE;
    s->in = f8_aligned_alloc(block_bytes);
    s->spare = f8_aligned_alloc(block_bytes);
    s->out = f8_aligned_alloc(block_bytes);
    if (!s->in || !s->spare || !s->out)
        return f8_fail_nomem(err, "a block");
    f8_status status =
        f8_handle_use(&s->result, s->pair->result, s->part->weight->file, err);
    if (status == F8_OK)
        status = f8_handle_use(&s->scales, s->pair->result,
                               s->part->scale->file, err);
    return status;
}

static void close_suspect(suspect *s)
{
    f8_handle_close(&s->source);
    f8_handle_close(&s->result);
    f8_handle_close(&s->scales);
    free(s->in);
    free(s->spare);
    free(s->out);
    free(s);
}

f8_status f8_mixup_find(const f8_agreement *pair, const f8_kernel *kernel,
                        uint64_t unit, const f8_spot *wrong, const char **whose,
                        f8_error *err)
{
    const f8_plan *plan = &pair->plan;
    suspect *s = f8_alloc(1, sizeof *s);

    *whose = NULL;
    if (!s)
        return f8_fail_nomem(err, "a block");
    s->pair = pair;
    s->kernel = kernel;
    s->unit = &plan->units[unit];
    s->part = &pair->parts[unit];
    f8_status status = open_suspect(s, err);
    for (uint64_t i = 0; i < plan->units_count && !*whose && status == F8_OK;
         i++) {
        const f8_unit *other = &plan->units[i];
        bool yes = false;
        if (!is_candidate(plan, s->unit, other))
            continue;
        status = is_from(s, other, wrong, &yes, err);
        if (yes)
            *whose = other->name;
    }
    close_suspect(s);
    return status;
}
