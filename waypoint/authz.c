// SPDX-License-Identifier: Apache-2.0
#include "waypoint/authz.h"

#include "waypoint/conn.h"
#include "waypoint/waypoint.h"

void authz_check(const struct wconn *conn, const struct snapshot *snap,
                 struct rbac_verdict *ret_verdict) {
    const struct waypoint_config *config = conn->worker->config;
    char key[512];
    const struct service *own = snapshot_service(snap, waypoint_service_key(config, snap, key));
    struct rbac_target target = {
        .service = conn->service,
        .gateway_ns = config->ns,
        .gateway = config->name,
        .gateway_class = own != NULL ? own->gateway_class : "",
    };
    struct rbac_request request = {
        .source_ip = conn->client.ip,
        .source_identity = conn->client_id,
        .destination = conn->dst,
    };
    rbac_check_waypoint(snap, &target, &request, ret_verdict);
}
