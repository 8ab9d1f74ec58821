// SPDX-License-Identifier: Apache-2.0
#include "common/base/addr.h"

#include "tests/unit/base/unit.h"

static void test_ip_parse(void **state) {
    static const struct {
        const char *text, *canonical; // NULL: refused
    } rows[] = {
        {"1.2.3.4", "1.2.3.4"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"::", "::"},
        {"::1", "::1"},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
        {"::ffff:10.0.0.1", "10.0.0.1"},
        {"::ffff:0a00:0001", "10.0.0.1"},
        {"0000:0000:0000:0000:0000:ffff:255.255.255.255", "255.255.255.255"},
        {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
        {"", NULL},
        {"1.2.3", NULL},
        {"1.2.3.4.5", NULL},
        {"1.2.3.256", NULL},
        {"1.2.3.04", NULL},
        {"0x1.2.3.4", NULL},
        {" 1.2.3.4", NULL},
        {"1.2.3.4 ", NULL},
        {"[::1]", NULL},
        {"fe80::1%eth0", NULL},
        {":::", NULL},
        {"1:2:3:4:5:6:7:8:9", NULL},
        {"0000:0000:0000:0000:0000:ffff:255.255.255.2555", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip = {.family = 99};
        char text[IP_TEXT_MAX];
        bool is_ok = ip_parse(slice_str(rows[i].text), &ip);
        assert_int_equal(is_ok, rows[i].canonical != NULL);
        if (is_ok) {
            assert_string_equal(ip_text(&ip, text), rows[i].canonical);
        } else {
            assert_int_equal(ip.family, 99);
        }
    }
    struct ip ip;
    assert_false(ip_parse(slice_make("1.2.3.4\0", 8), &ip));
    assert_false(ip_parse(slice_make(NULL, 0), &ip));
}

static void test_addr_parse(void **state) {
    static const struct {
        const char *text, *canonical;
    } rows[] = {
        {"1.2.3.4:80", "1.2.3.4:80"},
        {"1.2.3.4:0", "1.2.3.4:0"},
        {"[::1]:65535", "[::1]:65535"},
        {"[::ffff:1.2.3.4]:1", "1.2.3.4:1"},
        {"1.2.3.4", NULL},
        {"1.2.3.4:", NULL},
        {"1.2.3.4:65536", NULL},
        {"1.2.3.4:-1", NULL},
        {"1.2.3.4:8x", NULL},
        {"[1.2.3.4]:80", NULL},
        {"::1:80", NULL},
        {"[::1]", NULL},
        {"[::1:80", NULL},
        {"[]:80", NULL},
        {":80", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct addr addr;
        char text[ADDR_TEXT_MAX];
        bool is_ok = addr_parse(slice_str(rows[i].text), &addr);
        assert_int_equal(is_ok, rows[i].canonical != NULL);
        if (is_ok) {
            assert_string_equal(addr_text(&addr, text), rows[i].canonical);
        }
    }
}

static void test_cidr_parse(void **state) {
    static const struct {
        const char *text, *strict, *loose;
    } rows[] = {
        {"10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8"},
        {"10.1.2.3/8", NULL, "10.0.0.0/8"},
        {"10.1.2.3", "10.1.2.3/32", "10.1.2.3/32"},
        {"0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0"},
        {"10.255.0.0/9", NULL, "10.128.0.0/9"},
        {"10.0.0.1/31", NULL, "10.0.0.0/31"},
        {"::/0", "::/0", "::/0"},
        {"2001:db8::/33", "2001:db8::/33", "2001:db8::/33"},
        {"2001:db8:ffff::/33", NULL, "2001:db8:8000::/33"},
        {"::1", "::1/128", "::1/128"},
        {"::ffff:10.0.0.0/104", "10.0.0.0/8", "10.0.0.0/8"},
        {"::ffff:10.0.0.0/96", NULL, "0.0.0.0/0"},
        {"::ffff:10.0.0.0/95", NULL, NULL},
        {"::ffff:10.0.0.0/8", NULL, NULL},
        {"10.0.0.0/33", NULL, NULL},
        {"::/129", NULL, NULL},
        {"10.0.0.0/", NULL, NULL},
        {"/8", NULL, NULL},
        {"10.0.0.0/8/8", NULL, NULL},
        {"10.0.0.0/+8", NULL, NULL},
        {"", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int strict = 0; strict < 2; strict++) {
            const char *expected = strict ? rows[i].strict : rows[i].loose;
            struct cidr cidr;
            char text[CIDR_TEXT_MAX];
            bool is_ok = cidr_parse(slice_str(rows[i].text), strict, &cidr);
            assert_int_equal(is_ok, expected != NULL);
            if (is_ok) {
                assert_string_equal(cidr_text(&cidr, text), expected);
            }
        }
    }
}

static struct ip ip_of(const char *text) {
    struct ip ip = {0};
    assert_true(ip_parse(slice_str(text), &ip));
    return ip;
}

static void test_cidr_contains(void **state) {
    static const struct {
        const char *cidr, *ip;
        bool is_in;
    } rows[] = {
        {"10.0.0.0/8", "10.255.1.2", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.0.0.0/9", "10.127.0.1", true},
        {"10.0.0.0/9", "10.128.0.0", false},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "1.2.3.4", false},
        {"::/0", "ff02::1", true},
        {"2001:db8::/127", "2001:db8::1", true},
        {"2001:db8::/127", "2001:db8::2", false},
        {"1.2.3.4", "1.2.3.4", true},
        {"1.2.3.4", "1.2.3.5", false},
        {"10.0.0.0/8", "::ffff:10.0.0.1", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cidr cidr;
        assert_true(cidr_parse(slice_str(rows[i].cidr), true, &cidr));
        struct ip ip = ip_of(rows[i].ip);
        assert_int_equal(cidr_contains(&cidr, &ip), rows[i].is_in);
    }
    struct ip none = {0};
    struct cidr unset = {0};
    assert_false(cidr_contains(&unset, &none));
}

static void test_classes(void **state) {
    static const struct {
        const char *text;
        bool loopback, unspecified, link_local, multicast;
    } rows[] = {
        {"127.0.0.1", true, false, false, false},  {"127.255.0.1", true, false, false, false},
        {"128.0.0.1", false, false, false, false}, {"::1", true, false, false, false},
        {"::2", false, false, false, false},       {"0.0.0.0", false, true, false, false},
        {"::", false, true, false, false},         {"169.254.7.127", false, false, true, false},
        {"fe80::1", false, false, true, false},    {"febf::1", false, false, true, false},
        {"fec0::1", false, false, false, false},   {"224.0.0.1", false, false, false, true},
        {"239.1.2.3", false, false, false, true},  {"240.0.0.1", false, false, false, false},
        {"ff02::fb", false, false, false, true},   {"::ffff:127.0.0.1", true, false, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ip ip = ip_of(rows[i].text);
        assert_int_equal(ip_is_loopback(&ip), rows[i].loopback);
        assert_int_equal(ip_is_unspecified(&ip), rows[i].unspecified);
        assert_int_equal(ip_is_link_local(&ip), rows[i].link_local);
        assert_int_equal(ip_is_multicast(&ip), rows[i].multicast);
    }
    struct ip none = {0};
    assert_false(ip_is_set(&none));
    assert_false(ip_is_unspecified(&none));
    assert_false(ip_is_loopback(&none));
    char text[IP_TEXT_MAX];
    assert_string_equal(ip_text(&none, text), "");
}

static void test_order(void **state) {
    static const char *const sorted[] = {"0.0.0.0", "1.2.3.4", "1.2.3.5", "255.0.0.0",
                                         "::",      "::1",     "2001::"};
    for (size_t i = 0; i < ARRAY_LEN(sorted); i++) {
        for (size_t j = 0; j < ARRAY_LEN(sorted); j++) {
            struct ip a = ip_of(sorted[i]);
            struct ip b = ip_of(sorted[j]);
            int order = ip_cmp(&a, &b);
            assert_int_equal(order < 0, i < j);
            assert_int_equal(order > 0, i > j);
            assert_int_equal(ip_eq(&a, &b), i == j);
        }
    }
    struct addr a = {ip_of("1.2.3.4"), 80};
    struct addr b = {ip_of("1.2.3.4"), 81};
    assert_false(addr_eq(&a, &b));
    b.port = 80;
    assert_true(addr_eq(&a, &b));
}

static void test_from_bytes(void **state) {
    struct ip ip;
    uint8_t bytes[17] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1};
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        assert_int_equal(ip_from_bytes(slice_make(bytes, len), &ip), len == 4 || len == 16);
    }
    assert_true(ip_from_bytes(slice_make(bytes, 16), &ip));
    struct ip expected = ip_of("10.0.0.1");
    assert_true(ip_eq(&ip, &expected));
}

static void test_sockaddr(void **state) {
    static const struct {
        const char *text;
        bool v6_socket;
        int family;
    } rows[] = {
        {"1.2.3.4:80", false, AF_INET},         {"1.2.3.4:80", true, AF_INET6},
        {"[2001:db8::1]:443", false, AF_INET6}, {"[2001:db8::1]:443", true, AF_INET6},
        {"0.0.0.0:1", true, AF_INET6},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct addr addr, back;
        struct sockaddr_storage ss;
        assert_true(addr_parse(slice_str(rows[i].text), &addr));
        socklen_t len = addr_to_sockaddr(&addr, rows[i].v6_socket, &ss);
        assert_int_equal(ss.ss_family, rows[i].family);
        assert_int_equal(len, rows[i].family == AF_INET ? sizeof(struct sockaddr_in)
                                                        : sizeof(struct sockaddr_in6));
        assert_true(addr_from_sockaddr((struct sockaddr *)&ss, &back));
        assert_true(addr_eq(&addr, &back));
    }
    // No address: the wildcard of the socket's family.
    struct addr any = {.port = 15001};
    struct addr back;
    struct sockaddr_storage ss;
    char text[ADDR_TEXT_MAX];
    addr_to_sockaddr(&any, true, &ss);
    assert_true(addr_from_sockaddr((struct sockaddr *)&ss, &back));
    assert_string_equal(addr_text(&back, text), "[::]:15001");
    addr_to_sockaddr(&any, false, &ss);
    assert_true(addr_from_sockaddr((struct sockaddr *)&ss, &back));
    assert_string_equal(addr_text(&back, text), "0.0.0.0:15001");
    ss.ss_family = AF_UNIX;
    assert_false(addr_from_sockaddr((struct sockaddr *)&ss, &back));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ip_parse),   cmocka_unit_test(test_addr_parse),
        cmocka_unit_test(test_cidr_parse), cmocka_unit_test(test_cidr_contains),
        cmocka_unit_test(test_classes),    cmocka_unit_test(test_order),
        cmocka_unit_test(test_from_bytes), cmocka_unit_test(test_sockaddr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
