// SPDX-License-Identifier: Apache-2.0
//
// The parts of a gRPC client, for grpc_client.c and its test.
#pragma once

#include "common/base/list.h"
#include "common/net/grpc_client.h"

struct grpc_client {
    struct loop *loop;
    struct http_client *http;
    size_t message_max;
    struct http_field *metadata;
    size_t n_metadata;
    struct list calls;
};

// A stream on its way: outlives the owner's handle when that is cancelled within a callback.
struct grpc_call {
    struct grpc_client *client;
    struct grpc_stream *stream; // NULL: nobody wants it any more
    struct list node; // grpc_client.calls
    struct http_request request;
    struct grpc_reader reader;
    bool is_busy; // hands out messages
};
