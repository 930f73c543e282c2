/* words.c - see words.h. The words are sorted, in front by their first letters
 * and behind by their last, a dot before all others. Then every word of a text
 * lies within the last word that is not behind the text in that order, and of
 * those that do, each lies within the next: a chain. */
#include "words.h"

#include <stdlib.h>
#include <string.h>

/* A text as it is read from one of its ends. */
typedef struct reading {
    const char *text;
    size_t n;
    f8_words_end end;
} reading;

/* What is compared of the letter at k: the end comes before a dot, and that
 * before all else. */
static unsigned rank(const reading *r, size_t k)
{
    if (k == r->n)
        return 0;
    if (r->end == F8_WORDS_BEHIND)
        return (unsigned char)r->text[r->n - 1 - k] + 1U;
    return r->text[k] == '.' ? 1 : (unsigned char)r->text[k] + 1U;
}

/* How many letters both have in common, of which `known` are known. */
static size_t common(const reading *a, const reading *b, size_t known)
{
    enum { STEP = 8 };
    size_t n = a->n < b->n ? a->n : b->n, k = known;

    if (a->end == F8_WORDS_IN_FRONT)
        while (k + STEP <= n && !memcmp(a->text + k, b->text + k, STEP))
            k += STEP;
    else
        while (k + STEP <= n && !memcmp(a->text + a->n - k - STEP,
                                        b->text + b->n - k - STEP, STEP))
            k += STEP;
    while (k < n && rank(a, k) == rank(b, k))
        k++;
    return k;
}

static reading read_word(const f8_word *word, f8_words_end end)
{
    return (reading){word->text, word->length, end};
}

static int compare(const void *a, const void *b, f8_words_end end)
{
    reading x = read_word(a, end), y = read_word(b, end);
    size_t k = common(&x, &y, 0);
    unsigned i = rank(&x, k), j = rank(&y, k);

    return (i > j) - (i < j);
}

static int by_front(const void *a, const void *b)
{
    return compare(a, b, F8_WORDS_IN_FRONT);
}

static int by_end(const void *a, const void *b)
{
    return compare(a, b, F8_WORDS_BEHIND);
}

/* Whether a word that has k letters in common with a text lies in it whole, at
 * that end. */
static bool lies_within(const reading *word, const reading *text, size_t k)
{
    return k == word->n && (word->end == F8_WORDS_BEHIND || rank(text, k) <= 1);
}

/* From this word inwards the first that is shorter than k, in as many steps as
 * the chain's length has digits: jumps lead as far as those before allow. */
static uint32_t shorter(const f8_words *w, uint32_t i, size_t k)
{
    while (i != F8_WORD_NONE && w->words[i].length >= k) {
        uint32_t jump = w->words[i].jump;
        bool is_far = jump == F8_WORD_NONE || w->words[jump].length < k;
        i = is_far ? w->words[i].within : jump;
    }
    return i;
}

/* As far as the two before it together and one more, where those are equally
 * far: so any way along a chain takes few of them. */
static void set_within(f8_words *w, uint32_t i, uint32_t within)
{
    f8_word *word = &w->words[i];

    word->within = word->jump = within;
    word->depth = 0;
    if (within == F8_WORD_NONE)
        return;
    const f8_word *next = &w->words[within];
    word->depth = next->depth + 1;
    if (next->jump == F8_WORD_NONE)
        return;
    const f8_word *far = &w->words[next->jump];
    if (far->jump != F8_WORD_NONE &&
        next->depth - far->depth == far->depth - w->words[far->jump].depth)
        word->jump = far->jump;
}

/* Of the word before the text in order, with which it has k letters in common:
 * that one, or the longest within it that the text has too. */
static uint32_t longest(const f8_words *w, uint32_t i, const reading *text,
                        size_t k)
{
    reading word = read_word(&w->words[i], w->end);

    if (lies_within(&word, text, k))
        return i;
    /* In front there is a dot behind it in that word, as in the text only if
     * they have that in common too. */
    return shorter(w, i, w->end == F8_WORDS_BEHIND ? k + 1 : k);
}

void f8_words_order(f8_words *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        w->words[i].length = (uint32_t)strlen(w->words[i].text);
        w->words[i].place = F8_WORD_NONE;
    }
    if (w->count > 0)
        qsort(w->words, w->count, sizeof *w->words,
              w->end == F8_WORDS_BEHIND ? by_end : by_front);
    for (uint32_t i = 0; i < w->count; i++) {
        reading text = read_word(&w->words[i], w->end);
        uint32_t within = F8_WORD_NONE;
        if (i > 0) {
            reading before = read_word(&w->words[i - 1], w->end);
            within = longest(w, i - 1, &text, common(&before, &text, 0));
        }
        set_within(w, i, within);
    }
}

f8_word *f8_words_find(const f8_words *w, const char *text, size_t n)
{
    const reading sought = {text, n, w->end};
    /* The last word that is not behind the text lies in [low, high); what the
     * words at both ends have in common with it, all between them have. */
    uint32_t low = 0, high = w->count;
    size_t at_low = 0, at_high = 0;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        reading word = read_word(&w->words[middle], w->end);
        size_t k = common(&word, &sought, at_low < at_high ? at_low : at_high);
        if (rank(&word, k) <= rank(&sought, k)) {
            low = middle + 1;
            at_low = k;
        } else {
            high = middle;
            at_high = k;
        }
    }
    uint32_t found =
        low == 0 ? F8_WORD_NONE : longest(w, low - 1, &sought, at_low);
    return found == F8_WORD_NONE ? NULL : &w->words[found];
}

/* What lies within a word comes before it. */
void f8_words_pass_on(f8_words *w)
{
    for (uint32_t i = w->count; i-- > 0;) {
        const f8_word *word = &w->words[i];
        if (word->within != F8_WORD_NONE &&
            word->place < w->words[word->within].place)
            w->words[word->within].place = word->place;
    }
}

void f8_words_gather(f8_words *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        f8_word *word = &w->words[i];
        if (word->within != F8_WORD_NONE &&
            w->words[word->within].place < word->place)
            word->place = w->words[word->within].place;
    }
}
