// SPDX-License-Identifier: Apache-2.0
//
// ztunctl local describe

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl/local_json.h"
#include "ctl/local_select.h"
#include "ctl/local_table.h"
#include "ctl/local_tabs.h"
#include "ctl/local_text.h"
#include "ctl/local_verbs_priv.h"

enum { DEPTH_MAX = 32 };

struct output {
    const struct verb_args *args;
    struct text text; // with tabs between the cells
};

// Values

// RFC 1123 with a numeric zone, as kubectl shows times.
static char *time_text(const char *stamp) {
    struct tm tm = {0};
    char out[64];
    if (strptime(stamp, "%Y-%m-%dT%H:%M:%SZ", &tm) == NULL ||
        strftime(out, sizeof(out), "%a, %d %b %Y %H:%M:%S +0000", &tm) == 0) {
        return xstrdup(stamp);
    }
    return xstrdup(out);
}

static void put_time(struct text *out, const char *label, const char *stamp) {
    char *text = time_text(stamp);
    text_add(out, "%s:\t%s\n", label, text);
    free(text);
}

static int by_key(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

// The keys of a map in their order; the caller frees the array.
static const char **sorted_keys(const json_t *map, size_t *ret_n) {
    const char **keys = xcalloc(json_object_size(map) + 1, sizeof(*keys)), *key;
    json_t *value;
    *ret_n = 0;
    json_object_foreach((json_t *)map, key, value) {
        keys[(*ret_n)++] = key;
    }
    qsort(keys, *ret_n, sizeof(*keys), by_key);
    return keys;
}

// "Labels:\ta=b\n\tc=d\n": a pair on each line.
static void put_map(struct text *out, const char *label, const json_t *map, const char *between) {
    size_t n;
    const char **keys = sorted_keys(map, &n);
    text_add(out, "%s:\t", label);
    for (size_t i = 0; i < n; i++) {
        text_add(out, "%s%s%s%s\n", i > 0 ? "\t" : "", keys[i], between,
                 json_string_value(json_object_get(map, keys[i])));
    }
    if (n == 0) {
        text_add(out, "<none>\n");
    }
    free(keys);
}

// "a=b,c=d"
static void put_selector(struct text *out, const char *label, const json_t *map) {
    size_t n;
    const char **keys = sorted_keys(map, &n);
    text_add(out, "%s:\t%s", label, n == 0 ? "<none>" : "");
    for (size_t i = 0; i < n; i++) {
        text_add(out, "%s%s=%s", i > 0 ? "," : "", keys[i],
                 json_string_value(json_object_get(map, keys[i])));
    }
    text_add(out, "\n");
    free(keys);
}

static void put_meta(struct text *out, const json_t *doc) {
    put_map(out, "Labels", js_get(doc, "metadata.labels"), "=");
    put_map(out, "Annotations", js_get(doc, "metadata.annotations"), ": ");
}

static void put_conditions(struct text *out, const json_t *doc) {
    size_t i;
    json_t *condition;
    json_array_foreach(js_get(doc, "status.conditions"), i, condition) {
        text_add(out, "%s  %s\t%s\n", i == 0 ? "Conditions:\n  Type\tStatus\n  ----\t------\n" : "",
                 js_str(condition, "type", ""), js_str(condition, "status", ""));
    }
}

// Pods and their templates

static void put_state(struct text *out, const char *label, const json_t *state) {
    const json_t *running = json_object_get(state, "running");
    const json_t *ended = json_object_get(state, "terminated");
    const char *reason = js_str(state, "waiting.reason", js_str(ended, "reason", NULL));
    text_add(out, "    %s:\t%s\n", label,
             running != NULL ? "Running"
             : ended != NULL ? "Terminated"
                             : "Waiting");
    if (reason != NULL) {
        text_add(out, "      Reason:\t%s\n", reason);
    }
    if (running != NULL) {
        put_time(out, "      Started", js_str(running, "startedAt", ""));
    }
    if (ended != NULL) {
        text_add(out, "      Exit Code:\t%lld\n", js_int(ended, "exitCode", 0));
        put_time(out, "      Started", js_str(ended, "startedAt", ""));
        put_time(out, "      Finished", js_str(ended, "finishedAt", ""));
    }
}

static void put_words(struct text *out, const char *label, const json_t *words) {
    size_t i;
    json_t *word;
    json_array_foreach((json_t *)words, i, word) {
        text_add(out, "%s%s%s      %s\n", i == 0 ? "    " : "", i == 0 ? label : "",
                 i == 0 ? ":\n" : "", json_string_value(word));
    }
}

static void put_env(struct text *out, const json_t *env) {
    size_t i;
    json_t *item;
    if (json_array_size(env) == 0) {
        text_add(out, "    Environment:\t<none>\n");
        return;
    }
    text_add(out, "    Environment:\n");
    json_array_foreach((json_t *)env, i, item) {
        const char *from = js_str(item, "valueFrom.fieldRef.fieldPath", NULL);
        text_add(out, "      %s:\t", js_str(item, "name", ""));
        if (from != NULL) {
            text_add(out, " (v1:%s)\n", from);
        } else {
            text_add(out, "%s\n", js_str(item, "value", ""));
        }
    }
}

static void put_mounts(struct text *out, const json_t *mounts) {
    size_t i;
    json_t *mount;
    text_add(out, "    Mounts:%s\n", json_array_size(mounts) == 0 ? "\t<none>" : "");
    json_array_foreach((json_t *)mounts, i, mount) {
        text_add(out, "      %s from %s (%s)\n", js_str(mount, "mountPath", ""),
                 js_str(mount, "name", ""), js_bool(mount, "readOnly", false) ? "ro" : "rw");
    }
}

static void put_container(struct text *out, const json_t *container, const json_t *status) {
    size_t i;
    json_t *port;
    text_add(out, "    Image:\t%s\n    Port%s:\t", js_str(container, "image", ""),
             js_len(container, "ports") > 1 ? "s" : "");
    json_array_foreach(js_get(container, "ports"), i, port) {
        text_add(out, "%s%lld/%s", i > 0 ? ", " : "", js_int(port, "containerPort", 0),
                 js_str(port, "protocol", "TCP"));
    }
    text_add(out, "%s\n", i == 0 ? "<none>" : "");
    put_words(out, "Command", js_get(container, "command"));
    put_words(out, "Args", js_get(container, "args"));
    if (status != NULL) {
        put_state(out, "State", js_get(status, "state"));
        if (js_get(status, "lastState.terminated") != NULL) {
            put_state(out, "Last State", js_get(status, "lastState"));
        }
        text_add(out, "    Ready:\t%s\n    Restart Count:\t%lld\n",
                 js_bool(status, "ready", false) ? "True" : "False",
                 js_int(status, "restartCount", 0));
    }
    put_env(out, js_get(container, "env"));
    put_mounts(out, js_get(container, "volumeMounts"));
}

static const json_t *status_of(const json_t *statuses, const char *name) {
    size_t i;
    json_t *status;
    json_array_foreach((json_t *)statuses, i, status) {
        if (strcmp(js_str(status, "name", ""), name) == 0) {
            return status;
        }
    }
    return NULL;
}

// `statuses` NULL: a template's
static void put_containers(struct text *out, const char *title, const json_t *containers,
                           const json_t *statuses) {
    size_t i;
    json_t *container;
    json_array_foreach((json_t *)containers, i, container) {
        const char *name = js_str(container, "name", "");
        text_add(out, "%s%s%s:\n", i == 0 ? title : "", "  ", name);
        put_container(out, container, status_of(statuses, name));
    }
}

static void describe_pod(struct output *o, const json_t *doc) {
    struct text *out = &o->text;
    const json_t *owner = json_array_get(js_get(doc, "metadata.ownerReferences"), 0), *ip;
    size_t i;
    text_add(out, "Priority:\t%lld\nService Account:\t%s\nNode:\t%s/%s\n",
             js_int(doc, "spec.priority", 0), js_str(doc, "spec.serviceAccountName", ""),
             js_str(doc, "spec.nodeName", "<none>"), js_str(doc, "status.hostIP", ""));
    put_time(out, "Start Time", js_str(doc, "status.startTime", ""));
    put_meta(out, doc);
    text_add(out, "Status:\t%s\nIP:\t%s\nIPs:\n",
             js_get(doc, "metadata.deletionTimestamp") != NULL ? "Terminating"
                                                               : js_str(doc, "status.phase", ""),
             js_str(doc, "status.podIP", ""));
    json_array_foreach(js_get(doc, "status.podIPs"), i, ip) {
        text_add(out, "  IP:\t%s\n", js_str(ip, "ip", ""));
    }
    if (owner != NULL) {
        text_add(out, "Controlled By:\t%s/%s\n", js_str(owner, "kind", ""),
                 js_str(owner, "name", ""));
    }
    put_containers(out, "Init Containers:\n", js_get(doc, "spec.initContainers"),
                   js_get(doc, "status.initContainerStatuses"));
    put_containers(out, "Containers:\n", js_get(doc, "spec.containers"),
                   js_get(doc, "status.containerStatuses"));
    put_conditions(out, doc);
    text_add(out, "QoS Class:\t%s\n", js_str(doc, "status.qosClass", ""));
    put_selector(out, "Node-Selectors", js_get(doc, "spec.nodeSelector"));
}

// Services

static void put_endpoints(struct output *o, const json_t *doc, const char *port_name) {
    json_t *slices = verb_items(o->args->dir, "EndpointSlice", js_ns(doc), NULL), *slice, *port;
    size_t i, j, k, l, n = 0;
    text_add(&o->text, "Endpoints:\t");
    json_array_foreach(slices, i, slice) {
        const char *service = js_label(slice, "kubernetes.io/service-name");
        json_array_foreach(js_get(slice, "ports"), j, port) {
            json_t *endpoint, *address;
            if (service == NULL || strcmp(service, js_name(doc)) != 0 ||
                strcmp(js_str(port, "name", ""), port_name) != 0) {
                continue;
            }
            json_array_foreach(js_get(slice, "endpoints"), k, endpoint) {
                json_array_foreach(js_get(endpoint, "addresses"), l, address) {
                    if (js_bool(endpoint, "conditions.ready", true)) {
                        text_add(&o->text, "%s%s:%lld", n++ > 0 ? "," : "",
                                 json_string_value(address), js_int(port, "port", 0));
                    }
                }
            }
        }
    }
    text_add(&o->text, "\n");
    json_decref(slices);
}

static void put_list(struct text *out, const char *label, const json_t *list) {
    size_t i;
    json_t *item;
    text_add(out, "%s:\t", label);
    json_array_foreach((json_t *)list, i, item) {
        text_add(out, "%s%s", i > 0 ? "," : "", json_string_value(item));
    }
    text_add(out, "%s\n", i == 0 ? "<none>" : "");
}

static void describe_service(struct output *o, const json_t *doc) {
    struct text *out = &o->text;
    size_t i;
    json_t *port;
    put_meta(out, doc);
    put_selector(out, "Selector", js_get(doc, "spec.selector"));
    text_add(out, "Type:\t%s\n", js_str(doc, "spec.type", "ClusterIP"));
    if (js_str(doc, "spec.ipFamilyPolicy", NULL) != NULL) {
        text_add(out, "IP Family Policy:\t%s\n", js_str(doc, "spec.ipFamilyPolicy", ""));
    }
    put_list(out, "IP Families", js_get(doc, "spec.ipFamilies"));
    text_add(out, "IP:\t%s\n", js_str(doc, "spec.clusterIP", "<none>"));
    put_list(out, "IPs", js_get(doc, "spec.clusterIPs"));
    if (js_str(doc, "spec.externalName", NULL) != NULL) {
        text_add(out, "External Name:\t%s\n", js_str(doc, "spec.externalName", ""));
    }
    json_array_foreach(js_get(doc, "spec.ports"), i, port) {
        char number[32];
        const char *name = js_str(port, "name", ""), *protocol = js_str(port, "protocol", "TCP");
        const json_t *target = json_object_get(port, "targetPort");
        text_add(out, "Port:\t%s\t%lld/%s\n", name[0] != '\0' ? name : "<unset>",
                 js_int(port, "port", 0), protocol);
        target = target != NULL ? target : json_object_get(port, "port");
        const char *text = json_is_string(target) ? json_string_value(target)
                                                  : js_text(target, number, sizeof(number));
        text_add(out, "TargetPort:\t%s/%s\n", text, protocol);
        if (js_int(port, "nodePort", 0) != 0) {
            text_add(out, "NodePort:\t%s\t%lld/%s\n", name[0] != '\0' ? name : "<unset>",
                     js_int(port, "nodePort", 0), protocol);
        }
        put_endpoints(o, doc, name);
    }
    text_add(out, "Session Affinity:\t%s\n", js_str(doc, "spec.sessionAffinity", "None"));
}

// Deployments

static void put_sets(struct output *o, const json_t *doc) {
    json_t *sets = verb_items(o->args->dir, "ReplicaSet", js_ns(doc), NULL), *set;
    struct text old = {0}, new = {0};
    const json_t *newest = NULL;
    long long most = -1;
    size_t i;
    for (int pass = 0; pass < 2; pass++) {
        json_array_foreach(sets, i, set) {
            const json_t *owner = json_array_get(js_get(set, "metadata.ownerReferences"), 0);
            const char *revision = js_annotation(set, "deployment.kubernetes.io/revision");
            if (strcmp(js_str(owner, "kind", ""), "Deployment") != 0 ||
                strcmp(js_str(owner, "name", ""), js_name(doc)) != 0) {
                continue;
            }
            long long number = revision != NULL ? strtoll(revision, NULL, 10) : 0;
            if (pass == 0) {
                newest = number > most ? set : newest;
                most = MAX(most, number);
                continue;
            }
            struct text *list = set == newest ? &new : &old;
            text_add(list, "%s%s (%lld/%lld replicas created)", list->len > 0 ? ", " : "",
                     js_name(set), js_int(set, "status.replicas", 0),
                     js_int(set, "spec.replicas", 0));
        }
    }
    text_add(&o->text, "OldReplicaSets:\t%s\nNewReplicaSet:\t%s\n",
             old.len > 0 ? old.ptr : "<none>", new.len > 0 ? new.ptr : "<none>");
    text_fini(&old);
    text_fini(&new);
    json_decref(sets);
}

static void describe_deployment(struct output *o, const json_t *doc) {
    struct text *out = &o->text;
    char surge[32], missing[32];
    long long wanted = js_int(doc, "spec.replicas", 1);
    long long available = js_int(doc, "status.availableReplicas", 0);
    const char *type = js_str(doc, "spec.strategy.type", "RollingUpdate");
    put_time(out, "CreationTimestamp", js_str(doc, "metadata.creationTimestamp", ""));
    put_meta(out, doc);
    put_selector(out, "Selector", js_get(doc, "spec.selector.matchLabels"));
    text_add(out,
             "Replicas:\t%lld desired | %lld updated | %lld total | %lld available | %lld "
             "unavailable\nStrategyType:\t%s\n",
             wanted, js_int(doc, "status.updatedReplicas", 0), js_int(doc, "status.replicas", 0),
             available, wanted > available ? wanted - available : 0, type);
    if (strcmp(type, "RollingUpdate") == 0) {
        const json_t *rolling = js_get(doc, "spec.strategy.rollingUpdate");
        const char *most = js_text(js_get(rolling, "maxSurge"), surge, sizeof(surge));
        const char *least = js_text(js_get(rolling, "maxUnavailable"), missing, sizeof(missing));
        text_add(out, "RollingUpdateStrategy:\t%s max unavailable, %s max surge\n",
                 least[0] != '\0' ? least : "25%", most[0] != '\0' ? most : "25%");
    }
    text_add(out, "Pod Template:\n");
    put_map(out, "  Labels", js_get(doc, "spec.template.metadata.labels"), "=");
    put_containers(out, "  Containers:\n", js_get(doc, "spec.template.spec.containers"), NULL);
    put_conditions(out, doc);
    put_sets(o, doc);
}

// All others: the tree, with its fields' names as words

// "apiVersion" is "API Version", "hosts" "Hosts", "uid" "UID".
static char *words_of(const char *key) {
    static const char *const acronyms[] = {"api", "uid", "ip", "url", "id"};
    struct text out = {0};
    for (const char *at = key; *at != '\0';) {
        size_t len = 1, i = 0;
        while (at[len] != '\0' && !isupper((unsigned char)at[len])) {
            len++;
        }
        while (i < ARRAY_LEN(acronyms) &&
               (strlen(acronyms[i]) != len || strncasecmp(acronyms[i], at, len) != 0)) {
            i++;
        }
        text_add(&out, "%s", out.len > 0 ? " " : "");
        for (size_t k = 0; k < len; k++) {
            bool is_upper = k == 0 || i < ARRAY_LEN(acronyms);
            text_add(&out, "%c", is_upper ? toupper((unsigned char)at[k]) : at[k]);
        }
        at += len;
    }
    return text_take(&out);
}

static void put_tree(struct text *out, const json_t *map, int indent, int depth);

static void put_field(struct text *out, const char *key, const json_t *value, int indent,
                      int depth) {
    char *label = words_of(key);
    char *line = json_is_string(value) ? xstrdup(json_string_value(value))
                                       : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    size_t i;
    json_t *item;
    if (json_is_object(value) && depth < DEPTH_MAX) {
        text_add(out, "%*s%s:\n", indent, "", label);
        put_tree(out, value, indent + 2, depth + 1);
    } else if (json_is_array(value) && depth < DEPTH_MAX) {
        text_add(out, "%*s%s:\n", indent, "", label);
        json_array_foreach((json_t *)value, i, item) {
            if (json_is_object(item)) {
                put_tree(out, item, indent + 2, depth + 1);
                continue;
            }
            char *text = json_is_string(item) ? xstrdup(json_string_value(item))
                                              : json_dumps(item, JSON_ENCODE_ANY | JSON_COMPACT);
            text_add(out, "%*s%s\n", indent + 2, "", text != NULL ? text : "");
            free(text);
        }
    } else {
        text_add(out, "%*s%s:\t%s\n", indent, "", label, line != NULL ? line : "");
    }
    free(line);
    free(label);
}

static void put_tree(struct text *out, const json_t *map, int indent, int depth) {
    static const char *const shown_above[] = {"name", "namespace", "labels", "annotations"};
    size_t n;
    const char **keys = sorted_keys(map, &n);
    for (size_t i = 0; i < n; i++) {
        bool is_shown = false;
        for (size_t k = 0; depth == 1 && indent == 2 && k < ARRAY_LEN(shown_above); k++) {
            is_shown = is_shown || strcmp(keys[i], shown_above[k]) == 0;
        }
        if (!is_shown) {
            put_field(out, keys[i], json_object_get(map, keys[i]), indent, depth);
        }
    }
    free(keys);
}

static void describe_any(struct output *o, const json_t *doc) {
    put_meta(&o->text, doc);
    static const char *const parts[] = {"apiVersion", "kind", "metadata", "data", "spec", "status"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const json_t *value = json_object_get(doc, parts[i]);
        // Only of the metadata the first fields are shown above.
        int depth = strcmp(parts[i], "metadata") == 0 ? 0 : 1;
        if (value != NULL) {
            put_field(&o->text, parts[i], value, 0, depth);
        }
    }
}

static void describe(const struct verb_args *a, const json_t *doc) {
    static const struct {
        const char *kind;
        void (*fn)(struct output *o, const json_t *doc);
    } kinds[] = {
        {"Pod", describe_pod}, {"Service", describe_service}, {"Deployment", describe_deployment}};
    struct output o = {.args = a};
    struct text aligned = {0};
    size_t i = 0;
    text_add(&o.text, "Name:\t%s\nNamespace:\t%s\n", js_name(doc), js_ns(doc));
    while (i < ARRAY_LEN(kinds) && strcmp(kinds[i].kind, js_kind(doc)) != 0) {
        i++;
    }
    (i < ARRAY_LEN(kinds) ? kinds[i].fn : describe_any)(&o, doc);
    text_add(&o.text, "Events:\t<none>\n"); // the lab keeps none
    lab_tabs_align(o.text.ptr, &aligned);
    fputs(aligned.ptr, stdout);
    text_fini(&o.text);
    text_fini(&aligned);
}

// All of a kind that the selector has; how many.
static size_t describe_all(const struct verb_args *a, const struct lab_kind *kind) {
    const char *ns = kind->is_cluster_scoped || a->is_all_ns ? NULL : verb_ns(a);
    json_t *items = verb_items(a->dir, kind->kind, ns, NULL), *doc;
    size_t i, n = 0;
    json_array_foreach(items, i, doc) {
        if (lab_selector_matches(a->selector, js_get(doc, "metadata.labels"))) {
            fputs(n++ > 0 ? "\n\n" : "", stdout);
            describe(a, doc);
        }
    }
    json_decref(items);
    return n;
}

int verb_describe(const struct verb_args *a) {
    const char *first = a->n_rest > 0 ? a->rest[0] : NULL;
    const struct lab_kind *kind = first != NULL ? lab_kind_find(first) : NULL;
    if (first == NULL) {
        return verb_error("you must specify the type of resource to describe");
    }
    if (!verb_selector_ok(a)) {
        return 1;
    }
    if (kind != NULL && a->n_rest == 1) {
        if (describe_all(a, kind) == 0) {
            fprintf(stderr, "No resources found in %s namespace.\n", verb_ns(a));
        }
        return 0;
    }
    int code = 0;
    for (int at = 0, n = 0; at < a->n_rest; n++) {
        struct verb_target target = {kind != NULL ? kind->kind : NULL, NULL, NULL};
        if (kind != NULL) { // KIND NAME...
            at += at == 0;
            target.name = a->rest[at++];
            target.ns = xstrdup(verb_ns(a));
        } else if (!verb_target(a, &at, NULL, &target)) {
            return 1;
        }
        json_t *doc = verb_object(a->dir, &target);
        if (doc != NULL) {
            fputs(n > 0 ? "\n\n" : "", stdout);
            describe(a, doc);
        }
        code |= doc == NULL;
        json_decref(doc);
        free(target.ns);
    }
    return code;
}
