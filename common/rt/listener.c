// SPDX-License-Identifier: Apache-2.0
#include "common/rt/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { MAX_REFUSED_AT_ONCE = 64 };

static void update(struct listener *listener);

static bool is_out_of_fds(int err) {
    return err == -EMFILE || err == -ENFILE;
}

// A descriptor per loop, kept for the moment when there is no other left.
static void reserve_open(struct loop *loop) {
    if (loop->reserve_fd < 0) {
        loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
}

static void accepted(struct listener *listener, int fd) {
    if (listener->is_closing && !listener->adopts_late) {
        listener->loop->io->ops->close(listener->loop->io, fd, true);
        return;
    }
    listener->stats.n_accepted++;
    listener->handler->on_accept(listener, fd);
}

// Those who wait in the queue are told at once instead of being left to time out.
static void refuse_queued(struct listener *listener) {
    struct loop *loop = listener->loop;
    struct io *io = loop->io;
    if (loop->reserve_fd < 0) {
        return;
    }
    close(loop->reserve_fd);
    loop->reserve_fd = -1;
    for (int i = 0; i < MAX_REFUSED_AT_ONCE; i++) {
        int fd = io->ops->accept_now(io, listener->fd);
        if (fd < 0) {
            break;
        }
        io->ops->close(io, fd, true);
        listener->stats.n_refused++;
    }
    reserve_open(loop);
}

static void start_backoff(struct listener *listener, int err) {
    listener->stats.n_errors++;
    if (is_out_of_fds(err)) {
        refuse_queued(listener);
    }
    uint64_t min_ns = LISTENER_BACKOFF_MIN_MS * NS_PER_MS;
    uint64_t max_ns = LISTENER_BACKOFF_MAX_MS * NS_PER_MS;
    listener->backoff_ns = MIN(MAX(2 * listener->backoff_ns, min_ns), max_ns);
    timer_set(&listener->loop->timers, &listener->timer,
              listener->loop->now + listener->backoff_ns);
    if (listener->handler->on_error != NULL) {
        listener->handler->on_error(listener, err);
    }
}

static bool is_passing(int err) {
    // Of one connection that went away, or of a network that is: the next may be fine.
    return err == -ECONNABORTED || err == -EINTR || err == -EAGAIN || err == -ECANCELED ||
           err == -EPROTO || err == -ENETDOWN || err == -EHOSTUNREACH || err == -ENETUNREACH;
}

static void accept_done(struct op *op, const struct io_result *result) {
    struct listener *listener = CONTAINER_OF(op, struct listener, op);
    if (!result->more) {
        listener->is_cancelling = false;
    }
    if (result->res >= 0) {
        listener->backoff_ns = 0;
        accepted(listener, result->res);
    } else if (!listener->is_closing && !is_passing(result->res)) {
        start_backoff(listener, result->res);
    }
    update(listener);
}

static void on_timer(struct timer *timer, uint64_t now) {
    update(CONTAINER_OF(timer, struct listener, timer));
}

static void on_flush(struct loop_flush *flush) {
    struct listener *listener = CONTAINER_OF(flush, struct listener, flush);
    if (!listener->is_closing || op_is_pending(&listener->op)) {
        return;
    }
    struct io *io = listener->loop->io;
    if (listener->adopts_late) {
        for (int fd; (fd = io->ops->accept_now(io, listener->fd)) >= 0;) {
            accepted(listener, fd);
        }
    }
    io->ops->close(io, listener->fd, false); // resets what is still queued
    listener->fd = -1;
    listener->handler->on_closed(listener);
}

static void update(struct listener *listener) {
    struct io *io = listener->loop->io;
    bool wants = !listener->is_paused && !listener->is_closing;
    if (op_is_pending(&listener->op)) {
        if (!wants && !listener->is_cancelling) {
            listener->is_cancelling = true;
            io->ops->cancel(io, &listener->op);
        }
    } else if (listener->is_closing) {
        timer_clear(&listener->loop->timers, &listener->timer);
        loop_flush_arm(listener->loop, &listener->flush);
    } else if (wants && !timer_is_armed(&listener->timer)) {
        io->ops->accept(io, &listener->op, listener->fd);
    }
}

void listener_init(struct listener *listener, struct loop *loop, int fd,
                   const struct listener_handler *handler) {
    *listener = (struct listener){.handler = handler, .loop = loop, .fd = fd};
    op_init(&listener->op, accept_done);
    timer_init(&listener->timer, on_timer);
    loop_flush_init(&listener->flush, on_flush);
    reserve_open(loop);
    update(listener);
}

void listener_pause(struct listener *listener, bool on) {
    listener->is_paused = on;
    update(listener);
}

void listener_close(struct listener *listener, bool adopt) {
    if (!listener->is_closing) {
        listener->is_closing = true;
        listener->adopts_late = adopt;
        update(listener);
    }
}
