/* report_file.h - the file that --report writes: looked at and opened before
 * anything else is done, so that hours of work do not end in a wrong path, and
 * there under its name only when it is whole. */
#ifndef FP8CAST_CLI_REPORT_FILE_H
#define FP8CAST_CLI_REPORT_FILE_H

#include <stdio.h>

#include "options.h"

typedef struct report_file {
    char *path, *folder; /* folder: what it lies in */
    char *temporary;     /* NULL when there is nothing to be removed */
    int folder_fd;
    FILE *stream;
} report_file;

/* Opens a temporary file beside the one that given->report names. Refuses what
 * is neither new nor an earlier report, and what lies in one of the
 * checkpoints. False, with the error told, when it cannot be. */
bool report_file_begin(report_file *file, const arguments *given);
/* Writes the report of a run and gives the file its name; false, with the
 * error told, when that fails. */
bool report_file_write(report_file *file, const arguments *given,
                       const f8_report *report);
/* Removes what is not finished, and frees. */
void report_file_end(report_file *file);

#endif
