/* confine.h - giving up what a conversion does not need. Files come from
 * strangers; should one of them ever make the program do what it was not
 * written to do, it can then read the source, write the result, and nothing
 * else: no other file, no network, no other program. Linux only: Landlock for
 * files and TCP, seccomp for sockets and programs; without a kernel that
 * offers them everything works as before. */
#ifndef FP8CAST_CLI_CONFINE_H
#define FP8CAST_CLI_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

#include "options.h"

typedef enum confine_use {
    CONFINE_READ,   /* a file, or a folder and all below it */
    CONFINE_SOURCE, /* the same, and where the links in it lead */
    CONFINE_WRITE,  /* read, and make, write and remove what is below it */
    CONFINE_AROUND, /* around a folder that may have to be removed again */
    CONFINE_PUBLISH /* around an open file that gets its final name */
} confine_use;

/* What stays open to the process. What does not exist is passed over. */
typedef struct confine_place {
    const char *path; /* NULL: no place */
    confine_use use;
} confine_place;

/* Confines this thread and all that it starts from now on to the places;
 * nothing can undo it. False, with the reason in `problem`, when a place cannot
 * be looked at, or FP8CAST_CONFINE is `yes` and the kernel cannot do it; with
 * `no` nothing is done, and without either what the kernel offers. */
bool confine_process(const confine_place *places, size_t count,
                     char problem[PROBLEM_BYTES]);

#endif
