/* options.c - the two tables, and what is made from them; see options.h.
 *
 * getopt_long is not used: it accepts abbreviations, so that adding an option
 * could change what an old script means, and it cannot suggest, tell which
 * command takes what, or refuse an option that was given twice. */
#include "options.h"
#include "message.h"
#include "values.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- the tables -------------------------------------------------------- */

static const struct command {
    const char *name;
    unsigned least, most; /* operands */
    const char *first, *second;
    const char *help;
    const char *about;
} commands[COMMAND_NONE] = {
    /* In the order of command_id. */
    {"quantize", 2, 2, "SRC", "DST",
     "convert the checkpoint SRC into the new folder DST",
     "Only what is finished appears in DST under its final name. After an\n"
     "interruption the same command continues where it stopped.\n"},
    {"dequantize", 2, 2, "SRC", "DST",
     "convert the FP8 checkpoint SRC to BF16, into DST",
     "SRC is FP8 blockwise, from any converter: weights with a scale for each\n"
     "128 x 128 block. An interrupted run is continued by the same command.\n"},
    {"plan", 1, 2, "SRC", "DST",
     "say what quantize would do; reads headers alone",
     "With DST it looks at what is there: free space, and whether that folder\n"
     "is new, to be continued, finished, or refused. With --dequantize it "
     "says\n"
     "what dequantize would do.\n"},
    {"verify", 2, 2, "SRC", "DST",
     "reread both and prove that DST is SRC in FP8",
     "DST may come from any converter. The exit status is 3 when it differs\n"
     "from what SRC demands. Links are followed, wherever they lead.\n"},
    {"diff", 2, 2, "A", "B", "say what differs between two checkpoints",
     "A and B are folders or .safetensors files, quantized or not, by "
     "whomever;\n"
     "B is measured against A. The exit status is 0 when names, types, "
     "shapes,\n"
     "bytes and config are the same, and 3 when they are not.\n"},
    {"inspect", 1, 1, "PATH", NULL,
     "say what is in a checkpoint folder or .safetensors file",
     "The exit status is 1 when index and shards disagree. Links are "
     "followed,\n"
     "wherever they lead.\n"},
    {"roofline", 1, 1, "CKPT", NULL,
     "say what a token costs, and how fast memory lets it be",
     "Reads config and headers alone. CKPT is a checkpoint before or after\n"
     "quantizing; the other side is reckoned. Links are followed, wherever "
     "they\n"
     "lead.\n"},
    {"report", 1, 1, "FILE", NULL,
     "draw a report: a page, a model card or text",
     "FILE is what quantize or verify wrote with --report. A page stands "
     "alone,\n"
     "a model card is the README.md of the result.\n"},
    {"synth", 1, 1, "DIR", NULL,
     "write a synthetic checkpoint with a real model's layout",
     "The same options give the same bytes on every machine. Dimensions that\n"
     "are not given are the layout's own.\n"},
    {"rules", 0, 1, "NAME", NULL,
     "list the built-in model families, or print one's rules",
     "What it prints is a rules file, ready to be changed and given to\n"
     "--rules.\n"},
    {"help", 0, 1, "COMMAND", NULL, "explain fp8cast or one command", ""},
};

typedef enum option_kind {
    KIND_FLAG,     /* bool                                  */
    KIND_TEXT,     /* const char *                          */
    KIND_COUNT,    /* uint64_t from least to most           */
    KIND_SIZE,     /* uint64_t bytes, at least 1            */
    KIND_RATE,     /* uint64_t bytes a second, at least 1  */
    KIND_KEEP,     /* one more override: keep what matches  */
    KIND_QUANTIZE, /* one more override: quantize it        */
    KIND_SCALE,    /* f8_scale_dtype                        */
    KIND_CHOICE,   /* f8_scales                             */
    KIND_DTYPE,    /* f8_dtype, of values                   */
    KIND_ENGINE,   /* one more engine that must load it     */
    KIND_FORMAT,   /* report_format                         */
    KIND_HUB_ID    /* const char *, OWNER/NAME              */
} option_kind;

#define ON(command) (1u << COMMAND_##command)
#define ON_CONVERT (ON(QUANTIZE) | ON(PLAN))
#define ON_BACK (ON(DEQUANTIZE) | ON(PLAN))
#define ON_DECIDE (ON_CONVERT | ON(ROOFLINE))
#define ON_WRITE (ON_CONVERT | ON(DEQUANTIZE))
#define ON_WORK (ON_WRITE | ON(VERIFY) | ON(DIFF))
#define ON_PLAN (ON_WORK | ON(ROOFLINE))
#define ON_CHECKPOINT (ON_PLAN | ON(INSPECT) | ON(SYNTH))
#define ON_ALL ((1u << COMMAND_NONE) - 1)

/* The middle of an option's row: its kind, its field in `arguments`, and for
 * numbers the range. */
#define FIELD(kind, field) KIND_##kind, offsetof(arguments, field)
#define FLAG(field) FIELD(FLAG, field), 0, 0
#define TEXT(field) FIELD(TEXT, field), 0, 0
#define SIZE(field) FIELD(SIZE, field), 0, 0
#define COUNT(field, least, most) FIELD(COUNT, field), least, most

/* In the order of the help: what shapes the result, what is common last. */
static const struct option {
    const char *name;
    char twin;            /* short form, 0 for none                        */
    const char *argument; /* NULL for a flag                               */
    unsigned takers;      /* the commands that take it, a bit each         */
    option_kind kind;
    size_t field;         /* where in `arguments` its value goes           */
    uint64_t least, most; /* KIND_COUNT                                    */
    const char *help;
} options[] = {
    {"rules", 0, "NAME|FILE", ON_PLAN, TEXT(rules),
     "a built-in family or your file (default: by model)"},
    {"layout", 0, "NAME", ON_DECIDE, TEXT(layout),
     "card, or official where rules have it (default: card)"},
    {"keep", 0, "GLOB", ON_DECIDE, FIELD(KEEP, overrides), 0, 0,
     "copy these tensors; repeatable, later ones win"},
    {"quantize", 0, "GLOB", ON_DECIDE, FIELD(QUANTIZE, overrides), 0, 0,
     "quantize these tensors; repeatable, later ones win"},
    {"scale-dtype", 0, "TYPE", ON_DECIDE, FIELD(SCALE, scale_dtype), 0, 0,
     "bf16, f32 or ue8m0 (default: bf16)"},
    {"scales", 0, "HOW", ON_CONVERT, FIELD(CHOICE, scales), 0, 0,
     "amax, mse (least error) or pow2 (default: amax)"},
    {"requantize", 0, NULL, ON_CONVERT, FLAG(requantize),
     "take an FP8 blockwise SRC too, and convert its values"},
    {"dequantize", 0, NULL, ON(PLAN), FLAG(dequantize),
     "say what dequantize would do"},
    {"dtype", 0, "TYPE", ON_BACK, FIELD(DTYPE, value_dtype), 0, 0,
     "of the values: bf16, f16 or f32 (default: bf16)"},
    {"fuse", 0, NULL, ON_BACK, FLAG(fuse),
     "give experts the original's form, fused or one by one"},
    {"for", 0, "ENGINE[:N]", ON(PLAN), FIELD(ENGINE, engines), 0, 0,
     "fail where vllm, sglang or transformers would; repeatable"},
    {"shard-size", 0, "SIZE", ON_WRITE, SIZE(shard_bytes),
     "largest result file (default: 5GB)"},
    {"follow-links", 0, NULL, ON_WRITE | ON(DIFF), FLAG(follow_links),
     "let links in SRC, or A and B, lead to files elsewhere"},
    {"overwrite", 0, NULL, ON_WRITE | ON(REPORT), FLAG(overwrite),
     "replace what is there already"},
    {"verify", 0, NULL, ON(QUANTIZE), FLAG(verify), "verify when done"},
    {"report", 0, "FILE", ON(QUANTIZE) | ON(VERIFY), TEXT(report),
     "write all that was measured to FILE, as JSON"},
    {"top", 0, "N", ON(DIFF), COUNT(top, 1, 1000000),
     "weights and lines of each list to show (default: 20)"},
    {"batch", 0, "N", ON(ROOFLINE), COUNT(batch, 1, 1000000),
     "sequences decoded together (default: 1)"},
    {"context", 0, "N", ON(ROOFLINE), COUNT(context, 0, 1000000000),
     "earlier tokens of each sequence (default: 0)"},
    {"bandwidth", 0, "RATE", ON(ROOFLINE), FIELD(RATE, bandwidth), 0, 0,
     "of one machine, such as 273GB/s, in place of the list"},
    {"format", 0, "NAME", ON(REPORT), FIELD(FORMAT, format), 0, 0,
     "html, md (a model card) or text (default: by -o's ending)"},
    {"output", 'o', "FILE", ON(REPORT), TEXT(output),
     "write to this file (default: standard output)"},
    {"base-model", 0, "ID", ON(REPORT), FIELD(HUB_ID, base_model), 0, 0,
     "the source's name on the hub, for the model card"},
    {"model", 0, "NAME", ON(SYNTH), TEXT(model),
     "layout to follow (default: qwen3.6-35b-a3b-mini)"},
    {"layers", 0, "N", ON(SYNTH), COUNT(layers, 1, 10000),
     "layers of the language model"},
    {"experts", 0, "N", ON(SYNTH), COUNT(experts, 1, 65536),
     "routed experts in a layer"},
    {"hidden", 0, "N", ON(SYNTH), COUNT(hidden, 1, 1 << 20), "hidden size"},
    {"inter", 0, "N", ON(SYNTH), COUNT(inter, 1, 1 << 20),
     "intermediate size of an expert"},
    {"vocab", 0, "N", ON(SYNTH), COUNT(vocab, 1, 1 << 24),
     "tokens in the vocabulary"},
    {"seed", 0, "N", ON(SYNTH), COUNT(seed, 0, INT64_MAX),
     "seed of the weights (default: 0)"},
    {"shards", 0, "N", ON(SYNTH), COUNT(shards, 1, 99999),
     "weight files (default: as many as 5 GB each takes)"},
    {"sparse", 0, NULL, ON(SYNTH), FLAG(sparse),
     "write headers over holes; all weights read as zero"},
    {"tensors", 0, NULL, ON(PLAN) | ON(INSPECT), FLAG(tensors),
     "list every tensor, one line each"},
    {"threads", 0, "N", ON_WORK, COUNT(threads, 1, 1024),
     "threads (default: the CPUs this process may run on)"},
    {"memory", 0, "SIZE", ON_WORK, SIZE(memory_bytes),
     "hard budget for buffers (default: 256MiB)"},
    {"all", 0, NULL, ON(HELP), FLAG(all), "explain every command"},
    {"json", 0, NULL, ON_CHECKPOINT | ON(RULES), FLAG(json),
     "print one JSON document"},
    {"quiet", 'q', NULL, ON_CHECKPOINT, FLAG(quiet),
     "print errors only; the exit status tells the rest"},
    {"help", 'h', NULL, ON_ALL, FLAG(help),
     "explain the command and its options"},
    {"version", 'V', NULL, ON_ALL, FLAG(version), "print the version"},
};
#define OPTIONS_COUNT (sizeof options / sizeof options[0])

static const char *operand(const struct command *command, unsigned i)
{
    return i == 0 ? command->first : command->second;
}

/* ---- parsing ----------------------------------------------------------- */

typedef struct parser {
    int argc, next; /* next: the first word not yet looked at */
    char **argv;
    arguments *out;
    bool seen[OPTIONS_COUNT];
    char *problem;
} parser;

/* Writes the sentence and a hint behind it: the nearest name when there is
 * one (`dashes` go before it), else the help that explains. Always false. */
__attribute__((format(printf, 4, 5))) static bool refuse(
    parser *p, const char *dashes, const char *nearest, const char *format, ...)
{
    const char *command = p->out->command == COMMAND_HELP
                              ? NULL
                              : options_command_name(p->out->command);
    char sentence[PROBLEM_BYTES - 128];
    va_list list;
    va_start(list, format);
    /* clang-tidy 14 does not see va_start.
     * NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
    vsnprintf(sentence, sizeof sentence, format, list);
    va_end(list);
    if (nearest)
        snprintf(p->problem, PROBLEM_BYTES, "%s (did you mean '%s%s'?)",
                 sentence, dashes, nearest);
    else
        snprintf(p->problem, PROBLEM_BYTES, "%s (see 'fp8cast %s%s--help')",
                 sentence, command ? command : "", command ? " " : "");
    return false;
}

/* True when the command, if it is known yet, takes option i. */
static bool is_taken(const parser *p, size_t i)
{
    return p->out->command == COMMAND_NONE ||
           (options[i].takers & (1u << p->out->command)) != 0;
}

static bool find_command(parser *p, const char *word, command_id *command)
{
    value_nearest nearest;
    value_nearest_begin(&nearest, word);
    for (int i = 0; i < COMMAND_NONE; i++) {
        if (strcmp(word, commands[i].name) == 0) {
            *command = (command_id)i;
            return true;
        }
        value_nearest_offer(&nearest, commands[i].name);
    }
    return refuse(p, "", nearest.name, "unknown command '%.200s'", word);
}

static bool take_operand(parser *p, const char *word)
{
    arguments *out = p->out;
    if (out->command == COMMAND_NONE)
        return find_command(p, word, &out->command);
    const struct command *command = &commands[out->command];
    if (out->paths_count == command->most)
        return refuse(p, "", NULL, "%s: '%.200s' is one argument too many",
                      command->name, word);
    /* An unset variable in a script: "" would be read as this directory. */
    if (*word == '\0')
        return refuse(p, "", NULL, "%s: %s is empty", command->name,
                      operand(command, out->paths_count));
    out->paths[out->paths_count++] = word;
    return true;
}

/* A word that stands for a value of an enumeration. */
typedef struct named {
    const char *name;
    int value;
} named;

/* The value whose name is given; `known` lists all, for the refusal. */
static bool take_named(parser *p, const struct option *option,
                       const named *names, size_t count, const char *known,
                       const char *given, int *value)
{
    value_nearest nearest;
    value_nearest_begin(&nearest, given);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(given, names[i].name) == 0) {
            *value = names[i].value;
            return true;
        }
        value_nearest_offer(&nearest, names[i].name);
    }
    return refuse(p, "", nearest.name, "--%s: '%.200s' is not %s", option->name,
                  given, known);
}

enum { ENUM_NAMES = 3 }; /* of each */

/* Options that take one of a few names. */
static const struct enumeration {
    option_kind kind;
    const char *known;
    named names[ENUM_NAMES];
} enumerations[] = {
    {KIND_SCALE,
     "bf16, f32 or ue8m0",
     {{"bf16", F8_SCALE_BF16},
      {"f32", F8_SCALE_F32},
      {"ue8m0", F8_SCALE_UE8M0}}},
    {KIND_CHOICE,
     "amax, mse or pow2",
     {{"amax", F8_SCALES_AMAX},
      {"mse", F8_SCALES_MSE},
      {"pow2", F8_SCALES_POW2}}},
    {KIND_DTYPE,
     "bf16, f16 or f32",
     {{"bf16", F8_DTYPE_BF16}, {"f16", F8_DTYPE_F16}, {"f32", F8_DTYPE_F32}}},
    {KIND_FORMAT,
     "html, md or text",
     {{"text", REPORT_TEXT}, {"html", REPORT_HTML}, {"md", REPORT_MD}}},
};

/* The field is of an enumeration's type, which is as large as an int. */
_Static_assert(sizeof(f8_scale_dtype) == sizeof(int) &&
                   sizeof(f8_scales) == sizeof(int) &&
                   sizeof(f8_dtype) == sizeof(int) &&
                   sizeof(report_format) == sizeof(int),
               "enumerations are stored as int");

static bool take_enum(parser *p, const struct option *option, void *field,
                      const char *given)
{
    const struct enumeration *kind = enumerations;
    int value = 0;
    while (kind->kind != option->kind)
        kind++;
    if (!take_named(p, option, kind->names, ENUM_NAMES, kind->known, given,
                    &value))
        return false;
    memcpy(field, &value, sizeof value);
    return true;
}

/* vllm, or vllm:8 for eight devices. */
static bool take_engine(parser *p, const struct option *option,
                        const char *given)
{
    const char *colon = strchr(given, ':');
    size_t n = colon ? (size_t)(colon - given) : strlen(given);
    named names[F8_ENGINE_COUNT];
    char name[32];
    int value = 0;
    uint64_t devices = 1;
    for (int i = 0; i < F8_ENGINE_COUNT; i++)
        names[i] = (named){f8_engine_name((f8_engine)i), i};
    snprintf(name, sizeof name, "%.*s", (int)n, given);
    if (!take_named(p, option, names, F8_ENGINE_COUNT,
                    "vllm, sglang or transformers",
                    n < sizeof name ? name : given, &value))
        return false;
    if (colon && (!value_count(colon + 1, &devices) || devices == 0 ||
                  devices > F8_TP_MAX || (devices & (devices - 1)) != 0))
        return refuse(p, "", NULL,
                      "--%s: '%.200s' is not 1, 2, 4, 8, 16, 32 or 64 devices",
                      option->name, colon + 1);
    if (value == F8_TRANSFORMERS && devices > 1)
        return refuse(p, "", NULL,
                      "--%s: transformers divides nothing by itself",
                      option->name);
    if (p->out->engines[value] != 0)
        return refuse(p, "", NULL, "--%s: %s is given twice", option->name,
                      names[value].name);
    p->out->engines[value] = devices;
    return true;
}

static bool take_value(parser *p, const struct option *option,
                       const char *value)
{
    void *field = (char *)p->out + option->field;
    uint64_t number = 0;
    if (*value == '\0')
        return refuse(p, "", NULL, "--%s: %s is empty", option->name,
                      option->argument);
    switch (option->kind) {
    case KIND_FLAG: /* has no value, see take_option */
        break;
    case KIND_TEXT:
        *(const char **)field = value;
        break;
    case KIND_COUNT:
        if (!value_count(value, &number) || number < option->least ||
            number > option->most)
            return refuse(p, "", NULL,
                          "--%s: '%.200s' is not a whole number from %" PRIu64
                          " to %" PRIu64,
                          option->name, value, option->least, option->most);
        *(uint64_t *)field = number;
        break;
    case KIND_SIZE:
        if (!value_size(value, &number) || number == 0)
            return refuse(p, "", NULL,
                          "--%s: '%.200s' is not a size from 1 byte to 16 "
                          "EiB: " VALUE_SIZE_FORMS,
                          option->name, value);
        *(uint64_t *)field = number;
        break;
    case KIND_RATE:
        if (!value_rate(value, &number) || number == 0)
            return refuse(p, "", NULL,
                          "--%s: '%.200s' is not a rate such as 273GB/s",
                          option->name, value);
        *(uint64_t *)field = number;
        break;
    case KIND_KEEP:
    case KIND_QUANTIZE:
        p->out->overrides[p->out->overrides_count++] =
            (f8_override){value, option->kind == KIND_QUANTIZE};
        break;
    case KIND_SCALE:
    case KIND_CHOICE:
    case KIND_DTYPE:
    case KIND_FORMAT:
        return take_enum(p, option, field, value);
    case KIND_ENGINE:
        return take_engine(p, option, value);
    case KIND_HUB_ID:
        if (!value_hub_id(value))
            return refuse(p, "", NULL,
                          "--%s: '%.200s' is not OWNER/NAME, as a hub has it",
                          option->name, value);
        *(const char **)field = value;
        break;
    }
    return true;
}

/* Option i stands in the command line; `value` is what follows its `=`. */
static bool take_option(parser *p, size_t i, const char *value)
{
    const struct option *option = &options[i];
    bool is_repeatable = option->kind == KIND_KEEP ||
                         option->kind == KIND_QUANTIZE ||
                         option->kind == KIND_ENGINE;
    /* Neither the first nor the last of two can be right for everyone. */
    if (p->seen[i] && !is_repeatable)
        return refuse(p, "", NULL, "option '--%s' is given twice",
                      option->name);
    p->seen[i] = true;
    if (option->kind == KIND_FLAG) {
        if (value)
            return refuse(p, "", NULL, "option '--%s' takes no value",
                          option->name);
        *(bool *)((char *)p->out + option->field) = true;
        return true;
    }
    /* `--rules --json` forgot something; `--rules=--json` says it is meant. */
    if (!value && p->next < p->argc && strncmp(p->argv[p->next], "--", 2) != 0)
        value = p->argv[p->next++];
    if (!value)
        return refuse(p, "", NULL, "option '--%s' needs a value: --%s %s",
                      option->name, option->name, option->argument);
    return take_value(p, option, value);
}

static bool take_short(parser *p, const char *word)
{
    value_nearest nearest;
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        if (options[i].twin != 0 && word[1] == options[i].twin && !word[2])
            return take_option(p, i, NULL);
    }
    /* -threads is a long option with a dash missing. */
    value_nearest_begin(&nearest, word + 1);
    for (size_t i = 0; i < OPTIONS_COUNT && word[2] != '\0'; i++) {
        if (is_taken(p, i))
            value_nearest_offer(&nearest, options[i].name);
    }
    return refuse(p, "--", nearest.name, "unknown option '%.200s'", word);
}

static bool take_long(parser *p, const char *word)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    char copy[256];
    value_nearest nearest;
    snprintf(copy, sizeof copy, "%.*s",
             equals ? (int)(equals - name) : (int)sizeof copy - 1, name);
    value_nearest_begin(&nearest, copy);
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        if (strcmp(copy, options[i].name) == 0)
            return take_option(p, i, equals ? equals + 1 : NULL);
        if (is_taken(p, i))
            value_nearest_offer(&nearest, options[i].name);
    }
    return refuse(p, "--", nearest.name, "unknown option '--%s'", copy);
}

/* `help COMMAND`, `COMMAND --help` and `--help` become the same thing. */
static bool check_help(parser *p)
{
    arguments *out = p->out;
    command_id topic = COMMAND_NONE;
    if (out->help)
        topic = out->command;
    else if (out->paths_count > 0 && !find_command(p, out->paths[0], &topic))
        return false;
    out->command = COMMAND_HELP;
    out->topic = topic;
    return true;
}

/* plan takes the options of both ways, but not together. */
static bool check_direction(parser *p)
{
    bool back = p->out->dequantize;
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        unsigned ways = options[i].takers & (ON(QUANTIZE) | ON(DEQUANTIZE));
        bool is_forth = ways == ON(QUANTIZE) || options[i].kind == KIND_ENGINE;
        if (p->seen[i] && back && is_forth)
            return refuse(p, "", NULL,
                          "plan: option '--%s' does not go with "
                          "'--dequantize'",
                          options[i].name);
        if (p->seen[i] && !back && ways == ON(DEQUANTIZE))
            return refuse(p, "", NULL,
                          "plan: option '--%s' goes with '--dequantize' only",
                          options[i].name);
    }
    return true;
}

/* The format of a report that is not given is told by the name of its file, in
 * capitals too; a name without an ending tells nothing, and an unknown ending
 * may mean anything. */
static bool choose_format(parser *p)
{
    static const struct {
        const char *ending;
        report_format format;
    } endings[] = {{".html", REPORT_HTML},
                   {".htm", REPORT_HTML},
                   {".md", REPORT_MD},
                   {".txt", REPORT_TEXT}};
    arguments *out = p->out;
    const char *name = out->output ? strrchr(out->output, '/') : NULL;
    if (out->format != REPORT_DEFAULT)
        return true;
    out->format = REPORT_TEXT;
    name = name ? name + 1 : out->output;
    const char *ending = name ? strrchr(name, '.') : NULL;
    if (!ending || ending == name || strcmp(name, "..") == 0)
        return true;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        if (strcasecmp(ending, endings[i].ending) == 0) {
            out->format = endings[i].format;
            return true;
        }
    }
    return refuse(p, "", NULL,
                  "--output: the ending of '%.200s' names no format: expected "
                  ".html, .htm, .md or .txt, or '--format'",
                  out->output);
}

/* Looks at the command line as a whole, once all its words are known. */
static bool check_arguments(parser *p)
{
    arguments *out = p->out;
    if (out->help)
        return check_help(p);
    if (out->version)
        return true;
    if (out->command == COMMAND_NONE)
        return refuse(p, "", NULL, "no command is given");
    const struct command *command = &commands[out->command];
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        if (p->seen[i] && !is_taken(p, i))
            return refuse(p, "", NULL, "%s takes no option '--%s'",
                          command->name, options[i].name);
    }
    if (out->paths_count < command->least)
        return refuse(p, "", NULL, "%s: %s is missing", command->name,
                      operand(command, out->paths_count));
    if (out->scales == F8_SCALES_MSE && out->scale_dtype == F8_SCALE_UE8M0)
        return refuse(p, "", NULL,
                      "--scales mse: ue8m0 holds powers of two only");
    if (out->verify && out->requantize)
        return refuse(p, "", NULL,
                      "--verify: reads a source that is not quantized, so it "
                      "does not go with '--requantize'");
    if (out->command == COMMAND_PLAN && !check_direction(p))
        return false;
    if (out->command == COMMAND_REPORT && !choose_format(p))
        return false;
    if (out->command == COMMAND_PLAN && out->overwrite && out->paths_count < 2)
        return refuse(p, "", NULL,
                      "plan: option '--overwrite' goes with DST only");
    if ((out->command == COMMAND_DEQUANTIZE || out->dequantize) && out->rules &&
        !out->fuse)
        return refuse(p, "", NULL,
                      "%s: option '--rules' goes with '--fuse' only: without "
                      "it no rules are needed",
                      command->name);
    return out->command != COMMAND_HELP || check_help(p);
}

bool options_parse(int argc, char **argv, arguments *out,
                   char problem[PROBLEM_BYTES])
{
    parser p = {.argc = argc, .next = 1, .argv = argv, .out = out};
    bool is_over = false; /* `--` was seen: only operands follow */
    p.problem = problem;
    *out = (arguments){.command = COMMAND_NONE, .topic = COMMAND_NONE};
    out->overrides = calloc((size_t)argc + 1, sizeof *out->overrides);
    if (!out->overrides)
        message_no_memory(); /* no fault of the command line */
    while (p.next < argc) {
        const char *word = argv[p.next++];
        bool is_fine = true;
        if (!is_over && strcmp(word, "--") == 0)
            is_over = true;
        else if (is_over || word[0] != '-' || word[1] == '\0')
            is_fine = take_operand(&p, word);
        else if (word[1] == '-')
            is_fine = take_long(&p, word);
        else
            is_fine = take_short(&p, word);
        if (!is_fine)
            return false;
    }
    return check_arguments(&p);
}

void arguments_free(arguments *given)
{
    free(given->overrides);
    given->overrides = NULL;
}

const char *options_command_name(command_id command)
{
    return command == COMMAND_NONE ? NULL : commands[command].name;
}

/* ---- help -------------------------------------------------------------- */

#define HELP_INDENT                                          \
    23 /* column of the explanations, with two blanks before \
        */

/* "quantize SRC DST", "plan SRC [DST]". */
static void command_line(const struct command *command, char line[64])
{
    int used = snprintf(line, 64, "%s", command->name);
    for (unsigned i = 0; i < command->most; i++)
        used +=
            snprintf(line + used, 64 - (size_t)used,
                     i < command->least ? " %s" : " [%s]", operand(command, i));
}

static void write_commands(FILE *out)
{
    char line[64];
    fputs("usage: fp8cast COMMAND [OPTION]...\n\ncommands\n", out);
    for (int i = 0; i < COMMAND_NONE; i++) {
        command_line(&commands[i], line);
        fprintf(out, "  %-*s%s\n", HELP_INDENT - 2, line, commands[i].help);
    }
}

static void write_option(FILE *out, const struct option *option)
{
    char line[64], twin[8] = "";
    if (option->twin != 0)
        snprintf(twin, sizeof twin, "-%c, ", option->twin);
    snprintf(line, sizeof line, "%s--%s%s%s", twin, option->name,
             option->argument ? " " : "",
             option->argument ? option->argument : "");
    fprintf(out, "  %-*s%s\n", HELP_INDENT - 2, line, option->help);
}

static void write_command(FILE *out, command_id id)
{
    char line[64];
    command_line(&commands[id], line);
    fprintf(out, "usage: fp8cast %s [OPTION]...\n\n%s\n", line,
            commands[id].help);
    if (*commands[id].about)
        fprintf(out, "\n%s", commands[id].about);
    fputs("\noptions\n", out);
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        if (options[i].takers & (1u << id))
            write_option(out, &options[i]);
    }
}

/* Which of the three texts to write into memory. */
typedef enum help_part { HELP_USAGE, HELP_ONE, HELP_ALL } help_part;

static char *help_text(help_part part, command_id command)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return NULL;
    if (part == HELP_ONE && command != COMMAND_NONE) {
        write_command(out, command);
    } else {
        if (part != HELP_USAGE)
            fputs("fp8cast - turns BF16 safetensors checkpoints into FP8 "
                  "blockwise ones\n\n",
                  out);
        write_commands(out);
        if (part != HELP_USAGE)
            fputs("\nexit status\n  0 done, 1 failed, 2 usage, "
                  "3 verification mismatch or difference\n",
                  out);
        if (part != HELP_ALL)
            fputs("\n'fp8cast help COMMAND' explains one command, "
                  "'fp8cast help --all' all of them.\n",
                  out);
    }
    for (int i = 0; part == HELP_ALL && i < COMMAND_NONE; i++) {
        fputs("\n\n", out);
        write_command(out, (command_id)i);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

char *options_usage(void)
{
    return help_text(HELP_USAGE, COMMAND_NONE);
}

char *options_help(command_id command)
{
    return help_text(HELP_ONE, command);
}

char *options_help_all(void)
{
    return help_text(HELP_ALL, COMMAND_NONE);
}
