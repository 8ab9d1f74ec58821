// SPDX-License-Identifier: Apache-2.0
#include "waypoint/dial_layer.h"

#include <stdio.h>
#include <stdlib.h>

#include "waypoint/http_worker.h"

struct dial_layer {
    struct upstream_dial *dial; // NULL: open, or not wanted any more
    struct wworker *worker;
    struct upstream_way way;
    struct duplex *transport; // NULL: not connected yet
    struct duplex plain; // over the transport when something goes ahead of all else
    struct chain ahead;
    size_t n_ahead; // bytes of it that have not left
    struct tls_handshake *hs; // until it starts
    struct tls_end tls;
    struct proxy_tunnel tunnel;
    struct proxy_tunnel_target proxy; // its authority is a copy on the heap
    bool is_tls, is_tunnel;
    bool in_tunnel; // it has been begun
};

static void layer_free(struct dial_layer *layer) {
    layer->worker->http->upstreams.n_layers--;
    chain_clear(&layer->ahead);
    tls_handshake_free(layer->hs);
    free((void *)(uintptr_t)layer->proxy.authority.ptr);
    free(layer);
}

// ---- what goes ahead
//
// The transport as it is, but that nobody hears of the bytes that were sent before.

static struct dial_layer *of_plain(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct dial_layer, plain);
}

static void plain_send(struct duplex *duplex, struct chain *data, bool fin) {
    struct duplex *to = of_plain(duplex)->transport;
    to->ops->send(to, data, fin);
}

static bool plain_can_send(const struct duplex *duplex) {
    const struct duplex *to = of_plain(duplex)->transport;
    return to->ops->can_send(to);
}

static void plain_consumed(struct duplex *duplex, size_t n) {
    struct duplex *to = of_plain(duplex)->transport;
    to->ops->consumed(to, n);
}

static void plain_hold(struct duplex *duplex, bool on) {
    struct duplex *to = of_plain(duplex)->transport;
    to->ops->hold(to, on);
}

static void plain_abort(struct duplex *duplex) {
    struct duplex *to = of_plain(duplex)->transport;
    to->ops->abort(to);
}

static void plain_finish(struct duplex *duplex) {
    struct duplex *to = of_plain(duplex)->transport;
    to->ops->finish(to);
}

static const struct duplex_ops plain_ops = {
    .send = plain_send,
    .can_send = plain_can_send,
    .consumed = plain_consumed,
    .hold = plain_hold,
    .abort = plain_abort,
    .finish = plain_finish,
};

static struct duplex *plain_of(const struct duplex *transport) {
    return &((struct dial_layer *)transport->owner)->plain;
}

static void on_data(struct duplex *transport, const struct seg *seg) {
    struct duplex *plain = plain_of(transport);
    plain->events->on_data(plain, seg);
}

static void on_fin(struct duplex *transport) {
    struct duplex *plain = plain_of(transport);
    plain->events->on_fin(plain);
}

static void on_sent(struct duplex *transport, size_t n) {
    struct dial_layer *layer = transport->owner;
    size_t n_own = MIN(n, layer->n_ahead);
    layer->n_ahead -= n_own;
    if (n > n_own) {
        layer->plain.events->on_sent(&layer->plain, n - n_own);
    }
}

static void on_writable(struct duplex *transport) {
    struct duplex *plain = plain_of(transport);
    plain->events->on_writable(plain);
}

static void on_abort(struct duplex *transport, enum flow_end reason) {
    struct duplex *plain = plain_of(transport);
    plain->events->on_abort(plain, reason);
}

static void on_closed(struct duplex *transport) {
    struct dial_layer *layer = transport->owner;
    bool is_under = layer->is_tls || layer->is_tunnel; // then it goes with the end above
    layer->plain.events->on_closed(&layer->plain);
    if (!is_under) {
        layer_free(layer);
    }
}

static const struct duplex_events transport_events = {
    .on_data = on_data,
    .on_fin = on_fin,
    .on_sent = on_sent,
    .on_writable = on_writable,
    .on_abort = on_abort,
    .on_closed = on_closed,
};

static struct duplex *send_ahead(struct dial_layer *layer) {
    struct duplex *transport = layer->transport;
    transport->events = &transport_events;
    transport->owner = layer;
    transport->reports_sent = true;
    layer->plain = (struct duplex){.ops = &plain_ops, .needs_credit = transport->needs_credit};
    layer->n_ahead = layer->ahead.len;
    transport->ops->send(transport, &layer->ahead, false);
    return &layer->plain;
}

// ---- above TLS, or without it ------------------------------------------------------------------

static void layer_failed(struct dial_layer *layer, const struct upstream_failure *failure) {
    struct upstream_dial *dial = layer->dial;
    layer->dial = NULL;
    dial->layer = NULL; // it closes by itself
    upstream_dial_failed(dial, failure);
}

static struct dial_layer *of_tunnel(struct proxy_tunnel *tunnel) {
    return CONTAINER_OF(tunnel, struct dial_layer, tunnel);
}

static void on_tunnel_ready(struct proxy_tunnel *tunnel) {
    struct dial_layer *layer = of_tunnel(tunnel);
    struct upstream_dial *dial = layer->dial;
    layer->dial = NULL;
    upstream_dial_opened(dial, &tunnel->duplex);
}

static void on_tunnel_fail(struct proxy_tunnel *tunnel, const char *text) {
    struct dial_layer *layer = of_tunnel(tunnel);
    if (layer->dial != NULL) {
        struct upstream_failure failure = {
            .reason = FLOW_CONNECT_REFUSED, .is_retryable = true, .text = text};
        layer_failed(layer, &failure);
    }
}

static void on_tunnel_closed(struct proxy_tunnel *tunnel) {
    struct dial_layer *layer = of_tunnel(tunnel);
    if (!layer->is_tls) { // else it goes with the end of TLS
        layer_free(layer);
    }
}

static const struct proxy_tunnel_handler tunnel_handler = {
    .on_ready = on_tunnel_ready, .on_fail = on_tunnel_fail, .on_closed = on_tunnel_closed};

// The way to the server is there.
static void go_on(struct dial_layer *layer, struct duplex *duplex) {
    if (layer->is_tunnel) {
        layer->in_tunnel = true;
        proxy_tunnel_init(&layer->tunnel, layer->ahead.pool, duplex, &layer->proxy,
                          &tunnel_handler);
        return;
    }
    struct upstream_dial *dial = layer->dial;
    layer->dial = NULL;
    upstream_dial_opened(dial, duplex);
}

// ---- TLS ---------------------------------------------------------------------------------------

static struct dial_layer *of_tls(struct tls_end *end) {
    return CONTAINER_OF(end, struct dial_layer, tls);
}

static void on_tls_ready(struct tls_end *end) {
    go_on(of_tls(end), &end->duplex);
}

static void on_tls_fail(struct tls_end *end, const char *text) {
    struct dial_layer *layer = of_tls(end);
    char error[TLS_LINK_ERROR_MAX];
    if (layer->dial == NULL) {
        return;
    }
    snprintf(error, sizeof(error), "TLS error: %s", text);
    struct upstream_failure failure = {
        .reason = FLOW_TLS_FAILURE, .is_retryable = true, .text = error};
    layer_failed(layer, &failure);
}

static void on_tls_closed(struct tls_end *end) {
    layer_free(of_tls(end));
}

static const struct tls_end_handler tls_handler = {
    .on_ready = on_tls_ready, .on_fail = on_tls_fail, .on_closed = on_tls_closed};

// ---- interface ---------------------------------------------------------------------------------

struct dial_layer *dial_layer_new(struct upstream_dial *dial,
                                  const struct upstream_target *target) {
    bool is_tunnel = target->proxy.authority.len > 0;
    if (target->tls == NULL && target->ahead.len == 0 && !is_tunnel) {
        return NULL;
    }
    struct dial_layer *layer = xcalloc(1, sizeof(*layer));
    layer->dial = dial;
    layer->worker = dial->worker;
    layer->worker->http->upstreams.n_layers++;
    layer->is_tls = target->tls != NULL;
    layer->is_tunnel = is_tunnel;
    if (is_tunnel) {
        struct slice to = target->proxy.authority;
        layer->proxy.is_post = target->proxy.is_post;
        layer->proxy.authority = slice_make(xstrndup((const char *)to.ptr, to.len), to.len);
    }
    if (layer->is_tls) {
        layer->hs = tls_handshake_new_outside(target->tls, &target->server);
    }
    chain_init(&layer->ahead, dial->worker->loop->pool);
    chain_copy(&layer->ahead, target->ahead);
    return layer;
}

struct upstream_way *dial_layer_way(struct dial_layer *layer) {
    return &layer->way;
}

void dial_layer_start(struct dial_layer *layer, struct duplex *transport) {
    layer->transport = transport;
    struct duplex *duplex = layer->ahead.len > 0 ? send_ahead(layer) : transport;
    if (layer->is_tls) {
        struct tls_handshake *hs = layer->hs;
        layer->hs = NULL;
        tls_end_init(&layer->tls, &layer->worker->tls_queue, duplex, hs, &tls_handler);
        return;
    }
    go_on(layer, duplex);
}

void dial_layer_drop(struct dial_layer *layer) {
    if (layer == NULL) {
        return;
    }
    layer->dial = NULL;
    if (layer->transport == NULL) {
        layer_free(layer);
    } else if (layer->in_tunnel) {
        proxy_tunnel_abort(&layer->tunnel); // on_closed frees it, here and below
    } else {
        tls_end_abort(&layer->tls);
    }
}

const char *dial_layer_timeout_text(const struct dial_layer *layer) {
    if (layer == NULL || layer->transport == NULL) {
        return "connect timeout";
    }
    return layer->in_tunnel ? "the proxy did not answer in time" : "the TLS handshake timed out";
}
