/* c.c - the byte domain of bytes.h in plain C, for CPUs that no other file
 * knows. One lookup replaces dividing and rounding; the loops without lookups
 * are left to the compiler's vectors. */
#include "bytes.h"
#include "search.h"

/* Whether any of a row's weights is not plain: then one of the differences,
 * all of 15 bits, is negative. */
static bool is_odd(const uint16_t *w, const byte_tables *tables)
{
    uint16_t least = tables->least, most = tables->most, signs = 0;

    for (unsigned i = 0; i < F8_BLOCK; i++) {
        uint16_t a = w[i] & 0x7fff;
        signs = (uint16_t)(signs | (uint16_t)(a - least));
        signs = (uint16_t)(signs | (uint16_t)(most - a));
    }
    return (signs & 0x8000) != 0;
}

/* Only the lookups are done one by one. */
static void quantise_row(const uint16_t *w, const byte_tables *tables,
                         uint8_t *to)
{
    uint16_t step[F8_BLOCK];

    for (unsigned i = 0; i < F8_BLOCK; i += 4) {
        uint64_t four, steps;
        memcpy(&four, w + i, sizeof four);
        steps = tables->step[four & 0x7f];
        steps |= (uint64_t)tables->step[four >> 16 & 0x7f] << 16;
        steps |= (uint64_t)tables->step[four >> 32 & 0x7f] << 32;
        steps |= (uint64_t)tables->step[four >> 48 & 0x7f] << 48;
        memcpy(step + i, &steps, sizeof steps);
    }
    for (unsigned i = 0; i < F8_BLOCK; i++) {
        uint16_t code = (uint16_t)((step[i] + (w[i] >> 4 & 0xf8)) & 0x7f);
        to[i] = (uint8_t)(code | (w[i] >> 8 & 0x80));
    }
}

/* Sums of a row, without the weights that are not plain. */
static void add_row(const uint16_t *half, const byte_tables *tables, bool odd,
                    lanes *now, float *top)
{
    float error[F8_BLOCK], w[F8_BLOCK], e[F8_BLOCK];
    float split_w[F8_BLOCK], split_e[F8_BLOCK];

    for (unsigned i = 0; i < F8_BLOCK; i++)
        error[i] = tables->error[half[i] % MANTISSAS];
    for (unsigned i = 0; i < F8_BLOCK; i++) {
        w[i] = from_bits((half[i] & 0x7fffu) << 16);
        e[i] = error[i] * from_bits((half[i] & 0x7f80u) << 16);
    }
    for (unsigned i = 0; odd && i < F8_BLOCK; i++) {
        unsigned a = half[i] & 0x7fffu;
        if (a < tables->least || a > tables->most)
            w[i] = e[i] = 0;
    }
    split(w, F8_BLOCK, split_w);
    split(e, F8_BLOCK, split_e);
    add_products(split_w, split_e, F8_BLOCK, now);
    for (unsigned i = 0; i < F8_BLOCK; i += LANES) {
        for (unsigned j = 0; j < LANES; j++) {
            float a = fabsf(e[i + j]);
            top[j] = a > top[j] ? a : top[j];
        }
    }
}

static void measured(const f8_block *block, float scale, uint8_t *codes,
                     size_t codes_stride, const byte_tables *tables,
                     f8_sums *sums, uint64_t *hist)
{
    uint32_t count[COPIES][MANTISSAS] = {{0}};
    float top[LANES] = {0};
    tally t;

    tally_begin(&t, scale);
    double factor = 1 / (t.up * t.up);
    for (unsigned first = 0; first < block->rows; first += FLUSH_ROWS) {
        unsigned end = first + FLUSH_ROWS;
        lanes now;
        memset(&now, 0, sizeof now);
        for (unsigned r = first; r < end && r < block->rows; r++) {
            uint16_t w[F8_BLOCK];
            uint8_t *to = codes + r * codes_stride;
            memcpy(w, row_at(block, r), sizeof w);
            bool odd = is_odd(w, tables);
            quantise_row(w, tables, to);
            add_row(w, tables, odd, &now, top);
            if (odd) {
                odd_row(tables, scale, row_at(block, r), to, &t);
                continue;
            }
            for (unsigned i = 0; i < F8_BLOCK; i += COPIES)
                for (unsigned j = 0; j < COPIES; j++)
                    count[j][w[i + j] % MANTISSAS]++;
        }
        tally_flush(&t, &now, factor);
    }
    for (unsigned i = 0; i < LANES; i++) {
        double max_abs = (double)top[i] / t.up;
        t.max_abs = max_abs > t.max_abs ? max_abs : t.max_abs;
    }
    for (unsigned i = 0; i < COPIES; i++)
        count_mantissas(tables, count[i], hist);
    tally_end(&t, sums, hist);
}

static void quantise_c(const f8_block *block, float scale, uint8_t *codes,
                       size_t codes_stride, f8_sums *sums, uint64_t *hist)
{
    byte_tables tables;

    if (!bytes_fit(block, scale)) {
        quantise_plain(block, scale, codes, codes_stride, sums, hist);
        return;
    }
    bytes_begin(&tables, scale);
    if (sums) {
        measured(block, scale, codes, codes_stride, &tables, sums, hist);
        return;
    }
    for (unsigned r = 0; r < block->rows; r++) {
        uint16_t w[F8_BLOCK];
        uint8_t *to = codes + r * codes_stride;
        memcpy(w, row_at(block, r), sizeof w);
        fetch_ahead(row_at(block, r), to, false);
        quantise_row(w, &tables, to);
        if (is_odd(w, &tables))
            odd_row(&tables, scale, row_at(block, r), to, NULL);
    }
}

const f8_kernel f8_kernel_c = {
    .name = "c",
    .amax = amax_plain,
    .quantise = quantise_c,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_again,
};
