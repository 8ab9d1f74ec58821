// SPDX-License-Identifier: Apache-2.0
//
// What istiod sent, as a part of snapshots: istiod did what the builder does for files, so that its
// workloads, services and policies are leaves already, and what is left is to join workloads and
// the services that they are endpoints of, in whatever order they come.
//
// A change marks what it touches; xds_store_commit() publishes just that, as one snapshot. Cost: a
// service is rebuilt with all of its endpoints when one of them changed, nothing else is looked at.
// Memory: the leaf of a snapshot, a list of services with their ports for each workload, and the
// keys of services.
//
// Files and istiod may be used side by side, for different things: of a workload, service or policy
// that both define, the last change counts. Not so in a waypoint, where objects only add to what
// istiod sends (builder_istiod.h), and it is the builder that publishes.
//
// Thread: control.
#pragma once

#include "common/mesh/builder.h"
#include "common/mesh/xds_decode.h"

struct xds_store;

// Local workloads are those of `node`; "" = none.
struct xds_store *xds_store_new(const char *node);
void xds_store_free(struct xds_store *store); // publishes nothing; NULL ok

// Adds or replaces; all is copied.
void xds_store_set(struct xds_store *store, const struct xds_resource *resource);
// By the name of the resource; one that is not there is fine.
void xds_store_del(struct xds_store *store, enum xds_type type, struct slice name);
// Publishes what changed since the last commit. The caller frees with builder_changes_fini.
void xds_store_commit(struct xds_store *store, struct builder_changes *ret_changes);

// The builder's side, when it is the one that publishes: xds_store_commit() into its draft
// (ret_changes->generation stays 0), asking it what objects add; and what has to be merged again.
void xds_store_set_builder(struct xds_store *store, struct mesh_builder *builder);
void xds_store_merge(struct xds_store *store, struct snapshot *draft,
                     struct builder_changes *ret_changes);
void xds_store_touch_workload(struct xds_store *store, const char *uid);
void xds_store_touch_service(struct xds_store *store, const char *key, bool with_endpoints);
void xds_store_touch_policy(struct xds_store *store, const char *key);

// Workloads that are a host name, as builder_each_hostname and builder_set_resolved have them.
void xds_store_each_hostname(struct xds_store *store, bool (*fn)(void *arg, const char *hostname),
                             void *arg);
void xds_store_set_resolved(struct xds_store *store, const char *hostname, const struct ip *ips,
                            size_t n);

// Of those that are there now.
size_t xds_store_count(const struct xds_store *store, enum xds_kind kind);
