// SPDX-License-Identifier: Apache-2.0
#include "waypoint/bindings.h"

#include <stdlib.h>

#include "common/base/hash.h"
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

void bindings_wait(struct wworker *worker, struct wconn *conn) {
    list_push_back(&worker->waiting, &conn->waiting);
    if (!timer_is_armed(&worker->waiting_timer)) {
        timer_set(&worker->loop->timers, &worker->waiting_timer,
                  worker->loop->now + BINDINGS_WAIT_MS * NS_PER_MS);
    }
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
        timer_set(&worker->loop->timers, &worker->waiting_timer, due);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    ask_again(CONTAINER_OF(timer, struct wworker, waiting_timer));
}

void bindings_news(struct wworker *worker) {
    const struct snapshot *snap = snapshot_current();
    uint64_t now = worker->loop->now;
    char key[512];
    waypoint_service_key(worker->config, snap, key);
    HMAP_EACH_SAFE(pos, &worker->bindings) {
        struct binding *binding = HMAP_ITEM(pos, struct binding, node);
        const struct service *service = snapshot_service(snap, binding->key);
        if (service != NULL && strcmp(service->waypoint, key) == 0) {
            binding->lost_at = 0;
        } else if (service == NULL || (binding->lost_at != 0 &&
                                       now >= binding->lost_at + BINDINGS_LINGER_MS * NS_PER_MS)) {
            drop(worker, binding);
        } else if (binding->lost_at == 0) {
            binding->lost_at = now;
        }
    }
    ask_again(worker);
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
