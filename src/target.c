/* target.c - the result folder while it is being filled: temporary names,
 * final names, the lock. What may be done to a folder that holds something
 * already is claim.c's to say. See target.h. */
#include "target.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "claim.h"

/* Folders and lock. *made: the result folder is new. */
static f8_status occupy(f8_target *target, bool *made, f8_error *err)
{
    assert(target->dir && target->work_dir);
    *made = access(target->dir, F_OK) != 0 && errno == ENOENT;
    f8_status status = f8_make_dir(target->dir, err);

    if (status == F8_OK)
        status =
            f8_lock_take(&target->lock, target->dir, target->work_dir, err);
    return status;
}

f8_status f8_target_open(const f8_plan *plan, const char *dst,
                         const f8_intent *intent, f8_target *target,
                         f8_error *err)
{
    f8_claim claim = {0};
    bool made = false;

    *target = (f8_target){.lock = F8_LOCK_NONE};
    target->dir = strdup(dst);
    target->work_dir = f8_path_join(dst, F8_WORK_DIR);
    f8_status status = target->dir && target->work_dir
                           ? f8_claim_place(plan, dst, err)
                           : f8_fail_nomem(err, "the result folder");
    if (status == F8_OK)
        status = f8_claim_look(plan, target->dir, target->work_dir, intent,
                               &claim, err);
    if (status != F8_OK || claim.complete)
        goto out;
    status = occupy(target, &made, err);
    /* Another run may have been at work between the look and the lock. */
    if (status == F8_OK) {
        f8_claim_free(&claim);
        status = f8_claim_look(plan, target->dir, target->work_dir, intent,
                               &claim, err);
    }
    if (status == F8_OK && !claim.complete)
        status = f8_claim_clear(plan, target->dir, target->work_dir,
                                intent->overwrite, &claim, err);
    if (status == F8_OK && !claim.complete)
        status = f8_journal_begin(&claim.journal, plan,
                                  claim.settled && !intent->overwrite, err);
out:
    target->complete = claim.complete;
    target->edited = claim.edited;
    target->shard_done = claim.shard_done;
    target->shards_done = claim.shards_done;
    target->sides = claim.sides;
    claim.shard_done = NULL;
    claim.sides = NULL;
    f8_claim_free(&claim);
    if (status != F8_OK)
        f8_lock_release(&target->lock, target->work_dir);
    if (status != F8_OK && made)
        rmdir(target->dir); /* only when it is empty */
    if (status != F8_OK)
        f8_target_close(target);
    return status;
}

f8_status f8_target_look(const f8_plan *plan, const char *dst,
                         const f8_intent *intent, f8_meeting *meeting,
                         uint64_t *shards_done, f8_error *err)
{
    f8_claim claim = {0};
    char *work_dir = f8_path_join(dst, F8_WORK_DIR);

    f8_status status = work_dir ? f8_claim_place(plan, dst, err)
                                : f8_fail_nomem(err, "the result folder");
    if (status == F8_OK)
        status = f8_claim_look(plan, dst, work_dir, intent, &claim, err);
    if (status == F8_ERR_SPACE) /* the last thing that is looked at */
        status = F8_OK;
    *meeting = claim.complete          ? F8_MEETS_FINISHED
               : claim.replace         ? F8_MEETS_ANOTHER
               : claim.files.count > 0 ? F8_MEETS_UNDONE
                                       : F8_MEETS_NOTHING;
    *shards_done = claim.shards_done;
    f8_claim_free(&claim);
    free(work_dir);
    return status;
}

void f8_target_close(f8_target *target)
{
    f8_lock_release(&target->lock, target->work_dir);
    free(target->dir);
    free(target->work_dir);
    free(target->shard_done);
    free(target->sides);
    *target = (f8_target){.lock = F8_LOCK_NONE};
}

/* ---- finishing ----------------------------------------------------------- */

char *f8_target_temporary(const f8_target *target, const char *name)
{
    f8_buf path = {0};

    f8_buf_printf(&path, "%s/%s.part", target->work_dir, name);
    if (path.failed)
        f8_buf_free(&path);
    return path.data;
}

f8_status f8_target_put(const f8_target *target, const char *name,
                        const f8_buf *bytes, f8_error *err)
{
    f8_status status;
    char *temporary = f8_target_temporary(target, name);
    char *path = f8_path_join(target->dir, name);

    if (!temporary || !path)
        status = f8_fail_nomem(err, "a path");
    else
        status =
            f8_write_file(temporary, path, bytes->data, bytes->length, err);
    free(path);
    free(temporary);
    return status;
}

static f8_status copy_bytes(int from, int to, const char *from_path,
                            const char *to_path, uint64_t bytes,
                            unsigned char *buffer, size_t buffer_bytes,
                            const f8_watch *watch, f8_error *err)
{
    for (uint64_t at = 0; at < bytes;) {
        size_t n =
            bytes - at < buffer_bytes ? (size_t)(bytes - at) : buffer_bytes;
        if (!watch->keep_going(watch->ctx, at))
            return f8_fail(err, F8_ERR_CANCELLED, "stopped");
        f8_status status = f8_read_at(from, buffer, n, at, from_path, err);
        if (status == F8_OK)
            status = f8_write_at(to, buffer, n, at, to_path, err);
        if (status != F8_OK)
            return status;
        at += n;
    }
    return F8_OK;
}

f8_status f8_target_copy(const f8_target *target, const f8_folder *source,
                         const f8_side_file *file, unsigned char *buffer,
                         size_t buffer_bytes, const f8_watch *watch,
                         f8_error *err)
{
    int from = -1, to = -1;
    uint64_t bytes = 0;
    char *from_path = f8_path_join(source->path, file->path);
    char *to_path = f8_path_join(target->dir, file->path);
    char *temporary = f8_target_temporary(target, "side-file");
    f8_status status = from_path && to_path && temporary
                           ? F8_OK
                           : f8_fail_nomem(err, "a path");

    if (status == F8_OK)
        status = f8_make_parents(target->dir, to_path, err);
    if (status == F8_OK)
        status =
            f8_folder_open_file(source, file->path, &from, &bytes, NULL, err);
    if (status == F8_OK)
        status = f8_create_file(temporary, &to, err);
    if (status == F8_OK)
        status = copy_bytes(from, to, from_path, temporary, bytes, buffer,
                            buffer_bytes, watch, err);
    if (status == F8_OK) {
        status = f8_sync_close(to, temporary, err);
        to = -1;
    }
    if (status == F8_OK)
        status = f8_publish(temporary, to_path, err);
    if (status != F8_OK && temporary)
        unlink(temporary);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    free(temporary);
    free(to_path);
    free(from_path);
    return status;
}
