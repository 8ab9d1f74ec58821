// SPDX-License-Identifier: Apache-2.0
//
// Follows the frames of a server in HTTP/2 bytes that somebody else speaks (RFC 9113 §4), without
// reading what is in them: to know where a frame of our own may be put between two of them, and
// which one may be.
//
// It has to see the server's bytes from the first one on. Whatever cannot be HTTP/2 makes it give
// up for good: then nothing may be inserted. Pure.
#pragma once

#include "common/base/slice.h"
#include "common/proto/h2_frame.h"

enum { H2_WALK_GOAWAY_LEN = H2_FRAME_HD_LEN + 8 };

struct h2_walk {
    uint32_t left; // of the frame's payload
    uint8_t head[H2_FRAME_HD_LEN];
    uint8_t n_head; // bytes of the next frame's head so far
    bool in_block; // a header block goes on: only CONTINUATION may follow (§4.3)
    bool has_settings; // the server's first frame has come (§3.4)
    bool got_goaway; // the server has said it itself: its last stream id must not grow (§6.8)
    bool is_lost;
};

void h2_walk_init(struct h2_walk *walk);
// Looks at bytes that follow. With `stop` it ends at the first place where GOAWAY may be inserted,
// which may be before the first byte. Returns how many were looked at (all without `stop`).
size_t h2_walk_feed(struct h2_walk *walk, struct slice in, bool stop);
// GOAWAY may be inserted behind what was looked at so far.
bool h2_walk_can_insert(const struct h2_walk *walk);
// The announcement of §6.8: all streams that are open, or on their way, are served; the client is
// to open no further one.
void h2_walk_goaway(uint8_t ret_frame[H2_WALK_GOAWAY_LEN]);
