/* report.c - error statistics of a run: what was measured becomes a report.
 * See report.h. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- collecting ---------------------------------------------------------- */

bool f8_tally_init(f8_tally *tally, const f8_plan *plan, uint64_t first_unit,
                   uint64_t units_count)
{
    size_t first = plan->layers_count, end = 0, quantised = 0;

    for (uint64_t i = first_unit; i < first_unit + units_count; i++) {
        const f8_unit *u = &plan->units[i];
        if (u->action != F8_QUANTIZE)
            continue;
        quantised++;
        first = u->layer < first ? u->layer : first;
        end = u->layer >= end ? u->layer + (size_t)1 : end;
    }
    *tally = (f8_tally){.kinds_count = plan->kinds_count,
                        .first_layer = quantised ? first : 0,
                        .layers_count = quantised ? end - first : 0,
                        .first_unit = first_unit,
                        .units_count = units_count,
                        .units_capacity = quantised};
    tally->kinds = f8_alloc(tally->kinds_count, sizeof *tally->kinds);
    tally->layers = f8_alloc(tally->layers_count, sizeof *tally->layers);
    tally->measured = f8_alloc(quantised, sizeof *tally->measured);
    return tally->kinds && tally->layers && tally->measured;
}

void f8_tally_free(f8_tally *tally)
{
    free(tally->kinds);
    free(tally->layers);
    free(tally->measured);
    memset(tally, 0, sizeof *tally);
}

static uint64_t blocks_of(uint64_t rows, uint64_t cols)
{
    return f8_ceil_div(rows, F8_BLOCK) * f8_ceil_div(cols, F8_BLOCK);
}

/* What of a tensor was measured, and what was not. */
static void count_parts(f8_stats *one, uint64_t rows, uint64_t cols,
                        uint64_t unmeasured_elems, uint64_t unmeasured_blocks)
{
    one->tensors = 1;
    one->elems = rows * cols - unmeasured_elems;
    one->blocks = blocks_of(rows, cols) - unmeasured_blocks;
    one->unmeasured_elems = unmeasured_elems;
    one->unmeasured_blocks = unmeasured_blocks;
}

void f8_tally_unit(f8_tally *tally, const f8_plan *plan, uint64_t unit,
                   const f8_finds *finds, const uint64_t hist[F8_HIST_BINS])
{
    const f8_unit *u = &plan->units[unit];
    f8_stats one = {.seen = finds->seen};

    count_parts(&one, f8_unit_rows(u), f8_unit_cols(u), finds->unmeasured_elems,
                finds->unmeasured_blocks);
    f8_finds_sums(finds, &one.sums);
    memcpy(one.hist, hist, sizeof one.hist);
    f8_stats_add(&tally->kinds[u->kind], &one);
    f8_stats_add(&tally->layers[u->layer - tally->first_layer], &one);
    tally->measured[tally->measured_count++] =
        (f8_measured){.unit = unit,
                      .sums = one.sums,
                      .median = f8_hist_median(hist),
                      .p999 = f8_hist_p999(hist),
                      .zeros = hist[F8_HIST_ZERO],
                      .saturated = hist[F8_HIST_SATURATED],
                      .became_zero = hist[F8_HIST_BECAME_ZERO],
                      .codes_unused = f8_codes_unused(&finds->seen, hist),
                      .unmeasured_elems = finds->unmeasured_elems,
                      .unmeasured_blocks = finds->unmeasured_blocks,
                      .max_at = finds->max_at,
                      .worst_w2 = finds->worst_w2,
                      .worst_e2 = finds->worst_e2,
                      .worst_at = finds->worst_at};
}

void f8_tally_add(f8_tally *to, const f8_tally *from)
{
    f8_stats *layers = to->layers + (from->first_layer - to->first_layer);

    for (size_t i = 0; i < to->kinds_count; i++)
        f8_stats_add(&to->kinds[i], &from->kinds[i]);
    for (size_t i = 0; i < from->layers_count; i++)
        f8_stats_add(&layers[i], &from->layers[i]);
    for (size_t i = 0; i < from->measured_count; i++)
        to->measured[to->measured_count++] = from->measured[i];
}

/* ---- a report ------------------------------------------------------------ */

static const char *keep_string(f8_report *report, const char *text)
{
    return f8_arena_copy(&report->strings, text, strlen(text));
}

f8_status f8_report_new(const f8_plan *plan, f8_report **report, f8_error *err)
{
    f8_report *made = f8_alloc(1, sizeof *made);

    *report = NULL;
    if (!made || !f8_tally_init(&made->tally, plan, 0, plan->units_count))
        goto nomem;
    made->kinds = f8_alloc(plan->kinds_count, sizeof *made->kinds);
    made->layers = f8_alloc(plan->layers_count, sizeof *made->layers);
    if (!made->kinds || !made->layers)
        goto nomem;
    for (size_t i = 0; i < plan->kinds_count; i++) {
        made->kinds[i] = keep_string(made, plan->kinds[i]);
        if (!made->kinds[i])
            goto nomem;
    }
    for (size_t i = 0; i < plan->layers_count; i++) {
        made->layers[i] = keep_string(made, plan->layers[i]);
        if (!made->layers[i])
            goto nomem;
    }
    made->sides = (f8_report_sides){
        .model_type = keep_string(made, plan->source->model_type),
        .family = keep_string(made, plan->rules ? plan->rules->family : ""),
        .layout = keep_string(made, plan->layout ? plan->layout : ""),
        .source_tensors = plan->source->tensors.count,
        .source_bytes = plan->source->tensor_bytes,
        .source_shards = plan->source->files_count,
    };
    if (!made->sides.model_type || !made->sides.family || !made->sides.layout)
        goto nomem;
    *report = made;
    return F8_OK;
nomem:
    f8_report_free(made);
    return f8_fail_nomem(err, "the report");
}

/* The share of the rule that decided a unit, where it did what was done. */
static f8_rule_share *find_share(f8_report *report, const char *rule,
                                 f8_action action)
{
    for (size_t i = report->rules_count; i-- > 0;) {
        f8_rule_share *share = &report->rules[i];
        if (share->action == action && !strcmp(share->rule, rule))
            return share;
    }
    if (!f8_grow((void **)&report->rules, &report->rules_capacity,
                 report->rules_count, sizeof *report->rules))
        return NULL;
    const char *text = keep_string(report, rule);
    if (!text)
        return NULL;
    f8_rule_share *share = &report->rules[report->rules_count++];
    *share = (f8_rule_share){.rule = text, .action = action};
    return share;
}

f8_status f8_report_count(f8_report *report, const f8_plan *plan, uint64_t unit,
                          uint64_t bytes, f8_error *err)
{
    const f8_unit *u = &plan->units[unit];
    const f8_decision *d = &plan->decisions[u->source];
    f8_dtype dtype = plan->source->tensors.items[u->source].dtype;
    uint64_t elems = u->bytes / f8_dtype_bytes(dtype);
    bool quantised = u->action == F8_QUANTIZE;
    f8_rule_share *share = find_share(report, d->decided_by, u->action);

    if (!share)
        return f8_fail_nomem(err, "the report");
    share->source_tensors += unit == d->first_unit;
    share->results++;
    share->source_bytes += u->bytes;
    share->result_bytes += bytes;
    report->sides.parameters += elems;
    report->sides.kept_bytes += quantised ? 0 : bytes;
    return F8_OK;
}

/* Whether a tensor has a block that was measured. */
static bool is_measured(const f8_report *report, size_t tensor)
{
    const f8_reported *t = &report->tensors[tensor];

    return report->tally.measured[tensor].unmeasured_blocks <
           blocks_of(t->rows, t->cols);
}

/* Whether a is worse than b; equal ones in unit order. */
static bool is_worse(const f8_tally *tally, uint64_t a, uint64_t b)
{
    double x = f8_sums_relative_rms(&tally->measured[a].sums);
    double y = f8_sums_relative_rms(&tally->measured[b].sums);

    return x != y ? x > y : a < b;
}

static void note_worst(f8_report *report, uint64_t tensor)
{
    size_t at = report->worst_count;

    if (at == F8_WORST_KEPT &&
        !is_worse(&report->tally, tensor, report->worst[--at]))
        return;
    while (at > 0 && is_worse(&report->tally, tensor, report->worst[at - 1])) {
        report->worst[at] = report->worst[at - 1];
        at--;
    }
    report->worst[at] = tensor;
    if (report->worst_count < F8_WORST_KEPT)
        report->worst_count++;
}

static f8_status take_tensors(f8_report *report, const f8_plan *plan,
                              f8_error *err)
{
    size_t count = report->tally.measured_count;

    report->tensors = f8_alloc(count, sizeof *report->tensors);
    if (!report->tensors)
        return f8_fail_nomem(err, "the report");
    for (size_t i = 0; i < count; i++) {
        const f8_unit *u = &plan->units[report->tally.measured[i].unit];
        report->tensors[i] = (f8_reported){.name = keep_string(report, u->name),
                                           .rows = f8_unit_rows(u),
                                           .cols = f8_unit_cols(u),
                                           .kind = u->kind,
                                           .layer = u->layer};
        if (!report->tensors[i].name)
            return f8_fail_nomem(err, "the report");
        if (is_measured(report, i))
            note_worst(report, i);
    }
    return F8_OK;
}

/* A cell while it is made. */
typedef struct cell_sums {
    size_t at; /* one more than its index, or 0 where there is none */
    f8_sums sums;
    bool is_measured;
} cell_sums;

/* Layer by kind, in order of first appearance. */
static f8_status make_cells(f8_report *report, f8_error *err)
{
    const f8_tally *tally = &report->tally;
    size_t room = tally->layers_count * tally->kinds_count;
    cell_sums *places = f8_alloc(room, sizeof *places);

    report->cells = f8_alloc(room, sizeof *report->cells);
    if (!places || !report->cells) {
        free(places);
        return f8_fail_nomem(err, "the report");
    }
    for (size_t i = 0; i < tally->measured_count; i++) {
        const f8_reported *t = &report->tensors[i];
        cell_sums *place =
            &places[(t->layer - tally->first_layer) * tally->kinds_count +
                    t->kind];
        if (place->at == 0) {
            report->cells[report->cells_count++] =
                (f8_error_cell){.layer = t->layer, .kind = t->kind};
            place->at = report->cells_count;
        }
        report->cells[place->at - 1].tensors++;
        f8_sums_add(&place->sums, &tally->measured[i].sums);
        place->is_measured = place->is_measured || is_measured(report, i);
    }
    for (size_t i = 0; i < room; i++) {
        const cell_sums *place = &places[i];
        if (place->at > 0)
            report->cells[place->at - 1].relative_rms =
                place->is_measured ? f8_sums_relative_rms(&place->sums) : NAN;
    }
    free(places);
    return F8_OK;
}

f8_status f8_report_finish(f8_report *report, const f8_plan *plan,
                           f8_error *err)
{
    for (size_t i = 0; i < report->tally.kinds_count; i++)
        f8_stats_add(&report->overall, &report->tally.kinds[i]);
    f8_status status = take_tensors(report, plan, err);
    return status == F8_OK ? make_cells(report, err) : status;
}

f8_status f8_report_unlike(f8_report *report, const char *path, f8_error *err)
{
    const char *copy = f8_arena_copy(&report->strings, path, strlen(path));

    if (!copy || !f8_grow((void **)&report->unlike, &report->unlike_capacity,
                          report->unlike_count, sizeof *report->unlike))
        return f8_fail_nomem(err, "the report");
    report->unlike[report->unlike_count++] = copy;
    return F8_OK;
}

void f8_report_free(f8_report *report)
{
    if (!report)
        return;
    free(report->kinds);
    free(report->layers);
    free(report->tensors);
    free(report->cells);
    free(report->rules);
    free(report->unlike);
    f8_tally_free(&report->tally);
    f8_arena_free(&report->strings);
    free(report);
}

/* ---- getters ------------------------------------------------------------- */

void f8_report_get_summary(const f8_report *report, f8_report_summary *out)
{
    *out = report->summary;
}

void f8_report_get_sides(const f8_report *report, f8_report_sides *out)
{
    *out = report->sides;
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

bool f8_report_get_layer(const f8_report *report, size_t i, f8_error_stats *out)
{
    const f8_tally *tally = &report->tally;

    if (i >= tally->layers_count)
        return false;
    f8_stats_finish(&tally->layers[i], report->layers[tally->first_layer + i],
                    out);
    return true;
}

bool f8_report_get_cell(const f8_report *report, size_t i, f8_error_cell *out)
{
    if (i >= report->cells_count)
        return false;
    *out = report->cells[i];
    out->layer -= report->tally.first_layer;
    return true;
}

bool f8_report_get_rule(const f8_report *report, size_t i, f8_rule_share *out)
{
    if (i >= report->rules_count)
        return false;
    *out = report->rules[i];
    return true;
}

const char *f8_report_get_unlike(const f8_report *report, size_t i)
{
    return i < report->unlike_count ? report->unlike[i] : NULL;
}

bool f8_report_get_bin(const f8_report *report, size_t i, f8_error_bin *out)
{
    if (i > F8_HIST_ABOVE)
        return false;
    *out = (f8_error_bin){.count = report->overall.hist[i]};
    if (i != F8_HIST_EXACT)
        out->from = f8_hist_edge((int)i);
    if (i == F8_HIST_ABOVE)
        out->to = INFINITY;
    else if (i != F8_HIST_EXACT)
        out->to = f8_hist_edge((int)i + 1);
    return true;
}

bool f8_report_get_tensor(const f8_report *report, uint64_t i,
                          f8_tensor_error *out)
{
    if (i >= report->tally.measured_count)
        return false;
    const f8_measured *m = &report->tally.measured[i];
    const f8_reported *t = &report->tensors[i];
    f8_stats stats;
    memset(&stats, 0, sizeof stats);
    count_parts(&stats, t->rows, t->cols, m->unmeasured_elems,
                m->unmeasured_blocks);
    stats.sums = m->sums;
    memset(out, 0, sizeof *out);
    f8_stats_finish(&stats, t->name, &out->error);
    out->error.zeros = m->zeros;
    out->error.median_relative_error = m->median;
    out->error.p999_relative_error = m->p999;
    out->error.saturated = m->saturated;
    out->error.became_zero = m->became_zero;
    out->error.codes_unused = (unsigned)m->codes_unused;
    out->layer = t->layer - report->tally.first_layer;
    out->kind = t->kind;
    out->rows = t->rows;
    out->cols = t->cols;
    out->max_row = m->max_at.row;
    out->max_col = m->max_at.col;
    out->worst_block_row = m->worst_at.row / F8_BLOCK;
    out->worst_block_col = m->worst_at.col / F8_BLOCK;
    out->worst_block_rms =
        f8_sums_relative_rms(&(f8_sums){.w2 = m->worst_w2, .e2 = m->worst_e2});
    return true;
}

bool f8_report_get_worst(const f8_report *report, size_t i, uint64_t *tensor)
{
    if (i >= report->worst_count)
        return false;
    *tensor = report->worst[i];
    return true;
}
