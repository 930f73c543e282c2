/* test_companions.c - what is told while the files beside the weights are
 * compared: docs/verify.md. */
#include "helpers.h"

#include "companions.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_progress_ends_with_all_bytes),
        TEST_IN_DIR(test_stopped_at_each_call),
    };
    return cmocka_run_group_tests_name("companions", tests, NULL, NULL);
}
