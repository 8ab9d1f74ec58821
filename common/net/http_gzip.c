// SPDX-License-Identifier: Apache-2.0
#include "common/net/http_gzip.h"

#include <stdlib.h>
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

struct http_gzip_stream {
    z_stream z;
};

struct http_gzip_stream *http_gzip_stream_new(void) {
    struct http_gzip_stream *stream = xcalloc(1, sizeof(*stream));
    // The fastest level: a tenth of the size is enough, and the control thread has other work.
    CHECK(deflateInit2(&stream->z, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEM_LEVEL,
                       Z_DEFAULT_STRATEGY) == Z_OK);
    return stream;
}

void http_gzip_stream_free(struct http_gzip_stream *stream) {
    if (stream != NULL) {
        deflateEnd(&stream->z);
        free(stream);
    }
}

bool http_gzip_stream_add(struct http_gzip_stream *stream, struct slice piece, bool is_last,
                          struct buf *out) {
    enum { STEP = 256 * 1024 };
    z_stream *z = &stream->z;
    size_t left = piece.len;
    int rc = Z_OK;
    z->next_in = (Bytef *)piece.ptr;
    do {
        uInt n_in = (uInt)MIN(left, (size_t)1 << 30);
        uint8_t *at = buf_reserve(out, STEP);
        if (at == NULL) {
            return false;
        }
        z->avail_in = n_in;
        z->next_out = at;
        z->avail_out = STEP;
        rc = deflate(z, is_last && n_in == left ? Z_FINISH : Z_NO_FLUSH);
        left -= n_in - z->avail_in;
        buf_commit(out, STEP - z->avail_out);
    } while (rc == Z_OK && (left > 0 || z->avail_out == 0 || is_last));
    return is_last ? rc == Z_STREAM_END : rc == Z_OK || rc == Z_BUF_ERROR;
}

bool http_gzip(struct slice body, struct buf *out) {
    struct http_gzip_stream *stream = http_gzip_stream_new();
    bool is_ok = http_gzip_stream_add(stream, body, true, out);
    http_gzip_stream_free(stream);
    return is_ok;
}
