/* sidefiles.c - walks a folder and tells side files from weights that are not
 * carried over. See sidefiles.h. */
#include "sidefiles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* Deeper is a loop of links or a mistake. */
enum { MAX_DEPTH = 16 };
/* Links that lead to the same folders again and again make endlessly many out
 * of a few; no model comes with more. */
enum { MAX_ENTRIES = 20000 };

typedef struct walk {
    const char *root;
    const f8_checkpoint *checkpoint; /* NULL: list all */
    f8_side_files *list;
    size_t entries; /* seen so far, folders too */
    f8_error *err;
} walk;

/* Folders that belong to tools, not to the model. */
static bool is_tools_folder(const char *name)
{
    return !strcmp(name, ".git") || !strcmp(name, ".cache");
}

static bool is_private_folder(const char *name)
{
    return is_tools_folder(name) || !strcmp(name, F8_WORK_DIR);
}

/* Weights in other formats (pickled ones could run code), indexes of weights
 * that are not there any more, and what describes them as they are no more. */
static bool is_left_behind(const char *path)
{
    static const char *const ends[] = {
        ".safetensors", ".bin", ".pt",      ".pth",  ".ckpt", ".pkl",
        ".pickle",      ".h5",  ".msgpack", ".gguf", ".onnx", ".index.json"};
    size_t n = strlen(path);

    if (!strcmp(path, F8_RIVAL_NAME))
        return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i]);
        if (n >= m && !strcasecmp(path + n - m, ends[i]))
            return true;
    }
    return false;
}

static int by_file_name(const void *key, const void *file)
{
    return strcmp(key, ((const f8_shard_file *)file)->name);
}

/* Shards, index and config are the checkpoint's own business. */
static bool is_own(const f8_checkpoint *cp, const char *path)
{
    if (!strcmp(path, F8_CONFIG_NAME) || !strcmp(path, F8_INDEX_NAME))
        return true;
    return cp->files_count > 0 && bsearch(path, cp->files, cp->files_count,
                                          sizeof *cp->files, by_file_name);
}

/* Takes over all of it but the strings, which are copied. */
static f8_status add_file(walk *w, f8_side_file file)
{
    f8_side_files *list = w->list;
    bool has_reason = file.unread != NULL;

    file.path = f8_arena_copy(&list->strings, file.path, strlen(file.path));
    if (has_reason)
        file.unread =
            f8_arena_copy(&list->strings, file.unread, strlen(file.unread));
    if (!file.path || (has_reason && !file.unread) ||
        !f8_grow((void **)&list->items, &list->capacity, list->count,
                 sizeof *list->items))
        return f8_fail_nomem(w->err, "the list of files");
    list->items[list->count++] = file;
    return F8_OK;
}

static f8_status add(walk *w, const char *path, const struct stat *st,
                     bool carried)
{
    return add_file(w, (f8_side_file){.path = path,
                                      .bytes = (uint64_t)st->st_size,
                                      .carried = carried,
                                      .regular = S_ISREG(st->st_mode)});
}

static f8_status walk_folder(walk *w, const char *relative, int depth);

/* One entry of a checkpoint. What is carried, and folders, may be links, but
 * not out of it.
 * NOLINTNEXTLINE(misc-no-recursion): MAX_DEPTH */
static f8_status take(walk *w, const char *path, const char *name,
                      const struct stat *st, int depth)
{
    bool is_folder = S_ISDIR(st->st_mode);
    bool carried = S_ISREG(st->st_mode) && !is_left_behind(path);
    f8_status status = F8_OK;

    if (is_folder ? is_private_folder(name) : is_own(w->checkpoint, path))
        return F8_OK;
    if (is_folder || carried)
        status = f8_folder_check(&w->checkpoint->folder, path, w->err);
    if (status != F8_OK)
        return status;
    return is_folder ? walk_folder(w, path, depth + 1)
                     : add(w, path, st, carried);
}

/* One entry of a folder; path is relative to the root. */
/* NOLINTNEXTLINE(misc-no-recursion): MAX_DEPTH */
static f8_status visit(walk *w, const char *path, const char *name, int depth)
{
    struct stat st;
    f8_status status = F8_OK;
    char *full = f8_path_join(w->root, path);

    if (!full)
        return f8_fail_nomem(w->err, "a path");
    if (++w->entries > MAX_ENTRIES)
        status = f8_fail(w->err, F8_ERR_REFUSED,
                         "%s: expected at most %d files and folders, found "
                         "more; links that lead round?",
                         w->root, MAX_ENTRIES);
    else if (fstatat(AT_FDCWD, full, &st,
                     w->checkpoint ? 0 : AT_SYMLINK_NOFOLLOW) != 0) {
        /* Of a result folder another run may just have renamed it. */
        if (w->checkpoint || errno != ENOENT)
            status = f8_fail_errno(w->err, errno, "%s: cannot stat", full);
    } else if (w->checkpoint)
        status = take(w, path, name, &st, depth);
    else if (!S_ISDIR(st.st_mode))
        status = add(w, path, &st, false);
    else if (!is_tools_folder(name))
        status = walk_folder(w, path, depth + 1);
    free(full);
    return status;
}

/* NOLINTNEXTLINE(misc-no-recursion): MAX_DEPTH */
static f8_status walk_folder(walk *w, const char *relative, int depth)
{
    const struct dirent *entry = NULL;
    f8_status status = F8_OK;
    char *full = f8_path_join(w->root, relative);

    if (!full)
        return f8_fail_nomem(w->err, "a path");
    DIR *dir = depth <= MAX_DEPTH ? opendir(full) : NULL;
    if (depth > MAX_DEPTH)
        status = f8_fail(w->err, F8_ERR_REFUSED,
                         "%s: folders nested more than %d deep; a loop of "
                         "links?",
                         full, MAX_DEPTH);
    else if (!dir)
        status = f8_fail_errno(w->err, errno, "%s: cannot list", full);
    /* No other thread has this stream.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while (dir && status == F8_OK && (errno = 0, entry = readdir(dir))) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        char *path = *relative ? f8_path_join(relative, name) : strdup(name);
        status = path ? visit(w, path, name, depth)
                      : f8_fail_nomem(w->err, "a path");
        free(path);
    }
    if (status == F8_OK && errno != 0)
        status = f8_fail_errno(w->err, errno, "%s: cannot list", full);
    if (dir)
        closedir(dir);
    free(full);
    return status;
}

/* Whether there is nothing of that name: no entry, in folders that can be
 * looked into. A link to nowhere is there, and what would lie behind one, or in
 * a folder that may not be searched, may be. */
static bool is_absent(int dir, char *path)
{
    struct stat st;

    for (;;) {
        if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
            (errno != ENOENT && errno != ENOTDIR))
            return false;
        char *slash = strrchr(path, '/');
        if (!slash)
            return true;
        *slash = '\0';
        if (fstatat(dir, path, &st, 0) == 0)
            return true;
    }
}

/* What may be anything, and cannot be looked at. */
static f8_status take_unread(walk *w, int dir, const char *path, int why)
{
    f8_error odd;
    char *name = strdup(path);
    char *full = f8_path_join(w->root, path);
    f8_status status = F8_OK;

    if (!name || !full)
        status = f8_fail_nomem(w->err, "a path");
    else if (!is_absent(dir, name)) {
        (void)f8_fail_errno(&odd, why, "%s: cannot stat", full);
        status =
            add_file(w, (f8_side_file){.path = path, .unread = odd.message});
    }
    free(full);
    free(name);
    return status;
}

/* As take, of what may be anything, by now also gone. */
static f8_status take_known(walk *w, int dir, const char *path)
{
    struct stat st;
    f8_error odd;

    if (is_own(w->checkpoint, path))
        return F8_OK;
    if (fstatat(dir, path, &st, 0) != 0)
        return take_unread(w, dir, path, errno);
    if (S_ISDIR(st.st_mode))
        return F8_OK;
    f8_status status = f8_folder_check(&w->checkpoint->folder, path, &odd);
    if (status == F8_OK)
        return add(w, path, &st, S_ISREG(st.st_mode) && !is_left_behind(path));
    return status == F8_ERR_NOMEM
               ? f8_fail_nomem(w->err, "a path")
               : add_file(w,
                          (f8_side_file){.path = path, .unread = odd.message});
}

static int by_path(const void *a, const void *b)
{
    const f8_side_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static void sort(f8_side_files *list)
{
    if (list->count > 0)
        qsort(list->items, list->count, sizeof *list->items, by_path);
}

static f8_status list_files(walk *w)
{
    f8_status status = walk_folder(w, "", 0);

    if (status == F8_OK)
        sort(w->list);
    return status;
}

f8_status f8_side_files_list(const f8_checkpoint *checkpoint,
                             f8_side_files *list, f8_error *err)
{
    walk w = {checkpoint->dir, checkpoint, list, 0, err};
    return list_files(&w);
}

f8_status f8_side_files_list_known(const f8_checkpoint *checkpoint,
                                   const f8_side_files *other,
                                   f8_side_files *list, f8_error *err)
{
    walk w = {checkpoint->dir, checkpoint, list, 0, err};
    const struct dirent *entry;
    f8_status status = F8_OK;
    DIR *dir = opendir(w.root);

    if (!dir)
        return f8_fail_errno(err, errno, "%s: cannot list", w.root);
    /* No other thread has this stream.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while (status == F8_OK && (errno = 0, entry = readdir(dir)))
        status = take_known(&w, dirfd(dir), entry->d_name);
    if (status == F8_OK && errno != 0)
        status = f8_fail_errno(err, errno, "%s: cannot list", w.root);
    for (size_t i = 0; i < other->count && status == F8_OK; i++) {
        if (strchr(other->items[i].path, '/'))
            status = take_known(&w, dirfd(dir), other->items[i].path);
    }
    closedir(dir);
    sort(list);
    return status;
}

f8_status f8_side_files_list_all(const char *dir, f8_side_files *list,
                                 f8_error *err)
{
    walk w = {dir, NULL, list, 0, err};
    return list_files(&w);
}

static int by_key(const void *key, const void *file)
{
    return strcmp(key, ((const f8_side_file *)file)->path);
}

const f8_side_file *f8_side_files_find(const f8_side_files *list,
                                       const char *path)
{
    if (list->count == 0)
        return NULL;
    return bsearch(path, list->items, list->count, sizeof *list->items, by_key);
}

void f8_side_files_free(f8_side_files *list)
{
    free(list->items);
    f8_arena_free(&list->strings);
    memset(list, 0, sizeof *list);
}
