/* members.c - see members.h. What is said of loaders was read in transformers
 * 5.23.0 (utils/quantization_config.py, FineGrainedFP8Config;
 * quantizers/auto.py; integrations/finegrained_fp8.py), vLLM 0.32.0
 * (layers/quantization/fp8.py, Fp8Config; transformers_utils/config.py and
 * model_arch_config_convertor.py) and
 * SGLang 0.5.23 (layers/quantization/fp8.py, Fp8Config;
 * configs/model_config.py). */
#include "members.h"

#include <string.h>

#define HERE F8_CONFIG_NAME ": quantization_config"

/* ---- what must be there -------------------------------------------------- */

/* The values that loaders take for one and the same; the first is ours. */
typedef struct expectation {
    const char *key;
    const char *values[2];
    bool required;
    const char *otherwise; /* what loaders make of something else */
} expectation;

static const expectation expectations[] = {
    {"quant_method", {"fp8"}, true, ""},
    {"fmt", {"e4m3", "float8_e4m3fn"}, false, ""},
    {"activation_scheme", {"dynamic"}, true, "; vLLM and SGLang raise"},
};

static f8_shown text_of(const json_t *value)
{
    const char *text = !value                  ? "none"
                       : json_is_string(value) ? json_string_value(value)
                                               : "no string";

    return f8_show(text, F8_SHOWN_BYTES);
}

static f8_status check_expected(const json_t *config, const expectation *e,
                                f8_findings *findings, f8_error *err)
{
    const json_t *value = json_object_get(config, e->key);

    if (!value && !e->required)
        return F8_OK;
    for (size_t i = 0; i < 2 && e->values[i] && json_is_string(value); i++) {
        if (!strcmp(json_string_value(value), e->values[i]))
            return F8_OK;
    }
    return f8_problem(&findings->faults, err,
                      HERE ": expected \"%s\": \"%s\", found %s%s", e->key,
                      e->values[0], text_of(value).text, e->otherwise);
}

static f8_status check_block(const json_t *config, f8_findings *findings,
                             f8_error *err)
{
    const json_t *block = json_object_get(config, "weight_block_size");

    if (json_array_size(block) == 2 &&
        json_integer_value(json_array_get(block, 0)) == F8_BLOCK &&
        json_integer_value(json_array_get(block, 1)) == F8_BLOCK)
        return F8_OK;
    return f8_problem(&findings->faults, err,
                      HERE ": expected \"weight_block_size\": [128, 128]");
}

/* ---- scale_fmt ----------------------------------------------------------- */

static const char *scale_format(const json_t *config)
{
    const char *text = json_string_value(json_object_get(config, "scale_fmt"));

    return text ? text : "";
}

static f8_status check_scale_format(const json_t *config, bool has_e8m0,
                                    f8_findings *findings, f8_error *err)
{
    const json_t *value = json_object_get(config, "scale_fmt");
    const char *format = scale_format(config);

    if (value && strcmp(format, "ue8m0") != 0 && strcmp(format, "float") != 0)
        return f8_problem(&findings->faults, err,
                          HERE ": expected \"scale_fmt\": \"ue8m0\", "
                               "\"float\" or none, found %s; transformers "
                               "raises",
                          text_of(value).text);
    if (has_e8m0 && strcmp(format, "ue8m0") != 0)
        return f8_problem(&findings->notes, err,
                          HERE ": no \"scale_fmt\": \"ue8m0\", though scales "
                               "are F8_E8M0: SGLang does not round the scales "
                               "of activations likewise");
    return F8_OK;
}

f8_status f8_members_check_scales(const json_t *config, uint64_t powers,
                                  uint64_t scales, f8_findings *findings,
                                  f8_error *err)
{
    if (powers == scales || strcmp(scale_format(config), "ue8m0") != 0)
        return F8_OK;
    return f8_problem(&findings->faults, err,
                      HERE ": \"scale_fmt\": \"ue8m0\", but %llu of %llu "
                           "scales are no powers of two: on a GPU "
                           "transformers makes some of them, and leaves the "
                           "codes as they are, without a word",
                      (unsigned long long)(scales - powers),
                      (unsigned long long)scales);
}

/* ---- what should not be there -------------------------------------------- */

/* When a member does what is said of it. */
typedef enum trigger {
    ALWAYS_HARMLESS, /* checked elsewhere */
    WHEN_TRUE,
    WHEN_FILLED, /* neither null nor empty */
    WHEN_MXFP4,
    WHEN_NOT_FP8
} trigger;

static const struct member {
    const char *key;
    trigger when;
    bool is_fault; /* else worth a note */
    const char *effect;
} members[] = {
    {"quant_method", ALWAYS_HARMLESS, false, ""},
    {"fmt", ALWAYS_HARMLESS, false, ""},
    {"activation_scheme", ALWAYS_HARMLESS, false, ""},
    {"scale_fmt", ALWAYS_HARMLESS, false, ""},
    {"weight_block_size", ALWAYS_HARMLESS, false, ""},
    {"modules_to_not_convert", ALWAYS_HARMLESS, false, ""},
    {"ignored_layers", ALWAYS_HARMLESS, false, ""},
    {"producer", ALWAYS_HARMLESS, false, ""},
    {"quantization", ALWAYS_HARMLESS, false, ""},
    {"load_in_8bit", WHEN_TRUE, true,
     "transformers takes the weights for those of bitsandbytes"},
    {"load_in_4bit", WHEN_TRUE, true,
     "transformers takes the weights for those of bitsandbytes"},
    {"modules_to_convert", WHEN_FILLED, true,
     "transformers makes embeddings of these names FP8, which none is here"},
    {"store_dtype", WHEN_MXFP4, true, "vLLM takes the experts for MXFP4"},
    {"routed_experts_quant_method", WHEN_MXFP4, true,
     "SGLang takes the experts for MXFP4"},
    {"expert_dtype", WHEN_NOT_FP8, true,
     "transformers takes the experts for FP4, or raises"},
    {"dequantize", WHEN_TRUE, false,
     "transformers restores the weights to BF16 when it loads them"},
};

static const struct member *find_member(const char *key)
{
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (!strcmp(members[i].key, key))
            return &members[i];
    }
    return NULL;
}

static bool is_filled(const json_t *value)
{
    return json_is_array(value)    ? json_array_size(value) > 0
           : json_is_object(value) ? json_object_size(value) > 0
           : json_is_string(value) ? json_string_length(value) > 0
                                   : !json_is_null(value);
}

static bool takes_effect(const struct member *member, const json_t *value)
{
    switch (member->when) {
    case ALWAYS_HARMLESS:
        break;
    case WHEN_TRUE: /* Python's idea of it */
        return is_filled(value) && !json_is_false(value) &&
               !(json_is_number(value) && json_number_value(value) == 0);
    case WHEN_FILLED:
        return is_filled(value);
    case WHEN_MXFP4:
        return json_is_string(value) &&
               !strcmp(json_string_value(value), "mxfp4");
    case WHEN_NOT_FP8:
        return !json_is_string(value) ||
               strcmp(json_string_value(value), "fp8") != 0;
    }
    return false;
}

static f8_status check_member(const char *key, const json_t *value,
                              f8_findings *findings, f8_error *err)
{
    const struct member *member = find_member(key);

    if (!member)
        return f8_problem(&findings->notes, err,
                          HERE ": \"%s\" is not known to be read by "
                               "transformers, vLLM or SGLang",
                          f8_show(key, F8_SHOWN_BYTES).text);
    if (!takes_effect(member, value))
        return F8_OK;
    return f8_problem(member->is_fault ? &findings->faults : &findings->notes,
                      err, HERE ": \"%s\": %s", key, member->effect);
}

/* ---- ModelOpt's members --------------------------------------------------
 */

/* What vLLM makes of the two in place of quant_method. */
static bool is_modelopt(const json_t *producer, const json_t *quantization)
{
    const char *name = json_string_value(json_object_get(producer, "name"));

    return (name && !strcmp(name, "modelopt")) ||
           json_object_get(quantization, "modelopt_quant_config");
}

static f8_status check_modelopt(const json_t *config, f8_findings *findings,
                                f8_error *err)
{
    const json_t *producer = json_object_get(config, "producer");
    const json_t *quantization = json_object_get(config, "quantization");
    const json_t *algorithm = json_object_get(quantization, "quant_algo");

    if (producer && !json_is_object(producer))
        return f8_problem(&findings->faults, err,
                          HERE ": \"producer\" is no object; vLLM raises");
    if (!is_modelopt(producer, quantization))
        return F8_OK;
    if (quantization && !json_is_object(quantization))
        return f8_problem(&findings->faults, err,
                          HERE ": \"quantization\" is no object, beside a "
                               "producer modelopt; vLLM raises");
    if (!algorithm || json_is_null(algorithm))
        return F8_OK;
    return f8_problem(&findings->faults, err,
                      HERE ": \"quantization\": by its quant_algo vLLM takes "
                           "the weights for ModelOpt's, or raises");
}

/* ---- all ----------------------------------------------------------------- */

f8_status f8_members_check(const json_t *config, bool has_e8m0,
                           f8_findings *findings, f8_error *err)
{
    f8_status status = F8_OK;
    const char *key;
    json_t *value;

    for (size_t i = 0; i < sizeof expectations / sizeof *expectations; i++) {
        if (status == F8_OK)
            status = check_expected(config, &expectations[i], findings, err);
    }
    if (status == F8_OK)
        status = check_block(config, findings, err);
    if (status == F8_OK)
        status = check_scale_format(config, has_e8m0, findings, err);
    if (status == F8_OK)
        status = check_modelopt(config, findings, err);
    /* jansson's macro wants a mutable object and changes nothing. */
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        if (status == F8_OK)
            status = check_member(key, value, findings, err);
    }
    return status;
}
