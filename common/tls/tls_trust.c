// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_trust.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/list.h"
#include "common/tls/tls_pem.h"

struct tls_trust {
    struct list node; // in `all`, under `lock`
    size_t refs; // under `lock`
    uint8_t hash[TLS_SHA256_LEN];
    X509_STORE *store;
    STACK_OF(X509) * roots;
    STACK_OF(X509_CRL) * crls;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list all = {&all, &all};

static void trust_free(struct tls_trust *trust) {
    X509_STORE_free(trust->store);
    sk_X509_pop_free(trust->roots, X509_free);
    sk_X509_CRL_pop_free(trust->crls, X509_CRL_free);
    free(trust);
}

// Called with `lock` held.
static struct tls_trust *find_ref(const uint8_t *hash) {
    LIST_EACH(pos, &all) {
        struct tls_trust *trust = LIST_ITEM(pos, struct tls_trust, node);
        if (memcmp(trust->hash, hash, sizeof(trust->hash)) == 0) {
            trust->refs++;
            return trust;
        }
    }
    return NULL;
}

static bool parse_crls(struct tls_trust *trust, struct slice crl, char **ret_error) {
    if (crl.len == 0) {
        return true;
    }
    if (crl.ptr[0] == 0x30) { // a DER SEQUENCE
        const uint8_t *p = crl.ptr;
        X509_CRL *one = d2i_X509_CRL(NULL, &p, (long)crl.len);
        if (one == NULL || p != crl.ptr + crl.len) {
            X509_CRL_free(one);
            *ret_error = tls_error_text("the CRL is not valid DER");
            return false;
        }
        CHECK(sk_X509_CRL_push(trust->crls, one) > 0);
        return true;
    }
    BIO *bio = BIO_new_mem_buf(crl.ptr, (ossl_ssize_t)crl.len);
    X509_CRL *one;
    CHECK(bio != NULL);
    while ((one = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL) {
        CHECK(sk_X509_CRL_push(trust->crls, one) > 0);
    }
    BIO_free(bio);
    size_t n = sk_X509_CRL_num(trust->crls);
    if (!tls_pem_at_end() || n == 0 || n > TLS_CRLS_MAX) {
        *ret_error = tls_error_text("the CRL list is not valid PEM");
        return false;
    }
    ERR_clear_error();
    return true;
}

static struct tls_trust *trust_new(struct slice roots_pem, struct slice crl, char **ret_error) {
    struct tls_trust *trust = xcalloc(1, sizeof(*trust));
    trust->refs = 1;
    trust->store = X509_STORE_new();
    trust->crls = sk_X509_CRL_new_null();
    CHECK(trust->store != NULL && trust->crls != NULL);
    trust->roots = tls_pem_certs(roots_pem, TLS_ROOTS_MAX, "trust bundle", ret_error);
    if (trust->roots == NULL || !parse_crls(trust, crl, ret_error)) {
        trust_free(trust);
        return NULL;
    }
    for (size_t i = 0; i < sk_X509_num(trust->roots); i++) {
        X509 *root = sk_X509_value(trust->roots, i);
        X509_check_purpose(root, -1, 0); // fills the parsed extensions while no one else looks
        CHECK(X509_STORE_add_cert(trust->store, root) == 1);
    }
    return trust;
}

struct tls_trust *tls_trust_get(struct slice roots_pem, struct slice crl, char **ret_error) {
    uint8_t hash[TLS_SHA256_LEN];
    const struct slice pieces[] = {roots_pem, crl};
    tls_sha256_list(pieces, ARRAY_LEN(pieces), hash);
    pthread_mutex_lock(&lock);
    struct tls_trust *trust = find_ref(hash);
    pthread_mutex_unlock(&lock);
    if (trust != NULL) {
        return trust;
    }
    // Parsed without the lock: workers that drop a context must not wait for it.
    struct tls_trust *fresh = trust_new(roots_pem, crl, ret_error);
    if (fresh == NULL) {
        return NULL;
    }
    memcpy(fresh->hash, hash, sizeof(hash));
    pthread_mutex_lock(&lock);
    trust = find_ref(hash);
    if (trust == NULL) {
        list_push_back(&all, &fresh->node);
        trust = fresh;
        fresh = NULL;
    }
    pthread_mutex_unlock(&lock);
    if (fresh != NULL) { // another thread was faster
        trust_free(fresh);
    }
    return trust;
}

void tls_trust_unref(struct tls_trust *trust) {
    if (trust == NULL) {
        return;
    }
    pthread_mutex_lock(&lock);
    bool is_last = --trust->refs == 0;
    if (is_last) {
        list_del(&trust->node);
    }
    pthread_mutex_unlock(&lock);
    if (is_last) {
        trust_free(trust);
    }
}

struct slice tls_trust_hash(const struct tls_trust *trust) {
    return slice_make(trust->hash, sizeof(trust->hash));
}

X509_STORE *tls_trust_store(const struct tls_trust *trust) {
    return trust->store;
}

size_t tls_trust_n_roots(const struct tls_trust *trust) {
    return sk_X509_num(trust->roots);
}

X509 *tls_trust_root(const struct tls_trust *trust, size_t i) {
    return sk_X509_value(trust->roots, i);
}

bool tls_trust_is_revoked(const struct tls_trust *trust, X509 *cert, X509 *issuer) {
    enum { FOUND = 1 }; // 2 would be "removeFromCRL"
    for (size_t i = 0; i < sk_X509_CRL_num(trust->crls); i++) {
        X509_CRL *crl = sk_X509_CRL_value(trust->crls, i);
        X509_REVOKED *entry;
        if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_issuer_name(cert)) != 0 ||
            X509_CRL_get0_by_cert(crl, &entry, cert) != FOUND) {
            continue;
        }
        // Two CAs may have the same name (a rotated root): the signature tells whose list it is.
        if (X509_CRL_verify(crl, X509_get0_pubkey(issuer)) == 1) {
            return true;
        }
        ERR_clear_error();
    }
    return false;
}
