// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/tls/tls_fixture.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "common/tls/tls_cert.h"
#include "common/tls/tls_verify.h"

_Thread_local struct blk_pool fix_pool;

int fix_pool_setup(void **state) {
    blk_pool_init(&fix_pool, 4);
    return 0;
}

int fix_pool_teardown(void **state) {
    tls_verify_cache_clear();
    blk_pool_fini(&fix_pool);
    return 0;
}

uint64_t fix_rand(uint64_t *seed) { // splitmix64
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void load(struct fix_ca *ca) {
    struct tls_ca_params params = {
        .ca_cert_pem = slice_str(ca->cert_pem),
        .ca_key_pem = slice_str(ca->key_pem),
        .root_cert_pem = slice_str(ca->root_pem),
        .cert_chain_pem = slice_str(ca->chain_pem),
        .now_s = FIX_NOW,
    };
    char *error = NULL;
    ca->ca = tls_ca_new(&params, &error);
    if (ca->ca == NULL) {
        check_failed(__FILE__, __LINE__, error);
    }
}

void fix_ca_init(struct fix_ca *ca) {
    *ca = (struct fix_ca){0};
    tls_ca_make_root(SLICE_LIT("cluster.local"), FIX_NOW - 300 * FIX_DAY, &ca->cert_pem,
                     &ca->key_pem);
    load(ca);
}

void fix_ca_init_below(struct fix_ca *ca, const struct fix_ca *root) {
    char *error = NULL;
    *ca = (struct fix_ca){0};
    if (!tls_ca_make_intermediate(slice_str(root->cert_pem), slice_str(root->key_pem),
                                  SLICE_LIT("intermediate"), FIX_NOW - 200 * FIX_DAY, 700 * FIX_DAY,
                                  &ca->cert_pem, &ca->key_pem, &error)) {
        check_failed(__FILE__, __LINE__, error);
    }
    ca->root_pem = xstrdup(root->cert_pem);
    ca->chain_pem = xasprintf("%s%s", ca->cert_pem, root->cert_pem);
    load(ca);
}

void fix_ca_fini(struct fix_ca *ca) {
    tls_ca_free(ca->ca);
    free(ca->cert_pem);
    tls_key_pem_free(ca->key_pem);
    free(ca->chain_pem);
    free(ca->root_pem);
}

struct tls_ctx *fix_ctx(const struct fix_ca *ca, const char *spiffe_id,
                        const struct tls_ctx_params *preset, char **ret_serial_hex) {
    struct tls_ctx_params params = preset != NULL ? *preset : (struct tls_ctx_params){0};
    struct tls_svid svid;
    char *error = NULL;
    if (!tls_ca_sign(ca->ca, slice_str(spiffe_id), FIX_NOW, FIX_DAY, &svid, &error)) {
        check_failed(__FILE__, __LINE__, error);
    }
    params.cert_chain_pem = slice_str(svid.cert_chain_pem);
    params.key_pem = slice_str(svid.key_pem);
    if (params.roots_pem.len == 0) {
        params.roots_pem = slice_str(svid.roots_pem);
    }
    if (params.trust_domain.len == 0) {
        params.trust_domain = SLICE_LIT("cluster.local");
    }
    struct tls_ctx *ctx = tls_ctx_new(&params, &error);
    if (ctx == NULL) {
        check_failed(__FILE__, __LINE__, error);
    }
    if (ret_serial_hex != NULL) {
        struct tls_cert_info *infos;
        size_t n = tls_cert_parse(params.cert_chain_pem, &infos, &error);
        CHECK(n > 0);
        *ret_serial_hex = xstrdup(infos[0].serial_hex);
        tls_cert_infos_free(infos, n);
    }
    tls_svid_fini(&svid);
    return ctx;
}

// ---- Leaves of any kind

static void leaf_ext(X509 *cert, X509 *issuer, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    CHECK(ext != NULL && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static void *read_pem(const char *pem, bool is_key) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    void *obj = is_key ? (void *)PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL)
                       : (void *)PEM_read_bio_X509(bio, NULL, NULL, NULL);
    CHECK(obj != NULL);
    BIO_free(bio);
    return obj;
}

void fix_leaf_init(struct fix_leaf *leaf, const struct fix_ca *ca, const char *sans,
                   const char *ext_usage, int64_t not_before, int64_t not_after) {
    X509 *issuer = read_pem(ca->cert_pem, false);
    EVP_PKEY *issuer_key = read_pem(ca->key_pem, true);
    leaf->key_pem = tls_key_new_pem();
    EVP_PKEY *key = read_pem(leaf->key_pem, true);
    X509 *cert = X509_new();
    CHECK(cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(cert), 77) == 1);
    CHECK(ASN1_TIME_set_posix(X509_getm_notBefore(cert), not_before) != NULL);
    CHECK(ASN1_TIME_set_posix(X509_getm_notAfter(cert), not_after) != NULL);
    CHECK(X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1);
    CHECK(X509_set_pubkey(cert, key) == 1);
    leaf_ext(cert, issuer, NID_key_usage, "critical,digitalSignature");
    if (ext_usage != NULL) {
        leaf_ext(cert, issuer, NID_ext_key_usage, ext_usage);
    }
    if (sans != NULL) {
        leaf_ext(cert, issuer, NID_subject_alt_name, sans);
    }
    CHECK(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
    BIO *out = BIO_new(BIO_s_mem());
    const uint8_t *bytes;
    size_t len;
    CHECK(PEM_write_bio_X509(out, cert) == 1 && BIO_mem_contents(out, &bytes, &len) == 1);
    leaf->cert_pem = slice_dup(slice_make(bytes, len));
    BIO_free(out);
    X509_free(cert);
    X509_free(issuer);
    EVP_PKEY_free(key);
    EVP_PKEY_free(issuer_key);
}

void fix_leaf_fini(struct fix_leaf *leaf) {
    free(leaf->cert_pem);
    tls_key_pem_free(leaf->key_pem);
}

// ---- Two of ours

// Feeds up to `chunk` bytes of `from` to hs; returns whether anything happened.
static bool feed(struct tls_handshake *hs, enum tls_step *step, struct chain *from,
                 struct chain *out, int64_t now_s, size_t chunk) {
    uint8_t bytes[65536];
    if (*step != TLS_STEP_MORE || chain_empty(from)) {
        return false;
    }
    size_t n = chain_peek(from, bytes, chunk != 0 ? chunk : sizeof(bytes));
    chain_skip(from, n);
    // A copy of exact size, so that a read past the end is seen by the sanitizer.
    uint8_t *exact = xmalloc(n);
    memcpy(exact, bytes, n);
    *step = tls_handshake_recv(hs, slice_make(exact, n), now_s, out);
    free(exact);
    return true;
}

void fix_pair_run(struct fix_pair *pair, struct tls_ctx *client, struct tls_ctx *server,
                  const char *expected, int64_t now_s, size_t chunk) {
    struct slice id = slice_str(expected);
    struct chain to_server, to_client;
    chain_init(&to_server, &fix_pool);
    chain_init(&to_client, &fix_pool);
    pair->client = tls_handshake_new_client(client, &id, expected != NULL);
    pair->server = tls_handshake_new_server(server);
    pair->server_step = TLS_STEP_MORE;
    pair->client_step = tls_handshake_recv(pair->client, slice_make(NULL, 0), now_s, &to_server);
    bool moved = true;
    while (moved) {
        moved = feed(pair->server, &pair->server_step, &to_server, &to_client, now_s, chunk);
        moved |= feed(pair->client, &pair->client_step, &to_client, &to_server, now_s, chunk);
    }
    chain_clear(&to_server);
    chain_clear(&to_client);
}

void fix_pair_free(struct fix_pair *pair) {
    tls_handshake_free(pair->client);
    tls_handshake_free(pair->server);
}

void fix_records(struct tls_ctx *client, struct tls_ctx *server, struct tls_record **ret_client,
                 struct tls_record **ret_server) {
    struct fix_pair pair;
    struct slice rest;
    fix_pair_run(&pair, client, server, NULL, FIX_NOW, 0);
    CHECK(pair.client_step == TLS_STEP_DONE && pair.server_step == TLS_STEP_DONE);
    *ret_client = tls_handshake_take(pair.client, &rest);
    CHECK(rest.len == 0);
    *ret_server = tls_handshake_take(pair.server, &rest);
    CHECK(rest.len == 0);
    fix_pair_free(&pair);
}

// ---- The oracle

static int oracle_alpn(SSL *ssl, const uint8_t **ret_proto, uint8_t *ret_len, const uint8_t *in,
                       unsigned len, void *arg) {
    return SSL_select_next_proto((uint8_t **)ret_proto, ret_len, in, len, (const uint8_t *)"\2h2",
                                 3) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_NOACK;
}

static enum ssl_verify_result_t accept_any(SSL *ssl, uint8_t *ret_alert) {
    return ssl_verify_ok;
}

void fix_oracle_use_leaf(SSL_CTX *ctx, const struct fix_leaf *leaf) {
    BIO *certs = BIO_new_mem_buf(leaf->cert_pem, -1);
    BIO *keys = BIO_new_mem_buf(leaf->key_pem, -1);
    X509 *cert = PEM_read_bio_X509(certs, NULL, NULL, NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(keys, NULL, NULL, NULL);
    CHECK(SSL_CTX_use_certificate(ctx, cert) == 1);
    CHECK(SSL_CTX_use_PrivateKey(ctx, key) == 1);
    X509_free(cert);
    while ((cert = PEM_read_bio_X509(certs, NULL, NULL, NULL)) != NULL) {
        CHECK(SSL_CTX_add0_chain_cert(ctx, cert) == 1);
    }
    ERR_clear_error();
    EVP_PKEY_free(key);
    BIO_free(certs);
    BIO_free(keys);
}

SSL_CTX *fix_oracle_ctx(const struct fix_ca *ca, const char *spiffe_id) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    CHECK(ctx != NULL);
    SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)"\2h2", 3);
    SSL_CTX_set_alpn_select_cb(ctx, oracle_alpn, NULL);
    SSL_CTX_set_custom_verify(ctx, SSL_VERIFY_PEER, accept_any);
    if (spiffe_id != NULL) {
        struct tls_svid svid;
        char *error = NULL;
        CHECK(tls_ca_sign(ca->ca, slice_str(spiffe_id), FIX_NOW, FIX_DAY, &svid, &error));
        fix_oracle_use_leaf(ctx, &(struct fix_leaf){svid.cert_chain_pem, svid.key_pem});
        tls_svid_fini(&svid);
    }
    return ctx;
}

SSL *fix_oracle_new(SSL_CTX *ctx, bool is_server) {
    SSL *ssl = SSL_new(ctx);
    CHECK(ssl != NULL);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    if (is_server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    return ssl;
}

void fix_oracle_feed(SSL *ssl, struct chain *from) {
    struct seg seg;
    while (chain_pop(from, &seg)) {
        CHECK(BIO_write(SSL_get_rbio(ssl), seg_ptr(&seg), (int)seg.len) == (int)seg.len);
        blk_unref(seg.blk);
    }
}

struct slice fix_oracle_out(SSL *ssl) {
    const uint8_t *bytes;
    size_t len;
    CHECK(BIO_mem_contents(SSL_get_wbio(ssl), &bytes, &len) == 1);
    return slice_make(bytes, len);
}

void fix_oracle_drop(SSL *ssl) {
    CHECK(BIO_reset(SSL_get_wbio(ssl)) == 1);
}

bool fix_oracle_run(SSL *ssl, struct tls_handshake *hs, size_t chunk,
                    struct tls_record **ret_record, uint8_t **ret_rest, size_t *ret_rest_len) {
    struct chain out, in;
    enum tls_step step = TLS_STEP_MORE;
    chain_init(&out, &fix_pool);
    chain_init(&in, &fix_pool);
    bool is_client = SSL_is_server(ssl);
    if (is_client) {
        step = tls_handshake_recv(hs, slice_make(NULL, 0), FIX_NOW, &out);
    }
    bool moved = true;
    while (moved) {
        moved = !chain_empty(&out);
        fix_oracle_feed(ssl, &out);
        (void)SSL_do_handshake(ssl);
        ERR_clear_error();
        chain_copy(&in, fix_oracle_out(ssl));
        fix_oracle_drop(ssl);
        while (feed(hs, &step, &in, &out, FIX_NOW, chunk)) {
            moved = true;
        }
    }
    bool ok = step == TLS_STEP_DONE && !SSL_in_init(ssl);
    if (step == TLS_STEP_DONE) {
        struct slice rest;
        *ret_record = tls_handshake_take(hs, &rest);
        *ret_rest_len = rest.len + in.len;
        *ret_rest = xmalloc(*ret_rest_len + 1);
        if (rest.len > 0) {
            memcpy(*ret_rest, rest.ptr, rest.len);
        }
        chain_peek(&in, *ret_rest + rest.len, in.len);
    }
    chain_clear(&in);
    chain_clear(&out);
    return ok;
}
