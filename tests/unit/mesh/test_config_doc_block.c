// SPDX-License-Identifier: Apache-2.0
//
// doc_block_parse: which documents it takes, which it leaves, and that what it takes is what
// libyaml makes of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "tests/unit/mesh/doc_diff.h"

// On an exact heap copy, so that a read past the end is seen.
static int diff(const char *text, size_t len) {
    char *copy = malloc(len > 0 ? len : 1);

    memcpy(copy, text, len);
    int result = doc_diff(slice_make(copy, len), NULL);
    free(copy);
    if (result == -ERANGE) {
        fail_msg("libyaml does not agree about:\n%.*s", (int)len, text);
    }
    return result;
}

// Everything that is taken, as the API server prints it and as people write it.
static const char manifest[] = "--- # first\n"
                               "apiVersion: v1\n"
                               "kind:   Pod  # a comment\n"
                               "# another\n"
                               "metadata:\n"
                               "  annotations:\n"
                               "    example.com/a-b: \"x: \\\"y\\\" \\\\ \\n\\t\\/\"\n"
                               "    'it''s': 'a ''b'' # c '\n"
                               "    last: |\n"
                               "      {\"a\": 1}\n"
                               "\n"
                               "        deeper\t\n"
                               "    none: |-\n"
                               "\n"
                               "      one\n"
                               "\n"
                               "    all: |+\n"
                               "      two\n"
                               "\n"
                               "  labels: {} # none\n"
                               "  empty:\n"
                               "  finalizers: []\n"
                               "spec:\n"
                               "  args:\n"
                               "  - --flag=a b:c#d\n"
                               "  - -1\n"
                               "  -\n"
                               "  - - x\n"
                               "    -   y: ~\n"
                               "        z : 0x1F\n"
                               "  - \n"
                               "    q: http://h:80/\n"
                               "  on: yes\n"
                               "  n: 1e3\n"
                               "  f: 2.50\n"
                               "  text: |\n"
                               "    last\n";

static void test_taken(void **state) {
    assert_int_equal(diff(manifest, sizeof(manifest) - 1), 1);
    static const char *const rows[] = {
        "a: b",
        "a: b\n",
        "  a: b\n  c:\n",
        "- a\n- b: c\n  d: e\n-\n",
        "a:\n- b\nc:\n  - d\n",
        "a:\n    b:\n        c: d\n    e: f\ng: h\n",
        "a: # comment\n  # comment\n  b: c\n\n\n",
        "- - - a\n    - b\n  - c\n- d\n",
        "\"a\" : 'b'\n'c': \"d\" # e\n",
        "a: {}\nb: []\n",
        "a: x#y\nb: x:y\nc: -x\nd: a - b\n",
        "a: |\n  b\n  c\nd: |-\n  e\n\nf: |+\n  g\n\n\n",
        "a:\n- |\n  b\n- c\n",
        "a: 010\nb: 0o17\nc: 18446744073709551616\nd: .inf\ne: 1_000\nf: 1e20\n",
        "yes: a\n12: b\n1.5: c\n0x10: d\n",
        "---\na: b\n",
        "a: \"\"\nb: ''\n",
        "a: [] # c\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (diff(rows[i], strlen(rows[i])) < 0) {
            fail_msg("left to libyaml:\n%s", rows[i]);
        }
    }
    static const char *const empty[] = {"", "\n", "# a\n", "---\n", "--- # a\n\n  # b\n", "   "};
    for (size_t i = 0; i < ARRAY_LEN(empty); i++) {
        assert_int_equal(diff(empty[i], strlen(empty[i])), 0);
    }
}

// Not wrong, all of them, but not for this parser.
static void test_left(void **state) {
    static const char *const rows[] = {
        "a",
        "a:\n  b\n",
        "a: b\n  c\n",
        "a: \"b\n  c\"\n",
        "a: {b: c}\n",
        "a: [b]\n",
        "a: &x b\nc: *x\n",
        "a: !!str 1\n",
        "a: >\n  b\n",
        "a: |2\n  b\n",
        "a: |\n",
        "a: |\n  b",
        "a: |\nb: c\n",
        "a: |\n     \n  b\n",
        "<<: a\n",
        "? a\n: b\n",
        "a: \"\\x41\"\n",
        "a:\tb\n",
        "a: b\r\n",
        "a: \xc3\xbc\n",
        "# \xc3\xbc\n",
        "a: b\n...\n",
        "--- a: b\n",
        "---a: b\n",
        "%YAML 1.1\n---\na: b\n",
        // What is wrong is left, too: libyaml says what it is.
        "a: b\na: c\n",
        "a: b: c\n",
        "a: - b\n",
        "- a\nb: c\n",
        "a:\n  b: c\n d: e\n",
        "  a: b\nc: d\n",
        "a: 'b' c\n",
        "a: 'b'#c\n",
        "a: 'b\n",
        "~: a\n",
        "a: @b\n",
        "a:\n\tb: c\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (diff(rows[i], strlen(rows[i])) != -EINVAL) {
            fail_msg("not left to libyaml:\n%s", rows[i]);
        }
    }
    assert_int_equal(diff("a: b\0c\n", 7), -EINVAL);
    assert_int_equal(diff("a:\0", 3), -EINVAL);
    assert_int_equal(diff("a: b #\0\n", 8), -EINVAL);
}

static void test_limits(void **state) {
    static const struct config_doc_limits limits = {
        .max_bytes = 64, .max_depth = 2, .max_nodes = 5};
    static const struct {
        const char *text;
        int result;
    } rows[] = {
        {"a: b\nc: d\n", 1},
        {"a: b\nc: d\ne: f\n", -EINVAL},
        {"- - a\n", 1},
        {"- - - a\n", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(doc_diff(slice_str(rows[i].text), &limits), rows[i].result);
    }
    // Libyaml's limit for a key.
    for (size_t len = 990; len < 1040; len++) {
        struct buf text;
        buf_init(&text, SIZE_MAX);
        for (size_t i = 0; i < len; i++) {
            buf_append_str(&text, "k");
        }
        buf_append_str(&text, ": v\n");
        bool is_taken = diff(buf_cstr(&text), len + 4) == 1;
        assert_true(is_taken == (len <= 1000));
        buf_fini(&text);
    }
}

// A document that is left takes no memory from the attempt that follows.
static void test_arena(void **state) {
    struct config_doc_reader reader;
    struct config_errors errors;
    struct arena arena;
    struct cfg_node root;
    struct buf text;

    buf_init(&text, SIZE_MAX);
    for (int i = 0; i < 400; i++) {
        buf_printf(&text, "key%d: value%d\n", i, i);
    }
    buf_append_str(&text, "more: [one, two]\n");
    arena_init(&arena, 48 << 10);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "f", slice_str(buf_cstr(&text)), CONFIG_YAML, NULL);
    assert_int_equal(config_doc_next(&reader, &arena, &errors, &root), 1);
    assert_int_equal(errors.n, 0);
    assert_int_equal(root.n, 401);
    size_t n_bytes = arena.n_bytes;
    assert_true(2 * n_bytes > 48 << 10); // it could not have held it twice
    config_errors_fini(&errors);
    arena_fini(&arena);
    buf_fini(&text);
}

// The manifest cut short at each byte, and with each byte replaced, or another put before it.
static void test_changes(void **state) {
    static const char others[] = " \n:-#'\"|[{\\ax0\t~.&<?,";
    char text[sizeof(manifest) + 1];
    size_t len = sizeof(manifest) - 1, n_taken = 0;

    for (size_t i = 0; i < len; i++) {
        n_taken += diff(manifest, i) >= 0;
        for (size_t j = 0; j < sizeof(others); j++) { // with the NUL
            memcpy(text, manifest, len);
            text[i] = others[j];
            n_taken += diff(text, len) >= 0;
            if (j % 3 == i % 3) {
                memcpy(text + i + 1, manifest + i, len - i);
                n_taken += diff(text, len + 1) >= 0;
            }
        }
    }
    assert_true(n_taken > len * 8);
}

static uint64_t next_random(uint64_t *state) { // xorshift64
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// Lines put together from what lines are made of, at any indent.
static void test_random(void **state) {
    static const char *const parts[] = {
        "a: ", "b:",  "c: ",    "d: 1",  "- ",   "-",     "- e: ", "x y",   "\"q\"", "'s'", "|",
        "|-",  "|+",  "{}",     "[]",    " # ",  "#",     "~",     "<<: ",  "0x1f",  "-1",  "f: g",
        "---", "...", "\"k\":", "'l': ", "m : ", "-n: o", "on",    "1.5e3", ":",     "  ",
    };
    uint64_t seed = 88172645463325252;
    size_t n_taken = 0;
    enum { RUNS = 20000 };

    for (int run = 0; run < RUNS; run++) {
        char text[256];
        size_t len = 0;
        for (uint64_t n = next_random(&seed) % 7; n > 0; n--) {
            uint64_t r = next_random(&seed);
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%*s", (int)(r % 5), "");
            for (uint64_t i = (r >> 8) % 4; i > 0; i--) {
                const char *part = parts[next_random(&seed) % ARRAY_LEN(parts)];
                len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", part);
            }
            text[len++] = '\n';
        }
        n_taken += diff(text, len - (len > 0 && (seed & 7) == 0)) >= 0;
    }
    assert_true(n_taken > RUNS / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken), cmocka_unit_test(test_left),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_arena), cmocka_unit_test(test_changes), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
