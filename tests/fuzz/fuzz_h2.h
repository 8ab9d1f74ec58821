// SPDX-License-Identifier: Apache-2.0
//
// Shared by fuzz_h2_server.c and fuzz_h2_client.c: drives one HTTP/2 core with hostile frames.
//
// Input: byte 0 = mode. Then raw bytes of the connection, or (MODE_FRAMES) records of type, flags,
// stream id, length and payload, which become frames; types from ACT_FIRST on are actions of the
// core's own user instead. Checked: the grammar of events of each stream, the caps, no leaks, and
// (MODE_SPLIT) that whole and split input give the same events and the same output.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/chain.h"
#include "common/base/clock.h"
#include "common/proto/h2_conn.h"
#include "common/proto/h2_frame.h"
#include "common/proto/h2_hpack.h"

enum {
    MODE_FRAMES = 1,
    MODE_SPLIT = 2, // a passive user, and the input twice
    MODE_HTTP = 4, // the profile of ordinary HTTP, else HBONE
    MODE_NO_PREFACE = 8,
    ACT_FIRST = 0xf0,
    N_IDS = 128,
    PARKED_MAX = 20000,
};

enum seen { SEEN_HEAD = 1, SEEN_END = 2, SEEN_RESET = 4, SEEN_CLOSED = 8, SEEN_TRAILERS = 16 };

struct fuzz_h2 {
    struct blk_pool pool;
    struct h2_conn *conn;
    bool is_server, is_passive;
    uint8_t mode;
    uint64_t now;
    uint32_t chunk;
    uint8_t seen[N_IDS]; // by stream id
    struct h2_stream *streams[N_IDS];
    uint64_t digests[N_IDS]; // of the events of each stream, with DATA joined; 0: the connection's
    uint64_t out_digest;
    size_t out_len;
};

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline void mix(uint64_t *digest, const void *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        *digest = (*digest ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
    }
}

static inline void fuzz_respond(struct h2_stream *stream, bool end) {
    struct http_field fields[] = {{SLICE_LIT(":status"), SLICE_LIT("200"), false},
                                  {SLICE_LIT("server"), SLICE_LIT("fuzz"), false}};
    h2_stream_send_headers(stream, fields, 2, end);
}

static inline void fuzz_send(struct fuzz_h2 *f, struct h2_stream *stream, struct blk *blk,
                             uint32_t off, uint32_t len, bool end) {
    struct chain data;
    chain_init(&data, &f->pool);
    if (len > 0) {
        chain_append(&data, blk, off, len);
    }
    h2_stream_send_data(stream, &data, end);
}

// What an active user does: answers, echoes, consumes most of it.
static inline void fuzz_react(struct fuzz_h2 *f, const struct h2_event *ev, uint32_t id) {
    switch (ev->type) {
    case H2_EV_HEADERS:
        if (f->is_server) {
            fuzz_respond(ev->stream, id % 8 == 5);
        }
        break;
    case H2_EV_DATA:
        fuzz_send(f, ev->stream, ev->blk, ev->off, ev->len, false);
        if (id % 8 != 3) {
            h2_stream_consumed(ev->stream, ev->len);
        }
        break;
    case H2_EV_END:
        fuzz_send(f, ev->stream, NULL, 0, 0, true);
        break;
    default:
        break;
    }
}

static inline void fuzz_grammar(struct fuzz_h2 *f, const struct h2_event *ev, uint32_t id) {
    uint8_t *seen = &f->seen[id];
    MUST((*seen & SEEN_CLOSED) == 0);
    switch (ev->type) {
    case H2_EV_HEADERS:
        MUST((*seen & (SEEN_HEAD | SEEN_END | SEEN_RESET)) == 0);
        *seen |= SEEN_HEAD;
        break;
    case H2_EV_INFORMATIONAL:
        MUST(!f->is_server && (*seen & (SEEN_HEAD | SEEN_RESET)) == 0);
        break;
    case H2_EV_DATA:
        MUST((*seen & SEEN_HEAD) != 0 && ev->len > 0);
        MUST((*seen & (SEEN_END | SEEN_RESET | SEEN_TRAILERS)) == 0);
        break;
    case H2_EV_TRAILERS:
        MUST((*seen & SEEN_HEAD) != 0 && ev->end_stream);
        MUST((*seen & (SEEN_END | SEEN_RESET | SEEN_TRAILERS)) == 0);
        *seen |= SEEN_TRAILERS;
        break;
    case H2_EV_END:
        MUST((*seen & SEEN_HEAD) != 0 && (*seen & (SEEN_END | SEEN_RESET)) == 0);
        *seen |= SEEN_END;
        break;
    case H2_EV_RESET:
        MUST((*seen & SEEN_RESET) == 0);
        *seen |= SEEN_RESET;
        break;
    case H2_EV_CLOSED:
        *seen |= SEEN_CLOSED;
        break;
    default:
        MUST((*seen & SEEN_RESET) == 0);
        break;
    }
}

static inline void fuzz_event(struct fuzz_h2 *f, const struct h2_event *ev) {
    uint32_t id = ev->stream != NULL ? h2_stream_id(ev->stream) : 0;
    uint64_t *digest = &f->digests[id < N_IDS ? id : 0];
    if (ev->type == H2_EV_DATA) {
        mix(digest, ev->blk->base + ev->off, ev->len);
    } else {
        uint32_t what = (uint32_t)ev->type << 16 | (uint32_t)ev->err << 8 | ev->end_stream;
        mix(digest, &what, sizeof(what));
        for (size_t i = 0; i < ev->n_fields; i++) {
            mix(digest, ev->fields[i].name.ptr, ev->fields[i].name.len);
            mix(digest, ev->fields[i].value.ptr, ev->fields[i].value.len);
        }
    }
    if (id > 0 && id < N_IDS) {
        fuzz_grammar(f, ev, id);
        f->streams[id] = ev->type == H2_EV_CLOSED ? NULL : ev->stream;
    }
    if (!f->is_passive && ev->stream != NULL) {
        fuzz_react(f, ev, id);
    }
    MUST(f->is_passive || h2_conn_parked(f->conn) <= PARKED_MAX);
}

static inline void fuzz_events(struct fuzz_h2 *f) {
    struct h2_event ev;
    while (h2_conn_next(f->conn, &ev)) {
        fuzz_event(f, &ev);
    }
    MUST(!h2_conn_has_events(f->conn));
}

static inline void fuzz_pull(struct fuzz_h2 *f, size_t budget) {
    struct chain out;
    chain_init(&out, &f->pool);
    h2_conn_pull(f->conn, &out, budget);
    for (const struct seg *seg = out.head; seg != NULL; seg = seg->next) {
        MUST(seg->headroom <= seg->off && seg->off + seg->len + seg->tailroom <= seg->blk->cap);
        mix(&f->out_digest, seg_ptr(seg), seg->len);
    }
    f->out_len += out.len;
    chain_clear(&out);
    fuzz_events(f);
}

static inline void fuzz_feed(struct fuzz_h2 *f, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        size_t n = MIN(len, (size_t)f->chunk);
        struct blk *blk = blk_new_cold(&f->pool, n);
        memcpy(blk->base, bytes, n);
        uint32_t used;
        h2_conn_recv(f->conn, blk, 0, (uint32_t)n, f->now, &used);
        MUST(used == n);
        fuzz_events(f);
        blk_unref(blk);
        bytes += n;
        len -= n;
    }
}

static inline void fuzz_open(struct fuzz_h2 *f, bool end) {
    static const char *const methods[] = {"CONNECT", "GET"};
    bool is_get = (f->mode & MODE_HTTP) != 0;
    struct http_field fields[] = {
        {SLICE_LIT(":method"), slice_str(methods[is_get]), false},
        {SLICE_LIT(":authority"), SLICE_LIT("10.0.0.1:80"), false},
        {SLICE_LIT(":scheme"), SLICE_LIT("https"), false},
        {SLICE_LIT(":path"), SLICE_LIT("/"), false},
    };
    enum h2_err err;
    struct h2_stream *stream = h2_stream_open(f->conn, fields, is_get ? 4 : 2, end, NULL, &err);
    if (stream != NULL && h2_stream_id(stream) < N_IDS) {
        f->streams[h2_stream_id(stream)] = stream;
    }
}

static inline void fuzz_act(struct fuzz_h2 *f, uint8_t act, uint8_t id, uint8_t arg) {
    static const struct http_field trailer = {
        {(const uint8_t *)"t", 1}, {(const uint8_t *)"1", 1}, 0};
    struct h2_stream *stream = f->streams[id % N_IDS];
    f->now += (uint64_t)arg * NS_PER_MS;
    if (act == 0) {
        h2_conn_tick(f->conn, f->now + (uint64_t)arg * NS_PER_SEC);
    } else if (act == 1) {
        h2_conn_goaway_start(f->conn, f->now);
    } else if (act == 2) {
        h2_conn_ping(f->conn, arg, f->now);
    } else if (act == 3) {
        h2_conn_goaway(f->conn, H2_NO_ERROR);
    } else if (act == 4 && !f->is_server) {
        fuzz_open(f, (id & 1) != 0);
    } else if (act == 5) {
        fuzz_pull(f, (size_t)arg + 1);
    } else if (stream == NULL) {
        return;
    } else if (act == 6) {
        h2_stream_reset(stream, H2_CANCEL);
    } else if (act == 7) {
        struct blk *blk = blk_new_cold(&f->pool, 2000);
        memset(blk->base, 0, 2000);
        fuzz_send(f, stream, blk, 0, (uint32_t)arg * 7, (arg & 1) != 0);
        blk_unref(blk);
    } else if (act == 8 && (!f->is_server || (f->seen[id % N_IDS] & SEEN_HEAD) != 0)) {
        h2_stream_send_trailers(stream, &trailer, 1);
    } else if (act == 9) {
        h2_stream_to_cold(stream);
    }
    if ((arg & 0x80) == 0) { // else the next call meets events that wait
        fuzz_events(f);
    }
}

static inline void fuzz_script(struct fuzz_h2 *f, const uint8_t *data, size_t len) {
    if ((f->mode & MODE_FRAMES) == 0) {
        fuzz_feed(f, data, len);
        return;
    }
    while (len >= 4) {
        uint8_t payload_len = data[0] >= ACT_FIRST ? 0 : data[3];
        size_t n = MIN((size_t)payload_len, len - 4);
        if (data[0] >= ACT_FIRST) {
            if (!f->is_passive) {
                fuzz_act(f, data[0] - ACT_FIRST, data[2], data[3]);
            }
        } else {
            uint8_t frame[H2_FRAME_HD_LEN + 256];
            h2_frame_hd_put(frame, (enum h2_frame_type)(data[0] % 12), data[1], data[2],
                            (uint32_t)n);
            memcpy(frame + H2_FRAME_HD_LEN, data + 4, n);
            fuzz_feed(f, frame, H2_FRAME_HD_LEN + n);
        }
        data += 4 + n;
        len -= 4 + n;
    }
}

static inline void fuzz_config(const struct fuzz_h2 *f, struct h2_config *config) {
    if ((f->mode & MODE_HTTP) != 0) {
        h2_config_init_http(config, f->is_server);
    } else {
        h2_config_init(config, f->is_server);
    }
    config->max_header_list = 2000;
    config->max_streams = config->max_streams_local = 10;
    if (!f->is_passive) {
        config->parked_max = PARKED_MAX;
        config->stream_window = 3000;
        config->conn_window = 100000;
        config->send_queue_max = 1000;
    }
}

static inline void fuzz_run(struct fuzz_h2 *f, const uint8_t *data, size_t len, uint32_t chunk) {
    blk_pool_init(&f->pool, 4);
    struct h2_config config;
    fuzz_config(f, &config);
    f->now = NS_PER_SEC;
    f->chunk = chunk;
    f->conn = h2_conn_new(&config, f->is_server, &f->pool, f->now);
    static const uint8_t settings[H2_FRAME_HD_LEN] = {0, 0, 0, H2_FRAME_SETTINGS};
    if (!f->is_server) {
        for (int i = 0; i < 3; i++) {
            fuzz_open(f, false);
        }
    }
    if ((f->mode & MODE_NO_PREFACE) == 0) {
        if (f->is_server) {
            fuzz_feed(f, (const uint8_t *)H2_PREFACE, H2_PREFACE_LEN);
        }
        fuzz_feed(f, settings, sizeof(settings));
    }
    fuzz_script(f, data, len);
    for (int i = 0; i < 10000 && h2_conn_wants_write(f->conn); i++) {
        fuzz_pull(f, 10000);
    }
    MUST(!h2_conn_wants_write(f->conn));
    h2_conn_free(f->conn);
    blk_pool_fini(&f->pool); // CHECKs that nothing is left
}

static inline int fuzz_h2(const uint8_t *data, size_t len, bool is_server) {
    if (len < 1) {
        return 0;
    }
    struct fuzz_h2 *f = calloc(1, sizeof(*f));
    bool is_passive = (data[0] & MODE_SPLIT) != 0;
    *f = (struct fuzz_h2){.mode = data[0], .is_server = is_server, .is_passive = is_passive};
    fuzz_run(f, data + 1, len - 1, 65536);
    if (is_passive) {
        for (uint32_t chunk = 1; chunk <= 7; chunk += 3) {
            struct fuzz_h2 *split = calloc(1, sizeof(*split));
            *split = (struct fuzz_h2){.mode = data[0], .is_server = is_server, .is_passive = true};
            fuzz_run(split, data + 1, len - 1, chunk);
            MUST(split->out_digest == f->out_digest && split->out_len == f->out_len);
            MUST(memcmp(split->digests, f->digests, sizeof(f->digests)) == 0);
            free(split);
        }
    }
    free(f);
    return 0;
}
