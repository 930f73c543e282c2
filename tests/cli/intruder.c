/* intruder.c - what a program that was taken over might try. Preloaded into
 * fp8cast by confine.bats: at the first read of a file's bytes, at the first
 * write of some and at the first link, deep inside the work, it tries what a
 * conversion never needs and tells on stderr, a line for each: when, what, and
 * "done" or the name of the error. INTRUDER_OUTSIDE is a folder that the
 * command line does not name, INTRUDER_SRC the source. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *when, const char *what, bool done)
{
    const char *found = done ? "done" : strerrorname_np(errno);
    dprintf(STDERR_FILENO, "%s: %s: %s\n", when, what, found);
}

static void try_open(const char *when, const char *what, const char *folder,
                     const char *name, int flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    tell(when, what, fd >= 0);
    if (fd >= 0)
        close(fd);
}

/* A program that runs ends with status 7; a child that could not start it
 * says so itself. */
static void try_program(const char *when)
{
    char *const arguments[] = {"sh", "-c", "exit 7", NULL};
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        execv("/bin/sh", arguments);
        _exit(errno == EPERM ? 1 : 2);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return;
    errno = WEXITSTATUS(status) == 1 ? EPERM : EACCES;
    tell(when, "run a program", WEXITSTATUS(status) == 7);
}

static void intrude(const char *when)
{
    const char *outside = getenv("INTRUDER_OUTSIDE");
    const char *source = getenv("INTRUDER_SRC");
    int before = errno;
    if (!outside || !source)
        return;
    try_open(when, "read outside", outside, "secret", O_RDONLY);
    try_open(when, "write outside", outside, "secret", O_WRONLY);
    try_open(when, "make outside", outside, "new", O_WRONLY | O_CREAT);
    try_open(when, "write the source", source, "config.json", O_WRONLY);
    try_open(when, "make in the source", source, "new", O_WRONLY | O_CREAT);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    tell(when, "socket", fd >= 0);
    if (fd >= 0)
        close(fd);
    try_program(when);
    errno = before;
}

/* The functions that the library calls, under the names that a program
 * built for 64-bit offsets uses. */
ssize_t pread64(int fd, void *to, size_t n, off_t at);
ssize_t pread64(int fd, void *to, size_t n, off_t at)
{
    static atomic_flag tried = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&tried))
        intrude("read");
    return syscall(SYS_pread64, fd, to, n, at);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off_t at);
ssize_t pwrite64(int fd, const void *from, size_t n, off_t at)
{
    static atomic_flag tried = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&tried))
        intrude("write");
    return syscall(SYS_pwrite64, fd, from, n, at);
}

int linkat(int folder, const char *name, int other, const char *link,
           int flags);
int linkat(int folder, const char *name, int other, const char *link, int flags)
{
    static atomic_flag tried = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&tried))
        intrude("link");
    return (int)syscall(SYS_linkat, folder, name, other, link, flags);
}
