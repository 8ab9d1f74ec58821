// SPDX-License-Identifier: Apache-2.0
//
// The access log: lines about flows under the scope "access", with ztunnel's messages, field names
// and order. Whoever opens or ends a flow writes one.
//
// Thread: any.
#pragma once

#include <stdint.h>

#include "common/base/addr.h"
#include "common/base/slice.h"

enum access_event {
    ACCESS_OPENED, // "connection opened", debug: no bytes, duration or error
    ACCESS_COMPLETE, // "connection complete", info; error when record.error is set and unusual
    ACCESS_FAILED, // "connection failed", warn: refused early; addresses, direction, error only
};

// What is not known stays zero and is left out of the line. All borrowed for the call.
struct access_record {
    const struct addr *src_addr;
    struct slice src_workload;
    struct slice src_namespace;
    struct slice src_identity; // SPIFFE URI; only when the flow used mutual TLS
    struct slice src_cluster;
    const struct addr *dst_addr; // where the bytes went: 10.0.0.7:15008 for a tunnel
    const struct addr *dst_hbone_addr; // the CONNECT authority
    struct slice dst_hbone_host; // instead, when the authority has a host name
    struct slice dst_service;
    struct slice dst_workload;
    struct slice dst_namespace;
    struct slice dst_identity; // only with mutual TLS
    struct slice dst_cluster;
    struct slice direction; // "inbound", "outbound"
    // From the reporter's side, as ztunnel logs them (its metrics count the other way round).
    uint64_t bytes_sent;
    uint64_t bytes_recv;
    uint64_t duration_ms;
    struct slice error; // empty = the flow ended well
    bool is_usual; // the error is an application's own doing (a reset): stays at info level
};

// True when the line would be written: saves filling a record that nobody reads.
bool access_log_enabled(enum access_event event, bool is_error);
void access_log_write(enum access_event event, const struct access_record *record);
