/* json_values.h - the values that the documents of --json are made of: each
 * call gives one, or ends the program when memory runs out. Part of json.h's
 * files. */
#ifndef FP8CAST_CLI_JSON_VALUES_H
#define FP8CAST_CLI_JSON_VALUES_H

#include <math.h>
#include <stdlib.h>

#include "json.h"
#include "message.h"
#include "text.h"

static inline json_t *checked(json_t *value)
{
    if (!value)
        message_no_memory();
    return value;
}

static inline json_t *object(void)
{
    return checked(json_object());
}

static inline json_t *array(void)
{
    return checked(json_array());
}

static inline void put(json_t *target, const char *key, json_t *value)
{
    if (json_object_set_new(target, key, checked(value)) != 0)
        message_no_memory();
}

static inline void append(json_t *target, json_t *value)
{
    if (json_array_append_new(target, checked(value)) != 0)
        message_no_memory();
}

/* File names need not be UTF-8 but JSON must be: a name that is not is
 * written with \xNN, as in the tables. Control characters that are UTF-8 are
 * JSON's own business. */
static inline json_t *string(const char *text)
{
    if (!text)
        return json_null();
    json_t *value = json_string(text);
    if (!value) {
        char *safe = text_escape(text);
        value = safe ? json_string(safe) : NULL;
        free(safe);
    }
    return checked(value);
}

/* Nothing that is counted here comes near 2^63. */
static inline json_t *count(uint64_t number)
{
    return checked(json_integer((json_int_t)number));
}

static inline json_t *real(double number)
{
    return isfinite(number) ? checked(json_real(number)) : json_null();
}

static inline json_t *dtype(f8_dtype type)
{
    return string(f8_dtype_name(type));
}

static inline json_t *shape(unsigned rank, const uint64_t *lengths)
{
    json_t *list = array();
    for (unsigned i = 0; i < rank; i++)
        append(list, count(lengths[i]));
    return list;
}

#endif
