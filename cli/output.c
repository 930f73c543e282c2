/* output.c - one file, whole or not at all; see output.h. */
#include "output.h"
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Always false. */
static bool tell(const output *out, const char *what, char *problem)
{
    /* There are no other threads.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *reason = strerror(errno);
    snprintf(problem, PROBLEM_BYTES, "%.512s: cannot %s: %s", out->path, what,
             reason);
    return false;
}

static bool is_there(const output *out, char *problem)
{
    snprintf(problem, PROBLEM_BYTES,
             "%.512s: is there already (--overwrite replaces it)", out->path);
    return false;
}

/* The folder of `path` and the name in it. */
static void split(output *out, const char *path)
{
    char *copy = strdup(path), *again = strdup(path);
    if (!copy || !again)
        message_no_memory();
    /* There are no other threads.
     * NOLINTBEGIN(concurrency-mt-unsafe) */
    out->folder = strdup(dirname(copy));
    out->name = strdup(basename(again));
    /* NOLINTEND(concurrency-mt-unsafe) */
    free(copy);
    free(again);
    if (!out->folder || !out->name ||
        asprintf(&out->part, ".%s.%ld.part", out->name, (long)getpid()) < 0)
        message_no_memory();
}

/* What has the final name may only be replaced when it is a file: renaming
 * over a device or a link would take it away from others. */
static bool may_replace(const output *out, char *problem)
{
    struct stat st;
    if (fstatat(out->folder_fd, out->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || tell(out, "look at it", problem);
    if (!S_ISREG(st.st_mode)) {
        snprintf(problem, PROBLEM_BYTES,
                 "%.512s: is there already, and is no file", out->path);
        return false;
    }
    return out->overwrite || is_there(out, problem);
}

bool output_begin(output *out, const char *path, bool overwrite,
                  char problem[PROBLEM_BYTES])
{
    *out = OUTPUT_NONE;
    out->path = path;
    out->overwrite = overwrite;
    split(out, path);
    out->folder_fd = open(out->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->folder_fd < 0)
        return tell(out, "open its folder", problem);
    if (!may_replace(out, problem))
        return false;
    out->fd =
        openat(out->folder_fd, out->part,
               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return out->fd >= 0 || tell(out, "make it", problem);
}

static bool write_all(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t done = write(fd, bytes, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return false;
        bytes += done;
        count -= (size_t)done;
    }
    return true;
}

/* A link refuses a name that has come up in the meantime, where renaming would
 * replace it; some file systems have no links. */
static bool publish(const output *out)
{
    if (!out->overwrite) {
        if (linkat(out->folder_fd, out->part, out->folder_fd, out->name, 0) ==
            0)
            return unlinkat(out->folder_fd, out->part, 0) == 0;
        if (errno == EEXIST)
            return false;
    }
    return renameat(out->folder_fd, out->part, out->folder_fd, out->name) == 0;
}

bool output_finish(output *out, const char *bytes, size_t count,
                   char problem[PROBLEM_BYTES])
{
    if (!write_all(out->fd, bytes, count))
        return tell(out, "write", problem);
    if (fsync(out->fd) != 0)
        return tell(out, "sync", problem);
    int fd = out->fd;
    out->fd = -1;
    if (close(fd) != 0)
        return tell(out, "write", problem);
    if (!publish(out))
        return errno == EEXIST ? is_there(out, problem)
                               : tell(out, "rename it", problem);
    free(out->part);
    out->part = NULL;
    /* EINVAL: a file system that cannot sync a folder. */
    if (fsync(out->folder_fd) != 0 && errno != EINVAL)
        return tell(out, "sync its folder", problem);
    return true;
}

void output_end(output *out)
{
    if (out->fd >= 0)
        close(out->fd);
    if (out->part && out->folder_fd >= 0)
        unlinkat(out->folder_fd, out->part, 0);
    if (out->folder_fd >= 0)
        close(out->folder_fd);
    free(out->folder);
    free(out->name);
    free(out->part);
    *out = OUTPUT_NONE;
}
