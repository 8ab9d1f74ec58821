// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl top`: rates between samples, order, text.
#include "ctl/cmd_top.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "tests/unit/base/unit.h"

static void add(struct top_sample *sample, const char *node, int id, long long sent,
                long long received, long long age_ms) {
    json_t *answer =
        json_pack("{s:[{s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s}], s:i}",
                  "connections", "id", id, "pod", "c//Pod/a/client", "direction",
                  id % 2 == 0 ? "outbound" : "inbound", "protocol", "HBONE", "ageMs",
                  (json_int_t)age_ms, "bytesSent", (json_int_t)sent, "bytesReceived",
                  (json_int_t)received, "source", "a/client", "destination", "", "service", "web.b",
                  "target", "10.0.0.2:80", "dst", "10.96.0.1:80", "skipped", 0);
    assert_non_null(answer);
    top_sample_add(sample, node, answer);
    json_decref(answer);
}

static void test_rates(void **state) {
    struct top_sample before = {.at_ns = 10 * NS_PER_SEC}, now = {.at_ns = 12 * NS_PER_SEC};
    add(&before, "n1", 2, 1000, 500, 5000);
    add(&before, "n2", 2, 7, 7, 5000); // the same id elsewhere
    add(&before, "n1", 4, 1, 1, 5000); // ends
    add(&now, "n1", 3, 100, 0, 1000); // new: the mean of its life
    add(&now, "n1", 2, 21000, 700, 7000);
    add(&now, "n2", 2, 7, 7, 7000);
    top_sample_rate(&before, NULL);
    assert_int_equal(before.items[0].sent_rate, 200);
    top_sample_rate(&now, &before);
    assert_int_equal(now.n, 3);
    assert_int_equal(now.items[0].sent_rate, 10000); // sorted
    assert_int_equal(now.items[0].received_rate, 100);
    assert_int_equal(now.items[1].sent_rate, 100);
    assert_int_equal(now.items[2].sent_rate, 0);
    assert_string_equal(now.items[2].node, "n2");
    top_sample_fini(&before);
    top_sample_fini(&now);
}

static void test_text(void **state) {
    struct top_sample sample = {0};
    struct buf text;
    buf_init(&text, SIZE_MAX);
    add(&sample, "node1", 2, 1500000, 900, 1000);
    add(&sample, "node1", 3, 0, 12, 3700000);
    top_sample_rate(&sample, NULL);
    top_render(&sample, 0, SIZE_MAX, &text);
    assert_string_equal(
        buf_cstr(&text),
        "2 flows, 1.5M B/s sent, 900 B/s received\n"
        "NODE  DIR PROTO SOURCE   DESTINATION SERVICE      AGE   SENT   RECV SENT/s RECV/s\n"
        "node1 out HBONE a/client 10.0.0.2:80 web.b       1.0s   1.5M    900   1.5M    900\n"
        "node1 in  HBONE a/client 10.0.0.2:80 web.b       1h1m      0     12      0      0\n");
    buf_clear(&text);
    sample.n_skipped = 5;
    top_render(&sample, 4, 20, &text); // a small terminal
    assert_string_equal(buf_cstr(&text), "7 flows, 1.5M B/s se\n"
                                         "NODE  DIR PROTO SOUR\n"
                                         "node1 out HBONE a/cl\n"
                                         "... and 1 more\n");
    buf_fini(&text);
    top_sample_fini(&sample);
    struct top_sample none = {0};
    buf_init(&text, SIZE_MAX);
    top_sample_add(&none, "n", NULL);
    top_sample_rate(&none, NULL);
    top_render(&none, 24, 80, &text);
    assert_memory_equal(buf_cstr(&text), "0 flows", 7);
    buf_fini(&text);
}

static void test_amounts(void **state) {
    static const struct {
        uint64_t n;
        const char *text;
    } rows[] = {
        {0, "0"},          {999, "999"},         {1000, "1.0k"},
        {9999, "9.9k"},    {10000, "10k"},       {999999, "999k"},
        {1000000, "1.0M"}, {12345678901, "12G"}, {UINT64_MAX, "18E"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char buf[24];
        assert_string_equal(top_amount(rows[i].n, buf), rows[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_amounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
