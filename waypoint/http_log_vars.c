// SPDX-License-Identifier: Apache-2.0
//
// Values of an access log's variables (l7_var.def). Those of request and response fields are the
// template's own.
#include <stdio.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/l7/l7_reply.h"
#include "common/obs/log_format.h"
#include "common/proto/grpc.h"
#include "waypoint/http_log.h"

// ---- time --------------------------------------------------------------------------------------

static void append_fraction(struct buf *out, uint64_t wall_ns, unsigned n_digits) {
    char text[10];
    snprintf(text, sizeof(text), "%09u", (unsigned)(wall_ns % NS_PER_SEC));
    buf_append(out, slice_make(text, n_digits));
}

// One conversion of strftime, "%Y".
static void append_conversion(struct buf *out, const struct tm *tm, char conversion) {
    const char pattern[] = {'%', conversion, '\0'};
    char text[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof(text), pattern, tm);
#pragma GCC diagnostic pop
    buf_append(out, slice_make(text, n));
}

static bool is_digit(uint8_t c) {
    return c >= '1' && c <= '9';
}

// Behind a percent sign; returns how many bytes were read.
static size_t append_time_part(struct buf *out, uint64_t wall_ns, const struct tm *tm,
                               struct slice rest) {
    const uint8_t *c = rest.ptr;
    if (rest.len >= 2 && is_digit(c[0]) && c[1] == 'f') {
        append_fraction(out, wall_ns, c[0] - '0');
        return 2;
    }
    if (rest.len >= 3 && c[0] == 'E' && is_digit(c[1]) && c[2] == 'S') {
        append_conversion(out, tm, 'S');
        buf_append_byte(out, '.');
        append_fraction(out, wall_ns, c[1] - '0');
        return 3;
    }
    if (c[0] == 'f') {
        append_fraction(out, wall_ns, 9);
    } else if (c[0] == 's') {
        buf_append_u64(out, wall_ns / NS_PER_SEC);
    } else {
        append_conversion(out, tm, (char)c[0]);
    }
    return 1;
}

void http_log_time(uint64_t wall_ns, struct slice format, struct buf *out) {
    if (format.len == 0) {
        enum { UP_TO_MILLIS = sizeof("2024-08-21T15:32:05.754") - 1 };
        char text[LOG_TIME_MAX];
        log_format_time(wall_ns, text);
        buf_append(out, slice_make(text, UP_TO_MILLIS));
        buf_append_byte(out, 'Z');
        return;
    }
    time_t seconds = (time_t)(wall_ns / NS_PER_SEC);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    while (format.len > 0) {
        ptrdiff_t n_text = slice_find(format, '%');
        if (n_text < 0 || (size_t)n_text + 1 == format.len) {
            buf_append(out, format);
            return;
        }
        buf_append(out, slice_head(format, (size_t)n_text));
        format = slice_skip(format, (size_t)n_text + 1);
        format = slice_skip(format, append_time_part(out, wall_ns, &tm, format));
    }
}

// ---- values ------------------------------------------------------------------------------------

static void append_addr(struct buf *out, const struct addr *addr, bool with_port) {
    if (addr == NULL || !ip_is_set(&addr->ip)) {
        return;
    }
    char text[ADDR_TEXT_MAX];
    const char *end = with_port ? addr_put(addr, text) : ip_put(&addr->ip, text);
    buf_append(out, slice_make(text, (size_t)(end - text)));
}

static void append_port(struct buf *out, const struct addr *addr) {
    if (addr != NULL && ip_is_set(&addr->ip)) {
        buf_append_u64(out, addr->port);
    }
}

static struct slice protocol_name(const struct http_log_record *record) {
    switch ((enum http_version)record->version) {
    case HTTP_10:
        return SLICE_LIT("HTTP/1.0");
    case HTTP_2:
        return SLICE_LIT("HTTP/2");
    case HTTP_11:
        break;
    }
    return SLICE_LIT("HTTP/1.1");
}

// "UNAVAILABLE" as "Unavailable", "DEADLINE_EXCEEDED" as "DeadlineExceeded".
static void append_camel(struct buf *out, struct slice name) {
    bool is_first = true;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (c == '_') {
            is_first = true;
            continue;
        }
        bool is_upper = c >= 'A' && c <= 'Z';
        buf_append_byte(out, is_upper && !is_first ? c | 0x20 : c);
        is_first = false;
    }
}

static void append_grpc(const struct http_log_record *record, struct slice form, struct buf *out) {
    if (record->grpc_status < 0) {
        return;
    }
    struct slice name = slice_str(grpc_status_name((enum grpc_status)record->grpc_status));
    if (slice_eq_str(form, "NUMBER") || slice_eq_str(name, "?")) {
        buf_append_u64(out, (uint64_t)record->grpc_status);
    } else if (slice_eq_str(form, "SNAKE_STRING") || record->grpc_status == GRPC_OK) {
        buf_append(out, name);
    } else {
        append_camel(out, name);
    }
}

static bool append_address(const struct http_log_record *record, enum l7_var var, struct buf *out) {
    const struct addr *remote = record->downstream_remote, *local = record->downstream_local;
    switch (var) {
    case L7_VAR_DOWNSTREAM_REMOTE_ADDRESS:
    case L7_VAR_DOWNSTREAM_DIRECT_REMOTE_ADDRESS:
        append_addr(out, remote, true);
        return true;
    case L7_VAR_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT:
    case L7_VAR_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT:
        append_addr(out, remote, false);
        return true;
    case L7_VAR_DOWNSTREAM_REMOTE_PORT:
        append_port(out, remote);
        return true;
    case L7_VAR_DOWNSTREAM_LOCAL_ADDRESS:
        append_addr(out, local, true);
        return true;
    case L7_VAR_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT:
        append_addr(out, local, false);
        return true;
    case L7_VAR_DOWNSTREAM_LOCAL_PORT:
        append_port(out, local);
        return true;
    case L7_VAR_UPSTREAM_HOST:
    case L7_VAR_UPSTREAM_REMOTE_ADDRESS:
        append_addr(out, record->upstream_host, true);
        return true;
    case L7_VAR_UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT:
        append_addr(out, record->upstream_host, false);
        return true;
    case L7_VAR_UPSTREAM_LOCAL_ADDRESS:
        append_addr(out, record->upstream_local, true);
        return true;
    case L7_VAR_UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT:
        append_addr(out, record->upstream_local, false);
        return true;
    default:
        return false;
    }
}

// Details stand without quotes in the default format: one word, as Envoy has them.
static void append_word(struct buf *out, struct slice text) {
    size_t at = out->len;
    buf_append(out, text);
    if (slice_find(text, ' ') < 0 && slice_find(text, '\t') < 0) {
        return;
    }
    for (; at < out->len; at++) {
        out->ptr[at] = out->ptr[at] == ' ' || out->ptr[at] == '\t' ? '_' : out->ptr[at];
    }
}

static bool append_text(const struct http_log_record *record, enum l7_var var, struct buf *out) {
    switch (var) {
    case L7_VAR_PROTOCOL:
        buf_append(out, protocol_name(record));
        return true;
    case L7_VAR_HOSTNAME:
        buf_append(out, record->hostname);
        return true;
    case L7_VAR_ROUTE_NAME:
        buf_append(out, record->route);
        return true;
    case L7_VAR_RESPONSE_CODE_DETAILS:
        append_word(out, record->details);
        return true;
    case L7_VAR_CONNECTION_TERMINATION_DETAILS:
        append_word(out, record->termination_details);
        return true;
    case L7_VAR_UPSTREAM_TRANSPORT_FAILURE_REASON:
        buf_append(out, record->transport_failure);
        return true;
    case L7_VAR_UPSTREAM_CLUSTER:
        buf_append(out, record->cluster);
        return true;
    case L7_VAR_DOWNSTREAM_PEER_URI_SAN:
        buf_append(out, record->peer_id);
        return true;
    case L7_VAR_DOWNSTREAM_LOCAL_URI_SAN:
        buf_append(out, record->own_id);
        return true;
    case L7_VAR_RESPONSE_FLAGS:
        l7_flags_append(record->flags, out);
        return true;
    case L7_VAR_DOWNSTREAM_TLS_VERSION:
        buf_append_str(out, record->peer_id.len > 0 ? "TLSv1.3" : ""); // of all tunnels
        return true;
    default:
        return false;
    }
}

static void append_number(const struct http_log_record *record, enum l7_var var, struct buf *out) {
    switch (var) {
    case L7_VAR_RESPONSE_CODE:
        buf_append_u64(out, record->status);
        break;
    case L7_VAR_DURATION:
        buf_append_u64(out, record->duration_ns / NS_PER_MS);
        break;
    case L7_VAR_RESPONSE_DURATION:
        if (record->response_ns > 0) {
            buf_append_u64(out, record->response_ns / NS_PER_MS);
        }
        break;
    case L7_VAR_BYTES_RECEIVED:
        buf_append_u64(out, record->n_received);
        break;
    case L7_VAR_BYTES_SENT:
        buf_append_u64(out, record->n_sent);
        break;
    case L7_VAR_REQUEST_HEADERS_BYTES:
        buf_append_u64(out, record->n_head_received);
        break;
    case L7_VAR_RESPONSE_HEADERS_BYTES:
        buf_append_u64(out, record->n_head_sent);
        break;
    case L7_VAR_CONNECTION_ID:
        buf_append_u64(out, record->connection_id);
        break;
    case L7_VAR_UPSTREAM_REQUEST_ATTEMPT_COUNT:
        buf_append_u64(out, record->n_tries);
        break;
    default:
        break; // nothing is known of it here: TRACE_ID, REQUESTED_SERVER_NAME ...
    }
}

static void append_value(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    const struct http_log_vars *storage = arg;
    const struct http_log_record *record = storage->record;
    switch (var) {
    case L7_VAR_START_TIME:
        http_log_time(record->start_ns, format, out);
        return;
    case L7_VAR_GRPC_STATUS:
        append_grpc(record, format, out);
        return;
    case L7_VAR_GRPC_STATUS_NUMBER:
        append_grpc(record, SLICE_LIT("NUMBER"), out);
        return;
    default:
        break;
    }
    if (!append_address(record, var, out) && !append_text(record, var, out)) {
        append_number(record, var, out);
    }
}

struct l7_vars http_log_vars(const struct http_log_record *record, struct http_log_vars *storage) {
    storage->record = record;
    struct l7_vars vars = {
        .request = record->request,
        .response = record->response,
        .value = append_value,
        .arg = storage,
    };
    if (record->response != NULL || record->status == 0) {
        return vars;
    }
    storage->response = (struct http_head){.status = record->status};
    if (record->has_service_time) {
        size_t at = sizeof(storage->text);
        uint64_t ms = record->service_time_ms;
        do {
            storage->text[--at] = (char)('0' + ms % 10);
            ms /= 10;
        } while (ms > 0);
        storage->service_time = (struct http_field){
            .name = SLICE_LIT("x-envoy-upstream-service-time"),
            .value = slice_make(storage->text + at, sizeof(storage->text) - at),
        };
        storage->response.fields = &storage->service_time;
        storage->response.n_fields = 1;
    }
    vars.response = &storage->response;
    return vars;
}
