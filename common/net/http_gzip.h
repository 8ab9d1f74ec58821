// SPDX-License-Identifier: Apache-2.0
//
// gzip of HTTP bodies (RFC 1952), for the operator's endpoints. Thread: any.
#pragma once

#include "common/base/buf.h"

// What an Accept-Encoding header allows (RFC 9110 §12.5.3); "" (none was sent) does not.
bool http_accepts_gzip(struct slice accept_encoding);
// The same piece by piece. `is_last`: with this one it ends. False: it does not fit.
struct http_gzip_stream;
struct http_gzip_stream *http_gzip_stream_new(void);
MUST_USE bool http_gzip_stream_add(struct http_gzip_stream *stream, struct slice piece,
                                   bool is_last, struct buf *out);
void http_gzip_stream_free(struct http_gzip_stream *stream); // NULL ok
// Appends the compressed bytes to `out`. False: they do not fit.
MUST_USE bool http_gzip(struct slice body, struct buf *out);
