// SPDX-License-Identifier: Apache-2.0
//
// Handshakes of ours against each other and against BoringSSL's own client and server.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/tls/tls_verify.h"
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

static void check_slice(struct slice a, const char *text) {
    assert_int_equal(a.len, strlen(text));
    assert_memory_equal(a.ptr, text, a.len);
}

// Both sides agree and see each other's identity, whatever the chunks.
static void test_mutual(void **state) {
    static const size_t chunks[] = {0, 1, 2, 3, 5, 7, 64, 333, 1400};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct fix_pair pair;
        fix_pair_run(&pair, client_ctx, server_ctx, FIX_SERVER, FIX_NOW, chunks[i]);
        assert_int_equal(pair.client_step, TLS_STEP_DONE);
        assert_int_equal(pair.server_step, TLS_STEP_DONE);
        const struct tls_peer *server = tls_handshake_peer(pair.client);
        const struct tls_peer *client = tls_handshake_peer(pair.server);
        check_slice(server->identity, FIX_SERVER);
        check_slice(client->identity, FIX_CLIENT);
        assert_true(server->is_server);
        assert_false(client->is_server);
        assert_int_equal(server->not_after, FIX_NOW + FIX_DAY);
        assert_int_equal(server->suite, TLS_SUITE_AES_128_GCM_SHA256);
        assert_int_equal(server->group, SSL_GROUP_X25519_MLKEM768);
        assert_int_equal(client->suite, server->suite);
        assert_int_equal(client->group, server->group);
        fix_pair_free(&pair);
    }
}

static void check_pair(struct tls_ctx *client, struct tls_ctx *server, const char *expected,
                       int64_t now_s, enum tls_err client_err, enum tls_err server_err) {
    static const size_t chunks[] = {0, 1};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct fix_pair pair;
        fix_pair_run(&pair, client, server, expected, now_s, chunks[i]);
        assert_string_equal(tls_err_label(tls_handshake_error(pair.client)),
                            tls_err_label(client_err));
        assert_string_equal(tls_err_label(tls_handshake_error(pair.server)),
                            tls_err_label(server_err));
        assert_true((pair.client_step == TLS_STEP_ERROR) == (client_err != TLS_OK));
        assert_true((pair.server_step == TLS_STEP_ERROR) == (server_err != TLS_OK));
        fix_pair_free(&pair);
    }
}

static void test_identity(void **state) {
    struct tls_ctx *other_td = fix_ctx(&root, "spiffe://other/ns/a/sa/x", NULL, NULL);
    check_pair(client_ctx, server_ctx, FIX_CLIENT, FIX_NOW, TLS_IDENTITY_MISMATCH,
               TLS_PEER_CERTIFICATE_UNKNOWN);
    // A client of another trust domain: its own handshake is over before the server judges it.
    check_pair(other_td, server_ctx, FIX_SERVER, FIX_NOW, TLS_OK, TLS_TRUST_DOMAIN_MISMATCH);
    // No identity expected: any of the own trust domain.
    check_pair(client_ctx, other_td, NULL, FIX_NOW, TLS_TRUST_DOMAIN_MISMATCH,
               TLS_PEER_CERTIFICATE_UNKNOWN);
    tls_ctx_unref(other_td);
}

static void test_time(void **state) {
    check_pair(client_ctx, server_ctx, NULL, FIX_NOW - TLS_CA_BACKDATE_S, TLS_OK, TLS_OK);
    check_pair(client_ctx, server_ctx, NULL, FIX_NOW + FIX_DAY - 1, TLS_OK, TLS_OK);
    // The clock jumps a day both ways; cached chains do not help.
    check_pair(client_ctx, server_ctx, NULL, FIX_NOW - FIX_DAY, TLS_NOT_YET_VALID,
               TLS_PEER_CERTIFICATE_EXPIRED);
    check_pair(client_ctx, server_ctx, NULL, FIX_NOW + FIX_DAY, TLS_EXPIRED,
               TLS_PEER_CERTIFICATE_EXPIRED);
    check_pair(client_ctx, server_ctx, NULL, FIX_NOW, TLS_OK, TLS_OK);
}

static void test_unknown_ca(void **state) {
    struct fix_ca other;
    fix_ca_init(&other); // the same name, another key
    struct tls_ctx *stranger = fix_ctx(&other, FIX_CLIENT, NULL, NULL);
    check_pair(stranger, server_ctx, NULL, FIX_NOW, TLS_UNTRUSTED, TLS_PEER_UNKNOWN_CA);
    struct tls_ctx_params both = {0};
    char *bundle = xasprintf("%s%s", root.cert_pem, other.cert_pem);
    both.roots_pem = slice_str(bundle);
    // While roots are exchanged, each side trusts both.
    struct tls_ctx *client = fix_ctx(&other, FIX_CLIENT, &both, NULL);
    check_pair(client, server_ctx, NULL, FIX_NOW, TLS_OK, TLS_UNTRUSTED);
    struct tls_ctx *server = fix_ctx(&root, FIX_SERVER, &both, NULL);
    check_pair(client, server, NULL, FIX_NOW, TLS_OK, TLS_OK);
    tls_ctx_unref(client);
    tls_ctx_unref(server);
    tls_ctx_unref(stranger);
    free(bundle);
    fix_ca_fini(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_unknown_ca),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
