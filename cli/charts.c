/* charts.c - see charts.h. */
#include "charts.h"
#include "markup.h"
#include "text.h"

#include <math.h>
#include <string.h>

/* ---- distribution -------------------------------------------------------- */

/* Bars that are drawn; finer ones are put together. */
#define BARS_MAX 300
/* Half of e4m3's widest step, twice; few weights have a larger error. */
#define USUAL_END 0.125

/* What of the histogram is drawn: bins below `bins`, errors below `end`. */
typedef struct view {
    const report_histogram *from;
    size_t bins;
    double end, beyond; /* beyond: share of the weights with larger errors */
    double peak;        /* largest density                                 */
} view;

static double density(const report_histogram *from, size_t first, size_t end)
{
    double count = 0;
    for (size_t i = first; i < end; i++)
        count += (double)from->counts[i];
    return count / (from->edges[end] - from->edges[first]);
}

static size_t bar_end(const view *v, size_t first)
{
    size_t step = (v->bins + BARS_MAX - 1) / BARS_MAX;
    return first + step < v->bins ? first + step : v->bins;
}

/* Up to the edge that 999 of 1000 weights are below, but for long tails. */
static view choose_view(const report_histogram *from)
{
    view v = {.from = from, .bins = from->bins};
    double below = (double)from->exact;
    for (size_t i = 0; i < from->bins; i++) {
        below += (double)from->counts[i];
        bool is_long =
            from->edges[i + 1] >= USUAL_END && below > 0.95 * from->total;
        if (below >= 0.999 * from->total || is_long) {
            v.bins = i + 1;
            break;
        }
    }
    v.end = from->edges[v.bins];
    v.beyond = from->total > 0 ? (from->total - below) / from->total : 0;
    if (v.beyond < 0)
        v.beyond = 0;
    for (size_t i = 0, next; i < v.bins; i = next) {
        next = bar_end(&v, i);
        double bar = density(from, i, next);
        if (bar > v.peak)
            v.peak = bar;
    }
    return v;
}

/* A path in a square of 1000, which is stretched to the width of the page. */
static void bars(FILE *out, const view *v)
{
    fputs("<svg x=\"0\" y=\"34\" width=\"100%\" height=\"170\" "
          "viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\">"
          "<path class=\"bars\" d=\"M0 1000",
          out);
    for (size_t i = 0, next; i < v->bins; i = next) {
        next = bar_end(v, i);
        double height = density(v->from, i, next) / v->peak * 1000;
        fprintf(out, "L%.1f %.0fL%.1f %.0f", v->from->edges[i] / v->end * 1000,
                1000 - height, v->from->edges[next] / v->end * 1000,
                1000 - height);
    }
    fputs("L1000 1000Z\"/></svg>\n", out);
}

/* Marks at round percentages, ten at most. */
static void ticks(FILE *out, const view *v)
{
    static const double digits[] = {1, 2, 5};
    double power = 1e-5, step = power;
    for (size_t i = 1; v->end / step > 10; i++) {
        step = power * digits[i % 3];
        if (i % 3 == 2)
            power *= 10;
    }
    for (int i = 0; i * step < v->end * 0.97; i++)
        fprintf(out,
                "<line class=\"tick\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"204\" "
                "y2=\"209\"/><text class=\"%s\" x=\"%.2f%%\" y=\"222\">%g"
                "\u2009%%</text>\n",
                i * step / v->end * 100, i * step / v->end * 100,
                i == 0 ? "s" : "m s", i * step / v->end * 100, i * step * 100);
}

static void mark(FILE *out, const view *v, const char *name, double value,
                 int y)
{
    if (isnan(value) || value > v->end)
        return;
    double x = value / v->end * 100;
    fprintf(out,
            "<line class=\"mark\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" "
            "y2=\"204\"/><text class=\"%s\" x=\"%.2f%%\" dx=\"%d\" "
            "y=\"%d\">%s %s</text>\n",
            x, x, y - 10, x < 50 ? "k" : "l", x, x < 50 ? 6 : -6, y, name,
            text_percent(value).text);
}

void chart_histogram(FILE *out, const report_doc *report)
{
    const report_histogram *from = &report->histogram;
    view v = choose_view(from);
    if (!(from->total > 0) || !(v.peak > 0)) {
        fputs(report->overall.error.blocks == 0
                  ? "<p>No weight was measured.</p>\n"
                  : "<p>No weight has an error.</p>\n",
              out);
        return;
    }
    fputs("<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" "
          "width=\"100%\" height=\"228\" role=\"img\" "
          "aria-labelledby=\"histogram\"><title id=\"histogram\">",
          out);
    fprintf(out,
            "Distribution of the relative error: median %s, 99.9th "
            "percentile %s</title>\n",
            text_percent(report->overall.error.median).text,
            text_percent(report->overall.error.p999).text);
    bars(out, &v);
    fputs("<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"204\" y2=\"204\"/>\n",
          out);
    ticks(out, &v);
    mark(out, &v, "median", report->overall.error.median, 14);
    mark(out, &v, "99.9th percentile", report->overall.error.p999, 30);
    fputs("</svg>\n", out);
    fprintf(out,
            "<p class=\"note\">Across: |v − w| / |w|, the error of a weight "
            "relative to itself. Upwards: how many weights have it. %s of the "
            "weights came out exact",
            text_percent((double)from->exact / from->total).text);
    if (v.beyond > 0)
        fprintf(out, "; %s lie beyond the right edge, which is at %s",
                text_percent(v.beyond).text, text_percent(v.end).text);
    fputs(".</p>\n", out);
}

/* ---- sizes --------------------------------------------------------------- */

static void bar(FILE *out, const char *class, double from, double part,
                const char *title)
{
    fprintf(out,
            "<rect class=\"%s\" x=\"%.3f%%\" y=\"0\" width=\"%.3f%%\" "
            "height=\"16\"><title>%s</title></rect>",
            class, from * 100, part * 100, title);
}

static void bar_begin(FILE *out, const char *id, const char *title,
                      uint64_t bytes)
{
    fprintf(out,
            "<svg class=\"size\" xmlns=\"http://www.w3.org/2000/svg\" "
            "width=\"100%%\" height=\"16\" role=\"img\" "
            "aria-labelledby=\"%s\"><title id=\"%s\">%s, %s</title>",
            id, id, title, text_bytes(bytes).text);
}

void chart_sizes(FILE *out, const report_doc *report)
{
    double source = (double)report->source.bytes;
    double result = (double)report->result.bytes;
    double kept = (double)report->kept_bytes;
    double whole = source > result ? source : result;
    if (!(whole > 0))
        return;
    if (kept > result)
        kept = result;
    uint64_t fp8 = (uint64_t)(result - kept);
    fprintf(out, "<p class=\"bar-label\">Source <b>%s</b></p>\n",
            text_bytes(report->source.bytes).text);
    bar_begin(out, "size-source", "Source", report->source.bytes);
    bar(out, "before", 0, source / whole, "Source");
    fprintf(out,
            "</svg>\n<p class=\"bar-label\">Result <b>%s</b>: FP8 weights and "
            "scales %s, kept as they were %s</p>\n",
            text_bytes(report->result.bytes).text, text_bytes(fp8).text,
            text_bytes(report->kept_bytes).text);
    bar_begin(out, "size-result", "Result", report->result.bytes);
    bar(out, "fp8", 0, (result - kept) / whole, "FP8 weights and scales");
    bar(out, "kept", (result - kept) / whole, kept / whole,
        "kept as they were");
    fputs("</svg>\n", out);
}

/* ---- a block in its matrix ----------------------------------------------- */

/* The longer side of the picture, and the smallest mark that can be seen. */
#define PICTURE 44.0
#define MARK_LEAST 4.0

static double mark_at(uint64_t block, double scale, double side, double mark)
{
    double at = (double)block * F8_BLOCK * scale;
    return at + mark > side ? side - mark : at;
}

void chart_block(FILE *out, const report_tensor *tensor)
{
    double rows = (double)tensor->shape[0], columns = (double)tensor->shape[1];
    double longer = rows > columns ? rows : columns, sides[2], marks[2];
    if (!tensor->has_block || !(longer > 0))
        return;
    double scale = PICTURE / longer;
    for (int i = 0; i < 2; i++) {
        sides[i] = (double)tensor->shape[i] * scale;
        if (sides[i] < MARK_LEAST)
            sides[i] = MARK_LEAST;
        marks[i] = F8_BLOCK * scale;
        if (marks[i] < MARK_LEAST)
            marks[i] = MARK_LEAST;
        if (marks[i] > sides[i])
            marks[i] = sides[i];
    }
    fprintf(out,
            "<svg class=\"where\" xmlns=\"http://www.w3.org/2000/svg\" "
            "width=\"%.0f\" height=\"%.0f\" aria-hidden=\"true\">"
            "<rect class=\"frame\" x=\"0.5\" y=\"0.5\" width=\"%.1f\" "
            "height=\"%.1f\"/><rect class=\"spot\" x=\"%.1f\" y=\"%.1f\" "
            "width=\"%.1f\" height=\"%.1f\"/></svg>",
            sides[1] + 1, sides[0] + 1, sides[1], sides[0],
            mark_at(tensor->block[1], scale, sides[1], marks[1]) + 0.5,
            mark_at(tensor->block[0], scale, sides[0], marks[0]) + 0.5,
            marks[1], marks[0]);
}
