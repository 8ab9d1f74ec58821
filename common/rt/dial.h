// SPDX-License-Identifier: Apache-2.0
//
// Opens one TCP connection on a loop, with a timeout and cancellation.
//
// Thread: the loop's. A dial owns itself: it is gone after its callback, and after dial_cancel (the
// operation in the kernel may still need it for a moment).
#pragma once

#include "common/rt/loop.h"

struct dial;

// res: the connected fd, which passes to the callee, or -errno. -ETIMEDOUT: the timeout.
// -EADDRNOTAVAIL: no source port left. -EPERM: mark or transparent without the capability.
typedef void dial_fn(void *arg, int res);

// Never calls `fn` before it returns; fn is called exactly once unless dial_cancel comes first.
struct dial *dial_start(struct loop *loop, const struct io_socket_params *params,
                        const struct addr *dst, uint64_t timeout_ns, dial_fn *fn, void *arg);
// fn will not be called; a connection that is made all the same is reset.
void dial_cancel(struct dial *dial);
