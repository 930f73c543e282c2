/* confine.c - Landlock and seccomp; see confine.h. The numbers are the
 * kernel's, which never change them; its headers are not used, since those of
 * an older distribution lack the newer half. */
#include "confine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Landlock, from the kernel's include/uapi/linux/landlock.h ---------- */

enum {
    LANDLOCK_CREATE = 444,
    LANDLOCK_ADD = 445,
    LANDLOCK_RESTRICT = 446,
    ASK_VERSION = 1,
    PATH_BENEATH = 1,
    /* Renaming from one folder to another, which publishing does, can be
     * allowed from version 2 on. */
    VERSION_LEAST = 2,
    VERSION_TRUNCATE = 3,
    VERSION_TCP = 4,
    VERSION_DEVICES = 5,
    VERSION_SCOPES = 6
};

#define FS_EXECUTE ((uint64_t)1 << 0)
#define FS_WRITE_FILE ((uint64_t)1 << 1)
#define FS_READ_FILE ((uint64_t)1 << 2)
#define FS_READ_DIR ((uint64_t)1 << 3)
#define FS_REMOVE_DIR ((uint64_t)1 << 4)
#define FS_REMOVE_FILE ((uint64_t)1 << 5)
#define FS_MAKE_DIR ((uint64_t)1 << 7)
#define FS_MAKE_REG ((uint64_t)1 << 8)
#define FS_REFER ((uint64_t)1 << 13)
#define FS_TRUNCATE ((uint64_t)1 << 14)
#define FS_IOCTL_DEV ((uint64_t)1 << 15)
#define TCP_BIND_CONNECT ((uint64_t)3)
#define SCOPE_SOCKETS_SIGNALS ((uint64_t)3)

#define READING (FS_READ_FILE | FS_READ_DIR)
#define WRITING                                                     \
    (FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | \
     FS_MAKE_REG | FS_REFER | FS_TRUNCATE)
/* What makes sense for a single file. */
#define OF_A_FILE (FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE)

typedef struct ruleset_attr {
    uint64_t fs, net, scoped;
} ruleset_attr;

typedef struct __attribute__((packed)) path_beneath_attr {
    uint64_t allowed;
    int32_t fd;
} path_beneath_attr;

typedef struct ruleset {
    int fd;
    uint64_t handled;
    char *problem; /* PROBLEM_BYTES; "" while there is none */
} ruleset;

/* False when there is no such system call, or it is switched off. */
static bool ruleset_begin(ruleset *rules)
{
    long version = syscall(LANDLOCK_CREATE, NULL, (size_t)0, ASK_VERSION);
    ruleset_attr attr = {.fs = ((FS_REFER << 1) - 1)};
    size_t bytes = sizeof attr.fs;

    if (version < VERSION_LEAST)
        return false;
    if (version >= VERSION_TRUNCATE)
        attr.fs |= FS_TRUNCATE;
    if (version >= VERSION_DEVICES)
        attr.fs |= FS_IOCTL_DEV;
    if (version >= VERSION_TCP) {
        attr.net = TCP_BIND_CONNECT;
        bytes += sizeof attr.net;
    }
    if (version >= VERSION_SCOPES) {
        attr.scoped = SCOPE_SOCKETS_SIGNALS;
        bytes += sizeof attr.scoped;
    }
    rules->handled = attr.fs;
    rules->fd = (int)syscall(LANDLOCK_CREATE, &attr, bytes, 0);
    return rules->fd >= 0;
}

/* A place that could not be allowed for a reason that might be gone by the time
 * the command looks, which would then be kept from what it may read. */
static void tell(ruleset *rules, const char *path, const char *what)
{
    /* There are no other threads yet.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *reason = strerror(errno);
    snprintf(rules->problem, PROBLEM_BYTES, "%.512s: cannot %s: %s", path, what,
             reason);
}

/* What is not there, or not open to us, is the command's to tell: it cannot
 * read it either. */
static void allow(ruleset *rules, const char *path, uint64_t rights)
{
    struct stat st;
    path_beneath_attr attr = {0, -1};

    do
        attr.fd = open(path, O_PATH | O_CLOEXEC);
    while (attr.fd < 0 && errno == EINTR);
    if (attr.fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES &&
            errno != ELOOP && errno != ENAMETOOLONG)
            tell(rules, path, "open");
        return;
    }
    if (fstat(attr.fd, &st) != 0) {
        tell(rules, path, "stat");
    } else {
        attr.allowed = rights & rules->handled;
        if (!S_ISDIR(st.st_mode))
            attr.allowed &= OF_A_FILE;
        if (syscall(LANDLOCK_ADD, rules->fd, PATH_BENEATH, &attr, 0) != 0)
            tell(rules, path, "allow");
    }
    close(attr.fd);
}

/* ---- where the links of a source lead ------------------------------------ */

/* A model hub's cache keeps the files elsewhere and links to them. Deeper
 * folders are only looked into where there is a checkpoint, as the commands
 * do, so that `fp8cast plan /` does not walk through everything; links that
 * lead round end with `left`, the entries that are looked at: a source of more
 * is refused later. NOLINTNEXTLINE(misc-no-recursion): DEPTH_MAX */
static void allow_links(ruleset *rules, const char *folder, int depth,
                        int *left)
{
    enum { DEPTH_MAX = 16 };
    char path[PATH_MAX], target[PATH_MAX];
    const struct dirent *entry = NULL;
    struct stat st;
    DIR *dir = opendir(folder);

    if (!dir)
        return;
    int n = snprintf(path, sizeof path, "%s/config.json", folder);
    bool deeper = depth > 0 ||
                  (n > 0 && (size_t)n < sizeof path && access(path, F_OK) == 0);
    /* No other thread has this stream.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while ((*left)-- > 0 && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        n = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (n < 0 || (size_t)n >= sizeof path || lstat(path, &st) != 0)
            continue;
        if (S_ISLNK(st.st_mode) && realpath(path, target))
            allow(rules, target, READING);
        if (deeper && depth < DEPTH_MAX && stat(path, &st) == 0 &&
            S_ISDIR(st.st_mode))
            allow_links(rules, path, depth + 1, left);
    }
    closedir(dir);
}

static uint64_t rights_of(confine_use use)
{
    switch (use) {
    case CONFINE_WRITE:
        return READING | WRITING;
    case CONFINE_AROUND:
        return FS_REMOVE_DIR;
    case CONFINE_PUBLISH:
        /* What rename(2) and unlink(2) take; nothing can be written to. */
        return FS_MAKE_REG | FS_REMOVE_FILE;
    case CONFINE_READ:
    case CONFINE_SOURCE:
        break;
    }
    return READING;
}

/* False when the kernel cannot, or there is a problem. */
static bool restrict_files(const confine_place *places, size_t count,
                           /* Written through the ruleset.
                            * NOLINTNEXTLINE(readability-non-const-*) */
                           char problem[PROBLEM_BYTES])
{
    ruleset rules = {.problem = problem};
    int left = 100000;

    if (!ruleset_begin(&rules))
        return false;
    /* Whether another run that holds the folder is alive, and on which machine
     * and boot. What /proc says of others' memory and environment is for those
     * who may trace them, which Landlock itself forbids. */
    allow(&rules, "/proc", READING);
    allow(&rules, "/etc/machine-id", FS_READ_FILE);
    allow(&rules, "/dev/urandom", FS_READ_FILE); /* jansson seeds its hashes */
    for (size_t i = 0; i < count; i++) {
        if (!places[i].path)
            continue;
        allow(&rules, places[i].path, rights_of(places[i].use));
        if (places[i].use == CONFINE_SOURCE)
            allow_links(&rules, places[i].path, 0, &left);
    }
    bool done = !*problem && syscall(LANDLOCK_RESTRICT, rules.fd, 0) == 0;
    close(rules.fd);
    return done;
}

/* ---- seccomp: no socket, no program -------------------------------------- */

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#endif

static bool restrict_calls(void)
{
#ifdef OWN_ARCH
    enum { DENIED = 7 };
    /* io_uring would do the rest without being asked again. */
    static const uint32_t denied[DENIED] = {
        __NR_execve, __NR_execveat, __NR_socket, __NR_socketpair,
        __NR_bind,   __NR_connect,  425 /* io_uring_setup */
    };
    struct sock_filter code[DENIED + 6];
    unsigned short n = 0, refuse = DENIED + 5;

    /* Another architecture's calls have other numbers (x86-64 can make those
     * of i386, and x32's, which have bit 30 set). */
    code[n++] = (struct sock_filter)BPF_STMT(
        BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH,
                                           0, (uint8_t)(refuse - n - 1));
    n++;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                             offsetof(struct seccomp_data, nr));
    code[n] = (struct sock_filter)BPF_JUMP(
        BPF_JMP | BPF_JGE | BPF_K, 0x40000000, (uint8_t)(refuse - n - 1), 0);
    n++;
    for (size_t i = 0; i < DENIED; i++, n++)
        code[n] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, denied[i], (uint8_t)(refuse - n - 1), 0);
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                             SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = {n, code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
#else
    return false;
#endif
}

static const char *restrict_all(const confine_place *places, size_t count,
                                char problem[PROBLEM_BYTES])
{
    /* Without it only root may confine itself. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "this kernel knows no NO_NEW_PRIVS";
    bool files = restrict_files(places, count, problem);
    bool calls = restrict_calls();
    if (!files)
        return "this kernel has no Landlock of version 2 or later";
    return calls ? NULL : "this kernel takes no seccomp filter";
}

#else

static const char *restrict_all(const confine_place *places, size_t count,
                                char problem[PROBLEM_BYTES])
{
    (void)places;
    (void)count;
    (void)problem;
    return "only Linux can do it";
}

#endif

bool confine_process(const confine_place *places, size_t count,
                     char problem[PROBLEM_BYTES])
{
    /* Nobody sets the environment.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *wish = getenv("FP8CAST_CONFINE");
    if (wish && !*wish)
        wish = NULL;
    bool must = wish && strcmp(wish, "yes") == 0;

    if (wish && strcmp(wish, "no") == 0)
        return true;
    if (wish && !must) {
        snprintf(problem, PROBLEM_BYTES,
                 "FP8CAST_CONFINE: expected yes or no, found '%s'", wish);
        return false;
    }
    *problem = '\0';
    const char *reason = restrict_all(places, count, problem);
    if (*problem)
        return false;
    if (reason && must) {
        snprintf(problem, PROBLEM_BYTES, "FP8CAST_CONFINE is yes, but %s",
                 reason);
        return false;
    }
    return true;
}
