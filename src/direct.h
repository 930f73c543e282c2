/* direct.h - file data past the page cache. A conversion reads and writes
 * more than a machine's memory: through the cache it would push out what the
 * user has there, and where the GPU shares the memory, take it from the GPU.
 *
 * O_DIRECT wants offsets, lengths and addresses in multiples of F8_ALIGN.
 * Buffers are therefore aligned and hold data at `offset % F8_ALIGN` from
 * their start, so that file and memory are aligned alike. Where a file system
 * refuses (some network ones), the same calls go through the cache; on one that
 * is nothing but cache (tmpfs) they always do. */
#ifndef F8_DIRECT_H
#define F8_DIRECT_H

#include <pthread.h>

#include "os.h"

#define F8_ALIGN ((size_t)4096)

/* Room for n bytes at any offset: the first and the last piece may begin and
 * end inside an aligned one. Free with free(); NULL when out of memory. */
void *f8_aligned_alloc(uint64_t n);

/* One open file. direct_fd is -1 when O_DIRECT is not to be had. */
typedef struct f8_file {
    int fd, direct_fd;
    bool unasked;   /* the kernel does not tell us what is in the cache */
    bool in_memory; /* its file system keeps it in the page cache alone */
    /* Of a file that many threads write; else NULL. Linux lets one write at a
     * time into a file's cache; who waits for that in the kernel spins, who
     * waits here leaves the CPU to others. */
    pthread_mutex_t *turn;
} f8_file;

#define F8_FILE_NONE ((f8_file){.fd = -1, .direct_fd = -1})

/* An open file's second descriptor, from its path; -1 is no error. Says
 * what else is to be known of where it lies. */
void f8_file_open_direct(f8_file *file, const char *path, int flags);
void f8_file_close(f8_file *file);

/* Whether files of this folder are kept in the page cache alone. */
bool f8_path_in_memory(const char *path);

/* Reads n bytes at offset into buffer, from f8_aligned_alloc(n), and says in
 * *data where they begin. What lies in the page cache is taken from there. */
f8_status f8_file_read(const f8_file *file, void *buffer, size_t n,
                       uint64_t offset, const char *path, unsigned char **data,
                       f8_error *err);

/* Whether most of a range is in the page cache, as far as the kernel tells;
 * true where it does not. */
bool f8_file_is_mostly_cached(const f8_file *file, uint64_t offset, uint64_t n);

/* Has a range brought into the page cache, and no more than that: what is read
 * there afterwards is not followed by anything nobody asked for. */
void f8_file_read_ahead(const f8_file *file, uint64_t offset, uint64_t n);

/* Lets go of what the page cache has of a range, once the disk has what was
 * written there. A wish; nothing is lost where it is not granted. */
void f8_file_drop(const f8_file *file, uint64_t offset, uint64_t n,
                  bool written);

/* Writes n bytes at offset. Past the cache as far as whole pieces go when
 * data lies at offset % F8_ALIGN, else through it. */
f8_status f8_file_write(const f8_file *file, const void *data, size_t n,
                        uint64_t offset, const char *path, f8_error *err);
/* The same, through the cache whatever lies where. */
f8_status f8_file_write_cached(const f8_file *file, const void *data, size_t n,
                               uint64_t offset, const char *path,
                               f8_error *err);

#endif
