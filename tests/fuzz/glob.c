/* glob.c - fuzz target: name patterns. The input is a pattern, a line break
 * and a text; what f8_glob_match says must be what the definition in
 * docs/rules.md says, spelled out as a table of all pairs of suffixes. */
#include "fuzz.h"

#include "glob.h"

enum { MOST = 200 };

static size_t character(const char *text)
{
    size_t n = 1;

    while (((unsigned char)text[n] & 0xc0) == 0x80)
        n++;
    return n;
}

/* Whether pattern[i..] matches text[k..], given the answers for all longer i
 * and k in `table`. */
static bool suffixes(const char *pattern, const char *text, size_t i, size_t k,
                     bool (*table)[MOST + 2])
{
    if (!pattern[i])
        return !text[k];
    if (pattern[i] == '*')
        return table[i + 1][k] || (text[k] && table[i][k + 1]);
    if (!strncmp(pattern + i, "{n}", 3)) {
        for (size_t end = k; text[end] >= '0' && text[end] <= '9'; end++) {
            if (table[i + 3][end + 1])
                return true;
        }
        return false;
    }
    if (!text[k])
        return false;
    if (pattern[i] == '?')
        return table[i + 1][k + character(text + k)];
    return pattern[i] == text[k] && table[i + 1][k + 1];
}

static bool reference(const char *pattern, const char *text)
{
    static bool table[MOST + 2][MOST + 2];
    size_t n = strlen(pattern), m = strlen(text);

    for (size_t i = n + 1; i-- > 0;) {
        for (size_t k = m + 1; k-- > 0;)
            table[i][k] = suffixes(pattern, text, i, k, table);
    }
    return table[0][0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > MOST)
        return -1;
    char *pattern = copy_string(data, size);
    char *line = strchr(pattern, '\n');
    char *text = line ? copy_string((const uint8_t *)line + 1, strlen(line + 1))
                      : copy_string(NULL, 0);

    if (line)
        *line = '\0';
    bool expected = reference(pattern, text);
    require(f8_glob_match(pattern, text) == expected,
            "pattern '%s', text '%s': expected %s", pattern, text,
            expected ? "a match" : "no match");
    free(text);
    free(pattern);
    return 0;
}
