// SPDX-License-Identifier: Apache-2.0
//
// One of the back ends that speak to the kernel.
#pragma once

#include "common/rt/uring.h"

enum io_kind { IO_URING, IO_EPOLL };

// As uring_new; IO_EPOLL takes only n_buffers of the options.
MUST_USE int io_open(enum io_kind kind, const struct uring_options *options, struct blk_pool *pool,
                     char error[URING_ERROR_MAX], struct io **ret_io);
