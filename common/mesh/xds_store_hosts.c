// SPDX-License-Identifier: Apache-2.0
//
// Workloads that are a host name.
#include <stdlib.h>
#include <string.h>

#include "common/mesh/xds_store_priv.h"

static struct xhost *find_host(struct xds_store *store, const char *name) {
    HMAP_EACH_WITH_HASH(pos, &store->hosts, hash_bytes(slice_str(name))) {
        struct xhost *host = HMAP_ITEM(pos, struct xhost, by_name);
        if (strcmp(host->name, name) == 0) {
            return host;
        }
    }
    return NULL;
}

static struct xhost *get_host(struct xds_store *store, const char *name) {
    struct xhost *host = find_host(store, name);
    if (host == NULL) {
        size_t size = strlen(name) + 1;
        host = xcalloc(1, sizeof(*host) + size);
        memcpy(host->name, name, size);
        list_init(&host->workloads);
        hmap_insert(&store->hosts, &host->by_name, hash_bytes(slice_str(name)));
    }
    return host;
}

struct xspecial *xds_store_special(struct xworkload *wl) {
    if (wl->special == NULL) {
        wl->special = xcalloc(1, sizeof(*wl->special));
        wl->special->workload = wl;
        list_init(&wl->special->in_host);
        list_init(&wl->special->binding.node);
    }
    return wl->special;
}

void xds_store_drop_special(struct xworkload *wl) {
    struct xspecial *special = wl->special;
    if (special != NULL && special->host == NULL && !list_linked(&special->binding.node)) {
        free(special);
        wl->special = NULL;
    }
}

void xds_store_set_host(struct xds_store *store, struct xworkload *wl, const char *name) {
    struct xhost *old = wl->special != NULL ? wl->special->host : NULL;
    struct xhost *host = name != NULL ? get_host(store, name) : NULL;
    if (old == host) {
        return;
    }
    struct xspecial *special = xds_store_special(wl);
    list_del(&special->in_host);
    special->host = host;
    if (host != NULL) {
        list_push_back(&host->workloads, &special->in_host);
    }
    xds_store_drop_special(wl);
    if (old != NULL && list_empty(&old->workloads)) {
        hmap_remove(&store->hosts, &old->by_name);
        free(old->ips);
        free(old);
    }
}

void xds_store_each_hostname(struct xds_store *store, bool (*fn)(void *arg, const char *hostname),
                             void *arg) {
    HMAP_EACH_SAFE(pos, &store->hosts) {
        if (!fn(arg, HMAP_ITEM(pos, struct xhost, by_name)->name)) {
            return;
        }
    }
}

static int ip_order(const void *a, const void *b) {
    return ip_cmp(a, b);
}

void xds_store_set_resolved(struct xds_store *store, const char *hostname, const struct ip *ips,
                            size_t n) {
    struct xhost *host = find_host(store, hostname);
    if (host == NULL) {
        return; // the last workload of that name went meanwhile
    }
    // Name servers rotate their answers: sorted, so that only another set is a change.
    n = MIN(n, (size_t)UINT16_MAX);
    struct ip *sorted = xcalloc(n + 1, sizeof(*sorted));
    if (n > 0) {
        memcpy(sorted, ips, n * sizeof(*ips));
        qsort(sorted, n, sizeof(*sorted), ip_order);
    }
    free(host->ips);
    host->ips = sorted;
    host->n_ips = n;
    LIST_EACH(pos, &host->workloads) {
        struct xworkload *wl = LIST_ITEM(pos, struct xspecial, in_host)->workload;
        struct workload spec = *wl->leaf;
        spec.ips = sorted;
        spec.n_ips = (uint16_t)n;
        struct workload *leaf = workload_new_like(&spec, wl->leaf);
        leaf_unref(wl->leaf);
        wl->leaf = leaf;
        xds_store_mark(&store->dirty_workloads, &wl->in_dirty);
    }
}
