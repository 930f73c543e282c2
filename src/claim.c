/* claim.c - may we write into this folder, and what of it is already ours?
 * See claim.h. */
#include "claim.h"
#include "lock.h"
#include "separate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- where DST lies ------------------------------------------------------ */

/* Absolute path without links of a folder that need not exist yet: its
 * nearest existing parent resolved, the rest appended. */
/* NOLINTNEXTLINE(misc-no-recursion): once a name of the path */
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

/* Whether the folder `path` is the one called st, or lies below it. Asked by
 * inode, since a bind mount or a link gives one folder two paths. `path` is
 * shortened on the way. */
static bool is_under(char *path, const struct stat *st)
{
    struct stat here;
    bool found = false;
    char *at = path;

    while (!found) {
        found = stat(at, &here) == 0 && here.st_dev == st->st_dev &&
                here.st_ino == st->st_ino;
        char *slash = strrchr(at, '/');
        if (!slash || !slash[1])
            break;
        slash[slash == at] = '\0';
    }
    return found;
}

f8_status f8_claim_place(const f8_plan *plan, const char *dst, f8_error *err)
{
    f8_status status = F8_OK;
    struct stat src_st, dst_st;
    const char *src = plan->source->dir;
    char *from = resolve(src);
    char *to = resolve(dst);
    bool same = false;

    if (!from || !to) {
        status =
            f8_fail_errno(err, errno, "%s: cannot resolve", from ? dst : src);
        goto out;
    }
    if (stat(from, &src_st) != 0) {
        status = f8_fail_errno(err, errno, "%s: cannot stat", src);
        goto out;
    }
    bool there = stat(to, &dst_st) == 0;
    if (!there && errno != ENOENT) {
        status = f8_fail_errno(err, errno, "%s: cannot stat", dst);
        goto out;
    }
    same = !strcmp(from, to) || (there && src_st.st_dev == dst_st.st_dev &&
                                 src_st.st_ino == dst_st.st_ino);
    bool inside = is_within(to, from), around = is_within(from, to);
    if (same)
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: the result folder is the source folder", dst);
    else if (inside || is_under(to, &src_st))
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: the result folder is inside the source folder "
                         "%s",
                         dst, src);
    else if (around || (there && is_under(from, &dst_st)))
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: the source folder %s is inside the result "
                         "folder",
                         dst, src);
out:
    free(to);
    free(from);
    return status;
}

/* ---- what DST holds ------------------------------------------------------ */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}

/* A file that we write under .fp8cast/: the journal, measurements, or what is
 * not finished. */
static bool is_work_file(const char *path)
{
    static const char work[] = F8_WORK_DIR "/";

    if (strncmp(path, work, sizeof work - 1) != 0)
        return false;
    path += sizeof work - 1;
    return ends_with(path, ".part") || !strcmp(path, "journal.json") ||
           (!strncmp(path, "shard-", 6) && ends_with(path, ".json"));
}

static bool is_main(const f8_plan *plan, const char *path)
{
    if (!strcmp(path, F8_CONFIG_NAME) ||
        (f8_plan_has_index(plan) && !strcmp(path, F8_INDEX_NAME)))
        return true;
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        if (!strcmp(plan->shards[i].name, path))
            return true;
    }
    return false;
}

static bool is_planned(const f8_plan *plan, const char *path)
{
    const f8_side_file *side = f8_side_files_find(&plan->sides, path);
    return is_main(plan, path) || (side && side->carried);
}

/* Every file of DST must be one that this or the stored conversion writes.
 * Without a journal nothing says that they are ours, whatever their names. In
 * a folder that was finished once others may lie, but not in the way. */
static f8_status check_foreign(const f8_plan *plan, const f8_claim *claim,
                               const char *dst, bool overwrite, f8_error *err)
{
    for (size_t i = 0; i < claim->files.count; i++) {
        const f8_side_file *f = &claim->files.items[i];
        bool ours =
            is_work_file(f->path) || f8_journal_lists(&claim->journal, f->path);
        bool beside =
            claim->settled && !is_work_file(f->path) && !is_main(plan, f->path);
        if (!f->regular && !beside)
            return f8_fail(err, F8_ERR_REFUSED,
                           "%s: holds %s, which is no plain file; expected a "
                           "new or empty folder",
                           dst, f->path);
        if (!ours && !beside && !is_planned(plan, f->path))
            return f8_fail(err, F8_ERR_REFUSED,
                           "%s: holds %s, which is not part of this "
                           "conversion; expected a new or empty folder",
                           dst, f->path);
        if (!ours && !claim->journal.stored && !overwrite)
            return f8_fail(err, F8_ERR_REFUSED,
                           "%s: holds %s, but no sign that fp8cast wrote it; "
                           "expected a new or empty folder, or --overwrite",
                           dst, f->path);
    }
    return F8_OK;
}

/* Ours once, but not of the source as it is now. */
static bool is_stale(const f8_plan *plan, const f8_claim *claim,
                     const f8_side_file *f)
{
    return !is_work_file(f->path) && !is_planned(plan, f->path) &&
           f8_journal_lists(&claim->journal, f->path);
}

static bool is_folder(const char *dst, const char *path, f8_status *status,
                      f8_error *err)
{
    struct stat st;
    char *full = f8_path_join(dst, path);
    bool found = full && lstat(full, &st) == 0 && S_ISDIR(st.st_mode);

    if (!full)
        *status = f8_fail_nomem(err, "a path");
    free(full);
    return found;
}

/* The first planned file whose name a folder has, or NULL. */
static const char *find_folder(const f8_plan *plan, const char *dst,
                               f8_status *status, f8_error *err)
{
    if (is_folder(dst, F8_CONFIG_NAME, status, err))
        return F8_CONFIG_NAME;
    if (f8_plan_has_index(plan) && is_folder(dst, F8_INDEX_NAME, status, err))
        return F8_INDEX_NAME;
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        if (is_folder(dst, plan->shards[i].name, status, err))
            return plan->shards[i].name;
    }
    for (size_t i = 0; i < plan->sides.count; i++) {
        if (plan->sides.items[i].carried &&
            is_folder(dst, plan->sides.items[i].path, status, err))
            return plan->sides.items[i].path;
    }
    return NULL;
}

/* No rename replaces a folder by a file, and that would show only when all
 * the work is done. A folder that holds files which are about to be removed
 * may go with them. */
static f8_status check_folders(const f8_plan *plan, const f8_claim *claim,
                               const char *dst, bool cleared, f8_error *err)
{
    f8_status status = F8_OK;
    const char *path = find_folder(plan, dst, &status, err);

    if (!path || status != F8_OK)
        return status;
    size_t n = strlen(path);
    for (size_t i = 0; i < claim->files.count && !cleared; i++) {
        const char *held = claim->files.items[i].path;
        if (!strncmp(held, path, n) && held[n] == '/')
            return F8_OK;
    }
    return f8_fail(err, F8_ERR_REFUSED,
                   "%s: holds a folder called %s, which is to be a file; "
                   "expected a new or empty folder",
                   dst, path);
}

/* A shard is finished when it has its final name, the right size, and its
 * measurements stand in the journal. */
static f8_status find_done(const f8_plan *plan, const char *work_dir,
                           const f8_watch *watch, f8_claim *claim,
                           f8_error *err)
{
    f8_buf header = {0};
    f8_status status = F8_OK;

    for (uint64_t i = 0; i < plan->shards_count && status == F8_OK; i++) {
        const f8_side_file *f =
            f8_side_files_find(&claim->files, plan->shards[i].name);
        if (!f || !f->regular)
            continue;
        if (watch && !watch->keep_going(watch->ctx, 0))
            status = f8_fail(err, F8_ERR_CANCELLED, "stopped");
        if (status == F8_OK)
            status = f8_plan_shard_header(plan, i, &header, err);
        if (status != F8_OK ||
            f->bytes != header.length + plan->shards[i].data_bytes)
            continue;
        f8_status found = f8_journal_get_shard(work_dir, plan, i, NULL, err);
        /* f8_claim_look has made it.
         * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        claim->shard_done[i] = found == F8_OK;
        claim->shards_done += found == F8_OK;
        if (found == F8_ERR_NOMEM)
            status = found; /* which says nothing about the shard */
    }
    f8_buf_free(&header);
    return status;
}

/* ---- looking ------------------------------------------------------------- */

static f8_status check_space(const f8_plan *plan, const char *dst,
                             const f8_claim *claim, f8_error *err)
{
    f8_plan_summary summary;
    uint64_t free_bytes = 0, needed;

    f8_plan_get_summary(plan, &summary);
    needed = summary.disk_bytes;
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        const f8_shard *s = &plan->shards[i];
        /* f8_claim_look has made it.
         * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        if (claim->shard_done[i])
            needed -= s->data_bytes + s->header_bytes;
    }
    for (size_t i = 0; i < plan->sides.count; i++) {
        if (claim->sides[i] != F8_SIDE_TO_WRITE)
            needed -= plan->sides.items[i].bytes;
    }
    f8_status status = f8_free_space(dst, &free_bytes, err);
    for (size_t i = 0; i < claim->files.count; i++) {
        const f8_side_file *f = &claim->files.items[i];
        /* They are about to be removed; holes may claim any size. */
        if ((claim->replace || ends_with(f->path, ".part")) &&
            !f8_add_u64(free_bytes, f->bytes, &free_bytes))
            free_bytes = UINT64_MAX;
    }
    if (status == F8_OK && free_bytes < needed)
        return f8_fail(err, F8_ERR_SPACE,
                       "%s: not enough free space: expected %llu bytes, found "
                       "%llu",
                       dst, (unsigned long long)needed,
                       (unsigned long long)free_bytes);
    return status;
}

/* The lock is no part of what a folder holds: ours to be, or another's. Nor is
 * what a new repository of the hub has beside .git, if it is not to be one of
 * the result's files. */
static void leave_out(const f8_plan *plan, f8_claim *claim)
{
    static const char lock[] = F8_WORK_DIR "/" F8_LOCK_NAME;
    f8_side_files *files = &claim->files;
    size_t kept = 0;

    for (size_t i = 0; i < files->count; i++) {
        const f8_side_file *f = &files->items[i];
        bool tools =
            (!strcmp(f->path, ".gitattributes") || !strcmp(f->path, ".git")) &&
            !is_planned(plan, f->path) &&
            !f8_journal_lists(&claim->journal, f->path);
        if (!f->regular || (!tools && strcmp(f->path, lock) != 0))
            files->items[kept++] = *f;
    }
    files->count = kept;
}

/* Everything in DST. Our own folder must be one: through a link of that name
 * files elsewhere would be taken for ours. */
static f8_status list_held(const char *dst, const char *work_dir,
                           f8_side_files *files, f8_error *err)
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
    if (lstat(work_dir, &st) == 0 && !S_ISDIR(st.st_mode))
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: expected a folder or nothing, found something "
                       "else",
                       work_dir);
    return f8_side_files_list_all(dst, files, err);
}

/* Whether all but files beside the weights is there. An earlier version kept no
 * record of the source's form. */
static bool is_finished(const f8_plan *plan, const char *dst,
                        const f8_intent *intent, const f8_claim *claim)
{
    return claim->settled && claim->shards_done == plan->shards_count &&
           (!f8_plan_has_index(plan) ||
            f8_finished_made(dst, &claim->files, F8_INDEX_NAME,
                             intent->index) == F8_MADE_SAME) &&
           (plan->direction == F8_FROM_FP8 ||
            json_equal(json_object_get(claim->journal.stored, F8_ORIGINAL_KEY),
                       plan->original));
}

/* What of DST is this plan's, and good. */
static f8_status look_at_own(const f8_plan *plan, const char *dst,
                             const char *work_dir, const f8_intent *intent,
                             f8_claim *claim, f8_error *err)
{
    f8_made_state config =
        f8_finished_made(dst, &claim->files, F8_CONFIG_NAME, intent->config);
    bool all = false;

    claim->settled = config != F8_MADE_ABSENT;
    claim->edited = config == F8_MADE_UNLIKE && !intent->overwrite;
    f8_status status = find_done(plan, work_dir, intent->watch, claim, err);
    if (status == F8_OK)
        status = f8_finished_sides(plan, dst, &claim->files, intent,
                                   claim->sides, &all, err);
    if (status != F8_OK)
        return status;
    claim->finished = is_finished(plan, dst, intent, claim);
    claim->complete = claim->finished && all &&
                      (config == F8_MADE_SAME || !intent->overwrite);
    for (size_t i = 0; i < claim->files.count && intent->overwrite; i++) {
        if (is_stale(plan, claim, &claim->files.items[i]))
            claim->complete = false;
    }
    if (claim->edited && !claim->finished)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: something is missing, and config.json is not as it "
                       "was written; expected it so, or --overwrite",
                       dst);
    return F8_OK;
}

f8_status f8_claim_look(const f8_plan *plan, const char *dst,
                        const char *work_dir, const f8_intent *intent,
                        f8_claim *claim, f8_error *err)
{
    const char *why = "";
    bool overwrite = intent->overwrite;

    memset(claim, 0, sizeof *claim);
    claim->shard_done = f8_alloc(plan->shards_count, sizeof(bool));
    claim->sides = f8_alloc(plan->sides.count, sizeof *claim->sides);
    f8_status status = claim->shard_done && claim->sides
                           ? list_held(dst, work_dir, &claim->files, err)
                           : f8_fail_nomem(err, "the result folder");
    if (status == F8_OK)
        status = f8_journal_read(work_dir, &claim->journal, err);
    if (status == F8_ERR_FORMAT && overwrite)
        status = F8_OK; /* a broken journal is like none */
    if (status == F8_OK) {
        leave_out(plan, claim);
        claim->replace = claim->files.count > 0 &&
                         !f8_journal_matches(&claim->journal, plan, &why);
    }
    if (status == F8_OK && !claim->replace)
        status = look_at_own(plan, dst, work_dir, intent, claim, err);
    if (status == F8_OK && !claim->complete)
        status = check_foreign(plan, claim, dst, overwrite, err);
    if (status == F8_OK && !claim->complete)
        status = check_folders(plan, claim, dst, false, err);
    if (status == F8_OK && claim->replace && claim->journal.stored &&
        !overwrite)
        status = f8_fail(err, F8_ERR_REFUSED,
                         "%s: holds a conversion of %s; finish it with the "
                         "same command, or replace it with --overwrite",
                         dst, why);
    if (status == F8_OK && !claim->complete)
        status = check_space(plan, dst, claim, err);
    return status;
}

void f8_claim_free(f8_claim *claim)
{
    f8_side_files_free(&claim->files);
    f8_journal_free(&claim->journal);
    free(claim->shard_done);
    free(claim->sides);
    memset(claim, 0, sizeof *claim);
}

/* ---- clearing ------------------------------------------------------------ */

/* And the folders that it leaves empty. One that stays is synced, but DST and
 * .fp8cast only when all is removed. */
static f8_status remove_file(const char *dst, const char *path, f8_error *err)
{
    f8_status status = F8_OK;
    char *full = f8_path_join(dst, path);

    if (!full)
        return f8_fail_nomem(err, "a path");
    size_t root = strlen(full) - strlen(path); /* where path begins */
    if (unlink(full) != 0 && errno != ENOENT)
        status = f8_fail_errno(err, errno, "%s: cannot remove", full);
    bool empty = true;
    while (status == F8_OK && empty && strchr(full + root, '/')) {
        *strrchr(full, '/') = '\0';
        empty = rmdir(full) == 0;
        if (!empty && strcmp(full + root, F8_WORK_DIR) != 0)
            status = f8_sync_dir(full, err);
    }
    free(full);
    return status;
}

/* A folder is complete only with config.json and index, so they go first. */
static f8_status remove_last(const char *dst, f8_error *err)
{
    f8_status status = remove_file(dst, F8_CONFIG_NAME, err);

    if (status == F8_OK)
        status = remove_file(dst, F8_INDEX_NAME, err);
    return status == F8_OK ? f8_sync_dir(dst, err) : status;
}

/* The journal, which says that the others are ours, stays until the new one
 * takes its place, and that only when all else is durably gone. */
static f8_status remove_old(const char *dst, const char *work_dir,
                            const f8_claim *claim, f8_error *err)
{
    f8_status status = remove_last(dst, err);

    for (size_t i = 0; i < claim->files.count && status == F8_OK; i++) {
        const char *path = claim->files.items[i].path;
        if (strcmp(path, F8_WORK_DIR "/journal.json") != 0)
            status = remove_file(dst, path, err);
    }
    if (status == F8_OK)
        status = f8_sync_dir(work_dir, err);
    return status == F8_OK ? f8_sync_dir(dst, err) : status;
}

/* What a stopped run was writing never had a final name; other files may have
 * gone from the source since, but in a folder that was finished once they may
 * have become its user's. The journal is yet to forget them. */
static f8_status remove_left(const f8_plan *plan, const char *dst,
                             bool overwrite, const f8_claim *claim,
                             f8_error *err)
{
    f8_status status = F8_OK;
    bool synced = true;

    /* It looks complete and is not: a shard, what was measured in one or the
     * index is missing or damaged. */
    if (!claim->finished &&
        (claim->settled || f8_side_files_find(&claim->files, F8_INDEX_NAME)))
        status = remove_last(dst, err);
    for (size_t i = 0; i < claim->files.count && status == F8_OK; i++) {
        const f8_side_file *f = &claim->files.items[i];
        bool stale = (!claim->settled || overwrite) && is_stale(plan, claim, f);
        if (!stale && !(ends_with(f->path, ".part") && is_work_file(f->path)))
            continue;
        status = remove_file(dst, f->path, err);
        synced = synced && !stale;
    }
    return status == F8_OK && !synced ? f8_sync_dir(dst, err) : status;
}

f8_status f8_claim_clear(const f8_plan *plan, const char *dst,
                         const char *work_dir, bool overwrite,
                         const f8_claim *claim, f8_error *err)
{
    f8_status status = f8_separate(plan, dst, &claim->files, err);

    if (status != F8_OK)
        return status;
    if (claim->replace)
        status = remove_old(dst, work_dir, claim, err);
    else
        status = remove_left(plan, dst, overwrite, claim, err);
    return status == F8_OK ? check_folders(plan, claim, dst, true, err)
                           : status;
}
