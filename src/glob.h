/* glob.h - name patterns, of rules files and of --keep and --quantize. */
#ifndef F8_GLOB_H
#define F8_GLOB_H

#include "os.h"

/* `*` any characters, `?` one, `{n}` a decimal number; all else itself. Where
 * a digit, `?` or `{n}` follows a `{n}`, text may have F8_NAME_MAX_BYTES, the
 * most that a tensor's name has; more is no match. */
bool f8_glob_match(const char *pattern, const char *text);

#endif
