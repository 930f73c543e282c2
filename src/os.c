/* os.c - the operating system as the other rooms see it. The only file that
 * calls open, pread, pwrite, fsync and rename; see os.h. */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* ---- memory -------------------------------------------------------------- */

void *f8_alloc(uint64_t count, uint64_t size)
{
    uint64_t bytes;

    if (!f8_mul_u64(count, size, &bytes) || bytes > SIZE_MAX)
        return NULL;
    return calloc(1, bytes ? (size_t)bytes : 1);
}

bool f8_grow(void **items, size_t *capacity, size_t used, size_t elem_bytes)
{
    if (used < *capacity)
        return true;
    size_t wanted = *capacity ? *capacity * 2 : 16;
    if (wanted > SIZE_MAX / elem_bytes)
        return false;
    void *moved = realloc(*items, wanted * elem_bytes);
    if (!moved)
        return false;
    *items = moved;
    *capacity = wanted;
    return true;
}

static bool reserve(f8_buf *buf, size_t more)
{
    if (buf->failed)
        return false;
    if (more < buf->capacity - buf->length)
        return true;
    size_t wanted = buf->capacity ? buf->capacity : 256;
    while (wanted - buf->length <= more) {
        if (wanted > SIZE_MAX / 2) {
            buf->failed = true;
            return false;
        }
        wanted *= 2;
    }
    char *moved = realloc(buf->data, wanted);
    if (!moved) {
        buf->failed = true;
        return false;
    }
    buf->data = moved;
    buf->capacity = wanted;
    return true;
}

void f8_buf_append(f8_buf *buf, const void *bytes, size_t n)
{
    if (!reserve(buf, n))
        return;
    if (n > 0)
        memcpy(buf->data + buf->length, bytes, n);
    buf->length += n;
    buf->data[buf->length] = '\0';
}

void f8_buf_puts(f8_buf *buf, const char *text)
{
    f8_buf_append(buf, text, strlen(text));
}

void f8_buf_printf(f8_buf *buf, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        buf->failed = true;
        return;
    }
    if (!reserve(buf, (size_t)n + 1))
        return;
    va_start(args, format);
    vsnprintf(buf->data + buf->length, (size_t)n + 1, format, args);
    va_end(args);
    buf->length += (size_t)n;
}

/* What JSON writes as a backslash and a letter. */
#define SHORT_ESCAPES "\b\f\n\r\t\"\\"

void f8_buf_json_string(f8_buf *buf, const char *text)
{
    static const char shorts[] = SHORT_ESCAPES;
    static const char letters[] = "bfnrt\"\\";

    f8_buf_append(buf, "\"", 1);
    while (*text) {
        /* Everything up to the next character that needs an escape. */
        size_t plain = 0;
        while ((unsigned char)text[plain] >= 0x20 && text[plain] != '"' &&
               text[plain] != '\\')
            plain++;
        f8_buf_append(buf, text, plain);
        text += plain;
        if (!*text)
            break;
        const char *at = strchr(shorts, *text);
        if (at)
            f8_buf_printf(buf, "\\%c", letters[at - shorts]);
        else
            f8_buf_printf(buf, "\\u%04x", (unsigned)(unsigned char)*text);
        text++;
    }
    f8_buf_append(buf, "\"", 1);
}

uint64_t f8_json_string_bytes(const char *text)
{
    uint64_t bytes = 2; /* the quotes */

    for (; *text; text++) {
        if ((unsigned char)*text >= 0x20 && *text != '"' && *text != '\\')
            bytes++;
        else
            bytes += strchr(SHORT_ESCAPES, *text) ? 2 : 6;
    }
    return bytes;
}

void f8_buf_free(f8_buf *buf)
{
    free(buf->data);
    memset(buf, 0, sizeof *buf);
}

struct f8_arena_piece {
    struct f8_arena_piece *next;
    size_t used, size;
    char data[];
};

char *f8_arena_copy(f8_arena *arena, const char *text, size_t n)
{
    struct f8_arena_piece *piece = arena->pieces;

    if (n > SIZE_MAX / 2)
        return NULL;
    if (!piece || piece->size - piece->used < n + 1) {
        size_t size = n + 1 > 64 * 1024 ? n + 1 : 64 * 1024;
        piece = malloc(sizeof *piece + size);
        if (!piece)
            return NULL;
        piece->next = arena->pieces;
        piece->used = 0;
        piece->size = size;
        arena->pieces = piece;
        arena->bytes += sizeof *piece + size;
    }
    char *copy = piece->data + piece->used;
    memcpy(copy, text, n);
    copy[n] = '\0';
    piece->used += n + 1;
    return copy;
}

char *f8_arena_printf(f8_arena *arena, const char *format, ...)
{
    f8_buf buf = {0};
    va_list args;

    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !reserve(&buf, (size_t)n + 1))
        return NULL;
    va_start(args, format);
    vsnprintf(buf.data, (size_t)n + 1, format, args);
    va_end(args);
    char *copy = f8_arena_copy(arena, buf.data, (size_t)n);
    f8_buf_free(&buf);
    return copy;
}

void f8_arena_free(f8_arena *arena)
{
    struct f8_arena_piece *piece = arena->pieces;

    while (piece) {
        struct f8_arena_piece *next = piece->next;
        free(piece);
        piece = next;
    }
    memset(arena, 0, sizeof *arena);
}

/* ---- files --------------------------------------------------------------- */

char *f8_path_join(const char *dir, const char *name)
{
    f8_buf buf = {0};
    size_t n = strlen(dir);

    f8_buf_append(&buf, dir, n);
    if (n == 0 || dir[n - 1] != '/')
        f8_buf_append(&buf, "/", 1);
    f8_buf_puts(&buf, name);
    if (buf.failed)
        f8_buf_free(&buf);
    return buf.data;
}

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a fifo";
    if (S_ISCHR(mode) || S_ISBLK(mode))
        return "a device";
    return "something else"; /* a socket cannot be opened */
}

int f8_open(const char *path, int flags)
{
    int fd;

    do
        fd = open(path, flags | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* O_NONBLOCK: opening a fifo that nobody writes must not hang. A regular file
 * says EAGAIN to it when another process has a lease on it, as file servers
 * do; waiting then means until that gives it back, which the kernel sees to. */
int f8_open_no_fifo(const char *path)
{
    struct stat st;
    int fd = f8_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 && errno == EAGAIN && stat(path, &st) == 0 &&
        S_ISREG(st.st_mode))
        fd = f8_open(path, O_RDONLY | O_NOCTTY);
    return fd;
}

f8_status f8_look_at(int *fd, const char *path, uint64_t *bytes,
                     int64_t *mtime_ns, f8_error *err)
{
    struct stat st;
    f8_status status = F8_OK;

    if (fstat(*fd, &st) != 0)
        status = f8_fail_errno(err, errno, "%s: cannot stat", path);
    else if (!S_ISREG(st.st_mode))
        status =
            f8_fail(err, F8_ERR_IO, "%s: expected a regular file, found %s",
                    path, kind_of(st.st_mode));
    if (status != F8_OK) {
        close(*fd);
        *fd = -1;
        return status;
    }
    if (bytes)
        *bytes = (uint64_t)st.st_size;
    if (mtime_ns)
        /* Modulo 2^64: it only has to tell one time from another. */
        *mtime_ns = (int64_t)((uint64_t)st.st_mtim.tv_sec * 1000000000u +
                              (uint64_t)st.st_mtim.tv_nsec);
    return F8_OK;
}

f8_status f8_open_read(const char *path, int *fd, uint64_t *bytes,
                       int64_t *mtime_ns, f8_error *err)
{
    *fd = f8_open_no_fifo(path);
    if (*fd < 0)
        return f8_fail_errno(err, errno, "%s: cannot open", path);
    return f8_look_at(fd, path, bytes, mtime_ns, err);
}

f8_status f8_read_at(int fd, void *buffer, size_t n, uint64_t offset,
                     const char *path, f8_error *err)
{
    char *to = buffer;

    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return f8_fail_errno(err, errno, "%s: cannot read at byte %llu",
                                 path, (unsigned long long)offset);
        if (got == 0)
            return f8_fail(err, F8_ERR_IO,
                           "%s: ends at byte %llu, %zu more were expected; "
                           "did it change while it was read?",
                           path, (unsigned long long)offset, n);
        to += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return F8_OK;
}

f8_status f8_compare_files(const int fds[2], const char *const paths[2],
                           uint64_t n, const f8_watch *watch, bool *same,
                           f8_error *err)
{
    enum { PIECE = 64 * 1024 };
    f8_status status = F8_OK;
    char *buffer = f8_alloc(2, PIECE);

    *same = true;
    if (!buffer)
        return f8_fail_nomem(err, "the comparison of files");
    for (uint64_t at = 0; at < n && *same && status == F8_OK; at += PIECE) {
        size_t part = n - at < PIECE ? (size_t)(n - at) : PIECE;
        if (watch && !watch->keep_going(watch->ctx, at))
            status = f8_fail(err, F8_ERR_CANCELLED, "stopped");
        if (status == F8_OK)
            status = f8_read_at(fds[0], buffer, part, at, paths[0], err);
        if (status == F8_OK)
            status =
                f8_read_at(fds[1], buffer + PIECE, part, at, paths[1], err);
        *same = status == F8_OK && !memcmp(buffer, buffer + PIECE, part);
    }
    free(buffer);
    return status;
}

f8_status f8_write_at(int fd, const void *buffer, size_t n, uint64_t offset,
                      const char *path, f8_error *err)
{
    const char *from = buffer;

    while (n > 0) {
        ssize_t put = pwrite(fd, from, n, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return f8_fail_errno(err, put < 0 ? errno : EIO,
                                 "%s: cannot write at byte %llu", path,
                                 (unsigned long long)offset);
        from += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return F8_OK;
}

f8_status f8_read_all(int fd, uint64_t bytes, uint64_t max_bytes,
                      const char *path, f8_buf *buf, f8_error *err)
{
    if (bytes > max_bytes)
        return f8_fail(
            err, F8_ERR_FORMAT, "%s: %llu bytes, expected at most %llu", path,
            (unsigned long long)bytes, (unsigned long long)max_bytes);
    if (!reserve(buf, (size_t)bytes + 1))
        return f8_fail_nomem(err, path);
    f8_status status =
        f8_read_at(fd, buf->data + buf->length, (size_t)bytes, 0, path, err);
    if (status == F8_OK) {
        buf->length += (size_t)bytes;
        buf->data[buf->length] = '\0';
    }
    return status;
}

f8_status f8_read_file(const char *path, uint64_t max_bytes, f8_buf *buf,
                       f8_error *err)
{
    int fd;
    uint64_t bytes = 0;

    f8_status status = f8_open_read(path, &fd, &bytes, NULL, err);
    if (status != F8_OK)
        return status;
    status = f8_read_all(fd, bytes, max_bytes, path, buf, err);
    close(fd);
    return status;
}

/* The folder that has the entry `path`; the caller frees it. NULL when out of
 * memory. */
static char *parent_of(const char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n > 0 ? strndup(path, n) : strdup(".");
}

/* Makes what happened to the entry `path` durable. */
static f8_status sync_parent(const char *path, f8_error *err)
{
    char *dir = parent_of(path);

    if (!dir)
        return f8_fail_nomem(err, path);
    f8_status status = f8_sync_dir(dir, err);
    free(dir);
    return status;
}

/* What becomes of a mkdir that failed, or would, for this reason. */
static f8_status judge_make_dir(const char *path, int reason, f8_error *err)
{
    struct stat st;

    if (reason == EEXIST && stat(path, &st) != 0)
        return f8_fail_errno(err, errno, "%s: cannot stat", path);
    if (reason == EEXIST && S_ISDIR(st.st_mode))
        return F8_OK;
    if (reason == ENOENT)
        return f8_fail(err, F8_ERR_IO,
                       "%s: cannot make the folder: expected an existing "
                       "folder to make it in",
                       path);
    return f8_fail_errno(err, reason, "%s: cannot make the folder", path);
}

f8_status f8_make_dir(const char *path, f8_error *err)
{
    if (mkdir(path, 0777) == 0)
        return sync_parent(path, err);
    return judge_make_dir(path, errno, err);
}

/* Whether entries can be made in the folder `dir`, by the rights that the
 * process has now; errno says why not. */
static bool can_make_in(const char *dir)
{
    return faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0;
}

f8_status f8_check_make_dir(const char *path, f8_error *err)
{
    struct stat st;

    if (lstat(path, &st) == 0)
        return judge_make_dir(path, EEXIST, err);
    if (errno != ENOENT || !*path)
        return judge_make_dir(path, errno, err);
    char *dir = parent_of(path);
    if (!dir)
        return f8_fail_nomem(err, path);
    int reason = can_make_in(dir) ? 0 : errno;
    free(dir);
    return reason == 0 ? F8_OK : judge_make_dir(path, reason, err);
}

f8_status f8_check_make_files(const char *dir, f8_error *err)
{
    if (can_make_in(dir))
        return F8_OK;
    return f8_fail_errno(err, errno, "%s: cannot make files in it", dir);
}

f8_status f8_make_parents(const char *root, const char *path, f8_error *err)
{
    size_t start = strlen(root);
    f8_status status = F8_OK;
    char *copy = strdup(path);

    if (!copy)
        return f8_fail_nomem(err, path);
    for (char *at = copy + start; *at && status == F8_OK; at++) {
        if (*at != '/' || at == copy)
            continue;
        *at = '\0';
        if (strlen(copy) > start)
            status = f8_make_dir(copy, err);
        *at = '/';
    }
    free(copy);
    return status;
}

f8_status f8_create_file(const char *path, int *fd, f8_error *err)
{
    *fd = f8_open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW);
    if (*fd < 0)
        return f8_fail_errno(err, errno, "%s: cannot create", path);
    return F8_OK;
}

f8_status f8_reserve(int fd, uint64_t bytes, const char *path, f8_error *err)
{
    int result;

    do
        result = fallocate(fd, 0, 0, (off_t)bytes);
    while (result != 0 && errno == EINTR);
    if (result != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO))
        return f8_fail_errno(err, errno, "%s: cannot take %llu bytes", path,
                             (unsigned long long)bytes);
    return F8_OK;
}

static int sync_file(int fd)
{
    int result;

    do
        result = fsync(fd);
    while (result != 0 && errno == EINTR);
    return result;
}

f8_status f8_sync(int fd, const char *path, f8_error *err)
{
    if (sync_file(fd) != 0)
        return f8_fail_errno(err, errno, "%s: cannot sync", path);
    return F8_OK;
}

f8_status f8_close(int fd, const char *path, f8_error *err)
{
    /* After EINTR Linux has closed it, and what it held is on the disk. */
    if (close(fd) != 0 && errno != EINTR)
        return f8_fail_errno(err, errno, "%s: cannot close", path);
    return F8_OK;
}

f8_status f8_sync_close(int fd, const char *path, f8_error *err)
{
    f8_status status = f8_sync(fd, path, err);

    if (status == F8_OK)
        return f8_close(fd, path, err);
    close(fd);
    return status;
}

f8_status f8_sync_dir(const char *path, f8_error *err)
{
    int fd = f8_open(path, O_RDONLY | O_DIRECTORY);

    if (fd < 0)
        return f8_fail_errno(err, errno, "%s: cannot open", path);
    /* Some file systems cannot sync a directory and say EINVAL; a rename on
     * them is as durable as it gets. */
    if (sync_file(fd) != 0 && errno != EINVAL) {
        int reason = errno;
        close(fd);
        return f8_fail_errno(err, reason, "%s: cannot sync", path);
    }
    close(fd);
    return F8_OK;
}

f8_status f8_publish(const char *from, const char *to, f8_error *err)
{
    if (rename(from, to) != 0)
        return f8_fail_errno(err, errno, "%s: cannot rename to %s", from, to);
    return sync_parent(to, err);
}

f8_status f8_write_file(const char *temporary, const char *path,
                        const void *bytes, size_t n, f8_error *err)
{
    int fd;

    f8_status status = f8_create_file(temporary, &fd, err);
    if (status != F8_OK)
        return status;
    status = f8_write_at(fd, bytes, n, 0, temporary, err);
    if (status == F8_OK)
        status = f8_sync_close(fd, temporary, err);
    else
        close(fd);
    if (status == F8_OK)
        status = f8_publish(temporary, path, err);
    if (status != F8_OK)
        unlink(temporary);
    return status;
}

f8_status f8_free_space(const char *path, uint64_t *bytes, f8_error *err)
{
    struct statvfs st;
    f8_status status = F8_OK;
    char *dir = strdup(path);

    if (!dir)
        return f8_fail_nomem(err, path);
    /* A folder that is yet to be made lands on its parent's file system. */
    while (statvfs(dir, &st) != 0) {
        char *slash = strrchr(dir, '/');
        if (errno != ENOENT || !*dir || !strcmp(dir, ".")) {
            status = f8_fail_errno(err, errno, "%s: cannot ask for free space",
                                   path);
            goto out;
        }
        if (!slash)
            memcpy(dir, ".", 2); /* not empty, so it holds two bytes */
        else
            slash[slash == dir ? 1 : 0] = '\0';
    }
    /* A file system without blocks (FUSE, by default) does not tell. */
    if (st.f_blocks == 0 || !f8_mul_u64(st.f_bavail, st.f_frsize, bytes))
        *bytes = UINT64_MAX;
out:
    free(dir);
    return status;
}

/* ---- machine ------------------------------------------------------------- */

unsigned f8_cpu_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        return n > 0 ? (unsigned)n : 1;
    }
    /* More than 1,024 CPUs do not fit the fixed set. */
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

double f8_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t f8_hash(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}
