// SPDX-License-Identifier: Apache-2.0
#include "common/net/h2_drv.h"

static struct h2_drv *of_tls(struct tls_link *tl) {
    return CONTAINER_OF(tl, struct h2_drv, tl);
}

// ---- users -------------------------------------------------------------------------------------

void h2_user_init(struct h2_user *user, const struct h2_user_ops *ops) {
    *user = (struct h2_user){.ops = ops};
    list_init(&user->node);
    list_init(&user->dirty);
}

void h2_user_attach(struct h2_user *user, struct h2_drv *drv, struct h2_stream *stream) {
    CHECK(user->stream == NULL);
    user->drv = drv;
    user->stream = stream;
    h2_stream_set_user(stream, user);
    list_push_back(&drv->users, &user->node);
}

void h2_user_detach(struct h2_user *user) {
    if (user->stream != NULL) {
        h2_stream_set_user(user->stream, NULL);
        user->stream = NULL;
        user->drv->last_active = user->drv->loop->now;
        user->drv = NULL;
    }
    list_del(&user->node);
    list_del(&user->dirty);
}

void h2_user_sent(struct h2_user *user) {
    if (user->stream == NULL) {
        return;
    }
    if (!list_linked(&user->dirty)) {
        list_push_back(&user->drv->dirty, &user->dirty);
    }
    h2_drv_kick(user->drv);
}

// ---- ending ------------------------------------------------------------------------------------

static void lose_users(struct h2_drv *drv, enum flow_end reason) {
    struct list *node;
    while ((node = list_pop_front(&drv->users)) != NULL) {
        struct h2_user *user = LIST_ITEM(node, struct h2_user, node);
        h2_user_detach(user);
        user->ops->on_lost(user, reason);
    }
}

// Tells everybody once. The transport is closed by the caller, or closing already.
static void end_drv(struct h2_drv *drv, enum flow_end reason) {
    if (drv->is_ended) {
        return;
    }
    drv->is_ended = true;
    drv->end_reason = reason;
    loop_flush_disarm(&drv->flush);
    loop_cooler_disarm(drv->loop, &drv->cooler);
    timer_clear(&drv->loop->timers, &drv->timer);
    lose_users(drv, reason == FLOW_OK ? FLOW_TUNNEL_LOST : reason);
    drv->handler->on_end(drv, reason);
}

void h2_drv_abort(struct h2_drv *drv, enum flow_end reason) {
    tls_link_abort(&drv->tl); // also one that lingers after an orderly end
    end_drv(drv, reason);
}

// ---- output ------------------------------------------------------------------------------------

static void cool_dirty(struct h2_drv *drv) {
    LIST_EACH_SAFE(node, &drv->dirty) {
        struct h2_user *user = LIST_ITEM(node, struct h2_user, dirty);
        if (!h2_stream_cool(user->stream)) {
            list_del(node);
        }
    }
    if (!list_empty(&drv->dirty)) {
        loop_cool_later(drv->loop, &drv->cooler);
    }
}

static void on_cooler(struct loop_cooler *cooler) {
    struct h2_drv *drv = CONTAINER_OF(cooler, struct h2_drv, cooler);
    for (struct list *node; (node = list_pop_front(&drv->dirty)) != NULL;) {
        h2_stream_to_cold(LIST_ITEM(node, struct h2_user, dirty)->stream);
    }
}

static void arm_timer(struct h2_drv *drv) {
    uint64_t due = h2_conn_deadline(drv->h2);
    // A later deadline is looked at when the timer fires: input moves it all the time.
    if (due != TIME_NEVER && (!timer_is_armed(&drv->timer) || drv->timer.due > due)) {
        timer_set(&drv->loop->timers, &drv->timer, due);
    }
}

// There is output, and the link is not too far behind to take it (on_tls_sent kicks when it is).
static bool can_push(const struct h2_drv *drv) {
    return h2_conn_wants_write(drv->h2) && tls_link_queued(&drv->tl) < H2_DRV_HIGH;
}

// False: nothing was there to push.
static bool push_output(struct h2_drv *drv) {
    struct chain out;
    chain_init(&out, drv->loop->pool);
    bool has_pushed = false;
    while (can_push(drv) && h2_conn_pull(drv->h2, &out, H2_DRV_PULL) > 0) {
        tls_link_write(&drv->tl, &out);
        has_pushed = true;
    }
    return has_pushed;
}

static void drain_events(struct h2_drv *drv);

// Nothing is left to wait for: no stream, and none that may be on its way.
static bool is_drained(const struct h2_drv *drv) {
    return drv->close_when_idle && h2_conn_n_streams(drv->h2) == 0 &&
           !h2_conn_goaway_is_open(drv->h2);
}

static void on_flush(struct loop_flush *flush) {
    struct h2_drv *drv = CONTAINER_OF(flush, struct h2_drv, flush);
    if (drv->is_ended) {
        return;
    }
    drv->in_flush = true;
    while (push_output(drv) && !drv->is_ended) {
        drain_events(drv); // WRITABLE, SENT, CLOSED: users may send more
    }
    if (!drv->is_ended) {
        drain_events(drv);
    }
    drv->in_flush = false;
    if (drv->is_ended) {
        return;
    }
    cool_dirty(drv);
    if (drv->close_after_flush) {
        tls_link_close(&drv->tl);
        end_drv(drv, drv->end_reason);
        return;
    }
    if (is_drained(drv) && !h2_conn_wants_write(drv->h2)) {
        h2_drv_close(drv, FLOW_OK);
        return;
    }
    arm_timer(drv);
}

void h2_drv_kick(struct h2_drv *drv) {
    if (!drv->is_ended && drv->h2 != NULL) {
        loop_flush_arm(drv->loop, &drv->flush);
    }
}

void h2_drv_drain(struct h2_drv *drv) {
    if (drv->is_ended || drv->close_when_idle) {
        return;
    }
    if (drv->h2 == NULL) {
        drv->drains_when_ready = true; // the peer gets a GOAWAY, not a broken handshake
        return;
    }
    h2_conn_goaway_start(drv->h2, drv->loop->now);
    drv->close_when_idle = true;
    h2_drv_kick(drv);
}

void h2_drv_close(struct h2_drv *drv, enum flow_end reason) {
    if (drv->is_ended) {
        return;
    }
    if (drv->h2 == NULL) {
        h2_drv_abort(drv, reason);
        return;
    }
    h2_conn_goaway(drv->h2, H2_NO_ERROR);
    (void)push_output(drv);
    tls_link_close(&drv->tl);
    end_drv(drv, reason);
}

// ---- input -------------------------------------------------------------------------------------

static void dispatch(struct h2_drv *drv, const struct h2_event *event) {
    if (event->type == H2_EV_CONN_ERROR) {
        drv->close_after_flush = true; // the GOAWAY leaves first
        drv->end_reason = event->err == H2_PING_TIMEOUT ? FLOW_TIMEOUT : FLOW_TUNNEL_LOST;
        loop_flush_arm(drv->loop, &drv->flush);
        return;
    }
    struct h2_user *user = event->stream != NULL ? h2_stream_user(event->stream) : NULL;
    if (user == NULL) {
        drv->handler->on_event(drv, event);
        return;
    }
    bool is_closed = event->type == H2_EV_CLOSED;
    if (is_closed) {
        h2_user_detach(user);
    }
    user->ops->on_event(user, event);
    if (is_closed && !drv->is_ended) {
        drv->handler->on_event(drv, event); // there is room for another stream
    }
}

static void drain_events(struct h2_drv *drv) {
    struct h2_event event;
    while (!drv->is_ended && h2_conn_next(drv->h2, &event)) {
        dispatch(drv, &event);
    }
    if (drv->is_ended) {
        return;
    }
    if (!drv->in_flush && (can_push(drv) || is_drained(drv))) {
        loop_flush_arm(drv->loop, &drv->flush);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct h2_drv *drv = CONTAINER_OF(timer, struct h2_drv, timer);
    if (drv->is_ended) {
        return;
    }
    if (h2_conn_deadline(drv->h2) <= now) {
        h2_conn_tick(drv->h2, now);
        drain_events(drv);
    }
    if (!drv->is_ended) {
        arm_timer(drv);
    }
}

static void on_tls_ready(struct tls_link *tl, const struct tls_peer *peer) {
    struct h2_drv *drv = of_tls(tl);
    drv->h2 = h2_conn_new(&drv->config, drv->is_server, drv->loop->pool, drv->loop->now);
    drv->last_active = drv->loop->now;
    h2_drv_kick(drv);
    arm_timer(drv);
    drv->handler->on_ready(drv, peer);
    if (drv->drains_when_ready) {
        h2_drv_drain(drv);
    }
}

static void on_tls_data(struct tls_link *tl, struct blk *blk, uint32_t off, uint32_t len) {
    struct h2_drv *drv = of_tls(tl);
    while (len > 0 && !drv->is_ended) {
        uint32_t used = 0;
        h2_conn_recv(drv->h2, blk, off, len, drv->loop->now, &used);
        off += used;
        len -= used;
        drain_events(drv);
    }
}

static void on_tls_sent(struct tls_link *tl) {
    struct h2_drv *drv = of_tls(tl);
    if (drv->h2 != NULL && !drv->is_ended && h2_conn_wants_write(drv->h2) &&
        tls_link_queued(tl) < H2_DRV_HIGH / 2) {
        h2_drv_kick(drv);
    }
}

static void on_tls_end(struct tls_link *tl, enum flow_end reason) {
    struct h2_drv *drv = of_tls(tl);
    bool is_unclean = reason == FLOW_OK && !list_empty(&drv->users);
    end_drv(drv, is_unclean ? FLOW_TUNNEL_LOST : reason);
}

static void on_tls_closed(struct tls_link *tl) {
    struct h2_drv *drv = of_tls(tl);
    CHECK(list_empty(&drv->users));
    h2_conn_free(drv->h2);
    drv->h2 = NULL;
    drv->handler->on_closed(drv);
}

static const struct tls_link_handler tls_handler = {
    .on_ready = on_tls_ready,
    .on_data = on_tls_data,
    .on_sent = on_tls_sent,
    .on_end = on_tls_end,
    .on_closed = on_tls_closed,
};

void h2_drv_init(struct h2_drv *drv, struct tls_queue *queue, int fd, struct tls_handshake *hs,
                 bool is_server, const struct h2_config *config,
                 const struct h2_drv_handler *handler) {
    *drv = (struct h2_drv){
        .handler = handler, .config = *config, .loop = queue->loop, .is_server = is_server};
    list_init(&drv->users);
    list_init(&drv->dirty);
    timer_init(&drv->timer, on_timer);
    loop_flush_init(&drv->flush, on_flush);
    loop_cooler_init(&drv->cooler, on_cooler);
    tls_link_init(&drv->tl, queue, fd, hs, &tls_handler);
}
