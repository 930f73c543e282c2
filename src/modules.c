/* modules.c - module names, and what was decided of a result's modules. See
 * modules.h. */
#include "modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "glob.h"

/* ---- names --------------------------------------------------------------- */

static bool ends_at(const char *text, size_t n, const char *end)
{
    size_t m = strlen(end);
    return n > m && !strncmp(text + n - m, end, m);
}

size_t f8_module_full_length(const char *tensor)
{
    size_t n = strlen(tensor);

    if (ends_at(tensor, n, ".weight"))
        return n - strlen(".weight");
    if (ends_at(tensor, n, ".bias"))
        return n - strlen(".bias");
    return n;
}

size_t f8_module_length(const char *tensor)
{
    static const char experts[] = "experts.";

    for (const char *at = tensor; (at = strstr(at, experts)); at++) {
        const char *number = at + sizeof experts - 1;
        size_t digits = strspn(number, "0123456789");
        if ((at == tensor || at[-1] == '.') && digits > 0 &&
            (number[digits] == '.' || !number[digits]))
            return (size_t)(number - 1 - tensor);
    }
    return f8_module_full_length(tensor);
}

bool f8_module_is_plain(const char *entry)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789_.-";
    return *entry && strspn(entry, allowed) == strlen(entry);
}

/* What engines make of modules whose name matches; the first that does counts,
 * and the last one always does. */
typedef struct effect {
    const char *pattern, *effect;
} effect;

static const char *effect_on(const char *module, const effect *known)
{
    while (!f8_glob_match(known->pattern, module))
        known++;
    return known->effect;
}

const char *f8_module_unlisted(const char *module, bool in_transformers)
{
    static const char linear_attention[] =
        "vLLM casts it into FP8 without a word, SGLang raises, transformers "
        "does on a GPU";
    static const char head[] =
        "transformers does on a GPU, vLLM and SGLang do not";
    static const effect of_all[] = {
        {"*.in_proj_a", linear_attention},
        {"*.in_proj_b", linear_attention},
        {"*.in_proj_ba", linear_attention},
        {"*visual.*", "vLLM casts it into FP8 without a word, SGLang does "
                      "not, transformers does on a GPU"},
        {"*.shared_expert_gate", head},
        {"*lm_head", head},
        {"*", "by the model, vLLM and SGLang cast it into FP8 without a word, "
              "raise or leave it, transformers converts it on a GPU or leaves "
              "it"},
    };
    static const effect of_engines[] = {
        {"mtp.*.shared_expert_gate",
         "so far vLLM and SGLang do not, transformers does not read it"},
        {"mtp.fc", "vLLM casts it into FP8 without a word, SGLang does not, "
                   "transformers does not read it"},
        {"mtp.*", "vLLM and SGLang cast it into FP8 without a word, "
                  "transformers does not read it"},
        {"*", "by the model, vLLM and SGLang cast it into FP8 without a word, "
              "raise or leave it, transformers does not read it"},
    };

    return effect_on(module, in_transformers ? of_all : of_engines);
}

void f8_module_kind(const char *tensor, char *kind, size_t size)
{
    size_t end = f8_module_full_length(tensor);
    size_t start = 0; /* of what follows the last number */
    bool expert = false;

    for (size_t at = 0; at < end;) {
        size_t n = strcspn(tensor + at, ".");
        if (n > 0 && strspn(tensor + at, "0123456789") == n &&
            at + n + 1 < end) {
            start = at + n + 1;
            expert = at >= 8 && !strncmp(tensor + at - 8, "experts.", 8);
        }
        at += n + 1;
    }
    snprintf(kind, size, "%s%.*s", expert ? "experts." : "", (int)(end - start),
             tensor + start);
}

size_t f8_module_layer_length(const char *tensor)
{
    bool in_layers = false;

    for (size_t at = 0; tensor[at];) {
        size_t n = strcspn(tensor + at, ".");
        if (in_layers && n > 0 && strspn(tensor + at, "0123456789") == n)
            return at + n;
        in_layers = (n == 6 && (!strncmp(tensor + at, "layers", n) ||
                                !strncmp(tensor + at, "blocks", n)));
        at += n + (tensor[at + n] == '.');
    }
    return 0;
}

/* ---- sets ---------------------------------------------------------------- */

void f8_modules_init(f8_modules *modules)
{
    modules->kept = json_object();
    modules->quantised = json_object();
    modules->siblings = json_object();
    modules->failed =
        !modules->kept || !modules->quantised || !modules->siblings;
}

void f8_modules_free(f8_modules *modules)
{
    json_decref(modules->kept);
    json_decref(modules->quantised);
    json_decref(modules->siblings);
    memset(modules, 0, sizeof *modules);
}

/* "parent.qkv_proj" of "parent.q_proj" into name; false when the module has
 * no such siblings. */
static bool sibling_name(const f8_fused *fused, const char *module, char *name,
                         size_t size)
{
    const char *dot = strrchr(module, '.');
    const char *leaf = dot ? dot + 1 : module;

    for (unsigned i = 0; i < fused->parts_count; i++) {
        if (strcmp(fused->parts[i], leaf) != 0)
            continue;
        int n = snprintf(name, size, "%.*s%s", (int)(leaf - module), module,
                         fused->name);
        return n > 0 && (size_t)n < size;
    }
    return false;
}

static void add_siblings(f8_modules *modules, const f8_rules *rules,
                         const char *module, bool quantised)
{
    char name[1024];

    for (size_t i = 0; i < rules->fused_count; i++) {
        if (!sibling_name(&rules->fused[i], module, name, sizeof name))
            continue;
        json_int_t state =
            json_integer_value(json_object_get(modules->siblings, name));
        json_int_t now = state | (quantised ? 2 : 1);
        if (now != state && json_object_set_new(modules->siblings, name,
                                                json_integer(now)) != 0)
            modules->failed = true;
    }
}

void f8_modules_add(f8_modules *modules, const f8_rules *rules,
                    const char *tensor, bool quantised, bool linear)
{
    size_t n = f8_module_length(tensor);
    char *module = strndup(tensor, n);

    if (!module) {
        modules->failed = true;
        return;
    }
    /* A bias says nothing about its module: the weight does. */
    bool expert = n != f8_module_full_length(tensor);
    bool weight = !ends_at(tensor, strlen(tensor), ".bias");
    json_t *set = quantised ? modules->quantised : modules->kept;
    const json_t *known = json_object_get(set, module);
    if (!known || (linear && !quantised && !json_is_true(known))) {
        if (json_object_set_new(set, module,
                                json_boolean(quantised || linear)) != 0)
            modules->failed = true;
        if (!expert && weight)
            add_siblings(modules, rules, module, quantised);
    }
    free(module);
}

/* Where the words behind the last number of a name begin. */
static size_t last_words(const char *name)
{
    size_t start = 0;

    for (const char *at = name; (at = strchr(at, '.')); at++) {
        size_t digits = strspn(at + 1, "0123456789");
        if (digits > 0 && at[1 + digits] == '.')
            start = (size_t)(at - name) + digits + 2;
    }
    return start;
}

void f8_modules_add_also(f8_modules *modules, const f8_rules *rules,
                         const f8_rule *rule, const char *tensor)
{
    f8_buf name = {0};

    if (!rule->also)
        return;
    f8_buf_printf(&name, "%.*s%s", (int)last_words(tensor), tensor, rule->also);
    if (name.failed)
        modules->failed = true;
    else
        f8_modules_add(modules, rules, name.data, false, true);
    f8_buf_free(&name);
}

static bool is_in(json_t *set, const char *tensor)
{
    const char *module;
    json_t *state;
    size_t n = f8_module_length(tensor);

    json_object_foreach(set, module, state)
    {
        if (strlen(module) == n && !strncmp(module, tensor, n))
            return true;
    }
    return false;
}

void f8_modules_add_absent(f8_modules *modules, const f8_rules *rules)
{
    for (size_t i = 0; i < rules->rules_count; i++) {
        const f8_rule *rule = &rules->rules[i];
        if (rule->kind != F8_RULE_KEEP || !rule->linear || !rule->optional ||
            strpbrk(rule->pattern, "*?{"))
            continue;
        /* Of a tensor that is there its own decision was added. */
        if (!is_in(modules->quantised, rule->pattern))
            f8_modules_add(modules, rules, rule->pattern, false, true);
    }
}
