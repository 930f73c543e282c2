/* repeat.h - the command that made a report, to be made again. */
#ifndef FP8CAST_CLI_REPEAT_H
#define FP8CAST_CLI_REPEAT_H

#include <stdio.h>

#include "report_doc.h"

/* One line for a shell, without a line break. Folders and a rules file are
 * named as if they lay in the shell's folder. */
void repeat_write(FILE *out, const report_doc *report);

#endif
