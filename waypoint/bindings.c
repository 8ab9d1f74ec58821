// SPDX-License-Identifier: Apache-2.0
#include "waypoint/bindings.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/obs/metrics.h"
#include "waypoint/conn.h"
#include "waypoint/waypoint.h"

// A service that was served; it stays while it is bound, and BINDINGS_LINGER_MS longer.
struct binding {
    struct hmap_node node; // worker->bindings
    char *key; // of the service
    uint64_t lost_at; // when the worker heard that it is bound no more; 0: it is
};

static struct binding *find(struct wworker *worker, struct slice key) {
    HMAP_EACH_WITH_HASH(pos, &worker->bindings, hash_bytes(key)) {
        struct binding *binding = HMAP_ITEM(pos, struct binding, node);
        if (slice_eq_str(key, binding->key)) {
            return binding;
        }
    }
    return NULL;
}

static void drop(struct wworker *worker, struct binding *binding) {
    hmap_remove(&worker->bindings, &binding->node);
    free(binding->key);
    free(binding);
}

void bindings_served(struct wworker *worker, const struct service *service) {
    if (service == NULL || service->waypoint[0] == '\0' ||
        find(worker, service->leaf.key) != NULL) {
        return;
    }
    struct binding *binding = xcalloc(1, sizeof(*binding));
    binding->key = slice_dup(service->leaf.key);
    hmap_insert(&worker->bindings, &binding->node, hash_bytes(service->leaf.key));
}

bool bindings_linger(struct wworker *worker, const struct service *service) {
    if (service == NULL || service->waypoint[0] != '\0') {
        return false;
    }
    const struct binding *binding = find(worker, service->leaf.key);
    return binding != NULL &&
           (binding->lost_at == 0 ||
            worker->loop->now < binding->lost_at + BINDINGS_LINGER_MS * NS_PER_MS);
}

// ---- who waits ---------------------------------------------------------------------------------

bool bindings_may_wait(const struct wworker *worker) {
    uint32_t n = 0;
    LIST_EACH(node, &worker->waiting) {
        if (++n >= BINDINGS_WAITING_MAX) {
            return false;
        }
    }
    return !worker->is_draining;
}

// One timer for those who wait and those who are to go.
static void arm(struct wworker *worker, uint64_t due) {
    if (!timer_is_armed(&worker->waiting_timer) || due < worker->waiting_timer.due) {
        timer_set(&worker->loop->timers, &worker->waiting_timer, due);
    }
}

void bindings_wait(struct wworker *worker, struct wconn *conn) {
    list_push_back(&worker->waiting, &conn->waiting);
    arm(worker, worker->loop->now + BINDINGS_WAIT_MS * NS_PER_MS);
}

static void ask_again(struct wworker *worker) {
    struct list *node, all;
    uint64_t due = TIME_NEVER;
    list_init(&all);
    list_splice_back(&all, &worker->waiting);
    while ((node = list_pop_front(&all)) != NULL) {
        struct wconn *conn = LIST_ITEM(node, struct wconn, waiting);
        uint64_t end = conn->started_ns + BINDINGS_WAIT_MS * NS_PER_MS;
        if (!wconn_dispatch_again(conn, end <= worker->loop->now)) {
            due = MIN(due, end);
        }
    }
    if (due != TIME_NEVER) {
        arm(worker, due);
    }
}

// ---- open connections of what is bound elsewhere -----------------------------------------------

static uint64_t deadline_of(const struct wworker *worker) {
    return worker->config->proc.rebind_ms * NS_PER_MS;
}

static void count(const struct wconn *conn, const char *reason) {
    struct slice label = slice_str(reason);
    metric_count(METRIC_FLOWS_REBOUND, &label, 1, conn->worker->loop->now);
}

// The binding of what the connection is to, as it is now: `key`, if that is one of two. NULL: what
// it is to is gone.
static const char *binding_of(const struct snapshot *snap, const struct wconn *conn,
                              const char *key) {
    if (conn->service != NULL) {
        const struct service *service =
            snapshot_service(snap, (const char *)conn->service->leaf.key.ptr);
        return service == NULL ? NULL : service_is_bound(service, key) ? key : service->waypoint;
    }
    const struct workload *workload =
        snapshot_workload_by_uid(snap, (const char *)conn->workload->leaf.key.ptr);
    return workload != NULL ? workload->common->waypoint : NULL;
}

static void tell(struct wconn *conn) {
    conn->was_told = true;
    if (conn->ops->drain != NULL) {
        count(conn, "told");
        conn->ops->drain(conn);
    }
}

static void follow(struct wconn *conn, uint64_t now) {
    uint64_t age = now - conn->rebound_at, deadline = deadline_of(conn->worker);
    bool can_end = conn->ops->end != NULL, is_over = age >= deadline;
    if (!conn->was_told) {
        tell(conn);
        return;
    }
    if (!can_end) {
        is_over = age >= deadline + BINDINGS_TCP_GRACE_MS * NS_PER_MS;
    }
    if (can_end && age >= MIN(deadline, BINDINGS_TOLD_MS * NS_PER_MS) && conn->ops->end(conn)) {
        count(conn, is_over ? "deadline" : "quiet");
    } else if (is_over) {
        count(conn, "cut");
        wconn_cut(conn, FLOW_REBIND);
    }
}

static void sweep(struct wworker *worker) {
    uint64_t now = worker->loop->now;
    bool is_any = false;
    LIST_EACH_SAFE(node, &worker->conns) {
        struct wconn *conn = LIST_ITEM(node, struct wconn, node);
        if (conn->rebound_at != 0 && conn->ops != NULL) {
            is_any = true;
            if (now >= conn->rebound_at) {
                follow(conn, now);
            }
        }
    }
    if (is_any) {
        arm(worker, now + BINDINGS_SWEEP_MS * NS_PER_MS);
    }
}

static void start_to_follow(struct wconn *conn, const char *waypoint, uint64_t at) {
    struct wworker *worker = conn->worker;
    if (deadline_of(worker) == 0 || conn->rebound_at != 0) {
        return;
    }
    char text[300];
    snprintf(text, sizeof(text), waypoint[0] != '\0' ? "now through waypoint %s" : "now direct%s",
             waypoint);
    wconn_set_detail(conn, text);
    conn->rebound_at = at;
    arm(worker, at);
}

void bindings_lingers(struct wconn *conn) {
    start_to_follow(conn, "", conn->worker->loop->now + BINDINGS_LATE_MS * NS_PER_MS);
}

static void look_at_open(struct wworker *worker, const struct snapshot *snap, const char *key) {
    LIST_EACH(node, &worker->conns) {
        struct wconn *conn = LIST_ITEM(node, struct wconn, node);
        if (conn->ops == NULL || (conn->service == NULL && conn->workload == NULL)) {
            continue;
        }
        const char *waypoint = binding_of(snap, conn, key);
        if (waypoint != NULL && strcmp(waypoint, key) != 0) {
            start_to_follow(conn, waypoint, worker->loop->now);
        } else if (conn->rebound_at != 0) {
            conn->rebound_at = 0; // what its client was told stays true
            wconn_set_detail(conn, NULL);
        }
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct wworker *worker = CONTAINER_OF(timer, struct wworker, waiting_timer);
    ask_again(worker);
    sweep(worker);
}

void bindings_news(struct wworker *worker) {
    const struct snapshot *snap = snapshot_current();
    uint64_t now = worker->loop->now;
    char key[512];
    waypoint_service_key(worker->config, snap, key);
    HMAP_EACH_SAFE(pos, &worker->bindings) {
        struct binding *binding = HMAP_ITEM(pos, struct binding, node);
        const struct service *service = snapshot_service(snap, binding->key);
        if (service != NULL && service_is_bound(service, key)) {
            binding->lost_at = 0;
        } else if (service == NULL || (binding->lost_at != 0 &&
                                       now >= binding->lost_at + BINDINGS_LINGER_MS * NS_PER_MS)) {
            drop(worker, binding);
        } else if (binding->lost_at == 0) {
            binding->lost_at = now;
        }
    }
    ask_again(worker);
    look_at_open(worker, snap, key);
}

void bindings_init(struct wworker *worker) {
    hmap_init(&worker->bindings);
    list_init(&worker->waiting);
    timer_init(&worker->waiting_timer, on_timer);
}

void bindings_fini(struct wworker *worker) {
    timer_clear(&worker->loop->timers, &worker->waiting_timer);
    HMAP_EACH_SAFE(pos, &worker->bindings) {
        drop(worker, HMAP_ITEM(pos, struct binding, node));
    }
    hmap_fini(&worker->bindings);
}
