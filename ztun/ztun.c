// SPDX-License-Identifier: Apache-2.0
#include "ztun/ztun.h"

#include <stdlib.h>

#include "common/mesh/route_wants.h"
#include "ztun/control.h"
#include "ztun/flow.h"

enum { TUNNEL_USER_TIMEOUT_MS = 30000 };

void ztun_socket_params(struct io_socket_params *ret_params, const struct zpod *zpod,
                        const struct addr *to, bool is_tunnel) {
    const struct ztun_config *config = zpod->worker->config;
    *ret_params = (struct io_socket_params){
        .netns_fd = zpod->pod->netns_fd,
        .mark = config->mark,
        .family = to->ip.family,
        .is_tunnel = is_tunnel,
        .cut_on_death = !is_tunnel,
        .keepalive_s = config->proc.keepalive ? config->proc.keepalive_s : 0,
        .keepalive_interval_s = config->proc.keepalive_interval_s,
        .keepalive_probes = config->proc.keepalive_probes,
        .user_timeout_ms = is_tunnel || config->proc.user_timeout ? TUNNEL_USER_TIMEOUT_MS : 0,
    };
}

// The application is in the same kernel, so that no peer can vanish without a word, and probes
// would only cost system calls. A virtual machine is not.
static bool needs_keepalive(const struct workload *application) {
    return application == NULL || application->common->local->virtual_interfaces[0] != '\0';
}

void ztun_application_params(struct io_socket_params *ret_params, const struct flow *flow,
                             const struct addr *to, bool as_client) {
    ztun_socket_params(ret_params, flow->zpod, to, false);
    if (!needs_keepalive(flow->destination)) {
        ret_params->keepalive_s = 0;
    }
    if (as_client && flow->zpod->pod->original_source && !ip_eq(&flow->src.ip, &to->ip) &&
        flow->src.ip.family == to->ip.family) {
        ret_params->transparent = true;
        ret_params->bind = (struct addr){.ip = flow->src.ip};
    }
}

struct workload *ztun_source(struct zworker *worker, const struct snapshot *snap,
                             const struct ip *ip) {
    char name[ROUTE_WANT_MAX];
    struct workload *source = snapshot_workload_by_ip(snap, ip);
    if (source == NULL && worker->demands.is_on && route_wants_ip(snap, ip, name)) {
        demand_hint(&worker->demands, name);
    }
    return source;
}

struct drained_mail {
    struct mail mail;
    uint64_t pod_id;
};

static void run_drained(struct mail *mail, void *owner) {
    struct drained_mail *drained = CONTAINER_OF(mail, struct drained_mail, mail);
    control_pod_drained(owner, drained->pod_id);
    free(drained);
}

void ztun_pod_drained(struct ztun *ztun, uint64_t pod_id) {
    struct drained_mail *drained = xcalloc(1, sizeof(*drained));
    drained->mail.fn = run_drained;
    drained->pod_id = pod_id;
    loop_send(ztun->control_loop, &drained->mail);
}
