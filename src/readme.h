/* readme.h - where the front matter of a model card begins and ends. */
#ifndef F8_README_H
#define F8_README_H

#include <stdbool.h>
#include <stddef.h>

/* Finds it in the first `n` bytes of a README.md: *first is behind the first
 * line, which is `---`, *bytes ends before the next such line. False when
 * there is none. Blanks may follow a fence. */
bool f8_front_matter_find(const char *text, size_t n, size_t *first,
                          size_t *bytes);

#endif
