/* roofline.c - the public entry f8_roofline: what a decoding step must read,
 * before and after quantising, from config and headers alone. At small batches
 * a model is as fast as its memory is read, so bytes a step are its speed.
 *
 * Counted are the weights that one step of the language model reads (of
 * routed experts those that are expected to be chosen, of the embedding a row
 * a token), the key-value cache that it reads, and the state of linear
 * attention, which it reads and writes. Not counted are vision and audio
 * towers and multi-token prediction, which take no part in a plain step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blockwise.h"
#include "builtin.h"
#include "plan.h"
#include "quant.h"

enum { CACHE_BYTES = 2, STATE_BYTES = 4, MACHINES_MAX = 64 };

typedef enum group {
    ROUTED,
    SHARED,
    DENSE,
    ATTENTION,
    LINEAR,
    HEAD,
    EMBEDDING,
    OTHER,
    STATE,
    CACHE,
    GROUPS,
    NOT_READ = GROUPS
} group;

static const char *const group_names[GROUPS] = {
    [ROUTED] = "routed experts",
    [SHARED] = "shared experts",
    [DENSE] = "dense MLP",
    [ATTENTION] = "attention",
    [LINEAR] = "linear attention",
    [HEAD] = "output head",
    [EMBEDDING] = "embedding rows",
    [OTHER] = "norms and routers",
    [STATE] = "linear attention state",
    [CACHE] = "KV cache",
};

/* What config.json says; 0 for what it does not. */
typedef struct anatomy {
    double experts, chosen, rows, layers;
    double cache_bytes; /* of one token in all layers */
    double state_bytes; /* of one sequence in all layers */
    bool tied;
} anatomy;

struct f8_roofline {
    f8_roofline_summary summary;
    double before[GROUPS + 1], after[GROUPS + 1];
    f8_arena strings;
    f8_machine machines[MACHINES_MAX];
    size_t machines_count;
};

/* ---- which group a tensor belongs to --------------------------------------
 */

/* Whether a dotted name has a part that begins with `start`. */
static bool has_part(const char *name, const char *start)
{
    size_t n = strlen(start);

    for (const char *at = name; at; at = strchr(at, '.')) {
        at += *at == '.';
        if (strncmp(at, start, n) == 0)
            return true;
    }
    return false;
}

/* The n of the first `layers.n.` of a name; -1 without one. */
static double layer_of(const char *name)
{
    const char *at = strstr(name, "layers.");

    return at ? strtod(at + strlen("layers."), NULL) : -1;
}

static group group_of(const char *name, const anatomy *model)
{
    static const struct {
        const char *part;
        group group;
    } parts[] = {
        {"visual", NOT_READ},        {"vision_", NOT_READ},
        {"audio_", NOT_READ},        {"multi_modal_projector", NOT_READ},
        {"mtp", NOT_READ},           {"shared_expert", SHARED},
        {"shared_mlp", SHARED},      {"experts", ROUTED},
        {"input_linear", ROUTED},    {"output_linear", ROUTED},
        {"linear_attn", LINEAR},     {"self_attn", ATTENTION},
        {"attention", ATTENTION},    {"lm_head", HEAD},
        {"embed_tokens", EMBEDDING}, {"gate.", OTHER},
        {"router", OTHER},           {"mlp", DENSE},
        {"feed_forward", DENSE},
    };

    /* Multi-token prediction may be stored as layers behind the last. */
    if (model->layers > 0 && layer_of(name) >= model->layers)
        return NOT_READ;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (has_part(name, parts[i].part))
            return parts[i].group == EMBEDDING && model->tied ? HEAD
                                                              : parts[i].group;
    }
    return OTHER;
}

/* ---- config.json -----------------------------------------------------------
 */

/* The first of the names that is there; 0 for none. */
static double number(const json_t *config, const char *const *names)
{
    for (; *names; names++) {
        const json_t *value = json_object_get(config, *names);
        if (json_is_integer(value) && json_integer_value(value) > 0)
            return (double)json_integer_value(value);
    }
    return 0;
}
#define NUMBER(config, ...) \
    number(config, (const char *const[]){__VA_ARGS__, NULL})

/* Layers by what they look back at. */
typedef struct layer_counts {
    double full, sliding, chunked, linear;
} layer_counts;

/* Which layers have a window where layer_types does not say it, as transformers
 * 5.19 fills it in: all (where use_sliding_window is given, if it is true),
 * those from max_window_layers on, every second before that, or all but every
 * so-manieth, and but the last where that is forced to be full. */
typedef enum habit {
    ALL_SLIDE,
    ALL_SLIDE_IF_USED,
    LATE_SLIDE,
    EARLY_SLIDE,
    SLIDE_BETWEEN,
    SLIDE_BEFORE_LAST,
    CHUNKED_BETWEEN,
    LINEAR_BETWEEN
} habit;

static const struct usual {
    const char *model_type;
    habit habit;
    const char *interval_key;
    double interval; /* or max_window_layers */
} usual_layers[] = {
    {"mistral", ALL_SLIDE, NULL, 0},
    {"ministral3", ALL_SLIDE, NULL, 0},
    {"mixtral", ALL_SLIDE, NULL, 0},
    {"phi3", ALL_SLIDE, NULL, 0},
    {"phimoe", ALL_SLIDE, NULL, 0},
    {"qwen3_moe", ALL_SLIDE_IF_USED, NULL, 0},
    {"qwen2", LATE_SLIDE, NULL, 28},
    {"qwen3", LATE_SLIDE, NULL, 28},
    {"qwen2_moe", EARLY_SLIDE, NULL, 28},
    {"gemma3_text", SLIDE_BETWEEN, "sliding_window_pattern", 6},
    {"gemma4_text", SLIDE_BEFORE_LAST, "", 6},
    {"gpt_oss", SLIDE_BETWEEN, "", 2},
    {"llama4_text", CHUNKED_BETWEEN, "no_rope_layer_interval", 4},
    {"qwen3_next", LINEAR_BETWEEN, "full_attention_interval", 4},
    {"qwen3_5_text", LINEAR_BETWEEN, "full_attention_interval", 4},
    {"qwen3_5_moe_text", LINEAR_BETWEEN, "full_attention_interval", 4},
};

static const struct usual *usual_of(const json_t *text)
{
    const char *type = json_string_value(json_object_get(text, "model_type"));

    for (size_t i = 0; type && i < sizeof usual_layers / sizeof *usual_layers;
         i++) {
        if (strcmp(usual_layers[i].model_type, type) == 0)
            return &usual_layers[i];
    }
    return NULL;
}

/* Layers that slide, of models that name how many, or from which on. */
static double sliding_layers(const json_t *text, const struct usual *usual,
                             double layers)
{
    const json_t *first = json_object_get(text, "max_window_layers");
    double most = json_is_integer(first) ? (double)json_integer_value(first)
                                         : usual->interval;
    bool is_used = json_is_true(json_object_get(text, "use_sliding_window"));

    if (NUMBER(text, "sliding_window") == 0 ||
        (usual->habit != ALL_SLIDE && !is_used))
        return 0;
    most = fmax(fmin(most, layers), 0);
    if (usual->habit == LATE_SLIDE)
        return layers - most;
    return usual->habit == EARLY_SLIDE ? ceil(most / 2) : layers;
}

/* Layers between those of full attention; no_rope_layers may name them. */
static double layers_between(const json_t *text, const struct usual *usual,
                             double layers)
{
    const json_t *named = json_object_get(text, "no_rope_layers"), *one;
    double interval = NUMBER(text, usual->interval_key), count = 0;
    size_t i;

    if (usual->habit == CHUNKED_BETWEEN && json_array_size(named) > 0) {
        json_array_foreach(named, i, one)
        {
            count += json_integer_value(one) != 0;
        }
        return fmin(count, layers);
    }
    double full = layers / (interval > 0 ? interval : usual->interval);
    return layers -
           (usual->habit == SLIDE_BEFORE_LAST ? ceil(full) : floor(full));
}

static layer_counts usual_counts(const json_t *text)
{
    const struct usual *usual = usual_of(text);
    double layers = NUMBER(text, "num_hidden_layers");
    layer_counts counts = {.full = layers};

    if (!usual)
        return counts;
    switch (usual->habit) {
    case ALL_SLIDE:
    case ALL_SLIDE_IF_USED:
    case LATE_SLIDE:
    case EARLY_SLIDE:
        counts.sliding = sliding_layers(text, usual, layers);
        break;
    case SLIDE_BETWEEN:
    case SLIDE_BEFORE_LAST:
        counts.sliding = layers_between(text, usual, layers);
        break;
    case CHUNKED_BETWEEN:
        counts.chunked = layers_between(text, usual, layers);
        break;
    case LINEAR_BETWEEN:
        counts.linear = layers_between(text, usual, layers);
        break;
    }
    counts.full = layers - counts.sliding - counts.chunked - counts.linear;
    return counts;
}

static layer_counts count_layers(const json_t *text)
{
    const json_t *types = json_object_get(text, "layer_types"), *one;
    const struct usual *usual = usual_of(text);
    size_t forced = usual && usual->habit == SLIDE_BEFORE_LAST
                        ? json_array_size(types)
                        : 0; /* counted from 1 */
    layer_counts counts = {0};
    size_t i;

    if (!json_is_array(types))
        return usual_counts(text);
    json_array_foreach(types, i, one)
    {
        const char *name =
            i + 1 == forced ? "full_attention" : json_string_value(one);
        counts.full += name && !strcmp(name, "full_attention");
        counts.sliding += name && !strcmp(name, "sliding_attention");
        counts.chunked += name && !strcmp(name, "chunked_attention");
        counts.linear += name && !strcmp(name, "linear_attention");
    }
    return counts;
}

/* Of so many earlier tokens, those that a layer with such a limit keeps; 0 is
 * none. */
static double kept_tokens(double context, double limit)
{
    return limit > 0 && limit < context ? limit : context;
}

/* Keys and values that one token leaves in one layer's cache. */
static double cache_elems(const json_t *text)
{
    double heads = NUMBER(text, "num_attention_heads");
    double kv_heads = NUMBER(text, "num_key_value_heads");
    double head_dim = NUMBER(text, "head_dim");
    double latent = NUMBER(text, "kv_lora_rank");

    if (latent > 0) /* multi-head latent attention */
        return latent + NUMBER(text, "qk_rope_head_dim");
    if (head_dim == 0 && heads > 0)
        head_dim = NUMBER(text, "hidden_size") / heads;
    return 2 * (kv_heads > 0 ? kv_heads : heads) * head_dim;
}

/* The recurrent state in binary32, and the last inputs of the convolution. */
static double state_bytes(const json_t *text)
{
    double value_heads = NUMBER(text, "linear_num_value_heads");
    double key_dim = NUMBER(text, "linear_key_head_dim");
    double value_dim = NUMBER(text, "linear_value_head_dim");
    double kernel = NUMBER(text, "linear_conv_kernel_dim");
    double channels = 2 * NUMBER(text, "linear_num_key_heads") * key_dim +
                      value_heads * value_dim;

    return value_heads * key_dim * value_dim * STATE_BYTES +
           channels * (kernel > 0 ? kernel - 1 : 0) * CACHE_BYTES;
}

static anatomy read_anatomy(const f8_checkpoint *cp, double context)
{
    const json_t *text = json_object_get(cp->config, "text_config");
    anatomy found = {0};

    if (!json_is_object(text))
        text = cp->config;
    found.experts = NUMBER(text, "num_experts", "n_routed_experts",
                           "num_local_experts", "moe_num_experts");
    found.chosen = NUMBER(text, "num_experts_per_tok", "num_experts_per_token",
                          "moe_topk", "moe_k");
    found.rows = NUMBER(text, "vocab_size");
    found.layers = NUMBER(text, "num_hidden_layers");
    found.tied = json_is_true(f8_checkpoint_tied(cp));
    layer_counts layers = count_layers(text);
    double window = kept_tokens(context, NUMBER(text, "sliding_window"));
    double chunk = kept_tokens(context, NUMBER(text, "attention_chunk_size"));
    found.cache_bytes = cache_elems(text) * CACHE_BYTES *
                        (layers.full * context + layers.sliding * window +
                         layers.chunked * chunk);
    found.state_bytes = state_bytes(text) * layers.linear;
    return found;
}

/* ---- adding up ----------------------------------------------------------- */

typedef struct count {
    f8_roofline *made;
    anatomy model;
    double experts_share; /* of the routed experts' bytes, that a step reads */
    double batch;
} count;

static void add(count *c, const char *name, double before, double after)
{
    group g = group_of(name, &c->model);
    double share = 1;

    if (g == ROUTED)
        share = c->experts_share;
    else if (g == EMBEDDING && c->model.rows > 0)
        share = c->batch / c->model.rows;
    c->made->before[g] += before * share;
    c->made->after[g] += after * share;
}

/* A source to be quantised: before is what it is, after what it becomes. */
static void count_plan(count *c, const f8_plan *plan)
{
    double scale_bytes =
        (double)f8_dtype_bytes(f8_scale_storage(plan->scale_dtype));

    for (uint64_t i = 0; i < plan->units_count; i++) {
        const f8_unit *u = &plan->units[i];
        double before = (double)u->bytes, after = before;
        if (u->action == F8_QUANTIZE) {
            uint64_t rows = f8_unit_rows(u), cols = f8_unit_cols(u);
            after = (double)rows * (double)cols +
                    (double)f8_ceil_div(rows, F8_BLOCK) *
                        (double)f8_ceil_div(cols, F8_BLOCK) * scale_bytes;
        }
        add(c, u->name, before, after);
    }
}

/* A checkpoint in FP8: after is what it is, before its weights in BF16. */
static void count_result(count *c, const f8_checkpoint *cp)
{
    for (size_t i = 0; i < cp->tensors.count; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        double after = (double)t->bytes, before = after;
        if (f8_is_scale_name(t->name))
            before = 0;
        else if (t->dtype == F8_DTYPE_E4M3)
            before = 2 * after;
        add(c, t->name, before, after);
    }
}

static void add_sequences(count *c)
{
    f8_roofline *r = c->made;
    f8_roofline_summary *s = &r->summary;

    r->before[STATE] = r->after[STATE] = 2 * c->batch * c->model.state_bytes;
    r->before[CACHE] = r->after[CACHE] = c->batch * c->model.cache_bytes;
    for (int g = 0; g < GROUPS; g++) {
        s->before_bytes += r->before[g];
        s->after_bytes += r->after[g];
    }
    s->not_read_before_bytes = r->before[NOT_READ];
    s->not_read_after_bytes = r->after[NOT_READ];
    s->experts = (uint64_t)c->model.experts;
    s->experts_per_token = (uint64_t)c->model.chosen;
    s->experts_read = c->experts_share * c->model.experts;
}

/* ---- machines
 * ---------------------------------------------------------------- */

/* Lines "GB/s  name", # begins a comment. The file is ours: what is wrong with
 * it is a defect. */
static f8_status read_machines(f8_roofline *made, f8_error *err)
{
    const char *at = f8_builtin_machines[0].text;

    while (*at) {
        size_t n = strcspn(at, "\n");
        char *name = NULL;
        double gigabytes = strtod(at, &name);
        if (*at != '#' && n > 0) {
            if (made->machines_count == MACHINES_MAX || gigabytes <= 0)
                return f8_fail(err, F8_ERR_INTERNAL, "machines: bad line: %.*s",
                               (int)n, at);
            name += strspn(name, " ");
            const char *kept =
                f8_arena_copy(&made->strings, name, (size_t)(at + n - name));
            if (!kept)
                return f8_fail_nomem(err, "the machines");
            made->machines[made->machines_count++] =
                (f8_machine){kept, gigabytes * 1e9};
        }
        at += n + (at[n] == '\n');
    }
    return F8_OK;
}

/* ---- the whole
 * ----------------------------------------------------------------- */

/* Whether any of what is counted is a routed expert: names of a source may tell
 * less than those of its results. */
static bool has_routed(const count *c, const f8_plan *plan)
{
    const f8_tensor_list *tensors = &plan->source->tensors;

    for (uint64_t i = 0; i < plan->units_count; i++) {
        if (group_of(plan->units[i].name, &c->model) == ROUTED)
            return true;
    }
    for (size_t i = 0; plan->units_count == 0 && i < tensors->count; i++) {
        if (group_of(tensors->items[i].name, &c->model) == ROUTED)
            return true;
    }
    return false;
}

static f8_status share_experts(count *c, const f8_plan *plan, f8_error *err)
{
    if (!has_routed(c, plan))
        return F8_OK;
    if (c->model.experts == 0 || c->model.chosen == 0 ||
        c->model.chosen > c->model.experts)
        return f8_fail(err, F8_ERR_FORMAT,
                       "%s/%s: expected num_experts and num_experts_per_tok "
                       "of it, since there are routed experts; found %.0f and "
                       "%.0f",
                       plan->source->dir, F8_CONFIG_NAME, c->model.experts,
                       c->model.chosen);
    /* Each of the batch's tokens misses an expert with 1 - chosen / experts,
     * if the choices are independent and even. */
    c->experts_share =
        1 - pow(1 - c->model.chosen / c->model.experts, c->batch);
    return F8_OK;
}

/* A source is decided as verify does it: rules and units, no shards. */
static f8_status count_checkpoint(count *c, const char *path,
                                  const f8_options *options, double context,
                                  f8_error *err)
{
    const char *where;
    const json_t *found;
    f8_plan plan = {.scale_dtype = options->scale_dtype};

    f8_status status = f8_checkpoint_open(
        path, F8_OPEN_CONFIG | F8_OPEN_FOLLOW_LINKS, NULL, &plan.source, err);
    if (status != F8_OK)
        goto out;
    c->model = read_anatomy(plan.source, context);
    found = f8_checkpoint_quantization(plan.source, &where);
    c->made->summary.is_quantized = found && !json_is_null(found);
    if (!c->made->summary.is_quantized)
        status = f8_plan_decide(&plan, options, err);
    if (status == F8_OK)
        status = share_experts(c, &plan, err);
    if (status == F8_OK && c->made->summary.is_quantized)
        count_result(c, plan.source);
    else if (status == F8_OK)
        count_plan(c, &plan);
out:
    f8_plan_clear(&plan);
    return status;
}

f8_status f8_roofline_create(const char *path, const f8_options *options,
                             uint64_t batch, uint64_t context,
                             f8_roofline **roofline, f8_error *err)
{
    f8_options filled;

    *roofline = NULL;
    f8_status status = f8_options_fill(options, &filled, err);
    if (status != F8_OK)
        return status;
    f8_roofline *made = f8_alloc(1, sizeof *made);
    count c = {.made = made, .batch = batch > 0 ? (double)batch : 1};
    if (!made)
        return f8_fail_nomem(err, "the roofline");
    status = read_machines(made, err);
    if (status == F8_OK)
        status = count_checkpoint(&c, path, &filled, (double)context, err);
    if (status != F8_OK) {
        f8_roofline_free(made);
        return status;
    }
    made->summary.batch = (uint64_t)c.batch;
    made->summary.context = context;
    add_sequences(&c);
    *roofline = made;
    return F8_OK;
}

void f8_roofline_get_summary(const f8_roofline *roofline,
                             f8_roofline_summary *out)
{
    *out = roofline->summary;
}

bool f8_roofline_get_group(const f8_roofline *roofline, size_t i,
                           f8_roofline_group *out)
{
    for (int g = 0; g < GROUPS; g++) {
        if (roofline->before[g] == 0 && roofline->after[g] == 0)
            continue;
        if (i-- > 0)
            continue;
        *out = (f8_roofline_group){group_names[g], roofline->before[g],
                                   roofline->after[g]};
        return true;
    }
    return false;
}

bool f8_roofline_get_machine(const f8_roofline *roofline, size_t i,
                             f8_machine *out)
{
    if (i >= roofline->machines_count)
        return false;
    *out = roofline->machines[i];
    return true;
}

void f8_roofline_free(f8_roofline *roofline)
{
    if (!roofline)
        return;
    f8_arena_free(&roofline->strings);
    free(roofline);
}
