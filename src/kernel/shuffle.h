/* shuffle.h - quantising bfloat16 in the byte domain of bytes.h where only
 * tables of 16 bytes can be looked up in registers: one text for AVX2,
 * AVX-512 BW and NEON. The file that includes it first defines the vector
 * types vi and vf, VECTOR (their bytes) and the operations v_... used here.
 *
 * step[M] rises by one every eight mantissas or more, so within eight of them
 * it is a number and the last M that has it: two lookups by M's top four
 * bits. v depends on step alone, which takes at most nine values in a row:
 * its low four bits look v up, in three bytes since v has twelve bits. */
#ifndef F8_KERNEL_SHUFFLE_H
#define F8_KERNEL_SHUFFLE_H

#include "count.h"
#include "finds.h"

enum {
    WORDS = VECTOR / 2,          /* weights in a vector */
    PARTS = LANES * 4 / VECTOR,  /* vectors that hold one set of lanes */
    PAIRS = F8_BLOCK / WORDS / 2 /* pairs of vectors in a row */
};

typedef struct consts {
    group_tables groups;        /* only where errors are measured */
    vi step, last;              /* by M / 8 */
    vi v_low, v_middle, v_high; /* by step mod 16 */
    vi least, span;
} consts;

typedef struct sums {
    vf w2[PARTS], we[PARTS], e2[PARTS], top;
} sums;

static inline void consts_begin(consts *c, const byte_tables *t, bool measured)
{
    uint8_t step[16], last[16], low[16] = {0}, middle[16] = {0}, high[16] = {0};

    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *eight = t->step + 8 * i;
        unsigned n = 0;
        for (unsigned k = 1; k < 8; k++)
            n += eight[k] == eight[0];
        step[i] = eight[0];
        last[i] = (uint8_t)(8 * i + n);
    }
    /* The first and the last of eight have all steps that there are. */
    for (unsigned i = 0; measured && i < 32; i++) {
        unsigned m = i / 2 * 8 + i % 2 * 7, k = t->step[m] % 16;
        float v = from_bits(0x3f800000u | m << 16) + t->error[m];
        uint32_t bits = bits_of(v) - 0x3f800000u;
        low[k] = (uint8_t)(bits >> 8);
        middle[k] = (uint8_t)(bits >> 16);
        high[k] = (uint8_t)(bits >> 24);
    }
    c->step = v_table(step);
    c->last = v_table(last);
    c->v_low = v_table(low);
    c->v_middle = v_table(middle);
    c->v_high = v_table(high);
    c->least = v_set16(t->least);
    c->span = v_set16((uint16_t)(t->most - t->least));
    if (measured)
        group_tables_begin(&c->groups, &t->bins);
}

/* Not zero in the lanes of weights that are not plain. */
static inline vi odd_lanes(vi w, const consts *c)
{
    vi a = v_and(w, v_set16(0x7fff));
    return v_subs_u16(v_sub16(a, c->least), c->span);
}

/* Packed codes of two vectors of plain weights; their M and steps too. */
static inline vi codes_of(vi a, vi b, const consts *c, vi *m, vi *step)
{
    vi low = v_pack_low(a, b), high = v_pack_high(a, b);
    vi eighth = v_and(v_shr16(low, 3), v_set8(0x0f));

    *m = v_and(low, v_set8(0x7f));
    /* A mask of all ones is minus one. */
    *step =
        v_sub8(v_look(c->step, eighth), v_more8(*m, v_look(c->last, eighth)));
    /* 8 E mod 256 from the four low bits of the high byte and the top bit of
     * the low one. */
    vi code = v_add8(*step, v_and(v_shl16(high, 4), v_set8(0xf0)));
    code = v_add8(code, v_and(v_shr16(low, 4), v_set8(0x08)));
    return v_or(code, v_and(high, v_set8(0x80)));
}

static inline void add_lanes(vf w, vf v, sums *s, unsigned part, bool top)
{
    vf e = v_subf(v, w);

    s->w2[part] = v_fma(w, w, s->w2[part]);
    s->we[part] = v_fma(w, e, s->we[part]);
    s->e2[part] = v_fma(e, e, s->e2[part]);
    if (top)
        s->top = v_maxf(s->top, v_absf(e));
}

/* Sums of one vector of words; middle and low are those of v for an exponent
 * of zero. Weights and v keep their signs, which drop out of products. */
static inline void add_words(vi w, vi middle, vi low, const consts *c, sums *s,
                             unsigned part, bool top, bool careful)
{
    vi high = v_add16(v_and(w, v_set16(0xff80)), middle);

    if (careful) {
        vi plain = v_is_zero16(odd_lanes(w, c));
        w = v_and(w, plain);
        high = v_and(high, plain);
        low = v_and(low, plain);
    }
    add_lanes(v_float(v_and(w, v_set32(0xffff0000u))),
              v_float(v_halves(v_shr32(low, 16), high)), s, part, top);
    add_lanes(v_float(v_shl32(w, 16)),
              v_float(v_halves(low, v_shl32(high, 16))), s, part, top);
}

/* Sums of two vectors of weights and their steps. */
static inline void add_pair(vi a, vi b, vi step, const consts *c, sums *s,
                            unsigned part, bool top, bool careful)
{
    vi k = v_and(step, v_set8(0x0f)), zero = v_set8(0);
    vi low = v_look(c->v_low, k), middle = v_look(c->v_middle, k);
    vi high = v_look(c->v_high, k);

    add_words(a, v_first(middle, high), v_first(zero, low), c, s, part, top,
              careful);
    add_words(b, v_second(middle, high), v_second(zero, low), c, s,
              (part + 1) % PARTS, top, careful);
}

/* One row of 128; m gets its mantissas. Returns whether the row was odd: its
 * odd weights are then left out of the sums. */
static inline bool row_shuffle(const unsigned char *from, uint8_t *to,
                               const consts *c, bool stream, sums *s, bool top,
                               vi *m)
{
    vi any = v_set8(0);

    for (unsigned i = 0; i < F8_BLOCK / WORDS; i++)
        any = v_or(any, odd_lanes(v_load(from + VECTOR * i), c));
    bool odd = v_any(any);
    for (unsigned i = 0; i < PAIRS; i++) {
        vi a = v_load(from + VECTOR * 2 * i);
        vi b = v_load(from + VECTOR * (2 * i + 1));
        vi low, step, code = codes_of(a, b, c, &low, &step);
        v_store_codes(to + VECTOR * i, v_natural(code), stream);
        if (!s)
            continue;
        if (__builtin_expect(odd, 0))
            add_pair(a, b, step, c, s, 2 * i % PARTS, top, true);
        else
            add_pair(a, b, step, c, s, 2 * i % PARTS, top, false);
        m[i] = low;
    }
    return odd;
}

static inline void take_sums(tally *t, const sums *s, double factor)
{
    lanes now;
    float top[VECTOR / 4];

    memcpy(&now.w2, s->w2, sizeof now.w2);
    memcpy(&now.we, s->we, sizeof now.we);
    memcpy(&now.e2, s->e2, sizeof now.e2);
    tally_flush(t, &now, factor);
    memcpy(top, &s->top, sizeof top);
    for (unsigned i = 0; i < VECTOR / 4; i++) {
        double max_abs = (double)top[i] / t->up;
        t->max_abs = max_abs > t->max_abs ? max_abs : t->max_abs;
    }
}

/* A block and all that belongs to it. */
typedef struct job {
    const f8_block *block;
    const byte_tables *tables;
    const consts *consts;
    float scale;
    uint8_t *codes;
    size_t codes_stride;
    bool stream;
} job;

/* Rows first to end; with n they are measured, and are no more than a batch. */
static inline void rows_shuffle(const job *j, unsigned first, unsigned end,
                                bool top, sums *s, tally *t, bit_counts *n)
{
    for (unsigned r = first; r < end; r++) {
        const unsigned char *from = row_at(j->block, r);
        uint8_t *to = j->codes + r * j->codes_stride;
        vi *m = n ? n->m + PAIRS * (r - first) : NULL;
        fetch_ahead(from, to, j->stream);
        if (__builtin_expect(
                row_shuffle(from, to, j->consts, j->stream, s, top, m), 0))
            odd_row(j->tables, j->scale, from, to, t, n ? n->group : NULL);
    }
}

static inline void measured(const job *j, bool top, f8_sums *all,
                            uint64_t *hist)
{
    unsigned rows = j->block->rows;
    bit_counts n;
    tally t;

    memset(n.plane, 0, sizeof n.plane);
    memset(n.group, 0, sizeof n.group);
    tally_begin(&t, j->scale, hist);
    double factor = 1 / (t.up * t.up);
    for (unsigned first = 0; first < rows; first += FLUSH_ROWS) {
        unsigned end = first + FLUSH_ROWS;
        end = end < rows ? end : rows;
        sums s;
        memset(&s, 0, sizeof s);
        for (unsigned r = first; r < end; r += BATCH_ROWS) {
            unsigned left = end - r;
            left = left < BATCH_ROWS ? left : BATCH_ROWS;
            rows_shuffle(j, r, r + left, top, &s, &t, &n);
            count_batch(&n, PAIRS * left, &j->consts->groups, &j->tables->bins);
        }
        take_sums(&t, &s, factor);
    }
    counts_end(&n);
    groups_end(j->block, j->tables, n.group, hist);
    tally_end(&t, all);
}

static inline void quantise_shuffle(const f8_block *block, float scale,
                                    uint8_t *codes, size_t codes_stride,
                                    f8_sums *all, uint64_t *hist)
{
    bool stream = may_stream(block, codes, codes_stride);
    byte_tables tables;
    consts c;
    job j = {block, &tables, &c, scale, codes, codes_stride, stream};

    if (!bytes_fit(block, scale)) {
        quantise_plain(block, scale, codes, codes_stride, all, hist);
        return;
    }
    bytes_begin(&tables, scale, all != NULL);
    consts_begin(&c, &tables, all != NULL);
    if (!all)
        rows_shuffle(&j, 0, block->rows, false, NULL, NULL, NULL);
    else if (may_raise(all, scale))
        measured(&j, true, all, hist);
    else
        measured(&j, false, all, hist);
    if (stream)
        v_fence();
}

/* Lets through the magnitudes that are missing, by two lookups: the eight of
 * an exponent as bits, and the bit of the mantissa. */
static inline bool see_missing(const uint8_t *codes, size_t codes_stride,
                               unsigned rows, const met_codes *met,
                               uint8_t *mask)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128};
    vi missing = v_table(met->missing), bits = v_table(bit), any = v_set8(0);

    for (unsigned r = 0; r < rows; r++, codes += codes_stride) {
        for (unsigned i = 0; i < F8_BLOCK; i += VECTOR, mask += VECTOR) {
            vi code = v_load(codes + i);
            vi eight = v_look(missing, v_and(v_shr16(code, 3), v_set8(0x0f)));
            vi hit = v_and(eight, v_look(bits, v_and(code, v_set8(0x07))));
            v_store(mask, hit);
            any = v_or(any, hit);
        }
    }
    return v_any(any);
}

static void see_shuffle(const uint8_t *codes, size_t codes_stride,
                        unsigned rows, unsigned cols, f8_codes *seen)
{
    see_by(see_missing, codes, codes_stride, rows, cols, seen);
}

static inline uint32_t amax_shuffle(const f8_block *block)
{
    if (block->dtype != F8_DTYPE_BF16 || block->cols != F8_BLOCK)
        return amax_plain(block);

    vi top = v_set8(0);
    for (unsigned r = 0; r < block->rows; r++) {
        const unsigned char *from = row_at(block, r);
        vi row = v_set8(0);
        for (unsigned i = 0; i < F8_BLOCK / WORDS; i++)
            row = v_max_u16(row,
                            v_and(v_load(from + VECTOR * i), v_set16(0x7fff)));
        top = v_max_u16(top, row);
    }
    uint16_t lane[WORDS], most = 0;
    v_store(lane, top);
    for (unsigned i = 0; i < WORDS; i++)
        most = lane[i] > most ? lane[i] : most;
    return (uint32_t)most << 16;
}

#endif
