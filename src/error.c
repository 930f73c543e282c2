/* error.c - status names and messages. Every failure becomes one sentence
 * here, at the place that knows the fact. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *f8_version(void)
{
    return F8_VERSION;
}

const char *f8_status_name(f8_status status)
{
    switch (status) {
    case F8_OK:
        return "ok";
    case F8_ERR_ARGUMENT:
        return "argument";
    case F8_ERR_IO:
        return "io";
    case F8_ERR_NOMEM:
        return "memory";
    case F8_ERR_FORMAT:
        return "format";
    case F8_ERR_RULES:
        return "rules";
    case F8_ERR_REFUSED:
        return "refused";
    case F8_ERR_SPACE:
        return "space";
    case F8_ERR_VALUE:
        return "value";
    case F8_ERR_CANCELLED:
        return "cancelled";
    case F8_ERR_INTERNAL:
        return "internal";
    }
    return "unknown";
}

/* Marks that change the direction of text, and so what a line seems to say:
 * U+200E and F, U+202A to E, U+2066 to 9. */
static bool is_direction_mark(const unsigned char *at)
{
    return at[0] == 0xe2 &&
           ((at[1] == 0x80 && ((at[2] >= 0xaa && at[2] <= 0xae) ||
                               at[2] == 0x8e || at[2] == 0x8f)) ||
            (at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9));
}

/* Bytes of the character at `at` that must be escaped, 0 for none: C0, DEL,
 * C1 in its UTF-8 form, and direction marks. */
static size_t escaped_length(const unsigned char *at)
{
    if (at[0] < 0x20 || at[0] == 0x7f)
        return 1;
    if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0)
        return 2;
    return is_direction_mark(at) ? 3 : 0;
}

static size_t plain_length(const unsigned char *at)
{
    size_t n = 1;

    while (n < 4 && at[0] >= 0xc0 && (at[n] & 0xc0) == 0x80)
        n++;
    return n;
}

/* Copies text, whole characters only, and writes control characters as \xNN:
 * names come from files and could carry terminal sequences or line breaks. */
static void copy_printable(char *to, size_t size, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *at = (const unsigned char *)text;
    size_t used = 0;

    while (*at) {
        size_t escaped = escaped_length(at);
        size_t n = escaped ? escaped : plain_length(at);
        if (used + (escaped ? 4 * n : n) >= size)
            break;
        for (size_t i = 0; i < n; i++, at++) {
            if (escaped) {
                to[used++] = '\\';
                to[used++] = 'x';
                to[used++] = hex[*at >> 4];
                to[used++] = hex[*at & 15];
            } else {
                to[used++] = (char)*at;
            }
        }
    }
    to[used] = '\0';
}

static void fill(f8_error *err, f8_status status, int sys_errno,
                 const char *format, va_list args)
{
    char raw[sizeof err->message];

    int n = vsnprintf(raw, sizeof raw, format, args);
    if (n < 0)
        raw[0] = '\0';
    if (sys_errno != 0) {
        char reason[128];
        size_t used = strlen(raw);
        const char *text = strerror_r(sys_errno, reason, sizeof reason);
        snprintf(raw + used, sizeof raw - used, ": %s", text);
    }
    err->status = status;
    err->sys_errno = sys_errno;
    copy_printable(err->message, sizeof err->message, raw);
}

f8_status f8_fail(f8_error *err, f8_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, status, 0, format, args);
        va_end(args);
    }
    return status;
}

f8_status f8_fail_errno(f8_error *err, int sys_errno, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, F8_ERR_IO, sys_errno, format, args);
        va_end(args);
    }
    return F8_ERR_IO;
}

f8_shown f8_show(const char *text, size_t most)
{
    f8_shown shown;
    size_t n = strnlen(text, most + 1);
    bool is_cut = n > most;

    if (is_cut)
        n = most;
    while (is_cut && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    snprintf(shown.text, sizeof shown.text, "%.*s%s", (int)n, text,
             is_cut ? "..." : "");
    return shown;
}

f8_status f8_fail_nomem(f8_error *err, const char *what)
{
    return f8_fail(err, F8_ERR_NOMEM, "out of memory for %s", what);
}
