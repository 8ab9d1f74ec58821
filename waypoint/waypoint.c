// SPDX-License-Identifier: Apache-2.0
#include "waypoint/waypoint.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/mesh/route_waypoint.h"
#include "common/mesh/snapshot.h"

enum { TUNNEL_USER_TIMEOUT_MS = 30000 };

const char *waypoint_identity_id(const struct waypoint_config *config, const struct snapshot *snap,
                                 char text[SPIFFE_TEXT_MAX]) {
    snprintf(text, SPIFFE_TEXT_MAX, "spiffe://%s/ns/%s/sa/%s", snap->mesh->trust_domain, config->ns,
             config->service_account);
    return text;
}

const char *waypoint_service_key(const struct waypoint_config *config, const struct snapshot *snap,
                                 char text[512]) {
    if (!route_waypoint_key(snap, config->ns, config->name, text)) {
        text[0] = '\0'; // such a name is nobody's
    }
    return text;
}

struct tls_ctx *waypoint_tls(const struct waypoint_config *config, const struct snapshot *snap) {
    char text[SPIFFE_TEXT_MAX];
    struct identity *identity = snapshot_identity(snap, waypoint_identity_id(config, snap, text));
    if (identity == NULL || identity->tls == NULL ||
        tls_ctx_not_after(identity->tls) < clock_wall_s()) {
        return NULL;
    }
    return identity->tls;
}

struct workload *waypoint_workload(const struct waypoint_config *config,
                                   const struct snapshot *snap) {
    char uid[768];
    int len = snprintf(uid, sizeof(uid), "%s//Pod/%s/%s", snap->mesh->cluster_id, config->ns,
                       config->pod_name);
    if (config->pod_name[0] == '\0' || len <= 0 || (size_t)len >= sizeof(uid)) {
        return NULL;
    }
    return snapshot_workload_by_uid(snap, uid);
}

void waypoint_socket_params(const struct waypoint_config *config, const struct addr *to,
                            bool is_tunnel, struct io_socket_params *ret_params) {
    *ret_params = (struct io_socket_params){
        .netns_fd = -1,
        .family = to->ip.family,
        .is_tunnel = is_tunnel,
        .cut_on_death = !is_tunnel,
        .keepalive_s = config->proc.keepalive ? config->proc.keepalive_s : 0,
        .keepalive_interval_s = config->proc.keepalive_interval_s,
        .keepalive_probes = config->proc.keepalive_probes,
        .user_timeout_ms = is_tunnel || config->proc.user_timeout ? TUNNEL_USER_TIMEOUT_MS : 0,
    };
}
