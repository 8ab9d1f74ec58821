// SPDX-License-Identifier: Apache-2.0
//
// ztun on the nodes: its pods, and the pods that it should have.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/check.h"
#include "ctl/local_json.h"

enum { PODS_MAX = 512 << 20, SHOWN_MAX = 10 };

// The pods of the DaemonSet

bool check_is_pod_ready(const json_t *pod) {
    const json_t *conditions = js_get(pod, "status.conditions"), *condition;
    size_t i;
    json_array_foreach(conditions, i, condition) {
        if (strcmp(js_str(condition, "type", ""), "Ready") == 0) {
            return strcmp(js_str(condition, "status", ""), "True") == 0;
        }
    }
    return false;
}

// Why a pod is not ready, in the kubelet's words.
static const char *waiting_reason(const json_t *pod) {
    const json_t *statuses = js_get(pod, "status.containerStatuses"), *status;
    size_t i;
    json_array_foreach(statuses, i, status) {
        const char *reason = js_str(status, "state.waiting.reason", NULL);
        if (reason != NULL) {
            return reason;
        }
    }
    return js_str(pod, "status.phase", "Unknown");
}

static const json_t *pod_on(const json_t *pods, const char *node) {
    const json_t *pod, *found = NULL;
    size_t i;
    json_array_foreach(json_object_get(pods, "items"), i, pod) {
        // One that ends beside its successor counts only while there is none.
        bool is_better = found == NULL || js_get(found, "metadata.deletionTimestamp") != NULL ||
                         check_is_pod_ready(pod);
        bool is_ending = js_get(pod, "metadata.deletionTimestamp") != NULL;
        if (strcmp(js_str(pod, "spec.nodeName", ""), node) == 0 &&
            (found == NULL || (is_better && !is_ending))) {
            found = pod;
        }
    }
    return found;
}

static void check_each_node(struct check *c, const struct check_cluster *cluster,
                            const json_t *pods) {
    const json_t *node;
    unsigned n_asked = 0, n_ready = 0, n_others = 0;
    size_t i;

    json_array_foreach(json_object_get(cluster->nodes, "items"), i, node) {
        const char *name = js_name(node);
        const json_t *pod = pod_on(pods, name);
        if (strcmp(js_str(node, "status.nodeInfo.operatingSystem", "linux"), "linux") != 0) {
            continue;
        }
        if (pod == NULL) {
            check_add(c, CHECK_ERROR, "daemonset", name,
                      "see tolerations and nodeSelector of the chart, and the node's taints",
                      "has no ztun: its pods in the mesh cannot talk");
        } else if (!check_is_pod_ready(pod)) {
            check_add(c, CHECK_ERROR, "daemonset", name, "see kubectl describe pod and its log",
                      "pod %s is not ready: %s", js_name(pod), waiting_reason(pod));
        } else {
            n_ready++;
        }
        if (pod != NULL && strcmp(js_str(pod, "status.phase", ""), "Running") == 0 &&
            n_asked < cluster->max_nodes) {
            n_asked++;
            n_others += check_ask(c, cluster->kubectl, pod, name, check_ztun_status) ? 0 : 1;
        }
    }
    check_add(c, CHECK_FINE, "daemonset", "", NULL, "%u ready", n_ready);
    if (n_others > 0) {
        check_add(c, CHECK_NOTE, "ztun", "", "ztun takes its place: docs/INSTALL.md",
                  "%u of %u that were asked are not ztun but, most likely, Istio's ztunnel",
                  n_others, n_asked);
    }
    if (n_asked < n_ready && cluster->max_nodes > 0) {
        check_add(c, CHECK_NOTE, "ztun", "", "--max-nodes asks more",
                  "%u of %u were asked how they are", n_asked, n_ready);
    }
}

// For an account that may not see nodes: what the DaemonSet itself counts.
static void check_counts(struct check *c, const json_t *daemonset) {
    long long want = js_int(daemonset, "status.desiredNumberScheduled", 0);
    long long ready = js_int(daemonset, "status.numberReady", 0);

    if (ready < want) {
        check_add(c, CHECK_ERROR, "daemonset", "", "see its pods: kubectl describe pods",
                  "is ready on %lld of %lld nodes", ready, want);
    } else {
        check_add(c, CHECK_FINE, "daemonset", "", NULL, "%lld ready", ready);
    }
}

// Pods that should be in the mesh

static bool is_namespace_in(const struct check_cluster *cluster, struct slice name) {
    const json_t *ns;
    size_t i;
    json_array_foreach(json_object_get(cluster->namespaces, "items"), i, ns) {
        if (slice_eq_str(name, js_name(ns))) {
            const char *mode = js_label(ns, "istio.io/dataplane-mode");
            return mode != NULL && strcmp(mode, "ambient") == 0;
        }
    }
    return false;
}

enum { COL_NS, COL_NAME, COL_PHASE, COL_HOST, COL_MODE, COL_SIDECAR, COL_REDIRECTION, N_COLS };
static const char columns[] =
    "custom-columns=NS:.metadata.namespace,NAME:.metadata.name,PHASE:.status.phase,"
    "HOST:.spec.hostNetwork,MODE:.metadata.labels.istio\\.io/dataplane-mode,"
    "SIDECAR:.metadata.annotations.sidecar\\.istio\\.io/status,"
    "REDIRECTION:.metadata.annotations.ambient\\.istio\\.io/redirection";

// A line of a table whose cells have no blanks, but the one of the sidecar, which is JSON.
static bool split_line(struct slice line, struct slice cells[N_COLS]) {
    for (int i = 0; i < N_COLS; i++) {
        struct slice rest = slice_make(NULL, 0);
        line = slice_trim(line);
        if (i == COL_SIDECAR && line.len > 0 && line.ptr[0] == '{') {
            cells[i] = line; // then the pod is not ours, whatever follows
            cells[COL_REDIRECTION] = rest;
            return true;
        }
        if (!slice_split(line, ' ', &cells[i], &rest)) {
            cells[i] = line;
            rest = slice_make(NULL, 0);
        }
        if (cells[i].len == 0) {
            return false;
        }
        line = rest;
    }
    return true;
}

// istio-cni's rule; it leaves a mark on each pod that it has set up.
static bool is_left_out(const struct check_cluster *cluster, const struct slice cells[N_COLS]) {
    bool is_meant =
        slice_eq_str(cells[COL_MODE], "ambient") ||
        (is_namespace_in(cluster, cells[COL_NS]) && !slice_eq_str(cells[COL_MODE], "none"));
    return is_meant && slice_eq_str(cells[COL_PHASE], "Running") &&
           !slice_eq_str(cells[COL_HOST], "true") && slice_eq_str(cells[COL_SIDECAR], "<none>") &&
           !slice_eq_str(cells[COL_REDIRECTION], "enabled");
}

static void check_left_out(struct check *c, const struct check_cluster *cluster) {
    const char *const args[] = {"get", "pods", "-A", "--no-headers", "-o", columns, NULL};
    struct slice rest, line, cells[N_COLS];
    size_t n_out = 0;
    char *error = NULL;
    struct buf out;

    buf_init(&out, PODS_MAX);
    if (!kubectl_run(cluster->kubectl, args, NULL, &out, &error)) {
        check_add(c, CHECK_WARNING, "enrolment", "", NULL, "could not be looked at: %s", error);
        free(error);
        buf_fini(&out);
        return;
    }
    rest = buf_slice(&out);
    while (slice_split(rest, '\n', &line, &rest)) {
        if (!split_line(line, cells) || !is_left_out(cluster, cells)) {
            continue;
        }
        if (n_out++ < SHOWN_MAX) {
            char *name =
                xasprintf("%.*s/%.*s", (int)cells[COL_NS].len, (const char *)cells[COL_NS].ptr,
                          (int)cells[COL_NAME].len, (const char *)cells[COL_NAME].ptr);
            check_add(c, CHECK_ERROR, "enrolment", name,
                      "see istio-cni's log on its node; a restart of the pod sets it up anew",
                      "should be in the mesh, but istio-cni has not set it up");
            free(name);
        }
    }
    if (n_out > SHOWN_MAX) {
        check_add(c, CHECK_ERROR, "enrolment", "", NULL, "and %zu more pods", n_out - SHOWN_MAX);
    } else if (n_out == 0) {
        check_add(c, CHECK_FINE, "enrolment", "", NULL, "every pod that should be is in the mesh");
    }
    buf_fini(&out);
}

void check_mesh(struct check *c, const struct check_cluster *cluster) {
    json_t *pods = NULL;

    if (cluster->nodes == NULL) {
        check_counts(c, cluster->ztun);
    } else {
        pods = check_get(c, cluster->kubectl, "daemonset",
                         CHECK_ARGS("pods", "-n", js_ns(cluster->ztun), "-l", "app=ztunnel"));
    }
    if (pods != NULL) {
        check_each_node(c, cluster, pods);
    }
    json_decref(pods);
    check_left_out(c, cluster);
}
