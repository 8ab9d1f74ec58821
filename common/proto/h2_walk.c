// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_walk.h"

#include <string.h>

void h2_walk_init(struct h2_walk *walk) {
    *walk = (struct h2_walk){0};
}

bool h2_walk_can_insert(const struct h2_walk *walk) {
    return !walk->is_lost && !walk->got_goaway && walk->has_settings && !walk->in_block &&
           walk->left == 0 && walk->n_head == 0;
}

// Frames of unknown types are legal (§5.5), but not within a header block.
static bool take_head(struct h2_walk *walk) {
    struct h2_frame_hd hd = h2_frame_hd_get(walk->head);
    walk->n_head = 0;
    walk->left = hd.len;
    if (!walk->has_settings) {
        walk->has_settings = true;
        return hd.type == H2_FRAME_SETTINGS && hd.id == 0 && (hd.flags & H2_FLAG_ACK) == 0;
    }
    if (walk->in_block && hd.type != H2_FRAME_CONTINUATION) {
        return false;
    }
    switch (hd.type) {
    case H2_FRAME_CONTINUATION:
        if (!walk->in_block) {
            return false;
        }
        walk->in_block = (hd.flags & H2_FLAG_END_HEADERS) == 0;
        break;
    case H2_FRAME_HEADERS:
    case H2_FRAME_PUSH_PROMISE:
        walk->in_block = (hd.flags & H2_FLAG_END_HEADERS) == 0;
        break;
    case H2_FRAME_GOAWAY:
        walk->got_goaway = true;
        break;
    default:
        break;
    }
    return true;
}

size_t h2_walk_feed(struct h2_walk *walk, struct slice in, bool stop) {
    size_t pos = 0;
    while (pos < in.len && !walk->is_lost) {
        if (stop && h2_walk_can_insert(walk)) {
            return pos;
        }
        if (walk->left > 0) {
            size_t n = MIN(in.len - pos, (size_t)walk->left);
            walk->left -= (uint32_t)n;
            pos += n;
            continue;
        }
        size_t n = MIN(in.len - pos, (size_t)(H2_FRAME_HD_LEN - walk->n_head));
        memcpy(walk->head + walk->n_head, in.ptr + pos, n);
        walk->n_head = (uint8_t)(walk->n_head + n);
        pos += n;
        walk->is_lost = walk->n_head == H2_FRAME_HD_LEN && !take_head(walk);
    }
    return walk->is_lost ? in.len : pos;
}

void h2_walk_goaway(uint8_t ret_frame[H2_WALK_GOAWAY_LEN]) {
    static const uint8_t payload[8] = {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}; // NO_ERROR
    h2_frame_hd_put(ret_frame, H2_FRAME_GOAWAY, 0, 0, sizeof(payload));
    memcpy(ret_frame + H2_FRAME_HD_LEN, payload, sizeof(payload));
}
