// SPDX-License-Identifier: Apache-2.0
//
// One connection of a gRPC client: dial, TLS, HTTP/2, and its end.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/grpc_client_priv.h"

enum { KEEPALIVE_S = 300, KEEPALIVE_INTERVAL_S = 75, KEEPALIVE_PROBES = 9 }; // as ztunnel's

static void conn_free(struct grpc_conn *conn) {
    struct grpc_client *client = conn->client;
    timer_clear(&client->loop->timers, &conn->timer);
    list_del(&conn->node);
    free(conn);
    grpc_client_conn_gone(client);
}

static void part_closed(struct grpc_conn *conn) {
    if (--conn->n_parts == 0) {
        conn_free(conn);
    }
}

// With the address when the name has several.
static void failed(struct grpc_conn *conn, const char *text) {
    char to[IP_TEXT_MAX], line[GRPC_CLIENT_TEXT_MAX + IP_TEXT_MAX];
    bool is_name = conn->client->dns != NULL;
    snprintf(line, sizeof(line), "%s%s%s", is_name ? ip_text(&conn->to.ip, to) : "",
             is_name ? ": " : "", text);
    grpc_client_connect_failed(conn, line);
}

// ---- HTTP/2 ------------------------------------------------------------------------------------

static struct grpc_conn *of_http(struct http_conn *http) {
    return CONTAINER_OF(http, struct grpc_conn, http);
}

static void on_idle(struct http_conn *http) {
    struct grpc_conn *conn = of_http(http);
    struct loop *loop = conn->client->loop;
    timer_set(&loop->timers, &conn->timer, loop->now + GRPC_CLIENT_IDLE_MS * NS_PER_MS);
    grpc_client_conn_idle(conn->client);
}

static void on_draining(struct http_conn *http) {
    grpc_client_conn_draining(of_http(http));
}

static void on_http_closed(struct http_conn *http) {
    part_closed(of_http(http));
}

static const struct http_conn_handler http_handler = {
    .on_idle = on_idle, .on_draining = on_draining, .on_closed = on_http_closed};

static void open_http(struct grpc_conn *conn, struct duplex *duplex) {
    struct grpc_client *client = conn->client;
    conn->is_open = true;
    conn->n_parts++;
    timer_set(&client->loop->timers, &conn->timer,
              client->loop->now + GRPC_CLIENT_IDLE_MS * NS_PER_MS);
    http_conn_init(&conn->http, client->loop, duplex, false, HTTP_CONN_2, &client->http,
                   &http_handler);
    grpc_client_connected(conn);
}

// ---- TLS ---------------------------------------------------------------------------------------

static struct grpc_conn *of_tls(struct tls_end *tls) {
    return CONTAINER_OF(tls, struct grpc_conn, tls);
}

static void on_tls_ready(struct tls_end *tls) {
    open_http(of_tls(tls), &tls->duplex);
}

static void on_tls_fail(struct tls_end *tls, const char *text) {
    struct grpc_conn *conn = of_tls(tls);
    const struct grpc_client *client = conn->client;
    char line[GRPC_CLIENT_TEXT_MAX];
    snprintf(line, sizeof(line), "TLS: %s (roots: %s%s%s; name: %s)", text,
             watched_file_path(client->roots), client->roots_error != NULL ? ", older than " : "",
             client->roots_error != NULL ? client->roots_error : "", client->server_name);
    timer_clear(&client->loop->timers, &conn->timer);
    failed(conn, line);
}

static void on_tls_closed(struct tls_end *tls) {
    part_closed(of_tls(tls));
}

static const struct tls_end_handler tls_handler = {
    .on_ready = on_tls_ready, .on_fail = on_tls_fail, .on_closed = on_tls_closed};

static void start_tls(struct grpc_conn *conn) {
    struct grpc_client *client = conn->client;
    struct slice name = slice_str(client->server_name);
    struct ip ip;
    struct tls_outside_server server = {
        .sni = ip_parse(name, &ip) ? (struct slice){0} : name, // RFC 6066 3: no addresses
        .names = &name,
        .n_names = 1,
        .alpn = TLS_ALPN_H2,
    };
    conn->n_parts++;
    timer_set(&client->loop->timers, &conn->timer,
              client->loop->now + GRPC_CLIENT_TLS_MS * NS_PER_MS);
    tls_end_init(&conn->tls, &client->queue, &conn->link.duplex,
                 tls_handshake_new_outside(client->tls, &server), &tls_handler);
}

// ---- life --------------------------------------------------------------------------------------

static void on_timer(struct timer *timer, uint64_t now) {
    struct grpc_conn *conn = CONTAINER_OF(timer, struct grpc_conn, timer);
    if (!conn->is_open) {
        failed(conn, "the TLS handshake timed out");
        tls_end_abort(&conn->tls);
        return;
    }
    uint64_t due = conn->http.last_active + GRPC_CLIENT_IDLE_MS * NS_PER_MS;
    if (conn->http.n_streams == 0 && now < due) {
        timer_set(&conn->client->loop->timers, timer, due);
    } else {
        (void)http_conn_end_idle(&conn->http); // with streams: the last one's end arms it again
    }
}

static void on_dial(void *arg, int res) {
    struct grpc_conn *conn = arg;
    struct grpc_client *client = conn->client;
    conn->dial = NULL;
    if (res < 0) {
        failed(conn, strerror(-res));
        conn_free(conn);
        return;
    }
    link_end_init(&conn->link, client->loop, res);
    if (client->is_secure) {
        start_tls(conn);
    } else {
        open_http(conn, &conn->link.duplex);
    }
}

void grpc_conn_start(struct grpc_client *client, const struct ip *ip) {
    struct grpc_conn *conn = xcalloc(1, sizeof(*conn));
    conn->client = client;
    conn->to = (struct addr){.ip = *ip, .port = client->port};
    conn->trust = client->trust;
    timer_init(&conn->timer, on_timer);
    list_push_back(&client->conns, &conn->node);
    client->connecting = conn;
    struct io_socket_params params = {
        .netns_fd = -1,
        .mark = client->mark,
        .family = ip->family,
        .keepalive_s = KEEPALIVE_S,
        .keepalive_interval_s = KEEPALIVE_INTERVAL_S,
        .keepalive_probes = KEEPALIVE_PROBES,
    };
    conn->dial = dial_start(client->loop, &params, &conn->to, GRPC_CLIENT_CONNECT_MS * NS_PER_MS,
                            on_dial, conn);
}

void grpc_conn_abort(struct grpc_conn *conn) {
    if (conn->dial != NULL) {
        dial_cancel(conn->dial);
        conn_free(conn);
    } else if (conn->is_open) {
        http_conn_abort(&conn->http, HTTP_RESET_TERMINATION);
    } else {
        timer_clear(&conn->client->loop->timers, &conn->timer);
        tls_end_abort(&conn->tls);
    }
}
