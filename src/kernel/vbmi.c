/* vbmi.c - AVX-512 with VBMI, GFNI and BF16 (Zen 4, Sapphire Rapids and
 * later): 64 weights at a time in the byte domain of bytes.h. A table of 128
 * bytes is one vpermi2b; sums of products of bfloat16 are one vdpbf16ps,
 * which adds the odd element first: the order plain.h prescribes. */
#include "vectors512.h"

#include "again.h"
#include "bytes.h"
#include "finds.h"
#include "restore.h"
#include "search.h"

/* Bytes of two vectors of words gathered so that each 16 bytes hold eight of
 * the first, then eight of the second: unpacking restores the words. */
typedef struct consts {
    __m512i pack_low, pack_high;
    __m512i step[2], change_low[2], change_high[2];
    __m512i hot[2][2]; /* a bit for the M of eight groups, two tables of that */
    __m512i least;
    uint16_t span;
} consts;

typedef struct sums {
    __m512 w2, we, e2;
    __m512i top; /* largest |e|, as bfloat16 */
} sums;

static void consts_begin(consts *c, const byte_tables *t, bool measured)
{
    uint8_t low[64];

    for (unsigned i = 0; i < 64; i++) {
        unsigned word = i / 16 * 8 + i % 8;
        low[i] = (uint8_t)(2 * word + (i % 16 < 8 ? 0 : 64));
    }
    c->pack_low = v_load(low);
    c->pack_high = _mm512_add_epi8(c->pack_low, _mm512_set1_epi8(1));
    for (int i = 0; i < 2; i++) {
        c->step[i] = v_load(t->step + 64 * i);
        c->change_low[i] = v_load(t->change_low + 64 * i);
        c->change_high[i] = v_load(t->change_high + 64 * i);
    }
    c->least = _mm512_set1_epi16((short)t->least);
    c->span = (uint16_t)(t->most - t->least);
    if (!measured)
        return;
    const __m512i bit = _mm512_set1_epi64((int64_t)0x8040201008040201);
    for (int i = 0; i < 2; i++) {
        __m512i bin = v_load(t->bins.bin + 64 * i);
        /* Group mod 8 in the low four bits; its fourth bit is the bin's top. */
        __m512i group =
            _mm512_and_si512(_mm512_srli_epi16(bin, 4), _mm512_set1_epi8(7));
        __m512i one = _mm512_shuffle_epi8(bit, group);
        __mmask64 upper = _mm512_movepi8_mask(bin);
        c->hot[0][i] = _mm512_maskz_mov_epi8(~upper, one);
        c->hot[1][i] = _mm512_maskz_mov_epi8(upper, one);
    }
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
                          bool top, bool careful)
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
    if (top)
        s->top = _mm512_max_epu16(s->top, magnitude(e));
}

static inline void add_64(__m512i a, __m512i b, __m512i low, const consts *c,
                          sums *s, bool top, bool careful)
{
    __m512i l =
        _mm512_permutex2var_epi8(c->change_low[0], low, c->change_low[1]);
    __m512i h =
        _mm512_permutex2var_epi8(c->change_high[0], low, c->change_high[1]);

    add_32(a, _mm512_unpacklo_epi8(l, h), c, s, top, careful);
    add_32(b, _mm512_unpackhi_epi8(l, h), c, s, top, careful);
}

/* ---- counting groups ----------------------------------------------------- */

/* Two tables turn M into one bit out of sixteen. A tree of full adders counts
 * each of the 512 bits of a vector on its own; only what comes out of sixteen
 * vectors is added up bit by bit. */
enum {
    ROW_VECTORS = F8_BLOCK / 64,
    BATCH_ROWS = 8,
    BATCH = ROW_VECTORS * BATCH_ROWS
};

typedef struct bit_counts {
    __m512i ones, twos, fours, eights;
    __m512i sixteens; /* bytes: each bit's sum over eight bytes */
} bit_counts;

typedef struct group_counts {
    bit_counts half[2];
    __m512i low[BATCH];   /* low bytes of weights, waiting */
    __m512i codes[BATCH]; /* waiting to be written, when they are streamed */
    uint32_t group[GROUPS];
} group_counts;

/* Byte j of each eight: how many of the eight have bit j. */
static inline __m512i count_bits(__m512i bytes)
{
    const __m512i identity = _mm512_set1_epi64((int64_t)0x8040201008040201);
    return _mm512_popcnt_epi8(
        _mm512_gf2p8affine_epi64_epi8(identity, bytes, 0));
}

static void count_half(bit_counts *to, const __m512i low[BATCH],
                       const __m512i hot[2])
{
    const __m512i hot0 = hot[0], hot1 = hot[1];
    bit_counts n = *to;
    __m512i eight[2];

    for (unsigned i = 0; i < 2; i++) {
        __m512i four[2];
        for (unsigned j = 0; j < 2; j++) {
            __m512i two[2];
            for (unsigned k = 0; k < 2; k++, low += 2)
                two[k] = v_add_bits(
                    &n.ones, _mm512_permutex2var_epi8(hot0, low[0], hot1),
                    _mm512_permutex2var_epi8(hot0, low[1], hot1));
            four[j] = v_add_bits(&n.twos, two[0], two[1]);
        }
        eight[i] = v_add_bits(&n.fours, four[0], four[1]);
    }
    __m512i sixteen = v_add_bits(&n.eights, eight[0], eight[1]);
    n.sixteens = _mm512_add_epi8(n.sixteens, count_bits(sixteen));
    *to = n;
}

/* Counts `vectors` that wait. What fills the batch counts as M of zero, which
 * is taken back. */
static inline void count_batch(group_counts *n, unsigned vectors, const job *j)
{
    for (unsigned i = vectors; i < BATCH; i++) {
        n->low[i] = _mm512_setzero_si512();
        n->group[group_of(&j->tables->bins, 0)] -= 64;
    }
    for (unsigned h = 0; h < 2; h++)
        count_half(&n->half[h], n->low, j->consts->hot[h]);
}

static inline void count_half_end(const bit_counts *n, uint32_t *group)
{
    uint8_t at[64];
    uint64_t rest[8], sixteens[8];

    /* Byte j of all eights together, to be added up. */
    for (unsigned i = 0; i < 64; i++)
        at[i] = (uint8_t)(i % 8 * 8 + i / 8);
    __m512i sum = count_bits(n->eights);
    sum = _mm512_add_epi8(_mm512_add_epi8(sum, sum), count_bits(n->fours));
    sum = _mm512_add_epi8(_mm512_add_epi8(sum, sum), count_bits(n->twos));
    sum = _mm512_add_epi8(_mm512_add_epi8(sum, sum), count_bits(n->ones));
    const __m512i zero = _mm512_setzero_si512(), gather = v_load(at);
    _mm512_storeu_si512(
        rest, _mm512_sad_epu8(_mm512_permutexvar_epi8(gather, sum), zero));
    _mm512_storeu_si512(
        sixteens,
        _mm512_sad_epu8(_mm512_permutexvar_epi8(gather, n->sixteens), zero));
    for (unsigned j = 0; j < 8; j++)
        group[j] += (uint32_t)(rest[j] + BATCH * sixteens[j]);
}

/* ---- codes --------------------------------------------------------------- */

/* A byte for each magnitude, all ones where it is missing, is one table. */
static inline bool see_missing(const uint8_t *codes, size_t codes_stride,
                               unsigned rows, const met_codes *met,
                               uint8_t *mask)
{
    __m512i low = _mm512_movm_epi8(~met->magnitudes[0]);
    __m512i high = _mm512_movm_epi8(~met->magnitudes[1]);
    __m512i any = _mm512_setzero_si512();

    for (unsigned r = 0; r < rows; r++, codes += codes_stride) {
        for (unsigned i = 0; i < F8_BLOCK; i += 64, mask += 64) {
            __m512i hit =
                _mm512_permutex2var_epi8(low, v_load(codes + i), high);
            _mm512_storeu_si512(mask, hit);
            any = _mm512_or_si512(any, hit);
        }
    }
    return _mm512_test_epi8_mask(any, any) != 0;
}

static void see_vbmi(const uint8_t *codes, size_t codes_stride, unsigned rows,
                     unsigned cols, f8_codes *seen)
{
    see_by(see_missing, codes, codes_stride, rows, cols, seen);
}

/* ---- rows and blocks ----------------------------------------------------- */

/* One row of 128; its low bytes wait to be counted. Returns whether the row
 * was odd: its odd weights are then left out of the sums. */
static inline bool row_vbmi(const unsigned char *from, uint8_t *to,
                            const consts *c, bool stream, sums *s, bool top,
                            __m512i *waiting)
{
    __m512i w[4], furthest;

    for (unsigned i = 0; i < 4; i++)
        w[i] = v_load(from + 64 * i);
    furthest =
        _mm512_max_epu16(_mm512_max_epu16(above(w[0], c), above(w[1], c)),
                         _mm512_max_epu16(above(w[2], c), above(w[3], c)));
    bool odd = odd_lanes(furthest, c) != 0;
    for (unsigned i = 0; i < ROW_VECTORS; i++) {
        __m512i low, a = w[2 * i], b = w[2 * i + 1];
        __m512i code = codes_of(a, b, c, &low);
        code = v_natural(code);
        if (stream)
            _mm512_stream_si512((__m512i *)(void *)(to + 64 * i), code);
        else
            _mm512_storeu_si512(to + 64 * i, code);
        if (!s)
            continue;
        if (__builtin_expect(odd, 0))
            add_64(a, b, low, c, s, top, true);
        else
            add_64(a, b, low, c, s, top, false);
        waiting[i] = low;
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

/* The zeros among 32 weights get their signs for codes. */
static inline __mmask32 zeros_of(__m512i w, uint8_t *to, uint32_t *all,
                                 uint32_t *negative)
{
    __mmask32 zero = _mm512_testn_epi16_mask(w, _mm512_set1_epi16(0x7fff));

    _mm256_mask_storeu_epi8(to, zero,
                            _mm512_cvtepi16_epi8(_mm512_srli_epi16(w, 8)));
    *all += (uint32_t)__builtin_popcount(zero);
    *negative += (uint32_t)__builtin_popcount(zero & _mm512_movepi16_mask(w));
    return zero;
}

/* What an odd row still needs: the odd weights' codes and statistics. They are
 * counted like the others, which is taken back here; a group may run below
 * zero until all is counted. */
static void odd_vbmi(const unsigned char *from, uint8_t *to, const job *j,
                     tally *t, group_counts *n)
{
    uint32_t all = 0, negative = 0;

    for (unsigned i = 0; i < 4; i++) {
        __m512i w = v_load(from + 64 * i);
        __mmask32 odd = odd_lanes(above(w, j->consts), j->consts);
        odd &= ~zeros_of(w, to + 32 * i, &all, &negative);
        for (; odd; odd &= odd - 1) {
            unsigned at = 32 * i + (unsigned)__builtin_ctz(odd);
            uint16_t bits;
            memcpy(&bits, from + 2 * at, sizeof bits);
            odd_weight(bits, j->scale, to + at, t);
            if (n)
                n->group[group_of(&j->tables->bins, bits % MANTISSAS)]--;
        }
    }
    if (n && all > 0)
        tally_zeros(t, j->tables, all, negative, n->group);
}

/* Rows first to end, their codes to `to`. With n they are measured, and are no
 * more than a batch. Constants and sums are copied since otherwise each store
 * of codes might change them, for all the compiler knows. */
__attribute__((always_inline)) static inline void rows_vbmi(
    const job *j, unsigned first, unsigned end, uint8_t *to, size_t to_stride,
    bool stream, bool top, sums *sum, tally *t, group_counts *n)
{
    const consts c = *j->consts;
    sums s;

    if (n)
        s = *sum;
    for (unsigned r = first; r < end; r++, to += to_stride) {
        const unsigned char *from = row_at(j->block, r);
        __m512i *waiting = n ? n->low + ROW_VECTORS * (r - first) : NULL;
        fetch_ahead(from, to, j->stream);
        if (__builtin_expect(
                row_vbmi(from, to, &c, stream, n ? &s : NULL, top, waiting), 0))
            odd_vbmi(from, to, j, t, n);
    }
    if (n)
        *sum = s;
}

/* The rows of a batch. Codes that bypass the caches do so all at once: one by
 * one they hold up the stores of what waits to be counted. */
__attribute__((always_inline)) static inline void batch_vbmi(
    const job *j, unsigned first, unsigned end, bool top, sums *sum, tally *t,
    group_counts *n)
{
    uint8_t *to = j->codes + first * j->codes_stride;

    if (!j->stream) {
        rows_vbmi(j, first, end, to, j->codes_stride, false, top, sum, t, n);
        return;
    }
    rows_vbmi(j, first, end, (uint8_t *)n->codes, F8_BLOCK, false, top, sum, t,
              n);
    for (unsigned i = 0; i < end - first; i++, to += j->codes_stride) {
        __m512i *line = (__m512i *)(void *)to;
        for (unsigned k = 0; k < ROW_VECTORS; k++)
            _mm512_stream_si512(line + k, n->codes[ROW_VECTORS * i + k]);
    }
}

__attribute__((always_inline)) static inline void measured(const job *j,
                                                           bool top,
                                                           f8_sums *all,
                                                           uint64_t *hist)
{
    unsigned rows = j->block->rows;
    group_counts n;
    tally t;

    memset(n.half, 0, sizeof n.half);
    memset(n.group, 0, sizeof n.group);
    tally_begin(&t, j->scale, hist);
    double factor = 1 / (t.up * t.up);
    for (unsigned first = 0; first < rows; first += FLUSH_ROWS) {
        unsigned end = first + FLUSH_ROWS;
        end = end < rows ? end : rows;
        sums s = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                  _mm512_setzero_si512()};
        for (unsigned r = first; r < end; r += BATCH_ROWS) {
            unsigned left = end - r;
            left = left < BATCH_ROWS ? left : BATCH_ROWS;
            batch_vbmi(j, r, r + left, top, &s, &t, &n);
            count_batch(&n, ROW_VECTORS * left, j);
        }
        add_lanes(&t, &s, factor);
        if (top)
            add_top(&t, &s);
    }
    for (unsigned h = 0; h < 2; h++)
        count_half_end(&n.half[h], n.group + 8 * h);
    groups_end(j->block, j->tables, n.group, hist);
    tally_end(&t, all);
}

static void unmeasured(const job *j)
{
    rows_vbmi(j, 0, j->block->rows, j->codes, j->codes_stride, j->stream, false,
              NULL, NULL, NULL);
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

static void quantise_vbmi(const f8_block *block, float scale, uint8_t *codes,
                          size_t codes_stride, f8_sums *all, uint64_t *hist)
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
        unmeasured(&j);
    else if (may_raise(all, scale))
        measured_top(&j, all, hist);
    else
        measured_rest(&j, all, hist);
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
            top[i] = _mm512_max_epu16(top[i], magnitude(v_load(from + 64 * i)));
    }
    uint16_t lane[32], most = 0;
    top[0] = _mm512_max_epu16(_mm512_max_epu16(top[0], top[1]),
                              _mm512_max_epu16(top[2], top[3]));
    _mm512_storeu_si512(lane, top[0]);
    for (int i = 0; i < 32; i++)
        most = lane[i] > most ? lane[i] : most;
    return (uint32_t)most << 16;
}

/* ---- the way back -------------------------------------------------------- */

/* Two bytes for each code without its sign, in tables of 128. */
typedef struct words {
    __m512i low[2], high[2];
} words;

static void words_begin(words *w, float scale, f8_dtype dtype)
{
    uint16_t halves[CODES];
    uint8_t low[CODE_SIGN], high[CODE_SIGN];

    halves_of_codes(scale, dtype, halves);
    for (unsigned i = 0; i < CODE_SIGN; i++) {
        low[i] = (uint8_t)halves[i];
        high[i] = (uint8_t)(halves[i] >> 8);
    }
    for (int i = 0; i < 2; i++) {
        w->low[i] = v_load(low + 64 * i);
        w->high[i] = v_load(high + 64 * i);
    }
}

/* Any of the words that a code can become, 64 codes at a time. */
static uint8_t dequantise_vbmi(const f8_code_block *block, float scale)
{
    const __m512i sign = _mm512_set1_epi8((char)0x80);
    __m512i top = _mm512_setzero_si512();
    uint8_t lane[64], most = 0;
    words w;

    if (block->dtype == F8_DTYPE_F32 || block->cols != F8_BLOCK)
        return dequantise_plain(block, scale);
    words_begin(&w, scale, block->dtype);
    for (unsigned r = 0; r < block->rows; r++) {
        const uint8_t *codes = block->codes + r * block->codes_stride;
        uint8_t *to = (uint8_t *)block->values + r * block->values_stride;
        for (unsigned i = 0; i < F8_BLOCK; i += 64) {
            __m512i c = v_apart(v_load(codes + i));
            __m512i low = _mm512_permutex2var_epi8(w.low[0], c, w.low[1]);
            __m512i high = _mm512_permutex2var_epi8(w.high[0], c, w.high[1]);
            high = _mm512_or_si512(high, _mm512_and_si512(c, sign));
            top = _mm512_max_epu8(top, _mm512_andnot_si512(sign, c));
            _mm512_storeu_si512(to + 2 * i, _mm512_unpacklo_epi8(low, high));
            _mm512_storeu_si512(to + 2 * i + 64,
                                _mm512_unpackhi_epi8(low, high));
        }
    }
    _mm512_storeu_si512(lane, top);
    for (unsigned i = 0; i < 64; i++)
        most = lane[i] > most ? lane[i] : most;
    return most;
}

const f8_kernel f8_kernel_vbmi = {
    .name = "vbmi",
    .amax = amax_vbmi,
    .quantise = quantise_vbmi,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_vectors,
    .dequantise = dequantise_vbmi,
    .see = see_vbmi,
    .locate = locate_plain,
};
