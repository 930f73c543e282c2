/* plan_original.c - what of the source's tensors a result will not show, for
 * the way back (original.h). Part of the plan (plan.h), and as pure. */
#include "plan.h"

#include <stdlib.h>

/* A pattern says it of all its tensors, so it may only stand where no tensor
 * of the source is another way: such ones are named one by one. */
typedef struct exceptions {
    const f8_plan *plan;
    bool *rules;   /* splits of which some tensors stand one by one */
    bool *renames; /* of which some tensors have the new name already */
} exceptions;

static void find_exceptions(exceptions *e)
{
    const f8_plan *plan = e->plan;
    const f8_rules *rules = plan->rules;

    for (size_t i = 0; i < plan->source->tensors.count; i++) {
        const f8_decision *d = &plan->decisions[i];
        char buffer[F8_NAME_MAX_BYTES + 1];
        const f8_rename *rename;
        f8_fuse_place place;
        if (!d->rule)
            continue;
        if (f8_fuse_find(rules, d->name, &place))
            e->rules[place.rule - rules->rules] = true;
        if (!d->rename && f8_rules_called(rules, d->name, buffer, &rename))
            e->renames[rename - rules->renames] = true;
    }
}

static bool put(json_t *tensors, const char *key, const char *what)
{
    return json_object_get(tensors, key) ||
           json_object_set_new(tensors, key, json_string(what)) == 0;
}

static bool put_tensor(const exceptions *e, uint32_t i, json_t *tensors)
{
    const f8_decision *d = &e->plan->decisions[i];
    const f8_rules *rules = e->plan->rules;
    bool good = true;

    if (d->rule->kind == F8_RULE_SPLIT)
        good =
            put(tensors,
                e->rules[d->rule - rules->rules] ? d->name : d->rule->pattern,
                d->across ? F8_ORIGINAL_ACROSS : F8_ORIGINAL_ALONG);
    if (d->rename && good)
        good = put(tensors,
                   e->renames[d->rename - rules->renames]
                       ? e->plan->source->tensors.items[i].name
                       : d->rename->from,
                   F8_ORIGINAL_RENAMED);
    return good;
}

static json_t *new_record(const f8_plan *plan, json_t **tensors)
{
    uint64_t names = 0;

    for (uint64_t i = 0; i < plan->results_count; i++)
        names = f8_original_name(names, plan->units[plan->results[i]].name);
    return f8_original_new(names, tensors);
}

f8_status f8_plan_record(f8_plan *plan, f8_error *err)
{
    const f8_rules *rules = plan->rules;
    json_t *tensors = NULL;
    exceptions e = {plan, f8_alloc(rules->rules_count, sizeof *e.rules),
                    f8_alloc(rules->renames_count, sizeof *e.renames)};
    bool good = e.rules && e.renames;

    plan->original = good ? new_record(plan, &tensors) : NULL;
    good = plan->original != NULL;
    if (good)
        find_exceptions(&e);
    for (uint32_t i = 0; i < plan->source->tensors.count && good; i++)
        good = !plan->decisions[i].rule || put_tensor(&e, i, tensors);
    free(e.rules);
    free(e.renames);
    return good ? F8_OK : f8_fail_nomem(err, "the plan");
}
