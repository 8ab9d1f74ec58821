// SPDX-License-Identifier: Apache-2.0
//
// The record layer: against BoringSSL's own as the oracle, and record by record against the rules
// of RFC 8446 section 5.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "common/base/buf.h"
#include "common/tls/tls_record_priv.h"
#include "tests/unit/tls/tls_fixture.h"
#include "tests/unit/tls/tls_record_bed.h"

// ---- Record by record

// A record of any inner plaintext, sealed by hand under a's write key.
static struct slice craft(struct tls_record *a, const uint8_t *inner, size_t len, uint8_t *dst) {
    uint8_t nonce[REC_IV_LEN];
    size_t n;
    size_t body = len + REC_TAG;
    const uint8_t header[] = {23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body};
    memcpy(dst, header, sizeof(header));
    rec_nonce(&a->write, nonce);
    assert_int_equal(EVP_AEAD_CTX_seal(&a->write.aead, dst + 5, &n, body, nonce, sizeof(nonce),
                                       inner, len, dst, 5),
                     1);
    a->write.seq++;
    return slice_make(dst, 5 + body);
}

struct craft_case {
    const char *name;
    const char *inner; // content, type, padding; NULL ends the list
    size_t len;
    enum tls_open open;
    enum tls_err err;
    size_t data_len;
    bool at_server;
};
#define INNER(text) text, sizeof(text) - 1

static void test_inner(void **state) {
    static const struct craft_case cases[] = {
        {"data", INNER("ab\x17"), TLS_OPEN_DATA, TLS_OK, 2, false},
        {"padded data", INNER("ab\x17\0\0\0\0\0"), TLS_OPEN_DATA, TLS_OK, 2, false},
        {"empty data", INNER("\x17"), TLS_OPEN_NONE, TLS_OK, 0, false},
        {"padded empty data", INNER("\x17\0\0"), TLS_OPEN_NONE, TLS_OK, 0, false},
        {"nothing", INNER(""), TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, false},
        {"only zeros", INNER("\0\0\0"), TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, false},
        {"CCS inside", INNER("\x01\x14"), TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, false},
        {"unknown type", INNER("x\x63"), TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, false},
        {"close_notify", INNER("\x01\x00\x15"), TLS_OPEN_CLOSED, TLS_OK, 0, false},
        {"user_canceled", INNER("\x01\x5a\x15"), TLS_OPEN_NONE, TLS_OK, 0, false},
        {"fatal alert", INNER("\x02\x2c\x15"), TLS_OPEN_ERROR, TLS_PEER_CERTIFICATE_REVOKED, 0,
         false},
        {"level is ignored", INNER("\x01\x30\x15"), TLS_OPEN_ERROR, TLS_PEER_UNKNOWN_CA, 0, false},
        {"other alert", INNER("\x02\xc8\x15"), TLS_OPEN_ERROR, TLS_PEER_ALERT, 0, false},
        {"short alert", INNER("\x02\x15"), TLS_OPEN_ERROR, TLS_DECODE_ERROR, 0, false},
        {"long alert", INNER("\x01\x00\x00\x15"), TLS_OPEN_ERROR, TLS_DECODE_ERROR, 0, false},
        {"empty alert", INNER("\x15"), TLS_OPEN_ERROR, TLS_DECODE_ERROR, 0, false},
        {"ticket",
         INNER("\x04\x00\x00\x03"
               "abc\x16"),
         TLS_OPEN_NONE, TLS_OK, 0, false},
        {"two tickets",
         INNER("\x04\x00\x00\x01"
               "a\x04\x00\x00\x01"
               "b\x16"),
         TLS_OPEN_NONE, TLS_OK, 0, false},
        {"ticket at a server",
         INNER("\x04\x00\x00\x03"
               "abc\x16"),
         TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, true},
        {"empty ticket", INNER("\x04\x00\x00\x00\x16"), TLS_OPEN_ERROR, TLS_DECODE_ERROR, 0, false},
        {"huge ticket", INNER("\x04\x01\x00\x00\x16"), TLS_OPEN_ERROR, TLS_DECODE_ERROR, 0, false},
        {"part of a message", INNER("\x04\x00\x16"), TLS_OPEN_NONE, TLS_OK, 0, false},
        {"empty handshake", INNER("\x16"), TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, false},
        {"CertificateRequest",
         INNER("\x0d\x00\x00\x01"
               "a\x16"),
         TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, false},
        {"ClientHello",
         INNER("\x01\x00\x00\x01"
               "a\x16"),
         TLS_OPEN_ERROR, TLS_UNEXPECTED_MESSAGE, 0, true},
        {"KeyUpdate", INNER("\x18\x00\x00\x01\x00\x16"), TLS_OPEN_NONE, TLS_OK, 0, false},
        {"KeyUpdate of 2", INNER("\x18\x00\x00\x01\x02\x16"), TLS_OPEN_ERROR, TLS_ILLEGAL_PARAMETER,
         0, false},
        {"KeyUpdate, empty", INNER("\x18\x00\x00\x00\x16"), TLS_OPEN_ERROR, TLS_DECODE_ERROR, 0,
         false},
        {"KeyUpdate, long", INNER("\x18\x00\x00\x02\x00\x00\x16"), TLS_OPEN_ERROR, TLS_DECODE_ERROR,
         0, false},
        {"KeyUpdate, not last", INNER("\x18\x00\x00\x01\x00\x18\x16"), TLS_OPEN_ERROR,
         TLS_UNEXPECTED_MESSAGE, 0, false},
        {"KeyUpdate after ticket",
         INNER("\x04\x00\x00\x01"
               "a\x18\x00\x00\x01\x01\x16"),
         TLS_OPEN_NONE, TLS_OK, 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_record *a, *b;
        struct reader reader;
        uint8_t bytes[64];
        record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
        if (cases[i].at_server) {
            tls_record_set_server(b);
        }
        reader_init(&reader, b);
        size_t used = 0, off = 0, len = 0, need = 0;
        struct slice rec = craft(a, (const uint8_t *)cases[i].inner, cases[i].len, bytes);
        enum tls_open open = tls_record_open(b, bytes, rec.len, &used, &off, &len, &need);
        if (open != cases[i].open || tls_record_error(b) != cases[i].err ||
            len != cases[i].data_len || (open != TLS_OPEN_ERROR && used != rec.len)) {
            fail_msg("%s: %d %s", cases[i].name, open, tls_err_label(tls_record_error(b)));
        }
        if (open == TLS_OPEN_ERROR) { // sticky
            assert_int_equal(tls_record_open(b, bytes, 0, &used, &off, &len, &need),
                             TLS_OPEN_ERROR);
            struct buf out;
            buf_init(&out, 1000);
            assert_false(tls_record_export(b, &out));
            buf_fini(&out);
        }
        reader_fini(&reader);
        tls_record_free(a);
        tls_record_free(b);
    }
}

static void expect_error(const char *name, uint8_t *bytes, size_t len, enum tls_err err) {
    struct tls_record *a, *b;
    size_t used, off, n, need;
    record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
    enum tls_open open = tls_record_open(b, bytes, len, &used, &off, &n, &need);
    if (open != TLS_OPEN_ERROR || tls_record_error(b) != err) {
        fail_msg("%s: %d %s", name, open, tls_err_label(tls_record_error(b)));
    }
    tls_record_free(a);
    tls_record_free(b);
}

static void test_outer(void **state) {
    expect_error("CCS", (uint8_t[]){20, 3, 3, 0, 1, 1}, 6, TLS_UNEXPECTED_MESSAGE);
    expect_error("plain alert", (uint8_t[]){21, 3, 3, 0, 2, 1, 0}, 7, TLS_UNEXPECTED_MESSAGE);
    expect_error("plain handshake", (uint8_t[]){22}, 1, TLS_UNEXPECTED_MESSAGE);
    expect_error("HTTP", (uint8_t[]){'G', 'E', 'T', ' '}, 4, TLS_UNEXPECTED_MESSAGE);
    expect_error("2^14+257", (uint8_t[]){23, 3, 3, 0x41, 1}, 5, TLS_RECORD_OVERFLOW);
    expect_error("65535", (uint8_t[]){23, 3, 3, 0xff, 0xff}, 5, TLS_RECORD_OVERFLOW);
    expect_error("empty", (uint8_t[]){23, 3, 3, 0, 0}, 5, TLS_BAD_RECORD_MAC);
    expect_error("less than a tag", (uint8_t[20]){23, 3, 3, 0, 15}, 20, TLS_BAD_RECORD_MAC);
    expect_error("garbage", (uint8_t[37]){23, 3, 3, 0, 32}, 37, TLS_BAD_RECORD_MAC);
}

// Sizes at the limit: 2^14 bytes of content pass, one byte more of inner plaintext does not.
static void test_size_limits(void **state) {
    static const struct {
        size_t content, padding;
        enum tls_err err;
    } cases[] = {
        {16384, 0, TLS_OK},
        {16383, 1, TLS_OK},
        {0, 16384, TLS_OK},
        {16385, 0, TLS_RECORD_OVERFLOW},
        {16384, 1, TLS_RECORD_OVERFLOW},
        {16384, 239, TLS_RECORD_OVERFLOW}, // the outer limit, still to be decrypted
        {1, 16384, TLS_RECORD_OVERFLOW},
    };
    uint8_t *inner = xcalloc(1, 20000), *bytes = xcalloc(1, 20000);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_record *a, *b;
        size_t used, off, len = 0, need;
        record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
        memset(inner, 0, 20000);
        memset(inner, 'c', cases[i].content);
        inner[cases[i].content] = 23;
        struct slice rec = craft(a, inner, cases[i].content + 1 + cases[i].padding, bytes);
        tls_record_open(b, bytes, rec.len, &used, &off, &len, &need);
        assert_int_equal(tls_record_error(b), cases[i].err);
        if (cases[i].err == TLS_OK) {
            assert_int_equal(len, cases[i].content);
        }
        tls_record_free(a);
        tls_record_free(b);
    }
    free(inner);
    free(bytes);
}

// Each bit of a record matters, and so does its place in the sequence.
static void test_tamper(void **state) {
    uint8_t good[64], bytes[64];
    for (size_t bit = 0; bit < 29 * 8; bit++) {
        struct tls_record *a, *b;
        size_t used, off, len, need;
        record_pair(TLS_SUITE_AES_256_GCM_SHA384, &a, &b);
        struct slice rec = craft(a, (const uint8_t *)"payload\x17", 8, good);
        assert_int_equal(rec.len, 29);
        memcpy(bytes, good, sizeof(good));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum tls_open open = tls_record_open(b, bytes, rec.len, &used, &off, &len, &need);
        assert_true(open == TLS_OPEN_ERROR || (open == TLS_OPEN_MORE && bit / 8 >= 3 && bit < 40));
        tls_record_free(a);
        tls_record_free(b);
    }
    // Replayed, left out, out of order.
    for (int way = 0; way < 3; way++) {
        struct tls_record *a, *b;
        uint8_t one[64], two[64];
        size_t used, off, len, need;
        record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
        size_t n = craft(a, (const uint8_t *)"one\x17", 4, one).len;
        craft(a, (const uint8_t *)"two\x17", 4, two);
        if (way == 0) {
            memcpy(two, one, sizeof(one));
            assert_int_equal(tls_record_open(b, one, n, &used, &off, &len, &need), TLS_OPEN_DATA);
        }
        uint8_t *next = two;
        assert_int_equal(tls_record_open(b, next, n, &used, &off, &len, &need), TLS_OPEN_ERROR);
        assert_int_equal(tls_record_error(b), TLS_BAD_RECORD_MAC);
        tls_record_free(a);
        tls_record_free(b);
    }
}

static void expect_flood(const char *inner, size_t len) {
    struct tls_record *a, *b;
    uint8_t bytes[64];
    size_t used, off, n, need;
    record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < REC_IDLE_MAX; i++) {
            struct slice rec = craft(a, (const uint8_t *)inner, len, bytes);
            assert_int_equal(tls_record_open(b, bytes, rec.len, &used, &off, &n, &need),
                             TLS_OPEN_NONE);
            if (inner[0] == 24) {
                rec_keys_update(&a->write, a->suite);
            }
        }
        struct slice rec = craft(a, (const uint8_t *)"x\x17", 2, bytes); // data resets the count
        if (round == 0) {
            assert_int_equal(tls_record_open(b, bytes, rec.len, &used, &off, &n, &need),
                             TLS_OPEN_DATA);
        } else {
            a->write.seq--;
        }
    }
    struct slice rec = craft(a, (const uint8_t *)inner, len, bytes);
    assert_int_equal(tls_record_open(b, bytes, rec.len, &used, &off, &n, &need), TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(b), TLS_EMPTY_RECORD_FLOOD);
    tls_record_free(a);
    tls_record_free(b);
}

static void test_flood(void **state) {
    expect_flood(INNER("\x17"));
    expect_flood(INNER("\x04\x00\x00\x01"
                       "a\x16"));
    expect_flood(INNER("\x18\x00\x00\x01\x01\x16"));
    expect_flood(INNER("\x01\x5a\x15"));
}

// A message over several records; nothing may come in between.
static void test_fragments(void **state) {
    static const char msg[] = "\x04\x00\x00\x05"
                              "abcde\x18\x00\x00\x01\x01";
    for (size_t size = 1; size < 6; size++) {
        struct tls_record *a, *b;
        uint8_t bytes[64], inner[16];
        size_t used, off, n, need;
        record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
        for (size_t at = 0; at < sizeof(msg) - 1; at += size) {
            size_t len = MIN(size, sizeof(msg) - 1 - at);
            memcpy(inner, msg + at, len);
            inner[len] = 22;
            struct slice rec = craft(a, inner, len + 1, bytes);
            assert_int_equal(tls_record_open(b, bytes, rec.len, &used, &off, &n, &need),
                             TLS_OPEN_NONE);
        }
        assert_true(tls_record_wants_write(b));
        assert_int_equal(b->read.n_updates, 1);
        tls_record_free(a);
        tls_record_free(b);
    }
    for (int way = 0; way < 2; way++) {
        struct tls_record *a, *b;
        uint8_t bytes[64];
        size_t used, off, n, need;
        record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
        struct slice rec = craft(a, (const uint8_t *)"\x04\x00\x16", 3, bytes);
        tls_record_open(b, bytes, rec.len, &used, &off, &n, &need);
        rec = craft(a, (const uint8_t *)(way == 0 ? "x\x17" : "\x01\x00\x15"), way == 0 ? 2 : 3,
                    bytes);
        assert_int_equal(tls_record_open(b, bytes, rec.len, &used, &off, &n, &need),
                         TLS_OPEN_ERROR);
        assert_int_equal(tls_record_error(b), TLS_UNEXPECTED_MESSAGE);
        tls_record_free(a);
        tls_record_free(b);
    }
}

static void test_sequence_overflow(void **state) {
    struct slice one = slice_make(record_secrets[0], 32), two = slice_make(record_secrets[1], 32);
    struct tls_record *a =
        tls_record_new(TLS_SUITE_AES_128_GCM_SHA256, one, 0, two, UINT64_MAX - 1);
    struct tls_record *b =
        tls_record_new(TLS_SUITE_AES_128_GCM_SHA256, two, UINT64_MAX - 1, one, 0);
    uint8_t bytes[64];
    size_t used, off, n, need;
    struct slice rec = craft(a, (const uint8_t *)"x\x17", 2, bytes);
    assert_int_equal(tls_record_open(b, bytes, rec.len, &used, &off, &n, &need), TLS_OPEN_DATA);
    rec = craft(a, (const uint8_t *)"x\x17", 2, bytes);
    assert_int_equal(tls_record_open(b, bytes, rec.len, &used, &off, &n, &need), TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(b), TLS_SEQUENCE_OVERFLOW);
    tls_record_free(a);
    // Our own side never gets there: past the limit a KeyUpdate comes first.
    struct chain plain, out;
    chain_init(&plain, &fix_pool);
    chain_init(&out, &fix_pool);
    a = tls_record_new(TLS_SUITE_AES_128_GCM_SHA256, one, 0, two, UINT64_MAX);
    put_plain(&plain, 10);
    tls_record_seal(a, &plain, &out, SIZE_MAX);
    assert_int_equal(a->write.seq, 1);
    assert_int_equal(a->write.n_updates, 1);
    chain_clear(&out);
    tls_record_free(a);
    tls_record_free(b);
}

// What comes behind close_notify is ignored.
static void test_after_close(void **state) {
    struct tls_record *a, *b;
    struct chain out;
    struct reader reader;
    record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
    chain_init(&out, &fix_pool);
    reader_init(&reader, b);
    tls_record_close(a, TLS_OK, &out);
    reader_feed_chain(&reader, &out, 1);
    assert_int_equal(reader.last, TLS_OPEN_CLOSED);
    size_t used = 0, off, n, need;
    uint8_t junk[10] = {99};
    assert_int_equal(tls_record_open(b, junk, 10, &used, &off, &n, &need), TLS_OPEN_CLOSED);
    assert_int_equal(used, 10);
    assert_int_equal(tls_record_eof(b), TLS_OK);
    assert_false(tls_record_is_write_closed(b)); // half close
    reader_fini(&reader);
    tls_record_free(a);
    tls_record_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inner),
        cmocka_unit_test(test_outer),
        cmocka_unit_test(test_size_limits),
        cmocka_unit_test(test_tamper),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_sequence_overflow),
        cmocka_unit_test(test_after_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
