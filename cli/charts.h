/* charts.h - the smaller drawings on the page of a report, as SVG that fits
 * any width: lengths across are percentages, text keeps its size. */
#ifndef FP8CAST_CLI_CHARTS_H
#define FP8CAST_CLI_CHARTS_H

#include <stdio.h>

#include "report_doc.h"

/* How |v - w| / |w| is distributed, with median and 99.9th percentile, and
 * what lies beyond the drawing in words. */
void chart_histogram(FILE *out, const report_doc *report);

/* Bytes of source and result, one bar each on the same scale. */
void chart_sizes(FILE *out, const report_doc *report);

/* Where in a matrix its worst block lies. */
void chart_block(FILE *out, const report_tensor *tensor);

#endif
