// SPDX-License-Identifier: Apache-2.0
#include "common/proto/hbone.h"

#include <stdio.h>

#include "tests/unit/proto/h2_harness.h"

static struct slice field_of(const struct hbone_head *head, const char *name) {
    for (size_t i = 0; i < head->n_fields; i++) {
        if (slice_eq_str(head->fields[i].name, name)) {
            return head->fields[i].value;
        }
    }
    return slice_make(NULL, 0);
}

static struct addr addr_of(const char *text) {
    struct addr addr;
    assert_true(addr_parse(slice_str(text), &addr));
    return addr;
}

static void assert_slice(struct slice got, const char *expected) {
    if (!slice_eq_str(got, expected)) {
        fail_msg("got '%.*s', expected '%s'", SLICE_ARG(got), expected);
    }
}

// ---- targets

static void test_targets(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *ip, *host; // both NULL: refused
        uint16_t port;
    } rows[] = {
        {"10.0.0.1:80", "10.0.0.1", "", 80},
        {"[2001:db8::1]:65535", "2001:db8::1", "", 65535},
        {"[::ffff:10.0.0.1]:1", "10.0.0.1", "", 1},
        {"svc.ns.svc.cluster.local:8080", NULL, "svc.ns.svc.cluster.local", 8080},
        {"a_b-c:1", NULL, "a_b-c", 1},
        {"", NULL, NULL, 0},
        {":80", NULL, NULL, 0},
        {"10.0.0.1", NULL, NULL, 0},
        {"10.0.0.1:", NULL, NULL, 0},
        {"10.0.0.1:0", NULL, NULL, 0},
        {"10.0.0.1:65536", NULL, NULL, 0},
        {"10.0.0.1:80:80", NULL, NULL, 0},
        {"2001:db8::1:80", NULL, NULL, 0},
        {"[2001:db8::1]", NULL, NULL, 0},
        {"[2001:db8::1]:", NULL, NULL, 0},
        {"[svc]:80", NULL, NULL, 0},
        {"svc", NULL, NULL, 0},
        {"svc:0", NULL, NULL, 0},
        {"svc:+80", NULL, NULL, 0},
        {"svc: 80", NULL, NULL, 0},
        {"user@svc:80", NULL, NULL, 0},
        {"http://svc:80", NULL, NULL, 0},
        {"sv c:80", NULL, NULL, 0},
        {"svc/x:80", NULL, NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hbone_target target;
        bool ok = hbone_target_parse(slice_str(rows[i].text), &target);
        if (ok != (rows[i].host != NULL)) {
            fail_msg("'%s'", rows[i].text);
        }
        if (!ok) {
            continue;
        }
        assert_int_equal(target.addr.port, rows[i].port);
        assert_slice(target.host, rows[i].host);
        assert_true(ip_is_set(&target.addr.ip) == (rows[i].ip != NULL));
        if (rows[i].ip != NULL) {
            char text[IP_TEXT_MAX];
            assert_string_equal(ip_text(&target.addr.ip, text), rows[i].ip);
        }
    }
    char host[HBONE_HOST_MAX + 8];
    memset(host, 'h', sizeof(host));
    for (size_t len = HBONE_HOST_MAX - 1; len <= HBONE_HOST_MAX + 1; len++) {
        memcpy(host + len, ":443", 4);
        struct hbone_target target;
        assert_true(hbone_target_parse(slice_make(host, len + 4), &target) ==
                    (len <= HBONE_HOST_MAX));
        memset(host + len, 'h', 4);
    }
}

// ---- requests

// ztunnel's own forms (its tests build_forwarded, baggage_parser).
static void test_build_as_ztunnel(void **state) {
    (void)state;
    struct hbone_connect connect = {
        .target.addr = addr_of("10.1.0.2:8080"),
        .source = addr_of("127.0.0.1:80"),
        .has_trace = true,
        .baggage = {.cluster = SLICE_LIT("K1"),
                    .ns = SLICE_LIT("NS1"),
                    .workload_type = SLICE_LIT("deployment"),
                    .workload = SLICE_LIT("N1"),
                    .service = SLICE_LIT("N2"),
                    .revision = SLICE_LIT("V1"),
                    .region = SLICE_LIT("r"),
                    .zone = SLICE_LIT("z")},
    };
    memset(connect.trace_id, 0xab, 16);
    memset(connect.span_id, 0x01, 8);
    struct hbone_head head;
    assert_true(hbone_connect_build(&connect, &head));
    assert_int_equal(head.n_fields, 5);
    assert_slice(head.fields[0].name, ":method");
    assert_slice(head.fields[0].value, "CONNECT");
    assert_slice(head.fields[1].name, ":authority");
    assert_slice(head.fields[1].value, "10.1.0.2:8080");
    assert_slice(head.fields[2].name, "baggage");
    assert_slice(
        head.fields[2].value,
        "k8s.cluster.name=K1,k8s.namespace.name=NS1,k8s.deployment.name=N1,service.name=N2,"
        "service.version=V1,cloud.region=r,cloud.availability_zone=z");
    assert_slice(head.fields[3].name, "forwarded");
    assert_slice(head.fields[3].value, "for=\"127.0.0.1:80\"");
    assert_slice(head.fields[4].name, "traceparent");
    assert_slice(head.fields[4].value, "00-abababababababababababababababab-0101010101010101-00");

    connect.host = SLICE_LIT("example.com");
    connect.source = addr_of("[::1]:80");
    connect.network = SLICE_LIT("net-2");
    connect.target = (struct hbone_target){.addr.port = 80, .host = SLICE_LIT("a.b")};
    assert_true(hbone_connect_build(&connect, &head));
    assert_slice(field_of(&head, "forwarded"), "for=\"[::1]:80\";host=example.com");
    assert_slice(field_of(&head, "x-forwarded-network"), "net-2");
    assert_slice(field_of(&head, ":authority"), "a.b:80");
}

static void test_build_refuses(void **state) {
    (void)state;
    struct hbone_head head;
    struct hbone_connect connect = {.target.host = SLICE_LIT("a.b")};
    assert_false(hbone_connect_build(&connect, &head)); // no port
    connect.target.addr.port = 1;
    assert_true(hbone_connect_build(&connect, &head));
    assert_int_equal(head.n_fields, 2); // nothing empty is sent
    connect.target.host = SLICE_LIT("a b");
    assert_false(hbone_connect_build(&connect, &head));
    connect.target.host = SLICE_LIT("");
    assert_false(hbone_connect_build(&connect, &head));
    connect.target.host = SLICE_LIT("ok");
    connect.host = SLICE_LIT("evil\";for=x");
    connect.network = SLICE_LIT("evil\r\n");
    assert_true(hbone_connect_build(&connect, &head));
    assert_int_equal(head.n_fields, 2);
}

// All texts at their largest still fit; baggage loses items at its end only.
static void test_build_largest(void **state) {
    (void)state;
    char text[HBONE_HOST_MAX];
    memset(text, 'x', sizeof(text));
    struct slice longest = slice_make(text, sizeof(text));
    struct hbone_connect connect = {
        .target = {.addr.port = 65535, .host = longest},
        .source = addr_of("[1111:2222:3333:4444:5555:6666:7777:8888]:65535"),
        .host = longest,
        .network = longest,
        .has_trace = true,
        .baggage = {longest, longest, SLICE_LIT("cronjob"), longest, longest, longest, longest,
                    longest},
    };
    struct hbone_head head;
    assert_true(hbone_connect_build(&connect, &head));
    assert_int_equal(head.n_fields, HBONE_FIELDS_MAX);
    struct slice baggage = field_of(&head, "baggage");
    assert_true(baggage.len <= HBONE_BAGGAGE_MAX && baggage.len > 3 * sizeof(text));
    char scratch[HBONE_BAGGAGE_MAX];
    struct hbone_connect back;
    assert_int_equal(hbone_connect_parse(head.fields, head.n_fields, scratch, &back), HBONE_OK);
    assert_true(slice_eq(back.target.host, longest));
    assert_true(slice_eq(back.host, longest));
    assert_true(slice_eq(back.network, longest));
    assert_true(slice_eq(back.baggage.workload, longest));
    assert_int_equal(back.baggage.zone.len, 0);
}

static void test_round_trip(void **state) {
    (void)state;
    struct hbone_connect connect = {
        .target.addr = addr_of("[2001:db8::5]:443"),
        .source = addr_of("10.0.0.9:54321"),
        .host = SLICE_LIT("svc.ns.svc.cluster.local"),
        .network = SLICE_LIT("n1"),
        .baggage = {.workload_type = SLICE_LIT("pod"),
                    .workload = SLICE_LIT("a b,c;d%e\"\\\x7f"), // escaped, and refused for its DEL
                    .ns = SLICE_LIT("a b,c;d=e%\"\\")},
        .has_trace = true,
        .trace_flags = 1,
    };
    for (size_t i = 0; i < 16; i++) {
        connect.trace_id[i] = (uint8_t)(i * 17);
        connect.span_id[i / 2] = (uint8_t)(255 - i);
    }
    struct hbone_head head;
    assert_true(hbone_connect_build(&connect, &head));
    char scratch[HBONE_BAGGAGE_MAX];
    struct hbone_connect back;
    assert_int_equal(hbone_connect_parse(head.fields, head.n_fields, scratch, &back), HBONE_OK);
    assert_true(addr_eq(&back.target.addr, &connect.target.addr));
    assert_true(addr_eq(&back.source, &connect.source));
    assert_slice(back.host, "svc.ns.svc.cluster.local");
    assert_slice(back.network, "n1");
    assert_slice(back.baggage.ns, "a b,c;d=e%\"\\");
    assert_int_equal(back.baggage.workload.len, 0);
    assert_true(back.has_trace);
    assert_int_equal(back.trace_flags, 1);
    assert_memory_equal(back.trace_id, connect.trace_id, 16);
    assert_memory_equal(back.span_id, connect.span_id, 8);
    // What was built is a legal HTTP/2 request.
    struct h2_end client, server;
    end_init(&client, false);
    end_init(&server, true);
    pair_open(&client, &server);
    enum h2_err err;
    assert_non_null(h2_stream_open(client.conn, head.fields, head.n_fields, false, NULL, &err));
    pump(&client, &server);
    assert_int_equal(server.n_events[H2_EV_HEADERS], 1);
    end_fini(&client);
    end_fini(&server);
}

static enum hbone_err parse(const char *text, struct hbone_connect *ret_connect,
                            char scratch[HBONE_BAGGAGE_MAX]) {
    static struct http_field fields[32];
    size_t n = fields_of(text, fields, 32);
    return hbone_connect_parse(fields, n, scratch, ret_connect);
}

static void test_parse_errors(void **state) {
    (void)state;
    static const struct {
        const char *head;
        enum hbone_err err;
    } rows[] = {
        {REQ_CONNECT, HBONE_OK},
        {REQ_GET, HBONE_NOT_CONNECT},
        {"a=b", HBONE_NOT_CONNECT},
        {":method=connect|:authority=1.1.1.1:1", HBONE_NOT_CONNECT},
        {":method=CONNECT", HBONE_BAD_AUTHORITY},
        {":method=CONNECT|:authority=x", HBONE_BAD_AUTHORITY},
        {":method=CONNECT|:authority=1.1.1.1:1|:authority=1.1.1.2:1", HBONE_BAD_HEAD},
        {":method=CONNECT|:protocol=websocket|:scheme=https|:path=/|:authority=a:1",
         HBONE_BAD_HEAD},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char scratch[HBONE_BAGGAGE_MAX];
        struct hbone_connect connect;
        assert_int_equal(parse(rows[i].head, &connect, scratch), rows[i].err);
    }
    assert_int_equal(hbone_err_status(HBONE_NOT_CONNECT), 400);
    assert_int_equal(hbone_err_status(HBONE_DENIED), 401);
    assert_int_equal(hbone_err_status(HBONE_CONNECT_FAILED), 503);
    for (int err = 0; err <= HBONE_OVERLOADED; err++) {
        assert_true(strlen(hbone_err_label((enum hbone_err)err)) > 0);
        assert_true(strlen(hbone_err_text((enum hbone_err)err)) > 0);
    }
}

// Malformed informative fields never fail a request.
static void test_forwarded(void **state) {
    (void)state;
    static const struct {
        const char *value;
        const char *source, *host;
    } rows[] = {
        {"for=\"10.0.0.1:80\"", "10.0.0.1:80", ""},
        {"for=\"[::1]:80\";host=a.b", "[::1]:80", "a.b"},
        {"For=10.0.0.1;Host=\"a.b\"", "10.0.0.1:0", "a.b"},
        {"for=\"[2001:db8::1]\"", "[2001:db8::1]:0", ""},
        {"by=x;for=\"10.0.0.1:80\" ; proto=https;host=example.com", "10.0.0.1:80", "example.com"},
        {"for=\"10.0.0.1:80\", for=\"10.0.0.2:80\";host=b", "10.0.0.1:80", ""},
        {"for=unknown;host=a.b", NULL, "a.b"},
        {"for=\"_hidden\"", NULL, ""},
        {"for=\"10.0.0.1:80", NULL, ""},
        {"host=a b", NULL, ""},
        {";;;=;for;host", NULL, ""},
        {"", NULL, ""},
        {"\"", NULL, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_field fields[] = {
            {SLICE_LIT(":method"), SLICE_LIT("CONNECT"), false},
            {SLICE_LIT(":authority"), SLICE_LIT("1.1.1.1:1"), false},
            {SLICE_LIT("forwarded"), slice_str(rows[i].value), false},
        };
        char scratch[HBONE_BAGGAGE_MAX];
        struct hbone_connect connect;
        assert_int_equal(hbone_connect_parse(fields, 3, scratch, &connect), HBONE_OK);
        assert_slice(connect.host, rows[i].host);
        if (rows[i].source == NULL) {
            assert_false(ip_is_set(&connect.source.ip));
        } else {
            char text[ADDR_TEXT_MAX];
            assert_string_equal(addr_text(&connect.source, text), rows[i].source);
        }
    }
}

static void test_baggage(void **state) {
    (void)state;
    static const struct {
        const char *value;
        const char *ns, *workload, *type, *service;
    } rows[] = {
        {"k8s.namespace.name=n,k8s.job.name=w,service.name=s", "n", "w", "job", "s"},
        {" k8s.namespace.name = n ; prop=1 , k8s.pod.name=w;x", "n", "w", "pod", ""},
        {"k8s.namespace.name=,k8s.deployment.name=,service.name=", "", "", "", ""},
        {"k8s.namespace.name=a%20b%2Cc,service.name=%e", "a b,c", "", "", ""},
        {"k8s.namespace.name=a%0ab,service.name=%zz,k8s.pod.name=%4", "", "", "", ""},
        {"other=x,=y,z,,,k8s.namespace.name=n", "n", "", "", ""},
        {"k8s.namespace.name=a=b", "a=b", "", "", ""},
        {"k8s.namespace.name=\t", "", "", "", ""},
        {"k8s.namespace.name=a\x01", "", "", "", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char scratch[HBONE_BAGGAGE_MAX];
        size_t used = 0;
        struct hbone_baggage baggage = {0};
        hbone_baggage_parse(slice_str(rows[i].value), scratch, &used, &baggage);
        assert_slice(baggage.ns, rows[i].ns);
        assert_slice(baggage.workload, rows[i].workload);
        assert_slice(baggage.workload_type, rows[i].type);
        assert_slice(baggage.service, rows[i].service);
    }
}

static void test_baggage_limits(void **state) {
    (void)state;
    // Cut at the limit: the item across it is ignored whole.
    char value[HBONE_BAGGAGE_MAX + 40];
    memset(value, 'x', sizeof(value));
    memcpy(value, "service.name=s,", 15);
    memcpy(value + HBONE_BAGGAGE_MAX - 30, ",k8s.namespace.name=longer-than-that", 36);
    char scratch[HBONE_BAGGAGE_MAX];
    size_t used = 0;
    struct hbone_baggage baggage = {0};
    hbone_baggage_parse(slice_make(value, HBONE_BAGGAGE_MAX + 6), scratch, &used, &baggage);
    assert_slice(baggage.service, "s");
    assert_int_equal(baggage.ns.len, 0);
    // Several fields share the scratch space; when it is full, values are dropped, not cut.
    for (size_t n = 0; n < HBONE_BAGGAGE_MAX; n++) {
        baggage.ns = slice_make(NULL, 0);
        hbone_baggage_parse(SLICE_LIT("k8s.namespace.name=a%20b"), scratch, &used, &baggage);
        assert_true(baggage.ns.len == 0 || baggage.ns.len == 3);
        assert_true(used <= HBONE_BAGGAGE_MAX);
    }
    assert_int_equal(baggage.ns.len, 0);
}

static void test_traceparent(void **state) {
    (void)state;
    static const struct {
        const char *value;
        bool ok;
    } rows[] = {
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true},
        {"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", false},
        {"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", false},
        {"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01", false},
        {"", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_field fields[] = {
            {SLICE_LIT(":method"), SLICE_LIT("CONNECT"), false},
            {SLICE_LIT(":authority"), SLICE_LIT("1.1.1.1:1"), false},
            {SLICE_LIT("traceparent"), slice_str(rows[i].value), false},
        };
        char scratch[HBONE_BAGGAGE_MAX];
        struct hbone_connect connect;
        assert_int_equal(hbone_connect_parse(fields, 3, scratch, &connect), HBONE_OK);
        assert_true(connect.has_trace == rows[i].ok);
    }
}

// ---- responses

static void test_responses(void **state) {
    (void)state;
    struct hbone_baggage baggage = {.ns = SLICE_LIT("n"), .workload = SLICE_LIT("w")};
    for (int err = 0; err <= HBONE_OVERLOADED; err++) {
        struct hbone_head head;
        hbone_response_build((enum hbone_err)err, &baggage, &head);
        char scratch[HBONE_BAGGAGE_MAX];
        struct hbone_baggage back;
        uint16_t status = hbone_response_parse(head.fields, head.n_fields, scratch, &back);
        assert_int_equal(status, hbone_err_status((enum hbone_err)err));
        assert_true(hbone_status_is_ok(status) == (err == HBONE_OK));
        assert_slice(back.ns, err == HBONE_OK ? "n" : "");
        assert_slice(back.workload_type, err == HBONE_OK ? "deployment" : "");
    }
    assert_true(hbone_status_is_retryable(503));
    assert_false(hbone_status_is_retryable(400) || hbone_status_is_retryable(401));
    static const struct {
        const char *head;
        uint16_t status;
    } rows[] = {{":status=200", 200}, {":status=99", 0}, {":status=abc", 0}, {"a=b", 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_field fields[4];
        size_t n = fields_of(rows[i].head, fields, 4);
        char scratch[HBONE_BAGGAGE_MAX];
        struct hbone_baggage back;
        assert_int_equal(hbone_response_parse(fields, n, scratch, &back), rows[i].status);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),        cmocka_unit_test(test_build_as_ztunnel),
        cmocka_unit_test(test_build_refuses),  cmocka_unit_test(test_build_largest),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_parse_errors),
        cmocka_unit_test(test_forwarded),      cmocka_unit_test(test_baggage),
        cmocka_unit_test(test_baggage_limits), cmocka_unit_test(test_traceparent),
        cmocka_unit_test(test_responses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
