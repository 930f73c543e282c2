/* json.h - results as programs read them: the documents of --json. Key names
 * are a promise; docs and golden tests hold them. Numbers that do not exist
 * (NaN, infinity) are null. Every function returns a new reference; memory
 * that runs out ends the program. */
#ifndef FP8CAST_CLI_JSON_H
#define FP8CAST_CLI_JSON_H

#include <jansson.h>

#include "fp8cast.h"
#include "options.h"
#include "tables.h"

json_t *json_plan(const f8_plan *plan, const f8_serving *serving,
                  const plan_place *place, bool with_tensors);
/* `verdict` is NULL unless quantize verified too, `serving` on the way back. */
json_t *json_convert(const f8_plan *plan, const f8_report *report,
                     const f8_serving *serving, const f8_verdict *verdict);
json_t *json_verdict(const f8_verdict *verdict);
json_t *json_diff(const f8_diff *diff);
/* Pieces of the file that --report writes; docs/report.schema.json. */
json_t *json_report_source(const f8_report *report, const char *src,
                           const char *card);
json_t *json_report_result(const f8_report *report, const char *dst);
/* What verify found in the folders that `given` names. */
json_t *json_report_verdict(const f8_verdict *verdict, const arguments *given);
json_t *json_report_options(const f8_report *report, const arguments *given);
json_t *json_report_rule(const f8_rule_share *share);
json_t *json_error_stats(const f8_error_stats *stats);
json_t *json_report_cell(const f8_error_cell *cell);
json_t *json_report_distribution(const f8_report *report);
json_t *json_report_tensor(const f8_tensor_error *tensor);
json_t *json_inventory(const f8_inventory *inventory,
                       const f8_tensor_info *largest, size_t largest_count,
                       bool with_tensors);
json_t *json_roofline(const f8_roofline *roofline, uint64_t bandwidth);
json_t *json_synth(const char *dir, const f8_inventory *inventory,
                   const f8_synth_options *options, double seconds);
/* ["qwen3_5_moe", ...], and one family as {"name", "text"}. */
json_t *json_families(void);
json_t *json_family(const char *name, const char *text);

#endif
