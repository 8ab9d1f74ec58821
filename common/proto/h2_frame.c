// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_frame.h"

enum id_rule { ON_STREAM, ON_CONN, ON_BOTH };

static const struct rule {
    uint8_t id; // enum id_rule
    uint8_t min_len;
    uint8_t fixed_len; // 0: any from min_len on
    uint8_t unit; // length is a multiple
} rules[H2_FRAME_N_KNOWN] = {
    [H2_FRAME_DATA] = {ON_STREAM, 0, 0, 1},        [H2_FRAME_HEADERS] = {ON_STREAM, 0, 0, 1},
    [H2_FRAME_PRIORITY] = {ON_STREAM, 0, 5, 1},    [H2_FRAME_RST_STREAM] = {ON_STREAM, 0, 4, 1},
    [H2_FRAME_SETTINGS] = {ON_CONN, 0, 0, 6},      [H2_FRAME_PUSH_PROMISE] = {ON_STREAM, 4, 0, 1},
    [H2_FRAME_PING] = {ON_CONN, 0, 8, 1},          [H2_FRAME_GOAWAY] = {ON_CONN, 8, 0, 1},
    [H2_FRAME_WINDOW_UPDATE] = {ON_BOTH, 0, 4, 1}, [H2_FRAME_CONTINUATION] = {ON_STREAM, 0, 0, 1},
};

enum h2_err h2_frame_check(const struct h2_frame_hd *frame, uint32_t max_frame_size) {
    if (frame->len > max_frame_size) {
        return H2_FRAME_SIZE_ERROR; // RFC 9113 4.2
    }
    if (frame->type >= H2_FRAME_N_KNOWN) {
        return H2_NO_ERROR; // RFC 9113 4.1: ignored
    }
    const struct rule *rule = &rules[frame->type];
    if ((rule->id == ON_STREAM && frame->id == 0) || (rule->id == ON_CONN && frame->id != 0)) {
        return H2_BAD_FRAME_STREAM;
    }
    if (rule->fixed_len != 0 && frame->len != rule->fixed_len) {
        return H2_FRAME_SIZE_ERROR;
    }
    if (frame->len < rule->min_len || frame->len % rule->unit != 0) {
        return H2_FRAME_SIZE_ERROR;
    }
    if (frame->type == H2_FRAME_SETTINGS && (frame->flags & H2_FLAG_ACK) != 0 && frame->len != 0) {
        return H2_FRAME_SIZE_ERROR; // RFC 9113 6.5
    }
    if (frame->type == H2_FRAME_DATA || frame->type == H2_FRAME_HEADERS) {
        return frame->len < h2_frame_prefix_len(frame) ? H2_FRAME_SIZE_ERROR : H2_NO_ERROR;
    }
    return H2_NO_ERROR;
}

enum h2_err h2_setting_check(uint16_t id, uint32_t value, bool from_server) {
    switch (id) {
    case H2_SETTING_ENABLE_PUSH:
        // RFC 9113 6.5.2: a server must not send 1.
        return value > (from_server ? 0 : 1) ? H2_BAD_SETTING : H2_NO_ERROR;
    case H2_SETTING_INITIAL_WINDOW_SIZE:
        return value > H2_WINDOW_MAX ? H2_FLOW_CONTROL_ERROR : H2_NO_ERROR;
    case H2_SETTING_MAX_FRAME_SIZE:
        return value < H2_FRAME_SIZE_MIN || value > H2_FRAME_SIZE_MAX ? H2_BAD_SETTING
                                                                      : H2_NO_ERROR;
    case H2_SETTING_ENABLE_CONNECT_PROTOCOL:
        return value > 1 ? H2_BAD_SETTING : H2_NO_ERROR;
    default:
        return H2_NO_ERROR;
    }
}
