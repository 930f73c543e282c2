/* target.c - the result folder, before and after the shards are written. See
 * target.h; docs/format.md section 7 is the contract. */
#include "target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- where DST lies ------------------------------------------------------ */

/* Absolute path without links of a folder that need not exist yet: its
 * nearest existing parent resolved, the rest appended. */
static char *resolve(const char *path)
{
    char *full = realpath(path, NULL);

    if (full || errno != ENOENT)
        return full;
    char *copy = strdup(path);
    if (!copy)
        return NULL;
    size_t n = strlen(copy);
    while (n > 1 && copy[n - 1] == '/')
        copy[--n] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    char *parent = NULL;
    if (slash == copy)
        parent = strdup("/");
    else if (slash) {
        *slash = '\0';
        parent = resolve(copy);
    } else if (strcmp(copy, ".") != 0)
        parent = realpath(".", NULL);
    full = parent ? f8_path_join(parent, name) : NULL;
    free(parent);
    free(copy);
    return full;
}

/* Whether path is dir or lies below it. */
static bool is_within(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return !strncmp(path, dir, n) &&
           (!path[n] || path[n] == '/' || dir[n - 1] == '/');
}

static f8_status check_place(const f8_plan *plan, const char *dst,
                             f8_error *err)
{
    f8_status status = F8_OK;
    char *from = resolve(plan->source->dir);
    char *to = resolve(dst);

    if (!from || !to)
        status = f8_fail_errno(err, errno, "%s: cannot resolve",
                               from ? dst : plan->source->dir);
    else if (!strcmp(from, to))
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: the result folder is the source folder", dst);
    else if (is_within(to, from))
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: the result folder is inside the source folder "
                         "%s",
                         dst, plan->source->dir);
    else if (is_within(from, to))
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: the source folder %s is inside the result "
                         "folder",
                         dst, plan->source->dir);
    free(to);
    free(from);
    return status;
}

/* ---- what DST holds ------------------------------------------------------ */

static bool is_work_file(const char *path)
{
    static const char work[] = F8_WORK_DIR "/";
    return !strncmp(path, work, sizeof work - 1);
}

static bool is_planned(const f8_plan *plan, const char *path)
{
    if (!strcmp(path, F8_CONFIG_NAME) ||
        (plan->shards_count > 1 && !strcmp(path, F8_INDEX_NAME)))
        return true;
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        if (!strcmp(plan->shards[i].name, path))
            return true;
    }
    for (size_t i = 0; i < plan->sides.count; i++) {
        if (plan->sides.items[i].carried &&
            !strcmp(plan->sides.items[i].path, path))
            return true;
    }
    return false;
}

/* Every file of DST must be one that this or the stored conversion writes.
 * Without a journal nothing says that they are ours, whatever their names. */
static f8_status check_foreign(const f8_plan *plan, const f8_journal *journal,
                               const f8_side_files *files, const char *dst,
                               bool overwrite, f8_error *err)
{
    for (size_t i = 0; i < files->count; i++) {
        const char *path = files->items[i].path;
        if (is_work_file(path) || f8_journal_lists(journal, path))
            continue;
        if (!is_planned(plan, path))
            return f8_fail(err, F8_ERR_REFUSED,
                           "%s: holds %s, which is not part of this "
                           "conversion; expected a new or empty folder",
                           dst, path);
        if (!journal->stored && !overwrite)
            return f8_fail(err, F8_ERR_REFUSED,
                           "%s: holds %s, but no sign that fp8cast wrote it; "
                           "expected a new or empty folder, or --overwrite",
                           dst, path);
    }
    return F8_OK;
}

static f8_status remove_file(const char *dst, const char *path, f8_error *err)
{
    f8_status status = F8_OK;
    char *full = f8_path_join(dst, path);

    if (!full)
        return f8_fail_nomem(err, "a path");
    if (unlink(full) != 0 && errno != ENOENT)
        status = f8_fail_errno(err, errno, "%s: cannot remove", full);
    free(full);
    return status;
}

/* A folder is complete only with config.json and index, so they go first. The
 * journal, which says that the others are ours, stays until the new one takes
 * its place. */
static f8_status remove_old(const f8_side_files *files, const char *dst,
                            f8_error *err)
{
    f8_status status = remove_file(dst, F8_CONFIG_NAME, err);

    if (status == F8_OK)
        status = remove_file(dst, F8_INDEX_NAME, err);
    if (status == F8_OK)
        status = f8_sync_dir(dst, err);
    for (size_t i = 0; i < files->count && status == F8_OK; i++) {
        if (strcmp(files->items[i].path, F8_WORK_DIR "/journal.json") != 0)
            status = remove_file(dst, files->items[i].path, err);
    }
    return status;
}

/* What a stopped run was writing; it never had a final name. */
static f8_status remove_parts(const f8_side_files *files, const char *dst,
                              f8_error *err)
{
    f8_status status = F8_OK;

    for (size_t i = 0; i < files->count && status == F8_OK; i++) {
        const char *path = files->items[i].path;
        size_t n = strlen(path);
        if (is_work_file(path) && n > 5 && !strcmp(path + n - 5, ".part"))
            status = remove_file(dst, path, err);
    }
    return status;
}

/* Bytes of the finished file, or -1 when it is not there. */
static int64_t size_of(const f8_target *target, const char *name)
{
    struct stat st;
    int64_t bytes = -1;
    char *path = f8_path_join(target->dir, name);

    if (path && lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        bytes = (int64_t)st.st_size;
    free(path);
    return bytes;
}

/* A shard is finished when it has its final name, the right size, and its
 * measurements stand in the journal. */
static f8_status find_done(const f8_plan *plan, f8_target *target,
                           f8_error *err)
{
    f8_buf header = {0};
    f8_status status = F8_OK;

    for (uint64_t i = 0; i < plan->shards_count && status == F8_OK; i++) {
        int64_t bytes = size_of(target, plan->shards[i].name);
        if (bytes < 0)
            continue;
        status = f8_plan_shard_header(plan, i, &header, err);
        if (status == F8_OK &&
            (uint64_t)bytes == header.length + plan->shards[i].data_bytes &&
            f8_journal_get_shard(target->work_dir, plan, i, NULL)) {
            target->shard_done[i] = true;
            target->shards_done++;
        }
    }
    f8_buf_free(&header);
    return status;
}

static f8_status check_space(const f8_plan *plan, const f8_target *target,
                             const f8_side_files *old, f8_error *err)
{
    f8_plan_summary summary;
    uint64_t free_bytes = 0, needed;

    f8_plan_get_summary(plan, &summary);
    needed = summary.disk_bytes;
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        const f8_shard *s = &plan->shards[i];
        if (target->shard_done[i])
            needed -= s->data_bytes + s->header_bytes;
    }
    f8_status status = f8_free_space(target->dir, &free_bytes, err);
    for (size_t i = 0; i < old->count; i++) /* about to be removed */
        free_bytes += old->items[i].bytes;
    if (status == F8_OK && free_bytes < needed)
        return f8_fail(err, F8_ERR_SPACE,
                       "%s: not enough free space: expected %llu bytes, found "
                       "%llu",
                       target->dir, (unsigned long long)needed,
                       (unsigned long long)free_bytes);
    return status;
}

/* ---- opening ------------------------------------------------------------- */

static f8_status take_lock(f8_target *target, f8_error *err)
{
    target->lock_fd =
        open(target->work_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target->lock_fd < 0)
        return f8_fail_errno(err, errno, "%s: cannot open", target->work_dir);
    /* A file system without locks (ENOLCK, ENOTSUP) is no reason to fail. */
    if (flock(target->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: another fp8cast is writing here", target->dir);
    return F8_OK;
}

static f8_status list_old(const char *dst, f8_side_files *files, f8_error *err)
{
    struct stat st;

    if (stat(dst, &st) != 0) {
        if (errno == ENOENT)
            return F8_OK;
        return f8_fail_errno(err, errno, "%s: cannot stat", dst);
    }
    if (!S_ISDIR(st.st_mode))
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: expected a folder or nothing, found a file", dst);
    return f8_side_files_list_all(dst, files, err);
}

/* Refuses what must not be touched, and clears away what may be. */
static f8_status inspect_old(const f8_plan *plan, f8_target *target,
                             bool overwrite, f8_error *err)
{
    f8_journal journal = {0};
    f8_side_files files = {0}, none = {0};
    const char *why = "";
    bool replace = false;

    f8_status status = list_old(target->dir, &files, err);
    if (status == F8_OK)
        status = f8_journal_read(target->work_dir, &journal, err);
    if (status == F8_ERR_FORMAT && overwrite)
        status = F8_OK; /* a broken journal is like none */
    if (status == F8_OK)
        status =
            check_foreign(plan, &journal, &files, target->dir, overwrite, err);
    if (status == F8_OK && files.count > 0)
        replace = !f8_journal_matches(&journal, plan, &why);
    if (status == F8_OK && replace && journal.stored && !overwrite)
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: holds a conversion of %s; finish it with the "
                         "same command, or replace it with --overwrite",
                         target->dir, why);
    if (status == F8_OK && !replace)
        status = find_done(plan, target, err);
    if (status == F8_OK && !replace)
        status = remove_parts(&files, target->dir, err);
    if (status == F8_OK)
        status = check_space(plan, target, replace ? &files : &none, err);
    if (status == F8_OK && replace)
        status = remove_old(&files, target->dir, err);
    f8_side_files_free(&files);
    f8_journal_free(&journal);
    return status;
}

f8_status f8_target_open(const f8_plan *plan, const char *dst, bool overwrite,
                         f8_target *target, f8_error *err)
{
    *target = (f8_target){.lock_fd = -1};
    target->dir = strdup(dst);
    target->work_dir = f8_path_join(dst, F8_WORK_DIR);
    target->shard_done =
        f8_alloc(plan->shards_count, sizeof *target->shard_done);
    f8_status status = target->dir && target->work_dir && target->shard_done
                           ? check_place(plan, dst, err)
                           : f8_fail_nomem(err, "the result folder");
    /* The lock is taken before anything is cleared away, so another run that
     * is at work here is never robbed of its files. */
    if (status == F8_OK && access(target->work_dir, F_OK) == 0)
        status = take_lock(target, err);
    if (status == F8_OK)
        status = inspect_old(plan, target, overwrite, err);
    if (status == F8_OK)
        status = f8_make_dir(dst, err);
    if (status == F8_OK)
        status = f8_make_dir(target->work_dir, err);
    if (status == F8_OK && target->lock_fd < 0)
        status = take_lock(target, err);
    if (status == F8_OK)
        status = f8_journal_begin(target->work_dir, plan, err);
    if (status == F8_OK)
        status = f8_sync_dir(dst, err);
    if (status != F8_OK)
        f8_target_close(target);
    return status;
}

void f8_target_close(f8_target *target)
{
    if (target->lock_fd >= 0)
        close(target->lock_fd);
    free(target->dir);
    free(target->work_dir);
    free(target->shard_done);
    *target = (f8_target){.lock_fd = -1};
}

/* ---- finishing ----------------------------------------------------------- */

static bool holds(const f8_target *target, const char *name,
                  const f8_buf *bytes)
{
    f8_buf found = {0};
    char *path = f8_path_join(target->dir, name);
    bool same = path &&
                f8_read_file(path, bytes->length, &found, NULL) == F8_OK &&
                found.length == bytes->length &&
                !memcmp(found.data, bytes->data, bytes->length);

    f8_buf_free(&found);
    free(path);
    return same;
}

bool f8_target_is_complete(const f8_target *target, const f8_plan *plan,
                           const f8_buf *index, const f8_buf *config)
{
    if (target->shards_done != plan->shards_count ||
        !holds(target, F8_CONFIG_NAME, config) ||
        (plan->shards_count > 1 && !holds(target, F8_INDEX_NAME, index)))
        return false;
    for (size_t i = 0; i < plan->sides.count; i++) {
        const f8_side_file *f = &plan->sides.items[i];
        if (f->carried && size_of(target, f->path) != (int64_t)f->bytes)
            return false;
    }
    return true;
}

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
                            f8_error *err)
{
    for (uint64_t at = 0; at < bytes;) {
        size_t n =
            bytes - at < buffer_bytes ? (size_t)(bytes - at) : buffer_bytes;
        f8_status status = f8_read_at(from, buffer, n, at, from_path, err);
        if (status == F8_OK)
            status = f8_write_at(to, buffer, n, at, to_path, err);
        if (status != F8_OK)
            return status;
        at += n;
    }
    return F8_OK;
}

f8_status f8_target_copy(const f8_target *target, const char *src_dir,
                         const f8_side_file *file, unsigned char *buffer,
                         size_t buffer_bytes, f8_error *err)
{
    int from = -1, to = -1;
    uint64_t bytes = 0;
    char *from_path = f8_path_join(src_dir, file->path);
    char *to_path = f8_path_join(target->dir, file->path);
    char *temporary = f8_target_temporary(target, "side-file");
    f8_status status = from_path && to_path && temporary
                           ? F8_OK
                           : f8_fail_nomem(err, "a path");

    if (status == F8_OK)
        status = f8_make_parents(target->dir, to_path, err);
    if (status == F8_OK)
        status = f8_open_read(from_path, &from, &bytes, NULL, err);
    if (status == F8_OK)
        status = f8_create_file(temporary, &to, err);
    if (status == F8_OK)
        status = copy_bytes(from, to, from_path, temporary, bytes, buffer,
                            buffer_bytes, err);
    if (status == F8_OK) {
        status = f8_sync_close(to, temporary, err);
        to = -1;
    }
    if (status == F8_OK)
        status = f8_publish(temporary, to_path, err);
    else if (temporary)
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
