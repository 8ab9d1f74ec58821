// SPDX-License-Identifier: Apache-2.0
//
// Messages of a discovery server, put together by hand.
#pragma once

#include "common/mesh/xds.pb-c.h"
#include "common/mesh/xds_decode.h"
#include "tests/unit/base/unit.h"

ProtobufCBinaryData fx_bytes(const char *text); // borrows
ProtobufCBinaryData fx_raw(const void *ptr, size_t len);
// Encoded; valid until fx_unpack_all().
struct slice fx_pack(const ProtobufCMessage *message);
void fx_unpack_all(void);
#define FX_PACK(message) fx_pack(&(message)->base)

// Address with this workload or service in it.
struct slice fx_address(Xds__Workload *workload, Xds__Service *service);

// A response under construction.
struct fx_response {
    Xds__Response message;
    Xds__Resource resources[64];
    Xds__Any contents[64];
    Xds__Resource *list[64];
    ProtobufCBinaryData removed[64], aliases[64][2];
};
void fx_response_init(struct fx_response *response, enum xds_type type, const char *nonce);
void fx_response_add(struct fx_response *response, const char *name, const char *version,
                     struct slice body);
void fx_response_alias(struct fx_response *response, const char *alias); // of the last one
void fx_response_remove(struct fx_response *response, const char *name);
