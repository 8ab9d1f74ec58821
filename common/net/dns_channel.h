// SPDX-License-Identifier: Apache-2.0
//
// Single look-ups of host names' addresses, by c-ares on the loop. What is kept of the answers, and
// for how long, is dns_client.h's and dns_cache.h's. Queries are sent from the process's own
// network namespace.
//
// Thread: the loop's; several loops may have a channel each.
#pragma once

#include "common/base/addr.h"
#include "common/rt/loop.h"

enum { DNS_CHANNEL_IPS_MAX = 64 }; // of a name; more are left out

enum dns_outcome {
    DNS_FOUND,
    DNS_NO_NAME, // there is no such name
    DNS_NO_DATA, // the name has no address
    DNS_FAILED, // servers fail, or do not answer
    DNS_CANCELLED, // the channel is being freed
};

struct dns_result {
    uint8_t outcome; // enum dns_outcome
    const struct ip *ips; // FOUND: at least one; in no order, valid during the call
    uint32_t n_ips;
    uint32_t ttl_s; // FOUND: the lowest of the records
    const char *text; // of what went wrong: a literal
};
typedef void dns_result_fn(void *arg, const struct dns_result *result);

struct dns_channel;

struct dns_channel_config {
    struct loop *loop;
    const char *servers; // "ip:port,[ip]:port"; NULL: those of /etc/resolv.conf
    uint32_t timeout_ms, tries; // of a server; 0: 2000, 2
    // The owner's count of sockets that the loop still polls, which outlives the channel: at 0 the
    // loop has nothing of it any more. NULL: not wanted.
    uint32_t *n_socks;
    uint32_t mark; // SO_MARK of the queries, 0 = none
    bool uses_search; // names are completed as /etc/resolv.conf says; else they are whole
};

// NULL and a text in *ret_error (a literal) when c-ares cannot start.
struct dns_channel *dns_channel_new(const struct dns_channel_config *config,
                                    const char **ret_error);
// Look-ups that run end within the call (DNS_CANCELLED). Polls of its sockets may end in a later
// turn of the loop.
void dns_channel_free(struct dns_channel *channel); // NULL ok
// `fn` is called once, perhaps before this returns.
void dns_channel_look_up(struct dns_channel *channel, const char *host, dns_result_fn *fn,
                         void *arg);
