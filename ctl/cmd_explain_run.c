// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/proto/hbone.h"
#include "ctl/cmd_explain_http.h"
#include "ctl/local_json.h"

static void set_text(json_t *object, const char *key, const char *text) {
    json_object_set_new(object, key, json_string(text));
}

static json_t *describe(const struct workload *workload) {
    char text[IP_TEXT_MAX];
    json_t *ips = json_array();
    for (size_t i = 0; i < workload->n_ips; i++) {
        json_array_append_new(ips, json_string(ip_text(&workload->ips[i], text)));
    }
    char *name = xasprintf("%s/%s", workload->ns, workload->name);
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s}", "workload", name, "node",
                            workload->node, "region", workload->common->locality.region, "zone",
                            workload->common->locality.zone, "ips", ips, "identity",
                            workload->common->identity);
    free(name);
    return out;
}

// ---- the destination ---------------------------------------------------------------------------

struct destination {
    char host[256]; // "" = an address
    struct addr addr;
    bool has_port;
};

static bool parse_destination(const char *to, struct destination *ret, char **ret_error) {
    struct slice text = slice_str(to), host = text, port;
    *ret = (struct destination){0};
    if (addr_parse(text, &ret->addr)) {
        ret->has_port = true;
        return true;
    }
    if (ip_parse(text, &ret->addr.ip)) {
        return true;
    }
    uint64_t number = 0;
    if (slice_split(text, ':', &host, &port)) {
        if (!slice_to_u64(port, UINT16_MAX, &number) || number == 0) {
            *ret_error = xasprintf("`%s`: the port is not a number", to);
            return false;
        }
        ret->has_port = true;
        ret->addr.port = (uint16_t)number;
    }
    while (host.len > 0 && host.ptr[host.len - 1] == '.') {
        host.len--;
    }
    if (host.len == 0 || host.len >= sizeof(ret->host)) {
        *ret_error = xasprintf("`%s` is not HOST[:PORT] or IP[:PORT]", to);
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        char c = (char)host.ptr[i];
        ret->host[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    return true;
}

// False: the flow cannot be followed further (the verdict says why).
static bool resolve(struct explain *explain, struct destination *to, bool is_captured) {
    struct explain_dns dns;
    json_t *out = json_pack("{s:s}", "host", to->host);
    json_object_set_new(explain->out, "dns", out);
    bool by_proxy = is_captured && !explain->source->no_dns_capture;
    set_text(out, "by", by_proxy ? "ztun's DNS proxy" : "the cluster's DNS");
    if (!explain_resolve(explain->snap, explain->source, to->host, &dns)) {
        set_text(out, "result", "not a name of the mesh: the upstream DNS server is asked");
        return false;
    }
    char text[IP_TEXT_MAX];
    set_text(out, "service", (const char *)dns.service->leaf.key.ptr);
    set_text(out, "name", dns.name);
    if (!ip_is_set(&dns.ip)) {
        set_text(out, "result", "the service has no address of the source's families");
        return false;
    }
    to->addr.ip = dns.ip;
    set_text(out, "address", ip_text(&dns.ip, text));
    if (!to->has_port && dns.service->n_ports > 0) {
        to->addr.port = dns.service->ports[0].port;
        to->has_port = true;
    }
    return true;
}

static void default_port(struct explain *explain, struct destination *to) {
    const struct service *service = snapshot_service_by_addr(explain->snap, &to->addr);
    if (!to->has_port) {
        bool has_port = service != NULL && service->n_ports > 0;
        to->addr.port = has_port ? service->ports[0].port : 80;
    }
}

// ---- the way -----------------------------------------------------------------------------------

static int port_index(const struct service *service, const struct service_port *port) {
    return port != NULL ? (int)(port - service->ports) : -1;
}

static int port_of(const struct service *service, uint16_t port) {
    for (int i = 0; i < service->n_ports; i++) {
        if (service->ports[i].port == port) {
            return i;
        }
    }
    return -1;
}

static json_t *trace_lines(struct slice trace) {
    json_t *lines = json_array();
    struct slice line;
    while (slice_split(trace, '\n', &line, &trace)) {
        json_array_append_new(lines, json_stringn((const char *)line.ptr, line.len));
    }
    return lines;
}

static json_t *describe_route(const struct route *route, struct slice trace) {
    static const char *const actions[] = {"PASSTHROUGH", "TCP", "HBONE", "REFUSE"};
    char text[ADDR_TEXT_MAX];
    json_t *out = json_pack("{s:s, s:o}", "action", actions[route->action % ARRAY_LEN(actions)],
                            "trace", trace_lines(trace));
    if (route->service != NULL) {
        set_text(out, "service", (const char *)route->service->leaf.key.ptr);
    }
    if (route->action == ROUTE_REFUSE) {
        set_text(out, "reason", route_refusal_text((enum route_refusal)route->refusal));
        return out;
    }
    set_text(out, "target", addr_text(&route->target, text));
    if (route->action == ROUTE_HBONE) {
        set_text(out, "authority", route->authority);
        json_object_set_new(out, "waypoint", json_boolean(route->via_waypoint));
        json_t *sans = json_array();
        for (size_t i = 0; i < route->n_sans; i++) {
            json_array_append_new(sans, json_stringn((const char *)route->sans[i].ptr,
                                                     route->sans[i].len));
        }
        json_object_set_new(out, "peerIdentities", sans);
    }
    return out;
}

static void set_verdict(struct explain *explain, bool is_allowed, const char *text) {
    json_object_set_new(explain->out, "verdict",
                        json_pack("{s:b, s:s}", "allowed", is_allowed, "text", text));
}

// From what the candidates say.
static void judge_candidates(struct explain *explain, const json_t *list) {
    size_t n_usable = 0, n_allowed = 0, i;
    json_t *item;
    const char *reason = "";
    bool is_allowed = false;
    json_array_foreach(list, i, item) {
        if (!js_bool(item, "usable", false)) {
            continue;
        }
        bool allows = js_bool(item, "inbound.allowed", true);
        n_usable++;
        n_allowed += allows;
        if (js_bool(item, "chosen", false) || n_usable == 1) {
            is_allowed = allows;
            reason = js_str(item, "inbound.reason", "");
        }
    }
    if (n_usable == 0) {
        set_verdict(explain, false, "no endpoint can take the flow");
    } else if (n_allowed > 0 && n_allowed < n_usable) {
        char *text = xasprintf("it depends on the endpoint: %zu of %zu allow it; here: %s",
                               n_allowed, n_usable, reason);
        set_verdict(explain, is_allowed, text);
        free(text);
    } else {
        set_verdict(explain, is_allowed, reason);
    }
}

static void judge_one(struct explain *explain, const struct workload *destination,
                      const struct addr *target, const char *authority) {
    json_t *inbound = explain_inbound(explain, destination, target, authority);
    char text[ADDR_TEXT_MAX];
    char *name = xasprintf("%s/%s", destination->ns, destination->name);
    json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:O}", "workload", name,
                             "target", addr_text(target, text), "node", destination->node, "zone",
                             destination->common->locality.zone, "protocol",
                             authority != NULL ? "HBONE" : "TCP", "peerIdentity",
                             authority != NULL ? destination->common->identity : "", "usable", true,
                             "chosen", true, "inbound", inbound);
    json_object_set_new(explain->out, "candidates", json_pack("[o]", item));
    set_verdict(explain, js_bool(inbound, "allowed", false), js_str(inbound, "reason", ""));
    json_decref(inbound);
    free(name);
}

// A pod without capture: the kernel connects, and kube-proxy (or the lab) picks an endpoint.
static void follow_plain(struct explain *explain, const struct addr *dst) {
    struct workload *workload = snapshot_workload_by_ip(explain->snap, &dst->ip);
    struct service *service = snapshot_service_by_addr(explain->snap, dst);
    if (workload != NULL) {
        judge_one(explain, workload, dst, NULL);
        return;
    }
    if (service == NULL) {
        set_verdict(explain, true, "the destination is not known to the mesh: nothing is checked");
        return;
    }
    int port = port_of(service, dst->port);
    if (port < 0) {
        set_verdict(explain, false, "the service has no such port");
        return;
    }
    json_t *list = explain_candidates(explain, service, port, dst, NULL, false, false);
    json_object_set_new(explain->out, "candidates", list);
    judge_candidates(explain, list);
}

static void follow_waypoint(struct explain *explain, const struct route *route,
                            const struct addr *dst) {
    struct service *waypoint = snapshot_service(explain->snap, route->waypoint);
    if (waypoint != NULL) {
        int port = port_of(waypoint, HBONE_PORT);
        json_object_set_new(explain->out, "candidates",
                            explain_candidates(explain, waypoint, port, dst, route->destination,
                                               true, true));
    }
    set_verdict(explain, true,
                "it reaches the waypoint, which decides by its own policies and goes on");
}

static void follow_http(struct explain *explain, const struct addr *dst,
                        const struct route *route) {
    struct service *service = snapshot_service_by_addr(explain->snap, dst);
    if (service != NULL) {
        bool is_taken = route != NULL && route->via_waypoint; // a canary, perhaps
        set_text(explain->out, "boundTo", is_taken ? route->waypoint : service->waypoint);
    }
    if (explain->request != NULL) {
        explain_http(explain, dst, route);
    }
}

static json_t *chosen_of(const json_t *list) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        if (js_bool(item, "chosen", false)) {
            return item;
        }
    }
    return NULL;
}

// What becomes of a request at its waypoint.
static void judge_http(struct explain *explain) {
    const json_t *http = js_get(explain->out, "http"), *answer = js_get(http, "answer");
    const json_t *destination = chosen_of(js_get(http, "destinations"));
    const json_t *endpoint = chosen_of(js_get(destination, "endpoints"));
    double percent = json_number_value(js_get(destination, "percent"));
    struct buf text;
    bool is_allowed = true;
    buf_init(&text, SIZE_MAX);
    if (answer == NULL) {
        answer = js_get(destination, "answer");
    }
    if (js_get(http, "policies") != NULL && !js_bool(http, "policies.allowed", true)) {
        is_allowed = false;
        buf_printf(&text, "the waypoint refuses the connection: %s",
                   js_str(http, "policies.reason", ""));
    } else if (answer != NULL) {
        long long status = js_int(answer, "status", 0), grpc = js_int(answer, "grpcStatus", 0);
        is_allowed = status < 400 && grpc == 0;
        buf_printf(&text, "the waypoint answers %lld", status);
        if (grpc != 0) {
            buf_printf(&text, " with grpc-status %lld", grpc);
        }
        buf_printf(&text, " by itself (%s)", js_str(answer, "details", ""));
    } else if (endpoint != NULL) {
        buf_printf(&text, "the waypoint sends it on, here to %s %s",
                   js_str(endpoint, "workload", ""), js_str(endpoint, "address", ""));
    }
    if (text.len > 0 && destination != NULL && percent < 100) {
        buf_printf(&text, "; such is the lot of %.6g %% of these requests", percent);
    }
    if (text.len > 0) {
        set_verdict(explain, is_allowed, buf_cstr(&text));
    }
    buf_fini(&text);
}

const char *explain_waypoint_ns(const struct explain *explain) {
    const struct service *waypoint =
        snapshot_service(explain->snap, js_str(explain->out, "boundTo", ""));
    return waypoint != NULL ? waypoint->ns : "";
}

static void follow_route(struct explain *explain, const struct addr *dst) {
    struct buf trace;
    struct route route;
    struct route_request request = {
        .source = explain->source, .original_dst = *dst, .rand = &explain->rand, .trace = &trace};
    buf_init(&trace, 1 << 20);
    route_outbound(explain->snap, &request, &route);
    json_object_set_new(explain->out, "route", describe_route(&route, buf_slice(&trace)));
    buf_fini(&trace);
    bool is_balanced = route.service != NULL && route.service_port != NULL &&
                       route.service->lb_mode != LB_PASSTHROUGH;
    if (route.via_waypoint) {
        follow_waypoint(explain, &route, dst);
    } else if (is_balanced) {
        int port = port_index(route.service, route.service_port);
        json_t *list =
            explain_candidates(explain, route.service, port, dst, route.destination, true, false);
        json_object_set_new(explain->out, "candidates", list);
        judge_candidates(explain, list);
    } else if (route.action == ROUTE_HBONE || (route.action == ROUTE_TCP && route.destination)) {
        bool is_hbone = route.action == ROUTE_HBONE;
        judge_one(explain, route.destination, is_hbone ? &route.inner : &route.target,
                  is_hbone ? route.authority : NULL);
    }
    follow_http(explain, dst, &route);
    judge_http(explain);
    if (route.action == ROUTE_REFUSE) {
        set_verdict(explain, false, route_refusal_text((enum route_refusal)route.refusal));
    } else if (route.action == ROUTE_PASSTHROUGH) {
        set_verdict(explain, true, "it passes through as it is: nothing of the mesh is in its way");
    }
}

bool explain_run(struct explain *explain, const char *from, const char *to, char **ret_error) {
    struct destination destination;
    explain->source = explain_find_pod(explain->snap, from, ret_error);
    if (explain->source == NULL || !parse_destination(to, &destination, ret_error)) {
        return false;
    }
    char *reason = NULL;
    bool is_captured = explain_is_captured(explain, explain->source, true, &reason);
    explain->out =
        json_pack("{s:s, s:s, s:o, s:{s:b, s:s}}", "from", from, "to", to, "source",
                  describe(explain->source), "capture", "captured", is_captured, "because", reason);
    free(reason);
    if (destination.host[0] != '\0' && !resolve(explain, &destination, is_captured)) {
        json_object_set_new(explain->out, "verdict",
                            json_pack("{s:n, s:s}", "allowed", "text",
                                      "the name has no address in the mesh; explain --to IP:PORT "
                                      "tells of the address that DNS gives"));
        return true;
    }
    default_port(explain, &destination);
    char text[ADDR_TEXT_MAX];
    set_text(explain->out, "destination", addr_text(&destination.addr, text));
    if (is_captured) {
        follow_route(explain, &destination.addr);
    } else {
        follow_http(explain, &destination.addr, NULL);
        follow_plain(explain, &destination.addr);
    }
    return true;
}
