/* lock.c - one run at a time in a result folder. See lock.h.
 *
 * flock on .fp8cast says who may write, and dies with its process. The file
 * `lock` in it says who that is. Where flock is refused (network file systems
 * without a lock service), the file is the lock: made by link, which only one
 * can; stale when its process is known to be gone. */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_BYTES = 640, TRIES = 8 };

/* A process, as one may be told from all others, on whatever machine. "-" is
 * what could not be found out. */
typedef struct holder {
    long pid;
    uint64_t start; /* of the process, in ticks since the machine's */
    char boot[40];  /* the kernel's run; the same in all its containers */
    char space[40]; /* in which pid counts */
    char machine[20];
    char by[8]; /* "flock" or "file" */
    char host[256];
    int fd; /* of our own lock, for names that no other thread takes */
} holder;

/* ---- who ----------------------------------------------------------------- */

/* The first line of a small file. False when it is empty (errno is 0 then) or
 * cannot be read. */
static bool read_line(const char *path, char *text, size_t size)
{
    size_t used = 0;
    ssize_t got = 0;
    int reason = 0;
    int fd = f8_open(path, O_RDONLY);

    text[0] = '\0';
    if (fd < 0)
        return false;
    while (used < size - 1 && (got = read(fd, text + used, size - 1 - used))) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            reason = errno;
            used = 0;
            break;
        }
        used += (size_t)got;
    }
    close(fd);
    text[used] = '\0';
    text[strcspn(text, "\n")] = '\0';
    errno = reason;
    return used > 0;
}

/* When a process began: the 22nd field of its stat, the 20th behind the name,
 * which may hold anything and stands in brackets. 0: unknown. */
static uint64_t start_of(long pid)
{
    char path[48], text[1024];

    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (!read_line(path, text, sizeof text))
        return 0;
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

/* Words of the lock's line: never empty, no blanks. */
static void settle(char *word)
{
    if (!*word)
        strcpy(word, "-");
    for (; *word; word++) {
        if ((unsigned char)*word <= ' ')
            *word = '_';
    }
}

static void describe_self(holder *self, int fd, const char *by)
{
    char id[64];

    memset(self, 0, sizeof *self);
    self->fd = fd;
    self->pid = (long)getpid();
    self->start = start_of(self->pid);
    read_line("/proc/sys/kernel/random/boot_id", self->boot, sizeof self->boot);
    ssize_t n =
        readlink("/proc/self/ns/pid", self->space, sizeof self->space - 1);
    self->space[n > 0 ? n : 0] = '\0';
    if (gethostname(self->host, sizeof self->host - 1) != 0)
        self->host[0] = '\0';
    /* The machine's own number is not to be handed about; and machines that
     * were cloned with it have at least different names. */
    if (read_line("/etc/machine-id", id, sizeof id)) {
        uint64_t hash = f8_hash(F8_HASH_START, id, strlen(id));
        hash = f8_hash(hash, self->host, strlen(self->host));
        snprintf(self->machine, sizeof self->machine, "%016" PRIx64, hash);
    }
    settle(self->boot);
    settle(self->space);
    settle(self->host);
    settle(self->machine);
    snprintf(self->by, sizeof self->by, "%s", by);
}

static int write_holder(const holder *who, char text[TEXT_BYTES])
{
    return snprintf(text, TEXT_BYTES,
                    "pid %ld start %" PRIu64
                    " boot %s space %s machine %s by %s host %s\n",
                    who->pid, who->start, who->boot, who->space, who->machine,
                    who->by, who->host);
}

/* False: it holds something else (errno is 0 then), or it cannot be read;
 * *who is empty. */
static bool read_holder(const char *path, holder *who)
{
    char text[TEXT_BYTES];
    int found = 0;

    memset(who, 0, sizeof *who);
    if (read_line(path, text, sizeof text))
        /* A number too large for its type names no process that there is.
         * NOLINTNEXTLINE(cert-err34-c) */
        found = sscanf(text,
                       "pid %ld start %" SCNu64
                       " boot %39s space %39s machine %19s by %7s host %255s",
                       &who->pid, &who->start, who->boot, who->space,
                       who->machine, who->by, who->host);
    if (found == 7 && who->pid > 0)
        return true;
    int reason = text[0] ? 0 : errno;
    memset(who, 0, sizeof *who);
    errno = reason;
    return false;
}

static bool is_known(const char *word)
{
    return strcmp(word, "-") != 0;
}

/* Whether its pid counts where ours does: the same kernel and container. */
static bool is_near(const holder *who, const holder *self)
{
    return is_known(self->boot) && !strcmp(who->boot, self->boot) &&
           is_known(self->space) && !strcmp(who->space, self->space);
}

/* Whether a holder certainly does not run any more. Of another machine's or
 * container's processes nothing is known. */
static bool is_gone(const holder *who, const holder *self)
{
    if (is_near(who, self)) {
        if (kill((pid_t)who->pid, 0) != 0 && errno == ESRCH)
            return true;
        /* The number may have been given to another process since. */
        uint64_t start = start_of(who->pid);
        return start != 0 && who->start != 0 && start != who->start;
    }
    /* The same machine, started anew. */
    return is_known(self->boot) && is_known(who->boot) &&
           strcmp(who->boot, self->boot) != 0 && is_known(self->machine) &&
           !strcmp(who->machine, self->machine);
}

static f8_status refuse(const char *dir, const char *file, const holder *who,
                        bool sure, f8_error *err)
{
    if (!who->pid && sure) /* it has not yet written who it is */
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: another fp8cast is writing here", dir);
    if (!who->pid)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: expected a process's name, found something else; "
                       "remove it if no fp8cast is writing here",
                       file);
    if (sure)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: another fp8cast is writing here: process %ld on "
                       "%s",
                       dir, who->pid, who->host);
    return f8_fail(err, F8_ERR_REFUSED,
                   "%s: another fp8cast is writing here: process %ld on %s; "
                   "if it no longer runs, remove %s",
                   dir, who->pid, who->host, file);
}

/* ---- the file as the lock ------------------------------------------------ */

/* What two runs may do at the same time is named by process and lock. */
static char *own_name(const char *work_dir, const holder *self,
                      const char *what)
{
    f8_buf name = {0};

    f8_buf_printf(&name, "%s/" F8_LOCK_NAME "-%ld-%" PRIu64 "-%d-%s.part",
                  work_dir, self->pid, self->start, self->fd, what);
    if (name.failed)
        f8_buf_free(&name);
    return name.data;
}

/* Link says whether it was this process that made the name. One that was
 * repeated on the way to a server may deny what it did: the count tells. */
static bool link_once(const char *from, const char *to)
{
    struct stat st;

    if (link(from, to) == 0)
        return true;
    int reason = errno;
    bool made = stat(from, &st) == 0 && st.st_nlink == 2;
    errno = reason;
    return made;
}

/* Removes a stale lock: takes it away under a name of our own first, so that
 * of two who want to, one finds that it has the other's new lock in its hands
 * and gives it back. */
static f8_status remove_stale(const char *file, const char *aside,
                              const holder *stale, f8_error *err)
{
    holder found;

    if (rename(file, aside) != 0) {
        if (errno == ENOENT)
            return F8_OK; /* another was faster */
        return f8_fail_errno(err, errno, "%s: cannot rename to %s", file,
                             aside);
    }
    if (!read_holder(aside, &found) || found.pid != stale->pid ||
        found.start != stale->start || strcmp(found.boot, stale->boot) != 0)
        link_once(aside, file);
    unlink(aside);
    return F8_OK;
}

static f8_status put_text(const char *path, const char *text, int n,
                          f8_error *err)
{
    int fd;
    f8_status status = f8_create_file(path, &fd, err);

    if (status != F8_OK)
        return status;
    status = f8_write_at(fd, text, (size_t)n, 0, path, err);
    if (status == F8_OK)
        return f8_sync_close(fd, path, err);
    close(fd);
    return status;
}

/* Makes `file` by linking `own` to it; or refuses. */
static f8_status link_lock(const char *dir, const char *file, const char *own,
                           const char *aside, const holder *self, f8_error *err)
{
    char text[TEXT_BYTES];
    holder other;
    int n = write_holder(self, text);

    for (int i = 0; i < TRIES; i++) {
        f8_status status = put_text(own, text, n, err);
        if (status != F8_OK || link_once(own, file))
            return status;
        if (errno == ENOENT)
            continue; /* the last holder cleared up */
        if (errno != EEXIST)
            return f8_fail_errno(err, errno, "%s: cannot make the lock", file);
        bool readable = read_holder(file, &other);
        if (!readable && errno == ENOENT)
            continue; /* given back meanwhile */
        if (!readable && errno != 0)
            return f8_fail_errno(err, errno, "%s: cannot read", file);
        if (!readable || !is_gone(&other, self))
            return refuse(dir, file, &other, is_near(&other, self), err);
        status = remove_stale(file, aside, &other, err);
        if (status != F8_OK)
            return status;
    }
    return f8_fail(err, F8_ERR_REFUSED, "%s: others keep taking the lock",
                   file);
}

static f8_status take_file(const char *dir, const char *work_dir,
                           const char *file, const holder *self, f8_error *err)
{
    char *own = own_name(work_dir, self, "new");
    char *aside = own_name(work_dir, self, "old");
    f8_status status = own && aside
                           ? link_lock(dir, file, own, aside, self, err)
                           : f8_fail_nomem(err, "the lock");

    if (own)
        unlink(own);
    free(aside);
    free(own);
    return status;
}

/* ---- the kernel's lock --------------------------------------------------- */

/* Under the kernel's lock: only a holder for whom that was refused, on another
 * machine, may be at work nevertheless. Then says who we are. */
static f8_status sign(const char *dir, const char *work_dir, const char *file,
                      const holder *self, f8_error *err)
{
    char text[TEXT_BYTES];
    holder other;
    f8_status status = F8_ERR_NOMEM;

    if (!read_holder(file, &other) && errno != 0 && errno != ENOENT)
        return f8_fail_errno(err, errno, "%s: cannot read", file);
    if (!strcmp(other.by, "file") && !is_gone(&other, self))
        return refuse(dir, file, &other, is_near(&other, self), err);
    char *own = own_name(work_dir, self, "new");
    if (own)
        status = f8_write_file(own, file, text,
                               (size_t)write_holder(self, text), err);
    else
        f8_fail_nomem(err, "the lock");
    free(own);
    return status;
}

/* Opens the folder and locks it. *fd is -1 when it was removed under us. */
static f8_status lock_folder(const char *work_dir, int *fd, bool *locked,
                             bool *busy, f8_error *err)
{
    struct stat ours, there;
    int result;

    *fd = f8_open(work_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (*fd < 0 && errno == ENOENT)
        return F8_OK;
    if (*fd < 0)
        return f8_fail_errno(err, errno, "%s: cannot open", work_dir);
    do
        result = flock(*fd, LOCK_EX | LOCK_NB);
    while (result != 0 && errno == EINTR);
    *locked = result == 0;
    *busy = result != 0 && errno == EWOULDBLOCK;
    if (fstat(*fd, &ours) == 0 && stat(work_dir, &there) == 0 &&
        ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
        return F8_OK;
    close(*fd);
    *fd = -1;
    return F8_OK;
}

static f8_status take(f8_lock *lock, const char *dir, const char *work_dir,
                      const char *file, f8_error *err)
{
    bool locked = false, busy = false;
    f8_status status = F8_OK;
    holder self, other;

    for (int i = 0; i < TRIES && lock->fd < 0; i++) {
        status = f8_make_dir(work_dir, err);
        if (status == F8_OK)
            status = lock_folder(work_dir, &lock->fd, &locked, &busy, err);
        if (status != F8_OK)
            return status;
    }
    if (lock->fd < 0)
        return f8_fail(err, F8_ERR_REFUSED, "%s: others keep removing it",
                       work_dir);
    describe_self(&self, lock->fd, locked ? "flock" : "file");
    if (busy) {
        /* A name that an earlier holder left is not the one to tell. */
        if (read_holder(file, &other) && is_gone(&other, &self))
            other.pid = 0;
        return refuse(dir, file, &other, true, err);
    }
    return locked ? sign(dir, work_dir, file, &self, err)
                  : take_file(dir, work_dir, file, &self, err);
}

f8_status f8_lock_take(f8_lock *lock, const char *dir, const char *work_dir,
                       f8_error *err)
{
    char *file = f8_path_join(work_dir, F8_LOCK_NAME);

    *lock = F8_LOCK_NONE;
    if (!file)
        return f8_fail_nomem(err, "the lock");
    f8_status status = take(lock, dir, work_dir, file, err);
    if (status == F8_OK) {
        lock->file = file;
        return F8_OK;
    }
    free(file);
    if (lock->fd >= 0)
        close(lock->fd);
    lock->fd = -1;
    return status;
}

void f8_lock_release(f8_lock *lock, const char *work_dir)
{
    if (lock->file) {
        unlink(lock->file);
        rmdir(work_dir); /* only when it is empty, and before others get it */
    }
    free(lock->file);
    if (lock->fd >= 0)
        close(lock->fd);
    *lock = F8_LOCK_NONE;
}
