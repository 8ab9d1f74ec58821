// SPDX-License-Identifier: Apache-2.0
#include "common/net/hbone_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/net/hbone_client_priv.h"

static const struct h2_drv_handler drv_handler;

// ---- keys --------------------------------------------------------------------------------------

static struct hbone_key *key_find(struct hbone_client *client, struct slice text, uint64_t hash) {
    HMAP_EACH_WITH_HASH(pos, &client->keys, hash) {
        struct hbone_key *key = HMAP_ITEM(pos, struct hbone_key, node);
        if (slice_eq(slice_make(key->text, key->text_len), text)) {
            return key;
        }
    }
    return NULL;
}

static struct hbone_key *key_get(struct hbone_client *client, const struct hbone_route *route) {
    uint8_t text[HBONE_KEY_MAX];
    size_t len = hbone_route_key(route, text);
    uint64_t hash = hash_bytes(slice_make(text, len));
    struct hbone_key *key = key_find(client, slice_make(text, len), hash);
    if (key != NULL) {
        return key;
    }
    key = xcalloc(1, sizeof(*key) + len);
    key->client = client;
    key->tls = tls_ctx_ref(route->tls);
    key->socket = route->socket;
    key->pod_id = route->pod_id;
    key->destination = route->destination;
    key->text_len = len;
    memcpy(key->text, text, len);
    list_init(&key->tunnels);
    list_init(&key->waiting);
    hmap_insert(&client->keys, &key->node, hash);
    return key;
}

// Frees a key that nothing uses any more.
static void key_release(struct hbone_key *key) {
    if (key->n_tunnels > 0 || key->n_requests > 0) {
        return;
    }
    hmap_remove(&key->client->keys, &key->node);
    tls_ctx_unref(key->tls);
    free(key);
}

static size_t key_sans(const struct hbone_key *key, struct slice sans[HBONE_SANS_MAX]) {
    size_t n = 0;
    for (size_t off = HBONE_KEY_FIXED; off < key->text_len && n < HBONE_SANS_MAX; n++) {
        sans[n] = slice_str((const char *)key->text + off);
        off += sans[n].len + 1;
    }
    return n;
}

// ---- tunnels -----------------------------------------------------------------------------------

static bool tunnel_is_usable(struct hbone_tunnel *tunnel) {
    if (tunnel->state != TUNNEL_READY || tunnel->drv.is_ended ||
        h2_conn_is_draining(tunnel->drv.h2) || h2_conn_is_dead(tunnel->drv.h2)) {
        return false;
    }
    return h2_conn_n_free_streams(tunnel->drv.h2) > 0;
}

// After anything that may change whether the key has a free stream.
static void key_tell_room(struct hbone_key *key) {
    const struct hbone_client_config *config = &key->client->config;
    bool has_room = false;
    LIST_EACH(node, &key->tunnels) {
        has_room = has_room || tunnel_is_usable(LIST_ITEM(node, struct hbone_tunnel, node));
    }
    if (has_room != key->has_room && config->on_room != NULL) {
        key->has_room = has_room;
        config->on_room(config->arg, key->node.hash, has_room);
    }
}

// Takes the tunnel out of its pool: no further request finds it.
static void tunnel_retire(struct hbone_tunnel *tunnel) {
    struct hbone_key *key = tunnel->key;
    if (key == NULL) {
        return;
    }
    tunnel->key = NULL;
    list_del(&tunnel->node);
    key->n_tunnels--;
    if (tunnel->state == TUNNEL_DIALING || tunnel->state == TUNNEL_SHAKING) {
        key->n_connecting--;
    }
    key_tell_room(key);
}

static void tunnel_free(struct hbone_tunnel *tunnel) {
    list_del(&tunnel->all);
    tunnel->client->stats.n_tunnels--;
    tls_ctx_unref(tunnel->tls);
    tls_peer_free(tunnel->peer);
    free(tunnel);
}

// The request is answered, has failed or is given up: it leaves the pool.
static void request_leave(struct hbone_request *request) {
    struct hbone_key *key = request->key;
    timer_clear(&request->client->loop->timers, &request->timer);
    list_del(&request->node);
    request->key = NULL;
    request->is_open = false;
    key->n_requests--;
    key_release(key);
}

static void request_fail(struct hbone_request *request, enum flow_end reason, uint16_t status,
                         bool is_retryable) {
    request_leave(request);
    request->ops->on_fail(request, reason, status, is_retryable);
}

// A tunnel of this key could not be made: unless another is on its way, who waits is told.
static void key_failed(struct hbone_key *key, enum flow_end reason, bool is_unserved,
                       const char *detail) {
    if (key->n_connecting > 0) {
        return;
    }
    struct list failed;
    list_init(&failed);
    list_splice_back(&failed, &key->waiting);
    key->n_requests++; // keeps the key until all are told
    struct list *node;
    while ((node = list_pop_front(&failed)) != NULL) {
        struct hbone_request *request = LIST_ITEM(node, struct hbone_request, node);
        request->detail = detail;
        request->is_unserved = is_unserved;
        request_fail(request, reason, 0, true);
    }
    key->n_requests--;
    key_release(key);
}

static enum flow_end dial_reason(int err) {
    if (err == -ETIMEDOUT) {
        return FLOW_NETWORK_POLICY;
    }
    if (err == -EADDRNOTAVAIL) {
        return FLOW_PORT_EXHAUSTED;
    }
    return err == -EMFILE || err == -ENFILE ? FLOW_OVERLOAD : FLOW_CONNECT_FAILED;
}

static void on_dial(void *arg, int fd_or_err) {
    struct hbone_tunnel *tunnel = arg;
    struct hbone_client *client = tunnel->client;
    struct hbone_key *key = tunnel->key;
    tunnel->dial = NULL;
    if (fd_or_err < 0) {
        client->stats.n_dial_failed++;
        tunnel_retire(tunnel);
        tunnel_free(tunnel);
        key_failed(key, dial_reason(fd_or_err), fd_or_err == -ECONNREFUSED, strerror(-fd_or_err));
        return;
    }
    struct slice sans[HBONE_SANS_MAX];
    size_t n_sans = key_sans(key, sans);
    struct tls_handshake *hs = tls_handshake_new_client(tunnel->tls, sans, n_sans);
    tls_handshake_set_server(hs, slice_make(&key->destination.ip, sizeof(key->destination.ip)));
    tunnel->state = TUNNEL_SHAKING;
    h2_drv_init(&tunnel->drv, client->tls_queue, fd_or_err, hs, false, &client->config.h2,
                &drv_handler);
}

static void tunnel_start(struct hbone_key *key) {
    struct hbone_client *client = key->client;
    struct hbone_tunnel *tunnel = xcalloc(1, sizeof(*tunnel));
    tunnel->client = client;
    tunnel->key = key;
    tunnel->tls = tls_ctx_ref(key->tls);
    tunnel->state = TUNNEL_DIALING;
    tunnel->pod_id = key->pod_id;
    list_push_back(&key->tunnels, &tunnel->node);
    list_push_back(&client->tunnels, &tunnel->all);
    key->n_tunnels++;
    key->n_connecting++;
    client->stats.n_tunnels++;
    tunnel->dial = dial_start(client->loop, &key->socket, &key->destination,
                              client->config.dial_timeout_ns, on_dial, tunnel);
}

static bool tunnel_is_busy(struct hbone_tunnel *tunnel) {
    uint32_t open = h2_conn_n_streams(tunnel->drv.h2);
    if (open >= open / 2 + h2_conn_n_free_streams(tunnel->drv.h2) / 2 + 1) {
        return true; // half of its stream limit
    }
    uint64_t now = tunnel->client->loop->now;
    if (h2_conn_queued(tunnel->drv.h2) + tls_link_queued(&tunnel->drv.tl) < HBONE_BUSY_BYTES) {
        tunnel->busy_since = 0;
        return false;
    }
    tunnel->busy_since = tunnel->busy_since != 0 ? tunnel->busy_since : now;
    return now - tunnel->busy_since >= HBONE_BUSY_MS * NS_PER_MS;
}

void hbone_client_drain(struct hbone_tunnel *tunnel, bool is_gone) {
    struct hbone_client *client = tunnel->client;
    struct hbone_key *key = tunnel->key;
    tunnel_retire(tunnel);
    if (tunnel->state == TUNNEL_READY) {
        tunnel->state = TUNNEL_ENDING;
        client->stats.n_ready--;
        h2_drv_drain(&tunnel->drv);
    } else if (tunnel->state == TUNNEL_DIALING) {
        dial_cancel(tunnel->dial);
        tunnel_free(tunnel);
    } else if (tunnel->state == TUNNEL_SHAKING) {
        tunnel->state = TUNNEL_ENDING;
        h2_drv_abort(&tunnel->drv, FLOW_DRAIN);
    }
    if (key == NULL) {
        return;
    }
    if (client->is_closing) {
        key_failed(key, FLOW_DRAIN, false, "the proxy is stopping");
    } else if (is_gone) {
        key_failed(key, FLOW_NO_UPSTREAM, false, "the destination's workload is gone");
    } else if (key->n_connecting == 0 && !list_empty(&key->waiting)) {
        tunnel_start(key); // who waits for a stream gets another tunnel
    } else {
        key_release(key);
    }
}

// ---- requests ----------------------------------------------------------------------------------

static struct hbone_request *of_stream(struct hbone_stream *stream) {
    return CONTAINER_OF(stream, struct hbone_request, stream);
}

static void place(struct hbone_key *key, struct hbone_request *request, bool fresh_only);

static struct hbone_tunnel *of_drv(struct h2_drv *drv) {
    return CONTAINER_OF(drv, struct hbone_tunnel, drv);
}

static void on_stream_lost(struct hbone_stream *stream, enum flow_end reason) {
    struct hbone_request *request = of_stream(stream);
    const struct hbone_tunnel *tunnel = of_drv(request->drv);
    bool is_refused = stream->reset_err == H2_REFUSED || stream->reset_err == H2_DRAINING ||
                      stream->reset_err == H2_STREAM_LIMIT;
    bool is_lost = reason != FLOW_TUNNEL_RESET; // the tunnel died, not the stream alone
    request->is_open = false;
    if ((is_refused || (is_lost && request->is_reused)) && !request->was_retried) {
        request->was_retried = true;
        request->client->stats.n_stale_retries++;
        timer_clear(&request->client->loop->timers, &request->timer);
        place(request->key, request, true);
        return;
    }
    char text[TLS_LINK_ERROR_MAX];
    request->detail = !is_lost ? h2_err_text(stream->reset_err)
                      : tunnel->drv.tl.err != TLS_OK
                          ? tls_link_error_text(&tunnel->drv.tl, text, sizeof(text))
                          : "";
    // A tunnel of which nothing was heard, or but an alert: its handshake failed.
    request_fail(request, reason, 0, is_refused || (is_lost && !tunnel->is_proven));
}

static void on_stream_head(struct hbone_stream *stream, const struct h2_event *event) {
    struct hbone_request *request = of_stream(stream);
    char scratch[HBONE_BAGGAGE_MAX];
    struct hbone_baggage baggage;
    uint16_t status = hbone_response_parse(event->fields, event->n_fields, scratch, &baggage);
    if (hbone_status_is_ok(status)) {
        request_leave(request);
        if (!request->is_reused) {
            h2_drv_await_data(stream->user.drv);
        }
        request->ops->on_open(request, event);
        return;
    }
    hbone_stream_drop(stream, H2_CONNECT_ERROR);
    char detail[48];
    snprintf(detail, sizeof(detail), "the peer answered status %u", status);
    request->detail = detail;
    request_fail(request, FLOW_CONNECT_REFUSED, status, hbone_status_is_retryable(status));
}

static void on_request_timeout(struct timer *timer, uint64_t now) {
    (void)now;
    struct hbone_request *request = CONTAINER_OF(timer, struct hbone_request, timer);
    bool is_asked = request->is_open;
    if (is_asked) {
        hbone_stream_drop(&request->stream, H2_CONNECT_ERROR);
        request->detail = "no answer to CONNECT in time";
    } else {
        request->detail = "no tunnel had room in time";
    }
    request_fail(request, FLOW_TIMEOUT, 0, !is_asked); // what was asked may yet be done
}

// Opens the request's stream on a ready tunnel. False: the tunnel cannot take it after all.
static bool request_open(struct hbone_request *request, struct hbone_tunnel *tunnel) {
    struct hbone_head head;
    request->ops->build(request, &head);
    enum h2_err err = H2_NO_ERROR;
    struct h2_stream *h2 =
        h2_stream_open(tunnel->drv.h2, head.fields, head.n_fields, false, NULL, &err);
    if (h2 == NULL) {
        return false;
    }
    hbone_stream_init(&request->stream, &tunnel->drv, h2);
    request->stream.on_head = on_stream_head;
    request->stream.on_lost = on_stream_lost;
    request->is_reused = tunnel->served;
    request->is_open = true;
    request->drv = &tunnel->drv;
    tunnel->served = true;
    request->client->stats.n_streams++;
    timer_set(&request->client->loop->timers, &request->timer,
              request->client->loop->now + HBONE_ANSWER_MS * NS_PER_MS);
    h2_drv_kick(&tunnel->drv);
    if (h2_conn_n_free_streams(tunnel->drv.h2) == 0 && tunnel->key != NULL) {
        key_tell_room(tunnel->key);
    }
    return true;
}

// The least loaded tunnel that can take a stream; retires what no longer may.
static struct hbone_tunnel *pick(struct hbone_key *key, bool fresh_only, bool *ret_all_busy) {
    struct hbone_tunnel *best = NULL;
    *ret_all_busy = true;
    LIST_EACH_SAFE(node, &key->tunnels) {
        struct hbone_tunnel *tunnel = LIST_ITEM(node, struct hbone_tunnel, node);
        if (!tunnel_is_usable(tunnel) || (fresh_only && tunnel->served)) {
            continue;
        }
        *ret_all_busy = *ret_all_busy && tunnel_is_busy(tunnel);
        if (best == NULL || h2_conn_n_streams(tunnel->drv.h2) < h2_conn_n_streams(best->drv.h2)) {
            best = tunnel;
        }
    }
    return best;
}

static void place(struct hbone_key *key, struct hbone_request *request, bool fresh_only) {
    bool all_busy = true;
    struct hbone_tunnel *tunnel = pick(key, fresh_only, &all_busy);
    if (tunnel != NULL && request_open(request, tunnel)) {
        if (all_busy && key->n_connecting == 0 && key->n_tunnels < HBONE_TUNNELS_MAX) {
            tunnel_start(key);
        }
        return;
    }
    list_push_back(&key->waiting, &request->node);
    timer_set(&request->client->loop->timers, &request->timer,
              request->client->loop->now + HBONE_WAIT_MS * NS_PER_MS);
    // Flows that live long may hold all streams of all tunnels: who comes then must not wait for
    // the end of one of them.
    if (key->n_connecting == 0 && (key->n_tunnels < key->client->config.n_full_max || fresh_only)) {
        tunnel_start(key);
    }
}

static void serve_waiting(struct hbone_tunnel *tunnel) {
    struct hbone_key *key = tunnel->key;
    while (key != NULL && !list_empty(&key->waiting) && tunnel_is_usable(tunnel)) {
        struct list *node = list_pop_front(&key->waiting);
        struct hbone_request *request = LIST_ITEM(node, struct hbone_request, node);
        if (!request_open(request, tunnel)) {
            list_push_front(&key->waiting, node);
            return;
        }
    }
}

void hbone_request_init(struct hbone_request *request, const struct hbone_request_ops *ops) {
    *request = (struct hbone_request){.ops = ops};
    list_init(&request->node);
    timer_init(&request->timer, on_request_timeout);
}

void hbone_client_connect(struct hbone_client *client, struct hbone_request *request,
                          const struct hbone_route *route) {
    request->client = client;
    request->key = key_get(client, route);
    request->key->n_requests++;
    request->was_retried = request->is_open = request->is_unserved = false;
    request->detail = "";
    LIST_EACH_SAFE(node, &request->key->tunnels) {
        struct hbone_tunnel *tunnel = LIST_ITEM(node, struct hbone_tunnel, node);
        if (tunnel->state == TUNNEL_READY && hbone_client_is_expired(tunnel)) {
            tunnel_retire(tunnel);
            tunnel->state = TUNNEL_ENDING;
            client->stats.n_ready--;
            h2_drv_drain(&tunnel->drv);
        }
    }
    place(request->key, request, false);
}

void hbone_request_cancel(struct hbone_request *request) {
    if (request->key == NULL) {
        return;
    }
    if (request->is_open) {
        hbone_stream_drop(&request->stream, H2_CONNECT_ERROR);
    }
    request_leave(request);
}

// ---- tunnel events -----------------------------------------------------------------------------

static void on_ready(struct h2_drv *drv, const struct tls_peer *peer) {
    struct hbone_tunnel *tunnel = of_drv(drv);
    struct hbone_client *client = tunnel->client;
    if (tunnel->key == NULL) {
        return;
    }
    tunnel->peer = tls_peer_dup(peer);
    tunnel->not_after = MIN(peer->not_after, tls_ctx_not_after(tunnel->tls));
    tunnel->state = TUNNEL_READY;
    tunnel->key->n_connecting--;
    client->stats.n_ready++;
    client->stats.n_opened++;
    h2_conn_allow_growth(drv->h2, client->allow_growth);
    serve_waiting(tunnel); // without waiting for the peer's SETTINGS: saves a round trip
    struct hbone_key *key = tunnel->key;
    if (key == NULL) {
        return;
    }
    key_tell_room(key);
    if (tunnel->served && !list_empty(&key->waiting) && key->n_connecting == 0 &&
        key->n_tunnels < key->client->config.n_full_max) {
        tunnel_start(key);
    }
}

static void on_event(struct h2_drv *drv, const struct h2_event *event) {
    struct hbone_tunnel *tunnel = of_drv(drv);
    tunnel->is_proven = true;
    if (event->type == H2_EV_GOAWAY && tunnel->state == TUNNEL_READY) {
        struct hbone_key *key = tunnel->key;
        tunnel_retire(tunnel);
        tunnel->state = TUNNEL_ENDING;
        tunnel->client->stats.n_ready--;
        drv->close_when_idle = true;
        if (key != NULL && !list_empty(&key->waiting) && key->n_connecting == 0) {
            tunnel_start(key);
        } else if (key != NULL) {
            key_release(key);
        }
    } else if (event->type == H2_EV_SETTINGS || event->type == H2_EV_CLOSED) {
        serve_waiting(tunnel); // the limit may have grown, or a stream came free
        if (tunnel->key != NULL && !tunnel->key->has_room) {
            key_tell_room(tunnel->key);
        }
    }
}

static void on_end(struct h2_drv *drv, enum flow_end reason) {
    struct hbone_tunnel *tunnel = of_drv(drv);
    struct hbone_key *key = tunnel->key;
    char text[TLS_LINK_ERROR_MAX];
    const char *detail = "";
    bool is_unserved = false;
    if (tunnel->state == TUNNEL_SHAKING) {
        tunnel->client->stats.n_tls_failed++;
        // Reset without an answer: the one that listened has just ended.
        is_unserved = drv->tl.err == TLS_OK && drv->tl.os_err == -ECONNRESET;
        detail = tls_link_error_text(&drv->tl, text, sizeof(text));
    }
    bool was_ready = tunnel->state == TUNNEL_READY;
    tunnel->client->stats.n_ready -= was_ready;
    tunnel_retire(tunnel);
    tunnel->state = TUNNEL_ENDING;
    if (key == NULL) {
        return;
    }
    // It was up, or its peer went away in order: who waits for room needs another one.
    if ((was_ready || reason == FLOW_OK) && !tunnel->client->is_closing) {
        if (!list_empty(&key->waiting) && key->n_connecting == 0) {
            tunnel_start(key);
        } else {
            key_release(key);
        }
        return;
    }
    key_failed(key, reason == FLOW_OK ? FLOW_TUNNEL_LOST : reason, is_unserved, detail);
}

static void on_closed(struct h2_drv *drv) {
    tunnel_free(of_drv(drv));
}

static const struct h2_drv_handler drv_handler = {
    .on_ready = on_ready, .on_event = on_event, .on_end = on_end, .on_closed = on_closed};
