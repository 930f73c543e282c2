/* groups.h - many names as a few lines: names that differ in numbers between
 * dots only become one, `layers.{0..39}.experts.{0..255}.up_proj.weight`. Pure
 * strings; memory that runs out ends the program. */
#ifndef FP8CAST_CLI_GROUPS_H
#define FP8CAST_CLI_GROUPS_H

#include <stddef.h>
#include <stdint.h>

enum { GROUP_NUMBERS = 6 }; /* of a name; further ones are plain text */

typedef struct group_member {
    char *key; /* heading, tab, name with its numbers left out */
    uint64_t numbers[GROUP_NUMBERS];
    unsigned count;
} group_member;

/* Zero-initialise; groups_free it. */
typedef struct groups {
    group_member *members;
    size_t count, capacity;
} groups;

/* Names are only put together under the same heading. */
void groups_add(groups *list, const char *heading, const char *name);
void groups_sort(groups *list);

/* The group that begins with member `at`, after groups_sort: *heading is valid
 * until groups_free, *line the caller's to free. Returns how many members it
 * has; the next group begins behind them. The number of names behind a line
 * of several is "(40)", or, when not all that it stands for are there,
 * "(3 of 40)". */
size_t groups_line(const groups *list, size_t at, const char **heading,
                   char **line);
void groups_free(groups *list);

#endif
