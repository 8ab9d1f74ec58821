// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>

#include "tests/unit/proto/h1_harness.h"

static const struct {
    const char *name;
    struct slice bytes;
    const char *verdict;
} cases[] = {
#define SMUGGLE(name, bytes, verdict)                                                              \
    {name, {(const uint8_t *)(bytes), sizeof(bytes) - 1}, verdict},
#include "tests/unit/proto/h1_smuggling.def"
#undef SMUGGLE
};

// The order of our own events depends on how input and output meet.
static void without_own_events(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '$' && *from != '#') {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static void run(size_t i, size_t chunk) {
    struct h1_bed bed;
    char seen[4096];
    bool is_cut;
    h1_bed_init(&bed, true, H1_BED_ANSWER, NULL);
    h1_bed_feed(&bed, cases[i].bytes, chunk);
    h1_bed_eof(&bed, true);
    snprintf(seen, sizeof(seen), "%s", h1_bed_seen(&bed));
    without_own_events(seen);
    if (strcmp(seen, cases[i].verdict) != 0) {
        fail_msg("%s in pieces of %zu: '%s'", cases[i].name, chunk, seen);
    }
    assert_true(h1_conn_wants_close(bed.conn, &is_cut));
    // Every error is answered, but for a client that is gone.
    bool has_error = strchr(cases[i].verdict, '!') != NULL;
    const char *sent = h1_bed_sent(&bed);
    if (has_error && strstr(sent, " 40") == NULL && strstr(sent, " 501 ") == NULL) {
        fail_msg("%s: '%s'", cases[i].name, sent);
    }
    h1_bed_fini(&bed);
}

static void test_cases(void **state) {
    (void)state;
    assert_true(ARRAY_LEN(cases) >= 60);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(cases[i].name, cases[j].name);
        }
        run(i, 1 << 16);
        run(i, 1);
        run(i, 7);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
