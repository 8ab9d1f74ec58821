// SPDX-License-Identifier: Apache-2.0
//
// The header block that is being received: collects decoded fields under the header list limit,
// over HEADERS and CONTINUATION and over any cut of the input. Exists only from the HEADERS frame
// until its event was taken.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/h2_conn.h"
#include "common/proto/h2_hpack.h"

enum h2_block_use {
    H2_BLOCK_REQUEST, // opens a stream (server)
    H2_BLOCK_RESPONSE, // final or 1xx head (client)
    H2_BLOCK_TRAILERS,
    H2_BLOCK_DISCARD, // decoded only to keep the HPACK state
};

struct h2_block {
    uint32_t id;
    uint8_t use; // enum h2_block_use
    bool end_stream;
    bool is_too_big;
    bool is_done; // handed out; freed with the next call
    enum h2_err discard_err; // DISCARD: RST_STREAM with it at the end; NO_ERROR: silently
    uint16_t n_continuations;
    size_t n_raw; // encoded bytes so far
    size_t list_size; // RFC 9113 10.5.1: names, values and 32 each
    size_t n_fields;
    struct http_field *fields;
    struct h2_block_text *text; // chunks that the slices point into
};

struct h2_block *h2_block_new(uint32_t id, enum h2_block_use use, bool end_stream);
void h2_block_free(struct h2_block *block); // NULL ok
// Decodes one piece. H2_NO_ERROR, COMPRESSION_ERROR, or FLOOD_CONTINUATION when the encoded block
// is far larger than any list of `max_list` bytes could be. `is_last`: the block ends here. Fields
// beyond max_list are dropped and is_too_big is set.
MUST_USE enum h2_err h2_block_feed(struct h2_block *block, struct h2_hpack_dec *dec,
                                   struct slice piece, bool is_last, uint32_t max_list);
size_t h2_block_memory(const struct h2_block *block); // NULL ok
