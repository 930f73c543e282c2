/* json_diff.c - the document of `diff --json`; see json.h. */
#include "json_values.h"

static json_t *diff_side(const f8_diff_side *side)
{
    json_t *entry = object();
    put(entry, "tensor", string(side->name));
    put(entry, "file", string(side->file));
    put(entry, "dtype", dtype(side->dtype));
    put(entry, "shape", shape(side->rank, side->shape));
    if (side->has_scale)
        put(entry, "scale_dtype", dtype(side->scale_dtype));
    return entry;
}

static json_t *diff_singles(const f8_diff *diff, bool in_b)
{
    f8_diff_single single;
    json_t *list = array();
    for (uint64_t i = 0; f8_diff_get_single(diff, in_b, i, &single); i++) {
        json_t *entry = diff_side(&single.side);
        put(entry, "name", string(single.name));
        append(list, entry);
    }
    return list;
}

static json_t *diff_changes(const f8_diff *diff)
{
    f8_diff_change change;
    json_t *list = array();
    for (uint64_t i = 0; f8_diff_get_change(diff, i, &change); i++) {
        json_t *entry = object();
        put(entry, "name", string(change.name));
        put(entry, "dtype", json_boolean(change.dtype));
        put(entry, "shape", json_boolean(change.shape));
        put(entry, "a", diff_side(&change.a));
        put(entry, "b", diff_side(&change.b));
        append(list, entry);
    }
    return list;
}

/* A side that has no such value has no such key: null is a value. */
static json_t *diff_config(const f8_diff *diff)
{
    f8_diff_setting setting;
    json_t *list = array();
    for (uint64_t i = 0; f8_diff_get_setting(diff, i, &setting); i++) {
        json_t *entry = object();
        put(entry, "path", string(setting.path));
        if (setting.a)
            put(entry, "a", json_loads(setting.a, JSON_DECODE_ANY, NULL));
        if (setting.b)
            put(entry, "b", json_loads(setting.b, JSON_DECODE_ANY, NULL));
        append(list, entry);
    }
    return list;
}

static json_t *diff_figures(const f8_diff_values *values)
{
    json_t *entry = object();
    put(entry, "name", string(values->name));
    put(entry, "elems", count(values->elems));
    put(entry, "differing", count(values->differing));
    put(entry, "not_finite", count(values->not_finite));
    put(entry, "relative_rms", real(values->relative_rms));
    put(entry, "sqnr_db", real(values->sqnr_db));
    put(entry, "cosine", real(values->cosine));
    put(entry, "max_abs_error", real(values->max_abs_error));
    return entry;
}

static void put_diff_values(json_t *document, const f8_diff *diff)
{
    f8_diff_values values;
    json_t *list = array(), *kinds = array();
    for (uint64_t i = 0; f8_diff_get_kind(diff, i, &values); i++) {
        json_t *entry = diff_figures(&values);
        put(entry, "tensors", count(values.tensors));
        append(kinds, entry);
    }
    for (uint64_t i = 0; f8_diff_get_values(diff, i, &values); i++) {
        json_t *entry = diff_figures(&values);
        put(entry, "a", diff_side(&values.a));
        put(entry, "b", diff_side(&values.b));
        append(list, entry);
    }
    f8_diff_get_overall(diff, &values);
    json_t *overall = diff_figures(&values);
    put(overall, "tensors", count(values.tensors));
    put(document, "overall", overall);
    put(document, "kinds", kinds);
    put(document, "values", list);
}

static json_t *diff_checkpoint(const f8_diff *diff, bool in_b)
{
    f8_diff_summary s;
    const char *line = NULL;
    json_t *entry = object(), *bare = array();
    f8_diff_get_summary(diff, &s);
    put(entry, "tensors", count(in_b ? s.b_tensors : s.a_tensors));
    put(entry, "bytes", count(in_b ? s.b_bytes : s.a_bytes));
    put(entry, "files", count(in_b ? s.b_files : s.a_files));
    put(entry, "fused", count(in_b ? s.b_fused : s.a_fused));
    put(entry, "without_scales", count(in_b ? s.b_bare : s.a_bare));
    for (uint64_t i = 0; (line = f8_diff_bare(diff, in_b, i)); i++)
        append(bare, string(line));
    put(entry, "without_scales_list", bare);
    put(entry, "only", diff_singles(diff, in_b));
    return entry;
}

json_t *json_diff(const f8_diff *diff)
{
    f8_diff_summary summary;
    json_t *document = object();
    f8_diff_get_summary(diff, &summary);
    put(document, "same", json_boolean(summary.same));
    put(document, "a", diff_checkpoint(diff, false));
    put(document, "b", diff_checkpoint(diff, true));
    put(document, "identical", count(summary.identical));
    put(document, "equal", count(summary.equal));
    put(document, "different", count(summary.different));
    put(document, "other_dtype", count(summary.dtypes));
    put(document, "other_shape", count(summary.shapes));
    put(document, "other_name", count(summary.renamed));
    put(document, "in_other_files", count(summary.moved));
    put(document, "config_differences", count(summary.settings));
    put(document, "config", diff_config(diff));
    put(document, "changes", diff_changes(diff));
    put_diff_values(document, diff);
    put(document, "seconds", real(summary.seconds));
    return document;
}
