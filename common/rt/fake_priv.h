// SPDX-License-Identifier: Apache-2.0
//
// Shared by fake.c (ops, scheduler), fake_stream.c (connections) and fake_net.c (addresses).
#pragma once

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/rt/fake.h"

struct fake_conn;

struct fake_sock {
    struct fake_net *net;
    int fd;
    int netns;
    struct addr local, peer, original_dst;
    struct addr bind;
    bool is_listening, is_bound;
    struct fake_conn *conn; // NULL: not connected
    int side;
    int err; // as sk_err: reported once
    bool is_dead; // reset or timed out
    bool sent_fin;
    uint64_t n_changes; // of what poll says
    int *queue; // listening: fds that wait for accept
    uint32_t n_queue, max_queue;
    uint32_t n_ops; // under way on it
    uint32_t n_recvs, n_sends; // of these, multishot receives and sends
};

// One direction of a connection: [arrived | on the way], in a circular buffer.
struct fake_dir {
    uint8_t *buf;
    uint32_t cap, head;
    uint32_t n_arrived, n_way;
    uint32_t send_max, recv_max;
    uint64_t next_at; // when the next segment arrives
    bool has_fin, fin_arrived;
};

struct fake_conn {
    struct list node;
    struct fake_dir dir[2]; // [i]: from side i
    struct fake_sock *sock[2]; // NULL after close
    uint64_t reset_at[2]; // an RST is on its way to side i; 0 = none
    bool is_vanished;
    uint64_t timeout_at; // 0 = never
};

struct fake_dst_rule {
    struct list node;
    struct addr addr;
    enum fake_dst how;
};

struct fake_net {
    struct fake_options options;
    uint64_t now;
    uint64_t rng;
    bool is_quiet;
    FILE *trace;
    struct fake_sock **socks; // by fd - FAKE_FD_BASE
    uint32_t n_socks, max_socks;
    uint32_t n_open;
    struct list conns, dsts, ios;
    uint16_t next_port;
};

// fake_net.c
uint64_t fake_rand(struct fake_net *net, uint64_t lo, uint64_t hi); // lo <= x <= hi
bool fake_roll(struct fake_net *net, uint16_t per_mille);
void fake_tracef(struct fake_net *net, const char *fmt, ...) PRINTF_LIKE(2, 3);
struct fake_sock *fake_sock_new(struct fake_net *net, int netns);
struct fake_sock *fake_sock_get(const struct fake_net *net, int fd);
void fake_sock_free(struct fake_sock *sock);
int fake_sock_for(struct fake_net *net, const struct io_socket_params *params); // fd
// Where a connect of `sock` to dst ends: a listener, or NULL and *ret_err (0: no answer at all).
struct fake_sock *fake_route_to(struct fake_sock *sock, const struct addr *dst, int *ret_err);
int fake_sock_pop(struct fake_sock *sock); // next fd of a listening socket's queue, -EAGAIN

// fake_stream.c
uint64_t fake_latency(struct fake_net *net);
// Makes the connection and puts its accepted end into the listener's queue.
void fake_connect_to(struct fake_sock *client, struct fake_sock *listener, const struct addr *dst);
void fake_join(struct fake_sock *a, struct fake_sock *b);
void fake_step(struct fake_net *net); // what the network does until now
uint64_t fake_next_step(const struct fake_net *net); // when it does something next
uint32_t fake_readable(const struct fake_sock *sock); // bytes
bool fake_can_read(const struct fake_sock *sock); // bytes, EOF or an error
bool fake_can_write(const struct fake_sock *sock); // room, or an error
ssize_t fake_take(struct fake_sock *sock, const struct iovec *iov, size_t n_iov, size_t max);
ssize_t fake_put(struct fake_sock *sock, const struct iovec *iov, size_t n_iov, size_t max);
uint32_t fake_poll_mask(const struct fake_sock *sock);
void fake_stream_close(struct fake_sock *sock, bool reset);
