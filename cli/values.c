/* values.c - numbers, sizes and nearest names; see values.h.
 *
 * strtoull is not used: it skips blanks, accepts signs and wraps negative
 * numbers, and every one of these would turn a typing mistake into a
 * conversion with an option nobody asked for. */
#include "values.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* Longer words get no suggestion: no name here comes near this length, and
 * the table of distances stays small enough for the stack. */
#define LONGEST_WORD 48

/* Six decimals times the largest unit, 10^6 x 2^40 = 1.1e18, still fit in 64
 * bits, so that fractions are computed exactly in integers. */
#define MOST_DECIMALS 6

static const struct unit {
    const char *name;
    uint64_t bytes;
} units[] = {
    {"kB", UINT64_C(1000)},       {"MB", UINT64_C(1000000)},
    {"GB", UINT64_C(1000000000)}, {"TB", UINT64_C(1000000000000)},
    {"KiB", UINT64_C(1) << 10},   {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},   {"TiB", UINT64_C(1) << 40},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads digits at *text and moves past them; false when there are none or
 * their number needs more than 64 bits. */
static bool read_digits(const char **text, uint64_t *number)
{
    const char *at = *text;
    uint64_t sum = 0;
    if (!is_digit(*at))
        return false;
    for (; is_digit(*at); at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *text = at;
    *number = sum;
    return true;
}

/* Damerau-Levenshtein distance in its usual restricted form: insertions,
 * deletions, replacements and swaps of neighbours, each counting one. Case
 * counts nothing: --JSON is --json. Both words are at most LONGEST_WORD. */
static size_t distance_of(const char *a, const char *b)
{
    size_t table[LONGEST_WORD + 1][LONGEST_WORD + 1];
    size_t rows = strlen(a), cols = strlen(b);
    for (size_t i = 0; i <= rows; i++)
        table[i][0] = i;
    for (size_t j = 0; j <= cols; j++)
        table[0][j] = j;
    for (size_t i = 1; i <= rows; i++) {
        for (size_t j = 1; j <= cols; j++) {
            int x = tolower((unsigned char)a[i - 1]);
            int y = tolower((unsigned char)b[j - 1]);
            size_t best = table[i - 1][j - 1] + (x != y);
            if (table[i - 1][j] + 1 < best)
                best = table[i - 1][j] + 1;
            if (table[i][j - 1] + 1 < best)
                best = table[i][j - 1] + 1;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]) &&
                table[i - 2][j - 2] + 1 < best)
                best = table[i - 2][j - 2] + 1;
            table[i][j] = best;
        }
    }
    return table[rows][cols];
}

bool value_count(const char *text, uint64_t *count)
{
    return read_digits(&text, count) && *text == '\0';
}

bool value_size(const char *text, uint64_t *bytes)
{
    uint64_t whole = 0, fraction = 0, divisor = 1;
    bool has_point = false;
    if (!read_digits(&text, &whole))
        return false;
    if (*text == '.') {
        const char *first = ++text;
        has_point = true;
        if (!read_digits(&text, &fraction) || text - first > MOST_DECIMALS)
            return false;
        for (ptrdiff_t i = 0; i < text - first; i++)
            divisor *= 10;
    }
    if (*text == '\0') {
        *bytes = whole;
        return !has_point;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(text, units[i].name) != 0)
            continue;
        uint64_t part = fraction * units[i].bytes / divisor;
        if (whole > (UINT64_MAX - part) / units[i].bytes)
            return false;
        *bytes = whole * units[i].bytes + part;
        return true;
    }
    return false;
}

bool value_rate(const char *text, uint64_t *bytes_per_second)
{
    char size[64];
    size_t n = strlen(text);

    if (n < 2 || n - 2 >= sizeof size || strcmp(text + n - 2, "/s") != 0)
        return false;
    memcpy(size, text, n - 2);
    size[n - 2] = '\0';
    return value_size(size, bytes_per_second);
}

bool value_hub_id(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    size_t owner = strspn(text, letters);
    if (owner == 0 || text[owner] != '/')
        return false;
    size_t name = strspn(text + owner + 1, letters);
    return name > 0 && text[owner + 1 + name] == '\0';
}

void value_nearest_begin(value_nearest *nearest, const char *typed)
{
    /* A third of the word may be wrong: one letter of three, two of six.
     * More than that is another word, and a wild guess helps nobody. */
    nearest->typed = typed;
    nearest->name = NULL;
    nearest->distance = (strlen(typed) + 2) / 3 + 1;
}

void value_nearest_offer(value_nearest *nearest, const char *name)
{
    size_t typed = strlen(nearest->typed);
    if (typed > LONGEST_WORD || strlen(name) > LONGEST_WORD)
        return;
    size_t distance = distance_of(nearest->typed, name);
    /* The beginning of a name is the name, typed by someone in a hurry. */
    if (typed >= 3 && strncasecmp(nearest->typed, name, typed) == 0)
        distance = distance > 0;
    if (distance < nearest->distance) {
        nearest->distance = distance;
        nearest->name = name;
    }
}
