// SPDX-License-Identifier: Apache-2.0
//
// JSON trees as YAML: the form, and that it reads back as the same tree.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/arena.h"
#include "common/mesh/config_doc.h"
#include "ctl/local_check.h"
#include "ctl/local_yaml.h"

static char *written(const json_t *value) {
    struct text out = {0};
    yaml_write(value, &out);
    return text_take(&out);
}

static void expect(json_t *value, const char *wanted) {
    char *text = written(value);
    assert_string_equal(text, wanted);
    free(text);
    json_decref(value);
}

static void test_form(void **state) {
    expect(json_pack("{s:s, s:i, s:b, s:n, s:f}", "a", "text", "b", 1, "c", 1, "d", "e", 1.5),
           "a: text\nb: 1\nc: true\nd: null\ne: 1.5\n");
    expect(json_pack("{s:{s:{s:s}}, s:{}, s:[]}", "a", "b", "c", "d", "e", "f"),
           "a:\n  b:\n    c: d\ne: {}\nf: []\n");
    // Lists are not indented, as kubectl prints them.
    expect(json_pack("{s:[s, i], s:[{s:s, s:[{s:s}]}]}", "a", "x", 2, "b", "name", "x", "c", "d",
                     "e"),
           "a:\n- x\n- 2\nb:\n- name: x\n  c:\n  - d: e\n");
    expect(json_pack("[[s], {}]", "a"), "- - a\n- {}\n");
    expect(json_string("x"), "x\n");
    expect(json_object(), "{}\n");
}

// Texts that would read as something else are quoted.
static void test_quotes(void **state) {
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        {"plain-text_1.x/y", "plain-text_1.x/y"},
        {"", "\"\""},
        {"true", "\"true\""},
        {"No", "\"No\""},
        {"y", "\"y\""},
        {"null", "\"null\""},
        {"8080", "\"8080\""},
        {"1.5", "\"1.5\""},
        {"2024-01-01", "\"2024-01-01\""},
        {"10%", "\"10%\""},
        {"a: b", "\"a: b\""},
        {"a #b", "\"a #b\""},
        {"- a", "\"- a\""},
        {".inf", "\".inf\""},
        {"*", "\"*\""},
        {"two\nlines", "\"two\\nlines\""},
        {"say \"x\"", "\"say \\\"x\\\"\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *wanted = xasprintf("%s\n", rows[i].wanted);
        expect(json_string(rows[i].text), wanted);
        free(wanted);
    }
}

static json_t *read_back(const char *text) {
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena;
    struct cfg_node root;
    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "x.yaml", slice_str(text), CONFIG_YAML, NULL);
    json_t *value = NULL;
    if (config_doc_next(&reader, &arena, &errors, &root) == 1) {
        value = lab_json_of(&root);
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
    return value;
}

static void check_round(json_t *value) {
    char *text = written(value);
    json_t *again = read_back(text);
    if (!json_equal(value, again)) {
        fail_msg("%s", text);
    }
    free(text);
    json_decref(again);
    json_decref(value);
}

static void test_round(void **state) {
    static const char *const texts[] = {
        "",    " ",     "a",     "yes", "on", "~",    "null",   "0x1f",     "1e3",  "010",
        "0b1", "1_000", "12:30", ".5",  "-1", "+1",   ".nan",   "a:b",      "a: b", "#a",
        "a #", "&a",    "*a",    "!a",  "|",  ">",    "@a",     "`a",       "%a",   "{a}",
        "[a]", "a,b",   "'a'",   "\"",  "\\", "a\tb", "a\n",    "\n\na",    "=",    "<<",
        "---", "...",   "? a",   "- ",  "--", "a/b",  "k8s.io", "\xc3\xa9",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        check_round(json_pack("{s:s, s:[s, {s:s}]}", "value", texts[i], "list", texts[i], "k",
                              texts[i]));
        if (texts[i][0] != '\0') {
            check_round(json_pack("{s:i}", texts[i], 1)); // as a key
        }
    }
    check_round(json_pack("{s:[[i, [i]], [], {}, {s:[{s:[i]}]}], s:I}", "a", 1, 2, "b", "c", 3, "d",
                          (json_int_t)INT64_MIN));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_form), cmocka_unit_test(test_quotes),
                                       cmocka_unit_test(test_round)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
