// SPDX-License-Identifier: Apache-2.0
//
// Versions, suites, groups, ALPN, client certificates, and input that is no TLS at all, against
// BoringSSL's own client and server.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "tests/unit/tls/tls_fixture.h"

static struct fix_ca root;
static struct tls_ctx *client_ctx, *server_ctx;

static int setup(void **state) {
    fix_pool_setup(state);
    fix_ca_init(&root);
    client_ctx = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    server_ctx = fix_ctx(&root, FIX_SERVER, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    tls_ctx_unref(client_ctx);
    tls_ctx_unref(server_ctx);
    fix_ca_fini(&root);
    return fix_pool_teardown(state);
}

// Our side (a server unless `we_connect`) against an oracle; gives our error and the alert that the
// oracle got (-1: none).
static enum tls_err run(SSL_CTX *oracle, struct tls_ctx *ctx, bool we_connect, int *ret_alert) {
    struct tls_record *record = NULL;
    uint8_t *rest = NULL;
    size_t rest_len;
    SSL *ssl = fix_oracle_new(oracle, we_connect);
    struct tls_handshake *hs =
        we_connect ? tls_handshake_new_client(ctx, NULL, 0) : tls_handshake_new_server(ctx);
    fix_oracle_run(ssl, hs, 0, &record, &rest, &rest_len);
    enum tls_err err = tls_handshake_error(hs);
    assert_true((record != NULL) == (err == TLS_OK));
    // What the oracle makes of our last words (its handshake may be over already).
    ERR_clear_error();
    *ret_alert = -1;
    if (SSL_do_handshake(ssl) == 1) {
        (void)SSL_read(ssl, &(uint8_t){0}, 1);
    }
    for (uint32_t code; (code = ERR_get_error()) != 0;) {
        if (ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET) {
            *ret_alert = ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET;
        }
    }
    tls_handshake_free(hs);
    tls_record_free(record);
    free(rest);
    SSL_free(ssl);
    return err;
}

struct oracle_case {
    const char *name;
    const char *identity; // NULL: no certificate
    const char *alpn; // NULL: h2
    size_t alpn_len;
    uint16_t version; // highest; 0: default
    uint16_t suite, group; // the only one; 0: default
    enum tls_err err;
};

static void check_cases(const struct oracle_case *cases, size_t n, bool we_connect) {
    for (size_t i = 0; i < n; i++) {
        const struct oracle_case *c = &cases[i];
        int alert;
        SSL_CTX *oracle = fix_oracle_ctx(&root, c->identity);
        if (c->alpn != NULL) {
            SSL_CTX_set_alpn_protos(oracle, (const uint8_t *)c->alpn, c->alpn_len);
            SSL_CTX_set_alpn_select_cb(oracle, NULL, NULL);
        }
        if (c->version != 0) {
            assert_int_equal(SSL_CTX_set_max_proto_version(oracle, c->version), 1);
        }
        if (c->suite != 0) {
            assert_int_equal(SSL_CTX_set1_tls13_ciphers(oracle, &c->suite, NULL, 1), 1);
        }
        if (c->group != 0) {
            assert_int_equal(SSL_CTX_set1_group_ids(oracle, &c->group, 1), 1);
        }
        enum tls_err err = run(oracle, we_connect ? client_ctx : server_ctx, we_connect, &alert);
        if (err != c->err) {
            fail_msg("%s: %s", c->name, tls_err_label(err));
        }
        // The peer got the alert of that reason, unless the reason is one of its own.
        if (err != TLS_OK && tls_err_alert(err) >= 0 && alert != tls_err_alert(err)) {
            fail_msg("%s: alert %d, not %d", c->name, alert, tls_err_alert(err));
        }
        SSL_CTX_free(oracle);
    }
}

static void test_we_serve(void **state) {
    static const struct oracle_case cases[] = {
        {"good", FIX_CLIENT, .err = TLS_OK},
        {"no certificate", NULL, .err = TLS_NO_CERTIFICATE},
        {"http/1.1", FIX_CLIENT, "\x08http/1.1", 9, .err = TLS_NO_ALPN},
        {"several", FIX_CLIENT, "\x08http/1.1\x02h2", 12, .err = TLS_OK},
        {"no ALPN", FIX_CLIENT, "", 0, .err = TLS_NO_ALPN},
        {"TLS 1.2", FIX_CLIENT, .version = TLS1_2_VERSION, .err = TLS_VERSION},
        {"ChaCha20", FIX_CLIENT, .suite = SSL_CIPHER_CHACHA20_POLY1305_SHA256, .err = TLS_NO_SUITE},
        {"AES-256", FIX_CLIENT, .suite = SSL_CIPHER_AES_256_GCM_SHA384, .err = TLS_OK},
        {"P-256", FIX_CLIENT, .group = SSL_GROUP_SECP256R1, .err = TLS_OK},
        {"X25519", FIX_CLIENT, .group = SSL_GROUP_X25519, .err = TLS_OK},
        {"P-521", FIX_CLIENT, .group = SSL_GROUP_SECP521R1, .err = TLS_NO_GROUP},
    };
    check_cases(cases, ARRAY_LEN(cases), false);
}

static void test_we_connect(void **state) {
    static const struct oracle_case cases[] = {
        {"good", FIX_SERVER, .err = TLS_OK},
        {"http/1.1", FIX_SERVER, "\x08http/1.1", 9, .err = TLS_PEER_NO_APPLICATION_PROTOCOL},
        {"no ALPN", FIX_SERVER, "", 0, .err = TLS_NO_ALPN},
        {"TLS 1.2", FIX_SERVER, .version = TLS1_2_VERSION, .err = TLS_PEER_PROTOCOL_VERSION},
        {"ChaCha20", FIX_SERVER, .suite = SSL_CIPHER_CHACHA20_POLY1305_SHA256,
         .err = TLS_PEER_HANDSHAKE_FAILURE},
        {"AES-256", FIX_SERVER, .suite = SSL_CIPHER_AES_256_GCM_SHA384, .err = TLS_OK},
        {"P-256, retry", FIX_SERVER, .group = SSL_GROUP_SECP256R1, .err = TLS_OK},
        {"P-521", FIX_SERVER, .group = SSL_GROUP_SECP521R1, .err = TLS_PEER_HANDSHAKE_FAILURE},
    };
    check_cases(cases, ARRAY_LEN(cases), true);
}

static void check_choice(const struct tls_ctx_params *client, const struct tls_ctx_params *server,
                         enum tls_suite suite, uint16_t group) {
    struct fix_pair pair;
    struct tls_ctx *c = fix_ctx(&root, FIX_CLIENT, client, NULL);
    struct tls_ctx *s = fix_ctx(&root, FIX_SERVER, server, NULL);
    fix_pair_run(&pair, c, s, NULL, FIX_NOW, 0);
    if (group == 0) {
        assert_int_equal(tls_handshake_error(pair.server), TLS_NO_GROUP);
        assert_int_equal(tls_handshake_error(pair.client), TLS_PEER_HANDSHAKE_FAILURE);
    } else {
        assert_int_equal(pair.client_step, TLS_STEP_DONE);
        assert_int_equal(pair.server_step, TLS_STEP_DONE);
        assert_int_equal(tls_handshake_peer(pair.client)->suite, suite);
        assert_int_equal(tls_handshake_peer(pair.client)->group, group);
    }
    fix_pair_free(&pair);
    tls_ctx_unref(c);
    tls_ctx_unref(s);
}

// The server's order rules for suites; groups by policy.
static void test_choices(void **state) {
    const struct tls_ctx_params std = {0};
    const struct tls_ctx_params aes256 = {.prefer_aes_256 = true};
    const struct tls_ctx_params fips = {.compliance = TLS_COMPLIANCE_FIPS};
    const struct tls_ctx_params pqc = {.compliance = TLS_COMPLIANCE_PQC};
    const enum tls_suite s128 = TLS_SUITE_AES_128_GCM_SHA256, s256 = TLS_SUITE_AES_256_GCM_SHA384;
    check_choice(&std, &std, s128, SSL_GROUP_X25519_MLKEM768);
    check_choice(&std, &aes256, s256, SSL_GROUP_X25519_MLKEM768);
    check_choice(&aes256, &std, s128, SSL_GROUP_X25519_MLKEM768);
    check_choice(&fips, &std, s128, SSL_GROUP_SECP256R1);
    check_choice(&std, &fips, s128, SSL_GROUP_SECP256R1);
    check_choice(&pqc, &std, s128, SSL_GROUP_X25519_MLKEM768);
    check_choice(&std, &pqc, s128, SSL_GROUP_X25519_MLKEM768);
    check_choice(&pqc, &fips, s128, 0);
}

// Bytes of the next ClientHello of ctx.
static size_t hello_len(struct tls_ctx *ctx) {
    struct chain out;
    chain_init(&out, &fix_pool);
    struct tls_handshake *hs = tls_handshake_new_client(ctx, NULL, 0);
    assert_int_equal(tls_handshake_recv(hs, slice_make(NULL, 0), FIX_NOW, &out), TLS_STEP_MORE);
    size_t len = out.len;
    chain_clear(&out);
    tls_handshake_free(hs);
    return len;
}

// One key share while servers take it; after a server that did not, two for a while.
static void test_key_shares(void **state) {
    const struct tls_ctx_params fips = {.compliance = TLS_COMPLIANCE_FIPS};
    struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    struct tls_ctx *p256 = fix_ctx(&root, FIX_SERVER, &fips, NULL);
    struct fix_pair pair;
    size_t one = hello_len(client);
    for (int i = 0; i < 2; i++) { // with a retry, then without
        fix_pair_run(&pair, client, p256, NULL, FIX_NOW, 0);
        assert_int_equal(pair.client_step, TLS_STEP_DONE);
        fix_pair_free(&pair);
        assert_int_equal(hello_len(client), one + 4 + 65);
    }
    for (int i = 0; i < 80; i++) {
        hello_len(client);
    }
    assert_int_equal(hello_len(client), one);
    tls_ctx_unref(client);
    tls_ctx_unref(p256);
}

// Requests of a client that come in the same piece as its Finished belong to the record layer.
static void test_early_requests(void **state) {
    SSL_CTX *oracle = fix_oracle_ctx(&root, FIX_CLIENT);
    SSL *ssl = fix_oracle_new(oracle, false);
    struct tls_handshake *hs = tls_handshake_new_server(server_ctx);
    struct chain out;
    struct slice rest;
    chain_init(&out, &fix_pool);
    (void)SSL_do_handshake(ssl);
    assert_int_equal(tls_handshake_recv(hs, fix_oracle_out(ssl), FIX_NOW, &out), TLS_STEP_MORE);
    fix_oracle_drop(ssl);
    fix_oracle_feed(ssl, &out);
    assert_int_equal(SSL_do_handshake(ssl), 1);
    assert_int_equal(SSL_write(ssl, "first", 5), 5);
    assert_int_equal(SSL_write(ssl, "second", 6), 6);
    struct slice all = fix_oracle_out(ssl);
    // The last record lacks a byte still.
    assert_int_equal(tls_handshake_recv(hs, slice_head(all, all.len - 1), FIX_NOW, &out),
                     TLS_STEP_DONE);
    assert_true(chain_empty(&out)); // nothing was under way
    struct tls_record *record = tls_handshake_take(hs, &rest);
    uint8_t bytes[200];
    assert_int_equal(rest.len, 5 + 5 + 17 + 5 + 6 + 17 - 1);
    memcpy(bytes, rest.ptr, rest.len);
    size_t used, off, len, need;
    assert_int_equal(tls_record_open(record, bytes, rest.len, &used, &off, &len, &need),
                     TLS_OPEN_DATA);
    assert_memory_equal(bytes + off, "first", 5);
    assert_int_equal(tls_record_open(record, bytes + used, rest.len - used, &used, &off, &len,
                                     &need),
                     TLS_OPEN_MORE);
    tls_handshake_free(hs);
    tls_record_free(record);
    SSL_free(ssl);
    SSL_CTX_free(oracle);
}

static void expect_refused(const char *name, struct slice in, enum tls_err err, bool has_alert) {
    struct chain out;
    chain_init(&out, &fix_pool);
    struct tls_handshake *hs = tls_handshake_new_server(server_ctx);
    assert_int_equal(tls_handshake_recv(hs, in, FIX_NOW, &out), TLS_STEP_ERROR);
    if (tls_handshake_error(hs) != err) {
        fail_msg("%s: %s", name, tls_err_label(tls_handshake_error(hs)));
    }
    if (!chain_empty(&out) != has_alert) {
        fail_msg("%s: %zu bytes of answer", name, out.len);
    }
    assert_int_equal(tls_handshake_recv(hs, in, FIX_NOW, &out), TLS_STEP_ERROR); // sticky
    chain_clear(&out);
    tls_handshake_free(hs);
}

static void test_garbage(void **state) {
    static const uint8_t zeros[100] = {0};
    static const uint8_t huge[] = {22, 3, 1, 0xff, 0xff, 1, 0, 0, 0};
    static const uint8_t data[] = {23, 3, 3, 0, 1, 0};
    static const uint8_t hello[] = {22, 3, 1, 0, 5, 1, 0, 0, 1, 9};
    static const uint8_t large[] = {22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff};
    static const uint8_t closed[] = {21, 3, 3, 0, 2, 1, 0};
    static const uint8_t refused[] = {21, 3, 3, 0, 2, 2, 70};
    expect_refused("close_notify", slice_make(closed, sizeof(closed)), TLS_PEER_ALERT, false);
    expect_refused("alert", slice_make(refused, sizeof(refused)), TLS_PEER_PROTOCOL_VERSION, false);
    expect_refused("HTTP", SLICE_LIT("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), TLS_NOT_TLS, false);
    expect_refused("h2", SLICE_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), TLS_NOT_TLS, true);
    expect_refused("SSH", SLICE_LIT("SSH-2.0-OpenSSH_9.2\r\n"), TLS_NOT_TLS, true);
    expect_refused("zeros", slice_make(zeros, sizeof(zeros)), TLS_NOT_TLS, true);
    expect_refused("long record", slice_make(huge, sizeof(huge)), TLS_RECORD_OVERFLOW, true);
    expect_refused("data first", slice_make(data, sizeof(data)), TLS_UNEXPECTED_MESSAGE, true);
    expect_refused("bad hello", slice_make(hello, sizeof(hello)), TLS_DECODE_ERROR, true);
    expect_refused("long message", slice_make(large, sizeof(large)), TLS_HANDSHAKE_TOO_LARGE, true);
}

// A peer that never comes to an end: input is bounded.
static void test_input_cap(void **state) {
    struct chain out;
    uint8_t record[6] = {22, 3, 1, 0, 1};
    size_t n = 0;
    enum tls_step step = TLS_STEP_MORE;
    chain_init(&out, &fix_pool);
    struct tls_handshake *hs = tls_handshake_new_server(server_ctx);
    // A hello of 16 KiB, one byte a record.
    static const uint8_t head[] = {1, 0, 0x3f, 0xff};
    for (n = 0; step == TLS_STEP_MORE && n < 1 << 20; n++) {
        record[5] = n < sizeof(head) ? head[n] : 0;
        step = tls_handshake_recv(hs, slice_make(record, sizeof(record)), FIX_NOW, &out);
    }
    assert_int_equal(step, TLS_STEP_ERROR);
    assert_int_equal(tls_handshake_error(hs), TLS_HANDSHAKE_TOO_LARGE);
    assert_true(n * sizeof(record) <= 96 * 1024 + sizeof(record));
    chain_clear(&out);
    tls_handshake_free(hs);
}

// ---- Dishonest peers

static enum ssl_private_key_result_t sign_garbage(SSL *ssl, uint8_t *out, size_t *ret_len,
                                                  size_t max, uint16_t algorithm, const uint8_t *in,
                                                  size_t len) {
    *ret_len = 64;
    memset(out, 0x30, *ret_len);
    return ssl_private_key_success;
}
static enum ssl_private_key_result_t no_decrypt(SSL *ssl, uint8_t *out, size_t *ret_len, size_t max,
                                                const uint8_t *in, size_t len) {
    return ssl_private_key_failure;
}
static enum ssl_private_key_result_t no_complete(SSL *ssl, uint8_t *out, size_t *ret_len,
                                                 size_t max) {
    return ssl_private_key_failure;
}

// A good certificate without its key.
static void test_stolen_certificate(void **state) {
    static const SSL_PRIVATE_KEY_METHOD method = {sign_garbage, no_decrypt, no_complete};
    for (int we_connect = 0; we_connect < 2; we_connect++) {
        int alert;
        SSL_CTX *oracle = fix_oracle_ctx(&root, FIX_SERVER);
        SSL_CTX_set_private_key_method(oracle, &method);
        enum tls_err err = run(oracle, we_connect ? client_ctx : server_ctx, we_connect, &alert);
        assert_int_equal(err, TLS_BAD_SIGNATURE);
        assert_int_equal(alert, SSL_AD_DECRYPT_ERROR);
        SSL_CTX_free(oracle);
    }
}

// The client's last flight is changed on the way.
static void test_changed_finished(void **state) {
    struct chain up, down;
    uint8_t bytes[16384];
    chain_init(&up, &fix_pool);
    chain_init(&down, &fix_pool);
    struct tls_handshake *client = tls_handshake_new_client(client_ctx, NULL, 0);
    struct tls_handshake *server = tls_handshake_new_server(server_ctx);
    tls_handshake_recv(client, slice_make(NULL, 0), FIX_NOW, &up);
    size_t n = chain_peek(&up, bytes, sizeof(bytes));
    chain_clear(&up);
    tls_handshake_recv(server, slice_make(bytes, n), FIX_NOW, &down);
    n = chain_peek(&down, bytes, sizeof(bytes));
    chain_clear(&down);
    assert_int_equal(tls_handshake_recv(client, slice_make(bytes, n), FIX_NOW, &up), TLS_STEP_DONE);
    n = chain_peek(&up, bytes, sizeof(bytes));
    chain_clear(&up);
    bytes[n - 1] ^= 1;
    assert_int_equal(tls_handshake_recv(server, slice_make(bytes, n), FIX_NOW, &down),
                     TLS_STEP_ERROR);
    assert_int_equal(tls_handshake_error(server), TLS_BAD_RECORD_MAC);
    assert_string_not_equal(tls_handshake_error_detail(server), "");
    assert_string_not_equal(tls_err_text(TLS_BAD_RECORD_MAC), "");
    assert_false(chain_empty(&down)); // the alert
    chain_clear(&down);
    tls_handshake_free(client);
    tls_handshake_free(server);
}

// Given up half way, at any point.
static void test_abandoned(void **state) {
    for (size_t cut = 0; cut < 4; cut++) {
        struct chain to_server, to_client;
        chain_init(&to_server, &fix_pool);
        chain_init(&to_client, &fix_pool);
        struct tls_handshake *client = tls_handshake_new_client(client_ctx, NULL, 0);
        struct tls_handshake *server = tls_handshake_new_server(server_ctx);
        if (cut > 0) {
            tls_handshake_recv(client, slice_make(NULL, 0), FIX_NOW, &to_server);
        }
        if (cut > 1) {
            uint8_t bytes[8192];
            size_t n = chain_peek(&to_server, bytes, sizeof(bytes));
            n = cut == 2 ? n / 2 : n;
            tls_handshake_recv(server, slice_make(bytes, n), FIX_NOW, &to_client);
        }
        chain_clear(&to_server);
        chain_clear(&to_client);
        tls_handshake_free(client);
        tls_handshake_free(server);
    }
    tls_handshake_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_we_serve),         cmocka_unit_test(test_we_connect),
        cmocka_unit_test(test_choices),          cmocka_unit_test(test_key_shares),
        cmocka_unit_test(test_early_requests),   cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_input_cap),        cmocka_unit_test(test_stolen_certificate),
        cmocka_unit_test(test_changed_finished), cmocka_unit_test(test_abandoned),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
