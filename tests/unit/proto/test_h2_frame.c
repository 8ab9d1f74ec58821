// SPDX-License-Identifier: Apache-2.0
//
// Every rule of legality: a row is a script of raw frames, what the core must say about it, and
// what it must answer. Each row is fed whole, byte by byte and in random pieces, with the same
// result.
#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/proto/h2_hpack.h"

struct row {
    const char *name;
    bool is_client; // the core under test is a client with stream 1 open (GET)
    void (*script)(struct wire *wire);
    const char *log; // must be contained in the events
    const char *out; // and in the frames sent; NULL: the connection must be alive
};

static void raw(struct wire *w, unsigned type, unsigned flags, uint32_t id, size_t len) {
    static const uint8_t zeros[70000];
    wire_frame(w, type, flags, id, zeros, len);
}

static void request(struct wire *w, uint32_t id, unsigned flags) {
    wire_headers(w, id, REQ_GET, flags);
}

// clang-format off
#define SCRIPT(name) static void name(struct wire *w)
// ---- the connection's beginning
SCRIPT(first_is_ping) { wire_add(w, H2_PREFACE, H2_PREFACE_LEN); raw(w, 6, 0, 0, 8); }
SCRIPT(first_is_ack) { wire_add(w, H2_PREFACE, H2_PREFACE_LEN); wire_settings_ack(w); }
SCRIPT(no_preface) { wire_add(w, "GET / HTTP/1.1\r\n\r\n        ", 26); }
SCRIPT(short_garbage) { wire_add(w, "PRI * HTTP/2.0\r\n\r\nXX", 20); }
// ---- stream ids and sizes
SCRIPT(data_on_0) { wire_preface(w); raw(w, 0, 0, 0, 1); }
SCRIPT(headers_on_0) { wire_preface(w); raw(w, 1, 4, 0, 1); }
SCRIPT(priority_on_0) { wire_preface(w); raw(w, 2, 0, 0, 5); }
SCRIPT(rst_on_0) { wire_preface(w); raw(w, 3, 0, 0, 4); }
SCRIPT(settings_on_1) { wire_preface(w); raw(w, 4, 0, 1, 0); }
SCRIPT(ping_on_1) { wire_preface(w); raw(w, 6, 0, 1, 8); }
SCRIPT(goaway_on_1) { wire_preface(w); raw(w, 7, 0, 1, 8); }
SCRIPT(continuation_on_0) { wire_preface(w); raw(w, 9, 4, 0, 1); }
SCRIPT(priority_size) { wire_preface(w); raw(w, 2, 0, 1, 4); }
SCRIPT(rst_size) { wire_preface(w); raw(w, 3, 0, 1, 5); }
SCRIPT(settings_size) { wire_preface(w); raw(w, 4, 0, 0, 5); }
SCRIPT(settings_ack_size) { wire_preface(w); raw(w, 4, 1, 0, 6); }
SCRIPT(ping_size) { wire_preface(w); raw(w, 6, 0, 0, 7); }
SCRIPT(goaway_size) { wire_preface(w); raw(w, 7, 0, 0, 7); }
SCRIPT(window_size) { wire_preface(w); raw(w, 8, 0, 0, 3); }
SCRIPT(too_large) { wire_preface(w); request(w, 1, 0); raw(w, 0, 0, 1, 16385); }
SCRIPT(unknown_too_large) { wire_preface(w); raw(w, 77, 0, 0, 16385); }
SCRIPT(unknown_ignored) {
    wire_preface(w); raw(w, 77, 255, 3, 500); raw(w, 10, 0, 0, 0); request(w, 1, 1);
}
SCRIPT(reserved_bit) {
    wire_preface(w); raw(w, 8, 0, 0, 0); w->len -= 9; wire_u32_frame(w, 8, 0x80000000, 5);
    request(w, 1, 1);
}
// ---- idle streams
SCRIPT(data_idle) { wire_preface(w); raw(w, 0, 0, 1, 1); }
SCRIPT(rst_idle) { wire_preface(w); raw(w, 3, 0, 1, 4); }
SCRIPT(window_idle) { wire_preface(w); wire_u32_frame(w, 8, 1, 5); }
SCRIPT(priority_idle) { wire_preface(w); raw(w, 2, 0, 7, 5); request(w, 1, 1); }
SCRIPT(even_id) { wire_preface(w); request(w, 2, 1); }
SCRIPT(id_falls) { wire_preface(w); request(w, 5, 1); request(w, 3, 1); }
SCRIPT(window_even_idle) { wire_preface(w); wire_u32_frame(w, 8, 2, 5); }
// ---- header blocks
SCRIPT(cont_alone) { wire_preface(w); request(w, 1, 0); raw(w, 9, 4, 1, 1); }
SCRIPT(cont_missing) {
    wire_preface(w);
    uint8_t b[200]; size_t n = wire_block(b, sizeof(b), REQ_GET, true);
    wire_frame(w, 1, 0, 1, b, n);
    raw(w, 6, 0, 0, 8);
}
SCRIPT(cont_other_stream) {
    wire_preface(w);
    uint8_t b[200]; size_t n = wire_block(b, sizeof(b), REQ_GET, true);
    wire_frame(w, 1, 0, 1, b, n - 1);
    wire_frame(w, 9, 4, 3, b + n - 1, 1);
}
SCRIPT(cont_pieces) {
    wire_preface(w);
    uint8_t b[200]; size_t n = wire_block(b, sizeof(b), REQ_GET, true);
    wire_frame(w, 1, 1, 1, b, 3);
    wire_frame(w, 9, 0, 1, b + 3, 0);
    wire_frame(w, 9, 0, 1, b + 3, 1);
    wire_frame(w, 9, 0, 1, b + 4, n - 4);
    wire_frame(w, 9, 4, 1, b, 0);
}
SCRIPT(padded_priority) {
    wire_preface(w);
    uint8_t b[200], f[300]; size_t n = wire_block(b, sizeof(b), REQ_GET, true);
    memset(f, 0, sizeof(f));
    f[0] = 40; // pad length
    f[4] = 1; // depends on 1: itself, ignored as all priority is
    memcpy(f + 6, b, n);
    wire_frame(w, 1, 0x2d, 1, f, 6 + n + 40);
}
SCRIPT(padding_too_long) { wire_preface(w); uint8_t f[6] = {9}; wire_frame(w, 1, 0x2c, 1, f, 6); }
SCRIPT(prefix_missing) { wire_preface(w); uint8_t f[5] = {0}; wire_frame(w, 1, 0x2c, 1, f, 5); }
SCRIPT(bad_hpack) {
    wire_preface(w); uint8_t f[3] = {0xff, 0xff, 0xff}; wire_frame(w, 1, 5, 1, f, 3);
}
SCRIPT(cut_hpack) { wire_preface(w); uint8_t f[2] = {0x00, 0x05}; wire_frame(w, 1, 5, 1, f, 2); }
SCRIPT(hpack_index_0) { wire_preface(w); uint8_t f[1] = {0x80}; wire_frame(w, 1, 5, 1, f, 1); }
SCRIPT(empty_block) { wire_preface(w); wire_frame(w, 1, 5, 1, NULL, 0); }
SCRIPT(push_promise) { wire_preface(w); request(w, 1, 1); raw(w, 5, 4, 1, 8); }
// After our SETTINGS (table size 0) were acknowledged the block must begin with the update.
SCRIPT(update_missing) {
    wire_preface(w); wire_settings_ack(w);
    uint8_t b[200]; size_t n = wire_block(b, sizeof(b), REQ_GET, false);
    wire_frame(w, 1, 5, 1, b, n);
}
SCRIPT(update_once) {
    wire_preface(w); wire_settings_ack(w); request(w, 1, 1);
    uint8_t b[200]; size_t n = wire_block(b, sizeof(b), REQ_GET, false);
    wire_frame(w, 1, 5, 3, b, n);
}
// Before that the dynamic table of 4096 may be used: insert in one block, refer to it in the next.
SCRIPT(table_before_ack) {
    wire_preface(w);
    uint8_t b[400] = {0x40, 1, 'x', 1, 'y'}; size_t n = wire_block(b + 100, 200, REQ_GET, false);
    memcpy(b + 200, b + 100, n); memcpy(b + 200 + n, b, 5);
    wire_frame(w, 1, 5, 1, b + 200, n + 5);
    memcpy(b + 200, b + 100, n); b[200 + n] = 0xbe;
    wire_frame(w, 1, 5, 3, b + 200, n + 1);
}
SCRIPT(table_after_ack) {
    wire_preface(w);
    uint8_t b[400] = {0x40, 1, 'x', 1, 'y'}; size_t n = wire_block(b + 100, 200, REQ_GET, false);
    memcpy(b + 200, b + 100, n); memcpy(b + 200 + n, b, 5);
    wire_frame(w, 1, 5, 1, b + 200, n + 5);
    wire_settings_ack(w);
    b[200] = 0x20; memcpy(b + 201, b + 100, n); b[201 + n] = 0xbe;
    wire_frame(w, 1, 5, 3, b + 200, n + 2);
}
// ---- stream states
SCRIPT(data_half_closed) { wire_preface(w); request(w, 1, 1); wire_data(w, 1, 3, false); }
SCRIPT(headers_half_closed) { wire_preface(w); request(w, 1, 1); request(w, 1, 1); }
SCRIPT(window_half_closed) {
    wire_preface(w); request(w, 1, 1); wire_u32_frame(w, 8, 1, 7); raw(w, 2, 0, 1, 5);
}
SCRIPT(data_after_rst) {
    wire_preface(w); request(w, 1, 0); raw(w, 3, 0, 1, 4); wire_data(w, 1, 3, false);
}
SCRIPT(headers_after_rst) {
    wire_preface(w); request(w, 1, 0); raw(w, 3, 0, 1, 4); request(w, 1, 1);
}
SCRIPT(window_after_rst) {
    wire_preface(w); request(w, 1, 0); raw(w, 3, 0, 1, 4); wire_u32_frame(w, 8, 1, 7);
    raw(w, 3, 0, 1, 4);
}
SCRIPT(data_unused_id) { wire_preface(w); request(w, 5, 1); wire_data(w, 3, 3, false); }
SCRIPT(late_after_our_reset) {
    wire_preface(w); wire_headers(w, 1, ":method=GET|:path=/", 0); // malformed: we reset it
    wire_data(w, 1, 100, false); wire_u32_frame(w, 8, 1, 1); wire_headers(w, 1, "a=b", 1);
}
SCRIPT(trailers) {
    wire_preface(w); request(w, 1, 0); wire_data(w, 1, 3, false); wire_headers(w, 1, "a=b", 1);
}
SCRIPT(trailers_empty) { wire_preface(w); request(w, 1, 0); wire_frame(w, 1, 5, 1, NULL, 0); }
SCRIPT(trailers_not_end) { wire_preface(w); request(w, 1, 0); wire_headers(w, 1, "a=b", 0); }
SCRIPT(trailers_pseudo) { wire_preface(w); request(w, 1, 0); wire_headers(w, 1, ":path=/", 1); }
SCRIPT(trailers_connect) {
    wire_preface(w); wire_headers(w, 1, REQ_CONNECT, 0); wire_headers(w, 1, "a=b", 1);
}
SCRIPT(data_padded) {
    wire_preface(w); request(w, 1, 0);
    uint8_t f[20] = {5, 'a', 'b', 'c'};
    wire_frame(w, 0, 8, 1, f, 9);
    f[0] = 0; wire_frame(w, 0, 8, 1, f, 4);
    f[0] = 3; wire_frame(w, 0, 9, 1, f, 4);
}
SCRIPT(data_pad_too_long) {
    wire_preface(w); request(w, 1, 0); uint8_t f[4] = {4}; wire_frame(w, 0, 8, 1, f, 4);
}
SCRIPT(data_pad_missing) { wire_preface(w); request(w, 1, 0); wire_frame(w, 0, 8, 1, NULL, 0); }
SCRIPT(data_empty_end) { wire_preface(w); request(w, 1, 0); wire_frame(w, 0, 1, 1, NULL, 0); }
// ---- windows and settings
SCRIPT(window_zero_conn) { wire_preface(w); wire_u32_frame(w, 8, 0, 0); }
SCRIPT(window_zero_stream) { wire_preface(w); request(w, 1, 0); wire_u32_frame(w, 8, 1, 0); }
SCRIPT(window_overflow_conn) { wire_preface(w); wire_u32_frame(w, 8, 0, 0x7fffffff); }
SCRIPT(window_overflow_stream) {
    wire_preface(w); request(w, 1, 0); wire_u32_frame(w, 8, 1, 0x7fffffff);
}
SCRIPT(setting_push) { wire_preface(w); wire_settings(w, 1, (const uint32_t[][2]){{2, 2}}); }
SCRIPT(setting_window) {
    wire_preface(w); wire_settings(w, 1, (const uint32_t[][2]){{4, 0x80000000}});
}
SCRIPT(setting_window_overflow) {
    wire_preface(w); request(w, 1, 0); wire_u32_frame(w, 8, 1, 0x7fffffff - 65535);
    wire_settings(w, 1, (const uint32_t[][2]){{4, 65536}});
}
SCRIPT(setting_frame_low) {
    wire_preface(w); wire_settings(w, 1, (const uint32_t[][2]){{5, 16383}});
}
SCRIPT(setting_frame_high) {
    wire_preface(w); wire_settings(w, 1, (const uint32_t[][2]){{5, 1 << 24}});
}
SCRIPT(setting_connect) { wire_preface(w); wire_settings(w, 1, (const uint32_t[][2]){{8, 2}}); }
SCRIPT(setting_connect_back) {
    wire_preface(w); wire_settings(w, 2, (const uint32_t[][2]){{8, 1}, {8, 0}});
}
SCRIPT(setting_unknown) {
    wire_preface(w); wire_settings(w, 2, (const uint32_t[][2]){{99, 7}, {0x4a4a, 1}});
}
SCRIPT(flow_stream) { // 65 535 in a window of that size and no more
    wire_preface(w); request(w, 1, 0);
    for (int i = 0; i < 4; i++) { raw(w, 0, 0, 1, 16384); }
}
SCRIPT(ping) {
    wire_preface(w); wire_frame(w, 6, 0, 0, "abcdefgh", 8); wire_frame(w, 6, 1, 0, "unasked.", 8);
}
SCRIPT(goaway) { wire_preface(w); request(w, 1, 0); raw(w, 7, 0, 0, 30); wire_data(w, 1, 5, true); }
// ---- messages
SCRIPT(upper_case) { wire_preface(w); wire_headers(w, 1, REQ_GET "|Abc=x", 1); }
SCRIPT(connection_field) { wire_preface(w); wire_headers(w, 1, REQ_GET "|connection=close", 1); }
SCRIPT(connect_with_path) { wire_preface(w); wire_headers(w, 1, REQ_CONNECT "|:path=/", 1); }
// ---- client
SCRIPT(response) { wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=200|a=b", 1); }
SCRIPT(client_first) { wire_headers(w, 1, ":status=200", 1); }
SCRIPT(informational) {
    wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=100", 0);
    wire_headers(w, 1, ":status=204", 1);
}
SCRIPT(informational_end) { wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=100", 1); }
SCRIPT(status_101) { wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=101", 0); }
SCRIPT(data_first) { wire_settings(w, 0, NULL); wire_data(w, 1, 5, false); }
SCRIPT(data_after_1xx) {
    wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=100", 0); wire_data(w, 1, 5, false);
}
SCRIPT(pushed) { wire_settings(w, 0, NULL); wire_headers(w, 2, ":status=200", 1); }
SCRIPT(response_idle) { wire_settings(w, 0, NULL); wire_headers(w, 3, ":status=200", 1); }
SCRIPT(client_push) { wire_settings(w, 0, NULL); raw(w, 5, 4, 1, 8); }
SCRIPT(client_setting_push) { wire_settings(w, 1, (const uint32_t[][2]){{2, 1}}); }
SCRIPT(client_trailers) {
    wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=200", 0); wire_data(w, 1, 5, false);
    wire_headers(w, 1, "t=1", 1);
}
SCRIPT(response_to_closed) {
    wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=200", 1); wire_headers(w, 1, ":status=200", 1);
}
SCRIPT(rst_clean) {
    wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=200", 1); wire_u32_frame(w, 3, 1, 0);
}
SCRIPT(rst_early) {
    wire_settings(w, 0, NULL); wire_headers(w, 1, ":status=200", 0); wire_u32_frame(w, 3, 1, 0);
}
SCRIPT(rst_unknown_code) { wire_settings(w, 0, NULL); wire_u32_frame(w, 3, 1, 77); }
SCRIPT(goaway_refuses) { wire_settings(w, 0, NULL); raw(w, 7, 0, 0, 8); }

static const struct row rows[] = {
#define CONN(script, err, code) \
    {#script, false, script, "CONN_ERROR " err "\n", "GOAWAY f0 s0 last=" code "\n"}
    CONN(first_is_ping, "bad_preface", "0 code=1"),
    CONN(first_is_ack, "bad_preface", "0 code=1"),
    CONN(no_preface, "bad_preface", "0 code=1"),
    CONN(short_garbage, "bad_preface", "0 code=1"),
    CONN(data_on_0, "bad_frame_stream", "0 code=1"),
    CONN(headers_on_0, "bad_frame_stream", "0 code=1"),
    CONN(priority_on_0, "bad_frame_stream", "0 code=1"),
    CONN(rst_on_0, "bad_frame_stream", "0 code=1"),
    CONN(settings_on_1, "bad_frame_stream", "0 code=1"),
    CONN(ping_on_1, "bad_frame_stream", "0 code=1"),
    CONN(goaway_on_1, "bad_frame_stream", "0 code=1"),
    CONN(continuation_on_0, "bad_frame_stream", "0 code=1"),
    CONN(priority_size, "frame_size_error", "0 code=6"),
    CONN(rst_size, "frame_size_error", "0 code=6"),
    CONN(settings_size, "frame_size_error", "0 code=6"),
    CONN(settings_ack_size, "frame_size_error", "0 code=6"),
    CONN(ping_size, "frame_size_error", "0 code=6"),
    CONN(goaway_size, "frame_size_error", "0 code=6"),
    CONN(window_size, "frame_size_error", "0 code=6"),
    CONN(too_large, "frame_size_error", "1 code=6"),
    CONN(unknown_too_large, "frame_size_error", "0 code=6"),
    {"unknown_ignored", false, unknown_ignored, "HEADERS s1", NULL},
    {"reserved_bit", false, reserved_bit, "HEADERS s1", NULL},
    CONN(data_idle, "bad_stream_id", "0 code=1"),
    CONN(rst_idle, "bad_stream_id", "0 code=1"),
    CONN(window_idle, "bad_stream_id", "0 code=1"),
    {"priority_idle", false, priority_idle, "HEADERS s1", NULL},
    CONN(even_id, "bad_stream_id", "0 code=1"),
    CONN(id_falls, "bad_stream_id", "5 code=1"),
    CONN(window_even_idle, "bad_stream_id", "0 code=1"),
    CONN(cont_alone, "bad_continuation", "1 code=1"),
    CONN(cont_missing, "bad_continuation", "1 code=1"),
    CONN(cont_other_stream, "bad_continuation", "1 code=1"),
    {"cont_pieces", false, cont_pieces,
     "HEADERS s1 :method=GET :scheme=https :path=/ :authority=a.b (end)\nEND s1\n", NULL},
    {"padded_priority", false, padded_priority, ":authority=a.b (end)\nEND s1\n", NULL},
    CONN(padding_too_long, "bad_padding", "1 code=1"),
    CONN(prefix_missing, "frame_size_error", "0 code=6"),
    CONN(bad_hpack, "compression_error", "1 code=9"),
    CONN(cut_hpack, "compression_error", "1 code=9"),
    CONN(hpack_index_0, "compression_error", "1 code=9"),
    {"empty_block", false, empty_block, "", "RST_STREAM f0 s1 1\n"},
    CONN(push_promise, "push_promise", "1 code=1"),
    CONN(update_missing, "compression_error", "1 code=9"),
    {"update_once", false, update_once, "END s3\n", NULL},
    {"table_before_ack", false, table_before_ack,
     "HEADERS s3 :method=GET :scheme=https :path=/ :authority=a.b x=y (end)\n", NULL},
    CONN(table_after_ack, "compression_error", "3 code=9"),
    {"data_half_closed", false, data_half_closed, "RESET s1 stream_closed\nCLOSED s1\n",
     "RST_STREAM f0 s1 5\n"},
    {"headers_half_closed", false, headers_half_closed, "RESET s1 stream_closed\nCLOSED s1\n",
     "RST_STREAM f0 s1 5\n"},
    {"window_half_closed", false, window_half_closed, "END s1\n", NULL},
    {"data_after_rst", false, data_after_rst, "RESET s1 no_error peer\nCLOSED s1\n",
     "RST_STREAM f0 s1 5\n"},
    CONN(headers_after_rst, "stream_closed", "1 code=5"),
    {"window_after_rst", false, window_after_rst, "RESET s1 no_error peer\nCLOSED s1\n", NULL},
    {"data_unused_id", false, data_unused_id, "END s5\n", "RST_STREAM f0 s3 5\n"},
    {"late_after_our_reset", false, late_after_our_reset, "", "RST_STREAM f0 s1 1\n"},
    {"trailers", false, trailers, "TRAILERS s1 a=b (end)\nEND s1\n", NULL},
    {"trailers_empty", false, trailers_empty, "TRAILERS s1 (end)\nEND s1\n", NULL},
    {"trailers_not_end", false, trailers_not_end, "RESET s1 bad_message\nCLOSED s1\n",
     "RST_STREAM f0 s1 1\n"},
    {"trailers_pseudo", false, trailers_pseudo, "RESET s1 bad_message\n", "RST_STREAM f0 s1 1\n"},
    {"trailers_connect", false, trailers_connect, "RESET s1 bad_message\n", "RST_STREAM f0 s1 1\n"},
    {"data_padded", false, data_padded, "DATA s1 len=6 ", NULL},
    CONN(data_pad_too_long, "bad_padding", "1 code=1"),
    CONN(data_pad_missing, "frame_size_error", "1 code=6"),
    {"data_empty_end", false, data_empty_end, ":authority=a.b\nEND s1\n", NULL},
    CONN(window_zero_conn, "zero_increment", "0 code=1"),
    {"window_zero_stream", false, window_zero_stream, "RESET s1 zero_increment\n",
     "RST_STREAM f0 s1 1\n"},
    CONN(window_overflow_conn, "flow_control_error", "0 code=3"),
    {"window_overflow_stream", false, window_overflow_stream, "RESET s1 flow_control_error\n",
     "RST_STREAM f0 s1 3\n"},
    CONN(setting_push, "bad_setting", "0 code=1"),
    CONN(setting_window, "flow_control_error", "0 code=3"),
    CONN(setting_window_overflow, "flow_control_error", "1 code=3"),
    CONN(setting_frame_low, "bad_setting", "0 code=1"),
    CONN(setting_frame_high, "bad_setting", "0 code=1"),
    CONN(setting_connect, "bad_setting", "0 code=1"),
    CONN(setting_connect_back, "bad_setting", "0 code=1"),
    {"setting_unknown", false, setting_unknown, "SETTINGS\nSETTINGS\n", NULL},
    {"flow_stream", false, flow_stream, "DATA s1 len=49152 ", "RST_STREAM f0 s1 3\n"},
    {"ping", false, ping, "SETTINGS\n", "PING f1 s0\n"},
    {"goaway", false, goaway, "GOAWAY last=0 no_error\nDATA s1 len=5", NULL},
    {"upper_case", false, upper_case, "", "RST_STREAM f0 s1 1\n"},
    {"connection_field", false, connection_field, "", "RST_STREAM f0 s1 1\n"},
    {"connect_with_path", false, connect_with_path, "", "RST_STREAM f0 s1 1\n"},
#define CLIENT_CONN(script, err, code) \
    {#script, true, script, "CONN_ERROR " err "\n", "GOAWAY f0 s0 last=0 code=" code "\n"}
    {"response", true, response, "HEADERS s1 :status=200 a=b (end)\nEND s1\nCLOSED s1\n", NULL},
    CLIENT_CONN(client_first, "bad_preface", "1"),
    {"informational", true, informational, "INFO s1 :status=100\nHEADERS s1 :status=204 (end)\n",
     NULL},
    {"informational_end", true, informational_end, "RESET s1 bad_message\n",
     "RST_STREAM f0 s1 1\n"},
    {"status_101", true, status_101, "RESET s1 bad_message\n", "RST_STREAM f0 s1 1\n"},
    {"data_first", true, data_first, "RESET s1 bad_message\n", "RST_STREAM f0 s1 1\n"},
    {"data_after_1xx", true, data_after_1xx, "RESET s1 bad_message\n", "RST_STREAM f0 s1 1\n"},
    CLIENT_CONN(pushed, "bad_stream_id", "1"),
    CLIENT_CONN(response_idle, "bad_stream_id", "1"),
    CLIENT_CONN(client_push, "push_promise", "1"),
    CLIENT_CONN(client_setting_push, "bad_setting", "1"),
    {"client_trailers", true, client_trailers, "TRAILERS s1 t=1 (end)\nEND s1\n", NULL},
    {"response_to_closed", true, response_to_closed, "CLOSED s1\n", "RST_STREAM f0 s1 5\n"},
    {"rst_clean", true, rst_clean, "END s1\nCLOSED s1\n", NULL},
    {"rst_early", true, rst_early, "RESET s1 no_error peer\nCLOSED s1\n", NULL},
    {"rst_unknown_code", true, rst_unknown_code, "RESET s1 internal_error peer\nCLOSED s1\n", NULL},
    {"goaway_refuses", true, goaway_refuses,
     "GOAWAY last=0 no_error\nRESET s1 refused_stream peer\nCLOSED s1\n", NULL},
};
// clang-format on

struct outcome {
    char *log, *out;
};

static void run(const struct row *row, size_t max_chunk, uint64_t seed, struct outcome *ret) {
    struct h2_end end;
    end_init(&end, !row->is_client);
    end.config.max_frame_size = H2_FRAME_SIZE_MIN;
    end.config.stream_window = H2_WINDOW_INIT;
    end.max_chunk = max_chunk;
    end.seed = seed;
    end.auto_consume = false;
    end_open(&end, !row->is_client);
    if (row->is_client) {
        struct http_field fields[8];
        enum h2_err err;
        size_t n = fields_of(REQ_GET, fields, 8);
        assert_non_null(h2_stream_open(end.conn, fields, n, true, NULL, &err));
    }
    struct wire out = {0};
    end_pull(&end, &out, 0);
    out.len = 0;
    struct wire in = {0};
    row->script(&in);
    end_feed(&end, in.bytes, in.len);
    end_pull(&end, &out, 0);
    ret->log = xstrdup(end_log(&end));
    ret->out = wire_text(&out, false);
    bool is_dead = strstr(row->log, "CONN_ERROR") != NULL;
    if (h2_conn_is_dead(end.conn) != is_dead || strstr(ret->log, row->log) == NULL ||
        (row->out != NULL && strstr(ret->out, row->out) == NULL)) {
        fail_msg("%s (chunk %zu): log\n%sout\n%s", row->name, max_chunk, ret->log, ret->out);
    }
    if (row->out == NULL &&
        (strstr(ret->out, "RST_STREAM") != NULL || strstr(ret->out, "GOAWAY") != NULL)) {
        fail_msg("%s: answered with an error: %s", row->name, ret->out);
    }
    wire_free(&in);
    wire_free(&out);
    end_fini(&end);
}

static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct outcome whole, other;
        run(&rows[i], 0, 0, &whole);
        for (uint64_t seed = 0; seed < 8; seed++) {
            run(&rows[i], seed == 0 ? 1 : 40, seed, &other);
            assert_string_equal(whole.log, other.log);
            assert_string_equal(whole.out, other.out);
            free(other.log);
            free(other.out);
        }
        free(whole.log);
        free(whole.out);
    }
}

// The answer to a malformed frame comes once, whatever follows.
static void test_dead_swallows(void **state) {
    (void)state;
    struct h2_end end;
    end_init(&end, true);
    end_open(&end, true);
    struct wire in = {0};
    data_on_0(&in);
    request(&in, 1, 1);
    end_feed(&end, in.bytes, in.len);
    end_feed(&end, in.bytes, in.len);
    assert_int_equal(end.n_events[H2_EV_CONN_ERROR], 1);
    assert_int_equal(end.n_events[H2_EV_HEADERS], 0);
    assert_int_equal(h2_conn_deadline(end.conn), TIME_NEVER);
    wire_free(&in);
    end_fini(&end);
}

static void test_err_table(void **state) {
    (void)state;
    for (uint32_t code = 0; code <= 0xd; code++) {
        assert_int_equal(h2_err_code(h2_err_from_code(code)), code);
    }
    assert_int_equal(h2_err_from_code(0xe), H2_INTERNAL_ERROR);
    assert_int_equal(h2_err_from_code(UINT32_MAX), H2_INTERNAL_ERROR);
    for (int err = 0; err <= H2_DRAINING; err++) {
        assert_true(strlen(h2_err_label((enum h2_err)err)) > 0);
        assert_true(strlen(h2_err_text((enum h2_err)err)) > 0);
        assert_true(h2_err_code((enum h2_err)err) <= 0xd);
    }
}

static void test_header_codec(void **state) {
    (void)state;
    uint8_t bytes[H2_FRAME_HD_LEN];
    h2_frame_hd_put(bytes, H2_FRAME_GOAWAY, 0xa5, 0x7fffffff, 0xfffffe);
    struct h2_frame_hd hd = h2_frame_hd_get(bytes);
    assert_int_equal(hd.len, 0xfffffe);
    assert_int_equal(hd.type, H2_FRAME_GOAWAY);
    assert_int_equal(hd.flags, 0xa5);
    assert_int_equal(hd.id, 0x7fffffff);
    bytes[5] |= 0x80;
    assert_int_equal(h2_frame_hd_get(bytes).id, 0x7fffffff);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_codec),
        cmocka_unit_test(test_err_table),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_dead_swallows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
