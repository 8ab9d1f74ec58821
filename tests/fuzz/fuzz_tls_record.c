// SPDX-License-Identifier: Apache-2.0
//
// The opening side of the record layer: raw bytes, and records that decrypt to chosen inner
// plaintexts, so that what lies behind the AEAD is reached too. Checks that data comes out as it
// went in, that chunks make no difference, and that hand-overs at any point do not either.
//
// Input: a byte of settings, then steps of (kind, length, bytes).
#include <openssl/aead.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/tls/tls_record_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { SET_AES_256 = 1, SET_SERVER = 2, SET_HAND_OVER = 4 };
enum { STEP_RAW, STEP_CRAFT, STEP_CRAFT_LONG, STEP_CRAFT_BAD_TAG, N_STEPS };

static const uint8_t secrets[2][REC_SECRET_MAX] = {{1}, {2}};

// A record around any inner plaintext, `extra` zeros behind it, under the sender's key.
static size_t craft(struct rec_keys *keys, struct slice inner, size_t extra, uint8_t *dst) {
    uint8_t nonce[REC_IV_LEN];
    size_t n = 0;
    size_t len = inner.len + extra;
    size_t body = len + REC_TAG;
    const uint8_t header[] = {23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body};
    memcpy(dst, header, sizeof(header));
    if (inner.len > 0) {
        memcpy(dst + REC_HEADER, inner.ptr, inner.len);
    }
    memset(dst + REC_HEADER + inner.len, 0, extra);
    rec_nonce(keys, nonce);
    CHECK(EVP_AEAD_CTX_seal(&keys->aead, dst + REC_HEADER, &n, body, nonce, sizeof(nonce),
                            dst + REC_HEADER, len, dst, REC_HEADER) == 1);
    keys->seq++;
    return REC_HEADER + body;
}

static struct tls_record *hand_over(struct tls_record *record) {
    struct buf bytes;
    buf_init(&bytes, 1024);
    if (tls_record_export(record, &bytes)) {
        struct tls_record *copy = tls_record_import(buf_slice(&bytes));
        CHECK(copy != NULL);
        tls_record_free(record);
        record = copy;
    }
    buf_fini(&bytes);
    return record;
}

struct result {
    enum tls_open open;
    size_t used, off, len;
};

// Shows the record layer every prefix first: each must ask for more (or fail for good).
static struct result open_stepwise(struct tls_record *record, uint8_t *bytes, size_t len,
                                   size_t step) {
    struct result r = {0};
    size_t need = 0;
    for (size_t n = 0;; n = n + step < len ? n + step : len) {
        r.used = r.off = r.len = need = 0;
        r.open = tls_record_open(record, bytes, n, &r.used, &r.off, &r.len, &need);
        if (r.open != TLS_OPEN_MORE || n == len) {
            break;
        }
        CHECK(need == 0 ? n < REC_HEADER : need > n);
    }
    CHECK(r.open == TLS_OPEN_MORE || r.open == TLS_OPEN_ERROR || r.used <= len);
    return r;
}

static void run_steps(struct cur *in, uint8_t settings, uint8_t *bytes, uint8_t *copy) {
    enum tls_suite suite =
        (settings & SET_AES_256) != 0 ? TLS_SUITE_AES_256_GCM_SHA384 : TLS_SUITE_AES_128_GCM_SHA256;
    struct slice read = slice_make(secrets[0], rec_secret_len((uint16_t)suite));
    struct slice write = slice_make(secrets[1], read.len);
    struct tls_record *whole = tls_record_new(suite, read, 0, write, 0);
    struct tls_record *bytewise = tls_record_new(suite, read, 0, write, 0);
    struct rec_keys sender;
    rec_keys_init(&sender, (uint16_t)suite, read, 0);
    if ((settings & SET_SERVER) != 0) {
        tls_record_set_server(whole);
        tls_record_set_server(bytewise);
    }
    while (in->len > 0) {
        uint8_t kind = cur_u8(in) % N_STEPS;
        struct slice data = slice_head(cur_rest(in), cur_u8(in));
        cur_skip(in, MIN(data.len, in->len));
        data = slice_make(in->ptr - data.len, data.len);
        size_t len = data.len;
        if (kind == STEP_RAW) {
            memcpy(bytes, data.ptr, len);
        } else {
            len = craft(&sender, data, kind == STEP_CRAFT_LONG ? REC_PLAIN_MAX : 0, bytes);
            bytes[len - 1] ^= kind == STEP_CRAFT_BAD_TAG;
        }
        memcpy(copy, bytes, len);
        struct result a = open_stepwise(whole, bytes, len, len + 1);
        struct result b = open_stepwise(bytewise, copy, len, 1 + len / 40);
        CHECK(a.open == b.open && tls_record_error(whole) == tls_record_error(bytewise));
        if (a.open == TLS_OPEN_DATA) {
            CHECK(a.used == b.used && a.off == b.off && a.len == b.len && a.len > 0);
            CHECK(kind != STEP_RAW && memcmp(bytes + a.off, data.ptr, a.len) == 0);
        }
        CHECK(kind != STEP_CRAFT_BAD_TAG || a.open == TLS_OPEN_ERROR || a.open == TLS_OPEN_CLOSED);
        if (a.open == TLS_OPEN_ERROR || a.open == TLS_OPEN_CLOSED) {
            break;
        }
        if (sender.n_updates != whole->read.n_updates) {
            rec_keys_update(&sender, (uint16_t)suite);
        }
        if ((settings & SET_HAND_OVER) != 0) {
            bytewise = hand_over(bytewise);
        }
    }
    rec_keys_fini(&sender);
    tls_record_free(whole);
    tls_record_free(bytewise);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct cur in = cur_make(slice_make(data, len));
    uint8_t settings = cur_u8(&in);
    size_t size = REC_HEADER + REC_PLAIN_MAX + 512;
    uint8_t *bytes = xmalloc(size);
    uint8_t *copy = xmalloc(size);
    run_steps(&in, settings, bytes, copy);
    free(bytes);
    free(copy);
    struct tls_record *record = tls_record_import(slice_make(data, len));
    if (record != NULL) { // what is taken in can be given out again
        record = hand_over(record);
    }
    tls_record_free(record);
    return 0;
}
