/* likeness.h - config.json of a result, held against its source's, but for
 * quantization_config: members.c's. docs/verify.md, "config.json". */
#ifndef F8_LIKENESS_H
#define F8_LIKENESS_H

#include "checkpoint.h"

/* Notes what is not as in the source: a fault where loaders would make another
 * model of it, a warning where it may be computed otherwise. Both are objects.
 */
f8_status f8_likeness_check(const json_t *source, const json_t *result,
                            f8_findings *findings, f8_error *err);

#endif
