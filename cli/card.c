/* card.c - see card.h. Names stand in code spans, where Markdown and HTML mean
 * nothing, and control characters are spelt out. */
#include "card.h"
#include "front.h"
#include "loaders.h"
#include "markup.h"
#include "message.h"
#include "page.h"
#include "repeat.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 200

/* ---- Markdown --------------------------------------------------------------
 */

static size_t longest_run(const char *text, char of)
{
    size_t longest = 0, run = 0;
    for (; *text; text++) {
        run = *text == of ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/* A code span: fenced by more backticks than there are in it, and with the
 * bar escaped, which would otherwise end a cell of a table. */
static void code(FILE *out, const char *text)
{
    char *safe = markup_spelt_out(text);
    size_t fence = longest_run(safe, '`') + 1;
    const char *pad = fence > 1 || !*safe ? " " : "";
    for (size_t i = 0; i < fence; i++)
        fputc('`', out);
    fputs(pad, out);
    for (const char *at = safe; *at; at++) {
        if (*at == '|')
            fputc('\\', out);
        fputc(*at, out);
    }
    fputs(pad, out);
    for (size_t i = 0; i < fence; i++)
        fputc('`', out);
    free(safe);
}

/* A string of Python, in double quotes. */
static void python(FILE *out, const char *text)
{
    char *safe = markup_spelt_out(text);
    fputc('"', out);
    for (const char *at = safe; *at; at++) {
        if (*at == '"' || *at == '\\')
            fputc('\\', out);
        fputc(*at, out);
    }
    fputc('"', out);
    free(safe);
}

static void row(FILE *out, const char *label, const char *source,
                const char *result)
{
    fprintf(out, "| %s | %s | %s |\n", label, source, result);
}

/* ---- sections --------------------------------------------------------------
 */

static void write_head(FILE *out, const report_doc *report,
                       const char *base_model)
{
    fputs("\n# ", out);
    code(out, report->result.name);
    fputs("\n\n", out);
    if (base_model)
        fprintf(out, "[%s](https://huggingface.co/%s)", base_model, base_model);
    else
        code(out, report->source.name);
    fputs(" in FP8: e4m3 weights with one scale for each block of 128 × 128, "
          "made by fp8cast ",
          out);
    code(out, report->version);
    fprintf(out, ". %s instead of %s.\n", text_bytes(report->result.bytes).text,
            text_bytes(report->source.bytes).text);
}

static void write_sides(FILE *out, const report_doc *report)
{
    fputs("\n## What went in, what came out\n\n"
          "| | source | result |\n|---|---:|---:|\n",
          out);
    row(out, "bytes", text_count(report->source.bytes).text,
        text_count(report->result.bytes).text);
    row(out, "tensors", text_count(report->source.tensors).text,
        text_count(report->result.tensors).text);
    row(out, "FP8 weights", "", text_count(report->fp8_weights).text);
    row(out, "scales", "", text_count(report->scales).text);
    row(out, "kept as they were", "", text_count(report->kept).text);
    row(out, "shards", text_count(report->source.shards).text,
        text_count(report->result.shards).text);
}

static void fact(FILE *out, const char *label, const char *value)
{
    fprintf(out, "| %s | %s |\n", label, value);
}

static void write_quantization(FILE *out, const report_doc *report)
{
    fputs("\n## Quantization\n\n| | |\n|---|---|\n", out);
    fact(out, "weights", "FP8 e4m3, blocks of 128 × 128");
    fact(out, "activations", "dynamic, as `config.json` asks of the engine");
    fputs("| scales | ", out);
    if (report->scale_dtype)
        code(out, report->scale_dtype);
    else
        fputs("type not known", out);
    if (report->choice)
        fprintf(out, ", chosen by `%s`", report->choice);
    fputs(" |\n| rules | ", out);
    code(out, report->family);
    fputs(" |\n", out);
    if (*report->layout) {
        fputs("| layout | ", out);
        code(out, report->layout);
        fputs(" |\n", out);
    }
}

static void error_row(FILE *out, const report_group *group, bool is_sum)
{
    const report_measures *error = &group->error;
    fputs("| ", out);
    if (is_sum)
        fputs("**overall**", out);
    else
        code(out, group->name);
    fprintf(out, " | %s | %s | %s | %s | %s |\n",
            text_count(group->tensors).text,
            text_percent(error->relative_rms).text,
            text_percent(error->median).text, text_real(error->sqnr_db, 2).text,
            text_real(error->cosine, 6).text);
}

static void write_errors(FILE *out, const report_doc *report)
{
    if (report->overall.tensors == 0)
        return;
    fputs("\n## Error of the weights\n\n"
          "Measured over every weight. About 2.65 % relative RMS is the "
          "format's own rounding of\nweights that are spread like a bell "
          "curve. It is an error of weights: it does not say\nhow well the "
          "model answers.\n\n"
          "| kind | tensors | relative RMS | median | SQNR dB | cosine |\n"
          "|---|---:|---:|---:|---:|---:|\n",
          out);
    for (size_t i = 0; i < report->kinds_count && i < ROWS_MAX; i++)
        error_row(out, &report->kinds[i], false);
    error_row(out, &report->overall, true);
    if (report->kinds_count > ROWS_MAX)
        fprintf(out, "\n… and %s more kinds.\n",
                text_count(report->kinds_count - ROWS_MAX).text);
}

/* ---- how to load it --------------------------------------------------------
 */

/* "./NAME": no loader takes it for a name on the hub, or for an option. */
static char *local_path(const report_doc *report)
{
    char *path = NULL;
    if (asprintf(&path, "./%s", report->result.name) < 0)
        message_no_memory();
    return path;
}

static void write_command(FILE *out, const char *command, const char *path)
{
    char *word = markup_shell(path);
    fprintf(out, "```sh\n%s %s\n```\n", command, word);
    free(word);
}

static void write_loader(FILE *out, const report_doc *report,
                         const loaders *seen, int which)
{
    static const char *const names[LOADERS_COUNT] = {"transformers", "vLLM",
                                                     "SGLang"};
    fprintf(out, "\n### %s\n\n", names[which]);
    if (!seen->is_right[which]) {
        fprintf(out, "Not with version %s: %s.\n", seen->version[which],
                seen->why[which]);
        return;
    }
    char *path = local_path(report);
    if (which == LOADER_VLLM) {
        write_command(out, "vllm serve", path);
    } else if (which == LOADER_SGLANG) {
        write_command(out, "python -m sglang.launch_server --model-path", path);
    } else {
        fprintf(out,
                "```python\nfrom transformers import %s\n\nmodel = "
                "%s.from_pretrained(",
                seen->auto_class, seen->auto_class);
        python(out, path);
        fputs(")\n```\n", out);
    }
    free(path);
}

static void write_loading(FILE *out, const report_doc *report)
{
    loaders seen = loaders_of(report->model_type);
    fputs("\n## How to load it\n\n", out);
    if (!seen.is_known) {
        fputs("transformers, vLLM and SGLang read this format. What they make "
              "of model type ",
              out);
        code(out, report->model_type);
        fputs(" in it was not tried.\n", out);
        return;
    }
    fprintf(out,
            "Tried by fp8cast with transformers %s, vLLM %s and SGLang %s: a "
            "tiny model of this\ntype, scales in bf16, loaded by their own "
            "code on a CPU, every parameter compared.\nThe engines' GPU "
            "kernels are not part of that.\n",
            seen.version[LOADER_TRANSFORMERS], seen.version[LOADER_VLLM],
            seen.version[LOADER_SGLANG]);
    for (int i = 0; i < LOADERS_COUNT; i++)
        write_loader(out, report, &seen, i);
}

static void write_making(FILE *out, const report_doc *report)
{
    fputs("\n## How it was made\n\n```sh\n", out);
    repeat_write(out, report);
    fputs("\n```\n", out);
}

bool card_write(FILE *out, const report_doc *report, const char *base_model,
                char problem[PROBLEM_BYTES])
{
    char reason[PROBLEM_BYTES];
    if (report->faults.total > 0) {
        snprintf(problem, PROBLEM_BYTES,
                 "no model card of a result in which verify found %.32s "
                 "fault%s, the first: %.600s",
                 text_count(report->faults.total).text,
                 report->faults.total == 1 ? "" : "s",
                 report->faults.lines_count > 0 ? report->faults.lines[0]
                                                : "?");
        return false;
    }
    if (!front_write(out, report->card, base_model, reason)) {
        snprintf(problem, PROBLEM_BYTES,
                 "the source's card (source.card) is no YAML: %.600s", reason);
        return false;
    }
    write_head(out, report, base_model);
    write_sides(out, report);
    write_quantization(out, report);
    write_errors(out, report);
    write_loading(out, report);
    write_making(out, report);
    return true;
}
