// SPDX-License-Identifier: Apache-2.0
#include "common/obs/access_log.h"

#include "common/obs/log.h"

LOG_SCOPE(log_access, "access");

static enum log_level level_of(enum access_event event, bool is_error) {
    switch (event) {
    case ACCESS_OPENED:
        return LOG_LEVEL_DEBUG;
    case ACCESS_COMPLETE:
        return is_error ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO;
    case ACCESS_FAILED:
        break;
    }
    return LOG_LEVEL_WARN;
}

bool access_log_enabled(enum access_event event, bool is_error) {
    return log_enabled(&log_access, level_of(event, is_error));
}

// An empty text is left out, like one that is not known.
static struct log_field text_field(const char *key, struct slice text) {
    return LOG_SLICE(key, text.len > 0 ? text : (struct slice){0});
}

enum { MAX_FIELDS = 17 };

static size_t add_source(const struct access_record *record, struct log_field *fields) {
    size_t n = 0;
    fields[n++] = text_field("src.workload", record->src_workload);
    fields[n++] = text_field("src.namespace", record->src_namespace);
    fields[n++] = text_field("src.identity", record->src_identity);
    fields[n++] = text_field("src.cluster", record->src_cluster);
    return n;
}

static size_t add_destination(const struct access_record *record, struct log_field *fields) {
    size_t n = 0;
    if (record->dst_hbone_host.len > 0) {
        fields[n++] = LOG_PLAIN("dst.hbone_addr", record->dst_hbone_host);
    } else {
        fields[n++] = LOG_ADDR("dst.hbone_addr", record->dst_hbone_addr);
    }
    fields[n++] = text_field("dst.service", record->dst_service);
    fields[n++] = text_field("dst.workload", record->dst_workload);
    fields[n++] = text_field("dst.namespace", record->dst_namespace);
    fields[n++] = text_field("dst.identity", record->dst_identity);
    fields[n++] = text_field("dst.cluster", record->dst_cluster);
    return n;
}

static size_t add_outcome(const struct access_record *record, struct log_field *fields) {
    size_t n = 0;
    fields[n++] = LOG_U64("bytes_sent", record->bytes_sent);
    fields[n++] = LOG_U64("bytes_recv", record->bytes_recv);
    fields[n++] = LOG_MS("duration", record->duration_ms);
    return n;
}

void access_log_write(enum access_event event, const struct access_record *record) {
    static const char *const messages[] = {
        [ACCESS_OPENED] = "connection opened",
        [ACCESS_COMPLETE] = "connection complete",
        [ACCESS_FAILED] = "connection failed",
    };
    enum log_level level = level_of(event, record->error.len > 0 && !record->is_usual);
    if (!log_enabled(&log_access, level)) {
        return;
    }
    bool has_peers = event != ACCESS_FAILED;
    struct log_field fields[MAX_FIELDS];
    size_t n = 0;
    fields[n++] = LOG_ADDR("src.addr", record->src_addr);
    n += has_peers ? add_source(record, fields + n) : 0;
    fields[n++] = LOG_ADDR("dst.addr", record->dst_addr);
    n += has_peers ? add_destination(record, fields + n) : 0;
    fields[n++] = text_field("direction", record->direction);
    n += event == ACCESS_COMPLETE ? add_outcome(record, fields + n) : 0;
    if (event != ACCESS_OPENED) {
        fields[n++] = text_field("error", record->error);
    }
    CHECK(n <= MAX_FIELDS);
    log_write(&log_access, level, messages[event], fields, n);
}
