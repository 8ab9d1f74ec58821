// SPDX-License-Identifier: Apache-2.0
//
// Answers of the proxy itself (local_reply.def): status, body, response flags and details as Envoy
// has them. A client of gRPC gets HTTP 200 with grpc-status and grpc-message instead of a body.
// Pure; any thread.
#pragma once

#include "common/l7/l7_fields.h"
#include "common/l7/l7_retry.h"
#include "common/l7/l7_route.h"

enum l7_flag_bit {
#define L7_FLAG(name, meaning) L7_FLAG_BIT_##name,
#include "common/l7/l7_flag.def"
#undef L7_FLAG
    L7_N_FLAGS,
};
enum l7_flag {
    L7_FLAG_NONE = 0,
#define L7_FLAG(name, meaning) L7_FLAG_##name = 1 << L7_FLAG_BIT_##name,
#include "common/l7/l7_flag.def"
#undef L7_FLAG
};
// "UF,URX", or "-".
void l7_flags_append(uint32_t flags, struct buf *out);
const char *l7_flag_meaning(enum l7_flag_bit bit);

enum l7_reply_kind {
#define L7_REPLY(name, status, flag, body, details) L7_REPLY_##name,
#include "common/l7/local_reply.def"
#undef L7_REPLY
    L7_N_REPLIES,
    L7_REPLY_RESET, // an upstream that failed before its response
    L7_REPLY_DIRECT, // a route's directResponse
    L7_REPLY_REDIRECT, // a route's redirect
};

struct l7_reply_spec {
    uint8_t kind; // enum l7_reply_kind
    bool is_grpc; // the request is one of gRPC
    bool is_retried; // it is not the first try that failed (text), and none is left (URX)
    uint16_t status; // not 0: instead of the table's (FAULT_ABORT, DIRECT, REDIRECT)
    int grpc_status; // FAULT_ABORT of gRPC's status; -1: none
    struct slice body; // DIRECT
    struct slice location; // REDIRECT
    struct slice details; // not empty: instead of the table's (RBAC_DENIED's policy)
    uint8_t reset; // RESET: enum l7_reset
    struct slice failure; // RESET: what the transport said; DNS_FAILURE: why; empty = nothing
};

struct l7_reply {
    uint16_t status; // of HTTP: 200 for gRPC
    int grpc_status; // -1: not gRPC
    uint32_t flags; // enum l7_flag
    struct slice body, details;
    struct l7_fields fields; // content-length (of the body), content-type ...
};
// Texts and fields are static, borrowed from the spec, or in the arena. False: it has no room; then
// *ret_reply is a status alone.
bool l7_reply_build(const struct l7_reply_spec *spec, struct arena *arena,
                    struct l7_reply *ret_reply) MUST_USE;
// RESPONSE_CODE_DETAILS of a response that an upstream broke off; static, or in the arena.
const char *l7_reply_cut_details(enum l7_reset reset, struct arena *arena);
// The flags of a reset alone: of a response that broke off, or for a log.
uint32_t l7_reply_reset_flags(enum l7_reset reset);
