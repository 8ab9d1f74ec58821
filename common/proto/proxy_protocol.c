// SPDX-License-Identifier: Apache-2.0
#include "common/proto/proxy_protocol.h"

#include <stdio.h>
#include <string.h>

static bool is_known(const struct addr *client, const struct addr *called) {
    return ip_is_set(&client->ip) && ip_is_set(&called->ip);
}

static bool is_v4(const struct addr *client, const struct addr *called) {
    return client->ip.family == 4 && called->ip.family == 4;
}

// The text of an address; of IPv4 in company of IPv6, mapped.
static const char *text_of(const struct ip *ip, bool is_mapped, char text[IP_TEXT_MAX + 8]) {
    size_t n = is_mapped && ip->family == 4 ? (size_t)snprintf(text, 8, "::ffff:") : 0;
    (void)ip_text(ip, text + n);
    return text;
}

size_t proxy_header_v1(const struct addr *client, const struct addr *called,
                       uint8_t ret_header[PROXY_HEADER_MAX]) {
    char from[IP_TEXT_MAX + 8], to[IP_TEXT_MAX + 8], text[PROXY_HEADER_MAX + 1];
    bool v4 = is_v4(client, called);
    int n = is_known(client, called)
                ? snprintf(text, sizeof(text), "PROXY TCP%d %s %s %u %u\r\n", v4 ? 4 : 6,
                           text_of(&client->ip, !v4, from), text_of(&called->ip, !v4, to),
                           client->port, called->port)
                : snprintf(text, sizeof(text), "PROXY UNKNOWN\r\n");
    CHECK(n > 0 && n <= PROXY_HEADER_MAX);
    memcpy(ret_header, text, (size_t)n);
    return (size_t)n;
}

static uint8_t *put_ip(uint8_t *p, const struct ip *ip, bool is_v4) {
    if (!is_v4 && ip->family == 4) {
        static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
        memcpy(p, prefix, sizeof(prefix));
        memcpy(p + sizeof(prefix), ip->bytes, 4);
        return p + 16;
    }
    memcpy(p, ip->bytes, is_v4 ? 4 : 16);
    return p + (is_v4 ? 4 : 16);
}

static uint8_t *put_u16(uint8_t *p, uint16_t value) {
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
    return p + 2;
}

size_t proxy_header_v2(const struct addr *client, const struct addr *called,
                       uint8_t ret_header[PROXY_HEADER_MAX]) {
    enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21, TCP4 = 0x11, TCP6 = 0x21 };
    static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                          0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
    bool v4 = is_v4(client, called), has_addrs = is_known(client, called);
    uint8_t *p = ret_header;
    memcpy(p, signature, sizeof(signature));
    p += sizeof(signature);
    *p++ = has_addrs ? COMMAND_PROXY : COMMAND_LOCAL;
    *p++ = !has_addrs ? 0 : v4 ? TCP4 : TCP6;
    p = put_u16(p, !has_addrs ? 0 : v4 ? 12 : 36);
    if (has_addrs) {
        p = put_ip(p, &client->ip, v4);
        p = put_ip(p, &called->ip, v4);
        p = put_u16(p, client->port);
        p = put_u16(p, called->port);
    }
    return (size_t)(p - ret_header);
}

size_t proxy_header_add_tlv(uint8_t *header, size_t len, uint8_t type, struct slice value) {
    enum { FIXED = 16 }; // before the addresses; its last two bytes are the length of the rest
    size_t rest = len - FIXED + PROXY_TLV_HEAD + value.len;
    CHECK(rest <= UINT16_MAX);
    put_u16(header + FIXED - 2, (uint16_t)rest);
    header[len] = type;
    put_u16(header + len + 1, (uint16_t)value.len);
    memcpy(header + len + PROXY_TLV_HEAD, value.ptr, value.len);
    return FIXED + rest;
}
