/* test_glob_rules.c - name patterns and the rules language, held against
 * docs/rules.md: every directive, every flag, every message with its place,
 * and when a rule may stay without a tensor. */
#include "helpers.h"

#include "glob.h"
#include "rules.h"

/* ---- patterns ------------------------------------------------------------ */

typedef struct match_case {
    const char *pattern, *text;
    bool matches;
} match_case;

static void check_matches(const match_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const match_case *c = &cases[i];
        if (f8_glob_match(c->pattern, c->text) != c->matches)
            fail_msg("pattern '%s', text '%s': expected %s", c->pattern,
                     c->text, c->matches ? "a match" : "no match");
    }
}

static void test_plain_characters(void **state)
{
    static const match_case cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"lm_head.weight", "lm_head.weight", true},
        {"lm_head.weight", "lm_head.weights", false},
        {"lm_head.weight", "lm_head.weigh", false},
        {"lm_head.weight", "Lm_head.weight", false},
        /* A dot is a dot, and brackets are brackets. */
        {"a.c", "abc", false},
        {"[ab]", "a", false},
        {"[ab]", "[ab]", true},
    };
    (void)state;
    check_matches(cases, COUNT_OF(cases));
}

static void test_star_and_question_mark(void **state)
{
    static const match_case cases[] = {
        {"*", "", true},
        {"*", "model.layers.0", true},
        {"**", "a", true},
        {"a*", "a", true},
        {"a*", "ba", false},
        {"*a", "bba", true},
        {"*a", "ab", false},
        {"a*c", "ac", true},
        {"a*c", "abbc", true},
        {"a*c", "abcd", false},
        {"*.weight", "a.b.weight", true},
        {"*.weight", "weight", false},
        {"?", "a", true},
        {"?", "", false},
        {"?", "ab", false},
        {"a?c", "abc", true},
        {"a?c", "a.c", true},
        {"a?c", "ac", false},
        {"*?", "", false},
        {"*?", "a", true},
        {"?*?", "ab", true},
        {"?*?", "a", false},
    };
    (void)state;
    check_matches(cases, COUNT_OF(cases));
}

static void test_number(void **state)
{
    static const match_case cases[] = {
        {"{n}", "7", true},
        {"{n}", "0123", true},
        {"{n}", "", false},
        {"{n}", "x", false},
        {"{n}", "1x", false},
        {"{n}", "x1", false},
        {"{n}", "-1", false},
        {"{n}.a", "12.a", true},
        {"{n}.a", ".a", false},
        {"a.{n}", "a.12", true},
        {"a.{n}", "a.", false},
        {"a.{n}", "a.b", false},
        {"a.{n}.b", "a.3.b", true},
        {"a.{n}.b", "a.3c.b", false},
        {"a.{n}.b", "a..b", false},
        {"a.{n}.{n}", "a.1.22", true},
        {"a.{n}.{n}", "a.1.", false},
        /* The placeholder is no text: it does not match itself. */
        {"a.{n}", "a.{n}", false},
    };
    (void)state;
    check_matches(cases, COUNT_OF(cases));
}

static void test_backtracking(void **state)
{
    static const match_case cases[] = {
        {"*ab", "aab", true},
        {"*a*b", "xaxab", true},
        {"*aab", "aaab", true},
        {"*a*a*a*", "aa", false},
        {"*a*a*a*", "bababab", true},
        {"*.{n}.w", "a.1.2.w", true},
        {"*.{n}.w", "a.1.b.w", false},
        {"*{n}", "a1b22", true},
        {"*{n}", "a1b", false},
        {"*.{n}", "a.1.b", false},
        {"*.{n}", "a.1.b.2", true},
        {"a*{n}b*c", "a1x2bzc", true},
        {"*.experts.{n}.*", "m.experts.x.experts.3.w", true},
        {"*a*a*a*a*a*a*a*a*a*b",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
        /* With every choice tried these would take until the sun is cold. */
        {"{n}{n}{n}{n}{n}{n}{n}{n}{n}{n}{n}{n}{n}{n}{n}{n}x",
         "11111111111111111111111111111111111111111111111111111111", false},
        {"{n}*{n}*{n}*{n}*{n}*{n}*{n}*{n}*{n}*{n}*{n}*x",
         "11111111111111111111111111111111111111111111111111111111", false},
        {"*{n}1*{n}1*{n}1*{n}1*{n}1*{n}1*{n}1*{n}1*{n}1*{n}1*x",
         "11111111111111111111111111111111111111111111111111111111", false},
    };
    (void)state;
    check_matches(cases, COUNT_OF(cases));
}

/* `{n}` stands for a decimal number, whatever stands beside it: 10 is the
 * number 1 followed by a 0. tests/reference reads it so too. */
static void test_number_beside_digits(void **state)
{
    static const match_case cases[] = {
        {"{n}0", "10", true},   {"{n}0", "0", false},   {"1{n}", "12", true},
        {"1{n}", "1", false},   {"{n}{n}", "12", true}, {"{n}{n}", "1", false},
        {"{n}?", "12", true},   {"{n}?", "1", false},   {"*{n}5", "a15", true},
        {"*{n}5", "a5", false},
    };
    (void)state;
    check_matches(cases, COUNT_OF(cases));
}

/* `?` stands for one character; U+00E9 is one, though it has two bytes. */
static void test_question_mark_takes_a_whole_character(void **state)
{
    static const match_case cases[] = {
        {"a?c",
         "a\xc3\xa9"
         "c",
         true},
        {"a??c",
         "a\xc3\xa9"
         "c",
         false},
    };
    (void)state;
    check_matches(cases, COUNT_OF(cases));
}

/* ---- files that are right ------------------------------------------------ */

static f8_status load(const char *dir, const char *text, f8_rules **rules,
                      f8_error *err)
{
    const char *path = path_in(dir, "my.rules");

    put_text(path, text);
    return f8_rules_load(path, "unused", rules, err);
}

static f8_rules *load_good(const char *dir, const char *text)
{
    f8_rules *rules = NULL;
    f8_error err = {0};

    expect_ok(load(dir, text, &rules, &err), &err);
    assert_non_null(rules);
    return rules;
}

static void test_every_directive(void **state)
{
    f8_rules *rules = load_good(
        *state, "# a comment\n"
                "family      mine   # and one behind\n"
                "\n"
                "model_type  one two\n"
                "model_type\tthree\r\n"
                "keep        a.{n}.norm  optional linear "
                "group=g misread=sglang,transformers refused=vllm\n"
                "quantize    a.*.q?\n"
                "split       a.experts  experts=0 parts=1:gate,up oneof=p "
                "optional\n"
                "fused       qkv = q k v\n"
                "fused       ba = b a   listed\n"
                "keep        b  always");

    assert_string_equal(rules->family, "mine");
    assert_string_equal(rules->label, "my.rules");
    assert_int_equal(rules->model_types_count, 3);
    assert_string_equal(rules->model_types[0], "one");
    assert_string_equal(rules->model_types[1], "two");
    assert_string_equal(rules->model_types[2], "three");

    assert_int_equal(rules->rules_count, 4);
    const f8_rule *keep = &rules->rules[0], *quantize = &rules->rules[1];
    const f8_rule *split = &rules->rules[2];
    assert_int_equal(keep->kind, F8_RULE_KEEP);
    assert_string_equal(keep->pattern, "a.{n}.norm");
    assert_string_equal(keep->text, "my.rules:6: keep a.{n}.norm");
    assert_string_equal(keep->group, "g");
    assert_null(keep->oneof);
    assert_true(keep->optional && keep->linear && !keep->always);
    assert_true(rules->rules[3].always);
    assert_int_equal(keep->parts_count, 0);
    assert_int_equal(keep->misread_by, 1 << F8_SGLANG | 1 << F8_TRANSFORMERS);
    assert_int_equal(keep->refused_by, 1 << F8_VLLM);

    assert_int_equal(quantize->kind, F8_RULE_QUANTIZE);
    assert_string_equal(quantize->text, "my.rules:7: quantize a.*.q?");
    assert_null(quantize->group);
    assert_null(quantize->oneof);
    assert_false(quantize->optional || quantize->linear || quantize->always);

    assert_int_equal(split->kind, F8_RULE_SPLIT);
    assert_string_equal(split->text, "my.rules:8: split a.experts");
    assert_int_equal(split->parts_count, 2);
    assert_string_equal(split->parts[0], "gate");
    assert_string_equal(split->parts[1], "up");
    assert_string_equal(split->oneof, "p");
    assert_null(split->group);
    assert_true(split->optional);

    assert_int_equal(rules->fused_count, 2);
    assert_string_equal(rules->fused[0].name, "qkv");
    assert_false(rules->fused[0].listed);
    assert_int_equal(rules->fused[0].parts_count, 3);
    assert_string_equal(rules->fused[0].parts[0], "q");
    assert_string_equal(rules->fused[0].parts[2], "v");
    assert_string_equal(rules->fused[1].name, "ba");
    assert_true(rules->fused[1].listed);
    assert_int_equal(rules->fused[1].parts_count, 2);
    assert_string_equal(rules->fused[1].parts[1], "a");
    f8_rules_free(rules);
}

static void test_ways_to_split(void **state)
{
    f8_rules *rules = load_good(
        *state, "family f\n"
                "note  one   sentence # and no more\n"
                "note  two\n"
                "split a experts=0 parts=2:x,y into=e.f\n"
                "split b rows=inter parts=x,y columns=hidden experts=0\n");

    assert_int_equal(rules->rules[0].axis, 2);
    assert_string_equal(rules->rules[0].into, "e.f");
    assert_null(rules->rules[1].into);
    assert_null(rules->rules[0].rows);
    assert_null(rules->rules[0].columns);
    assert_int_equal(rules->rules[1].axis, 0);
    assert_int_equal(rules->rules[1].parts_count, 2);
    assert_string_equal(rules->rules[1].parts[0], "x");
    assert_string_equal(rules->rules[1].rows, "inter");
    assert_string_equal(rules->rules[1].columns, "hidden");
    assert_int_equal(rules->notes_count, 2);
    assert_string_equal(rules->notes[0], "one sentence");
    assert_string_equal(rules->notes[1], "two");
    assert_null(rules->refused);
    f8_rules_free(rules);
    rules = load_good(*state, "family f\nrefuse not  today\n");
    assert_string_equal(rules->refused, "not today");
    f8_rules_free(rules);
}

static void test_failures(void **state)
{
    f8_rules *rules = load_good(
        *state, "family f\n"
                "keep *\n"
                "fails vllm a.{n}.* raises   = an error # and no more\n"
                "fails sglang * model_type=f,g drops all\n"
                "fails transformers * architectures=A model_type=h\n");

    assert_int_equal(rules->failures_count, 3);
    assert_int_equal(rules->failures[0].engine, F8_VLLM);
    assert_string_equal(rules->failures[0].pattern, "a.{n}.*");
    assert_null(rules->failures[0].key);
    assert_string_equal(rules->failures[0].text, "raises = an error");
    assert_int_equal(rules->failures[1].engine, F8_SGLANG);
    assert_string_equal(rules->failures[1].key, "model_type");
    assert_int_equal(rules->failures[1].values_count, 2);
    assert_string_equal(rules->failures[1].values[0], "f");
    assert_string_equal(rules->failures[1].values[1], "g");
    assert_string_equal(rules->failures[1].text, "drops all");
    /* One condition; what follows is the text. */
    assert_string_equal(rules->failures[2].key, "architectures");
    assert_int_equal(rules->failures[2].values_count, 1);
    assert_string_equal(rules->failures[2].text, "model_type=h");
    f8_rules_free(rules);
}

/* What a split's axis says of published models, and what overrules it. */
static void test_published(void **state)
{
    static const f8_form expected[] = {F8_FORM_ALONG,  F8_FORM_ACROSS,
                                       F8_FORM_APART,  F8_FORM_ACROSS,
                                       F8_FORM_ACROSS, F8_FORM_UNKNOWN};
    f8_rules *rules = load_good(
        *state, "family f\n"
                "split a experts=0 parts=1:x\n"
                "split b experts=0 parts=2:x\n"
                "split c experts=0 parts=1:x published=apart\n"
                "split d published=2 experts=0 parts=2:x\n"
                "split e experts=0 parts=x rows=r columns=c published=2\n"
                "split f experts=0 parts=x rows=r columns=c\n");

    for (size_t i = 0; i < COUNT_OF(expected); i++)
        assert_int_equal(rules->rules[i].published, expected[i]);
    f8_rules_free(rules);
}

static void test_renames(void **state)
{
    f8_rules *rules =
        load_good(*state, "family f\n"
                          "keep *\n"
                          "rename  m.{n}.mlp.{n}.gate  m.{n}.moe.{n}.router.w\n"
                          "rename  a  b.c\n"
                          "rename  {n}x  y{n}\n");
    static const char *const pairs[][2] = {
        {"m.0.mlp.17.gate", "m.0.moe.17.router.w"},
        {"m.12.mlp.003.gate", "m.12.moe.003.router.w"},
        {"a", "b.c"},
        {"12x", "y12"}};
    static const char *const others[] = {"m.0.mlp.1.gates", "m.mlp.1.gate",
                                         "aa", "x", "1x2"};
    char buffer[F8_NAME_MAX_BYTES + 1];
    const f8_rename *rename;

    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        assert_string_equal(
            f8_rules_known_as(rules, pairs[i][0], buffer, &rename),
            pairs[i][1]);
        assert_int_equal(rename - rules->renames, i < 2 ? 0 : i - 1);
        assert_true(f8_rules_called(rules, pairs[i][1], buffer, &rename));
        assert_string_equal(buffer, pairs[i][0]);
        assert_false(f8_rules_called(rules, pairs[i][0], buffer, &rename));
    }
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        assert_ptr_equal(f8_rules_known_as(rules, others[i], buffer, &rename),
                         others[i]);
        assert_null(rename);
    }
    f8_rules_free(rules);
}

/* What would be longer than a tensor's name may be is no match. */
static void test_rename_too_long(void **state)
{
    char name[F8_NAME_MAX_BYTES + 1], buffer[F8_NAME_MAX_BYTES + 1];
    f8_rules *rules = load_good(*state, "family f\nkeep *\n"
                                        "rename a{n} bc{n}\n");

    memset(name, '7', sizeof name - 1);
    name[0] = 'a';
    name[F8_NAME_MAX_BYTES] = '\0';
    assert_ptr_equal(f8_rules_known_as(rules, name, buffer, NULL), name);
    name[F8_NAME_MAX_BYTES - 1] = '\0';
    assert_ptr_equal(f8_rules_known_as(rules, name, buffer, NULL), buffer);
    assert_int_equal(strlen(buffer), F8_NAME_MAX_BYTES);
    f8_rules_free(rules);
}

static void test_most_parts(void **state)
{
    f8_rules *rules =
        load_good(*state, "family f\n"
                          "split a experts=0 parts=1:a,b,c,d,e,f,g,h\n"
                          "fused x = a b c d e f g h listed\n");

    assert_int_equal(rules->rules[0].parts_count, 8);
    assert_string_equal(rules->rules[0].parts[7], "h");
    assert_int_equal(rules->fused[0].parts_count, 8);
    assert_string_equal(rules->fused[0].parts[7], "h");
    assert_true(rules->fused[0].listed);
    f8_rules_free(rules);
}

/* "`#` starts a comment": no blank before it is asked for. */
static void test_comment_behind_a_word(void **state)
{
    f8_rules *rules = NULL;
    f8_error err = {0};

    expect_ok(
        load(*state, "family f# the name\nkeep a.weight# why\n", &rules, &err),
        &err);
    assert_string_equal(rules->family, "f");
    assert_string_equal(rules->rules[0].pattern, "a.weight");
    f8_rules_free(rules);
}

static void test_last_rule_wins(void **state)
{
    f8_rules *rules = load_good(*state, "family f\n"
                                        "keep      *.weight\n"
                                        "quantize  *.q.weight\n"
                                        "keep      first.*\n");

    assert_ptr_equal(f8_rules_find(rules, "a.norm.weight"), &rules->rules[0]);
    assert_ptr_equal(f8_rules_find(rules, "a.q.weight"), &rules->rules[1]);
    assert_ptr_equal(f8_rules_find(rules, "first.q.weight"), &rules->rules[2]);
    assert_ptr_equal(f8_rules_find(rules, "first.bias"), &rules->rules[2]);
    assert_null(f8_rules_find(rules, "second.bias"));
    f8_rules_free(rules);
}

/* ---- files that are wrong ------------------------------------------------ */

static void check_bad(const char *dir, const bad_rules *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        f8_rules *rules = NULL;
        f8_error err = {0};
        f8_status status = load(dir, cases[i].text, &rules, &err);
        expect_error(status, &err, F8_ERR_RULES, cases[i].message);
        assert_null(rules);
    }
}

static void test_directive_errors(void **state)
{
    /* Columns count bytes from 1; at the end of a line the column is that
     * behind the last word. */
    static const bad_rules cases[] = {
        {"", "my.rules: expected a line 'family NAME'"},
        {"keep a\n", "my.rules: expected a line 'family NAME'"},
        {"family f\n", "my.rules: expected at least one rule"},
        {"family f\nfused a = b c\n", "my.rules: expected at least one rule"},
        {"family\n",
         "my.rules:1:7: expected one family name at the end of the line"},
        {"family a b\n", "my.rules:1:10: expected one family name, found 'b'"},
        {"\n# c\n  kepp a\n",
         "my.rules:3:3: expected family, model_type, keep, quantize, split, "
         "rename, fused, parallel, fails, note, refuse, layout, file, list or "
         "end, found 'kepp'"},
        {"fails\n",
         "my.rules:1:6: expected vllm, sglang or transformers at the "
         "end of the line"},
        {"fails vlm * raises\n",
         "my.rules:1:7: expected vllm, sglang or transformers, found 'vlm'"},
        {"fails vllm\n",
         "my.rules:1:11: expected a name pattern at the end of the line"},
        {"fails vllm a.{e} raises\n",
         "my.rules:1:14: expected '{n}', the only placeholder, found '{e}'"},
        {"fails vllm * # nothing\n",
         "my.rules:1:13: expected what the engine does at the end of the line"},
        {"fails vllm * model_type=f\n",
         "my.rules:1:26: expected what the engine does at the end of the line"},
        {"fails vllm * model_type=f,,g raises\n",
         "my.rules:1:27: expected up to 8 names with ',' between, found ',g'"},
        {"layout x\nfails vllm * raises\n",
         "my.rules:2:1: expected 'end' before 'fails', of all layouts, found "
         "'fails'"},
        {"refuse # nothing\n",
         "my.rules:1:7: expected a reason at the end of the line"},
        {"note\n", "my.rules:1:5: expected a sentence at the end of the line"},
        {"refuse a b\nrefuse c\n",
         "my.rules:2:1: expected one refuse, found 'refuse'"},
        {"model_type  # none\n",
         "my.rules:1:11: expected a model_type of config.json at the end of "
         "the line"},
        {"keep\n",
         "my.rules:1:5: expected a name pattern at the end of the line"},
        {"keep x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x "
         "x\n",
         /* The 33rd word: "keep", then 31 words of two bytes each. */
         "my.rules:1:68: expected at most 32 words on a line"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_pattern_errors(void **state)
{
    static const bad_rules cases[] = {
        {"keep a.{x}.b\n",
         "my.rules:1:8: expected '{n}', the only placeholder, found '{x}.b'"},
        {"keep a.{n}.{n\n",
         "my.rules:1:12: expected '{n}', the only placeholder, found '{n'"},
        {"quantize a}b\n",
         "my.rules:1:11: expected '{n}', the only placeholder, found '}b'"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_rename_errors(void **state)
{
    static const bad_rules cases[] = {
        {"rename a\n",
         "my.rules:1:9: expected two name patterns at the end of the line"},
        {"rename a b c\n",
         "my.rules:1:12: expected two name patterns, found 'c'"},
        {"rename a.{m} b\n",
         "my.rules:1:10: expected '{n}', the only placeholder, found '{m}'"},
        {"rename a b.*\n",
         "my.rules:1:10: expected no wildcard but '{n}', found 'b.*'"},
        {"rename a? b\n",
         "my.rules:1:8: expected no wildcard but '{n}', found 'a?'"},
        {"rename a.{n}{n} b.{n}.{n}\n",
         "my.rules:1:8: expected no digit behind a '{n}', found 'a.{n}{n}'"},
        {"rename a.{n} b.{n}2\n",
         "my.rules:1:14: expected no digit behind a '{n}', found 'b.{n}2'"},
        {"rename a.{n} b.{n}.{n}\n",
         "my.rules:1:14: expected as many '{n}' as in the first pattern, "
         "found 'b.{n}.{n}'"},
        {"rename a.{n} c.{n}\nrename b.{n} c.{n}\n",
         "my.rules:2:14: expected a name that no other tensors are given, "
         "found "
         "'c.{n}'"},
        {"layout l\nrename a b\nend\n",
         "my.rules:2:1: expected 'end' before 'rename', of all layouts, found "
         "'rename'"},
        {"split a experts=0 parts=1:x published=2\n",
         "my.rules:1:1: expected published=1 or published=apart where parts "
         "lie "
         "along axis 1, found 'split'"},
        {"split a published=1 experts=0 parts=2:x\n",
         "my.rules:1:1: expected published=2 or published=apart where parts "
         "lie "
         "along axis 2, found 'split'"},
        {"split a experts=0 parts=1:x published=3\n",
         "my.rules:1:29: expected published=1, published=2 or "
         "published=apart, found 'published=3'"},
        {"keep a published=1\n",
         "my.rules:1:8: expected optional, linear, always, also=NAME, "
         "misread=ENGINE, refused=ENGINE, "
         "group=NAME or oneof=NAME, found 'published=1'"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_flag_errors(void **state)
{
    static const bad_rules cases[] = {
        {"keep a linaer\n", "my.rules:1:8: expected optional, linear, always, "
                            "also=NAME, misread=ENGINE, refused=ENGINE, "
                            "group=NAME or oneof=NAME, found 'linaer'"},
        {"keep a always misread=sglang\n",
         "my.rules:1:1: expected always, or misread= and refused=, not both, "
         "found 'keep'"},
        {"keep a refused=vllm optional always\n",
         "my.rules:1:1: expected always, or misread= and refused=, not both, "
         "found 'keep'"},
        {"keep a group=\n", "my.rules:1:8: expected optional, linear, always, "
                            "also=NAME, misread=ENGINE, refused=ENGINE, "
                            "group=NAME or oneof=NAME, found 'group='"},
        {"keep a oneof=\n", "my.rules:1:8: expected optional, linear, always, "
                            "also=NAME, misread=ENGINE, refused=ENGINE, "
                            "group=NAME or oneof=NAME, found 'oneof='"},
        {"keep a optional experts=0\n",
         "my.rules:1:17: expected optional, linear, always, also=NAME, "
         "misread=ENGINE, refused=ENGINE, "
         "group=NAME or "
         "oneof=NAME, found 'experts=0'"},
        {"quantize a linear\n",
         "my.rules:1:12: expected optional, group=NAME or oneof=NAME, found "
         "'linear'"},
        {"quantize a always\n",
         "my.rules:1:12: expected optional, group=NAME or oneof=NAME, found "
         "'always'"},
        {"quantize a parts=1:x\n",
         "my.rules:1:12: expected optional, group=NAME or oneof=NAME, found "
         "'parts=1:x'"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_split_errors(void **state)
{
    static const bad_rules cases[] = {
        {"split a parts=1:x\n", "my.rules:1:18: expected 'experts=0', the axis "
                                "of the experts at the end of the line"},
        {"split a experts=0\n", "my.rules:1:18: expected 'parts=1:NAME,...' at "
                                "the end of the line"},
        {"split a experts=1 parts=1:x\n",
         "my.rules:1:9: expected experts=0, parts=1:NAME,..., rows=KEY, "
         "columns=KEY, into=NAME, published=1, optional, group=NAME or "
         "oneof=NAME, found "
         "'experts=1'"},
        {"split a experts=0 parts=1:x parts=1:y\n",
         "my.rules:1:29: expected experts=0, parts=1:NAME,..., rows=KEY, "
         "columns=KEY, into=NAME, published=1, optional, group=NAME or "
         "oneof=NAME, found "
         "'parts=1:y'"},
        {"split a experts=0 parts=1:x linear\n",
         "my.rules:1:29: expected experts=0, parts=1:NAME,..., rows=KEY, "
         "columns=KEY, into=NAME, published=1, optional, group=NAME or "
         "oneof=NAME, found "
         "'linear'"},
        {"split a experts=0 parts=0:x\n",
         "my.rules:1:25: expected the axis of the parts, '1:' or '2:', found "
         "'0:x'"},
        {"split a experts=0 parts=12:x\n",
         "my.rules:1:25: expected the axis of the parts, '1:' or '2:', found "
         "'12:x'"},
        {"split a experts=0 parts=x rows=r\n",
         "my.rules:1:33: expected rows=KEY and columns=KEY, or an axis of the "
         "parts at the end of the line"},
        {"split a experts=0 parts=2:x rows=r columns=c\n",
         "my.rules:1:1: expected an axis of the parts, or rows= and columns=, "
         "found 'split'"},
        {"keep a misread=\n",
         "my.rules:1:16: expected vllm, sglang or transformers, with ',' "
         "between, found ''"},
        {"keep a refused=vllm,sglan\n",
         "my.rules:1:21: expected vllm, sglang or transformers, with ',' "
         "between, found 'sglan'"},
        {"keep a refused=vllms,sglang\n",
         "my.rules:1:16: expected vllm, sglang or transformers, with ',' "
         "between, found 'vllms,sglang'"},
        {"quantize a misread=vllm\n",
         "my.rules:1:12: expected optional, group=NAME or oneof=NAME, found "
         "'misread=vllm'"},
        {"quantize a also=b\n",
         "my.rules:1:12: expected optional, group=NAME or oneof=NAME, found "
         "'also=b'"},
        {"keep a rows=r\n", "my.rules:1:8: expected optional, linear, always, "
                            "also=NAME, misread=ENGINE, refused=ENGINE, "
                            "group=NAME or oneof=NAME, found 'rows=r'"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

/* As everywhere, the column is that of the text that was found. */
static void test_part_name_errors(void **state)
{
    static const bad_rules cases[] = {
        {"split a experts=0 parts=1:\n",
         "my.rules:1:27: expected up to 8 part names with ',' between, found "
         "''"},
        {"split a experts=0 parts=1:x,,y\n",
         "my.rules:1:29: expected up to 8 part names with ',' between, found "
         "',y'"},
        {"split a experts=0 parts=1:a,b,c,d,e,f,g,h,i\n",
         "my.rules:1:43: expected up to 8 part names with ',' between, found "
         "'i'"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_fused_errors(void **state)
{
    static const bad_rules cases[] = {
        {"fused\n", "my.rules:1:6: expected the name of the fused module at "
                    "the end of the line"},
        {"fused a\n", "my.rules:1:8: expected '=' at the end of the line"},
        {"fused a b c\n", "my.rules:1:9: expected '=', found 'b'"},
        {"fused a =\n",
         "my.rules:1:10: expected two parts or more at the end of the line"},
        {"fused a = b\n",
         "my.rules:1:12: expected two parts or more at the end of the line"},
        {"fused a = b listed\n",
         "my.rules:1:19: expected two parts or more at the end of the line"},
        {"fused a = 1 2 3 4 5 6 7 8 9\n",
         "my.rules:1:27: expected at most 8 parts, found '9'"},
        {"fused a = 1 2 3 4 5 6 7 8 9 listed\n",
         "my.rules:1:27: expected at most 8 parts, found '9'"},
    };
    check_bad(*state, cases, COUNT_OF(cases));
}

static void test_file_errors(void **state)
{
    char message[2 * 4096];
    f8_rules *rules = NULL;
    f8_error err = {0};
    const char *path = path_in(*state, "nul.rules");

    put_file(path, "family f\0\nkeep a\n", 17);
    snprintf(message, sizeof message, "%s: expected text, found a NUL", path);
    expect_error(f8_rules_load(path, "", &rules, &err), &err, F8_ERR_RULES,
                 message);
    assert_null(rules);

    path = path_in(*state, "large.rules");
    put_hole(path, 1000001);
    snprintf(message, sizeof message,
             "%s: 1000001 bytes, expected at most 1000000", path);
    expect_error(f8_rules_load(path, "", &rules, &err), &err, F8_ERR_FORMAT,
                 message);
    assert_null(rules);
}

static void test_missing_file(void **state)
{
    char message[2 * 4096];
    f8_rules *rules = NULL;
    f8_error err = {0};
    const char *path = path_in(*state, "none.rules");

    snprintf(message, sizeof message,
             "--rules %s: neither a built-in family (see 'fp8cast rules') nor "
             "a file",
             path);
    f8_status status = f8_rules_load(path, "", &rules, &err);
    assert_null(rules);
    /* What is returned and what stands in the error are one status. */
    expect_error(status, &err, F8_ERR_RULES, message);
}

/* ---- built-in families --------------------------------------------------- */

static void test_builtin_families(void **state)
{
    size_t count = 0;
    bool saw_moe = false;

    (void)state;
    for (const char *name; (name = f8_family_name(count)); count++) {
        f8_rules *rules = NULL;
        f8_error err = {0};
        char label[256];
        expect_ok(f8_rules_load(name, "", &rules, &err), &err);
        snprintf(label, sizeof label, "%s.rules", name);
        assert_string_equal(rules->label, label);
        assert_string_equal(rules->family, name);
        assert_non_null(strstr(f8_family_text(count), "family"));
        /* Every model_type of the family leads to it. */
        assert_true(rules->model_types_count > 0);
        for (size_t i = 0; i < rules->model_types_count; i++) {
            f8_rules *by_type = NULL;
            expect_ok(
                f8_rules_load(NULL, rules->model_types[i], &by_type, &err),
                &err);
            assert_string_equal(by_type->family, name);
            f8_rules_free(by_type);
        }
        saw_moe = saw_moe || !strcmp(name, "qwen3_5_moe");
        f8_rules_free(rules);
    }
    assert_true(saw_moe);
    assert_null(f8_family_name(count));
    assert_null(f8_family_text(count));
}

static void test_unknown_model_type(void **state)
{
    static const char start[] =
        "config.json: no rules for model_type \"new\x5cx1b\", known: ";
    static const char end[] = "; to write your own start from 'fp8cast rules "
                              "NAME' and pass --rules FILE";
    f8_rules *rules = NULL;
    f8_error err = {0};

    (void)state;
    assert_int_equal(f8_rules_load(NULL, "new\x1b", &rules, &err),
                     F8_ERR_RULES);
    assert_null(rules);
    assert_int_equal(err.status, F8_ERR_RULES);
    assert_memory_equal(err.message, start, sizeof start - 1);
    assert_non_null(strstr(err.message, "qwen3_5_moe"));
    size_t n = strlen(err.message);
    assert_true(n > sizeof end);
    assert_string_equal(err.message + n - (sizeof end - 1), end);
}

/* ---- rules that decide nothing ------------------------------------------- */

static f8_status check_use(const f8_rules *rules, uint64_t a, uint64_t b,
                           uint64_t c, f8_error *err)
{
    const uint64_t decided[] = {a, b, c};

    assert_int_equal(rules->rules_count, 3);
    return f8_rules_check_use(rules, decided, err);
}

static void test_unused_rule(void **state)
{
    f8_error err = {0};
    f8_rules *rules = load_good(*state, "family f\n"
                                        "keep a\n"
                                        "quantize b optional\n"
                                        "split c experts=0 parts=1:x\n");

    expect_ok(check_use(rules, 1, 1, 1, &err), &err);
    expect_ok(check_use(rules, 1, 0, 3, &err), &err);
    expect_error(check_use(rules, 0, 0, 0, &err), &err, F8_ERR_RULES,
                 "my.rules:2: keep a: matches no tensor of this checkpoint "
                 "(mark the rule optional if it need not)");
    expect_error(check_use(rules, 1, 1, 0, &err), &err, F8_ERR_RULES,
                 "my.rules:4: split c: matches no tensor of this checkpoint "
                 "(mark the rule optional if it need not)");
    f8_rules_free(rules);
}

static void test_unused_group(void **state)
{
    f8_error err = {0};
    f8_rules *rules = load_good(*state, "family f\n"
                                        "keep a group=g\n"
                                        "keep b group=g\n"
                                        "keep c group=h\n");

    expect_ok(check_use(rules, 1, 1, 1, &err), &err);
    expect_ok(check_use(rules, 0, 0, 1, &err), &err);
    expect_ok(check_use(rules, 1, 5, 0, &err), &err);
    expect_ok(check_use(rules, 0, 0, 0, &err), &err);
    expect_error(check_use(rules, 1, 0, 0, &err), &err, F8_ERR_RULES,
                 "my.rules:3: keep b: matches no tensor, but of group=g "
                 "'my.rules:2: keep a' does; expected all or none");
    expect_error(check_use(rules, 0, 2, 0, &err), &err, F8_ERR_RULES,
                 "my.rules:2: keep a: matches no tensor, but of group=g "
                 "'my.rules:3: keep b' does; expected all or none");
    f8_rules_free(rules);
}

static void test_unused_oneof(void **state)
{
    f8_error err = {0};
    f8_rules *rules = load_good(*state, "family f\n"
                                        "keep a oneof=o\n"
                                        "keep b oneof=o\n"
                                        "keep c oneof=p\n");

    expect_ok(check_use(rules, 1, 0, 1, &err), &err);
    expect_ok(check_use(rules, 0, 1, 1, &err), &err);
    expect_ok(check_use(rules, 1, 1, 1, &err), &err);
    expect_error(check_use(rules, 0, 0, 1, &err), &err, F8_ERR_RULES,
                 "my.rules:2: keep a: this rule and the others with oneof=o "
                 "match no tensor, expected at least one to");
    expect_error(check_use(rules, 1, 1, 0, &err), &err, F8_ERR_RULES,
                 "my.rules:4: keep c: this rule and the others with oneof=p "
                 "match no tensor, expected at least one to");
    f8_rules_free(rules);
}

/* The parts of what a split takes apart: a checkpoint without one of them is
 * not whole. */
static void test_unused_part(void **state)
{
    f8_error err = {0};
    f8_rules *rules =
        load_good(*state, "family f\n"
                          "split a experts=0 parts=1:x,y oneof=o\n"
                          "quantize x oneof=o\n"
                          "quantize y oneof=o\n");

    expect_ok(check_use(rules, 1, 0, 0, &err), &err);
    expect_ok(check_use(rules, 0, 1, 1, &err), &err);
    expect_ok(check_use(rules, 1, 1, 1, &err), &err);
    expect_error(check_use(rules, 0, 1, 0, &err), &err, F8_ERR_RULES,
                 "my.rules:4: quantize y: matches no tensor, but of oneof=o "
                 "'my.rules:3: quantize x' does; expected all or none of those "
                 "that are no split");
    expect_error(check_use(rules, 1, 0, 1, &err), &err, F8_ERR_RULES,
                 "my.rules:3: quantize x: matches no tensor, but of oneof=o "
                 "'my.rules:4: quantize y' does; expected all or none of those "
                 "that are no split");
    f8_rules_free(rules);
}

/* A choice within a group: demanded where the group decides anything, be it
 * another choice of it. */
static void test_unused_oneof_of_a_group(void **state)
{
    f8_error err = {0};
    f8_rules *rules =
        load_good(*state, "family f\n"
                          "keep a group=g\n"
                          "split b experts=0 parts=1:x group=g oneof=o\n"
                          "quantize c group=g oneof=o\n");

    expect_ok(check_use(rules, 0, 0, 0, &err), &err);
    expect_ok(check_use(rules, 1, 1, 0, &err), &err);
    expect_ok(check_use(rules, 1, 0, 1, &err), &err);
    expect_ok(check_use(rules, 1, 1, 1, &err), &err);
    expect_error(check_use(rules, 1, 0, 0, &err), &err, F8_ERR_RULES,
                 "my.rules:3: split b: this rule and the others with oneof=o "
                 "match no tensor, but of group=g 'my.rules:2: keep a' does; "
                 "expected at least one to");
    expect_error(check_use(rules, 0, 0, 1, &err), &err, F8_ERR_RULES,
                 "my.rules:2: keep a: matches no tensor, but of group=g "
                 "'my.rules:4: quantize c' does; expected all or none");
    f8_rules_free(rules);
    rules = load_good(*state, "family f\n"
                              "quantize a group=g oneof=o\n"
                              "quantize b group=g oneof=p\n"
                              "keep c\n");
    expect_ok(check_use(rules, 0, 0, 1, &err), &err);
    expect_ok(check_use(rules, 1, 1, 1, &err), &err);
    expect_error(check_use(rules, 1, 0, 1, &err), &err, F8_ERR_RULES,
                 "my.rules:3: quantize b: this rule and the others with "
                 "oneof=p match no tensor, but of group=g 'my.rules:2: "
                 "quantize a' does; expected at least one to");
    f8_rules_free(rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_characters),
        cmocka_unit_test(test_star_and_question_mark),
        cmocka_unit_test(test_number),
        cmocka_unit_test(test_backtracking),
        cmocka_unit_test(test_number_beside_digits),
        cmocka_unit_test(test_question_mark_takes_a_whole_character),
        TEST_IN_DIR(test_every_directive),
        TEST_IN_DIR(test_ways_to_split),
        TEST_IN_DIR(test_failures),
        TEST_IN_DIR(test_published),
        TEST_IN_DIR(test_renames),
        TEST_IN_DIR(test_rename_too_long),
        TEST_IN_DIR(test_rename_errors),
        TEST_IN_DIR(test_most_parts),
        TEST_IN_DIR(test_comment_behind_a_word),
        TEST_IN_DIR(test_last_rule_wins),
        TEST_IN_DIR(test_directive_errors),
        TEST_IN_DIR(test_pattern_errors),
        TEST_IN_DIR(test_flag_errors),
        TEST_IN_DIR(test_split_errors),
        TEST_IN_DIR(test_part_name_errors),
        TEST_IN_DIR(test_fused_errors),
        TEST_IN_DIR(test_file_errors),
        TEST_IN_DIR(test_missing_file),
        cmocka_unit_test(test_builtin_families),
        cmocka_unit_test(test_unknown_model_type),
        TEST_IN_DIR(test_unused_rule),
        TEST_IN_DIR(test_unused_group),
        TEST_IN_DIR(test_unused_oneof),
        TEST_IN_DIR(test_unused_oneof_of_a_group),
        TEST_IN_DIR(test_unused_part),
    };
    return cmocka_run_group_tests_name("glob and rules", tests, NULL, NULL);
}
