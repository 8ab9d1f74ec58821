// SPDX-License-Identifier: Apache-2.0
#include "common/rt/loop.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/rt/link_priv.h"

enum { LIGHT_FLUSHES = 2 };

static void on_awake(struct io *io, void *arg) {
    struct loop *loop = arg;
    loop->now = io->ops->now(io);
    loop->awake_at = loop->now;
    if (loop->after_wait != NULL) {
        loop->after_wait(loop);
    }
}

// ---- What waits in hot blocks

static void cool(struct timer *timer, uint64_t now) {
    struct loop *loop = CONTAINER_OF(timer, struct loop, cool_timer);
    for (struct list *node; (node = list_pop_front(&loop->warm[1])) != NULL;) {
        struct loop_cooler *cooler = LIST_ITEM(node, struct loop_cooler, node);
        cooler->fn(cooler);
    }
    list_splice_back(&loop->warm[1], &loop->warm[0]);
    if (!list_empty(&loop->warm[1])) {
        timer_set(&loop->timers, timer, now + LOOP_COOL_MS * NS_PER_MS);
    }
}

void loop_cooler_init(struct loop_cooler *cooler, void (*fn)(struct loop_cooler *)) {
    cooler->fn = fn;
    list_init(&cooler->node);
}

void loop_cool_later(struct loop *loop, struct loop_cooler *cooler) {
    if (list_linked(&cooler->node)) {
        return;
    }
    list_push_back(&loop->warm[0], &cooler->node);
    if (!timer_is_armed(&loop->cool_timer)) {
        timer_set(&loop->timers, &loop->cool_timer, loop->now + LOOP_COOL_MS * NS_PER_MS);
    }
}

void loop_cooler_disarm(struct loop *loop, struct loop_cooler *cooler) {
    list_del(&cooler->node);
    if (list_empty(&loop->warm[0]) && list_empty(&loop->warm[1])) {
        timer_clear(&loop->timers, &loop->cool_timer);
    }
}

// ----

void loop_init(struct loop *loop, struct io *io, struct blk_pool *pool, void *owner) {
    *loop = (struct loop){.io = io, .pool = pool, .owner = owner, .reserve_fd = -1};
    loop->now = io->ops->now(io);
    loop->awake_at = loop->now;
    timer_wheel_init(&loop->timers, loop->now);
    list_init(&loop->flushes);
    list_init(&loop->again);
    list_init(&loop->chores);
    list_init(&loop->warm[0]);
    list_init(&loop->warm[1]);
    timer_init(&loop->cool_timer, cool);
    list_init(&loop->silent);
    list_init(&loop->unwatched[0]);
    list_init(&loop->unwatched[1]);
    timer_init(&loop->unwatched_timer, link_watch_errors);
    atomic_init(&loop->mailbox, NULL);
    io->on_awake = on_awake;
    io->on_awake_arg = loop;
}

void loop_fini(struct loop *loop) {
    link_sends_free(loop);
    if (loop->reserve_fd >= 0) {
        close(loop->reserve_fd);
        loop->reserve_fd = -1;
    }
    loop->io->on_awake = NULL;
    CHECK(list_empty(&loop->flushes) && list_empty(&loop->again));
    CHECK(atomic_load(&loop->mailbox) == NULL);
}

static void run_again(struct loop *loop) {
    // Each link once: who puts itself back waits for the next turn, so bulk cannot starve the rest.
    struct list links;
    list_init(&links);
    list_splice_back(&links, &loop->again);
    for (struct list *node; loop->n_bulk_reads > 0 && (node = list_pop_front(&links)) != NULL;) {
        link_again(node);
    }
    // Those whose turn it was not yet are the first next time.
    list_splice_back(&links, &loop->again);
    list_splice_back(&loop->again, &links);
}

static void run_mail(struct loop *loop) {
    if (atomic_load_explicit(&loop->mailbox, memory_order_relaxed) == NULL) {
        return;
    }
    struct mail *newest = atomic_exchange_explicit(&loop->mailbox, NULL, memory_order_acquire);
    struct mail *oldest = NULL;
    while (newest != NULL) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct mail *next = oldest->next;
        oldest->fn(oldest, loop->owner);
        oldest = next;
    }
}

static void run_flushes(struct loop *loop) {
    int n = 0;
    for (struct list *node = loop->flushes.next; node != &loop->flushes && n <= LIGHT_FLUSHES;
         node = node->next) {
        n++;
    }
    loop->is_light_turn = n <= LIGHT_FLUSHES;
    for (struct list *node; (node = list_pop_front(&loop->flushes)) != NULL;) {
        struct loop_flush *flush = LIST_ITEM(node, struct loop_flush, node);
        flush->fn(flush);
    }
}

// In a turn that received nothing and had nothing to flush the sends of the turn before have been
// submitted, with its wait: nobody's bytes wait for the chore.
static void run_chore(struct loop *loop, bool had_io) {
    struct io *io = loop->io;
    if (list_empty(&loop->chores)) {
        return;
    }
    if (had_io && loop->chore_due == 0) {
        loop->chore_due = loop->now + loop->chore_ns;
        return;
    }
    if (had_io && loop->now < loop->chore_due) {
        return;
    }
    struct loop_chore *chore = LIST_ITEM(list_pop_front(&loop->chores), struct loop_chore, node);
    uint64_t begin = io->ops->now(io);
    chore->fn(chore);
    loop->chore_ns = io->ops->now(io) - begin;
    loop->chore_due = 0;
    run_flushes(loop);
}

void loop_turn(struct loop *loop, bool wait) {
    struct io *io = loop->io;
    bool has_io = !list_empty(&loop->again) || !list_empty(&loop->flushes);
    bool has_work = has_io || !list_empty(&loop->chores);
    bool may_block = wait && !has_work && !loop->stop && !link_sends_matter(loop);
    uint64_t deadline = may_block ? timer_wheel_next(&loop->timers) : 0;

    uint64_t busy_ns = io->ops->now(io) - loop->awake_at;
    loop->stats.max_turn_ns = MAX(loop->stats.max_turn_ns, busy_ns);
    loop->stats.n_turns++;

    if (loop->before_wait != NULL) {
        loop->before_wait(loop);
    }
    loop->n_bulk_reads = LOOP_BULK_READS;
    int rc = io->ops->turn(io, deadline, may_block);
    CHECK(rc == 0);
    has_io = has_io || io->n_completions != loop->stats.n_completions;
    loop->stats.n_completions = io->n_completions;

    run_again(loop);
    run_mail(loop);
    timer_wheel_run(&loop->timers, loop->now);
    has_io = has_io || !list_empty(&loop->flushes);
    run_flushes(loop);
    run_chore(loop, has_io);
}

void loop_run(struct loop *loop) {
    while (!loop->stop) {
        loop_turn(loop, true);
    }
    loop->stop = false;
}

void loop_stop(struct loop *loop) {
    loop->stop = true;
}

void loop_send(struct loop *loop, struct mail *mail) {
    struct mail *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);
    do {
        mail->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->mailbox, &head, mail,
                                                    memory_order_release, memory_order_relaxed));
    if (head == NULL) {
        loop->io->ops->wake(loop->io);
    }
}

void loop_flush_init(struct loop_flush *flush, void (*fn)(struct loop_flush *)) {
    flush->fn = fn;
    list_init(&flush->node);
}

void loop_flush_arm(struct loop *loop, struct loop_flush *flush) {
    if (!list_linked(&flush->node)) {
        list_push_back(&loop->flushes, &flush->node);
    }
}

void loop_flush_disarm(struct loop_flush *flush) {
    list_del(&flush->node);
}

void loop_chore_init(struct loop_chore *chore, void (*fn)(struct loop_chore *)) {
    chore->fn = fn;
    list_init(&chore->node);
}

void loop_chore_arm(struct loop *loop, struct loop_chore *chore) {
    if (!list_linked(&chore->node)) {
        list_push_back(&loop->chores, &chore->node);
    }
}

void loop_chore_disarm(struct loop_chore *chore) {
    list_del(&chore->node);
}
