// SPDX-License-Identifier: Apache-2.0
//
// Inside dial: what lies over the transport of a connection to a server. First bytes that go ahead
// of everything (the PROXY protocol's header), then TLS.
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
bool dial_layer_is_in_handshake(const struct dial_layer *layer); // NULL: no

// dial.c: the end of the attempt.
void upstream_dial_opened(struct upstream_dial *dial, struct duplex *duplex);
void upstream_dial_failed(struct upstream_dial *dial, const struct upstream_failure *failure);
