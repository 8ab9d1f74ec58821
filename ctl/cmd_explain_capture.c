// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "common/mesh/kobj.h"
#include "common/mesh/schema.h"
#include "ctl/cmd_explain.h"

// ---- the source --------------------------------------------------------------------------------

struct search {
    struct slice ns, name;
    struct workload *exact, *owned, *nearest;
    unsigned distance;
};

static bool look(void *arg, void *value) {
    struct search *search = arg;
    struct workload *workload = value;
    if (!slice_eq_str(search->ns, workload->ns)) {
        return true;
    }
    if (slice_eq_str(search->name, workload->name)) {
        search->exact = workload;
        return false;
    }
    // Of several, always the same one.
    if (slice_eq_str(search->name, workload_owner_name(workload)) &&
        (search->owned == NULL || strcmp(workload->name, search->owned->name) < 0)) {
        search->owned = workload;
    }
    unsigned distance =
        schema_distance((const char *)search->name.ptr, workload->name, search->distance);
    if (distance < search->distance) {
        search->distance = distance;
        search->nearest = workload;
    }
    return true;
}

struct workload *explain_find_pod(const struct snapshot *snap, const char *name, char **ret_error) {
    struct search search = {.name = slice_str(name)};
    struct slice head, tail;
    search.ns = SLICE_LIT("default");
    if (slice_split(search.name, '/', &head, &tail)) {
        search.ns = head;
        search.name = tail;
    }
    search.distance = schema_max_distance((const char *)search.name.ptr) + 1;
    pmap_each(&snap->workloads, look, &search);
    struct workload *found = search.exact != NULL ? search.exact : search.owned;
    if (found == NULL) {
        *ret_error = search.nearest != NULL
                         ? xasprintf("there is no pod `%s` (did you mean `%s/%s`?)", name,
                                     search.nearest->ns, search.nearest->name)
                         : xasprintf("there is no pod `%s`", name);
    }
    return found;
}

// ---- capture -----------------------------------------------------------------------------------

// Why a pod is in the mesh or not, as the builder sees it (istio-cni's rules).
static char *enrolment_reason(const struct explain *explain, const struct workload *workload) {
    static const char key[] = "istio.io/dataplane-mode";
    const struct kobj *pod =
        config_store_get(explain->store, KOBJ_POD, workload->ns, workload->name);
    const struct kobj *ns = config_store_get(explain->store, KOBJ_NAMESPACE, "", workload->ns);
    if (pod == NULL) {
        return xstrdup("it is no pod");
    }
    if (workload->is_host_network) {
        return xstrdup("it uses the node's network (hostNetwork)");
    }
    if (kobj_map_get(&pod->meta.annotations, "sidecar.istio.io/status") != NULL) {
        return xstrdup("it has a sidecar (annotation sidecar.istio.io/status)");
    }
    if (strcmp(workload->ns, "kube-system") == 0) {
        return xstrdup("namespace kube-system is left out");
    }
    const char *own = kobj_map_get(&pod->meta.labels, key);
    const char *inherited = ns != NULL ? kobj_map_get(&ns->meta.labels, key) : NULL;
    if (own != NULL) {
        return xasprintf("the pod has the label %s=%s", key, own);
    }
    if (inherited != NULL) {
        return xasprintf("namespace %s has the label %s=%s", workload->ns, key, inherited);
    }
    return xasprintf("neither the pod nor namespace %s has the label %s=ambient", workload->ns,
                     key);
}

bool explain_is_captured(const struct explain *explain, const struct workload *workload,
                         bool is_outbound, char **ret_reason) {
    char *reason = enrolment_reason(explain, workload);
    bool is_captured = workload->is_enrolled && !workload->is_host_network;
    if (!is_outbound && is_captured && workload->bypass_inbound_capture) {
        free(reason);
        *ret_reason = xstrdup("annotation ambient.istio.io/bypass-inbound-capture");
        return false;
    }
    if (is_captured && workload->common->local->netns[0] == '\0') {
        *ret_reason =
            xasprintf("%s; without the annotation ztun.io/netns only istio-cni enrols it", reason);
        free(reason);
        return true;
    }
    *ret_reason = reason;
    return is_captured;
}
