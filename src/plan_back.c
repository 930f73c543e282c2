/* plan_back.c - the plan of the way back: FP8 weights become BF16, F16 or F32,
 * all else is kept, and where it is asked for, experts that stand one by one
 * become fused tensors again. Part of the plan (plan.h), and as pure. Rules
 * are read only to fuse: without, any model will do. */
#include "plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "arrange.h"

static const f8_tensor *tensor(const f8_plan *plan, uint32_t i)
{
    return &plan->source->tensors.items[i];
}

/* ---- decisions ----------------------------------------------------------- */

static f8_status decide(f8_plan *plan, uint32_t i, f8_error *err)
{
    f8_decision *d = &plan->decisions[i];
    const f8_tensor *scale = f8_plan_scale(plan, i);

    d->action = F8_DEQUANTIZE;
    d->decided_by = "not FP8";
    if (f8_plan_is_scale(plan, i))
        d->decided_by = f8_arena_printf(&plan->strings, "scale of %s",
                                        plan->pairs.partners[i].other->name);
    else if (scale)
        d->decided_by =
            f8_arena_printf(&plan->strings, "F8_E4M3 with %s", scale->name);
    else
        d->action = F8_KEEP;
    if (f8_plan_is_scale(plan, i))
        return d->decided_by ? F8_OK : f8_fail_nomem(err, "the plan");
    /* Of three dimensions: a matrix for each expert. */
    d->units_count =
        scale && tensor(plan, i)->rank == 3 ? tensor(plan, i)->shape[0] : 1;
    if (d->units_count > F8_MAX_EXPERTS)
        return f8_fail(err, F8_ERR_REFUSED,
                       "tensor %s: expected at most %d experts on axis 0, "
                       "found %llu",
                       tensor(plan, i)->name, F8_MAX_EXPERTS,
                       (unsigned long long)d->units_count);
    plan->units_count += d->units_count;
    if (plan->units_count > F8_TENSORS_MAX)
        return f8_fail(err, F8_ERR_REFUSED,
                       "tensor %s: expected at most %d matrices and other "
                       "tensors, found more",
                       tensor(plan, i)->name, F8_TENSORS_MAX);
    return d->decided_by ? F8_OK : f8_fail_nomem(err, "the plan");
}

/* ---- units --------------------------------------------------------------- */

/* Appends the units of source tensor i to `count` others. They make up the
 * result called name; the first of them is not always that result's first. */
static void add_units(f8_plan *plan, uint32_t i, uint64_t *count,
                      const f8_unit *result)
{
    f8_decision *d = &plan->decisions[i];
    const f8_tensor *t = tensor(plan, i);

    assert(plan->units);
    d->first_unit = *count;
    for (uint64_t k = 0; k < d->units_count; k++) {
        f8_unit *u = &plan->units[(*count)++];
        *u = *result;
        u->source = i;
        u->action = d->action;
        if (t->rank >= 2) {
            u->rows = t->shape[t->rank - 2];
            u->cols = t->shape[t->rank - 1];
        }
        u->to_stride = result->to_stride;
        u->bytes = t->bytes / d->units_count;
        u->offset = t->offset + k * u->bytes;
        f8_unit_find_scales(plan, u, k, 0);
    }
}

/* What the original called the tensor of this name; NULL when memory ran out.
 */
static const char *called(f8_plan *plan, const char *name)
{
    char buffer[F8_NAME_MAX_BYTES + 1];

    if (!plan->rules ||
        !f8_original_called(plan->original, plan->rules, name, buffer))
        return name;
    return f8_arena_copy(&plan->strings, buffer, strlen(buffer));
}

static f8_status add_whole(f8_plan *plan, uint32_t i, uint64_t *count,
                           f8_error *err)
{
    const f8_tensor *t = tensor(plan, i);
    const f8_unit result = {.name = called(plan, t->name),
                            .rank = (uint16_t)t->rank,
                            .shape = t->shape};
    uint64_t first = *count;

    if (!result.name)
        return f8_fail_nomem(err, "the plan");
    add_units(plan, i, count, &result);
    plan->units[first].parts = *count - first;
    return F8_OK;
}

/* What a source tensor is in the result. */
static f8_dtype dtype_of(const f8_plan *plan, uint32_t i)
{
    return plan->decisions[i].action == F8_DEQUANTIZE ? plan->value_dtype
                                                      : tensor(plan, i)->dtype;
}

static f8_status check_dtypes(const f8_plan *plan, const f8_fused_tensor *fused,
                              f8_error *err)
{
    uint64_t n = fused->experts * fused->parts;
    uint32_t first = (uint32_t)(fused->items[0] - plan->source->tensors.items);

    for (uint64_t k = 1; k < n; k++) {
        uint32_t i = (uint32_t)(fused->items[k] - plan->source->tensors.items);
        if (dtype_of(plan, i) != dtype_of(plan, first))
            return f8_fail(err, F8_ERR_REFUSED,
                           "tensor %s: would be %s, and %s, which is to be "
                           "fused with it into %s, would be %s",
                           fused->items[k]->name,
                           f8_dtype_name(dtype_of(plan, i)),
                           fused->items[0]->name, fused->name,
                           f8_dtype_name(dtype_of(plan, first)));
    }
    if (fused->across && f8_dtype_bytes(dtype_of(plan, first)) > 4)
        return f8_fail(err, F8_ERR_REFUSED,
                       "tensor %s: expected BF16, F16 or F32 to transpose into "
                       "%s, found %s",
                       fused->items[0]->name, fused->name,
                       f8_dtype_name(dtype_of(plan, first)));
    return F8_OK;
}

/* All units of a fused tensor, in the order of its bytes. */
static f8_status add_fused(f8_plan *plan, const f8_fused_tensor *fused,
                           uint64_t *count, f8_error *err)
{
    uint64_t first = *count, n = fused->experts * fused->parts;
    const f8_unit result = {.name = called(plan, fused->name),
                            .rank = 3,
                            .shape = fused->shape,
                            .to_stride = fused->across ? fused->shape[2] : 0};

    f8_status status = result.name ? check_dtypes(plan, fused, err)
                                   : f8_fail_nomem(err, "the plan");
    for (uint64_t k = 0; k < n && status == F8_OK; k++)
        add_units(plan,
                  (uint32_t)(fused->items[k] - plan->source->tensors.items),
                  count, &result);
    if (status == F8_OK)
        plan->units[first].parts = n;
    plan->fused++;
    return status;
}

/* Results in reading order; a fused tensor stands where the first of its
 * parts is read. */
static f8_status make_units(f8_plan *plan, f8_error *err)
{
    const f8_fusion *fusion = &plan->fusion;
    f8_status status = F8_OK;
    uint64_t count = 0;
    bool *placed = f8_alloc(fusion->count, sizeof *placed);

    plan->units = f8_alloc(plan->units_count, sizeof *plan->units);
    if (!plan->units || !placed) {
        free(placed);
        return f8_fail_nomem(err, "the plan");
    }
    for (uint32_t i = 0; i < plan->source->tensors.count && status == F8_OK;
         i++) {
        uint32_t part = fusion->of ? fusion->of[i] : 0;
        if (f8_plan_is_scale(plan, i) || (part > 0 && placed[part - 1]))
            continue;
        if (part == 0) {
            status = add_whole(plan, i, &count, err);
            continue;
        }
        placed[part - 1] = true;
        status = add_fused(plan, &fusion->tensors[part - 1], &count, err);
    }
    free(placed);
    return status;
}

f8_status f8_plan_decide_back(f8_plan *plan, const f8_options *options,
                              f8_error *err)
{
    uint32_t count = (uint32_t)plan->source->tensors.count;
    f8_status status = F8_OK;

    plan->decisions = f8_alloc(count, sizeof *plan->decisions);
    /* None is used, but a report copies them. */
    plan->kinds = f8_alloc(1, sizeof *plan->kinds);
    if (!plan->decisions || !plan->kinds)
        return f8_fail_nomem(err, "the plan");
    if (options->fuse)
        status = f8_rules_load(options->rules, plan->source->model_type,
                               &plan->rules, err);
    if (status == F8_OK && plan->rules)
        status = f8_arrange(plan->rules, NULL, err);
    if (status == F8_OK && plan->rules)
        status = f8_original_read(plan->source, &plan->original, err);
    if (status == F8_OK && plan->original)
        status = f8_original_check(plan->original, plan->rules, err);
    if (status == F8_OK && plan->rules)
        status = f8_fusion_find(plan->source, plan->rules, plan->original,
                                &plan->fusion, err);
    for (uint32_t i = 0; i < count && status == F8_OK; i++)
        status = decide(plan, i, err);
    if (status == F8_OK)
        status = make_units(plan, err);
    if (status == F8_OK)
        status = f8_plan_number_results(plan, err);
    return status;
}
