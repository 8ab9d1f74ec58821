// SPDX-License-Identifier: Apache-2.0
#include "common/proto/dns_msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/cur.h"

// A query: flags, name in presentation form, type, and (udp_size != 0) an OPT record.
static void make_query(struct buf *buf, uint16_t flags, const char *name, uint16_t type,
                       uint16_t udp_size) {
    buf_init(buf, DNS_MESSAGE_MAX);
    buf_put_u16(buf, 0x1234);
    buf_put_u16(buf, flags);
    buf_put_u16(buf, 1);
    buf_put_u32(buf, 0);
    buf_put_u16(buf, udp_size != 0);
    struct slice rest = slice_str(name);
    while (rest.len > 0) {
        struct slice label = rest;
        if (!slice_split(rest, '.', &label, &rest)) {
            rest = slice_skip(rest, rest.len);
        }
        buf_put_u8(buf, (uint8_t)label.len);
        buf_append(buf, label);
    }
    buf_put_u8(buf, 0);
    buf_put_u16(buf, type);
    buf_put_u16(buf, DNS_IN);
    if (udp_size != 0) {
        buf_put_u8(buf, 0);
        buf_put_u16(buf, DNS_OPT);
        buf_put_u16(buf, udp_size);
        buf_put_u32(buf, 0);
        buf_put_u16(buf, 0);
    }
}

static void test_parse(void **state) {
    struct buf buf;
    struct dns_query query;
    make_query(&buf, 0x0100, "Web.Demo.svc.Cluster.LOCAL", DNS_AAAA, 1232);
    assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_OK);
    assert_string_equal(query.name, "web.demo.svc.cluster.local");
    assert_int_equal(query.id, 0x1234);
    assert_int_equal(query.type, DNS_AAAA);
    assert_int_equal(query.class_, DNS_IN);
    assert_true(query.has_edns);
    assert_int_equal(query.udp_size, 1232);
    assert_int_equal(query.question.len, 1 + 3 + 1 + 4 + 1 + 3 + 1 + 7 + 1 + 5 + 1 + 4);
    // Cut anywhere: never taken for whole.
    for (size_t len = 0; len < buf.len; len++) {
        enum dns_query_result r = dns_query_parse(slice_head(buf_slice(&buf), len), &query);
        assert_int_equal(r, len < DNS_HEADER_LEN ? DNS_QUERY_IGNORE : DNS_QUERY_BAD);
    }
    buf_fini(&buf);
    make_query(&buf, 0, "", DNS_NS, 0);
    assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_OK);
    assert_string_equal(query.name, "");
    assert_int_equal(query.udp_size, 512);
    buf_fini(&buf);
    make_query(&buf, 0, "a b.c\x01", DNS_A, 100);
    assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_OK);
    assert_string_equal(query.name, "a?b.c?");
    assert_int_equal(query.udp_size, 512);
    buf_fini(&buf);
}

static void test_parse_kinds(void **state) {
    static const struct {
        size_t at;
        uint8_t value;
        enum dns_query_result result;
    } rows[] = {
        {2, 0x80, DNS_QUERY_IGNORE}, // QR
        {2, 0x28, DNS_QUERY_OTHER}, // UPDATE
        {5, 0, DNS_QUERY_BAD}, // questions
        {5, 2, DNS_QUERY_BAD},       {7, 1, DNS_QUERY_OTHER}, // answers
        {9, 1, DNS_QUERY_OTHER},     {11, 2, DNS_QUERY_BAD}, // more records than there are
        {11, 0, DNS_QUERY_OK}, // trailing bytes
        {12, 0xc0, DNS_QUERY_BAD}, // pointers: to the header, to itself
        {12, 0x40, DNS_QUERY_BAD},   {12, 0xff, DNS_QUERY_BAD},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf buf;
        struct dns_query query;
        make_query(&buf, 0, "web.demo", DNS_A, 512);
        buf.ptr[rows[i].at] = rows[i].value;
        assert_int_equal(dns_query_parse(buf_slice(&buf), &query), rows[i].result);
        buf_fini(&buf);
    }
    // A pointer at the name's own offset, a second OPT, a name of 256 bytes.
    static const uint8_t loop[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1};
    struct dns_query query;
    assert_int_equal(dns_query_parse(slice_make(loop, sizeof(loop)), &query), DNS_QUERY_BAD);
    struct buf buf;
    make_query(&buf, 0, "web", DNS_A, 512);
    buf.ptr[11] = 2;
    buf_append(&buf, slice_make(buf.ptr + buf.len - 11, 11));
    assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_BAD);
    buf_fini(&buf);
    char name[300];
    for (size_t i = 0; i < sizeof(name); i++) {
        name[i] = i % 10 == 9 ? '.' : 'a';
    }
    for (size_t len = 240; len < 260; len++) {
        char save = name[len];
        name[len] = '\0';
        if (name[len - 1] != '.') {
            make_query(&buf, 0, name, DNS_A, 0);
            assert_int_equal(dns_query_parse(buf_slice(&buf), &query),
                             len <= 253 ? DNS_QUERY_OK : DNS_QUERY_BAD);
            buf_fini(&buf);
        }
        name[len] = save;
    }
}

static void answer_with(const struct dns_query *query, const struct dns_answer *answer,
                        size_t max_len, struct buf *out) {
    buf_init(out, DNS_MESSAGE_MAX);
    dns_answer_build(query, answer, max_len, out);
    assert_true(buf_ok(out));
    assert_true(out->len <= max_len);
}

static void test_answer(void **state) {
    struct buf buf, out;
    struct dns_query query;
    make_query(&buf, 0x0110, "Web.demo", DNS_A, 1232);
    assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_OK);
    struct ip ips[] = {{.family = 4, .bytes = {10, 0, 0, 1}},
                       {.family = 4, .bytes = {10, 0, 0, 2}}};
    struct dns_answer answer = {
        .is_authoritative = true, .ips = ips, .n_ips = 2, .ttl_s = 30, .ede = DNS_EDE_NONE};
    answer_with(&query, &answer, dns_udp_limit(&query), &out);
    static const uint8_t wanted[] = {
        0x12, 0x34, 0x85, 0x90, 0, 1,   0,   2,   0,   0,  0, 1, //
        3,    'W',  'e',  'b',  4, 'd', 'e', 'm', 'o', 0,  0, 1, 0,  1, // the question, case kept
        0xc0, 12,   0,    1,    0, 1,   0,   0,   0,   30, 0, 4, 10, 0, 0, 1, //
        0xc0, 12,   0,    1,    0, 1,   0,   0,   0,   30, 0, 4, 10, 0, 0, 2, //
        0,    0,    41,   0x10, 0, 0,   0,   0,   0,   0,  0, // OPT
    };
    assert_int_equal(out.len, sizeof(wanted));
    assert_memory_equal(out.ptr, wanted, sizeof(wanted));
    assert_true(dns_msg_answers(buf_slice(&out), buf_slice(&buf)));
    buf_fini(&out);
    // An alias, whose addresses are under the alias's target.
    answer.cname = "web.example";
    answer.n_ips = 1;
    answer_with(&query, &answer, 512, &out);
    static const uint8_t records[] = {
        0xc0, 12,  0,   5, 0,    1,  0, 0, 0, 30, 0, 13, 3, 'w', 'e', 'b', 7,  'e', 'x', 'a', 'm',
        'p',  'l', 'e', 0, 0xc0, 38, 0, 1, 0, 1,  0, 0,  0, 30,  0,   4,   10, 0,   0,   1,
    };
    assert_memory_equal(out.ptr + 26, records, sizeof(records));
    assert_int_equal(out.ptr[7], 2);
    buf_fini(&out);
    // Errors, with a reason for clients with EDNS.
    answer =
        (struct dns_answer){.rcode = DNS_SERVFAIL, .ede = DNS_EDE_NO_REACHABLE, .ede_text = "none"};
    answer_with(&query, &answer, 512, &out);
    static const uint8_t opt[] = {0, 0,  41, 0x10, 0, 0,  0,   0,   0,   0,  10,
                                  0, 15, 0,  6,    0, 22, 'n', 'o', 'n', 'e'};
    assert_memory_equal(out.ptr + 26, opt, sizeof(opt));
    assert_int_equal(out.ptr[3] & 15, DNS_SERVFAIL);
    buf_fini(&out);
    answer = (struct dns_answer){.rcode = DNS_BADVERS, .ede = DNS_EDE_NONE};
    answer_with(&query, &answer, 512, &out);
    assert_int_equal(out.ptr[3] & 15, 0);
    assert_int_equal(out.ptr[26 + 5], 1); // upper bits
    buf_fini(&out);
    buf_fini(&buf);
}

static void test_truncation(void **state) {
    struct ip ips[200];
    for (size_t i = 0; i < ARRAY_LEN(ips); i++) {
        ips[i] = (struct ip){.family = 6, .bytes = {0xfd, [15] = (uint8_t)i}};
    }
    for (uint16_t udp_size = 0; udp_size < 5000; udp_size += 250) {
        struct buf buf, out;
        struct dns_query query;
        make_query(&buf, 0, "web.demo", DNS_AAAA, udp_size);
        assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_OK);
        size_t limit = dns_udp_limit(&query);
        assert_in_range(limit, 512, 4096);
        struct dns_answer answer = {.ips = ips, .n_ips = 200, .ede = DNS_EDE_NONE};
        answer_with(&query, &answer, limit, &out);
        assert_true(dns_msg_is_truncated(buf_slice(&out)));
        size_t n = (limit - 26 - (udp_size != 0 ? 11 : 0)) / 28;
        assert_int_equal(out.ptr[6] << 8 | out.ptr[7], n);
        buf_fini(&out);
        answer_with(&query, &answer, DNS_MESSAGE_MAX, &out);
        assert_false(dns_msg_is_truncated(buf_slice(&out)));
        assert_int_equal(out.ptr[7], 200);
        buf_fini(&out);
        buf_fini(&buf);
    }
}

static void test_answers(void **state) {
    struct buf buf, out;
    struct dns_query query;
    make_query(&buf, 0x0100, "Web.demo", DNS_HTTPS, 0);
    assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_OK);
    struct dns_answer answer = {.rcode = DNS_REFUSED, .ede = DNS_EDE_NONE};
    answer_with(&query, &answer, 512, &out);
    struct slice message = buf_slice(&out), asked = buf_slice(&buf);
    assert_false(dns_msg_answers(asked, asked)); // no response
    assert_true(dns_msg_answers(message, asked));
    out.ptr[13] = 'w'; // servers may change the case
    assert_true(dns_msg_answers(message, asked));
    out.ptr[13] = 'x';
    assert_false(dns_msg_answers(message, asked));
    out.ptr[13] = 'w';
    out.ptr[23] = 0x61; // type 65 is 'A': no case there
    assert_false(dns_msg_answers(message, asked));
    out.ptr[23] = 0x41;
    dns_msg_set_id(out.ptr, 0x1235);
    assert_int_equal(dns_msg_id(message), 0x1235);
    assert_false(dns_msg_answers(message, asked));
    dns_msg_set_id(out.ptr, 0x1234);
    assert_true(dns_msg_answers(message, asked));
    out.ptr[5] = 0;
    assert_true(dns_msg_answers(slice_head(message, 12), asked)); // REFUSED without a question
    out.ptr[3] = 0;
    assert_false(dns_msg_answers(slice_head(message, 12), asked));
    for (size_t len = 0; len < message.len; len++) {
        out.ptr[5] = 1;
        assert_false(dns_msg_answers(slice_head(message, len), asked));
    }
    buf_fini(&out);
    buf_fini(&buf);
}

// A query of our own is read back as one, and its answer gives the address behind an alias.
static void test_own_query(void **state) {
    struct buf buf, out;
    struct dns_query query;
    struct ip ip = {0};
    buf_init(&buf, DNS_MESSAGE_MAX);
    dns_query_build("web.demo", DNS_AAAA, 0x1234, &buf);
    assert_int_equal(dns_query_parse(buf_slice(&buf), &query), DNS_QUERY_OK);
    assert_string_equal(query.name, "web.demo");
    assert_int_equal(query.id, 0x1234);
    assert_int_equal(query.flags, 0x0100);
    assert_true(query.type == DNS_AAAA && query.class_ == DNS_IN && query.has_edns);
    assert_int_equal(query.udp_size, DNS_UDP_OURS);
    struct ip ips[] = {{.family = 4, .bytes = {10, 0, 0, 1}}, {.family = 6, .bytes = {0xfd, 1}}};
    struct dns_answer answer = {
        .cname = "web.example", .ips = ips, .n_ips = 2, .ede = DNS_EDE_OTHER, .ede_text = "text"};
    answer_with(&query, &answer, 512, &out);
    struct slice message = buf_slice(&out);
    assert_true(dns_msg_first_ip(message, DNS_AAAA, &ip) && ip_eq(&ip, &ips[1]));
    assert_true(dns_msg_first_ip(message, DNS_A, &ip) && ip_eq(&ip, &ips[0]));
    assert_false(dns_msg_first_ip(buf_slice(&buf), DNS_AAAA, &ip)); // no answers
    // The end of the first address (a record of 16 bytes) is the end of what is needed.
    size_t end = message.len - (11 + 6 + 4) - 28;
    for (size_t len = 0; len < message.len; len++) {
        bool has = dns_msg_first_ip(slice_head(message, len), DNS_A, &ip);
        assert_int_equal(has, len >= end);
    }
    out.ptr[7] = 1; // the alias alone
    assert_false(dns_msg_first_ip(message, DNS_A, &ip));
    out.ptr[7] = 200; // more than there are
    assert_true(dns_msg_first_ip(message, DNS_A, &ip));
    out.ptr[end - 5] = 5; // an address of 5 bytes
    assert_false(dns_msg_first_ip(message, DNS_A, &ip));
    buf_fini(&out);
    answer = (struct dns_answer){.rcode = DNS_NXDOMAIN, .ede = DNS_EDE_NONE};
    answer_with(&query, &answer, 512, &out);
    assert_int_equal(dns_msg_rcode(buf_slice(&out)), DNS_NXDOMAIN);
    buf_fini(&out);
    buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_query),   cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_kinds), cmocka_unit_test(test_answer),
        cmocka_unit_test(test_truncation),  cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
