// SPDX-License-Identifier: Apache-2.0
//
// As much HTTP/2 (RFC 9113) as it takes to ask for the answer of load_http.h once, with prior
// knowledge, on a blocking socket.
#pragma once

#include "bench/tools/load_http.h"

enum { H2_DATA, H2_HEADERS, H2_RST_STREAM = 3, H2_SETTINGS, H2_GOAWAY = 7, H2_HEAD = 9 };

LOAD_UNUSED static bool load_h2_frame(int fd, uint8_t type, uint8_t flags, uint8_t stream,
                                      const void *payload, size_t len) {
    uint8_t head[H2_HEAD] = {0, (uint8_t)(len >> 8), (uint8_t)len, type, flags, 0, 0, 0, stream};
    return load_send(fd, head, sizeof(head), 0) && load_send(fd, payload, len, 0);
}

// HPACK (RFC 7541): GET and http from the static table, :path and :authority as literals.
LOAD_UNUSED static size_t load_h2_fields(const char *path, const char *host, uint8_t out[512]) {
    size_t n = 0, path_len = strlen(path), host_len = strlen(host);
    if (path_len > 126 || host_len > 126) {
        die("%s: too long", path);
    }
    out[n++] = 0x82;
    out[n++] = 0x86;
    out[n++] = 0x04;
    out[n++] = (uint8_t)path_len;
    memcpy(out + n, path, path_len);
    n += path_len;
    out[n++] = 0x01;
    out[n++] = (uint8_t)host_len;
    memcpy(out + n, host, host_len);
    return n + host_len;
}

// One exchange on stream 1; false like load_send(). The body has to be `body_len` bytes.
LOAD_UNUSED static bool load_h2_exchange(int fd, const char *path, const char *host,
                                         uint32_t body_len) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    uint8_t fields[512], frame[16384];
    size_t n = load_h2_fields(path, host, fields);
    if (!load_send(fd, preface, sizeof(preface) - 1, MSG_MORE) ||
        !load_h2_frame(fd, H2_SETTINGS, 0, 0, NULL, 0) ||
        !load_h2_frame(fd, H2_HEADERS, 0x5, 1, fields, n)) {
        return false;
    }
    uint32_t got = 0;
    for (;;) {
        uint8_t head[H2_HEAD];
        if (!load_recv(fd, head, sizeof(head))) {
            return false;
        }
        uint32_t len = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
        if (len > sizeof(frame)) {
            die("a frame of %u bytes", len);
        }
        if (!load_recv(fd, frame, len)) {
            return false;
        }
        bool is_end = (head[3] == H2_DATA || head[3] == H2_HEADERS) && (head[4] & 1) != 0;
        got += head[3] == H2_DATA ? len : 0;
        uint32_t at = 0; // behind changes of the dynamic table's size
        while (head[3] == H2_HEADERS && at + 1 < len && (frame[at] & 0xe0) == 0x20) {
            at++;
        }
        // 0x88 is ":status: 200" of the static table, which every encoder uses.
        if (head[3] == H2_RST_STREAM || head[3] == H2_GOAWAY ||
            (head[3] == H2_HEADERS && frame[at] != 0x88) || (is_end && got != body_len)) {
            die("wrong answer: frame type %u, %02x%02x%02x%02x, %u bytes of body", head[3],
                frame[0], frame[1], frame[2], frame[3], got);
        }
        if (head[3] == H2_SETTINGS && (head[4] & 1) == 0 &&
            !load_h2_frame(fd, H2_SETTINGS, 1, 0, NULL, 0)) {
            return false;
        }
        if (is_end) {
            return true;
        }
    }
}
