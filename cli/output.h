/* output.h - a result that goes into a file of its own: -o and --report. The
 * file is written beside its final name, synced and renamed, so that there is
 * never half a one; and one that is there is not replaced unless that is
 * wanted. Everything is opened by output_begin, before the process gives up its
 * rights; afterwards it needs only to rename within the folder. */
#ifndef FP8CAST_CLI_OUTPUT_H
#define FP8CAST_CLI_OUTPUT_H

#include <stdio.h>

#include "options.h"

typedef struct output {
    const char *path;  /* as it was given, borrowed      */
    char *folder;      /* owned                          */
    char *name, *part; /* owned, relative to the folder  */
    int folder_fd;
    bool overwrite;
    FILE *stream; /* to be written to */
} output;
#define OUTPUT_NONE ((output){.folder_fd = -1})

/* The folder that `path` is in, for the caller to free. */
char *output_folder(const char *path);
/* An entry of a folder lasts when the folder is synced. False with errno. */
bool output_sync(int folder_fd);

/* False, with a sentence in `problem`, when the file is there already (with
 * `overwrite`: and is no file) or cannot be made. output_end in any case. */
bool output_begin(output *out, const char *path, bool overwrite,
                  char problem[PROBLEM_BYTES]);
/* Gives the file its name, once the stream took all. */
bool output_finish(output *out, char problem[PROBLEM_BYTES]);
/* Closes, and removes what was not finished. */
void output_end(output *out);

#endif
