/* shards.c - where results lie: cuts them into shards, fixes every offset, and
 * writes the headers that say so. Part of the plan (plan.h), and as pure;
 * docs/format.md section 4 is the contract. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "arrange.h"
#include "quant.h"

/* ---- order --------------------------------------------------------------- */

/* A source tensor that goes into a file of the layout. */
typedef struct seat {
    const char *file;
    uint64_t source; /* index of the tensor */
    uint64_t rank;   /* of the file: the index of its first tensor */
} seat;

static int by_file(const void *a, const void *b)
{
    const seat *x = a, *y = b;
    int order = strcmp(x->file, y->file);

    return order ? order : x->source < y->source ? -1 : x->source > y->source;
}

static int by_rank(const void *a, const void *b)
{
    const seat *x = a, *y = b;

    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->source < y->source ? -1 : x->source > y->source;
}

/* The file of each tensor; those of one file share its name's pointer. */
static f8_status find_seats(f8_plan *plan, seat *seats, f8_error *err)
{
    const f8_tensor_list *tensors = &plan->source->tensors;
    f8_buf name = {0};
    f8_status status = F8_OK;

    for (size_t i = 0; i < tensors->count && status == F8_OK; i++) {
        const char *tensor = plan->decisions[i].name;
        if (!f8_arrange_file(plan->rules, tensor, &name))
            status = f8_fail(err, F8_ERR_RULES,
                             "layout %s: no 'file' of %s names tensor %s",
                             plan->layout, plan->rules->label, tensor);
        else if (name.failed || !(seats[i].file = f8_arena_copy(
                                      &plan->strings, name.data, name.length)))
            status = f8_fail_nomem(err, "the plan");
        else if (name.length > 200)
            status = f8_fail(err, F8_ERR_RULES,
                             "layout %s: tensor %s: expected a file name of at "
                             "most 200 bytes, found %zu",
                             plan->layout, tensor, name.length);
        seats[i].source = i;
    }
    f8_buf_free(&name);
    if (status != F8_OK)
        return status;
    qsort(seats, tensors->count, sizeof *seats, by_file);
    for (size_t i = 0; i < tensors->count; i++) {
        bool same = i > 0 && !strcmp(seats[i - 1].file, seats[i].file);
        seats[i].rank = same ? seats[i - 1].rank : seats[i].source;
        seats[i].file = same ? seats[i - 1].file : seats[i].file;
    }
    qsort(seats, tensors->count, sizeof *seats, by_rank);
    return F8_OK;
}

/* Whether the layout says which file takes a tensor. */
static bool has_places(const f8_plan *plan)
{
    return plan->rules && plan->rules->places_count > 0;
}

f8_status f8_plan_order(f8_plan *plan, f8_error *err)
{
    size_t count = plan->source->tensors.count;
    seat *seats = NULL;
    f8_status status = F8_OK;

    plan->units_count = 0;
    if (has_places(plan)) {
        seats = f8_alloc(count, sizeof *seats);
        status = seats ? find_seats(plan, seats, err)
                       : f8_fail_nomem(err, "the plan");
    }
    for (size_t i = 0; i < count && status == F8_OK; i++) {
        f8_decision *d = &plan->decisions[seats ? seats[i].source : i];
        d->file = seats ? seats[i].file : NULL;
        d->first_unit = plan->units_count;
        plan->units_count += d->units_count;
    }
    free(seats);
    return status;
}

bool f8_plan_has_index(const f8_plan *plan)
{
    return plan->shards_count > 1 || has_places(plan);
}

/* ---- result shards ------------------------------------------------------- */

static const f8_tensor *source_of(const f8_plan *plan, const f8_unit *u)
{
    return &plan->source->tensors.items[u->source];
}

f8_dtype f8_unit_dtype(const f8_plan *plan, const f8_unit *u)
{
    switch (u->action) {
    case F8_QUANTIZE:
        return F8_DTYPE_E4M3;
    case F8_DEQUANTIZE:
        return plan->value_dtype;
    case F8_KEEP:
        break;
    }
    return source_of(plan, u)->dtype;
}

static uint64_t elems_of(const f8_plan *plan, const f8_unit *u)
{
    return u->bytes / f8_dtype_bytes(source_of(plan, u)->dtype);
}

uint64_t f8_unit_result_bytes(const f8_plan *plan, const f8_unit *u)
{
    return elems_of(plan, u) * f8_dtype_bytes(f8_unit_dtype(plan, u));
}

/* Of the result that the unit is the first of, without scales. */
static uint64_t weight_bytes(const f8_plan *plan, const f8_unit *u)
{
    return u->parts * f8_unit_result_bytes(plan, u);
}

uint64_t f8_unit_scale_bytes(const f8_plan *plan, const f8_unit *u)
{
    if (u->action != F8_QUANTIZE)
        return 0;
    return f8_ceil_div(f8_unit_rows(u), F8_BLOCK) *
           f8_ceil_div(f8_unit_cols(u), F8_BLOCK) *
           f8_dtype_bytes(f8_scale_storage(plan->scale_dtype));
}

/* What a tensor adds to a header, reckoned: 128 bytes hold dtype, shape and
 * offsets of anything with two or three dimensions. */
static uint64_t header_share(const f8_unit *u)
{
    uint64_t one = strlen(u->name) + 128;
    return u->action == F8_QUANTIZE ? 2 * one + strlen(F8_SCALE_SUFFIX) : one;
}

static f8_status cut_shards(f8_plan *plan, f8_error *err)
{
    size_t capacity = 0, count = 0;

    for (uint64_t i = 0; i < plan->results_count; i++) {
        f8_unit *u = &plan->units[plan->results[i]];
        f8_shard *s = count ? &plan->shards[count - 1] : NULL;
        const char *file = plan->decisions[u->source].file;
        uint64_t bytes = weight_bytes(plan, u) + f8_unit_scale_bytes(plan, u);
        uint64_t header = header_share(u);
        bool full = s && (s->data_bytes + bytes > plan->shard_bytes ||
                          s->header_bytes + header > F8_HEADER_MAX_BYTES);
        if (!s || (file ? file != s->file : full)) {
            if (!f8_grow((void **)&plan->shards, &capacity, count, sizeof *s))
                return f8_fail_nomem(err, "the plan");
            s = &plan->shards[count++];
            *s = (f8_shard){.first_unit = plan->results[i], .file = file};
        }
        /* Only what is cut by size can begin another file. */
        if (s->header_bytes + header > F8_HEADER_MAX_BYTES && s->units_count)
            return f8_fail(err, F8_ERR_REFUSED,
                           "layout %s: file %s: more tensors than a header of "
                           "%llu bytes names",
                           plan->layout, file,
                           (unsigned long long)F8_HEADER_MAX_BYTES);
        for (uint64_t k = 0; k < u->parts; k++)
            u[k].shard = (uint32_t)(count - 1);
        s->units_count += u->parts;
        s->data_bytes += bytes;
        s->header_bytes += header;
        s->tensors += u->action == F8_QUANTIZE ? 2 : 1;
    }
    plan->shards_count = count;
    return F8_OK;
}

/* Where in its result a unit begins that lies there transposed, less where it
 * would begin behind all before it: the parts of an expert lie side by side. */
static uint64_t beside(const f8_plan *plan, const f8_unit *u)
{
    uint64_t parts = u->to_stride ? u->to_stride / u->rows : 1;
    uint64_t number = (uint64_t)(u - plan->units) - plan->results[u->result];

    return number % parts *
           (f8_unit_result_bytes(plan, u) -
            u->rows * f8_dtype_bytes(f8_unit_dtype(plan, u)));
}

/* Offsets in one shard: larger elements first, so that all are aligned. */
static void place_units(f8_plan *plan, const f8_shard *shard)
{
    uint64_t at = 0;
    size_t scale_elem = f8_dtype_bytes(f8_scale_storage(plan->scale_dtype));

    for (size_t size = 8; size >= 1; size /= 2) {
        for (uint64_t i = 0; i < shard->units_count; i++) {
            f8_unit *u = &plan->units[shard->first_unit + i];
            if (f8_dtype_bytes(f8_unit_dtype(plan, u)) == size) {
                u->data_begin = at - (u->to_stride ? beside(plan, u) : 0);
                at += f8_unit_result_bytes(plan, u);
            }
            if (u->action == F8_QUANTIZE && scale_elem == size) {
                u->scale_begin = at;
                at += f8_unit_scale_bytes(plan, u);
            }
        }
    }
}

static f8_status name_shards(f8_plan *plan, f8_error *err)
{
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        f8_shard *s = &plan->shards[i];
        s->name =
            s->file ? f8_arena_printf(&plan->strings, "%s.safetensors", s->file)
            : plan->shards_count == 1
                ? f8_arena_printf(&plan->strings, F8_SINGLE_NAME)
                : f8_arena_printf(&plan->strings,
                                  "model-%05llu-of-%05llu.safetensors",
                                  (unsigned long long)i + 1,
                                  (unsigned long long)plan->shards_count);
        if (!s->name)
            return f8_fail_nomem(err, "the plan");
        place_units(plan, s);
    }
    return F8_OK;
}

static void count_results(f8_plan *plan)
{
    for (uint64_t i = 0; i < plan->units_count; i++) {
        const f8_unit *u = &plan->units[i];
        plan->parameters += elems_of(plan, u);
        plan->result_bytes +=
            f8_unit_result_bytes(plan, u) + f8_unit_scale_bytes(plan, u);
    }
    for (uint64_t i = 0; i < plan->results_count; i++) {
        const f8_unit *u = &plan->units[plan->results[i]];
        plan->fp8_weights += u->action == F8_QUANTIZE;
        plan->dequantized += u->action == F8_DEQUANTIZE;
        plan->kept += u->action == F8_KEEP;
    }
}

f8_status f8_plan_cut_shards(f8_plan *plan, f8_error *err)
{
    f8_status status = F8_OK;

    /* The default is what nobody asked for. */
    if (has_places(plan) && plan->shard_bytes != F8_DEFAULT_SHARD_BYTES)
        status = f8_fail(err, F8_ERR_ARGUMENT,
                         "--shard-size: layout %s says itself which file "
                         "takes a tensor",
                         plan->layout);
    if (status == F8_OK)
        status = cut_shards(plan, err);

    if (status == F8_OK)
        status = name_shards(plan, err);
    if (status == F8_OK)
        count_results(plan);
    return status;
}

/* ---- headers ------------------------------------------------------------- */

f8_status f8_plan_shard_header(const f8_plan *plan, uint64_t i, f8_buf *buf,
                               f8_error *err)
{
    const f8_shard *shard = &plan->shards[i];
    f8_dtype scale_dtype = f8_scale_storage(plan->scale_dtype);
    f8_buf name = {0};

    f8_st_header_begin(buf);
    for (size_t size = 8; size >= 1; size /= 2) {
        for (uint64_t k = 0; k < shard->units_count; k++) {
            const f8_unit *u = &plan->units[shard->first_unit + k];
            f8_dtype dtype = f8_unit_dtype(plan, u);
            if (u->parts > 0 && f8_dtype_bytes(dtype) == size)
                f8_st_header_add(buf, u->name, dtype, u->rank, u->shape,
                                 u->data_begin,
                                 u->data_begin + weight_bytes(plan, u));
            if (u->action != F8_QUANTIZE || f8_dtype_bytes(scale_dtype) != size)
                continue;
            uint64_t shape[2] = {f8_ceil_div(f8_unit_rows(u), F8_BLOCK),
                                 f8_ceil_div(f8_unit_cols(u), F8_BLOCK)};
            name.length = 0;
            f8_buf_printf(&name, "%s" F8_SCALE_SUFFIX, u->name);
            if (!name.failed)
                f8_st_header_add(buf, name.data, scale_dtype, 2, shape,
                                 u->scale_begin,
                                 u->scale_begin + f8_unit_scale_bytes(plan, u));
        }
    }
    f8_st_header_finish(buf);
    bool failed = buf->failed || name.failed;
    f8_buf_free(&name);
    if (failed)
        return f8_fail_nomem(err, "a shard's header");
    if (buf->length - 8 >= F8_HEADER_MAX_BYTES)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: header of %zu bytes, expected less than %llu; use "
                       "a smaller --shard-size",
                       shard->name, buf->length - 8,
                       (unsigned long long)F8_HEADER_MAX_BYTES);
    return F8_OK;
}
