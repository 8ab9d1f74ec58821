// SPDX-License-Identifier: Apache-2.0
// ZDS on the wire: bytes written by hand after zds.proto.
#include "ztun/zds_msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"

#define INFO                                                                                       \
    "\x0a\x03web\x12\x04"                                                                          \
    "demo\x1a\x02sa"

static const struct {
    const char *what;
    struct slice packet;
    const char *error; // part of it; NULL: none
    enum zds_kind kind;
    const char *uid;
} cases[] = {
    {"add", SLICE_LIT("\x0a\x16\x0a\x03u-1\x12\x0f" INFO), NULL, ZDS_ADD, "u-1"},
    {"keep", SLICE_LIT("\x2a\x05\x0a\x03u-1"), NULL, ZDS_KEEP, "u-1"},
    {"the uid of a del is field 2", SLICE_LIT("\x12\x05\x12\x03u-1"), NULL, ZDS_DEL, "u-1"},
    {"snapshot", SLICE_LIT("\x1a\x00"), NULL, ZDS_SNAPSHOT_SENT, ""},
    {"the last one of two counts", SLICE_LIT("\x1a\x00\x12\x05\x12\x03u-1"), NULL, ZDS_DEL, "u-1"},
    {"a field that is not known", SLICE_LIT("\x12\x07\x12\x03u-1\x18\x07"), NULL, ZDS_DEL, "u-1"},
    {"a del with field 1", SLICE_LIT("\x12\x05\x0a\x03u-1"), "names no uid", 0, ""},
    {"add without a uid", SLICE_LIT("\x0a\x11\x12\x0f" INFO), "names no uid", 0, ""},
    {"add without info", SLICE_LIT("\x0a\x05\x0a\x03u-1"), "without its info", 0, ""},
    {"no name",
     SLICE_LIT("\x0a\x11\x0a\x03u-1\x12\x0a\x12\x04"
               "demo\x1a\x02sa"),
     "proper name", 0, ""},
    {"no namespace", SLICE_LIT("\x0a\x10\x0a\x03u-1\x12\x09\x0a\x03web\x1a\x02sa"),
     "proper namespace", 0, ""},
    {"no account",
     SLICE_LIT("\x0a\x12\x0a\x03u-1\x12\x0b\x0a\x03web\x12\x04"
               "demo"),
     "proper service account", 0, ""},
    {"a name with a slash",
     SLICE_LIT("\x0a\x16\x0a\x03u-1\x12\x0f\x0a\x03w/b\x12\x04"
               "demo\x1a\x02sa"),
     "proper name", 0, ""},
    {"a name with a NUL",
     SLICE_LIT("\x0a\x16\x0a\x03u-1\x12\x0f\x0a\x03w\0b\x12\x04"
               "demo\x1a\x02sa"),
     "proper name", 0, ""},
    {"a uid with a line end", SLICE_LIT("\x2a\x05\x0a\x03u\n1"), "printable", 0, ""},
    {"a uid like a workload's", SLICE_LIT("\x2a\x05\x0a\x03u/1"), "a slash", 0, ""},
    {"a kind that is not known", SLICE_LIT("\x4a\x03xyz"), "kind that is not known", 0, ""},
    {"nothing", SLICE_LIT(""), "is empty", 0, ""},
    {"cut", SLICE_LIT("\x0a\x16\x0a\x03u-1\x12\x0f\x0a\x03web"), "no WorkloadRequest", 0, ""},
    {"another type", SLICE_LIT("\x08\x01"), "no WorkloadRequest", 0, ""},
    {"a length beyond the end", SLICE_LIT("\x0a\xff\xff\xff\xff\x0f"), "no WorkloadRequest", 0, ""},
};

static void test_requests(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct zds_request request;
        const char *error = zds_request_decode(cases[i].packet, &request);
        if (cases[i].error != NULL) {
            if (error == NULL || strstr(error, cases[i].error) == NULL) {
                fail_msg("%s: %s", cases[i].what, error != NULL ? error : "no error");
            }
        } else if (error != NULL || request.kind != cases[i].kind ||
                   strcmp(request.uid, cases[i].uid) != 0) {
            fail_msg("%s: %s", cases[i].what, error != NULL ? error : request.uid);
        }
    }
    struct zds_request add;
    assert_null(zds_request_decode(cases[0].packet, &add));
    assert_string_equal(add.name, "web");
    assert_string_equal(add.ns, "demo");
    assert_string_equal(add.service_account, "sa");
}

// The longest texts, and one byte more.
static void test_lengths(void **state) {
    static const struct {
        uint8_t field;
        size_t max;
    } fields[] = {{1, ZDS_NAME_MAX}, {2, SPIFFE_NS_MAX}, {3, SPIFFE_SA_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        for (size_t more = 0; more < 2; more++) {
            struct buf info, add, packet;
            buf_init(&info, 2048);
            buf_init(&add, 2048);
            buf_init(&packet, 2048);
            for (uint8_t field = 1; field <= 3; field++) {
                size_t len = field == fields[i].field ? fields[i].max + more : 1;
                uint8_t head[3] = {(uint8_t)(field << 3 | 2), (uint8_t)(len | 0x80),
                                   (uint8_t)(len >> 7)};
                buf_append(&info, slice_make(head, 3));
                for (size_t k = 0; k < len; k++) {
                    buf_append_str(&info, "x");
                }
            }
            uint8_t head[6] = {
                0x0a, 1, 'u', 0x12, (uint8_t)(info.len | 0x80), (uint8_t)(info.len >> 7)};
            buf_append(&add, slice_make(head, 6));
            buf_append(&add, buf_slice(&info));
            uint8_t outer[3] = {0x0a, (uint8_t)(add.len | 0x80), (uint8_t)(add.len >> 7)};
            buf_append(&packet, slice_make(outer, 3));
            buf_append(&packet, buf_slice(&add));
            struct zds_request request;
            const char *error = zds_request_decode(buf_slice(&packet), &request);
            assert_true((error == NULL) == (more == 0));
            buf_fini(&info);
            buf_fini(&add);
            buf_fini(&packet);
        }
    }
}

static void test_answers(void **state) {
    uint8_t out[ZDS_ANSWER_MAX];
    assert_int_equal(zds_hello(out), 2);
    assert_memory_equal(out, "\x08\x01", 2);
    assert_int_equal(zds_ack(NULL, out), 2);
    assert_memory_equal(out, "\x0a\x00", 2);
    assert_int_equal(zds_ack("no", out), 6);
    assert_memory_equal(out, "\x0a\x04\x0a\x02no", 6);
    // Never taken for a yes; UTF-8 only; cut between characters.
    assert_int_equal(zds_ack("", out), 4 + strlen("refused"));
    assert_int_equal(zds_ack("\xff", out), 4 + strlen("refused"));
    assert_int_equal(zds_ack("a\xff"
                             "b",
                             out),
                     5);
    char text[3 * ZDS_ANSWER_MAX + 1] = "";
    for (size_t i = 0; i < ZDS_ANSWER_MAX; i++) {
        memcpy(text + 3 * i, "\xe2\x82\xac", 4);
    }
    size_t len = zds_ack(text, out);
    assert_true(len <= ZDS_ANSWER_MAX && len > ZDS_ANSWER_MAX - 24);
    assert_int_equal((len - 6) % 3, 0);
    assert_int_equal(out[len - 1], 0xac);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
