/* test_companions.c - what is told while verify works, before it comes to the
 * weights: docs/verify.md. */
#include "helpers.h"

#include "companions.h"
#include "reach.h"

enum { NEVER = 1000 };

typedef struct listener {
    uint64_t calls, stop_at; /* the call that says not to go on */
    uint64_t done, total;    /* as last told */
} listener;

static bool listen(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
    listener *l = ctx;

    assert_true(bytes_done >= l->done);
    assert_true(bytes_done <= bytes_total);
    l->done = bytes_done;
    l->total = bytes_total;
    return ++l->calls < l->stop_at;
}

static f8_checkpoint *open_in(const char *folder)
{
    static const made_tensor norm = {"norm", F8_DTYPE_BF16, 1, {10}};
    f8_checkpoint *cp = NULL;
    f8_error err = {0};

    if (!exists(folder))
        make_dir(folder);
    put_text(path_in(folder, "config.json"), TEST_CONFIG);
    put_shard(path_in(folder, "model.safetensors"), &norm, 1);
    expect_ok(f8_checkpoint_open(folder, F8_OPEN_CONFIG | F8_OPEN_FOLLOW_LINKS,
                                 NULL, &cp, &err),
              &err);
    return cp;
}

/* Both have so many bytes in two files. */
static f8_status compare_both(const char *dir, uint64_t bytes, listener *l)
{
    const char *const folders[] = {path_in(dir, "src"), path_in(dir, "dst")};
    f8_checkpoint *both[COUNT_OF(folders)];
    f8_findings findings = {0};
    f8_error err = {0};

    for (size_t i = 0; i < COUNT_OF(folders); i++) {
        both[i] = open_in(folders[i]);
        put_hole(path_in(folders[i], "a.json"), bytes / 2);
        put_hole(path_in(folders[i], "b.json"), bytes - bytes / 2);
    }
    f8_status status =
        f8_companions_check(both[0], both[1], listen, l, &findings, &err);
    if (status == F8_OK)
        assert_int_equal(findings.warnings.total, 0);
    else
        assert_string_equal(err.message, "stopped");
    for (size_t i = 0; i < COUNT_OF(folders); i++)
        f8_checkpoint_free(both[i]);
    f8_problems_free(&findings.faults);
    f8_problems_free(&findings.warnings);
    f8_problems_free(&findings.notes);
    return status;
}

/* There may be nothing else that could tell it. */
static void test_progress_ends_with_all_bytes(void **state)
{
    listener l = {.stop_at = NEVER};

    assert_int_equal(compare_both(*state, 100001, &l), F8_OK);
    assert_int_equal(l.total, 100001);
    assert_int_equal(l.done, 100001);
}

/* Whichever call it is that says so, the last one too. */
static void test_stopped_at_each_call(void **state)
{
    listener all = {.stop_at = NEVER};

    assert_int_equal(compare_both(*state, 100001, &all), F8_OK);
    for (uint64_t i = 1; i <= all.calls; i++) {
        listener l = {.stop_at = i};
        assert_int_equal(compare_both(*state, 100001, &l), F8_ERR_CANCELLED);
        assert_int_equal(l.calls, i);
    }
}

/* ---- module lists --------------------------------------------------------
 */

static bool until(void *ctx, uint64_t bytes)
{
    listener *l = ctx;

    assert_int_equal(bytes, 0);
    return ++l->calls < l->stop_at;
}

/* As many modules as take several looks. */
static f8_status search_lists(listener *l)
{
    enum { MODULES = 3000 };
    static const char *const entries[] = {"model.a.17", "b"};
    const f8_watch watch = {until, l};
    const char *hits[COUNT_OF(entries)];
    char name[32];
    f8_error err = {0};
    f8_modules modules;

    f8_modules_init(&modules);
    for (int i = 0; i < MODULES; i++) {
        snprintf(name, sizeof name, "a.%d.x", i);
        json_object_set_new(modules.quantised, name, json_true());
    }
    f8_status status =
        f8_reach_find(&modules, entries, COUNT_OF(entries), hits, &watch, &err);
    if (status == F8_OK) {
        assert_string_equal(hits[0], "a.17.x");
        assert_null(hits[1]);
    } else
        expect_error(status, &err, F8_ERR_CANCELLED, "stopped");
    f8_modules_free(&modules);
    return status;
}

static void test_search_of_lists_is_stopped(void **state)
{
    listener all = {.stop_at = NEVER};

    (void)state;
    assert_int_equal(search_lists(&all), F8_OK);
    assert_true(all.calls > 20);
    for (uint64_t i = 1; i <= all.calls; i++) {
        listener l = {.stop_at = i};
        assert_int_equal(search_lists(&l), F8_ERR_CANCELLED);
        assert_int_equal(l.calls, i);
    }
}

/* What verify tells before it knows how many bytes it will read. */
static int stop_early(void *user, const f8_progress *now)
{
    bool *was_early = user;

    *was_early = now->bytes_total == 0;
    return 1;
}

static void test_verify_is_stopped_in_lists(void **state)
{
    static const made_tensor tensors[] = {
        {"a.weight", F8_DTYPE_BF16, 2, {128, 128}},
        {"b.weight", F8_DTYPE_BF16, 2, {128, 128}}};
    const char *src = put_source(*state,
                                 "family test\n"
                                 "quantize  *.weight\n",
                                 TEST_CONFIG, tensors, COUNT_OF(tensors));
    const char *dst = path_in(*state, "dst");
    f8_options options = source_options(*state);
    f8_report *report = NULL;
    f8_verdict *verdict = NULL;
    f8_error err = {0};
    bool was_early = false;

    f8_plan *plan = plan_with(src, &options);
    expect_ok(f8_quantize(plan, dst, &options, &report, &err), &err);
    options.progress = stop_early;
    options.progress_user = &was_early;
    expect_error(f8_verify(src, dst, &options, &verdict, &err), &err,
                 F8_ERR_CANCELLED, "stopped");
    assert_true(was_early);
    f8_verdict_free(verdict);
    f8_report_free(report);
    f8_plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_progress_ends_with_all_bytes),
        TEST_IN_DIR(test_stopped_at_each_call),
        cmocka_unit_test(test_search_of_lists_is_stopped),
        TEST_IN_DIR(test_verify_is_stopped_in_lists),
    };
    return cmocka_run_group_tests_name("companions", tests, NULL, NULL);
}
