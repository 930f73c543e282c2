/* sidefiles.h - what else lies in a checkpoint folder: files to carry over
 * and files to leave behind, docs/format.md section 6. */
#ifndef F8_SIDEFILES_H
#define F8_SIDEFILES_H

#include "checkpoint.h"

/* ModelSlim's account of its own quantization. Where SGLang finds one it reads
 * the weights by it, whatever config.json says. */
#define F8_RIVAL_NAME "quant_model_description.json"

typedef struct f8_side_file {
    const char *path; /* relative to the folder, '/' between */
    uint64_t bytes;
    bool carried; /* of a source; false: left behind */
    bool regular; /* a file, and no fifo, socket or device; of a list of all:
                     a file itself, no link either */
    const char *unread; /* of a list of what is known: why nothing more can be
                           known of it; NULL else */
} f8_side_file;

typedef struct f8_side_files {
    f8_side_file *items; /* sorted by path */
    size_t count, capacity;
    f8_arena strings;
} f8_side_files;

/* Lists everything under checkpoint->dir but its shards, config and index.
 * Links are followed. */
f8_status f8_side_files_list(const f8_checkpoint *checkpoint,
                             f8_side_files *list, f8_error *err);

/* Where that fails, as at a link to nowhere: the files of the folder itself,
 * whatever lies between them, and of its folders those that `other` has, which
 * may be an empty list. What is there but cannot be looked at is listed as no
 * regular file, with what there is to say of it. */
f8_status f8_side_files_list_known(const f8_checkpoint *checkpoint,
                                   const f8_side_files *other,
                                   f8_side_files *list, f8_error *err);

/* Lists everything under dir but folders, and .git and .cache, which belong to
 * tools, without judging it. Links are listed, not followed: what they point to
 * is not dir's. */
f8_status f8_side_files_list_all(const char *dir, f8_side_files *list,
                                 f8_error *err);
/* The one of that path, or NULL. */
const f8_side_file *f8_side_files_find(const f8_side_files *list,
                                       const char *path);
void f8_side_files_free(f8_side_files *list);

#endif
