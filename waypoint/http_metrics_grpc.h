// SPDX-License-Identifier: Apache-2.0
//
// Counts the messages of gRPC in one direction of a stream: 5 bytes (a flag, a length) before each
// (gRPC over HTTP/2, "Length-Prefixed-Message"). A message counts with its first byte. Pure; the
// payload may be cut anywhere.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

struct http_metrics_grpc { // starts as zero
    uint64_t n_messages;
    uint32_t left; // of the message's bytes
    uint8_t n_prefix; // bytes of its prefix that have been read, 0 to 4
    bool is_broken; // what came is no gRPC: nothing more is counted
};

void http_metrics_grpc_take(struct http_metrics_grpc *grpc, struct slice payload);
