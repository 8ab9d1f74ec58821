// SPDX-License-Identifier: Apache-2.0
//
// The HTTP/1 core, server and client, against arbitrary peers. Byte 0: mode. Then raw bytes of the
// connection or (MODE_ACTS) records of an action, an argument and that many bytes. Checked: the
// grammar of events, no leaks, and (without MODE_ACTS) that whole and split input give the same
// events and the same output.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/chain.h"
#include "common/proto/h1_conn.h"
#include "common/proto/http_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
    MODE_CLIENT = 1,
    MODE_ACTS = 2,
    MODE_EARLY = 4, // server: answers at the head; client: the request is long
    MODE_UPGRADE = 8, // server: says 101 when asked; client: asks
    MODE_HEAD = 16, // client: HEAD
    MODE_CUT = 32, // the end is not clean
};

enum { SEEN_HEAD = 1, SEEN_TRAILERS = 2, SEEN_END = 4, SEEN_ERROR = 8, SEEN_SENT = 16 };

struct fuzz_h1 {
    struct blk_pool pool;
    struct h1_conn *conn;
    uint8_t mode, seen;
    bool in_exchange, end_is_next;
    uint32_t n_informational;
    struct buf text; // the peer's part of the events
    struct buf out;
};

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static bool is_server(const struct fuzz_h1 *f) {
    return (f->mode & MODE_CLIENT) == 0;
}

// ---- events

static void note_head(struct fuzz_h1 *f, const struct http_head *head) {
    buf_printf(&f->text, "%u %.*s %.*s %.*s ^%.*s\n", head->status, SLICE_ARG(head->method),
               SLICE_ARG(head->authority), SLICE_ARG(head->path), SLICE_ARG(head->protocol));
    for (size_t i = 0; i < head->n_fields; i++) {
        MUST(http_rules_is_value(head->fields[i].value));
        buf_append(&f->text, head->fields[i].name);
        buf_append(&f->text, head->fields[i].value);
    }
}

static void check_grammar(struct fuzz_h1 *f, const struct h1_event *ev) {
    MUST(!f->end_is_next || ev->type == H1_EV_END);
    f->end_is_next = ev->end_stream;
    switch (ev->type) {
    case H1_EV_HEADERS:
        MUST((f->seen & ~SEEN_SENT) == 0 && (is_server(f) || f->in_exchange));
        f->seen |= SEEN_HEAD;
        f->in_exchange = true;
        break;
    case H1_EV_INFORMATIONAL:
        MUST(!is_server(f) && f->in_exchange && (f->seen & SEEN_HEAD) == 0);
        MUST(++f->n_informational <= 16);
        break;
    case H1_EV_DATA:
        MUST(ev->len > 0 && (f->seen & SEEN_HEAD) != 0);
        MUST((f->seen & (SEEN_TRAILERS | SEEN_END | SEEN_ERROR)) == 0);
        break;
    case H1_EV_TRAILERS:
        MUST((f->seen & (SEEN_HEAD | SEEN_TRAILERS | SEEN_END | SEEN_ERROR)) == SEEN_HEAD);
        MUST(ev->end_stream);
        f->seen |= SEEN_TRAILERS;
        break;
    case H1_EV_END:
        MUST((f->seen & (SEEN_HEAD | SEEN_END | SEEN_ERROR)) == SEEN_HEAD);
        f->seen |= SEEN_END;
        break;
    case H1_EV_ERROR:
        MUST((f->seen & SEEN_ERROR) == 0 && ev->err != HTTP_ERR_OK);
        MUST((f->seen & SEEN_END) == 0 || !ev->from_peer);
        f->seen |= is_server(f) || f->in_exchange ? SEEN_ERROR : 0;
        f->in_exchange |= is_server(f);
        break;
    case H1_EV_SENT:
        MUST((f->seen & SEEN_SENT) == 0 && f->in_exchange);
        f->seen |= SEEN_SENT;
        break;
    case H1_EV_CLOSED:
        MUST(f->in_exchange);
        f->in_exchange = false;
        f->seen = 0;
        f->n_informational = 0;
        break;
    default:
        MUST(f->in_exchange);
        break;
    }
}

static void send_status(struct fuzz_h1 *f, uint16_t status, struct slice protocol, bool end) {
    struct http_head head = {.status = status, .protocol = protocol};
    enum http_err err;
    bool ok = h1_conn_send_head(f->conn, &head, end, &err);
    MUST(ok || (status == 101 && err == HTTP_ERR_BAD_SWITCH));
}

static void react(struct fuzz_h1 *f, const struct h1_event *ev) {
    struct chain data;
    if (ev->type == H1_EV_DATA) {
        h1_conn_consumed(f->conn, ev->len);
    }
    if (!is_server(f)) {
        return;
    }
    switch (ev->type) {
    case H1_EV_HEADERS:
        if (ev->head->protocol.len > 0 && (f->mode & MODE_UPGRADE) != 0) {
            send_status(f, 101, ev->head->protocol, false);
        } else if ((f->mode & MODE_EARLY) != 0 || ev->head->protocol.len > 0) {
            send_status(f, 200, (struct slice){0}, true);
        }
        break;
    case H1_EV_END:
        send_status(f, 204, (struct slice){0}, true);
        chain_init(&data, &f->pool);
        h1_conn_send_data(f->conn, &data, true); // a tunnel ends too
        break;
    case H1_EV_ERROR:
        h1_conn_send_error(f->conn, ev->err);
        if (h1_conn_is_tunnel(f->conn)) {
            h1_conn_reset(f->conn);
        }
        break;
    default:
        break;
    }
}

static void take_event(struct fuzz_h1 *f, const struct h1_event *ev) {
    check_grammar(f, ev);
    switch (ev->type) {
    case H1_EV_HEADERS:
    case H1_EV_INFORMATIONAL:
    case H1_EV_TRAILERS:
        note_head(f, ev->head);
        buf_printf(&f->text, "%d %d\n", ev->type, ev->end_stream);
        break;
    case H1_EV_DATA:
        buf_append(&f->text, slice_make(ev->blk->base + ev->off, ev->len));
        break;
    case H1_EV_END:
    case H1_EV_ERROR:
        buf_printf(&f->text, "%d %d\n", ev->type, ev->err);
        break;
    default:
        break;
    }
    if ((f->mode & MODE_ACTS) == 0) {
        react(f, ev);
    }
}

static void events(struct fuzz_h1 *f) {
    struct h1_event ev;
    while (h1_conn_next(f->conn, &ev)) {
        take_event(f, &ev);
    }
    MUST(!f->end_is_next && !h1_conn_has_events(f->conn));
}

static void pull(struct fuzz_h1 *f, size_t budget) {
    struct chain out;
    chain_init(&out, &f->pool);
    size_t n = h1_conn_pull(f->conn, &out, budget);
    MUST(n == out.len && n <= budget);
    for (const struct seg *seg = out.head; seg != NULL; seg = seg->next) {
        MUST(seg->headroom <= seg->off && seg->off + seg->len + seg->tailroom <= seg->blk->cap);
        buf_append(&f->out, seg_slice(seg));
    }
    chain_clear(&out);
}

static void run(struct fuzz_h1 *f) {
    do {
        events(f);
        pull(f, SIZE_MAX);
    } while (h1_conn_has_events(f->conn));
}

static void feed(struct fuzz_h1 *f, const uint8_t *bytes, size_t len) {
    if (len == 0) {
        return;
    }
    struct blk *blk = blk_new_cold(&f->pool, len);
    memcpy(blk->base, bytes, len);
    h1_conn_recv(f->conn, blk, 0, (uint32_t)len);
    blk_unref(blk);
}

// ---- requests of a client

static void open_request(struct fuzz_h1 *f, uint8_t mode) {
    struct http_field length = {SLICE_LIT("content-length"), SLICE_LIT("100"), false};
    struct http_head head = {
        .method = SLICE_LIT("GET"),
        .authority = SLICE_LIT("h"),
        .path = SLICE_LIT("/"),
        .fields = &length,
    };
    enum http_err err;
    if (!h1_conn_can_open(f->conn)) {
        return;
    }
    if ((mode & MODE_UPGRADE) != 0) {
        head.protocol = SLICE_LIT("websocket");
    } else if ((mode & MODE_HEAD) != 0) {
        head.method = SLICE_LIT("HEAD");
    } else if ((mode & MODE_EARLY) != 0) {
        head.method = SLICE_LIT("PUT");
        head.n_fields = 1;
    }
    bool end = (mode & (MODE_EARLY | MODE_UPGRADE)) == 0;
    MUST(h1_conn_send_head(f->conn, &head, end, &err));
    f->in_exchange = true;
}

// ---- actions of the user

static void act_send(struct fuzz_h1 *f, uint8_t act, uint8_t arg) {
    static const struct http_field trailer = {
        {(const uint8_t *)"t", 1}, {(const uint8_t *)"1", 1}, 0};
    static const uint8_t zeros[256];
    struct chain data;
    chain_init(&data, &f->pool);
    if (act == 0) {
        chain_copy(&data, slice_make(zeros, arg));
        h1_conn_send_data(f->conn, &data, (arg & 1) != 0);
        MUST(chain_empty(&data));
    } else if (act == 1) {
        h1_conn_send_trailers(f->conn, &trailer, 1);
    } else if (is_server(f)) {
        send_status(f, (uint16_t)(arg < 4 ? 100 + arg : 200 + (arg & 7)), SLICE_LIT("websocket"),
                    (arg & 0x80) != 0);
    } else {
        open_request(f, arg);
    }
}

static void act(struct fuzz_h1 *f, uint8_t what, uint8_t arg) {
    switch (what % 10) {
    case 0:
    case 1:
    case 2:
        act_send(f, what % 10, arg);
        break;
    case 3:
        pull(f, arg);
        break;
    case 4:
        h1_conn_consumed(f->conn, arg);
        break;
    case 5:
        h1_conn_recv_eof(f->conn, (arg & 1) != 0);
        break;
    case 6:
        h1_conn_reset(f->conn);
        break;
    case 7:
        h1_conn_drain(f->conn);
        break;
    case 8:
        h1_conn_send_error(f->conn, (enum http_err)(1 + arg % HTTP_ERR_LENGTH_MISMATCH));
        break;
    default:
        events(f);
        break;
    }
}

static void script(struct fuzz_h1 *f, const uint8_t *data, size_t len) {
    while (len >= 2) {
        size_t n = 0;
        if (data[0] < 0x80) {
            n = MIN((size_t)data[1], len - 2);
            feed(f, data + 2, n);
        } else {
            act(f, data[0], data[1]);
        }
        if ((data[0] & 0x40) == 0) { // else the next one meets events that wait
            events(f);
        }
        data += 2 + n;
        len -= 2 + n;
    }
}

// ---- runs

static void begin(struct fuzz_h1 *f, uint8_t mode) {
    struct h1_config config;
    h1_config_init(&config);
    config.head = (struct h1_head_limits){.max_bytes = 2000, .max_fields = 20};
    config.window = 1000;
    config.send_queue_max = 300;
    config.drain_max = 50;
    *f = (struct fuzz_h1){.mode = mode};
    blk_pool_init(&f->pool, 1);
    f->conn = h1_conn_new(&config, is_server(f), &f->pool);
    buf_init(&f->text, 16 << 20);
    buf_init(&f->out, 16 << 20);
}

static void finish(struct fuzz_h1 *f) {
    buf_fini(&f->text);
    buf_fini(&f->out);
    h1_conn_free(f->conn);
    blk_pool_fini(&f->pool); // CHECKs that nothing is left
}

static void run_raw(struct fuzz_h1 *f, uint8_t mode, struct slice in, size_t chunk) {
    begin(f, mode);
    if (!is_server(f)) {
        open_request(f, mode);
        run(f);
    }
    while (in.len > 0) {
        struct slice piece = slice_head(in, chunk);
        feed(f, piece.ptr, piece.len);
        run(f);
        in = slice_skip(in, piece.len);
    }
    h1_conn_recv_eof(f->conn, (mode & MODE_CUT) == 0);
    run(f);
    bool is_cut;
    // A client's long request may still be going on; nothing else is.
    MUST(h1_conn_wants_close(f->conn, &is_cut) || !is_server(f));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 1) {
        return 0;
    }
    struct fuzz_h1 whole, split;
    struct slice in = slice_make(data + 1, len - 1);
    if ((data[0] & MODE_ACTS) != 0) {
        begin(&whole, data[0]);
        script(&whole, in.ptr, in.len);
        finish(&whole);
        return 0;
    }
    run_raw(&whole, data[0], in, SIZE_MAX);
    for (size_t chunk = 1; chunk <= 7; chunk += 3) {
        run_raw(&split, data[0], in, chunk);
        MUST(slice_eq(buf_slice(&split.text), buf_slice(&whole.text)));
        MUST(slice_eq(buf_slice(&split.out), buf_slice(&whole.out)));
        finish(&split);
    }
    finish(&whole);
    return 0;
}
