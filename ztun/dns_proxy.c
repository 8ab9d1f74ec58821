// SPDX-License-Identifier: Apache-2.0
#include "ztun/dns_proxy.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mesh/dns_resolve.h"
#include "common/mesh/route_wants.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/proto/dns_msg.h"
#include "ztun/demand.h"
#include "ztun/dns_proxy_priv.h"

LOG_SCOPE(log_dns, "dns");

enum { TTL_S = 30 };

// A query that is with the upstream servers.
struct dns_pending {
    struct list node; // proxy->pending
    struct dns_proxy *proxy;
    struct dns_exchange *exchange;
    struct dns_reply_to to; // to.tcp is NULL once the connection is gone
    uint8_t *message; // as the client sent it
    size_t len;
};

// A query for a name that istiod is asked about.
struct dns_asking {
    struct list node; // proxy->asking
    struct dns_proxy *proxy;
    struct demand demand;
    struct dns_reply_to to;
    size_t len;
    uint8_t message[];
};

struct labels {
    struct slice values[4]; // in the order of label set DNS
};

static struct labels labels_of(const struct workload *client, const struct dns_query *query,
                               bool is_tcp) {
    const char *type = dns_type_text(query->type);
    return (struct labels){{
        slice_str(type), // what has no name is "unknown": no series for each number
        is_tcp ? SLICE_LIT("tcp") : SLICE_LIT("udp"),
        slice_str(client != NULL ? workload_canonical_name(client) : NULL),
        slice_str(client != NULL ? client->common->canonical_revision : NULL),
    }};
}

static void count(const struct dns_proxy *proxy, enum metric metric, const struct labels *labels) {
    metric_count(metric, labels->values, 1, proxy->loop->now);
}

static void reply(const struct dns_reply_to *to, struct slice answer) {
    if (to->tcp != NULL) {
        dns_tcp_send(to->tcp, answer);
    } else if (to->lookup != NULL) {
        dns_lookup_answer(to->lookup, answer);
    } else if (to->udp != NULL) {
        // A full socket buffer loses the answer, as any network may.
        (void)sendto(to->udp->fd, answer.ptr, answer.len, MSG_DONTWAIT,
                     (const struct sockaddr *)&to->peer, to->peer_len);
    }
}

static void reply_built(const struct dns_reply_to *to, const struct dns_query *query,
                        const struct dns_answer *answer) {
    struct buf buf;
    buf_init(&buf, DNS_MESSAGE_MAX);
    dns_answer_build(query, answer, to->udp == NULL ? DNS_MESSAGE_MAX : dns_udp_limit(query), &buf);
    reply(to, buf_slice(&buf));
    buf_fini(&buf);
}

static void reply_error(const struct dns_reply_to *to, const struct dns_query *query, uint8_t rcode,
                        int ede, const char *text) {
    struct dns_answer answer = {.rcode = rcode, .ede = ede, .ede_text = text};
    reply_built(to, query, &answer);
}

static struct workload *client_of(const struct dns_proxy *proxy) {
    return pod_workload(proxy->pod, snapshot_current());
}

static void on_exchange_done(void *arg, int rc, struct slice answer, uint64_t started_ns) {
    struct dns_pending *pending = arg;
    struct dns_proxy *proxy = pending->proxy;
    struct dns_query query;
    (void)dns_query_parse(slice_make(pending->message, pending->len), &query);
    struct labels labels = labels_of(client_of(proxy), &query, pending->to.tcp != NULL);
    if (rc == 0) {
        struct metric_series *series = metric_series_get(METRIC_LABELS_DNS, labels.values);
        metric_series_observe(series, METRIC_DNS_UPSTREAM_SECONDS,
                              (double)(proxy->loop->now - started_ns) / (double)NS_PER_SEC);
        metric_series_put(series, proxy->loop->now);
        reply(&pending->to, answer);
    } else {
        count(proxy, METRIC_DNS_UPSTREAM_FAILURES, &labels);
        log_debug(&log_dns, "upstream did not answer", LOG_STR("uid", proxy->pod->uid),
                  LOG_STR("name", query.name), LOG_ERRNO("error", rc));
        reply_error(&pending->to, &query, DNS_SERVFAIL, DNS_EDE_NETWORK, log_errno_text(rc));
    }
    if (pending->to.tcp != NULL) {
        dns_tcp_pending(pending->to.tcp, -1);
    }
    list_del(&pending->node);
    proxy->n_pending--;
    free(pending->message);
    free(pending);
    dns_proxy_check_closed(proxy);
}

static void relay(struct dns_proxy *proxy, struct slice message, const struct dns_query *query,
                  const struct dns_reply_to *to, const struct labels *labels) {
    if (proxy->n_servers == 0) {
        reply_error(to, query, DNS_SERVFAIL, DNS_EDE_NO_REACHABLE,
                    "not a name of the mesh, and the pod has no upstream server");
        return;
    }
    if (proxy->n_pending >= DNS_PENDING_MAX) {
        reply_error(to, query, DNS_SERVFAIL, DNS_EDE_OTHER, "too many queries are pending");
        return;
    }
    count(proxy, METRIC_DNS_UPSTREAM_REQUESTS, labels);
    struct dns_pending *pending = xcalloc(1, sizeof(*pending));
    pending->proxy = proxy;
    pending->to = *to;
    pending->message = xmalloc(message.len);
    pending->len = message.len;
    memcpy(pending->message, message.ptr, message.len);
    list_push_back(&proxy->pending, &pending->node);
    proxy->n_pending++;
    if (to->tcp != NULL) {
        dns_tcp_pending(to->tcp, 1);
    }
    struct dns_exchange_params params = {
        .loop = proxy->loop,
        .pod = proxy->pod,
        .mark = proxy->mark,
        .servers = proxy->servers,
        .n_servers = proxy->n_servers,
        .is_tcp = to->tcp != NULL || (to->lookup != NULL && to->lookup->is_tcp),
        .query = message,
        .done = on_exchange_done,
        .arg = pending,
    };
    pending->exchange = dns_exchange_start(&params);
}

// True when the mesh knows the answer.
static bool answer_from_mesh(struct dns_proxy *proxy, const struct workload *client,
                             const struct dns_query *query, const struct dns_reply_to *to) {
    struct dns_resolution found;
    if ((query->type != DNS_A && query->type != DNS_AAAA) || query->class_ != DNS_IN ||
        !dns_resolve(snapshot_current(), client, query->name, query->type == DNS_A ? 4 : 6,
                     &proxy->rand, &found)) {
        return false;
    }
    struct dns_answer answer = {
        .rcode = DNS_NOERROR,
        .is_authoritative = true,
        .cname = found.is_alias ? found.target : NULL,
        .ips = found.ips,
        .n_ips = found.n_ips,
        .ttl_s = TTL_S,
        .ede = DNS_EDE_NONE,
    };
    reply_built(to, query, &answer);
    return true;
}

static void on_asked(struct demand *demand, enum demand_result result) {
    (void)result; // what the mesh does not know now, the servers may
    struct dns_asking *asking = CONTAINER_OF(demand, struct dns_asking, demand);
    struct dns_proxy *proxy = asking->proxy;
    struct dns_query query;
    const struct workload *client = client_of(proxy);
    list_del(&asking->node); // nobody looks for it any more
    proxy->n_pending--;
    (void)dns_query_parse(slice_make(asking->message, asking->len), &query);
    if (client == NULL || !answer_from_mesh(proxy, client, &query, &asking->to)) {
        struct labels labels = labels_of(client, &query, asking->to.tcp != NULL);
        relay(proxy, slice_make(asking->message, asking->len), &query, &asking->to, &labels);
    }
    if (asking->to.tcp != NULL) {
        dns_tcp_pending(asking->to.tcp, -1);
    }
    free(asking);
    dns_proxy_check_closed(proxy);
}

// True: the query waits for what istiod says of its name.
static bool asks(struct dns_proxy *proxy, const struct dns_query *query, struct slice message,
                 const struct dns_reply_to *to) {
    char name[ROUTE_WANT_MAX];
    bool is_address = (query->type == DNS_A || query->type == DNS_AAAA) && query->class_ == DNS_IN;
    if (proxy->demands == NULL || !is_address || proxy->n_pending >= DNS_PENDING_MAX ||
        !route_wants_host(snapshot_current(), query->name, name)) {
        return false;
    }
    struct dns_asking *asking = xcalloc(1, sizeof(*asking) + message.len);
    if (!demand_start(&asking->demand, proxy->demands, name, DNS_ASK_MS, on_asked)) {
        free(asking);
        return false;
    }
    asking->proxy = proxy;
    asking->to = *to;
    asking->len = message.len;
    slice_copy(asking->message, message);
    list_push_back(&proxy->asking, &asking->node);
    proxy->n_pending++;
    if (to->tcp != NULL) {
        dns_tcp_pending(to->tcp, 1);
    }
    return true;
}

// Those of a connection or a look-up that is gone; of all, when both are NULL.
static void stop_asking(struct dns_proxy *proxy, const struct dns_tcp *tcp,
                        const struct dns_lookup *lookup) {
    LIST_EACH_SAFE(pos, &proxy->asking) {
        struct dns_asking *asking = LIST_ITEM(pos, struct dns_asking, node);
        if ((tcp == NULL || asking->to.tcp == tcp) &&
            (lookup == NULL || asking->to.lookup == lookup)) {
            demand_cancel(&asking->demand);
            list_del(&asking->node);
            proxy->n_pending--;
            free(asking);
        }
    }
}

void dns_proxy_query(struct dns_proxy *proxy, struct slice message, const struct dns_reply_to *to) {
    struct dns_query query;
    enum dns_query_result result = dns_query_parse(message, &query);
    if (result == DNS_QUERY_IGNORE) {
        return;
    }
    const struct workload *client = client_of(proxy);
    struct labels labels = labels_of(client, &query, to->tcp != NULL);
    count(proxy, METRIC_DNS_REQUESTS, &labels);
    if (result == DNS_QUERY_BAD || message.len > DNS_QUERY_MAX) {
        reply_error(to, &query, DNS_FORMERR, DNS_EDE_NONE, NULL);
    } else if (client == NULL) {
        reply_error(to, &query, DNS_SERVFAIL, DNS_EDE_OTHER, "the pod is not known to the mesh");
    } else if (result == DNS_QUERY_OK && query.has_edns && query.edns_version != 0) {
        reply_error(to, &query, DNS_BADVERS, DNS_EDE_NONE, NULL);
    } else if (result == DNS_QUERY_OK &&
               (answer_from_mesh(proxy, client, &query, to) || asks(proxy, &query, message, to))) {
        return;
    } else {
        relay(proxy, message, &query, to, &labels);
    }
}

void dns_proxy_forget(struct dns_proxy *proxy, const struct dns_tcp *tcp) {
    stop_asking(proxy, tcp, NULL);
    LIST_EACH(pos, &proxy->pending) {
        struct dns_pending *pending = LIST_ITEM(pos, struct dns_pending, node);
        if (pending->to.tcp == tcp) {
            pending->to.tcp = NULL;
            dns_exchange_cancel(pending->exchange);
        }
    }
}

void dns_proxy_forget_lookup(struct dns_proxy *proxy, const struct dns_lookup *lookup) {
    stop_asking(proxy, NULL, lookup);
    LIST_EACH(pos, &proxy->pending) {
        struct dns_pending *pending = LIST_ITEM(pos, struct dns_pending, node);
        if (pending->to.lookup == lookup) {
            pending->to.lookup = NULL;
            dns_exchange_cancel(pending->exchange);
        }
    }
}

// Reads queued queries, at most `budget`. False when there may be more.
static bool read_queries(struct dns_udp *udp, int budget) {
    uint8_t message[DNS_QUERY_MAX + 1]; // longer ones are seen to be too long
    for (int i = 0; i < budget; i++) {
        struct dns_reply_to to = {.udp = udp, .peer_len = sizeof(to.peer)};
        ssize_t n = recvfrom(udp->fd, message, sizeof(message), MSG_DONTWAIT,
                             (struct sockaddr *)&to.peer, &to.peer_len);
        if (n >= 0) {
            dns_proxy_query(udp->proxy, slice_make(message, (size_t)n), &to);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return true;
        } // else a pending ICMP error of an earlier answer: it is taken back by reading
    }
    return false;
}

static void on_udp(struct watch *watch, uint32_t ready) {
    struct dns_udp *udp = CONTAINER_OF(watch, struct dns_udp, watch);
    if (!timer_is_armed(&udp->more) && !read_queries(udp, DNS_UDP_BUDGET)) {
        timer_set(&udp->proxy->loop->timers, &udp->more, udp->proxy->loop->now);
    }
}

static void on_more(struct timer *timer, uint64_t now) {
    struct dns_udp *udp = CONTAINER_OF(timer, struct dns_udp, more);
    if (!read_queries(udp, DNS_UDP_BUDGET)) {
        timer_set(&udp->proxy->loop->timers, &udp->more, now);
    }
}

static void on_listen(struct watch *watch, uint32_t ready) {
    dns_tcp_accept(CONTAINER_OF(watch, struct dns_listen, watch));
}

static void on_close_timer(struct timer *timer, uint64_t now) {
    struct dns_proxy *proxy = CONTAINER_OF(timer, struct dns_proxy, close_timer);
    stop_asking(proxy, NULL, NULL);
    LIST_EACH(pos, &proxy->pending) {
        dns_exchange_cancel(LIST_ITEM(pos, struct dns_pending, node)->exchange);
    }
    LIST_EACH_SAFE(pos, &proxy->clients) {
        dns_tcp_close((struct dns_tcp *)pos); // node is its first member
    }
}

struct dns_proxy *dns_proxy_new(struct loop *loop, struct pod *pod, struct pod_sockets *sockets,
                                const struct dns_proxy_config *config) {
    struct dns_proxy *proxy = xcalloc(1, sizeof(*proxy));
    proxy->loop = loop;
    proxy->pod = pod_ref(pod);
    proxy->mark = config->mark;
    proxy->n_servers = MIN(config->n_servers, (uint32_t)DNS_UPSTREAMS_MAX);
    if (proxy->n_servers > 0) {
        memcpy(proxy->servers, config->servers, proxy->n_servers * sizeof(struct addr));
    }
    rand_seed_os(&proxy->rand);
    list_init(&proxy->pending);
    list_init(&proxy->asking);
    proxy->demands = config->demands;
    list_init(&proxy->clients);
    timer_init(&proxy->close_timer, on_close_timer);
    for (int i = 0; i < 2; i++) {
        struct dns_udp *udp = &proxy->udp[i];
        udp->proxy = proxy;
        udp->fd = sockets->dns_udp[i];
        sockets->dns_udp[i] = -1;
        timer_init(&udp->more, on_more);
        if (udp->fd >= 0) {
            watch_init(&udp->watch, loop, udp->fd, POLLIN, on_udp);
            proxy->n_watches++;
        }
        struct dns_listen *tcp = &proxy->tcp[i];
        tcp->proxy = proxy;
        tcp->fd = sockets->dns_tcp[i];
        sockets->dns_tcp[i] = -1;
        if (tcp->fd >= 0) {
            watch_init(&tcp->watch, loop, tcp->fd, POLLIN, on_listen);
            proxy->n_watches++;
        }
    }
    return proxy;
}

static void close_fd(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void dns_proxy_check_closed(struct dns_proxy *proxy) {
    if (!proxy->is_closing || proxy->n_pending + proxy->n_clients + proxy->n_watches > 0) {
        return;
    }
    timer_clear(&proxy->loop->timers, &proxy->close_timer);
    for (int i = 0; i < 2; i++) {
        close_fd(&proxy->udp[i].fd); // kept open for late answers
        close_fd(&proxy->tcp[i].fd);
    }
    pod_unref(proxy->pod);
    void (*closed)(void *arg) = proxy->closed;
    void *arg = proxy->closed_arg;
    free(proxy);
    closed(arg);
}

static void on_udp_stopped(struct watch *watch) {
    struct dns_udp *udp = CONTAINER_OF(watch, struct dns_udp, watch);
    (void)read_queries(udp, DNS_PENDING_MAX); // what another CPU was about to queue
    udp->proxy->n_watches--;
    dns_proxy_check_closed(udp->proxy);
}

static void on_listen_stopped(struct watch *watch) {
    struct dns_listen *tcp = CONTAINER_OF(watch, struct dns_listen, watch);
    close_fd(&tcp->fd);
    tcp->proxy->n_watches--;
    dns_proxy_check_closed(tcp->proxy);
}

// Queries that come from now on are for the other sockets of the port (another process's), though
// this one stays open for late answers: of a group of SO_REUSEPORT, the kernel leaves out those
// that are connected. The peer is the socket itself, which sends nothing.
static void leave_group(int fd) {
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);
    if (getsockname(fd, (struct sockaddr *)&own, &len) == 0) {
        (void)!connect(fd, (const struct sockaddr *)&own, len);
    }
}

void dns_proxy_close(struct dns_proxy *proxy, void (*closed)(void *arg), void *arg) {
    CHECK(!proxy->is_closing);
    proxy->closed = closed;
    proxy->closed_arg = arg;
    for (int i = 0; i < 2; i++) {
        // Queries that are queued here reach no other process.
        if (proxy->udp[i].fd >= 0) {
            leave_group(proxy->udp[i].fd);
            timer_clear(&proxy->loop->timers, &proxy->udp[i].more);
            (void)read_queries(&proxy->udp[i], DNS_PENDING_MAX);
            watch_stop(&proxy->udp[i].watch, on_udp_stopped);
        }
        if (proxy->tcp[i].fd >= 0) {
            dns_tcp_accept(&proxy->tcp[i]);
            watch_stop(&proxy->tcp[i].watch, on_listen_stopped);
        }
    }
    proxy->is_closing = true;
    timer_set(&proxy->loop->timers, &proxy->close_timer,
              proxy->loop->now + DNS_CLOSE_MS * NS_PER_MS);
}
