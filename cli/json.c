/* json.c - the documents of --json but that of diff; see json.h. */
#include "json_values.h"

/* Of the worst tensors. */
#define WORST_LISTED 8

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

/* What does not fit, one entry for each such size; like `limit`. */
static json_t *limits(const f8_serving *serving, f8_engine which, bool spread)
{
    json_t *list = array();
    for (unsigned n = 1; n <= F8_TP_MAX; n *= 2) {
        const char *limit = f8_serving_limit(serving, which, n, spread);
        if (limit)
            append(list, string(limit));
    }
    return list;
}

static json_t *serving_engine(const f8_serving *serving, f8_engine which)
{
    f8_serving_engine engine;
    json_t *entry = object();
    f8_serving_get_engine(serving, which, &engine);
    bool is_known = engine.is_divided && !engine.unknown;
    put(entry, "name", string(engine.name));
    put(entry, "version", string(engine.version));
    put(entry, "tensor_parallel",
        is_known ? sizes(engine.tp_sizes) : json_null());
    put(entry, "limit", string(engine.limit));
    put(entry, "limits",
        is_known ? limits(serving, which, false) : json_null());
    put(entry, "experts_spread",
        is_known ? sizes(engine.ep_sizes) : json_null());
    put(entry, "experts_spread_limit", string(engine.ep_limit));
    put(entry, "experts_spread_limits",
        is_known ? limits(serving, which, true) : json_null());
    put(entry, "smaller_blocks",
        is_known ? sizes(engine.small_sizes) : json_null());
    put(entry, "not_known", string(engine.unknown));
    put(entry, "warnings", count(engine.warnings));
    return entry;
}

static json_t *serving_document(const f8_serving *serving)
{
    f8_finding finding;
    json_t *document = object(), *list = array(), *findings = array();
    for (int e = 0; e < F8_ENGINE_COUNT; e++)
        append(list, serving_engine(serving, (f8_engine)e));
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

/* What the conversion would meet in DST; null without one. */
static json_t *result_folder(const plan_place *place)
{
    static const char *const names[] = {"new", "undone", "finished", "another"};
    if (!place->is_given)
        return json_null();
    json_t *entry = object();
    put(entry, "state",
        string(place->refused ? "refused" : names[place->meeting]));
    put(entry, "refused", string(place->refused));
    put(entry, "shards_done", count(place->shards_done));
    return entry;
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
    put(document, "result_folder", result_folder(place));
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

static json_t *counted(uint64_t elems, uint64_t blocks)
{
    json_t *entry = object();
    put(entry, "elements", count(elems));
    put(entry, "blocks", count(blocks));
    return entry;
}

json_t *json_error_stats(const f8_error_stats *stats)
{
    json_t *entry = object();
    put(entry, "name", string(stats->name));
    put(entry, "tensors", count(stats->tensors));
    put(entry, "elements", count(stats->elems));
    put(entry, "blocks", count(stats->blocks));
    if (stats->unmeasured_blocks > 0)
        put(entry, "not_measured",
            counted(stats->unmeasured_elems, stats->unmeasured_blocks));
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

static json_t *unlike_source(const f8_report *report)
{
    json_t *files = array();
    const char *path;
    for (size_t i = 0; (path = f8_report_get_unlike(report, i)); i++)
        append(files, string(path));
    return files;
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
    put(document, "unlike_source", unlike_source(report));
    if (planned.direction == F8_TO_FP8)
        put(document, "error", error_report(report));
    if (verdict)
        put(document, "verify", json_verdict(verdict));
    return document;
}

static json_t *scales_found(const f8_verdict_summary *summary)
{
    json_t *entry = object();
    put(entry, "found",
        string(summary->choice == F8_SCALES_DEFAULT
                   ? "other"
                   : f8_scales_name(summary->choice)));
    put(entry, "blocks", count(summary->blocks));
    put(entry, "blocks_amax", count(summary->blocks_amax));
    put(entry, "blocks_pow2", count(summary->blocks_pow2));
    put(entry, "relative_rms_e8m0", real(summary->e8m0_relative_rms));
    return entry;
}

/* All lines of a kind that the verdict keeps. */
static json_t *lines_of(const f8_verdict *verdict,
                        const char *(*get)(const f8_verdict *, size_t))
{
    const char *line = NULL;
    json_t *list = array();
    for (size_t i = 0; (line = get(verdict, i)); i++)
        append(list, string(line));
    return list;
}

json_t *json_verdict(const f8_verdict *verdict)
{
    f8_verdict_summary summary;
    f8_error_stats overall;
    const f8_report *report = f8_verdict_report(verdict);
    json_t *document = object();
    f8_verdict_get_summary(verdict, &summary);
    f8_report_get_overall(report, &overall);
    put(document, "faults", count(summary.faults));
    put(document, "fault_list", lines_of(verdict, f8_verdict_fault));
    put(document, "warnings", count(summary.warnings));
    put(document, "warning_list", lines_of(verdict, f8_verdict_warning));
    put(document, "notes", count(summary.notes));
    put(document, "note_list", lines_of(verdict, f8_verdict_note));
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
