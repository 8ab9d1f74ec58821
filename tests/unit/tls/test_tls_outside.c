// SPDX-License-Identifier: Apache-2.0
//
// Servers outside of the mesh: whose certificate is taken, what they are told (SNI, ALPN, a client
// certificate). The servers are BoringSSL's own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "tests/unit/tls/tls_fixture.h"

static struct fix_ca root, stranger;

static int setup(void **state) {
    fix_pool_setup(state);
    fix_ca_init(&root);
    fix_ca_init(&stranger);
    return 0;
}

static int teardown(void **state) {
    fix_ca_fini(&root);
    fix_ca_fini(&stranger);
    return fix_pool_teardown(state);
}

static struct tls_ctx *ctx_of(const struct tls_outside_params *params) {
    char *error = NULL;
    struct tls_ctx *ctx = tls_ctx_new_outside(params, &error);
    assert_null(error);
    return ctx;
}

// One handshake; the client's error.
static enum tls_err run(struct tls_ctx *ctx, const struct tls_outside_server *server,
                        SSL_CTX *oracle, SSL **ret_ssl) {
    struct tls_handshake *hs = tls_handshake_new_outside(ctx, server);
    SSL *ssl = fix_oracle_new(oracle, true);
    struct tls_record *record = NULL;
    uint8_t *rest = NULL;
    size_t rest_len = 0;
    bool is_done = fix_oracle_run(ssl, hs, 0, &record, &rest, &rest_len);
    enum tls_err err = tls_handshake_error(hs);
    assert_int_equal(is_done, err == TLS_OK);
    if (is_done) {
        const uint8_t *proto = NULL;
        unsigned len = 0;
        SSL_get0_alpn_selected(ssl, &proto, &len);
        assert_int_equal(tls_handshake_is_h2(hs), len == 2 && memcmp(proto, "h2", 2) == 0);
    }
    tls_record_free(record);
    free(rest);
    tls_handshake_free(hs);
    if (ret_ssl != NULL) {
        *ret_ssl = ssl;
    } else {
        SSL_free(ssl);
    }
    return err;
}

static enum tls_err run_leaf(const struct fix_ca *ca, const char *sans, const char *usage,
                             int64_t end, const char *name, bool skips_verify) {
    struct fix_leaf leaf;
    fix_leaf_init(&leaf, ca, sans, usage, FIX_NOW - FIX_DAY, end);
    SSL_CTX *oracle = fix_oracle_ctx(ca, NULL);
    fix_oracle_use_leaf(oracle, &leaf);
    struct tls_outside_params params = {.roots_pem = slice_str(root.cert_pem),
                                        .skips_verify = skips_verify};
    struct tls_ctx *ctx = ctx_of(&params);
    struct slice names[] = {SLICE_LIT("never.example.net"), slice_str(name)};
    struct tls_outside_server server = {.names = names, .n_names = name[0] != '\0' ? 2 : 0};
    enum tls_err err = run(ctx, &server, oracle, NULL);
    tls_ctx_unref(ctx);
    SSL_CTX_free(oracle);
    fix_leaf_fini(&leaf);
    return err;
}

static void test_names(void **state) {
    static const struct {
        const char *sans, *name;
        enum tls_err want;
    } cases[] = {
        {"DNS:a.example.com", "a.example.com", TLS_OK},
        {"DNS:A.Example.com", "a.example.COM", TLS_OK},
        {"DNS:x.example.com,DNS:a.example.com", "a.example.com", TLS_OK},
        {"DNS:a.example.com", "b.example.com", TLS_IDENTITY_MISMATCH},
        {"DNS:a.example.com", "a.example.com.evil.net", TLS_IDENTITY_MISMATCH},
        {"DNS:*.example.com", "a.example.com", TLS_OK},
        {"DNS:*.example.com", "a.b.example.com", TLS_IDENTITY_MISMATCH},
        {"DNS:*.example.com", "example.com", TLS_IDENTITY_MISMATCH},
        {"DNS:*.example.com", ".example.com", TLS_IDENTITY_MISMATCH},
        {"DNS:*.com", "example.com", TLS_IDENTITY_MISMATCH}, // right above a top level
        {"DNS:a*.example.com", "ab.example.com", TLS_IDENTITY_MISMATCH}, // no whole label
        {"DNS:*", "example.com", TLS_IDENTITY_MISMATCH},
        {"IP:10.0.0.1", "10.0.0.1", TLS_OK},
        {"IP:10.0.0.1", "10.0.0.2", TLS_IDENTITY_MISMATCH},
        {"IP:fd00:0:0:0:0:0:0:1", "fd00::1", TLS_OK},
        {"DNS:10.0.0.1", "10.0.0.1", TLS_IDENTITY_MISMATCH}, // an address is no host name
        {"URI:spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/b", TLS_OK},
        {"URI:spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/B", TLS_IDENTITY_MISMATCH},
        {"email:me@example.com", "me@example.com", TLS_OK},
        {NULL, "a.example.com", TLS_IDENTITY_MISMATCH},
        {NULL, "", TLS_OK}, // no name was asked for
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum tls_err err =
            run_leaf(&root, cases[i].sans, "serverAuth", FIX_NOW + FIX_DAY, cases[i].name, false);
        if (err != cases[i].want) {
            fail_msg("%s for %s: %s", cases[i].sans != NULL ? cases[i].sans : "no name",
                     cases[i].name, tls_err_label(err));
        }
    }
}

static void test_chain(void **state) {
    const char *sans = "DNS:a.example.com", *name = "a.example.com";
    int64_t end = FIX_NOW + FIX_DAY;
    assert_int_equal(run_leaf(&root, sans, NULL, end, name, false), TLS_OK); // any usage
    assert_int_equal(run_leaf(&root, sans, "clientAuth", end, name, false), TLS_BAD_USAGE);
    assert_int_equal(run_leaf(&root, sans, NULL, FIX_NOW - 1, name, false), TLS_EXPIRED);
    assert_int_equal(run_leaf(&stranger, sans, NULL, end, name, false), TLS_UNTRUSTED);
    assert_int_equal(run_leaf(&stranger, sans, NULL, FIX_NOW - 1, "b", true), TLS_OK); // skipped
}

static int on_alpn(SSL *ssl, const uint8_t **ret, uint8_t *ret_len, const uint8_t *in, unsigned len,
                   void *arg) {
    uint8_t *offered = arg;
    assert_true(len < 32);
    offered[0] = (uint8_t)len;
    memcpy(offered + 1, in, len);
    *ret = in + 1;
    *ret_len = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static void test_what_the_server_hears(void **state) {
    static const struct {
        const char *sni, *offered; // with its length in front
        enum tls_alpn alpn;
    } cases[] = {{"a.example.com", "\x02h2", TLS_ALPN_H2},
                 {"c", "\x02h2\x08http/1.1", TLS_ALPN_ANY},
                 {"", "\x08http/1.1", TLS_ALPN_HTTP1},
                 {"b", "", TLS_ALPN_NONE}};
    struct fix_leaf leaf;
    fix_leaf_init(&leaf, &root, "DNS:a", NULL, FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    struct tls_outside_params params = {.roots_pem = slice_str(root.cert_pem)};
    struct tls_ctx *ctx = ctx_of(&params);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t offered[32] = {0};
        SSL *ssl;
        SSL_CTX *oracle = fix_oracle_ctx(&root, NULL);
        fix_oracle_use_leaf(oracle, &leaf);
        SSL_CTX_set_alpn_select_cb(oracle, on_alpn, offered);
        struct tls_outside_server server = {.sni = slice_str(cases[i].sni), .alpn = cases[i].alpn};
        assert_int_equal(run(ctx, &server, oracle, &ssl), TLS_OK);
        const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        assert_string_equal(sni != NULL ? sni : "", cases[i].sni);
        assert_int_equal(offered[0], strlen(cases[i].offered));
        assert_memory_equal(offered + 1, cases[i].offered, offered[0]);
        SSL_free(ssl);
        SSL_CTX_free(oracle);
    }
    tls_ctx_unref(ctx);
    fix_leaf_fini(&leaf);
}

static void run_client_certificate(uint16_t version) {
    struct fix_leaf leaf, own;
    fix_leaf_init(&leaf, &root, "DNS:a", NULL, FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    fix_leaf_init(&own, &root, "DNS:me", "clientAuth", FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    SSL_CTX *oracle = fix_oracle_ctx(&root, NULL);
    fix_oracle_use_leaf(oracle, &leaf);
    assert_int_equal(SSL_CTX_set_min_proto_version(oracle, version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(oracle, version), 1);
    SSL_CTX_set_verify(oracle, SSL_VERIFY_PEER, NULL);
    X509_STORE_set_flags(SSL_CTX_get_cert_store(oracle), X509_V_FLAG_NO_CHECK_TIME);
    BIO *bio = BIO_new_mem_buf(root.cert_pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(oracle), cert), 1);
    X509_free(cert);
    BIO_free(bio);
    struct tls_outside_params params = {.roots_pem = slice_str(root.cert_pem),
                                        .cert_chain_pem = slice_str(own.cert_pem),
                                        .key_pem = slice_str(own.key_pem)};
    struct tls_ctx *ctx = ctx_of(&params);
    struct tls_outside_server server = {.sni = SLICE_LIT("a")};
    SSL *ssl;
    assert_int_equal(run(ctx, &server, oracle, &ssl), TLS_OK);
    cert = SSL_get_peer_certificate(ssl);
    assert_non_null(cert);
    X509_free(cert);
    SSL_free(ssl);
    tls_ctx_unref(ctx);
    SSL_CTX_free(oracle);
    fix_leaf_fini(&leaf);
    fix_leaf_fini(&own);
}

static void test_client_certificate(void **state) {
    run_client_certificate(TLS1_3_VERSION);
    run_client_certificate(TLS1_2_VERSION);
}

static void test_old_version(void **state) {
    struct fix_leaf leaf;
    fix_leaf_init(&leaf, &root, "DNS:a", NULL, FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    SSL_CTX *oracle = fix_oracle_ctx(&root, NULL);
    fix_oracle_use_leaf(oracle, &leaf);
    assert_int_equal(SSL_CTX_set_min_proto_version(oracle, TLS1_1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(oracle, TLS1_1_VERSION), 1);
    struct tls_outside_params params = {.roots_pem = slice_str(root.cert_pem)};
    struct tls_outside_server server = {.sni = SLICE_LIT("a")};
    struct tls_ctx *ctx = ctx_of(&params);
    assert_int_equal(run(ctx, &server, oracle, NULL), TLS_OLD_VERSION);
    tls_ctx_unref(ctx);
    // No group of TLS 1.2 withstands a quantum computer.
    assert_int_equal(SSL_CTX_set_min_proto_version(oracle, TLS1_2_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(oracle, TLS1_2_VERSION), 1);
    params.compliance = TLS_COMPLIANCE_PQC;
    ctx = ctx_of(&params);
    assert_int_equal(run(ctx, &server, oracle, NULL), TLS_VERSION);
    tls_ctx_unref(ctx);
    // Suites without an AEAD, or without ECDHE.
    assert_int_equal(SSL_CTX_set_strict_cipher_list(oracle, "ECDHE-ECDSA-AES128-SHA:AES128-SHA"),
                     1);
    params.compliance = TLS_COMPLIANCE_DEFAULT;
    ctx = ctx_of(&params);
    assert_int_equal(run(ctx, &server, oracle, NULL), TLS_PEER_HANDSHAKE_FAILURE);
    tls_ctx_unref(ctx);
    SSL_CTX_free(oracle);
    fix_leaf_fini(&leaf);
}

static void test_bad_params(void **state) {
    struct fix_leaf own, other;
    fix_leaf_init(&own, &root, "DNS:me", NULL, FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    fix_leaf_init(&other, &root, "DNS:me", NULL, FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    const struct {
        struct tls_outside_params params;
        const char *want;
    } cases[] = {
        {{.roots_pem = SLICE_LIT("")}, "trust bundle: no certificate in it"},
        {{.roots_pem = slice_str(root.cert_pem), .crl_pem = SLICE_LIT("x")}, "CRL"},
        {{.roots_pem = slice_str(root.cert_pem), .cert_chain_pem = slice_str(own.cert_pem)},
         "private key"},
        {{.roots_pem = slice_str(root.cert_pem),
          .cert_chain_pem = slice_str(own.cert_pem),
          .key_pem = slice_str(other.key_pem)},
         "private key and certificate"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *error = NULL;
        assert_null(tls_ctx_new_outside(&cases[i].params, &error));
        assert_non_null(strstr(error, cases[i].want));
        free(error);
    }
    fix_leaf_fini(&own);
    fix_leaf_fini(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_server_hears, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_certificate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_params, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
