/* separate.h - is a file of the source also one of the result folder? */
#ifndef F8_SEPARATE_H
#define F8_SEPARATE_H

#include "plan.h"

/* Refuses when a file of the source is, through a link or a mount, one of
 * `files`, which lie in dst and are about to be removed or replaced: it may be
 * the only copy. Hard links are copies of their own. */
f8_status f8_separate(const f8_plan *plan, const char *dst,
                      const f8_side_files *files, f8_error *err);

#endif
