/* settings.h - what differs between two config.json, as a list of paths, or
 * told one by one. */
#ifndef F8_SETTINGS_H
#define F8_SETTINGS_H

#include <jansson.h>

#include "os.h"

/* A place at which two JSON values are not the same. */
typedef struct f8_setting_place {
    const char *path;                /* "text_config.layer_types[3]" */
    const char *key;                 /* of an object's member, else NULL */
    const json_t *outer_a, *outer_b; /* the objects that have the member */
    const json_t *a, *b;             /* NULL: not there */
} f8_setting_place;
/* Told of each such place, in the order of a, what only b has behind; also of
 * equal numbers of which one is whole to JSON and the other is not, as 1 and
 * 1.0. All of it is valid during the call only. */
typedef f8_status f8_settings_told(void *ctx, const f8_setting_place *place,
                                   f8_error *err);

/* Compares two values, of which either may be NULL: not there. Objects are
 * compared member by member, in any order; arrays of one length element by
 * element, of two lengths as a whole; numbers by value. `name` is the path of
 * the values themselves: "" leaves it out. Ends early with what `told` returns
 * if that is not F8_OK. */
f8_status f8_settings_walk(const char *name, const json_t *a, const json_t *b,
                           f8_settings_told *told, void *ctx, f8_error *err);
/* Whether both are numbers, and equal, of whatever kind. */
bool f8_settings_equal_numbers(const json_t *a, const json_t *b);

/* Two values that are not the same as JSON on one line, so that the lines are
 * not the same either. NULL of what is not there, or when memory ran out; the
 * caller frees both. */
typedef struct f8_setting_texts {
    char *a, *b;
} f8_setting_texts;
f8_setting_texts f8_setting_print(const json_t *a, const json_t *b);

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

/* The same as a list, in which 1 and 1.0 are the same. out is emptied first;
 * f8_settings_free it in any case. */
f8_status f8_settings_compare(const char *name, const json_t *a,
                              const json_t *b, f8_settings *out, f8_error *err);
void f8_settings_free(f8_settings *settings);

#endif
