// SPDX-License-Identifier: Apache-2.0
#include "common/proto/dns_msg.h"
#include "ztun/dns_proxy_priv.h"

static void ask(struct dns_lookup *lookup) {
    struct buf query;
    struct dns_reply_to to = {.lookup = lookup};
    buf_init(&query, DNS_QUERY_MAX);
    uint16_t id = (uint16_t)rand_u64(&lookup->proxy->rand);
    dns_query_build(lookup->name, lookup->is_v6 ? DNS_AAAA : DNS_A, id, &query);
    dns_proxy_query(lookup->proxy, buf_slice(&query), &to);
    buf_fini(&query);
}

void dns_lookup_answer(struct dns_lookup *lookup, struct slice answer) {
    struct ip ip;
    if (dns_msg_first_ip(answer, lookup->is_v6 ? DNS_AAAA : DNS_A, &ip)) {
        lookup->done(lookup, &ip, NULL);
    } else if (dns_msg_rcode(answer) == DNS_NXDOMAIN) {
        lookup->done(lookup, NULL, "no such host name");
    } else if (dns_msg_rcode(answer) != DNS_NOERROR) {
        lookup->done(lookup, NULL, "the host name could not be resolved");
    } else if (dns_msg_is_truncated(answer) && !lookup->is_tcp) {
        lookup->is_tcp = true;
        ask(lookup);
    } else if (!lookup->is_v6) {
        lookup->is_v6 = true;
        lookup->is_tcp = false;
        ask(lookup);
    } else {
        lookup->done(lookup, NULL, "the host name has no address");
    }
}

void dns_lookup_start(struct dns_lookup *lookup, struct dns_proxy *proxy, const char *name,
                      void (*done)(struct dns_lookup *lookup, const struct ip *ip,
                                   const char *why)) {
    *lookup = (struct dns_lookup){.proxy = proxy, .name = name, .done = done};
    ask(lookup);
}

void dns_lookup_cancel(struct dns_lookup *lookup) {
    dns_proxy_forget_lookup(lookup->proxy, lookup);
}
