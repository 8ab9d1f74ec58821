// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>

#include <xxhash.h>

#include "common/l7/l7_fields.h"
#include "common/l7/l7_lb.h"

enum { VALUE_MAX = 64 << 10 };

uint64_t l7_lb_hash_bytes(struct slice bytes) {
    return XXH64(bytes.ptr, bytes.len, 0);
}

static bool hash_header(const struct http_head *head, struct slice name, uint64_t *ret_hash) {
    struct buf scratch;
    struct slice value;
    buf_init(&scratch, VALUE_MAX);
    bool is_there = l7_fields_value(head, name, &scratch, &value);
    if (is_there) {
        *ret_hash = l7_lb_hash_bytes(value);
    }
    buf_fini(&scratch);
    return is_there;
}

// A value that is the same for all requests of a connection, and tells nobody who the peer is.
static bool make_cookie(const struct l7_lb_policy *policy, const struct addr *peer,
                        const struct addr *local, struct arena *arena, struct slice *ret_cookie,
                        uint64_t *ret_hash) {
    char from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX], both[2 * ADDR_TEXT_MAX], value[17];
    int len = snprintf(both, sizeof(both), "%s%s", addr_text(peer, from), addr_text(local, to));
    snprintf(value, sizeof(value), "%016llx",
             (unsigned long long)l7_lb_hash_bytes(slice_make(both, (size_t)len)));
    struct buf text;
    buf_init(&text, VALUE_MAX);
    buf_printf(&text, "%s=\"%s\"", policy->hash_name, value);
    if (policy->cookie_ttl_ms > 0) {
        buf_printf(&text, "; Max-Age=%lld", (long long)((policy->cookie_ttl_ms + 999) / 1000));
    }
    if (policy->cookie_path[0] != '\0') {
        buf_printf(&text, "; Path=%s", policy->cookie_path);
    }
    for (uint32_t i = 0; i < policy->n_cookie_attributes; i++) {
        const struct kobj_kv *attribute = &policy->cookie_attributes[i];
        buf_printf(&text, "; %s%s%s", attribute->key, attribute->value[0] != '\0' ? "=" : "",
                   attribute->value);
    }
    buf_append_str(&text, "; HttpOnly");
    bool is_ok = buf_ok(&text) && arena_copy(arena, buf_slice(&text), ret_cookie);
    buf_fini(&text);
    if (is_ok) {
        *ret_hash = l7_lb_hash_bytes(slice_str(value));
    }
    return is_ok;
}

bool l7_lb_hash(const struct l7_lb_policy *policy, const struct l7_request *request,
                const struct addr *peer, const struct addr *local, struct arena *arena,
                struct slice *ret_cookie, uint64_t *ret_hash) {
    struct slice name = slice_str(policy->hash_name), value;
    char text[IP_TEXT_MAX];
    *ret_cookie = slice_make(NULL, 0);
    switch ((enum l7_hash_key)policy->hash_key) {
    case L7_HASH_HEADER:
        return hash_header(request->head, name, ret_hash);
    case L7_HASH_COOKIE:
        if (l7_fields_cookie(request->head, name, &value) && value.len > 0) {
            *ret_hash = l7_lb_hash_bytes(value);
            return true;
        }
        return policy->cookie_ttl_ms >= 0 &&
               make_cookie(policy, peer, local, arena, ret_cookie, ret_hash);
    case L7_HASH_IP:
        *ret_hash = l7_lb_hash_bytes(slice_str(ip_text(&peer->ip, text)));
        return true;
    case L7_HASH_QUERY:
        if (l7_request_query(request, name, &value)) {
            *ret_hash = l7_lb_hash_bytes(value);
            return true;
        }
        return false;
    case L7_HASH_NONE:
        return false;
    }
    return false;
}
