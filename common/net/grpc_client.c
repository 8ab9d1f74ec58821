// SPDX-License-Identifier: Apache-2.0
#include "common/net/grpc_client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/net/grpc_client_priv.h"

enum { METADATA_MAX = 50 };

// ---- ends of calls -----------------------------------------------------------------------------

static void call_free(struct grpc_call *call) {
    list_del(&call->node);
    http_request_cancel(&call->request);
    grpc_reader_fini(&call->reader);
    free(call);
}

static void detach(struct grpc_call *call) {
    call->stream->client = NULL;
    call->stream->call = NULL;
    call->stream = NULL;
}

// Tells the owner; the call is gone.
static void finish(struct grpc_call *call, enum grpc_status status, const char *text) {
    struct grpc_stream *stream = call->stream;
    char copy[GRPC_CLIENT_TEXT_MAX];
    snprintf(copy, sizeof(copy), "%s", text); // what it is made of may go with the call
    detach(call);
    call_free(call);
    stream->events->on_closed(stream, status, copy);
}

static void finish_with(struct grpc_call *call, enum grpc_status status, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
static void finish_with(struct grpc_call *call, enum grpc_status status, const char *fmt, ...) {
    char text[GRPC_CLIENT_TEXT_MAX];
    int n = snprintf(text, sizeof(text), "%s: ", grpc_client_target(call->client));
    va_list args;
    va_start(args, fmt);
    if (n >= 0 && (size_t)n < sizeof(text)) {
        vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, args);
    }
    va_end(args);
    finish(call, status, text);
}

// ---- answers -----------------------------------------------------------------------------------

static struct grpc_call *of_request(struct http_request *request) {
    return CONTAINER_OF(request, struct grpc_call, request);
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
    return status == GRPC_UNAUTHENTICATED ? http_client_token_path(client->http) : NULL;
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

static void on_head(struct http_request *request, const struct http_head *head, bool end) {
    static const struct slice type = SLICE_LIT("application/grpc");
    struct grpc_call *call = of_request(request);
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
    }
}

static void on_data(struct http_request *request, struct slice bytes) {
    struct grpc_call *call = of_request(request);
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
    } else if (result == GRPC_READ_COMPRESSED) {
        finish_with(call, GRPC_INTERNAL, "sent a compressed message, which was not offered");
    } else if (result == GRPC_READ_TOO_LARGE) {
        finish_with(call, GRPC_RESOURCE_EXHAUSTED, "sent a message of more than %zu bytes",
                    call->client->message_max);
    }
}

static void on_trailers(struct http_request *request, const struct http_field *fields, size_t n) {
    take_status(of_request(request), fields, n);
}

static void on_writable(struct http_request *request) {
    struct grpc_call *call = of_request(request);
    if (call->stream->events->on_writable != NULL) {
        call->stream->events->on_writable(call->stream);
    }
}

static void on_open(struct http_request *request) {
    struct grpc_call *call = of_request(request);
    if (call->stream->events->on_open != NULL) {
        call->stream->events->on_open(call->stream);
    }
}

static void on_closed(struct http_request *request, enum http_client_end end, const char *text) {
    static const enum grpc_status statuses[] = {
        [HTTP_CLIENT_NO_TOKEN] = GRPC_UNAUTHENTICATED,
        [HTTP_CLIENT_UNREACHABLE] = GRPC_UNAVAILABLE,
        [HTTP_CLIENT_REFUSED] = GRPC_UNAVAILABLE,
        [HTTP_CLIENT_LOST] = GRPC_UNAVAILABLE,
        [HTTP_CLIENT_RESET] = GRPC_INTERNAL,
        [HTTP_CLIENT_PROTOCOL] = GRPC_INTERNAL,
        [HTTP_CLIENT_TIMEOUT] = GRPC_DEADLINE_EXCEEDED,
        [HTTP_CLIENT_FLOODED] = GRPC_RESOURCE_EXHAUSTED,
    };
    struct grpc_call *call = of_request(request);
    if (end == HTTP_CLIENT_COMPLETE) {
        take_status(call, NULL, 0); // the answer had no trailers
    } else {
        finish(call, statuses[end], text);
    }
}

static const struct http_request_events request_events = {
    .on_open = on_open,
    .on_head = on_head,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

// ---- streams -----------------------------------------------------------------------------------

void grpc_stream_init(struct grpc_stream *stream, const struct grpc_stream_events *events) {
    *stream = (struct grpc_stream){.events = events};
}

static void open_request(struct grpc_call *call, const char *path, uint64_t timeout_ms) {
    const struct grpc_client *client = call->client;
    struct http_field fields[METADATA_MAX + 3] = {
        {.name = SLICE_LIT("te"), .value = SLICE_LIT("trailers")},
        {.name = SLICE_LIT("content-type"), .value = SLICE_LIT("application/grpc")},
    };
    size_t n = 2;
    struct buf timeout;
    buf_init(&timeout, 16);
    if (timeout_ms > 0) {
        grpc_timeout_append(timeout_ms, &timeout);
        fields[n++] =
            (struct http_field){.name = SLICE_LIT("grpc-timeout"), .value = buf_slice(&timeout)};
    }
    for (size_t i = 0; i < client->n_metadata; i++) {
        fields[n++] = client->metadata[i];
    }
    struct http_request_params params = {
        .method = SLICE_LIT("POST"),
        .path = slice_str(path),
        .fields = fields,
        .n_fields = n,
        .is_stream = true,
        .timeout_ms = timeout_ms,
    };
    http_request_open(&call->request, client->http, &params);
    buf_fini(&timeout);
}

void grpc_stream_open(struct grpc_stream *stream, struct grpc_client *client, const char *path,
                      uint64_t timeout_ms) {
    CHECK(stream->client == NULL);
    struct grpc_call *call = xcalloc(1, sizeof(*call));
    call->client = stream->client = client;
    call->stream = stream;
    stream->call = call;
    grpc_reader_init(&call->reader, client->message_max);
    list_push_back(&client->calls, &call->node);
    http_request_init(&call->request, &request_events);
    open_request(call, path, timeout_ms);
}

void grpc_stream_send(struct grpc_stream *stream, struct slice message, bool end) {
    struct grpc_call *call = stream->call;
    if (call == NULL) {
        return;
    }
    uint8_t prefix[GRPC_PREFIX_LEN];
    struct chain data;
    chain_init(&data, call->client->loop->pool);
    grpc_prefix_write(prefix, (uint32_t)message.len);
    chain_copy(&data, slice_make(prefix, sizeof(prefix)));
    chain_copy(&data, message);
    http_request_send_chain(&call->request, &data, end);
}

void grpc_stream_end(struct grpc_stream *stream) {
    if (stream->call != NULL) {
        http_request_send(&stream->call->request, (struct slice){0}, true);
    }
}

bool grpc_stream_can_send(const struct grpc_stream *stream) {
    return stream->call == NULL || http_request_can_send(&stream->call->request);
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
    for (size_t i = 0; i < client->n_metadata; i++) {
        free((void *)(uintptr_t)client->metadata[i].name.ptr);
        free((void *)(uintptr_t)client->metadata[i].value.ptr);
    }
    free(client->metadata);
    free(client);
}

struct grpc_client *grpc_client_new(const struct grpc_client_config *config, char **ret_error) {
    if (config->n_metadata > METADATA_MAX) {
        *ret_error =
            xasprintf("%zu fields of metadata, more than %d", config->n_metadata, METADATA_MAX);
        return NULL;
    }
    struct http_client_config http = {
        .loop = config->loop,
        .address = config->address,
        .roots = config->roots,
        .alt_name = config->alt_name,
        .token = config->token,
        .protocol = HTTP_CLIENT_2,
        .conns_max = 1,
        .mark = config->mark,
        .compliance = config->compliance,
    };
    struct grpc_client *client = xcalloc(1, sizeof(*client));
    client->loop = config->loop;
    client->message_max = config->message_max;
    list_init(&client->calls);
    copy_metadata(client, config);
    client->http = http_client_new(&http, ret_error);
    if (client->http == NULL) {
        destroy(client);
        return NULL;
    }
    return client;
}

void grpc_client_free(struct grpc_client *client) {
    if (client == NULL) {
        return;
    }
    while (!list_empty(&client->calls)) {
        struct grpc_call *call = LIST_ITEM(client->calls.next, struct grpc_call, node);
        detach(call);
        call_free(call);
    }
    http_client_free(client->http);
    destroy(client);
}

const char *grpc_client_target(const struct grpc_client *client) {
    return http_client_target(client->http);
}

bool grpc_client_is_secure(const struct grpc_client *client) {
    return http_client_is_secure(client->http);
}
