// SPDX-License-Identifier: Apache-2.0
//
// The reading half of a link: two modes, pauses, incomplete records, errors while nothing is read.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/rt/link_priv.h"

enum {
    BULK_READS = 4, // blocks a link and turn
    RING_FULL = 4096, // a receive of this size or more filled its ring block
    // Bulk mode ends when this many polls in a row brought less than BULK_LITTLE bytes each.
    BULK_LITTLE_MAX = 4,
    BULK_LITTLE = 8 * 1024,
    WATCH_AFTER_MS = 1000,
};

// link->read_state: what read_op is doing while it is pending
enum { READ_MULTISHOT, READ_POLL, READ_ERRORS };

static void read_update(struct link *link);

static void stash_drop(struct link *link) {
    blk_unref(link->stash);
    link->stash = NULL;
    link->stash_len = 0;
}

static void unwatched_del(struct link *link) {
    struct loop *loop = link->loop;
    if (list_linked(&link->unwatched)) {
        list_del(&link->unwatched);
        if (list_empty(&loop->unwatched[0]) && list_empty(&loop->unwatched[1])) {
            timer_clear(&loop->timers, &loop->unwatched_timer);
        }
    }
}

// ---- Delivery ----

static void give_eof(struct link *link) {
    link->is_eof_held = false;
    link->got_eof = true;
    link->handler->on_eof(link);
}

// In this turn when called from a completion.
static void read_next_turn(struct link *link) {
    if (!list_linked(&link->again)) {
        list_push_back(&link->loop->again, &link->again);
    }
}

static bool can_deliver(const struct link *link) {
    return link->want_read && !link_is_ending(link);
}

static uint16_t room(uint32_t n) {
    return (uint16_t)MIN(n, (uint32_t)UINT16_MAX);
}

// One call of the handler; returns the bytes it consumed.
static uint32_t feed(struct link *link, struct blk *blk, uint32_t off, uint32_t len, uint16_t head,
                     uint16_t tail) {
    uint32_t need = 0;
    uint32_t n_used = link->handler->on_data(link, blk, off, len, head, tail, &need);
    CHECK(n_used <= len);
    link->need = need;
    return n_used;
}

// Appends to the incomplete record, in cold memory of the size that the record will have.
static void stash_append(struct link *link, const uint8_t *bytes, uint32_t len) {
    struct blk *blk = link->stash;
    uint32_t end = link->stash_off + link->stash_len;
    bool fits = blk != NULL && !blk_is_hot(blk) && blk_is_exclusive(blk) &&
                blk->cap - end >= len + BLK_TAILROOM;
    if (!fits) {
        uint32_t total = MAX(link->stash_len + len, link->need);
        struct blk *grown =
            blk_new_cold(link->loop->pool, (size_t)BLK_HEADROOM + total + BLK_TAILROOM);
        if (blk != NULL) {
            memcpy(grown->base + BLK_HEADROOM, blk->base + link->stash_off, link->stash_len);
            blk_unref(blk);
        }
        link->stash = blk = grown;
        link->stash_off = BLK_HEADROOM;
        end = BLK_HEADROOM + link->stash_len;
    }
    memcpy(blk->base + end, bytes, len);
    link->stash_len += len;
}

static void stash_to_cold(struct link *link) {
    if (link->stash != NULL && blk_is_hot(link->stash)) {
        struct blk *hot = link->stash;
        uint32_t off = link->stash_off, len = link->stash_len;
        link->stash = NULL;
        link->stash_len = 0;
        stash_append(link, hot->base + off, len);
        blk_unref(hot);
    }
}

// Shows the stash to the handler.
static void feed_stash(struct link *link) {
    struct blk *blk = link->stash;
    uint32_t off = link->stash_off, len = link->stash_len;
    uint16_t head = off == BLK_HEADROOM ? BLK_HEADROOM : 0;
    uint32_t n_used = feed(link, blk, off, len, head, room(blk->cap - off - len));
    if (n_used == len) {
        stash_drop(link);
    } else {
        link->stash_off += n_used;
        link->stash_len -= n_used;
    }
}

// LINK_CONTIG: bytes that follow what is in the stash; the caller keeps its reference to blk.
static void deliver_contig(struct link *link, struct blk *blk, uint32_t off, uint32_t len) {
    uint32_t first = off;
    while (len > 0 && can_deliver(link)) {
        if (link->stash_len == 0) {
            uint16_t head = off == first ? room(off) : 0;
            uint32_t n_used =
                feed(link, blk, off, len, MIN(head, BLK_HEADROOM), room(blk->cap - off - len));
            off += n_used;
            len -= n_used;
            if (len > 0 && !link_is_ending(link)) {
                stash_append(link, blk->base + off, len);
            }
            return;
        }
        // Only what completes the record is copied; what follows it is read where it is.
        uint32_t n = len;
        if (link->need > link->stash_len) {
            n = MIN(n, link->need - link->stash_len);
        }
        stash_append(link, blk->base + off, n);
        off += n;
        len -= n;
        if (link->stash_len >= link->need) {
            feed_stash(link);
        }
    }
    if (len > 0 && !link_is_ending(link)) {
        stash_append(link, blk->base + off, len); // paused in the middle
    }
}

// Keeps bytes that came while the link is paused; the flush phase copies them to cold memory.
static void hold(struct link *link, struct blk *blk, uint32_t off, uint32_t len, uint16_t head,
                 uint16_t tail) {
    if (link->held == NULL) {
        link->held = xmalloc(sizeof(*link->held));
        chain_init(link->held, link->loop->pool);
    }
    chain_give_room(link->held, blk_ref(blk), off, len, head, tail);
    loop_flush_arm(link->loop, &link->flush);
}

// The caller keeps its reference to blk.
static void deliver(struct link *link, struct blk *blk, uint32_t off, uint32_t len, uint16_t head,
                    uint16_t tail) {
    if (link_is_ending(link)) {
        return;
    }
    if (link->mode == LINK_CONTIG) {
        deliver_contig(link, blk, off, len);
    } else if (!link->want_read || link->held != NULL) {
        hold(link, blk, off, len, head, tail);
    } else {
        uint32_t n_used = feed(link, blk, off, len, head, tail);
        CHECK(n_used == len || link_is_ending(link));
    }
}

static bool has_held_data(const struct link *link) {
    return link->held != NULL ||
           (link->was_paused && link->stash_len != 0 && link->stash_len >= link->need);
}

static bool has_held(const struct link *link) {
    return has_held_data(link) || link->is_eof_held;
}

// After a pause: what came meanwhile, in order.
static void deliver_held(struct link *link) {
    link->was_paused = false;
    if (link->stash_len != 0 && link->stash_len >= link->need) {
        feed_stash(link);
    }
    while (link->held != NULL && can_deliver(link)) {
        struct seg seg;
        if (!chain_pop(link->held, &seg)) {
            free(link->held);
            link->held = NULL;
            break;
        }
        uint32_t n_used = feed(link, seg.blk, seg.off, seg.len, seg.headroom, seg.tailroom);
        CHECK(n_used == seg.len || link_is_ending(link));
        blk_unref(seg.blk);
    }
    if (link->is_eof_held && link->held == NULL && can_deliver(link)) {
        // A socket reports its error once. If a send under way was told of a reset, this end is no
        // FIN, and its completion says so by the next turn: a cut flow must not look complete.
        if (op_is_pending(&link->send_op) &&
            link->eof_turn == (uint32_t)link->loop->stats.n_turns) {
            read_next_turn(link);
        } else {
            give_eof(link);
        }
    }
}

// The order of completions tells an EOF from what is left of a socket after its error was reported.
static void on_eof(struct link *link) {
    link->is_eof_held = true;
    link->eof_turn = (uint32_t)link->loop->stats.n_turns - 1;
    if (can_deliver(link) && !has_held_data(link)) {
        give_eof(link);
    }
}

// ---- Small mode ----

static void count_small(struct link *link, uint32_t len) {
    if (len >= RING_FULL) {
        link->run_bytes += len;
    } else {
        // The odd end of each record does not hide a bulk flow; a row of short ones ends it.
        link->run_bytes -= MIN(link->run_bytes, (uint32_t)RING_FULL);
    }
    if (link->run_bytes >= LINK_BULK_AFTER && !link->is_small_only) {
        link->is_bulk = true;
        link->n_little = 0;
    }
}

static void on_multishot(struct link *link, const struct io_result *result) {
    if (result->res > 0) {
        struct blk *blk = result->blk;
        uint32_t len = (uint32_t)result->res;
        count_small(link, len);
        deliver(link, blk, result->off, len, BLK_HEADROOM, room(blk->cap - result->off - len));
        blk_unref(blk);
    } else if (result->res == 0) {
        on_eof(link);
    } else if (result->res == -ENOBUFS) {
        // Others hold the ring's blocks. Memory of our own for this read, so that a link whose
        // progress would free them is never stuck behind them.
        link->is_bulk = true;
        link->n_little = BULK_LITTLE_MAX - 1;
    } else if (result->res != -ECANCELED && result->res != -EAGAIN && result->res != -EINTR) {
        link_fail(link, result->res);
    }
}

// ---- Bulk mode ----

static void count_bulk(struct link *link, uint32_t len) {
    if (len >= BULK_LITTLE) {
        link->n_little = 0;
    } else if (++link->n_little >= BULK_LITTLE_MAX) {
        link->is_bulk = false;
        link->run_bytes = 0;
    }
}

static ssize_t bulk_slots(struct link *link, struct blk *blk, bool *ret_full) {
    struct iovec iov[BLK_BULK_SLOTS];
    for (int i = 0; i < BLK_BULK_SLOTS; i++) {
        iov[i].iov_base = blk->base + (size_t)i * BLK_SLOT_SIZE + BLK_HEADROOM;
        iov[i].iov_len = BLK_DATA_MAX;
    }
    struct io *io = link->loop->io;
    ssize_t n = io->ops->recv_now(io, link->fd, iov, BLK_BULK_SLOTS);
    if (n <= 0) {
        return n;
    }
    *ret_full = n == BLK_BULK_SLOTS * BLK_DATA_MAX;
    uint32_t left = (uint32_t)n;
    for (uint32_t slot = 0; left > 0; slot++) {
        uint32_t len = MIN(left, (uint32_t)BLK_DATA_MAX);
        deliver(link, blk, slot * BLK_SLOT_SIZE + BLK_HEADROOM, len, BLK_HEADROOM,
                (uint16_t)(BLK_SLOT_SIZE - BLK_HEADROOM - len));
        left -= len;
    }
    return n;
}

// Reads behind the incomplete record of the last read, which is moved to the front.
static ssize_t bulk_contig(struct link *link, struct blk *blk, bool *ret_full) {
    uint32_t n_front = link->stash_len;
    if (n_front > blk->cap / 2) {
        // A record larger than any that TLS has, or much that came during a pause.
        n_front = 0;
    }
    struct iovec iov = {.iov_base = blk->base + BLK_HEADROOM + n_front,
                        .iov_len = blk->cap - BLK_HEADROOM - BLK_TAILROOM - n_front};
    struct io *io = link->loop->io;
    ssize_t n = io->ops->recv_now(io, link->fd, &iov, 1);
    if (n <= 0) {
        return n;
    }
    *ret_full = (size_t)n == iov.iov_len;
    uint32_t len = n_front + (uint32_t)n;
    if (n_front > 0) {
        memcpy(blk->base + BLK_HEADROOM, link->stash->base + link->stash_off, n_front);
        stash_drop(link);
    }
    if (link->stash_len > 0) {
        deliver_contig(link, blk, BLK_HEADROOM, len);
        return n;
    }
    uint32_t n_used =
        feed(link, blk, BLK_HEADROOM, len, BLK_HEADROOM, room(blk->cap - BLK_HEADROOM - len));
    if (n_used < len && !link_is_ending(link)) {
        // Stays where it is until the next turn if that reads on at once; else goes to cold memory.
        link->stash = blk_ref(blk);
        link->stash_off = BLK_HEADROOM + n_used;
        link->stash_len = len - n_used;
        if (!*ret_full || !link->want_read) {
            stash_to_cold(link);
        }
    }
    return n;
}

// One receive; true: the block was filled, more may be there.
static bool bulk_read_once(struct link *link) {
    struct blk *blk = blk_new_bulk(link->loop->pool);
    bool is_full = false;
    ssize_t n = link->mode == LINK_CONTIG ? bulk_contig(link, blk, &is_full)
                                          : bulk_slots(link, blk, &is_full);
    blk_unref(blk);
    if (n > 0) {
        link->n_recv += (uint64_t)n;
        count_bulk(link, (uint32_t)n);
    } else if (n == 0) {
        stash_to_cold(link);
        link->is_eof_held = true;
        link->eof_turn = (uint32_t)link->loop->stats.n_turns;
    } else if (n == -EAGAIN) {
        stash_to_cold(link);
    } else {
        link_fail(link, (int)n);
    }
    return is_full && !link_is_ending(link);
}

// Several blocks a turn save entering the kernel for each; the shares of link and turn keep a bulk
// flow from holding up the others, and what a turn receives, seals and sends inside the L2 cache.
static void bulk_read(struct link *link) {
    struct loop *loop = link->loop;
    for (int i = 0; i < BULK_READS && loop->n_bulk_reads > 0 && link->want_read; i++) {
        loop->n_bulk_reads--;
        if (!bulk_read_once(link)) {
            return;
        }
    }
    read_next_turn(link);
}

// ---- Reading ----

// A poll that is not followed by a receive, of a link that is paused or has had its FIN.
static void on_error_poll(struct link *link, uint32_t ready) {
    if ((ready & POLLERR) != 0) {
        int err = link->loop->io->ops->socket_error(link->loop->io, link->fd);
        link_fail(link, err != 0 ? err : -ECONNRESET);
    } else if ((ready & POLLHUP) != 0) {
        link->has_hup = true; // both FINs: it stays like that, so no use in polling again
    }
}

void link_read_done(struct op *op, const struct io_result *result) {
    struct link *link = CONTAINER_OF(op, struct link, read_op);
    if (!result->more) {
        link->is_cancelling = false;
    }
    if (link_is_ending(link)) {
        blk_unref(result->blk);
        loop_flush_arm(link->loop, &link->flush);
        return;
    }
    if (link->read_state == READ_MULTISHOT) {
        link->n_recv += result->res > 0 ? (uint64_t)result->res : 0;
        on_multishot(link, result);
    } else if (result->res < 0 && result->res != -ECANCELED) {
        link_fail(link, result->res);
    } else if (result->res > 0 && link->read_state == READ_POLL && link->want_read) {
        read_next_turn(link); // links take turns
    } else if (result->res > 0) {
        on_error_poll(link, (uint32_t)result->res);
    }
    read_update(link);
}

static void watch_later(struct link *link) {
    struct loop *loop = link->loop;
    if (link->has_hup || list_linked(&link->unwatched)) {
        return;
    }
    list_push_back(&loop->unwatched[0], &link->unwatched);
    if (!timer_is_armed(&loop->unwatched_timer)) {
        timer_set(&loop->timers, &loop->unwatched_timer, loop->now + WATCH_AFTER_MS * NS_PER_MS);
    }
}

void link_watch_errors(struct timer *timer, uint64_t now) {
    struct loop *loop = CONTAINER_OF(timer, struct loop, unwatched_timer);
    for (struct list *node; (node = list_pop_front(&loop->unwatched[1])) != NULL;) {
        struct link *link = CONTAINER_OF(node, struct link, unwatched);
        link->read_state = READ_ERRORS;
        // Multishot: after a FIN the kernel says POLLRDHUP at once, wanted or not, and goes on.
        loop->io->ops->poll(loop->io, &link->read_op, link->fd, POLLERR | POLLHUP, true);
    }
    list_splice_back(&loop->unwatched[1], &loop->unwatched[0]);
    if (!list_empty(&loop->unwatched[1])) {
        timer_set(&loop->timers, timer, now + WATCH_AFTER_MS * NS_PER_MS);
    }
}

void link_again(struct list *node) {
    struct link *link = CONTAINER_OF(node, struct link, again);
    if (link_is_ending(link)) {
        return;
    }
    if (!link->want_read) {
        stash_to_cold(link);
        return;
    }
    if (has_held(link)) {
        deliver_held(link);
    } else if (!op_is_pending(&link->read_op) && !link->got_eof) {
        bulk_read(link);
    }
    read_update(link);
}

// Whether the operation that is under way is the right one. A poll consumes nothing: it may stay
// armed through a pause.
static bool fits(const struct link *link, bool wants) {
    switch (link->read_state) {
    case READ_MULTISHOT:
        return wants && !link->is_bulk;
    case READ_POLL:
        return true;
    default:
        return !wants;
    }
}

// Makes what is armed agree with what is wanted.
static void read_update(struct link *link) {
    struct io *io = link->loop->io;
    bool wants = can_deliver(link) && !link->got_eof && !link->is_eof_held;
    if (op_is_pending(&link->read_op)) {
        if (!link->is_cancelling &&
            (link_is_ending(link) || link->is_frozen || !fits(link, wants))) {
            link->is_cancelling = true;
            io->ops->cancel(io, &link->read_op);
        }
        return;
    }
    if (link_is_ending(link) || link->is_frozen || list_linked(&link->again)) {
        return;
    }
    if (can_deliver(link) && has_held(link)) {
        read_next_turn(link);
    } else if (!wants) {
        watch_later(link);
    } else if (link->is_bulk) {
        unwatched_del(link);
        link->read_state = READ_POLL;
        io->ops->poll(io, &link->read_op, link->fd, POLLIN | POLLRDHUP, false);
    } else {
        unwatched_del(link);
        stash_to_cold(link);
        link->read_state = READ_MULTISHOT;
        io->ops->recv_multishot(io, &link->read_op, link->fd);
    }
}

void link_read(struct link *link, bool on) {
    if (link->is_frozen) {
        link->resumes_read = on;
        return;
    }
    if (link_is_ending(link) || link->want_read == on) {
        return;
    }
    link->want_read = on;
    unwatched_del(link);
    if (!on) {
        link->was_paused = true;
    } else if (has_held(link)) {
        read_next_turn(link); // never from inside this call
    }
    read_update(link);
}

// ---- For link.c ----

void link_read_stop(struct link *link) {
    link->want_read = false;
    list_del(&link->again);
    unwatched_del(link);
    if (op_is_pending(&link->read_op)) {
        link->loop->io->ops->cancel(link->loop->io, &link->read_op);
    }
}

void link_read_freeze(struct link *link) {
    link->resumes_read = link->want_read;
    link_read(link, false);
    link->is_frozen = true;
    list_del(&link->again);
    unwatched_del(link);
    stash_to_cold(link);
    read_update(link);
}

void link_read_thaw(struct link *link) {
    link->is_frozen = false;
    if (link->resumes_read) {
        link_read(link, true);
    } else {
        read_update(link);
    }
}

void link_read_restore(struct link *link, struct slice stash, struct slice held) {
    if (stash.len > 0) {
        stash_append(link, stash.ptr, (uint32_t)stash.len);
    }
    if (held.len > 0) {
        link->held = xmalloc(sizeof(*link->held));
        chain_init(link->held, link->loop->pool);
        chain_copy(link->held, held);
    }
}

bool link_read_cool(struct link *link) {
    return link->held != NULL && chain_cool(link->held);
}

void link_read_to_cold(struct link *link) {
    if (link->held != NULL) {
        chain_to_cold(link->held);
    }
}

void link_read_fini(struct link *link) {
    if (link->held != NULL) {
        chain_clear(link->held);
        free(link->held);
        link->held = NULL;
    }
    stash_drop(link);
}
