/* limits.c - holds a result that is planned against what may be read. See
 * limits.h. */
#include "limits.h"

#include <string.h>

#include "index.h"
#include "manifest.h"

/* One name, of a weight or, with the suffix, of its scale. */
static f8_status take_name(const f8_plan *plan, const f8_unit *u,
                           const char *suffix, uint64_t *names, f8_error *err)
{
    size_t n = strlen(u->name) + strlen(suffix);

    if (n > F8_NAME_MAX_BYTES)
        return f8_fail(err, F8_ERR_REFUSED,
                       "tensor %s: would be called %s%s in the result: "
                       "expected a name of at most %zu bytes, found %zu",
                       plan->source->tensors.items[u->source].name, u->name,
                       suffix, F8_NAME_MAX_BYTES, n);
    *names += n;
    return F8_OK;
}

f8_status f8_limits_names(const f8_plan *plan, uint64_t bytes, f8_error *err)
{
    if (bytes <= F8_NAMES_MAX_BYTES)
        return F8_OK;
    return f8_fail(err, F8_ERR_REFUSED,
                   "%s: expected a result with names of tensors of at most %d "
                   "bytes in all, found more",
                   plan->source->dir, F8_NAMES_MAX_BYTES);
}

static f8_status check_names(const f8_plan *plan, f8_error *err)
{
    f8_status status = F8_OK;
    uint64_t names = 0;

    for (uint64_t i = 0; i < plan->results_count && status == F8_OK; i++) {
        const f8_unit *u = &plan->units[plan->results[i]];
        status = take_name(plan, u, "", &names, err);
        if (status == F8_OK && u->action == F8_QUANTIZE)
            status = take_name(plan, u, F8_SCALE_SUFFIX, &names, err);
    }
    return status == F8_OK ? f8_limits_names(plan, names, err) : status;
}

static f8_status check_shards(const f8_plan *plan, f8_error *err)
{
    if (plan->shards_count <= F8_SHARDS_MAX)
        return F8_OK;
    return f8_fail(err, F8_ERR_REFUSED,
                   "--shard-size: expected a result of at most %d shards, "
                   "found %llu of at most %llu bytes; a larger one makes fewer",
                   F8_SHARDS_MAX, (unsigned long long)plan->shards_count,
                   (unsigned long long)plan->shard_bytes);
}

static f8_status check_index(const f8_plan *plan, f8_error *err)
{
    uint64_t bytes =
        f8_plan_has_index(plan) ? f8_manifest_index_bytes(plan) : 0;

    if (bytes <= F8_INDEX_MAX_BYTES)
        return F8_OK;
    return f8_fail(err, F8_ERR_REFUSED,
                   "%s of the result: expected at most %llu bytes, found %llu",
                   F8_INDEX_NAME, (unsigned long long)F8_INDEX_MAX_BYTES,
                   (unsigned long long)bytes);
}

static f8_status check_config(const f8_plan *plan, f8_error *err)
{
    f8_buf text = {0};
    f8_status status = f8_manifest_config(plan, &text, err);

    if (status == F8_OK && text.length > F8_CONFIG_MAX_BYTES)
        status =
            f8_fail(err, F8_ERR_REFUSED,
                    "%s of the result: expected at most %llu bytes, found "
                    "%zu, with the names of %zu modules that are kept",
                    F8_CONFIG_NAME, (unsigned long long)F8_CONFIG_MAX_BYTES,
                    text.length, json_array_size(plan->not_converted));
    f8_buf_free(&text);
    return status;
}

f8_status f8_limits_check(const f8_plan *plan, f8_error *err)
{
    f8_status status = check_names(plan, err);

    if (status == F8_OK)
        status = check_shards(plan, err);
    if (status == F8_OK)
        status = check_index(plan, err);
    if (status == F8_OK)
        status = check_config(plan, err);
    return status;
}
