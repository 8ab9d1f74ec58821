// SPDX-License-Identifier: Apache-2.0
//
// Services whose host is what a request asks for (ServiceEntry, resolution DYNAMIC_DNS): any name
// under the service's wildcard, said by Host, or by the SNI of TLS. Each worker looks names up by
// itself and remembers so many (dns_cache.h). There is nothing to balance: a name's addresses are
// hosts, of which any one is taken that is not ejected and was not tried. The port is the
// service's, whatever port Host says.
//
// Thread: the worker's.
#pragma once

#include "common/l7/l7_name.h"
#include "common/net/dns_cache.h"
#include "waypoint/upstream.h"

struct http_worker;

enum {
    DYNAMIC_HOSTS_MAX = 4096, // addresses that a worker remembers; those in use are never forgotten
};

void dynamic_init(struct http_worker *http);
void dynamic_fini(struct http_worker *http);
// At the end, when no request and no connection is left: look-ups are given up; false while the
// loop has something of them. Once a turn until then.
bool dynamic_stop(struct http_worker *http);
void dynamic_news(struct http_worker *http); // services changed

// As dns_cache_ask.
enum dns_cache_verdict dynamic_ask(struct http_worker *http, const char *name,
                                   struct dns_cache_query *query,
                                   struct dns_cache_answer *ret_answer);
// One of the addresses; NULL: all are ejected, or of a family that the waypoint has not. Good while
// its cell counts the caller as active.
const struct l7_host *dynamic_host(struct http_worker *http, const struct upstream_view *view,
                                   const struct dns_cache_answer *answer,
                                   const struct l7_host_cell *const *tried, size_t n_tried);
