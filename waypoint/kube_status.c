// SPDX-License-Identifier: Apache-2.0
#include "waypoint/kube_status.h"

#include <string.h>

#include "common/base/check.h"
#include "common/proto/hbone.h"

#define GATEWAY_API "gateway.networking.k8s.io"

static const char *text_at(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

const char *kube_status_meta(const json_t *object, const char *key) {
    return text_at(json_object_get(object, "metadata"), key);
}

// The object of the list whose member has that text, or NULL.
static json_t *find_by(const json_t *list, const char *key, const char *value) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        if (strcmp(text_at(item, key), value) == 0) {
            return item;
        }
    }
    return NULL;
}

// ---- conditions

struct condition {
    const char *type, *reason, *message;
    bool is_true;
};

struct where { // that conditions are made for
    const json_t *object;
    const char *now;
};

// Puts it in place of the one of that type; `before`: as the object has them.
static void put_condition(json_t *conditions, const json_t *before, const struct where *where,
                          const struct condition *c) {
    const json_t *meta = json_object_get(where->object, "metadata");
    const json_t *old = find_by(before, "type", c->type);
    const char *status = c->is_true ? "True" : "False", *since = where->now;
    if (old != NULL && strcmp(text_at(old, "status"), status) == 0 &&
        text_at(old, "lastTransitionTime")[0] != '\0') {
        since = text_at(old, "lastTransitionTime");
    }
    json_t *made =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", c->type, "status", status, "reason",
                  c->reason, "message", c->message, "lastTransitionTime", since);
    CHECK(made != NULL); // texts are UTF-8: they came as JSON, or are ours
    json_t *generation = json_object_get(meta, "generation");
    if (generation != NULL) {
        json_object_set(made, "observedGeneration", generation);
    }
    json_t *present = find_by(conditions, "type", c->type);
    if (present == NULL) {
        json_array_append_new(conditions, made);
        return;
    }
    json_object_clear(present);
    json_object_update(present, made);
    json_decref(made);
}

static void put_conditions(json_t *conditions, const json_t *before, const struct where *where,
                           const struct condition *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        put_condition(conditions, before, where, &list[i]);
    }
}

// A copy of the status to work on, and of its conditions, which are in it.
static json_t *copy_status(const json_t *object, json_t **ret_conditions) {
    const json_t *old = json_object_get(object, "status");
    json_t *status = json_is_object(old) ? json_deep_copy(old) : json_object();
    json_t *conditions = json_object_get(status, "conditions");
    if (!json_is_array(conditions)) {
        conditions = json_array();
        json_object_set_new(status, "conditions", conditions);
    }
    *ret_conditions = conditions;
    return status;
}

static json_t *if_changed(const json_t *object, json_t *status) {
    if (json_equal(json_object_get(object, "status"), status)) {
        json_decref(status);
        return NULL;
    }
    return status;
}

// ---- GatewayClass

json_t *kube_status_class(const json_t *object, const char *now) {
    const json_t *spec = json_object_get(object, "spec");
    if (strcmp(text_at(spec, "controllerName"), KUBE_STATUS_CONTROLLER) != 0) {
        return NULL;
    }
    json_t *conditions;
    json_t *status = copy_status(object, &conditions);
    const struct condition accepted = {
        .type = "Accepted", .reason = "Accepted", .message = "", .is_true = true};
    const json_t *before = json_object_get(json_object_get(object, "status"), "conditions");
    put_conditions(conditions, before, &(struct where){object, now}, &accepted, 1);
    return if_changed(object, status);
}

// ---- Gateway

static bool is_hbone(const json_t *listener) {
    return strcmp(text_at(listener, "protocol"), "HBONE") == 0 &&
           json_integer_value(json_object_get(listener, "port")) == HBONE_PORT;
}

static json_t *listener_status(const json_t *listener, const json_t *before,
                               const struct where *where, const struct condition *programmed) {
    bool is_good = is_hbone(listener);
    const char *bad = "a waypoint has listeners of protocol HBONE on port 15008 alone";
    const struct condition list[] = {
        {"Accepted", is_good ? "Accepted" : "UnsupportedProtocol", is_good ? "" : bad, is_good},
        {"Conflicted", "NoConflicts", "", false},
        {"ResolvedRefs", "ResolvedRefs", "", true},
        {"Programmed", is_good ? programmed->reason : "Invalid",
         is_good ? programmed->message : bad, is_good && programmed->is_true},
    };
    json_t *made = json_pack("{s:s, s:i, s:[], s:[]}", "name", text_at(listener, "name"),
                             "attachedRoutes", 0, "supportedKinds", "conditions");
    const json_t *old = find_by(before, "name", text_at(listener, "name"));
    put_conditions(json_object_get(made, "conditions"), json_object_get(old, "conditions"), where,
                   list, ARRAY_LEN(list));
    return made;
}

static json_t *addresses_of(const struct kube_status_gateway *in) {
    // The host name first: it is what istiod takes.
    json_t *list = json_pack("[{s:s, s:s}]", "type", "Hostname", "value", in->hostname);
    for (size_t i = 0; i < in->n_ips; i++) {
        json_array_append_new(list,
                              json_pack("{s:s, s:s}", "type", "IPAddress", "value", in->ips[i]));
    }
    return list;
}

json_t *kube_status_gateway(const json_t *object, const struct kube_status_gateway *in) {
    const json_t *spec = json_object_get(object, "spec"), *old = json_object_get(object, "status");
    const json_t *listeners = json_object_get(spec, "listeners");
    const struct where where = {object, in->now};
    json_t *conditions;
    json_t *status = copy_status(object, &conditions);
    if (in->hostname != NULL &&
        (in->is_serving || json_array_size(json_object_get(old, "addresses")) > 0)) {
        json_object_set_new(status, "addresses", addresses_of(in));
    }
    bool has_listener = false;
    size_t i;
    json_t *listener;
    json_array_foreach(listeners, i, listener) {
        has_listener = has_listener || is_hbone(listener);
    }
    struct condition programmed = {"Programmed", "Programmed", "", true};
    if (in->hostname == NULL) {
        programmed = (struct condition){"Programmed", "AddressNotAssigned",
                                        "the waypoint's Service is not there", false};
    } else if (!in->is_serving) {
        programmed = (struct condition){"Programmed", "Pending", "no waypoint is ready", false};
    }
    json_t *list = json_array();
    json_array_foreach(listeners, i, listener) {
        json_array_append_new(list, listener_status(listener, json_object_get(old, "listeners"),
                                                    &where, &programmed));
    }
    json_object_set_new(status, "listeners", list);
    if (!has_listener) {
        programmed = (struct condition){"Programmed", "Invalid", "no listener is valid", false};
    }
    struct condition own[] = {
        {"Accepted", has_listener ? "Accepted" : "ListenersNotValid",
         has_listener ? "" : "no listener of protocol HBONE on port 15008", has_listener},
        programmed,
    };
    if (in->unread != NULL && in->unread[0] != '\0') {
        own[0] = (struct condition){"Accepted", "Invalid", in->unread, false};
    }
    put_conditions(conditions, json_object_get(old, "conditions"), &where, own, ARRAY_LEN(own));
    return if_changed(object, status);
}

// ---- routes

static struct kube_status_ref read_ref(const json_t *json, const json_t *route,
                                       const char *default_group, const char *default_kind) {
    const json_t *group = json_object_get(json, "group");
    struct kube_status_ref ref = {
        .group = group != NULL ? json_string_value(group) : default_group,
        .kind = text_at(json, "kind"),
        .ns = text_at(json, "namespace"),
        .name = text_at(json, "name"),
    };
    ref.group = ref.group == NULL || strcmp(ref.group, "core") == 0 ? "" : ref.group;
    ref.kind = ref.kind[0] != '\0' ? ref.kind : default_kind;
    ref.ns = ref.ns[0] != '\0' ? ref.ns : kube_status_meta(route, "namespace");
    return ref;
}

struct refs { // the first backend that is wrong
    const struct kube_status_route *in;
    const json_t *route;
    enum kube_backend worst;
    char message[1024];
};

static void check_ref(struct refs *refs, const json_t *json) {
    struct kube_status_ref ref = read_ref(json, refs->route, "", "Service");
    enum kube_backend found = refs->in->backend(refs->in->arg, &ref);
    if (found == KUBE_BACKEND_FOUND || refs->worst != KUBE_BACKEND_FOUND) {
        return;
    }
    refs->worst = found;
    if (found == KUBE_BACKEND_NOT_PERMITTED) {
        snprintf(refs->message, sizeof(refs->message),
                 "no ReferenceGrant of namespace %s permits %s %s", ref.ns, ref.kind, ref.name);
    } else if (found == KUBE_BACKEND_MISSING) {
        snprintf(refs->message, sizeof(refs->message), "%s %s/%s is not there", ref.kind, ref.ns,
                 ref.name);
    } else {
        snprintf(refs->message, sizeof(refs->message),
                 "there are no backends of kind %s (group \"%s\")", ref.kind, ref.group);
    }
}

static void check_refs(struct refs *refs, const json_t *route) {
    size_t i, k;
    json_t *rule, *item;
    json_array_foreach(json_object_get(json_object_get(route, "spec"), "rules"), i, rule) {
        json_array_foreach(json_object_get(rule, "backendRefs"), k, item) {
            check_ref(refs, item);
        }
        json_array_foreach(json_object_get(rule, "filters"), k, item) {
            const json_t *mirror = json_object_get(item, "requestMirror");
            if (mirror != NULL) {
                check_ref(refs, json_object_get(mirror, "backendRef"));
            }
        }
    }
}

// Our entry for this parent, as the object has it.
static const json_t *our_entry(const json_t *parents, const json_t *ref) {
    size_t i;
    json_t *entry;
    json_array_foreach(parents, i, entry) {
        if (strcmp(text_at(entry, "controllerName"), KUBE_STATUS_CONTROLLER) == 0 &&
            json_equal(json_object_get(entry, "parentRef"), ref)) {
            return entry;
        }
    }
    return NULL;
}

static json_t *make_entry(const json_t *object, const struct kube_status_route *in, json_t *ref,
                          enum kube_parent parent, const struct refs *refs) {
    bool is_served = parent == KUBE_PARENT_SERVED;
    bool is_resolved = refs->worst == KUBE_BACKEND_FOUND;
    static const char *const reasons[] = {[KUBE_BACKEND_FOUND] = "ResolvedRefs",
                                          [KUBE_BACKEND_MISSING] = "BackendNotFound",
                                          [KUBE_BACKEND_UNKNOWN_KIND] = "InvalidKind",
                                          [KUBE_BACKEND_NOT_PERMITTED] = "RefNotPermitted"};
    struct condition list[3] = {
        {"Accepted", is_served ? "Accepted" : "UnsupportedValue",
         is_served ? ""
                   : "nothing attaches to a waypoint's Gateway: name the Service as the parent",
         is_served},
        {"ResolvedRefs", reasons[refs->worst], is_resolved ? "" : refs->message, is_resolved},
    };
    size_t n = 2;
    if (is_served && in->is_unread) {
        list[0] = (struct condition){"Accepted", "UnsupportedValue", in->problem, false};
    } else if (is_served && in->problem[0] != '\0') {
        list[n++] = (struct condition){"PartiallyInvalid", "UnsupportedValue", in->problem, true};
    }
    const json_t *old =
        our_entry(json_object_get(json_object_get(object, "status"), "parents"), ref);
    json_t *entry = json_pack("{s:s, s:O, s:[]}", "controllerName", KUBE_STATUS_CONTROLLER,
                              "parentRef", ref, "conditions");
    put_conditions(json_object_get(entry, "conditions"), json_object_get(old, "conditions"),
                   &(struct where){object, in->now}, list, n);
    return entry;
}

json_t *kube_status_route(const json_t *object, const struct kube_status_route *in) {
    const json_t *old = json_object_get(json_object_get(object, "status"), "parents");
    struct refs refs = {.in = in, .route = object, .worst = KUBE_BACKEND_FOUND};
    json_t *parents = json_array(), *item;
    size_t i;
    json_array_foreach(old, i, item) {
        if (strcmp(text_at(item, "controllerName"), KUBE_STATUS_CONTROLLER) != 0) {
            json_array_append(parents, item);
        }
    }
    check_refs(&refs, object);
    json_array_foreach(json_object_get(json_object_get(object, "spec"), "parentRefs"), i, item) {
        struct kube_status_ref ref = read_ref(item, object, GATEWAY_API, "Gateway");
        enum kube_parent parent = in->parent(in->arg, &ref);
        if (parent != KUBE_PARENT_OTHERS) {
            json_array_append_new(parents, make_entry(object, in, item, parent, &refs));
        }
    }
    if (json_equal(old, parents) || (old == NULL && json_array_size(parents) == 0)) {
        json_decref(parents);
        return NULL;
    }
    return json_pack("{s:o}", "parents", parents);
}
