// SPDX-License-Identifier: Apache-2.0
//
// What a proxy may answer to CONNECT and POST, once in one piece and once in small ones: the same
// comes out of it, in order, and all credit goes back.
//
// Input: a byte of settings (1 = POST, 2 = the transport ends behind the bytes, 4 = the owner holds
// after each piece of data), a byte with the size of pieces, and the proxy's bytes.
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/net/proxy_tunnel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { SET_POST = 1, SET_FIN = 2, SET_HOLD = 4 };

struct bed {
    struct blk_pool pool;
    struct duplex inner; // the transport
    size_t n_fed, n_consumed;
    bool is_gone;
    struct proxy_tunnel tunnel;
    bool holds, is_ready, has_failed, is_closed;
    struct buf got; // by the owner
    bool got_fin, is_lost, is_plain_closed;
};

static struct bed *of_inner(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct bed, inner);
}

static void inner_send(struct duplex *duplex, struct chain *data, bool fin) {
    (void)duplex;
    (void)fin;
    chain_clear(data);
}

static bool inner_can_send(const struct duplex *duplex) {
    (void)duplex;
    return true;
}

static void inner_consumed(struct duplex *duplex, size_t n) {
    of_inner(duplex)->n_consumed += n;
}

static void inner_hold(struct duplex *duplex, bool on) {
    (void)duplex;
    (void)on;
}

static void inner_gone(struct duplex *duplex) {
    struct bed *bed = of_inner(duplex);
    CHECK(!bed->is_gone);
    bed->is_gone = true;
    bed->inner.events->on_closed(&bed->inner);
}

static const struct duplex_ops inner_ops = {
    .send = inner_send,
    .can_send = inner_can_send,
    .consumed = inner_consumed,
    .hold = inner_hold,
    .abort = inner_gone,
    .finish = inner_gone,
};

static void on_data(struct duplex *duplex, const struct seg *seg) {
    struct bed *bed = duplex->owner;
    CHECK(!bed->got_fin && !bed->is_lost && !bed->is_plain_closed && seg->len > 0);
    buf_append(&bed->got, seg_slice(seg));
    duplex->ops->consumed(duplex, seg->len);
    blk_unref(seg->blk);
    if (bed->holds) {
        duplex->ops->hold(duplex, true);
    }
}

static void on_fin(struct duplex *duplex) {
    struct bed *bed = duplex->owner;
    CHECK(!bed->got_fin && !bed->is_lost);
    bed->got_fin = true;
}

static void on_sent(struct duplex *duplex, size_t n) {
    (void)duplex;
    (void)n;
}

static void on_writable(struct duplex *duplex) {
    (void)duplex;
}

static void on_abort(struct duplex *duplex, enum flow_end reason) {
    (void)reason;
    struct bed *bed = duplex->owner;
    CHECK(!bed->is_lost && !bed->got_fin);
    bed->is_lost = true;
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
    CHECK(!bed->is_ready && !bed->has_failed);
    bed->is_ready = true;
    tunnel->duplex.events = &events;
    tunnel->duplex.owner = bed;
    tunnel->duplex.ops->hold(&tunnel->duplex, false);
}

static void on_fail(struct proxy_tunnel *tunnel, const char *text) {
    struct bed *bed = CONTAINER_OF(tunnel, struct bed, tunnel);
    CHECK(!bed->is_ready && !bed->has_failed && text[0] != '\0');
    bed->has_failed = true;
}

static void on_tunnel_closed(struct proxy_tunnel *tunnel) {
    struct bed *bed = CONTAINER_OF(tunnel, struct bed, tunnel);
    CHECK(bed->is_gone && bed->is_plain_closed == bed->is_ready);
    bed->is_closed = true;
}

static const struct proxy_tunnel_handler handler = {
    .on_ready = on_ready, .on_fail = on_fail, .on_closed = on_tunnel_closed};

static void release(struct bed *bed) {
    struct duplex *duplex = &bed->tunnel.duplex;
    for (size_t before = SIZE_MAX; bed->is_ready && !bed->is_closed && before != bed->got.len;) {
        before = bed->got.len;
        duplex->ops->hold(duplex, false);
    }
}

static void run(struct bed *bed, uint8_t settings, size_t step, struct slice bytes) {
    *bed = (struct bed){.inner = {.ops = &inner_ops, .needs_credit = true},
                        .holds = (settings & SET_HOLD) != 0};
    buf_init(&bed->got, SIZE_MAX);
    blk_pool_init(&bed->pool, 4);
    struct proxy_tunnel_target target = {.authority = SLICE_LIT("a.example.com:443"),
                                         .is_post = (settings & SET_POST) != 0};
    proxy_tunnel_init(&bed->tunnel, &bed->pool, &bed->inner, &target, &handler);
    while (bytes.len > 0 && !bed->is_gone) {
        size_t n = MIN(step, bytes.len);
        struct blk *blk = blk_new_cold(&bed->pool, n);
        memcpy(blk->base, bytes.ptr, n);
        struct seg seg = {.blk = blk, .len = (uint32_t)n};
        bed->n_fed += n;
        bed->inner.events->on_data(&bed->inner, &seg);
        bytes = slice_skip(bytes, n);
        release(bed);
    }
    if ((settings & SET_FIN) != 0 && !bed->is_gone) {
        bed->inner.events->on_fin(&bed->inner);
        release(bed);
    }
    CHECK(bed->n_consumed <= bed->n_fed);
    if (bed->is_ready && !bed->is_lost) {
        CHECK(bed->n_consumed == bed->n_fed);
    }
    struct duplex *duplex = &bed->tunnel.duplex;
    if (!bed->is_closed && bed->got_fin) {
        duplex->ops->finish(duplex);
    } else if (!bed->is_closed && bed->is_ready) {
        duplex->ops->abort(duplex);
    } else if (!bed->is_closed) {
        proxy_tunnel_abort(&bed->tunnel);
    }
    CHECK(bed->is_closed && bed->pool.live_segs == 0);
    blk_pool_fini(&bed->pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct bed whole, pieces;
    if (len < 2) {
        return 0;
    }
    struct slice bytes = slice_make(data + 2, len - 2);
    run(&whole, data[0], SIZE_MAX, bytes);
    run(&pieces, data[0], (size_t)data[1] + 1, bytes);
    CHECK(whole.is_ready == pieces.is_ready && whole.has_failed == pieces.has_failed);
    CHECK(whole.got_fin == pieces.got_fin && whole.is_lost == pieces.is_lost);
    CHECK(slice_eq(buf_slice(&whole.got), buf_slice(&pieces.got)));
    buf_fini(&whole.got);
    buf_fini(&pieces.got);
    return 0;
}
