/* dequant.h - codes and scales back to a row-major matrix of values, block by
 * block. Knows no files. */
#ifndef F8_DEQUANT_H
#define F8_DEQUANT_H

#include "scales.h"

/* Part of a matrix, cut as quant.h cuts: whole bands of 128 rows (the last may
 * be shorter), columns from a multiple of 128. */
typedef struct f8_code_panel {
    const uint8_t *codes; /* rows x cols, rows `codes_stride` apart */
    size_t codes_stride;
    uint64_t rows, cols;
    f8_scale_dtype scale_dtype;
    const uint8_t *scales; /* ceil(rows/128) x ceil(cols/128), packed */
    f8_dtype dtype;        /* of the values: BF16, F16 or F32 */
    void *values;          /* in any alignment */
    size_t values_stride;  /* in bytes */
} f8_code_panel;

/* What stands in the way of a value. */
typedef enum f8_code_fault {
    F8_CODES_FINE,
    F8_CODES_NAN,        /* a NaN code */
    F8_CODES_BAD_SCALE,  /* negative, -0 too, NaN or infinite */
    F8_CODES_ZERO_SCALE, /* zero over codes that are not zero */
    F8_CODES_TOO_LARGE   /* a finite product that dtype rounds to infinity */
} f8_code_fault;

typedef struct f8_code_spot {
    uint64_t row, col; /* of the code, inside the panel; of a scale that is
                        * bad: of its block's first code */
    float scale;
    uint8_t code; /* unless it is the scale that is bad */
    double value; /* code * scale, exactly */
} f8_code_spot;

/* Fills values. Stops at the first block with a fault and fills *spot with
 * its first place by rows; values are then not to be used. */
f8_code_fault f8_panel_dequantise(const f8_kernel *kernel,
                                  const f8_code_panel *panel,
                                  f8_code_spot *spot);

#endif
