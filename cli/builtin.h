/* builtin.h - data files compiled into the program: the page of report, and
 * what loaders make of which model. The table is generated at build time by
 * cmake/embed.cmake; the library has its own. */
#ifndef FP8CAST_CLI_BUILTIN_H
#define FP8CAST_CLI_BUILTIN_H

typedef struct f8_builtin {
    const char *name; /* NULL ends the table */
    const char *text;
} f8_builtin;

extern const f8_builtin f8_builtin_pages[];

#endif
