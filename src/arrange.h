/* arrange.h - a layout: which rules of a family it changes, which file takes a
 * tensor, in which order modules are listed. The family's rules file says all
 * of it (docs/rules.md); nothing here knows a model. */
#ifndef F8_ARRANGE_H
#define F8_ARRANGE_H

#include <jansson.h>

#include "rules.h"

/* Makes the rules those of one layout (NULL: "card"): a rule of its section
 * takes the place of the one with the same pattern or comes behind all others;
 * other sections go. A family without such a section is refused by a line that
 * names those with one. */
f8_status f8_arrange(f8_rules *rules, const char *layout, f8_error *err);

/* The file's name for a source tensor into buf, which is emptied first; false
 * when no pattern matches. The last that matches decides. */
bool f8_arrange_file(const f8_rules *rules, const char *tensor, f8_buf *buf);

/* Sorts an array of strings by name, numbers in it by value. */
f8_status f8_arrange_list(json_t *list, f8_error *err);

#endif
