// SPDX-License-Identifier: Apache-2.0
//
// Streams and data between a client core and a server core.
#pragma once

#include "common/proto/h2_priv.h"
#include "tests/unit/proto/h2_harness.h"

// `text`: its fields, as fields_of() reads them.
struct h2_stream *open_stream(struct h2_end *client, const char *text, bool end);
void send_data(struct h2_end *end, struct h2_stream *stream, size_t len, bool is_end);
// A client and a server that have opened their connection.
void pair_init(struct h2_end *c, struct h2_end *s);
void pair_fini(struct h2_end *c, struct h2_end *s);
