// SPDX-License-Identifier: Apache-2.0
//
// Services of istiod, each field; the rest is in test_xds_decode.c.
#include "common/mesh/xds_decode.h"

#include "tests/unit/mesh/xds_decode_bed.h"
#include "tests/unit/mesh/xds_fixture.h"

#define SERVICE_KEY "shop/web.shop.svc.cluster.local"

struct full_service {
    Xds__Service s;
    Xds__NetworkAddress address[3], *addresses[3];
    Xds__Port port[3], *ports[3];
    ProtobufCBinaryData sans[1];
    Xds__GatewayAddress waypoint, weighted[3];
    Xds__NamespacedHostname hostname, hostnames[3];
    Xds__LoadBalancing lb;
    int32_t scopes[8];
    Xds__WeightedWaypoint weight[3], *weights[3];
};

static void fill_waypoint(Xds__GatewayAddress *waypoint, Xds__NamespacedHostname *hostname,
                          const char *host) {
    xds__gateway_address__init(waypoint);
    xds__namespaced_hostname__init(hostname);
    waypoint->destination_case = XDS__GATEWAY_ADDRESS__DESTINATION_HOSTNAME;
    waypoint->hostname = hostname;
    waypoint->hbone_mtls_port = 15008;
    hostname->namespace_ = fx_bytes("infra");
    hostname->hostname = fx_bytes(host);
}

static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 9};

static void fill_service(struct full_service *f) {
    static const char *const hosts[] = {"one", "two", "three"};
    *f = (struct full_service){.s = XDS__SERVICE__INIT, .lb = XDS__LOAD_BALANCING__INIT};
    for (int i = 0; i < 3; i++) {
        xds__network_address__init(&f->address[i]);
        xds__port__init(&f->port[i]);
        xds__weighted_waypoint__init(&f->weight[i]);
        fill_waypoint(&f->weighted[i], &f->hostnames[i], hosts[i]);
        f->addresses[i] = &f->address[i];
        f->ports[i] = &f->port[i];
        f->weight[i].destination = &f->weighted[i];
        f->weight[i].weight = (uint32_t)i + 1;
        f->weights[i] = &f->weight[i];
    }
    Xds__Service *s = &f->s;
    s->name = fx_bytes("web");
    s->namespace_ = fx_bytes("shop");
    s->hostname = fx_bytes("web.shop.svc.cluster.local");
    f->address[0].address = fx_raw(xds_v4, 4);
    f->address[1].address = fx_raw(xds_v6, 16);
    f->address[1].optional_length_case = XDS__NETWORK_ADDRESS__OPTIONAL_LENGTH_LENGTH;
    f->address[1].length = 128;
    f->address[2].address = fx_raw(xds_v4, 4);
    f->address[2].network = fx_bytes("far");
    s->addresses = f->addresses;
    s->n_addresses = 3;
    f->port[0].service_port = 80;
    f->port[0].target_port = 8080;
    f->port[0].app_protocol = 2;
    f->port[1].service_port = 443;
    s->ports = f->ports;
    s->n_ports = 2;
    f->sans[0] = fx_bytes("spiffe://cluster.local/ns/x/sa/y");
    s->subject_alt_names = f->sans;
    s->n_subject_alt_names = 1;
    fill_waypoint(&f->waypoint, &f->hostname, "way");
    s->waypoint = &f->waypoint;
    f->scopes[0] = 6;
    f->scopes[1] = 1;
    f->lb.routing_preference = f->scopes;
    f->lb.n_routing_preference = 2;
    f->lb.mode = 2;
    f->lb.health_policy = 1;
    s->load_balancing = &f->lb;
    s->canonical = true;
    s->visibility = 1;
    s->weighted_waypoints = f->weights;
}

static void test_service(void **state) {
    struct full_service f;
    struct xds_resource r;
    fill_service(&f);
    assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
    const struct service *s = &r.service;
    assert_int_equal(r.kind, XDS_SERVICE);
    assert_slice_equal(s->leaf.key, SERVICE_KEY);
    assert_string_equal(s->name, "web");
    assert_string_equal(s->ns, "shop");
    assert_string_equal(s->hostname, "web.shop.svc.cluster.local");
    assert_int_equal(s->n_vips, 2); // not that of the other network
    assert_int_equal(s->n_cluster_vips, 2);
    assert_int_equal(s->vips[1].family, 6);
    assert_false(s->is_headless);
    assert_int_equal(s->n_ports, 2);
    assert_int_equal(s->ports[0].port, 80);
    assert_int_equal(s->ports[0].target_port, 8080);
    assert_int_equal(s->ports[0].app_protocol, APP_HTTP2);
    assert_int_equal(s->ports[1].port, 443);
    assert_int_equal(s->ports[1].target_port, 0);
    assert_int_equal(s->n_sans, 1);
    assert_string_equal(s->sans[0], "spiffe://cluster.local/ns/x/sa/y");
    assert_string_equal(s->waypoint, "infra/way");
    assert_null(s->canary);
    assert_int_equal(s->lb_mode, LB_FAILOVER);
    assert_int_equal(s->n_scopes, 2);
    assert_int_equal(s->scopes[0], SCOPE_NETWORK);
    assert_int_equal(s->scopes[1], SCOPE_REGION);
    assert_true(s->allow_not_ready && s->is_canonical && s->is_private);
    f.s.n_weighted_waypoints = 2; // 1 and 2 parts
    assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
    assert_string_equal(r.service.waypoint, "infra/one");
    assert_string_equal(r.service.canary, "infra/two");
    assert_int_equal(r.service.canary_percent, 67);
    f.s.n_weighted_waypoints = 1;
    assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
    assert_string_equal(r.service.waypoint, "infra/one");
    assert_string_equal(r.service.canary, "");
}

static void test_service_headless(void **state) {
    struct full_service f;
    struct xds_resource r;
    static const uint8_t modes[] = {LB_STANDARD, LB_STRICT, LB_FAILOVER, LB_PASSTHROUGH};
    fill_service(&f);
    f.s.n_addresses = 0;
    f.s.canonical = f.s.visibility = 0;
    f.s.waypoint = NULL;
    assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
    assert_true(r.service.is_headless && !r.service.is_canonical && !r.service.is_private);
    assert_string_equal(r.service.waypoint, "");
    for (int i = 0; i < 4; i++) {
        f.lb.mode = i;
        assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
        assert_int_equal(r.service.lb_mode, modes[i]);
    }
}

static void set_length(Xds__NetworkAddress *address, uint32_t length) {
    address->optional_length_case = XDS__NETWORK_ADDRESS__OPTIONAL_LENGTH_LENGTH;
    address->length = length;
}

static void test_service_ranges(void **state) {
    struct full_service f;
    struct xds_resource r;
    char text[CIDR_TEXT_MAX];
    const struct service *s = &r.service;
    fill_service(&f);
    set_length(&f.address[1], 112);
    set_length(&f.address[2], 8); // of another network
    assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
    assert_int_equal(s->n_vips, 1);
    assert_int_equal(s->n_ranges, 1);
    assert_string_equal(cidr_text(&s->ranges[0], text), "fd00::/112");
    assert_false(s->is_headless);
    set_length(&f.address[0], 8); // host bits do not count
    f.address[1].address = fx_raw(mapped, 16);
    set_length(&f.address[1], 120);
    f.s.n_addresses = 2;
    assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
    assert_int_equal(s->n_vips, 0);
    assert_int_equal(s->n_ranges, 2);
    assert_string_equal(cidr_text(&s->ranges[0], text), "10.0.0.0/8");
    assert_string_equal(cidr_text(&s->ranges[1], text), "10.0.0.0/24");
    assert_true(s->is_headless); // it has no address that DNS could answer with
    set_length(&f.address[0], 0);
    assert_true(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
    assert_string_equal(cidr_text(&s->ranges[0], text), "0.0.0.0/0");
}

#define EDIT_SERVICE(name, ...)                                                                    \
    static void name(struct full_service *f) {                                                     \
        __VA_ARGS__                                                                                \
    }
EDIT_SERVICE(s_no_ns, f->s.namespace_ = fx_bytes("");)
EDIT_SERVICE(s_no_host, f->s.hostname = fx_bytes("");)
EDIT_SERVICE(s_range, f->address[1].length = 129;)
EDIT_SERVICE(s_mapped_range, f->address[1].address = fx_raw(mapped, 16); f->address[1].length = 95;)
EDIT_SERVICE(s_address, f->address[2].address = fx_raw(xds_v6, 5);)
EDIT_SERVICE(s_port_0, f->port[0].service_port = 0;)
EDIT_SERVICE(s_big_port, f->port[0].service_port = 65536;)
EDIT_SERVICE(s_protocol, f->port[0].app_protocol = 6;)
EDIT_SERVICE(s_mode, f->lb.mode = 4;)
EDIT_SERVICE(s_scope, f->scopes[1] = 7;)
EDIT_SERVICE(s_scope_0, f->scopes[1] = 0;)
EDIT_SERVICE(s_scopes, f->lb.n_routing_preference = 7;)
EDIT_SERVICE(s_health, f->lb.health_policy = 2;)
EDIT_SERVICE(s_visibility, f->s.visibility = 2;)
EDIT_SERVICE(s_weights, f->s.n_weighted_waypoints = 3;)
EDIT_SERVICE(s_no_weight, f->s.n_weighted_waypoints = 2;
             f->weight[0].weight = f->weight[1].weight = 0;)
EDIT_SERVICE(s_no_destination, f->s.n_weighted_waypoints = 2; f->weight[1].destination = NULL;)
EDIT_SERVICE(s_san, f->sans[0] = fx_bytes("");)

static void test_service_errors(void **state) {
    static const struct {
        void (*edit)(struct full_service *f);
        const char *error;
    } cases[] = {
        {s_no_ns, "namespace: is missing"},
        {s_no_host, "hostname: is missing"},
        {s_range, "addresses: /129 is no length of such a range"},
        {s_mapped_range, "addresses: /95 is no length of such a range"},
        {s_address, "addresses: 5 bytes, an address has 4 or 16"},
        {s_port_0, "ports: service_port: 0 is not a port"},
        {s_big_port, "ports: service_port: 65536 is not a port"},
        {s_protocol, "ports: app_protocol: 6 is not known"},
        {s_mode, "load_balancing.mode: 4 is not known"},
        {s_scope, "load_balancing.routing_preference: 7 is not known"},
        {s_scope_0, "load_balancing.routing_preference: 0 is not known"},
        {s_scopes, "load_balancing.routing_preference: 7 items, at most 6 are allowed"},
        {s_health, "load_balancing.health_policy: 2 is not known"},
        {s_visibility, "visibility: 2 is not known"},
        {s_weights, "weighted_waypoints: 3 items, at most 2 are allowed"},
        {s_no_weight, "weighted_waypoints: no weight is above 0"},
        {s_no_destination, "weighted_waypoints: has no destination"},
        {s_san, "subject_alt_names: is missing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct full_service f;
        struct xds_resource r;
        fill_service(&f);
        f.scopes[6] = 1;
        cases[i].edit(&f);
        assert_false(xds_decode_one(XDS_ADDRESS, SERVICE_KEY, fx_address(NULL, &f.s), &r));
        assert_string_equal(xds_error, cases[i].error);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_service, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_service_headless, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_service_ranges, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_service_errors, xds_setup, xds_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
