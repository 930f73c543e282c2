/* reach.c - which modules an entry of modules_to_not_convert reaches. See
 * reach.h.
 *
 * The three loaders read an entry in three ways: vLLM compares whole names,
 * SGLang looks for the entry between dots, with and without a leading `model.`,
 * transformers accepts it as a regular expression at the start, where `.` is
 * any character, or as plain text at the end. So an entry is only safe when
 * none of these readings reaches a quantised module.
 *
 * A list may come from anybody, and have a million entries; so may a model, and
 * thousands of modules with names of a hundred pieces. So nothing here holds
 * each entry against each module. Behind, and behind each dot, a name is looked
 * up among the entries once (words.h). At the start, where dots match anything,
 * sets of modules are narrowed letter by letter. */
#include "reach.h"

#include <stdlib.h>
#include <string.h>

#include "words.h"

#define NONE SIZE_MAX

static const char experts_end[] = ".experts";
static const char model_start[] = "model.";
#define EXPERTS_BYTES (sizeof experts_end - 1)

/* A name that no entry may reach. */
typedef struct target {
    const char *name;
    size_t length;
    size_t place; /* in the order in which the first one counts */
} target;

typedef struct listed {
    const char *text;
    size_t same; /* how many letters it has in common with the one before */
    size_t hit;  /* the place of the first target that it reaches, or NONE */
} listed;

typedef struct search {
    target *targets; /* quantised modules, then fused names */
    target *by_name; /* the quantised ones, sorted */
    size_t targets_count, quantised_count;
    f8_words experts; /* of those the ones of experts */
    listed *entries;  /* sorted, each text once */
    size_t entries_count;
    f8_words words; /* entries, or what stands behind model_start in them */
    const f8_watch *watch;
    bool stopped;
} search;

/* ---- what is looked for, and among what ---------------------------------- */

static int by_target_name(const void *a, const void *b)
{
    return strcmp(((const target *)a)->name, ((const target *)b)->name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const listed *)a)->text, ((const listed *)b)->text);
}

static bool ends_with(const char *text, size_t n, const char *end, size_t m)
{
    return n > m && !memcmp(text + n - m, end, m);
}

static void add_target(search *s, const char *name)
{
    s->targets[s->targets_count] =
        (target){name, strlen(name), s->targets_count};
    s->targets_count++;
}

/* Each with the place of the first that its name ends with. */
static void set_experts(search *s)
{
    f8_words *w = &s->experts;

    w->end = F8_WORDS_BEHIND;
    for (size_t i = 0; i < s->quantised_count; i++) {
        const target *t = &s->targets[i];
        if (ends_with(t->name, t->length, experts_end, EXPERTS_BYTES))
            w->words[w->count++] =
                (f8_word){.text = t->name, .item = (uint32_t)t->place};
    }
    f8_words_order(w);
    for (uint32_t i = 0; i < w->count; i++)
        w->words[i].place = w->words[i].item;
    f8_words_gather(w);
}

static bool set_targets(search *s, const f8_modules *modules)
{
    size_t most = json_object_size(modules->quantised) +
                  json_object_size(modules->siblings);
    const char *name;
    json_t *state;

    s->targets = f8_alloc(most, sizeof *s->targets);
    s->by_name = f8_alloc(most, sizeof *s->by_name);
    s->experts.words = f8_alloc(most, sizeof *s->experts.words);
    if (!s->targets || !s->by_name || !s->experts.words || most >= F8_WORD_NONE)
        return false;
    json_object_foreach(modules->quantised, name, state)
    {
        add_target(s, name);
    }
    s->quantised_count = s->targets_count;
    json_object_foreach(modules->siblings, name, state)
    {
        if (json_integer_value(state) == 2)
            add_target(s, name);
    }
    for (size_t i = 0; i < s->quantised_count; i++)
        s->by_name[i] = s->targets[i];
    if (s->quantised_count > 0)
        qsort(s->by_name, s->quantised_count, sizeof *s->by_name,
              by_target_name);
    set_experts(s);
    return true;
}

static bool set_entries(search *s, const char *const *entries, size_t count)
{
    size_t n = 0;

    s->entries = f8_alloc(count, sizeof *s->entries);
    s->words.words = f8_alloc(count, sizeof *s->words.words);
    if (!s->entries || !s->words.words || count >= F8_WORD_NONE)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (entries[i])
            s->entries[n++] = (listed){.text = entries[i], .hit = NONE};
    }
    if (n > 0)
        qsort(s->entries, n, sizeof *s->entries, by_text);
    for (size_t i = 0; i < n; i++) {
        listed *last = &s->entries[s->entries_count - (i > 0)];
        if (i == 0 || strcmp(last->text, s->entries[i].text) != 0)
            s->entries[s->entries_count++] = s->entries[i];
    }
    for (size_t i = 1; i < s->entries_count; i++) {
        const char *text = s->entries[i].text, *before = s->entries[i - 1].text;
        size_t same = 0;
        while (text[same] && text[same] == before[same])
            same++;
        s->entries[i].same = same;
    }
    return true;
}

static void reach(listed *e, size_t place)
{
    if (place < e->hit)
        e->hit = place;
}

/* False when the search is to be stopped. */
static bool keep_going(search *s)
{
    s->stopped =
        s->stopped || (s->watch && !s->watch->keep_going(s->watch->ctx, 0));
    return !s->stopped;
}

/* ---- behind, and between dots --------------------------------------------
 */

/* How many pieces of work are done between two looks whether to go on. */
enum { BETWEEN_LOOKS = 256 };

/* The entries that begin so, without that beginning. What is then empty is
 * found nowhere. */
static void set_words(search *s, const char *beginning, f8_words_end end)
{
    size_t n = strlen(beginning);

    s->words.count = 0;
    s->words.end = end;
    for (size_t i = 0; i < s->entries_count; i++) {
        const char *text = s->entries[i].text;
        if (!strncmp(text, beginning, n) && text[n])
            s->words.words[s->words.count++] =
                (f8_word){.text = text + n, .item = (uint32_t)i};
    }
    f8_words_order(&s->words);
}

/* Of all entries that lie at that end of the text the longest is told; what
 * lies within it is told in the end. */
static void tell(const search *s, const target *t, size_t start)
{
    f8_word *word =
        f8_words_find(&s->words, t->name + start, t->length - start);

    if (word && t->place < word->place)
        word->place = (uint32_t)t->place;
}

/* What begins at the start of the name or behind a dot, and goes up to a dot
 * or the end. */
static void try_runs(const search *s, const target *t)
{
    for (size_t start = 0; start < t->length; start++) {
        if (start == 0 || t->name[start - 1] == '.')
            tell(s, t, start);
    }
}

static bool try_words(search *s, const char *beginning, f8_words_end end)
{
    f8_words *w = &s->words;

    set_words(s, beginning, end);
    for (size_t i = 0; i < s->targets_count && w->count > 0; i++) {
        if (i % BETWEEN_LOOKS == 0 && !keep_going(s))
            return false;
        if (end == F8_WORDS_BEHIND)
            tell(s, &s->targets[i], 0);
        else
            try_runs(s, &s->targets[i]);
    }
    f8_words_pass_on(w);
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->words[i].place != F8_WORD_NONE)
            reach(&s->entries[w->words[i].item], w->words[i].place);
    }
    return true;
}

/* ---- at the start: sets of targets ----------------------------------------
 */

enum { SET_TARGETS = 1024, SET_WORDS = SET_TARGETS / 64 };

/* Of SET_TARGETS targets: for each place in a name, and each byte that is in
 * any of them, which have it there. Class 0 is any byte at all. */
typedef struct letters {
    uint64_t (*sets)[SET_WORDS]; /* places x classes */
    size_t places, classes;
    uint8_t class_of[256]; /* 0: in no name */
    /* Which begin with the first letters of an entry, by how many. The next
     * entry begins where it differs. */
    uint64_t (*left)[SET_WORDS];
    size_t depth; /* so far it is known; there it may be none */
    bool is_none;
} letters;

static uint64_t *set_at(const letters *l, size_t place, size_t class)
{
    return l->sets[place * l->classes + class];
}

static bool begin_letters(letters *l, const target *targets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const target *t = &targets[i];
        l->places = t->length > l->places ? t->length : l->places;
        for (size_t k = 0; k < t->length; k++) {
            uint8_t *class = &l->class_of[(unsigned char)t->name[k]];
            if (!*class)
                *class = (uint8_t)l->classes++; /* a name has no byte 0 */
        }
    }
    l->sets = f8_alloc(l->places * l->classes, sizeof *l->sets);
    l->left = f8_alloc(l->places + 2, sizeof *l->left);
    if (!l->sets || !l->left)
        return false;
    memset(l->left[0], 0xff, sizeof l->left[0]);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < targets[i].length; k++) {
            uint8_t byte = (unsigned char)targets[i].name[k];
            set_at(l, k, 0)[i / 64] |= UINT64_C(1) << i % 64;
            set_at(l, k, l->class_of[byte])[i / 64] |= UINT64_C(1) << i % 64;
        }
    }
    return true;
}

static void end_letters(letters *l)
{
    free(l->sets);
    free(l->left);
}

/* One letter further; false when none is left. */
static bool narrow(letters *l, size_t k, char letter)
{
    uint8_t class = l->class_of[(unsigned char)letter];
    uint64_t any = 0;

    if (k == l->places || (!class && letter != '.'))
        return false;
    const uint64_t *set = set_at(l, k, letter == '.' ? 0 : class);
    for (size_t i = 0; i < SET_WORDS; i++)
        any |= l->left[k + 1][i] = l->left[k][i] & set[i];
    return any != 0;
}

/* The first target of these that begins with the text, or NONE. `same`: how
 * many letters it has in common with the text before. */
static size_t first_that_begins(letters *l, const char *text, size_t same,
                                size_t count)
{
    if (same < l->depth) {
        l->depth = same;
        l->is_none = false;
    }
    while (!l->is_none && text[l->depth]) {
        l->is_none = !narrow(l, l->depth, text[l->depth]);
        l->depth++;
    }
    for (size_t i = 0; i < count && !l->is_none; i++) {
        if (l->left[l->depth][i / 64] >> i % 64 & 1)
            return i;
    }
    return NONE;
}

/* The entries in order, but for those that reach an earlier target already. */
static void try_set(search *s, letters *l, size_t first, size_t count)
{
    size_t same = 0;

    for (size_t i = 0; i < s->entries_count; i++) {
        listed *e = &s->entries[i];
        same = e->same < same ? e->same : same;
        if (e->hit < first)
            continue;
        size_t found = first_that_begins(l, e->text, same, count);
        if (found != NONE)
            reach(e, first + found);
        same = NONE;
    }
}

static bool try_starts(search *s)
{
    for (size_t first = 0; first < s->targets_count; first += SET_TARGETS) {
        size_t left = s->targets_count - first;
        size_t count = left < SET_TARGETS ? left : SET_TARGETS;
        letters l = {.classes = 1};
        bool done =
            keep_going(s) && begin_letters(&l, s->targets + first, count);
        if (done)
            try_set(s, &l, first, count);
        end_letters(&l);
        if (!done)
            return false;
    }
    return true;
}

/* ---- by the entry: experts ------------------------------------------------
 */

/* The place of the quantised module of that name, or NONE. */
static size_t find_module(const search *s, const char *text, size_t n)
{
    size_t low = 0, high = s->quantised_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strncmp(s->by_name[middle].name, text, n);
        if (order == 0 && s->by_name[middle].length == n)
            return s->by_name[middle].place;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NONE;
}

/* Loaders decide for all experts of a layer by any entry that names one, and
 * vLLM leaves them unquantised when their module's name stands anywhere in an
 * entry. */
static void try_experts(const search *s, listed *e)
{
    size_t length = strlen(e->text), n = f8_module_length(e->text);

    if (n < length)
        reach(e, find_module(s, e->text, n));
    for (const char *at = e->text; (at = strstr(at, experts_end)); at++) {
        const char *end = at + EXPERTS_BYTES;
        const f8_word *word =
            f8_words_find(&s->experts, e->text, (size_t)(end - e->text));
        if (word)
            reach(e, word->place);
    }
}

/* ---- all ------------------------------------------------------------------
 */

static bool try_all(search *s)
{
    for (size_t i = 0; i < s->entries_count; i++) {
        if (i % BETWEEN_LOOKS == 0 && !keep_going(s))
            return false;
        try_experts(s, &s->entries[i]);
    }
    return try_words(s, "", F8_WORDS_BEHIND) &&
           try_words(s, "", F8_WORDS_IN_FRONT) &&
           try_words(s, model_start, F8_WORDS_IN_FRONT) && try_starts(s);
}

f8_status f8_reach_find(const f8_modules *modules, const char *const *entries,
                        size_t count, const char **hits, const f8_watch *watch,
                        f8_error *err)
{
    search s = {.watch = watch};
    bool done = set_targets(&s, modules) && set_entries(&s, entries, count) &&
                try_all(&s);

    for (size_t i = 0; i < count && done; i++) {
        listed key = {.text = entries[i]};
        const listed *e = key.text ? bsearch(&key, s.entries, s.entries_count,
                                             sizeof key, by_text)
                                   : NULL;
        hits[i] = e && e->hit != NONE ? s.targets[e->hit].name : NULL;
    }
    free(s.targets);
    free(s.by_name);
    free(s.experts.words);
    free(s.words.words);
    free(s.entries);
    if (s.stopped)
        return f8_fail(err, F8_ERR_CANCELLED, "stopped");
    return done ? F8_OK : f8_fail_nomem(err, "the module list");
}

/* ---- the list ------------------------------------------------------------ */

static f8_status check_siblings(const f8_modules *modules, f8_error *err)
{
    const char *name;
    json_t *state;

    json_object_foreach(modules->siblings, name, state)
    {
        if (json_integer_value(state) == 3)
            return f8_fail(err, F8_ERR_REFUSED,
                           "engines load the parts of %s as one: expected all "
                           "of them to be kept or all quantised",
                           name);
    }
    return F8_OK;
}

/* The names of a set, and what each of them reaches. */
typedef struct reached {
    const char **names, **hits;
} reached;

static void reached_free(reached *r)
{
    free(r->names);
    free(r->hits);
}

static f8_status find_hits(const f8_modules *modules, json_t *set, reached *r,
                           f8_error *err)
{
    size_t count = json_object_size(set), n = 0;
    const char *name;
    json_t *state;

    r->names = f8_alloc(count, sizeof *r->names);
    r->hits = f8_alloc(count, sizeof *r->hits);
    if (!r->names || !r->hits)
        return f8_fail_nomem(err, "the module list");
    json_object_foreach(set, name, state)
    {
        r->names[n++] = name;
    }
    return f8_reach_find(modules, r->names, count, r->hits, NULL, err);
}

static f8_status list_entry(const char *entry, const char *hit, bool needed,
                            json_t *list, f8_error *err)
{
    size_t n = strlen(entry);

    if (hit && !strcmp(hit, entry) &&
        (ends_with(entry, n, experts_end, EXPERTS_BYTES) ||
         !strcmp(entry, "experts")))
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s: expected all experts of a layer to be kept or "
                       "all quantised; loaders cannot mix them",
                       entry);
    if (hit && needed)
        return f8_fail(err, F8_ERR_REFUSED,
                       "%s cannot be kept while %s is quantised: a loader "
                       "takes the first in modules_to_not_convert for both",
                       entry, hit);
    if (!hit && json_array_append_new(list, json_string(entry)) != 0)
        return f8_fail_nomem(err, "the module list");
    return F8_OK;
}

static f8_status list_kept(const f8_modules *modules, json_t *list,
                           f8_error *err)
{
    reached r = {0};
    const char *entry;
    json_t *needed;
    size_t i = 0;

    f8_status status = find_hits(modules, modules->kept, &r, err);
    json_object_foreach(modules->kept, entry, needed)
    {
        if (status == F8_OK)
            status =
                list_entry(entry, r.hits[i++], json_is_true(needed), list, err);
    }
    reached_free(&r);
    return status;
}

static bool is_listed(const f8_rules *rules, const char *name)
{
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; i < rules->fused_count; i++) {
        if (rules->fused[i].listed &&
            !strcmp(rules->fused[i].name, dot ? dot + 1 : name))
            return true;
    }
    return false;
}

static f8_status list_fused(const f8_modules *modules, const f8_rules *rules,
                            json_t *list, f8_error *err)
{
    reached r = {0};
    const char *name;
    json_t *state;
    size_t i = 0;

    f8_status status = find_hits(modules, modules->siblings, &r, err);
    json_object_foreach(modules->siblings, name, state)
    {
        if (status == F8_OK && !r.hits[i++] && json_integer_value(state) == 1 &&
            is_listed(rules, name) &&
            json_array_append_new(list, json_string(name)) != 0)
            status = f8_fail_nomem(err, "the module list");
    }
    reached_free(&r);
    return status;
}

f8_status f8_reach_list(const f8_modules *modules, const f8_rules *rules,
                        json_t **list, f8_error *err)
{
    *list = json_array();
    if (!*list || modules->failed) {
        json_decref(*list);
        *list = NULL;
        return f8_fail_nomem(err, "the module list");
    }
    f8_status status = check_siblings(modules, err);
    if (status == F8_OK)
        status = list_kept(modules, *list, err);
    if (status == F8_OK)
        status = list_fused(modules, rules, *list, err);
    if (status != F8_OK) {
        json_decref(*list);
        *list = NULL;
    }
    return status;
}
