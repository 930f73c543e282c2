/* manifest.h - the two small files that make a folder a checkpoint: the index
 * and config.json with its quantization_config. docs/format.md, 4 and 5. */
#ifndef F8_MANIFEST_H
#define F8_MANIFEST_H

#include "plan.h"

/* Text of model.safetensors.index.json; only for several shards. */
f8_status f8_manifest_index(const f8_plan *plan, f8_buf *text, f8_error *err);
/* How long that will be, without writing it. */
uint64_t f8_manifest_index_bytes(const f8_plan *plan);
/* The source's config.json with quantization_config added, or, where the
 * source has one, with another in its place; on the way back without it. */
f8_status f8_manifest_config(const f8_plan *plan, f8_buf *text, f8_error *err);

/* Adds `"key": value` as the last member of the object that `config`, valid
 * JSON, holds; every byte that stands there stays. */
f8_status f8_json_splice(const f8_buf *config, const char *key,
                         const json_t *value, f8_buf *text, f8_error *err);

/* The inverse: takes the member `key` out, of the object that the text holds
 * or, where `outer` is not NULL, of the object that is its member `outer`. Of
 * what f8_json_splice made it leaves what was there before. F8_ERR_INTERNAL
 * when there is no such member. */
f8_status f8_json_cut(const f8_buf *config, const char *outer, const char *key,
                      f8_buf *text, f8_error *err);

#endif
