/* report_doc.c - reading a report; see report_doc.h. Every getter looks at
 * r->failed first and does nothing then, so that a list of members reads as
 * one; the first thing that is wrong is what gets told. */
#include "report_doc.h"
#include "message.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRING_BYTES_MAX 4096
#define CARD_BYTES_MAX (F8_CARD_BYTES - 1)
#define GROUPS_MAX 4096
#define CELLS_MAX ((size_t)1 << 18)
#define TENSORS_MAX ((size_t)1 << 20)
#define BINS_MAX 65536
#define WORST_MAX 20
#define REMARKS_MAX 100

typedef struct reader {
    const char *path;
    char *problem;
    bool failed;
    const char *section; /* member of the root that is being read, or NULL */
    size_t index;        /* in it; SIZE_MAX when it is no array            */
    const char *part;    /* member of that, or NULL                        */
} reader;

/* ---- what is wrong ------------------------------------------------------- */

static const char *type_name(const json_t *value)
{
    if (!value)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a truth value";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* "tensors[12].worst_block.at" */
static void describe_place(const reader *r, const char *key, char place[160])
{
    char index[32] = "";
    if (r->section && r->index != SIZE_MAX)
        snprintf(index, sizeof index, "[%zu]", r->index);
    snprintf(place, 160, "%s%s%s%s%s%s%s", r->section ? r->section : "", index,
             r->section && (r->part || key) ? "." : "", r->part ? r->part : "",
             r->part && key ? "." : "", key ? key : "",
             r->section || key ? "" : "the file");
}

__attribute__((format(printf, 3, 4))) static void fail(reader *r,
                                                       const char *key,
                                                       const char *format, ...)
{
    char place[160], sentence[512];
    va_list list;
    if (r->failed)
        return;
    va_start(list, format);
    vsnprintf(sentence, sizeof sentence, format, list);
    va_end(list);
    describe_place(r, key, place);
    snprintf(r->problem, PROBLEM_BYTES, "%.300s: %s: %s", r->path, place,
             sentence);
    r->failed = true;
}

static void expected(reader *r, const char *key, const char *what,
                     const json_t *found)
{
    if (json_is_integer(found))
        fail(r, key, "expected %s, found %" JSON_INTEGER_FORMAT, what,
             json_integer_value(found));
    else if (json_is_real(found))
        fail(r, key, "expected %s, found %g", what, json_real_value(found));
    else
        fail(r, key, "expected %s, found %s", what, type_name(found));
}

/* ---- members ------------------------------------------------------------- */

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count > 0 ? count : 1, bytes);
    if (!memory)
        message_no_memory();
    return memory;
}

static const json_t *get_object(reader *r, const json_t *from, const char *key)
{
    const json_t *value = json_object_get(from, key);
    if (!r->failed && !json_is_object(value))
        expected(r, key, "an object", value);
    return r->failed ? NULL : value;
}

/* The array, of no more than `most` entries; its length in *count. */
static const json_t *get_array(reader *r, const json_t *from, const char *key,
                               size_t most, size_t *count)
{
    const json_t *value = json_object_get(from, key);
    *count = 0;
    if (!r->failed && !json_is_array(value))
        expected(r, key, "an array", value);
    if (!r->failed && json_array_size(value) > most)
        fail(r, key, "expected %zu entries at most, found %zu", most,
             json_array_size(value));
    if (r->failed)
        return NULL;
    *count = json_array_size(value);
    return value;
}

static uint64_t as_count(reader *r, const char *key, const json_t *value,
                         uint64_t most)
{
    if (r->failed)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        expected(r, key, "a whole number of 0 or more", value);
    else if ((uint64_t)json_integer_value(value) > most)
        fail(r, key, "expected %" PRIu64 " at most, found %" PRIu64, most,
             (uint64_t)json_integer_value(value));
    return r->failed ? 0 : (uint64_t)json_integer_value(value);
}

static uint64_t get_count(reader *r, const json_t *from, const char *key)
{
    return as_count(r, key, json_object_get(from, key), UINT64_MAX);
}

/* An index into an array of `count` entries. */
static size_t get_index(reader *r, const json_t *from, const char *key,
                        size_t count)
{
    const json_t *value = json_object_get(from, key);
    uint64_t index = as_count(r, key, value, UINT64_MAX);
    if (!r->failed && index >= count)
        fail(r, key, "%" PRIu64 " is none of %zu entries", index, count);
    return r->failed ? 0 : (size_t)index;
}

static double get_real(reader *r, const json_t *from, const char *key,
                       double least, double most)
{
    const json_t *value = json_object_get(from, key);
    double number = json_number_value(value);
    if (!r->failed &&
        (!json_is_number(value) || !(number >= least && number <= most))) {
        char what[64];
        if (most == DBL_MAX)
            snprintf(what, sizeof what, "a number of %g or more", least);
        else
            snprintf(what, sizeof what, "a number from %g to %g", least, most);
        expected(r, key, what, value);
    }
    return r->failed ? 0 : number;
}

static double get_real_or_null(reader *r, const json_t *from, const char *key,
                               double least, double most)
{
    if (json_is_null(json_object_get(from, key)))
        return (double)NAN;
    return get_real(r, from, key, least, most);
}

/* Whoever scales made that way measured it: only the sign is beyond doubt. */
static double get_ratio(reader *r, const json_t *from, const char *key)
{
    return get_real_or_null(r, from, key, 0, DBL_MAX);
}

/* null is infinite: a block of zeros that came out as something else. */
static double get_rms(reader *r, const json_t *from)
{
    double rms = get_ratio(r, from, "relative_rms");
    return isnan(rms) ? (double)INFINITY : rms;
}

static const char *as_string(reader *r, const char *key, const json_t *value,
                             size_t most)
{
    if (r->failed)
        return "";
    if (!json_is_string(value))
        expected(r, key, "a string", value);
    else if (json_string_length(value) > most)
        fail(r, key, "expected %zu bytes at most, found %zu", most,
             json_string_length(value));
    return r->failed ? "" : json_string_value(value);
}

static const char *get_string(reader *r, const json_t *from, const char *key)
{
    return as_string(r, key, json_object_get(from, key), STRING_BYTES_MAX);
}

static const char *get_string_or_null(reader *r, const json_t *from,
                                      const char *key, size_t most)
{
    const json_t *value = json_object_get(from, key);
    return json_is_null(value) ? NULL : as_string(r, key, value, most);
}

/* One of the words, of which the last is NULL. */
static const char *as_choice(reader *r, const char *key, const char *found,
                             const char *const *words, const char *what)
{
    for (size_t i = 0; !r->failed && words[i]; i++) {
        if (strcmp(words[i], found) == 0)
            return found;
    }
    fail(r, key, "expected %s, found '%.80s'", what, found);
    return words[0];
}

/* [row, column], both less than `limits`. */
static void get_place(reader *r, const json_t *from, const char *key,
                      const uint64_t limits[2], uint64_t out[2])
{
    size_t count = 0;
    const json_t *pair = get_array(r, from, key, 2, &count);
    if (!r->failed && count != 2)
        fail(r, key, "expected 2 entries, found %zu", count);
    for (size_t i = 0; i < 2 && !r->failed; i++) {
        out[i] = as_count(r, key, json_array_get(pair, i), UINT64_MAX);
        if (!r->failed && out[i] >= limits[i])
            fail(r, key, "%" PRIu64 " is outside of the tensor", out[i]);
    }
}

/* ---- parts of a report --------------------------------------------------- */

/* There is no such member where all was measured. */
static void read_not_measured(reader *r, const json_t *from,
                              report_measures *out)
{
    if (r->failed || !json_object_get(from, "not_measured"))
        return;
    const json_t *part = get_object(r, from, "not_measured");
    r->part = "not_measured";
    out->unmeasured_elems = get_count(r, part, "elements");
    out->unmeasured_blocks = get_count(r, part, "blocks");
    r->part = NULL;
}

static void read_measures(reader *r, const json_t *from, report_measures *out)
{
    out->elems = get_count(r, from, "elements");
    out->blocks = get_count(r, from, "blocks");
    read_not_measured(r, from, out);
    bool is_known = out->blocks > 0 || out->unmeasured_blocks == 0;
    out->zeros = get_count(r, from, "zeros");
    out->median = get_ratio(r, from, "median_relative_error");
    out->p999 = get_ratio(r, from, "p999_relative_error");
    out->relative_rms =
        is_known ? get_rms(r, from) : get_ratio(r, from, "relative_rms");
    out->sqnr_db = get_real_or_null(r, from, "sqnr_db", -1e4, 1e4);
    /* Rounding of sums may leave a hair more than 1. */
    out->cosine = is_known ? get_real(r, from, "cosine", -1.001, 1.001)
                           : get_real_or_null(r, from, "cosine", -1.001, 1.001);
    out->max_abs_error = is_known
                             ? get_real(r, from, "max_abs_error", 0, DBL_MAX)
                             : get_ratio(r, from, "max_abs_error");
    out->saturated = get_count(r, from, "saturated");
    out->became_zero = get_count(r, from, "became_zero");
    out->codes_unused =
        as_count(r, "codes_unused", json_object_get(from, "codes_unused"), 254);
}

static void read_group(reader *r, const json_t *from, report_group *out)
{
    if (!r->failed && !json_is_object(from))
        expected(r, NULL, "an object", from);
    out->name = get_string(r, from, "name");
    out->tensors = get_count(r, from, "tensors");
    read_measures(r, from, &out->error);
}

static void read_groups(reader *r, const json_t *root, const char *section,
                        report_group **groups, size_t *count)
{
    r->section = NULL;
    const json_t *list = get_array(r, root, section, GROUPS_MAX, count);
    *groups = allocate(*count, sizeof **groups);
    r->section = section;
    for (r->index = 0; r->index < *count && !r->failed; r->index++)
        read_group(r, json_array_get(list, r->index), *groups + r->index);
}

static void read_cells(reader *r, const json_t *root, report_doc *out)
{
    r->section = NULL;
    const json_t *list =
        get_array(r, root, "cells", CELLS_MAX, &out->cells_count);
    out->cells = allocate(out->cells_count, sizeof *out->cells);
    r->section = "cells";
    for (r->index = 0; r->index < out->cells_count && !r->failed; r->index++) {
        const json_t *from = json_array_get(list, r->index);
        report_cell *cell = &out->cells[r->index];
        cell->layer = get_index(r, from, "layer", out->layers_count);
        cell->kind = get_index(r, from, "kind", out->kinds_count);
        cell->tensors = get_count(r, from, "tensors");
        cell->relative_rms = get_rms(r, from);
    }
}

static void read_histogram(reader *r, const json_t *root, report_histogram *out)
{
    size_t edges = 0;
    r->section = NULL;
    const json_t *from = get_object(r, root, "distribution");
    r->section = "distribution";
    r->index = SIZE_MAX;
    out->exact = get_count(r, from, "exact");
    out->above = get_count(r, from, "above");
    const json_t *list = get_array(r, from, "edges", BINS_MAX + 1, &edges);
    const json_t *counts = get_array(r, from, "counts", BINS_MAX, &out->bins);
    if (!r->failed && (edges < 2 || out->bins != edges - 1))
        fail(r, "counts", "expected one less than the %zu edges, found %zu",
             edges, out->bins);
    out->edges = allocate(edges, sizeof *out->edges);
    out->counts = allocate(out->bins, sizeof *out->counts);
    out->total = (double)out->exact + (double)out->above;
    for (size_t i = 0; i < edges && !r->failed; i++) {
        const json_t *edge = json_array_get(list, i);
        out->edges[i] = json_number_value(edge);
        if (!json_is_number(edge) || out->edges[i] < 0 ||
            (i > 0 && out->edges[i] <= out->edges[i - 1]))
            expected(r, "edges", "ascending numbers of 0 or more", edge);
    }
    for (size_t i = 0; i < out->bins && !r->failed; i++) {
        out->counts[i] =
            as_count(r, "counts", json_array_get(counts, i), UINT64_MAX);
        out->total += (double)out->counts[i];
    }
}

static void read_tensor(reader *r, const json_t *from, const report_doc *file,
                        report_tensor *out)
{
    static const uint64_t any[2] = {UINT64_MAX, UINT64_MAX};
    uint64_t blocks[2];
    memset(out, 0, sizeof *out);
    out->name = get_string(r, from, "name");
    out->layer = get_index(r, from, "layer", file->layers_count);
    out->kind = get_index(r, from, "kind", file->kinds_count);
    get_place(r, from, "shape", any, out->shape);
    read_measures(r, from, &out->error);
    for (int i = 0; i < 2; i++)
        blocks[i] = out->shape[i] / F8_BLOCK + (out->shape[i] % F8_BLOCK != 0);
    const json_t *block = json_object_get(from, "worst_block");
    out->has_largest = !json_is_null(json_object_get(from, "max_abs_error_at"));
    out->has_block = !json_is_null(block);
    if (out->has_largest)
        get_place(r, from, "max_abs_error_at", out->shape, out->largest);
    if (out->has_block) {
        block = get_object(r, from, "worst_block");
        r->part = "worst_block";
        get_place(r, block, "at", blocks, out->block);
        out->block_rms = get_rms(r, block);
        r->part = NULL;
    }
}

/* All are checked, and the worst are kept. */
static void read_tensors(reader *r, const json_t *root, report_doc *out)
{
    report_tensor tensor;
    r->section = NULL;
    const json_t *list =
        get_array(r, root, "tensors", TENSORS_MAX, &out->tensors_count);
    const json_t *worst =
        get_array(r, root, "worst", WORST_MAX, &out->worst_count);
    r->section = "tensors";
    for (r->index = 0; r->index < out->tensors_count && !r->failed; r->index++)
        read_tensor(r, json_array_get(list, r->index), out, &tensor);
    out->worst = allocate(out->worst_count, sizeof *out->worst);
    for (size_t i = 0; i < out->worst_count && !r->failed; i++) {
        r->section = "worst";
        r->index = i;
        uint64_t which =
            as_count(r, NULL, json_array_get(worst, i), UINT64_MAX);
        if (!r->failed && which >= out->tensors_count)
            fail(r, NULL, "%" PRIu64 " is none of %zu entries", which,
                 out->tensors_count);
        if (!r->failed)
            read_tensor(r, json_array_get(list, (size_t)which), out,
                        &out->worst[i]);
    }
}

/* Whether the action is to quantize. */
static bool get_action(reader *r, const json_t *from)
{
    static const char *const actions[] = {"keep", "quantize", NULL};
    return strcmp(as_choice(r, "action", get_string(r, from, "action"), actions,
                            "keep or quantize"),
                  "quantize") == 0;
}

static void read_rules(reader *r, const json_t *root, report_doc *out)
{
    r->section = NULL;
    const json_t *list =
        get_array(r, root, "rules", GROUPS_MAX, &out->rules_count);
    out->rules = allocate(out->rules_count, sizeof *out->rules);
    r->section = "rules";
    for (r->index = 0; r->index < out->rules_count && !r->failed; r->index++) {
        const json_t *from = json_array_get(list, r->index);
        report_rule *rule = &out->rules[r->index];
        rule->text = get_string(r, from, "rule");
        rule->quantize = get_action(r, from);
        rule->source_tensors = get_count(r, from, "source_tensors");
        rule->results = get_count(r, from, "results");
        rule->source_bytes = get_count(r, from, "source_bytes");
        rule->result_bytes = get_count(r, from, "result_bytes");
    }
}

static void read_side(reader *r, const json_t *from, report_side *out)
{
    out->name = get_string(r, from, "name");
    out->tensors = get_count(r, from, "tensors");
    out->bytes = get_count(r, from, "bytes");
    out->shards = get_count(r, from, "shards");
}

static void read_sides(reader *r, const json_t *root, report_doc *out)
{
    const json_t *source = get_object(r, root, "source");
    const json_t *result = get_object(r, root, "result");
    r->index = SIZE_MAX;
    r->section = "source";
    read_side(r, source, &out->source);
    out->model_type = get_string(r, source, "model_type");
    out->family = get_string(r, source, "family");
    out->card = get_string_or_null(r, source, "card", CARD_BYTES_MAX);
    r->section = "result";
    read_side(r, result, &out->result);
    out->fp8_weights = get_count(r, result, "fp8_weights");
    out->scales = get_count(r, result, "scales");
    out->kept = get_count(r, result, "kept");
    out->kept_bytes = get_count(r, result, "kept_bytes");
    out->parameters = get_count(r, result, "parameters");
}

static void read_overrides(reader *r, const json_t *from, report_doc *out)
{
    const json_t *list =
        get_array(r, from, "overrides", GROUPS_MAX, &out->overrides_count);
    out->overrides = allocate(out->overrides_count, sizeof *out->overrides);
    r->part = "overrides";
    for (size_t i = 0; i < out->overrides_count && !r->failed; i++) {
        const json_t *entry = json_array_get(list, i);
        out->overrides[i].quantize = get_action(r, entry);
        out->overrides[i].glob = get_string(r, entry, "glob");
    }
    r->part = NULL;
}

/* null, which is 0, or a size that is none. */
static uint64_t get_size_or_null(reader *r, const json_t *from, const char *key)
{
    const json_t *value = json_object_get(from, key);
    uint64_t bytes = json_is_null(value) ? 0 : get_count(r, from, key);
    if (!r->failed && bytes == 0 && !json_is_null(value))
        expected(r, key, "a size of 1 or more, or null", value);
    return bytes;
}

/* Whether there is such a member, which is true then. */
static bool get_flag(reader *r, const json_t *from, const char *key)
{
    const json_t *value = json_object_get(from, key);
    if (!r->failed && value && !json_is_true(value))
        expected(r, key, "true, or no such member", value);
    return value != NULL;
}

static void read_options(reader *r, const json_t *root, report_doc *out)
{
    static const char *const choices[] = {"amax", "mse", "pow2", NULL};
    r->section = NULL;
    const json_t *from = get_object(r, root, "options");
    r->section = "options";
    r->index = SIZE_MAX;
    out->choice = get_string_or_null(r, from, "scales", STRING_BYTES_MAX);
    if (out->choice)
        out->choice = as_choice(r, "scales", out->choice, choices,
                                "amax, mse, pow2 or null");
    out->scale_dtype =
        get_string_or_null(r, from, "scale_dtype", STRING_BYTES_MAX);
    out->layout = get_string(r, from, "layout");
    out->is_requantized = get_flag(r, from, "requantize");
    out->follows_links = get_flag(r, from, "follow_links");
    out->given_rules = get_string_or_null(r, from, "rules", STRING_BYTES_MAX);
    out->shard_bytes = get_size_or_null(r, from, "shard_size");
    read_overrides(r, from, out);
}

/* ---- the whole ------------------------------------------------------------
 */

static void read_head(reader *r, report_doc *out)
{
    static const char *const commands[] = {"quantize", "verify", NULL};
    const json_t *version = json_object_get(out->root, "fp8cast_report");
    if (!json_is_object(out->root)) {
        expected(r, NULL, "an object", out->root);
    } else if (!version) {
        fail(r, NULL, "no report of fp8cast: it has no 'fp8cast_report'");
    } else if (!json_is_integer(version) || json_integer_value(version) != 1) {
        expected(r, "fp8cast_report", "version 1", version);
    }
    out->version = get_string(r, out->root, "fp8cast");
    out->is_verify =
        strcmp(as_choice(r, "command", get_string(r, out->root, "command"),
                         commands, "quantize or verify"),
               "verify") == 0;
}

static void read_remarks(reader *r, const json_t *from, const char *number,
                         const char *lines, report_remarks *out)
{
    out->total = get_count(r, from, number);
    const json_t *list =
        get_array(r, from, lines, REMARKS_MAX, &out->lines_count);
    if (!r->failed && out->lines_count > out->total)
        fail(r, lines, "expected %" PRIu64 " entries at most, found %zu",
             out->total, out->lines_count);
    out->lines = allocate(out->lines_count, sizeof *out->lines);
    for (size_t i = 0; i < out->lines_count; i++)
        out->lines[i] =
            as_string(r, lines, json_array_get(list, i), STRING_BYTES_MAX);
}

/* Who verified says what was found. */
static void read_verdict(reader *r, report_doc *out)
{
    if (!out->is_verify)
        return;
    const json_t *from = get_object(r, out->root, "verdict");
    r->section = "verdict";
    read_remarks(r, from, "faults", "fault_list", &out->faults);
    read_remarks(r, from, "warnings", "warning_list", &out->warnings);
    r->section = NULL;
}

bool report_doc_take(json_t *root, const char *name, report_doc *out,
                     /* Written through the reader.
                      * NOLINTNEXTLINE(readability-non-const-*) */
                     char problem[PROBLEM_BYTES])
{
    reader r = {.path = name, .problem = problem, .index = SIZE_MAX};
    memset(out, 0, sizeof *out);
    out->root = root;
    read_head(&r, out);
    read_verdict(&r, out);
    read_sides(&r, out->root, out);
    read_options(&r, out->root, out);
    read_rules(&r, out->root, out);
    r.section = NULL;
    const json_t *overall = get_object(&r, out->root, "overall");
    r.section = "overall";
    r.index = SIZE_MAX;
    read_group(&r, overall, &out->overall);
    read_groups(&r, out->root, "kinds", &out->kinds, &out->kinds_count);
    read_groups(&r, out->root, "layers", &out->layers, &out->layers_count);
    read_cells(&r, out->root, out);
    read_histogram(&r, out->root, &out->histogram);
    read_tensors(&r, out->root, out);
    return !r.failed;
}

void report_doc_free(report_doc *report)
{
    free(report->faults.lines);
    free(report->warnings.lines);
    free(report->overrides);
    free(report->rules);
    free(report->kinds);
    free(report->layers);
    free(report->cells);
    free(report->histogram.edges);
    free(report->histogram.counts);
    free(report->worst);
    json_decref(report->root);
}
