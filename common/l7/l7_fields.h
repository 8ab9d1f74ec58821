// SPDX-License-Identifier: Apache-2.0
//
// Header fields that change on their way: a list that begins as the fields of a message and is
// edited. Names are lower case. Nothing of a peer is copied: items point to the message, to
// configuration, or to the arena; they are valid as long as those are.
//
// An edit that the arena has no room for is dropped and marks the list (l7_fields_ok), so that a
// writer edits freely and asks once.
#pragma once

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/proto/http_msg.h"

struct l7_fields {
    struct arena *arena;
    struct http_field *items;
    size_t n, cap;
    bool is_overflowed;
};

// Starts with a copy of the list `items` (not of what it points to).
void l7_fields_init(struct l7_fields *fields, struct arena *arena, const struct http_field *items,
                    size_t n);
static inline bool l7_fields_ok(const struct l7_fields *fields) {
    return !fields->is_overflowed;
}
void l7_fields_add(struct l7_fields *fields, struct slice name, struct slice value);
// One field of that name, in the place of the first one.
void l7_fields_set(struct l7_fields *fields, struct slice name, struct slice value);
void l7_fields_remove(struct l7_fields *fields, struct slice name);
void l7_fields_remove_all(struct l7_fields *fields, const struct slice *names, size_t n_names);
// Its value is a number or printed text.
void l7_fields_set_u64(struct l7_fields *fields, struct slice name, uint64_t value);

// The first field of a name; NULL: none.
const struct http_field *l7_fields_find(const struct http_field *items, size_t n,
                                        struct slice name);
// A field whose name begins with "x-envoy-", by which a client asks for things. Most have none.
bool l7_fields_has_envoys(const struct http_field *items, size_t n);
// The value of a header of a request or response: that of its only field, or those of all, joined
// by ',' in `scratch` (which is cleared then). `name` is lower case; :method, :scheme, :authority,
// :path, :status and host are of the control data. False: not there.
bool l7_fields_value(const struct http_head *head, struct slice name, struct buf *scratch,
                     struct slice *ret_value);
// The value of a cookie (RFC 6265 4.2.1, the first of that name), without quotes around it.
bool l7_fields_cookie(const struct http_head *head, struct slice name, struct slice *ret_value);
// content-type application/grpc, with or without +proto and the like.
bool l7_fields_is_grpc(const struct http_head *head);

// Text printed into the arena; empty, and the list marked, when it has no room.
struct slice l7_fields_printf(struct l7_fields *fields, const char *fmt, ...) PRINTF_LIKE(2, 3);
