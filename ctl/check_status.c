// SPDX-License-Identifier: Apache-2.0
//
// What a ztun and a waypoint say of themselves: /status of the admin port.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/check.h"
#include "ctl/http_get.h"
#include "ctl/local_json.h"

enum { ADMIN_PORT = 15000, STATUS_MAX = 64 << 20, SHOWN_MAX = 10 };

static const char see_log[] = "see its log: kubectl logs";

static void check_istiod_stream(struct check *c, const char *node, const json_t *status) {
    const json_t *xds = json_object_get(status, "xds");

    if (xds == NULL) {
        check_add(c, CHECK_NOTE, "xds", node, NULL, "does not ask istiod");
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

static void check_head(struct check *c, const char *id, const char *object, const json_t *status,
                       const char *refusing) {
    if (!js_bool(status, "ready", false)) {
        const char *why = js_str(status, "notReadyBecause", "");
        check_add(c, CHECK_ERROR, id, object, see_log, "is not ready (%s)%s%s",
                  js_str(status, "state", ""), why[0] != '\0' ? ": " : "", why);
    }
    if (js_bool(status, refusing, false)) {
        check_add(c, CHECK_ERROR, "memory", object,
                  "raise the container's limit (chart value resources)",
                  "is at its limit of memory and takes no new connections");
    }
}

bool check_ztun_status(struct check *c, const char *node, const json_t *status) {
    if (json_object_get(status, "generation") == NULL) {
        return false;
    }
    check_head(c, "ztun", node, status, "refusesNewFlows");
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

// What a waypoint's own watches of the API server are at.
static void check_watches(struct check *c, const char *object, const json_t *status) {
    const json_t *kube = json_object_get(status, "kubernetes"), *watch;
    size_t i, n_bad = 0;

    if (kube == NULL) {
        return;
    }
    json_array_foreach(json_object_get(kube, "watches"), i, watch) {
        if (js_bool(watch, "needed", true) && !js_bool(watch, "synced", false) &&
            n_bad++ < SHOWN_MAX) {
            check_add(c, CHECK_ERROR, "waypoint-objects", object,
                      "see that its service account may list and watch them (the chart's roles)",
                      "does not have the %s: %s", js_str(watch, "resource", ""),
                      js_str(watch, "problem", js_str(watch, "state", "")));
        }
    }
    if (n_bad == 0) {
        check_add(c, CHECK_FINE, "waypoint-objects", object, NULL, "%lld objects",
                  js_int(kube, "objects", 0));
    }
}

bool check_waypoint_status(struct check *c, const char *object, const json_t *status) {
    if (json_object_get(status, "boundServices") == NULL) {
        return false;
    }
    check_head(c, "waypoint-pod", object, status, "refusesNewConnections");
    check_istiod_stream(c, object, status);
    check_watches(c, object, status);
    check_certificates(c, object, status);
    check_problems(c, object, status);
    return true;
}

// Asking

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

bool check_ask(struct check *c, const struct kubectl *k, const json_t *pod, const char *object,
               bool (*look)(struct check *c, const char *object, const json_t *status)) {
    struct kubectl_forward forward;
    char *error = NULL;
    json_t *status = NULL;
    bool is_open = kubectl_forward_open(k, js_ns(pod), js_name(pod), ADMIN_PORT, &forward, &error);

    if (is_open) {
        status = fetch_status(forward.port, &error);
        kubectl_forward_close(&forward);
    }
    if (status == NULL) {
        check_add(c, CHECK_WARNING, "status", object,
                  is_open ? see_log : "the account needs create of pods/portforward",
                  "could not be asked: %s", error);
        free(error);
        return true;
    }
    bool is_ours = look(c, object, status);
    json_decref(status);
    return is_ours;
}
