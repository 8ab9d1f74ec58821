// SPDX-License-Identifier: Apache-2.0
//
// The writing half of h1_head.h.
#include "common/proto/h1_head.h"
#include "common/proto/h1_scan.h"
#include "common/proto/http_path.h"

enum {
    LINE_MAX_EXTRA = 160, // version, status and reason, names and options that we add
    LENGTH_DIGITS = 20,
    BODY_ROOM = 512, // for a small body behind the head
};

// ---- framing

static enum http_err find_length(const struct http_head *head, struct h1_wire *wire) {
    const struct http_field *field = http_rules_find(head, SLICE_LIT("content-length"));
    if (field == NULL) {
        return HTTP_ERR_OK;
    }
    if (!http_rules_content_length(field->value, &wire->len)) {
        return HTTP_ERR_BAD_LENGTH;
    }
    wire->has_len = true;
    return HTTP_ERR_OK;
}

static enum http_err set_length(bool has_end, struct h1_wire *wire) {
    if (has_end && wire->len > 0) {
        return HTTP_ERR_LENGTH_MISMATCH;
    }
    wire->body = wire->len > 0 ? H1_BODY_LENGTH : H1_BODY_NONE;
    return HTTP_ERR_OK;
}

// RFC 9110 8.6: methods that anticipate content say so even when there is none.
static bool anticipates_content(struct slice method) {
    return slice_eq(method, SLICE_LIT("POST")) || slice_eq(method, SLICE_LIT("PUT")) ||
           slice_eq(method, SLICE_LIT("PATCH"));
}

enum http_err h1_wire_request(const struct http_head *head, bool has_end,
                              struct h1_wire *ret_wire) {
    struct h1_wire wire = {.body = H1_BODY_NONE};
    enum http_err err = HTTP_ERR_OK;
    if (head->protocol.len == 0) {
        err = find_length(head, &wire);
        if (err == HTTP_ERR_OK && wire.has_len) {
            err = set_length(has_end, &wire);
        } else if (has_end) {
            wire.has_len = anticipates_content(head->method);
        } else {
            wire.body = H1_BODY_CHUNKED;
        }
    }
    if (err == HTTP_ERR_OK) {
        *ret_wire = wire;
    }
    return err;
}

enum http_err h1_wire_response(const struct http_head *head, bool has_end, bool is_head_request,
                               uint8_t version, struct h1_wire *ret_wire) {
    struct h1_wire wire = {.body = H1_BODY_NONE};
    enum http_err err = HTTP_ERR_OK;
    if (head->status >= 200 && head->status != 204) {
        err = find_length(head, &wire);
        if (err != HTTP_ERR_OK) {
            return err;
        }
        if (http_rules_has_no_body(head->status, is_head_request)) {
            *ret_wire = wire;
            return HTTP_ERR_OK;
        }
        if (wire.has_len) {
            err = set_length(has_end, &wire);
        } else if (has_end) {
            wire.has_len = true;
        } else if (version == HTTP_10) {
            wire.body = H1_BODY_UNTIL_CLOSE;
            wire.close = true;
        } else {
            wire.body = H1_BODY_CHUNKED;
        }
    }
    if (err == HTTP_ERR_OK) {
        *ret_wire = wire;
    }
    return err;
}

// ---- text

struct writer {
    uint8_t *at;
    size_t n_lines;
};

static void put(struct writer *out, struct slice text) {
    slice_copy(out->at, text);
    out->at += text.len;
}

static void end_line(struct writer *out) {
    *out->at++ = '\r';
    *out->at++ = '\n';
    out->n_lines++;
}

static void put_field(struct writer *out, struct slice name, struct slice value) {
    put(out, name);
    *out->at++ = ':';
    *out->at++ = ' ';
    put(out, value);
    end_line(out);
}

static void put_status_line(struct writer *out, uint16_t status) {
    put(out, SLICE_LIT("HTTP/1.1 "));
    *out->at++ = (uint8_t)('0' + status / 100 % 10);
    *out->at++ = (uint8_t)('0' + status / 10 % 10);
    *out->at++ = (uint8_t)('0' + status % 10);
    *out->at++ = ' ';
    put(out, http_rules_reason(status));
    end_line(out);
}

static void put_request_line(struct writer *out, const struct http_head *head) {
    put(out, head->method);
    *out->at++ = ' ';
    put(out, head->path);
    put(out, SLICE_LIT(" HTTP/1.1"));
    end_line(out);
    put_field(out, SLICE_LIT("host"), head->authority);
}

static void put_option(struct writer *out, bool *is_first, struct slice option) {
    put(out, *is_first ? SLICE_LIT("connection: ") : SLICE_LIT(", "));
    put(out, option);
    *is_first = false;
}

static void put_connection(struct writer *out, const struct http_head *head,
                           const struct h1_wire *wire, bool has_te) {
    bool is_first = true;
    if (head->protocol.len > 0) {
        put_option(out, &is_first, SLICE_LIT("upgrade"));
    } else if (wire->close) {
        put_option(out, &is_first, SLICE_LIT("close"));
    } else if (wire->keep_alive) {
        put_option(out, &is_first, SLICE_LIT("keep-alive"));
    }
    if (has_te) { // RFC 9110 10.1.4
        put_option(out, &is_first, SLICE_LIT("te"));
    }
    if (!is_first) {
        end_line(out);
    }
    if (head->protocol.len > 0) {
        put_field(out, SLICE_LIT("upgrade"), head->protocol);
    }
}

static void put_framing(struct writer *out, const struct h1_wire *wire) {
    if (wire->body == H1_BODY_CHUNKED) {
        put_field(out, SLICE_LIT("transfer-encoding"), SLICE_LIT("chunked"));
        return;
    }
    if (!wire->has_len) {
        return;
    }
    uint8_t digits[LENGTH_DIGITS];
    size_t n = 0;
    uint64_t len = wire->len;
    do {
        digits[LENGTH_DIGITS - ++n] = (uint8_t)('0' + len % 10);
        len /= 10;
    } while (len > 0);
    put_field(out, SLICE_LIT("content-length"), slice_make(digits + LENGTH_DIGITS - n, n));
}

static size_t size_of(const struct http_head *head) {
    size_t len = LINE_MAX_EXTRA + head->method.len + head->path.len + head->authority.len +
                 head->protocol.len;
    for (size_t i = 0; i < head->n_fields; i++) {
        len += head->fields[i].name.len + head->fields[i].value.len + 4;
    }
    return len;
}

static bool is_written(struct slice name) {
    return !http_rules_is_hop_by_hop(name) && !slice_eq(name, SLICE_LIT("content-length"));
}

static bool write_all(struct writer *out, const struct http_head *head,
                      const struct h1_wire *wire) {
    const uint8_t *begin = out->at;
    bool has_te = false;
    if (head->status != 0) {
        put_status_line(out, head->status);
    } else {
        if (!http_rules_is_token(head->method) || !http_path_is_valid(head->path)) {
            return false;
        }
        put_request_line(out, head);
    }
    for (size_t i = 0; i < head->n_fields; i++) {
        const struct http_field *field = &head->fields[i];
        if (!is_written(field->name)) {
            continue;
        }
        const uint8_t *name = out->at;
        put_field(out, field->name, field->value);
        if (!h1_scan_is_usual_name(name, field->name.len) && !http_rules_is_token(field->name)) {
            return false;
        }
        has_te |= head->status == 0 && slice_eq(field->name, SLICE_LIT("te"));
    }
    put_framing(out, wire);
    put_connection(out, head, wire, has_te);
    end_line(out);
    // The last guard against a response or a request that is two: of control characters there are
    // those that end lines, and no other.
    return h1_scan_count(begin, out->at) == 2 * out->n_lines;
}

bool h1_head_write(const struct http_head *head, const struct h1_wire *wire, struct chain *out) {
    size_t cap = BLK_HEADROOM + size_of(head) + H1_SCAN_SLACK + BLK_TAILROOM + BODY_ROOM;
    struct blk *blk = blk_new_cold(out->pool, cap);
    uint8_t *begin = blk->base + BLK_HEADROOM;
    struct writer writer = {.at = begin};
    if (!write_all(&writer, head, wire)) {
        blk_unref(blk);
        return false;
    }
    size_t len = (size_t)(writer.at - begin);
    CHECK(len + BLK_HEADROOM + H1_SCAN_SLACK <= blk->cap);
    if (len > BLK_DATA_MAX) { // more than a record holds
        chain_copy(out, slice_make(begin, len));
        blk_unref(blk);
        return true;
    }
    size_t room = blk->cap - BLK_HEADROOM - len;
    chain_give_room(out, blk, BLK_HEADROOM, (uint32_t)len, BLK_HEADROOM,
                    (uint16_t)MIN(room, (size_t)UINT16_MAX));
    return true;
}
