// SPDX-License-Identifier: Apache-2.0
//
// TLS 1.2 towards servers outside of the mesh: handshakes and records against BoringSSL's own
// server, and records that the test makes itself, by the RFCs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/aead.h>
#include <openssl/ssl.h>

#include "common/base/buf.h"
#include "tests/unit/tls/tls_fixture.h"

static struct fix_ca root;
static struct fix_leaf leaf;

static int setup(void **state) {
    fix_pool_setup(state);
    fix_ca_init(&root);
    fix_leaf_init(&leaf, &root, "DNS:a", NULL, FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    return 0;
}

static int teardown(void **state) {
    fix_leaf_fini(&leaf);
    fix_ca_fini(&root);
    return fix_pool_teardown(state);
}

// ---- against BoringSSL -------------------------------------------------------------------------

static const char *const suites[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                                     "ECDHE-ECDSA-AES256-GCM-SHA384",
                                     "ECDHE-ECDSA-CHACHA20-POLY1305"};

struct talk {
    SSL_CTX *oracle;
    struct tls_ctx *ctx;
    SSL *ssl;
    struct tls_record *record;
};

static void talk_open(struct talk *talk, const char *suite, size_t chunk) {
    struct tls_outside_params params = {.roots_pem = slice_str(root.cert_pem)};
    struct tls_outside_server server = {.sni = SLICE_LIT("a"), .alpn = TLS_ALPN_HTTP1};
    struct slice names[] = {SLICE_LIT("a")};
    char *error = NULL;
    server.names = names;
    server.n_names = 1;
    talk->oracle = fix_oracle_ctx(&root, NULL);
    fix_oracle_use_leaf(talk->oracle, &leaf);
    assert_int_equal(SSL_CTX_set_min_proto_version(talk->oracle, TLS1_2_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(talk->oracle, TLS1_2_VERSION), 1);
    assert_int_equal(SSL_CTX_set_strict_cipher_list(talk->oracle, suite), 1);
    talk->ctx = tls_ctx_new_outside(&params, &error);
    assert_null(error);
    struct tls_handshake *hs = tls_handshake_new_outside(talk->ctx, &server);
    talk->ssl = fix_oracle_new(talk->oracle, true);
    uint8_t *rest = NULL;
    size_t rest_len = 0;
    assert_true(fix_oracle_run(talk->ssl, hs, chunk, &talk->record, &rest, &rest_len));
    assert_int_equal(rest_len, 0);
    assert_int_equal(tls_record_suite(talk->record),
                     SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(talk->ssl)));
    free(rest);
    tls_handshake_free(hs);
}

static void talk_close(struct talk *talk) {
    tls_record_free(talk->record);
    SSL_free(talk->ssl);
    SSL_CTX_free(talk->oracle);
    tls_ctx_unref(talk->ctx);
}

static uint8_t byte_at(size_t i) {
    return (uint8_t)(i * 31 + (i >> 8));
}

// `n` bytes in segments of `step`, with or without room for header and tag.
static void make_plain(struct chain *chain, size_t n, size_t step, bool has_room) {
    for (size_t at = 0; at < n; at += step) {
        size_t len = MIN(step, n - at);
        struct blk *blk = blk_new_cold(&fix_pool, len + 64);
        for (size_t i = 0; i < len; i++) {
            blk->base[32 + i] = byte_at(at + i);
        }
        chain_give_room(chain, blk, 32, (uint32_t)len, has_room ? 14 : 12, has_room ? 17 : 16);
    }
}

static void oracle_reads(SSL *ssl, size_t n) {
    uint8_t bytes[4096];
    size_t at = 0;
    while (at < n) {
        int got = SSL_read(ssl, bytes, sizeof(bytes));
        assert_true(got > 0);
        for (int i = 0; i < got; i++) {
            assert_int_equal(bytes[i], byte_at(at + (size_t)i));
        }
        at += (size_t)got;
    }
    assert_int_equal(at, n);
}

// All that the oracle has sent; what comes of it, and the number of bytes of data.
static enum tls_open open_all(struct talk *talk, size_t *ret_n) {
    struct slice out = fix_oracle_out(talk->ssl);
    uint8_t *bytes = malloc(out.len + 1);
    memcpy(bytes, out.ptr, out.len);
    enum tls_open last = TLS_OPEN_MORE;
    *ret_n = 0;
    for (size_t at = 0; at < out.len;) {
        size_t used = 0, off = 0, len = 0, need = 0;
        // Not before it is whole.
        assert_int_equal(tls_record_open(talk->record, bytes + at, 4, &used, &off, &len, &need),
                         TLS_OPEN_MORE);
        assert_int_equal(need, 0);
        assert_int_equal(tls_record_open(talk->record, bytes + at, 6, &used, &off, &len, &need),
                         TLS_OPEN_MORE);
        assert_true(need > 5 && at + need <= out.len);
        last = tls_record_open(talk->record, bytes + at, out.len - at, &used, &off, &len, &need);
        if (last == TLS_OPEN_ERROR || last == TLS_OPEN_CLOSED) {
            break;
        }
        assert_int_equal(used, need);
        for (size_t i = 0; last == TLS_OPEN_DATA && i < len; i++) {
            assert_int_equal(bytes[at + off + i], byte_at(*ret_n + i));
        }
        *ret_n += last == TLS_OPEN_DATA ? len : 0;
        at += used;
    }
    free(bytes);
    fix_oracle_drop(talk->ssl);
    return last;
}

static void test_bytes(void **state) {
    static const struct {
        size_t n, step;
        bool has_room;
    } cases[] = {{1, 1, true},         {16384, 16384, true},  {16385, 16385, true},
                 {100, 10, true},      {5000, 2500, true},    {40000, 8192, true},
                 {40000, 8192, false}, {100000, 16375, true}, {300, 300, false},
                 {20000, 20000, false}};
    static const size_t chunks[] = {0, 1, 100};
    for (size_t s = 0; s < ARRAY_LEN(suites); s++) {
        struct talk talk;
        talk_open(&talk, suites[s], chunks[s]);
        for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
            struct chain plain, out;
            chain_init(&plain, &fix_pool);
            chain_init(&out, &fix_pool);
            make_plain(&plain, cases[c].n, cases[c].step, cases[c].has_room);
            size_t n_out = tls_record_seal(talk.record, &plain, &out, SIZE_MAX);
            assert_int_equal(n_out, out.len);
            assert_true(chain_empty(&plain));
            fix_oracle_feed(talk.ssl, &out);
            oracle_reads(talk.ssl, cases[c].n);
            // And back.
            uint8_t *bytes = malloc(cases[c].n);
            for (size_t i = 0; i < cases[c].n; i++) {
                bytes[i] = byte_at(i);
            }
            assert_int_equal(SSL_write(talk.ssl, bytes, (int)cases[c].n), cases[c].n);
            free(bytes);
            size_t n;
            assert_int_equal(open_all(&talk, &n), TLS_OPEN_DATA);
            assert_int_equal(n, cases[c].n);
        }
        talk_close(&talk);
    }
}

// Sealed where it lies: no copy, as with TLS 1.3.
static void test_in_place(void **state) {
    for (size_t s = 0; s < ARRAY_LEN(suites); s++) {
        struct talk talk;
        struct chain plain, out;
        talk_open(&talk, suites[s], 0);
        chain_init(&plain, &fix_pool);
        chain_init(&out, &fix_pool);
        make_plain(&plain, 6000, 6000, true);
        const struct blk *blk = plain.head->blk;
        (void)tls_record_seal(talk.record, &plain, &out, SIZE_MAX);
        assert_ptr_equal(out.head->blk, blk);
        fix_oracle_feed(talk.ssl, &out);
        oracle_reads(talk.ssl, 6000);
        talk_close(&talk);
    }
}

static void test_budget(void **state) {
    struct talk talk;
    struct chain plain, out;
    talk_open(&talk, suites[0], 0);
    chain_init(&plain, &fix_pool);
    chain_init(&out, &fix_pool);
    make_plain(&plain, 50000, 10000, true);
    (void)tls_record_seal(talk.record, &plain, &out, 15000);
    assert_int_equal(plain.len, 30000);
    (void)tls_record_seal(talk.record, &plain, &out, SIZE_MAX);
    fix_oracle_feed(talk.ssl, &out);
    oracle_reads(talk.ssl, 50000);
    talk_close(&talk);
}

static void test_close(void **state) {
    struct talk talk;
    struct chain out;
    uint8_t byte;
    size_t n;
    talk_open(&talk, suites[0], 0);
    chain_init(&out, &fix_pool);
    assert_int_equal(tls_record_eof(talk.record), TLS_TRUNCATED);
    tls_record_close(talk.record, TLS_OK, &out);
    assert_true(tls_record_is_write_closed(talk.record));
    fix_oracle_feed(talk.ssl, &out);
    assert_int_equal(SSL_read(talk.ssl, &byte, 1), 0);
    assert_int_equal(SSL_get_error(talk.ssl, 0), SSL_ERROR_ZERO_RETURN);
    (void)SSL_shutdown(talk.ssl);
    assert_int_equal(open_all(&talk, &n), TLS_OPEN_CLOSED);
    assert_int_equal(tls_record_eof(talk.record), TLS_OK);
    talk_close(&talk);
    // What goes wrong is told by a fatal alert.
    talk_open(&talk, suites[2], 0);
    tls_record_close(talk.record, TLS_BAD_RECORD_MAC, &out);
    fix_oracle_feed(talk.ssl, &out);
    assert_int_equal(SSL_read(talk.ssl, &byte, 1), -1);
    assert_int_equal(SSL_get_error(talk.ssl, -1), SSL_ERROR_SSL);
    talk_close(&talk);
}

static void test_what_there_is_not(void **state) {
    struct talk talk;
    struct chain plain, out;
    struct buf state_bytes;
    talk_open(&talk, suites[0], 0);
    chain_init(&plain, &fix_pool);
    chain_init(&out, &fix_pool);
    buf_init(&state_bytes, SIZE_MAX);
    assert_false(tls_record_export(talk.record, &state_bytes));
    buf_fini(&state_bytes);
    tls_record_key_update(talk.record, true);
    assert_false(tls_record_wants_write(talk.record));
    tls_record_set_key_update_limit(talk.record, 1); // nor by itself
    make_plain(&plain, 30000, 10000, true);
    (void)tls_record_seal(talk.record, &plain, &out, SIZE_MAX);
    fix_oracle_feed(talk.ssl, &out);
    oracle_reads(talk.ssl, 30000);
    talk_close(&talk);
}

// ---- against the RFCs --------------------------------------------------------------------------

static const uint8_t read_key[32] = {1, 2, 3}, write_key[32] = {4, 5, 6};
static const uint8_t read_iv[12] = {7, 8, 9}, write_iv[12] = {10, 11, 12};

static struct tls_record *record_of(enum tls_aead_12 aead, uint64_t read_seq) {
    size_t key_len = tls_record_12_key_len(aead), iv_len = tls_record_12_iv_len(aead);
    struct tls_keys_12 keys = {
        .aead = aead,
        .read_key = slice_make(read_key, key_len),
        .read_iv = slice_make(read_iv, iv_len),
        .write_key = slice_make(write_key, key_len),
        .write_iv = slice_make(write_iv, iv_len),
        .read_seq = read_seq,
    };
    struct tls_record *record = tls_record_new_12(0xcca9, &keys);
    assert_non_null(record);
    return record;
}

// A record of the peer's. `explicit_nonce` need not be the sequence number (RFC 5288 3).
static size_t make_record(enum tls_aead_12 kind, uint64_t seq, uint64_t explicit_nonce,
                          uint8_t type, const uint8_t *bytes, size_t len, uint8_t *ret) {
    const EVP_AEAD *aead = kind == TLS_12_AES_128_GCM   ? EVP_aead_aes_128_gcm()
                           : kind == TLS_12_AES_256_GCM ? EVP_aead_aes_256_gcm()
                                                        : EVP_aead_chacha20_poly1305();
    bool is_gcm = kind != TLS_12_CHACHA20_POLY1305;
    size_t n_explicit = is_gcm ? 8 : 0, n = 0;
    uint8_t nonce[12], ad[13];
    memcpy(nonce, read_iv, 12);
    for (size_t i = 0; i < 8; i++) {
        ad[i] = (uint8_t)(seq >> (56 - 8 * i));
        uint8_t e = (uint8_t)(explicit_nonce >> (56 - 8 * i));
        nonce[4 + i] = is_gcm ? e : (uint8_t)(nonce[4 + i] ^ ad[i]);
        ret[5 + i] = e; // overwritten where there is none
    }
    ad[8] = type;
    ad[9] = ad[10] = 3;
    ad[11] = (uint8_t)(len >> 8);
    ad[12] = (uint8_t)len;
    EVP_AEAD_CTX ctx;
    assert_int_equal(EVP_AEAD_CTX_init(&ctx, aead, read_key, tls_record_12_key_len(kind), 16, NULL),
                     1);
    assert_int_equal(EVP_AEAD_CTX_seal(&ctx, ret + 5 + n_explicit, &n, len + 16, nonce, 12, bytes,
                                       len, ad, 13),
                     1);
    EVP_AEAD_CTX_cleanup(&ctx);
    size_t body = n_explicit + n;
    ret[0] = type;
    ret[1] = ret[2] = 3;
    ret[3] = (uint8_t)(body >> 8);
    ret[4] = (uint8_t)body;
    return 5 + body;
}

static enum tls_open open_one(struct tls_record *record, uint8_t *bytes, size_t len) {
    size_t used, off, n, need;
    return tls_record_open(record, bytes, len, &used, &off, &n, &need);
}

enum { RECORD_MAX = 17 * 1024 };

static void test_control(void **state) {
    static const struct {
        uint8_t type, bytes[8], len;
        enum tls_open result;
        enum tls_err err;
    } cases[] = {
        {23, "a", 1, TLS_OPEN_DATA, TLS_OK},
        {23, "", 0, TLS_OPEN_NONE, TLS_OK},
        {21, {1, 0}, 2, TLS_OPEN_CLOSED, TLS_OK},
        {21, {2, 0}, 2, TLS_OPEN_CLOSED, TLS_OK},
        {21, {1, 90}, 2, TLS_OPEN_NONE, TLS_OK}, // user_canceled
        {21, {1, 100}, 2, TLS_OPEN_NONE, TLS_OK}, // no_renegotiation
        {21, {2, 40}, 2, TLS_OPEN_ERROR, TLS_PEER_HANDSHAKE_FAILURE},
        {21, {2}, 1, TLS_OPEN_ERROR, TLS_DECODE_ERROR},
        {21, {1, 0, 0}, 3, TLS_OPEN_ERROR, TLS_DECODE_ERROR},
        {22, {0, 0, 0, 0}, 4, TLS_OPEN_ERROR, TLS_RENEGOTIATION}, // HelloRequest
        {22, {4, 0, 0, 0}, 4, TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE},
        {22, "", 0, TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE},
        {20, {1}, 1, TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE},
        {24, {1}, 1, TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE},
    };
    static const enum tls_aead_12 aeads[] = {TLS_12_AES_128_GCM, TLS_12_AES_256_GCM,
                                             TLS_12_CHACHA20_POLY1305};
    uint8_t bytes[128];
    for (size_t i = 0; i < ARRAY_LEN(cases) * ARRAY_LEN(aeads); i++) {
        size_t c = i / ARRAY_LEN(aeads);
        enum tls_aead_12 aead = aeads[i % ARRAY_LEN(aeads)];
        struct tls_record *record = record_of(aead, 5);
        size_t len = make_record(aead, 5, 99, cases[c].type, cases[c].bytes, cases[c].len, bytes);
        assert_int_equal(open_one(record, bytes, len), cases[c].result);
        assert_int_equal(tls_record_error(record), cases[c].err);
        if (cases[c].result == TLS_OPEN_ERROR) { // for good
            assert_int_equal(open_one(record, bytes, len), TLS_OPEN_ERROR);
        }
        tls_record_free(record);
    }
}

static void test_tampering(void **state) {
    uint8_t bytes[128], copy[128];
    const uint8_t text[] = "hello";
    size_t len = make_record(TLS_12_AES_128_GCM, 0, 0, 23, text, 5, bytes);
    for (size_t i = 0; i < len; i++) {
        memcpy(copy, bytes, len);
        copy[i] ^= 1;
        struct tls_record *record = record_of(TLS_12_AES_128_GCM, 0);
        enum tls_open result = open_one(record, copy, len);
        // A longer length waits for more; everything else is an error.
        assert_true(result == TLS_OPEN_ERROR || (i >= 3 && i <= 4 && result == TLS_OPEN_MORE));
        tls_record_free(record);
    }
    // A record again, or one left out.
    struct tls_record *record = record_of(TLS_12_AES_128_GCM, 0);
    memcpy(copy, bytes, len);
    assert_int_equal(open_one(record, copy, len), TLS_OPEN_DATA);
    memcpy(copy, bytes, len);
    assert_int_equal(open_one(record, copy, len), TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(record), TLS_BAD_RECORD_MAC);
    tls_record_free(record);
    record = record_of(TLS_12_AES_128_GCM, 1);
    assert_int_equal(open_one(record, bytes, len), TLS_OPEN_ERROR);
    tls_record_free(record);
}

static void test_sizes(void **state) {
    uint8_t *bytes = malloc(RECORD_MAX + 512), *text = calloc(1, RECORD_MAX);
    struct tls_record *record = record_of(TLS_12_CHACHA20_POLY1305, 0);
    size_t len = make_record(TLS_12_CHACHA20_POLY1305, 0, 0, 23, text, 1 << 14, bytes);
    assert_int_equal(open_one(record, bytes, len), TLS_OPEN_DATA);
    len = make_record(TLS_12_CHACHA20_POLY1305, 1, 0, 23, text, (1 << 14) + 1, bytes);
    assert_int_equal(open_one(record, bytes, len), TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(record), TLS_RECORD_OVERFLOW);
    tls_record_free(record);
    record = record_of(TLS_12_AES_256_GCM, 0);
    uint8_t header[] = {23, 3, 3, 0x41, 1}; // 2^14 + 257
    assert_int_equal(open_one(record, header, sizeof(header)), TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(record), TLS_RECORD_OVERFLOW);
    tls_record_free(record);
    record = record_of(TLS_12_AES_256_GCM, 0);
    uint8_t tiny[5 + 23] = {23, 3, 3, 0, 23}; // less than nonce and tag
    assert_int_equal(open_one(record, tiny, sizeof(tiny)), TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(record), TLS_BAD_RECORD_MAC);
    tls_record_free(record);
    record = record_of(TLS_12_AES_256_GCM, UINT64_MAX);
    len = make_record(TLS_12_AES_256_GCM, UINT64_MAX, 0, 23, text, 1, bytes);
    assert_int_equal(open_one(record, bytes, len), TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(record), TLS_SEQUENCE_OVERFLOW);
    tls_record_free(record);
    free(bytes);
    free(text);
    struct tls_keys_12 keys = {.aead = TLS_12_AES_128_GCM,
                               .read_key = slice_make(read_key, 32),
                               .write_key = slice_make(write_key, 16),
                               .read_iv = slice_make(read_iv, 4),
                               .write_iv = slice_make(write_iv, 4)};
    assert_null(tls_record_new_12(0xc02f, &keys));
}

static void test_floods(void **state) {
    uint8_t bytes[64];
    const uint8_t warning[] = {1, 90};
    struct tls_record *record = record_of(TLS_12_AES_128_GCM, 0);
    enum tls_open result = TLS_OPEN_NONE;
    uint64_t seq = 0;
    for (; result == TLS_OPEN_NONE; seq++) {
        assert_true(seq < 100);
        size_t len = make_record(TLS_12_AES_128_GCM, seq, seq, seq % 2 == 0 ? 21 : 23, warning,
                                 seq % 2 == 0 ? 2 : 0, bytes);
        result = open_one(record, bytes, len);
    }
    assert_int_equal(tls_record_error(record), TLS_EMPTY_RECORD_FLOOD);
    tls_record_free(record);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_there_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_control, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tampering, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_floods, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
