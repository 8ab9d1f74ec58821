// SPDX-License-Identifier: Apache-2.0
//
// A client of the Kubernetes API: requests whose answers are JSON, whole or as a stream, and what
// is wrong with them in the API's own words (the Status object).
//
// One client is shared by all that talk to the API (watches, status, leases). A 401 makes it look
// at the token's file again and send the request once more. Back-off and everything else that
// repeats is the caller's: kube_backoff.
//
// Thread: the loop's (control).
#pragma once

#include "common/base/buf.h"
#include "common/base/rand.h"
#include "common/mesh/kube_access.h"

enum {
    KUBE_ANSWER_MAX = 16 << 20, // bytes of an answer that is kept whole, of an object in a stream
    KUBE_ERROR_MAX = 64 << 10, // of an answer that says what is wrong
    KUBE_TEXT_MAX = 1024, // of a reason
    KUBE_CONNS_MAX = 128, // with HTTP/1.1: a watch takes one
    KUBE_BACKOFF_MIN_MS = 800, // as client-go
    KUBE_BACKOFF_MAX_MS = 30000,
};

struct kube_client;

struct kube_client_config {
    struct loop *loop;
    const struct kube_access *access; // copied
    uint32_t mark; // SO_MARK, 0 = none
    enum tls_compliance compliance;
};

// NULL with a heap-allocated reason.
struct kube_client *kube_client_new(const struct kube_client_config *config, char **ret_error);
void kube_client_free(struct kube_client *client); // NULL ok; as http_client_free
const char *kube_client_target(const struct kube_client *client); // "HOST:PORT"

enum kube_outcome {
    KUBE_OK, // 2xx, and the answer is whole
    KUBE_UNREACHABLE, // no answer, or not a whole one
    KUBE_UNAUTHORIZED, // 401, twice
    KUBE_FORBIDDEN, // 403
    KUBE_NOT_FOUND, // 404
    KUBE_CONFLICT, // 409
    KUBE_GONE, // 410: the resource version or the page is too old
    KUBE_INVALID, // 400, 405, 413, 415, 422: it will not do as it is
    KUBE_BUSY, // 429, and 5xx
    KUBE_BROKEN, // what came is no answer of the API, or too much
};
const char *kube_outcome_label(enum kube_outcome outcome); // "forbidden": for metrics

struct kube_result { // borrowed for the call
    enum kube_outcome outcome;
    uint16_t status; // of HTTP; 0: no answer
    const char *reason; // the Status object's: "Expired", "AlreadyExists"; "" = none
    const char *text; // a sentence: where, what and why; "" with KUBE_OK
    uint64_t retry_after_ms; // the server asks for it; 0 = it does not
    struct slice body; // KUBE_OK without on_bytes: the answer
};

struct kube_request;
struct kube_request_events {
    // A 2xx answer begins that has an on_bytes. NULL ok.
    void (*on_good)(struct kube_request *request);
    // A piece of a 2xx answer. NULL: it is kept, up to KUBE_ANSWER_MAX bytes, for on_done.
    void (*on_bytes)(struct kube_request *request, struct slice bytes);
    void (*on_done)(struct kube_request *request,
                    const struct kube_result *result); // the last call
};

struct kube_request_params { // all of it is copied
    const char *method; // "GET"
    const char *path; // with its query: "/api/v1/pods?limit=500" (kube_query_add)
    const char *content_type; // of the body: "application/merge-patch+json"; NULL: none
    struct slice body;
    uint64_t timeout_ms;
};

// Embedded in its owner; all fields are private.
struct kube_request {
    const struct kube_request_events *events;
    struct kube_client *client; // NULL: done
    struct http_request http;
    char *method, *path, *type;
    struct slice body; // to be sent once more
    uint64_t timeout_ms;
    struct buf answer; // kept, or the beginning of one that says what is wrong
    uint64_t retry_after_ms;
    uint16_t status;
    bool has_repeated; // after a 401
    bool is_too_large;
};

void kube_request_init(struct kube_request *request, const struct kube_request_events *events);
// Nothing is called before it returns. The request is done or new.
void kube_request_open(struct kube_request *request, struct kube_client *client,
                       const struct kube_request_params *params);
void kube_request_cancel(struct kube_request *request); // harmless when it is done
static inline bool kube_request_is_open(const struct kube_request *request) {
    return request->client != NULL;
}
// Appends "?key=value" or "&key=value", percent-encoded.
void kube_query_add(struct buf *path, const char *key, const char *value);

// How long to wait before it is tried again: twice as long each time, up to KUBE_BACKOFF_MAX_MS,
// half of it by chance; never less than the server asks for.
struct kube_backoff {
    uint32_t n_failures; // since the last success: 0 then
    uint32_t min_ms; // the first one; 0: KUBE_BACKOFF_MIN_MS
};
uint64_t kube_backoff_ms(struct kube_backoff *backoff, struct rand *rand, uint64_t retry_after_ms);
