// SPDX-License-Identifier: Apache-2.0
//
// An HTTP/2 connection on a TLS link: moves bytes between h2_conn (pure) and tls_link, keeps its
// timers, and hands events to their streams' users.
//
// Output leaves in the loop's flush phase: HEADERS, DATA and window updates of one turn become one
// gathered send. Not more than H2_DRV_HIGH bytes are sealed ahead of the kernel; the rest waits in
// the streams' own queues.
//
// Lifetime: embedded in its owner; free only after on_closed.
#pragma once

#include "common/net/tls_link.h"
#include "common/proto/h2_conn.h"

enum {
    H2_DRV_HIGH = 256 * 1024, // bytes queued on the link above which nothing more is sealed
    H2_DRV_PULL = 128 * 1024, // pulled at once
};

struct h2_drv;

// What a stream's `user` pointer points at: the stream's side of the driver.
struct h2_user {
    const struct h2_user_ops *ops;
    struct h2_drv *drv;
    struct h2_stream *stream; // NULL once closed
    struct list node; // h2_drv.users
    struct list dirty; // h2_drv.dirty: sent data in this turn, or keeps some in hot blocks
};

struct h2_user_ops {
    void (*on_event)(struct h2_user *user, const struct h2_event *event);
    // The connection died under an open stream: no further event comes.
    void (*on_lost)(struct h2_user *user, enum flow_end reason);
};

struct h2_drv_handler {
    // TLS is up; the peer is verified. The HTTP/2 connection exists from here on.
    void (*on_ready)(struct h2_drv *drv, const struct tls_peer *peer);
    // Events of the connection, HEADERS of streams that have no user yet (server requests), and
    // CLOSED of every stream, after its user has heard of it (event->stream is not for use).
    void (*on_event)(struct h2_drv *drv, const struct h2_event *event);
    // The connection ended (FLOW_OK: orderly); all users have been told. on_closed follows.
    void (*on_end)(struct h2_drv *drv, enum flow_end reason);
    void (*on_closed)(struct h2_drv *drv);
};

struct h2_drv {
    const struct h2_drv_handler *handler;
    struct tls_link tl;
    struct h2_conn *h2; // NULL before on_ready
    struct h2_config config;
    struct loop *loop;
    struct timer timer;
    struct loop_flush flush;
    struct loop_cooler cooler;
    struct list users, dirty;
    struct list cap_node; // parked_cap.drvs
    enum flow_end end_reason;
    uint64_t last_active; // monotonic ns of the last stream's end (idle pools)
    bool is_server, is_ended, close_when_idle, close_after_flush, in_flush;
    bool drains_when_ready, is_frozen;
    bool has_sent, waits_a_turn; // see h2_drv_await_answer, h2_drv_await_data
};

void h2_drv_init(struct h2_drv *drv, struct tls_queue *queue, int fd, struct tls_handshake *hs,
                 bool is_server, const struct h2_config *config,
                 const struct h2_drv_handler *handler);
// Resets the stream for which most received bytes wait. False: none waits.
bool h2_drv_shed(struct h2_drv *drv);
// Output is pending (after any h2_conn_*/h2_stream_* call): it leaves in this turn's flush phase.
void h2_drv_kick(struct h2_drv *drv);
// A server's first request, whose answer the next turn may bring: SETTINGS wait for that turn, so
// that both are one send. Of no effect once something was sent.
void h2_drv_await_answer(struct h2_drv *drv);
// A client's first stream is open: the SETTINGS ACK that may be due waits for the next turn, which
// may bring the first bytes for it, so that both are one send. Data that is there does not wait.
void h2_drv_await_data(struct h2_drv *drv);
void h2_user_init(struct h2_user *user, const struct h2_user_ops *ops);
void h2_user_attach(struct h2_user *user, struct h2_drv *drv, struct h2_stream *stream);
void h2_user_detach(struct h2_user *user); // harmless when detached
// The user queued data on its stream: kick, and cool what stays behind after the flush.
void h2_user_sent(struct h2_user *user);
// GOAWAY in two steps; running streams go on; closes when the last one ended.
void h2_drv_drain(struct h2_drv *drv);
// Orderly end now: final GOAWAY, close_notify, FIN. Open streams are lost (on_lost with `reason`).
void h2_drv_close(struct h2_drv *drv, enum flow_end reason);
void h2_drv_abort(struct h2_drv *drv, enum flow_end reason); // RST

// Hand-over (link.h). A frozen driver takes no input and sends nothing. It becomes quiet after its
// handshake, except while a header block is under way or it is ending: thaw, and try again later.
struct buf;
struct cur;
void h2_drv_freeze(struct h2_drv *drv);
bool h2_drv_is_quiet(const struct h2_drv *drv);
void h2_drv_thaw(struct h2_drv *drv);
// Appends secrets: the buffer is the caller's to wipe. False: not now.
MUST_USE bool h2_drv_export(struct h2_drv *drv, struct buf *out);
// After the export, when its users have been released: frees all but the fd; no on_closed.
int h2_drv_release(struct h2_drv *drv);
// Frozen, its streams without users: hbone_stream_import for each that was exported beside, then
// h2_drv_thaw.
MUST_USE bool h2_drv_import(struct h2_drv *drv, struct tls_queue *queue, int fd, struct cur *in,
                            const struct h2_drv_handler *handler);
