// SPDX-License-Identifier: Apache-2.0
#include "waypoint/admin_l7.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/l7/l7_routes.h"
#include "waypoint/cluster.h"
#include "waypoint/waypoint.h"

// What a cluster that exists has in use, copied.
struct live_host {
    struct addr addr;
    uint32_t n_active, n_conns, n_5xx, n_gateway, n_local, n_ejections;
    uint64_t ejected_at_ms, since_ms;
    bool is_ejected;
};
struct live_cluster {
    char *service_key, *subset;
    uint16_t port;
    uint32_t counts[L7_N_BREAKERS], n_ejected;
    uint64_t ended[L7_BREAKER_SLOTS];
    struct live_host *hosts;
    size_t n_hosts;
    bool is_written;
};

enum phase { LISTENERS, ROUTES, CLUSTERS, OTHERS, DONE };
struct admin_l7 {
    const struct waypoint_config *config;
    struct pmap all_services, l7_routes, l7_policies; // referenced
    struct service **services; // bound here, in order of their keys; alive as all_services is
    size_t n_services, cap_services, at;
    struct live_cluster *live;
    size_t n_live, cap_live;
    char key[512]; // the waypoint's own
    uint64_t now_ms;
    uint8_t phase; // enum phase
    bool has_begun; // the phase's array is open
    bool is_listening;
};

// ---- gathering ---------------------------------------------------------------------------------

static uint32_t get(const atomic_uint *count) {
    return atomic_load_explicit(count, memory_order_relaxed);
}

static void copy_host(const struct cluster_host *host, struct live_host *ret) {
    *ret = (struct live_host){
        .addr = host->addr,
        .n_active = get(&host->cell.active),
        .n_conns = get(&host->n_conns),
        .n_5xx = get(&host->cell.n_5xx),
        .n_gateway = get(&host->cell.n_gateway),
        .n_local = get(&host->cell.n_local),
        .n_ejections = get(&host->cell.n_ejections),
        .ejected_at_ms = atomic_load(&host->cell.ejected_at_ms),
        .since_ms = host->cell.since_ms,
        .is_ejected = atomic_load(&host->cell.is_ejected),
    };
}

// Under the lock of the clusters' table.
static void copy_cluster(void *arg, struct cluster *cluster) {
    struct admin_l7 *dump = arg;
    if (dump->n_live == dump->cap_live) {
        dump->cap_live = 2 * dump->cap_live + 16;
        dump->live = xrealloc(dump->live, dump->cap_live * sizeof(*dump->live));
    }
    struct live_cluster *live = &dump->live[dump->n_live++];
    *live = (struct live_cluster){.service_key = xstrdup(cluster->service_key),
                                  .subset = xstrdup(cluster->subset),
                                  .port = cluster->port,
                                  .n_ejected = get(&cluster->outlier.n_ejected)};
    for (size_t i = 0; i < L7_N_BREAKERS; i++) {
        live->counts[i] = l7_breaker_count(&cluster->breaker, (enum l7_breaker_kind)i);
    }
    for (size_t i = 0; i < L7_BREAKER_SLOTS; i++) {
        live->ended[i] = atomic_load(&cluster->breaker.ended[i]);
    }
    pthread_mutex_lock(&cluster->lock);
    live->hosts = xcalloc(cluster->hosts.n_items + 1, sizeof(*live->hosts));
    HMAP_EACH_SAFE(pos, &cluster->hosts) {
        copy_host(HMAP_ITEM(pos, struct cluster_host, node), &live->hosts[live->n_hosts++]);
    }
    pthread_mutex_unlock(&cluster->lock);
}

static int compare_live(const void *a, const void *b) {
    const struct live_cluster *x = a, *y = b;
    int order = strcmp(x->service_key, y->service_key);
    if (order == 0) {
        order = (x->port > y->port) - (x->port < y->port);
    }
    return order != 0 ? order : strcmp(x->subset, y->subset);
}

static int compare_hosts(const void *a, const void *b) {
    const struct live_host *x = a, *y = b;
    int order = memcmp(x->addr.ip.bytes, y->addr.ip.bytes, sizeof(x->addr.ip.bytes));
    return order != 0 ? order : (x->addr.port > y->addr.port) - (x->addr.port < y->addr.port);
}

static int compare_services(const void *a, const void *b) {
    const struct service *const *x = a, *const *y = b;
    return strcmp((const char *)(*x)->leaf.key.ptr, (const char *)(*y)->leaf.key.ptr);
}

static bool add_bound(void *arg, void *leaf) {
    struct admin_l7 *dump = arg;
    struct service *service = leaf;
    if (!service_is_bound(service, dump->key)) {
        return true;
    }
    if (dump->n_services == dump->cap_services) {
        dump->cap_services = 2 * dump->cap_services + 16;
        dump->services = xrealloc(dump->services, dump->cap_services * sizeof(*dump->services));
    }
    dump->services[dump->n_services++] = service;
    return true;
}

struct admin_l7 *admin_l7_new(const struct waypoint_config *config, const struct snapshot *snap,
                              bool is_listening) {
    struct admin_l7 *dump = xcalloc(1, sizeof(*dump));
    dump->config = config;
    dump->is_listening = is_listening;
    dump->now_ms = clock_mono_ns() / NS_PER_MS;
    dump->all_services = pmap_ref(snap->services);
    dump->l7_routes = pmap_ref(snap->l7_routes);
    dump->l7_policies = pmap_ref(snap->l7_policies);
    (void)waypoint_service_key(config, snap, dump->key);
    pmap_each(&dump->all_services, add_bound, dump);
    cluster_each(copy_cluster, dump);
    if (dump->n_services > 0) {
        qsort(dump->services, dump->n_services, sizeof(*dump->services), compare_services);
    }
    if (dump->n_live > 0) {
        qsort(dump->live, dump->n_live, sizeof(*dump->live), compare_live);
    }
    for (size_t i = 0; i < dump->n_live; i++) {
        qsort(dump->live[i].hosts, dump->live[i].n_hosts, sizeof(*dump->live[i].hosts),
              compare_hosts);
    }
    return dump;
}

void admin_l7_free(struct admin_l7 *dump) {
    if (dump == NULL) {
        return;
    }
    for (size_t i = 0; i < dump->n_live; i++) {
        free(dump->live[i].service_key);
        free(dump->live[i].subset);
        free(dump->live[i].hosts);
    }
    free(dump->live);
    free(dump->services);
    pmap_unref(&dump->all_services);
    pmap_unref(&dump->l7_routes);
    pmap_unref(&dump->l7_policies);
    free(dump);
}

// ---- small values ------------------------------------------------------------------------------

static void put_addr(struct json_out *out, const char *key, const struct addr *addr) {
    char text[ADDR_TEXT_MAX];
    json_out_kv_str(out, key, addr_text(addr, text));
}

static void put_text(struct json_out *out, const char *key, const char *text) {
    if (text != NULL && text[0] != '\0') {
        json_out_kv_str(out, key, text);
    }
}

static void put_time(struct json_out *out, const char *key, uint64_t ms) {
    if (ms != 0) {
        json_out_kv_u64(out, key, ms);
    }
}

static void put_percent(struct json_out *out, const char *key, uint32_t ppm) {
    json_out_key(out, slice_str(key));
    json_out_double(out, ppm / 1e4);
}

// "VirtualService ns/name" and its place; nothing of a default.
static void put_origin(struct json_out *out, const struct l7_source *source, struct kobj_pos pos) {
    if (source == NULL) {
        return;
    }
    json_out_kv_object(out, "from");
    json_out_kv_str(out, "kind", source->kind);
    json_out_kv_str(out, "namespace", source->ns);
    json_out_kv_str(out, "name", source->name);
    json_out_kv_str(out, "file", source->file);
    json_out_kv_u64(out, "line", pos.line);
    json_out_kv_u64(out, "column", pos.col);
    json_out_end(out);
}

// ---- listeners ---------------------------------------------------------------------------------

static void put_listener(struct json_out *out, const char *name, const struct addr *addr,
                         const char *protocol, bool is_open) {
    json_out_begin_object(out);
    json_out_kv_str(out, "name", name);
    put_addr(out, "address", addr);
    json_out_kv_str(out, "protocol", protocol);
    json_out_kv_bool(out, "open", is_open);
    json_out_end(out);
}

static void put_listeners(struct json_out *out, const struct admin_l7 *dump) {
    const struct waypoint_config *config = dump->config;
    put_listener(out, "mesh", &config->listen, "HBONE", dump->is_listening);
    put_listener(out, "admin", &config->proc.admin, "HTTP", true);
    put_listener(out, "metrics", &config->proc.metrics, "HTTP", true);
    put_listener(out, "readiness", &config->proc.readiness, "HTTP", true);
}

// ---- routes ------------------------------------------------------------------------------------

static void put_destination(struct json_out *out, const struct l7_cluster *cluster,
                            const struct service *called) {
    json_out_kv_str(out, "host", cluster->host[0] != '\0' ? cluster->host : called->hostname);
    put_text(out, "subset", cluster->subset);
    if (cluster->port != 0) {
        json_out_kv_u64(out, "port", cluster->port);
    }
}

static void put_fault(struct json_out *out, const struct l7_fault *fault) {
    json_out_kv_object(out, "fault");
    if (fault->delay_ppm > 0) {
        json_out_kv_u64(out, "delayMs", fault->delay_ms);
        put_percent(out, "delayPercent", fault->delay_ppm);
    }
    if (fault->abort_ppm > 0) {
        json_out_kv_u64(out, fault->status != 0 ? "abortStatus" : "abortGrpcStatus",
                        fault->status != 0 ? fault->status : fault->grpc_status);
        put_percent(out, "abortPercent", fault->abort_ppm);
    }
    json_out_end(out);
}

static void put_forward(struct json_out *out, const struct l7_route *route,
                        const struct service *service) {
    put_time(out, "timeoutMs", route->timeout_ms);
    put_time(out, "perTryTimeoutMs", route->retry.per_try_timeout_ms);
    json_out_kv_u64(out, "retries", route->retry.attempts);
    json_out_kv_array(out, "destinations");
    for (uint32_t i = 0; i < route->n_clusters; i++) {
        json_out_begin_object(out);
        put_destination(out, &route->clusters[i], service);
        json_out_kv_u64(out, "weight", route->clusters[i].weight);
        json_out_end(out);
    }
    json_out_end(out);
    if (route->n_mirrors > 0) {
        json_out_kv_array(out, "mirrors");
        for (uint32_t i = 0; i < route->n_mirrors; i++) {
            json_out_begin_object(out);
            put_destination(out, &route->mirrors[i].cluster, service);
            put_percent(out, "percent", route->mirrors[i].ppm);
            json_out_end(out);
        }
        json_out_end(out);
    }
}

static void put_rule(struct json_out *out, const struct l7_route *route, struct slice match,
                     struct kobj_pos pos, const struct service *service) {
    static const char *const actions[] = {
        [L7_FORWARD] = "forward", [L7_REDIRECT] = "redirect", [L7_DIRECT] = "direct"};
    json_out_begin_object(out);
    json_out_kv_str(out, "name", route->name);
    json_out_kv_string(out, "match", match);
    json_out_kv_str(out, "action", actions[route->action]);
    put_origin(out, route->source, pos);
    if (route->fault != NULL) {
        put_fault(out, route->fault);
    }
    json_out_kv_bool(out, "cors", route->cors != NULL);
    if (route->action == L7_FORWARD) {
        put_forward(out, route, service);
    } else {
        json_out_kv_u64(out, "status",
                        route->action == L7_DIRECT ? route->direct->status
                                                   : route->redirect->status);
    }
    json_out_end(out);
}

static void put_rules(struct json_out *out, const struct l7_routes *routes,
                      const struct service *service) {
    struct buf text;
    size_t n = l7_routes_count(routes);
    buf_init(&text, 1 << 20);
    json_out_kv_array(out, "rules");
    for (size_t i = 0; i < n; i++) {
        buf_clear(&text);
        l7_routes_match_text(routes, i, &text);
        put_rule(out, l7_routes_at(routes, i), buf_slice(&text), l7_routes_pos_at(routes, i),
                 service);
    }
    if (n == 0) {
        put_rule(out, l7_routes_fallback(routes), SLICE_LIT("/*"), (struct kobj_pos){0}, service);
    }
    json_out_end(out);
    buf_fini(&text);
}

static void put_service(struct json_out *out, const struct service *service) {
    static const char *const protocols[] = {
        [APP_UNKNOWN] = "sniffed", [APP_HTTP11] = "HTTP", [APP_HTTP2] = "HTTP2",
        [APP_GRPC] = "GRPC",       [APP_TCP] = "TCP",     [APP_TLS] = "TLS"};
    json_out_kv_string(out, "service", service->leaf.key);
    json_out_kv_str(out, "host", service->hostname);
    json_out_kv_str(out, "namespace", service->ns);
    json_out_kv_array(out, "vips");
    for (size_t i = 0; i < service->n_vips; i++) {
        char text[IP_TEXT_MAX];
        json_out_string(out, slice_str(ip_text(&service->vips[i], text)));
    }
    json_out_end(out);
    json_out_kv_array(out, "ports");
    for (size_t i = 0; i < service->n_ports; i++) {
        json_out_begin_object(out);
        json_out_kv_u64(out, "port", service->ports[i].port);
        json_out_kv_str(out, "protocol",
                        protocols[service->ports[i].app_protocol % ARRAY_LEN(protocols)]);
        json_out_end(out);
    }
    json_out_end(out);
}

static void put_routes(struct json_out *out, const struct admin_l7 *dump,
                       const struct service *service) {
    struct leaf *leaf = pmap_get(&dump->l7_routes, service->leaf.key);
    json_out_begin_object(out);
    put_service(out, service);
    put_rules(out, leaf != NULL ? l7_routes_of_leaf(leaf) : NULL, service);
    json_out_end(out);
}

// ---- clusters ----------------------------------------------------------------------------------

static void put_limit(struct json_out *out, const char *key, uint32_t used, uint32_t limit) {
    json_out_kv_object(out, key);
    json_out_kv_u64(out, "used", used);
    if (limit != L7_NO_LIMIT) {
        json_out_kv_u64(out, "limit", limit);
    }
    json_out_end(out);
}

static void put_breakers(struct json_out *out, const struct live_cluster *live,
                         const struct l7_settings *settings, uint64_t now_ms) {
    static const char *const keys[L7_N_BREAKERS] = {[L7_BREAKER_CONNECTIONS] = "connections",
                                                    [L7_BREAKER_PENDING] = "pending",
                                                    [L7_BREAKER_REQUESTS] = "requests",
                                                    [L7_BREAKER_RETRIES] = "retries"};
    struct l7_breaker now; // as it was, for what a budget depends on
    for (size_t i = 0; i < L7_N_BREAKERS; i++) {
        atomic_init(&now.counts[i], live != NULL ? live->counts[i] : 0);
    }
    for (size_t i = 0; i < L7_BREAKER_SLOTS; i++) {
        atomic_init(&now.ended[i], live != NULL ? live->ended[i] : 0);
    }
    json_out_kv_object(out, "breakers");
    for (size_t i = 0; i < L7_N_BREAKERS; i++) {
        enum l7_breaker_kind kind = (enum l7_breaker_kind)i;
        put_limit(out, keys[i], l7_breaker_count(&now, kind),
                  l7_breaker_limit(&now, kind, settings, now_ms));
    }
    json_out_end(out);
}

static const struct live_host *find_host(const struct live_cluster *live, const struct addr *addr) {
    const struct live_host want = {.addr = *addr};
    return live != NULL
               ? bsearch(&want, live->hosts, live->n_hosts, sizeof(*live->hosts), compare_hosts)
               : NULL;
}

static void put_endpoint(struct json_out *out, const struct l7_host *host,
                         const struct live_host *live, uint64_t now_ms) {
    const struct workload *workload = host->endpoint->workload;
    json_out_begin_object(out);
    put_addr(out, "address", &host->addr);
    if (workload != NULL) {
        json_out_kv_string(out, "workload", workload->leaf.key);
        json_out_kv_str(out, "name", workload->name);
        json_out_kv_str(out, "namespace", workload->ns);
        put_text(out, "region", workload->common->locality.region);
        put_text(out, "zone", workload->common->locality.zone);
        put_text(out, "subzone", workload->common->locality.subzone);
    }
    json_out_kv_u64(out, "weight", host->weight);
    json_out_kv_bool(out, "ready", host->endpoint->is_ready);
    json_out_kv_bool(out, "ejected", live != NULL && live->is_ejected);
    if (live != NULL && live->is_ejected && now_ms > live->ejected_at_ms) {
        json_out_kv_u64(out, "ejectedForMs", now_ms - live->ejected_at_ms);
    }
    if (live != NULL) { // how long the cluster has had it: a warm-up goes by that
        json_out_kv_u64(out, "ageMs", now_ms - MIN(live->since_ms, now_ms));
    }
    json_out_kv_u64(out, "ejections", live != NULL ? live->n_ejections : 0);
    json_out_kv_u64(out, "activeRequests", live != NULL ? live->n_active : 0);
    json_out_kv_u64(out, "connections", live != NULL ? live->n_conns : 0);
    json_out_kv_object(out, "failuresInARow");
    json_out_kv_u64(out, "status5xx", live != NULL ? live->n_5xx : 0);
    json_out_kv_u64(out, "gateway", live != NULL ? live->n_gateway : 0);
    json_out_kv_u64(out, "localOrigin", live != NULL ? live->n_local : 0);
    json_out_end(out);
    json_out_end(out);
}

// Of names that were asked for: what the cluster remembers.
static void put_named(struct json_out *out, const struct live_cluster *live, uint64_t now_ms) {
    static const struct endpoint endpoint = {.is_ready = true};
    for (size_t i = 0; live != NULL && i < live->n_hosts; i++) {
        struct l7_host host = {
            .endpoint = &endpoint, .addr = live->hosts[i].addr, .weight = 1, .cell = NULL};
        put_endpoint(out, &host, &live->hosts[i], now_ms);
    }
}

static void put_endpoints(struct json_out *out, const struct admin_l7 *dump,
                          const struct service *service, size_t port,
                          const struct l7_subset *subset, const struct live_cluster *live) {
    size_t n = l7_lb_hosts(service, subset, port, NULL, 0);
    struct l7_host *hosts = xcalloc(n + 1, sizeof(*hosts));
    (void)l7_lb_hosts(service, subset, port, hosts, n);
    json_out_kv_array(out, "endpoints");
    for (size_t i = 0; i < n; i++) {
        put_endpoint(out, &hosts[i], find_host(live, &hosts[i].addr), dump->now_ms);
    }
    if (service->is_dynamic) {
        put_named(out, live, dump->now_ms);
    }
    json_out_end(out);
    free(hosts);
}

static void put_policy(struct json_out *out, const struct l7_settings *settings,
                       const struct l7_subset *subset) {
    const struct l7_origin *origins[] = {&settings->lb_origin, &settings->pool_origin,
                                         &settings->outlier_origin, &settings->tls_origin};
    const struct l7_origin *origin = subset != NULL ? &subset->origin : NULL;
    for (size_t i = 0; i < ARRAY_LEN(origins) && (origin == NULL || origin->source == NULL); i++) {
        origin = origins[i];
    }
    put_origin(out, origin->source, origin->pos);
    json_out_kv_str(out, "loadBalancer", l7_lb_kind_text((enum l7_lb_kind)settings->lb.kind));
    json_out_kv_bool(out, "outlierDetection", settings->outlier.is_on);
    put_time(out, "connectTimeoutMs", settings->pool.connect_timeout_ms);
    put_time(out, "idleTimeoutMs", settings->pool.idle_timeout_ms);
    put_time(out, "maxRequestsPerConnection", settings->pool.max_requests_per_connection);
}

static struct live_cluster *find_live(const struct admin_l7 *dump, const struct service *service,
                                      uint16_t port, const char *subset) {
    const struct live_cluster want = {.service_key = (char *)(uintptr_t)service->leaf.key.ptr,
                                      .subset = (char *)(uintptr_t)subset,
                                      .port = port};
    return dump->n_live > 0
               ? bsearch(&want, dump->live, dump->n_live, sizeof(*dump->live), compare_live)
               : NULL;
}

static void put_cluster(struct json_out *out, const struct admin_l7 *dump,
                        const struct service *service, size_t port, const char *subset_name) {
    struct leaf *leaf = pmap_get(&dump->l7_policies, service->leaf.key);
    const struct l7_subset *subset = NULL;
    uint16_t number = service->ports[port].port;
    const struct l7_settings *settings =
        l7_policy_find(leaf != NULL ? l7_policy_of_leaf(leaf) : NULL, subset_name, number, &subset);
    struct live_cluster *live = find_live(dump, service, number, subset_name);
    if (settings == NULL) {
        return; // the subset is gone
    }
    char *name = xasprintf("inbound-vip|%u|http%s%s|%s", number, subset_name[0] != '\0' ? "/" : "",
                           subset_name, service->hostname);
    json_out_begin_object(out);
    json_out_kv_str(out, "name", name);
    json_out_kv_string(out, "service", service->leaf.key);
    json_out_kv_str(out, "host", service->hostname);
    json_out_kv_str(out, "namespace", service->ns);
    json_out_kv_u64(out, "port", number);
    json_out_kv_str(out, "subset", subset_name);
    json_out_kv_bool(out, "used", live != NULL);
    put_policy(out, settings, subset);
    put_breakers(out, live, settings, dump->now_ms);
    json_out_kv_u64(out, "ejected", live != NULL ? live->n_ejected : 0);
    put_endpoints(out, dump, service, port, subset, live);
    json_out_end(out);
    free(name);
    if (live != NULL) {
        live->is_written = true;
    }
}

static void put_clusters(struct json_out *out, const struct admin_l7 *dump,
                         const struct service *service) {
    struct leaf *leaf = pmap_get(&dump->l7_policies, service->leaf.key);
    const struct l7_subset *subsets;
    size_t n = l7_policy_subsets(leaf != NULL ? l7_policy_of_leaf(leaf) : NULL, &subsets);
    for (size_t port = 0; port < service->n_ports; port++) {
        put_cluster(out, dump, service, port, "");
        for (size_t i = 0; i < n; i++) {
            put_cluster(out, dump, service, port, subsets[i].name);
        }
    }
}

// Clusters in use of services that are bound elsewhere, or nowhere.
static void put_other(struct json_out *out, const struct admin_l7 *dump,
                      const struct live_cluster *live) {
    const struct service *service = pmap_get(&dump->all_services, slice_str(live->service_key));
    for (size_t port = 0; !live->is_written && service != NULL && port < service->n_ports; port++) {
        if (service->ports[port].port == live->port) {
            put_cluster(out, dump, service, port, live->subset);
            return;
        }
    }
}

// ---- steps -------------------------------------------------------------------------------------

static bool step_array(struct admin_l7 *dump, struct json_out *out, size_t n) {
    static const char *const keys[] = {
        [LISTENERS] = "listeners", [ROUTES] = "routes", [CLUSTERS] = "clusters", [OTHERS] = NULL};
    if (!dump->has_begun) {
        if (keys[dump->phase] != NULL) {
            json_out_kv_array(out, keys[dump->phase]);
        }
        dump->has_begun = true;
        dump->at = 0;
    }
    if (dump->at < n) {
        return true;
    }
    if (dump->phase != CLUSTERS) { // whose array goes on with the others
        json_out_end(out);
    }
    dump->phase++;
    dump->has_begun = false;
    return false;
}

bool admin_l7_step(struct admin_l7 *dump, struct json_out *out) {
    switch ((enum phase)dump->phase) {
    case LISTENERS:
        if (step_array(dump, out, 1)) {
            put_listeners(out, dump);
            dump->at++;
        }
        return true;
    case ROUTES:
        if (step_array(dump, out, dump->n_services)) {
            put_routes(out, dump, dump->services[dump->at++]);
        }
        return true;
    case CLUSTERS:
        if (step_array(dump, out, dump->n_services)) {
            put_clusters(out, dump, dump->services[dump->at++]);
        }
        return true;
    case OTHERS:
        if (step_array(dump, out, dump->n_live)) {
            put_other(out, dump, &dump->live[dump->at++]);
        }
        return dump->phase != DONE;
    case DONE:
        break;
    }
    return false;
}
