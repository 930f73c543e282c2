/* target.h - the result folder: may we write here, what of an earlier run is
 * still good, and the way a file gets its final name. */
#ifndef F8_TARGET_H
#define F8_TARGET_H

#include "finished.h"
#include "lock.h"

typedef struct f8_target {
    char *dir, *work_dir; /* DST and DST/.fp8cast */
    f8_lock lock;         /* on work_dir, when it was taken */
    bool *shard_done;     /* by an earlier run */
    uint32_t shards_done;
    f8_side_state *sides; /* by plan->sides */
    bool edited;          /* config.json stays, though it is not as written */
    bool complete;        /* nothing is left to do; nothing was touched */
} f8_target;

/* Looks before anything is written: refuses a DST that is SRC, inside it or
 * around it, holds foreign files, or another conversion without overwrite, and
 * one without the space. One that is complete is left alone. Else makes the
 * folders, takes the lock, removes what a stopped run or the conversion to be
 * replaced left, and writes the journal. On failure target is empty. */
f8_status f8_target_open(const f8_plan *plan, const char *dst,
                         const f8_intent *intent, f8_target *target,
                         f8_error *err);
void f8_target_close(f8_target *target);
/* Looks only; see f8_plan_meet. */
f8_status f8_target_look(const f8_plan *plan, const char *dst,
                         const f8_intent *intent, f8_meeting *meeting,
                         uint64_t *shards_done, f8_error *err);

/* Path under .fp8cast/ that `name` is written at before it is finished; the
 * caller frees it. NULL when out of memory. */
char *f8_target_temporary(const f8_target *target, const char *name);

/* Writes a small file under its final name, or nothing. */
f8_status f8_target_put(const f8_target *target, const char *name,
                        const f8_buf *bytes, f8_error *err);
/* Copies a side file of SRC through `buffer`; F8_ERR_CANCELLED when `watch`,
 * which is asked between pieces, says so. */
f8_status f8_target_copy(const f8_target *target, const f8_folder *source,
                         const f8_side_file *file, unsigned char *buffer,
                         size_t buffer_bytes, const f8_watch *watch,
                         f8_error *err);

#endif
