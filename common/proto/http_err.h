// SPDX-License-Identifier: Apache-2.0
//
// Reasons for which an HTTP message is refused; the table is http_err.def. Thread: any.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

enum http_err {
#define HTTP_ERR(name, status, details, text) HTTP_ERR_##name,
#include "common/proto/http_err.def"
#undef HTTP_ERR
};

uint16_t http_err_status(enum http_err err); // of the answer to a request; 0 for HTTP_ERR_OK
const char *http_err_name(enum http_err err); // "BAD_METHOD"
const char *http_err_details(enum http_err err); // RESPONSE_CODE_DETAILS
const char *http_err_text(enum http_err err); // a sentence
struct slice http_err_body(enum http_err err); // of the answer to a request; may be empty
