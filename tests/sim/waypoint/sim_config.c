// SPDX-License-Identifier: Apache-2.0
//
// The mesh of a run: service "web" with one to four endpoints, "shadow" for mirrors, routes for
// every kind of sim_route, and a DestinationRule with limits that are drawn again now and then.
#include <stdio.h>

#include "common/base/buf.h"
#include "tests/sim/waypoint/sim_waypoint.h"

static const char *const names[SIM_N_KINDS] = {"web", "shadow", "bytes"};

static void put_services(struct sim *sim, struct buf *yaml) {
    buf_append_str(yaml, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    for (int i = 0; i < SIM_N_KINDS; i++) {
        const char *protocol = i == SIM_BYTES                  ? "tcp"
                               : i == SIM_WEB && sim->is_h2_up ? "http2"
                                                               : "http";
        buf_printf(yaml,
                   "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\n"
                   "spec: {clusterIP: 10.9.0.%d, selector: {app: %s}, ports: [{name: %s, port: 80, "
                   "targetPort: 8080}]}\n",
                   names[i], i + 1, names[i], protocol);
    }
}

static void put_hosts(struct sim *sim, struct buf *yaml) {
    for (int kind = 0; kind < SIM_N_KINDS; kind++) {
        for (uint32_t i = 0; i < sim->n_hosts[kind]; i++) {
            const struct sim_host *host = &sim->hosts[kind][i];
            char ip[IP_TEXT_MAX];
            buf_printf(yaml,
                       "---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s-%u, namespace: shop, "
                       "labels: {app: %s}}\nspec: {nodeName: n1, containers: [{name: a}]}\n"
                       "status: {phase: Running, podIP: %s, conditions: [{type: Ready, status: "
                       "'%s'}]}\n",
                       names[kind], i, names[kind], ip_text(&host->addr.ip, ip),
                       host->is_ready ? "True" : "False");
        }
    }
}

static void put_routes(struct sim *sim, struct buf *yaml) {
    static const char to_web[] = "route: [{destination: {host: web}}]";
    buf_printf(yaml,
               "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
               "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web]\n  http:\n"
               "  - {name: none, match: [{uri: {prefix: /none/}}], retries: {attempts: 0}, %s}\n"
               "  - {name: retry, match: [{uri: {prefix: /retry/}}], retries: {attempts: 3, "
               "perTryTimeout: %ums, retryOn: '5xx,reset,connect-failure,refused-stream'}, "
               "timeout: %us, %s}\n"
               "  - {name: timeout, match: [{uri: {prefix: /timeout/}}], timeout: %ums, %s}\n",
               to_web, sim->has_faults ? 300 : 20000, sim->has_faults ? 2 : 60, to_web,
               sim->has_faults ? 400 : 30000, to_web);
    buf_printf(yaml,
               "  - {name: fault, match: [{uri: {prefix: /fault/}}], fault: {delay: {percentage: "
               "{value: 50}, fixedDelay: 100ms}, abort: {percentage: {value: %d}, httpStatus: "
               "418}}, %s}\n"
               "  - {name: mirror, match: [{uri: {prefix: /mirror/}}], mirror: {host: shadow}, "
               "%s}\n"
               "  - {name: direct, match: [{uri: {prefix: /direct/}}], directResponse: {status: "
               "200, body: {string: 'a direct answer'}}}\n"
               "  - {name: redirect, match: [{uri: {prefix: /redirect/}}], redirect: {uri: /new}}\n"
               "  - {name: nowhere, match: [{uri: {prefix: /nowhere/}}], route: [{destination: "
               "{host: nobody}}]}\n"
               "  - {name: plain, %s}\n",
               sim->has_faults ? 30 : 0, to_web, to_web, to_web);
}

// A limit that is small now and then.
static uint32_t limit(struct sim *sim) {
    return sim_is_bad(sim, 1, 3) ? (uint32_t)rand_range(&sim->rand, 1, 4) : 1000;
}

static void put_policy(struct sim *sim, struct buf *yaml) {
    static const char *const kinds[] = {"LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"};
    uint32_t n_connections = limit(sim), n_pending = limit(sim), n_requests = limit(sim);
    buf_printf(yaml,
               "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
               "metadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n"
               "    loadBalancer: {simple: %s}\n"
               "    connectionPool:\n"
               "      tcp: {maxConnections: %u, connectTimeout: %ums}\n"
               "      http: {http1MaxPendingRequests: %u, http2MaxRequests: %u, maxRetries: %u, "
               "maxRequestsPerConnection: %u, idleTimeout: %ums%s}\n",
               kinds[rand_below(&sim->rand, 3)], n_connections, sim->has_faults ? 500 : 10000,
               n_pending, n_requests, limit(sim),
               sim_chance(sim, 1, 3) ? (uint32_t)rand_range(&sim->rand, 1, 3) : 0,
               sim_chance(sim, 1, 2) ? 300 : 60000,
               sim_chance(sim, 1, 3) ? ", useClientProtocol: true" : "");
    if (sim_is_bad(sim, 1, 2)) {
        buf_append_str(yaml, "    outlierDetection: {consecutive5xxErrors: 2, interval: 300ms, "
                             "baseEjectionTime: 500ms, maxEjectionPercent: 60}\n");
    }
}

static void put_flow_policy(struct sim *sim, struct buf *yaml) {
    buf_printf(yaml,
               "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
               "metadata: {name: bytes, namespace: shop}\nspec:\n  host: bytes\n  trafficPolicy:\n"
               "    connectionPool: {tcp: {maxConnections: %u, connectTimeout: %ums, idleTimeout: "
               "%us}}\n%s",
               limit(sim), sim->has_faults ? 500 : 10000, sim->has_faults ? 5 : 600,
               sim_chance(sim, 1, 4) ? "    proxyProtocol: {version: V2}\n" : "");
}

static void apply(struct sim *sim, struct buf *yaml) {
    sim->n_loads++;
    sim_tracef(sim, "configuration %u", sim->n_loads);
    wbed_apply(&sim->bed, buf_cstr(yaml));
    buf_fini(yaml);
}

void sim_config_start(struct sim *sim) {
    struct buf yaml;
    buf_init(&yaml, SIZE_MAX);
    put_services(sim, &yaml);
    put_hosts(sim, &yaml);
    put_routes(sim, &yaml);
    put_policy(sim, &yaml);
    put_flow_policy(sim, &yaml);
    apply(sim, &yaml);
}

void sim_config_change(struct sim *sim) {
    struct buf yaml;
    buf_init(&yaml, SIZE_MAX);
    if (sim_chance(sim, 1, 2)) { // endpoints come and go; one always stays where nothing may fail
        int kind = sim_chance(sim, 1, 2) ? SIM_WEB : (int)rand_below(&sim->rand, SIM_N_KINDS);
        uint32_t i = (uint32_t)rand_below(&sim->rand, sim->n_hosts[kind]);
        if (sim->has_faults || i > 0) {
            sim->hosts[kind][i].is_ready = sim_chance(sim, 1, 2);
        }
        put_hosts(sim, &yaml);
    } else {
        put_policy(sim, &yaml);
        put_flow_policy(sim, &yaml);
    }
    if (sim_chance(sim, 1, 4)) {
        put_routes(sim, &yaml);
    }
    apply(sim, &yaml);
}
