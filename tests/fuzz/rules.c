/* rules.c - fuzz target: rules files. What parses, printed from what was
 * understood and parsed again, must be understood in the same way; of an
 * error the line must be one, and no rule may be found that does not match. */
#include "fuzz.h"

#include "glob.h"
#include "arrange.h"

static const char *const kinds[] = {"keep", "quantize", "split"};
static const char *const forms[] = {"", "apart", "1", "2"};

static void print_rule(f8_buf *text, const f8_rule *rule)
{
    f8_buf_printf(text, "%s %s", kinds[rule->kind], rule->pattern);
    if (rule->kind == F8_RULE_SPLIT) {
        f8_buf_puts(text, " experts=0 parts=");
        if (rule->axis)
            f8_buf_printf(text, "%u:", rule->axis);
        for (unsigned i = 0; i < rule->parts_count; i++)
            f8_buf_printf(text, "%s%s", i ? "," : "", rule->parts[i]);
        if (!rule->axis)
            f8_buf_printf(text, " rows=%s columns=%s", rule->rows,
                          rule->columns);
    }
    if (rule->kind == F8_RULE_SPLIT && rule->published)
        f8_buf_printf(text, " published=%s", forms[rule->published]);
    if (rule->into)
        f8_buf_printf(text, " into=%s", rule->into);
    if (rule->also)
        f8_buf_printf(text, " also=%s", rule->also);
    if (rule->group)
        f8_buf_printf(text, " group=%s", rule->group);
    if (rule->oneof)
        f8_buf_printf(text, " oneof=%s", rule->oneof);
    f8_buf_printf(text, "%s%s%s\n", rule->optional ? " optional" : "",
                  rule->linear ? " linear" : "", rule->always ? " always" : "");
}

static void print_parallel(f8_buf *text, const f8_parallel *parallel)
{
    static const char *const hows[] = {"row", "column", "whole"};
    static const char *const crowds[] = {"", " experts", " shared"};

    f8_buf_printf(text, "parallel %s %s%s", hows[parallel->how],
                  parallel->pattern, crowds[parallel->crowd]);
    if (parallel->shared_by)
        f8_buf_printf(text, "=%s", parallel->shared_by);
    for (unsigned i = 0; i < parallel->names_count; i++)
        f8_buf_printf(text, "%s%s", i ? "," : " parts=", parallel->names[i]);
    for (unsigned i = 0; i < parallel->parts_count; i++)
        f8_buf_printf(text, "%s%s%s%s", i ? "," : " heads=", parallel->heads[i],
                      parallel->dims[i] ? "*" : "",
                      parallel->dims[i] ? parallel->dims[i] : "");
    if (parallel->kv)
        f8_buf_printf(text, " kv=%s", parallel->kv);
    f8_buf_puts(text, parallel->interleaved ? " interleaved\n" : "\n");
}

static void print_failure(f8_buf *text, const f8_failure *failure)
{
    f8_buf_printf(text, "fails %s %s", f8_engine_name(failure->engine),
                  failure->pattern);
    if (failure->key)
        f8_buf_printf(text, " %s=", failure->key);
    for (unsigned i = 0; i < failure->values_count; i++)
        f8_buf_printf(text, "%s%s", i ? "," : "", failure->values[i]);
    f8_buf_printf(text, " %s\n", failure->text);
}

static bool is_in(const char *layout, const f8_section *section)
{
    return section ? layout && !strcmp(layout, section->name) : !layout;
}

static void print_rules(f8_buf *text, const f8_rules *rules,
                        const f8_section *section)
{
    if (section)
        f8_buf_printf(text, "layout %s\n", section->name);
    for (size_t i = 0; i < rules->rules_count; i++) {
        if (is_in(rules->rules[i].layout, section))
            print_rule(text, &rules->rules[i]);
    }
    for (size_t i = 0; i < rules->places_count; i++) {
        const f8_file_place *place = &rules->places[i];
        if (is_in(place->layout, section))
            f8_buf_printf(text, "file %s %s\n", place->file, place->pattern);
    }
    if (section && section->sorted)
        f8_buf_puts(text, "list sorted\n");
    if (section)
        f8_buf_puts(text, "end\n");
}

static void print(f8_buf *text, const f8_rules *rules)
{
    f8_buf_printf(text, "family %s\n", rules->family);
    for (size_t i = 0; i < rules->model_types_count; i++)
        f8_buf_printf(text, "model_type %s\n", rules->model_types[i]);
    for (size_t i = 0; i < rules->renames_count; i++)
        f8_buf_printf(text, "rename %s %s\n", rules->renames[i].from,
                      rules->renames[i].to);
    print_rules(text, rules, NULL);
    for (size_t i = 0; i < rules->fused_count; i++) {
        const f8_fused *fused = &rules->fused[i];
        f8_buf_printf(text, "fused %s =", fused->name);
        for (unsigned k = 0; k < fused->parts_count; k++)
            f8_buf_printf(text, " %s", fused->parts[k]);
        f8_buf_puts(text, fused->listed ? " listed\n" : "\n");
    }
    if (rules->refused)
        f8_buf_printf(text, "refuse %s\n", rules->refused);
    for (size_t i = 0; i < rules->notes_count; i++)
        f8_buf_printf(text, "note %s\n", rules->notes[i]);
    for (size_t i = 0; i < rules->parallel_count; i++)
        print_parallel(text, &rules->parallel[i]);
    for (size_t i = 0; i < rules->failures_count; i++)
        print_failure(text, &rules->failures[i]);
    for (size_t i = 0; i < rules->sections_count; i++)
        print_rules(text, rules, &rules->sections[i]);
    require(!text->failed, "out of memory");
}

static void check_find(const f8_rules *rules)
{
    for (size_t i = 0; i < rules->rules_count; i++) {
        const char *name = rules->rules[i].pattern;
        const f8_rule *found = f8_rules_find(rules, name);
        require(!found || f8_glob_match(found->pattern, name),
                "'%s' was found for '%s'", found ? found->pattern : "", name);
        /* A pattern without placeholders is a name that matches it. */
        require(strpbrk(name, "{?*") || (found && found >= &rules->rules[i]),
                "no rule, or an earlier one, was found for '%s'", name);
    }
}

/* A rename and its reverse undo each other. */
static void check_renames(const f8_rules *rules)
{
    char there[F8_NAME_MAX_BYTES + 1], back[F8_NAME_MAX_BYTES + 1];

    for (size_t i = 0; i < rules->renames_count; i++) {
        const char *name = rules->renames[i].from;
        const f8_rename *rename = NULL, *reverse = NULL;
        if (strchr(name, '{'))
            continue; /* a pattern, no name */
        const char *known = f8_rules_known_as(rules, name, there, &rename);
        require(known == name || rename, "'%s' renamed by nothing", name);
        require(!rename || f8_rules_called(rules, known, back, &reverse),
                "'%s' does not lead back", known);
        require(!rename || reverse != rename || !strcmp(back, name),
                "'%s' leads back to '%s', not '%s'", known, back, name);
    }
}

/* Arranged for its last layout, no rule of another one is left, and a file is
 * found for what matches its pattern. */
static void check_layouts(const f8_rules *rules, f8_rules *again)
{
    const char *layout = NULL;
    f8_error err = {0};
    f8_buf file = {0};

    if (rules->sections_count > 0)
        layout = rules->sections[rules->sections_count - 1].name;
    require(f8_arrange(again, layout, &err) == F8_OK, "%s", err.message);
    for (size_t i = 0; i < again->rules_count; i++) {
        const char *of = again->rules[i].layout;
        require(!of || (layout && !strcmp(of, layout)), "a rule of '%s'", of);
    }
    for (size_t i = 0; i < again->places_count; i++) {
        const char *name = again->places[i].pattern;
        require(strpbrk(name, "{?*") || f8_arrange_file(again, name, &file),
                "no file for '%s'", name);
    }
    f8_buf_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = copy_string(data, size);
    f8_rules *rules = NULL, *again = NULL;
    f8_error err = {0};
    f8_buf first = {0}, second = {0};

    f8_status status = f8_rules_parse("f.rules", text, &rules, &err);
    if (status != F8_OK) {
        require(status == F8_ERR_RULES && !rules, "status %d", (int)status);
        require(!strncmp(err.message, "f.rules:", 8) &&
                    !strpbrk(err.message, "\n\r\033"),
                "the message '%s'", err.message);
        free(text);
        return 0;
    }
    print(&first, rules);
    status = f8_rules_parse("f.rules", first.data, &again, &err);
    require(status == F8_OK, "printed, it is refused: %s\n%s", err.message,
            first.data);
    print(&second, again);
    require(!strcmp(first.data, second.data), "printed\n%sand again\n%s",
            first.data, second.data);
    check_find(rules);
    check_renames(rules);
    check_layouts(rules, again);
    f8_buf_free(&first);
    f8_buf_free(&second);
    f8_rules_free(rules);
    f8_rules_free(again);
    free(text);
    return 0;
}
