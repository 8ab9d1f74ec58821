// SPDX-License-Identifier: Apache-2.0
//
// A destination of a route: its service and subset, the policy in force, and its hosts as the
// waypoint's balancer sees them for this client.
#include <stdlib.h>
#include <string.h>

#include "common/l7/l7_lb.h"
#include "ctl/cmd_explain_http.h"
#include "ctl/cmd_explain_live.h"
#include "ctl/local_json.h"

enum { NOW_MS = 1000000000 }; // of the balancer: later than whatever a waypoint remembers

static void set_text(json_t *object, const char *key, const char *text) {
    json_object_set_new(object, key, json_string(text));
}

static void set_slice(json_t *object, const char *key, struct slice text) {
    json_object_set_new(object, key, json_stringn((const char *)text.ptr, text.len));
}

static void set_number(json_t *object, const char *key, uint64_t number) {
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

static void set_limit(json_t *object, const char *key, uint32_t limit) {
    if (limit != L7_NO_LIMIT) {
        set_number(object, key, limit);
    }
}

static void set_time(json_t *object, const char *key, uint64_t ms) {
    if (ms != 0) {
        set_number(object, key, ms);
    }
}

// ---- the policy --------------------------------------------------------------------------------

static void put_origin(json_t *block, const struct l7_origin *origin) {
    if (origin->source != NULL) {
        explain_put_source(block, origin->source, origin->pos);
    }
}

static json_t *describe_lb(const struct l7_settings *settings, const struct service *service) {
    static const char *const keys[] = {"", "header", "cookie", "source IP", "query parameter"};
    static const char *const scopes[] = {"",     "region",  "zone",   "subzone",
                                         "node", "cluster", "network"};
    const struct l7_lb_policy *lb = &settings->lb;
    json_t *out = json_pack("{s:s}", "kind", l7_lb_kind_text((enum l7_lb_kind)lb->kind));
    if (lb->hash_key != L7_HASH_NONE) {
        set_text(out, "hashKey", keys[lb->hash_key % ARRAY_LEN(keys)]);
        set_text(out, "hashName", lb->hash_name);
    }
    set_time(out, "warmupMs", lb->warmup_ms);
    if (lb->locality.is_set || lb->locality.is_disabled) {
        set_text(out, "locality",
                 lb->locality.is_disabled               ? "off"
                 : lb->locality.n_distribute > 0        ? "distribute"
                 : lb->locality.n_failover_priority > 0 ? "failoverPriority"
                 : lb->locality.n_failover > 0          ? "failover"
                                                        : "on");
    }
    json_t *near = json_array();
    for (size_t i = 0; i < service->n_scopes; i++) {
        json_array_append_new(near, json_string(scopes[service->scopes[i] % ARRAY_LEN(scopes)]));
    }
    json_object_set_new(out, "preferSame", near);
    put_origin(out, &settings->lb_origin);
    return out;
}

static json_t *describe_pool(const struct l7_settings *settings) {
    const struct l7_pool_policy *pool = &settings->pool;
    json_t *out = json_object();
    set_limit(out, "maxConnections", pool->max_connections);
    set_limit(out, "http1MaxPendingRequests", pool->max_pending);
    set_limit(out, "http2MaxRequests", pool->max_requests);
    if (settings->budget.is_on) {
        json_object_set_new(out, "retryBudgetPercent", json_real(settings->budget.ppm / 1e4));
        set_number(out, "minRetryConcurrency", settings->budget.min_concurrency);
    } else {
        set_limit(out, "maxRetries", pool->max_retries);
    }
    set_time(out, "maxRequestsPerConnection", pool->max_requests_per_connection);
    set_time(out, "connectTimeoutMs", pool->connect_timeout_ms);
    set_time(out, "idleTimeoutMs", pool->idle_timeout_ms);
    set_time(out, "maxConnectionDurationMs", pool->max_connection_duration_ms);
    put_origin(out, &settings->pool_origin);
    return out;
}

static json_t *describe_outlier(const struct l7_settings *settings) {
    const struct l7_outlier_policy *outlier = &settings->outlier;
    json_t *out = json_pack("{s:b}", "on", outlier->is_on);
    if (outlier->is_on) {
        set_number(out, "consecutive5xx", outlier->consecutive_5xx);
        set_number(out, "consecutiveGatewayErrors", outlier->consecutive_gateway);
        set_number(out, "intervalMs", outlier->interval_ms);
        set_number(out, "baseEjectionMs", outlier->base_ejection_ms);
        set_number(out, "maxEjectionPercent", outlier->max_ejection_percent);
    }
    put_origin(out, &settings->outlier_origin);
    return out;
}

static json_t *describe_tls(const struct l7_settings *settings) {
    static const char *const modes[] = {"DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"};
    const struct l7_tls_policy *tls = &settings->tls;
    json_t *out =
        json_pack("{s:s}", "mode", tls->is_set ? modes[tls->mode % ARRAY_LEN(modes)] : "mesh");
    put_origin(out, &settings->tls_origin);
    return out;
}

// ---- hosts -------------------------------------------------------------------------------------

// Why l7_lb_hosts leaves out an endpoint; heap, NULL: it does not.
static char *why_out(const struct service *service, const struct endpoint *endpoint,
                     const struct l7_subset *subset, size_t port) {
    struct service alone = *service;
    alone.endpoints = endpoint;
    alone.n_endpoints = 1;
    if (l7_lb_hosts(&alone, subset, port, NULL, 0) > 0) {
        return NULL;
    }
    if (subset != NULL && !l7_subset_selects(subset, endpoint->workload)) {
        struct buf text;
        buf_init(&text, SIZE_MAX);
        buf_printf(&text, "has not the labels of subset %s:", subset->name);
        for (uint32_t i = 0; i < subset->n_labels; i++) {
            buf_printf(&text, " %s=%s", subset->labels[i].key, subset->labels[i].value);
        }
        char *copy = xstrdup(buf_cstr(&text));
        buf_fini(&text);
        return copy;
    }
    if (endpoint->target_ports[port] == 0) {
        return xstrdup("has not this port");
    }
    return xstrdup(endpoint->is_ready || service->allow_not_ready ? "has no address" : "not ready");
}

static json_t *describe_endpoint(const struct endpoint *endpoint, const struct addr *addr) {
    char text[ADDR_TEXT_MAX];
    const struct workload *workload = endpoint->workload;
    char *name = xasprintf("%s/%s", workload->ns, workload->name);
    json_t *item =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "workload", name, "node", workload->node,
                  "region", workload->common->locality.region, "zone",
                  workload->common->locality.zone, "subzone", workload->common->locality.subzone,
                  "address", addr != NULL ? addr_text(addr, text) : "", "ready",
                  endpoint->is_ready);
    free(name);
    return item;
}

static void add_out(const struct service *service, const struct l7_subset *subset, size_t port,
                    json_t *list) {
    for (uint32_t i = 0; i < service->n_endpoints; i++) {
        char *reason = why_out(service, &service->endpoints[i], subset, port);
        if (reason != NULL) {
            struct addr addr = {.ip = service->endpoints[i].ip};
            char text[IP_TEXT_MAX];
            json_t *item = describe_endpoint(&service->endpoints[i], NULL);
            set_text(item, "address", ip_text(&addr.ip, text));
            set_text(item, "out", reason);
            json_array_append_new(list, item);
            free(reason);
        }
    }
}

static json_t *describe_levels(struct l7_lb *lb) {
    struct l7_lb_level levels[L7_LB_LEVELS_MAX];
    size_t n = l7_lb_levels(lb, NOW_MS, levels, ARRAY_LEN(levels));
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:s, s:i, s:i, s:i, s:b}", "name", levels[i].name,
                                              "hosts", (int)levels[i].n_hosts, "healthy",
                                              (int)levels[i].n_healthy, "percent",
                                              (int)levels[i].percent, "panic", levels[i].is_panic));
    }
    return list;
}

// The pick of the waypoint's balancer, for one request out of many.
static const struct l7_host *pick_host(const struct explain_upstream *upstream,
                                       const struct l7_settings *settings, struct l7_lb *lb,
                                       json_t *out) {
    struct rand rand = upstream->explain->rand;
    struct l7_lb_pick pick = {.rand = &rand, .now_ms = NOW_MS};
    if (settings->lb.kind == L7_LB_RING || settings->lb.kind == L7_LB_MAGLEV) {
        struct arena arena;
        struct slice cookie;
        struct addr peer = {.ip = upstream->explain->source->n_ips > 0
                                      ? upstream->explain->source->ips[0]
                                      : (struct ip){0}};
        arena_init(&arena, SIZE_MAX);
        pick.has_hash =
            l7_lb_hash(&settings->lb, upstream->request, &peer, &peer, &arena, &cookie, &pick.hash);
        json_object_set_new(out, "hasHashKey", json_boolean(pick.has_hash));
        if (pick.has_hash && cookie.len > 0) {
            set_slice(out, "setCookie", cookie);
        }
        arena_fini(&arena);
    }
    return l7_lb_pick(lb, &pick);
}

// The host as the running waypoint has it.
static void put_live(json_t *item, const json_t *host, const struct l7_lb_policy *lb) {
    static const char *const keys[] = {"ejected", "ejectedForMs", "activeRequests", "connections"};
    json_t *out = json_object();
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        json_object_set(out, keys[i], json_object_get(host, keys[i]));
    }
    uint64_t age_ms = (uint64_t)js_int(host, "ageMs", 0);
    if (age_ms < lb->warmup_ms) {
        set_number(out, "warmupAgeMs", age_ms);
    }
    json_object_set_new(item, "live", out);
}

static void describe_hosts(const struct explain_upstream *upstream, const struct service *service,
                           size_t port, const struct l7_settings *settings,
                           const struct l7_subset *subset, json_t *out) {
    const json_t *live =
        explain_live_cluster(upstream->explain->live, (const char *)service->leaf.key.ptr,
                             service->ports[port].port, subset != NULL ? subset->name : "");
    size_t n = l7_lb_hosts(service, subset, port, NULL, 0);
    struct l7_host *hosts = xcalloc(n + 1, sizeof(*hosts));
    struct l7_host_cell *cells = xcalloc(n + 1, sizeof(*cells));
    struct l7_lb_cell cell = {0};
    (void)l7_lb_hosts(service, subset, port, hosts, n);
    for (size_t i = 0; i < n; i++) {
        hosts[i].cell = &cells[i];
        const json_t *host = explain_live_host(live, &hosts[i].addr);
        if (host != NULL) {
            explain_live_fill(host, NOW_MS, &cells[i]);
        }
    }
    struct l7_lb_spec spec = {.hosts = hosts,
                              .n_hosts = n,
                              .service = service,
                              .settings = settings,
                              .source = upstream->explain->source,
                              .cell = &cell};
    struct l7_lb *lb = l7_lb_new(&spec);
    const struct l7_host *picked = pick_host(upstream, settings, lb, out);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *item = describe_endpoint(hosts[i].endpoint, &hosts[i].addr);
        size_t level = 0;
        set_number(item, "weight", hosts[i].weight);
        if (l7_lb_level_of(lb, i, &level)) {
            set_number(item, "level", level);
        } else {
            set_text(item, "out", "not used from the client's locality");
        }
        const json_t *host = explain_live_host(live, &hosts[i].addr);
        if (host != NULL) {
            put_live(item, host, &settings->lb);
        }
        bool is_picked = picked != NULL && addr_eq(&picked->addr, &hosts[i].addr);
        json_object_set_new(item, "chosen", json_boolean(is_picked));
        json_array_append_new(list, item);
    }
    add_out(service, subset, port, list);
    json_object_set_new(out, "hasHost", json_boolean(picked != NULL));
    json_object_set_new(out, "levels", describe_levels(lb));
    json_object_set_new(out, "endpoints", list);
    l7_lb_free(lb);
    free(hosts);
    free(cells);
}

// ---- the destination ---------------------------------------------------------------------------

static char *why_no_subset(const struct l7_policy *policy, const char *subset, const char *host) {
    const struct l7_subset *subsets;
    struct buf text;
    size_t n = l7_policy_subsets(policy, &subsets);
    buf_init(&text, SIZE_MAX);
    buf_printf(&text, "no DestinationRule for %s has a subset %s", host, subset);
    for (size_t i = 0; i < n; i++) {
        buf_printf(&text, "%s%s%s", i == 0 ? " (there are " : ", ", subsets[i].name,
                   i + 1 == n ? ")" : "");
    }
    char *copy = xstrdup(buf_cstr(&text));
    buf_fini(&text);
    return copy;
}

static bool is_missing(json_t *out, char *reason) {
    set_text(out, "missing", reason);
    free(reason);
    return false;
}

bool explain_destination(const struct explain_upstream *upstream, const struct l7_cluster *cluster,
                         json_t *out) {
    const struct snapshot *snap = upstream->explain->snap;
    const struct service *service = upstream->called;
    if (cluster->is_invalid) {
        return is_missing(out, xstrdup("the rule's reference means nothing here"));
    }
    if (cluster->host[0] != '\0') {
        service = snapshot_service_by_host(snap, slice_str(cluster->host), upstream->called->ns);
    }
    if (service == NULL) {
        return is_missing(out, xasprintf("there is no service %s", cluster->host));
    }
    uint16_t number = l7_cluster_port(cluster, service, upstream->called_port);
    size_t port = 0;
    while (port < service->n_ports && service->ports[port].port != number) {
        port++;
    }
    set_text(out, "service", (const char *)service->leaf.key.ptr);
    set_number(out, "port", number);
    if (port == service->n_ports) {
        return is_missing(out, xasprintf("service %s has no port %u", service->hostname, number));
    }
    struct leaf *leaf = snapshot_l7_policy(snap, service->leaf.key);
    const struct l7_policy *policy = leaf != NULL ? l7_policy_of_leaf(leaf) : NULL;
    const struct l7_subset *subset = NULL;
    const struct l7_settings *settings = l7_policy_find(policy, cluster->subset, number, &subset);
    if (settings == NULL) {
        return is_missing(out, why_no_subset(policy, cluster->subset, service->hostname));
    }
    json_t *block =
        json_pack("{s:o, s:o, s:o, s:o}", "loadBalancer", describe_lb(settings, service),
                  "connectionPool", describe_pool(settings), "outlierDetection",
                  describe_outlier(settings), "tls", describe_tls(settings));
    json_object_set_new(out, "policy", block);
    if (subset != NULL) {
        json_t *where = json_object();
        explain_put_source(where, subset->origin.source, subset->origin.pos);
        json_object_set_new(out, "subsetIn", where);
    }
    if (service->is_dynamic) {
        set_text(out, "through",
                 "the addresses of the host that the request names, looked up then");
    } else if (service->lb_mode == LB_PASSTHROUGH || settings->lb.kind == L7_LB_PASSTHROUGH) {
        set_text(out, "through", "the address that the client called");
    }
    describe_hosts(upstream, service, port, settings, subset, out);
    return true;
}
