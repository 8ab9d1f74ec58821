// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/schema.h"

#include "tests/unit/mesh/config_fixture.h"

struct part {
    const char *name;
    int64_t number;
};
struct pair {
    const char *key;
    uint16_t value;
};
struct thing {
    const char *text, *quantity;
    bool flag, has_part;
    enum tri tri;
    uint16_t port;
    int32_t small;
    int64_t large, duration_ms;
    uint8_t color;
    struct kobj_int_or_string either;
    const char *const *words;
    uint32_t n_words;
    struct kobj_strings placed;
    struct kobj_map map;
    struct part in_place;
    const struct part *pointer;
    const struct part *list;
    uint32_t n_list;
    const struct pair *keyed;
    uint32_t n_keyed;
    const struct kobj_quantity *sizes;
    uint32_t n_sizes;
    const struct kobj_bytes *bytes;
    uint32_t n_bytes;
    const char *flat;
    const char *left, *right, *named;
    double ratio;
    uint32_t ppm;
    struct slice body;
    const uint32_t *codes;
    uint32_t n_codes;
    uint8_t level;
    struct kobj_pos pos;
};

static const struct schema_name colors[] = {{"RED", 1}, {"GREEN", 2}, {NULL, 0}};
static const struct schema_field part_fields[] = {
    F_STR(struct part, name, "name", .flags = SCHEMA_REQUIRED),
    F_INT(struct part, number, "number", -5, 5, .absent = -1),
};
static const struct schema_msg part_msg = {SCHEMA_MSG(struct part, part_fields), .known = "extra"};
static const struct schema_field pair_fields[] = {
    F_STR(struct pair, key, "<key>"),
    F_INT(struct pair, value, "<value>", 1, 9),
};
static const struct schema_msg pair_msg = {SCHEMA_MSG(struct pair, pair_fields)};
static const struct schema_field flat_fields[] = {F_STR(struct thing, flat, "value")};
static const struct schema_msg flat_msg = {SCHEMA_MSG(struct thing, flat_fields)};
static const struct schema_field fields[] = {
    F_STR(struct thing, text, "someText", .check = schema_check_dns_label),
    F_QUANTITY(struct thing, quantity, "quantity"),
    F_BOOL(struct thing, flag, "flag"),
    F_TRI(struct thing, tri, "tri"),
    F_INT(struct thing, port, "port", 1, 65535),
    F_INT(struct thing, small, "small", INT32_MIN, INT32_MAX, .absent = 7),
    F_INT(struct thing, large, "large", 0, INT64_MAX),
    F_DURATION(struct thing, duration_ms, "duration"),
    F_ENUM(struct thing, color, "color", colors),
    F_IOS(struct thing, either, "either", .min = 1, .max = 10),
    F_STRS(struct thing, words, "words", .flags = SCHEMA_LAUNCH),
    F_STRS_POS(struct thing, placed, "placed"),
    F_MAP(struct thing, map, "map"),
    F_MSG(struct thing, in_place, "inPlace", &part_msg, F_TAG(struct thing, has_part, 1)),
    F_PTR(struct thing, pointer, "pointer", &part_msg),
    F_LIST(struct thing, list, "list", &part_msg, .flags = SCHEMA_NONEMPTY, .max = 3),
    F_KEYED(struct thing, keyed, "keyed", &pair_msg),
    F_QUANTITIES(struct thing, sizes, "sizes"),
    {.name = "bytes", .type = SCHEMA_BYTES, SCHEMA_NAT(struct thing, bytes)},
    {.name = "texts", .type = SCHEMA_TEXT_BYTES, SCHEMA_NAT(struct thing, bytes)},
    F_FLAT("flat", &flat_msg),
    F_STR(struct thing, left, "left", .oneof = 1),
    F_STR(struct thing, right, "right", .oneof = 1),
    F_ANY("anything"),
    F_STR(struct thing, named, "named", .absent_text = "default"),
    F_DOUBLE(struct thing, ratio, "ratio", 0, 10, .absent = 1),
    F_PPM(struct thing, ppm, "percent", .absent = 1000000),
    F_SLICE(struct thing, body, "body", .oneof = 2),
    F_BASE64(struct thing, body, "encoded", .oneof = 2),
    F_INTS(struct thing, codes, "codes", 100, 599),
    F_ENUM(struct thing, level, "level", colors, .absent = 2),
    F_DURATION(struct thing, duration_ms, "atLeast", .min = 1, .old = "is old: write `duration`"),
};
static const struct schema_note notes[] = {{"gone", "was removed: write `flag`"}, {NULL, NULL}};
static const char *unknown(const struct cfg_node *node, const struct cfg_pair *pair) {
    return cfg_get(node, "flag") != NULL && pair->value.type == CFG_LIST ? "is a list too many"
                                                                         : NULL;
}
static const struct schema_msg thing_msg = {
    SCHEMA_MSG(struct thing, fields),
    .known = "knownName otherName",
    .notes = notes,
    .unknown = unknown,
    .is_snake_ok = true,
    SCHEMA_POS(struct thing, pos),
};

struct decoded {
    struct arena arena;
    struct config_errors errors;
    char *block;
    const struct thing *thing; // in the block; NULL when there were errors
};

static void decode(struct decoded *d, const char *text, bool is_lean) {
    struct config_doc_reader reader;
    struct cfg_node root;

    *d = (struct decoded){0};
    arena_init(&d->arena, SIZE_MAX);
    config_errors_init(&d->errors);
    config_doc_reader_init(&reader, "f.yaml", slice_str(text), CONFIG_YAML, NULL);
    assert_int_equal(config_doc_next(&reader, &d->arena, &d->errors, &root), 1);
    struct schema_ctx ctx = {.file = "f.yaml",
                             .object = "Thing a/b",
                             .errors = &d->errors,
                             .scratch = &d->arena,
                             .is_lean = is_lean};
    assert_non_null(schema_check(&ctx, &thing_msg, &root));
    assert_int_equal(ctx.n_errors, d->errors.n_errors);
    if (ctx.n_errors > 0) {
        return;
    }
    size_t n_structs = ctx.n_structs, n_texts = ctx.n_texts;
    d->block = malloc(n_structs + n_texts); // exact: a miscount is a write past its end
    memset(d->block, 0xa5, n_structs + n_texts);
    ctx.structs = d->block;
    ctx.texts = d->block + n_structs;
    ctx.n_structs = ctx.n_texts = 0;
    d->thing = schema_fill(&ctx, &thing_msg, &root);
    assert_int_equal(ctx.n_structs, n_structs);
    assert_int_equal(ctx.n_texts, n_texts);
    // The tree goes; the block stays.
    arena_fini(&d->arena);
}

static void decoded_fini(struct decoded *d) {
    free(d->block);
    config_errors_fini(&d->errors);
    arena_fini(&d->arena);
}

static const char full[] = "someText: abc\n"
                           "quantity: 5\n"
                           "flag: true\n"
                           "tri: false\n"
                           "port: 65535\n"
                           "large: 9223372036854775807\n"
                           "duration: 1m30.5s\n"
                           "color: GREEN\n"
                           "either: 10\n"
                           "words: [a, bc, \"\"]\n"
                           "placed: [x]\n"
                           "map: {a: b, c: ~}\n"
                           "inPlace: {name: nn, extra: [1]}\n"
                           "pointer: {name: p, number: -5}\n"
                           "list: [{name: one}, {name: two, number: 2}]\n"
                           "keyed: {first: 1, second: 9}\n"
                           "sizes: {cpu: 250m, memory: 64Mi, num: 2}\n"
                           "bytes: {k: aGVsbG8=, e: ''}\n"
                           "texts: {t: plain}\n"
                           "flat: {value: inner}\n"
                           "left: l\n"
                           "anything: {goes: [1, {}]}\n"
                           "knownName: {}\n";

static void test_types(void **state) {
    struct decoded d;
    decode(&d, full, false);
    assert_messages(&d.errors, "");
    const struct thing *t = d.thing;
    assert_string_equal(t->text, "abc");
    assert_string_equal(t->quantity, "5");
    assert_true(t->flag);
    assert_true(t->has_part);
    assert_int_equal(t->tri, TRI_FALSE);
    assert_int_equal(t->port, 65535);
    assert_int_equal(t->small, 7);
    assert_true(t->large == INT64_MAX);
    assert_int_equal(t->duration_ms, 90500);
    assert_int_equal(t->color, 2);
    assert_int_equal(t->either.num, 10);
    assert_string_equal(t->either.text, "");
    assert_int_equal(t->n_words, 3);
    assert_string_equal(t->words[1], "bc");
    assert_string_equal(t->words[2], "");
    assert_int_equal(t->placed.pos.line, 11);
    assert_int_equal(t->map.n, 2);
    assert_string_equal(kobj_map_get(&t->map, "c"), "");
    assert_null(kobj_map_get(&t->map, "d"));
    assert_string_equal(t->in_place.name, "nn");
    assert_int_equal(t->in_place.number, -1);
    assert_int_equal(t->pointer->number, -5);
    assert_int_equal(t->n_list, 2);
    assert_string_equal(t->list[1].name, "two");
    assert_int_equal(t->n_keyed, 2);
    assert_string_equal(t->keyed[1].key, "second");
    assert_int_equal(t->keyed[1].value, 9);
    assert_int_equal(t->sizes[0].milli, 250);
    assert_int_equal(t->sizes[1].milli, 67108864000);
    assert_int_equal(t->sizes[2].milli, 2000);
    assert_int_equal(t->n_bytes, 3);
    assert_int_equal(t->bytes[0].value.len, 5);
    assert_memory_equal(t->bytes[0].value.ptr, "hello", 5);
    assert_int_equal(t->bytes[1].value.len, 0);
    assert_memory_equal(t->bytes[2].value.ptr, "plain", 5);
    assert_string_equal(t->flat, "inner");
    assert_string_equal(t->left, "l");
    assert_string_equal(t->right, "");
    assert_int_equal(t->pos.line, 1);
    decoded_fini(&d);
}

static void test_more_types(void **state) {
    static const struct {
        const char *yaml;
        uint32_t ppm;
        double ratio;
    } rows[] = {
        {"{}", 1000000, 1},           {"percent: 0", 0, 1},
        {"percent: 0.0001", 1, 1},    {"percent: 33.3333", 333333, 1},
        {"percent: 100", 1000000, 1}, {"ratio: 0.5", 1000000, 0.5},
        {"ratio: 10", 1000000, 10},
    };
    struct decoded d;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        decode(&d, rows[i].yaml, false);
        assert_messages(&d.errors, "");
        assert_int_equal(d.thing->ppm, rows[i].ppm);
        assert_true(d.thing->ratio == rows[i].ratio);
        assert_string_equal(d.thing->named, "default");
        assert_int_equal(d.thing->level, 2);
        decoded_fini(&d);
    }
    decode(&d, "{named: '', body: hello, codes: [100, 599], level: RED, atLeast: 1ms}", false);
    assert_messages(&d.errors, "1:57: warning: Thing a/b: atLeast: is old: write `duration`\n");
    assert_string_equal(d.thing->named, "");
    assert_int_equal(d.thing->level, 1);
    assert_int_equal(d.thing->duration_ms, 1);
    assert_int_equal(d.thing->body.len, 5);
    assert_memory_equal(d.thing->body.ptr, "hello", 5);
    assert_int_equal(d.thing->n_codes, 2);
    assert_int_equal(d.thing->codes[1], 599);
    decoded_fini(&d);
    decode(&d, "{encoded: aGVsbG8=, codes: []}", false);
    assert_messages(&d.errors, "");
    assert_int_equal(d.thing->body.len, 5);
    assert_memory_equal(d.thing->body.ptr, "hello", 5);
    assert_non_null(d.thing->codes);
    decoded_fini(&d);
}

static void test_lean(void **state) {
    struct decoded d;
    decode(&d, full, true);
    assert_null(d.thing->words);
    assert_int_equal(d.thing->n_words, 0);
    assert_string_equal(d.thing->list[0].name, "one");
    decoded_fini(&d);
    // Checked all the same.
    decode(&d, "words: [1]", true);
    assert_int_equal(d.errors.n_errors, 1);
    decoded_fini(&d);
}

static void test_absent(void **state) {
    struct decoded d;
    decode(&d, "{list: ~, pointer: null, words: []}", false);
    const struct thing *t = d.thing;
    assert_string_equal(t->text, "");
    assert_string_equal(t->quantity, "");
    assert_string_equal(t->in_place.name, "");
    assert_int_equal(t->duration_ms, -1);
    assert_null(t->pointer);
    assert_null(t->list);
    assert_non_null(t->words);
    assert_int_equal(t->n_words, 0);
    assert_int_equal(t->tri, TRI_UNSET);
    assert_false(t->has_part);
    decoded_fini(&d);
}

static void test_snake(void **state) {
    struct decoded d;
    decode(&d, "some_text: abc\nknown_name: 1\nin_place: {name: nn}\n", false);
    assert_messages(&d.errors, "");
    assert_string_equal(d.thing->text, "abc");
    decoded_fini(&d);
    decode(&d, "some_text: abc\nsomeText: abd\n", false);
    assert_messages(&d.errors, "2:1: Thing a/b: someText: is set twice\n");
    decoded_fini(&d);
}

static void test_errors(void **state) {
    static const struct {
        const char *yaml, *messages;
    } rows[] = {
        {"someText: 5", "1:11: Thing a/b: someText: expected a string, found an integer; put it "
                        "in quotes\n"},
        {"someText: [a]", "1:11: Thing a/b: someText: expected a string, found a list\n"},
        {"someText: A_b", "1:11: Thing a/b: someText: `A_b` is not a valid name: lower case "
                          "letters, digits and `-`, at most 63, a letter or digit at both ends\n"},
        {"sometext: a", "1:1: Thing a/b: sometext: unknown field (did you mean `someText`?)\n"},
        {"knwonName: a", "1:1: Thing a/b: knwonName: unknown field (did you mean `knownName`?)\n"},
        {"zzz: a", "1:1: Thing a/b: zzz: unknown field\n"},
        {"flag: maybe", "1:7: Thing a/b: flag: expected a boolean, found a string\n"},
        {"tri: 1", "1:6: Thing a/b: tri: expected a boolean, found an integer\n"},
        {"port: 0", "1:7: Thing a/b: port: 0 is out of range, must be 1 to 65535\n"},
        {"port: \"80\"", "1:7: Thing a/b: port: expected an integer, found a string\n"},
        {"large: 9223372036854775808",
         "1:8: Thing a/b: large: 9223372036854775808 is out of range, must be 0 to "
         "9223372036854775807\n"},
        {"duration: 5",
         "1:11: Thing a/b: duration: `5` is not a duration: it needs a unit, as 10s or 1m30s\n"},
        {"duration: true", "1:11: Thing a/b: duration: expected a string, found a boolean (yes, "
                           "no, on, off, y and n are booleans); put it in quotes\n"},
        {"duration: 5x",
         "1:11: Thing a/b: duration: `5x` is not a duration such as 10s or 1m30s\n"},
        {"color: GREN",
         "1:8: Thing a/b: color: `GREN` is none of RED, GREEN (did you mean `GREEN`?)\n"},
        {"either: 11", "1:9: Thing a/b: either: 11 is out of range, must be 1 to 10\n"},
        {"either: true",
         "1:9: Thing a/b: either: expected an integer or a string, found a boolean\n"},
        {"words: [a, 1]", "1:12: Thing a/b: words[1]: expected a string, found an integer; put it "
                          "in quotes\n"},
        {"map: {a.b/c: 1}", "1:14: Thing a/b: map[a.b/c]: expected a string, found an integer; "
                            "put it in quotes\n"},
        {"inPlace: {}", "1:10: Thing a/b: inPlace.name: is required\n"},
        {"inPlace: {name: ''}", "1:17: Thing a/b: inPlace.name: must not be empty\n"},
        {"inPlace: 5", "1:10: Thing a/b: inPlace: expected a map, found an integer\n"},
        {"pointer: {nam: x}", "1:11: Thing a/b: pointer.nam: unknown field (did you mean "
                              "`name`?)\n1:10: Thing a/b: pointer.name: is required\n"},
        {"list: []", "1:7: Thing a/b: list: must not be empty\n"},
        {"list: [~, ~, ~, ~]", "1:7: Thing a/b: list: has 4 items, at most 3 are allowed\n"},
        {"list: [{name: a}, ~]", "1:19: Thing a/b: list[1]: expected a map, found null\n"},
        {"list: {}", "1:7: Thing a/b: list: expected a list, found a map\n"},
        {"keyed: {a: 10}", "1:12: Thing a/b: keyed.a: 10 is out of range, must be 1 to 9\n"},
        {"sizes: {cpu: 5x}",
         "1:14: Thing a/b: sizes.cpu: `5x` is not a quantity such as 100m or 64Mi\n"},
        {"bytes: {k: '*'}", "1:12: Thing a/b: bytes.k: is not base64\n"},
        {"flat: {other: 1}", "1:8: Thing a/b: flat.other: unknown field\n"},
        {"{left: a, right: b}",
         "1:18: Thing a/b: right: excludes `left`: only one of them may be set\n"},
        {"[a]", "1:1: Thing a/b: expected a map, found a list\n"},
        {"port: 10%", "1:7: Thing a/b: port: expected an integer, found `10%`: write it without "
                      "`%`\n"},
        {"percent: 10%", "1:10: Thing a/b: percent: expected a number, found `10%`: write it "
                         "without `%`\n"},
        {"percent: 101", "1:10: Thing a/b: percent: 101 is out of range, must be 0 to 100\n"},
        {"percent: .nan", "1:10: Thing a/b: percent: .nan is out of range, must be 0 to 100\n"},
        {"percent: 0.00001",
         "1:10: Thing a/b: percent: 0.00001 is too small: 0.0001 is the least above 0\n"},
        {"percent: x", "1:10: Thing a/b: percent: expected a number, found a string\n"},
        {"ratio: -1", "1:8: Thing a/b: ratio: -1 is out of range, must be 0 to 10\n"},
        {"codes: [99]", "1:9: Thing a/b: codes[0]: 99 is out of range, must be 100 to 599\n"},
        {"codes: [x]", "1:9: Thing a/b: codes[0]: expected an integer, found a string\n"},
        {"encoded: '*'", "1:10: Thing a/b: encoded: is not base64\n"},
        {"{encoded: YQ==, body: x}",
         "1:11: Thing a/b: encoded: excludes `body`: only one of them may be set\n"},
        {"atLeast: 0s", "1:1: warning: Thing a/b: atLeast: is old: write `duration`\n1:10: Thing "
                        "a/b: atLeast: `0s` is too short, must be at least 1ms\n"},
        {"gone: 1", "1:1: Thing a/b: gone: was removed: write `flag`\n"},
        {"{flag: true, what: [1]}", "1:14: Thing a/b: what: is a list too many\n"},
        // in the wrong place
        {"extraNumber: 1", "1:1: Thing a/b: extraNumber: unknown field\n"},
        {"number: 1", "1:1: Thing a/b: number: unknown field here: it belongs into `inPlace`; "
                      "indent it more\n"},
        {"list: [{name: a, ratio: 1}]", "1:18: Thing a/b: list[0].ratio: unknown field here: it "
                                        "belongs to `the object`; indent it less\n"},
        {"\"<key>\": 1", "1:1: Thing a/b: <key>: unknown field\n"},
        {"keyed: {a: 1, \"<value>\": 2}", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct decoded d;
        decode(&d, rows[i].yaml, false);
        assert_messages(&d.errors, rows[i].messages);
        decoded_fini(&d);
    }
}

// Scratch memory that ends is an error, not a crash.
static void test_scratch_full(void **state) {
    for (size_t max = 0; max < 1500; max += 16) {
        struct config_doc_reader reader;
        struct config_errors errors;
        struct arena arena, scratch;
        struct cfg_node root;
        arena_init(&arena, SIZE_MAX);
        arena_init(&scratch, max);
        config_errors_init(&errors);
        config_doc_reader_init(&reader, "f.yaml", slice_str(full), CONFIG_YAML, NULL);
        assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 1);
        struct schema_ctx ctx = {
            .file = "f.yaml", .object = "", .errors = &errors, .scratch = &scratch};
        bool is_ok = schema_check(&ctx, &thing_msg, &root) != NULL;
        assert_int_equal(is_ok, ctx.n_errors == 0);
        config_errors_fini(&errors);
        arena_fini(&scratch);
        arena_fini(&arena);
    }
}

static void test_distance(void **state) {
    static const struct {
        const char *a, *b;
        unsigned distance;
    } rows[] = {
        {"", "", 0},
        {"abc", "abc", 0},
        {"abc", "ABC", 0},
        {"abc", "acb", 1},
        {"abc", "ab", 1},
        {"abc", "abcd", 1},
        {"targetport", "targetPort", 0},
        {"prot", "port", 1},
        {"kitten", "sitting", 3},
        {"abc", "xyz", 3},
        {"a", "abcdef", 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(schema_distance(rows[i].a, rows[i].b, 3), rows[i].distance);
    }
}

static void test_syntax(void **state) {
    static const struct {
        const char *(*check)(const char *text);
        const char *text;
        bool is_ok;
    } rows[] = {
        {schema_check_dns_label, "a-1", true},
        {schema_check_dns_label, "-a", false},
        {schema_check_dns_label, "a.b", false},
        {schema_check_dns_name, "a.b-c.d", true},
        {schema_check_dns_name, "a..b", false},
        {schema_check_dns_name, "a.", false},
        {schema_check_port_name, "http-2", true},
        {schema_check_port_name, "80", false},
        {schema_check_port_name, "a--b", false},
        {schema_check_port_name, "sixteen-letters-", false},
        {schema_check_label_value, "", true},
        {schema_check_label_value, "v1.2_3", true},
        {schema_check_label_value, "v1/2", false},
        {schema_check_label_key, "app.kubernetes.io/name", true},
        {schema_check_label_key, "App_x", true},
        {schema_check_label_key, "a/b/c", false},
        {schema_check_label_key, "/b", false},
        {schema_check_label_key, "a/", false},
        {schema_check_cidr, "10.0.0.0/8", true},
        {schema_check_cidr, "10.0.0.1/8", true},
        {schema_check_cidr, "::/0", true},
        {schema_check_cidr, "10.0.0.0/33", false},
        {schema_check_ip, "::1", true},
        {schema_check_ip, "1.2.3", false},
        {schema_check_host_wildcard, "*.Example_x.com", true},
        {schema_check_host_wildcard, "example.com.", true},
        {schema_check_host_wildcard, "*", true},
        {schema_check_host_wildcard, "a*.com", false},
        {schema_check_host_wildcard, "", false},
        {schema_check_quantity, "1.5Gi", true},
        {schema_check_quantity, "1e3", true},
        {schema_check_quantity, "2E", true},
        {schema_check_quantity, "Mi", false},
        {schema_check_quantity, "1 Mi", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if ((rows[i].check(rows[i].text) == NULL) != rows[i].is_ok) {
            fail_msg("row %zu: %s", i, rows[i].text);
        }
    }
}

static void test_base64(void **state) {
    static const struct {
        const char *text, *bytes;
    } rows[] = {{"", ""},          {"YQ==", "a"},  {"YWI=", "ab"}, {"YWJj", "abc"},
                {"YW\nJj", "abc"}, {"YQ", NULL},   {"YQ=", NULL},  {"Y=Q=", NULL},
                {"YQ===", NULL},   {"====", NULL}, {"YQ-_", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t out[16];
        size_t len = 0;
        bool is_ok = schema_base64(slice_str(rows[i].text), out, &len);
        assert_int_equal(is_ok, rows[i].bytes != NULL);
        if (is_ok) {
            assert_int_equal(len, strlen(rows[i].bytes));
            assert_memory_equal(out, rows[i].bytes, len);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),        cmocka_unit_test(test_more_types),
        cmocka_unit_test(test_lean),         cmocka_unit_test(test_absent),
        cmocka_unit_test(test_snake),        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_scratch_full), cmocka_unit_test(test_distance),
        cmocka_unit_test(test_syntax),       cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
