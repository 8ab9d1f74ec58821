// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_decode.h"

#include "tests/unit/mesh/xds_decode_bed.h"
#include "tests/unit/mesh/xds_fixture.h"

#define UID "Kubernetes//Pod/shop/web-1"

// ---- workloads

struct full { // a workload with everything set
    Xds__Workload w;
    ProtobufCBinaryData addresses[3], policies[2];
    Xds__GatewayAddress waypoint;
    Xds__NamespacedHostname hostname;
    Xds__NetworkAddress address;
    Xds__ServicesEntry service, *services[2];
    Xds__PortList ports;
    Xds__Port port[3], *port_list[3];
    Xds__ApplicationTunnel tunnel;
    Xds__Locality locality;
    Xds__UInt32Value capacity;
};

static void fill_services(struct full *f) {
    xds__services_entry__init(&f->service);
    xds__port_list__init(&f->ports);
    for (int i = 0; i < 3; i++) {
        xds__port__init(&f->port[i]);
        f->port_list[i] = &f->port[i];
    }
    f->port[0].service_port = 80;
    f->port[0].target_port = 8080;
    f->port[1].service_port = 443;
    f->port[1].target_port = 8443;
    f->port[2].service_port = 80; // again: it counts
    f->port[2].target_port = 9090;
    f->ports.n_ports = 3;
    f->ports.ports = f->port_list;
    f->service.key = fx_bytes("shop/web.shop.svc.cluster.local");
    f->service.value = &f->ports;
    f->services[0] = &f->service;
    f->services[1] = &f->service;
    f->w.services = f->services;
    f->w.n_services = 1;
}

static void fill(struct full *f) {
    *f = (struct full){.w = XDS__WORKLOAD__INIT,
                       .waypoint = XDS__GATEWAY_ADDRESS__INIT,
                       .hostname = XDS__NAMESPACED_HOSTNAME__INIT,
                       .address = XDS__NETWORK_ADDRESS__INIT,
                       .tunnel = XDS__APPLICATION_TUNNEL__INIT,
                       .locality = XDS__LOCALITY__INIT,
                       .capacity = XDS__UINT32_VALUE__INIT};
    Xds__Workload *w = &f->w;
    w->uid = fx_bytes(UID);
    w->name = fx_bytes("web-1");
    w->namespace_ = fx_bytes("shop");
    f->addresses[0] = fx_raw(xds_v4, 4);
    f->addresses[1] = fx_raw(xds_v6, 16);
    w->addresses = f->addresses;
    w->n_addresses = 2;
    w->tunnel_protocol = 1;
    w->trust_domain = fx_bytes("example.org");
    w->service_account = fx_bytes("web");
    w->waypoint = &f->waypoint;
    f->waypoint.destination_case = XDS__GATEWAY_ADDRESS__DESTINATION_HOSTNAME;
    f->waypoint.hostname = &f->hostname;
    f->waypoint.hbone_mtls_port = 15008;
    f->hostname.namespace_ = fx_bytes("infra");
    f->hostname.hostname = fx_bytes("way.infra.svc.cluster.local");
    w->node = fx_bytes("node-1");
    w->canonical_name = fx_bytes("web");
    w->canonical_revision = fx_bytes("v2");
    w->workload_type = 1;
    w->workload_name = fx_bytes("web-job");
    f->policies[0] = fx_bytes("shop/a");
    f->policies[1] = fx_bytes("shop/b");
    w->authorization_policies = f->policies;
    w->n_authorization_policies = 2;
    w->status = 0;
    w->cluster_id = fx_bytes("c1");
    f->tunnel.protocol = 1;
    f->tunnel.port = 15088;
    w->application_tunnel = &f->tunnel;
    f->locality.region = fx_bytes("eu");
    f->locality.zone = fx_bytes("eu-1");
    f->locality.subzone = fx_bytes("rack");
    w->locality = &f->locality;
    f->capacity.value = 7;
    w->capacity = &f->capacity;
    fill_services(f);
}

static void test_workload(void **state) {
    struct full f;
    struct xds_resource r;
    fill(&f);
    assert_true(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
    const struct workload *w = &r.workload;
    assert_int_equal(r.kind, XDS_WORKLOAD);
    assert_slice_equal(w->leaf.key, UID);
    assert_string_equal(w->name, "web-1");
    assert_string_equal(w->common->ns, "shop");
    assert_int_equal(w->n_ips, 2);
    assert_true(ip_eq(&w->ips[0], &(struct ip){4, {10, 0, 0, 7}}));
    assert_int_equal(w->ips[1].family, 6);
    assert_int_equal(w->protocol, WORKLOAD_HBONE);
    assert_true(w->is_enrolled && w->is_pod && w->is_healthy && w->is_ready && !w->is_host_network);
    assert_string_equal(w->common->identity, "spiffe://example.org/ns/shop/sa/web");
    assert_string_equal(w->common->waypoint, "infra/way.infra.svc.cluster.local");
    assert_null(w->common->network_gateway);
    assert_string_equal(w->node, "node-1");
    assert_string_equal(w->common->canonical_name, "web");
    assert_string_equal(w->common->app, "web");
    assert_string_equal(w->common->canonical_revision, "v2");
    assert_string_equal(w->common->version, "v2");
    assert_string_equal(w->common->owner_type, "cronjob");
    assert_string_equal(w->common->owner_name, "web-job");
    assert_int_equal(w->common->n_policies, 2);
    assert_string_equal(w->common->policies[1], "shop/b");
    assert_string_equal(w->common->cluster, "c1");
    assert_int_equal(w->app_tunnel, APP_TUNNEL_PROXY);
    assert_int_equal(w->app_tunnel_port, 15088);
    assert_string_equal(w->common->locality.region, "eu");
    assert_string_equal(w->common->locality.zone, "eu-1");
    assert_string_equal(w->common->locality.subzone, "rack");
    assert_int_equal(w->capacity, 7);
    assert_int_equal(r.n_services, 1);
    assert_string_equal(r.services[0].service, "shop/web.shop.svc.cluster.local");
    assert_int_equal(r.services[0].n_ports, 2);
    assert_int_equal(r.services[0].ports[0].service_port, 80);
    assert_int_equal(r.services[0].ports[0].target_port, 9090);
    assert_int_equal(r.services[0].ports[1].target_port, 8443);
}

static void test_workload_defaults(void **state) {
    Xds__Workload w = XDS__WORKLOAD__INIT;
    struct xds_resource r;
    w.uid = fx_bytes("c/networking.istio.io/ServiceEntry/shop/db/0");
    w.name = fx_bytes("db");
    w.namespace_ = fx_bytes("shop");
    w.hostname = fx_bytes("db.example.com");
    w.status = 1;
    w.network_mode = 1;
    w.workload_type = 2;
    assert_true(xds_decode_one(XDS_ADDRESS, "c/networking.istio.io/ServiceEntry/shop/db/0",
                               fx_address(&w, NULL), &r));
    assert_string_equal(r.workload.common->trust_domain, "cluster.local");
    assert_string_equal(r.workload.common->service_account, "default");
    assert_string_equal(r.workload.common->identity, "spiffe://cluster.local/ns/shop/sa/default");
    assert_string_equal(r.workload.common->cluster, "Kubernetes");
    assert_string_equal(r.workload.common->hostname, "db.example.com");
    assert_string_equal(r.workload.common->owner_type, "pod");
    assert_string_equal(r.workload.common->owner_name, "db");
    assert_string_equal(r.workload.common->waypoint, "");
    assert_int_equal(r.workload.capacity, 1);
    assert_int_equal(r.workload.protocol, WORKLOAD_TCP);
    assert_int_equal(r.workload.app_tunnel, APP_TUNNEL_ABSENT);
    assert_true(r.workload.is_host_network && !r.workload.is_healthy && !r.workload.is_ready);
    assert_false(r.workload.is_pod);
    assert_int_equal(r.n_services, 0);
    // A workload outside of the mesh needs no identity.
    w.namespace_ = fx_bytes("");
    assert_true(xds_decode_one(XDS_ADDRESS, "c/networking.istio.io/ServiceEntry/shop/db/0",
                               fx_address(&w, NULL), &r));
    assert_null(r.workload.common->identity);
}

#define EDIT(name, ...)                                                                            \
    static void name(struct full *f) {                                                             \
        __VA_ARGS__                                                                                \
    }
EDIT(no_uid, f->w.uid = fx_bytes("");)
EDIT(other_uid, f->w.uid = fx_bytes("Kubernetes//Pod/shop/web-2");)
EDIT(nul_in_name, f->w.name = fx_raw("web\0-1", 6);)
EDIT(newline, f->w.node = fx_bytes("node\n1");)
EDIT(bad_utf8, f->w.canonical_name = fx_bytes("\xc3(");)
EDIT(overlong, f->w.canonical_name = fx_bytes("\xc0\xaf");)
EDIT(surrogate, f->w.canonical_name = fx_bytes("\xed\xa0\x80");)
EDIT(cut_utf8, f->w.canonical_name = fx_bytes("a\xe2\x82");)
EDIT(above_unicode, f->w.canonical_name = fx_bytes("\xf4\x90\x80\x80");)
EDIT(long_ns, f->w.namespace_ = fx_bytes("n234567890123456789012345678901234567890"
                                         "123456789012345678901234");)
EDIT(short_address, f->addresses[1].len = 15;)
EDIT(no_address, f->addresses[0].len = 0;)
EDIT(any_address, f->addresses[0] = fx_raw("\0\0\0\0", 4);)
EDIT(legacy, f->w.tunnel_protocol = 2;)
EDIT(unknown_tunnel, f->w.tunnel_protocol = 3;)
EDIT(negative_tunnel, f->w.tunnel_protocol = -1;)
EDIT(unknown_status, f->w.status = 2;)
EDIT(unknown_type, f->w.workload_type = 4;)
EDIT(unknown_mode, f->w.network_mode = 2;)
EDIT(unknown_application, f->tunnel.protocol = 2;)
EDIT(big_application_port, f->tunnel.port = 65536;)
EDIT(no_identity, f->w.trust_domain = fx_bytes("Not A Domain");)
EDIT(no_namespace, f->w.namespace_ = fx_bytes("");)
EDIT(plain_policy, f->policies[0] = fx_bytes("a");)
EDIT(empty_policy, f->policies[0] = fx_bytes("");)
EDIT(plain_service, f->service.key = fx_bytes("web");)
EDIT(big_port, f->port[1].target_port = 70000;)
EDIT(waypoint_port, f->waypoint.hbone_mtls_port = 15009;)
EDIT(waypoint_nowhere, f->waypoint.destination_case = XDS__GATEWAY_ADDRESS__DESTINATION__NOT_SET;)
EDIT(waypoint_no_host, f->hostname.hostname = fx_bytes("");)
EDIT(waypoint_address, f->waypoint.destination_case = XDS__GATEWAY_ADDRESS__DESTINATION_ADDRESS;
     f->waypoint.address = &f->address; f->address.address = fx_raw(xds_v4, 3);)

static void test_workload_errors(void **state) {
    static const struct {
        void (*edit)(struct full *f);
        const char *error;
    } cases[] = {
        {no_uid, "uid: is missing"},
        {other_uid, "is what should be called 'Kubernetes//Pod/shop/web-2'"},
        {nul_in_name, "name: has bytes that are not printable UTF-8"},
        {newline, "node: has bytes that are not printable UTF-8"},
        {bad_utf8, "canonical_name: has bytes that are not printable UTF-8"},
        {overlong, "canonical_name: has bytes that are not printable UTF-8"},
        {surrogate, "canonical_name: has bytes that are not printable UTF-8"},
        {cut_utf8, "canonical_name: has bytes that are not printable UTF-8"},
        {above_unicode, "canonical_name: has bytes that are not printable UTF-8"},
        {long_ns, "namespace: 64 bytes, at most 63 are allowed"},
        {short_address, "addresses: 15 bytes, an address has 4 or 16"},
        {no_address, "addresses: 0 bytes, an address has 4 or 16"},
        {any_address, "addresses: the unspecified one is nobody's"},
        {legacy, "tunnel_protocol: LEGACY_ISTIO_MTLS is not supported"},
        {unknown_tunnel, "tunnel_protocol: 3 is not known"},
        {negative_tunnel, "tunnel_protocol: -1 is not known"},
        {unknown_status, "status: 2 is not known"},
        {unknown_type, "workload_type: 4 is not known"},
        {unknown_mode, "network_mode: 2 is not known"},
        {unknown_application, "application_tunnel.protocol: 2 is not known"},
        {big_application_port, "application_tunnel.port: 65536 is not a port"},
        {no_identity, "'Not A Domain', 'shop', 'web' do not make a SPIFFE id"},
        {no_namespace, "'example.org', '', 'web' do not make a SPIFFE id"},
        {plain_policy, "authorization_policies: 'a' is not NAMESPACE/NAME"},
        {empty_policy, "authorization_policies: is missing"},
        {plain_service, "services: 'web' is not NAMESPACE/HOSTNAME"},
        {big_port, "services: target_port: 70000 is not a port"},
        {waypoint_port, "waypoint: port 15009, only 15008 is supported"},
        {waypoint_nowhere, "waypoint: has neither a host name nor an address"},
        {waypoint_no_host, "waypoint: is missing"},
        {waypoint_address, "waypoint: 3 bytes, an address has 4 or 16"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct full f;
        struct xds_resource r;
        fill(&f);
        cases[i].edit(&f);
        assert_false(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
        assert_string_equal(xds_error, cases[i].error);
    }
}

// What is on another network is not reached, and must not be taken for something that is.
static void test_other_network(void **state) {
    struct full f;
    struct xds_resource r;
    fill(&f);
    f.w.network = fx_bytes("far");
    f.waypoint.destination_case = XDS__GATEWAY_ADDRESS__DESTINATION_ADDRESS;
    f.waypoint.address = &f.address;
    f.address.address = fx_raw(xds_v4, 4);
    assert_true(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
    assert_int_equal(r.workload.n_ips, 0);
    assert_string_equal(r.workload.common->network, "far");
    assert_string_equal(r.workload.common->waypoint, "10.0.0.7");
    f.address.network = fx_bytes("far");
    assert_true(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
    assert_string_equal(r.workload.common->waypoint, "far/10.0.0.7");
    assert_true(xds_decode(XDS_ADDRESS, slice_str(UID), fx_address(&f.w, NULL), "far", &xds_arena,
                           &r, xds_error));
    assert_int_equal(r.workload.n_ips, 2);
    assert_string_equal(r.workload.common->waypoint, "10.0.0.7");
}

// The gateway of a workload's network is kept to be shown.
static void test_network_gateway(void **state) {
    struct full f;
    struct xds_resource r;
    Xds__GatewayAddress gateway = XDS__GATEWAY_ADDRESS__INIT;
    fill(&f);
    f.w.network_gateway = &gateway;
    gateway.destination_case = XDS__GATEWAY_ADDRESS__DESTINATION_HOSTNAME;
    gateway.hostname = &f.hostname;
    gateway.hbone_mtls_port = 15443;
    assert_true(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
    assert_string_equal(r.workload.common->network_gateway, "infra/way.infra.svc.cluster.local");
    assert_int_equal(r.workload.common->network_gateway_port, 15443);
    gateway.destination_case = XDS__GATEWAY_ADDRESS__DESTINATION_ADDRESS;
    gateway.address = &f.address;
    f.address.network = fx_bytes("far");
    f.address.address = fx_raw(xds_v4, 4);
    assert_true(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
    assert_string_equal(r.workload.common->network_gateway, "far/10.0.0.7");
    f.address.address = fx_raw(xds_v4, 3);
    assert_false(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
    assert_string_equal(xds_error, "network_gateway: 3 bytes, an address has 4 or 16");
    gateway.destination_case = XDS__GATEWAY_ADDRESS__DESTINATION__NOT_SET;
    assert_false(xds_decode_one(XDS_ADDRESS, UID, fx_address(&f.w, NULL), &r));
    assert_string_equal(xds_error, "network_gateway: has neither a host name nor an address");
}

// ---- policies

struct full_policy {
    Xds__Authorization p;
    Xds__Rule rule, *rules[2];
    Xds__Clause clause, *clauses[1];
    Xds__Match match, empty, *matches[2];
    Xds__StringMatch text[4], *texts[4];
    Xds__Empty presence;
    Xds__Cidr cidr[2], *cidrs[2];
    Xds__ServiceAccount account, *accounts[1];
    uint32_t ports[2];
};

static void fill_match(struct full_policy *f) {
    Xds__Match *m = &f->match;
    for (int i = 0; i < 4; i++) {
        xds__string_match__init(&f->text[i]);
        f->texts[i] = &f->text[i];
    }
    f->text[0].match_type_case = XDS__STRING_MATCH__MATCH_TYPE_EXACT;
    f->text[0].exact = fx_bytes("red");
    f->text[1].match_type_case = XDS__STRING_MATCH__MATCH_TYPE_PREFIX;
    f->text[1].prefix = fx_bytes("re");
    f->text[2].match_type_case = XDS__STRING_MATCH__MATCH_TYPE_SUFFIX;
    f->text[2].suffix = fx_bytes("ed");
    f->text[3].match_type_case = XDS__STRING_MATCH__MATCH_TYPE_PRESENCE;
    f->text[3].presence = &f->presence;
    m->namespaces = m->not_namespaces = m->principals = m->not_principals = f->texts;
    m->n_namespaces = 4;
    m->n_not_namespaces = 1;
    m->n_principals = 2;
    m->n_not_principals = 3;
    f->cidr[0].address = fx_raw(xds_v4, 4);
    f->cidr[0].length = 12;
    f->cidr[1].address = fx_raw(xds_v6, 16);
    f->cidr[1].length = 128;
    m->source_ips = m->not_source_ips = m->destination_ips = m->not_destination_ips = f->cidrs;
    m->n_source_ips = m->n_not_destination_ips = 2;
    m->n_not_source_ips = m->n_destination_ips = 1;
    f->ports[0] = 80;
    f->ports[1] = 65535;
    m->destination_ports = m->not_destination_ports = f->ports;
    m->n_destination_ports = 2;
    m->n_not_destination_ports = 1;
    f->account.namespace_ = fx_bytes("shop");
    f->account.service_account = fx_bytes("web");
    m->service_accounts = m->not_service_accounts = f->accounts;
    m->n_service_accounts = m->n_not_service_accounts = 1;
}

static void fill_policy(struct full_policy *f) {
    *f = (struct full_policy){
        .p = XDS__AUTHORIZATION__INIT,
        .rule = XDS__RULE__INIT,
        .clause = XDS__CLAUSE__INIT,
        .match = XDS__MATCH__INIT,
        .empty = XDS__MATCH__INIT,
        .presence = XDS__EMPTY__INIT,
        .cidr = {XDS__CIDR__INIT, XDS__CIDR__INIT},
        .account = XDS__SERVICE_ACCOUNT__INIT,
        .rules = {&f->rule, &f->rule},
        .clauses = {&f->clause},
        .matches = {&f->match, &f->empty},
        .cidrs = {&f->cidr[0], &f->cidr[1]},
        .accounts = {&f->account},
    };
    f->p.name = fx_bytes("deny");
    f->p.namespace_ = fx_bytes("shop");
    f->p.scope = 1;
    f->p.action = 1;
    f->p.dry_run = true;
    f->p.rules = f->rules;
    f->p.n_rules = 2;
    f->rule.clauses = f->clauses;
    f->rule.n_clauses = 1;
    f->clause.matches = f->matches;
    f->clause.n_matches = 2;
    fill_match(f);
}

static void test_policy(void **state) {
    struct full_policy f;
    struct xds_resource r;
    char text[CIDR_TEXT_MAX];
    fill_policy(&f);
    assert_true(xds_decode_one(XDS_AUTHORIZATION, "shop/deny", FX_PACK(&f.p), &r));
    const struct policy *p = &r.policy;
    assert_int_equal(r.kind, XDS_POLICY);
    assert_slice_equal(p->leaf.key, "shop/deny");
    assert_string_equal(p->name, "deny");
    assert_string_equal(p->ns, "shop");
    assert_int_equal(p->scope, POLICY_NAMESPACE);
    assert_int_equal(p->action, POLICY_DENY);
    assert_true(p->is_dry_run);
    assert_int_equal(p->n_rules, 2);
    assert_int_equal(p->rules[1].n_clauses, 1);
    assert_int_equal(p->rules[0].clauses[0].n_matches, 2);
    const struct policy_match *m = &p->rules[0].clauses[0].matches[0];
    assert_int_equal(m->n_namespaces, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(m->namespaces[i].kind, i);
    }
    assert_string_equal(m->namespaces[1].text, "re");
    assert_string_equal(m->namespaces[2].text, "ed");
    assert_string_equal(m->namespaces[3].text, "");
    assert_int_equal(m->n_not_namespaces, 1);
    assert_int_equal(m->n_principals, 2);
    assert_int_equal(m->n_not_principals, 3);
    assert_int_equal(m->n_source_ips, 2);
    assert_int_equal(m->n_not_source_ips, 1);
    assert_int_equal(m->n_destination_ips, 1);
    assert_int_equal(m->n_not_destination_ips, 2);
    assert_string_equal(cidr_text(&m->source_ips[0], text), "10.0.0.0/12"); // host bits are gone
    assert_string_equal(cidr_text(&m->source_ips[1], text), "fd00::7/128");
    assert_int_equal(m->n_destination_ports, 2);
    assert_int_equal(m->destination_ports[1], 65535);
    assert_int_equal(m->n_not_destination_ports, 1);
    assert_int_equal(m->n_service_accounts, 1);
    assert_int_equal(m->n_not_service_accounts, 1);
    assert_string_equal(m->service_accounts[0].ns, "shop");
    assert_string_equal(m->service_accounts[0].sa, "web");
    assert_int_equal(p->rules[0].clauses[0].matches[1].n_principals, 0);
}

#define EDIT_POLICY(name, ...)                                                                     \
    static void name(struct full_policy *f) {                                                      \
        __VA_ARGS__                                                                                \
    }
EDIT_POLICY(p_no_name, f->p.name = fx_bytes("");)
EDIT_POLICY(p_scope, f->p.scope = 3;)
EDIT_POLICY(p_action, f->p.action = 2;)
EDIT_POLICY(p_kind, f->text[0].match_type_case = XDS__STRING_MATCH__MATCH_TYPE__NOT_SET;)
EDIT_POLICY(p_length, f->cidr[0].length = 33;)
EDIT_POLICY(p_address, f->cidr[1].address.len = 8;)
EDIT_POLICY(p_port, f->ports[1] = 65536;)
EDIT_POLICY(p_account, f->account.namespace_ = fx_bytes("");)
EDIT_POLICY(p_mapped, f->cidr[1].address = fx_raw("\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\4", 16);
            f->cidr[1].length = 95;)

static void test_policy_errors(void **state) {
    static const struct {
        void (*edit)(struct full_policy *f);
        const char *error;
    } cases[] = {
        {p_no_name, "name: is missing"},
        {p_scope, "scope: 3 is not known"},
        {p_action, "action: 2 is not known"},
        {p_kind, "namespaces: a match of a kind that is not known"},
        {p_length, "source_ips: /33 is longer than the address"},
        {p_address, "source_ips: 8 bytes, an address has 4 or 16"},
        {p_port, "destination_ports: 65536 is not a port"},
        {p_account, "service_accounts: is missing"},
        {p_mapped, "source_ips: /95 of an IPv4 address in the form of IPv6"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct full_policy f;
        struct xds_resource r;
        fill_policy(&f);
        cases[i].edit(&f);
        assert_false(xds_decode_one(XDS_AUTHORIZATION, "shop/deny", FX_PACK(&f.p), &r));
        assert_string_equal(xds_error, cases[i].error);
    }
}

static void test_mapped_cidr(void **state) {
    struct full_policy f;
    struct xds_resource r;
    char text[CIDR_TEXT_MAX];
    fill_policy(&f);
    p_mapped(&f);
    f.cidr[1].length = 112;
    assert_true(xds_decode_one(XDS_AUTHORIZATION, "shop/deny", FX_PACK(&f.p), &r));
    assert_string_equal(cidr_text(&r.policy.rules[0].clauses[0].matches[0].source_ips[1], text),
                        "1.2.0.0/16");
}

// ---- the wire

static void test_wire(void **state) {
    struct full f;
    struct xds_resource r;
    uint8_t bytes[1024];
    fill(&f);
    struct slice good = fx_address(&f.w, NULL);
    assert_true(good.len + 8 < sizeof(bytes));
    memcpy(bytes, good.ptr, good.len);
    // A field that is not known: number 100, three bytes
    memcpy(bytes + good.len, "\xa2\x06\x03xyz", 6);
    assert_true(xds_decode_one(XDS_ADDRESS, UID, slice_make(bytes, good.len + 6), &r));
    // Every cut is an error, and never a crash.
    for (size_t len = 0; len < good.len; len++) {
        assert_false(xds_decode_one(XDS_ADDRESS, UID, slice_head(good, len), &r));
    }
    assert_false(xds_decode_one(XDS_ADDRESS, UID, slice_make(NULL, 0), &r));
    assert_string_equal(xds_error, "is neither a workload nor a service");
    assert_false(xds_decode_one(XDS_ADDRESS, UID, SLICE_LIT("\x0a\xff"), &r));
    assert_string_equal(xds_error, "is not a valid message");
    assert_false(xds_decode_one(XDS_AUTHORIZATION, "x", slice_make(NULL, 0), &r));
    assert_string_equal(xds_error, "namespace: is missing");
    assert_false(xds_decode_one(XDS_ADDRESS, UID, slice_make(bytes, XDS_RESOURCE_MAX + 1), &r));
    assert_string_equal(xds_error, "4194305 bytes, at most 4194304 are allowed");
}

static void test_memory(void **state) {
    struct full f;
    struct xds_resource r;
    fill(&f);
    struct slice good = fx_address(&f.w, NULL);
    for (size_t max = 0; max < 8192; max += 8) { // every allocation fails once
        struct arena small;
        arena_init(&small, max);
        bool is_done = xds_decode(XDS_ADDRESS, slice_str(UID), good, "", &small, &r, xds_error);
        assert_true(is_done || strstr(xds_error, "needs too much memory") != NULL ||
                    strstr(xds_error, "is not a valid message") != NULL);
        arena_fini(&small);
    }
    assert_true(xds_decode_one(XDS_ADDRESS, UID, good, &r));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_workload, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_workload_defaults, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_workload_errors, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_other_network, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_network_gateway, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_policy, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_policy_errors, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_mapped_cidr, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_wire, xds_setup, xds_teardown),
        cmocka_unit_test_setup_teardown(test_memory, xds_setup, xds_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
