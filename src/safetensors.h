/* safetensors.h - the container format: reading and writing headers. Knows
 * nothing of models. Format: 8-byte little-endian header length N, N bytes of
 * JSON, then tensor data. https://github.com/huggingface/safetensors */
#ifndef F8_SAFETENSORS_H
#define F8_SAFETENSORS_H

#include "os.h"

/* The reference refuses longer headers, so a longer one is never loadable. */
#define F8_ST_HEADER_MAX_BYTES UINT64_C(100000000)
/* Of a checkpoint's tensors, and of the files beside them: 72 PB. Files of
 * holes could claim that many times over. Whatever is derived from them, such
 * as the same in another dtype, or both sides of a comparison, is a few times
 * as large, so that no sum of such sizes leaves 64 bits. */
#define F8_DATA_MAX_BYTES (UINT64_C(1) << 56)

enum {
    F8_ST_PREFIX_BYTES = 8, /* the header's length */
    /* Of a checkpoint; the largest known has 283,000, with names of 26 MB.
     * They bound what a hostile one can make a reader take: 250 MB. */
    F8_TENSORS_MAX = 1000000,
    F8_NAMES_MAX_BYTES = 48000000
};

typedef struct f8_tensor {
    const char *name; /* in the arena given to the parser */
    f8_dtype dtype;
    uint32_t file; /* index the caller gave: which shard it is in */
    unsigned rank;
    uint64_t shape[F8_MAX_RANK];
    uint64_t offset; /* of the first byte, from the start of the file */
    uint64_t bytes;
    uint64_t elems;
} f8_tensor;

typedef struct f8_tensor_list {
    f8_tensor *items;
    size_t count, capacity;
    uint64_t names_bytes; /* of all that were read */
} f8_tensor_list;

/* Of "format" in __metadata__, which is "pt", "np" or the like. */
#define F8_FORMAT_MAX_BYTES 14

/* What a header says beside its tensors. */
typedef struct f8_st_head {
    uint64_t hash;     /* FNV-1a of its bytes */
    bool has_metadata; /* __metadata__ */
    /* Its member "format", "": none. One byte more than the most: it is longer,
     * and may end within a character. */
    char format[F8_FORMAT_MAX_BYTES + 2];
} f8_st_head;

/* False when text names no supported dtype. */
bool f8_dtype_parse(const char *text, f8_dtype *out);

/* Reads and checks the header of an open file of file_bytes bytes and appends
 * its tensors, in offset order, to list. `label` is the file's name for
 * messages. *head (may be NULL) is filled when all is well. On failure the
 * list may have grown; its items stay valid. */
f8_status f8_st_read_header(int fd, uint64_t file_bytes, const char *label,
                            uint32_t file, f8_arena *names,
                            f8_tensor_list *list, f8_st_head *head,
                            f8_error *err);
/* The same for n bytes of header in memory, before data_bytes of data. */
f8_status f8_st_parse_header(const char *text, size_t n, uint64_t data_bytes,
                             const char *label, f8_arena *names,
                             f8_tensor_list *list, f8_error *err);

/* Writing: begin, add every tensor in data order, finish. begin/end are
 * offsets from the start of the data. finish pads with spaces so that the
 * data starts at a multiple of 8 and fills in the length; buf then holds the
 * file's first bytes. Always with __metadata__ {"format":"pt"}, which old
 * readers crash without. */
void f8_st_header_begin(f8_buf *buf);
void f8_st_header_add(f8_buf *buf, const char *name, f8_dtype dtype,
                      unsigned rank, const uint64_t *shape, uint64_t begin,
                      uint64_t end);
void f8_st_header_finish(f8_buf *buf);

#endif
