// SPDX-License-Identifier: Apache-2.0
//
// Templates of -o jsonpath, over one document.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/local_jsonpath.h"

static const char doc[] =
    "{\"kind\": \"List\", \"items\": ["
    "{\"metadata\": {\"name\": \"a\", \"labels\": {\"app.io/x\": \"1\", \"app\": \"web\"}},"
    " \"status\": {\"ready\": true, \"n\": 2, \"conditions\": ["
    "{\"type\": \"Ready\", \"status\": \"True\"}, {\"type\": \"Old\", \"status\": \"False\"}]}},"
    "{\"metadata\": {\"name\": \"b\"}, \"status\": {\"ready\": false, \"n\": 3}}]}";

static void test_results(void **state) {
    static const struct {
        const char *template, *wanted;
    } rows[] = {
        {"", ""},
        {"text", "text"},
        {"{.kind}", "List"},
        {"{$.kind}", "List"},
        {"{ .kind }", "List"},
        {"{.items[0].metadata.name}", "a"},
        {"{.items[-1].metadata.name}", "b"},
        {"{.items[*].metadata.name}", "a b"},
        {"{.items[*]['metadata'].name}", "a b"},
        {"{.items..metadata.name}", "a b"},
        {"{..name}", "a b"},
        {"{.items[0].status.n}", "2"},
        {"{.items[*].status.ready}", "true false"},
        {"{.items[0].metadata.labels}", "{\"app.io/x\":\"1\",\"app\":\"web\"}"},
        {"{.items[0].metadata.labels.app\\.io/x}", "1"},
        {"{.items[0].metadata.labels['app.io/x']}", "1"},
        {"{.items[0].metadata.labels.*}", "1 web"},
        {"{.nothing.at.all}", ""},
        {"{.items[*].spec.x}", ""},
        {"{.kind}{\"\\n\"}", "List\n"},
        {"{.kind}: {.items[1].metadata.name}\n", "List: b\n"},
        {"{.items[?(@.metadata.name==\"b\")].status.n}", "3"},
        {"{.items[?(@.metadata.name!=\"b\")].status.n}", "2"},
        {"{.items[?(@.status.n==3)].metadata.name}", "b"},
        {"{.items[?(@.status.ready==true)].metadata.name}", "a"},
        {"{.items[?(@.status.conditions)].metadata.name}", "a"},
        {"{.items[0].status.conditions[?(@.type==\"Ready\")].status}", "True"},
        {"{.items[0].status.conditions[?(@.type == 'None')].status}", ""},
        {"{.nothing[?(@.a==\"b\")].c}", ""},
        {"{range .items[*]}{.metadata.name}={.status.n}{\"\\t\"}{end}", "a=2\tb=3\t"},
        {"{range .items[*]}{range .status.conditions[*]}{.type},{end};{end}", "Ready,Old,;;"},
        {"{range .nothing}x{end}y", "y"},
        {"{range .items[*]}{$.kind} {@.metadata.name};{end}", "List a;List b;"},
    };
    json_t *root = json_loads(doc, JSON_DECODE_ANY, NULL);
    assert_non_null(root);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct text out = {0};
        char *error = NULL;
        bool is_ok = lab_jsonpath(rows[i].template, root, &out, &error);
        char *text = text_take(&out);
        if (!is_ok || strcmp(text, rows[i].wanted) != 0) {
            fail_msg("%s: %s, %s", rows[i].template, text, error != NULL ? error : "no error");
        }
        free(text);
    }
    json_decref(root);
}

static void test_errors(void **state) {
    static const char *const rows[] = {
        "{.kind",
        "{kind}",
        "{.items[x]}",
        "{.items[0}",
        "{.items[7].a}",
        "{.items[-3].a}",
        "{end}",
        "{range .items[*]}x",
        "{range .items",
        "{\"open}",
        "{.items[?(@.a=1)]}",
        "{.items[?x]}",
        "{.items[?(.a)]}",
        "{.a.}x{.b..}}{.",
        "{.items['a]}",
        "{#}",
    };
    json_t *root = json_loads(doc, JSON_DECODE_ANY, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct text out = {0};
        char *error = NULL;
        if (lab_jsonpath(rows[i], root, &out, &error) || error == NULL) {
            fail_msg("%s: no error", rows[i]);
        }
        free(error);
        text_fini(&out);
    }
    struct text out = {0};
    char *error = NULL;
    assert_false(lab_jsonpath("{.items[5]}", root, &out, &error));
    assert_string_equal(error, "array index out of bounds: index 5, length 2");
    free(error);
    text_fini(&out);
    json_decref(root);
}

// Every beginning of a template is an answer or an error.
static void test_cut(void **state) {
    static const char whole[] = "{range .items[?(@.status.n==3)]}{.metadata['name']}{\"\\n\"}"
                                "{..conditions[*].type}{end}{.items[-1]..*}";
    json_t *root = json_loads(doc, JSON_DECODE_ANY, NULL);
    for (size_t len = 0; len < sizeof(whole); len++) {
        char *template = xstrndup(whole, len), *error = NULL;
        struct text out = {0};
        bool is_ok = lab_jsonpath(template, root, &out, &error);
        assert_true(is_ok == (error == NULL));
        free(error);
        free(template);
        text_fini(&out);
    }
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_results),
                                       cmocka_unit_test(test_errors), cmocka_unit_test(test_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
