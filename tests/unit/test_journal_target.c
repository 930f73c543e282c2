/* test_journal_target.c - what outlives a run, and what a run may do to a
 * folder that is there already. docs/format.md, section 7. */
#include "helpers.h"

#include <float.h>
#include <pthread.h>

#include "manifest.h"
#include "target.h"

/* ---- a plan of three shards ---------------------------------------------- */

#define SHARD_1 "model-00001-of-00003.safetensors"
#define SHARD_2 "model-00002-of-00003.safetensors"
#define SHARD_3 "model-00003-of-00003.safetensors"
#define INDEX "model.safetensors.index.json"

static const made_tensor source_tensors[] = {
    {"a.q.weight", F8_DTYPE_BF16, 2, {128, 128}},
    {"b.norm", F8_DTYPE_BF16, 1, {10}},
    {"c.k.weight", F8_DTYPE_BF16, 2, {128, 128}},
};

/* SRC with one shard and one side file in a folder. */
static void put_sources(const char *dir)
{
    put_source(dir,
               "family test\n"
               "quantize  *.weight\n"
               "keep      *.norm\n",
               TEST_CONFIG, source_tensors, COUNT_OF(source_tensors));
    make_dir(path_in(dir, "src/sub"));
    put_text(path_in(dir, "src/sub/side.txt"), "side file");
    set_mtime(path_in(dir, "src/model.safetensors"), 1000000000, 0);
}

static f8_plan *plan_scaled(const char *dir, f8_scale_dtype scale_dtype,
                            uint64_t shard_bytes)
{
    f8_options options = {.size = sizeof options,
                          .threads = 1,
                          .shard_bytes = shard_bytes,
                          .rules = path_in(dir, "my.rules"),
                          .scale_dtype = scale_dtype};
    f8_plan *plan = NULL;
    f8_error err = {0};

    expect_ok(f8_plan_create(path_in(dir, "src"), &options, &plan, &err), &err);
    return plan;
}

/* One shard for each of the tensors. */
static f8_plan *usual_plan(const char *dir)
{
    f8_plan *plan = plan_scaled(dir, F8_SCALE_BF16, 1);

    assert_int_equal(plan->shards_count, 3);
    return plan;
}

/* What index and config.json will be. */
typedef struct texts {
    f8_buf index, config;
} texts;

static texts texts_of(const f8_plan *plan)
{
    texts t = {{0}, {0}};
    f8_error err = {0};

    if (plan->shards_count > 1)
        expect_ok(f8_manifest_index(plan, &t.index, &err), &err);
    expect_ok(f8_manifest_config(plan, &t.config, &err), &err);
    return t;
}

static void texts_free(texts *t)
{
    f8_buf_free(&t->index);
    f8_buf_free(&t->config);
}

static f8_status open_target(const f8_plan *plan, const char *dst,
                             bool overwrite, f8_target *target, f8_error *err)
{
    texts t = texts_of(plan);
    const f8_intent intent = {overwrite, &t.index, &t.config, NULL};
    f8_status status = f8_target_open(plan, dst, &intent, target, err);

    texts_free(&t);
    return status;
}

static f8_target open_good(const f8_plan *plan, const char *dst)
{
    f8_target target;
    f8_error err = {0};

    expect_ok(open_target(plan, dst, false, &target, &err), &err);
    return target;
}

static void expect_refused(const f8_plan *plan, const char *dst,
                           f8_status expected, const char *message)
{
    f8_target target;
    f8_error err = {0};

    expect_error(open_target(plan, dst, false, &target, &err), &err, expected,
                 message);
    assert_null(target.dir);
    assert_null(target.shard_done);
    assert_int_equal(target.lock.fd, -1);
    assert_null(target.lock.file);
}

/* A shard file with the right header and zeros, plus `more` bytes. */
static void put_result_shard(const f8_plan *plan, uint64_t i, const char *path,
                             int more)
{
    f8_buf header = {0};
    f8_error err = {0};

    expect_ok(f8_plan_shard_header(plan, i, &header, &err), &err);
    put_file(path, header.data, header.length);
    off_t bytes = (off_t)(header.length + plan->shards[i].data_bytes) + more;
    assert_int_equal(truncate(path, bytes), 0);
    f8_buf_free(&header);
}

/* Room for what is measured in a shard. */
static f8_tally tally_of(const f8_plan *plan, uint64_t i)
{
    f8_tally tally;

    assert_true(f8_tally_init(&tally, plan, plan->shards[i].first_unit,
                              plan->shards[i].units_count));
    return tally;
}

/* As many figures as the shard has matrices, all of them 0. */
static void put_measurements(const f8_plan *plan, const char *work_dir,
                             uint64_t i)
{
    static const f8_finds finds;
    static const uint64_t hist[F8_HIST_BINS];
    const f8_shard *shard = &plan->shards[i];
    f8_tally tally = tally_of(plan, i);
    f8_error err = {0};

    for (uint64_t k = 0; k < shard->units_count; k++) {
        if (plan->units[shard->first_unit + k].action == F8_QUANTIZE)
            f8_tally_unit(&tally, plan, shard->first_unit + k, &finds, hist);
    }
    expect_ok(f8_journal_put_shard(work_dir, plan, i, &tally, &err), &err);
    f8_tally_free(&tally);
}

/* ---- measurements -------------------------------------------------------- */

/* Numbers that a careless print would not bring back. */
static f8_sums odd_sums(double scale)
{
    return (f8_sums){1.0 / 3 * scale, 0.1 + 0.2, -DBL_MAX, 4.9e-324,
                     DBL_MIN * (1 + DBL_EPSILON)};
}

static void fill_stats(f8_stats *s, uint64_t seed)
{
    s->tensors = seed + 1;
    s->elems = (UINT64_C(1) << 53) + 1; /* no binary64 */
    s->blocks = INT64_MAX;
    s->sums = odd_sums((double)(seed + 1));
    for (size_t k = 0; k < F8_HIST_BINS; k++)
        s->hist[k] = k * UINT64_C(0x123456789abcd) + seed;
    for (size_t k = 0; k < 4; k++)
        s->seen.bits[k] = UINT64_C(0xfedcba9876543210) + k + seed;
}

/* One matrix in one layer. */
static void fill_tally(f8_tally *tally, uint64_t unit)
{
    assert_int_equal(tally->layers_count, 1);
    assert_int_equal(tally->units_capacity, 1);
    for (size_t i = 0; i < tally->kinds_count; i++)
        fill_stats(&tally->kinds[i], i);
    fill_stats(&tally->layers[0], 77);
    tally->measured_count = 1;
    tally->measured[0] = (f8_measured){.unit = unit,
                                       .sums = odd_sums(7),
                                       .median = 0.1,
                                       .p999 = 0.2,
                                       .zeros = UINT64_MAX,
                                       .saturated = 1,
                                       .became_zero = 2,
                                       .codes_unused = 254,
                                       .max_at = {127, 126},
                                       .worst_w2 = 1e-300,
                                       .worst_e2 = 1.0 / 3,
                                       .worst_at = {3, 127}};
}

static void test_measurements_come_back(void **state)
{
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    assert_int_equal(plan->kinds_count, 2);
    f8_tally put = tally_of(plan, 2), got = tally_of(plan, 2);
    fill_tally(&put, 2);
    expect_ok(f8_journal_put_shard(*state, plan, 2, &put, &err), &err);
    assert_int_equal(f8_journal_get_shard(*state, plan, 2, NULL, NULL), F8_OK);
    assert_int_equal(f8_journal_get_shard(*state, plan, 2, &got, NULL), F8_OK);
    assert_memory_equal(got.kinds, put.kinds,
                        plan->kinds_count * sizeof *put.kinds);
    assert_memory_equal(got.layers, put.layers, sizeof *put.layers);
    assert_int_equal(got.measured_count, 1);
    assert_memory_equal(got.measured, put.measured, sizeof *put.measured);
    f8_tally_free(&got);
    /* They are added to what is there. */
    got = (f8_tally){0};
    assert_true(f8_tally_init(&got, plan, 0, plan->units_count));
    put_measurements(plan, *state, 0);
    assert_int_equal(f8_journal_get_shard(*state, plan, 0, &got, NULL), F8_OK);
    assert_int_equal(f8_journal_get_shard(*state, plan, 2, &got, NULL), F8_OK);
    assert_int_equal(got.kinds[0].tensors, 1 + 1);
    assert_int_equal(got.kinds[1].hist[1], UINT64_C(0x123456789abcd) + 1);
    assert_int_equal(got.measured_count, 2);
    assert_int_equal(got.measured[1].unit, 2);
    /* Other shards have none. */
    assert_int_not_equal(f8_journal_get_shard(*state, plan, 1, &got, NULL),
                         F8_OK);
    f8_tally_free(&put);
    f8_tally_free(&got);
    f8_plan_free(plan);
}

static void test_measurements_of_another_plan(void **state)
{
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    f8_plan *other = plan_scaled(*state, F8_SCALE_F32, 1);
    f8_tally put = tally_of(plan, 0), got = tally_of(plan, 0);
    f8_tally zero = tally_of(plan, 0);
    fill_tally(&put, 0);
    expect_ok(f8_journal_put_shard(*state, other, 0, &put, &err), &err);
    assert_int_not_equal(f8_journal_get_shard(*state, plan, 0, &got, NULL),
                         F8_OK);
    assert_memory_equal(got.kinds, zero.kinds,
                        plan->kinds_count * sizeof *got.kinds);
    assert_int_equal(got.measured_count, 0);
    assert_int_equal(f8_journal_get_shard(*state, other, 0, NULL, NULL), F8_OK);
    f8_tally_free(&put);
    f8_tally_free(&got);
    f8_tally_free(&zero);
    f8_plan_free(other);
    f8_plan_free(plan);
}

/* Replaces the first `from` in the text of a file. */
static void edit(const char *path, const char *from, const char *to)
{
    f8_buf text = {0};
    char *bytes = get_file(path, NULL);
    char *at = strstr(bytes, from);

    if (!at)
        fail_msg("%s does not hold %s", path, from);
    f8_buf_append(&text, bytes, (size_t)(at - bytes));
    f8_buf_puts(&text, to);
    f8_buf_puts(&text, at + strlen(from));
    put_file(path, text.data, text.length);
    f8_buf_free(&text);
    free(bytes);
}

static void test_damaged_measurements(void **state)
{
    static const char *const edits[][2] = {
        {"{", ""},
        /* Bin and count, bin and count; bin 0 has none. */
        {"\"histogram\":[1,", "\"histogram\":[-1,"},
        {"\"histogram\":[1,", "\"histogram\":[0.5,"},
        {"\"histogram\":[1,", "\"histogram\":[2,"},
        {"\"histogram\":[1,", "\"histogram\":[597,"},
        {"\"histogram\":[1,3", "\"histogram\":[1,-3"},
        {"\"histogram\":[1,", "\"histogram\":[0,0,1,"},
        {"\"histogram\":[1,", "\"histogram\":["},
        {"\"histogram\":[1,", "\"histogram\":[0,7,1,2,"},
        {"\"histogram\"", "\"histograms\""},
        {"\"tensors\":1", "\"tensors\":\"1\""},
        {"\"elements\":9007199254740993", "\"elemental\":1"},
        /* A word each: the unit, which is 0, then zeros. */
        {"[\"0000000000000000f", "[\"0000000000000001f"},
        {"[\"0000000000000000f", "[\"0000000000000000g"},
        {"[\"0000000000000000f", "[\"000000000000000f"},
        {"00fe", "00ff"},                         /* codes unused: of 254 */
        {"000000000000007f", "0000000000000080"}, /* a row of 128 */
        {"\"measured\":[", "\"measured\":[\"\","},
        {"\"measured\":[", "\"measured\":[7,"},
        {"\"measured\":[\"", "\"measured\":[],\"more\":[\""},
        {"\"layers\":[", "\"layers\":[{},"},
        {"\"codes\":[\"f", "\"codes\":[\"x"},
        {"\"codes\":[\"f", "\"codes\":[\"f0"},
        {"\"codes\":[\"f", "\"codes\":[\"0\",\"f"},
        {"\"kinds\":[", "\"kinds\":[{},"},
    };
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *path = path_in(*state, "shard-00001.json");
    f8_tally tally = tally_of(plan, 0);
    fill_tally(&tally, 0);
    for (size_t i = 0; i < COUNT_OF(edits); i++) {
        expect_ok(f8_journal_put_shard(*state, plan, 0, &tally, &err), &err);
        assert_int_equal(f8_journal_get_shard(*state, plan, 0, NULL, NULL),
                         F8_OK);
        edit(path, edits[i][0], edits[i][1]);
        if (f8_journal_get_shard(*state, plan, 0, NULL, NULL) == F8_OK)
            fail_msg("accepted %s for %s", edits[i][1], edits[i][0]);
    }
    f8_tally_free(&tally);
    f8_plan_free(plan);
}

/* A kind of which the shard has nothing takes a line, not all its bins. */
static void test_empty_measurements_are_short(void **state)
{
    f8_error err = {0};
    size_t bytes = 0;

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    f8_tally tally = tally_of(plan, 0);
    expect_ok(f8_journal_put_shard(*state, plan, 0, &tally, &err), &err);
    char *text = get_file(path_in(*state, "shard-00001.json"), &bytes);
    assert_non_null(strstr(text, "\"histogram\":[],"));
    assert_true(bytes < 2000);
    free(text);
    f8_tally_free(&tally);
    f8_plan_free(plan);
}

/* ---- the journal --------------------------------------------------------- */

static void test_journal_matches(void **state)
{
    const char *why = NULL;
    f8_journal journal;
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    /* None is no error, and matches nothing. */
    expect_ok(f8_journal_read(*state, &journal, &err), &err);
    assert_null(journal.stored);
    assert_false(f8_journal_matches(&journal, plan, &why));
    assert_false(f8_journal_lists(&journal, SHARD_1));
    expect_ok(f8_journal_begin(&journal, plan, false, &err), &err);
    f8_journal_free(&journal);

    expect_ok(f8_journal_read(*state, &journal, &err), &err);
    assert_non_null(journal.stored);
    assert_true(f8_journal_matches(&journal, plan, &why));
    f8_plan *same = usual_plan(*state);
    assert_true(f8_journal_matches(&journal, same, &why));
    f8_plan_free(same);
    f8_plan *other = plan_scaled(*state, F8_SCALE_F32, 1);
    assert_false(f8_journal_matches(&journal, other, &why));
    assert_string_equal(why, "other options");
    f8_plan_free(other);
    other = plan_scaled(*state, F8_SCALE_BF16, 0);
    assert_false(f8_journal_matches(&journal, other, &why));
    assert_string_equal(why, "other options");
    f8_plan_free(other);
    set_mtime(path_in(*state, "src/model.safetensors"), 1000000000, 1);
    other = usual_plan(*state);
    assert_false(f8_journal_matches(&journal, other, &why));
    assert_string_equal(why, "another source");
    f8_plan_free(other);
    f8_journal_free(&journal);

    edit(path_in(*state, "journal.json"), "\"result_format\":1",
         "\"result_format\":0");
    expect_ok(f8_journal_read(*state, &journal, &err), &err);
    assert_false(f8_journal_matches(&journal, plan, &why));
    assert_string_equal(why, "another version of fp8cast");
    f8_journal_free(&journal);
    f8_plan_free(plan);
}

static void test_journal_lists(void **state)
{
    static const char *const listed[] = {
        SHARD_1, SHARD_2, SHARD_3, "sub/side.txt", INDEX, "config.json"};
    static const char *const others[] = {"model.safetensors", "side.txt", "",
                                         ".fp8cast/journal.json"};
    f8_journal journal;
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    expect_ok(f8_journal_read(*state, &journal, &err), &err);
    expect_ok(f8_journal_begin(&journal, plan, false, &err), &err);
    f8_journal_free(&journal);
    expect_ok(f8_journal_read(*state, &journal, &err), &err);
    for (size_t i = 0; i < COUNT_OF(listed); i++)
        assert_true(f8_journal_lists(&journal, listed[i]));
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_false(f8_journal_lists(&journal, others[i]));
    f8_plan_free(plan);
    /* One shard has no index. */
    plan = plan_scaled(*state, F8_SCALE_BF16, 0);
    expect_ok(f8_journal_begin(&journal, plan, false, &err), &err);
    f8_journal_free(&journal);
    expect_ok(f8_journal_read(*state, &journal, &err), &err);
    assert_true(f8_journal_lists(&journal, "model.safetensors"));
    assert_false(f8_journal_lists(&journal, SHARD_1));
    assert_false(f8_journal_lists(&journal, INDEX));
    f8_plan_free(plan);
    /* Names that are kept, each once. */
    plan = usual_plan(*state);
    expect_ok(f8_journal_begin(&journal, plan, true, &err), &err);
    f8_journal_free(&journal);
    expect_ok(f8_journal_read(*state, &journal, &err), &err);
    assert_true(f8_journal_lists(&journal, "model.safetensors"));
    for (size_t i = 0; i < COUNT_OF(listed); i++)
        assert_true(f8_journal_lists(&journal, listed[i]));
    assert_int_equal(json_array_size(json_object_get(journal.stored, "files")),
                     COUNT_OF(listed) + 1);
    f8_journal_free(&journal);
    f8_plan_free(plan);
}

static void test_broken_journal(void **state)
{
    char message[2 * 4096];
    const char *path = path_in(*state, "journal.json");
    f8_journal journal;
    f8_error err = {0};

    put_text(path, "{\"fp8cast\":");
    snprintf(message, sizeof message, "%s: not valid JSON", path);
    expect_error(f8_journal_read(*state, &journal, &err), &err, F8_ERR_FORMAT,
                 message);
    assert_null(journal.stored);
    f8_journal_free(&journal);
}

/* ---- places -------------------------------------------------------------- */

static void test_places(void **state)
{
    char message[4 * 4096];

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *src = path_in(*state, "src");
    const char *inside = path_in(*state, "src/out");
    const char *link = path_in(*state, "link");
    const char *alias = path_in(*state, "src/../src/.");

    snprintf(message, sizeof message,
             "%s: the result folder is the source folder", src);
    expect_refused(plan, src, F8_ERR_REFUSED, message);
    snprintf(message, sizeof message,
             "%s: the result folder is the source folder", alias);
    expect_refused(plan, alias, F8_ERR_REFUSED, message);
    assert_int_equal(symlink("src", link), 0);
    snprintf(message, sizeof message,
             "%s: the result folder is the source folder", link);
    expect_refused(plan, link, F8_ERR_REFUSED, message);
    snprintf(message, sizeof message,
             "%s: the result folder is inside the source folder %s", inside,
             src);
    expect_refused(plan, inside, F8_ERR_REFUSED, message);
    assert_false(exists(inside));
    snprintf(message, sizeof message,
             "%s: the source folder %s is inside the result folder",
             (const char *)*state, src);
    expect_refused(plan, *state, F8_ERR_REFUSED, message);
    assert_false(exists(path_in(*state, ".fp8cast")));
    /* A name that only begins like the source's is another folder. */
    f8_target target = open_good(plan, path_in(*state, "src2"));
    f8_target_close(&target);
    f8_plan_free(plan);
}

static void test_foreign_files(void **state)
{
    char message[2 * 4096];
    f8_target target;
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");
    put_text(dst, "a file");
    snprintf(message, sizeof message,
             "%s: expected a folder or nothing, found a file", dst);
    expect_refused(plan, dst, F8_ERR_REFUSED, message);
    assert_int_equal(unlink(dst), 0);

    make_dir(dst);
    put_text(path_in(dst, "thesis.txt"), "mine");
    snprintf(message, sizeof message,
             "%s: holds thesis.txt, which is not part of this conversion; "
             "expected a new or empty folder",
             dst);
    expect_refused(plan, dst, F8_ERR_REFUSED, message);
    /* Not to be overwritten either, whatever was asked for. */
    expect_error(open_target(plan, dst, true, &target, &err), &err,
                 F8_ERR_REFUSED, message);
    char *bytes = get_file(path_in(dst, "thesis.txt"), NULL);
    assert_string_equal(bytes, "mine");
    free(bytes);
    assert_int_equal(unlink(path_in(dst, "thesis.txt")), 0);

    /* Names like ours, but no journal says that they are. */
    put_text(path_in(dst, "config.json"), "{}");
    snprintf(message, sizeof message,
             "%s: holds config.json, but no sign that fp8cast wrote it; "
             "expected a new or empty folder, or --overwrite",
             dst);
    expect_refused(plan, dst, F8_ERR_REFUSED, message);
    expect_ok(open_target(plan, dst, true, &target, &err), &err);
    assert_false(exists(path_in(dst, "config.json")));
    f8_target_close(&target);
    f8_plan_free(plan);
}

/* ---- opening ------------------------------------------------------------- */

static void test_new_folder(void **state)
{
    f8_journal journal;
    f8_error err = {0};
    const char *why;

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");
    f8_target target = open_good(plan, dst);
    assert_string_equal(target.dir, dst);
    assert_string_equal(target.work_dir, path_in(dst, ".fp8cast"));
    assert_true(target.lock.fd >= 0);
    assert_int_equal(access(path_in(dst, ".fp8cast/lock"), F_OK), 0);
    assert_false(target.complete);
    assert_int_equal(target.shards_done, 0);
    for (size_t i = 0; i < 3; i++)
        assert_false(target.shard_done[i]);
    expect_ok(f8_journal_read(target.work_dir, &journal, &err), &err);
    assert_true(f8_journal_matches(&journal, plan, &why));
    f8_journal_free(&journal);
    f8_target_close(&target);
    f8_plan_free(plan);
}

static void test_one_run_at_a_time(void **state)
{
    char message[2 * 4096];

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");
    f8_target target = open_good(plan, dst);
    char host[256] = "";
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    snprintf(message, sizeof message,
             "%s: another fp8cast is writing here: process %ld on %s", dst,
             (long)getpid(), host);
    expect_refused(plan, dst, F8_ERR_REFUSED, message);
    f8_target_close(&target);
    assert_int_not_equal(access(path_in(dst, ".fp8cast/lock"), F_OK), 0);
    target = open_good(plan, dst);
    f8_target_close(&target);
    f8_plan_free(plan);
}

/* ---- one plan, several threads ------------------------------------------- */

typedef struct shared_run {
    const f8_plan *plan;
    const char *dst;
    f8_status status;
    f8_error err;
} shared_run;

static void *run_shared(void *ctx)
{
    shared_run *run = ctx;
    f8_report *report = NULL;

    run->status = f8_quantize(run->plan, run->dst, NULL, &report, &run->err);
    f8_report_free(report);
    return NULL;
}

/* A plan does not change while it is executed, not even for a moment: this is
 * for ThreadSanitizer to look at. */
static void test_one_plan_of_two_runs(void **state)
{
    enum { RUNS = 2 };
    static const char *const compared[] = {"config.json", INDEX, SHARD_1,
                                           ".fp8cast/journal.json"};
    shared_run runs[RUNS] = {0};
    pthread_t threads[RUNS];

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    for (size_t i = 0; i < RUNS; i++) {
        runs[i].plan = plan;
        runs[i].dst = path_in(*state, i ? "second" : "first");
        assert_int_equal(
            pthread_create(&threads[i], NULL, run_shared, &runs[i]), 0);
    }
    for (size_t i = 0; i < RUNS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        expect_ok(runs[i].status, &runs[i].err);
    }
    for (size_t i = 0; i < COUNT_OF(compared); i++) {
        size_t lengths[RUNS];
        char *bytes[RUNS];
        for (size_t k = 0; k < RUNS; k++)
            bytes[k] = get_file(path_in(runs[k].dst, compared[i]), &lengths[k]);
        assert_int_equal(lengths[0], lengths[1]);
        assert_memory_equal(bytes[0], bytes[1], lengths[0]);
        free(bytes[0]);
        free(bytes[1]);
    }
    f8_plan_free(plan);
}

/* A folder that has the name of a file to be written, which a rename would
 * only find out about when all the work is done. */
static void test_folder_in_the_way(void **state)
{
    static const char *const names[] = {SHARD_2, INDEX, "config.json",
                                        "sub/side.txt"};
    char message[2 * 4096];

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char name[32];
        snprintf(name, sizeof name, "dst%zu", i);
        const char *dst = path_in(*state, name);
        make_dir(dst);
        if (i == 3)
            make_dir(path_in(dst, "sub"));
        make_dir(path_in(dst, names[i]));
        snprintf(message, sizeof message,
                 "%s: holds a folder called %s, which is to be a file; "
                 "expected a new or empty folder",
                 dst, names[i]);
        expect_refused(plan, dst, F8_ERR_REFUSED, message);
        assert_int_not_equal(access(path_in(dst, ".fp8cast"), F_OK), 0);
    }
    f8_plan_free(plan);
}

/* Final name, right size and measurements: each alone is not enough. */
static void test_finished_shards(void **state)
{
    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");
    const char *work = path_in(*state, "dst/.fp8cast");
    f8_target target = open_good(plan, dst);
    f8_target_close(&target);

    /* Name and size, no measurements. */
    put_result_shard(plan, 0, path_in(dst, SHARD_1), 0);
    /* Measurements and size, but not the final name. */
    put_result_shard(plan, 1, path_in(work, SHARD_2 ".part"), 0);
    put_measurements(plan, work, 1);
    /* Name and measurements, one byte too much. */
    put_result_shard(plan, 2, path_in(dst, SHARD_3), 1);
    put_measurements(plan, work, 2);
    target = open_good(plan, dst);
    assert_int_equal(target.shards_done, 0);
    for (size_t i = 0; i < 3; i++)
        assert_false(target.shard_done[i]);
    /* What was not finished is removed, measurements are not. */
    assert_false(exists(path_in(work, SHARD_2 ".part")));
    assert_true(exists(path_in(work, "shard-00002.json")));
    f8_target_close(&target);

    put_result_shard(plan, 2, path_in(dst, SHARD_3), -1);
    target = open_good(plan, dst);
    assert_int_equal(target.shards_done, 0);
    f8_target_close(&target);

    put_result_shard(plan, 2, path_in(dst, SHARD_3), 0);
    target = open_good(plan, dst);
    assert_int_equal(target.shards_done, 1);
    assert_false(target.shard_done[0]);
    assert_false(target.shard_done[1]);
    assert_true(target.shard_done[2]);
    assert_false(target.complete);
    f8_target_close(&target);
    f8_plan_free(plan);
}

static void test_another_conversion(void **state)
{
    char message[2 * 4096];
    f8_target target;
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    f8_plan *other = plan_scaled(*state, F8_SCALE_F32, 1);
    const char *dst = path_in(*state, "dst");
    const char *work = path_in(*state, "dst/.fp8cast");
    target = open_good(plan, dst);
    f8_target_close(&target);
    put_result_shard(plan, 0, path_in(dst, SHARD_1), 0);
    put_measurements(plan, work, 0);
    put_text(path_in(dst, "config.json"), "{}");

    snprintf(message, sizeof message,
             "%s: holds a conversion of other options; finish it with the same "
             "command, or replace it with --overwrite",
             dst);
    expect_refused(other, dst, F8_ERR_REFUSED, message);
    assert_true(exists(path_in(dst, SHARD_1)));
    expect_ok(open_target(other, dst, true, &target, &err), &err);
    assert_int_equal(target.shards_done, 0);
    assert_false(exists(path_in(dst, SHARD_1)));
    assert_false(exists(path_in(dst, "config.json")));
    assert_false(exists(path_in(work, "shard-00001.json")));
    f8_target_close(&target);
    /* Now the folder is the other one's. */
    expect_refused(plan, dst, F8_ERR_REFUSED, message);
    target = open_good(other, dst);
    f8_target_close(&target);
    f8_plan_free(other);
    f8_plan_free(plan);
}

static void test_another_source(void **state)
{
    char message[2 * 4096];

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");
    f8_target target = open_good(plan, dst);
    f8_target_close(&target);
    f8_plan_free(plan);
    set_mtime(path_in(*state, "src/model.safetensors"), 1000000001, 0);
    plan = usual_plan(*state);
    snprintf(message, sizeof message,
             "%s: holds a conversion of another source; finish it with the "
             "same command, or replace it with --overwrite",
             dst);
    expect_refused(plan, dst, F8_ERR_REFUSED, message);
    f8_plan_free(plan);
}

/* A result that no disk holds; the source is a hole. */
static void test_space(void **state)
{
    static const made_tensor huge[] = {
        {"b.norm", F8_DTYPE_U8, 1, {UINT64_C(1) << 43}}};
    char message[2 * 4096];
    uint64_t free_bytes = 0;
    f8_error err = {0};
    f8_target target;

    put_sources(*state);
    put_text(path_in(*state, "my.rules"), "family test\nkeep b.norm\n");
    const char *path = path_in(*state, "src/model.safetensors");
    put_text(path, "");
    if (truncate(path, (off_t)((UINT64_C(1) << 43) + 1000)) != 0)
        skip(); /* a file system without such large files */
    put_shard(path, huge, 1);
    expect_ok(f8_free_space(*state, &free_bytes, &err), &err);
    if (free_bytes >= UINT64_C(1) << 43)
        skip();
    f8_plan *plan = plan_scaled(*state, F8_SCALE_BF16, UINT64_MAX);
    const char *dst = path_in(*state, "dst");
    assert_int_equal(open_target(plan, dst, false, &target, &err),
                     F8_ERR_SPACE);
    snprintf(message, sizeof message,
             "%s: not enough free space: expected 87960930", dst);
    assert_memory_equal(err.message, message, strlen(message));
    assert_int_equal(err.status, F8_ERR_SPACE);
    assert_false(exists(dst)); /* refused before anything is written */
    f8_plan_free(plan);
}

/* ---- finishing ----------------------------------------------------------- */

static bool go_on(void *ctx, uint64_t bytes)
{
    unsigned *left = ctx;

    (void)bytes;
    return (*left)-- > 0;
}

static void test_put_and_copy(void **state)
{
    unsigned char buffer[4]; /* smaller than the file */
    unsigned pieces = 100;
    const f8_watch watch = {go_on, &pieces};
    f8_buf text = {0};
    f8_error err = {0};
    size_t n;

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");
    f8_target target = open_good(plan, dst);
    char *temporary = f8_target_temporary(&target, "x");
    assert_string_equal(temporary, path_in(dst, ".fp8cast/x.part"));
    free(temporary);

    f8_buf_append(&text, "a\0b", 3);
    expect_ok(f8_target_put(&target, "config.json", &text, &err), &err);
    char *bytes = get_file(path_in(dst, "config.json"), &n);
    assert_int_equal(n, 3);
    assert_memory_equal(bytes, "a\0b", 3);
    free(bytes);
    assert_false(exists(path_in(dst, ".fp8cast/config.json.part")));

    assert_int_equal(plan->sides.count, 1);
    expect_ok(f8_target_copy(&target, &plan->source->folder,
                             &plan->sides.items[0], buffer, sizeof buffer,
                             &watch, &err),
              &err);
    bytes = get_file(path_in(dst, "sub/side.txt"), &n);
    assert_int_equal(n, 9);
    assert_string_equal(bytes, "side file");
    free(bytes);
    assert_false(exists(path_in(dst, ".fp8cast/side-file.part")));

    /* Stopped after the first of three pieces: the final name is untouched
     * and nothing is left of the work. */
    put_text(path_in(*state, "src/sub/side.txt"), "SIDE FILE");
    pieces = 1;
    expect_error(f8_target_copy(&target, &plan->source->folder,
                                &plan->sides.items[0], buffer, sizeof buffer,
                                &watch, &err),
                 &err, F8_ERR_CANCELLED, "stopped");
    bytes = get_file(path_in(dst, "sub/side.txt"), &n);
    assert_string_equal(bytes, "side file");
    free(bytes);
    assert_false(exists(path_in(dst, ".fp8cast/side-file.part")));
    f8_target_close(&target);
    f8_buf_free(&text);
    f8_plan_free(plan);
}

/* The place of a side file is taken by a folder. */
static void test_copy_that_cannot_be_published(void **state)
{
    unsigned char buffer[64];
    unsigned pieces = 100;
    const f8_watch watch = {go_on, &pieces};
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");
    f8_target target = open_good(plan, dst);
    make_dir(path_in(dst, "sub"));
    make_dir(path_in(dst, "sub/side.txt"));
    assert_int_equal(f8_target_copy(&target, &plan->source->folder,
                                    &plan->sides.items[0], buffer,
                                    sizeof buffer, &watch, &err),
                     F8_ERR_IO);
    assert_false(exists(path_in(dst, ".fp8cast/side-file.part")));
    f8_target_close(&target);
    f8_plan_free(plan);
}

/* The files that a run makes up. */
static void put_made(const char *dst, const texts *t)
{
    put_file(path_in(dst, INDEX), t->index.data, t->index.length);
    put_file(path_in(dst, "config.json"), t->config.data, t->config.length);
}

static void put_complete(const f8_plan *plan, const char *dst, const texts *t)
{
    f8_target target = open_good(plan, dst);

    f8_target_close(&target);
    for (uint64_t i = 0; i < 3; i++) {
        put_result_shard(plan, i, path_in(dst, f8_plan_shard_name(plan, i)), 0);
        put_measurements(plan, path_in(dst, ".fp8cast"), i);
    }
    make_dir(path_in(dst, "sub"));
    put_text(path_in(dst, "sub/side.txt"), "side file");
    put_made(dst, t);
}

/* Complete only with all of the index and config.json, every shard and every
 * side file; then nothing is touched. */
static void test_complete(void **state)
{
    struct stat before, after;

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    texts t = texts_of(plan);
    const char *dst = path_in(*state, "dst");
    const char *work = path_in(*state, "dst/.fp8cast");
    put_complete(plan, dst, &t);
    set_mtime(path_in(work, "journal.json"), 1000000000, 0);
    f8_target target = open_good(plan, dst);
    assert_true(target.complete);
    assert_int_equal(target.shards_done, 3);
    f8_target_close(&target);
    assert_int_equal(stat(path_in(work, "journal.json"), &after), 0);
    assert_int_equal(after.st_mtim.tv_sec, 1000000000);
    /* A folder that may not be written to is complete all the same, and the
     * work folder has not changed. */
    assert_int_equal(stat(work, &before), 0);
    target = open_good(plan, dst);
    assert_true(target.complete);
    f8_target_close(&target);
    assert_int_equal(stat(work, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof after.st_mtim);

    /* Who waits may stop while shards are looked for and files compared. */
    for (unsigned pieces = 0; pieces < 4; pieces++) {
        unsigned left = pieces;
        const f8_watch watch = {go_on, &left};
        const f8_intent intent = {false, &t.index, &t.config, &watch};
        f8_error err = {0};
        expect_error(f8_target_open(plan, dst, &intent, &target, &err), &err,
                     F8_ERR_CANCELLED, "stopped");
    }

    static const char *const files[] = {"sub/side.txt", INDEX, "config.json",
                                        SHARD_2, ".fp8cast/shard-00003.json"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        size_t n;
        char *bytes = get_file(path_in(dst, files[i]), &n);
        assert_int_equal(unlink(path_in(dst, files[i])), 0);
        target = open_good(plan, dst);
        if (target.complete)
            fail_msg("complete without %s", files[i]);
        f8_target_close(&target);
        /* What is not finished loses what makes it look so. */
        assert_int_equal(exists(path_in(dst, "config.json")), i == 0);
        assert_int_equal(exists(path_in(dst, INDEX)), i == 0);
        put_made(dst, &t);
        put_file(path_in(dst, files[i]), bytes, n);
        free(bytes);
        target = open_good(plan, dst);
        assert_true(target.complete);
        f8_target_close(&target);
    }
    texts_free(&t);
    f8_plan_free(plan);
}

/* One byte of it is another: side file and config.json may be their user's. */
static void test_edited(void **state)
{
    static const struct {
        const char *file;
        bool complete, edited;
        f8_side_state side;
    } cases[] = {
        {"sub/side.txt", true, false, F8_SIDE_UNLIKE},
        {INDEX, false, false, F8_SIDE_THERE},
        {"config.json", true, true, F8_SIDE_THERE},
    };
    f8_error err = {0};

    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    texts t = texts_of(plan);
    const char *dst = path_in(*state, "dst");
    put_complete(plan, dst, &t);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t n;
        const char *path = path_in(dst, cases[i].file);
        char *bytes = get_file(path, &n);
        bytes[0] ^= 1;
        put_file(path, bytes, n);
        f8_target target = open_good(plan, dst);
        assert_int_equal(target.complete, cases[i].complete);
        assert_int_equal(target.edited, cases[i].edited);
        assert_int_equal(target.sides[0], cases[i].side);
        f8_target_close(&target);
        put_made(dst, &t);
        put_file(path, bytes, n);
        expect_ok(open_target(plan, dst, true, &target, &err), &err);
        assert_false(target.complete || target.edited);
        assert_int_equal(target.sides[0],
                         i == 0 ? F8_SIDE_TO_WRITE : F8_SIDE_THERE);
        f8_target_close(&target);
        bytes[0] ^= 1;
        put_made(dst, &t);
        put_file(path, bytes, n);
        free(bytes);
    }
    /* With work to be done an edited config.json would be lost. */
    put_text(path_in(dst, "config.json"), "{}");
    assert_int_equal(unlink(path_in(dst, SHARD_2)), 0);
    char message[2 * 4096];
    snprintf(message, sizeof message,
             "%s: something is missing, and config.json is not as it was "
             "written; expected it so, or --overwrite",
             dst);
    expect_refused(plan, dst, F8_ERR_REFUSED, message);
    assert_true(exists(path_in(dst, "config.json")));
    texts_free(&t);
    f8_plan_free(plan);
}

/* Says stop at the call so many calls behind the first after config.json. */
typedef struct late {
    const char *config;
    int calls, stop_at;
} late;

static int stop_late(void *user, const f8_progress *now)
{
    late *l = user;

    (void)now;
    l->calls += exists(l->config);
    return l->calls == l->stop_at;
}

/* Measurements of many shards take long to read; each is asked about. */
static void test_stopped_while_measurements_are_read(void **state)
{
    put_sources(*state);
    f8_plan *plan = usual_plan(*state);
    const char *dst = path_in(*state, "dst");

    for (int stop_at = 1; stop_at <= 4; stop_at++) {
        late l = {.config = path_in(dst, "config.json"), .stop_at = stop_at};
        f8_options options = {.size = sizeof options,
                              .threads = 1,
                              .progress = stop_late,
                              .progress_user = &l};
        f8_report *report = NULL;
        f8_error err = {0};
        if (exists(l.config))
            assert_int_equal(unlink(l.config), 0);
        f8_status status = f8_quantize(plan, dst, &options, &report, &err);
        if (stop_at <= 3) /* there are three shards */
            expect_error(status, &err, F8_ERR_CANCELLED, "stopped");
        else
            expect_ok(status, &err);
        assert_int_equal(report != NULL, stop_at > 3);
        assert_true(exists(l.config));
        f8_report_free(report);
    }
    f8_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_measurements_come_back),
        TEST_IN_DIR(test_measurements_of_another_plan),
        TEST_IN_DIR(test_damaged_measurements),
        TEST_IN_DIR(test_empty_measurements_are_short),
        TEST_IN_DIR(test_journal_matches),
        TEST_IN_DIR(test_journal_lists),
        TEST_IN_DIR(test_broken_journal),
        TEST_IN_DIR(test_places),
        TEST_IN_DIR(test_foreign_files),
        TEST_IN_DIR(test_new_folder),
        TEST_IN_DIR(test_one_run_at_a_time),
        TEST_IN_DIR(test_one_plan_of_two_runs),
        TEST_IN_DIR(test_folder_in_the_way),
        TEST_IN_DIR(test_finished_shards),
        TEST_IN_DIR(test_another_conversion),
        TEST_IN_DIR(test_another_source),
        TEST_IN_DIR(test_space),
        TEST_IN_DIR(test_put_and_copy),
        TEST_IN_DIR(test_copy_that_cannot_be_published),
        TEST_IN_DIR(test_complete),
        TEST_IN_DIR(test_edited),
        TEST_IN_DIR(test_stopped_while_measurements_are_read),
    };
    return cmocka_run_group_tests_name("journal and target", tests, NULL, NULL);
}
