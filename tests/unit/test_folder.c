/* test_folder.c - opening what is below a folder and nothing else. */
#include "helpers.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "folder.h"

static void make_link(const char *target, const char *path)
{
    assert_int_equal(symlink(target, path), 0);
}

/* The text of a file opened by name. */
static void expect_text(const f8_folder *folder, const char *name,
                        const char *text)
{
    f8_error err = {0};
    f8_buf buf = {0};

    expect_ok(f8_folder_read_file(folder, name, 100, &buf, &err), &err);
    assert_string_equal(buf.data, text);
    f8_buf_free(&buf);
    expect_ok(f8_folder_check(folder, name, &err), &err);
}

static void expect_outside(const f8_folder *folder, const char *name,
                           const char *where)
{
    char message[1024];
    f8_error err = {0};
    int fd = 0;

    snprintf(message, sizeof message,
             "%s/%s: a link that leads out of the folder, to %s; expected a "
             "file of %s (--follow-links allows it)",
             folder->path, name, where, folder->path);
    expect_error(f8_folder_open_file(folder, name, &fd, NULL, NULL, &err), &err,
                 F8_ERR_REFUSED, message);
    assert_int_equal(fd, -1);
    expect_error(f8_folder_check(folder, name, &err), &err, F8_ERR_REFUSED,
                 message);
}

/* src/ with a file, links of every sort, and a file outside. */
static void put_folder(const char *root)
{
    make_dir(path_in(root, "src"));
    make_dir(path_in(root, "src/sub"));
    make_dir(path_in(root, "out"));
    put_text(path_in(root, "src/sub/a"), "inside");
    put_text(path_in(root, "out/b"), "outside");
    make_link("sub/a", path_in(root, "src/near"));
    make_link(path_in(root, "src/sub/a"), path_in(root, "src/absolute"));
    make_link("../src/sub/a", path_in(root, "src/around"));
    make_link("../out/b", path_in(root, "src/far"));
    make_link(path_in(root, "out/b"), path_in(root, "src/far-absolute"));
    make_link("../out", path_in(root, "src/folder"));
    make_link("nowhere", path_in(root, "src/broken"));
    make_link("loop", path_in(root, "src/loop"));
}

static void check_folder(const char *root)
{
    f8_folder folder;
    f8_error err = {0};
    int fd;

    expect_ok(f8_folder_open(path_in(root, "src"), false, &folder, &err), &err);
    expect_text(&folder, "sub/a", "inside");
    expect_text(&folder, "near", "inside");
    expect_text(&folder, "absolute", "inside");
    expect_text(&folder, "around", "inside");
    expect_outside(&folder, "far", path_in(root, "out/b"));
    expect_outside(&folder, "far-absolute", path_in(root, "out/b"));
    expect_outside(&folder, "folder/b", path_in(root, "out/b"));
    expect_outside(&folder, "folder", path_in(root, "out"));
    assert_int_equal(
        f8_folder_open_file(&folder, "broken", &fd, NULL, NULL, &err),
        F8_ERR_IO);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_equal(
        f8_folder_open_file(&folder, "loop", &fd, NULL, NULL, &err), F8_ERR_IO);
    assert_int_equal(err.sys_errno, ELOOP);
    expect_ok(f8_folder_check(&folder, "sub", &err), &err);
    f8_folder_close(&folder);
}

static void test_beneath(void **state)
{
    put_folder(*state);
    check_folder(*state);
}

/* The folder itself may be reached by a link. */
static void test_folder_by_link(void **state)
{
    f8_folder folder;
    f8_error err = {0};

    put_folder(*state);
    make_link("src", path_in(*state, "link"));
    expect_ok(f8_folder_open(path_in(*state, "link"), false, &folder, &err),
              &err);
    expect_text(&folder, "near", "inside");
    expect_outside(&folder, "far", path_in(*state, "out/b"));
    f8_folder_close(&folder);
}

static void test_follow_links(void **state)
{
    f8_folder folder;
    f8_error err = {0};

    put_folder(*state);
    expect_ok(f8_folder_open(path_in(*state, "src"), true, &folder, &err),
              &err);
    expect_text(&folder, "far", "outside");
    expect_text(&folder, "folder/b", "outside");
    f8_folder_close(&folder);
}

/* MODEL/snapshots/REV may link into MODEL/blobs, and no further. */
static void test_hub_cache(void **state)
{
    static const char *const folders[] = {"m", "m/blobs", "m/snapshots",
                                          "m/snapshots/rev"};
    f8_folder folder;
    f8_error err = {0};

    for (size_t i = 0; i < COUNT_OF(folders); i++)
        make_dir(path_in(*state, folders[i]));
    put_text(path_in(*state, "m/blobs/1"), "blob");
    put_text(path_in(*state, "secret"), "secret");
    make_link("../../blobs/1", path_in(*state, "m/snapshots/rev/a"));
    make_link("../../../secret", path_in(*state, "m/snapshots/rev/b"));
    /* Nor into the rest of MODEL, which is not the hub's. */
    put_text(path_in(*state, "m/token"), "token");
    put_text(path_in(*state, "m/snapshots/other"), "other");
    make_link("../../token", path_in(*state, "m/snapshots/rev/c"));
    make_link("../other", path_in(*state, "m/snapshots/rev/d"));
    make_link(path_in(*state, "m/blobs/1"),
              path_in(*state, "m/snapshots/rev/e"));
    make_link("../../secret", path_in(*state, "m/blobs/2"));
    make_link("../../blobs/2", path_in(*state, "m/snapshots/rev/f"));
    make_link("a", path_in(*state, "m/snapshots/rev/g"));
    expect_ok(f8_folder_open(path_in(*state, "m/snapshots/rev"), false, &folder,
                             &err),
              &err);
    expect_text(&folder, "a", "blob");
    expect_outside(&folder, "b", path_in(*state, "secret"));
    expect_outside(&folder, "c", path_in(*state, "m/token"));
    expect_outside(&folder, "d", path_in(*state, "m/snapshots/other"));
    expect_text(&folder, "e", "blob");
    expect_outside(&folder, "f", path_in(*state, "secret"));
    expect_text(&folder, "g", "blob");
    f8_folder_close(&folder);

    /* Without blobs it is a folder like any other. */
    assert_int_equal(
        rename(path_in(*state, "m/blobs"), path_in(*state, "m/other")), 0);
    unlink(path_in(*state, "m/snapshots/rev/a"));
    make_link("../../other/1", path_in(*state, "m/snapshots/rev/a"));
    expect_ok(f8_folder_open(path_in(*state, "m/snapshots/rev"), false, &folder,
                             &err),
              &err);
    expect_outside(&folder, "a", path_in(*state, "m/other/1"));
    f8_folder_close(&folder);

    /* As with blobs that are a link, which could lead anywhere. */
    make_link("other", path_in(*state, "m/blobs"));
    expect_ok(f8_folder_open(path_in(*state, "m/snapshots/rev"), false, &folder,
                             &err),
              &err);
    expect_outside(&folder, "a", path_in(*state, "m/other/1"));
    f8_folder_close(&folder);
}

static void test_open_refuses(void **state)
{
    char message[1024];
    f8_folder folder;
    f8_error err = {0};

    snprintf(message, sizeof message,
             "%s: cannot open the folder: No such file or directory",
             path_in(*state, "absent"));
    expect_error(
        f8_folder_open(path_in(*state, "absent"), false, &folder, &err), &err,
        F8_ERR_IO, message);
    put_text(path_in(*state, "file"), "");
    snprintf(message, sizeof message,
             "%s: cannot open the folder: Not a directory",
             path_in(*state, "file"));
    expect_error(f8_folder_open(path_in(*state, "file"), false, &folder, &err),
                 &err, F8_ERR_IO, message);
}

/* Makes openat2 fail with this error for the rest of the process. */
static bool without_openat2(uint32_t error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 437, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT_OF(code), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Kernels before 5.6 do not know openat2, older sandboxes refuse it: the same
 * is opened and refused. In a child, since a filter stays. */
static void test_without_openat2(void **state)
{
    static const uint32_t errors[] = {ENOSYS, EPERM};

    put_folder(*state);
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        int status = -1;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (!without_openat2(errors[i]))
                _exit(77); /* a sandbox that allows no filters */
            check_folder(*state);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
            skip();
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_beneath),      TEST_IN_DIR(test_folder_by_link),
        TEST_IN_DIR(test_follow_links), TEST_IN_DIR(test_hub_cache),
        TEST_IN_DIR(test_open_refuses), TEST_IN_DIR(test_without_openat2),
    };
    return cmocka_run_group_tests_name("folder", tests, NULL, NULL);
}
