// SPDX-License-Identifier: Apache-2.0
//
// The netlink side of redirect.c (redirect_net.c). All in the calling thread's network namespace;
// 0 or -errno.
#pragma once

#include <linux/netlink.h>

#include "ztun/redirect.h"

enum {
    REDIRECT_CONN_MARK = 0x111,
    REDIRECT_MARK_MASK = 0xfff,
    REDIRECT_TABLE = 100,
    REDIRECT_PREF = 32764,
};

// fwmark 0x111/0xfff -> table 100, in which everything is local. Adding what is there, and deleting
// what is not, is no error. -ENETDOWN: the loopback interface is down.
MUST_USE int redirect_routes_add(int family); // AF_INET, AF_INET6
MUST_USE int redirect_routes_del(int family);
// Sends one request and runs `fn` (libmnl's mnl_cb_t) over the answers; an acknowledgement, or the
// end of a dump, ends it.
MUST_USE int redirect_transact(int bus, struct nlmsghdr *request,
                               int (*fn)(const struct nlmsghdr *nlh, void *arg), void *arg);
// Established TCP flows of both families that are not on the loopback interface.
MUST_USE int redirect_count_flows(uint32_t *ret_n);
