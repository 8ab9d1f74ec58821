// SPDX-License-Identifier: Apache-2.0
//
// The process-wide cache of verified certificate chains: its counters, and how to empty it.
//
// A verified chain is kept under the hash of the whole chain, the trust bundle with its CRLs, the
// CRL generation and the peer's role; a hit still checks the validity period against the wall clock
// it is given. At most TLS_CACHE_MAX entries, the one used longest ago goes first. Refusals are not
// kept. Thread: any.
#pragma once

#include <stdint.h>

enum { TLS_CACHE_MAX = 4096 };

struct tls_verify_stats {
    uint64_t hits, misses;
    uint64_t evictions; // pushed out by newer chains
    uint64_t n_entries; // now
    uint64_t bytes; // memory of the entries now
};

void tls_verify_stats(struct tls_verify_stats *ret_stats);
// After a change of bundle or CRLs, to give the memory back at once (old entries cannot be hit any
// more). Chains that tunnels still refer to stay until those are gone.
void tls_verify_cache_clear(void);
