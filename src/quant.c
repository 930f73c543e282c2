/* quant.c - a row-major matrix as 128 x 128 blocks. See quant.h; the
 * arithmetic of one block is the kernel's, that of its scale scales.c's. */
#include "quant.h"

#include <math.h>
#include <string.h>

/* ---- blocks -------------------------------------------------------------- */

typedef struct block_ref {
    f8_block block;
    uint64_t row, col;
    uint8_t *codes;
    uint8_t *scale;
} block_ref;

/* Block (i, j) of the panel. */
static block_ref block_at(const f8_panel *p, uint64_t i, uint64_t j)
{
    size_t elem_bytes = f8_dtype_bytes(p->dtype);
    uint64_t row = i * F8_BLOCK, col = j * F8_BLOCK;
    uint64_t rows = p->rows - row, cols = p->cols - col;
    uint64_t across = f8_ceil_div(p->cols, F8_BLOCK);
    size_t scale_bytes = f8_dtype_bytes(f8_scale_storage(p->scale_dtype));
    block_ref ref = {
        .block = {.weights = (const char *)p->weights + row * p->stride_bytes +
                             col * elem_bytes,
                  .stride_bytes = p->stride_bytes,
                  .dtype = p->dtype,
                  .rows = (unsigned)(rows < F8_BLOCK ? rows : F8_BLOCK),
                  .cols = (unsigned)(cols < F8_BLOCK ? cols : F8_BLOCK),
                  .stream = p->stream,
                  .exact = p->exact},
        .row = row,
        .col = col,
        .codes = p->codes + row * p->codes_stride + col,
        .scale = p->scales + (i * across + j) * scale_bytes};
    return ref;
}

static float weight_at(const f8_block *block, unsigned r, unsigned c)
{
    return f8_widen((const char *)block->weights + r * block->stride_bytes +
                        c * f8_dtype_bytes(block->dtype),
                    block->dtype);
}

static void find_odd(const block_ref *ref, f8_spot *spot)
{
    for (unsigned r = 0; r < ref->block.rows; r++) {
        for (unsigned c = 0; c < ref->block.cols; c++) {
            float w = weight_at(&ref->block, r, c);
            if (!isfinite(w)) {
                *spot = (f8_spot){ref->row + r, ref->col + c, w};
                return;
            }
        }
    }
}

const char *f8_odd_name(float value)
{
    if (isnan(value))
        return "NaN";
    return value > 0 ? "Inf" : "-Inf";
}

/* ---- blocks of zeros ----------------------------------------------------- */

/* Codes of a row of zeros: their signs, of weights that are nothing else.
 * Returns how many are negative. */
static unsigned zero_row(const void *row, f8_dtype dtype, unsigned n,
                         uint8_t *codes)
{
    uint8_t negative = 0; /* of at most F8_BLOCK */

    if (dtype == F8_DTYPE_F32) {
        uint32_t bits[F8_BLOCK];
        memcpy(bits, row, n * sizeof *bits);
        for (unsigned c = 0; c < n; c++)
            codes[c] = (uint8_t)(bits[c] >> 24);
    } else {
        uint16_t bits[F8_BLOCK];
        memcpy(bits, row, n * sizeof *bits);
        for (unsigned c = 0; c < n; c++)
            codes[c] = (uint8_t)(bits[c] >> 8);
    }
    for (unsigned c = 0; c < n; c++)
        negative = (uint8_t)(negative + (codes[c] >> 7));
    return negative;
}

/* What a kernel makes of a block whose amax is 0, under any scale: holes of
 * sparse files, padding and pruned rows are many. There is no error to add to
 * sums; hist may be NULL. The next block is fetched as in kernels, which find
 * it in the caches then. */
static void quantise_zeros(const f8_block *block, uint8_t *codes,
                           size_t codes_stride, uint64_t *hist)
{
    size_t row_bytes = block->cols * f8_dtype_bytes(block->dtype);
    uint64_t negative = 0, all = (uint64_t)block->rows * block->cols;

    for (unsigned r = 0; r < block->rows; r++) {
        const char *row =
            (const char *)block->weights + r * block->stride_bytes;
        uint8_t *to = codes + r * codes_stride;
        for (size_t i = 0; i < row_bytes; i += 64)
            __builtin_prefetch((const void *)((uintptr_t)row + row_bytes + i),
                               0, 2);
        for (size_t i = 0; i < block->cols; i += 64)
            __builtin_prefetch((const void *)((uintptr_t)to + block->cols + i),
                               1, 2);
        negative += zero_row(row, block->dtype, block->cols, to);
    }
    if (!hist)
        return;
    hist[F8_HIST_ZERO] += all;
    hist[F8_HIST_SMALL] += all - negative;
    hist[F8_HIST_SMALL + F8_SMALL_CODES] += negative;
}

/* ---- what is found ------------------------------------------------------- */

/* The block with the largest error so far. */
typedef struct suspect {
    block_ref ref;
    float scale;
    bool is_set;
} suspect;

/* Adds what a block came to, and its codes, to the panel's. */
static void note_finds(const f8_kernel *kernel, const f8_panel *panel,
                       const block_ref *ref, float scale, const f8_sums *own,
                       suspect *largest)
{
    f8_finds *finds = panel->finds;

    f8_finds_block(finds, own, (f8_place){ref->row, ref->col});
    if (own->max_abs > finds->max_abs) {
        finds->max_abs = own->max_abs;
        *largest = (suspect){*ref, scale, true};
    }
    if (!f8_codes_all_normal(&finds->seen))
        kernel->see(ref->codes, panel->codes_stride, ref->block.rows,
                    ref->block.cols, &finds->seen);
}

static void place_largest(const f8_kernel *kernel, const f8_panel *panel,
                          const suspect *largest, const uint8_t *codes,
                          size_t codes_stride)
{
    unsigned row = 0, col = 0;

    kernel->locate(&largest->ref.block, largest->scale, codes, codes_stride,
                   &row, &col);
    panel->finds->max_at =
        (f8_place){largest->ref.row + row, largest->ref.col + col};
}

/* Codes that bypassed the caches are sooner made again than read. */
static void place_again(const f8_kernel *kernel, const f8_panel *panel,
                        const suspect *largest)
{
    uint8_t codes[F8_BLOCK * F8_BLOCK];
    f8_block block = largest->ref.block;

    block.stream = false;
    kernel->quantise(&block, largest->scale, codes, F8_BLOCK, NULL, NULL);
    place_largest(kernel, panel, largest, codes, F8_BLOCK);
}

bool f8_panel_quantise(const f8_kernel *kernel, const f8_panel *panel,
                       uint64_t *hist, f8_spot *spot)
{
    uint64_t down = f8_ceil_div(panel->rows, F8_BLOCK);
    uint64_t across = f8_ceil_div(panel->cols, F8_BLOCK);
    f8_scale_squares squares;
    const f8_scale_rule rule = {panel->choice, panel->scale_dtype, &squares};

    suspect largest = {.is_set = false};

    if (panel->choice == F8_SCALES_MSE)
        f8_scale_squares_fill(&squares);
    for (uint64_t i = 0; i < down; i++) {
        for (uint64_t j = 0; j < across; j++) {
            block_ref ref = block_at(panel, i, j);
            uint32_t top = kernel->amax(&ref.block);
            float amax;
            memcpy(&amax, &top, sizeof amax);
            if (!isfinite(amax)) {
                find_odd(&ref, spot);
                return false;
            }
            float scale =
                f8_scale_choose(kernel, &rule, &ref.block, amax, ref.scale);
            if (amax == 0) { /* neither an error nor a normal code */
                quantise_zeros(&ref.block, ref.codes, panel->codes_stride,
                               panel->finds ? hist : NULL);
                continue;
            }
            if (!panel->finds) {
                kernel->quantise(&ref.block, scale, ref.codes,
                                 panel->codes_stride, NULL, NULL);
                continue;
            }
            f8_sums own = {.max_abs = panel->finds->max_abs};
            /* Those that are looked at should be in the caches. */
            if (!f8_codes_all_normal(&panel->finds->seen))
                ref.block.stream = false;
            kernel->quantise(&ref.block, scale, ref.codes, panel->codes_stride,
                             &own, hist);
            note_finds(kernel, panel, &ref, scale, &own, &largest);
        }
    }
    if (largest.is_set)
        place_again(kernel, panel, &largest);
    return true;
}

/* ---- checking ------------------------------------------------------------ */

/* What the largest code stands for. */
#define CODE_MOST 448.0f

static void note(uint64_t *count, f8_spot *first, f8_spot here)
{
    if ((*count)++ == 0)
        *first = here;
}

/* A code that differs from ours is still the nearest when its value is: the
 * other side of a tie, or the other zero. In binary64 all of this is exact:
 * the sum of two codes has at most 20 digits and a scale 24. */
static bool as_near(float w, float scale, uint8_t code, uint8_t ours)
{
    double theirs = (double)f8_e4m3_decode(code);
    double best = (double)f8_e4m3_decode(ours);
    double middle = (theirs + best) * (double)scale;

    if (theirs < best)
        return 2 * (double)w <= middle;
    if (theirs > best)
        return 2 * (double)w >= middle;
    return true;
}

static void check_row(const block_ref *ref, unsigned r, float scale,
                      const uint8_t *codes, const uint8_t *ours,
                      f8_check *check)
{
    for (unsigned c = 0; c < ref->block.cols; c++) {
        if (codes[c] == ours[c])
            continue;
        float w = weight_at(&ref->block, r, c);
        f8_spot here = {ref->row + r, ref->col + c, w};
        if ((codes[c] & 0x7f) == 0x7f)
            note(&check->nan_codes, &check->nan, here);
        else if (!as_near(w, scale, codes[c], ours[c]))
            note(&check->not_nearest, &check->wrong, here);
    }
}

/* The largest code of a block, without signs. */
static uint8_t largest_code(const block_ref *ref, size_t codes_stride)
{
    uint8_t top[F8_BLOCK] = {0}, most = 0;

    for (unsigned r = 0; r < ref->block.rows; r++) {
        const uint8_t *row = ref->codes + r * codes_stride;
        for (unsigned c = 0; c < ref->block.cols; c++) {
            uint8_t a = row[c] & 0x7f;
            top[c] = a > top[c] ? a : top[c];
        }
    }
    for (unsigned c = 0; c < F8_BLOCK; c++)
        most = top[c] > most ? top[c] : most;
    return most;
}

/* Whether an engine reads numbers: code x scale, in binary32, is neither NaN
 * nor infinite. */
static bool has_numbers(const block_ref *ref, float scale, size_t codes_stride)
{
    uint8_t most = largest_code(ref, codes_stride);

    return most != 0x7f && isfinite(f8_e4m3_decode(most) * scale);
}

/* Takes the error of our codes, which is in hist, out of it. */
static void forget(const f8_kernel *kernel, const f8_block *block, float scale,
                   uint8_t *scratch, uint64_t *hist)
{
    uint64_t ours[F8_HIST_BINS] = {0};
    f8_sums ignored = {0, 0, 0, 0, 0};

    kernel->quantise(block, scale, scratch, F8_BLOCK, &ignored, ours);
    for (int i = 0; i < F8_HIST_BINS; i++)
        hist[i] -= ours[i];
}

/* What a block turned out to be. */
typedef struct block_state {
    bool ours;     /* its codes are those that we would write */
    bool measured; /* else nothing was added to sums and hist */
} block_state;

/* Codes are nearly always those that we would write, and then so is their
 * error, which comes with writing them. Only where one differs is the error
 * of the codes that stand measured in its place. */
static block_state check_block(const f8_kernel *kernel, const f8_panel *panel,
                               const block_ref *ref, float amax, float scale,
                               uint8_t *scratch, f8_check *check, f8_sums *sums,
                               uint64_t *hist)
{
    f8_sums before = *sums;
    f8_block block = ref->block;
    block_state state = {.ours = true, .measured = true};

    block.stream = false; /* scratch is read at once */
    if (amax == 0)
        quantise_zeros(&block, scratch, F8_BLOCK, hist);
    else
        kernel->quantise(&block, scale, scratch, F8_BLOCK, sums, hist);
    for (unsigned r = 0; r < block.rows; r++) {
        const uint8_t *row = ref->codes + r * panel->codes_stride;
        const uint8_t *ours = scratch + (size_t)r * F8_BLOCK;
        /* The next block's codes, which no kernel asks for; one past the end
         * is no harm. */
        __builtin_prefetch((const void *)((uintptr_t)row + F8_BLOCK), 0, 2);
        __builtin_prefetch((const void *)((uintptr_t)row + F8_BLOCK + 64), 0,
                           2);
        if (memcmp(row, ours, block.cols) != 0) {
            check_row(ref, r, scale, row, ours, check);
            state.ours = false;
        }
    }
    /* Ours are finite under all scales but the largest. */
    if (!state.ours || !isfinite(CODE_MOST * scale))
        state.measured = has_numbers(ref, scale, panel->codes_stride);
    if (state.ours && state.measured)
        return state;
    forget(kernel, &block, scale, scratch, hist);
    *sums = before;
    if (state.measured)
        kernel->measure(&block, scale, ref->codes, panel->codes_stride, sums,
                        hist);
    return state;
}

/* Squared error of a block once an engine has read it and quantised it anew
 * with a power of two for a scale. Where the codes are ours the largest is
 * that of the largest weight: neither division, clamping nor rounding puts a
 * smaller number before a larger one. */
static double e8m0_error(const f8_kernel *kernel, const block_ref *ref,
                         float amax, float scale, bool ours,
                         size_t codes_stride)
{
    uint8_t most =
        ours ? f8_e4m3_encode(amax / scale) : largest_code(ref, codes_stride);
    float again = f8_scale_again(f8_e4m3_decode(most) * scale);

    return kernel->distance(&ref->block, scale, again, ref->codes, codes_stride,
                            ours);
}

/* Adds a block that was measured, with its own sums. */
static void note_block(const f8_kernel *kernel, const f8_panel *panel,
                       const block_ref *ref, float amax, float scale, bool ours,
                       const f8_sums *own, f8_check *check)
{
    bool is_zero = ours && amax == 0; /* and stays so */
    uint8_t stored[4];
    int power;
    bool is_power = frexpf(scale, &power) == 0.5f;

    check->blocks++;
    check->amax_blocks +=
        f8_scale_store(amax, panel->scale_dtype, stored) == scale;
    /* 2^-127, which only E8M0 holds, is rounded up to it as well. */
    check->pow2_blocks +=
        f8_scale_pow2(amax) == (scale == 0x1p-127f ? 0x1p-126f : scale);
    check->power_blocks += is_power;
    f8_exact_add(&check->w2, own->w2);
    /* Powers of two can be had again without another error. */
    f8_exact_add(&check->e8m0_e2, is_power || is_zero
                                      ? own->e2
                                      : e8m0_error(kernel, ref, amax, scale,
                                                   ours, panel->codes_stride));
}

/* Whether a block's largest weight lies within two octaves of 448 scales.
 * Scales cannot fall below their dtype's least, up to twice which a search for
 * the least error may go, and a block of zeros may have any. */
static bool fits(float amax, float scale)
{
    double quotient = (double)amax / (double)scale;
    return amax == 0 || (quotient <= 4 * 448.0 &&
                         (quotient >= 448.0 / 4 || scale < 0x1p-125f));
}

/* Counts a block that has no error. */
static void leave_out(const f8_panel *panel, const block_ref *ref)
{
    panel->finds->unmeasured_blocks++;
    panel->finds->unmeasured_elems +=
        (uint64_t)ref->block.rows * ref->block.cols;
}

/* A block whose scale is a positive number, and whose weights are numbers. */
static void check_numbers(const f8_kernel *kernel, const f8_panel *panel,
                          const block_ref *ref, float amax, float scale,
                          uint8_t *scratch, f8_check *check, uint64_t *hist,
                          suspect *largest)
{
    f8_sums own = {.max_abs = panel->finds->max_abs};
    uint64_t nan_codes = check->nan_codes;
    bool is_far = !fits(amax, scale);
    f8_spot at_scale = {ref->row, ref->col, scale};

    if (is_far)
        note(&check->far_scales, &check->far, at_scale);
    block_state state = check_block(kernel, panel, ref, amax, scale, scratch,
                                    check, &own, hist);
    if (!state.measured) {
        leave_out(panel, ref);
        if (!is_far && check->nan_codes == nan_codes)
            note(&check->infinite, &check->beyond, at_scale);
        return;
    }
    if (!state.ours || amax != 0) /* see f8_panel_quantise */
        note_finds(kernel, panel, ref, scale, &own, largest);
    note_block(kernel, panel, ref, amax, scale, state.ours, &own, check);
}

void f8_panel_check(const f8_kernel *kernel, const f8_panel *panel,
                    uint8_t *scratch, f8_check *check, uint64_t *hist)
{
    uint64_t down = f8_ceil_div(panel->rows, F8_BLOCK);
    uint64_t across = f8_ceil_div(panel->cols, F8_BLOCK);
    suspect largest = {.is_set = false};

    for (uint64_t i = 0; i < down; i++) {
        for (uint64_t j = 0; j < across; j++) {
            block_ref ref = block_at(panel, i, j);
            float scale = f8_scale_load(ref.scale, panel->scale_dtype);
            f8_spot at_scale = {ref.row, ref.col, scale};
            if (!isfinite(scale) || !(scale > 0)) {
                note(&check->bad_scales, &check->bad, at_scale);
                leave_out(panel, &ref);
                continue;
            }
            uint32_t top = kernel->amax(&ref.block);
            float amax;
            memcpy(&amax, &top, sizeof amax);
            if (top >= 0x7f800000u) { /* NaN or Inf: no code is right */
                f8_spot odd = {0, 0, 0};
                find_odd(&ref, &odd);
                note(&check->odd_weights, &check->odd, odd);
                leave_out(panel, &ref);
                continue;
            }
            check_numbers(kernel, panel, &ref, amax, scale, scratch, check,
                          hist, &largest);
        }
    }
    if (largest.is_set)
        place_largest(kernel, panel, &largest, largest.ref.codes,
                      panel->codes_stride);
}

/* ---- the public whole-matrix calls --------------------------------------- */

static f8_status check_matrix(uint64_t rows, uint64_t cols, size_t elem_bytes,
                              f8_error *err)
{
    uint64_t elems, bytes;

    if (rows == 0 || cols == 0 || !f8_mul_u64(rows, cols, &elems) ||
        !f8_mul_u64(elems, elem_bytes, &bytes) || bytes > PTRDIFF_MAX)
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "a matrix of %llu x %llu elements cannot be quantised",
                       (unsigned long long)rows, (unsigned long long)cols);
    return F8_OK;
}

static f8_status check_scales(f8_scales choice, f8_scale_dtype dtype,
                              f8_error *err)
{
    if ((unsigned)choice > F8_SCALES_POW2)
        return f8_fail(err, F8_ERR_ARGUMENT, "no such choice of scales: %d",
                       (int)choice);
    if (choice == F8_SCALES_MSE && dtype == F8_SCALE_UE8M0)
        return f8_fail(err, F8_ERR_ARGUMENT, F8_NO_MSE_UE8M0);
    return F8_OK;
}

static f8_status check_scale_dtype(f8_scale_dtype dtype, f8_error *err)
{
    if ((unsigned)dtype <= F8_SCALE_UE8M0)
        return F8_OK;
    return f8_fail(err, F8_ERR_ARGUMENT, "no such scale dtype: %d", (int)dtype);
}

const char *f8_cpu_name(size_t i)
{
    const f8_kernel *list[F8_KERNELS_MAX];

    return i < f8_kernel_list(list, F8_KERNELS_MAX) ? list[i]->name : NULL;
}

f8_status f8_quantize_matrix(const void *weights, f8_dtype dtype, uint64_t rows,
                             uint64_t cols, f8_scale_dtype scale_dtype,
                             f8_scales choice,
                             /* Written through the panel.
                              * NOLINTNEXTLINE(readability-non-const-*) */
                             uint8_t *codes, void *scales,
                             f8_error_stats *stats, f8_error *err)
{
    f8_spot spot = {0, 0, 0};
    f8_finds finds;
    f8_stats counted;

    if (dtype != F8_DTYPE_BF16 && dtype != F8_DTYPE_F16 &&
        dtype != F8_DTYPE_F32)
        return f8_fail(err, F8_ERR_ARGUMENT,
                       "weights: expected BF16, F16 or F32, found %s",
                       f8_dtype_name(dtype) ? f8_dtype_name(dtype) : "?");
    size_t elem_bytes = f8_dtype_bytes(dtype);
    f8_status status = check_scale_dtype(scale_dtype, err);
    if (status == F8_OK)
        status = check_scales(choice, scale_dtype, err);
    if (status == F8_OK)
        status = check_matrix(rows, cols, elem_bytes, err);
    if (status != F8_OK)
        return status;
    f8_panel panel = {.weights = weights,
                      .stride_bytes = (size_t)cols * elem_bytes,
                      .dtype = dtype,
                      .rows = rows,
                      .cols = cols,
                      .codes = codes,
                      .codes_stride = (size_t)cols,
                      .scale_dtype = scale_dtype,
                      .scales = scales,
                      .choice = choice,
                      .exact = f8_has_few_blocks(rows, cols),
                      .finds = &finds};
    memset(&finds, 0, sizeof finds);
    memset(&counted, 0, sizeof counted);
    if (!f8_panel_quantise(f8_kernel_best(), &panel, counted.hist, &spot))
        return f8_fail(err, F8_ERR_VALUE, "row %llu, column %llu: found %s",
                       (unsigned long long)spot.row,
                       (unsigned long long)spot.col, f8_odd_name(spot.value));
    if (stats) {
        counted.tensors = 1;
        counted.elems = rows * cols;
        counted.blocks =
            f8_ceil_div(rows, F8_BLOCK) * f8_ceil_div(cols, F8_BLOCK);
        f8_finds_sums(&finds, &counted.sums);
        counted.seen = finds.seen;
        f8_stats_finish(&counted, NULL, stats);
    }
    return F8_OK;
}

f8_status f8_dequantize_matrix(const uint8_t *codes, const void *scales,
                               f8_scale_dtype scale_dtype, uint64_t rows,
                               uint64_t cols, float *values, f8_error *err)
{
    f8_status status = check_scale_dtype(scale_dtype, err);
    if (status == F8_OK)
        status = check_matrix(rows, cols, sizeof *values, err);
    if (status != F8_OK)
        return status;
    uint64_t across = f8_ceil_div(cols, F8_BLOCK);
    size_t scale_bytes = f8_dtype_bytes(f8_scale_storage(scale_dtype));
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t c = 0; c < cols; c++) {
            uint64_t block = r / F8_BLOCK * across + c / F8_BLOCK;
            float s = f8_scale_load((const char *)scales + block * scale_bytes,
                                    scale_dtype);
            values[r * cols + c] = f8_e4m3_decode(codes[r * cols + c]) * s;
        }
    }
    return F8_OK;
}
