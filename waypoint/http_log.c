// SPDX-License-Identifier: Apache-2.0
#include "waypoint/http_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/l7/l7_reply.h"
#include "common/obs/log.h"

LOG_SCOPE(log_http, "waypoint::http");

_Static_assert((int)L7_LOG_LINE_MAX <= (int)LOG_WHOLE_MAX, "the log takes each line");

void http_log_init(struct http_log *log) {
    *log = (struct http_log){0};
    buf_init(&log->line, SIZE_MAX);
}

void http_log_fini(struct http_log *log) {
    l7_log_format_free(log->format);
    free(log->text);
    buf_fini(&log->line);
}

static void take_format(struct http_log *log, struct l7_log_format *format,
                        const struct http_log_settings *settings) {
    l7_log_format_free(log->format);
    free(log->text);
    log->format = format;
    log->encoding = settings->encoding;
    log->text = xstrdup(settings->format);
}

bool http_log_set(struct http_log *log, const struct http_log_settings *settings,
                  struct buf *ret_error) {
    if (!settings->is_on) {
        l7_log_format_free(log->format);
        log->format = NULL;
        return true;
    }
    if (log->format != NULL && log->encoding == settings->encoding &&
        strcmp(log->text, settings->format) == 0) {
        return true;
    }
    struct l7_log_format *format =
        l7_log_format_new(settings->encoding, slice_str(settings->format), ret_error);
    bool is_ok = format != NULL;
    if (!is_ok) {
        format = l7_log_format_new(settings->encoding, (struct slice){0}, ret_error);
        CHECK(format != NULL); // it is ours
    }
    take_format(log, format, settings);
    return is_ok;
}

void http_log_write(struct http_log *log, const struct http_log_record *record) {
    struct http_log_vars storage;
    struct l7_vars vars = http_log_vars(record, &storage);
    l7_log_format_line(log->format, &vars, &log->line);
    log_write_whole(buf_slice(&log->line));
}

// ---- failures ----------------------------------------------------------------------------------

// One of so many in this second.
static bool may_tell(struct http_log *log, uint64_t now_ns) {
    if (log->failures_since_ns == 0 || now_ns - log->failures_since_ns >= NS_PER_SEC) {
        log->failures_since_ns = now_ns;
        log->n_failures = 0;
    }
    if (log->n_failures >= HTTP_LOG_FAILURES) {
        log->n_untold++;
        return false;
    }
    log->n_failures++;
    return true;
}

// What is not known is left out of the line.
static struct slice known(struct slice text) {
    return text.len > 0 ? text : (struct slice){0};
}

void http_log_failure(struct http_log *log, const struct http_log_record *record, uint64_t now_ns) {
    enum { TEXT_MAX = 512 };
    if (!log_enabled(&log_http, LOG_LEVEL_INFO) || !may_tell(log, now_ns)) {
        return;
    }
    static const struct http_head none;
    const struct http_head *request = record->request != NULL ? record->request : &none;
    struct buf flags;
    buf_init(&flags, SIZE_MAX);
    l7_flags_append(record->flags, &flags);
    struct log_field fields[] = {
        LOG_U64("status", record->status),
        LOG_PLAIN("flags", buf_slice(&flags)),
        LOG_PLAIN("details", known(record->details)),
        LOG_SLICE("reason", known(record->transport_failure)),
        LOG_SLICE("method", known(request->method)),
        LOG_SLICE("authority", known(slice_head(request->authority, TEXT_MAX))),
        LOG_SLICE("path", known(slice_head(request->path, TEXT_MAX))),
        LOG_ADDR("src.addr", record->downstream_remote),
        LOG_SLICE("src.identity", known(record->peer_id)),
        LOG_SLICE("dst.service", known(record->service)),
        LOG_ADDR("dst.addr", record->upstream_host),
        LOG_MS("duration", record->duration_ns / NS_PER_MS),
        LOG_U64("tries", record->n_tries),
        LOG_U64("not_told", log->n_untold),
    };
    // The last one is there when something was left out before.
    size_t n_fields = ARRAY_LEN(fields) - (log->n_untold == 0);
    log_write(&log_http, LOG_LEVEL_INFO, "request failed", fields, n_fields);
    log->n_untold = 0;
    buf_fini(&flags);
}
