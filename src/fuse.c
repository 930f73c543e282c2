/* fuse.c - experts that stand one by one as the tensors they were split from.
 * See fuse.h. */
#include "fuse.h"

#include <stdlib.h>
#include <string.h>

#include "modules.h"

/* ---- names --------------------------------------------------------------- */

/* Length of what the results' names have of a split tensor's, or of its
 * pattern: all up to its last word; with `into`, without the module that the
 * tensor is of. */
static size_t parent_length(const char *name, const char *into)
{
    size_t n = into ? f8_module_full_length(name) : strlen(name);

    while (n > 0 && name[n - 1] != '.')
        n--;
    return n;
}

const char *f8_split_name(f8_arena *strings, const char *fused,
                          const f8_rule *rule, uint64_t i)
{
    const char *into = rule->into ? rule->into : "";

    return f8_arena_printf(strings, "%.*s%s%s%llu.%s.weight",
                           (int)parent_length(fused, rule->into), fused, into,
                           *into ? "." : "",
                           (unsigned long long)(i / rule->parts_count),
                           rule->parts[i % rule->parts_count]);
}

/* What of a pattern the results' names have not; NULL when that is no plain
 * name. */
static const char *tail_of(const f8_rule *rule)
{
    const char *tail = rule->pattern + parent_length(rule->pattern, rule->into);

    return *tail && !strpbrk(tail, "*?{}") ? tail : NULL;
}

/* Which part of a split the n bytes name; parts_count for none. */
static unsigned part_called(const f8_rule *rule, const char *name, size_t n)
{
    unsigned i = 0;

    while (i < rule->parts_count &&
           (strncmp(rule->parts[i], name, n) != 0 || rule->parts[i][n] != '\0'))
        i++;
    return i;
}

/* Reads name as "PARENT." EXPERT "." PART ".weight", from its end; false when
 * it is none. A number is written in one way only: without leading zeros. */
static bool take_apart(const char *name, size_t *parent, uint64_t *expert,
                       const char **part, size_t *part_bytes)
{
    static const char ending[] = ".weight";
    size_t n = strlen(name), m = sizeof ending - 1, end, at;

    if (n <= m || strcmp(name + n - m, ending) != 0)
        return false;
    for (end = at = n - m; at > 0 && name[at - 1] != '.';)
        at--;
    *part = name + at;
    *part_bytes = end - at;
    if (at < 2)
        return false;
    for (end = --at; at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9';)
        at--;
    *parent = at;
    if (at == end || end - at > 5 || (at > 0 && name[at - 1] != '.') ||
        (name[at] == '0' && end - at > 1))
        return false;
    for (*expert = 0; at < end; at++)
        *expert = *expert * 10 + (uint64_t)(name[at] - '0');
    return *expert < F8_MAX_EXPERTS;
}

bool f8_fuse_name(const char *name, const f8_fuse_place *place,
                  char fused[F8_NAME_MAX_BYTES + 1])
{
    size_t n = strlen(place->tail);

    if (place->parent_bytes + n > F8_NAME_MAX_BYTES)
        return false;
    memcpy(fused, name, place->parent_bytes);
    memcpy(fused + place->parent_bytes, place->tail, n + 1);
    return true;
}

/* Whether the place's split, and no later rule, decides the fused name. */
static bool decides(const f8_rules *rules, const char *name,
                    const f8_fuse_place *place)
{
    char fused[F8_NAME_MAX_BYTES + 1];

    return f8_fuse_name(name, place, fused) &&
           f8_rules_find(rules, fused) == place->rule;
}

/* The parent of a fused tensor ends before the word that `into` puts there;
 * false when the name has another one. */
static bool leave(const f8_rule *rule, const char *name, size_t *parent)
{
    size_t n = rule->into ? strlen(rule->into) : 0;

    if (!rule->into)
        return true;
    if (*parent < n + 1 || strncmp(name + *parent - n - 1, rule->into, n) != 0)
        return false;
    *parent -= n + 1;
    return *parent == 0 || name[*parent - 1] == '.';
}

bool f8_fuse_find(const f8_rules *rules, const char *name, f8_fuse_place *place)
{
    const char *part;
    size_t part_bytes;

    memset(place, 0, sizeof *place);
    if (!take_apart(name, &place->expert_at, &place->expert, &part,
                    &part_bytes))
        return false;
    for (size_t i = rules->rules_count; i-- > 0;) {
        const f8_rule *rule = &rules->rules[i];
        if (rule->kind != F8_RULE_SPLIT)
            continue;
        place->rule = rule;
        place->tail = tail_of(rule);
        place->part = part_called(rule, part, part_bytes);
        place->parent_bytes = place->expert_at;
        if (leave(rule, name, &place->parent_bytes) &&
            place->part < rule->parts_count && place->tail &&
            decides(rules, name, place))
            return true;
    }
    return false;
}

/* ---- a whole checkpoint -------------------------------------------------- */

typedef struct entry {
    const f8_tensor *tensor;
    f8_fuse_place place;
} entry;

static int compare_fused(const entry *x, const entry *y)
{
    size_t n = x->place.parent_bytes, m = y->place.parent_bytes;
    int order = memcmp(x->tensor->name, y->tensor->name, n < m ? n : m);

    if (order == 0 && n != m)
        order = n < m ? -1 : 1;
    return order ? order : strcmp(x->place.tail, y->place.tail);
}

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = compare_fused(x, y);

    if (order == 0 && x->place.expert != y->place.expert)
        return x->place.expert < y->place.expert ? -1 : 1;
    if (order == 0 && x->place.part != y->place.part)
        return x->place.part < y->place.part ? -1 : 1;
    return order;
}

/* By the part that is read first. */
static int compare_reading(const void *a, const void *b)
{
    const f8_fused_tensor *x = a, *y = b;
    const f8_tensor *p = x->items[0], *q = y->items[0];

    return p < q ? -1 : p > q;
}

/* The n entries of one fused tensor are in order: the first that is not the
 * one that belongs in its place shows what is missing. */
static f8_status check_whole(const entry *entries, size_t n, const char *name,
                             f8_error *err)
{
    const f8_rule *rule = entries->place.rule;
    uint64_t experts = entries[n - 1].place.expert + 1, i = 0;

    while (i < n && entries[i].place.expert == i / rule->parts_count &&
           entries[i].place.part == i % rule->parts_count)
        i++;
    if (i == experts * rule->parts_count)
        return F8_OK;
    return f8_fail(
        err, F8_ERR_REFUSED,
        "tensor %.*s%llu.%s.weight: missing; expected %llu experts to fuse "
        "into %s, as there is %s (%s)",
        (int)entries->place.expert_at, entries->tensor->name,
        (unsigned long long)(i / rule->parts_count),
        rule->parts[i % rule->parts_count], (unsigned long long)experts, name,
        entries[n - 1].tensor->name, rule->text);
}

static f8_status check_shape(const f8_tensor *first, const f8_tensor *t,
                             const char *name, f8_error *err)
{
    if (t->rank != 2 || t->elems == 0)
        return f8_fail(err, F8_ERR_REFUSED,
                       "tensor %s: expected a matrix to fuse into %s, found "
                       "%u dimensions and %llu elements",
                       t->name, name, t->rank, (unsigned long long)t->elems);
    if (t->shape[0] != first->shape[0] || t->shape[1] != first->shape[1])
        return f8_fail(err, F8_ERR_REFUSED,
                       "tensor %s: expected shape [%llu, %llu] to fuse it with "
                       "%s into %s, found [%llu, %llu]",
                       t->name, (unsigned long long)first->shape[0],
                       (unsigned long long)first->shape[1], first->name, name,
                       (unsigned long long)t->shape[0],
                       (unsigned long long)t->shape[1]);
    return F8_OK;
}

/* The fused tensor of n entries, whose items follow each other from `items`;
 * none where they stood one by one before. */
static f8_status make_fused(f8_fusion *out, const json_t *original,
                            const entry *entries, size_t n,
                            const f8_tensor **items, f8_error *err)
{
    const f8_fuse_place *place = &entries->place;
    const f8_tensor *first = entries->tensor;
    const f8_rule *rule = place->rule;
    f8_fused_tensor *fused = &out->tensors[out->count];

    char whole[F8_NAME_MAX_BYTES + 1];
    const char *name = NULL;
    if (f8_fuse_name(first->name, place, whole))
        name = f8_arena_copy(&out->strings, whole, strlen(whole));
    if (!name)
        return f8_fail_nomem(err, "the fused tensors");
    f8_form form = f8_original_form(original, rule, name);
    if (form == F8_FORM_APART)
        return F8_OK;
    f8_status status = check_whole(entries, n, name, err);
    if (status == F8_OK && form == F8_FORM_UNKNOWN)
        status = f8_fail(err, F8_ERR_REFUSED,
                         "tensor %s: cannot be fused into %s: expected rules "
                         "with published=1, 2 or apart, which says which way "
                         "that lies (%s)",
                         first->name, name, rule->text);
    for (size_t i = 0; i < n && status == F8_OK; i++) {
        status = check_shape(first, entries[i].tensor, name, err);
        items[i] = entries[i].tensor;
    }
    if (status != F8_OK)
        return status;
    *fused = (f8_fused_tensor){.name = name,
                               .across = form == F8_FORM_ACROSS,
                               .experts = n / rule->parts_count,
                               .parts = rule->parts_count,
                               .items = items};
    fused->shape[0] = fused->experts;
    fused->shape[fused->across ? 1 : 2] = first->shape[1];
    if (!f8_mul_u64(first->shape[0], fused->parts,
                    &fused->shape[fused->across ? 2 : 1]))
        return f8_fail(err, F8_ERR_REFUSED, "tensor %s: too many rows", name);
    out->count++;
    return F8_OK;
}

static f8_status group(const f8_checkpoint *cp, const json_t *original,
                       const entry *entries, size_t n, f8_fusion *out,
                       f8_error *err)
{
    f8_status status = F8_OK;

    for (size_t i = 0, end; i < n && status == F8_OK; i = end) {
        for (end = i + 1;
             end < n && compare_fused(&entries[i], &entries[end]) == 0;)
            end++;
        status = make_fused(out, original, entries + i, end - i, out->items + i,
                            err);
    }
    if (status != F8_OK || out->count == 0)
        return status;
    qsort(out->tensors, out->count, sizeof *out->tensors, compare_reading);
    for (size_t i = 0; i < out->count; i++) {
        const f8_fused_tensor *fused = &out->tensors[i];
        for (uint64_t k = 0; k < fused->experts * fused->parts; k++)
            out->of[fused->items[k] - cp->tensors.items] = (uint32_t)i + 1;
    }
    return F8_OK;
}

f8_status f8_fusion_find(const f8_checkpoint *cp, const f8_rules *rules,
                         const json_t *original, f8_fusion *out, f8_error *err)
{
    f8_status status;
    size_t count = cp->tensors.count, n = 0;
    entry *entries = f8_alloc(count, sizeof *entries);

    memset(out, 0, sizeof *out);
    out->of = f8_alloc(count, sizeof *out->of);
    if (!entries || !out->of) {
        status = f8_fail_nomem(err, "the fused tensors");
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        entries[n].tensor = &cp->tensors.items[i];
        n += f8_fuse_find(rules, entries[n].tensor->name, &entries[n].place);
    }
    out->tensors = f8_alloc(n, sizeof *out->tensors);
    out->items = f8_alloc(n, sizeof *out->items);
    if (!out->tensors || !out->items) {
        status = f8_fail_nomem(err, "the fused tensors");
        goto out;
    }
    if (n > 0)
        qsort(entries, n, sizeof *entries, compare_entries);
    status = group(cp, original, entries, n, out, err);
out:
    free(entries);
    return status;
}

void f8_fusion_free(f8_fusion *fusion)
{
    free(fusion->tensors);
    free(fusion->of);
    free(fusion->items);
    f8_arena_free(&fusion->strings);
    memset(fusion, 0, sizeof *fusion);
}
