/* modules.h - from tensor names to module names, and what was decided of a
 * result's modules. Pure strings; docs/format.md section 5. */
#ifndef F8_MODULES_H
#define F8_MODULES_H

#include <jansson.h>

#include "rules.h"

/* Length of the module's name at the start of a tensor's name: without
 * `.weight` or `.bias`, and of experts one by one the part up to and
 * including `experts`, because loaders decide for all of them at once. */
size_t f8_module_length(const char *tensor);
/* The same, but one expert's own module is told apart. */
size_t f8_module_full_length(const char *tensor);

/* Whether an entry is a plain name: loaders take others for patterns. */
bool f8_module_is_plain(const char *entry);

/* What engines make of a kept module that must be listed and is not: of each
 * of them; transformers may not read it at all. docs/loaders.md has it tried.
 */
const char *f8_module_unlisted(const char *module, bool in_transformers);

/* What error statistics group a tensor by: the module's name behind the last
 * number in it, with `experts.` in front for an expert. Written to kind, cut
 * to fit. */
void f8_module_kind(const char *tensor, char *kind, size_t size);
/* And by where it is: how much of its name goes up to the first number behind
 * `layers.` or `blocks.`; 0 when it is in none. */
size_t f8_module_layer_length(const char *tensor);

/* The modules of a result, each with what was decided about its tensors. */
typedef struct f8_modules {
    json_t *kept;      /* ordered set: module -> whether it must be listed */
    json_t *quantised; /* ordered set: module -> true */
    json_t *siblings;  /* fused module -> 1 kept, 2 quantised, 3 mixed */
    bool failed;       /* memory ran out */
} f8_modules;

void f8_modules_init(f8_modules *modules);
/* One tensor of the result. `linear`: a loader would build a Linear. */
void f8_modules_add(f8_modules *modules, const f8_rules *rules,
                    const char *tensor, bool quantised, bool linear);
/* After all tensors: a Linear that the rules name, not by a pattern, and that
 * the checkpoint lacks. Loaders build it from another tensor's weight. */
void f8_modules_add_absent(f8_modules *modules, const f8_rules *rules);
/* The other name that the rule which decided a kept tensor has for its
 * module, if any: it must be listed too. */
void f8_modules_add_also(f8_modules *modules, const f8_rules *rules,
                         const f8_rule *rule, const char *tensor);
void f8_modules_free(f8_modules *modules);

#endif
