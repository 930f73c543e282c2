/* loaders.h - what was seen when loaders read what fp8cast makes: the data of
 * pages/loaders.txt, which comes from docs/loaders.md. */
#ifndef FP8CAST_CLI_LOADERS_H
#define FP8CAST_CLI_LOADERS_H

#include <stdbool.h>

enum { LOADER_TRANSFORMERS, LOADER_VLLM, LOADER_SGLANG, LOADERS_COUNT };

/* Of one model_type. */
typedef struct loaders {
    bool is_known;       /* false: it was not tried */
    char auto_class[64]; /* of transformers */
    bool is_right[LOADERS_COUNT];
    char why[LOADERS_COUNT][512]; /* it is not; a sentence without its dot */
    char version[LOADERS_COUNT][32];
} loaders;

loaders loaders_of(const char *model_type);

#endif
