// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_policy.h"

#include <stdlib.h>

#include "common/base/arena.h"

enum {
    CONNECT_TIMEOUT_MS = 10 * 1000,
    IDLE_TIMEOUT_MS = 3600 * 1000,
    RING_SIZE = 1024,
    RING_SIZE_MAX = 8 << 20,
    MAGLEV_SIZE = 65537,
    MAGLEV_SIZE_MAX = 5000011,
    OUTLIER_5XX = 5,
    OUTLIER_INTERVAL_MS = 10 * 1000,
    OUTLIER_BASE_MS = 30 * 1000,
    OUTLIER_MAX_MS = 300 * 1000,
    OUTLIER_PERCENT = 10,
    PANIC_PERCENT = 50,
    BUDGET_PPM = 200000,
    BUDGET_MIN = 3,
};

struct port_settings {
    uint16_t port; // 0: all that have none of their own
    struct l7_settings settings;
};
struct target { // the service, or a subset of it
    struct l7_subset subset; // name "" = the service
    const struct port_settings *ports; // the one for all of the rest is first
    uint32_t n_ports;
};

struct l7_policy {
    struct leaf_ext ext;
    struct arena arena;
    const struct target *targets; // the service first
    const struct l7_subset *subsets;
    const struct l7_source *sources;
    uint32_t n_targets, n_subsets, n_sources;
    bool has_authz;
    const struct l7_tls_ops *tls_ops; // NULL: none
};

struct build {
    struct l7_policy *policy;
    struct l7_settings base; // the defaults, with those of the mesh
    const struct builder_l7_input *in;
    const struct kobj *obj;
};

// A trafficPolicy, and whose it is.
struct written {
    const struct kobj_traffic_policy *policy; // NULL: none
    const struct l7_source *source;
};

static const struct l7_settings defaults = {
    .lb = {.hash_name = "", .cookie_path = "", .cookie_ttl_ms = -1},
    .pool = {.max_connections = L7_NO_LIMIT,
             .max_pending = L7_NO_LIMIT,
             .max_requests = L7_NO_LIMIT,
             .max_retries = L7_NO_LIMIT,
             .connect_timeout_ms = CONNECT_TIMEOUT_MS,
             .idle_timeout_ms = IDLE_TIMEOUT_MS,
             .tcp_idle_timeout_ms = IDLE_TIMEOUT_MS},
    .tls = {.client_certificate = "",
            .private_key = "",
            .ca_certificates = "",
            .ca_crl = "",
            .credential_name = "",
            .sni = ""},
    .panic_percent = PANIC_PERCENT,
    .tunnel_protocol = "",
    .tunnel_host = "",
};

static void *alloc(struct build *build, size_t n, size_t size) {
    void *memory = arena_array(&build->policy->arena, n, size);
    CHECK(memory != NULL); // the arena has no limit
    return memory;
}

static const char *text(struct build *build, const char *from) {
    if (from == NULL || from[0] == '\0') {
        return "";
    }
    char *copy = arena_strdup(&build->policy->arena, slice_str(from));
    CHECK(copy != NULL);
    return copy;
}

static const char *const *texts(struct build *build, const char *const *from, uint32_t n) {
    const char **copy = alloc(build, n, sizeof(*copy));
    for (uint32_t i = 0; i < n; i++) {
        copy[i] = text(build, from[i]);
    }
    return copy;
}

// Load balancing

static struct l7_locality_policy locality(struct build *build,
                                          const struct mesh_locality_lb *from) {
    struct l7_distribute *distribute = alloc(build, from->n_distribute, sizeof(*distribute));
    for (uint32_t i = 0; i < from->n_distribute; i++) {
        const struct locality_distribute *d = &from->distribute[i];
        struct l7_locality_weight *to = alloc(build, d->n_to, sizeof(*to));
        for (uint32_t k = 0; k < d->n_to; k++) {
            to[k] = (struct l7_locality_weight){text(build, d->to[k].key), d->to[k].weight};
        }
        distribute[i] = (struct l7_distribute){text(build, d->from), to, d->n_to};
    }
    struct l7_failover *failover = alloc(build, from->n_failover, sizeof(*failover));
    for (uint32_t i = 0; i < from->n_failover; i++) {
        failover[i] = (struct l7_failover){text(build, from->failover[i].from),
                                           text(build, from->failover[i].to)};
    }
    return (struct l7_locality_policy){
        .is_disabled = from->enabled == TRI_FALSE,
        .distribute = distribute,
        .n_distribute = from->n_distribute,
        .failover = failover,
        .n_failover = from->n_failover,
        .failover_priority = texts(build, from->failover_priority, from->n_failover_priority),
        .n_failover_priority = from->n_failover_priority};
}

static bool is_prime(uint64_t n) {
    bool is_divisible = n < 2 || (n > 2 && n % 2 == 0);
    for (uint64_t i = 3; i * i <= n && !is_divisible; i += 2) {
        is_divisible = n % i == 0;
    }
    return !is_divisible;
}

static uint32_t table_size(struct build *build, const struct kobj_consistent_hash *hash) {
    if (hash->algorithm == HASH_RING) {
        uint64_t size = hash->min_ring_size != 0 ? hash->min_ring_size : RING_SIZE;
        return (uint32_t)MIN(size, (uint64_t)RING_SIZE_MAX);
    }
    if (hash->table_size != 0 &&
        (hash->table_size > MAGLEV_SIZE_MAX || !is_prime(hash->table_size))) {
        build->in->problem(build->in, build->obj,
                           "maglev.tableSize: not a prime of at most %d; %d is taken",
                           (int)MAGLEV_SIZE_MAX, (int)MAGLEV_SIZE);
        return MAGLEV_SIZE;
    }
    return hash->table_size != 0 ? (uint32_t)hash->table_size : MAGLEV_SIZE;
}

static void set_hash(struct build *build, const struct kobj_consistent_hash *hash,
                     struct l7_lb_policy *lb) {
    static const uint8_t keys[] = {[HASH_KEY_NONE] = L7_HASH_NONE,
                                   [HASH_KEY_HEADER] = L7_HASH_HEADER,
                                   [HASH_KEY_COOKIE] = L7_HASH_COOKIE,
                                   [HASH_KEY_IP] = L7_HASH_IP,
                                   [HASH_KEY_QUERY] = L7_HASH_QUERY};
    lb->kind = hash->algorithm == HASH_MAGLEV ? L7_LB_MAGLEV : L7_LB_RING;
    lb->hash_key = keys[hash->key];
    lb->table_size = table_size(build, hash);
    lb->cookie_path = text(build, hash->cookie_path);
    lb->cookie_ttl_ms = hash->cookie_ttl_ms;
    char *name = xstrdup(hash->name != NULL ? hash->name : "");
    for (char *c = name; hash->key == HASH_KEY_HEADER && *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    }
    lb->hash_name = text(build, name);
    free(name);
    struct kobj_kv *attributes = alloc(build, hash->n_cookie_attributes, sizeof(*attributes));
    for (uint32_t i = 0; i < hash->n_cookie_attributes; i++) {
        attributes[i] = (struct kobj_kv){text(build, hash->cookie_attributes[i].key),
                                         text(build, hash->cookie_attributes[i].value)};
    }
    lb->cookie_attributes = attributes;
    lb->n_cookie_attributes = hash->n_cookie_attributes;
}

static void set_lb(struct build *build, const struct kobj_load_balancer *from,
                   struct l7_lb_policy *ret) {
    static const uint8_t kinds[] = {[KOBJ_LB_UNSET] = L7_LB_LEAST_REQUEST,
                                    [KOBJ_LB_LEAST_REQUEST] = L7_LB_LEAST_REQUEST,
                                    [KOBJ_LB_RANDOM] = L7_LB_RANDOM,
                                    [KOBJ_LB_PASSTHROUGH] = L7_LB_PASSTHROUGH,
                                    [KOBJ_LB_ROUND_ROBIN] = L7_LB_ROUND_ROBIN};
    *ret = build->base.lb;
    if (from == NULL) {
        return;
    }
    ret->kind = kinds[from->simple];
    if (from->hash != NULL) {
        set_hash(build, from->hash, ret);
    }
    bool is_warmed = ret->kind == L7_LB_LEAST_REQUEST || ret->kind == L7_LB_ROUND_ROBIN;
    if (from->warmup_ms > 0 && is_warmed) {
        ret->warmup_ms = (uint64_t)from->warmup_ms;
        ret->warmup_min = (double)from->warmup_min_ppm / KOBJ_PPM;
        ret->warmup_aggression = from->warmup_aggression >= 1 ? from->warmup_aggression : 1;
    }
    if (from->locality != NULL) {
        ret->locality = locality(build, from->locality);
        ret->locality.is_set = true;
    }
}

// The other blocks

static uint64_t ms_or(int64_t ms, uint64_t absent) {
    return ms >= 0 ? (uint64_t)ms : absent;
}

static uint32_t limit(uint32_t count) {
    return count != 0 ? count : (uint32_t)L7_NO_LIMIT;
}

static void set_pool(struct build *build, const struct kobj_connection_pool *from,
                     struct l7_pool_policy *ret) {
    *ret = build->base.pool;
    if (from == NULL) {
        return;
    }
    ret->max_connections = limit(from->max_connections);
    ret->max_pending = limit(from->max_pending_requests);
    ret->max_requests = limit(from->max_requests);
    ret->max_retries = limit(from->max_retries);
    ret->max_requests_per_connection = from->max_requests_per_connection;
    ret->max_concurrent_streams = from->max_concurrent_streams;
    if (from->connect_timeout_ms > 0) {
        ret->connect_timeout_ms = (uint64_t)from->connect_timeout_ms;
    }
    ret->tcp_idle_timeout_ms = ms_or(from->tcp_idle_timeout_ms, IDLE_TIMEOUT_MS);
    ret->idle_timeout_ms = ms_or(from->http_idle_timeout_ms, ret->tcp_idle_timeout_ms);
    ret->max_connection_duration_ms = ms_or(from->max_connection_duration_ms, 0);
    ret->ping_interval_ms = ms_or(from->ping_interval_ms, 0);
    ret->ping_timeout_ms = ms_or(from->ping_timeout_ms, 0);
    if (from->has_keepalive) {
        ret->has_keepalive = true;
        ret->keepalive_probes = from->keepalive_probes;
        ret->keepalive_time_ms = ms_or(from->keepalive_time_ms, 0);
        ret->keepalive_interval_ms = ms_or(from->keepalive_interval_ms, 0);
    }
    if (from->h2_upgrade != H2_UPGRADE_UNSET || from->use_client_protocol) {
        ret->is_h2_upgraded = from->h2_upgrade == H2_UPGRADE_YES;
    }
    ret->use_client_protocol = from->use_client_protocol;
}

static uint32_t count_or(int64_t count, uint32_t absent) {
    return count >= 0 ? (uint32_t)MIN(count, (int64_t)UINT32_MAX) : absent;
}

static void set_outlier(struct build *build, const struct kobj_outlier *from,
                        struct l7_settings *ret) {
    ret->outlier = (struct l7_outlier_policy){0};
    ret->panic_percent = PANIC_PERCENT;
    if (from == NULL) {
        return;
    }
    struct l7_outlier_policy *outlier = &ret->outlier;
    *outlier = (struct l7_outlier_policy){
        .is_on = true,
        .consecutive_5xx = count_or(from->consecutive_5xx, OUTLIER_5XX),
        .consecutive_gateway = count_or(from->consecutive_gateway, 0),
        .splits_local_origin = from->splits_local_origin,
        .interval_ms = ms_or(from->interval_ms, OUTLIER_INTERVAL_MS),
        .base_ejection_ms = ms_or(from->base_ejection_ms, OUTLIER_BASE_MS),
        .max_ejection_percent = count_or(from->max_ejection_percent, OUTLIER_PERCENT)};
    outlier->max_ejection_ms = MAX(outlier->base_ejection_ms, (uint64_t)OUTLIER_MAX_MS);
    if (from->splits_local_origin) {
        outlier->consecutive_local_origin = count_or(from->consecutive_local_origin, OUTLIER_5XX);
    }
    ret->panic_percent = (uint8_t)MIN(count_or(from->min_health_percent, 0), 100U);
    uint16_t *codes = alloc(build, from->n_http_codes, sizeof(*codes));
    for (uint32_t i = 0; i < from->n_http_codes; i++) {
        codes[i] = (uint16_t)from->http_codes[i];
    }
    outlier->codes = codes;
    outlier->n_codes = from->n_http_codes;
}

static void set_tls(struct build *build, const struct kobj_client_tls *from,
                    struct l7_tls_policy *ret) {
    *ret = defaults.tls;
    if (from == NULL) {
        return;
    }
    *ret = (struct l7_tls_policy){.is_set = true,
                                  .mode = from->mode,
                                  .client_certificate = text(build, from->client_certificate),
                                  .private_key = text(build, from->private_key),
                                  .ca_certificates = text(build, from->ca_certificates),
                                  .ca_crl = text(build, from->ca_crl),
                                  .credential_name = text(build, from->credential_name),
                                  .sni = text(build, from->sni),
                                  .sans = texts(build, from->sans, from->n_sans),
                                  .n_sans = from->n_sans,
                                  .skips_verify = from->insecure_skip_verify == TRI_TRUE};
}

bool l7_tls_is_on(const struct l7_tls_policy *tls) {
    return tls->is_set && (tls->mode == TLS_MODE_SIMPLE || tls->mode == TLS_MODE_MUTUAL);
}

static void take_credentials(struct build *build, struct l7_tls_policy *tls) {
    const struct l7_tls_ops *ops = build->policy->tls_ops;
    if (ops != NULL && l7_tls_is_on(tls)) {
        tls->credentials = ops->take(tls);
    }
}

static void set_rest(struct build *build, const struct kobj_traffic_policy *from,
                     struct l7_settings *ret) {
    if (from->tunnel != NULL) {
        const char *protocol = from->tunnel->protocol;
        ret->tunnel_protocol =
            text(build, protocol != NULL && protocol[0] != '\0' ? protocol : "CONNECT");
        ret->tunnel_host = text(build, from->tunnel->target_host);
        ret->tunnel_port = from->tunnel->target_port;
    }
    if (from->proxy_protocol != PROXY_PROTOCOL_NONE) {
        ret->proxy_protocol = from->proxy_protocol;
    }
    if (from->retry_budget != NULL) {
        ret->budget =
            (struct l7_retry_budget){.is_on = true,
                                     .ppm = from->retry_budget->ppm,
                                     .min_concurrency = from->retry_budget->min_concurrency,
                                     .interval_ms = ms_or(from->retry_budget->interval_ms, 0)};
    }
}

// Merging

// The blocks that `from` has take the place of those in `ret`; with `all`, absent ones too.
static void apply(struct build *build, const struct written *written, bool all,
                  struct l7_settings *ret) {
    const struct kobj_traffic_policy *from = written->policy;
    const struct l7_origin origin = {.source = written->source, .pos = from->pos};
    if (from->load_balancer != NULL || all) {
        set_lb(build, from->load_balancer, &ret->lb);
        ret->lb_origin = origin;
    }
    if (from->connection_pool != NULL || all) {
        set_pool(build, from->connection_pool, &ret->pool);
        ret->pool_origin = origin;
    }
    if (from->outlier != NULL || all) {
        set_outlier(build, from->outlier, ret);
        ret->outlier_origin = origin;
    }
    if (from->tls != NULL || all) {
        set_tls(build, from->tls, &ret->tls);
        ret->tls_origin = origin;
    }
    set_rest(build, from, ret);
}

static void apply_for_port(struct build *build, const struct written *written, uint16_t port,
                           struct l7_settings *ret) {
    const struct kobj_traffic_policy *from = written->policy;
    if (from == NULL) {
        return;
    }
    apply(build, written, false, ret);
    for (uint32_t i = 0; i < from->n_ports; i++) {
        if (port != 0 && from->ports[i].port == port) {
            const struct written of_port = {&from->ports[i].policy, written->source};
            apply(build, &of_port, true, ret);
            return;
        }
    }
}

static void add_port(struct port_settings *ports, uint32_t *n, uint16_t port) {
    for (uint32_t i = 0; i < *n; i++) {
        if (ports[i].port == port) {
            return;
        }
    }
    ports[(*n)++].port = port;
}

static void set_target(struct build *build, const struct written *whole,
                       const struct written *subset, struct target *target) {
    const struct kobj_traffic_policy *policies[] = {whole->policy, subset->policy};
    size_t max = 1;
    for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
        max += policies[p] != NULL ? policies[p]->n_ports : 0;
    }
    struct port_settings *ports = alloc(build, max, sizeof(*ports));
    add_port(ports, &target->n_ports, 0);
    for (size_t p = 0; p < ARRAY_LEN(policies); p++) {
        for (uint32_t i = 0; policies[p] != NULL && i < policies[p]->n_ports; i++) {
            add_port(ports, &target->n_ports, policies[p]->ports[i].port);
        }
    }
    for (uint32_t i = 0; i < target->n_ports; i++) {
        ports[i].settings = build->base;
        apply_for_port(build, whole, ports[i].port, &ports[i].settings);
        apply_for_port(build, subset, ports[i].port, &ports[i].settings);
        take_credentials(build, &ports[i].settings.tls);
    }
    target->ports = ports;
}

static void set_subset(struct build *build, const struct kobj_subset *from,
                       const struct l7_source *source, struct l7_subset *subset) {
    struct label *labels = alloc(build, from->labels.n, sizeof(*labels));
    for (uint32_t i = 0; i < from->labels.n; i++) {
        labels[i] = (struct label){text(build, from->labels.items[i].key),
                                   text(build, from->labels.items[i].value)};
    }
    *subset = (struct l7_subset){.name = text(build, from->name),
                                 .origin = {.source = source, .pos = from->pos},
                                 .labels = labels,
                                 .n_labels = from->labels.n};
}

static const struct l7_source *list_sources(struct build *build) {
    const struct builder_l7_input *in = build->in;
    struct l7_source *sources = alloc(build, in->n_destination_rules, sizeof(*sources));
    for (uint32_t i = 0; i < in->n_destination_rules; i++) {
        const struct kobj *obj = in->destination_rules[i];
        sources[i] = (struct l7_source){.kind = text(build, obj->kind_name),
                                        .ns = text(build, obj->meta.ns),
                                        .name = text(build, obj->meta.name),
                                        .file = text(build, obj->file)};
    }
    return sources;
}

static void policy_free(struct leaf_ext *ext) {
    struct l7_policy *policy = CONTAINER_OF(ext, struct l7_policy, ext);
    for (uint32_t i = 0; i < policy->n_targets; i++) {
        for (uint32_t k = 0; k < policy->targets[i].n_ports; k++) {
            void *credentials = policy->targets[i].ports[k].settings.tls.credentials;
            if (credentials != NULL) {
                policy->tls_ops->give(credentials);
            }
        }
    }
    arena_fini(&policy->arena);
    free(policy);
}

static bool is_known(const struct target *targets, uint32_t n, const char *name) {
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(targets[i].subset.name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void merge_rules(struct build *build) {
    const struct builder_l7_input *in = build->in;
    const struct l7_source *sources = list_sources(build);
    struct written whole = {0}, none = {0};
    size_t max = 1;
    for (uint32_t i = 0; i < in->n_destination_rules; i++) {
        const struct kobj_destination_rule *rule = in->destination_rules[i]->destination_rule;
        whole = whole.policy != NULL ? whole : (struct written){rule->policy, &sources[i]};
        max += rule->n_subsets;
    }
    struct target *targets = alloc(build, max, sizeof(*targets));
    struct l7_subset *subsets = alloc(build, max, sizeof(*subsets));
    uint32_t n = 1;
    build->obj = in->n_destination_rules > 0 ? in->destination_rules[0] : NULL;
    targets[0].subset.name = "";
    set_target(build, &whole, &none, &targets[0]);
    for (uint32_t i = 0; i < in->n_destination_rules; i++) {
        const struct kobj_destination_rule *rule = in->destination_rules[i]->destination_rule;
        build->obj = in->destination_rules[i];
        for (uint32_t s = 0; s < rule->n_subsets; s++) {
            if (is_known(targets, n, rule->subsets[s].name)) {
                in->problem(in, build->obj, "subset \"%s\" is there already; the first one counts",
                            rule->subsets[s].name);
                continue;
            }
            const struct written subset = {rule->subsets[s].policy, &sources[i]};
            set_subset(build, &rule->subsets[s], &sources[i], &targets[n].subset);
            set_target(build, &whole, &subset, &targets[n]);
            subsets[n - 1] = targets[n].subset;
            n++;
        }
    }
    build->policy->targets = targets;
    build->policy->n_targets = n;
    build->policy->subsets = subsets;
    build->policy->n_subsets = n - 1;
    build->policy->sources = sources;
    build->policy->n_sources = in->n_destination_rules;
}

static bool has_defaults(const struct mesh_config *config) {
    return config != NULL && (config->locality_lb != NULL || config->has_keepalive ||
                              config->connect_timeout_ms > 0 || config->is_h2_upgraded);
}

// MeshConfig's, where a DestinationRule says nothing else.
static void set_base(struct build *build, const struct mesh_config *config) {
    build->base = defaults;
    if (config == NULL) {
        return;
    }
    struct l7_pool_policy *pool = &build->base.pool;
    if (config->connect_timeout_ms > 0) {
        pool->connect_timeout_ms = (uint64_t)config->connect_timeout_ms;
    }
    if (config->has_keepalive) {
        pool->has_keepalive = true;
        pool->keepalive_probes = config->keepalive_probes;
        pool->keepalive_time_ms = ms_or(config->keepalive_time_ms, 0);
        pool->keepalive_interval_ms = ms_or(config->keepalive_interval_ms, 0);
    }
    pool->is_h2_upgraded = config->is_h2_upgraded;
    if (config->locality_lb != NULL) {
        build->base.lb.locality = locality(build, config->locality_lb);
    }
}

struct leaf *l7_policy_compile(void *arg, const struct builder_l7_input *in) {
    if (in->n_destination_rules == 0 && in->n_authz == 0 && !has_defaults(in->config)) {
        return NULL;
    }
    struct l7_policy *policy = xcalloc(1, sizeof(*policy));
    arena_init(&policy->arena, SIZE_MAX);
    policy->has_authz = in->n_authz > 0;
    policy->tls_ops = arg;
    struct slice key;
    CHECK(arena_copy(&policy->arena, in->service->leaf.key, &key));
    leaf_ext_init(&policy->ext, key, policy_free);
    struct build build = {.policy = policy, .in = in};
    set_base(&build, in->config);
    merge_rules(&build);
    return &policy->ext.leaf;
}

// Look-ups

const char *l7_lb_kind_text(enum l7_lb_kind kind) {
    static const char *const texts[] = {[L7_LB_LEAST_REQUEST] = "LEAST_REQUEST",
                                        [L7_LB_ROUND_ROBIN] = "ROUND_ROBIN",
                                        [L7_LB_RANDOM] = "RANDOM",
                                        [L7_LB_RING] = "RING_HASH",
                                        [L7_LB_MAGLEV] = "MAGLEV",
                                        [L7_LB_PASSTHROUGH] = "PASSTHROUGH"};
    return (size_t)kind < ARRAY_LEN(texts) ? texts[kind] : "?";
}

bool l7_subset_selects(const struct l7_subset *subset, const struct workload *workload) {
    for (uint32_t i = 0; i < subset->n_labels; i++) {
        bool has_label = false;
        for (uint32_t k = 0; k < workload->common->n_labels && !has_label; k++) {
            has_label = strcmp(workload->common->labels[k].key, subset->labels[i].key) == 0 &&
                        strcmp(workload->common->labels[k].value, subset->labels[i].value) == 0;
        }
        if (!has_label) {
            return false;
        }
    }
    return true;
}

const struct l7_settings *l7_policy_find(const struct l7_policy *policy, const char *subset,
                                         uint16_t port, const struct l7_subset **ret_subset) {
    const struct target *target = NULL;
    for (uint32_t i = 0; policy != NULL && i < policy->n_targets && target == NULL; i++) {
        if (strcmp(policy->targets[i].subset.name, subset) == 0) {
            target = &policy->targets[i];
        }
    }
    if (target == NULL) {
        if (subset[0] != '\0') {
            return NULL;
        }
        *ret_subset = NULL;
        return &defaults;
    }
    *ret_subset = subset[0] != '\0' ? &target->subset : NULL;
    for (uint32_t i = 1; i < target->n_ports; i++) {
        if (target->ports[i].port == port) {
            return &target->ports[i].settings;
        }
    }
    return &target->ports[0].settings;
}

size_t l7_policy_subsets(const struct l7_policy *policy, const struct l7_subset **ret_subsets) {
    *ret_subsets = policy != NULL ? policy->subsets : NULL;
    return policy != NULL ? policy->n_subsets : 0;
}

size_t l7_policy_sources(const struct l7_policy *policy, const struct l7_source **ret_sources) {
    *ret_sources = policy != NULL ? policy->sources : NULL;
    return policy != NULL ? policy->n_sources : 0;
}

bool l7_policy_has_authz(const struct l7_policy *policy) {
    return policy != NULL && policy->has_authz;
}
