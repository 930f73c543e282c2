/* orient.c - which way fused experts lie: one expert of a tensor that is taken
 * apart is a matrix [parts x rows, columns], or its transposition [columns,
 * parts x rows]. Part of the plan (plan.h), and as pure. */
#include "plan.h"

#include <jansson.h>
#include <string.h>

/* Of one split tensor: its two axes behind the experts, and whether it can be
 * read either way. */
typedef struct fit {
    const f8_tensor *tensor;
    const f8_rule *rule;
    bool along, across;
} fit;

static f8_status wrong_shape(const fit *f, const char *expected, f8_error *err)
{
    return f8_fail(err, F8_ERR_RULES,
                   "tensor %s: expected %s, found [%llu, %llu, %llu] (%s)",
                   f->tensor->name, expected,
                   (unsigned long long)f->tensor->shape[0],
                   (unsigned long long)f->tensor->shape[1],
                   (unsigned long long)f->tensor->shape[2], f->rule->text);
}

/* The rule names an axis: only the parts must go up in it. */
static f8_status fit_axis(fit *f, f8_error *err)
{
    uint64_t length = f->tensor->shape[f->rule->axis];

    f->along = f->rule->axis == 1;
    f->across = !f->along;
    if (length % f->rule->parts_count != 0)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected axis %u to hold %u equal parts, "
                       "found length %llu (%s)",
                       f->tensor->name, f->rule->axis, f->rule->parts_count,
                       (unsigned long long)length, f->rule->text);
    return F8_OK;
}

static f8_status fit_config(const f8_plan *plan, fit *f, f8_error *err)
{
    const char *keys[2] = {f->rule->rows, f->rule->columns};
    uint64_t size[2]; /* of a part: rows and columns */
    char expected[160];

    for (int i = 0; i < 2; i++) {
        size[i] = f8_checkpoint_number(plan->source, keys[i]);
        if (size[i] == 0)
            return f8_fail(err, F8_ERR_RULES,
                           "%s: expected a number \"%s\", which tells which "
                           "way tensor %s lies (%s)",
                           F8_CONFIG_NAME, keys[i], f->tensor->name,
                           f->rule->text);
    }
    uint64_t rows, parts = f->rule->parts_count;
    const uint64_t *shape = f->tensor->shape;
    bool fits = f8_mul_u64(size[0], parts, &rows);
    f->along = fits && shape[1] == rows && shape[2] == size[1];
    f->across = fits && shape[1] == size[1] && shape[2] == rows;
    if (f->along || f->across)
        return F8_OK;
    snprintf(expected, sizeof expected,
             "axes of %llu x %llu and %llu elements, in either order",
             (unsigned long long)parts, (unsigned long long)size[0],
             (unsigned long long)size[1]);
    return wrong_shape(f, expected, err);
}

/* All tensors of a checkpoint whose rules leave it open lie the same way: one
 * that can be read only one way tells it for those whose axes are equal. */
static f8_status agree(const fit *f, fit *known, f8_error *err)
{
    if (f->along && f->across)
        return F8_OK;
    if (!known->tensor)
        *known = *f;
    if (f->along == known->along)
        return F8_OK;
    return f8_fail(err, F8_ERR_RULES,
                   "tensors %s and %s: expected both to lie the same way, "
                   "found one transposed (%s)",
                   known->tensor->name, f->tensor->name, f->rule->text);
}

static f8_status fit_tensor(const f8_plan *plan, size_t i, fit *f,
                            f8_error *err)
{
    *f = (fit){.tensor = &plan->source->tensors.items[i],
               .rule = plan->decisions[i].rule};
    return f->rule->axis ? fit_axis(f, err) : fit_config(plan, f, err);
}

static f8_status orient_all(f8_plan *plan, f8_error *err)
{
    size_t count = plan->source->tensors.count;
    fit known = {0}, open = {0}, f;
    f8_status status = F8_OK;

    for (size_t i = 0; i < count && status == F8_OK; i++) {
        if (!plan->decisions[i].rule ||
            plan->decisions[i].rule->kind != F8_RULE_SPLIT)
            continue;
        status = fit_tensor(plan, i, &f, err);
        if (status != F8_OK)
            return status;
        if (f.rule->axis) {
            plan->decisions[i].across = f.across;
            continue;
        }
        open = f;
        status = agree(&f, &known, err);
    }
    if (status != F8_OK || !open.tensor)
        return status;
    if (!known.tensor)
        return wrong_shape(&open,
                           "axes that tell rows from columns, or another "
                           "tensor of experts that does",
                           err);
    for (size_t i = 0; i < count; i++) {
        const f8_rule *rule = plan->decisions[i].rule;
        if (rule && rule->kind == F8_RULE_SPLIT && !rule->axis)
            plan->decisions[i].across = known.across;
    }
    return F8_OK;
}

f8_status f8_plan_orient(f8_plan *plan, f8_error *err)
{
    f8_status status = orient_all(plan, err);

    for (size_t i = 0; i < plan->source->tensors.count && status == F8_OK;
         i++) {
        const f8_tensor *t = &plan->source->tensors.items[i];
        bool fp8 = f8_plan_scale(plan, (uint32_t)i) != NULL;
        if (plan->decisions[i].across && (fp8 || f8_dtype_bytes(t->dtype) > 4))
            status = f8_fail(err, F8_ERR_RULES,
                             "tensor %s: expected BF16, F16 or F32 to "
                             "transpose, found %s (%s)",
                             t->name, f8_dtype_name(t->dtype),
                             plan->decisions[i].rule->text);
    }
    return status;
}
