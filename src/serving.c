/* serving.c - which engines will take a result, and where not. See serving.h.
 * How a layer is divided, and whether a size suits it, is division.c's. */
#include "serving.h"

#include <stdlib.h>
#include <string.h>

#include "blockwise.h"
#include "division.h"
#include "glob.h"
#include "modules.h"
#include "quant.h"

enum { SIZES = 7 };

/* How experts lie: divided like all else, or whole on one device each. */
typedef enum crowding { DIVIDED, SPREAD, CROWDINGS } crowding;

typedef enum complaint {
    UNREADABLE, /* transformers: the scales' grid does not divide the weight */
    MISREAD,    /* transformers: it does, into blocks that are not ours */
    /* activations have groups of 128 */
    ODD_FOR_VLLM,
    ODD_FOR_SGLANG,
    COMPLAINTS
} complaint;

/* What an engine does with FP8 that the rules say it cannot take. */
typedef enum trouble {
    ALONE,   /* takes the codes, and leaves the scales */
    STOPPED, /* raises */
    TROUBLES
} trouble;

typedef struct group {
    const f8_unit *first;
    uint64_t count;
} group;

struct f8_serving {
    f8_serving_engine engines[F8_ENGINE_COUNT];
    /* What does not fit 2^k devices; NULL: all does, or it is not known. */
    const char *limits[F8_ENGINE_COUNT][CROWDINGS][SIZES];
    f8_finding *findings;
    size_t count, capacity;
    f8_arena strings;
};

typedef struct survey {
    const f8_plan *plan;
    const char *unknown; /* why shares cannot be told; in the strings */
    bool failed;         /* memory ran out */
    f8_obstacle least[F8_ENGINE_COUNT][CROWDINGS][SIZES];
    uint32_t small; /* sizes at which vLLM makes smaller blocks */
    group groups[COMPLAINTS][F8_MAX_KINDS];
    group modules[TROUBLES][F8_ENGINE_COUNT][F8_MAX_KINDS];
    f8_serving *made;
} survey;

static const struct {
    const char *name, *version;
    bool is_divided;
} engines[F8_ENGINE_COUNT] = {
    [F8_VLLM] = {"vllm", "0.32.0", true},
    [F8_SGLANG] = {"sglang", "0.5.23", true},
    [F8_TRANSFORMERS] = {"transformers", "5.23.0", false},
};

const char *f8_engine_name(f8_engine engine)
{
    return (unsigned)engine < F8_ENGINE_COUNT ? engines[engine].name : NULL;
}

/* ---- sizes --------------------------------------------------------------- */

static void not_known(survey *s, const f8_lack *lack)
{
    if (s->unknown || s->failed)
        return;
    s->unknown =
        f8_arena_printf(&s->made->strings, "%s %s", lack->what, lack->where);
    s->failed = !s->unknown;
}

/* Which of two obstacles an engine's message names. vLLM looks at the columns
 * of a row-parallel layer; at the rows of joined layers it does not, and fails
 * later, when it cuts their scales. What says nothing is told last. */
static bool is_plainer(f8_engine engine, const f8_obstacle *now,
                       const f8_obstacle *before)
{
    if (now->is_silent != before->is_silent)
        return before->is_silent;
    return engine == F8_VLLM && !strcmp(now->of, "columns") &&
           !strcmp(before->of, "rows");
}

/* Whether vLLM makes blocks of this layer on one device that divide it: then
 * activations have groups of as many. */
static bool has_small_blocks(const f8_layer *l)
{
    f8_obstacle why;
    bool small = false;

    return f8_layer_fits(l, F8_VLLM, 1, false, &why, &small) && small;
}

/* Notes at which sizes this layer is in the way, if nothing was before it. */
static void judge_layer(survey *s, const f8_layer *l, f8_engine engine)
{
    for (int mode = DIVIDED; mode < CROWDINGS; mode++) {
        for (unsigned k = 0; k < SIZES; k++) {
            f8_obstacle why, *found = &s->least[engine][mode][k];
            bool small = false;
            bool good =
                f8_layer_fits(l, engine, 1u << k, mode == SPREAD, &why, &small);
            if (!good && (!found->unit || is_plainer(engine, &why, found)))
                *found = why;
            if (good && small && mode == DIVIDED)
                s->small |= 1u << k;
        }
    }
}

/* ---- shapes -------------------------------------------------------------- */

static void add_to(group *groups, const f8_unit *u)
{
    group *g = &groups[u->kind];

    if (!g->count++)
        g->first = u;
}

static void complain(survey *s, complaint about, const f8_unit *u)
{
    add_to(s->groups[about], u);
}

/* transformers takes rows / rows of scales for the height of a block. */
static void judge_shape(survey *s, const f8_unit *u, bool vllm_copes)
{
    bool misread = false;
    bool unreadable = false;
    uint64_t lengths[2] = {f8_unit_rows(u), f8_unit_cols(u)};

    for (int i = 0; i < 2; i++) {
        uint64_t blocks = f8_ceil_div(lengths[i], F8_BLOCK);
        unreadable = unreadable || lengths[i] % blocks;
        misread = misread || (blocks > 1 && lengths[i] % F8_BLOCK);
    }
    if (unreadable && f8_transformers_reads(u->name))
        complain(s, UNREADABLE, u);
    else if (misread && f8_transformers_reads(u->name))
        complain(s, MISREAD, u);
    if (lengths[1] % F8_BLOCK && !vllm_copes)
        complain(s, ODD_FOR_VLLM, u);
    if (lengths[1] % F8_BLOCK)
        complain(s, ODD_FOR_SGLANG, u);
}

/* What the rules keep and is FP8 all the same: they know which engines have no
 * code for it. */
static void judge_module(survey *s, const f8_unit *u)
{
    const f8_rule *rule = s->plan->decisions[u->source].rule;

    for (int e = 0; rule && e < F8_ENGINE_COUNT; e++) {
        if (rule->misread_by >> e & 1)
            add_to(s->modules[ALONE][e], u);
        if (rule->refused_by >> e & 1)
            add_to(s->modules[STOPPED][e], u);
    }
}

static void look(survey *s)
{
    for (uint64_t i = 0; i < s->plan->units_count; i++) {
        const f8_unit *u = &s->plan->units[i];
        f8_layer l;
        f8_lack lack;
        /* verify may have found FP8 that is no matrix: a fault already. */
        if (u->rank != 2 || !f8_unit_rows(u) || !f8_unit_cols(u))
            continue;
        bool is_known = f8_layer_find(s->plan, u, &l, &lack);
        if (u->action == F8_QUANTIZE) {
            judge_shape(s, u, is_known && has_small_blocks(&l));
            judge_module(s, u);
        }
        if (!is_known) {
            if (lack.what)
                not_known(s, &lack);
            continue;
        }
        judge_layer(s, &l, F8_VLLM);
        judge_layer(s, &l, F8_SGLANG);
    }
}

/* ---- sentences ----------------------------------------------------------- */

static void kind_of(const f8_unit *u, char kind[F8_KIND_BYTES])
{
    f8_module_kind(u->name, kind, F8_KIND_BYTES);
}

/* "64 of 512 columns each", "64 of 240 rows of k_proj each: raises" */
static void describe_obstacle(f8_buf *text, const f8_obstacle *o)
{
    unsigned long long length = o->length, share = o->share;
    bool whole = !share || share == length;

    if (o->begin) {
        f8_buf_printf(text, "%s begins at row %llu, within a block", o->part,
                      (unsigned long long)o->begin);
    } else {
        if (!whole)
            f8_buf_printf(text, "%llu of ", share);
        f8_buf_printf(text, "%llu %s%s%s%s", length, o->of,
                      o->part ? " of " : "", o->part ? o->part : "",
                      whole ? "" : " each");
    }
    if (o->effect)
        f8_buf_printf(text, ": %s", o->effect);
}

/* The text, which is freed; NULL when memory ran out. */
static const char *keep_text(f8_arena *strings, f8_buf *text)
{
    const char *kept =
        text->failed ? NULL : f8_arena_copy(strings, text->data, text->length);

    f8_buf_free(text);
    return kept;
}

/* "8: mlp.shared_expert.down_proj, 64 of 512 columns each"; the strings own
 * it. NULL: memory ran out. */
static const char *describe_limit(f8_arena *strings, const f8_obstacle *o,
                                  unsigned devices)
{
    char kind[F8_KIND_BYTES];
    f8_buf text = {0};

    kind_of(o->unit, kind);
    f8_buf_printf(&text, "%u: %s, ", devices, kind);
    describe_obstacle(&text, o);
    return keep_text(strings, &text);
}

static f8_status add_finding(f8_serving *made, f8_engine engine,
                             bool is_warning, const char *what,
                             const f8_unit *first, uint64_t count,
                             f8_error *err)
{
    char kind[F8_KIND_BYTES] = "";

    if (first)
        kind_of(first, kind);
    f8_finding f = {.engine = engine,
                    .is_warning = is_warning,
                    .what = what,
                    .where = f8_arena_copy(&made->strings, kind, strlen(kind)),
                    .tensor = first ? f8_arena_copy(&made->strings, first->name,
                                                    strlen(first->name))
                                    : NULL,
                    .tensors = count};
    if (!what || !f.where || (first && !f.tensor) ||
        !f8_grow((void **)&made->findings, &made->capacity, made->count,
                 sizeof f))
        return f8_fail_nomem(err, "the findings");
    made->findings[made->count++] = f;
    made->engines[engine].warnings += is_warning;
    return F8_OK;
}

/* At which sizes nothing is in the way; the others' limits are described. */
static f8_status judge_sizes(survey *s, f8_engine engine, crowding mode,
                             uint32_t *sizes, const char **first, f8_error *err)
{
    const f8_obstacle *least = s->least[engine][mode];

    for (unsigned k = 0; k < SIZES; k++) {
        if (!least[k].unit) {
            *sizes |= 1u << k;
            continue;
        }
        const char *limit =
            describe_limit(&s->made->strings, &least[k], 1u << k);
        if (!limit)
            return f8_fail_nomem(err, "the findings");
        s->made->limits[engine][mode][k] = limit;
        *first = *first ? *first : limit;
    }
    return F8_OK;
}

static f8_status warn_of_one_device(survey *s, f8_engine engine,
                                    const f8_obstacle *o, f8_error *err)
{
    f8_buf text = {0};

    f8_buf_puts(&text, "cannot be served, not even on one device: ");
    describe_obstacle(&text, o);
    return add_finding(s->made, engine, true,
                       keep_text(&s->made->strings, &text), o->unit, 1, err);
}

static f8_status conclude_engine(survey *s, f8_engine engine, f8_error *err)
{
    f8_serving_engine *e = &s->made->engines[engine];
    const f8_obstacle *least = s->least[engine][DIVIDED];

    e->unknown = s->unknown;
    if (s->unknown)
        return F8_OK;
    f8_status status =
        judge_sizes(s, engine, DIVIDED, &e->tp_sizes, &e->limit, err);
    if (status == F8_OK)
        status =
            judge_sizes(s, engine, SPREAD, &e->ep_sizes, &e->ep_limit, err);
    e->small_sizes = engine == F8_VLLM ? s->small & e->tp_sizes : 0;
    if (status == F8_OK && least[0].unit)
        status = warn_of_one_device(s, engine, &least[0], err);
    return status;
}

static f8_status conclude_shapes(survey *s, f8_error *err)
{
    static const char odd[] = "no token can be computed: [%llu, %llu] has "
                              "columns beyond a multiple of 128";
    static const struct {
        f8_engine engine;
        const char *words;
    } complaints[COMPLAINTS] = {
        [UNREADABLE] = {F8_TRANSFORMERS,
                        "refuses to dequantize [%llu, %llu]: its scales' grid "
                        "does not divide it"},
        [MISREAD] = {F8_TRANSFORMERS,
                     "dequantizes [%llu, %llu] with blocks that are not 128 "
                     "wide, silently"},
        [ODD_FOR_VLLM] = {F8_VLLM, odd},
        [ODD_FOR_SGLANG] = {F8_SGLANG, odd},
    };

    for (int c = 0; c < COMPLAINTS; c++) {
        for (size_t k = 0; k < s->plan->kinds_count; k++) {
            const group *g = &s->groups[c][k];
            if (!g->count)
                continue;
            unsigned long long rows = f8_unit_rows(g->first);
            unsigned long long cols = f8_unit_cols(g->first);
            const char *what = f8_arena_printf(&s->made->strings,
                                               complaints[c].words, rows, cols);
            f8_status status = add_finding(s->made, complaints[c].engine, true,
                                           what, g->first, g->count, err);
            if (status != F8_OK)
                return status;
        }
    }
    return F8_OK;
}

static f8_status conclude_modules(survey *s, f8_error *err)
{
    static const char *const words[TROUBLES] = {
        [ALONE] = "leaves the scales and takes the codes for weights, silently",
        [STOPPED] = "does not load this in FP8",
    };
    f8_status status = F8_OK;

    for (int t = 0; t < TROUBLES; t++) {
        for (size_t k = 0; k < s->plan->kinds_count; k++) {
            for (int e = 0; e < F8_ENGINE_COUNT && status == F8_OK; e++) {
                const group *g = &s->modules[t][e][k];
                if (g->count)
                    status = add_finding(s->made, (f8_engine)e, true, words[t],
                                         g->first, g->count, err);
            }
        }
    }
    return status;
}

/* ---- what the rules say -------------------------------------------------- */

/* Whether config.json has one of these names for the key, or in its list. */
static bool has_value(const f8_plan *plan, const f8_failure *f)
{
    const json_t *value = json_object_get(plan->source->config, f->key);
    size_t count = json_is_array(value) ? json_array_size(value) : 1;

    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(
            json_is_array(value) ? json_array_get(value, i) : value);
        for (unsigned k = 0; text && k < f->values_count; k++) {
            if (!strcmp(text, f->values[k]))
                return true;
        }
    }
    return false;
}

/* Whether the unit's tensor or, where it is quantised, its scale is called so.
 */
static bool is_called(const f8_unit *u, const char *pattern)
{
    char scale[F8_NAME_MAX_BYTES + sizeof F8_SCALE_SUFFIX];

    if (f8_glob_match(pattern, u->name))
        return true;
    int n = snprintf(scale, sizeof scale, "%s%s", u->name, F8_SCALE_SUFFIX);
    return u->action == F8_QUANTIZE && n > 0 && (size_t)n < sizeof scale &&
           f8_glob_match(pattern, scale);
}

static bool happens(const f8_plan *plan, const f8_failure *f)
{
    if (f->key && !has_value(plan, f))
        return false;
    for (uint64_t i = 0; i < plan->units_count; i++) {
        if (is_called(&plan->units[i], f->pattern))
            return true;
    }
    return false;
}

/* What the rules know an engine to fail at. That is so at every size. */
static f8_status conclude_failures(survey *s, f8_engine engine, bool *fails,
                                   f8_error *err)
{
    const f8_rules *rules = s->plan->rules;
    f8_status status = F8_OK;

    for (size_t i = 0; i < rules->failures_count && status == F8_OK; i++) {
        const f8_failure *f = &rules->failures[i];
        if (f->engine != engine || !happens(s->plan, f))
            continue;
        *fails = true;
        const char *what =
            f8_arena_copy(&s->made->strings, f->text, strlen(f->text));
        status = add_finding(s->made, engine, true, what, NULL, 0, err);
    }
    return status;
}

/* ---- the head ------------------------------------------------------------ */

/* Some models with vision have their head below language_model. */
static bool has_head(const f8_checkpoint *source)
{
    static const char head[] = "lm_head.weight";

    for (uint64_t i = 0; i < source->tensors.count; i++) {
        const char *name = source->tensors.items[i].name;
        size_t n = strlen(name), m = sizeof head - 1;
        if (n >= m && !strcmp(name + n - m, head) &&
            (n == m || name[n - m - 1] == '.'))
            return true;
    }
    return false;
}

static f8_status judge_head(survey *s, f8_error *err)
{
    const json_t *tied = f8_checkpoint_tied(s->plan->source);
    bool found = has_head(s->plan->source);
    bool warning = json_is_false(tied) && !found;
    const char *what = NULL;
    f8_status status = F8_OK;

    if (warning)
        what = "the head is random numbers: lm_head.weight is missing, and "
               "tie_word_embeddings is false";
    else if (json_is_true(tied) && found)
        what = "the head is tied to the embeddings: lm_head.weight is not read";
    else if (json_is_true(tied))
        what = "the head is tied to the embeddings, which are not quantized";
    for (int e = 0; what && e < F8_ENGINE_COUNT && status == F8_OK; e++)
        status =
            add_finding(s->made, (f8_engine)e, warning, what, NULL, 0, err);
    return status;
}

/* ---- notes --------------------------------------------------------------- */

static f8_status note_small(survey *s, f8_error *err)
{
    f8_buf text = {0};
    uint32_t sizes = s->made->engines[F8_VLLM].small_sizes;
    const char *separator = "";
    f8_status status = F8_OK;

    if (!sizes)
        return F8_OK;
    f8_buf_puts(&text, "spreads experts' scales over smaller blocks at ");
    for (unsigned k = 0; k < SIZES; k++) {
        if (sizes >> k & 1) {
            f8_buf_printf(&text, "%s%u", separator, 1u << k);
            separator = ", ";
        }
    }
    f8_buf_puts(&text, " devices: only Triton kernels take that");
    if (text.failed)
        status = f8_fail_nomem(err, "the findings");
    else
        status = add_finding(
            s->made, F8_VLLM, false,
            f8_arena_copy(&s->made->strings, text.data, text.length), NULL, 0,
            err);
    f8_buf_free(&text);
    return status;
}

static f8_status note_requantising(survey *s, bool pow2, f8_error *err)
{
    static const char what[] =
        "DeepGEMM on Blackwell has scales rounded up to powers of two and "
        "weights quantized anew; not with --scales pow2";
    bool any = false;

    for (uint64_t i = 0; i < s->plan->units_count && !any; i++)
        any = s->plan->units[i].action == F8_QUANTIZE;
    if (pow2 || !any)
        return F8_OK;
    f8_status status = add_finding(s->made, F8_VLLM, false, what, NULL, 0, err);
    if (status == F8_OK)
        status = add_finding(s->made, F8_SGLANG, false, what, NULL, 0, err);
    return status;
}

/* ---- the whole ----------------------------------------------------------- */

static f8_status conclude(survey *s, bool pow2, f8_error *err)
{
    f8_status status = F8_OK;

    for (int e = 0; e < F8_ENGINE_COUNT; e++) {
        f8_serving_engine *engine = &s->made->engines[e];
        engine->name = engines[e].name;
        engine->version = engines[e].version;
        engine->is_divided = engines[e].is_divided;
        bool fails = false;
        if (status == F8_OK)
            status = conclude_failures(s, (f8_engine)e, &fails, err);
        if (engine->is_divided && !fails && status == F8_OK)
            status = conclude_engine(s, (f8_engine)e, err);
    }
    if (status == F8_OK)
        status = conclude_shapes(s, err);
    if (status == F8_OK)
        status = conclude_modules(s, err);
    if (status == F8_OK)
        status = judge_head(s, err);
    if (status == F8_OK)
        status = note_small(s, err);
    if (status == F8_OK)
        status = note_requantising(s, pow2, err);
    return status;
}

f8_status f8_serving_make(const f8_plan *plan, bool pow2, f8_serving **serving,
                          f8_error *err)
{
    survey *s = f8_alloc(1, sizeof *s);
    f8_serving *made = f8_alloc(1, sizeof *made);
    f8_status status;

    *serving = NULL;
    if (!s || !made) {
        status = f8_fail_nomem(err, "the findings");
        goto out;
    }
    s->plan = plan;
    s->made = made;
    look(s);
    status =
        s->failed ? f8_fail_nomem(err, "the findings") : conclude(s, pow2, err);
    if (status == F8_OK) {
        *serving = made;
        made = NULL;
    }
out:
    f8_serving_free(made);
    free(s);
    return status;
}

f8_status f8_plan_serving(const f8_plan *plan, f8_serving **serving,
                          f8_error *err)
{
    *serving = NULL;
    if (plan->direction != F8_TO_FP8)
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "expected a plan to FP8, found one from it");
    return f8_serving_make(plan, plan->choice == F8_SCALES_POW2, serving, err);
}

void f8_serving_get_engine(const f8_serving *serving, f8_engine engine,
                           f8_serving_engine *out)
{
    *out = serving->engines[engine];
}

const char *f8_serving_limit(const f8_serving *serving, f8_engine engine,
                             unsigned devices, bool spread)
{
    for (unsigned k = 0; k < SIZES; k++) {
        if (devices == 1u << k)
            return serving->limits[engine][spread ? SPREAD : DIVIDED][k];
    }
    return NULL;
}

bool f8_serving_get_finding(const f8_serving *serving, size_t i,
                            f8_finding *out)
{
    if (i >= serving->count)
        return false;
    *out = serving->findings[i];
    return true;
}

void f8_serving_free(f8_serving *serving)
{
    if (!serving)
        return;
    free(serving->findings);
    f8_arena_free(&serving->strings);
    free(serving);
}
