// SPDX-License-Identifier: Apache-2.0
//
// The L7 kinds: what is refused, what is warned about, where it is and what to do.
#include "tests/unit/mesh/config_fixture.h"

#define HEAD(group, kind)                                                                          \
    "apiVersion: " group "/v1\nkind: " kind "\nmetadata: {name: a, namespace: ns}\n"
#define VS HEAD("networking.istio.io", "VirtualService")
#define DR HEAD("networking.istio.io", "DestinationRule")
#define GW HEAD("gateway.networking.k8s.io", "Gateway")
#define GC HEAD("gateway.networking.k8s.io", "GatewayClass")
#define HR HEAD("gateway.networking.k8s.io", "HTTPRoute")
#define GR HEAD("gateway.networking.k8s.io", "GRPCRoute")
#define RG HEAD("gateway.networking.k8s.io", "ReferenceGrant")

struct row {
    const char *yaml, *messages;
};

static void check(const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct config_fixture f;
        fixture_init(&f);
        fixture_read(&f, rows[i].yaml, CONFIG_YAML);
        config_errors_sort(&f.errors); // by place
        assert_messages(&f.errors, rows[i].messages);
        assert_int_equal(f.n_objs, f.errors.n_errors == 0);
        fixture_fini(&f);
    }
}

static void test_vs(void **state) {
    static const struct row rows[] = {
        {VS "spec: {hosts: [a]}",
         "4:7: VirtualService ns/a: spec.http: is required, or `tls` or `tcp`\n"},
        {VS "spec: {hosts: [a], http: []}",
         "4:7: VirtualService ns/a: spec.http: is required, or `tls` or `tcp`\n"},
        {VS "spec: {hosts: ['*'], http: [{redirect: {uri: /}}]}",
         "4:16: VirtualService ns/a: spec.hosts[0]: `*` is for gateways only: name the services, "
         "or *.DOMAIN\n"},
        {VS "spec: {hosts: ['*'], gateways: [gw], http: [{redirect: {uri: /}}]}", ""},
        {VS "spec: {hosts: [a_b*], http: [{redirect: {uri: /}}]}",
         "4:16: VirtualService ns/a: spec.hosts[0]: `a_b*` is not a host name; a wildcard is only "
         "`*` or the first label of `*.example.com`\n"},
        {VS "spec: {hosts: [10.0.0.1], http: [{redirect: {uri: /}}]}", ""},
        {VS "spec: {hosts: [a.b, '*.b'], http: [{redirect: {uri: /}}]}",
         "4:21: VirtualService ns/a: spec.hosts[1]: `a.b` and `*.b` are the same or overlap\n"},
        {VS "spec: {hosts: [a], gateways: [ns/], http: [{redirect: {uri: /}}]}",
         "4:31: VirtualService ns/a: spec.gateways[0]: `ns/` is not a gateway: `mesh`, NAME or "
         "NAMESPACE/NAME\n"},
        {VS "spec: {hosts: [a], exportTo: [x, '*'], http: [{redirect: {uri: /}}]}",
         "4:34: VirtualService ns/a: spec.exportTo[1]: `*` is everywhere: it cannot stand beside "
         "others\n"},
        {VS "spec: {hosts: [a], exportTo: ['~'], http: [{redirect: {uri: /}}]}",
         "4:31: VirtualService ns/a: spec.exportTo[0]: `~` is none of `*` (everywhere), `.` (this "
         "namespace), or a namespace\n"},
        {VS "spec: {hosts: [a], exportTo: [x, x], http: [{redirect: {uri: /}}]}",
         "4:34: VirtualService ns/a: spec.exportTo[1]: `x` is there twice\n"},
        {VS "spec: {host: [a], http: [{redirect: {uri: /}}]}",
         "4:8: VirtualService ns/a: spec.host: unknown field (did you mean `hosts`?)\n"},
        {VS "spec: {gateways: [mesh], http: [{delegate: {name: x}}], tcp: [{route: [{destination: "
            "{host: a}}]}]}",
         "4:18: VirtualService ns/a: spec.gateways: cannot be set without `hosts`: such an object "
         "is a delegate, which has `http` only\n"
         "4:33: VirtualService ns/a: spec.http[0].delegate: a delegate (no `hosts`) cannot "
         "delegate further\n"
         "4:62: VirtualService ns/a: spec.tcp: cannot be set without `hosts`: such an object is a "
         "delegate, which has `http` only\n"},
        {VS "spec: {http: [{route: [{destination: {host: a}}]}]}", ""},
        {VS "spec: {hosts: [a], http: [{}]}",
         "4:27: VirtualService ns/a: spec.http[0].route: is required, or one of `redirect`, "
         "`directResponse`, `delegate`\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {prefix: /}}]}]}",
         "4:27: VirtualService ns/a: spec.http[0].route: is required, or one of `redirect`, "
         "`directResponse`, `delegate`\n"},
        {VS "spec: {hosts: [a], http: [{route: []}]}",
         "4:27: VirtualService ns/a: spec.http[0].route: is required, or one of `redirect`, "
         "`directResponse`, `delegate`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], redirect: {uri: /}, "
            "directResponse: {status: 200}}]}",
         "4:35: VirtualService ns/a: spec.http[0].route: cannot be set with `redirect`\n"
         "4:35: VirtualService ns/a: spec.http[0].route: cannot be set with `directResponse`\n"
         "4:99: VirtualService ns/a: spec.http[0].directResponse: cannot be set with `redirect`\n"},
        {VS "spec: {hosts: [a], http: [{redirect: {uri: /}, fault: {abort: {httpStatus: 500, "
            "percentage: {value: 1}}}, rewrite: {uri: /}}]}",
         "4:55: VirtualService ns/a: spec.http[0].fault: cannot be set with `redirect`\n"
         "4:116: VirtualService ns/a: spec.http[0].rewrite: cannot be set with `redirect`\n"},
        {VS "spec: {hosts: [a], http: [{directResponse: {status: 200}, rewrite: {uri: /}}]}",
         "4:68: VirtualService ns/a: spec.http[0].rewrite: cannot be set with `directResponse`\n"},
        {VS "spec: {hosts: [a], http: [{delegate: {name: x}, redirect: {uri: /}}]}",
         "4:59: VirtualService ns/a: spec.http[0].redirect: cannot be set with `delegate`\n"},
        {VS "spec: {hosts: [a], http: [{delegate: {}}]}",
         "4:38: VirtualService ns/a: spec.http[0].delegate.name: is required\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}, {destination: {host: "
            "b}}]}]}",
         "4:35: VirtualService ns/a: spec.http[0].route: has 2 destinations whose weights add up "
         "to 0: `weight` stands beside `destination`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}, weight: -1}]}]}",
         "4:69: VirtualService ns/a: spec.http[0].route[0].weight: -1 is out of range, must be 0 "
         "to 2147483647\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}, weight: 2147483648}]}]}",
         "4:69: VirtualService ns/a: spec.http[0].route[0].weight: 2147483648 is out of range, "
         "must be 0 to 2147483647\n"},
        {VS "spec: {hosts: [a], http: [{route: [{weight: 1}]}]}",
         "4:36: VirtualService ns/a: spec.http[0].route[0].destination: is required\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: \"*\"}}]}]}",
         "4:57: VirtualService ns/a: spec.http[0].route[0].destination.host: `*` cannot be a "
         "destination: name one service\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a, port: {name: http}}}]}]}",
         "4:66: VirtualService ns/a: spec.http[0].route[0].destination.port.number: is required\n"
         "4:67: VirtualService ns/a: spec.http[0].route[0].destination.port.name: unknown field: a "
         "port is chosen by `number`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a, port: {}}}]}]}",
         "4:66: VirtualService ns/a: spec.http[0].route[0].destination.port.number: is required\n"},
        {VS
         "spec: {hosts: [a], http: [{route: [{destination: {host: a, labels: {x: y}, name: b}}]}]}",
         "4:60: VirtualService ns/a: spec.http[0].route[0].destination.labels: unknown field: "
         "choose a `subset`, whose labels are in the DestinationRule\n"
         "4:76: VirtualService ns/a: spec.http[0].route[0].destination.name: unknown field: the "
         "service is named by `host`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: V_1}}]}]}",
         "4:68: VirtualService ns/a: spec.http[0].route[0].destination.subset: `V_1` is not a "
         "valid name: lower case letters, digits and `-`, at most 63, a letter or digit at both "
         "ends\n"},
        {VS "spec: {hosts: [a], http: [{route: {destination: {host: a}}}]}",
         "4:35: VirtualService ns/a: spec.http[0].route: expected a list, found a map\n"},
        {VS "spec: {hosts: [a], http: [{destination: {host: a}}]}",
         "4:27: VirtualService ns/a: spec.http[0].route: is required, or one of `redirect`, "
         "`directResponse`, `delegate`\n"
         "4:28: VirtualService ns/a: spec.http[0].destination: unknown field here: it belongs into "
         "`route`; indent it more\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], timeout: 0s}]}",
         "4:72: VirtualService ns/a: spec.http[0].timeout: `0s` is too short, must be at least "
         "1ms\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], timeout: 10}]}",
         "4:72: VirtualService ns/a: spec.http[0].timeout: `10` is not a duration: it needs a "
         "unit, as 10s or 1m30s\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], tiemout: 10s}]}",
         "4:63: VirtualService ns/a: spec.http[0].tiemout: unknown field (did you mean "
         "`timeout`?)\n"},
        {VS
         "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], appendHeaders: {a: b}}]}",
         "4:63: VirtualService ns/a: spec.http[0].appendHeaders: was replaced by "
         "`headers.request.add`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], timeout: 1s, retries: "
            "{attempts: 2, perTryTimeout: 1s}}]}",
         "4:85: warning: VirtualService ns/a: spec.http[0].retries.perTryTimeout: is not used: it "
         "is as long as `timeout`, which counts all tries\n"},
        {VS
         "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: -1}}]}",
         "4:83: VirtualService ns/a: spec.http[0].retries.attempts: -1 is out of range, must be 0 "
         "to 2147483647\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], retries: "
            "{perTryTimeout: 1s}}]}",
         "4:72: VirtualService ns/a: spec.http[0].retries.attempts: is absent, which turns retries "
         "off: the other fields have no meaning\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: 0, "
            "retryOn: 5xx}}]}",
         "4:72: VirtualService ns/a: spec.http[0].retries.attempts: is 0, which turns retries off: "
         "the other fields have no meaning\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: 1, "
            "retryOn: '5xx,503, reset'}}]}",
         "4:95: VirtualService ns/a: spec.http[0].retries.retryOn: ` reset` is no condition: 5xx, "
         "gateway-error, reset, connect-failure, refused-stream, retriable-4xx, cancelled, "
         "unavailable ..., or a status; with `,` and no blanks between them\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: 1, "
            "retryOn: '5xx,,gatway-error'}}]}",
         "4:95: VirtualService ns/a: spec.http[0].retries.retryOn: `` is no condition: 5xx, "
         "gateway-error, reset, connect-failure, refused-stream, retriable-4xx, cancelled, "
         "unavailable ..., or a status; with `,` and no blanks between them\n"
         "4:95: VirtualService ns/a: spec.http[0].retries.retryOn: `gatway-error` is no condition: "
         "5xx, gateway-error, reset, connect-failure, refused-stream, retriable-4xx, cancelled, "
         "unavailable ..., or a status; with `,` and no blanks between them\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], retries: {attempts: 1, "
            "backoff: 0ms}}]}",
         "4:95: VirtualService ns/a: spec.http[0].retries.backoff: `0ms` is too short, must be at "
         "least 1ms\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], rewrite: {uri: /, "
            "uriRegexRewrite: {match: a, rewrite: b}}}]}",
         "4:98: VirtualService ns/a: spec.http[0].rewrite.uriRegexRewrite: excludes `uri`: only "
         "one of them may be set\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], rewrite: {}}]}",
         "4:72: VirtualService ns/a: spec.http[0].rewrite: rewrites nothing: set uri, "
         "uriRegexRewrite or authority\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], rewrite: "
            "{uriRegexRewrite: {match: a}}}]}",
         "4:90: VirtualService ns/a: spec.http[0].rewrite.uriRegexRewrite.rewrite: is required\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], rewrite: {authority: "
            "x}, headers: {request: {set: {Host: z}}}}]}",
         "4:97: VirtualService ns/a: spec.http[0].headers.request: the authority is rewritten in "
         "more than one place\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], headers: {request: "
            "{set: {\":path\": /}, remove: [host]}}}]}",
         "4:89: VirtualService ns/a: spec.http[0].headers.request.set.:path: `:path` cannot be "
         "changed: of the pseudo headers only :authority can\n"
         "4:111: VirtualService ns/a: spec.http[0].headers.request.remove[0]: `host` cannot be "
         "changed or removed here\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], headers: {request: "
            "{add: {\"a b\": c, x: \"%d\"}}}}]}",
         "4:89: VirtualService ns/a: spec.http[0].headers.request.add.a b: `a b` is not the name "
         "of a header\n"
         "4:102: VirtualService ns/a: spec.http[0].headers.request.add.x: `%d` has a `%` that ends "
         "no %VARIABLE%; write `%%` for the character itself\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], headers: {response: "
            "{set: {\":authority\": a}}}}]}",
         "4:90: VirtualService ns/a: spec.http[0].headers.response.set.:authority: `:authority` "
         "cannot be changed or removed here\n"},
        {VS
         "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], headers: {set: {a: b}}}]}",
         "4:73: VirtualService ns/a: spec.http[0].headers.set: unknown field here: it belongs into "
         "`request` or `response`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], headers: {request: "
            "{set: {x: \"50%% of %REQ(A)%\"}}}}]}",
         ""},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {}}]}",
         "4:70: VirtualService ns/a: spec.http[0].fault: needs `delay` or `abort`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {delay: "
            "{percentage: {value: 1}}}}]}",
         "4:78: warning: VirtualService ns/a: spec.http[0].fault.delay.fixedDelay: is absent, so "
         "nothing is delayed\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {delay: "
            "{fixedDelay: 1s}}}]}",
         "4:78: warning: VirtualService ns/a: spec.http[0].fault.delay.percentage: is absent, "
         "which is 0 %: nothing is delayed; write `percentage: {value: 100}`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {delay: "
            "{fixedDelay: 0s, percentage: {}}}}]}",
         "4:78: warning: VirtualService ns/a: spec.http[0].fault.delay.fixedDelay: is absent, so "
         "nothing is delayed\n"
         "4:91: VirtualService ns/a: spec.http[0].fault.delay.fixedDelay: `0s` is too short, must "
         "be at least 1ms\n"
         "4:107: VirtualService ns/a: spec.http[0].fault.delay.percentage.value: is required\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {delay: "
            "{exponentialDelay: 1s, percentage: {value: 1}}}}]}",
         "4:79: VirtualService ns/a: spec.http[0].fault.delay.exponentialDelay: is not supported, "
         "by Istio neither: use `fixedDelay`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {abort: "
            "{httpStatus: 99, percentage: {value: 101}}}}]}",
         "4:78: warning: VirtualService ns/a: spec.http[0].fault.abort.httpStatus: is absent, so "
         "nothing is aborted\n"
         "4:91: VirtualService ns/a: spec.http[0].fault.abort.httpStatus: 99 is out of range, must "
         "be 200 to 599\n"
         "4:115: VirtualService ns/a: spec.http[0].fault.abort.percentage.value: 101 is out of "
         "range, must be 0 to 100\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {abort: "
            "{grpcStatus: UNAVAILBLE, percentage: {value: 0.00001}}}}]}",
         "4:91: VirtualService ns/a: spec.http[0].fault.abort.grpcStatus: `UNAVAILBLE` is not a "
         "gRPC status such as UNAVAILABLE\n"
         "4:123: VirtualService ns/a: spec.http[0].fault.abort.percentage.value: 0.00001 is too "
         "small: 0.0001 is the least above 0\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {abort: "
            "{httpStatus: 500, grpcStatus: UNAVAILABLE}}}]}",
         "4:78: warning: VirtualService ns/a: spec.http[0].fault.abort.percentage: is absent, "
         "which is 0 %: nothing is aborted; write `percentage: {value: 100}`\n"
         "4:108: VirtualService ns/a: spec.http[0].fault.abort.grpcStatus: excludes `httpStatus`: "
         "only one of them may be set\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], fault: {abort: "
            "{percentage: {value: 1}}}}]}",
         "4:78: warning: VirtualService ns/a: spec.http[0].fault.abort.httpStatus: is absent, so "
         "nothing is aborted\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirror: {host: a}, "
            "mirrors: [{destination: {host: b}}]}]}",
         "4:91: VirtualService ns/a: spec.http[0].mirrors: excludes `mirror`: only one of them may "
         "be set\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirrorPercentage: "
            "{value: 10}}]}",
         "4:27: warning: VirtualService ns/a: spec.http[0].mirrorPercentage: has no effect without "
         "`mirror`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirrors: [{destination: "
            "{host: b}}], mirrorPercentage: {value: 10}}]}",
         "4:27: warning: VirtualService ns/a: spec.http[0].mirrorPercentage: has no effect without "
         "`mirror`; `mirrors` has `percentage` in its items\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirror: {host: a, "
            "percentage: {value: 1}}}]}",
         "4:81: VirtualService ns/a: spec.http[0].mirror.percentage: unknown field here: beside "
         "`mirror` it is `mirrorPercentage`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirror: {destination: "
            "{host: a}}}]}",
         "4:71: VirtualService ns/a: spec.http[0].mirror.host: is required\n"
         "4:72: VirtualService ns/a: spec.http[0].mirror.destination: unknown field: `mirror` is "
         "itself the destination; `mirrors` has items with `destination` and `percentage`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirrors: [{percentage: "
            "{value: 1}}]}]}",
         "4:73: VirtualService ns/a: spec.http[0].mirrors[0].destination: is required\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], mirror: {host: a}, "
            "mirrorPercent: 101}]}",
         "4:82: warning: VirtualService ns/a: spec.http[0].mirrorPercent: is deprecated: write "
         "`mirrorPercentage: {value: ...}`\n"
         "4:97: VirtualService ns/a: spec.http[0].mirrorPercent: 101 is out of range, must be 0 to "
         "100\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], corsPolicy: "
            "{allowOrigins: [{}, {prefix: \"\"}], allowMethods: [GTE], maxAge: 1500ms}}]}",
         "4:91: VirtualService ns/a: spec.http[0].corsPolicy.allowOrigins[0]: needs one of "
         "`exact`, `prefix`, `regex`\n"
         "4:95: VirtualService ns/a: spec.http[0].corsPolicy.allowOrigins[1]: needs one of "
         "`exact`, `prefix`, `regex`\n"
         "4:104: VirtualService ns/a: spec.http[0].corsPolicy.allowOrigins[1].prefix: must not be "
         "empty\n"
         "4:125: VirtualService ns/a: spec.http[0].corsPolicy.allowMethods[0]: `GTE` is not an "
         "HTTP method\n"
         "4:139: VirtualService ns/a: spec.http[0].corsPolicy.maxAge: must be whole seconds\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], corsPolicy: "
            "{unmatchedPreflights: IGNOR}}]}",
         "4:97: VirtualService ns/a: spec.http[0].corsPolicy.unmatchedPreflights: `IGNOR` is none "
         "of UNSPECIFIED, FORWARD, IGNORE (did you mean `IGNORE`?)\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}], corsPolicy: "
            "{allowOrigins: [{exact: a}], allowOrigin: [b]}}]}",
         "4:104: warning: VirtualService ns/a: spec.http[0].corsPolicy.allowOrigin: is deprecated: "
         "write `allowOrigins: [{exact: ...}]`\n"
         "4:117: warning: VirtualService ns/a: spec.http[0].corsPolicy.allowOrigin: is not used "
         "where `allowOrigins` is set\n"},
        {VS "spec: {hosts: [a], http: [{redirect: {}}]}",
         "4:38: VirtualService ns/a: spec.http[0].redirect: changes nothing: set uri, authority, "
         "scheme or port\n"},
        {VS "spec: {hosts: [a], http: [{redirect: {uri: /, redirectCode: 200}}]}",
         "4:61: VirtualService ns/a: spec.http[0].redirect.redirectCode: 200 is out of range, must "
         "be 300 to 399\n"},
        {VS "spec: {hosts: [a], http: [{redirect: {uri: /, redirectCode: 304}}]}",
         "4:61: warning: VirtualService ns/a: spec.http[0].redirect.redirectCode: is none of 301, "
         "302, 303, 307, 308: 301 is sent\n"},
        {VS "spec: {hosts: [a], http: [{redirect: {scheme: ftp, port: 1, derivePort: "
            "FROM_REQUEST_PORT}}]}",
         "4:47: VirtualService ns/a: spec.http[0].redirect.scheme: `ftp` is neither http nor "
         "https\n"
         "4:73: VirtualService ns/a: spec.http[0].redirect.derivePort: excludes `port`: only one "
         "of them may be set\n"},
        {VS "spec: {hosts: [a], http: [{redirect: {derivePort: FROM_REQUEST}}]}",
         "4:38: VirtualService ns/a: spec.http[0].redirect: changes nothing: set uri, authority, "
         "scheme or port\n"
         "4:51: VirtualService ns/a: spec.http[0].redirect.derivePort: `FROM_REQUEST` is none of "
         "FROM_PROTOCOL_DEFAULT, FROM_REQUEST_PORT\n"},
        {VS
         "spec: {hosts: [a], http: [{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}}]}",
         "4:67: VirtualService ns/a: spec.http[0].redirect.prefixRewrite: needs matches whose uri "
         "is a `prefix`\n"},
        {VS "spec: {hosts: [a], http: [{directResponse: {}}]}",
         "4:44: VirtualService ns/a: spec.http[0].directResponse.status: is required\n"},
        {VS "spec: {hosts: [a], http: [{directResponse: {status: 600, body: {string: a, bytes: "
            "YQ==}}}]}",
         "4:53: VirtualService ns/a: spec.http[0].directResponse.status: 600 is out of range, must "
         "be 200 to 599\n"
         "4:83: VirtualService ns/a: spec.http[0].directResponse.body.bytes: excludes `string`: "
         "only one of them may be set\n"},
        {VS "spec: {hosts: [a], http: [{directResponse: {status: 200, body: {bytes: \"!\"}}}]}",
         "4:72: VirtualService ns/a: spec.http[0].directResponse.body.bytes: is not base64\n"},
        {VS "spec: {hosts: [a], http: [{directResponse: {status: 200, body: text}}]}",
         "4:64: VirtualService ns/a: spec.http[0].directResponse.body: expected a map, found a "
         "string\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {exact: a, prefix: b}}], route: "
            "[{destination: {host: a}}]}]}",
         "4:61: VirtualService ns/a: spec.http[0].match[0].uri.prefix: excludes `exact`: only one "
         "of them may be set\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {regex: \"\"}, scheme: {prefix: \"\"}}], "
            "route: [{destination: {host: a}}]}]}",
         "4:50: VirtualService ns/a: spec.http[0].match[0].uri.regex: must not be empty\n"
         "4:72: VirtualService ns/a: spec.http[0].match[0].scheme.prefix: must not be empty\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: /a}], route: [{destination: {host: a}}]}]}",
         "4:42: VirtualService ns/a: spec.http[0].match[0].uri: expected a map, found a string\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {glob: a}}], route: [{destination: {host: "
            "a}}]}]}",
         "4:43: VirtualService ns/a: spec.http[0].match[0].uri.glob: unknown field\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {regex: a}, ignoreUriCase: true}], route: "
            "[{destination: {host: a}}]}]}",
         "4:69: warning: VirtualService ns/a: spec.http[0].match[0].ignoreUriCase: has no effect "
         "on a regex: write `(?i)` in front of it\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {exact: \"/a?b=c\"}}], route: [{destination: "
            "{host: a}}]}]}",
         "4:42: warning: VirtualService ns/a: spec.http[0].match[0].uri: a query is not part of "
         "the uri, so it never matches: use `queryParams`\n"},
        {VS "spec: {hosts: [a], http: [{match: [{headers: {\"a b\": {exact: c}, \":foo\": {exact: "
            "c}, x: {}, z: ~}}], route: [{destination: {host: a}}]}]}",
         "4:47: VirtualService ns/a: spec.http[0].match[0].headers.a b: `a b` is not the name of a "
         "header\n"
         "4:66: VirtualService ns/a: spec.http[0].match[0].headers.:foo: `:foo` is not the name of "
         "a header\n"
         "4:96: VirtualService ns/a: spec.http[0].match[0].headers.z: expected a map, found "
         "null\n"},
        {VS "spec: {hosts: [a], http: [{match: [{headers: {\"@request.auth.claims.sub\": {exact: "
            "c}}}], route: [{destination: {host: a}}]}]}",
         "4:47: VirtualService ns/a: spec.http[0].match[0].headers[@request.auth.claims.sub]: "
         "`@request.auth.claims.sub` is for gateways only: a waypoint does not route by the claims "
         "of a token\n"},
        {VS "spec: {hosts: [a], http: [{match: [{headers: {x: plain}}], route: [{destination: "
            "{host: a}}]}]}",
         "4:50: VirtualService ns/a: spec.http[0].match[0].headers.x: expected a map, found a "
         "string\n"},
        {VS "spec: {hosts: [a], http: [{match: [{port: 0}], route: [{destination: {host: a}}]}]}",
         "4:43: VirtualService ns/a: spec.http[0].match[0].port: 0 is out of range, must be 1 to "
         "65535\n"},
        {VS "spec: {hosts: [a], http: [{match: [{gateways: [g], sourceLabels: {a: b}}], route: "
            "[{destination: {host: a}}]}]}",
         "4:66: warning: VirtualService ns/a: spec.http[0].match[0].sourceLabels: is not used "
         "where `gateways` is set\n"},
        {VS "spec: {hosts: [a], http: [{match: [{sourceNamespace: A}], route: [{destination: "
            "{host: a}}]}]}",
         "4:54: VirtualService ns/a: spec.http[0].match[0].sourceNamespace: `A` is not a valid "
         "name: lower case letters, digits and `-`, at most 63, a letter or digit at both ends\n"},
        {VS "spec: {hosts: [a], http: [{match: [{x-user: {exact: jason}}], route: [{destination: "
            "{host: a}}]}]}",
         "4:37: VirtualService ns/a: spec.http[0].match[0].x-user: unknown field here: a header to "
         "match belongs into `headers`\n"},
        {VS "spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}, {match: [{uri: "
            "{prefix: /b}}], route: [{destination: {host: b}}]}]}",
         "4:64: warning: VirtualService ns/a: spec.http[1]: is never reached: http[0] (line 4) "
         "before it takes every request, as it has no `match`\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: "
            "a}}]}, {route: [{destination: {host: b}}]}]}",
         "4:93: warning: VirtualService ns/a: spec.http[1]: is never reached: http[0] (line 4) "
         "before it takes every request\n"},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {prefix: /, }, method: {exact: GET}}], "
            "route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}]}",
         ""},
        {VS "spec: {hosts: [a], http: [{match: [{uri: {prefix: /b}}], route: [{destination: {host: "
            "a}}]}, {match: [{uri: {prefix: /b}}, {uri: {prefix: /c}}], route: [{destination: "
            "{host: b}}]}]}",
         "4:103: warning: VirtualService ns/a: spec.http[1].match[0]: never matches: http[0] has "
         "the same match before it\n"},
        {VS "spec: {hosts: [a.b], tls: [{route: [{destination: {host: a}}]}]}",
         "4:28: VirtualService ns/a: spec.tls[0].match: is required\n"},
        {VS "spec: {hosts: [a.b], tls: [{match: [{sniHosts: []}], route: []}]}",
         "4:48: VirtualService ns/a: spec.tls[0].match[0].sniHosts: must not be empty\n"
         "4:61: VirtualService ns/a: spec.tls[0].route: must not be empty\n"},
        {VS "spec: {hosts: [a.b], tls: [{match: [{sniHosts: [c.d], destinationSubnets: [x]}], "
            "route: [{destination: {host: a}}]}]}",
         "4:49: VirtualService ns/a: spec.tls[0].match[0].sniHosts: `c.d` is in none of `hosts`\n"
         "4:76: VirtualService ns/a: spec.tls[0].match[0].destinationSubnets[0]: `x` is not an IP "
         "address or CIDR (10.0.0.0/8)\n"},
        {VS "spec: {hosts: [a.b], tcp: [{match: [{sniHosts: [c.d]}], route: [{destination: {host: "
            "a}, weight: 0}, {destination: {host: b}, weight: 0}]}]}",
         "4:38: VirtualService ns/a: spec.tcp[0].match[0].sniHosts: unknown field\n"
         "4:64: VirtualService ns/a: spec.tcp[0].route: has 2 destinations whose weights add up to "
         "0: `weight` stands beside `destination`\n"},
        {VS "spec: {hosts: [a.b], tcp: [{match: [{port: 1}]}]}",
         "4:28: VirtualService ns/a: spec.tcp[0].route: is required\n"},
    };
    check(rows, ARRAY_LEN(rows));
}

static void test_dr(void **state) {
    static const struct row rows[] = {
        {DR "spec: {}", "4:7: DestinationRule ns/a: spec.host: is required\n"},
        {DR "spec: {host: a, trafficPolicy: {}}",
         "4:32: DestinationRule ns/a: spec.trafficPolicy: must not be empty\n"},
        {DR "spec: {name: a}",
         "4:7: DestinationRule ns/a: spec.host: is required\n"
         "4:8: DestinationRule ns/a: spec.name: unknown field: the service is named by `host`\n"},
        {DR "spec: {host: a, exportTo: ['*', '.']}",
         "4:28: DestinationRule ns/a: spec.exportTo[0]: `*` is everywhere: it cannot stand beside "
         "others\n"},
        {DR "spec: {host: a, workloadSelector: {matchLabels: {a: b}}}",
         "4:35: warning: DestinationRule ns/a: spec.workloadSelector: selects client proxies, of "
         "which a waypoint is none: this object has no effect\n"},
        {DR "spec: {host: a, subsets: [{name: v1}, {name: v1}, {labels: {a: b}}, {name: V1}]}",
         "4:39: DestinationRule ns/a: spec.subsets[1]: the name `v1` is used twice\n"
         "4:51: DestinationRule ns/a: spec.subsets[2].name: is required\n"
         "4:76: DestinationRule ns/a: spec.subsets[3].name: `V1` is not a valid name: lower case "
         "letters, digits and `-`, at most 63, a letter or digit at both ends\n"},
        {DR "spec: {host: a, subsets: [{name: v1, label: {a: b}}]}",
         "4:38: DestinationRule ns/a: spec.subsets[0].label: unknown field (did you mean "
         "`labels`?)\n"},
        {DR "spec: {host: a, subsets: [{name: v1, labels: {version: 1.0}}]}",
         "4:56: DestinationRule ns/a: spec.subsets[0].labels.version: expected a string, found an "
         "integer; put it in quotes\n"},
        {DR "spec: {host: a, loadBalancer: {simple: RANDOM}}",
         "4:17: DestinationRule ns/a: spec.loadBalancer: unknown field here: it belongs into "
         "`trafficPolicy`; indent it more\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {simple: LEAST_CONN}}}",
         "4:56: warning: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.simple: LEAST_CONN "
         "is deprecated: write LEAST_REQUEST\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDM}}}",
         "4:56: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.simple: `RANDM` is none of "
         "LEAST_REQUEST, ROUND_ROBIN, RANDOM, PASSTHROUGH, LEAST_CONN, UNSPECIFIED (did you mean "
         "`RANDOM`?)\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: "
            "{useSourceIp: true}}}}",
         "4:80: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.consistentHash: excludes "
         "`simple`: only one of them may be set\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {}}}}",
         "4:64: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.consistentHash: needs a key: "
         "httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName\n"},
        {DR
         "spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: false}}}}",
         "4:78: warning: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp: false is no key: endpoints "
         "are chosen at random\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, "
            "httpHeaderName: x}}}}",
         "4:78: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp: "
         "excludes `httpHeaderName`: only one of them may be set\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {ttl: 1s, "
            "attributes: [{name: a}, {name: a}]}}}}}",
         "4:77: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name: is required\n"
         "4:111: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[1]: `a` is there "
         "twice\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, "
            "minimumRingSize: 5, ringHash: {minimumRingSize: 5}}}}}",
         "4:84: warning: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: is deprecated: write "
         "`ringHash: {minimumRingSize: ...}`\n"
         "4:101: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: cannot be set with "
         "`ringHash` or `maglev`\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, "
            "maglev: {tableSize: 65536}}}}}",
         "4:104: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: must be a prime "
         "number\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, "
            "maglev: {tableSize: 5000011}}}}}",
         "4:104: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 5000011 is out of "
         "range, must be 2 to 5000010\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {warmupDurationSecs: 10s, warmup: "
            "{aggression: 0}}}}",
         "4:48: warning: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.warmupDurationSecs: "
         "is deprecated: write `warmup: {duration: ...}`\n"
         "4:68: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.warmupDurationSecs: excludes "
         "`warmup`: only one of them may be set\n"
         "4:81: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.warmup.duration: is "
         "required\n"
         "4:94: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.warmup.aggression: must be "
         "more than 0\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: "
            "[{from: a, to: {b: 60, c: 30}}], failover: [{from: a, to: b}]}}}}",
         "4:67: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.localityLbSetting: "
         "`distribute` excludes `failover` and `failoverPriority`\n"
         "4:81: DestinationRule ns/a: "
         "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: the weights add up "
         "to 90, must be 100\n"},
        {DR "spec: {host: a, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {enabled: true}}}}",
         "4:68: warning: DestinationRule ns/a: spec.trafficPolicy.loadBalancer.zoneAwareLbSetting: "
         "is not supported by waypoints: use `localityLbSetting`, or `trafficDistribution` of the "
         "Service\n"},
        {DR "spec: {host: a, trafficPolicy: {connectionPool: {}}}",
         "4:49: DestinationRule ns/a: spec.trafficPolicy.connectionPool: needs `tcp` or `http`\n"},
        {DR "spec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: -1, "
            "connectTimeout: 0s}, http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE, "
            "http2KeepAlive: {interval: 1s}}}}}",
         "4:72: DestinationRule ns/a: spec.trafficPolicy.connectionPool.tcp.maxConnections: -1 is "
         "out of range, must be 0 to 2147483647\n"
         "4:92: DestinationRule ns/a: spec.trafficPolicy.connectionPool.tcp.connectTimeout: `0s` "
         "is too short, must be at least 1ms\n"
         "4:123: DestinationRule ns/a: spec.trafficPolicy.connectionPool.http.useClientProtocol: "
         "cannot be true with `h2UpgradePolicy: UPGRADE`\n"
         "4:171: DestinationRule ns/a: "
         "spec.trafficPolicy.connectionPool.http.http2KeepAlive.timeout: is required\n"},
        {DR "spec: {host: a, trafficPolicy: {connectionPool: {maxConnections: 1}}}",
         "4:49: DestinationRule ns/a: spec.trafficPolicy.connectionPool: needs `tcp` or `http`\n"
         "4:50: DestinationRule ns/a: spec.trafficPolicy.connectionPool.maxConnections: unknown "
         "field here: it belongs into `tcp`; indent it more\n"},
        {DR "spec: {host: a, trafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: "
            "1s, timeout: 1s}, maxConnections: 1}}}}",
         "4:102: DestinationRule ns/a: spec.trafficPolicy.connectionPool.http.maxConnections: "
         "unknown field\n"},
        {DR "spec: {host: a, trafficPolicy: {outlierDetection: {consecutiveErrors: 1}}}",
         "4:52: warning: DestinationRule ns/a: "
         "spec.trafficPolicy.outlierDetection.consecutiveErrors: is ignored, by Istio too (5 "
         "errors of 5xx eject): write `consecutive5xxErrors`\n"},
        {DR
         "spec: {host: a, trafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 1}}}",
         "4:84: DestinationRule ns/a: "
         "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: needs "
         "`splitExternalLocalOriginErrors: true`\n"},
        {DR "spec: {host: a, trafficPolicy: {outlierDetection: {consecutiveGatewayErrors: 5}}}",
         "4:78: warning: DestinationRule ns/a: "
         "spec.trafficPolicy.outlierDetection.consecutiveGatewayErrors: never counts: "
         "consecutive5xxErrors (5), which includes gateway errors, is reached first\n"},
        {DR "spec: {host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101, interval: "
            "0s, outlierDetectionHttpErrorCodes: [600]}}}",
         "4:72: DestinationRule ns/a: spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 "
         "is out of range, must be 0 to 100\n"
         "4:87: DestinationRule ns/a: spec.trafficPolicy.outlierDetection.interval: `0s` is too "
         "short, must be at least 1ms\n"
         "4:124: DestinationRule ns/a: "
         "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[0]: 600 is out of "
         "range, must be 100 to 599\n"},
        {DR "spec: {host: a, trafficPolicy: {tls: {mode: MUTUAL}}}",
         "4:38: DestinationRule ns/a: spec.trafficPolicy.tls.clientCertificate: is required with "
         "mode MUTUAL (or `credentialName`)\n"},
        {DR "spec: {host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, caCertificates: /x}}}",
         "4:38: DestinationRule ns/a: spec.trafficPolicy.tls: mode ISTIO_MUTUAL uses the "
         "certificates of the mesh: none may be named\n"},
        {DR "spec: {host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: x, "
            "caCertificates: /y}}}",
         "4:88: DestinationRule ns/a: spec.trafficPolicy.tls.caCertificates: cannot be set with "
         "`credentialName`\n"},
        {DR "spec: {host: a, trafficPolicy: {tls: {mode: SIMPLE, clientCertificate: /x}}}",
         "4:38: warning: DestinationRule ns/a: spec.trafficPolicy.tls.clientCertificate: is not "
         "used with mode SIMPLE: a client certificate needs MUTUAL\n"},
        {DR "spec: {host: a, trafficPolicy: {tls: {sni: x}}}",
         "4:38: warning: DestinationRule ns/a: spec.trafficPolicy.tls.mode: is absent, which is "
         "DISABLE: no TLS\n"},
        {DR "spec: {host: a, trafficPolicy: {tls: {mode: SIMPEL}}}",
         "4:45: DestinationRule ns/a: spec.trafficPolicy.tls.mode: `SIMPEL` is none of DISABLE, "
         "SIMPLE, MUTUAL, ISTIO_MUTUAL (did you mean `SIMPLE`?)\n"},
        {DR "spec: {host: a, trafficPolicy: {tunnel: {protocol: GET, targetHost: \"*.x\", "
            "targetPort: 0}}}",
         "4:52: DestinationRule ns/a: spec.trafficPolicy.tunnel.protocol: `GET` is neither CONNECT "
         "nor POST\n"
         "4:69: DestinationRule ns/a: spec.trafficPolicy.tunnel.targetHost: `*.x` must be a full "
         "host name or an address\n"
         "4:88: DestinationRule ns/a: spec.trafficPolicy.tunnel.targetPort: 0 is out of range, "
         "must be 1 to 65535\n"},
        {DR "spec: {host: a, trafficPolicy: {tunnel: {targetHost: x, targetPort: 1}, "
            "proxyProtocol: {version: V1}}}",
         "4:88: DestinationRule ns/a: spec.trafficPolicy.proxyProtocol: excludes `tunnel`: only "
         "one of them may be set\n"},
        {DR "spec: {host: a, trafficPolicy: {proxyProtocol: {version: V3}}}",
         "4:58: DestinationRule ns/a: spec.trafficPolicy.proxyProtocol.version: `V3` is none of "
         "V1, V2\n"},
        {DR "spec: {host: a, trafficPolicy: {retryBudget: {percent: 101}}}",
         "4:56: DestinationRule ns/a: spec.trafficPolicy.retryBudget.percent: 101 is out of range, "
         "must be 0 to 100\n"},
        {DR "spec: {host: a, trafficPolicy: {portLevelSettings: [{port: {number: 1}}, {port: "
            "{number: 1}, tls: {mode: DISABLE}}, {tls: {mode: DISABLE}}]}}",
         "4:53: DestinationRule ns/a: spec.trafficPolicy.portLevelSettings[0]: needs one of "
         "loadBalancer, connectionPool, outlierDetection, tls\n"
         "4:74: DestinationRule ns/a: spec.trafficPolicy.portLevelSettings[1]: port 1 is there "
         "twice\n"
         "4:117: DestinationRule ns/a: spec.trafficPolicy.portLevelSettings[2].port: is "
         "required\n"},
        {DR "spec: {host: a, trafficPolicy: {portLevelSettings: [{port: {number: 1}, tls: {mode: "
            "DISABLE}, retryBudget: {}}]}}",
         "4:95: DestinationRule ns/a: spec.trafficPolicy.portLevelSettings[0].retryBudget: unknown "
         "field here: it belongs to `spec.trafficPolicy`; indent it less\n"},
    };
    check(rows, ARRAY_LEN(rows));
}

static void test_gateway_api(void **state) {
    static const struct row rows[] = {
        {GW "spec: {}", "4:7: Gateway ns/a: spec.gatewayClassName: is required\n"
                        "4:7: Gateway ns/a: spec.listeners: is required\n"},
        {GW "spec: {gatewayClassName: c, listeners: []}",
         "4:40: Gateway ns/a: spec.listeners: must not be empty\n"},
        {GW "spec: {gatewayClassName: c, listeners: [{name: a, port: 0, protocol: HTTP}]}",
         "4:57: Gateway ns/a: spec.listeners[0].port: 0 is out of range, must be 1 to 65535\n"},
        {GW "spec: {gatewayClassName: c, listeners: [{name: a, port: 1, protocol: HTTP}, {name: a, "
            "port: 2, protocol: HTTP}, {name: b, port: 1, protocol: HTTP}]}",
         "4:77: Gateway ns/a: spec.listeners[1]: the name `a` is used twice\n"
         "4:113: Gateway ns/a: spec.listeners[2]: port 1 with this protocol and hostname is there "
         "twice\n"},
        {GW "spec: {gatewayClassName: c, listeners: [{name: a, port: 1, protocol: HTTP, "
            "allowedRoutes: {namespaces: {from: Selector}}}]}",
         "4:104: Gateway ns/a: spec.listeners[0].allowedRoutes.namespaces.selector: is required "
         "with `from: Selector`\n"},
        {GW "spec: {gatewayClassName: c, listeners: [{name: a, port: 1, protocol: HTTP, "
            "allowedRoutes: {namespaces: {from: all}}}]}",
         "4:111: Gateway ns/a: spec.listeners[0].allowedRoutes.namespaces.from: `all` is none of "
         "Same, All, Selector, None (did you mean `All`?)\n"},
        {GW "spec: {gatewayClassName: c, listeners: [{name: a, port: 1, protocol: HTTP}], "
            "addresses: [{value: way.x}]}",
         "4:90: Gateway ns/a: spec.addresses[0]: `way.x` is not an IP address; a name has `type: "
         "Hostname`\n"},
        {GC "spec: {}", "4:7: GatewayClass ns/a: spec.controllerName: is required\n"},
        {RG "spec: {from: [], to: [{kind: Service}]}",
         "4:14: ReferenceGrant ns/a: spec.from: must not be empty\n"},
        {RG "spec: {from: [{group: x, kind: Yy}], to: [{group: \"\", kind: Service}]}",
         "4:15: ReferenceGrant ns/a: spec.from[0].namespace: is required\n"},
        {HR "spec: {parentRefs: [{kind: Service, name: a}]}",
         "4:21: HTTPRoute ns/a: spec.parentRefs[0].group: is required for a Service: write `group: "
         "\"\"` (absent, it is gateway.networking.k8s.io)\n"},
        {HR "spec: {parentRefs: [{group: x, kind: Yy, name: a}]}",
         "4:21: warning: HTTPRoute ns/a: spec.parentRefs[0]: `x/Yy` is no parent of routes: "
         "Gateway, Service (group \"\"), ServiceEntry (group networking.istio.io) are\n"},
        {HR "spec: {rules: [{}]}", "4:7: warning: HTTPRoute ns/a: spec.parentRefs: is absent: the "
                                   "route applies to nothing\n"},
        {HR "spec: {parentRefs: [{name: a}, {name: a}], rules: []}",
         "4:32: HTTPRoute ns/a: spec.parentRefs[1]: is there twice\n"
         "4:51: HTTPRoute ns/a: spec.rules: must not be empty\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], hostnames: [x], hosts: [y], "
            "rules: [{}]}",
         "4:70: warning: HTTPRoute ns/a: spec.hostnames: has no meaning for a Service or "
         "ServiceEntry as parent\n"
         "4:75: HTTPRoute ns/a: spec.hosts: unknown field: its name is `hostnames`\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{backendRefs: "
            "[{name: a}]}]}",
         "4:82: HTTPRoute ns/a: spec.rules[0].backendRefs[0].port: is required for a Service\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{backendRefs: "
            "[{name: a, port: 80, weight: -1}]}]}",
         "4:110: HTTPRoute ns/a: spec.rules[0].backendRefs[0].weight: -1 is out of range, must be "
         "0 to 1000000\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{backendRefs: "
            "[{name: a, port: 80, weight: 1000001}]}]}",
         "4:110: HTTPRoute ns/a: spec.rules[0].backendRefs[0].weight: 1000001 is out of range, "
         "must be 0 to 1000000\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{timeout: 5s, "
            "match: [], route: []}]}",
         "4:68: HTTPRoute ns/a: spec.rules[0].timeout: unknown field: write `timeouts: {request: "
         "...}`\n"
         "4:81: HTTPRoute ns/a: spec.rules[0].match: unknown field: its name is `matches`\n"
         "4:92: HTTPRoute ns/a: spec.rules[0].route: unknown field: destinations are "
         "`backendRefs`\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{timeouts: "
            "{request: 1s, backendRequest: 2s}}]}",
         "4:108: HTTPRoute ns/a: spec.rules[0].timeouts.backendRequest: must not be longer than "
         "`request`\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{retry: {codes: "
            "[200], attempts: 0}}]}",
         "4:84: HTTPRoute ns/a: spec.rules[0].retry.codes[0]: 200 is out of range, must be 400 to "
         "599\n"
         "4:100: HTTPRoute ns/a: spec.rules[0].retry.attempts: 0 is out of range, must be 1 to "
         "2147483647\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: [{path: "
            "{type: Prefix, value: /}}]}]}",
         "4:92: HTTPRoute ns/a: spec.rules[0].matches[0].path.type: `Prefix` is none of "
         "PathPrefix, Exact, RegularExpression\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: [{path: "
            "{value: a}}, {path: {value: /a//b}}, {path: {type: Exact, value: /a/..}}]}]}",
         "4:93: HTTPRoute ns/a: spec.rules[0].matches[0].path.value: `a` must begin with `/`\n"
         "4:113: HTTPRoute ns/a: spec.rules[0].matches[1].path.value: `/a//b` holds one of //, "
         "/./, /../, %2f, #, which never match a normalized path\n"
         "4:150: HTTPRoute ns/a: spec.rules[0].matches[2].path.value: `/a/..` ends in `/.` or "
         "`/..`\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: [{method: "
            "GTE}]}]}",
         "4:87: HTTPRoute ns/a: spec.rules[0].matches[0].method: `GTE` is not an HTTP method\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: "
            "[{headers: {a: b}}]}]}",
         "4:88: HTTPRoute ns/a: spec.rules[0].matches[0].headers: expected a list, found a map\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: "
            "[{headers: [{name: a}]}]}]}",
         "4:89: HTTPRoute ns/a: spec.rules[0].matches[0].headers[0].value: is required\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "RequestRedirect}]}]}",
         "4:78: HTTPRoute ns/a: spec.rules[0].filters[0].requestRedirect: is required with type "
         "RequestRedirect\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: "
            "[{requestRedirect: {port: 1}}]}]}",
         "4:78: HTTPRoute ns/a: spec.rules[0].filters[0].type: is required\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "CORS, urlRewrite: {hostname: a}, cors: {allowOrigins: [x]}}]}]}",
         "4:103: HTTPRoute ns/a: spec.rules[0].filters[0].urlRewrite: cannot be set with type "
         "CORS: it needs a filter of its own, of type URLRewrite\n"
         "4:140: HTTPRoute ns/a: spec.rules[0].filters[0].cors.allowOrigins[0]: `x` is not an "
         "origin: SCHEME://HOST[:PORT], as https://*.example.com, or `*`\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "RequestRedirect, requestRedirect: {port: 1, statusCode: 304}}], backendRefs: [{name: "
            "a, port: 1}]}]}",
         "4:141: HTTPRoute ns/a: spec.rules[0].filters[0].requestRedirect.statusCode: must be 301, "
         "302, 303, 307 or 308\n"
         "4:162: HTTPRoute ns/a: spec.rules[0].backendRefs: cannot be set with a RequestRedirect "
         "filter\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "RequestRedirect, requestRedirect: {port: 1}}, {type: URLRewrite, urlRewrite: "
            "{hostname: a}}]}]}",
         "4:131: HTTPRoute ns/a: spec.rules[0].filters[1]: RequestRedirect and URLRewrite exclude "
         "each other\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: "
            "a}}]}]}",
         "4:125: HTTPRoute ns/a: spec.rules[0].filters[1]: a filter of this type is there "
         "already\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: [{path: "
            "{type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: "
            "ReplacePrefixMatch, replacePrefixMatch: /}}}]}]}",
         "4:122: HTTPRoute ns/a: spec.rules[0].filters: ReplacePrefixMatch needs exactly one "
         "match, of type PathPrefix\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: /}}}]}]}",
         "4:116: HTTPRoute ns/a: spec.rules[0].filters[0].urlRewrite.path.replaceFullPath: is "
         "required with this `type`\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: "
            "{numerator: 2, denominator: 1}}}]}]}",
         "4:170: HTTPRoute ns/a: spec.rules[0].filters[0].requestMirror.fraction: excludes "
         "`percent`: only one of them may be set\n"
         "4:182: HTTPRoute ns/a: spec.rules[0].filters[0].requestMirror.fraction.numerator: must "
         "not be more than the denominator\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]}]}",
         "4:78: warning: HTTPRoute ns/a: spec.rules[0].filters[0]: type ExtensionRef is not "
         "supported: requests that take this rule get 500\n"},
        {HR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{filters: [{type: "
            "RequestHeaderModifier, requestHeaderModifier: {set: [{name: \"a b\", value: c}]}}]}]}",
         "4:145: HTTPRoute ns/a: spec.rules[0].filters[0].requestHeaderModifier.set[0].name: `a b` "
         "is not the name of a header\n"},
        {HR
         "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{name: x}, {name: x}]}",
         "4:78: HTTPRoute ns/a: spec.rules[1]: the name `x` is used twice\n"},
        {GR "spec: {parentRefs: [{group: '', kind: Service, name: a}], rules: [{matches: [{method: "
            "{}}, {method: {service: a/b}}, {path: {value: /}}], filters: [{type: CORS}], "
            "timeouts: {}}]}",
         "4:87: GRPCRoute ns/a: spec.rules[0].matches[0].method: needs `service` or `method`\n"
         "4:111: GRPCRoute ns/a: spec.rules[0].matches[1].method.service: `a/b` must not hold `/`\n"
         "4:119: GRPCRoute ns/a: spec.rules[0].matches[2].path: unknown field\n"
         "4:156: GRPCRoute ns/a: spec.rules[0].filters[0].type: `CORS` is none of "
         "RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, ExtensionRef\n"
         "4:164: GRPCRoute ns/a: spec.rules[0].timeouts: unknown field\n"},
    };
    check(rows, ARRAY_LEN(rows));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vs),
        cmocka_unit_test(test_dr),
        cmocka_unit_test(test_gateway_api),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
