/* companions.h - what stands beside the weights of a result: its other files,
 * held against those that quantize would carry over, and the metadata in its
 * shards. docs/format.md, section 6. */
#ifndef F8_COMPANIONS_H
#define F8_COMPANIONS_H

#include "checkpoint.h"

/* Asked again and again while files are compared, of which so many bytes are
 * done, whether to go on. */
typedef bool f8_companions_told(void *ctx, uint64_t bytes_done,
                                uint64_t bytes_total);

/* Reads every other file of both. F8_ERR_CANCELLED when `told` says so. */
f8_status f8_companions_check(const f8_checkpoint *source,
                              const f8_checkpoint *result,
                              f8_companions_told *told, void *ctx,
                              f8_findings *findings, f8_error *err);

#endif
