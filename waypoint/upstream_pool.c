// SPDX-License-Identifier: Apache-2.0
//
// Connections to a host. Requests wait in order; each new one opens a connection if it may, so that
// none waits for another's answer while the limits allow more.
#include <stdio.h>
#include <stdlib.h>

#include "waypoint/direct.h"
#include "waypoint/http_worker.h"
#include "waypoint/upstream_priv.h"
#include "waypoint/waypoint.h"

static struct wworker *worker_of(const struct upstream_pool *pool) {
    return pool->upstream->all->worker;
}

// ---- starvation --------------------------------------------------------------------------------

struct cluster_mail {
    struct mail mail;
    struct wworker *worker;
    struct cluster *cluster; // referenced
    bool is_free; // a connection was given back; else: one is wanted
};

static void run_cluster_mail(struct mail *mail, void *owner) {
    (void)owner;
    struct cluster_mail *news = CONTAINER_OF(mail, struct cluster_mail, mail);
    struct upstream *up = upstream_find(&news->worker->http->upstreams, news->cluster);
    if (up != NULL && news->is_free) {
        upstream_pools_go_on(up);
    } else if (up != NULL) {
        (void)upstream_pools_yield(up);
    }
    cluster_unref(news->cluster);
    free(news);
}

static void tell_others(struct upstream *up, bool is_free) {
    const struct waypoint *waypoint = up->all->worker->waypoint;
    for (uint32_t i = 0; i < waypoint->n_workers; i++) {
        if (waypoint->workers[i] == up->all->worker) {
            continue;
        }
        struct cluster_mail *news = xcalloc(1, sizeof(*news));
        news->mail.fn = run_cluster_mail;
        news->worker = waypoint->workers[i];
        news->cluster = cluster_ref(up->cluster);
        news->is_free = is_free;
        loop_send(news->worker->loop, &news->mail);
    }
}

static void set_starved(struct upstream *up, bool is_starved) {
    if (up->is_starved == is_starved) {
        return;
    }
    up->is_starved = is_starved;
    if (is_starved) {
        atomic_fetch_add(&up->cluster->n_starved, 1);
        (void)upstream_pools_yield(up); // connections of another flavor
        tell_others(up, false);
    } else {
        atomic_fetch_sub(&up->cluster->n_starved, 1);
    }
}

static void give_connection(struct upstream *up) {
    l7_breaker_give(&up->cluster->breaker, L7_BREAKER_CONNECTIONS);
    if (atomic_load(&up->cluster->n_starved) > 0) {
        tell_others(up, true);
    }
}

bool upstream_view_take_conn(struct upstream_view *view) {
    return l7_breaker_take(&view->cluster->breaker, L7_BREAKER_CONNECTIONS,
                           view->settings->pool.max_connections);
}

void upstream_view_give_conn(struct upstream_view *view) {
    give_connection(view->upstream);
    upstream_pools_go_on(view->upstream);
}

// ---- requests ----------------------------------------------------------------------------------

static void stop_waiting(struct upstream_request *request) {
    struct upstream_pool *pool = request->pool;
    struct upstream *up = pool->upstream;
    list_del(&request->node);
    request->pool = NULL;
    pool->n_waiting--;
    up->n_waiting--;
    l7_breaker_give(&up->cluster->breaker, L7_BREAKER_PENDING);
    if (up->n_waiting == 0) {
        set_starved(up, false);
    }
    if (pool->n_waiting == 0) {
        upstream_view_unref(pool->view);
        pool->view = NULL;
    }
}

static bool has_room(const struct upstream_conn *conn) {
    return conn->is_open && !conn->is_leaving && conn->http.n_streams < conn->max_streams &&
           http_conn_can_open(&conn->http);
}

// RFC 8441 3: an upgrade waits for the SETTINGS that allow it.
static bool has_room_for(const struct upstream_conn *conn, enum http_conn_version version,
                         bool is_upgrade) {
    return conn->version == version && has_room(conn) &&
           (!is_upgrade || http_conn_has_settings(&conn->http));
}

static void hand_out(struct upstream_conn *conn, struct upstream_request *request) {
    // After the last request of its life it closes (on_idle).
    if (conn->max_requests > 0 && conn->http.n_streams_total + 1 >= conn->max_requests) {
        conn->is_leaving = true;
    }
    request->ops->on_ready(request, &conn->http, &conn->path);
}

static void serve_waiting(struct upstream_conn *conn) {
    struct upstream_pool *pool = conn->pool;
    while (has_room(conn) && !list_empty(&pool->waiting)) {
        struct upstream_request *request =
            LIST_ITEM(pool->waiting.next, struct upstream_request, node);
        if (!has_room_for(conn, request->version, request->is_upgrade)) {
            break;
        }
        stop_waiting(request);
        hand_out(conn, request);
    }
}

static void fail_waiting(struct upstream_pool *pool, enum l7_reset reset, const char *text) {
    while (!list_empty(&pool->waiting)) {
        struct upstream_request *request =
            LIST_ITEM(pool->waiting.next, struct upstream_request, node);
        stop_waiting(request);
        request->ops->on_fail(request, reset, text);
    }
}

// ---- connections -------------------------------------------------------------------------------

// Takes it off and frees it; the place that it had is given back by the caller.
static void conn_free(struct upstream_conn *conn) {
    struct upstream_pool *pool = conn->pool;
    list_del(&conn->node);
    atomic_fetch_sub(&pool->host->n_conns, 1);
    if (conn->is_shed) {
        atomic_fetch_sub(&pool->upstream->cluster->n_shed, 1);
    }
    pool->n_conns--;
    pool->n_dialing -= !conn->is_open;
    pool->upstream->all->n_conns--;
    free(conn);
}

// maxConnections was lowered, and this connection is to go for that. To each host one is always
// allowed (see grow).
static bool take_surplus(struct upstream_conn *conn) {
    const struct upstream *up = conn->pool->upstream;
    uint32_t max = up->view != NULL ? up->view->settings->pool.max_connections : L7_NO_LIMIT;
    if (max == L7_NO_LIMIT || atomic_load(&conn->pool->host->n_conns) <= 1) {
        return false;
    }
    struct cluster *cluster = up->cluster;
    uint32_t n_shed = atomic_load(&cluster->n_shed);
    do {
        uint64_t n = l7_breaker_count(&cluster->breaker, L7_BREAKER_CONNECTIONS);
        if (n <= (uint64_t)max + n_shed) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&cluster->n_shed, &n_shed, n_shed + 1));
    conn->is_shed = true;
    return true;
}

static void on_idle(struct http_conn *http) {
    struct upstream_conn *conn = CONTAINER_OF(http, struct upstream_conn, http);
    serve_waiting(conn);
    if (http->n_streams > 0 || !conn->is_open) {
        return;
    }
    struct upstream *up = conn->pool->upstream;
    // Others wait for a connection that this worker only keeps.
    if (conn->is_leaving || conn->pool->is_left || up->all->is_stopping ||
        atomic_load(&up->cluster->n_starved) > 0 || take_surplus(conn)) {
        conn->is_leaving = true;
        http_conn_drain(http);
    }
}

static void on_draining(struct http_conn *http) {
    CONTAINER_OF(http, struct upstream_conn, http)->is_leaving = true;
}

static void on_closed(struct http_conn *http) {
    struct upstream_conn *conn = CONTAINER_OF(http, struct upstream_conn, http);
    struct upstream *up = conn->pool->upstream;
    conn_free(conn);
    give_connection(up);
    upstream_pools_go_on(up);
    upstream_due(up, 0); // its pool may be empty
}

static const struct http_conn_handler conn_handler = {
    .on_idle = on_idle, .on_draining = on_draining, .on_closed = on_closed};

// An idle connection is closed.
static bool yield_conn(struct upstream_conn *conn) {
    if (!conn->is_open || conn->http.n_streams > 0) {
        return false;
    }
    conn->is_leaving = true;
    http_conn_drain(&conn->http);
    return true;
}

// When to look at it again. A connection that is busy now is not idle for long enough before.
static uint64_t conn_due(const struct upstream_conn *conn, uint64_t now) {
    uint64_t due = TIME_NEVER;
    if (conn->is_leaving) {
        return due; // closes as soon as it is idle
    }
    if (conn->max_age_ns > 0) {
        due = conn->opened_ns + conn->max_age_ns;
    }
    if (conn->is_open && conn->idle_ns > 0) {
        uint64_t since = conn->http.n_streams > 0 ? now : conn->http.last_active;
        due = MIN(due, since + conn->idle_ns);
    }
    return due;
}

static void on_open(struct upstream_dial *dial, struct duplex *duplex) {
    struct upstream_conn *conn = CONTAINER_OF(dial, struct upstream_conn, dial);
    struct upstream_pool *pool = conn->pool;
    conn->is_open = true;
    conn->path =
        (struct upstream_path){.addr = dial->addr, .via = dial->hbone_addr, .local = dial->local};
    pool->n_dialing--;
    http_conn_init(&conn->http, worker_of(pool)->loop, duplex, false, conn->version, &pool->http,
                   &conn_handler);
    upstream_due(pool->upstream, conn_due(conn, worker_of(pool)->loop->now));
    if (pool->is_left && list_empty(&pool->waiting)) {
        (void)yield_conn(conn); // made for nobody, as it turns out
    } else {
        serve_waiting(conn);
    }
}

static void on_fail(struct upstream_dial *dial, const struct upstream_failure *failure) {
    struct upstream_conn *conn = CONTAINER_OF(dial, struct upstream_conn, dial);
    struct upstream_pool *pool = conn->pool;
    enum l7_reset reset = failure->is_timeout ? L7_RESET_CONNECT_TIMEOUT : L7_RESET_CONNECT_REFUSED;
    char text[sizeof(dial->text)];
    snprintf(text, sizeof(text), "%s", failure->text);
    struct upstream *up = pool->upstream;
    conn_free(conn);
    // As all of them would: those that wait are told, and may go elsewhere.
    fail_waiting(pool, reset, text);
    give_connection(up);
    upstream_pools_go_on(up);
}

static const struct upstream_dial_ops dial_ops = {.on_open = on_open, .on_fail = on_fail};

static void open_conn(struct upstream_pool *pool, enum http_conn_version version) {
    const struct l7_pool_policy *policy = &pool->view->settings->pool;
    struct upstream_conn *conn = xcalloc(1, sizeof(*conn));
    conn->pool = pool;
    conn->version = (uint8_t)version;
    conn->opened_ns = worker_of(pool)->loop->now;
    conn->idle_ns = policy->idle_timeout_ms * NS_PER_MS;
    conn->max_age_ns = policy->max_connection_duration_ms * NS_PER_MS;
    conn->max_requests = policy->max_requests_per_connection;
    conn->max_streams = version == HTTP_CONN_1                ? 1
                        : policy->max_concurrent_streams == 0 ? UINT32_MAX
                                                              : policy->max_concurrent_streams;
    list_push_back(&pool->conns, &conn->node);
    atomic_fetch_add(&pool->host->n_conns, 1);
    pool->n_conns++;
    pool->n_dialing++;
    pool->upstream->all->n_conns++;
    struct upstream_target target = {
        .workload = pool->workload,
        .service = pool->view->service,
        .addr = pool->host->addr,
        .timeout_ns = policy->connect_timeout_ms * NS_PER_MS,
        .pool = policy,
    };
    const struct upstream_flavor *flavor = pool->flavor;
    if (flavor != NULL) {
        target.ahead = slice_make(flavor->ahead, flavor->ahead_len);
    }
    char text[TLS_LINK_ERROR_MAX];
    enum tls_alpn alpn = version == HTTP_CONN_2 ? TLS_ALPN_H2 : TLS_ALPN_HTTP1;
    // The requests that wait have asked before: what was good once stays.
    CHECK(upstream_tls_set(pool->view->settings, pool->view->service,
                           slice_str(flavor != NULL ? flavor->name : ""), alpn, &target, text,
                           sizeof(text)));
    upstream_dial_start(&conn->dial, worker_of(pool), &target, &dial_ops);
    upstream_tls_unset(&target);
}

// A connection is open whose SETTINGS are under way.
static bool is_greeting(const struct upstream_pool *pool) {
    LIST_EACH(node, &pool->conns) {
        const struct upstream_conn *conn = LIST_ITEM(node, struct upstream_conn, node);
        if (conn->is_open && has_room(conn) && !http_conn_has_settings(&conn->http)) {
            return true;
        }
    }
    return false;
}

// One more connection, if the requests that wait have use for it and the limit allows. To a host
// that has none one is always allowed: its requests would wait for the connections of others.
static bool grow(struct upstream_pool *pool) {
    const struct upstream_request *first =
        LIST_ITEM(pool->waiting.next, struct upstream_request, node);
    // One connection of HTTP/2 is for all of them.
    bool is_enough = first->version == HTTP_CONN_2 ? pool->n_dialing > 0 || is_greeting(pool)
                                                   : pool->n_dialing >= pool->n_waiting;
    if (is_enough) {
        return false;
    }
    struct upstream *up = pool->upstream;
    if (!l7_breaker_take(&up->cluster->breaker, L7_BREAKER_CONNECTIONS,
                         pool->view->settings->pool.max_connections)) {
        if (atomic_load(&pool->host->n_conns) > 0) {
            set_starved(up, true);
            return false;
        }
        atomic_fetch_add(&up->cluster->breaker.counts[L7_BREAKER_CONNECTIONS], 1);
    }
    open_conn(pool, first->version);
    return true;
}

void upstream_pools_go_on(struct upstream *up) {
    HMAP_EACH_SAFE(pos, &up->pools) {
        struct upstream_pool *pool = HMAP_ITEM(pos, struct upstream_pool, node);
        while (!list_empty(&pool->waiting) && grow(pool)) {
        }
    }
}

uint32_t upstream_pools_yield(struct upstream *up) {
    uint32_t n = 0;
    HMAP_EACH_SAFE(pos, &up->pools) {
        struct upstream_pool *pool = HMAP_ITEM(pos, struct upstream_pool, node);
        LIST_EACH_SAFE(node, &pool->conns) {
            n += yield_conn(LIST_ITEM(node, struct upstream_conn, node));
        }
    }
    return n;
}

// ---- pools -------------------------------------------------------------------------------------

static bool is_same_flavor(const struct upstream_flavor *a, const struct upstream_flavor *b) {
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return strcmp(a->name, b->name) == 0 &&
           slice_eq(slice_make(a->ahead, a->ahead_len), slice_make(b->ahead, b->ahead_len));
}

// False: there is none, connections to the host are all alike.
static bool set_flavor(const struct l7_settings *settings, const struct upstream_caller *caller,
                       struct upstream_flavor *flavor) {
    flavor->name[0] = '\0';
    flavor->ahead_len = upstream_ahead(settings, caller->client, caller->called, flavor->ahead);
    if (l7_tls_is_on(&settings->tls) && settings->tls.sni[0] == '\0') {
        (void)upstream_tls_name(caller->authority, flavor->name);
    }
    return flavor->name[0] != '\0' || flavor->ahead_len > 0;
}

static void set_workload(struct upstream_pool *pool, struct workload *workload) {
    if (pool->workload != workload) {
        leaf_unref(pool->workload);
        pool->workload = workload;
        if (workload != NULL) {
            leaf_ref(workload);
        }
    }
}

// http2KeepAlive.
static void set_pings(const struct l7_pool_policy *policy, struct h2_config *config) {
    if (policy->ping_interval_ms > 0) {
        config->ping_idle_ns = policy->ping_interval_ms * NS_PER_MS;
        config->ping_timeout_ns = policy->ping_timeout_ms * NS_PER_MS;
    }
}

// The pool of the host for requests of this view, made when there is none.
static struct upstream_pool *pool_get(const struct upstream_view *view, const struct l7_host *to,
                                      const struct upstream_flavor *flavor) {
    struct upstream *up = view->upstream;
    struct cluster_host *host = CONTAINER_OF(to->cell, struct cluster_host, cell);
    uint64_t hash = ((uint64_t)(uintptr_t)host + view->epoch) * 0x9e3779b97f4a7c15U;
    if (flavor != NULL) {
        hash += hash_bytes(slice_str(flavor->name)) +
                3 * hash_bytes(slice_make(flavor->ahead, flavor->ahead_len));
    }
    HMAP_EACH_WITH_HASH(pos, &up->pools, hash) {
        struct upstream_pool *pool = HMAP_ITEM(pos, struct upstream_pool, node);
        if (pool->host == host && pool->epoch == view->epoch &&
            upstream_is_same_way(pool->workload, to->endpoint->workload) &&
            is_same_flavor(pool->flavor, flavor)) {
            return pool;
        }
    }
    struct upstream_pool *pool = xcalloc(1, sizeof(*pool));
    pool->upstream = up;
    pool->epoch = view->epoch;
    pool->host = cluster_host_get(up->cluster, &host->addr, 0);
    set_workload(pool, to->endpoint->workload);
    pool->is_left = view != up->view && !upstream_view_has_pool(up->view, pool);
    pool->http = up->all->http;
    set_pings(&view->settings->pool, &pool->http.h2);
    if (flavor != NULL) {
        pool->flavor = xmalloc(sizeof(*flavor));
        *pool->flavor = *flavor;
    }
    list_init(&pool->conns);
    list_init(&pool->waiting);
    hmap_insert(&up->pools, &pool->node, hash);
    return pool;
}

bool upstream_pool_is_empty(const struct upstream_pool *pool) {
    return list_empty(&pool->conns) && list_empty(&pool->waiting);
}

void upstream_pool_free(struct upstream_pool *pool) {
    CHECK(upstream_pool_is_empty(pool));
    hmap_remove(&pool->upstream->pools, &pool->node);
    cluster_host_unref(pool->host);
    leaf_unref(pool->workload);
    upstream_view_unref(pool->view);
    free(pool->flavor);
    free(pool);
}

void upstream_pool_leave(struct upstream_pool *pool) {
    pool->is_left = true;
    LIST_EACH_SAFE(node, &pool->conns) {
        struct upstream_conn *conn = LIST_ITEM(node, struct upstream_conn, node);
        conn->is_leaving = conn->is_open; // one that dials is for requests that wait
        (void)yield_conn(conn);
    }
}

void upstream_pool_shed(struct upstream_pool *pool) {
    uint32_t n_leaving = 0;
    LIST_EACH_SAFE(node, &pool->conns) {
        struct upstream_conn *conn = LIST_ITEM(node, struct upstream_conn, node);
        bool is_idle = conn->is_open && !conn->is_leaving && conn->http.n_streams == 0;
        if (is_idle && atomic_load(&pool->host->n_conns) > n_leaving + 1 && take_surplus(conn)) {
            (void)yield_conn(conn);
        }
        n_leaving += conn->is_leaving;
    }
}

void upstream_pool_stop(struct upstream_pool *pool) {
    fail_waiting(pool, L7_RESET_LOCAL, "");
    upstream_pool_leave(pool);
}

uint64_t upstream_pool_tick(struct upstream_pool *pool, uint64_t now) {
    uint64_t due = TIME_NEVER;
    LIST_EACH_SAFE(node, &pool->conns) {
        struct upstream_conn *conn = LIST_ITEM(node, struct upstream_conn, node);
        if (conn->max_age_ns > 0 && now >= conn->opened_ns + conn->max_age_ns) {
            conn->is_leaving = true;
        }
        bool is_idle = conn->is_open && conn->http.n_streams == 0;
        bool is_old = is_idle && conn->idle_ns > 0 && now >= conn->http.last_active + conn->idle_ns;
        if (is_idle && (is_old || conn->is_leaving || pool->is_left)) {
            (void)yield_conn(conn);
        } else {
            uint64_t at = conn_due(conn, now);
            due = MIN(due, at);
        }
    }
    return due;
}

// ---- interface ---------------------------------------------------------------------------------

enum http_conn_version upstream_version(const struct upstream_view *view, bool client_has_h2) {
    const struct l7_pool_policy *policy = &view->settings->pool;
    uint8_t protocol = view->service->ports[view->port].app_protocol;
    bool is_direct =
        direct_is_key((const char *)view->service->leaf.key.ptr); // says nothing itself
    bool is_h2 = protocol == APP_HTTP2 || protocol == APP_GRPC || policy->is_h2_upgraded ||
                 ((policy->use_client_protocol || is_direct) && client_has_h2);
    return is_h2 ? HTTP_CONN_2 : HTTP_CONN_1;
}

static struct upstream_conn *find_room(struct upstream_pool *pool,
                                       const struct upstream_request *request) {
    // The one that was used last: the others may become idle and go.
    for (struct list *node = pool->conns.prev; node != &pool->conns; node = node->prev) {
        struct upstream_conn *conn = LIST_ITEM(node, struct upstream_conn, node);
        if (has_room_for(conn, request->version, request->is_upgrade)) {
            return conn;
        }
    }
    return NULL;
}

// False: what the policy asks for is not to be had. Never in clear text what is to be encrypted.
static bool can_connect(const struct upstream_view *view, const char *name, char *text,
                        size_t size) {
    const char *missing = cluster_missing_feature(view->settings);
    if (missing != NULL) {
        snprintf(text, size, "%s", missing);
        return false;
    }
    struct upstream_target target = {0};
    bool is_well = upstream_tls_set(view->settings, view->service, slice_str(name), TLS_ALPN_NONE,
                                    &target, text, size);
    upstream_tls_unset(&target);
    return is_well;
}

void upstream_request_start(struct upstream_request *request, struct upstream_view *view,
                            const struct l7_host *host, enum http_conn_version version,
                            const struct upstream_caller *caller,
                            const struct upstream_request_ops *ops) {
    struct upstream *up = view->upstream;
    *request = (struct upstream_request){
        .ops = ops, .version = (uint8_t)version, .is_upgrade = caller->is_upgrade};
    list_init(&request->node);
    struct upstream_flavor flavor;
    bool has_flavor = set_flavor(view->settings, caller, &flavor);
    struct upstream_pool *pool = pool_get(view, host, has_flavor ? &flavor : NULL);
    struct upstream_conn *conn = list_empty(&pool->waiting) ? find_room(pool, request) : NULL;
    if (conn != NULL) {
        list_del(&conn->node);
        list_push_back(&pool->conns, &conn->node);
        hand_out(conn, request);
        return;
    }
    char text[TLS_LINK_ERROR_MAX];
    if (!can_connect(view, flavor.name, text, sizeof(text))) {
        ops->on_fail(request, L7_RESET_CONNECT_LOCAL, text);
        return;
    }
    if (!l7_breaker_take(&up->cluster->breaker, L7_BREAKER_PENDING,
                         view->settings->pool.max_pending)) {
        ops->on_fail(request, L7_RESET_OVERFLOW, "");
        return;
    }
    request->pool = pool;
    pool->n_waiting++;
    up->n_waiting++;
    list_push_back(&pool->waiting, &request->node);
    set_workload(pool, host->endpoint->workload);
    if (pool->view != view) {
        upstream_view_unref(pool->view);
        pool->view = upstream_view_ref(view);
    }
    (void)grow(pool);
}

void upstream_request_cancel(struct upstream_request *request) {
    if (request->pool != NULL) {
        stop_waiting(request);
    }
}
