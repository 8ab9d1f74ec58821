// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kube_split.h"

#include <stdlib.h>

#include "tests/unit/base/unit.h"

enum { OBJECT_MAX = 64 };

// What comes out, each part between bars, then how it ended: "{..}|{..}|#rest|!" for broken, "^"
// for too large, "..." when something has begun that is not whole.
static void split(enum kube_split_mode mode, struct slice text, size_t piece, struct buf *out) {
    struct kube_split s;
    struct slice json;
    kube_split_init(&s, mode, OBJECT_MAX);
    enum kube_split_step step = KUBE_SPLIT_MORE;
    for (size_t at = 0; at < text.len && step < KUBE_SPLIT_BROKEN; at += piece) {
        // An exact copy, so that a read past the end is seen.
        size_t len = MIN(piece, text.len - at);
        uint8_t *copy = xmalloc(len);
        memcpy(copy, text.ptr + at, len);
        struct slice bytes = slice_make(copy, len);
        while ((step = kube_split_next(&s, &bytes, &json)) != KUBE_SPLIT_MORE) {
            if (step >= KUBE_SPLIT_BROKEN) {
                buf_append_str(out, step == KUBE_SPLIT_BROKEN ? "!" : "^");
                break;
            }
            buf_append_str(out, step == KUBE_SPLIT_REST ? "#" : "");
            buf_append(out, json);
            buf_append_byte(out, '|');
        }
        free(copy);
    }
    if (step == KUBE_SPLIT_MORE && !kube_split_is_between(&s)) {
        buf_append_str(out, "...");
    }
    kube_split_fini(&s);
}

struct split_case {
    const char *text, *want;
};

static void run(enum kube_split_mode mode, const struct split_case *cases, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct slice text = slice_str(cases[i].text);
        for (size_t piece = 1; piece <= text.len; piece++) {
            struct buf out;
            buf_init(&out, 4096);
            split(mode, text, piece, &out);
            assert_string_equal(buf_cstr(&out), cases[i].want);
            buf_fini(&out);
        }
    }
}

static void test_lists(void **state) {
    static const struct split_case cases[] = {
        {"{\"items\":[]}", "#{\"items\":[]}|"},
        {"{\"items\":null}\n", "#{\"items\":null}|"},
        {"{}", "#{}|"},
        {"{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{\"a\":1},"
         "{\"b\":[{},\"]}\"]}]}",
         "{\"a\":1}|{\"b\":[{},\"]}\"]}|#{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":"
         "\"7\"},\"items\":[]}|"},
        {"{ \"items\" : [ {} ,\n{ } ] , \"metadata\" : {} }",
         "{}|{ }|#{ \"items\" : [] , \"metadata\" : {} }|"},
        // Items elsewhere are no items.
        {"{\"metadata\":{\"items\":[{}]},\"x\":[{}],\"a\":\"items\"}",
         "#{\"metadata\":{\"items\":[{}]},\"x\":[{}],\"a\":\"items\"}|"},
        {"{\"items\":{\"a\":[1]},\"itemsmore\":[{}]}",
         "#{\"items\":{\"a\":[1]},\"itemsmore\":[{}]}|"},
        {"{\"a\\\"items\":[{}]}", "#{\"a\\\"items\":[{}]}|"},
        {"{\"items\":[{\"a\":\"\\\\\"},{\"b\":\"\\\"{\"}]}",
         "{\"a\":\"\\\\\"}|{\"b\":\"\\\"{\"}|#{\"items\":[]}|"},
        {"{\"items\":[{\"a\":1}", "{\"a\":1}|..."},
        {"{\"items\":[{\"a\":", "..."},
        {"{\"items\":[]", "..."},
        {"{\"items\":[1]}", "!"},
        {"{\"items\":[{]}]}", "!"},
        {"{\"x\":[}", "!"},
        {"[]", "!"},
        {"404 page not found", "!"},
        {"{}{}", "#{}|!"},
        {"{\"items\":[{\"a\":\"1234567890123456789012345678901234567890123456789012345678\"}]}",
         "^"},
        {"{\"items\":[{\"a\":\"12345678901234567890123456789012345678901234567890123456\"}]}",
         "{\"a\":\"12345678901234567890123456789012345678901234567890123456\"}|#{\"items\":[]}|"},
    };
    run(KUBE_SPLIT_LIST, cases, ARRAY_LEN(cases));
}

static void test_events(void **state) {
    static const struct split_case cases[] = {
        {"{\"type\":\"ADDED\"}\n{\"type\":\"DELETED\",\"object\":{}}\n",
         "{\"type\":\"ADDED\"}|{\"type\":\"DELETED\",\"object\":{}}|"},
        {"{}{}", "{}|{}|"},
        {" \r\n\t", ""},
        {"{\"a\":\"}\"}{\"b\":", "{\"a\":\"}\"}|..."},
        {"{a}", "{a}|"}, // the JSON reader's to judge
        {"{]", "!"},
        {"{\"a\":[}}", "!"},
        {"{}]", "{}|!"},
        {"{},{}", "{}|!"},
        {"x", "!"},
        {"\"a\"", "!"},
    };
    run(KUBE_SPLIT_EVENTS, cases, ARRAY_LEN(cases));
    struct buf out;
    buf_init(&out, 64);
    split(KUBE_SPLIT_EVENTS, SLICE_LIT("{\0}{"), 1, &out); // a NUL is a byte as any
    assert_true(slice_eq(buf_slice(&out), SLICE_LIT("{\0}|...")));
    buf_fini(&out);
}

static void test_deep(void **state) {
    char text[1000];
    memset(text, '[', sizeof(text));
    for (int mode = KUBE_SPLIT_LIST; mode <= KUBE_SPLIT_EVENTS; mode++) {
        struct kube_split s;
        struct slice json, bytes = slice_make(text, sizeof(text));
        text[0] = '{';
        kube_split_init(&s, (enum kube_split_mode)mode, sizeof(text));
        assert_int_equal(kube_split_next(&s, &bytes, &json), KUBE_SPLIT_BROKEN);
        kube_split_fini(&s);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
