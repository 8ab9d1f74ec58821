// SPDX-License-Identifier: Apache-2.0
//
// The order of ztun's DNS proxy (ambient-protocols §7): the name itself, as a short form of a
// Kubernetes name, and both again without a search domain.
#include <stdio.h>
#include <string.h>

#include "ctl/cmd_explain.h"

struct lookup {
    const struct snapshot *snap;
    const struct workload *client;
    struct explain_dns *ret;
};

static bool fits(const struct workload *client, const struct ip *ip) {
    for (size_t i = 0; i < client->n_ips; i++) {
        if (client->ips[i].family == ip->family) {
            return true;
        }
    }
    return client->n_ips == 0;
}

static void take(struct lookup *l, const struct ip *ip) {
    if (!ip_is_set(&l->ret->ip) && fits(l->client, ip)) {
        l->ret->ip = *ip;
    }
}

static bool use_service(struct lookup *l, const struct service *service, struct slice pod) {
    bool is_found = service->n_vips > 0 && pod.len == 0;
    for (size_t i = 0; i < service->n_vips && pod.len == 0; i++) {
        take(l, &service->vips[i]);
    }
    for (uint32_t i = 0; i < service->n_endpoints && service->is_headless; i++) {
        const struct endpoint *endpoint = &service->endpoints[i];
        bool is_named = pod.len > 0 && slice_eq_str(pod, endpoint->workload->name);
        if (is_named || (pod.len == 0 && (endpoint->is_ready || service->allow_not_ready))) {
            take(l, &endpoint->ip);
        }
        is_found = is_found || is_named;
    }
    return is_found || (service->is_headless && pod.len == 0);
}

static bool try_name(struct lookup *l, struct slice name, bool is_exact) {
    const struct service *service = snapshot_service_by_host(l->snap, name, l->client->ns);
    struct slice pod = slice_make(NULL, 0), host;
    bool is_known = service != NULL && (!is_exact || slice_eq_str(name, service->hostname)) &&
                    use_service(l, service, pod);
    if (!is_known && slice_split(name, '.', &pod, &host) && pod.len > 0) {
        service = snapshot_service_by_host(l->snap, host, l->client->ns); // POD.SERVICE.NS.svc.D
        is_known = service != NULL && service->is_headless &&
                   slice_eq_str(host, service->hostname) && use_service(l, service, pod);
    }
    if (is_known) {
        l->ret->service = service;
        snprintf(l->ret->name, sizeof(l->ret->name), "%.*s", SLICE_ARG(name));
    }
    return is_known;
}

static bool try_forms(struct lookup *l, struct slice name) {
    const char *ns = l->client->ns, *domain = l->snap->mesh->cluster_domain;
    char text[3][600];
    snprintf(text[0], sizeof(text[0]), "%.*s.%s.svc.%s", SLICE_ARG(name), ns, domain);
    snprintf(text[1], sizeof(text[1]), "%.*s.svc.%s", SLICE_ARG(name), domain);
    snprintf(text[2], sizeof(text[2]), "%.*s.%s", SLICE_ARG(name), domain);
    if (try_name(l, name, false)) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(text); i++) {
        if (try_name(l, slice_str(text[i]), true)) {
            return true;
        }
    }
    return false;
}

static bool try_without(struct lookup *l, struct slice name, const char *domain) {
    struct slice suffix = slice_str(domain);
    if (suffix.len == 0 || name.len < suffix.len + 2 || !slice_has_suffix(name, suffix) ||
        name.ptr[name.len - suffix.len - 1] != '.') {
        return false;
    }
    return try_forms(l, slice_head(name, name.len - suffix.len - 1));
}

bool explain_resolve(const struct snapshot *snap, const struct workload *client, const char *host,
                     struct explain_dns *ret) {
    struct lookup l = {.snap = snap, .client = client, .ret = ret};
    struct slice name = slice_str(host);
    char domain[3][600];
    *ret = (struct explain_dns){0};
    snprintf(domain[0], sizeof(domain[0]), "%s.svc.%s", client->ns, snap->mesh->cluster_domain);
    snprintf(domain[1], sizeof(domain[1]), "svc.%s", snap->mesh->cluster_domain);
    snprintf(domain[2], sizeof(domain[2]), "%s", snap->mesh->cluster_domain);
    if (try_forms(&l, name)) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(domain); i++) {
        if (try_without(&l, name, domain[i])) {
            return true;
        }
    }
    const char *const *own = client->dns_search;
    for (; own != NULL && *own != NULL; own++) {
        if (try_without(&l, name, *own)) {
            return true;
        }
    }
    return false;
}
