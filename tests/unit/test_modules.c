/* test_modules.c - module names, how loaders read an entry of
 * modules_to_not_convert, and the list itself: docs/format.md, section 5. The
 * loaders' readings were seen by running them (the project's notes on
 * checkpoint formats, section 3). */
#include "helpers.h"

#include "modules.h"
#include "reach.h"

/* ---- names --------------------------------------------------------------- */

static void expect_module(const char *tensor, const char *module,
                          const char *full)
{
    size_t n = f8_module_length(tensor), m = f8_module_full_length(tensor);

    if (n != strlen(module) || strncmp(tensor, module, n) != 0)
        fail_msg("%s: module %.*s, expected %s", tensor, (int)n, tensor,
                 module);
    if (m != strlen(full) || strncmp(tensor, full, m) != 0)
        fail_msg("%s: full name %.*s, expected %s", tensor, (int)m, tensor,
                 full);
}

static void test_module_names(void **state)
{
    (void)state;
    expect_module("lm_head.weight", "lm_head", "lm_head");
    expect_module("m.visual.blocks.3.attn.qkv.bias",
                  "m.visual.blocks.3.attn.qkv", "m.visual.blocks.3.attn.qkv");
    expect_module("m.layers.0.linear_attn.A_log",
                  "m.layers.0.linear_attn.A_log",
                  "m.layers.0.linear_attn.A_log");
    expect_module("m.layers.0.linear_attn.dt_bias",
                  "m.layers.0.linear_attn.dt_bias",
                  "m.layers.0.linear_attn.dt_bias");
    /* The end must be a component of its own, and stand at the end. */
    expect_module("a.dweight", "a.dweight", "a.dweight");
    expect_module("weight", "weight", "weight");
    expect_module("a.weight.x", "a.weight.x", "a.weight.x");
    expect_module("a.weight_scale_inv", "a.weight_scale_inv",
                  "a.weight_scale_inv");
    /* One end only. */
    expect_module("a.bias.weight", "a.bias", "a.bias");
}

static void test_module_names_of_experts(void **state)
{
    (void)state;
    expect_module("m.layers.3.mlp.experts.12.gate_proj.weight",
                  "m.layers.3.mlp.experts",
                  "m.layers.3.mlp.experts.12.gate_proj");
    expect_module("m.mlp.experts.0.down_proj.bias", "m.mlp.experts",
                  "m.mlp.experts.0.down_proj");
    /* Experts in one tensor have no number. */
    expect_module("m.mlp.experts.gate_up_proj", "m.mlp.experts.gate_up_proj",
                  "m.mlp.experts.gate_up_proj");
    /* Another component. */
    expect_module("m.mlp.shared_experts.0.up_proj.weight",
                  "m.mlp.shared_experts.0.up_proj",
                  "m.mlp.shared_experts.0.up_proj");
    expect_module("m.mlp.experts_x.0.w.weight", "m.mlp.experts_x.0.w",
                  "m.mlp.experts_x.0.w");
}

/* "of a name with a component `experts` followed by a number": wherever that
 * component stands, and only before a number. */
static void test_experts_component_anywhere(void **state)
{
    (void)state;
    expect_module("experts.0.down_proj.weight", "experts",
                  "experts.0.down_proj");
    expect_module("m.experts.a.experts.7.w.weight", "m.experts.a.experts",
                  "m.experts.a.experts.7.w");
    expect_module("m.experts.0th.w.weight", "m.experts.0th.w",
                  "m.experts.0th.w");
}

static void expect_kind(const char *tensor, const char *expected)
{
    char kind[64];

    f8_module_kind(tensor, kind, sizeof kind);
    if (strcmp(kind, expected) != 0)
        fail_msg("%s: kind '%s', expected '%s'", tensor, kind, expected);
}

static void test_kinds(void **state)
{
    char kind[8];

    (void)state;
    expect_kind("model.language_model.layers.3.self_attn.q_proj.weight",
                "self_attn.q_proj");
    expect_kind("model.layers.3.mlp.experts.255.gate_proj.weight",
                "experts.gate_proj");
    expect_kind("mtp.layers.0.mlp.shared_expert.up_proj.weight",
                "mlp.shared_expert.up_proj");
    expect_kind("lm_head.weight", "lm_head");
    expect_kind("model.layers.10.linear_attn.A_log", "linear_attn.A_log");
    /* A component with digits in it is no number. */
    expect_kind("model.visual.blocks.2.mlp.linear_fc1.weight",
                "mlp.linear_fc1");
    expect_kind("a.w1.weight", "a.w1");
    /* Cut to fit, terminated. */
    f8_module_kind("m.0.self_attn.q_proj.weight", kind, sizeof kind);
    assert_string_equal(kind, "self_at");
}

static void expect_layer(const char *tensor, const char *expected)
{
    size_t n = f8_module_layer_length(tensor);

    if (n != strlen(expected) || strncmp(tensor, expected, n) != 0)
        fail_msg("%s: layer '%.*s', expected '%s'", tensor, (int)n, tensor,
                 expected);
}

static void test_layers(void **state)
{
    (void)state;
    expect_layer("model.language_model.layers.31.self_attn.q_proj.weight",
                 "model.language_model.layers.31");
    expect_layer("mtp.layers.0.mlp.experts.7.up_proj.weight", "mtp.layers.0");
    expect_layer("model.visual.blocks.2.mlp.linear_fc1.weight",
                 "model.visual.blocks.2");
    expect_layer("layers.5.w", "layers.5");
    expect_layer("layers.5", "layers.5");
    /* The first number behind such a word. */
    expect_layer("a.layers.1.blocks.2.w", "a.layers.1");
    expect_layer("a.layers.blocks.2.w", "a.layers.blocks.2");
    expect_layer("a.layers.x.2.w", "");
    expect_layer("a.layer.2.w", "");
    expect_layer("a.2.w", "");
    expect_layer("a.my_layers.2.w", "");
    expect_layer("a.layers.2x.w", "");
    expect_layer("lm_head.weight", "");
    expect_layer("layers.", "");
    expect_layer("", "");
}

/* ---- how an entry is read ------------------------------------------------ */

/* What an entry reaches of these modules, or NULL. */
static const char *hit_of(const f8_modules *modules, const char *entry)
{
    f8_error err = {0};
    const char *hit = NULL;

    expect_ok(f8_reach_find(modules, &entry, 1, &hit, NULL, &err), &err);
    return hit;
}

/* Of a module that is quantised and alone. */
static bool is_reached(const char *entry, const char *module)
{
    f8_modules modules;

    f8_modules_init(&modules);
    assert_int_equal(
        json_object_set_new(modules.quantised, module, json_true()), 0);
    const char *hit = hit_of(&modules, entry);
    if (hit)
        assert_string_equal(hit, module);
    f8_modules_free(&modules);
    return hit != NULL;
}

static void test_captured(void **state)
{
    static const struct {
        const char *entry, *module;
        bool captured;
    } cases[] = {
        /* Every loader: the same name. */
        {"m.layers.0.mlp.up_proj", "m.layers.0.mlp.up_proj", true},
        {"m.layers.0.mlp.up_proj", "m.layers.1.mlp.up_proj", false},
        {"m.layers.0.mlp.up_proj", "m.layers.0.mlp.down_proj", false},
        {"lm_head", "m.layers.0.mlp.down_proj", false},
        /* transformers, re.match: at the start, without a boundary. */
        {"m.layers.0.mlp.gate", "m.layers.0.mlp.gate_proj", true},
        {"m.layers.0.mlp.gate_proj", "m.layers.0.mlp.gate", false},
        {"m.layers.1", "m.layers.10.mlp.up_proj", true},
        {"m.layers.0.linear_attn.in_proj_b",
         "m.layers.0.linear_attn.in_proj_ba", true},
        {"m.layers.0.linear_attn.in_proj_a",
         "m.layers.0.linear_attn.in_proj_qkv", false},
        /* ... where a dot stands for any character. */
        {"m.gate", "m_gate_proj", true},
        {"m.gate", "mgate_proj", false},
        /* transformers, endswith: at the end, without a boundary. */
        {"q_proj", "m.layers.0.self_attn.q_proj", true},
        {"proj", "m.layers.0.self_attn.q_proj", true},
        {"norm", "m.layers.0.self_attn.q_norm", true},
        {"q_proj", "m.layers.0.self_attn.q_proj.x_y", true}, /* dots, below */
        /* SGLang: between dots. */
        {"mtp", "mtp.layers.0.mlp.experts", true},
        {"mtp", "model.mtp.layers.0.mlp.experts", true},
        {"tp", "model.mtp.layers.0.mlp.experts", false},
        {"mt", "model.mtp.layers.0.mlp.experts", false},
        {"mlp", "m.layers.0.mlp.experts", true},
        {"norm", "m.norms.0.mlp.experts", false},
        {"layers.0", "m.layers.01.x", false},
        {"layers.0", "m.layers.0.x", true},
        /* The first place fails, a later one holds. */
        {"x.a", "m.x.ab.x.a.z", true},
        /* SGLang: also without a leading "model.". */
        {"model.visual", "vl.visual.blocks", true},
        {"model.layers.0.up", "lm.layers.0.up.x", true},
        {"model.visual", "vl.visuals.blocks", false},
        {"model.visual", "vl.revisual.blocks", false},
        {"models.visual", "vl.visual.blocks", false},
        /* An entry longer than the module. */
        {"a.b.c", "a.b", false},
        {"model.a.b", "a.b", true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (is_reached(cases[i].entry, cases[i].module) != cases[i].captured)
            fail_msg("entry %s, module %s: expected %s", cases[i].entry,
                     cases[i].module,
                     cases[i].captured ? "captured" : "not captured");
    }
}

/* "model." leaves nothing behind its prefix. */
static void test_captured_by_nothing_but_a_prefix(void **state)
{
    (void)state;
    assert_false(is_reached("model.", "vl.blocks"));
    assert_false(is_reached("model.", "vl.model"));
    assert_true(is_reached("model.", "models.x")); /* any character */
}

/* ---- many entries and many modules ----------------------------------------
 */

/* docs/format.md, section 5, word for word, for one entry and one module: the
 * module begins with it, `.` standing for any character; ends with it; or has
 * it between dots, with a leading `model.` of it or without. */
static bool has_between_dots(const char *module, const char *entry)
{
    char within[128], sought[128];

    snprintf(within, sizeof within, ".%s.", module);
    snprintf(sought, sizeof sought, ".%s.", entry);
    return *entry && strstr(within, sought);
}

static bool is_taken_for(const char *entry, const char *module)
{
    size_t n = strlen(entry), m = strlen(module), same = 0;

    while (same < n && same < m &&
           (entry[same] == '.' || entry[same] == module[same]))
        same++;
    return same == n || (n <= m && !strcmp(module + m - n, entry)) ||
           has_between_dots(module, entry) ||
           (!strncmp(entry, "model.", 6) &&
            has_between_dots(module, entry + 6));
}

/* And of the module of a layer's experts: the entry names one of them, or has
 * their name in it. */
static bool names_its_experts(const char *entry, const char *module)
{
    char one[128];
    size_t m = strlen(module);

    bool are_experts = m >= 7 && !strcmp(module + m - 7, "experts") &&
                       (m == 7 || module[m - 8] == '.');

    for (int i = 0; are_experts && i < 10; i++) {
        size_t n = (size_t)snprintf(one, sizeof one, "%s.%d", module, i);
        if (!strncmp(entry, one, n) && (!entry[n] || entry[n] == '.'))
            return true;
    }
    return m > 8 && !strcmp(module + m - 8, ".experts") &&
           strstr(entry, module) != NULL;
}

static const char *hit_by_reading(const f8_modules *modules, const char *entry)
{
    const char *module;
    json_t *state;

    json_object_foreach(modules->quantised, module, state)
    {
        if (is_taken_for(entry, module) || names_its_experts(entry, module))
            return module;
    }
    json_object_foreach(modules->siblings, module, state)
    {
        if (json_integer_value(state) == 2 && is_taken_for(entry, module))
            return module;
    }
    return NULL;
}

/* A name of a few pieces, so alike that many reach others. */
static void make_name(uint64_t *random, char *name, size_t size)
{
    static const char *const pieces[] = {
        "a",         "b",         "ab",      ".",         ".", "model.",
        "a.experts", ".experts.", "experts", "experts.1", ".1"};
    size_t n = 0;

    *name = '\0';
    do {
        *random = *random * UINT64_C(6364136223846793005) + 1;
        n += (size_t)snprintf(name + n, size - n, "%s",
                              pieces[(*random >> 33) % COUNT_OF(pieces)]);
    } while (*random >> 62 && n + 16 < size);
}

enum { NAME_SIZE = 64, MANY_ENTRIES = 600 };

/* One round: so many modules, of which some are fused names. */
static uint64_t hold_against_reading(size_t modules_count, uint64_t random)
{
    static char texts[MANY_ENTRIES][NAME_SIZE];
    const char *entries[MANY_ENTRIES], *hits[MANY_ENTRIES];
    char name[NAME_SIZE];
    f8_error err = {0};
    f8_modules modules;

    f8_modules_init(&modules);
    for (size_t i = 0; i < modules_count; i++) {
        make_name(&random, name, sizeof name);
        json_object_set_new(i % 4 ? modules.quantised : modules.siblings, name,
                            json_integer(1 + (json_int_t)(i % 3)));
    }
    for (size_t i = 0; i < MANY_ENTRIES; i++) {
        make_name(&random, texts[i], sizeof texts[i]);
        entries[i] = i % 50 == 49 ? NULL : texts[i];
    }
    expect_ok(f8_reach_find(&modules, entries, MANY_ENTRIES, hits, NULL, &err),
              &err);
    for (size_t i = 0; i < MANY_ENTRIES; i++) {
        const char *wanted =
            entries[i] ? hit_by_reading(&modules, entries[i]) : NULL;
        if (hits[i] != wanted)
            fail_msg("entry %s: expected %s, found %s", entries[i],
                     wanted ? wanted : "none", hits[i] ? hits[i] : "none");
    }
    f8_modules_free(&modules);
    return random;
}

static void test_many_entries(void **state)
{
    uint64_t random = 1;

    (void)state;
    for (size_t round = 0; round < 60; round++)
        random = hold_against_reading(round, random);
    /* More than one set of modules holds. */
    random = hold_against_reading(1500, random);
    random = hold_against_reading(2200, random);
}

/* Names of a hundred pieces and more: each piece a start and an end, of one
 * module, of many, and of the entries. */
static const char *repeat(char *text, const char *front, const char *piece,
                          size_t times, const char *behind)
{
    size_t n = strlen(strcpy(text, front));

    for (size_t i = 0; i < times; i++)
        n += strlen(strcpy(text + n, piece));
    strcpy(text + n, behind);
    return text;
}

/* The entries reach what is said, or nothing. */
static void expect_found(const f8_modules *modules, const char *const *entries,
                         size_t count, const char *const *wanted)
{
    const char **hits = malloc(count * sizeof *hits);
    f8_error err = {0};

    assert_non_null(hits);
    expect_ok(f8_reach_find(modules, entries, count, hits, NULL, &err), &err);
    for (size_t i = 0; i < count; i++) {
        if (!wanted[i])
            assert_null(hits[i]);
        else
            assert_string_equal(hits[i], wanted[i]);
    }
    free(hits);
}

static void test_names_of_many_pieces(void **state)
{
    enum { MODULES = 1100, PIECES = 230, SIZE = 512 };
    char name[SIZE], first[SIZE], none[SIZE], some[SIZE], number[16];
    const char *const entries[] = {none, some};
    const char *const wanted[] = {NULL, first};
    f8_modules modules;

    (void)state;
    f8_modules_init(&modules);
    for (int i = 0; i < MODULES; i++) {
        snprintf(number, sizeof number, "q%d", i);
        json_object_set_new(modules.quantised,
                            repeat(name, "vision_tower.", "a.", PIECES, number),
                            json_true());
    }
    repeat(first, "vision_tower.", "a.", PIECES, "q0");
    repeat(none, "", "a.", PIECES, "b");
    repeat(some, "model.", "a.", PIECES / 2, "a");
    expect_found(&modules, entries, 2, wanted);
    f8_modules_free(&modules);
}

/* An entry full of experts, and modules of experts in all lengths. */
static void test_entries_of_many_experts(void **state)
{
    enum { LENGTHS = 460, EACH = 3, SIZE = 512, TIMES = 3000 };
    char name[SIZE], front[16];
    char *entry = malloc((size_t)TIMES * 8 + 16);
    const char *const entries[] = {entry};
    const char *wanted[] = {NULL};
    f8_modules modules;

    (void)state;
    assert_non_null(entry);
    repeat(entry, "", ".experts", TIMES, "");
    f8_modules_init(&modules);
    for (int i = 0; i < LENGTHS * EACH; i++) {
        snprintf(front, sizeof front, "%d%.*s", i / LENGTHS, 1 + i % 8,
                 "xxxxxxxx");
        json_object_set_new(
            modules.quantised,
            repeat(name, front, ".experts", 1 + (size_t)(i % LENGTHS) / 8, ""),
            json_true());
    }
    expect_found(&modules, entries, 1, wanted);
    /* Of those that are in it the first counts, however short or long. */
    static const size_t pieces[] = {5, 2, 9};
    for (size_t i = 0; i < COUNT_OF(pieces); i++)
        json_object_set_new(modules.quantised,
                            repeat(name, "", ".experts", pieces[i], ""),
                            json_true());
    wanted[0] = repeat(name, "", ".experts", pieces[0], "");
    expect_found(&modules, entries, 1, wanted);
    f8_modules_free(&modules);
    free(entry);
}

/* Entries that are alike nearly to the end, and of which the last reaches. */
static void test_entries_alike(void **state)
{
    enum { MODULES = 1500, ENTRIES = 4000, SIZE = 48 };
    f8_error err = {0};
    f8_modules modules;
    char name[SIZE];
    char(*texts)[SIZE] = malloc((size_t)ENTRIES * SIZE);
    const char **entries = malloc(ENTRIES * sizeof *entries);
    const char **hits = malloc(ENTRIES * sizeof *hits);

    (void)state;
    assert_true(texts && entries && hits);
    f8_modules_init(&modules);
    for (int i = 0; i < MODULES; i++) {
        snprintf(name, sizeof name, "model.layers.%d.mlp.up_proj", i);
        json_object_set_new(modules.quantised, name, json_true());
    }
    /* All that the third reading has to follow nearly to the end. */
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(texts[i], SIZE, "model.layers.%d.mlp.up......%d", i % MODULES,
                 i);
        entries[i] = texts[i];
    }
    snprintf(texts[ENTRIES - 1], SIZE, "model.layers.17.mlp.up");
    expect_ok(f8_reach_find(&modules, entries, ENTRIES, hits, NULL, &err),
              &err);
    for (int i = 0; i < ENTRIES - 1; i++)
        assert_null(hits[i]);
    assert_string_equal(hits[ENTRIES - 1], "model.layers.17.mlp.up_proj");
    f8_modules_free(&modules);
    free(texts);
    free(entries);
    free(hits);
}

/* ---- the list ------------------------------------------------------------ */

/* What a rules file says about fused modules, as qwen3_5_moe does. */
static f8_fused fused[] = {
    {"in_proj_qkvz", false, 2, {"in_proj_qkv", "in_proj_z"}},
    {"in_proj_ba", true, 2, {"in_proj_b", "in_proj_a"}},
    {"qkv_proj", false, 3, {"q_proj", "k_proj", "v_proj"}},
    {"gate_up_proj", false, 2, {"gate_proj", "up_proj"}},
};
static const f8_rules rules = {.fused = fused, .fused_count = COUNT_OF(fused)};

typedef struct made {
    const char *tensor;
    char action; /* 'q' quantised, 'k' kept, 'l' kept and a Linear */
} made;

static f8_status list_of(const made *tensors, size_t count, json_t **list,
                         f8_error *err)
{
    f8_modules modules;

    f8_modules_init(&modules);
    for (size_t i = 0; i < count; i++)
        f8_modules_add(&modules, &rules, tensors[i].tensor,
                       tensors[i].action == 'q', tensors[i].action == 'l');
    f8_status status = f8_reach_list(&modules, &rules, list, err);
    f8_modules_free(&modules);
    return status;
}

/* `expected` is the list as JSON without spaces. */
static void expect_list(const made *tensors, size_t count, const char *expected)
{
    f8_error err = {0};
    json_t *list = NULL;

    expect_ok(list_of(tensors, count, &list, &err), &err);
    char *text = json_dumps(list, JSON_COMPACT);
    assert_string_equal(text, expected);
    free(text);
    json_decref(list);
}

static void expect_refused(const made *tensors, size_t count,
                           const char *message)
{
    f8_error err = {0};
    json_t *list = NULL;
    f8_status status = list_of(tensors, count, &list, &err);

    expect_error(status, &err, F8_ERR_REFUSED, message);
    assert_null(list);
}

/* A Linear that the rules name and the checkpoint lacks, as a tied head. */
static void test_absent_linear(void **state)
{
    static f8_rule some[] = {
        {.pattern = "lm_head.weight", .linear = true, .optional = true},
        {.pattern = "lm_tail.weight", .linear = true, .optional = true},
        {.pattern = "a.{n}.b.weight", .linear = true, .optional = true},
        {.pattern = "*.c.weight", .linear = true, .optional = true},
        {.pattern = "d.weight", .linear = true},
        {.pattern = "e.weight", .optional = true},
    };
    const f8_rules with = {.rules = some, .rules_count = COUNT_OF(some)};
    f8_modules modules;
    f8_error err = {0};
    json_t *list = NULL;

    (void)state;
    f8_modules_init(&modules);
    f8_modules_add(&modules, &with, "norm.weight", false, false);
    /* An override has made this one FP8. */
    f8_modules_add(&modules, &with, "lm_tail.weight", true, true);
    f8_modules_add_absent(&modules, &with);
    expect_ok(f8_reach_list(&modules, &with, &list, &err), &err);
    char *text = json_dumps(list, JSON_COMPACT);
    assert_string_equal(text, "[\"norm\",\"lm_head\"]");
    free(text);
    json_decref(list);
    f8_modules_free(&modules);
}

static void test_list_in_writing_order(void **state)
{
    static const made tensors[] = {
        {"z.norm.weight", 'k'},
        {"m.0.A_log", 'k'},
        {"m.0.mlp.up_proj.weight", 'q'},
        {"lm_head.weight", 'l'},
        {"z.norm.bias", 'k'}, /* the same module, listed already */
        {"a.visual.0.attn.qkv.bias", 'k'},
        {"a.visual.0.attn.qkv.weight", 'l'},
    };

    (void)state;
    expect_list(tensors, COUNT_OF(tensors),
                "[\"z.norm\",\"m.0.A_log\",\"lm_head\","
                "\"a.visual.0.attn.qkv\"]");
    expect_list(NULL, 0, "[]");
    expect_list(tensors + 2, 1, "[]");
}

static void test_list_of_experts(void **state)
{
    static const made kept[] = {
        {"m.0.mlp.experts.0.gate_proj.weight", 'l'},
        {"m.0.mlp.experts.0.up_proj.weight", 'l'},
        {"m.0.mlp.experts.1.gate_proj.weight", 'l'},
        {"m.1.mlp.experts.0.gate_proj.weight", 'q'},
        {"m.1.mlp.experts.1.gate_proj.weight", 'q'},
        {"m.2.mlp.experts.gate_up_proj", 'k'},
    };
    static const made mixed[] = {
        {"m.0.mlp.experts.0.gate_proj.weight", 'q'},
        {"m.0.mlp.experts.1.gate_proj.weight", 'l'},
    };
    static const made mixed_silently[] = {
        {"m.0.mlp.experts.0.gate_proj.weight", 'k'},
        {"m.0.mlp.experts.0.down_proj.weight", 'q'},
    };

    (void)state;
    expect_list(kept, COUNT_OF(kept),
                "[\"m.0.mlp.experts\",\"m.2.mlp.experts.gate_up_proj\"]");
    expect_refused(mixed, COUNT_OF(mixed),
                   "m.0.mlp.experts: expected all experts of a layer to be "
                   "kept or all quantised; loaders cannot mix them");
    expect_refused(mixed_silently, COUNT_OF(mixed_silently),
                   "m.0.mlp.experts: expected all experts of a layer to be "
                   "kept or all quantised; loaders cannot mix them");
}

/* The bias of a quantised module is kept, but to list it would unquantise the
 * weight. It is no sibling of its own either. */
static void test_bias_of_a_quantised_module(void **state)
{
    static const made tensors[] = {
        {"m.0.self_attn.q_proj.bias", 'k'},
        {"m.0.self_attn.q_proj.weight", 'q'},
        {"m.0.self_attn.k_proj.weight", 'q'},
        {"m.0.self_attn.k_proj.bias", 'k'},
        {"m.0.norm.weight", 'k'},
    };

    (void)state;
    expect_list(tensors, COUNT_OF(tensors), "[\"m.0.norm\"]");
}

static void test_siblings(void **state)
{
    static const made mixed[] = {
        {"m.0.self_attn.q_proj.weight", 'q'},
        {"m.0.self_attn.k_proj.weight", 'q'},
        {"m.0.self_attn.v_proj.weight", 'l'},
    };
    static const made apart[] = {
        {"m.0.self_attn.q_proj.weight", 'q'},
        {"m.1.self_attn.k_proj.weight", 'l'}, /* another layer's */
        {"m.1.self_attn.o_proj.weight", 'q'}, /* no sibling of anything */
    };
    static const made at_the_top[] = {
        {"gate_proj.weight", 'q'},
        {"up_proj.weight", 'l'},
    };
    /* Experts are judged by the layer, not by the expert. */
    static const made experts[] = {
        {"m.0.mlp.experts.0.gate_proj.weight", 'q'},
        {"m.0.mlp.experts.0.up_proj.weight", 'q'},
    };

    (void)state;
    expect_refused(mixed, COUNT_OF(mixed),
                   "engines load the parts of m.0.self_attn.qkv_proj as one: "
                   "expected all of them to be kept or all quantised");
    expect_list(apart, COUNT_OF(apart), "[\"m.1.self_attn.k_proj\"]");
    expect_refused(at_the_top, COUNT_OF(at_the_top),
                   "engines load the parts of gate_up_proj as one: expected "
                   "all of them to be kept or all quantised");
    expect_list(experts, COUNT_OF(experts), "[]");
}

static void test_fused_names_are_appended(void **state)
{
    static const made kept[] = {
        {"m.1.x.in_proj_a.weight", 'l'}, {"m.0.x.in_proj_b.weight", 'l'},
        {"m.0.x.in_proj_a.weight", 'l'}, {"m.1.x.in_proj_b.weight", 'l'},
        {"m.0.y.q_proj.weight", 'l'},    {"m.0.y.k_proj.weight", 'l'},
        {"m.0.norm.weight", 'k'},
    };
    static const made quantised[] = {
        {"m.0.x.in_proj_b.weight", 'q'},
        {"m.0.x.in_proj_a.weight", 'q'},
        {"m.0.norm.weight", 'k'},
    };
    static const made mixed[] = {
        {"m.0.x.in_proj_b.weight", 'q'},
        {"m.0.x.in_proj_a.weight", 'l'},
    };
    /* The fused name would be taken for a quantised module's. */
    static const made hidden[] = {
        {"m.in_proj_b.weight", 'k'},
        {"m.in_proj_a.weight", 'k'},
        {"m.in_proj_bar.weight", 'q'},
    };

    (void)state;
    /* At the end, in order of first appearance; qkv_proj is not `listed`. */
    expect_list(kept, COUNT_OF(kept),
                "[\"m.1.x.in_proj_a\",\"m.0.x.in_proj_b\",\"m.0.x.in_proj_a\","
                "\"m.1.x.in_proj_b\",\"m.0.y.q_proj\",\"m.0.y.k_proj\","
                "\"m.0.norm\",\"m.1.x.in_proj_ba\",\"m.0.x.in_proj_ba\"]");
    expect_list(quantised, COUNT_OF(quantised), "[\"m.0.norm\"]");
    expect_refused(mixed, COUNT_OF(mixed),
                   "engines load the parts of m.0.x.in_proj_ba as one: "
                   "expected all of them to be kept or all quantised");
    expect_list(hidden, COUNT_OF(hidden), "[\"m.in_proj_a\"]");
}

static void test_captured_entries(void **state)
{
    static const made dense_gate[] = {
        {"m.0.mlp.gate.weight", 'k'},
        {"m.0.mlp.gate_proj.weight", 'q'},
        {"m.0.norm.weight", 'k'},
    };
    static const made linear[] = {
        {"m.0.mlp.gate.weight", 'l'},
        {"m.0.mlp.gate_proj.weight", 'q'},
    };
    /* Known as a Linear only by the second of its tensors. */
    static const made linear_later[] = {
        {"m.0.mlp.gate.bias", 'k'},
        {"m.0.mlp.gate_proj.weight", 'q'},
        {"m.0.mlp.gate.weight", 'l'},
    };
    /* And still so when a tensor that is none follows. */
    static const made linear_first[] = {
        {"m.0.mlp.gate.weight", 'l'},
        {"m.0.mlp.gate.bias", 'k'},
        {"m.0.mlp.gate_proj.weight", 'q'},
    };
    /* A bare name, which two loaders find inside others. */
    static const made bare[] = {
        {"mtp.weight", 'k'},
        {"mtp.layers.0.mlp.experts.0.up_proj.weight", 'q'},
        {"norm.weight", 'k'},
        {"m.layers.0.x_norm.weight", 'q'},
    };
    static const char message[] =
        "m.0.mlp.gate cannot be kept while m.0.mlp.gate_proj is quantised: a "
        "loader takes the first in modules_to_not_convert for both";

    (void)state;
    expect_list(dense_gate, COUNT_OF(dense_gate), "[\"m.0.norm\"]");
    expect_refused(linear, COUNT_OF(linear), message);
    expect_refused(linear_later, COUNT_OF(linear_later), message);
    expect_refused(linear_first, COUNT_OF(linear_first), message);
    expect_list(bare, COUNT_OF(bare), "[]");
}

/* ---- lists that others wrote --------------------------------------------- */

static void test_plain_entries(void **state)
{
    static const char *const plain[] = {"lm_head", "model.layers.0.mlp-x.W_1",
                                        "a"};
    static const char *const odd[] = {"",       "re:.*mlp.*", "a*", "a b",
                                      "a[0-9]", "a\n",        "^a", "\xc3\xa9"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        assert_true(f8_module_is_plain(plain[i]));
    for (size_t i = 0; i < COUNT_OF(odd); i++)
        assert_false(f8_module_is_plain(odd[i]));
}

/* An entry that names one expert unquantises its layer, and one that names
 * the fused module all of its parts. */
static void test_captured_by_a_list(void **state)
{
    static const made tensors[] = {
        {"m.0.mlp.experts.0.up_proj.weight", 'q'},
        {"m.0.attn.q_proj.weight", 'q'},
        {"m.0.attn.k_proj.weight", 'q'},
        {"m.1.attn.q_proj.weight", 'k'},
        {"m.0.norm.weight", 'k'},
    };
    static const struct {
        const char *entry, *hit; /* NULL: nothing */
    } cases[] = {
        {"m.0.norm", NULL},
        {"m.1.attn.q_proj", NULL},
        {"m.1.attn.qkv_proj", NULL},
        {"m.1.mlp.experts.0.up_proj", NULL},
        {"m.0.mlp.experts", "m.0.mlp.experts"},
        {"m.0.mlp.experts.7.up_proj", "m.0.mlp.experts"},
        {"m.0.attn.k_proj", "m.0.attn.k_proj"},
        {"m.0.attn.qkv_proj", "m.0.attn.qkv_proj"},
    };
    f8_modules modules;

    (void)state;
    f8_modules_init(&modules);
    for (size_t i = 0; i < COUNT_OF(tensors); i++)
        f8_modules_add(&modules, &rules, tensors[i].tensor,
                       tensors[i].action == 'q', false);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *hit = hit_of(&modules, cases[i].entry);
        if (cases[i].hit && hit)
            assert_string_equal(hit, cases[i].hit);
        else if (cases[i].hit || hit)
            fail_msg("entry %s: found %s", cases[i].entry, hit ? hit : "none");
    }
    f8_modules_free(&modules);
}

/* What transformers makes of a module is said of those that it reads. */
static void test_effects_of_engines(void **state)
{
    static const char *const modules[] = {"model.mtp_block.0.mlp.gate_proj",
                                          "mtp.fc", "mtp.layers.0.in_proj_a"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(modules); i++) {
        assert_non_null(strstr(f8_module_unlisted(modules[i], false),
                               "transformers does not read it"));
        assert_null(strstr(f8_module_unlisted(modules[i], false), "on a GPU"));
    }
    assert_string_equal(f8_module_unlisted("model.lm_head", true),
                        "transformers does on a GPU, vLLM and SGLang do not");
    assert_string_equal(f8_module_unlisted("x", true),
                        "by the model, vLLM and SGLang cast it into FP8 "
                        "without a word, raise or leave it, transformers "
                        "converts it on a GPU or leaves it");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_module_names),
        cmocka_unit_test(test_module_names_of_experts),
        cmocka_unit_test(test_experts_component_anywhere),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_captured),
        cmocka_unit_test(test_captured_by_nothing_but_a_prefix),
        cmocka_unit_test(test_many_entries),
        cmocka_unit_test(test_entries_alike),
        cmocka_unit_test(test_names_of_many_pieces),
        cmocka_unit_test(test_entries_of_many_experts),
        cmocka_unit_test(test_list_in_writing_order),
        cmocka_unit_test(test_list_of_experts),
        cmocka_unit_test(test_bias_of_a_quantised_module),
        cmocka_unit_test(test_siblings),
        cmocka_unit_test(test_fused_names_are_appended),
        cmocka_unit_test(test_captured_entries),
        cmocka_unit_test(test_plain_entries),
        cmocka_unit_test(test_captured_by_a_list),
        cmocka_unit_test(test_absent_linear),
        cmocka_unit_test(test_effects_of_engines),
    };
    return cmocka_run_group_tests_name("modules", tests, NULL, NULL);
}
