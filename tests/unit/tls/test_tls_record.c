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
    record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
        record_pair(TLS_SUITE_AES_256_GCM_SHA384, &a, &b);
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

// The budget stops after the record that reaches it; nothing goes out after close.
static void test_seal_budget(void **state) {
    struct tls_record *a, *b;
    struct chain plain, out;
    record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
    record_pair(TLS_SUITE_AES_128_GCM_SHA256, &a, &b);
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
        record_pair(suites[s], &a, &b);
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
    struct slice ok = slice_make(record_secrets[0], 32), bad = slice_make(record_secrets[0], 48);
    assert_null(tls_record_new((enum tls_suite)0x1303, ok, 0, ok, 0));
    assert_null(tls_record_new(TLS_SUITE_AES_128_GCM_SHA256, ok, 0, bad, 0));
    assert_null(tls_record_new(TLS_SUITE_AES_256_GCM_SHA384, ok, 0, ok, 0));
    tls_record_free(NULL);
    print_message("memory of an established connection: %zu bytes\n", sizeof(struct tls_record));
    assert_true(sizeof(struct tls_record) <= 1536);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),           cmocka_unit_test(test_oracle_tickets),
        cmocka_unit_test(test_oracle_alert),     cmocka_unit_test(test_seal_in_place),
        cmocka_unit_test(test_seal_coalesce),    cmocka_unit_test(test_seal_budget),
        cmocka_unit_test(test_key_update_limit), cmocka_unit_test(test_export),
        cmocka_unit_test(test_new_refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
