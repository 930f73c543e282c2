/* groups.h - the histogram of relative errors of a bfloat16 block, from counts
 * by groups.
 *
 * With a bfloat16 scale the relative error |v - w| / |w| of a plain weight
 * (plain.h) depends on w's seven mantissa bits M alone, so a block has but 128
 * of them. To count 128 things costs several times what quantising does; to
 * count the sixteen groups of M whose errors fall in the same sixteen bins
 * costs little, since a table turns M into one bit out of eight (vbmi.c).
 * A group's count is shared out evenly among its M, each of which goes to its
 * own bin. That is right to about 0.1 % of a median where weights are
 * continuous, as trained ones are: neighbours in error are spread over all
 * mantissas. It would be wrong by several per cent for weights of few values.
 * Those are known by their uneven groups, and such a block is counted by M; so
 * are the blocks of matrices that have few of them (quant.h), where the errors
 * beside one scale do not yet blend with those of others, and blocks that are
 * nearly all zeros, or of a few rows: of few weights most do not divide evenly.
 *
 * This is part of the definition: group counts are integers, so whoever gets
 * them right, or counts M and adds them up, comes to the same histogram. */
#ifndef F8_KERNEL_GROUPS_H
#define F8_KERNEL_GROUPS_H

#include "numbers.h"

enum {
    MANTISSAS = 128,
    GROUP_BINS = 16,
    GROUPS = 16, /* of plain weights: at most 1/17, bin 241 */
    /* Counts are uneven when their variance, beyond what the sizes of groups
     * explain, is more than 1/32 of n^2: continuous weights stay below half
     * of that (uniform ones beside an unlucky scale come nearest), two hundred
     * values of a normal distribution come to twice as much. */
    UNEVEN = 32,
    /* Of fewer weights all M are counted. What does not divide evenly, up to
     * 112 weights, moves the median of a matrix by 0.4 % where its blocks have
     * 1,100, by 1 % where they have 160, by 5 % where they have 16. One pruned
     * to a tenth has 1,600, and to count its M would take longer. */
    FEW = 1024
};

/* Histogram bin of a relative error; see stats.h. */
static inline int32_t bin_of(float relative)
{
    float small = relative < 0x1p-4f ? relative : 0;
    int32_t linear = F8_HIST_LINEAR + (int32_t)(small * F8_HIST_STEPS_PER_UNIT);
    int32_t coarse =
        (int32_t)(bits_of(relative) >> 17) -
        (F8_HIST_COARSE_EXPONENT + 127) * F8_HIST_COARSE_PER_OCTAVE +
        F8_HIST_COARSE;

    coarse = coarse > F8_HIST_ABOVE ? F8_HIST_ABOVE : coarse;
    int32_t bin = coarse < F8_HIST_COARSE ? linear : coarse;
    return bits_of(relative) == 0 ? F8_HIST_EXACT : bin;
}

/* What all blocks of one scale, but for its power of two, have in common. */
typedef struct error_bins {
    uint8_t bin[MANTISSAS]; /* of the relative error beside M */
    uint8_t members[GROUPS];
} error_bins;

/* From the errors of 1 + M/128, in units of the scale's power of two; they
 * are at most 1/17, where bin_of() is linear. */
static inline void error_bins_begin(error_bins *bins,
                                    const float error[MANTISSAS])
{
    int32_t bin[MANTISSAS];

    for (int32_t m = 0; m < MANTISSAS; m++) {
        float w = 1 + (float)m * 0x1p-7f, e = fabsf(error[m]);
        int32_t linear =
            F8_HIST_LINEAR + (int32_t)(e / w * F8_HIST_STEPS_PER_UNIT);
        bin[m] = e == 0 ? F8_HIST_EXACT : linear;
    }
    for (unsigned m = 0; m < MANTISSAS; m++)
        bins->bin[m] = (uint8_t)bin[m];
    /* Eight counters of eight bits each, which compilers make vectors of. */
    uint64_t low = 0, high = 0;
    for (unsigned m = 0; m < MANTISSAS; m++) {
        uint64_t g = bins->bin[m] / GROUP_BINS;
        low += (uint64_t)(g < 8) << (8 * (g % 8));
        high += (uint64_t)(g >= 8) << (8 * (g % 8));
    }
    for (unsigned g = 0; g < 8; g++) {
        bins->members[g] = (uint8_t)(low >> 8 * g);
        bins->members[8 + g] = (uint8_t)(high >> 8 * g);
    }
}

static inline unsigned group_of(const error_bins *bins, unsigned m)
{
    return bins->bin[m] / GROUP_BINS;
}

/* Counts of groups, and how many that is for each M of a group, rounded down.
 * The quotient of binary32 numbers is never rounded up to an integer: counts
 * are at most 2^14 and members 2^7. */
static inline void divide_groups(const error_bins *bins,
                                 const uint32_t count[GROUPS],
                                 uint32_t each[GROUPS])
{
    for (unsigned g = 0; g < GROUPS; g++) {
        int32_t members = bins->members[g] ? bins->members[g] : 1;
        each[g] =
            (uint32_t)(int32_t)((float)(int32_t)count[g] / (float)members);
    }
}

/* Whether groups do not tell enough, and M must be counted. With E_g the count
 * of group g if all M were alike, n m_g / 128, this is the test sum (c_g -
 * E_g)^2 / E_g > n / UNEVEN in integers. */
static inline bool are_too_coarse(const uint32_t count[GROUPS],
                                  const uint32_t each[GROUPS])
{
    uint64_t n = 0, squares = 0;

    for (unsigned g = 0; g < GROUPS; g++) {
        n += count[g];
        squares += count[g] * each[g]; /* at most 2^28 */
    }
    return n < FEW || squares * MANTISSAS * UNEVEN > n * n * (UNEVEN + 1);
}

/* What does not divide evenly, less than one for each M, goes to the middle
 * of the group. */
static inline void share_out(const error_bins *bins,
                             const uint32_t count[GROUPS],
                             const uint32_t each[GROUPS], uint64_t *hist)
{
    for (unsigned g = 0; g < GROUPS; g++)
        hist[GROUP_BINS * g + GROUP_BINS / 2] +=
            count[g] - each[g] * bins->members[g];
    for (unsigned m = 0; m < MANTISSAS; m++)
        hist[bins->bin[m]] += each[group_of(bins, m)];
}

/* The definition, from how often each M occurred. `exact` is the block's. */
static inline void count_mantissas(const error_bins *bins,
                                   const uint32_t count[MANTISSAS], bool exact,
                                   uint64_t *hist)
{
    uint32_t group[GROUPS] = {0}, each[GROUPS];

    for (unsigned m = 0; m < MANTISSAS; m++)
        group[group_of(bins, m)] += count[m];
    divide_groups(bins, group, each);
    if (!exact && !are_too_coarse(group, each)) {
        share_out(bins, group, each, hist);
        return;
    }
    for (unsigned m = 0; m < MANTISSAS; m++)
        hist[bins->bin[m]] += count[m];
}

#endif
