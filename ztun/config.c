// SPDX-License-Identifier: Apache-2.0
#include "ztun/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "version.h"

enum option_type {
    OPT_TEXT,
    OPT_PATH,
    OPT_U32,
    OPT_BYTES,
    OPT_BOOL,
    OPT_TRISTATE, // true, false, or not set
    OPT_ADDR,
    OPT_SECONDS_U32, // "24h", "30s", "90"
    OPT_MS_U32,
    OPT_NS,
    OPT_COMPLIANCE,
    OPT_THREADS,
};

struct option {
    const char *flag, *env; // NULL = none
    enum option_type type;
    size_t offset;
    const char *arg, *help;
};

#define FIELD(name) offsetof(struct ztun_config, name)

static const struct option options[] = {
    {"config", NULL, OPT_PATH, FIELD(config_path), "DIR|FILE", "Kubernetes YAML or JSON to serve"},
    {"ca-dir", NULL, OPT_PATH, FIELD(ca_dir), "DIR",
     "built-in CA: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem; created when empty"},
    {"node", "NODE_NAME", OPT_TEXT, FIELD(node_name), "NAME", "serve the Pods of this node"},
    {"crl", "CRL_PATH", OPT_PATH, FIELD(crl_path), "FILE", "certificate revocation list"},
    {"log", "RUST_LOG", OPT_TEXT, FIELD(log_filter), "FILTER",
     "log filter, as \"info,access=debug\""},
    {"log-format", "LOG_FORMAT", OPT_TEXT, FIELD(log_format), "plain|json", "log format"},
    {"trust-domain", "TRUST_DOMAIN", OPT_TEXT, FIELD(trust_domain), "NAME", "SPIFFE trust domain"},
    {"cluster-domain", "CLUSTER_DOMAIN", OPT_TEXT, FIELD(cluster_domain), "NAME",
     "DNS domain of services"},
    {"cluster-id", "CLUSTER_ID", OPT_TEXT, FIELD(cluster_id), "NAME", "cluster name"},
    {NULL, "ISTIO_META_CLUSTER_ID", OPT_TEXT, FIELD(cluster_id), NULL, NULL},
    {"network", "NETWORK", OPT_TEXT, FIELD(network), "NAME", "network name"},
    {"root-namespace", NULL, OPT_TEXT, FIELD(root_namespace), "NS",
     "namespace of mesh-wide policies"},
    {"secret-ttl", "SECRET_TTL", OPT_SECONDS_U32, FIELD(secret_ttl_s), "TIME",
     "life of workload certificates"},
    {"compliance", "COMPLIANCE_POLICY", OPT_COMPLIANCE, FIELD(compliance), "fips-140-2|pqc",
     "restrict key exchange"},
    {"prefer-aes-256", NULL, OPT_BOOL, FIELD(prefer_aes_256), "BOOL",
     "AES-256-GCM first (measurements)"},
    {"workers", "ZTUNNEL_WORKER_THREADS", OPT_THREADS, FIELD(n_workers), "N|P%",
     "worker threads; 0 = all cores"},
    {"packet-mark", "PACKET_MARK", OPT_U32, FIELD(mark), "N", "SO_MARK of own sockets"},
    {"redirect", NULL, OPT_BOOL, FIELD(redirect), "BOOL", "install redirection rules in the pods"},
    {"dns-capture", "ISTIO_META_DNS_CAPTURE", OPT_BOOL, FIELD(dns_capture), "BOOL",
     "capture DNS of the pods"},
    {"ipv6", "IPV6_ENABLED", OPT_BOOL, FIELD(ipv6), "BOOL", "IPv6 sockets"},
    {"original-source", "ENABLE_ORIG_SRC", OPT_TRISTATE, FIELD(original_source), "BOOL",
     "keep the client's address on inbound connections; not set = if possible"},
    {"admin", NULL, OPT_ADDR, FIELD(admin), "IP:PORT", "admin address"},
    {"metrics", NULL, OPT_ADDR, FIELD(metrics), "IP:PORT", "metrics address"},
    {"readiness", NULL, OPT_ADDR, FIELD(readiness), "IP:PORT", "readiness address"},
    {"stream-window", NULL, OPT_BYTES, FIELD(stream_window), "BYTES", "first stream window"},
    {"stream-window-max", "HTTP2_STREAM_WINDOW_SIZE", OPT_BYTES, FIELD(stream_window_max), "BYTES",
     "stream window limit"},
    {"connection-window", "HTTP2_CONNECTION_WINDOW_SIZE", OPT_BYTES, FIELD(conn_window), "BYTES",
     "connection window"},
    {"frame-size", "HTTP2_FRAME_SIZE", OPT_BYTES, FIELD(frame_size), "BYTES",
     "largest HTTP/2 frame received"},
    {"pool-streams", "POOL_MAX_STREAMS_PER_CONNECTION", OPT_U32, FIELD(max_streams), "N",
     "streams of a tunnel"},
    {"pool-idle", "POOL_UNUSED_RELEASE_TIMEOUT", OPT_NS, FIELD(pool_idle_ns), "TIME",
     "close tunnels without streams after this"},
    {"keepalive", "KEEPALIVE_ENABLED", OPT_BOOL, FIELD(keepalive), "BOOL", "TCP keepalive"},
    {"keepalive-time", "KEEPALIVE_TIME", OPT_SECONDS_U32, FIELD(keepalive_s), "TIME", NULL},
    {"keepalive-interval", "KEEPALIVE_INTERVAL", OPT_SECONDS_U32, FIELD(keepalive_interval_s),
     "TIME", NULL},
    {"keepalive-retries", "KEEPALIVE_RETRIES", OPT_U32, FIELD(keepalive_probes), "N", NULL},
    {"user-timeout", "USER_TIMEOUT_ENABLED", OPT_BOOL, FIELD(user_timeout), "BOOL",
     "TCP_USER_TIMEOUT also on plain connections"},
    {"drain", "CONNECTION_TERMINATION_DEADLINE", OPT_MS_U32, FIELD(termination_ms), "TIME",
     "flows live this long after SIGTERM"},
    {"memory-limit", NULL, OPT_BYTES, FIELD(memory_limit), "BYTES",
     "resident memory at which new flows are refused; default 70 % of the cgroup's limit"},
    {"response-baggage", "ENABLE_RESPONSE_BAGGAGE", OPT_BOOL, FIELD(response_baggage), "BOOL",
     "describe the destination in answers to CONNECT"},
};

// ---- values ------------------------------------------------------------------------------------

static bool parse_bool(const char *text, bool *ret) {
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

// "90" (seconds), "1500ms", "30s", "5m", "24h", and sums as "1h30m".
static bool parse_duration_ms(const char *text, uint64_t *ret_ms) {
    uint64_t sum = 0;
    if (*text == 0) {
        return false;
    }
    while (*text != 0) {
        char *end = NULL;
        errno = 0;
        uint64_t n = strtoull(text, &end, 10);
        if (end == text || errno != 0 || n > UINT32_MAX || *text == '-') {
            return false;
        }
        uint64_t unit = 1000;
        if (strncmp(end, "ms", 2) == 0) {
            unit = 1;
            end += 2;
        } else if (*end == 's' || *end == 'm' || *end == 'h') {
            unit = *end == 's' ? 1000 : *end == 'm' ? 60 * 1000 : 3600 * 1000;
            end++;
        } else if (*end != 0) {
            return false;
        }
        sum += n * unit;
        text = end;
    }
    *ret_ms = sum;
    return true;
}

static bool parse_bytes(const char *text, uint64_t *ret) {
    char *end = NULL;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (end == text || errno != 0 || *text == '-') {
        return false;
    }
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {{"", 1},     {"Ki", 1 << 10}, {"Mi", 1 << 20},  {"Gi", 1 << 30},
                 {"k", 1000}, {"M", 1000000},  {"G", 1000000000}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].suffix) == 0 && n <= UINT64_MAX / units[i].factor) {
            *ret = n * units[i].factor;
            return true;
        }
    }
    return false;
}

static bool parse_threads(const char *text, uint32_t *ret) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || n > 1024 || *text == '-') {
        return false;
    }
    if (strcmp(end, "%") == 0) {
        n = (unsigned long)cores * n / 100;
        n = n == 0 ? 1 : n;
    } else if (*end != 0) {
        return false;
    }
    *ret = n == 0 ? (uint32_t)cores : (uint32_t)n;
    return true;
}

static bool parse_compliance(const char *text, enum tls_compliance *ret) {
    if (*text == 0) {
        *ret = TLS_COMPLIANCE_DEFAULT;
    } else if (strcmp(text, "fips-140-2") == 0) {
        *ret = TLS_COMPLIANCE_FIPS;
    } else if (strcmp(text, "pqc") == 0) {
        *ret = TLS_COMPLIANCE_PQC;
    } else {
        return false;
    }
    return true;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *ret) {
    return slice_to_u64(slice_str(text), max, ret);
}

static bool set_number(enum option_type type, void *field, const char *text) {
    uint64_t n = 0;
    bool ok = false;
    switch (type) {
    case OPT_U32:
        ok = parse_number(text, UINT32_MAX, &n);
        break;
    case OPT_BYTES:
        ok = parse_bytes(text, &n);
        break;
    default:
        ok = parse_duration_ms(text, &n);
        break;
    }
    if (!ok) {
        return false;
    }
    if (type == OPT_NS) {
        *(uint64_t *)field = n * NS_PER_MS;
    } else if (type == OPT_SECONDS_U32) {
        *(uint32_t *)field = (uint32_t)(n / 1000);
    } else {
        *(uint32_t *)field = (uint32_t)MIN(n, UINT32_MAX);
    }
    return true;
}

static bool set_value(struct ztun_config *config, const struct option *option, const char *text) {
    void *field = (char *)config + option->offset;
    switch (option->type) {
    case OPT_TEXT:
    case OPT_PATH:
        *(const char **)field = text;
        return true;
    case OPT_BOOL:
        return parse_bool(text, field);
    case OPT_TRISTATE: {
        bool flag = false;
        bool ok = parse_bool(text, &flag);
        *(int *)field = flag;
        return ok;
    }
    case OPT_ADDR:
        return addr_parse(slice_str(text), field);
    case OPT_COMPLIANCE:
        return parse_compliance(text, field);
    case OPT_THREADS:
        return parse_threads(text, field);
    case OPT_BYTES:
        if (option->offset == FIELD(memory_limit)) {
            return parse_bytes(text, field);
        }
        return set_number(option->type, field, text);
    default:
        return set_number(option->type, field, text);
    }
}

// ---- sources of values -------------------------------------------------------------------------

static void set_defaults(struct ztun_config *config) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *config = (struct ztun_config){
        .log_filter = "info",
        .log_format = "plain",
        .trust_domain = "cluster.local",
        .cluster_domain = "cluster.local",
        .cluster_id = "Kubernetes",
        .network = "",
        .root_namespace = "istio-system",
        .secret_ttl_s = 24 * 3600,
        .n_workers = (uint32_t)MAX(2, cores / 4), // as ztunnel: a quarter, at least two
        .outbound_port = 15001,
        .inbound_port = 15006,
        .hbone_port = 15008,
        .dns_port = 15053,
        .mark = 1337,
        .redirect = true,
        .dns_capture = true,
        .ipv6 = true,
        .original_source = -1,
        .stream_window = 256 * 1024,
        .stream_window_max = 4 * 1024 * 1024,
        .conn_window = 16 * 1024 * 1024,
        .frame_size = 1024 * 1024,
        .max_streams = 100,
        .pool_idle_ns = 300 * NS_PER_SEC,
        .keepalive = true,
        .keepalive_s = 180,
        .keepalive_interval_s = 180,
        .keepalive_probes = 9,
        .termination_ms = 5000,
        .response_baggage = true,
    };
    addr_parse(slice_str("127.0.0.1:15000"), &config->admin);
    addr_parse(slice_str("0.0.0.0:15020"), &config->metrics);
    addr_parse(slice_str("0.0.0.0:15021"), &config->readiness);
}

static bool from_environment(struct ztun_config *config) {
    const char *grace = getenv("TERMINATION_GRACE_PERIOD_SECONDS");
    uint64_t seconds = 0;
    if (grace != NULL && parse_number(grace, 86400, &seconds)) {
        seconds = seconds > 10 ? seconds - 5 : seconds > 0 ? seconds - 1 : 0;
        config->termination_ms = (uint32_t)seconds * 1000;
    }
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const char *text = options[i].env != NULL ? getenv(options[i].env) : NULL;
        if (text == NULL || *text == 0) {
            continue;
        }
        if (!set_value(config, &options[i], text)) {
            fprintf(stderr, "ztun: environment %s: \"%s\" is not a valid value\n", options[i].env,
                    text);
            return false;
        }
    }
    return true;
}

static void print_help(void) {
    printf("ztun %s: node proxy of a sidecarless mesh\n\n"
           "usage: ztun --config DIR --ca-dir DIR --node NAME [OPTION]...\n\n"
           "Options (environment names in brackets are ztunnel's):\n",
           ZTUN_VERSION_FULL);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const struct option *option = &options[i];
        if (option->flag == NULL) {
            continue;
        }
        char left[64];
        snprintf(left, sizeof(left), "--%s=%s", option->flag, option->arg);
        printf("  %-34s %s%s%s%s\n", left, option->help != NULL ? option->help : "",
               option->env != NULL ? " [" : "", option->env != NULL ? option->env : "",
               option->env != NULL ? "]" : "");
    }
    printf("  %-34s %s\n  %-34s %s\n", "--help", "this text", "--version", "the version");
}

static const struct option *find_flag(const char *name, size_t len) {
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (options[i].flag != NULL && strlen(options[i].flag) == len &&
            memcmp(options[i].flag, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static int from_flags(struct ztun_config *config, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help();
            return 1;
        }
        if (strcmp(arg, "--version") == 0) {
            printf("ztun %s\n", ZTUN_VERSION_FULL);
            return 1;
        }
        const char *eq = strchr(arg, '=');
        size_t len = eq != NULL ? (size_t)(eq - arg) : strlen(arg);
        const struct option *option =
            strncmp(arg, "--", 2) == 0 ? find_flag(arg + 2, len - 2) : NULL;
        if (option == NULL) {
            fprintf(stderr, "ztun: unknown argument \"%s\" (see ztun --help)\n", arg);
            return 2;
        }
        const char *value = eq != NULL ? eq + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL || !set_value(config, option, value)) {
            fprintf(stderr, "ztun: --%s: %s%s%s, expected %s\n", option->flag,
                    value != NULL ? "\"" : "", value != NULL ? value : "no value",
                    value != NULL ? "\" is not valid" : "", option->arg);
            return 2;
        }
    }
    return 0;
}

static int check(const struct ztun_config *config) {
    static const char missing[] = "ztun: --%s is required (see ztun --help)\n";
    if (config->config_path == NULL || config->ca_dir == NULL || config->node_name == NULL) {
        fprintf(stderr, missing,
                config->config_path == NULL ? "config"
                : config->ca_dir == NULL    ? "ca-dir"
                                            : "node");
        return 2;
    }
    if (strcmp(config->log_format, "plain") != 0 && strcmp(config->log_format, "json") != 0) {
        fprintf(stderr, "ztun: --log-format: \"%s\", expected plain or json\n", config->log_format);
        return 2;
    }
    if (config->n_workers == 0 || config->n_workers > 64) {
        fprintf(stderr, "ztun: --workers: %u, expected 1 to 64\n", config->n_workers);
        return 2;
    }
    if (config->mark == 0 || config->mark > 0xfff) {
        fprintf(stderr, "ztun: --packet-mark: %u, expected 1 to 4095 (the rules compare 12 bits)\n",
                config->mark);
        return 2;
    }
    if (config->stream_window < 65535 || config->stream_window_max < config->stream_window ||
        config->stream_window_max > INT32_MAX || config->conn_window > INT32_MAX) {
        fprintf(stderr, "ztun: windows: 65535 <= --stream-window <= --stream-window-max < 2 GiB\n");
        return 2;
    }
    if (config->frame_size < 16384 || config->frame_size > 16777215) {
        fprintf(stderr, "ztun: --frame-size: %u, expected 16384 to 16777215\n", config->frame_size);
        return 2;
    }
    return 0;
}

int ztun_config_parse(struct ztun_config *config, int argc, char **argv) {
    set_defaults(config);
    if (!from_environment(config)) {
        return 2;
    }
    int rc = from_flags(config, argc, argv);
    return rc != 0 ? rc : check(config);
}
