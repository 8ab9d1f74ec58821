// SPDX-License-Identifier: Apache-2.0
//
// Workload certificates: one per SPIFFE id that local pods use, prefetched when the first such pod
// is served, renewed at half of their life, forgotten with the last pod. Published as identity leaves
// of the snapshot; a renewal replaces the leaf and leaves running tunnels alone.
//
// While the CA does not answer the certificate in force stays; retries back off from 0.5 to 150 s
// with jitter, and a failure is shown in the leaf's error. Times of certificates follow the wall
// clock, which may jump: it is looked at in every tick.
//
// Thread: control.
#pragma once

#include "common/mesh/ca.h"
#include "common/mesh/snapshot.h"

struct identity_manager;

struct identity_manager_options {
    struct ca *ca;        // borrowed
    const char *crl_path; // NULL = none; re-read when it changes
    const char *trust_domain;
    uint32_t ttl_s;
    enum tls_compliance compliance;
    bool prefer_aes_256;
    void (*on_wanted)(void *arg);        // something is due: call identity_manager_tick soon
    void (*on_trust_changed)(void *arg); // trust bundle or CRL changed: live tunnels must be checked
    void *arg;
};

// NULL with a heap-allocated reason: a CRL that is there but cannot be read or parsed.
struct identity_manager *identity_manager_new(const struct identity_manager_options *options,
                                              char **ret_error);
void identity_manager_free(struct identity_manager *manager); // NULL ok; publishes nothing
// Counts users of an id: +1, -1. The first one asks for the certificate.
void identity_manager_want(struct identity_manager *manager, const char *spiffe_id, int delta);
// Issues, renews, retries, looks at CRL and CA files. Returns when it wants to be called again
// (monotonic ns, at most a minute ahead).
uint64_t identity_manager_tick(struct identity_manager *manager, uint64_t now, int64_t now_wall_s);
size_t identity_manager_n_pending(const struct identity_manager *manager); // without a certificate
