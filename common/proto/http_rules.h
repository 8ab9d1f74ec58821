// SPDX-License-Identifier: Apache-2.0
//
// Rules of HTTP that hold in every version (RFC 9110), and the way between a head and a field list
// of HTTP/2. Pure; thread: any. What is allocated is the arena's; a function that would exceed the
// arena's maximum says so.
#pragma once

#include "common/base/arena.h"
#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/http_err.h"
#include "common/proto/http_msg.h"

// ---- characters

extern const uint8_t http_rules_lower[256]; // token characters in lower case; 0: not one

bool http_rules_is_token(struct slice text); // RFC 9110 5.6.2; false when empty
bool http_rules_is_name(struct slice name); // a token without upper case
// RFC 9110 5.5: no control characters but HTAB, no white space at the ends; obs-text is allowed.
bool http_rules_is_value(struct slice value);
// uri-host [ ":" port ] (RFC 9110 7.2): the characters, brackets around IPv6, a port of digits up
// to 65535. False when empty, and with userinfo.
bool http_rules_is_authority(struct slice authority);

// ---- fields

// The first field of that (lower-case) name, NULL: none.
const struct http_field *http_rules_find(const struct http_head *head, struct slice name);
// Next member of a comma-separated list (RFC 9110 5.6.1), trimmed, empty ones left out. False at
// the end. *list is what remains.
bool http_rules_next_member(struct slice *list, struct slice *ret_member);
// A list has that member, compared without case.
bool http_rules_has_member(struct slice list, struct slice member);

// What belongs to the connection and is never forwarded: Connection, Keep-Alive, Proxy-Connection,
// Transfer-Encoding, Upgrade, HTTP2-Settings. TE is apart: "trailers" of it is end-to-end here.
bool http_rules_is_hop_by_hop(struct slice name);
// What a trailer must not say (RFC 9110 6.5.1): framing, routing, authentication, how to read the
// body. Such fields are dropped.
bool http_rules_is_barred_trailer(struct slice name);

// One Content-Length value: digits, or a list of equal numbers. False: invalid.
MUST_USE bool http_rules_content_length(struct slice value, uint64_t *ret_len);
enum { HTTP_LENGTH_TEXT_MAX = 20 };
#define HTTP_LENGTH_MAX ((uint64_t)INT64_MAX)

// The connection's own words, taken out of a field list.
struct http_hop {
    bool close, keep_alive; // options of Connection
    // Upgrade of HTTP/1.1 with its option in Connection: the first protocol that is not HTTP
    // itself (h2c is ignored). Empty: none.
    struct slice upgrade;
};

// Removes the hop-by-hop fields and what Connection names, in place; TE becomes "trailers" or goes.
// HTTP_ERR_BAD_CONNECTION: an option that is no token, 10 options or more, or one that names a
// field by which others decide (Host, Content-Length, X-Forwarded-For, -Host, -Proto), as its
// removal would hide something from those behind us.
MUST_USE enum http_err http_rules_strip(struct http_field *fields, size_t *n_fields,
                                        struct http_hop *ret_hop);

// ---- methods

// The method may be repeated without further effect (RFC 9110 9.2.2); not an unknown one.
bool http_rules_is_idempotent(struct slice method);

// ---- status

bool http_rules_status_is_informational(uint16_t status); // 1xx, with 101
// The response has no body whatever its fields say: 1xx, 204, 304, and anything to HEAD.
bool http_rules_has_no_body(uint16_t status, bool is_head_request);
struct slice http_rules_reason(uint16_t status); // "Not Found"; "Unknown" where there is none

// ---- between versions

// A field list of HTTP/2 that h2_rules_check has passed. Pseudo fields become the control data,
// Host (when there is no :authority) the authority; a second opinion in Host is dropped. Cookie
// crumbs are joined (RFC 9113 8.2.3), the fragment of the path goes. Extended CONNECT becomes GET
// with `protocol`. The slices stay those of the list but for what had to be built; `fields` is an
// array in the arena.
// HTTP_ERR_BAD_HEAD, BAD_VALUE, BAD_SCHEME, NO_HOST, TWO_HOSTS, BAD_HOST, BAD_LENGTH,
// HEAD_TOO_LARGE (the arena's maximum).
MUST_USE enum http_err http_rules_request_from_list(const struct http_field *list, size_t n_list,
                                                    struct arena *arena,
                                                    struct http_head *ret_head);
// `upgrade`: protocol of the request that this answers, or empty; a 200 to it becomes 101.
MUST_USE enum http_err http_rules_response_from_list(const struct http_field *list, size_t n_list,
                                                     struct slice upgrade, struct arena *arena,
                                                     struct http_head *ret_head);
// The list for h2_stream_open or h2_stream_send_headers. `scheme` is used when the head has none.
// False: the arena's maximum. Slices are the head's or static.
MUST_USE bool http_rules_to_list(const struct http_head *head, struct slice scheme,
                                 struct arena *arena, struct http_field **ret_list,
                                 size_t *ret_n_list);
// Deep copy. False: the arena's maximum.
MUST_USE bool http_rules_copy(const struct http_head *head, struct arena *arena,
                              struct http_head *ret_head);
