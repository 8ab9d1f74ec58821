// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/waypoint/waypoint_bed.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/l7/l7_policy.h"
#include "common/l7/l7_regex.h"
#include "common/l7/l7_routes.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/kobj.h"
#include "common/net/link_end.h"
#include "waypoint/conn.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"

struct wbed_conn {
    struct list node;
    struct link_end link;
};

// ---- the mesh ----------------------------------------------------------------------------------

static const struct mesh_settings mesh = {.trust_domain = "cluster.local",
                                          .cluster_domain = "cluster.local",
                                          .cluster_id = "Kubernetes",
                                          .root_namespace = "istio-system"};

struct reading {
    struct wbed *bed;
    struct arena *arena;
    struct config_errors *errors;
};

static int on_object(void *arg, const struct cfg_node *node) {
    struct reading *reading = arg;
    struct kobj *obj = kobj_decode(node, "bed.yaml", KOBJ_LEAN, reading->arena, reading->errors);
    if (obj != NULL) {
        builder_set(reading->bed->builder, obj);
        kobj_unref(obj);
    }
    return 0;
}

static void read_objects(struct wbed *bed, const char *yaml) {
    struct arena arena;
    struct config_errors errors;
    struct config_doc_reader reader;
    struct cfg_node root;
    struct reading reading = {.bed = bed, .arena = &arena, .errors = &errors};
    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "bed.yaml", slice_str(yaml), CONFIG_YAML, NULL);
    while (config_doc_next(&reader, &arena, &errors, &root) > 0) {
        config_doc_each(&root, &arena, "bed.yaml", &errors, on_object, &reading);
    }
    for (uint32_t i = 0; i < errors.n; i++) {
        char *text = config_error_text(&errors.items[i]);
        fprintf(stderr, "%s\n", text);
        free(text);
    }
    CHECK(errors.n == 0);
    config_errors_fini(&errors);
    arena_fini(&arena);
}

static bool has_problem(void *arg, const struct builder_problem *problem) {
    (void)arg;
    fprintf(stderr, "problem: %s\n", problem->text);
    CHECK(false);
    return true;
}

void wbed_apply(struct wbed *bed, const char *yaml) {
    struct builder_changes changes;
    read_objects(bed, yaml);
    builder_commit(bed->builder, &changes);
    builder_each_problem(bed->builder, has_problem, NULL);
    struct wworker_news news = {
        .policies = changes.policies_changed || changes.mesh_changed,
        .services = changes.services_changed || changes.settings_changed,
        .workloads = changes.workloads_changed,
    };
    for (uint32_t i = 0; changes.generation != 0 && i < bed->n_workers; i++) {
        wworker_send_news(bed->workers[i], news);
    }
    builder_changes_fini(&changes);
}

// ---- life --------------------------------------------------------------------------------------

static void set_config(struct waypoint_config *config) {
    *config = (struct waypoint_config){
        .ns = "shop",
        .name = "waypoint",
        .service_account = "waypoint",
        .node_name = "",
        .pod_name = "",
        .proc.trust_domain = mesh.trust_domain,
        .proc.cluster_domain = mesh.cluster_domain,
        .proc.cluster_id = mesh.cluster_id,
        .proc.network = "",
        .proc.root_namespace = mesh.root_namespace,
        .proc.stream_window = 256 * 1024,
        .proc.stream_window_max = 4 * 1024 * 1024,
        .proc.conn_window = 16 * 1024 * 1024,
        .proc.frame_size = 1024 * 1024,
        .proc.max_streams = 100,
        .proc.pool_idle_ns = 300 * NS_PER_SEC,
        .access_log = -1,
    };
}

void wbed_init(struct wbed *bed, const struct fake_options *net, uint32_t n_workers) {
    static const struct builder_l7_ops ops = {.routes = l7_routes_compile,
                                              .policy = l7_policy_compile};
    CHECK(n_workers > 0 && n_workers <= WBED_WORKERS_MAX);
    *bed = (struct wbed){.net = fake_net_new(net), .options = *net, .n_workers = n_workers};
    list_init(&bed->conns);
    kobj_regex_problem = l7_regex_problem;
    snapshot_init(&mesh);
    snapshot_thread_register();
    const struct builder_options options = {
        .mesh = mesh, .node = "", .l7 = &ops, .proxy_namespace = "shop"};
    bed->builder = builder_new(&options);
    set_config(&bed->waypoint.config);
    bed->waypoint.config.proc.n_workers = bed->waypoint.n_workers = n_workers;
}

static struct wworker *open_worker(struct wbed *bed, uint32_t index, uint64_t seed) {
    struct wworker *worker = xcalloc(1, sizeof(*worker));
    worker->waypoint = &bed->waypoint;
    worker->index = index;
    worker->fd_high = INT32_MAX;
    blk_pool_init(&worker->thread.pool, 4);
    worker->thread.io = fake_io_new(bed->net, &worker->thread.pool);
    loop_init(&worker->thread.loop, worker->thread.io, &worker->thread.pool, worker);
    wworker_open(worker);
    rand_seed(&worker->rand, seed + index);
    return worker;
}

void wbed_open(struct wbed *bed, uint64_t seed) {
    if (bed->net == NULL) {
        bed->net = fake_net_new(&bed->options);
    }
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        bed->workers[i] = bed->waypoint.workers[i] = open_worker(bed, i, seed);
        bed->tunnels[i] = (struct hbone_tunnel){.n_users = 1};
    }
}

static bool has_loop_work(struct wbed *bed) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        n += bed->workers[i]->loop->stats.n_completions;
    }
    bool is_more = n != bed->n_completions;
    bed->n_completions = n;
    return is_more;
}

bool wbed_turn(struct wbed *bed) {
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        loop_turn(bed->workers[i]->loop, false);
    }
    snapshot_thread_offline();
    snapshot_thread_online();
    snapshot_reclaim();
    return has_loop_work(bed);
}

uint32_t wbed_n_conns(const struct wbed *bed) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        n += bed->workers[i]->n_conns;
    }
    return n;
}

uint32_t wbed_n_mirrors(const struct wbed *bed) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        n += bed->workers[i]->http->n_mirrors;
    }
    return n;
}

void wbed_drain(struct wbed *bed) {
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        wworker_send_drain(bed->workers[i], 0);
    }
}

bool wbed_stop(struct wbed *bed) {
    bool is_over = true;
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        is_over = wworker_is_idle(bed->workers[i]) && is_over;
    }
    return is_over;
}

// Nobody is under way: nothing is in use.
static void check_cluster(void *arg, struct cluster *cluster) {
    (void)arg;
    for (int kind = 0; kind < L7_N_BREAKERS; kind++) {
        CHECK(l7_breaker_count(&cluster->breaker, (enum l7_breaker_kind)kind) == 0);
    }
    CHECK(atomic_load(&cluster->n_starved) == 0);
    unsigned n_ejected = 0;
    HMAP_EACH_SAFE(pos, &cluster->hosts) {
        struct cluster_host *host = HMAP_ITEM(pos, struct cluster_host, node);
        CHECK(atomic_load(&host->n_conns) == 0 && atomic_load(&host->cell.active) == 0);
        n_ejected += atomic_load(&host->cell.is_ejected);
    }
    CHECK(atomic_load(&cluster->outlier.n_ejected) == n_ejected);
}

static void count_cluster(void *arg, struct cluster *cluster) {
    (void)cluster;
    ++*(size_t *)arg;
}

static void print_cluster(void *arg, struct cluster *cluster) {
    fprintf(arg, "%s: connections %u, pending %u, requests %u, retries %u, starved %u\n",
            cluster->name, l7_breaker_count(&cluster->breaker, L7_BREAKER_CONNECTIONS),
            l7_breaker_count(&cluster->breaker, L7_BREAKER_PENDING),
            l7_breaker_count(&cluster->breaker, L7_BREAKER_REQUESTS),
            l7_breaker_count(&cluster->breaker, L7_BREAKER_RETRIES),
            atomic_load(&cluster->n_starved));
}

void wbed_print(const struct wbed *bed, FILE *file) {
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        const struct wworker *worker = bed->workers[i];
        fprintf(file, "worker %u: connections %u, exchanges %u, mirrors %u, to endpoints %u\n", i,
                worker->n_conns, worker->http->n_exchanges, worker->http->n_mirrors,
                worker->http->upstreams.n_conns);
        LIST_EACH(node, &worker->http->conns) {
            const struct http_down *down = LIST_ITEM(node, struct http_down, node);
            fprintf(file, "  HTTP/%d, streams %u, closed %d, ended %d, finishing %d, out %zu\n",
                    down->conn.version, down->conn.n_streams, down->is_closed, down->conn.is_ended,
                    down->conn.is_finishing, down->conn.out.len);
            LIST_EACH(item, &down->exchanges) {
                const struct exchange *ex = LIST_ITEM(item, struct exchange, node);
                fprintf(file, "    state %u, tries %u, status %u, received %llu, sent %llu, %s\n",
                        ex->state, ex->n_tries, ex->status, (unsigned long long)ex->n_received,
                        (unsigned long long)ex->n_sent,
                        ex->request_ended ? "request whole" : "request not whole");
            }
        }
    }
    cluster_each(print_cluster, file);
    fake_print_open(bed->net, file);
}

static void close_worker(struct wworker *worker) {
    wworker_close(worker);
    loop_fini(&worker->thread.loop);
    worker->thread.io->ops->free(worker->thread.io);
    CHECK(worker->thread.pool.stats.n_cold == 0);
    blk_pool_fini(&worker->thread.pool);
    free(worker);
}

void wbed_close(struct wbed *bed) {
    if (fake_open_fds(bed->net) != 0) {
        fake_print_open(bed->net, stderr);
    }
    CHECK(fake_open_fds(bed->net) == 0 && fake_pending_ops(bed->net) == 0);
    cluster_each(check_cluster, NULL);
    for (uint32_t i = 0; i < bed->n_workers; i++) {
        CHECK(bed->tunnels[i].n_users == 1);
        close_worker(bed->workers[i]);
    }
    while (!list_empty(&bed->conns)) {
        free(LIST_ITEM(list_pop_front(&bed->conns), struct wbed_conn, node));
    }
    fake_net_free(bed->net);
    bed->net = NULL;
    size_t n_clusters = 0;
    cluster_each(count_cluster, &n_clusters);
    CHECK(n_clusters == 0);
}

void wbed_fini(struct wbed *bed) {
    if (bed->net != NULL) {
        wbed_close(bed);
    }
    builder_free(bed->builder);
    snapshot_thread_unregister();
    snapshot_fini();
    CHECK(leaf_count() == 0);
    kobj_regex_problem = NULL;
}

// ---- clients -----------------------------------------------------------------------------------

static void *keep(void *leaf) {
    if (leaf != NULL) {
        leaf_ref(leaf);
    }
    return leaf;
}

static uint16_t port_index(const struct service *service, uint16_t port) {
    uint16_t i = 0;
    while (service->ports[i].port != port) {
        CHECK(++i < service->n_ports);
    }
    return i;
}

static struct wconn *open_conn(struct wbed *bed, uint32_t index, const char *service_key,
                               uint16_t port, uint16_t client_port, int *ret_fd) {
    struct wworker *worker = bed->workers[index];
    struct service *service = snapshot_service(snapshot_current(), service_key);
    CHECK(service != NULL);
    struct wconn *conn = slab_alloc(&worker->conn_slab);
    *conn = (struct wconn){
        .worker = worker,
        .tunnel = &bed->tunnels[index],
        .id = ++worker->last_conn_id,
        .started_ns = worker->loop->now,
        .client_id = SLICE_LIT("spiffe://cluster.local/ns/shop/sa/client"),
        .service = keep(service),
        .port = port_index(service, port),
        .is_accepted = true,
    };
    CHECK(addr_parse(SLICE_LIT("10.0.0.1:40000"), &conn->client));
    CHECK(addr_parse(SLICE_LIT("10.0.0.9:15008"), &conn->local));
    conn->client.port = client_port != 0 ? client_port : (uint16_t)(40000 + conn->id % 1000);
    conn->dst = (struct addr){.ip = service->vips[0], .port = port};
    list_init(&conn->waiting);
    list_push_back(&worker->conns, &conn->node);
    worker->n_conns++;
    hbone_tunnel_get(conn->tunnel);
    int fds[2];
    CHECK(fake_pair(bed->net, fds) == 0);
    struct wbed_conn *client = xcalloc(1, sizeof(*client));
    list_push_back(&bed->conns, &client->node);
    link_end_init(&client->link, worker->loop, fds[1]);
    conn->client_end = &client->link.duplex;
    *ret_fd = fds[0];
    return conn;
}

int wbed_connect(struct wbed *bed, uint32_t index, const char *service_key, uint16_t port) {
    int fd;
    struct wconn *conn = open_conn(bed, index, service_key, port, 0, &fd);
    http_down_start(conn, conn->client_end, NULL, false);
    return fd;
}

int wbed_connect_tcp(struct wbed *bed, uint32_t index, const char *service_key, uint16_t port,
                     uint16_t client_port) {
    int fd;
    struct wconn *conn = open_conn(bed, index, service_key, port, client_port, &fd);
    struct chain nothing;
    chain_init(&nothing, bed->workers[index]->loop->pool);
    tcp_serve(conn, &nothing, false);
    return fd;
}
