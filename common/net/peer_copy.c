// SPDX-License-Identifier: Apache-2.0
#include "common/net/peer_copy.h"

#include <stdlib.h>

// Copies `text` to *at, moves *at behind it and returns the copy.
static struct slice put(uint8_t **at, struct slice text) {
    uint8_t *to = *at;
    if (text.len > 0) {
        memcpy(to, text.ptr, text.len);
    }
    *at += text.len;
    return slice_make(to, text.len);
}

struct tls_peer *peer_copy(const struct tls_peer *peer) {
    size_t len = peer->identity.len + peer->serials.len;
    for (size_t i = 0; i < peer->n_sans; i++) {
        len += peer->sans[i].len;
    }
    struct tls_peer *copy = xmalloc(sizeof(*copy) + len);
    *copy = *peer;
    uint8_t *at = (uint8_t *)(copy + 1);
    copy->identity = put(&at, peer->identity);
    copy->serials = put(&at, peer->serials);
    for (size_t i = 0; i < peer->n_sans; i++) {
        copy->sans[i] = put(&at, peer->sans[i]);
    }
    return copy;
}

void peer_copy_free(struct tls_peer *peer) {
    free(peer);
}
