/* work.h - what is done with one item of a plan: its bytes are read, worked
 * on in the worker's buffers, and written where the plan says. */
#ifndef F8_WORK_H
#define F8_WORK_H

#include "behind.h"

/* A result shard's file while it is being written. */
typedef struct f8_output {
    f8_file file;
    char *temporary;     /* its path */
    uint64_t data_start; /* of tensor data in the file */
} f8_output;

/* What is the same for all items of a run. */
typedef struct f8_task {
    const f8_plan *plan;
    const f8_kernel *kernel;
    f8_behind behind;
} f8_task;

/* A unit as the pipeline sees it. */
void f8_work_describe(const f8_plan *plan, uint64_t unit, f8_work *work);

/* What a worker holds beside its buffers: open files of the source. */
f8_status f8_work_begin(f8_worker *worker, f8_error *err);
void f8_work_end(f8_worker *worker);

/* Copies, quantises or dequantises an item into its shard's file. */
f8_status f8_work_do(f8_task *task, const f8_output *output, f8_worker *worker,
                     const f8_item *item, f8_outcome *outcome, f8_error *err);

#endif
