/* test_plan.c - from a small checkpoint and rules of the test's own to
 * decisions, names, shards and offsets: docs/format.md, sections 2 and 4. All
 * offsets and sizes were worked out by hand. */
#include "helpers.h"

#include "plan.h"

/* ---- a checkpoint and a plan --------------------------------------------- */

static const char rules_of_most[] = "family test\n"
                                    "keep      * optional\n"
                                    "quantize  *.q.weight optional\n"
                                    "keep      *.always optional always\n";

static const char test_config[] =
    "{\"model_type\": \"test\", \"same\": 4, \"none\": 0,"
    " \"text_config\": {\"inter\": 2, \"hidden\": 4}}";

static f8_plan *plan_of(const char *dir, const char *rules,
                        const made_tensor *tensors, size_t count)
{
    const char *src = put_source(dir, rules, test_config, tensors, count);
    f8_options options = source_options(dir);

    return plan_with(src, &options);
}

static void expect_refused(const char *dir, const char *rules,
                           const made_tensor *tensors, size_t count,
                           f8_status status, const char *message)
{
    const char *src = put_source(dir, rules, test_config, tensors, count);
    f8_options options = source_options(dir);
    f8_plan *plan = NULL;
    f8_error err = {0};

    expect_error(f8_plan_create(src, &options, &plan, &err), &err, status,
                 message);
    assert_null(plan);
}

/* The header of a result shard, as text behind its length. */
static void expect_header(const f8_plan *plan, uint64_t shard, const char *json)
{
    f8_buf buf = {0};
    f8_error err = {0};
    uint64_t length = 0;

    f8_buf_puts(&buf, "dropped");
    expect_ok(f8_plan_shard_header(plan, shard, &buf, &err), &err);
    assert_true(buf.length >= 8 && buf.length % 8 == 0);
    for (unsigned i = 8; i-- > 0;)
        length = length << 8 | (unsigned char)buf.data[i];
    assert_int_equal(length, buf.length - 8);
    size_t n = strlen(json);
    assert_true(length >= n && length < n + 8);
    assert_memory_equal(buf.data + 8, json, n);
    assert_int_equal(strspn(buf.data + 8 + n, " "), length - n);
    f8_buf_free(&buf);
}

/* Written to a file with as much data as planned, the header is accepted: the
 * tensors tile the data. Every one is aligned to its element size. */
static void expect_readable(const char *dir, const f8_plan *plan)
{
    for (uint64_t i = 0; i < plan->shards_count; i++) {
        const f8_shard *shard = &plan->shards[i];
        const char *path = path_in(dir, "readable");
        f8_buf buf = {0};
        f8_arena names = {0};
        f8_tensor_list list = {0};
        f8_error err = {0};
        int fd = -1;
        uint64_t bytes = 0;
        expect_ok(f8_plan_shard_header(plan, i, &buf, &err), &err);
        put_file(path, buf.data, buf.length);
        assert_int_equal(
            truncate(path, (off_t)(buf.length + shard->data_bytes)), 0);
        expect_ok(f8_open_read(path, &fd, &bytes, NULL, &err), &err);
        expect_ok(f8_st_read_header(fd, bytes, shard->name, 0, &names, &list,
                                    NULL, &err),
                  &err);
        assert_int_equal(list.count, shard->tensors);
        for (size_t k = 0; k < list.count; k++)
            assert_int_equal(
                list.items[k].offset % f8_dtype_bytes(list.items[k].dtype), 0);
        close(fd);
        free(list.items);
        f8_arena_free(&names);
        f8_buf_free(&buf);
    }
}

/* ---- one shard ----------------------------------------------------------- */

#define METADATA "{\"__metadata__\":{\"format\":\"pt\"},"

static void test_order_and_offsets(void **state)
{
    static const made_tensor tensors[] = {
        {"a.norm", F8_DTYPE_BF16, 1, {5}},
        {"a.q.weight", F8_DTYPE_BF16, 2, {130, 256}},
        {"b.ids", F8_DTYPE_U8, 1, {3}},
        {"b.count", F8_DTYPE_I64, 1, {2}},
        {"b.q.weight", F8_DTYPE_F32, 2, {1, 129}},
        {"c.A_log", F8_DTYPE_F32, 2, {1, 3}},
        {"c.empty", F8_DTYPE_F16, 1, {0}},
    };
    f8_plan *plan = plan_of(*state, rules_of_most, tensors, COUNT_OF(tensors));
    f8_plan_summary summary;

    assert_int_equal(plan->shards_count, 1);
    assert_string_equal(f8_plan_shard_name(plan, 0), "model.safetensors");
    /* 8 bytes an element: b.count, 16 bytes. 4 bytes: c.A_log, 12. 2 bytes in
     * writing order: a.norm, 10; a's scale of 2 x 2, 8; b's scale of 1 x 2, 4;
     * c.empty. 1 byte: a's codes, 130 * 256 = 33,280; b.ids, 3; b's, 129. */
    expect_header(
        plan, 0,
        METADATA
        "\"b.count\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
        "\"c.A_log\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[16,"
        "28]},"
        "\"a.norm\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[28,38]}"
        ","
        "\"a.q.weight_scale_inv\":{\"dtype\":\"BF16\",\"shape\":[2,2],"
        "\"data_offsets\":[38,46]},"
        "\"b.q.weight_scale_inv\":{\"dtype\":\"BF16\",\"shape\":[1,2],"
        "\"data_offsets\":[46,50]},"
        "\"c.empty\":{\"dtype\":\"F16\",\"shape\":[0],\"data_offsets\":[50,50]}"
        ","
        "\"a.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[130,256],"
        "\"data_offsets\":[50,33330]},"
        "\"b.ids\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[33330,"
        "33333]},"
        "\"b.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,129],"
        "\"data_offsets\":[33333,33462]}}");
    expect_readable(*state, plan);

    f8_plan_get_summary(plan, &summary);
    assert_string_equal(summary.model_type, "test");
    assert_string_equal(summary.family, "test");
    assert_string_equal(summary.layout, "card");
    assert_int_equal(summary.source_tensors, 7);
    /* 10 + 66,560 + 3 + 16 + 516 + 12 + 0 */
    assert_int_equal(summary.source_bytes, 67117);
    assert_int_equal(summary.source_shards, 1);
    assert_int_equal(summary.result_tensors, 9);
    assert_int_equal(summary.result_bytes, 33462);
    assert_int_equal(summary.result_shards, 1);
    assert_int_equal(summary.fp8_weights, 2);
    assert_int_equal(summary.scales, 2);
    assert_int_equal(summary.kept, 5);
    /* 5 + 33,280 + 3 + 2 + 129 + 3: all elements but the scales'. */
    assert_int_equal(summary.result_parameters, 33422);
    assert_int_equal(summary.threads, 2);
    f8_plan_free(plan);
}

/* A scale of one byte stands directly behind its weight, one of four bytes
 * before everything smaller. */
static void test_scales_of_other_dtypes(void **state)
{
    static const made_tensor tensors[] = {
        {"a.bias", F8_DTYPE_BF16, 1, {1}},
        {"a.q.weight", F8_DTYPE_BF16, 2, {2, 300}},
        {"b.q.weight", F8_DTYPE_BF16, 2, {129, 1}},
    };
    const char *src = put_source(*state, rules_of_most, test_config, tensors,
                                 COUNT_OF(tensors));
    f8_options options = source_options(*state);

    options.scale_dtype = F8_SCALE_UE8M0;
    f8_plan *plan = plan_with(src, &options);
    expect_header(
        plan, 0,
        METADATA
        "\"a.bias\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},"
        "\"a.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,300],"
        "\"data_offsets\":[2,602]},"
        "\"a.q.weight_scale_inv\":{\"dtype\":\"F8_E8M0\",\"shape\":[1,3],"
        "\"data_offsets\":[602,605]},"
        "\"b.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[129,1],"
        "\"data_offsets\":[605,734]},"
        "\"b.q.weight_scale_inv\":{\"dtype\":\"F8_E8M0\",\"shape\":[2,1],"
        "\"data_offsets\":[734,736]}}");
    f8_plan_free(plan);

    options.scale_dtype = F8_SCALE_F32;
    plan = plan_with(src, &options);
    expect_header(
        plan, 0,
        METADATA
        "\"a.q.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,3],"
        "\"data_offsets\":[0,12]},"
        "\"b.q.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[2,1],"
        "\"data_offsets\":[12,20]},"
        "\"a.bias\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[20,22]}"
        ","
        "\"a.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,300],"
        "\"data_offsets\":[22,622]},"
        "\"b.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[129,1],"
        "\"data_offsets\":[622,751]}}");
    f8_plan_free(plan);
}

/* ---- several shards ------------------------------------------------------ */

/* Four weights of 128 x 128 take 16,384 + 2 bytes each. */
static const made_tensor four[] = {
    {"a.q.weight", F8_DTYPE_BF16, 2, {128, 128}},
    {"b.q.weight", F8_DTYPE_BF16, 2, {128, 128}},
    {"c.q.weight", F8_DTYPE_BF16, 2, {128, 128}},
    {"d.q.weight", F8_DTYPE_BF16, 2, {128, 128}},
};

static f8_plan *cut_four(const char *dir, uint64_t shard_bytes)
{
    const char *src =
        put_source(dir, rules_of_most, test_config, four, COUNT_OF(four));
    f8_options options = source_options(dir);

    options.shard_bytes = shard_bytes;
    return plan_with(src, &options);
}

static void test_shards_at_their_limit(void **state)
{
    /* Two fit exactly; with one byte less only one does. */
    f8_plan *plan = cut_four(*state, 2 * 16386);

    assert_int_equal(plan->shards_count, 2);
    assert_string_equal(f8_plan_shard_name(plan, 0),
                        "model-00001-of-00002.safetensors");
    assert_string_equal(f8_plan_shard_name(plan, 1),
                        "model-00002-of-00002.safetensors");
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(plan->shards[i].first_unit, 2 * i);
        assert_int_equal(plan->shards[i].units_count, 2);
        assert_int_equal(plan->shards[i].data_bytes, 32772);
        assert_int_equal(plan->shards[i].tensors, 4);
    }
    /* Offsets begin again in every shard. */
    expect_header(plan, 1,
                  METADATA
                  "\"c.q.weight_scale_inv\":{\"dtype\":\"BF16\",\"shape\":[1,"
                  "1],\"data_offsets\":[0,2]},"
                  "\"d.q.weight_scale_inv\":{\"dtype\":\"BF16\",\"shape\":[1,"
                  "1],\"data_offsets\":[2,4]},"
                  "\"c.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[128,128],"
                  "\"data_offsets\":[4,16388]},"
                  "\"d.q.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[128,128],"
                  "\"data_offsets\":[16388,32772]}}");
    expect_readable(*state, plan);
    f8_plan_free(plan);

    plan = cut_four(*state, 2 * 16386 - 1);
    assert_int_equal(plan->shards_count, 4);
    f8_plan_free(plan);
}

/* A weight fits without its scale, but they are not parted; and what is larger
 * than a shard gets one of its own. */
static void test_weight_and_scale_stay_together(void **state)
{
    static const uint64_t sizes[] = {16386 + 16384, 16386, 16384, 1};

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        f8_plan *plan = cut_four(*state, sizes[i]);
        assert_int_equal(plan->shards_count, 4);
        for (uint64_t s = 0; s < 4; s++) {
            assert_int_equal(plan->shards[s].tensors, 2);
            assert_int_equal(plan->shards[s].data_bytes, 16386);
            assert_int_equal(plan->units[s].shard, s);
        }
        assert_string_equal(f8_plan_shard_name(plan, 3),
                            "model-00004-of-00004.safetensors");
        expect_readable(*state, plan);
        f8_plan_free(plan);
    }
}

static void test_mixed_shards(void **state)
{
    /* In source order 6, 3, 4, 10 and 1 bytes into shards of 10: 6 + 3, then
     * 4, then 10, which fits exactly, then 1. */
    static const made_tensor tensors[] = {
        {"v", F8_DTYPE_U8, 1, {6}}, {"w", F8_DTYPE_U8, 1, {3}},
        {"x", F8_DTYPE_U8, 1, {4}}, {"y", F8_DTYPE_U8, 1, {10}},
        {"z", F8_DTYPE_U8, 1, {1}},
    };
    static const uint32_t expected[] = {0, 0, 1, 2, 3};
    const char *src = put_source(*state, rules_of_most, test_config, tensors,
                                 COUNT_OF(tensors));
    f8_options options = source_options(*state);

    options.shard_bytes = 10;
    f8_plan *plan = plan_with(src, &options);
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        f8_plan_result result;
        f8_plan_get_result(plan, i, &result);
        assert_int_equal(result.shard, expected[i]);
        assert_string_equal(result.name, tensors[i].name);
    }
    assert_int_equal(plan->shards_count, 4);
    f8_plan_free(plan);
}

/* Names of 512 bytes and 128 more for each: 39,062 of them are reckoned as
 * 24,999,680 bytes, the next would exceed 25,000,000. */
static void test_shards_cut_by_their_headers(void **state)
{
    enum { COUNT = 39063 };
    made_tensor *tensors = calloc(COUNT, sizeof *tensors);
    char *names = calloc(COUNT, 513);

    assert_non_null(tensors);
    assert_non_null(names);
    for (unsigned i = 0; i < COUNT; i++) {
        char *name = names + (size_t)i * 513;
        memset(name, 'n', 512);
        /* Experts: one name in config.json stands for all. */
        int n = snprintf(name, 513, "experts.%05u", i);
        name[n] = '.';
        tensors[i] = (made_tensor){name, F8_DTYPE_U8, 1, {0}};
    }
    f8_plan *plan = plan_of(*state, rules_of_most, tensors, COUNT);
    assert_int_equal(plan->shards_count, 2);
    assert_int_equal(plan->shards[0].units_count, COUNT - 1);
    assert_int_equal(plan->shards[0].header_bytes, 24999680);
    assert_int_equal(plan->shards[1].units_count, 1);
    expect_readable(*state, plan);
    f8_plan_free(plan);
    /* One less, and all is one shard. */
    plan = plan_of(*state, rules_of_most, tensors, COUNT - 1);
    assert_int_equal(plan->shards_count, 1);
    f8_plan_free(plan);
    free(names);
    free(tensors);
}

/* ---- splitting ----------------------------------------------------------- */

static const char rules_of_experts[] =
    "family test\n"
    "split m.experts.gate_up experts=0 parts=1:gate,up\n"
    "split down experts=0 parts=1:w2 optional\n"
    "keep  *.norm optional\n";

static void test_split(void **state)
{
    static const made_tensor tensors[] = {
        {"m.experts.gate_up", F8_DTYPE_F16, 3, {2, 260, 3}},
        {"down", F8_DTYPE_BF16, 3, {2, 1, 2}},
    };
    static const char *const names[] = {"m.experts.0.gate.weight",
                                        "m.experts.0.up.weight",
                                        "m.experts.1.gate.weight",
                                        "m.experts.1.up.weight",
                                        "0.w2.weight",
                                        "1.w2.weight"};
    f8_plan *plan =
        plan_of(*state, rules_of_experts, tensors, COUNT_OF(tensors));
    f8_plan_source source;

    assert_int_equal(plan->units_count, COUNT_OF(names));
    uint64_t start = plan->source->tensors.items[0].offset;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        f8_plan_result result;
        f8_plan_get_result(plan, i, &result);
        assert_string_equal(result.name, names[i]);
        assert_int_equal(result.action, F8_QUANTIZE);
        assert_int_equal(result.dtype, F8_DTYPE_E4M3);
        assert_int_equal(result.rank, 2);
        assert_int_equal(result.shape[0], i < 4 ? 130 : 1);
        assert_int_equal(result.shape[1], i < 4 ? 3 : 2);
        assert_int_equal(result.scale_dtype, F8_DTYPE_BF16);
        assert_int_equal(result.scale_shape[0], i < 4 ? 2 : 1);
        assert_int_equal(result.scale_shape[1], 1);
        /* The parts follow each other: 130 * 3 elements of two bytes. */
        assert_int_equal(plan->units[i].offset,
                         start + (i < 4 ? i * 780 : 4 * 780 + (i - 4) * 4));
        assert_int_equal(plan->units[i].bytes, i < 4 ? 780 : 4);
    }
    f8_plan_get_source(plan, 1, &source);
    assert_string_equal(source.name, "down");
    assert_string_equal(source.file, "model.safetensors");
    assert_int_equal(source.dtype, F8_DTYPE_BF16);
    assert_int_equal(source.rank, 3);
    assert_int_equal(source.shape[0], 2);
    assert_int_equal(source.action, F8_QUANTIZE);
    assert_int_equal(source.results, 2);
    assert_int_equal(source.first, 4);
    assert_string_equal(source.decided_by, "my.rules:3: split down");
    expect_readable(*state, plan);
    f8_plan_free(plan);
}

/* Kept, it is split all the same. */
static void test_split_and_keep(void **state)
{
    static const made_tensor tensors[] = {
        {"m.experts.gate_up", F8_DTYPE_F16, 3, {1, 4, 3}}};
    static const f8_override keep[] = {{"*.gate_up", false}};
    const char *src = put_source(*state, rules_of_experts, test_config, tensors,
                                 COUNT_OF(tensors));
    f8_options options = source_options(*state);

    options.overrides = keep;
    options.overrides_count = 1;
    f8_plan *plan = plan_with(src, &options);
    expect_header(plan, 0,
                  METADATA "\"m.experts.0.gate.weight\":{\"dtype\":\"F16\","
                           "\"shape\":[2,3],\"data_offsets\":[0,12]},"
                           "\"m.experts.0.up.weight\":{\"dtype\":\"F16\","
                           "\"shape\":[2,3],\"data_offsets\":[12,24]}}");
    assert_string_equal(f8_plan_not_converted(plan, 0), "m.experts");
    assert_null(f8_plan_not_converted(plan, 1));
    f8_plan_free(plan);
}

/* [E, C, P * R]: an expert's parts lie side by side, each transposed. */
static void test_split_across(void **state)
{
    static const made_tensor tensors[] = {
        {"up", F8_DTYPE_BF16, 3, {2, 3, 260}}};
    f8_plan *plan = plan_of(*state,
                            "family test\n"
                            "split up experts=0 parts=2:g,u\n",
                            tensors, COUNT_OF(tensors));
    static const char *const names[] = {"0.g.weight", "0.u.weight",
                                        "1.g.weight", "1.u.weight"};
    uint64_t start = plan->source->tensors.items[0].offset;

    assert_int_equal(plan->units_count, 4);
    for (size_t i = 0; i < 4; i++) {
        const f8_unit *u = &plan->units[i];
        assert_string_equal(u->name, names[i]);
        assert_int_equal(u->shape[0], 130);
        assert_int_equal(u->shape[1], 3);
        assert_int_equal(u->stride, 260);
        assert_int_equal(u->bytes, 780);
        /* An expert has 3 * 260 elements, its second part begins 130 on. */
        assert_int_equal(u->offset, start + i / 2 * 1560 + i % 2 * 260);
    }
    f8_plan_free(plan);
}

/* With into= the results lie beside the module that the tensor is of. */
static void test_split_into(void **state)
{
    static const made_tensor tensors[] = {
        {"l.1.moe.up.weight", F8_DTYPE_BF16, 3, {1, 4, 2}},
        {"down", F8_DTYPE_BF16, 3, {1, 4, 2}}};
    static const char *const names[] = {"l.1.moe.experts.0.g.weight",
                                        "l.1.moe.experts.0.u.weight",
                                        "x.0.d.weight"};
    f8_plan *plan = plan_of(*state,
                            "family test\n"
                            "split *.up.weight experts=0 parts=1:g,u "
                            "into=experts\n"
                            "split down experts=0 parts=1:d into=x\n",
                            tensors, COUNT_OF(tensors));

    assert_int_equal(plan->units_count, COUNT_OF(names));
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_string_equal(plan->units[i].name, names[i]);
    f8_plan_free(plan);
}

/* Where some loader has another name for a kept module, both are listed. */
static void test_also_listed(void **state)
{
    static const made_tensor tensors[] = {
        {"l.1.a.gate.weight", F8_DTYPE_BF16, 2, {2, 2}},
        {"l.1.a.q.weight", F8_DTYPE_BF16, 2, {2, 2}},
        {"gate.weight", F8_DTYPE_BF16, 2, {2, 2}}};
    f8_plan *plan = plan_of(*state,
                            "family test\n"
                            "quantize *.q.weight\n"
                            "keep *gate.weight linear also=b.router\n",
                            tensors, COUNT_OF(tensors));
    static const char *const listed[] = {"l.1.a.gate", "l.1.b.router", "gate",
                                         "b.router"};

    for (size_t i = 0; i < COUNT_OF(listed); i++)
        assert_string_equal(f8_plan_not_converted(plan, i), listed[i]);
    assert_null(f8_plan_not_converted(plan, COUNT_OF(listed)));
    f8_plan_free(plan);
}

static const char rules_either_way[] =
    "family test\n"
    "split up   experts=0 parts=g,u rows=inter columns=hidden optional\n"
    "split down experts=0 parts=d   rows=hidden columns=inter optional\n"
    "split same experts=0 parts=s   rows=same columns=hidden optional\n"
    "split none experts=0 parts=s   rows=same columns=none optional\n";

/* inter is 2 and hidden 4: [E, 4, 4] of `up` could be either, and `down` tells
 * it; the numbers stand in the config, two of them in its text_config. */
static void test_split_either_way(void **state)
{
    static const made_tensor along[] = {{"up", F8_DTYPE_BF16, 3, {1, 4, 4}},
                                        {"down", F8_DTYPE_BF16, 3, {1, 4, 2}}};
    static const made_tensor across[] = {{"same", F8_DTYPE_BF16, 3, {1, 4, 4}},
                                         {"down", F8_DTYPE_BF16, 3, {1, 2, 4}},
                                         {"up", F8_DTYPE_BF16, 3, {1, 4, 4}}};
    f8_plan *plan = plan_of(*state, rules_either_way, along, COUNT_OF(along));

    for (size_t i = 0; i < 3; i++)
        assert_int_equal(plan->units[i].stride, 0);
    assert_int_equal(plan->units[0].shape[0], 2); /* 0.g */
    assert_int_equal(plan->units[2].shape[0], 4); /* 0.d */
    f8_plan_free(plan);
    plan = plan_of(*state, rules_either_way, across, COUNT_OF(across));
    assert_int_equal(plan->units_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(plan->units[i].stride, 4);
    assert_int_equal(plan->units[1].shape[0], 4); /* 0.d */
    assert_int_equal(plan->units[1].shape[1], 2);
    assert_int_equal(plan->units[2].shape[0], 2); /* 0.g */
    assert_int_equal(plan->units[2].shape[1], 4);
    f8_plan_free(plan);
}

static void test_split_that_no_way_fits(void **state)
{
    static const struct {
        made_tensor tensor;
        const char *message;
    } cases[] = {
        {{"up", F8_DTYPE_BF16, 3, {1, 4, 4}},
         "tensor up: expected axes that tell rows from columns, or another "
         "tensor of experts that does, found [1, 4, 4] (my.rules:2: split "
         "up)"},
        {{"up", F8_DTYPE_BF16, 3, {1, 4, 6}},
         "tensor up: expected axes of 2 x 2 and 4 elements, in either order, "
         "found [1, 4, 6] (my.rules:2: split up)"},
        {{"none", F8_DTYPE_BF16, 3, {1, 4, 2}},
         "config.json: expected a number \"none\", which tells which way "
         "tensor none lies (my.rules:5: split none)"},
        {{"down", F8_DTYPE_F64, 3, {1, 2, 4}},
         "tensor down: expected BF16, F16 or F32 to quantise, found F64 "
         "(my.rules:3: split down)"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_refused(*state, rules_either_way, &cases[i].tensor, 1,
                       F8_ERR_RULES, cases[i].message);
    static const made_tensor mixed[] = {
        {"a.down", F8_DTYPE_BF16, 3, {1, 4, 2}},
        {"b.down", F8_DTYPE_BF16, 3, {1, 2, 4}}};
    expect_refused(*state,
                   "family test\n"
                   "split *.down experts=0 parts=d rows=hidden columns=inter\n",
                   mixed, COUNT_OF(mixed), F8_ERR_RULES,
                   "tensors a.down and b.down: expected both to lie the same "
                   "way, found one transposed (my.rules:2: split *.down)");
    /* Kept, a tensor may have any dtype, but 8 bytes are not transposed. */
    static const made_tensor wide[] = {{"down", F8_DTYPE_F64, 3, {1, 2, 4}}};
    static const f8_override keep[] = {{"down", false}};
    const char *src =
        put_source(*state, rules_either_way, test_config, wide, 1);
    f8_options options = source_options(*state);
    f8_plan *plan = NULL;
    f8_error err = {0};
    options.overrides = keep;
    options.overrides_count = 1;
    expect_error(f8_plan_create(src, &options, &plan, &err), &err, F8_ERR_RULES,
                 "tensor down: expected BF16, F16 or F32 to transpose, found "
                 "F64 (my.rules:3: split down)");
}

static void test_refused_and_noted(void **state)
{
    static const made_tensor tensors[] = {{"a", F8_DTYPE_BF16, 1, {1}}};
    f8_plan *plan = plan_of(*state, "family test\nnote one\nkeep a\nnote two\n",
                            tensors, 1);

    assert_string_equal(f8_plan_note(plan, 0), "one");
    assert_string_equal(f8_plan_note(plan, 1), "two");
    assert_null(f8_plan_note(plan, 2));
    f8_plan_free(plan);
    expect_refused(*state, "family test\nrefuse nobody reads it\n", tensors, 1,
                   F8_ERR_REFUSED,
                   "config.json: model_type test: nobody reads it");
}

static void test_split_errors(void **state)
{
    static const char where[] = "(my.rules:2: split m.experts.gate_up)";
    static const struct {
        made_tensor tensor;
        const char *message;
    } cases[] = {
        {{"m.experts.gate_up", F8_DTYPE_BF16, 2, {4, 3}},
         "tensor m.experts.gate_up: expected 3 dimensions to split, found 2 "},
        {{"m.experts.gate_up", F8_DTYPE_BF16, 4, {1, 2, 3, 4}},
         "tensor m.experts.gate_up: expected 3 dimensions to split, found 4 "},
        {{"m.experts.gate_up", F8_DTYPE_BF16, 3, {1, 3, 2}},
         "tensor m.experts.gate_up: expected axis 1 to hold 2 equal parts, "
         "found length 3 "},
        {{"m.experts.gate_up", F8_DTYPE_BF16, 3, {0, 4, 2}},
         "tensor m.experts.gate_up: expected 1 to 65536 experts on axis 0 and "
         "no empty axis, found [0, 4, 2] "},
        {{"m.experts.gate_up", F8_DTYPE_BF16, 3, {2, 4, 0}},
         "tensor m.experts.gate_up: expected 1 to 65536 experts on axis 0 and "
         "no empty axis, found [2, 4, 0] "},
        {{"m.experts.gate_up", F8_DTYPE_BF16, 3, {65537, 2, 1}},
         "tensor m.experts.gate_up: expected 1 to 65536 experts on axis 0 and "
         "no empty axis, found [65537, 2, 1] "},
        {{"m.experts.gate_up", F8_DTYPE_I16, 3, {1, 2, 1}},
         "tensor m.experts.gate_up: expected BF16, F16 or F32 to quantise, "
         "found I16 "},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char message[512];
        snprintf(message, sizeof message, "%s%s", cases[i].message, where);
        expect_refused(*state, rules_of_experts, &cases[i].tensor, 1,
                       F8_ERR_RULES, message);
    }
}

/* ---- names that meet ----------------------------------------------------- */

static void test_results_of_one_name(void **state)
{
    static const made_tensor scale[] = {
        {"a.q.weight", F8_DTYPE_BF16, 2, {1, 1}},
        {"a.q.weight_scale_inv", F8_DTYPE_F32, 1, {1}},
    };
    static const made_tensor part[] = {
        {"m.experts.gate_up", F8_DTYPE_BF16, 3, {1, 2, 1}},
        {"m.experts.0.up.weight", F8_DTYPE_BF16, 2, {1, 1}},
    };

    expect_refused(*state, rules_of_most, scale, COUNT_OF(scale),
                   F8_ERR_REFUSED,
                   "two results would be called a.q.weight_scale_inv, of the "
                   "source's a.q.weight and a.q.weight_scale_inv");
    expect_refused(*state,
                   "family test\n"
                   "split m.experts.gate_up experts=0 parts=1:gate,up\n"
                   "keep m.experts.{n}.up.weight\n",
                   part, COUNT_OF(part), F8_ERR_REFUSED,
                   "two results would be called m.experts.0.up.weight, of the "
                   "source's m.experts.gate_up and m.experts.0.up.weight");
}

/* ---- decisions ----------------------------------------------------------- */

static void test_quantise_errors(void **state)
{
    static const struct {
        made_tensor tensor;
        const char *message;
    } cases[] = {
        {{"a.q.weight", F8_DTYPE_BF16, 1, {4}},
         "tensor a.q.weight: expected 2 dimensions to quantise, found 1 "
         "(my.rules:3: quantize *.q.weight)"},
        {{"a.q.weight", F8_DTYPE_BF16, 3, {1, 2, 3}},
         "tensor a.q.weight: expected 2 dimensions to quantise, found 3 "
         "(my.rules:3: quantize *.q.weight)"},
        {{"a.q.weight", F8_DTYPE_E4M3, 2, {2, 2}},
         "tensor a.q.weight: expected BF16, F16 or F32 to quantise, found "
         "F8_E4M3 (my.rules:3: quantize *.q.weight)"},
        {{"a.q.weight", F8_DTYPE_F64, 2, {2, 2}},
         "tensor a.q.weight: expected BF16, F16 or F32 to quantise, found F64 "
         "(my.rules:3: quantize *.q.weight)"},
        {{"a.q.weight", F8_DTYPE_BF16, 2, {0, 2}},
         "tensor a.q.weight: expected elements to quantise, found a dimension "
         "of 0 (my.rules:3: quantize *.q.weight)"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_refused(*state, rules_of_most, &cases[i].tensor, 1, F8_ERR_RULES,
                       cases[i].message);
}

static void test_rules_that_do_not_fit(void **state)
{
    static const made_tensor tensors[] = {{"a.norm", F8_DTYPE_BF16, 1, {4}}};

    expect_refused(*state, "family test\nkeep b.*\n", tensors, 1, F8_ERR_RULES,
                   "model.safetensors: no rule of my.rules names tensor "
                   "a.norm; expected one to keep, quantize or split it");
    expect_refused(*state, "family test\nkeep a.*\nkeep b.*\n", tensors, 1,
                   F8_ERR_RULES,
                   "my.rules:3: keep b.*: matches no tensor of this checkpoint "
                   "(mark the rule optional if it need not)");
    /* A rule that matches, but never decides, is of no use either. */
    expect_refused(*state, "family test\nkeep a.norm\nkeep a.*\n", tensors, 1,
                   F8_ERR_RULES,
                   "my.rules:2: keep a.norm: matches no tensor of this "
                   "checkpoint (mark the rule optional if it need not)");
}

static const made_tensor overridden[] = {
    {"a.q.weight", F8_DTYPE_BF16, 2, {2, 2}},
    {"b.q.weight", F8_DTYPE_BF16, 2, {2, 2}},
    {"c.k.weight", F8_DTYPE_BF16, 2, {2, 2}},
    {"d.always", F8_DTYPE_BF16, 2, {2, 2}},
};

static void test_overrides(void **state)
{
    static const f8_override overrides[] = {
        {"*.weight", false}, {"b.*", true}, {"c.k.weight", true}};
    static const struct {
        f8_action action;
        const char *decided_by;
    } expected[] = {
        {F8_KEEP, "--keep *.weight"},
        {F8_QUANTIZE, "--quantize b.*"},
        {F8_QUANTIZE, "--quantize c.k.weight"},
        {F8_KEEP, "my.rules:4: keep *.always"},
    };
    const char *src = put_source(*state, rules_of_most, test_config, overridden,
                                 COUNT_OF(overridden));
    f8_options options = source_options(*state);

    options.overrides = overrides;
    options.overrides_count = COUNT_OF(overrides);
    f8_plan *plan = plan_with(src, &options);
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        f8_plan_source source;
        f8_plan_result result;
        f8_plan_get_source(plan, i, &source);
        f8_plan_get_result(plan, i, &result);
        assert_int_equal(source.action, expected[i].action);
        assert_int_equal(result.action, expected[i].action);
        assert_string_equal(source.decided_by, expected[i].decided_by);
    }
    /* A weight that the rules quantise is a Linear, kept it must be listed. */
    assert_string_equal(f8_plan_not_converted(plan, 0), "a.q");
    assert_string_equal(f8_plan_not_converted(plan, 1), "d.always");
    assert_null(f8_plan_not_converted(plan, 2));
    f8_plan_free(plan);
}

static void test_override_errors(void **state)
{
    static const f8_override none[] = {{"x.*", false}};
    static const f8_override nothing[] = {{"*.weight", false}, {"y", true}};
    static const f8_override always[] = {{"d.*", true}};
    const char *src = put_source(*state, rules_of_most, test_config, overridden,
                                 COUNT_OF(overridden));
    f8_options options = source_options(*state);
    f8_plan *plan = NULL;
    f8_error err = {0};

    options.overrides = none;
    options.overrides_count = 1;
    expect_error(f8_plan_create(src, &options, &plan, &err), &err, F8_ERR_RULES,
                 "--keep x.*: matches no tensor of this checkpoint");
    options.overrides = nothing;
    options.overrides_count = 2;
    expect_error(f8_plan_create(src, &options, &plan, &err), &err, F8_ERR_RULES,
                 "--quantize y: matches no tensor of this checkpoint");
    options.overrides = always;
    options.overrides_count = 1;
    expect_error(f8_plan_create(src, &options, &plan, &err), &err,
                 F8_ERR_REFUSED,
                 "--quantize d.*: tensor d.always is always kept (my.rules:4: "
                 "keep *.always): no loader takes it in FP8");
    assert_null(plan);
}

/* What the rules quantise is a Linear, and stays one when it is kept by the
 * user's wish: it must stand in the list, so it must not be taken for another
 * module. */
static void test_kept_linear_that_cannot_be_listed(void **state)
{
    static const made_tensor tensors[] = {
        {"m.up.weight", F8_DTYPE_BF16, 2, {2, 2}},
        {"m.up_proj.weight", F8_DTYPE_BF16, 2, {2, 2}},
    };
    static const f8_override keep[] = {{"m.up.weight", false}};
    const char *src = put_source(*state, "family test\nquantize *\n",
                                 test_config, tensors, COUNT_OF(tensors));
    f8_options options = source_options(*state);
    f8_plan *plan = NULL;
    f8_error err = {0};

    options.overrides = keep;
    options.overrides_count = 1;
    expect_error(f8_plan_create(src, &options, &plan, &err), &err,
                 F8_ERR_REFUSED,
                 "m.up cannot be kept while m.up_proj is quantised: a loader "
                 "takes the first in modules_to_not_convert for both");
    assert_null(plan);
}

/* To keep what a loader would take for a quantised module is refused. */
static void test_list_that_cannot_be_written(void **state)
{
    static const made_tensor tensors[] = {
        {"m.gate.weight", F8_DTYPE_BF16, 2, {2, 2}},
        {"m.gate_proj.q.weight", F8_DTYPE_BF16, 2, {2, 2}},
    };

    expect_refused(*state,
                   "family test\nkeep m.gate.weight linear\nquantize *.q.*\n",
                   tensors, 2, F8_ERR_REFUSED,
                   "m.gate cannot be kept while m.gate_proj.q is quantised: a "
                   "loader takes the first in modules_to_not_convert for both");
    /* A kept tensor that nobody takes for a Linear is only left out. */
    f8_plan *plan =
        plan_of(*state, "family test\nkeep m.gate.weight\nquantize *.q.*\n",
                tensors, 2);
    assert_null(f8_plan_not_converted(plan, 0));
    f8_plan_free(plan);
}

/* ---- the whole checkpoint ------------------------------------------------ */

static void test_already_quantised(void **state)
{
    static const made_tensor tensors[] = {{"a", F8_DTYPE_BF16, 1, {1}}};
    const char *src =
        put_source(*state, rules_of_most, test_config, tensors, 1);
    f8_options options = source_options(*state);
    f8_plan *plan = NULL;
    f8_error err = {0};

    put_text(path_in(*state, "src/config.json"),
             "{\"model_type\": \"test\", \"quantization_config\": {}}");
    expect_error(f8_plan_create(src, &options, &plan, &err), &err,
                 F8_ERR_REFUSED,
                 "config.json: already quantised? expected no "
                 "\"quantization_config\", found one; --requantize takes "
                 "FP8 blockwise");
    assert_null(plan);
    /* What no --requantize helps with. */
    put_text(path_in(*state, "src/config.json"),
             "{\"model_type\": \"test\", \"quantization_config\": null}");
    for (int i = 0; i < 2; i++) {
        options.requantize = i > 0;
        expect_no_plan(src, &options, F8_ERR_REFUSED,
                       "config.json: \"quantization_config\" is null: expected "
                       "no such member, since the result has its own; remove "
                       "it");
    }
}

static void test_no_tensors(void **state)
{
    char message[2 * 4096];

    snprintf(message, sizeof message, "%s: expected tensors, found none",
             path_in(*state, "src"));
    expect_refused(*state, rules_of_most, NULL, 0, F8_ERR_FORMAT, message);
}

static void test_side_files(void **state)
{
    static const made_tensor tensors[] = {{"a", F8_DTYPE_BF16, 1, {1}}};
    f8_plan_summary summary;

    make_dir(path_in(*state, "src"));
    make_dir(path_in(*state, "src/sub"));
    make_dir(path_in(*state, "src/.git"));
    make_dir(path_in(*state, "src/.cache"));
    put_text(path_in(*state, "src/tokenizer.json"), "{}");
    put_text(path_in(*state, "src/sub/x.py"), "pass");
    put_text(path_in(*state, "src/sub/m.safetensors"), "x");
    put_text(path_in(*state, "src/pytorch_model.BIN"), "x");
    put_text(path_in(*state, "src/old.index.json"), "{}");
    put_text(path_in(*state, "src/.git/config"), "x");
    put_text(path_in(*state, "src/.cache/x"), "x");
    f8_plan *plan = plan_of(*state, rules_of_most, tensors, 1);
    f8_plan_get_summary(plan, &summary);
    assert_int_equal(summary.side_files, 2);
    assert_int_equal(summary.side_bytes, 6);
    assert_int_equal(summary.left_behind, 3);
    assert_string_equal(f8_plan_left_behind(plan, 0), "old.index.json");
    assert_string_equal(f8_plan_left_behind(plan, 1), "pytorch_model.BIN");
    assert_string_equal(f8_plan_left_behind(plan, 2), "sub/m.safetensors");
    assert_null(f8_plan_left_behind(plan, 3));
    f8_plan_free(plan);

    put_text(path_in(*state, "src/.fp8cast"), "a file, not a folder");
    expect_refused(*state, rules_of_most, tensors, 1, F8_ERR_REFUSED,
                   ".fp8cast: this name is reserved for fp8cast");
}

/* Of 70 kinds 63 have a name and the rest share one. */
static void test_many_kinds(void **state)
{
    enum { COUNT = 70 };
    made_tensor tensors[COUNT];
    char names[COUNT][32];

    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "m.%u.k%02u.q.weight", i, i);
        tensors[i] = (made_tensor){names[i], F8_DTYPE_BF16, 2, {1, 1}};
    }
    f8_plan *plan =
        plan_of(*state, "family test\nquantize *\n", tensors, COUNT);
    assert_int_equal(plan->kinds_count, 64);
    assert_string_equal(plan->kinds[0], "k00.q");
    assert_string_equal(plan->kinds[62], "k62.q");
    assert_string_equal(plan->kinds[63], "other");
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(plan->units[i].kind, i < 63 ? i : 63);
    f8_plan_free(plan);
}

/* ---- options ------------------------------------------------------------- */

static void test_options(void **state)
{
    f8_options options = {.size = sizeof options}, filled;
    f8_error err = {0};
    char message[256];

    (void)state;
    expect_ok(f8_options_fill(NULL, &filled, &err), &err);
    assert_int_equal(filled.size, sizeof filled);
    assert_int_equal(filled.threads, f8_cpu_count());
    assert_true(filled.memory_bytes == 256 << 20);
    assert_true(filled.shard_bytes == 5000000000);
    assert_int_equal(filled.scale_dtype, F8_SCALE_BF16);
    assert_int_equal(filled.scales, F8_SCALES_AMAX);
    assert_false(filled.overwrite);
    assert_null(filled.rules);
    options.threads = 3;
    options.memory_bytes = 7;
    options.shard_bytes = 9;
    options.scale_dtype = F8_SCALE_F32;
    options.overwrite = true;
    expect_ok(f8_options_fill(&options, &filled, &err), &err);
    assert_int_equal(filled.threads, 3);
    assert_int_equal(filled.memory_bytes, 7);
    assert_int_equal(filled.shard_bytes, 9);
    assert_int_equal(filled.scale_dtype, F8_SCALE_F32);
    assert_true(filled.overwrite);
    /* A caller of an older library has fewer fields. */
    options.size = offsetof(f8_options, shard_bytes);
    expect_ok(f8_options_fill(&options, &filled, &err), &err);
    assert_int_equal(filled.threads, 3);
    assert_int_equal(filled.memory_bytes, 7);
    assert_true(filled.shard_bytes == 5000000000);
    assert_false(filled.overwrite);
    assert_int_equal(filled.size, sizeof filled);

    options.size = sizeof options + 8;
    snprintf(message, sizeof message,
             "f8_options: expected a size of at most %zu, found %zu",
             sizeof options, sizeof options + 8);
    expect_error(f8_options_fill(&options, &filled, &err), &err,
                 F8_ERR_ARGUMENT, message);
    options.size = 0;
    snprintf(message, sizeof message,
             "f8_options: expected a size of at most %zu, found 0",
             sizeof options);
    expect_error(f8_options_fill(&options, &filled, &err), &err,
                 F8_ERR_ARGUMENT, message);
    options.size = sizeof options;
    options.scale_dtype = (f8_scale_dtype)4;
    expect_error(f8_options_fill(&options, &filled, &err), &err,
                 F8_ERR_ARGUMENT, "no such scale dtype: 4");
}

static void test_choice_of_scales(void **state)
{
    f8_options options = {.size = sizeof options}, filled;
    f8_error err = {0};

    (void)state;
    options.scales = F8_SCALES_MSE;
    options.scale_dtype = F8_SCALE_F32;
    expect_ok(f8_options_fill(&options, &filled, &err), &err);
    assert_int_equal(filled.scales, F8_SCALES_MSE);
    /* ue8m0 holds powers of two whatever is chosen, but nothing better. */
    options.scale_dtype = F8_SCALE_UE8M0;
    expect_error(f8_options_fill(&options, &filled, &err), &err,
                 F8_ERR_ARGUMENT,
                 "scales of the least error are no powers of two: expected a "
                 "scale dtype of bf16 or f32, found ue8m0");
    options.scales = F8_SCALES_AMAX;
    expect_ok(f8_options_fill(&options, &filled, &err), &err);
    assert_int_equal(filled.scales, F8_SCALES_POW2);
    options.scales = (f8_scales)4;
    expect_error(f8_options_fill(&options, &filled, &err), &err,
                 F8_ERR_ARGUMENT, "no such choice of scales: 4");
    /* A caller that knows no such field. */
    options.size = offsetof(f8_options, scales);
    options.scale_dtype = F8_SCALE_BF16;
    expect_ok(f8_options_fill(&options, &filled, &err), &err);
    assert_int_equal(filled.scales, F8_SCALES_AMAX);
}

/* A wrong wish fails before anything is done with the plan, and every name of
 * the list is taken. */
static void test_kernels_to_use(void **state)
{
    static const made_tensor tensors[] = {{"a", F8_DTYPE_BF16, 1, {1}}};
    const char *src =
        put_source(*state, rules_of_most, test_config, tensors, 1);
    f8_options options = source_options(*state);
    f8_plan *plan = NULL;
    f8_error err = {0};
    char message[256];
    size_t count = 0;

    snprintf(message, sizeof message,
             "no kernels called 'nope' run on this CPU; these do: ");
    for (const char *name; (name = f8_cpu_name(count)); count++) {
        strcat(message, count ? ", " : "");
        strcat(message, name);
        options.cpu = name;
        f8_plan_free(plan_with(src, &options));
    }
    assert_true(count > 0);
    assert_string_equal(f8_cpu_name(0), "c");
    assert_null(f8_cpu_name(SIZE_MAX));
    options.cpu = "nope";
    expect_error(f8_plan_create(src, &options, &plan, &err), &err,
                 F8_ERR_ARGUMENT, message);
    assert_null(plan);
}

static void test_budget(void **state)
{
    static const made_tensor tensors[] = {{"a", F8_DTYPE_BF16, 1, {1}}};
    const char *src =
        put_source(*state, rules_of_most, test_config, tensors, 1);
    f8_options options = source_options(*state);
    f8_plan *plan = NULL;
    f8_plan_summary summary;
    f8_error err = {0};

    options.memory_bytes = 1000;
    assert_int_equal(f8_plan_create(src, &options, &plan, &err), F8_ERR_NOMEM);
    assert_int_equal(err.status, F8_ERR_NOMEM);
    assert_non_null(strstr(err.message, "a memory budget of 1000 bytes is too "
                                        "small for 2 threads"));
    assert_null(plan);
    options.memory_bytes = 8 << 20;
    plan = plan_with(src, &options);
    f8_plan_get_summary(plan, &summary);
    /* The buffers are within the budget, tables and program come on top. */
    assert_true(summary.memory_bytes > (4 << 20));
    assert_true(summary.memory_bytes < (16 << 20));
    /* The result, and a header and an index as small as this one's. */
    assert_true(summary.disk_bytes >= summary.result_bytes);
    assert_true(summary.disk_bytes < summary.result_bytes + 2000);
    f8_plan_free(plan);
}

/* ---- fingerprints -------------------------------------------------------- */

/* Names and sizes are the same whichever way experts lie. */
static void test_fingerprint_knows_the_orientation(void **state)
{
    const made_tensor one = {.name = "m.experts",
                             .dtype = F8_DTYPE_BF16,
                             .rank = 3,
                             .shape = {2, 128, 128}};
    f8_plan *along = plan_of(
        *state, "family f\nsplit m.experts experts=0 parts=1:up\n", &one, 1);
    put_text(path_in(*state, "my.rules"),
             "family f\nsplit m.experts experts=0 parts=2:up\n");
    f8_options options = source_options(*state);
    f8_plan *across = plan_with(path_in(*state, "src"), &options);

    assert_true(along->source_fingerprint == across->source_fingerprint);
    assert_true(along->fingerprint != across->fingerprint);
    f8_plan_free(across);
    f8_plan_free(along);
}

static void test_fingerprints(void **state)
{
    static const f8_override keep[] = {{"a.*", false}};
    const char *src = put_source(*state, rules_of_most, test_config, overridden,
                                 COUNT_OF(overridden));
    const char *shard = path_in(*state, "src/model.safetensors");
    f8_options options = source_options(*state);
    f8_options other[6] = {options, options, options,
                           options, options, options};

    set_mtime(shard, 1000000000, 0);
    f8_plan *first = plan_with(src, &options);
    other[0].scale_dtype = F8_SCALE_F32;
    other[1].shard_bytes = 8;
    other[2].overrides = keep;
    other[2].overrides_count = 1;
    other[3].threads = 7; /* changes no byte */
    other[3].memory_bytes = 64 << 20;
    other[4].scales = F8_SCALES_MSE;
    other[5].scales = F8_SCALES_POW2;
    for (size_t i = 0; i < COUNT_OF(other); i++) {
        f8_plan *plan = plan_with(src, &other[i]);
        assert_true(plan->source_fingerprint == first->source_fingerprint);
        assert_int_equal(plan->fingerprint == first->fingerprint, i == 3);
        f8_plan_free(plan);
    }
    /* Another time of the shard, and another byte in config.json. */
    set_mtime(shard, 1000000000, 1);
    f8_plan *touched = plan_with(src, &options);
    assert_true(touched->source_fingerprint != first->source_fingerprint);
    assert_true(touched->fingerprint != first->fingerprint);
    set_mtime(shard, 1000000000, 0);
    put_text(path_in(*state, "src/config.json"), "{\"model_type\": \"test\" }");
    f8_plan *edited = plan_with(src, &options);
    assert_true(edited->source_fingerprint != first->source_fingerprint);
    f8_plan_free(edited);
    f8_plan_free(touched);
    f8_plan_free(first);
    f8_plan_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_order_and_offsets),
        TEST_IN_DIR(test_scales_of_other_dtypes),
        TEST_IN_DIR(test_shards_at_their_limit),
        TEST_IN_DIR(test_weight_and_scale_stay_together),
        TEST_IN_DIR(test_mixed_shards),
        TEST_IN_DIR(test_shards_cut_by_their_headers),
        TEST_IN_DIR(test_split),
        TEST_IN_DIR(test_split_and_keep),
        TEST_IN_DIR(test_split_across),
        TEST_IN_DIR(test_split_into),
        TEST_IN_DIR(test_also_listed),
        TEST_IN_DIR(test_split_either_way),
        TEST_IN_DIR(test_split_that_no_way_fits),
        TEST_IN_DIR(test_refused_and_noted),
        TEST_IN_DIR(test_split_errors),
        TEST_IN_DIR(test_results_of_one_name),
        TEST_IN_DIR(test_quantise_errors),
        TEST_IN_DIR(test_rules_that_do_not_fit),
        TEST_IN_DIR(test_overrides),
        TEST_IN_DIR(test_override_errors),
        TEST_IN_DIR(test_kept_linear_that_cannot_be_listed),
        TEST_IN_DIR(test_list_that_cannot_be_written),
        TEST_IN_DIR(test_already_quantised),
        TEST_IN_DIR(test_no_tensors),
        TEST_IN_DIR(test_side_files),
        TEST_IN_DIR(test_many_kinds),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_choice_of_scales),
        TEST_IN_DIR(test_kernels_to_use),
        TEST_IN_DIR(test_budget),
        TEST_IN_DIR(test_fingerprints),
        TEST_IN_DIR(test_fingerprint_knows_the_orientation),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
