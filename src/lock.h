/* lock.h - one run at a time in a result folder. A lock of the kernel's where
 * there is one; beside it, and in its stead on file systems without, a file
 * that names the holder. */
#ifndef F8_LOCK_H
#define F8_LOCK_H

#include "os.h"

#define F8_LOCK_NAME "lock"

typedef struct f8_lock {
    int fd;     /* of the folder, which the kernel's lock is on; or -1 */
    char *file; /* DST/.fp8cast/lock, when it is ours; else NULL */
} f8_lock;
#define F8_LOCK_NONE ((f8_lock){-1, NULL})

/* Makes work_dir if it is not there, and takes its lock. F8_ERR_REFUSED, with
 * the holder's process id, when another has it; `dir` is for messages. */
f8_status f8_lock_take(f8_lock *lock, const char *dir, const char *work_dir,
                       f8_error *err);
/* Gives it back, and removes work_dir if it is empty. *lock may be none. */
void f8_lock_release(f8_lock *lock, const char *work_dir);

#endif
