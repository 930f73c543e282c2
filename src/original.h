/* original.h - what of a source's tensors the names and shapes of a result do
 * not show: whether its experts were fused, which way, and under which names.
 * quantize leaves it in its journal, as an object of patterns of the rules, or
 * of single tensors' names, and what is said of each; --fuse reads it there.
 * Where it is missing the rules say what the family's publishers have. */
#ifndef F8_ORIGINAL_H
#define F8_ORIGINAL_H

#include "checkpoint.h"
#include "rules.h"

/* The member of the journal, and its file in our folder. */
#define F8_ORIGINAL_KEY "original"
#define F8_JOURNAL_NAME "journal.json"

/* Of a fused tensor, and of one that a `rename` knows. */
#define F8_ORIGINAL_ALONG "fused"
#define F8_ORIGINAL_ACROSS "transposed"
#define F8_ORIGINAL_RENAMED "renamed"

/* What is said of the tensors of `checkpoint`, to *out; NULL where nothing is,
 * or where it is said of other tensors. */
f8_status f8_original_read(const f8_checkpoint *checkpoint, json_t **out,
                           f8_error *err);

/* Refused (F8_ERR_RULES) where it speaks of what `rules` do not know: with the
 * rules of another conversion its tensors would get other names. */
f8_status f8_original_check(const json_t *original, const f8_rules *rules,
                            f8_error *err);

/* A record without tensors, which go to *tensors, for the results whose names,
 * in any order, were put together by f8_original_name. NULL when memory ran
 * out. */
json_t *f8_original_new(uint64_t names, json_t **tensors);
uint64_t f8_original_name(uint64_t names, const char *name);

/* How the experts lay that make up `fused`, which `rule` splits. */
f8_form f8_original_form(const json_t *original, const f8_rule *rule,
                         const char *fused);

/* What the tensor that the rules know as `name` was called, to buffer; NULL
 * when it was called that. */
const char *f8_original_called(const json_t *original, const f8_rules *rules,
                               const char *name,
                               char buffer[F8_NAME_MAX_BYTES + 1]);

#endif
