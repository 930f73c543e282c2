/* report.c - fuzz target: a report read back, and drawn. A refusal must be one
 * line that names the file; what is accepted must keep what report_doc.h
 * promises of indices, ranges and lengths, and drawn as text, page, card and
 * command it must be text that no terminal, browser or shell obeys: no control
 * characters, a page that is well-formed, a command whose words are closed. */
#include "fuzz.h"

#include "card.h"
#include "message.h"
#include "page.h"
#include "repeat.h"
#include "report_doc.h"
#include "tables.h"

#include <math.h>

/* ---- what is promised of an accepted report -------------------------------
 */

static bool is_ratio(double number)
{
    return isnan(number) || number >= 0;
}

static void check_measures(const report_measures *error)
{
    require(is_ratio(error->median) && is_ratio(error->p999) &&
                is_ratio(error->relative_rms) &&
                is_ratio(error->max_abs_error) &&
                !isinf(error->max_abs_error) &&
                !(fabs(error->cosine) > 1.001) && error->codes_unused <= 254,
            "a measure out of range");
    require(
        error->blocks > 0 || error->unmeasured_blocks > 0 ||
            !isnan(error->relative_rms + error->cosine + error->max_abs_error),
        "no measure, and nothing that was not measured");
}

static void check_groups(const report_group *groups, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        require(groups[i].name && strlen(groups[i].name) <= 4096, "a name");
        check_measures(&groups[i].error);
    }
}

static void check_worst(const report_doc *report)
{
    require(report->worst_count <= 20, "more than twenty worst tensors");
    for (size_t i = 0; i < report->worst_count; i++) {
        const report_tensor *t = &report->worst[i];
        require(t->layer < report->layers_count &&
                    t->kind < report->kinds_count,
                "a tensor of no layer or kind");
        for (int k = 0; k < 2; k++) {
            uint64_t blocks =
                t->shape[k] / F8_BLOCK + (t->shape[k] % F8_BLOCK != 0);
            require(!t->has_largest || t->largest[k] < t->shape[k],
                    "an element outside of its tensor");
            require(!t->has_block || t->block[k] < blocks,
                    "a block outside of its tensor");
        }
        check_measures(&t->error);
    }
}

static void check_histogram(const report_histogram *histogram)
{
    double total = (double)histogram->exact + (double)histogram->above;

    for (size_t i = 0; i < histogram->bins; i++) {
        require(histogram->edges[i] < histogram->edges[i + 1],
                "edges that do not ascend");
        total += (double)histogram->counts[i];
    }
    require(fabs(total - histogram->total) <= 1e-6 * total,
            "another total: %g, not %g", histogram->total, total);
}

static void check_remarks(const report_remarks *remarks)
{
    require(remarks->lines_count <= 100 &&
                remarks->lines_count <= remarks->total,
            "more lines than faults or warnings");
    for (size_t i = 0; i < remarks->lines_count; i++)
        require(remarks->lines[i] && strlen(remarks->lines[i]) <= 4096,
                "a line");
}

static void check_report(const report_doc *report)
{
    check_remarks(&report->faults);
    check_remarks(&report->warnings);
    check_groups(&report->overall, 1);
    check_groups(report->kinds, report->kinds_count);
    check_groups(report->layers, report->layers_count);
    for (size_t i = 0; i < report->cells_count; i++)
        require(report->cells[i].layer < report->layers_count &&
                    report->cells[i].kind < report->kinds_count,
                "a cell of no layer or kind");
    for (size_t i = 0; i < report->overrides_count; i++)
        require(report->overrides[i].glob != NULL, "no glob");
    check_worst(report);
    check_histogram(&report->histogram);
}

/* ---- what is drawn ---------------------------------------------------------
 */

/* Of the lines that a terminal may be shown. */
static void check_plain(const char *text, size_t bytes)
{
    require(strlen(text) == bytes, "a NUL in what is drawn");
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        require((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t',
                "control character %#x in what is drawn", c);
    }
}

enum { NESTED_MAX = 64, TAG_MAX = 32 };

/* Tags that are closed in the order in which they were opened, attributes in
 * double quotes, no bare & or <; one element for the whole. */
static void check_page(const char *at)
{
    char open[NESTED_MAX][TAG_MAX];
    int depth = 0, roots = 0;

    while ((at = strchr(at, '<'))) {
        bool closes = at[1] == '/';
        const char *name = at + 1 + closes;
        size_t n = strcspn(name, " />\n");
        if (*name == '!') { /* the document's type */
            at = strchr(name, '>');
            require(at != NULL, "a tag without an end");
            continue;
        }
        require(n > 0 && n < TAG_MAX, "a < that begins no tag: %.40s", at);
        const char *end = name + n;
        for (bool quoted = false; *end && (quoted || *end != '>'); end++) {
            require(*end != '<', "a < within a tag: %.40s", at);
            if (*end == '"')
                quoted = !quoted;
        }
        require(*end == '>', "a tag without an end: %.40s", at);
        require(n != 6 || strncmp(name, "script", 6) != 0, "a script");
        if (closes) {
            require(depth > 0 && strlen(open[depth - 1]) == n &&
                        !strncmp(open[depth - 1], name, n),
                    "closes what is not open: %.40s", at);
            depth--;
        } else if (end[-1] != '/') {
            require(depth < NESTED_MAX, "nested too deep");
            roots += depth == 0;
            snprintf(open[depth++], TAG_MAX, "%.*s", (int)n, name);
        }
        at = end;
    }
    require(depth == 0 && roots == 1, "%d elements open, %d outermost", depth,
            roots);
}

/* Words of characters that mean nothing to a shell, or in single quotes, in
 * which nothing does; a quote itself is escaped between two of them. */
static void check_command(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_./:=+,@- ";
    bool quoted = false;

    require(!strncmp(text, "fp8cast ", 8), "another program: %s", text);
    for (const char *at = text; *at; at++) {
        require(*at != '\n', "a command of several lines: %s", text);
        if (*at == '\'')
            quoted = !quoted;
        else if (!quoted && *at == '\\' && at[1] == '\'')
            at++;
        else
            require(quoted || strchr(plain, *at), "the shell reads %s", at);
    }
    require(!quoted, "a quote that does not end: %s", text);
}

typedef void writer(FILE *out, const report_doc *report);

static void write_table(FILE *out, const report_doc *report)
{
    message_divert(out);
    table_report(report);
    message_divert(NULL);
}

static void write_card(FILE *out, const report_doc *report)
{
    char problem[PROBLEM_BYTES] = "";

    if (!card_write(out, report, "owner/name", problem))
        require(*problem != '\0', "no reason why there is no card");
}

/* The caller frees it. */
static char *drawn(writer *write, const report_doc *report)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = message_stream(&text, &bytes);

    write(out, report);
    message_stream_end(out, &text);
    check_plain(text, bytes);
    return text;
}

static void draw(const report_doc *report)
{
    char *text = drawn(page_write, report);
    check_page(text);
    free(text);
    text = drawn(repeat_write, report);
    check_command(text);
    free(text);
    free(drawn(write_card, report));
    free(drawn(write_table, report));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char problem[PROBLEM_BYTES] = "";
    report_doc report;
    json_error_t why;
    json_t *root =
        json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, &why);

    if (!root)
        return 0;
    bool accepted = report_doc_take(root, "FILE", &report, problem);
    require(accepted == (*problem == '\0'), "accepted, but: %s", problem);
    if (accepted) {
        check_report(&report);
        draw(&report);
    } else {
        require(!strncmp(problem, "FILE: ", 6), "names no file: %s", problem);
    }
    report_doc_free(&report);
    return 0;
}
