// SPDX-License-Identifier: Apache-2.0
//
// The access log: one line for each flow under the scope "access", with ztunnel's messages, field
// names and order. Whoever ends a flow calls one of these once.
//
// Thread: any.
#pragma once

#include <stdint.h>

#include "common/base/addr.h"
#include "common/base/slice.h"
#include "common/obs/log.h"

enum access_direction { ACCESS_INBOUND, ACCESS_OUTBOUND };

// What is not known stays zero and is left out of the line. All borrowed for the call.
struct access_record {
    struct addr src_addr;
    struct slice src_workload;
    struct slice src_namespace;
    struct slice src_identity; // SPIFFE URI; only when the flow used mutual TLS
    struct slice src_cluster;
    struct addr dst_addr; // where the bytes went: 10.0.0.7:15008 for a tunnel
    struct slice dst_hbone_addr; // the CONNECT authority
    struct slice dst_service;
    struct slice dst_workload;
    struct slice dst_namespace;
    struct slice dst_identity; // only with mutual TLS
    struct slice dst_cluster;
    enum access_direction direction;
    // From the reporter's side, as ztunnel logs them (its metrics count the other way round).
    uint64_t bytes_sent;
    uint64_t bytes_recv;
    uint64_t duration_ns;
    struct slice error; // empty = the flow ended well
};

// True when the line would be written: saves filling a record that nobody reads.
bool access_log_wants(enum log_level level);
#define ACCESS_OPENED_LEVEL LOG_LEVEL_DEBUG
#define ACCESS_COMPLETE_LEVEL LOG_LEVEL_INFO

// "connection opened", debug: no bytes, duration or error.
void access_log_opened(const struct access_record *record);
// "connection complete", info; error when record->error is set.
void access_log_complete(const struct access_record *record);
// "connection failed", warn: refused before the peers were known. Addresses, direction, error only.
void access_log_failed(const struct addr *src, const struct addr *dst,
                       enum access_direction direction, struct slice error);
