// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/builder.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/mesh/builder_fixture.h"

static struct mesh_builder *b;

static int setup(void **state) {
    fx_init();
    b = fx_builder("n1");
    return 0;
}

static int teardown(void **state) {
    fx_builder_free(b);
    fx_fini();
    return 0;
}

#define POD_HEAD "---\napiVersion: v1\nkind: Pod\nmetadata:\n"
#define RUNNING(ip) "status: {phase: Running, podIP: " ip "}\n"
#define NS(name, labels)                                                                           \
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " name ", labels: {" labels "}}\n"
#define AMBIENT "istio.io/dataplane-mode: ambient"
#define POD(ns, name, labels, ip)                                                                  \
    POD_HEAD "  {name: " name ", namespace: " ns ", labels: {" labels "}}\n"                       \
             "spec: {nodeName: n1, containers: [{name: c, image: i}]}\n" RUNNING(ip)

static struct workload *pod(const char *ns_name) {
    char uid[128];
    snprintf(uid, sizeof(uid), "Kubernetes//Pod/%s", ns_name);
    return fx_find_workload(uid);
}

static void test_pod(void **state) {
    fx_apply(b, NS("shop", AMBIENT) //
             "---\napiVersion: v1\nkind: Node\n"
             "metadata:\n  name: n1\n  labels:\n"
             "    topology.kubernetes.io/region: eu\n    topology.kubernetes.io/zone: eu-1\n"
             "    topology.istio.io/subzone: rack7\n"
             "status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}\n" //
             POD_HEAD "  name: web-5d4f8c7b9f-abcde\n  namespace: shop\n"
             "  labels: {app: web, version: v2, pod-template-hash: 5d4f8c7b9f}\n"
             "  annotations: {ztun.io/netns: web1, ztun.io/nameservers: '10.0.0.1, fd00::1',"
             " ambient.istio.io/dns-capture: 'false'}\n"
             "  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, uid: u,"
             " name: web-5d4f8c7b9f, controller: true}]\n"
             "spec:\n  nodeName: n1\n  serviceAccountName: seller\n"
             "  dnsConfig: {searches: [corp.example]}\n"
             "  containers:\n  - name: c\n    image: x\n"
             "    ports: [{name: http, containerPort: 8080}, "
             "{name: dns, containerPort: 53, protocol: UDP}]\n"
             "status: {phase: Running, podIP: 10.0.0.1,"
             " podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}],"
             " conditions: [{type: Ready, status: 'True'}]}\n");
    struct workload *w = pod("shop/web-5d4f8c7b9f-abcde");
    assert_non_null(w);
    assert_string_equal(w->common->identity, "spiffe://cluster.local/ns/shop/sa/seller");
    assert_string_equal(workload_owner_name(w), "web");
    assert_string_equal(w->common->owner_type, "deployment");
    assert_string_equal(workload_canonical_name(w), "web");
    assert_string_equal(w->common->canonical_revision, "v2");
    assert_string_equal(w->common->locality.region, "eu");
    assert_string_equal(w->common->locality.subzone, "rack7");
    assert_string_equal(w->common->local->netns, "web1");
    assert_string_equal(w->common->local->nameservers[0], "10.0.0.1");
    assert_string_equal(w->common->local->nameservers[1], "fd00::1");
    assert_null(w->common->local->nameservers[2]);
    assert_string_equal(w->common->local->dns_search[0], "shop.svc.cluster.local");
    assert_string_equal(w->common->local->dns_search[1], "svc.cluster.local");
    assert_string_equal(w->common->local->dns_search[2], "cluster.local");
    assert_string_equal(w->common->local->dns_search[3], "corp.example");
    assert_null(w->common->local->dns_search[4]);
    assert_int_equal(w->n_ips, 2);
    assert_int_equal(w->common->n_ports, 1);
    assert_int_equal(w->protocol, WORKLOAD_HBONE);
    assert_true(w->is_enrolled && w->is_healthy && w->is_ready && w->is_pod && w->no_dns_capture);
    assert_int_equal(w->common->n_policies, 0);
    assert_string_equal(fx_problems(b), "");
    // the node's labels change: the pod's locality too
    fx_apply(b, "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: "
                "{topology.kubernetes.io/zone: eu-2}}\n");
    assert_string_equal(pod("shop/web-5d4f8c7b9f-abcde")->common->locality.zone, "eu-2");
}

static void test_owners(void **state) {
    const struct {
        const char *owner, *type, *name;
    } cases[] = {
        {"", "pod", "p"},
        {"{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: u, controller: true}", "pod",
         "db"},
        {"{apiVersion: apps/v1, kind: ReplicaSet, name: web-abc, uid: u, controller: true}",
         "deployment", "web"},
        {"{apiVersion: apps/v1, kind: ReplicaSet, name: bare, uid: u, controller: true}", "pod",
         "bare"},
        {"{apiVersion: batch/v1, kind: Job, name: once, uid: u, controller: true}", "job", "once"},
        {"{apiVersion: batch/v1, kind: Job, name: cron-28012345, uid: u, controller: true}",
         "cronjob", "cron"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml),
                 POD_HEAD "  name: p\n  namespace: a\n  labels: {pod-template-hash: abc}\n"
                          "  ownerReferences: [%s]\nspec: {nodeName: n1, containers: [{name: c, "
                          "image: i}]}\n" RUNNING("10.0.0.1"),
                 cases[i].owner);
        fx_apply(b, yaml);
        assert_string_equal(pod("a/p")->common->owner_type, cases[i].type);
        assert_string_equal(workload_owner_name(pod("a/p")), cases[i].name);
    }
}

static void test_enrolment(void **state) {
    const struct {
        const char *what, *ns_labels, *meta, *spec;
        bool is_enrolled, is_hbone;
    } cases[] = {
        {"nothing", "", "", "", false, false},
        {"namespace", AMBIENT, "", "", true, true},
        {"pod", "", "labels: {" AMBIENT "}", "", true, true},
        {"pod says none", AMBIENT, "labels: {istio.io/dataplane-mode: none}", "", false, false},
        {"other mode", "istio.io/dataplane-mode: other", "", "", false, false},
        {"host network", AMBIENT, "", ", hostNetwork: true", false, false},
        {"sidecar", AMBIENT, "annotations: {sidecar.istio.io/status: x}", "", false, false},
        {"captured by istio-cni", "", "annotations: {ambient.istio.io/redirection: enabled}", "",
         false, true},
        {"own tunnel", "", "labels: {networking.istio.io/tunnel: http}", "", false, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml),
                 NS("a", "%s") POD_HEAD
                 "  name: p\n  namespace: a\n  %s\n"
                 "spec: {nodeName: n1, containers: [{name: c, image: i}]%s}\n" RUNNING("10.0.0.1"),
                 cases[i].ns_labels, cases[i].meta, cases[i].spec);
        fx_apply(b, yaml);
        if (pod("a/p")->is_enrolled != cases[i].is_enrolled ||
            (pod("a/p")->protocol == WORKLOAD_HBONE) != cases[i].is_hbone) {
            fail_msg("%s", cases[i].what);
        }
    }
    fx_apply(b, NS("kube-system", AMBIENT) POD("kube-system", "p", "", "10.0.0.9"));
    assert_false(pod("kube-system/p")->is_enrolled);
}

static void test_health(void **state) {
    const struct {
        const char *what, *meta, *status;
        bool exists, is_ready, is_healthy;
    } cases[] = {
        {"running", "", "phase: Running", 1, 1, 1},
        {"no phase", "", "hostIP: 1.2.3.4", 1, 1, 1},
        {"ready", "", "phase: Running, conditions: [{type: Ready, status: 'True'}]", 1, 1, 1},
        {"not ready", "", "phase: Running, conditions: [{type: Ready, status: 'False'}]", 1, 0, 0},
        {"pending", "", "phase: Pending", 1, 1, 0},
        {"terminating", "deletionTimestamp: '2026-01-01T00:00:00Z'", "phase: Running", 1, 1, 0},
        {"done", "", "phase: Succeeded", 0, 0, 0},
        {"failed", "", "phase: Failed", 0, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char yaml[1024];
        snprintf(yaml, sizeof(yaml),
                 POD_HEAD "  name: p\n  namespace: a\n  %s\nspec: {nodeName: n1, containers: "
                          "[{name: c, image: i}]}\n"
                          "status: {podIP: 10.0.0.1, %s}\n",
                 cases[i].meta, cases[i].status);
        fx_apply(b, yaml);
        struct workload *w = pod("a/p");
        if ((w != NULL) != cases[i].exists ||
            (w != NULL &&
             (w->is_ready != cases[i].is_ready || w->is_healthy != cases[i].is_healthy))) {
            fail_msg("%s", cases[i].what);
        }
    }
}

#define SVC(ns, name, spec)                                                                        \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns "}\n"          \
    "spec: {" spec "}\n"
#define WEB "a/web.a.svc.cluster.local"

static void test_service_by_selector(void **state) {
    fx_apply(
        b, SVC("a", "web",
               "clusterIP: 10.1.0.1, clusterIPs: [10.1.0.1, 'fd01::1'], externalIPs: [5.5.5.5],"
               " selector: {app: web}, ports: [{name: http, port: 80, targetPort: web},"
               " {name: grpc-x, port: 90, nodePort: 30090}, {port: 53, protocol: UDP, name: d}]") //
        POD("a", "one", "app: web", "10.0.0.1") POD("a", "two", "app: other", "10.0.0.2") //
        POD("b", "far", "app: web", "10.0.0.3"));
    struct service *s = fx_find_service(WEB);
    assert_int_equal(s->n_vips, 3);
    assert_int_equal(s->n_cluster_vips, 2);
    assert_int_equal(s->n_ports, 2); // TCP
    assert_int_equal(s->ports[0].app_protocol, APP_HTTP11);
    assert_int_equal(s->ports[1].app_protocol, APP_GRPC);
    assert_int_equal(s->ports[1].node_port, 30090);
    assert_int_equal(s->n_endpoints, 1);
    assert_ptr_equal(s->endpoints[0].workload, pod("a/one"));
    assert_int_equal(s->endpoints[0].target_ports[0], 0); // no container port of that name
    assert_int_equal(s->endpoints[0].target_ports[1], 90);
    assert_non_null(strstr(fx_problems(b), "port 80, target web: no endpoint has it"));

    fx_apply(b, POD_HEAD "  {name: one, namespace: a, labels: {app: web}}\n"
                         "spec: {nodeName: n1, containers: [{name: c, image: i, ports: "
                         "[{name: web, containerPort: 8080}]}]}\n" RUNNING("10.0.0.1"));
    s = fx_find_service(WEB);
    assert_int_equal(s->endpoints[0].target_ports[0], 8080);
    assert_string_equal(fx_problems(b), "");

    fx_apply(b, POD("a", "two", "app: web", "10.0.0.2"));
    assert_int_equal(fx_find_service(WEB)->n_endpoints, 2);
    fx_apply(b, POD("a", "two", "app: none", "10.0.0.2"));
    assert_int_equal(fx_find_service(WEB)->n_endpoints, 1);
    fx_remove(b, POD("a", "one", "", "10.0.0.1"));
    assert_int_equal(fx_find_service(WEB)->n_endpoints, 0);
    fx_remove(b, SVC("a", "web", "ports: [{port: 80}]"));
    assert_null(fx_find_service(WEB));
}

#define SLICE(ns, name, service, rest)                                                             \
    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " name            \
    ", namespace: " ns ", labels: {kubernetes.io/service-name: " service "}}\n" rest

static void test_slices(void **state) {
    fx_apply(b, SVC("a", "web",
                    "clusterIP: 10.1.0.1, selector: {app: web}, "
                    "ports: [{name: http, port: 80}]") //
             POD("a", "one", "app: web", "10.0.0.1") POD("a", "two", "app: web", "10.0.0.2") SLICE(
                 "a", "web-x", "web",
                 "addressType: IPv4\nports: [{name: http, port: 8080, protocol: TCP}]\n"
                 "endpoints:\n"
                 "- addresses: [10.0.0.1]\n  targetRef: {kind: Pod, name: one, namespace: a}\n"
                 "- addresses: [10.9.9.9]\n  nodeName: n7\n  zone: z7\n"
                 "- addresses: [10.0.0.3]\n  targetRef: {kind: Pod, name: late, namespace: a}\n"
                 "  conditions: {ready: false}\n"));
    struct service *s = fx_find_service(WEB);
    assert_int_equal(s->n_endpoints, 3); // pod two is in no slice
    assert_ptr_equal(s->endpoints[0].workload, pod("a/one"));
    assert_int_equal(s->endpoints[0].target_ports[0], 8080);
    struct workload *bare =
        fx_find_workload("Kubernetes/discovery.k8s.io/EndpointSlice/a/web-x/10.9.9.9");
    assert_non_null(bare);
    assert_string_equal(bare->node, "n7");
    assert_string_equal(bare->common->locality.zone, "z7");
    assert_int_equal(bare->protocol, WORKLOAD_TCP);

    // its pod arrives: the stand-in goes
    fx_apply(b, POD("a", "late", "app: web", "10.0.0.3"));
    assert_null(fx_find_workload("Kubernetes/discovery.k8s.io/EndpointSlice/a/web-x/10.0.0.3"));
    s = fx_find_service(WEB);
    assert_int_equal(s->n_endpoints, 3);
    bool is_found = false;
    for (size_t i = 0; i < 3; i++) {
        if (s->endpoints[i].workload == pod("a/late")) {
            is_found = true;
            assert_false(s->endpoints[i].is_ready); // as the slice says
        }
    }
    assert_true(is_found);

    // both families of one pod are one endpoint; without slices the selector counts again
    fx_remove(b, SLICE("a", "web-x", "web", "addressType: IPv4\n"));
    s = fx_find_service(WEB);
    assert_int_equal(s->n_endpoints, 3);
    assert_int_equal(s->endpoints[0].target_ports[0], 80);
}

static void test_endpoints_object(void **state) {
    fx_apply(b, SVC("default", "kubernetes",
                    "clusterIP: 10.1.0.1, ports: "
                    "[{name: https, port: 443, targetPort: 6443}]") //
             "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"
             "status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}\n"
             "---\napiVersion: v1\nkind: Endpoints\n"
             "metadata: {name: kubernetes, namespace: default}\n"
             "subsets: [{addresses: [{ip: 192.168.0.1}], notReadyAddresses: [{ip: 192.168.0.2}],"
             " ports: [{name: https, port: 6443}]}]\n");
    struct service *s = fx_find_service("default/kubernetes.default.svc.cluster.local");
    assert_int_equal(s->n_endpoints, 2);
    assert_true(s->endpoints[0].is_ready);
    assert_false(s->endpoints[1].is_ready);
    assert_int_equal(s->endpoints[0].target_ports[0], 6443);
    // a node's other ports are not this endpoint's
    struct ip ip = fx_ip("192.168.0.1");
    assert_null(snapshot_workload_by_ip(snapshot_current(), &ip));
}

static void test_service_kinds(void **state) {
    fx_apply(b, SVC("a", "ext", "type: ExternalName, externalName: example.com") //
             SVC("a", "head", "clusterIP: None, selector: {app: head}, ports: [{port: 80}]")
                 SVC("a", "local",
                     "clusterIP: 10.1.0.1, internalTrafficPolicy: Local, ports: [{port: 80}]")
                     SVC("a", "near",
                         "clusterIP: 10.1.0.2, trafficDistribution: PreferClose, "
                         "publishNotReadyAddresses: true, ports: [{port: 80}]"));
    assert_null(fx_find_service("a/ext.a.svc.cluster.local"));
    assert_true(fx_find_service("a/head.a.svc.cluster.local")->is_headless);
    assert_int_equal(fx_find_service("a/local.a.svc.cluster.local")->lb_mode, LB_STRICT);
    struct service *near = fx_find_service("a/near.a.svc.cluster.local");
    assert_int_equal(near->lb_mode, LB_FAILOVER);
    assert_int_equal(near->n_scopes, 3);
    assert_true(near->allow_not_ready && near->is_canonical);
    // inherited from the namespace
    fx_apply(b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: "
                "{networking.istio.io/traffic-distribution: PreferSameNode}}\n");
    assert_int_equal(fx_find_service("a/head.a.svc.cluster.local")->n_scopes, 5);
    assert_int_equal(fx_find_service("a/near.a.svc.cluster.local")->n_scopes, 3);
}

#define SE(ns, name, spec)                                                                         \
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name          \
    ", namespace: " ns "}\nspec: {" spec "}\n"
#define HTTPS "ports: [{number: 443, name: https, protocol: TLS}]"

static void assert_addr_service(const char *text, const char *key) {
    struct addr addr = fx_addr(text);
    const struct service *service = snapshot_service_by_addr(snapshot_current(), &addr);
    assert_string_equal(service != NULL ? (const char *)service->leaf.key.ptr : "", key);
}

static void test_service_entry(void **state) {
    fx_apply(b, SE("a", "static",
                   "hosts: [One.example.com, two.example.com], addresses: [9.9.9.9],"
                   " location: MESH_EXTERNAL, resolution: STATIC, " HTTPS ","
                   " endpoints: [{address: 8.8.8.8, ports: {https: 8443},"
                   " locality: eu/eu-1, weight: 5}, {address: 8.8.4.4}]") //
             SE("a", "dns", "hosts: [api.example.com], resolution: DNS, " HTTPS)
                 SE("a", "none", "hosts: ['*.wild.com'], resolution: NONE, exportTo: ['.'], " HTTPS)
                     SE("a", "range",
                        "hosts: [r.com], addresses: [10.99.0.1/16, 'fd99::/64', 10.98.0.1], "
                        "resolution: NONE, " HTTPS));
    struct service *s = fx_find_service("a/one.example.com");
    assert_non_null(s);
    assert_non_null(fx_find_service("a/two.example.com"));
    assert_true(s->is_external);
    assert_int_equal(s->n_vips, 1);
    assert_int_equal(s->n_endpoints, 2);
    assert_int_equal(s->endpoints[0].target_ports[0], 8443);
    assert_int_equal(s->endpoints[0].weight, 5);
    assert_int_equal(s->endpoints[1].target_ports[0], 443);
    assert_string_equal(s->endpoints[0].workload->common->locality.zone, "eu-1");

    struct service *dns = fx_find_service("a/api.example.com");
    assert_int_equal(dns->n_vips, 2); // allocated
    assert_int_equal(dns->vips[0].bytes[0], 240);
    assert_int_equal(dns->n_endpoints, 1);
    assert_string_equal(dns->endpoints[0].workload->common->hostname, "api.example.com");
    assert_int_equal(dns->endpoints[0].workload->n_ips, 0);

    struct service *none = fx_find_service("a/*.wild.com");
    assert_int_equal(none->lb_mode, LB_PASSTHROUGH);
    assert_true(none->is_private);
    assert_int_equal(none->n_vips, 0);
    const struct service *range = fx_find_service("a/r.com");
    assert_int_equal(range->n_vips, 1);
    assert_int_equal(range->n_ranges, 2);
    assert_addr_service("10.99.255.1:1", "a/r.com");
    assert_addr_service("[fd99::7]:1", "a/r.com");
    assert_addr_service("10.97.0.1:1", "");
    // Other ranges, and none of its own; no address is allocated beside a range.
    fx_apply(b, SE("a", "range",
                   "hosts: [r.com], addresses: [10.97.0.0/16], resolution: STATIC, " HTTPS));
    assert_int_equal(fx_find_service("a/r.com")->n_vips, 0);
    assert_addr_service("10.97.0.1:1", "a/r.com");
    assert_addr_service("10.99.255.1:1", "");
    assert_addr_service("[fd99::7]:1", "");
    assert_int_equal(snapshot_current()->services_by_range.n_items, 1);
}

// The names under a wildcard share an address where it is a waypoint that tells them apart.
static void test_dynamic_dns(void **state) {
#define DYNAMIC(more) "hosts: ['*.wild.com'], resolution: DYNAMIC_DNS, " HTTPS more
    fx_apply(b, SE("a", "wild", DYNAMIC("")));
    struct service *s = fx_find_service("a/*.wild.com");
    assert_true(s->is_dynamic);
    assert_int_equal(s->n_vips, 2);
    assert_int_equal(s->n_endpoints, 0);
    assert_false(s->is_headless);
    struct ip vip = s->vips[0];
    assert_ptr_equal(snapshot_service_by_vip(snapshot_current(), &vip), s);
    assert_ptr_equal(snapshot_service_by_host(snapshot_current(), SLICE_LIT("a.b.wild.com"), "z"),
                     s);
    assert_non_null(strstr(fx_problems(b), "DYNAMIC_DNS needs a waypoint"));
    fx_apply(b, SE("a", "wild", DYNAMIC(", location: MESH_INTERNAL")));
    assert_false(fx_find_service("a/*.wild.com")->is_dynamic);
    // Without a waypoint's help the wildcard has none.
    fx_apply(b, SE("a", "wild", "hosts: ['*.wild.com'], resolution: STATIC, " HTTPS));
    assert_int_equal(fx_find_service("a/*.wild.com")->n_vips, 0);
    assert_null(snapshot_service_by_vip(snapshot_current(), &vip));
}

static bool note_hostname(void *arg, const char *hostname) {
    char *names = arg;
    size_t len = strlen(names);
    snprintf(names + len, 256 - len, "%s", hostname);
    return true;
}

static void test_resolved(void **state) {
    char names[256] = "";
    fx_apply(b, SE("a", "dns", "hosts: [api.example.com], resolution: DNS, " HTTPS));
    builder_each_hostname(b, note_hostname, names);
    assert_string_equal(names, "api.example.com");
    struct ip ips[2] = {fx_ip("2.2.2.2"), fx_ip("1.1.1.1")}, swapped[2] = {ips[1], ips[0]};
    builder_set_resolved(b, "api.example.com", ips, 2);
    fx_commit(b);
    assert_true(fx_changes.generation > 0);
    struct service *s = fx_find_service("a/api.example.com");
    assert_int_equal(s->endpoints[0].workload->n_ips, 2);
    assert_null(snapshot_workload_by_ip(snapshot_current(), &ips[0]));
    builder_set_resolved(b, "api.example.com", swapped, 2); // another order is no change
    fx_commit(b);
    assert_int_equal(fx_changes.generation, 0);
    builder_set_resolved(b, "api.example.com", NULL, 0);
    fx_commit(b);
    assert_int_equal(fx_find_service("a/api.example.com")->endpoints[0].workload->n_ips, 0);
}

static void test_allocation_is_stable(void **state) {
    fx_apply(b, SE("a", "dns", "hosts: [api.example.com], resolution: DNS, " HTTPS));
    struct ip vip = fx_find_service("a/api.example.com")->vips[0];
    fx_remove(b, SE("a", "dns", "hosts: [x.com]"));
    fx_apply(b, SE("a", "other", "hosts: [other.example.com], resolution: DNS, " HTTPS) //
             SE("a", "dns", "hosts: [api.example.com], resolution: DNS, " HTTPS));
    assert_true(ip_eq(&vip, &fx_find_service("a/api.example.com")->vips[0]));
}

#define WE(ns, name, spec)                                                                         \
    "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: " name         \
    ", namespace: " ns "}\nspec: {" spec "}\n"

static void test_workload_entry(void **state) {
    fx_apply(b, WE("a", "vm",
                   "address: 172.16.0.1, labels: {app: vm}, serviceAccount: vmsa, "
                   "locality: eu/eu-3/r1, ports: {http: 9090}, weight: 3") //
             SVC("a", "vm",
                 "clusterIP: 10.1.0.1, selector: {app: vm}, "
                 "ports: [{name: http, port: 80, targetPort: 8080}]")
                 SE("a", "vm",
                    "hosts: [vm.example], resolution: STATIC, location: MESH_INTERNAL, "
                    "workloadSelector: {labels: {app: vm}}, "
                    "ports: [{number: 80, name: http, protocol: HTTP}]"));
    struct workload *w = fx_find_workload("Kubernetes/networking.istio.io/WorkloadEntry/a/vm");
    assert_non_null(w);
    assert_string_equal(w->common->identity, "spiffe://cluster.local/ns/a/sa/vmsa");
    assert_string_equal(w->common->locality.subzone, "r1");
    assert_int_equal(w->protocol, WORKLOAD_TCP);
    const char *const keys[] = {"a/vm.a.svc.cluster.local", "a/vm.example"};
    for (size_t i = 0; i < 2; i++) {
        struct service *s = fx_find_service(keys[i]);
        assert_int_equal(s->n_endpoints, 1);
        assert_ptr_equal(s->endpoints[0].workload, w);
        assert_int_equal(s->endpoints[0].target_ports[0], 9090);
        assert_int_equal(s->endpoints[0].weight, 3);
    }
    fx_apply(b, WE("a", "vm", "address: 172.16.0.1, labels: {app: other}"));
    assert_int_equal(fx_find_service("a/vm.example")->n_endpoints, 0);
}

#define GATEWAY(ns, name, labels)                                                                  \
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: " name         \
    ", namespace: " ns ", labels: {" labels                                                        \
    "}}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, "          \
    "protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}\n"                               \
    "status: {addresses: [{type: Hostname, value: " name "." ns ".svc.cluster.local}]}\n"
#define USE(name) "istio.io/use-waypoint: " name

#define TELLS "annotations: {ambient.istio.io/xfcc-include-client-identity: "
#define ANNOTATED(text)                                                                            \
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: way, "         \
    "namespace: a, " text "}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, "  \
    "port: 15008, protocol: HBONE}]}\n"
#define CLASS(text)                                                                                \
    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: "         \
    "istio-waypoint, " text "}\nspec: {controllerName: istio.io/mesh-controller}\n"

// Of the Gateway, else of its class.
static void test_waypoint_tells_client(void **state) {
    static const struct {
        const char *objects;
        bool tells;
    } rows[] = {
        {SVC("a", "way", "clusterIP: 10.1.0.2, ports: [{port: 15008}]") ANNOTATED(TELLS "'true'}"),
         true},
        {ANNOTATED(TELLS "'false'}"), false},
        {ANNOTATED("labels: {}"), false},
        {CLASS(TELLS "'true'}"), true},
        {ANNOTATED(TELLS "'false'}"), false},
        {ANNOTATED("labels: {}"), true},
        {CLASS("labels: {}"), false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        fx_apply(b, rows[i].objects);
        const struct service *way = fx_find_service("a/way.a.svc.cluster.local");
        assert_true(way->is_waypoint);
        if (way->tells_client != rows[i].tells) {
            fail_msg("row %zu", i);
        }
    }
}

static void test_waypoint(void **state) {
    fx_apply(b, NS("a", USE("way")) SVC("a", "web", "clusterIP: 10.1.0.1, ports: [{port: 80}]")
                    SVC("a", "way", "clusterIP: 10.1.0.2, ports: [{port: 15008}]") POD("a", "p", "",
                                                                                       "10.0.0.1")
                        POD("a", "g", "gateway.networking.k8s.io/gateway-name: way", "10.0.0.2"));
    assert_string_equal(fx_find_service(WEB)->waypoint, ""); // not there
    assert_non_null(strstr(fx_problems(b), "Service a/web: waypoint a/way is not there"));

    fx_apply(b, GATEWAY("a", "way", ""));
    assert_string_equal(fx_find_service(WEB)->waypoint, "a/way.a.svc.cluster.local");
    assert_string_equal(fx_find_service("a/way.a.svc.cluster.local")->waypoint, "");
    assert_true(fx_find_service("a/way.a.svc.cluster.local")->is_waypoint);
    assert_string_equal(pod("a/p")->common->waypoint, ""); // for services
    assert_string_equal(fx_problems(b), "");

    fx_apply(b, GATEWAY("a", "way", "istio.io/waypoint-for: all"));
    assert_string_equal(pod("a/p")->common->waypoint, "a/way.a.svc.cluster.local");
    assert_string_equal(pod("a/g")->common->waypoint, "");
    fx_apply(b, GATEWAY("a", "way", "istio.io/waypoint-for: none"));
    assert_string_equal(fx_find_service(WEB)->waypoint, "");

    fx_apply(b, GATEWAY("a", "way", "istio.io/waypoint-for: service") NS("a", USE("none"))
                    GATEWAY("b", "other", ""));
    assert_string_equal(fx_find_service(WEB)->waypoint, "");
    fx_apply(b, NS("a", USE("other") ", istio.io/use-waypoint-namespace: b"));
    assert_string_equal(fx_find_service(WEB)->waypoint, "b/other.b.svc.cluster.local");
    fx_remove(b, GATEWAY("b", "other", ""));
    assert_string_equal(fx_find_service(WEB)->waypoint, "");
}

static void test_mesh_config(void **state) {
    fx_apply(b, POD("a", "p", "",
                    "10.0.0.1") "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
                                "metadata: {name: x, namespace: a}\nspec: {mtls: {mode: "
                                "PERMISSIVE}}\n");
    assert_non_null(fx_find_policy("istio-system/istio_converted_static_strict"));
    assert_string_equal(pod("a/p")->common->trust_domain, "cluster.local");
    fx_apply(b, "apiVersion: v1\nkind: ConfigMap\n"
                "metadata: {name: istio, namespace: istio-system}\n"
                "data:\n  mesh: |\n    trustDomain: td.example\n    rootNamespace: root\n"
                "    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"
                "    trustDomainAliases: [old, cluster.local]\n    connectTimeout: 1500ms\n");
    assert_true(fx_changes.mesh_changed);
    const struct mesh_settings *mesh = snapshot_current()->mesh;
    assert_int_equal(mesh->connect_timeout_ms, 1500);
    assert_string_equal(mesh_trust_domain(mesh, 0), "td.example");
    assert_string_equal(mesh_trust_domain(mesh, 1), "old");
    assert_string_equal(mesh_trust_domain(mesh, 2), "cluster.local");
    assert_null(mesh_trust_domain(mesh, 3));
    assert_true(mesh_is_same_identity(mesh, SLICE_LIT("spiffe://old/ns/a/sa/b"),
                                      SLICE_LIT("spiffe://td.example/ns/a/sa/b")));
    assert_false(mesh_is_same_identity(mesh, SLICE_LIT("spiffe://older/ns/a/sa/b"),
                                       SLICE_LIT("spiffe://td.example/ns/a/sa/b")));
    assert_false(mesh_is_same_identity(mesh, SLICE_LIT("spiffe://old/ns/a/sa/c"),
                                       SLICE_LIT("spiffe://td.example/ns/a/sa/b")));
    assert_string_equal(pod("a/p")->common->identity, "spiffe://td.example/ns/a/sa/default");
    assert_string_equal(snapshot_current()->mesh->root_namespace, "root");
    assert_true(snapshot_current()->mesh->outbound_registry_only);
    assert_non_null(fx_find_policy("root/istio_converted_static_strict"));
    assert_null(fx_find_policy("istio-system/istio_converted_static_strict"));
    fx_remove(b, "apiVersion: v1\nkind: ConfigMap\n"
                 "metadata: {name: istio, namespace: istio-system}\ndata: {mesh: ''}\n");
    assert_string_equal(pod("a/p")->common->trust_domain, "cluster.local");
    assert_null(mesh_trust_domain(snapshot_current()->mesh, 1));
    assert_int_equal(snapshot_current()->mesh->connect_timeout_ms, 0);
}

// Of several revisions: the one that is named, wherever it is, and else `istio`.
static void test_mesh_config_of_a_revision(void **state) {
#define CONFIG(name, ns, td)                                                                       \
    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: " name ", namespace: " ns              \
    "}\ndata: {mesh: 'trustDomain: " td "'}\n"
    static const char all[] = CONFIG("istio-canary", "istio-system", "canary")
        CONFIG("istio", "istio-system", "stable") CONFIG("istio-b", "istio-system", "b");
    fx_apply(b, all);
    assert_string_equal(snapshot_current()->mesh->trust_domain, "stable");
    fx_builder_free(b);
    struct builder_options options = {.mesh = *snapshot_current()->mesh,
                                      .mesh_config = "istio-canary"};
    snprintf(options.mesh.trust_domain, sizeof(options.mesh.trust_domain), "default");
    b = builder_new(&options);
    fx_apply(b, all);
    assert_string_equal(snapshot_current()->mesh->trust_domain, "canary");
    fx_remove(b, CONFIG("istio-canary", "istio-system", "canary"));
    assert_string_equal(snapshot_current()->mesh->trust_domain, "default");
}

// What the control thread is told.
static void test_changes(void **state) {
    fx_apply(b, POD("a", "p", "", "10.0.0.1") POD_HEAD
             "  {name: q, namespace: a}\nspec: {nodeName: n2, containers: [{name: c, image: "
             "i}]}\n" RUNNING("10.0.0.2"));
    assert_int_equal(fx_changes.n_locals, 1);
    assert_int_equal(fx_changes.locals[0].event, BUILDER_ADDED);
    assert_ptr_equal(fx_changes.locals[0].workload, pod("a/p"));
    assert_true(fx_changes.workloads_changed);
    assert_false(fx_changes.services_changed);
    assert_false(fx_changes.settings_changed);

    fx_commit(b); // nothing new
    assert_int_equal(fx_changes.generation, 0);
    fx_apply(b, NS("a", "some: label")); // touches the pods but changes nothing
    assert_int_equal(fx_changes.generation, 0);

    fx_apply(b, NS("a", AMBIENT));
    assert_int_equal(fx_changes.n_locals, 1);
    assert_int_equal(fx_changes.locals[0].event, BUILDER_CHANGED);
    assert_true(fx_changes.locals[0].workload->is_enrolled);
    assert_false(fx_changes.locals[0].old->is_enrolled);
    assert_int_equal(fx_changes.generation, snapshot_current()->generation);

    fx_apply(b, POD_HEAD "  {name: p, namespace: a}\nspec: {nodeName: n2, containers: [{name: c, "
                         "image: i}]}\n" RUNNING("10.0.0.1"));
    assert_int_equal(fx_changes.locals[0].event, BUILDER_REMOVED); // moved
    fx_remove(b, POD("a", "q", "", "10.0.0.2"));
    assert_int_equal(fx_changes.n_locals, 0);
    fx_apply(b, POD("a", "p", "", "10.0.0.1"));
    fx_remove(b, POD("a", "p", "", "10.0.0.1"));
    assert_int_equal(fx_changes.n_locals, 1);
    assert_int_equal(fx_changes.locals[0].event, BUILDER_REMOVED);
    assert_string_equal(fx_changes.locals[0].workload->name, "p");
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_pod),
        TEST(test_owners),
        TEST(test_enrolment),
        TEST(test_health),
        TEST(test_service_by_selector),
        TEST(test_slices),
        TEST(test_endpoints_object),
        TEST(test_service_kinds),
        TEST(test_service_entry),
        TEST(test_resolved),
        TEST(test_dynamic_dns),
        TEST(test_allocation_is_stable),
        TEST(test_workload_entry),
        TEST(test_waypoint),
        TEST(test_waypoint_tells_client),
        TEST(test_mesh_config),
        TEST(test_mesh_config_of_a_revision),
        TEST(test_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
