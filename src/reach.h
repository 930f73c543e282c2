/* reach.h - modules_to_not_convert: which modules its entries reach, as
 * loaders read them, and the list of a result. docs/format.md section 5. */
#ifndef F8_REACH_H
#define F8_REACH_H

#include "modules.h"
#include "os.h"

/* For each of `count` entries, in hits, the first quantised module, or else
 * the first name under which engines fuse several, that some loader would take
 * the entry for; NULL when there is none. An entry may be NULL. Time is as the
 * length of all names and entries together, but for a pass over the entries for
 * each 1,024 modules: docs/reliability-hostile.md has the worst. `watch`, which
 * may be NULL, is asked again and again whether to go on, with 0 bytes done;
 * else F8_ERR_CANCELLED. */
f8_status f8_reach_find(const f8_modules *modules, const char *const *entries,
                        size_t count, const char **hits, const f8_watch *watch,
                        f8_error *err);

/* The list for config.json as an array of strings. Refuses a result whose
 * list no loader could read as meant. */
f8_status f8_reach_list(const f8_modules *modules, const f8_rules *rules,
                        json_t **list, f8_error *err);

#endif
