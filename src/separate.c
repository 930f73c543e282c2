/* separate.c - before anything is removed from a result folder: does the source
 * reach it? Its shards may be links to files there, or folders of it links or
 * mounts of folders there. See separate.h. */
#include "separate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A file of the result folder. */
typedef struct place {
    dev_t device;
    ino_t inode;
    const char *path; /* relative to the folder */
} place;

typedef struct places {
    place *items; /* by device and inode */
    size_t count;
    const char *dst;
} places;

static int by_inode(const void *a, const void *b)
{
    const place *x = a, *y = b;

    if (x->device != y->device)
        return x->device < y->device ? -1 : 1;
    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* What is gone meanwhile is nobody's. */
static f8_status find_places(const char *dst, const f8_side_files *files,
                             places *found, f8_error *err)
{
    struct stat st;

    found->dst = dst;
    found->items = f8_alloc(files->count, sizeof *found->items);
    if (!found->items)
        return f8_fail_nomem(err, "the result folder");
    for (size_t i = 0; i < files->count; i++) {
        char *path = f8_path_join(dst, files->items[i].path);
        if (!path)
            return f8_fail_nomem(err, "a path");
        if (lstat(path, &st) == 0)
            found->items[found->count++] =
                (place){st.st_dev, st.st_ino, files->items[i].path};
        free(path);
    }
    qsort(found->items, found->count, sizeof *found->items, by_inode);
    return F8_OK;
}

/* Whether two paths without links are one entry of one folder, which mounts
 * may give several paths, or may be. The paths are cut on the way. */
static bool same_entry(char *a, char *b)
{
    struct stat of_a, of_b;
    char *name_a = strrchr(a, '/'), *name_b = strrchr(b, '/');

    if (!name_a || !name_b || strcmp(name_a, name_b) != 0)
        return false;
    name_a[name_a == a] = '\0'; /* the root is called by its slash */
    name_b[name_b == b] = '\0';
    return stat(a, &of_a) != 0 || stat(b, &of_b) != 0 ||
           (of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino);
}

static f8_status refuse(const char *path, const char *name, f8_error *err)
{
    return f8_fail(err, F8_ERR_REFUSED, "%s: is the source's %s itself", path,
                   name);
}

/* The file `source`, called `name` there, which has this inode. Another hard
 * link to it leaves the source's when it is removed. */
static f8_status check_place(const char *source, const char *name,
                             const struct stat *st, const char *path,
                             f8_error *err)
{
    f8_status status = F8_OK;
    char *from = realpath(source, NULL), *to = realpath(path, NULL);

    if (st->st_nlink < 2 || !from || !to || same_entry(from, to))
        status = refuse(path, name, err);
    free(from);
    free(to);
    return status;
}

static f8_status check(const places *held, const char *source, const char *name,
                       f8_error *err)
{
    struct stat st;
    f8_status status = F8_OK;

    if (stat(source, &st) != 0)
        return F8_OK; /* nor can it be removed through this name */
    const place wanted = {st.st_dev, st.st_ino, NULL};
    const place *at = held->count == 0
                          ? NULL
                          : bsearch(&wanted, held->items, held->count,
                                    sizeof *held->items, by_inode);
    while (at && at > held->items && by_inode(at - 1, &wanted) == 0)
        at--;
    for (; at && at < held->items + held->count && status == F8_OK &&
           by_inode(at, &wanted) == 0;
         at++) {
        char *path = f8_path_join(held->dst, at->path);
        status = path ? check_place(source, name, &st, path, err)
                      : f8_fail_nomem(err, "a path");
        free(path);
    }
    return status;
}

static f8_status check_name(const f8_plan *plan, const places *held,
                            const char *name, f8_error *err)
{
    char *source = f8_path_join(plan->source->dir, name);

    if (!source)
        return f8_fail_nomem(err, "a path");
    f8_status status = check(held, source, name, err);
    free(source);
    return status;
}

f8_status f8_separate(const f8_plan *plan, const char *dst,
                      const f8_side_files *files, f8_error *err)
{
    places held = {0};
    const f8_checkpoint *source = plan->source;

    f8_status status = find_places(dst, files, &held, err);
    if (status == F8_OK)
        status = check_name(plan, &held, F8_CONFIG_NAME, err);
    if (status == F8_OK)
        status = check_name(plan, &held, F8_INDEX_NAME, err);
    for (uint32_t i = 0; i < source->files_count && status == F8_OK; i++)
        status = check_name(plan, &held, source->files[i].name, err);
    for (size_t i = 0; i < plan->sides.count && status == F8_OK; i++)
        status = check_name(plan, &held, plan->sides.items[i].path, err);
    free(held.items);
    return status;
}
