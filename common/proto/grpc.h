// SPDX-License-Identifier: Apache-2.0
//
// gRPC over HTTP/2, what of it is no HTTP: status codes, the timeout header, status texts, and
// messages with their length in front. Pure; any thread.
#pragma once

#include "common/base/buf.h"
#include "common/base/slice.h"

enum grpc_status {
#define GRPC_STATUS(name, number, label) GRPC_##name = (number),
#include "common/proto/grpc.def"
#undef GRPC_STATUS
};
const char *grpc_status_name(enum grpc_status status); // "UNAVAILABLE"; "?" of an unknown one
const char *grpc_status_label(enum grpc_status status); // for metrics: "unavailable"; "unknown"
// "UNAVAILABLE" or "14". False: neither.
bool grpc_status_parse(struct slice name, uint8_t *ret_status);
// What a client of gRPC is told when HTTP would say `status`.
enum grpc_status grpc_status_of_http(uint16_t status);

// grpc-timeout: up to 8 digits and a unit (H M S m u n), rounded up to milliseconds. False: not
// well-formed.
bool grpc_timeout_parse(struct slice value, uint64_t *ret_ms);
// The shortest way to write it; more than 8 digits of hours become 99999999H.
void grpc_timeout_append(uint64_t ms, struct buf *out);
// grpc-message: percent-encoded where it is not printable ASCII.
void grpc_message_append(struct slice message, struct buf *out);
// The same back, cut to fit with its NUL; what is malformed, and control characters, become '?'.
void grpc_message_decode(struct slice encoded, char *ret_text, size_t size);

// Messages in a stream of bytes: a flag (1 = compressed), 4 bytes of length, the message.
enum { GRPC_PREFIX_LEN = 5 };
void grpc_prefix_write(uint8_t ret_prefix[GRPC_PREFIX_LEN], uint32_t len);

enum grpc_read {
    GRPC_READ_MORE, // all is consumed, a message is not complete or has not begun
    GRPC_READ_MESSAGE,
    GRPC_READ_COMPRESSED, // no compression was offered, or the flag is neither 0 nor 1
    GRPC_READ_TOO_LARGE,
};

struct grpc_reader {
    uint8_t prefix[GRPC_PREFIX_LEN];
    uint8_t n_prefix; // bytes of it that are there
    // Of one that came in pieces: grows with what has come, not as announced; a large one goes with
    // the next call.
    struct buf message;
};

void grpc_reader_init(struct grpc_reader *reader, size_t message_max);
void grpc_reader_fini(struct grpc_reader *reader);
// Takes bytes from the front of *in. MESSAGE: *ret_message is in `in`, or in the reader until the
// next call. After an error nothing more is to be read.
enum grpc_read grpc_reader_next(struct grpc_reader *reader, struct slice *in,
                                struct slice *ret_message);
// Nothing of a message is left over.
bool grpc_reader_is_between(const struct grpc_reader *reader);
