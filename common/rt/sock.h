// SPDX-License-Identifier: Apache-2.0
//
// TCP sockets by plain system calls: options, namespaces, addresses. All functions return 0 or an
// fd, or -errno. Any thread.
#pragma once

#include "common/rt/io.h"

enum {
    // Ports of connections from a foreign (transparent) source address: none of ours listens there.
    SOCK_FOREIGN_PORT_MIN = 1024,
    SOCK_FOREIGN_PORT_MAX = 65535,
    SOCK_NOTSENT_LOWAT = 256 * 1024, // bytes not yet sent that a tunnel's socket may hold
};

struct sock_listen_params {
    int netns_fd; // -1: the current one
    struct addr bind;
    uint32_t mark; // SO_MARK, 0 = none; inherited by accepted sockets
    const char *device; // SO_BINDTODEVICE; NULL: none
    int backlog; // 0: 1024
    bool transparent; // IP_TRANSPARENT
    bool reuse_port;
    bool v6_only; // for "::": without IPv4
    uint32_t keepalive_s; // inherited by accepted sockets; 0 = off
    uint32_t keepalive_interval_s; // 0: as keepalive_s
    uint32_t keepalive_probes;
    bool is_tunnel; // inherited: TCP_NOTSENT_LOWAT
    uint32_t user_timeout_ms; // inherited
    bool cut_on_death; // inherited: see io.h
};

// A stream socket that is ready for connect(). -EADDRNOTAVAIL, -EPERM (mark, transparent), -EMFILE.
MUST_USE int sock_stream(const struct io_socket_params *params);
// A listening socket.
MUST_USE int sock_listen(const struct sock_listen_params *params);
// The next queued connection of a listening socket; -EAGAIN when there is none.
MUST_USE int sock_accept_now(int listen_fd);
// For an accepted socket: what a listening socket does not hand down (TCP_NODELAY always).
void sock_nodelay(int fd);
void sock_keepalive(int fd, uint32_t keepalive_s, uint32_t interval_s, uint32_t probes);
void sock_tunnel(int fd, uint32_t user_timeout_ms); // TCP_NOTSENT_LOWAT, TCP_USER_TIMEOUT

int sock_error(int fd); // takes SO_ERROR: -errno, 0 = none
void sock_close(int fd, bool reset); // reset: RST instead of FIN
MUST_USE int sock_local_addr(int fd, struct addr *ret_addr);
MUST_USE int sock_peer_addr(int fd, struct addr *ret_addr);
// The destination before a REDIRECT rule: SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST, else (no rule
// matched: TPROXY, or a direct connection) the local address.
MUST_USE int sock_original_dst(int fd, struct addr *ret_addr);
// SO_NETNS_COOKIE: which namespace the socket belongs to. -ENOPROTOOPT before Linux 5.14.
MUST_USE int sock_netns_cookie(int fd, uint64_t *ret_cookie);
