/* again.h - what a second rounding costs: engines that want scales of powers
 * of two quantise the values they read, code times scale, once more.
 *
 * The definition, in plain C, and where the file that includes this defines
 * the vectors of shuffle.h, the same with them.
 *
 * What becomes of a code is a table's matter. Of a normal code that stays a
 * normal number it is but three bits: they decide which multiple of the new
 * step is next, and the exponent only moves the point; so the result is a
 * bfloat16 number, looked up by the low bits of the code and added to the
 * high ones. Weights that are plain (plain.h) and have such a code are summed
 * in sixteen lanes as plain.h says, product by product, since the codes may be
 * anybody's and the differences of any length. The others are summed one by
 * one in binary64. */
#ifndef F8_KERNEL_AGAIN_H
#define F8_KERNEL_AGAIN_H

#include "plain.h"

enum { AGAIN_CODES = 128 }; /* without signs */

/* All in units of `again`. */
typedef struct again_job {
    float value[AGAIN_CODES]; /* what a code becomes */
    float least, most;        /* |w| of plain weights, as it stands */
    uint8_t first; /* the least code that stays normal, 0x7f for none */
    float down;    /* 1 / again */
} again_job;

static inline void again_begin(again_job *job, float scale, float again)
{
    unsigned first = 0;

    job->down = 1 / again;
    job->least = scale * PLAIN_LEAST;
    job->most = scale * PLAIN_MOST;
    for (uint32_t code = 0; code < AGAIN_CODES; code++) {
        float x = decode(code) * scale * job->down;
        job->value[code] = decode(encode(x));
        first += code < 8 || x < PLAIN_LEAST;
    }
    job->first = (uint8_t)(first < AGAIN_CODES ? first : AGAIN_CODES - 1);
}

static inline bool again_is_plain(const again_job *job, float w, uint8_t code)
{
    float a = fabsf(w);
    return (a >= job->least) & (a <= job->most) & ((code & 0x7f) >= job->first);
}

/* How far what the code becomes is from the weight. */
static inline double again_off(const again_job *job, float w, uint8_t code)
{
    float value = job->value[code & 0x7f];
    return (double)(code & 0x80 ? -value : value) -
           (double)w * (double)job->down;
}

/* Those of a row that are not plain. */
static inline double again_rest(const again_job *job, const float *w,
                                const uint8_t *codes, unsigned n)
{
    uint8_t odd[F8_BLOCK] = {0};
    double sum = 0;

    for (unsigned i = 0; i < n; i++)
        odd[i] = !again_is_plain(job, w[i], codes[i]);
    for (unsigned i = 0; i < n; i += 8) {
        uint64_t eight; /* the first in the lowest byte */
        memcpy(&eight, odd + i, sizeof eight);
        for (; eight != 0; eight &= eight - 1) {
            unsigned at = i + (unsigned)__builtin_ctzll(eight) / 8;
            double off = again_off(job, w[at], codes[at]);
            sum += off * off;
        }
    }
    return sum;
}

/* One row into the lanes; returns whether there were weights not plain. */
static inline bool again_row(const again_job *job, const float *w,
                             const uint8_t *codes, unsigned n, lane_floats *now)
{
    float off[F8_BLOCK] = {0}, apart[F8_BLOCK];
    unsigned plain = 0;

    for (unsigned i = 0; i < n; i++) {
        bool in = again_is_plain(job, w[i], codes[i]);
        float value = job->value[codes[i] & 0x7f];
        value = from_bits(bits_of(value) | (codes[i] & 0x80u) << 24);
        off[i] = in ? value - w[i] * job->down : 0;
        plain += in;
    }
    split(off, F8_BLOCK, apart);
    for (unsigned i = 0; i < F8_BLOCK; i += LANES) {
        lane_floats part;
        memcpy(&part, apart + i, sizeof part);
        *now += part * part;
    }
    return plain < n;
}

static inline double distance_plain(const f8_block *block, float scale,
                                    float again, const uint8_t *codes,
                                    size_t codes_stride, bool nearest)
{
    (void)nearest; /* changes no bit */
    double sum[LANES] = {0}, rest = 0;
    unsigned n = block->cols;
    again_job job;

    again_begin(&job, scale, again);
    for (unsigned first = 0; first < block->rows; first += FLUSH_ROWS) {
        unsigned end = first + FLUSH_ROWS;
        lane_floats now = {0};
        for (unsigned r = first; r < end && r < block->rows; r++) {
            const uint8_t *code = codes + r * codes_stride;
            float w[F8_BLOCK];
            widen_row(row_at(block, r), block->dtype, n, w);
            if (again_row(&job, w, code, n, &now))
                rest += again_rest(&job, w, code, n);
        }
        for (unsigned i = 0; i < LANES; i++)
            sum[i] += (double)now[i];
    }
    for (unsigned i = 0; i < LANES; i++)
        rest += sum[i];
    return rest * (double)again * (double)again;
}

#ifdef VECTOR

#include "words.h"

enum {
    AGAIN_WORDS = VECTOR / 2,                /* weights in a vector */
    AGAIN_PARTS = LANES * 4 / VECTOR,        /* vectors of a set of lanes */
    AGAIN_PAIRS = F8_BLOCK / AGAIN_WORDS / 2 /* pairs of vectors in a row */
};

typedef struct again_tables {
    vi low, high;   /* bfloat16 bits of what the codes 0 to 7 become, if their
                       octave were a normal one */
    vi first;       /* as in again_job */
    vi least, span; /* of plain weights, as bits */
    vi change;      /* of a code that stays normal, by its four low bits */
    vi sure, range; /* the least code that only plain weights have if it is
                       the nearest, and how many more there are */
    vf again;       /* times 2^120, as in shuffle.h */
} again_tables;

typedef struct again_sums {
    vf e2[AGAIN_PARTS];
} again_sums;

static inline void again_sums_copy(again_sums *to, const again_sums *from)
{
    for (unsigned i = 0; i < AGAIN_PARTS; i++)
        to->e2[i] = from->e2[i];
}

/* False where the definition must do: the scales are extreme, or no octave of
 * codes is sure to stay normal. The range of `again` keeps squares normal. */
static inline bool again_fits(const f8_block *block, float scale, float again,
                              const again_job *job)
{
    return block->cols == F8_BLOCK && by_mantissa(block, scale) &&
           again >= 0x1p-45f && again <= 0x1p45f && job->first <= 0x70;
}

static inline void again_tables_begin(again_tables *t, const again_job *job,
                                      float again)
{
    uint8_t low[16] = {0}, high[16] = {0};
    uint32_t octave = (job->first + 7u) / 8; /* the least that stays normal */
    uint32_t least = bits_of(job->least) >> 16;
    uint32_t most = bits_of(job->most) >> 16;

    for (unsigned i = 0; i < 8; i++) {
        float value = job->value[8 * octave + i] * again;
        uint32_t word = (bits_of(value) >> 16) - (octave << 7);
        low[i] = (uint8_t)word;
        high[i] = (uint8_t)(word >> 8);
    }
    t->low = v_table(low);
    t->high = v_table(high);
    for (unsigned i = 0; i < 16; i++) {
        uint32_t code = 8 * octave + i % 8;
        low[i] = (uint8_t)(encode(job->value[code]) - code);
    }
    t->change = v_table(low);
    uint8_t sure = job->first > 9 ? job->first : 9;
    t->sure = v_set8(sure);
    t->range = v_set8(0x7d - sure);
    t->again = v_float(v_set32(bits_of(again * 0x1p120f)));
    t->first = v_set8(job->first);
    t->least = v_set16((int)least);
    t->span = v_set16((int)(most - least));
}

/* Not zero in the lanes of weights that are not plain. */
static inline vi again_odd_words(vi w, const again_tables *t)
{
    vi a = v_and(w, v_set16(0x7fff));
    return v_subs_u16(v_sub16(a, t->least), t->span);
}

/* All ones where a code may not stay normal. */
static inline vi again_odd_codes(vi codes, const again_tables *t)
{
    return v_more8(t->first, v_and(codes, v_set8(0x7f)));
}

static inline bool again_is_odd(const unsigned char *from, const uint8_t *codes,
                                const again_tables *t)
{
    vi any = v_set8(0);

    for (unsigned i = 0; i < 2 * AGAIN_PAIRS; i++)
        any = v_or(any, again_odd_words(v_load(from + VECTOR * i), t));
    for (unsigned i = 0; i < AGAIN_PAIRS; i++)
        any = v_or(any, again_odd_codes(v_load(codes + VECTOR * i), t));
    return v_any(any);
}

/* Weights and values as words. */
static inline void again_words(vi w, vi value, again_sums *s, unsigned part)
{
    const vi upper = v_set32(0xffff0000u);
    vf e = v_subf(v_float(v_and(value, upper)), v_float(v_and(w, upper)));

    s->e2[part] = v_addf(s->e2[part], v_mulf(e, e));
    e = v_subf(v_float(v_shl32(value, 16)), v_float(v_shl32(w, 16)));
    s->e2[part] = v_addf(s->e2[part], v_mulf(e, e));
}

/* Two vectors of weights; their codes in the order that unpacking makes words
 * of. */
static inline void again_pair(vi a, vi b, vi codes, const again_tables *t,
                              again_sums *s, unsigned part, bool careful)
{
    vi three = v_and(codes, v_set8(0x07));
    vi low = v_look(t->low, three), high = v_look(t->high, three);
    vi first, second;

    words_of(codes, low, high, &first, &second);
    if (careful) {
        vi odd = again_odd_codes(codes, t);
        vi in = v_andnot(v_first(odd, odd), v_is_zero16(again_odd_words(a, t)));
        a = v_and(a, in);
        first = v_and(first, in);
        in = v_andnot(v_second(odd, odd), v_is_zero16(again_odd_words(b, t)));
        b = v_and(b, in);
        second = v_and(second, in);
    }
    again_words(a, first, s, part);
    again_words(b, second, s, (part + 1) % AGAIN_PARTS);
}

static inline void again_row_vectors(const unsigned char *from,
                                     const uint8_t *codes,
                                     const again_tables *t, again_sums *s,
                                     bool careful)
{
    for (unsigned i = 0; i < AGAIN_PAIRS; i++) {
        vi a = v_load(from + VECTOR * 2 * i);
        vi b = v_load(from + VECTOR * (2 * i + 1));
        vi code = v_apart(v_load(codes + VECTOR * i));
        again_pair(a, b, code, t, s, 2 * i % AGAIN_PARTS, careful);
    }
}

/* ---- codes that are the nearest ------------------------------------------ */

/* Of weights with their nearest codes a difference has at most six bits of
 * the weight's, so that its square is exact and can be fused; both signs are
 * the same; and no weight needs a look, since a normal code that is neither
 * the least nor the largest tells that it is plain. `again` times 2^120 must
 * be finite. */

static inline void again_codes_words(vi w, vi code, const again_tables *t,
                                     again_sums *s, unsigned part)
{
    const vi second = v_set32(0x7fff0000u);
    vf e = v_fms(v_float(v_and(code, second)), t->again,
                 v_float(v_and(w, second)));

    s->e2[part] = v_fma(e, e, s->e2[part]);
    e = v_fms(v_float(v_shl32(code, 16)), t->again,
              v_float(v_and(v_shl32(w, 16), second)));
    s->e2[part] = v_fma(e, e, s->e2[part]);
}

/* Adds rows from r on, up to one that must be done otherwise or to `end`;
 * returns which. Zeros, where they are allowed, stay what they are: a code of
 * 0 remains one, and all such weights together leave no bit in `lost`. */
__attribute__((always_inline)) static inline unsigned again_rows(
    const f8_block *block, unsigned r, unsigned end, const uint8_t *codes,
    size_t codes_stride, const again_tables *t, again_sums *sums, bool zeros)
{
    const vi zero = v_set8(0);
    again_sums s;

    again_sums_copy(&s, sums);
    for (; r < end; r++) {
        const unsigned char *from = row_at(block, r);
        const uint8_t *row = codes + r * codes_stride;
        vi furthest = zero, lost = zero;
        for (unsigned i = 0; i < AGAIN_PAIRS; i++) {
            vi a = v_load(from + VECTOR * 2 * i);
            vi b = v_load(from + VECTOR * (2 * i + 1));
            vi code = v_and(v_load(row + VECTOR * i), v_set8(0x7f));
            vi next = v_add8(code, v_look_low(t->change, code));
            vi above = v_sub8(code, t->sure);
            if (zeros) {
                vi some = v_more8(code, zero), in = v_apart(some);
                next = v_and(next, some);
                above = v_and(above, some);
                lost = v_or(lost, v_andnot(v_first(in, in), a));
                lost = v_or(lost, v_andnot(v_second(in, in), b));
            }
            furthest = v_max8(furthest, above);
            vi apart = v_apart(next);
            again_codes_words(a, v_shr16(v_first(zero, apart), 4), t, &s,
                              2 * i % AGAIN_PARTS);
            again_codes_words(b, v_shr16(v_second(zero, apart), 4), t, &s,
                              (2 * i + 1) % AGAIN_PARTS);
        }
        lost = v_and(lost, v_set16(0x7fff));
        if (v_any(v_or(lost, v_xor(v_max8(furthest, t->range), t->range))))
            break;
        again_sums_copy(sums, &s);
    }
    return r;
}

/* Loops of their own, so that constants stay in registers. */
__attribute__((noinline)) static unsigned again_rows_full(
    const f8_block *block, unsigned r, unsigned end, const uint8_t *codes,
    size_t codes_stride, const again_tables *t, again_sums *s)
{
    return again_rows(block, r, end, codes, codes_stride, t, s, false);
}

__attribute__((noinline)) static unsigned again_rows_sparse(
    const f8_block *block, unsigned r, unsigned end, const uint8_t *codes,
    size_t codes_stride, const again_tables *t, again_sums *s)
{
    return again_rows(block, r, end, codes, codes_stride, t, s, true);
}

/* ---- blocks -------------------------------------------------------------- */

/* Any row; returns what its weights that are not plain come to. */
__attribute__((noinline)) static double again_any_row(
    const f8_block *block, const unsigned char *from, const uint8_t *codes,
    const again_job *job, const again_tables *t, again_sums *s)
{
    float w[F8_BLOCK];

    if (__builtin_expect(!again_is_odd(from, codes, t), 1)) {
        again_row_vectors(from, codes, t, s, false);
        return 0;
    }
    again_row_vectors(from, codes, t, s, true);
    widen_row(from, block->dtype, F8_BLOCK, w);
    return again_rest(job, w, codes, F8_BLOCK);
}

/* The weights are in the block's own units here, hence the factor. */
static inline double distance_vectors(const f8_block *block, float scale,
                                      float again, const uint8_t *codes,
                                      size_t codes_stride, bool nearest)
{
    double sum[LANES] = {0}, rest = 0;
    again_job job;
    again_tables t;

    again_begin(&job, scale, again);
    if (!again_fits(block, scale, again, &job))
        return distance_plain(block, scale, again, codes, codes_stride,
                              nearest);
    again_tables_begin(&t, &job, again);
    bool by_codes = nearest && again < 0x1p7f;
    double factor = (double)job.down * (double)job.down;
    for (unsigned first = 0; first < block->rows; first += FLUSH_ROWS) {
        unsigned end = first + FLUSH_ROWS;
        again_sums s;
        float lane[LANES];
        end = end < block->rows ? end : block->rows;
        memset(&s, 0, sizeof s);
        for (unsigned r = first; r < end; r++) {
            if (by_codes)
                r = again_rows_full(block, r, end, codes, codes_stride, &t, &s);
            if (by_codes && r < end)
                r = again_rows_sparse(block, r, end, codes, codes_stride, &t,
                                      &s);
            if (r < end)
                rest += again_any_row(block, row_at(block, r),
                                      codes + r * codes_stride, &job, &t, &s);
        }
        memcpy(lane, s.e2, sizeof lane);
        for (unsigned i = 0; i < LANES; i++)
            sum[i] += (double)lane[i] * factor;
    }
    for (unsigned i = 0; i < LANES; i++)
        rest += sum[i];
    return rest * (double)again * (double)again;
}

#endif

#endif
