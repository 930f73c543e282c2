/* settings.h - what differs between two config.json, as a list of paths. */
#ifndef F8_SETTINGS_H
#define F8_SETTINGS_H

#include <jansson.h>

#include "os.h"

/* A value that is not the same, or that one side lacks. */
typedef struct f8_setting {
    const char *path;  /* "text_config.layer_types[3]" */
    const char *a, *b; /* JSON on one line; NULL: not there */
} f8_setting;

typedef struct f8_settings {
    f8_setting *items; /* in the order of a, what only b has behind */
    size_t count, capacity;
    uint64_t total; /* those beyond what is kept are only counted */
    f8_arena strings;
} f8_settings;
/* Of a pair of configs, so many, or so many bytes of text: more than anybody
 * reads, and a hostile one could make gigabytes of it. */
#define F8_SETTINGS_KEPT 10000
#define F8_SETTINGS_KEPT_BYTES ((size_t)32 << 20)

/* Compares two values, of which either may be NULL: not there. Objects are
 * compared member by member, in any order; arrays of one length element by
 * element, of two lengths as a whole; numbers by value, so that 1 and 1.0 are
 * the same. `name` is the path of the values themselves: "" leaves it out. out
 * is emptied first; f8_settings_free it in any case. */
f8_status f8_settings_compare(const char *name, const json_t *a,
                              const json_t *b, f8_settings *out, f8_error *err);
void f8_settings_free(f8_settings *settings);

#endif
