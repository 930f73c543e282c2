/* finished.c - what a result folder has of what is no weight. Such files have
 * no journal, and may be edited when all is done: a model card takes the place
 * of the source's. They are compared, and left alone. See finished.h. */
#include "finished.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

f8_made_state f8_finished_made(const char *dst, const f8_side_files *files,
                               const char *name, const f8_buf *bytes)
{
    const f8_side_file *file = f8_side_files_find(files, name);
    f8_buf found = {0};

    if (!file || !file->regular)
        return F8_MADE_ABSENT;
    char *path = f8_path_join(dst, name);
    bool same = path && file->bytes == bytes->length &&
                f8_read_file(path, bytes->length, &found, NULL) == F8_OK &&
                found.length == bytes->length &&
                !memcmp(found.data, bytes->data, bytes->length);
    f8_buf_free(&found);
    free(path);
    return same ? F8_MADE_SAME : F8_MADE_UNLIKE;
}

/* The first of a path's folders, or the file itself, that is a link or no
 * file, which nothing may be written through; or NULL. The path may be cut. */
static const f8_side_file *find_link(const f8_side_files *files, char *path)
{
    for (char *end = path; end;) {
        end = strchr(end, '/');
        if (end)
            *end = '\0';
        const f8_side_file *found = f8_side_files_find(files, path);
        if (found && !found->regular)
            return found;
        if (end)
            *end++ = '/';
    }
    return NULL;
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

/* A side file that is there, or behind a link. */
static f8_status look(const f8_plan *plan, const char *dst,
                      const f8_side_files *files, const f8_intent *intent,
                      const f8_side_file *side, f8_side_state *state,
                      f8_error *err)
{
    const f8_side_file *there = f8_side_files_find(files, side->path);
    bool same = false;
    f8_status status = F8_OK;
    char *from = f8_path_join(plan->source->dir, side->path);
    char *to = f8_path_join(dst, side->path);
    char *path = strdup(side->path);
    const f8_side_file *link = path ? find_link(files, path) : NULL;

    if (!from || !to || !path)
        status = f8_fail_nomem(err, "a path");
    else if (link && intent->overwrite)
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: holds %s, which is no plain file; expected a "
                         "new or empty folder",
                         dst, link->path);
    else if (!link && there && there->bytes == side->bytes)
        status = compare(from, to, side->bytes, intent->watch, &same, err);
    free(path);
    free(to);
    free(from);
    if (same)
        *state = F8_SIDE_THERE;
    else if ((there || link) && !intent->overwrite)
        *state = F8_SIDE_UNLIKE;
    else
        *state = F8_SIDE_TO_WRITE;
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
        states[i] = F8_SIDE_TO_WRITE;
        if (!side->carried)
            continue;
        status = look(plan, dst, files, intent, side, &states[i], err);
        *all = *all && states[i] != F8_SIDE_TO_WRITE;
    }
    return status;
}
