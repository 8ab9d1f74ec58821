// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/proto/h2_harness.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/proto/h2_hpack.h"

enum { MAX_FIELDS = 128 };

// ---- raw bytes

void wire_free(struct wire *wire) {
    free(wire->bytes);
    *wire = (struct wire){0};
}

void wire_add(struct wire *wire, const void *bytes, size_t len) {
    if (wire->len + len > wire->cap) {
        wire->cap = (wire->len + len) * 2;
        wire->bytes = xrealloc(wire->bytes, wire->cap);
    }
    if (len > 0) {
        memcpy(wire->bytes + wire->len, bytes, len);
    }
    wire->len += len;
}

void wire_frame(struct wire *wire, unsigned type, unsigned flags, uint32_t id, const void *payload,
                size_t len) {
    uint8_t hd[H2_FRAME_HD_LEN];
    h2_frame_hd_put(hd, (enum h2_frame_type)type, (uint8_t)flags, id, (uint32_t)len);
    wire_add(wire, hd, sizeof(hd));
    wire_add(wire, payload, len);
}

void wire_u32_frame(struct wire *wire, unsigned type, uint32_t id, uint32_t value) {
    uint8_t payload[4];
    h2_put32(payload, value);
    wire_frame(wire, type, 0, id, payload, 4);
}

void wire_settings(struct wire *wire, size_t n, const uint32_t (*pairs)[2]) {
    uint8_t *payload = xmalloc(n * 6 + 1);
    for (size_t i = 0; i < n; i++) {
        payload[i * 6] = (uint8_t)(pairs[i][0] >> 8);
        payload[i * 6 + 1] = (uint8_t)pairs[i][0];
        h2_put32(payload + i * 6 + 2, pairs[i][1]);
    }
    wire_frame(wire, H2_FRAME_SETTINGS, 0, 0, payload, n * 6);
    free(payload);
}

void wire_settings_ack(struct wire *wire) {
    wire_frame(wire, H2_FRAME_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
}

void wire_data(struct wire *wire, uint32_t id, size_t len, bool end) {
    uint8_t *payload = xmalloc(len + 1);
    for (size_t i = 0; i < len; i++) {
        payload[i] = (uint8_t)i;
    }
    wire_frame(wire, H2_FRAME_DATA, end ? H2_FLAG_END_STREAM : 0, id, payload, len);
    free(payload);
}

void wire_preface(struct wire *wire) {
    wire_add(wire, H2_PREFACE, H2_PREFACE_LEN);
    wire_frame(wire, H2_FRAME_SETTINGS, 0, 0, NULL, 0);
}

size_t fields_of(const char *text, struct http_field *fields, size_t max) {
    size_t n = 0;
    struct slice rest = slice_str(text);
    while (rest.len > 0) {
        struct slice item = rest;
        if (!slice_split(rest, '|', &item, &rest)) {
            rest.len = 0;
        }
        assert_true(n < max);
        size_t at = 1; // pseudo names begin with ':'
        while (at < item.len && item.ptr[at] != '=') {
            at++;
        }
        fields[n++] =
            (struct http_field){.name = slice_head(item, at), .value = slice_skip(item, at + 1)};
    }
    return n;
}

size_t wire_block(uint8_t *buf, size_t cap, const char *text, bool size_update) {
    struct http_field fields[MAX_FIELDS];
    size_t n = fields_of(text, fields, MAX_FIELDS);
    size_t at = 0;
    if (size_update) {
        buf[at++] = H2_HPACK_UPDATE_ZERO;
    }
    at += h2_hpack_encode(fields, n, buf + at, cap - at);
    return at;
}

void wire_headers(struct wire *wire, uint32_t id, const char *fields, unsigned flags) {
    uint8_t block[8192];
    size_t len = wire_block(block, sizeof(block), fields, true);
    wire_frame(wire, H2_FRAME_HEADERS, flags | H2_FLAG_END_HEADERS, id, block, len);
}

char *wire_text(const struct wire *wire, bool has_preface) {
    static const char *const names[] = {"DATA", "HEADERS", "PRIORITY", "RST_STREAM",    "SETTINGS",
                                        "PUSH", "PING",    "GOAWAY",   "WINDOW_UPDATE", "CONT"};
    char *text = NULL;
    size_t text_len = 0;
    FILE *out = open_memstream(&text, &text_len);
    size_t at = has_preface ? H2_PREFACE_LEN : 0;
    while (at + H2_FRAME_HD_LEN <= wire->len) {
        struct h2_frame_hd hd = h2_frame_hd_get(wire->bytes + at);
        const uint8_t *payload = wire->bytes + at + H2_FRAME_HD_LEN;
        at += H2_FRAME_HD_LEN + hd.len;
        assert_true(at <= wire->len);
        fprintf(out, "%s f%x s%u", hd.type < 10 ? names[hd.type] : "?", hd.flags, hd.id);
        if (hd.type == H2_FRAME_WINDOW_UPDATE || hd.type == H2_FRAME_RST_STREAM) {
            fprintf(out, " %u", h2_get32(payload));
        } else if (hd.type == H2_FRAME_GOAWAY) {
            fprintf(out, " last=%u code=%u", h2_get32(payload), h2_get32(payload + 4));
        } else if (hd.type == H2_FRAME_DATA || hd.type == H2_FRAME_SETTINGS) {
            fprintf(out, " len=%u", hd.len);
        }
        fputc('\n', out);
    }
    assert_int_equal(at, wire->len);
    fclose(out);
    return text;
}

// ---- one core

uint64_t rnd(uint64_t *seed) {
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void log_add(struct h2_end *end, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void log_add(struct h2_end *end, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char line[2048];
    int n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    size_t len = MIN((size_t)n, sizeof(line) - 1);
    if (end->log_len + len + 1 > end->log_cap) {
        end->log_cap = (end->log_len + len + 1) * 2;
        end->log = xrealloc(end->log, end->log_cap);
    }
    memcpy(end->log + end->log_len, line, len + 1);
    end->log_len += len;
}

static void close_data(struct h2_end *end) {
    if (end->data_id != 0) {
        log_add(end, "DATA s%u len=%llu hash=%llx\n", end->data_id,
                (unsigned long long)end->data_len, (unsigned long long)end->data_hash);
        end->data_id = 0;
    }
}

void end_init(struct h2_end *end, bool is_server) {
    *end = (struct h2_end){.auto_consume = true, .now = NS_PER_SEC};
    blk_pool_init(&end->pool, 4);
    h2_config_init(&end->config, is_server);
}

void end_open(struct h2_end *end, bool is_server) {
    end->conn = h2_conn_new(&end->config, is_server, &end->pool, end->now);
}

void end_fini(struct h2_end *end) {
    h2_conn_free(end->conn);
    free(end->log);
    assert_int_equal(end->pool.stats.n_cold, 0);
    assert_int_equal(end->pool.live_segs, 0);
    blk_pool_fini(&end->pool);
}

static void log_fields(struct h2_end *end, const struct h2_event *ev, const char *name) {
    log_add(end, "%s s%u", name, h2_stream_id(ev->stream));
    for (size_t i = 0; i < ev->n_fields; i++) {
        log_add(end, " %.*s=%.*s", SLICE_ARG(ev->fields[i].name), SLICE_ARG(ev->fields[i].value));
    }
    log_add(end, "%s\n", ev->end_stream ? " (end)" : "");
}

static void on_data(struct h2_end *end, const struct h2_event *ev) {
    uint32_t id = h2_stream_id(ev->stream);
    if (end->data_id != id) {
        close_data(end);
        end->data_id = id;
        end->data_len = 0;
        end->data_hash = UINT64_C(0xcbf29ce484222325);
    }
    assert_true(ev->len > 0);
    for (uint32_t i = 0; i < ev->len; i++) {
        end->data_hash = (end->data_hash ^ ev->blk->base[ev->off + i]) * UINT64_C(0x100000001b3);
    }
    end->data_len += ev->len;
    end->n_data += ev->len;
    if (end->auto_consume) {
        h2_stream_consumed(ev->stream, ev->len);
    }
}

static void on_event(struct h2_end *end, const struct h2_event *ev) {
    end->n_events[ev->type]++;
    uint32_t id = ev->stream != NULL ? h2_stream_id(ev->stream) : 0;
    if (id / 2 < ARRAY_LEN(end->streams) && ev->stream != NULL) {
        end->streams[id / 2] = ev->type == H2_EV_CLOSED ? NULL : ev->stream;
    }
    if (end->hook != NULL) {
        end->hook(end, ev);
    }
    if (end->is_quiet) {
        return;
    }
    if (ev->type == H2_EV_DATA) {
        on_data(end, ev);
        return;
    }
    close_data(end);
    switch (ev->type) {
    case H2_EV_HEADERS:
        log_fields(end, ev, "HEADERS");
        break;
    case H2_EV_INFORMATIONAL:
        log_fields(end, ev, "INFO");
        break;
    case H2_EV_TRAILERS:
        log_fields(end, ev, "TRAILERS");
        break;
    case H2_EV_END:
        log_add(end, "END s%u\n", id);
        break;
    case H2_EV_RESET:
        end->last_err = ev->err;
        log_add(end, "RESET s%u %s%s%s\n", id, h2_err_label(ev->err), ev->from_peer ? " peer" : "",
                ev->is_clean ? " clean" : "");
        break;
    case H2_EV_PROGRESS:
        log_add(end, "PROGRESS s%u %u\n", id, ev->len);
        break;
    case H2_EV_WRITABLE:
        log_add(end, "WRITABLE s%u\n", id);
        break;
    case H2_EV_SENT:
        log_add(end, "SENT s%u\n", id);
        break;
    case H2_EV_CLOSED:
        log_add(end, "CLOSED s%u\n", id);
        break;
    case H2_EV_SETTINGS:
        log_add(end, "SETTINGS\n");
        break;
    case H2_EV_GOAWAY:
        log_add(end, "GOAWAY last=%u %s\n", ev->last_id, h2_err_label(ev->err));
        break;
    case H2_EV_PING_ACK:
        end->rtt_ns = ev->rtt_ns;
        log_add(end, "PING_ACK %llx\n", (unsigned long long)ev->opaque);
        break;
    default:
        end->last_err = ev->err;
        log_add(end, "CONN_ERROR %s\n", h2_err_label(ev->err));
        break;
    }
}

void end_events(struct h2_end *end) {
    struct h2_event ev;
    while (h2_conn_next(end->conn, &ev)) {
        on_event(end, &ev);
    }
    assert_false(h2_conn_has_events(end->conn));
}

void end_feed(struct h2_end *end, const void *bytes, size_t len) {
    const uint8_t *at = bytes;
    while (len > 0) {
        size_t n = end->max_chunk == 0 ? len : MIN(len, end->max_chunk);
        if (end->seed != 0) {
            n = 1 + rnd(&end->seed) % n;
        }
        struct blk *blk = blk_new_cold(&end->pool, n);
        memcpy(blk->base, at, n);
        uint32_t used = 0;
        h2_conn_recv(end->conn, blk, 0, (uint32_t)n, end->now, &used);
        assert_int_equal(used, n);
        end_events(end);
        assert_true(end->hook != NULL || blk_is_exclusive(blk)); // a hook may keep it
        blk_unref(blk);
        at += n;
        len -= n;
    }
}

size_t end_pull(struct h2_end *end, struct wire *wire, size_t budget) {
    size_t total = 0;
    struct chain out;
    chain_init(&out, &end->pool);
    while (h2_conn_wants_write(end->conn)) {
        size_t n = h2_conn_pull(end->conn, &out, budget == 0 ? 65536 : budget);
        assert_int_equal(n, out.len);
        total += n;
        for (const struct seg *seg = out.head; seg != NULL; seg = seg->next) {
            wire_add(wire, seg_ptr(seg), seg->len);
        }
        chain_clear(&out);
        end_events(end);
        if (budget != 0) {
            break;
        }
    }
    end_events(end);
    return total;
}

const char *end_log(struct h2_end *end) {
    close_data(end);
    return end->log == NULL ? "" : end->log;
}

void end_log_reset(struct h2_end *end) {
    close_data(end);
    end->log_len = 0;
    if (end->log != NULL) {
        end->log[0] = 0;
    }
}

struct h2_stream *end_stream_of(struct h2_end *end, uint32_t id) {
    return end->streams[id / 2];
}

void make_data(struct chain *chain, struct blk_pool *pool, size_t len, size_t piece) {
    chain_init(chain, pool);
    for (size_t at = 0; at < len;) {
        size_t n = MIN(piece, len - at);
        struct blk *blk = blk_new_cold(pool, BLK_HEADROOM + n + BLK_TAILROOM);
        for (size_t i = 0; i < n; i++) {
            blk->base[BLK_HEADROOM + i] = (uint8_t)((at + i) * 31 >> 3);
        }
        chain_give_room(chain, blk, BLK_HEADROOM, (uint32_t)n, BLK_HEADROOM, BLK_TAILROOM);
        at += n;
    }
}

static bool move_bytes(struct h2_end *from, struct h2_end *to) {
    struct wire wire = {0};
    end_pull(from, &wire, 0);
    bool moved = wire.len > 0;
    end_feed(to, wire.bytes, wire.len);
    wire_free(&wire);
    return moved;
}

void pump(struct h2_end *a, struct h2_end *b) {
    for (bool moved = true; moved;) {
        moved = move_bytes(a, b);
        moved |= move_bytes(b, a);
    }
}

void pair_open(struct h2_end *client, struct h2_end *server) {
    end_open(client, false);
    end_open(server, true);
    pump(client, server);
    end_log_reset(client);
    end_log_reset(server);
}
