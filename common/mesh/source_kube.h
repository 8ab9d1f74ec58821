// SPDX-License-Identifier: Apache-2.0
//
// Configuration from the Kubernetes API: a watch for each kind that is read (kube_watch.h), whose
// objects go to a config_store. Changes are handed out in batches: SOURCE_KUBE_SETTLE_MS after the
// last one, SOURCE_KUBE_BATCH_MS after the first.
//
// What is watched:
// - of all namespaces: what says where things are (Namespaces, Nodes, Pods, Services,
//   EndpointSlices, ServiceEntries, WorkloadEntries, Gateways and their classes, ReferenceGrants)
//   and how they are reached (DestinationRules, PeerAuthentications);
// - of the served namespaces and the root namespace: rules (VirtualServices, HTTPRoutes and
//   GRPCRoutes, AuthorizationPolicies, and what is only warned of);
// - by name: the ConfigMap of MeshConfig in the root namespace, and in our own one the Secrets that
//   DestinationRules name (NAME and NAME-cacert), up to SOURCE_KUBE_SECRETS_MAX.
//
// Nothing is handed out before each of them was read once, Secrets aside; a kind whose CRD is not
// installed counts as read, and one that is not essential also when it is refused (403): without
// Nodes, GatewayClasses, ReferenceGrants and what is only warned of, less is done, nothing wrong.
// Afterwards what is known stays, whatever the server does. A broken object keeps its last good
// version; each distinct problem is handed out once for the log.
//
// Memory is that of the objects; managedFields and the JSON are not kept. Thread: control.
#pragma once

#include "common/mesh/config_store.h"
#include "common/mesh/kube_watch.h"

enum {
    SOURCE_KUBE_SETTLE_MS = 50,
    SOURCE_KUBE_BATCH_MS = 1000,
    SOURCE_KUBE_PAGE = 500, // objects
    SOURCE_KUBE_WATCH_S = 300, // a watch lasts this to twice as long
    SOURCE_KUBE_GRACE_MS = 30000, // for the server to end it
    SOURCE_KUBE_LIST_MS = 60000,
    SOURCE_KUBE_ABSENT_MS = 60000, // between two looks for a CRD, at most
    SOURCE_KUBE_NAMESPACES_MAX = 64,
    SOURCE_KUBE_SECRETS_MAX = 200, // watches: two for each credentialName
};

struct source_kube;

// What the log is to say of watches, once each: what passes within the first repetition is no news.
enum source_kube_notice {
    SOURCE_KUBE_AWAY, // the server is out of reach, or does not know us
    SOURCE_KUBE_BACK, // it is not any more
    SOURCE_KUBE_FAILS, // this watch, for a reason of its own
    SOURCE_KUBE_WORKS, // it does again
    SOURCE_KUBE_ABSENT, // there is no such kind; it is looked for again
    SOURCE_KUBE_FOUND, // there is one now
    SOURCE_KUBE_REFUSED, // one that is not essential, and so goes without; `without` says what
};

struct source_kube_params { // texts are copied
    struct loop *loop;
    struct kube_client *client; // outlives the source
    unsigned kobj_flags; // KOBJ_FROM_API is added
    const char *ns; // our own
    const char *root_ns;
    const char *mesh_config; // the ConfigMap with MeshConfig, in root_ns
    const char *namespaces; // that are served: "a,b"; "*" = all; NULL or "": our own
    // A batch has ended. Not called from within source_kube_new.
    void (*on_batch)(void *arg, const struct config_diff *diff);
    void (*on_notice)(void *arg, enum source_kube_notice notice, const struct kube_watch *watch,
                      const char *without); // "" but for SOURCE_KUBE_REFUSED
    void *arg;
};

// NULL with a heap-allocated reason: the namespaces are malformed.
struct source_kube *source_kube_new(const struct source_kube_params *params, char **ret_error);
void source_kube_free(struct source_kube *source); // NULL ok; not from within a callback

const struct config_store *source_kube_store(const struct source_kube *source);
// All was read once.
bool source_kube_is_synced(const struct source_kube *source);
// Problems of the last batch that were not there before it. Valid until on_batch returns.
const struct config_errors *source_kube_news(const struct source_kube *source);

struct source_kube_status {
    const char *server; // "HOST:PORT"
    bool is_synced;
    uint32_t n_watches, n_waiting, n_absent; // waiting: after a failure
    uint32_t n_objects, n_problems; // problems: objects that have some
    uint32_t n_errors, n_warnings; // of them
    uint64_t n_batches;
};
void source_kube_status(const struct source_kube *source, struct source_kube_status *ret_status);
// Each watch, in no order; `needed` = for the first batch, not so one that is refused and not
// essential.
void source_kube_each(const struct source_kube *source,
                      void (*fn)(void *arg, const struct kube_watch *watch, bool needed),
                      void *arg);
// Each object that has problems; `version` is another one whenever the object came anew.
void source_kube_each_problem(const struct source_kube *source,
                              void (*fn)(void *arg, const struct config_errors *errors,
                                         uint64_t version),
                              void *arg);
