// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_rules.h"

#include "tests/unit/proto/h2_harness.h"

#define R H2_LIST_REQUEST
#define S H2_LIST_RESPONSE
#define T H2_LIST_TRAILERS

static const struct {
    enum h2_list_kind kind;
    const char *fields;
    bool ok, ok_extended; // without and with extended CONNECT
} rows[] = {
    {R, ":method=GET|:scheme=https|:path=/", true, true},
    {R, ":method=GET|:scheme=https|:path=/|:authority=a", true, true},
    {R, ":path=/|:scheme=http|:method=PATCH|host=a", true, true},
    {R, ":method=OPTIONS|:scheme=https|:path=*", true, true},
    {R, ":method=GET|:scheme=https|:path=*", false, false},
    {R, ":method=GET|:scheme=https|:path=", false, false},
    {R, ":method=GET|:scheme=https|:path=a", false, false},
    {R, ":method=GET|:scheme=ftp|:path=a", true, true}, // not http: any path
    {R, ":method=GET|:scheme=https", false, false},
    {R, ":method=GET|:path=/", false, false},
    {R, ":scheme=https|:path=/", false, false},
    {R, ":method=|:scheme=https|:path=/", false, false},
    {R, ":method=G T|:scheme=https|:path=/", false, false},
    {R, ":method=GET|:scheme=|:path=/", false, false},
    {R, ":method=GET|:method=GET|:scheme=https|:path=/", false, false},
    {R, ":method=GET|:scheme=https|:path=/|:path=/", false, false},
    {R, ":method=GET|:scheme=https|a=b|:path=/", false, false},
    {R, ":method=GET|:scheme=https|:path=/|:status=200", false, false},
    {R, ":method=GET|:scheme=https|:path=/|:unknown=1", false, false},
    {R, ":method=GET|:scheme=https|:path=/|:=1", false, false},
    {R, ":method=CONNECT|:authority=a:1", true, true},
    {R, ":method=CONNECT", false, false},
    {R, ":method=CONNECT|:authority=", false, false},
    {R, ":method=CONNECT|:authority=a:1|:path=/", false, false},
    {R, ":method=CONNECT|:authority=a:1|:scheme=https", false, false},
    {R, ":method=CONNECT|:authority=a|:scheme=https|:path=/|:protocol=websocket", false, true},
    {R, ":method=CONNECT|:authority=a|:scheme=https|:protocol=websocket", false, false},
    {R, ":method=GET|:authority=a|:scheme=https|:path=/|:protocol=websocket", false, false},
    {R, ":method=CONNECT|:authority=a|:scheme=https|:path=/|:protocol=", false, false},
    {R, "", false, false},
    {S, ":status=200", true, true},
    {S, ":status=999|a=b", true, true},
    {S, ":status=100", true, true},
    {S, ":status=101", false, false},
    {S, ":status=099", false, false},
    {S, ":status=20", false, false},
    {S, ":status=2000", false, false},
    {S, ":status=+20", false, false},
    {S, ":status=200|:status=200", false, false},
    {S, ":status=200|:method=GET", false, false},
    {S, "a=b", false, false},
    {S, "", false, false},
    {T, "a=b|c=d", true, true},
    {T, "", true, true},
    {T, ":status=200", false, false},
    {T, ":path=/", false, false},
    {T, "A=b", false, false},
    {T, "a b=c", false, false},
    {T, "a\x7f=c", false, false},
    {T, "\x80=c", false, false},
    {T, "a:b=c", false, false},
    {T, "connection=close", false, false},
    {T, "keep-alive=1", false, false},
    {T, "proxy-connection=close", false, false},
    {T, "transfer-encoding=chunked", false, false},
    {T, "upgrade=h2c", false, false},
    {T, "te=trailers", true, true},
    {T, "te=Trailers", true, true},
    {T, "te=gzip", false, false},
    {T, "te=trailers, gzip", false, false},
    {T, "a=", true, true},
    {T, "a= b", false, false},
    {T, "a=b ", false, false},
    {T, "a=\tb", false, false},
    {T, "a=b\t", false, false},
    {T, "a=b c\td", true, true},
    {T, "a=b\rc", false, false},
    {T, "a=b\nc", false, false},
    {T, "a=\xff\x01", true, true},
};

static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_field fields[16];
        size_t n = fields_of(rows[i].fields, fields, 16);
        struct h2_list_info info;
        if (h2_rules_check(rows[i].kind, fields, n, false, &info) != rows[i].ok ||
            h2_rules_check(rows[i].kind, fields, n, true, &info) != rows[i].ok_extended) {
            fail_msg("'%s'", rows[i].fields);
        }
    }
}

static void test_info(void **state) {
    (void)state;
    struct http_field fields[16];
    struct h2_list_info info = {.status = 7};
    assert_false(h2_rules_check(S, fields, fields_of(":status=abc", fields, 16), false, &info));
    assert_int_equal(info.status, 7); // untouched
    assert_true(h2_rules_check(S, fields, fields_of(":status=404", fields, 16), false, &info));
    assert_int_equal(info.status, 404);
    assert_true(h2_rules_check(R, fields, fields_of(REQ_CONNECT, fields, 16), false, &info));
    assert_true(info.is_connect);
    assert_true(h2_rules_check(R, fields, fields_of(REQ_GET, fields, 16), false, &info));
    assert_false(info.is_connect);
}

// Every byte in a name and in a value.
static void test_characters(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        bool is_token = c > 0x20 && c < 0x7f && strchr("()<>@,;:\\\"/[]?={}", c) == NULL;
        bool is_upper = c >= 'A' && c <= 'Z';
        assert_true(h2_rules_name_is_valid(slice_make(&byte, 1)) == (is_token && !is_upper));
        uint8_t value[3] = {'a', byte, 'b'};
        bool is_bad = c == 0 || c == '\r' || c == '\n';
        assert_true(h2_rules_value_is_valid(slice_make(value, 3)) == !is_bad);
    }
    assert_false(h2_rules_name_is_valid(slice_make("", 0)));
    assert_true(h2_rules_value_is_valid(slice_make("", 0)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
