// SPDX-License-Identifier: Apache-2.0
//
// Every row of the outbound table (ambient-protocols §5) and of the inbound checks (§6.1), over one
// mesh.
#include "common/mesh/route.h"

#include <stdio.h>

#include "common/base/buf.h"
#include "tests/unit/mesh/mesh_fixture.h"

static struct rand rng;

static struct workload *workload(const char *uid) {
    struct workload *w = snapshot_workload_by_uid(snapshot_current(), uid);
    assert_non_null(w);
    return w;
}

#define POD(name) workload("Kubernetes//Pod/a/" name)

static void publish_mesh(void) {
    enum { HBONE = WORKLOAD_HBONE };
    struct workload *client =
        FX_WORKLOAD("a", "client", "10.0.0.1,fd00::1", .protocol = HBONE, .node = "n1");
    struct workload *server =
        FX_WORKLOAD("a", "server", "10.0.0.2", .protocol = HBONE, .node = "n2");
    struct workload *plain = FX_WORKLOAD("a", "plain", "10.0.0.3", .node = "n1");
    struct workload *host = FX_WORKLOAD("a", "host", "192.168.0.1", .is_host_network = true);
    struct workload *sick =
        FX_WORKLOAD("a", "sick", "10.0.0.4", .protocol = HBONE, .is_terminating = true);
    struct workload *way = FX_WORKLOAD("a", "way", "10.0.0.5", .protocol = HBONE);
    struct workload *way2 = FX_WORKLOAD("a", "way2", "10.0.0.8", .protocol = HBONE);
    struct workload *bound = FX_WORKLOAD("a", "bound", "10.0.0.6", .protocol = HBONE,
                                         .common.waypoint = "a/way.a.svc.cluster.local");
    struct workload *dns = FX_WORKLOAD("a", "dns", "", .common.hostname = "example.com");
    struct workload *nobody =
        FX_WORKLOAD("a", "nobody", "10.0.0.7", .protocol = HBONE, .common.identity = "");
    const char *const sans[] = {"spiffe://cluster.local/ns/a/sa/extra"};
    struct ip node1[] = {fx_ip("192.168.0.1")}, node2[] = {fx_ip("192.168.0.2")};
    struct node n1 = {.leaf.key = SLICE_LIT("n1"), .ips = node1, .n_ips = 1};
    struct node n2 = {.leaf.key = SLICE_LIT("n2"), .ips = node2, .n_ips = 1};

    fx_publish(
        FX_SERVICE(.ns = "a", .name = "web", .vips = "10.1.0.1,fd01::1", .ports = {80, 443},
                   .node_port = 30080, .members = {server}, .more = {.sans = sans, .n_sans = 1}),
        FX_SERVICE(.ns = "a", .name = "self", .vips = "10.1.0.2", .ports = {80},
                   .members = {client}),
        FX_SERVICE(.ns = "a", .name = "plain", .vips = "10.1.0.3", .ports = {80},
                   .members = {plain}),
        FX_SERVICE(.ns = "a", .name = "empty", .vips = "10.1.0.4", .ports = {80}),
        FX_SERVICE(.ns = "a", .name = "sick", .vips = "10.1.0.5", .ports = {80}, .members = {sick}),
        FX_SERVICE(.ns = "a", .name = "way", .vips = "10.1.0.6", .ports = {80, 15008},
                   .members = {way}, .more = {.is_waypoint = true}),
        FX_SERVICE(.ns = "a", .name = "l7", .vips = "10.1.0.7", .ports = {80}, .node_port = 30087,
                   .members = {server}, .more = {.waypoint = "a/way.a.svc.cluster.local"}),
        FX_SERVICE(.ns = "a", .name = "l7gone", .vips = "10.1.0.8", .ports = {80},
                   .members = {server}, .more = {.waypoint = "a/gone.a.svc.cluster.local"}),
        FX_SERVICE(.ns = "a", .name = "l7sick", .vips = "10.1.0.9", .ports = {80},
                   .members = {server}, .more = {.waypoint = "a/sick.a.svc.cluster.local"}),
        FX_SERVICE(.ns = "a", .name = "l7ip", .vips = "10.1.0.10", .ports = {80},
                   .members = {server}, .more = {.waypoint = "10.0.0.5"}),
        FX_SERVICE(.ns = "a", .name = "way2", .vips = "10.1.0.16", .ports = {15008},
                   .members = {way2}, .more = {.is_waypoint = true}),
        FX_SERVICE(.ns = "a", .name = "l7two", .vips = "10.1.0.17", .ports = {80},
                   .members = {server},
                   .more = {.waypoint = "a/way.a.svc.cluster.local",
                            .canary = "a/way2.a.svc.cluster.local",
                            .canary_percent = 20}),
        FX_SERVICE(.ns = "a", .name = "l7half", .vips = "10.1.0.18", .ports = {80},
                   .members = {server},
                   .more = {.waypoint = "a/way.a.svc.cluster.local",
                            .canary = "a/gone.a.svc.cluster.local",
                            .canary_percent = 50}),
        FX_SERVICE(.ns = "a", .name = "none", .hostname = "none.example.com", .vips = "240.240.0.1",
                   .ports = {80}, .more = {.lb_mode = LB_PASSTHROUGH, .is_external = true}),
        FX_SERVICE(.ns = "a", .name = "ext", .hostname = "example.com", .vips = "240.240.0.2",
                   .ports = {443}, .members = {dns}, .more = {.is_external = true}),
        FX_SERVICE(.ns = "a", .name = "local", .vips = "10.1.0.11", .ports = {80},
                   .node_port = 30090, .members = {server, plain},
                   .more = {.is_external_local = true}),
        FX_SERVICE(.ns = "a", .name = "lb", .vips = "10.1.0.12,192.168.0.2", .ports = {80},
                   .members = {server}),
        FX_SERVICE(.ns = "a", .name = "host", .vips = "10.1.0.13", .ports = {80},
                   .members = {host}),
        FX_SERVICE(.ns = "a", .name = "head", .ports = {80}, .members = {server},
                   .more = {.is_headless = true}),
        FX_SERVICE(.ns = "a", .name = "range", .ranges = "10.7.0.0/16,10.0.0.0/24", .ports = {80},
                   .members = {server}),
        FX_SERVICE(.ns = "a", .name = "l7range", .vips = "10.1.0.19", .ranges = "10.7.7.0/24",
                   .ports = {80}, .members = {server},
                   .more = {.waypoint = "a/way.a.svc.cluster.local"}),
        node_new(&n1), node_new(&n2), client, server, plain, host, sick, way, way2, bound, dns,
        nobody, NULL);
}

static int setup(void **state) {
    fx_init();
    rand_seed(&rng, 1);
    publish_mesh();
    return 0;
}

static int teardown(void **state) {
    fx_fini();
    return 0;
}

#define WEB "web.a.svc.cluster.local"
#define ID(name) "spiffe://cluster.local/ns/a/sa/" name

struct outbound_case {
    const char *what, *dst;
    int action;
    const char *target, *authority; // authority "" unless HBONE
    const char *destination; // workload name, "" = none
    const char *host; // service, "" = none
    const char *sans[2];
    int refusal;
};

#define TO(what, dst, action, target, authority, destination, host, ...)                           \
    { what, dst, action, target, authority, destination, host, {__VA_ARGS__}, ROUTE_OK }
#define NO(what, dst, refusal, destination, host)                                                  \
    { what, dst, ROUTE_REFUSE, "", "", destination, host, {NULL}, refusal }

static const struct outbound_case outbound_cases[] = {
    // row 1
    NO("own port on loopback", "127.0.0.1:15001", ROUTE_ILLEGAL_PORT, "", ""),
    NO("own port on own address", "10.0.0.1:15008", ROUTE_ILLEGAL_PORT, "", ""),
    NO("own port on own IPv6", "[fd00::1]:15006", ROUTE_ILLEGAL_PORT, "", ""),
    TO("that port elsewhere: its ztun refuses", "10.0.0.2:15008", ROUTE_HBONE, "10.0.0.2:15008",
       "10.0.0.2:15008", "server", "", ID("server")),
    // rows 10, 11 by workload address
    TO("meshed pod", "10.0.0.2:9000", ROUTE_HBONE, "10.0.0.2:15008", "10.0.0.2:9000", "server", "",
       ID("server")),
    TO("plain pod", "10.0.0.3:9000", ROUTE_TCP, "10.0.0.3:9000", "", "plain", "", NULL),
    TO("self", "10.0.0.1:9000", ROUTE_HBONE, "10.0.0.1:15008", "10.0.0.1:9000", "client", "",
       ID("client")),
    TO("unhealthy pod by address", "10.0.0.4:80", ROUTE_HBONE, "10.0.0.4:15008", "10.0.0.4:80",
       "sick", "", ID("sick")),
    NO("pod without identity", "10.0.0.7:80", ROUTE_NO_ENDPOINT, "nobody", ""),
    // by a service's range, which workloads and VIPs go before
    TO("range", "10.7.0.9:80", ROUTE_HBONE, "10.0.0.2:15008", "10.0.0.2:8080", "server",
       "range.a.svc.cluster.local", ID("server")),
    NO("range, no such port", "10.7.0.9:81", ROUTE_NO_PORT, "", "range.a.svc.cluster.local"),
    TO("pod in a range", "10.0.0.3:80", ROUTE_TCP, "10.0.0.3:80", "", "plain", "", NULL),
    TO("longer range, with a waypoint that is told the address called", "10.7.7.9:80", ROUTE_HBONE,
       "10.0.0.5:23008", "10.7.7.9:80", "way", "l7range.a.svc.cluster.local", ID("way")),
    // rows 10, 11 by service
    TO("service", "10.1.0.1:80", ROUTE_HBONE, "10.0.0.2:15008", "10.0.0.2:8080", "server", WEB,
       ID("server"), ID("extra")),
    TO("second port", "10.1.0.1:443", ROUTE_HBONE, "10.0.0.2:15008", "10.0.0.2:8443", "server", WEB,
       ID("server"), ID("extra")),
    TO("service over IPv6, endpoint has IPv4", "[fd01::1]:80", ROUTE_HBONE, "10.0.0.2:15008",
       "10.0.0.2:8080", "server", WEB, ID("server"), ID("extra")),
    TO("service that picks the caller", "10.1.0.2:80", ROUTE_HBONE, "10.0.0.1:15008",
       "10.0.0.1:8080", "client", "self.a.svc.cluster.local", ID("client")),
    TO("plain endpoint", "10.1.0.3:80", ROUTE_TCP, "10.0.0.3:8080", "", "plain",
       "plain.a.svc.cluster.local", NULL),
    TO("host network endpoint", "10.1.0.13:80", ROUTE_TCP, "192.168.0.1:8080", "", "host",
       "host.a.svc.cluster.local", NULL),
    // row 6
    NO("unknown port", "10.1.0.1:81", ROUTE_NO_PORT, "", WEB),
    NO("no endpoint", "10.1.0.4:80", ROUTE_NO_ENDPOINT, "", "empty.a.svc.cluster.local"),
    NO("no healthy endpoint", "10.1.0.5:80", ROUTE_NO_ENDPOINT, "", "sick.a.svc.cluster.local"),
    // rows 3, 9
    TO("waypoint of a service", "10.1.0.7:80", ROUTE_HBONE, "10.0.0.5:23008", "10.1.0.7:80", "way",
       "l7.a.svc.cluster.local", ID("way")),
    TO("waypoint by address", "10.1.0.10:80", ROUTE_HBONE, "10.0.0.5:15008", "10.1.0.10:80", "way",
       "l7ip.a.svc.cluster.local", ID("way")),
    TO("waypoint of a workload", "10.0.0.6:9000", ROUTE_HBONE, "10.0.0.5:23008", "10.0.0.6:9000",
       "way", "", ID("way")),
    NO("unknown waypoint", "10.1.0.8:80", ROUTE_NO_WAYPOINT, "", "l7gone.a.svc.cluster.local"),
    NO("sick waypoint", "10.1.0.9:80", ROUTE_NO_WAYPOINT, "", "l7sick.a.svc.cluster.local"),
    // row 5, ServiceEntries
    TO("resolution NONE", "240.240.0.1:80", ROUTE_PASSTHROUGH, "240.240.0.1:80", "", "",
       "none.example.com", NULL),
    TO("resolution NONE, any port", "240.240.0.1:81", ROUTE_PASSTHROUGH, "240.240.0.1:81", "", "",
       "none.example.com", NULL),
    NO("host name not resolved", "240.240.0.2:443", ROUTE_UNRESOLVED, "", "example.com"),
    // row 7
    TO("unknown", "1.1.1.1:443", ROUTE_PASSTHROUGH, "1.1.1.1:443", "", "", "", NULL),
    TO("host network pod by address", "192.168.0.1:9000", ROUTE_PASSTHROUGH, "192.168.0.1:9000", "",
       "", "", NULL),
    // node ports
    TO("node port", "192.168.0.1:30080", ROUTE_HBONE, "10.0.0.2:15008", "10.0.0.2:8080", "server",
       WEB, ID("server"), ID("extra")),
    TO("node port with a waypoint", "192.168.0.1:30087", ROUTE_HBONE, "10.0.0.5:23008",
       "10.1.0.7:80", "way", "l7.a.svc.cluster.local", ID("way")),
    TO("no such node port", "192.168.0.1:30081", ROUTE_PASSTHROUGH, "192.168.0.1:30081", "", "", "",
       NULL),
    TO("node port, policy Local: node 1", "192.168.0.1:30090", ROUTE_TCP, "10.0.0.3:8080", "",
       "plain", "local.a.svc.cluster.local", NULL),
    TO("node port, policy Local: node 2", "192.168.0.2:30090", ROUTE_HBONE, "10.0.0.2:15008",
       "10.0.0.2:8080", "server", "local.a.svc.cluster.local", ID("server")),
    TO("load balancer on a node's address", "192.168.0.2:80", ROUTE_HBONE, "10.0.0.2:15008",
       "10.0.0.2:8080", "server", "lb.a.svc.cluster.local", ID("server")),
    TO("another port there is the node's", "192.168.0.2:22", ROUTE_PASSTHROUGH, "192.168.0.2:22",
       "", "", "", NULL),
};

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

static void check_route(const struct outbound_case *c, const struct route *route) {
    char text[ADDR_TEXT_MAX];
    if (route->action != c->action || route->refusal != c->refusal) {
        fail_msg("%s: action %d refusal %d", c->what, route->action, route->refusal);
    }
    assert_string_equal(route->authority, or_empty(c->authority));
    assert_string_equal(route->destination != NULL ? route->destination->name : "",
                        or_empty(c->destination));
    assert_string_equal(route->hostname, or_empty(c->host));
    assert_int_equal(route->service != NULL, or_empty(c->host)[0] != '\0');
    if (c->action != ROUTE_REFUSE) {
        assert_string_equal(addr_text(&route->target, text), c->target);
    }
    if (c->action == ROUTE_HBONE) {
        assert_string_equal(addr_text(&route->inner, text), c->authority);
    }
    uint16_t n_sans = 0;
    for (size_t i = 0; i < 2 && c->sans[i] != NULL; i++) {
        assert_slice_equal(route->sans[n_sans++], c->sans[i]);
    }
    assert_int_equal(route->n_sans, n_sans);
}

// Without choosing an endpoint: the same way.
static void check_binding(const struct outbound_case *c, const struct route *route) {
    struct addr dst = fx_addr(c->dst);
    struct route_binding binding = {.waypoint = ""};
    bool is_known = route_binding(snapshot_current(), POD("client"), &dst, &binding);
    bool is_bound = route->via_waypoint || route->refusal == ROUTE_NO_WAYPOINT;
    if (is_bound != (binding.waypoint[0] != '\0')) {
        fail_msg("%s: bound to %s", c->what, binding.waypoint);
    }
    assert_string_equal(route->waypoint, binding.waypoint);
    if (route->service != NULL || route->destination != NULL) {
        assert_true(is_known);
    }
}

static void test_outbound(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(outbound_cases); i++) {
        const struct outbound_case *c = &outbound_cases[i];
        struct buf trace;
        buf_init(&trace, 65536);
        struct route_request request = {
            .source = POD("client"), .original_dst = fx_addr(c->dst), .rand = &rng};
        struct route route;
        route_outbound(snapshot_current(), &request, &route);
        check_route(c, &route);
        if (route.action != ROUTE_REFUSE || route.refusal == ROUTE_NO_WAYPOINT) {
            check_binding(c, &route);
        }
        request.trace = &trace; // decides the same
        route_outbound(snapshot_current(), &request, &route);
        check_route(c, &route);
        assert_true(trace.len > 0 || c->action == ROUTE_PASSTHROUGH);
        buf_fini(&trace);
    }
}

static void test_no_source(void **state) {
    struct route_request request = {.original_dst = fx_addr("10.1.0.1:80"), .rand = &rng};
    struct route route;
    route_outbound(snapshot_current(), &request, &route); // row 0
    assert_int_equal(route.action, ROUTE_REFUSE);
    assert_int_equal(route.refusal, ROUTE_NO_SOURCE);
}

static void test_registry_only(void **state) {
    struct mesh_settings mesh = *snapshot_current()->mesh;
    mesh.outbound_registry_only = true;
    struct snapshot *draft = snapshot_draft();
    snapshot_set_mesh(draft, &mesh);
    snapshot_publish(draft);
    const struct {
        const char *dst;
        int action;
    } cases[] = {
        {"1.1.1.1:443", ROUTE_REFUSE},
        {"240.240.0.1:80", ROUTE_PASSTHROUGH}, // registered
        {"10.1.0.1:80", ROUTE_HBONE},
        {"10.0.0.3:80", ROUTE_TCP},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct route_request request = {
            .source = POD("client"), .original_dst = fx_addr(cases[i].dst), .rand = &rng};
        struct route route;
        route_outbound(snapshot_current(), &request, &route);
        assert_int_equal(route.action, cases[i].action);
        assert_int_equal(route.refusal, route.action == ROUTE_REFUSE ? ROUTE_BLOCKED : ROUTE_OK);
    }
}

// The waypoint itself goes straight to the workloads that it stands for.
static void test_from_waypoint(void **state) {
    const char *const dsts[] = {"10.1.0.7:80", "10.1.0.10:80", "10.0.0.6:8080"};
    const char *const authorities[] = {"10.0.0.2:8080", "10.0.0.2:8080", "10.0.0.6:8080"};
    for (size_t i = 0; i < ARRAY_LEN(dsts); i++) {
        struct route_request request = {
            .source = POD("way"), .original_dst = fx_addr(dsts[i]), .rand = &rng};
        struct route route;
        route_outbound(snapshot_current(), &request, &route);
        assert_int_equal(route.action, ROUTE_HBONE);
        assert_false(route.via_waypoint);
        assert_string_equal(route.authority, authorities[i]);
        struct route_binding binding;
        assert_true(route_binding(snapshot_current(), POD("way"), &request.original_dst, &binding));
        assert_string_equal(binding.waypoint, "");
    }
}

// How many of 2000 flows to an address go through a waypoint's pod, and how many nowhere.
static void count_ways(const char *pod, const char *dst, unsigned *ret_way, unsigned *ret_way2,
                       unsigned *ret_refused) {
    *ret_way = *ret_way2 = *ret_refused = 0;
    for (int i = 0; i < 2000; i++) {
        struct route_request request = {
            .source = workload(pod), .original_dst = fx_addr(dst), .rand = &rng};
        struct route route;
        route_outbound(snapshot_current(), &request, &route);
        *ret_refused += route.action == ROUTE_REFUSE;
        *ret_way += route.via_waypoint && strcmp(route.destination->name, "way") == 0;
        *ret_way2 += route.via_waypoint && strcmp(route.destination->name, "way2") == 0;
        if (route.via_waypoint) { // what it says it took is what it took
            char key[64];
            snprintf(key, sizeof(key), "a/%s.a.svc.cluster.local", route.destination->name);
            assert_string_equal(route.waypoint, key);
            assert_slice_equal(route.sans[0], route.destination->common->identity);
        }
    }
}

static void test_canary(void **state) {
    unsigned way, way2, refused;
    count_ways("Kubernetes//Pod/a/client", "10.1.0.17:80", &way, &way2, &refused);
    assert_in_range(way2, 330, 470); // 20 % of 2000: 400, and 4 times its deviation
    assert_int_equal(way + way2, 2000);
    // Of the share of one that is gone nothing falls to the other.
    count_ways("Kubernetes//Pod/a/client", "10.1.0.18:80", &way, &way2, &refused);
    assert_in_range(refused, 910, 1090);
    assert_int_equal(way + refused, 2000);
    // Both waypoints go straight to the workloads.
    static const char *const own[] = {"Kubernetes//Pod/a/way", "Kubernetes//Pod/a/way2"};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        count_ways(own[i], "10.1.0.17:80", &way, &way2, &refused);
        assert_int_equal(way + way2 + refused, 0);
        struct addr dst = fx_addr("10.1.0.17:80");
        struct route_binding binding;
        assert_true(route_binding(snapshot_current(), workload(own[i]), &dst, &binding));
        assert_string_equal(binding.waypoint, "");
        assert_string_equal(binding.canary, "");
        // And take what is meant for it.
        struct inbound_request in = {.local = workload(own[i]),
                                     .authority = SLICE_LIT("10.1.0.17:80")};
        struct inbound_target target;
        route_inbound(snapshot_current(), &in, &target);
        assert_int_equal(target.status, 200);
    }
    struct inbound_request in = {.local = POD("plain"), .authority = SLICE_LIT("10.1.0.17:80")};
    struct inbound_target target;
    route_inbound(snapshot_current(), &in, &target);
    assert_int_equal(target.status, 400);
}

static void test_tried(void **state) {
    const char *const dsts[] = {"10.1.0.1:80", "10.0.0.2:80", "10.1.0.7:80", "10.1.0.10:80"};
    const int refusals[] = {ROUTE_NO_ENDPOINT, ROUTE_NO_ENDPOINT, ROUTE_NO_WAYPOINT,
                            ROUTE_NO_WAYPOINT};
    for (size_t i = 0; i < ARRAY_LEN(dsts); i++) {
        struct route_request request = {
            .source = POD("client"), .original_dst = fx_addr(dsts[i]), .rand = &rng};
        struct route route;
        route_outbound(snapshot_current(), &request, &route);
        assert_int_equal(route.action, ROUTE_HBONE);
        request.tried[request.n_tried++] = route.target.ip;
        route_outbound(snapshot_current(), &request, &route);
        assert_int_equal(route.action, ROUTE_REFUSE);
        assert_int_equal(route.refusal, refusals[i]);
    }
}

static void test_resolved(void **state) {
    struct workload *dns =
        FX_WORKLOAD("a", "dns", "93.184.216.34,2001:db8::1", .common.hostname = "example.com");
    struct service *ext =
        FX_SERVICE(.ns = "a", .name = "ext", .hostname = "example.com", .vips = "240.240.0.2",
                   .ports = {443}, .members = {dns}, .more = {.is_external = true});
    fx_publish(dns, ext, NULL);
    struct route_request request = {
        .source = POD("client"), .original_dst = fx_addr("240.240.0.2:443"), .rand = &rng};
    struct route route;
    char text[ADDR_TEXT_MAX];
    route_outbound(snapshot_current(), &request, &route);
    assert_int_equal(route.action, ROUTE_TCP);
    assert_string_equal(addr_text(&route.target, text), "93.184.216.34:8443");
}

static void test_inbound(void **state) {
    const struct {
        const char *local, *authority;
        int status;
        const char *upstream;
    } cases[] = {
        {"Kubernetes//Pod/a/server", "10.0.0.2:8080", 200, "10.0.0.2:8080"},
        {"Kubernetes//Pod/a/client", "[fd00::1]:8080", 200, "[fd00::1]:8080"},
        {"Kubernetes//Pod/a/server", "10.0.0.3:8080", 400, NULL}, // another pod
        {"Kubernetes//Pod/a/server", "10.1.0.1:80", 400, NULL}, // a VIP
        {"Kubernetes//Pod/a/server", "127.0.0.1:80", 400, NULL},
        {"Kubernetes//Pod/a/server", "1.2.3.4:80", 400, NULL},
        {"Kubernetes//Pod/a/server", "10.0.0.2", 400, NULL},
        {"Kubernetes//Pod/a/server", "10.0.0.2:0", 400, NULL},
        {"Kubernetes//Pod/a/server", "10.0.0.2:65536", 400, NULL},
        {"Kubernetes//Pod/a/server", "", 400, NULL},
        {"Kubernetes//Pod/a/server", ":80", 400, NULL},
        {"Kubernetes//Pod/a/server", "10.0.0.2:15001", 503, NULL},
        {"Kubernetes//Pod/a/server", "10.0.0.2:15006", 503, NULL},
        {"Kubernetes//Pod/a/server", "10.0.0.2:15008", 503, NULL},
        {"Kubernetes//Pod/a/server", WEB ":80", 200, "10.0.0.2:8080"},
        {"Kubernetes//Pod/a/server", WEB ":443", 200, "10.0.0.2:8443"},
        {"Kubernetes//Pod/a/server", WEB ":81", 503, NULL},
        {"Kubernetes//Pod/a/plain", WEB ":80", 503, NULL}, // not its endpoint
        {"Kubernetes//Pod/a/server", "nosuch.a.svc.cluster.local:80", 503, NULL},
        // the pod is the waypoint of what the authority names
        {"Kubernetes//Pod/a/way", "10.1.0.7:80", 200, "10.0.0.5:80"},
        {"Kubernetes//Pod/a/way", "10.1.0.10:80", 200, "10.0.0.5:80"},
        {"Kubernetes//Pod/a/way", "10.0.0.6:9000", 200, "10.0.0.5:9000"},
        {"Kubernetes//Pod/a/way", "l7.a.svc.cluster.local:80", 200, "10.0.0.5:80"},
        {"Kubernetes//Pod/a/way", "10.1.0.1:80", 400, NULL},
    };
    char text[ADDR_TEXT_MAX];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct inbound_request request = {.local = workload(cases[i].local),
                                          .authority = slice_str(cases[i].authority)};
        struct inbound_target target;
        route_inbound(snapshot_current(), &request, &target);
        if (target.status != cases[i].status) {
            fail_msg("%s at %s: %d %s", cases[i].authority, cases[i].local, target.status,
                     target.reason);
        }
        if (cases[i].upstream != NULL) {
            assert_string_equal(addr_text(&target.upstream, text), cases[i].upstream);
        } else {
            assert_true(target.reason[0] != '\0');
        }
    }
    struct inbound_request unknown = {.authority = SLICE_LIT("10.0.0.2:80")};
    struct inbound_target target;
    route_inbound(snapshot_current(), &unknown, &target);
    assert_int_equal(target.status, 503);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_outbound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_source, setup, teardown),
        cmocka_unit_test_setup_teardown(test_registry_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_waypoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_canary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tried, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resolved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inbound, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
