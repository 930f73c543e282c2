/* options.h - the command line. One table of commands and one of options
 * (options.c) drive parsing, help, suggestions and, through the help, the
 * test that holds the man page against them. Nothing here prints: a refusal
 * is a sentence for message.c, help is a string. */
#ifndef FP8CAST_CLI_OPTIONS_H
#define FP8CAST_CLI_OPTIONS_H

#include "fp8cast.h"

typedef enum command_id {
    COMMAND_QUANTIZE,
    COMMAND_DEQUANTIZE,
    COMMAND_PLAN,
    COMMAND_VERIFY,
    COMMAND_DIFF,
    COMMAND_INSPECT,
    COMMAND_ROOFLINE,
    COMMAND_REPORT,
    COMMAND_SYNTH,
    COMMAND_RULES,
    COMMAND_HELP,
    COMMAND_NONE /* no command was given; also their number */
} command_id;

/* What `report` writes. */
typedef enum report_format {
    REPORT_DEFAULT, /* by the ending of the file's name; none: text */
    REPORT_TEXT,
    REPORT_HTML,
    REPORT_MD
} report_format;

/* Room for the sentence that refuses a command line. */
#define PROBLEM_BYTES 1024

/* A command line, taken apart. Strings are argv's; zero means "not given". */
typedef struct arguments {
    command_id command;
    command_id topic;     /* of COMMAND_HELP; COMMAND_NONE: all in short */
    const char *paths[2]; /* SRC and DST, A and B, PATH, DIR or NAME */
    unsigned paths_count;
    bool help, all, version;
    bool json, quiet, tensors, overwrite, verify, sparse, follow_links;
    bool dequantize, fuse, requantize;
    f8_dtype value_dtype; /* 0, which no weight has: not given */
    uint64_t threads, memory_bytes, shard_bytes;
    const char *rules;
    const char *layout;
    /* What --for demands: on so many devices it must load; 0: nothing. */
    uint64_t engines[F8_ENGINE_COUNT];
    f8_scale_dtype scale_dtype;
    f8_scales scales;
    f8_override *overrides; /* owned; in the order given */
    size_t overrides_count;
    const char *model;
    uint64_t top;
    report_format format;
    const char *output;                 /* FILE of -o               */
    const char *base_model;             /* of the model card        */
    const char *report;                 /* FILE of --report         */
    uint64_t batch, context, bandwidth; /* bytes a second */
    uint64_t layers, experts, hidden, inter, vocab, seed, shards;
} arguments;

/* Takes argv apart; --help, wherever it stands, makes the command
 * COMMAND_HELP. False for a usage error, which is then in `problem`: one
 * sentence with its hint, that may still hold control characters from argv.
 * Call arguments_free in either case. */
bool options_parse(int argc, char **argv, arguments *out,
                   char problem[PROBLEM_BYTES]);
void arguments_free(arguments *given);

/* NULL for COMMAND_NONE. */
const char *options_command_name(command_id command);

/* Help texts, to be freed by the caller; NULL when memory ran out. Usage is
 * what `fp8cast` alone answers; of a command, help lists all options, for
 * COMMAND_NONE it lists the commands; everything is the help of all. */
char *options_usage(void);
char *options_help(command_id command);
char *options_help_all(void);

#endif
