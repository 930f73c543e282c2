/* pairs.c - counterparts in two checkpoints. See pairs.h. */
#include "pairs.h"

#include <stdlib.h>
#include <string.h>

#include "arrange.h"
#include "distance.h"

/* ---- scales -------------------------------------------------------------- */

/* Finds the scales of one checkpoint's FP8 weights. One that is missing or
 * does not fit is noted; its weight is then one of bare codes. */
static f8_status find_scales(f8_members *m, f8_error *err)
{
    const f8_checkpoint *cp = m->checkpoint;
    f8_status status = F8_OK;

    for (size_t i = 0; i < cp->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &cp->tensors.items[i], *seen = NULL;
        f8_partner found;
        if (t->dtype != F8_DTYPE_E4M3 || t->rank < 2 || t->rank > 3 ||
            t->elems == 0 || (t->rank == 3 && t->shape[0] > F8_MAX_EXPERTS))
            continue;
        status = f8_blockwise_scale(cp, t, &m->problems, &found, &seen, err);
        if (status != F8_OK || !found.other)
            continue;
        m->partners[i] = found;
        m->partners[found.other - cp->tensors.items].role = F8_ROLE_SCALE;
    }
    return status;
}

static f8_status begin(f8_members *m, f8_checkpoint *cp, f8_error *err)
{
    m->checkpoint = cp;
    m->partners = f8_alloc(cp->tensors.count, sizeof *m->partners);
    m->is_taken = f8_alloc(cp->tensors.count, sizeof *m->is_taken);
    if (!m->partners || !m->is_taken)
        return f8_fail_nomem(err, "the comparison");
    return find_scales(m, err);
}

static size_t index_of(const f8_members *m, const f8_tensor *t)
{
    return (size_t)(t - m->checkpoint->tensors.items);
}

static bool is_scale(const f8_members *m, size_t i)
{
    return m->partners[i].role == F8_ROLE_SCALE;
}

/* ---- pairs --------------------------------------------------------------- */

/* The tensor that the rules know by this name, whatever it is called. */
static const f8_tensor *find_known(const f8_checkpoint *cp,
                                   const f8_rules *rules, const char *name)
{
    char buffer[F8_NAME_MAX_BYTES + 1];
    const f8_rename *rename = NULL;
    const f8_tensor *t = f8_checkpoint_find(cp, name);

    if (!t && rules && f8_rules_called(rules, name, buffer, &rename))
        t = f8_checkpoint_find(cp, buffer);
    return t;
}

static const char *known_as(const f8_rules *rules, const char *name,
                            char buffer[F8_NAME_MAX_BYTES + 1])
{
    return rules ? f8_rules_known_as(rules, name, buffer, NULL) : name;
}

static f8_side whole_side(const f8_members *m, const f8_tensor *t)
{
    const f8_partner *partner = &m->partners[index_of(m, t)];
    f8_side side = {.tensor = t, .offset = t->offset};

    if (partner->role == F8_ROLE_WEIGHT) {
        side.scale = partner->other;
        side.scale_dtype = partner->scale_dtype;
        side.scale_offset = side.scale->offset;
    }
    return side;
}

const uint64_t *f8_side_shape(const f8_pair *pair, const f8_side *side,
                              unsigned *rank)
{
    *rank = side->is_part ? 2 : side->tensor->rank;
    return side->is_part ? pair->part_shape : side->tensor->shape;
}

static bool have_same_shape(const f8_pair *pair)
{
    unsigned p, q;
    const uint64_t *x = f8_side_shape(pair, &pair->a, &p);
    const uint64_t *y = f8_side_shape(pair, &pair->b, &q);

    return p == q && (p == 0 || memcmp(x, y, p * sizeof *x) == 0);
}

static bool have_same_dtype(const f8_side *a, const f8_side *b)
{
    if (a->tensor->dtype != b->tensor->dtype || !a->scale != !b->scale)
        return false;
    return !a->scale || a->scale->dtype == b->scale->dtype;
}

uint64_t f8_pair_elems(const f8_pair *pair)
{
    return pair->a.is_part ? pair->b.tensor->elems : pair->a.tensor->elems;
}

bool f8_pair_is_real(const f8_pair *pair)
{
    return f8_dtype_is_real(pair->a.tensor->dtype) &&
           f8_dtype_is_real(pair->b.tensor->dtype);
}

static f8_status add_pair(f8_pairs *out, f8_pair pair, f8_error *err)
{
    pair.same_shape = have_same_shape(&pair);
    pair.same_dtype = have_same_dtype(&pair.a, &pair.b);
    pair.is_comparable =
        pair.same_shape && (pair.a.tensor->dtype == pair.b.tensor->dtype ||
                            f8_pair_is_real(&pair));
    if (!pair.name ||
        !f8_grow((void **)&out->items, &out->capacity, out->count, sizeof pair))
        return f8_fail_nomem(err, "the comparison");
    out->items[out->count++] = pair;
    return F8_OK;
}

static f8_status pair_by_name(f8_pairs *out, f8_error *err)
{
    const f8_checkpoint *a = out->a.checkpoint, *b = out->b.checkpoint;
    f8_status status = F8_OK;

    for (size_t i = 0; i < a->tensors.count && status == F8_OK; i++) {
        const f8_tensor *x = &a->tensors.items[i];
        char buffer[F8_NAME_MAX_BYTES + 1];
        const f8_tensor *y = f8_checkpoint_find(b, x->name);
        if (!y) { /* under the other name, unless that has its own pair */
            y = find_known(b, out->rules,
                           known_as(out->rules, x->name, buffer));
            y = y && f8_checkpoint_find(a, y->name) ? NULL : y;
        }
        if (!y || is_scale(&out->a, i) ||
            is_scale(&out->b, index_of(&out->b, y)))
            continue;
        out->a.is_taken[i] = out->b.is_taken[index_of(&out->b, y)] = true;
        f8_pair pair = {.name = x->name,
                        .a = whole_side(&out->a, x),
                        .b = whole_side(&out->b, y)};
        status = add_pair(out, pair, err);
    }
    return status;
}

/* ---- fused experts ------------------------------------------------------- */

/* Which parts of the fused tensors of one checkpoint have a counterpart. */
typedef struct parts {
    bool **taken; /* one a tensor; NULL: none of them */
    const f8_rule **rules;
    uint64_t count; /* of all that have one */
} parts;

static void parts_free(parts *p, size_t count)
{
    for (size_t i = 0; p->taken && i < count; i++)
        free(p->taken[i]);
    free(p->taken);
    free(p->rules);
}

/* Whether a part lies in the fused tensor as the matrix does, and cannot be
 * read the other way: bytes of a transposed one are not comparable. */
static bool lies_along(const f8_tensor *fused, const f8_rule *rule,
                       const f8_tensor *alone)
{
    const uint64_t *shape = fused->shape, *one = alone->shape;
    uint64_t count = rule->parts_count;

    if (rule->axis)
        return rule->axis == 1;
    return alone->rank == 2 && shape[1] / count == one[0] &&
           shape[2] == one[1] &&
           !(shape[1] == one[1] && shape[2] / count == one[0]);
}

/* The fused tensor of `m` that has a place for this matrix and stands in no
 * pair itself; NULL for none. */
static const f8_tensor *find_fused(const f8_members *m, const f8_rules *rules,
                                   const f8_tensor *alone, f8_fuse_place *place)
{
    char fused[F8_NAME_MAX_BYTES + 1];

    if (!f8_fuse_find(rules, alone->name, place) ||
        !f8_fuse_name(alone->name, place, fused))
        return NULL;
    const f8_tensor *t = find_known(m->checkpoint, rules, fused);
    if (!t || m->is_taken[index_of(m, t)] || is_scale(m, index_of(m, t)) ||
        t->rank != 3 || t->elems == 0 || t->shape[0] > F8_MAX_EXPERTS ||
        t->shape[1] % place->rule->parts_count != 0 ||
        place->expert >= t->shape[0] || !lies_along(t, place->rule, alone))
        return NULL;
    return t;
}

static f8_side part_side(const f8_members *m, const f8_tensor *fused,
                         const f8_fuse_place *place)
{
    f8_side side = whole_side(m, fused);
    uint64_t rows = fused->shape[1] / place->rule->parts_count;
    uint64_t part_bytes = rows * fused->shape[2] * f8_dtype_bytes(fused->dtype);

    side.is_part = true;
    side.offset +=
        (place->expert * place->rule->parts_count + place->part) * part_bytes;
    side.scale_row = place->part * rows;
    if (side.scale)
        side.scale_offset +=
            place->expert * (side.scale->bytes / side.scale->shape[0]);
    return side;
}

/* Makes room for what is known of the parts of tensor k, unless there is. */
static f8_status take_parts(parts *p, size_t k, const f8_tensor *whole,
                            unsigned each, f8_error *err)
{
    uint64_t count = whole->shape[0] * each;

    if (p->taken[k])
        return F8_OK;
    p->count += count;
    if (p->count > F8_TENSORS_MAX)
        return f8_fail(err, F8_ERR_REFUSED,
                       "tensor %s: expected fused tensors of at most %d parts "
                       "in all, found more",
                       whole->name, F8_TENSORS_MAX);
    p->taken[k] = f8_alloc(count, sizeof **p->taken);
    return p->taken[k] ? F8_OK : f8_fail_nomem(err, "the comparison");
}

/* Pairs each matrix of `alone` that is left with its place in `fused`. */
static f8_status pair_parts(f8_pairs *out, f8_members *alone, f8_members *fused,
                            parts *p, f8_error *err)
{
    const f8_checkpoint *cp = alone->checkpoint;
    f8_status status = F8_OK;

    for (size_t i = 0; i < cp->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        f8_fuse_place place;
        if (alone->is_taken[i] || is_scale(alone, i))
            continue;
        const f8_tensor *whole = find_fused(fused, out->rules, t, &place);
        if (!whole)
            continue;
        size_t k = index_of(fused, whole);
        unsigned count = place.rule->parts_count;
        status = take_parts(p, k, whole, count, err);
        if (status != F8_OK)
            return status;
        p->taken[k][place.expert * count + place.part] = true;
        p->rules[k] = place.rule;
        alone->is_taken[i] = true;
        f8_side part = part_side(fused, whole, &place);
        f8_side matrix = whole_side(alone, t);
        f8_pair pair = {
            .name = t->name,
            .a = fused == &out->a ? part : matrix,
            .b = fused == &out->a ? matrix : part,
            .part_shape = {whole->shape[1] / count, whole->shape[2]}};
        status = add_pair(out, pair, err);
    }
    return status;
}

/* ---- what is left -------------------------------------------------------- */

static f8_status add_single(f8_members *m, f8_single single, f8_error *err)
{
    f8_singles *list = &m->singles;

    if (!single.name || !f8_grow((void **)&list->items, &list->capacity,
                                 list->count, sizeof single))
        return f8_fail_nomem(err, "the comparison");
    list->items[list->count++] = single;
    return F8_OK;
}

/* The parts of a fused tensor that the other side lacks. */
static f8_status add_missing_parts(f8_pairs *out, f8_members *m,
                                   const f8_tensor *t, const f8_rule *rule,
                                   const bool *taken, f8_error *err)
{
    uint64_t count = t->shape[0] * rule->parts_count;
    f8_status status = F8_OK;

    for (uint64_t i = 0; i < count && status == F8_OK; i++) {
        if (taken[i])
            continue;
        char buffer[F8_NAME_MAX_BYTES + 1];
        f8_single single = {
            .name = f8_split_name(
                &out->strings, known_as(out->rules, t->name, buffer), rule, i),
            .tensor = t,
            .is_part = true,
            .part_shape = {t->shape[1] / rule->parts_count, t->shape[2]}};
        status = add_single(m, single, err);
        if (status == F8_OK && out->strings.bytes > F8_NAMES_MAX_BYTES)
            status = f8_fail(err, F8_ERR_REFUSED,
                             "tensor %s: expected parts of fused tensors with "
                             "names of at most %d bytes in all, found more",
                             t->name, F8_NAMES_MAX_BYTES);
    }
    return status;
}

static f8_status add_rest(f8_pairs *out, f8_members *m, const parts *p,
                          f8_error *err)
{
    const f8_checkpoint *cp = m->checkpoint;
    f8_status status = F8_OK;

    for (size_t i = 0; i < cp->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        if (m->is_taken[i] || is_scale(m, i))
            continue;
        if (p->taken[i]) {
            m->fused++;
            status =
                add_missing_parts(out, m, t, p->rules[i], p->taken[i], err);
        } else {
            status =
                add_single(m, (f8_single){.name = t->name, .tensor = t}, err);
        }
    }
    return status;
}

static int by_reading(const void *x, const void *y)
{
    const f8_pair *p = x, *q = y;

    if (p->a.tensor->file != q->a.tensor->file)
        return p->a.tensor->file < q->a.tensor->file ? -1 : 1;
    if (p->a.offset != q->a.offset)
        return p->a.offset < q->a.offset ? -1 : 1;
    /* Tensors without elements share an offset. */
    return strcmp(p->name, q->name);
}

static f8_status pair_rest(f8_pairs *out, f8_error *err)
{
    size_t n = out->a.checkpoint->tensors.count;
    size_t m = out->b.checkpoint->tensors.count;
    parts a = {f8_alloc(n, sizeof *a.taken), f8_alloc(n, sizeof(f8_rule *)), 0};
    parts b = {f8_alloc(m, sizeof *b.taken), f8_alloc(m, sizeof(f8_rule *)), 0};
    f8_status status = F8_OK;

    if (!a.taken || !a.rules || !b.taken || !b.rules) {
        status = f8_fail_nomem(err, "the comparison");
        goto out;
    }
    if (out->rules)
        status = pair_parts(out, &out->a, &out->b, &b, err);
    if (status == F8_OK && out->rules)
        status = pair_parts(out, &out->b, &out->a, &a, err);
    if (status == F8_OK)
        status = add_rest(out, &out->a, &a, err);
    if (status == F8_OK)
        status = add_rest(out, &out->b, &b, err);
out:
    parts_free(&a, n);
    parts_free(&b, m);
    return status;
}

/* ---- both ---------------------------------------------------------------- */

/* Rules are a help here, not a demand: two checkpoints of a family without
 * any are compared by name. */
static f8_status load_rules(f8_pairs *out, const char *spec, f8_error *err)
{
    f8_status status =
        f8_rules_load(spec, out->a.checkpoint->model_type, &out->rules, err);

    if (status == F8_ERR_RULES && !spec)
        status = f8_rules_load(NULL, out->b.checkpoint->model_type, &out->rules,
                               err);
    if (status == F8_ERR_RULES && !spec)
        return F8_OK;
    return status == F8_OK ? f8_arrange(out->rules, NULL, err) : status;
}

f8_status f8_pairs_find(f8_checkpoint *a, f8_checkpoint *b, const char *rules,
                        f8_pairs *out, f8_error *err)
{
    memset(out, 0, sizeof *out);
    f8_status status = begin(&out->a, a, err);
    if (status == F8_OK)
        status = begin(&out->b, b, err);
    if (status == F8_OK)
        status = load_rules(out, rules, err);
    if (status == F8_OK)
        status = pair_by_name(out, err);
    if (status == F8_OK)
        status = pair_rest(out, err);
    if (status == F8_OK && out->count > 0)
        qsort(out->items, out->count, sizeof *out->items, by_reading);
    return status;
}

static void members_free(f8_members *m)
{
    free(m->partners);
    free(m->is_taken);
    free(m->singles.items);
    f8_problems_free(&m->problems);
}

void f8_pairs_free(f8_pairs *pairs)
{
    members_free(&pairs->a);
    members_free(&pairs->b);
    free(pairs->items);
    f8_rules_free(pairs->rules);
    f8_arena_free(&pairs->strings);
    memset(pairs, 0, sizeof *pairs);
}
