/* report_file.c - the file that --report writes; see report_file.h. Of a model
 * with thousands of tensors the document would take more memory than all the
 * rest, so it is written piece by piece. */
#include "report_file.h"
#include "json.h"
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What every report begins with, and by which an earlier one is known. */
#define BEGINNING "{\"fp8cast_report\":1,"

/* Numbers in 17 digits: what is read is what was measured. */
#define REPORT_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY)

static bool failed(const char *path, const char *what, int reason)
{
    /* Called from the main thread alone.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    message_error("%s: cannot %s: %s", path, what, strerror(reason));
    return false;
}

/* ---- before the run ------------------------------------------------------ */

/* Whether `folder` is `other` or below it; both as realpath writes them. */
static bool is_inside(const char *folder, const char *other)
{
    size_t n = strlen(other);
    return strncmp(folder, other, n) == 0 &&
           (folder[n] == '\0' || folder[n] == '/' || strcmp(other, "/") == 0);
}

/* Nothing but a conversion belongs into DST, and nothing is written to SRC. */
static bool is_outside(const arguments *given)
{
    char *around = output_folder(given->report);
    char *folder = realpath(around, NULL);
    bool is_fine = folder || failed(around, "open", errno);
    free(around);
    for (unsigned i = 0; i < given->paths_count && is_fine; i++) {
        char *other = realpath(given->paths[i], NULL);
        is_fine = !other || !is_inside(folder, other);
        free(other);
        if (!is_fine)
            message_error("%s: lies in %s; expected a file outside of both "
                          "checkpoints",
                          given->report, given->paths[i]);
    }
    free(folder);
    return is_fine;
}

/* A wrong argument must not cost a file: only an earlier report is replaced,
 * or an empty file. */
static bool is_replaceable(const char *path)
{
    char text[sizeof BEGINNING] = "";
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT || failed(path, "stat", errno);
    if (!S_ISREG(st.st_mode)) {
        message_error("%s: expected a new file, found %s", path,
                      S_ISDIR(st.st_mode) ? "a folder" : "no plain file");
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return failed(path, "open", errno);
    ssize_t n = read(fd, text, sizeof BEGINNING - 1);
    close(fd);
    if (n == 0 || strcmp(text, BEGINNING) == 0)
        return true;
    message_error("%s: expected a new file, or a report to be replaced, found "
                  "another file",
                  path);
    return false;
}

bool report_file_begin(output *file, const arguments *given)
{
    char problem[PROBLEM_BYTES];
    if (!is_outside(given) || !is_replaceable(given->report))
        return false;
    if (output_begin(file, given->report, true, problem))
        return true;
    message_error("%s", problem);
    return false;
}

/* ---- the document -------------------------------------------------------- */

/* The stream remembers what could not be written, up to the end. */
static void dump(FILE *stream, json_t *value)
{
    if (json_dumpf(value, stream, REPORT_FLAGS) != 0 && !ferror(stream))
        message_no_memory();
    json_decref(value);
}

static void member(FILE *stream, const char *key, json_t *value)
{
    fprintf(stream, "\n\"%s\":", key);
    dump(stream, value);
    fputs(",", stream);
}

/* Elements of an array, one a line. */
static void element(FILE *stream, size_t i, json_t *value)
{
    fputs(i == 0 ? "\n" : ",\n", stream);
    dump(stream, value);
}

static void write_groups(FILE *stream, const f8_report *report)
{
    f8_error_stats stats;
    f8_error_cell cell;
    f8_report_get_overall(report, &stats);
    stats.name = "overall";
    member(stream, "overall", json_error_stats(&stats));
    fputs("\n\"kinds\":[", stream);
    for (size_t i = 0; f8_report_get_kind(report, i, &stats); i++)
        element(stream, i, json_error_stats(&stats));
    fputs("],\n\"layers\":[", stream);
    for (size_t i = 0; f8_report_get_layer(report, i, &stats); i++)
        element(stream, i, json_error_stats(&stats));
    fputs("],\n\"cells\":[", stream);
    for (size_t i = 0, at = 0; f8_report_get_cell(report, i, &cell); i++) {
        if (!isnan(cell.relative_rms))
            element(stream, at++, json_report_cell(&cell));
    }
    fputs("],", stream);
    member(stream, "distribution", json_report_distribution(report));
}

static void write_tensors(FILE *stream, const f8_report *report)
{
    f8_tensor_error tensor;
    uint64_t at = 0;
    fputs("\n\"worst\":[", stream);
    for (size_t i = 0; f8_report_get_worst(report, i, &at); i++)
        fprintf(stream, "%s%llu", i ? "," : "", (unsigned long long)at);
    fputs("],\n\"tensors\":[", stream);
    for (size_t i = 0; f8_report_get_tensor(report, i, &tensor); i++)
        element(stream, i, json_report_tensor(&tensor));
    fputs("]", stream);
}

static void write_document(FILE *stream, const arguments *given,
                           const f8_report *report, const f8_verdict *verdict,
                           const char *card)
{
    f8_rule_share share;
    fputs(BEGINNING, stream);
    member(stream, "fp8cast", json_string(f8_version()));
    member(stream, "command",
           json_string(options_command_name(given->command)));
    if (verdict)
        member(stream, "verdict", json_report_verdict(verdict, given));
    member(stream, "source", json_report_source(report, given->paths[0], card));
    member(stream, "result", json_report_result(report, given->paths[1]));
    member(stream, "options", json_report_options(report, given));
    fputs("\n\"rules\":[", stream);
    for (size_t i = 0; f8_report_get_rule(report, i, &share); i++)
        element(stream, i, json_report_rule(&share));
    fputs("],", stream);
    write_groups(stream, report);
    write_tensors(stream, report);
    fputs("}\n", stream);
}

bool report_file_write(output *file, const arguments *given,
                       const f8_report *report, const f8_verdict *verdict)
{
    f8_error err;
    char problem[PROBLEM_BYTES], *card = malloc(F8_CARD_BYTES);
    if (!card)
        message_no_memory();
    f8_status status =
        f8_read_card(given->paths[0], given->follow_links, card, &err);
    /* A link that may not be followed is as good as no card. */
    bool is_known = status == F8_OK || status == F8_ERR_REFUSED;
    if (is_known)
        write_document(file->stream, given, report, verdict, card);
    else
        message_error("%s", err.message);
    free(card);
    if (!is_known)
        return false;
    if (output_finish(file, problem))
        return true;
    message_error("%s", problem);
    return false;
}
