/* original.c - what a source was like. See original.h. */
#include "original.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blockwise.h"

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

f8_status f8_original_read(const f8_checkpoint *checkpoint, json_t **out,
                           f8_error *err)
{
    static const char name[] = F8_WORK_DIR "/" F8_JOURNAL_NAME;
    f8_buf text = {0};
    json_error_t why;
    char *path = f8_path_join(checkpoint->dir, name);

    *out = NULL;
    if (!path)
        return f8_fail_nomem(err, "a path");
    bool found = access(path, F_OK) == 0;
    f8_status status =
        found ? f8_folder_read_file(&checkpoint->folder, name,
                                    F8_JOURNAL_MAX_BYTES, &text, err)
              : F8_OK;
    if (found && status == F8_OK) {
        json_t *journal =
            json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, &why);
        json_t *original = json_object_get(journal, F8_ORIGINAL_KEY);
        if (!journal && (json_error_code(&why) == json_error_unknown ||
                         json_error_code(&why) == json_error_out_of_memory))
            status = f8_fail_nomem(err, path); /* as journal.c has it */
        else if (!journal)
            status = f8_fail(err, F8_ERR_FORMAT,
                             "%s: not valid JSON; it says what the experts "
                             "were like that --fuse restores, and may be "
                             "deleted: then they become as published",
                             path);
        else if (speaks_of(original, checkpoint))
            *out = json_incref(original);
        json_decref(journal);
    }
    f8_buf_free(&text);
    free(path);
    return status;
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
        strcmp(said_of(original, rename->from, buffer), F8_ORIGINAL_RENAMED))
        return NULL;
    return buffer;
}
