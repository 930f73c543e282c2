/* builtin.h - data files compiled into the library: rules, layouts and
 * machines. The tables are generated at build time by cmake/embed.cmake. */
#ifndef F8_BUILTIN_H
#define F8_BUILTIN_H

typedef struct f8_builtin {
    const char *name; /* NULL ends the table */
    const char *text;
} f8_builtin;

extern const f8_builtin f8_builtin_rules[];
extern const f8_builtin f8_builtin_layouts[];
extern const f8_builtin f8_builtin_machines[];

#endif
