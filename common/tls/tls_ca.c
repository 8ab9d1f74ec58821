// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_ca.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/tls/tls_cert.h"
#include "common/tls/tls_cert_priv.h"
#include "common/tls/tls_hash.h"
#include "common/tls/tls_pem.h"
#include "common/tls/tls_spiffe.h"

enum { CHAIN_MAX = 8, ROOTS_MAX = 64, SERIAL_LEN = 16, PEM_MAX = 16 << 20, RSA_BITS_MIN = 2048 };

#define TTL_MAX_S (INT64_C(86400) * TLS_CA_ROOT_DAYS)

struct tls_ca {
    X509 *cert;
    EVP_PKEY *key;
    char *chain_pem; // what follows the leaf
    char *roots_pem;
    int64_t not_after;
};

// ---- Certificates

// 127 random bits: positive, and one length for all.
static void set_serial(X509 *cert) {
    uint8_t bytes[SERIAL_LEN];
    tls_random(bytes, sizeof(bytes));
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40);
    BIGNUM *bn = BN_bin2bn(bytes, sizeof(bytes), NULL);
    CHECK(bn != NULL);
    CHECK(BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) != NULL);
    BN_free(bn);
}

// For values of our own making.
static void add_ext(X509 *cert, X509 *issuer, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    CHECK(ext != NULL);
    CHECK(X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

// X.520 limits an organisation's name to 64 characters; one that does not fit is replaced.
static X509_NAME *org_name(struct slice org) {
    static const char fallback[] = "cluster.local";
    X509_NAME *name = X509_NAME_new();
    CHECK(name != NULL);
    if (X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8, org.ptr,
                                   (ossl_ssize_t)org.len, -1, 0) != 1) {
        ERR_clear_error();
        CHECK(X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8,
                                         (const uint8_t *)fallback, -1, -1, 0) == 1);
    }
    return name;
}

static void add_authority_key_id(X509 *cert, X509 *issuer) {
    if (X509_get0_subject_key_id(issuer) != NULL) {
        add_ext(cert, issuer, NID_authority_key_identifier, "keyid");
    }
}

// Everything but the extensions and the signature. issuer NULL: self-signed.
static X509 *cert_new(EVP_PKEY *key, X509_NAME *subject, X509 *issuer, int64_t not_before,
                      int64_t not_after) {
    X509 *cert = X509_new();
    CHECK(cert != NULL);
    CHECK(X509_set_version(cert, X509_VERSION_3) == 1);
    set_serial(cert);
    CHECK(ASN1_TIME_set_posix(X509_getm_notBefore(cert), not_before) != NULL);
    CHECK(ASN1_TIME_set_posix(X509_getm_notAfter(cert), not_after) != NULL);
    if (subject != NULL) {
        CHECK(X509_set_subject_name(cert, subject) == 1);
    }
    CHECK(X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : subject) ==
          1);
    CHECK(X509_set_pubkey(cert, key) == 1);
    return cert;
}

static X509 *make_ca_cert(EVP_PKEY *key, struct slice org, X509 *issuer, EVP_PKEY *issuer_key,
                          int64_t not_before, int64_t not_after) {
    X509_NAME *subject = org_name(org);
    X509 *cert = cert_new(key, subject, issuer, not_before, not_after);
    add_ext(cert, cert, NID_basic_constraints, "critical,CA:TRUE");
    add_ext(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_ext(cert, cert, NID_subject_key_identifier, "hash");
    if (issuer != NULL) {
        add_authority_key_id(cert, issuer);
    }
    CHECK(X509_sign(cert, issuer != NULL ? issuer_key : key, EVP_sha256()) > 0);
    X509_NAME_free(subject);
    return cert;
}

// NULL, or why this pair cannot sign.
static char *check_ca(X509 *cert, EVP_PKEY *key) {
    int type = EVP_PKEY_id(key);
    if (X509_check_private_key(cert, key) != 1) {
        return tls_error_text("CA key and certificate");
    }
    if (type != EVP_PKEY_EC && (type != EVP_PKEY_RSA || EVP_PKEY_bits(key) < RSA_BITS_MIN)) {
        return xasprintf("CA key: it must be EC, or RSA of at least %d bits", RSA_BITS_MIN);
    }
    if (X509_check_ca(cert) != 1) {
        return xstrdup("CA certificate: it is not a CA (basicConstraints)");
    }
    return NULL;
}

void tls_ca_make_root(struct slice org, int64_t now_s, char **ret_cert_pem, char **ret_key_pem) {
    EVP_PKEY *key = tls_key_new();
    int64_t not_before = now_s - TLS_CA_BACKDATE_S;
    X509 *cert = make_ca_cert(key, org, NULL, NULL, not_before, not_before + TTL_MAX_S);
    *ret_cert_pem = tls_pem_from_cert(cert);
    *ret_key_pem = tls_pem_from_key(key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

bool tls_ca_make_intermediate(struct slice ca_cert_pem, struct slice ca_key_pem, struct slice org,
                              int64_t now_s, int64_t ttl_s, char **ret_cert_pem, char **ret_key_pem,
                              char **ret_error) {
    EVP_PKEY *issuer_key = NULL;
    char *error = NULL;
    STACK_OF(X509) *issuers = tls_pem_certs(ca_cert_pem, CHAIN_MAX, "CA certificate", &error);
    if (issuers == NULL || (issuer_key = tls_pem_key(ca_key_pem, &error)) == NULL ||
        (error = check_ca(sk_X509_value(issuers, 0), issuer_key)) != NULL) {
        goto out;
    }
    EVP_PKEY *key = tls_key_new();
    X509 *cert = make_ca_cert(key, org, sk_X509_value(issuers, 0), issuer_key,
                              now_s - TLS_CA_BACKDATE_S, now_s + MIN(ttl_s, TTL_MAX_S));
    *ret_cert_pem = tls_pem_from_cert(cert);
    *ret_key_pem = tls_pem_from_key(key);
    X509_free(cert);
    EVP_PKEY_free(key);
out:
    EVP_PKEY_free(issuer_key);
    sk_X509_pop_free(issuers, X509_free);
    if (error != NULL) {
        *ret_error = error;
    }
    return error == NULL;
}

// ---- Loading

// By its own key, not only in its own name: an intermediate may have its issuer's name.
static bool is_self_signed(X509 *cert) {
    bool ok = X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0 &&
              X509_verify(cert, X509_get0_pubkey(cert)) == 1;
    ERR_clear_error();
    return ok;
}

// Does the CA's certificate lead to one of the roots at that time, over the chain?
static bool check_path(X509 *cert, STACK_OF(X509) * chain, STACK_OF(X509) * roots, int64_t now_s,
                       char **ret_error) {
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *run = X509_STORE_CTX_new();
    CHECK(store != NULL && run != NULL);
    for (size_t i = 0; i < sk_X509_num(roots); i++) {
        CHECK(X509_STORE_add_cert(store, sk_X509_value(roots, i)) == 1);
    }
    CHECK(X509_STORE_CTX_init(run, store, cert, chain) == 1);
    X509_STORE_CTX_set_time_posix(run, 0, now_s);
    X509_STORE_CTX_set_flags(run, X509_V_FLAG_PARTIAL_CHAIN);
    bool ok = X509_verify_cert(run) == 1;
    if (!ok) {
        *ret_error = xasprintf("CA certificate and roots: %s",
                               X509_verify_cert_error_string(X509_STORE_CTX_get_error(run)));
    }
    X509_STORE_CTX_free(run);
    X509_STORE_free(store);
    ERR_clear_error();
    return ok;
}

// What a leaf is followed by: the CA's certificate unless it is a root itself, then the chain
// without roots and without doubles (cert-chain.pem usually begins with the CA's certificate).
static char *chain_text(X509 *cert, const STACK_OF(X509) * chain, int64_t *ret_not_after) {
    struct buf out;
    *ret_not_after = tls_posix(X509_get0_notAfter(cert));
    buf_init(&out, PEM_MAX);
    for (size_t i = 0; i <= sk_X509_num(chain); i++) {
        X509 *one = i == 0 ? cert : sk_X509_value(chain, i - 1);
        bool is_double = false;
        for (size_t j = 0; j < i; j++) {
            is_double |= X509_cmp(one, j == 0 ? cert : sk_X509_value(chain, j - 1)) == 0;
        }
        if (is_self_signed(one) || is_double) {
            continue;
        }
        *ret_not_after = MIN(*ret_not_after, tls_posix(X509_get0_notAfter(one)));
        char *pem = tls_pem_from_cert(one);
        buf_append_str(&out, pem);
        free(pem);
    }
    CHECK(buf_ok(&out));
    return buf_take(&out, NULL);
}

struct tls_ca *tls_ca_new(const struct tls_ca_params *params, char **ret_error) {
    struct tls_ca *ca = xcalloc(1, sizeof(*ca));
    STACK_OF(X509) *certs = NULL, *chain = NULL, *roots = NULL;
    struct slice roots_pem =
        params->root_cert_pem.len > 0 ? params->root_cert_pem : params->ca_cert_pem;
    char *error = NULL;
    bool ok = false;
    if ((certs = tls_pem_certs(params->ca_cert_pem, CHAIN_MAX, "CA certificate", &error)) == NULL ||
        (ca->key = tls_pem_key(params->ca_key_pem, &error)) == NULL ||
        (roots = tls_pem_certs(roots_pem, ROOTS_MAX, "root certificates", &error)) == NULL) {
        goto out;
    }
    ca->cert = sk_X509_shift(certs); // further ones in ca-cert.pem are part of its chain
    chain = certs;
    certs = NULL;
    if ((error = check_ca(ca->cert, ca->key)) != NULL) {
        goto out;
    }
    if (params->cert_chain_pem.len > 0) {
        certs = tls_pem_certs(params->cert_chain_pem, CHAIN_MAX, "certificate chain", &error);
        if (certs == NULL) {
            goto out;
        }
        X509 *one;
        while ((one = sk_X509_shift(certs)) != NULL) {
            CHECK(sk_X509_push(chain, one) > 0);
        }
    }
    if (!check_path(ca->cert, chain, roots, params->now_s, &error)) {
        goto out;
    }
    ca->chain_pem = chain_text(ca->cert, chain, &ca->not_after);
    ca->roots_pem = tls_cert_normalize(roots_pem, &error);
    ok = ca->roots_pem != NULL;
out:
    sk_X509_pop_free(certs, X509_free);
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(roots, X509_free);
    ERR_clear_error();
    if (!ok) {
        tls_ca_free(ca);
        *ret_error = error;
        return NULL;
    }
    return ca;
}

void tls_ca_free(struct tls_ca *ca) {
    if (ca != NULL) {
        X509_free(ca->cert);
        EVP_PKEY_free(ca->key);
        free(ca->chain_pem);
        free(ca->roots_pem);
        free(ca);
    }
}

int64_t tls_ca_not_after(const struct tls_ca *ca) {
    return ca->not_after;
}

const char *tls_ca_roots_pem(const struct tls_ca *ca) {
    return ca->roots_pem;
}

// ---- Signing

bool tls_ca_sign(const struct tls_ca *ca, struct slice spiffe_id, int64_t now_s, int64_t ttl_s,
                 struct tls_svid *ret_svid, char **ret_error) {
    struct tls_spiffe id;
    int64_t not_before = now_s - TLS_CA_BACKDATE_S;
    int64_t not_after = MIN(now_s + MIN(ttl_s, TTL_MAX_S), ca->not_after);
    if (!tls_spiffe_parse(spiffe_id, &id)) {
        *ret_error = xasprintf("not a SPIFFE ID: %.*s", SLICE_ARG(spiffe_id));
        return false;
    }
    if (not_after <= now_s) {
        *ret_error = xstrdup("the CA's certificate has expired");
        return false;
    }
    EVP_PKEY *key = tls_key_new();
    X509 *cert = cert_new(key, NULL, ca->cert, not_before, not_after);
    GENERAL_NAMES *names = tls_uri_names(spiffe_id);
    add_ext(cert, ca->cert, NID_key_usage, "critical,digitalSignature,keyEncipherment");
    add_ext(cert, ca->cert, NID_ext_key_usage, "serverAuth,clientAuth");
    add_ext(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE");
    add_authority_key_id(cert, ca->cert);
    CHECK(X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) == 1);
    CHECK(X509_sign(cert, ca->key, EVP_sha256()) > 0);
    char *leaf = tls_pem_from_cert(cert);
    *ret_svid = (struct tls_svid){
        .cert_chain_pem = xasprintf("%s%s", leaf, ca->chain_pem),
        .key_pem = tls_pem_from_key(key),
        .roots_pem = xstrdup(ca->roots_pem),
        .not_before = not_before,
        .not_after = not_after,
    };
    free(leaf);
    GENERAL_NAMES_free(names);
    X509_free(cert);
    EVP_PKEY_free(key);
    return true;
}

void tls_svid_fini(struct tls_svid *svid) {
    free(svid->cert_chain_pem);
    tls_key_pem_free(svid->key_pem);
    free(svid->roots_pem);
    *svid = (struct tls_svid){0};
}

static bool revoke(X509_CRL *crl, struct slice serial_hex, const ASN1_TIME *date) {
    X509_REVOKED *entry = X509_REVOKED_new();
    char *hex = slice_dup(serial_hex);
    BIGNUM *bn = NULL;
    CHECK(entry != NULL);
    bool ok = serial_hex.len > 0 && (size_t)BN_hex2bn(&bn, hex) == serial_hex.len;
    if (ok) {
        ASN1_INTEGER *serial = BN_to_ASN1_INTEGER(bn, NULL);
        CHECK(serial != NULL && X509_REVOKED_set_serialNumber(entry, serial) == 1);
        CHECK(X509_REVOKED_set_revocationDate(entry, date) == 1);
        CHECK(X509_CRL_add0_revoked(crl, entry) == 1);
        ASN1_INTEGER_free(serial);
    } else {
        X509_REVOKED_free(entry);
    }
    BN_free(bn);
    free(hex);
    return ok;
}

char *tls_ca_make_crl(const struct tls_ca *ca, const struct slice *serials_hex, size_t n,
                      int64_t now_s, int64_t ttl_s) {
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *last = ASN1_TIME_set_posix(NULL, now_s);
    ASN1_TIME *next = ASN1_TIME_set_posix(NULL, now_s + MIN(ttl_s, TTL_MAX_S));
    char *pem = NULL;
    CHECK(crl != NULL && last != NULL && next != NULL);
    CHECK(X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1);
    CHECK(X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert)) == 1);
    CHECK(X509_CRL_set1_lastUpdate(crl, last) == 1);
    CHECK(X509_CRL_set1_nextUpdate(crl, next) == 1);
    for (size_t i = 0; i < n; i++) {
        if (!revoke(crl, serials_hex[i], last)) {
            goto out;
        }
    }
    CHECK(X509_CRL_sort(crl) == 1);
    CHECK(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
    pem = tls_pem_from_crl(crl);
out:
    ASN1_TIME_free(last);
    ASN1_TIME_free(next);
    X509_CRL_free(crl);
    return pem;
}
