/* behind.h - what matrices that lie transposed leave in the page cache.
 *
 * Their rows are runs of a kilobyte or so, with those of their expert's other
 * parts between them, so they are read and written through the cache, where
 * each page is found again for the next part. Once all parts of an expert are
 * done its pages are let go, unless they were there before: a conversion
 * neither fills the cache nor takes from it. */
#ifndef F8_BEHIND_H
#define F8_BEHIND_H

#include <stdatomic.h>

#include "plan.h"
#include "source.h"

/* One for a run, shared by its workers. */
typedef struct f8_behind {
    const f8_plan *plan;
    pthread_mutex_t asking;
    atomic_uchar *states; /* of source tensors, what was in the cache */
    atomic_uint_least64_t retired; /* units before this one are done with */
    pthread_mutex_t mutex;         /* guards the rest */
    uint64_t read_let_go, written_let_go; /* units whose pages were */
    f8_handle source;
} f8_behind;

f8_status f8_behind_begin(f8_behind *behind, const f8_plan *plan,
                          f8_error *err);
/* After the last item: lets go of what is left of the source. */
void f8_behind_end(f8_behind *behind);

/* Before an item's weights are read from the source, and after. */
void f8_behind_reading(f8_behind *behind, const f8_item *item,
                       const f8_handle *source);
void f8_behind_read(f8_behind *behind);
/* After an item was written to its shard, whose data begin at data_start. What
 * is left then is let go with all of the shard (convert.c). */
void f8_behind_written(f8_behind *behind, const f8_item *item,
                       const f8_file *out, uint64_t data_start);
/* Items are retired in their order; after each. */
void f8_behind_retired(f8_behind *behind, const f8_item *item);

#endif
