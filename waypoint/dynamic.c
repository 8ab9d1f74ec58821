// SPDX-License-Identifier: Apache-2.0
#include "waypoint/dynamic.h"

#include <stdlib.h>

#include "waypoint/http_worker.h"
#include "waypoint/upstream_priv.h"
#include "waypoint/waypoint.h"

struct dynamic_host { // an address of a cluster
    struct hmap_node node; // dynamic->hosts
    struct list by_use; // dynamic->by_use
    struct cluster *cluster; // referenced
    struct l7_host host; // its cell is a cluster_host's, referenced
    struct endpoint endpoint; // without a workload
};

struct dynamic {
    struct dns_cache *names;
    struct dns_channel *channel; // NULL: it could not be made, or others look up
    const char *error; // why there is none
    struct hmap hosts;
    struct list by_use; // the one that was chosen last is last
};

// ---- names -------------------------------------------------------------------------------------

static void no_channel(void *arg, const char *host, dns_result_fn *fn, void *fn_arg) {
    (void)host;
    const struct dynamic *dynamic = arg;
    struct dns_result result = {.outcome = DNS_FAILED, .text = dynamic->error};
    fn(fn_arg, &result);
}

static void by_channel(void *arg, const char *host, dns_result_fn *fn, void *fn_arg) {
    dns_channel_look_up(arg, host, fn, fn_arg);
}

static struct dynamic *dynamic_get(struct http_worker *http) {
    if (http->dynamic != NULL) {
        return http->dynamic;
    }
    struct dynamic *dynamic = xcalloc(1, sizeof(*dynamic));
    const struct waypoint *waypoint = http->worker->waypoint;
    struct dns_cache_config config = {
        .loop = http->loop, .look_up = waypoint->look_up, .arg = waypoint->look_up_arg};
    if (waypoint->look_up == NULL) {
        struct dns_channel_config channel = {.loop = http->loop, .n_socks = &http->n_dns_socks};
        dynamic->channel = dns_channel_new(&channel, &dynamic->error);
        config.look_up = dynamic->channel != NULL ? by_channel : no_channel;
        config.arg = dynamic->channel != NULL ? (void *)dynamic->channel : dynamic;
    }
    dynamic->names = dns_cache_new(&config);
    hmap_init(&dynamic->hosts);
    list_init(&dynamic->by_use);
    http->dynamic = dynamic;
    return dynamic;
}

enum dns_cache_verdict dynamic_ask(struct http_worker *http, const char *name,
                                   struct dns_cache_query *query,
                                   struct dns_cache_answer *ret_answer) {
    return dns_cache_ask(dynamic_get(http)->names, name, query, ret_answer);
}

// ---- hosts -------------------------------------------------------------------------------------

static void host_free(struct dynamic *dynamic, struct dynamic_host *item) {
    hmap_remove(&dynamic->hosts, &item->node);
    list_del(&item->by_use);
    cluster_host_unref(CONTAINER_OF(item->host.cell, struct cluster_host, cell));
    cluster_unref(item->cluster);
    free(item);
}

// Those that nobody uses, until there are no more than `max`.
static void forget(struct dynamic *dynamic, size_t max) {
    LIST_EACH_SAFE(pos, &dynamic->by_use) {
        struct dynamic_host *item = LIST_ITEM(pos, struct dynamic_host, by_use);
        if (dynamic->hosts.n_items <= max) {
            return;
        }
        if (atomic_load(&item->host.cell->active) == 0) {
            host_free(dynamic, item);
        }
    }
}

static struct dynamic_host *host_get(struct http_worker *http, const struct upstream_view *view,
                                     const struct addr *addr) {
    struct dynamic *dynamic = dynamic_get(http);
    uint64_t hash = hash_bytes(slice_make(addr->ip.bytes, sizeof(addr->ip.bytes))) + addr->port +
                    (uint64_t)(uintptr_t)view->cluster * 0x9e3779b97f4a7c15U;
    HMAP_EACH_WITH_HASH(pos, &dynamic->hosts, hash) {
        struct dynamic_host *item = HMAP_ITEM(pos, struct dynamic_host, node);
        if (item->cluster == view->cluster && addr_eq(&item->host.addr, addr)) {
            list_del(&item->by_use);
            list_push_back(&dynamic->by_use, &item->by_use);
            return item;
        }
    }
    struct dynamic_host *item = xcalloc(1, sizeof(*item));
    item->cluster = cluster_ref(view->cluster);
    item->host = (struct l7_host){
        .endpoint = &item->endpoint,
        .addr = *addr,
        .weight = 1,
        .cell = &cluster_host_get(view->cluster, addr, http->loop->now / NS_PER_MS)->cell,
    };
    hmap_insert(&dynamic->hosts, &item->node, hash);
    list_push_back(&dynamic->by_use, &item->by_use);
    return item;
}

// A waypoint's pod that has addresses of one family has no way to those of the other.
static bool has_family(const struct workload *own, uint8_t family) {
    for (size_t i = 0; own != NULL && i < own->n_ips; i++) {
        if (own->ips[i].family == family) {
            return true;
        }
    }
    return own == NULL || own->n_ips == 0;
}

const struct l7_host *dynamic_host(struct http_worker *http, const struct upstream_view *view,
                                   const struct dns_cache_answer *answer,
                                   const struct l7_host_cell *const *tried, size_t n_tried) {
    const struct workload *own = waypoint_workload(http->worker->config, snapshot_current());
    const struct l7_host *found = NULL;
    size_t start = answer->n_ips > 0 ? (size_t)rand_below(&http->worker->rand, answer->n_ips) : 0;
    forget(http->dynamic, DYNAMIC_HOSTS_MAX - 1); // before, as those that are chosen are not in use
    for (size_t i = 0; i < answer->n_ips; i++) {
        struct addr addr = {.ip = answer->ips[(start + i) % answer->n_ips],
                            .port = view->service->ports[view->port].target_port};
        if (!has_family(own, addr.ip.family)) {
            continue;
        }
        const struct l7_host *host = &host_get(http, view, &addr)->host;
        if (atomic_load(&host->cell->is_ejected)) {
            continue;
        }
        found = host;
        if (!upstream_is_tried(host, tried, n_tried)) {
            break;
        }
    }
    return found;
}

// ---- life --------------------------------------------------------------------------------------

void dynamic_init(struct http_worker *http) {
    http->dynamic = NULL; // until a request needs it
    http->n_dns_socks = 0;
}

// Clusters that went do not stay for their hosts' sake; the others keep what they know of theirs.
void dynamic_news(struct http_worker *http) {
    const struct snapshot *snap = snapshot_current();
    struct dynamic *dynamic = http->dynamic;
    if (dynamic == NULL) {
        return;
    }
    LIST_EACH_SAFE(pos, &dynamic->by_use) {
        struct dynamic_host *item = LIST_ITEM(pos, struct dynamic_host, by_use);
        if (snapshot_service(snap, item->cluster->service_key) == NULL &&
            atomic_load(&item->host.cell->active) == 0) {
            host_free(dynamic, item);
        }
    }
}

bool dynamic_stop(struct http_worker *http) {
    dynamic_fini(http);
    return http->n_dns_socks == 0;
}

void dynamic_fini(struct http_worker *http) {
    struct dynamic *dynamic = http->dynamic;
    if (dynamic == NULL) {
        return;
    }
    forget(dynamic, 0);
    CHECK(dynamic->hosts.n_items == 0);
    hmap_fini(&dynamic->hosts);
    dns_cache_free(dynamic->names);
    dns_channel_free(dynamic->channel);
    free(dynamic);
    http->dynamic = NULL;
}
