/* companions.c - see companions.h. A result may come from anybody, who may
 * rightly have written another model card, or saved the tokenizer with another
 * program: a file that is not the source's is no fault. But without a
 * tokenizer nobody serves the result, and with another chat template it is not
 * the model that it was. */
#include "companions.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "glob.h"
#include "sidefiles.h"

typedef struct comparison {
    const f8_checkpoint *source, *result;
    f8_side_files theirs, ours; /* of the source, of the result */
    f8_findings *findings;
    f8_error *err;
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
} needs[] = {
    {"tokenizer",
     {"tokenizer.json", "*.model", "vocab.json", "vocab.txt", "tekken.json",
      "*.tiktoken"},
     "transformers has none to load, vLLM and SGLang stop at the start"},
    {"preprocessor",
     {"preprocessor_config.json", "processor_config.json"},
     "transformers, vLLM and SGLang raise where they take in images or sound"},
};

/* What may be missing where another file is there: transformers 5 saves all
 * in one. */
static const struct stand_in {
    const char *path, *by;
} stand_ins[] = {
    {"vocab.json", "tokenizer.json"},
    {"vocab.txt", "tokenizer.json"},
    {"merges.txt", "tokenizer.json"},
    {"added_tokens.json", "tokenizer.json"},
    {"special_tokens_map.json", "tokenizer_config.json"},
    {"preprocessor_config.json", "processor_config.json"},
    {"video_preprocessor_config.json", "processor_config.json"},
    {"chat_template.json", "chat_template.jinja"},
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
        {"*preprocessor_config.json", "inputs are prepared by it"},
        {"processor_config.json", "inputs are prepared by it"},
    };

    for (size_t i = 0; i < sizeof effects / sizeof *effects; i++) {
        if (f8_glob_match(effects[i].pattern, path))
            return effects[i].text;
    }
    return NULL;
}

/* ---- lists ----------------------------------------------------------------
 */

static int by_path(const void *key, const void *file)
{
    return strcmp(key, ((const f8_side_file *)file)->path);
}

/* The file of that name that quantize would carry over, or NULL. */
static const f8_side_file *find_file(const f8_side_files *list,
                                     const char *path)
{
    if (list->count == 0)
        return NULL;
    const f8_side_file *found =
        bsearch(path, list->items, list->count, sizeof *list->items, by_path);
    return found && found->carried ? found : NULL;
}

static const char *find_any(const f8_side_files *list,
                            const char *const *patterns)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].carried && !strchr(list->items[i].path, '/') &&
            matches_any(patterns, list->items[i].path))
            return list->items[i].path;
    }
    return NULL;
}

/* ---- bytes ----------------------------------------------------------------
 */

enum { CHUNK_BYTES = 1 << 16 };

static f8_status compare_open(int fds[2], const char *path, uint64_t bytes,
                              bool *same, f8_error *err)
{
    f8_status status = F8_OK;
    char *a = f8_alloc(2, CHUNK_BYTES);

    if (!a)
        return f8_fail_nomem(err, "the comparison of files");
    char *b = a + CHUNK_BYTES;
    for (uint64_t at = 0; at < bytes && *same && status == F8_OK;) {
        size_t n = bytes - at < CHUNK_BYTES ? (size_t)(bytes - at)
                                            : (size_t)CHUNK_BYTES;
        status = f8_read_at(fds[0], a, n, at, path, err);
        if (status == F8_OK)
            status = f8_read_at(fds[1], b, n, at, path, err);
        *same = status == F8_OK && memcmp(a, b, n) == 0;
        at += n;
    }
    free(a);
    return status;
}

static f8_status compare_file(const comparison *c, const char *path, bool *same)
{
    int fds[2] = {-1, -1};
    uint64_t bytes[2];

    f8_status status = f8_folder_open_file(&c->source->folder, path, &fds[0],
                                           &bytes[0], NULL, c->err);
    if (status == F8_OK)
        status = f8_folder_open_file(&c->result->folder, path, &fds[1],
                                     &bytes[1], NULL, c->err);
    *same = status == F8_OK && bytes[0] == bytes[1];
    if (*same)
        status = compare_open(fds, path, bytes[0], same, c->err);
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
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

/* Whether it is one of a need that the result does not meet: that is told
 * once for all of them. */
static bool is_needed(const comparison *c, const char *path)
{
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        if (!strchr(path, '/') && matches_any(needs[i].patterns, path) &&
            !find_any(&c->ours, needs[i].patterns))
            return true;
    }
    return false;
}

static f8_status check_needs(comparison *c)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        const char *path = find_any(&c->theirs, needs[i].patterns);
        if (status == F8_OK && path && !find_any(&c->ours, needs[i].patterns))
            status = f8_problem(&c->findings->faults, c->err,
                                "%s: missing, and no other %s is there; %s",
                                path, needs[i].what, needs[i].otherwise);
    }
    return status;
}

/* Whether a class of auto_map is code in the file: "configuration_x.XConfig"
 * in configuration_x.py. One in another repository has "--" in its name. */
static bool is_in_file(const json_t *class, const char *path)
{
    const char *name = json_string_value(class);
    const char *dot = name ? strrchr(name, '.') : NULL;
    size_t n = dot ? (size_t)(dot - name) : 0;

    return n > 0 && !strncmp(path, name, n) && !strcmp(path + n, ".py");
}

static bool is_named_code(const comparison *c, const char *path)
{
    json_t *map = json_object_get(c->result->config, "auto_map"), *value;
    const char *key;

    json_object_foreach(map, key, value)
    {
        if (is_in_file(value, path))
            return true;
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (is_in_file(json_array_get(value, i), path))
                return true;
        }
    }
    return false;
}

static f8_status tell_missing(comparison *c, const char *path)
{
    if (is_needed(c, path))
        return F8_OK;
    for (size_t i = 0; i < sizeof stand_ins / sizeof *stand_ins; i++) {
        if (!strcmp(stand_ins[i].path, path) &&
            find_file(&c->ours, stand_ins[i].by))
            return f8_problem(&c->findings->notes, c->err,
                              "%s: missing; %s takes its place", path,
                              stand_ins[i].by);
    }
    if (is_named_code(c, path))
        return f8_problem(&c->findings->faults, c->err,
                          "%s: missing, but auto_map of %s names it; loaders "
                          "that run the model's own code raise",
                          path, F8_CONFIG_NAME);
    return tell(c, path, "missing");
}

static f8_status check_carried(comparison *c)
{
    f8_status status = F8_OK;
    bool same;

    for (size_t i = 0; i < c->theirs.count && status == F8_OK; i++) {
        const char *path = c->theirs.items[i].path;
        if (!c->theirs.items[i].carried)
            continue;
        if (!find_file(&c->ours, path)) {
            status = tell_missing(c, path);
            continue;
        }
        status = compare_file(c, path, &same);
        if (status == F8_OK && !same)
            status = tell(c, path, "not as in the source");
    }
    return status;
}

static f8_status check_files(comparison *c)
{
    f8_status status = check_carried(c);

    for (size_t i = 0; i < c->ours.count && status == F8_OK; i++) {
        const f8_side_file *file = &c->ours.items[i];
        if (file->carried && is_read(file->path) && effect_of(file->path) &&
            !find_file(&c->theirs, file->path))
            status = tell(c, file->path, "not in the source");
    }
    if (c->papers > 0 && status == F8_OK)
        status = f8_problem(&c->findings->notes, c->err,
                            "%s: missing or not as in the source, like %llu "
                            "more that no loader opens",
                            c->first_paper, (unsigned long long)c->papers - 1);
    return status;
}

/* A file that has an engine read the weights in another way. */
static f8_status check_rivals(comparison *c)
{
    static const char rival[] = "quant_model_description.json";

    if (!find_file(&c->ours, rival))
        return F8_OK;
    return f8_problem(&c->findings->faults, c->err,
                      "%s: SGLang reads it in place of quantization_config, "
                      "and takes the weights for ModelSlim's",
                      rival);
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

static f8_status check_metadata(comparison *c)
{
    shard_count none = {0}, other = {0};
    f8_status status = F8_OK;

    for (uint32_t i = 0; i < c->result->files_count; i++) {
        const f8_shard_file *file = &c->result->files[i];
        if (!file->head.hash) /* could not be read: a fault already */
            continue;
        if (!file->head.has_metadata)
            count_shard(&none, file);
        else if (strcmp(file->head.format, "pt") != 0)
            count_shard(&other, file);
    }
    if (other.count > 0)
        status = f8_problem(
            &c->findings->warnings, c->err,
            "%s: __metadata__: expected \"format\": \"pt\", "
            "found %s, in %llu of %u shards; transformers 4 "
            "raises",
            other.first->name,
            *other.first->head.format ? other.first->head.format : "none",
            (unsigned long long)other.count, c->result->files_count);
    if (none.count > 0 && status == F8_OK)
        status = f8_problem(&c->findings->notes, c->err,
                            "%s: no __metadata__, in %llu of %u shards; early "
                            "releases of transformers 4 raise",
                            none.first->name, (unsigned long long)none.count,
                            c->result->files_count);
    return status;
}

/* ---- all ------------------------------------------------------------------
 */

f8_status f8_companions_check(const f8_checkpoint *source,
                              const f8_checkpoint *result,
                              f8_findings *findings, f8_error *err)
{
    comparison c = {
        .source = source, .result = result, .findings = findings, .err = err};

    f8_status status = f8_side_files_list(source, &c.theirs, err);
    if (status == F8_OK)
        status = f8_side_files_list(result, &c.ours, err);
    if (status == F8_OK)
        status = check_metadata(&c);
    if (status == F8_OK)
        status = check_needs(&c);
    if (status == F8_OK)
        status = check_rivals(&c);
    if (status == F8_OK)
        status = check_files(&c);
    f8_side_files_free(&c.theirs);
    f8_side_files_free(&c.ours);
    return status;
}
