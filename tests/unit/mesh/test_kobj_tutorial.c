// SPDX-License-Identifier: Apache-2.0
//
// The YAML of widely read tutorials, with its mistakes and its fields of 2018: each mistake is
// named with its place and what to write instead.
#include "tests/unit/mesh/config_fixture.h"

#define VS                                                                                         \
    "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata:\n"                  \
    "  name: recommendation\n"
#define DR                                                                                         \
    "apiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\nmetadata:\n"                 \
    "  name: recommendation\n"

static void test_tutorials(void **state) {
    static const struct {
        const char *what, *yaml, *messages;
    } rows[] = {
        {"1: `http` is a map and a list at once",
         VS "spec:\n"
            "  hosts: [reviews]\n"
            "  http:\n"
            "    match:\n"
            "    - uri: {prefix: /}\n"
            "    - route:\n"
            "      - destination: {host: reviews}\n"
            "   - route:\n"
            "     - destination: {host: reviews}\n",
         "12:4: an item of a list among the keys of the map that starts at line 6: a field "
         "is either a map or a list whose items all begin with `-`\n"},
        {"1: a weight in percent; a rule behind one that takes everything",
         VS "spec:\n"
            "  hosts:\n"
            "  - reviews\n"
            "  http:\n"
            "  - route:\n"
            "    - destination:\n"
            "        host: reviews\n"
            "        subset: v1\n"
            "      weight: 10%\n"
            "  - route:\n"
            "    - destination:\n"
            "        host: reviews\n"
            "        subset: v2\n"
            "      weight: 90\n",
         "13:15: VirtualService default/recommendation: spec.http[0].route[0].weight: expected an "
         "integer, found `10%`: write it without `%`\n"
         "14:5: warning: VirtualService default/recommendation: spec.http[1]: is never reached: "
         "http[0] (line 9) before it takes every request, as it has no `match`\n"},
        {"2: subsets as they should be",
         DR "spec:\n"
            "  host: reviews\n"
            "  subsets:\n"
            "  - name: v1\n"
            "    labels:\n"
            "      version: v1\n"
            "  - name: v2\n"
            "    labels:\n"
            "      version: v2\n",
         ""},
        {"3, 8: the weight inside of the destination",
         VS "spec:\n"
            "  hosts:\n"
            "  - recommendation\n"
            "  http:\n"
            "  - route:\n"
            "    - destination:\n"
            "        host: recommendation\n"
            "        subset: v1\n"
            "        weight: 10\n"
            "    - destination:\n"
            "        host: recommendation\n"
            "        subset: v2\n"
            "        weight: 90\n",
         "10:5: VirtualService default/recommendation: spec.http[0].route: has 2 destinations "
         "whose weights add up to 0: `weight` stands beside `destination`\n"
         "13:9: VirtualService default/recommendation: spec.http[0].route[0].destination.weight: "
         "unknown field here: `weight` stands beside `destination`; indent it less\n"
         "17:9: VirtualService default/recommendation: spec.http[0].route[1].destination.weight: "
         "unknown field here: `weight` stands beside `destination`; indent it less\n"},
        {"5: an abort with the percentage of 2018",
         VS "spec:\n"
            "  hosts:\n"
            "  - recommendation\n"
            "  http:\n"
            "  - fault:\n"
            "      abort:\n"
            "        httpStatus: 500\n"
            "        percent: 100\n"
            "    route:\n"
            "    - destination:\n"
            "        host: recommendation\n",
         "12:9: VirtualService default/recommendation: spec.http[0].fault.abort.percent: was "
         "removed, and without it nothing is aborted: write `percentage: {value: ...}`\n"},
        {"6: one destination, the weight inside",
         VS "spec:\n"
            "  hosts:\n"
            "  - recommendation\n"
            "  http:\n"
            "  - route:\n"
            "    - destination:\n"
            "        host: recommendation\n"
            "        subset: version-v2\n"
            "        weight: 100\n",
         "13:9: VirtualService default/recommendation: spec.http[0].route[0].destination.weight: "
         "unknown field here: `weight` stands beside `destination`; indent it less\n"},
        {"7: the name of a subset below its labels",
         DR "spec:\n"
            "  host: recommendation\n"
            "  subsets:\n"
            "  - labels:\n"
            "      version: v1\n"
            "      name: version-v1\n"
            "  - labels:\n"
            "      version: v2\n"
            "      name: version-v2\n",
         "10:13: DestinationRule default/recommendation: spec.subsets[0].name: is required: `name` "
         "is inside of `labels`, where it is a label; indent it less\n"
         "13:13: DestinationRule default/recommendation: spec.subsets[1].name: is required: `name` "
         "is inside of `labels`, where it is a label; indent it less\n"},
        {"9: the header at the indent of `headers:`",
         VS "spec:\n"
            "  hosts:\n"
            "  - recommendation\n"
            "  http:\n"
            "  - match:\n"
            "    - headers:\n"
            "      baggage-user-agent:\n"
            "        regex: .*Safari.*\n"
            "    route:\n"
            "    - destination:\n"
            "        host: recommendation\n"
            "        subset: version-v2\n"
            "  - route:\n"
            "    - destination:\n"
            "        host: recommendation\n"
            "        subset: version-v1\n",
         "11:7: VirtualService default/recommendation: spec.http[0].match[0].baggage-user-agent: "
         "unknown field here: it stands beside `headers`, which is empty; indent it more, so that "
         "it is inside\n"},
        {"10: a mirror",
         VS "spec:\n"
            "  hosts:\n"
            "  - recommendation\n"
            "  http:\n"
            "  - route:\n"
            "    - destination:\n"
            "        host: recommendation\n"
            "        subset: version-v1\n"
            "    mirror:\n"
            "      host: recommendation\n"
            "      subset: version-v2\n",
         ""},
        {"11: a load balancer",
         DR "spec:\n"
            "  host: recommendation\n"
            "  trafficPolicy:\n"
            "    loadBalancer:\n"
            "      simple: RANDOM\n",
         ""},
        {"12: the timeout inside of the route's item",
         VS "spec:\n"
            "  hosts:\n"
            "  - recommendation\n"
            "  http:\n"
            "  - route:\n"
            "    - destination:\n"
            "        host: recommendation\n"
            "      timeout: 1.000s\n",
         "12:7: VirtualService default/recommendation: spec.http[0].route[0].timeout: unknown "
         "field here: it belongs to `spec.http[0]`; indent it less\n"},
        {"13: no apiVersion",
         "kind: VirtualService\n"
         "metadata:\n"
         "  name: recommendation\n"
         "spec:\n"
         "  hosts:\n"
         "  - recommendation\n"
         "  http:\n"
         "  - fault:\n"
         "      abort:\n"
         "        httpStatus: 503\n"
         "        percent: 50\n"
         "    route:\n"
         "    - destination:\n"
         "        host: recommendation\n"
         "        subset: app-recommendation\n",
         "1:1: VirtualService: apiVersion: is required: networking.istio.io/v1\n"
         "11:9: VirtualService default/recommendation: spec.http[0].fault.abort.percent: was "
         "removed, "
         "and without it nothing is aborted: write `percentage: {value: ...}`\n"},
        {"14: a delay with `percent`",
         VS "spec:\n"
            "  hosts:\n"
            "  - recommendation\n"
            "  http:\n"
            "  - fault:\n"
            "      delay:\n"
            "        fixedDelay: 7.000s\n"
            "        percent: 50\n"
            "    route:\n"
            "    - destination:\n"
            "        host: recommendation\n",
         "12:9: warning: VirtualService default/recommendation: spec.http[0].fault.delay.percent: "
         "is deprecated: write `percentage: {value: ...}`\n"},
        {"15: pods behind a service whose port is named http",
         "apiVersion: v1\n"
         "kind: Pod\n"
         "metadata:\n"
         "  name: hello-server-1\n"
         "  labels:\n"
         "    app: hello\n"
         "    version: v1\n"
         "spec:\n"
         "  containers:\n"
         "  - name: hello-server\n"
         "    image: docker.io/hello\n"
         "    imagePullPolicy: Always\n"
         "---\n"
         "apiVersion: v1\n"
         "kind: Service\n"
         "metadata:\n"
         "  name: svc-hello\n"
         "  labels:\n"
         "    app: hello\n"
         "spec:\n"
         "  selector:\n"
         "    app: hello\n"
         "  ports:\n"
         "  - name: http\n"
         "    protocol: TCP\n"
         "    port: 8080\n",
         ""},
        {"a rule behind a prefix that takes its paths; a weight that was forgotten",
         VS "spec:\n"
            "  hosts: [recommendation]\n"
            "  http:\n"
            "  - match:\n"
            "    - uri: {prefix: /api}\n"
            "    route:\n"
            "    - destination: {host: recommendation}\n"
            "  - match:\n"
            "    - uri: {exact: /api/admin}\n"
            "      method: {exact: POST}\n"
            "    - uri: {prefix: /apis}\n"
            "    - uri: {prefix: /other}\n"
            "    route:\n"
            "    - destination: {host: recommendation, subset: v1}\n"
            "      weight: 90\n"
            "    - destination: {host: recommendation, subset: v2}\n",
         "13:7: warning: VirtualService default/recommendation: spec.http[1].match[0]: never "
         "matches: http[0] (line 8) before it takes all that begins with `/api`; put this rule "
         "first\n"
         "15:7: warning: VirtualService default/recommendation: spec.http[1].match[1]: never "
         "matches: http[0] (line 8) before it takes all that begins with `/api`; put this rule "
         "first\n"
         "20:7: warning: VirtualService default/recommendation: spec.http[1].route[1].weight: is "
         "absent beside others that have one, which is 0: this destination gets no requests\n"},
        {"pool ejection: consecutiveErrors",
         DR "spec:\n"
            "  host: recommendation\n"
            "  trafficPolicy:\n"
            "    connectionPool:\n"
            "      http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}\n"
            "      tcp: {maxConnections: 1}\n"
            "    outlierDetection:\n"
            "      consecutiveErrors: 1\n"
            "      interval: 5.000s\n"
            "      baseEjectionTime: 15.000s\n"
            "      maxEjectionPercent: 100\n",
         "12:7: warning: DestinationRule default/recommendation: "
         "spec.trafficPolicy.outlierDetection.consecutiveErrors: is ignored, by Istio too (5 "
         "errors of 5xx eject): write `consecutive5xxErrors`\n"},
        {"egress: ALLOW_ALL",
         "apiVersion: v1\n"
         "kind: ConfigMap\n"
         "metadata:\n"
         "  name: istio\n"
         "  namespace: istio-system\n"
         "data:\n"
         "  mesh: |\n"
         "    outboundTrafficPolicy:\n"
         "      mode: ALLOW_ALL\n",
         "9:13: ConfigMap istio-system/istio: data.mesh.outboundTrafficPolicy.mode: `ALLOW_ALL` is "
         "none of ALLOW_ANY, REGISTRY_ONLY, ALLOW_ANY_DYNAMIC_DNS (did you mean `ALLOW_ANY`?)\n"},
        {"retired",
         "apiVersion: config.istio.io/v1alpha2\n"
         "kind: RouteRule\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: RouteRule a: kind: RouteRule of config.istio.io/v1alpha2 was retired: write a "
         "VirtualService (networking.istio.io/v1)\n"},
        {"retired",
         "apiVersion: config.istio.io/v1alpha2\n"
         "kind: DestinationPolicy\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: DestinationPolicy a: kind: DestinationPolicy of config.istio.io/v1alpha2 was "
         "retired: write a DestinationRule (networking.istio.io/v1)\n"},
        {"retired",
         "apiVersion: config.istio.io/v1alpha2\n"
         "kind: rule\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: rule a: kind: rule of config.istio.io/v1alpha2 was retired: for access write an "
         "AuthorizationPolicy (security.istio.io/v1), for telemetry a Telemetry\n"},
        {"retired",
         "apiVersion: config.istio.io/v1alpha2\n"
         "kind: denier\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: denier a: kind: denier of config.istio.io/v1alpha2 was retired: write an "
         "AuthorizationPolicy with action DENY (security.istio.io/v1)\n"},
        {"retired",
         "apiVersion: config.istio.io/v1alpha2\n"
         "kind: listchecker\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: listchecker a: kind: listchecker of config.istio.io/v1alpha2 was retired: write an "
         "AuthorizationPolicy (security.istio.io/v1)\n"},
        {"retired",
         "apiVersion: config.istio.io/v1alpha2\n"
         "kind: memquota\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: memquota a: kind: memquota of config.istio.io/v1alpha2 was retired: rate limits "
         "need a filter of the waypoint\n"},
        {"retired",
         "apiVersion: config.istio.io/v1alpha2\n"
         "kind: handler\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: handler a: kind: handler of config.istio.io/v1alpha2 was retired: Mixer is gone: "
         "for access write an AuthorizationPolicy (security.istio.io/v1), for telemetry a "
         "Telemetry\n"},
        {"retired",
         "apiVersion: rbac.istio.io/v1alpha1\n"
         "kind: ServiceRole\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: ServiceRole a: kind: ServiceRole of rbac.istio.io/v1alpha1 was retired: write an "
         "AuthorizationPolicy (security.istio.io/v1)\n"},
        {"retired",
         "apiVersion: rbac.istio.io/v1alpha1\n"
         "kind: ClusterRbacConfig\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: ClusterRbacConfig a: kind: ClusterRbacConfig of rbac.istio.io/v1alpha1 was retired: "
         "write an AuthorizationPolicy (security.istio.io/v1)\n"},
        {"retired",
         "apiVersion: authentication.istio.io/v1alpha1\n"
         "kind: Policy\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: Policy a: kind: Policy of authentication.istio.io/v1alpha1 was retired: write a "
         "PeerAuthentication for mTLS, a RequestAuthentication for tokens "
         "(security.istio.io/v1)\n"},
        {"retired",
         "apiVersion: authentication.istio.io/v1alpha1\n"
         "kind: MeshPolicy\n"
         "metadata:\n"
         "  name: a\n"
         "spec: {}\n",
         "2:7: MeshPolicy a: kind: MeshPolicy of authentication.istio.io/v1alpha1 was retired: "
         "write a PeerAuthentication in the root namespace (security.istio.io/v1)\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config_fixture f;
        fixture_init(&f);
        fixture_read(&f, rows[i].yaml, CONFIG_YAML);
        config_errors_sort(&f.errors); // by place
        assert_messages(&f.errors, rows[i].messages);
        fixture_fini(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tutorials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
