/* convert.c - the public entries f8_quantize and f8_dequantize: run a plan
 * through the pipeline into a result folder. The order of events is the
 * promise: shards as they are finished, then side files, then the index, then
 * config.json. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manifest.h"
#include "target.h"
#include "work.h"

/* A result shard while it is being written. The tally changes under the
 * pipeline's mutex; the rest is set at its begin and read by all. */
typedef struct open_shard {
    f8_output out;        /* closed unless the shard is being written */
    pthread_mutex_t turn; /* out.file's */
    f8_tally tally;
} open_shard;

typedef struct convert {
    const f8_plan *plan;
    const f8_options *options;
    f8_task task;
    f8_target target;
    open_shard *shards;
    /* Of the unit whose items are being retired: */
    f8_finds finds;
    uint64_t hist[F8_HIST_BINS];
    f8_progress progress;
} convert;

/* ---- what the pipeline asks ---------------------------------------------- */

static void get_work(void *ctx, uint64_t unit, f8_work *work)
{
    const convert *c = ctx;

    f8_plan_work(c->plan, unit, work);
}

static bool is_done(void *ctx, uint32_t shard)
{
    const convert *c = ctx;
    return c->target.shard_done[shard];
}

static f8_status begin_worker(void *ctx, f8_worker *worker, f8_error *err)
{
    (void)ctx;
    return f8_work_begin(worker, err);
}

static void end_worker(void *ctx, f8_worker *worker)
{
    (void)ctx;
    f8_work_end(worker);
}

/* Creates the shard's file with its header, and takes its space. */
static f8_status begin_shard(void *ctx, uint32_t shard, f8_error *err)
{
    convert *c = ctx;
    open_shard *s = &c->shards[shard];
    const f8_shard *planned = &c->plan->shards[shard];
    f8_buf header = {0};

    f8_status status = f8_plan_shard_header(c->plan, shard, &header, err);
    if (status != F8_OK)
        goto out;
    s->out.data_start = header.length;
    s->out.temporary = f8_target_temporary(&c->target, planned->name);
    if (!s->out.temporary ||
        !f8_tally_init(&s->tally, c->plan, planned->first_unit,
                       planned->units_count)) {
        status = f8_fail_nomem(err, "a shard");
        goto out;
    }
    status = f8_create_file(s->out.temporary, &s->out.file.fd, err);
    if (status != F8_OK)
        goto out;
    f8_file_open_direct(&s->out.file, s->out.temporary, O_WRONLY);
    /* In memory there is nothing to be gained by pages that lie together, and
     * all workers would wait for them. */
    if (!s->out.file.in_memory)
        status = f8_reserve(s->out.file.fd, header.length + planned->data_bytes,
                            s->out.temporary, err);
    if (status == F8_OK)
        status = f8_write_at(s->out.file.fd, header.data, header.length, 0,
                             s->out.temporary, err);
out:
    f8_buf_free(&header);
    return status;
}

static f8_status work(void *ctx, f8_worker *worker, const f8_item *item,
                      f8_outcome *outcome, f8_error *err)
{
    convert *c = ctx;
    const f8_unit *u = &c->plan->units[item->unit];

    return f8_work_do(&c->task, &c->shards[u->shard].out, worker, item, outcome,
                      err);
}

/* ---- afterwards ---------------------------------------------------------- */

static f8_status retire(void *ctx, const f8_item *item,
                        const f8_outcome *outcome, f8_error *err)
{
    convert *c = ctx;
    const f8_unit *u = &c->plan->units[item->unit];

    (void)err;
    f8_behind_retired(&c->task.behind, item);
    if (u->action != F8_QUANTIZE)
        return F8_OK;
    f8_finds_add(&c->finds, &outcome->finds, (f8_place){item->row, item->col});
    f8_hist_add(c->hist, outcome->hist);
    if (!item->last)
        return F8_OK;
    f8_tally_unit(&c->shards[u->shard].tally, c->plan, item->unit, &c->finds,
                  c->hist);
    memset(&c->finds, 0, sizeof c->finds);
    memset(c->hist, 0, sizeof c->hist);
    return F8_OK;
}

/* Measurements first, then the final name: whoever finds the name finds the
 * measurements too. */
static f8_status end_shard(void *ctx, uint32_t shard, f8_error *err)
{
    convert *c = ctx;
    open_shard *s = &c->shards[shard];
    char *path = f8_path_join(c->target.dir, c->plan->shards[shard].name);
    int fd = s->out.file.fd;

    f8_status status = f8_sync(fd, s->out.temporary, err);
    /* The ends of pieces, scales, and what lies transposed are in the cache. */
    if (status == F8_OK)
        f8_file_drop(&s->out.file, 0,
                     s->out.data_start + c->plan->shards[shard].data_bytes);
    s->out.file.fd = -1;
    f8_file_close(&s->out.file);
    if (status == F8_OK)
        status = f8_close(fd, s->out.temporary, err);
    else
        close(fd);
    if (status == F8_OK && !path)
        status = f8_fail_nomem(err, "a path");
    if (status == F8_OK)
        status = f8_journal_put_shard(c->target.work_dir, c->plan, shard,
                                      &s->tally, err);
    if (status == F8_OK)
        status = f8_publish(s->out.temporary, path, err);
    if (status == F8_OK) {
        free(s->out.temporary); /* there is nothing to be removed any more */
        s->out.temporary = NULL;
    }
    free(path);
    f8_tally_free(&s->tally);
    return status;
}

static int tell(void *ctx, uint64_t bytes, int64_t shard)
{
    convert *c = ctx;

    c->progress.bytes_done = c->progress.bytes_resumed + bytes;
    c->progress.finished = shard < 0 ? NULL : c->plan->shards[shard].name;
    c->progress.shards_done += shard >= 0;
    if (!c->options->progress)
        return 0;
    return c->options->progress(c->options->progress_user, &c->progress);
}

/* ---- the whole ----------------------------------------------------------- */

static f8_status run_pipeline(convert *c, f8_error *err)
{
    const f8_plan *plan = c->plan;
    const f8_pipeline_ops ops = {.ctx = c,
                                 .get = get_work,
                                 .skip = is_done,
                                 .worker_begin = begin_worker,
                                 .worker_end = end_worker,
                                 .shard_begin = begin_shard,
                                 .work = work,
                                 .retire = retire,
                                 .shard_end = end_shard,
                                 .progress = tell};

    for (uint64_t i = 0; i < plan->units_count; i++) {
        c->progress.bytes_total += plan->units[i].bytes;
        if (c->target.shard_done[plan->units[i].shard])
            c->progress.bytes_resumed += plan->units[i].bytes;
    }
    c->progress.bytes_done = c->progress.bytes_resumed;
    c->progress.shards_done = c->target.shards_done;
    c->progress.shards_total = (uint32_t)plan->shards_count;
    const f8_crew crew = {.threads = plan->threads,
                          .memory_bytes = plan->memory_bytes,
                          .in_memory = f8_path_in_memory(plan->source->dir) &&
                                       f8_path_in_memory(c->target.dir)};
    return f8_pipeline_run(&ops, plan->units_count,
                           (uint32_t)plan->shards_count, &crew, err);
}

static bool keep_going(void *ctx, uint64_t bytes)
{
    convert *c = ctx;

    (void)bytes; /* of files that are not counted */
    c->progress.finished = NULL;
    return !c->options->progress ||
           c->options->progress(c->options->progress_user, &c->progress) == 0;
}

static f8_status copy_sides(convert *c, f8_error *err)
{
    enum { BUFFER_BYTES = 1 << 20 };
    const f8_plan *plan = c->plan;
    f8_status status = F8_OK;
    const f8_watch watch = {keep_going, c};
    unsigned char *buffer = f8_alloc(BUFFER_BYTES, 1);

    if (!buffer)
        return f8_fail_nomem(err, "a buffer");
    for (size_t i = 0; i < plan->sides.count && status == F8_OK; i++) {
        if (plan->sides.items[i].carried &&
            c->target.sides[i] == F8_SIDE_TO_WRITE)
            status = f8_target_copy(&c->target, &plan->source->folder,
                                    &plan->sides.items[i], buffer, BUFFER_BYTES,
                                    &watch, err);
    }
    free(buffer);
    return status;
}

static f8_status execute(convert *c, const f8_buf *index, const f8_buf *config,
                         f8_error *err)
{
    f8_status status = run_pipeline(c, err);

    if (status == F8_OK)
        status = f8_checkpoint_unchanged(c->plan->source, err);
    if (status == F8_OK)
        status = copy_sides(c, err);
    if (status == F8_OK && f8_plan_has_index(c->plan))
        status = f8_target_put(&c->target, F8_INDEX_NAME, index, err);
    if (status == F8_OK && !c->target.edited)
        status = f8_target_put(&c->target, F8_CONFIG_NAME, config, err);
    return status;
}

/* What the plan made of the source. */
static f8_status count_results(f8_report *report, const f8_plan *plan,
                               f8_error *err)
{
    f8_report_sides *sides = &report->sides;
    f8_status status = F8_OK;

    sides->kept = plan->kept + plan->dequantized;
    sides->result_tensors = 2 * plan->fp8_weights + sides->kept;
    sides->result_bytes = plan->result_bytes;
    sides->result_shards = plan->shards_count;
    sides->fp8_weights = sides->scales = plan->fp8_weights;
    sides->requantized = plan->pairs.partners != NULL;
    sides->choice = plan->choice;
    sides->dtype = plan->scale_dtype;
    for (uint64_t i = 0; i < plan->units_count && status == F8_OK; i++) {
        const f8_unit *u = &plan->units[i];
        uint64_t bytes =
            f8_unit_result_bytes(plan, u) + f8_unit_scale_bytes(plan, u);
        status = f8_report_count(report, plan, i, bytes, err);
    }
    return status;
}

/* Statistics of every shard, this run's and earlier ones', in shard order:
 * an interrupted run continued reports what an undisturbed one does. */
static f8_status make_report(convert *c, double seconds, f8_report **report,
                             f8_error *err)
{
    const f8_plan *plan = c->plan;
    f8_report *made = NULL;

    f8_status status = f8_report_new(plan, &made, err);
    for (uint64_t i = 0; i < plan->shards_count && status == F8_OK; i++) {
        status = keep_going(c, 0)
                     ? f8_journal_get_shard(c->target.work_dir, plan, i,
                                            &made->tally, err)
                     : f8_fail(err, F8_ERR_CANCELLED, "stopped");
    }
    if (status == F8_OK)
        status = count_results(made, plan, err);
    if (status == F8_OK && c->target.edited)
        status = f8_report_unlike(made, F8_CONFIG_NAME, err);
    for (size_t i = 0; i < plan->sides.count && status == F8_OK; i++) {
        if (c->target.sides[i] == F8_SIDE_UNLIKE)
            status = f8_report_unlike(made, plan->sides.items[i].path, err);
    }
    if (status == F8_OK)
        status = f8_report_finish(made, plan, err);
    if (status != F8_OK) {
        f8_report_free(made);
        return status;
    }
    made->summary.already_done = c->target.complete;
    made->summary.shards_resumed = c->target.shards_done;
    made->summary.source_bytes = plan->source->tensor_bytes;
    made->summary.result_bytes = plan->result_bytes;
    made->summary.quantized = plan->fp8_weights;
    made->summary.kept = plan->kept;
    made->summary.dequantized = plan->dequantized;
    made->summary.seconds = seconds;
    *report = made;
    return F8_OK;
}

/* Removes what has no final name after a failure. Not when the run was told
 * to stop: freeing gigabytes takes a file system seconds (up to four were seen
 * on a busy ext4), and the next run does it anyway. */
static void clean_up(convert *c, f8_status status)
{
    for (uint64_t i = 0; c->shards && i < c->plan->shards_count; i++) {
        open_shard *s = &c->shards[i];
        f8_file_close(&s->out.file);
        if (s->out.temporary && status != F8_ERR_CANCELLED)
            unlink(s->out.temporary);
        free(s->out.temporary);
        pthread_mutex_destroy(&s->turn);
        f8_tally_free(&s->tally);
    }
    free(c->shards);
    f8_behind_end(&c->task.behind);
    f8_target_close(&c->target);
}

/* What index and config.json of the result will be. */
static f8_status write_manifests(const f8_plan *plan, f8_buf *index,
                                 f8_buf *config, f8_error *err)
{
    f8_status status = F8_OK;

    if (f8_plan_has_index(plan))
        status = f8_manifest_index(plan, index, err);
    if (status == F8_OK)
        status = f8_manifest_config(plan, config, err);
    return status;
}

static f8_status run(const f8_plan *plan, const char *dst,
                     const f8_options *options, f8_report **report,
                     f8_error *err)
{
    double start = f8_now();
    f8_options filled;
    f8_buf index = {0}, config = {0};
    convert c = {
        .plan = plan, .options = &filled, .target = {.lock = F8_LOCK_NONE}};
    const f8_watch watch = {keep_going, &c};

    f8_status status = f8_options_fill(options, &filled, err);
    if (status != F8_OK)
        return status;
    const f8_intent intent = {filled.overwrite, &index, &config, &watch};
    c.task.plan = plan;
    status = f8_kernel_choose(filled.cpu, &c.task.kernel, err);
    if (status != F8_OK)
        return status;
    c.shards = f8_alloc(plan->shards_count, sizeof *c.shards);
    if (!c.shards)
        return f8_fail_nomem(err, "the shards");
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        open_shard *s = &c.shards[i];
        s->turn = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
        s->out.file = F8_FILE_NONE;
        s->out.file.turn = &s->turn;
    }
    status = f8_behind_begin(&c.task.behind, plan, err);
    if (status == F8_OK)
        status = write_manifests(plan, &index, &config, err);
    if (status == F8_OK)
        status = f8_target_open(plan, dst, &intent, &c.target, err);
    if (status == F8_OK && !c.target.complete)
        status = execute(&c, &index, &config, err);
    if (status == F8_OK)
        status = make_report(&c, f8_now() - start, report, err);
    clean_up(&c, status);
    f8_buf_free(&index);
    f8_buf_free(&config);
    return status;
}

/* Whether a conversion could make what it makes in DST first: the folder, one
 * for its work, files in both. */
static f8_status check_writable(const char *dst, f8_error *err)
{
    char *work_dir = f8_path_join(dst, F8_WORK_DIR);

    if (!work_dir)
        return f8_fail_nomem(err, "the result folder");
    f8_status status = f8_check_make_dir(dst, err);
    if (status == F8_OK && access(dst, F_OK) == 0) {
        status = f8_check_make_dir(work_dir, err);
        if (status == F8_OK)
            status = f8_check_make_files(dst, err);
        if (status == F8_OK && access(work_dir, F_OK) == 0)
            status = f8_check_make_files(work_dir, err);
    }
    free(work_dir);
    return status;
}

f8_status f8_plan_meet(const f8_plan *plan, const char *dst, bool overwrite,
                       f8_meeting *meeting, uint64_t *shards_done,
                       f8_error *err)
{
    f8_buf index = {0}, config = {0};
    const f8_intent intent = {overwrite, &index, &config, NULL};

    *meeting = F8_MEETS_NOTHING;
    *shards_done = 0;
    f8_status status = write_manifests(plan, &index, &config, err);
    if (status == F8_OK)
        status = f8_target_look(plan, dst, &intent, meeting, shards_done, err);
    /* In a finished one nothing is written. */
    if (status == F8_OK && *meeting != F8_MEETS_FINISHED)
        status = check_writable(dst, err);
    f8_buf_free(&index);
    f8_buf_free(&config);
    return status;
}

f8_status f8_quantize(const f8_plan *plan, const char *dst,
                      const f8_options *options, f8_report **report,
                      f8_error *err)
{
    *report = NULL;
    if (plan->direction != F8_TO_FP8)
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "expected a plan to quantise, found one to dequantise");
    return run(plan, dst, options, report, err);
}

f8_status f8_dequantize(const f8_plan *plan, const char *dst,
                        const f8_options *options, f8_report **report,
                        f8_error *err)
{
    *report = NULL;
    if (plan->direction != F8_FROM_FP8)
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "expected a plan to dequantise, found one to quantise");
    return run(plan, dst, options, report, err);
}
