// SPDX-License-Identifier: Apache-2.0
//
// The operator's endpoints: admin on loopback, readiness.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/proc/proc_dump.h"
#include "version.h"
#include "waypoint/admin_l7.h"
#include "waypoint/conn_list.h"
#include "waypoint/control.h"
#include "waypoint/kube_control.h"
#include "waypoint/upstream_tls.h"

enum { ADMIN_CONNS_MAX = 20000 }; // of one answer; more are counted

// ---- readiness ---------------------------------------------------------------------------------

void admin_readiness(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    struct control *control = arg;
    if (!slice_eq_str(query->path, "/healthz/ready")) {
        proc_admin_reply_text(exchange, 404, "not found\n");
        return;
    }
    struct buf reasons;
    buf_init(&reasons, 65536);
    if (proc_life_is_ready(&control->life, &reasons)) {
        proc_admin_reply_text(exchange, 200, "ready\n");
    } else {
        http_reply(exchange, 503, "text/plain", buf_slice(&reasons));
    }
    buf_fini(&reasons);
}

// ---- parts of answers --------------------------------------------------------------------------

static void put_addr(struct json_out *out, const char *key, const struct addr *addr) {
    char text[ADDR_TEXT_MAX];
    if (ip_is_set(&addr->ip)) {
        json_out_kv_str(out, key, addr_text(addr, text));
    }
}

static void put_text(struct json_out *out, const char *key, const char *text) {
    if (text != NULL && text[0] != '\0') {
        json_out_kv_str(out, key, text);
    }
}

static void put_conn(struct json_out *out, const struct wconn_info *info) {
    json_out_begin_object(out);
    json_out_kv_u64(out, "id", info->id);
    json_out_kv_str(out, "protocol", info->protocol[0] != '\0' ? info->protocol : "waiting");
    json_out_kv_u64(out, "worker", info->worker);
    json_out_kv_u64(out, "ageMillis", info->age_ns / NS_PER_MS);
    put_addr(out, "src", &info->client);
    put_text(out, "srcWorkload", info->source);
    put_text(out, "srcIdentity", info->client_id);
    put_addr(out, "originalDst", &info->dst);
    put_text(out, "dstService", info->service);
    put_text(out, "dstWorkload", info->destination);
    put_addr(out, "actualDst", &info->target);
    put_addr(out, "hboneAddr", &info->hbone_addr);
    json_out_kv_bool(out, "accepted", info->is_accepted);
    json_out_kv_u64(out, "bytesSent", info->n_sent);
    json_out_kv_u64(out, "bytesReceived", info->n_received);
    json_out_end(out);
}

static int by_id(const void *a, const void *b) {
    const struct wconn_info *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static void sort_conns(struct wconn_list *list) {
    if (list->n_items > 0) {
        qsort(list->items, list->n_items, sizeof(*list->items), by_id);
    }
}

static void put_conns(struct json_out *out, struct wconn_list *list) {
    sort_conns(list);
    json_out_kv_array(out, "connections");
    for (size_t i = 0; i < list->n_items; i++) {
        put_conn(out, &list->items[i]);
    }
    json_out_end(out);
    json_out_kv_u64(out, "connectionsNotShown", list->n_skipped);
}

static void put_gateway(struct json_out *out, const struct waypoint_config *config,
                        const struct snapshot *snap) {
    char key[512], id[SPIFFE_TEXT_MAX];
    json_out_kv_object(out, "gateway");
    json_out_kv_str(out, "namespace", config->ns);
    json_out_kv_str(out, "name", config->name);
    json_out_kv_str(out, "service", waypoint_service_key(config, snap, key));
    json_out_kv_str(out, "identity", waypoint_identity_id(config, snap, id));
    put_text(out, "pod", config->pod_name);
    put_text(out, "node", config->node_name);
    json_out_end(out);
}

static void put_config(struct json_out *out, const struct waypoint_config *config) {
    json_out_kv_object(out, "config");
    put_addr(out, "listenAddr", &config->listen);
    proc_dump_config(out, &config->proc);
    json_out_kv_str(out, "kube", config->kube.where);
    json_out_kv_str(out, "kubeNamespaces", config->kube.namespaces);
    json_out_end(out);
}

// ---- pages with connections --------------------------------------------------------------------

// Asks the workers one after the other, then calls done, which answers.
struct gather {
    struct mail mail;
    struct control *control;
    struct http_exchange *exchange;
    const struct http_query *query;
    void (*done)(struct gather *gather);
    struct wconn_list list;
    uint32_t n_asked;
};

static void ask_next(struct mail *mail, void *owner) {
    (void)owner;
    struct gather *gather = CONTAINER_OF(mail, struct gather, mail);
    const struct waypoint *waypoint = gather->control->waypoint;
    if (gather->n_asked < waypoint->n_workers) {
        wworker_send_list(waypoint->workers[gather->n_asked++], &gather->mail, &gather->list);
        return;
    }
    gather->done(gather);
    wconn_list_fini(&gather->list);
    free(gather);
}

static void gather_conns(struct control *control, struct http_exchange *exchange,
                         const struct http_query *query, void (*done)(struct gather *gather)) {
    struct gather *gather = xcalloc(1, sizeof(*gather));
    gather->mail.fn = ask_next;
    gather->control = control;
    gather->exchange = exchange;
    gather->query = query;
    gather->done = done;
    wconn_list_init(&gather->list, ADMIN_CONNS_MAX);
    ask_next(&gather->mail, NULL);
}

static void answer_conns(struct gather *gather) {
    struct json_out out;
    struct buf body;
    buf_init(&body, PROC_ADMIN_BODY_MAX);
    proc_admin_json_init(&out, &body, gather->query);
    json_out_begin_object(&out);
    put_conns(&out, &gather->list);
    json_out_end(&out);
    proc_admin_reply(gather->exchange, gather->query, 200, "application/json", &body);
}

// ---- dumps, in steps ---------------------------------------------------------------------------

enum part { GATEWAY, WORKLOADS, SERVICES, POLICIES, SETTINGS, CERTIFICATES, CONNECTIONS, L7, DONE };

// A dump under way: the snapshot and the connections of its beginning.
struct dump {
    const struct control *control;
    struct proc_dump_list *workloads, *services, *policies, *certs;
    struct wconn_list conns;
    size_t at_conn;
    struct admin_l7 *l7;
    uint8_t part; // enum part
    bool has_begun; // the part's key is written
    bool is_l7_only;
};

static void dump_free(void *arg) {
    struct dump *dump = arg;
    proc_dump_list_free(dump->workloads);
    proc_dump_list_free(dump->services);
    proc_dump_list_free(dump->policies);
    proc_dump_list_free(dump->certs);
    wconn_list_fini(&dump->conns);
    admin_l7_free(dump->l7);
    free(dump);
}

static void put_settings(struct json_out *out, const struct waypoint_config *config) {
    json_out_kv_object(out, "version");
    json_out_kv_str(out, "version", ZTUN_VERSION);
    json_out_kv_str(out, "gitRevision", ZTUN_VERSION_GIT);
    json_out_end(out);
    put_config(out, config);
}

static bool step_conns(struct dump *dump, struct json_out *out) {
    enum { STEP = 64 };
    size_t end = MIN(dump->at_conn + STEP, dump->conns.n_items);
    if (dump->at_conn == 0) {
        json_out_kv_array(out, "connections");
    }
    for (; dump->at_conn < end; dump->at_conn++) {
        put_conn(out, &dump->conns.items[dump->at_conn]);
    }
    if (end < dump->conns.n_items) {
        return true;
    }
    json_out_end(out);
    json_out_kv_u64(out, "connectionsNotShown", dump->conns.n_skipped);
    return false;
}

static bool step_l7(struct dump *dump, struct json_out *out) {
    if (admin_l7_step(dump->l7, out)) {
        return true;
    }
    json_out_end(out);
    return false;
}

static bool step_part(struct dump *dump, struct json_out *out) {
    switch ((enum part)dump->part) {
    case GATEWAY:
        put_gateway(out, &dump->control->waypoint->config, snapshot_current());
        return false;
    case WORKLOADS:
        return proc_dump_list_step(dump->workloads, out);
    case SERVICES:
        return proc_dump_list_step(dump->services, out);
    case POLICIES:
        return proc_dump_list_step(dump->policies, out);
    case SETTINGS:
        put_settings(out, &dump->control->waypoint->config);
        return false;
    case CERTIFICATES:
        return proc_dump_list_step(dump->certs, out);
    case CONNECTIONS:
        return step_conns(dump, out);
    case L7:
        return step_l7(dump, out);
    case DONE:
        break;
    }
    return false;
}

static bool dump_step(void *arg, struct json_out *out) {
    static const char *const keys[] = {[WORKLOADS] = "workloads",
                                       [SERVICES] = "services",
                                       [POLICIES] = "policies",
                                       [CERTIFICATES] = "certificates",
                                       [L7] = "l7",
                                       [DONE] = NULL};
    struct dump *dump = arg;
    if (!dump->has_begun) {
        if (dump->part == GATEWAY) {
            json_out_begin_object(out);
        }
        if (keys[dump->part] != NULL) {
            json_out_key(out, slice_str(keys[dump->part]));
        }
        if (dump->part == L7) {
            json_out_begin_object(out);
        }
        dump->has_begun = true;
    }
    if (step_part(dump, out)) {
        return true;
    }
    dump->has_begun = false;
    dump->part = dump->is_l7_only && dump->part == GATEWAY ? L7 : dump->part + 1;
    if (dump->part != DONE) {
        return true;
    }
    json_out_end(out);
    return false;
}

static const struct proc_admin_steps dump_steps = {.step = dump_step, .free = dump_free};

static struct dump *dump_new(const struct control *control) {
    struct dump *dump = xcalloc(1, sizeof(*dump));
    dump->control = control;
    dump->l7 = admin_l7_new(&control->waypoint->config, snapshot_current(), control->is_listening);
    return dump;
}

static void answer_dump(struct gather *gather) {
    const struct snapshot *snap = snapshot_current();
    struct dump *dump = dump_new(gather->control);
    dump->workloads = proc_dump_list_new(PROC_DUMP_WORKLOADS, snap);
    dump->services = proc_dump_list_new(PROC_DUMP_SERVICES, snap);
    dump->policies = proc_dump_list_new(PROC_DUMP_POLICIES, snap);
    dump->certs = proc_dump_list_new(PROC_DUMP_CERTS, snap);
    dump->conns = gather->list; // moves
    wconn_list_init(&gather->list, 0);
    sort_conns(&dump->conns);
    proc_admin_reply_steps(gather->exchange, gather->query, &dump_steps, dump);
}

static void handle_l7(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    struct dump *dump = dump_new(arg);
    dump->is_l7_only = true;
    wconn_list_init(&dump->conns, 0);
    proc_admin_reply_steps(exchange, query, &dump_steps, dump);
}

static void handle_conns(void *arg, struct http_exchange *exchange,
                         const struct http_query *query) {
    gather_conns(arg, exchange, query, answer_conns);
}

static void handle_dump(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    gather_conns(arg, exchange, query, answer_dump);
}

// ---- other pages -------------------------------------------------------------------------------

static void put_head(struct json_out *out, const struct control *control,
                     const struct snapshot *snap) {
    struct buf reasons;
    buf_init(&reasons, 65536);
    json_out_kv_str(out, "version", ZTUN_VERSION_FULL);
    json_out_kv_str(out, "state", proc_life_state(&control->life));
    json_out_kv_bool(out, "ready", control_is_ready(control, &reasons));
    json_out_kv_string(out, "notReadyBecause", buf_slice(&reasons));
    json_out_kv_u64(out, "generation", snap->generation);
    json_out_kv_u64(out, "memoryLimit", control->life.memory.limit);
    json_out_kv_bool(out, "refusesNewConnections", control->life.memory.refuse_new);
    buf_fini(&reasons);
}

static void put_counts(struct json_out *out, const struct control *control,
                       const struct snapshot *snap) {
    const struct waypoint *waypoint = control->waypoint;
    uint64_t n_conns = 0, n_tunnels = 0;
    for (uint32_t i = 0; i < waypoint->n_workers; i++) {
        n_conns += waypoint->workers[i]->n_conns;
        n_tunnels += waypoint->workers[i]->n_tunnels;
    }
    json_out_kv_object(out, "counts");
    json_out_kv_u64(out, "workloads", snap->workloads.n_items);
    json_out_kv_u64(out, "services", snap->services.n_items);
    json_out_kv_u64(out, "policies", snap->policies.n_items);
    json_out_kv_u64(out, "workers", waypoint->n_workers);
    json_out_kv_u64(out, "connections", n_conns);
    json_out_kv_u64(out, "inboundTunnels", n_tunnels);
    json_out_end(out);
}

// What is bound here.
struct served {
    struct json_out *out;
    const char *key;
};

static bool put_served(void *arg, void *leaf) {
    struct served *served = arg;
    const struct service *service = leaf;
    if (service_is_bound(service, served->key)) {
        json_out_string(served->out, service->leaf.key);
    }
    return true;
}

static void put_credentials(void *arg, const char *name, const char *text) {
    struct json_out *out = arg;
    json_out_begin_object(out);
    json_out_kv_str(out, "name", name);
    json_out_kv_str(out, "problem", text);
    json_out_end(out);
}

static void handle_status(void *arg, struct http_exchange *exchange,
                          const struct http_query *query) {
    struct control *control = arg;
    const struct waypoint_config *config = &control->waypoint->config;
    const struct snapshot *snap = snapshot_current();
    char key[512];
    struct json_out out;
    struct buf body;
    buf_init(&body, PROC_ADMIN_BODY_MAX);
    proc_admin_json_init(&out, &body, query);
    json_out_begin_object(&out);
    put_head(&out, control, snap);
    put_gateway(&out, config, snap);
    put_counts(&out, control, snap);
    struct served served = {.out = &out, .key = waypoint_service_key(config, snap, key)};
    json_out_kv_array(&out, "boundServices");
    pmap_each(&snap->services, put_served, &served);
    json_out_end(&out);
    if (control->mesh.source != NULL) {
        proc_dump_source(&out, control->mesh.source);
    }
    if (control->xds != NULL) {
        proc_xds_dump(&out, control->xds);
    }
    if (control->writer != NULL) {
        kube_control_dump(&out, control->writer);
    }
    proc_kube_dump(&out, &control->kube);
    proc_dump_objects(&out, control->mesh.builder);
    json_out_kv_array(&out, "tlsCredentials");
    upstream_tls_each_problem(put_credentials, &out);
    json_out_end(&out);
    json_out_key(&out, SLICE_LIT("identities"));
    proc_dump_identities(&out, snap, clock_wall_s());
    json_out_end(&out);
    proc_admin_reply(exchange, query, 200, "application/json", &body);
}

static void handle_index(void *arg, struct http_exchange *exchange,
                         const struct http_query *query) {
    (void)arg;
    (void)query;
    proc_admin_reply_text(
        exchange, 200,
        "waypoint admin\n"
        "GET  /config_dump                          workloads, services, policies, certificates, "
        "settings, live connections\n"
        "GET  /l7_dump                              listeners, routes, clusters, endpoints with "
        "what is in use of them\n"
        "GET  /connections                          live connections with byte counts\n"
        "GET  /status                               sources, what is bound here, problems\n"
        "GET  /stats/prometheus                     metrics\n"
        "POST /logging?level=FILTER                 change the log filter; ?reset takes it back\n"
        "POST /quitquitquit                         drain and exit\n"
        "GET  /debug/pprof/heap                     heap profile (jemalloc)\n"
        "GET  /debug/pprof/heap/profiling           ?activate=true|false\n"
        "JSON pages take ?pretty.\n");
}

static void handle_quit(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    if (!slice_eq_str(query->method, "POST")) {
        proc_admin_reply_text(exchange, 405, "usage: POST /quitquitquit\n");
        return;
    }
    proc_admin_reply_text(exchange, 200, "shutting down\n");
    control_drain(arg);
}

static const struct proc_admin_page pages[] = {
    {"/", handle_index},
    {"/config_dump", handle_dump},
    {"/connections", handle_conns},
    {"/l7_dump", handle_l7},
    {"/status", handle_status},
    {"/stats/prometheus", proc_admin_metrics},
    {"/metrics", proc_admin_metrics},
    {"/logging", proc_admin_logging},
    {"/quitquitquit", handle_quit},
    {"/debug/pprof/heap", proc_admin_heap},
    {"/debug/pprof/heap/profiling", proc_admin_heap_profiling},
    {"/debug/pprof/profile", proc_admin_cpu_profile},
};

void admin_serve(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    proc_admin_dispatch(pages, ARRAY_LEN(pages), arg, exchange, query);
}
