/* heatmap.c - see heatmap.h. First the layers are put in order and a scale is
 * chosen, then one function draws rows by columns, whichever are the layers. */
#include "heatmap.h"
#include "markup.h"
#include "message.h"
#include "text.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* More would be narrower than a pixel, or longer than anyone reads. */
#define LAYERS_MAX 256
#define KINDS_MAX 64
#define STEPS 8

/* One line of cells, downwards or across. */
typedef struct line {
    const report_group *group;
    size_t index;   /* in the report's array                           */
    size_t stack;   /* lines of one stack stand together               */
    size_t prefix;  /* bytes of the name before the layer's number     */
    uint64_t order; /* the number, where there is one                  */
} line;

typedef struct axis {
    line *lines;
    size_t count;
    bool is_layers;
} axis;

/* Steps of colour: step i begins at (first + i) * step, the last has no end
 * when the scale is cut. */
typedef struct scale {
    double step;
    double first;
    double highest;
    bool is_cut;
} scale;

typedef struct heatmap {
    axis layers, kinds;
    double *values; /* by place in layers, then in kinds; NaN: no such tensor,
                     * or nothing of it was measured */
    uint64_t *tensors;
    scale colours;
} heatmap;

/* ---- what is drawn ------------------------------------------------------- */

/* "model.layers.12": the prefix is "model.layers", the order 12. */
static void take_apart(line *layer)
{
    const char *name = layer->group->name;
    size_t end = strlen(name), digits = end;
    while (digits > 0 && isdigit((unsigned char)name[digits - 1]))
        digits--;
    layer->prefix = end;
    if (digits == end || digits == 0 || name[digits - 1] != '.' ||
        end - digits > 9)
        return;
    layer->prefix = digits - 1;
    layer->order = strtoull(name + digits, NULL, 10);
}

static bool is_numbered(const line *layer)
{
    return layer->group->name[layer->prefix] != '\0';
}

static bool same_stack(const line *a, const line *b)
{
    return a->prefix == b->prefix &&
           strncmp(a->group->name, b->group->name, a->prefix) == 0;
}

static int by_stack_and_number(const void *left, const void *right)
{
    const line *a = left, *b = right;
    if (a->stack != b->stack)
        return a->stack < b->stack ? -1 : 1;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static axis make_axis(const report_group *groups, size_t count, size_t most,
                      bool is_layers)
{
    axis out = {.count = count < most ? count : most, .is_layers = is_layers};
    out.lines = calloc(out.count + 1, sizeof *out.lines);
    if (!out.lines)
        message_no_memory();
    for (size_t i = 0; i < out.count; i++) {
        line *made = &out.lines[i];
        *made = (line){.group = &groups[i], .index = i};
        if (!is_layers)
            continue;
        take_apart(made);
        made->stack = i;
        for (size_t k = i; k-- > 0;) {
            if (same_stack(made, &out.lines[k]))
                made->stack = out.lines[k].stack;
        }
    }
    if (is_layers)
        qsort(out.lines, out.count, sizeof *out.lines, by_stack_and_number);
    return out;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The smallest of 0.02 %, 0.05 %, 0.1 %, 0.2 %, ... with which the colours
 * reach from least to most. Finer differences are not worth a colour. */
static double step_for(double least, double most)
{
    static const double digits[] = {1, 2, 5};
    double power = 0.0001;
    for (size_t i = 1; power < 1e300; i++) {
        double step = power * digits[i % 3];
        if (floor(least / step) * step + STEPS * step > most)
            return step;
        if (i % 3 == 2)
            power *= 10;
    }
    return power;
}

/* From the least value to the greatest. A few that are far above the others
 * would leave all of those with one colour: then the last step is for them. */
static scale choose_scale(const heatmap *map)
{
    scale out = {0};
    size_t count = 0, cells = map->layers.count * map->kinds.count;
    double *sorted = malloc((cells + 1) * sizeof *sorted);
    if (!sorted)
        message_no_memory();
    for (size_t i = 0; i < cells; i++) {
        if (isfinite(map->values[i]))
            sorted[count++] = map->values[i];
    }
    if (count > 0) {
        qsort(sorted, count, sizeof *sorted, by_value);
        double least = sorted[0], usual = sorted[(count - 1) * 95 / 100];
        out.highest = sorted[count - 1];
        out.step = step_for(least, out.highest);
        if (out.step > 4 * step_for(least, usual)) {
            out.step = step_for(least, usual);
            out.is_cut = true;
        }
        out.first = floor(least / out.step);
    }
    free(sorted);
    return out;
}

static heatmap make_map(const report_doc *report)
{
    heatmap map = {.layers = make_axis(report->layers, report->layers_count,
                                       LAYERS_MAX, true),
                   .kinds = make_axis(report->kinds, report->kinds_count,
                                      KINDS_MAX, false)};
    size_t places[LAYERS_MAX], cells = map.layers.count * map.kinds.count;
    map.values = calloc(cells + 1, sizeof *map.values);
    map.tensors = calloc(cells + 1, sizeof *map.tensors);
    if (!map.values || !map.tensors)
        message_no_memory();
    for (size_t i = 0; i < cells; i++)
        map.values[i] = (double)NAN;
    for (size_t i = 0; i < map.layers.count; i++)
        places[map.layers.lines[i].index] = i;
    for (size_t i = 0; i < report->cells_count; i++) {
        const report_cell *cell = &report->cells[i];
        if (cell->layer >= map.layers.count || cell->kind >= map.kinds.count)
            continue;
        size_t at = places[cell->layer] * map.kinds.count + cell->kind;
        map.values[at] = cell->relative_rms;
        map.tensors[at] = cell->tensors;
    }
    map.colours = choose_scale(&map);
    return map;
}

/* 0 to STEPS - 1. Values of whole layers or kinds may lie outside. */
static int step_of(const scale *colours, double value)
{
    /* A value on an edge must not fall below it by a rounding. */
    double step = floor(value / colours->step * (1 + 1e-12)) - colours->first;
    if (!(step > 0))
        return 0;
    return step < STEPS - 1 ? (int)step : STEPS - 1;
}

/* ---- drawing ------------------------------------------------------------- */

/* Lengths in units of the drawing, of which one is a pixel at full width. */
typedef struct sheet {
    const char *class, *id;
    const axis *rows, *columns;
    double width, left, right, top; /* of the whole; of the three margins */
    double wide, tall;              /* a cell                             */
    double gap;                     /* between stacks                     */
    double edge;                    /* where the values of rows end       */
    bool with_numbers;              /* in the cells                       */
} sheet;

static double gaps_before(const axis *along, size_t i)
{
    double gaps = 0;
    for (size_t k = 1; k <= i && k < along->count; k++)
        gaps += along->lines[k].stack != along->lines[k - 1].stack;
    return gaps;
}

static double column_at(const sheet *s, size_t i)
{
    return s->left + (double)i * s->wide + gaps_before(s->columns, i) * s->gap;
}

/* Between stacks of layers there is room for the name of the next. */
static double row_at(const sheet *s, size_t i)
{
    double room = s->rows->is_layers ? 20 : 0;
    return s->top + (double)i * s->tall + gaps_before(s->rows, i) * room;
}

/* Dark on light steps, light on dark ones; which of both the one in the middle
 * needs depends on the style sheet. */
static const char *number_class(int step)
{
    if (step == STEPS / 2)
        return "n h";
    return step < STEPS / 2 ? "n" : "n o";
}

/* "2.65", "2e+44": what a cell has room for. */
static figure short_percent(double ratio)
{
    figure out;
    if (ratio < 10)
        snprintf(out.text, sizeof out.text, "%.2f", ratio * 100);
    else
        snprintf(out.text, sizeof out.text, "%.0e", ratio * 100);
    return out;
}

static void cell(FILE *out, const sheet *s, const scale *colours, double x,
                 double y, double value)
{
    fprintf(out,
            "<rect class=\"q%d\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" "
            "height=\"%.1f\"/>",
            step_of(colours, value), x, y, s->wide - 1, s->tall - 1);
    if (s->with_numbers)
        fprintf(out, "<text class=\"%s\" x=\"%.2f\" y=\"%.1f\">%s</text>",
                number_class(step_of(colours, value)), x + (s->wide - 1) / 2,
                y + s->tall / 2 + 3.5, short_percent(value).text);
}

static const char *layer_name(const report_group *layer)
{
    return *layer->name ? layer->name : "outside of layers";
}

static void one_cell(FILE *out, const sheet *s, const heatmap *map, size_t row,
                     size_t column)
{
    size_t layer = s->rows->is_layers ? row : column;
    size_t kind = s->rows->is_layers ? column : row;
    size_t at = layer * map->kinds.count + kind;
    if (isnan(map->values[at]))
        return;
    fputs("<g><title>", out);
    markup_short(out, layer_name(map->layers.lines[layer].group), 120);
    fputs(", ", out);
    markup_short(out, map->kinds.lines[kind].group->name, 120);
    fprintf(
        out, ": %s, %s tensor%s</title>", text_percent(map->values[at]).text,
        text_count(map->tensors[at]).text, map->tensors[at] == 1 ? "" : "s");
    cell(out, s, &map->colours, column_at(s, column), row_at(s, row),
         map->values[at]);
    fputs("</g>\n", out);
}

/* The last row: each column as a whole. */
static void column_sums(FILE *out, const sheet *s, const heatmap *map)
{
    double y = row_at(s, s->rows->count) + 6;
    fprintf(out, "<text class=\"l\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
            s->left - 7, y + s->tall / 2 + 4,
            s->rows->is_layers ? "all" : "all kinds");
    for (size_t i = 0; i < s->columns->count; i++) {
        const report_group *group = s->columns->lines[i].group;
        if (isnan(group->error.relative_rms))
            continue;
        fputs("<g><title>", out);
        markup_short(
            out, s->columns->is_layers ? layer_name(group) : group->name, 120);
        fprintf(out, ", all: %s</title>",
                text_percent(group->error.relative_rms).text);
        cell(out, s, &map->colours, column_at(s, i), y,
             group->error.relative_rms);
        fputs("</g>\n", out);
    }
}

/* "model.language_model.layers", what the layers of a stack have in common. */
static void stack_name(FILE *out, const line *first, size_t most)
{
    char *name = strndup(layer_name(first->group),
                         is_numbered(first) ? first->prefix : SIZE_MAX);
    if (!name)
        message_no_memory();
    markup_short(out, name, most);
    free(name);
}

static bool begins_stack(const axis *along, size_t i)
{
    return i == 0 || along->lines[i].stack != along->lines[i - 1].stack;
}

static void row_labels(FILE *out, const sheet *s)
{
    for (size_t i = 0; i < s->rows->count; i++) {
        const line *row = &s->rows->lines[i];
        double y = row_at(s, i), base = y + s->tall / 2 + 4;
        if (s->rows->is_layers && begins_stack(s->rows, i)) {
            fprintf(out, "<text class=\"k\" x=\"0\" y=\"%.1f\">", y - 6);
            stack_name(out, row, 40);
            fputs("</text>\n", out);
        }
        fprintf(out, "<text class=\"l\" x=\"%.1f\" y=\"%.1f\">", s->left - 7,
                base);
        if (!s->rows->is_layers)
            markup_short(out, row->group->name, 34);
        else if (is_numbered(row))
            fprintf(out, "%" PRIu64, row->order);
        fprintf(
            out, "</text><text class=\"l\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
            s->edge, base, text_percent(row->group->error.relative_rms).text);
    }
}

/* Under the columns: their numbers, as many as have room. */
static void layer_numbers(FILE *out, const sheet *s)
{
    uint64_t every = s->wide >= 20 ? 1 : s->wide >= 6 ? 5 : 20;
    double y = row_at(s, s->rows->count) + 6 + s->tall + 14;
    for (size_t i = 0; i < s->columns->count; i++) {
        const line *column = &s->columns->lines[i];
        if (is_numbered(column) && column->order % every == 0)
            fprintf(out,
                    "<text class=\"m\" x=\"%.1f\" y=\"%.1f\">%" PRIu64
                    "</text>\n",
                    column_at(s, i) + (s->wide - 1) / 2, y, column->order);
    }
}

/* Above them: the first stack's name from its left, the last one's from its
 * right; titles tell of those between. */
static void stack_names(FILE *out, const sheet *s)
{
    size_t last = s->columns->count - 1;
    fprintf(out, "<text class=\"k\" x=\"%.1f\" y=\"%.1f\">", s->left,
            s->top - 8);
    stack_name(out, &s->columns->lines[0], 60);
    fputs("</text>\n", out);
    if (s->columns->lines[last].stack == s->columns->lines[0].stack)
        return;
    fprintf(out, "<text class=\"l\" x=\"%.1f\" y=\"%.1f\">",
            column_at(s, last) + s->wide, s->top - 8);
    stack_name(out, &s->columns->lines[last], 30);
    fputs("</text>\n", out);
}

static void kind_names(FILE *out, const sheet *s)
{
    for (size_t i = 0; i < s->columns->count; i++) {
        fprintf(out,
                "<text class=\"k\" transform=\"translate(%.1f %.1f) "
                "rotate(-90)\">",
                column_at(s, i) + s->wide / 2 + 3, s->top - 24);
        markup_short(out, s->columns->lines[i].group->name, 32);
        fputs("</text>\n", out);
    }
}

static void draw(FILE *out, const sheet *s, const heatmap *map)
{
    double height = row_at(s, s->rows->count) + 6 + s->tall +
                    (s->columns->is_layers ? 20 : 2);
    fprintf(out,
            "<svg class=\"heat %s\" xmlns=\"http://www.w3.org/2000/svg\" "
            "viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
            "aria-labelledby=\"%s\">\n<title id=\"%s\">Relative RMS error by "
            "layer and kind of tensor</title>\n",
            s->class, s->width, height, s->id, s->id);
    if (s->columns->is_layers) {
        stack_names(out, s);
        layer_numbers(out, s);
    } else {
        kind_names(out, s);
    }
    row_labels(out, s);
    for (size_t row = 0; row < s->rows->count; row++) {
        for (size_t column = 0; column < s->columns->count; column++)
            one_cell(out, s, map, row, column);
    }
    column_sums(out, s, map);
    fputs("</svg>\n", out);
}

/* A cell's share of the width, no more than `most`. */
static double cell_width(const sheet *s, double most)
{
    double gaps = gaps_before(s->columns, s->columns->count) * s->gap;
    double width =
        (s->width - s->left - s->right - gaps) / (double)s->columns->count;
    return width < most ? width : most;
}

static void draw_wide(FILE *out, const heatmap *map)
{
    sheet s = {.class = "wide",
               .id = "heat-wide",
               .rows = &map->kinds,
               .columns = &map->layers,
               .width = 920,
               .left = 212,
               .right = 58,
               .top = 26,
               .tall = 22,
               .gap = 6};
    s.wide = cell_width(&s, 56);
    s.with_numbers = s.wide >= 34;
    s.edge = column_at(&s, s.columns->count) + s.right;
    draw(out, &s, map);
}

static void draw_narrow(FILE *out, const heatmap *map)
{
    sheet s = {.class = "narrow",
               .id = "heat-narrow",
               .rows = &map->layers,
               .columns = &map->kinds,
               .width = 330,
               .left = 30,
               .right = 46,
               .top = 206,
               .tall = 16};
    s.wide = cell_width(&s, 28);
    s.edge = column_at(&s, s.columns->count) + s.right;
    draw(out, &s, map);
}

/* ---- legend -------------------------------------------------------------- */

/* A swatch a step, with the value at its lower edge. */
static void legend(FILE *out, const scale *colours)
{
    int decimals = colours->step < 0.001 ? 2 : colours->step < 0.01 ? 1 : 0;
    fputs("<ol class=\"legend\" aria-label=\"Steps of colour, from the "
          "smallest error\">",
          out);
    for (int i = 0; i < STEPS; i++)
        fprintf(out, "<li><i class=\"q%d\"></i>%s%s</li>", i,
                text_real((colours->first + i) * colours->step * 100, decimals)
                    .text,
                i == STEPS - 1 && colours->is_cut ? " and more" : "");
    fprintf(out,
            "</ol>\n<p class=\"note\">Relative RMS in percent; the number is "
            "the lower end of its colour, a step is %s points.",
            text_real(colours->step * 100, decimals).text);
    if (colours->is_cut)
        fprintf(out, " The highest value is %s, far above the scale.",
                text_percent(colours->highest).text);
    fputs(" Blank: the layer has no such tensor, or nothing of it was "
          "measured.</p>\n",
          out);
}

void heatmap_write(FILE *out, const report_doc *report)
{
    heatmap map = make_map(report);
    if (map.colours.step > 0) {
        legend(out, &map.colours);
        draw_wide(out, &map);
        draw_narrow(out, &map);
    } else {
        fputs("<p class=\"note\">The report has no cells.</p>\n", out);
    }
    if (report->layers_count > LAYERS_MAX || report->kinds_count > KINDS_MAX)
        fprintf(out,
                "<p class=\"note\">Drawn are %zu of %zu layers and %zu of %zu "
                "kinds.</p>\n",
                map.layers.count, report->layers_count, map.kinds.count,
                report->kinds_count);
    free(map.layers.lines);
    free(map.kinds.lines);
    free(map.values);
    free(map.tensors);
}
