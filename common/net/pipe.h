// SPDX-License-Identifier: Apache-2.0
//
// A pipe joins two duplexes into a flow: bytes, ends and cuts are carried both ways.
//
// Endings: an orderly end of one side is sent on as an orderly end after all bytes before it; a cut
// of one side becomes a cut of the other. Nothing sent before a FIN is lost, and a cut flow never
// looks complete. Backpressure: a side is held while the other cannot take more, and gets credit
// back only for bytes that have left the other side.
//
// A tap sees the bytes on their way, and passes them on itself; bytes of its own may go between
// them.
//
// Use: pipe_init, pipe_attach both ends (in any order, as they come to life), pipe_start. `done` is
// called once, when both attached ends are closed.
#pragma once

#include "common/net/duplex.h"

enum pipe_side { PIPE_DOWN, PIPE_UP }; // towards the client, towards the server

struct pipe;
// In place of the passing on: pipe_forward does that. The segment's block stays the caller's.
typedef void pipe_tap(struct pipe *pipe, enum pipe_side from, const struct seg *seg);

struct pipe {
    struct duplex *side[2]; // NULL: not attached, or closed
    struct blk_pool *pool;
    void (*done)(struct pipe *pipe);
    pipe_tap *tap; // NULL: bytes pass
    uint64_t n_bytes[2]; // received from that side
    uint32_t n_injected; // bytes of ours towards PIPE_DOWN, for which no credit is due yet
    bool got_fin[2], is_held[2];
    bool is_started, is_ending;
    bool is_leaving; // pipe_end
    uint8_t last; // enum pipe_side: from where the last bytes came
    enum flow_end end; // why it ended; FLOW_OK: both sides ended orderly
};

void pipe_init(struct pipe *pipe, struct blk_pool *pool, void (*done)(struct pipe *pipe));
void pipe_attach(struct pipe *pipe, enum pipe_side side, struct duplex *end);
void pipe_start(struct pipe *pipe); // both ends are attached
// Between the attaching and pipe_start: bytes (and with `fin` the end) that were taken from the end
// on `side`, and not yet consumed, before it was attached. They go first.
void pipe_push(struct pipe *pipe, enum pipe_side side, struct chain *data, bool fin);
// Cuts the attached ends (policy change, deadline, removal, failure to connect). `done` follows,
// also at once when nothing is attached.
void pipe_cut(struct pipe *pipe, enum flow_end reason);

// Within the tap: bytes of the segment, in order.
void pipe_forward(struct pipe *pipe, enum pipe_side from, const struct seg *seg, uint32_t off,
                  uint32_t len);
// Bytes of our own towards PIPE_DOWN, behind what was forwarded.
void pipe_inject(struct pipe *pipe, struct slice bytes);
// Ends a started flow, of which no side has ended, in order: both sides get the end of the other
// one. What comes after that can reach nobody any more, and turns it into a cut. `done` follows
// when both sides have ended in their turn; pipe_end_now does not wait for that any longer.
void pipe_end(struct pipe *pipe, enum flow_end reason);
void pipe_end_now(struct pipe *pipe);

// Hand-over: counters, ends and backpressure; the attached ends are exported beside, and attached
// again after the import (pipe_attach; no pipe_start). False: it has not started, was cut, or bytes
// of a tap wait.
struct buf;
struct cur;
MUST_USE bool pipe_export(const struct pipe *pipe, struct buf *out);
// ret_has: the sides that are attached. False: malformed.
MUST_USE bool pipe_import(struct pipe *pipe, struct blk_pool *pool, void (*done)(struct pipe *pipe),
                          struct cur *in, bool ret_has[2]);
