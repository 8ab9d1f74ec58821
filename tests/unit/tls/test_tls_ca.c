// SPDX-License-Identifier: Apache-2.0
//
// The built-in CA, certificates as data, keys and signing requests.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "common/tls/tls_cert.h"
#include "common/tls/tls_hash.h"
#include "tests/unit/tls/tls_fixture.h"

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

static X509 *x509_of(const char *pem) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_non_null(cert);
    BIO_free(bio);
    return cert;
}

static void test_root(void **state) {
    struct tls_cert_info *info;
    char *error = NULL;
    assert_int_equal(tls_cert_parse(slice_str(root.cert_pem), &info, &error), 1);
    assert_string_equal(info->subject, "O=cluster.local");
    assert_string_equal(info->issuer, "O=cluster.local");
    assert_string_equal(info->identity, "");
    assert_true(info->is_ca);
    assert_int_equal(info->not_after - info->not_before, 3650 * FIX_DAY);
    assert_string_equal(info->pem, root.cert_pem);
    tls_cert_infos_free(info, 1);
    X509 *cert = x509_of(root.cert_pem);
    assert_int_equal(X509_get_key_usage(cert), X509v3_KU_KEY_CERT_SIGN | X509v3_KU_CRL_SIGN);
    assert_non_null(X509_get0_subject_key_id(cert));
    X509_free(cert);
    // A name that X.520 does not take gives the usual one.
    static const struct slice orgs[] = {
        {(const uint8_t *)"", 0},
        {(const uint8_t *)"\xff\xfe", 2},
        {(const uint8_t *)"0123456789012345678901234567890123456789012345678901234567890123456789",
         70},
    };
    for (size_t i = 0; i < ARRAY_LEN(orgs); i++) {
        char *cert_pem, *key_pem;
        tls_ca_make_root(orgs[i], FIX_NOW, &cert_pem, &key_pem);
        assert_int_equal(tls_cert_parse(slice_str(cert_pem), &info, &error), 1);
        assert_string_equal(info->subject, "O=cluster.local");
        tls_cert_infos_free(info, 1);
        free(cert_pem);
        tls_key_pem_free(key_pem);
    }
}

static void check_svid(const struct tls_ca *ca, size_t n_chain) {
    struct tls_svid svid;
    struct tls_cert_info *info;
    char *error = NULL;
    assert_true(tls_ca_sign(ca, slice_str(FIX_SERVER), FIX_NOW, 3600, &svid, &error));
    assert_int_equal(svid.not_before, FIX_NOW - 120);
    assert_int_equal(svid.not_after, FIX_NOW + 3600);
    assert_int_equal(tls_cert_parse(slice_str(svid.cert_chain_pem), &info, &error), n_chain);
    assert_string_equal(info[0].identity, FIX_SERVER);
    assert_string_equal(info[0].subject, "");
    assert_false(info[0].is_ca);
    assert_int_equal(info[0].not_before, svid.not_before);
    assert_int_equal(info[0].not_after, svid.not_after);
    assert_int_equal(strlen(info[0].serial_hex), 32);
    BIGNUM *from_hex = NULL, *from_dec = NULL;
    BN_hex2bn(&from_hex, info[0].serial_hex);
    BN_dec2bn(&from_dec, info[0].serial);
    assert_int_equal(BN_cmp(from_hex, from_dec), 0);
    BN_free(from_hex);
    BN_free(from_dec);
    for (size_t i = 1; i < n_chain; i++) { // in order, without the root
        assert_string_equal(info[i].subject, info[i - 1].issuer);
        assert_true(info[i].is_ca);
    }
    assert_string_equal(info[n_chain - 1].issuer, "O=cluster.local");
    tls_cert_infos_free(info, n_chain);
    X509 *cert = x509_of(svid.cert_chain_pem);
    assert_int_equal(X509_get_key_usage(cert),
                     X509v3_KU_DIGITAL_SIGNATURE | X509v3_KU_KEY_ENCIPHERMENT);
    assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_SERVER | XKU_SSL_CLIENT);
    int at = X509_get_ext_by_NID(cert, NID_subject_alt_name, -1);
    assert_true(at >= 0);
    assert_true(X509_EXTENSION_get_critical(X509_get_ext(cert, at))); // the subject is empty
    assert_non_null(X509_get0_authority_key_id(cert));
    X509_free(cert);
    tls_svid_fini(&svid);
    assert_null(svid.key_pem);
}

static void test_sign(void **state) {
    struct fix_ca mid, low;
    check_svid(root.ca, 1);
    fix_ca_init_below(&mid, &root);
    check_svid(mid.ca, 2);
    fix_ca_init_below(&low, &mid);
    free(low.root_pem);
    low.root_pem = xstrdup(root.cert_pem);
    char *chain = xasprintf("%s%s%s", low.cert_pem, mid.cert_pem, root.cert_pem);
    struct tls_ca_params params = {
        .ca_cert_pem = slice_str(low.cert_pem),
        .ca_key_pem = slice_str(low.key_pem),
        .root_cert_pem = slice_str(root.cert_pem),
        .cert_chain_pem = slice_str(chain),
        .now_s = FIX_NOW,
    };
    char *error = NULL;
    struct tls_ca *ca = tls_ca_new(&params, &error);
    assert_non_null(ca);
    check_svid(ca, 3);
    assert_string_equal(tls_ca_roots_pem(ca), root.cert_pem);
    tls_ca_free(ca);
    free(chain);
    fix_ca_fini(&low);
    fix_ca_fini(&mid);
}

static void test_sign_limits(void **state) {
    struct tls_svid svid;
    char *error = NULL;
    int64_t end = tls_ca_not_after(root.ca);
    assert_true(tls_ca_sign(root.ca, slice_str(FIX_SERVER), end - 60, 3600, &svid, &error));
    assert_int_equal(svid.not_after, end); // it does not outlive the CA
    tls_svid_fini(&svid);
    assert_true(tls_ca_sign(root.ca, slice_str(FIX_SERVER), FIX_NOW, INT64_MAX, &svid, &error));
    assert_int_equal(svid.not_after, end);
    tls_svid_fini(&svid);
    assert_false(tls_ca_sign(root.ca, slice_str(FIX_SERVER), end, 3600, &svid, &error));
    assert_non_null(strstr(error, "expired"));
    free(error);
    assert_false(tls_ca_sign(root.ca, SLICE_LIT("spiffe://a/b"), FIX_NOW, 3600, &svid, &error));
    assert_non_null(strstr(error, "spiffe://a/b"));
    free(error);
    tls_svid_fini(&(struct tls_svid){0});
}

static void expect_bad_ca(struct tls_ca_params params, const char *reason) {
    char *error = NULL;
    assert_null(tls_ca_new(&params, &error));
    assert_non_null(error);
    if (strstr(error, reason) == NULL) {
        fail_msg("'%s' does not say '%s'", error, reason);
    }
    free(error);
}

static void test_bad_ca(void **state) {
    struct fix_ca other, mid;
    struct tls_svid svid;
    char *error = NULL;
    fix_ca_init(&other);
    fix_ca_init_below(&mid, &root);
    assert_true(tls_ca_sign(root.ca, slice_str(FIX_SERVER), FIX_NOW, 3600, &svid, &error));
    const struct tls_ca_params good = {.ca_cert_pem = slice_str(root.cert_pem),
                                       .ca_key_pem = slice_str(root.key_pem),
                                       .now_s = FIX_NOW};
    struct tls_ca_params p = good;
    p.ca_key_pem = slice_str(other.key_pem);
    expect_bad_ca(p, "CA key and certificate");
    p = good;
    p.ca_cert_pem = SLICE_LIT("junk");
    expect_bad_ca(p, "CA certificate");
    p = good;
    p.ca_key_pem = slice_make(NULL, 0);
    expect_bad_ca(p, "private key");
    p = good;
    p.ca_cert_pem = slice_str(svid.cert_chain_pem);
    p.ca_key_pem = slice_str(svid.key_pem);
    expect_bad_ca(p, "not a CA");
    p = good;
    p.root_cert_pem = SLICE_LIT("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    expect_bad_ca(p, "root certificates");
    p = good;
    p.cert_chain_pem = SLICE_LIT("junk");
    expect_bad_ca(p, "certificate chain");
    p = good;
    p.now_s = FIX_NOW + 4000 * FIX_DAY;
    expect_bad_ca(p, "expired");
    // An intermediate without its root, or with another one.
    p = (struct tls_ca_params){.ca_cert_pem = slice_str(mid.cert_pem),
                               .ca_key_pem = slice_str(mid.key_pem),
                               .root_cert_pem = slice_str(other.cert_pem),
                               .now_s = FIX_NOW};
    expect_bad_ca(p, "CA certificate and roots");
    tls_svid_fini(&svid);
    fix_ca_fini(&mid);
    fix_ca_fini(&other);
    tls_ca_free(NULL);
}

static X509 *rsa_root(EVP_PKEY *key) {
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)"rsa", -1, -1, 0);
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    ASN1_TIME_set_posix(X509_getm_notBefore(cert), FIX_NOW - 1000);
    ASN1_TIME_set_posix(X509_getm_notAfter(cert), FIX_NOW + 1000000);
    X509_set_issuer_name(cert, name);
    X509_set_subject_name(cert, name);
    X509_set_pubkey(cert, key);
    BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
    bc->ca = ASN1_BOOLEAN_TRUE;
    X509_add1_ext_i2d(cert, NID_basic_constraints, bc, 1, 0);
    BASIC_CONSTRAINTS_free(bc);
    X509_NAME_free(name);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    return cert;
}

static char *bio_take(BIO *bio) {
    const uint8_t *bytes;
    size_t len;
    BIO_mem_contents(bio, &bytes, &len);
    char *text = slice_dup(slice_make(bytes, len));
    BIO_free(bio);
    return text;
}

// Operators bring RSA roots too, without key identifiers, with keys in the old format.
static void test_rsa_ca(void **state) {
    for (int bits = 1024; bits <= 2048; bits += 1024) {
        EVP_PKEY *key = EVP_PKEY_new();
        RSA *rsa = RSA_new();
        BIGNUM *e = BN_new();
        BN_set_word(e, RSA_F4);
        assert_int_equal(RSA_generate_key_ex(rsa, bits, e, NULL), 1);
        EVP_PKEY_set1_RSA(key, rsa);
        X509 *cert = rsa_root(key);
        BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
        PEM_write_bio_X509(cert_bio, cert);
        PEM_write_bio_RSAPrivateKey(key_bio, rsa, NULL, NULL, 0, NULL, NULL);
        struct fix_ca ca = {.cert_pem = bio_take(cert_bio), .key_pem = bio_take(key_bio)};
        struct tls_ca_params params = {.ca_cert_pem = slice_str(ca.cert_pem),
                                       .ca_key_pem = slice_str(ca.key_pem),
                                       .now_s = FIX_NOW};
        if (bits < 2048) {
            expect_bad_ca(params, "2048");
        } else {
            char *error = NULL;
            ca.ca = tls_ca_new(&params, &error);
            assert_non_null(ca.ca);
            struct tls_ctx *client = fix_ctx(&ca, FIX_CLIENT, NULL, NULL);
            struct tls_ctx *server = fix_ctx(&ca, FIX_SERVER, NULL, NULL);
            struct tls_record *a, *b;
            fix_records(client, server, &a, &b);
            tls_record_free(a);
            tls_record_free(b);
            tls_ctx_unref(client);
            tls_ctx_unref(server);
        }
        fix_ca_fini(&ca);
        X509_free(cert);
        RSA_free(rsa);
        EVP_PKEY_free(key);
        BN_free(e);
    }
}

static void test_csr(void **state) {
    char *key = tls_key_new_pem(), *error = NULL;
    char *pem = tls_csr_new(slice_str(key), slice_str(FIX_CLIENT), &error);
    assert_non_null(pem);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_REQ *csr = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    assert_non_null(csr);
    assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(csr)), 0);
    EVP_PKEY *pubkey = X509_REQ_get_pubkey(csr);
    assert_int_equal(X509_REQ_verify(csr, pubkey), 1);
    assert_int_equal(EVP_PKEY_get_ec_curve_nid(pubkey), NID_X9_62_prime256v1);
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(csr);
    assert_int_equal(sk_X509_EXTENSION_num(exts), 1);
    assert_true(X509_EXTENSION_get_critical(sk_X509_EXTENSION_value(exts, 0)));
    GENERAL_NAMES *names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, 0);
    assert_int_equal(name->type, GEN_URI);
    assert_memory_equal(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier), FIX_CLIENT,
                        strlen(FIX_CLIENT));
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    EVP_PKEY_free(pubkey);
    X509_REQ_free(csr);
    BIO_free(bio);
    free(pem);
    assert_null(tls_csr_new(slice_str(key), SLICE_LIT("nobody"), &error));
    free(error);
    assert_null(tls_csr_new(SLICE_LIT("no key"), slice_str(FIX_CLIENT), &error));
    free(error);
    tls_key_pem_free(key);
    tls_key_pem_free(NULL);
}

static void test_parse(void **state) {
    struct tls_cert_info *infos;
    char *error = NULL;
    char *twice = xasprintf("noise\n%s\n%s", root.cert_pem, root.cert_pem);
    assert_int_equal(tls_cert_parse(slice_str(twice), &infos, &error), 2);
    assert_memory_equal(infos[0].sha256, infos[1].sha256, 32);
    tls_cert_infos_free(infos, 2);
    char *once = tls_cert_normalize(slice_str(twice), &error);
    assert_string_equal(once, root.cert_pem);
    free(once);
    free(twice);
    static const char *const bad[] = {
        "",
        "junk",
        "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (tls_cert_parse(slice_str(bad[i]), &infos, &error) != 0) {
            fail_msg("%s", bad[i]);
        }
        assert_non_null(error);
        free(error);
        assert_null(tls_cert_normalize(slice_str(bad[i]), &error));
        free(error);
    }
    tls_cert_infos_free(NULL, 0);
}

static void test_crl_input(void **state) {
    struct slice bad[] = {SLICE_LIT("xyz")}, empty[] = {SLICE_LIT("")};
    assert_null(tls_ca_make_crl(root.ca, bad, 1, FIX_NOW, FIX_DAY));
    assert_null(tls_ca_make_crl(root.ca, empty, 1, FIX_NOW, FIX_DAY));
}

static void test_hash(void **state) {
    static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea};
    uint8_t a[32], b[32];
    tls_sha256(SLICE_LIT("abc"), a);
    assert_memory_equal(a, abc, sizeof(abc));
    const struct slice one[] = {SLICE_LIT("ab"), SLICE_LIT("c")};
    const struct slice two[] = {SLICE_LIT("a"), SLICE_LIT("bc")};
    tls_sha256_list(one, 2, a);
    tls_sha256_list(two, 2, b);
    assert_memory_not_equal(a, b, 32);
    tls_random(a, 32);
    tls_random(b, 32);
    assert_memory_not_equal(a, b, 32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_root),        cmocka_unit_test(test_sign),
        cmocka_unit_test(test_sign_limits), cmocka_unit_test(test_bad_ca),
        cmocka_unit_test(test_rsa_ca),      cmocka_unit_test(test_csr),
        cmocka_unit_test(test_parse),       cmocka_unit_test(test_crl_input),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
