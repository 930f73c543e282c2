/* source.c - reading tensor data. See source.h. */
#include "source.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

void f8_handle_close(f8_handle *handle)
{
    f8_file_close(&handle->file);
    free(handle->path);
    *handle = F8_HANDLE_NONE;
}

f8_status f8_handle_use(f8_handle *handle, const f8_checkpoint *cp,
                        uint32_t file, f8_error *err)
{
    const f8_shard_file *known = &cp->files[file];
    uint64_t bytes = 0;
    int64_t mtime_ns = 0;

    if (handle->file.fd >= 0 && handle->index == file)
        return F8_OK;
    f8_handle_close(handle);
    handle->path = f8_path_join(cp->dir, known->name);
    if (!handle->path)
        return f8_fail_nomem(err, "a path");
    f8_status status = f8_folder_open_file(
        &cp->folder, known->name, &handle->file.fd, &bytes, &mtime_ns, err);
    if (status == F8_OK &&
        (bytes != known->bytes || mtime_ns != known->mtime_ns))
        status = f8_fail(err, F8_ERR_IO,
                         "%s: changed since its header was read", handle->path);
    handle->index = file;
    if (status == F8_OK)
        f8_file_open_direct(&handle->file, handle->path, O_RDONLY);
    else
        f8_handle_close(handle);
    return status;
}

f8_status f8_checkpoint_unchanged(const f8_checkpoint *cp, f8_error *err)
{
    f8_handle handle = F8_HANDLE_NONE;
    f8_status status = F8_OK;

    for (uint32_t i = 0; i < cp->files_count && status == F8_OK; i++) {
        if (cp->files[i].head.hash) /* else it was never read */
            status = f8_handle_use(&handle, cp, i, err);
        f8_handle_close(&handle);
    }
    return status;
}

f8_status f8_handle_read(const f8_handle *handle, void *buffer, size_t n,
                         uint64_t offset, unsigned char **data, f8_error *err)
{
    return f8_file_read(&handle->file, buffer, n, offset, handle->path, data,
                        err);
}

f8_status f8_read_panel(const f8_handle *handle, uint64_t offset, uint64_t cols,
                        size_t elem_bytes, const f8_item *item, void *buffer,
                        unsigned char **data, f8_error *err)
{
    uint64_t row_bytes = cols * elem_bytes;
    uint64_t at = offset + item->row * row_bytes + item->col * elem_bytes;
    size_t n = (size_t)(item->cols * elem_bytes);
    unsigned char *to = buffer;
    f8_status status = F8_OK;

    if (item->cols == cols)
        return f8_handle_read(handle, buffer, (size_t)item->rows * n, at, data,
                              err);
    /* Rows of a matrix so wide that one band of it exceeds a chunk: they are
     * a few kilobytes each and lie apart, so they go through the cache. */
    *data = to;
    for (uint64_t r = 0; r < item->rows && status == F8_OK; r++)
        status = f8_read_at(handle->file.fd, to + r * n, n, at + r * row_bytes,
                            handle->path, err);
    return status;
}

/* Element (r, c) of a packed rows x cols matrix to place (c, r), in squares
 * that stay in a CPU's first cache. One loop for each size of an element, or
 * the copy would not be an instruction. */
/* NOLINTBEGIN(bugprone-macro-parentheses): a type has none. */
#define TRANSPOSE(type)                                                   \
    static void transpose_##type(const type *from, type *to, size_t rows, \
                                 size_t cols)                             \
    {                                                                     \
        for (size_t top = 0; top < rows; top += SQUARE) {                 \
            size_t end = top + SQUARE < rows ? top + SQUARE : rows;       \
            for (size_t c = 0; c < cols; c++) {                           \
                for (size_t r = top; r < end; r++)                        \
                    to[c * rows + r] = from[r * cols + c];                \
            }                                                             \
        }                                                                 \
    }

/* NOLINTEND(bugprone-macro-parentheses) */

enum { SQUARE = 32 };
TRANSPOSE(uint8_t)
TRANSPOSE(uint16_t)
TRANSPOSE(uint32_t)

void f8_transpose(const void *from, void *to, size_t rows, size_t cols,
                  size_t elem_bytes)
{
    if (elem_bytes == 1)
        transpose_uint8_t(from, to, rows, cols);
    else if (elem_bytes == 2)
        transpose_uint16_t(from, to, rows, cols);
    else
        transpose_uint32_t(from, to, rows, cols);
}

f8_status f8_read_across(const f8_handle *handle, uint64_t offset,
                         uint64_t stride, size_t elem_bytes,
                         const f8_item *item, void *buffer, void *spare,
                         unsigned char **data, f8_error *err)
{
    size_t height = (size_t)item->rows, width = (size_t)item->cols;
    size_t n = height * elem_bytes;
    uint64_t at = offset + (item->col * stride + item->row) * elem_bytes;
    unsigned char *to = spare;
    f8_status status = F8_OK;

    /* Columns of the result are runs of the source. Where nothing is between
     * them they are one piece; else they have a kilobyte or less, with the
     * other parts' between them, which are asked for next: they go through the
     * cache. */
    if (item->rows == stride)
        status = f8_handle_read(handle, spare, width * n, at, &to, err);
    for (uint64_t c = 0; c < width && item->rows != stride && status == F8_OK;
         c++)
        status = f8_read_at(handle->file.fd, to + c * n, n,
                            at + c * stride * elem_bytes, handle->path, err);
    if (status != F8_OK)
        return status;
    /* The piece lies as in the file, where a tensor may begin anywhere. */
    if ((uintptr_t)to % elem_bytes != 0)
        to = memmove(spare, to, width * n);
    f8_transpose(to, buffer, width, height, elem_bytes);
    *data = buffer;
    return status;
}

f8_scale_range f8_item_scales(const f8_item *item, uint64_t cols,
                              f8_scale_dtype dtype)
{
    size_t scale_bytes = f8_dtype_bytes(f8_scale_storage(dtype));
    uint64_t across = f8_ceil_div(cols, F8_BLOCK);
    uint64_t first = item->row / F8_BLOCK * across + item->col / F8_BLOCK;
    uint64_t count =
        f8_ceil_div(item->rows, F8_BLOCK) * f8_ceil_div(item->cols, F8_BLOCK);

    return (f8_scale_range){first * scale_bytes, count * scale_bytes};
}
