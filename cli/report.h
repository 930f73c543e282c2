/* report.h - the command `report`: reads a report and has it drawn. */
#ifndef FP8CAST_CLI_REPORT_H
#define FP8CAST_CLI_REPORT_H

#include "output.h"

/* To `out` where the command line names a file, else to stdout. Returns an
 * exit_status of commands.h. */
int report_run(const arguments *given, output *out);

#endif
