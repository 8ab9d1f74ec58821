// SPDX-License-Identifier: Apache-2.0
//
// One connection of an HTTP client: dial, TLS, HTTP, and its end.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/http_client_priv.h"

// A host that is gone without a word: HTTP/1.1 has no PING.
enum { KEEPALIVE_S = 30, KEEPALIVE_INTERVAL_S = 10, KEEPALIVE_PROBES = 3 };

static void conn_free(struct http_client_conn *conn) {
    struct http_client *client = conn->client;
    timer_clear(&client->loop->timers, &conn->timer);
    list_del(&conn->node);
    free(conn);
    http_client_conn_gone(client);
}

static void part_closed(struct http_client_conn *conn) {
    if (--conn->n_parts == 0) {
        conn_free(conn);
    }
}

// With the address when the name has several.
static void failed(struct http_client_conn *conn, const char *text) {
    char to[IP_TEXT_MAX], line[HTTP_CLIENT_TEXT_MAX + IP_TEXT_MAX];
    bool is_name = conn->client->dns != NULL;
    snprintf(line, sizeof(line), "%s%s%s", is_name ? ip_text(&conn->to.ip, to) : "",
             is_name ? ": " : "", text);
    http_client_connect_failed(conn, line);
}

// ---- HTTP --------------------------------------------------------------------------------------

static struct http_client_conn *of_http(struct http_conn *http) {
    return CONTAINER_OF(http, struct http_client_conn, http);
}

static void on_idle(struct http_conn *http) {
    struct http_client_conn *conn = of_http(http);
    struct loop *loop = conn->client->loop;
    timer_set(&loop->timers, &conn->timer, loop->now + HTTP_CLIENT_IDLE_MS * NS_PER_MS);
    http_client_conn_idle(conn->client);
}

static void on_draining(struct http_conn *http) {
    struct http_client_conn *conn = of_http(http);
    conn->is_retired = true;
    http_client_conn_idle(conn->client);
}

static void on_http_closed(struct http_conn *http) {
    part_closed(of_http(http));
}

static const struct http_conn_handler http_handler = {
    .on_idle = on_idle, .on_draining = on_draining, .on_closed = on_http_closed};

static void open_http(struct http_client_conn *conn, struct duplex *duplex, bool is_h2) {
    struct http_client *client = conn->client;
    conn->is_open = true;
    conn->n_parts++;
    timer_set(&client->loop->timers, &conn->timer,
              client->loop->now + HTTP_CLIENT_IDLE_MS * NS_PER_MS);
    http_conn_init(&conn->http, client->loop, duplex, false, is_h2 ? HTTP_CONN_2 : HTTP_CONN_1,
                   &client->http, &http_handler);
    http_client_connected(conn);
}

// ---- TLS ---------------------------------------------------------------------------------------

static struct http_client_conn *of_tls(struct tls_end *tls) {
    return CONTAINER_OF(tls, struct http_client_conn, tls);
}

static void on_tls_ready(struct tls_end *tls) {
    struct http_client_conn *conn = of_tls(tls);
    bool is_h2 = conn->client->protocol == HTTP_CLIENT_2 || tls->is_h2;
    open_http(conn, &tls->duplex, is_h2);
}

static void on_tls_fail(struct tls_end *tls, const char *text) {
    struct http_client_conn *conn = of_tls(tls);
    const struct http_client *client = conn->client;
    char line[HTTP_CLIENT_TEXT_MAX];
    snprintf(line, sizeof(line), "TLS: %s (roots: %s%s%s; name: %s%s%s)", text,
             client->roots.file != NULL ? watched_file_path(client->roots.file) : "as configured",
             client->tls_error != NULL ? ", older than " : "",
             client->tls_error != NULL ? client->tls_error : "", client->server_name,
             client->alt_name != NULL ? " or " : "",
             client->alt_name != NULL ? client->alt_name : "");
    timer_clear(&client->loop->timers, &conn->timer);
    failed(conn, line);
}

static void on_tls_closed(struct tls_end *tls) {
    part_closed(of_tls(tls));
}

static const struct tls_end_handler tls_handler = {
    .on_ready = on_tls_ready, .on_fail = on_tls_fail, .on_closed = on_tls_closed};

static void start_tls(struct http_client_conn *conn) {
    struct http_client *client = conn->client;
    struct slice names[] = {slice_str(client->server_name), slice_str(client->alt_name)};
    struct ip ip;
    struct tls_outside_server server = {
        .sni = ip_parse(names[0], &ip) ? (struct slice){0} : names[0], // RFC 6066 3: no addresses
        .names = names,
        .n_names = client->alt_name != NULL ? 2 : 1,
        .alpn = client->protocol == HTTP_CLIENT_2 ? TLS_ALPN_H2 : TLS_ALPN_ANY,
    };
    conn->n_parts++;
    timer_set(&client->loop->timers, &conn->timer,
              client->loop->now + HTTP_CLIENT_TLS_MS * NS_PER_MS);
    tls_end_init(&conn->tls, &client->queue, &conn->link.duplex,
                 tls_handshake_new_outside(client->tls, &server), &tls_handler);
}

// ---- life --------------------------------------------------------------------------------------

static void on_timer(struct timer *timer, uint64_t now) {
    struct http_client_conn *conn = CONTAINER_OF(timer, struct http_client_conn, timer);
    if (!conn->is_open) {
        failed(conn, "the TLS handshake timed out");
        tls_end_abort(&conn->tls);
        return;
    }
    uint64_t due = conn->http.last_active + HTTP_CLIENT_IDLE_MS * NS_PER_MS;
    if (conn->http.n_streams == 0 && now < due) {
        timer_set(&conn->client->loop->timers, timer, due);
    } else {
        (void)http_conn_end_idle(&conn->http); // with streams: the last one's end arms it again
    }
}

static void on_dial(void *arg, int res) {
    struct http_client_conn *conn = arg;
    struct http_client *client = conn->client;
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
        open_http(conn, &conn->link.duplex, client->protocol == HTTP_CLIENT_2);
    }
}

void http_client_conn_start(struct http_client *client, const struct ip *ip) {
    struct http_client_conn *conn = xcalloc(1, sizeof(*conn));
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
    conn->dial = dial_start(client->loop, &params, &conn->to, HTTP_CLIENT_CONNECT_MS * NS_PER_MS,
                            on_dial, conn);
}

void http_client_conn_abort(struct http_client_conn *conn) {
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
