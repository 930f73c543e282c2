/* json_report.c - the pieces of the file that --report writes; see json.h and
 * docs/report.schema.json. */
#include <string.h>

#include "json_values.h"

/* The last part of a folder's path, of whatever way it was given. */
static json_t *folder_name(const char *path)
{
    char *whole = realpath(path, NULL);
    const char *slash = whole ? strrchr(whole, '/') : NULL;
    json_t *name = string(slash && slash[1] ? slash + 1 : path);
    free(whole);
    return name;
}

json_t *json_report_source(const f8_report *report, const char *src,
                           const char *card)
{
    f8_report_sides sides;
    json_t *entry = object();
    f8_report_get_sides(report, &sides);
    put(entry, "name", folder_name(src));
    put(entry, "model_type", string(sides.model_type));
    put(entry, "family", string(sides.family));
    put(entry, "tensors", count(sides.source_tensors));
    put(entry, "bytes", count(sides.source_bytes));
    put(entry, "shards", count(sides.source_shards));
    put(entry, "card", *card ? string(card) : json_null());
    return entry;
}

json_t *json_report_result(const f8_report *report, const char *dst)
{
    f8_report_sides sides;
    json_t *entry = object();
    f8_report_get_sides(report, &sides);
    put(entry, "name", folder_name(dst));
    put(entry, "tensors", count(sides.result_tensors));
    put(entry, "bytes", count(sides.result_bytes));
    put(entry, "shards", count(sides.result_shards));
    put(entry, "fp8_weights", count(sides.fp8_weights));
    put(entry, "scales", count(sides.scales));
    put(entry, "kept", count(sides.kept));
    put(entry, "kept_bytes", count(sides.kept_bytes));
    put(entry, "parameters", count(sides.parameters));
    return entry;
}

/* A line begins with the file that it is about: of that the folders' names are
 * kept, and not where they lie. */
static json_t *remark(const char *line, const arguments *given)
{
    for (unsigned i = 0; i < given->paths_count; i++) {
        const char *path = given->paths[i];
        size_t length = strlen(path);
        while (length > 1 && path[length - 1] == '/')
            length--;
        if (strncmp(line, path, length) != 0 ||
            (line[length] != '/' && line[length] != ':'))
            continue;
        json_t *name = folder_name(path);
        char *text = NULL;
        const char *rest = line + length;
        while (rest[0] == '/' && (rest[1] == '/' || rest[1] == ':'))
            rest++; /* "DST/" may be how the folder was given */
        if (asprintf(&text, "%s%s", json_string_value(name), rest) < 0)
            message_no_memory();
        json_t *value = string(text);
        free(text);
        json_decref(name);
        return value;
    }
    return string(line);
}

static json_t *remarks(const f8_verdict *verdict, const arguments *given,
                       const char *(*get)(const f8_verdict *, size_t))
{
    const char *line = NULL;
    json_t *list = array();
    for (size_t i = 0; (line = get(verdict, i)); i++)
        append(list, remark(line, given));
    return list;
}

json_t *json_report_verdict(const f8_verdict *verdict, const arguments *given)
{
    f8_verdict_summary summary;
    json_t *entry = object();
    f8_verdict_get_summary(verdict, &summary);
    put(entry, "faults", count(summary.faults));
    put(entry, "fault_list", remarks(verdict, given, f8_verdict_fault));
    put(entry, "warnings", count(summary.warnings));
    put(entry, "warning_list", remarks(verdict, given, f8_verdict_warning));
    return entry;
}

static json_t *overrides(const arguments *given)
{
    json_t *list = array();
    for (size_t i = 0; i < given->overrides_count; i++) {
        const f8_override *override = &given->overrides[i];
        json_t *entry = object();
        put(entry, "action", string(override->quantize ? "quantize" : "keep"));
        put(entry, "glob", string(override->glob));
        append(list, entry);
    }
    return list;
}

/* A file by its name alone, like the folders: where it lies is nobody's
 * business who reads the report. */
static json_t *rules_name(const char *rules)
{
    const char *slash = rules ? strrchr(rules, '/') : NULL;
    return string(slash ? slash + 1 : rules);
}

json_t *json_report_options(const f8_report *report, const arguments *given)
{
    f8_report_sides sides;
    json_t *entry = object();
    f8_report_get_sides(report, &sides);
    put(entry, "scales",
        string(sides.choice == F8_SCALES_DEFAULT
                   ? NULL
                   : f8_scales_name(sides.choice)));
    put(entry, "scale_dtype",
        string(sides.dtype == F8_SCALE_DEFAULT
                   ? NULL
                   : f8_scale_dtype_name(sides.dtype)));
    put(entry, "layout", string(sides.layout));
    if (sides.requantized)
        put(entry, "requantize", json_true());
    if (given->follow_links)
        put(entry, "follow_links", json_true());
    put(entry, "rules", rules_name(given->rules));
    put(entry, "shard_size",
        given->shard_bytes ? count(given->shard_bytes) : json_null());
    put(entry, "overrides", overrides(given));
    return entry;
}

json_t *json_report_rule(const f8_rule_share *share)
{
    json_t *entry = object();
    put(entry, "rule", string(share->rule));
    put(entry, "action",
        string(share->action == F8_QUANTIZE ? "quantize" : "keep"));
    put(entry, "source_tensors", count(share->source_tensors));
    put(entry, "results", count(share->results));
    put(entry, "source_bytes", count(share->source_bytes));
    put(entry, "result_bytes", count(share->result_bytes));
    return entry;
}

json_t *json_report_cell(const f8_error_cell *cell)
{
    json_t *entry = object();
    put(entry, "layer", count(cell->layer));
    put(entry, "kind", count(cell->kind));
    put(entry, "tensors", count(cell->tensors));
    put(entry, "relative_rms", real(cell->relative_rms));
    return entry;
}

json_t *json_report_distribution(const f8_report *report)
{
    f8_error_bin bin;
    json_t *entry = object(), *edges = array(), *counts = array();
    for (size_t i = 0; f8_report_get_bin(report, i, &bin); i++) {
        if (bin.to == 0) {
            put(entry, "exact", count(bin.count));
            continue;
        }
        append(edges, real(bin.from));
        if (isfinite(bin.to))
            append(counts, count(bin.count));
        else
            put(entry, "above", count(bin.count));
    }
    put(entry, "edges", edges);
    put(entry, "counts", counts);
    return entry;
}

static json_t *place(uint64_t row, uint64_t col)
{
    json_t *pair = array();
    append(pair, count(row));
    append(pair, count(col));
    return pair;
}

json_t *json_report_tensor(const f8_tensor_error *tensor)
{
    json_t *entry = json_error_stats(&tensor->error), *block = NULL;
    bool has_error = tensor->error.max_abs_error > 0; /* and is measured */
    json_object_del(entry, "tensors");
    put(entry, "layer", count(tensor->layer));
    put(entry, "kind", count(tensor->kind));
    put(entry, "shape", place(tensor->rows, tensor->cols));
    put(entry, "max_abs_error_at",
        has_error ? place(tensor->max_row, tensor->max_col) : json_null());
    if (has_error) {
        block = object();
        put(block, "at",
            place(tensor->worst_block_row, tensor->worst_block_col));
        put(block, "relative_rms", real(tensor->worst_block_rms));
    }
    put(entry, "worst_block", block ? block : json_null());
    return entry;
}
