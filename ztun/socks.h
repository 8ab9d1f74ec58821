// SPDX-License-Identifier: Apache-2.0
//
// SOCKS5 (UNSTABLE_ENABLE_SOCKS5): clients of the pod that connect to 127.0.0.1:15080 and name a
// destination. A handshake ends as an outbound flow (outbound_socks), which gives the reply when it
// is known how the connection went, or as a line in the log.
//
// It reads exactly the handshake: what the client sends behind the request is still in the socket
// when the flow takes over. At most SOCKS_HANDSHAKES_MAX of a pod and worker at a time, where the
// oldest one that still owes bytes makes room; SOCKS_TIMEOUT_MS for its bytes, and as much for its
// host name.
//
// Thread: the worker's.
#pragma once

#include "common/net/duplex.h"
#include "common/proto/socks5.h"
#include "common/rt/io.h"

struct zpod;

enum { SOCKS_HANDSHAKES_MAX = 64, SOCKS_TIMEOUT_MS = 10000 };

void socks_accept(struct zpod *zpod, int fd);
// Ends the pod's handshakes; zpod->n_open counts them until they are gone.
void socks_cut(struct zpod *zpod, enum flow_end reason);

// The reply to a request. With all codes but SUCCEEDED our direction ends behind it; closing is the
// caller's.
void socks_answer(struct io *io, int fd, enum socks5_code code);
// What the pod's application, which has connected from `peer`, a loopback address, is to others.
struct ip socks_client_ip(const struct zpod *zpod, const struct ip *peer, uint8_t family);
enum socks5_code socks_code(enum flow_end reason);
enum socks5_code socks_code_of_errno(int err); // of connect: -errno
