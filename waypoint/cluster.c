// SPDX-License-Identifier: Apache-2.0
#include "waypoint/cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/kobj_l7.h"
#include "waypoint/direct.h"

static struct {
    pthread_mutex_t lock;
    struct hmap table; // all zero: empty
} clusters = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t key_hash(const char *service_key, uint16_t port, const char *subset) {
    return hash_bytes(slice_str(service_key)) * 31 + hash_bytes(slice_str(subset)) * 7 + port;
}

static struct cluster *find(uint64_t hash, const char *service_key, uint16_t port,
                            const char *subset) {
    HMAP_EACH_WITH_HASH(pos, &clusters.table, hash) {
        struct cluster *cluster = HMAP_ITEM(pos, struct cluster, node);
        if (cluster->port == port && strcmp(cluster->service_key, service_key) == 0 &&
            strcmp(cluster->subset, subset) == 0) {
            return cluster;
        }
    }
    return NULL;
}

static struct cluster *cluster_new(const char *service_key, const char *host, uint16_t port,
                                   const char *subset) {
    struct cluster *cluster = xcalloc(1, sizeof(*cluster));
    cluster->service_key = xstrdup(service_key);
    cluster->subset = xstrdup(subset);
    cluster->port = port;
    atomic_init(&cluster->refs, 0);
    hmap_init(&cluster->hosts);
    (void)pthread_mutex_init(&cluster->lock, NULL);
    size_t size = strlen(host) + strlen(subset) + sizeof("inbound-vip|65535|http/|");
    cluster->name = xmalloc(size);
    snprintf(cluster->name, size, "inbound-%s|%u|http%s%s|%s",
             direct_is_key(service_key) ? "pod" : "vip", port, subset[0] != 0 ? "/" : "", subset,
             host);
    return cluster;
}

struct cluster *cluster_get(const char *service_key, const char *host, uint16_t port,
                            const char *subset) {
    uint64_t hash = key_hash(service_key, port, subset);
    pthread_mutex_lock(&clusters.lock);
    struct cluster *cluster = find(hash, service_key, port, subset);
    if (cluster == NULL) {
        cluster = cluster_new(service_key, host, port, subset);
        hmap_insert(&clusters.table, &cluster->node, hash);
    }
    atomic_fetch_add(&cluster->refs, 1);
    pthread_mutex_unlock(&clusters.lock);
    return cluster;
}

struct cluster *cluster_ref(struct cluster *cluster) {
    atomic_fetch_add(&cluster->refs, 1);
    return cluster;
}

void cluster_unref(struct cluster *cluster) {
    if (cluster == NULL) {
        return;
    }
    // Under the lock, so that nobody finds one that is about to go.
    pthread_mutex_lock(&clusters.lock);
    bool is_last = atomic_fetch_sub(&cluster->refs, 1) == 1;
    if (is_last) {
        hmap_remove(&clusters.table, &cluster->node);
    }
    pthread_mutex_unlock(&clusters.lock);
    if (is_last) {
        CHECK(cluster->hosts.n_items == 0);
        hmap_fini(&cluster->hosts);
        (void)pthread_mutex_destroy(&cluster->lock);
        free(cluster->service_key);
        free(cluster->subset);
        free(cluster->name);
        free(cluster);
    }
}

void cluster_each(void (*fn)(void *arg, struct cluster *cluster), void *arg) {
    pthread_mutex_lock(&clusters.lock);
    HMAP_EACH_SAFE(pos, &clusters.table) {
        fn(arg, HMAP_ITEM(pos, struct cluster, node));
    }
    pthread_mutex_unlock(&clusters.lock);
}

const char *cluster_missing_feature(const struct l7_settings *settings) {
    return settings->tunnel_protocol[0] != '\0'
               ? "tunnel (DestinationRule) is for TCP and TLS, not for HTTP"
               : NULL;
}

// ---- outlier detection -------------------------------------------------------------------------

// Under the lock, so that none of them goes meanwhile.
static void tick_all(struct cluster *cluster, const struct l7_outlier_policy *policy,
                     uint64_t now_ms) {
    pthread_mutex_lock(&cluster->lock);
    struct l7_host_cell **cells = xcalloc(cluster->hosts.n_items + 1, sizeof(*cells));
    size_t n = 0;
    HMAP_EACH_SAFE(pos, &cluster->hosts) {
        cells[n++] = &HMAP_ITEM(pos, struct cluster_host, node)->cell;
    }
    (void)l7_outlier_tick(policy, &cluster->outlier, &cluster->lb, cells, n, now_ms);
    pthread_mutex_unlock(&cluster->lock);
    free(cells);
}

void cluster_tick(struct cluster *cluster, const struct l7_outlier_policy *policy,
                  const struct l7_host *hosts, size_t n_hosts, uint64_t now_ms) {
    uint64_t due = atomic_load(&cluster->next_outlier_ms);
    if (now_ms < due || (!policy->is_on && atomic_load(&cluster->outlier.n_ejected) == 0) ||
        !atomic_compare_exchange_strong(&cluster->next_outlier_ms, &due,
                                        now_ms + policy->interval_ms)) {
        return;
    }
    if (hosts == NULL) {
        tick_all(cluster, policy, now_ms);
        return;
    }
    struct l7_host_cell **cells = xcalloc(MAX(n_hosts, (size_t)1), sizeof(*cells));
    for (size_t i = 0; i < n_hosts; i++) {
        cells[i] = hosts[i].cell;
    }
    (void)l7_outlier_tick(policy, &cluster->outlier, &cluster->lb, cells, n_hosts, now_ms);
    free(cells);
}

size_t cluster_n_hosts(struct cluster *cluster) {
    pthread_mutex_lock(&cluster->lock);
    size_t n = cluster->hosts.n_items;
    pthread_mutex_unlock(&cluster->lock);
    return n;
}

// ---- hosts -------------------------------------------------------------------------------------

static uint64_t addr_hash(const struct addr *addr) {
    return hash_bytes(slice_make(addr->ip.bytes, sizeof(addr->ip.bytes))) + addr->port;
}

struct cluster_host *cluster_host_get(struct cluster *cluster, const struct addr *addr,
                                      uint64_t now_ms) {
    uint64_t hash = addr_hash(addr);
    struct cluster_host *host = NULL;
    pthread_mutex_lock(&cluster->lock);
    HMAP_EACH_WITH_HASH(pos, &cluster->hosts, hash) {
        struct cluster_host *item = HMAP_ITEM(pos, struct cluster_host, node);
        if (addr_eq(&item->addr, addr)) {
            host = item;
            break;
        }
    }
    if (host == NULL) {
        host = xcalloc(1, sizeof(*host));
        host->cluster = cluster;
        host->addr = *addr;
        host->cell.since_ms = now_ms;
        hmap_insert(&cluster->hosts, &host->node, hash);
    }
    host->refs++;
    pthread_mutex_unlock(&cluster->lock);
    return host;
}

void cluster_host_unref(struct cluster_host *host) {
    struct cluster *cluster = host->cluster;
    pthread_mutex_lock(&cluster->lock);
    bool is_last = --host->refs == 0;
    if (is_last) {
        hmap_remove(&cluster->hosts, &host->node);
        l7_outlier_forget(&cluster->outlier, &host->cell);
    }
    pthread_mutex_unlock(&cluster->lock);
    if (is_last) {
        free(host);
    }
}
