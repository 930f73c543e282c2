/* message.c - errors, results and progress; see message.h. Everything that
 * the program prints passes through here, so that this file alone has to know
 * about closed pipes, full disks, terminals and hostile names. */
#include "message.h"
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Between two versions of the progress line: ten a second. */
#define PROGRESS_INTERVAL 0.1

#define DEFAULT_COLUMNS 80

/* errno of the first failed write to stdout, by the main thread: stdio keeps
 * that something failed, but not why. */
static int output_errno;

/* Takes the place of stdout while it is not NULL. */
static FILE *diverted;

/* Whether a line of progress stands on the terminal, for signal handlers. */
static atomic_bool line_shown;

#define ERASE "\r\033[K"

/* ---- text -------------------------------------------------------------- */

static void write_out(const char *bytes, size_t count)
{
    errno = 0;
    if (diverted)
        (void)fwrite(bytes, 1, count, diverted); /* its owner asks later */
    else if (fwrite(bytes, 1, count, stdout) != count && output_errno == 0)
        output_errno = errno != 0 ? errno : EIO;
}

/* printf into memory, then escaped; the caller frees it. */
static char *compose(const char *format, va_list list)
{
    char *line = NULL, *safe = NULL;
    if (vasprintf(&line, format, list) < 0)
        message_no_memory();
    safe = text_escape(line);
    free(line);
    if (!safe)
        message_no_memory();
    return safe;
}

void message_line(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char *line = compose(format, list);
    va_end(list);
    write_out(line, strlen(line));
    write_out("\n", 1);
    free(line);
}

void message_text(const char *text)
{
    write_out(text, strlen(text));
}

void message_divert(FILE *target)
{
    diverted = target;
}

/* DEL, which stands in strings only, is ASCII, but terminals obey it. */
static int write_json(const char *bytes, size_t count, void *unused)
{
    const char *end = bytes + count, *del;
    (void)unused;
    for (; (del = memchr(bytes, 0x7f, (size_t)(end - bytes)));
         bytes = del + 1) {
        write_out(bytes, (size_t)(del - bytes));
        write_out("\\u007f", sizeof "\\u007f" - 1);
    }
    write_out(bytes, (size_t)(end - bytes));
    return output_errno != 0 ? -1 : 0;
}

void message_json(const json_t *document)
{
    /* Twelve digits: exact enough for any figure here, and 0.0221 stays
     * 0.0221. ASCII, so that no name can reach a terminal as a command. A
     * refused write is told by message_finish. */
    size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(12) | JSON_ENSURE_ASCII;
    if (json_dump_callback(document, write_json, NULL, flags) != 0 &&
        output_errno == 0)
        message_no_memory();
    write_out("\n", 1);
}

void message_error(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char *line = compose(format, list);
    va_end(list);
    fprintf(stderr, "fp8cast: %s\n", line);
    free(line);
}

void message_usage(const char *text)
{
    fputs(text, stderr);
}

bool message_finish(void)
{
    errno = 0;
    if (fclose(stdout) != 0 && output_errno == 0)
        output_errno = errno != 0 ? errno : EIO;
    if (output_errno == 0)
        return true;
    /* By now there is no other thread.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    message_error("cannot write the result: %s", strerror(output_errno));
    return false;
}

void message_no_memory(void)
{
    fputs("fp8cast: memory ran out\n", stderr);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): Other threads do not exit. */
    exit(EXIT_FAILURE);
}

FILE *message_stream(char **text, size_t *bytes)
{
    FILE *stream = open_memstream(text, bytes);
    if (!stream)
        message_no_memory();
    return stream;
}

void message_stream_end(FILE *stream, char *const *text)
{
    /* glibc closes it with success where it has no memory for the text. */
    if (fclose(stream) != 0 || !*text)
        message_no_memory();
}

/* ---- progress ---------------------------------------------------------- */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static size_t terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
        return size.ws_col;
    return DEFAULT_COLUMNS;
}

/* What a rate and the time left are reckoned from: less would say that a run of
 * two seconds takes hours. */
#define PART_LEAST 0.01
#define SECONDS_LEAST 1.0

/* "12.3 GB of 71.9 GB, 17.1 %, 1.24 GB/s, 48.0 s left". Rate and time left
 * count this run only; what an earlier one finished took no time. */
static void describe(const f8_progress *now, double seconds, char *line,
                     size_t bytes)
{
    uint64_t todo = now->bytes_total - now->bytes_resumed;
    uint64_t done = now->bytes_done - now->bytes_resumed;
    double part = now->bytes_total > 0
                      ? (double)now->bytes_done / (double)now->bytes_total
                      : 1;
    bool is_known =
        seconds >= SECONDS_LEAST || (double)done >= PART_LEAST * (double)todo;
    int used = snprintf(line, bytes, "%.40s of %.40s, %.1f %%",
                        text_bytes(now->bytes_done).text,
                        text_bytes(now->bytes_total).text, part * 100);
    if (!is_known || used < 0 || (size_t)used >= bytes)
        return;
    used += snprintf(line + used, bytes - (size_t)used, ", %.40s",
                     text_rate(done, seconds).text);
    if (done > 0 && done < todo && (size_t)used < bytes)
        snprintf(
            line + used, bytes - (size_t)used, ", %.32s left",
            text_seconds(seconds * (double)(todo - done) / (double)done).text);
}

static void tell_shard(const progress *view, const f8_progress *now,
                       double seconds)
{
    char line[192];
    char *name = text_escape(now->finished);
    if (!name)
        return; /* a lost line of progress is not worth a lost run */
    describe(now, seconds, line, sizeof line);
    fprintf(stderr, "%s: %s (%u of %u), %s\n", view->verb, name,
            (unsigned)now->shards_done, (unsigned)now->shards_total, line);
    free(name);
}

void message_progress_begin(progress *view, const char *verb, bool is_quiet)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): Nothing sets the environment. */
    const char *terminal = getenv("TERM");
    *view = (struct progress){.verb = verb, .is_quiet = is_quiet};
    view->is_terminal =
        isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0;
    view->began = seconds_now();
}

void message_progress_step(progress *view, const f8_progress *now)
{
    char line[192], whole[256];
    double clock = seconds_now();
    view->resumed_bytes = now->bytes_resumed;
    if (view->is_quiet)
        return;
    if (!view->is_terminal) {
        if (now->finished)
            tell_shard(view, now, clock - view->began);
        return;
    }
    if (view->is_shown && clock - view->written < PROGRESS_INTERVAL)
        return;
    if (now->bytes_total == 0) /* nothing to show a part of yet */
        return;
    describe(now, clock - view->began, line, sizeof line);
    /* One column stays free: a full line would wrap and could not be
     * rewritten. The line is ASCII, so bytes are columns. */
    snprintf(whole, sizeof whole, "%s: %s", view->verb, line);
    atomic_store(&line_shown, true);
    fprintf(stderr, "\r%.*s\033[K", (int)(terminal_columns() - 1), whole);
    fflush(stderr);
    view->written = clock;
    view->is_shown = true;
}

void message_erase(void)
{
    /* Of a terminal that takes nothing there is nobody to tell. */
    if (atomic_load(&line_shown) &&
        write(STDERR_FILENO, ERASE, sizeof ERASE - 1) < 0)
        return;
}

double message_progress_end(progress *view)
{
    if (view->is_shown)
        fputs(ERASE, stderr);
    view->is_shown = false;
    atomic_store(&line_shown, false);
    return seconds_now() - view->began;
}
