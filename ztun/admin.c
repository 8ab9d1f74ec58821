// SPDX-License-Identifier: Apache-2.0
//
// The operator's endpoints (ambient-protocols §8.3): admin on loopback, metrics, readiness.
#include <stdlib.h>

#include "common/net/http_gzip.h"
#include "common/obs/log.h"
#include "common/obs/prom.h"
#include "ztun/admin.h"
#include "ztun/admin_priv.h"
#include "ztun/control.h"

LOG_SCOPE(log_admin, "ztun::admin");

void admin_reply_text(struct http_exchange *exchange, int status, const char *text) {
    http_reply(exchange, status, "text/plain", slice_str(text));
}

void admin_reply(struct http_exchange *exchange, const struct http_query *query, int status,
                 const char *content_type, struct buf *body) {
    struct buf zipped;
    buf_init(&zipped, ADMIN_BODY_MAX);
    if (!buf_ok(body)) {
        admin_reply_text(exchange, 500, "the answer is too large\n");
    } else if (body->len >= ADMIN_GZIP_MIN && http_accepts_gzip(query->accept_encoding) &&
               http_gzip(buf_slice(body), &zipped)) {
        http_reply_buf(exchange, status, content_type, "gzip", &zipped);
    } else {
        http_reply_buf(exchange, status, content_type, NULL, body);
    }
    buf_fini(&zipped);
    buf_fini(body);
}

void admin_json_init(struct json_out *out, struct buf *body, const struct http_query *query) {
    struct slice ignored;
    json_out_init(out, body, http_query_get(query->query, "pretty", &ignored));
}

// ---- readiness and metrics ---------------------------------------------------------------------

static void handle_readiness(void *arg, struct http_exchange *exchange,
                             const struct http_query *query) {
    struct control *control = arg;
    if (!slice_eq_str(query->path, "/healthz/ready")) {
        admin_reply_text(exchange, 404, "not found\n");
        return;
    }
    struct buf reasons;
    buf_init(&reasons, 65536);
    if (control_is_ready(control, &reasons)) {
        admin_reply_text(exchange, 200, "ready\n");
    } else {
        http_reply(exchange, 500, "text/plain", buf_slice(&reasons));
    }
    buf_fini(&reasons);
}

static void handle_metrics(void *arg, struct http_exchange *exchange,
                           const struct http_query *query) {
    (void)arg;
    if (!slice_eq_str(query->path, "/metrics") && !slice_eq_str(query->path, "/stats/prometheus")) {
        admin_reply_text(exchange, 404, "not found\n");
        return;
    }
    enum prom_format format = prom_format_of(query->accept);
    struct buf body;
    buf_init(&body, ADMIN_BODY_MAX);
    prom_write(&body, format);
    admin_reply(exchange, query, 200, prom_content_type(format), &body);
}

// ---- admin -------------------------------------------------------------------------------------

static void handle_index(struct control *control, struct http_exchange *exchange,
                         const struct http_query *query) {
    (void)control;
    (void)query;
    admin_reply_text(
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

static void handle_logging(struct control *control, struct http_exchange *exchange,
                           const struct http_query *query) {
    (void)control;
    struct buf text;
    struct slice level;
    int status = 200;
    buf_init(&text, 65536);
    if (!slice_eq_str(query->method, "POST")) {
        buf_append_str(&text, "usage: POST /logging?level=FILTER | POST /logging?reset\n");
        status = 405;
    } else if (http_query_get(query->query, "reset", &level)) {
        log_filter_reset();
    } else if (http_query_get(query->query, "level", &level) && level.len > 0) {
        status = log_filter_add(level, &text) ? 200 : 400;
    }
    if (status == 200) {
        buf_append_str(&text, "current log level is ");
        log_filter_text(&text);
    }
    buf_append_str(&text, "\n");
    http_reply(exchange, status, "text/plain", buf_slice(&text));
    buf_fini(&text);
}

static void handle_quit(struct control *control, struct http_exchange *exchange,
                        const struct http_query *query) {
    if (!slice_eq_str(query->method, "POST")) {
        admin_reply_text(exchange, 405, "usage: POST /quitquitquit\n");
        return;
    }
    admin_reply_text(exchange, 200, "shutting down\n");
    control_drain(control);
}

static const struct {
    const char *path;
    void (*handle)(struct control *control, struct http_exchange *exchange,
                   const struct http_query *query);
} pages[] = {
    {"/", handle_index},
    {"/config_dump", admin_config_dump},
    {"/connections", admin_connections},
    {"/status", admin_status},
    {"/logging", handle_logging},
    {"/quitquitquit", handle_quit},
    {"/debug/pprof/heap", admin_heap},
    {"/debug/pprof/heap/profiling", admin_heap_profiling},
    {"/debug/pprof/profile", admin_cpu_profile},
};

static void handle_admin(void *arg, struct http_exchange *exchange,
                         const struct http_query *query) {
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (slice_eq_str(query->path, pages[i].path)) {
            pages[i].handle(arg, exchange, query);
            return;
        }
    }
    admin_reply_text(exchange, 404, "not found\n");
}

// ---- servers -----------------------------------------------------------------------------------

int admin_open(struct control *control) {
    const struct ztun_config *config = &control->ztun->config;
    struct {
        const char *name;
        struct http_server *server;
        const struct addr *addr;
        void (*handle)(void *, struct http_exchange *, const struct http_query *);
    } servers[] = {
        {"admin", &control->admin, &config->admin, handle_admin},
        {"metrics", &control->metrics, &config->metrics, handle_metrics},
        {"readiness", &control->readiness, &config->readiness, handle_readiness},
    };
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        int rc = http_server_open(servers[i].server, &control->loop, servers[i].addr,
                                  servers[i].handle, control);
        if (rc < 0) {
            log_error(&log_admin, "cannot listen", LOG_STR("server", servers[i].name),
                      LOG_ADDR("address", servers[i].addr), LOG_ERRNO("error", rc));
            return rc;
        }
    }
    return 0;
}
