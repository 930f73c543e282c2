/* differences.h - a diff as people read it, at 80 columns; json.h has it for
 * programs. */
#ifndef FP8CAST_CLI_DIFFERENCES_H
#define FP8CAST_CLI_DIFFERENCES_H

#include "fp8cast.h"

/* a and b are the paths that were given. Of each list `top` lines. */
void table_diff(const f8_diff *diff, const char *a, const char *b,
                uint64_t top);

#endif
