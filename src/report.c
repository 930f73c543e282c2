/* report.c - error statistics of a run. See report.h. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool f8_tally_init(f8_tally *tally, size_t kinds_count)
{
    memset(tally, 0, sizeof *tally);
    tally->kinds = f8_alloc(kinds_count, sizeof *tally->kinds);
    tally->kinds_count = kinds_count;
    return tally->kinds != NULL;
}

void f8_tally_free(f8_tally *tally)
{
    free(tally->kinds);
    memset(tally, 0, sizeof *tally);
}

void f8_tally_count(f8_tally *tally, size_t kind, const uint64_t *hist)
{
    for (int i = 0; i < F8_HIST_BINS; i++)
        tally->kinds[kind].hist[i] += hist[i];
}

/* Whether a is worse than b; equal ones in unit order, so that the list does
 * not depend on the order of the calls. */
static bool is_worse(const f8_worst *a, const f8_worst *b)
{
    double x = f8_sums_relative_rms(&a->sums);
    double y = f8_sums_relative_rms(&b->sums);

    return x != y ? x > y : a->unit < b->unit;
}

static void note_worst(f8_tally *tally, const f8_worst *unit)
{
    size_t at = tally->worst_count;

    if (at == F8_WORST_KEPT && !is_worse(unit, &tally->worst[--at]))
        return;
    while (at > 0 && is_worse(unit, &tally->worst[at - 1])) {
        tally->worst[at] = tally->worst[at - 1];
        at--;
    }
    tally->worst[at] = *unit;
    if (tally->worst_count < F8_WORST_KEPT)
        tally->worst_count++;
}

void f8_tally_unit(f8_tally *tally, const f8_plan *plan, uint64_t unit,
                   const f8_sums *sums)
{
    const f8_unit *u = &plan->units[unit];
    f8_stats *stats = &tally->kinds[u->kind];
    f8_worst one = {.unit = unit,
                    .elems = f8_unit_rows(u) * f8_unit_cols(u),
                    .blocks = f8_ceil_div(f8_unit_rows(u), F8_BLOCK) *
                              f8_ceil_div(f8_unit_cols(u), F8_BLOCK),
                    .sums = *sums};

    stats->tensors++;
    stats->elems += one.elems;
    stats->blocks += one.blocks;
    f8_sums_add(&stats->sums, sums);
    note_worst(tally, &one);
}

void f8_tally_add(f8_tally *to, const f8_tally *from)
{
    for (size_t i = 0; i < to->kinds_count; i++)
        f8_stats_add(&to->kinds[i], &from->kinds[i]);
    for (size_t i = 0; i < from->worst_count; i++)
        note_worst(to, &from->worst[i]);
}

f8_status f8_report_new(const f8_plan *plan, f8_report **report, f8_error *err)
{
    f8_report *made = f8_alloc(1, sizeof *made);

    *report = NULL;
    if (!made || !f8_tally_init(&made->tally, plan->kinds_count))
        goto nomem;
    made->kinds = f8_alloc(plan->kinds_count, sizeof *made->kinds);
    if (!made->kinds)
        goto nomem;
    memcpy(made->kinds, plan->kinds, plan->kinds_count * sizeof *made->kinds);
    *report = made;
    return F8_OK;
nomem:
    f8_report_free(made);
    return f8_fail_nomem(err, "the report");
}

f8_status f8_report_finish(f8_report *report, const f8_plan *plan,
                           f8_error *err)
{
    for (size_t i = 0; i < report->tally.kinds_count; i++)
        f8_stats_add(&report->overall, &report->tally.kinds[i]);
    for (size_t i = 0; i < report->tally.worst_count; i++) {
        const f8_unit *unit = &plan->units[report->tally.worst[i].unit];
        report->worst_names[i] = strdup(unit->name);
        if (!report->worst_names[i])
            return f8_fail_nomem(err, "the report");
    }
    return F8_OK;
}

void f8_report_free(f8_report *report)
{
    if (!report)
        return;
    for (size_t i = 0; i < F8_WORST_KEPT; i++)
        free(report->worst_names[i]);
    free(report->kinds);
    f8_tally_free(&report->tally);
    free(report);
}

void f8_report_get_summary(const f8_report *report, f8_report_summary *out)
{
    *out = report->summary;
}

void f8_report_get_overall(const f8_report *report, f8_error_stats *out)
{
    f8_stats_finish(&report->overall, "all", out);
}

bool f8_report_get_kind(const f8_report *report, size_t i, f8_error_stats *out)
{
    if (i >= report->tally.kinds_count)
        return false;
    f8_stats_finish(&report->tally.kinds[i], report->kinds[i], out);
    return true;
}

bool f8_report_get_worst(const f8_report *report, size_t i, f8_error_stats *out)
{
    if (i >= report->tally.worst_count)
        return false;
    const f8_worst *worst = &report->tally.worst[i];
    f8_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.tensors = 1;
    stats.elems = worst->elems;
    stats.blocks = worst->blocks;
    stats.sums = worst->sums;
    f8_stats_finish(&stats, report->worst_names[i], out);
    out->median_relative_error = NAN;
    return true;
}
