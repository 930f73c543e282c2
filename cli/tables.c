/* tables.c - plans, reports, verdicts and inventories as text; see tables.h.
 * Names are printed whole, whatever their length: a table may go out of line,
 * but what is printed can always be searched for. */
#include "tables.h"
#include "message.h"
#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* So many faults and left-behind files are named, the rest are counted. */
#define FAULTS_SHOWN 20
#define LEFT_BEHIND_SHOWN 5
#define WORST_SHOWN 8

/* Room for a kind's name in the table of errors, so that all of a line fits
 * 80 columns: 28 + 8 + 10 + 10 + 10 + 12 = 78. */
#define KIND_COLUMNS 28

/* ---- rows -------------------------------------------------------------- */

/* A figure of the source and one of the result; "" for neither. */
static void pair(const char *label, const char *source, const char *result)
{
    message_line("%-16s%19s%19s", label, source, result);
}

static void fact(const char *label, const char *text)
{
    message_line("%-21s%s", label, text);
}

#define TEXT_COLUMN 21
#define COLUMNS 80

/* A fact whose text may take several lines. */
static void long_fact(const char *label, const char *text)
{
    while (*text) {
        size_t n = strlen(text);
        if (n > COLUMNS - TEXT_COLUMN) {
            for (n = COLUMNS - TEXT_COLUMN; n > 0 && text[n] != ' '; n--)
                ;
            if (n == 0) /* one long word */
                n = strcspn(text, " ");
        }
        message_line("%-*s%.*s", TEXT_COLUMN, label, (int)n, text);
        text += n;
        text += *text == ' ';
        label = "";
    }
}

static void blank(void)
{
    message_text("\n");
}

/* ---- plan -------------------------------------------------------------- */

static void counts_table(const f8_plan_summary *plan)
{
    pair("", "source", "result");
    pair("tensors", text_count(plan->source_tensors).text,
         text_count(plan->result_tensors).text);
    pair("bytes", text_count(plan->source_bytes).text,
         text_count(plan->result_bytes).text);
    pair("", text_bytes(plan->source_bytes).text,
         text_bytes(plan->result_bytes).text);
    pair("shards", text_count(plan->source_shards).text,
         text_count(plan->result_shards).text);
    bool back = plan->direction == F8_FROM_FP8;
    if (!back) {
        pair("FP8 weights", "", text_count(plan->fp8_weights).text);
        pair("scales", "", text_count(plan->scales).text);
    }
    if (back || plan->dequantized > 0) {
        char label[32];
        snprintf(label, sizeof label, "weights to %s",
                 f8_dtype_name(plan->value_dtype));
        pair(label, "", text_count(plan->dequantized).text);
    }
    if (plan->fused > 0)
        pair("fused tensors", "", text_count(plan->fused).text);
    pair("kept tensors", "", text_count(plan->kept).text);
    if (plan->scales > 0 && plan->choice != F8_SCALES_DEFAULT)
        pair("scales chosen by", "", f8_scales_name(plan->choice));
}

static void left_behind(const f8_plan *plan, uint64_t count)
{
    if (count == 0)
        return;
    message_line("%-21s%s file%s of the source", "left behind",
                 text_count(count).text, count == 1 ? "" : "s");
    for (uint64_t i = 0; i < count && i < LEFT_BEHIND_SHOWN; i++)
        fact("", f8_plan_left_behind(plan, i));
    if (count > LEFT_BEHIND_SHOWN)
        message_line("%-21s... and %s more", "",
                     text_count(count - LEFT_BEHIND_SHOWN).text);
}

static void space_rows(uint64_t needed, const plan_place *place)
{
    message_line("%-21s%s needed", "free space", text_bytes_fully(needed).text);
    if (!place->is_known)
        fact("", "unknown how much is there");
    else if (place->free_bytes >= needed)
        message_line("%-21s%s there", "",
                     text_bytes_fully(place->free_bytes).text);
    else
        message_line("%-21s%s there: %s too little", "",
                     text_bytes_fully(place->free_bytes).text,
                     text_bytes(needed - place->free_bytes).text);
}

static void meeting_row(const f8_plan_summary *plan, const plan_place *place)
{
    static const char label[] = "result folder";
    if (!place->is_given)
        return;
    if (place->refused) {
        fact(label, "refused:");
        long_fact("", place->refused);
    } else if (place->meeting == F8_MEETS_NOTHING)
        fact(label, "new");
    else if (place->meeting == F8_MEETS_FINISHED)
        fact(label, "finished: nothing to do");
    else if (place->meeting == F8_MEETS_ANOTHER)
        fact(label, "other files, which are to be replaced");
    else
        message_line("%-21s%s of %s shards are finished", label,
                     text_count(place->shards_done).text,
                     text_count(plan->result_shards).text);
}

void table_plan(const f8_plan *plan, const plan_place *place)
{
    f8_plan_summary summary;
    f8_plan_get_summary(plan, &summary);
    counts_table(&summary);
    blank();
    fact("peak memory", text_bytes_fully(summary.memory_bytes).text);
    fact("threads", text_count(summary.threads).text);
    space_rows(summary.disk_bytes, place);
    meeting_row(&summary, place);
    if (*summary.family)
        message_line("%-21s%s, for model_type %s", "rules", summary.family,
                     summary.model_type);
    if (*summary.layout)
        fact("layout", summary.layout);
    message_line("%-21s%s, %s", "side files carried",
                 text_count(summary.side_files).text,
                 text_bytes(summary.side_bytes).text);
    left_behind(plan, summary.left_behind);
    const char *note = NULL;
    for (uint64_t i = 0; (note = f8_plan_note(plan, i)); i++)
        long_fact("note", note);
}

static const char *action_name(f8_action action)
{
    return action == F8_QUANTIZE     ? "quantize"
           : action == F8_DEQUANTIZE ? "dequantize"
                                     : "keep";
}

/* One source tensor. Action, name, dtype and shape are always the first four
 * words of the line, and the rule stands in brackets at its end. */
static void plan_tensor(const f8_plan *plan, const f8_plan_source *source)
{
    f8_plan_result result;
    char scale[256] = "", more[64] = "";
    if (source->results == 0) {
        message_line("%-8s %s %s %s (%s)", action_name(source->action),
                     source->name, f8_dtype_name(source->dtype),
                     text_shape(source->rank, source->shape).text,
                     source->decided_by);
        return;
    }
    f8_plan_get_result(plan, source->first, &result);
    if (result.action == F8_QUANTIZE)
        snprintf(scale, sizeof scale, " + %s %s",
                 f8_dtype_name(result.scale_dtype),
                 text_shape(2, result.scale_shape).text);
    if (source->results > 1)
        snprintf(more, sizeof more, ", ... %" PRIu64 " results",
                 source->results);
    message_line(
        "%-8s %s %s %s -> %s %s %s%s%s (%s)", action_name(source->action),
        source->name, f8_dtype_name(source->dtype),
        text_shape(source->rank, source->shape).text, result.name,
        f8_dtype_name(result.dtype), text_shape(result.rank, result.shape).text,
        scale, more, source->decided_by);
}

void table_plan_tensors(const f8_plan *plan)
{
    f8_plan_summary summary;
    f8_plan_get_summary(plan, &summary);
    for (uint64_t i = 0; i < summary.source_tensors; i++) {
        f8_plan_source source;
        f8_plan_get_source(plan, i, &source);
        plan_tensor(plan, &source);
    }
}

/* ---- serving ------------------------------------------------------------ */

/* "1, 2, 4". */
static figure size_list(uint32_t sizes)
{
    figure list = {""};
    size_t used = 0;
    for (unsigned k = 0; 1u << k <= F8_TP_MAX; k++) {
        if (sizes >> k & 1)
            used += (size_t)snprintf(list.text + used, sizeof list.text - used,
                                     "%s%u", used ? ", " : "", 1u << k);
    }
    return list;
}

static void engine_rows(const f8_serving_engine *engine)
{
    char label[64], text[512];
    snprintf(label, sizeof label, "%s %s", engine->name, engine->version);
    uint32_t more = engine->ep_sizes & ~engine->tp_sizes;
    if (!engine->is_divided)
        fact(label,
             engine->warnings ? "see the warnings" : "takes every shape");
    else if (engine->unknown) {
        snprintf(text, sizeof text, "tensor parallel sizes not known: %s",
                 engine->unknown);
        long_fact(label, text);
    } else if (engine->tp_sizes == 0 && more == 0)
        fact(label, "loads at no size");
    else {
        snprintf(text, sizeof text, "tensor parallel %s%s%s",
                 engine->tp_sizes ? size_list(engine->tp_sizes).text : "none",
                 more ? ", with experts spread also " : "",
                 more ? size_list(more).text : "");
        long_fact(label, text);
    }
    if (engine->limit) {
        snprintf(text, sizeof text, "not %s", engine->limit);
        long_fact("", text);
    }
}

static bool is_same(const f8_finding *a, const f8_finding *b)
{
    return a->is_warning == b->is_warning && strcmp(a->what, b->what) == 0 &&
           strcmp(a->where, b->where) == 0;
}

/* Says a finding once for all engines that it is about. */
static void finding_row(const f8_serving *serving, size_t at,
                        const f8_finding *found)
{
    f8_finding other;
    char text[1024];
    size_t used = 0;
    for (size_t i = 0; f8_serving_get_finding(serving, i, &other); i++) {
        if (!is_same(found, &other))
            continue;
        if (i < at)
            return; /* said already */
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s%s",
                             used ? ", " : "", f8_engine_name(other.engine));
    }
    used +=
        (size_t)snprintf(text + used, sizeof text - used, ": %s", found->what);
    if (found->tensors > 0 && used < sizeof text)
        snprintf(text + used, sizeof text - used, " (%s in %s tensor%s)",
                 found->where, text_count(found->tensors).text,
                 found->tensors == 1 ? "" : "s");
    long_fact(found->is_warning ? "warning" : "note", text);
}

void table_serving(const f8_serving *serving)
{
    f8_serving_engine engine;
    f8_finding finding;
    for (int e = 0; e < F8_ENGINE_COUNT; e++) {
        f8_serving_get_engine(serving, (f8_engine)e, &engine);
        engine_rows(&engine);
    }
    for (size_t i = 0; f8_serving_get_finding(serving, i, &finding); i++)
        finding_row(serving, i, &finding);
}

/* ---- report ------------------------------------------------------------ */

void table_convert(const f8_plan *plan, const f8_report *report,
                   uint64_t resumed_bytes)
{
    f8_plan_summary planned;
    f8_report_summary done;
    f8_plan_get_summary(plan, &planned);
    f8_report_get_summary(report, &done);
    counts_table(&planned);
    if (*planned.layout)
        fact("layout", planned.layout);
    if (done.already_done)
        return;
    message_line(
        "%-21s%s, %s", "time", text_seconds(done.seconds).text,
        text_rate(done.source_bytes - resumed_bytes, done.seconds).text);
    if (done.shards_resumed > 0)
        message_line("%-21s%s of %s shards, %s of the source", "done before",
                     text_count(done.shards_resumed).text,
                     text_count(planned.result_shards).text,
                     text_bytes(resumed_bytes).text);
}

static void error_row(const char *name, const f8_error_stats *stats)
{
    /* A name that is too long gets a line to itself. */
    if (strlen(name) >= KIND_COLUMNS) {
        message_line("%s", name);
        name = "";
    }
    message_line("%-*s%8s%10s%10s%10s%12s", KIND_COLUMNS, name,
                 text_count(stats->tensors).text,
                 text_percent(stats->median_relative_error).text,
                 text_percent(stats->relative_rms).text,
                 text_real(stats->sqnr_db, 2).text,
                 text_real(stats->cosine, 8).text);
}

static void errors_heading(void)
{
    blank();
    message_line("%-*s%8s%10s%10s%10s%12s", KIND_COLUMNS, "round-trip error",
                 "tensors", "median", "rel. RMS", "SQNR dB", "cosine");
}

static void worst_heading(void)
{
    blank();
    message_line("worst tensors, by relative RMS");
}

static void worst_row(const char *name, double relative_rms)
{
    message_line("%8s  %s", text_percent(relative_rms).text, name);
}

/* What the columns have no room for, of all weights. */
static void error_facts(const f8_error_stats *stats)
{
    message_line("99.9 %% of errors below %s; %s saturated, %s became zero",
                 text_percent(stats->p999_relative_error).text,
                 text_count(stats->saturated).text,
                 text_count(stats->became_zero).text);
    if (stats->unmeasured_blocks > 0)
        message_line("not measured: %s of %s blocks, with %s weights",
                     text_count(stats->unmeasured_blocks).text,
                     text_count(stats->unmeasured_blocks + stats->blocks).text,
                     text_count(stats->unmeasured_elems).text);
}

void table_errors(const f8_report *report)
{
    f8_error_stats stats;
    f8_tensor_error tensor;
    uint64_t at = 0;
    f8_report_get_overall(report, &stats);
    if (stats.tensors == 0)
        return;
    errors_heading();
    for (size_t i = 0; f8_report_get_kind(report, i, &stats); i++)
        error_row(stats.name, &stats);
    f8_report_get_overall(report, &stats);
    error_row("overall", &stats);
    error_facts(&stats);
    for (size_t i = 0; i < WORST_SHOWN && f8_report_get_worst(report, i, &at);
         i++) {
        if (i == 0)
            worst_heading();
        f8_report_get_tensor(report, at, &tensor);
        worst_row(tensor.error.name, tensor.error.relative_rms);
    }
}

/* ---- a report that was read back ----------------------------------------- */

static f8_error_stats stats_of(const char *name, uint64_t tensors,
                               const report_measures *error)
{
    return (f8_error_stats){.name = name,
                            .tensors = tensors,
                            .blocks = error->blocks,
                            .unmeasured_elems = error->unmeasured_elems,
                            .unmeasured_blocks = error->unmeasured_blocks,
                            .median_relative_error = error->median,
                            .relative_rms = error->relative_rms,
                            .sqnr_db = error->sqnr_db,
                            .cosine = error->cosine,
                            .p999_relative_error = error->p999,
                            .saturated = error->saturated,
                            .became_zero = error->became_zero};
}

static void group_row(const char *name, const report_group *group)
{
    f8_error_stats stats = stats_of(name, group->tensors, &group->error);
    error_row(name, &stats);
}

static f8_scales choice_of(const char *name)
{
    for (int i = F8_SCALES_AMAX; name && i <= F8_SCALES_POW2; i++) {
        if (strcmp(f8_scales_name((f8_scales)i), name) == 0)
            return (f8_scales)i;
    }
    return F8_SCALES_DEFAULT;
}

static void verdict_heading(const char *dst, uint64_t faults)
{
    if (faults == 0)
        message_line("%s: no faults", dst);
    else
        message_line("%s: %s fault%s", dst, text_count(faults).text,
                     faults == 1 ? "" : "s");
}

static void more_faults(uint64_t faults, uint64_t shown)
{
    if (faults > shown)
        message_line("  ... and %s more", text_count(faults - shown).text);
}

static void more_remarks(const char *label, uint64_t total, uint64_t shown)
{
    if (total > shown)
        message_line("%-21s... and %s more", label,
                     text_count(total - shown).text);
}

static void verdict_rows(const report_doc *report)
{
    const report_remarks *faults = &report->faults;
    const report_remarks *warnings = &report->warnings;
    size_t shown = 0;
    verdict_heading(report->result.name, faults->total);
    for (; shown < FAULTS_SHOWN && shown < faults->lines_count; shown++)
        message_line("  %s", faults->lines[shown]);
    more_faults(faults->total, shown);
    for (shown = 0; shown < FAULTS_SHOWN && shown < warnings->lines_count;
         shown++)
        long_fact("warning", warnings->lines[shown]);
    more_remarks("warning", warnings->total, shown);
    blank();
}

void table_report(const report_doc *report)
{
    f8_plan_summary sides = {.source_tensors = report->source.tensors,
                             .source_bytes = report->source.bytes,
                             .source_shards = report->source.shards,
                             .result_tensors = report->result.tensors,
                             .result_bytes = report->result.bytes,
                             .result_shards = report->result.shards,
                             .fp8_weights = report->fp8_weights,
                             .kept = report->kept,
                             .scales = report->scales,
                             .choice = choice_of(report->choice)};
    if (report->is_verify)
        verdict_rows(report);
    counts_table(&sides);
    if (*report->layout)
        fact("layout", report->layout);
    if (report->overall.tensors == 0)
        return;
    errors_heading();
    for (size_t i = 0; i < report->kinds_count; i++)
        group_row(report->kinds[i].name, &report->kinds[i]);
    group_row("overall", &report->overall);
    f8_error_stats whole = stats_of("overall", 0, &report->overall.error);
    error_facts(&whole);
    if (report->worst_count > 0)
        worst_heading();
    for (size_t i = 0; i < WORST_SHOWN && i < report->worst_count; i++)
        worst_row(report->worst[i].name, report->worst[i].error.relative_rms);
}

/* ---- verdict ----------------------------------------------------------- */

static void scales_found(const f8_verdict_summary *summary)
{
    if (summary->choice == F8_SCALES_AMAX)
        fact("scales", "amax / 448");
    else if (summary->choice == F8_SCALES_POW2)
        fact("scales", "amax / 448, up to powers of two");
    else
        message_line("%-21sothers: amax / 448 in %s of %s blocks", "scales",
                     text_count(summary->blocks_amax).text,
                     text_count(summary->blocks).text);
    message_line("%-21s%s rel. RMS after rounding scales to E8M0", "",
                 text_percent(summary->e8m0_relative_rms).text);
}

/* So many are named, the rest are counted. */
static void remark_rows(const f8_verdict *verdict, const char *label,
                        uint64_t total,
                        const char *(*get)(const f8_verdict *, size_t))
{
    uint64_t shown = 0;
    const char *line = NULL;
    while (shown < FAULTS_SHOWN &&
           (line = get(verdict, (size_t)shown)) != NULL) {
        long_fact(label, line);
        shown++;
    }
    more_remarks(label, total, shown);
}

void table_verdict(const char *dst, const f8_verdict *verdict)
{
    f8_verdict_summary summary;
    const char *fault = NULL;
    uint64_t shown = 0;
    f8_verdict_get_summary(verdict, &summary);
    verdict_heading(dst, summary.faults);
    while (shown < FAULTS_SHOWN &&
           (fault = f8_verdict_fault(verdict, (size_t)shown)) != NULL) {
        message_line("  %s", fault);
        shown++;
    }
    more_faults(summary.faults, shown);
    blank();
    fact("FP8 weights", text_count(summary.quantized).text);
    fact("kept tensors", text_count(summary.kept).text);
    fact("codes not nearest", text_count(summary.codes_not_nearest).text);
    fact("NaN codes", text_count(summary.codes_nan).text);
    if (summary.blocks > 0)
        scales_found(&summary);
    fact("layout", summary.layout ? summary.layout : "other");
    remark_rows(verdict, "warning", summary.warnings, f8_verdict_warning);
    remark_rows(verdict, "note", summary.notes, f8_verdict_note);
    table_serving(f8_verdict_serving(verdict));
    fact("time", text_seconds(summary.seconds).text);
}

/* ---- roofline ---------------------------------------------------------- */

static void gigabytes_row(const char *name, double before, double after)
{
    message_line("%-30s%12s%12s", name, text_real(before / 1e9, 3).text,
                 text_real(after / 1e9, 3).text);
}

/* So that small numbers are not 0: "273", "76.8", "0.4". */
static figure bandwidth_of(const f8_machine *machine)
{
    figure out;
    double gigabytes = machine->bytes_per_second / 1e9;
    if (gigabytes >= 100)
        return text_real(gigabytes, 0);
    snprintf(out.text, sizeof out.text, "%.3g", gigabytes);
    return out;
}

/* "45.3", "0.067". */
static figure tokens_a_second(double tokens)
{
    figure out;
    if (tokens >= 1)
        return text_real(tokens, 1);
    snprintf(out.text, sizeof out.text, "%.2g", tokens);
    return out;
}

static void bound_row(const f8_roofline_summary *summary,
                      const f8_machine *machine)
{
    double rate = (double)summary->batch * machine->bytes_per_second;
    message_line("%-42s%10s%10s%10s", machine->name, bandwidth_of(machine).text,
                 tokens_a_second(rate / summary->before_bytes).text,
                 tokens_a_second(rate / summary->after_bytes).text);
}

static void roofline_facts(const f8_roofline_summary *summary)
{
    blank();
    if (summary->experts > 0)
        message_line("routed experts        %s of %s for a token, %s a step",
                     text_count(summary->experts_per_token).text,
                     text_count(summary->experts).text,
                     text_real(summary->experts_read, 1).text);
    message_line("batch, context        %s sequence%s, %s earlier tokens each",
                 text_count(summary->batch).text,
                 summary->batch == 1 ? "" : "s",
                 text_count(summary->context).text);
    if (summary->not_read_after_bytes > 0)
        message_line("not read in a step    %s (%s before): vision, audio, "
                     "token prediction",
                     text_bytes((uint64_t)summary->not_read_after_bytes).text,
                     text_bytes((uint64_t)summary->not_read_before_bytes).text);
}

void table_roofline(const f8_roofline *roofline, uint64_t bandwidth)
{
    f8_roofline_summary summary;
    f8_roofline_group group;
    f8_machine machine = {"this machine", (double)bandwidth};
    f8_roofline_get_summary(roofline, &summary);
    message_line("%-30s%12s%12s", "GB moved by a decoding step", "before",
                 "after");
    for (size_t i = 0; f8_roofline_get_group(roofline, i, &group); i++)
        gigabytes_row(group.name, group.before_bytes, group.after_bytes);
    gigabytes_row("in all", summary.before_bytes, summary.after_bytes);
    message_line("%-30s%24s", "before / after",
                 text_real(summary.before_bytes / summary.after_bytes, 2).text);
    roofline_facts(&summary);
    blank();
    message_line("%-42s%10s%10s%10s", "at most, tokens a second", "GB/s",
                 "before", "after");
    if (bandwidth > 0)
        bound_row(&summary, &machine);
    for (size_t i = 0;
         bandwidth == 0 && f8_roofline_get_machine(roofline, i, &machine); i++)
        bound_row(&summary, &machine);
}

/* ---- inventory --------------------------------------------------------- */

static void inventory_facts(const f8_inventory *inventory,
                            const f8_inventory_summary *summary)
{
    const char *problem = NULL;
    fact("files", text_count(summary->files).text);
    fact("tensors", text_count(summary->tensors).text);
    fact("size", text_bytes_fully(summary->bytes).text);
    fact("model_type", summary->model_type && *summary->model_type
                           ? summary->model_type
                           : "none");
    fact("quantization", summary->quantization);
    if (!summary->agrees)
        fact("index", "disagrees with the shards:");
    else
        fact("index", summary->has_index ? "agrees with the shards" : "none");
    for (size_t i = 0; (problem = f8_inventory_problem(inventory, i)); i++)
        message_line("  %s", problem);
    blank();
}

void table_inventory(const f8_inventory *inventory,
                     const f8_tensor_info *largest, size_t largest_count)
{
    f8_inventory_summary summary;
    f8_inventory_get_summary(inventory, &summary);
    inventory_facts(inventory, &summary);
    message_line("%-10s%12s%19s", "dtype", "tensors", "bytes");
    for (int i = 0; i < F8_DTYPE_COUNT; i++) {
        if (summary.dtype_tensors[i] == 0)
            continue;
        message_line("%-10s%12s%19s  %s", f8_dtype_name((f8_dtype)i),
                     text_count(summary.dtype_tensors[i]).text,
                     text_count(summary.dtype_bytes[i]).text,
                     text_bytes(summary.dtype_bytes[i]).text);
    }
    if (largest_count == 0)
        return;
    blank();
    message_line("largest tensors");
    for (size_t i = 0; i < largest_count; i++)
        message_line("%10s  %s %s %s", text_bytes(largest[i].bytes).text,
                     largest[i].name, f8_dtype_name(largest[i].dtype),
                     text_shape(largest[i].rank, largest[i].shape).text);
}

void table_inventory_tensors(const f8_inventory *inventory)
{
    f8_tensor_info info;
    for (uint64_t i = 0; f8_inventory_get(inventory, i, &info); i++)
        message_line("%s %s %s %" PRIu64 " bytes, %s at %" PRIu64, info.name,
                     f8_dtype_name(info.dtype),
                     text_shape(info.rank, info.shape).text, info.bytes,
                     info.file, info.offset);
}
