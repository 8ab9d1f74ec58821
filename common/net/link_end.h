// SPDX-License-Identifier: Apache-2.0
//
// A plain TCP link as a duplex: the application's side of a flow, or both sides of a passthrough.
#pragma once

#include "common/net/duplex.h"
#include "common/rt/link.h"

enum {
    LINK_END_HIGH = 256 * 1024, // queued bytes above which can_send() is false
    LINK_END_LOW = 64 * 1024, // and at which it is true again
};

struct link_end {
    struct duplex duplex;
    struct link link;
    bool is_full, is_cut, is_finishing;
};

// Takes over the connected fd. Data is received into slots with room for DATA and record headers.
// The owner sets duplex.events and owner (pipe_attach) before it starts the end.
void link_end_init(struct link_end *end, struct loop *loop, int fd);

// Hand-over (link.h): as for links. Not exportable once it is cut or closes. The imported end is
// attached (pipe_attach) before link_end_thaw.
struct buf;
struct cur;
void link_end_freeze(struct link_end *end);
bool link_end_is_quiet(const struct link_end *end);
void link_end_thaw(struct link_end *end);
MUST_USE bool link_end_export(const struct link_end *end, struct buf *out);
int link_end_release(struct link_end *end);
MUST_USE bool link_end_import(struct link_end *end, struct loop *loop, int fd, struct cur *in);
