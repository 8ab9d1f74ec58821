// SPDX-License-Identifier: Apache-2.0
//
// Verification of a peer: chain to the trust bundle by BoringSSL's X.509, validity by the given
// wall time, extended key usage by role, SPIFFE URI SAN, CRLs of the whole chain.
#include "common/tls/tls_verify.h"

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/tls/tls_cert_priv.h"
#include "common/tls/tls_ctx_priv.h"
#include "common/tls/tls_pem.h"
#include "common/tls/tls_spiffe.h"
#include "common/tls/tls_verify_priv.h"

void tls_chain_unref(struct tls_chain *chain) {
    if (chain != NULL && atomic_fetch_sub_explicit(&chain->refs, 1, memory_order_acq_rel) == 1) {
        free(chain);
    }
}

static enum tls_err err_of(int x509_err) {
    switch (x509_err) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return TLS_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return TLS_NOT_YET_VALID;
    case X509_V_ERR_INVALID_PURPOSE:
        return TLS_BAD_USAGE;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_CERT_REJECTED:
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_INVALID_NON_CA:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
        return TLS_UNTRUSTED;
    default:
        return TLS_BAD_CERTIFICATE;
    }
}

// One run of the path builder; `only_root` limits the trust anchors to one. On success *ret_path is
// the verified path, leaf first, anchor last.
static int build_path(struct tls_trust *trust, bool is_server, STACK_OF(X509) * certs,
                      int64_t now_s, X509 *only_root, STACK_OF(X509) * *ret_path) {
    X509_STORE_CTX *run = X509_STORE_CTX_new();
    STACK_OF(X509) *anchors = NULL;
    CHECK(run != NULL);
    CHECK(X509_STORE_CTX_init(run, tls_trust_store(trust), sk_X509_value(certs, 0), certs) == 1);
    CHECK(X509_STORE_CTX_set_purpose(run, is_server ? X509_PURPOSE_SSL_SERVER
                                                    : X509_PURPOSE_SSL_CLIENT) == 1);
    X509_STORE_CTX_set_time_posix(run, 0, now_s);
    X509_STORE_CTX_set_depth(run, TLS_CHAIN_MAX);
    // Any certificate of the bundle is an anchor, also an intermediate (as in ztunnel).
    X509_STORE_CTX_set_flags(run, X509_V_FLAG_PARTIAL_CHAIN);
    if (only_root != NULL) {
        anchors = sk_X509_new_null();
        CHECK(anchors != NULL && sk_X509_push(anchors, only_root) > 0);
        X509_STORE_CTX_set0_trusted_stack(run, anchors);
    }
    int err = X509_V_OK;
    if (X509_verify_cert(run) == 1) {
        *ret_path = X509_STORE_CTX_get1_chain(run);
        CHECK(*ret_path != NULL);
    } else {
        err = X509_STORE_CTX_get_error(run);
        err = err != X509_V_OK ? err : X509_V_ERR_UNSPECIFIED;
    }
    X509_STORE_CTX_free(run);
    sk_X509_free(anchors);
    ERR_clear_error();
    return err;
}

// The builder takes the first root of a fitting name and does not come back for another. While a
// root is being replaced, two have the same name and perhaps the same key; so after a failure each
// is tried alone.
static int find_path(struct tls_trust *trust, bool is_server, STACK_OF(X509) * certs, int64_t now_s,
                     STACK_OF(X509) * *ret_path) {
    int err = build_path(trust, is_server, certs, now_s, NULL, ret_path);
    size_t n_roots = tls_trust_n_roots(trust);
    X509_NAME *issuer = X509_get_issuer_name(sk_X509_value(certs, sk_X509_num(certs) - 1));
    if (err == X509_V_OK || n_roots == 1) {
        return err;
    }
    for (size_t i = 0; i < n_roots; i++) {
        X509 *root = tls_trust_root(trust, i);
        if (X509_NAME_cmp(X509_get_subject_name(root), issuer) == 0 &&
            build_path(trust, is_server, certs, now_s, root, ret_path) == X509_V_OK) {
            return X509_V_OK;
        }
    }
    return err;
}

static STACK_OF(X509) * parse_certs(const struct slice *certs, size_t n_certs) {
    STACK_OF(X509) *list = sk_X509_new_null();
    CHECK(list != NULL);
    for (size_t i = 0; i < n_certs; i++) {
        const uint8_t *p = certs[i].ptr;
        X509 *cert = d2i_X509(NULL, &p, (long)certs[i].len);
        if (cert == NULL || p != certs[i].ptr + certs[i].len) {
            X509_free(cert);
            sk_X509_pop_free(list, X509_free);
            ERR_clear_error();
            return NULL;
        }
        CHECK(sk_X509_push(list, cert) > 0);
    }
    return list;
}

static uint8_t *put(uint8_t *p, struct slice bytes) {
    slice_copy(p, bytes);
    return p + bytes.len;
}

// All in one allocation.
struct tls_chain *tls_chain_new(bool is_server, const struct slice *certs, size_t n_certs,
                                struct slice san) {
    size_t size = sizeof(struct tls_chain) + san.len;
    for (size_t i = 0; i < n_certs; i++) {
        size += sizeof(uint32_t) + certs[i].len;
    }
    struct tls_chain *chain = xcalloc(1, size);
    uint8_t *p = (uint8_t *)(chain + 1);
    atomic_init(&chain->refs, 1);
    chain->size = (uint32_t)size;
    chain->is_server = is_server;
    chain->san = slice_make(p, san.len);
    p = put(p, san);
    const uint8_t *der = p;
    for (size_t i = 0; i < n_certs; i++) {
        uint32_t len = (uint32_t)certs[i].len;
        p = put(p, slice_make(&len, sizeof(len)));
        p = put(p, certs[i]);
    }
    chain->der = slice_make(der, (size_t)(p - der));
    tls_sha256(chain->der, chain->hash);
    chain->not_before = INT64_MIN;
    chain->not_after = INT64_MAX;
    return chain;
}

static void set_validity(struct tls_chain *chain, const STACK_OF(X509) * path) {
    for (size_t i = 0; i < sk_X509_num(path); i++) {
        const X509 *cert = sk_X509_value(path, i);
        chain->not_before = MAX(chain->not_before, tls_posix(X509_get0_notBefore(cert)));
        chain->not_after = MIN(chain->not_after, tls_posix(X509_get0_notAfter(cert)));
    }
}

void tls_chain_fill_peer(struct tls_chain *chain, struct tls_peer *ret_peer) {
    ret_peer->chain = chain;
    ret_peer->identity = chain->san;
    ret_peer->not_after = chain->not_after;
    memcpy(ret_peer->chain_hash, chain->hash, sizeof(ret_peer->chain_hash));
    ret_peer->serials = chain->der;
    ret_peer->is_server = chain->is_server;
}

static enum tls_err check_crls(const struct tls_trust *trust, const STACK_OF(X509) * path,
                               char *detail) {
    for (size_t i = 0; i + 1 < sk_X509_num(path); i++) {
        if (tls_trust_is_revoked(trust, sk_X509_value(path, i), sk_X509_value(path, i + 1))) {
            snprintf(detail, TLS_DETAIL_MAX, "certificate %zu of the chain is on the CRL", i);
            return TLS_REVOKED;
        }
    }
    return TLS_OK;
}

enum tls_err tls_verify_path(struct tls_trust *trust, bool is_server, const struct slice *certs,
                             size_t n_certs, int64_t now_s, STACK_OF(X509) * *ret_certs,
                             STACK_OF(X509) * *ret_path, char *detail) {
    *ret_path = NULL;
    *ret_certs = parse_certs(certs, n_certs);
    if (*ret_certs == NULL) {
        snprintf(detail, TLS_DETAIL_MAX, "a certificate is not valid DER");
        return TLS_BAD_CERTIFICATE;
    }
    int x509_err = find_path(trust, is_server, *ret_certs, now_s, ret_path);
    if (x509_err != X509_V_OK) {
        snprintf(detail, TLS_DETAIL_MAX, "%s", X509_verify_cert_error_string(x509_err));
        return err_of(x509_err);
    }
    return check_crls(trust, *ret_path, detail);
}

static enum tls_err verify_slow(struct tls_ctx *ctx, bool is_server, const struct slice *certs,
                                size_t n_certs, int64_t now_s, struct tls_chain **ret_chain,
                                char *detail) {
    STACK_OF(X509) * list, *path;
    char *san = NULL;
    enum tls_err err =
        tls_verify_path(ctx->trust, is_server, certs, n_certs, now_s, &list, &path, detail);
    if (err != TLS_OK) {
        goto out;
    }
    san = tls_cert_identity(sk_X509_value(list, 0));
    if (san == NULL) {
        err = TLS_BAD_SAN;
        goto out;
    }
    *ret_chain = tls_chain_new(is_server, certs, n_certs, slice_str(san));
    set_validity(*ret_chain, path);
out:
    free(san);
    sk_X509_pop_free(path, X509_free);
    sk_X509_pop_free(list, X509_free);
    ERR_clear_error();
    return err;
}

static void cache_key(const struct tls_ctx *ctx, bool is_server, const struct slice *certs,
                      size_t n_certs, uint8_t *ret_key) {
    struct slice pieces[TLS_CHAIN_MAX + 3];
    uint8_t role = is_server;
    memcpy(pieces, certs, n_certs * sizeof(*certs));
    pieces[n_certs] = tls_trust_hash(ctx->trust);
    pieces[n_certs + 1] = slice_make(&ctx->crl_generation, sizeof(ctx->crl_generation));
    pieces[n_certs + 2] = slice_make(&role, 1);
    tls_sha256_list(pieces, n_certs + 3, ret_key);
}

enum tls_err tls_verify_chain(struct tls_ctx *ctx, bool is_server, const struct slice *certs,
                              size_t n_certs, int64_t now_s, struct tls_chain **ret_chain,
                              char *detail) {
    uint8_t key[TLS_SHA256_LEN];
    if (n_certs == 0) {
        return TLS_NO_CERTIFICATE;
    }
    if (n_certs > TLS_CHAIN_MAX) {
        snprintf(detail, TLS_DETAIL_MAX, "more than %d certificates", TLS_CHAIN_MAX);
        return TLS_BAD_CERTIFICATE;
    }
    cache_key(ctx, is_server, certs, n_certs, key);
    struct tls_chain *chain = tls_cache_get(key, now_s);
    if (chain != NULL) {
        *ret_chain = chain;
        return TLS_OK;
    }
    enum tls_err err = verify_slow(ctx, is_server, certs, n_certs, now_s, &chain, detail);
    if (err == TLS_OK) {
        tls_cache_put(key, chain);
        *ret_chain = chain;
    }
    return err;
}

static bool is_accepted_trust_domain(const struct tls_ctx *ctx, struct slice trust_domain) {
    bool is_accepted = slice_eq_str(trust_domain, ctx->trust_domain);
    for (size_t i = 0; i < ctx->n_aliases && !is_accepted; i++) {
        is_accepted = slice_eq_str(trust_domain, ctx->aliases[i]);
    }
    return is_accepted;
}

// Equal, or so but for trust domains that are aliases of each other.
static bool is_expected(const struct tls_ctx *ctx, struct slice uri, struct slice expected) {
    struct tls_spiffe id, other;
    if (slice_eq(uri, expected)) {
        return true;
    }
    return ctx->n_aliases > 0 && tls_spiffe_parse(uri, &id) && tls_spiffe_parse(expected, &other) &&
           slice_eq(id.ns, other.ns) && slice_eq(id.sa, other.sa) &&
           is_accepted_trust_domain(ctx, id.trust_domain) &&
           is_accepted_trust_domain(ctx, other.trust_domain);
}

static bool is_in(const struct tls_ctx *ctx, struct slice uri, const struct slice *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (is_expected(ctx, uri, list[i])) {
            return true;
        }
    }
    return false;
}

enum tls_err tls_verify_identity(const struct tls_ctx *ctx, const struct tls_chain *chain,
                                 const struct slice *expected, size_t n_expected, char *detail) {
    struct tls_spiffe id;
    if (chain->is_server && n_expected > 0) {
        if (is_in(ctx, chain->san, expected, n_expected)) {
            return TLS_OK;
        }
        snprintf(detail, TLS_DETAIL_MAX, "expected %.*s%s, presented %.*s", SLICE_ARG(expected[0]),
                 n_expected > 1 ? " or another" : "", SLICE_ARG(chain->san));
        return TLS_IDENTITY_MISMATCH;
    }
    if (tls_spiffe_parse(chain->san, &id) && is_accepted_trust_domain(ctx, id.trust_domain)) {
        return TLS_OK;
    }
    snprintf(detail, TLS_DETAIL_MAX, "presented %.*s, own trust domain is %s",
             SLICE_ARG(chain->san), ctx->trust_domain);
    return TLS_TRUST_DOMAIN_MISMATCH;
}
