/* page.c - see page.h. The skeleton holds {{NAME}} where a part is to be put,
 * and {{if errors}} ... {{end}} around what makes no sense when no weight was
 * quantised. */
#include "page.h"
#include "repeat.h"
#include "builtin.h"
#include "charts.h"
#include "heatmap.h"
#include "markup.h"
#include "message.h"
#include "text.h"

#include <inttypes.h>
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a table; what is beyond is counted. */
#define ROWS_MAX 200
#define NAME_MAX_SHOWN 200
#define REMARKS_SHOWN 20

/* ---- figures ------------------------------------------------------------- */

static double share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static double times_smaller(const report_doc *report)
{
    return share(report->source.bytes, report->result.bytes);
}

/* "3.6e-05", "0.0123": for errors in the units of weights. */
static figure small_number(double value)
{
    figure out = {"-"};
    if (!isnan(value))
        snprintf(out.text, sizeof out.text, "%.3g", value);
    return out;
}

/* Shares that are small but not zero do not become "0.00 %". */
static figure share_of(uint64_t part, uint64_t whole)
{
    double value = share(part, whole);
    figure out = text_percent(value);
    if (part == 0)
        return (figure){"0 %"};
    if (value < 0.0001)
        snprintf(out.text, sizeof out.text, "%.1g %%", value * 100);
    return out;
}

static void name(FILE *out, const char *text)
{
    markup_short(out, text, NAME_MAX_SHOWN);
}

/* A long name of words, which may be broken between them. */
static void code(FILE *out, const char *text)
{
    fputs("<code>", out);
    markup_words(out, text, NAME_MAX_SHOWN);
    fputs("</code>", out);
}

static const char *unless_one(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* ---- top ----------------------------------------------------------------- */

static void put_version(FILE *out, const report_doc *report)
{
    markup_short(out, report->version, 40);
}

static void put_drawn(FILE *out, const report_doc *report)
{
    (void)report;
    markup_text(out, f8_version());
}

static void put_result(FILE *out, const report_doc *report)
{
    name(out, *report->result.name ? report->result.name : "FP8 checkpoint");
}

static void put_lead(FILE *out, const report_doc *report)
{
    name(out, *report->source.name ? report->source.name : "The source");
    if (report->overall.tensors == 0) {
        fputs(" was carried over; no matrix was turned into FP8.", out);
        return;
    }
    fprintf(out,
            " in FP8: %s matri%s with %s weights stored as e4m3, one scale for "
            "each block of 128 by 128; %s other tensor%s kept as they were.",
            text_count(report->overall.tensors).text,
            report->overall.tensors == 1 ? "x" : "ces",
            text_count(report->overall.error.elems +
                       report->overall.error.unmeasured_elems)
                .text,
            text_count(report->kept).text, unless_one(report->kept));
}

static void remark_list(FILE *out, const report_remarks *remarks)
{
    size_t shown = 0;

    if (remarks->lines_count > 0)
        fputs("<ul>\n", out);
    for (; shown < remarks->lines_count && shown < REMARKS_SHOWN; shown++) {
        fputs("<li>", out);
        code(out, remarks->lines[shown]);
        fputs("</li>\n", out);
    }
    if (remarks->lines_count > 0)
        fputs("</ul>\n", out);
    if (remarks->total > shown)
        fprintf(out, "<p>… and %s more.</p>\n",
                text_count(remarks->total - shown).text);
}

/* What verify found comes before all figures. */
static void put_verdict(FILE *out, const report_doc *report)
{
    uint64_t faults = report->faults.total, warnings = report->warnings.total;
    if (!report->is_verify)
        return;
    fprintf(out, "<div class=\"verdict%s\">\n<p><strong>",
            faults > 0 ? " faulty" : "");
    if (faults > 0)
        fprintf(out,
                "verify found %s fault%s: this is no true copy of its "
                "source.</strong></p>\n",
                text_count(faults).text, unless_one(faults));
    else
        fputs("verify found no faults.</strong></p>\n", out);
    remark_list(out, &report->faults);
    if (warnings > 0)
        fprintf(out, "<p>It gave %s warning%s:</p>\n",
                text_count(warnings).text, unless_one(warnings));
    remark_list(out, &report->warnings);
    fputs("</div>\n", out);
}

static void key_figure(FILE *out, const char *label, const char *value,
                       const char *below)
{
    fprintf(out,
            "<div><dt>%s</dt><dd><span class=\"big\">%s</span> <span "
            "class=\"sub\">%s</span></dd></div>\n",
            label, value, below);
}

static void put_figures(FILE *out, const report_doc *report)
{
    const report_measures *error = &report->overall.error;
    char bytes[256], size[64];
    snprintf(bytes, sizeof bytes, "%.32s instead of %.32s",
             text_bytes(report->result.bytes).text,
             text_bytes(report->source.bytes).text);
    snprintf(size, sizeof size, "%.3f", times_smaller(report));
    fputs("<dl class=\"figures\">\n", out);
    key_figure(out, "Source / result, in bytes", size, bytes);
    if (report->overall.tensors > 0) {
        key_figure(out, "Relative RMS error",
                   text_percent(error->relative_rms).text,
                   "noise beside the weights");
        key_figure(out, "Median error", text_percent(error->median).text,
                   "of a weight, relative to itself");
        key_figure(out, "SQNR, decibels", text_real(error->sqnr_db, 2).text,
                   "signal to quantization noise");
    }
    fputs("</dl>\n", out);
}

/* ---- what went in, what came out ----------------------------------------- */

static void side_row(FILE *out, const char *label, const char *source,
                     const char *result)
{
    fprintf(out, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td></tr>\n",
            label, source, result);
}

static void put_sides(FILE *out, const report_doc *report)
{
    fputs("<table class=\"sides\">\n<thead><tr><th></th><th scope=\"col\">"
          "Source</th><th scope=\"col\">Result, FP8</th></tr></thead>\n"
          "<tbody>\n",
          out);
    side_row(out, "Bytes", text_count(report->source.bytes).text,
             text_count(report->result.bytes).text);
    side_row(out, "", text_bytes(report->source.bytes).text,
             text_bytes(report->result.bytes).text);
    side_row(
        out, "Result / source", "",
        text_percent(share(report->result.bytes, report->source.bytes)).text);
    side_row(out, "Tensors", text_count(report->source.tensors).text,
             text_count(report->result.tensors).text);
    side_row(out, "FP8 weights", "", text_count(report->fp8_weights).text);
    side_row(out, "Scales", "", text_count(report->scales).text);
    side_row(out, "Kept as they were", "", text_count(report->kept).text);
    side_row(out, "Shards", text_count(report->source.shards).text,
             text_count(report->result.shards).text);
    side_row(out, "Parameters", "", text_count(report->parameters).text);
    fputs("</tbody></table>\n", out);
}

/* ---- measures ------------------------------------------------------------ */

/* Whether the figures are of all weights. */
static void put_sampled(FILE *out, const report_doc *report)
{
    const report_measures *error = &report->overall.error;
    if (error->unmeasured_blocks == 0) {
        fputs("Nothing was sampled.", out);
        return;
    }
    fprintf(out,
            "<strong>%s of %s blocks, with %s weights, are in no "
            "figure:</strong> their scale is no positive number, or a weight, "
            "or a code times its scale, is NaN or infinite.",
            text_count(error->unmeasured_blocks).text,
            text_count(error->unmeasured_blocks + error->blocks).text,
            text_count(error->unmeasured_elems).text);
}

static void measure_row(FILE *out, const char *label, const char *value,
                        const char *words)
{
    fprintf(out,
            "<tr><th scope=\"row\">%s</th><td class=\"value\">%s</td><td "
            "class=\"words all\">%s</td></tr>\n",
            label, value, words);
}

static void rare_row(FILE *out, const char *label, uint64_t count,
                     const report_measures *error, const char *words)
{
    char value[128];
    snprintf(value, sizeof value, "%.64s", share_of(count, error->elems).text);
    fprintf(out,
            "<tr><th scope=\"row\">%s</th><td class=\"value\">%s</td><td "
            "class=\"words all\">%s of %s weights. %s</td></tr>\n",
            label, value, text_count(count).text, text_count(error->elems).text,
            words);
}

static void put_measures(FILE *out, const report_doc *report)
{
    const report_measures *error = &report->overall.error;
    fputs("<table class=\"measures stack\">\n<thead><tr><th scope=\"col\">"
          "Measure</th><th scope=\"col\">Value</th><th scope=\"col\" "
          "class=\"left\">What it means</th></tr></thead>\n<tbody>\n",
          out);
    measure_row(out, "Relative RMS", text_percent(error->relative_rms).text,
                "The size of the noise beside the size of the weights, both as "
                "root mean squares. About 2.65 % is the format’s own "
                "rounding of weights that are spread like a bell curve, "
                "whoever converts them.");
    measure_row(out, "Median error", text_percent(error->median).text,
                "Half of the weights moved by less than this part of "
                "themselves.");
    measure_row(out, "99.9th percentile", text_percent(error->p999).text,
                "One weight in a thousand moved by more.");
    measure_row(out, "SQNR", text_real(error->sqnr_db, 2).text,
                "Relative RMS as a ratio of powers, in decibels: more is "
                "better, and 6 are one bit.");
    measure_row(out, "Cosine", text_real(error->cosine, 8).text,
                "Between all weights before and all weights after, as two "
                "long vectors: 1 is the same direction.");
    measure_row(out, "Largest error", small_number(error->max_abs_error).text,
                "Of a single weight, in the units of the weights.");
    rare_row(out, "Saturated", error->saturated, error,
             "Too large for the largest code of their block, 448 times the "
             "scale.");
    rare_row(out, "Became zero", error->became_zero, error,
             "Too small for the smallest code of their block.");
    measure_row(out, "Codes unused", text_count(error->codes_unused).text,
                "Of the 254 finite codes of e4m3, those that no weight has.");
    fputs("</tbody></table>\n", out);
}

static void data(FILE *out, const char *label, const char *value)
{
    fprintf(out, "<td data-l=\"%s\">%s</td>", label, value);
}

static void kind_row(FILE *out, const report_group *group, bool is_sum)
{
    const report_measures *error = &group->error;
    fprintf(out, "<tr%s><th scope=\"row\">", is_sum ? " class=\"sum\"" : "");
    name(out, is_sum ? "overall" : group->name);
    fputs("</th>", out);
    data(out, "tensors", text_count(group->tensors).text);
    data(out, "rel. RMS", text_percent(error->relative_rms).text);
    data(out, "median", text_percent(error->median).text);
    data(out, "99.9th", text_percent(error->p999).text);
    data(out, "SQNR dB", text_real(error->sqnr_db, 2).text);
    data(out, "cosine", text_real(error->cosine, 6).text);
    data(out, "saturated", share_of(error->saturated, error->elems).text);
    data(out, "zero", share_of(error->became_zero, error->elems).text);
    fputs("</tr>\n", out);
}

static void left_out(FILE *out, size_t count, const char *what)
{
    if (count > ROWS_MAX)
        fprintf(out, "<p class=\"note\">… and %s more %s.</p>\n",
                text_count(count - ROWS_MAX).text, what);
}

static void put_kinds(FILE *out, const report_doc *report)
{
    fputs(
        "<table class=\"kinds stack\">\n<thead><tr><th scope=\"col\">Kind</th>"
        "<th scope=\"col\">Tensors</th><th scope=\"col\">Rel. RMS</th>"
        "<th scope=\"col\">Median</th><th scope=\"col\">99.9th</th>"
        "<th scope=\"col\">SQNR dB</th><th scope=\"col\">Cosine</th>"
        "<th scope=\"col\">Saturated</th><th scope=\"col\">Became 0</th>"
        "</tr></thead>\n<tbody>\n",
        out);
    for (size_t i = 0; i < report->kinds_count && i < ROWS_MAX; i++)
        kind_row(out, &report->kinds[i], false);
    kind_row(out, &report->overall, true);
    fputs("</tbody></table>\n", out);
    left_out(out, report->kinds_count, "kinds");
}

/* ---- worst tensors ------------------------------------------------------- */

/* The last row or column of a block; those at the edge are smaller. */
static uint64_t block_last(uint64_t block, uint64_t length)
{
    uint64_t first = block * F8_BLOCK;
    return (length - first > F8_BLOCK ? first + F8_BLOCK : length) - 1;
}

static void worst_row(FILE *out, const report_tensor *tensor)
{
    const report_measures *error = &tensor->error;
    fputs("<tr><th scope=\"row\">", out);
    code(out, tensor->name);
    fprintf(out, "<br /><span class=\"unit\">%s × %s</span></th>",
            text_count(tensor->shape[0]).text,
            text_count(tensor->shape[1]).text);
    data(out, "rel. RMS", text_percent(error->relative_rms).text);
    data(out, "99.9th", text_percent(error->p999).text);
    fprintf(out, "<td data-l=\"largest error\">%s",
            small_number(error->max_abs_error).text);
    if (tensor->has_largest)
        fprintf(out,
                "<br /><span class=\"unit\">row %" PRIu64
                "<br />column %" PRIu64 "</span>",
                tensor->largest[0], tensor->largest[1]);
    fputs("</td>", out);
    if (!tensor->has_block) {
        fputs("<td>-</td><td></td></tr>\n", out);
        return;
    }
    fprintf(out,
            "<td data-l=\"worst block\">%s<br /><span class=\"unit\">rows "
            "%" PRIu64 "–%" PRIu64 "<br />columns %" PRIu64 "–%" PRIu64
            "</span></td><td>",
            text_percent(tensor->block_rms).text, tensor->block[0] * F8_BLOCK,
            block_last(tensor->block[0], tensor->shape[0]),
            tensor->block[1] * F8_BLOCK,
            block_last(tensor->block[1], tensor->shape[1]));
    chart_block(out, tensor);
    fputs("</td></tr>\n", out);
}

static void put_worst(FILE *out, const report_doc *report)
{
    fputs("<table class=\"worst stack\">\n<thead><tr>"
          "<th scope=\"col\">Tensor</th><th scope=\"col\">Rel. RMS</th>"
          "<th scope=\"col\">99.9th</th><th scope=\"col\">Largest error</th>"
          "<th scope=\"col\">Worst block</th><th></th></tr></thead>\n"
          "<tbody>\n",
          out);
    for (size_t i = 0; i < report->worst_count; i++)
        worst_row(out, &report->worst[i]);
    fputs("</tbody></table>\n", out);
}

/* ---- rules --------------------------------------------------------------- */

static void put_rules(FILE *out, const report_doc *report)
{
    fputs("<table class=\"stack\">\n<thead><tr><th scope=\"col\">Rule</th>"
          "<th scope=\"col\" class=\"left\">Decision</th><th scope=\"col\">"
          "Tensors</th><th scope=\"col\">Results</th><th scope=\"col\">Bytes "
          "before</th><th scope=\"col\">after</th></tr></thead>\n<tbody>\n",
          out);
    for (size_t i = 0; i < report->rules_count && i < ROWS_MAX; i++) {
        const report_rule *rule = &report->rules[i];
        const char *action = rule->quantize ? "quantize" : "keep";
        fputs("<tr><th scope=\"row\">", out);
        code(out, rule->text);
        fprintf(out,
                "</th><td class=\"left\" data-l=\"decision\"><span "
                "class=\"tag %s\">%s</span></td>",
                action, action);
        data(out, "tensors", text_count(rule->source_tensors).text);
        data(out, "results", text_count(rule->results).text);
        data(out, "before", text_bytes(rule->source_bytes).text);
        data(out, "after", text_bytes(rule->result_bytes).text);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table>\n", out);
    left_out(out, report->rules_count, "rules");
}

/* ---- how it was made ----------------------------------------------------- */

static void fact(FILE *out, const char *label, const char *value)
{
    fprintf(out, "<dt>%s</dt><dd>", label);
    name(out, value);
    fputs("</dd>\n", out);
}

static const char *choice_words(const char *choice)
{
    if (!choice)
        return "not known: another program may have made the result";
    if (strcmp(choice, "amax") == 0)
        return "amax: the largest weight of a block, divided by 448";
    if (strcmp(choice, "mse") == 0)
        return "mse: the number under which a block’s squared error is least";
    return "pow2: the largest weight divided by 448, up to a power of two";
}

static void put_facts(FILE *out, const report_doc *report)
{
    fputs("<dl class=\"facts\">\n", out);
    fact(out, "Program", "fp8cast");
    fact(out, "Version", report->version);
    fact(out, "Measured by",
         report->is_verify ? "verify, which reread source and result"
                           : "quantize, while it wrote");
    fact(out, "Model type", report->model_type);
    fact(out, "Rules", report->family);
    fact(out, "Layout", report->layout);
    fact(out, "Weights", "e4m3, blocks of 128 by 128");
    fact(out, "Scales", choice_words(report->choice));
    fact(out, "Scale type",
         report->scale_dtype ? report->scale_dtype : "not known");
    fputs("</dl>\n", out);
}

static void put_command(FILE *out, const report_doc *report)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *line = message_stream(&text, &bytes);
    repeat_write(line, report);
    message_stream_end(line, &text);
    markup_text(out, text);
    free(text);
}

/* ---- the whole ----------------------------------------------------------- */

static const struct part {
    const char *name;
    void (*put)(FILE *out, const report_doc *report);
} parts[] = {
    {"version", put_version},       {"result", put_result},
    {"drawn", put_drawn},           {"lead", put_lead},
    {"verdict", put_verdict},       {"sampled", put_sampled},
    {"figures", put_figures},       {"sides", put_sides},
    {"sizes", chart_sizes},         {"measures", put_measures},
    {"heatmap", heatmap_write},     {"kinds", put_kinds},
    {"histogram", chart_histogram}, {"worst", put_worst},
    {"rules", put_rules},           {"facts", put_facts},
    {"command", put_command},
};

static void put_part(FILE *out, const char *key, size_t length,
                     const report_doc *report)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strlen(parts[i].name) == length &&
            strncmp(parts[i].name, key, length) == 0) {
            parts[i].put(out, report);
            return;
        }
    }
    assert(false); /* a name in the skeleton that has no part */
}

void page_write(FILE *out, const report_doc *report)
{
    const char *at = builtin_page("report"), *open = NULL;
    bool is_shown = true;
    while ((open = strstr(at, "{{"))) {
        const char *key = open + 2, *close = strstr(key, "}}");
        size_t length = (size_t)(close - key);
        if (is_shown)
            fprintf(out, "%.*s", (int)(open - at), at);
        if (strncmp(key, "if ", 3) == 0)
            is_shown = report->overall.tensors > 0;
        else if (strncmp(key, "end}", 4) == 0)
            is_shown = true;
        else if (is_shown)
            put_part(out, key, length, report);
        at = close + 2;
    }
    fputs(at, out);
}
