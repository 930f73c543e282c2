/* text.h - figures as people read them, and names made safe to print.
 * Pure functions without output; message.c prints what they return. */
#ifndef FP8CAST_CLI_TEXT_H
#define FP8CAST_CLI_TEXT_H

#include <stdint.h>

/* Returned by value, so that a call can stand among printf's arguments:
 * text_count(n).text. Large enough for a shape of eight 20-digit numbers. */
typedef struct figure {
    char text[192];
} figure;

/* "71,903,645,408". */
figure text_count(uint64_t count);
/* "71.9 GB", decimal units. */
figure text_bytes(uint64_t bytes);
/* "71,903,645,408 bytes (71.9 GB)". */
figure text_bytes_fully(uint64_t bytes);
/* "0.42 s", "58.1 s", "12 min 05 s", "3 h 20 min". */
figure text_seconds(double seconds);
/* "1.24 GB/s"; "-" when no time has passed. */
figure text_rate(uint64_t bytes, double seconds);
/* "2.21 %", "4.1e+05 %"; "-" for NaN, as in the one below. */
figure text_percent(double ratio);
figure text_real(double value, int decimals);
/* "[256,1024,2048]", without blanks: one word of a line. */
figure text_shape(unsigned rank, const uint64_t *shape);

/* A copy in which control characters and bytes that are not UTF-8 are written
 * as \xNN: names come from files, and none may start a new line or speak to
 * the terminal. The caller frees it; NULL when memory ran out. */
char *text_escape(const char *text);

#endif
