/* test_os.c - error messages, checked sizes, buffers and file calls. */
#include "helpers.h"

#include <errno.h>
#include <sched.h>

#include "os.h"

/* ---- errors -------------------------------------------------------------- */

static void test_status_names(void **state)
{
    static const struct {
        f8_status status;
        const char *name;
    } all[] = {
        {F8_OK, "ok"},
        {F8_ERR_ARGUMENT, "argument"},
        {F8_ERR_IO, "io"},
        {F8_ERR_NOMEM, "memory"},
        {F8_ERR_FORMAT, "format"},
        {F8_ERR_RULES, "rules"},
        {F8_ERR_REFUSED, "refused"},
        {F8_ERR_SPACE, "space"},
        {F8_ERR_VALUE, "value"},
        {F8_ERR_CANCELLED, "cancelled"},
        {F8_ERR_INTERNAL, "internal"},
    };

    (void)state;
    /* The enumeration counts from 0 without holes; a new status belongs in
     * this table. */
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        assert_int_equal(all[i].status, i);
        assert_string_equal(f8_status_name(all[i].status), all[i].name);
    }
    assert_string_equal(f8_status_name((f8_status)COUNT_OF(all)), "unknown");
    assert_string_equal(f8_status_name((f8_status)1000), "unknown");
    assert_string_equal(f8_version(), "0.1.0");
}

static void test_fail(void **state)
{
    f8_error err;

    (void)state;
    memset(&err, 0xee, sizeof err);
    assert_int_equal(f8_fail(&err, F8_ERR_RULES, "%s: %d", "a", 7),
                     F8_ERR_RULES);
    assert_int_equal(err.status, F8_ERR_RULES);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.message, "a: 7");
    assert_int_equal(f8_fail_errno(&err, ENOENT, "%s: cannot open", "x"),
                     F8_ERR_IO);
    assert_int_equal(err.status, F8_ERR_IO);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.message,
                        "x: cannot open: No such file or directory");
    assert_int_equal(f8_fail_nomem(&err, "a list"), F8_ERR_NOMEM);
    assert_int_equal(err.status, F8_ERR_NOMEM);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.message, "out of memory for a list");
    /* Without a place for the message the status still comes back. */
    assert_int_equal(f8_fail(NULL, F8_ERR_VALUE, "%d", 1), F8_ERR_VALUE);
    assert_int_equal(f8_fail_errno(NULL, EIO, "x"), F8_ERR_IO);
    assert_int_equal(f8_fail_nomem(NULL, "x"), F8_ERR_NOMEM);
}

static void test_control_characters(void **state)
{
    f8_error err;

    (void)state;
    f8_fail(&err, F8_ERR_FORMAT, "%s",
            "a\nb\tc\rd\x1b[31me\x7f"
            "f\x01g");
    assert_string_equal(err.message,
                        "a\\x0ab\\x09c\\x0dd\\x1b[31me\\x7ff\\x01g");
    /* Other characters stay, also those of several bytes. */
    f8_fail(&err, F8_ERR_FORMAT, "%s", "\xc3\xa9 \xe2\x9b\x84 \xc2\xa0 ~");
    assert_string_equal(err.message, "\xc3\xa9 \xe2\x9b\x84 \xc2\xa0 ~");
    /* The text of an errno goes through the same sieve. */
    f8_fail_errno(&err, EIO, "%s", "a\nb");
    assert_string_equal(err.message, "a\\x0ab: Input/output error");
}

/* U+0080 to U+009F control terminals too: U+009B is what ESC [ is. */
static void test_c1_control_characters(void **state)
{
    f8_error err;
    char text[] = "a\xc2\x80z";

    (void)state;
    for (unsigned c = 0x80; c < 0xa0; c++) {
        char escape[8];
        text[2] = (char)(unsigned char)c;
        f8_fail(&err, F8_ERR_FORMAT, "%s", text);
        assert_null(strstr(err.message, text + 1));
        assert_null(strchr(err.message, (char)(unsigned char)c));
        snprintf(escape, sizeof escape, "\\x%02x", c);
        assert_non_null(strstr(err.message, escape));
    }
}

/* Marks that turn the direction of text make a line say what it does not. */
static void test_direction_marks(void **state)
{
    static const char *const marks[] = {"\xe2\x80\x8e", "\xe2\x80\x8f",
                                        "\xe2\x80\xaa", "\xe2\x80\xae",
                                        "\xe2\x81\xa6", "\xe2\x81\xa9"};
    static const char *const others[] = {"\xe2\x80\x8d", "\xe2\x80\x90",
                                         "\xe2\x80\xa9", "\xe2\x80\xaf",
                                         "\xe2\x81\xa5", "\xe2\x81\xaa"};
    f8_error err;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        f8_fail(&err, F8_ERR_FORMAT, "a%sz", marks[i]);
        assert_null(strstr(err.message, marks[i]));
        assert_non_null(strstr(err.message, "\\x"));
        assert_true(err.message[0] == 'a');
        assert_true(err.message[strlen(err.message) - 1] == 'z');
        f8_fail(&err, F8_ERR_FORMAT, "%s", others[i]);
        assert_string_equal(err.message, others[i]);
    }
}

static void test_long_messages(void **state)
{
    static const size_t most = sizeof((f8_error *)NULL)->message - 1;
    static char text[3000];
    f8_error err;

    (void)state;
    memset(text, 'a', sizeof text - 1);
    f8_fail(&err, F8_ERR_FORMAT, "%s", text);
    assert_int_equal(strlen(err.message), most);
    assert_int_equal(strspn(err.message, "a"), most);
    /* No part of an escape, only whole ones of four bytes. */
    memset(text, '\n', sizeof text - 1);
    f8_fail(&err, F8_ERR_FORMAT, "%s", text);
    assert_int_equal(strlen(err.message), most / 4 * 4);
    for (size_t i = 0; i < most / 4 * 4; i += 4)
        assert_memory_equal(err.message + i, "\\x0a", 4);
    /* A long text leaves no room for the reason, and writes nothing behind
     * the message. */
    memset(text, 'a', sizeof text - 1);
    f8_fail_errno(&err, ENOENT, "%s", text);
    assert_int_equal(strlen(err.message), most);
    assert_int_equal(err.sys_errno, ENOENT);
}

/* ---- sizes and memory ---------------------------------------------------- */

static void test_checked_arithmetic(void **state)
{
    uint64_t out = 0;

    (void)state;
    assert_true(f8_add_u64(UINT64_MAX - 1, 1, &out));
    assert_true(out == UINT64_MAX);
    assert_false(f8_add_u64(UINT64_MAX, 1, &out));
    assert_false(f8_add_u64(UINT64_MAX, UINT64_MAX, &out));
    assert_true(f8_mul_u64(UINT64_C(0xffffffff), UINT64_C(0x100000001), &out));
    assert_true(out == UINT64_MAX); /* 2^64 - 1 = (2^32 - 1)(2^32 + 1) */
    assert_false(f8_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
    assert_true(f8_mul_u64(0, UINT64_MAX, &out));
    assert_true(out == 0);
    assert_true(f8_ceil_div(0, 128) == 0);
    assert_true(f8_ceil_div(1, 128) == 1);
    assert_true(f8_ceil_div(128, 128) == 1);
    assert_true(f8_ceil_div(129, 128) == 2);
    /* The usual (a + b - 1) / b would overflow. */
    assert_true(f8_ceil_div(UINT64_MAX, 2) == UINT64_C(1) << 63);
    assert_true(f8_ceil_div(UINT64_MAX, UINT64_MAX) == 1);
}

static void test_alloc(void **state)
{
    (void)state;
    assert_null(f8_alloc(UINT64_C(1) << 32, UINT64_C(1) << 32));
    assert_null(f8_alloc(UINT64_MAX, 2));
    /* NULL means that memory ran out, so nothing is something. */
    void *none = f8_alloc(0, 8);
    assert_non_null(none);
    free(none);
    unsigned char *some = f8_alloc(3, 100);
    assert_non_null(some);
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(some[i], 0);
    free(some);
}

static void test_grow(void **state)
{
    uint32_t *items = NULL;
    size_t capacity = 0;

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(f8_grow((void **)&items, &capacity, i, sizeof *items));
        assert_true(capacity > i);
        items[i] = i * 7;
    }
    assert_true(capacity <= 2000);
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(items[i], i * 7);
    assert_false(f8_grow((void **)&items, &capacity, capacity, SIZE_MAX / 2));
    assert_int_equal(items[999], 6993);
    free(items);
}

static void test_buffer(void **state)
{
    f8_buf buf = {0};

    (void)state;
    f8_buf_append(&buf, "", 0);
    assert_non_null(buf.data);
    assert_string_equal(buf.data, "");
    f8_buf_puts(&buf, "one");
    f8_buf_append(&buf, "\0two", 4);
    f8_buf_printf(&buf, "-%05d-%s", 42, "x");
    assert_int_equal(buf.length, 15);
    assert_memory_equal(buf.data, "one\0two-00042-x", 16);
    /* Long pieces, at every length around the first sizes of the buffer. */
    for (size_t n = 250; n < 260; n++) {
        char piece[300];
        memset(piece, 'p', n);
        piece[n] = '\0';
        buf.length = 0;
        f8_buf_printf(&buf, "%s", piece);
        assert_int_equal(buf.length, n);
        assert_string_equal(buf.data, piece);
        f8_buf_puts(&buf, piece);
        assert_int_equal(strlen(buf.data), 2 * n);
    }
    assert_false(buf.failed);
    f8_buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.length, 0);
}

static void test_buffer_stays_failed(void **state)
{
    f8_buf buf = {0};

    (void)state;
    f8_buf_puts(&buf, "good");
    f8_buf_append(&buf, "", SIZE_MAX); /* more than there can be */
    assert_true(buf.failed);
    f8_buf_puts(&buf, "more");
    f8_buf_printf(&buf, "%d", 1);
    f8_buf_json_string(&buf, "x");
    assert_true(buf.failed);
    assert_int_equal(buf.length, 4);
    assert_string_equal(buf.data, "good");
    f8_buf_free(&buf);
}

/* What Python's json.dumps(text, ensure_ascii=False) prints for all of the
 * characters 1 to 127, and some behind them. */
static void test_json_string(void **state)
{
    static const char expected[] =
        "\"\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b"
        "\\f\\r\\u000e\\u000f\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016"
        "\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f "
        "!\\\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_"
        "`abcdefghijklmnopqrstuvwxyz{|}~\x7f\"";
    f8_buf buf = {0};
    char text[128];

    (void)state;
    for (int c = 1; c < 128; c++)
        text[c - 1] = (char)c;
    text[127] = '\0';
    f8_buf_json_string(&buf, text);
    assert_string_equal(buf.data, expected);
    buf.length = 0;
    f8_buf_json_string(&buf, "");
    f8_buf_json_string(&buf, "\xc3\xa9\xf0\x9f\x98\x80\xe2\x80\xa8");
    assert_string_equal(buf.data,
                        "\"\"\"\xc3\xa9\xf0\x9f\x98\x80\xe2\x80\xa8\"");
    f8_buf_free(&buf);
}

static void test_arena(void **state)
{
    enum { MANY = 20000 };
    f8_arena arena = {0};
    const char **copies = calloc(MANY, sizeof *copies);
    char *large = malloc(200000);
    size_t total = 0;

    (void)state;
    assert_non_null(copies);
    assert_non_null(large);
    for (unsigned i = 0; i < MANY; i++) {
        copies[i] = f8_arena_printf(&arena, "tensor.%u", i);
        assert_non_null(copies[i]);
        total += strlen(copies[i]) + 1;
    }
    memset(large, 'x', 200000);
    const char *copy = f8_arena_copy(&arena, large, 200000);
    assert_non_null(copy);
    assert_memory_equal(copy, large, 200000);
    assert_int_equal(copy[200000], 0);
    total += 200001;
    /* Only n bytes are taken of a longer text. */
    assert_string_equal(f8_arena_copy(&arena, "abcdef", 3), "abc");
    assert_string_equal(f8_arena_copy(&arena, "", 0), "");
    /* All earlier strings stand where they stood. */
    for (unsigned i = 0; i < MANY; i++) {
        char text[32];
        snprintf(text, sizeof text, "tensor.%u", i);
        assert_string_equal(copies[i], text);
    }
    assert_true(arena.bytes >= total);
    assert_null(f8_arena_copy(&arena, "x", SIZE_MAX));
    f8_arena_free(&arena);
    assert_int_equal(arena.bytes, 0);
    free(large);
    free(copies);
}

static void test_path_join(void **state)
{
    static const char *const cases[][3] = {{"a", "b", "a/b"},
                                           {"a/", "b", "a/b"},
                                           {"/", "b", "/b"},
                                           {"a", "b/c", "a/b/c"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *path = f8_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(path, cases[i][2]);
        free(path);
    }
}

/* ---- reading ------------------------------------------------------------- */

static void test_open_read(void **state)
{
    const char *path = path_in(*state, "f"), *link = path_in(*state, "l");
    f8_error err = {0};
    uint64_t bytes = 0;
    int64_t mtime_ns = 0;
    int fd = -1;

    put_text(path, "hello");
    set_mtime(path, 1234567890, 123456789);
    assert_int_equal(symlink("f", link), 0);
    expect_ok(f8_open_read(path, &fd, &bytes, &mtime_ns, &err), &err);
    assert_true(fd >= 0);
    assert_int_equal(bytes, 5);
    assert_true(mtime_ns == INT64_C(1234567890123456789));
    close(fd);
    /* Links are followed; size and time need not be asked for. */
    expect_ok(f8_open_read(link, &fd, NULL, NULL, &err), &err);
    close(fd);
}

/* A fifo without a writer would block an ordinary open for ever. */
static void test_open_read_refuses(void **state)
{
    char message[2 * 4096];
    const char *fifo = path_in(*state, "fifo"), *none = path_in(*state, "none");
    f8_error err = {0};
    int fd = 77;

    assert_int_equal(mkfifo(fifo, 0666), 0);
    alarm(20); /* a hang becomes a failure */
    snprintf(message, sizeof message,
             "%s: expected a regular file, found a fifo", fifo);
    expect_error(f8_open_read(fifo, &fd, NULL, NULL, &err), &err, F8_ERR_IO,
                 message);
    alarm(0);
    assert_int_equal(fd, -1);

    fd = 77;
    snprintf(message, sizeof message,
             "%s: expected a regular file, found a directory",
             (const char *)*state);
    expect_error(f8_open_read(*state, &fd, NULL, NULL, &err), &err, F8_ERR_IO,
                 message);
    assert_int_equal(fd, -1);

    fd = 77;
    expect_error(f8_open_read("/dev/null", &fd, NULL, NULL, &err), &err,
                 F8_ERR_IO,
                 "/dev/null: expected a regular file, found a device");
    assert_int_equal(fd, -1);

    fd = 77;
    snprintf(message, sizeof message,
             "%s: cannot open: No such file or directory", none);
    expect_error(f8_open_read(none, &fd, NULL, NULL, &err), &err, F8_ERR_IO,
                 message);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_equal(fd, -1);
}

static void test_read_at(void **state)
{
    const char *path = path_in(*state, "f");
    char bytes[9] = "xxxxxxxx";
    f8_error err = {0};
    int fd = -1;

    put_text(path, "hello");
    expect_ok(f8_open_read(path, &fd, NULL, NULL, &err), &err);
    expect_ok(f8_read_at(fd, bytes, 3, 2, "p", &err), &err);
    assert_string_equal(bytes, "lloxxxxx");
    expect_ok(f8_read_at(fd, bytes, 0, 5, "p", &err), &err);
    expect_error(f8_read_at(fd, bytes, 8, 0, "p", &err), &err, F8_ERR_IO,
                 "p: ends at byte 5, 3 more were expected; did it change while "
                 "it was read?");
    assert_int_equal(err.sys_errno, 0);
    expect_error(f8_read_at(fd, bytes, 1, 100, "p", &err), &err, F8_ERR_IO,
                 "p: ends at byte 100, 1 more were expected; did it change "
                 "while it was read?");
    close(fd);
    expect_error(f8_read_at(-1, bytes, 1, 7, "p", &err), &err, F8_ERR_IO,
                 "p: cannot read at byte 7: Bad file descriptor");
    assert_int_equal(err.sys_errno, EBADF);
}

static void test_read_file(void **state)
{
    char message[2 * 4096];
    const char *path = path_in(*state, "f");
    f8_error err = {0};
    f8_buf buf = {0};

    put_file(path, "ab\0def", 6);
    expect_ok(f8_read_file(path, 6, &buf, &err), &err);
    assert_int_equal(buf.length, 6);
    assert_memory_equal(buf.data, "ab\0def", 7); /* with a NUL behind */
    f8_buf_free(&buf);
    snprintf(message, sizeof message, "%s: 6 bytes, expected at most 5", path);
    expect_error(f8_read_file(path, 5, &buf, &err), &err, F8_ERR_FORMAT,
                 message);
    f8_buf_free(&buf);
    put_text(path, "");
    expect_ok(f8_read_file(path, 0, &buf, &err), &err);
    assert_int_equal(buf.length, 0);
    assert_string_equal(buf.data, "");
    f8_buf_free(&buf);
}

/* What is asked of who waits for a comparison. */
typedef struct waiting {
    uint64_t last, stop_at;
    unsigned times;
} waiting;

static bool wait_on(void *ctx, uint64_t bytes)
{
    waiting *w = ctx;

    assert_true(w->times++ == 0 ? bytes == 0 : bytes > w->last);
    w->last = bytes;
    return bytes < w->stop_at;
}

/* Two files of so many bytes, of which the last differs. */
static void open_pair(const char *const paths[2], size_t n, int fds[2])
{
    for (int i = 0; i < 2; i++) {
        char *bytes = calloc(n, 1);
        assert_non_null(bytes);
        bytes[n - 1] = (char)('a' + i);
        put_file(paths[i], bytes, n);
        free(bytes);
        fds[i] = open(paths[i], O_RDONLY);
        assert_true(fds[i] >= 0);
    }
}

static void test_compare_files(void **state)
{
    enum { BYTES = 1000001 };
    const char *const paths[2] = {path_in(*state, "a"), path_in(*state, "b")};
    f8_error err = {0};
    waiting w = {.stop_at = UINT64_MAX};
    const f8_watch watch = {wait_on, &w};
    char message[4096];
    int fds[2];
    bool same = false;

    open_pair(paths, BYTES, fds);
    expect_ok(f8_compare_files(fds, paths, BYTES - 1, NULL, &same, &err), &err);
    assert_true(same);
    expect_ok(f8_compare_files(fds, paths, BYTES, &watch, &same, &err), &err);
    assert_false(same);
    /* Once before each piece: of a megabyte there are several. */
    assert_true(w.times > 3 && w.last < BYTES);
    expect_ok(f8_compare_files(fds, paths, 0, &watch, &same, &err), &err);
    assert_true(same);

    w = (waiting){.stop_at = 300000};
    expect_error(f8_compare_files(fds, paths, BYTES, &watch, &same, &err), &err,
                 F8_ERR_CANCELLED, "stopped");
    assert_true(w.last >= 300000 && w.last < BYTES);
    assert_false(same);

    /* A file that became shorter is named, whichever it is. */
    for (int i = 1; i >= 0; i--) {
        assert_int_equal(truncate(paths[i], 10), 0);
        snprintf(message, sizeof message,
                 "%s: ends at byte 10, 2 more were expected; did it change "
                 "while it was read?",
                 paths[i]);
        expect_error(f8_compare_files(fds, paths, 12, NULL, &same, &err), &err,
                     F8_ERR_IO, message);
        assert_false(same);
    }
    close(fds[0]);
    close(fds[1]);
}

/* ---- writing ------------------------------------------------------------- */

static void test_write_at(void **state)
{
    const char *path = path_in(*state, "f");
    f8_error err = {0};
    int fd = -1;
    size_t n;

    put_text(path, "what stood here is cut off");
    expect_ok(f8_create_file(path, &fd, &err), &err);
    expect_ok(f8_write_at(fd, "world", 5, 6, path, &err), &err);
    expect_ok(f8_write_at(fd, "hello ", 6, 0, path, &err), &err);
    expect_ok(f8_sync_close(fd, path, &err), &err);
    char *bytes = get_file(path, &n);
    assert_int_equal(n, 11);
    assert_string_equal(bytes, "hello world");
    free(bytes);
    expect_ok(f8_open_read(path, &fd, NULL, NULL, &err), &err);
    expect_error(f8_write_at(fd, "x", 1, 3, "p", &err), &err, F8_ERR_IO,
                 "p: cannot write at byte 3: Bad file descriptor");
    close(fd);
}

/* A link under the name of a temporary file must not lead elsewhere. */
static void test_create_file_follows_no_link(void **state)
{
    char message[2 * 4096];
    const char *path = path_in(*state, "victim"), *link = path_in(*state, "t");
    f8_error err = {0};
    int fd = 77;

    put_text(path, "mine");
    assert_int_equal(symlink("victim", link), 0);
    snprintf(message, sizeof message,
             "%s: cannot create: Too many levels of symbolic links", link);
    expect_error(f8_create_file(link, &fd, &err), &err, F8_ERR_IO, message);
    assert_int_equal(fd, -1);
    char *bytes = get_file(path, NULL);
    assert_string_equal(bytes, "mine");
    free(bytes);
}

static void test_write_file(void **state)
{
    const char *path = path_in(*state, "f"), *part = path_in(*state, "f.part");
    f8_error err = {0};
    char *bytes;
    size_t n;

    expect_ok(f8_write_file(part, path, "one\0", 4, &err), &err);
    bytes = get_file(path, &n);
    assert_int_equal(n, 4);
    assert_memory_equal(bytes, "one", 4);
    free(bytes);
    assert_false(exists(part));
    expect_ok(f8_write_file(part, path, "", 0, &err), &err);
    bytes = get_file(path, &n);
    assert_int_equal(n, 0);
    free(bytes);
}

static void test_write_file_leaves_nothing(void **state)
{
    char message[3 * 4096];
    const char *dir = path_in(*state, "d"), *part = path_in(*state, "f.part");
    const char *deep = path_in(*state, "none/f.part");
    f8_error err = {0};

    /* A file cannot take the place of a folder. */
    make_dir(dir);
    put_text(path_in(*state, "d/inside"), "x");
    snprintf(message, sizeof message, "%s: cannot rename to %s: Is a directory",
             part, dir);
    expect_error(f8_write_file(part, dir, "x", 1, &err), &err, F8_ERR_IO,
                 message);
    assert_int_equal(err.sys_errno, EISDIR);
    assert_false(exists(part));
    assert_true(exists(path_in(*state, "d/inside")));

    snprintf(message, sizeof message,
             "%s: cannot create: No such file or directory", deep);
    expect_error(f8_write_file(deep, path_in(*state, "f"), "x", 1, &err), &err,
                 F8_ERR_IO, message);
    assert_false(exists(path_in(*state, "f")));
}

static void test_publish(void **state)
{
    char message[3 * 4096];
    const char *from = path_in(*state, "a"), *to = path_in(*state, "b");
    f8_error err = {0};

    put_text(from, "new");
    put_text(to, "old");
    expect_ok(f8_publish(from, to, &err), &err);
    char *bytes = get_file(to, NULL);
    assert_string_equal(bytes, "new");
    free(bytes);
    assert_false(exists(from));
    snprintf(message, sizeof message,
             "%s: cannot rename to %s: No such file or directory", from, to);
    expect_error(f8_publish(from, to, &err), &err, F8_ERR_IO, message);
}

static void test_directories(void **state)
{
    char message[2 * 4096];
    const char *dir = path_in(*state, "d"), *file = path_in(*state, "f");
    const char *deep = path_in(*state, "d/e/g/name");
    const char *blocked = path_in(*state, "f/e/name");
    struct stat st;
    f8_error err = {0};

    expect_ok(f8_make_dir(dir, &err), &err);
    expect_ok(f8_make_dir(dir, &err), &err); /* it is there, which is fine */
    put_text(file, "");
    snprintf(message, sizeof message, "%s: cannot make the folder: File exists",
             file);
    expect_error(f8_make_dir(file, &err), &err, F8_ERR_IO, message);

    expect_ok(f8_make_parents(*state, deep, &err), &err);
    assert_int_equal(stat(path_in(*state, "d/e/g"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_false(exists(deep)); /* the file itself is not made */
    expect_ok(f8_make_parents(*state, deep, &err), &err);
    expect_ok(f8_make_parents(*state, path_in(*state, "name"), &err), &err);
    assert_false(exists(path_in(*state, "name")));
    snprintf(message, sizeof message, "%s: cannot make the folder: File exists",
             file);
    expect_error(f8_make_parents(*state, blocked, &err), &err, F8_ERR_IO,
                 message);

    expect_ok(f8_sync_dir(*state, &err), &err);
    snprintf(message, sizeof message, "%s: cannot open: Not a directory", file);
    expect_error(f8_sync_dir(file, &err), &err, F8_ERR_IO, message);
}

/* What would be told of a folder is what is told when it is made; and where it
 * can be made, nothing is. What rights forbid is in plan.bats. */
static void test_check_make_dir(void **state)
{
    static const char *const failing[] = {
        "",           /* no folder's name */
        "none/x",     /* nothing to make it in */
        "none/../x",  /* on the way, too */
        "f",          /* a file is there */
        "f/x",        /* a file is no folder */
        "to-nowhere", /* a link is there */
    };
    static const char *const making[] = {"d", "d/", "d/x", "d/x//", "y", "y/"};
    char expected[2 * 4096];
    f8_error err = {0};

    expect_ok(f8_make_dir(path_in(*state, "d"), &err), &err);
    put_text(path_in(*state, "f"), "");
    assert_int_equal(symlink("nowhere", path_in(*state, "to-nowhere")), 0);
    for (size_t i = 0; i < COUNT_OF(failing); i++) {
        const char *path = *failing[i] ? path_in(*state, failing[i]) : "";
        assert_int_equal(f8_make_dir(path, &err), F8_ERR_IO);
        strcpy(expected, err.message);
        expect_error(f8_check_make_dir(path, &err), &err, F8_ERR_IO, expected);
    }
    for (size_t i = 0; i < COUNT_OF(making); i++) {
        const char *path = path_in(*state, making[i]);
        expect_ok(f8_check_make_dir(path, &err), &err);
    }
    assert_false(exists(path_in(*state, "d/x")));
    assert_false(exists(path_in(*state, "y")));
    expect_ok(f8_check_make_dir(".", &err), &err);
    expect_ok(f8_check_make_dir("f8-none", &err), &err);
    expect_ok(f8_check_make_dir("/", &err), &err);
    expect_error(f8_check_make_dir("/f8-none/x", &err), &err, F8_ERR_IO,
                 "/f8-none/x: cannot make the folder: expected an existing "
                 "folder to make it in");
    expect_ok(f8_check_make_files(path_in(*state, "d"), &err), &err);
    snprintf(expected, sizeof expected,
             "%s: cannot make files in it: No such file or directory",
             path_in(*state, "d/x"));
    expect_error(f8_check_make_files(path_in(*state, "d/x"), &err), &err,
                 F8_ERR_IO, expected);
}

static void test_free_space(void **state)
{
    char message[2 * 4096];
    const char *blocked = path_in(*state, "f/x");
    uint64_t here = 0, yet_to_come = 0;
    f8_error err = {0};

    expect_ok(f8_free_space(*state, &here, &err), &err);
    assert_true(here > 0);
    expect_ok(f8_free_space(path_in(*state, "a/b/c"), &yet_to_come, &err),
              &err);
    assert_true(yet_to_come > 0);
    /* The same file system, though others may write to it meanwhile. */
    uint64_t apart =
        here > yet_to_come ? here - yet_to_come : yet_to_come - here;
    assert_true(apart < here / 2);
    expect_ok(f8_free_space("f8-none", &yet_to_come, &err), &err);
    expect_ok(f8_free_space("f8-none/x/", &yet_to_come, &err), &err);
    expect_ok(f8_free_space("/f8-none/x", &yet_to_come, &err), &err);
    put_text(path_in(*state, "f"), "");
    snprintf(message, sizeof message,
             "%s: cannot ask for free space: Not a directory", blocked);
    /* A file system without blocks does not tell; Linux's of processes is one.
     */
    if (access("/proc/self", F_OK) == 0) {
        expect_ok(f8_free_space("/proc", &yet_to_come, &err), &err);
        assert_true(yet_to_come == UINT64_MAX);
    }
    expect_error(f8_free_space(blocked, &here, &err), &err, F8_ERR_IO, message);
}

/* ---- machine ------------------------------------------------------------- */

static void test_hash(void **state)
{
    static const unsigned char zero[1] = {0};

    (void)state;
    /* Test vectors of FNV-1a's authors (Fowler, Noll, Vo), 64 bits. */
    assert_true(f8_hash(F8_HASH_START, "", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(f8_hash(F8_HASH_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(f8_hash(F8_HASH_START, "foobar", 6) ==
                UINT64_C(0x85944171f73967e8));
    /* A part at a time gives the same. */
    assert_true(f8_hash(f8_hash(F8_HASH_START, "foo", 3), "bar", 3) ==
                UINT64_C(0x85944171f73967e8));
    assert_true(f8_hash(F8_HASH_START, zero, 1) != F8_HASH_START);
}

static void test_cpus_and_clock(void **state)
{
    cpu_set_t all, one;
    size_t n = 0, first = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    for (size_t i = CPU_SETSIZE; i-- > 0;) {
        if (!CPU_ISSET(i, &all))
            continue;
        n++;
        first = i;
    }
    assert_int_equal(f8_cpu_count(), n);
    /* What this process may run on counts, not what the machine has. */
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(f8_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    double before = f8_now();
    assert_true(f8_now() >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_c1_control_characters),
        cmocka_unit_test(test_direction_marks),
        cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_checked_arithmetic),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_grow),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_buffer_stays_failed),
        cmocka_unit_test(test_json_string),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_path_join),
        TEST_IN_DIR(test_open_read),
        TEST_IN_DIR(test_open_read_refuses),
        TEST_IN_DIR(test_read_at),
        TEST_IN_DIR(test_read_file),
        TEST_IN_DIR(test_compare_files),
        TEST_IN_DIR(test_write_at),
        TEST_IN_DIR(test_create_file_follows_no_link),
        TEST_IN_DIR(test_write_file),
        TEST_IN_DIR(test_write_file_leaves_nothing),
        TEST_IN_DIR(test_publish),
        TEST_IN_DIR(test_directories),
        TEST_IN_DIR(test_check_make_dir),
        TEST_IN_DIR(test_free_space),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_cpus_and_clock),
    };
    return cmocka_run_group_tests_name("os and error", tests, NULL, NULL);
}
