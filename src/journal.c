/* journal.c - the files under .fp8cast/ that outlive a run. See journal.h. */
#include "journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOURNAL_MAX_BYTES UINT64_C(64000000)

/* ---- small JSON files ---------------------------------------------------- */

static f8_status load(const char *path, json_t **out, f8_error *err)
{
    f8_buf text = {0};
    json_error_t why = {.line = 0};

    *out = NULL;
    f8_status status = f8_read_file(path, JOURNAL_MAX_BYTES, &text, err);
    if (status == F8_OK) {
        *out = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, &why);
        /* jansson gives no code to most allocations that fail. (Inside a
         * string it calls them bad syntax, which cannot be helped.) */
        if (!*out && (json_error_code(&why) == json_error_unknown ||
                      json_error_code(&why) == json_error_out_of_memory))
            status = f8_fail_nomem(err, path);
        else if (!*out)
            status = f8_fail(err, F8_ERR_FORMAT, "%s: not valid JSON", path);
    }
    f8_buf_free(&text);
    return status;
}

static int append(const char *bytes, size_t n, void *text)
{
    f8_buf_append(text, bytes, n);
    return 0;
}

/* Not with json_dumps, which goes on when a key found no memory: the buffer
 * remembers. */
static f8_status store(const char *path, const json_t *value, f8_error *err)
{
    f8_status status = F8_ERR_NOMEM;
    f8_buf temporary = {0}, text = {0};
    int result = json_dump_callback(value, append, &text, JSON_COMPACT);

    f8_buf_printf(&temporary, "%s.part", path);
    if (result != 0 || text.failed || temporary.failed)
        f8_fail_nomem(err, path);
    else
        status =
            f8_write_file(temporary.data, path, text.data, text.length, err);
    f8_buf_free(&temporary);
    f8_buf_free(&text);
    return status;
}

/* ---- the journal --------------------------------------------------------- */

static json_t *hash_value(uint64_t hash)
{
    char text[17];

    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return json_string(text);
}

static bool has_hash(const json_t *object, const char *key, uint64_t hash)
{
    char text[17];
    const char *stored = json_string_value(json_object_get(object, key));

    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return stored && !strcmp(stored, text);
}

f8_status f8_journal_read(const char *work_dir, f8_journal *journal,
                          f8_error *err)
{
    memset(journal, 0, sizeof *journal);
    journal->path = f8_path_join(work_dir, "journal.json");
    if (!journal->path)
        return f8_fail_nomem(err, "a path");
    if (access(journal->path, F_OK) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return F8_OK;
        return f8_fail_errno(err, errno, "%s: cannot stat", journal->path);
    }
    return load(journal->path, &journal->stored, err);
}

void f8_journal_free(f8_journal *journal)
{
    free(journal->path);
    json_decref(journal->stored);
    memset(journal, 0, sizeof *journal);
}

bool f8_journal_matches(const f8_journal *journal, const f8_plan *plan,
                        const char **why)
{
    const json_t *format = json_object_get(journal->stored, "result_format");

    if (json_integer_value(format) != F8_RESULT_FORMAT)
        *why = "another version of fp8cast";
    else if (!has_hash(journal->stored, "source", plan->source_fingerprint))
        *why = "another source";
    else if (!has_hash(journal->stored, "plan", plan->fingerprint))
        *why = "other options";
    else
        return true;
    return false;
}

bool f8_journal_lists(const f8_journal *journal, const char *path)
{
    const json_t *files = json_object_get(journal->stored, "files");

    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *name = json_string_value(json_array_get(files, i));
        if (name && !strcmp(name, path))
            return true;
    }
    return false;
}

/* The names of all files that the plan will write. */
static json_t *list_files(const f8_plan *plan)
{
    json_t *files = json_array();
    bool good = files != NULL;

    for (uint64_t i = 0; i < plan->shards_count && good; i++)
        good = !json_array_append_new(files, json_string(plan->shards[i].name));
    for (size_t i = 0; i < plan->sides.count && good; i++) {
        if (plan->sides.items[i].carried)
            good = !json_array_append_new(
                files, json_string(plan->sides.items[i].path));
    }
    if (good && f8_plan_has_index(plan))
        good = !json_array_append_new(files, json_string(F8_INDEX_NAME));
    good = good && !json_array_append_new(files, json_string(F8_CONFIG_NAME));
    if (good)
        return files;
    json_decref(files);
    return NULL;
}

f8_status f8_journal_begin(const f8_journal *stored, const f8_plan *plan,
                           f8_error *err)
{
    f8_status status = F8_OK;
    json_t *files = list_files(plan);
    json_t *journal =
        files ? json_pack("{s:s, s:i, s:o, s:o, s:O}", "fp8cast", F8_VERSION,
                          "result_format", F8_RESULT_FORMAT, "source",
                          hash_value(plan->source_fingerprint), "plan",
                          hash_value(plan->fingerprint), "files", files)
              : NULL;

    if (!journal)
        status = f8_fail_nomem(err, "the journal");
    else if (!json_equal(journal, stored->stored))
        status = store(stored->path, journal, err);
    json_decref(journal);
    json_decref(files);
    return status;
}

/* ---- measurements of a shard --------------------------------------------- */

static char *shard_path(const char *work_dir, uint64_t shard)
{
    char name[48];

    snprintf(name, sizeof name, "shard-%05llu.json",
             (unsigned long long)shard + 1);
    return f8_path_join(work_dir, name);
}

/* binary64 in 17 digits comes back bit for bit. */
static json_t *sums_value(const f8_sums *s)
{
    return json_pack("[fffff]", s->w2, s->e2, s->wv, s->v2, s->max_abs);
}

static bool read_sums(const json_t *value, f8_sums *s)
{
    double *to[] = {&s->w2, &s->e2, &s->wv, &s->v2, &s->max_abs};

    for (size_t i = 0; i < 5; i++) {
        const json_t *number = json_array_get(value, i);
        if (!json_is_number(number))
            return false;
        *to[i] = json_number_value(number);
    }
    return true;
}

static bool read_count(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static json_t *kind_value(const f8_stats *s)
{
    json_t *hist = json_array();
    bool good = hist != NULL;

    for (int i = 0; good && i < F8_HIST_BINS; i++)
        good =
            !json_array_append_new(hist, json_integer((json_int_t)s->hist[i]));
    if (!good) {
        json_decref(hist);
        return NULL;
    }
    return json_pack("{s:I, s:I, s:I, s:o, s:o}", "tensors",
                     (json_int_t)s->tensors, "elements", (json_int_t)s->elems,
                     "blocks", (json_int_t)s->blocks, "sums",
                     sums_value(&s->sums), "histogram", hist);
}

static bool read_kind(const json_t *value, f8_stats *s)
{
    const json_t *hist = json_object_get(value, "histogram");

    if (!read_count(json_object_get(value, "tensors"), &s->tensors) ||
        !read_count(json_object_get(value, "elements"), &s->elems) ||
        !read_count(json_object_get(value, "blocks"), &s->blocks) ||
        !read_sums(json_object_get(value, "sums"), &s->sums) ||
        json_array_size(hist) != F8_HIST_BINS)
        return false;
    for (size_t i = 0; i < F8_HIST_BINS; i++) {
        if (!read_count(json_array_get(hist, i), &s->hist[i]))
            return false;
    }
    return true;
}

static json_t *worst_value(const f8_worst *w)
{
    return json_pack("{s:I, s:I, s:I, s:o}", "unit", (json_int_t)w->unit,
                     "elements", (json_int_t)w->elems, "blocks",
                     (json_int_t)w->blocks, "sums", sums_value(&w->sums));
}

static bool read_worst(const json_t *value, const f8_plan *plan, f8_worst *w)
{
    return read_count(json_object_get(value, "unit"), &w->unit) &&
           w->unit < plan->units_count &&
           read_count(json_object_get(value, "elements"), &w->elems) &&
           read_count(json_object_get(value, "blocks"), &w->blocks) &&
           read_sums(json_object_get(value, "sums"), &w->sums);
}

f8_status f8_journal_put_shard(const char *work_dir, const f8_plan *plan,
                               uint64_t shard, const f8_tally *tally,
                               f8_error *err)
{
    f8_status status = F8_ERR_NOMEM;
    char *path = shard_path(work_dir, shard);
    json_t *kinds = json_array(), *worst = json_array();
    bool good = kinds && worst;

    for (size_t i = 0; i < tally->kinds_count && good; i++)
        good = !json_array_append_new(kinds, kind_value(&tally->kinds[i]));
    for (size_t i = 0; i < tally->worst_count && good; i++)
        good = !json_array_append_new(worst, worst_value(&tally->worst[i]));
    json_t *value =
        json_pack("{s:o, s:O, s:O}", "plan", hash_value(plan->fingerprint),
                  "kinds", kinds, "worst", worst);
    if (!good || !value || !path)
        f8_fail_nomem(err, "the journal");
    else
        status = store(path, value, err);
    json_decref(value);
    json_decref(kinds);
    json_decref(worst);
    free(path);
    return status;
}

static bool read_tally(const json_t *value, const f8_plan *plan,
                       f8_tally *tally)
{
    const json_t *kinds = json_object_get(value, "kinds");
    const json_t *worst = json_object_get(value, "worst");
    size_t worst_count = json_array_size(worst);

    if (json_array_size(kinds) != tally->kinds_count ||
        worst_count > F8_WORST_KEPT)
        return false;
    for (size_t i = 0; i < tally->kinds_count; i++) {
        if (!read_kind(json_array_get(kinds, i), &tally->kinds[i]))
            return false;
    }
    for (size_t i = 0; i < worst_count; i++) {
        if (!read_worst(json_array_get(worst, i), plan, &tally->worst[i]))
            return false;
    }
    tally->worst_count = worst_count;
    return true;
}

f8_status f8_journal_get_shard(const char *work_dir, const f8_plan *plan,
                               uint64_t shard, f8_tally *tally, f8_error *err)
{
    char *path = shard_path(work_dir, shard);
    json_t *value = NULL;
    f8_tally read = {0};
    f8_status status = path && f8_tally_init(&read, plan->kinds_count)
                           ? load(path, &value, err)
                           : f8_fail_nomem(err, "the journal");

    if (status == F8_OK && (!has_hash(value, "plan", plan->fingerprint) ||
                            !read_tally(value, plan, &read)))
        status = f8_fail(err, F8_ERR_FORMAT,
                         "%s: expected measurements of this conversion, found "
                         "others",
                         path);
    if (status == F8_OK && tally)
        f8_tally_add(tally, &read);
    f8_tally_free(&read);
    json_decref(value);
    free(path);
    return status;
}
