/* front.h - the front matter of a model card: YAML that hubs read. What can be
 * said of the result too is taken over from the source's card; libyaml reads
 * and writes it. */
#ifndef FP8CAST_CLI_FRONT_H
#define FP8CAST_CLI_FRONT_H

#include <stdio.h>

#include "options.h"

/* Writes it with its fences. `card` is the source's, without fences, or NULL;
 * `base_model` the source's name on the hub, or NULL. False, with a sentence
 * in `problem` that begins with the line, when `card` is no YAML. */
bool front_write(FILE *out, const char *card, const char *base_model,
                 char problem[PROBLEM_BYTES]);

#endif
