/* plan.c - source tensors and rules to results: what becomes of each tensor.
 * Pure: headers in, a table out. In which result shard it will lie is
 * shards.c's to say. See plan.h; docs/format.md section 2 is the contract. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arrange.h"
#include "glob.h"
#include "json.h"
#include "limits.h"
#include "modules.h"
#include "pipeline.h"
#include "quant.h"
#include "reach.h"

/* What only the way back has. 0, the default, is the number of a dtype that no
 * weight has. */
static f8_status fill_back(f8_options *filled, f8_error *err)
{
    if (filled->direction != F8_TO_FP8 && filled->direction != F8_FROM_FP8)
        return f8_fail(err, F8_ERR_ARGUMENT, "no such direction: %d",
                       (int)filled->direction);
    if (filled->value_dtype == (f8_dtype)0)
        filled->value_dtype = F8_DTYPE_BF16;
    if (filled->value_dtype != F8_DTYPE_BF16 &&
        filled->value_dtype != F8_DTYPE_F16 &&
        filled->value_dtype != F8_DTYPE_F32)
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "values: expected BF16, F16 or F32, found %s",
                       f8_dtype_name(filled->value_dtype)
                           ? f8_dtype_name(filled->value_dtype)
                           : "?");
    return F8_OK;
}

f8_status f8_options_fill(const f8_options *options, f8_options *filled,
                          f8_error *err)
{
    memset(filled, 0, sizeof *filled);
    /* A caller compiled against an older header has fewer fields. */
    if (options && (options->size < sizeof options->size ||
                    options->size > sizeof *options))
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "f8_options: expected a size of at most %zu, found %zu",
                       sizeof *options, options->size);
    if (options)
        memcpy(filled, options, options->size);
    filled->size = sizeof *filled;
    if (!filled->threads)
        filled->threads = f8_cpu_count();
    if (!filled->memory_bytes)
        filled->memory_bytes = F8_DEFAULT_MEMORY_BYTES;
    if (!filled->shard_bytes)
        filled->shard_bytes = F8_DEFAULT_SHARD_BYTES;
    if (filled->scale_dtype == F8_SCALE_DEFAULT)
        filled->scale_dtype = F8_SCALE_BF16;
    if (filled->scale_dtype > F8_SCALE_UE8M0)
        return f8_fail(err, F8_ERR_ARGUMENT, "no such scale dtype: %d",
                       (int)filled->scale_dtype);
    if (filled->scales == F8_SCALES_DEFAULT)
        filled->scales = F8_SCALES_AMAX;
    if (!f8_scales_name(filled->scales))
        return f8_fail(err, F8_ERR_ARGUMENT, "no such choice of scales: %d",
                       (int)filled->scales);
    f8_status status = fill_back(filled, err);
    if (status != F8_OK || filled->scale_dtype != F8_SCALE_UE8M0)
        return status;
    if (filled->scales == F8_SCALES_MSE)
        return f8_fail(err, F8_ERR_ARGUMENT, F8_NO_MSE_UE8M0);
    filled->scales = F8_SCALES_POW2; /* all that there is */
    return F8_OK;
}

/* ---- decisions ----------------------------------------------------------- */

/* Applies the overrides that match t; the last one decides. */
static f8_status apply_overrides(f8_plan *plan, const f8_options *options,
                                 const f8_tensor *t, f8_decision *d,
                                 uint64_t *matched, f8_error *err)
{
    for (size_t i = 0; i < options->overrides_count; i++) {
        const f8_override *o = &options->overrides[i];
        if (!f8_glob_match(o->glob, t->name))
            continue;
        matched[i]++;
        d->action = o->quantize ? F8_QUANTIZE : F8_KEEP;
        /* Whoever keeps a weight that the rules quantise keeps a Linear. */
        d->linear = d->rule->linear || d->rule->kind != F8_RULE_KEEP;
        d->decided_by =
            f8_arena_printf(&plan->strings, "%s %s",
                            o->quantize ? "--quantize" : "--keep", o->glob);
        if (!d->decided_by)
            return f8_fail_nomem(err, "the plan");
    }
    if (d->action == F8_QUANTIZE && d->rule->always)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: tensor %s is always kept (%s): no loader takes it "
                       "in FP8",
                       d->decided_by, t->name, d->rule->text);
    return F8_OK;
}

/* Whether there are experts to count; orient.c looks at the other axes. */
static f8_status check_experts(const f8_tensor *t, const f8_rule *rule,
                               f8_error *err)
{
    if (t->rank != 3)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected 3 dimensions to split, found %u "
                       "(%s)",
                       t->name, t->rank, rule->text);
    if (t->elems == 0 || t->shape[0] > F8_MAX_EXPERTS)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected 1 to %d experts on axis 0 and no "
                       "empty axis, found [%llu, %llu, %llu] (%s)",
                       t->name, F8_MAX_EXPERTS, (unsigned long long)t->shape[0],
                       (unsigned long long)t->shape[1],
                       (unsigned long long)t->shape[2], rule->text);
    return F8_OK;
}

static f8_status check_quantise(const f8_tensor *t, const f8_decision *d,
                                bool fp8, f8_error *err)
{
    unsigned rank = d->rule->kind == F8_RULE_SPLIT ? 3 : 2;

    if (t->rank != rank)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected %u dimensions to quantise, found "
                       "%u (%s)",
                       t->name, rank, t->rank, d->decided_by);
    if (!fp8 && t->dtype != F8_DTYPE_BF16 && t->dtype != F8_DTYPE_F16 &&
        t->dtype != F8_DTYPE_F32)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected BF16, F16 or F32 to quantise, "
                       "found %s (%s)",
                       t->name, f8_dtype_name(t->dtype), d->decided_by);
    if (t->elems == 0)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected elements to quantise, found a "
                       "dimension of 0 (%s)",
                       t->name, d->decided_by);
    return F8_OK;
}

/* A weight of a source in FP8 blockwise. What the rules keep is not FP8 in the
 * result. */
static f8_status decide_fp8(const f8_tensor *t, f8_decision *d, f8_error *err)
{
    uint64_t rows = t->shape[t->rank - 2];

    if (d->action == F8_KEEP)
        d->action = F8_DEQUANTIZE;
    if (d->rule->kind != F8_RULE_SPLIT)
        return F8_OK;
    rows /= d->rule->parts_count;
    if (d->rule->parts_count > 1 && rows % F8_BLOCK != 0)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected parts of a multiple of 128 rows, "
                       "since no block of FP8 can be split, found %llu (%s)",
                       t->name, (unsigned long long)rows, d->rule->text);
    return F8_OK;
}

/* A scale is no result: it goes into its weight. */
static f8_status decide_scale(f8_plan *plan, uint32_t i, f8_decision *d,
                              f8_error *err)
{
    const f8_tensor *weight = plan->pairs.partners[i].other;

    d->name = plan->source->tensors.items[i].name;
    d->action = F8_DEQUANTIZE;
    d->decided_by =
        f8_arena_printf(&plan->strings, "scale of %s", weight->name);
    return d->decided_by ? F8_OK : f8_fail_nomem(err, "the plan");
}

static f8_status decide(f8_plan *plan, const f8_options *options,
                        const f8_tensor *t, f8_decision *d, uint64_t *matched,
                        f8_error *err)
{
    bool fp8 = f8_plan_scale(
                   plan, (uint32_t)(t - plan->source->tensors.items)) != NULL;

    char buffer[F8_NAME_MAX_BYTES + 1];
    d->name = f8_rules_known_as(plan->rules, t->name, buffer, &d->rename);
    d->name = d->rename ? f8_arena_copy(&plan->strings, buffer, strlen(buffer))
                        : t->name;
    if (!d->name)
        return f8_fail_nomem(err, "the plan");
    d->rule = f8_rules_find(plan->rules, d->name);
    if (!d->rule)
        return f8_fail(err, F8_ERR_RULES,
                       "%s: no rule of %s names tensor %s; expected one to "
                       "keep, quantize or split it",
                       plan->source->files[t->file].name, plan->rules->label,
                       t->name);
    d->decided_by = d->rule->text;
    d->action = d->rule->kind == F8_RULE_KEEP ? F8_KEEP : F8_QUANTIZE;
    d->linear = d->rule->linear;
    f8_status status = apply_overrides(plan, options, t, d, matched, err);
    if (status == F8_OK && d->rule->kind == F8_RULE_SPLIT)
        status = check_experts(t, d->rule, err);
    if (status == F8_OK && d->action == F8_QUANTIZE)
        status = check_quantise(t, d, fp8, err);
    if (status == F8_OK && fp8)
        status = decide_fp8(t, d, err);
    d->units_count =
        d->rule->kind == F8_RULE_SPLIT ? t->shape[0] * d->rule->parts_count : 1;
    return status;
}

/* Adds what becomes of a tensor to the number of the result's, scales
 * included, before there is a table of them: a few fused tensors in a header
 * stand for millions. */
static f8_status count_results(const f8_tensor *t, const f8_decision *d,
                               uint64_t *results, f8_error *err)
{
    *results += d->units_count * (d->action == F8_QUANTIZE ? 2 : 1);
    if (*results <= F8_TENSORS_MAX)
        return F8_OK;
    return f8_fail(err, F8_ERR_REFUSED,
                   "tensor %s: expected a result of at most %d tensors, scales "
                   "among them, found more (%s)",
                   t->name, F8_TENSORS_MAX, d->decided_by);
}

static f8_status decide_all(f8_plan *plan, const f8_options *options,
                            f8_error *err)
{
    const f8_tensor_list *tensors = &plan->source->tensors;
    f8_status status = F8_OK;
    uint64_t results = 0;
    uint64_t *matched = f8_alloc(options->overrides_count, sizeof *matched);
    uint64_t *decided = f8_alloc(plan->rules->rules_count, sizeof *decided);

    plan->decisions = f8_alloc(tensors->count, sizeof *plan->decisions);
    if (!matched || !decided || !plan->decisions) {
        status = f8_fail_nomem(err, "the plan");
        goto out;
    }
    for (size_t i = 0; i < tensors->count; i++) {
        f8_decision *d = &plan->decisions[i];
        if (f8_plan_is_scale(plan, (uint32_t)i))
            status = decide_scale(plan, (uint32_t)i, d, err);
        else
            status = decide(plan, options, &tensors->items[i], d, matched, err);
        if (status == F8_OK)
            status = count_results(&tensors->items[i], d, &results, err);
        if (status != F8_OK)
            goto out;
        if (d->rule)
            decided[d->rule - plan->rules->rules]++;
    }
    status = f8_rules_check_use(plan->rules, decided, err);
    if (status == F8_OK)
        status = f8_plan_orient(plan, err);
    for (size_t i = 0; i < options->overrides_count && status == F8_OK; i++) {
        const f8_override *o = &options->overrides[i];
        if (!matched[i])
            status = f8_fail(err, F8_ERR_RULES,
                             "%s %s: matches no tensor of this checkpoint",
                             o->quantize ? "--quantize" : "--keep", o->glob);
    }
out:
    free(decided);
    free(matched);
    return status;
}

/* ---- units --------------------------------------------------------------- */

static uint16_t kind_of(f8_plan *plan, const char *name)
{
    char kind[F8_KIND_BYTES];
    size_t i = 0;

    f8_module_kind(name, kind, sizeof kind);
    while (i < plan->kinds_count && strcmp(plan->kinds[i], kind) != 0)
        i++;
    if (i < plan->kinds_count)
        return (uint16_t)i;
    if (i == F8_MAX_KINDS - 1) /* the last one takes all that is left */
        strcpy(kind, "other");
    else if (i == F8_MAX_KINDS)
        return F8_MAX_KINDS - 1;
    memcpy(plan->kinds[i], kind, sizeof kind);
    plan->kinds_count++;
    return (uint16_t)i;
}

/* Neighbours are mostly of one layer, so the search begins at the last. False
 * when memory ran out. */
static bool find_layer(f8_plan *plan, const char *name, uint16_t *layer)
{
    size_t n = f8_module_layer_length(name), i = plan->layers_count;

    while (i > 0 && (strncmp(plan->layers[i - 1], name, n) != 0 ||
                     plan->layers[i - 1][n] != '\0'))
        i--;
    *layer = (uint16_t)(i - 1);
    if (i > 0)
        return true;
    *layer = F8_MAX_LAYERS - 1;
    if (plan->layers_count == F8_MAX_LAYERS)
        return true;
    /* The last one takes all that is left. */
    const char *copy = plan->layers_count == F8_MAX_LAYERS - 1
                           ? "other"
                           : f8_arena_copy(&plan->strings, name, n);
    *layer = (uint16_t)plan->layers_count;
    plan->layers[plan->layers_count++] = copy ? copy : "";
    return copy != NULL;
}

bool f8_plan_set_action(f8_plan *plan, uint64_t unit, f8_action action)
{
    f8_unit *u = &plan->units[unit];

    u->action = action;
    if (action != F8_QUANTIZE)
        return true;
    u->kind = kind_of(plan, u->name);
    return find_layer(plan, u->name, &u->layer);
}

static f8_status add_unit(f8_plan *plan, f8_unit unit, uint64_t i,
                          f8_error *err)
{
    const f8_decision *d = &plan->decisions[unit.source];

    if (!unit.name)
        return f8_fail_nomem(err, "the plan");
    /* Before there are more of them: a split makes them out of one. */
    plan->names_bytes += strlen(unit.name);
    f8_status status = f8_limits_names(plan, plan->names_bytes, err);
    if (status != F8_OK)
        return status;
    unit.parts = 1;
    if (unit.rank == 2) {
        unit.rows = unit.shape[0];
        unit.cols = unit.shape[1];
    }
    plan->units[i] = unit;
    if (!f8_plan_set_action(plan, i, d->action))
        return f8_fail_nomem(err, "the plan");
    return F8_OK;
}

void f8_unit_find_scales(const f8_plan *plan, f8_unit *u, uint64_t slice,
                         uint64_t row)
{
    const f8_tensor *scale = f8_plan_scale(plan, u->source);

    if (!scale)
        return;
    uint64_t down = scale->shape[scale->rank - 2];
    uint64_t across = scale->shape[scale->rank - 1];
    u->from_scale = scale->offset + (slice * down + row / F8_BLOCK) * across *
                                        f8_dtype_bytes(scale->dtype);
}

/* [E, P * R, C] into E * P matrices [R, C] that follow each other in the
 * source, each with its own name; or [E, C, P * R] into as many that lie there
 * transposed, side by side. */
static f8_status add_split(f8_plan *plan, uint32_t source, f8_error *err)
{
    const f8_tensor *t = &plan->source->tensors.items[source];
    f8_decision *d = &plan->decisions[source];
    unsigned parts = d->rule->parts_count;
    f8_status status = F8_OK;

    d->part_shape[0] = t->shape[d->across ? 2 : 1] / parts;
    d->part_shape[1] = t->shape[d->across ? 1 : 2];
    uint64_t part_bytes = t->bytes / d->units_count;
    /* From one part of an expert to the next, in the source. */
    uint64_t step =
        d->across ? d->part_shape[0] * f8_dtype_bytes(t->dtype) : part_bytes;
    for (uint64_t i = 0; i < d->units_count && status == F8_OK; i++) {
        f8_unit unit = {.name =
                            f8_split_name(&plan->strings, d->name, d->rule, i),
                        .source = source,
                        .rank = 2,
                        .shape = d->part_shape,
                        .offset = t->offset + i / parts * parts * part_bytes +
                                  i % parts * step,
                        .bytes = part_bytes,
                        .stride = d->across ? t->shape[2] : 0};
        f8_unit_find_scales(plan, &unit, i / parts,
                            i % parts * d->part_shape[0]);
        status = add_unit(plan, unit, d->first_unit + i, err);
    }
    return status;
}

static f8_status add_whole(f8_plan *plan, uint32_t source, f8_error *err)
{
    const f8_tensor *t = &plan->source->tensors.items[source];
    f8_unit unit = {.name = plan->decisions[source].name,
                    .source = source,
                    .rank = (uint16_t)t->rank,
                    .shape = t->shape,
                    .offset = t->offset,
                    .bytes = t->bytes};

    f8_unit_find_scales(plan, &unit, 0, 0);
    return add_unit(plan, unit, plan->decisions[source].first_unit, err);
}

/* The source tensor of the first unit whose weight or scale has this name. */
static const char *origin(const f8_plan *plan, const char *name, bool second)
{
    const char *found = "?";
    size_t n = strlen(name);

    for (uint64_t i = 0; i < plan->units_count; i++) {
        const f8_unit *u = &plan->units[i];
        size_t m = strlen(u->name);
        if (n < m || strncmp(name, u->name, m) != 0 ||
            (name[m] && strcmp(name + m, F8_SCALE_SUFFIX) != 0))
            continue;
        found = plan->source->tensors.items[u->source].name;
        if (!second)
            break;
    }
    return found;
}

static int by_unit_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A split makes names; they must not meet others, nor may a scale's. */
static f8_status check_unit_names(const f8_plan *plan, f8_error *err)
{
    uint64_t n = 0, most = plan->units_count * 2;
    f8_arena scales = {0};
    f8_status status = F8_OK;
    const char **names = f8_alloc(most, sizeof *names);

    if (!names)
        return f8_fail_nomem(err, "the plan");
    for (uint64_t i = 0; i < plan->units_count; i++) {
        const f8_unit *u = &plan->units[i];
        if (u->parts > 0)
            names[n++] = u->name;
        if (u->action != F8_QUANTIZE)
            continue;
        names[n] = f8_arena_printf(&scales, "%s" F8_SCALE_SUFFIX, u->name);
        if (!names[n++]) {
            status = f8_fail_nomem(err, "the plan");
            goto out;
        }
    }
    qsort(names, n, sizeof *names, by_unit_name);
    for (uint64_t i = 1; i < n && status == F8_OK; i++) {
        if (!strcmp(names[i - 1], names[i]))
            status = f8_fail(err, F8_ERR_REFUSED,
                             "two results would be called %s, of the source's "
                             "%s and %s",
                             names[i], origin(plan, names[i], false),
                             origin(plan, names[i], true));
    }
out:
    free(names);
    f8_arena_free(&scales);
    return status;
}

f8_status f8_plan_number_results(f8_plan *plan, f8_error *err)
{
    plan->results = f8_alloc(plan->units_count, sizeof *plan->results);
    if (!plan->results)
        return f8_fail_nomem(err, "the plan");
    for (uint64_t i = 0; i < plan->units_count; i++) {
        if (plan->units[i].parts > 0)
            plan->results[plan->results_count++] = i;
        plan->units[i].result = plan->results_count - 1;
    }
    return plan->units_count > 0 ? check_unit_names(plan, err) : F8_OK;
}

static f8_status make_units(f8_plan *plan, f8_error *err)
{
    const f8_tensor_list *tensors = &plan->source->tensors;
    f8_status status = F8_OK;

    plan->units = f8_alloc(plan->units_count, sizeof *plan->units);
    plan->kinds = f8_alloc(F8_MAX_KINDS, sizeof *plan->kinds);
    plan->layers = f8_alloc(F8_MAX_LAYERS, sizeof *plan->layers);
    if (!plan->units || !plan->kinds || !plan->layers)
        return f8_fail_nomem(err, "the plan");
    for (uint32_t i = 0; i < tensors->count && status == F8_OK; i++) {
        const f8_rule *rule = plan->decisions[i].rule;
        if (rule && rule->kind == F8_RULE_SPLIT)
            status = add_split(plan, i, err);
        else if (rule)
            status = add_whole(plan, i, err);
    }
    return status == F8_OK ? f8_plan_number_results(plan, err) : status;
}

f8_status f8_plan_decide(f8_plan *plan, const f8_options *options,
                         f8_error *err)
{
    f8_status status = f8_rules_load(options->rules, plan->source->model_type,
                                     &plan->rules, err);
    if (status == F8_OK && plan->rules->refused)
        status =
            f8_fail(err, F8_ERR_REFUSED, "%s: model_type %s: %s",
                    F8_CONFIG_NAME, plan->rules->family, plan->rules->refused);
    if (status == F8_OK)
        status = f8_arrange(plan->rules, options->layout, err);
    if (status == F8_OK)
        plan->layout = plan->rules->sections_count
                           ? plan->rules->sections[0].name
                           : F8_LAYOUT_CARD;
    if (status == F8_OK)
        status = decide_all(plan, options, err);
    if (status == F8_OK)
        status = f8_plan_order(plan, err);
    if (status == F8_OK)
        status = make_units(plan, err);
    return status;
}

/* ---- modules ------------------------------------------------------------- */

static f8_status list_modules(f8_plan *plan, f8_error *err)
{
    f8_modules modules;

    f8_modules_init(&modules);
    for (uint64_t i = 0; i < plan->units_count && !modules.failed; i++) {
        const f8_unit *u = &plan->units[i];
        f8_modules_add(&modules, plan->rules, u->name, u->action == F8_QUANTIZE,
                       plan->decisions[u->source].linear);
        if (u->action == F8_KEEP)
            f8_modules_add_also(&modules, plan->rules,
                                plan->decisions[u->source].rule, u->name);
    }
    f8_modules_add_absent(&modules, plan->rules);
    f8_status status =
        f8_reach_list(&modules, plan->rules, &plan->not_converted, err);
    f8_modules_free(&modules);
    if (status == F8_OK && plan->rules->sections_count &&
        plan->rules->sections[0].sorted)
        status = f8_arrange_list(plan->not_converted, err);
    return status;
}

/* ---- side files ---------------------------------------------------------- */

/* Whether a side file can be read shows here, and not when all weights are
 * done. */
static f8_status try_to_open(const f8_plan *plan, const f8_side_file *side,
                             f8_error *err)
{
    uint64_t bytes;
    int fd = -1;

    f8_status status = f8_folder_open_file(&plan->source->folder, side->path,
                                           &fd, &bytes, NULL, err);
    if (fd >= 0)
        close(fd);
    return status;
}

/* A side file may not take the name of our folder, and its own must fit into
 * the journal. All of them together have a size that can be added. */
static f8_status check_sides(const f8_plan *plan, f8_error *err)
{
    f8_status status = F8_OK;
    uint64_t bytes = 0;

    for (size_t i = 0; i < plan->sides.count && status == F8_OK; i++) {
        const f8_side_file *f = &plan->sides.items[i];
        if (f->carried && !f8_json_is_utf8(f->path))
            status = f8_fail(err, F8_ERR_REFUSED,
                             "%s: expected a file name in UTF-8", f->path);
        else if (f->carried && !strcmp(f->path, F8_WORK_DIR))
            status = f8_fail(err, F8_ERR_REFUSED,
                             "%s: this name is reserved for fp8cast", f->path);
        else if (f->carried && (!f8_add_u64(bytes, f->bytes, &bytes) ||
                                bytes > F8_DATA_MAX_BYTES))
            status = f8_fail(err, F8_ERR_REFUSED,
                             "%s: expected files of at most %llu bytes in all "
                             "beside the weights, found more",
                             f->path, (unsigned long long)F8_DATA_MAX_BYTES);
        else if (f->carried)
            status = try_to_open(plan, f, err);
    }
    return status;
}

/* ---- fingerprints -------------------------------------------------------- */

static uint64_t hash_number(uint64_t hash, uint64_t n)
{
    return f8_hash(hash, &n, sizeof n);
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return f8_hash(hash, text, strlen(text) + 1);
}

static uint64_t hash_source(const f8_plan *plan)
{
    uint64_t h = F8_HASH_START;
    const f8_checkpoint *source = plan->source;

    for (uint32_t i = 0; i < source->files_count; i++) {
        const f8_shard_file *f = &source->files[i];
        h = hash_text(h, f->name);
        h = hash_number(h, f->bytes);
        h = hash_number(h, (uint64_t)f->mtime_ns);
        h = hash_number(h, f->head.hash);
    }
    return f8_hash(h, source->config_text.data, source->config_text.length);
}

static uint64_t hash_plan(const f8_plan *plan)
{
    uint64_t h = plan->source_fingerprint;

    h = hash_number(h, (uint64_t)plan->scale_dtype);
    h = hash_number(h, (uint64_t)plan->choice);
    h = hash_number(h, plan->shard_bytes);
    if (plan->rules && plan->rules->sections_count)
        h = hash_text(h, plan->layout);
    if (plan->pairs.partners) { /* what a source not in FP8 has not */
        h = hash_number(h, (uint64_t)plan->direction);
        h = hash_number(h, (uint64_t)plan->value_dtype);
    }
    for (uint64_t i = 0; i < plan->units_count; i++) {
        const f8_unit *u = &plan->units[i];
        h = hash_text(h, u->name);
        h = hash_number(h, (uint64_t)u->action);
        h = hash_number(h, u->shard);
        if (plan->fusion.count > 0) /* parts of one name, in their order */
            h = hash_number(h, u->source);
        if (u->stride || u->to_stride) /* lies transposed */
            h = hash_number(h, u->stride + u->to_stride);
    }
    for (size_t i = 0; i < json_array_size(plan->not_converted); i++)
        h = hash_text(
            h, json_string_value(json_array_get(plan->not_converted, i)));
    return h;
}

/* ---- the public calls ---------------------------------------------------- */

/* Whether the source is in the form that the direction begins with. */
static f8_status look_at_source(f8_plan *plan, const f8_options *options,
                                f8_error *err)
{
    const char *where = "";
    const json_t *found = f8_checkpoint_quantization(plan->source, &where);
    bool quantised = found != NULL;

    if (plan->source->tensors.count == 0)
        return f8_fail(err, F8_ERR_FORMAT, "%s: expected tensors, found none",
                       plan->source->dir);
    if (options->direction == F8_TO_FP8 && quantised && json_is_null(found))
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: \"%s\" is null: expected no such member, since "
                       "the result has its own; remove it",
                       F8_CONFIG_NAME, where);
    if (options->direction == F8_FROM_FP8 || (quantised && options->requantize))
        return f8_blockwise_read(plan->source, NULL, &plan->pairs, err);
    if (quantised)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: already quantised? expected no \"%s\", found "
                       "one; --requantize takes FP8 blockwise",
                       F8_CONFIG_NAME, where);
    return F8_OK;
}

static f8_status decide_way(f8_plan *plan, const f8_options *options,
                            f8_error *err)
{
    if (plan->direction == F8_FROM_FP8)
        return f8_plan_decide_back(plan, options, err);
    f8_status status = f8_plan_decide(plan, options, err);
    if (status == F8_OK)
        status = f8_plan_record(plan, err);
    return status == F8_OK ? list_modules(plan, err) : status;
}

static f8_status fill_plan(f8_plan *plan, const char *src,
                           const f8_options *options, f8_error *err)
{
    uint64_t least;

    plan->direction = options->direction;
    plan->value_dtype = options->value_dtype;
    plan->scale_dtype = options->scale_dtype;
    plan->choice = options->scales;
    plan->shard_bytes = options->shard_bytes;
    plan->threads = options->threads;
    plan->memory_bytes = options->memory_bytes;
    const f8_crew crew = {.threads = options->threads,
                          .memory_bytes = options->memory_bytes};
    f8_status status = f8_pipeline_chunk(&crew, &least, err);
    if (status == F8_OK)
        status = f8_checkpoint_open(
            src,
            F8_OPEN_CONFIG | (options->follow_links ? F8_OPEN_FOLLOW_LINKS : 0),
            NULL, &plan->source, err);
    if (status == F8_OK)
        status = look_at_source(plan, options, err);
    if (status == F8_OK)
        status = f8_side_files_list(plan->source, &plan->sides, err);
    if (status == F8_OK)
        status = check_sides(plan, err);
    if (status == F8_OK)
        status = decide_way(plan, options, err);
    if (status == F8_OK)
        status = f8_plan_cut_shards(plan, err);
    if (status == F8_OK)
        status = f8_limits_check(plan, err);
    if (status != F8_OK)
        return status;
    plan->source_fingerprint = hash_source(plan);
    plan->fingerprint = hash_plan(plan);
    return F8_OK;
}

f8_status f8_plan_create(const char *src, const f8_options *options,
                         f8_plan **plan, f8_error *err)
{
    f8_options filled;
    const f8_kernel *kernel = NULL;

    *plan = NULL;
    f8_status status = f8_options_fill(options, &filled, err);
    /* A conversion chooses by its own options: a wrong wish fails early. */
    if (status == F8_OK)
        status = f8_kernel_choose(filled.cpu, &kernel, err);
    if (status != F8_OK)
        return status;
    f8_plan *made = f8_alloc(1, sizeof *made);
    if (!made)
        return f8_fail_nomem(err, "the plan");
    status = fill_plan(made, src, &filled, err);
    if (status == F8_OK)
        *plan = made;
    else
        f8_plan_free(made);
    return status;
}

void f8_plan_clear(f8_plan *plan)
{
    f8_checkpoint_free(plan->source);
    f8_blockwise_free(&plan->pairs);
    f8_fusion_free(&plan->fusion);
    f8_rules_free(plan->rules);
    f8_side_files_free(&plan->sides);
    free(plan->decisions);
    free(plan->units);
    free(plan->results);
    free(plan->shards);
    free(plan->kinds);
    free(plan->layers);
    json_decref(plan->not_converted);
    json_decref(plan->original);
    f8_arena_free(&plan->strings);
}

void f8_plan_free(f8_plan *plan)
{
    if (plan)
        f8_plan_clear(plan);
    free(plan);
}
