// SPDX-License-Identifier: Apache-2.0
//
// A certificate authority as the identity manager uses it: the built-in one (ca_local.h), later
// istiod's. Thread: control.
#pragma once

#include "common/tls/tls_ca.h"

struct ca;

// Embedded in its owner; one answer per request.
struct ca_request {
    const char *spiffe_id; // valid until the answer
    uint32_t ttl_s;
    // svid is borrowed; NULL on failure, `error` then says why. May be called from within ca->request.
    void (*done)(struct ca_request *request, const struct tls_svid *svid, const char *error);
};

struct ca_ops {
    void (*request)(struct ca *ca, struct ca_request *request, int64_t now_wall_s);
    // Gives up a request that was not answered.
    void (*cancel)(struct ca *ca, struct ca_request *request);
    // Looks for changes (files, root); true when certificates must be issued anew.
    bool (*poll)(struct ca *ca, int64_t now_wall_s);
    void (*free)(struct ca *ca);
};

struct ca {
    const struct ca_ops *ops;
};
