/* test_serving.c - `parallel` lines (docs/rules.md) and what follows from them
 * for shapes that were chosen for it (docs/serving.md); the sizes were worked
 * out by hand. tests/cli/serving.bats has the published models. */
#include "helpers.h"

#include "modules.h"
#include "serving.h"

/* ---- a checkpoint of one matrix or two ----------------------------------- */

typedef struct matrix {
    const char *name;
    uint64_t rows, cols;
} matrix;

static f8_serving *serve(const char *dir, const char *lines, const char *config,
                         const matrix *matrices, size_t count)
{
    made_tensor tensors[4];
    char rules[2048];
    f8_serving *serving = NULL;
    f8_error err = {0};
    f8_options options = source_options(dir);

    for (size_t i = 0; i < count; i++)
        tensors[i] = (made_tensor){matrices[i].name,
                                   F8_DTYPE_BF16,
                                   2,
                                   {matrices[i].rows, matrices[i].cols}};
    snprintf(rules, sizeof rules,
             "family f\nquantize *\nfused ab = a b\nfused last = c d\n%s",
             lines);
    const char *src = put_source(dir, rules, config, tensors, count);
    f8_plan *plan = plan_with(src, &options);
    expect_ok(f8_plan_serving(plan, &serving, &err), &err);
    f8_plan_free(plan); /* what was said stays */
    return serving;
}

/* Bit k: 2^k devices. */
static void expect_sizes(f8_serving *serving, f8_engine engine, uint32_t tp,
                         uint32_t ep)
{
    f8_serving_engine found;

    f8_serving_get_engine(serving, engine, &found);
    if (found.unknown)
        fail_msg("not known: %s", found.unknown);
    assert_int_equal(found.tp_sizes, tp);
    assert_int_equal(found.ep_sizes, ep);
}

static void expect_both(f8_serving *serving, uint32_t tp, uint32_t ep)
{
    expect_sizes(serving, F8_VLLM, tp, ep);
    expect_sizes(serving, F8_SGLANG, tp, ep);
    f8_serving_free(serving);
}

#define ALL 0x7f
#define CONFIG "{\"model_type\": \"f\"}"

static void test_row(void **state)
{
    /* 1024 / 8 = 128. What is not divided may end within a block. */
    const matrix fits = {"x.o.weight", 128, 1024};
    const matrix ragged = {"x.o.weight", 100, 200};

    expect_both(serve(*state, "parallel row *.o.weight\n", CONFIG, &fits, 1),
                0x0f, 0x0f);
    expect_both(serve(*state, "parallel row *.o.weight\n", CONFIG, &ragged, 1),
                0x01, 0x01);
    expect_both(
        serve(*state, "parallel row *.o.weight shared\n", CONFIG, &fits, 1),
        0x0f, ALL);
    expect_both(
        serve(*state, "parallel whole *.o.weight\n", CONFIG, &ragged, 1), ALL,
        ALL);
}

static void test_column(void **state)
{
    const matrix fits = {"x.q.weight", 1024, 128};
    const matrix ragged = {"x.q.weight", 200, 128};

    expect_both(serve(*state, "parallel column *.q.weight\n", CONFIG, &fits, 1),
                0x0f, 0x0f);
    expect_both(
        serve(*state, "parallel column *.q.weight\n", CONFIG, &ragged, 1), 0x01,
        0x01);
    /* Four heads of 256: not eight shares. */
    expect_both(serve(*state, "parallel column *.q.weight heads=n\n",
                      "{\"model_type\": \"f\", \"n\": 4}", &fits, 1),
                0x07, 0x07);
    /* Copies of two heads, but not of three. */
    expect_both(serve(*state, "parallel column *.q.weight kv=n\n",
                      "{\"model_type\": \"f\", \"text_config\": {\"n\": 2}}",
                      &fits, 1),
                ALL, ALL);
    expect_both(serve(*state, "parallel column *.q.weight kv=n\n",
                      "{\"model_type\": \"f\", \"n\": 3}",
                      &(matrix){"x.q.weight", 3072, 128}, 1),
                0x01, 0x01);
    /* A head of half a block cannot be a device's whole share. */
    expect_both(serve(*state, "parallel column *.q.weight kv=n\n",
                      "{\"model_type\": \"f\", \"n\": 16}", &fits, 1),
                0x0f, 0x0f);
}

/* Joined layers: the first must end with a block, with SGLang all. */
static void test_merged(void **state)
{
    const matrix last[] = {{"x.a.weight", 256, 128}, {"x.b.weight", 200, 128}};
    const matrix first[] = {{"x.a.weight", 200, 128}, {"x.b.weight", 256, 128}};
    f8_serving *serving = serve(*state, "parallel column *\n", CONFIG, last, 2);

    expect_sizes(serving, F8_VLLM, 0x01, 0x01);
    expect_sizes(serving, F8_SGLANG, 0, 0);
    f8_serving_free(serving);
    expect_both(serve(*state, "parallel column *\n", CONFIG, first, 2), 0, 0);
    expect_both(serve(*state, "parallel whole *\n", CONFIG, last, 2), ALL, ALL);
    expect_both(serve(*state, "parallel whole *\n", CONFIG, first, 2), 0, 0);
}

static void test_parts_of_one(void **state)
{
    /* 2 heads of 128 and 4 of 64: 256 and 256 rows, two devices. */
    static const char lines[] = "parallel column *.q.weight heads=n*d,m*e\n";
    const matrix fits = {"x.q.weight", 512, 128};
    f8_serving_engine found;

    expect_both(serve(*state, lines,
                      "{\"model_type\": \"f\", \"n\": 2, \"d\": 128, "
                      "\"m\": 4, \"e\": 64}",
                      &fits, 1),
                0x03, 0x03);
    f8_serving *serving = serve(*state, lines,
                                "{\"model_type\": \"f\", \"n\": 2, \"d\": 128, "
                                "\"m\": 4, \"e\": 9223372036854775807}",
                                &fits, 1);
    f8_serving_get_engine(serving, F8_VLLM, &found);
    assert_string_equal(found.unknown,
                        "config.json has other heads than x.q.weight");
    f8_serving_free(serving);
    serving = serve(*state, lines,
                    "{\"model_type\": \"f\", \"n\": 2, \"d\": -1, \"m\": 4, "
                    "\"e\": 64}",
                    &fits, 1);
    f8_serving_get_engine(serving, F8_SGLANG, &found);
    assert_string_equal(found.unknown, "config.json does not say d");
    assert_int_equal(found.tp_sizes, 0);
    f8_serving_free(serving);
}

/* Queries, keys and values in one matrix, with what became of their scales in
 * vLLM 0.32.0: its QKVParallelLinear was made to load such a matrix whose rows
 * and scales say which they are, for each device. R: a part's scales are more
 * than there are left; S: none raises, and rows have others' scales. */
static void test_stored_heads(void **state)
{
    static const struct {
        unsigned heads, kv, dim;
        const char *vllm; /* 1, 2, 4 and 8 devices */
        uint32_t sglang;
    } cases[] = {
        {32, 32, 96, "++++", 0x0f},  /* Phi-3-mini */
        {24, 8, 128, "++++", 0x0f},  /* Phi-4-mini */
        {40, 10, 128, "++..", 0x03}, /* Phi-3-medium, Phi-4 */
        {34, 34, 96, "+S..", 0},     /* keys begin in a block's middle */
        {32, 1, 64, "RRRR", 0},      /* one head: half a block each */
        {8, 1, 96, "++RR", 0},       /* keys and values keep their places */
        {4, 4, 124, "+SS.", 0},      {2, 2, 120, "+S..", 0},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char config[128];
        uint32_t fits = 0;
        f8_serving *serving;
        f8_serving_engine found;
        const matrix qkv = {
            "x.q.weight",
            (uint64_t)(cases[i].heads + 2 * cases[i].kv) * cases[i].dim, 128};
        snprintf(config, sizeof config,
                 "{\"model_type\": \"f\", \"n\": %u, \"m\": %u}",
                 cases[i].heads, cases[i].kv);
        serving = serve(*state,
                        "parallel column *.q.weight parts=q,k,v "
                        "heads=n,m,m kv=m\n",
                        config, &qkv, 1);
        for (unsigned k = 0; k < 4; k++) {
            const char *limit =
                f8_serving_limit(serving, F8_VLLM, 1u << k, false);
            char seen = cases[i].vllm[k];
            fits |= seen == '+' ? 1u << k : 0;
            assert_int_equal(!limit, seen == '+');
            if (seen == 'R')
                assert_non_null(strstr(limit, ": raises"));
            if (seen == 'S')
                assert_non_null(strstr(limit, ": scales of other rows, "
                                              "silently"));
        }
        f8_serving_get_engine(serving, F8_VLLM, &found);
        assert_int_equal(found.tp_sizes & 0x0f, fits);
        f8_serving_get_engine(serving, F8_SGLANG, &found);
        assert_int_equal(found.tp_sizes & 0x0f, cases[i].sglang);
        f8_serving_free(serving);
    }
}

/* Gate and up in one matrix: the same, of its MergedColumnParallelLinear. */
static void test_stored_halves(void **state)
{
    static const struct {
        uint64_t each;
        const char *vllm; /* 1, 2, 4 devices */
    } cases[] = {{8192, "+++"}, {192, "RRR"}, {160, "RRR"},
                 {240, "+SR"},  {496, "+SS"}, {384, "+RR"}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const matrix both = {"x.u.weight", 2 * cases[i].each, 128};
        f8_serving *serving = serve(*state, "parallel column * parts=gate,up\n",
                                    CONFIG, &both, 1);
        for (unsigned k = 0; k < 3; k++) {
            const char *limit =
                f8_serving_limit(serving, F8_VLLM, 1u << k, false);
            const char *seen = cases[i].vllm[k] == 'R'   ? ": raises"
                               : cases[i].vllm[k] == 'S' ? "silently"
                                                         : NULL;
            assert_int_equal(!limit, !seen);
            if (seen)
                assert_non_null(strstr(limit, seen));
        }
        f8_serving_free(serving);
    }
}

/* What is said of them: whose rows, where they begin, what the engine does. */
static void test_stored_sentences(void **state)
{
    const matrix both = {"x.1.u.weight", 384, 128};
    const matrix odd = {"x.1.u.weight", 385, 128};
    f8_serving *serving =
        serve(*state, "parallel column * parts=gate,up\n", CONFIG, &both, 1);
    f8_finding finding;
    f8_serving_engine found;

    assert_true(f8_serving_get_finding(serving, 0, &finding));
    assert_int_equal(finding.engine, F8_VLLM);
    assert_true(finding.is_warning);
    assert_string_equal(finding.tensor, "x.1.u.weight");
    assert_string_equal(finding.where, "u");
    assert_string_equal(finding.what,
                        "cannot be served, not even on one device: up begins "
                        "at row 192, within a block: raises");
    assert_true(f8_serving_get_finding(serving, 1, &finding));
    assert_int_equal(finding.engine, F8_SGLANG);
    assert_string_equal(finding.what,
                        "cannot be served, not even on one device: 192 rows "
                        "of gate: raises");
    assert_string_equal(f8_serving_limit(serving, F8_VLLM, 1, false),
                        "1: u, up begins at row 192, within a block: raises");
    assert_string_equal(f8_serving_limit(serving, F8_SGLANG, 2, true),
                        "2: u, 96 of 192 rows of gate each: raises");
    assert_null(f8_serving_limit(serving, F8_TRANSFORMERS, 2, false));
    assert_null(f8_serving_limit(serving, F8_VLLM, 3, false));
    f8_serving_free(serving);
    serving =
        serve(*state, "parallel column * parts=gate,up\n", CONFIG, &odd, 1);
    f8_serving_get_engine(serving, F8_VLLM, &found);
    assert_string_equal(found.unknown, "no equal parts has x.1.u.weight");
    f8_serving_free(serving);
    /* Heads that are none of the rows, or a number beyond all. */
    for (int huge = 0; huge < 2; huge++) {
        serving = serve(*state, "parallel column * parts=a,b heads=n,m\n",
                        huge ? "{\"model_type\": \"f\", \"n\": "
                               "9223372036854775807, "
                               "\"m\": 9223372036854775807}"
                             : "{\"model_type\": \"f\", \"n\": 3, "
                               "\"m\": 2}",
                        &both, 1);
        f8_serving_get_engine(serving, F8_VLLM, &found);
        assert_string_equal(found.unknown,
                            "config.json has other heads than x.1.u.weight");
        f8_serving_free(serving);
    }
}

/* Where BF16 is not in the way of blocks, heads still are. */
static void test_stored_not_fp8(void **state)
{
    const matrix both[] = {{"x.1.q.weight", 240, 128},
                           {"x.1.o.weight", 128, 8192}};
    f8_serving *serving = serve(*state,
                                "keep *.q.weight\n"
                                "parallel row *\n"
                                "parallel column *.q.weight parts=q,k,v "
                                "heads=n,m,m kv=m\n",
                                "{\"model_type\": \"f\", \"n\": 4, "
                                "\"m\": 1}",
                                both, 2);

    expect_sizes(serving, F8_VLLM, 0x07, 0x07);
    assert_string_equal(f8_serving_limit(serving, F8_VLLM, 16, false),
                        "16: q, 4 n");
    f8_serving_free(serving);
}

/* A head of each, and again: vLLM takes them for one layer of 384 and more
 * rows, SGLang for four layers. */
static void test_interleaved(void **state)
{
    static const char lines[] =
        "parallel column * heads=n*d,n*d,m*d,m*d interleaved\n";
    static const char config[] =
        "{\"model_type\": \"f\", \"n\": 4, \"m\": 8, \"d\": 64}";
    const matrix one = {"x.1.z.weight", 1536, 128};
    f8_serving *serving = serve(*state, lines, config, &one, 1);

    /* 1536 / 4 = 384 is three blocks; of 256 rows of queries two have 128. */
    expect_sizes(serving, F8_VLLM, 0x07, 0x07);
    expect_sizes(serving, F8_SGLANG, 0x03, 0x03);
    assert_string_equal(f8_serving_limit(serving, F8_VLLM, 8, false),
                        "8: z, 4 n");
    assert_string_equal(f8_serving_limit(serving, F8_SGLANG, 4, false),
                        "4: z, 64 of 256 rows each");
    f8_serving_free(serving);
    /* 12 heads of 20 rows: 240 on one device, 120 on two. */
    const matrix ragged = {"x.1.z.weight", 240, 128};
    serving = serve(*state, "parallel column * heads=n*d,m*d interleaved\n",
                    "{\"model_type\": \"f\", \"n\": 4, \"m\": 8, "
                    "\"d\": 20}",
                    &ragged, 1);
    expect_sizes(serving, F8_VLLM, 0x01, 0x01);
    expect_sizes(serving, F8_SGLANG, 0, 0);
    assert_string_equal(f8_serving_limit(serving, F8_VLLM, 2, false),
                        "2: z, 120 of 240 rows each");
    f8_serving_free(serving);
}

/* 256 rows: of heads of 64, four, whatever config.json says. */
static void test_heads_by_a_norm(void **state)
{
    static const char lines[] = "parallel whole *\n"
                                "parallel column *.q.weight heads=.n.weight\n"
                                "parallel column *.k.weight kv=.n.weight\n";
    const matrix both[] = {{"x.1.q.weight", 512, 128}, {"x.1.n.weight", 1, 64}};
    const matrix copied[] = {{"x.1.k.weight", 512, 128},
                             {"x.1.n.weight", 1, 256}};
    f8_serving *serving = serve(*state, lines, CONFIG, both, 2);
    f8_serving_engine found;

    expect_sizes(serving, F8_VLLM, 0x07, 0x07);
    f8_serving_free(serving);
    serving = serve(*state, lines, CONFIG, copied, 2);
    expect_sizes(serving, F8_VLLM, ALL, ALL);
    f8_serving_free(serving);
    static const matrix lacking[][2] = {
        {{"x.1.q.weight", 512, 128}, {"x.2.n.weight", 1, 64}},
        {{"x.1.q.weight", 512, 128}, {"x.1.n.weight", 1, 96}},
        {{"q.weight", 512, 128}, {"n.weight", 1, 64}}};
    for (size_t i = 0; i < COUNT_OF(lacking); i++) {
        serving = serve(*state,
                        "parallel whole *\n"
                        "parallel column *q.weight heads=.n.weight\n",
                        CONFIG, lacking[i], 2);
        f8_serving_get_engine(serving, F8_VLLM, &found);
        assert_non_null(found.unknown);
        assert_non_null(
            strstr(found.unknown, "no tensor beside tells the heads of "));
        f8_serving_free(serving);
    }
}

/* A shared expert that only one engine leaves whole. */
static void test_shared_by_one(void **state)
{
    const matrix fits = {"x.o.weight", 128, 1024};
    f8_serving *serving = serve(*state, "parallel row *.o.weight shared=vllm\n",
                                CONFIG, &fits, 1);

    expect_sizes(serving, F8_VLLM, 0x0f, ALL);
    expect_sizes(serving, F8_SGLANG, 0x0f, 0x0f);
    f8_serving_free(serving);
    serving = serve(*state, "parallel row *.o.weight shared=sglang\n", CONFIG,
                    &fits, 1);
    expect_sizes(serving, F8_VLLM, 0x0f, 0x0f);
    expect_sizes(serving, F8_SGLANG, 0x0f, ALL);
    f8_serving_free(serving);
}

/* A number of heads that config.json does not have leaves sizes unknown. */
static void test_heads_not_said(void **state)
{
    const matrix one = {"x.q.weight", 256, 128};
    static const char *const lines[] = {
        "parallel column *.q.weight heads=gone\n",
        "parallel column *.q.weight kv=gone\n",
        "parallel column *.q.weight heads=n*d,gone*d\n"};

    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        f8_serving_engine found;
        f8_serving *serving =
            serve(*state, lines[i],
                  "{\"model_type\": \"f\", \"n\": 2, \"d\": 64}", &one, 1);
        f8_serving_get_engine(serving, F8_VLLM, &found);
        assert_string_equal(found.unknown, "config.json does not say gone");
        assert_int_equal(found.tp_sizes, 0);
        f8_serving_free(serving);
    }
}

static void test_experts(void **state)
{
    /* 384 = 3 blocks; halves of 192, quarters of 96, eighths of 48. Of the
     * other side, 64 and 32 divide 2048, and only 16 divides 2064. */
    const matrix even = {"x.experts.0.up.weight", 384, 2048};
    const matrix odd = {"x.experts.0.up.weight", 384, 2064};
    static const char lines[] = "parallel column *.up.weight experts\n";
    f8_serving *serving = serve(*state, lines, CONFIG, &even, 1);
    f8_serving_engine found;
    f8_finding finding;

    expect_sizes(serving, F8_VLLM, 0x07, ALL);
    expect_sizes(serving, F8_SGLANG, 0x01, ALL);
    f8_serving_get_engine(serving, F8_VLLM, &found);
    assert_int_equal(found.small_sizes, 0x06);
    assert_string_equal(found.limit, "8: experts.up, 48 of 384 rows each");
    assert_null(found.ep_limit);
    assert_int_equal(found.warnings, 0);
    assert_true(f8_serving_get_finding(serving, 0, &finding));
    assert_false(finding.is_warning);
    assert_string_equal(finding.what,
                        "spreads experts' scales over smaller blocks at 2, 4 "
                        "devices: only Triton kernels take that");
    f8_serving_free(serving);
    serving = serve(*state, lines, CONFIG, &odd, 1);
    expect_sizes(serving, F8_VLLM, 0x01, ALL);
    f8_serving_free(serving);
}

static void test_findings(void **state)
{
    /* 130 rows in two blocks of 65: silent nonsense. 129 in two: refused. */
    const matrix shapes[] = {{"x.1.a.weight", 130, 128},
                             {"x.2.a.weight", 130, 128},
                             {"mtp.1.a.weight", 130, 128},
                             {"x.1.o.weight", 128, 129}};
    f8_serving *serving =
        serve(*state, "parallel whole *\n", CONFIG, shapes, 4);
    f8_finding finding;
    static const struct {
        f8_engine engine;
        const char *what, *where, *tensor;
        uint64_t tensors;
        bool is_note;
    } wanted[] = {
        {F8_VLLM, "cannot be served, not even on one device: 130 rows", "a",
         "x.1.a.weight", 1, false},
        {F8_SGLANG, "cannot be served, not even on one device: 130 rows", "a",
         "x.1.a.weight", 1, false},
        {F8_TRANSFORMERS,
         "refuses to dequantize [128, 129]: its scales' grid does not divide "
         "it",
         "o", "x.1.o.weight", 1, false},
        {F8_TRANSFORMERS,
         "dequantizes [130, 128] with blocks that are not 128 wide, silently",
         "a", "x.1.a.weight", 2, false},
        {F8_VLLM,
         "no token can be computed: [128, 129] has columns beyond a multiple "
         "of 128",
         "o", "x.1.o.weight", 1, false},
        {F8_SGLANG,
         "no token can be computed: [128, 129] has columns beyond a multiple "
         "of 128",
         "o", "x.1.o.weight", 1, false},
        {F8_VLLM,
         "DeepGEMM on Blackwell has scales rounded up to powers of two and "
         "weights quantized anew; not with --scales pow2",
         "", NULL, 0, true},
        {F8_SGLANG,
         "DeepGEMM on Blackwell has scales rounded up to powers of two and "
         "weights quantized anew; not with --scales pow2",
         "", NULL, 0, true},
    };

    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        assert_true(f8_serving_get_finding(serving, i, &finding));
        assert_int_equal(finding.is_warning, !wanted[i].is_note);
        assert_int_equal(finding.engine, wanted[i].engine);
        assert_string_equal(finding.what, wanted[i].what);
        assert_string_equal(finding.where, wanted[i].where);
        if (wanted[i].tensor)
            assert_string_equal(finding.tensor, wanted[i].tensor);
        else
            assert_null(finding.tensor);
        assert_int_equal(finding.tensors, wanted[i].tensors);
    }
    assert_false(f8_serving_get_finding(serving, COUNT_OF(wanted), &finding));
    f8_serving_free(serving);
}

static void test_not_known(void **state)
{
    const matrix any = {"x.q.weight", 128, 128};
    f8_serving *serving = serve(*state, "", CONFIG, &any, 1);
    f8_serving_engine found;

    f8_serving_get_engine(serving, F8_VLLM, &found);
    assert_string_equal(found.name, "vllm");
    assert_true(found.is_divided);
    assert_string_equal(found.unknown,
                        "no 'parallel' of the rules names x.q.weight");
    assert_int_equal(found.warnings, 0);
    f8_serving_get_engine(serving, F8_TRANSFORMERS, &found);
    assert_false(found.is_divided);
    f8_serving_free(serving);
    f8_serving_free(NULL);
    assert_string_equal(f8_engine_name(F8_SGLANG), "sglang");
    assert_null(f8_engine_name(F8_ENGINE_COUNT));
}

/* ---- the language -------------------------------------------------------- */

/* The engine's warnings of this text, and no sizes, or none and ALL. */
static void expect_failure(const char *dir, const char *lines,
                           const char *config, f8_engine engine, bool fails)
{
    const matrix two[] = {{"x.q.weight", 128, 128}, {"x.k.weight", 128, 128}};
    char rules[512];
    f8_serving_engine found;
    f8_finding finding;

    snprintf(rules, sizeof rules,
             "parallel whole *\nparallel row x.k.weight\nkeep x.k.weight\n%s",
             lines);
    f8_serving *serving = serve(dir, rules, config, two, 2);
    f8_serving_get_engine(serving, engine, &found);
    assert_int_equal(found.warnings, fails);
    assert_int_equal(found.tp_sizes != 0, found.is_divided && !fails);
    assert_int_equal(found.ep_sizes != 0, found.is_divided && !fails);
    assert_null(found.unknown);
    if (fails) {
        assert_null(found.limit);
        assert_null(f8_serving_limit(serving, engine, 64, false));
        assert_true(f8_serving_get_finding(serving, 0, &finding));
        assert_int_equal(finding.engine, engine);
        assert_true(finding.is_warning);
        assert_string_equal(finding.what, "does it wrong");
        assert_string_equal(finding.where, "");
        assert_null(finding.tensor);
        assert_int_equal(finding.tensors, 0);
    }
    f8_serving_free(serving);
}

/* q is FP8 and has a scale, k is kept. */
static void test_failures(void **state)
{
    static const char other[] =
        "{\"model_type\": \"f\", \"architectures\": [1, \"A\"]}";
    const struct {
        const char *line, *config;
        f8_engine engine;
        bool fails;
    } cases[] = {
        {"fails vllm * does it wrong", CONFIG, F8_VLLM, true},
        {"fails vllm * does it wrong", CONFIG, F8_SGLANG, false},
        {"fails sglang *_scale_inv does it wrong", CONFIG, F8_SGLANG, true},
        {"fails transformers x.q.weight does it wrong", CONFIG, F8_TRANSFORMERS,
         true},
        {"fails sglang x.k.weight does it wrong", CONFIG, F8_SGLANG, true},
        {"fails sglang x.k.*_scale_inv does it wrong", CONFIG, F8_SGLANG,
         false},
        {"fails sglang *.experts.* does it wrong", CONFIG, F8_SGLANG, false},
        {"fails sglang * model_type=g,f does it wrong", CONFIG, F8_SGLANG,
         true},
        {"fails sglang * model_type=g does it wrong", CONFIG, F8_SGLANG, false},
        {"fails sglang * architectures=A does it wrong", other, F8_SGLANG,
         true},
        {"fails sglang * architectures=B does it wrong", other, F8_SGLANG,
         false},
        {"fails sglang * architectures=A does it wrong", CONFIG, F8_SGLANG,
         false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_failure(*state, cases[i].line, cases[i].config, cases[i].engine,
                       cases[i].fails);
}

static void test_errors(void **state)
{
    static const bad_rules cases[] = {
        {"parallel\n", "my.rules:1:9: expected row, column or whole at the end "
                       "of the line"},
        {"parallel line a\n",
         "my.rules:1:10: expected row, column or whole, found 'line'"},
        {"parallel row\n",
         "my.rules:1:13: expected a name pattern at the end of the line"},
        {"parallel row a{\n",
         "my.rules:1:15: expected '{n}', the only placeholder, found '{'"},
        {"parallel row a heads=b\n",
         "my.rules:1:16: expected experts or shared, found 'heads=b'"},
        {"parallel whole a experts\n",
         "my.rules:1:18: expected nothing behind the pattern, found 'experts'"},
        {"parallel row a parts=b,c\n",
         "my.rules:1:16: expected experts or shared, found 'parts=b,c'"},
        {"parallel row a shared=transformers\n",
         "my.rules:1:16: expected experts or shared, found "
         "'shared=transformers'"},
        {"parallel column a kv=\n",
         "my.rules:1:19: expected experts, shared, parts=NAME,..., heads=KEY, "
         "kv=KEY or interleaved, found 'kv='"},
        {"parallel column a kv=b heads=c\n",
         "my.rules:1:24: expected experts, shared, parts=NAME,..., heads=KEY, "
         "kv=KEY or interleaved, found 'heads=c'"},
        {"parallel column a heads=c kv=c\n",
         "my.rules:1:27: expected experts, shared, parts=NAME,..., heads=KEY, "
         "kv=KEY or interleaved, found 'kv=c'"},
        {"parallel column a heads=c parts=b,d\n",
         "my.rules:1:27: expected experts, shared, parts=NAME,..., heads=KEY, "
         "kv=KEY or interleaved, found 'parts=b,d'"},
        {"parallel column a heads=c interleaved\n",
         "my.rules:1:27: expected experts, shared, parts=NAME,..., heads=KEY, "
         "kv=KEY or interleaved, found 'interleaved'"},
        {"parallel column a parts=b, heads=c\n",
         "my.rules:1:27: expected up to 8 part names with ',' between, found "
         "''"},
        {"parallel column a parts=b,c kv=d\n",
         "my.rules:1:29: expected experts, shared, parts=NAME,..., heads=KEY, "
         "kv=KEY or interleaved, found 'kv=d'"},
        {"parallel column a parts=b,c heads=d\n",
         "my.rules:1:29: expected heads for each name of parts=, found "
         "'heads=d'"},
        {"parallel column a parts=b,c heads=d*e,d\n",
         "my.rules:1:29: expected HEADS*DIMENSION for each of several, found "
         "'heads=d*e,d'"},
        {"parallel column a parts=b,c heads=d,e kv=f\n",
         "my.rules:1:39: expected kv= with a KEY of heads=, found 'kv=f'"},
        {"parallel column a heads=\n",
         "my.rules:1:25: expected up to 8 of HEADS*DIMENSION, keys of "
         "config.json with ',' between, found ''"},
        {"parallel column a heads=b*\n",
         "my.rules:1:25: expected up to 8 of HEADS*DIMENSION, keys of "
         "config.json with ',' between, found 'b*'"},
        {"parallel column a heads=b*c,d\n",
         "my.rules:1:19: expected HEADS*DIMENSION for each of several, found "
         "'heads=b*c,d'"},
        {"parallel column a heads=b*c,b*c,b*c,b*c,b*c,b*c,b*c,b*c,b*c\n",
         "my.rules:1:57: expected up to 8 of HEADS*DIMENSION, keys of "
         "config.json with ',' between, found 'b*c'"},
    };
    (void)state;

    expect_bad_rules(cases, COUNT_OF(cases));
}

/* Every built-in family that is not refused says how each weight that it
 * quantises is divided: a name is made of the pattern of its rule. */
static void test_families_are_complete(void **state)
{
    (void)state;
    for (size_t i = 0; f8_family_name(i); i++) {
        f8_rules *rules = NULL;
        f8_error err = {0};
        expect_ok(f8_rules_load(f8_family_name(i), "", &rules, &err), &err);
        for (size_t k = 0; k < rules->rules_count && !rules->refused; k++) {
            const f8_rule *rule = &rules->rules[k];
            char name[512], *at;
            if (rule->kind == F8_RULE_KEEP)
                continue;
            snprintf(name, sizeof name, "%s", rule->pattern);
            while ((at = strstr(name, "{n}"))) {
                *at = '1';
                memmove(at + 1, at + 3, strlen(at + 3) + 1);
            }
            if (rule->into) /* beside the module, not the tensor */
                *strrchr(name, '.') = '\0';
            char *leaf = strrchr(name, '.') + 1;
            for (unsigned p = 0; p == 0 || p < rule->parts_count; p++) {
                if (rule->parts_count)
                    snprintf(leaf, 64, "%s%s1.%s.weight",
                             rule->into ? rule->into : "",
                             rule->into ? "." : "", rule->parts[p]);
                if (!f8_rules_find_parallel(rules, name))
                    fail_msg("%s: how is %s divided?", rules->label, name);
            }
        }
        f8_rules_free(rules);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_IN_DIR(test_row),
        TEST_IN_DIR(test_column),
        TEST_IN_DIR(test_merged),
        TEST_IN_DIR(test_parts_of_one),
        TEST_IN_DIR(test_stored_heads),
        TEST_IN_DIR(test_stored_halves),
        TEST_IN_DIR(test_stored_sentences),
        TEST_IN_DIR(test_stored_not_fp8),
        TEST_IN_DIR(test_interleaved),
        TEST_IN_DIR(test_heads_by_a_norm),
        TEST_IN_DIR(test_shared_by_one),
        TEST_IN_DIR(test_heads_not_said),
        TEST_IN_DIR(test_experts),
        TEST_IN_DIR(test_findings),
        TEST_IN_DIR(test_not_known),
        TEST_IN_DIR(test_failures),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_families_are_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
