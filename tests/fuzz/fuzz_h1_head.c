// SPDX-License-Identifier: Apache-2.0
//
// Heads of HTTP/1 from arbitrary peers. Byte 0: what is read; then its bytes. Whole and split input
// give the same; what was read is written, and reads as the same message; paths have normal forms.
#include <stdio.h>
#include <stdlib.h>

#include "common/proto/h1_head.h"
#include "common/proto/http_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
    MODE_RESPONSE = 1,
    MODE_TRAILERS = 2,
    MODE_HEAD = 4, // the response answers HEAD
    MODE_UPGRADE = 8, // the response may be 101
    MODE_SMALL = 16, // small limits
};

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static enum h1_head_kind kind_of(uint8_t mode) {
    if ((mode & MODE_TRAILERS) != 0) {
        return H1_HEAD_TRAILERS;
    }
    return (mode & MODE_RESPONSE) != 0 ? H1_HEAD_RESPONSE : H1_HEAD_REQUEST;
}

// Every piece in memory of its own that is gone when the head is looked at.
static enum http_err read_head(struct h1_head *head, uint8_t mode,
                               const struct h1_head_limits *limits, struct slice in, size_t chunk,
                               size_t *ret_used, bool *ret_is_done) {
    enum http_err err = HTTP_ERR_OK;
    h1_head_init(head, kind_of(mode), limits);
    h1_head_answers(head, (mode & MODE_HEAD) != 0, (mode & MODE_UPGRADE) != 0);
    *ret_used = 0;
    *ret_is_done = false;
    while (*ret_used < in.len && err == HTTP_ERR_OK && !*ret_is_done) {
        struct slice piece = slice_head(slice_skip(in, *ret_used), chunk);
        uint8_t *copy = malloc(piece.len);
        size_t used;
        memcpy(copy, piece.ptr, piece.len);
        err = h1_head_recv(head, slice_make(copy, piece.len), &used, ret_is_done);
        free(copy);
        MUST(used <= piece.len);
        *ret_used += used;
    }
    return err;
}

// Without Content-Length, which is written at another place.
static size_t next_field(const struct http_head *head, size_t i) {
    while (i < head->n_fields && slice_eq(head->fields[i].name, SLICE_LIT("content-length"))) {
        i++;
    }
    return i;
}

static void same_fields(const struct http_head *a, const struct http_head *b) {
    size_t i = next_field(a, 0), j = next_field(b, 0);
    while (i < a->n_fields && j < b->n_fields) {
        MUST(slice_eq(a->fields[i].name, b->fields[j].name));
        MUST(slice_eq(a->fields[i].value, b->fields[j].value));
        i = next_field(a, i + 1);
        j = next_field(b, j + 1);
    }
    MUST(i == a->n_fields && j == b->n_fields);
}

static void same_head(const struct http_head *a, const struct http_head *b) {
    MUST(a->status == b->status);
    MUST(slice_eq(a->method, b->method) && slice_eq(a->authority, b->authority));
    MUST(slice_eq(a->path, b->path) && slice_eq(a->protocol, b->protocol));
    same_fields(a, b);
}

static void check_head(const struct h1_head *head) {
    const struct http_head *msg = &head->head;
    for (size_t i = 0; i < msg->n_fields; i++) {
        MUST(http_rules_is_name(msg->fields[i].name) && http_rules_is_value(msg->fields[i].value));
        MUST(!http_rules_is_hop_by_hop(msg->fields[i].name));
    }
    if (head->kind == H1_HEAD_REQUEST) {
        bool is_connect = slice_eq(msg->method, SLICE_LIT("CONNECT"));
        MUST(http_rules_is_token(msg->method));
        MUST(is_connect ? msg->path.len == 0 : http_path_is_valid(msg->path));
        MUST(slice_find(msg->path, '#') < 0);
        MUST(msg->version == HTTP_10 || http_rules_is_authority(msg->authority));
        MUST(head->body != H1_BODY_UNTIL_CLOSE);
    }
}

static void check_written(const struct h1_head *head, uint8_t mode) {
    static const struct h1_head_limits wide = {.max_bytes = 1 << 20, .max_fields = 1000};
    const struct http_head *msg = &head->head;
    struct h1_wire wire;
    bool has_end = head->body == H1_BODY_NONE;
    if (msg->status == 0) {
        if (msg->path.len == 0 || msg->authority.len == 0) {
            return; // CONNECT, or HTTP/1.0 without Host: neither goes on
        }
        MUST(h1_wire_request(msg, has_end, &wire) == HTTP_ERR_OK);
    } else {
        MUST(h1_wire_response(msg, has_end, head->is_head_request, HTTP_11, &wire) == HTTP_ERR_OK);
    }
    struct blk_pool pool;
    struct chain out;
    blk_pool_init(&pool, 1);
    chain_init(&out, &pool);
    MUST(h1_head_write(msg, &wire, &out));
    uint8_t *bytes = malloc(out.len);
    size_t len = chain_peek(&out, bytes, out.len), used;
    struct h1_head again;
    bool is_done;
    MUST(read_head(&again, mode, &wide, slice_make(bytes, len), SIZE_MAX, &used, &is_done) ==
         HTTP_ERR_OK);
    MUST(is_done && used == len);
    same_head(msg, &again.head);
    if (head->body != H1_BODY_UNTIL_CLOSE) {
        MUST(again.body == head->body && again.body_len == head->body_len);
    }
    h1_head_fini(&again);
    free(bytes);
    chain_clear(&out);
    blk_pool_fini(&pool);
}

static void check_path(struct slice path) {
    for (int mode = HTTP_PATH_NONE; mode <= HTTP_PATH_DECODE_AND_MERGE_SLASHES; mode++) {
        struct arena arena;
        struct slice normal, again;
        arena_init(&arena, SIZE_MAX);
        enum http_err err = http_path_normalize((enum http_path_mode)mode, path, &arena, &normal);
        MUST(err == HTTP_ERR_OK || err == HTTP_ERR_BAD_PATH);
        if (err == HTTP_ERR_OK) {
            MUST(http_path_is_valid(normal));
            struct slice bare = http_path_without_query(normal);
            for (size_t i = 1; i < bare.len; i++) {
                bool is_run = bare.ptr[i] == '/' && bare.ptr[i - 1] == '/';
                MUST(mode < HTTP_PATH_MERGE_SLASHES || !is_run);
                MUST(mode == HTTP_PATH_NONE || bare.ptr[i] != '\\');
            }
            if (mode == HTTP_PATH_BASE || mode == HTTP_PATH_MERGE_SLASHES) {
                MUST(http_path_normalize((enum http_path_mode)mode, normal, &arena, &again) ==
                     HTTP_ERR_OK);
                MUST(slice_eq(again, normal));
            }
        }
        arena_fini(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 1) {
        return 0;
    }
    uint8_t mode = data[0];
    struct slice in = slice_make(data + 1, len - 1);
    struct h1_head_limits limits = {.max_bytes = H1_HEAD_MAX_BYTES, .max_fields = 100};
    if ((mode & MODE_SMALL) != 0) {
        limits = (struct h1_head_limits){.max_bytes = 128, .max_fields = 4};
    }
    struct h1_head whole, split;
    size_t used, split_used;
    bool is_done, split_is_done;
    enum http_err err = read_head(&whole, mode, &limits, in, SIZE_MAX, &used, &is_done);
    MUST(whole.head.n_fields <= limits.max_fields && whole.cap <= limits.max_bytes);
    for (size_t chunk = 1; chunk <= 7; chunk += 3) {
        MUST(read_head(&split, mode, &limits, in, chunk, &split_used, &split_is_done) == err);
        MUST(split_is_done == is_done);
        if (is_done) {
            MUST(split_used == used && split.body == whole.body);
            MUST(split.keep_alive == whole.keep_alive && split.body_len == whole.body_len);
            same_head(&split.head, &whole.head);
        }
        h1_head_fini(&split);
    }
    if (is_done) {
        check_head(&whole);
        if (whole.kind != H1_HEAD_TRAILERS) {
            check_written(&whole, mode);
        }
        if (whole.head.path.len > 0) {
            check_path(whole.head.path);
        }
    }
    h1_head_fini(&whole);
    return 0;
}
