/* rules.c - the rules of a model: which file they come from, and which of them
 * decides a tensor. grammar.c reads their text. */
#include "rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "builtin.h"
#include "glob.h"

/* A rules file is a few kilobytes; more is a mistake. */
#define RULES_MAX_BYTES UINT64_C(1000000)

const char *f8_family_name(size_t i)
{
    for (size_t k = 0; f8_builtin_rules[k].name; k++) {
        if (k == i)
            return f8_builtin_rules[k].name;
    }
    return NULL;
}

const char *f8_family_text(size_t i)
{
    return f8_family_name(i) ? f8_builtin_rules[i].text : NULL;
}

/* ---- loading ------------------------------------------------------------- */

static f8_status load_builtin(const f8_builtin *builtin, f8_rules **out,
                              f8_error *err)
{
    f8_buf label = {0};

    f8_buf_printf(&label, "%s.rules", builtin->name);
    f8_status status =
        label.failed ? f8_fail_nomem(err, "the rules")
                     : f8_rules_parse(label.data, builtin->text, out, err);
    f8_buf_free(&label);
    return status;
}

static f8_status load_file(const char *path, f8_rules **out, f8_error *err)
{
    f8_buf text = {0};
    const char *slash = strrchr(path, '/');

    f8_status status = f8_read_file(path, RULES_MAX_BYTES, &text, err);
    if (status == F8_OK && strlen(text.data) != text.length)
        status =
            f8_fail(err, F8_ERR_RULES, "%s: expected text, found a NUL", path);
    if (status == F8_OK)
        status = f8_rules_parse(slash ? slash + 1 : path, text.data, out, err);
    else if (err && err->sys_errno == ENOENT)
        status = f8_fail(
            err, F8_ERR_RULES,
            "--rules %s: neither a built-in family (see 'fp8cast rules') "
            "nor a file",
            path);
    f8_buf_free(&text);
    return status;
}

static bool fits(const f8_rules *rules, const char *model_type)
{
    for (size_t i = 0; i < rules->model_types_count; i++) {
        if (!strcmp(rules->model_types[i], model_type))
            return true;
    }
    return false;
}

static f8_status load_by_model_type(const char *model_type, f8_rules **out,
                                    f8_error *err)
{
    f8_buf known = {0};
    f8_status status = F8_OK;

    for (size_t i = 0; f8_builtin_rules[i].name; i++) {
        f8_rules *rules = NULL;
        status = load_builtin(&f8_builtin_rules[i], &rules, err);
        if (status != F8_OK || !rules) /* there are rules when it is fine */
            goto out;
        if (fits(rules, model_type)) {
            *out = rules;
            goto out;
        }
        for (size_t k = 0; k < rules->model_types_count && !rules->refused; k++)
            f8_buf_printf(&known, "%s%s", known.length ? ", " : "",
                          rules->model_types[k]);
        f8_rules_free(rules);
    }
    status = f8_fail(err, F8_ERR_RULES,
                     "config.json: no rules for model_type \"%s\", known: %s; "
                     "to write your own start from 'fp8cast rules NAME' and "
                     "pass --rules FILE",
                     f8_show(model_type, F8_SHOWN_BYTES).text,
                     known.data ? known.data : "none");
out:
    f8_buf_free(&known);
    return status;
}

f8_status f8_rules_load(const char *spec, const char *model_type,
                        f8_rules **rules, f8_error *err)
{
    *rules = NULL;
    if (!spec)
        return load_by_model_type(model_type, rules, err);
    for (size_t i = 0; f8_builtin_rules[i].name; i++) {
        if (!strcmp(f8_builtin_rules[i].name, spec))
            return load_builtin(&f8_builtin_rules[i], rules, err);
    }
    return load_file(spec, rules, err);
}

void f8_rules_free(f8_rules *rules)
{
    if (!rules)
        return;
    free(rules->model_types);
    free(rules->rules);
    free(rules->renames);
    free(rules->fused);
    free(rules->parallel);
    free(rules->failures);
    free(rules->sections);
    free(rules->places);
    free(rules->notes);
    f8_arena_free(&rules->strings);
    free(rules);
}

/* ---- names --------------------------------------------------------------- */

/* Writes `to` with the numbers that the `{n}` of `from` stand for in name, in
 * their order; false when from does not match all of it. No digit follows a
 * `{n}` in either, so that there is one reading only. */
static bool rename_to(const char *from, const char *to, const char *name,
                      char buffer[F8_NAME_MAX_BYTES + 1])
{
    size_t length = 0;

    if (!f8_glob_match(from, name))
        return false;
    for (;;) {
        size_t n = strcspn(to, "{");
        size_t plain = strcspn(from, "{");
        size_t digits = strspn(name + plain, "0123456789");
        if (length + n + digits > F8_NAME_MAX_BYTES)
            return false;
        memcpy(buffer + length, to, n);
        length += n;
        if (!to[n])
            break;
        memcpy(buffer + length, name + plain, digits);
        length += digits;
        name += plain + digits;
        from += plain + strlen("{n}");
        to += n + strlen("{n}");
    }
    buffer[length] = '\0';
    return true;
}

const char *f8_rules_known_as(const f8_rules *rules, const char *name,
                              char buffer[F8_NAME_MAX_BYTES + 1],
                              const f8_rename **rename)
{
    const f8_rename *found = NULL;

    for (size_t i = 0; i < rules->renames_count && !found; i++) {
        const f8_rename *r = &rules->renames[i];
        if (rename_to(r->from, r->to, name, buffer))
            found = r;
    }
    if (rename)
        *rename = found;
    return found ? buffer : name;
}

bool f8_rules_called(const f8_rules *rules, const char *name,
                     char buffer[F8_NAME_MAX_BYTES + 1],
                     const f8_rename **rename)
{
    for (size_t i = 0; i < rules->renames_count; i++) {
        *rename = &rules->renames[i];
        if (rename_to((*rename)->to, (*rename)->from, name, buffer))
            return true;
    }
    return false;
}

/* ---- use ----------------------------------------------------------------- */

const f8_rule *f8_rules_find(const f8_rules *rules, const char *name)
{
    for (size_t i = rules->rules_count; i-- > 0;) {
        if (f8_glob_match(rules->rules[i].pattern, name))
            return &rules->rules[i];
    }
    return NULL;
}

const f8_parallel *f8_rules_find_parallel(const f8_rules *rules,
                                          const char *name)
{
    for (size_t i = rules->parallel_count; i-- > 0;) {
        if (f8_glob_match(rules->parallel[i].pattern, name))
            return &rules->parallel[i];
    }
    return NULL;
}

static bool same(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

/* Where a oneof= has a split, its other rules are the parts of what that takes
 * apart, one by one: another such rule that decided something, when rule i is
 * one of them; else NULL. */
static const f8_rule *find_part(const f8_rules *rules, const uint64_t *decided,
                                size_t i)
{
    const f8_rule *found = NULL;
    bool splits = false;

    if (!rules->rules[i].oneof || rules->rules[i].kind == F8_RULE_SPLIT)
        return NULL;
    for (size_t k = 0; k < rules->rules_count; k++) {
        const f8_rule *other = &rules->rules[k];
        if (!same(rules->rules[i].oneof, other->oneof))
            continue;
        splits = splits || other->kind == F8_RULE_SPLIT;
        if (decided[k] && other->kind != F8_RULE_SPLIT)
            found = other;
    }
    return splits ? found : NULL;
}

/* The first rule of a group, or of a choice, that decided something; NULL when
 * none did or there is no such name. */
static const f8_rule *find_member(const f8_rules *rules,
                                  const uint64_t *decided, const char *group,
                                  const char *oneof)
{
    for (size_t k = 0; k < rules->rules_count; k++) {
        const f8_rule *rule = &rules->rules[k];
        if (decided[k] &&
            (same(group, rule->group) || same(oneof, rule->oneof)))
            return rule;
    }
    return NULL;
}

/* Rule i has a oneof=, and decided nothing. */
static f8_status check_choice(const f8_rules *rules, const uint64_t *decided,
                              size_t i, f8_error *err)
{
    const f8_rule *rule = &rules->rules[i];
    const f8_rule *member = find_member(rules, decided, rule->group, NULL);
    const f8_rule *part = find_part(rules, decided, i);

    if (part)
        return f8_fail(err, F8_ERR_RULES,
                       "%s: matches no tensor, but of oneof=%s '%s' does; "
                       "expected all or none of those that are no split",
                       rule->text, rule->oneof, part->text);
    if (find_member(rules, decided, NULL, rule->oneof) ||
        (rule->group && !member))
        return F8_OK;
    if (!member)
        return f8_fail(err, F8_ERR_RULES,
                       "%s: this rule and the others with oneof=%s match "
                       "no tensor, expected at least one to",
                       rule->text, rule->oneof);
    return f8_fail(err, F8_ERR_RULES,
                   "%s: this rule and the others with oneof=%s match no "
                   "tensor, but of group=%s '%s' does; expected at least one "
                   "to",
                   rule->text, rule->oneof, rule->group, member->text);
}

/* Rule i has no oneof=, and decided nothing. */
static f8_status check_group(const f8_rules *rules, const uint64_t *decided,
                             size_t i, f8_error *err)
{
    const f8_rule *rule = &rules->rules[i];
    const f8_rule *member = find_member(rules, decided, rule->group, NULL);

    if (member)
        return f8_fail(err, F8_ERR_RULES,
                       "%s: matches no tensor, but of group=%s '%s' does; "
                       "expected all or none",
                       rule->text, rule->group, member->text);
    if (!rule->group)
        return f8_fail(err, F8_ERR_RULES,
                       "%s: matches no tensor of this checkpoint (mark "
                       "the rule optional if it need not)",
                       rule->text);
    return F8_OK;
}

f8_status f8_rules_check_use(const f8_rules *rules, const uint64_t *decided,
                             f8_error *err)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < rules->rules_count && status == F8_OK; i++) {
        const f8_rule *rule = &rules->rules[i];
        if (decided[i] || rule->optional)
            continue;
        status = rule->oneof ? check_choice(rules, decided, i, err)
                             : check_group(rules, decided, i, err);
    }
    return status;
}
