/* avx512.c - AVX-512 F, BW, VL and DQ (Skylake server and later). */
#include "vectors512.h"

#include "again.h"
#include "restore_words.h"
#include "search.h"
#include "shuffle.h"

const f8_kernel f8_kernel_avx512 = {
    .name = "avx512",
    .amax = amax_shuffle,
    .quantise = quantise_shuffle,
    .measure = measure_plain,
    .search = scale_search,
    .distance = distance_vectors,
    .dequantise = dequantise_words,
    .see = see_shuffle,
    .locate = locate_plain,
};
