/* heatmap.h - relative RMS by layer and kind as SVG, for the page of a report.
 * It is drawn twice, kinds downwards for wide pages and paper, layers
 * downwards for narrow ones; style sheets show one of them. Colours are
 * classes, q0 (least) to q7. */
#ifndef FP8CAST_CLI_HEATMAP_H
#define FP8CAST_CLI_HEATMAP_H

#include <stdio.h>

#include "report_doc.h"

/* Legend and both drawings; a sentence when there is nothing to draw. */
void heatmap_write(FILE *out, const report_doc *report);

#endif
