// SPDX-License-Identifier: Apache-2.0
//
// IP addresses, ports, CIDRs: values, text, sockaddr. IPv4-mapped IPv6 is always canonicalised to
// IPv4.
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/check.h"
#include "common/base/slice.h"

struct ip {
    uint8_t family; // 0 = none, 4, 6
    uint8_t bytes[16]; // network order; IPv4 uses the first 4, the rest are 0
};

struct addr {
    struct ip ip;
    uint16_t port; // host order
};

struct cidr {
    struct ip ip; // host bits are 0
    uint8_t len; // prefix length in bits
};

enum { IP_TEXT_MAX = 46, ADDR_TEXT_MAX = 56, CIDR_TEXT_MAX = 50 }; // with NUL

static inline bool ip_is_set(const struct ip *ip) {
    return ip->family != 0;
}
bool ip_eq(const struct ip *a, const struct ip *b);
bool addr_eq(const struct addr *a, const struct addr *b);
int ip_cmp(const struct ip *a, const struct ip *b);
bool ip_is_loopback(const struct ip *ip); // 127/8, ::1
bool ip_is_unspecified(const struct ip *ip);
bool ip_is_link_local(const struct ip *ip);
bool ip_is_multicast(const struct ip *ip);
// Raw network-order bytes, len 4 or 16 (mapped is canonicalised). False: other length.
bool ip_from_bytes(struct slice bytes, struct ip *ret_ip);

// Text without brackets or zone. The whole slice must be the address.
bool ip_parse(struct slice text, struct ip *ret_ip);
// "1.2.3.4:80", "[::1]:80".
bool addr_parse(struct slice text, struct addr *ret_addr);
// "10.0.0.0/8", or a bare address (= full length). False also when host bits are set and
// `strict` is true; else they are cleared.
bool cidr_parse(struct slice text, bool strict, struct cidr *ret_cidr);
// The range of that length that has the address; at most 32 or 128 bits.
struct cidr cidr_make(const struct ip *ip, uint8_t len);
bool cidr_contains(const struct cidr *cidr, const struct ip *ip); // false across families

// Each writes a NUL-terminated text and returns buf.
const char *ip_text(const struct ip *ip, char buf[IP_TEXT_MAX]);
const char *addr_text(const struct addr *addr, char buf[ADDR_TEXT_MAX]);
// The same; they return the end, where the NUL is.
char *ip_put(const struct ip *ip, char buf[IP_TEXT_MAX]);
char *addr_put(const struct addr *addr, char buf[ADDR_TEXT_MAX]);
const char *cidr_text(const struct cidr *cidr, char buf[CIDR_TEXT_MAX]);

// sockaddr conversions. `v6_socket` maps IPv4 into ::ffff:0:0/96 for an AF_INET6 socket. An unset
// address becomes the wildcard: :: with v6_socket, else 0.0.0.0.
socklen_t addr_to_sockaddr(const struct addr *addr, bool v6_socket, struct sockaddr_storage *ret);
bool addr_from_sockaddr(const struct sockaddr *sa, struct addr *ret_addr);
