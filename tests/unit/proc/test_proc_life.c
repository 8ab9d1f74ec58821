// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_life.h"

#include "common/mesh/snapshot.h"
#include "common/obs/log.h"
#include "common/proc/proc_config.h"
#include "common/rt/fake.h"
#include "tests/unit/base/unit.h"

LOG_SCOPE(log_test, "test");

static struct {
    struct fake_net *net;
    struct blk_pool pool;
    struct loop loop;
    struct proc_life life;
    bool is_ready;
    uint32_t n_asked;
    uint64_t began_ms; // the drain
    uint32_t n_drains, n_cuts, n_ticks, accept_ms, spread_ms;
    uint64_t cut_at_ms; // after the begin
    bool has_work;
} bed;

static uint64_t now_ms(void) {
    return fake_now(bed.net) / NS_PER_MS;
}

static bool has_work(void *arg) {
    return bed.has_work;
}

static void drain(void *arg, uint32_t accept_ms) {
    bed.n_drains++;
    bed.accept_ms = accept_ms;
}

static void cut(void *arg, uint32_t spread_ms) {
    bed.n_cuts++;
    bed.spread_ms = spread_ms;
    bed.cut_at_ms = now_ms() - bed.began_ms;
}

static void pressure(void *arg, bool allow_growth, bool refuse_new) {
}

static void tick(void *arg) {
    bed.n_ticks++;
}

static bool is_ready(void *arg, struct buf *ret_reasons) {
    bed.n_asked++;
    buf_printf(ret_reasons, "one\ntwo\n");
    return bed.is_ready;
}

static const struct proc_life_ops ops = {.has_work = has_work,
                                         .drain = drain,
                                         .cut = cut,
                                         .pressure = pressure,
                                         .tick = tick,
                                         .is_ready = is_ready};

static void open_bed(uint32_t termination_ms) {
    static const struct mesh_settings mesh = {.trust_domain = "cluster.local"};
    struct fake_options options = {.seed = 1};
    struct buf error;
    memset(&bed, 0, sizeof(bed));
    buf_init(&error, SIZE_MAX);
    assert_true(log_filter_set(SLICE_LIT("off"), &error));
    snapshot_init(&mesh);
    bed.net = fake_net_new(&options);
    blk_pool_init(&bed.pool, 1);
    loop_init(&bed.loop, fake_io_new(bed.net, &bed.pool), &bed.pool, NULL);
    const struct proc_config config = {.termination_ms = termination_ms};
    struct proc_life_params params = {
        .ops = &ops, .loop = &bed.loop, .signal_fd = -1, .scope = &log_test, .config = &config};
    proc_life_open(&bed.life, &params);
}

static void close_bed(void) {
    timer_clear(&bed.loop.timers, &bed.life.tick_timer);
    timer_clear(&bed.loop.timers, &bed.life.drain_timer);
    loop_fini(&bed.loop);
    bed.loop.io->ops->free(bed.loop.io);
    blk_pool_fini(&bed.pool);
    fake_net_free(bed.net);
    snapshot_fini();
}

// Runs until the loop stops, at most so long; returns how long after the begin of the drain.
static uint64_t run(uint64_t max_ms) {
    uint64_t end = now_ms() + max_ms;
    while (!bed.loop.stop && now_ms() < end) {
        loop_turn(&bed.loop, false);
        fake_skip(bed.net, NS_PER_MS);
    }
    return now_ms() - bed.began_ms;
}

static void begin(void) {
    bed.began_ms = now_ms();
    proc_life_drain(&bed.life);
    proc_life_drain(&bed.life); // the second order is the same
    assert_int_equal(bed.n_drains, 1);
}

static void test_deadlines(void **state) {
    static const struct {
        uint32_t termination_ms, accept_ms, cut_at_ms, spread_ms;
    } cases[] = {
        {10000, 2000, 8000, 1500},
        {5000, 2000, 3000, 1500},
        {3000, 1500, 1600, 1050}, // after its queues at the earliest
        {1000, 500, 600, 300},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        open_bed(cases[i].termination_ms);
        bed.has_work = true;
        begin();
        assert_int_equal(bed.accept_ms, cases[i].accept_ms);
        uint64_t took = run(20000);
        assert_int_equal(bed.n_cuts, 1);
        assert_in_range(bed.cut_at_ms, cases[i].cut_at_ms, cases[i].cut_at_ms + 60);
        assert_in_range(bed.spread_ms, cases[i].spread_ms - 60, cases[i].spread_ms);
        assert_in_range(took, cases[i].termination_ms, cases[i].termination_ms + 60);
        assert_string_equal(proc_life_state(&bed.life), "cutting");
        close_bed();
    }
}

// Without work it ends when accepting does; the queues of the listeners were looked at then.
static void test_ends_early(void **state) {
    open_bed(5000);
    begin();
    assert_in_range(run(20000), 2100, 2160);
    assert_int_equal(bed.n_cuts, 0);
    close_bed();
    open_bed(5000);
    bed.has_work = true;
    begin();
    (void)run(2500);
    assert_false(bed.loop.stop);
    bed.has_work = false;
    assert_in_range(run(20000), 2500, 2570);
    close_bed();
}

static void test_states(void **state) {
    struct buf reasons;
    buf_init(&reasons, 100);
    open_bed(5000);
    assert_false(proc_life_is_running(&bed.life, &reasons));
    assert_string_equal(buf_cstr(&reasons), "starting\n");
    buf_clear(&reasons);
    bed.life.state = PROC_RUNNING;
    assert_true(proc_life_is_running(&bed.life, &reasons));
    assert_string_equal(proc_life_state(&bed.life), "running");
    begin();
    assert_false(proc_life_is_running(&bed.life, &reasons));
    assert_string_equal(buf_cstr(&reasons), "draining\n");
    buf_fini(&reasons);
    close_bed();
}

static void test_ticks(void **state) {
    open_bed(5000);
    (void)run(500);
    assert_int_equal(bed.n_ticks, 0);
    proc_life_start_ticks(&bed.life);
    (void)run(1001);
    assert_in_range(bed.n_ticks, 5, 6);
    close_bed();
}

// The log tells of the first readiness, and once that it is late; then only who asks asks.
static void test_ready(void **state) {
    struct buf reasons;
    buf_init(&reasons, 1024);
    open_bed(5000);
    proc_life_start_ticks(&bed.life);
    (void)run(1001);
    assert_int_equal(bed.n_asked, 0); // it does not run yet
    bed.life.state = PROC_RUNNING;
    bed.life.started = bed.loop.now;
    (void)run(9000);
    assert_true(bed.n_asked >= 40);
    assert_false(bed.life.has_told_late);
    (void)run(2000);
    assert_true(bed.life.has_told_late);
    assert_false(bed.life.has_told_ready);
    assert_false(proc_life_is_ready(&bed.life, &reasons));
    bed.is_ready = true;
    assert_true(proc_life_is_ready(&bed.life, &reasons)); // a probe comes first
    assert_true(bed.life.has_told_ready);
    uint32_t n_asked = bed.n_asked;
    (void)run(1000);
    assert_int_equal(bed.n_asked, n_asked);
    bed.is_ready = false;
    assert_false(proc_life_is_ready(&bed.life, &reasons));
    buf_fini(&reasons);
    close_bed();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadlines), cmocka_unit_test(test_ends_early),
        cmocka_unit_test(test_states),    cmocka_unit_test(test_ticks),
        cmocka_unit_test(test_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
