// SPDX-License-Identifier: Apache-2.0
//
// Which of several processes is the leader: a Lease of the Kubernetes API, as client-go's
// leaderelection has it. One process holds it and renews it; another takes it once it has
// seen no renewal for as long as the lease says, by its own monotonic clock: what clocks show does
// not count, only that they run about equally fast. Who cannot renew for LEASE_RENEW_MS is no
// leader any more, well before another one is.
//
// Pure: what is to be asked of the API comes out of lease_next(), answers go in. Thread: control.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/rand.h"

enum { // client-go's defaults
    LEASE_DURATION_S = 15,
    LEASE_RENEW_MS = 10000,
    LEASE_RETRY_MS = 2000, // 20 % more by chance, when another one is the leader
};

enum lease_step {
    LEASE_WAIT, // until lease.due
    LEASE_GET, // the Lease; then lease_got() or lease_failed()
    LEASE_CREATE, // lease_body(); then lease_written() or lease_failed()
    LEASE_UPDATE, // likewise
};

struct lease {
    const char *ns, *name; // of the Lease
    const char *identity; // ours; another one for each process
    struct rand *rand;
    json_t *seen; // as the API has it; NULL: not there, or not looked at
    uint64_t seen_at; // when it was seen to change
    uint64_t written_at, renewed_at; // of our own: when it was begun; the last one that was good
    uint64_t due;
    enum lease_step step; // what comes at `due`
    bool is_leader, is_released;
};

// Texts outlive it.
void lease_init(struct lease *lease, const char *ns, const char *name, const char *identity,
                struct rand *rand);
void lease_fini(struct lease *lease);
// LEASE_WAIT also while an answer is outstanding.
enum lease_step lease_next(struct lease *lease, uint64_t now);
// The Lease to create, or to replace the one that was seen; `now_text`: RFC 3339 with microseconds.
// A new reference.
json_t *lease_body(struct lease *lease, uint64_t now, const char *now_text);
void lease_got(struct lease *lease, uint64_t now, const json_t *object); // NULL: there is none
void lease_written(struct lease *lease, uint64_t now, const json_t *object);
void lease_failed(struct lease *lease, uint64_t now);
// Held by us for now. Once it was lost it is not held before it is written again.
bool lease_is_held(struct lease *lease, uint64_t now);
// To be sent when we end, so that the next one need not wait: NULL, we do not hold it; else a body
// for an update. Nothing is to be asked any more.
json_t *lease_release(struct lease *lease, const char *now_text);
// Who holds it as far as is known; "" = nobody.
const char *lease_holder(const struct lease *lease);
