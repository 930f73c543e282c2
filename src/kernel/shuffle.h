/* shuffle.h - quantising bfloat16 in the byte domain of bytes.h where only
 * tables of 16 bytes can be looked up in registers: one text for AVX2,
 * AVX-512 BW and NEON. The file that includes it first defines the vector
 * types vi and vf, VECTOR (their bytes) and the operations v_... used here.
 *
 * step[M] rises by one every eight mantissas or more, so within eight of them
 * it is a number and the last M that has it: two lookups by M's top four
 * bits. v is a code times the scale, so e = v - w is one fused operation,
 * which rounds nothing since e is a number of eight bits.
 *
 * A batch of rows is gone through three times while the first-level cache
 * holds it, for codes, sums and counts: all at once need more registers than
 * AVX2 has, and sums that wait in memory between two additions are slow. */
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
    group_tables groups; /* only where errors are measured */
    vi step, last;       /* by M / 8 */
    vi least, span;
    vf scale; /* times 2^120, for codes that stand where decode() puts them */
} consts;

typedef struct sums {
    vf w2[PARTS], we[PARTS], e2[PARTS], top;
} sums;

/* Zeros of a batch's rows that were told from other odd weights. */
typedef struct zeros {
    vi all, negative; /* counts by byte, of at most BATCH vectors; where nothing
                         is measured nobody reads them */
    bool any;
    bool expected; /* the last row that was gone through for them had some */
} zeros;

/* Rows that have their codes. */
typedef struct batch {
    vi code[BATCH]; /* packed, without signs */
    vi m[BATCH];
    bool odd[BATCH_ROWS];
} batch;

static inline void consts_begin(consts *c, const byte_tables *t, float scale,
                                bool measured)
{
    uint8_t step[16], last[16];

    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *eight = t->step + 8 * i;
        unsigned n = 0;
        for (unsigned k = 1; k < 8; k++)
            n += eight[k] == eight[0];
        step[i] = eight[0];
        last[i] = (uint8_t)(8 * i + n);
    }
    c->step = v_table(step);
    c->last = v_table(last);
    c->least = v_set16(t->least);
    c->span = v_set16((uint16_t)(t->most - t->least));
    c->scale = v_float(v_set32(bits_of(scale * 0x1p120f)));
    if (measured)
        group_tables_begin(&c->groups, &t->bins);
}

/* bytes_fit()'s range, as far as consts.scale is finite. */
static inline bool shuffle_fits(const f8_block *block, float scale)
{
    return bytes_fit(block, scale) && scale < 0x1p7f;
}

/* ---- codes --------------------------------------------------------------- */

static inline vi magnitude(vi w)
{
    return v_and(w, v_set16(0x7fff));
}

/* How far magnitudes are above the least plain one, unsigned: those below are
 * further than any. */
static inline vi above(vi magnitudes, const consts *c)
{
    return v_sub16(magnitudes, c->least);
}

/* Not zero in the lanes of weights that are not plain. */
static inline vi odd_lanes(vi from_least, const consts *c)
{
    return v_subs_u16(from_least, c->span);
}

/* Packed codes of the magnitudes of two vectors of plain weights; M too. */
static inline vi codes_of(vi a, vi b, const consts *c, vi *m)
{
    *m = v_mantissas(a, b);
    vi eighth = v_and(v_shr16(*m, 3), v_set8(0x0f));
    /* A mask of all ones is minus one. */
    vi step =
        v_sub8(v_look(c->step, eighth), v_more8(*m, v_look(c->last, eighth)));
    return v_add8(step, v_eights(a, b));
}

/* One row of 128. Returns whether any of its weights is odd. */
static inline bool row_codes(const unsigned char *from, uint8_t *to,
                             const consts *c, bool stream, vi *code, vi *m)
{
    vi furthest = v_set8(0);

    for (unsigned i = 0; i < PAIRS; i++) {
        vi a = v_load(from + VECTOR * 2 * i);
        vi b = v_load(from + VECTOR * (2 * i + 1));
        vi low, sign = v_and(v_signs(a, b), v_set8(0x80));
        a = magnitude(a);
        b = magnitude(b);
        furthest = v_max_u16(furthest, v_max_u16(above(a, c), above(b, c)));
        vi packed = codes_of(a, b, c, &low);
        v_store_codes(to + VECTOR * i, v_natural(v_or(packed, sign)), stream);
        if (!code)
            continue;
        code[i] = packed;
        m[i] = low;
    }
    return v_any(odd_lanes(furthest, c));
}

/* The same where zeros are: their codes are their signs, without them they are
 * 0, so that they add nothing to sums as they are. Returns whether any weight
 * is odd beside them. */
static inline bool zero_row_codes(const unsigned char *from, uint8_t *to,
                                  const consts *c, bool stream, vi *code, vi *m,
                                  zeros *z)
{
    vi furthest = v_set8(0), all = v_set8(0);

    for (unsigned i = 0; i < PAIRS; i++) {
        vi a = v_load(from + VECTOR * 2 * i);
        vi b = v_load(from + VECTOR * (2 * i + 1));
        vi low, sign = v_and(v_signs(a, b), v_set8(0x80));
        a = magnitude(a);
        b = magnitude(b);
        vi no_a = v_is_zero16(a), no_b = v_is_zero16(b);
        vi zero = v_narrow(no_a, no_b);
        furthest = v_max_u16(furthest, v_andnot(no_a, above(a, c)));
        furthest = v_max_u16(furthest, v_andnot(no_b, above(b, c)));
        vi packed = v_andnot(zero, codes_of(a, b, c, &low));
        v_store_codes(to + VECTOR * i, v_natural(v_or(packed, sign)), stream);
        all = v_sub8(all, zero);
        if (!code)
            continue;
        code[i] = packed;
        m[i] = low;
        z->negative =
            v_add8(z->negative, v_shr16(v_and(zero, sign), 7)); /* 1 each */
    }
    z->all = v_add8(z->all, all);
    z->expected = v_any(all);
    z->any |= z->expected;
    return v_any(odd_lanes(furthest, c));
}

/* ---- sums ---------------------------------------------------------------- */

static inline void add_lanes(vi weight, vi code, const consts *c, sums *s,
                             unsigned part, bool top)
{
    vf w = v_float(weight), e = v_fms(v_float(code), c->scale, w);

    s->w2[part] = v_fma(w, w, s->w2[part]);
    s->we[part] = v_fma(w, e, s->we[part]);
    s->e2[part] = v_fma(e, e, s->e2[part]);
    if (top)
        s->top = v_maxf(s->top, v_absf(e));
}

/* Sums of one vector of words and of what decode() makes of their codes; all
 * without signs, which drop out of products. */
static inline void add_words(vi w, vi code, const consts *c, sums *s,
                             unsigned part, bool top, bool careful)
{
    const vi second = v_set32(0x7fff0000u);

    if (careful) {
        vi plain = v_is_zero16(odd_lanes(above(magnitude(w), c), c));
        w = v_and(w, plain);
        code = v_and(code, plain);
    }
    add_lanes(v_and(w, second), v_and(code, second), c, s, part, top);
    add_lanes(v_and(v_shl32(w, 16), second), v_shl32(code, 16), c, s, part,
              top);
}

/* Pairs, one after the other, until all lanes have had their turn; more at
 * once would need more registers. */
static inline void row_sums(const unsigned char *from, const vi *code,
                            const consts *c, sums *s, bool top, bool careful)
{
    enum { ROUND = PARTS > 2 ? PARTS / 2 : 1 };
    const vi zero = v_set8(0);

#pragma GCC unroll 1
    for (unsigned i = 0; i < PAIRS; i += ROUND) {
#pragma GCC unroll 8
        for (unsigned k = 0; k < ROUND; k++, code++, from += 2 * VECTOR) {
            vi a = v_load(from), b = v_load(from + VECTOR);
            add_words(a, v_shr16(v_first(zero, *code), 4), c, s, 2 * k % PARTS,
                      top, careful);
            add_words(b, v_shr16(v_second(zero, *code), 4), c, s,
                      (2 * k + 1) % PARTS, top, careful);
        }
    }
}

static inline void sums_copy(sums *to, const sums *from)
{
    for (unsigned i = 0; i < PARTS; i++) {
        to->w2[i] = from->w2[i];
        to->we[i] = from->we[i];
        to->e2[i] = from->e2[i];
    }
    to->top = from->top;
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

/* ---- blocks -------------------------------------------------------------- */

static inline bool has_zeros(const unsigned char *from)
{
    vi any = v_set8(0);

    for (unsigned i = 0; i < F8_BLOCK / WORDS; i++)
        any = v_or(any, v_is_zero16(magnitude(v_load(from + VECTOR * i))));
    return v_any(any);
}

/* What the odd ones of some rows still need. Not inline, and not within the
 * loop over rows: a call there has all constants made anew for each. */
__attribute__((noinline)) static void odd_codes(const job *j, unsigned first,
                                                unsigned rows, bool *odd,
                                                zeros *z, batch *n, tally *t,
                                                uint32_t *group)
{
    bool untried = z->expected; /* as they were taken for odd */

    for (unsigned i = 0; i < rows; i++) {
        const unsigned char *from = row_at(j->block, first + i);
        uint8_t *to = j->codes + (first + i) * j->codes_stride;
        if (!odd[i])
            continue;
        if (untried || has_zeros(from))
            odd[i] = zero_row_codes(from, to, j->consts, j->stream,
                                    n ? n->code + PAIRS * i : NULL,
                                    n ? n->m + PAIRS * i : NULL, z);
        if (odd[i])
            odd_row(j->tables, j->scale, from, to, t, group, false);
    }
}

/* Codes of some rows; with n, of a batch that is to be measured. The rows of a
 * pruned matrix all have zeros, so those that follow such rows are taken for
 * odd. `odd` tells in the end which hold odd weights other than zeros. */
__attribute__((always_inline)) static inline void codes_shuffle(
    const job *j, unsigned first, unsigned rows, bool *odd, zeros *z, batch *n,
    tally *t, uint32_t *group)
{
    const bool expected = z->expected, stream = j->stream;
    bool any = expected;

    for (unsigned i = 0; i < rows; i++) {
        const unsigned char *from = row_at(j->block, first + i);
        uint8_t *to = j->codes + (first + i) * j->codes_stride;
        fetch_ahead(from, to, stream);
        odd[i] = expected || row_codes(from, to, j->consts, stream,
                                       n ? n->code + PAIRS * i : NULL,
                                       n ? n->m + PAIRS * i : NULL);
        any |= odd[i];
    }
    if (any)
        odd_codes(j, first, rows, odd, z, n, t, group);
}

/* Counts the zeros of a batch and makes room for the next. */
static inline void take_zeros(const job *j, zeros *z, tally *t, uint32_t *group)
{
    if (__builtin_expect(!z->any, 1))
        return;
    tally_zeros(t, j->tables, v_sum8(z->all), v_sum8(z->negative), group);
    z->all = z->negative = v_set8(0);
    z->any = false;
}

/* Codes of the rows of a batch are there; adds their sums. These are locals,
 * copied one by one: gcc puts a structure that is copied whole into memory. */
__attribute__((always_inline)) static inline void sums_shuffle(
    const job *j, unsigned first, unsigned rows, const batch *b, bool top,
    sums *sum)
{
    const consts *c = j->consts;
    sums s;

    sums_copy(&s, sum);
    for (unsigned r = 0; r < rows; r++) {
        const unsigned char *from = row_at(j->block, first + r);
        const vi *code = b->code + PAIRS * r;
        if (__builtin_expect(b->odd[r], 0))
            row_sums(from, code, c, &s, top, true);
        else
            row_sums(from, code, c, &s, top, false);
    }
    sums_copy(sum, &s);
}

__attribute__((always_inline)) static inline void measured(const job *j,
                                                           bool top,
                                                           f8_sums *all,
                                                           uint64_t *hist)
{
    unsigned rows = j->block->rows;
    bit_counts n;
    zeros z;
    batch b;
    tally t;

    memset(&z, 0, sizeof z);
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
            codes_shuffle(j, r, left, b.odd, &z, &b, &t, n.group);
            take_zeros(j, &z, &t, n.group);
            sums_shuffle(j, r, left, &b, top, &s);
            count_batch(&n, b.m, PAIRS * left, &j->consts->groups,
                        &j->tables->bins);
        }
        take_sums(&t, &s, factor);
    }
    counts_end(&n);
    groups_end(j->block, j->tables, n.group, hist);
    tally_end(&t, all);
}

__attribute__((noinline)) static void measured_top(const job *j, f8_sums *all,
                                                   uint64_t *hist)
{
    measured(j, true, all, hist);
}

__attribute__((noinline)) static void measured_rest(const job *j, f8_sums *all,
                                                    uint64_t *hist)
{
    measured(j, false, all, hist);
}

/* A few rows at a time as well: codes that bypass the caches are sooner mended
 * before they have left. */
static void unmeasured(const job *j)
{
    unsigned rows = j->block->rows;
    bool odd[BATCH_ROWS];
    zeros z;

    memset(&z, 0, sizeof z);
    for (unsigned first = 0; first < rows; first += BATCH_ROWS) {
        unsigned left = rows - first;
        left = left < BATCH_ROWS ? left : BATCH_ROWS;
        codes_shuffle(j, first, left, odd, &z, NULL, NULL, NULL);
    }
}

static inline void quantise_shuffle(const f8_block *block, float scale,
                                    uint8_t *codes, size_t codes_stride,
                                    f8_sums *all, uint64_t *hist)
{
    bool stream = may_stream(block, codes, codes_stride);
    byte_tables tables;
    consts c;
    job j = {block, &tables, &c, scale, codes, codes_stride, stream};

    if (!shuffle_fits(block, scale)) {
        quantise_plain(block, scale, codes, codes_stride, all, hist);
        return;
    }
    bytes_begin(&tables, scale, all != NULL);
    consts_begin(&c, &tables, scale, all != NULL);
    if (!all)
        unmeasured(&j);
    else if (may_raise(all, scale))
        measured_top(&j, all, hist);
    else
        measured_rest(&j, all, hist);
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
