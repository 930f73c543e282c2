/* finished.c - what a finished result folder has. Its files beside the weights
 * have no journal, and may be edited when all is done: a model card takes the
 * place of the source's. They are compared, and left alone. See finished.h. */
#include "finished.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool holds_bytes(const char *dst, const f8_side_files *files,
                        const char *name, const f8_buf *bytes)
{
    const f8_side_file *file = f8_side_files_find(files, name);
    f8_buf found = {0};

    if (!file || !file->regular || file->bytes != bytes->length)
        return false;
    char *path = f8_path_join(dst, name);
    bool same = path &&
                f8_read_file(path, bytes->length, &found, NULL) == F8_OK &&
                found.length == bytes->length &&
                !memcmp(found.data, bytes->data, bytes->length);
    f8_buf_free(&found);
    free(path);
    return same;
}

bool f8_finished(const f8_plan *plan, const char *dst,
                 const f8_side_files *files, const f8_journal *journal,
                 const f8_intent *intent)
{
    /* An earlier version kept no record of the source's form. */
    if (plan->direction != F8_FROM_FP8 &&
        !json_equal(json_object_get(journal->stored, F8_ORIGINAL_KEY),
                    plan->original))
        return false;
    return holds_bytes(dst, files, F8_CONFIG_NAME, intent->config) &&
           (!f8_plan_has_index(plan) ||
            holds_bytes(dst, files, F8_INDEX_NAME, intent->index));
}

/* What cannot be read is not the same; only to stop ends it all. */
static f8_status compare(const char *a, const char *b, uint64_t bytes,
                         const f8_watch *watch, bool *same, f8_error *err)
{
    const char *const paths[2] = {a, b};
    int fds[2] = {-1, -1};
    f8_status status = f8_open_read(a, &fds[0], NULL, NULL, err);

    *same = false;
    if (status == F8_OK)
        status = f8_open_read(b, &fds[1], NULL, NULL, err);
    if (status == F8_OK)
        status = f8_compare_files(fds, paths, bytes, watch, same, err);
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    if (status == F8_OK)
        return F8_OK;
    *same = false;
    return status == F8_ERR_CANCELLED || status == F8_ERR_NOMEM ? status
                                                                : F8_OK;
}

static f8_status look(const f8_plan *plan, const char *dst,
                      const f8_side_files *files, const f8_intent *intent,
                      const f8_side_file *side, f8_side_state *state,
                      f8_error *err)
{
    const f8_side_file *there = f8_side_files_find(files, side->path);
    bool same = false;
    f8_status status = F8_OK;

    *state = F8_SIDE_TO_WRITE;
    if (!side->carried || !there || !there->regular)
        return F8_OK;
    char *from = f8_path_join(plan->source->dir, side->path);
    char *to = f8_path_join(dst, side->path);
    if (!from || !to)
        status = f8_fail_nomem(err, "a path");
    else if (there->bytes == side->bytes)
        status = compare(from, to, side->bytes, intent->watch, &same, err);
    free(to);
    free(from);
    *state = same                ? F8_SIDE_THERE
             : intent->overwrite ? F8_SIDE_TO_WRITE
                                 : F8_SIDE_UNLIKE;
    return status;
}

f8_status f8_finished_sides(const f8_plan *plan, const char *dst,
                            const f8_side_files *files, const f8_intent *intent,
                            f8_side_state *states, bool *all, f8_error *err)
{
    f8_status status = F8_OK;

    *all = true;
    for (size_t i = 0; i < plan->sides.count && status == F8_OK; i++) {
        const f8_side_file *side = &plan->sides.items[i];
        status = look(plan, dst, files, intent, side, &states[i], err);
        if (side->carried && states[i] == F8_SIDE_TO_WRITE)
            *all = false;
    }
    return status;
}
