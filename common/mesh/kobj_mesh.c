// SPDX-License-Identifier: Apache-2.0
//
// MeshConfig: the text `mesh` in the ConfigMap istio, a YAML document of its own. What concerns
// sidecars, gateways and the control plane is known by name.
#include "common/mesh/kobj_l7.h"
#include "common/mesh/kobj_priv.h"
#include "common/mesh/snapshot.h"
#include "common/proto/spiffe.h"

static const struct schema_name outbound_modes[] = {
    {"ALLOW_ANY", OUTBOUND_ALLOW_ANY},
    {"REGISTRY_ONLY", OUTBOUND_REGISTRY_ONLY},
    {"ALLOW_ANY_DYNAMIC_DNS", OUTBOUND_ALLOW_ANY_DYNAMIC_DNS},
    {NULL, 0}};
static const struct schema_name encodings[] = {
    {"TEXT", ACCESS_LOG_TEXT}, {"JSON", ACCESS_LOG_JSON}, {NULL, 0}};

static const struct schema_field outbound_fields[] = {
    F_ENUM(struct mesh_config, outbound_mode, "mode", outbound_modes,
           F_TAG(struct mesh_config, has_outbound_mode, 1)),
};
static const struct schema_msg outbound_msg = {
    SCHEMA_MSG(struct mesh_config, outbound_fields),
    .known = "tls",
    .is_snake_ok = true,
};

static const struct schema_field failover_fields[] = {
    F_STR(struct locality_failover, from, "from"),
    F_STR(struct locality_failover, to, "to"),
};
static const struct schema_msg failover_msg = {
    SCHEMA_MSG(struct locality_failover, failover_fields)};
static const struct schema_field weight_fields[] = {
    F_STR(struct locality_weight, key, "<key>"),
    F_INT(struct locality_weight, weight, "<value>", 0, UINT32_MAX),
};
static const struct schema_msg weight_msg = {SCHEMA_MSG(struct locality_weight, weight_fields)};
static const struct schema_field distribute_fields[] = {
    F_STR(struct locality_distribute, from, "from"),
    F_KEYED(struct locality_distribute, to, "to", &weight_msg),
};
static const struct schema_msg distribute_msg = {
    SCHEMA_MSG(struct locality_distribute, distribute_fields)};
static const struct schema_field locality_fields[] = {
    F_TRI(struct mesh_locality_lb, enabled, "enabled"),
    F_LIST(struct mesh_locality_lb, failover, "failover", &failover_msg),
    F_LIST(struct mesh_locality_lb, distribute, "distribute", &distribute_msg),
    F_STRS(struct mesh_locality_lb, failover_priority, "failoverPriority"),
};
const struct schema_msg mesh_locality_msg = {
    SCHEMA_MSG(struct mesh_locality_lb, locality_fields),
    .is_snake_ok = true,
};

static const struct schema_field proxy_fields[] = {
    F_STR(struct mesh_proxy_config, discovery_address, "discoveryAddress"),
    F_INT(struct mesh_proxy_config, proxy_admin_port, "proxyAdminPort", 0, 65535),
    F_INT(struct mesh_proxy_config, status_port, "statusPort", 0, 65535),
    F_INT(struct mesh_proxy_config, stats_port, "statsPort", 0, 65535),
    F_INT(struct mesh_proxy_config, concurrency, "concurrency", 0, 4096,
          F_TAG(struct mesh_proxy_config, has_concurrency, 1)),
    F_MAP(struct mesh_proxy_config, proxy_metadata, "proxyMetadata"),
    F_DURATION(struct mesh_proxy_config, termination_drain_ms, "terminationDrainDuration"),
    F_DURATION(struct mesh_proxy_config, drain_ms, "drainDuration"),
};
static const struct schema_msg proxy_msg = {
    SCHEMA_MSG(struct mesh_proxy_config, proxy_fields),
    .known = "configPath binaryPath serviceCluster tracingServiceName discoveryRefreshDelay "
             "zipkinAddress statsdUdpAddress envoyMetricsServiceAddress availabilityZone "
             "controlPlaneAuthPolicy customConfigFile statNameLength proxyBootstrapTemplatePath "
             "interceptionMode tracing sds envoyAccessLogService envoyMetricsService "
             "runtimeValues extraStatTags gatewayTopology meshId readinessProbe "
             "proxyStatsMatcher holdApplicationUntilProxyStarts caCertificatesPem image "
             "privateKeyProvider proxyHeaders fileFlushInterval fileFlushMinSizeKb "
             "statsCompression connectionSettings parentShutdownDuration connectTimeout",
    .is_snake_ok = true,
};

static const struct schema_field keepalive_fields[] = {
    F_INT(struct mesh_config, keepalive_probes, "probes", 0, INT32_MAX),
    F_DURATION(struct mesh_config, keepalive_time_ms, "time", .min = 1),
    F_DURATION(struct mesh_config, keepalive_interval_ms, "interval", .min = 1),
};
static const struct schema_msg keepalive_msg = {SCHEMA_MSG(struct mesh_config, keepalive_fields)};
static const struct schema_name upgrade_policies[] = {
    {"DO_NOT_UPGRADE", 0}, {"UPGRADE", 1}, {NULL, 0}};

static const char *check_trust_domain(const char *text) {
    return spiffe_trust_domain_is_valid(slice_str(text))
               ? NULL
               : "is not a trust domain: lower case letters, digits, `.`, `-` and `_`, at most 255";
}

const char *(*kobj_access_log_problem)(bool is_json, const char *format);

// By both spellings.
static const struct cfg_node *value_of(const struct cfg_node *node, const char *name,
                                       const char *snake) {
    const struct cfg_node *value = cfg_get(node, name);
    return value != NULL ? value : cfg_get(node, snake);
}

static void check_access_log(struct schema_ctx *ctx, const struct cfg_node *node,
                             const struct mesh_config *config) {
    if (config->access_log_file[0] != '\0' && strcmp(config->access_log_file, "/dev/stdout") != 0) {
        schema_warn(ctx, value_of(node, "accessLogFile", "access_log_file"), "accessLogFile",
                    "is not /dev/stdout, the only place where access logs are written to: they go "
                    "there");
    }
    const struct cfg_node *format = value_of(node, "accessLogFormat", "access_log_format");
    if (strlen(config->access_log_format) > MESH_ACCESS_LOG_FORMAT_MAX) {
        schema_error(ctx, format, "accessLogFormat", "is longer than %d bytes",
                     MESH_ACCESS_LOG_FORMAT_MAX);
        return;
    }
    bool is_json = config->access_log_encoding == ACCESS_LOG_JSON;
    const char *problem = kobj_access_log_problem != NULL
                              ? kobj_access_log_problem(is_json, config->access_log_format)
                              : NULL;
    if (problem != NULL) {
        schema_error(ctx, format, "accessLogFormat", "is not valid: %s", problem);
    }
}

static void check_mesh(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct mesh_config *mesh = out;
    if (mesh->n_trust_domain_aliases > MESH_ALIASES_MAX) {
        schema_error(ctx, cfg_get(node, "trustDomainAliases"), "trustDomainAliases",
                     "has more than %d names", MESH_ALIASES_MAX);
    }
    if (mesh->locality_lb != NULL) {
        schema_warn(ctx, cfg_get(node, "localityLbSetting"), "localityLbSetting",
                    "does not concern L4, where a Service's trafficDistribution tells which "
                    "endpoints are near; only a waypoint looks at it");
    }
    check_access_log(ctx, node, mesh);
}

static const struct schema_field mesh_fields[] = {
    F_STR(struct mesh_config, trust_domain, "trustDomain"),
    F_STRS(struct mesh_config, trust_domain_aliases, "trustDomainAliases",
           .check = check_trust_domain),
    F_STR(struct mesh_config, root_namespace, "rootNamespace", .check = schema_check_dns_label),
    F_FLAT("outboundTrafficPolicy", &outbound_msg),
    F_STR(struct mesh_config, access_log_file, "accessLogFile"),
    F_STR(struct mesh_config, access_log_format, "accessLogFormat"),
    F_ENUM(struct mesh_config, access_log_encoding, "accessLogEncoding", encodings),
    F_TRI(struct mesh_config, enable_auto_mtls, "enableAutoMtls"),
    F_PTR(struct mesh_config, locality_lb, "localityLbSetting", &mesh_locality_msg),
    F_MSG(struct mesh_config, defaults, "defaultConfig", &proxy_msg),
    F_DURATION(struct mesh_config, connect_timeout_ms, "connectTimeout"),
    F_FLAT("tcpKeepalive", &keepalive_msg, F_TAG(struct mesh_config, has_keepalive, 1)),
    F_ENUM(struct mesh_config, is_h2_upgraded, "h2UpgradePolicy", upgrade_policies),
    F_PTR(struct mesh_config, default_retry, "defaultHttpRetryPolicy", &kobj_retry_msg),
    F_STRS(struct mesh_config, default_service_export_to, "defaultServiceExportTo"),
};
const struct schema_msg mesh_config_msg = {
    SCHEMA_MSG(struct mesh_config, mesh_fields),
    .known = "proxyListenPort proxyInboundListenPort proxyHttpPort hboneIdleTimeout "
             "protocolDetectionTimeout ingressClass ingressService "
             "ingressControllerMode ingressSelector enableTracing enableEnvoyAccessLogService "
             "disableEnvoyListenerLog inboundTrafficPolicy configSources caCertificates "
             "defaultVirtualServiceExportTo defaultDestinationRuleExportTo zoneAwareLbSetting "
             "dnsRefreshRate inboundClusterStatName outboundClusterStatName "
             "certificates serviceSettings serviceScopeConfigs enablePrometheusMerge "
             "verifyCertificateAtClient ca extensionProviders defaultProviders "
             "discoverySelectors pathNormalization meshMTLS tlsDefaults "
             "defaultTrafficPolicy serviceEntryVisibility sdsUdsPath authPolicy "
             "mixerCheckServer mixerReportServer disablePolicyChecks policyCheckFailOpen "
             "sidecarToTelemetrySessionAffinity thriftConfig disableMixerHttpReports",
    .is_snake_ok = true,
    .check = check_mesh,
};

// The text is indented by two more than its key when it is a block; positions inside of it then
// are those of the file.
const struct cfg_node *mesh_config_parse(struct schema_ctx *ctx, const struct cfg_pair *pair,
                                         struct arena *arena) {
    const struct cfg_node *text = &pair->value;
    struct config_doc_reader reader;
    struct cfg_node *root = arena_zalloc(arena, sizeof(*root));

    if (root == NULL || text->type != CFG_STRING) {
        return NULL;
    }
    config_doc_reader_init(&reader, ctx->file, slice_make(text->text, text->n), CONFIG_YAML, NULL);
    reader.object = ctx->object;
    reader.line = text->is_block ? text->line : text->line - 1;
    reader.col_offset = text->is_block ? pair->key.col + 1 : text->col - 1;
    int r = config_doc_next(&reader, arena, ctx->errors, root);
    if (r < 0 || root->is_bad) {
        ctx->n_errors++;
        return NULL;
    }
    if (r == 0) { // all empty: the defaults
        *root = (struct cfg_node){.line = text->line, .col = text->col, .type = CFG_MAP};
    }
    return root;
}
