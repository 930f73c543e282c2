/* index.h - model.safetensors.index.json: which tensor is in which shard.
 * Reads the text alone; checkpoint.c holds it against the folder. */
#ifndef F8_INDEX_H
#define F8_INDEX_H

#include "json.h"

/* Shards of a checkpoint. The largest models have some hundreds. */
enum { F8_SHARDS_MAX = 10000 };

typedef struct f8_index_entry {
    const char *tensor;
    const char *file; /* one of f8_index.files */
} f8_index_entry;

typedef struct f8_index {
    f8_index_entry *entries; /* by tensor */
    size_t count, capacity;
    const char **files; /* sorted, each once */
    size_t files_count, files_capacity;
    uint64_t names_bytes; /* of all tensors */
    int64_t total_size;   /* -1: not said */
    f8_arena strings;
} f8_index;

/* Reads an index to its end. *index is the caller's to free, after a failure
 * too. Names in weight_map that are no plain file names are refused. */
f8_status f8_index_read(f8_json *json, f8_index *index);
void f8_index_free(f8_index *index); /* a zeroed one is fine */

/* NULL when it has no such tensor. */
const f8_index_entry *f8_index_find(const f8_index *index, const char *tensor);

#endif
