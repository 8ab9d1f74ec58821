// SPDX-License-Identifier: Apache-2.0
#include "common/net/hbone_server.h"

#include <stdlib.h>

static struct hbone_tunnel *of_drv(struct h2_drv *drv) {
    return CONTAINER_OF(drv, struct hbone_tunnel, drv);
}

static void count(struct hbone_server *server, uint32_t change) {
    if (server->gauge != NULL) {
        *server->gauge += change;
    }
}

// ---- tunnels -----------------------------------------------------------------------------------

void hbone_tunnel_put(struct hbone_tunnel *tunnel) {
    CHECK(tunnel->n_users > 0);
    if (--tunnel->n_users > 0) {
        return;
    }
    struct hbone_server *server = tunnel->server;
    CHECK(tunnel->is_closed); // the transport is a user too
    list_del(&tunnel->node);
    count(server, -1U);
    tls_peer_free(tunnel->peer);
    free(tunnel);
    server->handler->on_gone(server);
}

bool hbone_tunnel_is_expired(const struct hbone_tunnel *tunnel, int64_t now_s) {
    return tunnel->not_after < now_s;
}

static void on_first_timeout(struct timer *timer, uint64_t now) {
    (void)now;
    struct hbone_tunnel *tunnel = CONTAINER_OF(timer, struct hbone_tunnel, first);
    h2_drv_close(&tunnel->drv, FLOW_TIMEOUT); // a tunnel that asks for nothing
}

static void on_ready(struct h2_drv *drv, const struct tls_peer *peer) {
    struct hbone_tunnel *tunnel = of_drv(drv);
    struct hbone_server *server = tunnel->server;
    tunnel->peer = tls_peer_dup(peer);
    tunnel->not_after = MIN(tunnel->not_after, peer->not_after);
    server->n_unfinished--;
    h2_conn_allow_growth(drv->h2, server->allow_growth);
    timer_set(&server->loop->timers, &tunnel->first,
              server->loop->now + HBONE_FIRST_CONNECT_MS * NS_PER_MS);
    if (server->is_draining) {
        h2_drv_drain(drv);
    }
}

static void on_event(struct h2_drv *drv, const struct h2_event *event) {
    struct hbone_tunnel *tunnel = of_drv(drv);
    if (event->type != H2_EV_HEADERS) {
        return; // SETTINGS, GOAWAY of the client, ends of streams
    }
    timer_clear(&drv->loop->timers, &tunnel->first);
    tunnel->server->handler->on_request(tunnel, event);
}

static void on_end(struct h2_drv *drv, enum flow_end reason) {
    struct hbone_tunnel *tunnel = of_drv(drv);
    timer_clear(&drv->loop->timers, &tunnel->first);
    if (tunnel->peer != NULL) {
        return;
    }
    tunnel->server->n_unfinished--;
    if (reason != FLOW_OK) {
        char text[TLS_LINK_ERROR_MAX];
        tunnel->server->handler->on_failed(tunnel->server, &tunnel->src, &tunnel->dst, reason,
                                           tls_link_error_text(&drv->tl, text, sizeof(text)));
    }
}

static void on_closed(struct h2_drv *drv) {
    struct hbone_tunnel *tunnel = of_drv(drv);
    tunnel->is_closed = true;
    hbone_tunnel_put(tunnel);
}

static const struct h2_drv_handler drv_handler = {
    .on_ready = on_ready, .on_event = on_event, .on_end = on_end, .on_closed = on_closed};

// ---- the server --------------------------------------------------------------------------------

void hbone_server_init(struct hbone_server *server, struct loop *loop, struct tls_queue *queue,
                       const struct h2_config *h2, _Atomic uint32_t *gauge,
                       const struct hbone_server_handler *handler) {
    *server = (struct hbone_server){.handler = handler,
                                    .loop = loop,
                                    .queue = queue,
                                    .h2 = h2,
                                    .gauge = gauge,
                                    .allow_growth = true};
    list_init(&server->tunnels);
}

static void drop_silent(struct hbone_server *server) {
    LIST_EACH_SAFE(node, &server->tunnels) {
        struct hbone_tunnel *tunnel = LIST_ITEM(node, struct hbone_tunnel, node);
        if (tunnel->peer == NULL && !tunnel->drv.is_ended && tunnel->drv.tl.link.n_recv == 0) {
            h2_drv_abort(&tunnel->drv, FLOW_OVERLOAD);
            return;
        }
    }
}

void hbone_server_accept(struct hbone_server *server, int fd, struct tls_ctx *tls,
                         const struct addr *src, const struct addr *dst) {
    // Attack: a flood of connections that never finish their handshake. The oldest that has said
    // nothing makes room, so that silence cannot lock others out.
    if (server->n_unfinished >= HBONE_UNFINISHED_MAX) {
        drop_silent(server);
    }
    if (server->n_unfinished >= HBONE_UNFINISHED_MAX) {
        server->loop->io->ops->close(server->loop->io, fd, true);
        server->handler->on_failed(server, src, dst, FLOW_OVERLOAD, "");
        return;
    }
    struct hbone_tunnel *tunnel = xcalloc(1, sizeof(*tunnel));
    tunnel->server = server;
    tunnel->src = *src;
    tunnel->dst = *dst;
    tunnel->not_after = tls_ctx_not_after(tls);
    tunnel->n_users = 1; // the transport
    timer_init(&tunnel->first, on_first_timeout);
    list_push_back(&server->tunnels, &tunnel->node);
    count(server, 1);
    server->n_unfinished++;
    h2_drv_init(&tunnel->drv, server->queue, fd, tls_handshake_new_server(tls), true, server->h2,
                &drv_handler);
}

void hbone_server_drain(struct hbone_server *server) {
    LIST_EACH_SAFE(node, &server->tunnels) {
        struct hbone_tunnel *tunnel = LIST_ITEM(node, struct hbone_tunnel, node);
        if (!tunnel->is_closed) {
            h2_drv_drain(&tunnel->drv);
        }
    }
}

void hbone_server_end(struct hbone_server *server, enum flow_end reason, bool orderly) {
    LIST_EACH_SAFE(node, &server->tunnels) {
        struct hbone_tunnel *tunnel = LIST_ITEM(node, struct hbone_tunnel, node);
        if (tunnel->is_closed) {
            continue;
        }
        if (orderly) {
            h2_drv_close(&tunnel->drv, reason);
        } else {
            h2_drv_abort(&tunnel->drv, reason);
        }
    }
}

void hbone_server_allow_growth(struct hbone_server *server, bool is_allowed) {
    server->allow_growth = is_allowed;
    LIST_EACH(node, &server->tunnels) {
        struct hbone_tunnel *tunnel = LIST_ITEM(node, struct hbone_tunnel, node);
        if (!tunnel->is_closed && tunnel->drv.h2 != NULL) {
            h2_conn_allow_growth(tunnel->drv.h2, is_allowed);
        }
    }
}

void hbone_server_recheck(struct hbone_server *server, struct tls_ctx *tls) {
    LIST_EACH_SAFE(node, &server->tunnels) {
        struct hbone_tunnel *tunnel = LIST_ITEM(node, struct hbone_tunnel, node);
        if (tunnel->is_closed || tunnel->peer == NULL) {
            continue;
        }
        enum tls_err err = tls_peer_recheck(tls, tunnel->peer, clock_wall_s());
        if (err != TLS_OK) {
            h2_drv_abort(&tunnel->drv, err == TLS_REVOKED ? FLOW_REVOKED : FLOW_UNTRUSTED);
        }
    }
}
