/* report.c - see report.h. A rendering is made in memory first, so that it is
 * written whole or not at all. */
#include "report.h"
#include "card.h"
#include "commands.h"
#include "message.h"
#include "page.h"
#include "report_doc.h"
#include "report_load.h"
#include "tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool render(const arguments *given, const report_doc *report, FILE *out,
                   char problem[PROBLEM_BYTES])
{
    switch (given->format) {
    case REPORT_HTML:
        page_write(out, report);
        return true;
    case REPORT_MD:
        return card_write(out, report, given->base_model, problem);
    case REPORT_TEXT:
    case REPORT_DEFAULT:
        break;
    }
    message_divert(out);
    table_report(report);
    message_divert(NULL);
    return true;
}

int report_run(const arguments *given, output *out)
{
    report_doc report;
    char problem[PROBLEM_BYTES], *text = NULL;
    size_t bytes = 0;
    FILE *memory = message_stream(&text, &bytes);
    json_t *root = report_load(given->paths[0], problem);
    bool is_done =
        root && report_doc_take(root, given->paths[0], &report, problem);
    if (is_done)
        is_done = render(given, &report, memory, problem);
    if (root)
        report_doc_free(&report);
    message_stream_end(memory, &text);
    if (is_done && given->format == REPORT_MD && !given->base_model)
        message_error("no base_model in the card: say what it was made from "
                      "with --base-model OWNER/NAME");
    if (is_done && given->output) {
        (void)fwrite(text, 1, bytes, out->stream); /* output_finish tells */
        is_done = output_finish(out, problem);
    } else if (is_done)
        message_text(text);
    if (!is_done)
        message_error("%s", problem);
    free(text);
    return is_done ? EXIT_DONE : EXIT_FAILED;
}
