// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_hpack.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

enum {
    DECODER_SIZE = 1536, // what libnghttp2 takes for one with an empty table, about
    FIELD_OVERHEAD = 24, // literal: type byte, index and two lengths
};

void h2_hpack_dec_init(struct h2_hpack_dec *dec, uint32_t table_size) {
    *dec = (struct h2_hpack_dec){.table_size = table_size};
}

void h2_hpack_dec_fini(struct h2_hpack_dec *dec) {
    if (dec->inflater != NULL) {
        nghttp2_hd_inflate_del(dec->inflater);
        dec->inflater = NULL;
    }
}

static bool feed_update_zero(nghttp2_hd_inflater *inflater) {
    static const uint8_t update = H2_HPACK_UPDATE_ZERO;
    nghttp2_nv nv;
    int flags = 0;
    return nghttp2_hd_inflate_hd2(inflater, &nv, &flags, &update, 1, 0) == 1;
}

static void inflater_open(struct h2_hpack_dec *dec) {
    CHECK(nghttp2_hd_inflate_new(&dec->inflater) == 0);
    if (dec->is_acked) {
        CHECK(nghttp2_hd_inflate_change_table_size(dec->inflater, dec->table_size) == 0);
        if (dec->has_update && dec->table_size < H2_HPACK_TABLE_DEFAULT) {
            // The peer said so before; a table of size 0 has nothing else to restore.
            CHECK(feed_update_zero(dec->inflater));
        }
    }
}

void h2_hpack_dec_acked(struct h2_hpack_dec *dec) {
    if (dec->is_acked) {
        return;
    }
    dec->is_acked = true;
    if (dec->table_size == 0) {
        // An encoder that went down to 0 by itself has nothing to say again.
        dec->has_update = dec->inflater != NULL &&
                          nghttp2_hd_inflate_get_max_dynamic_table_size(dec->inflater) == 0;
        h2_hpack_dec_fini(dec); // the table is emptied; a new inflater starts in the same state
    } else if (dec->inflater != NULL) {
        CHECK(nghttp2_hd_inflate_change_table_size(dec->inflater, dec->table_size) == 0);
    }
}

static void block_done(struct h2_hpack_dec *dec) {
    CHECK(nghttp2_hd_inflate_end_headers(dec->inflater) == 0);
    if (dec->is_acked) {
        dec->has_update = true; // or it would have failed
        if (dec->table_size == 0) {
            h2_hpack_dec_fini(dec);
        }
    }
}

enum h2_hpack_result h2_hpack_decode(struct h2_hpack_dec *dec, struct slice *in, bool is_last,
                                     struct http_field *ret_field) {
    if (dec->inflater == NULL) {
        inflater_open(dec);
    }
    nghttp2_nv nv;
    int flags = 0;
    ssize_t used = nghttp2_hd_inflate_hd2(dec->inflater, &nv, &flags, in->ptr, in->len, is_last);
    if (used < 0) {
        return H2_HPACK_ERROR;
    }
    *in = slice_skip(*in, (size_t)used);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        *ret_field = (struct http_field){
            .name = slice_make(nv.name, nv.namelen),
            .value = slice_make(nv.value, nv.valuelen),
            .sensitive = (nv.flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0,
        };
        return H2_HPACK_FIELD;
    }
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
        block_done(dec);
        return H2_HPACK_DONE;
    }
    // Nothing came out, so all of the input must have gone in.
    return is_last || in->len > 0 ? H2_HPACK_ERROR : H2_HPACK_MORE;
}

size_t h2_hpack_dec_memory(const struct h2_hpack_dec *dec) {
    return dec->inflater == NULL
               ? 0
               : DECODER_SIZE + nghttp2_hd_inflate_get_dynamic_table_size(dec->inflater);
}

// ---- encoder

// RFC 7541 appendix A, by length of the name.
static const struct entry {
    const char *name, *value; // no value: only the name is of use
    uint8_t name_len, value_len, index;
} entries[] = {
    {"age", "", 3, 0, 21},
    {"via", "", 3, 0, 60},
    {"date", "", 4, 0, 33},
    {"etag", "", 4, 0, 34},
    {"from", "", 4, 0, 37},
    {"host", "", 4, 0, 38},
    {"link", "", 4, 0, 45},
    {"vary", "", 4, 0, 59},
    {":path", "/", 5, 1, 4},
    {":path", "/index.html", 5, 11, 5},
    {"allow", "", 5, 0, 22},
    {"range", "", 5, 0, 50},
    {"accept", "", 6, 0, 19},
    {"cookie", "", 6, 0, 32},
    {"expect", "", 6, 0, 35},
    {"server", "", 6, 0, 54},
    {":method", "GET", 7, 3, 2},
    {":method", "POST", 7, 4, 3},
    {":scheme", "http", 7, 4, 6},
    {":scheme", "https", 7, 5, 7},
    {":status", "200", 7, 3, 8},
    {":status", "204", 7, 3, 9},
    {":status", "206", 7, 3, 10},
    {":status", "304", 7, 3, 11},
    {":status", "400", 7, 3, 12},
    {":status", "404", 7, 3, 13},
    {":status", "500", 7, 3, 14},
    {"expires", "", 7, 0, 36},
    {"referer", "", 7, 0, 51},
    {"refresh", "", 7, 0, 52},
    {"if-match", "", 8, 0, 39},
    {"if-range", "", 8, 0, 42},
    {"location", "", 8, 0, 46},
    {":authority", "", 10, 0, 1},
    {"set-cookie", "", 10, 0, 55},
    {"user-agent", "", 10, 0, 58},
    {"retry-after", "", 11, 0, 53},
    {"content-type", "", 12, 0, 31},
    {"max-forwards", "", 12, 0, 47},
    {"accept-ranges", "", 13, 0, 18},
    {"authorization", "", 13, 0, 23},
    {"cache-control", "", 13, 0, 24},
    {"content-range", "", 13, 0, 30},
    {"if-none-match", "", 13, 0, 41},
    {"last-modified", "", 13, 0, 44},
    {"accept-charset", "", 14, 0, 15},
    {"content-length", "", 14, 0, 28},
    {"accept-encoding", "gzip, deflate", 15, 13, 16},
    {"accept-language", "", 15, 0, 17},
    {"content-encoding", "", 16, 0, 26},
    {"content-language", "", 16, 0, 27},
    {"content-location", "", 16, 0, 29},
    {"www-authenticate", "", 16, 0, 61},
    {"if-modified-since", "", 17, 0, 40},
    {"transfer-encoding", "", 17, 0, 57},
    {"proxy-authenticate", "", 18, 0, 48},
    {"content-disposition", "", 19, 0, 25},
    {"if-unmodified-since", "", 19, 0, 43},
    {"proxy-authorization", "", 19, 0, 49},
    {"strict-transport-security", "", 25, 0, 56},
    {"access-control-allow-origin", "", 27, 0, 20},
};

enum { MAX_NAME = 27 }; // of the table

// A name's entries begin at first[its length] and end at first[length + 1].
static uint8_t first_of_length(size_t len) {
    static const uint8_t first[MAX_NAME + 2] = {0,  0,  0,  0,  2,  8,  12, 16, 30, 33,
                                                33, 36, 37, 39, 45, 47, 49, 53, 55, 56,
                                                59, 59, 59, 59, 59, 59, 60, 60, 61};
    return first[len];
}

static uint8_t *put_int(uint8_t *at, uint8_t prefix, unsigned n_bits, size_t value) {
    size_t max = (1U << n_bits) - 1;
    if (value < max) {
        *at++ = (uint8_t)(prefix | value);
        return at;
    }
    *at++ = (uint8_t)(prefix | max);
    for (value -= max; value >= 0x80; value >>= 7) {
        *at++ = (uint8_t)(0x80 | value);
    }
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_text(uint8_t *at, struct slice text) {
    at = put_int(at, 0, 7, text.len);
    slice_copy(at, text);
    return at + text.len;
}

// The table's entry for the name, with the value too if there is one; NULL: none.
static const struct entry *find_entry(const struct http_field *field, bool *ret_has_value) {
    const struct entry *found = NULL;
    *ret_has_value = false;
    if (field->name.len > MAX_NAME) {
        return NULL;
    }
    uint8_t end = first_of_length(field->name.len + 1);
    for (uint8_t i = first_of_length(field->name.len); i < end; i++) {
        const struct entry *entry = &entries[i];
        if (memcmp(entry->name, field->name.ptr, entry->name_len) != 0) {
            continue;
        }
        found = found == NULL ? entry : found;
        if (entry->value_len > 0 &&
            slice_eq(field->value, slice_make(entry->value, entry->value_len))) {
            *ret_has_value = true;
            return entry;
        }
    }
    return found;
}

static uint8_t *put_field(uint8_t *at, const struct http_field *field) {
    bool has_value;
    const struct entry *entry = find_entry(field, &has_value);
    if (has_value && !field->sensitive) {
        return put_int(at, 0x80, 7, entry->index);
    }
    // RFC 7541 6.2.2 and 6.2.3: literal without indexing, or never to be indexed.
    at = put_int(at, field->sensitive ? 0x10 : 0, 4, entry != NULL ? entry->index : 0);
    if (entry == NULL) {
        at = put_text(at, field->name);
    }
    return put_text(at, field->value);
}

size_t h2_hpack_bound(const struct http_field *fields, size_t n_fields) {
    size_t bound = 0;
    for (size_t i = 0; i < n_fields; i++) {
        bound += fields[i].name.len + fields[i].value.len + FIELD_OVERHEAD;
    }
    return bound;
}

size_t h2_hpack_encode(const struct http_field *fields, size_t n_fields, uint8_t *buf, size_t cap) {
    CHECK(cap >= h2_hpack_bound(fields, n_fields));
    uint8_t *at = buf;
    for (size_t i = 0; i < n_fields; i++) {
        at = put_field(at, &fields[i]);
    }
    return (size_t)(at - buf);
}
