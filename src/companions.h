/* companions.h - what stands beside the weights of a result: its other files,
 * held against those that quantize would carry over, and the metadata in its
 * shards. docs/format.md, section 6. */
#ifndef F8_COMPANIONS_H
#define F8_COMPANIONS_H

#include "checkpoint.h"

/* Reads every other file of both. */
f8_status f8_companions_check(const f8_checkpoint *source,
                              const f8_checkpoint *result,
                              f8_findings *findings, f8_error *err);

#endif
