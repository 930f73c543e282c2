/* source.h - reading tensor data: a worker's hold on one file at a time, and
 * panels of a matrix. Local files; another transport would go here. */
#ifndef F8_SOURCE_H
#define F8_SOURCE_H

#include "checkpoint.h"
#include "pipeline.h"

/* Start with {.fd = -1}; f8_handle_use opens what is needed and notices a
 * file that is not the one whose header was read. */
typedef struct f8_handle {
    int fd;
    uint32_t file;
    char *path;
} f8_handle;
f8_status f8_handle_use(f8_handle *handle, const f8_checkpoint *checkpoint,
                        uint32_t file, f8_error *err);
void f8_handle_close(f8_handle *handle);

/* Reads the item's panel of a row-major matrix with `cols` columns whose data
 * begins at `offset`, packed, to `to`. */
f8_status f8_read_panel(const f8_handle *handle, uint64_t offset, uint64_t cols,
                        size_t elem_bytes, const f8_item *item,
                        unsigned char *to, f8_error *err);

/* Where an item's scales lie in its matrix's scale tensor: they are always in
 * one piece, because a panel narrower than the matrix is one band high. */
typedef struct f8_scale_range {
    uint64_t begin, bytes; /* from the start of the scale tensor */
} f8_scale_range;
f8_scale_range f8_item_scales(const f8_item *item, uint64_t cols,
                              f8_scale_dtype dtype);

#endif
