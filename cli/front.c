/* front.c - see front.h. The source's card is a document in memory, from which
 * single strings and lists of strings are copied; anything deeper is left
 * alone, so that aliases and nesting cost nothing. */
#include "front.h"
#include "message.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* Longer ones are no names of a licence, language or tag. */
#define ITEMS_MAX 100
#define ITEM_BYTES_MAX 1024

#define STRING_TAG ((const yaml_char_t *)YAML_STR_TAG)

typedef struct writer {
    yaml_emitter_t emitter;
    yaml_document_t card; /* the source's          */
    yaml_node_t *root;    /* a mapping in it, or NULL */
} writer;

/* ---- writing ---------------------------------------------------------------
 */

static void emit(writer *w, yaml_event_t *event)
{
    /* Nothing but memory can fail: the events are in order, and the stream is
     * memory too. */
    if (!yaml_emitter_emit(&w->emitter, event))
        message_no_memory();
}

static void checked(int is_made)
{
    if (!is_made)
        message_no_memory();
}

/* Words that every reader of YAML, 1.1 or 1.2, takes for the string that they
 * are. Everything else is quoted. */
static bool is_plain(const char *text)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char others[] = "abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789._/-";
    static const char *const taken[] = {"y",   "n",    "yes",   "no",  "on",
                                        "off", "true", "false", "null"};
    if (!*text || !strchr(first, *text) || text[strspn(text, others)] != '\0')
        return false;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        if (strcasecmp(text, taken[i]) == 0)
            return false;
    }
    return true;
}

static void emit_string(writer *w, const char *text)
{
    yaml_event_t event;
    bool plain = is_plain(text);
    checked(yaml_scalar_event_initialize(
        &event, NULL, STRING_TAG, (const yaml_char_t *)text, (int)strlen(text),
        plain, true,
        plain ? YAML_PLAIN_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE));
    emit(w, &event);
}

static void emit_pair(writer *w, const char *key, const char *value)
{
    emit_string(w, key);
    emit_string(w, value);
}

static void begin_list(writer *w)
{
    yaml_event_t event;
    checked(yaml_sequence_start_event_initialize(&event, NULL, NULL, true,
                                                 YAML_BLOCK_SEQUENCE_STYLE));
    emit(w, &event);
}

static void end_list(writer *w)
{
    yaml_event_t event;
    checked(yaml_sequence_end_event_initialize(&event));
    emit(w, &event);
}

/* ---- the source's card -----------------------------------------------------
 */

/* The node's string; NULL when it is none, or none worth keeping. */
static const char *string_of(const yaml_node_t *node)
{
    if (!node || node->type != YAML_SCALAR_NODE)
        return NULL;
    const char *text = (const char *)node->data.scalar.value;
    size_t length = node->data.scalar.length;
    bool is_null = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                   (strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0);
    return length == 0 || length > ITEM_BYTES_MAX || strlen(text) != length ||
                   is_null
               ? NULL
               : text;
}

static yaml_node_t *value_of(writer *w, const char *key)
{
    if (!w->root)
        return NULL;
    for (yaml_node_pair_t *pair = w->root->data.mapping.pairs.start;
         pair < w->root->data.mapping.pairs.top; pair++) {
        const char *name =
            string_of(yaml_document_get_node(&w->card, pair->key));
        if (name && strcmp(name, key) == 0)
            return yaml_document_get_node(&w->card, pair->value);
    }
    return NULL;
}

/* String i of a list, or the only one. *is_end when there is no more. */
static const char *item_of(writer *w, const yaml_node_t *node, size_t i,
                           bool *is_end)
{
    *is_end = true;
    if (!node || i >= ITEMS_MAX)
        return NULL;
    if (node->type == YAML_SCALAR_NODE && i == 0) {
        *is_end = false;
        return string_of(node);
    }
    if (node->type != YAML_SEQUENCE_NODE)
        return NULL;
    const yaml_node_item_t *item = node->data.sequence.items.start + i;
    if (item >= node->data.sequence.items.top)
        return NULL;
    *is_end = false;
    return string_of(yaml_document_get_node(&w->card, *item));
}

/* The member as it is there: a string, or a list of strings. */
static void carry(writer *w, const char *key)
{
    const yaml_node_t *node = value_of(w, key);
    const char *text = string_of(node);
    bool is_end = false, is_begun = false;
    if (text) {
        emit_pair(w, key, text);
        return;
    }
    for (size_t i = 0; !is_end; i++) {
        text = item_of(w, node, i, &is_end);
        if (!text)
            continue;
        if (!is_begun) {
            emit_string(w, key);
            begin_list(w);
        }
        is_begun = true;
        emit_string(w, text);
    }
    if (is_begun)
        end_list(w);
}

/* "fp8", and the source's own. */
static void write_tags(writer *w)
{
    static const char own[] = "fp8";
    const yaml_node_t *node = value_of(w, "tags");
    bool is_end = false;
    emit_string(w, "tags");
    begin_list(w);
    emit_string(w, own);
    for (size_t i = 0; !is_end; i++) {
        const char *tag = item_of(w, node, i, &is_end);
        if (tag && strcmp(tag, own) != 0)
            emit_string(w, tag);
    }
    end_list(w);
}

static void write_members(writer *w, const char *base_model)
{
    static const char *const carried[] = {"license",      "license_name",
                                          "license_link", "language",
                                          "library_name", "pipeline_tag"};
    if (base_model) {
        emit_pair(w, "base_model", base_model);
        emit_pair(w, "base_model_relation", "quantized");
    }
    for (size_t i = 0; i < sizeof carried / sizeof *carried; i++)
        carry(w, carried[i]);
    write_tags(w);
}

/* ---- the whole -------------------------------------------------------------
 */

static bool read_card(writer *w, const char *card, char *problem)
{
    yaml_parser_t parser;
    checked(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)card,
                                 strlen(card));
    bool is_read = yaml_parser_load(&parser, &w->card);
    if (!is_read && parser.error == YAML_MEMORY_ERROR)
        message_no_memory();
    if (!is_read)
        snprintf(problem, PROBLEM_BYTES, "line %zu: %s",
                 parser.problem_mark.line + 1,
                 parser.problem ? parser.problem : "no YAML");
    yaml_parser_delete(&parser);
    if (!is_read)
        return false;
    yaml_node_t *root = yaml_document_get_root_node(&w->card);
    if (root && root->type == YAML_MAPPING_NODE)
        w->root = root;
    return true;
}

static int to_file(void *user, unsigned char *bytes, size_t count)
{
    return fwrite(bytes, 1, count, user) == count;
}

static void begin(writer *w, FILE *out)
{
    yaml_event_t event;
    checked(yaml_emitter_initialize(&w->emitter));
    yaml_emitter_set_output(&w->emitter, to_file, out);
    yaml_emitter_set_width(&w->emitter, -1);
    /* ASCII, so that nothing can be hidden in it. */
    yaml_emitter_set_unicode(&w->emitter, false);
    checked(yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
    emit(w, &event);
    checked(
        yaml_document_start_event_initialize(&event, NULL, NULL, NULL, true));
    emit(w, &event);
    checked(yaml_mapping_start_event_initialize(&event, NULL, NULL, true,
                                                YAML_BLOCK_MAPPING_STYLE));
    emit(w, &event);
}

static void end(writer *w)
{
    yaml_event_t event;
    checked(yaml_mapping_end_event_initialize(&event));
    emit(w, &event);
    checked(yaml_document_end_event_initialize(&event, true));
    emit(w, &event);
    checked(yaml_stream_end_event_initialize(&event));
    emit(w, &event);
    yaml_emitter_delete(&w->emitter);
}

bool front_write(FILE *out, const char *card, const char *base_model,
                 char problem[PROBLEM_BYTES])
{
    writer w = {.root = NULL};
    if (card && !read_card(&w, card, problem))
        return false;
    fputs("---\n", out);
    begin(&w, out);
    write_members(&w, base_model);
    end(&w);
    fputs("---\n", out);
    if (card)
        yaml_document_delete(&w.card);
    return true;
}
