// SPDX-License-Identifier: Apache-2.0
#include "common/rt/io_open.h"

#include <stdio.h>
#include <string.h>

#include "common/rt/epoll.h"

int io_open(enum io_kind kind, const struct uring_options *options, struct blk_pool *pool,
            char error[URING_ERROR_MAX], struct io **ret_io) {
    if (kind == IO_URING) {
        return uring_new(options, pool, error, ret_io);
    }
    int rc = epoll_new(options->n_buffers, pool, ret_io);
    if (rc < 0) {
        snprintf(error, URING_ERROR_MAX, "epoll could not be set up (%s)", strerror(-rc));
    }
    return rc;
}
