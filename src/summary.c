/* summary.c - what a plan says of itself: totals, forecasts, and its tables
 * one row at a time. Part of the plan (plan.h). */
#include "plan.h"

#include <string.h>

#include "pipeline.h"
#include "quant.h"
#include "work.h"

/* What is kept of each quantised weight's error: while its shard is written,
 * as text in the journal, and in the report with its name. */
enum { MEASURED_BYTES = 1024 };

/* Buffers and tables. The tables are counted, not guessed; the megabyte is
 * for the program itself, thread stacks and libraries. */
static uint64_t forecast_memory(const f8_plan *plan)
{
    f8_crew crew = {.threads = plan->threads,
                    .memory_bytes = plan->memory_bytes};
    uint64_t header = 0;

    for (uint64_t i = 0; i < plan->shards_count; i++) {
        if (plan->shards[i].header_bytes > header)
            header = plan->shards[i].header_bytes;
    }
    for (uint64_t i = 0; i < plan->units_count; i++) {
        f8_work work;
        f8_work_describe(plan, i, &work);
        uint64_t bytes = f8_pipeline_band(&work);
        if (bytes > crew.band_bytes)
            crew.band_bytes = bytes;
    }
    return f8_pipeline_memory(&crew) +
           (plan->threads + 1) * plan->kinds_count * sizeof(f8_stats) +
           2 * plan->layers_count * sizeof(f8_stats) +
           plan->fp8_weights * MEASURED_BYTES +
           plan->units_count * sizeof *plan->units +
           plan->results_count * sizeof *plan->results +
           plan->source->tensors.capacity * sizeof(f8_tensor) +
           plan->source->tensors.count *
               (sizeof(f8_decision) + sizeof(f8_tensor *) +
                (plan->pairs.partners ? sizeof(f8_partner) : 0)) +
           plan->strings.bytes + plan->source->strings.bytes + header +
           (UINT64_C(4) << 20);
}

void f8_plan_get_summary(const f8_plan *plan, f8_plan_summary *out)
{
    uint64_t headers = 0;

    memset(out, 0, sizeof *out);
    out->model_type = plan->source->model_type;
    out->family = plan->rules ? plan->rules->family : "";
    out->layout = plan->direction == F8_TO_FP8 ? plan->layout : "";
    out->source_tensors = plan->source->tensors.count;
    out->source_bytes = plan->source->tensor_bytes;
    out->source_shards = plan->source->files_count;
    out->result_tensors =
        2 * plan->fp8_weights + plan->dequantized + plan->kept;
    out->result_bytes = plan->result_bytes;
    out->result_shards = plan->shards_count;
    out->fp8_weights = out->scales = plan->fp8_weights;
    out->kept = plan->kept;
    out->result_parameters = plan->parameters;
    for (size_t i = 0; i < plan->sides.count; i++) {
        const f8_side_file *f = &plan->sides.items[i];
        out->side_files += f->carried;
        out->side_bytes += f->carried ? f->bytes : 0;
        out->left_behind += !f->carried;
    }
    for (uint64_t i = 0; i < plan->shards_count; i++)
        headers += plan->shards[i].header_bytes;
    /* Twice the headers: the index names every tensor once more. */
    out->disk_bytes = plan->result_bytes + 2 * headers + out->side_bytes +
                      plan->source->config_text.length;
    out->memory_bytes = forecast_memory(plan);
    out->threads = plan->threads;
    out->choice = plan->choice;
    out->direction = plan->direction;
    out->dequantized = plan->dequantized;
    out->fused = plan->fused;
    out->value_dtype = plan->value_dtype;
}

void f8_plan_get_source(const f8_plan *plan, uint64_t i, f8_plan_source *out)
{
    const f8_tensor *t = &plan->source->tensors.items[i];
    const f8_decision *d = &plan->decisions[i];

    out->name = t->name;
    out->file = plan->source->files[t->file].name;
    out->dtype = t->dtype;
    out->rank = t->rank;
    out->shape = t->shape;
    out->action = d->action;
    /* The units of one weight of three dimensions are one result. */
    out->results =
        d->units_count > 0
            ? plan->units[d->first_unit + d->units_count - 1].result -
                  plan->units[d->first_unit].result + 1
            : 0;
    out->first = d->units_count > 0 ? plan->units[d->first_unit].result : 0;
    out->decided_by = d->decided_by;
}

void f8_plan_get_result(const f8_plan *plan, uint64_t i, f8_plan_result *out)
{
    const f8_unit *u = &plan->units[plan->results[i]];

    memset(out, 0, sizeof *out);
    out->name = u->name;
    out->action = u->action;
    out->dtype = f8_unit_dtype(plan, u);
    out->rank = u->rank;
    out->shape = u->shape;
    out->shard = u->shard;
    if (u->action == F8_QUANTIZE) {
        out->scale_dtype = f8_scale_storage(plan->scale_dtype);
        out->scale_shape[0] = f8_ceil_div(f8_unit_rows(u), F8_BLOCK);
        out->scale_shape[1] = f8_ceil_div(f8_unit_cols(u), F8_BLOCK);
    }
}

const char *f8_plan_shard_name(const f8_plan *plan, uint64_t i)
{
    return plan->shards[i].name;
}

const char *f8_plan_left_behind(const f8_plan *plan, uint64_t i)
{
    for (size_t k = 0; k < plan->sides.count; k++) {
        if (!plan->sides.items[k].carried && i-- == 0)
            return plan->sides.items[k].path;
    }
    return NULL;
}

const char *f8_plan_note(const f8_plan *plan, uint64_t i)
{
    return plan->direction == F8_TO_FP8 && i < plan->rules->notes_count
               ? plan->rules->notes[i]
               : NULL;
}

const char *f8_plan_not_converted(const f8_plan *plan, uint64_t i)
{
    return json_string_value(json_array_get(plan->not_converted, (size_t)i));
}
