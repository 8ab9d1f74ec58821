// SPDX-License-Identifier: Apache-2.0
//
// Pages and answers that the operator's endpoints of all daemons have in common
// (ambient-protocols §8.3): log level, metrics, heap profiles.
//
// Each page answers exactly once. Thread: control.
#pragma once

#include "common/base/json_out.h"
#include "common/net/http_server.h"

enum {
    PROC_ADMIN_BODY_MAX = 1 << 30, // bytes of one answer
    PROC_ADMIN_GZIP_MIN = 1400, // smaller answers fit a packet as they are
};

struct log_scope;
struct proc_config;

typedef void proc_admin_fn(void *arg, struct http_exchange *exchange,
                           const struct http_query *query);

struct proc_admin_page {
    const char *path;
    proc_admin_fn *handle;
};
// The page of the request's path; 404 when there is none.
void proc_admin_dispatch(const struct proc_admin_page *pages, size_t n_pages, void *arg,
                         struct http_exchange *exchange, const struct http_query *query);

void proc_admin_reply_text(struct http_exchange *exchange, int status, const char *text);
// Answers with `body`, gzipped when the client takes that; 500 when it overflowed. Ends `body`.
void proc_admin_reply(struct http_exchange *exchange, const struct http_query *query, int status,
                      const char *content_type, struct buf *body);
// A JSON body that is written in steps, in turns of the loop: each step does a bounded amount of
// work, and returns false with the last one. `out` is the same in all of them. `free` is called
// once, at the end or when the client is gone.
struct proc_admin_steps {
    bool (*step)(void *arg, struct json_out *out);
    void (*free)(void *arg);
};
void proc_admin_reply_steps(struct http_exchange *exchange, const struct http_query *query,
                            const struct proc_admin_steps *steps, void *arg);
// A JSON body: `?pretty` in the query asks for line breaks.
void proc_admin_json_init(struct json_out *out, struct buf *body, const struct http_query *query);

// Pages. `arg` is not used.
proc_admin_fn proc_admin_logging; // POST /logging?level=FILTER, ?reset
proc_admin_fn proc_admin_metrics; // the whole metrics server: /metrics, /stats/prometheus
// proc_admin_heap.c: heap profiles by jemalloc; CPU profiles are not ours.
proc_admin_fn proc_admin_heap, proc_admin_heap_profiling, proc_admin_cpu_profile;

// The servers for admin, metrics and readiness. One process answers at a time: a scrape must not
// meet now this one, now its predecessor. So a successor that starts beside an old process waits
// for the ports, and takes them when the old one begins to drain; readiness comes last. Until then
// nobody learns that it is ready. A process that drains and has no successor answers to its end
// (not ready, of course).
//
// Who waits is seen by a listening socket in the abstract namespace (of the same network
// namespace, as the ports), named by the address that is waited for.
enum { PROC_ADMIN_N_SERVERS = 3 };

struct proc_admin_params {
    struct loop *loop;
    const struct proc_config *config; // addresses; valid as long as the servers
    proc_admin_fn *on_admin, *on_readiness;
    void *arg;
    const struct log_scope *scope;
};
struct proc_admin_servers {
    struct proc_admin_params params;
    struct http_server admin, metrics, readiness;
    struct timer retry;
    uint32_t n_open, n_tries;
    int waiting_fd; // tells that we wait; -1 = we do not
    bool is_draining;
};
// 0, also when it has to wait for an address; else -errno, logged.
MUST_USE int proc_admin_open(struct proc_admin_servers *servers,
                             const struct proc_admin_params *params);
// The drain begins: the ports are a successor's, as soon as one waits for them. Answers under way
// are finished.
void proc_admin_drain(struct proc_admin_servers *servers);
