// SPDX-License-Identifier: Apache-2.0
//
// A heap copy of a verified TLS peer, for what must outlive the handshake: identity for policy and
// logs, hashes and serials for re-checks of live tunnels.
#pragma once

#include "common/tls/tls_handshake.h"

struct tls_peer *peer_copy(const struct tls_peer *peer); // one allocation
void peer_copy_free(struct tls_peer *peer);               // NULL ok
