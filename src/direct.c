/* direct.c - file data past the page cache. See direct.h. */
#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

void *f8_aligned_alloc(uint64_t n)
{
    uint64_t align = n < HUGE_PAGE_BYTES ? F8_ALIGN : HUGE_PAGE_BYTES;
    void *buffer = NULL;
    uint64_t room;

    if (!f8_add_u64(n, 2 * F8_ALIGN, &room) || room > SIZE_MAX ||
        posix_memalign(&buffer, (size_t)align, (size_t)room) != 0)
        return NULL;
    /* A transfer past the page cache pins every page of its buffer, and a
     * huge page costs no more than a small one. Only a wish: where it is not
     * granted nothing is lost. */
    if (align == HUGE_PAGE_BYTES)
        (void)madvise(buffer, (size_t)room, MADV_HUGEPAGE);
    return buffer;
}

/* What lies on these is in the page cache as long as it exists: to go past it
 * cannot save memory, and costs a question for each read. */
static bool is_memory(const struct statfs *fs)
{
    return fs->f_type == TMPFS_MAGIC || fs->f_type == RAMFS_MAGIC;
}

bool f8_path_in_memory(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && is_memory(&fs);
}

/* The path may lead to another file by now. */
static void drop_stranger(f8_file *file)
{
    struct stat known, found;

    if (file->direct_fd >= 0 && fstat(file->fd, &known) == 0 &&
        fstat(file->direct_fd, &found) == 0 && known.st_dev == found.st_dev &&
        known.st_ino == found.st_ino)
        return;
    if (file->direct_fd >= 0)
        close(file->direct_fd);
    file->direct_fd = -1;
}

void f8_file_open_direct(f8_file *file, const char *path, int flags)
{
    struct statfs fs;

    file->in_memory = fstatfs(file->fd, &fs) == 0 && is_memory(&fs);
    file->direct_fd = -1;
    if (file->in_memory)
        return;
    file->direct_fd = f8_open(path, flags | O_DIRECT | O_NOFOLLOW);
    if (file->direct_fd < 0 && errno == ELOOP) /* a link that was followed */
        file->direct_fd = f8_open(path, flags | O_DIRECT);
    drop_stranger(file);
    /* mincore calls everything resident for a file that is neither ours nor
     * writable: believing it would fill the cache with a shared model. */
    struct stat st;
    file->unasked = fstat(file->fd, &st) == 0 && geteuid() != 0 &&
                    st.st_uid != geteuid() &&
                    faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) != 0;
}

void f8_file_close(f8_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    if (file->direct_fd >= 0)
        close(file->direct_fd);
    file->fd = file->direct_fd = -1;
}

/* Whether of a range no more than so many pages are absent from the page cache;
 * true when the kernel does not tell.
 *
 * mincore asks without touching: preadv2 with RWF_NOWAIT, the other way to ask,
 * starts reading ahead and so fills the cache it asks about (seen on Linux
 * 6.18: 1.5 GB of a 2 GB file). */
static bool has_cached(int fd, uint64_t begin, size_t length, uint64_t most)
{
    enum { PIECE = 1024 };
    unsigned char resident[PIECE];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t absent = 0;

    void *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)begin);
    if (map == MAP_FAILED)
        return true;
    for (size_t at = 0; at < length && absent <= most; at += PIECE * page) {
        size_t piece = length - at < PIECE * page ? length - at : PIECE * page;
        size_t pages = (size_t)f8_ceil_div(piece, page);
        if (mincore((char *)map + at, piece, resident) != 0) {
            absent = 0;
            break;
        }
        for (size_t i = 0; i < pages; i++)
            absent += !(resident[i] & 1);
    }
    munmap(map, length);
    return absent <= most;
}

/* Where nobody tells, as if it were: then read as any program would. */
static bool is_cached(int fd, uint64_t offset, size_t n)
{
    uint64_t skip = offset % (uint64_t)sysconf(_SC_PAGESIZE);

    return has_cached(fd, offset - skip, (size_t)(skip + n), 0);
}

bool f8_file_is_mostly_cached(const f8_file *file, uint64_t offset, uint64_t n)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), skip = offset % page;

    if (file->unasked)
        return false;
    if (n == 0 || n > SIZE_MAX / 2)
        return true;
    return has_cached(file->fd, offset - skip, (size_t)(skip + n),
                      (f8_ceil_div(skip + n, page) - 1) / 2);
}

/* Of one call the kernel does as much as it would read ahead, which for most
 * disks is this much, and forgets the rest. */
#define FETCH_BYTES (UINT64_C(128) << 10)

void f8_file_read_ahead(const f8_file *file, uint64_t offset, uint64_t n)
{
    (void)posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM);
    for (uint64_t at = 0; at < n; at += FETCH_BYTES)
        (void)posix_fadvise(
            file->fd, (off_t)(offset + at),
            (off_t)(n - at < FETCH_BYTES ? n - at : FETCH_BYTES),
            POSIX_FADV_WILLNEED);
}

void f8_file_drop(const f8_file *file, uint64_t offset, uint64_t n)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t begin = offset / page * page;
    uint64_t end = f8_ceil_div(offset + n, page) * page;

    /* Pages that are only half of the range would be left. */
    if (n > 0) /* else it would mean all of the file */
        (void)posix_fadvise(file->fd, (off_t)begin, (off_t)(end - begin),
                            POSIX_FADV_DONTNEED);
}

/* Aligned reads until n bytes from `skip` on are there; the end of the file
 * may cut the last one short. False when O_DIRECT does not work here. */
static bool read_direct(int fd, unsigned char *to, size_t skip, size_t n,
                        uint64_t begin)
{
    size_t wanted = (skip + n + F8_ALIGN - 1) / F8_ALIGN * F8_ALIGN;
    size_t have = 0;

    while (have < skip + n) {
        ssize_t got =
            pread(fd, to + have, wanted - have, (off_t)(begin + have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        have += (size_t)got;
        if (have < skip + n && have % F8_ALIGN != 0)
            return false; /* shorter than it was: the caller finds out */
    }
    return true;
}

f8_status f8_file_read(const f8_file *file, void *buffer, size_t n,
                       uint64_t offset, const char *path, unsigned char **data,
                       f8_error *err)
{
    size_t skip = (size_t)(offset % F8_ALIGN);
    unsigned char *to = buffer;

    *data = to + skip;
    if (n > 0 && file->direct_fd >= 0 &&
        (file->unasked || !is_cached(file->fd, offset, n)) &&
        read_direct(file->direct_fd, to, skip, n, offset - skip))
        return F8_OK;
    return f8_read_at(file->fd, *data, n, offset, path, err);
}

f8_status f8_file_write_cached(const f8_file *file, const void *data, size_t n,
                               uint64_t offset, const char *path, f8_error *err)
{
    /* Beside writes past the cache there is little to wait for. */
    pthread_mutex_t *turn = file->direct_fd < 0 ? file->turn : NULL;

    if (turn)
        pthread_mutex_lock(turn);
    f8_status status = f8_write_at(file->fd, data, n, offset, path, err);
    if (turn)
        pthread_mutex_unlock(turn);
    return status;
}

/* Whole aligned pieces; how many bytes of them were written. What is left,
 * for whatever reason, goes through the cache, where an error is reported. */
static size_t write_direct(int fd, const unsigned char *from, size_t n,
                           uint64_t offset)
{
    size_t done = 0;

    while (done < n) {
        ssize_t put = pwrite(fd, from + done, n - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            break;
        done += (size_t)put;
        if (done % F8_ALIGN != 0)
            break;
    }
    return done;
}

f8_status f8_file_write(const f8_file *file, const void *data, size_t n,
                        uint64_t offset, const char *path, f8_error *err)
{
    const unsigned char *from = data;
    size_t lead = (size_t)((F8_ALIGN - offset % F8_ALIGN) % F8_ALIGN);
    f8_status status = F8_OK;

    if (file->direct_fd < 0 || n < lead + F8_ALIGN ||
        (uintptr_t)from % F8_ALIGN != offset % F8_ALIGN)
        return f8_file_write_cached(file, from, n, offset, path, err);
    size_t whole = (n - lead) / F8_ALIGN * F8_ALIGN;
    size_t done =
        write_direct(file->direct_fd, from + lead, whole, offset + lead);
    if (lead > 0)
        status = f8_file_write_cached(file, from, lead, offset, path, err);
    lead += done;
    if (status == F8_OK && lead < n)
        status = f8_file_write_cached(file, from + lead, n - lead,
                                      offset + lead, path, err);
    return status;
}
