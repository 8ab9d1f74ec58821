// SPDX-License-Identifier: Apache-2.0
//
// ztunctl local rollout

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_json.h"
#include "ctl/local_text.h"
#include "ctl/local_verbs_priv.h"

enum { ROLLOUT_POLL_US = 50000 };

// What is missing, as kubectl says it; NULL = the roll-out is done. The caller frees. Likewise
// below.
static char *deployment_text(const json_t *doc) {
    const char *name = js_name(doc);
    long long wanted = js_int(doc, "spec.replicas", 1);
    long long updated = js_int(doc, "status.updatedReplicas", 0);
    long long all = js_int(doc, "status.replicas", 0);
    long long available = js_int(doc, "status.availableReplicas", 0);
    if (js_int(doc, "metadata.generation", 1) > js_int(doc, "status.observedGeneration", 0)) {
        return xasprintf("Waiting for deployment spec update to be observed...");
    }
    if (updated < wanted) {
        return xasprintf("Waiting for deployment \"%s\" rollout to finish: %lld out of %lld new "
                         "replicas have been updated...",
                         name, updated, wanted);
    }
    if (all > updated) {
        return xasprintf("Waiting for deployment \"%s\" rollout to finish: %lld old replicas are "
                         "pending termination...",
                         name, all - updated);
    }
    if (available < updated) {
        return xasprintf("Waiting for deployment \"%s\" rollout to finish: %lld of %lld updated "
                         "replicas are available...",
                         name, available, updated);
    }
    return NULL;
}

static char *daemon_set_text(const json_t *doc) {
    const char *name = js_name(doc);
    long long wanted = js_int(doc, "status.desiredNumberScheduled", 0);
    long long updated = js_int(doc, "status.updatedNumberScheduled", 0);
    long long available = js_int(doc, "status.numberAvailable", 0);
    if (js_int(doc, "metadata.generation", 1) > js_int(doc, "status.observedGeneration", 0)) {
        return xasprintf("Waiting for daemon set spec update to be observed...");
    }
    if (updated < wanted) {
        return xasprintf(
            "Waiting for daemon set \"%s\" rollout to finish: %lld out of %lld new pods "
            "have been updated...",
            name, updated, wanted);
    }
    if (available < wanted) {
        return xasprintf("Waiting for daemon set \"%s\" rollout to finish: %lld of %lld updated "
                         "pods are available...",
                         name, available, wanted);
    }
    return NULL;
}

static char *stateful_set_text(const json_t *doc) {
    long long wanted = js_int(doc, "spec.replicas", 1);
    long long ready = js_int(doc, "status.readyReplicas", 0);
    long long updated = js_int(doc, "status.updatedReplicas", 0);
    if (js_int(doc, "metadata.generation", 1) > js_int(doc, "status.observedGeneration", 0)) {
        return xasprintf("Waiting for statefulset spec update to be observed...");
    }
    if (ready < wanted) {
        return xasprintf("Waiting for %lld pods to be ready...", wanted - ready);
    }
    if (updated < wanted) {
        return xasprintf("waiting for statefulset rolling update to complete %lld pods at revision "
                         "%s-%s...",
                         updated, js_name(doc), js_str(doc, "status.updateRevision", ""));
    }
    return NULL;
}

static char *missing(const char *kind, const json_t *doc) {
    return strcmp(kind, "Deployment") == 0    ? deployment_text(doc)
           : strcmp(kind, "StatefulSet") == 0 ? stateful_set_text(doc)
                                              : daemon_set_text(doc);
}

static void say_done(const char *kind, const json_t *doc) {
    if (strcmp(kind, "StatefulSet") == 0) {
        printf("statefulset rolling update complete %lld pods at revision %s-%s...\n",
               js_int(doc, "status.updatedReplicas", 0), js_name(doc),
               js_str(doc, "status.updateRevision", ""));
    } else {
        printf("%s \"%s\" successfully rolled out\n",
               strcmp(kind, "DaemonSet") == 0 ? "daemon set" : "deployment", js_name(doc));
    }
}

static int rollout_status(const struct verb_args *a, const struct verb_target *target) {
    uint64_t deadline = clock_mono_ns() + (uint64_t)a->timeout_s * NS_PER_SEC;
    char *said = NULL;
    int code = -1;
    while (code < 0) {
        json_t *doc = verb_object(a->dir, target);
        char *text = doc != NULL ? missing(target->kind, doc) : NULL;
        if (doc == NULL) {
            code = 1;
        } else if (text == NULL) {
            say_done(target->kind, doc);
            code = 0;
        } else if (said == NULL || strcmp(said, text) != 0) {
            printf("%s\n", text);
            fflush(stdout);
        }
        if (code < 0 && a->timeout_s > 0 && clock_mono_ns() > deadline) {
            code = verb_error("timed out waiting for the condition");
        }
        free(said);
        said = text;
        json_decref(doc);
        if (code < 0) {
            usleep(ROLLOUT_POLL_US);
        }
    }
    free(said);
    return code;
}

// History: the ReplicaSets of a Deployment, by their revision

static long long revision_of(const json_t *set) {
    const char *text = js_annotation(set, "deployment.kubernetes.io/revision");
    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static int by_revision(const void *left, const void *right) {
    long long a = revision_of(*(json_t *const *)left), b = revision_of(*(json_t *const *)right);
    return (a > b) - (a < b);
}

// Oldest first. The caller frees the array and *ret_items, which holds them.
static json_t **sets_of(const struct verb_args *a, const struct verb_target *target,
                        json_t **ret_items, size_t *ret_n) {
    *ret_items = verb_items(a->dir, "ReplicaSet", target->ns, NULL);
    json_t **sets = xcalloc(json_array_size(*ret_items) + 1, sizeof(json_t *)), *set;
    size_t i, n = 0;
    json_array_foreach(*ret_items, i, set) {
        const json_t *owner = json_array_get(js_get(set, "metadata.ownerReferences"), 0);
        if (strcmp(js_str(owner, "kind", ""), "Deployment") == 0 &&
            strcmp(js_str(owner, "name", ""), target->name) == 0) {
            sets[n++] = set;
        }
    }
    qsort(sets, n, sizeof(json_t *), by_revision);
    *ret_n = n;
    return sets;
}

static int history(const struct verb_args *a, const struct verb_target *target) {
    json_t *doc = verb_object(a->dir, target), *items = NULL;
    if (doc == NULL) {
        return 1;
    }
    json_decref(doc);
    size_t n;
    json_t **sets = sets_of(a, target, &items, &n);
    printf("deployment.apps/%s \nREVISION  CHANGE-CAUSE\n", target->name);
    for (size_t i = 0; i < n; i++) {
        const char *cause = js_annotation(sets[i], "kubernetes.io/change-cause");
        printf("%-10lld%s\n", revision_of(sets[i]), cause != NULL ? cause : "<none>");
    }
    printf("\n");
    free(sets);
    json_decref(items);
    return 0;
}

// The wanted revision, or the one before the last. NULL: said why.
static const json_t *pick(const struct verb_args *a, const struct verb_target *target,
                          json_t *const *sets, size_t n) {
    for (size_t i = 0; a->revision > 0 && i < n; i++) {
        if (revision_of(sets[i]) == a->revision) {
            return sets[i];
        }
    }
    if (a->revision > 0) {
        verb_error("unable to find specified revision %ld in history", a->revision);
    } else if (n < 2) {
        verb_error("no rollout history found for deployment \"%s\"", target->name);
    } else {
        return sets[n - 2];
    }
    return NULL;
}

static int undo(const struct verb_args *a, const struct verb_target *target) {
    json_t *doc = verb_object(a->dir, target), *items = NULL;
    if (doc == NULL) {
        return 1;
    }
    size_t n;
    json_t **sets = sets_of(a, target, &items, &n);
    const json_t *set = pick(a, target, sets, n);
    int code = 1;
    if (set != NULL) {
        json_t *template = json_deep_copy(js_get(set, "spec.template"));
        json_object_del(js_get(template, "metadata.labels"), "pod-template-hash");
        if (json_equal(template, js_get(doc, "spec.template"))) {
            printf("deployment.apps/%s skipped rollback (current template already matches revision "
                   "%lld)\n",
                   target->name, revision_of(set));
            json_decref(template);
            code = 0;
        } else {
            json_t *wanted = json_deep_copy(doc);
            js_set(wanted, "spec.template", template);
            code = verb_send_patch(a->dir, target, "replace", wanted, "rolled back");
        }
    }
    free(sets);
    json_decref(items);
    json_decref(doc);
    return code;
}

static int restart(const struct verb_args *a, const struct verb_target *target) {
    json_t *answer =
        verb_ask(a->dir, json_pack("{s:s, s:s, s:s, s:s}", "cmd", "restart", "kind", target->kind,
                                   "ns", target->ns, "name", target->name));
    if (answer != NULL) {
        fputs(js_str(answer, "text", ""), stdout);
    }
    json_decref(answer);
    return answer != NULL ? 0 : 1;
}

int verb_rollout(const struct verb_args *a) {
    static const struct {
        const char *name;
        bool is_of_all; // also of StatefulSets and DaemonSets
        int (*fn)(const struct verb_args *a, const struct verb_target *target);
    } words[] = {{"status", true, rollout_status},
                 {"restart", true, restart},
                 {"history", false, history},
                 {"undo", false, undo}};
    struct verb_target target;
    int at = 1, code = 1;
    const char *what = a->n_rest > 0 ? a->rest[0] : "";
    size_t i = 0;
    while (i < ARRAY_LEN(words) && strcmp(words[i].name, what) != 0) {
        i++;
    }
    if (i == ARRAY_LEN(words)) {
        return verb_error("`rollout status`, `history`, `undo` and `restart` are known here");
    }
    if (!verb_target(a, &at, NULL, &target)) {
        return 1;
    }
    bool is_set = strcmp(target.kind, "StatefulSet") == 0 || strcmp(target.kind, "DaemonSet") == 0;
    if (strcmp(target.kind, "Deployment") == 0 || (is_set && words[i].is_of_all)) {
        code = words[i].fn(a, &target);
    } else if (i == 0) {
        verb_error("no status viewer has been implemented for %s", target.kind);
    } else {
        verb_error("`rollout %s` is for Deployments here, not for a %s", what, target.kind);
    }
    free(target.ns);
    return code;
}
