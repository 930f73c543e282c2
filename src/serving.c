/* serving.c - which engines will take a result, and where not. See serving.h.
 *
 * The rules of vLLM 0.32.0 and SGLang 0.5.23 for layers in FP8 blocks, as read
 * in their sources (docs/serving.md cites them): where a device's share of the
 * inputs or of one of several joined outputs cuts a block, its scale belongs to
 * two devices. Engines look at that in different places, some not at all, but
 * no such model computes what it should. */
#include "serving.h"

#include <stdlib.h>
#include <string.h>

#include "modules.h"
#include "quant.h"

enum { SIZES = 7, SIZE_BITS = (1 << SIZES) - 1, SMALLEST_BLOCK = 32 };

/* How experts lie: divided like all else, or whole on one device each. */
typedef enum crowding { DIVIDED, SPREAD, CROWDINGS } crowding;

/* What does not fit a size; unit NULL: nothing. */
typedef struct obstacle {
    const f8_unit *unit;
    const char *of;         /* "rows", "columns", or config's key of heads */
    uint64_t length, share; /* share 0: it cannot be divided */
} obstacle;

typedef enum complaint {
    UNREADABLE, /* transformers: the scales' grid does not divide the weight */
    MISREAD,    /* transformers: it does, into blocks that are not ours */
    ODD_INPUTS, /* vllm, sglang: activations have groups of 128 */
    COMPLAINTS
} complaint;

typedef struct group {
    const f8_unit *first;
    uint64_t count;
} group;

struct f8_serving {
    f8_serving_engine engines[F8_ENGINE_COUNT];
    f8_finding *findings;
    size_t count, capacity;
    f8_arena strings;
};

typedef struct survey {
    const f8_plan *plan;
    const char *unknown; /* why shares cannot be told; in the strings */
    bool failed;         /* memory ran out */
    obstacle least[F8_ENGINE_COUNT][CROWDINGS][SIZES];
    uint32_t small; /* sizes at which vLLM makes smaller blocks */
    group groups[COMPLAINTS][F8_MAX_KINDS];
    f8_serving *made;
} survey;

/* A linear layer, or what an engine joins into one of them. */
typedef struct layer {
    const f8_unit *unit;
    const f8_parallel *how;
    bool fp8, merged, last; /* last: of the merged */
    unsigned parts;
    uint64_t length[F8_MAX_PARTS]; /* rows of a part */
    uint64_t heads[F8_MAX_PARTS];  /* 0: any share will do */
    const char *keys[F8_MAX_PARTS];
} layer;

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

/* ---- what the config says ------------------------------------------------ */

static void not_known(survey *s, const char *what, const char *where)
{
    if (s->unknown || s->failed)
        return;
    s->unknown = f8_arena_printf(&s->made->strings, "%s %s", what, where);
    s->failed = !s->unknown;
}

/* Rows that are parts of so many heads each. False: not known. */
static bool find_parts(survey *s, layer *l)
{
    const f8_parallel *how = l->how;
    uint64_t sum = 0, dim = 0;

    l->parts = how->parts_count;
    for (unsigned i = 0; i < l->parts; i++) {
        const char *missing = NULL;
        l->keys[i] = how->heads[i];
        l->heads[i] = f8_checkpoint_number(s->plan->source, how->heads[i]);
        if (how->dims[i])
            dim = f8_checkpoint_number(s->plan->source, how->dims[i]);
        if (!l->heads[i])
            missing = how->heads[i];
        else if (how->dims[i] && !dim)
            missing = how->dims[i];
        if (missing) {
            not_known(s, "config.json does not say", missing);
            return false;
        }
        if (!how->dims[i]) { /* all rows; the share is theirs whatever */
            l->length[i] = f8_unit_rows(l->unit);
            return true;
        }
        if (!f8_mul_u64(l->heads[i], dim, &l->length[i]) ||
            !f8_add_u64(sum, l->length[i], &sum))
            sum = UINT64_MAX;
    }
    if (sum == f8_unit_rows(l->unit))
        return true;
    not_known(s, "config.json has other heads than", l->unit->name);
    return false;
}

/* Whether the module is joined with its neighbours, and the last of them. */
static void find_neighbours(const f8_rules *rules, layer *l)
{
    char kind[F8_KIND_BYTES];

    f8_module_kind(l->unit->name, kind, sizeof kind);
    const char *dot = strrchr(kind, '.');
    const char *leaf = dot ? dot + 1 : kind;
    for (size_t i = 0; i < rules->fused_count; i++) {
        const f8_fused *fused = &rules->fused[i];
        for (unsigned k = 0; k < fused->parts_count; k++) {
            if (strcmp(fused->parts[k], leaf) != 0)
                continue;
            l->merged = true;
            l->last = k == fused->parts_count - 1;
        }
    }
}

static bool find_layer(survey *s, const f8_unit *u, layer *l)
{
    *l = (layer){.unit = u,
                 .how = f8_rules_find_parallel(s->plan->rules, u->name),
                 .fp8 = u->action == F8_QUANTIZE,
                 .parts = 1,
                 .last = true};
    if (!l->how) {
        if (l->fp8)
            not_known(s, "no 'parallel' of the rules names", u->name);
        return false;
    }
    find_neighbours(s->plan->rules, l);
    l->length[0] = f8_unit_rows(u);
    if (l->how->kv) {
        l->keys[0] = l->how->kv;
        l->heads[0] = f8_checkpoint_number(s->plan->source, l->how->kv);
        if (!l->heads[0]) {
            not_known(s, "config.json does not say", l->how->kv);
            return false;
        }
    } else if (l->how->parts_count) {
        if (!find_parts(s, l))
            return false;
        l->merged = l->merged || l->parts > 1;
    }
    return true;
}

/* ---- whether a layer fits a number of devices ---------------------------- */

/* A share of an expert's inner dimension. SGLang takes whole blocks. vLLM
 * spreads the scales over smaller blocks, should they divide all dimensions;
 * only its Triton kernels run these. */
static bool expert_fits(f8_engine engine, uint64_t share, uint64_t other,
                        bool *small)
{
    uint64_t block = F8_BLOCK;

    if (share % F8_BLOCK == 0)
        return true;
    while (block && (share % block || other % block))
        block /= 2; /* as the greatest common divisor with 128 */
    *small = true;
    return engine == F8_VLLM && block >= SMALLEST_BLOCK;
}

/* The rows of part i that each of n devices has; 0 when heads or rows cannot
 * be divided so. */
static uint64_t share_of(const layer *l, unsigned i, unsigned n)
{
    uint64_t heads = l->heads[i];

    if (l->how->kv && heads && n > heads) /* copies of a head */
        return n % heads || l->length[i] % heads ? 0 : l->length[i] / heads;
    if (heads ? heads % n : l->length[i] % n)
        return 0;
    return l->length[i] % n ? 0 : l->length[i] / n;
}

static bool column_fits(const layer *l, f8_engine engine, unsigned n,
                        obstacle *why, bool *small)
{
    for (unsigned i = 0; i < l->parts; i++) {
        uint64_t share = share_of(l, i, n);
        /* A single layer may end within a block; so may the last of a merged
         * one, but SGLang's only where it is not divided and never looks. */
        bool end = i == l->parts - 1 && l->last;
        bool may =
            n == 1 && (!l->merged || (end && (engine == F8_VLLM ||
                                              l->how->how == F8_DIVIDE_WHOLE)));
        *why = (obstacle){l->unit, "rows", l->length[i], share};
        if (!share && l->heads[i])
            *why = (obstacle){l->unit, l->keys[i], l->heads[i], 0};
        if (!share)
            return false;
        if (!l->fp8)
            continue;
        if (l->how->crowd == F8_CROWD_EXPERTS
                ? !expert_fits(engine, share, f8_unit_cols(l->unit), small)
                : share % F8_BLOCK && !may)
            return false;
    }
    return true;
}

static bool row_fits(const layer *l, f8_engine engine, unsigned n,
                     obstacle *why, bool *small)
{
    uint64_t cols = f8_unit_cols(l->unit);

    *why = (obstacle){l->unit, "columns", cols, cols % n ? 0 : cols / n};
    if (cols % n)
        return false;
    if (!l->fp8)
        return true;
    if (l->how->crowd == F8_CROWD_EXPERTS)
        return expert_fits(engine, cols / n, f8_unit_rows(l->unit), small);
    return n == 1 || cols / n % F8_BLOCK == 0;
}

/* vLLM looks at the columns of a row-parallel layer; at the rows of joined
 * layers it does not, and fails later, when it cuts their scales. So the
 * former is what its message names. */
static bool is_plainer(f8_engine engine, const obstacle *now,
                       const obstacle *before)
{
    return engine == F8_VLLM && !strcmp(now->of, "columns") &&
           !strcmp(before->of, "rows");
}

/* Notes at which sizes this layer is in the way, if nothing was before it. */
static void judge_layer(survey *s, const layer *l, f8_engine engine)
{
    for (int mode = DIVIDED; mode < CROWDINGS; mode++) {
        for (unsigned k = 0; k < SIZES; k++) {
            bool whole = l->how->how == F8_DIVIDE_WHOLE ||
                         (mode == SPREAD && l->how->crowd != F8_CROWD_NONE);
            unsigned n = whole ? 1 : 1u << k;
            obstacle why, *found = &s->least[engine][mode][k];
            bool small = false;
            bool good = l->how->how == F8_DIVIDE_ROW
                            ? row_fits(l, engine, n, &why, &small)
                            : column_fits(l, engine, n, &why, &small);
            if (!good && (!found->unit || is_plainer(engine, &why, found)))
                *found = why;
            if (good && small && mode == DIVIDED)
                s->small |= 1u << k;
        }
    }
}

/* ---- shapes -------------------------------------------------------------- */

/* transformers leaves out what is of multi-token prediction. */
static bool is_draft(const char *name)
{
    return !strncmp(name, "mtp.", 4);
}

static void complain(survey *s, complaint about, const f8_unit *u)
{
    group *g = &s->groups[about][u->kind];

    if (!g->count++)
        g->first = u;
}

/* transformers takes rows / rows of scales for the height of a block. */
static void judge_shape(survey *s, const f8_unit *u)
{
    bool misread = false;
    bool unreadable = false;
    uint64_t lengths[2] = {f8_unit_rows(u), f8_unit_cols(u)};

    for (int i = 0; i < 2; i++) {
        uint64_t blocks = f8_ceil_div(lengths[i], F8_BLOCK);
        unreadable = unreadable || lengths[i] % blocks;
        misread = misread || (blocks > 1 && lengths[i] % F8_BLOCK);
    }
    if (unreadable && !is_draft(u->name))
        complain(s, UNREADABLE, u);
    else if (misread && !is_draft(u->name))
        complain(s, MISREAD, u);
    if (lengths[1] % F8_BLOCK)
        complain(s, ODD_INPUTS, u);
}

static void look(survey *s)
{
    for (uint64_t i = 0; i < s->plan->units_count; i++) {
        const f8_unit *u = &s->plan->units[i];
        layer l;
        /* verify may have found FP8 that is no matrix: a fault already. */
        if (u->rank != 2 || !f8_unit_rows(u) || !f8_unit_cols(u))
            continue;
        if (u->action == F8_QUANTIZE)
            judge_shape(s, u);
        if (!find_layer(s, u, &l))
            continue;
        judge_layer(s, &l, F8_VLLM);
        judge_layer(s, &l, F8_SGLANG);
    }
}

/* ---- sentences ----------------------------------------------------------- */

static void kind_of(const f8_unit *u, char kind[F8_KIND_BYTES])
{
    f8_module_kind(u->name, kind, F8_KIND_BYTES);
}

/* "8: mlp.shared_expert.down_proj, 64 of 512 columns each" */
static const char *describe_limit(f8_arena *strings, const obstacle *o,
                                  unsigned devices)
{
    char kind[F8_KIND_BYTES];
    unsigned long long length = o->length, share = o->share;

    kind_of(o->unit, kind);
    if (!share || share == length)
        return f8_arena_printf(strings, "%u: %s, %llu %s", devices, kind,
                               length, o->of);
    return f8_arena_printf(strings, "%u: %s, %llu of %llu %s each", devices,
                           kind, share, length, o->of);
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

static uint32_t sizes_of(const obstacle *least)
{
    uint32_t sizes = 0;

    for (unsigned k = 0; k < SIZES; k++)
        sizes |= least[k].unit ? 0 : 1u << k;
    return sizes;
}

static const char *limit_of(f8_arena *strings, const obstacle *least)
{
    for (unsigned k = 0; k < SIZES; k++) {
        if (least[k].unit)
            return describe_limit(strings, &least[k], 1u << k);
    }
    return NULL;
}

static f8_status conclude_engine(survey *s, f8_engine engine, f8_error *err)
{
    f8_serving *made = s->made;
    f8_serving_engine *e = &made->engines[engine];
    const obstacle *least = s->least[engine][DIVIDED];

    e->unknown = s->unknown;
    if (s->unknown)
        return F8_OK;
    e->tp_sizes = sizes_of(least);
    e->ep_sizes = sizes_of(s->least[engine][SPREAD]);
    e->small_sizes = engine == F8_VLLM ? s->small & e->tp_sizes : 0;
    e->limit = limit_of(&made->strings, least);
    e->ep_limit = limit_of(&made->strings, s->least[engine][SPREAD]);
    if ((e->tp_sizes != SIZE_BITS && !e->limit) ||
        (e->ep_sizes != SIZE_BITS && !e->ep_limit))
        return f8_fail_nomem(err, "the findings");
    if (!least[0].unit)
        return F8_OK;
    return add_finding(made, engine, true,
                       f8_arena_printf(&made->strings,
                                       "cannot be served, not even on one "
                                       "device: %llu %s",
                                       (unsigned long long)least[0].length,
                                       least[0].of),
                       least[0].unit, 1, err);
}

static f8_status conclude_shapes(survey *s, f8_error *err)
{
    static const char *const words[COMPLAINTS] = {
        [UNREADABLE] = "refuses to dequantize [%llu, %llu]: its scales' grid "
                       "does not divide it",
        [MISREAD] = "dequantizes [%llu, %llu] with blocks that are not 128 "
                    "wide, silently",
        [ODD_INPUTS] = "no token can be computed: [%llu, %llu] has columns "
                       "beyond a multiple of 128",
    };
    f8_arena *strings = &s->made->strings;
    f8_status status = F8_OK;

    for (int c = 0; c < COMPLAINTS; c++) {
        for (size_t k = 0; k < s->plan->kinds_count; k++) {
            const group *g = &s->groups[c][k];
            if (!g->count)
                continue;
            unsigned long long rows = f8_unit_rows(g->first);
            unsigned long long cols = f8_unit_cols(g->first);
            const char *what = f8_arena_printf(strings, words[c], rows, cols);
            if (c != ODD_INPUTS)
                status = add_finding(s->made, F8_TRANSFORMERS, true, what,
                                     g->first, g->count, err);
            for (int e = F8_VLLM; c == ODD_INPUTS && e <= F8_SGLANG; e++) {
                if (status == F8_OK)
                    status = add_finding(s->made, (f8_engine)e, true, what,
                                         g->first, g->count, err);
            }
            if (status != F8_OK)
                return status;
        }
    }
    return F8_OK;
}

/* ---- the head ------------------------------------------------------------ */

static f8_status judge_head(survey *s, f8_error *err)
{
    const json_t *tied = f8_checkpoint_tied(s->plan->source);
    bool has_head = f8_checkpoint_find(s->plan->source, "lm_head.weight");
    bool warning = json_is_false(tied) && !has_head;
    const char *what = NULL;
    f8_status status = F8_OK;

    if (warning)
        what = "the head is random numbers: lm_head.weight is missing, and "
               "tie_word_embeddings is false";
    else if (json_is_true(tied) && has_head)
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
        if (engine->is_divided && status == F8_OK)
            status = conclude_engine(s, (f8_engine)e, err);
    }
    if (status == F8_OK)
        status = conclude_shapes(s, err);
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
