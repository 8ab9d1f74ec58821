// SPDX-License-Identifier: Apache-2.0
//
// Look-ups: any thread, within a read section.
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/mesh/snapshot_priv.h"
#include "common/proto/spiffe.h"

static void *index_first(const struct pmap *map, struct slice key) {
    return indexed_leaf(pmap_get(map, key), 0);
}

struct workload *snapshot_workload_by_ip(const struct snapshot *snap, const struct ip *ip) {
    return index_first(&snap->workloads_by_ip, ip_key(ip));
}

struct workload *snapshot_workload_by_ip_at(const struct snapshot *snap, const struct ip *ip,
                                            size_t i) {
    return (struct workload *)indexed_leaf(pmap_get(&snap->workloads_by_ip, ip_key(ip)), i);
}

struct workload *snapshot_workload_by_uid(const struct snapshot *snap, const char *uid) {
    return pmap_get(&snap->workloads, slice_str(uid));
}

struct service *snapshot_service_by_vip(const struct snapshot *snap, const struct ip *ip) {
    return index_first(&snap->services_by_vip, ip_key(ip));
}

static bool has_port(const struct service *service, uint16_t port) {
    for (size_t i = 0; i < service->n_ports; i++) {
        if (service->ports[i].port == port) {
            return true;
        }
    }
    return false;
}

// What has the longest range with the address, as in an index. One look for each length in use.
static const void *by_range(const struct snapshot *snap, const struct ip *ip) {
    if (snap->services_by_range.n_items == 0) {
        return NULL;
    }
    const void *found = NULL;
    for (int len = ip->family == 4 ? 32 : 128; found == NULL && len >= 0; len--) {
        if (snap->n_ranges[range_class(ip->family, (uint8_t)len)] > 0) {
            uint8_t buf[RANGE_KEY_MAX];
            struct cidr range = cidr_make(ip, (uint8_t)len);
            found = pmap_get(&snap->services_by_range, range_key(&range, buf));
        }
    }
    return found;
}

struct service *snapshot_service_by_addr(const struct snapshot *snap, const struct addr *addr) {
    const void *found = pmap_get(&snap->services_by_vip, ip_key(&addr->ip));
    struct service *service;
    if (found == NULL) {
        found = by_range(snap, &addr->ip);
    }
    for (size_t i = 0; (service = (struct service *)indexed_leaf(found, i)) != NULL; i++) {
        if (has_port(service, addr->port)) {
            return service;
        }
    }
    return (struct service *)indexed_leaf(found, 0);
}

struct service *snapshot_service(const struct snapshot *snap, const char *key) {
    return pmap_get(&snap->services, slice_str(key));
}

struct node *snapshot_node_by_ip(const struct snapshot *snap, const struct ip *ip) {
    return index_first(&snap->nodes_by_ip, ip_key(ip));
}

struct service *snapshot_service_by_node_port(const struct snapshot *snap, uint16_t port) {
    uint16_t net_port = htons(port);
    return index_first(&snap->services_by_node_port, port_key(&net_port));
}

struct policy *snapshot_policy(const struct snapshot *snap, const char *key) {
    return pmap_get(&snap->policies, slice_str(key));
}

struct identity *snapshot_identity(const struct snapshot *snap, const char *spiffe_id) {
    return pmap_get(&snap->identities, slice_str(spiffe_id));
}

// The client's own namespace, then the list's order (ambient-protocols §7).
static struct service *host_pick(const struct snapshot *snap, struct slice key, const char *ns) {
    const void *found = pmap_get(&snap->services_by_host, key);
    struct service *service;
    struct service *first = NULL;
    for (size_t i = 0; (service = (struct service *)indexed_leaf(found, i)) != NULL; i++) {
        if (strcmp(service->ns, ns) == 0) {
            return service;
        }
        if (first == NULL && !service->is_private) {
            first = service;
        }
    }
    return first;
}

struct service *snapshot_service_by_host(const struct snapshot *snap, struct slice host,
                                         const char *ns) {
    uint8_t text[253];
    if (host.len > 0 && host.ptr[host.len - 1] == '.') {
        host.len--;
    }
    if (host.len == 0 || host.len > sizeof(text)) {
        return NULL;
    }
    struct service *exact = host_pick(snap, host, ns);
    if (exact != NULL) { // it was in lower case
        return exact;
    }
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.ptr[i];
        text[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
    }
    struct slice key = slice_make(text, host.len);
    struct service *service = host_pick(snap, key, ns);
    while (service == NULL && key.len > 0) {
        ptrdiff_t dot = slice_find(slice_skip(key, 1), '.');
        key = dot < 0 ? slice_make(text, 0) : slice_skip(key, (size_t)dot + 1);
        service = host_pick(snap, key, ns);
    }
    return service;
}

struct leaf *snapshot_l7_routes(const struct snapshot *snap, struct slice service_key) {
    return pmap_get(&snap->l7_routes, service_key);
}

struct leaf *snapshot_l7_policy(const struct snapshot *snap, struct slice service_key) {
    return pmap_get(&snap->l7_policies, service_key);
}

static bool visit_list(const struct snapshot *snap, struct slice key,
                       bool (*fn)(void *arg, const struct policy *policy), void *arg) {
    const void *found = pmap_get(&snap->policies_by_ns, key);
    const struct policy *policy;
    for (size_t i = 0; (policy = (const struct policy *)indexed_leaf(found, i)) != NULL; i++) {
        if (!fn(arg, policy)) {
            return false;
        }
    }
    return true;
}

void snapshot_policies_for(const struct snapshot *snap, const struct workload *workload,
                           bool (*fn)(void *arg, const struct policy *policy), void *arg) {
    if (!visit_list(snap, slice_make("", 0), fn, arg) ||
        !visit_list(snap, slice_str(workload->ns), fn, arg)) {
        return;
    }
    for (size_t i = 0; i < workload->common->n_policies; i++) {
        const struct policy *policy = snapshot_policy(snap, workload->common->policies[i]);
        if (policy != NULL && !fn(arg, policy)) {
            return;
        }
    }
}

void snapshot_policies_targeted(const struct snapshot *snap, const char *ns,
                                bool (*fn)(void *arg, const struct policy *policy), void *arg) {
    char key[320];
    int len = snprintf(key, sizeof(key), "%s/", ns);
    if (len > 0 && (size_t)len < sizeof(key)) { // a longer name is no namespace
        visit_list(snap, slice_make(key, (size_t)len), fn, arg);
    }
}

// ---- trust domains -----------------------------------------------------------------------------

const char *mesh_trust_domain(const struct mesh_settings *mesh, size_t i) {
    if (i == 0) {
        return mesh->trust_domain;
    }
    return i <= MESH_ALIASES_MAX && mesh->trust_domain_aliases[i - 1][0] != '\0'
               ? mesh->trust_domain_aliases[i - 1]
               : NULL;
}

bool mesh_is_trust_domain(const struct mesh_settings *mesh, struct slice trust_domain) {
    const char *own;
    for (size_t i = 0; (own = mesh_trust_domain(mesh, i)) != NULL; i++) {
        if (slice_eq_str(trust_domain, own)) {
            return true;
        }
    }
    return false;
}

bool mesh_is_same_identity(const struct mesh_settings *mesh, struct slice a, struct slice b) {
    struct spiffe_id one, two;
    if (slice_eq(a, b)) {
        return true;
    }
    return spiffe_parse(a, &one) && spiffe_parse(b, &two) && slice_eq(one.ns, two.ns) &&
           slice_eq(one.sa, two.sa) && mesh_is_trust_domain(mesh, one.trust_domain) &&
           mesh_is_trust_domain(mesh, two.trust_domain);
}
