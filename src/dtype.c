/* dtype.c - names and sizes of the dtypes, as safetensors has them. Apart from
 * the container format so that whoever needs a size needs no JSON. */
#include "safetensors.h"

#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[F8_DTYPE_COUNT] = {
    [F8_DTYPE_BOOL] = {"BOOL", 1},    [F8_DTYPE_U8] = {"U8", 1},
    [F8_DTYPE_I8] = {"I8", 1},        [F8_DTYPE_E5M2] = {"F8_E5M2", 1},
    [F8_DTYPE_E4M3] = {"F8_E4M3", 1}, [F8_DTYPE_E8M0] = {"F8_E8M0", 1},
    [F8_DTYPE_I16] = {"I16", 2},      [F8_DTYPE_U16] = {"U16", 2},
    [F8_DTYPE_F16] = {"F16", 2},      [F8_DTYPE_BF16] = {"BF16", 2},
    [F8_DTYPE_I32] = {"I32", 4},      [F8_DTYPE_U32] = {"U32", 4},
    [F8_DTYPE_F32] = {"F32", 4},      [F8_DTYPE_I64] = {"I64", 8},
    [F8_DTYPE_U64] = {"U64", 8},      [F8_DTYPE_F64] = {"F64", 8},
};

const char *f8_dtype_name(f8_dtype dtype)
{
    return (unsigned)dtype < F8_DTYPE_COUNT ? dtypes[dtype].name : NULL;
}

size_t f8_dtype_bytes(f8_dtype dtype)
{
    return (unsigned)dtype < F8_DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}

bool f8_dtype_parse(const char *text, f8_dtype *out)
{
    for (int i = 0; i < F8_DTYPE_COUNT; i++) {
        if (!strcmp(text, dtypes[i].name)) {
            *out = (f8_dtype)i;
            return true;
        }
    }
    return false;
}
