// SPDX-License-Identifier: Apache-2.0
#include "waypoint/direct.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "waypoint/http_worker.h"

struct direct {
    struct hmap_node node; // http->direct
    struct service *service; // referenced
};

static uint64_t hash_of(const struct workload *workload, const struct addr *addr) {
    return hash_bytes(workload->leaf.key) ^
           hash_bytes(slice_make(addr->ip.bytes, sizeof(addr->ip.bytes))) ^ addr->port;
}

static struct workload *workload_of(const struct service *service) {
    return service->endpoints[0].workload;
}

bool direct_is_current(const struct snapshot *snap, const struct service *service) {
    const struct workload *workload = workload_of(service);
    return snapshot_workload_by_uid(snap, (const char *)workload->leaf.key.ptr) == workload;
}

static struct service *make(struct workload *workload, const struct addr *addr) {
    char key[640], host[ADDR_TEXT_MAX];
    snprintf(key, sizeof(key), DIRECT_PREFIX "%.*s/%s", SLICE_ARG(workload->leaf.key),
             ip_text(&addr->ip, host));
    const struct service_port port = {.port = addr->port,
                                      .target_port = addr->port,
                                      .name = "",
                                      .target_name = "",
                                      .app_protocol = APP_UNKNOWN};
    const struct endpoint endpoint = {.workload = workload,
                                      .ip = addr->ip,
                                      .target_ports = &addr->port,
                                      .is_ready = true,
                                      .weight = 1};
    const struct service spec = {
        .leaf.key = slice_str(key),
        .name = workload->name,
        .ns = workload->ns,
        .hostname = host,
        .ports = &port,
        .n_ports = 1,
        .endpoints = &endpoint,
        .n_endpoints = 1,
        .waypoint = "",
    };
    return service_new(&spec);
}

static void drop(struct http_worker *http, struct direct *direct) {
    http->n_direct--;
    hmap_remove(&http->direct, &direct->node);
    leaf_unref(direct->service);
    free(direct);
}

static void forget_all(struct http_worker *http) {
    HMAP_EACH_SAFE(pos, &http->direct) {
        drop(http, HMAP_ITEM(pos, struct direct, node));
    }
}

struct service *direct_service(struct http_worker *http, struct workload *workload,
                               const struct addr *addr) {
    uint64_t hash = hash_of(workload, addr);
    struct direct *found = NULL;
    HMAP_EACH_WITH_HASH(pos, &http->direct, hash) {
        struct direct *direct = HMAP_ITEM(pos, struct direct, node);
        const struct endpoint *endpoint = &direct->service->endpoints[0];
        if (ip_eq(&endpoint->ip, &addr->ip) && endpoint->target_ports[0] == addr->port &&
            slice_eq(endpoint->workload->leaf.key, workload->leaf.key)) {
            found = direct;
        }
    }
    if (found == NULL) {
        if (http->n_direct >= DIRECT_MAX) { // who tries all ports gets no memory for it
            forget_all(http);
        }
        http->n_direct++;
        found = xcalloc(1, sizeof(*found));
        hmap_insert(&http->direct, &found->node, hash);
    } else if (workload_of(found->service) == workload) {
        return found->service;
    }
    leaf_unref(found->service); // of an older version of the workload
    found->service = make(workload, addr);
    return found->service;
}

struct service *direct_now(struct http_worker *http, const struct snapshot *snap,
                           struct service *service) {
    const struct endpoint *endpoint = &service->endpoints[0];
    const char *uid = (const char *)endpoint->workload->leaf.key.ptr;
    struct workload *now = snapshot_workload_by_uid(snap, uid);
    if (now == NULL || now == endpoint->workload) {
        return service;
    }
    struct addr addr = {.ip = endpoint->ip, .port = endpoint->target_ports[0]};
    return direct_service(http, now, &addr);
}

void direct_news(struct http_worker *http) {
    const struct snapshot *snap = snapshot_current();
    HMAP_EACH_SAFE(pos, &http->direct) {
        struct direct *direct = HMAP_ITEM(pos, struct direct, node);
        if (!direct_is_current(snap, direct->service)) {
            drop(http, direct);
        }
    }
}

void direct_init(struct http_worker *http) {
    hmap_init(&http->direct);
}

void direct_fini(struct http_worker *http) {
    forget_all(http);
    hmap_fini(&http->direct);
}
