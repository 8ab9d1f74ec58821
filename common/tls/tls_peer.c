// SPDX-License-Identifier: Apache-2.0
//
// Verified peers of live tunnels: copies, re-checks, hand-over.
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/tls/tls_spiffe.h"
#include "common/tls/tls_verify_priv.h"

enum { PEER_EXPORT_VERSION = 2, PEER_DER_MAX = 1 << 17 };

struct tls_peer *tls_peer_dup(const struct tls_peer *peer) {
    struct tls_peer *copy = xmalloc(sizeof(*copy));
    *copy = *peer;
    tls_chain_ref(copy->chain);
    return copy;
}

void tls_peer_free(struct tls_peer *peer) {
    if (peer != NULL) {
        tls_chain_unref(peer->chain);
        free(peer);
    }
}

// Takes the presented certificates out of the opaque form. Returns how many; 0: malformed.
static size_t split_chain(struct slice der, struct slice certs[TLS_CHAIN_MAX]) {
    size_t n = 0;
    while (der.len > 0) {
        uint32_t len;
        if (n == TLS_CHAIN_MAX || der.len < sizeof(len)) {
            return 0;
        }
        memcpy(&len, der.ptr, sizeof(len));
        der = slice_skip(der, sizeof(len));
        if (der.len < len) {
            return 0;
        }
        certs[n++] = slice_head(der, len);
        der = slice_skip(der, len);
    }
    return n;
}

enum tls_err tls_peer_recheck(struct tls_ctx *ctx, const struct tls_peer *peer, int64_t now_s) {
    struct slice certs[TLS_CHAIN_MAX];
    char detail[TLS_DETAIL_MAX] = "";
    struct tls_chain *chain = NULL;
    size_t n = split_chain(peer->serials, certs);
    // The nearest moment at which the chain was good in time; not_after itself is past it.
    now_s = MAX(MIN(now_s, peer->chain->not_after - 1), peer->chain->not_before);
    enum tls_err err = tls_verify_chain(ctx, peer->is_server, certs, n, now_s, &chain, detail);
    if (err == TLS_OK) {
        err = tls_verify_identity(ctx, chain, &peer->identity, 1, detail);
        tls_chain_unref(chain);
    }
    return err;
}

// ---- Hand-over

bool tls_peer_export(const struct tls_peer *peer, struct buf *out) {
    buf_put_u8(out, PEER_EXPORT_VERSION);
    buf_put_u8(out, peer->is_server);
    buf_put_u16(out, (uint16_t)peer->suite);
    buf_put_u16(out, peer->group);
    buf_put_u64(out, (uint64_t)peer->chain->not_before);
    buf_put_u64(out, (uint64_t)peer->not_after);
    buf_put_u16(out, (uint16_t)peer->identity.len);
    buf_append(out, peer->identity);
    buf_put_u24(out, (uint32_t)peer->serials.len);
    buf_append(out, peer->serials);
    return buf_ok(out);
}

// The head of the format, as far as it is fixed.
static bool get_head(struct cur *cur, struct tls_peer *peer, int64_t *ret_not_before) {
    uint8_t version = cur_u8(cur);
    uint8_t is_server = cur_u8(cur);
    peer->is_server = is_server == 1;
    peer->suite = (enum tls_suite)cur_u16(cur);
    peer->group = cur_u16(cur);
    *ret_not_before = (int64_t)cur_u64(cur);
    peer->not_after = (int64_t)cur_u64(cur);
    return cur_ok(cur) && version == PEER_EXPORT_VERSION && is_server <= 1;
}

struct tls_peer *tls_peer_import(struct slice bytes) {
    struct cur cur = cur_make(bytes);
    struct tls_peer head = {0};
    struct slice certs[TLS_CHAIN_MAX];
    struct tls_spiffe id;
    int64_t not_before;
    if (!get_head(&cur, &head, &not_before)) {
        return NULL;
    }
    struct slice san = cur_bytes(&cur, cur_u16(&cur));
    struct slice der = cur_bytes(&cur, cur_u24(&cur));
    size_t n_certs = split_chain(der, certs);
    if (!cur_done(&cur) || !tls_spiffe_parse(san, &id) || n_certs == 0 || der.len > PEER_DER_MAX) {
        return NULL;
    }
    struct tls_chain *chain = tls_chain_new(head.is_server, certs, n_certs, san);
    chain->not_before = not_before;
    chain->not_after = head.not_after;
    struct tls_peer *peer = xmalloc(sizeof(*peer));
    *peer = head;
    tls_chain_fill_peer(chain, peer);
    return peer;
}
