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

static span span_of(const f8_plan *plan, uint64_t unit)
{
    const f8_unit *u = &plan->units[unit];
    const f8_tensor *t = &plan->source->tensors.items[u->source];

    if (!u->stride)
        return (span){t->file, 0, 0};
    uint64_t last = (f8_unit_cols(u) - 1) * u->stride + f8_unit_rows(u);
    return (span){t->file, u->offset,
                  u->offset + last * f8_dtype_bytes(t->dtype)};
}

/* Whether a unit and the next are parts of one expert: they share pages. */
static bool are_parts(const f8_plan *plan, uint64_t unit)
{
    if (unit + 1 >= plan->units_count)
        return false;
    span a = span_of(plan, unit), b = span_of(plan, unit + 1);
    return a.file == b.file && b.begin < a.end && a.begin < b.end;
}

/* All parts from a unit on, up to *end. */
static span expert_from(const f8_plan *plan, uint64_t unit, uint64_t *end)
{
    span all = span_of(plan, unit);

    for (; are_parts(plan, unit); unit++) {
        span s = span_of(plan, unit + 1);
        all.begin = s.begin < all.begin ? s.begin : all.begin;
        all.end = s.end > all.end ? s.end : all.end;
    }
    *end = unit + 1;
    return all;
}

/* ---- reading ------------------------------------------------------------- */

/* Asked of a whole tensor before any of it is read, since what is read first
 * may bring more of it along. */
static bool was_cold(f8_behind *behind, const f8_unit *u, const f8_file *file)
{
    const f8_tensor *t = &behind->plan->source->tensors.items[u->source];
    atomic_uchar *state = &behind->states[u->source];

    if (atomic_load(state) == UNKNOWN) {
        pthread_mutex_lock(&behind->asking);
        if (atomic_load(state) == UNKNOWN)
            atomic_store(state,
                         f8_file_is_mostly_cached(file, t->offset, t->bytes)
                             ? CACHED
                             : COLD);
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
        (unit == 0 || !are_parts(plan, unit - 1))) {
        const f8_tensor *t = &plan->source->tensors.items[u->source];
        uint64_t left;
        s = expert_from(plan, unit, &end);
        left = t->offset + t->bytes - s.end;
        s.end += left < AHEAD_BYTES ? left : AHEAD_BYTES;
    }
    f8_file_read_ahead(&source->file, s.begin, s.end - s.begin);
}

/* Experts of which all items were retired. Under the mutex. */
static void let_go(f8_behind *behind)
{
    const f8_plan *plan = behind->plan;
    uint64_t retired = atomic_load(&behind->retired), end;

    for (uint64_t unit = behind->let_go; unit < retired; unit = end) {
        span s = expert_from(plan, unit, &end);
        if (end > retired)
            return;
        behind->let_go = end;
        if (s.end > s.begin &&
            atomic_load(&behind->states[plan->units[unit].source]) == COLD &&
            f8_handle_use(&behind->source, plan->source, s.file, NULL) == F8_OK)
            f8_file_drop(&behind->source.file, s.begin, s.end - s.begin);
    }
}

/* One worker does it; the others need not wait. */
void f8_behind_read(f8_behind *behind)
{
    if (pthread_mutex_trylock(&behind->mutex) != 0)
        return;
    let_go(behind);
    pthread_mutex_unlock(&behind->mutex);
}

void f8_behind_retired(f8_behind *behind, const f8_item *item)
{
    if (item->last)
        atomic_store(&behind->retired, item->unit + 1);
}

/* All of the tensors that were cold: what was fetched and never asked for, and
 * experts of which some items came to no end. Nobody works any more. */
void f8_behind_end(f8_behind *behind)
{
    if (!behind->states)
        return;
    const f8_checkpoint *cp = behind->plan->source;
    for (size_t i = 0; i < cp->tensors.count; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        if (atomic_load(&behind->states[i]) == COLD &&
            f8_handle_use(&behind->source, cp, t->file, NULL) == F8_OK)
            f8_file_drop(&behind->source.file, t->offset, t->bytes);
    }
    f8_handle_close(&behind->source);
    free(behind->states);
    behind->states = NULL;
    pthread_mutex_destroy(&behind->asking);
    pthread_mutex_destroy(&behind->mutex);
}
