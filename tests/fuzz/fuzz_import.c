// SPDX-License-Identifier: Apache-2.0
//
// Exported state with any damage is refused, or works: the first byte says of what (link, plain
// end, pipe, TLS link, tunnel with a stream). What was taken is thawed and runs for a while on the
// simulator's network, is exported again and that imported again, and ends. Bytes come in from the
// other side meanwhile.
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/net/hbone_stream.h"
#include "common/net/link_end.h"
#include "common/net/pipe.h"
#include "common/rt/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { TURNS = 12 };

struct bed {
    struct fake_net *net;
    struct blk_pool pool;
    struct loop loop;
    struct tls_queue queue;
    int fds[2];
    bool is_closed;
};

static void turns(struct bed *bed, int n) {
    for (int i = 0; i < n; i++) {
        loop_turn(&bed->loop, false);
        fake_skip(bed->net, NS_PER_MS);
    }
}

static void run(struct bed *bed) {
    uint8_t bytes[4096] = {0x17, 3, 3, 0, 40};
    for (int i = 0; i < 3; i++) {
        (void)fake_write(bed->net, bed->fds[1], bytes, 45);
        turns(bed, TURNS);
        (void)fake_read(bed->net, bed->fds[1], bytes, sizeof(bytes));
    }
    (void)fake_shutdown(bed->net, bed->fds[1]);
    turns(bed, TURNS);
}

// ---- links -------------------------------------------------------------------------------------

struct plain_link {
    struct link link;
    struct bed *bed;
};

static uint32_t link_data(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                          uint16_t head, uint16_t tail, uint32_t *ret_need) {
    *ret_need = 0;
    return len;
}
static void link_eof(struct link *link) {
}
static void link_error(struct link *link, int err) {
}
static void link_gone(struct link *link) {
    CONTAINER_OF(link, struct plain_link, link)->bed->is_closed = true;
}
static const struct link_handler link_handler = {
    .on_data = link_data, .on_eof = link_eof, .on_error = link_error, .on_closed = link_gone};

static bool try_link(struct bed *bed, struct cur *in) {
    struct plain_link plain = {.bed = bed};
    if (!link_import(&plain.link, &bed->loop, bed->fds[0], in, &link_handler)) {
        return false;
    }
    struct buf again;
    buf_init(&again, 1 << 20);
    bool ok = link_export(&plain.link, &again);
    int fd = link_release(&plain.link);
    struct cur second = cur_make(buf_slice(&again));
    CHECK(!ok || link_import(&plain.link, &bed->loop, fd, &second, &link_handler));
    buf_fini(&again);
    if (!ok) { // too much for the buffer
        return false;
    }
    link_thaw(&plain.link);
    run(bed);
    link_abort(&plain.link);
    turns(bed, TURNS);
    CHECK(bed->is_closed);
    return true;
}

// ---- a flow ------------------------------------------------------------------------------------

struct flow {
    struct pipe pipe;
    struct link_end end;
    struct hbone_stream stream;
    struct bed *bed;
    bool is_done;
};

static void flow_done(struct pipe *pipe) {
    CONTAINER_OF(pipe, struct flow, pipe)->is_done = true;
}

static bool try_end(struct bed *bed, struct cur *in) {
    struct flow flow = {.bed = bed};
    bool has[2];
    if (!pipe_import(&flow.pipe, &bed->pool, flow_done, in, has)) {
        return false;
    }
    struct buf again;
    buf_init(&again, 1000);
    CHECK(has[PIPE_DOWN] || has[PIPE_UP]);
    if (!link_end_import(&flow.end, &bed->loop, bed->fds[0], in)) {
        buf_fini(&again);
        return false;
    }
    pipe_attach(&flow.pipe, PIPE_DOWN, &flow.end.duplex);
    CHECK(pipe_export(&flow.pipe, &again));
    buf_fini(&again);
    link_end_thaw(&flow.end);
    run(bed);
    if (!flow.is_done) {
        pipe_cut(&flow.pipe, FLOW_DRAIN);
    }
    turns(bed, TURNS);
    CHECK(flow.is_done);
    return true;
}

// ---- tunnels -----------------------------------------------------------------------------------

struct tunnel {
    struct h2_drv drv;
    struct flow flow;
    struct bed *bed;
};

static void tunnel_ready(struct h2_drv *drv, const struct tls_peer *peer) {
}
static void tunnel_event(struct h2_drv *drv, const struct h2_event *event) {
}
static void tunnel_end(struct h2_drv *drv, enum flow_end reason) {
}
static void tunnel_closed(struct h2_drv *drv) {
    CONTAINER_OF(drv, struct tunnel, drv)->bed->is_closed = true;
}
static const struct h2_drv_handler drv_handler = {.on_ready = tunnel_ready,
                                                  .on_event = tunnel_event,
                                                  .on_end = tunnel_end,
                                                  .on_closed = tunnel_closed};

static bool try_tunnel(struct bed *bed, struct cur *in) {
    struct tunnel *tunnel = calloc(1, sizeof(*tunnel));
    tunnel->bed = bed;
    if (!h2_drv_import(&tunnel->drv, &bed->queue, bed->fds[0], in, &drv_handler)) {
        free(tunnel);
        return false;
    }
    pipe_init(&tunnel->flow.pipe, &bed->pool, flow_done);
    tunnel->flow.pipe.is_started = true;
    bool has_stream = hbone_stream_import(&tunnel->flow.stream, &tunnel->drv, in);
    if (has_stream) {
        pipe_attach(&tunnel->flow.pipe, PIPE_UP, &tunnel->flow.stream.duplex);
    }
    h2_drv_thaw(&tunnel->drv);
    run(bed);
    h2_drv_abort(&tunnel->drv, FLOW_DRAIN);
    turns(bed, TURNS);
    if (has_stream && !tunnel->flow.is_done) {
        pipe_cut(&tunnel->flow.pipe, FLOW_DRAIN);
    }
    CHECK(bed->is_closed && (!has_stream || tunnel->flow.is_done));
    free(tunnel);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 1) {
        return 0;
    }
    struct fake_options options = {.seed = 1};
    struct bed bed = {.net = fake_net_new(&options)};
    blk_pool_init(&bed.pool, 1);
    struct io *io = fake_io_new(bed.net, &bed.pool);
    loop_init(&bed.loop, io, &bed.pool, NULL);
    tls_queue_init(&bed.queue, &bed.loop);
    CHECK(fake_pair(bed.net, bed.fds) == 0);
    struct cur in = cur_make(slice_make(data + 1, len - 1));
    bool is_taken = data[0] % 3 == 0   ? try_link(&bed, &in)
                    : data[0] % 3 == 1 ? try_end(&bed, &in)
                                       : try_tunnel(&bed, &in);
    if (!is_taken) {
        fake_close(bed.net, bed.fds[0], false);
    }
    fake_close(bed.net, bed.fds[1], false);
    turns(&bed, 2);
    CHECK(fake_open_fds(bed.net) == 0);
    tls_queue_fini(&bed.queue);
    loop_fini(&bed.loop);
    io->ops->free(io);
    CHECK(bed.pool.stats.n_cold == 0);
    blk_pool_fini(&bed.pool);
    fake_net_free(bed.net);
    return 0;
}
