// SPDX-License-Identifier: Apache-2.0
//
// The server's side of a SOCKS5 handshake (RFC 1928): no authentication, CONNECT to an address or a
// host name. Pure.
//
// The caller reads at most socks5_need() bytes at a time and gives them to socks5_recv(), so that
// nothing behind the request is ever taken: what the client sends early stays in the socket.
#pragma once

#include "common/base/addr.h"

enum {
    SOCKS5_NEED_MAX = 257, // a host name and a port
    SOCKS5_HOST_MAX = 253,
    SOCKS5_REPLY_LEN = 10, // of ours: with an IPv4 address
};

enum socks5_code { // REP, RFC 1928 section 6
    SOCKS5_SUCCEEDED,
    SOCKS5_GENERAL_FAILURE,
    SOCKS5_NOT_ALLOWED,
    SOCKS5_NETWORK_UNREACHABLE,
    SOCKS5_HOST_UNREACHABLE,
    SOCKS5_CONNECTION_REFUSED,
    SOCKS5_TTL_EXPIRED,
    SOCKS5_BAD_COMMAND,
    SOCKS5_BAD_ADDRESS_TYPE,
};

enum socks5_event {
    SOCKS5_MORE,
    SOCKS5_METHOD, // `reply` is to be sent; the request follows
    SOCKS5_REQUEST, // done: `to`, or `host` and to.port; the reply is the caller's
    SOCKS5_REFUSED, // done: `error`; `reply` is to be sent, if there is one, and nothing more
};

struct socks5 {
    struct addr to; // ip not set: `host`
    char host[SOCKS5_HOST_MAX + 1]; // lower case, without a last dot
    const char *error; // a literal
    uint8_t reply[SOCKS5_REPLY_LEN];
    uint8_t n_reply;
    // private
    uint8_t state, type;
    uint16_t n_have, n_need;
    uint8_t bytes[SOCKS5_NEED_MAX];
};

void socks5_init(struct socks5 *socks);
// 0: the handshake is done.
size_t socks5_need(const struct socks5 *socks);
// At most socks5_need() bytes. After SOCKS5_METHOD the next call goes on.
enum socks5_event socks5_recv(struct socks5 *socks, struct slice bytes);

// The reply to a request; no address is told with it.
void socks5_reply(enum socks5_code code, uint8_t ret_reply[SOCKS5_REPLY_LEN]);
