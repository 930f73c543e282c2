/* report.h - error statistics of a run: collected per shard, merged in shard
 * order, handed out through the public getters. */
#ifndef F8_REPORT_H
#define F8_REPORT_H

#include "plan.h"
#include "stats.h"

enum { F8_WORST_KEPT = 8 };

/* One quantised tensor with its error. */
typedef struct f8_worst {
    uint64_t unit;
    uint64_t elems, blocks;
    f8_sums sums;
} f8_worst;

/* What was measured over some units. */
typedef struct f8_tally {
    size_t kinds_count;
    f8_stats *kinds;
    f8_worst worst[F8_WORST_KEPT]; /* largest relative RMS first */
    size_t worst_count;
} f8_tally;

bool f8_tally_init(f8_tally *tally, size_t kinds_count);
void f8_tally_free(f8_tally *tally);
/* A finished unit's histogram, or part of it; any order. */
void f8_tally_count(f8_tally *tally, size_t kind, const uint64_t *hist);
/* A finished unit's sums; in unit order. */
void f8_tally_unit(f8_tally *tally, const f8_plan *plan, uint64_t unit,
                   const f8_sums *sums);
/* Both have the same kinds; in shard order. */
void f8_tally_add(f8_tally *to, const f8_tally *from);

struct f8_report {
    f8_report_summary summary;
    f8_tally tally;
    f8_stats overall;
    char (*kinds)[F8_KIND_BYTES];
    char *worst_names[F8_WORST_KEPT];
};

/* A report without measurements for the plan's kinds. */
f8_status f8_report_new(const f8_plan *plan, f8_report **report, f8_error *err);
/* Call once, when the tally is complete: derives the rest from it. */
f8_status f8_report_finish(f8_report *report, const f8_plan *plan,
                           f8_error *err);

#endif
