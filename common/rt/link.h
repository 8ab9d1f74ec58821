// SPDX-License-Identifier: Apache-2.0
//
// A link: one connected TCP socket on a loop, with half-close, backpressure and a send queue.
//
// Reading has two modes, switched by the bytes seen:
//   small: multishot receive from the shared buffer ring (an idle link holds no memory);
//   bulk:  poll, then one receive into a hot bulk block: LINK_SLOTS fills up to BLK_BULK_SLOTS
//          separate slots, each with head- and tailroom (payload that will be sealed);
//          LINK_CONTIG fills contiguous memory (ciphertext), an unconsumed rest moved to the front.
// A switch, a pause and a close of a multishot cancel it and wait for its last completion: two
// receives on one socket would reorder bytes.
//
// Writing: link_write queues; the loop's flush phase gathers up to LINK_IOV segments into one
// sendmsg (MSG_DONTWAIT first; what the socket does not take is sent by a waiting op, and copied to
// cold memory at once or after LOOP_COOL_MS: chain_cool). One send in flight. on_sent reports bytes
// that the kernel took. Sends that nobody minds are submitted with the wait for what comes next and
// end no wait: a message costs one system call, and waking its receiver does not interrupt us. Of
// the others one or two a turn are sent by a direct system call, which is cheaper than entering the
// ring once more for the completion; more of them share the turn's enter.
//
// Errors: a link that neither reads nor has a send under way (paused, or after the peer's FIN) is
// watched for a reset or a keepalive failure after one to two seconds, so that a half-closed flow
// whose peer is gone ends.
//
// Lifetime: embedded in its owner. After link_close/link_abort, or on_error, exactly one on_closed
// follows when the last completion is in; only then the owner may free it. No other callback runs
// after link_close/link_abort.
#pragma once

#include "common/base/chain.h"
#include "common/rt/loop.h"

enum {
    LINK_IOV = 64, // segments of one send
    LINK_BULK_AFTER = 64 * 1024, // bytes in full buffers before bulk mode
};

enum link_mode { LINK_SLOTS, LINK_CONTIG };

struct link;

struct link_handler {
    // Bytes blk[off, off+len) arrived. head/tail: room in front and behind that belongs to these
    // bytes alone. The block is borrowed: ref it to keep it. Returns the bytes consumed: LINK_SLOTS
    // must consume all; LINK_CONTIG may leave an incomplete record and sets *ret_need to the bytes
    // it needs in all (0 = unknown): it is called again with these bytes first. May call link_* of
    // this link, also close.
    uint32_t (*on_data)(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                        uint16_t head, uint16_t tail, uint32_t *ret_need);
    void (*on_eof)(struct link *link); // peer's FIN; writing goes on
    void (*on_sent)(struct link *link, size_t len); // NULL ok
    // Something goes on with on_sent: it must come at once. False: it may wait for whatever happens
    // next on the loop, which saves a wake-up. Asked when bytes leave and before the loop waits;
    // NULL is true.
    bool (*minds_sent)(const struct link *link);
    void (*on_error)(struct link *link, int err); // -ECONNRESET, -ETIMEDOUT, -EPIPE ...
    void (*on_closed)(struct link *link);
};

struct link {
    const struct link_handler *handler;
    struct loop *loop;
    int fd;
    uint8_t mode; // enum link_mode
    uint8_t read_state; // link.c
    bool is_small_only; // never bulk (tests, measurements)
    bool want_read : 1, got_eof : 1, want_fin : 1, sent_fin : 1, is_closing : 1, want_reset : 1,
        is_dead : 1;
    // private
    bool is_bulk : 1, is_cancelling : 1, is_eof_held : 1, was_paused : 1, has_hup : 1,
        must_cool : 1, is_frozen : 1, resumes_read : 1;
    uint8_t n_little; // short reads in a row, bulk mode
    uint16_t n_segments; // the next sends are of LINK_SEGMENT bytes
    uint32_t run_bytes; // mode switch accounting
    uint32_t need; // LINK_CONTIG: hint of the handler
    struct blk *stash; // LINK_CONTIG: incomplete record; cold, or hot between two full reads
    uint32_t stash_off, stash_len;
    uint32_t eof_turn; // number of the turn that read an end
    uint32_t send_turn; // number of the turn that sent without an op
    struct chain *held; // LINK_SLOTS: came after the pause, not yet delivered; cold
    struct op read_op, send_op;
    struct loop_flush flush;
    struct loop_cooler cooler;
    struct list again; // in loop->again while more is readable
    struct list unwatched; // in loop->unwatched
    struct chain sendq; // not yet handed to the kernel
    struct chain inflight; // under send_op
    struct link_send *send_state; // iovec + msghdr while a send is in flight
    uint64_t n_recv, n_sent; // bytes in all
};

// Takes over fd (connected, made by this loop's io). Nothing is read before link_read(link, true).
void link_init(struct link *link, struct loop *loop, int fd, enum link_mode mode,
               const struct link_handler *handler);
// Pause and resume; idempotent. While paused neither on_data nor on_eof is called: what the kernel
// had already handed over is held in cold memory and comes first after the resume.
void link_read(struct link *link, bool on);
// Moves all of data into the queue. Not after link_fin. On a link that is ending it is dropped.
void link_write(struct link *link, struct chain *data);
// The same in segments of at most LINK_SEGMENT bytes, whatever the path's MTU is said to be; so is
// what was queued before. For the flights of a handshake: where a router drops larger packets and
// nobody hears of it, TCP finds out after seconds.
enum { LINK_SEGMENT = 1280 - 40 - 32 }; // IPv6's least MTU (RFC 8200 5), without the headers
void link_write_segments(struct link *link, struct chain *data);
// What others write in their own flush of this turn still goes into the same send.
void link_flush_last(struct link *link);
void link_fin(struct link *link); // FIN after the queue has left
size_t link_queued(const struct link *link); // bytes that the kernel has not taken
void link_close(
    struct link *link); // orderly: what is queued is dropped; FIN (or RST by the kernel if
                        // unread input is left). Call after on_sent emptied the queue.
void link_abort(struct link *link); // RST (SO_LINGER 0)

// Hand-over to a successor (link_export.c). Freeze takes back the operations under way; some turns
// later the link is quiet: nothing of it is in the kernel but the socket. What had been received is
// kept and not delivered, nothing is sent; on_sent and on_error may still come until it is quiet.
// It can be thawed, closed and aborted, exported, or released. Harmless on a link that is ending,
// which never becomes quiet.
void link_freeze(struct link *link);
bool link_is_quiet(const struct link *link);
void link_thaw(struct link *link);
// Appends its state: bytes that wait in either direction, modes, ends; not the fd, which is passed
// beside. False: it is not quiet, or has more than LINK_EXPORT_MAX bytes waiting, or out is full.
struct buf;
struct cur;
enum { LINK_EXPORT_MAX = 16 << 20 };
MUST_USE bool link_export(const struct link *link, struct buf *out);
// In place of closing a quiet link: its memory is free at once, without on_closed. Returns the fd.
int link_release(struct link *link);
// A frozen link with that state; takes over fd. False, and fd stays the caller's: malformed.
MUST_USE bool link_import(struct link *link, struct loop *loop, int fd, struct cur *in,
                          const struct link_handler *handler);
