// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_policy.h"

static bool is_same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool is_same_pool(const struct l7_pool_policy *a, const struct l7_pool_policy *b) {
    return a->max_requests_per_connection == b->max_requests_per_connection &&
           a->max_concurrent_streams == b->max_concurrent_streams &&
           a->idle_timeout_ms == b->idle_timeout_ms &&
           a->max_connection_duration_ms == b->max_connection_duration_ms &&
           a->ping_interval_ms == b->ping_interval_ms && a->ping_timeout_ms == b->ping_timeout_ms &&
           a->has_keepalive == b->has_keepalive && a->keepalive_probes == b->keepalive_probes &&
           a->keepalive_time_ms == b->keepalive_time_ms &&
           a->keepalive_interval_ms == b->keepalive_interval_ms &&
           a->is_h2_upgraded == b->is_h2_upgraded &&
           a->use_client_protocol == b->use_client_protocol;
}

static bool is_same_tls(const struct l7_tls_policy *a, const struct l7_tls_policy *b) {
    if (!l7_tls_is_on(a) && !l7_tls_is_on(b)) {
        return true;
    }
    if (a->is_set != b->is_set || a->mode != b->mode || a->credentials != b->credentials ||
        a->skips_verify != b->skips_verify || a->n_sans != b->n_sans) {
        return false;
    }
    for (uint32_t i = 0; i < a->n_sans; i++) {
        if (!is_same_text(a->sans[i], b->sans[i])) {
            return false;
        }
    }
    return is_same_text(a->client_certificate, b->client_certificate) &&
           is_same_text(a->private_key, b->private_key) &&
           is_same_text(a->ca_certificates, b->ca_certificates) &&
           is_same_text(a->ca_crl, b->ca_crl) &&
           is_same_text(a->credential_name, b->credential_name) && is_same_text(a->sni, b->sni);
}

bool l7_settings_same_connections(const struct l7_settings *a, const struct l7_settings *b) {
    return a == b ||
           (is_same_pool(&a->pool, &b->pool) && is_same_tls(&a->tls, &b->tls) &&
            a->proxy_protocol == b->proxy_protocol &&
            is_same_text(a->tunnel_protocol, b->tunnel_protocol) &&
            is_same_text(a->tunnel_host, b->tunnel_host) && a->tunnel_port == b->tunnel_port);
}
