/* json.c - a strict pull parser. See json.h. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A read of a file; also bounds how far one can look ahead. */
#define WINDOW_BYTES ((size_t)65536)
/* How much of what stands there a message shows. */
enum { SHOWN_BYTES = 24 };

void f8_json_begin(f8_json *json, const char *text, size_t n, const char *label,
                   const char *part, f8_error *err)
{
    *json = (f8_json){.text = text,
                      .length = n,
                      .fd = -1,
                      .hash = F8_HASH_START,
                      .label = label,
                      .part = part,
                      .err = err};
}

f8_status f8_json_begin_file(f8_json *json, int fd, uint64_t offset, uint64_t n,
                             const char *label, const char *part, f8_error *err)
{
    f8_json_begin(json, NULL, 0, label, part, err);
    json->fd = fd;
    json->offset = offset;
    json->left = n;
    json->window = f8_alloc(WINDOW_BYTES, 1);
    json->text = json->window;
    return json->window ? F8_OK : f8_fail_nomem(err, label);
}

uint64_t f8_json_hash(const f8_json *json)
{
    return json->hash;
}

void f8_json_free(f8_json *json)
{
    free(json->window);
    f8_buf_free(&json->string);
    f8_buf_free(&json->keys);
}

/* ---- bytes --------------------------------------------------------------- */

/* Moves what is left of the window to its beginning and fills it up. A failure
 * ends the document here, and is what every message from now on says. */
static void refill(f8_json *j)
{
    size_t kept = j->length - j->at;
    size_t more = WINDOW_BYTES - kept;

    if (more > j->left)
        more = (size_t)j->left;
    memmove(j->window, j->window + j->at, kept);
    j->before += j->at;
    j->at = 0;
    j->length = kept;
    j->status = f8_read_at(j->fd, j->window + kept, more,
                           j->offset + j->before + kept, j->label, j->err);
    if (j->status != F8_OK) {
        j->left = 0;
        return;
    }
    j->hash = f8_hash(j->hash, j->window + kept, more);
    j->length += more;
    j->left -= more;
}

/* Bytes that can be looked at: n or more, unless the document ends before. */
static size_t ahead(f8_json *j, size_t n)
{
    if (j->length - j->at < n && j->left > 0)
        refill(j);
    return j->length - j->at;
}

static uint64_t position(const f8_json *j)
{
    return j->before + j->at;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

int f8_json_peek(f8_json *json)
{
    while (ahead(json, 1) > 0) {
        char c = json->text[json->at];
        if (!is_space(c))
            return (unsigned char)c;
        json->at++;
    }
    return -1;
}

/* Takes c when it comes next, white space apart. */
static bool take(f8_json *j, char c)
{
    if (f8_json_peek(j) != c)
        return false;
    j->at++;
    return true;
}

/* ---- messages ------------------------------------------------------------ */

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || c == '-' || c == '+' || c == '.' ||
           c == '_';
}

void f8_json_found(f8_json *json, char *out, size_t size)
{
    int c = f8_json_peek(json);
    size_t n = ahead(json, SHOWN_BYTES), word = 0;
    const char *at = json->text + json->at;

    while (word < n && word < SHOWN_BYTES && is_word(at[word]))
        word++;
    if (c < 0)
        snprintf(out, size, "the end");
    else if (c == '"')
        snprintf(out, size, "a string");
    else if (n >= 3 && !memcmp(at, "\xef\xbb\xbf", 3))
        snprintf(out, size, "a byte order mark");
    else if (word > 0)
        snprintf(out, size, "%.*s%s", (int)word, at,
                 word == SHOWN_BYTES ? "..." : "");
    else if (c > 0x20 && c < 0x7f)
        snprintf(out, size, "'%c'", c);
    else
        snprintf(out, size, "byte 0x%02x", (unsigned)c);
}

/* "header, byte 12: ", or ":2:7: " of a text that people edit. */
static void place(const f8_json *j, uint64_t where, char *out, size_t size)
{
    size_t line = 1, start = 0;

    if (j->part) {
        snprintf(out, size, ": %sbyte %llu: ", j->part,
                 (unsigned long long)where);
        return;
    }
    for (size_t i = 0; i < where && i < j->length; i++) {
        if (j->text[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    snprintf(out, size, ":%zu:%zu: ", line, (size_t)where - start + 1);
}

/* A message about the byte at `where`; `found` may be NULL. */
static f8_status wrong(f8_json *j, uint64_t where, const char *expected,
                       const char *found)
{
    char at[64];

    if (j->status != F8_OK)
        return j->status;
    place(j, where, at, sizeof at);
    return f8_fail(j->err, F8_ERR_FORMAT, "%s%sexpected %s%s%s", j->label, at,
                   expected, found ? ", found " : "", found ? found : "");
}

static f8_status too_long(f8_json *j, uint64_t start, const char *what,
                          size_t most)
{
    char expected[128];

    snprintf(expected, sizeof expected, "%s of at most %zu bytes", what, most);
    return wrong(j, start, expected, NULL);
}

f8_status f8_json_expected(f8_json *json, const char *expected)
{
    char found[64];

    f8_json_found(json, found, sizeof found);
    return wrong(json, position(json), expected, found);
}

f8_status f8_json_finish(f8_json *json)
{
    if (f8_json_peek(json) >= 0)
        return f8_json_expected(json, "nothing but white space");
    return json->status;
}

/* ---- structure ----------------------------------------------------------- */

uint64_t f8_json_at(const f8_json *json)
{
    return position(json);
}

f8_status f8_json_enter(f8_json *json, char open, bool *more)
{
    *more = false;
    if (!take(json, open))
        return f8_json_expected(json, open == '{' ? "'{'" : "'['");
    *more = !take(json, open == '{' ? '}' : ']');
    return F8_OK;
}

f8_status f8_json_next(f8_json *json, char close, bool *more)
{
    *more = take(json, ',');
    if (*more || take(json, close))
        return F8_OK;
    return f8_json_expected(json, close == '}' ? "',' or '}'" : "',' or ']'");
}

/* ---- strings ------------------------------------------------------------- */

/* Length of the UTF-8 character at `at`, of which n bytes can be seen; 0 when
 * it is none: overlong forms, surrogates and numbers above 0x10ffff are not. */
static size_t character(const char *text, size_t n)
{
    const unsigned char *at = (const unsigned char *)text;
    unsigned char low = 0x80, high = 0xbf;
    size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;

    if (at[0] < 0xc2 || at[0] > 0xf4 || n < length)
        return 0;
    if (at[0] == 0xe0)
        low = 0xa0;
    else if (at[0] == 0xed)
        high = 0x9f;
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return length;
}

bool f8_json_is_utf8(const char *text)
{
    size_t left = strlen(text), n;

    for (; left > 0; text += n, left -= n) {
        n = (unsigned char)*text < 0x80 ? 1 : character(text, left);
        if (n == 0)
            return false;
    }
    return true;
}

static void put_character(f8_buf *to, unsigned long code)
{
    char bytes[4];
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = n - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    bytes[0] = (char)(lead[n] | code);
    f8_buf_append(to, bytes, n);
}

/* The four digits behind \u; false when there are not four. */
static bool take_hex(f8_json *j, unsigned long *code)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";

    *code = 0;
    if (ahead(j, 4) < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = j->text[j->at + (size_t)i];
        const char *digit = c ? strchr(digits, c) : NULL;
        if (!digit)
            return false;
        *code = *code << 4 | (unsigned long)((digit - digits) & 15);
    }
    j->at += 4;
    return true;
}

/* Behind \u: one code or a pair of surrogates. `start` is the backslash. */
static f8_status take_unicode(f8_json *j, uint64_t start)
{
    unsigned long code, low = 0;

    if (!take_hex(j, &code))
        return wrong(j, start, "\\u and four hexadecimal digits", NULL);
    if (code == 0)
        return wrong(j, start, "no NUL character", NULL);
    if (code >= 0xd800 && code < 0xe000) {
        bool pair = code < 0xdc00 && ahead(j, 6) >= 6 &&
                    !memcmp(j->text + j->at, "\\u", 2);
        if (pair) {
            j->at += 2;
            pair = take_hex(j, &low) && low >= 0xdc00 && low < 0xe000;
        }
        if (!pair)
            return wrong(j, start, "both halves of a surrogate pair, found one",
                         NULL);
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    put_character(&j->string, code);
    return F8_OK;
}

/* At a backslash. */
static f8_status take_escape(f8_json *j)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meant[] = "\"\\/\b\f\n\r\t";
    uint64_t start = position(j);
    char c = ahead(j, 2) >= 2 ? j->text[j->at + 1] : '\0';
    const char *letter = c ? strchr(letters, c) : NULL;

    if (letter) {
        j->at += 2;
        f8_buf_append(&j->string, meant + (letter - letters), 1);
        return F8_OK;
    }
    if (c != 'u')
        return wrong(j, start, "\\ and one of \"\\/bfnrtu", NULL);
    j->at += 2;
    return take_unicode(j, start);
}

/* Whatever must be looked at in a string: all but plain ASCII. */
static f8_status take_special(f8_json *j, bool *closed)
{
    size_t n = ahead(j, 4);
    unsigned char c = n ? (unsigned char)j->text[j->at] : 0;

    *closed = n > 0 && c == '"';
    if (*closed) {
        j->at++;
        return F8_OK;
    }
    if (n == 0)
        return wrong(j, position(j), "a closing '\"'", "the end");
    if (c == '\\')
        return take_escape(j);
    if (c == 0)
        return wrong(j, position(j), "no NUL character", NULL);
    if (c < 0x20)
        return wrong(j, position(j), "no control character in a string", NULL);
    size_t length = character(j->text + j->at, n);
    if (length == 0)
        return wrong(j, position(j), "UTF-8", NULL);
    f8_buf_append(&j->string, j->text + j->at, length);
    j->at += length;
    return F8_OK;
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' &&
           c != '\\';
}

f8_status f8_json_string(f8_json *json, size_t most, const char *what,
                         const char **text)
{
    f8_buf *string = &json->string;
    bool closed = false;

    if (f8_json_peek(json) != '"')
        return f8_json_expected(json, what);
    uint64_t start = position(json);
    json->at++;
    string->length = 0;
    f8_buf_append(string, "", 0);
    while (!closed) {
        size_t n = 0, seen = ahead(json, 1);
        const char *at = json->text + json->at;
        while (n < seen && n <= most && is_plain(at[n]))
            n++;
        f8_buf_append(string, at, n);
        json->at += n;
        if (string->length <= most && (n == 0 || n < seen)) {
            f8_status status = take_special(json, &closed);
            if (status != F8_OK)
                return status;
        }
        if (string->length > most)
            return too_long(json, start, what, most);
        if (string->failed)
            return f8_fail_nomem(json->err, json->label);
    }
    *text = string->data;
    return F8_OK;
}

f8_status f8_json_key(f8_json *json, size_t most, const char *what,
                      const char **text)
{
    f8_status status = f8_json_string(json, most, what, text);

    if (status == F8_OK && !take(json, ':'))
        status = f8_json_expected(json, "':'");
    return status;
}

/* ---- numbers ------------------------------------------------------------- */

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

bool f8_json_uint(f8_json *json, uint64_t *value)
{
    enum { LONGEST = 19 }; /* digits of 2^63 */
    uint64_t sum = 0;
    size_t n = 0;

    if (!is_digit(f8_json_peek(json)))
        return false;
    size_t seen = ahead(json, LONGEST + 1);
    const char *at = json->text + json->at;
    for (; n < seen && is_digit(at[n]); n++) {
        if (!f8_mul_u64(sum, 10, &sum) ||
            !f8_add_u64(sum, (uint64_t)(at[n] - '0'), &sum))
            return false;
    }
    if (sum > INT64_MAX || (n > 1 && at[0] == '0') ||
        (n < seen && is_word(at[n])))
        return false;
    json->at += n;
    *value = sum;
    return true;
}

/* The next byte of a number, or -1. */
static int next_byte(f8_json *j)
{
    return ahead(j, 1) > 0 ? (unsigned char)j->text[j->at] : -1;
}

/* Digits as long as they come; the first that are not 0 add up in *sum, and
 * *dropped counts those that did not fit. False when there is none. */
static bool take_digits(f8_json *j, uint64_t *sum, int64_t *taken,
                        int64_t *dropped)
{
    int64_t count = 0;

    for (int c; is_digit(c = next_byte(j)); count++, j->at++) {
        if (*dropped == 0 && *sum <= (UINT64_MAX - 9) / 10)
            *sum = *sum * 10 + (uint64_t)(c - '0');
        else
            ++*dropped;
    }
    *taken += count;
    return count > 0;
}

/* Behind 'e'. Beyond a million it does not matter how much. */
static bool take_exponent(f8_json *j, int64_t *exponent)
{
    uint64_t size = 0;
    int64_t taken = 0, dropped = 0;
    int sign = next_byte(j);

    if (sign == '-' || sign == '+')
        j->at++;
    if (!take_digits(j, &size, &taken, &dropped))
        return false;
    if (size > 1000000 || dropped > 0)
        size = 1000000;
    *exponent = sign == '-' ? -(int64_t)size : (int64_t)size;
    return true;
}

/* sum * 10^exponent without a fraction; false when it is too large. */
static bool scale_up(uint64_t sum, int64_t exponent, int64_t *value)
{
    for (; exponent < 0 && sum > 0; exponent++)
        sum /= 10;
    for (; exponent > 0 && sum > 0; exponent--) {
        if (!f8_mul_u64(sum, 10, &sum))
            return false;
    }
    *value = sum <= INT64_MAX ? (int64_t)sum : -1;
    return *value >= 0;
}

f8_status f8_json_number(f8_json *json, int64_t *value, bool *fits)
{
    static const char number[] = "a number as JSON has it";
    int c = f8_json_peek(json);
    uint64_t start = position(json), sum = 0;
    int64_t taken = 0, dropped = 0, places = 0, exponent = 0;
    bool negative = c == '-';

    if (!negative && !is_digit(c))
        return f8_json_expected(json, number);
    if (negative)
        json->at++;
    bool zero = next_byte(json) == '0';
    bool good = take_digits(json, &sum, &taken, &dropped);
    good = good && !(zero && taken > 1);
    int64_t kept = dropped;
    if (good && next_byte(json) == '.') {
        json->at++;
        good = take_digits(json, &sum, &places, &dropped);
    }
    if (good && (next_byte(json) | 0x20) == 'e') {
        json->at++;
        good = take_exponent(json, &exponent);
    }
    c = next_byte(json);
    if (!good || (c >= 0 && is_word((char)c)))
        return wrong(json, start, number, NULL);
    /* Digits behind the point that did not fit need no place either. */
    exponent += kept - (places - (dropped - kept));
    *fits = scale_up(sum, exponent, value) && (!negative || *value == 0);
    return json->status;
}

/* ---- skipping ------------------------------------------------------------ */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The `count` keys from `first` in j->keys, each with its NUL. */
static f8_status check_keys(f8_json *j, size_t first, size_t count)
{
    f8_status status = F8_OK;
    const char *at = j->keys.data + first;
    const char **sorted = f8_alloc(count, sizeof *sorted);

    if (!sorted)
        return f8_fail_nomem(j->err, j->label);
    for (size_t i = 0; i < count; i++) {
        sorted[i] = at;
        at += strlen(at) + 1;
    }
    qsort(sorted, count, sizeof *sorted, by_text);
    for (size_t i = 1; i < count && status == F8_OK; i++) {
        if (!strcmp(sorted[i - 1], sorted[i])) {
            char where[64];
            place(j, position(j), where, sizeof where);
            status = f8_fail(j->err, F8_ERR_FORMAT,
                             "%s%sthe object that ends here has two keys "
                             "\"%s\"",
                             j->label, where,
                             f8_show(sorted[i], F8_SHOWN_BYTES).text);
        }
    }
    free(sorted);
    return status;
}

static f8_status skip_value(f8_json *j, unsigned depth, bool strings);

/* NOLINTNEXTLINE(misc-no-recursion): skip_value counts the depth */
static f8_status skip_object(f8_json *j, unsigned depth, bool strings)
{
    size_t first = j->keys.length, count = 0;
    f8_status status;
    bool more;

    for (status = f8_json_enter(j, '{', &more); status == F8_OK && more;
         status = f8_json_next(j, '}', &more)) {
        const char *key = "";
        status = f8_json_string(j, j->most, "a key in quotes", &key);
        if (status != F8_OK)
            return status;
        f8_buf_append(&j->keys, key, strlen(key) + 1);
        if (j->keys.failed)
            return f8_fail_nomem(j->err, j->label);
        count++;
        bool is_wanted = strings && strcmp(key, j->wanted) == 0;
        if (!take(j, ':'))
            return f8_json_expected(j, "':'");
        status = strings ? f8_json_string(j, j->most, "a string", &key)
                         : skip_value(j, depth + 1, false);
        if (status != F8_OK)
            return status;
        if (is_wanted)
            snprintf(j->kept, j->kept_bytes, "%s", key);
    }
    if (status == F8_OK && count > 1)
        status = check_keys(j, first, count);
    j->keys.length = first;
    return status;
}

/* NOLINTNEXTLINE(misc-no-recursion): skip_value counts the depth */
static f8_status skip_array(f8_json *j, unsigned depth)
{
    f8_status status;
    bool more;

    for (status = f8_json_enter(j, '[', &more); status == F8_OK && more;
         status = f8_json_next(j, ']', &more)) {
        status = skip_value(j, depth + 1, false);
        if (status != F8_OK)
            return status;
    }
    return status;
}

static f8_status skip_word(f8_json *j)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t seen = ahead(j, 6), n = 0;

    while (n < seen && is_word(j->text[j->at + n]))
        n++;
    for (size_t i = 0; i < 3; i++) {
        if (n == strlen(words[i]) && !memcmp(j->text + j->at, words[i], n)) {
            j->at += n;
            return F8_OK;
        }
    }
    return f8_json_expected(j, "a value");
}

/* NOLINTNEXTLINE(misc-no-recursion): depth is checked below */
static f8_status skip_value(f8_json *j, unsigned depth, bool strings)
{
    const char *text;
    int64_t value;
    bool fits;
    int c = f8_json_peek(j);

    if (depth > F8_JSON_DEPTH) {
        char found[64];
        snprintf(found, sizeof found, "no more than %d levels of brackets",
                 F8_JSON_DEPTH);
        return wrong(j, position(j), found, NULL);
    }
    f8_status status =
        c == '{'   ? skip_object(j, depth, strings)
        : strings  ? f8_json_expected(j, "an object of strings")
        : c == '[' ? skip_array(j, depth)
        : c == '"' ? f8_json_string(j, j->most, "a string", &text)
        : c == '-' || is_digit(c) ? f8_json_number(j, &value, &fits)
                                  : skip_word(j);
    if (status == F8_OK && position(j) - j->start > j->most)
        status = too_long(j, j->start, "a value", j->most);
    return status;
}

static f8_status skip(f8_json *j, size_t most, bool strings)
{
    f8_json_peek(j);
    j->start = position(j);
    j->most = most;
    j->keys.length = 0;
    return skip_value(j, 0, strings);
}

f8_status f8_json_skip(f8_json *json, size_t most)
{
    return skip(json, most, false);
}

f8_status f8_json_skip_strings(f8_json *json, size_t most, const char *key,
                               char *value, size_t size)
{
    json->wanted = key;
    json->kept = value;
    json->kept_bytes = size;
    *value = '\0';
    return skip(json, most, true);
}
