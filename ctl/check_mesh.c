// SPDX-License-Identifier: Apache-2.0
//
// ztun on the nodes: its pods, what each of them says of itself, and the pods that it should have.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/check.h"
#include "ctl/http_get.h"
#include "ctl/local_json.h"

enum { ADMIN_PORT = 15000, STATUS_MAX = 64 << 20, PODS_MAX = 512 << 20, SHOWN_MAX = 10 };

static const char see_log[] = "see its log: kubectl logs";

// /status

static void check_istiod_stream(struct check *c, const char *node, const json_t *status) {
    const json_t *xds = json_object_get(status, "xds");

    if (xds == NULL) {
        check_add(c, CHECK_NOTE, "xds", node, NULL, "reads files, not istiod");
        return;
    }
    if (!js_bool(xds, "connected", false)) {
        check_add(c, CHECK_ERROR, "xds", node,
                  "see that istiod runs, and that its port 15012 can be reached from ztun's pods",
                  "has no connection to istiod: %s", js_str(xds, "problem", ""));
    } else if (!js_bool(xds, "hasAddresses", false) || !js_bool(xds, "hasAuthorizations", false)) {
        check_add(c, CHECK_ERROR, "xds", node, "see istiod's log",
                  "is connected to istiod, which has not sent everything");
    } else {
        check_add(c, CHECK_FINE, "xds", node, NULL, "in sync: %lld workloads, %lld services",
                  js_int(xds, "workloads", 0), js_int(xds, "services", 0));
    }
    if (js_int(xds, "refused", 0) > 0) {
        check_add(c, CHECK_WARNING, "xds", node, see_log,
                  "refused %lld resources of istiod, last: %s", js_int(xds, "refused", 0),
                  js_str(xds, "lastRefused", ""));
    }
}

static void check_agent(struct check *c, const char *node, const json_t *status) {
    static const char remedy[] =
        "see that istio-cni runs there, and the socket in /var/run/ztunnel";
    const json_t *agent = json_object_get(status, "nodeAgent");

    if (agent == NULL) {
        return;
    }
    if (!js_bool(agent, "isConnected", false)) {
        check_add(c, CHECK_ERROR, "node-agent", node, remedy, "has no connection to istio-cni: %s",
                  js_str(agent, "error", ""));
    } else if (!js_bool(agent, "hasSnapshot", false)) {
        check_add(c, CHECK_ERROR, "node-agent", node, remedy,
                  "has not heard from istio-cni which pods there are");
    } else {
        check_add(c, CHECK_FINE, "node-agent", node, NULL, "%lld pods from istio-cni",
                  js_int(agent, "pods", 0));
    }
}

static void check_pod(struct check *c, const char *node, const json_t *pod, size_t *n_good) {
    char *name =
        xasprintf("%s: %s/%s", node, js_str(pod, "namespace", ""), js_str(pod, "name", ""));

    if (strcmp(js_str(pod, "state", "Up"), "Up") != 0) {
        check_add(c, CHECK_ERROR, "pod", name, see_log, "is not served: %s",
                  js_str(pod, "reason", ""));
    } else if (!js_bool(pod, "isRedirected", false)) {
        check_add(c, CHECK_ERROR, "redirection", name,
                  "delete the pod, so that istio-cni sets up its successor; see istio-cni's log",
                  "has no redirection: its connections go past the mesh");
    } else if (!js_bool(pod, "isKnown", false)) {
        check_add(c, CHECK_WARNING, "pod", name,
                  "see that istiod knows it: istioctl ztunnel-config",
                  "istiod has not told of it yet: its connections wait");
    } else {
        (*n_good)++;
    }
    free(name);
}

static void check_pods(struct check *c, const char *node, const json_t *status) {
    const json_t *pods = json_object_get(status, "pods"), *pod;
    size_t i, n_good = 0;

    json_array_foreach(pods, i, pod) {
        check_pod(c, node, pod, &n_good);
    }
    check_add(c, CHECK_FINE, "redirection", node, NULL, "%zu of %zu pods are served", n_good,
              json_array_size(pods));
}

static void check_certificates(struct check *c, const char *node, const json_t *status) {
    const json_t *identities = json_object_get(status, "identities"), *identity;
    size_t i, n_good = 0;

    json_array_foreach(identities, i, identity) {
        const char *state = js_str(identity, "state", "");
        const char *error = js_str(identity, "error", "");
        const char *name = js_str(identity, "identity", "");
        bool is_there = strcmp(state, "Available") == 0;
        long long left_s = js_int(identity, "secondsToExpiry", 0);
        if (strcmp(state, "Initializing") == 0) {
            check_add(c, CHECK_NOTE, "certificate", node, NULL, "%s: is being asked for", name);
        } else if (!is_there || left_s <= 0) {
            check_add(c, CHECK_ERROR, "certificate", node,
                      "see istiod's log, and the check istiod-ca", "%s: %s", name,
                      is_there ? "has expired" : state);
        } else if (error[0] != '\0') {
            check_add(c, CHECK_WARNING, "certificate", node,
                      "see istiod's log; the present one is used until it expires",
                      "%s: could not be renewed, expires in %lld s: %s", name, left_s, error);
        } else {
            n_good++;
        }
    }
    check_add(c, CHECK_FINE, "certificate", node, NULL, "%zu of %zu identities have one", n_good,
              json_array_size(identities));
}

static void check_problems(struct check *c, const char *node, const json_t *status) {
    const json_t *problems = json_object_get(status, "problems"), *problem;
    size_t i;

    json_array_foreach(problems, i, problem) {
        if (i == SHOWN_MAX) {
            check_add(c, CHECK_WARNING, "configuration", node, NULL, "and %zu more",
                      json_array_size(problems) - i);
            break;
        }
        check_add(c, CHECK_WARNING, "configuration", node, "ztunctl validate tells more", "%s: %s",
                  js_str(problem, "object", ""), js_str(problem, "problem", ""));
    }
}

bool check_status(struct check *c, const char *node, const json_t *status) {
    if (json_object_get(status, "generation") == NULL) {
        return false;
    }
    if (!js_bool(status, "ready", false)) {
        check_add(c, CHECK_ERROR, "ztun", node, see_log, "is not ready (%s)",
                  js_str(status, "state", ""));
    }
    if (js_bool(status, "refusesNewFlows", false)) {
        check_add(c, CHECK_ERROR, "memory", node,
                  "raise the container's limit (chart value resources)",
                  "is at its limit of memory and takes no new connections");
    }
    const char *io = js_str(status, "io", "");
    if (strcmp(io, "epoll") == 0) {
        check_add(c, CHECK_WARNING, "io", node,
                  "allow io_uring: chart value seccompInstall.enabled=true, or seccompProfile "
                  "Unconfined; its log has the reason",
                  "uses epoll, at more CPU per request");
    } else if (io[0] != '\0') {
        check_add(c, CHECK_FINE, "io", node, NULL, "uses %s", io);
    }
    check_istiod_stream(c, node, status);
    check_agent(c, node, status);
    check_certificates(c, node, status);
    check_pods(c, node, status);
    check_problems(c, node, status);
    return true;
}

// The pods of the DaemonSet

static json_t *fetch_status(uint16_t port, char **ret_error) {
    struct addr admin = {.port = port};
    json_error_t error;
    json_t *status = NULL;
    struct buf body;

    CHECK(ip_from_bytes(SLICE_LIT("\x7f\0\0\1"), &admin.ip));
    buf_init(&body, STATUS_MAX);
    int code = http_get("", &admin, "GET", "/status", &body, ret_error);
    if (code == 200) {
        status = json_loadb((const char *)body.ptr, body.len, 0, &error);
    }
    if (code == 404) {
        status = json_object(); // Istio's ztunnel has no such page
    } else if (code >= 0 && status == NULL) {
        *ret_error = xasprintf("/status answered with status %d and no JSON", code);
    }
    buf_fini(&body);
    return status;
}

// False: it is something else.
static bool ask(struct check *c, const struct kubectl *k, const json_t *pod, const char *node) {
    struct kubectl_forward forward;
    char *error = NULL;
    json_t *status = NULL;
    bool is_open = kubectl_forward_open(k, js_ns(pod), js_name(pod), ADMIN_PORT, &forward, &error);

    if (is_open) {
        status = fetch_status(forward.port, &error);
        kubectl_forward_close(&forward);
    }
    if (status == NULL) {
        check_add(c, CHECK_WARNING, "ztun", node,
                  is_open ? see_log : "the account needs create of pods/portforward",
                  "could not be asked: %s", error);
        free(error);
        return true;
    }
    bool is_ours = check_status(c, node, status);
    json_decref(status);
    return is_ours;
}

static bool is_ready(const json_t *pod) {
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
        bool is_better =
            found == NULL || js_get(found, "metadata.deletionTimestamp") != NULL || is_ready(pod);
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
        } else if (!is_ready(pod)) {
            check_add(c, CHECK_ERROR, "daemonset", name, "see kubectl describe pod and its log",
                      "pod %s is not ready: %s", js_name(pod), waiting_reason(pod));
        } else {
            n_ready++;
        }
        if (pod != NULL && strcmp(js_str(pod, "status.phase", ""), "Running") == 0 &&
            n_asked < cluster->max_nodes) {
            n_asked++;
            n_others += ask(c, cluster->kubectl, pod, name) ? 0 : 1;
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
    json_t *pods = check_get(c, cluster->kubectl, "daemonset",
                             CHECK_ARGS("pods", "-n", js_ns(cluster->ztun), "-l", "app=ztunnel"));

    if (pods != NULL) {
        check_each_node(c, cluster, pods);
    }
    json_decref(pods);
    check_left_out(c, cluster);
}
