// SPDX-License-Identifier: Apache-2.0
//
// An exported connection with any damage is refused, or works: two bytes of length, the export,
// then input from the peer.
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/proto/h2_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void pull_all(struct h2_conn *conn, struct blk_pool *pool) {
    struct chain out;
    chain_init(&out, pool);
    for (int i = 0; i < 1000 && h2_conn_wants_write(conn); i++) {
        h2_conn_pull(conn, &out, 10000);
        chain_clear(&out);
        struct h2_event ev;
        while (h2_conn_next(conn, &ev)) {
            if (ev.type == H2_EV_DATA) {
                h2_stream_consumed(ev.stream, ev.len);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 2) {
        return 0;
    }
    size_t export_len = MIN((size_t)data[0] << 8 | data[1], len - 2);
    struct blk_pool pool;
    blk_pool_init(&pool, 0);
    struct h2_conn *conn = h2_conn_import(slice_make(data + 2, export_len), &pool);
    if (conn != NULL) {
        size_t rest = len - 2 - export_len;
        if (rest > 0) {
            struct blk *blk = blk_new_cold(&pool, rest);
            memcpy(blk->base, data + 2 + export_len, rest);
            uint32_t used;
            h2_conn_recv(conn, blk, 0, (uint32_t)rest, NS_PER_SEC, &used);
            struct h2_event ev;
            while (h2_conn_next(conn, &ev)) {
                if (ev.type == H2_EV_DATA) {
                    h2_stream_consumed(ev.stream, ev.len);
                }
            }
            blk_unref(blk);
        }
        pull_all(conn, &pool);
        struct buf buf;
        buf_init(&buf, 1 << 20);
        (void)!h2_conn_export(conn, &buf);
        buf_fini(&buf);
    }
    h2_conn_free(conn);
    blk_pool_fini(&pool);
    return 0;
}
