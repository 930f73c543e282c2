/* markup.c - see markup.h. */
#include "markup.h"
#include "message.h"
#include "text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

char *markup_spelt_out(const char *text)
{
    char *safe = text_escape(text);
    if (!safe)
        message_no_memory();
    return safe;
}

static void put(FILE *out, char byte)
{
    switch (byte) {
    case '&':
        fputs("&amp;", out);
        break;
    case '<':
        fputs("&lt;", out);
        break;
    case '>':
        fputs("&gt;", out);
        break;
    case '"':
        fputs("&quot;", out);
        break;
    case '\'':
        fputs("&#39;", out);
        break;
    default:
        fputc(byte, out);
    }
}

static void write_markup(FILE *out, const char *text, size_t most,
                         bool with_breaks)
{
    char *safe = markup_spelt_out(text);
    size_t characters = 0;
    for (const char *at = safe; *at; at++) {
        bool is_first = (*at & 0xc0) != 0x80; /* byte of a character */
        if (is_first && characters++ == most) {
            fputs("…", out);
            break;
        }
        put(out, *at);
        if (with_breaks && (*at == '.' || *at == '_'))
            fputs("<wbr />", out);
    }
    free(safe);
}

void markup_short(FILE *out, const char *text, size_t most)
{
    write_markup(out, text, most, false);
}

void markup_words(FILE *out, const char *text, size_t most)
{
    write_markup(out, text, most, true);
}

void markup_text(FILE *out, const char *text)
{
    write_markup(out, text, SIZE_MAX, false);
}

char *markup_shell(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_./:=+,@-";
    char *safe = markup_spelt_out(word), *quoted = NULL;
    size_t bytes = 0;
    FILE *out = message_stream(&quoted, &bytes);
    if (*safe && safe[strspn(safe, plain)] == '\0') {
        fputs(safe, out);
    } else {
        fputc('\'', out);
        for (const char *at = safe; *at; at++) {
            if (*at == '\'')
                fputs("'\\''", out);
            else
                fputc(*at, out);
        }
        fputc('\'', out);
    }
    free(safe);
    message_stream_end(out, &quoted);
    return quoted;
}
