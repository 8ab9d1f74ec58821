// SPDX-License-Identifier: Apache-2.0
#include "common/base/addr.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool ip_eq(const struct ip *a, const struct ip *b) {
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool addr_eq(const struct addr *a, const struct addr *b) {
    return a->port == b->port && ip_eq(&a->ip, &b->ip);
}

int ip_cmp(const struct ip *a, const struct ip *b) {
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool ip_is_loopback(const struct ip *ip) {
    if (ip->family == 4) {
        return ip->bytes[0] == 127;
    }
    static const uint8_t v6_loopback[16] = {[15] = 1};
    return ip->family == 6 && memcmp(ip->bytes, v6_loopback, sizeof(v6_loopback)) == 0;
}

bool ip_is_unspecified(const struct ip *ip) {
    static const uint8_t zero[16];
    return ip->family != 0 && memcmp(ip->bytes, zero, sizeof(zero)) == 0;
}

bool ip_is_link_local(const struct ip *ip) {
    if (ip->family == 4) {
        return ip->bytes[0] == 169 && ip->bytes[1] == 254;
    }
    return ip->family == 6 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

bool ip_is_multicast(const struct ip *ip) {
    if (ip->family == 4) {
        return (ip->bytes[0] & 0xf0) == 0xe0;
    }
    return ip->family == 6 && ip->bytes[0] == 0xff;
}

// *ret_is_mapped tells an address that was IPv4-mapped from one that was IPv4 to begin with.
static bool from_bytes(struct slice bytes, struct ip *ret_ip, bool *ret_is_mapped) {
    struct ip ip = {0};
    bool is_mapped =
        bytes.len == 16 && memcmp(bytes.ptr, mapped_prefix, sizeof(mapped_prefix)) == 0;
    if (bytes.len == 4 || is_mapped) {
        ip.family = 4;
        memcpy(ip.bytes, bytes.ptr + bytes.len - 4, 4);
    } else if (bytes.len == 16) {
        ip.family = 6;
        memcpy(ip.bytes, bytes.ptr, 16);
    } else {
        return false;
    }
    *ret_ip = ip;
    *ret_is_mapped = is_mapped;
    return true;
}

bool ip_from_bytes(struct slice bytes, struct ip *ret_ip) {
    bool is_mapped;
    return from_bytes(bytes, ret_ip, &is_mapped);
}

static bool parse(struct slice text, struct ip *ret_ip, bool *ret_is_mapped) {
    char copy[IP_TEXT_MAX];
    if (text.len == 0 || text.len >= sizeof(copy) || slice_find(text, '\0') >= 0) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    uint8_t bytes[16];
    if (slice_find(text, ':') >= 0) {
        return inet_pton(AF_INET6, copy, bytes) == 1 &&
               from_bytes(slice_make(bytes, 16), ret_ip, ret_is_mapped);
    }
    return inet_pton(AF_INET, copy, bytes) == 1 &&
           from_bytes(slice_make(bytes, 4), ret_ip, ret_is_mapped);
}

bool ip_parse(struct slice text, struct ip *ret_ip) {
    bool is_mapped;
    return parse(text, ret_ip, &is_mapped);
}

bool addr_parse(struct slice text, struct addr *ret_addr) {
    ptrdiff_t colon = -1;
    for (ptrdiff_t i = (ptrdiff_t)text.len - 1; i >= 0 && colon < 0; i--) {
        colon = text.ptr[i] == ':' ? i : -1;
    }
    if (colon < 0) {
        return false;
    }
    struct slice host = slice_head(text, (size_t)colon);
    bool is_bracketed = host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    if (is_bracketed) {
        host = slice_make(host.ptr + 1, host.len - 2);
    }
    // Brackets exactly around what has colons: "::1:80" would be ambiguous.
    if (is_bracketed != (slice_find(host, ':') >= 0)) {
        return false;
    }
    struct addr addr;
    uint64_t port;
    if (!slice_to_u64(slice_skip(text, (size_t)colon + 1), UINT16_MAX, &port) ||
        !ip_parse(host, &addr.ip)) {
        return false;
    }
    addr.port = (uint16_t)port;
    *ret_addr = addr;
    return true;
}

// Clears the bits behind the first `len`; true when one was set.
static bool clear_host_bits(struct ip *ip, unsigned len) {
    bool had_bits = false;
    for (unsigned i = 0; i < sizeof(ip->bytes); i++) {
        unsigned n_kept = len > i * 8 ? MIN(len - i * 8, 8U) : 0;
        uint8_t kept = ip->bytes[i] & (uint8_t)(0xff00U >> n_kept);
        had_bits = had_bits || kept != ip->bytes[i];
        ip->bytes[i] = kept;
    }
    return had_bits;
}

bool cidr_parse(struct slice text, bool strict, struct cidr *ret_cidr) {
    struct slice host = text;
    struct slice len_text = {0};
    bool has_len = slice_split(text, '/', &host, &len_text);
    struct cidr cidr;
    bool is_mapped;
    if (!parse(host, &cidr.ip, &is_mapped)) {
        return false;
    }
    uint64_t max_len = cidr.ip.family == 4 ? 32 : 128;
    uint64_t len = max_len;
    if (has_len) {
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8; a shorter prefix is more than the IPv4 range.
        uint64_t extra = is_mapped ? 96 : 0;
        if (!slice_to_u64(len_text, max_len + extra, &len) || len < extra) {
            return false;
        }
        len -= extra;
    }
    if (clear_host_bits(&cidr.ip, (unsigned)len) && strict) {
        return false;
    }
    cidr.len = (uint8_t)len;
    *ret_cidr = cidr;
    return true;
}

struct cidr cidr_make(const struct ip *ip, uint8_t len) {
    struct cidr cidr = {.ip = *ip, .len = len};
    CHECK(len <= (ip->family == 4 ? 32 : 128));
    clear_host_bits(&cidr.ip, len);
    return cidr;
}

bool cidr_contains(const struct cidr *cidr, const struct ip *ip) {
    if (cidr->ip.family == 0 || cidr->ip.family != ip->family) {
        return false;
    }
    unsigned n_whole = cidr->len / 8;
    unsigned n_bits = cidr->len % 8;
    if (memcmp(cidr->ip.bytes, ip->bytes, n_whole) != 0) {
        return false;
    }
    return n_bits == 0 || ((cidr->ip.bytes[n_whole] ^ ip->bytes[n_whole]) >> (8 - n_bits)) == 0;
}

// Decimal text of a number below 100 000; returns the end. Addresses are in every line of the
// access log, where snprintf showed in profiles.
static char *put_decimal(char *at, unsigned value) {
    unsigned n = 1 + (value >= 10) + (value >= 100) + (value >= 1000) + (value >= 10000);
    for (unsigned i = n; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + n;
}

static char *put_octet(char *at, unsigned value) {
    if (value >= 100) {
        *at++ = (char)('0' + value / 100);
        *at++ = (char)('0' + value / 10 % 10);
    } else if (value >= 10) {
        *at++ = (char)('0' + value / 10);
    }
    *at++ = (char)('0' + value % 10);
    return at;
}

char *ip_put(const struct ip *ip, char buf[IP_TEXT_MAX]) {
    char *at = buf;
    if (ip->family == 4) {
        for (unsigned i = 0; i < 4; i++) {
            at = put_octet(at, ip->bytes[i]);
            *at++ = '.';
        }
        at--;
    } else if (ip->family == 6) {
        inet_ntop(AF_INET6, ip->bytes, at, IP_TEXT_MAX);
        at += strlen(at);
    }
    *at = '\0';
    return at;
}

const char *ip_text(const struct ip *ip, char buf[IP_TEXT_MAX]) {
    ip_put(ip, buf);
    return buf;
}

char *addr_put(const struct addr *addr, char buf[ADDR_TEXT_MAX]) {
    char *at = buf;
    bool is_v6 = addr->ip.family == 6;
    if (is_v6) {
        *at++ = '[';
    }
    at = ip_put(&addr->ip, at);
    if (is_v6) {
        *at++ = ']';
    }
    *at++ = ':';
    at = put_decimal(at, addr->port);
    *at = '\0';
    return at;
}

const char *addr_text(const struct addr *addr, char buf[ADDR_TEXT_MAX]) {
    addr_put(addr, buf);
    return buf;
}

const char *cidr_text(const struct cidr *cidr, char buf[CIDR_TEXT_MAX]) {
    char *at = ip_put(&cidr->ip, buf);
    *at++ = '/';
    *put_decimal(at, cidr->len) = '\0';
    return buf;
}

socklen_t addr_to_sockaddr(const struct addr *addr, bool v6_socket, struct sockaddr_storage *ret) {
    memset(ret, 0, sizeof(*ret));
    if (addr->ip.family == 6 || v6_socket) {
        struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret;
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(addr->port);
        if (addr->ip.family == 4) {
            memcpy(sin6->sin6_addr.s6_addr, mapped_prefix, sizeof(mapped_prefix));
            memcpy(sin6->sin6_addr.s6_addr + sizeof(mapped_prefix), addr->ip.bytes, 4);
        } else {
            memcpy(sin6->sin6_addr.s6_addr, addr->ip.bytes, 16);
        }
        return sizeof(*sin6);
    }
    struct sockaddr_in *sin = (struct sockaddr_in *)ret;
    sin->sin_family = AF_INET;
    sin->sin_port = htons(addr->port);
    memcpy(&sin->sin_addr, addr->ip.bytes, 4);
    return sizeof(*sin);
}

bool addr_from_sockaddr(const struct sockaddr *sa, struct addr *ret_addr) {
    struct addr addr;
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *sin = (const struct sockaddr_in *)sa;
        addr.port = ntohs(sin->sin_port);
        if (!ip_from_bytes(slice_make(&sin->sin_addr, 4), &addr.ip)) {
            return false;
        }
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)sa;
        addr.port = ntohs(sin6->sin6_port);
        if (!ip_from_bytes(slice_make(&sin6->sin6_addr, 16), &addr.ip)) {
            return false;
        }
    } else {
        return false;
    }
    *ret_addr = addr;
    return true;
}
