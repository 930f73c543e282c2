/* vbmi.c - AVX-512 with VBMI, GFNI and BF16 (Zen 4, Sapphire Rapids and
 * later): 64 weights at a time in the byte domain of bytes.h. A table of 128
 * bytes is one vpermi2b; sums of products of bfloat16 are one vdpbf16ps,
 * which adds the odd element first: the order plain.h prescribes. */
#include "bytes.h"
#include "search.h"

#include <immintrin.h>

/* Bytes of two vectors of words gathered so that each 16 bytes hold eight of
 * the first, then eight of the second: unpacking restores the words. */
typedef struct consts {
    __m512i pack_low, pack_high, natural;
    __m512i step[2], change_low[2], change_high[2];
    __m512i least;
    uint16_t span;
} consts;

typedef struct sums {
    __m512 w2, we, e2;
    __m512i top; /* largest |e|, as bfloat16 */
} sums;

static inline __m512i load(const void *from)
{
    return _mm512_loadu_si512(from);
}

static void consts_begin(consts *c, const byte_tables *t)
{
    uint8_t low[64];

    for (unsigned i = 0; i < 64; i++) {
        unsigned word = i / 16 * 8 + i % 8;
        low[i] = (uint8_t)(2 * word + (i % 16 < 8 ? 0 : 64));
    }
    c->pack_low = load(low);
    c->pack_high = _mm512_add_epi8(c->pack_low, _mm512_set1_epi8(1));
    c->natural = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    for (int i = 0; i < 2; i++) {
        c->step[i] = load(t->step + 64 * i);
        c->change_low[i] = load(t->change_low + 64 * i);
        c->change_high[i] = load(t->change_high + 64 * i);
    }
    c->least = _mm512_set1_epi16((short)t->least);
    c->span = (uint16_t)(t->most - t->least);
}

static inline __m512i magnitude(__m512i w)
{
    return _mm512_and_si512(w, _mm512_set1_epi16(0x7fff));
}

/* How far 32 weights are above the least plain one, unsigned: those below are
 * further than any. */
static inline __m512i above(__m512i w, const consts *c)
{
    return _mm512_sub_epi16(magnitude(w), c->least);
}

static inline __mmask32 odd_lanes(__m512i from_least, const consts *c)
{
    return _mm512_cmpgt_epu16_mask(from_least,
                                   _mm512_set1_epi16((short)c->span));
}

/* Codes of 64 plain weights; low gets their low bytes, packed. */
static inline __m512i codes_of(__m512i a, __m512i b, const consts *c,
                               __m512i *low)
{
    /* 8 E mod 256: the low four bits of a weight's high byte, moved up, and
     * the top bit of its low byte, moved to 8. */
    const __m512i from_high = _mm512_set1_epi64(0x01020408);
    const __m512i from_low = _mm512_set1_epi64(0x8000000000);
    __m512i l = _mm512_permutex2var_epi8(a, c->pack_low, b);
    __m512i h = _mm512_permutex2var_epi8(a, c->pack_high, b);
    __m512i step = _mm512_permutex2var_epi8(c->step[0], l, c->step[1]);
    __m512i code =
        _mm512_add_epi8(step, _mm512_gf2p8affine_epi64_epi8(h, from_high, 0));
    code = _mm512_add_epi8(code, _mm512_gf2p8affine_epi64_epi8(l, from_low, 0));
    *low = l;
    /* 0x80 ? h : code */
    return _mm512_ternarylogic_epi64(_mm512_set1_epi8((char)0x80), h, code,
                                     0xca);
}

/* Sums of 32 weights, without those that are odd if careful. */
static inline void add_32(__m512i w, __m512i change, const consts *c, sums *s,
                          bool careful)
{
    __m512i e = _mm512_add_epi16(w, change);

    if (careful) {
        __mmask32 odd = odd_lanes(above(w, c), c);
        w = _mm512_maskz_mov_epi16(~odd, w);
        e = _mm512_maskz_mov_epi16(~odd, e);
    }
    s->w2 = _mm512_dpbf16_ps(s->w2, (__m512bh)w, (__m512bh)w);
    s->we = _mm512_dpbf16_ps(s->we, (__m512bh)w, (__m512bh)e);
    s->e2 = _mm512_dpbf16_ps(s->e2, (__m512bh)e, (__m512bh)e);
    s->top = _mm512_max_epu16(s->top, magnitude(e));
}

static inline void add_64(__m512i a, __m512i b, __m512i low, const consts *c,
                          sums *s, bool careful)
{
    __m512i l =
        _mm512_permutex2var_epi8(c->change_low[0], low, c->change_low[1]);
    __m512i h =
        _mm512_permutex2var_epi8(c->change_high[0], low, c->change_high[1]);

    add_32(a, _mm512_unpacklo_epi8(l, h), c, s, careful);
    add_32(b, _mm512_unpackhi_epi8(l, h), c, s, careful);
}

/* ---- rows and blocks ----------------------------------------------------- */

enum { ROW_VECTORS = F8_BLOCK / 64 };

/* Indices for count_pairs() of 64 weights, from their low bytes: which two
 * are a pair is all the same. */
static inline __m512i pairs_of(__m512i low)
{
    return _mm512_or_si512(
        _mm512_and_si512(low, _mm512_set1_epi16(0x007f)),
        _mm512_and_si512(_mm512_srli_epi16(low, 1), _mm512_set1_epi16(0x3f80)));
}

/* One row of 128. index gets the pairs to count. Returns whether the row was
 * odd: its odd weights are then left out of the sums, and all of it should be
 * left out of the counts. */
static inline bool row_vbmi(const unsigned char *from, uint8_t *to,
                            const consts *c, bool stream, sums *s,
                            uint16_t *index)
{
    __m512i w[4], furthest;

    for (unsigned i = 0; i < 4; i++)
        w[i] = load(from + 64 * i);
    furthest =
        _mm512_max_epu16(_mm512_max_epu16(above(w[0], c), above(w[1], c)),
                         _mm512_max_epu16(above(w[2], c), above(w[3], c)));
    bool odd = odd_lanes(furthest, c) != 0;
    for (unsigned i = 0; i < ROW_VECTORS; i++) {
        __m512i low, a = w[2 * i], b = w[2 * i + 1];
        __m512i code = codes_of(a, b, c, &low);
        code = _mm512_permutexvar_epi64(c->natural, code);
        if (stream)
            _mm512_stream_si512((__m512i *)(void *)(to + 64 * i), code);
        else
            _mm512_storeu_si512(to + 64 * i, code);
        if (!s)
            continue;
        if (__builtin_expect(odd, 0))
            add_64(a, b, low, c, s, true);
        else
            add_64(a, b, low, c, s, false);
        _mm512_storeu_si512(index + 32 * i, pairs_of(low));
    }
    return odd;
}

static void add_lanes(tally *t, const sums *s, double factor)
{
    lanes now;

    memcpy(&now.w2, &s->w2, sizeof now.w2);
    memcpy(&now.we, &s->we, sizeof now.we);
    memcpy(&now.e2, &s->e2, sizeof now.e2);
    without_zeros(&now.we, factor);
    without_zeros(&now.e2, factor);
    tally_flush(t, &now, factor);
}

static void add_top(tally *t, const sums *s)
{
    uint16_t top[32], most = 0;

    _mm512_storeu_si512(top, s->top);
    for (int i = 0; i < 32; i++)
        most = top[i] > most ? top[i] : most;
    double max_abs = (double)from_bits((uint32_t)most << 16) / t->up;
    if (max_abs > t->max_abs && max_abs > 0x1p-42)
        t->max_abs = max_abs;
}

static void measured(const f8_block *block, float scale, uint8_t *codes,
                     size_t codes_stride, const byte_tables *tables,
                     const consts *c, bool stream, f8_sums *all, uint64_t *hist)
{
    pair_counts pairs;
    uint32_t counted = 0;
    uint16_t index[F8_BLOCK / 2];
    tally t;

    memset(&pairs, 0, sizeof pairs);
    tally_begin(&t, scale);
    double factor = 1 / (t.up * t.up);
    for (unsigned first = 0; first < block->rows; first += FLUSH_ROWS) {
        unsigned end = first + FLUSH_ROWS;
        end = end < block->rows ? end : block->rows;
        sums s = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                  _mm512_setzero_si512()};
        for (unsigned r = first; r < end; r++) {
            const unsigned char *from = row_at(block, r);
            uint8_t *to = codes + r * codes_stride;
            fetch_ahead(from, to, stream);
            if (__builtin_expect(row_vbmi(from, to, c, stream, &s, index), 0)) {
                odd_row(tables, scale, from, to, &t);
                continue;
            }
            count_pairs(&pairs, index);
            counted += F8_BLOCK / 2;
        }
        add_lanes(&t, &s, factor);
        add_top(&t, &s);
    }
    counts_end(&pairs, counted, block, tables, hist);
    tally_end(&t, all, hist);
}

static void unmeasured(const f8_block *block, float scale, uint8_t *codes,
                       size_t codes_stride, const byte_tables *tables,
                       const consts *c, bool stream)
{
    for (unsigned r = 0; r < block->rows; r++) {
        const unsigned char *from = row_at(block, r);
        uint8_t *to = codes + r * codes_stride;
        fetch_ahead(from, to, stream);
        if (__builtin_expect(row_vbmi(from, to, c, stream, NULL, NULL), 0))
            odd_row(tables, scale, from, to, NULL);
    }
}

static void quantise_vbmi(const f8_block *block, float scale, uint8_t *codes,
                          size_t codes_stride, f8_sums *all, uint64_t *hist)
{
    bool stream = may_stream(block, codes, codes_stride);
    byte_tables tables;
    consts c;

    if (!bytes_fit(block, scale)) {
        quantise_plain(block, scale, codes, codes_stride, all, hist);
        return;
    }
    bytes_begin(&tables, scale);
    consts_begin(&c, &tables);
    if (all)
        measured(block, scale, codes, codes_stride, &tables, &c, stream, all,
                 hist);
    else
        unmeasured(block, scale, codes, codes_stride, &tables, &c, stream);
    if (stream)
        _mm_sfence();
}

static uint32_t amax_vbmi(const f8_block *block)
{
    if (block->dtype != F8_DTYPE_BF16 || block->cols != F8_BLOCK)
        return amax_plain(block);

    __m512i top[4];
    for (int i = 0; i < 4; i++)
        top[i] = _mm512_setzero_si512();
    for (unsigned r = 0; r < block->rows; r++) {
        const unsigned char *from = row_at(block, r);
        for (int i = 0; i < 4; i++)
            top[i] = _mm512_max_epu16(top[i], magnitude(load(from + 64 * i)));
    }
    uint16_t lane[32], most = 0;
    top[0] = _mm512_max_epu16(_mm512_max_epu16(top[0], top[1]),
                              _mm512_max_epu16(top[2], top[3]));
    _mm512_storeu_si512(lane, top[0]);
    for (int i = 0; i < 32; i++)
        most = lane[i] > most ? lane[i] : most;
    return (uint32_t)most << 16;
}

const f8_kernel f8_kernel_vbmi = {
    .name = "vbmi",
    .amax = amax_vbmi,
    .quantise = quantise_vbmi,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_again,
};
