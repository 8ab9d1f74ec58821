// SPDX-License-Identifier: Apache-2.0
//
// Two network namespaces joined by a veth pair, for tests that need the real kernel: `pod`
// (10.99.0.1, fd99::1) and `peer` (10.99.0.2, fd99::2, the pod's default gateway). Needs root.
#pragma once

#include <stdbool.h>

#include "common/base/addr.h"

enum { NETLAB_V4 = 1, NETLAB_V6 = 2 };

struct netlab {
    char pod_name[32], peer_name[32];
    int pod, peer; // namespace fds
};

// Families that are not asked for are disabled in the pod by sysctl (IPv6) or have no address.
void netlab_up(struct netlab *lab, int families);
void netlab_down(struct netlab *lab);
// Runs a command in the shell and asserts success.
void netlab_sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// Sockets in a namespace. All blocking, with a timeout of 3 s.
int netlab_listen(int netns, const char *ip, uint16_t port, uint32_t mark);
int netlab_udp(int netns, const char *ip, uint16_t port, uint32_t mark); // port 0: unbound
// A connection from `from` (NULL = any); fd, or -errno.
int netlab_connect(int netns, const char *from, const char *to, uint16_t port, uint32_t mark);
int netlab_accept(int fd); // -EAGAIN after a short while
struct addr netlab_addr(const char *ip, uint16_t port);
