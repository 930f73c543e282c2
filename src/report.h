/* report.h - error statistics of a run: collected per shard, merged in shard
 * order, handed out through the public getters. */
#ifndef F8_REPORT_H
#define F8_REPORT_H

#include "plan.h"
#include "stats.h"

enum { F8_WORST_KEPT = 20 };

/* What was measured of one quantised unit: its own figures, since a histogram
 * for each of thousands would take too much memory. */
typedef struct f8_measured {
    uint64_t unit;
    f8_sums sums;
    double median, p999; /* NaN when no weight has an error */
    uint64_t zeros, saturated, became_zero, codes_unused;
    uint64_t unmeasured_elems, unmeasured_blocks; /* not in the journal */
    f8_place max_at;
    double worst_w2, worst_e2; /* of the block with the largest relative RMS */
    f8_place worst_at;
} f8_measured;

/* What was measured over consecutive units. Kinds and layers have histograms;
 * of layers there are only those that the units lie in. */
typedef struct f8_tally {
    size_t kinds_count;
    f8_stats *kinds;
    size_t first_layer, layers_count;
    f8_stats *layers;
    uint64_t first_unit, units_count; /* that may be measured */
    size_t units_capacity, measured_count;
    f8_measured *measured; /* in unit order */
} f8_tally;

/* Room for all that may be measured; false when there is not enough memory. */
bool f8_tally_init(f8_tally *tally, const f8_plan *plan, uint64_t first_unit,
                   uint64_t units_count);
void f8_tally_free(f8_tally *tally);
/* What all items of a unit came to; in unit order. */
void f8_tally_unit(f8_tally *tally, const f8_plan *plan, uint64_t unit,
                   const f8_finds *finds, const uint64_t hist[F8_HIST_BINS]);
/* Units of `from` come after those of `to`, and are among its units. */
void f8_tally_add(f8_tally *to, const f8_tally *from);

/* A tensor in the report: what does not need the plan any more. */
typedef struct f8_reported {
    const char *name;
    uint64_t rows, cols;
    uint16_t kind, layer;
} f8_reported;

struct f8_report {
    f8_report_summary summary;
    f8_report_sides sides;
    f8_tally tally;
    f8_stats overall;
    const char **kinds, **layers;
    f8_reported *tensors; /* one for each that is measured */
    f8_error_cell *cells;
    size_t cells_count;
    f8_rule_share *rules;
    size_t rules_count, rules_capacity;
    uint64_t worst[F8_WORST_KEPT]; /* largest relative RMS first; of tensors
                                      of which anything was measured */
    size_t worst_count;
    const char **unlike; /* files beside the weights that were left alone */
    size_t unlike_count, unlike_capacity;
    f8_arena strings;
};

/* A report without measurements for the plan's kinds and layers. */
f8_status f8_report_new(const f8_plan *plan, f8_report **report, f8_error *err);
/* Counts a unit of the result, with so many bytes there, scales included; for
 * every unit, in order. */
f8_status f8_report_count(f8_report *report, const f8_plan *plan, uint64_t unit,
                          uint64_t bytes, f8_error *err);
/* Adds a file that f8_report_get_unlike() tells. */
f8_status f8_report_unlike(f8_report *report, const char *path, f8_error *err);
/* Call once, when the tally is complete: derives the rest from it. */
f8_status f8_report_finish(f8_report *report, const f8_plan *plan,
                           f8_error *err);

#endif
