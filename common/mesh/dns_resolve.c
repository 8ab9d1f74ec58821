// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/dns_resolve.h"

#include <stdio.h>

struct lookup {
    const struct snapshot *snap;
    const struct workload *client;
    uint8_t family;
    struct rand *rand;
    struct dns_resolution *ret;
};

// "a.b" below "b"; false for "b" itself.
static bool is_below(struct slice name, struct slice domain) {
    return domain.len > 0 && name.len > domain.len + 1 && slice_has_suffix(name, domain) &&
           name.ptr[name.len - domain.len - 1] == '.';
}

static size_t count_labels(struct slice name) {
    size_t n = name.len > 0;
    for (size_t i = 0; i < name.len; i++) {
        n += name.ptr[i] == '.';
    }
    return n;
}

// Reservoir sampling: of more addresses than there is room for, each is as likely.
static void add_ip(struct lookup *l, const struct ip *ip, uint32_t *n_seen) {
    struct dns_resolution *ret = l->ret;
    if (ip->family != l->family) {
        return;
    }
    ++*n_seen;
    if (ret->n_ips < DNS_RESOLVE_IPS_MAX) {
        ret->ips[ret->n_ips++] = *ip;
        return;
    }
    uint64_t at = rand_below(l->rand, *n_seen);
    if (at < DNS_RESOLVE_IPS_MAX) {
        ret->ips[at] = *ip;
    }
}

static void shuffle(struct lookup *l) {
    for (uint32_t i = l->ret->n_ips; i > 1; i--) {
        uint32_t k = (uint32_t)rand_below(l->rand, i);
        struct ip ip = l->ret->ips[i - 1];
        l->ret->ips[i - 1] = l->ret->ips[k];
        l->ret->ips[k] = ip;
    }
}

// `host`: NULL, or the endpoint's pod must have this name.
static bool add_endpoints(struct lookup *l, const struct service *service, struct slice host) {
    uint32_t n_seen = 0;
    bool is_found = false;
    for (uint32_t i = 0; i < service->n_endpoints; i++) {
        const struct endpoint *endpoint = &service->endpoints[i];
        if (host.ptr != NULL &&
            (endpoint->workload == NULL || !slice_eq_str(host, endpoint->workload->name))) {
            continue;
        }
        is_found = true;
        if (endpoint->is_ready || service->allow_not_ready || host.ptr != NULL) {
            add_ip(l, &endpoint->ip, &n_seen);
        }
    }
    return is_found;
}

static bool is_kubernetes_name(const struct lookup *l, const struct service *service) {
    char domain[sizeof(l->snap->mesh->cluster_domain) + 8];
    snprintf(domain, sizeof(domain), "svc.%s", l->snap->mesh->cluster_domain);
    return is_below(slice_str(service->hostname), slice_str(domain));
}

static bool use_service(struct lookup *l, const struct service *service) {
    uint32_t n_seen = 0;
    // External and load balancer addresses are not what the name stands for inside the cluster.
    uint16_t n_vips = service->n_cluster_vips > 0 ? service->n_cluster_vips : service->n_vips;
    if (n_vips > 0) {
        for (uint16_t i = 0; i < n_vips; i++) {
            add_ip(l, &service->vips[i], &n_seen);
        }
    } else if (service->is_headless && is_kubernetes_name(l, service)) {
        add_endpoints(l, service, slice_make(NULL, 0));
    } else {
        return false; // nothing that we could answer with: real DNS may know
    }
    l->ret->service = service;
    return true;
}

// POD.SERVICE.NS.svc.D: a pod of a headless service, as StatefulSets have them.
static bool use_pod(struct lookup *l, struct slice name) {
    struct slice pod, host;
    if (!slice_split(name, '.', &pod, &host) || pod.len == 0) {
        return false;
    }
    const struct service *service = snapshot_service_by_host(l->snap, host, l->client->ns);
    if (service == NULL || !service->is_headless || !slice_eq_str(host, service->hostname) ||
        !is_kubernetes_name(l, service) || !add_endpoints(l, service, pod)) {
        return false;
    }
    l->ret->service = service;
    return true;
}

static bool try_name(struct lookup *l, struct slice name, bool is_exact, bool with_pods) {
    if (name.len == 0 || name.len >= DNS_HOST_MAX) {
        return false;
    }
    const struct service *service = snapshot_service_by_host(l->snap, name, l->client->ns);
    bool is_known = service != NULL && (!is_exact || slice_eq_str(name, service->hostname)) &&
                    use_service(l, service);
    is_known = is_known || (with_pods && use_pod(l, name));
    if (is_known) {
        snprintf(l->ret->target, sizeof(l->ret->target), "%.*s", SLICE_ARG(name));
    }
    return is_known;
}

static bool try_suffix(struct lookup *l, struct slice name, const char *ns, const char *svc,
                       bool with_pods) {
    char text[512];
    int len = snprintf(text, sizeof(text), "%.*s%s%s%s.%s", SLICE_ARG(name),
                       ns[0] != '\0' ? "." : "", ns, svc, l->snap->mesh->cluster_domain);
    return len > 0 && (size_t)len < sizeof(text) &&
           try_name(l, slice_make(text, (size_t)len), true, with_pods);
}

// `with_pods`: also POD.SVC and its longer forms; not for names of which a domain was taken off,
// where they would make sense of what is none.
static bool try_short(struct lookup *l, struct slice name, bool with_pods) {
    size_t n_labels = count_labels(name);
    bool has_svc = is_below(name, SLICE_LIT("svc"));
    return (n_labels == 1 && try_suffix(l, name, l->client->ns, ".svc", false)) ||
           (n_labels == 2 && try_suffix(l, name, "", ".svc", false)) ||
           (n_labels == 3 && has_svc && try_suffix(l, name, "", "", false)) ||
           (with_pods && n_labels == 2 && try_suffix(l, name, l->client->ns, ".svc", true)) ||
           (with_pods && n_labels == 3 && try_suffix(l, name, "", ".svc", true)) ||
           (with_pods && n_labels == 4 && has_svc && try_suffix(l, name, "", "", true));
}

static bool try_stripped(struct lookup *l, struct slice name, const char *domain) {
    struct slice suffix = slice_str(domain);
    if (!is_below(name, suffix)) {
        return false;
    }
    name = slice_head(name, name.len - suffix.len - 1);
    l->ret->is_alias = try_name(l, name, false, false) || try_short(l, name, false);
    return l->ret->is_alias;
}

static bool try_search_domains(struct lookup *l, struct slice name) {
    const char *d = l->snap->mesh->cluster_domain;
    char domain[512];
    snprintf(domain, sizeof(domain), "%s.svc.%s", l->client->ns, d);
    if (try_stripped(l, name, domain)) {
        return true;
    }
    snprintf(domain, sizeof(domain), "svc.%s", d);
    if (try_stripped(l, name, domain) || try_stripped(l, name, d)) {
        return true;
    }
    const char *const *own = l->client->common->local->dns_search;
    for (; own != NULL && *own != NULL; own++) {
        if (try_stripped(l, name, *own)) {
            return true;
        }
    }
    return false;
}

bool dns_resolve(const struct snapshot *snap, const struct workload *client, const char *name,
                 uint8_t family, struct rand *rand, struct dns_resolution *ret) {
    struct lookup l = {.snap = snap, .client = client, .family = family, .rand = rand, .ret = ret};
    struct slice text = slice_str(name);
    ret->service = NULL;
    ret->is_alias = false;
    ret->n_ips = 0;
    if (!try_name(&l, text, false, true) && !try_short(&l, text, true) &&
        !try_search_domains(&l, text)) {
        return false;
    }
    shuffle(&l);
    return true;
}
