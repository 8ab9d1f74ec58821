// SPDX-License-Identifier: Apache-2.0
//
// StatefulSet, DaemonSet, Job.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/local_apply.h"
#include "ctl/local_json.h"
#include "ctl/local_pod.h"
#include "ctl/local_store.h"
#include "ctl/local_work.h"

static void set_label(json_t *pod, const char *key, const char *value) {
    json_object_set_new(js_object_at(pod, "metadata.labels"), key, json_string(value));
}

// volumeClaimTemplates: the claim of a replica, a directory that outlives its pods.
static void add_claims(const struct lab_object *set, json_t *pod) {
    size_t i;
    json_t *claim;
    json_array_foreach(js_get(set->doc, "spec.volumeClaimTemplates"), i, claim) {
        char *name = xasprintf("%s-%s", js_name(claim), js_name(pod));
        json_t *volume = json_object();
        js_set_str(volume, "name", js_name(claim));
        js_set_str(volume, "persistentVolumeClaim.claimName", name);
        json_array_append_new(js_array_at(pod, "spec.volumes"), volume);
        free(name);
    }
}

static bool add_replica(struct lab *lab, const struct lab_object *set, uint32_t ordinal,
                        const char *hash) {
    char number[16];
    snprintf(number, sizeof(number), "%u", ordinal);
    char *name = xasprintf("%s-%u", js_name(set->doc), ordinal);
    json_t *pod = lab_work_pod(set, name);
    set_label(pod, "controller-revision-hash", hash);
    set_label(pod, "statefulset.kubernetes.io/pod-name", name);
    set_label(pod, "apps.kubernetes.io/pod-index", number);
    js_set_str(pod, "spec.hostname", name);
    const char *service = js_str(set->doc, "spec.serviceName", "");
    if (service[0] != '\0') {
        js_set_str(pod, "spec.subdomain", service);
    }
    add_claims(set, pod);
    free(name);
    return lab_apply_pod(lab, pod) != NULL;
}

// Ascending creation and descending removal, one after the other unless the policy is Parallel;
// then replicas of an older template, from the last, while all others are ready.
void lab_work_stateful_set(struct lab *lab, struct lab_object *set) {
    uint32_t wanted = (uint32_t)MAX(js_int(set->doc, "spec.replicas", 1), 0);
    bool is_parallel = strcmp(js_str(set->doc, "spec.podManagementPolicy", ""), "Parallel") == 0;
    char hash[16];
    lab_work_hash(js_get(set->doc, "spec.template"), hash);
    bool may_go_on = true;
    struct lab_pod *outdated = NULL;
    int n_updated = 0;
    for (uint32_t i = 0; i < wanted && may_go_on; i++) {
        char *name = xasprintf("%s-%u", js_name(set->doc), i);
        struct lab_pod *pod = lab_pod_find(lab, js_ns(set->doc), name);
        free(name);
        if (pod == NULL) {
            may_go_on = add_replica(lab, set, i, hash) && is_parallel;
            continue;
        }
        if (pod->state == POD_DONE) {
            lab_pod_delete(pod, 0);
        }
        const char *own = js_label(pod->object->doc, "controller-revision-hash");
        if (own == NULL || strcmp(own, hash) != 0) {
            outdated = pod;
        } else {
            n_updated++;
        }
        may_go_on = is_parallel || (lab_pod_is_ready(pod) && lab_pod_is_active(pod));
    }
    struct lab_owned have = lab_work_count(lab, set);
    // Above the wanted number: the last first.
    for (uint32_t i = have.n + wanted; i-- > wanted;) {
        char *name = xasprintf("%s-%u", js_name(set->doc), i);
        struct lab_pod *pod = lab_pod_find(lab, js_ns(set->doc), name);
        free(name);
        if (pod != NULL && lab_is_owned_by(pod->object->doc, set)) {
            if (pod->state != POD_STOPPING) {
                lab_pod_delete(pod, -1);
            }
            if (!is_parallel) {
                break;
            }
        }
    }
    bool is_on_delete = strcmp(js_str(set->doc, "spec.updateStrategy.type", ""), "OnDelete") == 0;
    if (outdated != NULL && !is_on_delete && outdated->state != POD_STOPPING &&
        (may_go_on || !lab_pod_is_ready(outdated))) {
        lab_pod_delete(outdated, -1);
    }
    json_t *status =
        json_pack("{s:i, s:i, s:i, s:i, s:s, s:I}", "replicas", (int)have.n, "readyReplicas",
                  (int)have.n_ready, "availableReplicas", (int)have.n_ready, "updatedReplicas",
                  n_updated, "updateRevision", hash, "observedGeneration",
                  js_int(set->doc, "metadata.generation", 1));
    lab_work_status(lab, set, status);
}

static struct lab_pod *pod_on(struct lab *lab, const struct lab_object *set,
                              const struct lab_node *node) {
    LIST_EACH(at, &lab->pods) {
        struct lab_pod *pod = LAB_POD(at);
        if (lab_is_owned_by(pod->object->doc, set) &&
            strcmp(js_str(pod->object->doc, "spec.nodeName", ""), node->name) == 0) {
            return pod;
        }
    }
    return NULL;
}

void lab_work_daemon_set(struct lab *lab, struct lab_object *set) {
    const json_t *selector = js_get(set->doc, "spec.template.spec.nodeSelector");
    char hash[16];
    lab_work_hash(js_get(set->doc, "spec.template"), hash);
    struct lab_owned have = lab_work_count(lab, set);
    uint32_t wanted = 0;
    int n_updated = 0;
    struct lab_pod *outdated = NULL;
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        struct lab_node *node = &lab->nodes[i];
        struct lab_pod *pod = pod_on(lab, set, node);
        bool is_here = json_object_size(selector) == 0 ||
                       js_selector_matches(selector, js_get(node->object->doc, "metadata.labels"));
        wanted += is_here;
        if (is_here && pod == NULL) {
            json_t *doc = lab_work_pod(set, NULL);
            set_label(doc, "controller-revision-hash", hash);
            js_set_str(doc, "spec.nodeName", node->name);
            if (lab_apply_pod(lab, doc) == NULL) {
                return;
            }
        } else if (pod != NULL && (!is_here || pod->state == POD_DONE)) {
            lab_pod_delete(pod, -1);
        } else if (pod != NULL && pod->state != POD_STOPPING) {
            const char *own = js_label(pod->object->doc, "controller-revision-hash");
            bool is_updated = own != NULL && strcmp(own, hash) == 0;
            outdated = is_updated ? outdated : pod;
            n_updated += is_updated;
        }
    }
    if (outdated != NULL && have.n_ready == wanted) {
        lab_pod_delete(outdated, -1);
    }
    json_t *status =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:I}", "desiredNumberScheduled", (int)wanted,
                  "currentNumberScheduled", (int)have.n_active, "numberReady", (int)have.n_ready,
                  "numberAvailable", (int)have.n_ready, "updatedNumberScheduled", n_updated,
                  "observedGeneration", js_int(set->doc, "metadata.generation", 1));
    lab_work_status(lab, set, status);
}

void lab_work_job(struct lab *lab, struct lab_object *job) {
    long long completions = js_int(job->doc, "spec.completions", 1);
    long long parallelism = js_int(job->doc, "spec.parallelism", 1);
    long long limit = js_int(job->doc, "spec.backoffLimit", 6);
    long long n_ok = 0, n_failed = 0, n_active = 0;
    LIST_EACH(node, &lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        if (lab_is_owned_by(pod->object->doc, job)) {
            n_ok += pod->state == POD_DONE && !pod->is_failed;
            n_failed += pod->state == POD_DONE && pod->is_failed;
            n_active += lab_pod_is_active(pod);
        }
    }
    bool is_over = n_ok >= completions || n_failed > limit;
    while (!is_over && n_active < MIN(parallelism, completions - n_ok)) {
        json_t *doc = lab_work_pod(job, NULL);
        set_label(doc, "batch.kubernetes.io/job-name", js_name(job->doc));
        if (strcmp(js_str(doc, "spec.restartPolicy", ""), "OnFailure") != 0) {
            js_set_str(doc, "spec.restartPolicy", "Never");
        }
        if (lab_apply_pod(lab, doc) == NULL) {
            break;
        }
        n_active++;
    }
    json_t *status =
        json_pack("{s:I, s:I, s:I}", "active", n_active, "succeeded", n_ok, "failed", n_failed);
    if (is_over) {
        js_set(status, "conditions",
               json_pack("[{s:s, s:s}]", "type", n_ok >= completions ? "Complete" : "Failed",
                         "status", "True"));
    }
    lab_work_status(lab, job, status);
}
