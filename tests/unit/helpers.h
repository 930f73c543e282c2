/* helpers.h - what several unit tests need: a folder of their own, files in
 * it, errors held against their whole text, and small checkpoints written
 * tensor by tensor. Everything is static inline: a test takes what it uses. */
#ifndef F8_TEST_HELPERS_H
#define F8_TEST_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "quant.h"
#include "rules.h"
#include "safetensors.h"

#ifndef F8_TEST_DATA
#define F8_TEST_DATA "tests/golden"
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a folder for one test ----------------------------------------------- */

static inline int dir_setup(void **state)
{
    const char *root = getenv("TMPDIR");
    char path[512];

    snprintf(path, sizeof path, "%s/f8unit-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(path))
        return -1;
    *state = strdup(path);
    return *state ? 0 : -1;
}

/* Texts that path_in made; they live until the end of the test. */
typedef struct made_path {
    struct made_path *next;
    char text[];
} made_path;

static inline made_path **made_paths(void)
{
    static made_path *first;
    return &first;
}

static inline int dir_remove_one(const char *path, const struct stat *st,
                                 int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline int dir_teardown(void **state)
{
    made_path **paths = made_paths();

    nftw(*state, dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    while (*paths) {
        made_path *next = (*paths)->next;
        free(*paths);
        *paths = next;
    }
    return 0;
}

#define TEST_IN_DIR(f) \
    cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

/* "dir/name"; only in tests with a folder of their own. */
static inline const char *path_in(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    made_path **paths = made_paths();
    made_path *path = malloc(sizeof *path + n);

    assert_non_null(path);
    snprintf(path->text, n, "%s/%s", dir, name);
    path->next = *paths;
    *paths = path;
    return path->text;
}

/* ---- files --------------------------------------------------------------- */

static inline void put_file(const char *path, const void *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");

    if (!file)
        fail_msg("cannot create %s", path);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void put_text(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

/* A file of n zero bytes that takes no space. */
static inline void put_hole(const char *path, uint64_t n)
{
    put_file(path, "", 0);
    assert_int_equal(truncate(path, (off_t)n), 0);
}

/* The whole file with a NUL behind it, for the caller to free. */
static inline char *get_file(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");

    if (!file)
        fail_msg("cannot open %s", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size >= 0);
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    char *bytes = calloc((size_t)size + 1, 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)size, file), size);
    assert_int_equal(fclose(file), 0);
    if (n)
        *n = (size_t)size;
    return bytes;
}

static inline bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static inline void make_dir(const char *path)
{
    assert_int_equal(mkdir(path, 0777), 0);
}

static inline void set_mtime(const char *path, time_t seconds, long ns)
{
    struct timespec times[2] = {{seconds, ns}, {seconds, ns}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* ---- errors -------------------------------------------------------------- */

/* The call failed as it should and said so in exactly these words. */
static inline void expect_error(f8_status status, const f8_error *err,
                                f8_status expected, const char *message)
{
    if (status == F8_OK)
        fail_msg("succeeded, expected: %s", message);
    assert_string_equal(err->message, message);
    assert_int_equal(status, expected);
    assert_int_equal(err->status, expected);
}

static inline void expect_ok(f8_status status, const f8_error *err)
{
    if (status != F8_OK)
        fail_msg("unexpected failure: %s", err->message);
}

/* ---- safetensors files --------------------------------------------------- */

/* Length, header as it is given, and `data_bytes` zeros. */
static inline void put_raw_shard(const char *path, const char *header, size_t n,
                                 size_t data_bytes)
{
    size_t total = 8 + n + data_bytes;
    unsigned char *bytes = calloc(total, 1);

    assert_non_null(bytes);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)n >> 8 * i & 0xff);
    memcpy(bytes + 8, header, n);
    put_file(path, bytes, total);
    free(bytes);
}

static inline void put_shard_text(const char *path, const char *header,
                                  size_t data_bytes)
{
    put_raw_shard(path, header, strlen(header), data_bytes);
}

/* A tensor of a checkpoint that a test makes up. */
typedef struct made_tensor {
    const char *name;
    f8_dtype dtype;
    unsigned rank;
    uint64_t shape[F8_MAX_RANK];
} made_tensor;

static inline uint64_t made_bytes(const made_tensor *t)
{
    uint64_t bytes = f8_dtype_bytes(t->dtype);

    for (unsigned i = 0; i < t->rank; i++)
        bytes *= t->shape[i];
    return bytes;
}

/* The tensors one after the other, all zeros, as a sparse file. */
static inline void put_shard(const char *path, const made_tensor *tensors,
                             size_t count)
{
    f8_buf header = {0};
    uint64_t at = 0;

    f8_st_header_begin(&header);
    for (size_t i = 0; i < count; i++) {
        const made_tensor *t = &tensors[i];
        f8_st_header_add(&header, t->name, t->dtype, t->rank, t->shape, at,
                         at + made_bytes(t));
        at += made_bytes(t);
    }
    f8_st_header_finish(&header);
    assert_false(header.failed);
    put_file(path, header.data, header.length);
    assert_int_equal(truncate(path, (off_t)(header.length + at)), 0);
    f8_buf_free(&header);
}

/* ---- sources and plans --------------------------------------------------- */

#define TEST_CONFIG "{\"model_type\": \"test\"}"
#define FP8_CONFIG                                         \
    "{\"model_type\": \"test\", \"quantization_config\": " \
    "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}}"

/* The source "src" in the folder, of one shard with the tensors one after the
 * other, and beside it "my.rules". Gives its path. */
static inline const char *put_source(const char *dir, const char *rules,
                                     const char *config,
                                     const made_tensor *tensors, size_t count)
{
    const char *src = path_in(dir, "src");

    if (!exists(src))
        make_dir(src);
    put_text(path_in(dir, "my.rules"), rules);
    put_text(path_in(src, "config.json"), config);
    put_shard(path_in(src, "model.safetensors"), tensors, count);
    return src;
}

/* Options of a plan by these rules. */
static inline f8_options source_options(const char *dir)
{
    return (f8_options){.size = sizeof(f8_options),
                        .threads = 2,
                        .rules = path_in(dir, "my.rules")};
}

/* The same for the way back. */
static inline f8_options back_options(const char *dir, bool fuse)
{
    f8_options options = source_options(dir);

    options.direction = F8_FROM_FP8;
    options.fuse = fuse;
    return options;
}

static inline f8_plan *plan_with(const char *src, const f8_options *options)
{
    f8_plan *plan = NULL;
    f8_error err = {0};

    expect_ok(f8_plan_create(src, options, &plan, &err), &err);
    assert_non_null(plan);
    return plan;
}

static inline void expect_no_plan(const char *src, const f8_options *options,
                                  f8_status status, const char *message)
{
    f8_plan *plan = NULL;
    f8_error err = {0};

    expect_error(f8_plan_create(src, options, &plan, &err), &err, status,
                 message);
    assert_null(plan);
}

/* ---- rules --------------------------------------------------------------- */

typedef struct bad_rules {
    const char *text, *message;
} bad_rules;

/* Every text is refused with its message. */
static inline void expect_bad_rules(const bad_rules *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        f8_rules *rules = NULL;
        f8_error err = {0};
        f8_status status =
            f8_rules_parse("my.rules", cases[i].text, &rules, &err);
        expect_error(status, &err, F8_ERR_RULES, cases[i].message);
        assert_null(rules);
    }
}

/* ---- panels -------------------------------------------------------------- */

/* f8_panel_quantise and f8_panel_check with sums, to which the error is added.
 */
static inline bool panel_quantise(const f8_kernel *kernel,
                                  const f8_panel *panel, f8_sums *sums,
                                  uint64_t *hist, f8_spot *spot)
{
    f8_finds finds;
    f8_panel own = *panel;
    f8_sums found;

    memset(&finds, 0, sizeof finds);
    own.finds = &finds;
    bool good = f8_panel_quantise(kernel, &own, hist, spot);
    f8_finds_sums(&finds, &found);
    f8_sums_add(sums, &found);
    return good;
}

static inline void panel_check(const f8_kernel *kernel, const f8_panel *panel,
                               uint8_t *scratch, f8_check *check, f8_sums *sums,
                               uint64_t *hist)
{
    f8_finds finds;
    f8_panel own = *panel;
    f8_sums found;

    memset(&finds, 0, sizeof finds);
    own.finds = &finds;
    f8_panel_check(kernel, &own, scratch, check, hist);
    f8_finds_sums(&finds, &found);
    f8_sums_add(sums, &found);
}

#endif
