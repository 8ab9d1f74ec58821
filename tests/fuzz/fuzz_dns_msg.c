// SPDX-License-Identifier: Apache-2.0
// DNS: reading any bytes as a query, answering it, and reading the answer back.
#include <stdlib.h>

#include "common/base/check.h"
#include "common/proto/dns_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void answer(const struct dns_query *query, struct slice message, uint32_t n_ips,
                   const char *cname) {
    struct ip ips[64];
    for (uint32_t i = 0; i < n_ips; i++) {
        ips[i] = (struct ip){.family = i % 3 == 0 ? 6 : 4, .bytes = {10, 0, 0, (uint8_t)i}};
    }
    struct dns_answer spec = {
        .rcode = (uint8_t)(n_ips % 17),
        .cname = cname,
        .ips = ips,
        .n_ips = n_ips,
        .ttl_s = 30,
        .ede = query->flags % 3 == 0 ? DNS_EDE_NONE : DNS_EDE_OTHER,
        .ede_text = "no upstream server",
    };
    struct buf buf;
    buf_init(&buf, DNS_MESSAGE_MAX);
    size_t limit = dns_udp_limit(query);
    dns_answer_build(query, &spec, limit, &buf);
    CHECK(buf_ok(&buf) && buf.len >= DNS_HEADER_LEN && buf.len <= limit);
    CHECK(query->question.len == 0 || dns_msg_answers(buf_slice(&buf), message));
    struct ip ip;
    bool is_whole = !dns_msg_is_truncated(buf_slice(&buf)) && query->question.len > 0;
    CHECK(!is_whole || dns_msg_first_ip(buf_slice(&buf), DNS_A, &ip) == (n_ips > 1));
    buf_fini(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct slice message = slice_make(data, MIN(len, (size_t)DNS_MESSAGE_MAX));
    struct dns_query query;
    enum dns_query_result result = dns_query_parse(message, &query);
    CHECK(len >= DNS_HEADER_LEN || result == DNS_QUERY_IGNORE);
    (void)dns_msg_is_truncated(message);
    (void)dns_msg_answers(message, message);
    if (result == DNS_QUERY_OK || result == DNS_QUERY_BAD) {
        CHECK(strlen(query.name) <= 253);
        answer(&query, message, len % 64, len % 2 == 0 ? query.name : NULL);
    }
    struct ip ip;
    if (dns_msg_first_ip(message, DNS_A, &ip)) {
        CHECK(ip.family == 4);
    }
    if (dns_msg_first_ip(message, DNS_AAAA, &ip)) { // one that is mapped is IPv4
        CHECK(ip_is_set(&ip));
    }
    if (len > 2 * DNS_HEADER_LEN) { // two messages
        size_t half = len / 2;
        (void)dns_msg_answers(slice_skip(message, half), slice_head(message, half));
    }
    return 0;
}
