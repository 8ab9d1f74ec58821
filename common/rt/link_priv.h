// SPDX-License-Identifier: Apache-2.0
//
// What link.c offers to loop.c.
#pragma once

#include "common/rt/link.h"

// Runs a link that was on loop->again (already taken off); `node` is link->again.
void link_again(struct list *node);
// Frees the send states that the loop keeps for reuse.
void link_sends_free(struct loop *loop);
