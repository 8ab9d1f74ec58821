// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_timeout.h"

#include "common/proto/grpc.h"

static bool header_ms(const struct http_head *request, const char *name, uint64_t *ret_ms) {
    const struct http_field *field =
        l7_fields_find(request->fields, request->n_fields, slice_str(name));
    return field != NULL && slice_to_u64(field->value, UINT64_MAX, ret_ms);
}

struct l7_timeouts l7_timeout_of(const struct l7_route *route, const struct http_head *request,
                                 bool is_grpc) {
    struct l7_timeouts timeouts = {.total_ms = route->timeout_ms,
                                   .per_try_ms = route->retry.per_try_timeout_ms};
    if (is_grpc) {
        const struct http_field *field =
            l7_fields_find(request->fields, request->n_fields, SLICE_LIT("grpc-timeout"));
        uint64_t ms;
        if (field != NULL && grpc_timeout_parse(field->value, &ms) && ms > 0 &&
            (timeouts.total_ms == 0 || ms < timeouts.total_ms)) {
            timeouts.total_ms = ms;
        }
    }
    if (l7_fields_has_envoys(request->fields, request->n_fields)) {
        header_ms(request, "x-envoy-upstream-rq-timeout-ms", &timeouts.total_ms);
        header_ms(request, "x-envoy-upstream-rq-per-try-timeout-ms", &timeouts.per_try_ms);
        timeouts.answers_204 =
            l7_fields_find(request->fields, request->n_fields,
                           SLICE_LIT("x-envoy-upstream-rq-timeout-alt-response")) != NULL;
    }
    if (timeouts.total_ms != 0 && timeouts.per_try_ms >= timeouts.total_ms) {
        timeouts.per_try_ms = 0;
    }
    return timeouts;
}

void l7_timeout_announce(const struct l7_timeouts *timeouts, bool is_grpc,
                         struct l7_fields *fields) {
    uint64_t ms = timeouts->per_try_ms != 0 ? timeouts->per_try_ms : timeouts->total_ms;
    if (ms == 0) {
        return;
    }
    l7_fields_set_u64(fields, SLICE_LIT("x-envoy-expected-rq-timeout-ms"), ms);
    if (is_grpc) {
        struct buf text;
        struct slice copy;
        buf_init(&text, 32);
        grpc_timeout_append(ms, &text);
        if (arena_copy(fields->arena, buf_slice(&text), &copy)) {
            l7_fields_set(fields, SLICE_LIT("grpc-timeout"), copy);
        } else {
            fields->is_overflowed = true;
        }
        buf_fini(&text);
    }
}

void l7_timeout_consume(struct l7_fields *fields) {
    static const struct slice names[] = {
        SLICE_LIT("x-envoy-upstream-rq-timeout-ms"),
        SLICE_LIT("x-envoy-upstream-rq-per-try-timeout-ms"),
        SLICE_LIT("x-envoy-upstream-rq-timeout-alt-response"),
        SLICE_LIT("x-envoy-expected-rq-timeout-ms"),
        SLICE_LIT("x-envoy-max-retries"),
        SLICE_LIT("x-envoy-retry-on"),
        SLICE_LIT("x-envoy-retry-grpc-on"),
        SLICE_LIT("x-envoy-retriable-status-codes"),
        SLICE_LIT("x-envoy-retriable-header-names"),
    };
    if (l7_fields_has_envoys(fields->items, fields->n)) {
        l7_fields_remove_all(fields, names, ARRAY_LEN(names));
    }
}
