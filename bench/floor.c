/* floor.c - the program without its arithmetic: what the disk and the pipeline
 * alone would take. It stands in for src/kernel/select.c when bench_floor is
 * linked; everything else is the product's own code, so that no hook for
 * measuring enters it.
 *
 * `bench_floor quantize` narrows each weight to its upper byte and measures no
 * error. `bench_floor verify` reads both checkpoints as verify does and looks
 * at no block: the linker sends f8_panel_check to the empty function below. */
#include <string.h>

#include "quant.h"

/* 1.0 as bits, so that every scale is one number; the block is not read. */
static uint32_t amax_floor(const f8_block *block)
{
    (void)block;
    return 0x3f800000;
}

#ifdef __x86_64__ /* as fast as this CPU copies */
__attribute__((target_clones("avx2", "default")))
#endif
static void
narrow(const uint8_t *from, unsigned n, uint8_t *to)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = from[2 * i + 1];
}

static void quantise_floor(const f8_block *block, float scale, uint8_t *codes,
                           size_t codes_stride, f8_sums *sums, uint64_t *hist)
{
    const uint8_t *from = block->weights;
    size_t bytes = f8_dtype_bytes(block->dtype);

    (void)scale;
    (void)sums;
    (void)hist;
    for (unsigned r = 0; r < block->rows; r++) {
        const uint8_t *row = from + r * block->stride_bytes;
        uint8_t *to = codes + r * codes_stride;
        if (bytes == 2)
            narrow(row, block->cols, to);
        for (unsigned i = 0; bytes != 2 && i < block->cols; i++)
            to[i] = row[i * bytes + bytes - 1];
    }
}

static void measure_floor(const f8_block *block, float scale,
                          const uint8_t *codes, size_t codes_stride,
                          f8_sums *sums, uint64_t *hist)
{
    (void)block;
    (void)scale;
    (void)codes;
    (void)codes_stride;
    (void)sums;
    (void)hist;
}

static void see_floor(const uint8_t *codes, size_t codes_stride, unsigned rows,
                      unsigned cols, f8_codes *seen)
{
    (void)codes;
    (void)codes_stride;
    (void)rows;
    (void)cols;
    (void)seen;
}

static void locate_floor(const f8_block *block, float scale,
                         const uint8_t *codes, size_t codes_stride,
                         unsigned *row, unsigned *col)
{
    (void)block;
    (void)scale;
    (void)codes;
    (void)codes_stride;
    *row = *col = 0;
}

/* As many bytes as values have, which are the codes again and again. */
static uint8_t dequantise_floor(const f8_code_block *block, float scale)
{
    (void)scale;
    for (unsigned r = 0; r < block->rows; r++) {
        const uint8_t *from = block->codes + r * block->codes_stride;
        uint8_t *to = (uint8_t *)block->values + r * block->values_stride;
        for (size_t i = 0; i < f8_dtype_bytes(block->dtype); i++)
            memcpy(to + i * block->cols, from, block->cols);
    }
    return 0;
}

static const f8_kernel floor_kernel = {
    .name = "floor",
    .amax = amax_floor,
    .quantise = quantise_floor,
    .measure = measure_floor,
    .see = see_floor,
    .locate = locate_floor,
    .dequantise = dequantise_floor,
};

size_t f8_kernel_list(const f8_kernel **list, size_t room)
{
    if (room == 0)
        return 0;
    list[0] = &floor_kernel;
    return 1;
}

const f8_kernel *f8_kernel_best(void)
{
    return &floor_kernel;
}

const f8_kernel *f8_kernel_by_name(const char *name)
{
    return strcmp(name, floor_kernel.name) == 0 ? &floor_kernel : NULL;
}

f8_status f8_kernel_choose(const char *name, const f8_kernel **kernel,
                           f8_error *err)
{
    *kernel = name ? f8_kernel_by_name(name) : &floor_kernel;
    if (*kernel)
        return F8_OK;
    return f8_fail(err, F8_ERR_ARGUMENT, "%s: this program has no kernels",
                   name);
}

/* The linker's name for what verify calls f8_panel_check (--wrap). */
void __wrap_f8_panel_check(const f8_kernel *kernel, const f8_panel *panel,
                           uint8_t *scratch, f8_check *check, uint64_t *hist);

void __wrap_f8_panel_check(const f8_kernel *kernel, const f8_panel *panel,
                           uint8_t *scratch, f8_check *check, uint64_t *hist)
{
    (void)kernel;
    (void)panel;
    (void)scratch;
    (void)check;
    (void)hist;
}
