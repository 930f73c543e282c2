/* diff.c - the public entry f8_diff_create: what differs between two
 * checkpoints. Which tensor stands for which is pairs.c's, config.json
 * settings.c's, the bytes are contrast.c's; here the findings are counted, put
 * in order and handed out. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "contrast.h"
#include "modules.h"
#include "plan.h"
#include "settings.h"
#include "source.h"

typedef struct kind {
    char name[F8_KIND_BYTES];
    uint64_t tensors, elems;
    bool is_real; /* of one tensor at least */
    f8_distance distance;
} kind;

/* A pair with what it is sorted by. */
typedef struct listed {
    const f8_pair *pair;
    const f8_gap *finding;
    double rank; /* larger ones first */
} listed;

struct f8_diff {
    f8_diff_summary summary;
    f8_checkpoint *a, *b;
    f8_pairs pairs;
    f8_settings settings;
    f8_gap *findings; /* one a pair */
    listed *changes;  /* of other dtype or shape, by name */
    size_t changes_count;
    listed *values; /* worst first */
    size_t values_count;
    kind *kinds;
    size_t kinds_count;
    kind overall;
};

/* ---- opening ------------------------------------------------------------- */

/* Both have files of the same names, so messages must say of which. */
static f8_status name_side(const char *path, bool is_folder, f8_status status,
                           f8_error *err)
{
    f8_error plain;
    const char *slash = strrchr(path, '/');
    size_t n = strlen(path);

    if (!err || status == F8_ERR_NOMEM || !strncmp(err->message, path, n))
        return status;
    plain = *err;
    if (!is_folder)
        n = slash ? (size_t)(slash - path) : 0;
    while (n > 1 && path[n - 1] == '/')
        n--;
    f8_fail(err, status, "%.*s%s%s", (int)n, path, n > 0 ? "/" : "",
            plain.message);
    err->sys_errno = plain.sys_errno;
    return status;
}

static f8_status open_side(const char *path, bool follow_links,
                           f8_checkpoint **cp, bool *is_folder, f8_error *err)
{
    struct stat st;
    f8_status status;

    if (stat(path, &st) != 0)
        return f8_fail_errno(err, errno, "%s: cannot open", path);
    *is_folder = S_ISDIR(st.st_mode);
    if (*is_folder)
        status = f8_checkpoint_open(
            path, follow_links ? F8_OPEN_FOLLOW_LINKS : 0, NULL, cp, err);
    else
        status = f8_checkpoint_open_file(path, cp, err);
    return status == F8_OK ? F8_OK : name_side(path, *is_folder, status, err);
}

/* A single file has no config of its own to compare. */
static f8_status compare_settings(f8_diff *diff, bool are_folders,
                                  f8_error *err)
{
    const json_t *a = diff->a->config, *b = diff->b->config;

    if (!are_folders)
        return F8_OK;
    return f8_settings_compare(a && b ? "" : F8_CONFIG_NAME, a, b,
                               &diff->settings, err);
}

/* ---- counting ------------------------------------------------------------ */

static bool is_different(const listed *l)
{
    return l->finding->distance.differing > 0;
}

/* Equal in value and yet worth a line: nothing else says that bytes differ. */
static bool has_other_bytes(const listed *l)
{
    return l->pair->same_dtype && l->finding->other_bytes;
}

static void count_pair(f8_diff_summary *s, const f8_diff *diff, const listed *l)
{
    const f8_pair *pair = l->pair;
    const char *x = diff->a->files[pair->a.tensor->file].name;
    const char *y = diff->b->files[pair->b.tensor->file].name;

    s->moved += strcmp(x, y) != 0;
    s->renamed += !pair->a.is_part && !pair->b.is_part &&
                  strcmp(pair->a.tensor->name, pair->b.tensor->name) != 0;
    s->dtypes += !pair->same_dtype;
    s->shapes += !pair->same_shape;
    if (!pair->is_comparable)
        return;
    if (is_different(l))
        s->different++;
    else if (pair->same_dtype && !l->finding->other_bytes)
        s->identical++;
    else
        s->equal++;
}

static void fill_summary(f8_diff *diff)
{
    f8_diff_summary *s = &diff->summary;

    s->a_tensors = diff->a->tensors.count;
    s->b_tensors = diff->b->tensors.count;
    s->a_bytes = diff->a->tensor_bytes;
    s->b_bytes = diff->b->tensor_bytes;
    s->a_files = diff->a->files_count;
    s->b_files = diff->b->files_count;
    s->a_fused = diff->pairs.a.fused;
    s->b_fused = diff->pairs.b.fused;
    s->a_only = diff->pairs.a.singles.count;
    s->b_only = diff->pairs.b.singles.count;
    s->a_bare = diff->pairs.a.problems.total;
    s->b_bare = diff->pairs.b.problems.total;
    s->settings = diff->settings.total;
    for (size_t i = 0; i < diff->pairs.count; i++) {
        listed l = {&diff->pairs.items[i], &diff->findings[i], 0};
        count_pair(s, diff, &l);
    }
    s->same = s->identical == diff->pairs.count && s->a_only == 0 &&
              s->b_only == 0 && s->a_fused == 0 && s->b_fused == 0 &&
              s->renamed == 0 && s->settings == 0;
}

/* ---- order --------------------------------------------------------------- */

static int by_name(const void *x, const void *y)
{
    const listed *p = x, *q = y;
    return strcmp(p->pair->name, q->pair->name);
}

static int by_rank(const void *x, const void *y)
{
    const listed *p = x, *q = y;

    if (p->rank != q->rank)
        return p->rank > q->rank ? -1 : 1;
    return by_name(x, y);
}

static int by_single_name(const void *x, const void *y)
{
    const f8_single *p = x, *q = y;
    return strcmp(p->name, q->name);
}

/* What has no figure, or one that leaves elements out, comes before all
 * others; of those an infinite one is the largest. */
static double rank_of(const listed *l)
{
    double rms = f8_distance_relative_rms(&l->finding->distance);

    if (!f8_pair_is_real(l->pair) || l->finding->distance.odd > 0 ||
        !isfinite(rms))
        return INFINITY;
    return is_different(l) ? rms : -1;
}

static f8_status make_lists(f8_diff *diff, f8_error *err)
{
    f8_singles *a = &diff->pairs.a.singles, *b = &diff->pairs.b.singles;

    diff->changes = f8_alloc(diff->pairs.count, sizeof *diff->changes);
    diff->values = f8_alloc(diff->pairs.count, sizeof *diff->values);
    if (!diff->changes || !diff->values)
        return f8_fail_nomem(err, "the comparison");
    for (size_t i = 0; i < diff->pairs.count; i++) {
        listed l = {&diff->pairs.items[i], &diff->findings[i], 0};
        if (!l.pair->same_dtype || !l.pair->same_shape)
            diff->changes[diff->changes_count++] = l;
        l.rank = rank_of(&l);
        if (is_different(&l) || has_other_bytes(&l))
            diff->values[diff->values_count++] = l;
    }
    qsort(diff->changes, diff->changes_count, sizeof *diff->changes, by_name);
    qsort(diff->values, diff->values_count, sizeof *diff->values, by_rank);
    if (a->count > 0)
        qsort(a->items, a->count, sizeof *a->items, by_single_name);
    if (b->count > 0)
        qsort(b->items, b->count, sizeof *b->items, by_single_name);
    return F8_OK;
}

/* The last one takes all that is left. */
static kind *kind_of(f8_diff *diff, const char *name)
{
    char found[F8_KIND_BYTES];
    size_t i = 0;

    f8_module_kind(name, found, sizeof found);
    while (i < diff->kinds_count && strcmp(diff->kinds[i].name, found) != 0)
        i++;
    if (i == F8_MAX_KINDS)
        return &diff->kinds[i - 1];
    if (i < diff->kinds_count)
        return &diff->kinds[i];
    if (i == F8_MAX_KINDS - 1)
        strcpy(found, "other");
    memcpy(diff->kinds[i].name, found, sizeof found);
    diff->kinds_count++;
    return &diff->kinds[i];
}

static void add_to_kind(kind *k, const listed *l)
{
    k->tensors++;
    k->elems += f8_pair_elems(l->pair);
    k->is_real |= f8_pair_is_real(l->pair);
    f8_distance_add(&k->distance, &l->finding->distance);
}

static f8_status make_kinds(f8_diff *diff, f8_error *err)
{
    strcpy(diff->overall.name, "all");
    diff->kinds = f8_alloc(F8_MAX_KINDS, sizeof *diff->kinds);
    if (!diff->kinds)
        return f8_fail_nomem(err, "the comparison");
    for (size_t i = 0; i < diff->pairs.count; i++) {
        listed l = {&diff->pairs.items[i], &diff->findings[i], 0};
        if (!is_different(&l) && !has_other_bytes(&l))
            continue;
        add_to_kind(kind_of(diff, l.pair->name), &l);
        add_to_kind(&diff->overall, &l);
    }
    return F8_OK;
}

/* ---- the public calls ---------------------------------------------------- */

static f8_status compare(f8_diff *diff, const char *a, const char *b,
                         const f8_options *options, f8_error *err)
{
    bool folders[2] = {false, false};

    f8_status status =
        open_side(a, options->follow_links, &diff->a, &folders[0], err);
    if (status == F8_OK)
        status =
            open_side(b, options->follow_links, &diff->b, &folders[1], err);
    if (status == F8_OK)
        status =
            f8_pairs_find(diff->a, diff->b, options->rules, &diff->pairs, err);
    if (status == F8_OK)
        status = compare_settings(diff, folders[0] && folders[1], err);
    if (status != F8_OK)
        return status;
    diff->findings = f8_alloc(diff->pairs.count, sizeof *diff->findings);
    if (!diff->findings)
        return f8_fail_nomem(err, "the comparison");
    status = f8_contrast(&diff->pairs, options, diff->findings, err);
    if (status == F8_OK)
        status = f8_checkpoint_unchanged(diff->a, err);
    if (status == F8_OK)
        status = f8_checkpoint_unchanged(diff->b, err);
    if (status == F8_OK)
        status = make_lists(diff, err);
    if (status == F8_OK)
        status = make_kinds(diff, err);
    if (status == F8_OK)
        fill_summary(diff);
    return status;
}

f8_status f8_diff_create(const char *a, const char *b,
                         const f8_options *options, f8_diff **diff,
                         f8_error *err)
{
    double start = f8_now();
    f8_options filled;

    *diff = NULL;
    f8_status status = f8_options_fill(options, &filled, err);
    if (status != F8_OK)
        return status;
    f8_diff *made = f8_alloc(1, sizeof *made);
    if (!made)
        return f8_fail_nomem(err, "the comparison");
    status = compare(made, a, b, &filled, err);
    if (status == F8_OK) {
        made->summary.seconds = f8_now() - start;
        *diff = made;
    } else {
        f8_diff_free(made);
    }
    return status;
}

void f8_diff_free(f8_diff *diff)
{
    if (!diff)
        return;
    free(diff->findings);
    free(diff->changes);
    free(diff->values);
    free(diff->kinds);
    f8_settings_free(&diff->settings);
    f8_pairs_free(&diff->pairs);
    f8_checkpoint_free(diff->a);
    f8_checkpoint_free(diff->b);
    free(diff);
}

void f8_diff_get_summary(const f8_diff *diff, f8_diff_summary *out)
{
    *out = diff->summary;
}

/* ---- getters ------------------------------------------------------------- */

static f8_diff_side side_of(const f8_checkpoint *cp, const f8_tensor *t,
                            const f8_tensor *scale, unsigned rank,
                            const uint64_t *shape)
{
    f8_diff_side side = {.name = t->name,
                         .file = cp->files[t->file].name,
                         .dtype = t->dtype,
                         .rank = rank,
                         .has_scale = scale != NULL,
                         .scale_dtype = scale ? scale->dtype : t->dtype};

    for (unsigned i = 0; i < rank; i++)
        side.shape[i] = shape[i];
    return side;
}

static void pair_sides(const f8_diff *diff, const f8_pair *pair,
                       f8_diff_side *a, f8_diff_side *b)
{
    unsigned rank;
    const uint64_t *shape = f8_side_shape(pair, &pair->a, &rank);

    *a = side_of(diff->a, pair->a.tensor, pair->a.scale, rank, shape);
    shape = f8_side_shape(pair, &pair->b, &rank);
    *b = side_of(diff->b, pair->b.tensor, pair->b.scale, rank, shape);
}

bool f8_diff_get_single(const f8_diff *diff, bool in_b, uint64_t i,
                        f8_diff_single *out)
{
    const f8_members *m = in_b ? &diff->pairs.b : &diff->pairs.a;

    if (i >= m->singles.count)
        return false;
    const f8_single *s = &m->singles.items[i];
    const f8_tensor *t = s->tensor;
    const f8_partner *partner = &m->partners[t - m->checkpoint->tensors.items];
    out->name = s->name;
    out->side = side_of(m->checkpoint, t,
                        partner->role == F8_ROLE_WEIGHT ? partner->other : NULL,
                        s->is_part ? 2 : t->rank,
                        s->is_part ? s->part_shape : t->shape);
    return true;
}

bool f8_diff_get_change(const f8_diff *diff, uint64_t i, f8_diff_change *out)
{
    if (i >= diff->changes_count)
        return false;
    const f8_pair *pair = diff->changes[i].pair;
    out->name = pair->name;
    out->dtype = !pair->same_dtype;
    out->shape = !pair->same_shape;
    pair_sides(diff, pair, &out->a, &out->b);
    return true;
}

bool f8_diff_get_setting(const f8_diff *diff, uint64_t i, f8_diff_setting *out)
{
    if (i >= diff->settings.count)
        return false;
    const f8_setting *s = &diff->settings.items[i];
    *out = (f8_diff_setting){s->path, s->a, s->b};
    return true;
}

static void fill_figures(const f8_distance *distance, bool is_real,
                         f8_diff_values *out)
{
    out->differing = distance->differing;
    out->not_finite = distance->odd;
    out->relative_rms = out->sqnr_db = out->cosine = out->max_abs_error = NAN;
    if (!is_real)
        return;
    out->relative_rms = f8_distance_relative_rms(distance);
    out->sqnr_db = f8_distance_sqnr_db(distance);
    out->cosine = f8_distance_cosine(distance);
    out->max_abs_error = distance->max_abs;
}

bool f8_diff_get_values(const f8_diff *diff, uint64_t i, f8_diff_values *out)
{
    if (i >= diff->values_count)
        return false;
    const listed *l = &diff->values[i];
    memset(out, 0, sizeof *out);
    out->name = l->pair->name;
    out->tensors = 1;
    out->elems = f8_pair_elems(l->pair);
    pair_sides(diff, l->pair, &out->a, &out->b);
    fill_figures(&l->finding->distance, f8_pair_is_real(l->pair), out);
    return true;
}

static void fill_kind(const kind *k, f8_diff_values *out)
{
    memset(out, 0, sizeof *out);
    out->name = k->name;
    out->tensors = k->tensors;
    out->elems = k->elems;
    fill_figures(&k->distance, k->is_real, out);
}

void f8_diff_get_overall(const f8_diff *diff, f8_diff_values *out)
{
    fill_kind(&diff->overall, out);
}

bool f8_diff_get_kind(const f8_diff *diff, uint64_t i, f8_diff_values *out)
{
    if (i >= diff->kinds_count)
        return false;
    fill_kind(&diff->kinds[i], out);
    return true;
}

const char *f8_diff_bare(const f8_diff *diff, bool in_b, uint64_t i)
{
    const f8_problems *problems =
        in_b ? &diff->pairs.b.problems : &diff->pairs.a.problems;

    return i < problems->count ? problems->lines[i] : NULL;
}
