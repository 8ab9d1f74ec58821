// SPDX-License-Identifier: Apache-2.0
//
// Who is let in: chains, usages, SPIFFE names, CRLs, the cache of verified chains, live tunnels.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/mem.h>
#include <openssl/pem.h>

#include "common/base/buf.h"
#include "common/tls/tls_cert.h"
#include "common/tls/tls_pem.h"
#include "common/tls/tls_spiffe.h"
#include "common/tls/tls_verify_priv.h"
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

static void check_pair(struct tls_ctx *client, struct tls_ctx *server, const char *expected,
                       enum tls_err client_err, enum tls_err server_err) {
    for (int round = 0; round < 2; round++) { // the second may find the chains in the cache
        struct fix_pair pair;
        fix_pair_run(&pair, client, server, expected, FIX_NOW, 0);
        assert_string_equal(tls_err_label(tls_handshake_error(pair.client)),
                            tls_err_label(client_err));
        assert_string_equal(tls_err_label(tls_handshake_error(pair.server)),
                            tls_err_label(server_err));
        fix_pair_free(&pair);
    }
}

static void test_spiffe(void **state) {
    static const struct {
        const char *uri;
        bool ok;
    } cases[] = {
        {"spiffe://cluster.local/ns/default/sa/web", true},
        {"spiffe://td/ns/n/sa/a.b-c_D9", true},
        {"spiffe://td/ns/n/sa/", false},
        {"spiffe://td/ns//sa/a", false},
        {"spiffe:///ns/n/sa/a", false},
        {"spiffe://td/ns/n/sa/a/b", false},
        {"spiffe://td/ns/n/sa/a/", false},
        {"spiffe://td/ns/n/sa", false},
        {"spiffe://td/xs/n/sa/a", false},
        {"spiffe://td/ns/n/sb/a", false},
        {"spiffe://td/sa/n/ns/a", false},
        {"Spiffe://td/ns/n/sa/a", false},
        {"https://td/ns/n/sa/a", false},
        {"spiffe://td:80/ns/n/sa/a", false},
        {"spiffe://u@td/ns/n/sa/a", false},
        {"spiffe://td/ns/n/sa/a?x", false},
        {"spiffe://td/ns/n/sa/a#x", false},
        {"spiffe://td/ns/n/sa/a%20", false},
        {"spiffe://td/ns/n/sa/a b", false},
        {"spiffe://td/ns/../sa/a", false},
        {"spiffe://td/ns/n/sa/.", false},
        {"spiffe://td/ns/n/sa/...", true},
        {" spiffe://td/ns/n/sa/a", false},
        {"spiffe://", false},
        {"", false},
    };
    struct tls_spiffe id;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (tls_spiffe_parse(slice_str(cases[i].uri), &id) != cases[i].ok) {
            fail_msg("%s", cases[i].uri);
        }
    }
    assert_true(tls_spiffe_parse(slice_str("spiffe://td/ns/n/sa/a"), &id));
    assert_true(slice_eq_str(id.trust_domain, "td"));
    assert_true(slice_eq_str(id.ns, "n"));
    assert_true(slice_eq_str(id.sa, "a"));
    assert_false(tls_spiffe_parse(SLICE_LIT("spiffe://td/ns/n/sa/a\0b"), &id));
    char *longest = xmalloc(TLS_SPIFFE_MAX + 2);
    memset(longest, 'a', TLS_SPIFFE_MAX + 1);
    longest[TLS_SPIFFE_MAX + 1] = '\0';
    memcpy(longest, "spiffe://td/ns/n/sa/", 20);
    assert_false(tls_spiffe_parse(slice_str(longest), &id));
    longest[TLS_SPIFFE_MAX] = '\0';
    assert_true(tls_spiffe_parse(slice_str(longest), &id));
    free(longest);
}

// ---- Leaves

static struct tls_ctx *leaf_ctx(const char *sans, const char *ext_usage) {
    struct fix_leaf leaf;
    char *error = NULL;
    fix_leaf_init(&leaf, &root, sans, ext_usage, FIX_NOW - 100, FIX_NOW + FIX_DAY);
    struct tls_ctx_params params = {
        .cert_chain_pem = slice_str(leaf.cert_pem),
        .key_pem = slice_str(leaf.key_pem),
        .roots_pem = slice_str(root.cert_pem),
        .trust_domain = SLICE_LIT("cluster.local"),
    };
    struct tls_ctx *ctx = tls_ctx_new(&params, &error);
    if (ctx == NULL) {
        assert_non_null(error);
        free(error);
    }
    fix_leaf_fini(&leaf);
    return ctx;
}

static void test_usage(void **state) {
    static const struct {
        const char *usage;
        enum tls_err as_server_client_side, as_client_server_side;
    } cases[] = {
        {"serverAuth,clientAuth", TLS_OK, TLS_OK},     {NULL, TLS_OK, TLS_OK},
        {"serverAuth", TLS_OK, TLS_BAD_USAGE},         {"clientAuth", TLS_BAD_USAGE, TLS_OK},
        {"codeSigning", TLS_BAD_USAGE, TLS_BAD_USAGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_ctx *ctx = leaf_ctx("URI:" FIX_SERVER, cases[i].usage);
        enum tls_err err = cases[i].as_server_client_side;
        check_pair(client_ctx, ctx, NULL, err,
                   err == TLS_OK ? TLS_OK : TLS_PEER_UNSUPPORTED_CERTIFICATE);
        check_pair(ctx, server_ctx, NULL, TLS_OK, cases[i].as_client_server_side);
        tls_ctx_unref(ctx);
    }
}

static void test_sans(void **state) {
    // Names that are no URIs do not matter.
    struct tls_ctx *mixed = leaf_ctx("DNS:x.y,URI:" FIX_SERVER ",IP:10.0.0.1", NULL);
    check_pair(client_ctx, mixed, FIX_SERVER, TLS_OK, TLS_OK);
    check_pair(client_ctx, mixed, FIX_CLIENT, TLS_IDENTITY_MISMATCH, TLS_PEER_CERTIFICATE_UNKNOWN);
    struct fix_pair pair;
    fix_pair_run(&pair, mixed, server_ctx, NULL, FIX_NOW, 0);
    assert_true(slice_eq_str(tls_handshake_peer(pair.server)->identity, FIX_SERVER));
    fix_pair_free(&pair);
    tls_ctx_unref(mixed);
    // Without exactly one URI, which is a SPIFFE one, there is no identity of our own.
    static const char *const bad[] = {NULL, "DNS:x.y", "URI:spiffe://td/x",
                                      "URI:" FIX_SERVER ",URI:" FIX_CLIENT};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(leaf_ctx(bad[i], NULL));
    }
}

// Several trust domains that are one mesh: either side may show any of them.
static void test_aliases(void **state) {
    const struct slice aliases[] = {SLICE_LIT("old"), SLICE_LIT("older")};
    struct tls_ctx *old = leaf_ctx("URI:spiffe://old/ns/b/sa/server", NULL);
    struct tls_ctx *strange = leaf_ctx("URI:spiffe://strange/ns/b/sa/server", NULL);
    struct tls_ctx_params params = {.trust_domain = SLICE_LIT("cluster.local"),
                                    .trust_domain_aliases = aliases,
                                    .n_trust_domain_aliases = 2};
    struct tls_ctx *open = fix_ctx(&root, FIX_SERVER, &params, NULL);
    struct tls_spiffe id;
    assert_true(tls_spiffe_parse(SLICE_LIT(FIX_SERVER), &id));
    char *renamed =
        xasprintf("URI:spiffe://older/ns/%.*s/sa/%.*s", SLICE_ARG(id.ns), SLICE_ARG(id.sa));
    struct tls_ctx *server = leaf_ctx(renamed, NULL);
    // as client
    check_pair(old, server_ctx, NULL, TLS_OK, TLS_TRUST_DOMAIN_MISMATCH);
    check_pair(old, open, NULL, TLS_OK, TLS_OK);
    check_pair(strange, open, NULL, TLS_OK, TLS_TRUST_DOMAIN_MISMATCH);
    // as server: namespace and account must be the expected ones all the same
    check_pair(client_ctx, server, FIX_SERVER, TLS_IDENTITY_MISMATCH, TLS_PEER_CERTIFICATE_UNKNOWN);
    check_pair(open, server, FIX_SERVER, TLS_OK, TLS_OK);
    check_pair(open, server, "spiffe://old/ns/b/sa/another", TLS_IDENTITY_MISMATCH,
               TLS_PEER_CERTIFICATE_UNKNOWN);
    check_pair(open, strange, FIX_SERVER, TLS_IDENTITY_MISMATCH, TLS_PEER_CERTIFICATE_UNKNOWN);
    free(renamed);
    tls_ctx_unref(old);
    tls_ctx_unref(strange);
    tls_ctx_unref(open);
    tls_ctx_unref(server);
}

// A peer of another make without a usable name, or with two (X509-SVID section 2: exactly one URI).
static void test_peer_without_one_san(void **state) {
    static const char *const sans[] = {
        NULL,
        "DNS:cluster.local",
        "URI:spiffe://cluster.local/a",
        "URI:" FIX_SERVER ",URI:" FIX_CLIENT,
        "URI:" FIX_SERVER ",URI:spiffe://other/ns/a/sa/b",
        "URI:https://a/b,URI:" FIX_SERVER,
        "URI:" FIX_SERVER ",URI:" FIX_SERVER,
    };
    for (size_t i = 0; i < ARRAY_LEN(sans); i++) {
        struct fix_leaf leaf;
        fix_leaf_init(&leaf, &root, sans[i], NULL, FIX_NOW - 100, FIX_NOW + FIX_DAY);
        SSL_CTX *oracle = fix_oracle_ctx(&root, NULL);
        fix_oracle_use_leaf(oracle, &leaf);
        struct tls_record *record;
        uint8_t *rest;
        size_t rest_len;
        for (int is_server = 0; is_server < 2; is_server++) {
            SSL *ssl = fix_oracle_new(oracle, is_server);
            struct tls_handshake *hs = is_server ? tls_handshake_new_client(client_ctx, NULL, 0)
                                                 : tls_handshake_new_server(server_ctx);
            assert_false(fix_oracle_run(ssl, hs, 0, &record, &rest, &rest_len));
            assert_int_equal(tls_handshake_error(hs), TLS_BAD_SAN);
            tls_handshake_free(hs);
            SSL_free(ssl);
        }
        SSL_CTX_free(oracle);
        fix_leaf_fini(&leaf);
    }
}

// ---- Chains

static void test_intermediate(void **state) {
    struct fix_ca mid;
    fix_ca_init_below(&mid, &root);
    struct tls_ctx *ctx = fix_ctx(&mid, FIX_SERVER, NULL, NULL);
    check_pair(client_ctx, ctx, FIX_SERVER, TLS_OK, TLS_OK);
    tls_ctx_unref(ctx);
    // The intermediate itself may be the anchor.
    struct tls_ctx_params params = {.roots_pem = slice_str(mid.cert_pem)};
    struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, &params, NULL);
    ctx = fix_ctx(&mid, FIX_SERVER, NULL, NULL);
    check_pair(client, ctx, FIX_SERVER, TLS_OK, TLS_OK);
    tls_ctx_unref(client);
    tls_ctx_unref(ctx);
    // Left out, the path cannot be built.
    struct fix_leaf leaf;
    char *error = NULL;
    fix_leaf_init(&leaf, &mid, "URI:" FIX_SERVER, NULL, FIX_NOW - 100, FIX_NOW + FIX_DAY);
    params = (struct tls_ctx_params){
        .cert_chain_pem = slice_str(leaf.cert_pem),
        .key_pem = slice_str(leaf.key_pem),
        .roots_pem = slice_str(root.cert_pem),
    };
    ctx = tls_ctx_new(&params, &error);
    check_pair(client_ctx, ctx, NULL, TLS_UNTRUSTED, TLS_PEER_UNKNOWN_CA);
    tls_ctx_unref(ctx);
    // A leaf signs no others.
    struct fix_ca fake = {.cert_pem = leaf.cert_pem, .key_pem = leaf.key_pem};
    struct fix_leaf below;
    fix_leaf_init(&below, &fake, "URI:" FIX_SERVER, NULL, FIX_NOW - 100, FIX_NOW + FIX_DAY);
    char *chain = xasprintf("%s%s%s", below.cert_pem, leaf.cert_pem, mid.cert_pem);
    params.cert_chain_pem = slice_str(chain);
    params.key_pem = slice_str(below.key_pem);
    ctx = tls_ctx_new(&params, &error);
    check_pair(client_ctx, ctx, NULL, TLS_UNTRUSTED, TLS_PEER_UNKNOWN_CA);
    tls_ctx_unref(ctx);
    free(chain);
    fix_leaf_fini(&below);
    fix_leaf_fini(&leaf);
    fix_ca_fini(&mid);
}

// Several roots of one name, in either order: the right one is found.
static void test_roots_of_one_name(void **state) {
    struct fix_ca others[3];
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        fix_ca_init(&others[i]);
    }
    for (int order = 0; order < 2; order++) {
        char *bundle =
            xasprintf("%s%s%s%s", order ? root.cert_pem : others[0].cert_pem, others[1].cert_pem,
                      others[2].cert_pem, order ? others[0].cert_pem : root.cert_pem);
        struct tls_ctx_params params = {.roots_pem = slice_str(bundle)};
        struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, &params, NULL);
        check_pair(client, server_ctx, FIX_SERVER, TLS_OK, TLS_OK);
        tls_ctx_unref(client);
        free(bundle);
    }
    // A leaf that does not say which key signed it: each root is tried.
    for (int order = 0; order < 2; order++) {
        char *bundle = xasprintf("%s%s%s", order ? root.cert_pem : others[0].cert_pem,
                                 others[1].cert_pem, order ? others[0].cert_pem : root.cert_pem);
        struct tls_ctx_params params = {.roots_pem = slice_str(bundle)};
        struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, &params, NULL);
        struct tls_ctx *server = leaf_ctx("URI:" FIX_SERVER, NULL);
        check_pair(client, server, FIX_SERVER, TLS_OK, TLS_OK);
        tls_ctx_unref(client);
        tls_ctx_unref(server);
        free(bundle);
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        fix_ca_fini(&others[i]);
    }
}

// A root that was renewed with its old key: the expired one beside it does no harm.
static void test_renewed_root(void **state) {
    BIO *bio = BIO_new_mem_buf(root.cert_pem, -1);
    X509 *old = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(root.key_pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(ASN1_TIME_set_posix(X509_getm_notAfter(old), FIX_NOW - 1));
    assert_true(X509_sign(old, key, EVP_sha256()) > 0);
    char *old_pem = tls_pem_from_cert(old);
    for (int order = 0; order < 2; order++) {
        char *bundle =
            xasprintf("%s%s", order ? root.cert_pem : old_pem, order ? old_pem : root.cert_pem);
        struct tls_ctx_params params = {.roots_pem = slice_str(bundle)};
        struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, &params, NULL);
        check_pair(client, server_ctx, FIX_SERVER, TLS_OK, TLS_OK);
        tls_ctx_unref(client);
        free(bundle);
    }
    struct tls_ctx_params params = {.roots_pem = slice_str(old_pem)};
    struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, &params, NULL);
    check_pair(client, server_ctx, FIX_SERVER, TLS_EXPIRED, TLS_PEER_CERTIFICATE_EXPIRED);
    tls_ctx_unref(client);
    free(old_pem);
    X509_free(old);
    EVP_PKEY_free(key);
}

static void expect_chain(const struct slice *certs, size_t n, enum tls_err err) {
    struct tls_chain *chain = NULL;
    char detail[TLS_DETAIL_MAX] = "";
    enum tls_err got = tls_verify_chain(client_ctx, true, certs, n, FIX_NOW, &chain, detail);
    assert_string_equal(tls_err_label(got), tls_err_label(err));
    tls_chain_unref(chain);
}

static void test_malformed(void **state) {
    struct slice certs[TLS_CHAIN_MAX + 1];
    struct tls_svid svid;
    char *error = NULL;
    assert_true(tls_ca_sign(root.ca, slice_str(FIX_SERVER), FIX_NOW, 3600, &svid, &error));
    BIO *bio = BIO_new_mem_buf(svid.cert_chain_pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    uint8_t *der = NULL;
    size_t len = (size_t)i2d_X509(cert, &der);
    for (size_t i = 0; i < ARRAY_LEN(certs); i++) {
        certs[i] = slice_make(der, len);
    }
    expect_chain(certs, 0, TLS_NO_CERTIFICATE);
    expect_chain(certs, 1, TLS_OK);
    expect_chain(certs, TLS_CHAIN_MAX, TLS_OK);
    expect_chain(certs, TLS_CHAIN_MAX + 1, TLS_BAD_CERTIFICATE);
    for (size_t cut = 0; cut < len; cut += 7) {
        certs[0] = slice_make(der, cut);
        expect_chain(certs, 1, TLS_BAD_CERTIFICATE);
    }
    uint8_t *longer = xcalloc(1, len + 1);
    memcpy(longer, der, len);
    certs[0] = slice_make(longer, len + 1);
    expect_chain(certs, 1, TLS_BAD_CERTIFICATE);
    free(longer);
    OPENSSL_free(der);
    X509_free(cert);
    BIO_free(bio);
    tls_svid_fini(&svid);
}

// ---- CRLs

static void test_crl(void **state) {
    struct fix_ca mid, stranger;
    char *leaf_serial, *error = NULL;
    fix_ca_init_below(&mid, &root);
    fix_ca_init(&stranger); // the root's name, another key
    struct tls_ctx *server = fix_ctx(&mid, FIX_SERVER, NULL, &leaf_serial);
    struct tls_cert_info *mid_info;
    assert_int_equal(tls_cert_parse(slice_str(mid.cert_pem), &mid_info, &error), 1);
    struct slice serials[] = {slice_str(leaf_serial), slice_str(mid_info[0].serial_hex)};
    // Expired long ago: still believed (as ztunnel does).
    char *by_mid = tls_ca_make_crl(mid.ca, &serials[0], 1, FIX_NOW - 10 * FIX_DAY, FIX_DAY);
    char *by_root = tls_ca_make_crl(root.ca, &serials[1], 1, FIX_NOW, FIX_DAY);
    char *by_stranger = tls_ca_make_crl(stranger.ca, serials, 2, FIX_NOW, FIX_DAY);
    char *wrong_issuer = tls_ca_make_crl(root.ca, &serials[0], 1, FIX_NOW, FIX_DAY);
    char *empty = tls_ca_make_crl(root.ca, NULL, 0, FIX_NOW, FIX_DAY);
    char *both = xasprintf("%s%s", empty, by_mid);
    const struct {
        const char *crl;
        enum tls_err err;
    } cases[] = {
        {by_mid, TLS_REVOKED}, {by_root, TLS_REVOKED}, // the intermediate
        {by_stranger, TLS_OK}, {wrong_issuer, TLS_OK}, {empty, TLS_OK}, {both, TLS_REVOKED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_ctx_params params = {.crl_pem = slice_str(cases[i].crl), .crl_generation = i};
        struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, &params, NULL);
        check_pair(client, server, FIX_SERVER, cases[i].err,
                   cases[i].err == TLS_OK ? TLS_OK : TLS_PEER_CERTIFICATE_REVOKED);
        // The same for a client's chain at the server.
        struct tls_ctx *refusing = fix_ctx(&root, FIX_SERVER, &params, NULL);
        check_pair(server, refusing, NULL, TLS_OK, cases[i].err);
        tls_ctx_unref(refusing);
        tls_ctx_unref(client);
    }
    // One list as DER.
    BIO *bio = BIO_new_mem_buf(by_mid, -1);
    X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
    uint8_t *der = NULL;
    int der_len = i2d_X509_CRL(crl, &der);
    struct tls_ctx_params der_params = {.crl_pem = slice_make(der, (size_t)der_len)};
    struct tls_ctx *client = fix_ctx(&root, FIX_CLIENT, &der_params, NULL);
    check_pair(client, server, FIX_SERVER, TLS_REVOKED, TLS_PEER_CERTIFICATE_REVOKED);
    tls_ctx_unref(client);
    OPENSSL_free(der);
    X509_CRL_free(crl);
    BIO_free(bio);
    free(by_mid);
    free(by_root);
    free(by_stranger);
    free(wrong_issuer);
    free(empty);
    free(both);
    free(leaf_serial);
    tls_cert_infos_free(mid_info, 1);
    tls_ctx_unref(server);
    fix_ca_fini(&mid);
    fix_ca_fini(&stranger);
}

// ---- Live tunnels

static void test_recheck(void **state) {
    struct fix_pair pair;
    char *serial;
    struct tls_ctx *server = fix_ctx(&root, FIX_SERVER, NULL, &serial);
    fix_pair_run(&pair, client_ctx, server, FIX_SERVER, FIX_NOW, 0);
    struct tls_peer *seen_by_client = tls_peer_dup(tls_handshake_peer(pair.client));
    struct tls_peer *seen_by_server = tls_peer_dup(tls_handshake_peer(pair.server));
    fix_pair_free(&pair);
    assert_true(slice_eq_str(seen_by_client->identity, FIX_SERVER));
    // What runs outlives its certificates, and a clock that is set wrong.
    static const int64_t times[] = {FIX_NOW, FIX_NOW + FIX_DAY, FIX_NOW + 9 * FIX_DAY,
                                    FIX_NOW - FIX_DAY};
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        assert_int_equal(tls_peer_recheck(client_ctx, seen_by_client, times[i]), TLS_OK);
        assert_int_equal(tls_peer_recheck(server, seen_by_server, times[i]), TLS_OK);
    }

    struct slice serials[] = {slice_str(serial)};
    char *crl = tls_ca_make_crl(root.ca, serials, 1, FIX_NOW, FIX_DAY);
    struct tls_ctx_params params = {.crl_pem = slice_str(crl), .crl_generation = 1};
    struct tls_ctx *after = fix_ctx(&root, FIX_CLIENT, &params, NULL);
    for (size_t i = 0; i < ARRAY_LEN(times); i++) { // also of an expired one
        assert_int_equal(tls_peer_recheck(after, seen_by_client, times[i]), TLS_REVOKED);
        assert_int_equal(tls_peer_recheck(after, seen_by_server, times[i]), TLS_OK);
    }
    tls_ctx_unref(after);

    struct fix_ca other;
    fix_ca_init(&other);
    params = (struct tls_ctx_params){.roots_pem = slice_str(other.cert_pem)};
    after = fix_ctx(&root, FIX_CLIENT, &params, NULL);
    assert_int_equal(tls_peer_recheck(after, seen_by_client, FIX_NOW), TLS_UNTRUSTED);
    tls_ctx_unref(after);
    params = (struct tls_ctx_params){.trust_domain = SLICE_LIT("elsewhere")};
    after = fix_ctx(&root, FIX_SERVER, &params, NULL);
    assert_int_equal(tls_peer_recheck(after, seen_by_server, FIX_NOW), TLS_TRUST_DOMAIN_MISMATCH);
    tls_ctx_unref(after);
    fix_ca_fini(&other);
    free(crl);
    free(serial);
    tls_peer_free(seen_by_client);
    tls_peer_free(seen_by_server);
    tls_peer_free(NULL);
    tls_ctx_unref(server);
}

static void test_peer_export(void **state) {
    struct tls_ctx *two = leaf_ctx("DNS:x.y,URI:" FIX_SERVER, NULL);
    struct fix_pair pair;
    struct buf bytes, again;
    fix_pair_run(&pair, client_ctx, two, FIX_SERVER, FIX_NOW, 0);
    buf_init(&bytes, 65536);
    buf_init(&again, 65536);
    assert_true(tls_peer_export(tls_handshake_peer(pair.client), &bytes));
    fix_pair_free(&pair);
    struct tls_peer *peer = tls_peer_import(buf_slice(&bytes));
    assert_non_null(peer);
    assert_true(slice_eq_str(peer->identity, FIX_SERVER));
    assert_true(peer->is_server);
    assert_int_equal(peer->not_after, FIX_NOW + FIX_DAY);
    assert_int_equal(tls_peer_recheck(client_ctx, peer, FIX_NOW), TLS_OK);
    assert_true(tls_peer_export(peer, &again));
    assert_true(slice_eq(buf_slice(&bytes), buf_slice(&again)));
    tls_peer_free(peer);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_null(tls_peer_import(slice_make(bytes.ptr, len)));
    }
    for (size_t i = 0; i < bytes.len; i++) { // any byte may be wrong: no crash, no trust
        bytes.ptr[i] ^= 0x80;
        peer = tls_peer_import(buf_slice(&bytes));
        bytes.ptr[i] ^= 0x80;
        tls_peer_free(peer);
    }
    buf_fini(&bytes);
    buf_fini(&again);
    tls_ctx_unref(two);
}

// ---- Cache

static void handshake(struct tls_ctx *client, struct tls_ctx *server, int64_t now_s) {
    struct fix_pair pair;
    fix_pair_run(&pair, client, server, NULL, now_s, 0);
    fix_pair_free(&pair);
}

static void check_stats(uint64_t hits, uint64_t misses, uint64_t n_entries) {
    static struct tls_verify_stats last;
    struct tls_verify_stats now;
    tls_verify_stats(&now);
    assert_int_equal(now.hits - last.hits, hits);
    assert_int_equal(now.misses - last.misses, misses);
    assert_int_equal(now.n_entries, n_entries);
    last = now;
}

static void test_cache(void **state) {
    struct tls_verify_stats stats;
    tls_verify_cache_clear();
    tls_verify_stats(&stats);
    assert_int_equal(stats.bytes, 0);
    check_stats(stats.hits, stats.misses, 0);
    handshake(client_ctx, server_ctx, FIX_NOW);
    check_stats(0, 2, 2); // each side verified the other
    for (int i = 0; i < 5; i++) {
        handshake(client_ctx, server_ctx, FIX_NOW);
    }
    check_stats(10, 0, 2);
    handshake(server_ctx, server_ctx, FIX_NOW); // known as a server, not yet as a client
    check_stats(1, 1, 3);
    handshake(client_ctx, server_ctx, FIX_NOW + FIX_DAY); // kept, but its time is over
    check_stats(0, 1, 3);
    handshake(client_ctx, server_ctx, FIX_NOW + FIX_DAY - 1);
    check_stats(2, 0, 3);
    // Another bundle or CRL generation: other keys.
    struct tls_ctx_params params = {.crl_generation = 7};
    struct tls_ctx *later = fix_ctx(&root, FIX_CLIENT, &params, NULL);
    handshake(later, server_ctx, FIX_NOW);
    check_stats(0, 2, 5);
    tls_ctx_unref(later);
    tls_verify_stats(&stats);
    assert_true(stats.bytes > 5 * 400 && stats.bytes < 5 * 1200);
    print_message("a cached chain of one certificate: %zu bytes\n", (size_t)stats.bytes / 5);
    tls_verify_cache_clear();
    check_stats(0, 0, 0);
}

// More chains than it holds: the ones used longest ago go.
static void test_cache_eviction(void **state) {
    struct tls_verify_stats before, after;
    uint8_t key[TLS_SHA256_LEN], first[TLS_SHA256_LEN];
    struct slice san = SLICE_LIT("spiffe://td/ns/n/sa/a");
    tls_verify_cache_clear();
    tls_verify_stats(&before);
    for (uint32_t i = 0; i < TLS_CACHE_MAX + 100; i++) {
        struct slice cert = slice_make(&i, sizeof(i));
        struct tls_chain *chain = tls_chain_new(false, &cert, 1, san);
        tls_sha256(cert, key);
        if (i == 0) {
            memcpy(first, key, sizeof(key));
        }
        tls_cache_put(key, chain);
        tls_cache_put(key, chain); // twice makes no second entry
        tls_chain_unref(chain);
        chain = tls_cache_get(first, FIX_NOW); // the first stays, being used
        assert_non_null(chain);
        tls_chain_unref(chain);
    }
    tls_verify_stats(&after);
    assert_int_equal(after.n_entries, TLS_CACHE_MAX);
    assert_int_equal(after.evictions - before.evictions, 100);
    uint32_t second = 1, last = TLS_CACHE_MAX + 99;
    tls_sha256(slice_make(&second, sizeof(second)), key);
    assert_null(tls_cache_get(key, FIX_NOW));
    tls_sha256(slice_make(&last, sizeof(last)), key);
    struct tls_chain *chain = tls_cache_get(key, FIX_NOW);
    assert_non_null(chain);
    tls_verify_cache_clear();
    assert_true(slice_eq(chain->san, san)); // a reference outlives the cache's
    tls_chain_unref(chain);
    tls_verify_stats(&after);
    assert_int_equal(after.n_entries, 0);
    assert_int_equal(after.bytes, 0);
}

// ---- Contexts

static void expect_bad_ctx(struct tls_ctx_params params, const char *reason) {
    char *error = NULL;
    struct tls_ctx *ctx = tls_ctx_new(&params, &error);
    assert_null(ctx);
    assert_non_null(error);
    if (strstr(error, reason) == NULL) {
        fail_msg("'%s' does not say '%s'", error, reason);
    }
    free(error);
}

static void test_bad_ctx(void **state) {
    struct tls_svid svid, other;
    char *error = NULL;
    assert_true(tls_ca_sign(root.ca, slice_str(FIX_CLIENT), FIX_NOW, FIX_DAY, &svid, &error));
    assert_true(tls_ca_sign(root.ca, slice_str(FIX_CLIENT), FIX_NOW, FIX_DAY, &other, &error));
    const struct tls_ctx_params good = {
        .cert_chain_pem = slice_str(svid.cert_chain_pem),
        .key_pem = slice_str(svid.key_pem),
        .roots_pem = slice_str(svid.roots_pem),
    };
    struct tls_ctx *ctx = tls_ctx_new(&good, &error);
    assert_true(slice_eq_str(tls_ctx_identity(ctx), FIX_CLIENT));
    assert_true(slice_eq_str(tls_ctx_trust_domain(ctx), "cluster.local"));
    assert_int_equal(tls_ctx_not_before(ctx), FIX_NOW - TLS_CA_BACKDATE_S);
    assert_int_equal(tls_ctx_not_after(ctx), FIX_NOW + FIX_DAY);
    assert_int_not_equal(tls_ctx_generation(ctx), tls_ctx_generation(client_ctx));
    tls_ctx_unref(tls_ctx_ref(ctx));
    tls_ctx_unref(ctx);

    struct tls_ctx_params p = good;
    p.cert_chain_pem = slice_make(NULL, 0);
    expect_bad_ctx(p, "certificate chain: no certificate");
    p.cert_chain_pem = slice_head(good.cert_chain_pem, good.cert_chain_pem.len - 40);
    expect_bad_ctx(p, "certificate chain");
    p = good;
    p.key_pem = SLICE_LIT("nothing");
    expect_bad_ctx(p, "private key");
    p.key_pem = slice_str(other.key_pem);
    expect_bad_ctx(p, "private key and certificate");
    p = good;
    p.roots_pem = SLICE_LIT("");
    expect_bad_ctx(p, "trust bundle: no certificate");
    p = good;
    p.crl_pem = SLICE_LIT("not a CRL");
    expect_bad_ctx(p, "CRL");
    p.crl_pem = SLICE_LIT("0\x03xyz");
    expect_bad_ctx(p, "CRL");
    tls_svid_fini(&svid);
    tls_svid_fini(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spiffe),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_sans),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_peer_without_one_san),
        cmocka_unit_test(test_intermediate),
        cmocka_unit_test(test_roots_of_one_name),
        cmocka_unit_test(test_renewed_root),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_crl),
        cmocka_unit_test(test_recheck),
        cmocka_unit_test(test_peer_export),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_eviction),
        cmocka_unit_test(test_bad_ctx),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
