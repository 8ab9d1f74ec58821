// SPDX-License-Identifier: Apache-2.0
//
// libnftables for redirect.c. With what it needs it is 1.5 MB of memory, and used for moments: it
// is loaded at the first command and unloaded by the call that ends what began with
// redirect_nft_begin.
//
// Thread: the caller's; the kernel is asked in the network namespace that it is in. Any number of
// threads may use it at once.
#pragma once

#include <nftables/libnftables.h>

#include "common/base/buf.h"
#include "ztun/redirect.h"

// Around commands that belong together: the library stays loaded in between. 0 or -ELIBACC, with
// the reason in `error` (may be NULL); after a failure there is nothing to end.
MUST_USE int redirect_nft_begin(char error[REDIRECT_ERROR_MAX]);
void redirect_nft_end(void);

// Runs commands, within begin and end. 0, -ENOENT (something that they name is missing), -ENOMEM or
// -EIO, with the library's text in `error` (may be NULL). `out` (may be NULL) gets what they print.
// `flags`: NFT_CTX_OUTPUT_...
MUST_USE int redirect_nft_run(const char *commands, unsigned int flags, struct buf *out,
                              char error[REDIRECT_ERROR_MAX]);
