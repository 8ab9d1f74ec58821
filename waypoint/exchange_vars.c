// SPDX-License-Identifier: Apache-2.0
//
// What %VARIABLES% of header values stand for (l7_var.def). Those of request and response fields
// are the template's own.
#include <stdlib.h>
#include <time.h>

#include "common/base/buf.h"
#include "waypoint/exchange.h"
#include "waypoint/http_down.h"
#include "waypoint/waypoint.h"

static void put_addr(struct buf *out, const struct addr *addr, bool with_port) {
    char text[ADDR_TEXT_MAX];
    if (ip_is_set(&addr->ip)) {
        buf_append(out, slice_str(with_port ? addr_text(addr, text) : ip_text(&addr->ip, text)));
    }
}

static void put_start_time(const struct exchange *ex, struct slice format, struct buf *out) {
    char text[64], pattern[64];
    struct timespec at;
    (void)clock_gettime(CLOCK_REALTIME, &at);
    uint64_t age_ns = ex->http->loop->now - ex->started_ns;
    uint64_t ns = (uint64_t)at.tv_sec * NS_PER_SEC + (uint64_t)at.tv_nsec - age_ns;
    time_t seconds = (time_t)(ns / NS_PER_SEC);
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL) {
        return;
    }
    if (format.len == 0 || format.len >= sizeof(pattern)) {
        size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        buf_append(out, slice_make(text, n));
        buf_printf(out, ".%03uZ", (unsigned)(ns / NS_PER_MS % 1000));
        return;
    }
    memcpy(pattern, format.ptr, format.len);
    pattern[format.len] = '\0';
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof(text), pattern, &tm);
#pragma GCC diagnostic pop
    buf_append(out, slice_make(text, n));
}

static void value(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    const struct exchange *ex = arg;
    const struct wconn *wconn = exchange_wconn(ex);
    uint64_t age_ms = (ex->http->loop->now - ex->started_ns) / NS_PER_MS;
    switch (var) {
    case L7_VAR_START_TIME:
        put_start_time(ex, format, out);
        break;
    case L7_VAR_PROTOCOL:
        buf_append(out,
                   ex->received.version == HTTP_2 ? SLICE_LIT("HTTP/2") : SLICE_LIT("HTTP/1.1"));
        break;
    case L7_VAR_HOSTNAME:
        buf_append(out, slice_str(wconn->worker->config->pod_name));
        break;
    case L7_VAR_ROUTE_NAME:
        buf_append(out, slice_str(ex->route != NULL ? ex->route->name : ""));
        break;
    case L7_VAR_RESPONSE_CODE:
        buf_printf(out, "%u", ex->status);
        break;
    case L7_VAR_RESPONSE_CODE_DETAILS:
        buf_append(out, slice_str(ex->details));
        break;
    case L7_VAR_RESPONSE_FLAGS:
        l7_flags_append(ex->flags, out);
        break;
    case L7_VAR_DURATION:
        buf_printf(out, "%llu", (unsigned long long)age_ms);
        break;
    case L7_VAR_BYTES_RECEIVED:
        buf_printf(out, "%llu", (unsigned long long)ex->n_received);
        break;
    case L7_VAR_BYTES_SENT:
        buf_printf(out, "%llu", (unsigned long long)ex->n_sent);
        break;
    case L7_VAR_CONNECTION_ID:
        buf_printf(out, "%llu", (unsigned long long)wconn->id);
        break;
    case L7_VAR_DOWNSTREAM_REMOTE_ADDRESS:
    case L7_VAR_DOWNSTREAM_DIRECT_REMOTE_ADDRESS:
        put_addr(out, &wconn->client, true);
        break;
    case L7_VAR_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT:
    case L7_VAR_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT:
        put_addr(out, &wconn->client, false);
        break;
    case L7_VAR_DOWNSTREAM_REMOTE_PORT:
        buf_printf(out, "%u", wconn->client.port);
        break;
    case L7_VAR_DOWNSTREAM_LOCAL_ADDRESS:
        put_addr(out, &wconn->dst, true);
        break;
    case L7_VAR_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT:
        put_addr(out, &wconn->dst, false);
        break;
    case L7_VAR_DOWNSTREAM_LOCAL_PORT:
        buf_printf(out, "%u", wconn->dst.port);
        break;
    case L7_VAR_DOWNSTREAM_PEER_URI_SAN:
        buf_append(out, wconn->client_id);
        break;
    case L7_VAR_DOWNSTREAM_TLS_VERSION:
        buf_append(out, SLICE_LIT("TLSv1.3"));
        break;
    case L7_VAR_UPSTREAM_CLUSTER:
        if (ex->view != NULL) {
            buf_append(out, slice_str(upstream_view_cluster(ex->view)->name));
        }
        break;
    case L7_VAR_UPSTREAM_HOST:
    case L7_VAR_UPSTREAM_REMOTE_ADDRESS:
        put_addr(out, &ex->upstream_addr, true);
        break;
    case L7_VAR_UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT:
        put_addr(out, &ex->upstream_addr, false);
        break;
    case L7_VAR_UPSTREAM_REQUEST_ATTEMPT_COUNT:
        buf_printf(out, "%u", ex->n_tries);
        break;
    case L7_VAR_UPSTREAM_TRANSPORT_FAILURE_REASON:
        buf_append(out, slice_str(ex->transport_failure));
        break;
    default:
        break; // nothing is known of it here
    }
}

struct l7_vars exchange_vars(const struct exchange *ex, const struct http_head *response) {
    return (struct l7_vars){.request = &ex->received,
                            .response = response,
                            .value = value,
                            .arg = (void *)(uintptr_t)ex};
}
