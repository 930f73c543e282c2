/* likeness.c - see likeness.h. Converters rightly save a config.json that is
 * not the source's letter by letter: another order, another release's names.
 * What they may change is told from what makes another model of it, on every
 * level, since a model with vision has its language model's members in
 * text_config. What is said of loaders was read in transformers 5.23.0
 * (configuration_utils.py), vLLM 0.32.0 (config/model.py,
 * transformers_utils/model_arch_config_convertor.py) and SGLang 0.5.23
 * (configs/model_config.py). */
#include "likeness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"

typedef struct likeness {
    const json_t *source, *result;
    f8_findings *findings;
    bool dtype_told; /* that the result's own is another than the source's */
} likeness;

/* ---- the type to compute in ---------------------------------------------- */

/* The older name comes second, and is read where the other is not there. */
static const char *const dtype_keys[] = {"dtype", "torch_dtype"};
enum { DTYPE_KEYS = sizeof dtype_keys / sizeof *dtype_keys };

/* The name that an object has for it, and under which key; NULL for none. */
static const char *dtype_in(const json_t *object, const char **key)
{
    for (size_t i = 0; i < DTYPE_KEYS; i++) {
        const char *name =
            json_string_value(json_object_get(object, dtype_keys[i]));
        if (name) {
            *key = dtype_keys[i];
            return name;
        }
    }
    return NULL;
}

/* The object that has a whole config's: itself, or its language model's. */
static const json_t *dtype_place(const json_t *config)
{
    const char *key;

    return dtype_in(config, &key) ? config
                                  : json_object_get(config, "text_config");
}

static const char *dtype_of(const json_t *config)
{
    const char *key;

    return dtype_in(dtype_place(config), &key);
}

static bool is_text_or_none(const json_t *value)
{
    return !value || json_is_null(value) || json_is_string(value);
}

static bool is_dtype(const f8_setting_place *place)
{
    if (!is_text_or_none(place->a) || !is_text_or_none(place->b))
        return false;
    return !strcmp(place->key, dtype_keys[0]) ||
           !strcmp(place->key, dtype_keys[1]);
}

static f8_status tell_dtype(const likeness *l, const char *path,
                            const char *ours, const char *theirs, f8_error *err)
{
    return f8_problem(&l->findings->warnings, err,
                      "%s: \"%s\" is \"%s\", in the source \"%s\"; loaders "
                      "compute in it unless they are told otherwise, or raise",
                      F8_CONFIG_NAME, f8_show(path, F8_SHOWN_BYTES).text,
                      f8_show(ours, F8_SHOWN_BYTES).text,
                      f8_show(theirs, F8_SHOWN_BYTES).text);
}

/* One that is left out is told of for the whole config; one that is new on this
 * level has to be what the source says elsewhere. */
static f8_status check_dtype(likeness *l, const f8_setting_place *place,
                             f8_error *err)
{
    const char *key = "";
    const char *theirs = dtype_in(place->outer_a, &key);
    const char *ours = dtype_in(place->outer_b, &key);

    if (!theirs)
        theirs = dtype_of(l->source);
    /* Of an object that has both names only the one that counts. */
    if (!ours || !theirs || !strcmp(ours, theirs) ||
        strcmp(key, place->key) != 0)
        return F8_OK;
    if (place->outer_b == dtype_place(l->result))
        l->dtype_told = true;
    return tell_dtype(l, place->path, ours, theirs, err);
}

/* The one that counts may be left out, and another, of an older name or of the
 * language model, counts in its place: no place of its own differs then. */
static f8_status check_whole_dtype(const likeness *l, f8_error *err)
{
    const json_t *place = dtype_place(l->result);
    const char *theirs = dtype_of(l->source), *key = "";
    const char *ours = dtype_in(place, &key);

    if (!theirs || (ours && (!strcmp(ours, theirs) || l->dtype_told)))
        return F8_OK;
    if (ours) {
        char path[sizeof "text_config.torch_dtype"];
        snprintf(path, sizeof path, "%s%s",
                 place == l->result ? "" : "text_config.", key);
        return tell_dtype(l, path, ours, theirs, err);
    }
    return f8_problem(&l->findings->warnings, err,
                      "%s: no \"dtype\", in the source \"%s\"; SGLang takes "
                      "it for float32, and computes in float16, with Gemma in "
                      "bfloat16",
                      F8_CONFIG_NAME, f8_show(theirs, F8_SHOWN_BYTES).text);
}

/* ---- all else ------------------------------------------------------------ */

/* Members that converters rightly change or leave out. */
static bool may_differ(const likeness *l, const f8_setting_place *place)
{
    /* Elsewhere than at the top it would be a second quantization. */
    if (place->outer_b == l->result &&
        !strcmp(place->key, "quantization_config"))
        return true;
    return !strcmp(place->key, "transformers_version") ||
           !strcmp(place->key, "_name_or_path");
}

/* Both values, short enough for one line. */
typedef struct shown_pair {
    f8_shown a, b;
} shown_pair;

static f8_shown show(const json_t *value, const char *text)
{
    /* Only memory could have run out: the fault is told without the value. */
    return f8_show(!value ? "none"
                   : text ? text
                          : "another value",
                   F8_SHOWN_BYTES / 2);
}

static shown_pair show_values(const f8_setting_place *place)
{
    f8_setting_texts texts = f8_setting_print(place->a, place->b);
    shown_pair shown = {show(place->a, texts.a), show(place->b, texts.b)};

    free(texts.a);
    free(texts.b);
    return shown;
}

/* One is whole to JSON, the other is not: some loaders check the kind, of a
 * count as of an epsilon; of rope_theta, for one, they do not. */
static f8_status tell_kind(const likeness *l, const f8_setting_place *place,
                           f8_error *err)
{
    shown_pair shown = show_values(place);

    return f8_problem(&l->findings->warnings, err,
                      "%s: \"%s\" is %s, in the source %s; loaders that want "
                      "%s raise",
                      F8_CONFIG_NAME, f8_show(place->path, F8_SHOWN_BYTES).text,
                      shown.b.text, shown.a.text,
                      json_is_integer(place->a) ? "an integer" : "a float");
}

static f8_status check_place(void *ctx, const f8_setting_place *place,
                             f8_error *err)
{
    likeness *l = ctx;

    if (place->key && may_differ(l, place))
        return F8_OK;
    if (place->key && is_dtype(place))
        return check_dtype(l, place, err);
    if (f8_settings_equal_numbers(place->a, place->b))
        return tell_kind(l, place, err);
    f8_shown path = f8_show(place->path, F8_SHOWN_BYTES);
    if (!place->a)
        return f8_problem(&l->findings->faults, err,
                          "%s: \"%s\" is not in the source", F8_CONFIG_NAME,
                          path.text);
    shown_pair shown = show_values(place);
    return f8_problem(&l->findings->faults, err,
                      "%s: \"%s\" is not as in the source: expected %s, found "
                      "%s",
                      F8_CONFIG_NAME, path.text, shown.a.text, shown.b.text);
}

f8_status f8_likeness_check(const json_t *source, const json_t *result,
                            f8_findings *findings, f8_error *err)
{
    likeness l = {.source = source, .result = result, .findings = findings};
    f8_status status =
        f8_settings_walk("", source, result, check_place, &l, err);

    return status == F8_OK ? check_whole_dtype(&l, err) : status;
}
