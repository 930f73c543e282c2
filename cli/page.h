/* page.h - a report as one HTML file that stands alone. Skeleton, style and
 * most sentences are pages/report.html; page.c fills in what depends on the
 * report. */
#ifndef FP8CAST_CLI_PAGE_H
#define FP8CAST_CLI_PAGE_H

#include <stdio.h>

#include "report_doc.h"

/* Well-formed XML too, whatever the report's strings hold. */
void page_write(FILE *out, const report_doc *report);

#endif
