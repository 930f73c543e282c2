/* reach.h - modules_to_not_convert: which modules its entries reach, as
 * loaders read them, and the list of a result. docs/format.md section 5. */
#ifndef F8_REACH_H
#define F8_REACH_H

#include "modules.h"

/* For each of `count` entries, in hits, the first quantised module, or else
 * the first name under which engines fuse several, that some loader would take
 * the entry for; NULL when there is none. An entry may be NULL. However many
 * there are of both, it takes no time that their product would. */
f8_status f8_reach_find(const f8_modules *modules, const char *const *entries,
                        size_t count, const char **hits, f8_error *err);

/* The list for config.json as an array of strings. Refuses a result whose
 * list no loader could read as meant. */
f8_status f8_reach_list(const f8_modules *modules, const f8_rules *rules,
                        json_t **list, f8_error *err);

#endif
