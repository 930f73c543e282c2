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
    journal->path = f8_path_join(work_dir, F8_JOURNAL_NAME);
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

/* Appends the names of `more` that are not there. */
static bool add_names(json_t *files, const json_t *more)
{
    const f8_journal there = {.stored = json_pack("{s:O}", "files", files)};
    bool good = there.stored != NULL;

    for (size_t i = 0; i < json_array_size(more) && good; i++) {
        json_t *name = json_array_get(more, i);
        if (json_is_string(name) &&
            !f8_journal_lists(&there, json_string_value(name)))
            good = !json_array_append(files, name);
    }
    json_decref(there.stored);
    return good;
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
                           bool keep_names, f8_error *err)
{
    f8_status status = F8_OK;
    json_t *files = list_files(plan);
    bool named =
        files && (!keep_names ||
                  add_names(files, json_object_get(stored->stored, "files")));
    json_t *journal =
        named ? json_pack("{s:s, s:i, s:o, s:o, s:O}", "fp8cast", F8_VERSION,
                          "result_format", F8_RESULT_FORMAT, "source",
                          hash_value(plan->source_fingerprint), "plan",
                          hash_value(plan->fingerprint), "files", files)
              : NULL;
    bool good = journal && (plan->direction == F8_FROM_FP8 ||
                            !json_object_set_new(journal, F8_ORIGINAL_KEY,
                                                 f8_json_copy(plan->original)));

    if (!good)
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

enum { WORD_DIGITS = 16, MEASURED_WORDS = 18 };
static const char digits[] = "0123456789abcdef";

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

/* Of all bins few are not empty, where a kind has no weight in a shard none:
 * each of those as two numbers, which one it is and how many it counts. */
static json_t *hist_value(const uint64_t hist[F8_HIST_BINS])
{
    json_t *list = json_array();
    bool good = list != NULL;

    for (int i = 0; good && i < F8_HIST_BINS; i++) {
        if (hist[i] > 0)
            good =
                !json_array_append_new(list, json_integer(i)) &&
                !json_array_append_new(list, json_integer((json_int_t)hist[i]));
    }
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

/* Into a histogram of zeros. Every bin stands there once, in order. */
static bool read_hist(const json_t *list, uint64_t hist[F8_HIST_BINS])
{
    size_t n = json_array_size(list);
    uint64_t bin = 0, least = 0;

    if (!json_is_array(list) || n % 2 != 0)
        return false;
    for (size_t i = 0; i < n; i += 2, least = bin + 1) {
        if (!read_count(json_array_get(list, i), &bin) || bin < least ||
            bin >= F8_HIST_BINS ||
            !read_count(json_array_get(list, i + 1), &hist[bin]) ||
            hist[bin] == 0)
            return false;
    }
    return true;
}

static json_t *stats_value(const f8_stats *s)
{
    json_t *hist = hist_value(s->hist), *seen = json_array();
    bool good = hist && seen;

    for (int i = 0; good && i < 4; i++)
        good = !json_array_append_new(seen, hash_value(s->seen.bits[i]));
    if (!good) {
        json_decref(hist);
        json_decref(seen);
        return NULL;
    }
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o}", "tensors",
                     (json_int_t)s->tensors, "elements", (json_int_t)s->elems,
                     "blocks", (json_int_t)s->blocks, "sums",
                     sums_value(&s->sums), "histogram", hist, "codes", seen);
}

static bool read_word(const char *text, uint64_t *word)
{
    *word = 0;
    for (int i = 0; i < WORD_DIGITS; i++) {
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
        if (!digit)
            return false;
        *word = *word << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

static bool read_stats(const json_t *value, f8_stats *s)
{
    const json_t *seen = json_object_get(value, "codes");

    if (!read_count(json_object_get(value, "tensors"), &s->tensors) ||
        !read_count(json_object_get(value, "elements"), &s->elems) ||
        !read_count(json_object_get(value, "blocks"), &s->blocks) ||
        !read_sums(json_object_get(value, "sums"), &s->sums) ||
        !read_hist(json_object_get(value, "histogram"), s->hist) ||
        json_array_size(seen) != 4)
        return false;
    for (size_t i = 0; i < 4; i++) {
        const char *word = json_string_value(json_array_get(seen, i));
        if (!word || strlen(word) != WORD_DIGITS ||
            !read_word(word, &s->seen.bits[i]))
            return false;
    }
    return true;
}

/* A tensor's figures are one string of words in hexadecimal, numbers by their
 * bits: as JSON numbers those of thirty thousand tensors would take 25 MB to
 * read. */
static size_t list_words(f8_measured *m, uint64_t *counts[], double *numbers[])
{
    uint64_t *all_counts[] = {
        &m->unit,        &m->zeros,        &m->saturated,
        &m->became_zero, &m->codes_unused, &m->max_at.row,
        &m->max_at.col,  &m->worst_at.row, &m->worst_at.col};
    double *all_numbers[] = {&m->sums.w2, &m->sums.e2,      &m->sums.wv,
                             &m->sums.v2, &m->sums.max_abs, &m->median,
                             &m->p999,    &m->worst_w2,     &m->worst_e2};

    memcpy(counts, all_counts, sizeof all_counts);
    memcpy(numbers, all_numbers, sizeof all_numbers);
    return MEASURED_WORDS / 2;
}

static json_t *measured_value(const f8_measured *measured)
{
    f8_measured m = *measured;
    uint64_t *counts[MEASURED_WORDS / 2], word;
    double *numbers[MEASURED_WORDS / 2];
    char text[MEASURED_WORDS * WORD_DIGITS + 1], *to = text;
    size_t n = list_words(&m, counts, numbers);

    for (size_t i = 0; i < 2 * n; i++) {
        if (i < n)
            word = *counts[i];
        else
            memcpy(&word, numbers[i - n], sizeof word);
        for (int k = WORD_DIGITS; k-- > 0;)
            *to++ = digits[word >> 4 * k & 15];
    }
    *to = '\0';
    return json_string(text);
}

/* Whether figures could be of such a unit; a unit later than the last. */
static bool is_sound(const f8_measured *m, const f8_plan *plan,
                     const f8_tally *tally)
{
    const f8_measured *last = tally->measured_count
                                  ? &tally->measured[tally->measured_count - 1]
                                  : NULL;

    if (m->unit < tally->first_unit ||
        m->unit - tally->first_unit >= tally->units_count ||
        (last && m->unit <= last->unit))
        return false;
    const f8_unit *u = &plan->units[m->unit];
    return u->action == F8_QUANTIZE && m->codes_unused <= 254 &&
           m->max_at.row < f8_unit_rows(u) && m->max_at.col < f8_unit_cols(u) &&
           m->worst_at.row < f8_unit_rows(u) &&
           m->worst_at.col < f8_unit_cols(u);
}

static bool read_measured(const json_t *value, f8_measured *m)
{
    uint64_t *counts[MEASURED_WORDS / 2], word;
    double *numbers[MEASURED_WORDS / 2];
    const char *text = json_string_value(value);
    size_t n = list_words(m, counts, numbers);

    if (!text || strlen(text) != (size_t)MEASURED_WORDS * WORD_DIGITS)
        return false;
    for (size_t i = 0; i < 2 * n; i++, text += WORD_DIGITS) {
        if (!read_word(text, &word))
            return false;
        if (i < n)
            *counts[i] = word;
        else
            memcpy(numbers[i - n], &word, sizeof word);
    }
    return true;
}

static json_t *stats_list(const f8_stats *stats, size_t count)
{
    json_t *list = json_array();
    bool good = list != NULL;

    for (size_t i = 0; i < count && good; i++)
        good = !json_array_append_new(list, stats_value(&stats[i]));
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

static bool read_stats_list(const json_t *list, f8_stats *stats, size_t count)
{
    bool good = json_array_size(list) == count;

    for (size_t i = 0; i < count && good; i++)
        good = read_stats(json_array_get(list, i), &stats[i]);
    return good;
}

f8_status f8_journal_put_shard(const char *work_dir, const f8_plan *plan,
                               uint64_t shard, const f8_tally *tally,
                               f8_error *err)
{
    f8_status status = F8_ERR_NOMEM;
    char *path = shard_path(work_dir, shard);
    json_t *kinds = stats_list(tally->kinds, tally->kinds_count);
    json_t *layers = stats_list(tally->layers, tally->layers_count);
    json_t *measured = json_array();
    bool good = kinds && layers && measured;

    for (size_t i = 0; i < tally->measured_count && good; i++)
        good = !json_array_append_new(measured,
                                      measured_value(&tally->measured[i]));
    json_t *value =
        good ? json_pack("{s:o, s:O, s:O, s:O}", "plan",
                         hash_value(plan->fingerprint), "kinds", kinds,
                         "layers", layers, "measured", measured)
             : NULL;
    if (!value || !path)
        f8_fail_nomem(err, "the journal");
    else
        status = store(path, value, err);
    json_decref(value);
    json_decref(kinds);
    json_decref(layers);
    json_decref(measured);
    free(path);
    return status;
}

static bool read_tally(const json_t *value, const f8_plan *plan,
                       f8_tally *tally)
{
    const json_t *measured = json_object_get(value, "measured");
    size_t count = json_array_size(measured);

    if (!read_stats_list(json_object_get(value, "kinds"), tally->kinds,
                         tally->kinds_count) ||
        !read_stats_list(json_object_get(value, "layers"), tally->layers,
                         tally->layers_count) ||
        count != tally->units_capacity)
        return false;
    for (size_t i = 0; i < count; i++) {
        f8_measured *m = &tally->measured[i];
        if (!read_measured(json_array_get(measured, i), m) ||
            !is_sound(m, plan, tally))
            return false;
        tally->measured_count++;
    }
    return true;
}

f8_status f8_journal_get_shard(const char *work_dir, const f8_plan *plan,
                               uint64_t shard, f8_tally *tally, f8_error *err)
{
    char *path = shard_path(work_dir, shard);
    json_t *value = NULL;
    f8_tally read = {0};
    const f8_shard *s = &plan->shards[shard];
    f8_status status =
        path && f8_tally_init(&read, plan, s->first_unit, s->units_count)
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
