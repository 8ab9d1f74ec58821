// SPDX-License-Identifier: Apache-2.0
//
// A duplex: one end of a byte flow with half-close and end-to-end backpressure; the common face of
// a plain link (link_end.h) and of a CONNECT stream on a tunnel (hbone_stream.h). Two of them
// joined by a pipe (pipe.h) are a flow.
//
// Thread: the worker's.
#pragma once

#include "common/base/chain.h"

// How a flow ended: table with metric labels and texts in flow_end.def.
enum flow_end {
#define FLOW_END(name, label, text) FLOW_##name,
#include "common/net/flow_end.def"
#undef FLOW_END
};
const char *flow_end_label(enum flow_end end); // metric label response_flags
const char *flow_end_text(enum flow_end end); // "" for FLOW_OK

struct duplex;

// What an implementation offers to its owner.
struct duplex_ops {
    // Queues all of data towards the peer; fin: nothing more follows (FIN, END_STREAM).
    void (*send)(struct duplex *end, struct chain *data, bool fin);
    // False: the owner should stop sending until on_writable.
    bool (*can_send)(const struct duplex *end);
    // n bytes handed out by on_data have left the other side: credit goes back to the peer.
    void (*consumed)(struct duplex *end, size_t n);
    // Stops and continues handing out data. An end starts held.
    void (*hold)(struct duplex *end, bool on);
    // Cuts the flow: RST, or RST_STREAM(CONNECT_ERROR). on_closed follows, nothing else.
    void (*abort)(struct duplex *end);
    // Both directions ended orderly: give up the end. on_closed follows, nothing else.
    void (*finish)(struct duplex *end);
    // Our direction has ended, and nothing more of the peer's is wanted: all that was sent reaches
    // it, however late it reads (RST_STREAM(NO_ERROR) behind END_STREAM, RFC 9113 8.1). on_closed
    // follows, nothing else. NULL: there is no such way.
    void (*stop)(struct duplex *end);
};

// What the owner hears.
struct duplex_events {
    void (*on_data)(struct duplex *end, const struct seg *seg); // block reference passes on
    void (*on_fin)(struct duplex *end); // orderly end of the peer's direction
    void (*on_sent)(struct duplex *end, size_t n); // n bytes of send() left; see reports_sent
    void (*on_writable)(struct duplex *end); // can_send() is true again
    // The peer or the transport cut the flow. on_closed follows by itself.
    void (*on_abort)(struct duplex *end, enum flow_end reason);
    void (*on_closed)(struct duplex *end); // last call: the memory may be reused
};

struct duplex {
    const struct duplex_ops *ops;
    const struct duplex_events *events;
    void *owner; // for the events' side
    uint8_t side; // same
    // The implementation: the peer waits for `consumed`. Where no one does, nobody has to know what
    // left the other side.
    bool needs_credit;
    // The owner, before it sends: on_sent is wanted, and at once. Links always tell, else later.
    bool reports_sent;
    // The owner: so many bytes may have left before on_sent must come at once; until then it may
    // wait for whatever happens next on the loop.
    uint32_t sent_lag;
};
