/* blockwise.c - FP8 weights and their scales. See blockwise.h. */
#include "blockwise.h"

#include <stdlib.h>
#include <string.h>

bool f8_is_scale_name(const char *name)
{
    size_t n = strlen(name), m = strlen(F8_SCALE_SUFFIX);

    return n > m && strcmp(name + n - m, F8_SCALE_SUFFIX) == 0;
}

/* Whether a dotted name has this part behind its first. */
static bool has_part(const char *name, const char *part)
{
    size_t n = strlen(part);

    for (const char *at = name; (at = strchr(at, '.'));) {
        at++;
        if (!strncmp(at, part, n) && (at[n] == '.' || !at[n]))
            return true;
    }
    return false;
}

bool f8_transformers_reads(const char *name)
{
    /* DeepSeek's and GLM's is one layer more, of which only the first four are
     * the draft's by their name; the others are ERNIE's. */
    static const char *const draft[] = {
        "eh_proj",   "enorm",        "hnorm",           "shared_head",
        "mtp_block", "mtp_emb_norm", "mtp_hidden_norm", "mtp_linear_proj"};

    for (size_t i = 0; i < sizeof draft / sizeof *draft; i++) {
        if (has_part(name, draft[i]))
            return false;
    }
    return strncmp(name, "mtp.", 4) != 0;
}

/* ---- shapes -------------------------------------------------------------- */

static void print_shape(f8_buf *buf, unsigned rank, const uint64_t *shape)
{
    f8_buf_puts(buf, "[");
    for (unsigned i = 0; i < rank; i++)
        f8_buf_printf(buf, "%s%llu", i ? ", " : "",
                      (unsigned long long)shape[i]);
    f8_buf_puts(buf, "]");
}

f8_status f8_problem_shape(f8_problems *problems, const f8_tensor *t,
                           unsigned rank, const uint64_t *shape, f8_error *err)
{
    f8_buf expected = {0}, found = {0};
    f8_status status;

    print_shape(&expected, rank, shape);
    print_shape(&found, t->rank, t->shape);
    if (expected.failed || found.failed)
        status = f8_fail_nomem(err, "a fault");
    else
        status =
            f8_problem(problems, err, "tensor %s: expected shape %s, found %s",
                       t->name, expected.data, found.data);
    f8_buf_free(&found);
    f8_buf_free(&expected);
    return status;
}

/* ---- one weight ---------------------------------------------------------- */

/* The tensor called after the weight, with this ending; NULL for none. */
static f8_status find_named(const f8_checkpoint *cp, const f8_tensor *weight,
                            const char *ending, const f8_tensor **found,
                            f8_error *err)
{
    f8_buf name = {0};

    f8_buf_printf(&name, "%s%s", weight->name, ending);
    if (name.failed)
        return f8_fail_nomem(err, "a name");
    *found = f8_checkpoint_find(cp, name.data);
    f8_buf_free(&name);
    return F8_OK;
}

/* What engines make of a weight without its scale, where there is one of
 * another name and where there is none. Where shards are missing it may be in
 * one of these, and they make nothing of it. */
static const char *made_of(const f8_checkpoint *cp, const char *weight,
                           bool has_other)
{
    bool reads = f8_transformers_reads(weight);

    if (cp->has_gaps && !has_other)
        return "";
    if (has_other)
        return reads ? ": vLLM and transformers raise, SGLang drops it without "
                       "a word or raises"
                     : ": vLLM raises, SGLang drops it without a word or "
                       "raises, transformers does not read it";
    return reads ? "; vLLM and SGLang start without it and say nothing, "
                   "transformers raises"
                 : "; vLLM and SGLang start without it and say nothing, "
                   "transformers does not read it";
}

static f8_status missing(const f8_checkpoint *cp, const f8_tensor *weight,
                         f8_problems *problems, const f8_tensor **seen,
                         f8_error *err)
{
    f8_status status = find_named(cp, weight, "_scale", seen, err);

    if (status != F8_OK)
        return status;
    /* Who collects problems wants to know what engines make of them. */
    return f8_problem(
        problems, err, "tensor %s: FP8 without %s%s%s%s", weight->name,
        weight->name, F8_SCALE_SUFFIX,
        *seen ? ", only _scale, which no loader of this format reads" : "",
        problems ? made_of(cp, weight->name, *seen != NULL) : "");
}

/* transformers writes powers of two as plain bytes, and says so in the
 * config. */
static bool is_e8m0_in_bytes(const f8_checkpoint *cp, const f8_tensor *scale)
{
    const char *where;
    const json_t *config = f8_checkpoint_quantization(cp, &where);
    const char *format =
        json_string_value(json_object_get(config, "scale_fmt"));

    return scale->dtype == F8_DTYPE_U8 && format && !strcmp(format, "ue8m0");
}

f8_status f8_blockwise_scale(const f8_checkpoint *cp, const f8_tensor *weight,
                             f8_problems *problems, f8_partner *partner,
                             const f8_tensor **seen, f8_error *err)
{
    uint64_t shape[F8_MAX_RANK] = {0};
    unsigned rank = weight->rank;

    *partner = (f8_partner){.role = F8_ROLE_WEIGHT};
    *seen = NULL;
    if (rank < 2 || rank > 3 || weight->elems == 0)
        return f8_problem(problems, err,
                          "tensor %s: FP8, but it is not a matrix of weights",
                          weight->name);
    f8_status status = find_named(cp, weight, F8_SCALE_SUFFIX, seen, err);
    if (status != F8_OK)
        return status;
    if (!*seen)
        return missing(cp, weight, problems, seen, err);
    const f8_tensor *scale = *seen;
    for (unsigned i = 0; i < rank; i++)
        shape[i] = i + 2 < rank ? weight->shape[i]
                                : f8_ceil_div(weight->shape[i], F8_BLOCK);
    if (scale->rank != rank ||
        memcmp(scale->shape, shape, rank * sizeof *shape) != 0)
        return f8_problem_shape(problems, scale, rank, shape, err);
    if (is_e8m0_in_bytes(cp, scale))
        partner->scale_dtype = F8_SCALE_UE8M0;
    else if (!f8_scale_from_storage(scale->dtype, &partner->scale_dtype))
        return f8_problem(problems, err,
                          "tensor %s: expected BF16, F32 or F8_E8M0, found %s",
                          scale->name, f8_dtype_name(scale->dtype));
    partner->other = scale;
    return F8_OK;
}

/* ---- config.json --------------------------------------------------------- */

static f8_status refuse(const char *where, const char *what, const char *found,
                        f8_error *err)
{
    return f8_fail(err, F8_ERR_REFUSED,
                   "%s: %s: expected FP8 blockwise (\"quant_method\": \"fp8\", "
                   "\"weight_block_size\": [128, 128]), found %s%s",
                   F8_CONFIG_NAME, where, what,
                   f8_show(found, F8_SHOWN_BYTES).text);
}

static bool is_block(const json_t *value)
{
    return json_array_size(value) == 2 &&
           json_integer_value(json_array_get(value, 0)) == F8_BLOCK &&
           json_integer_value(json_array_get(value, 1)) == F8_BLOCK;
}

static f8_status refuse_block(const char *where, const json_t *block,
                              f8_error *err)
{
    if (!block || json_is_null(block))
        return refuse(where,
                      "no \"weight_block_size\": one scale a tensor or a "
                      "channel",
                      "", err);
    char *text = json_dumps(block, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        return f8_fail_nomem(err, F8_CONFIG_NAME);
    f8_status status = refuse(where, "\"weight_block_size\": ", text, err);
    free(text);
    return status;
}

/* Whether config.json says that this is the format. */
static f8_status check_config(const f8_checkpoint *cp, f8_error *err)
{
    const char *where = "quantization_config";
    const json_t *config = f8_checkpoint_quantization(cp, &where);
    const json_t *block = json_object_get(config, "weight_block_size");
    const char *method =
        json_string_value(json_object_get(config, "quant_method"));
    const json_t *format = json_object_get(config, "fmt");

    if (!config)
        return refuse("quantization_config", "none", "", err);
    if (json_is_null(config))
        return refuse(where, "null", "", err);
    if (!method)
        return refuse(where, "no \"quant_method\"", "", err);
    if (strcmp(method, "fp8") != 0)
        return refuse(where, "quant_method ", method, err);
    if (!is_block(block))
        return refuse_block(where, block, err);
    const char *text = json_string_value(format);
    if (text && strcmp(text, "e4m3") != 0 && strcmp(text, "float8_e4m3fn") != 0)
        return refuse(where, "fmt ", text, err);
    return F8_OK;
}

/* ---- a whole checkpoint -------------------------------------------------- */

static f8_partner *partner_of(const f8_checkpoint *cp, f8_blockwise *out,
                              const f8_tensor *t)
{
    return &out->partners[t - cp->tensors.items];
}

static f8_status read_weights(const f8_checkpoint *cp, f8_problems *problems,
                              f8_blockwise *out, f8_error *err)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < cp->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &cp->tensors.items[i], *seen;
        f8_partner *p = &out->partners[i];
        if (t->dtype != F8_DTYPE_E4M3)
            continue;
        status = f8_blockwise_scale(cp, t, problems, p, &seen, err);
        if (status != F8_OK || !seen)
            continue;
        f8_partner *q = partner_of(cp, out, seen);
        q->role = F8_ROLE_SCALE;
        if (p->other) {
            q->other = t;
            q->scale_dtype = p->scale_dtype;
        }
    }
    return status;
}

f8_status f8_blockwise_read(const f8_checkpoint *cp, f8_problems *problems,
                            f8_blockwise *out, f8_error *err)
{
    memset(out, 0, sizeof *out);
    f8_status status = check_config(cp, err);
    if (status != F8_OK)
        return status;
    out->partners = f8_alloc(cp->tensors.count, sizeof *out->partners);
    if (!out->partners)
        return f8_fail_nomem(err, "the list of scales");
    status = read_weights(cp, problems, out, err);
    for (size_t i = 0; i < cp->tensors.count && status == F8_OK; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        f8_partner *p = &out->partners[i];
        if (p->role == F8_ROLE_PLAIN && f8_is_scale_name(t->name)) {
            p->role = F8_ROLE_SCALE;
            status = f8_problem(problems, err,
                                "tensor %s: expected an F8_E4M3 weight of "
                                "which it is the scale, found none",
                                t->name);
        }
    }
    return status;
}

void f8_blockwise_free(f8_blockwise *blockwise)
{
    free(blockwise->partners);
    memset(blockwise, 0, sizeof *blockwise);
}
