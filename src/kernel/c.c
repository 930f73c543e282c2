/* c.c - the byte domain of bytes.h in plain C, for CPUs that no other file
 * knows. One lookup replaces dividing and rounding; the loops without lookups
 * are left to the compiler's vectors. */
#include "again.h"
#include "bytes.h"
#include "finds.h"
#include "restore.h"
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

/* Vectors of the compiler's; every CPU that matters has some of 16 bytes. */
enum { QUARTER = LANES / 4 };
typedef float floats __attribute__((vector_size(4 * QUARTER)));
typedef uint32_t bits __attribute__((vector_size(4 * QUARTER)));

/* A quarter of the lanes; the largest |e| as bits. */
typedef struct quarter {
    floats w2, we, e2;
    bits top;
} quarter;

static inline floats floats_of(bits from)
{
    floats x;
    memcpy(&x, &from, sizeof x);
    return x;
}

/* Sums of some weights without their signs, and of their errors over 2^E. */
static inline void add_weights(quarter *q, bits w, const float *error)
{
    floats e, x = floats_of(w);
    bits a;

    memcpy(&e, error, sizeof e);
    e *= floats_of(w & 0x7f800000u);
    q->w2 += x * x;
    q->we += x * e;
    q->e2 += e * e;
    memcpy(&a, &e, sizeof a);
    a &= 0x7fffffffu;
    /* Without signs these are below 2^31; where it is true a comparison is all
     * ones. */
    bits more = (bits)(floats_of(a) > floats_of(q->top));
    q->top = (more & a) | (~more & q->top);
}

/* Sums of a row: of each two weights first the second, then the first, which
 * are the halves of a 32-bit word. */
static void add_row(const uint16_t *half, const byte_tables *tables,
                    quarter *quarters)
{
    uint32_t pair[F8_BLOCK / 2];
    float second[F8_BLOCK / 2], first[F8_BLOCK / 2];

    memcpy(pair, half, sizeof pair);
    for (unsigned i = 0; i < F8_BLOCK / 2; i++) {
        second[i] = tables->error[pair[i] >> 16 & (MANTISSAS - 1)];
        first[i] = tables->error[pair[i] & (MANTISSAS - 1)];
    }
    for (unsigned k = 0; k < LANES; k += QUARTER) {
        quarter q = quarters[k / QUARTER];
        for (unsigned i = k; i < F8_BLOCK / 2; i += LANES) {
            bits w;
            memcpy(&w, pair + i, sizeof w);
            add_weights(&q, w & 0x7fff0000u, second + i);
            add_weights(&q, w << 16 & 0x7fff0000u, first + i);
        }
        quarters[k / QUARTER] = q;
    }
}

/* Ends FLUSH_ROWS rows. */
static void take_quarters(tally *t, const quarter *quarters, double factor)
{
    lanes now;

    for (unsigned i = 0; i < LANES; i++) {
        const quarter *q = quarters + i / QUARTER;
        now.w2[i] = q->w2[i % QUARTER];
        now.we[i] = q->we[i % QUARTER];
        now.e2[i] = q->e2[i % QUARTER];
        double max_abs = (double)from_bits(q->top[i % QUARTER]) / t->up;
        t->max_abs = max_abs > t->max_abs ? max_abs : t->max_abs;
    }
    tally_flush(t, &now, factor);
}

/* Zeros in the place of weights that are not plain, which add nothing to
 * sums; returns how many there are. */
static unsigned clear_odd(uint16_t *w, const byte_tables *tables)
{
    uint16_t span = (uint16_t)(tables->most - tables->least);
    unsigned n = 0;

    for (unsigned i = 0; i < F8_BLOCK; i++) {
        if ((uint16_t)((w[i] & 0x7fff) - tables->least) > span) {
            w[i] = 0;
            n++;
        }
    }
    return n;
}

static void measured(const f8_block *block, float scale, uint8_t *codes,
                     size_t codes_stride, const byte_tables *tables,
                     f8_sums *sums, uint64_t *hist)
{
    uint32_t count[COUNT_WAYS][MANTISSAS] = {{0}}, cleared = 0;
    tally t;

    tally_begin(&t, scale, hist);
    double factor = 1 / (t.up * t.up);
    for (unsigned first = 0; first < block->rows; first += FLUSH_ROWS) {
        unsigned end = first + FLUSH_ROWS;
        quarter quarters[LANES / QUARTER];
        memset(quarters, 0, sizeof quarters);
        for (unsigned r = first; r < end && r < block->rows; r++) {
            uint16_t w[F8_BLOCK];
            uint8_t *to = codes + r * codes_stride;
            memcpy(w, row_at(block, r), sizeof w);
            quantise_row(w, tables, to);
            if (is_odd(w, tables)) {
                odd_row(tables, scale, row_at(block, r), to, &t, NULL, true);
                cleared += clear_odd(w, tables);
            }
            add_row(w, tables, quarters);
            for (unsigned i = 0; i < F8_BLOCK; i += COUNT_WAYS)
                for (unsigned j = 0; j < COUNT_WAYS; j++)
                    count[j][w[i + j] % MANTISSAS]++;
        }
        take_quarters(&t, quarters, factor);
    }
    for (unsigned j = 1; j < COUNT_WAYS; j++)
        for (unsigned m = 0; m < MANTISSAS; m++)
            count[0][m] += count[j][m];
    count[0][0] -= cleared;
    count_mantissas(&tables->bins, count[0], block->exact, hist);
    tally_end(&t, sums);
}

static void quantise_c(const f8_block *block, float scale, uint8_t *codes,
                       size_t codes_stride, f8_sums *sums, uint64_t *hist)
{
    byte_tables tables;

    if (!bytes_fit(block, scale)) {
        quantise_plain(block, scale, codes, codes_stride, sums, hist);
        return;
    }
    bytes_begin(&tables, scale, sums != NULL);
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
            odd_row(&tables, scale, row_at(block, r), to, NULL, NULL, true);
    }
}

const f8_kernel f8_kernel_c = {
    .name = "c",
    .amax = amax_plain,
    .quantise = quantise_c,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_plain,
    .dequantise = dequantise_plain,
    .see = see_plain,
    .locate = locate_plain,
};
