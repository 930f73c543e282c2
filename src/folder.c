/* folder.c - files below a folder, and no others; see folder.h. Linux's
 * openat2 with RESOLVE_BENEATH decides in the moment of opening. Where there
 * is none the path is resolved first and compared, which somebody who changes
 * links at that very moment could outwit. */
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From the kernel's include/uapi/linux/openat2.h; the numbers are the same on
 * every architecture. */
enum {
    SYS_OPENAT2 = 437,
    RESOLVE_NO_MAGICLINKS = 0x02,
    RESOLVE_BENEATH = 0x08
};

typedef struct open_how {
    uint64_t flags, mode, resolve;
} open_how;

/* A hub's cache is MODEL/snapshots/REVISION beside MODEL/blobs, which must be a
 * folder itself: a link would lead anywhere. */
static f8_status find_blobs(f8_folder *folder, f8_error *err)
{
    static const char parent[] = "/snapshots";
    size_t n = sizeof parent - 1;
    f8_root *blobs = &folder->blobs;
    const char *path = folder->own.path;
    const char *revision = strrchr(path, '/');

    if ((size_t)(revision - path) <= n || memcmp(revision - n, parent, n) != 0)
        return F8_OK;
    f8_buf beside = {0};
    f8_buf_append(&beside, path, (size_t)(revision - path) - n);
    f8_buf_puts(&beside, "/blobs");
    if (beside.failed) {
        f8_buf_free(&beside);
        return f8_fail_nomem(err, "a path");
    }
    blobs->path = beside.data;
    blobs->fd = f8_open(beside.data, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    return F8_OK; /* without one it is a folder like any other */
}

f8_status f8_folder_open(const char *path, bool follow_links, f8_folder *folder,
                         f8_error *err)
{
    f8_status status = F8_OK;

    *folder = F8_FOLDER_NONE;
    folder->follow_links = follow_links;
    folder->path = strdup(path);
    if (!folder->path)
        return f8_fail_nomem(err, "a path");
    folder->own.path = realpath(path, NULL);
    if (folder->own.path &&
        (folder->own.fd = f8_open(path, O_PATH | O_DIRECTORY)) >= 0)
        status = find_blobs(folder, err);
    else
        status = f8_fail_errno(err, errno, "%s: cannot open the folder", path);
    if (status != F8_OK)
        f8_folder_close(folder);
    return status;
}

static void close_root(f8_root *root)
{
    if (root->fd >= 0)
        close(root->fd);
    free(root->path);
}

void f8_folder_close(f8_folder *folder)
{
    close_root(&folder->own);
    close_root(&folder->blobs);
    free(folder->path);
    *folder = F8_FOLDER_NONE;
}

/* A descriptor, or -1 with errno; EXDEV when the name leads out. */
static int open_beneath(const f8_root *root, const char *relative, int flags)
{
    enum { TRIES = 8 };
    open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = -1;

    /* EAGAIN: something was renamed while a path with ".." was resolved. */
    for (int i = 0; i < TRIES && fd < 0; i++) {
        do
            fd = syscall(SYS_OPENAT2, root->fd, relative, &how, sizeof how);
        while (fd < 0 && errno == EINTR);
        if (fd < 0 && errno != EAGAIN)
            break;
    }
    return (int)fd;
}

/* The same; opening a fifo that nobody writes must not hang, see f8_open_read
 * for what EAGAIN means then. */
static int open_patiently(const f8_root *root, const char *relative, int flags)
{
    struct stat st;
    int fd = open_beneath(root, relative, flags);

    if (fd >= 0 || errno != EAGAIN || !(flags & O_NONBLOCK))
        return fd;
    int look = open_beneath(root, relative, O_PATH);
    bool regular = look >= 0 && fstat(look, &st) == 0 && S_ISREG(st.st_mode);
    if (look >= 0)
        close(look);
    errno = EAGAIN;
    return regular ? open_beneath(root, relative, flags & ~O_NONBLOCK) : -1;
}

/* What an absolute path is called from there; NULL when it is outside. */
static const char *inside(const f8_root *root, const char *resolved)
{
    size_t n = root->fd >= 0 ? strlen(root->path) : 0;

    if (n == 0)
        return NULL;
    n -= root->path[n - 1] == '/'; /* it is "/" */
    if (strncmp(resolved, root->path, n) != 0 || resolved[n] != '/')
        return NULL;
    return resolved + n + 1;
}

/* Opens what `full` resolves to if that is inside. An absolute link may well
 * lead to where it is allowed to, and one of a hub's cache leads to the blobs,
 * which RESOLVE_BENEATH alone does not see; and old kernels, and some
 * sandboxes, have no openat2. */
static f8_status open_resolved(const f8_folder *folder, const char *full,
                               int flags, int *fd, f8_error *err)
{
    f8_status status = F8_OK;
    const f8_root *root = &folder->own;
    char *resolved = realpath(full, NULL);

    if (!resolved)
        return f8_fail_errno(err, errno, "%s: cannot open", full);
    const char *relative = inside(root, resolved);
    if (!relative) {
        root = &folder->blobs;
        relative = inside(root, resolved);
    }
    if (relative) {
        *fd = open_patiently(root, relative, flags);
        if (*fd < 0 && (errno == ENOSYS || errno == EPERM))
            *fd = openat(root->fd, relative, flags | O_CLOEXEC | O_NOFOLLOW);
        if (*fd < 0)
            status = f8_fail_errno(err, errno, "%s: cannot open", full);
    } else {
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: a link that leads out of the folder, to %s; "
                         "expected a file of %s (--follow-links allows it)",
                         full, resolved, folder->path);
    }
    free(resolved);
    return status;
}

static f8_status open_full(const f8_folder *folder, const char *name,
                           const char *full, int flags, int *fd, f8_error *err)
{
    if (folder->follow_links) {
        *fd = flags & O_PATH ? f8_open(full, flags) : f8_open_no_fifo(full);
    } else {
        *fd = open_patiently(&folder->own, name, flags);
        if (*fd < 0 && (errno == EXDEV || errno == ENOSYS || errno == EPERM))
            return open_resolved(folder, full, flags, fd, err);
    }
    if (*fd < 0)
        return f8_fail_errno(err, errno, "%s: cannot open", full);
    return F8_OK;
}

f8_status f8_folder_open_file(const f8_folder *folder, const char *name,
                              int *fd, uint64_t *bytes, int64_t *mtime_ns,
                              f8_error *err)
{
    const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    char *full = f8_path_join(folder->path, name);

    *fd = -1;
    if (!full)
        return f8_fail_nomem(err, "a path");
    f8_status status = open_full(folder, name, full, flags, fd, err);
    if (status == F8_OK)
        status = f8_look_at(fd, full, bytes, mtime_ns, err);
    free(full);
    return status;
}

f8_status f8_folder_read_file(const f8_folder *folder, const char *name,
                              uint64_t max_bytes, f8_buf *buf, f8_error *err)
{
    int fd = -1;
    uint64_t bytes = 0;
    char *full = f8_path_join(folder->path, name);

    if (!full)
        return f8_fail_nomem(err, "a path");
    f8_status status =
        f8_folder_open_file(folder, name, &fd, &bytes, NULL, err);
    if (status == F8_OK)
        status = f8_read_all(fd, bytes, max_bytes, full, buf, err);
    if (fd >= 0)
        close(fd);
    free(full);
    return status;
}

f8_status f8_folder_check(const f8_folder *folder, const char *name,
                          f8_error *err)
{
    char *full = f8_path_join(folder->path, name);
    int fd = -1;

    if (!full)
        return f8_fail_nomem(err, "a path");
    f8_status status = open_full(folder, name, full, O_PATH, &fd, err);
    if (fd >= 0)
        close(fd);
    free(full);
    return status;
}
