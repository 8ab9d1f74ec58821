// SPDX-License-Identifier: Apache-2.0
//
// A table of a snapshot as a list, in steps. First the items are sorted, for workloads also which
// services they belong to; then they are written, a few in each step.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/proc/proc_dump_priv.h"
#include "common/proc/proc_sort.h"

enum {
    ITEMS_STEP = 16, // written in a step
    MEMBERS_STEP = 2048, // endpoints that a step collects, at least
    ENDPOINTS_STEP = 256, // of a service, written in a step
};

// Which services a workload is an endpoint of: pairs in the order of workloads, then services.
struct member {
    const struct workload *workload;
    const struct service *service;
};

enum phase { SORT, COLLECT_MEMBERS, SORT_MEMBERS, WRITE, DONE };
struct proc_dump_list {
    uint8_t kind; // enum proc_dump_kind
    uint8_t phase; // enum phase
    bool has_begun; // the array is open
    struct pmap map, services; // referenced
    char network[64];
    void **items;
    size_t n_items, at;
    struct proc_sort sort;
    // WORKLOADS
    void **all_services;
    size_t n_all_services, at_service;
    struct member *members;
    size_t n_members, cap_members, at_member;
    struct proc_sort member_sort;
    // SERVICES: the one that is being written
    const struct endpoint **endpoints; // NULL = none is
    size_t at_endpoint;
    struct proc_sort endpoint_sort;
};

// ---- gathering ---------------------------------------------------------------------------------

struct collect {
    void **items;
    size_t n;
    bool (*is_wanted)(void *arg, const void *leaf);
    void *arg;
};

static bool collect_leaf(void *arg, void *value) {
    struct collect *collect = arg;
    if (collect->is_wanted == NULL || collect->is_wanted(collect->arg, value)) {
        collect->items[collect->n++] = value;
    }
    return true;
}

static int compare_slices(struct slice a, struct slice b) {
    int order = memcmp(a.ptr, b.ptr, MIN(a.len, b.len));
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_key(const void *a, const void *b) {
    const struct leaf *const *x = a, *const *y = b;
    return compare_slices((*x)->key, (*y)->key);
}

static void **collect(const struct pmap *map, size_t *ret_n) {
    struct collect collect = {.items = xcalloc(map->n_items + 1, sizeof(void *))};
    pmap_each(map, collect_leaf, &collect);
    *ret_n = collect.n;
    return collect.items;
}

void **proc_dump_sorted(const struct pmap *map, bool (*is_wanted)(void *arg, const void *leaf),
                        void *arg, size_t *ret_n) {
    struct collect collect = {
        .items = xcalloc(map->n_items + 1, sizeof(void *)), .is_wanted = is_wanted, .arg = arg};
    pmap_each(map, collect_leaf, &collect);
    qsort(collect.items, collect.n, sizeof(void *), by_key);
    *ret_n = collect.n;
    return collect.items;
}

static int by_workload(const void *a, const void *b) {
    const struct member *x = a, *y = b;
    int order = x->workload == y->workload
                    ? 0
                    : compare_slices(x->workload->leaf.key, y->workload->leaf.key);
    return order != 0 ? order : compare_slices(x->service->leaf.key, y->service->leaf.key);
}

static int by_endpoint_workload(const void *a, const void *b) {
    const struct endpoint *const *x = a, *const *y = b;
    return compare_slices((*x)->workload->leaf.key, (*y)->workload->leaf.key);
}

// ---- life --------------------------------------------------------------------------------------

struct proc_dump_list *proc_dump_list_new(enum proc_dump_kind kind, const struct snapshot *snap) {
    const struct pmap *const maps[] = {[PROC_DUMP_WORKLOADS] = &snap->workloads,
                                       [PROC_DUMP_SERVICES] = &snap->services,
                                       [PROC_DUMP_POLICIES] = &snap->policies,
                                       [PROC_DUMP_CERTS] = &snap->identities};
    struct proc_dump_list *list = xcalloc(1, sizeof(*list));
    list->kind = (uint8_t)kind;
    list->map = pmap_ref(*maps[kind]);
    list->services = pmap_ref(snap->services);
    snprintf(list->network, sizeof(list->network), "%s", snap->mesh->network);
    list->items = collect(&list->map, &list->n_items);
    proc_sort_init(&list->sort, list->items, list->n_items, sizeof(void *), by_key);
    if (kind == PROC_DUMP_WORKLOADS) {
        list->all_services = collect(&list->services, &list->n_all_services);
    }
    return list;
}

void proc_dump_list_free(struct proc_dump_list *list) {
    if (list == NULL) {
        return;
    }
    proc_sort_fini(&list->sort);
    proc_sort_fini(&list->member_sort);
    proc_sort_fini(&list->endpoint_sort);
    free(list->items);
    free(list->all_services);
    free(list->members);
    free(list->endpoints);
    pmap_unref(&list->map);
    pmap_unref(&list->services);
    free(list);
}

// ---- workloads ---------------------------------------------------------------------------------

static void collect_members(struct proc_dump_list *list) {
    size_t before = list->n_members;
    while (list->at_service < list->n_all_services && list->n_members - before < MEMBERS_STEP) {
        const struct service *service = list->all_services[list->at_service++];
        size_t n = list->n_members + service->n_endpoints;
        if (n > list->cap_members) {
            list->cap_members = MAX(2 * list->cap_members, n);
            list->members = xrealloc(list->members, list->cap_members * sizeof(*list->members));
        }
        for (uint32_t k = 0; k < service->n_endpoints; k++) {
            list->members[list->n_members++] =
                (struct member){service->endpoints[k].workload, service};
        }
    }
}

static void write_workload(struct proc_dump_list *list, struct json_out *out) {
    const struct workload *workload = list->items[list->at++];
    const struct member *members = list->members;
    struct slice key = workload->leaf.key;
    size_t n = list->n_members, at = list->at_member;
    proc_dump_workload_begin(out, workload);
    while (at < n && compare_slices(members[at].workload->leaf.key, key) < 0) {
        at++;
    }
    json_out_kv_array(out, "services");
    for (const struct service *last = NULL; at < n && slice_eq(members[at].workload->leaf.key, key);
         at++) {
        if (members[at].service != last) { // once, though both families are endpoints
            json_out_string(out, members[at].service->leaf.key);
        }
        last = members[at].service;
    }
    json_out_end(out);
    list->at_member = at;
    proc_dump_workload_end(out, workload);
}

// ---- services ----------------------------------------------------------------------------------

static void begin_service(struct proc_dump_list *list, struct json_out *out,
                          const struct service *service) {
    proc_dump_service_begin(out, service, list->network);
    list->endpoints = xcalloc(service->n_endpoints + 1, sizeof(struct endpoint *));
    for (uint32_t i = 0; i < service->n_endpoints; i++) {
        list->endpoints[i] = &service->endpoints[i];
    }
    list->at_endpoint = 0;
    proc_sort_init(&list->endpoint_sort, (void *)list->endpoints, service->n_endpoints,
                   sizeof(struct endpoint *), by_endpoint_workload);
}

// A map by workload: a workload that is an endpoint twice (two families) is in it once. True: all
// were written.
static bool write_endpoints(struct proc_dump_list *list, struct json_out *out,
                            const struct service *service) {
    size_t end = MIN(list->at_endpoint + ENDPOINTS_STEP, (size_t)service->n_endpoints);
    for (size_t i = list->at_endpoint; i < end; i++) {
        if (i == 0 || by_endpoint_workload(&list->endpoints[i - 1], &list->endpoints[i]) != 0) {
            proc_dump_service_endpoint(out, service, list->endpoints[i]);
        }
    }
    list->at_endpoint = end;
    return end == service->n_endpoints;
}

// One step of the service at list->at. True: it is whole.
static bool write_service(struct proc_dump_list *list, struct json_out *out) {
    const struct service *service = list->items[list->at];
    if (list->endpoints == NULL) {
        begin_service(list, out, service);
    }
    if (proc_sort_step(&list->endpoint_sort) || !write_endpoints(list, out, service)) {
        return false;
    }
    proc_dump_service_end(out, service, list->network);
    proc_sort_fini(&list->endpoint_sort);
    free(list->endpoints);
    list->endpoints = NULL;
    list->at++;
    return true;
}

// ---- steps -------------------------------------------------------------------------------------

static void write_some(struct proc_dump_list *list, struct json_out *out) {
    bool is_whole = true;
    for (size_t i = 0; i < ITEMS_STEP && list->at < list->n_items && is_whole; i++) {
        switch ((enum proc_dump_kind)list->kind) {
        case PROC_DUMP_WORKLOADS:
            write_workload(list, out);
            break;
        case PROC_DUMP_SERVICES:
            is_whole = write_service(list, out);
            break;
        case PROC_DUMP_POLICIES:
            proc_dump_policy(out, list->items[list->at++]);
            break;
        case PROC_DUMP_CERTS:
            proc_dump_cert(out, list->items[list->at++]);
            break;
        }
    }
    if (list->at == list->n_items) {
        json_out_end(out);
        list->phase = DONE;
    }
}

bool proc_dump_list_step(struct proc_dump_list *list, struct json_out *out) {
    if (!list->has_begun) {
        json_out_begin_array(out);
        list->has_begun = true;
    }
    switch ((enum phase)list->phase) {
    case SORT:
        if (!proc_sort_step(&list->sort)) {
            list->phase = list->kind == PROC_DUMP_WORKLOADS ? COLLECT_MEMBERS : WRITE;
        }
        break;
    case COLLECT_MEMBERS:
        collect_members(list);
        if (list->at_service == list->n_all_services) {
            proc_sort_init(&list->member_sort, list->members, list->n_members,
                           sizeof(*list->members), by_workload);
            list->phase = SORT_MEMBERS;
        }
        break;
    case SORT_MEMBERS:
        if (!proc_sort_step(&list->member_sort)) {
            list->phase = WRITE;
        }
        break;
    case WRITE:
        write_some(list, out);
        break;
    case DONE:
        break;
    }
    return list->phase != DONE;
}
