/* division.h - what one of several devices gets of a linear layer, and whether
 * an engine's blocks of 128 allow that. From the family's `parallel` lines,
 * config.json and shapes; docs/serving.md has the rules and where the engines'
 * sources say so. */
#ifndef F8_DIVISION_H
#define F8_DIVISION_H

#include "plan.h"

/* Rows that belong together: of a layer on its own all of them. */
typedef struct f8_share {
    const char *name; /* within one tensor of the file; NULL: the tensor */
    const char *key;  /* of config.json, of the heads; NULL: none */
    uint64_t begin, length;
    uint64_t heads; /* 0: any share will do */
    bool is_copied; /* heads, where devices are more */
} f8_share;

/* A linear layer, or what an engine joins into one of them. */
typedef struct f8_layer {
    const f8_unit *unit;
    const f8_parallel *how;
    bool fp8;
    bool joined, last; /* with its neighbours; last: of these */
    unsigned count;
    f8_share parts[F8_MAX_PARTS];
} f8_layer;

/* Why a division is not known; what NULL: it is. */
typedef struct f8_lack {
    const char *what, *where;
} f8_lack;

/* What does not fit a number of devices; unit NULL: nothing. */
typedef struct f8_obstacle {
    const f8_unit *unit;
    const char *of;         /* "rows", "columns", "heads" or config's key */
    const char *part;       /* whose rows, in one tensor; NULL: its own */
    uint64_t length, share; /* share 0: it cannot be divided */
    uint64_t begin;         /* != 0: the row in a block where the part begins */
    const char *effect;     /* what the engine does; NULL: it differs */
    bool is_silent;         /* it computes nonsense without a word */
} f8_obstacle;

/* False where the layer is in nobody's way or, with *lack filled, where it is
 * not known how it is divided. */
bool f8_layer_find(const f8_plan *plan, const f8_unit *unit, f8_layer *layer,
                   f8_lack *lack);

/* Whether the engine takes it on so many devices, a power of two; `spread`:
 * with experts whole on one device each. Fills *why if not; sets *small where
 * vLLM spreads the scales over smaller blocks. */
bool f8_layer_fits(const f8_layer *layer, f8_engine engine, unsigned devices,
                   bool spread, f8_obstacle *why, bool *small);

#endif
