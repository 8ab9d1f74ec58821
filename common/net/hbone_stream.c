// SPDX-License-Identifier: Apache-2.0
#include "common/net/hbone_stream.h"

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

static const struct duplex_ops stream_ops = {
    .send = stream_send,
    .can_send = stream_can_send,
    .consumed = stream_consumed,
    .hold = stream_hold,
    .abort = stream_abort,
    .finish = stream_finish,
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
