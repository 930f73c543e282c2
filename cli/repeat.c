/* repeat.c - see repeat.h. A report may come from anyone, and its reader may
 * paste the line: every word is quoted, and none that is meant as an operand
 * can be taken for an option. */
#include "repeat.h"
#include "markup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A folder's name as an operand: one that begins with a dash is no option. */
static void folder_word(FILE *out, const char *folder)
{
    char *word = markup_shell(*folder ? folder : ".");
    fprintf(out, " %s%s", *folder == '-' ? "./" : "", word);
    free(word);
}

static void option_word(FILE *out, const char *option, const char *value)
{
    char *word = markup_shell(value);
    fprintf(out, " --%s=%s", option, word);
    free(word);
}

static void conversion_words(FILE *out, const report_doc *report)
{
    for (size_t i = 0; i < report->overrides_count; i++) {
        const f8_override *override = &report->overrides[i];
        option_word(out, override->quantize ? "quantize" : "keep",
                    override->glob);
    }
    if (report->choice)
        option_word(out, "scales", report->choice);
    if (report->scale_dtype)
        option_word(out, "scale-dtype", report->scale_dtype);
    if (*report->layout && strcmp(report->layout, "card") != 0)
        option_word(out, "layout", report->layout);
    if (report->shard_bytes > 0)
        fprintf(out, " --shard-size=%" PRIu64, report->shard_bytes);
    if (report->is_requantized)
        fputs(" --requantize", out);
    if (report->follows_links)
        fputs(" --follow-links", out);
}

void repeat_write(FILE *out, const report_doc *report)
{
    fputs(report->is_verify ? "fp8cast verify" : "fp8cast quantize", out);
    folder_word(out, report->source.name);
    folder_word(out, report->result.name);
    if (report->given_rules)
        option_word(out, "rules", report->given_rules);
    if (!report->is_verify)
        conversion_words(out, report);
}
