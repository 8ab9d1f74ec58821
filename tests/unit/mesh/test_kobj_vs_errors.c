// SPDX-License-Identifier: Apache-2.0
//
// VirtualServices: what is refused, what is warned about, where it is and what to do.
#include "tests/unit/mesh/kobj_errors.h"

static void test_vs(void **state) {
    static const struct kobj_error_row rows[] = {
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
    check_kobj_errors(rows, ARRAY_LEN(rows));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
