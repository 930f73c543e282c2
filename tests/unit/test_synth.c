/* test_synth.c - layouts against the published tensor table, the language's
 * errors, and the checkpoints that synth writes.
 *
 * Values are recomputed here from the formulas of docs/layouts.md with a
 * generator of our own, which is itself held against published numbers; the
 * roundings are checked by their definition and not by a second routine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout.h"
#include "safetensors.h"

#ifndef F8_TEST_DATA
#define F8_TEST_DATA "tests/golden"
#endif

#define FULL "qwen3.6-35b-a3b"
#define MINI "qwen3.6-35b-a3b-mini"

/* ---- a folder for each test --------------------------------------------- */

static char root[4096];

static void fill(const f8_layout_tensor *t, uint64_t seed, uint64_t first,
                 size_t elems, void *out)
{
    f8_values_fill(&t->values, t->name, t->dtype, seed, first, elems, out);
}

static int make_root(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/f8-synth-XXXXXX",
             base != NULL && *base != '\0' ? base : "/tmp");
    return mkdtemp(root) == NULL;
}

/* Removes a folder of plain files; false when it was not there. */
static bool remove_dir(const char *path)
{
    DIR *listing = opendir(path);
    if (listing == NULL)
        return false;
    const struct dirent *entry;
    while ((entry = readdir(listing)) != NULL)
        unlinkat(dirfd(listing), entry->d_name, 0);
    closedir(listing);
    return rmdir(path) == 0;
}

static int remove_root(void **state)
{
    (void)state;
    const char *names[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        char *path = f8_path_join(root, names[i]);
        remove_dir(path);
        free(path);
    }
    return rmdir(root);
}

/* Path of a name in the test's folder; the same buffers in turn. */
static const char *in_root(const char *name)
{
    static char paths[4][4200];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void synth(const char *dir, const f8_synth_options *options)
{
    f8_error err = {0};
    if (f8_synth(in_root(dir), options, &err) != F8_OK)
        fail_msg("f8_synth: %s", err.message);
}

static size_t count_entries(const char *dir)
{
    size_t count = 0;
    DIR *listing = opendir(in_root(dir));
    assert_non_null(listing);
    while (readdir(listing) != NULL)
        count++;
    closedir(listing);
    return count - 2; /* without . and .. */
}

static bool exists(const char *name)
{
    struct stat st;
    return lstat(in_root(name), &st) == 0;
}

static f8_buf read_all(const char *name)
{
    f8_buf buf = {0};
    f8_error err = {0};
    if (f8_read_file(in_root(name), UINT64_C(1) << 28, &buf, &err) != F8_OK)
        fail_msg("%s", err.message);
    return buf;
}

static json_t *read_json(const char *name)
{
    f8_buf text = read_all(name);
    json_error_t where;
    json_t *value =
        json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, &where);
    if (value == NULL)
        fail_msg("%s:%d: %s", name, where.line, where.text);
    f8_buf_free(&text);
    return value;
}

/* ---- lists of tensors -----------------------------------------------------
 */

typedef struct listing {
    f8_arena strings;
    char **items; /* "name\tdtype\td0,d1" */
    size_t count, capacity;
    uint64_t bytes; /* of the data, where the source says so */
} listing;

static void listing_add(listing *l, const char *text, size_t n)
{
    assert_true(
        f8_grow((void **)&l->items, &l->capacity, l->count, sizeof *l->items));
    l->items[l->count] = f8_arena_copy(&l->strings, text, n);
    assert_non_null(l->items[l->count++]);
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void listing_sort(listing *l)
{
    qsort(l->items, l->count, sizeof *l->items, compare_strings);
}

static void listing_free(listing *l)
{
    free(l->items);
    f8_arena_free(&l->strings);
    *l = (listing){0};
}

static listing read_table(void)
{
    listing l = {0};
    char line[1024];
    FILE *file = fopen(F8_TEST_DATA "/qwen3.6-35b-a3b.bf16.tsv", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        listing_add(&l, line, strcspn(line, "\n"));
    fclose(file);
    return l;
}

static void add_header(listing *l, const char *name)
{
    f8_arena names = {0};
    f8_tensor_list list = {0};
    f8_error err = {0};
    int fd = -1;
    uint64_t size = 0;
    f8_status status = f8_open_read(in_root(name), &fd, &size, NULL, &err);
    if (status == F8_OK)
        status =
            f8_st_read_header(fd, size, name, 0, &names, &list, NULL, &err);
    if (status != F8_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < list.count; i++) {
        f8_buf text = {0};
        const f8_tensor *t = &list.items[i];
        f8_buf_printf(&text, "%s\t%s\t", t->name, f8_dtype_name(t->dtype));
        for (unsigned d = 0; d < t->rank; d++)
            f8_buf_printf(&text, "%s%llu", d > 0 ? "," : "",
                          (unsigned long long)t->shape[d]);
        listing_add(l, text.data, text.length);
        l->bytes += t->bytes;
        f8_buf_free(&text);
    }
    close(fd);
    free(list.items);
    f8_arena_free(&names);
}

/* The tensors of all shards of a folder, in no particular order. */
static listing read_headers(const char *dir)
{
    listing l = {0};
    DIR *folder = opendir(in_root(dir));
    assert_non_null(folder);
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char name[512];
        size_t n = strlen(entry->d_name);
        if (n < 12 || strcmp(entry->d_name + n - 12, ".safetensors") != 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", dir, entry->d_name);
        add_header(&l, name);
    }
    closedir(folder);
    listing_sort(&l);
    return l;
}

static bool listing_has(const listing *l, const char *text)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i], text) == 0)
            return true;
    return false;
}

/* ---- the built-in layouts -------------------------------------------------
 */

static void test_full_is_the_published_model(void **state)
{
    (void)state;
    f8_synth_options options = {
        .size = sizeof options, .layout = FULL, .sparse = true};
    synth("a", &options);
    listing expected = read_table();
    listing found = read_headers("a");
    listing_sort(&expected);
    assert_int_equal(expected.count, 1045);
    assert_int_equal(found.count, expected.count);
    for (size_t i = 0; i < expected.count; i++)
        assert_string_equal(found.items[i], expected.items[i]);
    assert_true(found.bytes == UINT64_C(71903645408));
    listing_free(&expected);
    listing_free(&found);
}

/* Name and dtype with every run of digits as '#', without the shape. */
static listing kinds_of(const listing *l)
{
    listing kinds = {0};
    for (size_t i = 0; i < l->count; i++) {
        char kind[512];
        size_t n = 0;
        for (const char *c = l->items[i]; *c != '\0' && n < 500; c++) {
            bool digit = *c >= '0' && *c <= '9';
            if (digit && n > 0 && kind[n - 1] == '#')
                continue;
            kind[n++] = digit ? '#' : *c;
        }
        while (n > 0 && kind[n - 1] != '\t')
            n--;
        kind[n] = '\0';
        if (!listing_has(&kinds, kind))
            listing_add(&kinds, kind, n);
    }
    listing_sort(&kinds);
    return kinds;
}

/* Matrices that get FP8 have dimensions that are multiples of 128, as the
 * real ones have: loaders are picky about anything else. */
static void check_matrix_dimensions(const char *item)
{
    unsigned long long rows = 0, columns = 0;
    if (strstr(item, "visual") != NULL || strstr(item, "_proj") == NULL ||
        strstr(item, "in_proj_a") != NULL || strstr(item, "in_proj_b") != NULL)
        return;
    const char *last = strrchr(item, ',');
    assert_non_null(last);
    const char *before = last - 1;
    while (*before != ',' && *before != '\t')
        before--;
    assert_int_equal(sscanf(before + 1, "%llu,%llu", &rows, &columns), 2);
    assert_true(rows > 0 && rows % 128 == 0);
    assert_true(columns > 0 && columns % 128 == 0);
}

static void test_mini_has_every_kind(void **state)
{
    (void)state;
    f8_synth_options options = {.size = sizeof options, .sparse = true};
    synth("a", &options);
    listing table = read_table();
    listing mini = read_headers("a");
    listing expected = kinds_of(&table), found = kinds_of(&mini);
    assert_int_equal(found.count, expected.count);
    for (size_t i = 0; i < expected.count; i++)
        assert_string_equal(found.items[i], expected.items[i]);
    assert_in_range(mini.bytes, 2000000, 50000000);
    for (size_t i = 0; i < mini.count; i++)
        check_matrix_dimensions(mini.items[i]);
    listing_free(&table);
    listing_free(&mini);
    listing_free(&expected);
    listing_free(&found);
}

static void test_overrides_reach_everything(void **state)
{
    (void)state;
    f8_synth_options options = {.size = sizeof options,
                                .layers = 6, /* not a multiple of 4 */
                                .experts = 3,
                                .hidden = 384,
                                .inter = 256,
                                .vocab = 640,
                                .sparse = true};
    synth("a", &options);
    listing l = read_headers("a");
    const char *expected[] = {
        "lm_head.weight\tBF16\t640,384",
        "model.language_model.embed_tokens.weight\tBF16\t640,384",
        "model.language_model.layers.3.self_attn.o_proj.weight\tBF16\t384,512",
        "model.language_model.layers.4.linear_attn.in_proj_qkv.weight\tBF16\t"
        "1024,384",
        "model.language_model.layers.5.linear_attn.A_log\tBF16\t4",
        "model.language_model.layers.5.mlp.experts.gate_up_proj\tBF16\t"
        "3,512,384",
        "model.language_model.layers.5.mlp.experts.down_proj\tBF16\t3,384,256",
        "model.visual.merger.linear_fc2.weight\tBF16\t384,512",
        "model.visual.merger.linear_fc2.bias\tBF16\t384",
        "mtp.fc.weight\tBF16\t384,768",
        "mtp.layers.0.mlp.experts.down_proj\tBF16\t3,384,256",
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!listing_has(&l, expected[i]))
            fail_msg("missing: %s", expected[i]);
    for (size_t i = 0; i < l.count; i++) {
        assert_null(strstr(l.items[i], "layers.6."));
        if (strstr(l.items[i], "language_model") != NULL &&
            strstr(l.items[i], "self_attn") != NULL)
            assert_non_null(strstr(l.items[i], "layers.3."));
    }
    listing_free(&l);
}

/* ---- files ----------------------------------------------------------------
 */

static json_int_t integer(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        fail_msg("%s is no integer", key);
    return json_integer_value(value);
}

static void check_config(const char *dir, const char *types[], size_t count)
{
    char name[64];
    snprintf(name, sizeof name, "%s/config.json", dir);
    json_t *config = read_json(name);
    const json_t *text = json_object_get(config, "text_config");
    const json_t *vision = json_object_get(config, "vision_config");
    const json_t *layers = json_object_get(text, "layer_types");
    json_int_t vocab = integer(text, "vocab_size");
    assert_string_equal(
        json_string_value(json_object_get(config, "model_type")),
        "qwen3_5_moe");
    assert_string_equal(json_string_value(json_object_get(text, "model_type")),
                        "qwen3_5_moe_text");
    assert_int_equal(json_array_size(layers), count);
    assert_int_equal(integer(text, "num_hidden_layers"), count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(json_string_value(json_array_get(layers, i)),
                            types[i]);
    assert_int_equal(integer(text, "hidden_size"),
                     integer(vision, "out_hidden_size"));
    assert_true(integer(text, "num_experts_per_tok") <=
                integer(text, "num_experts"));
    assert_in_range(integer(config, "image_token_id"), 256, vocab - 1);
    assert_in_range(integer(config, "video_token_id"), 256, vocab - 1);
    assert_in_range(integer(text, "eos_token_id"), 256, vocab - 1);
    json_decref(config);
}

static void test_side_files(void **state)
{
    (void)state;
    const char *l = "linear_attention", *f = "full_attention";
    const char *types[] = {l, l, l, f, l, l};
    const char *texts[] = {"generation_config.json", "preprocessor_config.json",
                           "tokenizer_config.json", "tokenizer.json"};
    f8_synth_options options = {
        .size = sizeof options, .layers = 6, .sparse = true};
    synth("a", &options);
    check_config("a", types, 6);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "a/%s", texts[i]);
        json_decref(read_json(name));
    }
    assert_true(exists("a/LICENSE"));
    assert_true(exists("a/chat_template.jinja"));
    assert_false(exists("a/model.safetensors.index.json"));

    /* Token ids as the real model has them. */
    options = (f8_synth_options){.size = sizeof options,
                                 .layout = FULL,
                                 .layers = 2,
                                 .experts = 4,
                                 .sparse = true};
    synth("b", &options);
    check_config("b", types, 2);
    json_t *config = read_json("b/config.json");
    assert_int_equal(integer(config, "image_token_id"), 248056);
    assert_int_equal(integer(config, "video_token_id"), 248057);
    assert_int_equal(integer(config, "vision_start_token_id"), 248053);
    json_decref(config);
}

/* The tokenizer's 256 characters are all different and none is a blank. */
static void test_tokenizer(void **state)
{
    (void)state;
    f8_synth_options options = {.size = sizeof options, .sparse = true};
    synth("a", &options);
    json_t *tokenizer = read_json("a/tokenizer.json");
    json_t *vocab =
        json_object_get(json_object_get(tokenizer, "model"), "vocab");
    assert_int_equal(json_object_size(vocab), 256 + 8);
    assert_int_equal(integer(vocab, "!"), 0);
    assert_int_equal(integer(vocab, "~"), 93);
    assert_int_equal(integer(vocab, "\xc3\xbf"), 187);      /* U+00FF */
    assert_int_equal(integer(vocab, "\xc4\xa0"), 188 + 32); /* the blank */
    assert_int_equal(integer(vocab, "\xc5\x83"), 255);      /* U+0143 */
    assert_int_equal(integer(vocab, "<|im_end|>"), 1024 - 32 + 2);
    json_decref(tokenizer);
}

/* ---- shards ---------------------------------------------------------------
 */

static void test_shard_count(void **state)
{
    (void)state;
    char name[64];
    f8_synth_options options = {
        .size = sizeof options, .shards = 3, .sparse = true};
    synth("a", &options);
    listing l = read_headers("a");
    uint64_t total = l.bytes;
    json_t *index = read_json("a/model.safetensors.index.json");
    json_t *map = json_object_get(index, "weight_map");
    json_t *metadata = json_object_get(index, "metadata");
    assert_int_equal(json_object_size(metadata), 1);
    assert_true((uint64_t)integer(metadata, "total_size") == total);
    assert_int_equal(json_object_size(map), l.count);
    assert_false(exists("a/model.safetensors"));
    assert_false(exists("a/model-00004-of-00003.safetensors"));
    for (unsigned i = 1; i <= 3; i++) {
        listing shard = {0};
        snprintf(name, sizeof name, "a/model-%05u-of-00003.safetensors", i);
        add_header(&shard, name);
        /* Balanced: no tensor of the miniature is a tenth of it. */
        assert_in_range(shard.bytes, total / 3 - total / 10,
                        total / 3 + total / 10);
        for (size_t k = 0; k < shard.count; k++) {
            shard.items[k][strcspn(shard.items[k], "\t")] = '\0';
            assert_string_equal(
                json_string_value(json_object_get(map, shard.items[k])),
                name + 2);
        }
        listing_free(&shard);
    }
    json_decref(index);
    listing_free(&l);
}

static void test_shard_limits(void **state)
{
    (void)state;
    f8_error err = {0};
    f8_synth_options options = {.size = sizeof options, .sparse = true};
    synth("a", &options);
    listing l = read_headers("a");
    options.shards = l.count;
    synth("b", &options);
    listing each = read_headers("b");
    assert_int_equal(each.count, l.count);
    assert_true(each.bytes == l.bytes);
    /* Shards, index, seven other files. */
    assert_int_equal(count_entries("b"), l.count + 1 + 7);
    options.shards++;
    assert_int_equal(f8_synth(in_root("c"), &options, &err), F8_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "shards asked for"));
    assert_false(exists("c"));
    listing_free(&l);
    listing_free(&each);
}

/* By default a shard holds what 5,000,000,000 bytes take, and no more. */
static void test_default_shards(void **state)
{
    (void)state;
    f8_synth_options options = {
        .size = sizeof options, .layout = FULL, .layers = 5, .sparse = true};
    synth("a", &options);
    json_t *index = read_json("a/model.safetensors.index.json");
    uint64_t before = 0;
    unsigned count = 0;
    char name[64];
    for (unsigned of = 1; of < 20; of++) {
        snprintf(name, sizeof name, "a/model-00001-of-%05u.safetensors", of);
        count = exists(name) ? of : count;
    }
    assert_in_range(count, 2, 10);
    for (unsigned i = 1; i <= count; i++) {
        listing shard = {0};
        snprintf(name, sizeof name, "a/model-%05u-of-%05u.safetensors", i,
                 count);
        add_header(&shard, name);
        assert_true(shard.bytes <= UINT64_C(5000000000));
        /* Two neighbours never fit together: else the first was closed too
         * early. */
        assert_true(i == 1 || before + shard.bytes > UINT64_C(5000000000));
        before = shard.bytes;
        listing_free(&shard);
    }
    json_decref(index);
}

/* ---- values ---------------------------------------------------------------
 */

/* splitmix64 as its author published it. */
static uint64_t next_random(uint64_t *x)
{
    uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The first numbers for seed 1234567, widely published as a check. */
static void test_generator(void **state)
{
    (void)state;
    const uint64_t expected[] = {
        UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
        UINT64_C(9817491932198370423), UINT64_C(4593380528125082431),
        UINT64_C(16408922859458223821)};
    uint64_t x = 1234567;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_true(next_random(&x) == expected[i]);
}

/* 64-bit FNV-1a; of "a" it is af63dc4c8601ec8c. */
static uint64_t fnv(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t tensor_key(const char *name, uint64_t seed)
{
    uint64_t x = seed;
    uint64_t first = next_random(&x);
    uint64_t y = first + fnv(name) - UINT64_C(0x9e3779b97f4a7c15);
    return next_random(&y);
}

/* Element i of a tensor in binary32, by docs/layouts.md. */
static float expected_value(const f8_layout_tensor *t, uint64_t seed,
                            uint64_t i)
{
    const f8_values *v = &t->values;
    uint64_t key = tensor_key(t->name, seed);
    uint64_t x = key + i * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t a = next_random(&x);
    volatile float product;
    if (v->draw == F8_DRAW_UNIFORM) {
        float u = (float)((double)(a >> 40) / 16777216.0);
        product = (float)(v->high - v->low) * u;
        return (float)v->low + product;
    }
    uint64_t b = a * UINT64_C(0xd1342543de82ef95);
    b ^= b >> 32;
    long sum = 0;
    for (unsigned w = 0; w < 64; w += 16)
        sum += (long)(a >> w & 0xffff) + (long)(b >> w & 0xffff);
    double factor = 1;
    if (v->varied) {
        uint64_t y = key - UINT64_C(0x9e3779b97f4a7c15);
        factor = 0.75 + ldexp((double)(next_random(&y) >> 11), -54);
    }
    double deviation = sqrt(8.0 * (65536.0 * 65536.0 - 1) / 12);
    product = (float)(v->high * factor / deviation) * (float)(sum - 262140);
    return (float)v->low + product;
}

static double decode(f8_dtype dtype, unsigned code)
{
    unsigned fraction_bits = dtype == F8_DTYPE_BF16 ? 7 : 10;
    int bias = dtype == F8_DTYPE_BF16 ? 127 : 15;
    unsigned fraction = code & ((1u << fraction_bits) - 1);
    int exponent = (int)((code & 0x7fff) >> fraction_bits);
    double size = exponent == 0 ? ldexp(fraction, 1 - bias - (int)fraction_bits)
                                : ldexp(fraction + (1u << fraction_bits),
                                        exponent - bias - (int)fraction_bits);
    return code & 0x8000 ? -size : size;
}

/* Nearest, and of two that are equally near the even one. */
static void check_rounding(f8_dtype dtype, float exact, unsigned code)
{
    double error = fabs(decode(dtype, code) - exact);
    double above = fabs(decode(dtype, code + 1) - exact);
    assert_true((code & 0x8000) != 0 ? exact <= 0 : exact >= 0);
    assert_true(error < above || (error == above && code % 2 == 0));
    if ((code & 0x7fff) == 0)
        return;
    double below = fabs(decode(dtype, code - 1) - exact);
    assert_true(error < below || (error == below && code % 2 == 0));
}

static void check_elements(const f8_layout_tensor *t, uint64_t seed,
                           uint64_t first, size_t n)
{
    uint32_t words[3000];
    assert_true(n <= 3000);
    fill(t, seed, first, n, words);
    for (size_t i = 0; i < n; i++) {
        float exact = expected_value(t, seed, first + i);
        const unsigned char *bytes = (const unsigned char *)words;
        if (t->dtype == F8_DTYPE_F32) {
            uint32_t bits;
            memcpy(&bits, &exact, 4);
            bytes += 4 * i;
            assert_int_equal(bits, bytes[0] | (uint32_t)bytes[1] << 8 |
                                       (uint32_t)bytes[2] << 16 |
                                       (uint32_t)bytes[3] << 24);
        } else {
            bytes += 2 * i;
            check_rounding(t->dtype, exact, bytes[0] | (unsigned)bytes[1] << 8);
        }
    }
}

static void test_values_follow_the_formulas(void **state)
{
    (void)state;
    const f8_dtype dtypes[] = {F8_DTYPE_BF16, F8_DTYPE_F16, F8_DTYPE_F32};
    const f8_values values[] = {
        {F8_DRAW_NORMAL, true, 0, 0.02},    {F8_DRAW_NORMAL, false, 1, 0.1},
        {F8_DRAW_NORMAL, false, 0, 0.0001}, /* subnormal in F16 */
        {F8_DRAW_NORMAL, true, -3, 1000},   {F8_DRAW_NORMAL, false, 2, 0},
        {F8_DRAW_UNIFORM, false, 0.1, 2.7}, {F8_DRAW_UNIFORM, false, -1, 1},
    };
    assert_true(fnv("a") == UINT64_C(0xaf63dc4c8601ec8c));
    for (size_t d = 0; d < 3; d++)
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            f8_layout_tensor t = {
                .name = "some.weight", .dtype = dtypes[d], .values = values[v]};
            check_elements(&t, 0, 0, 3000);
            check_elements(&t, 77, 1000000007, 1025);
            check_elements(&t, UINT64_MAX, UINT64_C(1) << 40, 1);
        }
}

static void test_moments(void **state)
{
    (void)state;
    enum { COUNT = 1 << 20 };
    float *x = malloc(COUNT * sizeof *x);
    assert_non_null(x);
    for (uint64_t seed = 0; seed < 4; seed++) {
        f8_layout_tensor t = {.name = "moments",
                              .dtype = F8_DTYPE_F32,
                              .values = {F8_DRAW_NORMAL, false, 1, 0.5}};
        double sum = 0, squares = 0, fourth = 0, neighbours = 0, most = 0;
        fill(&t, seed, 0, COUNT, x);
        for (size_t i = 0; i < COUNT; i++) {
            double y = ((double)x[i] - 1) / 0.5;
            sum += y;
            squares += y * y;
            fourth += y * y * y * y;
            neighbours += i > 0 ? y * ((double)x[i - 1] - 1) / 0.5 : 0;
            most = fabs(y) > most ? fabs(y) : most;
        }
        /* Five standard errors of each estimate. Eight summed uniforms have
         * the fourth moment 3 - 6 / (5 * 8). */
        assert_true(fabs(sum / COUNT) < 5.0 / 1024);
        assert_true(fabs(squares / COUNT - 1) < 5.0 * 1.4 / 1024);
        assert_true(fabs(fourth / COUNT - 2.85) < 5.0 * 9 / 1024);
        assert_true(fabs(neighbours / COUNT) < 5.0 / 1024);
        assert_true(most > 4 && most < 4.9);
        t.values = (f8_values){F8_DRAW_UNIFORM, false, -2, 2};
        fill(&t, seed, 0, COUNT, x);
        sum = squares = 0;
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(x[i] >= -2 && x[i] <= 2);
            sum += (double)x[i];
            squares += (double)x[i] * (double)x[i];
        }
        assert_true(fabs(sum / COUNT) < 5.0 * 1.2 / 1024);
        assert_true(fabs(squares / COUNT - 4.0 / 3) < 5.0 * 1.2 / 1024);
    }
    free(x);
}

/* ---- bytes on disk --------------------------------------------------------
 */

static void test_seed_decides_bytes(void **state)
{
    (void)state;
    f8_synth_options options = {.size = sizeof options, .seed = 5};
    synth("a", &options);
    synth("b", &options);
    options.seed = 6;
    synth("c", &options);
    f8_buf a = read_all("a/model.safetensors");
    f8_buf b = read_all("b/model.safetensors");
    f8_buf c = read_all("c/model.safetensors");
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.data, b.data, a.length);
    assert_int_equal(a.length, c.length);
    size_t different = 0;
    for (size_t i = 0; i < a.length; i++)
        different += a.data[i] != c.data[i];
    assert_true(different > a.length / 4);
    f8_buf_free(&a);
    f8_buf_free(&b);
    f8_buf_free(&c);
}

/* Every tensor of the file is where the header says, and has its own values:
 * chunks and threads put nothing in the wrong place. */
static void test_file_holds_the_values(void **state)
{
    (void)state;
    f8_synth_options options = {.size = sizeof options, .seed = 5, .shards = 2};
    synth("a", &options);
    f8_layout layout;
    f8_error err = {0};
    assert_int_equal(
        f8_layout_build(f8_builtin_layouts, MINI, NULL, 0, &layout, &err),
        F8_OK);
    size_t seen = 0;
    for (unsigned s = 1; s <= 2; s++) {
        char name[64];
        snprintf(name, sizeof name, "a/model-%05u-of-00002.safetensors", s);
        f8_arena names = {0};
        f8_tensor_list list = {0};
        int fd = -1;
        uint64_t size = 0;
        assert_int_equal(f8_open_read(in_root(name), &fd, &size, NULL, &err),
                         F8_OK);
        assert_int_equal(
            f8_st_read_header(fd, size, name, 0, &names, &list, NULL, &err),
            F8_OK);
        for (size_t i = 0; i < list.count; i++, seen++) {
            const f8_layout_tensor *t = &layout.tensors[seen];
            assert_string_equal(list.items[i].name, t->name);
            char *found = malloc(t->bytes), *expected = malloc(t->bytes);
            assert_non_null(found);
            assert_non_null(expected);
            assert_int_equal(f8_read_at(fd, found, t->bytes,
                                        list.items[i].offset, name, &err),
                             F8_OK);
            fill(t, 5, 0, t->elems, expected);
            assert_memory_equal(found, expected, t->bytes);
            free(found);
            free(expected);
        }
        close(fd);
        free(list.items);
        f8_arena_free(&names);
    }
    assert_int_equal(seen, layout.tensor_count);
    f8_layout_free(&layout);
}

static void test_sparse_is_zero(void **state)
{
    (void)state;
    f8_synth_options options = {.size = sizeof options, .sparse = true};
    synth("a", &options);
    options.sparse = false;
    synth("b", &options);
    f8_buf a = read_all("a/model.safetensors");
    f8_buf b = read_all("b/model.safetensors");
    assert_int_equal(a.length, b.length);
    uint64_t header = 8 + ((uint64_t)(unsigned char)a.data[0] |
                           (uint64_t)(unsigned char)a.data[1] << 8 |
                           (uint64_t)(unsigned char)a.data[2] << 16);
    assert_memory_equal(a.data, b.data, header);
    for (uint64_t i = header; i < a.length; i++)
        assert_int_equal(a.data[i], 0);
    struct stat st;
    assert_int_equal(stat(in_root("a/model.safetensors"), &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 < a.length / 2);
    f8_buf_free(&a);
    f8_buf_free(&b);
}

/* ---- refusals and progress ------------------------------------------------
 */

static void refused(const char *dir, f8_synth_options options,
                    f8_status expected, const char *part)
{
    f8_error err = {0};
    options.size = sizeof options;
    assert_int_equal(f8_synth(in_root(dir), &options, &err), expected);
    assert_int_equal(err.status, expected);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", err.message, part);
}

static void test_refusals(void **state)
{
    (void)state;
    f8_synth_options plain = {.sparse = true};
    refused("a", (f8_synth_options){.layout = "gpt-2"}, F8_ERR_ARGUMENT,
            "no layout is called 'gpt-2'; known: ");
    refused("a", (f8_synth_options){.layout = "gpt-2"}, F8_ERR_ARGUMENT, MINI);
    refused("a", (f8_synth_options){.vocab = 128}, F8_ERR_ARGUMENT,
            "vocab is too small");
    refused("a", (f8_synth_options){.hidden = UINT64_MAX}, F8_ERR_ARGUMENT,
            "hidden: 18446744073709551615 is too large");
    refused("a", (f8_synth_options){.hidden = UINT64_C(1) << 62},
            F8_ERR_ARGUMENT, "does not fit 63 bits");
    refused("a", (f8_synth_options){.layers = UINT64_C(1) << 40},
            F8_ERR_ARGUMENT, "the layout grows too large");
    refused("a/b", plain, F8_ERR_IO,
            "expected an existing folder to make it in");
    assert_false(exists("a"));

    assert_int_equal(mkdir(in_root("a"), 0777), 0);
    synth("a", &(f8_synth_options){.size = sizeof plain, .sparse = true});
    size_t before = count_entries("a");
    refused("a", plain, F8_ERR_REFUSED, "not empty");
    refused("a/LICENSE", plain, F8_ERR_REFUSED, "not a folder");
    assert_int_equal(count_entries("a"), before);

    f8_error err = {0};
    assert_int_equal(f8_synth(NULL, NULL, &err), F8_ERR_ARGUMENT);
    f8_synth_options unset = {0};
    assert_int_equal(f8_synth(in_root("b"), &unset, &err), F8_ERR_ARGUMENT);
    assert_int_equal(f8_synth(in_root("b"), &unset, NULL), F8_ERR_ARGUMENT);
}

typedef struct watch {
    uint64_t bytes, total, stop_at;
    uint32_t shards, shards_total, names;
    char last[64];
} watch;

static int on_progress(void *user, const f8_progress *p)
{
    watch *w = user;
    if (p->bytes_done < w->bytes || p->shards_done < w->shards)
        return 2; /* it went backwards: the test sees a cancelled run */
    w->bytes = p->bytes_done;
    w->total = p->bytes_total;
    w->shards = p->shards_done;
    w->shards_total = p->shards_total;
    if (p->finished != NULL) {
        w->names++;
        snprintf(w->last, sizeof w->last, "%s", p->finished);
    }
    return w->stop_at != 0 && p->bytes_done >= w->stop_at;
}

static void test_progress(void **state)
{
    (void)state;
    for (int sparse = 0; sparse < 2; sparse++) {
        watch w = {0};
        f8_synth_options options = {.size = sizeof options,
                                    .shards = 3,
                                    .sparse = sparse != 0,
                                    .progress = on_progress,
                                    .progress_user = &w};
        synth(sparse ? "a" : "b", &options);
        listing l = read_headers(sparse ? "a" : "b");
        assert_true(w.bytes == l.bytes && w.total == l.bytes);
        assert_int_equal(w.shards, 3);
        assert_int_equal(w.shards_total, 3);
        assert_int_equal(w.names, 3);
        assert_string_equal(w.last, "model-00003-of-00003.safetensors");
        listing_free(&l);
    }
}

/* A stopped run leaves the folder as it found it. */
static void test_cancel(void **state)
{
    (void)state;
    watch w = {.stop_at = 9000000};
    f8_synth_options options = {
        .shards = 3, .progress = on_progress, .progress_user = &w};
    refused("a", options, F8_ERR_CANCELLED, "stopped after ");
    assert_false(exists("a"));
    assert_int_equal(w.names, 1);
    assert_int_equal(mkdir(in_root("a"), 0777), 0);
    w = (watch){.stop_at = 1};
    refused("a", options, F8_ERR_CANCELLED, "stopped after ");
    assert_int_equal(count_entries("a"), 0);
}

/* ---- the language ---------------------------------------------------------
 */

static f8_status build(const char *text, const char *setting, int64_t value,
                       f8_layout *layout, f8_error *err)
{
    const f8_builtin table[] = {
        {"x", text},
        {"base", "param n = 2\ntensor a BF16 [n] normal 1\n"},
        {"loop", "extends loop\n"},
        {NULL, NULL}};
    const f8_layout_setting settings[] = {{setting, value}};
    return f8_layout_build(table, "x", settings, setting != NULL, layout, err);
}

static void test_language(void **state)
{
    (void)state;
    f8_layout layout;
    f8_error err = {0};
    const char *text = "param n = 3   # a comment\n"
                       "let m = n * 2\n"
                       "each A < n\n"
                       "  let p = A + 10\n"
                       "  when A % 2 == 0\n"
                       "    each B < 2\n"
                       "\t\ttensor t.{A}.{B + p} F32 [m, A + 1] uniform -1 1\n"
                       "    end\n"
                       "  end\n"
                       "end\n"
                       "file f.txt\n"
                       "| n=${n}, ${ m > 7 ? \"many\" : \"few\" } # text\n"
                       "|\n"
                       "each A < n\n"
                       "  |  ${A}${A < n - 1 ? \",\"}${A : x4}$\n"
                       "end\n"
                       "end";
    if (build(text, "n", 4, &layout, &err) != F8_OK)
        fail_msg("%s", err.message);
    const char *names[] = {"t.0.10", "t.0.11", "t.2.12", "t.2.13"};
    assert_int_equal(layout.tensor_count, 4);
    for (size_t i = 0; i < 4; i++) {
        const f8_layout_tensor *t = &layout.tensors[i];
        assert_string_equal(t->name, names[i]);
        assert_int_equal(t->dtype, F8_DTYPE_F32);
        assert_int_equal(t->rank, 2);
        assert_int_equal(t->shape[0], 8);
        assert_int_equal(t->shape[1], i < 2 ? 1 : 3);
        assert_int_equal(t->bytes, i < 2 ? 32 : 96);
    }
    assert_int_equal(layout.bytes, 256);
    assert_int_equal(layout.file_count, 1);
    assert_string_equal(layout.files[0].name, "f.txt");
    assert_string_equal(layout.files[0].text.data,
                        "n=4, many # text\n\n 0,0000$\n 1,0001$\n 2,0002$\n"
                        " 3"
                        "0003$\n");
    f8_layout_free(&layout);

    /* The caller's value wins over the extending layout's, that one over the
     * base's. */
    assert_int_equal(
        build("# x\nextends base\nparam n = 5\n", NULL, 0, &layout, &err),
        F8_OK);
    assert_int_equal(layout.tensors[0].shape[0], 5);
    f8_layout_free(&layout);
    assert_int_equal(
        build("extends base\nparam n = 5\n", "n", 7, &layout, &err), F8_OK);
    assert_int_equal(layout.tensors[0].shape[0], 7);
    f8_layout_free(&layout);
}

static void wrong(const char *text, f8_status expected, const char *message)
{
    f8_layout layout;
    f8_error err = {0};
    f8_status status = build(text, NULL, 0, &layout, &err);
    f8_layout_free(&layout);
    assert_string_equal(err.message, message);
    assert_int_equal(status, expected);
}

#define T "tensor a BF16 [1] normal 1\n"

static void test_language_errors(void **state)
{
    (void)state;
    const f8_status format = F8_ERR_FORMAT, argument = F8_ERR_ARGUMENT;
    wrong("", argument, "layout x has no tensors");
    wrong("tensors a\n", format, "x.layout:1:1: no directive begins like this");
    wrong("param n 4\n", format, "x.layout:1:9: expected '='");
    wrong("param n = 4 4\n", format,
          "x.layout:1:13: unexpected text at the end of the line");
    wrong("param n = 4\nlet n = 5\n", format,
          "x.layout:2:5: 'n' is defined twice");
    wrong("param 4 = 4\n", format, "x.layout:1:7: expected a name");
    wrong("each A < 2\nparam n = 4\nend\n", format,
          "x.layout:2:1: 'param' cannot stand in a block");
    wrong("each A = 2\nend\n", format, "x.layout:1:8: expected '<'");
    wrong("each A < 2\n", format, "x.layout:1:1: this block has no 'end'");
    wrong("end\n", format, "x.layout:1:1: 'end' without a block");
    wrong("| text\n", format, "x.layout:1:1: a line of text outside a file");
    wrong("file f\n" T "end\n", format,
          "x.layout:2:1: 'tensor' cannot stand in a file");
    wrong("file a/f\nend\n", format,
          "x.layout:1:6: a file name has no '/' and no leading '.'");
    wrong("file\nend\n", format, "x.layout:1:5: expected a word");
    wrong("file f g\nend\n", format,
          "x.layout:1:8: unexpected text at the end of the line");
    wrong("file f\nend\nfile f\nend\n", format,
          "x.layout:3:6: file f comes twice");
    wrong("file f\n| ${1 ? x}\nend\n", format, "x.layout:2:9: expected '\"'");
    wrong("file f\n| ${1\nend\n", format, "x.layout:2:6: expected '}'");
    wrong("file f\n| ${1 : d}\nend\n", format, "x.layout:2:9: expected 'x4'");
}

static void test_tensor_errors(void **state)
{
    (void)state;
    const f8_status format = F8_ERR_FORMAT, argument = F8_ERR_ARGUMENT;
    wrong("tensor a.{b} BF16 [1] normal 1\n", format,
          "x.layout:1:11: 'b' is not defined here");
    wrong("tensor a BF8 [1] normal 1\n", format,
          "x.layout:1:10: expected BF16, F16 or F32");
    wrong("tensor a BF16 1 normal 1\n", format, "x.layout:1:15: expected '['");
    wrong("tensor a BF16 [1,1,1,1,1,1,1,1,1] normal 1\n", format,
          "x.layout:1:32: more than 8 dimensions");
    wrong("tensor a BF16 [4, 3 - 3] normal 1\n", argument,
          "x.layout:1:19: tensor a: dimension 2 is 0, it must be at least 1");
    wrong("tensor a BF16 [-4] normal 1\n", argument,
          "x.layout:1:16: tensor a: dimension 1 is -4, it must be at least 1");
    wrong("tensor a BF16 [4611686018427387904, 2] normal 1\n", argument,
          "x.layout:1:16: tensor a: its size does not fit 63 bits");
    /* 2^65 elements; then 2^62 bytes twice, which is one more than fits. */
    wrong("tensor a BF16 [4611686018427387904, 8] normal 1\n", argument,
          "x.layout:1:16: tensor a: its size does not fit 63 bits");
    wrong("tensor a BF16 [2305843009213693952] normal 1\n"
          "tensor b BF16 [2305843009213693952] normal 1\n",
          argument,
          "x.layout:2:1: the size of all tensors does not fit 63 bits");
    wrong("tensor\n", format, "x.layout:1:7: expected a tensor name");
    wrong("tensor a BF16 [1] gamma 1\n", format,
          "x.layout:1:19: expected normal, around or uniform");
    wrong("tensor a BF16 [1] around 1\n", format,
          "x.layout:1:27: expected a decimal number up to 1000 with at most "
          "15 digits");
    wrong("tensor a BF16 [1] uniform 2 1\n", format,
          "x.layout:1:19: a negative deviation, or a range that ends before "
          "it begins");
    wrong(T T, format, "layout x has tensor a twice");
}

static void test_layout_errors(void **state)
{
    (void)state;
    const f8_status format = F8_ERR_FORMAT, argument = F8_ERR_ARGUMENT;
    wrong("require 1 > 2 \"one is not enough\"\n", argument,
          "x.layout:1:1: one is not enough");
    wrong("extends nothing\n", argument,
          "no layout is called 'nothing'; known: x, base, loop");
    wrong("extends loop\n", format, "layout x extends too many others");
    wrong("extends base\n" T, format,
          "x.layout:2:1: a layout that extends another one has 'param' lines "
          "only");
    wrong("extends base\nparam k = 5\n", argument,
          "layout x has no parameter 'k'");
    wrong("each A < 9223372036854775807\n" T "end\n", argument,
          "x.layout:2:1: the layout grows too large: more than 200000 lines "
          "to evaluate");

    f8_layout layout;
    f8_error err = {0};
    assert_int_equal(build("param n = 1\ntensor a BF16 [n] normal 1\n",
                           "experts", 4, &layout, &err),
                     argument);
    assert_string_equal(err.message, "layout x has no parameter 'experts'");
    f8_layout_free(&layout);
}

static void test_builtin_names(void **state)
{
    (void)state;
    bool full = false, mini = false;
    size_t i = 0;
    for (; f8_layout_name(i) != NULL; i++) {
        full = full || strcmp(f8_layout_name(i), FULL) == 0;
        mini = mini || strcmp(f8_layout_name(i), MINI) == 0;
        assert_non_null(f8_layout_text(i));
    }
    assert_true(full && mini);
    assert_null(f8_layout_text(i));
    assert_null(f8_layout_name(i + 1000));
}

#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_full_is_the_published_model),
        IN_FOLDER(test_mini_has_every_kind),
        IN_FOLDER(test_overrides_reach_everything),
        IN_FOLDER(test_side_files),
        IN_FOLDER(test_tokenizer),
        IN_FOLDER(test_shard_count),
        IN_FOLDER(test_shard_limits),
        IN_FOLDER(test_default_shards),
        cmocka_unit_test(test_generator),
        cmocka_unit_test(test_values_follow_the_formulas),
        cmocka_unit_test(test_moments),
        IN_FOLDER(test_seed_decides_bytes),
        IN_FOLDER(test_file_holds_the_values),
        IN_FOLDER(test_sparse_is_zero),
        IN_FOLDER(test_refusals),
        IN_FOLDER(test_progress),
        IN_FOLDER(test_cancel),
        cmocka_unit_test(test_language),
        cmocka_unit_test(test_language_errors),
        cmocka_unit_test(test_tensor_errors),
        cmocka_unit_test(test_layout_errors),
        cmocka_unit_test(test_builtin_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
