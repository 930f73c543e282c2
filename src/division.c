/* division.c - what one of several devices gets of a linear layer. See
 * division.h.
 *
 * The rules of vLLM 0.32.0 and SGLang 0.5.23 for layers in FP8 blocks, as read
 * in their sources (docs/serving.md cites them): where a device's share of the
 * inputs or of one of several joined outputs cuts a block, its scale belongs to
 * two devices. Engines look at that in different places, some not at all, but
 * no such model computes what it should. */
#include "division.h"

#include <string.h>

#include "modules.h"
#include "quant.h"

enum { SMALLEST_BLOCK = 32 };

/* ---- what rules and config say ------------------------------------------- */

/* Heads in `rows` rows: config.json's number, or as many as the tensor beside
 * this one, an element for each row of a head, fits in. 0: not known. */
static uint64_t count_heads(const f8_plan *plan, const f8_unit *u,
                            const char *key)
{
    char name[F8_NAME_MAX_BYTES + 1];
    size_t n = strlen(u->name);

    if (key[0] != '.')
        return f8_checkpoint_number(plan->source, key);
    /* self_attn.k_proj.weight and .k_norm.weight: self_attn.k_norm.weight */
    for (int dots = 0; n > 0 && dots < 2; dots++) {
        while (n > 0 && u->name[--n] != '.')
            ;
    }
    if (n == 0 || n + strlen(key) >= sizeof name)
        return 0;
    memcpy(name, u->name, n);
    memcpy(name + n, key, strlen(key) + 1);
    const f8_tensor *beside = f8_checkpoint_find(plan->source, name);
    uint64_t rows = f8_unit_rows(u);
    if (!beside || !beside->elems || rows % beside->elems)
        return 0;
    return rows / beside->elems;
}

/* What to call heads in a sentence. */
static const char *name_heads(const char *key)
{
    return key[0] == '.' ? "heads" : key;
}

static bool lacks(f8_lack *lack, const char *what, const char *where)
{
    *lack = (f8_lack){what, where};
    return false;
}

/* One number of heads, for all rows. */
static bool find_heads(const f8_plan *plan, f8_layer *l, const char *key,
                       f8_lack *lack)
{
    f8_share *part = &l->parts[0];

    part->is_copied = l->how->kv != NULL;
    part->key = name_heads(key);
    part->heads = count_heads(plan, l->unit, key);
    if (part->heads)
        return true;
    if (key[0] == '.')
        return lacks(lack, "no tensor beside tells the heads of",
                     l->unit->name);
    return lacks(lack, "config.json does not say", key);
}

/* Rows of a part: of so many heads of one dimension, or of each its own. */
static bool find_length(const f8_plan *plan, const f8_layer *l, unsigned i,
                        uint64_t all_heads, uint64_t *length, f8_lack *lack)
{
    const char *dim = l->how->dims[i];
    uint64_t rows = f8_unit_rows(l->unit);
    uint64_t each = dim                ? f8_checkpoint_number(plan->source, dim)
                    : rows % all_heads ? 0
                                       : rows / all_heads;

    if (dim && !each)
        return lacks(lack, "config.json does not say", dim);
    if (!each || !f8_mul_u64(l->parts[i].heads, each, length))
        *length = UINT64_MAX;
    return true;
}

/* Rows that are parts of so many heads each. */
static bool find_parts(const f8_plan *plan, f8_layer *l, f8_lack *lack)
{
    const f8_parallel *how = l->how;
    uint64_t heads = 0, begin = 0;

    l->count = how->parts_count;
    for (unsigned i = 0; i < l->count; i++) {
        f8_share *part = &l->parts[i];
        *part = (f8_share){.name = how->names[i], .key = how->heads[i]};
        part->is_copied = how->kv && !strcmp(how->kv, how->heads[i]);
        part->heads = f8_checkpoint_number(plan->source, how->heads[i]);
        if (!part->heads)
            return lacks(lack, "config.json does not say", how->heads[i]);
        if (!f8_add_u64(heads, part->heads, &heads))
            heads = UINT64_MAX;
    }
    for (unsigned i = 0; i < l->count; i++) {
        f8_share *part = &l->parts[i];
        part->begin = begin;
        if (!find_length(plan, l, i, heads, &part->length, lack))
            return false;
        if (!f8_add_u64(begin, part->length, &begin))
            begin = UINT64_MAX;
    }
    return begin == f8_unit_rows(l->unit) ||
           lacks(lack, "config.json has other heads than", l->unit->name);
}

/* Rows that are parts of one length. */
static bool find_equal_parts(f8_layer *l, f8_lack *lack)
{
    uint64_t rows = f8_unit_rows(l->unit);

    l->count = l->how->names_count;
    if (rows % l->count)
        return lacks(lack, "no equal parts has", l->unit->name);
    for (unsigned i = 0; i < l->count; i++)
        l->parts[i] = (f8_share){.name = l->how->names[i],
                                 .begin = rows / l->count * i,
                                 .length = rows / l->count};
    return true;
}

/* Whether the module is joined with its neighbours, and the last of them. */
static void find_neighbours(const f8_rules *rules, f8_layer *l)
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
            l->joined = true;
            l->last = k == fused->parts_count - 1;
        }
    }
}

bool f8_layer_find(const f8_plan *plan, const f8_unit *u, f8_layer *l,
                   f8_lack *lack)
{
    const f8_parallel *how = f8_rules_find_parallel(plan->rules, u->name);

    *l = (f8_layer){.unit = u,
                    .how = how,
                    .fp8 = u->action == F8_QUANTIZE,
                    .count = 1,
                    .last = true};
    *lack = (f8_lack){NULL, NULL};
    if (!how) {
        if (l->fp8)
            lacks(lack, "no 'parallel' of the rules names", u->name);
        return false;
    }
    find_neighbours(plan->rules, l);
    l->parts[0] = (f8_share){.length = f8_unit_rows(u)};
    if (how->names_count && !how->parts_count)
        return find_equal_parts(l, lack);
    if (how->parts_count > 1 || how->dims[0])
        return find_parts(plan, l, lack);
    if (how->kv || how->parts_count)
        return find_heads(plan, l, how->kv ? how->kv : how->heads[0], lack);
    return true;
}

/* ---- whether it fits a number of devices --------------------------------- */

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

/* The rows of a part that each of n devices has; 0 when heads or rows cannot
 * be divided so. */
static uint64_t share_of(const f8_share *part, unsigned n)
{
    uint64_t heads = part->heads;

    if (part->is_copied && heads && n > heads) /* copies of a head */
        return n % heads || part->length % heads ? 0 : part->length / heads;
    if (heads ? heads % n : part->length % n)
        return 0;
    return part->length % n ? 0 : part->length / n;
}

/* How many different shares of a part there are. */
static uint64_t shares_of(const f8_share *part, unsigned n)
{
    return part->is_copied && part->heads < n ? part->heads : n;
}

/* ---- several layers' rows in one tensor ---------------------------------- */

/* Such a tensor has one grid of blocks, from its first row on. vLLM takes the
 * parts' scales out of it, from the next whole block on and as many as the
 * part has blocks, and of these a device's; then it puts them behind those of
 * the device's other parts. It raises where there are not so many. */
static bool vllm_loads(const f8_layer *l, unsigned n)
{
    uint64_t all = f8_ceil_div(f8_unit_rows(l->unit), F8_BLOCK);
    uint64_t own = 0, begin = 0;

    for (unsigned i = 0; i < l->count; i++)
        own += share_of(&l->parts[i], n);
    own = f8_ceil_div(own, F8_BLOCK);
    for (unsigned i = 0; i < l->count; i++) {
        const f8_share *part = &l->parts[i];
        uint64_t share = share_of(part, n);
        uint64_t blocks = f8_ceil_div(part->length, F8_BLOCK);
        uint64_t taken = f8_ceil_div(share, F8_BLOCK);
        if (f8_ceil_div(part->begin, F8_BLOCK) + blocks > all ||
            shares_of(part, n) * taken > blocks ||
            f8_ceil_div(begin, F8_BLOCK) + taken > own)
            return false;
        begin += share;
    }
    return true;
}

static bool cuts_block(const f8_share *part, f8_engine engine, unsigned n)
{
    /* What is not divided keeps its place in the grid; SGLang raises. */
    return share_of(part, n) % F8_BLOCK &&
           (engine == F8_SGLANG || shares_of(part, n) > 1);
}

/* Whether every device's scales are those of its rows. On one device vLLM's
 * all come to lie where they were. */
static bool stored_fits(const f8_layer *l, f8_engine engine, unsigned n,
                        f8_obstacle *why)
{
    const f8_share *cut = NULL, *ragged = &l->parts[0];
    bool loads = engine == F8_VLLM && vllm_loads(l, n);

    for (unsigned i = l->count; i-- > 0;) {
        if (cuts_block(&l->parts[i], engine, n))
            cut = &l->parts[i];
        if (l->parts[i].begin % F8_BLOCK)
            ragged = &l->parts[i];
    }
    if (!cut && (loads || engine == F8_SGLANG))
        return true;
    const f8_share *part = cut ? cut : ragged;
    *why = (f8_obstacle){.unit = l->unit,
                         .of = "rows",
                         .part = part->name,
                         .length = part->length,
                         .share = share_of(part, n),
                         .begin = cut ? 0 : part->begin,
                         .effect = loads ? "scales of other rows, silently"
                                         : "raises",
                         .is_silent = loads};
    return false;
}

/* ---- columns and rows ---------------------------------------------------- */

/* Heads and rows must be divisible, in FP8 or not. */
static bool shares_fit(const f8_layer *l, unsigned n, f8_obstacle *why)
{
    for (unsigned i = 0; i < l->count; i++) {
        const f8_share *part = &l->parts[i];
        if (share_of(part, n))
            continue;
        *why =
            (f8_obstacle){.unit = l->unit,
                          .of = part->heads ? part->key : "rows",
                          .part = part->heads ? NULL : part->name,
                          .length = part->heads ? part->heads : part->length};
        return false;
    }
    return true;
}

/* A single layer may end within a block; so may the last of a joined one, but
 * SGLang's only where it is not divided and never looks. */
static bool may_be_ragged(const f8_layer *l, unsigned i, f8_engine engine,
                          unsigned n)
{
    bool joined = l->joined || l->count > 1;
    bool end = i == l->count - 1 && l->last;

    return n == 1 && (!joined || (end && (engine == F8_VLLM ||
                                          l->how->how == F8_DIVIDE_WHOLE)));
}

static bool column_fits(const f8_layer *l, f8_engine engine, unsigned n,
                        f8_obstacle *why, bool *small)
{
    uint64_t rows = f8_unit_rows(l->unit);

    if (!shares_fit(l, n, why))
        return false;
    if (!l->fp8)
        return true;
    if (l->how->names_count)
        return stored_fits(l, engine, n, why);
    /* vLLM makes it one layer of one part; SGLang does not. */
    if (l->how->interleaved && engine == F8_VLLM) {
        *why = (f8_obstacle){
            .unit = l->unit, .of = "rows", .length = rows, .share = rows / n};
        return n == 1 || rows / n % F8_BLOCK == 0;
    }
    for (unsigned i = 0; i < l->count; i++) {
        const f8_share *part = &l->parts[i];
        uint64_t share = share_of(part, n);
        *why = (f8_obstacle){.unit = l->unit,
                             .of = "rows",
                             .length = part->length,
                             .share = share};
        if (l->how->crowd == F8_CROWD_EXPERTS
                ? !expert_fits(engine, share, f8_unit_cols(l->unit), small)
                : share % F8_BLOCK && !may_be_ragged(l, i, engine, n))
            return false;
    }
    return true;
}

static bool row_fits(const f8_layer *l, f8_engine engine, unsigned n,
                     f8_obstacle *why, bool *small)
{
    uint64_t cols = f8_unit_cols(l->unit);

    *why = (f8_obstacle){.unit = l->unit,
                         .of = "columns",
                         .length = cols,
                         .share = cols % n ? 0 : cols / n};
    if (cols % n)
        return false;
    if (!l->fp8)
        return true;
    if (l->how->crowd == F8_CROWD_EXPERTS)
        return expert_fits(engine, cols / n, f8_unit_rows(l->unit), small);
    return n == 1 || cols / n % F8_BLOCK == 0;
}

/* Whether expert parallelism leaves the layer whole. */
static bool is_spread(const f8_parallel *how, f8_engine engine)
{
    return how->crowd != F8_CROWD_NONE &&
           (!how->shared_by || !strcmp(how->shared_by, f8_engine_name(engine)));
}

bool f8_layer_fits(const f8_layer *l, f8_engine engine, unsigned devices,
                   bool spread, f8_obstacle *why, bool *small)
{
    if (l->how->how == F8_DIVIDE_WHOLE || (spread && is_spread(l->how, engine)))
        devices = 1;
    return l->how->how == F8_DIVIDE_ROW
               ? row_fits(l, engine, devices, why, small)
               : column_fits(l, engine, devices, why, small);
}
