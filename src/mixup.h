/* mixup.h - of a matrix in FP8 whose codes do not fit its weights: whose they
 * are instead. Swapped halves and misplaced experts have right shapes and
 * names; no engine notices them. */
#ifndef F8_MIXUP_H
#define F8_MIXUP_H

#include "agreement.h"
#include "quant.h"

/* What was searched for in one run so far; begin with zeros. A search waits for
 * nobody, but all wait for it, so that there is an end to searching: who meant
 * it could have made thousands of names that are alike. */
typedef struct f8_mixup {
    uint64_t probes;    /* rows of others that were read */
    unsigned fruitless; /* searches in a row that found nothing */
} f8_mixup;

/* Looks at the units whose names differ from that of `unit` in one word (gate
 * and up, one expert and another, one layer and another), beginning with the
 * row and column of a code that is not the nearest. *whose: the name of the
 * one to whose weights all codes and scales fit, or NULL: none, or it was
 * searched enough; it lives as long as the plan. */
f8_status f8_mixup_find(f8_mixup *search, const f8_agreement *pair,
                        const f8_kernel *kernel, uint64_t unit,
                        const f8_spot *wrong, const char **whose,
                        f8_error *err);

#endif
