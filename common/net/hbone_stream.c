// SPDX-License-Identifier: Apache-2.0
#include "common/net/hbone_stream.h"

#include "common/base/buf.h"
#include "common/base/cur.h"

static struct hbone_stream *of_duplex(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct hbone_stream, duplex);
}

static struct hbone_stream *of_user(struct h2_user *user) {
    return CONTAINER_OF(user, struct hbone_stream, user);
}

// ---- events ------------------------------------------------------------------------------------

static void closed(struct hbone_stream *stream) {
    chain_clear(&stream->waiting);
    if (stream->duplex.events != NULL) {
        stream->duplex.events->on_closed(&stream->duplex);
    }
}

static void cut(struct hbone_stream *stream, enum flow_end reason) {
    if (stream->is_cut) {
        return;
    }
    stream->is_cut = true;
    if (stream->duplex.events != NULL) {
        stream->duplex.events->on_abort(&stream->duplex, reason);
        return;
    }
    h2_user_detach(&stream->user);
    chain_clear(&stream->waiting);
    if (stream->on_lost != NULL) {
        stream->on_lost(stream, reason);
    }
}

// Nothing is left to hand out, and the owner expects no other ending.
static bool may_close(const struct hbone_stream *stream) {
    return !stream->is_cut && stream->user.stream == NULL && stream->told_fin &&
           (stream->closes_itself || (stream->is_stopped && stream->is_finished));
}

static void deliver_waiting(struct hbone_stream *stream) {
    struct seg seg;
    stream->is_delivering = true;
    while (!stream->is_held && !stream->is_cut && chain_pop(&stream->waiting, &seg)) {
        stream->duplex.events->on_data(&stream->duplex, &seg);
    }
    if (stream->got_fin && !stream->told_fin && !stream->is_held && !stream->is_cut &&
        chain_empty(&stream->waiting)) {
        stream->told_fin = true;
        stream->duplex.events->on_fin(&stream->duplex);
    }
    stream->is_delivering = false;
}

// n more bytes of what the owner sent are on their way, or dropped for good.
static void report_sent(struct hbone_stream *stream, size_t n) {
    n = MIN(n, stream->n_unsent);
    stream->n_unsent -= n;
    if (n > 0 && stream->duplex.events != NULL && !stream->is_cut) {
        stream->duplex.events->on_sent(&stream->duplex, n);
    }
}

static void on_payload(struct hbone_stream *stream, const struct h2_event *event) {
    if (stream->is_cut) {
        return;
    }
    if (stream->is_held || !chain_empty(&stream->waiting)) {
        chain_copy(&stream->waiting, slice_make(event->blk->base + event->off, event->len));
        return;
    }
    struct seg seg = {.blk = blk_ref(event->blk), .off = event->off, .len = event->len};
    stream->duplex.events->on_data(&stream->duplex, &seg);
}

static enum flow_end reset_reason(const struct h2_event *event) {
    if (event->err == H2_LOCAL_PARKED) {
        return FLOW_PARKED_CAP;
    }
    return FLOW_TUNNEL_RESET;
}

// The HTTP/2 stream is no more. When both directions had ended, what is left is to hand out bytes
// that are ours already; else the flow was cut.
static void stream_gone(struct hbone_stream *stream, enum flow_end reason) {
    bool is_attached = stream->duplex.events != NULL;
    if (!stream->is_cut && stream->got_fin && is_attached &&
        (stream->is_sent || stream->is_stopped)) {
        stream->closes_itself = stream->is_sent;
        if (may_close(stream)) {
            closed(stream);
        } else if (stream->is_stopped) {
            stream->duplex.events->on_writable(&stream->duplex); // nothing holds up what is dropped
            report_sent(stream, stream->n_unsent);
        }
        return;
    }
    cut(stream, reason);
    if (is_attached) { // else on_lost was the last word
        closed(stream);
    }
}

static void stop_now(struct hbone_stream *stream) {
    struct h2_drv *drv = stream->user.drv;
    stream->is_cut = true; // nothing but on_closed
    h2_stream_reset(stream->user.stream, H2_NO_ERROR);
    h2_drv_kick(drv);
}

static void on_event(struct h2_user *user, const struct h2_event *event) {
    struct hbone_stream *stream = of_user(user);
    switch (event->type) {
    case H2_EV_HEADERS:
        if (stream->on_head != NULL) {
            stream->on_head(stream, event);
        }
        break;
    case H2_EV_DATA:
        on_payload(stream, event);
        break;
    case H2_EV_END:
        stream->got_fin = true;
        deliver_waiting(stream);
        break;
    case H2_EV_PROGRESS:
        report_sent(stream, event->len);
        break;
    case H2_EV_WRITABLE:
        if (stream->duplex.events != NULL && !stream->is_cut) {
            stream->duplex.events->on_writable(&stream->duplex);
        }
        break;
    case H2_EV_SENT:
        stream->is_sent = true;
        if (stream->wants_no_more && !stream->is_cut && !stream->got_fin) {
            stop_now(stream);
        }
        break;
    case H2_EV_RESET:
        stream->reset_err = event->err;
        if (event->is_clean && stream->got_fin) {
            stream->is_stopped = true;
        } else {
            cut(stream, reset_reason(event));
        }
        break;
    case H2_EV_CLOSED:
        stream_gone(stream, FLOW_TUNNEL_RESET);
        break;
    case H2_EV_TRAILERS: // not part of CONNECT; ignored
    case H2_EV_INFORMATIONAL:
    case H2_EV_SETTINGS:
    case H2_EV_GOAWAY:
    case H2_EV_PING_ACK:
    case H2_EV_CONN_ERROR:
        break;
    }
}

static void on_user_lost(struct h2_user *user, enum flow_end reason) {
    stream_gone(of_user(user), reason);
}

static const struct h2_user_ops user_ops = {.on_event = on_event, .on_lost = on_user_lost};

// ---- duplex ------------------------------------------------------------------------------------

static void stream_send(struct duplex *duplex, struct chain *data, bool fin) {
    struct hbone_stream *stream = of_duplex(duplex);
    if (duplex->reports_sent) {
        stream->n_unsent += data->len;
    }
    if (stream->user.stream == NULL) {
        chain_clear(data);
        report_sent(stream, stream->n_unsent);
        return;
    }
    if (duplex->reports_sent) {
        h2_stream_report_progress(stream->user.stream);
    }
    h2_stream_send_data(stream->user.stream, data, fin);
    h2_user_sent(&stream->user);
}

static bool stream_can_send(const struct duplex *duplex) {
    const struct hbone_stream *stream = of_duplex(duplex);
    return stream->user.stream == NULL || h2_stream_can_send(stream->user.stream);
}

static void stream_consumed(struct duplex *duplex, size_t n) {
    struct hbone_stream *stream = of_duplex(duplex);
    if (stream->user.stream != NULL) {
        h2_stream_consumed(stream->user.stream, n);
        if (h2_conn_wants_write(stream->user.drv->h2)) {
            h2_drv_kick(stream->user.drv);
        }
    }
}

static void stream_hold(struct duplex *duplex, bool on) {
    struct hbone_stream *stream = of_duplex(duplex);
    stream->is_held = on;
    if (on) {
        return;
    }
    deliver_waiting(stream);
    if (may_close(stream)) {
        closed(stream);
    }
}

static void stream_abort(struct duplex *duplex) {
    struct hbone_stream *stream = of_duplex(duplex);
    stream->is_cut = true;
    if (stream->user.stream != NULL) {
        struct h2_drv *drv = stream->user.drv;
        // Never CANCEL or NO_ERROR: peers take those for a clean end.
        h2_stream_reset(stream->user.stream, H2_CONNECT_ERROR);
        h2_drv_kick(drv); // the CLOSED event comes out of the flush
    } else if (stream->closes_itself || stream->is_stopped) {
        closed(stream);
    }
}

// Both sides have ended: CLOSED comes once END_STREAM has left, unless it has come already.
static void stream_finish(struct duplex *duplex) {
    struct hbone_stream *stream = of_duplex(duplex);
    stream->is_finished = true;
    if (!stream->is_delivering && !stream->closes_itself && may_close(stream)) {
        closed(stream);
    }
}

static void stream_stop(struct duplex *duplex) {
    struct hbone_stream *stream = of_duplex(duplex);
    if (stream->got_fin || stream->user.stream == NULL) {
        stream_finish(duplex);
    } else if (stream->is_sent) {
        stop_now(stream);
    } else {
        stream->wants_no_more = true;
    }
}

static const struct duplex_ops stream_ops = {
    .send = stream_send,
    .can_send = stream_can_send,
    .consumed = stream_consumed,
    .hold = stream_hold,
    .abort = stream_abort,
    .finish = stream_finish,
    .stop = stream_stop,
};

void hbone_stream_init(struct hbone_stream *stream, struct h2_drv *drv, struct h2_stream *h2) {
    *stream = (struct hbone_stream){.duplex = {.ops = &stream_ops, .needs_credit = true},
                                    .is_held = true};
    chain_init(&stream->waiting, drv->loop->pool);
    h2_user_init(&stream->user, &user_ops);
    h2_user_attach(&stream->user, drv, h2);
}

void hbone_stream_drop(struct hbone_stream *stream, enum h2_err err) {
    stream->is_cut = true;
    chain_clear(&stream->waiting);
    if (stream->user.stream != NULL) {
        struct h2_drv *drv = stream->user.drv;
        h2_stream_reset(stream->user.stream, err);
        h2_user_detach(&stream->user);
        h2_drv_kick(drv);
    }
}

// ---- hand-over ---------------------------------------------------------------------------------

enum {
    EXPORT_VERSION = 1,
    FLAG_HELD = 1 << 0,
    FLAG_GOT_FIN = 1 << 1,
    FLAG_TOLD_FIN = 1 << 2,
    FLAG_SENT = 1 << 3,
    FLAG_CLOSES_ITSELF = 1 << 4,
    FLAG_STOPPED = 1 << 5,
    FLAG_FINISHED = 1 << 6,
    FLAG_REPORTS = 1 << 7,
    WAITING_MAX = 64 << 20, // a stream window at most
};

bool hbone_stream_export(const struct hbone_stream *stream, struct buf *out) {
    if (stream->is_cut || stream->duplex.events == NULL || stream->is_delivering) {
        return false;
    }
    uint8_t flags = 0;
    flags |= stream->is_held ? FLAG_HELD : 0;
    flags |= stream->got_fin ? FLAG_GOT_FIN : 0;
    flags |= stream->told_fin ? FLAG_TOLD_FIN : 0;
    flags |= stream->is_sent ? FLAG_SENT : 0;
    flags |= stream->closes_itself ? FLAG_CLOSES_ITSELF : 0;
    flags |= stream->is_stopped ? FLAG_STOPPED : 0;
    flags |= stream->is_finished ? FLAG_FINISHED : 0;
    flags |= stream->duplex.reports_sent ? FLAG_REPORTS : 0;
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u8(out, flags);
    buf_put_u32(out, stream->user.stream != NULL ? h2_stream_id(stream->user.stream) : 0);
    buf_put_u64(out, stream->n_unsent);
    buf_put_u32(out, (uint32_t)stream->waiting.len);
    for (const struct seg *seg = stream->waiting.head; seg != NULL; seg = seg->next) {
        buf_append(out, seg_slice(seg));
    }
    return buf_ok(out);
}

void hbone_stream_release(struct hbone_stream *stream) {
    stream->is_cut = true;
    chain_clear(&stream->waiting);
    h2_user_detach(&stream->user);
}

static bool flags_are_sane(uint8_t flags, bool is_open, bool has_waiting) {
    bool got_fin = (flags & FLAG_GOT_FIN) != 0, is_sent = (flags & FLAG_SENT) != 0;
    bool is_over = got_fin && (is_sent || (flags & FLAG_STOPPED) != 0);
    bool told_fin = (flags & FLAG_TOLD_FIN) != 0;
    // Without its stream it must have something left to hand out, or it would be closed.
    return (!told_fin || (got_fin && !has_waiting)) && (is_open || (is_over && !told_fin)) &&
           (flags & FLAG_CLOSES_ITSELF) == (!is_open && is_sent ? FLAG_CLOSES_ITSELF : 0);
}

bool hbone_stream_import(struct hbone_stream *stream, struct h2_drv *drv, struct cur *in) {
    uint8_t version = cur_u8(in), flags = cur_u8(in);
    uint32_t id = cur_u32(in);
    uint64_t n_unsent = cur_u64(in);
    struct slice waiting = cur_bytes(in, cur_u32(in));
    struct h2_stream *h2 = id != 0 ? h2_conn_stream(drv->h2, id) : NULL;
    if (!cur_ok(in) || version != EXPORT_VERSION || waiting.len > WAITING_MAX ||
        (id != 0 && (h2 == NULL || h2_stream_user(h2) != NULL)) ||
        !flags_are_sane(flags, h2 != NULL, waiting.len > 0)) {
        return false;
    }
    *stream = (struct hbone_stream){.duplex = {.ops = &stream_ops,
                                               .needs_credit = true,
                                               .reports_sent = (flags & FLAG_REPORTS) != 0},
                                    .n_unsent = (size_t)n_unsent,
                                    .is_held = (flags & FLAG_HELD) != 0,
                                    .got_fin = (flags & FLAG_GOT_FIN) != 0,
                                    .told_fin = (flags & FLAG_TOLD_FIN) != 0,
                                    .is_sent = (flags & FLAG_SENT) != 0,
                                    .closes_itself = (flags & FLAG_CLOSES_ITSELF) != 0,
                                    .is_stopped = (flags & FLAG_STOPPED) != 0,
                                    .is_finished = (flags & FLAG_FINISHED) != 0};
    chain_init(&stream->waiting, drv->loop->pool);
    chain_copy(&stream->waiting, waiting);
    h2_user_init(&stream->user, &user_ops);
    if (h2 != NULL) {
        h2_user_attach(&stream->user, drv, h2);
        if (stream->duplex.reports_sent) {
            h2_stream_report_progress(h2);
        }
    }
    return true;
}
