/* kernels.c - how fast each kernel quantises, one core, beside memcpy.
 *
 * For every version this CPU can run: gigabytes of BF16 source a second, with
 * and without statistics, from the cache (a matrix of 2 MiB over and over) and
 * from memory; F16 and F32 from memory; and checking. Time is the processor's,
 * a figure is the best of several rounds, and each round measures everything
 * once, so that a busy neighbour disturbs little and all alike. Ratios, not
 * seconds, are comparable between machines: the last table is that of the
 * project's goals.
 *
 *   bench_kernels [--json] [MiB, default 256] [rounds, default 7] [kernel]
 *
 * With --json every round is one line, an object: what the tables print the
 * best of.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "quant.h"

enum { COLS = 2048, CACHE_ROWS = 512 };

typedef enum what {
    CACHE_BARE,
    CACHE_STATS,
    MEMORY_BARE,
    MEMORY_STATS,
    MEMORY_KEPT, /* codes through the caches */
    MEMORY_F16,
    MEMORY_F32,
    MEMORY_CHECK,
    WHATS
} what;

static const char *const what_names[WHATS] = {
    "cache",     "cache+stats", "memory",    "memory+stats",
    "no-stream", "f16+stats",   "f32+stats", "check",
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct buffers {
    uint16_t *bf16, *f16;
    float *f32; /* half as many as the others */
    uint8_t *codes, *good_codes, *scales, *good_scales, *scratch;
    size_t rows;
} buffers;

static void *room(size_t bytes)
{
    void *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    memset(p, 1, bytes);
    return p;
}

static uint32_t next_random(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* About normal, with a deviation of 0.02, as weights are. */
static float weight(void)
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (float)next_random() * 0x1p-31f;
    return (sum - 6) * 0.02f;
}

static void buffers_make(buffers *b, size_t mib)
{
    enum { SAMPLE = 1 << 20 };
    size_t row_bytes = COLS * sizeof(uint16_t);

    b->rows = (mib << 20) / row_bytes / F8_BLOCK * F8_BLOCK;
    size_t n = b->rows * COLS;
    b->bf16 = room(n * 2);
    b->f16 = room(n * 2);
    b->f32 = room(n * 2);
    b->codes = room(n);
    b->good_codes = room(n);
    b->scales = room(n / F8_BLOCK);
    b->good_scales = room(n / F8_BLOCK);
    b->scratch = room((size_t)F8_BLOCK * F8_BLOCK);
    float *sample = room(SAMPLE * sizeof *sample);
    for (size_t i = 0; i < SAMPLE; i++)
        sample[i] = weight();
    for (size_t i = 0; i < n; i++) {
        float w = sample[next_random() % SAMPLE];
        uint32_t u;
        memcpy(&u, &w, sizeof u);
        b->bf16[i] = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
        /* Close enough to the same weight for a benchmark. */
        int32_t exponent = (int32_t)(u >> 23 & 0xff) - 112;
        b->f16[i] = (uint16_t)((u >> 16 & 0x8000) |
                               (exponent > 0 ? (uint32_t)exponent << 10 : 0) |
                               (u >> 13 & 0x3ff));
        if (i < n / 2)
            b->f32[i] = w;
    }
    free(sample);
}

static f8_panel panel_of(const buffers *b, const void *weights, f8_dtype dtype,
                         size_t rows, bool stream)
{
    return (f8_panel){.weights = weights,
                      .stride_bytes = COLS * f8_dtype_bytes(dtype),
                      .dtype = dtype,
                      .rows = rows,
                      .cols = COLS,
                      .codes = b->codes,
                      .codes_stride = COLS,
                      .scale_dtype = F8_SCALE_BF16,
                      .scales = b->scales,
                      .stream = stream};
}

/* In parts of an expert's size, since what is found of a matrix is looked for
 * anew in each. */
static void quantise(const f8_kernel *kernel, const f8_panel *whole, bool stats)
{
    enum { EXPERT_ROWS = 512 };
    f8_stats all;
    f8_finds finds;
    f8_spot spot;

    memset(&all, 0, sizeof all);
    for (size_t r = 0; r < whole->rows; r += EXPERT_ROWS) {
        f8_panel part = *whole;
        part.weights = (const char *)whole->weights + r * whole->stride_bytes;
        part.codes = whole->codes + r * whole->codes_stride;
        part.scales = whole->scales + r / F8_BLOCK * (COLS / F8_BLOCK) * 2;
        part.rows =
            whole->rows - r < EXPERT_ROWS ? whole->rows - r : EXPERT_ROWS;
        part.finds = stats ? &finds : NULL;
        memset(&finds, 0, sizeof finds);
        if (!f8_panel_quantise(kernel, &part, all.hist, &spot))
            exit(1);
    }
}

/* Gigabytes of source a second, once. */
static double measure(const f8_kernel *kernel, const buffers *b, what w)
{
    bool slow = strcmp(kernel->name, "c") == 0;
    size_t rows = slow ? b->rows / F8_BLOCK / 4 * F8_BLOCK : b->rows;
    size_t bytes = rows * COLS * 2;
    f8_panel panel = panel_of(b, b->bf16, F8_DTYPE_BF16, rows, true);
    double start = now();

    switch (w) {
    case CACHE_BARE:
    case CACHE_STATS:
        panel = panel_of(b, b->bf16, F8_DTYPE_BF16, CACHE_ROWS, false);
        bytes = 0;
        for (int i = 0; i < (slow ? 5 : 25); i++) {
            quantise(kernel, &panel, w == CACHE_STATS);
            bytes += (size_t)CACHE_ROWS * COLS * 2;
        }
        break;
    case MEMORY_BARE:
    case MEMORY_STATS:
        quantise(kernel, &panel, w == MEMORY_STATS);
        break;
    case MEMORY_KEPT:
        panel.stream = false;
        quantise(kernel, &panel, true);
        break;
    case MEMORY_F16:
        panel = panel_of(b, b->f16, F8_DTYPE_F16, rows, true);
        quantise(kernel, &panel, true);
        break;
    case MEMORY_F32:
        panel = panel_of(b, b->f32, F8_DTYPE_F32,
                         rows / F8_BLOCK / 2 * F8_BLOCK, true);
        bytes = panel.rows * COLS * 4;
        quantise(kernel, &panel, true);
        break;
    case MEMORY_CHECK: {
        static f8_stats all;
        f8_check check = {0};
        f8_finds finds = {0};
        panel.finds = &finds;
        panel.codes = b->good_codes;
        panel.scales = b->good_scales;
        f8_panel_check(kernel, &panel, b->scratch, &check, all.hist);
        if (check.not_nearest)
            exit(1);
        break;
    }
    case WHATS:
        break;
    }
    return (double)bytes / (now() - start) * 1e-9;
}

static double copy_once(const buffers *b)
{
    size_t bytes = b->rows * COLS;
    double start = now();
    memcpy(b->codes, b->bf16, bytes);
    return (double)bytes / (now() - start) * 1e-9;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* One round as a line of JSON. */
static void print_round(const f8_kernel *const *list, size_t kernels,
                        double figures[][WHATS], double copy)
{
    printf("{\"memcpy\": %.4f", copy);
    for (size_t k = 0; k < kernels; k++) {
        printf(", \"%s\": {", list[k]->name);
        for (int w = 0; w < WHATS; w++)
            printf("%s\"%s\": %.4f", w ? ", " : "", what_names[w],
                   figures[k][w]);
        printf("}");
    }
    printf("}\n");
}

int main(int argc, char **argv)
{
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    argc -= json;
    argv += json;
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 256;
    int rounds = argc > 2 ? atoi(argv[2]) : 7;
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
    double best[F8_KERNELS_MAX][WHATS] = {{0}}, copy = 0;
    double figures[F8_KERNELS_MAX][WHATS];
    buffers b;

    if (argc > 3 && (list[0] = f8_kernel_by_name(argv[3])) != NULL)
        kernels = 1;

    buffers_make(&b, mib < 8 ? 8 : mib);
    f8_panel good = panel_of(&b, b.bf16, F8_DTYPE_BF16, b.rows, true);
    good.codes = b.good_codes;
    good.scales = b.good_scales;
    quantise(f8_kernel_best(), &good, false);
    for (int r = 0; r < rounds; r++) {
        double copy_now = copy_once(&b);
        copy = larger(copy, copy_now);
        for (size_t k = 0; k < kernels; k++) {
            for (int w = 0; w < WHATS; w++) {
                figures[k][w] = measure(list[k], &b, (what)w);
                best[k][w] = larger(best[k][w], figures[k][w]);
            }
        }
        if (json)
            print_round(list, kernels, figures, copy_now);
    }
    if (json)
        return 0;

    printf("GB/s of source, one core, best of %d rounds; memcpy %.1f\n%-8s",
           rounds, copy, "");
    for (int w = 0; w < WHATS; w++)
        printf(" %12s", what_names[w]);
    for (size_t k = 0; k < kernels; k++) {
        printf("\n%-8s", list[k]->name);
        for (int w = 0; w < WHATS; w++)
            printf(" %12.2f", best[k][w]);
    }
    printf("\n\nfrom memory / memcpy     bare   with statistics   statistics "
           "cost (cache)\n");
    for (size_t k = 0; k < kernels; k++)
        printf("%-20s %8.2f %17.2f %11.0f %% %6.0f %%\n", list[k]->name,
               best[k][MEMORY_BARE] / copy, best[k][MEMORY_STATS] / copy,
               100 * (1 - best[k][MEMORY_STATS] / best[k][MEMORY_BARE]),
               100 * (1 - best[k][CACHE_STATS] / best[k][CACHE_BARE]));
    return 0;
}
