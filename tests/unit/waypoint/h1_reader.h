// SPDX-License-Identifier: Apache-2.0
//
// A reader of HTTP/1.1 messages that shares nothing with the one under test (RFC 9112). What is not
// a message fails a CHECK: the waypoint wrote it.
#pragma once

#include "common/base/slice.h"

enum { H1_READER_HEAD_MAX = 16 * 1024 };

struct h1_reader {
    void (*on_head)(void *arg, const char *head); // its lines, CRLF between them, NUL behind
    void (*on_body)(void *arg, const uint8_t *bytes, size_t len);
    void (*on_end)(void *arg); // of the message
    void *arg;
    bool is_response;
    bool has_no_body; // of a response: the request was HEAD; set it before the head
    // private
    uint8_t state;
    char head[H1_READER_HEAD_MAX];
    size_t n_head;
    uint64_t n_left;
};

// Reads up to the end of a message; returns how much was taken.
size_t h1_reader_read(struct h1_reader *reader, const uint8_t *bytes, size_t len);
// The end of the connection. True: between messages, or it ends one.
bool h1_reader_end(struct h1_reader *reader);
bool h1_reader_is_between(const struct h1_reader *reader); // messages
// The value of a header in the text of on_head; false: there is none.
bool h1_reader_field(const char *head, const char *name, char *ret_value, size_t cap);
