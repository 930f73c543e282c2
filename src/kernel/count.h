/* count.h - counts of groups (groups.h) with vectors that look up tables of 16
 * bytes; part of shuffle.h, whose vector operations it uses.
 *
 * Four tables by M / 8 hold, for eight M each, a bit of the number of M's
 * group. That number becomes one bit out of sixteen, in two vectors; a tree of
 * full adders counts each bit of a vector on its own, and what comes out of
 * sixteen vectors ripples on. Only at a block's end are a vector's bits added
 * up. */
#ifndef F8_KERNEL_COUNT_H
#define F8_KERNEL_COUNT_H

#include "bytes.h"

enum {
    BATCH = 16, /* vectors of M */
    BATCH_ROWS = BATCH * VECTOR / F8_BLOCK,
    TREE = 4,   /* 2^4 = BATCH */
    PLANES = 11 /* up to 2^10 vectors of 16 bytes in a block */
};

typedef struct group_tables {
    vi number[4]; /* by M / 8: bits of the groups of eight M */
    vi one;       /* by a number below eight: that bit */
} group_tables;

typedef struct bit_counts {
    vi plane[2][PLANES];
    uint32_t group[GROUPS];
} bit_counts;

/* The lowest bits of eight bytes as one byte: a product moves them, byte i to
 * bit 56 + i, and nothing else arrives there. */
static inline uint8_t lowest_bits(uint64_t bytes)
{
    return (uint8_t)((bytes & 0x0101010101010101) * 0x0102040810204080 >> 56);
}

static inline void group_tables_begin(group_tables *t, const error_bins *bins)
{
    uint8_t number[4][16], one[16];

    for (unsigned i = 0; i < 16; i++) {
        uint64_t eight; /* the first in the lowest byte */
        memcpy(&eight, bins->bin + 8 * i, sizeof eight);
        for (unsigned k = 0; k < 4; k++)
            number[k][i] = lowest_bits(eight >> (4 + k)); /* of bin / 16 */
        one[i] = (uint8_t)(1u << i % 8);
    }
    for (unsigned k = 0; k < 4; k++)
        t->number[k] = v_table(number[k]);
    t->one = v_table(one);
}

/* For each M the bit of its group's number mod 8, and the same where that
 * number is eight or more, else zero. */
static inline void bit_of_group(vi m, const group_tables *t, vi *any, vi *upper)
{
    vi eighth = v_and(v_shr16(m, 3), v_set8(0x0f));
    vi place = v_look_low(t->one, m);
    vi bit[4];

    for (unsigned k = 0; k < 4; k++)
        bit[k] = v_test8(v_look(t->number[k], eighth), place);
    /* Each bit of the number halves what may be set. */
    vi one = v_and(v_xor(bit[0], v_set8(0x55)), v_xor(bit[1], v_set8(0x33)));
    *any = v_and(one, v_xor(bit[2], v_set8(0x0f)));
    *upper = v_and(*any, bit[3]);
}

/* Adds a batch; carry waits in `held` until its like arrives. */
static inline void add_vector(vi *plane, vi *held, unsigned n, vi x)
{
    for (unsigned level = 0; level < TREE; level++) {
        if ((n >> level & 1) == 0) {
            held[level] = x;
            return;
        }
        x = v_add_bits(plane + level, held[level], x);
    }
    for (unsigned level = TREE; level < PLANES; level++) {
        vi carry = v_and(plane[level], x);
        plane[level] = v_xor(plane[level], x);
        x = carry;
    }
}

/* Counts `vectors` that wait. What fills the batch counts as M of zero, which
 * is taken back. */
static inline void count_batch(bit_counts *n, vi m[BATCH], unsigned vectors,
                               const group_tables *t, const error_bins *bins)
{
    vi held[2][TREE];

    for (unsigned i = vectors; i < BATCH; i++) {
        m[i] = v_set8(0);
        n->group[group_of(bins, 0)] -= VECTOR;
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < BATCH; i++) {
        vi any, upper;
        bit_of_group(m[i], t, &any, &upper);
        add_vector(n->plane[0], held[0], i, any);
        add_vector(n->plane[1], held[1], i, upper);
    }
}

/* How often a bit was set in all bytes together, from some planes. */
static inline uint32_t sum_planes(const vi *plane, unsigned planes, vi bit)
{
    vi at = v_set8(0);

    for (unsigned i = planes; i-- > 0;)
        at = v_sub8(v_add8(at, at), v_test8(plane[i], bit));
    return v_sum8(at);
}

/* How often the bit of a group was set in the planes of one vector. A byte
 * holds what seven planes come to. */
static inline uint32_t count_of(const vi *plane, unsigned g)
{
    vi bit = v_set8((int)(1u << g % 8));

    return sum_planes(plane, 7, bit) +
           (sum_planes(plane + 7, PLANES - 7, bit) << 7);
}

/* The first eight groups are those of all bits that are not of the others. */
static inline void counts_end(bit_counts *n)
{
    for (unsigned g = 0; g < GROUPS / 2; g++) {
        uint32_t any = count_of(n->plane[0], g);
        uint32_t upper = count_of(n->plane[1], g);
        n->group[g] += any - upper;
        n->group[g + GROUPS / 2] += upper;
    }
}

#endif
