// SPDX-License-Identifier: Apache-2.0
// A way through a proxy, over a transport that the test plays. What the proxy says comes whole and
// byte by byte.
#include "common/net/proxy_tunnel.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/base/unit.h"

struct bed {
    struct blk_pool pool;
    struct duplex inner; // the transport
    struct chain sent; // on it
    size_t n_fed, n_consumed;
    bool sent_fin, is_held, is_aborted, is_finished, is_gone;
    struct proxy_tunnel tunnel;
    char failure[128]; // "" = none
    bool is_ready, is_closed;
    // The owner of the plain side.
    char got[256];
    size_t n_got, n_told_sent;
    size_t hold_after; // holds when so much has come; 0: never
    bool got_fin, is_lost, is_plain_closed, aborts;
    enum flow_end reason;
};

// ---- the transport -----------------------------------------------------------------------------

static struct bed *of_inner(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct bed, inner);
}

static void inner_send(struct duplex *duplex, struct chain *data, bool fin) {
    struct bed *bed = of_inner(duplex);
    assert_false(bed->sent_fin);
    chain_move_all(&bed->sent, data);
    bed->sent_fin = fin;
}

static bool inner_can_send(const struct duplex *duplex) {
    return true;
}

static void inner_consumed(struct duplex *duplex, size_t n) {
    of_inner(duplex)->n_consumed += n;
}

static void inner_hold(struct duplex *duplex, bool on) {
    of_inner(duplex)->is_held = on;
}

static void inner_abort(struct duplex *duplex) {
    struct bed *bed = of_inner(duplex);
    assert_false(bed->is_aborted);
    bed->is_aborted = bed->is_gone = true;
    bed->inner.events->on_closed(&bed->inner); // at once: the worst case
}

static void inner_finish(struct duplex *duplex) {
    struct bed *bed = of_inner(duplex);
    bed->is_finished = bed->is_gone = true;
    bed->inner.events->on_closed(&bed->inner);
}

static const struct duplex_ops inner_ops = {
    .send = inner_send,
    .can_send = inner_can_send,
    .consumed = inner_consumed,
    .hold = inner_hold,
    .abort = inner_abort,
    .finish = inner_finish,
};

// ---- the owner ---------------------------------------------------------------------------------

static void on_data(struct duplex *duplex, const struct seg *seg) {
    struct bed *bed = duplex->owner;
    assert_true(bed->n_got + seg->len < sizeof(bed->got));
    memcpy(bed->got + bed->n_got, seg_ptr(seg), seg->len);
    bed->n_got += seg->len;
    blk_unref(seg->blk);
    if (bed->aborts) {
        duplex->ops->abort(duplex);
        return;
    }
    duplex->ops->consumed(duplex, seg->len);
    if (bed->hold_after > 0 && bed->n_got >= bed->hold_after) {
        duplex->ops->hold(duplex, true);
    }
}

static void on_fin(struct duplex *duplex) {
    ((struct bed *)duplex->owner)->got_fin = true;
}

static void on_sent(struct duplex *duplex, size_t n) {
    ((struct bed *)duplex->owner)->n_told_sent += n;
}

static void on_writable(struct duplex *duplex) {
}

static void on_abort(struct duplex *duplex, enum flow_end reason) {
    struct bed *bed = duplex->owner;
    bed->is_lost = true;
    bed->reason = reason;
}

static void on_closed(struct duplex *duplex) {
    ((struct bed *)duplex->owner)->is_plain_closed = true;
}

static const struct duplex_events events = {
    .on_data = on_data,
    .on_fin = on_fin,
    .on_sent = on_sent,
    .on_writable = on_writable,
    .on_abort = on_abort,
    .on_closed = on_closed,
};

static void on_ready(struct proxy_tunnel *tunnel) {
    struct bed *bed = CONTAINER_OF(tunnel, struct bed, tunnel);
    bed->is_ready = true;
    tunnel->duplex.events = &events;
    tunnel->duplex.owner = bed;
    tunnel->duplex.ops->hold(&tunnel->duplex, false);
}

static void on_fail(struct proxy_tunnel *tunnel, const char *text) {
    struct bed *bed = CONTAINER_OF(tunnel, struct bed, tunnel);
    assert_string_equal(bed->failure, "");
    snprintf(bed->failure, sizeof(bed->failure), "%s", text);
}

static void on_tunnel_closed(struct proxy_tunnel *tunnel) {
    struct bed *bed = CONTAINER_OF(tunnel, struct bed, tunnel);
    assert_int_equal(bed->is_plain_closed, bed->is_ready);
    bed->is_closed = true;
}

static const struct proxy_tunnel_handler handler = {
    .on_ready = on_ready, .on_fail = on_fail, .on_closed = on_tunnel_closed};

// ---- the bed -----------------------------------------------------------------------------------

static void bed_up(struct bed *bed, bool is_post) {
    *bed = (struct bed){.inner = {.ops = &inner_ops, .needs_credit = true}};
    blk_pool_init(&bed->pool, 4);
    chain_init(&bed->sent, &bed->pool);
    struct proxy_tunnel_target target = {.authority = SLICE_LIT("a.example.com:443"),
                                         .is_post = is_post};
    proxy_tunnel_init(&bed->tunnel, &bed->pool, &bed->inner, &target, &handler);
}

static void bed_down(struct bed *bed) {
    if (!bed->is_closed && bed->is_ready) {
        bed->tunnel.duplex.ops->abort(&bed->tunnel.duplex);
    } else if (!bed->is_closed) {
        proxy_tunnel_abort(&bed->tunnel);
    }
    assert_true(bed->is_closed);
    chain_clear(&bed->sent);
    assert_int_equal(bed->pool.live_segs, 0);
    blk_pool_fini(&bed->pool);
}

// In pieces of `step` bytes; like a transport, not while it is held.
static void feed(struct bed *bed, const char *text, size_t step) {
    size_t len = strlen(text);
    for (size_t at = 0; at < len && !bed->is_gone; at += step) {
        size_t n = MIN(step, len - at);
        struct blk *blk = blk_new_cold(&bed->pool, n);
        memcpy(blk->base, text + at, n);
        struct seg seg = {.blk = blk, .len = (uint32_t)n};
        bed->n_fed += n;
        bed->inner.events->on_data(&bed->inner, &seg);
    }
}

static void feed_fin(struct bed *bed) {
    if (!bed->is_gone) {
        bed->inner.events->on_fin(&bed->inner);
    }
}

static const char *sent(struct bed *bed) {
    static char text[1024];
    size_t n = chain_peek(&bed->sent, text, sizeof(text) - 1);
    text[n] = '\0';
    return text;
}

static void say(struct bed *bed, const char *text, bool fin) {
    struct chain data;
    chain_init(&data, &bed->pool);
    chain_copy(&data, slice_str(text));
    bed->tunnel.duplex.ops->send(&bed->tunnel.duplex, &data, fin);
}

static const size_t steps[] = {1, 7, 4096};

static void test_answers(void **state) {
    static const struct {
        const char *text;
        bool is_post, fin;
        const char *failure; // NULL: it is ready
        const char *got;
        bool got_fin, is_lost;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\n\r\nhello", false, false, NULL, "hello", false, false},
        {"HTTP/1.0 200 Connection established\r\nvia: x\r\n\r\n", false, false, NULL, "", false,
         false},
        {"HTTP/1.1 204 No Content\r\n\r\nhello", false, true, NULL, "hello", true, false},
        // RFC 9110 9.3.6: fields of a body mean nothing.
        {"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello", false, true, NULL, "hello", true,
         false},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", false, false, NULL,
         "2\r\nab\r\n", false, false},
        {"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", false, false, NULL,
         "x", false, false},
        {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", true, false, NULL, "hello", true,
         false},
        {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, false, NULL, "", true, false},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: "
         "chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
         true, false, NULL, "hello", true, false},
        {"HTTP/1.1 200 OK\r\n\r\nhello", true, true, NULL, "hello", true, false},
        {"HTTP/1.1 200 OK\r\n\r\nhello", true, false, NULL, "hello", false, false},
        {"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", true, true, NULL, "hello", false,
         true},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\nx", true, false, NULL,
         "hel", false, true},
        {"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", false, false,
         "the proxy answered CONNECT with 403", "", false, false},
        {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", true, false,
         "the proxy answered POST with 407", "", false, false},
        {"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", false, false,
         "the proxy answered CONNECT with 302", "", false, false},
        {"SSH-2.0-OpenSSH\r\n", false, false, "the proxy's answer is no HTTP/1.1", "", false,
         false},
        {"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", false, false, "the proxy's answer is no HTTP/1.1",
         "", false, false},
        {"HTTP/1.1 200 OK\r\n", false, true, "the proxy closed the connection before it answered",
         "", false, false},
        {"", false, true, "the proxy closed the connection before it answered", "", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases) * ARRAY_LEN(steps); i++) {
        size_t c = i / ARRAY_LEN(steps);
        struct bed bed;
        bed_up(&bed, cases[c].is_post);
        feed(&bed, cases[c].text, steps[i % ARRAY_LEN(steps)]);
        if (cases[c].fin) {
            feed_fin(&bed);
        }
        assert_int_equal(bed.is_ready, cases[c].failure == NULL);
        if (cases[c].failure != NULL) {
            assert_memory_equal(bed.failure, cases[c].failure, strlen(cases[c].failure));
            assert_true(bed.is_aborted);
            assert_true(bed.is_closed);
        } else {
            assert_string_equal(bed.failure, "");
            assert_string_equal(bed.got, cases[c].got);
            assert_int_equal(bed.got_fin, cases[c].got_fin);
            assert_int_equal(bed.is_lost, cases[c].is_lost);
            if (!bed.is_lost) {
                assert_int_equal(bed.n_consumed, bed.n_fed); // all credit goes back
            }
        }
        bed_down(&bed);
    }
}

static void test_requests(void **state) {
    struct bed bed;
    bed_up(&bed, false);
    assert_string_equal(sent(&bed),
                        "CONNECT a.example.com:443 HTTP/1.1\r\nhost: a.example.com:443\r\n\r\n");
    size_t n_head = bed.sent.len;
    chain_clear(&bed.sent);
    feed(&bed, "HTTP/1.1 200 OK\r\n\r\n", 4096);
    say(&bed, "hello", false);
    say(&bed, "", true);
    assert_string_equal(sent(&bed), "hello");
    assert_true(bed.sent_fin);
    bed.inner.events->on_sent(&bed.inner, n_head + 2); // the request's bytes are nobody's
    assert_int_equal(bed.n_told_sent, 2);
    bed.inner.events->on_sent(&bed.inner, 3);
    assert_int_equal(bed.n_told_sent, 5);
    feed_fin(&bed);
    assert_true(bed.got_fin);
    bed.tunnel.duplex.ops->finish(&bed.tunnel.duplex);
    assert_true(bed.is_finished);
    bed_down(&bed);

    bed_up(&bed, true);
    assert_string_equal(sent(&bed), "POST / HTTP/1.1\r\nhost: a.example.com:443\r\n"
                                    "transfer-encoding: chunked\r\n\r\n");
    chain_clear(&bed.sent);
    feed(&bed, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 4096);
    assert_true(bed.got_fin);
    say(&bed, "hello", false);
    say(&bed, "world!", true);
    assert_string_equal(sent(&bed), "5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n");
    assert_false(bed.sent_fin);
    bed.tunnel.duplex.ops->finish(&bed.tunnel.duplex); // the proxy would keep it
    assert_true(bed.sent_fin);
    assert_true(bed.is_finished);
    bed_down(&bed);
}

// Behind the answer nothing is handed out while the owner holds, and nothing is lost.
static void test_hold(void **state) {
    for (int is_post = 0; is_post < 2; is_post++) {
        struct bed bed;
        bed_up(&bed, is_post);
        bed.hold_after = 1;
        feed(&bed,
             is_post ? "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                       "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"
                     : "HTTP/1.1 200 OK\r\n\r\na",
             4096);
        assert_true(bed.is_held);
        if (!is_post) {
            feed(&bed, "b", 1); // was under way
            feed(&bed, "c", 1);
        }
        feed_fin(&bed);
        assert_string_equal(bed.got, "a");
        assert_false(bed.got_fin);
        bed.hold_after = 2;
        bed.tunnel.duplex.ops->hold(&bed.tunnel.duplex, false);
        assert_string_equal(bed.got, "ab");
        bed.hold_after = 0;
        bed.tunnel.duplex.ops->hold(&bed.tunnel.duplex, false);
        assert_string_equal(bed.got, "abc");
        assert_true(bed.got_fin);
        bed_down(&bed);
    }
}

static void test_cuts(void **state) {
    for (int is_post = 0; is_post < 2; is_post++) {
        struct bed bed;
        bed_up(&bed, is_post); // reset before it answers
        bed.inner.events->on_abort(&bed.inner, FLOW_UPSTREAM_RESET);
        assert_string_equal(bed.failure, "the proxy reset the connection before it answered");
        bed.inner.events->on_closed(&bed.inner);
        bed_down(&bed);

        bed_up(&bed, is_post); // and later
        feed(&bed, "HTTP/1.1 200 OK\r\n\r\nabc", 4096);
        bed.inner.events->on_abort(&bed.inner, FLOW_UPSTREAM_RESET);
        assert_true(bed.is_lost);
        assert_int_equal(bed.reason, FLOW_UPSTREAM_RESET);
        bed.inner.events->on_closed(&bed.inner);
        bed_down(&bed);

        bed_up(&bed, is_post); // by the owner, within a call
        bed.aborts = true;
        feed(&bed, "HTTP/1.1 200 OK\r\n\r\nabc", 4096);
        assert_true(bed.is_aborted);
        assert_true(bed.is_closed);
        bed_down(&bed);

        bed_up(&bed, is_post); // gives up
        proxy_tunnel_abort(&bed.tunnel);
        assert_true(bed.is_closed);
        bed_down(&bed);
    }
}

static void test_limits(void **state) {
    struct bed bed;
    bed_up(&bed, false);
    for (int i = 0; i < 9; i++) {
        assert_string_equal(bed.failure, "");
        feed(&bed, "HTTP/1.1 100 Continue\r\n\r\n", 4096);
    }
    assert_string_equal(bed.failure, "the proxy sends too many interim responses");
    bed_down(&bed);
    bed_up(&bed, false);
    feed(&bed, "HTTP/1.1 200 OK\r\n", 4096);
    for (int i = 0; i < 200 && !bed.is_gone; i++) {
        feed(&bed, "a: b\r\n", 4096);
    }
    assert_memory_equal(bed.failure, "the proxy's answer is no HTTP/1.1", 33);
    bed_down(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers), cmocka_unit_test(test_requests),
        cmocka_unit_test(test_hold),    cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
