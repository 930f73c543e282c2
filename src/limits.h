/* limits.h - what a result may have so that this program can read it, verify
 * it and go back from it: the limits of a source, docs/format.md section 1. A
 * plan that would exceed them is refused before anything is written. Part of
 * the plan (plan.h), and as pure. */
#ifndef F8_LIMITS_H
#define F8_LIMITS_H

#include "plan.h"

/* Of a plan with all its shards, the first limit that its result exceeds. That
 * there are too many tensors is told earlier, while they are decided. */
f8_status f8_limits_check(const f8_plan *plan, f8_error *err);

/* The same of the names of its tensors, as many bytes as they have so far. */
f8_status f8_limits_names(const f8_plan *plan, uint64_t bytes, f8_error *err);

#endif
