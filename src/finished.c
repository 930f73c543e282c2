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
                 const f8_buf *index, const f8_buf *config)
{
    /* An earlier version kept no record of the source's form. */
    if (plan->direction != F8_FROM_FP8 &&
        !json_equal(json_object_get(journal->stored, F8_ORIGINAL_KEY),
                    plan->original))
        return false;
    return holds_bytes(dst, files, F8_CONFIG_NAME, config) &&
           (!f8_plan_has_index(plan) ||
            holds_bytes(dst, files, F8_INDEX_NAME, index));
}

static bool same_content(const char *a, const char *b, uint64_t bytes)
{
    const char *const paths[2] = {a, b};
    int fds[2] = {-1, -1};
    bool same = false;

    if (f8_open_read(a, &fds[0], NULL, NULL, NULL) == F8_OK &&
        f8_open_read(b, &fds[1], NULL, NULL, NULL) == F8_OK &&
        f8_compare_files(fds, paths, bytes, NULL, &same, NULL) != F8_OK)
        same = false;
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return same;
}

static f8_side_state state_of(const f8_plan *plan, const char *dst,
                              const f8_side_files *files,
                              const f8_side_file *side)
{
    const f8_side_file *there = f8_side_files_find(files, side->path);

    if (!side->carried || !there || !there->regular)
        return F8_SIDE_TO_WRITE;
    char *from = f8_path_join(plan->source->dir, side->path);
    char *to = f8_path_join(dst, side->path);
    bool same = from && to && there->bytes == side->bytes &&
                same_content(from, to, side->bytes);
    free(to);
    free(from);
    return same ? F8_SIDE_THERE : F8_SIDE_UNLIKE;
}

bool f8_finished_sides(const f8_plan *plan, const char *dst,
                       const f8_side_files *files, bool overwrite,
                       f8_side_state *states)
{
    bool all = true;

    for (size_t i = 0; i < plan->sides.count; i++) {
        const f8_side_file *side = &plan->sides.items[i];
        states[i] = state_of(plan, dst, files, side);
        if (overwrite && states[i] == F8_SIDE_UNLIKE)
            states[i] = F8_SIDE_TO_WRITE;
        all = all && (!side->carried || states[i] != F8_SIDE_TO_WRITE);
    }
    return all;
}
