/* test_direct.c - files and the page cache: what is told of it, brought into
 * it and let go. Skipped where the file system keeps what it is asked to let
 * go; what it holds is asked of mincore here, by other calls than those under
 * test. */
#include "helpers.h"

#include <sys/mman.h>
#include <sys/vfs.h>

#include "direct.h"

enum { BYTES = 3 << 20 };

static void make_file(const char *path, f8_file *file, int flags)
{
    unsigned char *bytes = malloc(BYTES);

    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i % 251);
    put_file(path, bytes, BYTES);
    free(bytes);
    *file = F8_FILE_NONE;
    file->fd = open(path, flags);
    assert_true(file->fd >= 0);
    assert_int_equal(fsync(file->fd), 0);
    f8_file_open_direct(file, path, flags);
}

/* Pages of all of a file that the cache holds. */
static size_t cached_pages(const f8_file *file)
{
    unsigned char resident[BYTES / 4096];
    size_t pages = BYTES / (size_t)sysconf(_SC_PAGESIZE), found = 0;

    void *map = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, file->fd, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mincore(map, BYTES, resident), 0);
    munmap(map, BYTES);
    for (size_t i = 0; i < pages; i++)
        found += resident[i] & 1;
    return found;
}

static void skip_unless_it_lets_go(const f8_file *file)
{
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (cached_pages(file) > 0)
        skip();
}

static void test_drop_and_fetch(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    f8_file file;

    make_file(path_in(*state, "f"), &file, O_RDONLY);
    skip_unless_it_lets_go(&file);
    assert_false(f8_file_is_mostly_cached(&file, 0, BYTES));
    f8_file_read_ahead(&file, 0, 0);
    assert_int_equal(cached_pages(&file), 0);
    /* Half of it and a page, up to the middle of a page. */
    f8_file_read_ahead(&file, 0, BYTES / 2 + page / 2);
    for (int i = 0; i < 1000 && cached_pages(&file) < BYTES / 2 / page; i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    assert_in_range(cached_pages(&file), BYTES / 2 / page,
                    BYTES / 2 / page + 1);
    assert_true(f8_file_is_mostly_cached(&file, 0, BYTES / 2));
    assert_false(
        f8_file_is_mostly_cached(&file, BYTES / 4 + 4 * page, BYTES / 2));
    assert_true(f8_file_is_mostly_cached(&file, page / 2, 1));
    /* What is read there brings nothing along. */
    char byte;
    assert_int_equal(pread(file.fd, &byte, 1, BYTES - 1), 1);
    assert_in_range(cached_pages(&file), BYTES / 2 / page,
                    BYTES / 2 / page + 2);
    /* Of a range that ends inside of pages they go too. */
    f8_file_drop(&file, page / 2, BYTES - page);
    assert_int_equal(cached_pages(&file), 0);
    f8_file_close(&file);
}

/* Pages that have not been written yet stay; what the disk has goes. */
static void test_drop_written(void **state)
{
    f8_file file;
    f8_error err = {0};
    const char *path = path_in(*state, "f");

    make_file(path, &file, O_RDWR);
    skip_unless_it_lets_go(&file);
    expect_ok(f8_file_write_cached(&file, "abc", 3, 5000, path, &err), &err);
    assert_true(cached_pages(&file) > 0);
    expect_ok(f8_sync(file.fd, path, &err), &err);
    f8_file_drop(&file, 5000, 0);
    assert_true(cached_pages(&file) > 0);
    f8_file_drop(&file, 5000, 3);
    assert_int_equal(cached_pages(&file), 0);
    size_t n;
    char *bytes = get_file(path, &n);
    assert_int_equal(n, BYTES);
    assert_memory_equal(bytes + 5000, "abc", 3);
    assert_int_equal((unsigned char)bytes[4999], 4999 % 251);
    free(bytes);
    f8_file_close(&file);
}

/* In memory there is nothing but the cache. */
static void test_in_memory(void **state)
{
    char path[] = "/dev/shm/f8unit-XXXXXX", line[512];
    bool is_tmpfs = false;
    f8_file file;

    (void)state;
    FILE *mounts = fopen("/proc/mounts", "r");
    while (mounts && fgets(line, sizeof line, mounts))
        is_tmpfs = is_tmpfs || strstr(line, " /dev/shm tmpfs ");
    if (mounts)
        fclose(mounts);
    int fd = is_tmpfs ? mkstemp(path) : -1;
    if (fd < 0)
        skip();
    close(fd);
    assert_true(f8_path_in_memory("/dev/shm"));
    assert_false(f8_path_in_memory("/proc"));
    assert_false(f8_path_in_memory("/no/such/folder"));
    make_file(path, &file, O_RDWR);
    unlink(path);
    assert_true(file.in_memory);
    assert_int_equal(file.direct_fd, -1);
    f8_file_close(&file);
}

static void test_on_a_disk_or_not(void **state)
{
    f8_file file;
    struct statfs fs;

    assert_int_equal(statfs(*state, &fs), 0);
    /* Of tmpfs and ramfs, as statfs(2) has them. */
    bool in_memory = fs.f_type == 0x01021994 || fs.f_type == 0x858458f6;
    make_file(path_in(*state, "f"), &file, O_RDWR);
    assert_int_equal(file.in_memory, in_memory);
    assert_int_equal(f8_path_in_memory(*state), in_memory);
    f8_file_close(&file);
    assert_int_equal(file.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_drop_and_fetch),
        TEST_IN_DIR(test_drop_written),
        TEST_IN_DIR(test_on_a_disk_or_not),
        cmocka_unit_test(test_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
