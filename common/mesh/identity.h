// SPDX-License-Identifier: Apache-2.0
//
// The certificates of local workloads: one for each SPIFFE id that a local workload has, issued by
// a CA (the built-in one, or istiod's), renewed at half of its life, forgotten with its last
// workload. What there is, is published in the snapshot as identity leaves.
//
// Thread: control. Time is an argument: `mono` for back-off, `wall` for validity. The caller ticks
// at the deadline that a tick returns (at most a minute away, so that a clock that is set is
// noticed), after identity_manager_want(), and when an answer of the CA came between ticks
// (on_event tells).
//
// When an answer has roots that no answer had before (the CA's root is being replaced), the other
// certificates are renewed too, within IDENTITY_ROOTS_SPREAD_S: with them come the roots that their
// peers of the new root are verified by.
//
// While a renewal fails, the certificate stays in use until it expires; then its identity is FAILED
// with the reason, until the CA answers again: retries come after 1 s, doubling to 150 s, each
// +-20 %. A new user of an identity without a certificate is a reason to begin anew with that.
#pragma once

#include "common/mesh/snapshot.h"

enum { IDENTITY_ROOTS_SPREAD_S = 60 };

// A certificate authority, as the manager sees it.

struct ca;
struct ca_request;

struct ca_answer { // all borrowed for the call
    const char *error; // NULL: issued
    const char *label; // error: of what kind, for metrics; NULL: "ca"
    struct slice cert_chain_pem, key_pem, roots_pem;
    // When it came, if not within ca_ops.issue.
    uint64_t now_mono_ns;
    int64_t now_wall_s;
};
struct ca_ops {
    // Issues for request->spiffe_id. Calls request->done exactly once, before it returns or later
    // on the control thread.
    void (*issue)(struct ca *ca, struct ca_request *request);
    void (*cancel)(struct ca *ca, struct ca_request *request); // `done` will not be called
};
struct ca {
    const struct ca_ops *ops;
};
struct ca_request {
    const char *spiffe_id; // valid until done or cancel
    int64_t now_wall_s, ttl_s;
    void (*done)(struct ca_request *request, const struct ca_answer *answer);
    void *ca_data; // the CA's own
};

// The manager

enum identity_event_kind {
    IDENTITY_EVENT_ISSUED,
    IDENTITY_EVENT_FAILED, // an attempt; the old certificate may still be in use
    IDENTITY_EVENT_EXPIRED,
    IDENTITY_EVENT_FORGOTTEN,
};
struct identity_event {
    uint8_t kind;
    const char *spiffe_id;
    const char *text; // FAILED, EXPIRED: why
    const char *label; // FAILED: of what kind
    bool has_new_roots; // ISSUED: others than the certificate before had
    int64_t not_after; // Unix seconds, 0 = no certificate
};

struct identity_manager_params {
    struct ca *ca; // borrowed
    int64_t ttl_s; // SECRET_TTL
    enum tls_compliance compliance;
    bool prefer_aes_256;
    uint64_t seed; // of the jitter
    void (*on_event)(void *arg, const struct identity_event *event); // for logs; NULL ok
    void *arg;
};

struct identity_manager;
struct identity_manager *identity_manager_new(const struct identity_manager_params *params);
// Cancels what is in flight. Publishes nothing: the identities stay in the snapshot.
void identity_manager_free(struct identity_manager *manager); // NULL ok

// One user of the identity more or less. Takes effect at the next tick.
void identity_manager_want(struct identity_manager *manager, const char *spiffe_id, int delta);
// Issues, renews, expires and publishes what is due. Returns when to call again (monotonic ns).
uint64_t identity_manager_tick(struct identity_manager *manager, uint64_t now_mono_ns,
                               int64_t now_wall_s);

// The CA changed (other roots, another key): every certificate is issued anew at the next ticks.
void identity_manager_reissue(struct identity_manager *manager);
// Another revocation list (PEM or DER; empty = none): contexts are rebuilt at the next tick with a
// new CRL generation. False, and the old list stays, when a context cannot be built with it; the
// reason is heap-allocated. True without identities.
MUST_USE bool identity_manager_set_crl(struct identity_manager *manager, struct slice crl,
                                       char **ret_error);

// Trust domains that are accepted like the own one (borrowed for the call). Contexts are rebuilt at
// the next tick when something changed, which is the result.
bool identity_manager_set_aliases(struct identity_manager *manager, const struct slice *aliases,
                                  size_t n_aliases);

struct identity_info {
    const char *spiffe_id;
    uint8_t state; // enum identity_state
    const char *error; // "" = none
    int64_t not_before, not_after, renew_at; // Unix seconds, 0 = no certificate
    uint64_t n_issued, n_failures;
    unsigned n_users;
};
void identity_manager_each(struct identity_manager *manager,
                           bool (*fn)(void *arg, const struct identity_info *info), void *arg);
// Totals over all identities, those that were forgotten as well.
uint64_t identity_manager_n_issued(const struct identity_manager *manager);
uint64_t identity_manager_n_failures(const struct identity_manager *manager);
