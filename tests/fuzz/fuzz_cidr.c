// SPDX-License-Identifier: Apache-2.0
//
// Texts of addresses, against the C library's reader, and there and back again.
#include <arpa/inet.h>

#include "common/base/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_ip(struct slice text, const char *copy) {
    char buf[IP_TEXT_MAX];
    uint8_t bytes[16];
    struct ip ip, again, native;
    bool is_ok = ip_parse(text, &ip);
    int family = memchr(text.ptr, ':', text.len) != NULL ? AF_INET6 : AF_INET;
    bool is_native = strlen(copy) == text.len && inet_pton(family, copy, bytes) == 1;

    CHECK(is_ok == is_native);
    if (!is_ok) {
        return;
    }
    CHECK(ip_from_bytes(slice_make(bytes, family == AF_INET ? 4 : 16), &native));
    CHECK(ip_eq(&ip, &native));
    CHECK(ip_parse(slice_str(ip_text(&ip, buf)), &again) && ip_eq(&ip, &again));
    CHECK(ip_cmp(&ip, &again) == 0);
}

static void check_cidr(struct slice text) {
    char buf[CIDR_TEXT_MAX];
    struct cidr cidr, strict, again;
    bool is_ok = cidr_parse(text, false, &cidr), is_strict = cidr_parse(text, true, &strict);

    CHECK(is_ok || !is_strict);
    if (!is_ok) {
        return;
    }
    CHECK(cidr.len <= (cidr.ip.family == 4 ? 32 : 128));
    CHECK(cidr_contains(&cidr, &cidr.ip));
    CHECK(cidr_parse(slice_str(cidr_text(&cidr, buf)), true, &again));
    CHECK(ip_eq(&cidr.ip, &again.ip) && cidr.len == again.len);
    CHECK(!is_strict || (ip_eq(&cidr.ip, &strict.ip) && cidr.len == strict.len));
}

static void check_addr(struct slice text) {
    char buf[ADDR_TEXT_MAX];
    struct sockaddr_storage storage;
    struct addr addr, again;

    if (!addr_parse(text, &addr)) {
        return;
    }
    CHECK(addr_parse(slice_str(addr_text(&addr, buf)), &again) && addr_eq(&addr, &again));
    for (int v6 = 0; v6 < 2; v6++) {
        addr_to_sockaddr(&addr, v6 != 0, &storage);
        CHECK(addr_from_sockaddr((const struct sockaddr *)&storage, &again));
        CHECK(addr_eq(&addr, &again));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct slice text = slice_make(data, len);
    char copy[80];

    if (len == 0 || len >= sizeof(copy)) {
        return 0;
    }
    memcpy(copy, data, len);
    copy[len] = '\0';
    check_ip(text, copy);
    check_cidr(text);
    check_addr(text);
    return 0;
}
