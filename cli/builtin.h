/* builtin.h - data files compiled into the program: the page of report, and
 * what loaders make of which model. The table is generated at build time by
 * cmake/embed.cmake; the library has its own. */
#ifndef FP8CAST_CLI_BUILTIN_H
#define FP8CAST_CLI_BUILTIN_H

#include <string.h>

typedef struct f8_builtin {
    const char *name; /* NULL ends the table */
    const char *text;
} f8_builtin;

extern const f8_builtin f8_builtin_pages[];

/* "" when there is none of this name. */
static inline const char *builtin_page(const char *name)
{
    for (const f8_builtin *page = f8_builtin_pages; page->name; page++) {
        if (strcmp(page->name, name) == 0)
            return page->text;
    }
    return "";
}

#endif
