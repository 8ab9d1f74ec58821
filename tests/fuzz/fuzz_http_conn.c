// SPDX-License-Identifier: Apache-2.0
//
// A connection of http_conn.h, whose peer says anything. The first byte: 1 = it is the client's end
// (the peer answers requests), 2 = HTTP/2 (client's end; a server finds out), the rest is the seed
// of the network, which cuts and delays as it likes. Each further piece: a byte with its length,
// and that many bytes of the peer's. Whatever comes: an owner hears of a stream in order (head,
// payload, trailers, end; or a reset, once), gets credit right, and all ends when the peer does.
#include <stdlib.h>

#include "common/net/http_conn.h"
#include "common/net/link_end.h"
#include "common/rt/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { TURNS = 6, N_REQUESTS = 3, ANSWER = 700 };

struct bed {
    struct fake_net *net;
    struct blk_pool pool;
    struct loop loop;
    struct link_end end;
    struct http_conn conn;
    struct http_conn_config config;
    uint32_t n_streams, n_opened;
    bool is_client, is_closed;
};

struct talk {
    struct http_stream stream;
    struct bed *bed;
    bool has_head, has_end, answers_late;
};

static struct talk *of_stream(struct http_stream *stream) {
    return CONTAINER_OF(stream, struct talk, stream);
}

static void talk_free(struct talk *talk) {
    http_stream_release(&talk->stream, H2_CANCEL);
    talk->bed->n_streams--;
    free(talk);
}

static void answer(struct talk *talk, size_t len) {
    static const uint8_t body[ANSWER];
    struct http_field field = {.name = SLICE_LIT("x-a"), .value = SLICE_LIT("b")};
    struct http_head head = {.status = 200, .fields = &field, .n_fields = 1};
    if (!http_stream_send_head(&talk->stream, &head, len == 0)) {
        return; // it was reset, and is gone
    }
    if (len > 0) {
        struct chain data;
        chain_init(&data, &talk->bed->pool);
        chain_copy(&data, slice_make(body, len));
        http_stream_send_data(&talk->stream, &data, true);
    }
    talk_free(talk);
}

static void ended(struct talk *talk) {
    CHECK(talk->has_head && !talk->has_end);
    talk->has_end = true;
    if (talk->bed->is_client) {
        talk_free(talk);
    } else if (talk->answers_late) {
        answer(talk, ANSWER);
    }
}

static void on_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct talk *talk = of_stream(stream);
    CHECK(!talk->has_head && !talk->has_end);
    talk->has_head = true;
    talk->answers_late = talk->bed->is_client || head->path.len % 2 == 0;
    if (!talk->answers_late) {
        answer(talk, head->path.len % 4 == 1 ? ANSWER : 0);
    } else if (end) {
        ended(talk);
    }
}

static void on_informational(struct http_stream *stream, const struct http_head *head) {
    CHECK(!of_stream(stream)->has_head && head->status < 200);
}

static void on_data(struct http_stream *stream, const struct seg *seg, bool end) {
    struct talk *talk = of_stream(stream);
    CHECK(talk->has_head && !talk->has_end);
    blk_unref(seg->blk);
    if (end) {
        ended(talk);
    } else {
        http_stream_consumed(stream, stream->n_unconsumed);
    }
}

static void on_trailers(struct http_stream *stream, const struct http_field *fields, size_t n) {
    (void)fields;
    (void)n;
    ended(of_stream(stream));
}

static void on_end(struct http_stream *stream) {
    ended(of_stream(stream));
}

static void on_writable(struct http_stream *stream) {
    (void)stream;
}

static void on_reset(struct http_stream *stream, enum http_reset reset, const char *detail) {
    (void)reset;
    (void)detail;
    CHECK(stream->conn == NULL);
    talk_free(of_stream(stream));
}

static const struct http_stream_events stream_events = {
    .on_head = on_head,
    .on_informational = on_informational,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_reset = on_reset,
};

static struct bed *of_conn(struct http_conn *conn) {
    return CONTAINER_OF(conn, struct bed, conn);
}

static struct talk *talk_new(struct bed *bed) {
    struct talk *talk = xcalloc(1, sizeof(*talk));
    talk->bed = bed;
    bed->n_streams++;
    bed->n_opened++;
    http_stream_init(&talk->stream, &stream_events, talk);
    return talk;
}

static struct http_stream *on_stream(struct http_conn *conn) {
    struct bed *bed = of_conn(conn);
    return bed->n_opened % 7 == 6 ? NULL : &talk_new(bed)->stream;
}

static void on_bad_request(struct http_conn *conn, enum http_err err) {
    CHECK(!of_conn(conn)->is_client && err != HTTP_ERR_OK);
}

static void on_closed(struct http_conn *conn) {
    of_conn(conn)->is_closed = true;
}

static const struct http_conn_handler handler = {
    .on_stream = on_stream, .on_bad_request = on_bad_request, .on_closed = on_closed};

// The client's end: another request, as long as there may be one.
static void ask(struct bed *bed) {
    if (!bed->is_client || bed->is_closed || bed->n_opened >= N_REQUESTS ||
        !http_conn_can_open(&bed->conn)) {
        return;
    }
    struct http_head head = {.method = SLICE_LIT("GET"),
                             .scheme = SLICE_LIT("http"),
                             .authority = SLICE_LIT("web"),
                             .path = SLICE_LIT("/")};
    if (bed->n_opened == 1) {
        head.method = SLICE_LIT("HEAD");
    }
    struct talk *talk = talk_new(bed);
    http_conn_open(&bed->conn, &talk->stream);
    (void)http_stream_send_head(&talk->stream, &head, true);
}

static void turns(struct bed *bed, int fd, int n) {
    static uint8_t sink[65536];
    for (int i = 0; i < n; i++) {
        ask(bed);
        loop_turn(&bed->loop, false);
        while (fake_read(bed->net, fd, sink, sizeof(sink)) > 0) {
        }
        fake_skip(bed->net, NS_PER_MS);
    }
}

static void run(struct bed *bed, int fd, const uint8_t *data, size_t len) {
    while (len > 0 && !bed->is_closed) {
        size_t n = MIN((size_t)data[0] + 1, len - 1);
        if (n > 0) {
            (void)fake_write(bed->net, fd, data + 1, n);
        }
        data += n + 1;
        len -= n + 1;
        turns(bed, fd, TURNS);
    }
    (void)fake_shutdown(bed->net, fd);
    turns(bed, fd, TURNS);
    for (int i = 0; i < 30 && !bed->is_closed; i++) { // the linger is over
        turns(bed, fd, TURNS);
        fake_skip(bed->net, 100 * NS_PER_MS);
    }
    CHECK(bed->is_closed && bed->n_streams == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 1) {
        return 0;
    }
    struct fake_options options = {.seed = data[0] / 4 + 1, .short_io = 200, .recv_buffer_min = 64};
    static struct bed bed;
    int fds[2];
    bed = (struct bed){.net = fake_net_new(&options), .is_client = data[0] % 2 == 1};
    blk_pool_init(&bed.pool, 1);
    struct io *io = fake_io_new(bed.net, &bed.pool);
    loop_init(&bed.loop, io, &bed.pool, NULL);
    CHECK(fake_pair(bed.net, fds) == 0);
    link_end_init(&bed.end, &bed.loop, fds[0]);
    http_conn_config_init(&bed.config, !bed.is_client);
    enum http_conn_version version = !bed.is_client    ? HTTP_CONN_AUTO
                                     : data[0] / 2 % 2 ? HTTP_CONN_2
                                                       : HTTP_CONN_1;
    http_conn_init(&bed.conn, &bed.loop, &bed.end.duplex, !bed.is_client, version, &bed.config,
                   &handler);
    run(&bed, fds[1], data + 1, len - 1);
    fake_close(bed.net, fds[1], false);
    turns(&bed, fds[1], 0);
    loop_turn(&bed.loop, false);
    CHECK(fake_open_fds(bed.net) == 0);
    loop_fini(&bed.loop);
    io->ops->free(io);
    CHECK(bed.pool.stats.n_cold == 0);
    blk_pool_fini(&bed.pool);
    fake_net_free(bed.net);
    return 0;
}
