// SPDX-License-Identifier: Apache-2.0
//
// What the tests of common/tls share: a CA with identities, two handshakes joined in memory, and a
// peer that goes on with BoringSSL's own record layer (the oracle).
#pragma once

#include <openssl/ssl.h>

#include "common/base/chain.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_ctx.h"
#include "common/tls/tls_handshake.h"
#include "common/tls/tls_record.h"

#define FIX_NOW INT64_C(1700000000)
#define FIX_DAY INT64_C(86400)
#define FIX_CLIENT "spiffe://cluster.local/ns/a/sa/client"
#define FIX_SERVER "spiffe://cluster.local/ns/b/sa/server"

struct fix_ca {
    char *cert_pem, *key_pem;
    char *chain_pem, *root_pem; // of an intermediate; else NULL
    struct tls_ca *ca;
};
void fix_ca_init(struct fix_ca *ca); // a root
// An intermediate below `root`.
void fix_ca_init_below(struct fix_ca *ca, const struct fix_ca *root);
void fix_ca_fini(struct fix_ca *ca);

// A ctx for an identity signed by `ca` at FIX_NOW for one day; params may be preset (compliance,
// CRL, roots, trust domain), the certificate fields are filled in. serial_hex (may be NULL) gets
// the leaf's number, to free().
struct tls_ctx *fix_ctx(const struct fix_ca *ca, const char *spiffe_id,
                        const struct tls_ctx_params *preset, char **ret_serial_hex);

// A leaf of any kind, signed by `ca` for a fresh key: SANs as in OpenSSL's configuration
// ("URI:spiffe://...,DNS:x"; NULL: none) and extended key usage ("serverAuth"; NULL: none).
struct fix_leaf {
    char *cert_pem, *key_pem;
};
void fix_leaf_init(struct fix_leaf *leaf, const struct fix_ca *ca, const char *sans,
                   const char *ext_usage, int64_t not_before, int64_t not_after);
void fix_leaf_fini(struct fix_leaf *leaf);
void fix_oracle_use_leaf(SSL_CTX *ctx, const struct fix_leaf *leaf);

struct fix_pair {
    struct tls_handshake *client, *server;
    enum tls_step client_step, server_step;
};
// Runs both to their ends, feeding `chunk` bytes at a time (0: all at once). expected: of the
// client, NULL = any.
void fix_pair_run(struct fix_pair *pair, struct tls_ctx *client, struct tls_ctx *server,
                  const char *expected, int64_t now_s, size_t chunk);
void fix_pair_free(struct fix_pair *pair);
// fix_pair_run, both must succeed; gives the record layers.
void fix_records(struct tls_ctx *client, struct tls_ctx *server, struct tls_record **ret_client,
                 struct tls_record **ret_server);

// A peer by BoringSSL alone, over memory BIOs. `is_server` is its own role; no verification unless
// the caller sets some up.
SSL_CTX *fix_oracle_ctx(const struct fix_ca *ca, const char *spiffe_id); // spiffe_id NULL: no cert
SSL *fix_oracle_new(SSL_CTX *ctx, bool is_server);
// Bytes between the oracle and us.
void fix_oracle_feed(SSL *ssl, struct chain *from); // empties `from`
struct slice fix_oracle_out(SSL *ssl); // borrowed until fix_oracle_drop
void fix_oracle_drop(SSL *ssl);
// Handshake of ours (`hs`) against the oracle; true when both are done. *ret_rest: bytes that came
// with the end of our handshake (heap, to free).
bool fix_oracle_run(SSL *ssl, struct tls_handshake *hs, size_t chunk,
                    struct tls_record **ret_record, uint8_t **ret_rest, size_t *ret_rest_len);

// The pool of the tests (checked for leaks by fix_pool_fini).
extern _Thread_local struct blk_pool fix_pool; // each thread sets up its own
int fix_pool_setup(void **state);
int fix_pool_teardown(void **state);

// Seeded numbers for tests.
uint64_t fix_rand(uint64_t *seed);
