// SPDX-License-Identifier: Apache-2.0
//
// Which key shares a hello brings: what was remembered of whom, for how long, and what becomes of
// servers that change their mind. Servers are BoringSSL's own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cur.h"
#include "common/tls/tls_shares_priv.h"
#include "tests/unit/tls/tls_fixture.h"

enum { HYBRID = SSL_GROUP_X25519_MLKEM768, X25519 = SSL_GROUP_X25519, P256 = SSL_GROUP_SECP256R1 };

static struct fix_ca root;

static int setup(void **state) {
    fix_pool_setup(state);
    fix_ca_init(&root);
    return 0;
}

static int teardown(void **state) {
    fix_ca_fini(&root);
    return fix_pool_teardown(state);
}

static struct {
    int n_shares, n_groups;
    uint16_t shares[4], groups[4];
} first_hello; // of the last handshake

static enum ssl_select_cert_result_t on_hello(const SSL_CLIENT_HELLO *hello) {
    const uint8_t *data;
    size_t len;
    memset(&first_hello, 0, sizeof(first_hello));
    CHECK(SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_key_share, &data, &len) == 1);
    struct cur cur = cur_make(slice_make(data, len));
    for (cur_u16(&cur); !cur_done(&cur) && first_hello.n_shares < 4;) {
        first_hello.shares[first_hello.n_shares++] = cur_u16(&cur);
        cur_bytes(&cur, cur_u16(&cur));
    }
    CHECK(SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_supported_groups, &data, &len) ==
          1);
    cur = cur_make(slice_make(data, len));
    for (cur_u16(&cur); !cur_done(&cur) && first_hello.n_groups < 4;) {
        first_hello.groups[first_hello.n_groups++] = cur_u16(&cur);
    }
    return ssl_select_cert_success;
}

// One handshake with a server that has these groups; `name`: what the client calls it. The hello
// has to bring `shares`, and be asked for another one if `is_retried`.
static void shake(struct tls_ctx *client, const char *name, const char *expected,
                  const uint16_t groups[2], const uint16_t shares[2], bool is_retried) {
    struct slice id = slice_str(expected);
    SSL_CTX *oracle = fix_oracle_ctx(&root, FIX_SERVER);
    SSL_CTX_set_options(oracle, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_select_certificate_cb(oracle, on_hello);
    assert_int_equal(SSL_CTX_set1_group_ids(oracle, groups, groups[1] != 0 ? 2 : 1), 1);
    SSL *ssl = fix_oracle_new(oracle, true);
    struct tls_handshake *hs = tls_handshake_new_client(client, &id, 1);
    struct tls_record *record = NULL;
    uint8_t *rest = NULL;
    size_t rest_len;
    tls_handshake_set_server(hs, slice_str(name));
    fix_oracle_run(ssl, hs, 0, &record, &rest, &rest_len);
    assert_true((record != NULL) == (strcmp(expected, FIX_SERVER) == 0));
    assert_int_equal(first_hello.n_shares, shares[1] != 0 ? 2 : 1);
    assert_int_equal(first_hello.shares[0], shares[0]);
    assert_int_equal(first_hello.shares[1], shares[1]);
    assert_int_equal(SSL_used_hello_retry_request(ssl), is_retried);
    // What is offered never changes.
    assert_int_equal(first_hello.n_groups, 3);
    assert_int_equal(first_hello.groups[0], HYBRID);
    if (record != NULL) {
        assert_int_equal(tls_handshake_peer(hs)->group, groups[0]);
    }
    tls_handshake_free(hs);
    tls_record_free(record);
    free(rest);
    SSL_free(ssl);
    SSL_CTX_free(oracle);
}

static const uint16_t hybrid[2] = {HYBRID}, x25519[2] = {X25519}, p256[2] = {P256},
                      both[2] = {HYBRID, X25519}, second_p256[2] = {HYBRID, P256};

static void test_hello_follows_the_server(void **state) {
    struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    struct tls_ctx *renewed = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    shake(client, "a", FIX_SERVER, x25519, hybrid, true);
    shake(client, "a", FIX_SERVER, x25519, x25519, false);
    shake(client, "a", FIX_SERVER, x25519, x25519, false);
    shake(renewed, "a", FIX_SERVER, x25519, x25519, false); // known to the whole process
    shake(renewed, "b", FIX_SERVER, both, hybrid, false);
    shake(client, "c", FIX_SERVER, both, both, false); // unknown, but its mesh has such servers
    shake(client, "a", FIX_SERVER, p256, x25519, true);
    shake(client, "a", FIX_SERVER, p256, p256, false);
    shake(client, "d", FIX_SERVER, p256, second_p256, false);
    shake(client, "a", FIX_SERVER, both, p256, true); // upgraded: it asks for the hybrid
    shake(renewed, "a", FIX_SERVER, both, hybrid, false);
    tls_ctx_unref(client);
    tls_ctx_unref(renewed);
}

static void test_a_stranger_teaches_nothing(void **state) {
    struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    const char *other = "spiffe://cluster.local/ns/b/sa/other";
    shake(client, "stranger", other, x25519, hybrid, true);
    shake(client, "stranger", other, x25519, hybrid, true);
    tls_ctx_unref(client);
}

static void choose_is(struct tls_ctx *ctx, uint64_t server, int64_t now_s, const uint16_t want[2]) {
    struct tls_shares shares = tls_shares_choose(ctx, server, now_s);
    assert_int_equal(shares.n, (want[0] != 0) + (want[1] != 0));
    assert_memory_equal(shares.groups, want, 2 * sizeof(*want));
}

static void refuse(struct tls_ctx *ctx, uint64_t server, int64_t now_s, uint16_t group) {
    struct tls_shares shares = tls_shares_choose(ctx, server, now_s);
    tls_shares_note(ctx, server, now_s, &shares, group);
}

// A server that would stay with whatever share it sees is asked for the hybrid every 10 minutes,
// no matter how many hellos it gets.
static void test_probes(void **state) {
    struct tls_ctx *ctx = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    const uint64_t server = UINT64_C(0x1234) << 48 | 77;
    int64_t t = (INT64_C(1) << 32) - 300; // its low half wraps meanwhile
    refuse(ctx, server, t, X25519);
    for (int i = 0; i < 100; i++) {
        choose_is(ctx, server, t + 6 * i, x25519);
        refuse(ctx, server, t + 6 * i, X25519);
    }
    choose_is(ctx, server, t + 599, x25519);
    choose_is(ctx, server, t + 600, both);
    choose_is(ctx, server, t - 1, both); // the clock was set back
    refuse(ctx, server, t + 600, X25519);
    choose_is(ctx, server, t + 1199, x25519);
    refuse(ctx, server, t + 1200, HYBRID);
    struct tls_ctx *other = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    choose_is(other, server, t + 1200, hybrid);
    tls_ctx_unref(other);
    tls_ctx_unref(ctx);
}

// Servers of one slot, and those of which nothing is known.
static void test_bounds(void **state) {
    struct tls_ctx *ctx = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    struct tls_ctx *fresh = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    const uint64_t one = UINT64_C(0x1111) << 48 | 99, two = UINT64_C(0x2222) << 48 | 99;
    refuse(ctx, one, FIX_NOW, X25519);
    choose_is(fresh, one, FIX_NOW, x25519);
    choose_is(fresh, two, FIX_NOW, hybrid);
    refuse(fresh, two, FIX_NOW, HYBRID); // forgets nothing of the other
    choose_is(fresh, one, FIX_NOW, x25519);
    refuse(ctx, two, FIX_NOW, P256);
    choose_is(fresh, two, FIX_NOW, p256);
    choose_is(fresh, one, FIX_NOW, hybrid);
    refuse(ctx, 0, FIX_NOW, X25519);
    choose_is(fresh, 0, FIX_NOW, hybrid);
    tls_ctx_unref(ctx);
    tls_ctx_unref(fresh);
}

// Policies with groups of one sort keep them, whatever is known.
static void test_policies(void **state) {
    const struct tls_ctx_params fips = {.compliance = TLS_COMPLIANCE_FIPS};
    const struct tls_ctx_params pqc = {.compliance = TLS_COMPLIANCE_PQC};
    struct tls_ctx *std = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    struct tls_ctx *strict[] = {fix_ctx(&root, FIX_CLIENT, &fips, NULL),
                                fix_ctx(&root, FIX_CLIENT, &pqc, NULL)};
    const uint16_t none[2] = {0};
    const uint64_t known = 555, unknown = 556;
    refuse(std, known, FIX_NOW, X25519);
    for (size_t i = 0; i < ARRAY_LEN(strict); i++) {
        choose_is(strict[i], known, FIX_NOW, none);
        refuse(strict[i], unknown, FIX_NOW, P256);
        tls_ctx_unref(strict[i]);
    }
    tls_ctx_unref(std);
    std = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    choose_is(std, unknown, FIX_NOW, hybrid);
    tls_ctx_unref(std);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_follows_the_server),
        cmocka_unit_test(test_a_stranger_teaches_nothing),
        cmocka_unit_test(test_probes),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_policies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
