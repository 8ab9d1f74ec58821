// SPDX-License-Identifier: Apache-2.0
#include "common/net/h2_drv.h"

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/net/parked_cap.h"

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
    user->drv->waits_a_turn = false;
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
    parked_cap_del(drv);
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
        has_pushed = drv->has_sent = true;
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
    if (drv->is_frozen) { // the users hear what is theirs; nothing leaves
        drv->in_flush = true;
        drain_events(drv);
        drv->in_flush = false;
        return;
    }
    if (drv->waits_a_turn) {
        drv->waits_a_turn = false;
        timer_set(&drv->loop->timers, &drv->timer, drv->loop->now); // in the next turn
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

void h2_drv_await_answer(struct h2_drv *drv) {
    drv->waits_a_turn = !drv->has_sent && !drv->is_ended;
}

void h2_drv_await_data(struct h2_drv *drv) {
    drv->waits_a_turn = !drv->is_ended;
}

bool h2_drv_shed(struct h2_drv *drv) {
    if (drv->is_ended || drv->h2 == NULL || !h2_conn_shed(drv->h2)) {
        return false;
    }
    h2_drv_kick(drv);
    return true;
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
    if (drv->is_ended || drv->is_frozen) { // thaw arms it again
        return;
    }
    if (h2_conn_deadline(drv->h2) <= now) {
        h2_conn_tick(drv->h2, now);
        drain_events(drv);
    }
    if (!drv->is_ended) {
        arm_timer(drv);
        h2_drv_kick(drv); // what waited a turn has waited enough
    }
}

static void on_tls_ready(struct tls_link *tl, const struct tls_peer *peer) {
    struct h2_drv *drv = of_tls(tl);
    drv->h2 = h2_conn_new(&drv->config, drv->is_server, drv->loop->pool, drv->loop->now);
    parked_cap_add(drv);
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
    parked_cap_check(&drv->config);
}

static void on_tls_sent(struct tls_link *tl) {
    struct h2_drv *drv = of_tls(tl);
    if (drv->h2 != NULL && !drv->is_ended && h2_conn_wants_write(drv->h2) &&
        tls_link_queued(tl) < H2_DRV_HIGH / 2) {
        h2_drv_kick(drv);
    }
}

// There is more to push when there is room.
static bool minds_tls_sent(const struct tls_link *tl) {
    const struct h2_drv *drv = CONTAINER_OF(tl, const struct h2_drv, tl);
    return drv->h2 == NULL || drv->is_ended || h2_conn_wants_write(drv->h2);
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
    .minds_sent = minds_tls_sent,
    .on_end = on_tls_end,
    .on_closed = on_tls_closed,
};

static void init_all(struct h2_drv *drv, struct loop *loop, const struct h2_drv_handler *handler,
                     bool is_server) {
    *drv = (struct h2_drv){.handler = handler, .loop = loop, .is_server = is_server};
    list_init(&drv->users);
    list_init(&drv->dirty);
    list_init(&drv->cap_node);
    timer_init(&drv->timer, on_timer);
    loop_flush_init(&drv->flush, on_flush);
    loop_cooler_init(&drv->cooler, on_cooler);
}

void h2_drv_init(struct h2_drv *drv, struct tls_queue *queue, int fd, struct tls_handshake *hs,
                 bool is_server, const struct h2_config *config,
                 const struct h2_drv_handler *handler) {
    init_all(drv, queue->loop, handler, is_server);
    drv->config = *config;
    tls_link_init(&drv->tl, queue, fd, hs, &tls_handler);
}

// ---- hand-over ---------------------------------------------------------------------------------

enum { EXPORT_VERSION = 1, FLAG_SERVER = 1, FLAG_CLOSE_WHEN_IDLE = 2, FLAGS_ALL = 3 };

void h2_drv_freeze(struct h2_drv *drv) {
    if (!drv->is_ended) {
        drv->is_frozen = true;
        tls_link_freeze(&drv->tl);
    }
}

bool h2_drv_is_quiet(const struct h2_drv *drv) {
    return drv->is_frozen && !drv->is_ended && !drv->close_after_flush && drv->h2 != NULL &&
           !h2_conn_has_events(drv->h2) && tls_link_is_quiet(&drv->tl);
}

void h2_drv_thaw(struct h2_drv *drv) {
    if (drv->is_frozen && !drv->is_ended) {
        drv->is_frozen = false;
        tls_link_thaw(&drv->tl);
        h2_drv_kick(drv);
        if (drv->h2 != NULL) {
            arm_timer(drv);
        }
    }
}

bool h2_drv_export(struct h2_drv *drv, struct buf *out) {
    if (!h2_drv_is_quiet(drv)) {
        return false;
    }
    struct buf conn;
    buf_init(&conn, out->max);
    bool ok = h2_conn_export(drv->h2, &conn);
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u8(out, (uint8_t)((drv->is_server ? FLAG_SERVER : 0) |
                              (drv->close_when_idle ? FLAG_CLOSE_WHEN_IDLE : 0)));
    buf_put_u64(out, drv->last_active);
    buf_put_u32(out, (uint32_t)conn.len);
    buf_append(out, buf_slice(&conn));
    buf_fini(&conn);
    return tls_link_export(&drv->tl, out) && ok;
}

int h2_drv_release(struct h2_drv *drv) {
    CHECK(list_empty(&drv->users));
    loop_flush_disarm(&drv->flush);
    loop_cooler_disarm(drv->loop, &drv->cooler);
    timer_clear(&drv->loop->timers, &drv->timer);
    parked_cap_del(drv);
    h2_conn_free(drv->h2);
    drv->h2 = NULL;
    drv->is_ended = true;
    return tls_link_release(&drv->tl);
}

bool h2_drv_import(struct h2_drv *drv, struct tls_queue *queue, int fd, struct cur *in,
                   const struct h2_drv_handler *handler) {
    uint8_t version = cur_u8(in), flags = cur_u8(in);
    uint64_t last_active = cur_u64(in);
    struct slice conn = cur_bytes(in, cur_u32(in));
    if (!cur_ok(in) || version != EXPORT_VERSION || (flags & ~FLAGS_ALL) != 0) {
        return false;
    }
    init_all(drv, queue->loop, handler, (flags & FLAG_SERVER) != 0);
    drv->last_active = last_active;
    drv->has_sent = true;
    drv->close_when_idle = (flags & FLAG_CLOSE_WHEN_IDLE) != 0;
    drv->is_frozen = true;
    drv->h2 = h2_conn_import(conn, queue->loop->pool);
    if (drv->h2 == NULL || !tls_link_import(&drv->tl, queue, fd, in, &tls_handler)) {
        h2_conn_free(drv->h2);
        drv->h2 = NULL;
        return false;
    }
    return true;
}
