// SPDX-License-Identifier: Apache-2.0
//
// Inside dial: what lies over the transport of a connection to a server. First bytes that go ahead
// of everything (the PROXY protocol's header), then TLS, then the way through a proxy.
//
// A layer holds its transport, so that it can come to its end in order when the dial has failed or
// was given up. It frees itself when the transport is closed.
//
// Thread: the worker's.
#pragma once

#include "waypoint/dial.h"

struct dial_layer;

// NULL: the target asks for none.
struct dial_layer *dial_layer_new(struct upstream_dial *dial, const struct upstream_target *target);
struct upstream_way *dial_layer_way(struct dial_layer *layer); // for its transport
void dial_layer_start(struct dial_layer *layer, struct duplex *transport); // it is connected
// The dial wants no more of it. NULL ok.
void dial_layer_drop(struct dial_layer *layer);
// What has not happened in time. NULL: the connection itself.
const char *dial_layer_timeout_text(const struct dial_layer *layer);

// dial.c: the end of the attempt.
void upstream_dial_opened(struct upstream_dial *dial, struct duplex *duplex);
void upstream_dial_failed(struct upstream_dial *dial, const struct upstream_failure *failure);
