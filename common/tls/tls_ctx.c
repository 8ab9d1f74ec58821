// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_ctx.h"

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <stdlib.h>
#include <string.h>

#include "common/tls/tls_cert_priv.h"
#include "common/tls/tls_ctx_priv.h"
#include "common/tls/tls_pem.h"
#include "common/tls/tls_spiffe.h"

enum {
    OWN_CHAIN_MAX = 8,
    CERT_LIST_MAX = 64 * 1024, // bytes of a peer's Certificate message
};

static atomic_uint_fast64_t next_generation = 1;

static bool set_chain_and_key(SSL_CTX *ssl, const STACK_OF(X509) * chain, const EVP_PKEY *key) {
    CRYPTO_BUFFER *bufs[OWN_CHAIN_MAX];
    size_t n = sk_X509_num(chain);
    for (size_t i = 0; i < n; i++) {
        uint8_t *der = NULL;
        int len = i2d_X509(sk_X509_value(chain, i), &der);
        CHECK(len > 0);
        bufs[i] = CRYPTO_BUFFER_new(der, (size_t)len, NULL);
        CHECK(bufs[i] != NULL);
        OPENSSL_free(der);
    }
    bool ok = SSL_CTX_set_chain_and_key(ssl, bufs, n, key, NULL) == 1;
    for (size_t i = 0; i < n; i++) {
        CRYPTO_BUFFER_free(bufs[i]);
    }
    return ok;
}

static void set_policy(SSL_CTX *ssl, enum tls_compliance compliance, bool prefer_aes_256) {
    static const uint16_t aes_128_first[] = {SSL_CIPHER_AES_128_GCM_SHA256,
                                             SSL_CIPHER_AES_256_GCM_SHA384};
    static const uint16_t aes_256_first[] = {SSL_CIPHER_AES_256_GCM_SHA384,
                                             SSL_CIPHER_AES_128_GCM_SHA256};
    static const uint16_t groups[] = {SSL_GROUP_X25519_MLKEM768, SSL_GROUP_X25519,
                                      SSL_GROUP_SECP256R1};
    static const uint16_t groups_fips[] = {SSL_GROUP_SECP256R1, SSL_GROUP_SECP384R1};
    static const uint16_t groups_pqc[] = {SSL_GROUP_X25519_MLKEM768};
    CHECK(SSL_CTX_set1_tls13_ciphers(ssl, prefer_aes_256 ? aes_256_first : aes_128_first, NULL,
                                     2) == 1);
    int ok = 0;
    switch (compliance) {
    case TLS_COMPLIANCE_DEFAULT:
        ok = SSL_CTX_set1_group_ids(ssl, groups, ARRAY_LEN(groups));
        break;
    case TLS_COMPLIANCE_FIPS:
        ok = SSL_CTX_set1_group_ids(ssl, groups_fips, ARRAY_LEN(groups_fips));
        break;
    case TLS_COMPLIANCE_PQC:
        ok = SSL_CTX_set1_group_ids(ssl, groups_pqc, ARRAY_LEN(groups_pqc));
        break;
    }
    CHECK(ok == 1);
}

// TLS 1.2 for servers outside of the mesh: ECDHE and an AEAD, which is what tls_record_12.c has.
// `pqc` has no groups for it.
static void allow_12(SSL_CTX *ssl, enum tls_compliance compliance) {
#define GCM_SUITES                                                                                 \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    static const char all[] =
        GCM_SUITES ":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
    if (compliance == TLS_COMPLIANCE_PQC) {
        return;
    }
    bool is_fips = compliance == TLS_COMPLIANCE_FIPS;
    CHECK(SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1);
    CHECK(SSL_CTX_set_strict_cipher_list(ssl, is_fips ? GCM_SUITES : all) == 1);
}

static SSL_CTX *ssl_ctx_new(enum tls_compliance compliance, bool prefer_aes_256, bool is_outside) {
    // With buffers: libssl itself does not parse X.509, we do, and only for chains not in the
    // cache.
    SSL_CTX *ssl = SSL_CTX_new(TLS_with_buffers_method());
    CHECK(ssl != NULL);
    CHECK(SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1);
    CHECK(SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) == 1);
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(ssl, CERT_LIST_MAX);
    set_policy(ssl, compliance, prefer_aes_256);
    if (is_outside) {
        allow_12(ssl, compliance);
    }
    tls_handshake_set_callbacks(ssl, is_outside);
    return ssl;
}

static void set_validity(struct tls_ctx *ctx, const STACK_OF(X509) * chain) {
    ctx->not_before = tls_posix(X509_get0_notBefore(sk_X509_value(chain, 0)));
    ctx->not_after = INT64_MAX;
    for (size_t i = 0; i < sk_X509_num(chain); i++) {
        int64_t t = tls_posix(X509_get0_notAfter(sk_X509_value(chain, i)));
        ctx->not_after = MIN(ctx->not_after, t);
    }
}

static struct tls_ctx *ctx_new(enum tls_compliance compliance) {
    struct tls_ctx *ctx = xcalloc(1, sizeof(*ctx));
    atomic_init(&ctx->refs, 1);
    ctx->compliance = compliance;
    ctx->generation = atomic_fetch_add(&next_generation, 1);
    return ctx;
}

// The own chain and key, which belong together. NULL: fine.
static char *read_own(struct slice chain_pem, struct slice key_pem, STACK_OF(X509) * *ret_chain,
                      EVP_PKEY **ret_key) {
    char *error = NULL;
    *ret_chain = tls_pem_certs(chain_pem, OWN_CHAIN_MAX, "certificate chain", &error);
    if (*ret_chain == NULL) {
        return error;
    }
    *ret_key = tls_pem_key(key_pem, &error);
    if (*ret_key == NULL) {
        return error;
    }
    return X509_check_private_key(sk_X509_value(*ret_chain, 0), *ret_key) == 1
               ? NULL
               : tls_error_text("private key and certificate");
}

struct tls_ctx *tls_ctx_new(const struct tls_ctx_params *params, char **ret_error) {
    struct tls_ctx *ctx = ctx_new(params->compliance);
    STACK_OF(X509) *chain = NULL;
    EVP_PKEY *key = NULL;
    struct tls_spiffe id;
    char *error = NULL;
    ctx->crl_generation = params->crl_generation;
    error = read_own(params->cert_chain_pem, params->key_pem, &chain, &key);
    if (error != NULL) {
        goto out;
    }
    ctx->identity = tls_cert_identity(sk_X509_value(chain, 0));
    if (ctx->identity == NULL) {
        error = xstrdup("certificate chain: the leaf does not have exactly one SPIFFE URI");
        goto out;
    }
    CHECK(tls_spiffe_parse(slice_str(ctx->identity), &id));
    ctx->trust_domain =
        slice_dup(params->trust_domain.len > 0 ? params->trust_domain : id.trust_domain);
    ctx->n_aliases = params->n_trust_domain_aliases;
    ctx->aliases = xcalloc(ctx->n_aliases + 1, sizeof(*ctx->aliases));
    for (size_t i = 0; i < ctx->n_aliases; i++) {
        ctx->aliases[i] = slice_dup(params->trust_domain_aliases[i]);
    }
    ctx->trust = tls_trust_get(params->roots_pem, params->crl_pem, &error);
    if (ctx->trust == NULL) {
        goto out;
    }
    set_validity(ctx, chain);
    ctx->ssl = ssl_ctx_new(params->compliance, params->prefer_aes_256, false);
    if (!set_chain_and_key(ctx->ssl, chain, key)) {
        error = tls_error_text("certificate and key are not fit for TLS");
    }
out:
    sk_X509_pop_free(chain, X509_free);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (error != NULL) {
        tls_ctx_unref(ctx);
        *ret_error = error;
        return NULL;
    }
    return ctx;
}

struct tls_ctx *tls_ctx_new_outside(const struct tls_outside_params *params, char **ret_error) {
    struct tls_ctx *ctx = ctx_new(params->compliance);
    STACK_OF(X509) *chain = NULL;
    EVP_PKEY *key = NULL;
    char *error = NULL;
    ctx->is_outside = true;
    ctx->skips_verify = params->skips_verify;
    ctx->ssl = ssl_ctx_new(params->compliance, false, true);
    if (params->roots_pem.len > 0 || !params->skips_verify) {
        ctx->trust = tls_trust_get(params->roots_pem, params->crl_pem, &error);
        if (ctx->trust == NULL) {
            goto out;
        }
    }
    if (params->cert_chain_pem.len > 0 || params->key_pem.len > 0) {
        error = read_own(params->cert_chain_pem, params->key_pem, &chain, &key);
        if (error == NULL && !set_chain_and_key(ctx->ssl, chain, key)) {
            error = tls_error_text("certificate and key are not fit for TLS");
        }
    }
out:
    sk_X509_pop_free(chain, X509_free);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (error != NULL) {
        tls_ctx_unref(ctx);
        *ret_error = error;
        return NULL;
    }
    return ctx;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx) {
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

void tls_ctx_unref(struct tls_ctx *ctx) {
    if (ctx == NULL || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    SSL_CTX_free(ctx->ssl);
    tls_trust_unref(ctx->trust);
    free(ctx->identity);
    free(ctx->trust_domain);
    for (size_t i = 0; i < ctx->n_aliases; i++) {
        free(ctx->aliases[i]);
    }
    free(ctx->aliases);
    free(ctx);
}

struct slice tls_ctx_identity(const struct tls_ctx *ctx) {
    return slice_str(ctx->identity);
}

struct slice tls_ctx_trust_domain(const struct tls_ctx *ctx) {
    return slice_str(ctx->trust_domain);
}

int64_t tls_ctx_not_before(const struct tls_ctx *ctx) {
    return ctx->not_before;
}

int64_t tls_ctx_not_after(const struct tls_ctx *ctx) {
    return ctx->not_after;
}

uint64_t tls_ctx_generation(const struct tls_ctx *ctx) {
    return ctx->generation;
}
