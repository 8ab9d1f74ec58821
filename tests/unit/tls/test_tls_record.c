// SPDX-License-Identifier: Apache-2.0
//
// The record layer: against BoringSSL's own as the oracle, and record by record against the rules
// of RFC 8446 section 5.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "common/base/buf.h"
#include "common/tls/tls_record_priv.h"
#include "tests/unit/tls/tls_fixture.h"

static struct fix_ca root;
static struct tls_ctx *client_ctx, *server_ctx;

static int setup(void **state) {
    fix_pool_setup(state);
    fix_ca_init(&root);
    client_ctx = fix_ctx(&root, FIX_CLIENT, NULL, NULL);
    server_ctx = fix_ctx(&root, FIX_SERVER, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    tls_ctx_unref(client_ctx);
    tls_ctx_unref(server_ctx);
    fix_ca_fini(&root);
    return fix_pool_teardown(state);
}

// ---- Helpers

static const uint8_t secret_bytes[2][48] = {{1, 2, 3}, {4, 5, 6}};

// Two record layers joined, without a handshake.
static void make_pair(enum tls_suite suite, struct tls_record **ret_a, struct tls_record **ret_b) {
    size_t len = suite == TLS_SUITE_AES_128_GCM_SHA256 ? 32 : 48;
    struct slice one = slice_make(secret_bytes[0], len);
    struct slice two = slice_make(secret_bytes[1], len);
    *ret_a = tls_record_new(suite, one, 0, two, 0);
    *ret_b = tls_record_new(suite, two, 0, one, 0);
    assert_non_null(*ret_a);
    assert_non_null(*ret_b);
}

struct reader { // opens what comes in, keeps the plaintext
    struct tls_record *record;
    struct buf in, plain;
    enum tls_open last;
    size_t n_records, n_none;
};

static void reader_init(struct reader *r, struct tls_record *record) {
    *r = (struct reader){.record = record};
    buf_init(&r->in, 64 << 20);
    buf_init(&r->plain, 64 << 20);
}

static void reader_fini(struct reader *r) {
    buf_fini(&r->in);
    buf_fini(&r->plain);
}

// Consumes whole records from r->in; checks what MORE promises.
static void reader_run(struct reader *r) {
    size_t at = 0;
    for (;;) {
        size_t used = 0, off = 0, len = 0, need = 0;
        // A copy of exact size, so that a read past the end is seen by the sanitizer.
        size_t left = r->in.len - at;
        uint8_t *exact = xmalloc(left);
        memcpy(exact, r->in.ptr + at, left);
        r->last = tls_record_open(r->record, exact, left, &used, &off, &len, &need);
        if (r->last == TLS_OPEN_DATA) {
            assert_true(off + len <= used && used <= left);
            buf_append(&r->plain, slice_make(exact + off, len));
        }
        free(exact);
        if (r->last == TLS_OPEN_MORE) {
            assert_true(need == 0 ? left < 5 : left < need);
            break;
        }
        if (r->last == TLS_OPEN_ERROR || r->last == TLS_OPEN_CLOSED) {
            break;
        }
        r->n_records++;
        r->n_none += r->last == TLS_OPEN_NONE;
        at += used;
    }
    if (at > 0) {
        memmove(r->in.ptr, r->in.ptr + at, r->in.len - at);
        buf_truncate(&r->in, r->in.len - at);
    }
}

static void reader_feed(struct reader *r, struct slice bytes, size_t chunk) {
    while (bytes.len > 0) {
        struct slice part = slice_head(bytes, chunk != 0 ? chunk : bytes.len);
        buf_append(&r->in, part);
        bytes = slice_skip(bytes, part.len);
        reader_run(r);
        if (r->last == TLS_OPEN_ERROR) {
            return;
        }
    }
}

static void reader_feed_chain(struct reader *r, struct chain *chain, size_t chunk) {
    struct seg seg;
    while (chain_pop(chain, &seg)) {
        reader_feed(r, seg_slice(&seg), chunk);
        blk_unref(seg.blk);
    }
}

static void fill(uint8_t *p, size_t len, uint64_t *seed) {
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(i * 31 + (i >> 8));
    }
    if (len >= 8) {
        uint64_t r = fix_rand(seed);
        memcpy(p, &r, sizeof(r));
    }
}

// Appends a segment of one of the shapes the data path makes; `expect` gets the same bytes.
static void add_segment(struct chain *chain, struct buf *expect, uint64_t *seed) {
    static const uint32_t lens[] = {1, 9, 100, 1024, 2047, 4096, 9000, 16375, 16384, 16385, 40000};
    uint32_t len = lens[fix_rand(seed) % ARRAY_LEN(lens)];
    len -= fix_rand(seed) % 2 != 0 && len > 3 ? 3 : 0;
    uint32_t shape = fix_rand(seed) % 4;
    struct blk *blk = blk_new_cold(&fix_pool, BLK_HEADROOM + len + BLK_TAILROOM);
    fill(blk->base + BLK_HEADROOM, len, seed);
    buf_append(expect, slice_make(blk->base + BLK_HEADROOM, len));
    switch (shape) {
    case 0: // received with room
        chain_give_room(chain, blk, BLK_HEADROOM, len, BLK_HEADROOM, BLK_TAILROOM);
        break;
    case 1: // no room
        chain_give(chain, blk, BLK_HEADROOM, len);
        break;
    case 2: // room in front only
        chain_give_room(chain, blk, BLK_HEADROOM, len, 5, 3);
        break;
    default: // cut in two
        chain_append(chain, blk, BLK_HEADROOM, len / 2);
        chain_append(chain, blk, BLK_HEADROOM + len / 2, len - len / 2);
        blk_unref(blk);
    }
}

// ---- The oracle

struct duplex {
    SSL *ssl; // BoringSSL
    struct tls_record *record; // ours
    struct reader reader;
    struct chain plain, out;
    struct buf sent_by_us, sent_by_ssl, got_by_ssl;
};

static void duplex_init(struct duplex *d, SSL_CTX *oracle, bool we_serve, size_t chunk) {
    uint8_t *rest;
    size_t rest_len;
    struct tls_handshake *hs = we_serve ? tls_handshake_new_server(server_ctx)
                                        : tls_handshake_new_client(client_ctx, NULL, 0);
    d->ssl = fix_oracle_new(oracle, !we_serve);
    assert_true(fix_oracle_run(d->ssl, hs, chunk, &d->record, &rest, &rest_len));
    tls_handshake_free(hs);
    reader_init(&d->reader, d->record);
    reader_feed(&d->reader, slice_make(rest, rest_len), chunk);
    free(rest);
    chain_init(&d->plain, &fix_pool);
    chain_init(&d->out, &fix_pool);
    buf_init(&d->sent_by_us, 64 << 20);
    buf_init(&d->sent_by_ssl, 64 << 20);
    buf_init(&d->got_by_ssl, 64 << 20);
}

static void duplex_fini(struct duplex *d) {
    reader_fini(&d->reader);
    chain_clear(&d->plain);
    chain_clear(&d->out);
    buf_fini(&d->sent_by_us);
    buf_fini(&d->sent_by_ssl);
    buf_fini(&d->got_by_ssl);
    tls_record_free(d->record);
    SSL_free(d->ssl);
}

// Moves bytes both ways until nothing moves.
static void duplex_pump(struct duplex *d, size_t budget, size_t chunk) {
    bool moved = true;
    while (moved) {
        moved = tls_record_seal(d->record, &d->plain, &d->out, budget) > 0;
        fix_oracle_feed(d->ssl, &d->out);
        uint8_t bytes[4096];
        int n;
        while ((n = SSL_read(d->ssl, bytes, sizeof(bytes))) > 0) {
            buf_append(&d->got_by_ssl, slice_make(bytes, (size_t)n));
            moved = true;
        }
        assert_int_not_equal(SSL_get_error(d->ssl, n), SSL_ERROR_SSL);
        struct slice wire = fix_oracle_out(d->ssl);
        moved |= wire.len > 0;
        reader_feed(&d->reader, wire, chunk);
        fix_oracle_drop(d->ssl);
        assert_int_not_equal(d->reader.last, TLS_OPEN_ERROR);
    }
}

static void oracle_write(struct duplex *d, uint64_t *seed) {
    static uint8_t bytes[50000];
    size_t len = 1 + fix_rand(seed) % sizeof(bytes);
    fill(bytes, len, seed);
    assert_int_equal(SSL_write(d->ssl, bytes, (int)len), (int)len);
    buf_append(&d->sent_by_ssl, slice_make(bytes, len));
}

// Random traffic both ways, with KeyUpdates from both sides, then close_notify both ways.
static void run_oracle(SSL_CTX *oracle, bool we_serve, uint64_t seed, size_t chunk) {
    struct duplex d;
    duplex_init(&d, oracle, we_serve, chunk);
    if (seed % 2 == 0) {
        tls_record_set_key_update_limit(d.record, 5);
    }
    for (int i = 0; i < 60; i++) {
        size_t budget = 1 + fix_rand(&seed) % 200000;
        for (uint64_t n = fix_rand(&seed) % 5; n > 0; n--) {
            add_segment(&d.plain, &d.sent_by_us, &seed);
        }
        if (fix_rand(&seed) % 2 == 0) {
            oracle_write(&d, &seed);
        }
        if (fix_rand(&seed) % 8 == 0) {
            assert_int_equal(SSL_key_update(d.ssl, fix_rand(&seed) % 2 != 0
                                                       ? SSL_KEY_UPDATE_REQUESTED
                                                       : SSL_KEY_UPDATE_NOT_REQUESTED),
                             1);
            oracle_write(&d, &seed);
        }
        if (fix_rand(&seed) % 8 == 0) {
            tls_record_key_update(d.record, fix_rand(&seed) % 2 != 0);
        }
        duplex_pump(&d, budget, chunk);
    }
    assert_int_equal(d.got_by_ssl.len, d.sent_by_us.len);
    assert_memory_equal(d.got_by_ssl.ptr, d.sent_by_us.ptr, d.sent_by_us.len);
    assert_int_equal(d.reader.plain.len, d.sent_by_ssl.len);
    assert_memory_equal(d.reader.plain.ptr, d.sent_by_ssl.ptr, d.sent_by_ssl.len);
    struct tls_record_stats stats;
    tls_record_stats(d.record, &stats);
    assert_true(stats.n_read_updates > 0 && stats.n_write_updates > 0);

    assert_int_equal(tls_record_eof(d.record), TLS_TRUNCATED);
    tls_record_close(d.record, TLS_OK, &d.out);
    assert_true(tls_record_is_write_closed(d.record));
    fix_oracle_feed(d.ssl, &d.out);
    assert_int_equal(SSL_read(d.ssl, &(uint8_t){0}, 1), 0);
    assert_int_equal(SSL_get_shutdown(d.ssl), SSL_RECEIVED_SHUTDOWN);
    assert_int_equal(SSL_shutdown(d.ssl), 1);
    reader_feed(&d.reader, fix_oracle_out(d.ssl), chunk);
    assert_int_equal(d.reader.last, TLS_OPEN_CLOSED);
    assert_int_equal(tls_record_eof(d.record), TLS_OK);
    duplex_fini(&d);
}

static void test_oracle(void **state) {
    static const uint16_t suites[] = {SSL_CIPHER_AES_128_GCM_SHA256, SSL_CIPHER_AES_256_GCM_SHA384};
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        for (int we_serve = 0; we_serve < 2; we_serve++) {
            SSL_CTX *oracle = fix_oracle_ctx(&root, we_serve ? FIX_CLIENT : FIX_SERVER);
            assert_int_equal(SSL_CTX_set1_tls13_ciphers(oracle, &suites[i], NULL, 1), 1);
            for (uint64_t seed = 1; seed <= 6; seed++) {
                run_oracle(oracle, we_serve, seed, seed == 1 ? 1000 : 0);
            }
            SSL_CTX_free(oracle);
        }
    }
}

// Tickets of a server (ours is the client) are passed over; also byte by byte.
static void test_oracle_tickets(void **state) {
    static const size_t chunks[] = {0, 1};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        SSL_CTX *oracle = fix_oracle_ctx(&root, FIX_SERVER);
        assert_int_equal(SSL_CTX_set_num_tickets(oracle, 4), 1);
        SSL_CTX_set_session_id_context(oracle, (const uint8_t *)"x", 1);
        struct duplex d;
        duplex_init(&d, oracle, false, chunks[i]);
        assert_int_equal(SSL_write(d.ssl, "hello", 5), 5);
        duplex_pump(&d, 1000, chunks[i]);
        assert_true(d.reader.n_none >= 1);
        assert_int_equal(d.reader.plain.len, 5);
        duplex_fini(&d);
        SSL_CTX_free(oracle);
    }
}

static void test_oracle_alert(void **state) {
    SSL_CTX *oracle = fix_oracle_ctx(&root, FIX_CLIENT);
    struct duplex d;
    duplex_init(&d, oracle, true, 0);
    assert_int_equal(SSL_send_fatal_alert(d.ssl, SSL_AD_ACCESS_DENIED), 1);
    reader_feed(&d.reader, fix_oracle_out(d.ssl), 0);
    assert_int_equal(d.reader.last, TLS_OPEN_ERROR);
    assert_int_equal(tls_record_error(d.record), TLS_PEER_ACCESS_DENIED);
    duplex_fini(&d);

    duplex_init(&d, oracle, true, 0);
    tls_record_close(d.record, TLS_REVOKED, &d.out);
    tls_record_close(d.record, TLS_OK, &d.out); // only the first is sent
    fix_oracle_feed(d.ssl, &d.out);
    assert_int_equal(SSL_read(d.ssl, &(uint8_t){0}, 1), -1);
    assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED);
    ERR_clear_error();
    duplex_fini(&d);
    SSL_CTX_free(oracle);
}

// ---- Sealing

// A segment with room is sealed where it lies; a shared one without room is left as it was.
static void test_seal_in_place(void **state) {
    struct tls_record *a, *b;
    struct chain plain, out;
    struct reader reader;
    make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
    chain_init(&plain, &fix_pool);
    chain_init(&out, &fix_pool);
    reader_init(&reader, b);
    struct blk *blk = blk_new_cold(&fix_pool, 14 + 16384 + 17);
    memset(blk->base, 'x', blk->cap);
    chain_give_room(&plain, blk, 14, 16384, 14, 17);
    assert_int_equal(tls_record_seal(a, &plain, &out, 1), 16384 + REC_OVERHEAD);
    assert_ptr_equal(out.head->blk, blk);
    assert_int_equal(out.head->off, 9);
    assert_int_equal(out.n_segs, 1);
    reader_feed_chain(&reader, &out, 0);
    assert_int_equal(reader.plain.len, 16384);

    blk = blk_new_cold(&fix_pool, 100);
    memset(blk->base, 'y', 100);
    chain_append(&plain, blk, 0, 100);
    assert_int_equal(tls_record_seal(a, &plain, &out, SIZE_MAX), 100 + REC_OVERHEAD);
    assert_ptr_not_equal(out.head->blk, blk);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(blk->base[i], 'y');
    }
    blk_unref(blk);
    reader_feed_chain(&reader, &out, 1);
    assert_int_equal(reader.plain.len, 16484);
    reader_fini(&reader);
    tls_record_free(a);
    tls_record_free(b);
}

static void test_seal_coalesce(void **state) {
    static const struct {
        uint32_t lens[5];
        size_t n_records;
    } cases[] = {
        {{100, 1000}, 1},
        {{100, 3996}, 1},
        {{100, 3997}, 2},
        {{13, 16000}, 2},
        {{1, 1, 1, 1, 1}, 1},
        {{4096, 1}, 2},
        {{16384}, 1},
        {{16385}, 2},
        {{40000}, 3},
        {{9, 16384, 9}, 3},
        {{2000, 2000, 2000}, 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_record *a, *b;
        struct chain plain, out;
        struct reader reader;
        size_t total = 0;
        make_pair(TLS_SUITE_AES_256_GCM_SHA384, &a, &b);
        chain_init(&plain, &fix_pool);
        chain_init(&out, &fix_pool);
        reader_init(&reader, b);
        for (size_t j = 0; j < ARRAY_LEN(cases[i].lens) && cases[i].lens[j] > 0; j++) {
            uint32_t len = cases[i].lens[j];
            struct blk *blk = blk_new_cold(&fix_pool, len);
            memset(blk->base, (int)j, len);
            chain_give(&plain, blk, 0, len);
            total += len;
        }
        tls_record_seal(a, &plain, &out, SIZE_MAX);
        assert_true(chain_empty(&plain));
        assert_int_equal(out.len, total + cases[i].n_records * REC_OVERHEAD);
        reader_feed_chain(&reader, &out, 0);
        assert_int_equal(reader.n_records, cases[i].n_records);
        assert_int_equal(reader.plain.len, total);
        reader_fini(&reader);
        tls_record_free(a);
        tls_record_free(b);
    }
}

static void put_plain(struct chain *plain, size_t len) {
    struct blk *blk = blk_new_cold(&fix_pool, len + 31);
    memset(blk->base, 'p', len + 31);
    chain_give_room(plain, blk, 14, (uint32_t)len, 14, 17);
}

// The budget stops after the record that reaches it; nothing goes out after close.
static void test_seal_budget(void **state) {
    struct tls_record *a, *b;
    struct chain plain, out;
    make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
    chain_init(&plain, &fix_pool);
    chain_init(&out, &fix_pool);
    for (int i = 0; i < 4; i++) {
        put_plain(&plain, 16000);
    }
    assert_int_equal(tls_record_seal(a, &plain, &out, 0), 0);
    assert_int_equal(tls_record_seal(a, &plain, &out, 16023), 2 * 16022);
    assert_int_equal(tls_record_seal(a, &plain, &out, 1), 16022);
    tls_record_close(a, TLS_OK, &out);
    assert_int_equal(tls_record_seal(a, &plain, &out, SIZE_MAX), 0);
    assert_int_equal(plain.len, 16000);
    tls_record_key_update(a, true);
    assert_false(tls_record_wants_write(a));
    chain_clear(&plain);
    chain_clear(&out);
    tls_record_free(a);
    tls_record_free(b);
}

// ---- KeyUpdate

static void test_key_update_limit(void **state) {
    struct tls_record *a, *b;
    struct chain plain, out;
    struct reader at_b, at_a;
    struct tls_record_stats stats;
    make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
    chain_init(&plain, &fix_pool);
    chain_init(&out, &fix_pool);
    reader_init(&at_a, a);
    reader_init(&at_b, b);
    tls_record_set_key_update_limit(a, 3);
    for (int i = 0; i < 10; i++) {
        put_plain(&plain, 10000);
    }
    tls_record_seal(a, &plain, &out, SIZE_MAX);
    tls_record_stats(a, &stats);
    assert_int_equal(stats.n_write_updates, 3); // before records 4, 7 and 10
    assert_int_equal(stats.write_seq, 1);
    reader_feed_chain(&at_b, &out, 0);
    assert_int_equal(at_b.plain.len, 100000);
    assert_int_equal(at_b.n_none, 3);
    assert_false(tls_record_wants_write(b)); // a did not ask

    // The peer sends many under one key: a asks it, once.
    for (int i = 0; i < 5; i++) {
        put_plain(&plain, 10000);
    }
    tls_record_seal(b, &plain, &out, SIZE_MAX);
    reader_feed_chain(&at_a, &out, 0);
    assert_true(tls_record_wants_write(a));
    tls_record_seal(a, &plain, &out, SIZE_MAX);
    assert_false(tls_record_wants_write(a));
    reader_feed_chain(&at_b, &out, 0);
    assert_true(tls_record_wants_write(b));
    tls_record_seal(b, &plain, &out, SIZE_MAX);
    assert_int_equal(out.len, 5 + REC_OVERHEAD);
    reader_feed_chain(&at_a, &out, 0);
    assert_false(tls_record_wants_write(a)); // the answer asks for none
    put_plain(&plain, 10);
    tls_record_seal(b, &plain, &out, SIZE_MAX);
    reader_feed_chain(&at_a, &out, 0);
    assert_int_equal(at_a.plain.len, 50010);
    reader_fini(&at_a);
    reader_fini(&at_b);
    tls_record_free(a);
    tls_record_free(b);
}

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
        make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
    make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
        make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
        make_pair(TLS_SUITE_AES_256_GCM_SHA384, &a, &b);
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
        make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
    make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
        make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
        make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
    struct slice one = slice_make(secret_bytes[0], 32), two = slice_make(secret_bytes[1], 32);
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
    make_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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

// ---- Export

static struct tls_record *handed_over(struct tls_record *record) {
    struct buf bytes;
    buf_init(&bytes, 4096);
    assert_true(tls_record_export(record, &bytes));
    struct tls_record *copy = tls_record_import(buf_slice(&bytes));
    assert_non_null(copy);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_null(tls_record_import(slice_make(bytes.ptr, len)));
    }
    struct buf again;
    buf_init(&again, 4096);
    assert_true(tls_record_export(copy, &again));
    assert_int_equal(again.len, bytes.len);
    assert_memory_equal(again.ptr, bytes.ptr, bytes.len);
    bytes.ptr[0] = 99;
    assert_null(tls_record_import(buf_slice(&bytes)));
    wipe(bytes.ptr, bytes.len);
    buf_fini(&bytes);
    buf_fini(&again);
    tls_record_free(record);
    return copy;
}

// A connection goes on with the oracle after each of many hand-overs, in any state.
static void test_export(void **state) {
    static const enum tls_suite suites[] = {TLS_SUITE_AES_128_GCM_SHA256,
                                            TLS_SUITE_AES_256_GCM_SHA384};
    for (size_t s = 0; s < ARRAY_LEN(suites); s++) {
        struct tls_record *a, *b;
        struct chain plain, out;
        struct reader reader;
        size_t total = 0;
        make_pair(suites[s], &a, &b);
        chain_init(&plain, &fix_pool);
        chain_init(&out, &fix_pool);
        reader_init(&reader, b);
        for (int i = 0; i < 20; i++) {
            if (i % 3 == 0) {
                tls_record_key_update(a, i % 2 == 0);
            }
            a = handed_over(a);
            put_plain(&plain, 1000 + (size_t)i);
            total += 1000 + (size_t)i;
            tls_record_seal(a, &plain, &out, SIZE_MAX);
            reader_feed_chain(&reader, &out, 0);
            reader.record = b = handed_over(b);
        }
        assert_int_equal(reader.plain.len, total);
        assert_true(tls_record_wants_write(b));
        tls_record_close(a, TLS_OK, &out);
        a = handed_over(a);
        assert_true(tls_record_is_write_closed(a));
        reader_feed_chain(&reader, &out, 0);
        reader.record = b = handed_over(b);
        assert_int_equal(tls_record_eof(b), TLS_OK);
        reader_fini(&reader);
        tls_record_free(a);
        tls_record_free(b);
    }
}

static void test_new_refuses(void **state) {
    struct slice ok = slice_make(secret_bytes[0], 32), bad = slice_make(secret_bytes[0], 48);
    assert_null(tls_record_new((enum tls_suite)0x1303, ok, 0, ok, 0));
    assert_null(tls_record_new(TLS_SUITE_AES_128_GCM_SHA256, ok, 0, bad, 0));
    assert_null(tls_record_new(TLS_SUITE_AES_256_GCM_SHA384, ok, 0, ok, 0));
    tls_record_free(NULL);
    print_message("memory of an established connection: %zu bytes\n", sizeof(struct tls_record));
    assert_true(sizeof(struct tls_record) <= 1536);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_oracle_tickets),
        cmocka_unit_test(test_oracle_alert),
        cmocka_unit_test(test_seal_in_place),
        cmocka_unit_test(test_seal_coalesce),
        cmocka_unit_test(test_seal_budget),
        cmocka_unit_test(test_key_update_limit),
        cmocka_unit_test(test_inner),
        cmocka_unit_test(test_outer),
        cmocka_unit_test(test_size_limits),
        cmocka_unit_test(test_tamper),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_sequence_overflow),
        cmocka_unit_test(test_after_close),
        cmocka_unit_test(test_export),
        cmocka_unit_test(test_new_refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
