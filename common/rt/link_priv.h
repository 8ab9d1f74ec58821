// SPDX-License-Identifier: Apache-2.0
//
// Between link.c, link_read.c and loop.c.
#pragma once

#include "common/rt/link.h"

static inline bool link_is_ending(const struct link *link) {
    return link->is_closing || link->is_dead;
}

// link.c
void link_fail(struct link *link, int err); // on_error, unless it is ending anyway
// Somebody waits for the end of a silent send: the loop must not wait for anything else before.
MUST_USE bool link_sends_matter(struct loop *loop);
void link_sends_free(struct loop *loop); // the send states that the loop keeps for reuse

// link_read.c
void link_read_done(struct op *op, const struct io_result *result); // link->read_op
void link_read_stop(struct link *link); // nothing is delivered any more; the op may be pending
MUST_USE bool link_read_cool(struct link *link); // chain_cool of what is held
void link_read_to_cold(struct link *link);
void link_read_fini(struct link *link); // drops what was not delivered
void link_read_freeze(struct link *link);
void link_read_thaw(struct link *link);
// A link without either: what it had of an incomplete record, and what came after a pause.
void link_read_restore(struct link *link, struct slice stash, struct slice held);
void link_again(struct list *node); // runs a link that was on loop->again; node is link->again
void link_watch_errors(struct timer *timer, uint64_t now); // loop->unwatched_timer
