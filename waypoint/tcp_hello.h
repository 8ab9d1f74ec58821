// SPDX-License-Identifier: Apache-2.0
//
// A connection whose first message says which server it is for: waits for the TLS client's hello
// before somebody else carries the bytes. A client that says nothing for TCP_HELLO_MS, or no TLS,
// is one without a name.
//
// Thread: the worker's.
#pragma once

#include "common/proto/tls_hello.h"
#include "waypoint/conn.h"

enum { TCP_HELLO_MS = 5000 };

// Called once, with the connection accepted and its duplex held: what was read (taken over by the
// callee), whether the client has ended its side, and the name (may be "").
typedef void tcp_hello_fn(struct wconn *conn, struct chain *early, bool fin, const char *name);

// `early`, `fin`: as for tcp_serve. From here on the connection is this module's until `fn` is
// called, or it is gone.
void tcp_hello_start(struct wconn *conn, struct chain *early, bool fin, tcp_hello_fn *fn);
