/* test_safetensors.c - headers read with distrust and written in one way.
 *
 * What is right comes from bytes written by hand here and from one file that
 * the Python package safetensors 0.5.3 wrote; what is wrong is refused with
 * the message that stands beside it. The contract is docs/format.md, sections
 * 1 and 4. */
#include "helpers.h"

/* ---- helpers ------------------------------------------------------------- */

typedef struct parsed {
    f8_arena names;
    f8_tensor_list list;
    f8_st_head head;
} parsed;

static void parsed_free(parsed *p)
{
    free(p->list.items);
    f8_arena_free(&p->names);
    memset(p, 0, sizeof *p);
}

/* Reads the header of a file as shard 3, which messages call "f". */
static f8_status parse_file(const char *path, parsed *p, f8_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    f8_status status = f8_st_read_header(fd, (uint64_t)st.st_size, "f", 3,
                                         &p->names, &p->list, &p->head, err);
    assert_int_equal(close(fd), 0);
    return status;
}

static f8_status parse_bytes(const char *dir, const char *header, size_t n,
                             size_t data_bytes, parsed *p, f8_error *err)
{
    const char *path = path_in(dir, "f.safetensors");

    put_raw_shard(path, header, n, data_bytes);
    return parse_file(path, p, err);
}

static void parse_good(const char *dir, const char *header, size_t data_bytes,
                       parsed *p)
{
    f8_error err = {0};

    memset(p, 0, sizeof *p);
    expect_ok(parse_bytes(dir, header, strlen(header), data_bytes, p, &err),
              &err);
}

static void expect_tensor(const parsed *p, size_t i, const char *name,
                          f8_dtype dtype, unsigned rank, uint64_t elems,
                          uint64_t offset, uint64_t bytes)
{
    assert_true(i < p->list.count);
    const f8_tensor *t = &p->list.items[i];
    assert_string_equal(t->name, name);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->file, 3);
    assert_int_equal(t->rank, rank);
    assert_int_equal(t->elems, elems);
    assert_int_equal(t->offset, offset);
    assert_int_equal(t->bytes, bytes);
}

typedef struct bad_case {
    const char *header;
    size_t data_bytes;
    const char *message;
} bad_case;

static void check_bad(const char *dir, const bad_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const bad_case *c = &cases[i];
        parsed p = {0};
        f8_error err = {0};
        f8_status status = parse_bytes(dir, c->header, strlen(c->header),
                                       c->data_bytes, &p, &err);
        expect_error(status, &err, F8_ERR_FORMAT, c->message);
        parsed_free(&p);
    }
}

/* An entry of 2 bytes, as a piece of a header. */
#define U8_AT(name, begin, end)                                              \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[" #begin \
    "," #end "]}"
#define ENTRY(dtype, shape, offsets)               \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape \
    ",\"data_offsets\":" offsets "}}"

/* ---- element types ------------------------------------------------------- */

static void test_dtypes(void **state)
{
    static const struct {
        f8_dtype dtype;
        const char *name;
        size_t bytes;
    } all[] = {
        {F8_DTYPE_BOOL, "BOOL", 1},    {F8_DTYPE_U8, "U8", 1},
        {F8_DTYPE_I8, "I8", 1},        {F8_DTYPE_E5M2, "F8_E5M2", 1},
        {F8_DTYPE_E4M3, "F8_E4M3", 1}, {F8_DTYPE_E8M0, "F8_E8M0", 1},
        {F8_DTYPE_I16, "I16", 2},      {F8_DTYPE_U16, "U16", 2},
        {F8_DTYPE_F16, "F16", 2},      {F8_DTYPE_BF16, "BF16", 2},
        {F8_DTYPE_I32, "I32", 4},      {F8_DTYPE_U32, "U32", 4},
        {F8_DTYPE_F32, "F32", 4},      {F8_DTYPE_I64, "I64", 8},
        {F8_DTYPE_U64, "U64", 8},      {F8_DTYPE_F64, "F64", 8},
    };
    static const char *const unknown[] = {"",   "bf16", "BF16 ",
                                          "F4", "F8",   "C64"};
    f8_dtype dtype = F8_DTYPE_COUNT;

    (void)state;
    assert_int_equal(COUNT_OF(all), F8_DTYPE_COUNT);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        assert_string_equal(f8_dtype_name(all[i].dtype), all[i].name);
        assert_int_equal(f8_dtype_bytes(all[i].dtype), all[i].bytes);
        assert_true(f8_dtype_parse(all[i].name, &dtype));
        assert_int_equal(dtype, all[i].dtype);
    }
    assert_null(f8_dtype_name(F8_DTYPE_COUNT));
    assert_int_equal(f8_dtype_bytes(F8_DTYPE_COUNT), 0);
    for (size_t i = 0; i < COUNT_OF(unknown); i++)
        assert_false(f8_dtype_parse(unknown[i], &dtype));
}

/* ---- headers that are right ---------------------------------------------- */

static void test_offset_order(void **state)
{
    /* 157 bytes of header, so data begins at byte 165. */
    static const char header[] =
        "{\"second\":{\"dtype\":\"BF16\",\"shape\":[3,2],\"data_offsets\":"
        "[8,20]},\"__metadata__\":{\"format\":\"pt\",\"\":\"\"},\"first\":"
        "{\"data_offsets\":[0,8],\"shape\":[2],\"dtype\":\"F32\"}}";
    parsed p;

    assert_int_equal(sizeof header - 1, 157);
    parse_good(*state, header, 20, &p);
    assert_int_equal(p.list.count, 2);
    expect_tensor(&p, 0, "first", F8_DTYPE_F32, 1, 2, 165, 8);
    expect_tensor(&p, 1, "second", F8_DTYPE_BF16, 2, 6, 173, 12);
    assert_int_equal(p.list.items[1].shape[0], 3);
    assert_int_equal(p.list.items[1].shape[1], 2);
    parsed_free(&p);
}

static void test_empty_header(void **state)
{
    parsed p;

    parse_good(*state, "{}", 0, &p);
    assert_int_equal(p.list.count, 0);
    /* FNV-1a, 64 bits, of the two bytes, computed by hand in Python. */
    assert_true(p.head.hash == UINT64_C(0x08f44b07b5901a25));
    parsed_free(&p);
    parse_good(*state, "{\"__metadata__\":{}}", 0, &p);
    assert_int_equal(p.list.count, 0);
    parsed_free(&p);
}

static void test_metadata_format(void **state)
{
    static const struct {
        const char *header;
        bool has_metadata;
        const char *format;
    } cases[] = {
        {"{}", false, ""},
        {"{\"__metadata__\":{}}", true, ""},
        {"{\"__metadata__\":{\"a\":\"format\",\"Format\":\"x\"}}", true, ""},
        {"{\"__metadata__\":{\"a\":\"\",\"format\":\"pt\",\"z\":\"np\"}}", true,
         "pt"},
        {"{\"__metadata__\":{\"\\u0066ormat\":\"\\u0074f\"}}", true, "tf"},
        /* 16 bytes with the NUL: what is longer is no format anyway. */
        {"{\"__metadata__\":{\"format\":\"pt0123456789abcdef\"}}", true,
         "pt0123456789abc"},
    };
    parsed p;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        parse_good(*state, cases[i].header, 0, &p);
        assert_int_equal(p.head.has_metadata, cases[i].has_metadata);
        assert_string_equal(p.head.format, cases[i].format);
        parsed_free(&p);
    }
}

static void test_space(void **state)
{
    parsed p;

    parse_good(*state, "{" U8_AT("a", 0, 2) "}     ", 2, &p);
    assert_int_equal(p.list.count, 1);
    parsed_free(&p);
    parse_good(*state,
               " \t\r\n{ \"a\" : {\n\"dtype\" : \"U8\" , \"shape\" : [ 2 ] ,"
               "\"data_offsets\" : [ 0 , 2 ] } ,\r\n" U8_AT("b", 2, 4) "\t} \n",
               4, &p);
    assert_int_equal(p.list.count, 2);
    parsed_free(&p);
}

static void test_scalar_and_largest_rank(void **state)
{
    parsed p;

    parse_good(*state, ENTRY("\"F64\"", "[]", "[0,8]"), 8, &p);
    expect_tensor(&p, 0, "a", F8_DTYPE_F64, 0, 1, 8 + 53, 8);
    parsed_free(&p);
    parse_good(*state, ENTRY("\"I16\"", "[1,2,1,3,1,2,1,1]", "[0,24]"), 24, &p);
    expect_tensor(&p, 0, "a", F8_DTYPE_I16, 8, 12, 8 + 69, 24);
    parsed_free(&p);
}

/* Tensors without elements stand where the one before them ends, and before
 * the one that begins there. */
static void test_no_elements(void **state)
{
    parsed p;

    parse_good(
        *state,
        "{" U8_AT("b", 0, 2) ",\"z\":{\"dtype\":\"F32\",\"shape\":[0,"
                             "4],\"data_offsets\":[2,2]},"
                             "\"a\":{\"dtype\":\"F32\",\"shape\":[4,0],"
                             "\"data_offsets\":[0,0]}," U8_AT("c", 2, 4) "}",
        4, &p);
    assert_int_equal(p.list.count, 4);
    assert_string_equal(p.list.items[0].name, "a");
    assert_string_equal(p.list.items[1].name, "b");
    assert_string_equal(p.list.items[2].name, "z");
    assert_string_equal(p.list.items[3].name, "c");
    assert_int_equal(p.list.items[2].elems, 0);
    assert_int_equal(p.list.items[2].bytes, 0);
    assert_int_equal(p.list.items[2].offset, p.list.items[3].offset);
    parsed_free(&p);
}

static void test_names(void **state)
{
    parsed p;

    parse_good(
        *state,
        "{" U8_AT("\\u00e9\\t\\\"\\\\", 0, 2) "," U8_AT(
            "\xc3\xa9", 2, 4) "," U8_AT("", 4, 6) "," U8_AT("../x", 6, 8) "}",
        8, &p);
    assert_int_equal(p.list.count, 4);
    assert_string_equal(p.list.items[0].name, "\xc3\xa9\t\"\\");
    assert_string_equal(p.list.items[1].name, "\xc3\xa9");
    assert_string_equal(p.list.items[2].name, "");
    assert_string_equal(p.list.items[3].name, "../x");
    parsed_free(&p);
}

/* A second file is appended; the first one's tensors stay as they are, and
 * the same name in both is not this room's business. */
static void test_two_files_in_one_list(void **state)
{
    parsed p;
    f8_error err = {0};

    parse_good(*state, "{" U8_AT("b", 0, 2) "," U8_AT("a", 2, 4) "}", 4, &p);
    const char *path = path_in(*state, "g.safetensors");
    put_shard_text(path, "{" U8_AT("a", 0, 2) "}", 2);
    expect_ok(parse_file(path, &p, &err), &err);
    assert_int_equal(p.list.count, 3);
    assert_string_equal(p.list.items[0].name, "b");
    assert_string_equal(p.list.items[1].name, "a");
    assert_string_equal(p.list.items[2].name, "a");
    parsed_free(&p);
}

/* Written by Python with
 *   safetensors.serialize({"a.scalar": {"dtype": "float64", "shape": [],
 *       "data": struct.pack("<d", -2.5)}, ...},
 *       {"format": "pt", "note": "\u2713"})
 * and the tensors that are expected below. */
static void test_file_of_the_python_package(void **state)
{
    static const struct {
        const char *name;
        f8_dtype dtype;
        unsigned rank;
        uint64_t shape[3];
        const char *data;
        size_t bytes;
    } expected[] = {
        {"b.empty", F8_DTYPE_I64, 2, {0, 7}, "", 0},
        /* -2.5 is -1.25 * 2^1: c004000000000000. */
        {"a.scalar", F8_DTYPE_F64, 0, {0}, "\0\0\0\0\0\0\x04\xc0", 8},
        {"e.f32", F8_DTYPE_F32, 3, {1, 2, 1}, "\0\0\xc0\x3f\0\0\0\x80", 8},
        {"c.bf16",
         F8_DTYPE_BF16,
         2,
         {2, 3},
         "\x80\x3f\x00\x40\x3f\xc0\x00\x00\x80\xbf\x80\xff",
         12},
        {"g.fp8", F8_DTYPE_E4M3, 1, {2}, "\x7e\x38", 2},
        {"d.bytes", F8_DTYPE_U8, 1, {5}, "hello", 5},
        {"f.\xc3\xa9\n\"q\"", F8_DTYPE_BOOL, 1, {3}, "\1\0\1", 3},
    };
    parsed p = {0};
    f8_error err = {0};
    size_t n = 0;
    const char *path = F8_TEST_DATA "/safetensors-py.safetensors";
    char *bytes = get_file(path, &n);

    (void)state;
    expect_ok(parse_file(path, &p, &err), &err);
    assert_int_equal(p.list.count, COUNT_OF(expected));
    assert_true(p.head.hash == UINT64_C(0x29c61d23b92b57ac)); /* from Python */
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        const f8_tensor *t = &p.list.items[i];
        assert_string_equal(t->name, expected[i].name);
        assert_int_equal(t->dtype, expected[i].dtype);
        assert_int_equal(t->rank, expected[i].rank);
        for (unsigned k = 0; k < t->rank; k++)
            assert_int_equal(t->shape[k], expected[i].shape[k]);
        assert_int_equal(t->bytes, expected[i].bytes);
        assert_true(t->offset + t->bytes <= n);
        assert_memory_equal(bytes + t->offset, expected[i].data, t->bytes);
    }
    free(bytes);
    parsed_free(&p);
}

/* ---- the length ---------------------------------------------------------- */

static void test_length(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } cases[] = {
        {"", 0,
         "f: 0 bytes, expected at least the 8 of a safetensors header length"},
        {"\2\0\0\0\0\0\0", 7,
         "f: 7 bytes, expected at least the 8 of a safetensors header length"},
        {"\0\0\0\0\0\0\0\0", 8,
         "f: header, byte 0: expected '{', found the end"},
        {"\2\0\0\0\0\0\0\0{", 9,
         "f: header of 2 bytes, but the file ends after 1; is it truncated?"},
        {"\1\0\0\0\0\0\0\0", 8,
         "f: header of 1 bytes, but the file ends after 0; is it truncated?"},
        /* 100,000,000 = 0x05f5e100 is allowed, one more is not. */
        {"\x00\xe1\xf5\x05\0\0\0\0{}", 10,
         "f: header of 100000000 bytes, but the file ends after 2; is it "
         "truncated?"},
        {"\x01\xe1\xf5\x05\0\0\0\0{}", 10,
         "f: header of 100000001 bytes, expected at most 100000000; is this a "
         "safetensors file?"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10,
         "f: header of 18446744073709551615 bytes, expected at most 100000000; "
         "is this a safetensors file?"},
        /* The start of a zip file, as torch.save writes. */
        {"PK\3\4\0\0\0\0\0\0", 10,
         "f: header of 67324752 bytes, but the file ends after 2; is it "
         "truncated?"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        parsed p = {0};
        f8_error err = {0};
        const char *path = path_in(*state, "f");
        put_file(path, cases[i].bytes, cases[i].n);
        expect_error(parse_file(path, &p, &err), &err, F8_ERR_FORMAT,
                     cases[i].message);
        parsed_free(&p);
    }
}

/* The caller's size can be out of date. */
static void test_file_that_shrank(void **state)
{
    parsed p = {0};
    f8_error err = {0};
    const char *path = path_in(*state, "f");

    put_file(path, "\4\0\0\0\0\0\0\0{}", 10);
    int fd = open(path, O_RDONLY);
    expect_error(
        f8_st_read_header(fd, 12, "f", 3, &p.names, &p.list, NULL, &err), &err,
        F8_ERR_IO,
        "f: ends at byte 10, 2 more were expected; did it change "
        "while it was read?");
    close(fd);
    parsed_free(&p);
}

/* ---- JSON that is wrong -------------------------------------------------- */

static void test_structure(void **state)
{
    static const bad_case cases[] = {
        {"[]", 0, "f: header, byte 0: expected '{', found '['"},
        {"\"a\"", 0, "f: header, byte 0: expected '{', found a string"},
        {"   ", 0, "f: header, byte 3: expected '{', found the end"},
        {"\xef\xbb\xbf{}", 0,
         "f: header, byte 0: expected '{', found a byte order mark"},
        {"{", 0, "f: header, byte 1: expected a tensor name, found the end"},
        {"{1:2}", 0, "f: header, byte 1: expected a tensor name, found 1"},
        {"{\"a\"}", 0, "f: header, byte 4: expected ':', found '}'"},
        {"{" U8_AT("a", 0, 2), 2,
         "f: header, byte 52: expected ',' or '}', found the end"},
        {"{" U8_AT("a", 0, 2) ",}", 2,
         "f: header, byte 53: expected a tensor name, found '}'"},
        {"{,}", 0, "f: header, byte 1: expected a tensor name, found ','"},
        {"{" U8_AT("a", 0, 2) " " U8_AT("b", 2, 4) "}", 4,
         "f: header, byte 53: expected ',' or '}', found a string"},
        {"{} x", 0,
         "f: header, byte 3: expected nothing but white space, found x"},
        {"{}}", 0,
         "f: header, byte 2: expected nothing but white space, found '}'"},
        {"{}{}", 0,
         "f: header, byte 2: expected nothing but white space, found '{'"},
    };
    parsed p = {0};
    f8_error err = {0};

    assert_int_equal(strlen(U8_AT("a", 0, 2)), 51);
    check_bad(*state, cases, COUNT_OF(cases));
    /* A NUL is neither a space nor an end. */
    expect_error(
        parse_bytes(*state, "{}\0", 3, 0, &p, &err), &err, F8_ERR_FORMAT,
        "f: header, byte 2: expected nothing but white space, found byte 0x00");
    parsed_free(&p);
}

static void test_syntax(void **state)
{
    static const bad_case cases[] = {
        {"{\"a", 0,
         "f: header, byte 3: expected a closing '\"', found the end"},
        {"{\"a\":", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":{\"shape\":[1,]}}", 0,
         "f: tensor a: shape: expected digits of a number below 2^63, found "
         "']'"},
        {"{\"a\":{\"shape\":[1 1]}}", 0,
         "f: header, byte 17: expected ',' or ']', found 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],"
         "\"data_offsets\":[0,0]}}",
         0, "f: tensor a: dtype twice"},
        {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0,
         "f: header, byte 31: the object that ends here has two keys \"a\""},
        {"{\"a\xff\":1}", 0, "f: header, byte 3: expected UTF-8"},
        {"{\"\xc0\x80\":1}", 0, /* NUL in two bytes */
         "f: header, byte 2: expected UTF-8"},
        {"{\"\xed\xa0\x80\":1}", 0, /* half of a surrogate pair */
         "f: header, byte 2: expected UTF-8"},
        {"{\"\xf4\x90\x80\x80\":1}", 0, /* U+110000 */
         "f: header, byte 2: expected UTF-8"},
        {"{\"\xe2\x82", 0, "f: header, byte 2: expected UTF-8"},
        {"{\"\\ud800\":1}", 0,
         "f: header, byte 2: expected both halves of a surrogate pair, found "
         "one"},
        {"{\"\\udc00\\ud800\":1}", 0,
         "f: header, byte 2: expected both halves of a surrogate pair, found "
         "one"},
        {"{\"\\ud800\\u0041\":1}", 0,
         "f: header, byte 2: expected both halves of a surrogate pair, found "
         "one"},
        {"{\"\\u12g4\":1}", 0,
         "f: header, byte 2: expected \\u and four hexadecimal digits"},
        {"{\"\\x41\":1}", 0,
         "f: header, byte 2: expected \\ and one of \"\\/bfnrtu"},
        {"{\"a\\u0000b\":1}", 0,
         "f: header, byte 3: expected no NUL character"},
        {"{\"__metadata__\":{\"a\":\"\\u0000\"}}", 0,
         "f: header, byte 22: expected no NUL character"},
        {"{\"a\nb\":1}", 0,
         "f: header, byte 3: expected no control character in a string"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

/* A parser that takes these has taken 2^63 for less than 0, 02 for 2 or 8, -0
 * for 0, and looked over a NUL that stands behind a number (jansson 2.14). */
static void test_numbers(void **state)
{
    static const char *const numbers[][2] = {
        {"-1", "-1"},
        {"-0", "-0"},
        {"2.0", "2.0"},
        {"2e0", "2e0"},
        {"2E0", "2E0"},
        {"02", "02"},
        {"00", "00"},
        {"+2", "+2"},
        {"2.", "2."},
        {"0x2", "0x2"},
        {"2a", "2a"},
        {"\"2\"", "a string"},
        {"true", "true"},
        {"null", "null"},
        {"[2]", "'['"},
        {"\xd9\xa2", "byte 0xd9"},
        {"NaN", "NaN"},
        {"9223372036854775808", "9223372036854775808"},
        {"18446744073709551616", "18446744073709551616"},
        {"99999999999999999999999999", "999999999999999999999999..."},
    };

    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        char shape[200], offsets[200], said[2][200];
        snprintf(shape, sizeof shape, ENTRY("\"U8\"", "[%s]", "[0,2]"),
                 numbers[i][0]);
        snprintf(offsets, sizeof offsets, ENTRY("\"U8\"", "[2]", "[0,%s]"),
                 numbers[i][0]);
        snprintf(said[0], sizeof said[0],
                 "f: tensor a: shape: expected digits of a number below 2^63, "
                 "found %s",
                 numbers[i][1]);
        snprintf(said[1], sizeof said[1],
                 "f: tensor a: data_offsets: expected digits of a number below "
                 "2^63, found %s",
                 numbers[i][1]);
        const bad_case cases[] = {{shape, 2, said[0]}, {offsets, 2, said[1]}};
        check_bad(*state, cases, COUNT_OF(cases));
    }
    static const char nul[] = ENTRY("\"U8\"", "[2\0]", "[0,2]");
    parsed p = {0};
    f8_error err = {0};
    expect_error(parse_bytes(*state, nul, sizeof nul - 1, 2, &p, &err), &err,
                 F8_ERR_FORMAT,
                 "f: header, byte 29: expected ',' or ']', found byte 0x00");
    parsed_free(&p);
}

static void test_fields(void **state)
{
    static const bad_case cases[] = {
        {"{\"a\":1}", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":[]}", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":{}}", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":{\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],"
         "\"x\":1}}",
         0, "f: tensor a: expected an object of dtype, shape, data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"offsets\":[0,0]}}", 0,
         "f: tensor a: expected an object of dtype, shape, data_offsets"},
        /* Names come from files: a terminal sequence is shown, not sent. */
        {"{\"a\\u001b[31m\":1}", 0,
         "f: tensor a\\x1b[31m: expected an object of dtype, shape, "
         "data_offsets"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_bad_dtype_and_shape(void **state)
{
    static const bad_case cases[] = {
        {ENTRY("\"F4\"", "[0]", "[0,0]"), 0,
         "f: tensor a: unknown dtype \"F4\""},
        {ENTRY("\"bf16\"", "[0]", "[0,0]"), 0,
         "f: tensor a: unknown dtype \"bf16\""},
        {ENTRY("\"\"", "[0]", "[0,0]"), 0, "f: tensor a: unknown dtype \"\""},
        {ENTRY("1", "[0]", "[0,0]"), 0,
         "f: tensor a: dtype: expected a string, found 1"},
        {ENTRY("\"U8\"", "2", "[0,2]"), 2,
         "f: tensor a: shape: expected an array, found 2"},
        {ENTRY("\"U8\"", "{}", "[0,2]"), 2,
         "f: tensor a: shape: expected an array, found '{'"},
        {ENTRY("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1,
         "f: tensor a: expected at most 8 dimensions, found more"},
        /* 2^32 * 2^32 = 2^64, which would be 0 without a check. */
        {ENTRY("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0,
         "f: tensor a: shape: the product overflows"},
        /* 2^62 * 4 = 2^64, then * 2. */
        {ENTRY("\"U8\"", "[4611686018427387904,4,2]", "[0,0]"), 0,
         "f: tensor a: shape: the product overflows"},
        /* 2^61 elements of 8 bytes. */
        {ENTRY("\"F64\"", "[2305843009213693952]", "[0,0]"), 0,
         "f: tensor a: shape: the product overflows"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_bad_offsets(void **state)
{
    static const bad_case cases[] = {
        {ENTRY("\"U8\"", "[2]", "2"), 2,
         "f: tensor a: data_offsets: expected [begin, end], found 2"},
        {ENTRY("\"U8\"", "[2]", "[]"), 2,
         "f: tensor a: data_offsets: expected two numbers [begin, end]"},
        {ENTRY("\"U8\"", "[2]", "[2]"), 2,
         "f: tensor a: data_offsets: expected two numbers [begin, end]"},
        {ENTRY("\"U8\"", "[2]", "[0,2,2]"), 2,
         "f: tensor a: data_offsets: expected two numbers [begin, end]"},
        {ENTRY("\"U8\"", "[2]", "[2,0]"), 2,
         "f: tensor a: data_offsets: expected begin <= end, found [2, 0]"},
        {ENTRY("\"U8\"", "[4]", "[0,4]"), 3,
         "f: tensor a: ends at data byte 4, but the file has only 3; is it "
         "truncated?"},
        {ENTRY("\"U8\"", "[1]", "[0,9223372036854775807]"), 1,
         "f: tensor a: ends at data byte 9223372036854775807, but the file has "
         "only 1; is it truncated?"},
        {ENTRY("\"BF16\"", "[2]", "[0,3]"), 3,
         "f: tensor a: dtype and shape need 4 bytes, data_offsets give 3"},
        {ENTRY("\"U8\"", "[0]", "[0,1]"), 1,
         "f: tensor a: dtype and shape need 0 bytes, data_offsets give 1"},
        {ENTRY("\"U8\"", "[]", "[0,0]"), 0,
         "f: tensor a: dtype and shape need 1 bytes, data_offsets give 0"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_metadata_and_names(void **state)
{
    static const bad_case cases[] = {
        {"{\"__metadata__\":1}", 0,
         "f: header, byte 16: expected __metadata__ to be an object of "
         "strings, found 1"},
        {"{\"__metadata__\":{\"a\":1}}", 0,
         "f: header, byte 21: expected a string, found 1"},
        {"{\"__metadata__\":{\"a\":{}}}", 0,
         "f: header, byte 21: expected a string, found '{'"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0,
         "f: header: expected one __metadata__, found a second"},
        {"{" U8_AT("a", 0, 2) "," U8_AT("a", 2, 4) "}", 4,
         "f: tensor a: stands in the header twice"},
        /* Two spellings of one name. */
        {"{" U8_AT("b", 0, 2) "," U8_AT("a", 2, 4) "," U8_AT("\\u0061", 4,
                                                             6) "}",
         6, "f: tensor a: stands in the header twice"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_tiling(void **state)
{
    static const bad_case cases[] = {
        {"{" U8_AT("a", 2, 4) "}", 4,
         "f: tensor a: expected to begin at data byte 0, where the one before "
         "it ends, found 2 (a hole)"},
        {"{" U8_AT("b", 4, 6) "," U8_AT("a", 0, 2) "}", 6,
         "f: tensor b: expected to begin at data byte 2, where the one before "
         "it ends, found 4 (a hole)"},
        {"{" U8_AT("a", 0, 2) "," U8_AT("b", 1, 3) "}", 3,
         "f: tensor b: expected to begin at data byte 2, where the one before "
         "it ends, found 1 (an overlap)"},
        {"{" U8_AT("a", 0, 2) "," U8_AT("b", 0, 2) "}", 2,
         "f: tensor b: expected to begin at data byte 2, where the one before "
         "it ends, found 0 (an overlap)"},
        /* A tensor without elements in the middle of another. */
        {"{" U8_AT("a", 0, 2) ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],"
                              "\"data_offsets\":[1,1]}}",
         2,
         "f: tensor b: expected to begin at data byte 2, where the one before "
         "it ends, found 1 (an overlap)"},
        {"{" U8_AT("a", 0, 2) "}", 3,
         "f: the header's tensors end at data byte 2, but the file has 3"},
        {"{}", 1,
         "f: the header's tensors end at data byte 0, but the file has 1"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

/* Names, entries and metadata have a longest text, far beyond any model's, so
 * that a hostile header cannot make the parser take memory without end. */
static void test_longest_texts(void **state)
{
    f8_buf header = {0};
    char name[600];
    parsed p = {0};
    f8_error err = {0};

    memset(name, 'n', sizeof name);
    name[512] = '\0';
    f8_buf_printf(&header, "{\"%s\":%s}", name,
                  "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}");
    parse_good(*state, header.data, 0, &p);
    assert_string_equal(p.list.items[0].name, name);
    parsed_free(&p);
    name[512] = 'n';
    name[513] = '\0';
    header.length = 0;
    f8_buf_printf(&header, "{\"%s\":%s}", name,
                  "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}");
    expect_error(
        parse_bytes(*state, header.data, header.length, 0, &p, &err), &err,
        F8_ERR_FORMAT,
        "f: header, byte 1: expected a tensor name of at most 512 bytes");
    parsed_free(&p);
    header.length = 0;
    f8_buf_printf(&header, "{\"a\":{\"dtype\":\"%0100d\"}}", 0);
    expect_error(parse_bytes(*state, header.data, header.length, 0, &p, &err),
                 &err, F8_ERR_FORMAT,
                 "f: header, byte 14: expected a dtype of at most 64 bytes");
    parsed_free(&p);
    /* 4 MiB of metadata, which says nothing of the kind. */
    for (int more = 0; more < 2; more++) {
        header.length = 0;
        f8_buf_printf(&header, "{\"__metadata__\":{\"a\":\"%0*d\"}}",
                      (4 << 20) - 8 + more, 0);
        f8_status status =
            parse_bytes(*state, header.data, header.length, 0, &p, &err);
        if (more)
            expect_error(status, &err, F8_ERR_FORMAT,
                         "f: header, byte 16: expected a value of at most "
                         "4194304 bytes");
        else
            expect_ok(status, &err);
        parsed_free(&p);
    }
    f8_buf_free(&header);
}

/* ---- writing ------------------------------------------------------------- */

static void test_written_bytes(void **state)
{
    /* 279 bytes of JSON and one space: 280 = 0x118. */
    static const char expected[] =
        "\x18\x01\0\0\0\0\0\0"
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"\\\"\\\\\\n\\u0001\xc3\xa9\":{\"dtype\":\"BF16\",\"shape\":[2,"
        "300],\"data_offsets\":[8,1208]},"
        "\"c\":{\"dtype\":\"F8_E4M3\",\"shape\":[0],\"data_offsets\":"
        "[1208,1208]},\"d\":{\"dtype\":\"U8\",\"shape\":[1],"
        "\"data_offsets\":[1208,1209]}} ";
    static const uint64_t matrix[] = {2, 300}, none[] = {0}, one[] = {1};
    f8_buf buf = {0};

    (void)state;
    f8_buf_puts(&buf, "what stood here before is dropped");
    f8_st_header_begin(&buf);
    f8_st_header_add(&buf, "a", F8_DTYPE_I64, 0, NULL, 0, 8);
    f8_st_header_add(&buf, "\"\\\n\x01\xc3\xa9", F8_DTYPE_BF16, 2, matrix, 8,
                     1208);
    f8_st_header_add(&buf, "c", F8_DTYPE_E4M3, 1, none, 1208, 1208);
    f8_st_header_add(&buf, "d", F8_DTYPE_U8, 1, one, 1208, 1209);
    f8_st_header_finish(&buf);
    assert_false(buf.failed);
    assert_int_equal(buf.length, sizeof expected - 1);
    assert_memory_equal(buf.data, expected, sizeof expected - 1);
    f8_buf_free(&buf);
}

/* Whatever the length of a name, data begin at a multiple of 8, at most 7
 * spaces are added, and what was written is read back. */
static void test_padding_and_round_trip(void **state)
{
    static const uint64_t shape[] = {3};
    char name[20] = "";

    for (size_t n = 1; n <= 17; n++) {
        parsed p = {0};
        f8_error err = {0};
        f8_buf buf = {0};
        memset(name, 'n', n);
        f8_st_header_begin(&buf);
        f8_st_header_add(&buf, name, F8_DTYPE_U16, 1, shape, 0, 6);
        f8_st_header_finish(&buf);
        assert_int_equal(buf.length % 8, 0);
        size_t last = buf.length - 1;
        while (buf.data[last] == ' ')
            last--;
        assert_true(buf.data[last] == '}');
        assert_true(buf.length - 1 - last < 8);
        const char *path = path_in(*state, "f");
        f8_buf_append(&buf, "\0\0\0\0\0\0", 6);
        put_file(path, buf.data, buf.length);
        expect_ok(parse_file(path, &p, &err), &err);
        assert_int_equal(p.list.count, 1);
        expect_tensor(&p, 0, name, F8_DTYPE_U16, 1, 3, buf.length - 6, 6);
        parsed_free(&p);
        f8_buf_free(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes),
        TEST_IN_DIR(test_offset_order),
        TEST_IN_DIR(test_empty_header),
        TEST_IN_DIR(test_space),
        TEST_IN_DIR(test_scalar_and_largest_rank),
        TEST_IN_DIR(test_no_elements),
        TEST_IN_DIR(test_names),
        TEST_IN_DIR(test_two_files_in_one_list),
        cmocka_unit_test(test_file_of_the_python_package),
        TEST_IN_DIR(test_length),
        TEST_IN_DIR(test_file_that_shrank),
        TEST_IN_DIR(test_structure),
        TEST_IN_DIR(test_syntax),
        TEST_IN_DIR(test_numbers),
        TEST_IN_DIR(test_fields),
        TEST_IN_DIR(test_bad_dtype_and_shape),
        TEST_IN_DIR(test_bad_offsets),
        TEST_IN_DIR(test_metadata_format),
        TEST_IN_DIR(test_metadata_and_names),
        TEST_IN_DIR(test_tiling),
        TEST_IN_DIR(test_longest_texts),
        cmocka_unit_test(test_written_bytes),
        TEST_IN_DIR(test_padding_and_round_trip),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
