/* plan.c - source tensors and rules to results: what becomes of each tensor.
 * Pure: headers in, a table out. In which result shard it will lie is
 * shards.c's to say. See plan.h; docs/format.md section 2 is the contract. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "modules.h"
#include "pipeline.h"
#include "quant.h"

/* More experts than any model has; a hostile header could ask for billions. */
enum { MAX_EXPERTS = 65536 };

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
    if (filled->scale_dtype != F8_SCALE_UE8M0)
        return F8_OK;
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

static f8_status check_split(const f8_tensor *t, const f8_rule *rule,
                             f8_error *err)
{
    if (t->rank != 3)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected 3 dimensions to split, found %u "
                       "(%s)",
                       t->name, t->rank, rule->text);
    if (t->elems == 0 || t->shape[0] > MAX_EXPERTS)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected 1 to %d experts on axis 0 and no "
                       "empty axis, found [%llu, %llu, %llu] (%s)",
                       t->name, MAX_EXPERTS, (unsigned long long)t->shape[0],
                       (unsigned long long)t->shape[1],
                       (unsigned long long)t->shape[2], rule->text);
    if (t->shape[1] % rule->parts_count != 0)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected axis 1 to hold %u equal parts, "
                       "found length %llu (%s)",
                       t->name, rule->parts_count,
                       (unsigned long long)t->shape[1], rule->text);
    return F8_OK;
}

static f8_status check_quantise(const f8_tensor *t, const f8_decision *d,
                                f8_error *err)
{
    unsigned rank = d->rule->kind == F8_RULE_SPLIT ? 3 : 2;

    if (t->rank != rank)
        return f8_fail(err, F8_ERR_RULES,
                       "tensor %s: expected %u dimensions to quantise, found "
                       "%u (%s)",
                       t->name, rank, t->rank, d->decided_by);
    if (t->dtype != F8_DTYPE_BF16 && t->dtype != F8_DTYPE_F16 &&
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

static f8_status decide(f8_plan *plan, const f8_options *options,
                        const f8_tensor *t, f8_decision *d, uint64_t *matched,
                        f8_error *err)
{
    d->rule = f8_rules_find(plan->rules, t->name);
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
        status = check_split(t, d->rule, err);
    if (status == F8_OK && d->action == F8_QUANTIZE)
        status = check_quantise(t, d, err);
    d->units_count =
        d->rule->kind == F8_RULE_SPLIT ? t->shape[0] * d->rule->parts_count : 1;
    return status;
}

static f8_status decide_all(f8_plan *plan, const f8_options *options,
                            f8_error *err)
{
    const f8_tensor_list *tensors = &plan->source->tensors;
    f8_status status = F8_OK;
    uint64_t *matched = f8_alloc(options->overrides_count, sizeof *matched);
    uint64_t *decided = f8_alloc(plan->rules->rules_count, sizeof *decided);

    plan->decisions = f8_alloc(tensors->count, sizeof *plan->decisions);
    if (!matched || !decided || !plan->decisions) {
        status = f8_fail_nomem(err, "the plan");
        goto out;
    }
    for (size_t i = 0; i < tensors->count; i++) {
        f8_decision *d = &plan->decisions[i];
        status = decide(plan, options, &tensors->items[i], d, matched, err);
        if (status != F8_OK)
            goto out;
        decided[d->rule - plan->rules->rules]++;
        d->first_unit = plan->units_count;
        plan->units_count += d->units_count;
    }
    status = f8_rules_check_use(plan->rules, decided, err);
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
    plan->units[i] = unit;
    if (!f8_plan_set_action(plan, i, d->action))
        return f8_fail_nomem(err, "the plan");
    return F8_OK;
}

/* [E, P * R, C] into E * P matrices [R, C] that follow each other in the
 * source, each with its own name. */
static f8_status add_split(f8_plan *plan, uint32_t source, f8_error *err)
{
    const f8_tensor *t = &plan->source->tensors.items[source];
    f8_decision *d = &plan->decisions[source];
    unsigned parts = d->rule->parts_count;
    const char *dot = strrchr(t->name, '.');
    int parent = dot ? (int)(dot + 1 - t->name) : 0;
    f8_status status = F8_OK;

    d->part_shape[0] = t->shape[1] / parts;
    d->part_shape[1] = t->shape[2];
    uint64_t part_bytes = t->bytes / d->units_count;
    for (uint64_t i = 0; i < d->units_count && status == F8_OK; i++) {
        f8_unit unit = {.name = f8_arena_printf(
                            &plan->strings, "%.*s%llu.%s.weight", parent,
                            t->name, (unsigned long long)(i / parts),
                            d->rule->parts[i % parts]),
                        .source = source,
                        .rank = 2,
                        .shape = d->part_shape,
                        .offset = t->offset + i * part_bytes,
                        .bytes = part_bytes};
        status = add_unit(plan, unit, d->first_unit + i, err);
    }
    return status;
}

static f8_status add_whole(f8_plan *plan, uint32_t source, f8_error *err)
{
    const f8_tensor *t = &plan->source->tensors.items[source];
    f8_unit unit = {.name = t->name,
                    .source = source,
                    .rank = (uint16_t)t->rank,
                    .shape = t->shape,
                    .offset = t->offset,
                    .bytes = t->bytes};

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
            (name[m] && strcmp(name + m, "_scale_inv") != 0))
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
        names[n++] = u->name;
        if (u->action != F8_QUANTIZE)
            continue;
        names[n] = f8_arena_printf(&scales, "%s_scale_inv", u->name);
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
        if (plan->decisions[i].rule->kind == F8_RULE_SPLIT)
            status = add_split(plan, i, err);
        else
            status = add_whole(plan, i, err);
    }
    if (status == F8_OK && plan->units_count > 0)
        status = check_unit_names(plan, err);
    return status;
}

f8_status f8_plan_decide(f8_plan *plan, const f8_options *options,
                         f8_error *err)
{
    f8_status status = f8_rules_load(options->rules, plan->source->model_type,
                                     &plan->rules, err);
    if (status == F8_OK)
        status = decide_all(plan, options, err);
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
    }
    f8_modules_add_absent(&modules, plan->rules);
    f8_status status =
        f8_modules_list(&modules, plan->rules, &plan->not_converted, err);
    f8_modules_free(&modules);
    return status;
}

/* ---- side files ---------------------------------------------------------- */

/* A side file may not take the name of our folder, and its own must fit into
 * the journal. */
static f8_status check_side_names(const f8_plan *plan, f8_error *err)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < plan->sides.count && status == F8_OK; i++) {
        const f8_side_file *f = &plan->sides.items[i];
        if (f->carried && !f8_json_is_utf8(f->path))
            status = f8_fail(err, F8_ERR_REFUSED,
                             "%s: expected a file name in UTF-8", f->path);
        else if (f->carried && !strcmp(f->path, F8_WORK_DIR))
            status = f8_fail(err, F8_ERR_REFUSED,
                             "%s: this name is reserved for fp8cast", f->path);
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
        h = hash_number(h, f->header_hash);
    }
    return f8_hash(h, source->config_text.data, source->config_text.length);
}

static uint64_t hash_plan(const f8_plan *plan)
{
    uint64_t h = plan->source_fingerprint;

    h = hash_number(h, (uint64_t)plan->scale_dtype);
    h = hash_number(h, (uint64_t)plan->choice);
    h = hash_number(h, plan->shard_bytes);
    for (uint64_t i = 0; i < plan->units_count; i++) {
        const f8_unit *u = &plan->units[i];
        h = hash_text(h, u->name);
        h = hash_number(h, (uint64_t)u->action);
        h = hash_number(h, u->shard);
    }
    for (size_t i = 0; i < json_array_size(plan->not_converted); i++)
        h = hash_text(
            h, json_string_value(json_array_get(plan->not_converted, i)));
    return h;
}

/* ---- the public calls ---------------------------------------------------- */

static f8_status fill_plan(f8_plan *plan, const char *src,
                           const f8_options *options, f8_error *err)
{
    const char *where = "";
    uint64_t least;

    plan->scale_dtype = options->scale_dtype;
    plan->choice = options->scales;
    plan->shard_bytes = options->shard_bytes;
    plan->threads = options->threads;
    plan->memory_bytes = options->memory_bytes;
    f8_status status =
        f8_pipeline_chunk(options->threads, options->memory_bytes, &least, err);
    if (status == F8_OK)
        status = f8_checkpoint_open(
            src,
            F8_OPEN_CONFIG | (options->follow_links ? F8_OPEN_FOLLOW_LINKS : 0),
            NULL, &plan->source, err);
    if (status == F8_OK && f8_checkpoint_quantization(plan->source, &where))
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: already quantised? expected no \"%s\", found "
                         "one",
                         F8_CONFIG_NAME, where);
    if (status == F8_OK && plan->source->tensors.count == 0)
        status = f8_fail(err, F8_ERR_FORMAT, "%s: expected tensors, found none",
                         src);
    if (status == F8_OK)
        status = f8_side_files_list(plan->source, &plan->sides, err);
    if (status == F8_OK)
        status = check_side_names(plan, err);
    if (status == F8_OK)
        status = f8_plan_decide(plan, options, err);
    if (status == F8_OK)
        status = list_modules(plan, err);
    if (status == F8_OK)
        status = f8_plan_cut_shards(plan, err);
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

    *plan = NULL;
    f8_status status = f8_options_fill(options, &filled, err);
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
    f8_rules_free(plan->rules);
    f8_side_files_free(&plan->sides);
    free(plan->decisions);
    free(plan->units);
    free(plan->shards);
    free(plan->kinds);
    free(plan->layers);
    json_decref(plan->not_converted);
    f8_arena_free(&plan->strings);
}

void f8_plan_free(f8_plan *plan)
{
    if (plan)
        f8_plan_clear(plan);
    free(plan);
}

/* What is kept of each quantised weight's error: while its shard is written,
 * as text in the journal, and in the report with its name. */
enum { MEASURED_BYTES = 1024 };

/* Buffers and tables. The tables are counted, not guessed; the megabyte is
 * for the program itself, thread stacks and libraries. */
static uint64_t forecast_memory(const f8_plan *plan)
{
    uint64_t header = 0;

    for (uint64_t i = 0; i < plan->shards_count; i++) {
        if (plan->shards[i].header_bytes > header)
            header = plan->shards[i].header_bytes;
    }
    return f8_pipeline_memory(plan->threads, plan->memory_bytes) +
           (plan->threads + 1) * plan->kinds_count * sizeof(f8_stats) +
           2 * plan->layers_count * sizeof(f8_stats) +
           plan->fp8_weights * MEASURED_BYTES +
           plan->units_count * sizeof *plan->units +
           plan->source->tensors.capacity * sizeof(f8_tensor) +
           plan->source->tensors.count *
               (sizeof(f8_decision) + sizeof(f8_tensor *)) +
           plan->strings.bytes + plan->source->strings.bytes + header +
           (UINT64_C(4) << 20);
}

void f8_plan_get_summary(const f8_plan *plan, f8_plan_summary *out)
{
    uint64_t headers = 0;

    memset(out, 0, sizeof *out);
    out->model_type = plan->source->model_type;
    out->family = plan->rules->family;
    out->layout = "card";
    out->source_tensors = plan->source->tensors.count;
    out->source_bytes = plan->source->tensor_bytes;
    out->source_shards = plan->source->files_count;
    out->result_tensors = 2 * plan->fp8_weights + plan->kept;
    out->result_bytes = plan->result_bytes;
    out->result_shards = plan->shards_count;
    out->fp8_weights = out->scales = plan->fp8_weights;
    out->kept = plan->kept;
    out->result_parameters = plan->parameters;
    for (size_t i = 0; i < plan->sides.count; i++) {
        const f8_side_file *f = &plan->sides.items[i];
        out->side_files += f->carried;
        out->side_bytes += f->carried ? f->bytes : 0;
        out->left_behind += !f->carried;
    }
    for (uint64_t i = 0; i < plan->shards_count; i++)
        headers += plan->shards[i].header_bytes;
    /* Twice the headers: the index names every tensor once more. */
    out->disk_bytes = plan->result_bytes + 2 * headers + out->side_bytes +
                      plan->source->config_text.length;
    out->memory_bytes = forecast_memory(plan);
    out->threads = plan->threads;
    out->choice = plan->choice;
}

void f8_plan_get_source(const f8_plan *plan, uint64_t i, f8_plan_source *out)
{
    const f8_tensor *t = &plan->source->tensors.items[i];
    const f8_decision *d = &plan->decisions[i];

    out->name = t->name;
    out->file = plan->source->files[t->file].name;
    out->dtype = t->dtype;
    out->rank = t->rank;
    out->shape = t->shape;
    out->action = d->action;
    out->results = d->units_count;
    out->first = d->first_unit;
    out->decided_by = d->decided_by;
}

void f8_plan_get_result(const f8_plan *plan, uint64_t i, f8_plan_result *out)
{
    const f8_unit *u = &plan->units[i];

    memset(out, 0, sizeof *out);
    out->name = u->name;
    out->action = u->action;
    out->dtype = f8_unit_dtype(plan, u);
    out->rank = u->rank;
    out->shape = u->shape;
    out->shard = u->shard;
    if (u->action == F8_QUANTIZE) {
        out->scale_dtype = f8_scale_storage(plan->scale_dtype);
        out->scale_shape[0] = f8_ceil_div(f8_unit_rows(u), F8_BLOCK);
        out->scale_shape[1] = f8_ceil_div(f8_unit_cols(u), F8_BLOCK);
    }
}

const char *f8_plan_shard_name(const f8_plan *plan, uint64_t i)
{
    return plan->shards[i].name;
}

const char *f8_plan_left_behind(const f8_plan *plan, uint64_t i)
{
    for (size_t k = 0; k < plan->sides.count; k++) {
        if (!plan->sides.items[k].carried && i-- == 0)
            return plan->sides.items[k].path;
    }
    return NULL;
}

const char *f8_plan_not_converted(const f8_plan *plan, uint64_t i)
{
    return json_string_value(json_array_get(plan->not_converted, (size_t)i));
}
