/* checkpoint.h - config, index and shards of a folder as one tensor list.
 * Reads headers only. Knows the files, not what will become of them. */
#ifndef F8_CHECKPOINT_H
#define F8_CHECKPOINT_H

#include <jansson.h>

#include "folder.h"
#include "safetensors.h"

#define F8_INDEX_NAME "model.safetensors.index.json"
#define F8_SINGLE_NAME "model.safetensors"
#define F8_CONFIG_NAME "config.json"
/* As a header's: an index says the same in fewer words. */
#define F8_INDEX_MAX_BYTES F8_ST_HEADER_MAX_BYTES
/* The longest lists of modules have some hundred kilobytes. It becomes a tree
 * of up to fifty times its text. */
#define F8_CONFIG_MAX_BYTES UINT64_C(4000000)
/* Our own folder inside a result. */
#define F8_WORK_DIR ".fp8cast"

/* A JSON object of a stranger's: our parser has the first word (json.h), then
 * it becomes jansson's tree, up to fifty times its text. Errors name `label`,
 * line and column, or byte. */
f8_status f8_json_object(const f8_buf *text, const char *label, json_t **out,
                         f8_error *err);
/* A tree of one's own, the caller's to drop; NULL when memory ran out. Where
 * other threads may read the value, as those of a plan, no reference to it may
 * be taken: that would write into it. */
json_t *f8_json_copy(const json_t *value);

/* Lines that say what is wrong. Where a caller passes none, the first one is
 * an error instead. */
typedef struct f8_problems {
    char **lines; /* the first F8_PROBLEMS_KEPT only */
    size_t count, capacity;
    uint64_t total;
    f8_arena strings;
} f8_problems;
#define F8_PROBLEMS_KEPT 100

/* Notes a problem and returns F8_OK, or, when problems is NULL, fails. */
f8_status f8_problem(f8_problems *problems, f8_error *err, const char *format,
                     ...) __attribute__((format(printf, 3, 4)));
/* Notes err->message and returns F8_OK for a defect of the data; passes on
 * memory and system errors, and everything when problems is NULL. */
f8_status f8_problem_from(f8_problems *problems, f8_status status,
                          f8_error *err);
void f8_problems_free(f8_problems *problems);

/* What there is to tell of a result: what is wrong with it; what may keep it
 * from being served as its source is; what is worth knowing. */
typedef struct f8_findings {
    f8_problems faults, warnings, notes;
} f8_findings;

typedef struct f8_shard_file {
    const char *name;
    uint64_t bytes;
    int64_t mtime_ns;
    f8_st_head head;
} f8_shard_file;

typedef struct f8_checkpoint {
    char *dir;
    f8_folder folder;     /* dir, to open what is in it */
    f8_shard_file *files; /* by name */
    uint32_t files_count;
    f8_tensor_list tensors; /* by file, then offset: the reading order */
    f8_tensor **by_name;    /* sorted */
    uint64_t tensor_bytes;
    f8_buf config_text;     /* empty when there is none */
    json_t *config;         /* NULL when there is none */
    const char *model_type; /* "" when there is none */
    bool has_index;
    int64_t index_total_size; /* -1: not said */
    f8_arena strings;
} f8_checkpoint;

/* Opens and checks the folder `dir`; docs/format.md, section 1. With problems
 * NULL every defect is an error; else defects are noted and what can be read
 * is. */
enum f8_open_flags {
    F8_OPEN_CONFIG = 1,      /* config.json must be there */
    F8_OPEN_FOLLOW_LINKS = 2 /* those that lead out of the folder too */
};
f8_status f8_checkpoint_open(const char *dir, int flags, f8_problems *problems,
                             f8_checkpoint **checkpoint, f8_error *err);
/* The same view of a single .safetensors file, without config and index. */
f8_status f8_checkpoint_open_file(const char *path, f8_checkpoint **checkpoint,
                                  f8_error *err);
void f8_checkpoint_free(f8_checkpoint *checkpoint);

/* NULL when there is no such tensor. */
const f8_tensor *f8_checkpoint_find(const f8_checkpoint *checkpoint,
                                    const char *name);

/* A count of config.json, the language model's (`text_config`) before the
 * outer one; 0 for what is not said, or is no count. */
uint64_t f8_checkpoint_number(const f8_checkpoint *checkpoint, const char *key);

/* tie_word_embeddings; the outer one wins, as with the loaders. NULL where it
 * is not said: every architecture has its own default then. */
const json_t *f8_checkpoint_tied(const f8_checkpoint *checkpoint);

/* Where in config.json a quantization may stand: as member `key` of it, or of
 * the object that is its member `outer`. */
typedef struct f8_quantization_place {
    const char *outer, *key;
    const char *where; /* both, for messages */
} f8_quantization_place;
enum { F8_QUANTIZATION_PLACES = 4 };
extern const f8_quantization_place
    f8_quantization_places[F8_QUANTIZATION_PLACES];
/* What stands there, or NULL. */
const json_t *f8_checkpoint_quantization_at(const f8_checkpoint *checkpoint,
                                            const f8_quantization_place *place);

/* An existing quantization in config.json, or NULL. *where says under which
 * key it stands. */
const json_t *f8_checkpoint_quantization(const f8_checkpoint *checkpoint,
                                         const char **where);

#endif
