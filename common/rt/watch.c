// SPDX-License-Identifier: Apache-2.0
#include "common/rt/watch.h"

#include <errno.h>
#include <poll.h>

static void arm(struct watch *watch) {
    struct io *io = watch->loop->io;
    io->ops->poll(io, &watch->op, watch->fd, watch->mask, true);
}

static void poll_done(struct op *op, const struct io_result *result) {
    struct watch *watch = CONTAINER_OF(op, struct watch, op);
    if (watch->is_stopping) {
        loop_flush_arm(watch->loop, &watch->flush);
        return;
    }
    if (!result->more && result->res >= 0) {
        arm(watch);
    }
    watch->fn(watch, result->res >= 0 ? (uint32_t)result->res : POLLERR);
}

static void on_flush(struct loop_flush *flush) {
    struct watch *watch = CONTAINER_OF(flush, struct watch, flush);
    if (!op_is_pending(&watch->op) && watch->on_stopped != NULL) {
        watch->on_stopped(watch);
    }
}

void watch_init(struct watch *watch, struct loop *loop, int fd, uint32_t mask,
                void (*fn)(struct watch *, uint32_t ready)) {
    *watch = (struct watch){.loop = loop, .fd = fd, .mask = mask, .fn = fn};
    op_init(&watch->op, poll_done);
    loop_flush_init(&watch->flush, on_flush);
    arm(watch);
}

void watch_stop(struct watch *watch, void (*on_stopped)(struct watch *)) {
    if (watch->is_stopping) {
        return;
    }
    watch->is_stopping = true;
    watch->on_stopped = on_stopped;
    if (op_is_pending(&watch->op)) {
        watch->loop->io->ops->cancel(watch->loop->io, &watch->op);
    } else {
        loop_flush_arm(watch->loop, &watch->flush);
    }
}
