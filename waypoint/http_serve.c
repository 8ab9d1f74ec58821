// SPDX-License-Identifier: Apache-2.0
//
// Until the HTTP side is in place, all connections are carried as bytes.
#include "waypoint/conn.h"

void http_serve(struct wconn *conn) {
    tcp_serve(conn, NULL, false);
}

void http_worker_open(struct wworker *worker) {
    worker->http = NULL;
}

void http_worker_drain(struct wworker *worker) {
    (void)worker;
}

void http_worker_news(struct wworker *worker, struct wworker_news news) {
    (void)worker;
    (void)news;
}

bool http_worker_stop(struct wworker *worker) {
    return worker->http == NULL;
}

void http_worker_close(struct wworker *worker) {
    (void)worker;
}
