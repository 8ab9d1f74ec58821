// SPDX-License-Identifier: Apache-2.0
//
// Moves an accepted connection to another worker, once and before any byte of it is read, but for a
// SOCKS5 handshake (placement.h says where). It travels as a mail. Until it is taken over it counts
// in the target's load and in pod->n_moving; while that is not 0 no worker frees its part of the
// pod.
//
// When the target's part of the pod has gone already (un-enrolment reaches workers one after the
// other) the connection comes back to its sender, whose part is kept by the count. When the pod was
// removed, or the process stops, it is reset and counted.
//
// Thread: the worker's, except where said.
#pragma once

#include "ztun/zworker.h"

struct zmove {
    struct mail mail;
    struct ztun *ztun;
    struct pod *pod; // referenced
    uint32_t from, to;
    int fd;
    uint8_t kind; // enum flow_kind
    bool is_returned;
    uint64_t seed; // of the outbound decision: the target repeats it and finds the same endpoint
    struct addr socks_to; // what a client of SOCKS5 has asked for; not set: captured
};

void zmove_open(struct zworker *worker); // at the start and end of its thread
void zmove_close(struct zworker *worker);

// True: the connection, fd included, is another worker's from here on.
bool zmove_plain(struct zpod *zpod, int fd);
bool zmove_tunnel(struct zpod *zpod, int fd);
bool zmove_outbound(struct zpod *zpod, int fd, uint64_t key, uint64_t seed,
                    const struct addr *socks_to); // NULL: captured
// Whether a decision that costs something is of any use.
bool zmove_is_possible(const struct zpod *zpod);

// Control thread, before the first worker is stopped: returns when nothing moves any more.
void zmove_stop(struct ztun *ztun);
