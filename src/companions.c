/* companions.c - see companions.h. A result may come from anybody, who may
 * rightly have written another model card, or saved the tokenizer with another
 * program: a file that is not the source's is no fault. But without a
 * tokenizer nobody serves the result, and with another chat template it is not
 * the model that it was. */
#include "companions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "glob.h"
#include "sidefiles.h"

#define PREPROCESSOR_NAME "preprocessor_config.json"
#define PROCESSOR_NAME "processor_config.json"

enum { NEEDS = 2 };

typedef struct comparison {
    const f8_checkpoint *source, *result;
    f8_side_files theirs, ours; /* of the source, of the result */
    json_t *processor;          /* PROCESSOR_NAME of the result, or NULL */
    json_t *code;               /* files that auto_map names, as a set */
    bool unmet[NEEDS];          /* told once for all files of the need */
    f8_findings *findings;
    f8_error *err;
    f8_companions_told *told;
    void *ctx;
    uint64_t bytes_done, bytes_total; /* that are compared */
    /* Files that no loader opens and that are missing or not the same. */
    uint64_t papers;
    const char *first_paper;
} comparison;

/* ---- which file is for what -----------------------------------------------
 */

static bool matches_any(const char *const *patterns, const char *path)
{
    while (*patterns && !f8_glob_match(*patterns, path))
        patterns++;
    return *patterns != NULL;
}

/* For people, not for loaders; compared without regard to case. */
static bool is_paper(const char *path)
{
    static const char *const beginnings[] = {
        "readme", "licen",      "notice",    "copying",
        ".git",   "use_policy", "changelog", "citation"};
    static const char *const ends[] = {".md",  ".png",  ".jpg",  ".jpeg",
                                       ".gif", ".svg",  ".webp", ".pdf",
                                       ".mp4", ".ipynb"};
    size_t n = strlen(path);

    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        if (!strncasecmp(path, beginnings[i], strlen(beginnings[i])))
            return true;
    }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i]);
        if (n >= m && !strcasecmp(path + n - m, ends[i]))
            return true;
    }
    return false;
}

/* Loaders open files of the folder itself, by names that they know or that
 * the model's own code does; of its folders only these. */
static bool is_read(const char *path)
{
    static const char *const below[] = {"additional_chat_templates/*",
                                        "*_Pooling/config.json", NULL};

    return strchr(path, '/') ? matches_any(below, path) : !is_paper(path);
}

/* What a loader cannot do without: one of these files, if the source has
 * any. */
static const struct need {
    const char *what;
    const char *patterns[8];
    const char *otherwise;
} needs[NEEDS] = {
    {"tokenizer",
     {"tokenizer.json", "*.model", "vocab.json", "vocab.txt", "tekken.json",
      "*.tiktoken"},
     "transformers has none to load, vLLM and SGLang stop at the start"},
    {"preprocessor",
     {PREPROCESSOR_NAME, PROCESSOR_NAME},
     "transformers, vLLM and SGLang raise where they take in images or sound"},
};

/* What may be missing where another file is there: transformers 5 saves all
 * in one. The PROCESSOR_NAME of transformers 4 (read in 4.57.3,
 * processing_utils.py) has a class and what it was made with, unless told to
 * save all in one, so it must have one of the members. */
static const struct stand_in {
    const char *path, *by;
    const char *members[3];
} stand_ins[] = {
    {"vocab.json", "tokenizer.json", {NULL}},
    {"vocab.txt", "tokenizer.json", {NULL}},
    {"merges.txt", "tokenizer.json", {NULL}},
    {"added_tokens.json", "tokenizer.json", {NULL}},
    {"special_tokens_map.json", "tokenizer_config.json", {NULL}},
    {PREPROCESSOR_NAME,
     PROCESSOR_NAME,
     {"image_processor", "video_processor", "feature_extractor"}},
    {"video_preprocessor_config.json", PROCESSOR_NAME, {"video_processor"}},
    {"chat_template.json", "chat_template.jinja", {NULL}},
};

/* What a file is for; NULL: not known, though loaders may read it. */
static const char *effect_of(const char *path)
{
    static const struct effect {
        const char *pattern, *text;
    } effects[] = {
        {"generation_config.json",
         "vLLM and SGLang take how to sample and where to end from it"},
        {"chat_template*", "prompts are made by it"},
        {"additional_chat_templates/*", "prompts are made by it"},
        {"*.py", "code that loaders run where they are told to trust it"},
        {"adapter_config.json",
         "transformers then loads the adapter that it names"},
        {"token*", "text becomes tokens by it"},
        {"*.model", "text becomes tokens by it"},
        {"vocab*", "text becomes tokens by it"},
        {"merges.txt", "text becomes tokens by it"},
        {"added_tokens.json", "text becomes tokens by it"},
        {"special_tokens_map.json", "text becomes tokens by it"},
        {"tekken.json", "text becomes tokens by it"},
        {"*.tiktoken", "text becomes tokens by it"},
        {"*" PREPROCESSOR_NAME, "inputs are prepared by it"},
        {PROCESSOR_NAME, "inputs are prepared by it"},
    };

    for (size_t i = 0; i < sizeof effects / sizeof *effects; i++) {
        if (f8_glob_match(effects[i].pattern, path))
            return effects[i].text;
    }
    return NULL;
}

/* ---- lists ----------------------------------------------------------------
 */

/* The file of that name that quantize would carry over, or NULL. */
static const f8_side_file *find_file(const f8_side_files *list,
                                     const char *path)
{
    const f8_side_file *found = f8_side_files_find(list, path);

    return found && found->carried ? found : NULL;
}

/* The source is meant to have it, even where that cannot be read. */
static bool is_meant(const f8_side_files *list, const char *path)
{
    const f8_side_file *found = f8_side_files_find(list, path);

    return found && (found->carried || found->unread);
}

/* Why the result has no file of that name. */
static const char *absence(const comparison *c, const char *path)
{
    return f8_side_files_find(&c->ours, path) ? "no plain file" : "missing";
}

static const char *find_any(const f8_side_files *list, bool with_unread,
                            const char *const *patterns)
{
    for (size_t i = 0; i < list->count; i++) {
        const f8_side_file *file = &list->items[i];
        if ((file->carried || (with_unread && file->unread)) &&
            !strchr(file->path, '/') && matches_any(patterns, file->path))
            return file->path;
    }
    return NULL;
}

/* What one odd file or folder keeps from being read, as a link to nowhere, is
 * told and ends nothing: the weights are still to be verified. */
static f8_status tell_odd(comparison *c, f8_status status, const f8_error *why,
                          const char *so)
{
    if (status == F8_ERR_IO || status == F8_ERR_REFUSED)
        return f8_problem(&c->findings->warnings, c->err, "%s%s", why->message,
                          so);
    if (status != F8_OK && c->err)
        *c->err = *why;
    return status;
}

/* What was found on the way; what ended the listing is told already. */
static f8_status tell_unread(comparison *c, const f8_side_files *list,
                             const f8_error *why)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < list->count && status == F8_OK; i++) {
        const char *unread = list->items[i].unread;
        if (unread && strcmp(unread, why->message) != 0)
            status = f8_problem(&c->findings->warnings, c->err, "%s", unread);
    }
    return status;
}

/* Of a folder that could not be listed, which is told: what can be known of it
 * without. */
static f8_status list_known(comparison *c, const f8_checkpoint *cp,
                            f8_status failure, const f8_error *why,
                            const char *so, const f8_side_files *other,
                            f8_side_files *list)
{
    if (failure == F8_OK)
        return F8_OK;
    f8_status status = tell_odd(c, failure, why, so);
    if (status == F8_OK)
        status = f8_side_files_list_known(cp, other, list, c->err);
    return status == F8_OK ? tell_unread(c, list, why) : status;
}

static f8_status list_both(comparison *c)
{
    f8_error of_source = {.status = F8_OK}, of_result = of_source;
    const char *so = "; so no files in folders are looked at";

    f8_status theirs = f8_side_files_list(c->source, &c->theirs, &of_source);
    f8_status ours = f8_side_files_list(c->result, &c->ours, &of_result);
    bool is_one = theirs == F8_OK || ours == F8_OK;
    /* What was listed by then is any part of it. */
    if (theirs != F8_OK)
        f8_side_files_free(&c->theirs);
    if (ours != F8_OK)
        f8_side_files_free(&c->ours);
    f8_status status = list_known(
        c, c->source, theirs, &of_source,
        is_one ? "; so of files in folders only those that the result has "
                 "are looked at"
               : so,
        &c->ours, &c->theirs);
    if (status == F8_OK)
        status = list_known(
            c, c->result, ours, &of_result,
            is_one ? "; so of files in folders only those that the source "
                     "has are looked at"
                   : so,
            &c->theirs, &c->ours);
    return status;
}

/* ---- bytes ----------------------------------------------------------------
 */

/* A file that both have, and that can be the same. */
static bool is_compared(const comparison *c, const f8_side_file *file)
{
    const f8_side_file *ours =
        file->carried ? find_file(&c->ours, file->path) : NULL;

    return ours && ours->bytes == file->bytes;
}

static void add_bytes(comparison *c)
{
    for (size_t i = 0; i < c->theirs.count; i++) {
        /* Holes may claim any size; this is for progress alone. */
        if (is_compared(c, &c->theirs.items[i]) &&
            (!f8_add_u64(c->bytes_total, c->theirs.items[i].bytes,
                         &c->bytes_total) ||
             c->bytes_total > F8_DATA_MAX_BYTES))
            c->bytes_total = F8_DATA_MAX_BYTES;
    }
}

/* By now a file may be longer than it was listed. */
static bool keep_going(void *ctx, uint64_t bytes)
{
    const comparison *c = ctx;
    uint64_t done = c->bytes_done + bytes;

    return c->told(c->ctx, done < c->bytes_total ? done : c->bytes_total,
                   c->bytes_total);
}

static f8_status compare_file(comparison *c, const char *path, bool *same,
                              f8_error *err)
{
    const f8_checkpoint *const sides[2] = {c->source, c->result};
    const f8_watch watch = {keep_going, c};
    int fds[2] = {-1, -1};
    char *paths[2] = {NULL, NULL};
    uint64_t bytes[2] = {0, 0};
    f8_status status = F8_OK;

    for (int i = 0; i < 2 && status == F8_OK; i++) {
        paths[i] = f8_path_join(sides[i]->dir, path);
        status = paths[i] ? f8_folder_open_file(&sides[i]->folder, path,
                                                &fds[i], &bytes[i], NULL, err)
                          : f8_fail_nomem(err, "a path");
    }
    *same = status == F8_OK && bytes[0] == bytes[1];
    if (*same)
        status = f8_compare_files(fds, (const char *const *)paths, bytes[0],
                                  &watch, same, err);
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        free(paths[i]);
    }
    return status;
}

/* ---- what is told ---------------------------------------------------------
 */

static f8_status tell(comparison *c, const char *path, const char *what)
{
    const char *effect = effect_of(path);

    if (is_read(path))
        return f8_problem(
            &c->findings->warnings, c->err, "%s: %s; %s", path, what,
            effect ? effect : "loaders, or the model's own code, may read it");
    if (c->papers++ == 0)
        c->first_paper = path;
    return F8_OK;
}

static f8_status read_processor(comparison *c)
{
    enum { MAX_BYTES = 4 << 20 };
    f8_buf text = {0};
    f8_error odd;

    if (!find_file(&c->ours, PROCESSOR_NAME))
        return F8_OK;
    f8_status status = f8_folder_read_file(&c->result->folder, PROCESSOR_NAME,
                                           MAX_BYTES, &text, &odd);
    if (status == F8_OK)
        status = f8_json_object(&text, PROCESSOR_NAME, &c->processor, &odd);
    f8_buf_free(&text);
    /* One that cannot be read has no members. */
    return status == F8_ERR_NOMEM ? tell_odd(c, status, &odd, "") : F8_OK;
}

/* The file of the result that takes the place of one that is missing. */
static const char *find_stand_in(const comparison *c, const char *path)
{
    for (size_t i = 0; i < sizeof stand_ins / sizeof *stand_ins; i++) {
        const struct stand_in *s = &stand_ins[i];
        bool has = !s->members[0];
        if (strcmp(s->path, path) != 0 || !find_file(&c->ours, s->by))
            continue;
        for (size_t k = 0; k < 3 && s->members[k]; k++)
            has = has || json_object_get(c->processor, s->members[k]);
        if (has)
            return s->by;
    }
    return NULL;
}

/* PREPROCESSOR_NAME comes first of all that would do: where PROCESSOR_NAME is
 * found, it is alone. */
static bool is_met(const comparison *c, const struct need *need)
{
    const char *found = find_any(&c->ours, false, need->patterns);

    return found && (strcmp(found, PROCESSOR_NAME) != 0 ||
                     !is_meant(&c->theirs, PREPROCESSOR_NAME) ||
                     find_stand_in(c, PREPROCESSOR_NAME));
}

static f8_status check_needs(comparison *c)
{
    f8_status status = read_processor(c);

    for (size_t i = 0; i < NEEDS; i++) {
        /* One that cannot be read is one still: a source has what it needs. */
        const char *path = find_any(&c->theirs, true, needs[i].patterns);
        c->unmet[i] = path && !is_met(c, &needs[i]);
        if (status == F8_OK && c->unmet[i])
            status =
                f8_problem(&c->findings->faults, c->err,
                           "%s: %s, and no other %s is there; %s", path,
                           absence(c, path), needs[i].what, needs[i].otherwise);
    }
    return status;
}

/* Whether it is one of a need that the result does not meet. */
static bool is_needed(const comparison *c, const char *path)
{
    for (size_t i = 0; i < NEEDS; i++) {
        if (c->unmet[i] && !strchr(path, '/') &&
            matches_any(needs[i].patterns, path))
            return true;
    }
    return false;
}

/* The file that a class of auto_map is in: "configuration_x.XConfig" in
 * configuration_x.py. One in another repository has "--" in its name. */
static f8_status name_code(comparison *c, const json_t *class)
{
    const char *name = json_string_value(class);
    const char *dot = name ? strrchr(name, '.') : NULL;
    f8_buf file = {0};

    if (!dot)
        return F8_OK;
    f8_buf_printf(&file, "%.*s.py", (int)(dot - name), name);
    bool done = !file.failed &&
                json_object_set_new(c->code, file.data, json_true()) == 0;
    f8_buf_free(&file);
    return done ? F8_OK : f8_fail_nomem(c->err, "the names of code");
}

static f8_status list_code(comparison *c)
{
    json_t *map = json_object_get(c->result->config, "auto_map"), *value;
    f8_status status = F8_OK;
    const char *key;

    c->code = json_object();
    if (!c->code)
        return f8_fail_nomem(c->err, "the names of code");
    json_object_foreach(map, key, value)
    {
        if (status == F8_OK)
            status = name_code(c, value);
        for (size_t i = 0; i < json_array_size(value) && status == F8_OK; i++)
            status = name_code(c, json_array_get(value, i));
    }
    return status;
}

static f8_status tell_missing(comparison *c, const char *path)
{
    if (is_needed(c, path))
        return F8_OK;
    const char *by = find_stand_in(c, path);
    if (by)
        return f8_problem(&c->findings->notes, c->err,
                          "%s: %s; %s takes its place", path, absence(c, path),
                          by);
    if (json_object_get(c->code, path))
        return f8_problem(&c->findings->faults, c->err,
                          "%s: %s, but auto_map of %s names it; loaders "
                          "that run the model's own code raise",
                          path, absence(c, path), F8_CONFIG_NAME);
    return tell(c, path, absence(c, path));
}

/* One of the source that cannot be read, which is told. What the result must
 * have it must have all the same. */
static f8_status check_unread(comparison *c, const char *path)
{
    return json_object_get(c->code, path) && !find_file(&c->ours, path)
               ? tell_missing(c, path)
               : F8_OK;
}

/* One of the source that quantize would carry over. */
static f8_status check_file(comparison *c, const f8_side_file *file)
{
    f8_error odd;
    bool same;

    if (!find_file(&c->ours, file->path))
        return tell_missing(c, file->path);
    f8_status status = compare_file(c, file->path, &same, &odd);
    if (status != F8_OK)
        return tell_odd(c, status, &odd, "");
    return same ? F8_OK : tell(c, file->path, "not as in the source");
}

static f8_status check_carried(comparison *c)
{
    f8_status status = F8_OK;

    add_bytes(c);
    for (size_t i = 0; i < c->theirs.count && status == F8_OK; i++) {
        const f8_side_file *file = &c->theirs.items[i];
        uint64_t bytes = is_compared(c, file) ? file->bytes : 0;
        if (file->carried)
            status = check_file(c, file);
        else if (file->unread)
            status = check_unread(c, file->path);
        /* Nothing of it is carried over, or compared. */
        else if (!file->regular)
            status = tell(c, file->path, "no plain file in the source");
        c->bytes_done += bytes;
    }
    return status;
}

static f8_status check_files(comparison *c)
{
    f8_status status = check_carried(c);

    for (size_t i = 0; i < c->ours.count && status == F8_OK; i++) {
        const f8_side_file *file = &c->ours.items[i];
        bool is_odd = !file->regular && !file->unread;
        if ((file->carried || is_odd) && is_read(file->path) &&
            effect_of(file->path) &&
            !f8_side_files_find(&c->theirs, file->path))
            status = tell(c, file->path, "not in the source");
    }
    if (c->papers == 1 && status == F8_OK)
        status = f8_problem(&c->findings->notes, c->err,
                            "%s: missing or not as in the source; no loader "
                            "opens it",
                            c->first_paper);
    if (c->papers > 1 && status == F8_OK)
        status = f8_problem(&c->findings->notes, c->err,
                            "%s: missing or not as in the source, like %llu "
                            "more that no loader opens",
                            c->first_paper, (unsigned long long)c->papers - 1);
    return status;
}

/* A file is told of before its last bytes are compared; there may be nothing
 * else to verify. */
static f8_status end_progress(comparison *c)
{
    return keep_going(c, 0) ? F8_OK
                            : f8_fail(c->err, F8_ERR_CANCELLED, "stopped");
}

/* A file that has an engine read the weights in another way. */
static f8_status check_rivals(comparison *c)
{
    const f8_side_file *rival = f8_side_files_find(&c->ours, F8_RIVAL_NAME);

    if (!rival || !rival->regular)
        return F8_OK;
    return f8_problem(&c->findings->faults, c->err,
                      "%s: SGLang reads it in place of quantization_config, "
                      "and takes the weights for ModelSlim's",
                      F8_RIVAL_NAME);
}

/* ---- metadata -------------------------------------------------------------
 */

/* Of the shards of one kind: how many, and the first of them. */
typedef struct shard_count {
    uint64_t count;
    const f8_shard_file *first;
} shard_count;

static void count_shard(shard_count *of, const f8_shard_file *file)
{
    if (of->count++ == 0)
        of->first = file;
}

/* What transformers 4 makes of __metadata__. Read in its 4.57.3, and in 4.49.0,
 * the first with FP8 blockwise (modeling_utils.py: load_state_dict for every
 * shard, from_pretrained for a file without an index, which model.safetensors
 * is to it); no other loader looks. */
typedef enum metadata_kind {
    METADATA_GOOD,
    METADATA_NONE,  /* taken for "pt"; 4.44.2 raised, without FP8 blockwise */
    METADATA_OTHER, /* taken for "pt" all the same */
    METADATA_ALIEN, /* loaded in another framework's way */
    METADATA_WRONG, /* raises */
    METADATA_KINDS
} metadata_kind;

static metadata_kind kind_of(const f8_shard_file *file)
{
    const char *format = file->head.format;
    bool is_alien = !strcmp(format, "tf") || !strcmp(format, "flax");

    if (!file->head.has_metadata)
        return METADATA_NONE;
    if (!strcmp(format, "pt"))
        return METADATA_GOOD;
    if (is_alien && !strcmp(file->name, F8_SINGLE_NAME))
        return METADATA_ALIEN;
    return is_alien || !strcmp(format, "mlx") ? METADATA_OTHER : METADATA_WRONG;
}

static f8_status tell_metadata(comparison *c, metadata_kind kind,
                               const shard_count *of)
{
    static const char *const then[METADATA_KINDS] = {
        [METADATA_OTHER] = "transformers 4 takes it for pt",
        [METADATA_ALIEN] = "transformers 4 takes it for another framework's",
        [METADATA_WRONG] = "transformers 4 raises"};
    const char *format = of->count > 0 ? of->first->head.format : "";

    if (of->count == 0 || kind == METADATA_GOOD)
        return F8_OK;
    if (kind == METADATA_NONE)
        return f8_problem(&c->findings->notes, c->err,
                          "%s: no __metadata__, in %llu of %u shards; early "
                          "releases of transformers 4 raise, without FP8 "
                          "blockwise themselves",
                          of->first->name, (unsigned long long)of->count,
                          c->result->files_count);
    return f8_problem(
        kind == METADATA_OTHER ? &c->findings->notes : &c->findings->warnings,
        c->err,
        "%s: __metadata__: expected \"format\": \"pt\", found %s, in %llu of "
        "%u shards; %s",
        of->first->name,
        /* The head keeps one byte more, which shows that there is more. */
        *format ? f8_show(format, F8_FORMAT_MAX_BYTES).text : "none",
        (unsigned long long)of->count, c->result->files_count, then[kind]);
}

static f8_status check_metadata(comparison *c)
{
    shard_count counts[METADATA_KINDS] = {0};
    f8_status status = F8_OK;

    for (uint32_t i = 0; i < c->result->files_count; i++) {
        const f8_shard_file *file = &c->result->files[i];
        if (file->head.hash) /* else it could not be read: a fault already */
            count_shard(&counts[kind_of(file)], file);
    }
    for (int kind = 0; kind < METADATA_KINDS && status == F8_OK; kind++)
        status = tell_metadata(c, (metadata_kind)kind, &counts[kind]);
    return status;
}

/* ---- all ------------------------------------------------------------------
 */

f8_status f8_companions_check(const f8_checkpoint *source,
                              const f8_checkpoint *result,
                              f8_companions_told *told, void *ctx,
                              f8_findings *findings, f8_error *err)
{
    comparison c = {.source = source,
                    .result = result,
                    .findings = findings,
                    .err = err,
                    .told = told,
                    .ctx = ctx};

    f8_status status = list_both(&c);
    if (status == F8_OK)
        status = check_metadata(&c);
    if (status == F8_OK)
        status = check_needs(&c);
    if (status == F8_OK)
        status = list_code(&c);
    if (status == F8_OK)
        status = check_rivals(&c);
    if (status == F8_OK)
        status = check_files(&c);
    if (status == F8_OK)
        status = end_progress(&c);
    f8_side_files_free(&c.theirs);
    f8_side_files_free(&c.ours);
    json_decref(c.processor);
    json_decref(c.code);
    return status;
}
