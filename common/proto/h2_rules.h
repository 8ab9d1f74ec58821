// SPDX-License-Identifier: Apache-2.0
//
// What a decoded field list must keep to be a message at all (RFC 9113 8.2 and 8.3, RFC 8441):
// character sets, lower-case names, no connection-specific fields, pseudo fields. A list that
// breaks a rule is malformed: a stream error. Pure; thread: any.
#pragma once

#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/h2_conn.h"

enum h2_list_kind { H2_LIST_REQUEST, H2_LIST_RESPONSE, H2_LIST_TRAILERS };

struct h2_list_info {
    uint16_t status; // responses
    bool is_connect; // requests: CONNECT without :protocol
    // What Content-Length announces of the body; -1: nothing, or it is invalid, or CONNECT's.
    int64_t body_len;
};

// allow_protocol: extended CONNECT was announced by the one who receives the request.
MUST_USE bool h2_rules_check(enum h2_list_kind kind, const struct http_field *fields,
                             size_t n_fields, bool allow_protocol, struct h2_list_info *ret_info);

bool h2_rules_name_is_valid(struct slice name); // token, no upper case; not a pseudo name
bool h2_rules_value_is_valid(struct slice value); // no NUL, CR, LF; no space at the ends
