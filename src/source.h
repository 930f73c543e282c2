/* source.h - reading tensor data: a worker's hold on one file at a time, and
 * panels of a matrix. Local files; another transport would go here. */
#ifndef F8_SOURCE_H
#define F8_SOURCE_H

#include "checkpoint.h"
#include "direct.h"
#include "pipeline.h"

/* Start with F8_HANDLE_NONE; f8_handle_use opens what is needed and notices a
 * file that is not the one whose header was read. */
typedef struct f8_handle {
    f8_file file;
    uint32_t index; /* of the checkpoint's file */
    char *path;
} f8_handle;
#define F8_HANDLE_NONE ((f8_handle){.file = F8_FILE_NONE})
f8_status f8_handle_use(f8_handle *handle, const f8_checkpoint *checkpoint,
                        uint32_t file, f8_error *err);
void f8_handle_close(f8_handle *handle);

/* Whether every shard still is what it was when its header was read: one that
 * was written to while its weights were read has given a mixture. */
f8_status f8_checkpoint_unchanged(const f8_checkpoint *checkpoint,
                                  f8_error *err);

/* Reads n bytes at offset into an aligned buffer with room for them; *data is
 * where they begin in it. */
f8_status f8_handle_read(const f8_handle *handle, void *buffer, size_t n,
                         uint64_t offset, unsigned char **data, f8_error *err);

/* The same for the item's panel of a row-major matrix with `cols` columns
 * whose data begins at `offset`: its rows are packed. */
f8_status f8_read_panel(const f8_handle *handle, uint64_t offset, uint64_t cols,
                        size_t elem_bytes, const f8_item *item, void *buffer,
                        unsigned char **data, f8_error *err);

/* The same for a matrix that lies there transposed: `stride` elements from one
 * of its columns to the next. `spare` is a buffer of the same size. */
f8_status f8_read_across(const f8_handle *handle, uint64_t offset,
                         uint64_t stride, size_t elem_bytes,
                         const f8_item *item, void *buffer, void *spare,
                         unsigned char **data, f8_error *err);

/* Element (r, c) of a packed rows x cols matrix to place (c, r). Both lie on
 * addresses that an element of so many bytes may have. */
void f8_transpose(const void *from, void *to, size_t rows, size_t cols,
                  size_t elem_bytes);

/* Where an item's scales lie in its matrix's scale tensor: they are always in
 * one piece, because a panel narrower than the matrix is one band high. */
typedef struct f8_scale_range {
    uint64_t begin, bytes; /* from the start of the scale tensor */
} f8_scale_range;
f8_scale_range f8_item_scales(const f8_item *item, uint64_t cols,
                              f8_scale_dtype dtype);

#endif
