// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/net/http_gzip.h"
#include "common/obs/log.h"
#include "common/obs/prom.h"
#include "common/proc/proc_config.h"

enum {
    RETRY_MS = 100,
    TELL_EVERY = 600, // tries: once a minute
    // Of an answer in steps, what a turn of the loop does at most.
    PIECE_MS = 1,
    PIECE_BYTES = 256 * 1024,
};

void proc_admin_reply_text(struct http_exchange *exchange, int status, const char *text) {
    http_reply(exchange, status, "text/plain", slice_str(text));
}

void proc_admin_reply(struct http_exchange *exchange, const struct http_query *query, int status,
                      const char *content_type, struct buf *body) {
    struct buf zipped;
    buf_init(&zipped, PROC_ADMIN_BODY_MAX);
    if (!buf_ok(body)) {
        proc_admin_reply_text(exchange, 500, "the answer is too large\n");
    } else if (body->len >= PROC_ADMIN_GZIP_MIN && http_accepts_gzip(query->accept_encoding) &&
               http_gzip(buf_slice(body), &zipped)) {
        http_reply_buf(exchange, status, content_type, "gzip", &zipped);
    } else {
        http_reply_buf(exchange, status, content_type, NULL, body);
    }
    buf_fini(&zipped);
    buf_fini(body);
}

void proc_admin_json_init(struct json_out *out, struct buf *body, const struct http_query *query) {
    struct slice ignored;
    json_out_init(out, body, http_query_get(query->query, "pretty", &ignored));
}

// ---- answers in steps --------------------------------------------------------------------------

struct stepper {
    struct http_body body;
    const struct proc_admin_steps *steps;
    void *arg;
    struct json_out out;
    struct buf text; // what the steps of this piece wrote
    struct http_gzip_stream *gzip; // NULL: as it is
};

static bool next_piece(struct http_body *body, struct buf *out) {
    struct stepper *stepper = CONTAINER_OF(body, struct stepper, body);
    uint64_t end = clock_mono_ns() + PIECE_MS * NS_PER_MS;
    bool has_more = true;
    buf_clear(&stepper->text);
    while (has_more && stepper->text.len < PIECE_BYTES && clock_mono_ns() < end) {
        has_more = stepper->steps->step(stepper->arg, &stepper->out);
    }
    struct slice text = buf_slice(&stepper->text);
    if (stepper->gzip == NULL) {
        buf_append(out, text);
    } else if (!http_gzip_stream_add(stepper->gzip, text, !has_more, out)) {
        out->is_overflowed = true;
    }
    out->is_overflowed = out->is_overflowed || !buf_ok(&stepper->text);
    return has_more;
}

static void free_stepper(struct http_body *body) {
    struct stepper *stepper = CONTAINER_OF(body, struct stepper, body);
    stepper->steps->free(stepper->arg);
    http_gzip_stream_free(stepper->gzip);
    buf_fini(&stepper->text);
    free(stepper);
}

void proc_admin_reply_steps(struct http_exchange *exchange, const struct http_query *query,
                            const struct proc_admin_steps *steps, void *arg) {
    struct stepper *stepper = xcalloc(1, sizeof(*stepper));
    bool is_zipped = http_accepts_gzip(query->accept_encoding);
    stepper->body = (struct http_body){.next = next_piece, .free = free_stepper};
    stepper->steps = steps;
    stepper->arg = arg;
    stepper->gzip = is_zipped ? http_gzip_stream_new() : NULL;
    buf_init(&stepper->text, HTTP_SERVER_PIECE_MAX);
    proc_admin_json_init(&stepper->out, &stepper->text, query);
    http_reply_stream(exchange, 200, "application/json", is_zipped ? "gzip" : NULL, &stepper->body);
}

void proc_admin_dispatch(const struct proc_admin_page *pages, size_t n_pages, void *arg,
                         struct http_exchange *exchange, const struct http_query *query) {
    for (size_t i = 0; i < n_pages; i++) {
        if (slice_eq_str(query->path, pages[i].path)) {
            pages[i].handle(arg, exchange, query);
            return;
        }
    }
    proc_admin_reply_text(exchange, 404, "not found\n");
}

// ---- pages -------------------------------------------------------------------------------------

void proc_admin_metrics(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    (void)arg;
    if (!slice_eq_str(query->path, "/metrics") && !slice_eq_str(query->path, "/stats/prometheus")) {
        proc_admin_reply_text(exchange, 404, "not found\n");
        return;
    }
    enum prom_format format = prom_format_of(query->accept);
    struct buf body;
    buf_init(&body, PROC_ADMIN_BODY_MAX);
    prom_write(&body, format);
    proc_admin_reply(exchange, query, 200, prom_content_type(format), &body);
}

void proc_admin_logging(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    (void)arg;
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

// ---- servers -----------------------------------------------------------------------------------

// A socket that is bound, or connected, to the name of those who wait for the address; -1: not.
static int waiting_socket(const struct addr *addr, bool is_ours) {
    char text[ADDR_TEXT_MAX];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "ztun-waits-%s",
                       addr_text(addr, text));
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    const struct sockaddr *sa = (const struct sockaddr *)&name;
    // A full queue is one of somebody who waits.
    bool is_done = is_ours ? bind(fd, sa, size) == 0 && listen(fd, 1) == 0
                           : connect(fd, sa, size) == 0 || errno == EAGAIN;
    if (!is_done) {
        close(fd);
        return -1;
    }
    return fd;
}

static void set_waiting(struct proc_admin_servers *servers, const struct addr *addr) {
    if (servers->waiting_fd >= 0) {
        close(servers->waiting_fd);
    }
    servers->waiting_fd = addr != NULL ? waiting_socket(addr, true) : -1;
}

static bool is_waited_for(const struct addr *addr) {
    int fd = waiting_socket(addr, false);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

// Readiness last: who is told that it may end must find that the successor answers for all.
static int open_next(struct proc_admin_servers *servers) {
    const struct proc_admin_params *params = &servers->params;
    const struct {
        const char *name;
        struct http_server *server;
        const struct addr *addr;
        proc_admin_fn *handle;
    } all[PROC_ADMIN_N_SERVERS] = {
        {"admin", &servers->admin, &params->config->admin, params->on_admin},
        {"metrics", &servers->metrics, &params->config->metrics, proc_admin_metrics},
        {"readiness", &servers->readiness, &params->config->readiness, params->on_readiness},
    };
    while (servers->n_open < PROC_ADMIN_N_SERVERS) {
        uint32_t i = servers->n_open;
        int rc =
            http_server_open(all[i].server, params->loop, all[i].addr, all[i].handle, params->arg);
        if (rc == 0) {
            servers->n_open++;
            set_waiting(servers, NULL);
            continue;
        }
        if (rc != -EADDRINUSE) {
            log_error(params->scope, "cannot listen", LOG_STR("server", all[i].name),
                      LOG_ADDR("address", all[i].addr), LOG_ERRNO("error", rc));
        } else if (servers->n_tries++ % TELL_EVERY == 0) {
            log_warn(params->scope, "another process has the address, waiting for its end",
                     LOG_STR("server", all[i].name), LOG_ADDR("address", all[i].addr));
        }
        if (rc == -EADDRINUSE && servers->waiting_fd < 0) { // one of several who wait is enough
            set_waiting(servers, all[i].addr);
        }
        return rc;
    }
    return 0;
}

static void close_all(struct proc_admin_servers *servers) {
    struct http_server *all[PROC_ADMIN_N_SERVERS] = {&servers->admin, &servers->metrics,
                                                     &servers->readiness};
    timer_clear(&servers->params.loop->timers, &servers->retry);
    set_waiting(servers, NULL);
    while (servers->n_open > 0) {
        http_server_close(all[--servers->n_open], NULL);
    }
}

static void arm(struct proc_admin_servers *servers) {
    struct loop *loop = servers->params.loop;
    timer_set(&loop->timers, &servers->retry, loop->now + RETRY_MS * NS_PER_MS);
}

static void yield(struct proc_admin_servers *servers) {
    const struct proc_admin_params *params = &servers->params;
    if (is_waited_for(&params->config->admin) || is_waited_for(&params->config->metrics) ||
        is_waited_for(&params->config->readiness)) {
        log_info(params->scope, "the operator's ports are the successor's now");
        close_all(servers);
        return;
    }
    arm(servers);
}

static void on_retry(struct timer *timer, uint64_t now) {
    (void)now;
    struct proc_admin_servers *servers = CONTAINER_OF(timer, struct proc_admin_servers, retry);
    if (servers->is_draining) {
        yield(servers);
    } else if (open_next(servers) < 0) {
        arm(servers);
    } else {
        log_info(servers->params.scope, "the operator's ports are ours now");
    }
}

int proc_admin_open(struct proc_admin_servers *servers, const struct proc_admin_params *params) {
    *servers = (struct proc_admin_servers){.params = *params, .waiting_fd = -1};
    timer_init(&servers->retry, on_retry);
    int rc = open_next(servers);
    if (rc == -EADDRINUSE) {
        arm(servers);
        return 0;
    }
    return rc;
}

void proc_admin_drain(struct proc_admin_servers *servers) {
    if (servers->n_open < PROC_ADMIN_N_SERVERS) { // what we have not, we do not want any more
        close_all(servers);
        return;
    }
    servers->is_draining = true;
    yield(servers);
}
