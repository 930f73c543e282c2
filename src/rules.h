/* rules.h - what to quantise, keep and split, by name pattern. The files are
 * data (rules/, docs/rules.md); this room parses and matches them and knows
 * nothing of checkpoints. */
#ifndef F8_RULES_H
#define F8_RULES_H

#include "os.h"

enum {
    F8_MAX_PARTS = 8,
    /* More experts than any model has; a hostile header could ask for
     * billions. */
    F8_MAX_EXPERTS = 65536
};

/* The layout that a rules file describes above all sections. */
#define F8_LAYOUT_CARD "card"

typedef enum f8_rule_kind {
    F8_RULE_KEEP,
    F8_RULE_QUANTIZE,
    F8_RULE_SPLIT
} f8_rule_kind;

/* How a checkpoint has the experts that a split takes apart. */
typedef enum f8_form {
    F8_FORM_UNKNOWN,
    F8_FORM_APART, /* one by one */
    F8_FORM_ALONG, /* fused, the parts along axis 1 */
    F8_FORM_ACROSS /* fused, along axis 2: each matrix lies transposed */
} f8_form;

typedef struct f8_rule {
    f8_rule_kind kind;
    const char *pattern;
    const char *text;          /* "qwen3_5_moe.rules:12: keep PATTERN" */
    const char *group, *oneof; /* NULL: none */
    bool optional, linear, always;
    const char *layout;   /* of a layout's section; NULL: of every layout */
    unsigned parts_count; /* of a split */
    const char *parts[F8_MAX_PARTS];
    /* Of a split: the axis that holds the parts, 1 or 2, or 0 where the
     * numbers of config.json that these keys name tell it. */
    unsigned axis;
    const char *rows, *columns;
    const char *into; /* where its results go, beside it; NULL: under it */
    /* Of a split: what the family's published checkpoints have. */
    f8_form published;
    /* Of a keep: what some loader calls the module in place of the words
     * behind the last number of its name, or of all of it where there is no
     * number; NULL: no such loader. */
    const char *also;
    /* Of a keep: engines that do not take the module in FP8, as bits 1 <<
     * f8_engine: they compute something else and say nothing, or they stop. */
    unsigned misread_by, refused_by;
} f8_rule;

/* `rename FROM TO`: tensors that some writer calls otherwise. Both patterns
 * have the same number of `{n}` and no other wildcard. */
typedef struct f8_rename {
    const char *from, *to;
} f8_rename;

/* Sibling modules that engines join into one. */
typedef struct f8_fused {
    const char *name;
    bool listed;
    unsigned parts_count;
    const char *parts[F8_MAX_PARTS];
} f8_fused;

/* How engines divide a linear layer among tensor-parallel devices. */
typedef enum f8_divide {
    F8_DIVIDE_ROW,    /* each takes a part of the inputs, the columns      */
    F8_DIVIDE_COLUMN, /* each takes a part of the outputs, the rows        */
    F8_DIVIDE_WHOLE   /* each has all of it                                */
} f8_divide;

/* What expert parallelism spreads whole over the devices instead. */
typedef enum f8_crowd {
    F8_CROWD_NONE,
    F8_CROWD_EXPERTS, /* routed ones                                       */
    F8_CROWD_SHARED   /* a shared one, which every device then has         */
} f8_crowd;

/* `parallel HOW PATTERN [...]`. Keys are of config.json. */
typedef struct f8_parallel {
    f8_divide how;
    f8_crowd crowd;
    const char *pattern; /* of results */
    /* Of CROWD_SHARED: the engine whose devices each have it; NULL: of all. */
    const char *shared_by;
    /* Heads that are copied where devices are more; `.NAME`: as many as the
     * rows are multiples of the elements of that tensor beside it. */
    const char *kv;
    /* The file has several layers' rows, one behind the other, under one name:
     * what they are called. Without heads they are as many each. */
    unsigned names_count;
    const char *names[F8_MAX_PARTS];
    /* Rows are parts, one after the other, each of so many heads. */
    unsigned parts_count;
    const char *heads[F8_MAX_PARTS];
    const char *dims[F8_MAX_PARTS]; /* of a head; NULL: all heads are alike */
    /* Not one after the other: a head of each, and again. */
    bool interleaved;
} f8_parallel;

/* `fails ENGINE PATTERN [KEY=VALUE,...] TEXT`: what an engine makes of a result
 * that has a tensor of such a name, scales included. */
typedef struct f8_failure {
    f8_engine engine;
    const char *pattern;
    const char *key; /* of config.json, that must be one of these; NULL: any */
    unsigned values_count;
    const char *values[F8_MAX_PARTS];
    const char *text;
} f8_failure;

/* Of a layout: the file that takes the source tensors of a pattern. */
typedef struct f8_file_place {
    const char *layout;
    const char *file; /* without .safetensors; `{n}`: the pattern's number */
    const char *pattern;
} f8_file_place;

/* A layout's section. What a plan does without one is called "card". */
typedef struct f8_section {
    const char *name;
    bool sorted; /* modules_to_not_convert by name, not in writing order */
} f8_section;

typedef struct f8_rules {
    const char *family; /* "" until the file has said it */
    const char *label;  /* the file's name, for messages */
    const char **model_types;
    size_t model_types_count, model_types_capacity;
    f8_rule *rules;
    size_t rules_count, rules_capacity;
    f8_rename *renames;
    size_t renames_count, renames_capacity;
    f8_fused *fused;
    size_t fused_count, fused_capacity;
    f8_parallel *parallel;
    size_t parallel_count, parallel_capacity;
    f8_failure *failures;
    size_t failures_count, failures_capacity;
    f8_section *sections;
    size_t sections_count, sections_capacity;
    f8_file_place *places;
    size_t places_count, places_capacity;
    const char *refused; /* why no plan is made; NULL */
    const char **notes;  /* that a plan prints */
    size_t notes_count, notes_capacity;
    f8_arena strings;
} f8_rules;

/* Loads the rules called spec: a built-in family, else a file's path. With
 * spec NULL the built-in family that lists model_type. */
f8_status f8_rules_load(const char *spec, const char *model_type,
                        f8_rules **rules, f8_error *err);
/* The same for a text; label is its name in messages. */
f8_status f8_rules_parse(const char *label, const char *text, f8_rules **rules,
                         f8_error *err);
void f8_rules_free(f8_rules *rules);

/* The last rule that matches name, or NULL. */
const f8_rule *f8_rules_find(const f8_rules *rules, const char *name);

/* The name by which the rules know a tensor: what the first `rename` that
 * matches makes of it, written to buffer, else name itself. *rename, which may
 * be NULL, becomes that directive or NULL. */
const char *f8_rules_known_as(const f8_rules *rules, const char *name,
                              char buffer[F8_NAME_MAX_BYTES + 1],
                              const f8_rename **rename);
/* The reverse: what tensors that the rules know as `name` may be called. False
 * when no rename leads there. */
bool f8_rules_called(const f8_rules *rules, const char *name,
                     char buffer[F8_NAME_MAX_BYTES + 1],
                     const f8_rename **rename);

/* The last `parallel` that matches a result's name, or NULL: not known. */
const f8_parallel *f8_rules_find_parallel(const f8_rules *rules,
                                          const char *name);

/* Whether the rules fit: decided[i] is the number of tensors that rule i
 * decided. Names the first rule whose flags do not allow its number. */
f8_status f8_rules_check_use(const f8_rules *rules, const uint64_t *decided,
                             f8_error *err);

#endif
