// SPDX-License-Identifier: Apache-2.0
#include "common/net/grpc_client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/net/grpc_client_priv.h"
#include "common/proto/http_rules.h"
#include "version.h"

enum {
    QUEUE_HIGH = 256 * 1024, // without a connection; with one the HTTP stream's own mark
    FIELDS_MAX = 64,
    METADATA_MAX = FIELDS_MAX - 8,
};

// ---- ends of calls -----------------------------------------------------------------------------

static void call_free(struct grpc_call *call) {
    timer_clear(&call->client->loop->timers, &call->timer);
    list_del(&call->node);
    http_stream_release(&call->http, H2_CANCEL);
    chain_clear(&call->queue);
    grpc_reader_fini(&call->reader);
    free(call->path);
    free(call);
}

static void detach(struct grpc_call *call) {
    call->stream->client = NULL;
    call->stream->call = NULL;
    call->stream = NULL;
}

// Tells the owner; the call is gone, or goes when it is not busy any more.
static void finish(struct grpc_call *call, enum grpc_status status, const char *text) {
    struct grpc_stream *stream = call->stream;
    char copy[GRPC_CLIENT_TEXT_MAX];
    snprintf(copy, sizeof(copy), "%s", text); // what it is made of may go with the call
    detach(call);
    if (!call->is_busy) {
        call_free(call);
    }
    stream->events->on_closed(stream, status, copy);
}

static void finish_with(struct grpc_call *call, enum grpc_status status, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
static void finish_with(struct grpc_call *call, enum grpc_status status, const char *fmt, ...) {
    char text[GRPC_CLIENT_TEXT_MAX];
    int n = snprintf(text, sizeof(text), "%s: ", call->client->target);
    va_list args;
    va_start(args, fmt);
    if (n >= 0 && (size_t)n < sizeof(text)) {
        vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, args);
    }
    va_end(args);
    finish(call, status, text);
}

static void fail_waiting(struct grpc_client *client, const char *text) {
    struct list failed;
    list_init(&failed);
    list_splice_back(&failed, &client->waiting); // one of them may be opened again at once
    struct list *node;
    while ((node = list_pop_front(&failed)) != NULL) {
        finish_with(LIST_ITEM(node, struct grpc_call, node), GRPC_UNAVAILABLE, "%s", text);
    }
}

// ---- answers -----------------------------------------------------------------------------------

static struct grpc_call *of_http(struct http_stream *http) {
    return CONTAINER_OF(http, struct grpc_call, http);
}

static const struct http_field *find_field(const struct http_field *fields, size_t n,
                                           const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq_str(fields[i].name, name)) {
            return &fields[i];
        }
    }
    return NULL;
}

static const char *hint(const struct grpc_client *client, enum grpc_status status) {
    return status == GRPC_UNAUTHENTICATED && client->token != NULL
               ? watched_file_path(client->token)
               : NULL;
}

// Trailers, or the only head of an answer (trailers-only).
static void take_status(struct grpc_call *call, const struct http_field *fields, size_t n) {
    const struct http_field *status = find_field(fields, n, "grpc-status");
    const struct http_field *message = find_field(fields, n, "grpc-message");
    uint64_t number = GRPC_UNKNOWN;
    if (status == NULL || !slice_to_u64(status->value, UINT8_MAX, &number)) {
        finish_with(call, GRPC_UNKNOWN, "the answer ended without a status of gRPC");
        return;
    }
    if (number == GRPC_OK && !grpc_reader_is_between(&call->reader)) {
        finish_with(call, GRPC_INTERNAL, "the answer ended within a message");
        return;
    }
    if (number == GRPC_OK) {
        finish(call, GRPC_OK, "");
        return;
    }
    char text[GRPC_CLIENT_TEXT_MAX / 2];
    grpc_message_decode(message != NULL ? message->value : SLICE_LIT(""), text, sizeof(text));
    const char *file = hint(call->client, (enum grpc_status)number);
    finish_with(call, (enum grpc_status)number, "%s: %s%s%s",
                grpc_status_name((enum grpc_status)number), text,
                file != NULL ? "; the token is of " : "", file != NULL ? file : "");
}

static void on_head(struct http_stream *http, const struct http_head *head, bool end) {
    static const struct slice type = SLICE_LIT("application/grpc");
    struct grpc_call *call = of_http(http);
    const struct http_field *content = find_field(head->fields, head->n_fields, "content-type");
    if (end && find_field(head->fields, head->n_fields, "grpc-status") != NULL) {
        take_status(call, head->fields, head->n_fields);
    } else if (head->status != 200) {
        finish_with(call, grpc_status_of_http(head->status), "answered with HTTP status %u",
                    head->status);
    } else if (content == NULL || !slice_has_prefix(content->value, type)) {
        struct slice value = content != NULL ? slice_head(content->value, 80) : SLICE_LIT("none");
        finish_with(call, GRPC_UNKNOWN, "does not speak gRPC (content-type: %.*s)",
                    SLICE_ARG(value));
    } else if (end) {
        take_status(call, head->fields, head->n_fields);
    }
}

static void on_informational(struct http_stream *http, const struct http_head *head) {
}

// Hands out messages. False: the call is over.
static bool take_messages(struct grpc_call *call, struct slice bytes) {
    struct slice message;
    enum grpc_read result = GRPC_READ_MESSAGE;
    call->is_busy = true;
    while (call->stream != NULL &&
           (result = grpc_reader_next(&call->reader, &bytes, &message)) == GRPC_READ_MESSAGE) {
        call->stream->events->on_message(call->stream, message);
    }
    call->is_busy = false;
    if (call->stream == NULL) {
        call_free(call);
        return false;
    }
    if (result == GRPC_READ_COMPRESSED) {
        finish_with(call, GRPC_INTERNAL, "sent a compressed message, which was not offered");
    } else if (result == GRPC_READ_TOO_LARGE) {
        finish_with(call, GRPC_RESOURCE_EXHAUSTED, "sent a message of more than %zu bytes",
                    call->client->message_max);
    }
    return result == GRPC_READ_MORE;
}

static void end_without_trailers(struct grpc_call *call) {
    take_status(call, NULL, 0);
}

static void on_data(struct http_stream *http, const struct seg *seg, bool end) {
    struct grpc_call *call = of_http(http);
    struct blk *blk = seg->blk;
    if (take_messages(call, seg_slice(seg))) {
        http_stream_consumed(http, seg->len); // the reader is bounded by its maximum
        if (end) {
            end_without_trailers(call);
        }
    }
    blk_unref(blk);
}

static void on_trailers(struct http_stream *http, const struct http_field *fields, size_t n) {
    take_status(of_http(http), fields, n);
}

static void on_end(struct http_stream *http) {
    end_without_trailers(of_http(http));
}

static void on_writable(struct http_stream *http) {
    struct grpc_call *call = of_http(http);
    call->n_queued = 0;
    if (call->stream->events->on_writable != NULL) {
        call->stream->events->on_writable(call->stream);
    }
}

static void on_reset(struct http_stream *http, enum http_reset reset, const char *detail) {
    static const struct {
        enum grpc_status status;
        const char *text;
    } kinds[] = {
        [HTTP_RESET_TERMINATION] = {GRPC_UNAVAILABLE, "the connection was lost"},
        [HTTP_RESET_REMOTE] = {GRPC_INTERNAL, "the server reset the stream"},
        [HTTP_RESET_REFUSED] = {GRPC_UNAVAILABLE, "the server refused the stream"},
        [HTTP_RESET_PROTOCOL] = {GRPC_INTERNAL, "the server does not keep to HTTP/2"},
    };
    finish_with(of_http(http), kinds[reset].status, "%s%s%s", kinds[reset].text,
                detail != NULL ? ": " : "", detail != NULL ? detail : "");
}

const struct http_stream_events grpc_call_events = {
    .on_head = on_head,
    .on_informational = on_informational,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_reset = on_reset,
};

// ---- requests ----------------------------------------------------------------------------------

// False: the call is over.
static bool send_request(struct grpc_call *call) {
    static const char agent[] = "ztun/" ZTUN_VERSION;
    struct grpc_client *client = call->client;
    struct http_field fields[FIELDS_MAX] = {
        {.name = SLICE_LIT("te"), .value = SLICE_LIT("trailers")},
        {.name = SLICE_LIT("content-type"), .value = SLICE_LIT("application/grpc")},
        {.name = SLICE_LIT("user-agent"), .value = SLICE_LIT(agent)},
    };
    size_t n = 3;
    struct buf timeout;
    buf_init(&timeout, 16);
    if (call->timeout_ms > 0) {
        grpc_timeout_append(call->timeout_ms, &timeout);
        fields[n++] =
            (struct http_field){.name = SLICE_LIT("grpc-timeout"), .value = buf_slice(&timeout)};
    }
    if (client->token_text != NULL && client->is_secure) {
        fields[n++] = (struct http_field){.name = SLICE_LIT("authorization"),
                                          .value = slice_str(client->token_text),
                                          .sensitive = true};
    }
    for (size_t i = 0; i < client->n_metadata; i++) {
        fields[n++] = client->metadata[i];
    }
    struct http_head head = {
        .version = HTTP_2,
        .method = SLICE_LIT("POST"),
        .scheme = client->is_secure ? SLICE_LIT("https") : SLICE_LIT("http"),
        .authority = slice_str(client->target),
        .path = slice_str(call->path),
        .fields = fields,
        .n_fields = n,
    };
    bool is_sent = http_stream_send_head(&call->http, &head, false);
    buf_fini(&timeout);
    return is_sent;
}

static void start_call(struct grpc_call *call) {
    struct grpc_client *client = call->client;
    list_del(&call->node);
    if (client->is_secure && client->token != NULL && client->token_text == NULL) {
        finish_with(call, GRPC_UNAUTHENTICATED, "no token: %s", client->token_error);
        return;
    }
    list_push_back(&client->running, &call->node);
    http_conn_open(&client->current->http, &call->http);
    call->is_sent = true;
    if (!send_request(call)) {
        return;
    }
    if (!chain_empty(&call->queue) || call->is_end) {
        http_stream_send_data(&call->http, &call->queue, call->is_end);
    }
    if (call->stream->events->on_open != NULL) {
        call->stream->events->on_open(call->stream);
    }
}

// ---- the connection ----------------------------------------------------------------------------

static void try_next_address(struct grpc_client *client) {
    if (client->next_ip == client->n_ips) {
        fail_waiting(client, client->error);
    } else {
        grpc_conn_start(client, &client->ips[client->next_ip++]);
    }
}

static void on_resolved(void *arg, const struct dns_result *result) {
    struct grpc_client *client = arg;
    client->is_resolving = false;
    if (result->outcome == DNS_CANCELLED) {
        return; // the client goes
    }
    client->n_ips = result->outcome == DNS_FOUND ? result->n_ips : 0;
    client->next_ip = 0;
    for (uint32_t i = 0; i < client->n_ips; i++) {
        client->ips[i] = result->ips[i];
    }
    if (client->n_ips == 0) {
        snprintf(client->error, sizeof(client->error), "the name cannot be resolved: %s",
                 result->text);
    }
    // Not from within the look-up, which may be one of ours.
    timer_set(&client->loop->timers, &client->timer, client->loop->now);
}

static void connect_client(struct grpc_client *client) {
    client->n_ips = client->next_ip = 0;
    if (client->dns == NULL) {
        client->ips[client->n_ips++] = client->ip;
        try_next_address(client);
        return;
    }
    client->is_resolving = true;
    client->is_resolved = true;
    dns_channel_look_up(client->dns, client->host, on_resolved, client);
}

// A connection that takes new streams, or NULL; roots that have changed retire the old one.
static struct grpc_conn *usable(struct grpc_client *client) {
    struct grpc_conn *conn = client->current;
    if (conn != NULL && client->is_secure && conn->trust != client->trust) {
        client->current = NULL;
        http_conn_drain(&conn->http); // it ends with its last stream
    }
    return client->current;
}

static void serve(struct timer *timer, uint64_t now) {
    struct grpc_client *client = CONTAINER_OF(timer, struct grpc_client, timer);
    if (list_empty(&client->waiting)) {
        return;
    }
    if (client->is_secure) {
        grpc_files_roots(client);
        if (client->tls == NULL) {
            fail_waiting(client, client->roots_error);
            return;
        }
    }
    if (client->token != NULL) {
        grpc_files_token(client);
    }
    while (usable(client) != NULL && !list_empty(&client->waiting)) {
        if (!http_conn_can_open(&client->current->http)) {
            return; // a stream that ends makes room
        }
        start_call(LIST_ITEM(client->waiting.next, struct grpc_call, node));
    }
    if (list_empty(&client->waiting) || client->connecting != NULL || client->is_resolving) {
        return;
    }
    if (client->is_resolved) {
        client->is_resolved = false;
        try_next_address(client);
    } else {
        connect_client(client);
    }
}

static void serve_soon(struct grpc_client *client) {
    if (!client->is_freed && !list_empty(&client->waiting)) {
        timer_set(&client->loop->timers, &client->timer, client->loop->now);
    }
}

void grpc_client_connected(struct grpc_conn *conn) {
    struct grpc_client *client = conn->client;
    client->connecting = NULL;
    client->current = conn;
    serve(&client->timer, client->loop->now); // before it can be lost unused
}

void grpc_client_connect_failed(struct grpc_conn *conn, const char *text) {
    struct grpc_client *client = conn->client;
    if (client->connecting != conn) {
        return; // given up
    }
    client->connecting = NULL;
    snprintf(client->error, sizeof(client->error), "%s", text);
    try_next_address(client);
}

void grpc_client_conn_draining(struct grpc_conn *conn) {
    struct grpc_client *client = conn->client;
    if (client->current == conn) {
        client->current = NULL;
        serve_soon(client);
    }
}

void grpc_client_conn_idle(struct grpc_client *client) {
    serve_soon(client);
}

// ---- streams -----------------------------------------------------------------------------------

static void on_call_timer(struct timer *timer, uint64_t now) {
    struct grpc_call *call = CONTAINER_OF(timer, struct grpc_call, timer);
    if (call->is_flooded) {
        finish_with(call, GRPC_RESOURCE_EXHAUSTED, "does not take what is sent");
    } else if (call->is_sent) {
        finish_with(call, GRPC_DEADLINE_EXCEEDED, "no answer within %llu ms",
                    (unsigned long long)call->timeout_ms);
    } else {
        finish_with(call, GRPC_DEADLINE_EXCEEDED, "not connected within %llu ms%s%s",
                    (unsigned long long)call->timeout_ms,
                    call->client->error[0] != '\0' ? "; last attempt: " : "", call->client->error);
    }
}

void grpc_stream_init(struct grpc_stream *stream, const struct grpc_stream_events *events) {
    *stream = (struct grpc_stream){.events = events};
}

void grpc_stream_open(struct grpc_stream *stream, struct grpc_client *client, const char *path,
                      uint64_t timeout_ms) {
    CHECK(stream->client == NULL);
    struct grpc_call *call = xcalloc(1, sizeof(*call));
    call->client = stream->client = client;
    call->stream = stream;
    stream->call = call;
    call->path = xstrdup(path);
    call->timeout_ms = timeout_ms;
    http_stream_init(&call->http, &grpc_call_events, call);
    chain_init(&call->queue, client->loop->pool);
    grpc_reader_init(&call->reader, client->message_max);
    timer_init(&call->timer, on_call_timer);
    if (timeout_ms > 0) {
        timer_set(&client->loop->timers, &call->timer, client->loop->now + timeout_ms * NS_PER_MS);
    }
    list_push_back(&client->waiting, &call->node);
    serve_soon(client);
}

void grpc_stream_send(struct grpc_stream *stream, struct slice message, bool end) {
    struct grpc_call *call = stream->call;
    if (call == NULL || call->is_end || call->is_flooded) {
        return;
    }
    if (call->n_queued + message.len > GRPC_CLIENT_QUEUE_MAX) {
        call->is_flooded = true;
        timer_set(&call->client->loop->timers, &call->timer, call->client->loop->now);
        return;
    }
    uint8_t prefix[GRPC_PREFIX_LEN];
    struct chain data;
    chain_init(&data, call->client->loop->pool);
    grpc_prefix_write(prefix, (uint32_t)message.len);
    chain_copy(&data, slice_make(prefix, sizeof(prefix)));
    chain_copy(&data, message);
    call->n_queued += data.len;
    call->is_end = end;
    if (!call->is_sent) {
        chain_move_all(&call->queue, &data);
        return;
    }
    http_stream_send_data(&call->http, &data, end);
    if (http_stream_can_send(&call->http)) {
        call->n_queued = 0;
    }
}

void grpc_stream_end(struct grpc_stream *stream) {
    struct grpc_call *call = stream->call;
    if (call == NULL || call->is_end) {
        return;
    }
    call->is_end = true;
    if (call->is_sent) {
        struct chain none;
        chain_init(&none, call->client->loop->pool);
        http_stream_send_data(&call->http, &none, true);
    }
}

bool grpc_stream_can_send(const struct grpc_stream *stream) {
    struct grpc_call *call = stream->call;
    if (call == NULL) {
        return true;
    }
    return call->is_sent ? http_stream_can_send(&call->http) : call->n_queued < QUEUE_HIGH;
}

void grpc_stream_cancel(struct grpc_stream *stream) {
    struct grpc_call *call = stream->call;
    if (call != NULL) {
        detach(call);
        if (!call->is_busy) {
            call_free(call);
        }
    }
}

// ---- life --------------------------------------------------------------------------------------

// [scheme://]HOST:PORT[/]. A reason, or NULL.
static char *parse_address(struct grpc_client *client, const char *address) {
    struct slice rest = slice_str(address);
    uint64_t port = 0;
    client->is_secure = !slice_has_prefix(rest, SLICE_LIT("http://"));
    if (!client->is_secure) {
        rest = slice_skip(rest, 7);
    } else if (slice_has_prefix(rest, SLICE_LIT("https://"))) {
        rest = slice_skip(rest, 8);
    }
    if (slice_has_suffix(rest, SLICE_LIT("/"))) {
        rest.len--;
    }
    size_t colon = rest.len;
    while (colon > 0 && rest.ptr[colon - 1] != ':') {
        colon--;
    }
    struct slice host = slice_head(rest, colon > 0 ? colon - 1 : 0);
    if (host.len == 0 || host.len > 255 || !http_rules_is_authority(rest) ||
        !slice_to_u64(slice_skip(rest, colon), UINT16_MAX, &port) || port == 0) {
        return xasprintf("\"%s\" is no address of a server, expected https://HOST:PORT", address);
    }
    if (host.ptr[0] == '[') {
        host = slice_make(host.ptr + 1, host.len - 2);
    }
    client->port = (uint16_t)port;
    client->target = slice_dup(rest);
    client->host = slice_dup(host);
    (void)ip_parse(host, &client->ip); // else it is a name
    return NULL;
}

static void copy_metadata(struct grpc_client *client, const struct grpc_client_config *config) {
    client->metadata = xcalloc(config->n_metadata + 1, sizeof(*client->metadata));
    for (size_t i = 0; i < config->n_metadata; i++) {
        const struct http_field *from = &config->metadata[i];
        client->metadata[client->n_metadata++] = (struct http_field){
            .name = slice_make(slice_dup(from->name), from->name.len),
            .value = slice_make(slice_dup(from->value), from->value.len),
            .sensitive = from->sensitive,
        };
    }
}

static void destroy(struct grpc_client *client) {
    tls_queue_fini(&client->queue);
    dns_channel_free(client->dns);
    grpc_files_fini(client);
    for (size_t i = 0; i < client->n_metadata; i++) {
        free((void *)(uintptr_t)client->metadata[i].name.ptr);
        free((void *)(uintptr_t)client->metadata[i].value.ptr);
    }
    free(client->metadata);
    free(client->host);
    free(client->target);
    free(client->server_name);
    free(client);
}

void grpc_client_conn_gone(struct grpc_client *client) {
    if (client->is_freed && list_empty(&client->conns)) {
        destroy(client);
    }
}

static void set_up_http(struct grpc_client *client) {
    http_conn_config_init(&client->http, false);
    client->http.h2.ping_idle_ns = GRPC_CLIENT_PING_MS * NS_PER_MS;
    client->http.h2.ping_timeout_ns = GRPC_CLIENT_PONG_MS * NS_PER_MS;
}

static char *set_up(struct grpc_client *client, const struct grpc_client_config *config) {
    char *error = parse_address(client, config->address);
    if (error != NULL) {
        return error;
    }
    bool has_name = config->server_name != NULL && config->server_name[0] != '\0';
    client->server_name = xstrdup(has_name ? config->server_name : client->host);
    if (config->n_metadata > METADATA_MAX) {
        return xasprintf("%zu fields of metadata, more than %d", config->n_metadata, METADATA_MAX);
    }
    copy_metadata(client, config);
    if (client->is_secure) {
        grpc_files_init(client, config->roots_path, config->token_path);
    }
    if (!ip_is_set(&client->ip)) {
        const char *reason = NULL;
        struct dns_channel_config dns = {
            .loop = config->loop, .mark = config->mark, .uses_search = true};
        client->dns = dns_channel_new(&dns, &reason);
        if (client->dns == NULL) {
            return xasprintf("names cannot be looked up: %s", reason);
        }
    }
    return NULL;
}

struct grpc_client *grpc_client_new(const struct grpc_client_config *config, char **ret_error) {
    struct grpc_client *client = xcalloc(1, sizeof(*client));
    client->loop = config->loop;
    client->compliance = config->compliance;
    client->mark = config->mark;
    client->message_max = config->message_max;
    list_init(&client->conns);
    list_init(&client->waiting);
    list_init(&client->running);
    timer_init(&client->timer, serve);
    tls_queue_init(&client->queue, config->loop);
    set_up_http(client);
    char *error = set_up(client, config);
    if (error != NULL) {
        destroy(client);
        *ret_error = error;
        return NULL;
    }
    return client;
}

void grpc_client_free(struct grpc_client *client) {
    if (client == NULL) {
        return;
    }
    client->is_freed = true;
    timer_clear(&client->loop->timers, &client->timer);
    list_splice_back(&client->waiting, &client->running);
    while (!list_empty(&client->waiting)) {
        struct grpc_call *call = LIST_ITEM(client->waiting.next, struct grpc_call, node);
        detach(call);
        call_free(call);
    }
    client->connecting = client->current = NULL;
    if (list_empty(&client->conns)) {
        destroy(client);
        return;
    }
    LIST_EACH_SAFE(node, &client->conns) {
        bool is_last = node_next == &client->conns; // the client may go with it
        grpc_conn_abort(LIST_ITEM(node, struct grpc_conn, node));
        if (is_last) {
            return;
        }
    }
}

const char *grpc_client_target(const struct grpc_client *client) {
    return client->target;
}

bool grpc_client_is_secure(const struct grpc_client *client) {
    return client->is_secure;
}
