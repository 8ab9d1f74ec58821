// SPDX-License-Identifier: Apache-2.0
#include "waypoint/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/mesh/snapshot.h"
#include "common/obs/metrics.h"
#include "common/proc/proc_memory.h"
#include "waypoint/bindings.h"
#include "waypoint/conn.h"
#include "waypoint/conn_list.h"
#include "waypoint/report.h"
#include "waypoint/tcp_conn.h"
#include "waypoint/waypoint.h"

enum {
    RECHECK_BATCH = 256,
    CUT_TICK_MS = 50,
    // At the end: idle tunnels say goodbye, then all are reset; nothing keeps the process longer.
    STOP_GOODBYE_MS = 200,
    STOP_MAX_MS = 3000,
    STOP_TICK_MS = 50,
};

// ---- the listener ------------------------------------------------------------------------------

bool wworker_admits(struct wworker *worker, int fd) {
    const char *reason = worker->refuse_new ? "memory" : fd >= worker->fd_high ? "fds" : NULL;
    if (reason == NULL) {
        return true;
    }
    struct slice label = slice_str(reason);
    metric_count(METRIC_FLOWS_REFUSED, &label, 1, worker->loop->now);
    return false;
}

static void on_accept(struct listener *listener, int fd) {
    struct wworker *worker = CONTAINER_OF(listener, struct wworker, listener);
    struct io *io = worker->loop->io;
    struct addr src, dst;
    if (io->ops->peer_addr(io, fd, &src) < 0 || io->ops->local_addr(io, fd, &dst) < 0) {
        io->ops->close(io, fd, true);
        return;
    }
    struct tls_ctx *tls = waypoint_tls(worker->config, snapshot_current());
    enum flow_end reason = !wworker_admits(worker, fd) ? FLOW_OVERLOAD
                           : tls == NULL               ? FLOW_IDENTITY
                                                       : FLOW_OK;
    if (reason != FLOW_OK) {
        report_tunnel_failed(worker, &src, &dst, reason, "");
        io->ops->close(io, fd, true);
        return;
    }
    worker->own_ip = dst.ip;
    hbone_server_accept(&worker->server, fd, tls, &src, &dst);
}

static void on_listener_closed(struct listener *listener) {
    CONTAINER_OF(listener, struct wworker, listener)->is_listening = false;
}

static const struct listener_handler listener_handler = {.on_accept = on_accept,
                                                         .on_closed = on_listener_closed};

static void stop_listening(struct wworker *worker, bool adopt) {
    worker->server.is_draining = true;
    if (worker->is_listening && !worker->listener.is_closing) {
        listener_close(&worker->listener, adopt);
    }
}

// ---- messages ----------------------------------------------------------------------------------

struct order {
    struct mail mail;
    struct wworker *worker;
    struct wworker_news news;
    int fd;
    uint32_t ms;
    bool flag, other;
};

static void send_order(struct wworker *worker, void (*fn)(struct mail *, void *),
                       struct order order) {
    struct order *heap = xmalloc(sizeof(*heap));
    *heap = order;
    heap->mail.fn = fn;
    heap->worker = worker;
    loop_send(worker->loop, &heap->mail);
}

static struct order take(struct mail *mail) {
    struct order *heap = CONTAINER_OF(mail, struct order, mail);
    struct order order = *heap;
    free(heap);
    return order;
}

static void run_listen(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    order.worker->is_listening = true;
    listener_init(&order.worker->listener, order.worker->loop, order.fd, &listener_handler);
}

void wworker_send_listen(struct wworker *worker, int fd) {
    send_order(worker, run_listen, (struct order){.fd = fd});
}

// What a change of the configuration costs running connections.
static void observe_config_turn(uint64_t start_ns) {
    metric_observe(METRIC_CONFIG_TURN, (double)(clock_mono_ns() - start_ns) / 1e9);
}

// Re-checks up to RECHECK_BATCH connections; those that are done stand behind the others.
static void recheck_some(struct wworker *worker) {
    uint32_t n_left = RECHECK_BATCH;
    while (n_left > 0 && !list_empty(&worker->conns)) {
        struct wconn *conn = LIST_ITEM(worker->conns.next, struct wconn, node);
        if (conn->checked == worker->recheck) {
            break;
        }
        n_left--;
        conn->checked = worker->recheck;
        list_del(&conn->node);
        list_push_back(&worker->conns, &conn->node);
        if (wconn_is_denied(conn)) {
            wconn_cut(conn, FLOW_DENIED);
        }
    }
    if (n_left == 0) { // the rest in later turns: running connections must not wait for this
        timer_set(&worker->loop->timers, &worker->recheck_timer, worker->loop->now);
    }
}

static void on_recheck(struct timer *timer, uint64_t now) {
    (void)now;
    uint64_t start_ns = clock_mono_ns();
    recheck_some(CONTAINER_OF(timer, struct wworker, recheck_timer));
    observe_config_turn(start_ns);
}

static bool is_known(void *arg, const struct addr *destination) {
    return snapshot_workload_by_ip(arg, &destination->ip) != NULL;
}

static void run_news(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct wworker *worker = order.worker;
    uint64_t start_ns = clock_mono_ns();
    if (order.news.workloads) {
        // The address of a pod that left may soon be another's: no stream may go there any more.
        hbone_client_retain(&worker->client, is_known, (void *)(uintptr_t)snapshot_current());
    }
    if (order.news.policies) {
        worker->recheck++;
        recheck_some(worker);
    }
    bindings_news(worker);
    http_worker_news(worker, order.news);
    observe_config_turn(start_ns);
}

void wworker_send_news(struct wworker *worker, struct wworker_news news) {
    send_order(worker, run_news, (struct order){.news = news});
}

static enum tls_err check_peer(void *arg, uint64_t pod_id, const struct tls_peer *peer) {
    (void)pod_id;
    struct wworker *worker = arg;
    struct tls_ctx *tls = waypoint_tls(worker->config, snapshot_current());
    return tls != NULL ? tls_peer_recheck(tls, peer, clock_wall_s()) : TLS_OK;
}

static void run_trust_changed(struct mail *mail, void *owner) {
    (void)owner;
    struct wworker *worker = take(mail).worker;
    struct tls_ctx *tls = waypoint_tls(worker->config, snapshot_current());
    hbone_client_recheck(&worker->client, check_peer, worker);
    if (tls != NULL) {
        hbone_server_recheck(&worker->server, tls);
    }
}

void wworker_send_trust_changed(struct wworker *worker) {
    send_order(worker, run_trust_changed, (struct order){0});
}

static void run_pressure(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct wworker *worker = order.worker;
    worker->refuse_new = order.other;
    if (worker->allow_growth != order.flag) {
        worker->allow_growth = order.flag;
        hbone_client_allow_growth(&worker->client, order.flag);
        hbone_server_allow_growth(&worker->server, order.flag);
    }
}

void wworker_send_pressure(struct wworker *worker, bool allow_growth, bool refuse_new) {
    send_order(worker, run_pressure, (struct order){.flag = allow_growth, .other = refuse_new});
}

// ---- drain -------------------------------------------------------------------------------------

static void on_accept_end(struct timer *timer, uint64_t now) {
    (void)now;
    struct wworker *worker = CONTAINER_OF(timer, struct wworker, accept_timer);
    hbone_server_drain(&worker->server); // those that came since the drain began
    stop_listening(worker, true); // what waits in the queue is still served
}

static void run_drain(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct wworker *worker = order.worker;
    worker->is_draining = true;
    hbone_server_drain(&worker->server);
    LIST_EACH_SAFE(node, &worker->conns) {
        struct wconn *conn = LIST_ITEM(node, struct wconn, node);
        if (conn->ops != NULL && conn->ops->drain != NULL) {
            conn->ops->drain(conn);
        }
    }
    http_worker_drain(worker);
    timer_set(&worker->loop->timers, &worker->accept_timer,
              worker->loop->now + order.ms * NS_PER_MS);
}

void wworker_send_drain(struct wworker *worker, uint32_t accept_ms) {
    send_order(worker, run_drain, (struct order){.ms = accept_ms});
}

static void cut_conns(struct wworker *worker, uint32_t n) {
    LIST_EACH_SAFE(node, &worker->conns) {
        if (n-- == 0) {
            return;
        }
        wconn_cut(LIST_ITEM(node, struct wconn, node), FLOW_DRAIN);
    }
}

// Resets a share of the live connections each tick, so that their clients do not all return at
// once.
static void on_cut_tick(struct timer *timer, uint64_t now) {
    struct wworker *worker = CONTAINER_OF(timer, struct wworker, cut_timer);
    uint64_t left_ms = worker->cut_end > now ? (worker->cut_end - now) / NS_PER_MS : 0;
    cut_conns(worker, worker->n_conns / ((uint32_t)(left_ms / CUT_TICK_MS) + 1) + 1);
    if (left_ms > 0) {
        timer_set(&worker->loop->timers, &worker->cut_timer, now + CUT_TICK_MS * NS_PER_MS);
        return;
    }
    hbone_server_end(&worker->server, FLOW_DRAIN, true);
    hbone_client_drain_all(&worker->client);
}

static void run_cut(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct wworker *worker = order.worker;
    worker->cut_end = worker->loop->now + order.ms * NS_PER_MS;
    timer_set(&worker->loop->timers, &worker->cut_timer, worker->loop->now);
}

void wworker_send_cut(struct wworker *worker, uint32_t spread_ms) {
    send_order(worker, run_cut, (struct order){.ms = spread_ms});
}

// ---- listing -----------------------------------------------------------------------------------

struct list_mail {
    struct mail mail;
    struct wworker *worker;
    struct wconn_list *into;
    struct mail *done;
};

static void run_list(struct mail *mail, void *owner) {
    (void)owner;
    struct list_mail *list = CONTAINER_OF(mail, struct list_mail, mail);
    struct wworker *worker = list->worker;
    LIST_EACH(node, &worker->conns) {
        wconn_list_add(list->into, LIST_ITEM(node, struct wconn, node), worker->loop->now);
    }
    loop_send(worker->waypoint->control_loop, list->done);
    free(list);
}

void wworker_send_list(struct wworker *worker, struct mail *done, struct wconn_list *into) {
    struct list_mail *list = xcalloc(1, sizeof(*list));
    list->mail.fn = run_list;
    list->worker = worker;
    list->into = into;
    list->done = done;
    loop_send(worker->loop, &list->mail);
}

// ---- the thread --------------------------------------------------------------------------------

static void before_wait(struct loop *loop) {
    struct wworker *worker = loop->owner;
    uint64_t cpu_ns, turn_ns = loop->io->ops->now(loop->io) - loop->awake_at;
    metric_observe(METRIC_LOOP_TURN, (double)turn_ns / 1e9);
    if (turn_clock_end(&worker->turn_clock, turn_ns, &cpu_ns)) {
        metric_observe(METRIC_LOOP_LONG_TURN_CPU, (double)cpu_ns / 1e9);
    }
    snapshot_thread_offline();
}

static void after_wait(struct loop *loop) {
    struct wworker *worker = loop->owner;
    turn_clock_begin(&worker->turn_clock, !list_empty(&loop->chores));
    snapshot_thread_online();
}

static void on_tick(struct timer *timer, uint64_t now) {
    struct wworker *worker = CONTAINER_OF(timer, struct wworker, tick_timer);
    metrics_tick();
    proc_memory_worker_tick(worker->loop->stats.n_completions);
    timer_set(&worker->loop->timers, &worker->tick_timer, now + NS_PER_SEC);
}

void wworker_open(struct wworker *worker) {
    worker->config = &worker->waypoint->config;
    worker->allow_growth = true;
    worker->loop = &worker->thread.loop;
    rand_seed_os(&worker->rand);
    tls_queue_init(&worker->tls_queue, worker->loop);
    parked_cap_init(&worker->parked, worker->loop,
                    proc_memory_parked_max(worker->config->proc.memory_limit,
                                           worker->config->proc.n_workers));
    struct hbone_client_config client;
    hbone_client_config_init(&client);
    proc_config_h2(&worker->config->proc, false, &worker->parked.all, &client.h2);
    client.idle_ns = worker->config->proc.pool_idle_ns;
    hbone_client_init(&worker->client, worker->loop, &worker->tls_queue, &client);
    proc_config_h2(&worker->config->proc, true, &worker->parked.all, &worker->server_h2);
    hbone_server_init(&worker->server, worker->loop, &worker->tls_queue, &worker->server_h2,
                      &worker->n_tunnels, &wconn_hbone_handler);
    slab_init(&worker->conn_slab, sizeof(struct wconn));
    slab_init(&worker->tcp_slab, tcp_conn_size());
    list_init(&worker->conns);
    bindings_init(worker);
    timer_init(&worker->accept_timer, on_accept_end);
    timer_init(&worker->cut_timer, on_cut_tick);
    timer_init(&worker->recheck_timer, on_recheck);
    timer_init(&worker->tick_timer, on_tick);
    timer_set(&worker->loop->timers, &worker->tick_timer, worker->loop->now + NS_PER_SEC);
    http_worker_open(worker);
}

static int on_start(struct worker *thread) {
    struct wworker *worker = thread->arg;
    thread->loop.before_wait = before_wait;
    thread->loop.after_wait = after_wait;
    turn_clock_init(&worker->turn_clock);
    snapshot_thread_register();
    wworker_open(worker);
    return 0;
}

bool wworker_is_idle(struct wworker *worker) {
    return http_worker_stop(worker) && list_empty(&worker->conns) && !worker->is_listening &&
           list_empty(&worker->server.tunnels) && hbone_client_n_tunnels(&worker->client) == 0;
}

static void clear_timers(struct wworker *worker) {
    struct timer *timers[] = {&worker->accept_timer, &worker->cut_timer, &worker->tick_timer,
                              &worker->recheck_timer, &worker->waiting_timer};
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        timer_clear(&worker->loop->timers, timers[i]);
    }
}

void wworker_close(struct wworker *worker) {
    clear_timers(worker);
    http_worker_close(worker);
    bindings_fini(worker);
    hbone_client_fini(&worker->client);
    parked_cap_fini(&worker->parked);
    tls_queue_fini(&worker->tls_queue);
    slab_fini(&worker->conn_slab);
    slab_fini(&worker->tcp_slab);
}

static void on_stop(struct worker *thread) {
    struct wworker *worker = thread->arg;
    stop_listening(worker, false);
    cut_conns(worker, UINT32_MAX);
    hbone_server_end(&worker->server, FLOW_DRAIN, false);
    hbone_client_drain_all(&worker->client); // idle ones say goodbye in order
    clear_timers(worker);
    uint64_t start = clock_mono_ns(), now = start;
    bool is_aborted = false;
    while (!wworker_is_idle(worker) && now < start + STOP_MAX_MS * NS_PER_MS) {
        if (!is_aborted && now >= start + STOP_GOODBYE_MS * NS_PER_MS) {
            is_aborted = true;
            hbone_client_abort_all(&worker->client, FLOW_DRAIN);
        }
        timer_set(&worker->loop->timers, &worker->tick_timer,
                  worker->loop->now + STOP_TICK_MS * NS_PER_MS); // so that the wait ends
        loop_turn(worker->loop, true);
        now = clock_mono_ns();
    }
    clear_timers(worker);
    if (wworker_is_idle(worker)) {
        wworker_close(worker);
    }
    snapshot_thread_unregister();
}

struct wworker *wworker_new(struct waypoint *waypoint, uint32_t index, char **ret_error) {
    struct wworker *worker = xcalloc(1, sizeof(*worker));
    worker->waypoint = waypoint;
    worker->index = index;
    struct rlimit limit = {.rlim_cur = 1024};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    worker->fd_high = (int)(MIN(limit.rlim_cur, (rlim_t)INT32_MAX) / 10 * 9);
    char name[16], error[URING_ERROR_MAX];
    snprintf(name, sizeof(name), "waypoint-w%u", index);
    struct worker_options options = {.name = name,
                                     .cpu = -1,
                                     .io = waypoint->io_kind,
                                     .arg = worker,
                                     .start = on_start,
                                     .stop = on_stop};
    if (worker_start(&worker->thread, &options, error) < 0) {
        *ret_error = xstrdup(error);
        free(worker);
        return NULL;
    }
    return worker;
}

void wworker_free(struct wworker *worker) {
    worker_stop(&worker->thread);
    free(worker);
}
