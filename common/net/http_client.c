// SPDX-License-Identifier: Apache-2.0
#include "common/net/http_client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/net/http_client_priv.h"
#include "common/proto/http_rules.h"
#include "version.h"

enum { QUEUE_HIGH = 256 * 1024 }; // without a connection; with one the HTTP stream's own mark

// ---- ends of requests --------------------------------------------------------------------------

static void call_free(struct http_call *call) {
    timer_clear(&call->client->loop->timers, &call->timer);
    list_del(&call->node);
    http_stream_release(&call->http, H2_CANCEL);
    chain_clear(&call->queue);
    for (size_t i = 0; i < call->n_fields; i++) {
        free((void *)(uintptr_t)call->fields[i].name.ptr);
        free((void *)(uintptr_t)call->fields[i].value.ptr);
    }
    free(call->fields);
    free(call->method);
    free(call->path);
    free(call);
}

static void detach(struct http_call *call) {
    call->request->client = NULL;
    call->request->call = NULL;
    call->request = NULL;
}

// Around each callback but the last: the owner may let go of the call.
static void enter(struct http_call *call) {
    call->is_busy = true;
}

// False: the call is no more.
static bool leave(struct http_call *call) {
    call->is_busy = false;
    if (call->request == NULL) {
        call_free(call);
        return false;
    }
    return true;
}

// Tells the owner; the call is gone. What it is made of may go with it.
static void finish(struct http_call *call, enum http_client_end end, const char *text) {
    struct http_request *request = call->request;
    char copy[HTTP_CLIENT_TEXT_MAX];
    snprintf(copy, sizeof(copy), "%s", text);
    detach(call);
    call_free(call);
    request->events->on_closed(request, end, copy);
}

static void fail(struct http_call *call, enum http_client_end end, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
static void fail(struct http_call *call, enum http_client_end end, const char *fmt, ...) {
    char text[HTTP_CLIENT_TEXT_MAX];
    int n = snprintf(text, sizeof(text), "%s: ", call->client->target);
    va_list args;
    va_start(args, fmt);
    if (n >= 0 && (size_t)n < sizeof(text)) {
        vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, args);
    }
    va_end(args);
    finish(call, end, text);
}

static void fail_waiting(struct http_client *client, const char *text) {
    struct list failed;
    list_init(&failed);
    list_splice_back(&failed, &client->waiting); // one of them may be opened again at once
    struct list *node;
    while ((node = list_pop_front(&failed)) != NULL) {
        fail(LIST_ITEM(node, struct http_call, node), HTTP_CLIENT_UNREACHABLE, "%s", text);
    }
}

// ---- answers -----------------------------------------------------------------------------------

static struct http_call *of_http(struct http_stream *http) {
    return CONTAINER_OF(http, struct http_call, http);
}

static void on_head(struct http_stream *http, const struct http_head *head, bool end) {
    struct http_call *call = of_http(http);
    call->has_answer = true;
    enter(call);
    call->request->events->on_head(call->request, head, end);
    if (leave(call) && end) {
        finish(call, HTTP_CLIENT_COMPLETE, "");
    }
}

static void on_informational(struct http_stream *http, const struct http_head *head) {
}

static void on_data(struct http_stream *http, const struct seg *seg, bool end) {
    struct http_call *call = of_http(http);
    struct blk *blk = seg->blk;
    size_t len = seg->len;
    enter(call);
    call->request->events->on_data(call->request, seg_slice(seg));
    if (leave(call)) {
        if (end) {
            finish(call, HTTP_CLIENT_COMPLETE, "");
        } else {
            http_stream_consumed(http, len); // the owner keeps what it keeps within its own bounds
        }
    }
    blk_unref(blk);
}

static void on_trailers(struct http_stream *http, const struct http_field *fields, size_t n) {
    struct http_call *call = of_http(http);
    enter(call);
    if (call->request->events->on_trailers != NULL) {
        call->request->events->on_trailers(call->request, fields, n);
    }
    if (leave(call)) {
        finish(call, HTTP_CLIENT_COMPLETE, "");
    }
}

static void on_end(struct http_stream *http) {
    finish(of_http(http), HTTP_CLIENT_COMPLETE, "");
}

static void on_writable(struct http_stream *http) {
    struct http_call *call = of_http(http);
    call->n_queued = 0;
    if (call->request->events->on_writable != NULL) {
        enter(call);
        call->request->events->on_writable(call->request);
        (void)leave(call);
    }
}

static void serve_soon(struct http_client *client);

static void on_reset(struct http_stream *http, enum http_reset reset, const char *detail) {
    static const struct {
        enum http_client_end end;
        const char *text;
    } kinds[] = {
        [HTTP_RESET_TERMINATION] = {HTTP_CLIENT_LOST, "the connection was lost"},
        [HTTP_RESET_REMOTE] = {HTTP_CLIENT_RESET, "the server reset the stream"},
        [HTTP_RESET_REFUSED] = {HTTP_CLIENT_REFUSED, "the server refused the stream"},
        [HTTP_RESET_PROTOCOL] = {HTTP_CLIENT_PROTOCOL, "the server does not keep to HTTP"},
    };
    struct http_call *call = of_http(http);
    if (reset == HTTP_RESET_TERMINATION && call->can_repeat && !call->has_answer) {
        call->can_repeat = call->is_sent = false;
        list_del(&call->node);
        list_push_back(&call->client->waiting, &call->node);
        serve_soon(call->client);
        return;
    }
    fail(call, kinds[reset].end, "%s%s%s", kinds[reset].text, detail != NULL ? ": " : "",
         detail != NULL ? detail : "");
}

static const struct http_stream_events call_events = {
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
static bool send_request(struct http_call *call) {
    static const char agent[] = "ztun/" ZTUN_VERSION;
    struct http_client *client = call->client;
    struct http_field fields[HTTP_CLIENT_FIELDS_MAX] = {
        {.name = SLICE_LIT("user-agent"), .value = SLICE_LIT(agent)}};
    size_t n = 1;
    if (call->length[0] != '\0') {
        fields[n++] = (struct http_field){.name = SLICE_LIT("content-length"),
                                          .value = slice_str(call->length)};
    }
    if (client->token_text != NULL && client->is_secure) {
        fields[n++] = (struct http_field){.name = SLICE_LIT("authorization"),
                                          .value = slice_str(client->token_text),
                                          .sensitive = true};
    }
    for (size_t i = 0; i < call->n_fields; i++) {
        fields[n++] = call->fields[i];
    }
    struct http_head head = {
        .version = HTTP_11,
        .method = slice_str(call->method),
        .scheme = client->is_secure ? SLICE_LIT("https") : SLICE_LIT("http"),
        .authority = slice_str(client->target),
        .path = slice_str(call->path),
        .fields = fields,
        .n_fields = n,
    };
    return http_stream_send_head(&call->http, &head, call->is_end && chain_empty(&call->queue));
}

static void start_call(struct http_call *call, struct http_client_conn *conn) {
    struct http_client *client = call->client;
    list_del(&call->node);
    if (client->is_secure && client->token_text == NULL && client->token_error != NULL) {
        fail(call, HTTP_CLIENT_NO_TOKEN, "no token: %s", client->token_error);
        return;
    }
    list_push_back(&client->running, &call->node);
    bool is_used = conn->http.n_streams_total > 0;
    bool is_plain_get =
        strcmp(call->method, "GET") == 0 && call->is_end && chain_empty(&call->queue);
    call->can_repeat = call->can_repeat && is_used && is_plain_get;
    http_stream_init(&call->http, &call_events, call);
    http_conn_open(&conn->http, &call->http);
    call->is_sent = true;
    if (!send_request(call)) {
        return;
    }
    if (!chain_empty(&call->queue)) {
        http_stream_send_data(&call->http, &call->queue, call->is_end);
    }
    if (call->request->events->on_open != NULL) {
        enter(call);
        call->request->events->on_open(call->request);
        (void)leave(call);
    }
}

// ---- connections -------------------------------------------------------------------------------

static void try_next_address(struct http_client *client) {
    if (client->next_ip == client->n_ips) {
        fail_waiting(client, client->error);
    } else {
        http_client_conn_start(client, &client->ips[client->next_ip++]);
    }
}

static void on_resolved(void *arg, const struct dns_result *result) {
    struct http_client *client = arg;
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

static void connect_client(struct http_client *client) {
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

// A connection that takes a new request, or NULL; what has changed since its handshake retires it.
// ret_n: how many there are that may take some, later.
static struct http_client_conn *usable(struct http_client *client, uint32_t *ret_n) {
    struct http_client_conn *found = NULL;
    *ret_n = 0;
    LIST_EACH_SAFE(node, &client->conns) {
        struct http_client_conn *conn = LIST_ITEM(node, struct http_client_conn, node);
        if (!conn->is_open || conn->is_retired) {
            continue;
        }
        if (client->is_secure && conn->trust != client->trust) {
            conn->is_retired = true;
            http_conn_drain(&conn->http); // it ends with its last request
            continue;
        }
        *ret_n += 1;
        if (found == NULL && http_conn_can_open(&conn->http)) {
            found = conn;
        }
    }
    return found;
}

static void serve(struct timer *timer, uint64_t now) {
    struct http_client *client = CONTAINER_OF(timer, struct http_client, timer);
    if (list_empty(&client->waiting)) {
        return;
    }
    if (client->is_secure) {
        http_client_files_tls(client);
        if (client->tls == NULL) {
            fail_waiting(client, client->tls_error);
            return;
        }
        http_client_files_token(client);
    }
    uint32_t n_conns = 0;
    struct http_client_conn *conn = usable(client, &n_conns);
    while (conn != NULL && !list_empty(&client->waiting)) {
        start_call(LIST_ITEM(client->waiting.next, struct http_call, node), conn);
        conn = usable(client, &n_conns);
    }
    if (list_empty(&client->waiting) || client->connecting != NULL || client->is_resolving ||
        n_conns >= client->conns_max) {
        return; // with too many: a request that ends makes room
    }
    if (client->is_resolved) {
        client->is_resolved = false;
        try_next_address(client);
    } else {
        connect_client(client);
    }
}

static void serve_soon(struct http_client *client) {
    if (!client->is_freed && !list_empty(&client->waiting)) {
        timer_set(&client->loop->timers, &client->timer, client->loop->now);
    }
}

void http_client_connected(struct http_client_conn *conn) {
    struct http_client *client = conn->client;
    client->connecting = NULL;
    client->is_resolved = false;
    serve(&client->timer, client->loop->now); // before it can be lost unused
}

void http_client_connect_failed(struct http_client_conn *conn, const char *text) {
    struct http_client *client = conn->client;
    if (client->connecting != conn) {
        return; // given up
    }
    client->connecting = NULL;
    snprintf(client->error, sizeof(client->error), "%s", text);
    try_next_address(client);
}

void http_client_conn_idle(struct http_client *client) {
    serve_soon(client);
}

// ---- the owner's side --------------------------------------------------------------------------

static void on_call_timer(struct timer *timer, uint64_t now) {
    struct http_call *call = CONTAINER_OF(timer, struct http_call, timer);
    if (call->is_flooded) {
        fail(call, HTTP_CLIENT_FLOODED, "does not take what is sent");
    } else if (call->is_sent) {
        fail(call, HTTP_CLIENT_TIMEOUT, "no %s within %llu ms",
             call->has_answer ? "end of the answer" : "answer",
             (unsigned long long)call->timeout_ms);
    } else {
        fail(call, HTTP_CLIENT_TIMEOUT, "not connected within %llu ms%s%s",
             (unsigned long long)call->timeout_ms,
             call->client->error[0] != '\0' ? "; last attempt: " : "", call->client->error);
    }
}

static void copy_fields(struct http_call *call, const struct http_request_params *params) {
    CHECK(params->n_fields <= HTTP_CLIENT_FIELDS_MAX - 3);
    call->fields = xcalloc(params->n_fields + 1, sizeof(*call->fields));
    for (size_t i = 0; i < params->n_fields; i++) {
        const struct http_field *from = &params->fields[i];
        call->fields[call->n_fields++] = (struct http_field){
            .name = slice_make(slice_dup(from->name), from->name.len),
            .value = slice_make(slice_dup(from->value), from->value.len),
            .sensitive = from->sensitive,
        };
    }
}

void http_request_init(struct http_request *request, const struct http_request_events *events) {
    *request = (struct http_request){.events = events};
}

void http_request_open(struct http_request *request, struct http_client *client,
                       const struct http_request_params *params) {
    CHECK(request->client == NULL);
    struct http_call *call = xcalloc(1, sizeof(*call));
    call->client = request->client = client;
    call->request = request;
    request->call = call;
    call->method = slice_dup(params->method);
    call->path = slice_dup(params->path);
    call->timeout_ms = params->timeout_ms;
    call->is_end = !params->is_stream;
    call->can_repeat = true;
    copy_fields(call, params);
    http_stream_init(&call->http, &call_events, call);
    chain_init(&call->queue, client->loop->pool);
    chain_copy(&call->queue, params->body);
    call->n_queued = params->body.len;
    if (call->is_end && params->body.len > 0) {
        snprintf(call->length, sizeof(call->length), "%zu", params->body.len);
    }
    timer_init(&call->timer, on_call_timer);
    if (params->timeout_ms > 0) {
        timer_set(&client->loop->timers, &call->timer,
                  client->loop->now + params->timeout_ms * NS_PER_MS);
    }
    list_push_back(&client->waiting, &call->node);
    serve_soon(client);
}

void http_request_send_chain(struct http_request *request, struct chain *data, bool end) {
    struct http_call *call = request->call;
    if (call == NULL || call->is_end || call->is_flooded) {
        chain_clear(data);
        return;
    }
    if (call->n_queued + data->len > HTTP_CLIENT_QUEUE_MAX) {
        chain_clear(data);
        call->is_flooded = true;
        timer_set(&call->client->loop->timers, &call->timer, call->client->loop->now);
        return;
    }
    call->n_queued += data->len;
    call->is_end = end;
    if (!call->is_sent) {
        chain_move_all(&call->queue, data);
        return;
    }
    http_stream_send_data(&call->http, data, end);
    if (http_stream_can_send(&call->http)) {
        call->n_queued = 0;
    }
}

void http_request_send(struct http_request *request, struct slice bytes, bool end) {
    if (request->call == NULL) {
        return;
    }
    struct chain data;
    chain_init(&data, request->call->client->loop->pool);
    chain_copy(&data, bytes);
    http_request_send_chain(request, &data, end);
}

bool http_request_can_send(const struct http_request *request) {
    struct http_call *call = request->call;
    if (call == NULL) {
        return true;
    }
    return call->is_sent ? http_stream_can_send(&call->http) : call->n_queued < QUEUE_HIGH;
}

void http_request_cancel(struct http_request *request) {
    struct http_call *call = request->call;
    if (call != NULL) {
        detach(call);
        if (!call->is_busy) {
            call_free(call);
        }
    }
}

// ---- life --------------------------------------------------------------------------------------

// [scheme://]HOST:PORT[/]. A reason, or NULL.
static char *parse_address(struct http_client *client, const char *address) {
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

static void destroy(struct http_client *client) {
    tls_queue_fini(&client->queue);
    dns_channel_free(client->dns);
    http_client_files_fini(client);
    free(client->host);
    free(client->target);
    free(client->server_name);
    free(client->alt_name);
    free(client);
}

void http_client_conn_gone(struct http_client *client) {
    if (client->is_freed && list_empty(&client->conns)) {
        destroy(client);
    }
}

static char *set_up(struct http_client *client, const struct http_client_config *config) {
    char *error = parse_address(client, config->address);
    if (error != NULL) {
        return error;
    }
    bool has_name = config->server_name != NULL && config->server_name[0] != '\0';
    client->server_name = xstrdup(has_name ? config->server_name : client->host);
    bool has_alt = config->alt_name != NULL && config->alt_name[0] != '\0';
    client->alt_name = has_alt ? xstrdup(config->alt_name) : NULL;
    if (client->is_secure) {
        http_client_files_init(client, config);
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

struct http_client *http_client_new(const struct http_client_config *config, char **ret_error) {
    CHECK(config->conns_max > 0);
    struct http_client *client = xcalloc(1, sizeof(*client));
    client->loop = config->loop;
    client->compliance = config->compliance;
    client->mark = config->mark;
    client->protocol = config->protocol;
    client->conns_max = config->conns_max;
    list_init(&client->conns);
    list_init(&client->waiting);
    list_init(&client->running);
    timer_init(&client->timer, serve);
    tls_queue_init(&client->queue, config->loop);
    http_conn_config_init(&client->http, false);
    client->http.h2.ping_idle_ns = HTTP_CLIENT_PING_MS * NS_PER_MS;
    client->http.h2.ping_timeout_ns = HTTP_CLIENT_PONG_MS * NS_PER_MS;
    char *error = set_up(client, config);
    if (error != NULL) {
        destroy(client);
        *ret_error = error;
        return NULL;
    }
    return client;
}

void http_client_free(struct http_client *client) {
    if (client == NULL) {
        return;
    }
    client->is_freed = true;
    timer_clear(&client->loop->timers, &client->timer);
    list_splice_back(&client->waiting, &client->running);
    while (!list_empty(&client->waiting)) {
        struct http_call *call = LIST_ITEM(client->waiting.next, struct http_call, node);
        detach(call);
        call_free(call);
    }
    client->connecting = NULL;
    if (list_empty(&client->conns)) {
        destroy(client);
        return;
    }
    LIST_EACH_SAFE(node, &client->conns) {
        bool is_last = node_next == &client->conns; // the client may go with it
        http_client_conn_abort(LIST_ITEM(node, struct http_client_conn, node));
        if (is_last) {
            return;
        }
    }
}

const char *http_client_target(const struct http_client *client) {
    return client->target;
}

bool http_client_is_secure(const struct http_client *client) {
    return client->is_secure;
}

const char *http_client_token_path(const struct http_client *client) {
    return client->token != NULL ? watched_file_path(client->token) : NULL;
}
