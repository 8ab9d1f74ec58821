// SPDX-License-Identifier: Apache-2.0
//
// One TLS 1.3 handshake over memory, then take-over by tls_record. Sans-I/O; CPU only (no
// blocking). An object belongs to one thread at a time; the tls_ctx and the verified-chain cache
// are shared.
//
// Limits: 96 KiB of input, 64 KiB of certificates, 8 certificates a chain.
//
// Feed input with tls_handshake_recv, send what it appends to `out`, until DONE; then
// tls_handshake_take gives the record layer and the bytes that were read past the handshake.
// The BoringSSL state is freed by then: an established tunnel keeps only the tls_record.
#pragma once

#include "common/base/chain.h"
#include "common/tls/tls_ctx.h"
#include "common/tls/tls_record.h"

struct tls_chain; // a verified chain, immutable, shared by all tunnels of the same peer

struct tls_peer { // verified peer, filled at DONE; texts live as long as the handshake object
    struct slice identity; // the SPIFFE URI, the only URI of its certificate
    int64_t not_after; // Unix seconds, earliest of the verified chain
    enum tls_suite suite;
    uint16_t group; // TLS group id
    uint8_t chain_hash[32]; // for re-checks of live tunnels after a CRL or bundle change
    struct slice serials; // the chain in an opaque form, for re-checks
    bool is_server; // the peer is the TLS server: we are the client
    struct tls_chain *chain; // holds the texts above
};

// A copy that lives on its own: one small allocation and a reference on the shared chain, whatever
// the number of tunnels to the same peer. Any thread may free it.
struct tls_peer *tls_peer_dup(const struct tls_peer *peer);
void tls_peer_free(struct tls_peer *peer); // NULL ok; only for what tls_peer_dup or _import gave

// Hand-over to a successor process, beside tls_record_export. False when `out` is full.
MUST_USE bool tls_peer_export(const struct tls_peer *peer, struct buf *out);
struct tls_peer *tls_peer_import(struct slice bytes); // NULL: malformed

struct tls_handshake;

// Client: `expected` = SPIFFE URIs of which the server must present one (copied); n_expected == 0
// accepts any identity of the own trust domain.
struct tls_handshake *tls_handshake_new_client(struct tls_ctx *ctx, const struct slice *expected,
                                               size_t n_expected);
struct tls_handshake *tls_handshake_new_server(struct tls_ctx *ctx);
// Client, before the first tls_handshake_recv: whom it will talk to, in bytes that are the same
// each time (an address). The hello then brings the key share that this server took last. For the
// whole process, bounded; what does not fit is forgotten.
void tls_handshake_set_server(struct tls_handshake *hs, struct slice server);

// A server outside of the mesh: ctx is of tls_ctx_new_outside. Texts are copied. The peer that
// tls_handshake_peer tells has suite and group only.
enum tls_alpn {
    TLS_ALPN_NONE,
    TLS_ALPN_HTTP1,
    TLS_ALPN_H2,
    TLS_ALPN_ANY
}; // ANY: h2 before http/1.1
struct tls_outside_server {
    struct slice sni; // empty: none is sent. A host name, no address
    // One of which its certificate must be for: host names (with wildcards of the certificate),
    // addresses, URIs. None: its chain alone counts.
    const struct slice *names;
    size_t n_names;
    enum tls_alpn alpn; // that is offered; a server may leave it out
};
struct tls_handshake *tls_handshake_new_outside(struct tls_ctx *ctx,
                                                const struct tls_outside_server *server);
void tls_handshake_free(struct tls_handshake *hs); // NULL ok

enum tls_step {
    TLS_STEP_MORE, // needs input
    TLS_STEP_DONE,
    TLS_STEP_ERROR, // tls_handshake_error; an alert may have been appended to out: send, then close
};
// Client: call first with an empty input to get the ClientHello. All input is consumed. now_s =
// wall clock (certificate validity).
enum tls_step tls_handshake_recv(struct tls_handshake *hs, struct slice in, int64_t now_s,
                                 struct chain *out);
enum tls_err tls_handshake_error(const struct tls_handshake *hs);
const char *tls_handshake_error_detail(const struct tls_handshake *hs); // a sentence, may be ""
const struct tls_peer *tls_handshake_peer(const struct tls_handshake *hs); // after DONE
bool tls_handshake_is_h2(const struct tls_handshake *hs); // ALPN settled on h2; after DONE

// After DONE, once: the record layer, and in *ret_rest the input bytes that follow the handshake
// (borrowed until hs is freed; may hold whole records).
struct tls_record *tls_handshake_take(struct tls_handshake *hs, struct slice *ret_rest);

// Re-check of a live tunnel after the trust bundle or a CRL changed: TLS_OK, or why ctx would not
// take this peer any more. Time is no reason: what runs outlives its certificates, and the clock
// may have been set. Cheap for many tunnels of one peer: the answer of the first is cached.
enum tls_err tls_peer_recheck(struct tls_ctx *ctx, const struct tls_peer *peer, int64_t now_s);
