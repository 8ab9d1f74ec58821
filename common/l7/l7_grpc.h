// SPDX-License-Identifier: Apache-2.0
//
// What HTTP has to know of gRPC (gRPC over HTTP/2): status codes, the timeout header, messages.
// Pure; any thread.
#pragma once

#include "common/base/buf.h"
#include "common/base/slice.h"

enum l7_grpc {
#define L7_GRPC(name, number) L7_GRPC_##name = (number),
#include "common/l7/l7_grpc.def"
#undef L7_GRPC
};
const char *l7_grpc_name(enum l7_grpc status); // "UNAVAILABLE"; "?" of an unknown one
// "UNAVAILABLE" or "14". False: neither.
bool l7_grpc_parse(struct slice name, uint8_t *ret_status);
// What a client of gRPC is told when HTTP would say `status`.
enum l7_grpc l7_grpc_of_http(uint16_t status);

// grpc-timeout: up to 8 digits and a unit (H M S m u n), rounded up to milliseconds. False: not
// well-formed.
bool l7_grpc_timeout_parse(struct slice value, uint64_t *ret_ms);
// The shortest way to write it; more than 8 digits of hours become 99999999H.
void l7_grpc_timeout_append(uint64_t ms, struct buf *out);
// grpc-message: percent-encoded where it is not printable ASCII.
void l7_grpc_message_append(struct slice message, struct buf *out);
