/* report_load.h - the file that `report` reads, as a tree. */
#ifndef FP8CAST_CLI_REPORT_LOAD_H
#define FP8CAST_CLI_REPORT_LOAD_H

#include <jansson.h>

#include "options.h"

/* The document in the file, which may be a pipe; the caller frees it. NULL,
 * with one sentence in `problem`, when it cannot be read, is too long, or no
 * JSON. */
json_t *report_load(const char *path, char problem[PROBLEM_BYTES]);

#endif
