// SPDX-License-Identifier: Apache-2.0
//
// Inside the decoder: the first problem is kept, and what is read after it does not matter.
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "common/mesh/xds.pb-c.h"
#include "common/mesh/xds_decode.h"

struct xds_decoder {
    struct arena *arena;
    const char *network;
    char *error; // XDS_ERROR_MAX bytes
    bool has_failed;
};

enum { XDS_NS_MAX = 63, XDS_TEXT_MAX = 512, XDS_LIST_MAX = 4096 };

static inline struct slice xds_slice(ProtobufCBinaryData bytes) {
    return slice_make(bytes.data, bytes.len);
}

void xds_fail(struct xds_decoder *decoder, const char *fmt, ...) PRINTF_LIKE(2, 3);
// A zeroed array; the decoder fails at the arena's maximum (then it has one item).
void *xds_array(struct xds_decoder *decoder, size_t n, size_t size);
// A NUL-terminated copy. `field` is for the reason.
const char *xds_text(struct xds_decoder *decoder, ProtobufCBinaryData bytes, const char *field,
                     size_t max);
const char *xds_required(struct xds_decoder *decoder, ProtobufCBinaryData bytes, const char *field,
                         size_t max);
struct ip xds_ip(struct xds_decoder *decoder, ProtobufCBinaryData bytes, const char *field);
uint16_t xds_port_of(struct xds_decoder *decoder, uint32_t value, const char *field);
// `n` values are known, from 0 on.
uint8_t xds_enum(struct xds_decoder *decoder, int32_t value, int32_t n, const char *field);
// An item of a list of at most `max`; fails else.
bool xds_list_ok(struct xds_decoder *decoder, size_t n, size_t max, const char *field);
const char *xds_copy(struct xds_decoder *decoder, const char *text);
// "a/b" in the arena.
const char *xds_join(struct xds_decoder *decoder, const char *a, const char *b);

void xds_decode_workload(struct xds_decoder *decoder, const Xds__Workload *src,
                         struct xds_resource *ret_resource);
void xds_decode_service(struct xds_decoder *decoder, const Xds__Service *src,
                        struct xds_resource *ret_resource);
void xds_decode_policy(struct xds_decoder *decoder, const Xds__Authorization *src,
                       struct xds_resource *ret_resource);
// The key of a waypoint's service, or its address; "" = none.
const char *xds_waypoint(struct xds_decoder *decoder, const Xds__GatewayAddress *src,
                         const char *field);
