/* select.c - which tables this CPU can run. Detection asks the compiler's
 * runtime, which also asks whether the system saves the wide registers. No
 * state is kept: a caller asks once and passes the pointer down. */
#include "kernel.h"

#include <string.h>

extern const f8_kernel f8_kernel_c;

/* Which are built is the build's to say: F8_ISAS in CMakeLists.txt. */
extern const f8_kernel f8_kernel_avx2, f8_kernel_avx512, f8_kernel_vbmi;
extern const f8_kernel f8_kernel_neon;

#if defined(F8_HAS_AVX2) || defined(F8_HAS_AVX512) || defined(F8_HAS_VBMI)
static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

#if defined(F8_HAS_AVX512) || defined(F8_HAS_VBMI)
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}
#endif

#if defined(F8_HAS_VBMI)
static bool has_vbmi(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512bitalg") &&
           __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("gfni");
}
#endif

static bool always(void)
{
    return true;
}

typedef struct choice {
    const f8_kernel *kernel;
    bool (*runs)(void);
} choice;

/* Slowest first. */
static const choice choices[] = {
    {&f8_kernel_c, always},
#if defined(F8_HAS_AVX2)
    {&f8_kernel_avx2, has_avx2},
#endif
#if defined(F8_HAS_AVX512)
    {&f8_kernel_avx512, has_avx512},
#endif
#if defined(F8_HAS_VBMI)
    {&f8_kernel_vbmi, has_vbmi},
#endif
#if defined(F8_HAS_NEON)
    {&f8_kernel_neon, always}, /* part of the base architecture */
#endif
};
enum { CHOICES = sizeof choices / sizeof *choices };

size_t f8_kernel_list(const f8_kernel **list, size_t room)
{
    size_t n = 0;

    for (size_t i = 0; i < CHOICES && n < room; i++) {
        if (choices[i].runs())
            list[n++] = choices[i].kernel;
    }
    return n;
}

const f8_kernel *f8_kernel_best(void)
{
    for (size_t i = CHOICES; i-- > 0;) {
        if (choices[i].runs())
            return choices[i].kernel;
    }
    return &f8_kernel_c;
}

const f8_kernel *f8_kernel_by_name(const char *name)
{
    for (size_t i = 0; i < CHOICES; i++) {
        if (strcmp(choices[i].kernel->name, name) == 0 && choices[i].runs())
            return choices[i].kernel;
    }
    return NULL;
}

f8_status f8_kernel_choose(const char *name, const f8_kernel **kernel,
                           f8_error *err)
{
    f8_buf names = {0};

    *kernel = name ? f8_kernel_by_name(name) : f8_kernel_best();
    if (*kernel)
        return F8_OK;
    for (size_t i = 0; i < CHOICES; i++) {
        if (choices[i].runs())
            f8_buf_printf(&names, "%s%s", names.length ? ", " : "",
                          choices[i].kernel->name);
    }
    f8_status status =
        f8_fail(err, F8_ERR_ARGUMENT,
                "no kernels called '%s' run on this CPU; these do: %s", name,
                names.data ? names.data : "none");
    f8_buf_free(&names);
    return status;
}
