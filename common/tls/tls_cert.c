// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_cert.h"

#include <openssl/bn.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/tls/tls_cert_priv.h"
#include "common/tls/tls_hash.h"
#include "common/tls/tls_pem.h"
#include "common/tls/tls_spiffe.h"

enum { BUNDLE_MAX = 1 << 20 };

char *tls_cert_identity(X509 *cert) {
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    const ASN1_IA5STRING *uri = NULL;
    struct slice text = {0};
    struct tls_spiffe id;
    size_t n_uris = 0;
    for (size_t i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_URI) {
            uri = name->d.uniformResourceIdentifier;
            n_uris++;
        }
    }
    // Attack: who presents two could be taken for either.
    if (n_uris == 1) {
        text = slice_make(ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri));
    }
    char *identity = tls_spiffe_parse(text, &id) ? slice_dup(text) : NULL;
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return identity;
}

static char *name_text(X509_NAME *name) {
    BIO *bio = BIO_new(BIO_s_mem());
    const uint8_t *bytes;
    size_t len;
    CHECK(bio != NULL);
    CHECK(X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0);
    CHECK(BIO_mem_contents(bio, &bytes, &len) == 1);
    char *text = slice_dup(slice_make(bytes, len));
    BIO_free(bio);
    return text;
}

static void fill_serial(struct tls_cert_info *info, const X509 *cert) {
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    CHECK(bn != NULL);
    char *dec = BN_bn2dec(bn);
    char *hex = BN_bn2hex(bn);
    CHECK(dec != NULL && hex != NULL);
    const char *digits = hex + strspn(hex, "0");
    info->serial = xstrdup(dec);
    info->serial_hex = xstrdup(*digits != '\0' ? digits : "0");
    OPENSSL_free(dec);
    OPENSSL_free(hex);
    BN_free(bn);
}

static void fill_info(struct tls_cert_info *info, X509 *cert) {
    char *identity = tls_cert_identity(cert);
    uint8_t *der = NULL;
    int len = i2d_X509(cert, &der);
    CHECK(len > 0);
    tls_sha256(slice_make(der, (size_t)len), info->sha256);
    OPENSSL_free(der);
    info->identity = identity != NULL ? identity : xstrdup("");
    info->subject = name_text(X509_get_subject_name(cert));
    info->issuer = name_text(X509_get_issuer_name(cert));
    fill_serial(info, cert);
    info->not_before = tls_posix(X509_get0_notBefore(cert));
    info->not_after = tls_posix(X509_get0_notAfter(cert));
    info->is_ca = X509_check_ca(cert) == 1;
    info->pem = tls_pem_from_cert(cert);
}

size_t tls_cert_parse(struct slice pem, struct tls_cert_info **ret_infos, char **ret_error) {
    STACK_OF(X509) *certs = tls_pem_certs(pem, TLS_CERT_LIST_MAX, "certificates", ret_error);
    if (certs == NULL) {
        return 0;
    }
    size_t n = sk_X509_num(certs);
    struct tls_cert_info *infos = xcalloc(n, sizeof(*infos));
    for (size_t i = 0; i < n; i++) {
        fill_info(&infos[i], sk_X509_value(certs, i));
    }
    sk_X509_pop_free(certs, X509_free);
    ERR_clear_error();
    *ret_infos = infos;
    return n;
}

void tls_cert_infos_free(struct tls_cert_info *infos, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(infos[i].identity);
        free(infos[i].subject);
        free(infos[i].issuer);
        free(infos[i].serial);
        free(infos[i].serial_hex);
        free(infos[i].pem);
    }
    free(infos);
}

char *tls_cert_normalize(struct slice pem, char **ret_error) {
    struct tls_cert_info *infos;
    struct buf out;
    size_t n = tls_cert_parse(pem, &infos, ret_error);
    if (n == 0) {
        return NULL;
    }
    buf_init(&out, BUNDLE_MAX);
    for (size_t i = 0; i < n; i++) {
        bool is_new = true;
        for (size_t j = 0; j < i; j++) {
            is_new &= memcmp(infos[i].sha256, infos[j].sha256, sizeof(infos[i].sha256)) != 0;
        }
        if (is_new) {
            buf_append_str(&out, infos[i].pem);
        }
    }
    tls_cert_infos_free(infos, n);
    if (!buf_ok(&out)) {
        *ret_error = xstrdup("certificates: too large");
        buf_fini(&out);
        return NULL;
    }
    return buf_take(&out, NULL);
}

// ---- Keys and requests

EVP_PKEY *tls_key_new(void) {
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();
    CHECK(ec != NULL && key != NULL);
    CHECK(EC_KEY_generate_key(ec) == 1);
    CHECK(EVP_PKEY_assign_EC_KEY(key, ec) == 1);
    return key;
}

char *tls_key_new_pem(void) {
    EVP_PKEY *key = tls_key_new();
    char *pem = tls_pem_from_key(key);
    EVP_PKEY_free(key);
    return pem;
}

void tls_key_pem_free(char *pem) {
    if (pem != NULL) {
        wipe(pem, strlen(pem));
        free(pem);
    }
}

GENERAL_NAMES *tls_uri_names(struct slice uri) {
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    CHECK(names != NULL && name != NULL && text != NULL);
    CHECK(ASN1_STRING_set(text, uri.ptr, (ossl_ssize_t)uri.len) == 1);
    name->type = GEN_URI;
    name->d.uniformResourceIdentifier = text;
    CHECK(sk_GENERAL_NAME_push(names, name) > 0);
    return names;
}

char *tls_csr_new(struct slice key_pem, struct slice spiffe_id, char **ret_error) {
    struct tls_spiffe id;
    if (!tls_spiffe_parse(spiffe_id, &id)) {
        *ret_error = xasprintf("not a SPIFFE ID: %.*s", SLICE_ARG(spiffe_id));
        return NULL;
    }
    EVP_PKEY *key = tls_pem_key(key_pem, ret_error);
    if (key == NULL) {
        return NULL;
    }
    X509_REQ *csr = X509_REQ_new();
    GENERAL_NAMES *names = tls_uri_names(spiffe_id);
    STACK_OF(X509_EXTENSION) *exts = NULL;
    CHECK(csr != NULL);
    CHECK(X509_REQ_set_version(csr, X509_REQ_VERSION_1) == 1);
    CHECK(X509_REQ_set_pubkey(csr, key) == 1);
    // RFC 5280 section 4.2.1.6: critical, because the subject is empty.
    CHECK(X509V3_add1_i2d(&exts, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) == 1);
    CHECK(X509_REQ_add_extensions(csr, exts) == 1);
    CHECK(X509_REQ_sign(csr, key, EVP_sha256()) > 0);
    char *pem = tls_pem_from_csr(csr);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    GENERAL_NAMES_free(names);
    X509_REQ_free(csr);
    EVP_PKEY_free(key);
    return pem;
}
