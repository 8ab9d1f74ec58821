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

static void leave_host(struct xds_store *store, struct xworkload *wl) {
    if (wl->hosted == NULL) {
        return;
    }
    struct xhost *host = wl->hosted->host;
    list_del(&wl->hosted->in_host);
    free(wl->hosted);
    wl->hosted = NULL;
    if (list_empty(&host->workloads)) {
        hmap_remove(&store->hosts, &host->by_name);
        free(host->ips);
        free(host);
    }
}

void xds_store_set_host(struct xds_store *store, struct xworkload *wl, const char *name) {
    if (wl->hosted != NULL && name != NULL && strcmp(wl->hosted->host->name, name) == 0) {
        return;
    }
    leave_host(store, wl);
    if (name != NULL) {
        struct xhosted *hosted = xmalloc(sizeof(*hosted));
        *hosted = (struct xhosted){.host = get_host(store, name), .workload = wl};
        list_push_back(&hosted->host->workloads, &hosted->in_host);
        wl->hosted = hosted;
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
        struct xworkload *wl = LIST_ITEM(pos, struct xhosted, in_host)->workload;
        struct workload spec = *wl->leaf;
        spec.ips = sorted;
        spec.n_ips = (uint16_t)n;
        struct workload *leaf = workload_new_like(&spec, wl->leaf);
        leaf_unref(wl->leaf);
        wl->leaf = leaf;
        xds_store_mark(&store->dirty_workloads, &wl->in_dirty);
    }
}
