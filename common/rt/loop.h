// SPDX-License-Identifier: Apache-2.0
//
// The event loop of one thread. A turn: wait; dispatch completions; mailbox; due timers; flush
// hooks (links queue their sends here, once a turn); at most one chore; end-of-turn hook (RCU
// quiescent state); then submit and wait in one enter.
#pragma once

#include <stdatomic.h>

#include "common/base/blk.h"
#include "common/base/list.h"
#include "common/rt/io.h"
#include "common/rt/timer.h"

// Something that wants to run in the next flush phase; embedded in its owner.
struct loop_flush {
    struct list node;
    void (*fn)(struct loop_flush *flush);
};

// Long work that may wait (a step of a handshake); embedded in its owner.
struct loop_chore {
    struct list node;
    void (*fn)(struct loop_chore *chore);
};

// Something that keeps hot blocks while it waits; embedded in its owner.
struct loop_cooler {
    struct list node;
    void (*fn)(struct loop_cooler *cooler); // copies what still waits to cold memory
};

// A message for a loop from any thread: embedded in a heap object; ownership passes to fn.
struct mail {
    struct mail *next;
    void (*fn)(struct mail *mail, void *loop_owner);
};

enum {
    LOOP_BULK_READS = 4, // bulk blocks received in a turn, by all links
    LOOP_COOL_MS = 20, // hot blocks wait for one to two of these
};

struct loop_stats {
    uint64_t n_turns;
    uint64_t n_completions;
    uint64_t max_turn_ns; // since last read
    uint64_t n_waiting_sends; // sends that the socket did not take at once (link.c)
    uint64_t n_cold_bytes; // of them, copied to cold memory
};

struct loop {
    struct io *io;
    struct blk_pool *pool;
    struct timer_wheel timers;
    uint64_t now; // monotonic ns, updated once a turn after the wait
    struct list flushes;
    struct list again; // links that have something to read, in the order of their turns
    struct list chores; // first come, first served
    _Atomic(struct mail *) mailbox;
    void *owner; // passed to mail
    // Optional hooks for RCU: before a wait that may block, after it, and at the end of a turn.
    void (*before_wait)(struct loop *loop);
    void (*after_wait)(struct loop *loop);
    bool stop;
    struct loop_stats stats;
    // private
    struct list warm[2]; // coolers; [1]: they wait since the period before
    struct timer cool_timer;
    struct list silent; // sends that end no wait (link.c)
    struct list unwatched[2]; // links that would not notice an error; [1]: for a while (link.c)
    struct timer unwatched_timer;
    uint64_t awake_at; // start of the working part of the turn
    struct link_send *free_sends; // recycled iovec arrays (link.c)
    uint32_t n_free_sends;
    uint64_t chore_ns; // the last chore took
    uint64_t chore_due; // the first one's turn then, even if it is not without I/O; 0: not put off
    bool is_light_turn; // few links have something to flush: sending at once is the cheapest
    uint32_t n_bulk_reads; // left in this turn
    int reserve_fd; // given up for a moment when the process is out of descriptors (listener.c)
};

void loop_init(struct loop *loop, struct io *io, struct blk_pool *pool, void *owner);
void loop_fini(struct loop *loop);
void loop_run(struct loop *loop); // until loop_stop
void loop_turn(struct loop *loop, bool wait); // one turn (tests, simulator)
void loop_stop(struct loop *loop); // own thread; from others send a mail that does it
void loop_send(struct loop *loop, struct mail *mail); // ANY thread; keeps order per sender

void loop_flush_init(struct loop_flush *flush, void (*fn)(struct loop_flush *));
// Runs flush->fn in this turn's flush phase (a flush that arms another one: same phase).
void loop_flush_arm(struct loop *loop, struct loop_flush *flush);
void loop_flush_disarm(struct loop_flush *flush);

void loop_chore_init(struct loop_chore *chore, void (*fn)(struct loop_chore *));
// Runs chore->fn once, in a turn that has nothing else to do: what came before it is answered and
// sent by then. While I/O goes on it waits for as long as the chore before it took, so that chores
// get half of a busy thread at most. One a turn. Armed by its own fn: in a later turn.
void loop_chore_arm(struct loop *loop, struct loop_chore *chore);
void loop_chore_disarm(struct loop_chore *chore);

void loop_cooler_init(struct loop_cooler *cooler, void (*fn)(struct loop_cooler *));
// Runs cooler->fn once, in LOOP_COOL_MS to twice that, unless it is disarmed before.
void loop_cool_later(struct loop *loop, struct loop_cooler *cooler);
void loop_cooler_disarm(struct loop *loop, struct loop_cooler *cooler);
