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

char *output_folder(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        message_no_memory();
    /* There are no other threads.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    char *folder = strdup(dirname(copy));
    free(copy);
    if (!folder)
        message_no_memory();
    return folder;
}

bool output_sync(int folder_fd)
{
    int result;
    do
        result = fsync(folder_fd);
    while (result != 0 && errno == EINTR);
    /* EINVAL: a file system that cannot sync a folder. */
    return result == 0 || errno == EINVAL;
}

/* The folder of `path` and the name in it. */
static void split(output *out, const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        message_no_memory();
    out->folder = output_folder(path);
    /* There are no other threads.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    out->name = strdup(basename(copy));
    free(copy);
    if (!out->name ||
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
    int fd = -1;
    if (may_replace(out, problem)) {
        fd = openat(out->folder_fd, out->part,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0)
            tell(out, "create", problem);
    }
    if (fd < 0) { /* the other, should it be there, is not ours to remove */
        free(out->part);
        out->part = NULL;
        return false;
    }
    out->stream = fdopen(fd, "w");
    if (out->stream)
        return true;
    tell(out, "create", problem);
    close(fd);
    return false;
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

bool output_finish(output *out, char problem[PROBLEM_BYTES])
{
    /* What the stream remembers comes first: a later call may succeed. */
    if (fflush(out->stream) != 0 || ferror(out->stream))
        return tell(out, "write", problem);
    if (fsync(fileno(out->stream)) != 0)
        return tell(out, "sync", problem);
    FILE *stream = out->stream;
    out->stream = NULL;
    if (fclose(stream) != 0)
        return tell(out, "write", problem);
    if (!publish(out))
        return errno == EEXIST ? is_there(out, problem)
                               : tell(out, "rename it", problem);
    free(out->part);
    out->part = NULL;
    if (!output_sync(out->folder_fd))
        return tell(out, "sync its folder", problem);
    return true;
}

void output_end(output *out)
{
    if (out->stream)
        (void)fclose(out->stream); /* it goes away */
    if (out->part && out->folder_fd >= 0)
        unlinkat(out->folder_fd, out->part, 0);
    if (out->folder_fd >= 0)
        close(out->folder_fd);
    free(out->folder);
    free(out->name);
    free(out->part);
    *out = OUTPUT_NONE;
}
