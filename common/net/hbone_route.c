// SPDX-License-Identifier: Apache-2.0
//
// What tells pools of tunnels apart, and their settings.
#include "common/net/hbone_client.h"

size_t hbone_route_key(const struct hbone_route *route, uint8_t ret_text[HBONE_KEY_MAX]) {
    uint64_t generation = tls_ctx_generation(route->tls);
    uint8_t *text = ret_text;
    memcpy(text, &route->pod_id, 8);
    memcpy(text + 8, &generation, 8);
    text[16] = route->source_ip.family;
    memcpy(text + 17, route->source_ip.bytes, 16);
    text[33] = route->destination.ip.family;
    memcpy(text + 34, route->destination.ip.bytes, 16);
    memcpy(text + 50, &route->destination.port, 2);
    size_t len = HBONE_KEY_FIXED;
    for (size_t i = 0; i < route->n_sans && i < HBONE_SANS_MAX; i++) {
        struct slice san = slice_head(route->sans[i], 599);
        memcpy(text + len, san.ptr, san.len);
        len += san.len;
        text[len++] = 0;
    }
    return len;
}

uint64_t hbone_route_hash(const struct hbone_route *route) {
    uint8_t text[HBONE_KEY_MAX];
    return hash_bytes(slice_make(text, hbone_route_key(route, text)));
}

void hbone_client_config_init(struct hbone_client_config *config) {
    *config = (struct hbone_client_config){.idle_ns = 300 * NS_PER_SEC,
                                           .dial_timeout_ns = 10 * NS_PER_SEC,
                                           .n_full_max = HBONE_TUNNELS_FULL_MAX};
    h2_config_init(&config->h2, false);
}
