// SPDX-License-Identifier: Apache-2.0
#include "common/obs/access_log.h"

#include "common/base/clock.h"

LOG_SCOPE(log_access, "access");

bool access_log_wants(enum log_level level) {
    return log_enabled(&log_access, level);
}

// An empty text is left out, like one that is not known.
static struct log_field text_field(const char *key, struct slice text) {
    return LOG_SLICE(key, text.len > 0 ? text : (struct slice){0});
}

static struct log_field hbone_field(struct slice text) {
    return LOG_PLAIN("dst.hbone_addr", text.len > 0 ? text : (struct slice){0});
}

static struct log_field direction_field(enum access_direction direction) {
    return LOG_STR("direction", direction == ACCESS_INBOUND ? "inbound" : "outbound");
}

enum { N_PEER_FIELDS = 13, N_FIELDS = N_PEER_FIELDS + 4 };

static void fill_peers(const struct access_record *record, struct log_field fields[N_PEER_FIELDS]) {
    size_t n = 0;
    fields[n++] = LOG_ADDR("src.addr", &record->src_addr);
    fields[n++] = text_field("src.workload", record->src_workload);
    fields[n++] = text_field("src.namespace", record->src_namespace);
    fields[n++] = text_field("src.identity", record->src_identity);
    fields[n++] = text_field("src.cluster", record->src_cluster);
    fields[n++] = LOG_ADDR("dst.addr", &record->dst_addr);
    fields[n++] = hbone_field(record->dst_hbone_addr);
    fields[n++] = text_field("dst.service", record->dst_service);
    fields[n++] = text_field("dst.workload", record->dst_workload);
    fields[n++] = text_field("dst.namespace", record->dst_namespace);
    fields[n++] = text_field("dst.identity", record->dst_identity);
    fields[n++] = text_field("dst.cluster", record->dst_cluster);
    fields[n++] = direction_field(record->direction);
    CHECK(n == N_PEER_FIELDS);
}

void access_log_opened(const struct access_record *record) {
    if (!access_log_wants(ACCESS_OPENED_LEVEL)) {
        return;
    }
    struct log_field fields[N_PEER_FIELDS];
    fill_peers(record, fields);
    log_write(&log_access, ACCESS_OPENED_LEVEL, "connection opened", fields, N_PEER_FIELDS);
}

void access_log_complete(const struct access_record *record) {
    enum log_level level = record->error.len > 0 ? LOG_LEVEL_ERROR : ACCESS_COMPLETE_LEVEL;
    if (!access_log_wants(level)) {
        return;
    }
    struct log_field fields[N_FIELDS];
    fill_peers(record, fields);
    size_t n = N_PEER_FIELDS;
    fields[n++] = LOG_U64("bytes_sent", record->bytes_sent);
    fields[n++] = LOG_U64("bytes_recv", record->bytes_recv);
    fields[n++] = LOG_MS("duration", record->duration_ns / NS_PER_MS);
    fields[n++] = text_field("error", record->error);
    log_write(&log_access, level, "connection complete", fields, n);
}

void access_log_failed(const struct addr *src, const struct addr *dst,
                       enum access_direction direction, struct slice error) {
    log_warn(&log_access, "connection failed", LOG_ADDR("src.addr", src), LOG_ADDR("dst.addr", dst),
             direction_field(direction), text_field("error", error));
}
