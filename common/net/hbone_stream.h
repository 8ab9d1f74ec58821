// SPDX-License-Identifier: Apache-2.0
//
// A CONNECT stream as a duplex. Client side: after the 2xx; server side: from the request on (what
// the client sends before the answer waits, bounded by the stream window).
#pragma once

#include "common/net/h2_drv.h"

struct hbone_stream {
    struct duplex duplex;
    struct h2_user user;
    struct chain waiting; // received while held
    size_t n_unsent; // sent by the owner and not reported by on_sent (duplex.reports_sent)
    bool is_held, got_fin, told_fin, is_cut;
    bool is_sent; // all that was sent, and END_STREAM, has gone out
    bool closes_itself; // both directions ended; closed() follows the last waiting byte
    // The peer ended its direction and then wants no more (RST_STREAM NO_ERROR, RFC 9113 8.1): what
    // is still sent is dropped, so that the whole answer and its end reach the other side.
    bool is_stopped;
    bool is_delivering, is_finished;
    bool wants_no_more; // stop(): RST_STREAM(NO_ERROR) is due behind END_STREAM
    enum h2_err reset_err; // of a RESET event
    // Events before the duplex has an owner (pipe_attach), set by the client pool or the server.
    void (*on_head)(struct hbone_stream *stream, const struct h2_event *event); // client: response
    // Cut before it was attached; the stream is detached already and may be reused.
    void (*on_lost)(struct hbone_stream *stream, enum flow_end reason);
};

void hbone_stream_init(struct hbone_stream *stream, struct h2_drv *drv, struct h2_stream *h2);
// Before pipe_attach: resets the stream with `err` and lets go of it; no event follows.
void hbone_stream_drop(struct hbone_stream *stream, enum h2_err err);

// Hand-over of an attached end on a frozen driver (h2_drv.h). False: it is not attached yet, or was
// cut.
struct buf;
struct cur;
MUST_USE bool hbone_stream_export(const struct hbone_stream *stream, struct buf *out);
void hbone_stream_release(struct hbone_stream *stream); // in place of its end; no event follows
// drv has been imported and is not thawed yet: takes over the stream of the same id. False:
// malformed, or there is no such stream, or it has an owner.
MUST_USE bool hbone_stream_import(struct hbone_stream *stream, struct h2_drv *drv, struct cur *in);
