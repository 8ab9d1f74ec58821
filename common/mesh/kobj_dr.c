// SPDX-License-Identifier: Apache-2.0
//
// DestinationRule: fields, and the rules of Istio's own validation.
#include <stdio.h>
#include <strings.h>

#include "common/base/addr.h"
#include "common/mesh/kobj_l7_priv.h"

enum { TABLE_SIZE_MAX = 5000011 }; // of maglev, exclusive

// Load balancer

#define HASH struct kobj_consistent_hash
static const struct schema_field attribute_fields[] = {
    F_STR(struct kobj_kv, key, "name", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_kv, value, "value"),
};
static const struct schema_msg attribute_msg = {SCHEMA_MSG(struct kobj_kv, attribute_fields)};

static void check_cookie(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const HASH *hash = out;
    char path[32];

    for (uint32_t i = 0; i < hash->n_cookie_attributes; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const char *name = hash->cookie_attributes[i].key;
            if (name[0] != '\0' && strcmp(name, hash->cookie_attributes[j].key) == 0) {
                snprintf(path, sizeof(path), "attributes[%u]", i);
                schema_error(ctx, kobj_item(node, "attributes", i), path, "`%.60s` is there twice",
                             name);
                break;
            }
        }
    }
}
static const struct schema_field cookie_fields[] = {
    F_STR(HASH, name, "name", .flags = SCHEMA_REQUIRED, .check = kobj_check_header_name),
    F_STR(HASH, cookie_path, "path"),
    F_DURATION(HASH, cookie_ttl_ms, "ttl"),
    F_LIST(HASH, cookie_attributes, "attributes", &attribute_msg),
};
static const struct schema_msg cookie_msg = {
    SCHEMA_MSG(HASH, cookie_fields),
    .check = check_cookie,
};
static const struct schema_field ring_fields[] = {
    F_INT(HASH, min_ring_size, "minimumRingSize", 0, INT64_MAX),
};
static const struct schema_msg ring_msg = {SCHEMA_MSG(HASH, ring_fields)};

static bool is_prime(uint64_t n) {
    if (n < 2 || n % 2 == 0) {
        return n == 2;
    }
    for (uint64_t i = 3; i * i <= n; i += 2) {
        if (n % i == 0) {
            return false;
        }
    }
    return true;
}
static void check_maglev(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const HASH *hash = out;

    if (hash->table_size != 0 && !is_prime(hash->table_size)) {
        schema_error(ctx, kobj_at(node, "tableSize"), "tableSize", "must be a prime number");
    }
}
static const struct schema_field maglev_fields[] = {
    F_INT(HASH, table_size, "tableSize", 2, TABLE_SIZE_MAX - 1, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg maglev_msg = {
    SCHEMA_MSG(HASH, maglev_fields),
    .check = check_maglev,
};

static void check_hash(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const HASH *hash = out;
    const struct cfg_node *ip = cfg_get(node, "useSourceIp");

    if (ip != NULL && ip->type == CFG_BOOL && ip->text[0] != 't') {
        schema_warn(ctx, ip, "useSourceIp", "false is no key: endpoints are chosen at random");
    } else if (hash->key == HASH_KEY_NONE) {
        schema_error(ctx, node, "",
                     "needs a key: httpHeaderName, httpCookie, useSourceIp or "
                     "httpQueryParameterName");
    }
    if (kobj_has(node, "minimumRingSize") &&
        (kobj_has(node, "ringHash") || kobj_has(node, "maglev"))) {
        schema_error(ctx, cfg_get(node, "minimumRingSize"), "minimumRingSize",
                     "cannot be set with `ringHash` or `maglev`");
    }
}
static const struct schema_field hash_fields[] = {
    F_STR(HASH, name, "httpHeaderName", .oneof = 1, F_TAG(HASH, key, HASH_KEY_HEADER),
          .flags = SCHEMA_NONEMPTY, .check = kobj_check_header_name),
    F_FLAT("httpCookie", &cookie_msg, .oneof = 1, F_TAG(HASH, key, HASH_KEY_COOKIE)),
    F_BOOL(HASH, use_source_ip, "useSourceIp", .oneof = 1, F_TAG(HASH, key, HASH_KEY_IP)),
    F_STR(HASH, name, "httpQueryParameterName", .oneof = 1, F_TAG(HASH, key, HASH_KEY_QUERY),
          .flags = SCHEMA_NONEMPTY),
    F_FLAT("ringHash", &ring_msg, .oneof = 2),
    F_FLAT("maglev", &maglev_msg, .oneof = 2, F_TAG(HASH, algorithm, HASH_MAGLEV)),
    F_INT(HASH, min_ring_size, "minimumRingSize", 0, INT64_MAX,
          .old = "is deprecated: write `ringHash: {minimumRingSize: ...}`"),
};
static const struct schema_msg hash_msg = {
    SCHEMA_MSG(HASH, hash_fields),
    .check = check_hash,
};

#define LB struct kobj_load_balancer
static const struct schema_name simple_names[] = {{"LEAST_REQUEST", KOBJ_LB_LEAST_REQUEST},
                                                  {"ROUND_ROBIN", KOBJ_LB_ROUND_ROBIN},
                                                  {"RANDOM", KOBJ_LB_RANDOM},
                                                  {"PASSTHROUGH", KOBJ_LB_PASSTHROUGH},
                                                  {"LEAST_CONN", KOBJ_LB_LEAST_REQUEST},
                                                  {"UNSPECIFIED", KOBJ_LB_UNSET},
                                                  {NULL, 0}};
static const struct schema_field warmup_fields[] = {
    F_DURATION(LB, warmup_ms, "duration", .min = 1, .flags = SCHEMA_REQUIRED),
    F_PPM(LB, warmup_min_ppm, "minimumPercent", .absent = KOBJ_PPM / 10),
    F_DOUBLE(LB, warmup_aggression, "aggression", 0, 1000, .absent = 1),
};
static void check_warmup(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const LB *lb = out;

    if (!(lb->warmup_aggression > 0)) {
        schema_error(ctx, kobj_at(node, "aggression"), "aggression", "must be more than 0");
    }
}
static const struct schema_msg warmup_msg = {
    SCHEMA_MSG(LB, warmup_fields),
    .check = check_warmup,
};

static void check_lb(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const LB *lb = out;
    const struct cfg_node *simple = cfg_get(node, "simple");
    const struct cfg_node *locality = cfg_get(node, "localityLbSetting");

    if (strcmp(cfg_str(simple, ""), "LEAST_CONN") == 0) {
        schema_warn(ctx, simple, "simple", "LEAST_CONN is deprecated: write LEAST_REQUEST");
    }
    if (kobj_has(node, "zoneAwareLbSetting")) {
        schema_warn(ctx, cfg_get(node, "zoneAwareLbSetting"), "zoneAwareLbSetting",
                    "is not supported by waypoints: use `localityLbSetting`, or "
                    "`trafficDistribution` of the Service");
    }
    if (lb->locality == NULL) {
        return;
    }
    const struct mesh_locality_lb *l = lb->locality;
    if ((l->n_distribute > 0) + (l->n_failover > 0 || l->n_failover_priority > 0) > 1) {
        schema_error(ctx, locality, "localityLbSetting",
                     "`distribute` excludes `failover` and `failoverPriority`");
    }
    for (uint32_t i = 0; i < l->n_failover; i++) {
        if (strcmp(l->failover[i].from, l->failover[i].to) == 0) {
            char path[64];
            snprintf(path, sizeof(path), "localityLbSetting.failover[%u].to", i);
            schema_error(ctx, kobj_item(locality, "failover", i), path,
                         "is the same region as `from`: `%s`", l->failover[i].to);
        }
    }
    for (uint32_t i = 0; i < l->n_distribute; i++) {
        uint64_t total = 0;
        char path[64];
        for (uint32_t j = 0; j < l->distribute[i].n_to; j++) {
            total += l->distribute[i].to[j].weight;
        }
        if (total != 100) {
            snprintf(path, sizeof(path), "localityLbSetting.distribute[%u].to", i);
            schema_error(ctx, kobj_item(locality, "distribute", i), path,
                         "the weights add up to %llu, must be 100", (unsigned long long)total);
        }
    }
}
static const struct schema_field lb_fields[] = {
    F_ENUM(LB, simple, "simple", simple_names, .oneof = 1),
    F_PTR(LB, hash, "consistentHash", &hash_msg, .oneof = 1),
    F_PTR(LB, locality, "localityLbSetting", &mesh_locality_msg, .oneof = 2),
    F_FLAT("warmup", &warmup_msg, .oneof = 3),
    F_DURATION(LB, warmup_ms, "warmupDurationSecs", .oneof = 3,
               .old = "is deprecated: write `warmup: {duration: ...}`"),
    {.name = "zoneAwareLbSetting", .type = SCHEMA_ANY, .oneof = 2},
};
static const struct schema_msg lb_msg = {SCHEMA_MSG(LB, lb_fields), .check = check_lb};

// Connection pool

#define POOL struct kobj_connection_pool
static const struct schema_field keepalive_fields[] = {
    F_INT(POOL, keepalive_probes, "probes", 0, UINT32_MAX),
    F_DURATION(POOL, keepalive_time_ms, "time", .min = 1),
    F_DURATION(POOL, keepalive_interval_ms, "interval", .min = 1),
};
static const struct schema_msg keepalive_msg = {SCHEMA_MSG(POOL, keepalive_fields)};
static const struct schema_field tcp_fields[] = {
    F_INT(POOL, max_connections, "maxConnections", 0, INT32_MAX),
    F_DURATION(POOL, connect_timeout_ms, "connectTimeout", .min = 1),
    F_FLAT("tcpKeepalive", &keepalive_msg, F_TAG(POOL, has_keepalive, 1)),
    F_DURATION(POOL, max_connection_duration_ms, "maxConnectionDuration", .min = 1),
    F_DURATION(POOL, tcp_idle_timeout_ms, "idleTimeout"), // 0 = off
};
static const struct schema_msg tcp_msg = {SCHEMA_MSG(POOL, tcp_fields)};
static const struct schema_field ping_fields[] = {
    F_DURATION(POOL, ping_interval_ms, "interval", .min = 1, .flags = SCHEMA_REQUIRED),
    F_DURATION(POOL, ping_timeout_ms, "timeout", .min = 1, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg ping_msg = {SCHEMA_MSG(POOL, ping_fields)};
static const struct schema_name upgrade_policies[] = {{"DEFAULT", H2_UPGRADE_UNSET},
                                                      {"DO_NOT_UPGRADE", H2_UPGRADE_NO},
                                                      {"UPGRADE", H2_UPGRADE_YES},
                                                      {NULL, 0}};
static void check_http(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const POOL *pool = out;

    if (pool->h2_upgrade == H2_UPGRADE_YES && pool->use_client_protocol) {
        schema_error(ctx, kobj_at(node, "useClientProtocol"), "useClientProtocol",
                     "cannot be true with `h2UpgradePolicy: UPGRADE`");
    }
}
static const struct schema_field http_fields[] = {
    F_INT(POOL, max_pending_requests, "http1MaxPendingRequests", 0, INT32_MAX),
    F_INT(POOL, max_requests, "http2MaxRequests", 0, INT32_MAX),
    F_INT(POOL, max_requests_per_connection, "maxRequestsPerConnection", 0, INT32_MAX),
    F_INT(POOL, max_retries, "maxRetries", 0, INT32_MAX),
    F_DURATION(POOL, http_idle_timeout_ms, "idleTimeout", .min = 1),
    F_ENUM(POOL, h2_upgrade, "h2UpgradePolicy", upgrade_policies),
    F_BOOL(POOL, use_client_protocol, "useClientProtocol"),
    F_INT(POOL, max_concurrent_streams, "maxConcurrentStreams", 0, INT32_MAX),
    F_FLAT("http2KeepAlive", &ping_msg),
};
static const struct schema_msg http_msg = {SCHEMA_MSG(POOL, http_fields), .check = check_http};
static void check_pool(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    (void)out;
    if (!kobj_has(node, "tcp") && !kobj_has(node, "http")) {
        schema_error(ctx, node, "", "needs `tcp` or `http`");
    }
}
static const struct schema_field pool_fields[] = {
    F_FLAT("tcp", &tcp_msg),
    F_FLAT("http", &http_msg),
};
static const struct schema_msg pool_msg = {SCHEMA_MSG(POOL, pool_fields), .check = check_pool};

// Outlier detection

#define OUTLIER struct kobj_outlier
static void check_outlier(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const OUTLIER *outlier = out;

    if (outlier->consecutive_local_origin > 0 && !outlier->splits_local_origin) {
        schema_error(ctx, kobj_at(node, "consecutiveLocalOriginFailures"),
                     "consecutiveLocalOriginFailures",
                     "needs `splitExternalLocalOriginErrors: true`");
    }
    if (outlier->consecutive_gateway > 0 && outlier->consecutive_5xx != 0 &&
        outlier->consecutive_gateway >=
            (outlier->consecutive_5xx > 0 ? outlier->consecutive_5xx : 5)) {
        schema_warn(ctx, kobj_at(node, "consecutiveGatewayErrors"), "consecutiveGatewayErrors",
                    "never counts: consecutive5xxErrors (%lld), which includes gateway errors, is "
                    "reached first",
                    (long long)(outlier->consecutive_5xx > 0 ? outlier->consecutive_5xx : 5));
    }
}
static const struct schema_field outlier_fields[] = {
    F_INT(OUTLIER, consecutive_5xx, "consecutive5xxErrors", 0, UINT32_MAX, .absent = -1),
    F_INT(OUTLIER, consecutive_gateway, "consecutiveGatewayErrors", 0, UINT32_MAX, .absent = -1),
    F_INT(OUTLIER, consecutive_local_origin, "consecutiveLocalOriginFailures", 0, UINT32_MAX,
          .absent = -1),
    F_BOOL(OUTLIER, splits_local_origin, "splitExternalLocalOriginErrors"),
    F_DURATION(OUTLIER, interval_ms, "interval", .min = 1),
    F_DURATION(OUTLIER, base_ejection_ms, "baseEjectionTime", .min = 1),
    F_INT(OUTLIER, max_ejection_percent, "maxEjectionPercent", 0, 100, .absent = -1),
    F_INT(OUTLIER, min_health_percent, "minHealthPercent", 0, 100, .absent = -1),
    F_INTS(OUTLIER, http_codes, "outlierDetectionHttpErrorCodes", 100, 599),
    {.name = "consecutiveErrors",
     .type = SCHEMA_ANY,
     .old = "is ignored, by Istio too (5 errors of 5xx eject): write `consecutive5xxErrors`"},
};
static const struct schema_msg outlier_msg = {
    SCHEMA_MSG(OUTLIER, outlier_fields),
    .check = check_outlier,
};

// TLS, tunnel, proxy protocol, retry budget

#define TLS struct kobj_client_tls
static const struct schema_name tls_modes[] = {{"DISABLE", TLS_MODE_DISABLE},
                                               {"SIMPLE", TLS_MODE_SIMPLE},
                                               {"MUTUAL", TLS_MODE_MUTUAL},
                                               {"ISTIO_MUTUAL", TLS_MODE_ISTIO_MUTUAL},
                                               {NULL, 0}};
static void check_tls(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    static const char *const files[] = {"clientCertificate", "privateKey", "caCertificates"};
    const TLS *tls = out;

    if (tls->credential_name[0] != '\0') {
        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
            if (kobj_has(node, files[i])) {
                schema_error(ctx, cfg_get(node, files[i]), files[i],
                             "cannot be set with `credentialName`");
            }
        }
    }
    if (tls->mode == TLS_MODE_MUTUAL && tls->credential_name[0] == '\0' &&
        (tls->client_certificate[0] == '\0' || tls->private_key[0] == '\0')) {
        schema_error(ctx, node, tls->client_certificate[0] == '\0' ? files[0] : files[1],
                     "is required with mode MUTUAL (or `credentialName`)");
    }
    if (tls->mode == TLS_MODE_ISTIO_MUTUAL &&
        (tls->client_certificate[0] != '\0' || tls->private_key[0] != '\0' ||
         tls->ca_certificates[0] != '\0' || tls->credential_name[0] != '\0')) {
        schema_error(ctx, node, "",
                     "mode ISTIO_MUTUAL uses the certificates of the mesh: none may be named");
    }
    if (tls->mode == TLS_MODE_SIMPLE &&
        (tls->client_certificate[0] != '\0' || tls->private_key[0] != '\0')) {
        schema_warn(ctx, node, tls->client_certificate[0] != '\0' ? files[0] : files[1],
                    "is not used with mode SIMPLE: a client certificate needs MUTUAL");
    }
    if (!kobj_has(node, "mode") && node->n > 0) {
        schema_warn(ctx, node, "mode", "is absent, which is DISABLE: no TLS");
    }
}
static const struct schema_field tls_fields[] = {
    F_ENUM(TLS, mode, "mode", tls_modes),
    F_STR(TLS, client_certificate, "clientCertificate"),
    F_STR(TLS, private_key, "privateKey"),
    F_STR(TLS, ca_certificates, "caCertificates"),
    F_STR(TLS, ca_crl, "caCrl"),
    F_STR(TLS, credential_name, "credentialName"),
    F_STRS(TLS, sans, "subjectAltNames"),
    F_STR(TLS, sni, "sni"),
    F_TRI(TLS, insecure_skip_verify, "insecureSkipVerify"),
};
static const struct schema_msg tls_msg = {SCHEMA_MSG(TLS, tls_fields), .check = check_tls};

static const char *check_tunnel_protocol(const char *text) {
    bool is_ok = strcmp(text, "CONNECT") == 0 || strcmp(text, "POST") == 0;
    return is_ok ? NULL : "is neither CONNECT nor POST";
}
static const char *check_tunnel_host(const char *text) {
    return text[0] == '*' ? "must be a full host name or an address" : kobj_check_host(text);
}
static const struct schema_field tunnel_fields[] = {
    F_STR(struct kobj_tunnel, protocol, "protocol", .check = check_tunnel_protocol),
    F_STR(struct kobj_tunnel, target_host, "targetHost", .flags = SCHEMA_REQUIRED,
          .check = check_tunnel_host),
    F_INT(struct kobj_tunnel, target_port, "targetPort", 1, 65535, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg tunnel_msg = {SCHEMA_MSG(struct kobj_tunnel, tunnel_fields)};

#define POLICY struct kobj_traffic_policy
static const struct schema_name proxy_versions[] = {
    {"V1", PROXY_PROTOCOL_V1}, {"V2", PROXY_PROTOCOL_V2}, {NULL, 0}};
static const struct schema_field proxy_fields[] = {
    F_ENUM(POLICY, proxy_protocol, "version", proxy_versions),
};
static const struct schema_msg proxy_msg = {SCHEMA_MSG(POLICY, proxy_fields)};

#define BUDGET struct kobj_retry_budget
static const struct schema_field budget_fields[] = {
    F_PPM(BUDGET, ppm, "percent", .absent = KOBJ_PPM / 5),
    F_INT(BUDGET, min_concurrency, "minRetryConcurrency", 0, UINT32_MAX, .absent = 3),
    F_DURATION(BUDGET, interval_ms, "budgetInterval"),
};
static const struct schema_msg budget_msg = {SCHEMA_MSG(BUDGET, budget_fields)};

// Traffic policy

#define PORT struct kobj_port_policy
static const struct schema_field port_number_fields[] = {
    F_INT(PORT, port, "number", 1, 65535, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg port_number_msg = {SCHEMA_MSG(PORT, port_number_fields)};
static void check_port(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const PORT *port = out;
    const POLICY *policy = &port->policy;

    if (policy->load_balancer == NULL && policy->connection_pool == NULL &&
        policy->outlier == NULL && policy->tls == NULL) {
        schema_error(ctx, node, "",
                     "needs one of loadBalancer, connectionPool, outlierDetection, tls");
    }
}
static const struct schema_field port_fields[] = {
    F_FLAT("port", &port_number_msg, .flags = SCHEMA_REQUIRED),
    F_PTR(PORT, policy.load_balancer, "loadBalancer", &lb_msg),
    F_PTR(PORT, policy.connection_pool, "connectionPool", &pool_msg),
    F_PTR(PORT, policy.outlier, "outlierDetection", &outlier_msg),
    F_PTR(PORT, policy.tls, "tls", &tls_msg),
};
static const struct schema_msg port_msg = {
    SCHEMA_MSG(PORT, port_fields),
    .pos_off = offsetof(PORT, policy.pos) + 1,
    .check = check_port,
};

static void check_policy(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const POLICY *policy = out;
    char path[48];

    if (node->n == 0) {
        schema_error(ctx, node, "", "must not be empty");
    }
    for (uint32_t i = 0; i < policy->n_ports; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (policy->ports[i].port != 0 && policy->ports[i].port == policy->ports[j].port) {
                snprintf(path, sizeof(path), "portLevelSettings[%u]", i);
                schema_error(ctx, kobj_item(node, "portLevelSettings", i), path,
                             "port %u is there twice", policy->ports[i].port);
                break;
            }
        }
    }
}
static const struct schema_field policy_fields[] = {
    F_PTR(POLICY, load_balancer, "loadBalancer", &lb_msg),
    F_PTR(POLICY, connection_pool, "connectionPool", &pool_msg),
    F_PTR(POLICY, outlier, "outlierDetection", &outlier_msg),
    F_PTR(POLICY, tls, "tls", &tls_msg),
    F_LIST(POLICY, ports, "portLevelSettings", &port_msg, .max = 4096),
    F_PTR(POLICY, tunnel, "tunnel", &tunnel_msg, .oneof = 1),
    F_FLAT("proxyProtocol", &proxy_msg, .oneof = 1,
           F_TAG(POLICY, proxy_protocol, PROXY_PROTOCOL_V1)),
    F_PTR(POLICY, retry_budget, "retryBudget", &budget_msg),
};
const struct schema_msg kobj_traffic_policy_msg = {
    SCHEMA_MSG(POLICY, policy_fields),
    SCHEMA_POS(POLICY, pos),
    .check = check_policy,
};

// Subsets and the object

#define SUBSET struct kobj_subset
static void check_subset(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const SUBSET *subset = out;

    if (subset->name[0] == '\0' && !kobj_has(node, "name")) {
        bool is_inside = kobj_map_get(&subset->labels, "name") != NULL;
        schema_error(ctx, is_inside ? cfg_get(cfg_get(node, "labels"), "name") : node, "name",
                     is_inside ? "is required: `name` is inside of `labels`, where it is a label; "
                                 "indent it less"
                               : "is required");
    }
}
static const struct schema_field subset_fields[] = {
    F_STR(SUBSET, name, "name", .flags = SCHEMA_NONEMPTY, .check = schema_check_dns_label),
    F_MAP(SUBSET, labels, "labels", .check = schema_check_label_value,
          .check_key = schema_check_label_key),
    F_PTR(SUBSET, policy, "trafficPolicy", &kobj_traffic_policy_msg),
};
static const struct schema_msg subset_msg = {
    SCHEMA_MSG(SUBSET, subset_fields),
    SCHEMA_POS(SUBSET, pos),
    .check = check_subset,
};

#define DR struct kobj_destination_rule
static const struct schema_field selector_fields[] = {
    F_MAP(DR, selector, "matchLabels", .check = schema_check_label_value,
          .check_key = schema_check_label_key),
};
static const struct schema_msg selector_msg = {SCHEMA_MSG(DR, selector_fields)};

static void check_spec(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const DR *dr = out;
    char path[32];

    for (uint32_t i = 0; i < dr->n_subsets; i++) {
        const char *name = dr->subsets[i].name;
        for (uint32_t j = 0; j < i; j++) {
            if (name[0] != '\0' && strcmp(name, dr->subsets[j].name) == 0) {
                snprintf(path, sizeof(path), "subsets[%u]", i);
                schema_error(ctx, kobj_item(node, "subsets", i), path,
                             "the name `%.60s` is used twice", name);
                break;
            }
        }
    }
    kobj_check_exports(ctx, node, dr->export_to, dr->n_export_to);
    if (dr->has_selector) {
        schema_warn(ctx, kobj_at(node, "workloadSelector"), "workloadSelector",
                    "selects client proxies, of which a waypoint is none: this object has no "
                    "effect");
    }
}
static const struct schema_field spec_fields[] = {
    F_STR(DR, host, "host", .flags = SCHEMA_REQUIRED, .check = kobj_check_host),
    F_PTR(DR, policy, "trafficPolicy", &kobj_traffic_policy_msg),
    F_LIST(DR, subsets, "subsets", &subset_msg, .max = 10000),
    F_STRS(DR, export_to, "exportTo", .check = kobj_check_export),
    F_FLAT("workloadSelector", &selector_msg, F_TAG(DR, has_selector, 1)),
};
static const struct schema_note spec_notes[] = {
    {"name", "unknown field: the service is named by `host`"}, {NULL, NULL}};
static const struct schema_msg spec_msg = {
    SCHEMA_MSG(DR, spec_fields),
    .notes = spec_notes,
    .check = check_spec,
};
static const struct schema_field fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &spec_msg, .flags = SCHEMA_REQUIRED),
    F_ANY("status"),
};
const struct schema_msg kobj_destination_rule_msg = {SCHEMA_MSG(DR, fields)};
