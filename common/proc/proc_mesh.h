// SPDX-License-Identifier: Apache-2.0
//
// The daemon's view of the mesh: the file source or that of the Kubernetes API, the builder, what
// istiod sends, their snapshots, and the resolution of endpoints that are host names. News go to
// the log, counts to the metrics.
//
// Thread: control.
#pragma once

#include "common/mesh/builder.h"
#include "common/rt/watch.h"

struct dns_client;
struct log_scope;
struct metric_series;
struct proc_config;
struct config_diff;
struct config_store;
struct source_file;
struct source_kube;
struct xds_store;

struct proc_mesh_params {
    struct loop *loop;
    struct builder_options builder; // copied; what it points at outlives the object
    bool has_secrets; // the data of Secrets are kept
    // A waypoint's: files only add to what istiod sends (builder_istiod.h).
    bool istiod_comes_first;
    const char *state_dir; // of source_file; NULL = none
    uint32_t mark; // SO_MARK of queries for host names, 0 = none
    const struct log_scope *scope;
    // A snapshot was published, or (generation 0) nothing that is part of it changed, objects that
    // cannot be read aside. `changes` is borrowed.
    void (*on_changes)(void *arg, const struct builder_changes *changes);
    void *arg;
};

struct proc_mesh {
    struct proc_mesh_params params;
    struct source_file *source; // NULL before proc_mesh_load, and without files
    struct source_kube *kube; // NULL: the Kubernetes API is not asked
    struct mesh_builder *builder;
    struct xds_store *xds; // what istiod sent; NULL: it is not asked
    struct dns_client *dns; // NULL while no endpoint is a host name
    struct watch watch;
    struct metric_series *reloads[2]; // config_reload_total: all well, some rejected
    int state_error; // as was logged
    uint32_t n_errors; // of the source, when on_changes was called last
    bool has_loaded; // once: what is broken may have a last good state
};

// snapshot_init() must have been called.
void proc_mesh_init(struct proc_mesh *mesh, const struct proc_mesh_params *params);
// Reads what is there (on_changes is called within), and watches it from then on; path NULL: there
// are no files. 0 or -errno, logged.
MUST_USE int proc_mesh_load(struct proc_mesh *mesh, const char *path);

// Instead of files: publishes the settings that flags give; then batches (on_changes is called
// within). The source outlives the object.
void proc_mesh_open_kube(struct proc_mesh *mesh, struct source_kube *source);
void proc_mesh_apply_kube(struct proc_mesh *mesh, const struct config_diff *diff);
// The objects of either; NULL: there are none.
const struct config_store *proc_mesh_store(const struct proc_mesh *mesh);

// What cannot be read as it is now, whatever of it is in force from before.
struct proc_mesh_broken {
    const char *object; // "HTTPRoute shop/web"
    const char *text; // where in it, and what is wrong: one mistake of it
    uint64_t version; // another one whenever it came anew, as far as the source can tell
};
void proc_mesh_each_broken(const struct proc_mesh *mesh,
                           void (*fn)(void *arg, const struct proc_mesh_broken *broken), void *arg);

// For what comes from istiod: a store, and what publishes its changes (on_changes is called
// within). Before proc_mesh_load().
void proc_mesh_open_xds(struct proc_mesh *mesh);
void proc_mesh_commit_xds(struct proc_mesh *mesh);

// Settings that MeshConfig does not set, from flags; PREFERED_SERVICE_NAMESPACE from the
// environment.
void proc_mesh_defaults(const struct proc_config *config, struct mesh_settings *ret_mesh);
