/* card.h - a report as a model card for a hub: README.md of the result, with
 * the front matter that hubs read. */
#ifndef FP8CAST_CLI_CARD_H
#define FP8CAST_CLI_CARD_H

#include <stdio.h>

#include "report_doc.h"

/* `base_model` is the source's name on the hub, NULL when not given: then the
 * card does not say what it is made from. False, with a sentence in `problem`,
 * when verify found faults, or the source's front matter is no YAML. */
bool card_write(FILE *out, const report_doc *report, const char *base_model,
                char problem[PROBLEM_BYTES]);

#endif
