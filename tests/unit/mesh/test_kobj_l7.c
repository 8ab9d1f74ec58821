// SPDX-License-Identifier: Apache-2.0
//
// The L7 kinds: what a correct object decodes to.
#include "common/mesh/kobj_l7.h"

#include "tests/unit/mesh/config_fixture.h"

#define HEAD(group, kind)                                                                          \
    "apiVersion: " group "/v1\nkind: " kind "\nmetadata: {name: a, namespace: ns}\n"
#define VS HEAD("networking.istio.io", "VirtualService")
#define DR HEAD("networking.istio.io", "DestinationRule")
#define GATEWAY HEAD("gateway.networking.k8s.io", "Gateway")
#define HTTP_ROUTE HEAD("gateway.networking.k8s.io", "HTTPRoute")
#define GRPC_ROUTE HEAD("gateway.networking.k8s.io", "GRPCRoute")

static struct config_fixture f;

// Full or lean; the tree and the text are gone when the fields are looked at.
static const struct kobj *read_one(const char *yaml, unsigned flags) {
    fixture_init(&f);
    f.flags = flags;
    fixture_read(&f, yaml, CONFIG_YAML);
    assert_messages(&f.errors, "");
    assert_int_equal(f.n_objs, 1);
    arena_fini(&f.arena);
    arena_init(&f.arena, SIZE_MAX);
    return f.objs[0];
}

static const char full_vs[] =
    VS "spec:\n"
       "  hosts: [reviews, '*.shop.example']\n"
       "  gateways: [mesh, istio-system/gw]\n"
       "  exportTo: ['.', other]\n"
       "  http:\n"
       "  - name: first\n"
       "    match:\n"
       "    - name: m1\n"
       "      uri: {prefix: /a}\n"
       "      ignoreUriCase: true\n"
       "      scheme: {exact: https}\n"
       "      method: {regex: GET|HEAD}\n"
       "      authority: {prefix: shop}\n"
       "      headers:\n"
       "        end-user: {exact: jason}\n"
       "        x-any: {}\n"
       "        x-star: {regex: '*'}\n"
       "      withoutHeaders: {x-off: {regex: \"a+\"}}\n"
       "      queryParams: {q: {exact: '1'}, any: {regex: '*'}}\n"
       "      port: 8080\n"
       "      sourceLabels: {app: web}\n"
       "      sourceNamespace: front\n"
       "      statPrefix: st\n"
       "    - uri: {exact: /b}\n"
       "      gateways: [mesh]\n"
       "    route:\n"
       "    - destination: {host: reviews, subset: v1, port: {number: 9080}}\n"
       "      weight: 90\n"
       "      headers: {request: {set: {x-a: '%REQ(X)%'}}, response: {remove: [x-b]}}\n"
       "    - destination: {host: reviews.ns.svc.cluster.local}\n"
       "      weight: 10\n"
       "    timeout: 1.5s\n"
       "    retries: {attempts: 3, perTryTimeout: 200ms, retryOn: '5xx,503', backoff: 30ms,\n"
       "      retryRemoteLocalities: true, retryIgnorePreviousHosts: false}\n"
       "    fault:\n"
       "      delay: {fixedDelay: 7s, percentage: {value: 0.1}}\n"
       "      abort: {grpcStatus: UNAVAILABLE, percentage: {value: 50}}\n"
       "    mirror: {host: shadow, subset: v2, port: {number: 81}}\n"
       "    mirrorPercentage: {value: 12.5}\n"
       "    corsPolicy:\n"
       "      allowOrigins: [{exact: https://a.example}, {regex: 'https://.*'}]\n"
       "      allowMethods: [GET, POST]\n"
       "      allowHeaders: [x-h]\n"
       "      exposeHeaders: [x-e]\n"
       "      maxAge: 24h\n"
       "      allowCredentials: true\n"
       "      unmatchedPreflights: IGNORE\n"
       "    rewrite: {uri: /z, authority: new.example}\n"
       "    headers: {request: {add: {x-c: d}, remove: [x-r]}}\n"
       "  - match: [{uri: {exact: /old}}]\n"
       "    redirect: {uri: /new, authority: x.example, scheme: https, derivePort: "
       "FROM_REQUEST_PORT, redirectCode: 308}\n"
       "  - match: [{uri: {exact: /text}}]\n"
       "    directResponse: {status: 503, body: {string: sorry}}\n"
       "  - match: [{uri: {exact: /bytes}}]\n"
       "    directResponse: {status: 200, body: {bytes: AP8=}}\n"
       "  - match: [{uri: {exact: /more}}]\n"
       "    route: [{destination: {host: reviews}}]\n"
       "    mirrors: [{destination: {host: one}}, {destination: {host: two}, percentage: {value: "
       "0}}]\n"
       "    rewrite: {uriRegexRewrite: {match: '^/m(.*)', rewrite: '/n\\1'}}\n"
       "  - delegate: {name: child, namespace: team}\n"
       "  tls:\n"
       "  - match: [{sniHosts: [x.shop.example], port: 443, destinationSubnets: [10.0.0.0/8]}]\n"
       "    route: [{destination: {host: reviews}}]\n"
       "  tcp:\n"
       "  - match: [{port: 27017, sourceSubnet: 10.1.0.0/16, sourceLabels: {a: b}}]\n"
       "    route: [{destination: {host: db}, weight: 100}]\n";

static void check_first_match(const struct kobj_vs_match *m) {
    assert_int_equal(m->pos.line, 11);
    assert_string_equal(m->name, "m1");
    assert_int_equal(m->uri->kind, KOBJ_MATCH_PREFIX);
    assert_string_equal(m->uri->text, "/a");
    assert_int_equal(m->uri->pos.line, 12);
    assert_true(m->ignore_uri_case);
    assert_int_equal(m->scheme->kind, KOBJ_MATCH_EXACT);
    assert_int_equal(m->method->kind, KOBJ_MATCH_REGEX);
    assert_string_equal(m->authority->text, "shop");
    assert_int_equal(m->n_headers, 3);
    assert_string_equal(m->headers[0].name, "end-user");
    assert_string_equal(m->headers[0].match.text, "jason");
    assert_int_equal(m->headers[0].match.pos.line, 18);
    assert_int_equal(m->headers[1].match.kind, KOBJ_MATCH_PRESENT);
    assert_string_equal(m->headers[1].match.text, "");
    assert_int_equal(m->headers[2].match.kind, KOBJ_MATCH_PRESENT); // the regex `*`
    assert_int_equal(m->headers[2].match.pos.line, 20);
    assert_int_equal(m->without_headers[0].match.kind, KOBJ_MATCH_REGEX);
    assert_int_equal(m->query_params[1].match.kind, KOBJ_MATCH_PRESENT);
    assert_int_equal(m->port, 8080);
    assert_string_equal(kobj_map_get(&m->source_labels, "app"), "web");
    assert_string_equal(m->source_ns, "front");
    assert_string_equal(m->stat_prefix, "st");
    assert_int_equal(m->n_gateways, 0);
}

static void check_first_rule(const struct kobj_vs_http *http) {
    assert_int_equal(http->pos.line, 9);
    assert_string_equal(http->name, "first");
    assert_int_equal(http->n_matches, 2);
    check_first_match(&http->matches[0]);
    assert_null(http->matches[1].scheme);
    assert_string_equal(http->matches[1].gateways[0], "mesh");
    assert_int_equal(http->n_routes, 2);
    const struct kobj_vs_dest *dest = &http->routes[0];
    assert_int_equal(dest->pos.line, 30);
    assert_string_equal(dest->host, "reviews");
    assert_string_equal(dest->subset, "v1");
    assert_int_equal(dest->port, 9080);
    assert_int_equal(dest->weight, 90);
    assert_string_equal(kobj_map_get(&dest->headers.request.set, "x-a"), "%REQ(X)%");
    assert_string_equal(dest->headers.response.remove[0], "x-b");
    assert_string_equal(http->routes[1].subset, "");
    assert_int_equal(http->routes[1].port, 0);
    assert_int_equal(http->timeout_ms, 1500);
    assert_int_equal(http->retries->attempts, 3);
    assert_int_equal(http->retries->per_try_timeout_ms, 200);
    assert_int_equal(http->retries->backoff_ms, 30);
    assert_string_equal(http->retries->retry_on, "5xx,503");
    assert_int_equal(http->retries->remote_localities, TRI_TRUE);
    assert_int_equal(http->retries->ignore_previous_hosts, TRI_FALSE);
    assert_int_equal(http->fault->delay->fixed_ms, 7000);
    assert_int_equal(http->fault->delay->ppm, 1000);
    assert_int_equal(http->fault->abort->ppm, 500000);
    assert_string_equal(http->fault->abort->grpc_status, "UNAVAILABLE");
    assert_int_equal(http->fault->abort->http_status, 0);
    assert_int_equal(http->n_mirrors, 1);
    assert_string_equal(http->mirrors[0].dest.host, "shadow");
    assert_string_equal(http->mirrors[0].dest.subset, "v2");
    assert_int_equal(http->mirrors[0].dest.port, 81);
    assert_int_equal(http->mirrors[0].ppm, 125000);
    assert_int_equal(http->cors->n_allow_origins, 2);
    assert_int_equal(http->cors->allow_origins[1].kind, KOBJ_MATCH_REGEX);
    assert_string_equal(http->cors->allow_methods[1], "POST");
    assert_string_equal(http->cors->allow_headers[0], "x-h");
    assert_string_equal(http->cors->expose_headers[0], "x-e");
    assert_int_equal(http->cors->max_age_ms, 86400000);
    assert_int_equal(http->cors->allow_credentials, TRI_TRUE);
    assert_int_equal(http->cors->unmatched_preflights, PREFLIGHT_IGNORE);
    assert_string_equal(http->rewrite->uri, "/z");
    assert_string_equal(http->rewrite->authority, "new.example");
    assert_string_equal(http->rewrite->regex, "");
    assert_string_equal(kobj_map_get(&http->headers.request.add, "x-c"), "d");
    assert_int_equal(http->headers.request.n_remove, 1);
    assert_string_equal(http->delegate_name, "");
}

static void test_virtual_service(void **state) {
    for (unsigned flags = 0; flags <= KOBJ_LEAN; flags += KOBJ_LEAN) {
        const struct kobj_virtual_service *vs = read_one(full_vs, flags)->virtual_service;
        assert_int_equal(f.objs[0]->kind, KOBJ_VIRTUAL_SERVICE);
        assert_string_equal(vs->hosts[1], "*.shop.example");
        assert_int_equal(vs->n_gateways, 2);
        assert_true(kobj_virtual_service_is_mesh(vs));
        assert_string_equal(vs->export_to[1], "other");
        assert_int_equal(vs->n_http, 6);
        check_first_rule(&vs->http[0]);
        const struct kobj_vs_redirect *redirect = vs->http[1].redirect;
        assert_string_equal(redirect->uri, "/new");
        assert_string_equal(redirect->scheme, "https");
        assert_int_equal(redirect->derive_port, DERIVE_PORT_REQUEST);
        assert_int_equal(redirect->code, 308);
        assert_int_equal(vs->http[1].timeout_ms, -1);
        assert_null(vs->http[1].retries);
        const struct kobj_vs_direct *direct = vs->http[2].direct;
        assert_int_equal(direct->status, 503);
        assert_true(direct->has_body);
        assert_true(slice_eq_str(direct->body, "sorry"));
        assert_int_equal(vs->http[3].direct->body.len, 2);
        assert_memory_equal(vs->http[3].direct->body.ptr, "\0\xff", 2);
        assert_int_equal(vs->http[4].n_mirrors, 2);
        assert_int_equal(vs->http[4].mirrors[0].ppm, KOBJ_PPM);
        assert_int_equal(vs->http[4].mirrors[1].ppm, 0);
        assert_string_equal(vs->http[4].rewrite->regex, "^/m(.*)");
        assert_string_equal(vs->http[4].rewrite->substitution, "/n\\1");
        assert_string_equal(vs->http[5].delegate_name, "child");
        assert_string_equal(vs->http[5].delegate_ns, "team");
        assert_string_equal(vs->tls[0].matches[0].sni_hosts[0], "x.shop.example");
        assert_int_equal(vs->tls[0].matches[0].port, 443);
        assert_string_equal(vs->tcp[0].matches[0].source_subnet, "10.1.0.0/16");
        assert_int_equal(vs->tcp[0].routes[0].weight, 100);
        fixture_fini(&f);
    }
}

// Old spellings land in the new ones' places, and absence has its value.
static void test_virtual_service_forms(void **state) {
    fixture_init(&f);
    fixture_read(&f,
                 VS "spec:\n  hosts: [a]\n  http:\n"
                    "  - route: [{destination: {host: a}}]\n"
                    "    fault: {delay: {fixedDelay: 1s, percent: 30}}\n"
                    "    mirror: {host: b}\n    mirrorPercent: 40\n"
                    "    corsPolicy: {allowOrigin: ['*']}\n"
                    "    retries: {attempts: 0}\n",
                 CONFIG_YAML);
    assert_int_equal(f.errors.n_errors, 0);
    assert_int_equal(f.errors.n_warnings, 3);
    const struct kobj_virtual_service *vs = f.objs[0]->virtual_service;
    assert_int_equal(vs->http[0].fault->delay->ppm, 300000);
    assert_null(vs->http[0].fault->abort);
    assert_int_equal(vs->http[0].mirrors[0].ppm, 400000);
    assert_string_equal(vs->http[0].cors->origins[0], "*");
    assert_int_equal(vs->http[0].cors->max_age_ms, -1);
    assert_int_equal(vs->http[0].retries->attempts, 0);
    assert_int_equal(vs->http[0].retries->per_try_timeout_ms, -1);
    assert_true(kobj_virtual_service_is_mesh(vs));
    fixture_fini(&f);

    const struct kobj *obj = read_one(VS "spec: {hosts: [a], gateways: [gw], http: [{redirect: "
                                         "{uri: /x}}, ]}\n",
                                      0);
    assert_false(kobj_virtual_service_is_mesh(obj->virtual_service));
    assert_int_equal(obj->virtual_service->http[0].redirect->code, 301);
    assert_int_equal(obj->virtual_service->http[0].redirect->derive_port, DERIVE_PORT_UNSET);
    fixture_fini(&f);
    // The percentage may stand before the mirror.
    obj = read_one(VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], "
                      "mirrorPercentage: {value: 1}, mirror: {host: b}}]}\n",
                   0);
    assert_int_equal(obj->virtual_service->http[0].mirrors[0].ppm, 10000);
    fixture_fini(&f);
}

static const char full_dr[] = DR
    "spec:\n"
    "  host: reviews\n"
    "  exportTo: ['*']\n"
    "  trafficPolicy:\n"
    "    loadBalancer:\n"
    "      consistentHash: {httpCookie: {name: c, path: /p, ttl: 0s, attributes: [{name: "
    "SameSite, value: Lax}]}, maglev: {tableSize: 65537}}\n"
    "      localityLbSetting: {enabled: true, failover: [{from: a, to: b}]}\n"
    "      warmup: {duration: 30s, minimumPercent: 5, aggression: 1.5}\n"
    "    connectionPool:\n"
    "      tcp: {maxConnections: 1, connectTimeout: 10ms, tcpKeepalive: {probes: 3, time: 7200s, "
    "interval: 75s}, maxConnectionDuration: 1h, idleTimeout: 0s}\n"
    "      http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRequestsPerConnection: 4, "
    "maxRetries: 5, idleTimeout: 6s, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7, "
    "http2KeepAlive: {interval: 8s, timeout: 9s}}\n"
    "    outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0, "
    "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, interval: 5s, "
    "baseEjectionTime: 15s, maxEjectionPercent: 100, minHealthPercent: 30, "
    "outlierDetectionHttpErrorCodes: [500, 503]}\n"
    "    tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: "
    "/crl, subjectAltNames: [s], sni: name, insecureSkipVerify: false}\n"
    "    portLevelSettings:\n"
    "    - port: {number: 9080}\n"
    "      loadBalancer: {simple: ROUND_ROBIN}\n"
    "    proxyProtocol: {version: V2}\n"
    "    retryBudget: {percent: 25.5, minRetryConcurrency: 6, budgetInterval: 1s}\n"
    "  subsets:\n"
    "  - name: v1\n"
    "    labels: {version: v1}\n"
    "  - name: v2\n"
    "    labels: {version: v2}\n"
    "    trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-h}}, tunnel: "
    "{targetHost: p.example, targetPort: 443}}\n"
    "  - name: v3\n"
    "    trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, ringHash: "
    "{minimumRingSize: 9}}}, proxyProtocol: {}}\n"
    "  - name: v4\n"
    "    trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: q}}, "
    "outlierDetection: {}, retryBudget: {}}\n";

static void check_pool(const struct kobj_connection_pool *p) {
    assert_int_equal(p->max_connections, 1);
    assert_int_equal(p->connect_timeout_ms, 10);
    assert_true(p->has_keepalive);
    assert_int_equal(p->keepalive_probes, 3);
    assert_int_equal(p->keepalive_time_ms, 7200000);
    assert_int_equal(p->keepalive_interval_ms, 75000);
    assert_int_equal(p->max_connection_duration_ms, 3600000);
    assert_int_equal(p->tcp_idle_timeout_ms, 0);
    assert_int_equal(p->max_pending_requests, 2);
    assert_int_equal(p->max_requests, 3);
    assert_int_equal(p->max_requests_per_connection, 4);
    assert_int_equal(p->max_retries, 5);
    assert_int_equal(p->http_idle_timeout_ms, 6000);
    assert_int_equal(p->h2_upgrade, H2_UPGRADE_YES);
    assert_false(p->use_client_protocol);
    assert_int_equal(p->max_concurrent_streams, 7);
    assert_int_equal(p->ping_interval_ms, 8000);
    assert_int_equal(p->ping_timeout_ms, 9000);
}

static void test_destination_rule(void **state) {
    const struct kobj_destination_rule *dr = read_one(full_dr, KOBJ_LEAN)->destination_rule;
    assert_string_equal(dr->host, "reviews");
    const struct kobj_traffic_policy *policy = dr->policy;
    const struct kobj_consistent_hash *hash = policy->load_balancer->hash;
    assert_int_equal(hash->key, HASH_KEY_COOKIE);
    assert_string_equal(hash->name, "c");
    assert_string_equal(hash->cookie_path, "/p");
    assert_int_equal(hash->cookie_ttl_ms, 0);
    assert_string_equal(hash->cookie_attributes[0].value, "Lax");
    assert_int_equal(hash->algorithm, HASH_MAGLEV);
    assert_int_equal(hash->table_size, 65537);
    assert_string_equal(policy->load_balancer->locality->failover[0].to, "b");
    assert_int_equal(policy->load_balancer->warmup_ms, 30000);
    assert_int_equal(policy->load_balancer->warmup_min_ppm, 50000);
    assert_true(policy->load_balancer->warmup_aggression == 1.5);
    check_pool(policy->connection_pool);
    const struct kobj_outlier *outlier = policy->outlier;
    assert_int_equal(outlier->consecutive_5xx, 7);
    assert_int_equal(outlier->consecutive_gateway, 0);
    assert_int_equal(outlier->consecutive_local_origin, 2);
    assert_true(outlier->splits_local_origin);
    assert_int_equal(outlier->interval_ms, 5000);
    assert_int_equal(outlier->base_ejection_ms, 15000);
    assert_int_equal(outlier->max_ejection_percent, 100);
    assert_int_equal(outlier->min_health_percent, 30);
    assert_int_equal(outlier->http_codes[1], 503);
    assert_int_equal(policy->tls->mode, TLS_MODE_MUTUAL);
    assert_string_equal(policy->tls->ca_crl, "/crl");
    assert_string_equal(policy->tls->sans[0], "s");
    assert_int_equal(policy->tls->insecure_skip_verify, TRI_FALSE);
    assert_int_equal(policy->ports[0].port, 9080);
    assert_int_equal(policy->ports[0].policy.load_balancer->simple, KOBJ_LB_ROUND_ROBIN);
    assert_null(policy->ports[0].policy.connection_pool);
    assert_int_equal(policy->proxy_protocol, PROXY_PROTOCOL_V2);
    assert_int_equal(policy->retry_budget->ppm, 255000);
    assert_int_equal(policy->retry_budget->min_concurrency, 6);
    assert_int_equal(policy->retry_budget->interval_ms, 1000);
    assert_int_equal(dr->n_subsets, 4);
    assert_string_equal(kobj_map_get(&dr->subsets[0].labels, "version"), "v1");
    assert_null(dr->subsets[0].policy);
    assert_int_equal(dr->subsets[1].pos.line, 25);
    assert_string_equal(dr->subsets[1].policy->load_balancer->hash->name, "x-h");
    assert_int_equal(dr->subsets[1].policy->load_balancer->warmup_ms, -1);
    assert_int_equal(dr->subsets[1].policy->load_balancer->warmup_min_ppm, 100000);
    assert_int_equal(dr->subsets[1].policy->tunnel->target_port, 443);
    assert_int_equal(dr->subsets[1].policy->proxy_protocol, PROXY_PROTOCOL_NONE);
    assert_true(dr->subsets[2].policy->load_balancer->hash->use_source_ip);
    assert_int_equal(dr->subsets[2].policy->load_balancer->hash->min_ring_size, 9);
    assert_int_equal(dr->subsets[2].policy->proxy_protocol, PROXY_PROTOCOL_V1);
    assert_int_equal(dr->subsets[3].policy->load_balancer->hash->key, HASH_KEY_QUERY);
    assert_int_equal(dr->subsets[3].policy->load_balancer->hash->cookie_ttl_ms, -1);
    assert_int_equal(dr->subsets[3].policy->outlier->consecutive_5xx, -1);
    assert_int_equal(dr->subsets[3].policy->outlier->max_ejection_percent, -1);
    assert_int_equal(dr->subsets[3].policy->retry_budget->ppm, 200000);
    assert_int_equal(dr->subsets[3].policy->retry_budget->min_concurrency, 3);
    fixture_fini(&f);
}

static void test_gateway(void **state) {
    const struct kobj *obj = read_one(
        GATEWAY
        "spec:\n"
        "  gatewayClassName: istio-waypoint\n"
        "  listeners:\n"
        "  - {name: mesh, port: 15008, protocol: HBONE}\n"
        "  - name: other\n"
        "    port: 80\n"
        "    protocol: HTTP\n"
        "    hostname: '*.x.example'\n"
        "    allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}, "
        "kinds: [{kind: HTTPRoute}]}\n"
        "  addresses: [{type: Hostname, value: way}]\n"
        "status:\n"
        "  addresses: [{value: 10.1.0.1}, {type: Hostname, value: way.ns.svc}]\n"
        "  conditions: [{type: Programmed, status: 'True'}]\n"
        "  listeners: []\n",
        KOBJ_LEAN);
    const struct kobj_gateway *gw = obj->gateway;
    assert_string_equal(gw->class_name, "istio-waypoint");
    assert_int_equal(gw->n_listeners, 2);
    assert_int_equal(gw->listeners[0].port, 15008);
    assert_string_equal(gw->listeners[0].protocol, "HBONE");
    assert_int_equal(gw->listeners[0].routes_from, ROUTES_SAME);
    assert_int_equal(gw->listeners[1].pos.line, 8);
    assert_int_equal(gw->listeners[1].routes_from, ROUTES_SELECTOR);
    assert_string_equal(kobj_map_get(&gw->listeners[1].selector->match_labels, "a"), "b");
    assert_string_equal(gw->listeners[1].kinds[0].group, "gateway.networking.k8s.io");
    assert_string_equal(gw->addresses[0].type, "Hostname");
    assert_string_equal(gw->status_addresses[0].type, "IPAddress");
    assert_string_equal(gw->status_addresses[1].value, "way.ns.svc");
    assert_string_equal(gw->conditions[0].status, "True");
    fixture_fini(&f);

    obj = read_one("apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\n"
                   "metadata: {name: c}\nspec: {controllerName: x/y}\n",
                   0);
    assert_int_equal(obj->kind, KOBJ_GATEWAY_CLASS);
    assert_string_equal(obj->meta.ns, "");
    assert_string_equal(obj->gateway_class->controller, "x/y");
    fixture_fini(&f);

    obj = read_one("apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n"
                   "metadata: {name: g, namespace: ns}\n"
                   "spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: "
                   "x}], to: [{group: '', kind: Service}]}\n",
                   0);
    assert_string_equal(obj->reference_grant->from[0].ns, "x");
    assert_string_equal(obj->reference_grant->to[0].name, "");
    fixture_fini(&f);
}

static const char full_route[] = HTTP_ROUTE
    "spec:\n"
    "  parentRefs:\n"
    "  - {group: '', kind: Service, name: web, port: 80}\n"
    "  - {name: gw, namespace: other, sectionName: s}\n"
    "  rules:\n"
    "  - name: r1\n"
    "    matches:\n"
    "    - path: {type: Exact, value: /a}\n"
    "      method: GET\n"
    "      headers: [{name: x-h, value: v}, {name: x-r, type: RegularExpression, value: 'v.*'}]\n"
    "      queryParams: [{name: q, value: '1'}]\n"
    "    - {}\n"
    "    filters:\n"
    "    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: s, value: '1'}], "
    "add: [{name: a, value: '2'}], remove: [r]}}\n"
    "    - {type: URLRewrite, urlRewrite: {hostname: h.example, path: {type: ReplaceFullPath, "
    "replaceFullPath: /n}}}\n"
    "    - {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 8}, fraction: "
    "{numerator: 1, denominator: 8}}}\n"
    "    - {type: RequestMirror, requestMirror: {backendRef: {name: m2, port: 8}, percent: 5}}\n"
    "    - {type: CORS, cors: {allowOrigins: ['https://*.x.example'], maxAge: 10}}\n"
    "    backendRefs:\n"
    "    - {name: web-v1, port: 80, weight: 0}\n"
    "    - {name: web-v2, port: 80, filters: [{type: ResponseHeaderModifier, "
    "responseHeaderModifier: {remove: [x]}}]}\n"
    "    - {group: networking.istio.io, kind: Hostname, name: x.example, port: 443}\n"
    "    timeouts: {request: 10s, backendRequest: 0s}\n"
    "    retry: {codes: [500, 503], attempts: 3, backoff: 100ms}\n"
    "  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, path: "
    "{type: ReplacePrefixMatch, replacePrefixMatch: /p}}}]\n";

static void check_filters(const struct kobj_route_rule *rule) {
    assert_int_equal(rule->n_filters, 5);
    assert_string_equal(kobj_map_get(&rule->filters[0].headers.set, "s"), "1");
    assert_string_equal(kobj_map_get(&rule->filters[0].headers.add, "a"), "2");
    assert_string_equal(rule->filters[0].headers.remove[0], "r");
    assert_int_equal(rule->filters[1].type, FILTER_REWRITE);
    assert_string_equal(rule->filters[1].redirect->hostname, "h.example");
    assert_int_equal(rule->filters[1].redirect->path_change, PATH_FULL);
    assert_string_equal(rule->filters[1].redirect->path, "/n");
    assert_string_equal(rule->filters[1].redirect->scheme, "");
    assert_string_equal(rule->filters[2].mirror->backend.name, "m");
    assert_int_equal(rule->filters[2].mirror->ppm, 125000);
    assert_int_equal(rule->filters[3].mirror->ppm, 50000);
    assert_string_equal(rule->filters[4].cors->origins[0], "https://*.x.example");
    assert_int_equal(rule->filters[4].cors->max_age_ms, 10000);
    assert_null(rule->filters[4].mirror);
}

static void test_http_route(void **state) {
    for (unsigned flags = 0; flags <= KOBJ_LEAN; flags += KOBJ_LEAN) {
        const struct kobj_route *route = read_one(full_route, flags)->route;
        assert_int_equal(f.objs[0]->kind, KOBJ_HTTP_ROUTE);
        assert_string_equal(route->parents[0].group, "");
        assert_string_equal(route->parents[0].kind, "Service");
        assert_int_equal(route->parents[0].port, 80);
        assert_int_equal(route->parents[0].pos.line, 6);
        assert_string_equal(route->parents[1].group, "gateway.networking.k8s.io");
        assert_string_equal(route->parents[1].kind, "Gateway");
        assert_string_equal(route->parents[1].section, "s");
        const struct kobj_route_rule *rule = &route->rules[0];
        assert_int_equal(rule->pos.line, 9);
        assert_int_equal(rule->matches[0].pos.line, 11);
        assert_int_equal(rule->matches[0].path_type, ROUTE_PATH_EXACT);
        assert_string_equal(rule->matches[0].path, "/a");
        assert_string_equal(rule->matches[0].method, "GET");
        assert_int_equal(rule->matches[0].headers[0].match.kind, KOBJ_MATCH_EXACT);
        assert_int_equal(rule->matches[0].headers[1].match.kind, KOBJ_MATCH_REGEX);
        assert_string_equal(rule->matches[0].query_params[0].match.text, "1");
        assert_int_equal(rule->matches[1].path_type, ROUTE_PATH_PREFIX);
        assert_string_equal(rule->matches[1].path, "/");
        assert_string_equal(rule->matches[1].method, "");
        check_filters(rule);
        assert_int_equal(rule->backends[0].weight, 0);
        assert_int_equal(rule->backends[1].weight, 1);
        assert_string_equal(rule->backends[1].kind, "Service");
        assert_int_equal(rule->backends[1].filters[0].type, FILTER_RESPONSE_HEADERS);
        assert_string_equal(rule->backends[2].kind, "Hostname");
        assert_int_equal(rule->request_timeout_ms, 10000);
        assert_int_equal(rule->backend_timeout_ms, 0);
        assert_int_equal(rule->retry->codes[1], 503);
        assert_int_equal(rule->retry->attempts, 3);
        assert_int_equal(rule->retry->backoff_ms, 100);
        rule = &route->rules[1];
        assert_int_equal(rule->n_matches, 0);
        assert_int_equal(rule->request_timeout_ms, -1);
        assert_int_equal(rule->filters[0].redirect->code, 302);
        assert_int_equal(rule->filters[0].redirect->port, 8443);
        assert_int_equal(rule->filters[0].redirect->path_change, PATH_PREFIX);
        fixture_fini(&f);
    }
}

static void test_grpc_route(void **state) {
    const struct kobj_route *route =
        read_one(GRPC_ROUTE "spec:\n"
                            "  parentRefs: [{group: '', kind: Service, name: web}]\n"
                            "  rules:\n"
                            "  - matches:\n"
                            "    - method: {service: pkg.Svc, method: Call}\n"
                            "      headers: [{name: x, value: z}]\n"
                            "    - method: {type: RegularExpression, method: 'Get.*'}\n"
                            "    backendRefs: [{name: web, port: 80}]\n",
                 KOBJ_LEAN)
            ->route;
    assert_int_equal(f.objs[0]->kind, KOBJ_GRPC_ROUTE);
    const struct kobj_route_rule *rule = &route->rules[0];
    assert_string_equal(rule->matches[0].grpc_service, "pkg.Svc");
    assert_string_equal(rule->matches[0].method, "Call");
    assert_int_equal(rule->matches[0].grpc_type, KOBJ_MATCH_EXACT);
    assert_string_equal(rule->matches[0].headers[0].match.text, "z");
    assert_int_equal(rule->matches[1].grpc_type, KOBJ_MATCH_REGEX);
    assert_string_equal(rule->matches[1].grpc_service, "");
    assert_int_equal(rule->request_timeout_ms, -1);
    assert_string_equal(rule->name, "");
    fixture_fini(&f);
}

static const char *no_regex(const char *text) {
    return strchr(text, '(') != NULL ? "is refused by the test" : NULL;
}

static void test_regex_hook(void **state) {
    static const struct {
        const char *yaml, *messages;
    } rows[] = {
        {VS "spec: {hosts: [a], http: [{match: [{uri: {regex: '('}}], redirect: {uri: /}}]}",
         "4:50: VirtualService ns/a: spec.http[0].match[0].uri.regex: `(` is refused by the "
         "test\n"},
        {VS "spec: {hosts: [a], http: [{match: [{headers: {x: {regex: '('}}}], redirect: {uri: "
            "/}}]}",
         "4:58: VirtualService ns/a: spec.http[0].match[0].headers.x.regex: `(` is refused by the "
         "test\n"},
        {VS "spec: {hosts: [a], http: [{match: [{headers: {x: {regex: '*'}}}], redirect: {uri: "
            "/}}]}",
         ""},
        {HTTP_ROUTE "spec: {parentRefs: [{name: a}], rules: [{matches: [{path: {type: "
                    "RegularExpression, value: '/('}}]}]}",
         "4:92: HTTPRoute ns/a: spec.rules[0].matches[0].path.value: `/(` is refused by the "
         "test\n"},
    };
    kobj_regex_problem = no_regex;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        fixture_init(&f);
        fixture_read(&f, rows[i].yaml, CONFIG_YAML);
        assert_messages(&f.errors, rows[i].messages);
        fixture_fini(&f);
    }
    kobj_regex_problem = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtual_service),
        cmocka_unit_test(test_destination_rule),
        cmocka_unit_test(test_virtual_service_forms),
        cmocka_unit_test(test_gateway),
        cmocka_unit_test(test_http_route),
        cmocka_unit_test(test_grpc_route),
        cmocka_unit_test(test_regex_hook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
