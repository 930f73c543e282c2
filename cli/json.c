/* json.c - the documents of --json; see json.h. */
#include "json.h"
#include "message.h"
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of the worst tensors. */
#define WORST_LISTED 8

/* ---- values ------------------------------------------------------------ */

static json_t *checked(json_t *value)
{
    if (!value)
        message_no_memory();
    return value;
}

static json_t *object(void)
{
    return checked(json_object());
}

static json_t *array(void)
{
    return checked(json_array());
}

static void put(json_t *target, const char *key, json_t *value)
{
    if (json_object_set_new(target, key, checked(value)) != 0)
        message_no_memory();
}

static void append(json_t *target, json_t *value)
{
    if (json_array_append_new(target, checked(value)) != 0)
        message_no_memory();
}

/* File names need not be UTF-8 but JSON must be: a name that is not is
 * written with \xNN, as in the tables. Control characters that are UTF-8 are
 * JSON's own business. */
static json_t *string(const char *text)
{
    if (!text)
        return json_null();
    json_t *value = json_string(text);
    if (!value) {
        char *safe = text_escape(text);
        value = safe ? json_string(safe) : NULL;
        free(safe);
    }
    return checked(value);
}

/* Nothing that is counted here comes near 2^63. */
static json_t *count(uint64_t number)
{
    return checked(json_integer((json_int_t)number));
}

static json_t *real(double number)
{
    return isfinite(number) ? checked(json_real(number)) : json_null();
}

static json_t *dtype(f8_dtype type)
{
    return string(f8_dtype_name(type));
}

static json_t *shape(unsigned rank, const uint64_t *lengths)
{
    json_t *list = array();
    for (unsigned i = 0; i < rank; i++)
        append(list, count(lengths[i]));
    return list;
}

/* ---- plan -------------------------------------------------------------- */

static json_t *plan_result(const f8_plan *plan, uint64_t i)
{
    f8_plan_result result;
    json_t *entry = object();
    f8_plan_get_result(plan, i, &result);
    put(entry, "name", string(result.name));
    put(entry, "dtype", dtype(result.dtype));
    put(entry, "shape", shape(result.rank, result.shape));
    if (result.action == F8_QUANTIZE) {
        put(entry, "scale_dtype", dtype(result.scale_dtype));
        put(entry, "scale_shape", shape(2, result.scale_shape));
    }
    put(entry, "shard", string(f8_plan_shard_name(plan, result.shard)));
    return entry;
}

static json_t *plan_tensor(const f8_plan *plan, uint64_t i)
{
    f8_plan_source source;
    json_t *entry = object(), *results = array();
    f8_plan_get_source(plan, i, &source);
    put(entry, "name", string(source.name));
    put(entry, "file", string(source.file));
    put(entry, "dtype", dtype(source.dtype));
    put(entry, "shape", shape(source.rank, source.shape));
    put(entry, "action",
        string(source.action == F8_QUANTIZE     ? "quantize"
               : source.action == F8_DEQUANTIZE ? "dequantize"
                                                : "keep"));
    put(entry, "rule", string(source.decided_by));
    for (uint64_t k = 0; k < source.results; k++)
        append(results, plan_result(plan, source.first + k));
    put(entry, "results", results);
    return entry;
}

static json_t *plan_sides(const f8_plan_summary *summary, bool is_source)
{
    json_t *side = object();
    put(side, "tensors",
        count(is_source ? summary->source_tensors : summary->result_tensors));
    put(side, "bytes",
        count(is_source ? summary->source_bytes : summary->result_bytes));
    put(side, "shards",
        count(is_source ? summary->source_shards : summary->result_shards));
    if (!is_source) {
        put(side, "fp8_weights", count(summary->fp8_weights));
        put(side, "scales", count(summary->scales));
        put(side, "dequantized", count(summary->dequantized));
        put(side, "fused", count(summary->fused));
        put(side, "kept", count(summary->kept));
        put(side, "parameters", count(summary->result_parameters));
    }
    return side;
}

/* [1, 2, 4] of a set of sizes. */
static json_t *sizes(uint32_t set)
{
    json_t *list = array();
    for (unsigned k = 0; 1u << k <= F8_TP_MAX; k++) {
        if (set >> k & 1)
            append(list, count(1u << k));
    }
    return list;
}

static json_t *serving_engine(const f8_serving_engine *engine)
{
    json_t *entry = object();
    bool is_known = engine->is_divided && !engine->unknown;
    put(entry, "name", string(engine->name));
    put(entry, "version", string(engine->version));
    put(entry, "tensor_parallel",
        is_known ? sizes(engine->tp_sizes) : json_null());
    put(entry, "limit", string(engine->limit));
    put(entry, "experts_spread",
        is_known ? sizes(engine->ep_sizes) : json_null());
    put(entry, "experts_spread_limit", string(engine->ep_limit));
    put(entry, "smaller_blocks",
        is_known ? sizes(engine->small_sizes) : json_null());
    put(entry, "not_known", string(engine->unknown));
    put(entry, "warnings", count(engine->warnings));
    return entry;
}

static json_t *serving_document(const f8_serving *serving)
{
    f8_serving_engine engine;
    f8_finding finding;
    json_t *document = object(), *list = array(), *findings = array();
    for (int e = 0; e < F8_ENGINE_COUNT; e++) {
        f8_serving_get_engine(serving, (f8_engine)e, &engine);
        append(list, serving_engine(&engine));
    }
    for (size_t i = 0; f8_serving_get_finding(serving, i, &finding); i++) {
        json_t *entry = object();
        put(entry, "engine", string(f8_engine_name(finding.engine)));
        put(entry, "severity", string(finding.is_warning ? "warning" : "note"));
        put(entry, "what", string(finding.what));
        put(entry, "where", string(finding.where));
        put(entry, "tensor", string(finding.tensor));
        put(entry, "tensors", count(finding.tensors));
        append(findings, entry);
    }
    put(document, "engines", list);
    put(document, "findings", findings);
    return document;
}

json_t *json_plan(const f8_plan *plan, const f8_serving *serving,
                  const plan_place *place, bool with_tensors)
{
    f8_plan_summary summary;
    json_t *document = object(), *files = object(), *names = array();
    f8_plan_get_summary(plan, &summary);
    put(document, "model_type", string(summary.model_type));
    bool back = summary.direction == F8_FROM_FP8;
    put(document, "family",
        *summary.family ? string(summary.family) : json_null());
    if (back) {
        put(document, "dtype", dtype(summary.value_dtype));
    } else {
        put(document, "layout", string(summary.layout));
        put(document, "scales", string(f8_scales_name(summary.choice)));
    }
    put(document, "source", plan_sides(&summary, true));
    put(document, "result", plan_sides(&summary, false));
    put(document, "memory_bytes", count(summary.memory_bytes));
    put(document, "threads", count(summary.threads));
    put(document, "disk_bytes", count(summary.disk_bytes));
    put(document, "free_bytes",
        place->is_known ? count(place->free_bytes) : json_null());
    put(files, "count", count(summary.side_files));
    put(files, "bytes", count(summary.side_bytes));
    put(document, "side_files", files);
    for (uint64_t i = 0; i < summary.left_behind; i++)
        append(names, string(f8_plan_left_behind(plan, i)));
    put(document, "left_behind", names);
    const char *note = NULL;
    json_t *notes = array();
    for (uint64_t i = 0; (note = f8_plan_note(plan, i)); i++)
        append(notes, string(note));
    put(document, "notes", notes);
    if (serving)
        put(document, "serving", serving_document(serving));
    if (with_tensors) {
        json_t *tensors = array();
        for (uint64_t i = 0; i < summary.source_tensors; i++)
            append(tensors, plan_tensor(plan, i));
        put(document, "tensors", tensors);
    }
    return document;
}

/* ---- report and verdict ------------------------------------------------ */

json_t *json_error_stats(const f8_error_stats *stats)
{
    json_t *entry = object();
    put(entry, "name", string(stats->name));
    put(entry, "tensors", count(stats->tensors));
    put(entry, "elements", count(stats->elems));
    put(entry, "blocks", count(stats->blocks));
    put(entry, "zeros", count(stats->zeros));
    put(entry, "median_relative_error", real(stats->median_relative_error));
    put(entry, "relative_rms", real(stats->relative_rms));
    put(entry, "sqnr_db", real(stats->sqnr_db));
    put(entry, "cosine", real(stats->cosine));
    put(entry, "max_abs_error", real(stats->max_abs_error));
    put(entry, "p999_relative_error", real(stats->p999_relative_error));
    put(entry, "saturated", count(stats->saturated));
    put(entry, "became_zero", count(stats->became_zero));
    put(entry, "codes_unused", count(stats->codes_unused));
    return entry;
}

static json_t *error_report(const f8_report *report)
{
    f8_error_stats stats;
    f8_tensor_error tensor;
    uint64_t at = 0;
    json_t *document = object(), *kinds = array(), *worst = array();
    f8_report_get_overall(report, &stats);
    stats.name = "overall";
    put(document, "overall", json_error_stats(&stats));
    for (size_t i = 0; f8_report_get_kind(report, i, &stats); i++)
        append(kinds, json_error_stats(&stats));
    put(document, "kinds", kinds);
    for (size_t i = 0; i < WORST_LISTED && f8_report_get_worst(report, i, &at);
         i++) {
        f8_report_get_tensor(report, at, &tensor);
        append(worst, json_error_stats(&tensor.error));
    }
    put(document, "worst", worst);
    return document;
}

json_t *json_convert(const f8_plan *plan, const f8_report *report,
                     const f8_verdict *verdict)
{
    f8_plan_summary planned;
    f8_report_summary summary;
    json_t *document = object();
    f8_plan_get_summary(plan, &planned);
    f8_report_get_summary(report, &summary);
    put(document, "already_done", json_boolean(summary.already_done));
    put(document, "seconds", real(summary.seconds));
    put(document, "source_bytes", count(summary.source_bytes));
    put(document, "result_bytes", count(summary.result_bytes));
    put(document, "quantized", count(summary.quantized));
    put(document, "dequantized", count(summary.dequantized));
    put(document, "kept", count(summary.kept));
    if (planned.direction == F8_FROM_FP8) {
        put(document, "dtype", dtype(planned.value_dtype));
        put(document, "fused", count(planned.fused));
    } else {
        put(document, "layout", string(planned.layout));
        put(document, "scales", string(f8_scales_name(planned.choice)));
    }
    put(document, "shards", count(planned.result_shards));
    put(document, "shards_resumed", count(summary.shards_resumed));
    if (planned.direction == F8_TO_FP8)
        put(document, "error", error_report(report));
    if (verdict)
        put(document, "verify", json_verdict(verdict));
    return document;
}

/* What the scales seem to be; see scales_found() in tables.c. */
static json_t *scales_found(const f8_verdict_summary *summary)
{
    bool is_amax = summary->blocks_amax == summary->blocks;
    bool is_pow2 = summary->blocks_pow2 == summary->blocks;
    json_t *entry = object();
    put(entry, "found", string(is_amax ? "amax" : is_pow2 ? "pow2" : "other"));
    put(entry, "blocks", count(summary->blocks));
    put(entry, "blocks_amax", count(summary->blocks_amax));
    put(entry, "blocks_pow2", count(summary->blocks_pow2));
    put(entry, "relative_rms_e8m0", real(summary->e8m0_relative_rms));
    return entry;
}

json_t *json_verdict(const f8_verdict *verdict)
{
    f8_verdict_summary summary;
    f8_error_stats overall;
    const f8_report *report = f8_verdict_report(verdict);
    const char *fault = NULL;
    json_t *document = object(), *faults = array();
    f8_verdict_get_summary(verdict, &summary);
    f8_report_get_overall(report, &overall);
    put(document, "faults", count(summary.faults));
    for (size_t i = 0; (fault = f8_verdict_fault(verdict, i)); i++)
        append(faults, string(fault));
    put(document, "fault_list", faults);
    put(document, "quantized", count(summary.quantized));
    put(document, "kept", count(summary.kept));
    put(document, "codes_not_nearest", count(summary.codes_not_nearest));
    put(document, "codes_nan", count(summary.codes_nan));
    put(document, "layout", string(summary.layout));
    put(document, "scales", scales_found(&summary));
    put(document, "median_relative_error", real(overall.median_relative_error));
    put(document, "relative_rms", real(overall.relative_rms));
    put(document, "sqnr_db", real(overall.sqnr_db));
    put(document, "cosine", real(overall.cosine));
    put(document, "serving", serving_document(f8_verdict_serving(verdict)));
    put(document, "seconds", real(summary.seconds));
    put(document, "error", error_report(report));
    return document;
}

/* ---- diff -------------------------------------------------------------- */

static json_t *diff_side(const f8_diff_side *side)
{
    json_t *entry = object();
    put(entry, "tensor", string(side->name));
    put(entry, "file", string(side->file));
    put(entry, "dtype", dtype(side->dtype));
    put(entry, "shape", shape(side->rank, side->shape));
    if (side->has_scale)
        put(entry, "scale_dtype", dtype(side->scale_dtype));
    return entry;
}

static json_t *diff_singles(const f8_diff *diff, bool in_b)
{
    f8_diff_single single;
    json_t *list = array();
    for (uint64_t i = 0; f8_diff_get_single(diff, in_b, i, &single); i++) {
        json_t *entry = diff_side(&single.side);
        put(entry, "name", string(single.name));
        append(list, entry);
    }
    return list;
}

static json_t *diff_changes(const f8_diff *diff)
{
    f8_diff_change change;
    json_t *list = array();
    for (uint64_t i = 0; f8_diff_get_change(diff, i, &change); i++) {
        json_t *entry = object();
        put(entry, "name", string(change.name));
        put(entry, "dtype", json_boolean(change.dtype));
        put(entry, "shape", json_boolean(change.shape));
        put(entry, "a", diff_side(&change.a));
        put(entry, "b", diff_side(&change.b));
        append(list, entry);
    }
    return list;
}

/* A side that has no such value has no such key: null is a value. */
static json_t *diff_config(const f8_diff *diff)
{
    f8_diff_setting setting;
    json_t *list = array();
    for (uint64_t i = 0; f8_diff_get_setting(diff, i, &setting); i++) {
        json_t *entry = object();
        put(entry, "path", string(setting.path));
        if (setting.a)
            put(entry, "a", json_loads(setting.a, JSON_DECODE_ANY, NULL));
        if (setting.b)
            put(entry, "b", json_loads(setting.b, JSON_DECODE_ANY, NULL));
        append(list, entry);
    }
    return list;
}

static json_t *diff_figures(const f8_diff_values *values)
{
    json_t *entry = object();
    put(entry, "name", string(values->name));
    put(entry, "elems", count(values->elems));
    put(entry, "differing", count(values->differing));
    put(entry, "not_finite", count(values->not_finite));
    put(entry, "relative_rms", real(values->relative_rms));
    put(entry, "sqnr_db", real(values->sqnr_db));
    put(entry, "cosine", real(values->cosine));
    put(entry, "max_abs_error", real(values->max_abs_error));
    return entry;
}

static void put_diff_values(json_t *document, const f8_diff *diff)
{
    f8_diff_values values;
    json_t *list = array(), *kinds = array();
    for (uint64_t i = 0; f8_diff_get_kind(diff, i, &values); i++) {
        json_t *entry = diff_figures(&values);
        put(entry, "tensors", count(values.tensors));
        append(kinds, entry);
    }
    for (uint64_t i = 0; f8_diff_get_values(diff, i, &values); i++) {
        json_t *entry = diff_figures(&values);
        put(entry, "a", diff_side(&values.a));
        put(entry, "b", diff_side(&values.b));
        append(list, entry);
    }
    f8_diff_get_overall(diff, &values);
    json_t *overall = diff_figures(&values);
    put(overall, "tensors", count(values.tensors));
    put(document, "overall", overall);
    put(document, "kinds", kinds);
    put(document, "values", list);
}

static json_t *diff_checkpoint(const f8_diff *diff, bool in_b)
{
    f8_diff_summary s;
    const char *line = NULL;
    json_t *entry = object(), *bare = array();
    f8_diff_get_summary(diff, &s);
    put(entry, "tensors", count(in_b ? s.b_tensors : s.a_tensors));
    put(entry, "bytes", count(in_b ? s.b_bytes : s.a_bytes));
    put(entry, "files", count(in_b ? s.b_files : s.a_files));
    put(entry, "fused", count(in_b ? s.b_fused : s.a_fused));
    put(entry, "without_scales", count(in_b ? s.b_bare : s.a_bare));
    for (uint64_t i = 0; (line = f8_diff_bare(diff, in_b, i)); i++)
        append(bare, string(line));
    put(entry, "without_scales_list", bare);
    put(entry, "only", diff_singles(diff, in_b));
    return entry;
}

json_t *json_diff(const f8_diff *diff)
{
    f8_diff_summary summary;
    json_t *document = object();
    f8_diff_get_summary(diff, &summary);
    put(document, "same", json_boolean(summary.same));
    put(document, "a", diff_checkpoint(diff, false));
    put(document, "b", diff_checkpoint(diff, true));
    put(document, "identical", count(summary.identical));
    put(document, "equal", count(summary.equal));
    put(document, "different", count(summary.different));
    put(document, "other_dtype", count(summary.dtypes));
    put(document, "other_shape", count(summary.shapes));
    put(document, "in_other_files", count(summary.moved));
    put(document, "config_differences", count(summary.settings));
    put(document, "config", diff_config(diff));
    put(document, "changes", diff_changes(diff));
    put_diff_values(document, diff);
    put(document, "seconds", real(summary.seconds));
    return document;
}

/* ---- the file of --report ---------------------------------------------- */

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

static json_t *globs(const f8_override *overrides, size_t number, bool quantize)
{
    json_t *list = array();
    for (size_t i = 0; i < number; i++) {
        if (overrides[i].quantize == quantize)
            append(list, string(overrides[i].glob));
    }
    return list;
}

json_t *json_report_options(const f8_report *report,
                            const f8_override *overrides, size_t number)
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
    put(entry, "keep", globs(overrides, number, false));
    put(entry, "quantize", globs(overrides, number, true));
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
    bool is_exact = tensor->error.max_abs_error == 0;
    json_object_del(entry, "tensors");
    put(entry, "layer", count(tensor->layer));
    put(entry, "kind", count(tensor->kind));
    put(entry, "shape", place(tensor->rows, tensor->cols));
    put(entry, "max_abs_error_at",
        is_exact ? json_null() : place(tensor->max_row, tensor->max_col));
    if (!is_exact) {
        block = object();
        put(block, "at",
            place(tensor->worst_block_row, tensor->worst_block_col));
        put(block, "relative_rms", real(tensor->worst_block_rms));
    }
    put(entry, "worst_block", block ? block : json_null());
    return entry;
}

/* ---- inventory, synth, rules ------------------------------------------- */

static json_t *tensor_info(const f8_tensor_info *info)
{
    json_t *entry = object();
    put(entry, "name", string(info->name));
    put(entry, "file", string(info->file));
    put(entry, "dtype", dtype(info->dtype));
    put(entry, "shape", shape(info->rank, info->shape));
    put(entry, "bytes", count(info->bytes));
    put(entry, "offset", count(info->offset));
    return entry;
}

static json_t *dtype_table(const f8_inventory_summary *summary)
{
    json_t *table = object();
    for (int i = 0; i < F8_DTYPE_COUNT; i++) {
        if (summary->dtype_tensors[i] == 0)
            continue;
        json_t *entry = object();
        put(entry, "tensors", count(summary->dtype_tensors[i]));
        put(entry, "bytes", count(summary->dtype_bytes[i]));
        put(table, f8_dtype_name((f8_dtype)i), entry);
    }
    return table;
}

json_t *json_inventory(const f8_inventory *inventory,
                       const f8_tensor_info *largest, size_t largest_count,
                       bool with_tensors)
{
    f8_inventory_summary summary;
    f8_tensor_info info;
    const char *problem = NULL;
    json_t *document = object(), *list = array(), *problems = array();
    f8_inventory_get_summary(inventory, &summary);
    put(document, "model_type", string(summary.model_type));
    put(document, "quantization", string(summary.quantization));
    put(document, "tensors", count(summary.tensors));
    put(document, "bytes", count(summary.bytes));
    put(document, "files", count(summary.files));
    put(document, "dtypes", dtype_table(&summary));
    for (size_t i = 0; i < largest_count; i++)
        append(list, tensor_info(&largest[i]));
    put(document, "largest", list);
    put(document, "has_index", json_boolean(summary.has_index));
    put(document, "agrees", json_boolean(summary.agrees));
    for (size_t i = 0; (problem = f8_inventory_problem(inventory, i)); i++)
        append(problems, string(problem));
    put(document, "problems", problems);
    if (with_tensors) {
        json_t *tensors = array();
        for (uint64_t i = 0; f8_inventory_get(inventory, i, &info); i++)
            append(tensors, tensor_info(&info));
        put(document, "tensor_list", tensors);
    }
    return document;
}

static json_t *machine_bound(const f8_roofline_summary *summary,
                             const f8_machine *machine)
{
    double rate = (double)summary->batch * machine->bytes_per_second;
    json_t *entry = object();
    put(entry, "name", string(machine->name));
    put(entry, "bytes_per_second", real(machine->bytes_per_second));
    put(entry, "tokens_per_second_before", real(rate / summary->before_bytes));
    put(entry, "tokens_per_second_after", real(rate / summary->after_bytes));
    return entry;
}

static json_t *roofline_groups(const f8_roofline *roofline)
{
    f8_roofline_group group;
    json_t *list = array();
    for (size_t i = 0; f8_roofline_get_group(roofline, i, &group); i++) {
        json_t *entry = object();
        put(entry, "name", string(group.name));
        put(entry, "before_bytes", real(group.before_bytes));
        put(entry, "after_bytes", real(group.after_bytes));
        append(list, entry);
    }
    return list;
}

json_t *json_roofline(const f8_roofline *roofline, uint64_t bandwidth)
{
    f8_roofline_summary summary;
    f8_machine machine = {"this machine", (double)bandwidth};
    json_t *document = object(), *list = array();
    f8_roofline_get_summary(roofline, &summary);
    put(document, "is_quantized", json_boolean(summary.is_quantized));
    put(document, "batch", count(summary.batch));
    put(document, "context", count(summary.context));
    put(document, "before_bytes", real(summary.before_bytes));
    put(document, "after_bytes", real(summary.after_bytes));
    put(document, "ratio", real(summary.before_bytes / summary.after_bytes));
    put(document, "not_read_before_bytes", real(summary.not_read_before_bytes));
    put(document, "not_read_after_bytes", real(summary.not_read_after_bytes));
    put(document, "experts", count(summary.experts));
    put(document, "experts_per_token", count(summary.experts_per_token));
    put(document, "experts_read", real(summary.experts_read));
    put(document, "groups", roofline_groups(roofline));
    if (bandwidth > 0)
        append(list, machine_bound(&summary, &machine));
    for (size_t i = 0;
         bandwidth == 0 && f8_roofline_get_machine(roofline, i, &machine); i++)
        append(list, machine_bound(&summary, &machine));
    put(document, "machines", list);
    return document;
}

json_t *json_synth(const char *dir, const f8_inventory *inventory,
                   const f8_synth_options *options, double seconds)
{
    f8_inventory_summary summary;
    json_t *document = object();
    f8_inventory_get_summary(inventory, &summary);
    put(document, "directory", string(dir));
    put(document, "model_type", string(summary.model_type));
    put(document, "tensors", count(summary.tensors));
    put(document, "bytes", count(summary.bytes));
    put(document, "files", count(summary.files));
    put(document, "seed", count(options->seed));
    put(document, "sparse", json_boolean(options->sparse));
    put(document, "seconds", real(seconds));
    return document;
}

json_t *json_families(void)
{
    const char *name = NULL;
    json_t *list = array();
    for (size_t i = 0; (name = f8_family_name(i)); i++)
        append(list, string(name));
    return list;
}

json_t *json_family(const char *name, const char *text)
{
    json_t *document = object();
    put(document, "name", string(name));
    put(document, "text", string(text));
    return document;
}
