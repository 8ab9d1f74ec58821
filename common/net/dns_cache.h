// SPDX-License-Identifier: Apache-2.0
//
// Addresses of host names that others ask for, one by one: looked up when they are wanted, and kept
// within limits. Who asks chooses the name, so nothing here grows with their number.
//
// An answer is good for its TTL (DNS_CACHE_TTL_MIN_S to DNS_CACHE_TTL_MAX_S). After that the next
// one to ask gets it all the same, and has it looked up again, for up to DNS_CACHE_STALE_S: names
// that are in use are always at hand, and survive a name server's failure. A name that does not
// exist is remembered for DNS_CACHE_NONE_S, a failure for DNS_CACHE_FAILED_S. When there are
// `max_names`, the one that was asked for the longest ago makes room.
//
// Addresses that are no server's (loopback, link-local, multicast, none) are left out: a foreign
// name server shall not point into the process's own host.
//
// Thread: the loop's.
#pragma once

#include "common/base/hmap.h"
#include "common/base/list.h"
#include "common/net/dns_channel.h"

enum {
    DNS_CACHE_NAMES_MAX = 1024, // Envoy's
    DNS_CACHE_WAITING_MAX = 1024,
    DNS_CACHE_TTL_MIN_S = 5,
    DNS_CACHE_TTL_MAX_S = 300,
    DNS_CACHE_STALE_S = 300,
    DNS_CACHE_NONE_S = 30,
    DNS_CACHE_FAILED_S = 5,
};

struct dns_cache;
struct dns_cache_query;

struct dns_cache_answer { // valid during the call of fn, or until the next dns_cache_ask
    const struct ip *ips;
    uint32_t n_ips; // 0: there is none, `text` says why
    const char *text; // a literal, "" else
};

struct dns_cache_query { // embedded in who asks; all zero before its first use
    struct list node; // of the name's waiting queries
    struct dns_cache *cache; // NULL: it does not wait
    void (*fn)(struct dns_cache_query *query, const struct dns_cache_answer *answer);
};

enum dns_cache_verdict {
    DNS_CACHE_HERE, // the answer is known
    DNS_CACHE_WAITS, // fn is called later, never within the call
    DNS_CACHE_FULL, // as many names are being looked up as there may be
    DNS_CACHE_BUSY, // as many queries wait as there may
};

// Starts a look-up; `fn` is called once, perhaps before it returns.
typedef void dns_look_up_fn(void *arg, const char *host, dns_result_fn *fn, void *fn_arg);

struct dns_cache_config {
    struct loop *loop;
    dns_look_up_fn *look_up;
    void *arg;
    uint32_t max_names, max_waiting; // 0: the limits above
};

struct dns_cache *dns_cache_new(const struct dns_cache_config *config);
// Nobody waits any more. Look-ups may still run: their answers are not heard.
void dns_cache_free(struct dns_cache *cache); // NULL ok
// `host`: lower case. *ret_answer is set when it is HERE.
enum dns_cache_verdict dns_cache_ask(struct dns_cache *cache, const char *host,
                                     struct dns_cache_query *query,
                                     struct dns_cache_answer *ret_answer);
void dns_cache_cancel(struct dns_cache_query *query); // harmless when it does not wait

struct dns_cache_stats {
    uint32_t n_names, n_waiting;
    uint64_t n_lookups, n_failures, n_evicted;
};
void dns_cache_get_stats(const struct dns_cache *cache, struct dns_cache_stats *ret_stats);
