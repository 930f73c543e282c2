/* verify.c - the public entry f8_verify: rereads source and result and lists
 * what does not agree. What an engine does not notice (a missing scale, a
 * module that is not listed, swapped halves) is what this room is for.
 *
 * What can be told from headers and config is agreement.c's; here every byte
 * is read. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agreement.h"
#include "behind.h"
#include "blockwise.h"
#include "companions.h"
#include "mixup.h"
#include "report.h"
#include "serving.h"
#include "source.h"

struct f8_verdict {
    f8_verdict_summary summary;
    f8_findings findings;
    f8_report *report;
    f8_serving *serving;
};

typedef struct verification {
    f8_agreement pair; /* of source and result */
    f8_verdict *verdict;
    const f8_options *options;
    const f8_kernel *kernel;
    f8_behind behind;
    /* Of the unit whose items are being retired: */
    f8_finds finds;
    uint64_t hist[F8_HIST_BINS];
    f8_check check;
    uint64_t power_blocks; /* whose scale is a power of two */
    f8_exact w2, e8m0_e2;  /* over all blocks that were measured */
    uint64_t differing;    /* bytes, of a kept unit */
    f8_mixup search;       /* over all units */
    f8_progress progress;
    uint64_t beside; /* bytes of it: of files beside the weights */
} verification;

/* ---- the bytes ----------------------------------------------------------- */

/* "row R, column C, block [R, C]", of numbers of 20 digits. */
enum { PLACE_BYTES = 128 };

typedef struct handles {
    f8_handle source, result;
    f8_handle scales; /* of the result; a misplaced one has its own file */
} handles;

static void get_work(void *ctx, uint64_t unit, f8_work *work)
{
    const verification *v = ctx;
    const f8_unit *u = &v->pair.plan.units[unit];

    memset(work, 0, sizeof *work);
    work->shard = v->pair.parts[unit].weight ? 0 : 1;
    work->matrix = (u->action == F8_QUANTIZE || u->stride) && work->shard == 0;
    work->bytes = u->bytes;
    work->dtype = v->pair.plan.source->tensors.items[u->source].dtype;
    if (work->matrix) {
        work->rows = f8_unit_rows(u);
        work->cols = f8_unit_cols(u);
    }
}

/* "Shard" 1 holds what cannot be compared; it is a fault already. */
static bool is_hopeless(void *ctx, uint32_t shard)
{
    (void)ctx;
    return shard == 1;
}

static f8_status begin_worker(void *ctx, f8_worker *worker, f8_error *err)
{
    (void)ctx;
    handles *h = f8_alloc(1, sizeof *h);

    if (!h)
        return f8_fail_nomem(err, "a worker");
    h->source = h->result = h->scales = F8_HANDLE_NONE;
    worker->user = h;
    return F8_OK;
}

static void end_worker(void *ctx, f8_worker *worker)
{
    handles *h = worker->user;

    (void)ctx;
    if (h) {
        f8_handle_close(&h->source);
        f8_handle_close(&h->result);
        f8_handle_close(&h->scales);
    }
    free(h);
}

/* An item of a matrix of the source, packed and in the result's order; the
 * worker's out is scratch here. */
static f8_status read_source(verification *v, const f8_item *item,
                             f8_worker *worker, unsigned char **weights,
                             f8_error *err)
{
    const f8_unit *u = &v->pair.plan.units[item->unit];
    const f8_handle *source = &((handles *)worker->user)->source;
    size_t elem_bytes =
        f8_dtype_bytes(v->pair.plan.source->tensors.items[u->source].dtype);

    if (u->stride) {
        f8_behind_reading(&v->behind, item, source);
        f8_status status =
            f8_read_across(source, u->offset, u->stride, elem_bytes, item,
                           worker->in, worker->out, weights, err);
        f8_behind_read(&v->behind);
        return status;
    }
    return f8_read_panel(source, u->offset, f8_unit_cols(u), elem_bytes, item,
                         worker->in, weights, err);
}

static f8_status check_item(verification *v, f8_worker *worker,
                            const f8_item *item, f8_outcome *outcome,
                            f8_error *err)
{
    const f8_unit *u = &v->pair.plan.units[item->unit];
    const f8_counterpart *part = &v->pair.parts[item->unit];
    const handles *h = worker->user;
    assert(part->scale); /* what is FP8 has one, or it is a fault already */
    f8_dtype dtype = v->pair.plan.source->tensors.items[u->source].dtype;
    uint64_t cols = f8_unit_cols(u);
    f8_scale_range range = f8_item_scales(item, cols, part->scale_dtype);
    uint8_t scratch[F8_BLOCK * F8_BLOCK];
    unsigned char *weights, *codes = NULL;

    f8_status status = read_source(v, item, worker, &weights, err);
    if (status == F8_OK)
        status = f8_read_panel(&h->result, part->weight->offset, cols, 1, item,
                               worker->out, &codes, err);
    if (status == F8_OK)
        status =
            f8_read_at(h->scales.file.fd, worker->scales, (size_t)range.bytes,
                       part->scale->offset + range.begin, h->scales.path, err);
    if (status != F8_OK)
        return status;
    f8_panel panel = {.weights = weights,
                      .stride_bytes =
                          (size_t)(item->cols * f8_dtype_bytes(dtype)),
                      .dtype = dtype,
                      .rows = item->rows,
                      .cols = item->cols,
                      .codes = codes,
                      .codes_stride = (size_t)item->cols,
                      .scale_dtype = part->scale_dtype,
                      .scales = worker->scales,
                      .exact = f8_has_few_blocks(f8_unit_rows(u), cols),
                      .finds = &outcome->finds};
    f8_worker_compute(worker);
    f8_panel_check(v->kernel, &panel, scratch, &outcome->check, outcome->hist);
    f8_worker_computed(worker);
    return F8_OK;
}

/* Bytes of a kept tensor, n of them that begin at byte `begin` of it. */
static void compare_bytes(const unsigned char *ours,
                          const unsigned char *theirs, size_t n, uint64_t begin,
                          f8_outcome *outcome)
{
    /* Who read both has both, which gcc's analyzer cannot see. */
    if (!ours || !theirs || !memcmp(ours, theirs, n))
        return;
    for (size_t i = 0; i < n; i++) {
        if (ours[i] == theirs[i])
            continue;
        if (outcome->faults++ == 0)
            outcome->check.wrong.row = begin + i;
    }
}

static f8_status compare_item(const verification *v, f8_worker *worker,
                              const f8_item *item, f8_outcome *outcome,
                              f8_error *err)
{
    const f8_unit *u = &v->pair.plan.units[item->unit];
    const handles *h = worker->user;
    size_t n = (size_t)item->bytes;
    unsigned char *ours, *theirs = NULL;

    f8_status status = f8_handle_read(&h->source, worker->in, n,
                                      u->offset + item->begin, &ours, err);
    if (status == F8_OK)
        status = f8_handle_read(&h->result, worker->out, n,
                                v->pair.parts[item->unit].weight->offset +
                                    item->begin,
                                &theirs, err);
    if (status == F8_OK)
        compare_bytes(ours, theirs, n, item->begin, outcome);
    return status;
}

/* The same of a kept matrix that lies transposed in the source. */
static f8_status compare_across(verification *v, f8_worker *worker,
                                const f8_item *item, f8_outcome *outcome,
                                f8_error *err)
{
    const f8_unit *u = &v->pair.plan.units[item->unit];
    const handles *h = worker->user;
    size_t elem_bytes =
        f8_dtype_bytes(v->pair.plan.source->tensors.items[u->source].dtype);
    uint64_t cols = f8_unit_cols(u);
    size_t n = (size_t)(item->cols * elem_bytes);
    unsigned char *ours, *theirs = NULL;

    f8_status status = read_source(v, item, worker, &ours, err);
    if (status == F8_OK)
        status =
            f8_read_panel(&h->result, v->pair.parts[item->unit].weight->offset,
                          cols, elem_bytes, item, worker->out, &theirs, err);
    for (uint64_t r = 0; r < item->rows && status == F8_OK; r++)
        compare_bytes(ours + r * n, theirs + r * n, n,
                      ((item->row + r) * cols + item->col) * elem_bytes,
                      outcome);
    return status;
}

static f8_status work(void *ctx, f8_worker *worker, const f8_item *item,
                      f8_outcome *outcome, f8_error *err)
{
    verification *v = ctx;
    const f8_unit *u = &v->pair.plan.units[item->unit];
    handles *h = worker->user;
    uint32_t source_file = v->pair.plan.source->tensors.items[u->source].file;

    f8_status status =
        f8_handle_use(&h->source, v->pair.plan.source, source_file, err);
    if (status == F8_OK)
        status = f8_handle_use(&h->result, v->pair.result,
                               v->pair.parts[item->unit].weight->file, err);
    if (status == F8_OK && v->pair.parts[item->unit].scale)
        status = f8_handle_use(&h->scales, v->pair.result,
                               v->pair.parts[item->unit].scale->file, err);
    if (status != F8_OK)
        return status;
    if (u->action == F8_QUANTIZE)
        return check_item(v, worker, item, outcome, err);
    if (u->stride)
        return compare_across(v, worker, item, outcome, err);
    return compare_item(v, worker, item, outcome, err);
}

/* A kind of fault of an item, added to its unit's: how many, and the place of
 * the first, which is one of the item's panel. */
static void add_faults(uint64_t *count, f8_spot *first, uint64_t more,
                       f8_spot spot, const f8_item *item)
{
    if (more && !*count)
        *first =
            (f8_spot){item->row + spot.row, item->col + spot.col, spot.value};
    *count += more;
}

/* Adds an item's findings to its unit's. */
static void add_check(f8_check *to, const f8_check *from, const f8_item *item)
{
    add_faults(&to->not_nearest, &to->wrong, from->not_nearest, from->wrong,
               item);
    add_faults(&to->nan_codes, &to->nan, from->nan_codes, from->nan, item);
    add_faults(&to->bad_scales, &to->bad, from->bad_scales, from->bad, item);
    add_faults(&to->odd_weights, &to->odd, from->odd_weights, from->odd, item);
    add_faults(&to->far_scales, &to->far, from->far_scales, from->far, item);
    add_faults(&to->infinite, &to->beyond, from->infinite, from->beyond, item);
    to->blocks += from->blocks;
    to->amax_blocks += from->amax_blocks;
    to->pow2_blocks += from->pow2_blocks;
    to->power_blocks += from->power_blocks;
    f8_exact_merge(&to->w2, &from->w2);
    f8_exact_merge(&to->e8m0_e2, &from->e8m0_e2);
}

/* Codes that are right, but another matrix's, all of them: one fault, and no
 * others are told of it. Where only scales are wrong the codes are its own. */
static f8_status check_whose(verification *v, uint64_t unit,
                             const f8_check *check, bool *told, f8_error *err)
{
    f8_problems *problems = &v->verdict->findings.faults;
    const char *whose = NULL;

    /* Where no more faults are named it is not asked either. */
    if (!check->not_nearest || check->odd_weights || check->bad_scales ||
        check->nan_codes || problems->count >= F8_PROBLEMS_KEPT)
        return F8_OK;
    f8_status status = f8_mixup_find(&v->search, &v->pair, v->kernel, unit,
                                     &check->wrong, &whose, err);
    *told = whose != NULL;
    if (!whose)
        return status;
    const char *name = v->pair.plan.units[unit].name;
    return f8_problem(problems, err, "tensor %s: has the weights of %s; %s",
                      name, whose,
                      f8_transformers_reads(name)
                          ? "vLLM, SGLang and transformers compute with them "
                            "and say nothing"
                          : "vLLM and SGLang compute with them and say "
                            "nothing, transformers does not read them");
}

/* Where a fault is, as a sentence ends: of codes their row, column and block.
 */
static const char *print_place(char place[PLACE_BYTES], const f8_spot *spot)
{
    snprintf(place, PLACE_BYTES, "row %llu, column %llu, block [%llu, %llu]",
             (unsigned long long)spot->row, (unsigned long long)spot->col,
             (unsigned long long)(spot->row / F8_BLOCK),
             (unsigned long long)(spot->col / F8_BLOCK));
    return place;
}

/* A fault of blocks, where there are any; `of` is what follows the name. */
static f8_status block_fault(verification *v, const f8_unit *u, const char *of,
                             uint64_t count, const f8_spot *first,
                             f8_error *err)
{
    if (count == 0)
        return F8_OK;
    return f8_problem(&v->verdict->findings.faults, err,
                      "tensor %s%s: %llu, the first in block [%llu, %llu]",
                      u->name, of, (unsigned long long)count,
                      (unsigned long long)(first->row / F8_BLOCK),
                      (unsigned long long)(first->col / F8_BLOCK));
}

/* Of scales, of which there is one a block. */
static f8_status scale_faults(verification *v, const f8_unit *u,
                              const f8_check *check, f8_error *err)
{
    f8_status status =
        block_fault(v, u,
                    "_scale_inv: scales more than 4 times off their block's "
                    "largest weight / 448",
                    check->far_scales, &check->far, err);

    if (status == F8_OK)
        status = block_fault(v, u,
                             ": blocks with codes that are infinite under "
                             "their scale",
                             check->infinite, &check->beyond, err);
    if (status == F8_OK)
        status = block_fault(v, u,
                             "_scale_inv: scales that are not finite and "
                             "positive",
                             check->bad_scales, &check->bad, err);
    return status;
}

static f8_status matrix_faults(verification *v, const f8_unit *u,
                               const f8_check *check, f8_error *err)
{
    f8_problems *faults = &v->verdict->findings.faults;
    unsigned long long elems = f8_unit_rows(u) * f8_unit_cols(u);
    char place[PLACE_BYTES];
    f8_status status = F8_OK;

    if (check->odd_weights)
        status = f8_problem(faults, err,
                            "tensor %s: blocks whose source holds NaN or Inf: "
                            "%llu, the first at row %llu, column %llu",
                            u->name, (unsigned long long)check->odd_weights,
                            (unsigned long long)check->odd.row,
                            (unsigned long long)check->odd.col);
    if (status == F8_OK)
        status = scale_faults(v, u, check, err);
    if (check->nan_codes && status == F8_OK)
        status = f8_problem(faults, err,
                            "tensor %s: codes that are NaN: %llu of %llu, the "
                            "first at %s",
                            u->name, (unsigned long long)check->nan_codes,
                            elems, print_place(place, &check->nan));
    if (check->not_nearest && status == F8_OK)
        status =
            f8_problem(faults, err,
                       "tensor %s: codes that are not the nearest to weight / "
                       "scale: %llu of %llu, the first at %s",
                       u->name, (unsigned long long)check->not_nearest, elems,
                       print_place(place, &check->wrong));
    return status;
}

static f8_status retire_matrix(verification *v, const f8_item *item,
                               const f8_outcome *outcome, f8_error *err)
{
    const f8_unit *u = &v->pair.plan.units[item->unit];

    add_check(&v->check, &outcome->check, item);
    f8_finds_add(&v->finds, &outcome->finds, (f8_place){item->row, item->col});
    f8_hist_add(v->hist, outcome->hist);
    if (!item->last)
        return F8_OK;
    f8_tally_unit(&v->verdict->report->tally, &v->pair.plan, item->unit,
                  &v->finds, v->hist);
    bool told = false;
    f8_status status = check_whose(v, item->unit, &v->check, &told, err);
    if (status == F8_OK && !told)
        status = matrix_faults(v, u, &v->check, err);
    v->verdict->summary.codes_not_nearest += v->check.not_nearest;
    v->verdict->summary.codes_nan += v->check.nan_codes;
    v->verdict->summary.blocks += v->check.blocks;
    v->verdict->summary.blocks_amax += v->check.amax_blocks;
    v->verdict->summary.blocks_pow2 += v->check.pow2_blocks;
    v->power_blocks += v->check.power_blocks;
    f8_exact_merge(&v->w2, &v->check.w2);
    f8_exact_merge(&v->e8m0_e2, &v->check.e8m0_e2);
    memset(&v->finds, 0, sizeof v->finds);
    memset(v->hist, 0, sizeof v->hist);
    memset(&v->check, 0, sizeof v->check);
    return status;
}

static f8_status retire(void *ctx, const f8_item *item,
                        const f8_outcome *outcome, f8_error *err)
{
    verification *v = ctx;
    const f8_unit *u = &v->pair.plan.units[item->unit];
    f8_status status = F8_OK;

    f8_behind_retired(&v->behind, item);
    if (u->action == F8_QUANTIZE)
        return retire_matrix(v, item, outcome, err);
    if (outcome->faults && v->differing == 0)
        status =
            f8_problem(&v->verdict->findings.faults, err,
                       "tensor %s: expected the source's bytes, found "
                       "others, the first at byte %llu of %llu",
                       u->name, (unsigned long long)outcome->check.wrong.row,
                       (unsigned long long)u->bytes);
    v->differing = item->last ? 0 : v->differing + outcome->faults;
    return status;
}

static int tell(void *ctx, uint64_t bytes, int64_t shard)
{
    verification *v = ctx;

    (void)shard; /* there is only one, and it is not a file */
    v->progress.bytes_done = v->beside + bytes;
    if (!v->options->progress)
        return 0;
    return v->options->progress(v->options->progress_user, &v->progress);
}

/* The same of the files beside the weights, which come first. */
static bool tell_beside(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
    verification *v = ctx;

    v->progress.bytes_total += bytes_total - v->beside;
    v->beside = bytes_total;
    v->progress.bytes_done = bytes_done;
    return !v->options->progress ||
           v->options->progress(v->options->progress_user, &v->progress) == 0;
}

static void count_units(verification *v)
{
    for (uint64_t i = 0; i < v->pair.plan.units_count; i++) {
        const f8_unit *u = &v->pair.plan.units[i];
        if (!v->pair.parts[i].weight)
            continue;
        v->progress.bytes_total += u->bytes;
        if (u->action == F8_QUANTIZE)
            v->verdict->summary.quantized++;
        else
            v->verdict->summary.kept++;
    }
}

static f8_status check_bytes(verification *v, f8_error *err)
{
    const f8_pipeline_ops ops = {.ctx = v,
                                 .get = get_work,
                                 .skip = is_hopeless,
                                 .worker_begin = begin_worker,
                                 .worker_end = end_worker,
                                 .work = work,
                                 .retire = retire,
                                 .progress = tell};

    const f8_crew crew = {.threads = v->options->threads,
                          .memory_bytes = v->options->memory_bytes,
                          .in_memory =
                              f8_path_in_memory(v->pair.plan.source->dir) &&
                              f8_path_in_memory(v->pair.result->dir)};
    f8_status status = f8_behind_begin(&v->behind, &v->pair.plan, err);
    if (status == F8_OK)
        status = f8_pipeline_run(&ops, v->pair.plan.units_count, 2, &crew, err);
    f8_behind_end(&v->behind);
    return status;
}

/* By which choice the scales seem to be made; E8M0 holds powers of two only,
 * as a plan says too. Others than amax / 448 and its power of two may be
 * searched ones: that is not searched again. */
static f8_scales choice_found(const f8_verdict_summary *found,
                              f8_scale_dtype dtype)
{
    bool is_amax = found->blocks_amax == found->blocks;
    bool is_pow2 = found->blocks_pow2 == found->blocks;

    if (found->blocks == 0)
        return F8_SCALES_DEFAULT;
    if (is_pow2 && (dtype == F8_SCALE_UE8M0 || !is_amax))
        return F8_SCALES_POW2;
    return is_amax ? F8_SCALES_AMAX : F8_SCALES_DEFAULT;
}

/* What stands on the other side, and who decided it. */
static f8_status count_results(verification *v, f8_error *err)
{
    const f8_plan *plan = &v->pair.plan;
    const f8_verdict_summary *found = &v->verdict->summary;
    f8_report *report = v->verdict->report;
    f8_report_sides *sides = &report->sides;
    f8_status status = F8_OK;

    sides->result_tensors = v->pair.result->tensors.count;
    sides->result_bytes = v->pair.result->tensor_bytes;
    sides->result_shards = v->pair.result->files_count;
    sides->fp8_weights = sides->scales = found->quantized;
    sides->kept = found->kept;
    bool several = false;
    for (uint64_t i = 0; i < plan->units_count && status == F8_OK; i++) {
        const f8_counterpart *part = &v->pair.parts[i];
        if (!part->weight)
            continue;
        uint64_t bytes =
            part->weight->bytes + (part->scale ? part->scale->bytes : 0);
        status = f8_report_count(report, plan, i, bytes, err);
        if (!part->scale)
            continue;
        several = several || (sides->dtype != F8_SCALE_DEFAULT &&
                              sides->dtype != part->scale_dtype);
        sides->dtype = part->scale_dtype;
    }
    if (several)
        sides->dtype = F8_SCALE_DEFAULT;
    sides->choice = choice_found(found, sides->dtype);
    v->verdict->summary.choice = sides->choice;
    return status;
}

/* Where nothing was measured there is no error, not one of 0. */
static double e8m0_relative_rms(const verification *v)
{
    if (v->verdict->summary.blocks == 0)
        return NAN;
    return f8_sums_relative_rms(&(f8_sums){.w2 = f8_exact_value(&v->w2),
                                           .e2 = f8_exact_value(&v->e8m0_e2)});
}

/* ---- the public calls ---------------------------------------------------- */

static f8_status verify(verification *v, const char *src, const char *dst,
                        f8_error *err)
{
    f8_status status = f8_agreement_open(&v->pair, src, dst, v->options,
                                         &v->verdict->findings, err);

    if (status == F8_OK) {
        count_units(v);
        status =
            f8_companions_check(v->pair.plan.source, v->pair.result,
                                tell_beside, v, &v->verdict->findings, err);
    }
    if (status == F8_OK)
        status = f8_report_new(&v->pair.plan, &v->verdict->report, err);
    if (status == F8_OK)
        status = check_bytes(v, err);
    if (status == F8_OK)
        status = f8_agreement_check_scales(&v->pair, v->power_blocks,
                                           v->verdict->summary.blocks, err);
    if (status == F8_OK)
        status = f8_checkpoint_unchanged(v->pair.plan.source, err);
    if (status == F8_OK)
        status = f8_checkpoint_unchanged(v->pair.result, err);
    if (status == F8_OK)
        status = count_results(v, err);
    if (status == F8_OK)
        status = f8_report_finish(v->verdict->report, &v->pair.plan, err);
    if (status == F8_OK)
        status = f8_agreement_layout(&v->pair, v->options,
                                     &v->verdict->summary.layout, err);
    if (status == F8_OK) {
        const f8_verdict_summary *s = &v->verdict->summary;
        /* Both live as long as the verdict. */
        v->verdict->report->sides.layout = s->layout ? s->layout : "other";
        status = f8_serving_make(&v->pair.plan,
                                 s->blocks > 0 && v->power_blocks == s->blocks,
                                 &v->verdict->serving, err);
    }
    return status;
}

f8_status f8_verify(const char *src, const char *dst, const f8_options *options,
                    f8_verdict **verdict, f8_error *err)
{
    double start = f8_now();
    f8_options filled;
    verification v = {.options = &filled};

    *verdict = NULL;
    f8_status status = f8_options_fill(options, &filled, err);
    if (status != F8_OK)
        return status;
    status = f8_kernel_choose(filled.cpu, &v.kernel, err);
    if (status != F8_OK)
        return status;
    filled.overrides_count = 0; /* what is kept is read off the result */
    v.verdict = f8_alloc(1, sizeof *v.verdict);
    if (!v.verdict)
        return f8_fail_nomem(err, "the verdict");
    status = verify(&v, src, dst, err);
    if (status == F8_OK) {
        f8_report_summary *s = &v.verdict->report->summary;
        v.verdict->summary.faults = v.verdict->findings.faults.total;
        v.verdict->summary.warnings = v.verdict->findings.warnings.total;
        v.verdict->summary.notes = v.verdict->findings.notes.total;
        v.verdict->summary.e8m0_relative_rms = e8m0_relative_rms(&v);
        v.verdict->summary.seconds = f8_now() - start;
        s->source_bytes = v.pair.plan.source->tensor_bytes;
        s->result_bytes = v.pair.result->tensor_bytes;
        s->quantized = v.verdict->summary.quantized;
        s->kept = v.verdict->summary.kept;
        s->seconds = v.verdict->summary.seconds;
        *verdict = v.verdict;
    } else {
        f8_verdict_free(v.verdict);
    }
    f8_agreement_close(&v.pair);
    return status;
}

void f8_verdict_free(f8_verdict *verdict)
{
    if (!verdict)
        return;
    f8_problems_free(&verdict->findings.faults);
    f8_problems_free(&verdict->findings.warnings);
    f8_problems_free(&verdict->findings.notes);
    f8_report_free(verdict->report);
    f8_serving_free(verdict->serving);
    free(verdict);
}

void f8_verdict_get_summary(const f8_verdict *verdict, f8_verdict_summary *out)
{
    *out = verdict->summary;
}

static const char *line_of(const f8_problems *problems, size_t i)
{
    return i < problems->count ? problems->lines[i] : NULL;
}

const char *f8_verdict_fault(const f8_verdict *verdict, size_t i)
{
    return line_of(&verdict->findings.faults, i);
}

const char *f8_verdict_warning(const f8_verdict *verdict, size_t i)
{
    return line_of(&verdict->findings.warnings, i);
}

const char *f8_verdict_note(const f8_verdict *verdict, size_t i)
{
    return line_of(&verdict->findings.notes, i);
}

const f8_serving *f8_verdict_serving(const f8_verdict *verdict)
{
    return verdict->serving;
}

const f8_report *f8_verdict_report(const f8_verdict *verdict)
{
    return verdict->report;
}
