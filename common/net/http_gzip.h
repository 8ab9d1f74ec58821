// SPDX-License-Identifier: Apache-2.0
//
// gzip of whole HTTP bodies (RFC 1952), for the operator's endpoints. Thread: any.
#pragma once

#include "common/base/buf.h"

// What an Accept-Encoding header allows (RFC 9110 §12.5.3); "" (none was sent) does not.
bool http_accepts_gzip(struct slice accept_encoding);
// Appends the compressed bytes to `out`. False: they do not fit.
MUST_USE bool http_gzip(struct slice body, struct buf *out);
