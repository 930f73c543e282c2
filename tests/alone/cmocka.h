/* cmocka.h - as much of cmocka as the kernels' test uses, for builds without
 * libraries: every set of instruction sets, and other CPUs under an emulator,
 * for which nothing but a compiler need be installed. Prints TAP; the first
 * failure ends the program. */
#ifndef F8_TESTS_ALONE_CMOCKA_H
#define F8_TESTS_ALONE_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
    int (*setup)(void **state);
};

#define cmocka_unit_test_setup(test, setup)                                    \
    {                                                                          \
        #test, test, setup                                                     \
    }
#define print_message(...) fprintf(stderr, __VA_ARGS__)
#define fail_msg(...)                                                          \
    do {                                                                       \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                        \
        fprintf(stderr, __VA_ARGS__);                                          \
        fputc('\n', stderr);                                                   \
        exit(1);                                                               \
    } while (0)
#define assert_true(c)                                                         \
    do {                                                                       \
        if (!(c))                                                              \
            fail_msg("%s", #c);                                                \
    } while (0)
#define assert_null(p) assert_true((p) == NULL)
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_ptr_equal(a, b) assert_true((a) == (b))
#define assert_int_equal(a, b)                                                 \
    assert_true((unsigned long long)(a) == (unsigned long long)(b))
#define assert_string_equal(a, b) assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, size) assert_true(memcmp(a, b, size) == 0)
#define cmocka_run_group_tests(tests, setup, teardown)                         \
    run_tests(tests, sizeof(tests) / sizeof *(tests))

static int run_tests(const struct CMUnitTest *tests, size_t n)
{
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        if (tests[i].setup && tests[i].setup(&state) != 0)
            fail_msg("set-up of %s", tests[i].name);
        tests[i].run(&state);
        printf("ok %zu - %s\n", i + 1, tests[i].name);
        fflush(stdout);
    }
    return 0;
}

#endif
