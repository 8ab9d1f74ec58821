// SPDX-License-Identifier: Apache-2.0
//
// HTTP messages independent of their version (RFC 9110): a field, and the head of a request or a
// response. HTTP/1 (h1_head.h) and HTTP/2 (h2_conn.h, by way of http_rules.h) parse into it and are
// written from it; all that decides about requests sees nothing else.
#pragma once

#include "common/base/slice.h"

// A header field; in lists of HTTP/2 the pseudo fields come first. Slices are borrowed, see who
// hands it out. `sensitive`: never indexed by HPACK.
struct http_field {
    struct slice name, value;
    bool sensitive;
};

enum http_version { HTTP_10, HTTP_11, HTTP_2 };

// Control data and fields of one message. All slices and `fields` are borrowed or live in the
// owner's arena. Names are lower case, values without surrounding whitespace. Fields of the
// connection (RFC 9110 7.6.1: Connection and what it names, Transfer-Encoding, Upgrade ...) are not
// in `fields`: the codec has turned them into what it says beside the head. Content-Length stays
// in `fields`, once, valid and in canonical form; who writes HTTP/1 takes the framing from it.
struct http_head {
    uint8_t version; // enum http_version, of the message as received
    uint16_t status; // response: 100-999; 0 = a request
    // Requests. `scheme` may be empty (HTTP/1 in origin form). `authority` is :authority or Host;
    // Host is not in `fields`. `path` has the query and no fragment, and begins with '/', or is "*"
    // (OPTIONS), or is empty (CONNECT).
    struct slice method, scheme, authority, path;
    // A request to switch protocols: the token of Upgrade or :protocol (RFC 8441), "websocket"; the
    // method is GET in both versions. A response that does: status 101 in both versions, and the
    // token. Else empty.
    struct slice protocol;
    struct http_field *fields;
    size_t n_fields;
};
