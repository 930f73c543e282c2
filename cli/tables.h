/* tables.h - results as people read them, at 80 columns. What is printed is
 * what the library's getters say; nothing is decided here. json.h is the
 * same for programs. */
#ifndef FP8CAST_CLI_TABLES_H
#define FP8CAST_CLI_TABLES_H

#include "fp8cast.h"
#include "report_doc.h"

/* What plan knows beside the plan itself. */
typedef struct plan_place {
    bool is_known;
    uint64_t free_bytes; /* where the result would be written */
    /* Of the result folder, where one is given: */
    bool is_given;
    f8_meeting meeting;
    uint64_t shards_done;
    const char *refused; /* the reason, or NULL */
} plan_place;

void table_plan(const f8_plan *plan, const plan_place *place);
void table_plan_tensors(const f8_plan *plan);
/* What engines make of the result: a line each, then what is to be known. */
void table_serving(const f8_serving *serving);
/* Only what fails, or computes nonsense. */
void table_serving_warnings(const f8_serving *serving);

/* The end of quantize; resumed_bytes are those of the source that an earlier
 * run finished, and do not count as this run's speed. */
void table_convert(const f8_plan *plan, const f8_report *report,
                   uint64_t resumed_bytes);
/* Error statistics by kind; nothing when nothing was quantised. */
void table_errors(const f8_report *report);

/* A report that was read back, as quantize showed it. */
void table_report(const report_doc *report);

void table_verdict(const char *dst, const f8_verdict *verdict);

/* For one machine of this bandwidth; 0 for all that are built in. */
void table_roofline(const f8_roofline *roofline, uint64_t bandwidth);

void table_inventory(const f8_inventory *inventory,
                     const f8_tensor_info *largest, size_t largest_count);
void table_inventory_tensors(const f8_inventory *inventory);

#endif
