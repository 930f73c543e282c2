/* scales.c - how fast scales are searched, one core, and what a search finds.
 *
 * For every kernel this CPU can run and several distributions of weights:
 * gigabytes of BF16 source a second of the search alone (with the largest
 * weight, which it needs), and of quantising with statistics by each choice of
 * scales; then the relative RMS of each choice. A figure is the best of
 * several rounds; read the ratios.
 *
 *   bench_scales [MiB of source, default 64] [rounds, default 7]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "quant.h"

enum { COLS = 2048 };

/* Processor time: whoever else runs here takes none of it. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double uniform(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(state >> 11) + 0.5) * 0x1p-53;
}

static double gauss(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static double student3(void)
{
    double chi2 = 0;
    for (int i = 0; i < 3; i++) {
        double g = gauss();
        chi2 += g * g;
    }
    return gauss() / sqrt(chi2 / 3);
}

static double even(void)
{
    return 2 * uniform() - 1;
}

static double outliers(void)
{
    return uniform() < 0.001 ? 30 * gauss() : gauss();
}

/* The worst case: one weight makes nearly all others subnormal codes. */
static double extreme(void)
{
    return uniform() < 1.0 / (F8_BLOCK * F8_BLOCK) ? 5000 : gauss();
}

static const struct {
    const char *name;
    double (*draw)(void);
} distributions[] = {{"gauss", gauss},
                     {"student t3", student3},
                     {"uniform", even},
                     {"outliers", outliers},
                     {"extreme", extreme}};
enum { DISTRIBUTIONS = sizeof distributions / sizeof *distributions };

typedef struct buffers {
    uint16_t *weights;
    uint8_t *codes, *scales;
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

static void draw(const buffers *b, double (*from)(void))
{
    for (size_t i = 0; i < b->rows * COLS; i++) {
        float w = (float)(0.02 * from());
        uint32_t u;
        memcpy(&u, &w, sizeof u);
        b->weights[i] = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
}

/* Seconds of the search alone. */
static double search(const f8_kernel *kernel, const buffers *b)
{
    static f8_scale_squares squares;
    volatile float last = 0;
    double start = now();

    f8_scale_squares_fill(&squares);
    for (size_t r = 0; r < b->rows; r += F8_BLOCK) {
        for (size_t c = 0; c < COLS; c += F8_BLOCK) {
            f8_block block = {.weights = b->weights + r * COLS + c,
                              .stride_bytes = COLS * 2,
                              .dtype = F8_DTYPE_BF16,
                              .rows = F8_BLOCK,
                              .cols = F8_BLOCK};
            uint32_t top = kernel->amax(&block);
            float amax;
            memcpy(&amax, &top, sizeof amax);
            last = kernel->search(&squares, &block, amax);
        }
    }
    (void)last;
    return now() - start;
}

/* Seconds of quantising; *relative_rms is what came of it. */
static double quantise(const f8_kernel *kernel, const buffers *b,
                       f8_scales choice, double *relative_rms)
{
    static f8_stats all;
    f8_spot spot;
    f8_finds finds;
    f8_panel panel = {.weights = b->weights,
                      .stride_bytes = COLS * 2,
                      .dtype = F8_DTYPE_BF16,
                      .rows = b->rows,
                      .cols = COLS,
                      .codes = b->codes,
                      .codes_stride = COLS,
                      .scale_dtype = F8_SCALE_BF16,
                      .scales = b->scales,
                      .stream = true,
                      .choice = choice,
                      .finds = &finds};
    f8_sums sums;

    memset(&finds, 0, sizeof finds);
    memset(&all, 0, sizeof all);
    double start = now();
    if (!f8_panel_quantise(kernel, &panel, all.hist, &spot))
        exit(1);
    double seconds = now() - start;
    f8_finds_sums(&finds, &sums);
    *relative_rms = f8_sums_relative_rms(&sums);
    return seconds;
}

static double less(double a, double b)
{
    return a < b ? a : b;
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
    int rounds = argc > 2 ? atoi(argv[2]) : 7;
    const f8_kernel *list[F8_KERNELS_MAX];
    size_t kernels = f8_kernel_list(list, F8_KERNELS_MAX);
    buffers b = {.rows = (mib < 1 ? 1 : mib) * (1 << 20) / (COLS * 2)};

    b.weights = room(b.rows * COLS * 2);
    b.codes = room(b.rows * COLS);
    b.scales = room(b.rows / F8_BLOCK * (COLS / F8_BLOCK) * 2);
    printf("GB/s of BF16, one core, best of %d rounds       quantise with "
           "statistics\n%-12s%-10s%10s%12s%8s%8s%14s\n",
           rounds, "weights", "kernel", "search", "amax", "mse", "pow2",
           "time mse/amax");
    for (int d = 0; d < DISTRIBUTIONS; d++) {
        double rms[F8_SCALES_POW2 + 1] = {0};
        draw(&b, distributions[d].draw);
        for (size_t k = 0; k < kernels; k++) {
            double best[F8_SCALES_POW2 + 1], only = 1e9;
            double bytes = (double)b.rows * COLS * 2 * 1e-9;
            for (int i = F8_SCALES_AMAX; i <= F8_SCALES_POW2; i++)
                best[i] = 1e9;
            for (int r = 0; r < rounds; r++) {
                only = less(only, search(list[k], &b));
                for (int i = F8_SCALES_AMAX; i <= F8_SCALES_POW2; i++)
                    best[i] = less(
                        best[i], quantise(list[k], &b, (f8_scales)i, &rms[i]));
            }
            printf("%-12s%-10s%10.2f%12.2f%8.2f%8.2f%14.2f\n",
                   distributions[d].name, list[k]->name, bytes / only,
                   bytes / best[F8_SCALES_AMAX], bytes / best[F8_SCALES_MSE],
                   bytes / best[F8_SCALES_POW2],
                   best[F8_SCALES_MSE] / best[F8_SCALES_AMAX]);
        }
        printf("%-12s%-10s%10s%10.4f %%%6.4f %%%6.4f %%  mse %.2f %% lower\n",
               "", "rel. RMS", "", 100 * rms[F8_SCALES_AMAX],
               100 * rms[F8_SCALES_MSE], 100 * rms[F8_SCALES_POW2],
               100 * (1 - rms[F8_SCALES_MSE] / rms[F8_SCALES_AMAX]));
    }
    return 0;
}
