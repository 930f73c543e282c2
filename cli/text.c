/* text.c - figures and safe names; see text.h. */
#include "text.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_tail(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Length of the well-formed UTF-8 character at `at`, 0 if there is none.
 * Reads no further than the terminating zero, which is no tail byte. */
static size_t character_length(const unsigned char *at)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t tails = 0;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf)
        tails = 1;
    else if (at[0] >= 0xe0 && at[0] <= 0xef)
        tails = 2;
    else if (at[0] >= 0xf0 && at[0] <= 0xf4)
        tails = 3;
    else
        return 0;
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF. */
    if (at[0] == 0xe0)
        low = 0xa0;
    if (at[0] == 0xed)
        high = 0x9f;
    if (at[0] == 0xf0)
        low = 0x90;
    if (at[0] == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i <= tails; i++) {
        if (!is_tail(at[i]))
            return 0;
    }
    return tails + 1;
}

/* Marks that change the direction of text, and so what a line seems to say:
 * U+061C, U+200E and F, U+202A to E, U+2066 to 9; and U+2028 and 9, which
 * break lines. */
static bool is_direction_mark(const unsigned char *at)
{
    if (at[0] == 0xd8 && at[1] == 0x9c)
        return true;
    if (at[0] != 0xe2 || !is_tail(at[1]) || !is_tail(at[2]))
        return false;
    if (at[1] == 0x80)
        return at[2] == 0x8e || at[2] == 0x8f ||
               (at[2] >= 0xa8 && at[2] <= 0xae);
    return at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9;
}

/* C0, DEL, and C1, which terminals obey in its UTF-8 form too; U+FFFE and F,
 * which are no characters and which XML does not allow. */
static bool is_control(const unsigned char *at)
{
    if (at[0] == 0xef && at[1] == 0xbf && at[2] >= 0xbe)
        return true;
    return at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] <= 0x9f) ||
           is_direction_mark(at);
}

figure text_count(uint64_t count)
{
    figure out;
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t used = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            out.text[used++] = ',';
        out.text[used++] = digits[i];
    }
    out.text[used] = '\0';
    return out;
}

figure text_bytes(uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    figure out;
    double value = (double)bytes / 1000;
    size_t unit = 0;
    if (bytes < 1000) {
        snprintf(out.text, sizeof out.text, "%" PRIu64 " B", bytes);
        return out;
    }
    /* 999.95 would be printed as 1000.0. */
    while (value >= 999.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    snprintf(out.text, sizeof out.text, "%.1f %s", value, units[unit]);
    return out;
}

figure text_bytes_fully(uint64_t bytes)
{
    figure out;
    snprintf(out.text, sizeof out.text, "%.64s bytes (%.64s)",
             text_count(bytes).text, text_bytes(bytes).text);
    return out;
}

figure text_seconds(double seconds)
{
    figure out;
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(out.text, sizeof out.text, "-");
    } else if (seconds < 9.995) {
        snprintf(out.text, sizeof out.text, "%.2f s", seconds);
    } else if (seconds < 99.95) {
        snprintf(out.text, sizeof out.text, "%.1f s", seconds);
    } else {
        uint64_t whole = (uint64_t)(seconds + 0.5);
        if (whole < 3600)
            snprintf(out.text, sizeof out.text,
                     "%" PRIu64 " min %02" PRIu64 " s", whole / 60, whole % 60);
        else
            snprintf(out.text, sizeof out.text,
                     "%" PRIu64 " h %02" PRIu64 " min", whole / 3600,
                     whole / 60 % 60);
    }
    return out;
}

figure text_rate(uint64_t bytes, double seconds)
{
    figure out;
    if (seconds > 0)
        snprintf(out.text, sizeof out.text, "%.2f GB/s",
                 (double)bytes / seconds / 1e9);
    else
        snprintf(out.text, sizeof out.text, "-");
    return out;
}

/* Larger ones are no longer read digit by digit. */
#define PERCENT_PLAIN_END 1e4
#define REAL_PLAIN_END 1e9

figure text_percent(double ratio)
{
    figure out;
    if (isnan(ratio))
        snprintf(out.text, sizeof out.text, "-");
    else if (fabs(ratio) * 100 >= PERCENT_PLAIN_END)
        snprintf(out.text, sizeof out.text, "%.2g %%", ratio * 100);
    else
        snprintf(out.text, sizeof out.text, "%.2f %%", ratio * 100);
    return out;
}

figure text_real(double value, int decimals)
{
    figure out;
    if (isnan(value))
        snprintf(out.text, sizeof out.text, "-");
    else if (fabs(value) >= REAL_PLAIN_END)
        snprintf(out.text, sizeof out.text, "%.3g", value);
    else
        snprintf(out.text, sizeof out.text, "%.*f", decimals, value);
    return out;
}

figure text_shape(unsigned rank, const uint64_t *shape)
{
    figure out = {"["};
    size_t used = 1;
    for (unsigned i = 0; i < rank && used < sizeof out.text - 24; i++)
        used += (size_t)snprintf(out.text + used, sizeof out.text - used,
                                 i > 0 ? ",%" PRIu64 : "%" PRIu64, shape[i]);
    out.text[used] = ']';
    out.text[used + 1] = '\0';
    return out;
}

char *text_escape(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    char *copy = malloc(strlen(text) * 4 + 1);
    size_t used = 0;
    if (!copy)
        return NULL;
    while (*at) {
        size_t length = character_length(at);
        if (length > 0 && !is_control(at)) {
            memcpy(copy + used, at, length);
            used += length;
            at += length;
        } else {
            used += (size_t)snprintf(copy + used, 5, "\\x%02x", *at);
            at++;
        }
    }
    copy[used] = '\0';
    return copy;
}
