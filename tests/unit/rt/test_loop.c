// SPDX-License-Identifier: Apache-2.0
//
// Loops, mail and workers across threads (run under TSan), watches and signals.
#include "common/rt/loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/rt/signals.h"
#include "common/rt/watch.h"
#include "common/rt/worker.h"
#include "tests/unit/rt/bed.h"

// ---- Mail ----

enum { N_SENDERS = 3, N_MAILS = 20000 };

struct number {
    struct mail mail;
    int sender;
    int value;
};

static int last_value[N_SENDERS];
static atomic_int n_received;

static void on_number(struct mail *mail, void *owner) {
    struct number *number = CONTAINER_OF(mail, struct number, mail);
    assert_ptr_equal(owner, &n_received);
    assert_int_equal(number->value, last_value[number->sender] + 1); // in order per sender
    last_value[number->sender] = number->value;
    free(number);
    atomic_fetch_add(&n_received, 1);
}

struct sender {
    struct worker *worker;
    int id;
};

static void *send_numbers(void *arg) {
    struct sender *sender = arg;
    for (int i = 1; i <= N_MAILS; i++) {
        struct number *number = malloc(sizeof(*number));
        *number = (struct number){.mail.fn = on_number, .sender = sender->id, .value = i};
        loop_send(&sender->worker->loop, &number->mail);
        if (i % 1000 == 0) {
            usleep(100); // so that the loop goes to sleep in between
        }
    }
    return NULL;
}

static void run_mail(bool plain) {
    struct worker worker;
    char error[URING_ERROR_MAX];
    struct worker_options options = {
        .name = "test", .cpu = 0, .arg = &n_received, .uring.disable_single_issuer = plain};
    assert_int_equal(worker_start(&worker, &options, error), 0);
    atomic_store(&n_received, 0);
    pthread_t threads[N_SENDERS];
    struct sender senders[N_SENDERS];
    for (int i = 0; i < N_SENDERS; i++) {
        last_value[i] = 0;
        senders[i] = (struct sender){.worker = &worker, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_numbers, &senders[i]), 0);
    }
    for (int i = 0; i < N_SENDERS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 5000 && atomic_load(&n_received) < N_SENDERS * N_MAILS; i++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&n_received), N_SENDERS * N_MAILS); // no wake-up was lost
    worker_stop(&worker);
}

static void test_mail(void **state) {
    run_mail(false);
    run_mail(true);
}

// One message at a time into a loop that sleeps: each needs a wake-up that is not lost.
static void test_wake(void **state) {
    struct worker worker;
    char error[URING_ERROR_MAX];
    struct worker_options options = {.cpu = -1, .arg = &n_received};
    assert_int_equal(worker_start(&worker, &options, error), 0);
    atomic_store(&n_received, 0);
    last_value[0] = 0;
    for (int i = 1; i <= 2000; i++) {
        struct number *number = malloc(sizeof(*number));
        *number = (struct number){.mail.fn = on_number, .value = i};
        loop_send(&worker.loop, &number->mail);
        for (int spins = 0; atomic_load(&n_received) < i; spins++) {
            assert_true(spins < 1000000);
            if (spins > 100) {
                usleep(10);
            }
        }
    }
    worker_stop(&worker);
}

// ---- Workers ----

static int refuse(struct worker *worker) {
    return -EACCES;
}

static void test_worker_errors(void **state) {
    int n_fds = count_fds();
    struct worker worker;
    char error[URING_ERROR_MAX];
    struct worker_options options = {.cpu = 99999, .start = refuse};
    assert_int_equal(worker_start(&worker, &options, error), -EACCES);
    assert_non_null(strstr(error, "Permission denied"));
    assert_int_equal(count_fds(), n_fds);
}

static atomic_int n_hooks;

static void hook(struct loop *loop) {
    atomic_fetch_add(&n_hooks, 1);
}

static int set_hooks(struct worker *worker) {
    worker->loop.before_wait = hook;
    worker->loop.after_wait = hook;
    return 0;
}

static void test_worker_hooks(void **state) {
    struct worker worker;
    char error[URING_ERROR_MAX];
    struct worker_options options = {.cpu = -1, .start = set_hooks};
    assert_int_equal(worker_start(&worker, &options, error), 0);
    worker_stop(&worker);
    assert_true(atomic_load(&n_hooks) >= 2 && atomic_load(&n_hooks) % 2 == 0);
}

// ---- Phases ----

static int order[8], n_order;
static struct loop_flush first_flush, second_flush;
static struct bed *phase_bed;

static void on_second(struct loop_flush *flush) {
    order[n_order++] = 3;
}

static void on_first(struct loop_flush *flush) {
    order[n_order++] = 2;
    loop_flush_arm(&phase_bed->loop, &second_flush); // same phase
}

static void on_phase_timer(struct timer *timer, uint64_t now) {
    order[n_order++] = 1;
    loop_flush_arm(&phase_bed->loop, &first_flush);
    loop_flush_arm(&phase_bed->loop, &first_flush); // twice is once
}

static void test_phases(void **state) {
    const enum bed_kind kinds[] = {BED_URING, BED_EPOLL, BED_FAKE};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 0);
        phase_bed = &bed;
        n_order = 0;
        loop_flush_init(&first_flush, on_first);
        loop_flush_init(&second_flush, on_second);
        struct timer timer;
        timer_init(&timer, on_phase_timer);
        uint64_t due = bed.loop.now + 5 * NS_PER_MS;
        timer_set(&bed.loop.timers, &timer, due);
        while (n_order == 0) {
            loop_turn(&bed.loop, true);
        }
        assert_true(bed.loop.now >= due && bed.loop.now < due + 500 * NS_PER_MS);
        assert_int_equal(n_order, 3);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(order[i], i + 1);
        }
        bed_fini(&bed);
    }
}

// ---- Chores ----

static int n_chores, n_flushed;

static void on_chore(struct loop_chore *chore) {
    assert_false(list_linked(&chore->node));
    n_chores++;
}

static void on_chore_again(struct loop_chore *chore) {
    n_chores++;
    loop_chore_arm(&phase_bed->loop, chore);
}

static void on_chore_flush(struct loop_flush *flush) {
    n_flushed++;
}

// Behind I/O, one a turn, and a turn that has one does not wait.
static void test_chores(void **state) {
    const enum bed_kind kinds[] = {BED_URING, BED_EPOLL, BED_FAKE_CALM};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        struct bed bed;
        bed_init(&bed, kinds[k], NULL, 0);
        phase_bed = &bed;
        n_chores = n_flushed = 0;
        struct loop_chore first, second, gone, again;
        loop_chore_init(&first, on_chore);
        loop_chore_init(&second, on_chore);
        loop_chore_init(&gone, on_chore);
        loop_chore_init(&again, on_chore_again);
        struct loop_flush flush;
        loop_flush_init(&flush, on_chore_flush);
        loop_chore_arm(&bed.loop, &first);
        loop_chore_arm(&bed.loop, &first); // twice is once
        loop_chore_arm(&bed.loop, &gone);
        loop_chore_arm(&bed.loop, &second);
        loop_chore_disarm(&gone);
        loop_flush_arm(&bed.loop, &flush);
        loop_turn(&bed.loop, true);
        assert_int_equal(n_flushed, 1);
        assert_int_equal(n_chores, 0); // the flush has to be submitted first
        for (int i = 1; i <= 2; i++) {
            loop_turn(&bed.loop, true);
            assert_int_equal(n_chores, i);
        }
        loop_chore_arm(&bed.loop, &again);
        for (int i = 3; i <= 5; i++) {
            loop_turn(&bed.loop, true);
            assert_int_equal(n_chores, i);
        }
        loop_chore_disarm(&again);
        bed_fini(&bed);
    }
}

static void on_long_chore(struct loop_chore *chore) {
    usleep(5000);
    n_chores++;
}

// A loop that always has I/O does its chores too, for about half of the time.
static void test_chores_of_a_busy_loop(void **state) {
    struct bed bed;
    bed_init(&bed, BED_URING, NULL, 0);
    n_chores = n_flushed = 0;
    struct loop_chore chore;
    loop_chore_init(&chore, on_long_chore);
    struct loop_flush flush;
    loop_flush_init(&flush, on_chore_flush);
    uint64_t ran_at[2], end = bed.loop.now + 30 * NS_PER_SEC;
    while (n_chores < 2) {
        int before = n_chores;
        loop_chore_arm(&bed.loop, &chore);
        loop_flush_arm(&bed.loop, &flush);
        loop_turn(&bed.loop, false);
        assert_true(bed.loop.now < end);
        if (n_chores > before) {
            ran_at[before] = bed.loop.now;
        }
    }
    // Its own 5 ms, and as long for the others.
    assert_true(ran_at[1] - ran_at[0] >= 10 * NS_PER_MS);
    assert_true(n_flushed >= 4);
    loop_chore_disarm(&chore);
    bed_fini(&bed);
}

// ---- Watches and signals ----

static unsigned n_ready;
static bool is_stopped;

static void on_ready(struct watch *watch, uint32_t ready) {
    uint64_t value;
    assert_true((ready & POLLIN) != 0);
    assert_int_equal(read(watch->fd, &value, sizeof(value)), sizeof(value));
    n_ready += (unsigned)value;
}

static void on_watch_stopped(struct watch *watch) {
    is_stopped = true;
}

static void run_watch(enum bed_kind kind) {
    struct bed bed;
    bed_init(&bed, kind, NULL, 0);
    n_ready = 0;
    is_stopped = false;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct watch watch;
    watch_init(&watch, &bed.loop, fd, POLLIN, on_ready);
    for (unsigned i = 1; i <= 10; i++) {
        uint64_t one = 1;
        assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
        bed_run_ms(&bed, 2);
        assert_int_equal(n_ready, i);
    }
    watch_stop(&watch, on_watch_stopped);
    assert_false(is_stopped);
    bed_run(&bed, &is_stopped, 5);
    close(fd);
    bed_fini(&bed);
}

static void test_watch(void **state) {
    run_watch(BED_URING);
    run_watch(BED_EPOLL);
}

static int last_signal;

static void on_signal(struct signals *signals, int signo) {
    last_signal = signo;
}

static void on_signals_stopped(struct signals *signals) {
    is_stopped = true;
}

static void run_signals(enum bed_kind kind) {
    struct bed bed;
    bed_init(&bed, kind, NULL, 0);
    last_signal = 0;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, NULL, &old);
    int fd;
    assert_int_equal(signals_block(&set, &fd), 0);
    struct signals signals;
    signals_init(&signals, &bed.loop, fd, on_signal);
    kill(getpid(), SIGUSR1);
    bed_run_ms(&bed, 5);
    assert_int_equal(last_signal, SIGUSR1);
    is_stopped = false;
    signals_stop(&signals, on_signals_stopped);
    bed_run(&bed, &is_stopped, 5);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    bed_fini(&bed);
}

static void test_signals(void **state) {
    run_signals(BED_URING);
    run_signals(BED_EPOLL);
}

// ---- Coolers ----

static int n_cooled;

static void on_cool(struct loop_cooler *cooler) {
    assert_false(list_linked(&cooler->node));
    n_cooled++;
}

static void test_coolers(void **state) {
    struct bed bed;
    bed_init(&bed, BED_FAKE, NULL, 1);
    struct loop_cooler early, late, gone;
    loop_cooler_init(&early, on_cool);
    loop_cooler_init(&late, on_cool);
    loop_cooler_init(&gone, on_cool);
    n_cooled = 0;
    loop_cool_later(&bed.loop, &early);
    loop_cool_later(&bed.loop, &early); // once is enough
    loop_cool_later(&bed.loop, &gone);
    bed_run_ms(&bed, LOOP_COOL_MS - 1);
    loop_cool_later(&bed.loop, &late);
    loop_cooler_disarm(&bed.loop, &gone);
    assert_int_equal(n_cooled, 0);
    bed_run_ms(&bed, LOOP_COOL_MS + 2);
    assert_true(n_cooled >= 1 && !list_linked(&early.node));
    bed_run_ms(&bed, LOOP_COOL_MS + 2);
    assert_int_equal(n_cooled, 2);
    assert_false(timer_is_armed(&bed.loop.cool_timer));
    loop_cool_later(&bed.loop, &gone);
    loop_cooler_disarm(&bed.loop, &gone); // the last one: no timer is left behind
    loop_cooler_disarm(&bed.loop, &gone);
    assert_false(timer_is_armed(&bed.loop.cool_timer));
    bed_fini(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mail),          cmocka_unit_test(test_wake),
        cmocka_unit_test(test_worker_errors), cmocka_unit_test(test_worker_hooks),
        cmocka_unit_test(test_phases),        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_signals),       cmocka_unit_test(test_coolers),
        cmocka_unit_test(test_chores),        cmocka_unit_test(test_chores_of_a_busy_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
