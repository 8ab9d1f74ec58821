// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/proto/h1_harness.h"

#include <stdio.h>

#include "tests/unit/proto/h2_harness.h"

void h1_bed_init(struct h1_bed *bed, bool is_server, enum h1_bed_mode mode,
                 const struct h1_config *config) {
    struct h1_config defaults;
    h1_config_init(&defaults);
    *bed = (struct h1_bed){.mode = mode};
    blk_pool_init(&bed->pool, 2);
    bed->conn = h1_conn_new(config != NULL ? config : &defaults, is_server, &bed->pool);
    buf_init(&bed->seen, 1 << 20);
    buf_init(&bed->sent, 1 << 20);
}

void h1_bed_fini(struct h1_bed *bed) {
    h1_conn_free(bed->conn);
    buf_fini(&bed->seen);
    buf_fini(&bed->sent);
    blk_pool_fini(&bed->pool); // CHECKs that nothing is left
}

// ---- events to text

static void put_fields(struct buf *out, const struct http_head *head) {
    if (head->n_fields == 0) {
        return;
    }
    for (size_t i = 0; i < head->n_fields; i++) {
        buf_printf(out, "%s%.*s=%.*s", i > 0 ? "|" : "{", SLICE_ARG(head->fields[i].name),
                   SLICE_ARG(head->fields[i].value));
    }
    buf_append_byte(out, '}');
}

static void put_head(struct buf *out, const struct h1_event *ev) {
    const struct http_head *head = ev->head;
    if (head->status != 0) {
        buf_printf(out, "%s%u", ev->type == H1_EV_INFORMATIONAL ? "~" : "", head->status);
    } else {
        buf_printf(out, "%.*s %.*s %.*s", SLICE_ARG(head->method), SLICE_ARG(head->authority),
                   SLICE_ARG(head->path));
    }
    put_fields(out, head);
    if (head->protocol.len > 0) {
        buf_printf(out, "^%.*s", SLICE_ARG(head->protocol));
    }
    buf_append_str(out, ev->expects_continue ? "?100" : "");
    buf_append_str(out, head->version == HTTP_10 ? "=1.0" : "");
}

static void put_event(struct h1_bed *bed, const struct h1_event *ev) {
    struct buf *out = &bed->seen;
    static const char *const marks[] = {
        [H1_EV_END] = ".",
        [H1_EV_WRITABLE] = "w",
        [H1_EV_SENT] = "$",
        [H1_EV_CLOSED] = "#",
    };
    if (bed->in_data && ev->type != H1_EV_DATA) {
        buf_append_byte(out, '>');
        bed->in_data = false;
    }
    switch (ev->type) {
    case H1_EV_HEADERS:
    case H1_EV_INFORMATIONAL:
        put_head(out, ev);
        break;
    case H1_EV_DATA:
        assert_true(ev->len > 0);
        if (!bed->in_data) {
            buf_append_byte(out, '<');
        }
        bed->in_data = true;
        buf_append(out, slice_make(ev->blk->base + ev->off, ev->len));
        break;
    case H1_EV_TRAILERS:
        put_fields(out, ev->head);
        break;
    case H1_EV_ERROR:
        buf_printf(out, "!%s", http_err_name(ev->err));
        assert_int_equal(ev->from_peer, ev->err != HTTP_ERR_LENGTH_MISMATCH);
        break;
    default:
        buf_append_str(out, marks[ev->type]);
        break;
    }
}

static void react(struct h1_bed *bed, const struct h1_event *ev) {
    bool switches =
        bed->mode == H1_BED_SWITCH && ev->type == H1_EV_HEADERS && ev->head->protocol.len > 0;
    if (switches) {
        struct http_head head = {.status = 101, .protocol = ev->head->protocol};
        enum http_err err;
        assert_true(h1_conn_send_head(bed->conn, &head, false, &err));
    } else if (bed->mode != H1_BED_PASSIVE && ev->type == H1_EV_END) {
        if (h1_conn_is_tunnel(bed->conn)) {
            h1_bed_data(bed, "", true);
        } else {
            h1_bed_head(bed, "200", true);
        }
    } else if (bed->mode != H1_BED_PASSIVE && ev->type == H1_EV_ERROR) {
        if (h1_conn_has_response(bed->conn)) {
            h1_conn_reset(bed->conn);
        } else {
            h1_conn_send_error(bed->conn, ev->err);
        }
    } else if (ev->type == H1_EV_DATA && !bed->keeps_unconsumed) {
        h1_conn_consumed(bed->conn, ev->len);
    }
}

// ---- driving

static void take_events(struct h1_bed *bed) {
    struct h1_event ev;
    bool end_is_next = false;
    while (h1_conn_next(bed->conn, &ev)) {
        assert_true(!end_is_next || ev.type == H1_EV_END);
        end_is_next = ev.end_stream;
        put_event(bed, &ev);
        react(bed, &ev);
    }
    assert_false(end_is_next);
    assert_false(h1_conn_has_events(bed->conn));
}

void h1_bed_run(struct h1_bed *bed) {
    do {
        take_events(bed);
        struct chain out;
        chain_init(&out, &bed->pool);
        while (h1_conn_wants_write(bed->conn)) {
            assert_true(h1_conn_pull(bed->conn, &out, 100) > 0);
        }
        for (const struct seg *seg = out.head; seg != NULL; seg = seg->next) {
            assert_true(seg->headroom <= seg->off);
            assert_true(seg->off + seg->len + seg->tailroom <= seg->blk->cap);
            buf_append(&bed->sent, seg_slice(seg));
        }
        chain_clear(&out);
    } while (h1_conn_has_events(bed->conn));
}

void h1_bed_feed(struct h1_bed *bed, struct slice bytes, size_t chunk) {
    while (bytes.len > 0) {
        size_t n = MIN(bytes.len, chunk);
        struct blk *blk = blk_new_cold(&bed->pool, n);
        memcpy(blk->base, bytes.ptr, n);
        h1_conn_recv(bed->conn, blk, 0, (uint32_t)n);
        blk_unref(blk);
        bytes = slice_skip(bytes, n);
        h1_bed_run(bed);
    }
    h1_bed_run(bed);
}

void h1_bed_eof(struct h1_bed *bed, bool is_clean) {
    h1_conn_recv_eof(bed->conn, is_clean);
    h1_bed_run(bed);
}

// Cuts `text` at the first `byte`; NULL: there is none.
static char *cut(char *text, char byte) {
    char *at = strchr(text, byte);
    if (at != NULL) {
        *at++ = '\0';
    }
    return at;
}

void h1_msg_parse(struct h1_msg *msg, const char *text) {
    assert_true(strlen(text) < sizeof(msg->text));
    memcpy(msg->text, text, strlen(text) + 1);
    msg->head = (struct http_head){.version = HTTP_11, .fields = msg->fields};
    msg->head.protocol = slice_str(cut(msg->text, '^'));
    char *fields = cut(msg->text, '{');
    if (fields != NULL) {
        (void)cut(fields, '}');
        msg->head.n_fields = fields_of(fields, msg->fields, ARRAY_LEN(msg->fields));
    }
    uint64_t status;
    if (slice_to_u64(slice_str(msg->text), 999, &status)) {
        msg->head.status = (uint16_t)status;
        return;
    }
    char *authority = cut(msg->text, ' ');
    char *path = cut(authority, ' ');
    msg->head.method = slice_str(msg->text);
    msg->head.authority = slice_str(authority);
    msg->head.path = slice_str(path);
}

void h1_bed_head(struct h1_bed *bed, const char *text, bool end) {
    struct h1_msg msg;
    enum http_err err;
    h1_msg_parse(&msg, text);
    if (!h1_conn_send_head(bed->conn, &msg.head, end, &err)) {
        fail_msg("'%s': %s", text, http_err_name(err));
    }
}

void h1_bed_data(struct h1_bed *bed, const char *text, bool end) {
    struct chain data;
    chain_init(&data, &bed->pool);
    chain_copy(&data, slice_str(text));
    h1_conn_send_data(bed->conn, &data, end);
    assert_true(chain_empty(&data));
}

const char *h1_bed_seen(struct h1_bed *bed) {
    static char text[1 << 16];
    if (bed->in_data) {
        buf_append_byte(&bed->seen, '>');
        bed->in_data = false;
    }
    snprintf(text, sizeof(text), "%s", bed->seen.len > 0 ? buf_cstr(&bed->seen) : "");
    buf_clear(&bed->seen);
    return text;
}

const char *h1_bed_sent(struct h1_bed *bed) {
    static char text[1 << 16];
    snprintf(text, sizeof(text), "%s", bed->sent.len > 0 ? buf_cstr(&bed->sent) : "");
    buf_clear(&bed->sent);
    return text;
}
