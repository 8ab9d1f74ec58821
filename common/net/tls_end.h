// SPDX-License-Identifier: Apache-2.0
//
// TLS over a duplex, as a duplex: towards servers outside of the mesh, over plain TCP or within a
// tunnel. Handshake by tls_handshake in the worker's queue (tls_link.h), then our own records.
//
// Half-close is close_notify, then FIN. An end of the transport without close_notify is a cut
// (RFC 8446 6.1): what was received may be a part.
//
// Life: from tls_end_init to handler->on_closed, which is the last call; the memory may be reused
// then. The plain duplex has its own on_closed just before, if it was handed out.
//
// Thread: the worker's.
#pragma once

#include "common/net/duplex.h"
#include "common/net/tls_link.h"

struct tls_end;

struct tls_end_handler {
    // The handshake is done: `end->duplex` is held; set its events and owner, then hold(false).
    void (*on_ready)(struct tls_end *end);
    // It failed; the transport is being closed. The reason is borrowed for the call.
    void (*on_fail)(struct tls_end *end, const char *text);
    void (*on_closed)(struct tls_end *end);
};

struct tls_end {
    struct duplex duplex; // the plain side
    const struct tls_end_handler *handler;
    struct tls_queue *queue;
    struct duplex *inner; // the transport; NULL once closed
    struct tls_job job;
    struct tls_handshake *hs; // NULL after it
    struct tls_record *record; // NULL before
    struct chain input; // records that are not opened yet
    size_t n_unsent; // bytes of records that have not left
    size_t n_plain_unsent; // and of what the owner sent in them: the last part of it
    struct timer timer; // bound of an orderly close
    uint8_t depth; // calls under way: on_closed comes after the outermost
    bool is_ready, is_held, is_reading;
    bool is_h2; // ALPN settled on h2; from on_ready on
    bool got_fin, told_fin; // of the transport; to the owner
    bool is_closing; // nothing is handed out any more
    bool is_cut; // the transport ends by a reset
    bool is_closed; // on_closed is due
};

enum { TLS_END_CLOSE_MS = 1000 };

// Takes over the handshake. The transport is held, as it comes from on_open of whoever made it.
void tls_end_init(struct tls_end *end, struct tls_queue *queue, struct duplex *inner,
                  struct tls_handshake *hs, const struct tls_end_handler *handler);
// Before on_ready: gives up; on_closed follows.
void tls_end_abort(struct tls_end *end);
