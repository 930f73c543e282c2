/* message.h - the only door to stdout and stderr. Results go to stdout, line
 * by line or as one JSON document; errors and progress go to stderr. */
#ifndef FP8CAST_CLI_MESSAGE_H
#define FP8CAST_CLI_MESSAGE_H

#include <jansson.h>
#include <stdio.h>

#include "fp8cast.h"

#if defined(__GNUC__)
#define MESSAGE_FORMAT __attribute__((format(printf, 1, 2)))
#else
#define MESSAGE_FORMAT
#endif

/* One line of a result. Control characters that came in with a name are
 * escaped, so that it stays one line; the line break is added. */
MESSAGE_FORMAT void message_line(const char *format, ...);

/* Text as it is: help, and rules byte for byte. */
void message_text(const char *text);

/* What message_line and message_text write goes to `target` instead, until
 * this is called with NULL: a table for a file. */
void message_divert(FILE *target);

/* The document, followed by a line break. */
void message_json(const json_t *document);

/* "fp8cast: ..." on stderr, one line, escaped as above. */
MESSAGE_FORMAT void message_error(const char *format, ...);

/* How to call fp8cast, on stderr. */
void message_usage(const char *text);

/* Flushes and closes stdout. False, with the error already told, when any of
 * the result could not be written. The last call before the end. */
bool message_finish(void);

/* For a signal handler that is about to end the process: no line of progress
 * is left on the terminal. */
void message_erase(void);

/* For the small allocations of the command line itself, and for jansson. */
_Noreturn void message_no_memory(void);
/* open_memstream and its end, or the end of the program. The text is the
 * caller's to free, once the stream is closed. */
FILE *message_stream(char **text, size_t *bytes);
void message_stream_end(FILE *stream, char *const *text);

/* Progress of one run. On a terminal it is one line that is rewritten, in
 * other places a line for each finished shard; nothing when quiet. */
typedef struct progress {
    const char *verb;
    bool is_quiet, is_terminal;
    bool is_shown;          /* a line stands on the terminal and must go     */
    double began, written;  /* seconds of the monotonic clock                */
    uint64_t resumed_bytes; /* from the last step, for the final GB/s       */
} progress;

void message_progress_begin(progress *view, const char *verb, bool is_quiet);
/* Called from worker threads, never from two at a time. */
void message_progress_step(progress *view, const f8_progress *now);
/* Clears the line. Returns the seconds since the beginning. */
double message_progress_end(progress *view);

#endif
