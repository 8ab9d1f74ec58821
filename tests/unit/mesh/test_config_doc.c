// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/config_doc.h"

#include <errno.h>

#include "tests/unit/mesh/config_fixture.h"

// The first document of a text.
struct doc {
    struct arena arena;
    struct config_errors errors;
    struct cfg_node root;
    int result;
};

static void doc_read(struct doc *d, const char *text, size_t len, enum config_format format,
                     const struct config_doc_limits *limits) {
    struct config_doc_reader reader;
    char *copy = malloc(len > 0 ? len : 1);

    memcpy(copy, text, len);
    arena_init(&d->arena, SIZE_MAX);
    config_errors_init(&d->errors);
    config_doc_reader_init(&reader, "f.yaml", slice_make(copy, len), format, limits);
    d->result = config_doc_next(&reader, &d->arena, &d->errors, &d->root);
    free(copy);
}

static void doc_yaml(struct doc *d, const char *text) {
    doc_read(d, text, strlen(text), CONFIG_YAML, NULL);
}

static void doc_fini(struct doc *d) {
    config_errors_fini(&d->errors);
    arena_fini(&d->arena);
}

static void assert_place(const struct cfg_node *node, uint32_t line, uint32_t col) {
    assert_non_null(node);
    assert_int_equal(node->line, line);
    assert_int_equal(node->col, col);
}

static void test_positions(void **state) {
    static const char text[] = "# comment\n"
                               "kind: Pod\n"
                               "spec:\n"
                               "  ports:\n"
                               "  - {name: \"ü\", port: 80}\n"
                               "  text: |\n"
                               "    one\n";
    struct doc d;
    doc_yaml(&d, text);
    assert_int_equal(d.result, 1);
    assert_place(&d.root, 2, 1);
    assert_place(cfg_get(&d.root, "kind"), 2, 7);
    assert_place(cfg_find(&d.root, "spec.ports[0].port", NULL), 5, 23);
    assert_place(&cfg_get(&d.root, "spec")->pairs[0].key, 4, 3);
    const struct cfg_node *block = cfg_find(&d.root, "spec.text", NULL);
    assert_place(block, 6, 9);
    assert_true(block->is_block);
    const struct cfg_node *deepest;
    assert_null(cfg_find(&d.root, "spec.ports[1].port", &deepest));
    assert_place(deepest, 5, 3);
    doc_fini(&d);
}

static void test_json_positions(void **state) {
    static const char text[] =
        "{\n  \"kind\": \"Pod\",\n  \"a\": [1, {\"ü\": \"x\", \"p\": true}]\n}\n";
    struct doc d;
    doc_read(&d, text, strlen(text), CONFIG_AUTO, NULL);
    assert_int_equal(d.result, 1);
    assert_place(cfg_get(&d.root, "kind"), 2, 11);
    assert_place(cfg_find(&d.root, "a[1].p", NULL), 3, 28);
    assert_place(&cfg_find(&d.root, "a[1]", NULL)->pairs[1].key, 3, 23);
    doc_fini(&d);
}

static void test_scalars(void **state) {
    static const struct {
        const char *yaml;
        uint8_t type;
        const char *text;
    } rows[] = {
        {"yes", CFG_BOOL, "true"},
        {"Off", CFG_BOOL, "false"},
        {"y", CFG_BOOL, "true"},
        {"yEs", CFG_STRING, "yEs"},
        {"~", CFG_NULL, "null"},
        {"Null", CFG_NULL, "null"},
        {"\"null\"", CFG_STRING, "null"},
        {"12", CFG_INT, "12"},
        {"+12", CFG_INT, "12"},
        {"-0", CFG_INT, "0"},
        {"010", CFG_INT, "8"},
        {"0o17", CFG_INT, "15"},
        {"0x1F", CFG_INT, "31"},
        {"0b101", CFG_INT, "5"},
        {"-0b11", CFG_INT, "-3"},
        {"1_000", CFG_INT, "1000"},
        {"08", CFG_INT, "8"}, // no octal, but a float that is whole
        {"1e3", CFG_INT, "1000"},
        {"2.0", CFG_INT, "2"},
        {"2.5", CFG_FLOAT, "2.5"},
        {".5", CFG_FLOAT, ".5"},
        {".inf", CFG_FLOAT, ".inf"},
        {"1.2.3", CFG_STRING, "1.2.3"},
        {"1:30", CFG_STRING, "1:30"},
        {"2024-01-02", CFG_STRING, "2024-01-02"},
        {"2024-01-02T03:04:05Z", CFG_STRING, "2024-01-02T03:04:05Z"},
        {"10.0.0.1", CFG_STRING, "10.0.0.1"},
        {"-", CFG_STRING, "-"},
        {"0x", CFG_STRING, "0x"},
        {"18446744073709551615", CFG_INT, "18446744073709551615"},
        {"'12'", CFG_STRING, "12"},
        {"!!str 12", CFG_STRING, "12"},
        {"!!int \"12\"", CFG_INT, "12"},
        {"!!float 12", CFG_FLOAT, "12"},
        {"!!binary aGk=", CFG_STRING, "aGk="},
        {"! 12", CFG_STRING, "12"},
        {"<<", CFG_STRING, "<<"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[80];
        struct doc d;
        snprintf(text, sizeof(text), "a: %s\n", rows[i].yaml);
        if (rows[i].yaml[0] == '-' && rows[i].yaml[1] == '\0') {
            snprintf(text, sizeof(text), "a: \"-\"\n");
        }
        doc_yaml(&d, text);
        assert_int_equal(d.result, 1);
        const struct cfg_node *node = cfg_get(&d.root, "a");
        if (node->type != rows[i].type || strcmp(node->text, rows[i].text) != 0) {
            fail_msg("%s: type %u text %s", rows[i].yaml, node->type, node->text);
        }
        doc_fini(&d);
    }
}

static void test_integers(void **state) {
    struct doc d;
    int64_t value;

    doc_yaml(&d, "[9223372036854775807, -9223372036854775808, 9223372036854775808, 1.5, x]");
    assert_int_equal(d.result, 1);
    assert_true(cfg_to_int(&d.root.items[0], &value));
    assert_true(value == INT64_MAX);
    assert_true(cfg_to_int(&d.root.items[1], &value));
    assert_true(value == INT64_MIN);
    for (uint32_t i = 2; i < 5; i++) {
        assert_false(cfg_to_int(&d.root.items[i], &value));
    }
    doc_fini(&d);
}

// A text, what comes out of it: kinds of documents and messages.
static void test_errors(void **state) {
    static const struct {
        const char *yaml;
        int result;
        const char *messages;
    } rows[] = {
        {"a: b\n c: d\n", -EINVAL, "2:3: mapping values are not allowed in this context\n"},
        {"a:\n\tb: c\n", -EINVAL, "2:1: a tab, but YAML indents with spaces only\n"},
        {"a: 1\nb: 2\na: 3\n", 1, "3:1: the key `a` is already set at line 1\n"},
        {"a: *x\n", -EINVAL, "1:4: the alias *x has no anchor before it\n"},
        {"a: &x [*x]\n", -EINVAL, "1:8: the alias *x has no anchor before it\n"},
        {"{[a]: b}\n", 1, "1:2: a list cannot be a key\n"},
        {"{~: b}\n", 1, "1:2: null cannot be a key\n"},
        {"a: !foo b\n", 1, "1:4: the tag !foo is not supported\n"},
        {"a: !!int b\n", 1, "1:4: the value does not fit its tag tag:yaml.org,2002:int\n"},
        {"a: !foo [b]\n", -EINVAL, "1:4: the tag !foo is not supported\n"},
        {"a: \"x\\0y\"\n", 1, "1:4: a text must not hold a NUL character\n"},
        {"a: [b\n", -EINVAL, NULL},
        {"a: \xff\n", -EINVAL, "1:1: invalid leading UTF-8 octet (the text must be UTF-8)\n"},
        {"a: b\n...\nc: d\n", -EINVAL, NULL},
        {"<<: [a]\n", 1, "1:6: `<<` takes a map or a list of maps\n"},
        {"", 0, ""},
        {"---\n# nothing\n---\n", 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct doc d;
        doc_yaml(&d, rows[i].yaml);
        assert_int_equal(d.result, rows[i].result);
        if (rows[i].messages != NULL) {
            assert_messages(&d.errors, rows[i].messages);
        } else {
            assert_true(d.errors.n > 0);
        }
        if (d.result == 1) {
            assert_int_equal(d.root.is_bad, d.errors.n > 0);
        }
        doc_fini(&d);
    }
}

static void test_many_duplicates(void **state) {
    struct buf text;
    struct doc d;
    buf_init(&text, SIZE_MAX);
    for (int i = 0; i < 20; i++) {
        buf_printf(&text, "k%d: v\n", i);
    }
    buf_append_str(&text, "k3: again\nk7: again\n");
    doc_yaml(&d, buf_cstr(&text));
    assert_int_equal(d.result, 1);
    assert_int_equal(d.errors.n, 2);
    config_errors_sort(&d.errors);
    assert_messages(&d.errors, "21:1: the key `k3` is already set at line 4\n"
                               "22:1: the key `k7` is already set at line 8\n");
    doc_fini(&d);
    buf_fini(&text);
}

static void test_keys(void **state) {
    struct doc d;
    doc_yaml(&d, "8080: a\n0x10: b\non: c\n1.5: d\n");
    assert_int_equal(d.result, 1);
    assert_string_equal(cfg_str(cfg_get(&d.root, "8080"), ""), "a");
    assert_string_equal(cfg_str(cfg_get(&d.root, "16"), ""), "b");
    assert_string_equal(cfg_str(cfg_get(&d.root, "true"), ""), "c");
    assert_string_equal(cfg_str(cfg_get(&d.root, "1.5"), ""), "d");
    doc_fini(&d);
}

static void test_merge(void **state) {
    struct doc d;
    doc_yaml(&d, "base: &b {x: 1, v: 2}\n"
                 "more: &m {v: 3, z: 4}\n"
                 "one: {<<: *b, v: 9}\n"
                 "two: {<<: [*m, *b], w: 0}\n"
                 "not: {\"<<\": 5}\n");
    assert_int_equal(d.result, 1);
    assert_int_equal(d.errors.n, 0);
    static const struct {
        const char *path, *text;
    } rows[] = {
        {"one.x", "1"}, {"one.v", "9"}, {"two.x", "1"},  {"two.v", "3"},
        {"two.z", "4"}, {"two.w", "0"}, {"not.<<", "5"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct cfg_node *node = cfg_find(&d.root, rows[i].path, NULL);
        assert_non_null(node);
        assert_string_equal(node->text, rows[i].text);
    }
    assert_int_equal(cfg_get(&d.root, "one")->n, 2);
    assert_null(cfg_find(&d.root, "one.<<", NULL));
    doc_fini(&d);
}

// Each level stands for ten of the one below.
static void test_alias_bomb(void **state) {
    struct buf text;
    struct doc d;
    buf_init(&text, SIZE_MAX);
    buf_append_str(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 12; i++) {
        buf_printf(&text, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++) {
            buf_printf(&text, "%s*a%d", j > 0 ? "," : "", i - 1);
        }
        buf_append_str(&text, "]\n");
    }
    doc_yaml(&d, buf_cstr(&text));
    assert_int_equal(d.result, -EINVAL);
    assert_messages(&d.errors,
                    "7:34: the document has more than 8000000 values (aliases expanded)\n");
    assert_true(d.arena.n_bytes < 100000);
    doc_fini(&d);
    buf_fini(&text);
}

// Aliases that nest one deeper each time: few bytes, but a tree deeper than the stack.
static void test_alias_depth(void **state) {
    struct buf text;
    struct doc d;
    buf_init(&text, SIZE_MAX);
    buf_append_str(&text, "a0: &a0 [x]\n");
    for (int i = 1; i < 300; i++) {
        buf_printf(&text, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    }
    doc_yaml(&d, buf_cstr(&text));
    assert_int_equal(d.result, -EINVAL);
    assert_messages(&d.errors, "100:12: nested deeper than 100 levels\n");
    doc_fini(&d);
    buf_fini(&text);
}

static void test_limits(void **state) {
    static const struct config_doc_limits limits = {
        .max_bytes = 64, .max_depth = 3, .max_nodes = 8};
    static const struct {
        const char *text;
        enum config_format format;
        int result;
    } rows[] = {
        {"[[[x]]]", CONFIG_YAML, 1},
        {"[[[[x]]]]", CONFIG_YAML, -EINVAL},
        {"[[[1]]]", CONFIG_JSON, 1},
        {"[[[[1]]]]", CONFIG_JSON, -EINVAL},
        {"[1,2,3,4,5,6,7]", CONFIG_YAML, 1},
        {"[1,2,3,4,5,6,7,8]", CONFIG_YAML, -EINVAL},
        {"[1,2,3,4,5,6,7,8]", CONFIG_JSON, -EINVAL},
        {"#234567890123456789012345678901234567890123456789012345678901234", CONFIG_YAML, 0},
        {"#2345678901234567890123456789012345678901234567890123456789012345", CONFIG_YAML, -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct doc d;
        doc_read(&d, rows[i].text, strlen(rows[i].text), rows[i].format, &limits);
        assert_int_equal(d.result, rows[i].result);
        assert_int_equal(d.errors.n, rows[i].result < 0);
        doc_fini(&d);
    }
}

// One broken document does not hide the others, and lines go on counting.
static void test_documents(void **state) {
    static const char text[] = "%YAML 1.1\n"
                               "---\n"
                               "a: 1\n"
                               "--- # two\n"
                               "a: [\n"
                               "---\n"
                               "text: |\n"
                               "  ---\n"
                               "  x\n"
                               "---\r\n"
                               "a: 4\r\n";
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena;
    struct cfg_node root;

    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "f.yaml", slice_str(text), CONFIG_AUTO, NULL);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 1);
    assert_place(&root, 3, 1);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), -EINVAL);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 1);
    assert_place(&root, 7, 1);
    assert_string_equal(cfg_str(cfg_get(&root, "text"), ""), "---\nx\n");
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 1);
    assert_place(&root, 11, 1);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 0);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 0);
    assert_int_equal(errors.n, 1);
    config_errors_fini(&errors);
    arena_fini(&arena);
}

static void test_json(void **state) {
    static const struct {
        const char *text;
        int result;
        const char *messages;
    } rows[] = {
        {"{\"a\": \"b\\u00fc\\ud83d\\ude00\\n\\\"\\\\\\/\"}", 1, ""},
        {"{\"a\": 1,\n \"b\": }", -EINVAL, "2:7: unexpected token near '}'\n"},
        {"{\"a\": 1, \"a\": 2}", 1, "1:10: the key `a` is already set at line 1\n"},
        {"{\"a\": \"\\u0000\"}", -EINVAL, NULL},
        {"{\"a\": '", -EINVAL, NULL},
        {"5", -EINVAL, NULL},
        {"", 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct doc d;
        doc_read(&d, rows[i].text, strlen(rows[i].text), CONFIG_JSON, NULL);
        assert_int_equal(d.result, rows[i].result);
        if (rows[i].messages != NULL) {
            assert_messages(&d.errors, rows[i].messages);
        } else {
            assert_int_equal(d.errors.n, 1);
        }
        if (i == 0) {
            assert_string_equal(cfg_str(cfg_get(&d.root, "a"), ""),
                                "b\xc3\xbc\xf0\x9f\x98\x80\n\"\\/");
        }
        doc_fini(&d);
    }
}

// JSON objects one after the other, and what comes behind them when one is broken.
static void test_json_stream(void **state) {
    static const char text[] = "{\"a\": 1}\n {\"a\": 2}{\"a\": 3}\n x";
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena;
    struct cfg_node root;

    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "f.json", slice_str(text), CONFIG_AUTO, NULL);
    static const struct { uint32_t line, col; } places[] = {{1, 1}, {2, 2}, {2, 10}};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 1);
        assert_place(&root, places[i].line, places[i].col);
    }
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), -EINVAL);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 0);
    assert_int_equal(errors.n, 1);
    assert_int_equal(errors.items[0].line, 3);
    config_errors_fini(&errors);
    arena_fini(&arena);
}

static void test_same_tree(void **state) {
    static const char yaml[] = "b: [1, two, 3.5, true, null]\na: {x: \"1\", v: {}}\n";
    static const char json[] =
        "{\"a\": {\"v\": {}, \"x\": \"1\"}, \"b\": [1, \"two\", 3.5, true, null]}";
    static const char other[] =
        "{\"a\": {\"v\": {}, \"x\": 1}, \"b\": [1, \"two\", 3.5, true, null]}";
    static const char swapped[] =
        "{\"a\": {\"v\": {}, \"x\": \"1\"}, \"b\": [\"two\", 1, 3.5, true, null]}";
    struct doc y, j, o, s, flow;

    doc_yaml(&y, yaml);
    doc_read(&j, json, strlen(json), CONFIG_JSON, NULL);
    doc_yaml(&flow, json); // JSON by the YAML reader
    doc_read(&o, other, strlen(other), CONFIG_JSON, NULL);
    doc_read(&s, swapped, strlen(swapped), CONFIG_JSON, NULL);
    uint64_t hash = cfg_hash(&y.root, NULL);
    assert_true(hash == cfg_hash(&j.root, NULL));
    assert_true(hash == cfg_hash(&flow.root, NULL));
    assert_true(hash != cfg_hash(&o.root, NULL));
    assert_true(hash != cfg_hash(&s.root, NULL));
    struct cfg_node *copy = cfg_clone(&y.root);
    doc_fini(&y);
    assert_true(hash == cfg_hash(copy, NULL));
    assert_place(cfg_find(copy, "a.x", NULL), 2, 8);
    free(copy);
    doc_fini(&j);
    doc_fini(&flow);
    doc_fini(&o);
    doc_fini(&s);
}

static int count_object(void *arg, const struct cfg_node *obj) {
    buf_printf(arg, "%s %s\n", cfg_str(cfg_get(obj, "apiVersion"), "?"),
               cfg_str(cfg_get(obj, "kind"), "?"));
    return 0;
}

static void test_lists(void **state) {
    static const struct {
        const char *yaml, *seen, *messages;
    } rows[] = {
        {"{apiVersion: v1, kind: Pod}", "v1 Pod\n", ""},
        {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n"
         "- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Service}]}\n"
         "- text\n",
         "v1 Pod\nv1 Service\n", "6:3: expected an object (a map with apiVersion and kind)\n"},
        {"{apiVersion: apps/v1, kind: DeploymentList, items: [{metadata: {}}]}",
         "apps/v1 Deployment\n", ""},
        {"{apiVersion: v1, kind: PodList, items: [{apiVersion: v2}, {kind: Node}, {}]}",
         "v2 Pod\n? Node\nv1 Pod\n", ""},
        {"{apiVersion: v1, kind: List, items: null}", "", ""},
        // Not a list at all, though its name ends so.
        {"{apiVersion: x/v1, kind: AllowList, spec: {}}", "x/v1 AllowList\n", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf seen;
        struct doc d;
        buf_init(&seen, SIZE_MAX);
        doc_yaml(&d, rows[i].yaml);
        assert_int_equal(d.result, 1);
        assert_int_equal(config_doc_each(&d.root, &d.arena, "f.yaml", &d.errors, count_object,
                                         &seen),
                         0);
        assert_string_equal(buf_cstr(&seen), rows[i].seen);
        buf_fini(&seen);
        assert_messages(&d.errors, rows[i].messages);
        doc_fini(&d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions),  cmocka_unit_test(test_json_positions),
        cmocka_unit_test(test_scalars),    cmocka_unit_test(test_integers),
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_many_duplicates),
        cmocka_unit_test(test_keys),       cmocka_unit_test(test_merge),
        cmocka_unit_test(test_alias_bomb), cmocka_unit_test(test_alias_depth),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_documents),
        cmocka_unit_test(test_json),       cmocka_unit_test(test_json_stream),
        cmocka_unit_test(test_same_tree),  cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
