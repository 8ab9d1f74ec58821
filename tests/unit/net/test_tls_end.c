// SPDX-License-Identifier: Apache-2.0
//
// TLS over a duplex, against BoringSSL as the server: the transport is an end that writes down what
// is asked of it, so that bytes come in pieces of any size, and ends at any moment.
#include "common/net/tls_end.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/rt/fake.h"
#include "tests/unit/base/unit.h"
#include "tests/unit/tls/tls_fixture.h"

enum { BIG = 200000 };

struct bed {
    struct fake_net *net;
    struct io *io;
    struct loop loop;
    struct tls_queue queue;
    SSL_CTX *oracle;
    SSL *ssl;
    struct tls_ctx *ctx;
    // The transport.
    struct duplex inner;
    struct chain to_server;
    size_t n_given, n_consumed, n_sent;
    bool is_held, has_fin, is_aborted, is_finished;
    // The end, and what its owner hears.
    struct tls_end end;
    char error[TLS_LINK_ERROR_MAX];
    size_t n_read, n_told_sent;
    enum flow_end cut;
    uint32_t n_ready, n_failed, n_fin, n_cut, n_closed, n_plain_closed;
    bool is_plain_held;
};

static struct fix_ca root, stranger;

// ---- the transport -----------------------------------------------------------------------------

static struct bed *of_inner(const struct duplex *inner) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)inner, struct bed, inner);
}

static void inner_send(struct duplex *inner, struct chain *data, bool fin) {
    struct bed *bed = of_inner(inner);
    assert_false(bed->has_fin || bed->is_aborted || bed->is_finished);
    bed->n_sent += data->len;
    chain_move_all(&bed->to_server, data);
    bed->has_fin = fin;
}

static bool inner_can_send(const struct duplex *inner) {
    return true;
}
static void inner_consumed(struct duplex *inner, size_t n) {
    of_inner(inner)->n_consumed += n;
}
static void inner_hold(struct duplex *inner, bool on) {
    of_inner(inner)->is_held = on;
}
static void inner_abort(struct duplex *inner) {
    of_inner(inner)->is_aborted = true;
}
static void inner_finish(struct duplex *inner) {
    of_inner(inner)->is_finished = true;
}

static const struct duplex_ops inner_ops = {.send = inner_send,
                                            .can_send = inner_can_send,
                                            .consumed = inner_consumed,
                                            .hold = inner_hold,
                                            .abort = inner_abort,
                                            .finish = inner_finish};

// ---- the owner ---------------------------------------------------------------------------------

static uint8_t pattern(size_t i) {
    return (uint8_t)(i * 7 + i / 251);
}

static void on_data(struct duplex *duplex, const struct seg *seg) {
    struct bed *bed = duplex->owner;
    assert_false(bed->is_plain_held || bed->n_fin > 0 || bed->n_cut > 0);
    for (uint32_t i = 0; i < seg->len; i++) {
        assert_int_equal(seg_ptr(seg)[i], pattern(bed->n_read + i));
    }
    bed->n_read += seg->len;
    blk_unref(seg->blk);
    duplex->ops->consumed(duplex, seg->len);
}

static void on_fin(struct duplex *duplex) {
    ((struct bed *)duplex->owner)->n_fin++;
}
static void on_sent(struct duplex *duplex, size_t n) {
    ((struct bed *)duplex->owner)->n_told_sent += n;
}
static void on_writable(struct duplex *duplex) {
}
static void on_abort(struct duplex *duplex, enum flow_end reason) {
    struct bed *bed = duplex->owner;
    bed->n_cut++;
    bed->cut = reason;
}
static void on_plain_closed(struct duplex *duplex) {
    struct bed *bed = duplex->owner;
    assert_int_equal(bed->n_closed, 0);
    bed->n_plain_closed++;
}

static const struct duplex_events events = {.on_data = on_data,
                                            .on_fin = on_fin,
                                            .on_sent = on_sent,
                                            .on_writable = on_writable,
                                            .on_abort = on_abort,
                                            .on_closed = on_plain_closed};

static struct bed *of_end(struct tls_end *end) {
    return CONTAINER_OF(end, struct bed, end);
}

static void on_ready(struct tls_end *end) {
    struct bed *bed = of_end(end);
    bed->n_ready++;
    end->duplex.events = &events;
    end->duplex.owner = bed;
    bed->is_plain_held = true;
}
static void on_fail(struct tls_end *end, const char *text) {
    struct bed *bed = of_end(end);
    bed->n_failed++;
    snprintf(bed->error, sizeof(bed->error), "%s", text);
}
static void on_closed(struct tls_end *end) {
    of_end(end)->n_closed++;
}

static const struct tls_end_handler handler = {
    .on_ready = on_ready, .on_fail = on_fail, .on_closed = on_closed};

// ---- the bed -----------------------------------------------------------------------------------

// `ca`: whom the client trusts; NULL: it does not look.
static struct bed *open_bed(const struct fix_ca *ca) {
    struct fake_options options = {.seed = 1};
    struct bed *bed = xcalloc(1, sizeof(*bed));
    struct fix_leaf leaf;
    char *error = NULL;
    bed->net = fake_net_new(&options);
    bed->io = fake_io_new(bed->net, &fix_pool);
    loop_init(&bed->loop, bed->io, &fix_pool, NULL);
    tls_queue_init(&bed->queue, &bed->loop);
    fix_leaf_init(&leaf, &root, "DNS:a", NULL, FIX_NOW - FIX_DAY, FIX_NOW + FIX_DAY);
    bed->oracle = fix_oracle_ctx(&root, NULL);
    fix_oracle_use_leaf(bed->oracle, &leaf);
    fix_leaf_fini(&leaf);
    bed->ssl = fix_oracle_new(bed->oracle, true);
    struct tls_outside_params params = {.roots_pem =
                                            slice_str(ca != NULL ? ca->cert_pem : root.cert_pem),
                                        .skips_verify = ca == NULL};
    bed->ctx = tls_ctx_new_outside(&params, &error);
    assert_null(error);
    struct tls_outside_server server = {.sni = SLICE_LIT("a")};
    bed->inner = (struct duplex){.ops = &inner_ops, .needs_credit = true};
    chain_init(&bed->to_server, &fix_pool);
    bed->is_held = true;
    tls_end_init(&bed->end, &bed->queue, &bed->inner, tls_handshake_new_outside(bed->ctx, &server),
                 &handler);
    return bed;
}

// The transport is closed; nothing is left behind.
static void close_bed(struct bed *bed) {
    if (bed->n_closed == 0) {
        bed->inner.events->on_closed(&bed->inner);
    }
    assert_int_equal(bed->n_closed, 1);
    assert_int_equal(bed->n_plain_closed, bed->n_ready);
    assert_int_equal(bed->n_ready + bed->n_failed,
                     bed->n_failed > 0 ? bed->n_failed : bed->n_ready);
    assert_int_equal(bed->queue.n_active, 0);
    chain_clear(&bed->to_server);
    tls_queue_fini(&bed->queue);
    loop_fini(&bed->loop);
    bed->io->ops->free(bed->io);
    fake_net_free(bed->net);
    tls_ctx_unref(bed->ctx);
    SSL_free(bed->ssl);
    SSL_CTX_free(bed->oracle);
    free(bed);
}

// What the server has said reaches the end, `chunk` bytes at a time (0: all that there is).
static bool deliver(struct bed *bed, size_t chunk) {
    struct slice out = fix_oracle_out(bed->ssl);
    struct chain pieces;
    size_t len = MIN(out.len, bed->is_held ? 0 : chunk == 0 ? out.len : chunk * 64);
    if (len == 0) {
        return false;
    }
    uint8_t *copy = xmalloc(out.len);
    memcpy(copy, out.ptr, out.len);
    size_t all = out.len, at = 0;
    fix_oracle_drop(bed->ssl);
    while (at < len && !bed->is_held && bed->n_closed == 0) {
        struct seg seg;
        size_t n = chunk == 0 ? len : MIN(chunk, len - at);
        chain_init(&pieces, &fix_pool);
        chain_copy(&pieces, slice_make(copy + at, n));
        while (chain_pop(&pieces, &seg)) {
            bed->n_given += seg.len;
            bed->inner.events->on_data(&bed->inner, &seg);
        }
        at += n;
    }
    if (at < all) { // the rest stays with the server
        assert_int_equal(BIO_write(SSL_get_wbio(bed->ssl), copy + at, (int)(all - at)), all - at);
    }
    free(copy);
    return true;
}

static void turn(struct bed *bed) {
    for (int i = 0; i < 3; i++) {
        fake_skip(bed->net, 2 * NS_PER_MS);
        loop_turn(&bed->loop, false);
    }
}

// Bytes on their own, at once.
static void give(struct bed *bed, struct slice bytes) {
    struct chain all;
    struct seg seg;
    chain_init(&all, &fix_pool);
    chain_copy(&all, bytes);
    while (chain_pop(&all, &seg)) {
        bed->inner.events->on_data(&bed->inner, &seg);
    }
}

// Both sides go on until nothing moves.
static void pump(struct bed *bed, size_t chunk) {
    bool has_moved = true;
    for (int i = 0; i < 30000 && has_moved; i++) {
        turn(bed);
        has_moved = bed->to_server.len > 0;
        size_t n = bed->to_server.len;
        fix_oracle_feed(bed->ssl, &bed->to_server);
        if (n > 0 && bed->n_closed == 0) {
            bed->inner.events->on_sent(&bed->inner, n);
        }
        if (!SSL_is_init_finished(bed->ssl)) {
            (void)SSL_do_handshake(bed->ssl);
        }
        has_moved = deliver(bed, chunk) || has_moved;
    }
    assert_false(has_moved);
}

static void let_go(struct bed *bed) {
    bed->is_plain_held = false;
    bed->end.duplex.ops->hold(&bed->end.duplex, false);
}

static void client_says(struct bed *bed, size_t from, size_t len, bool fin) {
    struct chain data;
    uint8_t *bytes = xmalloc(len + 1);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = pattern(from + i);
    }
    chain_init(&data, &fix_pool);
    chain_copy(&data, slice_make(bytes, len));
    bed->end.duplex.ops->send(&bed->end.duplex, &data, fin);
    free(bytes);
}

static void server_says(struct bed *bed, size_t from, size_t len) {
    uint8_t *bytes = xmalloc(len);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = pattern(from + i);
    }
    assert_int_equal(SSL_write(bed->ssl, bytes, (int)len), len);
    free(bytes);
}

static size_t server_hears(struct bed *bed, size_t from) {
    uint8_t bytes[4096];
    size_t n = 0;
    int rc;
    while ((rc = SSL_read(bed->ssl, bytes, sizeof(bytes))) > 0) {
        for (int i = 0; i < rc; i++, n++) {
            assert_int_equal(bytes[i], pattern(from + n));
        }
    }
    return n;
}

// ---- tests -------------------------------------------------------------------------------------

static const size_t chunks[] = {0, 1, 3, 1000};

static void test_bytes(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct bed *bed = open_bed(NULL);
        pump(bed, chunks[i]);
        assert_int_equal(bed->n_ready, 1);
        assert_true(bed->is_held); // until the owner wants bytes
        let_go(bed);
        size_t size = chunks[i] == 0 || chunks[i] == 1000 ? BIG : 20000;
        client_says(bed, 0, size / 2, false);
        client_says(bed, size / 2, size - size / 2, true);
        server_says(bed, 0, size);
        SSL_shutdown(bed->ssl);
        pump(bed, chunks[i]);
        assert_int_equal(server_hears(bed, 0), size);
        assert_true((SSL_get_shutdown(bed->ssl) & SSL_RECEIVED_SHUTDOWN) != 0 && bed->has_fin);
        assert_int_equal(bed->n_read, size);
        assert_int_equal(bed->n_fin, 1);
        assert_int_equal(bed->n_cut, 0);
        assert_int_equal(bed->n_told_sent, size); // of its own bytes it hears, not of records
        assert_in_range(bed->n_consumed, bed->n_given - 64, bed->n_given); // close_notify's aside
        bed->end.duplex.ops->finish(&bed->end.duplex);
        bed->inner.events->on_fin(&bed->inner);
        assert_true(bed->is_finished && !bed->is_aborted);
        close_bed(bed);
    }
}

// Held: nothing is handed out, however much has come; then all of it.
static void test_hold(void **state) {
    struct bed *bed = open_bed(NULL);
    pump(bed, 0);
    server_says(bed, 0, 50000);
    give(bed, fix_oracle_out(bed->ssl)); // it was on its way
    fix_oracle_drop(bed->ssl);
    assert_int_equal(bed->n_read, 0);
    let_go(bed);
    assert_int_equal(bed->n_read, 50000);
    assert_false(bed->is_held);
    bed->end.duplex.ops->abort(&bed->end.duplex);
    assert_true(bed->is_aborted);
    assert_int_equal(bed->n_cut, 0); // its own doing
    close_bed(bed);
}

// An end without close_notify is a cut; so is a reset, bytes that are no record, and one that was
// tampered with.
static void test_cuts(void **state) {
    static const struct {
        const char *what;
        enum flow_end reason;
        bool has_alert; // the server is told
    } cases[] = {{"fin", FLOW_TRUNCATED, false},
                 {"reset", FLOW_TUNNEL_RESET, false},
                 {"garbage", FLOW_TUNNEL_LOST, true},
                 {"tampered", FLOW_TUNNEL_LOST, true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bed *bed = open_bed(NULL);
        pump(bed, 0);
        let_go(bed);
        server_says(bed, 0, 1000);
        pump(bed, 0);
        assert_int_equal(bed->n_read, 1000);
        if (i == 0) {
            bed->inner.events->on_fin(&bed->inner);
        } else if (i == 1) {
            bed->inner.events->on_abort(&bed->inner, FLOW_TUNNEL_RESET);
        } else {
            struct chain bytes;
            struct seg seg;
            server_says(bed, 1000, 100);
            chain_init(&bytes, &fix_pool);
            chain_copy(&bytes, i == 2 ? SLICE_LIT("HTTP/1.1 400 Bad Request\r\n\r\n")
                                      : fix_oracle_out(bed->ssl));
            fix_oracle_drop(bed->ssl);
            while (chain_pop(&bytes, &seg)) {
                seg_ptr(&seg)[seg.len - 1] ^= 1;
                bed->inner.events->on_data(&bed->inner, &seg);
            }
        }
        if (bed->n_cut != 1 || bed->cut != cases[i].reason || bed->n_fin != 0) {
            fail_msg("%s: %u cuts, %s", cases[i].what, bed->n_cut, flow_end_text(bed->cut));
        }
        assert_int_equal(bed->to_server.len > 0, cases[i].has_alert);
        assert_int_equal(bed->n_read, 1000);
        close_bed(bed);
    }
}

// What goes wrong in the handshake: once, with a reason; then the end.
static void test_handshake_fails(void **state) {
    static const char *const texts[] = {"", "closed the connection during the TLS handshake",
                                        "reset during the TLS handshake",
                                        "lost during the TLS handshake", ""};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct bed *bed = open_bed(i == 0 ? &stranger : NULL);
        turn(bed); // the first message
        assert_true(bed->to_server.len > 0);
        switch (i) {
        case 0: // not to be trusted: the server is told, and has its time to close
            pump(bed, 0);
            assert_true(bed->has_fin && !bed->is_aborted && !bed->is_held);
            fake_skip(bed->net, TLS_END_CLOSE_MS * NS_PER_MS + NS_PER_MS);
            turn(bed);
            assert_true(bed->is_aborted);
            break;
        case 1:
            bed->inner.events->on_fin(&bed->inner);
            break;
        case 2:
            bed->inner.events->on_abort(&bed->inner, FLOW_TUNNEL_RESET);
            break;
        case 3:
            bed->inner.events->on_closed(&bed->inner);
            break;
        default: // no TLS at all
            give(bed, SLICE_LIT("220 mail.example ESMTP\r\n"));
            turn(bed);
            break;
        }
        assert_int_equal(bed->n_ready, 0);
        assert_int_equal(bed->n_failed, 1);
        assert_true(bed->error[0] != '\0' && strstr(bed->error, texts[i]) != NULL);
        close_bed(bed);
    }
}

// Given up before it is there: nobody hears of it but its maker, when it is over.
static void test_abort(void **state) {
    for (int i = 0; i < 2; i++) {
        struct bed *bed = open_bed(NULL);
        if (i == 1) {
            turn(bed);
        }
        tls_end_abort(&bed->end);
        assert_true(bed->is_aborted);
        turn(bed);
        assert_int_equal(bed->n_failed + bed->n_ready + bed->n_closed, 0);
        close_bed(bed);
    }
}

// A server that never stops shaking hands is cut.
static void test_endless_handshake(void **state) {
    struct bed *bed = open_bed(NULL);
    static const uint8_t zeros[16000];
    for (size_t n = 0; n <= TLS_LINK_HS_MAX && bed->n_failed == 0; n += sizeof(zeros)) {
        give(bed, slice_make(zeros, sizeof(zeros)));
    }
    assert_string_equal(bed->error, "the handshake has too many bytes");
    assert_true(bed->is_aborted);
    close_bed(bed);
}

static int setup(void **state) {
    fix_pool_setup(state);
    fix_ca_init(&root);
    fix_ca_init(&stranger);
    return 0;
}

static int teardown(void **state) {
    fix_ca_fini(&root);
    fix_ca_fini(&stranger);
    return fix_pool_teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes), cmocka_unit_test(test_hold),
        cmocka_unit_test(test_cuts),  cmocka_unit_test(test_handshake_fails),
        cmocka_unit_test(test_abort), cmocka_unit_test(test_endless_handshake),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
