/* values.h - what a person types, turned into values: whole numbers, sizes,
 * and the known name that is nearest to a misspelt one. Pure functions: they
 * neither print nor know any option, so options.c words the refusals. */
#ifndef FP8CAST_CLI_VALUES_H
#define FP8CAST_CLI_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What value_size accepts, for the sentence that refuses anything else. */
#define VALUE_SIZE_FORMS \
    "write bytes, or a number and kB, MB, GB, TB, KiB, MiB, GiB or TiB"

/* Decimal digits and nothing else; false for junk and for overflow. */
bool value_count(const char *text, uint64_t *count);

/* "1048576", "5GB", "1.5GB", "512MiB": k, M, G and T are powers of 1000,
 * with an `i` powers of 1024, in any case. At most six decimals, and those
 * only before a unit; a fraction of a byte is dropped. */
bool value_size(const char *text, uint64_t *bytes);

/* A size and "/s": "273GB/s"; bytes a second. */
bool value_rate(const char *text, uint64_t *bytes_per_second);

/* "OWNER/NAME", as model hubs name a model: letters, digits, '.', '_', '-'. */
bool value_hub_id(const char *text);

/* Looks for the nearest of many names: begin, offer each, read `name`, which
 * is NULL when none is near enough to be worth a suggestion. Strings are
 * borrowed. */
typedef struct value_nearest {
    const char *typed;
    const char *name;
    size_t distance;
} value_nearest;

void value_nearest_begin(value_nearest *nearest, const char *typed);
void value_nearest_offer(value_nearest *nearest, const char *name);

#endif
