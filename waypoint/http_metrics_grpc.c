// SPDX-License-Identifier: Apache-2.0
#include "waypoint/http_metrics_grpc.h"

#include "common/base/check.h"

enum { PREFIX_LEN = 5, FLAG_COMPRESSED = 1 };

static void take_prefix_byte(struct http_metrics_grpc *grpc, uint8_t byte) {
    if (grpc->n_prefix == 0) {
        if (byte > FLAG_COMPRESSED) {
            grpc->is_broken = true;
            return;
        }
        grpc->n_messages++;
    } else {
        grpc->left = grpc->left << 8 | byte;
    }
    grpc->n_prefix = (uint8_t)((grpc->n_prefix + 1) % PREFIX_LEN);
}

void http_metrics_grpc_take(struct http_metrics_grpc *grpc, struct slice payload) {
    while (payload.len > 0 && !grpc->is_broken) {
        // In the middle of a prefix `left` is the part of the length that is known.
        if (grpc->n_prefix == 0 && grpc->left > 0) {
            size_t n = MIN(payload.len, (size_t)grpc->left);
            grpc->left -= (uint32_t)n;
            payload = slice_skip(payload, n);
            continue;
        }
        take_prefix_byte(grpc, payload.ptr[0]);
        payload = slice_skip(payload, 1);
    }
}
