/* folder.h - opening what belongs to a checkpoint, and nothing else. A folder
 * that came from a stranger may hold links: README.md that is really a key of
 * yours would be copied into the result and published with it. So files are
 * opened relative to the folder and may not lead out of it; but for a model
 * hub's cache, whose snapshots are links into the folder of blobs beside them,
 * and where the user says that links are to be followed. */
#ifndef F8_FOLDER_H
#define F8_FOLDER_H

#include "os.h"

/* A folder below which files may lie. */
typedef struct f8_root {
    char *path; /* absolute, without links */
    int fd;     /* -1: there is none */
} f8_root;

typedef struct f8_folder {
    char *path; /* as it was given, for messages */
    f8_root own;
    f8_root blobs; /* of a hub's cache, where links lead to */
    bool follow_links;
} f8_folder;
#define F8_FOLDER_NONE ((f8_folder){.own.fd = -1, .blobs.fd = -1})

/* Opens the folder `path` and everything that may be read through it. */
f8_status f8_folder_open(const char *path, bool follow_links, f8_folder *folder,
                         f8_error *err);
void f8_folder_close(f8_folder *folder);

/* f8_open_read for `name`, a path relative to the folder. A link that leads
 * out of both gives F8_ERR_REFUSED and says where it leads. */
f8_status f8_folder_open_file(const f8_folder *folder, const char *name,
                              int *fd, uint64_t *bytes, int64_t *mtime_ns,
                              f8_error *err);
/* f8_read_file for such a name. */
f8_status f8_folder_read_file(const f8_folder *folder, const char *name,
                              uint64_t max_bytes, f8_buf *buf, f8_error *err);
/* F8_OK when `name`, a file or a folder, does not lead out. */
f8_status f8_folder_check(const f8_folder *folder, const char *name,
                          f8_error *err);

#endif
