/* behind.c - lets go of pages of transposed matrices. See behind.h. Every call
 * is a wish: where one fails the cache holds more than it should. */
#include "behind.h"

#include <stdlib.h>

/* Of a source tensor: whether most of it was on the disk alone. */
enum { UNKNOWN, CACHED, COLD };

/* How far the reading of experts is ahead of their use. */
#define AHEAD_BYTES (UINT64_C(16) << 20)

f8_status f8_behind_begin(f8_behind *behind, const f8_plan *plan, f8_error *err)
{
    size_t tensors = plan->source->tensors.count;

    *behind = (f8_behind){.plan = plan,
                          .asking = PTHREAD_MUTEX_INITIALIZER,
                          .mutex = PTHREAD_MUTEX_INITIALIZER,
                          .source = F8_HANDLE_NONE};
    behind->states = f8_alloc(tensors, sizeof *behind->states);
    if (!behind->states)
        return f8_fail_nomem(err, "the tensors");
    return F8_OK;
}

/* ---- experts ------------------------------------------------------------- */

/* Bytes of a file, from a unit's first to its last; none for a unit that lies
 * in its rows' order. */
typedef struct span {
    uint32_t file;
    uint64_t begin, end;
} span;

typedef span span_of(const f8_plan *plan, uint64_t unit);

static span strided(uint32_t file, const f8_unit *u, uint64_t begin,
                    uint64_t stride, f8_dtype dtype)
{
    uint64_t last = (f8_unit_cols(u) - 1) * stride + f8_unit_rows(u);

    return (span){file, begin, begin + last * f8_dtype_bytes(dtype)};
}

static span source_span(const f8_plan *plan, uint64_t unit)
{
    const f8_unit *u = &plan->units[unit];
    const f8_tensor *t = &plan->source->tensors.items[u->source];

    if (!u->stride)
        return (span){t->file, 0, 0};
    return strided(t->file, u, u->offset, u->stride, t->dtype);
}

/* In the shard's data. */
static span result_span(const f8_plan *plan, uint64_t unit)
{
    const f8_unit *u = &plan->units[unit];

    if (!u->to_stride)
        return (span){u->shard, 0, 0};
    return strided(u->shard, u, u->data_begin, u->to_stride,
                   f8_unit_dtype(plan, u));
}

/* Whether a unit and the next are parts of one expert: they share pages. */
static bool are_parts(const f8_plan *plan, uint64_t unit, span_of *of)
{
    if (unit + 1 >= plan->units_count)
        return false;
    span a = of(plan, unit), b = of(plan, unit + 1);
    return a.file == b.file && b.begin < a.end && a.begin < b.end;
}

/* All parts from a unit on, up to *end. */
static span expert_from(const f8_plan *plan, uint64_t unit, span_of *of,
                        uint64_t *end)
{
    span all = of(plan, unit);

    for (; are_parts(plan, unit, of); unit++) {
        span s = of(plan, unit + 1);
        all.begin = s.begin < all.begin ? s.begin : all.begin;
        all.end = s.end > all.end ? s.end : all.end;
    }
    *end = unit + 1;
    return all;
}

/* ---- reading ------------------------------------------------------------- */

/* Of a page that is there because the kernel read ahead it remembers to go on
 * when somebody comes by, whatever that one wants; the first of the file are,
 * since the header was read. So none are left. */
static unsigned char ask(const f8_tensor *t, const f8_file *file)
{
    if (f8_file_is_mostly_cached(file, t->offset, t->bytes))
        return CACHED;
    f8_file_drop(file, t->offset, t->bytes, false);
    return COLD;
}

/* Asked of a whole tensor before any of it is read, since what is read first
 * may bring more of it along. */
static bool was_cold(f8_behind *behind, const f8_unit *u, const f8_file *file)
{
    const f8_tensor *t = &behind->plan->source->tensors.items[u->source];
    atomic_uchar *state = &behind->states[u->source];

    if (atomic_load(state) == UNKNOWN) {
        pthread_mutex_lock(&behind->asking);
        if (atomic_load(state) == UNKNOWN)
            atomic_store(state, ask(t, file));
        pthread_mutex_unlock(&behind->asking);
    }
    return atomic_load(state) == COLD;
}

void f8_behind_reading(f8_behind *behind, const f8_item *item,
                       const f8_handle *source)
{
    const f8_plan *plan = behind->plan;
    uint64_t unit = item->unit, end;
    const f8_unit *u = &plan->units[unit];
    span s = {0, 0, 0};

    /* Rows as long as the tensor's are read as one piece. */
    if (!u->stride || item->rows == u->stride || source->file.in_memory ||
        !was_cold(behind, u, &source->file))
        return;
    /* The first item of an expert fetches all of it, and what others are about
     * to ask for. */
    if (item->row == 0 && item->col == 0 &&
        (unit == 0 || !are_parts(plan, unit - 1, source_span))) {
        const f8_tensor *t = &plan->source->tensors.items[u->source];
        uint64_t left;
        s = expert_from(plan, unit, source_span, &end);
        left = t->offset + t->bytes - s.end;
        s.end += left < AHEAD_BYTES ? left : AHEAD_BYTES;
    }
    f8_file_read_ahead(&source->file, s.begin, s.end - s.begin);
}

/* Experts of which all items were retired. Under the mutex. */
static void let_go_read(f8_behind *behind)
{
    const f8_plan *plan = behind->plan;
    uint64_t retired = atomic_load(&behind->retired), end;

    for (uint64_t unit = behind->read_let_go; unit < retired; unit = end) {
        span s = expert_from(plan, unit, source_span, &end);
        if (end > retired)
            return;
        behind->read_let_go = end;
        if (s.end > s.begin &&
            atomic_load(&behind->states[plan->units[unit].source]) == COLD &&
            f8_handle_use(&behind->source, plan->source, s.file, NULL) == F8_OK)
            f8_file_drop(&behind->source.file, s.begin, s.end - s.begin, false);
    }
}

/* One worker does it; the others need not wait. */
void f8_behind_read(f8_behind *behind)
{
    if (pthread_mutex_trylock(&behind->mutex) != 0)
        return;
    let_go_read(behind);
    pthread_mutex_unlock(&behind->mutex);
}

void f8_behind_retired(f8_behind *behind, const f8_item *item)
{
    if (item->last)
        atomic_store(&behind->retired, item->unit + 1);
}

void f8_behind_end(f8_behind *behind)
{
    if (!behind->states)
        return;
    let_go_read(behind);
    f8_handle_close(&behind->source);
    free(behind->states);
    behind->states = NULL;
    pthread_mutex_destroy(&behind->asking);
    pthread_mutex_destroy(&behind->mutex);
}

/* ---- writing ------------------------------------------------------------- */

void f8_behind_written(f8_behind *behind, const f8_item *item,
                       const f8_file *out, uint64_t data_start)
{
    const f8_plan *plan = behind->plan;
    uint64_t retired = atomic_load(&behind->retired), end;

    if (!plan->units[item->unit].to_stride ||
        pthread_mutex_trylock(&behind->mutex) != 0)
        return;
    for (uint64_t unit = behind->written_let_go; unit < retired; unit = end) {
        span s = expert_from(plan, unit, result_span, &end);
        if (end > retired)
            break;
        behind->written_let_go = end;
        /* Of another shard, it was let go with that. */
        if (s.file == plan->units[item->unit].shard)
            f8_file_drop(out, data_start + s.begin, s.end - s.begin, true);
    }
    pthread_mutex_unlock(&behind->mutex);
}
