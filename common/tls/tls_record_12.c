// SPDX-License-Identifier: Apache-2.0
//
// Records of TLS 1.2 with AEAD suites (RFC 5246 section 6.2.3.3, RFC 5288, RFC 7905), for servers
// outside of the mesh that have nothing newer. There are no updates of keys and no second
// handshake: who asks for one is refused.
#include <openssl/err.h>
#include <string.h>

#include "common/tls/tls_err_priv.h"
#include "common/tls/tls_record_priv.h"

enum {
    EXPLICIT_LEN = 8, // AES-GCM: the part of the nonce that each record brings (RFC 5288 3)
    AD_LEN = 13, // RFC 5246 6.2.3.3
    OVERHEAD_MAX = REC_HEADER + EXPLICIT_LEN + REC_TAG,
    LEVEL_WARNING = 1,
    MSG_HELLO_REQUEST = 0,
    ALERT_CLOSE_NOTIFY = 0,
};

static const EVP_AEAD *aead_of(enum tls_aead_12 aead) {
    switch (aead) {
    case TLS_12_AES_128_GCM:
        return EVP_aead_aes_128_gcm();
    case TLS_12_AES_256_GCM:
        return EVP_aead_aes_256_gcm();
    case TLS_12_CHACHA20_POLY1305:
        return EVP_aead_chacha20_poly1305();
    }
    return NULL;
}

size_t tls_record_12_key_len(enum tls_aead_12 aead) {
    return aead == TLS_12_AES_128_GCM ? 16 : 32;
}

size_t tls_record_12_iv_len(enum tls_aead_12 aead) {
    return aead == TLS_12_CHACHA20_POLY1305 ? 12 : 4;
}

static void keys_init(struct rec_keys *keys, enum tls_aead_12 aead, struct slice key,
                      struct slice iv, uint64_t seq) {
    memcpy(keys->iv, iv.ptr, iv.len);
    keys->seq = seq;
    CHECK(EVP_AEAD_CTX_init(&keys->aead, aead_of(aead), key.ptr, key.len, REC_TAG, NULL) == 1);
}

struct tls_record *tls_record_new_12(uint16_t suite, const struct tls_keys_12 *keys) {
    size_t key_len = tls_record_12_key_len(keys->aead);
    size_t iv_len = tls_record_12_iv_len(keys->aead);
    if (keys->read_key.len != key_len || keys->write_key.len != key_len ||
        keys->read_iv.len != iv_len || keys->write_iv.len != iv_len) {
        return NULL;
    }
    struct tls_record *record = xcalloc(1, sizeof(*record));
    record->suite = suite;
    record->is_12 = true;
    record->explicit_len = iv_len == 4 ? EXPLICIT_LEN : 0;
    keys_init(&record->read, keys->aead, keys->read_key, keys->read_iv, keys->read_seq);
    keys_init(&record->write, keys->aead, keys->write_key, keys->write_iv, keys->write_seq);
    return record;
}

static void put_u64(uint8_t *dst, uint64_t value) {
    value = __builtin_bswap64(value);
    memcpy(dst, &value, sizeof(value));
}

static void make_ad(uint64_t seq, uint8_t type, size_t len, uint8_t ret_ad[AD_LEN]) {
    put_u64(ret_ad, seq);
    ret_ad[8] = type;
    ret_ad[9] = ret_ad[10] = 3;
    ret_ad[11] = (uint8_t)(len >> 8);
    ret_ad[12] = (uint8_t)len;
}

// The explicit part, of AES-GCM, is in the record.
static void make_nonce(const struct tls_record *record, const struct rec_keys *keys,
                       const uint8_t *explicit_nonce, uint8_t ret_nonce[REC_IV_LEN]) {
    if (record->explicit_len == 0) {
        rec_nonce(keys, ret_nonce);
        return;
    }
    memcpy(ret_nonce, keys->iv, REC_IV_LEN - EXPLICIT_LEN);
    memcpy(ret_nonce + REC_IV_LEN - EXPLICIT_LEN, explicit_nonce, EXPLICIT_LEN);
}

// ---- Seal

static size_t front_of(const struct tls_record *record) {
    return REC_HEADER + record->explicit_len;
}

// Seals len bytes at src into rec, which has room for header, nonce and tag. `src` may be their
// place in it.
static void seal_one(struct tls_record *record, uint8_t *rec, const uint8_t *src, size_t len,
                     uint8_t type) {
    struct rec_keys *keys = &record->write;
    uint8_t nonce[REC_IV_LEN], ad[AD_LEN];
    size_t tag_len, body_len = record->explicit_len + len + REC_TAG;
    uint8_t *body = rec + front_of(record);
    rec[0] = type;
    rec[1] = rec[2] = 3;
    rec[3] = (uint8_t)(body_len >> 8);
    rec[4] = (uint8_t)body_len;
    if (record->explicit_len > 0) {
        put_u64(rec + REC_HEADER, keys->seq); // never twice under one key
    }
    make_nonce(record, keys, rec + REC_HEADER, nonce);
    make_ad(keys->seq, type, len, ad);
    CHECK(EVP_AEAD_CTX_seal_scatter(&keys->aead, body, body + len, &tag_len, REC_TAG, nonce,
                                    sizeof(nonce), src, len, NULL, 0, ad, sizeof(ad)) == 1);
    keys->seq++;
}

void rec_12_seal_message(struct tls_record *record, struct chain *out, const uint8_t *bytes,
                         size_t len, uint8_t type) {
    size_t size = front_of(record) + len + REC_TAG;
    struct blk *blk = blk_new_cold(out->pool, size);
    seal_one(record, blk->base, bytes, len, type);
    chain_give(out, blk, 0, (uint32_t)size);
}

// Makes one record from the front of `plain`.
static void seal_next(struct tls_record *record, struct chain *plain, struct chain *out) {
    const struct seg *head = plain->head;
    size_t n = rec_coalesce_len(plain), front = front_of(record);
    if (n == 0 && head->len <= REC_PLAIN_MAX && head->headroom >= front &&
        head->tailroom >= REC_TAG) {
        struct seg seg;
        CHECK(chain_pop(plain, &seg));
        uint8_t *rec = seg_ptr(&seg) - front;
        seal_one(record, rec, rec + front, seg.len, REC_APPLICATION_DATA);
        seg.off -= (uint32_t)front;
        seg.len += (uint32_t)(front + REC_TAG);
        seg.headroom = (uint16_t)(seg.headroom - front);
        seg.tailroom = (uint16_t)(seg.tailroom - REC_TAG);
        chain_push(out, &seg);
        return;
    }
    bool is_single = n == 0;
    if (is_single) {
        n = MIN(head->len, (uint32_t)REC_PLAIN_MAX);
    }
    struct blk *blk = blk_new_cold(out->pool, n + OVERHEAD_MAX);
    uint8_t *body = blk->base + front;
    if (!is_single) {
        chain_peek(plain, body, n);
    }
    seal_one(record, blk->base, is_single ? seg_ptr(head) : body, n, REC_APPLICATION_DATA);
    chain_skip(plain, n);
    chain_give(out, blk, 0, (uint32_t)(front + n + REC_TAG));
}

void rec_12_seal(struct tls_record *record, struct chain *plain, struct chain *out, size_t budget) {
    size_t before = out->len;
    while (!chain_empty(plain) && out->len - before < budget) {
        seal_next(record, plain, out);
    }
}

// ---- Open

static enum tls_open fail(struct tls_record *record, enum tls_err err) {
    record->err = err;
    return TLS_OPEN_ERROR;
}

// Decrypts the whole record at `in`, `len` bytes behind its header.
static enum tls_err decrypt(struct tls_record *record, uint8_t *in, size_t len, size_t *ret_len) {
    struct rec_keys *keys = &record->read;
    uint8_t nonce[REC_IV_LEN], ad[AD_LEN];
    uint8_t *body = in + front_of(record);
    if (len < (size_t)record->explicit_len + REC_TAG) {
        return TLS_BAD_RECORD_MAC;
    }
    if (keys->seq == UINT64_MAX) {
        return TLS_SEQUENCE_OVERFLOW;
    }
    len -= (size_t)record->explicit_len + REC_TAG;
    if (len > REC_PLAIN_MAX) {
        return TLS_RECORD_OVERFLOW;
    }
    make_nonce(record, keys, in + REC_HEADER, nonce);
    make_ad(keys->seq, in[0], len, ad);
    if (EVP_AEAD_CTX_open_gather(&keys->aead, body, nonce, sizeof(nonce), body, len, body + len,
                                 REC_TAG, ad, sizeof(ad)) != 1) {
        ERR_clear_error();
        return TLS_BAD_RECORD_MAC;
    }
    keys->seq++;
    *ret_len = len;
    return TLS_OK;
}

static enum tls_err open_alert(struct tls_record *record, const uint8_t *p, size_t len) {
    if (len != 2) {
        return TLS_DECODE_ERROR; // it may be cut (RFC 5246 6.2.1), but nobody does that
    }
    if (p[1] == ALERT_CLOSE_NOTIFY) {
        record->is_read_closed = true;
        return TLS_OK;
    }
    return p[0] == LEVEL_WARNING ? TLS_OK : tls_err_from_peer_alert(p[1]); // section 7.2.2
}

static enum tls_open open_control(struct tls_record *record, uint8_t type, const uint8_t *p,
                                  size_t len) {
    enum tls_err err = TLS_UNEXPECTED_MESSAGE;
    if (type == REC_ALERT) {
        err = open_alert(record, p, len);
    } else if (type == REC_APPLICATION_DATA) {
        err = TLS_OK;
    } else if (type == REC_HANDSHAKE && len > 0 && p[0] == MSG_HELLO_REQUEST) {
        err = TLS_RENEGOTIATION;
    }
    if (err != TLS_OK) {
        return fail(record, err);
    }
    if (record->is_read_closed) {
        return TLS_OPEN_CLOSED;
    }
    return ++record->n_idle > REC_IDLE_MAX ? fail(record, TLS_EMPTY_RECORD_FLOOD) : TLS_OPEN_NONE;
}

enum tls_open rec_12_open(struct tls_record *record, uint8_t *in, size_t len, size_t *ret_used,
                          size_t *ret_off, size_t *ret_len, size_t *ret_need) {
    if (len > 0 && (in[0] < REC_ALERT || in[0] > REC_APPLICATION_DATA)) {
        return fail(record, TLS_UNEXPECTED_MESSAGE);
    }
    if (len < REC_HEADER) {
        *ret_need = 0;
        return TLS_OPEN_MORE;
    }
    if (in[1] != 3 || in[2] != 3) {
        return fail(record, TLS_ILLEGAL_PARAMETER);
    }
    size_t body_len = (size_t)in[3] << 8 | in[4];
    if (body_len > REC_CIPHER_MAX) {
        return fail(record, TLS_RECORD_OVERFLOW);
    }
    if (len < REC_HEADER + body_len) {
        *ret_need = REC_HEADER + body_len;
        return TLS_OPEN_MORE;
    }
    size_t n;
    enum tls_err err = decrypt(record, in, body_len, &n);
    if (err != TLS_OK) {
        return fail(record, err);
    }
    *ret_used = REC_HEADER + body_len;
    if (LIKELY(in[0] == REC_APPLICATION_DATA && n > 0)) {
        record->n_idle = 0;
        *ret_off = front_of(record);
        *ret_len = n;
        return TLS_OPEN_DATA;
    }
    return open_control(record, in[0], in + front_of(record), n);
}
