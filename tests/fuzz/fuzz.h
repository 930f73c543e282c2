/* fuzz.h - what the fuzz targets share. A target is one function of bytes; it
 * runs under libFuzzer (-DF8_FUZZ=ON), and under replay.c on files. Each one
 * demands properties of what it calls: require() ends the process when one
 * does not hold, which both drivers report. */
#ifndef F8_FUZZ_H
#define F8_FUZZ_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

__attribute__((format(printf, 2, 3))) static inline void require(
    bool holds, const char *format, ...)
{
    va_list args;

    if (holds)
        return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

/* The bytes as a string that the caller frees. Exactly as long, so that a
 * reader that goes too far is caught. */
static inline char *copy_string(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    require(text != NULL, "out of memory");
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

#endif
