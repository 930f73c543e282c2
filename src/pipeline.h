/* pipeline.h - workers, bounded buffers, cancel, first error wins. Cuts units
 * into items, hands them out in order, and retires them in order, so that
 * sums do not depend on the number of threads. What happens to an item is the
 * caller's: quantize and verify bring their own functions. */
#ifndef F8_PIPELINE_H
#define F8_PIPELINE_H

#include <semaphore.h>

#include "direct.h"
#include "distance.h"
#include "quant.h"

/* One unit of work as the pipeline sees it. A matrix is cut into panels of
 * whole bands; everything else into runs of bytes. */
typedef struct f8_work {
    bool matrix;
    uint32_t shard;
    uint64_t rows, cols; /* of a matrix */
    f8_dtype dtype;      /* of a matrix, in the source */
    f8_dtype widest;     /* of a matrix: what else has to fit a worker's
                          * buffer, where that is wider than dtype */
    uint64_t bytes;      /* of the source */
} f8_work;

/* Part of a unit. Of a matrix: rows [row, row + rows) and columns
 * [col, col + cols), both from a multiple of 128. Else bytes
 * [begin, begin + bytes). `bytes` counts source bytes in both cases. */
typedef struct f8_item {
    uint64_t unit;
    uint64_t row, rows, col, cols;
    uint64_t begin, bytes;
    bool last; /* of its unit */
} f8_item;

/* A worker's own memory; nothing in it is shared. */
typedef struct f8_worker {
    unsigned char *in;     /* a chunk: source, or the side to compare */
    unsigned char *out;    /* a chunk: codes, or the other side */
    unsigned char *scales; /* scales_bytes */
    sem_t *turns;          /* shared: see f8_worker_compute */
    void *user;            /* the caller's, see worker_begin */
} f8_worker;

/* There are more workers than threads, so that some wait for the disk while
 * others compute; between these calls at most `threads` of them are. */
void f8_worker_compute(f8_worker *worker);
void f8_worker_computed(f8_worker *worker);

/* What an item left behind; zeroed before work is called. */
typedef struct f8_outcome {
    f8_finds finds;
    uint64_t hist[F8_HIST_BINS];
    f8_check check;
    f8_distance distance; /* of diff */
    uint64_t faults;      /* the caller's own count */
} f8_outcome;

/* All of ctx is the caller's. `locked` functions run under the pipeline's
 * mutex, one at a time; retire is called in item order. Any may be NULL
 * but get and work. */
typedef struct f8_pipeline_ops {
    void *ctx;
    void (*get)(void *ctx, uint64_t unit, f8_work *work); /* locked */
    bool (*skip)(void *ctx, uint32_t shard);              /* locked */
    f8_status (*worker_begin)(void *ctx, f8_worker *worker, f8_error *err);
    void (*worker_end)(void *ctx, f8_worker *worker);
    f8_status (*shard_begin)(void *ctx, uint32_t shard,
                             f8_error *err); /* locked */
    f8_status (*work)(void *ctx, f8_worker *worker, const f8_item *item,
                      f8_outcome *outcome, f8_error *err);
    f8_status (*retire)(void *ctx, const f8_item *item,
                        const f8_outcome *outcome, f8_error *err); /* locked */
    /* When every item of a shard is retired; by one worker, not locked. */
    f8_status (*shard_end)(void *ctx, uint32_t shard, f8_error *err);
    /* Bytes of items retired so far and the shard just finished, or -1.
     * Non-zero stops the run. */
    int (*progress)(void *ctx, uint64_t bytes, int64_t shard); /* locked */
} f8_pipeline_ops;

/* Who is to work, and on how much memory. */
typedef struct f8_crew {
    unsigned threads;
    uint64_t memory_bytes;
    uint64_t band_bytes; /* of the widest matrix, see f8_pipeline_band; a run
                          * finds it out by itself */
    bool in_memory;      /* all that is read and written: nobody waits for a
                          * disk */
} f8_crew;

/* What a buffer needs for 128 whole rows of a unit's matrix, or all of them
 * when it has fewer; 0 for other units. */
uint64_t f8_pipeline_band(const f8_work *work);

/* Bytes of source that a worker's buffer holds within the budget;
 * F8_ERR_NOMEM with the least budget in the message when it is too small. */
f8_status f8_pipeline_chunk(const f8_crew *crew, uint64_t *chunk_bytes,
                            f8_error *err);
/* What the workers will allocate in all. */
uint64_t f8_pipeline_memory(const f8_crew *crew);

f8_status f8_pipeline_run(const f8_pipeline_ops *ops, uint64_t units,
                          uint32_t shards, const f8_crew *crew, f8_error *err);

#endif
