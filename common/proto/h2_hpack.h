// SPDX-License-Identifier: Apache-2.0
//
// HPACK (RFC 7541): the decoder is libnghttp2's (nghttp2_hd API), the encoder our own.
//
// The encoder uses neither a dynamic table nor Huffman code. So it has no state but the size update
// that its first block carries, and coding costs both ends little more than a copy: a CONNECT with
// its answer takes a pair of our cores 2.3 us of CPU, with libnghttp2's encoder and Huffman code it
// was 4.2, for a head of 312 bytes instead of 230.
//
// The decoder keeps the default table of 4096 bytes until the peer acknowledged our SETTINGS, and
// then requires the size update that RFC 7541 4.2 demands of it. With an announced size of 0
// (HBONE) neither has state between blocks: nothing stays allocated.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/h2_conn.h"

struct nghttp2_hd_inflater;

enum { H2_HPACK_TABLE_DEFAULT = 4096 };

struct h2_hpack_dec {
    struct nghttp2_hd_inflater *inflater; // NULL while there is nothing to remember
    uint32_t table_size; // that we announced
    bool is_acked;
    bool has_update; // the peer's size update was seen (after is_acked)
};

enum h2_hpack_result {
    H2_HPACK_FIELD, // *ret_field is set; its slices are valid until the next call
    H2_HPACK_MORE, // input is used up
    H2_HPACK_DONE, // the block is complete
    H2_HPACK_ERROR, // COMPRESSION_ERROR: the connection cannot go on
};

void h2_hpack_dec_init(struct h2_hpack_dec *dec, uint32_t table_size);
void h2_hpack_dec_fini(struct h2_hpack_dec *dec);
// The peer acknowledged the SETTINGS with table_size. Not within a header block.
void h2_hpack_dec_acked(struct h2_hpack_dec *dec);
// Decodes from *in and advances it. `is_last`: the block ends with *in; call until DONE or ERROR.
MUST_USE enum h2_hpack_result h2_hpack_decode(struct h2_hpack_dec *dec, struct slice *in,
                                              bool is_last, struct http_field *ret_field);
size_t h2_hpack_dec_memory(const struct h2_hpack_dec *dec);

// Bytes that encoding may take at most.
size_t h2_hpack_bound(const struct http_field *fields, size_t n_fields);
// Encodes into buf (cap at least h2_hpack_bound), without a size update; returns the length.
size_t h2_hpack_encode(const struct http_field *fields, size_t n_fields, uint8_t *buf, size_t cap);
// The one-byte update to size 0 that must begin the first block on the wire.
enum { H2_HPACK_UPDATE_ZERO = 0x20 };
