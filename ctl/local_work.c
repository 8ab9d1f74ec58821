// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/local_apply.h"
#include "ctl/local_gateway.h"
#include "ctl/local_json.h"
#include "ctl/local_pod.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

void lab_work_hash(const json_t *template, char ret_hash[16]) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    uint64_t hash = js_hash(template);
    size_t i = 0;
    for (; i < 9; i++) {
        ret_hash[i] = alphabet[hash % (sizeof(alphabet) - 1)];
        hash /= sizeof(alphabet) - 1;
    }
    ret_hash[i] = '\0';
}

json_t *lab_work_pod(const struct lab_object *owner, const char *name) {
    json_t *template = js_get(owner->doc, "spec.template");
    json_t *pod = json_object();
    js_set_str(pod, "apiVersion", "v1");
    js_set_str(pod, "kind", "Pod");
    json_t *meta = json_deep_copy(json_object_get(template, "metadata"));
    json_object_set_new(pod, "metadata", json_is_object(meta) ? meta : json_object());
    if (meta != NULL && !json_is_object(meta)) {
        json_decref(meta);
    }
    char suffix[6];
    sys_random_name(suffix, 5);
    char *made = name != NULL ? xstrdup(name) : xasprintf("%s-%s", js_name(owner->doc), suffix);
    js_set_str(pod, "metadata.name", made);
    free(made);
    js_set_str(pod, "metadata.namespace", js_ns(owner->doc));
    js_set(pod, "metadata.ownerReferences", lab_owner_references(owner));
    json_t *spec = json_deep_copy(json_object_get(template, "spec"));
    json_object_set_new(pod, "spec", json_is_object(spec) ? spec : json_object());
    return pod;
}

struct lab_owned lab_work_count(struct lab *lab, const struct lab_object *owner) {
    struct lab_owned count = {0};
    LIST_EACH(node, &lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        if (lab_is_owned_by(pod->object->doc, owner)) {
            count.n++;
            count.n_active += lab_pod_is_active(pod);
            count.n_ready += lab_pod_is_active(pod) && lab_pod_is_ready(pod);
        }
    }
    return count;
}

void lab_work_status(struct lab *lab, struct lab_object *object, json_t *status) {
    if (!json_equal(json_object_get(object->doc, "status"), status)) {
        json_object_set(object->doc, "status", status);
        lab_store_touch(lab, object);
    }
    json_decref(status);
}

// ReplicaSet

// Those that serve least go first: without node, not ready, youngest.
static struct lab_pod *pick_victim(struct lab *lab, const struct lab_object *set) {
    struct lab_pod *victim = NULL;
    int best = -1;
    LIST_EACH(node, &lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        if (!lab_is_owned_by(pod->object->doc, set) || !lab_pod_is_active(pod)) {
            continue;
        }
        int score = pod->node == NULL ? 2 : !lab_pod_is_ready(pod) ? 1 : 0;
        if (score >= best) { // the list is in order of age
            best = score;
            victim = pod;
        }
    }
    return victim;
}

// A finished pod of a set is replaced, and does not stay.
static void drop_finished(struct lab *lab, const struct lab_object *set) {
    LIST_EACH(node, &lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        if (pod->state == POD_DONE && lab_is_owned_by(pod->object->doc, set)) {
            lab_pod_delete(pod, 0);
        }
    }
}

static void reconcile_replica_set(struct lab *lab, struct lab_object *set) {
    drop_finished(lab, set);
    uint32_t wanted = (uint32_t)MAX(js_int(set->doc, "spec.replicas", 1), 0);
    struct lab_owned have = lab_work_count(lab, set);
    for (uint32_t i = have.n_active; i < wanted; i++) {
        if (lab_apply_pod(lab, lab_work_pod(set, NULL)) == NULL) {
            break;
        }
    }
    for (uint32_t i = wanted; i < have.n_active; i++) {
        lab_pod_delete(pick_victim(lab, set), -1);
    }
    have = lab_work_count(lab, set);
    json_t *status = json_pack("{s:i, s:i, s:i, s:i, s:I}", "replicas", (int)have.n_active,
                               "fullyLabeledReplicas", (int)have.n_active, "readyReplicas",
                               (int)have.n_ready, "availableReplicas", (int)have.n_ready,
                               "observedGeneration", js_int(set->doc, "metadata.generation", 1));
    lab_work_status(lab, set, status);
}

// Deployment

struct rollout {
    struct lab_object *current; // the ReplicaSet of this template
    uint32_t n_old_active, n_old_ready, n_old_wanted; // of all others
    uint32_t n_new_active, n_new_ready, n_new_wanted;
};

static uint32_t replicas_of(const struct lab_object *object) {
    return (uint32_t)MAX(js_int(object->doc, "spec.replicas", 1), 0);
}

static void set_replicas(struct lab *lab, struct lab_object *set, uint32_t n) {
    if (replicas_of(set) != n) {
        js_set(set->doc, "spec.replicas", json_integer(n));
        lab_store_touch(lab, set);
    }
}

static struct lab_object *make_replica_set(struct lab *lab, const struct lab_object *deployment,
                                           const char *hash) {
    json_t *set = json_object(), *doc = deployment->doc;
    json_t *labels = json_deep_copy(js_get(doc, "spec.template.metadata.labels"));
    labels = labels != NULL ? labels : json_object();
    json_object_set_new(labels, "pod-template-hash", json_string(hash));
    char *name = xasprintf("%s-%s", js_name(doc), hash);
    js_set_str(set, "apiVersion", "apps/v1");
    js_set_str(set, "kind", "ReplicaSet");
    js_set_str(set, "metadata.name", name);
    js_set_str(set, "metadata.namespace", js_ns(doc));
    js_set(set, "metadata.labels", labels);
    js_set(set, "metadata.ownerReferences", lab_owner_references(deployment));
    js_set(set, "spec.replicas", json_integer(0));
    js_set(set, "spec.selector", json_deep_copy(js_get(doc, "spec.selector")));
    json_object_set_new(js_object_at(set, "spec.selector.matchLabels"), "pod-template-hash",
                        json_string(hash));
    js_set(set, "spec.template", json_deep_copy(js_get(doc, "spec.template")));
    js_set(set, "spec.template.metadata.labels", json_deep_copy(labels));
    free(name);
    const char *cause = js_annotation(doc, "kubernetes.io/change-cause");
    if (cause != NULL) {
        js_set_annotation(set, "kubernetes.io/change-cause", cause);
    }
    return lab_store_add(lab, set, false);
}

static bool is_set_of(const struct lab_object *object, const struct lab_object *deployment) {
    return strcmp(js_kind(object->doc), "ReplicaSet") == 0 &&
           lab_is_owned_by(object->doc, deployment);
}

static const char revision_key[] = "deployment.kubernetes.io/revision";

static long long revision_of(const struct lab_object *set) {
    const char *text = js_annotation(set->doc, revision_key);
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

// The template in force has the highest revision, also when it is an old one again.
static void number_revision(struct lab *lab, const struct lab_object *deployment,
                            struct lab_object *current) {
    long long most = 0;
    LIST_EACH(node, &lab->objects) {
        struct lab_object *set = LAB_OBJECT(node);
        if (set != current && is_set_of(set, deployment)) {
            most = MAX(most, revision_of(set));
        }
    }
    if (revision_of(current) <= most) {
        char text[24];
        snprintf(text, sizeof(text), "%lld", most + 1);
        js_set_annotation(current->doc, revision_key, text);
        lab_store_touch(lab, current);
    }
}

// Old sets without pods stay for `rollout undo`, as many as revisionHistoryLimit says.
static void trim_history(struct lab *lab, const struct lab_object *deployment,
                         const struct lab_object *current) {
    long long limit = js_int(deployment->doc, "spec.revisionHistoryLimit", 10);
    for (;;) {
        struct lab_object *oldest = NULL;
        long long n = 0;
        LIST_EACH(node, &lab->objects) {
            struct lab_object *set = LAB_OBJECT(node);
            if (set == current || !is_set_of(set, deployment) || replicas_of(set) > 0 ||
                lab_work_count(lab, set).n > 0) {
                continue;
            }
            n++;
            if (oldest == NULL || revision_of(set) < revision_of(oldest)) {
                oldest = set;
            }
        }
        if (n <= limit) {
            return;
        }
        lab_store_remove(lab, oldest);
    }
}

static struct rollout look(struct lab *lab, const struct lab_object *deployment) {
    struct rollout r = {0};
    char hash[16];
    lab_work_hash(js_get(deployment->doc, "spec.template"), hash);
    LIST_EACH(node, &lab->objects) {
        struct lab_object *set = LAB_OBJECT(node);
        if (!is_set_of(set, deployment)) {
            continue;
        }
        const char *own = js_label(set->doc, "pod-template-hash");
        struct lab_owned have = lab_work_count(lab, set);
        if (own != NULL && strcmp(own, hash) == 0) {
            r.current = set;
            r.n_new_active = have.n_active;
            r.n_new_ready = have.n_ready;
            r.n_new_wanted = replicas_of(set);
        } else {
            r.n_old_active += have.n_active;
            r.n_old_ready += have.n_ready;
            r.n_old_wanted += replicas_of(set);
        }
    }
    if (r.current == NULL) {
        r.current = make_replica_set(lab, deployment, hash);
    }
    number_revision(lab, deployment, r.current);
    return r;
}

// Takes up to n pods from the old sets.
static void shrink_old(struct lab *lab, const struct lab_object *deployment,
                       const struct lab_object *current, uint32_t n, bool is_unready_only) {
    LIST_EACH(node, &lab->objects) {
        struct lab_object *set = LAB_OBJECT(node);
        if (set == current || !is_set_of(set, deployment)) {
            continue;
        }
        struct lab_owned have = lab_work_count(lab, set);
        uint32_t wanted = replicas_of(set);
        uint32_t n_unready = wanted > have.n_ready ? wanted - have.n_ready : 0;
        uint32_t take = MIN(n, is_unready_only ? n_unready : wanted);
        set_replicas(lab, set, wanted - take);
        n -= take;
    }
}

static void roll(struct lab *lab, struct lab_object *deployment, const struct rollout *r,
                 uint32_t wanted) {
    const json_t *strategy = js_get(deployment->doc, "spec.strategy");
    if (strcmp(js_str(strategy, "type", ""), "Recreate") == 0) {
        shrink_old(lab, deployment, r->current, UINT32_MAX, false);
        // An old pod that is still stopping counts: it must have gone.
        bool is_old_gone = r->n_old_wanted == 0;
        LIST_EACH(node, &lab->objects) {
            struct lab_object *set = LAB_OBJECT(node);
            if (set != r->current && is_set_of(set, deployment)) {
                is_old_gone = is_old_gone && lab_work_count(lab, set).n == 0;
            }
        }
        if (is_old_gone) {
            set_replicas(lab, r->current, wanted);
        }
        return;
    }
    char number[32];
    const json_t *rolling = js_get(strategy, "rollingUpdate");
    uint32_t surge = text_share(js_text(js_get(rolling, "maxSurge"), number, sizeof(number)),
                                wanted, true, text_share("25%", wanted, true, 1));
    uint32_t missing =
        text_share(js_text(js_get(rolling, "maxUnavailable"), number, sizeof(number)), wanted,
                   false, text_share("25%", wanted, false, 0));
    if (surge == 0 && missing == 0) {
        missing = 1;
    }
    uint32_t total = r->n_old_wanted + r->n_new_wanted, most = wanted + surge;
    uint32_t room = most > total ? most - total : 0;
    if (r->n_new_wanted > wanted) {
        set_replicas(lab, r->current, wanted);
    } else {
        set_replicas(lab, r->current, MIN(wanted, r->n_new_wanted + room));
    }
    // Old pods that are not ready serve nobody; of the others as many as may be missing.
    shrink_old(lab, deployment, r->current, UINT32_MAX, true);
    uint32_t n_ready = r->n_old_ready + r->n_new_ready;
    uint32_t least = wanted > missing ? wanted - missing : 0;
    shrink_old(lab, deployment, r->current, n_ready > least ? n_ready - least : 0, false);
}

static void reconcile_deployment(struct lab *lab, struct lab_object *deployment) {
    struct rollout r = look(lab, deployment);
    uint32_t wanted = replicas_of(deployment);
    if (!js_bool(deployment->doc, "spec.paused", false)) {
        roll(lab, deployment, &r, wanted);
    }
    trim_history(lab, deployment, r.current);
    uint32_t n_ready = r.n_old_ready + r.n_new_ready;
    json_t *status = json_pack("{s:i, s:i, s:i, s:i, s:I, s:[{s:s, s:s}]}", "replicas",
                               (int)(r.n_old_active + r.n_new_active), "updatedReplicas",
                               (int)r.n_new_active, "readyReplicas", (int)n_ready,
                               "availableReplicas", (int)n_ready, "observedGeneration",
                               js_int(deployment->doc, "metadata.generation", 1), "conditions",
                               "type", "Available", "status", n_ready >= wanted ? "True" : "False");
    lab_work_status(lab, deployment, status);
}

// An object whose owner has gone goes too. What a user applied with an owner that never was stays.
static void collect_garbage(struct lab *lab) {
    LIST_EACH_SAFE(node, &lab->objects) {
        struct lab_object *object = LAB_OBJECT(node);
        const json_t *owner = object->is_user ? NULL : lab_owner(object->doc);
        if (owner == NULL) {
            continue;
        }
        struct lab_object *found = lab_store_find(lab, js_str(owner, "kind", ""),
                                                  js_ns(object->doc), js_str(owner, "name", ""));
        if (found != NULL && lab_is_owned_by(object->doc, found)) {
            continue;
        }
        struct lab_pod *pod = strcmp(js_kind(object->doc), "Pod") == 0
                                  ? lab_pod_find(lab, js_ns(object->doc), js_name(object->doc))
                                  : NULL;
        if (pod != NULL) {
            if (pod->state != POD_STOPPING) {
                lab_pod_delete(pod, -1);
            }
        } else {
            lab_store_remove(lab, object);
        }
    }
}

static void each_kind(struct lab *lab, const char *kind,
                      void (*fn)(struct lab *lab, struct lab_object *object)) {
    // What fn adds is behind us in the list; what it removes is of another kind or later.
    struct lab_object *batch[256];
    size_t n = 0;
    LIST_EACH(node, &lab->objects) {
        if (n < ARRAY_LEN(batch) && strcmp(js_kind(LAB_OBJECT(node)->doc), kind) == 0) {
            batch[n++] = LAB_OBJECT(node);
        }
    }
    for (size_t i = 0; i < n; i++) {
        fn(lab, batch[i]);
    }
}

void lab_work_reconcile(struct lab *lab) {
    collect_garbage(lab);
    lab_gateway_reconcile(lab);
    each_kind(lab, "Deployment", reconcile_deployment);
    each_kind(lab, "ReplicaSet", reconcile_replica_set);
    each_kind(lab, "StatefulSet", lab_work_stateful_set);
    each_kind(lab, "DaemonSet", lab_work_daemon_set);
    each_kind(lab, "Job", lab_work_job);
}
