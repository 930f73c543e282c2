/* agreement.c - source and result side by side. See agreement.h. */
#include "agreement.h"

#include <stdlib.h>
#include <string.h>

#include "arrange.h"
#include "blockwise.h"
#include "likeness.h"
#include "members.h"
#include "modules.h"
#include "quant.h"
#include "reach.h"

/* What engines make of a fault; docs/loaders.md has it tried. */
#define NOT_NOTICED "; vLLM and SGLang start without it and say nothing, "
#define TAKEN_FOR_WEIGHTS \
    "vLLM raises, SGLang takes its codes for weights without a word"

#define LEFT_IN_BF16                                                       \
    ", where it is taken apart: vLLM and SGLang cast it into FP8 without " \
    "a word, "
#define LEFT_IN_FP8                                                          \
    ", where it is taken apart: vLLM takes it, SGLang does not read it and " \
    "says nothing, "
#define BESIDE_OTHERS "; as others are apart, SGLang drops the later of those"

/* Of codes that are taken for weights. */
static const char *transformers_too(const char *name)
{
    return f8_transformers_reads(name) ? ", so does transformers on a GPU" : "";
}

/* What transformers does, of a name that it reads. */
static const char *transformers(const char *name, const char *does)
{
    return f8_transformers_reads(name) ? does : "transformers does not read it";
}

/* ---- names, shapes, dtypes ----------------------------------------------- */

static const f8_tensor *find(f8_agreement *v, const char *name)
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

/* Powers of two as bare bytes: the two engines have an F32 parameter and copy
 * into it what they find, so that 127 becomes 127.0 and not 1; in layers that
 * it joins with no other SGLang looks at the types first (layers/parameter.py,
 * copy_with_check). transformers looks at scale_fmt, without which they would
 * not be read as such here. */
static f8_status check_scale_bytes(f8_agreement *v, const f8_tensor *scale,
                                   f8_error *err)
{
    if (scale->dtype != F8_DTYPE_U8)
        return F8_OK;
    return f8_problem(
        v->problems, err,
        "tensor %s: expected BF16, F32 or F8_E8M0, found U8; vLLM takes its "
        "bytes for multipliers without a word, SGLang does or raises, %s",
        scale->name,
        transformers(scale->name, "transformers takes them for powers of "
                                  "two"));
}

/* Finds and checks the scale of a quantised weight. part->weight is cleared
 * when the codes cannot be judged. */
static f8_status match_scale(f8_agreement *v, f8_counterpart *part,
                             f8_error *err)
{
    const f8_tensor *weight = part->weight, *seen;
    f8_partner partner;

    part->weight = NULL;
    f8_status status = f8_blockwise_scale(v->result, weight, v->problems,
                                          &partner, &seen, err);
    if (seen)
        v->expected[seen - v->result->tensors.items] = true;
    if (status != F8_OK || !partner.other)
        return status;
    part->weight = weight;
    part->scale = partner.other;
    part->scale_dtype = partner.scale_dtype;
    status = check_scale_bytes(v, part->scale, err);
    if (status != F8_OK || part->scale->file == weight->file)
        return status;
    return f8_problem(
        v->problems, err, "tensor %s: in %s, but its weight is in %s",
        part->scale->name, v->result->files[part->scale->file].name,
        v->result->files[weight->file].name);
}

static bool is_quantisable(const f8_tensor *t, const f8_unit *u)
{
    return u->rank == 2 && t->elems > 0 &&
           (t->dtype == F8_DTYPE_BF16 || t->dtype == F8_DTYPE_F16 ||
            t->dtype == F8_DTYPE_F32);
}

static f8_status match_unit(f8_agreement *v, uint64_t i, f8_error *err)
{
    const f8_unit *u = &v->plan.units[i];
    const f8_tensor *from = &v->plan.source->tensors.items[u->source];
    const f8_rule *rule = v->plan.decisions[u->source].rule;
    const f8_tensor *to = find(v, u->name);
    f8_counterpart *part = &v->parts[i];

    (void)f8_plan_set_action(&v->plan, i, F8_KEEP);
    if (!to && f8_checkpoint_find(v->result, from->name))
        return f8_problem(v->problems, err,
                          "tensor %s: missing; it is still in %s", u->name,
                          from->name);
    if (!to && v->result->has_gaps) /* then it is these that loaders meet */
        return f8_problem(v->problems, err, "tensor %s: missing", u->name);
    if (!to)
        return f8_problem(
            v->problems, err, "tensor %s: missing" NOT_NOTICED "%s", u->name,
            transformers(u->name, "transformers raises or names the key"));
    v->has_apart = v->has_apart || rule->kind == F8_RULE_SPLIT;
    bool fp8 = to->dtype == F8_DTYPE_E4M3 && from->dtype != F8_DTYPE_E4M3;
    if (fp8 && !f8_plan_set_action(&v->plan, i, F8_QUANTIZE))
        return f8_fail_nomem(err, "the comparison");
    if (!same_shape(to, u->rank, u->shape))
        return f8_problem_shape(v->problems, to, u->rank, u->shape, err);
    if (fp8 && !is_quantisable(from, u))
        return f8_problem(v->problems, err,
                          "tensor %s: FP8, but it is not a matrix of weights",
                          u->name);
    if (!fp8 && to->dtype != from->dtype)
        return f8_problem(
            v->problems, err, "tensor %s: expected %s or F8_E4M3, found %s",
            u->name, f8_dtype_name(from->dtype), f8_dtype_name(to->dtype));
    part->weight = to;
    f8_status status = F8_OK;
    if (fp8 && rule->always)
        status = f8_problem(v->problems, err,
                            "tensor %s: FP8, but no loader takes it in FP8 "
                            "(%s): " TAKEN_FOR_WEIGHTS "%s",
                            u->name, rule->text, transformers_too(u->name));
    if (fp8 && status == F8_OK)
        status = match_scale(v, part, err);
    return status;
}

/* A tensor of the result that is one of the source that is taken apart, or
 * such a one's scale: the weight of the two in the result, else NULL. */
static const f8_tensor *find_still_fused(const f8_agreement *v,
                                         const char *name)
{
    char weight[F8_NAME_MAX_BYTES + 1];
    size_t n = strlen(name);

    if (f8_is_scale_name(name))
        n -= strlen(F8_SCALE_SUFFIX);
    if (n > F8_NAME_MAX_BYTES)
        return NULL;
    memcpy(weight, name, n);
    weight[n] = '\0';
    const f8_checkpoint *source = v->plan.source;
    const f8_tensor *t = f8_checkpoint_find(source, weight);
    if (!t || v->plan.decisions[t - source->tensors.items].rule->kind !=
                  F8_RULE_SPLIT)
        return NULL;
    return f8_checkpoint_find(v->result, weight);
}

static f8_status note_stranger(f8_agreement *v, const f8_tensor *t,
                               f8_error *err)
{
    const f8_tensor *fused = find_still_fused(v, t->name);
    bool fp8 = fused && fused->dtype == F8_DTYPE_E4M3;
    const char *then = fp8 ? "transformers tells of keys"
                           : "transformers too computes with other weights";

    return f8_problem(v->problems, err,
                      "%s: tensor %s has no counterpart in the source%s%s%s",
                      v->result->files[t->file].name, t->name,
                      !fused ? ""
                      : fp8  ? LEFT_IN_FP8
                             : LEFT_IN_BF16,
                      fused ? transformers(t->name, then) : "",
                      fp8 && v->has_apart ? BESIDE_OTHERS : "");
}

static f8_status match_tensors(f8_agreement *v, f8_error *err)
{
    f8_status status = F8_OK;

    for (uint64_t i = 0; i < v->plan.units_count && status == F8_OK; i++)
        status = match_unit(v, i, err);
    for (size_t i = 0; i < v->result->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &v->result->tensors.items[i];
        /* Another of that name, in another shard, was told at the opening. */
        if (!v->expected[i] && f8_checkpoint_find(v->result, t->name) == t)
            status = note_stranger(v, t, err);
    }
    return status;
}

/* ---- modules_to_not_convert ---------------------------------------------- */

/* The entries of a list, of which anybody may have made a million. */
typedef struct entries {
    const char *key;     /* of the list */
    bool is_absent;      /* there is none, or null */
    size_t count;        /* of all, also of what is no string */
    const char **texts;  /* in order; NULL for what is no string */
    const char **hits;   /* what each reaches that it must not, or NULL */
    const char **sorted; /* the strings */
    size_t sorted_count;
} entries;

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Long lists take seconds, in which no byte of a weight is read. */
static bool keep_going(void *ctx, uint64_t bytes)
{
    const f8_agreement *v = ctx;
    const f8_progress none = {.bytes_done = bytes};

    return !v->options->progress ||
           v->options->progress(v->options->progress_user, &none) == 0;
}

/* A list that is NULL is none. */
static f8_status take_entries(f8_agreement *v, const json_t *list,
                              const char *key, const f8_modules *modules,
                              entries *e, f8_error *err)
{
    const f8_watch watch = {keep_going, v};

    *e = (entries){
        .key = key, .is_absent = !list, .count = json_array_size(list)};
    e->texts = f8_alloc(e->count, sizeof *e->texts);
    e->hits = f8_alloc(e->count, sizeof *e->hits);
    e->sorted = f8_alloc(e->count, sizeof *e->sorted);
    if (!e->texts || !e->hits || !e->sorted)
        return f8_fail_nomem(err, "the module list");
    for (size_t i = 0; i < e->count; i++) {
        e->texts[i] = json_string_value(json_array_get(list, i));
        if (e->texts[i])
            e->sorted[e->sorted_count++] = e->texts[i];
    }
    if (e->sorted_count > 0)
        qsort(e->sorted, e->sorted_count, sizeof *e->sorted, by_name);
    return f8_reach_find(modules, e->texts, e->count, e->hits, &watch, err);
}

static void free_entries(entries *e)
{
    free(e->texts);
    free(e->hits);
    free(e->sorted);
}

static bool is_head(const char *module)
{
    const char *dot = strrchr(module, '.');

    return !strcmp(dot ? dot + 1 : module, "lm_head");
}

/* Where there is no list transformers keeps the head by itself, and what is
 * tied to it (quantizers/base.py, get_keys_to_not_convert); where one is empty
 * it does not. The engines never make a head FP8. */
static bool lists(const entries *e, const char *module)
{
    if (e->is_absent && is_head(module))
        return true;
    return e->sorted_count > 0 && bsearch(&module, e->sorted, e->sorted_count,
                                          sizeof *e->sorted, by_name);
}

/* Every kept Linear must be listed, or a loader makes it FP8. */
static f8_status check_too_few(f8_agreement *v, const f8_modules *modules,
                               const entries *e, f8_error *err)
{
    const char *module;
    json_t *needed;
    f8_status status = F8_OK;

    json_object_foreach(modules->kept, module, needed)
    {
        if (json_is_true(needed) && !lists(e, module) &&
            !json_object_get(modules->quantised, module) && status == F8_OK)
            status = f8_problem(
                v->problems, err,
                "%s: %s: %s is not FP8 and not listed; a "
                "loader would convert it: %s",
                F8_CONFIG_NAME, e->key, module,
                f8_module_unlisted(module, f8_transformers_reads(module)));
    }
    return status;
}

/* An entry is the full name of one module, and may not reach one that is
 * FP8. */
static f8_status check_entry(f8_agreement *v, const f8_modules *modules,
                             const char *key, const char *entry,
                             const char *hit, f8_error *err)
{
    /* A tensor may have an odd name, and is then listed by it. */
    if (!f8_module_is_plain(entry) && !json_object_get(modules->kept, entry))
        return f8_problem(v->problems, err,
                          "%s: %s: expected names, found \"%s\", which "
                          "loaders take for a pattern or for nothing",
                          F8_CONFIG_NAME, key,
                          f8_show(entry, F8_SHOWN_BYTES).text);
    if (hit)
        return f8_problem(
            v->problems, err,
            "%s: %s: \"%s\" also means %s, which is FP8: " TAKEN_FOR_WEIGHTS
            "%s",
            F8_CONFIG_NAME, key, f8_show(entry, F8_SHOWN_BYTES).text, hit,
            transformers_too(hit));
    return F8_OK;
}

static f8_status check_too_many(f8_agreement *v, const f8_modules *modules,
                                const entries *e, f8_error *err)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < e->count && status == F8_OK; i++) {
        if (e->texts[i])
            status =
                check_entry(v, modules, e->key, e->texts[i], e->hits[i], err);
        else
            status = f8_problem(v->problems, err,
                                "%s: %s: expected only strings, found "
                                "something else at entry %zu",
                                F8_CONFIG_NAME, e->key, i);
    }
    return status;
}

/* Engines cannot load some experts of a layer, or some parts of a fused
 * module, in FP8 and the others not. */
static f8_status check_mixed(f8_agreement *v, const f8_modules *modules,
                             f8_error *err)
{
    const char *module;
    json_t *state;
    f8_status status = F8_OK;

    json_object_foreach(modules->siblings, module, state)
    {
        if (json_integer_value(state) == 3 && status == F8_OK)
            status = f8_problem(v->problems, err,
                                "%s: some of its parts are FP8 and some not; "
                                "engines load them as one",
                                module);
    }
    json_object_foreach(modules->kept, module, state)
    {
        size_t n = strlen(module);
        if (json_object_get(modules->quantised, module) && n > 8 &&
            !strcmp(module + n - 8, ".experts") && status == F8_OK)
            status = f8_problem(v->problems, err,
                                "%s: some experts are FP8 and some not; "
                                "engines load them as one, and cast without a "
                                "word",
                                module);
    }
    return status;
}

static f8_status check_list(f8_agreement *v, const f8_modules *modules,
                            const char *key, const json_t *list, f8_error *err)
{
    entries e;
    f8_status status = take_entries(v, list, key, modules, &e, err);

    if (status == F8_OK)
        status = check_too_few(v, modules, &e, err);
    if (status == F8_OK)
        status = check_too_many(v, modules, &e, err);
    free_entries(&e);
    return status;
}

static bool is_none(const json_t *list)
{
    return !list || json_is_null(list);
}

/* The list has two names. vLLM reads ignored_layers unless it is empty, SGLang
 * reads it even then, transformers where there is no other. */
static f8_status check_lists(f8_agreement *v, const f8_modules *modules,
                             const json_t *config, f8_error *err)
{
    static const char name[] = "modules_to_not_convert";
    static const char alias[] = "ignored_layers";
    const json_t *list = json_object_get(config, name);
    const json_t *other = json_object_get(config, alias);
    bool is_odd = !json_is_array(other) && !is_none(other);
    f8_status status = F8_OK;

    if (!json_is_array(list) && (!is_none(list) || is_odd))
        return f8_problem(v->problems, err,
                          "%s: quantization_config: expected an array \"%s\"",
                          F8_CONFIG_NAME, name);
    if (is_none(list) && is_none(other))
        return check_list(v, modules, name, NULL, err);
    if (is_odd ||
        (other && json_array_size(other) == 0 && json_array_size(list) > 0))
        status = f8_problem(v->problems, err,
                            "%s: quantization_config: \"%s\" is %s, and "
                            "SGLang reads it in place of %s",
                            F8_CONFIG_NAME, alias,
                            json_is_array(other) ? "empty" : "no array", name);
    if (status == F8_OK && json_is_array(list))
        status = check_list(v, modules, name, list, err);
    if (status == F8_OK && json_is_array(other) && !json_equal(list, other) &&
        (is_none(list) || json_array_size(other) > 0))
        status = check_list(v, modules, alias, other, err);
    return status;
}

static f8_status check_modules(f8_agreement *v, const json_t *config,
                               f8_error *err)
{
    f8_modules modules;
    f8_status status = F8_OK;

    f8_modules_init(&modules);
    for (uint64_t i = 0; i < v->plan.units_count && !modules.failed; i++) {
        const f8_unit *u = &v->plan.units[i];
        const f8_rule *rule = v->plan.decisions[u->source].rule;
        if (!v->parts[i].weight && u->action == F8_KEEP)
            continue; /* missing: a fault already */
        f8_modules_add(&modules, v->plan.rules, u->name,
                       u->action == F8_QUANTIZE,
                       rule->linear || rule->kind != F8_RULE_KEEP);
        if (u->action == F8_KEEP)
            f8_modules_add_also(&modules, v->plan.rules, rule, u->name);
    }
    f8_modules_add_absent(&modules, v->plan.rules);
    if (modules.failed)
        status = f8_fail_nomem(err, "the module list");
    if (status == F8_OK)
        status = check_mixed(v, &modules, err);
    if (status == F8_OK)
        status = check_lists(v, &modules, config, err);
    f8_modules_free(&modules);
    return status;
}

static bool has_e8m0(const f8_agreement *v)
{
    for (uint64_t i = 0; i < v->plan.units_count; i++) {
        if (v->parts[i].scale && v->parts[i].scale_dtype == F8_SCALE_UE8M0)
            return true;
    }
    return false;
}

static f8_status check_config(f8_agreement *v, f8_error *err)
{
    const json_t *config =
        json_object_get(v->result->config, "quantization_config");

    if (!v->result->config) /* a fault already, noted at the opening */
        return F8_OK;
    f8_status status = f8_likeness_check(v->plan.source->config,
                                         v->result->config, v->findings, err);
    if (status != F8_OK)
        return status;
    if (!json_is_object(config))
        return f8_problem(v->problems, err,
                          "%s: expected a quantization_config, found none",
                          F8_CONFIG_NAME);
    status = f8_members_check(config, has_e8m0(v), v->findings, err);
    if (status == F8_OK)
        status = check_modules(v, config, err);
    return status;
}

f8_status f8_agreement_check_scales(f8_agreement *pair, uint64_t powers,
                                    uint64_t scales, f8_error *err)
{
    const json_t *config =
        json_object_get(pair->result->config, "quantization_config");

    return f8_members_check_scales(config, powers, scales, pair->findings, err);
}

/* ---- both ---------------------------------------------------------------- */

/* null is no quantization, and yet `quantize` refuses it. */
static f8_status check_unquantised(const f8_checkpoint *source, f8_error *err)
{
    const char *where = "";
    const json_t *found = f8_checkpoint_quantization(source, &where);

    if (!found)
        return F8_OK;
    if (json_is_null(found))
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s/%s: \"%s\" is null: expected no such member, since "
                       "the result has its own; remove it",
                       source->dir, F8_CONFIG_NAME, where);
    return f8_fail(err, F8_ERR_REFUSED,
                   "%s/%s: expected an unquantised source, found \"%s\"",
                   source->dir, F8_CONFIG_NAME, where);
}

f8_status f8_agreement_open(f8_agreement *pair, const char *src,
                            const char *dst, const f8_options *options,
                            f8_findings *findings, f8_error *err)
{
    memset(pair, 0, sizeof *pair);
    pair->findings = findings;
    pair->problems = &findings->faults;
    pair->options = options;
    f8_status status =
        f8_checkpoint_open(src, F8_OPEN_CONFIG | F8_OPEN_FOLLOW_LINKS, NULL,
                           &pair->plan.source, err);
    if (status == F8_OK)
        status = check_unquantised(pair->plan.source, err);
    if (status == F8_OK)
        status = f8_plan_decide(&pair->plan, options, err);
    if (status == F8_OK)
        status = f8_checkpoint_open(dst, F8_OPEN_CONFIG | F8_OPEN_FOLLOW_LINKS,
                                    pair->problems, &pair->result, err);
    if (status != F8_OK)
        return status;
    pair->parts = f8_alloc(pair->plan.units_count, sizeof *pair->parts);
    pair->expected =
        f8_alloc(pair->result->tensors.count, sizeof *pair->expected);
    if (!pair->parts || !pair->expected)
        return f8_fail_nomem(err, "the comparison");
    status = match_tensors(pair, err);
    if (status == F8_OK)
        status = check_config(pair, err);
    return status;
}

/* ---- the layout ---------------------------------------------------------- */

/* Whether the rules quantise what was found to be FP8, and nothing else. */
static bool decide_alike(const f8_plan *plan, const f8_rules *rules)
{
    for (size_t i = 0; i < plan->source->tensors.count; i++) {
        const f8_decision *d = &plan->decisions[i];
        const f8_rule *rule = f8_rules_find(rules, d->name);
        f8_action action =
            rule && rule->kind != F8_RULE_KEEP ? F8_QUANTIZE : F8_KEEP;
        for (uint64_t k = 0; k < d->units_count; k++) {
            if (plan->units[d->first_unit + k].action != action)
                return false;
        }
    }
    return true;
}

f8_status f8_agreement_layout(f8_agreement *pair, const f8_options *options,
                              const char **name, f8_error *err)
{
    const char *model_type = pair->plan.source->model_type;
    f8_rules *all = NULL;

    *name = NULL;
    f8_status status = f8_rules_load(options->rules, model_type, &all, err);
    if (status != F8_OK)
        return status;
    for (size_t i = 0; i <= all->sections_count && !*name; i++) {
        const char *layout = i ? all->sections[i - 1].name : F8_LAYOUT_CARD;
        f8_rules *rules = NULL;
        status = f8_rules_load(options->rules, model_type, &rules, err);
        if (status == F8_OK)
            status = f8_arrange(rules, layout, err);
        if (status == F8_OK && decide_alike(&pair->plan, rules)) {
            *name =
                f8_arena_copy(&pair->problems->strings, layout, strlen(layout));
            if (!*name)
                status = f8_fail_nomem(err, "the layout");
        }
        f8_rules_free(rules);
        if (status != F8_OK)
            break;
    }
    f8_rules_free(all);
    return status;
}

void f8_agreement_close(f8_agreement *pair)
{
    free(pair->parts);
    free(pair->expected);
    f8_checkpoint_free(pair->result);
    f8_plan_clear(&pair->plan);
}
