/* test_words.c - which of many words a text begins or ends with, held against
 * trying each of them. */
#include "helpers.h"

#include "words.h"

enum { WORDS = 40, SIZE = 24, TEXTS = 200 };

static unsigned draw(uint64_t *random, unsigned below)
{
    *random = *random * UINT64_C(6364136223846793005) + 1;
    return (unsigned)(*random >> 33) % below;
}

/* So few letters, and so often the same, that words lie within words; bytes on
 * both sides of the dot, and one that is negative as a char. */
static void make_text(uint64_t *random, char *text)
{
    static const char letters[] = "aaaa..-b\xff\x01";
    size_t n = 1 + draw(random, SIZE - 2);

    for (size_t i = 0; i < n; i++)
        text[i] = letters[draw(random, sizeof letters - 1)];
    text[n] = '\0';
}

static bool lies_in(const char *word, const char *text, size_t n,
                    f8_words_end end)
{
    size_t m = strlen(word);

    if (m > n)
        return false;
    if (end == F8_WORDS_BEHIND)
        return !memcmp(text + n - m, word, m);
    return !memcmp(text, word, m) && (m == n || text[m] == '.');
}

static size_t make_words(uint64_t *random, f8_words *words,
                         char texts[WORDS][SIZE])
{
    size_t count = 0, wanted = draw(random, WORDS + 1);

    for (size_t i = 0; i < wanted; i++) {
        bool is_new = true;
        make_text(random, texts[count]);
        for (size_t k = 0; k < count; k++)
            is_new = is_new && strcmp(texts[k], texts[count]) != 0;
        count += is_new;
    }
    for (size_t i = 0; i < count; i++)
        words->words[i] = (f8_word){.text = texts[i], .item = (uint32_t)i};
    words->count = (uint32_t)count;
    f8_words_order(words);
    return count;
}

/* The longest is found; a place told of it counts for all that lie within it,
 * and one gathered for it is the least of theirs. */
static void hold_against_trying(uint64_t *random, f8_words_end end)
{
    char texts[WORDS][SIZE], text[SIZE];
    f8_word all[WORDS];
    f8_words words = {.words = all, .end = end};

    size_t count = make_words(random, &words, texts);
    for (int i = 0; i < TEXTS; i++) {
        make_text(random, text);
        size_t n = strlen(text), longest = 0;
        uint32_t least = F8_WORD_NONE;
        for (uint32_t k = 0; k < count; k++)
            all[k].place = all[k].item;
        f8_words_gather(&words);
        for (uint32_t k = 0; k < count; k++) {
            if (!lies_in(texts[k], text, n, end))
                continue;
            longest = strlen(texts[k]) > longest ? strlen(texts[k]) : longest;
            least = k < least ? k : least;
        }
        f8_word *found = f8_words_find(&words, text, n);
        assert_int_equal(found ? found->length : 0, longest);
        if (!found)
            continue;
        assert_int_equal(found->place, least);
        for (uint32_t k = 0; k < count; k++)
            all[k].place = F8_WORD_NONE;
        found->place = 7;
        f8_words_pass_on(&words);
        for (uint32_t k = 0; k < count; k++)
            assert_int_equal(all[k].place == 7,
                             lies_in(all[k].text, text, n, end));
    }
}

static void test_against_trying(void **state)
{
    uint64_t random = 1;

    (void)state;
    for (int i = 0; i < 500; i++) {
        hold_against_trying(&random, F8_WORDS_IN_FRONT);
        hold_against_trying(&random, F8_WORDS_BEHIND);
    }
}

/* Hundreds of words, each within the next: the text has none, all, or any of
 * them, and comes last in order. */
static void test_long_chain(void **state)
{
    enum { LONG = 300 };
    static char texts[LONG][LONG + 1];
    static f8_word all[LONG];
    f8_words words = {all, LONG, F8_WORDS_BEHIND};
    char text[LONG + 2];

    (void)state;
    for (size_t i = 0; i < LONG; i++) {
        memset(texts[i], 'a', i + 1);
        all[i] = (f8_word){.text = texts[i]};
    }
    f8_words_order(&words);
    for (size_t i = 0; i <= LONG; i++) {
        memset(text, 'b', sizeof text);
        memset(text + LONG + 1 - i, 'a', i);
        const f8_word *found = f8_words_find(&words, text, LONG + 1);
        assert_int_equal(found ? found->length : 0, i);
    }
}

/* Only so many bytes of the text count. */
static void test_part_of_a_text(void **state)
{
    f8_word one = {.text = "ab"};
    f8_words words = {&one, 1, F8_WORDS_BEHIND};

    (void)state;
    f8_words_order(&words);
    assert_ptr_equal(f8_words_find(&words, "xabx", 3), &one);
    assert_null(f8_words_find(&words, "xabx", 4));
    words.end = F8_WORDS_IN_FRONT;
    assert_ptr_equal(f8_words_find(&words, "abx", 2), &one);
    assert_null(f8_words_find(&words, "abx", 3));
    assert_ptr_equal(f8_words_find(&words, "ab.x", 4), &one);
    assert_null(f8_words_find(&words, "ab", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_trying),
        cmocka_unit_test(test_long_chain),
        cmocka_unit_test(test_part_of_a_text),
    };
    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
