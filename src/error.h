/* error.h - filling an f8_error, once, where the fact is known. */
#ifndef F8_ERROR_H
#define F8_ERROR_H

#include "fp8cast.h"

/* Fills *err (NULL is fine) with a printf-style sentence and returns status,
 * so that a failing function can end with `return f8_fail(err, …)`. Control
 * characters in the result are replaced by \xNN: names come from files and
 * must never reach a terminal raw. */
f8_status f8_fail(f8_error *err, f8_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends ": <strerror(sys_errno)>". */
f8_status f8_fail_errno(f8_error *err, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A value of a file that may be anything: no more than `most` bytes of it,
 * whole characters, and "..." where there is more. `most` is F8_SHOWN_BYTES, as
 * long as names of modules are, or less. */
enum { F8_SHOWN_BYTES = 80 };
typedef struct f8_shown {
    char text[F8_SHOWN_BYTES + 4];
} f8_shown;
f8_shown f8_show(const char *text, size_t most);

/* Out of memory while doing `what`. */
f8_status f8_fail_nomem(f8_error *err, const char *what);

#endif
