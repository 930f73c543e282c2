/* agreement.h - source and result side by side, as far as headers and config
 * go. The result may come from anybody: nothing is taken from how we would
 * have made it but the names. Which tensors are quantised is read off the
 * result and held against its own modules_to_not_convert. */
#ifndef F8_AGREEMENT_H
#define F8_AGREEMENT_H

#include "plan.h"

/* Where a unit stands in the result. */
typedef struct f8_counterpart {
    const f8_tensor *weight; /* NULL: nothing to compare, already a fault */
    const f8_tensor *scale;  /* quantised only */
    f8_scale_dtype scale_dtype;
} f8_counterpart;

typedef struct f8_agreement {
    f8_plan plan; /* names, decisions and units; no shards */
    f8_checkpoint *result;
    f8_counterpart *parts; /* one a unit */
    bool *expected;        /* one a tensor of the result */
    bool has_apart; /* what the source has fused, or some of it, is apart */
    f8_findings *findings;     /* borrowed */
    f8_problems *problems;     /* findings->faults */
    const f8_options *options; /* borrowed */
} f8_agreement;

/* Opens both, gives every unit its counterpart and the action that was found,
 * and notes what does not agree. Close pair in any case. */
f8_status f8_agreement_open(f8_agreement *pair, const char *src,
                            const char *dst, const f8_options *options,
                            f8_findings *findings, f8_error *err);
/* Once the scales were read, of which so many are powers of two: notes what
 * config.json says of them that is not so. */
f8_status f8_agreement_check_scales(f8_agreement *pair, uint64_t powers,
                                    uint64_t scales, f8_error *err);
/* The layout of the family's that quantises just what is FP8 in the result, or
 * NULL: none. *name lives as long as the problems. */
f8_status f8_agreement_layout(f8_agreement *pair, const f8_options *options,
                              const char **name, f8_error *err);
void f8_agreement_close(f8_agreement *pair);

#endif
