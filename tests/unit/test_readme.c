/* test_readme.c - the front matter of a README.md: what is found, what is
 * none, and that nothing outside of the folder is read. */
#include "helpers.h"

#include "readme.h"

static void expect_card(const char *root, const char *expected)
{
    static char card[F8_CARD_BYTES];
    f8_error err = {0};
    memset(card, 'x', sizeof card);
    expect_ok(f8_read_card(root, false, card, &err), &err);
    assert_string_equal(card, expected);
}

static void test_found_and_not_found(void **state)
{
    static const struct {
        const char *text, *card;
    } cases[] = {
        {"---\nlicense: mit\n---\n# Title\n", "license: mit\n"},
        {"---\r\na: 1\r\nb: 2\r\n---\r\ntext", "a: 1\r\nb: 2\r\n"},
        {"--- \t\na: 1\n---", "a: 1\n"},
        {"---\n---\n", ""},
        {"---\na: |\n  ---\n  b\n---\n---\n", "a: |\n  ---\n  b\n"},
        {"---\na: caf\xc3\xa9\n---\n", "a: caf\xc3\xa9\n"},
        {"---\na: \xff\n---\n", ""},
        {"---\na: 1\n", ""},
        {"---\na: 1\n---- \n", ""},
        {"----\na: 1\n---\n", ""},
        {"\n---\na: 1\n---\n", ""},
        {" ---\na: 1\n---\n", ""},
        {"\xef\xbb\xbf---\na: 1\n---\n", ""},
        {"# Title\n", ""},
        {"---", ""},
        {"--", ""},
        {"", ""},
    };
    const char *path = path_in(*state, "README.md");
    expect_card(*state, "");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put_text(path, cases[i].text);
        expect_card(*state, cases[i].card);
    }
}

/* The longest that is read, and one byte more. */
static void test_longest(void **state)
{
    const char *path = path_in(*state, "README.md");
    for (size_t more = 0; more < 2; more++) {
        size_t n = F8_CARD_BYTES - 1 + more;
        char *text = malloc(n + 100), *card = malloc(n + 1);
        assert_non_null(text);
        assert_non_null(card);
        memset(card, 'a', n);
        card[n - 1] = '\n';
        card[n] = '\0';
        snprintf(text, n + 100, "---\n%s---\nbody\n", card);
        put_text(path, text);
        expect_card(*state, more ? "" : card);
        free(text);
        free(card);
    }
}

static void test_nul(void **state)
{
    static const char text[] = "---\na: \0b\n---\n";
    int fd = open(path_in(*state, "README.md"), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(close(fd), 0);
    expect_card(*state, "");
}

static void test_links(void **state)
{
    static char card[F8_CARD_BYTES];
    char message[1024];
    f8_error err = {0};
    const char *src = path_in(*state, "src"), *out = path_in(*state, "secret");
    make_dir(src);
    put_text(out, "---\nkey: private\n---\n");
    assert_int_equal(symlink(out, path_in(*state, "src/README.md")), 0);
    snprintf(message, sizeof message,
             "%s/README.md: a link that leads out of the folder, to %s; "
             "expected a file of %s (--follow-links allows it)",
             src, out, src);
    expect_error(f8_read_card(src, false, card, &err), &err, F8_ERR_REFUSED,
                 message);
    assert_string_equal(card, "");
    expect_ok(f8_read_card(src, true, card, &err), &err);
    assert_string_equal(card, "key: private\n");
    /* One that stays inside, and one to nowhere. */
    put_text(path_in(*state, "src/CARD.md"), "---\na: 1\n---\n");
    assert_int_equal(unlink(path_in(*state, "src/README.md")), 0);
    assert_int_equal(symlink("CARD.md", path_in(*state, "src/README.md")), 0);
    expect_card(src, "a: 1\n");
    assert_int_equal(unlink(path_in(*state, "src/CARD.md")), 0);
    expect_card(src, "");
}

/* What is no plain file is no card, whatever it is. */
static void test_no_plain_file(void **state)
{
    const char *path = path_in(*state, "README.md");
    expect_card(*state, "");
    make_dir(path);
    expect_card(*state, "");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0666), 0);
    expect_card(*state, "");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("README.md", path), 0);
    expect_card(*state, "");
    assert_int_equal(unlink(path), 0);
    /* Root may read all. */
    put_text(path, "---\na: 1\n---\n");
    assert_int_equal(chmod(path, 0), 0);
    expect_card(*state, geteuid() == 0 ? "a: 1\n" : "");
}

static void test_no_folder(void **state)
{
    static char card[F8_CARD_BYTES];
    f8_error err = {0};
    const char *none = path_in(*state, "none");
    assert_int_equal(f8_read_card(none, false, card, &err), F8_ERR_IO);
    assert_non_null(strstr(err.message, none));
    assert_string_equal(card, "");
}

/* Whatever it is cut to, what is found lies within. */
static void test_every_prefix(void **state)
{
    static const char text[] = "---\r\na: 1\n---x\n--- \nrest";
    (void)state;
    for (size_t n = 0; n < sizeof text; n++) {
        size_t first = 0, bytes = 0;
        char *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, text, n);
        bool found = f8_front_matter_find(copy, n, &first, &bytes);
        if (n == strlen("---\r\na: 1\n---")) {
            assert_true(found);
            assert_int_equal(bytes, strlen("a: 1\n"));
        } else {
            assert_int_equal(found, n >= strlen("---\r\na: 1\n---x\n---"));
            if (found)
                assert_int_equal(bytes, strlen("a: 1\n---x\n"));
        }
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_found_and_not_found),
        TEST_IN_DIR(test_longest),
        TEST_IN_DIR(test_nul),
        TEST_IN_DIR(test_links),
        TEST_IN_DIR(test_no_plain_file),
        TEST_IN_DIR(test_no_folder),
        cmocka_unit_test(test_every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
