// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kube_client.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/config_doc.h"

struct kube_client {
    struct http_client *http;
};

enum { RETRY_AFTER_MAX_S = 600, MESSAGE_MAX = 512 };

// ---- what an answer means ----------------------------------------------------------------------

const char *kube_outcome_label(enum kube_outcome outcome) {
    static const char *const labels[] = {
        [KUBE_OK] = "ok",
        [KUBE_UNREACHABLE] = "unreachable",
        [KUBE_UNAUTHORIZED] = "unauthorized",
        [KUBE_FORBIDDEN] = "forbidden",
        [KUBE_NOT_FOUND] = "not_found",
        [KUBE_CONFLICT] = "conflict",
        [KUBE_GONE] = "gone",
        [KUBE_INVALID] = "invalid",
        [KUBE_BUSY] = "busy",
        [KUBE_BROKEN] = "broken",
    };
    return labels[outcome];
}

static enum kube_outcome outcome_of(uint16_t status) {
    switch (status) {
    case 401:
        return KUBE_UNAUTHORIZED;
    case 403:
        return KUBE_FORBIDDEN;
    case 404:
        return KUBE_NOT_FOUND;
    case 409:
        return KUBE_CONFLICT;
    case 410:
        return KUBE_GONE;
    case 429:
        return KUBE_BUSY;
    default:
        return status >= 200 && status < 300   ? KUBE_OK
               : status >= 500                 ? KUBE_BUSY
               : status >= 400 && status < 500 ? KUBE_INVALID
                                               : KUBE_BROKEN;
    }
}

// The API's own words, where the answer is a Status; else its first line.
static void read_status(struct slice json, char reason[64], char message[MESSAGE_MAX]) {
    struct config_doc_reader reader;
    struct config_errors errors;
    struct cfg_node root;
    struct arena arena;
    arena_init(&arena, 8 << 20);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "answer", json, CONFIG_JSON, NULL);
    if (json.len > 0 && json.ptr[0] == '{' &&
        config_doc_next(&reader, &arena, &errors, &root) > 0) {
        snprintf(reason, 64, "%s", cfg_str(cfg_get(&root, "reason"), ""));
        snprintf(message, MESSAGE_MAX, "%s", cfg_str(cfg_get(&root, "message"), ""));
    } else {
        size_t len = 0;
        while (len < json.len && len < 120 && json.ptr[len] >= ' ' && json.ptr[len] < 127) {
            len++;
        }
        snprintf(message, MESSAGE_MAX, "%.*s", (int)len, (const char *)json.ptr);
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
}

// ---- requests ----------------------------------------------------------------------------------

static struct kube_request *of(struct http_request *http) {
    return CONTAINER_OF(http, struct kube_request, http);
}

static void open_http(struct kube_request *request) {
    struct http_field fields[] = {
        {.name = SLICE_LIT("accept"), .value = SLICE_LIT("application/json")},
        {.name = SLICE_LIT("content-type"), .value = slice_str(request->type)},
    };
    struct http_request_params params = {
        .method = slice_str(request->method),
        .path = slice_str(request->path),
        .fields = fields,
        .n_fields = request->type != NULL ? 2 : 1,
        .body = request->body,
        .timeout_ms = request->timeout_ms,
    };
    buf_clear(&request->answer);
    request->status = 0;
    request->retry_after_ms = 0;
    request->is_too_large = false;
    http_request_open(&request->http, request->client->http, &params);
}

static void drop(struct kube_request *request) {
    free(request->method);
    free(request->path);
    free(request->type);
    free((void *)(uintptr_t)request->body.ptr);
    request->method = request->path = request->type = NULL;
    request->body = (struct slice){0};
    request->client = NULL;
}

// The owner may open it again at once, or free it.
static void done(struct kube_request *request, enum kube_outcome outcome, const char *reason,
                 const char *what) {
    char text[KUBE_TEXT_MAX] = "";
    if (outcome != KUBE_OK) {
        size_t path_len = strcspn(request->path, "?");
        snprintf(text, sizeof(text), "%s %.*s: %s", request->method, (int)path_len, request->path,
                 what);
    }
    size_t len = 0;
    struct kube_result result = {.outcome = outcome,
                                 .status = request->status,
                                 .reason = reason,
                                 .text = text,
                                 .retry_after_ms = request->retry_after_ms};
    char *body = buf_take(&request->answer, &len);
    if (outcome == KUBE_OK) {
        result.body = slice_make(body, len);
    }
    drop(request);
    request->events->on_done(request, &result);
    free(body);
}

static bool is_good(const struct kube_request *request) {
    return outcome_of(request->status) == KUBE_OK;
}

static bool is_streamed(const struct kube_request *request) {
    return is_good(request) && request->events->on_bytes != NULL;
}

static void on_head(struct http_request *http, const struct http_head *head, bool end) {
    struct kube_request *request = of(http);
    request->status = head->status;
    for (size_t i = 0; i < head->n_fields; i++) {
        uint64_t seconds = 0;
        if (slice_eq_str(head->fields[i].name, "retry-after") &&
            slice_to_u64(head->fields[i].value, RETRY_AFTER_MAX_S, &seconds)) {
            request->retry_after_ms = seconds * 1000; // the API never says a date
        }
    }
    if (is_streamed(request) && request->events->on_good != NULL) {
        request->events->on_good(request);
    }
}

static void on_data(struct http_request *http, struct slice bytes) {
    struct kube_request *request = of(http);
    if (is_streamed(request)) {
        request->events->on_bytes(request, bytes);
        return;
    }
    size_t max = is_good(request) ? KUBE_ANSWER_MAX : KUBE_ERROR_MAX;
    if (request->answer.len + bytes.len > max) {
        request->is_too_large = true;
        bytes = slice_head(bytes, is_good(request) ? 0 : max - request->answer.len);
    }
    buf_append(&request->answer, bytes);
}

static void on_answer(struct kube_request *request) {
    enum kube_outcome outcome = outcome_of(request->status);
    char reason[64] = "", message[MESSAGE_MAX] = "", text[MESSAGE_MAX + 160];
    if (outcome == KUBE_OK && request->is_too_large) {
        done(request, KUBE_BROKEN, "", "the answer is too large");
        return;
    }
    if (outcome == KUBE_OK) {
        done(request, KUBE_OK, "", "");
        return;
    }
    if (outcome == KUBE_UNAUTHORIZED && !request->has_repeated) {
        request->has_repeated = true; // the token's file is looked at again
        open_http(request);
        return;
    }
    read_status(buf_slice(&request->answer), reason, message);
    const char *token = http_client_token_path(request->client->http);
    snprintf(text, sizeof(text), "status %u%s%s%s%s%s%s", request->status,
             reason[0] != '\0' ? " " : "", reason, message[0] != '\0' ? ": " : "", message,
             outcome == KUBE_UNAUTHORIZED && token != NULL ? "; the token is of " : "",
             outcome == KUBE_UNAUTHORIZED && token != NULL ? token : "");
    done(request, outcome, reason, text);
}

static void on_closed(struct http_request *http, enum http_client_end end, const char *text) {
    struct kube_request *request = of(http);
    if (end == HTTP_CLIENT_COMPLETE) {
        on_answer(request);
    } else {
        bool is_broken = end == HTTP_CLIENT_PROTOCOL || end == HTTP_CLIENT_FLOODED;
        done(request, is_broken ? KUBE_BROKEN : KUBE_UNREACHABLE, "", text);
    }
}

static const struct http_request_events http_events = {
    .on_head = on_head, .on_data = on_data, .on_closed = on_closed};

void kube_request_init(struct kube_request *request, const struct kube_request_events *events) {
    *request = (struct kube_request){.events = events};
    http_request_init(&request->http, &http_events);
    buf_init(&request->answer, KUBE_ANSWER_MAX);
}

void kube_request_open(struct kube_request *request, struct kube_client *client,
                       const struct kube_request_params *params) {
    CHECK(request->client == NULL);
    request->client = client;
    request->method = xstrdup(params->method);
    request->path = xstrdup(params->path);
    request->type = params->content_type != NULL ? xstrdup(params->content_type) : NULL;
    request->body = slice_make(slice_dup(params->body), params->body.len);
    request->timeout_ms = params->timeout_ms;
    request->has_repeated = false;
    open_http(request);
}

void kube_request_cancel(struct kube_request *request) {
    if (request->client != NULL) {
        http_request_cancel(&request->http);
        drop(request);
    }
    buf_fini(&request->answer);
    buf_init(&request->answer, KUBE_ANSWER_MAX);
}

// ---- helpers -----------------------------------------------------------------------------------

void kube_query_add(struct buf *path, const char *key, const char *value) {
    bool is_first = path->len == 0 || memchr(path->ptr, '?', path->len) == NULL;
    buf_printf(path, "%c%s=", is_first ? '?' : '&', key);
    for (const char *at = value; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;
        if (isalnum(c) || strchr("-._~", c) != NULL) {
            buf_append_byte(path, c);
        } else {
            buf_printf(path, "%%%02X", c);
        }
    }
}

uint64_t kube_backoff_ms(struct kube_backoff *backoff, struct rand *rand, uint64_t retry_after_ms) {
    uint64_t delay = backoff->min_ms != 0 ? backoff->min_ms : KUBE_BACKOFF_MIN_MS;
    for (uint32_t i = 0; i < backoff->n_failures && delay < KUBE_BACKOFF_MAX_MS; i++) {
        delay *= 2;
    }
    backoff->n_failures++;
    delay = MIN(delay, (uint64_t)KUBE_BACKOFF_MAX_MS);
    delay = delay / 2 + rand_below(rand, delay / 2 + 1); // clients do not come back together
    // What the server asks for is the least, and not for all the same instant.
    return delay < retry_after_ms ? retry_after_ms + rand_below(rand, delay + 1) : delay;
}

struct kube_client *kube_client_new(const struct kube_client_config *config, char **ret_error) {
    const struct kube_access *access = config->access;
    struct http_client_config http = {
        .loop = config->loop,
        .address = access->address,
        .roots = access->roots,
        .server_name = access->server_name,
        .token = access->token,
        .cert = access->cert,
        .key = access->key,
        .protocol = HTTP_CLIENT_ANY,
        .conns_max = KUBE_CONNS_MAX,
        .mark = config->mark,
        .compliance = config->compliance,
    };
    struct http_client *client = http_client_new(&http, ret_error);
    if (client == NULL) {
        return NULL;
    }
    struct kube_client *kube = xcalloc(1, sizeof(*kube));
    kube->http = client;
    return kube;
}

void kube_client_free(struct kube_client *client) {
    if (client != NULL) {
        http_client_free(client->http);
        free(client);
    }
}

const char *kube_client_target(const struct kube_client *client) {
    return http_client_target(client->http);
}
