// SPDX-License-Identifier: Apache-2.0
//
// The other L7 kinds: what is refused, what is warned about, where it is and what to do.
#include "tests/unit/mesh/kobj_errors.h"

static void test_dr(void **state) {
    static const struct kobj_error_row rows[] = {
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
    check_kobj_errors(rows, ARRAY_LEN(rows));
}

static void test_gateway_api(void **state) {
    static const struct kobj_error_row rows[] = {
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
    check_kobj_errors(rows, ARRAY_LEN(rows));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dr),
        cmocka_unit_test(test_gateway_api),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
