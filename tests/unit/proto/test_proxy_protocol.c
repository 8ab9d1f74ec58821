// SPDX-License-Identifier: Apache-2.0
#include "common/proto/proxy_protocol.h"
#include "tests/unit/base/unit.h"

static struct addr addr(const char *text) {
    struct addr out = {0};
    assert_true(text[0] == '\0' || addr_parse(slice_str(text), &out));
    return out;
}

static void test_version_1(void **state) {
    const struct {
        const char *client, *called, *want;
    } cases[] = {
        {"10.0.0.1:1234", "240.240.1.2:80", "PROXY TCP4 10.0.0.1 240.240.1.2 1234 80\r\n"},
        {"[fd00::1]:65535", "[fd00::2]:1", "PROXY TCP6 fd00::1 fd00::2 65535 1\r\n"},
        {"10.0.0.1:1", "[fd00::2]:2", "PROXY TCP6 ::ffff:10.0.0.1 fd00::2 1 2\r\n"},
        {"", "10.0.0.1:80", "PROXY UNKNOWN\r\n"},
        {"[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
         "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535",
         "PROXY TCP6 2001:db8:1111:2222:3333:4444:5555:6666 "
         "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff 65535 65535\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t header[PROXY_HEADER_MAX];
        struct addr client = addr(cases[i].client), called = addr(cases[i].called);
        size_t n = proxy_header_v1(&client, &called, header);
        assert_int_equal(n, strlen(cases[i].want));
        assert_memory_equal(header, cases[i].want, n);
    }
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void test_version_2(void **state) {
    const struct {
        const char *client, *called, *want;
        size_t len;
    } cases[] = {
        {"10.0.0.1:258", "1.2.3.4:80", SIGNATURE "\x21\x11\0\x0c\x0a\0\0\x01\1\2\3\4\1\2\0\x50",
         28},
        {"[::1]:1", "1.2.3.4:2",
         SIGNATURE "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
                   "\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\4\0\1\0\2",
         52},
        {"1.2.3.4:1", "", SIGNATURE "\x20\0\0\0", 16},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t header[PROXY_HEADER_MAX];
        struct addr client = addr(cases[i].client), called = addr(cases[i].called);
        assert_int_equal(proxy_header_v2(&client, &called, header), cases[i].len);
        assert_memory_equal(header, cases[i].want, cases[i].len);
    }
}

static void test_tlv(void **state) {
    uint8_t header[PROXY_HEADER_MAX + 2 * (PROXY_TLV_HEAD + 8)];
    struct addr client = addr("10.0.0.1:258"), called = addr("1.2.3.4:80");
    size_t len = proxy_header_v2(&client, &called, header);
    len = proxy_header_add_tlv(header, len, PROXY_TLV_IDENTITY, slice_str("spiffe:"));
    len = proxy_header_add_tlv(header, len, 1, slice_str(""));
    static const char want[] = SIGNATURE "\x21\x11\0\x19\x0a\0\0\x01\1\2\3\4\1\2\0\x50"
                                         "\xd0\0\7spiffe:\1\0";
    assert_int_equal(len, sizeof(want)); // the last byte is the literal's NUL
    assert_memory_equal(header, want, len);
    struct addr unknown = {0};
    len = proxy_header_v2(&client, &unknown, header);
    len = proxy_header_add_tlv(header, len, PROXY_TLV_IDENTITY, slice_str("x"));
    assert_int_equal(len, 20);
    assert_memory_equal(header + 12, "\x20\0\0\4\xd0\0\1x", 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_tlv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
