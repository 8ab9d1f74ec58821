// SPDX-License-Identifier: Apache-2.0
#include "waypoint/kube_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/mesh/builder.h"
#include "common/mesh/kobj.h"
#include "common/mesh/kobj_l7.h"
#include "common/mesh/snapshot.h"
#include "common/proc/proc_mesh.h"
#include "waypoint/auto_bind.h"
#include "waypoint/kube_status.h"
#include "waypoint/waypoint.h"

static const enum kobj_kind kinds[KUBE_WORK_N] = {
    KOBJ_GATEWAY_CLASS,        KOBJ_GATEWAY,         KOBJ_HTTP_ROUTE,
    KOBJ_GRPC_ROUTE,           KOBJ_VIRTUAL_SERVICE, KOBJ_DESTINATION_RULE,
    KOBJ_AUTHORIZATION_POLICY, KOBJ_SERVICE,         KOBJ_SERVICE_ENTRY,
};

const char *kube_work_kind_text(const struct kube_work_item *item) {
    return kobj_kind_text(kinds[item->kind]);
}

char *kube_work_path(const struct kube_work_item *item) {
    return kobj_api_path(kinds[item->kind], item->ns, item->name);
}

// ---- items

static uint64_t key_hash(enum kube_work_kind kind, const char *ns, const char *name) {
    char text[640];
    int len = snprintf(text, sizeof(text), "%d/%s/%s", (int)kind, ns, name);
    return hash_bytes(slice_make(text, MIN((size_t)len, sizeof(text) - 1)));
}

static struct kube_work_item *find_item(struct kube_work *work, enum kube_work_kind kind,
                                        const char *ns, const char *name) {
    HMAP_EACH_WITH_HASH(pos, &work->items, key_hash(kind, ns, name)) {
        struct kube_work_item *item = HMAP_ITEM(pos, struct kube_work_item, by_key);
        if (item->kind == kind && strcmp(item->ns, ns) == 0 && strcmp(item->name, name) == 0) {
            return item;
        }
    }
    return NULL;
}

static struct kube_work_item *get_item(struct kube_work *work, enum kube_work_kind kind,
                                       const char *ns, const char *name) {
    struct kube_work_item *item = find_item(work, kind, ns, name);
    if (item == NULL) {
        item = xcalloc(1, sizeof(*item));
        item->kind = (uint8_t)kind;
        item->ns = xstrdup(ns);
        item->name = xstrdup(name);
        item->problem = xstrdup("");
        item->wanted = xstrdup("");
        list_init(&item->in_queue);
        hmap_insert(&work->items, &item->by_key, key_hash(kind, ns, name));
    }
    item->is_seen = true;
    return item;
}

static void free_item(struct kube_work *work, struct kube_work_item *item) {
    hmap_remove(&work->items, &item->by_key);
    list_del(&item->in_queue);
    free(item->ns);
    free(item->name);
    free(item->problem);
    free(item->wanted);
    free(item);
}

void kube_work_init(struct kube_work *work, const struct waypoint_config *config,
                    const struct proc_mesh *mesh) {
    *work = (struct kube_work){.config = config, .mesh = mesh, .builder = mesh->builder};
    hmap_init(&work->items);
    list_init(&work->queue);
    snprintf(work->manager, sizeof(work->manager), "ztun-auto-%.100s", config->name);
}

// ---- what answers depend on

static const struct service *own_service(const struct kube_work *work) {
    char key[512];
    const struct snapshot *snap = snapshot_current();
    return snapshot_service(snap, waypoint_service_key(work->config, snap, key));
}

static bool is_bound(const struct snapshot *snap, const char *ns, const char *host,
                     const char *waypoint) {
    char key[640];
    snprintf(key, sizeof(key), "%s/%s", ns, host);
    const struct service *service = snapshot_service(snap, key);
    return service != NULL && service_is_bound(service, waypoint);
}

static enum kube_parent parent_of(const struct kube_work *work, const struct kube_status_ref *ref) {
    const struct snapshot *snap = snapshot_current();
    char own[512];
    if (strcmp(ref->kind, "Gateway") == 0) {
        bool is_own =
            strcmp(ref->ns, work->config->ns) == 0 && strcmp(ref->name, work->config->name) == 0;
        return is_own ? KUBE_PARENT_GATEWAY : KUBE_PARENT_OTHERS;
    }
    waypoint_service_key(work->config, snap, own);
    if (strcmp(ref->kind, "Service") == 0 && ref->group[0] == '\0') {
        char host[512];
        snprintf(host, sizeof(host), "%s.%s.svc.%s", ref->name, ref->ns,
                 snap->mesh->cluster_domain);
        return is_bound(snap, ref->ns, host, own) ? KUBE_PARENT_SERVED : KUBE_PARENT_OTHERS;
    }
    const struct kobj *entry =
        strcmp(ref->kind, "ServiceEntry") == 0 && strcmp(ref->group, "networking.istio.io") == 0
            ? builder_object(work->builder, KOBJ_SERVICE_ENTRY, ref->ns, ref->name)
            : NULL;
    for (uint32_t i = 0; entry != NULL && i < entry->service_entry->n_hosts; i++) {
        if (is_bound(snap, ref->ns, entry->service_entry->hosts[i], own)) {
            return KUBE_PARENT_SERVED;
        }
    }
    return KUBE_PARENT_OTHERS;
}

// `kind`, `ns`: the route's.
static enum kube_backend backend_of(struct kube_work *work, const char *kind, const char *ns,
                                    const struct kube_status_ref *ref) {
    const struct snapshot *snap = snapshot_current();
    char host[512];
    if (strcmp(ref->kind, "Service") == 0 && ref->group[0] == '\0') {
        if (strcmp(ref->ns, ns) != 0 &&
            !builder_is_granted(work->builder, kind, ns, ref->ns, ref->name)) {
            return KUBE_BACKEND_NOT_PERMITTED;
        }
        snprintf(host, sizeof(host), "%s.%s.svc.%s", ref->name, ref->ns,
                 snap->mesh->cluster_domain);
    } else if (strcmp(ref->kind, "Hostname") == 0 &&
               strcmp(ref->group, "networking.istio.io") == 0) {
        snprintf(host, sizeof(host), "%s", ref->name);
    } else if (strcmp(ref->kind, "ServiceEntry") == 0 &&
               strcmp(ref->group, "networking.istio.io") == 0) {
        return KUBE_BACKEND_FOUND; // its own is all that is taken; else a problem says so
    } else {
        return KUBE_BACKEND_UNKNOWN_KIND;
    }
    return snapshot_service_by_host(snap, slice_str(host), ref->ns) != NULL ? KUBE_BACKEND_FOUND
                                                                            : KUBE_BACKEND_MISSING;
}

static uint64_t mix(uint64_t hash, uint64_t value) {
    uint64_t both[2] = {hash, value};
    return hash_bytes(slice_make(both, sizeof(both)));
}

static uint64_t mix_text(uint64_t hash, const char *text) {
    return mix(hash, hash_bytes(slice_str(text)));
}

static uint64_t gateway_state(const struct kube_work *work, uint64_t hash) {
    const struct service *own = own_service(work);
    bool is_serving = false;
    for (uint32_t i = 0; own != NULL && i < own->n_endpoints; i++) {
        is_serving = is_serving || own->endpoints[i].is_ready;
    }
    hash = mix(hash, own != NULL ? 1 + (uint64_t)is_serving : 0);
    for (uint16_t i = 0; own != NULL && i < own->n_cluster_vips; i++) {
        hash = mix(hash, hash_bytes(slice_make(own->vips[i].bytes, sizeof(own->vips[i].bytes))));
    }
    return hash;
}

static enum kube_backend backend_state(struct kube_work *work, const struct kobj *route,
                                       const struct kobj_backend *backend) {
    struct kube_status_ref ref = {.group = backend->group,
                                  .kind = backend->kind,
                                  .ns = backend->ns[0] != '\0' ? backend->ns : route->meta.ns,
                                  .name = backend->name};
    return backend_of(work, route->kind_name, route->meta.ns, &ref);
}

// *ret_is_ours: one of its parents is.
static uint64_t route_state(struct kube_work *work, const struct kobj *obj, uint64_t hash,
                            bool *ret_is_ours) {
    const struct kobj_route *route = obj->route;
    bool is_ours = false;
    for (uint32_t i = 0; i < route->n_parents; i++) {
        const struct kobj_parent_ref *p = &route->parents[i];
        struct kube_status_ref ref = {.group = strcmp(p->group, "core") == 0 ? "" : p->group,
                                      .kind = p->kind,
                                      .ns = p->ns[0] != '\0' ? p->ns : obj->meta.ns,
                                      .name = p->name};
        enum kube_parent parent = parent_of(work, &ref);
        is_ours = is_ours || parent != KUBE_PARENT_OTHERS;
        hash = mix(hash, parent);
    }
    for (uint32_t i = 0; i < route->n_rules; i++) {
        const struct kobj_route_rule *rule = &route->rules[i];
        for (uint32_t k = 0; k < rule->n_backends; k++) {
            hash = mix(hash, backend_state(work, obj, &rule->backends[k]));
        }
        for (uint32_t k = 0; k < rule->n_filters; k++) {
            const struct kobj_gw_mirror *mirror = rule->filters[k].mirror;
            hash = mirror != NULL ? mix(hash, backend_state(work, obj, &mirror->backend)) : hash;
        }
    }
    *ret_is_ours = is_ours;
    return hash;
}

// ---- refresh

static void set_text(char **text, const char *value) {
    if (strcmp(*text, value) != 0) {
        free(*text);
        *text = xstrdup(value);
    }
}

struct refresh {
    struct kube_work *work;
    enum kube_work_kind kind;
    bool all;
};

static void add_problem(struct kube_work_item *item, const char *more) {
    char text[KUBE_WORK_PROBLEM_MAX];
    snprintf(text, sizeof(text), "%s%s%s", item->problem, item->problem[0] != '\0' ? "; " : "",
             more);
    size_t len = strlen(text);
    while (len > 0 && len == sizeof(text) - 1 && ((uint8_t)text[len - 1] & 0x80) != 0) {
        text[--len] = '\0'; // it was cut, maybe within a character
    }
    set_text(&item->problem, text);
}

static bool is_for_events(enum kube_work_kind kind) {
    return kind >= KUBE_WORK_VIRTUAL_SERVICE && kind <= KUBE_WORK_AUTHORIZATION_POLICY;
}

// Routes and what has Events.
static bool has_problems(enum kube_work_kind kind) {
    return kind >= KUBE_WORK_HTTP_ROUTE && kind <= KUBE_WORK_AUTHORIZATION_POLICY;
}

static bool see_problem(void *arg, const struct builder_problem *problem) {
    const struct refresh *refresh = arg;
    const struct kobj *obj = problem->obj;
    for (size_t i = 0; i < KUBE_WORK_N; i++) {
        if (has_problems((enum kube_work_kind)i) && kinds[i] == obj->kind) {
            add_problem(get_item(refresh->work, (enum kube_work_kind)i, obj->meta.ns,
                                 obj->meta.name),
                        problem->text);
        }
    }
    return true;
}

// "KIND NS/NAME"; *ret_ns and *ret_name are heap texts.
static bool split_object(const char *object, enum kube_work_kind *ret_kind, char **ret_ns,
                         char **ret_name) {
    struct slice kind, rest, ns, name;
    if (!slice_split(slice_str(object), ' ', &kind, &rest) || !slice_split(rest, '/', &ns, &name)) {
        return false;
    }
    for (size_t i = 0; i < KUBE_WORK_N; i++) {
        bool is_one = has_problems((enum kube_work_kind)i) || i == KUBE_WORK_GATEWAY;
        if (is_one && slice_eq_str(kind, kobj_kind_text(kinds[i]))) {
            *ret_kind = (enum kube_work_kind)i;
            *ret_ns = slice_dup(ns);
            *ret_name = slice_dup(name);
            return true;
        }
    }
    return false;
}

static bool is_own_gateway(const struct kube_work *work, const char *ns, const char *name) {
    return strcmp(ns, work->config->ns) == 0 && strcmp(name, work->config->name) == 0;
}

// Whose parents or class these are is seen when the object has been read.
static void see_broken(void *arg, const struct proc_mesh_broken *broken) {
    struct kube_work *work = ((const struct refresh *)arg)->work;
    enum kube_work_kind kind;
    char *ns, *name;
    if (!split_object(broken->object, &kind, &ns, &name)) {
        return;
    }
    if (kind != KUBE_WORK_GATEWAY || is_own_gateway(work, ns, name)) {
        struct kube_work_item *item = get_item(work, kind, ns, name);
        if (!item->is_unread) {
            bool is_known = builder_object(work->builder, kinds[kind], ns, name) != NULL;
            add_problem(item, is_known ? "it cannot be read, what was valid last stays in force"
                                       : "it cannot be read");
            item->is_unread = true;
        }
        add_problem(item, broken->text);
        item->want = mix_text(mix(1, broken->version), item->problem);
    }
    free(ns);
    free(name);
}

// What the object's class is, or could be while it is not known.
static bool is_our_class(struct kube_work *work, const char *name) {
    const struct kobj *class = builder_object(work->builder, KOBJ_GATEWAY_CLASS, "", name);
    return class != NULL ? strcmp(class->gateway_class->controller, KUBE_STATUS_CONTROLLER) == 0
                         : strcmp(name, KUBE_STATUS_CLASS) == 0;
}

static bool see_object(void *arg, const struct kobj *obj) {
    const struct refresh *refresh = arg;
    struct kube_work *work = refresh->work;
    enum kube_work_kind kind = refresh->kind;
    uint64_t hash = obj->hash | 1;
    bool is_ours = false;
    if (kind == KUBE_WORK_CLASS) {
        is_ours = strcmp(obj->gateway_class->controller, KUBE_STATUS_CONTROLLER) == 0;
    } else if (kind == KUBE_WORK_GATEWAY) {
        is_ours = is_own_gateway(work, obj->meta.ns, obj->meta.name) &&
                  is_our_class(work, obj->gateway->class_name);
        hash = gateway_state(work, hash);
    } else if (kind == KUBE_WORK_HTTP_ROUTE || kind == KUBE_WORK_GRPC_ROUTE) {
        hash = route_state(work, obj, hash, &is_ours);
    }
    const char *ns = kind == KUBE_WORK_CLASS ? "" : obj->meta.ns;
    struct kube_work_item *item = find_item(work, kind, ns, obj->meta.name);
    // A first look at all routes: a process before us may have said something of them.
    if (item == NULL && !is_ours && !refresh->all) {
        return true;
    }
    item = get_item(work, kind, ns, obj->meta.name);
    item->want = mix_text(mix(hash, item->is_unread ? item->want : 0), item->problem);
    return true;
}

static bool see_auto(void *arg, const struct kobj *obj, const char *waypoint) {
    const struct refresh *refresh = arg;
    struct kube_work *work = refresh->work;
    enum kube_work_kind kind =
        obj->kind == KOBJ_SERVICE ? KUBE_WORK_SERVICE : KUBE_WORK_SERVICE_ENTRY;
    const char *label = kobj_map_get(&obj->meta.labels, "istio.io/use-waypoint");
    const char *wanted = strcmp(waypoint, work->config->name) == 0 ? waypoint : "";
    if (wanted[0] == '\0' && label == NULL &&
        find_item(work, kind, obj->meta.ns, obj->meta.name) == NULL) {
        return true;
    }
    struct kube_work_item *item = get_item(work, kind, obj->meta.ns, obj->meta.name);
    if (strcmp(item->wanted, wanted) != 0) {
        set_text(&item->wanted, wanted);
        item->was_applied = item->was_told = false;
        item->n_losses = 0;
        item->not_before = 0;
    }
    // What was written and is not seen is looked at with each news: it may have come and been taken
    // away meanwhile.
    bool is_right = strcmp(label != NULL ? label : "", wanted) == 0;
    item->n_looks += !is_right && item->was_applied;
    item->want = mix_text(mix(is_right ? 1 : obj->hash | 1, item->n_looks), wanted);
    return true;
}

static void queue_changed(struct kube_work *work, bool all) {
    HMAP_EACH_SAFE(pos, &work->items) {
        struct kube_work_item *item = HMAP_ITEM(pos, struct kube_work_item, by_key);
        if (!item->is_seen) {
            free_item(work, item);
            continue;
        }
        if (all) {
            item->done = 0;
        }
        if (item->want == item->done) {
            list_del(&item->in_queue);
        } else if (!list_linked(&item->in_queue)) {
            item->n_failures = 0;
            // Clients wait for the addresses of a Gateway.
            (item->kind <= KUBE_WORK_GATEWAY ? list_push_front : list_push_back)(&work->queue,
                                                                                 &item->in_queue);
        }
    }
}

void kube_work_refresh(struct kube_work *work, bool all) {
    struct refresh refresh = {.work = work, .all = all};
    HMAP_EACH_SAFE(pos, &work->items) {
        struct kube_work_item *item = HMAP_ITEM(pos, struct kube_work_item, by_key);
        item->is_seen = item->is_unread = false;
        set_text(&item->problem, "");
    }
    proc_mesh_each_broken(work->mesh, see_broken, &refresh);
    builder_each_problem(work->builder, see_problem, &refresh);
    for (size_t i = 0; i < KUBE_WORK_SERVICE; i++) {
        bool has_event = is_for_events((enum kube_work_kind)i);
        refresh.kind = (enum kube_work_kind)i;
        refresh.all = all && !has_event; // of these only those that have a problem
        builder_each_object(work->builder, kinds[i], see_object, &refresh);
    }
    if (work->config->auto_binding) {
        builder_each_auto(work->builder, work->config->ns, see_auto, &refresh);
    }
    queue_changed(work, all);
}

// ---- what is to be sent

static void send_status(const struct kube_work_item *item, const json_t *object, json_t *status,
                        struct kube_work_send *send) {
    char *path = kube_work_path(item);
    send->method = "PATCH";
    send->content_type = "application/merge-patch+json";
    send->path = xasprintf("%s/status", path);
    // With the version that was read: another controller may be writing, too.
    send->body = json_pack("{s:{s:s}, s:o}", "metadata", "resourceVersion",
                           kube_status_meta(object, "resourceVersion"), "status", status);
    free(path);
}

static json_t *gateway_status(struct kube_work *work, const struct kube_work_item *item,
                              const json_t *object, const char *now_text) {
    enum { IPS_MAX = 4 };
    char text[IPS_MAX][IP_TEXT_MAX];
    const char *ips[IPS_MAX];
    const struct service *own = own_service(work);
    struct kube_status_gateway in = {.now = now_text, .ips = ips, .unread = item->problem};
    const json_t *class = json_object_get(json_object_get(object, "spec"), "gatewayClassName");
    if (!json_is_string(class) || !is_our_class(work, json_string_value(class))) {
        return NULL;
    }
    if (own != NULL) {
        in.hostname = own->hostname;
        for (; in.n_ips < MIN((size_t)own->n_cluster_vips, (size_t)IPS_MAX); in.n_ips++) {
            ips[in.n_ips] = ip_text(&own->vips[in.n_ips], text[in.n_ips]);
        }
        for (uint32_t i = 0; i < own->n_endpoints; i++) {
            in.is_serving = in.is_serving || own->endpoints[i].is_ready;
        }
    }
    return kube_status_gateway(object, &in);
}

struct asked { // by kube_status_route()
    struct kube_work *work;
    const struct kube_work_item *route;
};

static enum kube_parent on_parent(void *arg, const struct kube_status_ref *ref) {
    return parent_of(((const struct asked *)arg)->work, ref);
}

static enum kube_backend on_backend(void *arg, const struct kube_status_ref *ref) {
    const struct asked *asked = arg;
    return backend_of(asked->work, kube_work_kind_text(asked->route), asked->route->ns, ref);
}

static json_t *status_of(struct kube_work *work, const struct kube_work_item *item,
                         const json_t *object, const char *now_text) {
    if (item->kind == KUBE_WORK_CLASS) {
        return kube_status_class(object, now_text);
    }
    if (item->kind == KUBE_WORK_GATEWAY) {
        return gateway_status(work, item, object, now_text);
    }
    struct asked asked = {work, item};
    struct kube_status_route in = {.now = now_text,
                                   .problem = item->problem,
                                   .is_unread = item->is_unread,
                                   .parent = on_parent,
                                   .backend = on_backend,
                                   .arg = &asked};
    return kube_status_route(object, &in);
}

// Named after what it says, so that it is there once, whoever says it.
static void send_event(const struct kube_work *work, const struct kube_work_item *item,
                       const json_t *object, const char *now_text, struct kube_work_send *send) {
    uint64_t hash = mix_text(mix_text(1, kube_status_meta(object, "uid")), item->problem);
    char *name = xasprintf("%.200s.%016llx", item->name, (unsigned long long)hash);
    send->method = "POST";
    send->content_type = "application/json";
    send->is_event = true;
    send->path = xasprintf("/api/v1/namespaces/%s/events", item->ns);
    send->body = json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:{s:O, s:O, s:s, s:s, s:s}, s:s, s:s, s:s, s:{s:s}, s:s, s:s, "
        "s:i, s:s, s:s}",
        "apiVersion", "v1", "kind", "Event", "metadata", "name", name, "namespace", item->ns,
        "involvedObject", "apiVersion", json_object_get(object, "apiVersion"), "kind",
        json_object_get(object, "kind"), "namespace", item->ns, "name", item->name, "uid",
        kube_status_meta(object, "uid"), "type", "Warning", "reason", "NotInForce", "message",
        item->problem, "source", "component", KUBE_STATUS_CLASS, "firstTimestamp", now_text,
        "lastTimestamp", now_text, "count", 1, "reportingComponent", KUBE_STATUS_CONTROLLER,
        "reportingInstance",
        work->config->pod_name[0] != '\0' ? work->config->pod_name : work->config->name);
    free(name);
}

static enum kube_work_verdict decide_binding(struct kube_work *work, struct kube_work_item *item,
                                             const json_t *object, struct kube_work_send *send) {
    enum auto_bind_action action = auto_bind_decide(object, work->manager, item->wanted);
    if (action == AUTO_BIND_OTHERS) {
        return KUBE_WORK_OTHERS;
    }
    if (action == AUTO_BIND_NOTHING) {
        return KUBE_WORK_DONE;
    }
    if (action == AUTO_BIND_SET && item->was_applied) {
        item->was_applied = false; // the next time it is tried again
        item->n_losses++;
        return KUBE_WORK_LOST;
    }
    char *path = kube_work_path(item);
    send->method = "PATCH";
    send->content_type = "application/apply-patch+yaml";
    send->path = xasprintf("%s?fieldManager=%s&force=false", path, work->manager);
    send->body = auto_bind_body(object, item->wanted);
    send->is_binding = true;
    free(path);
    return KUBE_WORK_SEND;
}

enum kube_work_verdict kube_work_decide(struct kube_work *work, struct kube_work_item *item,
                                        const json_t *object, const char *now_text,
                                        struct kube_work_send *ret_send) {
    *ret_send = (struct kube_work_send){0};
    if (item->kind >= KUBE_WORK_SERVICE) {
        return decide_binding(work, item, object, ret_send);
    }
    if (is_for_events((enum kube_work_kind)item->kind)) {
        if (item->problem[0] == '\0') {
            return KUBE_WORK_DONE;
        }
        send_event(work, item, object, now_text, ret_send);
        return KUBE_WORK_SEND;
    }
    json_t *status = status_of(work, item, object, now_text);
    if (status == NULL) {
        return KUBE_WORK_DONE;
    }
    send_status(item, object, status, ret_send);
    return KUBE_WORK_SEND;
}

void kube_work_send_fini(struct kube_work_send *send) {
    json_decref(send->body);
    free(send->path);
    *send = (struct kube_work_send){0};
}
