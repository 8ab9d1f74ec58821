// SPDX-License-Identifier: Apache-2.0
//
// Flows whose path has changed: their destination was bound to a waypoint, to another one, or to
// none any more. New connections go the new way at once. Open ones are opaque bytes here; they are
// ended where their client notices least, so that it comes again on the new path:
//
//   HTTP/2 that is not encrypted: GOAWAY for all further streams is put between two frames of the
//                 server; the client ends the connection when its streams are done
//   HTTP/1.1 the same: behind a response that looks complete, once half of the deadline is over
//   all others, and these before: when the server spoke last and then nobody for a while, which
//                 gets shorter towards the deadline
//   at the deadline: whatever it is doing
//
// Bytes that are not HTTP/2 are looked at only once the path has changed. What is taken for
// HTTP/1.1 decides about the moment, never about a byte.
//
// Thread: the worker's.
#pragma once

#include "common/proto/h2_walk.h"
#include "ztun/flow.h"

struct snapshot;

enum rebind_protocol { REBIND_UNKNOWN, REBIND_HTTP1, REBIND_HTTP2, REBIND_OTHER };
enum rebind_answer { // how far the server is with its response (HTTP/1.1)
    REBIND_ANSWER_LOST, // not known
    REBIND_ANSWER_DUE, // its head comes next
    REBIND_ANSWER_OPEN,
    REBIND_ANSWER_COMPLETE,
};

// Of a flow that is on another path than it should be; nothing of it is needed before.
struct rebind_move {
    struct list node; // worker->rebinds
    struct rebind *rebind;
    uint64_t since; // when the path changed
    uint64_t active_at, n_seen; // when bytes were last seen to have moved, and how many
    uint64_t quiet_ns; // how long nobody must speak, at first
    uint64_t end_at; // being ended: when the ends of both sides are not waited for any more
    uint64_t answer_left; // bytes of the response that runs; UINT64_MAX: until its last chunk
};

// Of an outbound flow.
struct rebind {
    struct flow *flow;
    uint64_t path; // that it goes: hash of the waypoint's name, 0 = direct
    struct rebind_move *move; // NULL: it is where it belongs
    struct h2_walk walk;
    uint8_t protocol; // enum rebind_protocol
    uint8_t answer; // enum rebind_answer
    uint8_t n_start; // bytes of the HTTP/2 preface seen
    bool is_known; // the destination is one of the mesh: `path` means something
    bool was_told; // GOAWAY
    bool is_head; // the request was HEAD
};

void rebind_init(struct rebind *rebind, struct flow *flow);
void rebind_fini(struct rebind *rebind);
// The flow's path was chosen, in this turn; again for each attempt. `waypoint`: route.waypoint.
void rebind_routed(struct rebind *rebind, const struct snapshot *snap, const char *waypoint);
void rebind_start(struct rebind *rebind); // the flow is about to start
// The mesh has changed.
void rebind_check(struct rebind *rebind, const struct snapshot *snap);

void rebind_worker_init(struct zworker *worker);
void rebind_worker_fini(struct zworker *worker);

// outbound.c; NULL: a flow of another kind.
struct rebind *outbound_rebind(struct flow *flow);
