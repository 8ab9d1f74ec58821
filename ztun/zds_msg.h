// SPDX-License-Identifier: Apache-2.0
//
// Messages of ZDS (ambient-protocols §1.2, zds.proto): what the node agent asks, and our answers.
// Pure. Fields and values that are not known are skipped, as protocol buffers have it; a request of
// a kind that is not known is told from a malformed one.
#pragma once

#include <stdbool.h>

#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/spiffe.h"

enum {
    ZDS_PACKET_MAX = 4096, // the agent's own buffer has 1024
    ZDS_ANSWER_MAX = 1024,
    ZDS_UID_MAX = 253, // as any name of an object
    ZDS_NAME_MAX = 253,
};

enum zds_kind { ZDS_ADD, ZDS_DEL, ZDS_SNAPSHOT_SENT, ZDS_KEEP };

struct zds_request {
    enum zds_kind kind;
    char uid[ZDS_UID_MAX + 1]; // "" in SNAPSHOT_SENT
    // ADD
    char name[ZDS_NAME_MAX + 1], ns[SPIFFE_NS_MAX + 1], service_account[SPIFFE_SA_MAX + 1];
};

// NULL, or why the packet is none that we can do (a sentence without its point; static). Then *ret
// says nothing.
MUST_USE const char *zds_request_decode(struct slice packet, struct zds_request *ret);

// A ZdsHello of version 1. Returns its length.
size_t zds_hello(uint8_t out[ZDS_ANSWER_MAX]);
// A WorkloadResponse: an Ack, with an error unless that is NULL. What of the error is too long, or
// no UTF-8, is cut off. Returns its length.
size_t zds_ack(const char *error, uint8_t out[ZDS_ANSWER_MAX]);
