/* plan.h - everything that is decided, as data: which tensors become what, in
 * which result shard, at which offset. Made from headers alone; the pipeline
 * only moves bytes. */
#ifndef F8_PLAN_H
#define F8_PLAN_H

#include "checkpoint.h"
#include "rules.h"
#include "sidefiles.h"

#define F8_DEFAULT_SHARD_BYTES UINT64_C(5000000000)
#define F8_DEFAULT_MEMORY_BYTES (UINT64_C(256) << 20)
/* The hub's libraries refuse to read longer headers. */
#define F8_HEADER_MAX_BYTES UINT64_C(25000000)

enum { F8_MAX_KINDS = 64, F8_KIND_BYTES = 64, F8_MAX_LAYERS = 1024 };

/* One result: a kept tensor, or a quantised weight with its scale. */
typedef struct f8_unit {
    const char *name;
    uint32_t source; /* index of the source tensor */
    uint32_t shard;
    f8_action action;
    uint16_t kind;  /* quantised: index into plan->kinds */
    uint16_t layer; /* and into plan->layers */
    uint16_t rank;
    const uint64_t *shape;
    uint64_t offset;      /* of the first source byte, in the source's shard */
    uint64_t bytes;       /* of the source */
    uint64_t data_begin;  /* in the result shard's data */
    uint64_t scale_begin; /* quantised */
} f8_unit;

/* What was decided for one source tensor. */
typedef struct f8_decision {
    const f8_rule *rule;
    const char *decided_by;
    f8_action action;
    bool linear; /* when kept: a loader would build a Linear */
    uint64_t first_unit, units_count;
    uint64_t part_shape[2]; /* of a split: rows and columns of one part */
} f8_decision;

typedef struct f8_shard {
    char *name;
    uint64_t first_unit, units_count;
    uint64_t data_bytes;   /* tensor data */
    uint64_t tensors;      /* scales counted */
    uint64_t header_bytes; /* as reckoned when the shards were cut */
} f8_shard;

struct f8_plan {
    f8_checkpoint *source;
    f8_rules *rules;
    f8_side_files sides;
    f8_scale_dtype scale_dtype;
    f8_scales choice;
    uint64_t shard_bytes;
    uint64_t memory_bytes;
    unsigned threads;
    f8_decision *decisions; /* one a source tensor */
    f8_unit *units;
    uint64_t units_count;
    f8_shard *shards;
    uint64_t shards_count;
    json_t *not_converted; /* array of module names */
    char (*kinds)[F8_KIND_BYTES];
    size_t kinds_count;
    const char **layers;
    size_t layers_count;
    uint64_t fp8_weights, kept, parameters, result_bytes;
    /* Tells the source's files apart: names, sizes, times of change, headers,
     * config. The other hashes all that shapes the result, source included. */
    uint64_t source_fingerprint, fingerprint;
    f8_arena strings;
};

/* Rows and columns of a quantised unit. */
static inline uint64_t f8_unit_rows(const f8_unit *u)
{
    return u->shape[0];
}
static inline uint64_t f8_unit_cols(const f8_unit *u)
{
    return u->shape[1];
}

/* Decides every tensor of an open checkpoint: fills rules, decisions and
 * units, but cuts no shards. Overrides may be NULL. Used by verify too. */
f8_status f8_plan_decide(f8_plan *plan, const f8_options *options,
                         f8_error *err);

/* Frees what the plan owns, not the plan itself. */
void f8_plan_clear(f8_plan *plan);

/* Cuts the units into shards, and fixes names, offsets and totals. */
f8_status f8_plan_cut_shards(f8_plan *plan, f8_error *err);

/* What a unit is stored as. */
f8_dtype f8_unit_dtype(const f8_plan *plan, const f8_unit *u);

/* The first bytes of result shard i into buf, which is emptied first. */
f8_status f8_plan_shard_header(const f8_plan *plan, uint64_t i, f8_buf *buf,
                               f8_error *err);

/* Changes what becomes of a unit; verify does, to what it found. False when
 * memory ran out. */
bool f8_plan_set_action(f8_plan *plan, uint64_t unit, f8_action action);

/* options with every default filled in; refuses a size that is not ours. */
f8_status f8_options_fill(const f8_options *options, f8_options *filled,
                          f8_error *err);

#endif
