// SPDX-License-Identifier: Apache-2.0
//
// HTTP/2 frame codec (RFC 9113 sections 4 and 6): frame headers, the rules that a frame header must
// keep by itself, settings. What depends on the state of streams is h2_recv's business.
// Pure functions; thread: any.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/h2_conn.h"

enum {
    H2_FRAME_HD_LEN = 9,
    H2_FRAME_SIZE_MIN = 16384, // smallest SETTINGS_MAX_FRAME_SIZE
    H2_FRAME_SIZE_MAX = (1 << 24) - 1,
    H2_WINDOW_INIT = 65535, // before any SETTINGS
    H2_WINDOW_MAX = INT32_MAX,
    H2_STREAM_ID_MAX = INT32_MAX,
    H2_PREFACE_LEN = 24,
};

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum h2_frame_type {
    H2_FRAME_DATA = 0,
    H2_FRAME_HEADERS = 1,
    H2_FRAME_PRIORITY = 2,
    H2_FRAME_RST_STREAM = 3,
    H2_FRAME_SETTINGS = 4,
    H2_FRAME_PUSH_PROMISE = 5,
    H2_FRAME_PING = 6,
    H2_FRAME_GOAWAY = 7,
    H2_FRAME_WINDOW_UPDATE = 8,
    H2_FRAME_CONTINUATION = 9,
    H2_FRAME_N_KNOWN = 10,
};

enum {
    H2_FLAG_ACK = 0x1,
    H2_FLAG_END_STREAM = 0x1,
    H2_FLAG_END_HEADERS = 0x4,
    H2_FLAG_PADDED = 0x8,
    H2_FLAG_PRIORITY = 0x20,
};

enum h2_setting {
    H2_SETTING_HEADER_TABLE_SIZE = 1,
    H2_SETTING_ENABLE_PUSH = 2,
    H2_SETTING_MAX_CONCURRENT_STREAMS = 3,
    H2_SETTING_INITIAL_WINDOW_SIZE = 4,
    H2_SETTING_MAX_FRAME_SIZE = 5,
    H2_SETTING_MAX_HEADER_LIST_SIZE = 6,
    H2_SETTING_ENABLE_CONNECT_PROTOCOL = 8, // RFC 8441
};

struct h2_frame_hd {
    uint32_t len;
    uint32_t id; // without the reserved bit
    uint8_t type;
    uint8_t flags;
};

static inline uint32_t h2_get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void h2_put32(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)(value >> 24);
    p[1] = (uint8_t)(value >> 16);
    p[2] = (uint8_t)(value >> 8);
    p[3] = (uint8_t)value;
}
static inline void h2_put64(uint8_t *p, uint64_t value) {
    h2_put32(p, (uint32_t)(value >> 32));
    h2_put32(p + 4, (uint32_t)value);
}
static inline uint64_t h2_get64(const uint8_t *p) {
    return (uint64_t)h2_get32(p) << 32 | h2_get32(p + 4);
}

static inline struct h2_frame_hd h2_frame_hd_get(const uint8_t p[H2_FRAME_HD_LEN]) {
    return (struct h2_frame_hd){
        .len = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2],
        .type = p[3],
        .flags = p[4],
        .id = h2_get32(p + 5) & INT32_MAX,
    };
}
static inline void h2_frame_hd_put(uint8_t p[H2_FRAME_HD_LEN], enum h2_frame_type type,
                                   uint8_t flags, uint32_t id, uint32_t len) {
    h2_put32(p, len << 8 | (uint32_t)type);
    p[4] = flags;
    h2_put32(p + 5, id);
}

// Rules of one frame header alone: stream id 0 or not, length (fixed, minimum, multiple), and the
// limit that we announced. H2_NO_ERROR, or why the connection must end. Unknown types pass.
MUST_USE enum h2_err h2_frame_check(const struct h2_frame_hd *frame, uint32_t max_frame_size);

// Bytes in front of a DATA or HEADERS payload: pad length, priority.
static inline uint32_t h2_frame_prefix_len(const struct h2_frame_hd *frame) {
    uint32_t len = (frame->flags & H2_FLAG_PADDED) != 0 ? 1 : 0;
    if (frame->type == H2_FRAME_HEADERS && (frame->flags & H2_FLAG_PRIORITY) != 0) {
        len += 5;
    }
    return len;
}

// Legal values of a setting that a peer sends (RFC 9113 6.5.2, RFC 8441 3); unknown ones pass.
MUST_USE enum h2_err h2_setting_check(uint16_t id, uint32_t value, bool from_server);
