/* report_file.h - the file that --report writes: looked at and opened before
 * anything else is done, so that hours of work do not end in a wrong path, and
 * there under its name only when it is whole. */
#ifndef FP8CAST_CLI_REPORT_FILE_H
#define FP8CAST_CLI_REPORT_FILE_H

#include "output.h"

/* Begins the file that given->report names. Refuses what is neither new nor an
 * earlier report, and what lies in one of the checkpoints. False, with the
 * error told, when it cannot be; output_end in any case. */
bool report_file_begin(output *file, const arguments *given);
/* Writes the report of a run and gives the file its name; false, with the
 * error told, when that fails. `verdict` is NULL unless verify measured. */
bool report_file_write(output *file, const arguments *given,
                       const f8_report *report, const f8_verdict *verdict);

#endif
