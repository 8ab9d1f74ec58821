// SPDX-License-Identifier: Apache-2.0
#include "waypoint/authz.h"

#include "waypoint/conn.h"
#include "waypoint/waypoint.h"

void authz_check(const struct wconn *conn, const struct snapshot *snap,
                 struct rbac_verdict *ret_verdict) {
    static const char *const classes[] = {"istio-waypoint", "ztun-waypoint"};
    const struct waypoint_config *config = conn->worker->config;
    struct rbac_target target = {
        .service = conn->service,
        .gateway_ns = config->ns,
        .gateway = config->name,
        .classes = classes,
        .n_classes = ARRAY_LEN(classes),
    };
    struct rbac_request request = {
        .source_ip = conn->client.ip,
        .source_identity = conn->client_id,
        .destination = conn->dst,
    };
    rbac_check_waypoint(snap, &target, &request, ret_verdict);
}
