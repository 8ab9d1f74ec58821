// SPDX-License-Identifier: Apache-2.0
#include "ztun/zworker.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/mesh/snapshot.h"
#include "common/obs/metrics.h"
#include "common/proc/proc_memory.h"
#include "ztun/flow.h"
#include "ztun/flow_list.h"
#include "ztun/rebind.h"
#include "ztun/socks.h"
#include "ztun/zmove.h"
#include "ztun/ztun.h"

enum {
    POD_REMOVED_CUT_MS = 900,
    RECHECK_BATCH = 256,
    // At the end: idle tunnels say goodbye, then all are reset; nothing keeps the process longer.
    STOP_GOODBYE_MS = 200,
    STOP_MAX_MS = 3000,
    STOP_TICK_MS = 50,
    BUSY_WINDOW_MS = 50,
};

// ---- simple messages ---------------------------------------------------------------------------

struct order {
    struct mail mail;
    struct zworker *worker;
    uint64_t id;
    uint32_t ms;
    bool flag, other;
};

static void send_order(struct zworker *worker, void (*fn)(struct mail *, void *),
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

static void run_pod_down(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct zworker *worker = order.worker;
    struct zpod *zpod = zworker_pod(worker, order.id);
    if (zpod == NULL) {
        if (!order.flag) {
            ztun_pod_drained(worker->ztun, order.id);
        }
        return;
    }
    zpod->n_open++; // alive through what follows
    zpod->is_removed = order.flag;
    zpod->tell_drained = zpod->tell_drained || !order.flag; // also when it is removed after that
    zpod_stop_accepting(zpod, !order.flag);
    hbone_server_drain(&zpod->server);
    if (order.flag) {
        // The peers are told at once: flows are cut, then tunnels say goodbye in order.
        zpod_cut_flows(zpod, FLOW_POD_REMOVED);
        hbone_client_close_pod(&worker->client, zpod->pod->id, false, FLOW_POD_REMOVED);
        timer_set(&worker->loop->timers, &zpod->cut_timer,
                  worker->loop->now + POD_REMOVED_CUT_MS * NS_PER_MS);
    }
    zpod_part_closed(zpod);
}

void zworker_send_pod_down(struct zworker *worker, uint64_t pod_id, bool removed) {
    send_order(worker, run_pod_down, (struct order){.id = pod_id, .flag = removed});
}

static void run_pod_leaving(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct zpod *zpod = zworker_pod(order.worker, order.id);
    if (zpod != NULL) {
        hbone_server_drain(&zpod->server);
    }
}

void zworker_send_pod_leaving(struct zworker *worker, uint64_t pod_id) {
    send_order(worker, run_pod_leaving, (struct order){.id = pod_id});
}

static void recheck_flow(struct zworker *worker, struct flow *flow) {
    struct rebind *rebind = outbound_rebind(flow);
    if (rebind != NULL) {
        if (worker->recheck_policies && outbound_is_blocked(flow)) {
            flow_cut(flow, FLOW_NO_UPSTREAM);
        } else if (worker->recheck_paths) {
            rebind_check(rebind, snapshot_current());
        }
    } else if (worker->recheck_policies &&
               (inbound_is_denied(flow) || inbound_plain_is_denied(flow))) {
        flow_cut(flow, FLOW_DENIED);
    }
}

// Re-checks up to RECHECK_BATCH flows; those of a pod that are done stand behind the others.
static void recheck_some(struct zworker *worker) {
    uint64_t start_ns = clock_mono_ns();
    uint32_t n_left = RECHECK_BATCH;
    LIST_EACH_SAFE(pod_node, &worker->pods) {
        struct zpod *zpod = LIST_ITEM(pod_node, struct zpod, node);
        zpod->n_open++; // alive through what follows
        while (n_left > 0 && !list_empty(&zpod->flows)) {
            struct flow *flow = LIST_ITEM(zpod->flows.next, struct flow, node);
            if (flow->checked == worker->recheck) {
                break;
            }
            n_left--;
            flow->checked = worker->recheck;
            list_del(&flow->node);
            list_push_back(&zpod->flows, &flow->node);
            recheck_flow(worker, flow);
        }
        zpod_part_closed(zpod);
    }
    metric_observe(METRIC_CONFIG_TURN, (double)(clock_mono_ns() - start_ns) / 1e9);
    if (n_left == 0) { // the rest in later turns: running flows must not wait for this
        timer_set(&worker->loop->timers, &worker->recheck_timer, worker->loop->now);
    }
}

static void on_recheck(struct timer *timer, uint64_t now) {
    (void)now;
    recheck_some(CONTAINER_OF(timer, struct zworker, recheck_timer));
}

static void run_mesh_changed(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct zworker *worker = order.worker;
    bool goes_on = timer_is_armed(&worker->recheck_timer); // what it has left is done anew
    worker->recheck_policies = order.flag || (goes_on && worker->recheck_policies);
    worker->recheck_paths = order.other || (goes_on && worker->recheck_paths);
    worker->recheck++;
    recheck_some(worker);
}

void zworker_send_mesh_changed(struct zworker *worker, bool policies, bool paths) {
    send_order(worker, run_mesh_changed, (struct order){.flag = policies, .other = paths});
}

static enum tls_err check_peer(void *arg, uint64_t pod_id, const struct tls_peer *peer) {
    struct zworker *worker = arg;
    struct zpod *zpod = zworker_pod(worker, pod_id);
    const struct snapshot *snap = snapshot_current();
    struct workload *local = zpod != NULL ? pod_workload(zpod->pod, snap) : NULL;
    struct identity *identity =
        local != NULL ? snapshot_identity(snap, local->common->identity) : NULL;
    return identity != NULL && identity->tls != NULL
               ? tls_peer_recheck(identity->tls, peer, clock_wall_s())
               : TLS_OK;
}

static void run_trust_changed(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    hbone_client_recheck(&order.worker->client, check_peer, order.worker);
    LIST_EACH_SAFE(node, &order.worker->pods) {
        inbound_recheck_tunnels(LIST_ITEM(node, struct zpod, node));
    }
}

void zworker_send_trust_changed(struct zworker *worker) {
    send_order(worker, run_trust_changed, (struct order){0});
}

static bool is_known(void *arg, const struct addr *destination) {
    return snapshot_workload_by_ip(arg, &destination->ip) != NULL;
}

static void run_workloads_changed(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    // The address of a pod that left may soon be another's: no stream may go there any more.
    hbone_client_retain(&order.worker->client, is_known, (void *)(uintptr_t)snapshot_current());
}

void zworker_send_workloads_changed(struct zworker *worker) {
    send_order(worker, run_workloads_changed, (struct order){0});
}

static void run_pressure(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    order.worker->refuse_new = order.other;
    if (order.worker->allow_growth != order.flag) {
        order.worker->allow_growth = order.flag;
        hbone_client_allow_growth(&order.worker->client, order.flag);
        LIST_EACH(node, &order.worker->pods) {
            hbone_server_allow_growth(&LIST_ITEM(node, struct zpod, node)->server, order.flag);
        }
    }
}

void zworker_send_pressure(struct zworker *worker, bool allow_growth, bool refuse_new) {
    send_order(worker, run_pressure, (struct order){.flag = allow_growth, .other = refuse_new});
}

// ---- drain -------------------------------------------------------------------------------------

static void on_accept_end(struct timer *timer, uint64_t now) {
    (void)now;
    struct zworker *worker = CONTAINER_OF(timer, struct zworker, accept_timer);
    LIST_EACH_SAFE(node, &worker->pods) {
        struct zpod *zpod = LIST_ITEM(node, struct zpod, node);
        zpod->n_open++;
        hbone_server_drain(&zpod->server); // those that came since the drain began
        zpod_stop_accepting(zpod, true); // what waits in the queue is still served
        zpod_part_closed(zpod);
    }
}

static void run_drain(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct zworker *worker = order.worker;
    worker->is_draining = true;
    LIST_EACH_SAFE(node, &worker->pods) {
        hbone_server_drain(&LIST_ITEM(node, struct zpod, node)->server);
    }
    timer_set(&worker->loop->timers, &worker->accept_timer,
              worker->loop->now + order.ms * NS_PER_MS);
}

void zworker_send_drain(struct zworker *worker, uint32_t accept_ms) {
    send_order(worker, run_drain, (struct order){.ms = accept_ms});
}

// Resets a share of the live flows each tick, so that their clients do not all return at once.
static void on_cut_tick(struct timer *timer, uint64_t now) {
    struct zworker *worker = CONTAINER_OF(timer, struct zworker, cut_timer);
    uint64_t left_ms = worker->cut_end > now ? (worker->cut_end - now) / NS_PER_MS : 0;
    uint64_t n_ticks = left_ms / 50 + 1, rest = 1000 * (uint64_t)worker->load->n_flows;
    uint64_t share = worker->cut_share + (rest - MIN(rest, worker->cut_share)) / n_ticks;
    uint64_t n = left_ms > 0 ? share / 1000 : UINT64_MAX;
    worker->cut_share = (uint32_t)(share % 1000);
    LIST_EACH_SAFE(pod_node, &worker->pods) {
        struct zpod *zpod = LIST_ITEM(pod_node, struct zpod, node);
        zpod->n_open++;
        LIST_EACH_SAFE(node, &zpod->flows) {
            if (n > 0) {
                n--;
                flow_cut(LIST_ITEM(node, struct flow, node), FLOW_DRAIN);
            }
        }
        if (left_ms == 0) {
            socks_cut(zpod, FLOW_DRAIN);
            hbone_server_end(&zpod->server, FLOW_DRAIN, true);
        }
        zpod_part_closed(zpod);
    }
    if (left_ms > 0) {
        timer_set(&worker->loop->timers, &worker->cut_timer, now + 50 * NS_PER_MS);
    } else {
        hbone_client_drain_all(&worker->client);
    }
}

static void run_cut(struct mail *mail, void *owner) {
    (void)owner;
    struct order order = take(mail);
    struct zworker *worker = order.worker;
    worker->cut_end = worker->loop->now + order.ms * NS_PER_MS;
    timer_set(&worker->loop->timers, &worker->cut_timer, worker->loop->now);
}

void zworker_send_cut(struct zworker *worker, uint32_t spread_ms) {
    send_order(worker, run_cut, (struct order){.ms = spread_ms});
}

// ---- listing -----------------------------------------------------------------------------------

struct list_mail {
    struct mail mail;
    struct zworker *worker;
    struct flow_list *into;
    struct mail *done;
};

static void run_list(struct mail *mail, void *owner) {
    (void)owner;
    struct list_mail *list = CONTAINER_OF(mail, struct list_mail, mail);
    LIST_EACH(pod_node, &list->worker->pods) {
        LIST_EACH(node, &LIST_ITEM(pod_node, struct zpod, node)->flows) {
            flow_list_add(list->into, LIST_ITEM(node, struct flow, node), list->worker->loop->now);
        }
    }
    loop_send(list->worker->ztun->control_loop, list->done);
    free(list);
}

void zworker_send_list(struct zworker *worker, struct mail *done, struct flow_list *into) {
    struct list_mail *list = xcalloc(1, sizeof(*list));
    list->mail.fn = run_list;
    list->worker = worker;
    list->into = into;
    list->done = done;
    loop_send(worker->loop, &list->mail);
}

// ---- the thread --------------------------------------------------------------------------------

bool zworker_admits(struct zworker *worker, int fd) {
    const char *reason = worker->refuse_new ? "memory" : fd >= worker->fd_high ? "fds" : NULL;
    if (reason == NULL) {
        return true;
    }
    struct slice label = slice_str(reason);
    metric_count(METRIC_FLOWS_REFUSED, &label, 1, worker->loop->now);
    return false;
}

// How busy the thread is, for placement. CPU time, and not that of the turns: sends run inside of
// the wait.
static void measure(struct zworker *worker, uint64_t now) {
    struct timespec cpu;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu) == 0) {
        uint64_t cpu_ns = (uint64_t)cpu.tv_sec * NS_PER_SEC + (uint64_t)cpu.tv_nsec;
        placement_busy(worker->ztun->placement, worker->index, now, cpu_ns - worker->busy_cpu_ns,
                       now - worker->busy_at);
        worker->busy_cpu_ns = cpu_ns;
    }
    worker->busy_at = now;
}

static void before_wait(struct loop *loop) {
    struct zworker *worker = loop->owner;
    uint64_t now = loop->io->ops->now(loop->io);
    uint64_t cpu_ns, turn_ns = now - loop->awake_at;
    metric_observe(METRIC_LOOP_TURN, (double)turn_ns / 1e9);
    if (turn_clock_end(&worker->turn_clock, turn_ns, &cpu_ns)) {
        metric_observe(METRIC_LOOP_LONG_TURN_CPU, (double)cpu_ns / 1e9);
    }
    if (now - worker->busy_at >= BUSY_WINDOW_MS * NS_PER_MS) {
        measure(worker, now);
    }
    snapshot_thread_offline();
}

static void after_wait(struct loop *loop) {
    struct zworker *worker = loop->owner;
    turn_clock_begin(&worker->turn_clock, !list_empty(&loop->chores));
    snapshot_thread_online();
}

static void on_room(void *arg, uint64_t key, bool has_room) {
    struct zworker *worker = arg;
    placement_tunnel(worker->ztun->placement, worker->index, key, has_room);
}

static void report_tunnels(const struct zworker *worker) {
    const struct hbone_client_stats *pool = &worker->client.stats;
    metric_set(METRIC_POOL_TUNNELS, (int64_t)pool->n_tunnels);
    metric_set(METRIC_POOL_OPENED, (int64_t)pool->n_opened);
    metric_set(METRIC_POOL_CONNECT_FAILURES, (int64_t)pool->n_dial_failed);
    metric_set(METRIC_POOL_HANDSHAKE_FAILURES, (int64_t)pool->n_tls_failed);
    metric_set(METRIC_POOL_STREAMS, (int64_t)pool->n_streams);
    metric_set(METRIC_POOL_RETRIES, (int64_t)pool->n_stale_retries);
    metric_set(METRIC_SERVER_TUNNELS, worker->load->n_tunnels);
}

static void on_tick(struct timer *timer, uint64_t now) {
    struct zworker *worker = CONTAINER_OF(timer, struct zworker, tick_timer);
    report_tunnels(worker);
    metrics_tick();
    proc_memory_worker_tick(worker->loop->stats.n_completions);
    timer_set(&worker->loop->timers, &worker->tick_timer, now + NS_PER_SEC);
}

static int on_start(struct worker *thread) {
    struct zworker *worker = thread->arg;
    worker->loop = &thread->loop;
    worker->loop->before_wait = before_wait;
    worker->loop->after_wait = after_wait;
    turn_clock_init(&worker->turn_clock);
    snapshot_thread_register();
    rand_seed_os(&worker->rand);
    demands_init(&worker->demands, worker->loop, worker->ztun, worker->index);
    tls_queue_init(&worker->tls_queue, worker->loop);
    parked_cap_init(&worker->parked, worker->loop,
                    proc_memory_parked_max(worker->config->proc.memory_limit,
                                           worker->config->proc.n_workers));
    struct hbone_client_config client;
    hbone_client_config_init(&client);
    proc_config_h2(&worker->config->proc, false, &worker->parked.all, &client.h2);
    client.idle_ns = worker->config->proc.pool_idle_ns;
    client.on_room = on_room;
    client.arg = worker;
    hbone_client_init(&worker->client, worker->loop, &worker->tls_queue, &client);
    proc_config_h2(&worker->config->proc, true, &worker->parked.all, &worker->server_h2);
    slab_init(&worker->outbound_slab, outbound_size());
    slab_init(&worker->inbound_slab, inbound_size());
    slab_init(&worker->plain_slab, inbound_plain_size());
    timer_init(&worker->accept_timer, on_accept_end);
    timer_init(&worker->cut_timer, on_cut_tick);
    timer_init(&worker->recheck_timer, on_recheck);
    rebind_worker_init(worker);
    timer_init(&worker->tick_timer, on_tick);
    timer_set(&worker->loop->timers, &worker->tick_timer, worker->loop->now + NS_PER_SEC);
    worker->busy_at = worker->loop->now;
    zmove_open(worker);
    return 0;
}

static bool is_idle(const struct zworker *worker) {
    return list_empty(&worker->pods) && hbone_client_n_tunnels(&worker->client) == 0;
}

static void on_stop(struct worker *thread) {
    struct zworker *worker = thread->arg;
    LIST_EACH_SAFE(node, &worker->pods) {
        struct zpod *zpod = LIST_ITEM(node, struct zpod, node);
        zpod->n_open++;
        zpod_stop_accepting(zpod, false);
        zpod_cut_flows(zpod, FLOW_DRAIN);
        hbone_server_end(&zpod->server, FLOW_DRAIN, false);
        zpod_part_closed(zpod);
    }
    hbone_client_drain_all(&worker->client); // idle ones say goodbye in order
    timer_clear(&worker->loop->timers, &worker->accept_timer);
    timer_clear(&worker->loop->timers, &worker->cut_timer);
    timer_clear(&worker->loop->timers, &worker->tick_timer);
    timer_clear(&worker->loop->timers, &worker->recheck_timer);
    rebind_worker_fini(worker);
    uint64_t start = clock_mono_ns(), now = start;
    bool is_aborted = false;
    while (!is_idle(worker) && now < start + STOP_MAX_MS * NS_PER_MS) {
        if (!is_aborted && now >= start + STOP_GOODBYE_MS * NS_PER_MS) {
            is_aborted = true;
            hbone_client_abort_all(&worker->client, FLOW_DRAIN);
        }
        timer_set(&worker->loop->timers, &worker->tick_timer,
                  worker->loop->now + STOP_TICK_MS * NS_PER_MS); // so that the wait ends
        loop_turn(worker->loop, true);
        now = clock_mono_ns();
    }
    timer_clear(&worker->loop->timers, &worker->tick_timer);
    if (is_idle(worker)) {
        demands_fini(&worker->demands);
        hbone_client_fini(&worker->client);
        parked_cap_fini(&worker->parked);
        tls_queue_fini(&worker->tls_queue);
        slab_fini(&worker->outbound_slab);
        slab_fini(&worker->inbound_slab);
        slab_fini(&worker->plain_slab);
    }
    zmove_close(worker);
    snapshot_thread_unregister();
}

struct zworker *zworker_new(struct ztun *ztun, uint32_t index, char **ret_error) {
    struct zworker *worker = xcalloc(1, sizeof(*worker));
    CHECK(index < ztun->placement->n_workers);
    worker->ztun = ztun;
    worker->load = &ztun->placement->loads[index];
    worker->config = &ztun->config;
    worker->index = index;
    worker->allow_growth = true;
    struct rlimit limit = {.rlim_cur = 1024};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    worker->fd_high = (int)(MIN(limit.rlim_cur, (rlim_t)INT32_MAX) / 10 * 9);
    list_init(&worker->pods);
    char name[24], error[URING_ERROR_MAX];
    snprintf(name, sizeof(name), "ztun-w%u", index);
    struct worker_options options = {.name = name,
                                     .cpu = -1,
                                     .io = ztun->io_kind,
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

void zworker_free(struct zworker *worker) {
    worker_stop(&worker->thread);
    free(worker);
}
