// SPDX-License-Identifier: Apache-2.0
#include "common/rt/dial.h"

#include <errno.h>
#include <stdlib.h>

struct dial {
    struct loop *loop;
    dial_fn *fn; // NULL: cancelled
    void *arg;
    struct op op;
    struct timer timer;
    struct loop_flush flush; // delivers what is known before dial_start returns
    struct sockaddr_storage sa;
    int fd;
    int res;
    bool is_timed_out;
};

static void finish(struct dial *dial, int res) {
    struct io *io = dial->loop->io;
    timer_clear(&dial->loop->timers, &dial->timer);
    loop_flush_disarm(&dial->flush);
    if (dial->fn == NULL || res < 0) {
        if (dial->fd >= 0) {
            io->ops->close(io, dial->fd, true);
        }
    } else {
        res = dial->fd;
    }
    dial_fn *fn = dial->fn;
    void *arg = dial->arg;
    free(dial);
    if (fn != NULL) {
        fn(arg, res);
    }
}

static void connect_done(struct op *op, const struct io_result *result) {
    struct dial *dial = CONTAINER_OF(op, struct dial, op);
    // A connection that came up just after its time is over is not used: the caller may count on
    // the timeout having happened.
    finish(dial, dial->is_timed_out ? -ETIMEDOUT : result->res);
}

static void on_timeout(struct timer *timer, uint64_t now) {
    struct dial *dial = CONTAINER_OF(timer, struct dial, timer);
    dial->is_timed_out = true;
    dial->loop->io->ops->cancel(dial->loop->io, &dial->op);
}

static void on_flush(struct loop_flush *flush) {
    struct dial *dial = CONTAINER_OF(flush, struct dial, flush);
    finish(dial, dial->res);
}

struct dial *dial_start(struct loop *loop, const struct io_socket_params *params,
                        const struct addr *dst, uint64_t timeout_ns, dial_fn *fn, void *arg) {
    struct dial *dial = xmalloc(sizeof(*dial));
    *dial = (struct dial){.loop = loop, .fn = fn, .arg = arg};
    op_init(&dial->op, connect_done);
    timer_init(&dial->timer, on_timeout);
    loop_flush_init(&dial->flush, on_flush);
    dial->fd = loop->io->ops->socket(loop->io, params);
    if (dial->fd < 0) {
        dial->res = dial->fd;
        loop_flush_arm(loop, &dial->flush);
        return dial;
    }
    socklen_t len = addr_to_sockaddr(dst, params->family == 6, &dial->sa);
    loop->io->ops->connect(loop->io, &dial->op, dial->fd, (struct sockaddr *)&dial->sa, len);
    timer_set(&loop->timers, &dial->timer, loop->now + timeout_ns);
    return dial;
}

void dial_cancel(struct dial *dial) {
    dial->fn = NULL;
    if (op_is_pending(&dial->op)) {
        timer_clear(&dial->loop->timers, &dial->timer);
        dial->loop->io->ops->cancel(dial->loop->io, &dial->op);
    } else {
        finish(dial, -ECANCELED);
    }
}
