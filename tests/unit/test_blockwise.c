/* test_blockwise.c - FP8 weights and their scales (blockwise.h), and experts
 * on their way back into fused tensors (fuse.h). */
#include "helpers.h"

#include "blockwise.h"
#include "fuse.h"

#define UE8M0_CONFIG                                           \
    "{\"model_type\": \"test\", \"quantization_config\": "     \
    "{\"quant_method\": \"fp8\", \"fmt\": \"float8_e4m3fn\", " \
    "\"scale_fmt\": \"ue8m0\", \"weight_block_size\": [128, 128]}}"

static f8_checkpoint *open_with(const char *dir, const char *config,
                                const made_tensor *tensors, size_t count)
{
    f8_checkpoint *cp = NULL;
    f8_error err = {0};

    put_text(path_in(dir, "config.json"), config);
    put_shard(path_in(dir, "model.safetensors"), tensors, count);
    expect_ok(f8_checkpoint_open(dir, F8_OPEN_CONFIG, NULL, &cp, &err), &err);
    assert_non_null(cp);
    return cp;
}

static size_t index_of(const f8_checkpoint *cp, const char *name)
{
    const f8_tensor *t = f8_checkpoint_find(cp, name);

    assert_non_null(t);
    return (size_t)(t - cp->tensors.items);
}

/* ---- weights and scales -------------------------------------------------- */

static void expect_pair(const f8_checkpoint *cp, const f8_blockwise *found,
                        const char *name, f8_scale_dtype dtype)
{
    char scale[200];
    size_t i = index_of(cp, name);

    snprintf(scale, sizeof scale, "%s_scale_inv", name);
    size_t k = index_of(cp, scale);
    assert_int_equal(found->partners[i].role, F8_ROLE_WEIGHT);
    assert_ptr_equal(found->partners[i].other, &cp->tensors.items[k]);
    assert_int_equal(found->partners[i].scale_dtype, dtype);
    assert_int_equal(found->partners[k].role, F8_ROLE_SCALE);
    assert_ptr_equal(found->partners[k].other, &cp->tensors.items[i]);
    assert_int_equal(found->partners[k].scale_dtype, dtype);
}

static void test_roles(void **state)
{
    static const made_tensor tensors[] = {
        {"a.weight", F8_DTYPE_E4M3, 2, {129, 256}},
        {"a.weight_scale_inv", F8_DTYPE_BF16, 2, {2, 2}},
        {"b.weight_scale_inv", F8_DTYPE_F32, 2, {1, 1}},
        {"b.weight", F8_DTYPE_E4M3, 2, {1, 128}},
        {"c.weight", F8_DTYPE_E4M3, 2, {128, 1}},
        {"c.weight_scale_inv", F8_DTYPE_E8M0, 2, {1, 1}},
        {"fused", F8_DTYPE_E4M3, 3, {5, 129, 128}},
        {"fused_scale_inv", F8_DTYPE_BF16, 3, {5, 2, 1}},
        {"bytes", F8_DTYPE_E4M3, 2, {128, 128}},
        {"bytes_scale_inv", F8_DTYPE_U8, 2, {1, 1}},
        {"norm.weight", F8_DTYPE_BF16, 1, {7}}};
    f8_checkpoint *cp =
        open_with(*state, UE8M0_CONFIG, tensors, COUNT_OF(tensors));
    f8_blockwise found;
    f8_error err = {0};

    expect_ok(f8_blockwise_read(cp, NULL, &found, &err), &err);
    expect_pair(cp, &found, "a.weight", F8_SCALE_BF16);
    expect_pair(cp, &found, "b.weight", F8_SCALE_F32);
    expect_pair(cp, &found, "c.weight", F8_SCALE_UE8M0);
    expect_pair(cp, &found, "fused", F8_SCALE_BF16);
    expect_pair(cp, &found, "bytes", F8_SCALE_UE8M0);
    assert_int_equal(found.partners[index_of(cp, "norm.weight")].role,
                     F8_ROLE_PLAIN);
    assert_null(found.partners[index_of(cp, "norm.weight")].other);
    size_t roles[3] = {0};
    for (size_t i = 0; i < cp->tensors.count; i++)
        roles[found.partners[i].role]++;
    assert_int_equal(roles[F8_ROLE_WEIGHT], 5);
    assert_int_equal(roles[F8_ROLE_SCALE], 5);
    assert_int_equal(roles[F8_ROLE_PLAIN], 1);
    f8_blockwise_free(&found);
    f8_checkpoint_free(cp);
}

static void expect_wrong(const char *dir, const char *config,
                         const made_tensor *tensors, size_t count,
                         f8_status status, const char *message)
{
    f8_checkpoint *cp = open_with(dir, config, tensors, count);
    f8_blockwise found;
    f8_error err = {0};

    expect_error(f8_blockwise_read(cp, NULL, &found, &err), &err, status,
                 message);
    f8_blockwise_free(&found);
    f8_checkpoint_free(cp);
}

static void test_wrong_pairs(void **state)
{
    static const struct {
        made_tensor tensors[2];
        size_t count;
        const char *message;
    } cases[] = {
        {{{"a", F8_DTYPE_E4M3, 2, {128, 128}}},
         1,
         "tensor a: FP8 without a_scale_inv"},
        {{{"a", F8_DTYPE_E4M3, 2, {128, 128}},
          {"a_scale", F8_DTYPE_F32, 2, {1, 1}}},
         2,
         "tensor a: FP8 without a_scale_inv, only _scale, which no loader of "
         "this format reads"},
        {{{"a", F8_DTYPE_E4M3, 2, {129, 128}},
          {"a_scale_inv", F8_DTYPE_F32, 2, {1, 1}}},
         2,
         "tensor a_scale_inv: expected shape [2, 1], found [1, 1]"},
        {{{"a", F8_DTYPE_E4M3, 2, {128, 128}},
          {"a_scale_inv", F8_DTYPE_F32, 0, {0}}},
         2,
         "tensor a_scale_inv: expected shape [1, 1], found []"},
        {{{"a", F8_DTYPE_E4M3, 3, {2, 128, 128}},
          {"a_scale_inv", F8_DTYPE_F32, 2, {2, 1}}},
         2,
         "tensor a_scale_inv: expected shape [2, 1, 1], found [2, 1]"},
        {{{"a", F8_DTYPE_E4M3, 2, {128, 128}},
          {"a_scale_inv", F8_DTYPE_F16, 2, {1, 1}}},
         2,
         "tensor a_scale_inv: expected BF16, F32 or F8_E8M0, found F16"},
        {{{"a", F8_DTYPE_E4M3, 2, {128, 128}},
          {"a_scale_inv", F8_DTYPE_U8, 2, {1, 1}}},
         2,
         "tensor a_scale_inv: expected BF16, F32 or F8_E8M0, found U8"},
        {{{"a", F8_DTYPE_E4M3, 1, {128}},
          {"a_scale_inv", F8_DTYPE_F32, 1, {1}}},
         2,
         "tensor a: FP8, but it is not a matrix of weights"},
        {{{"a", F8_DTYPE_BF16, 2, {128, 128}},
          {"a_scale_inv", F8_DTYPE_F32, 2, {1, 1}}},
         2,
         "tensor a_scale_inv: expected an F8_E4M3 weight of which it is the "
         "scale, found none"},
        {{{"a_scale_inv", F8_DTYPE_F32, 2, {1, 1}}},
         1,
         "tensor a_scale_inv: expected an F8_E4M3 weight of which it is the "
         "scale, found none"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_wrong(*state, FP8_CONFIG, cases[i].tensors, cases[i].count,
                     F8_ERR_FORMAT, cases[i].message);
}

/* With a list of problems every pair is looked at. */
static void test_problems(void **state)
{
    static const made_tensor tensors[] = {
        {"a", F8_DTYPE_E4M3, 2, {128, 128}},
        {"b", F8_DTYPE_E4M3, 2, {128, 128}},
        {"b_scale_inv", F8_DTYPE_F32, 2, {2, 2}},
        {"c_scale_inv", F8_DTYPE_F32, 2, {1, 1}},
        {"d", F8_DTYPE_E4M3, 2, {128, 128}},
        {"d_scale_inv", F8_DTYPE_F32, 2, {1, 1}}};
    f8_checkpoint *cp =
        open_with(*state, FP8_CONFIG, tensors, COUNT_OF(tensors));
    f8_problems problems = {0};
    f8_blockwise found;
    f8_error err = {0};

    expect_ok(f8_blockwise_read(cp, &problems, &found, &err), &err);
    assert_int_equal(problems.total, 3);
    assert_string_equal(problems.lines[0],
                        "tensor a: FP8 without a_scale_inv; vLLM and SGLang "
                        "start without it and say nothing, transformers "
                        "raises");
    assert_string_equal(
        problems.lines[1],
        "tensor b_scale_inv: expected shape [1, 1], found [2, 2]");
    assert_string_equal(problems.lines[2],
                        "tensor c_scale_inv: expected an F8_E4M3 weight of "
                        "which it is the scale, found none");
    assert_null(found.partners[index_of(cp, "b")].other);
    expect_pair(cp, &found, "d", F8_SCALE_F32);
    f8_blockwise_free(&found);
    f8_problems_free(&problems);
    f8_checkpoint_free(cp);
}

#define EXPECTED_FP8                                      \
    "expected FP8 blockwise (\"quant_method\": \"fp8\", " \
    "\"weight_block_size\": [128, 128]), found "

#define TEN "1234567890"
#define SEVENTY_NINE TEN TEN TEN TEN TEN TEN TEN "123456789"
#define EIGHTY SEVENTY_NINE "0"

static void test_other_formats(void **state)
{
    static const made_tensor one = {"a", F8_DTYPE_BF16, 2, {128, 128}};
    static const struct {
        const char *config, *message;
    } cases[] = {
        {"{\"model_type\": \"t\"}",
         "config.json: quantization_config: " EXPECTED_FP8 "none"},
        {"{\"model_type\": \"t\", \"quantization_config\": null}",
         "config.json: quantization_config: " EXPECTED_FP8 "null"},
        {"{\"model_type\": \"t\", \"quantization_config\": 7}",
         "config.json: quantization_config: " EXPECTED_FP8
         "no \"quant_method\""},
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"gptq\", \"bits\": 4}}",
         "config.json: quantization_config: " EXPECTED_FP8 "quant_method gptq"},
        {"{\"model_type\": \"t\", \"compression_config\": {\"quant_method\": "
         "\"compressed-tensors\"}}",
         "config.json: compression_config: " EXPECTED_FP8
         "quant_method compressed-tensors"},
        {"{\"model_type\": \"t\", \"text_config\": {\"quantization_config\": "
         "{\"quant_method\": \"mxfp4\"}}}",
         "config.json: text_config.quantization_config: " EXPECTED_FP8
         "quant_method mxfp4"},
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"fp8\", \"activation_scheme\": \"static\"}}",
         "config.json: quantization_config: " EXPECTED_FP8
         "no \"weight_block_size\": one scale a tensor or a channel"},
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"fp8\", \"weight_block_size\": null}}",
         "config.json: quantization_config: " EXPECTED_FP8
         "no \"weight_block_size\": one scale a tensor or a channel"},
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"fp8\", \"weight_block_size\": [1, 128]}}",
         "config.json: quantization_config: " EXPECTED_FP8
         "\"weight_block_size\": [1,128]"},
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"fp8\", \"fmt\": \"e5m2\", \"weight_block_size\": [128, 128]}}",
         "config.json: quantization_config: " EXPECTED_FP8 "fmt e5m2"},
        /* Of what may be anything no more than 80 bytes are shown. */
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"" EIGHTY "1\"}}",
         "config.json: quantization_config: " EXPECTED_FP8
         "quant_method " EIGHTY "..."},
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"fp8\", \"fmt\": \"" EIGHTY
         "1\", \"weight_block_size\": [128, 128]}}",
         "config.json: quantization_config: " EXPECTED_FP8 "fmt " EIGHTY "..."},
        {"{\"model_type\": \"t\", \"quantization_config\": {\"quant_method\": "
         "\"fp8\", \"weight_block_size\": \"" EIGHTY "\"}}",
         "config.json: quantization_config: " EXPECTED_FP8
         "\"weight_block_size\": \"" SEVENTY_NINE "..."},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_wrong(*state, cases[i].config, &one, 1, F8_ERR_REFUSED,
                     cases[i].message);
}

/* ---- fused --------------------------------------------------------------- */

static const char splits[] =
    "family test\n"
    "keep   *.weight\n"
    "split  l.{n}.experts.gate_up_proj experts=0 parts=1:gate_proj,up_proj\n"
    "split  l.{n}.experts.down_proj    experts=0 parts=1:down_proj\n"
    "split  wild.{n}                   experts=0 parts=1:w\n"
    "split  gone.experts.w             experts=0 parts=1:w\n"
    "keep   gone.experts.w\n";

static f8_rules *rules_of(const char *text)
{
    f8_rules *rules = NULL;
    f8_error err = {0};

    expect_ok(f8_rules_parse("t.rules", text, &rules, &err), &err);
    return rules;
}

/* The way there: names of parts, beside the module with into=. */
static void test_names_of_parts(void **state)
{
    f8_rules *rules = rules_of(
        "family test\n"
        "split l.experts.up_gate experts=0 parts=1:up,gate\n"
        "split l.moe.input.weight experts=0 parts=1:up into=experts\n");
    f8_arena strings = {0};

    (void)state;
    assert_string_equal(
        f8_split_name(&strings, "l.experts.up_gate", &rules->rules[0], 5),
        "l.experts.2.gate.weight");
    assert_string_equal(
        f8_split_name(&strings, "l.moe.input.weight", &rules->rules[1], 12),
        "l.moe.experts.12.up.weight");
    f8_arena_free(&strings);
    f8_rules_free(rules);
}

static void test_places(void **state)
{
    static const struct {
        const char *name, *parent, *tail;
        uint64_t expert;
        unsigned part;
    } good[] = {
        {"l.3.experts.0.gate_proj.weight", "l.3.experts.", "gate_up_proj", 0,
         0},
        {"l.3.experts.255.up_proj.weight", "l.3.experts.", "gate_up_proj", 255,
         1},
        {"l.12.experts.65535.down_proj.weight", "l.12.experts.", "down_proj",
         65535, 0},
    };
    static const char *const none[] = {
        "l.3.experts.gate_up_proj",
        "l.3.experts.0.gate_proj",
        "l.3.experts.0.gate_proj.weight_scale_inv",
        "l.3.experts.0.gate_pro.weight",
        "l.3.experts.0.gate_proj2.weight",
        "l.3.experts.00.gate_proj.weight",
        "l.3.experts.65536.gate_proj.weight",
        "l.3.experts.99999999999999999999.gate_proj.weight",
        "l.3.experts.x.gate_proj.weight",
        "l.3.experts..gate_proj.weight",
        "l.3.shared.0.gate_proj.weight",
        "l.x.experts.0.gate_proj.weight",
        "0.gate_proj.weight",
        ".weight",
        "gate_proj.weight",
        "wild.0.w.weight",
        "gone.experts.0.w.weight", /* a later rule keeps it */
        ""};
    f8_rules *rules = rules_of(splits);
    f8_fuse_place place;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_true(f8_fuse_find(rules, good[i].name, &place));
        assert_int_equal(place.parent_bytes, strlen(good[i].parent));
        assert_memory_equal(good[i].name, good[i].parent, place.parent_bytes);
        assert_string_equal(place.tail, good[i].tail);
        assert_int_equal(place.expert, good[i].expert);
        assert_int_equal(place.part, good[i].part);
        assert_int_equal(place.rule->kind, F8_RULE_SPLIT);
    }
    for (size_t i = 0; i < COUNT_OF(none); i++) {
        if (f8_fuse_find(rules, none[i], &place))
            fail_msg("%s has a place", none[i]);
    }
    f8_rules_free(rules);
}

/* Parts in any order become one tensor in the order of its bytes; fused
 * tensors come in the order in which their first expert is read. */
static void test_fusion(void **state)
{
    static const made_tensor tensors[] = {
        {"l.1.experts.1.down_proj.weight", F8_DTYPE_E4M3, 2, {4, 2}},
        {"l.0.experts.1.up_proj.weight", F8_DTYPE_E4M3, 2, {2, 4}},
        {"l.0.experts.1.gate_proj.weight", F8_DTYPE_E4M3, 2, {2, 4}},
        {"norm.weight", F8_DTYPE_BF16, 1, {4}},
        {"l.1.experts.0.down_proj.weight", F8_DTYPE_E4M3, 2, {4, 2}},
        {"l.0.experts.0.up_proj.weight", F8_DTYPE_BF16, 2, {2, 4}},
        {"l.0.experts.0.gate_proj.weight", F8_DTYPE_E4M3, 2, {2, 4}}};
    static const char *const order[] = {
        "l.0.experts.0.gate_proj.weight", "l.0.experts.0.up_proj.weight",
        "l.0.experts.1.gate_proj.weight", "l.0.experts.1.up_proj.weight"};
    f8_checkpoint *cp =
        open_with(*state, FP8_CONFIG, tensors, COUNT_OF(tensors));
    f8_rules *rules = rules_of(splits);
    f8_fusion found;
    f8_error err = {0};

    expect_ok(f8_fusion_find(cp, rules, NULL, &found, &err), &err);
    assert_int_equal(found.count, 2);
    const f8_fused_tensor *down = &found.tensors[0], *up = &found.tensors[1];
    assert_string_equal(down->name, "l.1.experts.down_proj");
    assert_string_equal(up->name, "l.0.experts.gate_up_proj");
    assert_int_equal(up->experts, 2);
    assert_int_equal(up->parts, 2);
    assert_int_equal(up->shape[0], 2);
    assert_int_equal(up->shape[1], 4);
    assert_int_equal(up->shape[2], 4);
    assert_int_equal(down->shape[0], 2);
    assert_int_equal(down->shape[1], 4);
    assert_int_equal(down->shape[2], 2);
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        assert_string_equal(up->items[i]->name, order[i]);
        assert_int_equal(found.of[index_of(cp, order[i])], 2);
    }
    assert_int_equal(found.of[index_of(cp, "norm.weight")], 0);
    assert_int_equal(found.of[index_of(cp, "l.1.experts.1.down_proj.weight")],
                     1);
    f8_fusion_free(&found);
    f8_rules_free(rules);
    f8_checkpoint_free(cp);
}

static void test_not_fusible(void **state)
{
    static const struct {
        made_tensor tensors[3];
        size_t count;
        const char *message;
    } cases[] = {
        {{{"l.0.experts.0.down_proj.weight", F8_DTYPE_BF16, 2, {4, 2}},
          {"l.0.experts.2.down_proj.weight", F8_DTYPE_BF16, 2, {4, 2}}},
         2,
         "tensor l.0.experts.1.down_proj.weight: missing; expected 3 experts "
         "to fuse into l.0.experts.down_proj, as there is "
         "l.0.experts.2.down_proj.weight (t.rules:4: split "
         "l.{n}.experts.down_proj)"},
        {{{"l.0.experts.0.gate_proj.weight", F8_DTYPE_BF16, 2, {4, 2}},
          {"l.0.experts.1.gate_proj.weight", F8_DTYPE_BF16, 2, {4, 2}},
          {"l.0.experts.0.up_proj.weight", F8_DTYPE_BF16, 2, {4, 2}}},
         3,
         "tensor l.0.experts.1.up_proj.weight: missing; expected 2 experts to "
         "fuse into l.0.experts.gate_up_proj, as there is "
         "l.0.experts.1.gate_proj.weight (t.rules:3: split "
         "l.{n}.experts.gate_up_proj)"},
        {{{"l.0.experts.0.gate_proj.weight", F8_DTYPE_BF16, 2, {4, 2}},
          {"l.0.experts.0.up_proj.weight", F8_DTYPE_BF16, 2, {3, 2}}},
         2,
         "tensor l.0.experts.0.up_proj.weight: expected shape [4, 2] to fuse "
         "it with l.0.experts.0.gate_proj.weight into "
         "l.0.experts.gate_up_proj, found [3, 2]"},
        {{{"l.0.experts.0.down_proj.weight", F8_DTYPE_BF16, 1, {4}}},
         1,
         "tensor l.0.experts.0.down_proj.weight: expected a matrix to fuse "
         "into l.0.experts.down_proj, found 1 dimensions and 4 elements"},
    };
    f8_rules *rules = rules_of(splits);

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        f8_checkpoint *cp =
            open_with(*state, FP8_CONFIG, cases[i].tensors, cases[i].count);
        f8_fusion found;
        f8_error err = {0};
        expect_error(f8_fusion_find(cp, rules, NULL, &found, &err), &err,
                     F8_ERR_REFUSED, cases[i].message);
        f8_fusion_free(&found);
        f8_checkpoint_free(cp);
    }
    f8_rules_free(rules);
}

static void test_what_transformers_reads(void **state)
{
    (void)state;
    assert_true(f8_transformers_reads("model.layers.61.mlp.gate.weight"));
    assert_true(f8_transformers_reads("x.mtp.weight"));
    assert_false(f8_transformers_reads("mtp.fc.weight"));
    assert_false(f8_transformers_reads("model.layers.61.eh_proj.weight"));
    assert_false(f8_transformers_reads("model.layers.61.enorm.weight"));
    assert_false(f8_transformers_reads("model.layers.61.hnorm.weight"));
    assert_false(
        f8_transformers_reads("model.layers.61.shared_head.head.weight"));
    /* ERNIE's, read in transformers' modeling_ernie4_5_moe.py: of
     * _keys_to_ignore_on_load_unexpected. */
    assert_false(f8_transformers_reads(
        "model.mtp_block.0.mlp.experts.1.up_proj.weight"));
    assert_false(f8_transformers_reads("model.mtp_emb_norm.0.weight"));
    assert_false(f8_transformers_reads("model.mtp_hidden_norm.0.weight"));
    assert_false(f8_transformers_reads("model.mtp_linear_proj.0.weight"));
    /* Modules have no ending, and parts of names count as a whole. */
    assert_false(f8_transformers_reads("model.layers.61.eh_proj"));
    assert_true(f8_transformers_reads("model.layers.61.eh_projector.weight"));
    assert_true(f8_transformers_reads("model.layers.61.self_enorm.weight"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_roles),
        TEST_IN_DIR(test_wrong_pairs),
        TEST_IN_DIR(test_problems),
        TEST_IN_DIR(test_other_formats),
        cmocka_unit_test(test_what_transformers_reads),
        cmocka_unit_test(test_names_of_parts),
        cmocka_unit_test(test_places),
        TEST_IN_DIR(test_fusion),
        TEST_IN_DIR(test_not_fusible),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
