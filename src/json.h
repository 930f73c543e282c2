/* json.h - strict JSON (RFC 8259), pulled piece by piece from a text or a
 * file, so that a document takes no more memory than its reader keeps. For
 * headers and indexes, which come from anywhere and may be huge; config.json,
 * small and of any shape, becomes a tree in checkpoint.c.
 *
 * Nothing lenient: UTF-8 without a byte order mark, whole surrogate pairs, no
 * NUL in strings, no comma too many, no key twice where values are skipped. */
#ifndef F8_JSON_H
#define F8_JSON_H

#include "os.h"

/* Of values that are skipped: lists in lists in lists. */
enum { F8_JSON_DEPTH = 64 };

/* All fields are json.c's own. */
typedef struct f8_json {
    const char *text; /* the part of the document that is in memory */
    size_t length, at;
    uint64_t before; /* bytes of the document before text */
    uint64_t left;   /* bytes behind it, still in the file */
    uint64_t offset; /* of the document in the file */
    uint64_t hash;   /* of all that was read from the file */
    int fd;
    char *window;
    const char *label, *part;
    f8_buf string;      /* the last string, decoded */
    f8_buf keys;        /* of the objects that are being skipped */
    uint64_t start;     /* of the value that is being skipped */
    size_t most;        /* that it may be long */
    const char *wanted; /* of the strings that are skipped, the one to keep */
    char *kept;         /* its value, of kept_bytes at most with its NUL */
    size_t kept_bytes;
    f8_status status;
    f8_error *err;
} f8_json;

/* Begins with a text, which stays the caller's. Messages are
 * "LABEL: PARTbyte N: expected …, found …", or, when part is NULL,
 * "LABEL:LINE:COLUMN: expected …, found …". */
void f8_json_begin(f8_json *json, const char *text, size_t n, const char *label,
                   const char *part, f8_error *err);
/* Begins with n bytes at `offset` of an open file. */
f8_status f8_json_begin_file(f8_json *json, int fd, uint64_t offset, uint64_t n,
                             const char *label, const char *part,
                             f8_error *err);
/* FNV-1a of the whole document; only when it was read to its end. */
uint64_t f8_json_hash(const f8_json *json);
void f8_json_free(f8_json *json);

/* Fails with what was expected and what stands there instead. */
f8_status f8_json_expected(f8_json *json, const char *expected);
/* What stands there, in few words; `size` of at least 64. */
void f8_json_found(f8_json *json, char *out, size_t size);

/* The next character behind white space, or -1 at the end. */
int f8_json_peek(f8_json *json);
/* Bytes of the document that were taken. */
uint64_t f8_json_at(const f8_json *json);
/* Only white space is left. */
f8_status f8_json_finish(f8_json *json);

/* Members of an object or elements of an array, whatever `open` begins:
 *     for (status = f8_json_enter(j, '{', &more); status == F8_OK && more;
 *          status = f8_json_next(j, '}', &more)) */
f8_status f8_json_enter(f8_json *json, char open, bool *more);
f8_status f8_json_next(f8_json *json, char close, bool *more);

/* A string of at most `most` bytes, terminated and without NUL; it is valid
 * until the next call. `what` it is, for the message. */
f8_status f8_json_string(f8_json *json, size_t most, const char *what,
                         const char **text);
/* The same and the ':' behind it. */
f8_status f8_json_key(f8_json *json, size_t most, const char *what,
                      const char **text);

/* A number of digits only, without a needless 0, below 2^63 as in most
 * languages. False, and nothing taken, when there is something else. */
bool f8_json_uint(f8_json *json, uint64_t *value);
/* Any number, without its fraction; *fits is whether that is 0 to 2^63-1. */
f8_status f8_json_number(f8_json *json, int64_t *value, bool *fits);

/* Whether a text could stand in a document. */
bool f8_json_is_utf8(const char *text);

/* Any value of at most `most` bytes. No object in it may have a key twice. */
f8_status f8_json_skip(f8_json *json, size_t most);
/* An object of strings, likewise. The value of `key` goes to value, cut off
 * where `size` bytes have no room for it; "" when there is none. */
f8_status f8_json_skip_strings(f8_json *json, size_t most, const char *key,
                               char *value, size_t size);

#endif
