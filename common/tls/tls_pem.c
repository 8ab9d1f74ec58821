// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>

bool tls_pem_at_end(void) {
    uint32_t err = ERR_peek_last_error();
    return ERR_GET_LIB(err) == ERR_LIB_PEM && ERR_GET_REASON(err) == PEM_R_NO_START_LINE;
}

char *tls_error_text(const char *what) {
    uint32_t err = ERR_peek_error();
    char *text;
    if (err == 0) {
        text = xstrdup(what);
    } else {
        const char *reason = ERR_reason_error_string(err);
        text = xasprintf("%s: %s", what, reason != NULL ? reason : "unknown error");
    }
    ERR_clear_error();
    return text;
}

static BIO *bio_of(struct slice pem) {
    // Never NULL: BIO_new_mem_buf wants an address even for no bytes.
    BIO *bio = BIO_new_mem_buf(pem.len > 0 ? (const void *)pem.ptr : "", (ossl_ssize_t)pem.len);
    CHECK(bio != NULL);
    return bio;
}

STACK_OF(X509) * tls_pem_certs(struct slice pem, size_t max, const char *what, char **ret_error) {
    if (pem.len > TLS_PEM_MAX) {
        *ret_error = xasprintf("%s: larger than %d bytes", what, TLS_PEM_MAX);
        return NULL;
    }
    STACK_OF(X509) *certs = sk_X509_new_null();
    BIO *bio = bio_of(pem);
    X509 *cert;
    CHECK(certs != NULL);
    ERR_clear_error();
    while (sk_X509_num(certs) <= max && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        CHECK(sk_X509_push(certs, cert) > 0);
    }
    BIO_free(bio);
    size_t n = sk_X509_num(certs);
    char *error = NULL;
    if (n > max) {
        error = xasprintf("%s: more than %zu certificates", what, max);
    } else if (!tls_pem_at_end()) {
        error = tls_error_text(what);
    } else if (n == 0) {
        error = xasprintf("%s: no certificate in it", what);
    }
    ERR_clear_error();
    if (error != NULL) {
        sk_X509_pop_free(certs, X509_free);
        *ret_error = error;
        return NULL;
    }
    return certs;
}

// Refuses encrypted keys instead of asking at a terminal.
static int no_password(char *buf, int size, int rwflag, void *data) {
    return -1;
}

EVP_PKEY *tls_pem_key(struct slice pem, char **ret_error) {
    if (pem.len > TLS_PEM_MAX) {
        *ret_error = xasprintf("private key: larger than %d bytes", TLS_PEM_MAX);
        return NULL;
    }
    BIO *bio = bio_of(pem);
    ERR_clear_error();
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    if (key == NULL) {
        *ret_error = tls_error_text("private key");
    }
    ERR_clear_error();
    return key;
}

static char *bio_text(BIO *bio) {
    const uint8_t *bytes;
    size_t len;
    CHECK(BIO_mem_contents(bio, &bytes, &len) == 1);
    char *text = slice_dup(slice_make(bytes, len));
    BIO_free(bio);
    return text;
}

static BIO *bio_out(void) {
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio != NULL);
    return bio;
}

char *tls_pem_from_cert(X509 *cert) {
    BIO *bio = bio_out();
    CHECK(PEM_write_bio_X509(bio, cert) == 1);
    return bio_text(bio);
}

char *tls_pem_from_key(EVP_PKEY *key) {
    BIO *bio = bio_out();
    CHECK(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    return bio_text(bio);
}

char *tls_pem_from_csr(X509_REQ *csr) {
    BIO *bio = bio_out();
    CHECK(PEM_write_bio_X509_REQ(bio, csr) == 1);
    return bio_text(bio);
}

char *tls_pem_from_crl(X509_CRL *crl) {
    BIO *bio = bio_out();
    CHECK(PEM_write_bio_X509_CRL(bio, crl) == 1);
    return bio_text(bio);
}

int64_t tls_posix(const ASN1_TIME *time) {
    int64_t t;
    return ASN1_TIME_to_posix(time, &t) == 1 ? t : INT64_MIN;
}
