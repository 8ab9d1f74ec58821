// SPDX-License-Identifier: Apache-2.0
//
// A served pod: what the control thread makes when it enrols one and the workers hold while flows
// of it live. Immutable after creation, atomically counted.
#pragma once

#include <stdatomic.h>
#include <sys/types.h>

#include "common/base/addr.h"

struct pod {
    atomic_uint refs;
    atomic_uint n_moving; // connections between two workers: no zpod of it is freed (zmove.h)
    uint64_t id; // unique in the process, never reused; part of tunnel pool keys
    char *uid; // workload uid: snapshot key
    char *ns, *name;
    int netns_fd; // closed with the last reference
    dev_t netns_dev;
    ino_t netns_ino;
    bool has_v4, has_v6; // families its sockets are made for
    bool dns_v4, dns_v6; // families of its DNS sockets
    bool original_source; // IP_TRANSPARENT works: inbound legs carry the client's address
    bool is_self; // ztun's own: nothing is captured, tunnels reach its operator's ports only
};

// With one reference for the caller. Copies the texts; takes over netns_fd.
struct pod *pod_new(const char *uid, const char *ns, const char *name, int netns_fd);
struct pod *pod_ref(struct pod *pod);
void pod_unref(struct pod *pod); // NULL ok; any thread

enum { POD_LISTENERS_MAX = 4 }; // listeners a pod and port: min(workers, this)

// One worker's share of a pod's sockets; -1 = none. DNS sockets are bound to 127.0.0.1 and ::1 on
// the loopback interface (packets of other pods do not reach them) and non-blocking.
struct pod_sockets {
    int outbound, inbound, hbone, socks; // 15001, 15006, 15008, 15080: listening, blocking (io.h)
    int dns_udp[2], dns_tcp[2]; // [0] IPv4, [1] IPv6
};

void pod_sockets_init(struct pod_sockets *sockets); // all -1
void pod_sockets_close(struct pod_sockets *sockets); // what is left in it
