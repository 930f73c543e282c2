/* layout.h - layouts: text that says which tensors and files a checkpoint
 * has. The language is described in docs/layouts.md. Building a layout is
 * pure: text and parameters in, a list out; synth.c writes it. */
#ifndef F8_LAYOUT_H
#define F8_LAYOUT_H

#include "builtin.h"
#include "os.h"
#include "values.h"

typedef struct f8_layout_tensor {
    const char *name;
    f8_dtype dtype; /* BF16, F16 or F32 */
    unsigned rank;
    uint64_t shape[F8_MAX_RANK];
    uint64_t elems, bytes;
    f8_values values;
} f8_layout_tensor;

typedef struct f8_layout_file {
    const char *name; /* without a folder */
    f8_buf text;
} f8_layout_file;

typedef struct f8_layout {
    f8_arena strings;
    f8_layout_tensor *tensors; /* in the order of the text */
    size_t tensor_count, tensor_capacity;
    f8_layout_file *files;
    size_t file_count, file_capacity;
    const f8_layout_tensor **by_name; /* sorted by the bytes of the names */
    uint64_t bytes;                   /* of all tensors */
} f8_layout;

/* A parameter that the caller sets instead of the layout. */
typedef struct f8_layout_setting {
    const char *name;
    int64_t value;
} f8_layout_setting;

/* Finds `name` in `table` and evaluates it with `settings`. An unknown name, a
 * setting that the layout has no parameter for, and settings that lead to an
 * impossible tensor are F8_ERR_ARGUMENT; a text that breaks the language is
 * F8_ERR_FORMAT. *layout is the caller's to free, after a failure too. */
f8_status f8_layout_build(const f8_builtin *table, const char *name,
                          const f8_layout_setting *settings,
                          size_t settings_count, f8_layout *layout,
                          f8_error *err);
void f8_layout_free(f8_layout *layout); /* a zeroed one is fine */

#endif
