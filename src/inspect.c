/* inspect.c - the public entry f8_inspect: what a folder or a file holds,
 * without judging more than whether index and shards agree. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint.h"

struct f8_inventory {
    f8_checkpoint *checkpoint;
    f8_problems problems;
    f8_buf quantization; /* a phrase */
    f8_shown model_type;
};

/* "fp8, e4m3, 128 x 128 blocks, 713 modules not converted". Links were
 * followed, so that config.json may be anybody's: of its values no more is
 * shown than names that model types and methods have. */
static void describe(f8_inventory *inventory)
{
    const char *where;
    f8_buf *text = &inventory->quantization;
    const json_t *config =
        f8_checkpoint_quantization(inventory->checkpoint, &where);
    const char *method =
        json_string_value(json_object_get(config, "quant_method"));
    const char *format = json_string_value(json_object_get(config, "fmt"));
    const json_t *block = json_object_get(config, "weight_block_size");
    const json_t *list = json_object_get(config, "modules_to_not_convert");

    inventory->model_type =
        f8_show(inventory->checkpoint->model_type, F8_SHOWN_BYTES);
    if (!config || json_is_null(config)) {
        f8_buf_puts(text, "none");
        if (config) /* for which `quantize` refuses it */
            f8_buf_printf(text, ", %s is null", where);
        return;
    }
    f8_buf_puts(text, method ? f8_show(method, F8_SHOWN_BYTES).text
                             : "unknown method");
    if (format)
        f8_buf_printf(text, ", %s", f8_show(format, F8_SHOWN_BYTES).text);
    if (json_array_size(block) == 2)
        f8_buf_printf(text, ", %lld x %lld blocks",
                      (long long)json_integer_value(json_array_get(block, 0)),
                      (long long)json_integer_value(json_array_get(block, 1)));
    if (json_is_array(list))
        f8_buf_printf(text, ", %zu modules not converted",
                      json_array_size(list));
}

f8_status f8_inspect(const char *path, f8_inventory **inventory, f8_error *err)
{
    struct stat st;
    f8_status status;
    f8_inventory *made = f8_alloc(1, sizeof *made);

    *inventory = NULL;
    if (!made)
        return f8_fail_nomem(err, "the inventory");
    if (stat(path, &st) != 0)
        status = f8_fail_errno(err, errno, "%s: cannot open", path);
    else if (S_ISDIR(st.st_mode))
        status = f8_checkpoint_open(path, F8_OPEN_FOLLOW_LINKS, &made->problems,
                                    &made->checkpoint, err);
    else
        status = f8_checkpoint_open_file(path, &made->checkpoint, err);
    if (status == F8_OK) {
        describe(made);
        if (made->quantization.failed)
            status = f8_fail_nomem(err, "the inventory");
    }
    if (status == F8_OK)
        *inventory = made;
    else
        f8_inventory_free(made);
    return status;
}

void f8_inventory_get_summary(const f8_inventory *inventory,
                              f8_inventory_summary *out)
{
    const f8_checkpoint *cp = inventory->checkpoint;

    memset(out, 0, sizeof *out);
    out->tensors = cp->tensors.count;
    out->bytes = cp->tensor_bytes;
    out->files = cp->files_count;
    out->has_index = cp->has_index;
    out->agrees = inventory->problems.total == 0;
    out->model_type = inventory->model_type.text;
    out->quantization = inventory->quantization.data;
    for (size_t i = 0; i < cp->tensors.count; i++) {
        const f8_tensor *t = &cp->tensors.items[i];
        out->dtype_tensors[t->dtype]++;
        out->dtype_bytes[t->dtype] += t->bytes;
    }
}

bool f8_inventory_get(const f8_inventory *inventory, uint64_t i,
                      f8_tensor_info *out)
{
    const f8_checkpoint *cp = inventory->checkpoint;

    if (i >= cp->tensors.count)
        return false;
    const f8_tensor *t = &cp->tensors.items[i];
    out->name = t->name;
    out->file = cp->files[t->file].name;
    out->dtype = t->dtype;
    out->rank = t->rank;
    out->shape = t->shape;
    out->bytes = t->bytes;
    out->offset = t->offset;
    return true;
}

const char *f8_inventory_problem(const f8_inventory *inventory, size_t i)
{
    return i < inventory->problems.count ? inventory->problems.lines[i] : NULL;
}

void f8_inventory_free(f8_inventory *inventory)
{
    if (!inventory)
        return;
    f8_checkpoint_free(inventory->checkpoint);
    f8_problems_free(&inventory->problems);
    f8_buf_free(&inventory->quantization);
    free(inventory);
}
