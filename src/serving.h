/* serving.h - what inference engines will make of a result: at which sizes of
 * tensor parallelism it loads, which shapes an engine refuses or misreads, what
 * it converts again. From headers, config and the family's `parallel` lines;
 * docs/serving.md cites what was read in the engines' sources. */
#ifndef F8_SERVING_H
#define F8_SERVING_H

#include "plan.h"

/* The checkpoint is plan's: of a conversion to come, or of a pair that verify
 * compares, whose units say what is FP8 there. `pow2`: all scales are powers
 * of two, so that rounding them to such changes nothing. */
f8_status f8_serving_make(const f8_plan *plan, bool pow2, f8_serving **serving,
                          f8_error *err);

#endif
