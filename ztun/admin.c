// SPDX-License-Identifier: Apache-2.0
//
// The operator's endpoints (ambient-protocols §8.3): admin on loopback, readiness.
#include "ztun/admin.h"
#include "ztun/control.h"

// ---- readiness
// --------------------------------------------------------------------------------------

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
        http_reply(exchange, 500, "text/plain", buf_slice(&reasons));
    }
    buf_fini(&reasons);
}

// ---- admin -------------------------------------------------------------------------------------

static void handle_index(void *arg, struct http_exchange *exchange,
                         const struct http_query *query) {
    (void)arg;
    (void)query;
    proc_admin_reply_text(
        exchange, 200,
        "ztun admin\n"
        "GET  /config_dump                          workloads, services, policies, certificates, "
        "settings, live flows\n"
        "GET  /connections                          live flows with byte counts; ?limit=N\n"
        "GET  /status                               sources, pods, problems, identities\n"
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
    {"/config_dump", admin_config_dump},
    {"/connections", admin_connections},
    {"/status", admin_status},
    {"/logging", proc_admin_logging},
    {"/quitquitquit", handle_quit},
    {"/debug/pprof/heap", proc_admin_heap},
    {"/debug/pprof/heap/profiling", proc_admin_heap_profiling},
    {"/debug/pprof/profile", proc_admin_cpu_profile},
};

void admin_serve(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    proc_admin_dispatch(pages, ARRAY_LEN(pages), arg, exchange, query);
}
