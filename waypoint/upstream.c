// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/obs/metrics.h"
#include "waypoint/direct.h"
#include "waypoint/upstream_priv.h"

enum {
    TICK_MS = 200,
    UNUSED_MS = 60000,
    REFRESH_BATCH = 64, // upstreams that are looked at in a turn after a change
};

// ---- views -------------------------------------------------------------------------------------

struct upstream_view *upstream_view_ref(struct upstream_view *view) {
    view->refs++;
    return view;
}

static void free_balancers(struct upstream_view *view) {
    HMAP_EACH_SAFE(pos, &view->balancers) {
        struct balancer *balancer = HMAP_ITEM(pos, struct balancer, node);
        hmap_remove(&view->balancers, pos);
        l7_lb_free(balancer->lb);
        leaf_unref(balancer->source);
        free(balancer);
    }
    hmap_fini(&view->balancers);
}

void upstream_view_unref(struct upstream_view *view) {
    if (view == NULL || --view->refs > 0) {
        return;
    }
    view->upstream->n_views--;
    free_balancers(view);
    for (size_t i = 0; i < view->n_hosts; i++) {
        cluster_host_unref(CONTAINER_OF(view->hosts[i].cell, struct cluster_host, cell));
    }
    free(view->hosts);
    for (struct through *next, *item = view->through; item != NULL; item = next) {
        next = item->next;
        cluster_host_unref(CONTAINER_OF(item->host.cell, struct cluster_host, cell));
        free(item);
    }
    leaf_unref(view->service);
    leaf_unref(view->policy);
    cluster_unref(view->cluster);
    free(view);
}

struct cluster *upstream_view_cluster(const struct upstream_view *view) {
    return view->cluster;
}

const struct l7_settings *upstream_view_settings(const struct upstream_view *view) {
    return view->settings;
}

const struct service *upstream_view_service(const struct upstream_view *view) {
    return view->service;
}

size_t upstream_view_n_hosts(const struct upstream_view *view) {
    if (!view->service->is_dynamic) {
        return view->n_hosts;
    }
    return view->settings->outlier.is_on ? cluster_n_hosts(view->cluster) : 0; // it takes a lock
}

struct l7_lb *upstream_view_lb(struct upstream_view *view, const struct workload *source) {
    char key[512];
    size_t len = l7_lb_client_class(view->settings, view->service, source, key, sizeof(key));
    struct slice class = slice_make(key, MIN(len, sizeof(key) - 1));
    uint64_t hash = hash_bytes(class);
    HMAP_EACH_WITH_HASH(pos, &view->balancers, hash) {
        struct balancer *balancer = HMAP_ITEM(pos, struct balancer, node);
        if (slice_eq_str(class, balancer->class)) {
            return balancer->lb;
        }
    }
    struct balancer *balancer = xcalloc(1, sizeof(*balancer) + class.len + 1);
    memcpy(balancer->class, class.ptr, class.len);
    if (source != NULL) {
        balancer->source = (struct workload *)(uintptr_t)source;
        leaf_ref(balancer->source);
    }
    struct l7_lb_spec spec = {
        .hosts = view->hosts,
        .n_hosts = view->n_hosts,
        .service = view->service,
        .settings = view->settings,
        .source = balancer->source,
        .cell = &view->cluster->lb,
    };
    balancer->lb = l7_lb_new(&spec);
    hmap_insert(&view->balancers, &balancer->node, hash);
    return balancer->lb;
}

static void fill_hosts(struct upstream_view *view, const struct l7_subset *subset,
                       uint64_t now_ms) {
    view->n_hosts = l7_lb_hosts(view->service, subset, view->port, NULL, 0);
    view->hosts = xcalloc(MAX(view->n_hosts, (size_t)1), sizeof(*view->hosts));
    size_t n = l7_lb_hosts(view->service, subset, view->port, view->hosts, view->n_hosts);
    CHECK(n == view->n_hosts);
    for (size_t i = 0; i < view->n_hosts; i++) {
        view->hosts[i].cell = &cluster_host_get(view->cluster, &view->hosts[i].addr, now_ms)->cell;
    }
}

static struct upstream_view *view_new(struct upstream *up, struct service *service, size_t port,
                                      struct leaf *policy, const struct l7_settings *settings,
                                      const struct l7_subset *subset) {
    struct upstream_view *view = xcalloc(1, sizeof(*view));
    view->refs = 1;
    view->upstream = up;
    view->epoch = up->epoch;
    up->n_views++;
    view->cluster = cluster_ref(up->cluster);
    view->service = service;
    leaf_ref(service);
    view->policy = policy;
    if (policy != NULL) {
        leaf_ref(policy);
    }
    view->settings = settings;
    view->port = port;
    hmap_init(&view->balancers);
    fill_hosts(view, subset, up->all->worker->loop->now / NS_PER_MS);
    return view;
}

bool upstream_is_same_way(const struct workload *a, const struct workload *b) {
    return a == b || (a != NULL && b != NULL && a->protocol == b->protocol &&
                      strcmp(a->common->identity, b->common->identity) == 0);
}

bool upstream_view_has_pool(const struct upstream_view *view, const struct upstream_pool *pool) {
    if (pool->epoch != view->epoch || upstream_view_is_through(view)) {
        return pool->epoch == view->epoch;
    }
    for (size_t i = 0; i < view->n_hosts; i++) {
        const struct l7_host *host = &view->hosts[i];
        if (addr_eq(&host->addr, &pool->host->addr)) {
            return upstream_is_same_way(host->endpoint->workload, pool->workload);
        }
    }
    return false;
}

static bool is_same_service(const struct upstream_view *a, const struct upstream_view *b) {
    if (a->service->ports[a->port].app_protocol != b->service->ports[b->port].app_protocol ||
        a->service->n_sans != b->service->n_sans) {
        return false;
    }
    for (size_t i = 0; i < a->service->n_sans; i++) {
        if (strcmp(a->service->sans[i], b->service->sans[i]) != 0) {
            return false;
        }
    }
    return true;
}

// ---- clusters at this worker -------------------------------------------------------------------

static struct upstream *find(struct upstreams *all, uint64_t hash, const char *key, uint16_t port,
                             const char *subset) {
    HMAP_EACH_WITH_HASH(pos, &all->table, hash) {
        struct upstream *up = HMAP_ITEM(pos, struct upstream, node);
        if (up->cluster->port == port && strcmp(up->cluster->service_key, key) == 0 &&
            strcmp(up->cluster->subset, subset) == 0) {
            return up;
        }
    }
    return NULL;
}

static void on_due(struct timer *timer, uint64_t now);

static struct upstream *upstream_new(struct upstreams *all, uint64_t hash,
                                     const struct service *service, uint16_t port,
                                     const char *subset) {
    struct upstream *up = xcalloc(1, sizeof(*up));
    up->all = all;
    up->cluster = cluster_get((const char *)service->leaf.key.ptr, service->hostname, port, subset);
    hmap_init(&up->pools);
    hmap_insert(&all->table, &up->node, hash);
    up->refreshed = all->refresh; // its view is made of what is published now
    list_push_back(&all->all, &up->in_all);
    timer_init(&up->due, on_due);
    upstream_due(up, all->worker->loop->now + UNUSED_MS * NS_PER_MS);
    return up;
}

static uint64_t key_hash(const char *key, const char *subset, uint16_t port) {
    return hash_bytes(slice_str(key)) + hash_bytes(slice_str(subset)) * 3 + port;
}

struct upstream *upstream_find(struct upstreams *all, const struct cluster *cluster) {
    return find(all, key_hash(cluster->service_key, cluster->subset, cluster->port),
                cluster->service_key, cluster->port, cluster->subset);
}

static void leave_all(struct upstream *up) {
    HMAP_EACH_SAFE(pos, &up->pools) {
        upstream_pool_leave(HMAP_ITEM(pos, struct upstream_pool, node));
    }
}

// Connections that the new view has no use for finish what they carry.
static void replace_view(struct upstream *up, struct upstream_view *view) {
    if (up->view != NULL && (!l7_settings_same_connections(up->view->settings, view->settings) ||
                             !is_same_service(up->view, view))) {
        view->epoch = ++up->epoch;
    }
    upstream_view_unref(up->view);
    up->view = view;
    upstream_due(up, up->all->worker->loop->now); // outlier detection may have come
    HMAP_EACH_SAFE(pos, &up->pools) {
        struct upstream_pool *pool = HMAP_ITEM(pos, struct upstream_pool, node);
        if (upstream_view_has_pool(view, pool)) {
            pool->is_left = false;
        } else {
            upstream_pool_leave(pool);
        }
    }
    HMAP_EACH_SAFE(pos, &up->pools) { // a lower maxConnections is for idle ones, too
        upstream_pool_shed(HMAP_ITEM(pos, struct upstream_pool, node));
    }
}

struct upstream_view *upstream_view_get(struct upstreams *all, const struct snapshot *snap,
                                        struct service *service, size_t port, const char *subset) {
    const char *key = (const char *)service->leaf.key.ptr;
    uint16_t number = service->ports[port].port;
    struct leaf *policy = snapshot_l7_policy(snap, service->leaf.key);
    uint64_t hash = key_hash(key, subset, number);
    struct upstream *up = find(all, hash, key, number, subset);
    if (up != NULL && up->view != NULL && up->view->service == service &&
        up->view->policy == policy && up->view->port == port) {
        up->last_used = all->worker->loop->now;
        return upstream_view_ref(up->view);
    }
    const struct l7_subset *labels = NULL;
    const struct l7_settings *settings =
        l7_policy_find(policy != NULL ? l7_policy_of_leaf(policy) : NULL, subset, number, &labels);
    if (settings == NULL) {
        return NULL;
    }
    if (up == NULL) {
        up = upstream_new(all, hash, service, number, subset);
    }
    up->last_used = all->worker->loop->now;
    replace_view(up, view_new(up, service, port, policy, settings, labels));
    return upstream_view_ref(up->view);
}

struct upstream_view *upstream_view_route(struct upstreams *all, const struct snapshot *snap,
                                          struct service *called, uint16_t called_port,
                                          const struct l7_cluster *cluster) {
    struct service *service = called;
    if (cluster->is_invalid) {
        return NULL;
    }
    if (cluster->host[0] != '\0') {
        service = snapshot_service_by_host(snap, slice_str(cluster->host), called->ns);
    }
    if (service == NULL) {
        return NULL;
    }
    uint16_t number = l7_cluster_port(cluster, service, called_port);
    for (size_t i = 0; i < service->n_ports; i++) {
        if (service->ports[i].port == number) {
            return upstream_view_get(all, snap, service, i, cluster->subset);
        }
    }
    return NULL;
}

bool upstream_view_is_through(const struct upstream_view *view) {
    return view->service->is_dynamic || view->service->lb_mode == LB_PASSTHROUGH ||
           view->settings->lb.kind == L7_LB_PASSTHROUGH;
}

const struct l7_host *upstream_view_through(struct upstream_view *view, const struct addr *addr) {
    for (struct through *item = view->through; item != NULL; item = item->next) {
        if (addr_eq(&item->host.addr, addr)) {
            return &item->host;
        }
    }
    struct through *item = xcalloc(1, sizeof(*item));
    uint64_t now_ms = view->upstream->all->worker->loop->now / NS_PER_MS;
    item->host = (struct l7_host){
        .endpoint = &item->endpoint,
        .addr = *addr,
        .weight = 1,
        .cell = &cluster_host_get(view->cluster, addr, now_ms)->cell,
    };
    item->next = view->through;
    view->through = item;
    return &item->host;
}

bool upstream_is_tried(const struct l7_host *host, const struct l7_host_cell *const *tried,
                       size_t n_tried) {
    for (size_t i = 0; i < n_tried; i++) {
        if (tried[i] == host->cell) {
            return true;
        }
    }
    return false;
}

const struct l7_host *upstream_view_other(struct upstream_view *view, const struct l7_lb *lb,
                                          const struct l7_host_cell *const *tried, size_t n_tried,
                                          struct rand *rand) {
    const struct l7_host *best = NULL;
    size_t best_level = SIZE_MAX;
    size_t start = view->n_hosts > 0 ? (size_t)rand_below(rand, view->n_hosts) : 0;
    for (size_t i = 0; i < view->n_hosts; i++) {
        size_t index = (start + i) % view->n_hosts, level;
        const struct l7_host *host = &view->hosts[index];
        if (!atomic_load(&host->cell->is_ejected) && !upstream_is_tried(host, tried, n_tried) &&
            l7_lb_level_of(lb, index, &level) && level < best_level) {
            best = host;
            best_level = level;
        }
    }
    return best;
}

// ---- all of them -------------------------------------------------------------------------------

static void upstream_free(struct upstream *up) {
    timer_clear(&up->all->worker->loop->timers, &up->due);
    HMAP_EACH_SAFE(pos, &up->pools) {
        upstream_pool_free(HMAP_ITEM(pos, struct upstream_pool, node));
    }
    hmap_fini(&up->pools);
    hmap_remove(&up->all->table, &up->node);
    list_del(&up->in_all);
    upstream_view_unref(up->view);
    cluster_unref(up->cluster);
    free(up);
}

static bool is_unused(const struct upstream *up) {
    HMAP_EACH_SAFE(pos, &up->pools) {
        if (!upstream_pool_is_empty(HMAP_ITEM(pos, struct upstream_pool, node))) {
            return false;
        }
    }
    return up->n_views == 0 || (up->n_views == 1 && up->view != NULL && up->view->refs == 1);
}

// The next look at ejected hosts; TIME_NEVER: there are none, and none will be.
static uint64_t outlier_due(const struct upstream *up) {
    bool has_any = up->view != NULL && (up->view->settings->outlier.is_on ||
                                        atomic_load(&up->cluster->outlier.n_ejected) > 0);
    return has_any ? atomic_load(&up->cluster->next_outlier_ms) * NS_PER_MS : TIME_NEVER;
}

static void on_due(struct timer *timer, uint64_t now) {
    struct upstream *up = CONTAINER_OF(timer, struct upstream, due);
    uint64_t next = TIME_NEVER;
    if (up->view != NULL) {
        bool is_dynamic = up->view->service->is_dynamic;
        cluster_tick(up->cluster, &up->view->settings->outlier, is_dynamic ? NULL : up->view->hosts,
                     up->view->n_hosts, now / NS_PER_MS);
        next = outlier_due(up);
    }
    HMAP_EACH_SAFE(pos, &up->pools) {
        struct upstream_pool *pool = HMAP_ITEM(pos, struct upstream_pool, node);
        uint64_t at = upstream_pool_tick(pool, now);
        next = MIN(next, at);
        if (upstream_pool_is_empty(pool)) {
            upstream_pool_free(pool);
        }
    }
    uint64_t unused = up->last_used + UNUSED_MS * NS_PER_MS;
    if (is_unused(up) && now >= unused) {
        upstream_free(up);
        return;
    }
    // One that is used is looked at again when it may have come out of use.
    upstream_due(up, MIN(next, now < unused ? unused : now + UNUSED_MS * NS_PER_MS));
}

void upstream_due(struct upstream *up, uint64_t at) {
    struct loop *loop = up->all->worker->loop;
    at = MAX(at, loop->now + TICK_MS * NS_PER_MS);
    if (!timer_is_armed(&up->due) || at < up->due.due) {
        timer_set(&loop->timers, &up->due, at);
    }
}

// As it is now; NULL: it is gone.
static struct service *service_of(const struct upstream *up, const struct snapshot *snap) {
    if (!direct_is_key(up->cluster->service_key)) {
        return snapshot_service(snap, up->cluster->service_key);
    }
    struct service *direct = up->view != NULL ? up->view->service : NULL;
    return direct != NULL && direct_is_current(snap, direct) ? direct : NULL;
}

static void refresh(struct upstream *up, const struct snapshot *snap) {
    struct service *service = service_of(up, snap);
    size_t port = 0;
    while (service != NULL && port < service->n_ports &&
           service->ports[port].port != up->cluster->port) {
        port++;
    }
    if (service == NULL || port == service->n_ports) {
        leave_all(up);
        return;
    }
    uint64_t last_used = up->last_used;
    struct upstream_view *view =
        upstream_view_get(up->all, snap, service, port, up->cluster->subset);
    if (view == NULL) { // there is no such subset any more
        leave_all(up);
    }
    upstream_view_unref(view);
    up->last_used = last_used;
}

// Those that are done stand behind the others.
static void refresh_some(struct upstreams *all) {
    const struct snapshot *snap = snapshot_current();
    for (int i = 0; i < REFRESH_BATCH; i++) {
        struct upstream *up = LIST_ITEM(all->all.next, struct upstream, in_all);
        if (list_empty(&all->all) || up->refreshed == all->refresh) {
            return;
        }
        up->refreshed = all->refresh;
        list_del(&up->in_all);
        list_push_back(&all->all, &up->in_all);
        refresh(up, snap);
    }
    timer_set(&all->worker->loop->timers, &all->refresh_timer, all->worker->loop->now);
}

static void on_refresh(struct timer *timer, uint64_t now) {
    (void)now;
    uint64_t start_ns = clock_mono_ns();
    refresh_some(CONTAINER_OF(timer, struct upstreams, refresh_timer));
    metric_observe(METRIC_CONFIG_TURN, (double)(clock_mono_ns() - start_ns) / 1e9);
}

// Endpoints that went, and policies that changed, are seen without waiting for a request.
void upstreams_refresh(struct upstreams *all) {
    all->refresh++;
    refresh_some(all);
}

void upstreams_init(struct upstreams *all, struct wworker *worker) {
    *all = (struct upstreams){.worker = worker};
    hmap_init(&all->table);
    http_conn_config_init(&all->http, false);
    list_init(&all->all);
    timer_init(&all->refresh_timer, on_refresh);
}

void upstreams_drain(struct upstreams *all) {
    all->is_stopping = true;
}

bool upstreams_stop(struct upstreams *all) {
    all->is_stopping = true;
    HMAP_EACH_SAFE(pos, &all->table) {
        struct upstream *up = HMAP_ITEM(pos, struct upstream, node);
        HMAP_EACH_SAFE(pool, &up->pools) {
            upstream_pool_stop(HMAP_ITEM(pool, struct upstream_pool, node));
        }
    }
    return all->n_conns == 0 && all->n_layers == 0;
}

void upstreams_fini(struct upstreams *all) {
    timer_clear(&all->worker->loop->timers, &all->refresh_timer);
    HMAP_EACH_SAFE(pos, &all->table) {
        upstream_free(HMAP_ITEM(pos, struct upstream, node));
    }
    hmap_fini(&all->table);
}
