/* grammar.c - the language of rules files: their text becomes an f8_rules.
 * Part of rules.h; docs/rules.md describes the language. */
#include "rules.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORDS = 32 };

typedef struct word {
    const char *text;
    unsigned column; /* from 1 */
} word;

typedef struct parser {
    f8_rules *rules;
    unsigned line;
    word words[MAX_WORDS];
    unsigned count;
    const char *layout; /* of the section that the line is in, or NULL */
    f8_error *err;
} parser;

static f8_status wrong(const parser *p, unsigned column, const char *expected,
                       const char *found)
{
    return f8_fail(p->err, F8_ERR_RULES, "%s:%u:%u: expected %s, found '%s'",
                   p->rules->label, p->line, column, expected, found);
}

static f8_status wrong_word(const parser *p, unsigned i, const char *expected)
{
    if (i < p->count)
        return wrong(p, p->words[i].column, expected, p->words[i].text);
    const word *last = &p->words[p->count - 1];
    return f8_fail(
        p->err, F8_ERR_RULES, "%s:%u:%zu: expected %s at the end of the line",
        p->rules->label, p->line, last->column + strlen(last->text), expected);
}

/* Splits n bytes into the parser's words; a comment ends them. */
static f8_status split_line(parser *p, const char *line, size_t n)
{
    size_t at = 0;

    p->count = 0;
    for (;;) {
        while (at < n &&
               (line[at] == ' ' || line[at] == '\t' || line[at] == '\r'))
            at++;
        if (at >= n || line[at] == '#')
            return F8_OK;
        size_t start = at;
        while (at < n && line[at] != ' ' && line[at] != '\t' &&
               line[at] != '\r' && line[at] != '#')
            at++;
        if (p->count == MAX_WORDS)
            return f8_fail(p->err, F8_ERR_RULES,
                           "%s:%u:%zu: expected at most %d words on a line",
                           p->rules->label, p->line, start + 1, MAX_WORDS);
        const char *text =
            f8_arena_copy(&p->rules->strings, line + start, at - start);
        if (!text)
            return f8_fail_nomem(p->err, "the rules");
        p->words[p->count++] = (word){text, (unsigned)start + 1};
    }
}

static f8_status check_pattern(const parser *p, unsigned i)
{
    const char *pattern = p->words[i].text;

    for (const char *at = pattern; (at = strpbrk(at, "{}")); at += 3) {
        if (strncmp(at, "{n}", 3) != 0)
            return wrong(p, p->words[i].column + (unsigned)(at - pattern),
                         "'{n}', the only placeholder", at);
    }
    return F8_OK;
}

static const char part_names[] = "up to 8 part names with ',' between";

/* NAME,NAME...: `value`, which is in word i. */
static f8_status parse_names(parser *p, unsigned i, const char *value,
                             const char *expected,
                             const char *names[F8_MAX_PARTS], unsigned *count)
{
    const word *from = &p->words[i];

    for (;;) {
        size_t n = strcspn(value, ",");
        if (n == 0 || *count == F8_MAX_PARTS)
            return wrong(p, from->column + (unsigned)(value - from->text),
                         expected, value);
        const char *name = f8_arena_copy(&p->rules->strings, value, n);
        if (!name)
            return f8_fail_nomem(p->err, "the rules");
        names[(*count)++] = name;
        if (!value[n])
            return F8_OK;
        value += n + 1;
    }
}

/* rename FROM TO */
static f8_status parse_rename(parser *p)
{
    f8_rules *rules = p->rules;
    unsigned numbers[2] = {0, 0};

    if (p->layout)
        return wrong_word(p, 0, "'end' before 'rename', of all layouts");
    if (p->count != 3)
        return wrong_word(p, p->count < 3 ? p->count : 3, "two name patterns");
    for (unsigned i = 1; i < 3; i++) {
        f8_status status = check_pattern(p, i);
        if (status != F8_OK)
            return status;
        const char *at = p->words[i].text;
        if (strpbrk(at, "*?"))
            return wrong_word(p, i, "no wildcard but '{n}'");
        for (; (at = strstr(at, "{n}")); numbers[i - 1]++) {
            at += strlen("{n}");
            if (*at && strchr("{0123456789", *at))
                return wrong_word(p, i, "no digit behind a '{n}'");
        }
    }
    if (numbers[0] != numbers[1])
        return wrong_word(p, 2, "as many '{n}' as in the first pattern");
    for (size_t i = 0; i < rules->renames_count; i++) {
        if (!strcmp(rules->renames[i].to, p->words[2].text))
            return wrong_word(p, 2, "a name that no other tensors are given");
    }
    if (!f8_grow((void **)&rules->renames, &rules->renames_capacity,
                 rules->renames_count, sizeof *rules->renames))
        return f8_fail_nomem(p->err, "the rules");
    rules->renames[rules->renames_count++] =
        (f8_rename){p->words[1].text, p->words[2].text};
    return F8_OK;
}

/* published=1, published=2 or published=apart */
static f8_status parse_published(const parser *p, unsigned i, f8_rule *rule)
{
    const char *value = p->words[i].text + strlen("published=");

    if (!strcmp(value, "1"))
        rule->published = F8_FORM_ALONG;
    else if (!strcmp(value, "2"))
        rule->published = F8_FORM_ACROSS;
    else if (!strcmp(value, "apart"))
        rule->published = F8_FORM_APART;
    else
        return wrong_word(p, i, "published=1, published=2 or published=apart");
    return F8_OK;
}

/* parts=1:gate_proj,up_proj, or without an axis */
static f8_status parse_parts(parser *p, unsigned i, f8_rule *rule)
{
    const char *text = p->words[i].text;
    const char *value = strchr(text, '=') + 1;
    unsigned start = p->words[i].column;

    if (strchr(value, ':') && (strspn(value, "12") != 1 || value[1] != ':'))
        return wrong(p, start + (unsigned)(value - text),
                     "the axis of the parts, '1:' or '2:'", value);
    if (strchr(value, ':')) {
        rule->axis = (unsigned)(value[0] - '0');
        value += 2;
    }
    return parse_names(p, i, value, part_names, rule->parts,
                       &rule->parts_count);
}

static const char engine_names[] = "vllm, sglang or transformers";

/* The engine that n bytes name, or F8_ENGINE_COUNT. */
static unsigned find_engine(const char *text, size_t n)
{
    unsigned e = 0;

    for (; e < F8_ENGINE_COUNT; e++) {
        const char *name = f8_engine_name((f8_engine)e);
        if (n == strlen(name) && !strncmp(text, name, n))
            break;
    }
    return e;
}

/* misread=ENGINE,... or refused=ENGINE,... */
static f8_status parse_engines(const parser *p, unsigned i, unsigned *engines)
{
    const word *from = &p->words[i];
    const char *value = strchr(from->text, '=') + 1;

    for (;;) {
        size_t n = strcspn(value, ",");
        unsigned e = find_engine(value, n);
        if (e == F8_ENGINE_COUNT)
            return wrong(p, from->column + (unsigned)(value - from->text),
                         "vllm, sglang or transformers, with ',' between",
                         value);
        *engines |= 1u << e;
        if (!value[n])
            return F8_OK;
        value += n + 1;
    }
}

static f8_status parse_flag(parser *p, unsigned i, f8_rule *rule,
                            bool *saw_experts)
{
    const char *text = p->words[i].text;

    if (!strcmp(text, "optional"))
        rule->optional = true;
    else if (!strcmp(text, "linear") && rule->kind == F8_RULE_KEEP)
        rule->linear = true;
    else if (!strcmp(text, "always") && rule->kind == F8_RULE_KEEP)
        rule->always = true;
    else if (!strncmp(text, "group=", 6) && text[6])
        rule->group = text + 6;
    else if (!strncmp(text, "oneof=", 6) && text[6])
        rule->oneof = text + 6;
    else if (!strcmp(text, "experts=0") && rule->kind == F8_RULE_SPLIT)
        *saw_experts = true;
    else if (!strncmp(text, "also=", 5) && text[5] &&
             rule->kind == F8_RULE_KEEP)
        rule->also = text + 5;
    else if (!strncmp(text, "into=", 5) && text[5] &&
             rule->kind == F8_RULE_SPLIT)
        rule->into = text + 5;
    else if (!strncmp(text, "rows=", 5) && text[5] &&
             rule->kind == F8_RULE_SPLIT)
        rule->rows = text + 5;
    else if (!strncmp(text, "columns=", 8) && text[8] &&
             rule->kind == F8_RULE_SPLIT)
        rule->columns = text + 8;
    else if (!strncmp(text, "parts=", 6) && rule->kind == F8_RULE_SPLIT &&
             rule->parts_count == 0)
        return parse_parts(p, i, rule);
    else if (!strncmp(text, "published=", 10) && rule->kind == F8_RULE_SPLIT)
        return parse_published(p, i, rule);
    else if (!strncmp(text, "misread=", 8) && rule->kind == F8_RULE_KEEP)
        return parse_engines(p, i, &rule->misread_by);
    else if (!strncmp(text, "refused=", 8) && rule->kind == F8_RULE_KEEP)
        return parse_engines(p, i, &rule->refused_by);
    else
        return wrong_word(
            p, i,
            rule->kind == F8_RULE_KEEP
                ? "optional, linear, always, also=NAME, misread=ENGINE, "
                  "refused=ENGINE, group=NAME or oneof=NAME"
            : rule->kind == F8_RULE_SPLIT
                ? "experts=0, parts=1:NAME,..., rows=KEY, columns=KEY, "
                  "into=NAME, published=1, optional, group=NAME or "
                  "oneof=NAME"
                : "optional, group=NAME or oneof=NAME");
    return F8_OK;
}

/* What a split needs besides its pattern. */
static f8_status check_split(const parser *p, const f8_rule *rule,
                             bool saw_experts)
{
    if (!saw_experts)
        return wrong_word(p, p->count, "'experts=0', the axis of the experts");
    if (rule->parts_count == 0)
        return wrong_word(p, p->count, "'parts=1:NAME,...'");
    if (rule->axis && (rule->rows || rule->columns))
        return wrong_word(p, 0, "an axis of the parts, or rows= and columns=");
    if (!rule->axis && !(rule->rows && rule->columns))
        return wrong_word(p, p->count,
                          "rows=KEY and columns=KEY, or an axis of the parts");
    return F8_OK;
}

static f8_status parse_rule(parser *p, f8_rule_kind kind)
{
    f8_rules *rules = p->rules;
    f8_rule rule = {.kind = kind, .layout = p->layout};
    bool saw_experts = false;

    if (p->count < 2)
        return wrong_word(p, 1, "a name pattern");
    rule.pattern = p->words[1].text;
    f8_status status = check_pattern(p, 1);
    for (unsigned i = 2; i < p->count && status == F8_OK; i++)
        status = parse_flag(p, i, &rule, &saw_experts);
    if (status != F8_OK)
        return status;
    if (rule.always && (rule.misread_by || rule.refused_by))
        return wrong_word(p, 0, "always, or misread= and refused=, not both");
    f8_status split =
        kind == F8_RULE_SPLIT ? check_split(p, &rule, saw_experts) : F8_OK;
    if (split != F8_OK)
        return split;
    /* Who names the axis has said how they are published. */
    f8_form along = rule.axis == 1 ? F8_FORM_ALONG : F8_FORM_ACROSS;
    if (rule.published == F8_FORM_UNKNOWN && rule.axis)
        rule.published = along;
    if (rule.axis && rule.published != along && rule.published != F8_FORM_APART)
        return wrong_word(p, 0,
                          rule.axis == 1
                              ? "published=1 or published=apart where parts "
                                "lie along axis 1"
                              : "published=2 or published=apart where parts "
                                "lie along axis 2");
    rule.text = f8_arena_printf(&rules->strings, "%s:%u: %s %s", rules->label,
                                p->line, p->words[0].text, rule.pattern);
    if (!rule.text || !f8_grow((void **)&rules->rules, &rules->rules_capacity,
                               rules->rules_count, sizeof rule))
        return f8_fail_nomem(p->err, "the rules");
    rules->rules[rules->rules_count++] = rule;
    return F8_OK;
}

/* fused NAME = PART PART... [listed] */
static f8_status parse_fused(parser *p)
{
    f8_rules *rules = p->rules;
    f8_fused fused = {0};
    unsigned end = p->count;

    if (p->count > 1 && !strcmp(p->words[end - 1].text, "listed")) {
        fused.listed = true;
        end--;
    }
    if (p->count < 2)
        return wrong_word(p, 1, "the name of the fused module");
    fused.name = p->words[1].text;
    if (p->count < 3 || strcmp(p->words[2].text, "=") != 0)
        return wrong_word(p, 2, "'='");
    for (unsigned i = 3; i < end; i++) {
        if (fused.parts_count == F8_MAX_PARTS)
            return wrong_word(p, i, "at most 8 parts");
        fused.parts[fused.parts_count++] = p->words[i].text;
    }
    if (fused.parts_count < 2)
        return wrong_word(p, p->count, "two parts or more");
    if (!f8_grow((void **)&rules->fused, &rules->fused_capacity,
                 rules->fused_count, sizeof fused))
        return f8_fail_nomem(p->err, "the rules");
    rules->fused[rules->fused_count++] = fused;
    return F8_OK;
}

/* layout NAME: what stands before the next `end` is of this layout. */
static f8_status parse_layout(parser *p)
{
    f8_rules *rules = p->rules;
    f8_section section = {0};

    if (p->layout)
        return wrong_word(p, 0, "'end' before another layout");
    if (p->count != 2)
        return wrong_word(p, p->count < 2 ? 1 : 2, "one layout name");
    section.name = p->words[1].text;
    if (!strcmp(section.name, F8_LAYOUT_CARD))
        return wrong_word(p, 1, "another name: what stands above is this");
    for (size_t i = 0; i < rules->sections_count; i++) {
        if (!strcmp(rules->sections[i].name, section.name))
            return wrong_word(p, 1, "a layout that has no section yet");
    }
    p->layout = section.name;
    if (!f8_grow((void **)&rules->sections, &rules->sections_capacity,
                 rules->sections_count, sizeof section))
        return f8_fail_nomem(p->err, "the rules");
    rules->sections[rules->sections_count++] = section;
    return F8_OK;
}

static f8_status parse_end(parser *p)
{
    if (!p->layout)
        return wrong_word(p, 0, "'layout NAME' before 'end'");
    if (p->count != 1)
        return wrong_word(p, 1, "nothing behind 'end'");
    p->layout = NULL;
    return F8_OK;
}

/* A file's name is plain, and its number is the one that stands first in the
 * pattern, behind text that it cannot be taken for. */
static f8_status check_file(const parser *p, const char *file,
                            const char *pattern)
{
    const char *number = strstr(file, "{n}");
    const char *wild = strpbrk(pattern, "*?{");
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    for (const char *at = file; *at; at += at == number ? 3 : 1) {
        if (at != number && !strchr(plain, *at))
            return wrong(p, p->words[1].column + (unsigned)(at - file),
                         "letters, digits, '_', '-' and at most one '{n}'", at);
    }
    if (number && (!wild || *wild != '{'))
        return wrong_word(p, 2, "a pattern with '{n}' before any '*' or '?'");
    return F8_OK;
}

/* file NAME PATTERN */
static f8_status parse_file(parser *p)
{
    f8_rules *rules = p->rules;

    if (!p->layout)
        return wrong_word(p, 0, "'layout NAME' before 'file'");
    if (p->count != 3)
        return wrong_word(p, p->count < 3 ? p->count : 3,
                          "a file's name and a name pattern");
    f8_file_place place = {p->layout, p->words[1].text, p->words[2].text};
    f8_status status = check_pattern(p, 2);
    if (status == F8_OK)
        status = check_file(p, place.file, place.pattern);
    if (status != F8_OK)
        return status;
    if (!f8_grow((void **)&rules->places, &rules->places_capacity,
                 rules->places_count, sizeof place))
        return f8_fail_nomem(p->err, "the rules");
    rules->places[rules->places_count++] = place;
    return F8_OK;
}

/* list sorted */
static f8_status parse_list(parser *p)
{
    f8_rules *rules = p->rules;

    if (!p->layout)
        return wrong_word(p, 0, "'layout NAME' before 'list'");
    if (p->count != 2 || strcmp(p->words[1].text, "sorted") != 0)
        return wrong_word(p, p->count > 2 ? 2 : 1, "'sorted'");
    rules->sections[rules->sections_count - 1].sorted = true;
    return F8_OK;
}

/* heads=KEY,KEY... or heads=KEY*KEY,KEY*KEY...: what follows the `=` of word
 * i. Several without dimensions need the names of their parts before them. */
static f8_status parse_heads(parser *p, unsigned i, f8_parallel *parallel)
{
    const char *value = p->words[i].text + strlen("heads=");

    for (;;) {
        size_t n = strcspn(value, ","), star = strcspn(value, "*,");
        unsigned k = parallel->parts_count++;
        if (star == 0 || star + 1 == n || k == F8_MAX_PARTS)
            return wrong(
                p, p->words[i].column + (unsigned)(value - p->words[i].text),
                "up to 8 of HEADS*DIMENSION, keys of config.json with "
                "',' between",
                value);
        parallel->heads[k] = f8_arena_copy(&p->rules->strings, value, star);
        if (star < n)
            parallel->dims[k] = f8_arena_copy(&p->rules->strings,
                                              value + star + 1, n - star - 1);
        if (!parallel->heads[k] || (star < n && !parallel->dims[k]))
            return f8_fail_nomem(p->err, "the rules");
        if (parallel->names_count ? !parallel->dims[k] != !parallel->dims[0]
                                  : !parallel->dims[k] && (k > 0 || value[n]))
            return wrong_word(p, i, "HEADS*DIMENSION for each of several");
        if (!value[n])
            break;
        value += n + 1;
    }
    if (parallel->names_count && parallel->names_count != parallel->parts_count)
        return wrong_word(p, i, "heads for each name of parts=");
    return F8_OK;
}

/* kv=KEY; behind parts= and heads=, those of the heads that are copied. */
static f8_status parse_kv(parser *p, unsigned i, f8_parallel *parallel)
{
    parallel->kv = p->words[i].text + strlen("kv=");
    for (unsigned k = 0; k < parallel->parts_count; k++) {
        if (!strcmp(parallel->heads[k], parallel->kv))
            return F8_OK;
    }
    return parallel->parts_count ? wrong_word(p, i, "kv= with a KEY of heads=")
                                 : F8_OK;
}

/* shared, shared=ENGINE */
static bool parse_shared(const char *text, f8_parallel *parallel)
{
    if (!strcmp(text, "shared=vllm") || !strcmp(text, "shared=sglang"))
        parallel->shared_by = text + strlen("shared=");
    else if (strcmp(text, "shared") != 0)
        return false;
    parallel->crowd = F8_CROWD_SHARED;
    return true;
}

/* What only rows have that are divided. */
static f8_status parse_column_flag(parser *p, unsigned i, f8_parallel *parallel)
{
    const char *text = p->words[i].text;
    bool has_heads = parallel->parts_count > 0;
    bool has_names = parallel->names_count > 0;

    if (!strncmp(text, "parts=", 6) && !has_names && !has_heads &&
        !parallel->kv)
        return parse_names(p, i, text + 6, part_names, parallel->names,
                           &parallel->names_count);
    if (!strncmp(text, "heads=", 6) && !has_heads && !parallel->kv)
        return parse_heads(p, i, parallel);
    if (!strncmp(text, "kv=", 3) && text[3] && !parallel->kv &&
        has_heads == has_names)
        return parse_kv(p, i, parallel);
    if (!strcmp(text, "interleaved") && parallel->dims[0] && !has_names)
        parallel->interleaved = true;
    else
        return wrong_word(p, i,
                          "experts, shared, parts=NAME,..., heads=KEY, kv=KEY "
                          "or interleaved");
    return F8_OK;
}

static f8_status parse_parallel_flag(parser *p, unsigned i,
                                     f8_parallel *parallel)
{
    const char *text = p->words[i].text;

    if (parallel->how == F8_DIVIDE_WHOLE)
        return wrong_word(p, i, "nothing behind the pattern");
    if (!strcmp(text, "experts"))
        parallel->crowd = F8_CROWD_EXPERTS;
    else if (!parse_shared(text, parallel))
        return parallel->how == F8_DIVIDE_COLUMN
                   ? parse_column_flag(p, i, parallel)
                   : wrong_word(p, i, "experts or shared");
    return F8_OK;
}

/* parallel row|column|whole PATTERN [FLAG...] */
static f8_status parse_parallel(parser *p)
{
    static const char *const hows[] = {"row", "column", "whole"};
    f8_rules *rules = p->rules;
    f8_parallel parallel = {0};
    unsigned how = 0;

    while (how < 3 && p->count > 1 && strcmp(p->words[1].text, hows[how]) != 0)
        how++;
    if (how == 3 || p->count < 2)
        return wrong_word(p, 1, "row, column or whole");
    if (p->count < 3)
        return wrong_word(p, 2, "a name pattern");
    parallel.how = (f8_divide)how;
    parallel.pattern = p->words[2].text;
    f8_status status = check_pattern(p, 2);
    for (unsigned i = 3; i < p->count && status == F8_OK; i++)
        status = parse_parallel_flag(p, i, &parallel);
    if (status != F8_OK)
        return status;
    if (!f8_grow((void **)&rules->parallel, &rules->parallel_capacity,
                 rules->parallel_count, sizeof parallel))
        return f8_fail_nomem(p->err, "the rules");
    rules->parallel[rules->parallel_count++] = parallel;
    return F8_OK;
}

static f8_status parse_model_types(parser *p)
{
    f8_rules *rules = p->rules;

    if (p->count < 2)
        return wrong_word(p, 1, "a model_type of config.json");
    for (unsigned i = 1; i < p->count; i++) {
        if (!f8_grow((void **)&rules->model_types, &rules->model_types_capacity,
                     rules->model_types_count, sizeof *rules->model_types))
            return f8_fail_nomem(p->err, "the rules");
        rules->model_types[rules->model_types_count++] = p->words[i].text;
    }
    return F8_OK;
}

/* The words of a line from word `first` on, as a sentence. */
static const char *sentence(parser *p, unsigned first)
{
    f8_buf text = {0};
    const char *made = NULL;

    for (unsigned i = first; i < p->count; i++)
        f8_buf_printf(&text, "%s%s", i > first ? " " : "", p->words[i].text);
    if (!text.failed && text.length > 0)
        made = f8_arena_copy(&p->rules->strings, text.data, text.length);
    f8_buf_free(&text);
    return made;
}

/* refuse REASON..., note TEXT... */
static f8_status parse_sentence(parser *p, bool refuses)
{
    f8_rules *rules = p->rules;

    if (p->count < 2)
        return wrong_word(p, 1, refuses ? "a reason" : "a sentence");
    if (refuses && rules->refused)
        return wrong_word(p, 0, "one refuse");
    const char *text = sentence(p, 1);
    if (!text ||
        (!refuses && !f8_grow((void **)&rules->notes, &rules->notes_capacity,
                              rules->notes_count, sizeof *rules->notes)))
        return f8_fail_nomem(p->err, "the rules");
    if (refuses)
        rules->refused = text;
    else
        rules->notes[rules->notes_count++] = text;
    return F8_OK;
}

/* model_type=NAME,... or architectures=NAME,... in word i; else *has stays
 * false. */
static f8_status parse_condition(parser *p, unsigned i, f8_failure *failure,
                                 bool *has)
{
    static const char *const keys[] = {"model_type", "architectures"};

    for (size_t k = 0; i < p->count && k < sizeof keys / sizeof *keys; k++) {
        size_t n = strlen(keys[k]);
        const char *text = p->words[i].text;
        if (strncmp(text, keys[k], n) != 0 || text[n] != '=')
            continue;
        *has = true;
        failure->key = keys[k];
        return parse_names(p, i, text + n + 1, "up to 8 names with ',' between",
                           failure->values, &failure->values_count);
    }
    return F8_OK;
}

/* fails ENGINE PATTERN [KEY=VALUE,...] TEXT... */
static f8_status parse_fails(parser *p)
{
    f8_rules *rules = p->rules;
    f8_failure failure = {0};
    bool has_condition = false;

    if (p->layout)
        return wrong_word(p, 0, "'end' before 'fails', of all layouts");
    const char *name = p->count > 1 ? p->words[1].text : "";
    unsigned e = find_engine(name, strlen(name));
    if (e == F8_ENGINE_COUNT)
        return wrong_word(p, 1, engine_names);
    failure.engine = (f8_engine)e;
    if (p->count < 3)
        return wrong_word(p, 2, "a name pattern");
    failure.pattern = p->words[2].text;
    f8_status status = check_pattern(p, 2);
    if (status == F8_OK)
        status = parse_condition(p, 3, &failure, &has_condition);
    if (status != F8_OK)
        return status;
    unsigned first = has_condition ? 4 : 3;
    if (p->count <= first)
        return wrong_word(p, first, "what the engine does");
    failure.text = sentence(p, first);
    if (!failure.text ||
        !f8_grow((void **)&rules->failures, &rules->failures_capacity,
                 rules->failures_count, sizeof failure))
        return f8_fail_nomem(p->err, "the rules");
    rules->failures[rules->failures_count++] = failure;
    return F8_OK;
}

static f8_status parse_line(parser *p)
{
    const char *verb = p->words[0].text;

    if (!strcmp(verb, "keep"))
        return parse_rule(p, F8_RULE_KEEP);
    if (!strcmp(verb, "quantize"))
        return parse_rule(p, F8_RULE_QUANTIZE);
    if (!strcmp(verb, "split"))
        return parse_rule(p, F8_RULE_SPLIT);
    if (!strcmp(verb, "rename"))
        return parse_rename(p);
    if (!strcmp(verb, "fused"))
        return parse_fused(p);
    if (!strcmp(verb, "model_type"))
        return parse_model_types(p);
    if (!strcmp(verb, "parallel"))
        return parse_parallel(p);
    if (!strcmp(verb, "fails"))
        return parse_fails(p);
    if (!strcmp(verb, "layout"))
        return parse_layout(p);
    if (!strcmp(verb, "end"))
        return parse_end(p);
    if (!strcmp(verb, "file"))
        return parse_file(p);
    if (!strcmp(verb, "list"))
        return parse_list(p);
    if (!strcmp(verb, "refuse") || !strcmp(verb, "note"))
        return parse_sentence(p, verb[0] == 'r');
    if (strcmp(verb, "family") != 0)
        return wrong_word(p, 0,
                          "family, model_type, keep, quantize, split, rename, "
                          "fused, parallel, fails, note, refuse, layout, "
                          "file, list or end");
    if (p->count != 2)
        return wrong_word(p, p->count < 2 ? 1 : 2, "one family name");
    p->rules->family = p->words[1].text;
    return F8_OK;
}

static f8_status parse(f8_rules *rules, const char *text, f8_error *err)
{
    parser p = {.rules = rules, .err = err};

    while (*text) {
        size_t n = strcspn(text, "\n");
        p.line++;
        f8_status status = split_line(&p, text, n);
        if (status == F8_OK && p.count > 0)
            status = parse_line(&p);
        if (status != F8_OK)
            return status;
        text += n + (text[n] == '\n');
    }
    if (p.layout)
        return f8_fail(err, F8_ERR_RULES, "%s: expected 'end' of layout %s",
                       rules->label, p.layout);
    if (!*rules->family)
        return f8_fail(err, F8_ERR_RULES, "%s: expected a line 'family NAME'",
                       rules->label);
    if (rules->rules_count == 0 && !rules->refused)
        return f8_fail(err, F8_ERR_RULES, "%s: expected at least one rule",
                       rules->label);
    return F8_OK;
}

f8_status f8_rules_parse(const char *label, const char *text, f8_rules **out,
                         f8_error *err)
{
    f8_rules *rules = f8_alloc(1, sizeof *rules);

    *out = NULL;
    if (!rules)
        return f8_fail_nomem(err, "the rules");
    rules->family = "";
    rules->label = f8_arena_copy(&rules->strings, label, strlen(label));
    f8_status status = rules->label ? parse(rules, text, err)
                                    : f8_fail_nomem(err, "the rules");
    if (status == F8_OK)
        *out = rules;
    else
        f8_rules_free(rules);
    return status;
}
