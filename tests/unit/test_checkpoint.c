/* test_checkpoint.c - a folder's config, index and shards held against each
 * other, strictly and with problems noted; and the handle that reads what was
 * found. docs/format.md, section 1. */
#include "helpers.h"

#include "checkpoint.h"
#include "source.h"

#define INDEX "model.safetensors.index.json"
#define CONFIG "{\"model_type\": \"test\"}"

/* ---- folders ------------------------------------------------------------- */

/* Two shards of 2 + 2 and 4 bytes with the tensors x, y and z. */
static void put_two_shards(const char *dir)
{
    static const made_tensor one[] = {{"y", F8_DTYPE_U8, 1, {2}},
                                      {"x", F8_DTYPE_U8, 1, {2}}};
    static const made_tensor two[] = {{"z", F8_DTYPE_F32, 0, {0}}};

    put_text(path_in(dir, "config.json"), CONFIG);
    put_shard(path_in(dir, "a.safetensors"), one, COUNT_OF(one));
    put_shard(path_in(dir, "b.safetensors"), two, COUNT_OF(two));
}

static void put_index(const char *dir, const char *weight_map)
{
    f8_buf text = {0};

    f8_buf_printf(&text,
                  "{\"metadata\": {\"total_size\": 8}, \"weight_map\": "
                  "%s}",
                  weight_map);
    put_text(path_in(dir, INDEX), text.data);
    f8_buf_free(&text);
}

static void put_good(const char *dir)
{
    put_two_shards(dir);
    put_index(dir, "{\"z\": \"b.safetensors\", \"x\": \"a.safetensors\", "
                   "\"y\": \"a.safetensors\"}");
}

static f8_checkpoint *open_good(const char *dir)
{
    f8_checkpoint *cp = NULL;
    f8_error err = {0};

    expect_ok(f8_checkpoint_open(dir, true, NULL, &cp, &err), &err);
    assert_non_null(cp);
    return cp;
}

/* The strict reading refuses; the other one notes all problems, one a line of
 * `lines`, and reads the rest. */
static void expect_told(const char *dir, const char *refusal, const char *lines)
{
    f8_checkpoint *cp = NULL;
    f8_problems problems = {0};
    f8_buf found = {0};
    f8_error err = {0};

    expect_error(f8_checkpoint_open(dir, true, NULL, &cp, &err), &err,
                 F8_ERR_FORMAT, refusal);
    assert_null(cp);
    memset(&err, 0, sizeof err);
    expect_ok(f8_checkpoint_open(dir, true, &problems, &cp, &err), &err);
    assert_non_null(cp);
    for (size_t i = 0; i < problems.count; i++)
        f8_buf_printf(&found, "%s%s", i ? "\n" : "", problems.lines[i]);
    assert_non_null(found.data);
    assert_string_equal(found.data, lines);
    assert_int_equal(problems.total, problems.count);
    f8_buf_free(&found);
    f8_problems_free(&problems);
    f8_checkpoint_free(cp);
}

/* Refused with the first line of them. */
static void expect_problems(const char *dir, const char *lines)
{
    char first[1024];

    size_t n = strcspn(lines, "\n");
    assert_true(n < sizeof first);
    memcpy(first, lines, n);
    first[n] = '\0';
    expect_told(dir, first, lines);
}

/* ---- folders that are right ---------------------------------------------- */

static void test_reading_order(void **state)
{
    static const char *const order[] = {"y", "x", "z"};
    struct stat st;

    put_good(*state);
    set_mtime(path_in(*state, "b.safetensors"), 1000000000, 7);
    f8_checkpoint *cp = open_good(*state);
    assert_string_equal(cp->dir, *state);
    assert_string_equal(cp->model_type, "test");
    assert_string_equal(cp->config_text.data, CONFIG);
    assert_true(cp->has_index);
    assert_int_equal(cp->index_total_size, 8);
    assert_int_equal(cp->tensor_bytes, 8);
    assert_int_equal(cp->files_count, 2);
    assert_string_equal(cp->files[0].name, "a.safetensors");
    assert_string_equal(cp->files[1].name, "b.safetensors");
    assert_int_equal(stat(path_in(*state, "b.safetensors"), &st), 0);
    assert_int_equal(cp->files[1].bytes, st.st_size);
    assert_true(cp->files[1].mtime_ns == INT64_C(1000000000000000007));
    assert_true(cp->files[0].head.hash != cp->files[1].head.hash);
    assert_int_equal(cp->tensors.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(cp->tensors.items[i].name, order[i]);
        assert_int_equal(cp->tensors.items[i].file, i == 2);
    }
    f8_checkpoint_free(cp);
}

static void test_find(void **state)
{
    put_good(*state);
    f8_checkpoint *cp = open_good(*state);
    assert_ptr_equal(f8_checkpoint_find(cp, "y"), &cp->tensors.items[0]);
    assert_ptr_equal(f8_checkpoint_find(cp, "x"), &cp->tensors.items[1]);
    assert_ptr_equal(f8_checkpoint_find(cp, "z"), &cp->tensors.items[2]);
    assert_null(f8_checkpoint_find(cp, ""));
    assert_null(f8_checkpoint_find(cp, "w"));
    assert_null(f8_checkpoint_find(cp, "xx"));
    f8_checkpoint_free(cp);
}

/* By bytes: upper case before lower case, 10 before 2. */
static void test_order_of_files(void **state)
{
    static const made_tensor t[] = {{"1", F8_DTYPE_U8, 1, {1}},
                                    {"2", F8_DTYPE_U8, 1, {1}},
                                    {"3", F8_DTYPE_U8, 1, {1}}};

    put_text(path_in(*state, "config.json"), CONFIG);
    put_shard(path_in(*state, "m-2.safetensors"), &t[0], 1);
    put_shard(path_in(*state, "m-10.safetensors"), &t[1], 1);
    put_shard(path_in(*state, "Z.safetensors"), &t[2], 1);
    put_index(*state, "{\"1\": \"m-2.safetensors\", \"2\": "
                      "\"m-10.safetensors\", \"3\": \"Z.safetensors\"}");
    f8_checkpoint *cp = open_good(*state);
    assert_int_equal(cp->files_count, 3);
    assert_string_equal(cp->files[0].name, "Z.safetensors");
    assert_string_equal(cp->files[1].name, "m-10.safetensors");
    assert_string_equal(cp->files[2].name, "m-2.safetensors");
    assert_string_equal(cp->tensors.items[0].name, "3");
    assert_string_equal(cp->tensors.items[2].name, "1");
    f8_checkpoint_free(cp);
}

static void test_single_file(void **state)
{
    static const made_tensor t[] = {{"only", F8_DTYPE_U8, 1, {5}}};
    f8_checkpoint *cp = NULL;
    f8_error err = {0};
    const char *path = path_in(*state, "model.safetensors");

    put_shard(path, t, 1);
    put_text(path_in(*state, "config.json"), CONFIG);
    cp = open_good(*state);
    assert_false(cp->has_index);
    assert_int_equal(cp->index_total_size, -1);
    assert_int_equal(cp->files_count, 1);
    assert_string_equal(cp->files[0].name, "model.safetensors");
    assert_int_equal(cp->tensors.count, 1);
    f8_checkpoint_free(cp);

    /* The file alone, of whatever name, without its folder's other files. */
    const char *other = path_in(*state, "other");
    assert_int_equal(rename(path, other), 0);
    expect_ok(f8_checkpoint_open_file(other, &cp, &err), &err);
    assert_string_equal(cp->files[0].name, "other");
    assert_string_equal(cp->model_type, "");
    assert_null(cp->config);
    assert_non_null(f8_checkpoint_find(cp, "only"));
    f8_checkpoint_free(cp);

    char message[2 * 4096];
    snprintf(message, sizeof message,
             "%s: cannot open: No such file or directory", path);
    expect_error(f8_checkpoint_open_file(path, &cp, &err), &err, F8_ERR_IO,
                 message);
    assert_null(cp);
}

static void test_no_tensors(void **state)
{
    put_text(path_in(*state, "config.json"), CONFIG);
    put_shard_text(path_in(*state, "model.safetensors"), "{}", 0);
    f8_checkpoint *cp = open_good(*state);
    assert_int_equal(cp->tensors.count, 0);
    assert_null(f8_checkpoint_find(cp, "x"));
    f8_checkpoint_free(cp);
}

static void test_total_size(void **state)
{
    static const struct {
        const char *metadata;
        int64_t size;
    } cases[] = {
        {"", -1},
        {"\"metadata\": {}, ", -1},
        {"\"metadata\": {\"total_size\": \"8\"}, ", -1},
        {"\"metadata\": {\"total_size\": 71903645408}, ", 71903645408},
        {"\"metadata\": {\"total_size\": 7.5e10}, ", 75000000000},
        /* No number of bytes. */
        {"\"metadata\": {\"total_size\": 1e300}, ", -1},
        {"\"metadata\": {\"total_size\": -1e300}, ", -1},
    };

    put_two_shards(*state);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f8_buf text = {0};
        f8_buf_printf(&text,
                      "{%s\"weight_map\": {\"x\": \"a.safetensors\", \"y\": "
                      "\"a.safetensors\", \"z\": \"b.safetensors\"}}",
                      cases[i].metadata);
        put_text(path_in(*state, INDEX), text.data);
        f8_checkpoint *cp = open_good(*state);
        assert_true(cp->index_total_size == cases[i].size);
        f8_checkpoint_free(cp);
        f8_buf_free(&text);
    }
}

/* ---- index and shards disagree ------------------------------------------- */

static void test_missing_shard(void **state)
{
    put_good(*state);
    assert_int_equal(unlink(path_in(*state, "b.safetensors")), 0);
    static const char refusal[] =
        "b.safetensors: the index names this file, but it is missing";
    expect_told(*state, refusal,
                "b.safetensors: the index names this file, but it is missing; "
                "all loaders raise\n" INDEX
                ": expected total_size 4, found 8\n" INDEX
                ": tensor z is missing from b.safetensors");
}

static void test_missing_tensor(void **state)
{
    put_two_shards(*state);
    put_index(*state, "{\"x\": \"a.safetensors\", \"w\": \"b.safetensors\", "
                      "\"y\": \"a.safetensors\", \"z\": \"b.safetensors\"}");
    expect_problems(*state, INDEX ": tensor w is missing from b.safetensors");
}

static void test_tensor_without_entry(void **state)
{
    put_two_shards(*state);
    put_index(*state, "{\"x\": \"a.safetensors\", \"z\": \"b.safetensors\"}");
    expect_problems(*state, "a.safetensors: tensor y is not in " INDEX);
}

static void test_wrong_shard(void **state)
{
    put_two_shards(*state);
    put_index(*state, "{\"x\": \"a.safetensors\", \"y\": \"b.safetensors\", "
                      "\"z\": \"b.safetensors\"}");
    expect_problems(*state, "a.safetensors: tensor y is here, " INDEX
                            " puts it in b.safetensors");
}

/* What stands in two shards is told once, and the copy that is found by its
 * name is the one that the index means, in whichever shard. */
static void test_tensor_in_two_shards(void **state)
{
    static const made_tensor two[] = {{"z", F8_DTYPE_F32, 0, {0}},
                                      {"y", F8_DTYPE_U8, 0, {0}},
                                      {"x", F8_DTYPE_U8, 0, {0}}};
    static const char refusal[] =
        "a.safetensors: tensor y is here too, " INDEX " puts it in "
        "b.safetensors";
    f8_problems problems = {0};
    f8_checkpoint *cp = NULL;
    f8_error err = {0};

    put_two_shards(*state);
    put_shard(path_in(*state, "b.safetensors"), two, COUNT_OF(two));
    put_index(*state, "{\"z\": \"b.safetensors\", \"x\": \"a.safetensors\", "
                      "\"y\": \"b.safetensors\"}");
    expect_error(f8_checkpoint_open(*state, true, NULL, &cp, &err), &err,
                 F8_ERR_FORMAT, refusal);
    assert_null(cp);
    expect_ok(f8_checkpoint_open(*state, true, &problems, &cp, &err), &err);
    assert_int_equal(problems.count, 3);
    assert_string_equal(problems.lines[0],
                        INDEX ": expected total_size 10, found 8");
    assert_string_equal(problems.lines[1],
                        "a.safetensors: tensor y is here too, " INDEX
                        " puts it in b.safetensors; loaders take either");
    assert_string_equal(problems.lines[2],
                        "b.safetensors: tensor x is here too, " INDEX
                        " puts it in a.safetensors; loaders take either");
    assert_int_equal(f8_checkpoint_find(cp, "x")->file, 0);
    assert_int_equal(f8_checkpoint_find(cp, "y")->file, 1);
    assert_int_equal(f8_checkpoint_find(cp, "z")->file, 1);
    assert_null(f8_checkpoint_find(cp, "w"));
    assert_null(f8_checkpoint_find(cp, "zz"));
    f8_problems_free(&problems);
    f8_checkpoint_free(cp);
}

static void test_stray_files(void **state)
{
    static const made_tensor t[] = {{"s", F8_DTYPE_U8, 1, {1}}};

    put_good(*state);
    put_shard(path_in(*state, "c.safetensors"), t, 1);
    static const char refusal[] =
        "c.safetensors: lies beside the shards, but " INDEX " does not name it";
    expect_told(*state, refusal,
                "c.safetensors: lies beside the shards, but " INDEX
                " does not name it; vLLM, SGLang and transformers do not read "
                "it and say nothing");
    /* Only shards beside the shards count. */
    assert_int_equal(unlink(path_in(*state, "c.safetensors")), 0);
    make_dir(path_in(*state, "sub"));
    put_text(path_in(*state, "sub/c.safetensors"), "x");
    put_text(path_in(*state, "c.safetensors.bak"), "x");
    f8_checkpoint_free(open_good(*state));
}

static void test_stray_file_without_index(void **state)
{
    static const made_tensor t[] = {{"s", F8_DTYPE_U8, 1, {1}}};

    put_text(path_in(*state, "config.json"), CONFIG);
    put_shard(path_in(*state, "model.safetensors"), t, 1);
    put_text(path_in(*state, "model-2.safetensors"), "not looked into");
    static const char refusal[] = "model-2.safetensors: lies beside "
                                  "model.safetensors, but there is no " INDEX;
    expect_told(*state, refusal,
                "model-2.safetensors: lies beside model.safetensors, but there "
                "is no " INDEX
                "; vLLM and SGLang read it too, transformers does not");
}

/* Two names that a loader looks for before it asks the index. */
static void test_stray_file_with_a_name(void **state)
{
    static const struct {
        const char *name, *then;
    } cases[] = {
        {"model.safetensors", "; transformers reads it in place of the shards"},
        {"consolidated.safetensors", "; vLLM reads it in place of all others"},
        {"consolidated-00001-of-00002.safetensors",
         "; vLLM reads it in place of all others"},
        {"a-consolidated.safetensors",
         "; vLLM, SGLang and transformers do not read it and say nothing"},
    };
    char refusal[256], line[512];

    put_good(*state);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *path = path_in(*state, cases[i].name);
        put_text(path, "not looked into");
        snprintf(refusal, sizeof refusal,
                 "%s: lies beside the shards, but " INDEX " does not name it",
                 cases[i].name);
        snprintf(line, sizeof line, "%s%s", refusal, cases[i].then);
        expect_told(*state, refusal, line);
        assert_int_equal(unlink(path_in(*state, cases[i].name)), 0);
    }
}

static void test_names_that_are_not_plain(void **state)
{
    static const struct {
        const char *value, *shown;
    } cases[] = {
        {"\"../b.safetensors\"", "\"../b.safetensors\""},
        {"\"sub/b.safetensors\"", "\"sub/b.safetensors\""},
        {"\"/etc/passwd\"", "\"/etc/passwd\""},
        {"\"..\"", "\"..\""},
        {"\".\"", "\".\""},
        {"\"\"", "\"\""},
        {"7", "7"},
        {"null", "null"},
        {"{}", "'{'"},
        {"\"a\\u001b/\"", "\"a\\x1b/\""},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f8_checkpoint *cp = NULL;
        f8_error err = {0};
        f8_buf map = {0};
        char message[512];
        put_two_shards(*state);
        f8_buf_printf(&map,
                      "{\"x\": \"a.safetensors\", \"y\": \"a.safetensors\", "
                      "\"z\": %s}",
                      cases[i].value);
        put_index(*state, map.data);
        f8_buf_free(&map);
        snprintf(message, sizeof message,
                 INDEX ": weight_map: tensor z: expected a plain file name, "
                       "found %s",
                 cases[i].shown);
        expect_error(f8_checkpoint_open(*state, true, NULL, &cp, &err), &err,
                     F8_ERR_FORMAT, message);
        assert_null(cp);
    }
}

static void test_broken_index(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[]", INDEX ": byte 0: expected '{', found '['"},
        {"\"x\"", INDEX ": byte 0: expected '{', found a string"},
        {"", INDEX ": byte 0: expected '{', found the end"},
        {"{}", INDEX ": expected an object \"weight_map\""},
        {"{\"weight_map\": []}",
         INDEX ": byte 15: expected weight_map to be an object, found '['"},
        {"{\"weight_map\": {\"x\": \"a\",\n \"x\": \"a\"}}",
         INDEX ": weight_map: tensor x stands there twice"},
        {"{\"weight_map\": {}, \"weight_map\": {}}",
         INDEX ": the key \"weight_map\" stands there twice"},
        {"{\"metadata\": {\"total_size\": 1, \"total_size\": 1}}",
         INDEX ": the key \"total_size\" stands there twice"},
        {"{\"x\": [{\"b\": 1, \"a\": 1, \"b\": 1}]}",
         INDEX ": byte 31: the object that ends here has two keys \"b\""},
        {"{} {}",
         INDEX ": byte 3: expected nothing but white space, found '{'"},
        {"\xef\xbb\xbf{}",
         INDEX ": byte 0: expected '{', found a byte order mark"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f8_checkpoint *cp = NULL;
        f8_error err = {0};
        put_two_shards(*state);
        put_text(path_in(*state, INDEX), cases[i].text);
        expect_error(f8_checkpoint_open(*state, true, NULL, &cp, &err), &err,
                     F8_ERR_FORMAT, cases[i].message);
        assert_null(cp);
        /* Noted, and the folder is looked at as far as that goes. */
        f8_problems problems = {0};
        expect_ok(f8_checkpoint_open(*state, true, &problems, &cp, &err), &err);
        assert_true(problems.count >= 1);
        assert_string_equal(problems.lines[0], cases[i].message);
        f8_problems_free(&problems);
        f8_checkpoint_free(cp);
    }
}

static void test_broken_shard(void **state)
{
    f8_checkpoint *cp = NULL;
    f8_problems problems = {0};
    f8_error err = {0};

    put_good(*state);
    /* The first tensor is right, the second is not. */
    put_shard_text(path_in(*state, "a.safetensors"),
                   "{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":"
                   "[0,2]},\"y\":{\"dtype\":\"U9\",\"shape\":[2],"
                   "\"data_offsets\":[2,4]}}",
                   4);
    expect_problems(*state,
                    "a.safetensors: tensor y: unknown dtype \"U9\"\n" INDEX
                    ": expected total_size 4, found 8\n" INDEX
                    ": tensor x is missing from a.safetensors\n" INDEX
                    ": tensor y is missing from a.safetensors");
    /* Of a broken shard nothing is taken, of the others all. */
    expect_ok(f8_checkpoint_open(*state, true, &problems, &cp, &err), &err);
    assert_int_equal(cp->tensors.count, 1);
    assert_int_equal(cp->tensor_bytes, 4);
    assert_non_null(f8_checkpoint_find(cp, "z"));
    assert_null(f8_checkpoint_find(cp, "x"));
    f8_problems_free(&problems);
    f8_checkpoint_free(cp);
}

/* A system's failure is no defect of the data, and is not noted. */
static void test_shard_that_is_a_folder(void **state)
{
    char message[2 * 4096];
    f8_checkpoint *cp = NULL;
    f8_problems problems = {0};
    f8_error err = {0};
    const char *path = path_in(*state, "a.safetensors");

    put_good(*state);
    assert_int_equal(unlink(path), 0);
    make_dir(path);
    snprintf(message, sizeof message,
             "%s: expected a regular file, found a directory", path);
    expect_error(f8_checkpoint_open(*state, true, &problems, &cp, &err), &err,
                 F8_ERR_IO, message);
    assert_null(cp);
    assert_int_equal(problems.total, 0);
    f8_problems_free(&problems);
}

/* ---- folder and config --------------------------------------------------- */

static void test_folder(void **state)
{
    char message[2 * 4096];
    f8_checkpoint *cp = NULL;
    f8_error err = {0};
    const char *none = path_in(*state, "none");

    snprintf(message, sizeof message,
             "%s: cannot open the folder: No such file or directory", none);
    expect_error(f8_checkpoint_open(none, true, NULL, &cp, &err), &err,
                 F8_ERR_IO, message);
    assert_null(cp);
    put_text(path_in(*state, "config.json"), CONFIG);
    snprintf(message, sizeof message,
             "%s: expected " INDEX " or model.safetensors, found neither",
             (const char *)*state);
    expect_error(f8_checkpoint_open(*state, true, NULL, &cp, &err), &err,
                 F8_ERR_FORMAT, message);
    assert_null(cp);
    /* Nobody need want to know why. */
    assert_int_equal(f8_checkpoint_open(none, true, NULL, &cp, NULL),
                     F8_ERR_IO);
}

static void test_config(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[]", "config.json:1:1: expected a JSON object, found '['"},
        {"{}", "config.json: expected a string \"model_type\""},
        {"{\"model_type\": 7}",
         "config.json: expected a string \"model_type\""},
        {"{\"model_type\": \"a\",\n}",
         "config.json:2:1: expected a key in quotes, found '}'"},
        {"{\"a\": 1, \"a\": 1}",
         "config.json:1:17: the object that ends here has two keys \"a\""},
        {"{\"a\": NaN}", "config.json:1:7: expected a value, found NaN"},
        {"\xef\xbb\xbf{\"model_type\": \"a\"}",
         "config.json:1:1: expected a JSON object, found a byte order "
         "mark"},
    };
    char message[2 * 4096];
    f8_checkpoint *cp = NULL;
    f8_error err = {0};
    const char *path = path_in(*state, "config.json");

    put_good(*state);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put_text(path, cases[i].text);
        expect_problems(*state, cases[i].message);
    }
    /* Where it is not needed it may be missing, or say nothing. */
    put_text(path, "{}");
    expect_ok(f8_checkpoint_open(*state, false, NULL, &cp, &err), &err);
    assert_string_equal(cp->model_type, "");
    assert_non_null(cp->config);
    f8_checkpoint_free(cp);
    assert_int_equal(unlink(path), 0);
    expect_ok(f8_checkpoint_open(*state, false, NULL, &cp, &err), &err);
    assert_string_equal(cp->model_type, "");
    assert_null(cp->config);
    f8_checkpoint_free(cp);
    snprintf(message, sizeof message, "%s: expected config.json, found none",
             (const char *)*state);
    expect_problems(*state, message);
}

static void test_quantization(void **state)
{
    static const struct {
        const char *config, *where; /* NULL: none */
    } cases[] = {
        {"{\"model_type\": \"a\"}", NULL},
        {"{\"model_type\": \"a\", \"quantization_config\": {\"q\": 1}}",
         "quantization_config"},
        {"{\"model_type\": \"a\", \"compression_config\": {\"q\": 1}}",
         "compression_config"},
        {"{\"model_type\": \"a\", \"text_config\": {\"quantization_config\": "
         "{\"q\": 1}}}",
         "text_config.quantization_config"},
        {"{\"model_type\": \"a\", \"text_config\": {\"x\": 1}, \"other\": "
         "{\"quantization_config\": {}}}",
         NULL},
        {"{\"model_type\": \"a\", \"text_config\": []}", NULL},
    };

    put_good(*state);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *where = NULL;
        put_text(path_in(*state, "config.json"), cases[i].config);
        f8_checkpoint *cp = open_good(*state);
        const json_t *found = f8_checkpoint_quantization(cp, &where);
        if (cases[i].where) {
            assert_int_equal(json_integer_value(json_object_get(found, "q")),
                             1);
            assert_string_equal(where, cases[i].where);
        } else {
            assert_null(found);
        }
        f8_checkpoint_free(cp);
    }
}

/* ---- problems ------------------------------------------------------------ */

static void test_list_of_problems(void **state)
{
    f8_problems problems = {0};
    f8_error err = {0};

    (void)state;
    assert_int_equal(f8_problem(NULL, &err, "a %s", "b\n"), F8_ERR_FORMAT);
    assert_int_equal(err.status, F8_ERR_FORMAT);
    assert_string_equal(err.message, "a b\\x0a");
    for (int i = 0; i < 150; i++)
        assert_int_equal(f8_problem(&problems, &err, "line\n%d", i), F8_OK);
    assert_int_equal(problems.total, 150);
    assert_int_equal(problems.count, 100);
    assert_string_equal(problems.lines[0], "line\\x0a0");
    assert_string_equal(problems.lines[99], "line\\x0a99");
    f8_problems_free(&problems);

    /* Of errors only those about the data are noted. */
    f8_fail(&err, F8_ERR_FORMAT, "bad data");
    assert_int_equal(f8_problem_from(NULL, F8_ERR_FORMAT, &err), F8_ERR_FORMAT);
    assert_int_equal(f8_problem_from(&problems, F8_ERR_FORMAT, &err), F8_OK);
    assert_int_equal(f8_problem_from(&problems, F8_ERR_IO, &err), F8_ERR_IO);
    assert_int_equal(f8_problem_from(&problems, F8_ERR_NOMEM, &err),
                     F8_ERR_NOMEM);
    assert_int_equal(f8_problem_from(&problems, F8_OK, &err), F8_OK);
    assert_int_equal(problems.count, 1);
    assert_string_equal(problems.lines[0], "bad data");
    f8_problems_free(&problems);
}

/* ---- handles ------------------------------------------------------------- */

static void test_handle_notices_change(void **state)
{
    char message[2 * 4096];
    const char *path = path_in(*state, "a.safetensors");
    f8_handle handle = F8_HANDLE_NONE;
    f8_error err = {0};
    struct stat st;

    put_good(*state);
    f8_checkpoint *cp = open_good(*state);
    expect_ok(f8_handle_use(&handle, cp, 0, &err), &err);
    expect_ok(f8_handle_use(&handle, cp, 0, &err), &err);
    expect_ok(f8_handle_use(&handle, cp, 1, &err), &err);
    assert_non_null(strstr(handle.path, "b.safetensors"));

    snprintf(message, sizeof message, "%s: changed since its header was read",
             path);
    /* The same size, one nanosecond later. */
    assert_int_equal(stat(path, &st), 0);
    long ns = st.st_mtim.tv_nsec < 999999999 ? st.st_mtim.tv_nsec + 1 : 0;
    set_mtime(path, st.st_mtim.tv_sec, ns);
    expect_error(f8_handle_use(&handle, cp, 0, &err), &err, F8_ERR_IO, message);
    /* The handle is empty then, and can be used again. */
    expect_ok(f8_handle_use(&handle, cp, 1, &err), &err);
    /* The same time, one byte more. */
    assert_int_equal(truncate(path, st.st_size + 1), 0);
    set_mtime(path, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    expect_error(f8_handle_use(&handle, cp, 0, &err), &err, F8_ERR_IO, message);
    assert_int_equal(truncate(path, st.st_size), 0);
    set_mtime(path, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    expect_ok(f8_handle_use(&handle, cp, 0, &err), &err);
    f8_handle_close(&handle);
    f8_handle_close(&handle);
    f8_checkpoint_free(cp);
}

enum { ROWS = 260, COLS = 300 };

/* A checkpoint with matrix "m" of ROWS x COLS elements of two bytes whose
 * element (r, c) is r * COLS + c, at whatever offset the header leaves it. */
static f8_checkpoint *open_numbered(const char *dir, uint64_t *offset)
{
    static const made_tensor t[] = {{"pad", F8_DTYPE_U8, 1, {3}},
                                    {"m", F8_DTYPE_U16, 2, {ROWS, COLS}}};
    const char *path = path_in(dir, "model.safetensors");
    size_t n;

    put_text(path_in(dir, "config.json"), CONFIG);
    put_shard(path, t, COUNT_OF(t));
    char *bytes = get_file(path, &n);
    *offset = n - sizeof(uint16_t) * ROWS * COLS;
    for (uint32_t i = 0; i < ROWS * COLS; i++) {
        uint16_t element = (uint16_t)i;
        memcpy(bytes + *offset + i * sizeof element, &element, sizeof element);
    }
    put_file(path, bytes, n);
    free(bytes);
    f8_checkpoint *cp = open_good(dir);
    assert_int_equal(f8_checkpoint_find(cp, "m")->offset, *offset);
    return cp;
}

static void test_read_panel(void **state)
{
    static const f8_item items[] = {
        {.row = 0, .rows = 260, .col = 0, .cols = 300, .last = true},
        {.row = 128, .rows = 128, .col = 0, .cols = 300},
        {.row = 256, .rows = 4, .col = 0, .cols = 300, .last = true},
        {.row = 0, .rows = 128, .col = 128, .cols = 128},
        {.row = 128, .rows = 128, .col = 256, .cols = 44},
        {.row = 256, .rows = 4, .col = 256, .cols = 44, .last = true},
    };
    f8_handle handle = F8_HANDLE_NONE;
    f8_error err = {0};
    uint64_t offset;

    f8_checkpoint *cp = open_numbered(*state, &offset);
    void *buffer = f8_aligned_alloc(sizeof(uint16_t) * ROWS * COLS);
    assert_non_null(buffer);
    expect_ok(f8_handle_use(&handle, cp, 0, &err), &err);
    for (size_t i = 0; i < COUNT_OF(items); i++) {
        const f8_item *item = &items[i];
        unsigned char *data = NULL;
        expect_ok(
            f8_read_panel(&handle, offset, COLS, 2, item, buffer, &data, &err),
            &err);
        for (uint64_t r = 0; r < item->rows; r++) {
            for (uint64_t c = 0; c < item->cols; c++) {
                uint16_t element;
                memcpy(&element, data + (r * item->cols + c) * 2, 2);
                assert_int_equal(element, (uint16_t)((item->row + r) * COLS +
                                                     item->col + c));
            }
        }
    }
    f8_handle_close(&handle);
    free(buffer);
    f8_checkpoint_free(cp);
}

/* The same matrix as one that lies transposed: 300 rows of 260, and their
 * upper and lower halves as parts that lie side by side. */
static void test_read_across(void **state)
{
    static const struct {
        uint64_t first; /* row of the part */
        f8_item item;
    } cases[] = {
        {0, {.row = 0, .rows = 300, .col = 0, .cols = 260, .last = true}},
        {0, {.row = 0, .rows = 300, .col = 128, .cols = 128}},
        {0, {.row = 128, .rows = 128, .col = 0, .cols = 260}},
        {0, {.row = 0, .rows = 150, .col = 0, .cols = 260, .last = true}},
        {150, {.row = 0, .rows = 150, .col = 0, .cols = 260, .last = true}},
        {150, {.row = 128, .rows = 22, .col = 256, .cols = 4, .last = true}},
    };
    f8_handle handle = F8_HANDLE_NONE;
    f8_error err = {0};
    uint64_t offset;

    f8_checkpoint *cp = open_numbered(*state, &offset);
    void *buffer = f8_aligned_alloc(sizeof(uint16_t) * ROWS * COLS);
    void *spare = f8_aligned_alloc(sizeof(uint16_t) * ROWS * COLS);
    assert_non_null(buffer);
    assert_non_null(spare);
    /* The matrix begins at no multiple of its elements' size. */
    assert_int_equal(offset % 2, 1);
    expect_ok(f8_handle_use(&handle, cp, 0, &err), &err);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const f8_item *item = &cases[i].item;
        unsigned char *data = NULL;
        expect_ok(f8_read_across(&handle, offset + 2 * cases[i].first, COLS, 2,
                                 item, buffer, spare, &data, &err),
                  &err);
        for (uint64_t r = 0; r < item->rows; r++) {
            for (uint64_t c = 0; c < item->cols; c++) {
                uint64_t row = cases[i].first + item->row + r;
                uint16_t element;
                memcpy(&element, data + (r * item->cols + c) * 2, 2);
                assert_int_equal(element,
                                 (uint16_t)((item->col + c) * COLS + row));
            }
        }
    }
    f8_handle_close(&handle);
    free(buffer);
    free(spare);
    f8_checkpoint_free(cp);
}

static void test_scale_ranges(void **state)
{
    /* 300 columns are three blocks across. */
    static const struct {
        f8_item item;
        f8_scale_dtype dtype;
        uint64_t begin, bytes;
    } cases[] = {
        {{.row = 0, .rows = 260, .cols = 300}, F8_SCALE_BF16, 0, 18},
        {{.row = 128, .rows = 128, .cols = 300}, F8_SCALE_BF16, 6, 6},
        {{.row = 256, .rows = 4, .cols = 300}, F8_SCALE_F32, 24, 12},
        {{.row = 128, .rows = 128, .col = 128, .cols = 128},
         F8_SCALE_UE8M0,
         4,
         1},
        {{.row = 256, .rows = 4, .col = 256, .cols = 44}, F8_SCALE_F32, 32, 4},
        {{.row = 0, .rows = 1, .col = 128, .cols = 172}, F8_SCALE_BF16, 2, 4},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f8_scale_range range =
            f8_item_scales(&cases[i].item, 300, cases[i].dtype);
        assert_int_equal(range.begin, cases[i].begin);
        assert_int_equal(range.bytes, cases[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_reading_order),
        TEST_IN_DIR(test_find),
        TEST_IN_DIR(test_order_of_files),
        TEST_IN_DIR(test_single_file),
        TEST_IN_DIR(test_no_tensors),
        TEST_IN_DIR(test_total_size),
        TEST_IN_DIR(test_missing_shard),
        TEST_IN_DIR(test_missing_tensor),
        TEST_IN_DIR(test_tensor_without_entry),
        TEST_IN_DIR(test_wrong_shard),
        TEST_IN_DIR(test_tensor_in_two_shards),
        TEST_IN_DIR(test_stray_files),
        TEST_IN_DIR(test_stray_file_without_index),
        TEST_IN_DIR(test_stray_file_with_a_name),
        TEST_IN_DIR(test_names_that_are_not_plain),
        TEST_IN_DIR(test_broken_index),
        TEST_IN_DIR(test_broken_shard),
        TEST_IN_DIR(test_shard_that_is_a_folder),
        TEST_IN_DIR(test_folder),
        TEST_IN_DIR(test_config),
        TEST_IN_DIR(test_quantization),
        cmocka_unit_test(test_list_of_problems),
        TEST_IN_DIR(test_handle_notices_change),
        TEST_IN_DIR(test_read_panel),
        TEST_IN_DIR(test_read_across),
        cmocka_unit_test(test_scale_ranges),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
