/* verify.c - the public entry f8_verify: rereads source and result and lists
 * what does not agree. What an engine does not notice (a missing scale, a
 * module that is not listed, swapped halves) is what this room is for.
 *
 * The result may come from anybody, so nothing is taken from how we would
 * have made it but the names: which tensors are quantised is read off the
 * result and held against its own modules_to_not_convert. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "modules.h"
#include "report.h"
#include "source.h"

struct f8_verdict {
    f8_verdict_summary summary;
    f8_problems problems;
    f8_report *report;
};

/* Where a unit stands in the result. */
typedef struct counterpart {
    const f8_tensor *weight; /* NULL: nothing to compare, already a fault */
    const f8_tensor *scale;  /* quantised only */
    f8_scale_dtype scale_dtype;
} counterpart;

typedef struct verification {
    f8_plan plan; /* names, decisions and units; no shards */
    f8_checkpoint *result;
    counterpart *parts; /* one a unit */
    bool *expected;     /* one a tensor of the result */
    f8_verdict *verdict;
    const f8_options *options;
    f8_worst current; /* of the unit whose items are being retired */
    f8_check check;
    uint64_t differing; /* bytes, of a kept unit */
    f8_progress progress;
} verification;

static f8_problems *problems(const verification *v)
{
    return &v->verdict->problems;
}

/* ---- names, shapes, dtypes ----------------------------------------------- */

static const f8_tensor *find(verification *v, const char *name)
{
    const f8_tensor *t = f8_checkpoint_find(v->result, name);

    if (t)
        v->expected[t - v->result->tensors.items] = true;
    return t;
}

static bool same_shape(const f8_tensor *t, unsigned rank, const uint64_t *shape)
{
    return t->rank == rank &&
           (rank == 0 || !memcmp(t->shape, shape, rank * sizeof *shape));
}

static void print_shape(f8_buf *buf, unsigned rank, const uint64_t *shape)
{
    f8_buf_puts(buf, "[");
    for (unsigned i = 0; i < rank; i++)
        f8_buf_printf(buf, "%s%llu", i ? ", " : "",
                      (unsigned long long)shape[i]);
    f8_buf_puts(buf, "]");
}

static f8_status shape_fault(verification *v, const f8_tensor *t, unsigned rank,
                             const uint64_t *shape, f8_error *err)
{
    f8_buf expected = {0}, found = {0};
    f8_status status;

    print_shape(&expected, rank, shape);
    print_shape(&found, t->rank, t->shape);
    if (expected.failed || found.failed)
        status = f8_fail_nomem(err, "a fault");
    else
        status = f8_problem(problems(v), err,
                            "tensor %s: expected shape %s, found %s", t->name,
                            expected.data, found.data);
    f8_buf_free(&found);
    f8_buf_free(&expected);
    return status;
}

static f8_status missing_scale(verification *v, const f8_unit *u, f8_error *err)
{
    f8_buf other = {0};

    f8_buf_printf(&other, "%s_scale", u->name);
    if (other.failed)
        return f8_fail_nomem(err, "a fault");
    bool misnamed = find(v, other.data) != NULL;
    f8_buf_free(&other);
    return f8_problem(problems(v), err, "tensor %s: FP8 without %s_scale_inv%s",
                      u->name, u->name,
                      misnamed ? ", only _scale, which no loader of this "
                                 "format reads"
                               : "");
}

/* Finds and checks the scale of a quantised weight. part->weight is cleared
 * when the codes cannot be judged. */
static f8_status match_scale(verification *v, const f8_unit *u,
                             counterpart *part, f8_error *err)
{
    const f8_tensor *weight = part->weight;
    uint64_t shape[2] = {f8_ceil_div(f8_unit_rows(u), F8_BLOCK),
                         f8_ceil_div(f8_unit_cols(u), F8_BLOCK)};
    f8_buf name = {0};

    part->weight = NULL;
    f8_buf_printf(&name, "%s_scale_inv", u->name);
    if (name.failed)
        return f8_fail_nomem(err, "a fault");
    const f8_tensor *scale = find(v, name.data);
    f8_buf_free(&name);
    if (!scale)
        return missing_scale(v, u, err);
    if (!same_shape(scale, 2, shape))
        return shape_fault(v, scale, 2, shape, err);
    if (!f8_scale_from_storage(scale->dtype, &part->scale_dtype))
        return f8_problem(problems(v), err,
                          "tensor %s: expected BF16, F32 or F8_E8M0, found %s",
                          scale->name, f8_dtype_name(scale->dtype));
    part->weight = weight;
    part->scale = scale;
    if (scale->file == weight->file)
        return F8_OK;
    return f8_problem(problems(v), err,
                      "tensor %s: in %s, but its weight is in %s", scale->name,
                      v->result->files[scale->file].name,
                      v->result->files[weight->file].name);
}

static bool is_quantisable(const f8_tensor *t, const f8_unit *u)
{
    return u->rank == 2 && t->elems > 0 &&
           (t->dtype == F8_DTYPE_BF16 || t->dtype == F8_DTYPE_F16 ||
            t->dtype == F8_DTYPE_F32);
}

static f8_status match_unit(verification *v, uint64_t i, f8_error *err)
{
    const f8_unit *u = &v->plan.units[i];
    const f8_tensor *from = &v->plan.source->tensors.items[u->source];
    const f8_rule *rule = v->plan.decisions[u->source].rule;
    const f8_tensor *to = find(v, u->name);
    counterpart *part = &v->parts[i];

    f8_plan_set_action(&v->plan, i, F8_KEEP);
    if (!to)
        return f8_problem(problems(v), err, "tensor %s: missing", u->name);
    bool fp8 = to->dtype == F8_DTYPE_E4M3 && from->dtype != F8_DTYPE_E4M3;
    if (fp8)
        f8_plan_set_action(&v->plan, i, F8_QUANTIZE);
    if (!same_shape(to, u->rank, u->shape))
        return shape_fault(v, to, u->rank, u->shape, err);
    if (fp8 && !is_quantisable(from, u))
        return f8_problem(problems(v), err,
                          "tensor %s: FP8, but it is not a matrix of weights",
                          u->name);
    if (!fp8 && to->dtype != from->dtype)
        return f8_problem(
            problems(v), err, "tensor %s: expected %s or F8_E4M3, found %s",
            u->name, f8_dtype_name(from->dtype), f8_dtype_name(to->dtype));
    part->weight = to;
    f8_status status = F8_OK;
    if (fp8 && rule->always)
        status = f8_problem(problems(v), err,
                            "tensor %s: FP8, but no loader takes it in FP8 "
                            "(%s)",
                            u->name, rule->text);
    if (fp8 && status == F8_OK)
        status = match_scale(v, u, part, err);
    return status;
}

static f8_status match_tensors(verification *v, f8_error *err)
{
    f8_status status = F8_OK;

    for (uint64_t i = 0; i < v->plan.units_count && status == F8_OK; i++)
        status = match_unit(v, i, err);
    for (size_t i = 0; i < v->result->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &v->result->tensors.items[i];
        if (!v->expected[i])
            status = f8_problem(problems(v), err,
                                "%s: tensor %s has no counterpart in the "
                                "source",
                                v->result->files[t->file].name, t->name);
    }
    return status;
}

/* ---- index and config ---------------------------------------------------- */

static f8_status check_total(verification *v, f8_error *err)
{
    const f8_checkpoint *r = v->result;

    if (!r->has_index || (r->index_total_size >= 0 &&
                          (uint64_t)r->index_total_size == r->tensor_bytes))
        return F8_OK;
    return f8_problem(problems(v), err,
                      "%s: expected total_size %llu, found %lld", F8_INDEX_NAME,
                      (unsigned long long)r->tensor_bytes,
                      (long long)r->index_total_size);
}

/* Members of config.json that converters rightly change or leave out. */
static bool may_differ(const char *key)
{
    static const char *const keys[] = {"quantization_config", "torch_dtype",
                                       "dtype", "transformers_version",
                                       "_name_or_path"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!strcmp(keys[i], key))
            return true;
    }
    return false;
}

static f8_status compare_configs(verification *v, f8_error *err)
{
    json_t *a = v->plan.source->config, *b = v->result->config, *value;
    const char *key;
    f8_status status = F8_OK;

    json_object_foreach(a, key, value)
    {
        if (status == F8_OK && !may_differ(key) &&
            !json_equal(value, json_object_get(b, key)))
            status = f8_problem(problems(v), err,
                                "%s: \"%s\" is not as in the source",
                                F8_CONFIG_NAME, key);
    }
    json_object_foreach(b, key, value)
    {
        if (status == F8_OK && !may_differ(key) && !json_object_get(a, key))
            status =
                f8_problem(problems(v), err, "%s: \"%s\" is not in the source",
                           F8_CONFIG_NAME, key);
    }
    return status;
}

/* A string member that must have a value, or may also be absent. */
static f8_status check_text(verification *v, const json_t *config,
                            const char *key, const char *expected,
                            bool required, f8_error *err)
{
    const json_t *value = json_object_get(config, key);

    if (!value && !required)
        return F8_OK;
    if (json_is_string(value) && !strcmp(json_string_value(value), expected))
        return F8_OK;
    return f8_problem(problems(v), err,
                      "%s: quantization_config: expected \"%s\": \"%s\", "
                      "found %s",
                      F8_CONFIG_NAME, key, expected,
                      !value                  ? "none"
                      : json_is_string(value) ? json_string_value(value)
                                              : "no string");
}

static f8_status check_quantization(verification *v, const json_t *config,
                                    f8_error *err)
{
    const json_t *block = json_object_get(config, "weight_block_size");
    f8_status status = check_text(v, config, "quant_method", "fp8", true, err);

    if (status == F8_OK)
        status = check_text(v, config, "fmt", "e4m3", false, err);
    if (status == F8_OK)
        status =
            check_text(v, config, "activation_scheme", "dynamic", true, err);
    if (status == F8_OK &&
        (json_array_size(block) != 2 ||
         json_integer_value(json_array_get(block, 0)) != F8_BLOCK ||
         json_integer_value(json_array_get(block, 1)) != F8_BLOCK))
        status = f8_problem(problems(v), err,
                            "%s: quantization_config: expected "
                            "\"weight_block_size\": [128, 128]",
                            F8_CONFIG_NAME);
    return status;
}

/* ---- modules_to_not_convert ---------------------------------------------- */

static bool lists(const json_t *list, const char *module)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *entry = json_string_value(json_array_get(list, i));
        if (entry && !strcmp(entry, module))
            return true;
    }
    return false;
}

/* Every kept Linear must be listed, or a loader makes it FP8. */
static f8_status check_too_few(verification *v, const f8_modules *modules,
                               const json_t *list, f8_error *err)
{
    const char *module;
    json_t *needed;
    f8_status status = F8_OK;

    json_object_foreach(modules->kept, module, needed)
    {
        if (json_is_true(needed) && !lists(list, module) &&
            !json_object_get(modules->quantised, module) && status == F8_OK)
            status = f8_problem(problems(v), err,
                                "%s: modules_to_not_convert: %s is not FP8 "
                                "and not listed; a loader would convert it",
                                F8_CONFIG_NAME, module);
    }
    return status;
}

/* No entry may reach a module that is FP8. */
static f8_status check_too_many(verification *v, const f8_modules *modules,
                                const json_t *list, f8_error *err)
{
    const char *module;
    json_t *unused;
    f8_status status = F8_OK;

    for (size_t i = 0; i < json_array_size(list) && status == F8_OK; i++) {
        const char *entry = json_string_value(json_array_get(list, i));
        if (!entry) {
            status = f8_problem(problems(v), err,
                                "%s: modules_to_not_convert: entry %zu is no "
                                "string",
                                F8_CONFIG_NAME, i);
            continue;
        }
        json_object_foreach(modules->quantised, module, unused)
        {
            if (!f8_module_captured(entry, module))
                continue;
            status = f8_problem(problems(v), err,
                                "%s: modules_to_not_convert: \"%s\" also "
                                "means %s, which is FP8",
                                F8_CONFIG_NAME, entry, module);
            break; /* one line an entry */
        }
    }
    return status;
}

/* Engines cannot load some experts of a layer, or some parts of a fused
 * module, in FP8 and the others not. */
static f8_status check_mixed(verification *v, const f8_modules *modules,
                             f8_error *err)
{
    const char *module;
    json_t *state;
    f8_status status = F8_OK;

    json_object_foreach(modules->siblings, module, state)
    {
        if (json_integer_value(state) == 3 && status == F8_OK)
            status = f8_problem(problems(v), err,
                                "%s: some of its parts are FP8 and some not; "
                                "engines load them as one",
                                module);
    }
    json_object_foreach(modules->kept, module, state)
    {
        size_t n = strlen(module);
        if (json_object_get(modules->quantised, module) && n > 8 &&
            !strcmp(module + n - 8, ".experts") && status == F8_OK)
            status = f8_problem(problems(v), err,
                                "%s: some experts are FP8 and some not; "
                                "engines load them as one",
                                module);
    }
    return status;
}

static f8_status check_modules(verification *v, const json_t *list,
                               f8_error *err)
{
    f8_modules modules;
    f8_status status = F8_OK;

    f8_modules_init(&modules);
    for (uint64_t i = 0; i < v->plan.units_count && !modules.failed; i++) {
        const f8_unit *u = &v->plan.units[i];
        const f8_rule *rule = v->plan.decisions[u->source].rule;
        f8_modules_add(&modules, v->plan.rules, u->name,
                       u->action == F8_QUANTIZE,
                       rule->linear || rule->kind != F8_RULE_KEEP);
    }
    if (modules.failed)
        status = f8_fail_nomem(err, "the module list");
    if (status == F8_OK)
        status = check_mixed(v, &modules, err);
    if (status == F8_OK)
        status = check_too_few(v, &modules, list, err);
    if (status == F8_OK)
        status = check_too_many(v, &modules, list, err);
    f8_modules_free(&modules);
    return status;
}

static f8_status check_config(verification *v, f8_error *err)
{
    const json_t *config =
        json_object_get(v->result->config, "quantization_config");
    const json_t *list = json_object_get(config, "modules_to_not_convert");

    if (!v->result->config) /* noted when the folder was opened */
        return F8_OK;
    f8_status status = compare_configs(v, err);
    if (status != F8_OK)
        return status;
    if (!json_is_object(config))
        return f8_problem(problems(v), err,
                          "%s: expected a quantization_config, found none",
                          F8_CONFIG_NAME);
    status = check_quantization(v, config, err);
    if (!list) /* vLLM's other name for it */
        list = json_object_get(config, "ignored_layers");
    if (status == F8_OK && !json_is_array(list))
        return f8_problem(problems(v), err,
                          "%s: quantization_config: expected an array "
                          "\"modules_to_not_convert\"",
                          F8_CONFIG_NAME);
    if (status == F8_OK)
        status = check_modules(v, list, err);
    return status;
}

/* ---- the bytes ----------------------------------------------------------- */

typedef struct handles {
    f8_handle source, result;
    f8_handle scales; /* of the result; a misplaced one has its own file */
} handles;

static void get_work(void *ctx, uint64_t unit, f8_work *work)
{
    const verification *v = ctx;
    const f8_unit *u = &v->plan.units[unit];

    memset(work, 0, sizeof *work);
    work->shard = v->parts[unit].weight ? 0 : 1;
    work->matrix = u->action == F8_QUANTIZE && work->shard == 0;
    work->bytes = u->bytes;
    work->dtype = v->plan.source->tensors.items[u->source].dtype;
    if (work->matrix) {
        work->rows = f8_unit_rows(u);
        work->cols = f8_unit_cols(u);
    }
}

/* "Shard" 1 holds what cannot be compared; it is a fault already. */
static bool is_hopeless(void *ctx, uint32_t shard)
{
    (void)ctx;
    return shard == 1;
}

static f8_status begin_worker(void *ctx, f8_worker *worker, f8_error *err)
{
    (void)ctx;
    handles *h = f8_alloc(1, sizeof *h);

    if (!h)
        return f8_fail_nomem(err, "a worker");
    h->source = h->result = h->scales = F8_HANDLE_NONE;
    worker->user = h;
    return F8_OK;
}

static void end_worker(void *ctx, f8_worker *worker)
{
    handles *h = worker->user;

    (void)ctx;
    if (h) {
        f8_handle_close(&h->source);
        f8_handle_close(&h->result);
        f8_handle_close(&h->scales);
    }
    free(h);
}

static f8_status check_item(const verification *v, f8_worker *worker,
                            const f8_item *item, f8_outcome *outcome,
                            f8_error *err)
{
    const f8_unit *u = &v->plan.units[item->unit];
    const counterpart *part = &v->parts[item->unit];
    const handles *h = worker->user;
    f8_dtype dtype = v->plan.source->tensors.items[u->source].dtype;
    uint64_t cols = f8_unit_cols(u);
    f8_scale_range range = f8_item_scales(item, cols, part->scale_dtype);
    uint8_t scratch[F8_BLOCK * F8_BLOCK];
    unsigned char *weights, *codes = NULL;

    f8_status status =
        f8_read_panel(&h->source, u->offset, cols, f8_dtype_bytes(dtype), item,
                      worker->in, &weights, err);
    if (status == F8_OK)
        status = f8_read_panel(&h->result, part->weight->offset, cols, 1, item,
                               worker->out, &codes, err);
    if (status == F8_OK)
        status =
            f8_read_at(h->scales.file.fd, worker->scales, (size_t)range.bytes,
                       part->scale->offset + range.begin, h->scales.path, err);
    if (status != F8_OK)
        return status;
    f8_panel panel = {.weights = weights,
                      .stride_bytes =
                          (size_t)(item->cols * f8_dtype_bytes(dtype)),
                      .dtype = dtype,
                      .rows = item->rows,
                      .cols = item->cols,
                      .codes = codes,
                      .codes_stride = (size_t)item->cols,
                      .scale_dtype = part->scale_dtype,
                      .scales = worker->scales};
    f8_worker_compute(worker);
    f8_panel_check(&f8_kernel_ref, &panel, scratch, &outcome->check,
                   &outcome->sums, worker->hist);
    f8_worker_computed(worker);
    return F8_OK;
}

static f8_status compare_item(const verification *v, f8_worker *worker,
                              const f8_item *item, f8_outcome *outcome,
                              f8_error *err)
{
    const f8_unit *u = &v->plan.units[item->unit];
    const handles *h = worker->user;
    size_t n = (size_t)item->bytes;
    unsigned char *ours, *theirs = NULL;

    f8_status status = f8_handle_read(&h->source, worker->in, n,
                                      u->offset + item->begin, &ours, err);
    if (status == F8_OK)
        status = f8_handle_read(
            &h->result, worker->out, n,
            v->parts[item->unit].weight->offset + item->begin, &theirs, err);
    if (status != F8_OK || !memcmp(ours, theirs, n))
        return status;
    for (size_t i = 0; i < n; i++) {
        if (ours[i] == theirs[i])
            continue;
        if (outcome->faults++ == 0)
            outcome->check.first.row = item->begin + i;
    }
    return F8_OK;
}

static f8_status work(void *ctx, f8_worker *worker, const f8_item *item,
                      f8_outcome *outcome, f8_error *err)
{
    const verification *v = ctx;
    const f8_unit *u = &v->plan.units[item->unit];
    handles *h = worker->user;
    uint32_t source_file = v->plan.source->tensors.items[u->source].file;

    f8_status status =
        f8_handle_use(&h->source, v->plan.source, source_file, err);
    if (status == F8_OK)
        status = f8_handle_use(&h->result, v->result,
                               v->parts[item->unit].weight->file, err);
    if (status == F8_OK && v->parts[item->unit].scale)
        status = f8_handle_use(&h->scales, v->result,
                               v->parts[item->unit].scale->file, err);
    if (status != F8_OK)
        return status;
    if (u->action == F8_QUANTIZE)
        return check_item(v, worker, item, outcome, err);
    return compare_item(v, worker, item, outcome, err);
}

static void count(void *ctx, const f8_item *item, const uint64_t *hist)
{
    verification *v = ctx;
    const f8_unit *u = &v->plan.units[item->unit];

    if (u->action == F8_QUANTIZE)
        f8_tally_count(&v->verdict->report->tally, u->kind, hist);
}

/* Adds an item's findings to its unit's; the first place is made absolute. */
static void add_check(f8_check *to, const f8_check *from, const f8_item *item)
{
    to->not_nearest += from->not_nearest;
    to->nan_codes += from->nan_codes;
    to->bad_scales += from->bad_scales;
    if (from->has_first && !to->has_first) {
        to->has_first = true;
        to->first = from->first;
        to->first.row += item->row;
        to->first.col += item->col;
    }
}

static f8_status matrix_faults(verification *v, const f8_unit *u,
                               const f8_check *check, f8_error *err)
{
    unsigned long long row = check->first.row, col = check->first.col;
    unsigned long long elems = f8_unit_rows(u) * f8_unit_cols(u);
    f8_status status = F8_OK;

    if (check->bad_scales)
        status = f8_problem(problems(v), err,
                            "tensor %s_scale_inv: %llu scales are not finite "
                            "and positive, the first fault in block [%llu, "
                            "%llu]",
                            u->name, (unsigned long long)check->bad_scales,
                            row / F8_BLOCK, col / F8_BLOCK);
    if (check->nan_codes && status == F8_OK)
        status = f8_problem(problems(v), err,
                            "tensor %s: %llu codes of %llu are NaN, the first "
                            "fault at row %llu, column %llu, block [%llu, "
                            "%llu]",
                            u->name, (unsigned long long)check->nan_codes,
                            elems, row, col, row / F8_BLOCK, col / F8_BLOCK);
    if (check->not_nearest && status == F8_OK)
        status = f8_problem(problems(v), err,
                            "tensor %s: %llu codes of %llu are not the "
                            "nearest to weight / scale, the first fault at "
                            "row %llu, column %llu, block [%llu, %llu]",
                            u->name, (unsigned long long)check->not_nearest,
                            elems, row, col, row / F8_BLOCK, col / F8_BLOCK);
    v->verdict->summary.codes_not_nearest += check->not_nearest;
    v->verdict->summary.codes_nan += check->nan_codes;
    return status;
}

static f8_status retire_matrix(verification *v, const f8_item *item,
                               const f8_outcome *outcome, f8_error *err)
{
    const f8_unit *u = &v->plan.units[item->unit];

    add_check(&v->check, &outcome->check, item);
    f8_sums_add(&v->current.sums, &outcome->sums);
    if (!item->last)
        return F8_OK;
    v->current.unit = item->unit;
    v->current.elems = f8_unit_rows(u) * f8_unit_cols(u);
    v->current.blocks = f8_ceil_div(f8_unit_rows(u), F8_BLOCK) *
                        f8_ceil_div(f8_unit_cols(u), F8_BLOCK);
    f8_tally_unit(&v->verdict->report->tally, u->kind, &v->current);
    f8_status status = matrix_faults(v, u, &v->check, err);
    memset(&v->current, 0, sizeof v->current);
    memset(&v->check, 0, sizeof v->check);
    return status;
}

static f8_status retire(void *ctx, const f8_item *item,
                        const f8_outcome *outcome, f8_error *err)
{
    verification *v = ctx;
    const f8_unit *u = &v->plan.units[item->unit];
    f8_status status = F8_OK;

    if (u->action == F8_QUANTIZE)
        return retire_matrix(v, item, outcome, err);
    if (outcome->faults && v->differing == 0)
        status =
            f8_problem(problems(v), err,
                       "tensor %s: expected the source's bytes, found "
                       "others, the first at byte %llu of %llu",
                       u->name, (unsigned long long)outcome->check.first.row,
                       (unsigned long long)u->bytes);
    v->differing = item->last ? 0 : v->differing + outcome->faults;
    return status;
}

static int tell(void *ctx, uint64_t bytes, int64_t shard)
{
    verification *v = ctx;

    (void)shard; /* there is only one, and it is not a file */
    v->progress.bytes_done = bytes;
    if (!v->options->progress)
        return 0;
    return v->options->progress(v->options->progress_user, &v->progress);
}

static f8_status check_bytes(verification *v, f8_error *err)
{
    const f8_pipeline_ops ops = {.ctx = v,
                                 .get = get_work,
                                 .skip = is_hopeless,
                                 .worker_begin = begin_worker,
                                 .worker_end = end_worker,
                                 .work = work,
                                 .count = count,
                                 .retire = retire,
                                 .progress = tell};

    for (uint64_t i = 0; i < v->plan.units_count; i++) {
        const f8_unit *u = &v->plan.units[i];
        if (v->parts[i].weight)
            v->progress.bytes_total += u->bytes;
        if (v->parts[i].weight && u->action == F8_QUANTIZE)
            v->verdict->summary.quantized++;
        else if (v->parts[i].weight)
            v->verdict->summary.kept++;
    }
    return f8_pipeline_run(&ops, v->plan.units_count, 2, v->options->threads,
                           v->options->memory_bytes, err);
}

/* ---- the public calls ---------------------------------------------------- */

static f8_status open_both(verification *v, const char *src, const char *dst,
                           f8_error *err)
{
    const char *where = "";

    f8_status status =
        f8_checkpoint_open(src, true, NULL, &v->plan.source, err);
    if (status == F8_OK && f8_checkpoint_quantization(v->plan.source, &where))
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s/%s: expected an unquantised source, found "
                         "\"%s\"",
                         src, F8_CONFIG_NAME, where);
    if (status == F8_OK)
        status = f8_plan_decide(&v->plan, v->options, err);
    if (status == F8_OK)
        status = f8_checkpoint_open(dst, true, problems(v), &v->result, err);
    if (status != F8_OK)
        return status;
    v->parts = f8_alloc(v->plan.units_count, sizeof *v->parts);
    v->expected = f8_alloc(v->result->tensors.count, sizeof *v->expected);
    if (!v->parts || !v->expected)
        return f8_fail_nomem(err, "the comparison");
    return F8_OK;
}

static f8_status verify(verification *v, const char *src, const char *dst,
                        f8_error *err)
{
    f8_status status = open_both(v, src, dst, err);

    if (status == F8_OK)
        status = match_tensors(v, err);
    if (status == F8_OK)
        status = check_total(v, err);
    if (status == F8_OK)
        status = check_config(v, err);
    if (status == F8_OK)
        status = f8_report_new(&v->plan, &v->verdict->report, err);
    if (status == F8_OK)
        status = check_bytes(v, err);
    if (status == F8_OK)
        status = f8_report_finish(v->verdict->report, &v->plan, err);
    return status;
}

f8_status f8_verify(const char *src, const char *dst, const f8_options *options,
                    f8_verdict **verdict, f8_error *err)
{
    double start = f8_now();
    f8_options filled;
    verification v = {.options = &filled};

    *verdict = NULL;
    f8_status status = f8_options_fill(options, &filled, err);
    if (status != F8_OK)
        return status;
    filled.overrides_count = 0; /* what is kept is read off the result */
    v.verdict = f8_alloc(1, sizeof *v.verdict);
    if (!v.verdict)
        return f8_fail_nomem(err, "the verdict");
    status = verify(&v, src, dst, err);
    if (status == F8_OK) {
        f8_report_summary *s = &v.verdict->report->summary;
        v.verdict->summary.faults = problems(&v)->total;
        v.verdict->summary.seconds = f8_now() - start;
        s->source_bytes = v.plan.source->tensor_bytes;
        s->result_bytes = v.result->tensor_bytes;
        s->quantized = v.verdict->summary.quantized;
        s->kept = v.verdict->summary.kept;
        s->seconds = v.verdict->summary.seconds;
        *verdict = v.verdict;
    } else {
        f8_verdict_free(v.verdict);
    }
    free(v.parts);
    free(v.expected);
    f8_checkpoint_free(v.result);
    f8_plan_clear(&v.plan);
    return status;
}

void f8_verdict_free(f8_verdict *verdict)
{
    if (!verdict)
        return;
    f8_problems_free(&verdict->problems);
    f8_report_free(verdict->report);
    free(verdict);
}

void f8_verdict_get_summary(const f8_verdict *verdict, f8_verdict_summary *out)
{
    *out = verdict->summary;
}

const char *f8_verdict_fault(const f8_verdict *verdict, size_t i)
{
    return i < verdict->problems.count ? verdict->problems.lines[i] : NULL;
}

const f8_report *f8_verdict_report(const f8_verdict *verdict)
{
    return verdict->report;
}
