// SPDX-License-Identifier: Apache-2.0
//
// The answers of the proxy itself, row by row as they are specified: to HTTP, and to a client of
// gRPC, which gets HTTP 200, its own status, and the body as a message.
#include "common/l7/l7_reply.h"

#include <stdio.h>

#include "common/base/arena.h"
#include "tests/unit/base/unit.h"

#define RESET_BODY "upstream connect error or disconnect/reset before headers. reset reason: "
#define RETRIED_BODY                                                                               \
    "upstream connect error or disconnect/reset before headers. retried and the latest reset "     \
    "reason: "

struct row {
    struct l7_reply_spec spec;
    uint16_t status;
    int grpc_status;
    const char *flags, *body;
    const char *message; // the body as grpc-message; NULL: the same
};

#define KIND(name)                                                                                 \
    { .kind = L7_REPLY_##name, .grpc_status = -1 }
#define RESET(name)                                                                                \
    { .kind = L7_REPLY_RESET, .reset = L7_RESET_##name, .grpc_status = -1 }

static const struct row rows[] = {
    {KIND(NO_ROUTE), 404, 12, "NR", "", NULL},
    {KIND(NO_CLUSTER), 503, 14, "NC", "", NULL},
    {KIND(NO_CLUSTER_500), 500, 2, "NC", "", NULL}, // a backend of the Gateway API that is none
    {KIND(NO_HEALTHY), 503, 14, "UH", "no healthy upstream", NULL},
    {RESET(CONNECT_REFUSED), 503, 14, "UF", RESET_BODY "remote connection failure", NULL},
    {RESET(CONNECT_LOCAL), 503, 14, "UF", RESET_BODY "local connection failure", NULL},
    {RESET(CONNECT_TIMEOUT), 503, 14, "UF", RESET_BODY "connection timeout", NULL},
    {{.kind = L7_REPLY_RESET,
      .reset = L7_RESET_CONNECT_REFUSED,
      .grpc_status = -1,
      .failure = SLICE_LIT("100% of it\n")},
     503,
     14,
     "UF",
     RESET_BODY "remote connection failure, transport failure reason: 100% of it\n",
     RESET_BODY "remote connection failure, transport failure reason: 100%25 of it%0A"},
    {RESET(TERMINATION), 503, 14, "UC", RESET_BODY "connection termination", NULL},
    {RESET(REMOTE), 503, 14, "UR", RESET_BODY "remote reset", NULL},
    {RESET(REMOTE_REFUSED), 503, 14, "UR", RESET_BODY "remote refused stream reset", NULL},
    {RESET(LOCAL), 503, 14, "LR", RESET_BODY "local reset", NULL},
    {RESET(OVERFLOW), 503, 14, "UO", RESET_BODY "overflow", NULL},
    {RESET(PROTOCOL_ERROR), 502, 14, "UPE", RESET_BODY "protocol error", NULL},
    {{.kind = L7_REPLY_RESET, .reset = L7_RESET_REMOTE, .grpc_status = -1, .is_retried = true},
     503,
     14,
     "UR,URX",
     RETRIED_BODY "remote reset",
     NULL},
    {KIND(TIMEOUT), 504, 14, "UT", "upstream request timeout", NULL},
    {KIND(PER_TRY_TIMEOUT), 504, 14, "UT", "upstream request timeout", NULL},
    {KIND(FAULT_ABORT), 503, 14, "FI", "fault filter abort", NULL},
    {{.kind = L7_REPLY_FAULT_ABORT, .status = 400, .grpc_status = -1},
     400,
     13,
     "FI",
     "fault filter abort",
     NULL},
    {KIND(RBAC_DENIED), 403, 7, "-", "RBAC: access denied", NULL},
    {KIND(EXT_AUTHZ_DENIED), 403, 7, "UAEX", "", NULL},
    {KIND(JWT_MISSING), 401, 16, "-", "Jwt is missing", NULL},
    {KIND(JWT_EXPIRED), 401, 16, "-", "Jwt is expired", NULL},
    {KIND(JWT_BAD_SIGNATURE), 401, 16, "-", "Jwt verification fails", NULL},
    {KIND(JWT_UNKNOWN_ISSUER), 401, 16, "-", "Jwt issuer is not configured", NULL},
    {KIND(JWT_NO_KEYS), 401, 16, "-", "Jwks remote fetch is failed", NULL},
    {KIND(RATE_LIMITED), 429, 14, "RL", "local_rate_limited", NULL},
    {KIND(HEADERS_TOO_LARGE), 431, 2, "-", "", NULL},
    {KIND(TOO_MANY_HEADERS), 431, 2, "-", "", NULL},
    {KIND(BAD_PATH), 400, 13, "-", "", NULL},
    {KIND(LOW_VERSION), 426, 2, "-", "", NULL},
    {KIND(BAD_REQUEST), 400, 13, "DPE", "Bad Request", NULL},
    {KIND(UPGRADE_FAILED), 403, 7, "-", "", NULL},
    {KIND(RETRY_BODY_TOO_LARGE), 507, 2, "-",
     "exceeded request buffer limit while retrying upstream", NULL},
    {KIND(STREAM_IDLE), 408, 2, "SI", "stream timeout", NULL},
};

static const char *field_of(const struct l7_reply *reply, const char *name) {
    static char text[512];
    const struct http_field *field =
        l7_fields_find(reply->fields.items, reply->fields.n, slice_str(name));
    if (field == NULL) {
        return NULL;
    }
    snprintf(text, sizeof(text), "%.*s", SLICE_ARG(field->value));
    return text;
}

static void check_flags(const struct row *row, const struct l7_reply *reply) {
    struct buf flags;
    buf_init(&flags, 256);
    l7_flags_append(reply->flags, &flags);
    assert_string_equal(buf_cstr(&flags), row->flags);
    buf_fini(&flags);
}

static void check_http(const struct row *row, const struct l7_reply *reply) {
    char len[32];
    snprintf(len, sizeof(len), "%zu", strlen(row->body));
    assert_int_equal(reply->status, row->status);
    assert_int_equal(reply->grpc_status, -1);
    assert_slice_equal(reply->body, row->body);
    assert_string_equal(field_of(reply, "content-length"), len);
    assert_null(field_of(reply, "grpc-status"));
    if (row->body[0] != '\0') {
        assert_string_equal(field_of(reply, "content-type"), "text/plain");
    }
}

static void check_grpc(const struct row *row, const struct l7_reply *reply) {
    char status[16];
    snprintf(status, sizeof(status), "%d", row->grpc_status);
    assert_int_equal(reply->status, 200);
    assert_int_equal(reply->grpc_status, row->grpc_status);
    assert_int_equal(reply->body.len, 0);
    assert_string_equal(field_of(reply, "content-type"), "application/grpc");
    assert_string_equal(field_of(reply, "grpc-status"), status);
    assert_null(field_of(reply, "content-length"));
    const char *message = row->message != NULL ? row->message : row->body;
    if (message[0] != '\0') {
        assert_string_equal(field_of(reply, "grpc-message"), message);
    } else {
        assert_null(field_of(reply, "grpc-message"));
    }
}

static void test_rows(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(rows) * 2; i++) {
        const struct row *row = &rows[i / 2];
        struct l7_reply_spec spec = row->spec;
        struct l7_reply reply;
        struct arena arena;
        spec.is_grpc = i % 2 == 1;
        arena_init(&arena, 8192);
        assert_true(l7_reply_build(&spec, &arena, &reply));
        if (spec.is_grpc) {
            check_grpc(row, &reply);
        } else {
            check_http(row, &reply);
        }
        check_flags(row, &reply);
        bool is_overflow = row->spec.kind == L7_REPLY_RESET && row->spec.reset == L7_RESET_OVERFLOW;
        const char *overloaded = field_of(&reply, "x-envoy-overloaded");
        assert_true((overloaded != NULL) == is_overflow);
        arena_fini(&arena);
    }
}

// None was forgotten above: each reset, and each kind but those that are no row of their own.
static void test_all_are_there(void **state) {
    static const uint8_t others[] = {L7_REPLY_EXT_AUTHZ_ERROR,     L7_REPLY_JWT_BAD_AUDIENCE,
                                     L7_REPLY_JWT_BAD_FORM,        L7_REPLY_OVERLOADED,
                                     L7_REPLY_DNS_FAILURE,         L7_REPLY_DNS_OVERFLOW,
                                     L7_REPLY_DNS_PENDING_OVERFLOW};
    bool has_kind[L7_N_REPLIES] = {false}, has_reset[16] = {false};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].spec.kind == L7_REPLY_RESET) {
            has_reset[rows[i].spec.reset] = true;
        } else {
            has_kind[rows[i].spec.kind] = true;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_false(has_kind[others[i]]);
        has_kind[others[i]] = true;
    }
    for (size_t i = 0; i < L7_N_REPLIES; i++) {
        assert_true(has_kind[i]);
    }
#define L7_RESET(name, text, flag, status) assert_true(has_reset[L7_RESET_##name]);
#include "common/l7/l7_reset.def"
#undef L7_RESET
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_all_are_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
