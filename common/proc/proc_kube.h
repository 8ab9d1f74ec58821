// SPDX-License-Identifier: Apache-2.0
//
// The Kubernetes API as the source of configuration: a client of it, the watches (source_kube.h),
// what they bring in the mesh (proc_mesh), news in log and metrics.
//
// While the API is away, or refuses us, what is known stays in force.
//
// Thread: control.
#pragma once

#include "common/mesh/kube_client.h"
#include "common/proc/proc_options.h"
#include "common/rt/loop.h"

struct buf;
struct json_out;
struct log_scope;
struct proc_mesh;
struct source_kube;

struct proc_kube_config {
    const char *where; // NULL: the API is not asked
    const char *account_dir, *namespaces;
};

// Rows of a config T that has a `struct proc_kube_config kube`.
#define PROC_KUBE_ROW(T, flag, env, field, arg, help)                                              \
    { flag, env, PROC_TEXT, offsetof(T, kube.field), arg, help }
#define PROC_OPTIONS_KUBE(T)                                                                       \
    PROC_KUBE_ROW(T, "kube", NULL, where, "in-cluster|URL|FILE",                                   \
                  "Kubernetes API to serve instead of --config: that of the pod's cluster, one "   \
                  "at http(s)://HOST:PORT, or the one of a kubeconfig"),                           \
        PROC_KUBE_ROW(T, "kube-namespaces", NULL, namespaces, "NS,..|*",                           \
                      "whose rules are read, beside the root namespace; default: the own one"),    \
        PROC_KUBE_ROW(T, "kube-account", NULL, account_dir, "DIR",                                 \
                      "token and ca.crt of the service account; default: where pods have them")

struct proc_kube_params {
    struct loop *loop;
    struct proc_mesh *mesh;
    const struct kube_access *access; // borrowed for proc_kube_open
    const char *ns, *root_ns; // our own namespace, the one of mesh-wide rules
    const char *mesh_config; // proc_config.mesh_config
    const char *namespaces; // as of source_kube_params
    bool has_secrets; // the data of Secrets are kept
    uint32_t mark; // SO_MARK, 0 = none
    enum tls_compliance compliance;
    const struct log_scope *scope;
};

struct proc_kube {
    struct proc_kube_params params;
    struct kube_client *client; // NULL before proc_kube_open, and without the API; for others too
    struct source_kube *source;
};

// Begins to read in a later turn of the loop. 0 or -errno, logged.
MUST_USE int proc_kube_open(struct proc_kube *kube, const struct proc_kube_params *params);
// All was read once, or the API is not asked. Else lines for readiness (ret_reasons NULL ok).
bool proc_kube_is_ready(const struct proc_kube *kube, struct buf *ret_reasons);
// "kubernetes": {...}; nothing when the API is not asked.
void proc_kube_dump(struct json_out *out, const struct proc_kube *kube);
