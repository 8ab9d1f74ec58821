// SPDX-License-Identifier: Apache-2.0
//
// The client of ZDS (ambient-protocols §1.2): istio-cni's node agent tells which pods are to be
// served, with their network namespaces as descriptors. The agent asks, we answer, one at a time:
// the next request is read when the last one is answered.
//
// A connection begins with a snapshot. What it does not name is gone when it ends, not before; pods
// that it names again in the same namespace are left alone. Without a connection everything stays
// as it is; the next attempt comes after 10 ms, doubling to 15 s.
//
// A packet that cannot be done (malformed, too long, of a kind not known, with descriptors that it
// should not have) is answered with an error; packets are whole, so the next one may be good. After
// one that is out of order the connection is given up: agent and proxy disagree, and a new snapshot
// settles it.
//
// Thread: control.
#pragma once

#include "common/base/buf.h"
#include "common/rt/loop.h"
#include "ztun/zds_msg.h"

struct zds_client;

struct zds_client_params {
    struct loop *loop;
    const char *path; // of the socket; stays valid
    // Serve this pod; zds_client_answer() when that has happened, or failed for the first time. The
    // descriptor passes to the callee. is_snapshot: many may follow, and wait for the answer.
    void (*add)(void *arg, const struct zds_request *pod, int netns_fd, bool is_snapshot);
    // is_replaced: by another pod with the same uid, which is added next.
    void (*del)(void *arg, const char *uid, bool is_replaced);
    void *arg;
};

// Connects from the next turn of the loop on.
struct zds_client *zds_client_new(const struct zds_client_params *params);
// Closes the connection; no callback comes after it. The loop must still turn for its last
// completion.
void zds_client_free(struct zds_client *client); // NULL ok
// How it is with a pod that was added; error NULL: it is served. May be told again when it changes:
// the agent gets it if it waits for this pod, or asks again.
void zds_client_answer(struct zds_client *client, const char *uid, const char *error);

struct zds_client_status {
    bool is_connected, has_snapshot; // of this connection
    const char *error; // why the last connection, or attempt, ended; "" since a snapshot came
    uint64_t n_connections, n_requests, n_refused; // with an error
    uint32_t n_pods;
};
void zds_client_get_status(const struct zds_client *client, struct zds_client_status *ret_status);
// Connected, with a whole snapshot. Else a line of text for the operator.
bool zds_client_is_ready(const struct zds_client *client, struct buf *ret_reasons);
