// SPDX-License-Identifier: Apache-2.0
//
// The opening side of TLS 1.2's records: raw bytes, and records of any type around chosen bytes, so
// that what lies behind the AEAD is reached too. Data comes out as it went in, and chunks make no
// difference.
//
// Input: a byte with the AEAD, then steps of (kind, type, length, bytes).
#include <openssl/aead.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cur.h"
#include "common/tls/tls_record_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { STEP_RAW, STEP_CRAFT, STEP_CRAFT_LONG, STEP_CRAFT_BAD_TAG, N_STEPS };
enum { TEXT_MAX = REC_PLAIN_MAX + 512, SIZE_MAX_12 = REC_HEADER + 8 + TEXT_MAX + REC_TAG };

static const uint8_t key[32] = {1}, iv[12] = {2};

static struct tls_record *record_new(enum tls_aead_12 aead) {
    size_t key_len = tls_record_12_key_len(aead), iv_len = tls_record_12_iv_len(aead);
    struct tls_keys_12 keys = {.aead = aead,
                               .read_key = slice_make(key, key_len),
                               .write_key = slice_make(key, key_len),
                               .read_iv = slice_make(iv, iv_len),
                               .write_iv = slice_make(iv, iv_len)};
    return tls_record_new_12(0xc02f, &keys);
}

// By our own sealing side, whose keys are the same: of any type.
static size_t craft(struct tls_record *sender, struct blk_pool *pool, uint8_t type,
                    struct slice bytes, uint8_t *dst) {
    struct chain out;
    chain_init(&out, pool);
    rec_12_seal_message(sender, &out, bytes.ptr, bytes.len, type);
    size_t n = chain_peek(&out, dst, SIZE_MAX_12);
    chain_clear(&out);
    return n;
}

struct result {
    enum tls_open open;
    size_t used, off, len;
};

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

static bool run_step(struct cur *in, struct tls_record *records[3], struct blk_pool *pool,
                     uint8_t *text, uint8_t *bytes, uint8_t *copy) {
    uint8_t kind = cur_u8(in) % N_STEPS, type = cur_u8(in);
    size_t len = cur_u8(in), n_text = MIN(len, in->len);
    memset(text, 0, TEXT_MAX);
    slice_copy(text, cur_bytes(in, n_text));
    size_t n = n_text;
    if (kind == STEP_RAW) {
        memcpy(bytes, text, n);
    } else {
        n_text += kind == STEP_CRAFT_LONG ? REC_PLAIN_MAX - 100 : 0;
        n = craft(records[2], pool, type, slice_make(text, n_text), bytes);
        bytes[n - 1] ^= kind == STEP_CRAFT_BAD_TAG;
    }
    memcpy(copy, bytes, n);
    struct result a = open_stepwise(records[0], bytes, n, n + 1);
    struct result b = open_stepwise(records[1], copy, n, 1 + n / 40);
    CHECK(a.open == b.open && tls_record_error(records[0]) == tls_record_error(records[1]));
    if (a.open == TLS_OPEN_DATA) {
        CHECK(a.used == b.used && a.off == b.off && a.len == b.len && a.len > 0);
        CHECK(kind != STEP_RAW && a.len == n_text && memcmp(bytes + a.off, text, a.len) == 0);
        CHECK(n_text <= REC_PLAIN_MAX && type == REC_APPLICATION_DATA);
    }
    CHECK(kind != STEP_CRAFT_BAD_TAG || a.open == TLS_OPEN_ERROR);
    return a.open == TLS_OPEN_DATA || a.open == TLS_OPEN_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct cur in = cur_make(slice_make(data, len));
    enum tls_aead_12 aead = (enum tls_aead_12)(cur_u8(&in) % 3);
    struct blk_pool pool;
    blk_pool_init(&pool, 4);
    struct tls_record *records[3] = {record_new(aead), record_new(aead), record_new(aead)};
    uint8_t *text = xmalloc(TEXT_MAX), *bytes = xmalloc(SIZE_MAX_12), *copy = xmalloc(SIZE_MAX_12);
    while (in.len > 0 && run_step(&in, records, &pool, text, bytes, copy)) {
    }
    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        tls_record_free(records[i]);
    }
    free(text);
    free(bytes);
    free(copy);
    blk_pool_fini(&pool);
    return 0;
}
