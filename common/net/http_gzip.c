// SPDX-License-Identifier: Apache-2.0
#include "common/net/http_gzip.h"

#include <zlib.h>

enum { GZIP_WINDOW_BITS = 15 + 16, GZIP_MEM_LEVEL = 8 }; // + 16: a gzip header, not zlib's

// "q=0", "q=0.000" forbid; everything else that is written there allows.
static bool is_refused(struct slice params) {
    struct slice name, value;
    if (!slice_split(params, '=', &name, &value) ||
        !slice_eq_nocase(slice_trim(name), SLICE_LIT("q"))) {
        return false;
    }
    value = slice_trim(value);
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] != '0' && value.ptr[i] != '.') {
            return false;
        }
    }
    return value.len > 0;
}

bool http_accepts_gzip(struct slice accept_encoding) {
    bool by_any = false;
    while (accept_encoding.len > 0) {
        struct slice item, coding, params = {0};
        if (!slice_split(accept_encoding, ',', &item, &accept_encoding)) {
            item = accept_encoding;
            accept_encoding.len = 0;
        }
        if (!slice_split(item, ';', &coding, &params)) {
            coding = item;
        }
        coding = slice_trim(coding);
        if (slice_eq_nocase(coding, SLICE_LIT("gzip"))) {
            return !is_refused(params);
        }
        by_any = by_any || (slice_eq_str(coding, "*") && !is_refused(params));
    }
    return by_any;
}

bool http_gzip(struct slice body, struct buf *out) {
    z_stream stream = {0};
    // The fastest level: a tenth of the size is enough, and the control thread has other work.
    if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEM_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return false;
    }
    int rc = Z_OK;
    stream.next_in = (Bytef *)body.ptr;
    size_t left = body.len;
    while (rc == Z_OK) {
        enum { STEP = 256 * 1024 };
        uInt n_in = (uInt)MIN(left, (size_t)1 << 30);
        uint8_t *at = buf_reserve(out, STEP);
        if (at == NULL) {
            break;
        }
        stream.avail_in = n_in;
        stream.next_out = at;
        stream.avail_out = STEP;
        rc = deflate(&stream, n_in == left ? Z_FINISH : Z_NO_FLUSH);
        left -= n_in - stream.avail_in;
        buf_commit(out, STEP - stream.avail_out);
    }
    deflateEnd(&stream);
    return rc == Z_STREAM_END;
}
