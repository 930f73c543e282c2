/* original.c - what a source was like. See original.h. */
#include "original.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockwise.h"
#include "glob.h"

#define JOURNAL_PATH F8_WORK_DIR "/" F8_JOURNAL_NAME
/* As much as config.json: names of some thousand files. */
#define JOURNAL_READ_BYTES UINT64_C(4000000)

/* Of which results a record speaks: a folder may hold others by now. */
#define NAMES_KEY "results"
#define TENSORS_KEY "tensors"

enum { HASH_DIGITS = 16 };

static void print_hash(uint64_t hash, char text[HASH_DIGITS + 1])
{
    snprintf(text, HASH_DIGITS + 1, "%016llx", (unsigned long long)hash);
}

uint64_t f8_original_name(uint64_t names, const char *name)
{
    return names + f8_hash(F8_HASH_START, name, strlen(name));
}

json_t *f8_original_new(uint64_t names, json_t **tensors)
{
    char text[HASH_DIGITS + 1];

    print_hash(names, text);
    *tensors = json_object();
    return json_pack("{s:s, s:o}", NAMES_KEY, text, TENSORS_KEY, *tensors);
}

/* Whether a record speaks of this checkpoint's tensors, scales apart. */
static bool speaks_of(const json_t *original, const f8_checkpoint *checkpoint)
{
    const char *said = json_string_value(json_object_get(original, NAMES_KEY));
    char text[HASH_DIGITS + 1];
    uint64_t names = 0;

    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        const char *name = checkpoint->tensors.items[i].name;
        if (!f8_is_scale_name(name))
            names = f8_original_name(names, name);
    }
    print_hash(names, text);
    return said && !strcmp(said, text) &&
           json_is_object(json_object_get(original, TENSORS_KEY));
}

static f8_status read_record(const f8_checkpoint *checkpoint, const char *path,
                             json_t **out, f8_error *err)
{
    f8_buf text = {0};
    json_t *journal = NULL;

    if (access(path, F_OK) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? F8_OK
                   : f8_fail_errno(err, errno, "%s: cannot stat", path);
    f8_status status = f8_folder_read_file(&checkpoint->folder, JOURNAL_PATH,
                                           JOURNAL_READ_BYTES, &text, err);
    if (status == F8_OK)
        status = f8_json_object(&text, path, &journal, err);
    json_t *original = json_object_get(journal, F8_ORIGINAL_KEY);
    if (speaks_of(original, checkpoint))
        *out = json_incref(original);
    json_decref(journal);
    f8_buf_free(&text);
    return status;
}

f8_status f8_original_read(const f8_checkpoint *checkpoint, json_t **out,
                           f8_error *err)
{
    char *path = f8_path_join(checkpoint->dir, JOURNAL_PATH);

    *out = NULL;
    f8_status status = path ? read_record(checkpoint, path, out, err)
                            : f8_fail_nomem(err, "a path");
    free(path);
    return status;
}

/* Whether the rules have what is said of: a split or a rename, by its pattern
 * or by the name of a tensor that it fits. */
static bool know(const f8_rules *rules, const char *key)
{
    char buffer[F8_NAME_MAX_BYTES + 1];
    const f8_rename *rename = NULL;

    for (size_t i = 0; i < rules->renames_count; i++) {
        if (!strcmp(rules->renames[i].from, key))
            return true;
    }
    for (size_t i = 0; i < rules->rules_count; i++) {
        const f8_rule *rule = &rules->rules[i];
        if (rule->kind == F8_RULE_SPLIT &&
            (!strcmp(rule->pattern, key) || f8_glob_match(rule->pattern, key)))
            return true;
    }
    f8_rules_known_as(rules, key, buffer, &rename);
    return rename != NULL;
}

f8_status f8_original_check(const json_t *original, const f8_rules *rules,
                            f8_error *err)
{
    json_t *tensors = json_object_get(original, TENSORS_KEY), *said;
    const char *key;

    json_object_foreach(tensors, key, said)
    {
        if (!know(rules, key))
            return f8_fail(err, F8_ERR_RULES,
                           "%s: \"%s\" was %s before, but no split or rename "
                           "of %s knows it; expected the rules of that "
                           "conversion",
                           JOURNAL_PATH, key,
                           json_is_string(said) ? json_string_value(said)
                                                : "otherwise",
                           rules->label);
    }
    return F8_OK;
}

/* What is said of the tensors of a pattern, or of one by its name. */
static const char *said_of(const json_t *original, const char *pattern,
                           const char *name)
{
    const json_t *tensors = json_object_get(original, TENSORS_KEY);
    const json_t *said = json_object_get(tensors, pattern);

    if (!said)
        said = json_object_get(tensors, name);
    return json_is_string(said) ? json_string_value(said) : "";
}

f8_form f8_original_form(const json_t *original, const f8_rule *rule,
                         const char *fused)
{
    if (!original)
        return rule->published;
    const char *said = said_of(original, rule->pattern, fused);
    if (!strcmp(said, F8_ORIGINAL_ALONG))
        return F8_FORM_ALONG;
    return !strcmp(said, F8_ORIGINAL_ACROSS) ? F8_FORM_ACROSS : F8_FORM_APART;
}

const char *f8_original_called(const json_t *original, const f8_rules *rules,
                               const char *name,
                               char buffer[F8_NAME_MAX_BYTES + 1])
{
    const f8_rename *rename = NULL;

    if (!original || !f8_rules_called(rules, name, buffer, &rename) ||
        strcmp(said_of(original, rename->from, buffer), F8_ORIGINAL_RENAMED) !=
            0)
        return NULL;
    return buffer;
}
