// SPDX-License-Identifier: Apache-2.0
//
// What concerns all tunnels of a client: its life, the sweep of idle ones, changes of the mesh.
#include <stdlib.h>

#include "common/net/hbone_client_priv.h"

static const uint64_t SURPLUS_IDLE_NS = 10 * NS_PER_SEC;

// Calls fn for every tunnel, also those that left the pool and whose streams run on; fn may end it.
static void each_tunnel(struct hbone_client *client,
                        void (*fn)(struct hbone_tunnel *tunnel, const void *arg), const void *arg) {
    // Collected first: ending one may start another.
    size_t n = 0, max = client->stats.n_tunnels;
    struct hbone_tunnel **all = xcalloc(max + 1, sizeof(struct hbone_tunnel *));
    LIST_EACH(node, &client->tunnels) {
        CHECK(n < max);
        all[n++] = LIST_ITEM(node, struct hbone_tunnel, all);
    }
    for (size_t i = 0; i < n; i++) {
        fn(all[i], arg);
    }
    free(all);
}

static void sweep_tunnel(struct hbone_tunnel *tunnel, const void *arg) {
    const uint64_t *now = arg;
    if (tunnel->state != TUNNEL_READY || h2_conn_n_streams(tunnel->drv.h2) > 0) {
        return;
    }
    // What a crowd needed goes soon; one tunnel is kept for the next flow.
    uint64_t idle_ns = tunnel->client->config.idle_ns;
    uint64_t max_ns = tunnel->key->n_tunnels > 1 ? MIN(idle_ns, SURPLUS_IDLE_NS) : idle_ns;
    if (*now - tunnel->drv.last_active >= max_ns || hbone_client_is_expired(tunnel)) {
        hbone_client_drain(tunnel, false);
    }
}

static uint64_t sweep_interval(const struct hbone_client *client) {
    return MIN(client->config.idle_ns / 8, SURPLUS_IDLE_NS / 2) + NS_PER_MS;
}

static void on_sweep(struct timer *timer, uint64_t now) {
    struct hbone_client *client = CONTAINER_OF(timer, struct hbone_client, sweep);
    each_tunnel(client, sweep_tunnel, &now);
    timer_set(&client->loop->timers, &client->sweep, now + sweep_interval(client));
}

static void abort_tunnel(struct hbone_tunnel *tunnel, const void *arg) {
    const enum flow_end *reason = arg;
    if (tunnel->state == TUNNEL_DIALING) {
        hbone_client_drain(tunnel, false);
    } else {
        h2_drv_abort(&tunnel->drv, *reason);
    }
}

static void drain_tunnel(struct hbone_tunnel *tunnel, const void *arg) {
    (void)arg;
    hbone_client_drain(tunnel, false);
}

struct pod_filter {
    uint64_t pod_id;
    bool abort;
    enum flow_end reason;
};

static void close_pod_tunnel(struct hbone_tunnel *tunnel, const void *arg) {
    const struct pod_filter *filter = arg;
    if (tunnel->pod_id != filter->pod_id) {
        return;
    }
    if (filter->abort) {
        abort_tunnel(tunnel, &filter->reason);
    } else {
        hbone_client_drain(tunnel, false);
    }
}

struct retain {
    bool (*keep)(void *arg, const struct addr *destination);
    void *arg;
};

static void drain_unless_kept(struct hbone_tunnel *tunnel, const void *arg) {
    const struct retain *retain = arg;
    if (tunnel->key != NULL && !retain->keep(retain->arg, &tunnel->key->destination)) {
        hbone_client_drain(tunnel, true);
    }
}

struct recheck {
    enum tls_err (*check)(void *arg, uint64_t pod_id, const struct tls_peer *peer);
    void *arg;
};

static void recheck_tunnel(struct hbone_tunnel *tunnel, const void *arg) {
    const struct recheck *recheck = arg;
    if (tunnel->peer == NULL || tunnel->drv.is_ended) {
        return;
    }
    enum tls_err err = recheck->check(recheck->arg, tunnel->pod_id, tunnel->peer);
    if (err != TLS_OK) {
        h2_drv_abort(&tunnel->drv, err == TLS_REVOKED ? FLOW_REVOKED : FLOW_UNTRUSTED);
    }
}

static void grow_tunnel(struct hbone_tunnel *tunnel, const void *arg) {
    if (tunnel->state != TUNNEL_DIALING && tunnel->drv.h2 != NULL) {
        h2_conn_allow_growth(tunnel->drv.h2, *(const bool *)arg);
    }
}

void hbone_client_init(struct hbone_client *client, struct loop *loop, struct tls_queue *queue,
                       const struct hbone_client_config *config) {
    *client = (struct hbone_client){
        .loop = loop, .tls_queue = queue, .config = *config, .allow_growth = true};
    hmap_init(&client->keys);
    list_init(&client->tunnels);
    timer_init(&client->sweep, on_sweep);
    timer_set(&loop->timers, &client->sweep, loop->now + sweep_interval(client));
}

void hbone_client_fini(struct hbone_client *client) {
    CHECK(client->keys.n_items == 0 && list_empty(&client->tunnels));
    timer_clear(&client->loop->timers, &client->sweep);
    hmap_fini(&client->keys);
}

void hbone_client_close_pod(struct hbone_client *client, uint64_t pod_id, bool abort,
                            enum flow_end reason) {
    struct pod_filter filter = {.pod_id = pod_id, .abort = abort, .reason = reason};
    each_tunnel(client, close_pod_tunnel, &filter);
}

void hbone_client_retain(struct hbone_client *client,
                         bool (*keep)(void *arg, const struct addr *destination), void *arg) {
    struct retain retain = {.keep = keep, .arg = arg};
    each_tunnel(client, drain_unless_kept, &retain);
}

void hbone_client_drain_all(struct hbone_client *client) {
    client->is_closing = true;
    each_tunnel(client, drain_tunnel, NULL);
}

void hbone_client_abort_all(struct hbone_client *client, enum flow_end reason) {
    client->is_closing = true;
    each_tunnel(client, abort_tunnel, &reason);
}

void hbone_client_recheck(struct hbone_client *client,
                          enum tls_err (*check)(void *arg, uint64_t pod_id,
                                                const struct tls_peer *peer),
                          void *arg) {
    struct recheck recheck = {.check = check, .arg = arg};
    each_tunnel(client, recheck_tunnel, &recheck);
}

void hbone_client_allow_growth(struct hbone_client *client, bool is_allowed) {
    client->allow_growth = is_allowed;
    each_tunnel(client, grow_tunnel, &is_allowed);
}

size_t hbone_client_n_tunnels(const struct hbone_client *client) {
    return client->stats.n_tunnels;
}
