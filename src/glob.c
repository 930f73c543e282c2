/* glob.c - name patterns. See glob.h. */
#include "glob.h"

#include <string.h>

typedef enum match { NO, YES, NEVER } match;

/* Whether pattern matches all of text. NEVER is a NO that no later start in
 * text can change, because text came to its end first: without it every `*`
 * would try again what the one before it has tried. A `{n}` has no choice
 * here: before a `*` one digit is enough, before anything else of a plain
 * pattern it takes all. */
/* NOLINTNEXTLINE(misc-no-recursion): once a wildcard */
static match match_from(const char *pattern, const char *text)
{
    for (;;) {
        if (!*pattern)
            return *text ? NO : YES;
        if (*pattern == '*') {
            match found = NO;
            while (*pattern == '*')
                pattern++;
            if (!*pattern)
                return YES;
            bool is_plain = *pattern != '?' && *pattern != '{';
            for (; found == NO && *text; text++) {
                if (!is_plain || *text == *pattern)
                    found = match_from(pattern, text);
            }
            return found == NO ? NEVER : found;
        }
        if (!*text)
            return NEVER;
        if (!strncmp(pattern, "{n}", 3)) {
            size_t n = strspn(text, "0123456789");
            if (n == 0)
                return NO;
            pattern += 3;
            text += *pattern == '*' ? 1 : n;
            continue;
        }
        if (*pattern == '?') { /* a character may have several bytes */
            while (((unsigned char)text[1] & 0xc0) == 0x80)
                text++;
        } else if (*pattern != *text) {
            return NO;
        }
        pattern++;
        text++;
    }
}

/* Whether a `{n}` has a choice of how many digits it takes: something that
 * may be a digit follows. */
static bool has_choices(const char *pattern)
{
    while ((pattern = strstr(pattern, "{n}"))) {
        pattern += 3;
        if (*pattern &&
            (strchr("?0123456789", *pattern) || !strncmp(pattern, "{n}", 3)))
            return true;
    }
    return false;
}

/* One more piece of a pattern: from the places in text that all before it can
 * reach to those that can be reached with it. Returns the piece's length. */
static size_t step(const char *pattern, const char *text, size_t n,
                   const bool *from, bool *to)
{
    bool any = false; /* some place before this one */

    memset(to, 0, n + 1);
    if (!strncmp(pattern, "{n}", 3)) {
        for (size_t i = 0; i < n; i++) {
            any = (any || from[i]) && text[i] >= '0' && text[i] <= '9';
            to[i + 1] = any;
        }
        return 3;
    }
    for (size_t i = 0; *pattern == '*' && i <= n; i++)
        to[i] = any = any || from[i];
    for (size_t i = 0; *pattern != '*' && i < n; i++) {
        size_t end = i + 1;
        while (*pattern == '?' && ((unsigned char)text[end] & 0xc0) == 0x80)
            end++;
        if (from[i] && (*pattern == '?' || *pattern == text[i]))
            to[end] = true;
    }
    return 1;
}

/* The same as match_from in time that grows with both lengths only: trying
 * every choice of every `{n}` would take ages for `{n}{n}{n}{n}`. */
static bool match_choices(const char *pattern, const char *text)
{
    bool places[2][F8_NAME_MAX_BYTES + 1] = {{true}};
    size_t n = strlen(text);
    unsigned now = 0;

    if (n > F8_NAME_MAX_BYTES)
        return false;
    for (; *pattern; now ^= 1)
        pattern += step(pattern, text, n, places[now], places[now ^ 1]);
    return places[now][n];
}

bool f8_glob_match(const char *pattern, const char *text)
{
    /* Most names differ before the first wildcard. */
    for (; *pattern && !strchr("*?{", *pattern); pattern++, text++) {
        if (*pattern != *text)
            return false;
    }
    return has_choices(pattern) ? match_choices(pattern, text)
                                : match_from(pattern, text) == YES;
}
