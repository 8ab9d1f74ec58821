// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h1_body.h"

enum {
    SIZE_DIGITS_MAX = 15, // 2^60 bytes; leading zeros count
    SIZE_LINE_MAX = 256,
    OVERHEAD_MAX = 16 << 10,
    CHUNK_EARNS = 16, // framing that any chunk may have, besides twice its payload
};

enum {
    ST_PAYLOAD, // of a length, or until the connection ends
    ST_SIZE,
    ST_EXT,
    ST_EXT_QUOTED,
    ST_EXT_QUOTED_PAIR,
    ST_SIZE_LF,
    ST_CHUNK,
    ST_CHUNK_CR,
    ST_CHUNK_LF,
    ST_TRAILERS,
    ST_END,
    ST_ERROR,
};

void h1_body_init(struct h1_body *body, enum h1_body_kind kind, uint64_t len,
                  const struct h1_head_limits *limits) {
    *body = (struct h1_body){.kind = (uint8_t)kind, .left = len};
    switch (kind) {
    case H1_BODY_NONE:
        body->state = ST_END;
        break;
    case H1_BODY_CHUNKED:
        body->state = ST_SIZE;
        body->left = 0;
        break;
    default:
        body->state = ST_PAYLOAD;
        break;
    }
    h1_head_init(&body->trailers, H1_HEAD_TRAILERS, limits);
}

void h1_body_fini(struct h1_body *body) {
    h1_head_fini(&body->trailers);
}

enum http_err h1_body_err(const struct h1_body *body) {
    return body->err;
}

const struct http_head *h1_body_trailers(const struct h1_body *body) {
    return &body->trailers.head;
}

uint64_t h1_body_left(const struct h1_body *body) {
    if (body->state == ST_END) {
        return 0;
    }
    return body->kind == H1_BODY_LENGTH ? body->left : UINT64_MAX;
}

static void fail(struct h1_body *body, enum http_err err) {
    body->state = ST_ERROR;
    body->err = err;
}

// ---- chunk-size lines (RFC 9112 7.1)

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The line is complete.
static void end_size(struct h1_body *body) {
    uint64_t earned = CHUNK_EARNS + 2 * body->left;
    uint64_t overhead = (uint64_t)body->overhead + body->line_len;
    body->overhead = (uint32_t)(overhead > earned ? overhead - earned : 0);
    if (body->overhead > OVERHEAD_MAX) { // tiny chunks with long extensions
        fail(body, HTTP_ERR_CHUNK_OVERHEAD);
        return;
    }
    body->state = body->left > 0 ? ST_CHUNK : ST_TRAILERS;
    body->n_digits = 0;
    body->line_len = 0;
}

// Behind the size: an extension or the end of the line, not even a blank.
static void size_byte(struct h1_body *body, uint8_t c) {
    int digit = hex_value(c);
    if (digit >= 0 && body->n_digits < SIZE_DIGITS_MAX) {
        body->left = body->left << 4 | (unsigned)digit;
        body->n_digits++;
    } else if (body->n_digits == 0 || digit >= 0) {
        fail(body, HTTP_ERR_BAD_CHUNK_SIZE);
    } else if (c == '\r') {
        body->state = ST_SIZE_LF;
    } else if (c == ';') {
        body->state = ST_EXT;
    } else {
        fail(body, HTTP_ERR_BAD_CHUNK_SIZE);
    }
}

// Extensions are not understood, but where they end must be beyond doubt: no control characters,
// bare CR or LF among them, and quoted strings are closed.
static void ext_byte(struct h1_body *body, uint8_t c) {
    bool is_control = (c < 0x20 && c != '\t') || c == 0x7f;
    if (c == '\r' && body->state == ST_EXT) {
        body->state = ST_SIZE_LF;
    } else if (is_control) {
        fail(body, HTTP_ERR_BAD_CHUNK_EXT);
    } else if (body->state == ST_EXT_QUOTED_PAIR) {
        body->state = ST_EXT_QUOTED;
    } else if (c == '"') {
        body->state = body->state == ST_EXT ? ST_EXT_QUOTED : ST_EXT;
    } else if (c == '\\' && body->state == ST_EXT_QUOTED) {
        body->state = ST_EXT_QUOTED_PAIR;
    }
}

static void framing_byte(struct h1_body *body, uint8_t c) {
    if (body->line_len == SIZE_LINE_MAX - 1) {
        fail(body, HTTP_ERR_BAD_CHUNK_EXT);
        return;
    }
    body->line_len++;
    switch (body->state) {
    case ST_SIZE:
        size_byte(body, c);
        break;
    case ST_SIZE_LF:
        if (c == '\n') {
            end_size(body);
        } else {
            fail(body, HTTP_ERR_BAD_CHUNK_SIZE);
        }
        break;
    case ST_CHUNK_CR:
        if (c == '\r') {
            body->state = ST_CHUNK_LF;
        } else {
            fail(body, HTTP_ERR_BAD_CHUNK_END);
        }
        break;
    case ST_CHUNK_LF:
        if (c == '\n') {
            body->state = ST_SIZE;
        } else {
            fail(body, HTTP_ERR_BAD_CHUNK_END);
        }
        break;
    default:
        ext_byte(body, c);
        break;
    }
}

static size_t take_trailers(struct h1_body *body, struct slice in) {
    size_t used;
    bool is_done;
    enum http_err err = h1_head_recv(&body->trailers, in, &used, &is_done);
    if (err != HTTP_ERR_OK) {
        fail(body, err);
    } else if (is_done) {
        body->state = ST_END;
    }
    return used;
}

// ---- pieces

static size_t take_payload(struct h1_body *body, size_t len) {
    if (body->kind == H1_BODY_UNTIL_CLOSE) {
        return len;
    }
    size_t n = (size_t)MIN((uint64_t)len, body->left);
    body->left -= n;
    if (body->left == 0) {
        body->state = body->kind == H1_BODY_LENGTH ? ST_END : ST_CHUNK_CR;
    }
    return n;
}

enum h1_step h1_body_recv(struct h1_body *body, struct slice in, size_t *ret_used,
                          size_t *ret_len) {
    size_t used = 0;
    *ret_len = 0;
    while (used < in.len && body->state != ST_END && body->state != ST_ERROR) {
        if (body->state == ST_PAYLOAD || body->state == ST_CHUNK) {
            *ret_len = take_payload(body, in.len - used);
            *ret_used = used + *ret_len;
            return H1_STEP_DATA;
        }
        if (body->state == ST_TRAILERS) {
            used += take_trailers(body, slice_skip(in, used));
        } else {
            framing_byte(body, in.ptr[used++]);
        }
    }
    *ret_used = used;
    if (body->state == ST_ERROR) {
        return H1_STEP_ERROR;
    }
    return body->state == ST_END ? H1_STEP_END : H1_STEP_MORE;
}

bool h1_body_recv_eof(struct h1_body *body) {
    if (body->kind == H1_BODY_UNTIL_CLOSE && body->state == ST_PAYLOAD) {
        body->state = ST_END;
    }
    if (body->state != ST_END && body->state != ST_ERROR) {
        fail(body, HTTP_ERR_TRUNCATED);
    }
    return body->state == ST_END;
}

// ---- writing

enum {
    SIZE_TEXT_MAX = 18, // 16 digits, CRLF
    ROOM_LEFT = 5, // the header of a TLS record
};

// "3ff7\r\n", at the end of `text`. Returns its length.
static size_t size_text(uint64_t len, uint8_t text[SIZE_TEXT_MAX]) {
    size_t n = 0;
    text[SIZE_TEXT_MAX - ++n] = '\n';
    text[SIZE_TEXT_MAX - ++n] = '\r';
    do {
        text[SIZE_TEXT_MAX - ++n] = (uint8_t) "0123456789abcdef"[len & 15];
        len >>= 4;
    } while (len > 0);
    return n;
}

static void put_size(struct chain *data, struct chain *out) {
    uint8_t text[SIZE_TEXT_MAX];
    size_t n = size_text(data->len, text);
    struct seg *first = data->head;
    if (first->headroom < n + ROOM_LEFT) {
        chain_copy(out, slice_make(text + SIZE_TEXT_MAX - n, n));
        return;
    }
    first->off -= (uint32_t)n;
    first->len += (uint32_t)n;
    first->headroom = (uint16_t)(first->headroom - n);
    data->len += n;
    memcpy(seg_ptr(first), text + SIZE_TEXT_MAX - n, n);
}

static void put_end(struct chain *out) {
    struct seg *last = out->tail;
    if (last->tailroom < BLK_TAILROOM + 2) {
        chain_copy(out, SLICE_LIT("\r\n"));
        return;
    }
    memcpy(seg_ptr(last) + last->len, "\r\n", 2);
    last->len += 2;
    last->tailroom = (uint16_t)(last->tailroom - 2);
    out->len += 2;
}

bool h1_body_write(struct h1_body_out *body, struct chain *data, struct chain *out) {
    if (body->kind == H1_BODY_NONE) {
        chain_clear(data);
        return true;
    }
    if (data->len == 0) {
        return true; // an empty chunk would be the last one
    }
    if (body->kind == H1_BODY_CHUNKED) {
        put_size(data, out);
        chain_move_all(out, data);
        put_end(out);
        return true;
    }
    if (body->kind == H1_BODY_LENGTH && data->len > body->left) {
        chain_move(out, data, (size_t)body->left);
        chain_clear(data);
        body->left = 0;
        return false;
    }
    body->left -= body->kind == H1_BODY_LENGTH ? data->len : 0;
    chain_move_all(out, data);
    return true;
}

bool h1_body_write_end(struct h1_body_out *body, const struct http_field *trailers,
                       size_t n_trailers, struct chain *out) {
    if (body->kind != H1_BODY_CHUNKED) {
        return body->kind != H1_BODY_LENGTH || body->left == 0;
    }
    chain_copy(out, SLICE_LIT("0\r\n"));
    for (size_t i = 0; i < n_trailers; i++) {
        const struct http_field *field = &trailers[i];
        if (http_rules_is_token(field->name) && http_rules_is_value(field->value) &&
            !http_rules_is_barred_trailer(field->name)) {
            chain_copy(out, field->name);
            chain_copy(out, SLICE_LIT(": "));
            chain_copy(out, field->value);
            chain_copy(out, SLICE_LIT("\r\n"));
        }
    }
    chain_copy(out, SLICE_LIT("\r\n"));
    return true;
}
