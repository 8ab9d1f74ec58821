// SPDX-License-Identifier: Apache-2.0
//
// A link that speaks TLS 1.3: handshake by tls_handshake, then our own records in place.
//
// Handshakes cost hundreds of microseconds of CPU. Their steps do not run where the bytes arrive
// but as chores of the worker's loop (tls_queue), one a turn and behind I/O, so that a storm of new
// tunnels cannot stall running flows.
#pragma once

#include "common/net/duplex.h"
#include "common/rt/link.h"
#include "common/tls/tls_handshake.h"

struct tls_link;

// A step of a handshake that waits for its turn.
struct tls_job {
    struct list node; // tls_queue.waiting
    void (*run)(struct tls_job *job);
};

// Handshakes of one worker.
struct tls_queue {
    struct loop *loop;
    struct list waiting; // tls_job.node, first come first served
    struct loop_chore chore; // the next step
    uint32_t n_active; // handshakes under way
    uint64_t n_done, n_failed;
};
void tls_queue_init(struct tls_queue *queue, struct loop *loop);
void tls_queue_fini(struct tls_queue *queue);
// Asks for a step, later in the turn or in one of the next; once, however often it is asked for.
void tls_queue_add(struct tls_queue *queue, struct tls_job *job);

struct tls_link_handler {
    // Handshake done. `peer` is borrowed for the call. False: the caller has closed the link.
    void (*on_ready)(struct tls_link *tl, const struct tls_peer *peer);
    // Plaintext blk[off, off+len), decrypted in place; borrowed, ref the block to keep it.
    void (*on_data)(struct tls_link *tl, struct blk *blk, uint32_t off, uint32_t len);
    void (*on_sent)(struct tls_link *tl); // the kernel took some of what is queued
    bool (*minds_sent)(const struct tls_link *tl); // link.h; NULL: true
    // The transport ended. FLOW_OK: close_notify arrived (then EOF). Else tl->err / tl->os_err tell
    // more. The link is being closed; on_closed follows.
    void (*on_end)(struct tls_link *tl, enum flow_end reason);
    void (*on_closed)(struct tls_link *tl);
};

struct tls_link {
    const struct tls_link_handler *handler;
    struct tls_queue *queue;
    struct link link;
    struct tls_job job;
    struct tls_handshake *hs; // NULL once established
    struct tls_record *record;
    struct chain hs_in; // input for the handshake, at most TLS_LINK_HS_MAX
    struct blk *rest; // incomplete record left over from the handshake
    uint32_t rest_len;
    struct timer timer; // handshake deadline, then bound of an orderly close
    enum tls_err err;
    int os_err;
    bool is_closing, is_ended, is_aborted;
    bool is_lingering; // our FIN is on its way: input is dropped until the peer's FIN
};

enum {
    TLS_LINK_HS_MAX = 128 * 1024,
    TLS_LINK_HS_TIMEOUT_MS = 10000,
    TLS_LINK_CLOSE_MS = 1000,
    TLS_LINK_ERROR_MAX = 320, // tls_link_error_text
};

// Takes over fd and hs, and starts the handshake.
void tls_link_init(struct tls_link *tl, struct tls_queue *queue, int fd, struct tls_handshake *hs,
                   const struct tls_link_handler *handler);
// Seals and queues all of plain. After on_ready only.
void tls_link_write(struct tls_link *tl, struct chain *plain);
size_t tls_link_queued(const struct tls_link *tl);
// close_notify, FIN after what is queued, then input is dropped until the peer's FIN, at most
// TLS_LINK_CLOSE_MS: closing over unread input would send a reset, and the peer would lose what it
// has not read yet. No callback but on_closed follows.
void tls_link_close(struct tls_link *tl);
void tls_link_abort(struct tls_link *tl); // RST

// Hand-over (link.h): record state, an incomplete record, and the link. Quiet also means: the
// handshake is over (its state is not ours to export), and it does not close.
struct buf;
struct cur;
void tls_link_freeze(struct tls_link *tl);
bool tls_link_is_quiet(const struct tls_link *tl);
void tls_link_thaw(struct tls_link *tl);
// Appends secrets: the buffer is the caller's to wipe.
MUST_USE bool tls_link_export(const struct tls_link *tl, struct buf *out);
int tls_link_release(struct tls_link *tl); // frees all but the fd; no on_closed
MUST_USE bool tls_link_import(struct tls_link *tl, struct tls_queue *queue, int fd, struct cur *in,
                              const struct tls_link_handler *handler);
// Why it failed, as text: the error of TLS with what is known about it, else the system's. Good
// within on_end.
const char *tls_link_error_text(const struct tls_link *tl, char *buf, size_t size);
