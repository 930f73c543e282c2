/* os.h - the operating system as the other rooms see it: checked sizes,
 * growing buffers, files read and written at an offset, durable renames.
 * Everyone may include it; it includes only error.h. */
#ifndef F8_OS_H
#define F8_OS_H

#include <pthread.h>
#include <sys/types.h>

#include "error.h"

/* Of a tensor's name: five times what the longest of the known ones has. */
#define F8_NAME_MAX_BYTES ((size_t)512)

/* Checked arithmetic on sizes that come from files: false on overflow. */
static inline bool f8_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline bool f8_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline uint64_t f8_ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* calloc(count, size) with a checked product; NULL when it does not fit. */
void *f8_alloc(uint64_t count, uint64_t size);

/* Makes room for one more element of an array that doubles as it grows.
 * *items, *capacity are updated; false when memory ran out. */
bool f8_grow(void **items, size_t *capacity, size_t used, size_t elem_bytes);

/* A growing byte buffer. Zero-initialise; the first failed append sets
 * `failed` and later ones do nothing, so one check at the end is enough.
 * data is always NUL-terminated when not NULL. */
typedef struct f8_buf {
    char *data;
    size_t length, capacity;
    bool failed;
} f8_buf;
void f8_buf_append(f8_buf *buf, const void *bytes, size_t n);
void f8_buf_puts(f8_buf *buf, const char *text);
void f8_buf_printf(f8_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends text as a JSON string with its quotes. */
void f8_buf_json_string(f8_buf *buf, const char *text);
/* How many bytes that would be. */
uint64_t f8_json_string_bytes(const char *text);
void f8_buf_free(f8_buf *buf);

/* Strings that live as long as their owner, packed into large pieces. */
typedef struct f8_arena {
    struct f8_arena_piece *pieces;
    size_t bytes; /* taken from the system, for the memory forecast */
} f8_arena;
/* Copies n bytes and adds a NUL; NULL when memory ran out. */
char *f8_arena_copy(f8_arena *arena, const char *text, size_t n);
char *f8_arena_printf(f8_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void f8_arena_free(f8_arena *arena);

/* "dir/name" into a fresh string the caller frees; NULL when out of memory. */
char *f8_path_join(const char *dir, const char *name);

/* open(2) with O_CLOEXEC, again when a signal came; -1 and errno. */
int f8_open(const char *path, int flags);
/* The same for reading what may turn out to be a fifo: never waits for one. */
int f8_open_no_fifo(const char *path);
/* Opens a regular file for reading; never blocks on a fifo, refuses anything
 * that is not a regular file. *bytes is its size, *mtime_ns its modification
 * time (either may be NULL). *fd is -1 on failure. */
f8_status f8_open_read(const char *path, int *fd, uint64_t *bytes,
                       int64_t *mtime_ns, f8_error *err);

/* The part of it that comes after opening: *fd is closed, and -1, when it is
 * no regular file. */
f8_status f8_look_at(int *fd, const char *path, uint64_t *bytes,
                     int64_t *mtime_ns, f8_error *err);

/* Reads exactly n bytes at offset; a file that ends early is F8_ERR_IO. */
f8_status f8_read_at(int fd, void *buffer, size_t n, uint64_t offset,
                     const char *path, f8_error *err);
/* Who waits while something long is done: asked again and again, with how many
 * bytes of it are done, whether it is to go on. */
typedef struct f8_watch {
    bool (*keep_going)(void *ctx, uint64_t bytes);
    void *ctx;
} f8_watch;
/* Whether the first n bytes of two files are the same; both have so many.
 * F8_ERR_CANCELLED when `watch`, which may be NULL, says so. */
f8_status f8_compare_files(const int fds[2], const char *const paths[2],
                           uint64_t n, const f8_watch *watch, bool *same,
                           f8_error *err);
f8_status f8_write_at(int fd, const void *buffer, size_t n, uint64_t offset,
                      const char *path, f8_error *err);

/* Whole small file into buf; more than max_bytes is refused. */
f8_status f8_read_file(const char *path, uint64_t max_bytes, f8_buf *buf,
                       f8_error *err);

/* The same for an open file of so many bytes, which stays open. */
f8_status f8_read_all(int fd, uint64_t bytes, uint64_t max_bytes,
                      const char *path, f8_buf *buf, f8_error *err);

/* mkdir that is content with an existing directory; a new one is durable. */
f8_status f8_make_dir(const char *path, f8_error *err);
/* Fails as that would by what is there and by the rights that the process has,
 * and makes nothing. */
f8_status f8_check_make_dir(const char *path, f8_error *err);
/* The same of files in a directory that is there. */
f8_status f8_check_make_files(const char *dir, f8_error *err);
/* mkdir for every missing parent of the file `path`, below `root`. */
f8_status f8_make_parents(const char *root, const char *path, f8_error *err);
/* Creates (or truncates) a file for writing; *fd is -1 on failure. */
f8_status f8_create_file(const char *path, int *fd, f8_error *err);
/* Takes space for so many bytes of a file, so that a full disk shows before
 * hours of work; a file system that cannot is no error. */
f8_status f8_reserve(int fd, uint64_t bytes, const char *path, f8_error *err);
/* fsync and close; fd is closed whatever happens. */
f8_status f8_sync(int fd, const char *path, f8_error *err);
f8_status f8_close(int fd, const char *path, f8_error *err);
f8_status f8_sync_close(int fd, const char *path, f8_error *err);
/* fsync of a directory, so that a rename in it is durable. */
f8_status f8_sync_dir(const char *path, f8_error *err);
/* rename, then fsync of the directory that holds `to`. */
f8_status f8_publish(const char *from, const char *to, f8_error *err);
/* Writes bytes to `temporary`, syncs it and publishes it as `path`. */
f8_status f8_write_file(const char *temporary, const char *path,
                        const void *bytes, size_t n, f8_error *err);

/* Bytes an unprivileged writer can still put on path's file system; path, or
 * its nearest existing parent, must exist. */
f8_status f8_free_space(const char *path, uint64_t *bytes, f8_error *err);

/* CPUs that this process may run on; at least 1. */
unsigned f8_cpu_count(void);
/* Seconds of a clock that never goes back. */
double f8_now(void);

/* 64-bit FNV-1a over n bytes, continuing from `hash`; start with
 * F8_HASH_START. Tells accidental differences, not malicious ones. */
#define F8_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t f8_hash(uint64_t hash, const void *bytes, size_t n);

#endif
