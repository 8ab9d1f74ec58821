// SPDX-License-Identifier: Apache-2.0
//
// Links: their beginning and end, and the writing half. The reading half is in link_read.c.
#include "common/rt/link.h"

#include <errno.h>
#include <stdlib.h>

#include "common/rt/link_priv.h"

enum {
    MAX_FREE_SENDS = 64, // send states kept a loop
};

struct link_send {
    struct link_send *next_free;
    struct link *link;
    struct list silent; // in loop->silent while the send ends no wait
    struct msghdr msg;
    struct iovec iov[LINK_IOV];
};

// ---- Ending ----

static struct link_send *send_state_get(struct link *link) {
    struct loop *loop = link->loop;
    struct link_send *state = loop->free_sends;
    if (state == NULL) {
        state = xmalloc(sizeof(*state));
        list_init(&state->silent);
    } else {
        loop->free_sends = state->next_free;
        loop->n_free_sends--;
    }
    state->link = link;
    return state;
}

static void send_state_put(struct link *link) {
    struct loop *loop = link->loop;
    struct link_send *state = link->send_state;
    link->send_state = NULL;
    if (state == NULL || loop->n_free_sends >= MAX_FREE_SENDS) {
        free(state);
        return;
    }
    state->next_free = loop->free_sends;
    loop->free_sends = state;
    loop->n_free_sends++;
}

void link_sends_free(struct loop *loop) {
    while (loop->free_sends != NULL) {
        struct link_send *state = loop->free_sends;
        loop->free_sends = state->next_free;
        free(state);
    }
    loop->n_free_sends = 0;
}

// The rest of an ending happens in the flush phase, when the last completion is in.
static void begin_ending(struct link *link) {
    link_read_stop(link);
    loop_cooler_disarm(link->loop, &link->cooler);
    if (op_is_pending(&link->send_op)) {
        link->loop->io->ops->cancel(link->loop->io, &link->send_op);
    }
    loop_flush_arm(link->loop, &link->flush);
}

// The last thing that is done with a link: the owner may free it in on_closed.
static void finish_ending(struct link *link) {
    if (op_is_pending(&link->read_op) || op_is_pending(&link->send_op)) {
        return; // the last completion arms the flush again
    }
    chain_clear(&link->sendq);
    chain_clear(&link->inflight);
    link_read_fini(link);
    send_state_put(link);
    struct io *io = link->loop->io;
    io->ops->close(io, link->fd, link->want_reset);
    link->fd = -1;
    link->handler->on_closed(link);
}

void link_fail(struct link *link, int err) {
    if (link_is_ending(link)) {
        return;
    }
    link->is_dead = true;
    begin_ending(link);
    link->handler->on_error(link, err);
}

void link_close(struct link *link) {
    if (!link_is_ending(link)) {
        link->is_closing = true;
        begin_ending(link);
    }
}

void link_abort(struct link *link) {
    link->want_reset = true;
    link_close(link);
}

// ---- Writing ----

static bool minds_sent(const struct link *link) {
    return link_is_ending(link) || link->want_fin || !chain_empty(&link->sendq) ||
           link->is_frozen || link->handler->minds_sent == NULL || link->handler->minds_sent(link);
}

bool link_sends_matter(struct loop *loop) {
    LIST_EACH(node, &loop->silent) {
        if (minds_sent(LIST_ITEM(node, struct link_send, silent)->link)) {
            return true;
        }
    }
    return false;
}

static void fill_msg(struct link *link) {
    struct link_send *state = link->send_state;
    size_t n_bytes;
    int n = chain_iovec(&link->inflight, state->iov, LINK_IOV, &n_bytes);
    CHECK(n_bytes == link->inflight.len);
    state->msg = (struct msghdr){.msg_iov = state->iov, .msg_iovlen = (size_t)n};
}

static void submit_send(struct link *link, int flags) {
    struct io *io = link->loop->io;
    fill_msg(link);
    io->ops->sendmsg(io, &link->send_op, link->fd, &link->send_state->msg, flags | MSG_NOSIGNAL);
}

static void wait_to_send(struct link *link) {
    struct loop *loop = link->loop;
    uint64_t cold_before = loop->pool->stats.cold_bytes;
    if (link->must_cool) {
        link->must_cool = false;
        chain_to_cold(&link->inflight);
    } else if (chain_cool(&link->inflight)) {
        loop_cool_later(loop, &link->cooler);
    }
    loop->stats.n_waiting_sends++;
    loop->stats.n_cold_bytes += loop->pool->stats.cold_bytes - cold_before;
    submit_send(link, 0);
}

// What the link keeps has waited for long.
static void cool_link(struct loop_cooler *cooler) {
    struct link *link = CONTAINER_OF(cooler, struct link, cooler);
    link_read_to_cold(link);
    chain_to_cold(&link->sendq);
    if (op_is_pending(&link->send_op)) {
        link->must_cool = true; // the kernel reads these bytes until the op is back
        link->loop->io->ops->cancel(link->loop->io, &link->send_op);
    }
}

// What became of inflight: res bytes were taken, or -errno.
static void after_send(struct link *link, ssize_t res) {
    if (res < 0 && res != -EAGAIN && res != -EINTR && res != -ECANCELED) {
        link_fail(link, (int)res);
        return;
    }
    size_t n_sent = res > 0 ? (size_t)res : 0;
    chain_skip(&link->inflight, n_sent);
    link->n_sent += n_sent;
    if (!chain_empty(&link->inflight) && !link->is_frozen) {
        wait_to_send(link);
    } else {
        link->must_cool = false;
        send_state_put(link);
        if (!chain_empty(&link->sendq) || link->want_fin) {
            loop_flush_arm(link->loop, &link->flush);
        }
    }
    if (n_sent > 0 && link->handler->on_sent != NULL) {
        link->handler->on_sent(link, n_sent);
    }
}

static void send_done(struct op *op, const struct io_result *result) {
    struct link *link = CONTAINER_OF(op, struct link, send_op);
    list_del(&link->send_state->silent);
    if (link_is_ending(link)) {
        loop_flush_arm(link->loop, &link->flush);
    } else {
        after_send(link, result->res);
    }
}

static void send_now(struct link *link, int flags) {
    struct io *io = link->loop->io;
    fill_msg(link);
    after_send(link, io->ops->send_now(io, link->fd, &link->send_state->msg, flags));
}

// Not put together with others when it is repeated, and all but the last leave with the next one,
// so that they arrive as if they were one.
static void send_segment(struct link *link, size_t n_bytes) {
    chain_move(&link->inflight, &link->sendq, MIN(n_bytes, LINK_SEGMENT));
    send_now(link, --link->n_segments > 0 ? MSG_EOR | MSG_MORE : MSG_EOR);
}

static void start_send(struct link *link) {
    struct loop *loop = link->loop;
    if (link->send_state == NULL) {
        link->send_state = send_state_get(link);
    }
    size_t n_bytes;
    (void)chain_iovec(&link->sendq, link->send_state->iov, LINK_IOV, &n_bytes);
    if (link->n_segments > 0) {
        send_segment(link, n_bytes);
        return;
    }
    chain_move(&link->inflight, &link->sendq, n_bytes);
    if (loop->io->ops->send_silently != NULL && !minds_sent(link)) {
        fill_msg(link);
        list_push_back(&loop->silent, &link->send_state->silent);
        loop->io->ops->send_silently(loop->io, &link->send_op, link->fd, &link->send_state->msg);
        return;
    }
    // Once a turn: an owner that writes more in on_sent must not keep the turn from ending.
    if (!loop->is_light_turn || link->send_turn == (uint32_t)loop->stats.n_turns) {
        submit_send(link, MSG_DONTWAIT);
        return;
    }
    link->send_turn = (uint32_t)loop->stats.n_turns;
    send_now(link, 0);
}

static void send_fin(struct link *link) {
    struct io *io = link->loop->io;
    link->sent_fin = true;
    int rc = io->ops->shutdown(io, link->fd, SHUT_WR);
    if (rc < 0) {
        link_fail(link, rc);
    }
}

static void on_flush(struct loop_flush *flush) {
    struct link *link = CONTAINER_OF(flush, struct link, flush);
    if (link_is_ending(link)) {
        finish_ending(link);
        return;
    }
    bool is_hot = link_read_cool(link);
    if (link->is_frozen || op_is_pending(&link->send_op)) {
        is_hot |= chain_cool(&link->sendq); // queued behind a send that waits
    } else if (!chain_empty(&link->sendq)) {
        start_send(link);
    } else if (link->want_fin && !link->sent_fin) {
        send_fin(link);
    }
    if (is_hot && !link_is_ending(link)) {
        loop_cool_later(link->loop, &link->cooler);
    }
}

void link_freeze(struct link *link) {
    if (link_is_ending(link) || link->is_frozen) {
        return;
    }
    link_read_freeze(link);
    if (op_is_pending(&link->send_op)) {
        link->loop->io->ops->cancel(link->loop->io, &link->send_op);
    }
}

bool link_is_quiet(const struct link *link) {
    return link->is_frozen && !link_is_ending(link) && !op_is_pending(&link->read_op) &&
           !op_is_pending(&link->send_op);
}

void link_thaw(struct link *link) {
    if (!link->is_frozen || link_is_ending(link)) {
        return;
    }
    if (!op_is_pending(&link->send_op)) { // what was taken back goes first
        chain_move_all(&link->inflight, &link->sendq);
        chain_move_all(&link->sendq, &link->inflight);
    }
    link_read_thaw(link);
    loop_flush_arm(link->loop, &link->flush);
}

int link_release(struct link *link) {
    CHECK(link_is_quiet(link));
    loop_flush_disarm(&link->flush);
    loop_cooler_disarm(link->loop, &link->cooler);
    chain_clear(&link->sendq);
    chain_clear(&link->inflight);
    link_read_fini(link);
    send_state_put(link);
    int fd = link->fd;
    link->fd = -1;
    link->is_closing = true;
    return fd;
}

void link_write(struct link *link, struct chain *data) {
    if (link_is_ending(link)) {
        chain_clear(data); // the owner has not heard of it yet, or has no more use for it
        return;
    }
    CHECK(!link->want_fin);
    chain_move_all(&link->sendq, data);
    loop_flush_arm(link->loop, &link->flush);
}

void link_write_segments(struct link *link, struct chain *data) {
    link_write(link, data);
    size_t n = (link->sendq.len + LINK_SEGMENT - 1) / LINK_SEGMENT;
    link->n_segments = (uint16_t)MIN(n, UINT16_MAX);
}

void link_flush_last(struct link *link) {
    loop_flush_disarm(&link->flush);
    loop_flush_arm(link->loop, &link->flush);
}

void link_fin(struct link *link) {
    if (!link_is_ending(link) && !link->want_fin) {
        link->want_fin = true;
        loop_flush_arm(link->loop, &link->flush);
    }
}

size_t link_queued(const struct link *link) {
    return link->sendq.len + link->inflight.len;
}

void link_init(struct link *link, struct loop *loop, int fd, enum link_mode mode,
               const struct link_handler *handler) {
    *link = (struct link){.handler = handler, .loop = loop, .fd = fd, .mode = (uint8_t)mode};
    op_init(&link->read_op, link_read_done);
    op_init(&link->send_op, send_done);
    loop_flush_init(&link->flush, on_flush);
    loop_cooler_init(&link->cooler, cool_link);
    list_init(&link->again);
    list_init(&link->unwatched);
    chain_init(&link->sendq, loop->pool);
    chain_init(&link->inflight, loop->pool);
}
