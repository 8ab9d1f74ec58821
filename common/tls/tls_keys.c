// SPDX-License-Identifier: Apache-2.0
//
// Traffic keys of TLS 1.3 (RFC 8446 section 7.3) and their update (section 7.2).
#include <openssl/digest.h>
#include <openssl/hkdf.h>
#include <string.h>

#include "common/tls/tls_record_priv.h"

size_t rec_secret_len(uint16_t suite) {
    switch (suite) {
    case TLS_SUITE_AES_128_GCM_SHA256:
        return 32;
    case TLS_SUITE_AES_256_GCM_SHA384:
        return 48;
    default:
        return 0;
    }
}

// HKDF-Expand-Label(secret, label, "", len), section 7.1.
static void expand_label(const EVP_MD *md, const uint8_t *secret, size_t secret_len,
                         const char *label, uint8_t *out, size_t len) {
    static const char prefix[] = "tls13 ";
    uint8_t info[32];
    size_t prefix_len = sizeof(prefix) - 1;
    size_t label_len = strlen(label);
    size_t n = 0;
    CHECK(4 + prefix_len + label_len <= sizeof(info));
    info[n++] = (uint8_t)(len >> 8);
    info[n++] = (uint8_t)len;
    info[n++] = (uint8_t)(prefix_len + label_len);
    memcpy(info + n, prefix, prefix_len);
    n += prefix_len;
    memcpy(info + n, label, label_len);
    n += label_len;
    info[n++] = 0; // empty context
    CHECK(HKDF_expand(out, len, md, secret, secret_len, info, n) == 1);
}

// Key and IV from the secret in place.
static void derive(struct rec_keys *keys, uint16_t suite) {
    bool is_128 = suite == TLS_SUITE_AES_128_GCM_SHA256;
    const EVP_MD *md = is_128 ? EVP_sha256() : EVP_sha384();
    const EVP_AEAD *aead = is_128 ? EVP_aead_aes_128_gcm() : EVP_aead_aes_256_gcm();
    uint8_t key[32];
    size_t key_len = is_128 ? 16 : 32;
    size_t secret_len = rec_secret_len(suite);
    expand_label(md, keys->secret, secret_len, "key", key, key_len);
    expand_label(md, keys->secret, secret_len, "iv", keys->iv, sizeof(keys->iv));
    CHECK(EVP_AEAD_CTX_init(&keys->aead, aead, key, key_len, REC_TAG, NULL) == 1);
    wipe(key, sizeof(key));
}

void rec_keys_init(struct rec_keys *keys, uint16_t suite, struct slice secret, uint64_t seq) {
    CHECK(secret.len == rec_secret_len(suite));
    memset(keys, 0, sizeof(*keys));
    memcpy(keys->secret, secret.ptr, secret.len);
    keys->seq = seq;
    derive(keys, suite);
}

void rec_keys_update(struct rec_keys *keys, uint16_t suite) {
    const EVP_MD *md = suite == TLS_SUITE_AES_128_GCM_SHA256 ? EVP_sha256() : EVP_sha384();
    size_t len = rec_secret_len(suite);
    uint8_t next[REC_SECRET_MAX];
    expand_label(md, keys->secret, len, "traffic upd", next, len);
    memcpy(keys->secret, next, len);
    wipe(next, sizeof(next));
    EVP_AEAD_CTX_cleanup(&keys->aead);
    wipe(&keys->aead, sizeof(keys->aead));
    derive(keys, suite);
    keys->seq = 0;
    keys->n_updates++;
}

void rec_keys_fini(struct rec_keys *keys) {
    EVP_AEAD_CTX_cleanup(&keys->aead);
    wipe(keys, sizeof(*keys));
}

// The sequence number, big-endian and padded on the left, xor the IV (section 5.3).
void rec_nonce(const struct rec_keys *keys, uint8_t ret_nonce[REC_IV_LEN]) {
    uint64_t tail;
    memcpy(ret_nonce, keys->iv, REC_IV_LEN);
    memcpy(&tail, ret_nonce + 4, sizeof(tail));
    tail ^= __builtin_bswap64(keys->seq);
    memcpy(ret_nonce + 4, &tail, sizeof(tail));
}
