// SPDX-License-Identifier: Apache-2.0
#include "common/net/proxy_tunnel.h"

#include <stdio.h>

enum { INTERIM_MAX = 8, TEXT_MAX = 128 };

static const struct h1_head_limits limits = {.max_bytes = H1_HEAD_MAX_BYTES,
                                             .max_fields = H1_HEAD_MAX_FIELDS};

static struct proxy_tunnel *of_duplex(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct proxy_tunnel, duplex);
}

// ---- the end -----------------------------------------------------------------------------------

static void enter(struct proxy_tunnel *tunnel) {
    tunnel->depth++;
}

static void leave(struct proxy_tunnel *tunnel) {
    if (--tunnel->depth > 0 || !tunnel->is_closed) {
        return;
    }
    h1_head_fini(&tunnel->head);
    h1_body_fini(&tunnel->body);
    chain_clear(&tunnel->input);
    if (tunnel->is_ready) {
        tunnel->duplex.events->on_closed(&tunnel->duplex);
    }
    tunnel->handler->on_closed(tunnel);
}

static void cut(struct proxy_tunnel *tunnel) {
    tunnel->is_closing = true;
    chain_clear(&tunnel->input);
    if (tunnel->inner != NULL && !tunnel->is_cut) {
        tunnel->is_cut = true;
        tunnel->inner->ops->abort(tunnel->inner);
    }
}

static void fail(struct proxy_tunnel *tunnel, const char *text) {
    tunnel->is_closing = true; // before the owner hears of it
    tunnel->handler->on_fail(tunnel, text);
    cut(tunnel);
}

// The owner has the duplex: it is told of a cut.
static void lose(struct proxy_tunnel *tunnel, enum flow_end reason) {
    tunnel->is_closing = true;
    tunnel->duplex.events->on_abort(&tunnel->duplex, reason);
}

// ---- the answer --------------------------------------------------------------------------------

static void become_ready(struct proxy_tunnel *tunnel) {
    struct h1_head *head = &tunnel->head;
    if (tunnel->is_post) {
        h1_body_init(&tunnel->body, (enum h1_body_kind)head->body, head->body_len, &limits);
    } // of CONNECT: whatever the fields say, there is no body
    h1_head_fini(head);
    *head = (struct h1_head){0};
    tunnel->is_ready = tunnel->is_held = true;
    tunnel->inner->ops->hold(tunnel->inner, true);
    tunnel->duplex.needs_credit = tunnel->inner->needs_credit;
    tunnel->handler->on_ready(tunnel);
}

// A whole head has come.
static void judge(struct proxy_tunnel *tunnel) {
    uint16_t status = tunnel->head.head.status;
    char text[TEXT_MAX];
    if (status / 100 == 1 && status != 101) { // RFC 9110 15.2
        h1_head_reset(&tunnel->head);
        if (++tunnel->n_interim > INTERIM_MAX) { // attack: an answer that never comes
            fail(tunnel, "the proxy sends too many interim responses");
        }
    } else if (status / 100 == 2) {
        become_ready(tunnel);
    } else {
        snprintf(text, sizeof(text), "the proxy answered %s with %u",
                 tunnel->is_post ? "POST" : "CONNECT", status);
        fail(tunnel, text);
    }
}

static void read_answer(struct proxy_tunnel *tunnel) {
    while (!tunnel->is_ready && !tunnel->is_closing && !chain_empty(&tunnel->input)) {
        size_t used = 0;
        bool is_done = false;
        enum http_err err =
            h1_head_recv(&tunnel->head, seg_slice(tunnel->input.head), &used, &is_done);
        tunnel->inner->ops->consumed(tunnel->inner, used);
        chain_skip(&tunnel->input, used);
        if (err != HTTP_ERR_OK) {
            char text[TEXT_MAX];
            snprintf(text, sizeof(text), "the proxy's answer is no HTTP/1.1: %s",
                     http_err_text(err));
            fail(tunnel, text);
        } else if (is_done) {
            judge(tunnel);
        }
    }
}

// ---- what comes through ------------------------------------------------------------------------

static void end_reading(struct proxy_tunnel *tunnel) {
    tunnel->told_fin = true;
    if (tunnel->inner != NULL && tunnel->input.len > 0) {
        tunnel->inner->ops->consumed(tunnel->inner, tunnel->input.len);
    }
    chain_clear(&tunnel->input); // nothing is to come behind a response
    tunnel->duplex.events->on_fin(&tunnel->duplex);
}

static void hand_out(struct proxy_tunnel *tunnel, size_t off, size_t len) {
    const struct seg *head = tunnel->input.head;
    struct seg seg = {
        .blk = blk_ref(head->blk), .off = (uint32_t)(head->off + off), .len = (uint32_t)len};
    chain_skip(&tunnel->input, off + len);
    tunnel->inner->ops->consumed(tunnel->inner, off);
    tunnel->duplex.events->on_data(&tunnel->duplex, &seg);
}

// False: no more payload is there.
static bool read_body(struct proxy_tunnel *tunnel) {
    size_t used = 0, len = 0;
    struct slice in =
        chain_empty(&tunnel->input) ? slice_make(NULL, 0) : seg_slice(tunnel->input.head);
    enum h1_step step = h1_body_recv(&tunnel->body, in, &used, &len);
    switch (step) {
    case H1_STEP_DATA:
        hand_out(tunnel, used - len, len);
        return true;
    case H1_STEP_MORE:
        tunnel->inner->ops->consumed(tunnel->inner, used);
        chain_skip(&tunnel->input, used);
        return !chain_empty(&tunnel->input);
    case H1_STEP_END:
        tunnel->inner->ops->consumed(tunnel->inner, used);
        chain_skip(&tunnel->input, used);
        end_reading(tunnel);
        return false;
    case H1_STEP_ERROR:
        break;
    }
    cut(tunnel);
    lose(tunnel, FLOW_TRUNCATED);
    return false;
}

static bool read_bytes(struct proxy_tunnel *tunnel) {
    struct seg seg;
    if (!chain_pop(&tunnel->input, &seg)) {
        return false;
    }
    tunnel->duplex.events->on_data(&tunnel->duplex, &seg);
    return true;
}

static void read_on(struct proxy_tunnel *tunnel) {
    if (tunnel->is_reading) {
        return; // within a call of the owner's: the loop below goes on
    }
    tunnel->is_reading = true;
    while (!tunnel->is_held && !tunnel->is_closing && !tunnel->told_fin &&
           (tunnel->is_post ? read_body(tunnel) : read_bytes(tunnel))) {
    }
    tunnel->is_reading = false;
    if (tunnel->is_held || tunnel->is_closing || tunnel->told_fin || !tunnel->got_fin) {
        return;
    }
    if (!tunnel->is_post || h1_body_recv_eof(&tunnel->body)) {
        end_reading(tunnel);
    } else {
        cut(tunnel);
        lose(tunnel, FLOW_TRUNCATED);
    }
}

// ---- the transport -----------------------------------------------------------------------------

static void on_data(struct duplex *inner, const struct seg *seg) {
    struct proxy_tunnel *tunnel = inner->owner;
    if (tunnel->is_closing || tunnel->told_fin) {
        inner->ops->consumed(inner, seg->len);
        blk_unref(seg->blk);
        return;
    }
    enter(tunnel);
    chain_push(&tunnel->input, seg);
    if (!tunnel->is_ready) {
        read_answer(tunnel);
    } else {
        read_on(tunnel);
    }
    if (!tunnel->is_closing) { // what waits does so in memory of its own
        chain_to_cold(&tunnel->input);
    }
    leave(tunnel);
}

static void on_fin(struct duplex *inner) {
    struct proxy_tunnel *tunnel = inner->owner;
    tunnel->got_fin = true;
    enter(tunnel);
    if (tunnel->is_ready) {
        read_on(tunnel);
    } else if (!tunnel->is_closing) {
        fail(tunnel, "the proxy closed the connection before it answered");
    }
    leave(tunnel);
}

// What is left of the payload is at most what is left of all.
static void on_sent(struct duplex *inner, size_t n) {
    struct proxy_tunnel *tunnel = inner->owner;
    tunnel->n_unsent -= MIN(n, tunnel->n_unsent);
    if (tunnel->is_ready && !tunnel->is_closing && tunnel->n_plain_unsent > tunnel->n_unsent) {
        size_t n_plain = tunnel->n_plain_unsent - tunnel->n_unsent;
        tunnel->n_plain_unsent = tunnel->n_unsent;
        enter(tunnel);
        tunnel->duplex.events->on_sent(&tunnel->duplex, n_plain);
        leave(tunnel);
    }
}

static void on_writable(struct duplex *inner) {
    struct proxy_tunnel *tunnel = inner->owner;
    if (tunnel->is_ready && !tunnel->is_closing) {
        enter(tunnel);
        tunnel->duplex.events->on_writable(&tunnel->duplex);
        leave(tunnel);
    }
}

static void on_abort(struct duplex *inner, enum flow_end reason) {
    struct proxy_tunnel *tunnel = inner->owner;
    if (tunnel->is_closing) {
        return;
    }
    enter(tunnel);
    tunnel->is_closing = tunnel->is_cut = true; // on_closed follows by itself
    if (tunnel->is_ready) {
        lose(tunnel, reason);
    } else {
        tunnel->handler->on_fail(tunnel, "the proxy reset the connection before it answered");
    }
    leave(tunnel);
}

static void on_closed(struct duplex *inner) {
    struct proxy_tunnel *tunnel = inner->owner;
    enter(tunnel);
    tunnel->inner = NULL;
    tunnel->is_closed = true;
    if (!tunnel->is_closing) { // by itself: as a cut
        tunnel->is_closing = true;
        if (!tunnel->is_ready) {
            tunnel->handler->on_fail(tunnel, "the connection to the proxy was lost");
        } else if (!tunnel->told_fin) {
            lose(tunnel, FLOW_TRUNCATED);
        }
    }
    leave(tunnel);
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

static void send_raw(struct proxy_tunnel *tunnel, struct chain *data, bool fin) {
    tunnel->n_unsent += data->len;
    tunnel->inner->ops->send(tunnel->inner, data, fin);
}

static void tunnel_send(struct duplex *duplex, struct chain *data, bool fin) {
    struct proxy_tunnel *tunnel = of_duplex(duplex);
    if (tunnel->inner == NULL || tunnel->is_closing) {
        chain_clear(data);
        return;
    }
    tunnel->n_plain_unsent += data->len;
    if (!tunnel->is_post) {
        send_raw(tunnel, data, fin);
        return;
    }
    struct chain out;
    chain_init(&out, tunnel->input.pool);
    if (!chain_empty(data)) {
        CHECK(h1_body_write(&tunnel->out, data, &out)); // chunked has no length to exceed
    }
    if (fin) {
        CHECK(h1_body_write_end(&tunnel->out, NULL, 0, &out));
    }
    send_raw(tunnel, &out, false);
}

static bool tunnel_can_send(const struct duplex *duplex) {
    const struct proxy_tunnel *tunnel = of_duplex(duplex);
    return tunnel->inner == NULL || tunnel->is_closing ||
           tunnel->inner->ops->can_send(tunnel->inner);
}

static void tunnel_consumed(struct duplex *duplex, size_t n) {
    struct proxy_tunnel *tunnel = of_duplex(duplex);
    if (tunnel->inner != NULL) {
        tunnel->inner->ops->consumed(tunnel->inner, n);
    }
}

static void tunnel_hold(struct duplex *duplex, bool on) {
    struct proxy_tunnel *tunnel = of_duplex(duplex);
    if (tunnel->is_held == on || tunnel->is_closing || tunnel->inner == NULL) {
        return;
    }
    tunnel->is_held = on;
    enter(tunnel);
    if (on) {
        tunnel->inner->ops->hold(tunnel->inner, true);
    } else {
        read_on(tunnel);
        if (!tunnel->is_held && !tunnel->is_closing && tunnel->inner != NULL) {
            tunnel->inner->ops->hold(tunnel->inner, false);
        }
    }
    leave(tunnel);
}

static void tunnel_abort(struct duplex *duplex) {
    struct proxy_tunnel *tunnel = of_duplex(duplex);
    enter(tunnel);
    cut(tunnel);
    leave(tunnel);
}

// A proxy that was POSTed to may keep its connection: it is not waited for.
static void tunnel_finish(struct duplex *duplex) {
    struct proxy_tunnel *tunnel = of_duplex(duplex);
    struct duplex *inner = tunnel->inner;
    if (tunnel->is_closing || inner == NULL) {
        return;
    }
    enter(tunnel);
    tunnel->is_closing = true;
    if (tunnel->is_post) {
        struct chain none;
        chain_init(&none, tunnel->input.pool);
        inner->ops->send(inner, &none, true);
    }
    if (!tunnel->got_fin && inner->ops->stop != NULL) {
        inner->ops->stop(inner);
    } else {
        inner->ops->finish(inner);
    }
    leave(tunnel);
}

static const struct duplex_ops tunnel_ops = {
    .send = tunnel_send,
    .can_send = tunnel_can_send,
    .consumed = tunnel_consumed,
    .hold = tunnel_hold,
    .abort = tunnel_abort,
    .finish = tunnel_finish,
};

// ---- interface ---------------------------------------------------------------------------------

static void send_request(struct proxy_tunnel *tunnel, const struct proxy_tunnel_target *target) {
    struct slice parts[] = {
        target->is_post ? SLICE_LIT("POST /") : SLICE_LIT("CONNECT "),
        target->is_post ? SLICE_LIT("") : target->authority,
        SLICE_LIT(" HTTP/1.1\r\nhost: "),
        target->authority,
        target->is_post ? SLICE_LIT("\r\ntransfer-encoding: chunked\r\n\r\n")
                        : SLICE_LIT("\r\n\r\n"),
    };
    struct chain out;
    chain_init(&out, tunnel->input.pool);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        chain_copy(&out, parts[i]);
    }
    send_raw(tunnel, &out, false);
}

void proxy_tunnel_init(struct proxy_tunnel *tunnel, struct blk_pool *pool, struct duplex *inner,
                       const struct proxy_tunnel_target *target,
                       const struct proxy_tunnel_handler *handler) {
    *tunnel = (struct proxy_tunnel){.duplex = {.ops = &tunnel_ops},
                                    .handler = handler,
                                    .inner = inner,
                                    .out = {.kind = H1_BODY_CHUNKED},
                                    .is_post = target->is_post};
    chain_init(&tunnel->input, pool);
    h1_head_init(&tunnel->head, H1_HEAD_RESPONSE, &limits);
    inner->events = &inner_events;
    inner->owner = tunnel;
    inner->reports_sent = true;
    enter(tunnel);
    send_request(tunnel, target);
    inner->ops->hold(inner, false);
    leave(tunnel);
}

void proxy_tunnel_abort(struct proxy_tunnel *tunnel) {
    enter(tunnel);
    cut(tunnel);
    leave(tunnel);
}
