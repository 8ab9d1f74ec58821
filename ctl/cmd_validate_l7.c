// SPDX-License-Identifier: Apache-2.0
//
// VirtualServices, DestinationRules and routes against the services, subsets and waypoints that
// there are.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/mesh/kobj_l7.h"
#include "ctl/cmd_validate.h"

static void ignore(void *arg, const struct validate_workload *workload) {
    (void)arg, (void)workload;
}

// Services by host

static bool has_services(const struct validate *v) {
    return v->n_by_kind[KOBJ_SERVICE] + v->n_by_kind[KOBJ_SERVICE_ENTRY] > 0;
}

static bool covers(const char *wide, const char *host) {
    if (wide[0] != '*') {
        return strcasecmp(wide, host) == 0;
    }
    size_t len_wide = strlen(wide + 1), len = strlen(host);
    return len >= len_wide && strcasecmp(host + len - len_wide, wide + 1) == 0;
}

// "NAME" (in `ns`), "NAME.NS.svc", "NAME.NS.svc.DOMAIN"; false: not a Kubernetes Service's host.
static bool service_name(const char *host, const char *ns, char ret_ns[64], char ret_name[64]) {
    struct slice name, space, rest = slice_str(host);

    if (strchr(host, '.') == NULL) {
        snprintf(ret_ns, 64, "%s", ns);
        return host[0] != '*' && snprintf(ret_name, 64, "%s", host) < 64;
    }
    if (!slice_split(rest, '.', &name, &rest) || !slice_split(rest, '.', &space, &rest) ||
        (!slice_eq_str(rest, "svc") && !slice_has_prefix(rest, SLICE_LIT("svc.")))) {
        return false;
    }
    return snprintf(ret_name, 64, "%.*s", (int)name.len, (const char *)name.ptr) < 64 &&
           snprintf(ret_ns, 64, "%.*s", (int)space.len, (const char *)space.ptr) < 64;
}

// A Service or ServiceEntry that has the host, or NULL.
static const struct kobj *find_host(const struct validate *v, const char *host, const char *ns) {
    char space[64], name[64];

    if (service_name(host, ns, space, name)) {
        const struct kobj *service = config_store_get(v->store, KOBJ_SERVICE, space, name);
        if (service != NULL) {
            return service;
        }
    }
    for (uint32_t i = 0; v->n_by_kind[KOBJ_SERVICE_ENTRY] > 0 && i < v->n_objs; i++) {
        const struct kobj *obj = v->objs[i];
        for (uint32_t j = 0; obj->kind == KOBJ_SERVICE_ENTRY && j < obj->service_entry->n_hosts;
             j++) {
            if (covers(obj->service_entry->hosts[j], host) ||
                covers(host, obj->service_entry->hosts[j])) {
                return obj;
            }
        }
    }
    return NULL;
}

static bool has_port(const struct kobj *service, uint16_t port) {
    if (service->kind == KOBJ_SERVICE) {
        for (uint32_t i = 0; i < service->service->n_ports; i++) {
            if (service->service->ports[i].port == port) {
                return true;
            }
        }
        return service->service->type == SERVICE_EXTERNAL_NAME;
    }
    for (uint32_t i = 0; i < service->service_entry->n_ports; i++) {
        if (service->service_entry->ports[i].port == port) {
            return true;
        }
    }
    return false;
}

static uint32_t n_ports(const struct kobj *service) {
    return service->kind == KOBJ_SERVICE ? service->service->n_ports
                                         : service->service_entry->n_ports;
}

// "web.shop" is meant as a short name, but has a dot.
static void warn_no_host(struct validate *v, const struct kobj *obj, const char *path,
                         const char *host) {
    struct slice name, ns;
    char space[64], service[64], hint[160] = "";

    if (slice_split(slice_str(host), '.', &name, &ns) && ns.len < sizeof(space) &&
        name.len < sizeof(service)) {
        snprintf(service, sizeof(service), "%.*s", (int)name.len, (const char *)name.ptr);
        snprintf(space, sizeof(space), "%.*s", (int)ns.len, (const char *)ns.ptr);
        if (config_store_get(v->store, KOBJ_SERVICE, space, service) != NULL) {
            snprintf(hint, sizeof(hint), "%s.%s.svc.cluster.local", service, space);
        }
    }
    validate_warn(v, obj, path, hint,
                  hint[0] != '\0' ? "`%.200s` is taken as a full host name, of which there is no "
                                    "service"
                                  : "there is no service `%.200s` in these files",
                  host);
}

// Waypoints

static const char *label_of(const struct validate *v, const struct kobj *obj, const char *key) {
    const struct kobj *home = config_store_get(v->store, KOBJ_NAMESPACE, "", obj->meta.ns);
    const char *own = kobj_map_get(&obj->meta.labels, "istio.io/use-waypoint");

    if (own != NULL) {
        return kobj_map_get(&obj->meta.labels, key);
    }
    return home != NULL ? kobj_map_get(&home->meta.labels, key) : NULL;
}

bool validate_has_waypoint(const struct validate *v, const struct kobj *service) {
    const struct kobj *home = config_store_get(v->store, KOBJ_NAMESPACE, "", service->meta.ns);
    const char *own = kobj_map_get(&service->meta.labels, "istio.io/use-waypoint");
    const char *name = label_of(v, service, "istio.io/use-waypoint");

    if (own == NULL && home == NULL) {
        return true; // not known
    }
    bool is_auto = own == NULL && kobj_map_get(&home->meta.labels, "ztun.io/use-waypoint") != NULL;
    return is_auto || (name != NULL && strcmp(name, "none") != 0);
}

// exportTo has the namespace `ns` ("." is the object's).
static bool is_exported(const char *const *export_to, uint32_t n, const struct kobj *obj,
                        const char *ns) {
    for (uint32_t i = 0; i < n; i++) {
        const char *to = strcmp(export_to[i], ".") == 0 ? obj->meta.ns : export_to[i];
        if (strcmp(to, "*") == 0 || strcmp(to, ns) == 0) {
            return true;
        }
    }
    return n == 0;
}

// Nothing reads an object that is exported to neither the service's namespace nor its waypoint's.
static void check_exported(struct validate *v, const struct kobj *obj, const struct kobj *service,
                           const char *const *export_to, uint32_t n) {
    const char *ns = label_of(v, service, "istio.io/use-waypoint-namespace");
    if (is_exported(export_to, n, obj, service->meta.ns) ||
        (ns != NULL && is_exported(export_to, n, obj, ns))) {
        return;
    }
    validate_warn(v, obj, "spec.exportTo", "",
                  "has neither the namespace of %s `%.63s/%.200s` nor that of its waypoint, so no "
                  "waypoint reads this: add `%.63s`",
                  service->kind_name, service->meta.ns, service->meta.name, service->meta.ns);
}

// Nothing reads an object for a service without a waypoint, or in a third namespace.
static void check_seen(struct validate *v, const struct kobj *obj, const struct kobj *service,
                       const char *path) {
    const char *ns = label_of(v, service, "istio.io/use-waypoint-namespace");
    const char *own_ns = obj->meta.ns;

    if (!validate_has_waypoint(v, service)) {
        validate_warn(v, obj, path, "",
                      "%s `%.63s/%.200s` has no waypoint, so this has no effect: label its "
                      "namespace (kubectl label namespace %.63s ztun.io/use-waypoint=auto)",
                      service->kind_name, service->meta.ns, service->meta.name, service->meta.ns);
        return;
    }
    bool is_root = obj->kind == KOBJ_DESTINATION_RULE && strcmp(own_ns, v->root_ns) == 0;
    if (strcmp(own_ns, service->meta.ns) != 0 && !is_root &&
        (ns == NULL || strcmp(own_ns, ns) != 0)) {
        validate_warn(v, obj, path, "",
                      "%s `%.63s/%.200s` is in another namespace: a waypoint reads objects of the "
                      "service's namespace and of its own",
                      service->kind_name, service->meta.ns, service->meta.name);
    }
}

// Destinations

static bool is_same_host(const char *a, const char *a_ns, const char *b, const char *b_ns) {
    char ns[2][64], name[2][64];

    if (service_name(a, a_ns, ns[0], name[0]) && service_name(b, b_ns, ns[1], name[1])) {
        return strcmp(ns[0], ns[1]) == 0 && strcasecmp(name[0], name[1]) == 0;
    }
    return covers(a, b);
}

// A quick look before the whole: there may be many rules.
static bool is_same_label(const char *a, const char *b) {
    size_t len = strcspn(b, ".");
    return a[0] == '*' || (strcspn(a, ".") == len && strncasecmp(a, b, len) == 0);
}

static bool has_subset(const struct validate *v, const char *host, const char *ns,
                       const char *subset) {
    for (uint32_t i = 0; i < v->n_objs; i++) {
        const struct kobj *obj = v->objs[i];
        if (obj->kind != KOBJ_DESTINATION_RULE ||
            !is_same_label(obj->destination_rule->host, host) ||
            !is_same_host(obj->destination_rule->host, obj->meta.ns, host, ns)) {
            continue;
        }
        for (uint32_t j = 0; j < obj->destination_rule->n_subsets; j++) {
            if (strcmp(obj->destination_rule->subsets[j].name, subset) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void check_dest(struct validate *v, const struct kobj *obj, const struct kobj_vs_dest *dest,
                       const char *base) {
    const struct kobj *service = find_host(v, dest->host, obj->meta.ns);
    char path[128];

    if (service == NULL) {
        snprintf(path, sizeof(path), "%s.host", base);
        warn_no_host(v, obj, path, dest->host);
        return;
    }
    snprintf(path, sizeof(path), "%s.port", base);
    if (dest->port != 0 && !has_port(service, dest->port)) {
        validate_warn(v, obj, path, "", "%s `%.63s/%.200s` has no port %u", service->kind_name,
                      service->meta.ns, service->meta.name, dest->port);
    }
    if (dest->port == 0 && n_ports(service) > 1) {
        validate_warn(v, obj, path, "",
                      "is absent, and `%.200s` has several: requests go to the port of the same "
                      "number as they came for",
                      service->meta.name);
    }
    snprintf(path, sizeof(path), "%s.subset", base);
    if (dest->subset[0] != '\0' && !has_subset(v, dest->host, obj->meta.ns, dest->subset)) {
        validate_warn(v, obj, path, "",
                      "no DestinationRule for `%.200s` has a subset `%.63s`: requests get 503",
                      dest->host, dest->subset);
    }
}

static void check_rule(struct validate *v, const struct kobj *obj, const struct kobj_vs_http *http,
                       uint32_t i) {
    char path[96];

    for (uint32_t j = 0; j < http->n_routes; j++) {
        snprintf(path, sizeof(path), "spec.http[%u].route[%u].destination", i, j);
        check_dest(v, obj, &http->routes[j], path);
    }
    for (uint32_t j = 0; j < http->n_mirrors; j++) {
        snprintf(path, sizeof(path),
                 http->has_mirror ? "spec.http[%u].mirror"
                                  : "spec.http[%u].mirrors[%u].destination",
                 i, j);
        check_dest(v, obj, &http->mirrors[j].dest, path);
    }
    if (http->delegate_name[0] == '\0') {
        return;
    }
    const char *ns = http->delegate_ns[0] != '\0' ? http->delegate_ns : obj->meta.ns;
    const struct kobj *child =
        config_store_get(v->store, KOBJ_VIRTUAL_SERVICE, ns, http->delegate_name);
    snprintf(path, sizeof(path), "spec.http[%u].delegate", i);
    if (child == NULL) {
        validate_warn(v, obj, path, "", "there is no VirtualService `%.63s/%.200s` in these files",
                      ns, http->delegate_name);
    } else if (child->virtual_service->n_hosts > 0) {
        validate_warn(v, obj, path, "",
                      "VirtualService `%.63s/%.200s` has `hosts`, so it is no delegate", ns,
                      http->delegate_name);
    }
}

static void check_l4(struct validate *v, const struct kobj *obj, const struct kobj_vs_l4 *rules,
                     uint32_t n, const char *field) {
    char path[96];

    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < rules[i].n_routes; j++) {
            snprintf(path, sizeof(path), "spec.%s[%u].route[%u].destination", field, i, j);
            check_dest(v, obj, &rules[i].routes[j], path);
        }
    }
}

static bool is_parent(const struct kobj *obj, const struct kobj *service) {
    for (uint32_t i = 0; i < obj->route->n_parents; i++) {
        const struct kobj_parent_ref *parent = &obj->route->parents[i];
        if (strcmp(parent->kind, service->kind_name) == 0 &&
            strcmp(parent->name, service->meta.name) == 0 &&
            strcmp(obj->meta.ns, service->meta.ns) == 0) {
            return true;
        }
    }
    return false;
}

static void check_mixed(struct validate *v, const struct kobj *obj, const struct kobj *service,
                        const char *path) {
    for (uint32_t i = 0; i < v->n_objs; i++) {
        const struct kobj *other = v->objs[i];
        bool is_route = other->kind == KOBJ_HTTP_ROUTE || other->kind == KOBJ_GRPC_ROUTE;
        if (is_route && is_parent(other, service)) {
            validate_warn(v, obj, path, "",
                          "`%.200s` has %s `%.63s/%.200s` as well, whose rules come first: use one "
                          "kind",
                          service->meta.name, other->kind_name, other->meta.ns, other->meta.name);
            return;
        }
    }
}

// A VirtualService without hosts is a delegate: somebody has to use it.
static void check_delegate(struct validate *v, const struct kobj *obj) {
    for (uint32_t i = 0; i < v->n_objs; i++) {
        const struct kobj *other = v->objs[i];
        const struct kobj_virtual_service *vs =
            other->kind == KOBJ_VIRTUAL_SERVICE ? other->virtual_service : NULL;
        for (uint32_t k = 0; vs != NULL && k < vs->n_http; k++) {
            const char *ns =
                vs->http[k].delegate_ns[0] != '\0' ? vs->http[k].delegate_ns : other->meta.ns;
            if (strcmp(vs->http[k].delegate_name, obj->meta.name) == 0 &&
                strcmp(ns, obj->meta.ns) == 0) {
                return;
            }
        }
    }
    validate_warn(v, obj, "spec.hosts", "",
                  "is absent, so this is a delegate, but no rule of these files delegates to it: "
                  "name the services that it is for");
}

static void check_virtual_service(struct validate *v, const struct kobj *obj) {
    const struct kobj_virtual_service *vs = obj->virtual_service;
    char path[32];

    if (vs->n_hosts == 0) {
        check_delegate(v, obj);
    } else if (!kobj_virtual_service_is_mesh(vs)) {
        validate_warn(
            v, obj, "spec.gateways", "",
            "has not `mesh`: these rules are for ingress, and no waypoint reads them; add "
            "`mesh`, or leave it out");
    }
    for (uint32_t i = 0; kobj_virtual_service_is_mesh(vs) && i < vs->n_hosts; i++) {
        const struct kobj *service = find_host(v, vs->hosts[i], obj->meta.ns);
        snprintf(path, sizeof(path), "spec.hosts[%u]", i);
        if (service != NULL) {
            check_seen(v, obj, service, path);
            check_exported(v, obj, service, vs->export_to, vs->n_export_to);
            check_mixed(v, obj, service, path);
        } else if (vs->hosts[i][0] != '*') {
            warn_no_host(v, obj, path, vs->hosts[i]);
        }
    }
    for (uint32_t i = 0; i < vs->n_http; i++) {
        check_rule(v, obj, &vs->http[i], i);
    }
    check_l4(v, obj, vs->tls, vs->n_tls, "tls");
    check_l4(v, obj, vs->tcp, vs->n_tcp, "tcp");
}

// DestinationRule

static void check_subsets(struct validate *v, const struct kobj *obj, const struct kobj *service) {
    const struct kobj_destination_rule *dr = obj->destination_rule;
    char path[48];

    if (service->kind != KOBJ_SERVICE || v->n_workloads == 0 || service->service->selector.n == 0) {
        return;
    }
    for (uint32_t i = 0; i < dr->n_subsets; i++) {
        if (dr->subsets[i].labels.n > 0 &&
            validate_select(v, service->meta.ns, &dr->subsets[i].labels, ignore, NULL) == 0) {
            snprintf(path, sizeof(path), "spec.subsets[%u].labels", i);
            validate_warn(v, obj, path, "", "selects no pods of these files: requests get 503");
        }
    }
}

static void count_pods(void *arg, const struct validate_workload *workload) {
    uint64_t *n_pods = arg;
    bool is_set = workload->obj->kind == KOBJ_DEPLOYMENT ||
                  workload->obj->kind == KOBJ_REPLICA_SET ||
                  workload->obj->kind == KOBJ_STATEFUL_SET;
    *n_pods += is_set ? (uint64_t)MAX(workload->obj->workload_set->replicas, 0) : 1;
}

// The default of 10 % never ejects one of less than 10 endpoints.
static void check_ejection(struct validate *v, const struct kobj *obj, const struct kobj *service,
                           const struct kobj_outlier *outlier, const char *base) {
    enum { DEFAULT_PERCENT = 10 };
    bool is_set = outlier->max_ejection_percent >= 0;
    uint64_t percent = is_set ? (uint64_t)outlier->max_ejection_percent : DEFAULT_PERCENT, n = 0;
    char path[96];

    if (service->kind == KOBJ_SERVICE && service->service->selector.n > 0) {
        validate_select(v, service->meta.ns, &service->service->selector, count_pods, &n);
    }
    if (n == 0 || percent * n >= 100) {
        return;
    }
    snprintf(path, sizeof(path), "%s.outlierDetection.maxEjectionPercent", base);
    validate_warn(v, obj, path, "",
                  "%s %llu %%: with %llu endpoint%s in these files none is ever ejected; at least "
                  "%llu %% ejects one",
                  is_set ? "is" : "is absent, which is", (unsigned long long)percent,
                  (unsigned long long)n, n == 1 ? "" : "s", (unsigned long long)((99 + n) / n));
}

static void check_traffic(struct validate *v, const struct kobj *obj, const struct kobj *service,
                          const struct kobj_traffic_policy *policy, bool has_outlier,
                          const char *base) {
    char path[160];

    if (policy->outlier != NULL) {
        check_ejection(v, obj, service, policy->outlier, base);
    }
    const struct mesh_locality_lb *locality =
        policy->load_balancer != NULL ? policy->load_balancer->locality : NULL;
    if (locality != NULL && !has_outlier &&
        (locality->n_failover > 0 || locality->n_failover_priority > 0)) {
        snprintf(path, sizeof(path), "%s.loadBalancer.localityLbSetting", base);
        validate_warn(v, obj, path, "",
                      "fails over to other places only with `outlierDetection`, which is absent: "
                      "without it no endpoint is ever found unhealthy");
    }
    for (uint32_t i = 0; i < policy->n_ports; i++) {
        const struct kobj_port_policy *port = &policy->ports[i];
        snprintf(path, sizeof(path), "%s.portLevelSettings[%u]", base, i);
        check_traffic(v, obj, service, &port->policy, port->policy.outlier != NULL, path);
        if (!has_port(service, port->port)) {
            snprintf(path, sizeof(path), "%s.portLevelSettings[%u].port", base, i);
            validate_warn(v, obj, path, "", "%s `%.63s/%.200s` has no port %u", service->kind_name,
                          service->meta.ns, service->meta.name, port->port);
        }
    }
}

static void check_policies(struct validate *v, const struct kobj *obj, const struct kobj *service) {
    const struct kobj_destination_rule *dr = obj->destination_rule;
    bool has_outlier = dr->policy != NULL && dr->policy->outlier != NULL;
    char path[64];

    if (dr->policy != NULL) {
        check_traffic(v, obj, service, dr->policy, has_outlier, "spec.trafficPolicy");
    }
    for (uint32_t i = 0; i < dr->n_subsets; i++) {
        const struct kobj_traffic_policy *policy = dr->subsets[i].policy;
        if (policy != NULL) {
            snprintf(path, sizeof(path), "spec.subsets[%u].trafficPolicy", i);
            check_traffic(v, obj, service, policy, has_outlier || policy->outlier != NULL, path);
        }
    }
}

static void check_destination_rule(struct validate *v, const struct kobj *obj) {
    const struct kobj_destination_rule *dr = obj->destination_rule;
    const struct kobj *service = find_host(v, dr->host, obj->meta.ns);

    if (service == NULL) {
        if (dr->host[0] != '*') {
            warn_no_host(v, obj, "spec.host", dr->host);
        }
        return;
    }
    check_seen(v, obj, service, "spec.host");
    check_exported(v, obj, service, dr->export_to, dr->n_export_to);
    check_subsets(v, obj, service);
    check_policies(v, obj, service);
}

// HTTPRoute, GRPCRoute

static void check_backend(struct validate *v, const struct kobj *obj,
                          const struct kobj_backend *backend, const char *path) {
    const char *ns = backend->ns[0] != '\0' ? backend->ns : obj->meta.ns;
    bool is_service = backend->group[0] == '\0' && strcmp(backend->kind, "Service") == 0;
    const struct kobj *service =
        is_service ? config_store_get(v->store, KOBJ_SERVICE, ns, backend->name) : NULL;

    if (!is_service || v->n_by_kind[KOBJ_SERVICE] == 0) {
        return;
    }
    if (service == NULL) {
        validate_warn(v, obj, path, "",
                      "there is no Service `%.63s/%.200s` in these files: its share of the "
                      "requests gets 500",
                      ns, backend->name);
    } else if (backend->port != 0 && !has_port(service, backend->port)) {
        validate_warn(v, obj, path, "", "Service `%.63s/%.200s` has no port %u", ns, backend->name,
                      backend->port);
    }
}

static void check_parent(struct validate *v, const struct kobj *obj,
                         const struct kobj_parent_ref *parent, const char *path) {
    const char *ns = parent->ns[0] != '\0' ? parent->ns : obj->meta.ns;
    bool is_entry = strcmp(parent->kind, "ServiceEntry") == 0;

    if (!is_entry && strcmp(parent->kind, "Service") != 0) {
        validate_warn(v, obj, path, "", "a %.60s as parent is ingress, which is a later step",
                      parent->kind);
        return;
    }
    const struct kobj *service =
        config_store_get(v->store, is_entry ? KOBJ_SERVICE_ENTRY : KOBJ_SERVICE, ns, parent->name);
    if (strcmp(ns, obj->meta.ns) != 0) {
        validate_warn(v, obj, path, "",
                      "`%.63s/%.200s` is in another namespace: such a route is for its clients "
                      "alone, and no waypoint reads it",
                      ns, parent->name);
    } else if (service == NULL && has_services(v)) {
        validate_warn(v, obj, path, "", "there is no %s `%.63s/%.200s` in these files",
                      parent->kind, ns, parent->name);
    } else if (service != NULL) {
        check_seen(v, obj, service, path);
        if (parent->port != 0 && !has_port(service, parent->port)) {
            validate_warn(v, obj, path, "", "%s `%.63s/%.200s` has no port %u", parent->kind, ns,
                          parent->name, parent->port);
        }
    }
}

static void check_route(struct validate *v, const struct kobj *obj) {
    const struct kobj_route *route = obj->route;
    char path[96];

    for (uint32_t i = 0; i < route->n_parents; i++) {
        snprintf(path, sizeof(path), "spec.parentRefs[%u]", i);
        check_parent(v, obj, &route->parents[i], path);
    }
    for (uint32_t i = 0; i < route->n_rules; i++) {
        const struct kobj_route_rule *rule = &route->rules[i];
        uint64_t weight = 0;
        for (uint32_t j = 0; j < rule->n_backends; j++) {
            snprintf(path, sizeof(path), "spec.rules[%u].backendRefs[%u]", i, j);
            check_backend(v, obj, &rule->backends[j], path);
            weight += rule->backends[j].weight;
        }
        if (rule->n_backends > 0 && weight == 0) {
            snprintf(path, sizeof(path), "spec.rules[%u].backendRefs", i);
            validate_warn(v, obj, path, "",
                          "has only weights of 0: requests that take this rule get 500");
        }
        for (uint32_t j = 0; j < rule->n_filters; j++) {
            if (rule->filters[j].mirror != NULL) {
                snprintf(path, sizeof(path), "spec.rules[%u].filters[%u].requestMirror.backendRef",
                         i, j);
                check_backend(v, obj, &rule->filters[j].mirror->backend, path);
            }
        }
    }
}

// Until 2019 what is retried by default had answers with 503 in it.
static void check_retries(struct validate *v, const struct kobj *obj) {
    const struct kobj_virtual_service *vs = obj->virtual_service;
    char path[48];

    for (uint32_t i = 0; i < vs->n_http; i++) {
        const struct kobj_vs_retry *retries = vs->http[i].retries;
        if (retries != NULL && retries->attempts > 0 && retries->retry_on[0] == '\0') {
            snprintf(path, sizeof(path), "spec.http[%u].retries", i);
            validate_note(v, obj, path,
                          "has no `retryOn`: failed connections and refused streams are tried "
                          "again, answers with 503 and the like are not; for these, too, write "
                          "`retryOn: 5xx`");
        }
    }
}

void validate_l7(struct validate *v) {
    for (uint32_t i = 0; i < v->n_objs; i++) {
        const struct kobj *obj = v->objs[i];
        switch ((enum kobj_kind)obj->kind) {
        case KOBJ_VIRTUAL_SERVICE:
            check_retries(v, obj);
            if (has_services(v)) {
                check_virtual_service(v, obj);
            }
            break;
        case KOBJ_DESTINATION_RULE:
            if (has_services(v)) {
                check_destination_rule(v, obj);
            }
            break;
        case KOBJ_HTTP_ROUTE:
        case KOBJ_GRPC_ROUTE:
            check_route(v, obj);
            break;
        default:
            break;
        }
    }
}
