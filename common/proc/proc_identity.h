// SPDX-License-Identifier: Apache-2.0
//
// The daemon's certificates: the CA (the built-in one, or istiod), the revocation list, the
// identities that are wanted, and the news about them in log and metrics.
//
// Thread: control.
#pragma once

#include "common/mesh/identity.h"
#include "common/rt/loop.h"

struct ca_istiod;
struct ca_local;
struct log_scope;
struct proc_config;
struct watched_file;

struct proc_identity_params {
    struct loop *loop;
    const struct proc_config *config; // CA, trust domain for a new CA's subject, CRL, life, groups
    uint32_t mark; // SO_MARK of connections to the CA, 0 = none
    bool impersonates; // the identities are others': istiod is asked on their behalf
    const struct log_scope *scope;
    // Something may have been published.
    void (*on_tick)(void *arg);
    // Roots or revocation list changed, and the new contexts are published: running tunnels are to
    // be checked again.
    void (*on_trust_changed)(void *arg);
    void *arg;
};

struct proc_identity {
    struct proc_identity_params params;
    struct ca_local *ca; // one of both
    struct ca_istiod *istiod;
    struct watched_file *crl; // NULL = none
    struct identity_manager *manager;
    struct timer timer;
    uint64_t next_trust_poll;
    bool trust_changed;
};

MUST_USE int proc_identity_open(struct proc_identity *own,
                                const struct proc_identity_params *params); // 0 or -errno, logged
// One user of the identity more or less.
void proc_identity_want(struct proc_identity *own, const char *spiffe_id, int delta);
// MeshConfig may have changed: its trust domain aliases are accepted from now on, and only these.
struct mesh_settings;
void proc_identity_set_mesh(struct proc_identity *own, const struct mesh_settings *mesh);
