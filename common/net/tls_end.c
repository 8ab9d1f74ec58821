// SPDX-License-Identifier: Apache-2.0
#include "common/net/tls_end.h"

#include <stdio.h>
#include <string.h>

enum {
    RECORD_HEADER = 5,
    ROOM_IN_FRONT = BLK_HEADROOM - RECORD_HEADER, // so that the payload has BLK_HEADROOM
};

static struct tls_end *of_inner(const struct duplex *inner) {
    return inner->owner;
}

static struct tls_end *of_duplex(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct tls_end, duplex);
}

static struct loop *loop_of(const struct tls_end *end) {
    return end->queue->loop;
}

// ---- the end -----------------------------------------------------------------------------------

static void enter(struct tls_end *end) {
    end->depth++;
}

// True: the end is no more.
static bool leave(struct tls_end *end) {
    if (--end->depth > 0 || !end->is_closed) {
        return false;
    }
    timer_clear(&loop_of(end)->timers, &end->timer);
    list_del(&end->job.node);
    if (end->hs != NULL) {
        end->queue->n_active--;
        tls_handshake_free(end->hs);
    }
    tls_record_free(end->record);
    chain_clear(&end->input);
    if (end->is_ready) {
        end->duplex.events->on_closed(&end->duplex);
    }
    end->handler->on_closed(end);
    return true;
}

static void cut_inner(struct tls_end *end) {
    end->is_closing = true;
    timer_clear(&loop_of(end)->timers, &end->timer);
    if (end->inner != NULL && !end->is_cut) {
        end->is_cut = true;
        end->inner->ops->abort(end->inner);
    }
}

static void send_raw(struct tls_end *end, struct chain *out, bool fin) {
    end->n_unsent += out->len;
    end->inner->ops->send(end->inner, out, fin);
}

// What is queued leaves first (an alert, for whoever looks for the reason), then the peer has its
// time to close.
static void close_slowly(struct tls_end *end) {
    end->is_closing = true;
    chain_clear(&end->input);
    list_del(&end->job.node);
    if (end->got_fin) {
        end->inner->ops->finish(end->inner);
    } else {
        end->inner->ops->hold(end->inner, false);
    }
    timer_set(&loop_of(end)->timers, &end->timer, loop_of(end)->now + TLS_END_CLOSE_MS * NS_PER_MS);
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct tls_end *end = CONTAINER_OF(timer, struct tls_end, timer);
    enter(end);
    cut_inner(end);
    (void)leave(end);
}

// The owner has the duplex: it is told of a cut.
static void lose(struct tls_end *end, enum flow_end reason) {
    end->is_closing = true;
    end->duplex.events->on_abort(&end->duplex, reason);
}

// ---- records -----------------------------------------------------------------------------------

static void record_failed(struct tls_end *end) {
    struct chain out;
    chain_init(&out, end->input.pool);
    tls_record_close(end->record, tls_record_error(end->record), &out);
    send_raw(end, &out, true);
    close_slowly(end);
    lose(end, FLOW_TUNNEL_LOST);
}

// The whole record at the front of the input, `size` bytes of it, in one piece that is ours to
// write: where it was received, or copied together.
static void take_record(struct tls_end *end, size_t size, struct seg *ret_seg) {
    const struct seg *head = end->input.head;
    if (head->len >= size) {
        *ret_seg = (struct seg){.blk = blk_ref(head->blk),
                                .off = head->off,
                                .len = (uint32_t)size,
                                .headroom = head->headroom};
    } else {
        struct blk *blk = blk_new_cold(end->input.pool, ROOM_IN_FRONT + size);
        (void)chain_peek(&end->input, blk->base + ROOM_IN_FRONT, size);
        *ret_seg = (struct seg){
            .blk = blk, .off = ROOM_IN_FRONT, .len = (uint32_t)size, .headroom = ROOM_IN_FRONT};
    }
    chain_skip(&end->input, size);
}

static void hand_out(struct tls_end *end, const struct seg *record, size_t off, size_t len) {
    // The header's place and the tag's are the payload's own from now on.
    struct seg seg = {.blk = record->blk,
                      .off = (uint32_t)(record->off + off),
                      .len = (uint32_t)len,
                      .headroom = (uint16_t)(record->headroom + off),
                      .tailroom = (uint16_t)(record->len - off - len)};
    end->inner->ops->consumed(end->inner, record->len - len);
    end->duplex.events->on_data(&end->duplex, &seg);
}

// False: no whole record is there, or nothing is to be read any more.
static bool open_next(struct tls_end *end) {
    uint8_t header[RECORD_HEADER];
    size_t used = 0, off = 0, len = 0, size = 0;
    size_t n = chain_peek(&end->input, header, sizeof(header));
    enum tls_open result = tls_record_open(end->record, header, n, &used, &off, &len, &size);
    if (result == TLS_OPEN_MORE && (size == 0 || end->input.len < size)) {
        return false;
    }
    struct seg record = {0};
    if (result == TLS_OPEN_MORE) {
        take_record(end, size, &record);
        result = tls_record_open(end->record, seg_ptr(&record), size, &used, &off, &len, &size);
    }
    switch (result) {
    case TLS_OPEN_DATA:
        hand_out(end, &record, off, len);
        return true;
    case TLS_OPEN_NONE:
        end->inner->ops->consumed(end->inner, record.len);
        break;
    case TLS_OPEN_CLOSED:
        end->told_fin = true;
        chain_clear(&end->input);
        end->duplex.events->on_fin(&end->duplex);
        break;
    case TLS_OPEN_MORE: // a whole record is never too short
    case TLS_OPEN_ERROR:
        record_failed(end);
        break;
    }
    if (record.blk != NULL) {
        blk_unref(record.blk);
    }
    return !end->told_fin;
}

static void read_on(struct tls_end *end) {
    if (end->is_reading) {
        return; // within a call of the owner's: the loop below goes on
    }
    end->is_reading = true;
    while (!end->is_held && !end->is_closing && !end->told_fin && open_next(end)) {
    }
    end->is_reading = false;
    if (end->is_closing) {
        return;
    }
    if (tls_record_wants_write(end->record)) { // the answer to a KeyUpdate
        struct chain none, out;
        chain_init(&none, end->input.pool);
        chain_init(&out, end->input.pool);
        (void)tls_record_seal(end->record, &none, &out, SIZE_MAX);
        send_raw(end, &out, false);
    }
    if (end->got_fin && !end->told_fin && !end->is_held) {
        cut_inner(end);
        lose(end, FLOW_TRUNCATED);
    }
}

// ---- handshake ---------------------------------------------------------------------------------

static void handshake_failed(struct tls_end *end, const char *text) {
    end->queue->n_failed++;
    end->is_closing = true;
    end->handler->on_fail(end, text);
}

static void tls_failed(struct tls_end *end, struct chain *out) {
    char text[TLS_LINK_ERROR_MAX];
    const char *detail = tls_handshake_error_detail(end->hs);
    snprintf(text, sizeof(text), "%s%s%s", tls_err_text(tls_handshake_error(end->hs)),
             detail[0] != '\0' ? ": " : "", detail);
    if (end->inner != NULL) {
        send_raw(end, out, true);
        close_slowly(end);
    }
    chain_clear(out);
    handshake_failed(end, text);
}

static void handshake_done(struct tls_end *end) {
    struct slice rest;
    end->record = tls_handshake_take(end->hs, &rest);
    struct chain input;
    chain_init(&input, end->input.pool);
    chain_copy(&input, rest);
    chain_move_all(&input, &end->input);
    chain_move_all(&end->input, &input);
    end->queue->n_done++;
    end->queue->n_active--;
    end->is_h2 = tls_handshake_is_h2(end->hs);
    tls_handshake_free(end->hs);
    end->hs = NULL;
    end->is_ready = end->is_held = true;
    end->inner->ops->hold(end->inner, true);
    end->duplex.needs_credit = end->inner->needs_credit;
    end->handler->on_ready(end);
}

static void handshake_step(struct tls_job *job) {
    struct tls_end *end = CONTAINER_OF(job, struct tls_end, job);
    struct chain out;
    chain_init(&out, end->input.pool);
    enum tls_step step = TLS_STEP_MORE;
    enter(end);
    do { // also once with no input: the first message
        struct seg seg = {0};
        bool has_input = chain_pop(&end->input, &seg);
        struct slice in = has_input ? seg_slice(&seg) : slice_make(NULL, 0);
        step = tls_handshake_recv(end->hs, in, clock_wall_s(), &out);
        if (has_input) {
            end->inner->ops->consumed(end->inner, seg.len);
            blk_unref(seg.blk);
        }
    } while (step == TLS_STEP_MORE && !chain_empty(&end->input));
    if (step == TLS_STEP_ERROR) {
        tls_failed(end, &out);
    } else if (!chain_empty(&out)) {
        send_raw(end, &out, false);
    }
    if (step == TLS_STEP_DONE) {
        handshake_done(end);
    }
    (void)leave(end);
}

// The peer closed: what it said before may be the reason.
static void handshake_cut(struct tls_end *end, const char *text) {
    struct chain none;
    struct seg seg;
    chain_init(&none, end->input.pool);
    list_del(&end->job.node);
    while (chain_pop(&end->input, &seg)) {
        enum tls_step step = tls_handshake_recv(end->hs, seg_slice(&seg), clock_wall_s(), &none);
        blk_unref(seg.blk);
        if (step == TLS_STEP_ERROR) {
            chain_clear(&none);
            cut_inner(end);
            char error[TLS_LINK_ERROR_MAX];
            snprintf(error, sizeof(error), "%s", tls_err_text(tls_handshake_error(end->hs)));
            handshake_failed(end, error);
            return;
        }
        if (step == TLS_STEP_DONE) {
            break; // too late
        }
    }
    chain_clear(&none);
    cut_inner(end);
    handshake_failed(end, text);
}

// ---- the transport -----------------------------------------------------------------------------

static void on_data(struct duplex *inner, const struct seg *seg) {
    struct tls_end *end = of_inner(inner);
    if (end->is_closing || end->told_fin) {
        inner->ops->consumed(inner, seg->len);
        blk_unref(seg->blk);
        return;
    }
    enter(end);
    if (end->hs != NULL) {
        chain_copy(&end->input, seg_slice(seg)); // small, and not to be kept from its ring
        blk_unref(seg->blk);
        if (end->input.len > TLS_LINK_HS_MAX) { // attack: endless handshake input
            cut_inner(end);
            handshake_failed(end, "the handshake has too many bytes");
        } else {
            tls_queue_add(end->queue, &end->job);
        }
    } else {
        chain_push(&end->input, seg);
        read_on(end);
        // What waits for the rest of its record does so in memory of its own.
        chain_to_cold(&end->input);
    }
    (void)leave(end);
}

static void on_fin(struct duplex *inner) {
    struct tls_end *end = of_inner(inner);
    end->got_fin = true;
    enter(end);
    if (end->is_closing) {
        inner->ops->finish(inner);
    } else if (end->hs != NULL) {
        handshake_cut(end, "the server closed the connection during the TLS handshake");
    } else if (!end->told_fin) {
        read_on(end);
    }
    (void)leave(end);
}

// Records and what they carry leave together; what is left of the payload is at most what is left
// of the records.
static void on_sent(struct duplex *inner, size_t n) {
    struct tls_end *end = of_inner(inner);
    end->n_unsent -= MIN(n, end->n_unsent);
    if (end->is_ready && !end->is_closing && end->n_plain_unsent > end->n_unsent) {
        size_t n_plain = end->n_plain_unsent - end->n_unsent;
        end->n_plain_unsent = end->n_unsent;
        enter(end);
        end->duplex.events->on_sent(&end->duplex, n_plain);
        (void)leave(end);
    }
}

static void on_writable(struct duplex *inner) {
    struct tls_end *end = of_inner(inner);
    if (end->is_ready && !end->is_closing) {
        enter(end);
        end->duplex.events->on_writable(&end->duplex);
        (void)leave(end);
    }
}

static void on_abort(struct duplex *inner, enum flow_end reason) {
    struct tls_end *end = of_inner(inner);
    if (end->is_closing) {
        return;
    }
    enter(end);
    end->is_cut = true; // on_closed follows by itself
    if (end->hs != NULL) {
        handshake_cut(end, "the connection was reset during the TLS handshake");
    } else {
        lose(end, reason);
    }
    (void)leave(end);
}

static void on_closed(struct duplex *inner) {
    struct tls_end *end = of_inner(inner);
    enter(end);
    end->inner = NULL;
    end->is_closed = true;
    if (!end->is_closing) { // by itself: as a cut
        if (end->hs != NULL) {
            handshake_failed(end, "the connection was lost during the TLS handshake");
        } else if (!end->told_fin) {
            lose(end, FLOW_TRUNCATED);
        }
    }
    (void)leave(end);
}

static const struct duplex_events inner_events = {
    .on_data = on_data,
    .on_fin = on_fin,
    .on_sent = on_sent,
    .on_writable = on_writable,
    .on_abort = on_abort,
    .on_closed = on_closed,
};

// ---- the plain side ----------------------------------------------------------------------------

static void end_send(struct duplex *duplex, struct chain *data, bool fin) {
    struct tls_end *end = of_duplex(duplex);
    if (end->inner == NULL || end->is_closing || tls_record_is_write_closed(end->record)) {
        chain_clear(data);
        return;
    }
    struct chain out;
    chain_init(&out, end->input.pool);
    end->n_plain_unsent += data->len;
    (void)tls_record_seal(end->record, data, &out, SIZE_MAX);
    if (fin) {
        tls_record_close(end->record, TLS_OK, &out);
    }
    send_raw(end, &out, fin);
}

static bool end_can_send(const struct duplex *duplex) {
    const struct tls_end *end = of_duplex(duplex);
    return end->inner == NULL || end->is_closing || end->inner->ops->can_send(end->inner);
}

static void end_consumed(struct duplex *duplex, size_t n) {
    struct tls_end *end = of_duplex(duplex);
    if (end->inner != NULL) {
        end->inner->ops->consumed(end->inner, n);
    }
}

static void end_hold(struct duplex *duplex, bool on) {
    struct tls_end *end = of_duplex(duplex);
    if (end->is_held == on || end->is_closing || end->inner == NULL) {
        return;
    }
    end->is_held = on;
    enter(end);
    if (on) {
        end->inner->ops->hold(end->inner, true);
    } else {
        read_on(end);
        if (!end->is_held && end->inner != NULL && !end->is_closing) {
            end->inner->ops->hold(end->inner, false);
        }
    }
    (void)leave(end);
}

static void end_abort(struct duplex *duplex) {
    struct tls_end *end = of_duplex(duplex);
    enter(end);
    cut_inner(end);
    (void)leave(end);
}

// The server's FIN may come a moment after its close_notify.
static void end_finish(struct duplex *duplex) {
    struct tls_end *end = of_duplex(duplex);
    if (!end->is_closing && end->inner != NULL) {
        enter(end);
        close_slowly(end);
        (void)leave(end);
    }
}

static const struct duplex_ops tls_end_ops = {
    .send = end_send,
    .can_send = end_can_send,
    .consumed = end_consumed,
    .hold = end_hold,
    .abort = end_abort,
    .finish = end_finish,
};

void tls_end_init(struct tls_end *end, struct tls_queue *queue, struct duplex *inner,
                  struct tls_handshake *hs, const struct tls_end_handler *handler) {
    *end = (struct tls_end){
        .duplex = {.ops = &tls_end_ops},
        .handler = handler,
        .queue = queue,
        .inner = inner,
        .job = {.run = handshake_step},
        .hs = hs,
    };
    list_init(&end->job.node);
    chain_init(&end->input, queue->loop->pool);
    timer_init(&end->timer, on_timer);
    queue->n_active++;
    inner->events = &inner_events;
    inner->owner = end;
    inner->reports_sent = true;
    tls_queue_add(queue, &end->job);
    inner->ops->hold(inner, false);
}

void tls_end_abort(struct tls_end *end) {
    enter(end);
    list_del(&end->job.node);
    cut_inner(end);
    (void)leave(end);
}
