// SPDX-License-Identifier: Apache-2.0
//
// HBONE vocabulary: the CONNECT request and response heads of Istio's ambient tunnels, as field
// lists for h2_conn. Pure: identifiers, addresses and random bytes are arguments.
//
// Request, in this order: :method, :authority, baggage, forwarded, traceparent, and between
// networks x-forwarded-network; nothing else. Thread: any.
#pragma once

#include "common/base/addr.h"
#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/h2_conn.h"

enum hbone_err {
#define HBONE_ERR(name, status, label, text) HBONE_##name,
#include "common/proto/hbone.def"
#undef HBONE_ERR
};

uint16_t hbone_err_status(enum hbone_err err); // HTTP status of the answer
const char *hbone_err_label(enum hbone_err err);
const char *hbone_err_text(enum hbone_err err);

// Who a workload is, for telemetry only: never an input of policy, since the peer writes it.
// Empty slices are omitted on the wire.
struct hbone_baggage {
    struct slice cluster; // k8s.cluster.name
    struct slice ns; // k8s.namespace.name
    struct slice workload_type; // "deployment", "cronjob", "pod", "job": k8s.TYPE.name
    struct slice workload; // its value
    struct slice service; // service.name: canonical name
    struct slice revision; // service.version: canonical revision
    struct slice region; // cloud.region
    struct slice zone; // cloud.availability_zone
};

enum {
    HBONE_PORT = 15008,
    HBONE_HOST_MAX = 253,
    HBONE_AUTHORITY_MAX = HBONE_HOST_MAX + 6,
    HBONE_BAGGAGE_MAX = 1024, // longer: items at the end are left out (write), ignored (read)
    HBONE_TRACEPARENT_LEN = 55,
    // :authority, host= and x-forwarded-network, each a host at most
    HBONE_HEAD_TEXT_MAX = 3 * HBONE_AUTHORITY_MAX + HBONE_BAGGAGE_MAX + 256,
    HBONE_FIELDS_MAX = 6,
};

// Destination of a CONNECT: an address, or (ip not set) a host name, and a port that is never 0.
struct hbone_target {
    struct addr addr; // port is valid in both cases
    struct slice host; // empty when addr.ip is set; letters, digits, '.', '-', '_'
};

// Everything a CONNECT says. Reading: slices borrow from the fields and from `scratch`.
struct hbone_connect {
    struct hbone_target target;
    struct addr source; // forwarded: for=; ip not set when absent or not an address, port may be 0
    struct slice host; // forwarded: host=, the service that the client meant; may be empty
    struct slice network; // x-forwarded-network; may be empty
    struct hbone_baggage baggage;
    bool has_trace;
    uint8_t trace_id[16], span_id[8]; // traceparent; writing: random bytes
    uint8_t trace_flags;
};

// A field list with the storage that it points into: fields are valid while the object stays put.
struct hbone_head {
    struct http_field fields[HBONE_FIELDS_MAX];
    size_t n_fields;
    size_t text_len;
    char text[HBONE_HEAD_TEXT_MAX];
};

// Client: writes the request head. False: target without port, or a host name that is too long or
// has forbidden characters. A `host` or `network` with such characters is left out.
MUST_USE bool hbone_connect_build(const struct hbone_connect *connect, struct hbone_head *ret_head);
// Server: checks and reads a request head. HBONE_OK, or NOT_CONNECT, BAD_AUTHORITY, BAD_HEAD (two
// authorities, extended CONNECT). What is only informative and malformed (forwarded, baggage,
// traceparent) is read as absent. `scratch` holds decoded baggage while the result is in use.
MUST_USE enum hbone_err hbone_connect_parse(const struct http_field *fields, size_t n_fields,
                                            char scratch[HBONE_BAGGAGE_MAX],
                                            struct hbone_connect *ret_connect);

// Server: writes the response head; `baggage` (of the destination) only goes with a 200, NULL ok.
void hbone_response_build(enum hbone_err err, const struct hbone_baggage *baggage,
                          struct hbone_head *ret_head);
// Client: reads it. Status 0 when there is no valid :status. Baggage is all empty without one.
uint16_t hbone_response_parse(const struct http_field *fields, size_t n_fields,
                              char scratch[HBONE_BAGGAGE_MAX], struct hbone_baggage *ret_baggage);
// 2xx: bytes may flow (RFC 9110 9.3.6).
static inline bool hbone_status_is_ok(uint16_t status) {
    return status >= 200 && status < 300;
}
// The next endpoint may be tried: only 503. Never 400 or 401, which would be the same elsewhere.
static inline bool hbone_status_is_retryable(uint16_t status) {
    return status == 503;
}

// "1.2.3.4:80", "[::1]:80", "svc.ns.svc.cluster.local:80".
MUST_USE bool hbone_target_parse(struct slice authority, struct hbone_target *ret_target);
// Adds the items of one baggage value to *baggage; unknown keys are ignored. Percent-encoded values
// are decoded into scratch[*used..HBONE_BAGGAGE_MAX). Items that are not printable ASCII are
// ignored.
void hbone_baggage_parse(struct slice value, char scratch[HBONE_BAGGAGE_MAX], size_t *used,
                         struct hbone_baggage *baggage);
