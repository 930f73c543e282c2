/* members.h - the members of a result's quantization_config but its lists of
 * modules, each held against what quantize would write and what loaders read:
 * docs/format.md, section 5. */
#ifndef F8_MEMBERS_H
#define F8_MEMBERS_H

#include "checkpoint.h"

/* has_e8m0: some scale is stored as F8_E8M0. */
f8_status f8_members_check(const json_t *config, bool has_e8m0,
                           f8_findings *findings, f8_error *err);
/* Once all scales were read: whether scale_fmt tells the truth of them. */
f8_status f8_members_check_scales(const json_t *config, uint64_t powers,
                                  uint64_t scales, f8_findings *findings,
                                  f8_error *err);

#endif
