/* mixup.h - of a matrix in FP8 whose codes do not fit its weights: whose they
 * are instead. Swapped halves and misplaced experts have right shapes and
 * names; no engine notices them. */
#ifndef F8_MIXUP_H
#define F8_MIXUP_H

#include "agreement.h"
#include "quant.h"

/* Looks at the units whose names differ from that of `unit` in one word (gate
 * and up, one expert and another, one layer and another), beginning with the
 * row and column of a code that is wrong. *whose: the name of the one whose
 * weights the codes stand for, or NULL; it lives as long as the plan. */
f8_status f8_mixup_find(const f8_agreement *pair, const f8_kernel *kernel,
                        uint64_t unit, const f8_spot *wrong, const char **whose,
                        f8_error *err);

#endif
