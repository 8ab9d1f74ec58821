// SPDX-License-Identifier: Apache-2.0
#include "common/net/pipe.h"

#include "common/base/buf.h"
#include "common/base/cur.h"

// A peer gets credit by halves of its window, which is 64 KiB or more: with so much untold it still
// has a quarter to send.
enum { SENT_LAG = 8 * 1024 };

static struct pipe *of_end(const struct duplex *end) {
    return end->owner;
}

static void pass(struct pipe *pipe, enum pipe_side from, struct chain *data) {
    struct duplex *end = pipe->side[from], *other = pipe->side[!from];
    other->ops->send(other, data, false);
    if (!pipe->is_held[from] && !other->ops->can_send(other)) {
        pipe->is_held[from] = true;
        end->ops->hold(end, true);
    }
}

static void on_data(struct duplex *end, const struct seg *seg) {
    struct pipe *pipe = of_end(end);
    pipe->n_bytes[end->side] += seg->len;
    pipe->last = end->side;
    if (pipe->is_leaving && !pipe->is_ending) { // the other side was told that nothing follows
        blk_unref(seg->blk);
        pipe->end = FLOW_CROSSED;
        pipe_cut(pipe, FLOW_CROSSED);
        return;
    }
    if (pipe->is_ending || pipe->side[!end->side] == NULL) {
        blk_unref(seg->blk);
        return;
    }
    if (pipe->tap != NULL) {
        pipe->tap(pipe, (enum pipe_side)end->side, seg);
        blk_unref(seg->blk);
        return;
    }
    struct chain data;
    chain_init(&data, pipe->pool);
    chain_push(&data, seg);
    pass(pipe, (enum pipe_side)end->side, &data);
}

void pipe_forward(struct pipe *pipe, enum pipe_side from, const struct seg *seg, uint32_t off,
                  uint32_t len) {
    if (pipe->is_ending || pipe->side[!from] == NULL || len == 0) {
        return;
    }
    struct chain data;
    chain_init(&data, pipe->pool);
    // The room around a part belongs to the whole.
    chain_give_room(&data, blk_ref(seg->blk), seg->off + off, len, off == 0 ? seg->headroom : 0,
                    off + len == seg->len ? seg->tailroom : 0);
    pass(pipe, from, &data);
}

void pipe_inject(struct pipe *pipe, struct slice bytes) {
    struct duplex *down = pipe->side[PIPE_DOWN];
    if (pipe->is_ending || pipe->is_leaving || down == NULL || pipe->got_fin[PIPE_UP]) {
        return;
    }
    struct chain data;
    chain_init(&data, pipe->pool);
    chain_copy(&data, bytes);
    pipe->n_injected += down->reports_sent ? (uint32_t)bytes.len : 0;
    down->ops->send(down, &data, false);
}

static void send_fin(struct pipe *pipe, struct duplex *end) {
    struct chain none;
    chain_init(&none, pipe->pool);
    end->ops->send(end, &none, true);
}

static void on_fin(struct duplex *end) {
    struct pipe *pipe = of_end(end);
    struct duplex *other = pipe->side[!end->side];
    pipe->got_fin[end->side] = true;
    if (pipe->is_ending || (other == NULL && !pipe->is_leaving)) {
        return;
    }
    if (!pipe->is_leaving) {
        send_fin(pipe, other);
    }
    if (pipe->got_fin[PIPE_DOWN] && pipe->got_fin[PIPE_UP]) {
        pipe->is_ending = true;
        for (int side = PIPE_DOWN; side <= PIPE_UP; side++) {
            if (pipe->side[side] != NULL) {
                pipe->side[side]->ops->finish(pipe->side[side]);
            }
        }
    }
}

static void on_sent(struct duplex *end, size_t n) {
    struct pipe *pipe = of_end(end);
    struct duplex *other = pipe->side[!end->side];
    if (end->side == PIPE_DOWN && pipe->n_injected > 0) {
        // Which bytes these are does not matter: the credit is never more than what has left.
        uint32_t ours = (uint32_t)MIN(n, pipe->n_injected);
        pipe->n_injected -= ours;
        n -= ours;
    }
    if (other != NULL && n > 0) {
        other->ops->consumed(other, n);
    }
}

static void on_writable(struct duplex *end) {
    struct pipe *pipe = of_end(end);
    struct duplex *other = pipe->side[!end->side];
    if (other != NULL && pipe->is_held[!end->side] && !pipe->is_ending) {
        pipe->is_held[!end->side] = false;
        other->ops->hold(other, false);
    }
}

static void on_abort(struct duplex *end, enum flow_end reason) {
    struct pipe *pipe = of_end(end);
    if (reason == FLOW_UPSTREAM_RESET && end->side == PIPE_DOWN) {
        reason = FLOW_DOWNSTREAM_RESET;
    }
    if (pipe->end == FLOW_OK && !pipe->is_ending) {
        pipe->end = reason;
    }
    pipe->is_ending = true;
    struct duplex *other = pipe->side[!end->side];
    if (other != NULL) {
        other->ops->abort(other);
    }
}

static void on_closed(struct duplex *end) {
    struct pipe *pipe = of_end(end);
    pipe->side[end->side] = NULL;
    bool is_told = pipe->is_leaving && pipe->got_fin[end->side]; // both its directions have ended
    if (!pipe->is_ending && !is_told) {
        // An end may close by itself only after an abort or finish; anything else is its bug, but
        // the other side must still see a cut.
        pipe->is_ending = true;
        pipe->end = FLOW_INTERNAL;
        struct duplex *other = pipe->side[!end->side];
        if (other != NULL) {
            other->ops->abort(other);
        }
    }
    if (pipe->side[PIPE_DOWN] == NULL && pipe->side[PIPE_UP] == NULL) {
        pipe->done(pipe);
    }
}

static const struct duplex_events pipe_events = {
    .on_data = on_data,
    .on_fin = on_fin,
    .on_sent = on_sent,
    .on_writable = on_writable,
    .on_abort = on_abort,
    .on_closed = on_closed,
};

void pipe_init(struct pipe *pipe, struct blk_pool *pool, void (*done)(struct pipe *pipe)) {
    *pipe = (struct pipe){.pool = pool, .done = done};
}

void pipe_attach(struct pipe *pipe, enum pipe_side side, struct duplex *end) {
    CHECK(pipe->side[side] == NULL);
    pipe->side[side] = end;
    end->events = &pipe_events;
    end->owner = pipe;
    end->side = (uint8_t)side;
    end->sent_lag = SENT_LAG;
}

static void join(struct pipe *pipe) {
    for (int side = PIPE_DOWN; side <= PIPE_UP; side++) {
        if (pipe->side[side] != NULL && pipe->side[!side] != NULL) {
            pipe->side[side]->reports_sent = pipe->side[!side]->needs_credit;
        }
    }
}

void pipe_push(struct pipe *pipe, enum pipe_side side, struct chain *data, bool fin) {
    CHECK(!pipe->is_started);
    struct duplex *other = pipe->side[!side];
    join(pipe);
    pipe->n_bytes[side] += data->len;
    pipe->got_fin[side] = fin;
    other->ops->send(other, data, fin);
}

void pipe_start(struct pipe *pipe) {
    CHECK(!pipe->is_started);
    pipe->is_started = true;
    join(pipe);
    for (int side = PIPE_DOWN; side <= PIPE_UP; side++) {
        if (!pipe->is_ending && pipe->side[side] != NULL) {
            pipe->side[side]->ops->hold(pipe->side[side], false);
        }
    }
}

void pipe_cut(struct pipe *pipe, enum flow_end reason) {
    if (pipe->end == FLOW_OK) {
        pipe->end = reason;
    }
    pipe->is_ending = true;
    struct duplex *ends[2] = {pipe->side[PIPE_DOWN], pipe->side[PIPE_UP]};
    if (ends[PIPE_DOWN] == NULL && ends[PIPE_UP] == NULL) {
        pipe->done(pipe);
        return;
    }
    for (int side = PIPE_DOWN; side <= PIPE_UP; side++) {
        if (ends[side] != NULL) {
            ends[side]->ops->abort(ends[side]);
        }
    }
}

void pipe_end(struct pipe *pipe, enum flow_end reason) {
    CHECK(pipe->is_started && !pipe->is_ending && !pipe->is_leaving);
    CHECK(!pipe->got_fin[PIPE_DOWN] && !pipe->got_fin[PIPE_UP]);
    pipe->end = reason;
    pipe->is_leaving = true;
    for (int side = PIPE_DOWN; side <= PIPE_UP; side++) {
        if (pipe->side[side] != NULL) {
            send_fin(pipe, pipe->side[side]);
        }
    }
}

void pipe_end_now(struct pipe *pipe) {
    CHECK(pipe->is_leaving && !pipe->is_ending);
    pipe->is_ending = true;
    struct duplex *ends[2] = {pipe->side[PIPE_DOWN], pipe->side[PIPE_UP]};
    if (ends[PIPE_UP] != NULL) { // it has got all, its own end is missing
        ends[PIPE_UP]->ops->abort(ends[PIPE_UP]);
    }
    if (ends[PIPE_DOWN] != NULL) {
        ends[PIPE_DOWN]->ops->finish(ends[PIPE_DOWN]);
    }
}

// ---- hand-over ---------------------------------------------------------------------------------

enum {
    EXPORT_VERSION = 1,
    FLAG_DOWN = 1 << 0,
    FLAG_UP = 1 << 1,
    FLAG_DOWN_FIN = 1 << 2,
    FLAG_UP_FIN = 1 << 3,
    FLAG_DOWN_HELD = 1 << 4,
    FLAG_UP_HELD = 1 << 5,
    FLAG_ENDING = 1 << 6,
    FLAGS_ALL = (1 << 7) - 1,
};

bool pipe_export(const struct pipe *pipe, struct buf *out) {
    if (!pipe->is_started || pipe->end != FLOW_OK || pipe->n_injected > 0) {
        return false;
    }
    uint8_t flags = 0;
    flags |= pipe->side[PIPE_DOWN] != NULL ? FLAG_DOWN : 0;
    flags |= pipe->side[PIPE_UP] != NULL ? FLAG_UP : 0;
    flags |= pipe->got_fin[PIPE_DOWN] ? FLAG_DOWN_FIN : 0;
    flags |= pipe->got_fin[PIPE_UP] ? FLAG_UP_FIN : 0;
    flags |= pipe->is_held[PIPE_DOWN] ? FLAG_DOWN_HELD : 0;
    flags |= pipe->is_held[PIPE_UP] ? FLAG_UP_HELD : 0;
    flags |= pipe->is_ending ? FLAG_ENDING : 0;
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u8(out, flags);
    buf_put_u64(out, pipe->n_bytes[PIPE_DOWN]);
    buf_put_u64(out, pipe->n_bytes[PIPE_UP]);
    return buf_ok(out);
}

bool pipe_import(struct pipe *pipe, struct blk_pool *pool, void (*done)(struct pipe *pipe),
                 struct cur *in, bool ret_has[2]) {
    uint8_t version = cur_u8(in), flags = cur_u8(in);
    pipe_init(pipe, pool, done);
    pipe->n_bytes[PIPE_DOWN] = cur_u64(in);
    pipe->n_bytes[PIPE_UP] = cur_u64(in);
    pipe->got_fin[PIPE_DOWN] = (flags & FLAG_DOWN_FIN) != 0;
    pipe->got_fin[PIPE_UP] = (flags & FLAG_UP_FIN) != 0;
    pipe->is_held[PIPE_DOWN] = (flags & FLAG_DOWN_HELD) != 0;
    pipe->is_held[PIPE_UP] = (flags & FLAG_UP_HELD) != 0;
    pipe->is_ending = (flags & FLAG_ENDING) != 0;
    pipe->is_started = true;
    ret_has[PIPE_DOWN] = (flags & FLAG_DOWN) != 0;
    ret_has[PIPE_UP] = (flags & FLAG_UP) != 0;
    // Without a cut it ends when both sides have, and not before; the last end takes it along.
    bool has_both = ret_has[PIPE_DOWN] && ret_has[PIPE_UP];
    return cur_ok(in) && version == EXPORT_VERSION && (flags & ~FLAGS_ALL) == 0 &&
           pipe->is_ending == (pipe->got_fin[PIPE_DOWN] && pipe->got_fin[PIPE_UP]) &&
           (has_both || (pipe->is_ending && (ret_has[PIPE_DOWN] || ret_has[PIPE_UP])));
}
