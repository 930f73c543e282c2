/* markup.h - strings and figures as HTML and SVG want them. Whatever a name
 * holds, what is written here is well-formed XML and shows it as text:
 * control characters and marks of direction are spelt out. */
#ifndef FP8CAST_CLI_MARKUP_H
#define FP8CAST_CLI_MARKUP_H

#include <stdio.h>

/* Escaped for text and for attributes in double quotes. */
void markup_text(FILE *out, const char *text);
/* The same, and no more than `most` characters: the rest is an ellipsis. */
void markup_short(FILE *out, const char *text, size_t most);

/* Like markup_short, with places to break a line behind dots and underscores.
 */
void markup_words(FILE *out, const char *text, size_t most);

/* A copy with control characters and marks of direction spelt out as \xNN, to
 * be freed by the caller; never NULL. */
char *markup_spelt_out(const char *text);

/* A word of the shell: quoted when it has to be, to be freed by the caller.
 * Control characters are spelt out. */
char *markup_shell(const char *word);

#endif
