/* report_load.c - see report_load.h. */
#include "report_load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The largest model there is has 142,000 quantised tensors, and 85 MB. */
#define FILE_BYTES_MAX ((size_t)128 << 20)

typedef struct stream {
    int fd;
    size_t left; /* bytes that may still come */
    bool is_too_long;
    int reason; /* errno of a failed read */
} stream;

static size_t read_some(void *buffer, size_t bytes, void *user)
{
    stream *in = user;
    ssize_t got;
    do
        got = read(in->fd, buffer, bytes);
    while (got < 0 && errno == EINTR);
    in->reason = got < 0 ? errno : 0;
    in->is_too_long = got > 0 && (size_t)got > in->left;
    if (got < 0 || in->is_too_long)
        return (size_t)-1;
    in->left -= (size_t)got;
    return (size_t)got;
}

static int open_file(const char *path)
{
    int fd;
    do
        fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

json_t *report_load(const char *path, char problem[PROBLEM_BYTES])
{
    json_error_t wrong = {.line = 0};
    json_t *root = NULL;
    stream in = {.fd = open_file(path), .left = FILE_BYTES_MAX};
    if (in.fd < 0) {
        in.reason = errno;
    } else {
        root =
            json_load_callback(read_some, &in, JSON_REJECT_DUPLICATES, &wrong);
        close(in.fd); /* it was only read */
    }
    if (root)
        return root;
    if (in.reason != 0)
        snprintf(problem, PROBLEM_BYTES, "%.300s: the file: cannot read: %s",
                 path,
                 /* There are no other threads.
                  * NOLINTNEXTLINE(concurrency-mt-unsafe) */
                 strerror(in.reason));
    else if (in.is_too_long)
        snprintf(problem, PROBLEM_BYTES,
                 "%.300s: the file: has more than %zu MB", path,
                 FILE_BYTES_MAX >> 20);
    else
        snprintf(problem, PROBLEM_BYTES,
                 "%.300s: the file: no JSON: line %d, column %d: %.200s", path,
                 wrong.line, wrong.column, wrong.text);
    return NULL;
}
