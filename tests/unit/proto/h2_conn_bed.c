// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/proto/h2_conn_bed.h"

#include "common/proto/h2_priv.h"
#include "tests/unit/proto/h2_harness.h"

struct h2_stream *open_stream(struct h2_end *client, const char *text, bool end) {
    struct http_field fields[32];
    size_t n = fields_of(text, fields, 32);
    enum h2_err err;
    return h2_stream_open(client->conn, fields, n, end, NULL, &err);
}

void send_data(struct h2_end *end, struct h2_stream *stream, size_t len, bool is_end) {
    struct chain data;
    make_data(&data, &end->pool, len, 16375);
    h2_stream_send_data(stream, &data, is_end);
}

void pair_init(struct h2_end *c, struct h2_end *s) {
    end_init(c, false);
    end_init(s, true);
    pair_open(c, s);
}

void pair_fini(struct h2_end *c, struct h2_end *s) {
    end_fini(c);
    end_fini(s);
}
