/* inject.c - a library for LD_PRELOAD that counts the calls of a program,
 * lets the n-th of them fail, be cut short or be its last, and writes down
 * what was called. tests/faults/runs.py sets it up and reads its trace.
 *
 *   FAULT_UNDER   folders, ':' between; only calls on what lies in them are
 *                 counted, so that the C library's own do not matter
 *   FAULT_CALL    class of call: open read write fallocate fsync rename close
 *                 unlink mkdir flock stat list memory; link is one of rename;
 *                 or change: all that changes the file system
 *   FAULT_AT      which one, from 1
 *   FAULT_TIMES   how many from there on; 0: all that follow
 *   FAULT_DO      a number: fail with this errno; `short`: half of the bytes;
 *                 `none`: no bytes; `before`, `half`, `after`: SIGKILL at that
 *                 point of the call; `shrink`: the file is cut in half first;
 *                 `touch`: its time of change is set to now first; `stop`:
 *                 SIGSTOP to itself before the call
 *   FAULT_NOFLOCK an errno: what every flock fails with
 *   FAULT_TRACE   file to append to: a line for each call, `fired` lines, and
 *                 at the end how many calls were counted and which files
 *                 were still open */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

enum { FILES = 4096, LINE_BYTES = 2048 };

enum {
    WRONG,
    CUT,
    NOTHING,
    DIE_BEFORE,
    DIE_HALF,
    DIE_AFTER,
    SHRINK,
    TOUCH,
    STOP
};

static struct {
    const char *under, *call;
    long at, times;
    int what, error, noflock;
    int trace;
    atomic_bool on;
} fault = {.trace = -1};

static atomic_long counted;
static _Atomic(char *) paths[FILES]; /* of watched open files */

/* The next definition of a function, which is the C library's own. */
#define REAL(type, name, ...)         \
    static type (*real)(__VA_ARGS__); \
    if (!real)                        \
    real = __extension__(type(*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name)

/* ---- trace ------------------------------------------------------------- */

static void tell(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list list;
    int kept = errno;

    if (fault.trace < 0)
        return;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line - 1, format, list);
    va_end(list);
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n++] = '\n';
    syscall(SYS_write, fault.trace, line, (size_t)n);
    errno = kept;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* ---- which calls ------------------------------------------------------- */

static bool is_watched(const char *path)
{
    const char *at = fault.under;

    while (path && at && *at) {
        size_t n = strcspn(at, ":");
        if (!strncmp(path, at, n) && (!path[n] || path[n] == '/'))
            return true;
        at += n + (at[n] == ':');
    }
    return false;
}

static char *path_of(int fd)
{
    return fd >= 0 && fd < FILES ? atomic_load(&paths[fd]) : NULL;
}

static void remember(int fd, const char *path)
{
    if (fd >= 0 && fd < FILES && is_watched(path)) {
        size_t n = strlen(path) + 1;
        char *copy = (char *)syscall(SYS_mmap, NULL, n, 3, 0x22, -1, 0);
        memcpy(copy, path, n); /* a page that is never given back */
        atomic_store(&paths[fd], copy);
    }
}

/* Whether this call is the one; counts it. */
static bool is_hit(const char *call, bool changes, const char *path)
{
    if (!atomic_load(&fault.on) || !fault.call ||
        !(!strcmp(fault.call, call) ||
          (changes && !strcmp(fault.call, "change"))))
        return false;
    long n = atomic_fetch_add(&counted, 1) + 1;
    if (n < fault.at || (fault.times > 0 && n >= fault.at + fault.times))
        return false;
    tell("fired %s %s", call, path ? path : "");
    return true;
}

/* Before a call. True: it is to fail, errno is set. */
static bool comes(bool hit, const char *path)
{
    if (!hit)
        return false;
    if (fault.what == DIE_BEFORE)
        die();
    if (fault.what == SHRINK || fault.what == TOUCH) {
        struct stat st;
        int fd = (int)syscall(SYS_open, path, O_WRONLY);
        if (fd >= 0 && syscall(SYS_fstat, fd, &st) == 0) {
            if (fault.what == SHRINK)
                syscall(SYS_ftruncate, fd, st.st_size / 2);
            else
                futimens(fd, NULL);
        }
        syscall(SYS_close, fd);
        return false;
    }
    if (fault.what == STOP) /* to this thread, which then makes no call more */
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSTOP);
    errno = fault.error;
    return fault.what == WRONG;
}

/* After one that was let through. */
static void went(bool hit)
{
    if (hit && (fault.what == DIE_AFTER || fault.what == DIE_HALF))
        die();
}

/* How many of n bytes a read or write is allowed. */
static size_t allowed(bool hit, size_t n)
{
    if (hit && (fault.what == CUT || fault.what == DIE_HALF))
        return n / 2 ? n / 2 : n;
    return n;
}

/* ---- files ------------------------------------------------------------- */

static int opened(const char *path, int flags, mode_t mode)
{
    bool creates = flags & (O_CREAT | O_TRUNC);
    bool hit = is_watched(path) && is_hit("open", creates, path);
    int fd;

    /* Of a file's name alone nobody has a lease. */
    if (fault.error == EAGAIN && flags & O_PATH)
        hit = false;

    if (comes(hit, path))
        return -1;
    REAL(int, "open64", const char *, int, mode_t);
    fd = real(path, flags, mode);
    if (is_watched(path)) {
        tell("%s %s = %d", creates ? "create" : "open", path, fd);
        remember(fd, path);
    }
    went(hit);
    return fd;
}

static mode_t mode_of(int flags, va_list list)
{
    return flags & O_CREAT ? (mode_t)va_arg(list, int) : 0;
}

#define OPEN(name)                             \
    int name(const char *path, int flags, ...) \
    {                                          \
        va_list list;                          \
        va_start(list, flags);                 \
        mode_t mode = mode_of(flags, list);    \
        va_end(list);                          \
        return opened(path, flags, mode);      \
    }
OPEN(open)
OPEN(open64)
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return opened(path, flags, 0);
}
int __open64_2(const char *path, int flags)
{
    return opened(path, flags, 0);
}

/* openat2 has no function of its own. All other calls pass. */
long syscall(long number, ...)
{
    enum { OPENAT2 = 437, ARGUMENTS = 6 };
    long a[ARGUMENTS];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < ARGUMENTS; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    REAL(long, "syscall", long, ...);
    const char *folder = number == OPENAT2 ? path_of((int)a[0]) : NULL;
    if (!folder)
        return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    char path[LINE_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, (const char *)a[1]);
    bool hit = is_hit("open", false, path);
    if (comes(hit, path))
        return -1;
    long fd = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    tell("open %s = %ld", path, fd);
    remember((int)fd, path);
    went(hit);
    return fd;
}

DIR *opendir(const char *path)
{
    bool hit = is_watched(path) && is_hit("list", false, path);

    if (comes(hit, path))
        return NULL;
    REAL(DIR *, "opendir", const char *);
    return real(path);
}

int close(int fd)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("close", false, path);

    if (path)
        atomic_store(&paths[fd], NULL);
    if (hit && fault.what == DIE_BEFORE)
        die();
    REAL(int, "close", int);
    int result = real(fd); /* the file is closed whatever close says */
    if (path)
        tell("close %s", path);
    went(hit);
    if (!hit || fault.what != WRONG)
        return result;
    errno = fault.error;
    return -1;
}

ssize_t pread64(int fd, void *buffer, size_t n, off64_t offset)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("read", false, path);

    if (comes(hit, path))
        return -1;
    if (hit && fault.what == NOTHING)
        return 0;
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    ssize_t got = real(fd, buffer, allowed(hit, n), offset);
    went(hit);
    return got;
}

ssize_t read(int fd, void *buffer, size_t n)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("read", false, path);

    if (comes(hit, path))
        return -1;
    if (hit && fault.what == NOTHING)
        return 0;
    REAL(ssize_t, "read", int, void *, size_t);
    ssize_t got = real(fd, buffer, allowed(hit, n));
    went(hit);
    return got;
}

ssize_t pwrite64(int fd, const void *buffer, size_t n, off64_t offset)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("write", true, path);

    if (comes(hit, path))
        return -1;
    if (hit && fault.what == NOTHING)
        return 0;
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    ssize_t put = real(fd, buffer, allowed(hit, n), offset);
    if (path)
        tell("write %s = %zd", path, put);
    went(hit);
    return put;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t n)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("fallocate", true, path);

    if (comes(hit, path))
        return -1;
    REAL(int, "fallocate64", int, int, off64_t, off64_t);
    int result = real(fd, mode, offset, n);
    if (path)
        tell("fallocate %s = %d", path, result);
    went(hit);
    return result;
}

int ftruncate64(int fd, off64_t n)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("fallocate", true, path);

    if (comes(hit, path))
        return -1;
    REAL(int, "ftruncate64", int, off64_t);
    int result = real(fd, n);
    if (path)
        tell("truncate %s = %d", path, result);
    went(hit);
    return result;
}

int fsync(int fd)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("fsync", true, path);

    if (comes(hit, path))
        return -1;
    REAL(int, "fsync", int);
    int result = real(fd);
    if (path)
        tell("fsync %s = %d", path, result);
    went(hit);
    return result;
}

int flock(int fd, int operation)
{
    char *path = path_of(fd);
    bool hit = path && is_hit("flock", false, path);

    if (comes(hit, path))
        return -1;
    if (path && fault.noflock) {
        errno = fault.noflock;
        return -1;
    }
    REAL(int, "flock", int, int);
    return real(fd, operation);
}

/* ---- names ------------------------------------------------------------- */

static int renamed(const char *call, const char *from, const char *to)
{
    static int (*real[2])(const char *, const char *);
    bool is_link = call[0] == 'l';
    bool hit = is_watched(to) && is_hit("rename", true, to);

    if (comes(hit, to))
        return -1;
    if (!real[is_link])
        real[is_link] = __extension__(int (*)(const char *, const char *))
            dlsym(RTLD_NEXT, call);
    int result = real[is_link](from, to);
    if (is_watched(to))
        tell("%s %s -> %s = %d", call, from, to, result);
    went(hit);
    return result;
}

int rename(const char *from, const char *to)
{
    return renamed("rename", from, to);
}

int link(const char *from, const char *to)
{
    return renamed("link", from, to);
}

#define ON_PATH(name, class, arguments, ...)                         \
    int name arguments                                               \
    {                                                                \
        bool hit = is_watched(path) && is_hit(class, true, path);    \
        if (comes(hit, path))                                        \
            return -1;                                               \
        int(*real) arguments =                                       \
            __extension__(int(*) arguments) dlsym(RTLD_NEXT, #name); \
        int result = real(__VA_ARGS__);                              \
        if (is_watched(path))                                        \
            tell(#name " %s = %d", path, result);                    \
        went(hit);                                                   \
        return result;                                               \
    }
ON_PATH(unlink, "unlink", (const char *path), path)
ON_PATH(rmdir, "unlink", (const char *path), path)
ON_PATH(mkdir, "mkdir", (const char *path, mode_t mode), path, mode)

/* ---- looking ----------------------------------------------------------- */

#define LOOK(name, arguments, ...)                                        \
    int name arguments                                                    \
    {                                                                     \
        if (is_watched(path) && comes(is_hit("stat", false, path), path)) \
            return -1;                                                    \
        int(*real) arguments =                                            \
            __extension__(int(*) arguments) dlsym(RTLD_NEXT, #name);      \
        return real(__VA_ARGS__);                                         \
    }
LOOK(stat64, (const char *path, struct stat64 *st), path, st)
LOOK(lstat64, (const char *path, struct stat64 *st), path, st)
LOOK(statvfs64, (const char *path, struct statvfs64 *st), path, st)
LOOK(access, (const char *path, int mode), path, mode)
LOOK(fstatat64, (int dir, const char *path, struct stat64 *st, int flags), dir,
     path, st, flags)

int fstat64(int fd, struct stat64 *st)
{
    char *path = path_of(fd);

    if (path && comes(is_hit("stat", false, path), path))
        return -1;
    REAL(int, "fstat64", int, struct stat64 *);
    return real(fd, st);
}

struct dirent64 *readdir64(DIR *dir)
{
    if (comes(is_hit("list", false, ""), NULL))
        return NULL;
    REAL(struct dirent64 *, "readdir64", DIR *);
    return real(dir);
}

/* ---- memory ------------------------------------------------------------ */

/* dlsym allocates before there is a function to pass the call on to. */
static char early[16384];
static size_t early_used;

static void *take_early(size_t n)
{
    size_t at = (early_used + 15) / 16 * 16;

    if (n > sizeof early - at)
        return NULL;
    early_used = at + n;
    return early + at;
}

static bool is_out(void)
{
    if (!atomic_load(&fault.on))
        return false;
    if (!is_hit("memory", false, NULL))
        return false;
    errno = ENOMEM;
    return true;
}

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    bool busy, ready;
} heap;

#define FOUND(name) (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* False while the functions are being looked up. */
static bool find_heap(void)
{
    if (heap.ready || heap.busy)
        return heap.ready;
    heap.busy = true;
    heap.malloc = __extension__ FOUND(malloc);
    heap.calloc = __extension__ FOUND(calloc);
    heap.realloc = __extension__ FOUND(realloc);
    heap.free = __extension__ FOUND(free);
    heap.posix_memalign = __extension__ FOUND(posix_memalign);
    heap.aligned_alloc = __extension__ FOUND(aligned_alloc);
    heap.ready = true;
    heap.busy = false;
    return true;
}

void *malloc(size_t n)
{
    if (!find_heap())
        return take_early(n);
    return is_out() ? NULL : heap.malloc(n);
}

void *calloc(size_t count, size_t n)
{
    if (!find_heap())
        return take_early(count * n); /* static memory is zero */
    return is_out() ? NULL : heap.calloc(count, n);
}

void *realloc(void *old, size_t n)
{
    if (!find_heap())
        return take_early(n);
    return is_out() ? NULL : heap.realloc(old, n);
}

void free(void *old)
{
    char *at = old;

    if ((at >= early && at < early + sizeof early) || !find_heap())
        return;
    heap.free(old);
}

int posix_memalign(void **to, size_t alignment, size_t n)
{
    find_heap();
    return is_out() ? ENOMEM : heap.posix_memalign(to, alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    find_heap();
    return is_out() ? NULL : heap.aligned_alloc(alignment, n);
}

/* ---- begin and end ----------------------------------------------------- */

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void begin(void)
{
    static const char *const names[] = {
        [CUT] = "short",     [NOTHING] = "none",    [DIE_BEFORE] = "before",
        [DIE_HALF] = "half", [DIE_AFTER] = "after", [SHRINK] = "shrink",
        [TOUCH] = "touch",   [STOP] = "stop"};
    const char *what = getenv("FAULT_DO"), *trace = getenv("FAULT_TRACE");

    find_heap();
    fault.under = getenv("FAULT_UNDER");
    fault.call = getenv("FAULT_CALL");
    fault.at = number("FAULT_AT", 0);
    fault.times = number("FAULT_TIMES", 1);
    fault.noflock = (int)number("FAULT_NOFLOCK", 0);
    fault.error = what ? atoi(what) : 0;
    for (int i = CUT; what && i <= STOP; i++) {
        if (!strcmp(what, names[i]))
            fault.what = i;
    }
    if (trace) {
        /* Far from the numbers that the program's files get. */
        int fd =
            (int)syscall(SYS_open, trace, O_WRONLY | O_CREAT | O_APPEND, 0666);
        fault.trace = fcntl(fd, F_DUPFD_CLOEXEC, 900);
        syscall(SYS_close, fd);
    }
    atomic_store(&fault.on, true);
}

__attribute__((destructor)) static void end(void)
{
    atomic_store(&fault.on, false);
    tell("counted %ld", atomic_load(&counted));
    for (int fd = 0; fd < FILES; fd++) {
        if (path_of(fd))
            tell("left open %s", path_of(fd));
    }
}
