// SPDX-License-Identifier: Apache-2.0
//
// A pod's part of a worker: its listeners, and its end when all that it has is gone.
#include <stdlib.h>

#include "ztun/flow.h"
#include "ztun/socks.h"
#include "ztun/zmove.h"
#include "ztun/ztun.h"

enum { MOVING_POLL_MS = 10 };

struct zpod *zworker_pod(struct zworker *worker, uint64_t pod_id) {
    LIST_EACH(node, &worker->pods) {
        struct zpod *zpod = LIST_ITEM(node, struct zpod, node);
        if (zpod->pod->id == pod_id) {
            return zpod;
        }
    }
    return NULL;
}

void zpod_check_drained(struct zpod *zpod) {
    if (!zpod->is_closing || zpod->n_open > 0 || !list_empty(&zpod->flows) ||
        !list_empty(&zpod->server.tunnels)) {
        return;
    }
    struct zworker *worker = zpod->worker;
    if (atomic_load_explicit(&zpod->pod->n_moving, memory_order_acquire) > 0) {
        timer_set(&worker->loop->timers, &zpod->moving_timer,
                  worker->loop->now + MOVING_POLL_MS * NS_PER_MS);
        return;
    }
    timer_clear(&worker->loop->timers, &zpod->cut_timer);
    timer_clear(&worker->loop->timers, &zpod->moving_timer);
    hbone_client_close_pod(&worker->client, zpod->pod->id, false, FLOW_POD_REMOVED);
    if (zpod->tell_drained) {
        ztun_pod_drained(worker->ztun, zpod->pod->id);
    }
    list_del(&zpod->node);
    pod_unref(zpod->pod);
    free(zpod);
}

void zpod_part_closed(struct zpod *zpod) {
    CHECK(zpod->n_open > 0);
    zpod->n_open--;
    zpod_check_drained(zpod);
}

static void on_moving_timer(struct timer *timer, uint64_t now) {
    (void)now;
    zpod_check_drained(CONTAINER_OF(timer, struct zpod, moving_timer));
}

static void on_outbound(struct listener *listener, int fd) {
    outbound_accept(CONTAINER_OF(listener, struct zpod, outbound), fd, NULL);
}
static void on_inbound(struct listener *listener, int fd) {
    struct zpod *zpod = CONTAINER_OF(listener, struct zpod, inbound);
    if (!zmove_plain(zpod, fd)) {
        inbound_plain_accept(zpod, fd);
    }
}
static void on_hbone(struct listener *listener, int fd) {
    struct zpod *zpod = CONTAINER_OF(listener, struct zpod, hbone);
    if (!zmove_tunnel(zpod, fd)) {
        inbound_accept(zpod, fd);
    }
}
static void on_socks(struct listener *listener, int fd) {
    socks_accept(CONTAINER_OF(listener, struct zpod, socks), fd);
}
static void on_socks_closed(struct listener *listener) {
    zpod_part_closed(CONTAINER_OF(listener, struct zpod, socks));
}
static void on_outbound_closed(struct listener *listener) {
    zpod_part_closed(CONTAINER_OF(listener, struct zpod, outbound));
}
static void on_inbound_closed(struct listener *listener) {
    zpod_part_closed(CONTAINER_OF(listener, struct zpod, inbound));
}
static void on_hbone_closed(struct listener *listener) {
    zpod_part_closed(CONTAINER_OF(listener, struct zpod, hbone));
}
static void on_dns_closed(void *arg) {
    zpod_part_closed(arg);
}

static const struct listener_handler outbound_handler = {.on_accept = on_outbound,
                                                         .on_closed = on_outbound_closed};
static const struct listener_handler inbound_handler = {.on_accept = on_inbound,
                                                        .on_closed = on_inbound_closed};
static const struct listener_handler hbone_handler = {.on_accept = on_hbone,
                                                      .on_closed = on_hbone_closed};

static const struct listener_handler socks_handler = {.on_accept = on_socks,
                                                      .on_closed = on_socks_closed};

void zpod_cut_flows(struct zpod *zpod, enum flow_end reason) {
    socks_cut(zpod, reason);
    LIST_EACH_SAFE(node, &zpod->flows) {
        flow_cut(LIST_ITEM(node, struct flow, node), reason);
    }
}

static void on_cut_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct zpod *zpod = CONTAINER_OF(timer, struct zpod, cut_timer);
    zpod->n_open++; // keeps zpod alive through the cuts
    zpod_cut_flows(zpod, FLOW_POD_REMOVED);
    hbone_server_end(&zpod->server, FLOW_POD_REMOVED, false);
    hbone_client_close_pod(&zpod->worker->client, zpod->pod->id, true, FLOW_POD_REMOVED);
    zpod_part_closed(zpod);
}

static void start_listening(struct zpod *zpod, struct listener *listener, int fd,
                            const struct listener_handler *handler) {
    if (fd >= 0) {
        zpod->n_open++;
        listener_init(listener, zpod->worker->loop, fd, handler);
    }
}

static void stop_listening(struct listener *listener, bool adopt) {
    if (listener->loop != NULL) { // it has started
        listener_close(listener, adopt);
    }
}

void zpod_stop_accepting(struct zpod *zpod, bool adopt) {
    if (zpod->is_closing) {
        return;
    }
    zpod->is_closing = zpod->server.is_draining = true;
    if (!zpod->has_sockets) {
        return;
    }
    stop_listening(&zpod->outbound, adopt);
    stop_listening(&zpod->inbound, adopt);
    stop_listening(&zpod->hbone, adopt);
    stop_listening(&zpod->socks, adopt);
    if (zpod->dns != NULL) {
        dns_proxy_close(zpod->dns, on_dns_closed, zpod);
        zpod->dns = NULL;
    }
}

struct pod_up_mail {
    struct mail mail;
    struct zworker *worker;
    struct pod *pod;
};

static void run_pod_up(struct mail *mail, void *owner) {
    (void)owner;
    struct pod_up_mail *up = CONTAINER_OF(mail, struct pod_up_mail, mail);
    struct zworker *worker = up->worker;
    struct zpod *zpod = xcalloc(1, sizeof(*zpod));
    zpod->worker = worker;
    zpod->pod = up->pod;
    list_init(&zpod->flows);
    list_init(&zpod->handshakes);
    hbone_server_init(&zpod->server, worker->loop, &worker->tls_queue, &worker->server_h2,
                      &worker->load->n_tunnels, &inbound_hbone_handler);
    hbone_server_allow_growth(&zpod->server, worker->allow_growth);
    timer_init(&zpod->cut_timer, on_cut_timer);
    timer_init(&zpod->moving_timer, on_moving_timer);
    list_push_back(&worker->pods, &zpod->node);
    free(up);
}

void zworker_send_pod_up(struct zworker *worker, struct pod *pod) {
    struct pod_up_mail *up = xcalloc(1, sizeof(*up));
    up->mail.fn = run_pod_up;
    up->worker = worker;
    up->pod = pod_ref(pod);
    loop_send(worker->loop, &up->mail);
}

struct sockets_mail {
    struct mail mail;
    struct zworker *worker;
    struct pod *pod;
    struct pod_sockets sockets;
    uint32_t n_dns_servers;
    struct addr dns_servers[];
};

static void run_pod_sockets(struct mail *mail, void *owner) {
    (void)owner;
    struct sockets_mail *got = CONTAINER_OF(mail, struct sockets_mail, mail);
    struct zworker *worker = got->worker;
    struct zpod *zpod = zworker_pod(worker, got->pod->id);
    CHECK(zpod != NULL && !zpod->has_sockets); // it went up, and its end would have come later
    zpod->has_sockets = true;
    start_listening(zpod, &zpod->outbound, got->sockets.outbound, &outbound_handler);
    start_listening(zpod, &zpod->inbound, got->sockets.inbound, &inbound_handler);
    start_listening(zpod, &zpod->hbone, got->sockets.hbone, &hbone_handler);
    start_listening(zpod, &zpod->socks, got->sockets.socks, &socks_handler);
    if (got->sockets.dns_udp[0] >= 0 || got->sockets.dns_udp[1] >= 0) {
        struct dns_proxy_config dns = {.servers = got->dns_servers,
                                       .n_servers = got->n_dns_servers,
                                       .mark = worker->config->mark,
                                       .demands = worker->demands.is_on ? &worker->demands : NULL};
        zpod->dns = dns_proxy_new(worker->loop, got->pod, &got->sockets, &dns);
        zpod->n_open++;
    }
    if (worker->is_draining) {
        zpod_stop_accepting(zpod, false);
    }
    pod_unref(got->pod);
    free(got);
}

void zworker_send_pod_sockets(struct zworker *worker, struct pod *pod,
                              const struct pod_sockets *sockets, const struct addr *dns_servers,
                              uint32_t n_dns_servers) {
    struct sockets_mail *mail = xcalloc(1, sizeof(*mail) + n_dns_servers * sizeof(struct addr));
    mail->mail.fn = run_pod_sockets;
    mail->worker = worker;
    mail->pod = pod_ref(pod);
    mail->sockets = *sockets;
    mail->n_dns_servers = n_dns_servers;
    if (n_dns_servers > 0) {
        memcpy(mail->dns_servers, dns_servers, n_dns_servers * sizeof(struct addr));
    }
    loop_send(worker->loop, &mail->mail);
}
