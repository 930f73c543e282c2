/* mixup.c - whose weights a matrix has. See mixup.h. */
#include "mixup.h"

#include <stdlib.h>
#include <string.h>

#include "source.h"

enum {
    /* Of a band of 128 rows so many columns are read at once: rows of a few
     * kilobytes. */
    WIDTH = 16 * F8_BLOCK,
    /* A row of another takes about 40 us, so all of them two seconds. A model
     * of 94 layers with 512 experts has about 600 names that are alike. */
    MOST_PROBES = 50000,
    MOST_FRUITLESS = 8,
    /* Of those to whose row the codes fit so many are read to the end. */
    MOST_READ = 4
};

/* Codes and scales of the result. */
typedef struct piece {
    f8_item item;         /* within one band, at most WIDTH columns */
    unsigned char *codes; /* packed */
    uint8_t scales[WIDTH / F8_BLOCK * sizeof(float)];
} piece;

typedef struct suspect {
    const f8_agreement *pair;
    const f8_kernel *kernel;
    const f8_unit *unit;
    const f8_counterpart *part;
    f8_handle source, result, scales;
    void *in, *spare, *out, *row;
    piece wrong; /* of the row that has a wrong code; its codes are in row */
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

/* The piece of the band of `row` that has `col` in it. */
static f8_item piece_at(const f8_unit *u, uint64_t row, uint64_t col)
{
    f8_item item = {.row = row / F8_BLOCK * F8_BLOCK,
                    .col = col / WIDTH * WIDTH};
    uint64_t rows = f8_unit_rows(u) - item.row;
    uint64_t cols = f8_unit_cols(u) - item.col;

    item.rows = rows < F8_BLOCK ? rows : F8_BLOCK;
    item.cols = cols < WIDTH ? cols : WIDTH;
    return item;
}

static f8_status read_piece(suspect *s, f8_item item, void *buffer, piece *p,
                            f8_error *err)
{
    const f8_counterpart *part = s->part;
    uint64_t cols = f8_unit_cols(s->unit);
    f8_scale_range range = f8_item_scales(&item, cols, part->scale_dtype);

    p->item = item;
    p->codes = NULL;
    f8_status status = f8_read_panel(&s->result, part->weight->offset, cols, 1,
                                     &item, buffer, &p->codes, err);
    if (status != F8_OK)
        return status;
    return f8_read_at(s->scales.file.fd, p->scales, (size_t)range.bytes,
                      part->scale->offset + range.begin, s->scales.path, err);
}

/* Holds the codes of a piece against another unit's weights. */
static f8_status compare(suspect *s, const f8_unit *from, piece *p,
                         f8_check *check, f8_error *err)
{
    unsigned char *weights = NULL;
    f8_dtype dtype = s->pair->plan.source->tensors.items[from->source].dtype;

    memset(check, 0, sizeof *check);
    f8_status status = read_weights(s, from, &p->item, &weights, err);
    if (status != F8_OK)
        return status;
    f8_panel panel = {.weights = weights,
                      .stride_bytes =
                          (size_t)(p->item.cols * f8_dtype_bytes(dtype)),
                      .dtype = dtype,
                      .rows = p->item.rows,
                      .cols = p->item.cols,
                      .codes = p->codes,
                      .codes_stride = (size_t)p->item.cols,
                      .scale_dtype = s->part->scale_dtype,
                      .scales = p->scales,
                      .finds = &s->finds};
    f8_panel_check(s->kernel, &panel, s->scratch, check, s->hist);
    return F8_OK;
}

/* Whether there are no faults but scales that lie far off, which of one row of
 * a block cannot be said. */
static bool codes_fit(const f8_check *check)
{
    return !check->not_nearest && !check->nan_codes && !check->bad_scales &&
           !check->odd_weights && !check->infinite;
}

static bool has_weight(const piece *p)
{
    /* Who read them has them, which gcc's analyzer cannot see. */
    for (uint64_t i = 0; p->codes && i < p->item.rows * p->item.cols; i++) {
        if (p->codes[i] & 0x7f)
            return true;
    }
    return false;
}

/* Whether all that stands in the result is right for another unit's weights;
 * zeros alone would be for any. What is told of a whole matrix was seen of
 * all of it: a part of it may be damaged besides. */
static f8_status is_all_from(suspect *s, const f8_unit *from, bool *yes,
                             f8_error *err)
{
    const f8_unit *u = s->unit;
    bool fits = true, any = false;
    f8_status status = F8_OK;

    for (uint64_t row = 0; row < f8_unit_rows(u) && fits; row += F8_BLOCK) {
        for (uint64_t col = 0; col < f8_unit_cols(u) && fits; col += WIDTH) {
            piece p;
            f8_check check;
            status = read_piece(s, piece_at(u, row, col), s->out, &p, err);
            if (status == F8_OK)
                status = compare(s, from, &p, &check, err);
            if (status != F8_OK)
                return status;
            fits = codes_fit(&check) && !check.far_scales;
            any = any || has_weight(&p);
        }
    }
    *yes = fits && any;
    return F8_OK;
}

/* ---- the search ---------------------------------------------------------- */

static f8_status open_suspect(suspect *s, const f8_spot *wrong, f8_error *err)
{
    const uint64_t piece_bytes = (uint64_t)F8_BLOCK * WIDTH * sizeof(float);

    s->source = s->result = s->scales = F8_HANDLE_NONE;
    s->in = f8_aligned_alloc(piece_bytes);
    s->spare = f8_aligned_alloc(piece_bytes);
    s->out = f8_aligned_alloc(piece_bytes);
    s->row = f8_aligned_alloc(piece_bytes);
    if (!s->in || !s->spare || !s->out || !s->row)
        return f8_fail_nomem(err, "a part of a matrix");
    f8_status status =
        f8_handle_use(&s->result, s->pair->result, s->part->weight->file, err);
    if (status == F8_OK)
        status = f8_handle_use(&s->scales, s->pair->result,
                               s->part->scale->file, err);
    f8_item item = piece_at(s->unit, wrong->row, wrong->col);
    item.row = wrong->row;
    item.rows = 1;
    if (status == F8_OK)
        status = read_piece(s, item, s->row, &s->wrong, err);
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
    free(s->row);
    free(s);
}

/* First the row that is known to be wrong, which rules nearly all out. */
static f8_status try_all(suspect *s, f8_mixup *search, const char **whose,
                         f8_error *err)
{
    const f8_plan *plan = &s->pair->plan;
    f8_status status = F8_OK;
    unsigned read = 0;

    for (uint64_t i = 0; i < plan->units_count && status == F8_OK; i++) {
        const f8_unit *other = &plan->units[i];
        f8_check check;
        bool yes = false;
        if (!is_candidate(plan, s->unit, other))
            continue;
        if (search->probes >= MOST_PROBES || read >= MOST_READ)
            break;
        search->probes++;
        status = compare(s, other, &s->wrong, &check, err);
        if (status != F8_OK || !codes_fit(&check))
            continue;
        read++;
        status = is_all_from(s, other, &yes, err);
        if (status == F8_OK && yes) {
            *whose = other->name;
            break;
        }
    }
    return status;
}

f8_status f8_mixup_find(f8_mixup *search, const f8_agreement *pair,
                        const f8_kernel *kernel, uint64_t unit,
                        const f8_spot *wrong, const char **whose, f8_error *err)
{
    *whose = NULL;
    if (search->probes >= MOST_PROBES || search->fruitless >= MOST_FRUITLESS)
        return F8_OK;
    suspect *s = f8_alloc(1, sizeof *s);
    if (!s)
        return f8_fail_nomem(err, "a part of a matrix");
    s->pair = pair;
    s->kernel = kernel;
    s->unit = &pair->plan.units[unit];
    s->part = &pair->parts[unit];
    f8_status status = open_suspect(s, wrong, err);
    if (status == F8_OK)
        status = try_all(s, search, whose, err);
    search->fruitless = *whose ? 0 : search->fruitless + 1;
    close_suspect(s);
    return status;
}
