// SPDX-License-Identifier: Apache-2.0
//
// Inside the snapshot: what the index tables hold.
#pragma once

#include "common/mesh/snapshot.h"

struct leaf_list {
    uint32_t refs; // control thread only
    uint32_t n, key_len;
    struct leaf *items[]; // the key follows
};

static inline struct slice ip_key(const struct ip *ip) {
    return slice_make(ip->bytes, ip->family == 4 ? 4 : 16);
}
static inline struct slice port_key(const uint16_t *net_port) {
    return slice_make(net_port, sizeof(*net_port));
}
