// SPDX-License-Identifier: Apache-2.0
//
// Keeps the addresses of a set of host names fresh (c-ares on the loop): for our own look-ups, such
// as ServiceEntries with resolution DNS. Pods' queries never come here.
//
// A name is looked up again when its TTL is over (at least DNS_CLIENT_TTL_MIN_S). When servers
// fail, the last answer stays and the look-up is repeated with growing delays; a name that does not
// exist has no addresses. Queries are sent from the process's own network namespace.
//
// Thread: the loop's.
#pragma once

#include "common/base/addr.h"
#include "common/rt/loop.h"

enum {
    DNS_CLIENT_TTL_MIN_S = 5,
    DNS_CLIENT_TTL_MAX_S = 300,
    DNS_CLIENT_RUNNING_MAX = 64, // look-ups at a time
};

struct dns_client;

struct dns_client_config {
    struct loop *loop;
    const char *servers; // "ip:port,[ip]:port"; NULL: those of /etc/resolv.conf
    uint32_t timeout_ms, tries; // of a server; 0: 2000, 2
    uint32_t mark; // SO_MARK of the queries, 0 = none
    // The addresses of a name changed (also from or to none). Sorted; valid during the call. Not
    // called from within dns_client_set_names.
    void (*on_change)(void *arg, const char *host, const struct ip *ips, uint32_t n_ips);
    void *arg;
};

// NULL and a text in *ret_error (a literal) when c-ares cannot start.
struct dns_client *dns_client_new(const struct dns_client_config *config, const char **ret_error);
// No callback comes after it. Polls of its sockets may end in a later turn of the loop.
void dns_client_free(struct dns_client *client); // NULL ok

// Replaces the set of names: those that are new are looked up at once, those that are missing are
// forgotten. Lower case; the texts are copied.
void dns_client_set_names(struct dns_client *client, const char *const *hosts, size_t n_hosts);

struct dns_client_stats {
    uint32_t n_names, n_running;
    uint64_t n_lookups, n_failures;
};
void dns_client_get_stats(const struct dns_client *client, struct dns_client_stats *ret_stats);
