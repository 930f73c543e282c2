/* commands.h - what each command does with its arguments. main.c sets up the
 * process and calls command_run; everything below it is the library. */
#ifndef FP8CAST_CLI_COMMANDS_H
#define FP8CAST_CLI_COMMANDS_H

#include <stdatomic.h>

#include "options.h"

/* Never renumbered: scripts depend on them. */
enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_MISMATCH = 3
};

/* True for commands that look at *stop and end in good order. */
bool command_can_stop(command_id command);

/* Runs the command and prints its result or its error. *stop is set by a
 * signal handler and read by worker threads. Returns an exit_status. */
int command_run(const arguments *given, atomic_int *stop);

#endif
