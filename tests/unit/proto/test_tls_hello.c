// SPDX-License-Identifier: Apache-2.0
#include "common/base/check.h"
#include "common/proto/tls_hello.h"
#include "tests/unit/base/unit.h"

// A ClientHello with these bytes as extensions, in records of at most `piece` bytes each.
static size_t make_hello(struct slice extensions, size_t piece, uint8_t *out) {
    uint8_t msg[TLS_HELLO_MAX] = {1};
    size_t n = 4;
    memcpy(msg + n, (const uint8_t[]){3, 3}, 2);
    n += 2 + 32; // random
    msg[n++] = 2; // session id
    n += 2;
    memcpy(msg + n, (const uint8_t[]){0, 2, 0x13, 0x01, 1, 0}, 6); // suites, compression
    n += 6;
    msg[n++] = (uint8_t)(extensions.len >> 8);
    msg[n++] = (uint8_t)extensions.len;
    memcpy(msg + n, extensions.ptr, extensions.len);
    n += extensions.len;
    msg[1] = (uint8_t)((n - 4) >> 16);
    msg[2] = (uint8_t)((n - 4) >> 8);
    msg[3] = (uint8_t)(n - 4);
    size_t len = 0;
    for (size_t at = 0; at < n; at += piece) {
        size_t part = MIN(piece, n - at);
        memcpy(out + len, (const uint8_t[]){22, 3, 1, (uint8_t)(part >> 8), (uint8_t)part}, 5);
        memcpy(out + len + 5, msg + at, part);
        len += 5 + part;
    }
    return len;
}

#define EXT(...) slice_make((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_names(void **state) {
    const struct {
        struct slice extensions;
        enum tls_hello want;
        const char *name;
    } cases[] = {
        {EXT(0, 0, 0, 8, 0, 6, 0, 0, 3, 'a', '.', 'B'), TLS_HELLO_NAME, "a.b"},
        // Behind another extension, and behind a name of another type.
        {EXT(0, 10, 0, 2, 1, 2, 0, 0, 0, 11, 0, 9, 7, 0, 1, 'x', 0, 0, 2, 'o', 'k'), TLS_HELLO_NAME,
         "ok"},
        {EXT(0, 10, 0, 0), TLS_HELLO_NO_NAME, ""},
        {EXT(0, 0, 0, 2, 0, 0), TLS_HELLO_NO_NAME, ""},
        {EXT(0, 0, 0, 5, 0, 3, 0, 0, 0), TLS_HELLO_NO_NAME, ""}, // an empty name
        {EXT(0, 0, 0, 7, 0, 5, 0, 0, 2, 'a', 0), TLS_HELLO_NO_NAME, ""}, // NUL within
        {EXT(0, 10, 0, 9), TLS_HELLO_NOT_TLS, ""}, // beyond the end
        {EXT(0), TLS_HELLO_NOT_TLS, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t piece = 1; piece <= 64; piece *= 4) { // also cut over records
            uint8_t hello[1024];
            char name[TLS_NAME_MAX + 1] = "";
            size_t len = make_hello(cases[i].extensions, piece, hello);
            assert_int_equal(tls_hello_name(slice_make(hello, len), name), cases[i].want);
            assert_string_equal(name, cases[i].name);
            for (size_t cut = 0; cut < len; cut++) { // more is wanted, whatever the cut
                assert_int_equal(tls_hello_name(slice_make(hello, cut), name), TLS_HELLO_MORE);
            }
        }
    }
}

static void test_what_is_no_hello(void **state) {
    static const char *const texts[] = {"GET / HTTP/1.1\r\n", "\x16\x02\x01\x01\x01",
                                        "\x15\x03\x01\x01\x02zz", "\x16\x03\x01\x01\x04\x02..."};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        char name[TLS_NAME_MAX + 1];
        assert_int_equal(tls_hello_name(slice_str(texts[i]), name), TLS_HELLO_NOT_TLS);
    }
    uint8_t server[] = {22, 3, 3, 0, 4, 2, 0, 0, 0}; // a ServerHello
    char name[TLS_NAME_MAX + 1];
    assert_int_equal(tls_hello_name(slice_make(server, sizeof(server)), name), TLS_HELLO_NOT_TLS);
    uint8_t empty[] = {22, 3, 1, 0, 0};
    assert_int_equal(tls_hello_name(slice_make(empty, sizeof(empty)), name), TLS_HELLO_NOT_TLS);
}

// A length that nobody should wait for, and one that is never completed.
static void test_limits(void **state) {
    char name[TLS_NAME_MAX + 1];
    uint8_t huge[] = {22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff};
    assert_int_equal(tls_hello_name(slice_make(huge, sizeof(huge)), name), TLS_HELLO_NO_NAME);
    uint8_t slow[] = {22, 3, 1, 0x30, 0, 1, 0, 0x2f, 0xfc}; // 12 KiB are announced
    assert_int_equal(tls_hello_name(slice_make(slow, sizeof(slow)), name), TLS_HELLO_MORE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_what_is_no_hello),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
