// SPDX-License-Identifier: Apache-2.0
//
// waypoint_plain IP:PORT=NS/NAME.NS.svc.DOMAIN... WAYPOINT-OPTION...: the waypoint with plain ways
// in.
//
// The waypoint takes HTTP in CONNECT streams alone. To compare it with reverse proxies that take
// plain HTTP, this program is the whole waypoint (control_run, its workers, configuration, metrics,
// access log, admin port) with listeners added: a connection to IP:PORT is served as one of a
// client that called the first port of that service. From http_down_start on everything is the
// product's. Not here: HBONE's handshake and streams, the check of policies, which a connection has
// and a request has not. One worker.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/net/link_end.h"
#include "common/proc/proc_log.h"
#include "common/proc/proc_start.h"
#include "common/rt/sock.h"
#include "waypoint/conn.h"
#include "waypoint/control.h"
#include "waypoint/http_down.h"

enum { MAX_PLAIN = 16, START_TIMEOUT_MS = 20000 };

struct way_in {
    struct mail mail;
    struct listener listener;
    struct addr addr;
    const char *service; // key
};

// A client's connection: goes with its link.
struct plain {
    struct link_end end;
    struct duplex_events events; // the HTTP connection's, but for the last
    void (*on_closed)(struct duplex *duplex);
};

static struct waypoint waypoint;
static struct way_in ways[MAX_PLAIN];
static int n_ways;
static struct hbone_tunnel no_tunnel; // what a wconn counts its references on

static void on_plain_closed(struct duplex *duplex) {
    struct plain *plain = CONTAINER_OF(duplex, struct plain, end.duplex);
    plain->on_closed(duplex);
    free(plain);
}

static struct wconn *new_wconn(struct wworker *worker, struct service *service,
                               const struct addr *client, const struct addr *local) {
    struct wconn *conn = slab_alloc(&worker->conn_slab);
    struct workload *source = snapshot_workload_by_ip(snapshot_current(), &client->ip);
    leaf_ref(service);
    if (source != NULL) {
        leaf_ref(source);
    }
    *conn = (struct wconn){
        .worker = worker,
        .tunnel = &no_tunnel,
        .id = ++worker->last_conn_id,
        .started_ns = worker->loop->now,
        .client = *client,
        .local = *local,
        .dst = *local,
        .client_id = slice_str(source != NULL ? source->common->identity : ""),
        .source = source,
        .service = service,
        .app_protocol = service->ports[0].app_protocol,
        .is_accepted = true,
        .checked = worker->recheck,
    };
    list_init(&conn->waiting);
    list_push_back(&worker->conns, &conn->node);
    worker->n_conns++;
    hbone_tunnel_get(&no_tunnel);
    return conn;
}

static void on_accept(struct listener *listener, int fd) {
    struct way_in *way = CONTAINER_OF(listener, struct way_in, listener);
    struct wworker *worker = waypoint.workers[0];
    struct addr client, local;
    struct service *service = snapshot_service(snapshot_current(), way->service);
    if (service == NULL || service->n_ports == 0 || !wworker_admits(worker, fd) ||
        sock_peer_addr(fd, &client) < 0 || sock_local_addr(fd, &local) < 0) {
        sock_close(fd, true);
        return;
    }
    sock_nodelay(fd);
    struct wconn *conn = new_wconn(worker, service, &client, &local);
    struct plain *plain = xcalloc(1, sizeof(*plain));
    link_end_init(&plain->end, worker->loop, fd);
    http_down_start(conn, &plain->end.duplex, NULL, false);
    plain->events = *plain->end.duplex.events;
    plain->on_closed = plain->events.on_closed;
    plain->events.on_closed = on_plain_closed;
    plain->end.duplex.events = &plain->events;
}

static void on_listener_closed(struct listener *listener) {
    (void)listener;
}

static void run_listen(struct mail *mail, void *owner) {
    static const struct listener_handler handler = {.on_accept = on_accept,
                                                    .on_closed = on_listener_closed};
    (void)owner;
    struct way_in *way = CONTAINER_OF(mail, struct way_in, mail);
    struct sock_listen_params params = {.netns_fd = -1, .bind = way->addr, .backlog = 4096};
    int fd = sock_listen(&params);
    if (fd < 0) {
        fprintf(stderr, "waypoint_plain: cannot listen: %s\n", strerror(-fd));
        exit(1);
    }
    listener_init(&way->listener, waypoint.workers[0]->loop, fd, &handler);
}

// The control thread starts the worker; it has no hook for more listeners.
static void *open_ways(void *arg) {
    (void)arg;
    for (int ms = 0; __atomic_load_n(&waypoint.n_workers, __ATOMIC_ACQUIRE) == 0; ms++) {
        if (ms == START_TIMEOUT_MS) {
            fprintf(stderr, "waypoint_plain: no worker\n");
            exit(1);
        }
        usleep(1000);
    }
    for (int i = 0; i < n_ways; i++) {
        ways[i].mail.fn = run_listen;
        loop_send(waypoint.workers[0]->loop, &ways[i].mail);
    }
    return NULL;
}

static bool parse_way(char *text) {
    char *equals = strchr(text, '=');
    if (equals == NULL || n_ways == MAX_PLAIN) {
        return false;
    }
    struct way_in *way = &ways[n_ways++];
    way->service = equals + 1;
    return addr_parse(slice_make(text, (size_t)(equals - text)), &way->addr);
}

int main(int argc, char **argv) {
    int n_plain = 1;
    while (n_plain < argc && strncmp(argv[n_plain], "--", 2) != 0) {
        if (!parse_way(argv[n_plain++])) {
            fprintf(stderr, "waypoint_plain: %s: expected IP:PORT=SERVICE, at most %d\n",
                    argv[n_plain - 1], MAX_PLAIN);
            return 2;
        }
    }
    argv[n_plain - 1] = argv[0];
    int rc = waypoint_config_parse(&waypoint.config, argc - n_plain + 1, argv + n_plain - 1);
    if (rc != 0) {
        return rc == 1 ? 0 : rc;
    }
    if (waypoint.config.proc.n_workers != 1) {
        fprintf(stderr, "waypoint_plain: --workers=1 is all it can do\n");
        return 2;
    }
    no_tunnel.n_users = 1;
    proc_harden();
    if (!proc_log_init("waypoint", waypoint.config.proc.log_format,
                       waypoint.config.proc.log_filter)) {
        return 2;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, open_ways, NULL) != 0) {
        return 1;
    }
    return control_run(&waypoint);
}
