// SPDX-License-Identifier: Apache-2.0
//
// The pipe over two ends that only write down what is asked of them.
#include "common/net/pipe.h"

#include <stdlib.h>

#include "tests/unit/base/unit.h"

struct end {
    struct duplex duplex;
    struct blk_pool *pool;
    char sent[64]; // what came to send(); '$' = fin
    size_t n_consumed;
    bool is_held, can_send, is_aborted, is_finished;
};

static struct end *of(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct end, duplex);
}

static void send(struct duplex *duplex, struct chain *data, bool fin) {
    struct end *end = of(duplex);
    size_t len = strlen(end->sent), n = chain_peek(data, end->sent + len, 32);
    end->sent[len + n] = '\0';
    chain_clear(data);
    if (fin) {
        end->sent[len + n] = '$';
        end->sent[len + n + 1] = '\0';
    }
}

static bool can_send(const struct duplex *duplex) {
    return of(duplex)->can_send;
}
static void consumed(struct duplex *duplex, size_t n) {
    of(duplex)->n_consumed += n;
}
static void hold(struct duplex *duplex, bool on) {
    of(duplex)->is_held = on;
}
static void cut(struct duplex *duplex) {
    of(duplex)->is_aborted = true;
}
static void finish(struct duplex *duplex) {
    of(duplex)->is_finished = true;
}

static const struct duplex_ops ops = {.send = send,
                                      .can_send = can_send,
                                      .consumed = consumed,
                                      .hold = hold,
                                      .abort = cut,
                                      .finish = finish};

struct bed {
    struct blk_pool pool;
    struct pipe pipe;
    struct end down, up;
    int n_done;
};

static struct bed *bed;

static void done(struct pipe *pipe) {
    CONTAINER_OF(pipe, struct bed, pipe)->n_done++;
}

static int setup(void **state) {
    bed = xcalloc(1, sizeof(*bed));
    blk_pool_init(&bed->pool, 1);
    bed->down = bed->up = (struct end){
        .duplex = {.ops = &ops}, .pool = &bed->pool, .is_held = true, .can_send = true};
    pipe_init(&bed->pipe, &bed->pool, done);
    pipe_attach(&bed->pipe, PIPE_DOWN, &bed->down.duplex);
    pipe_attach(&bed->pipe, PIPE_UP, &bed->up.duplex);
    return 0;
}

static int teardown(void **state) {
    blk_pool_fini(&bed->pool);
    free(bed);
    return 0;
}

static void data(struct end *end, const char *text) {
    struct chain chain;
    struct seg seg;
    chain_init(&chain, &bed->pool);
    chain_copy(&chain, slice_str(text));
    while (chain_pop(&chain, &seg)) {
        end->duplex.events->on_data(&end->duplex, &seg);
    }
}

static void close_both(void) {
    bed->down.duplex.events->on_closed(&bed->down.duplex);
    assert_int_equal(bed->n_done, 0);
    bed->up.duplex.events->on_closed(&bed->up.duplex);
    assert_int_equal(bed->n_done, 1);
}

// What was read before goes first, counts, and gets its credit back as all the rest.
static void test_push(void **state) {
    struct chain early;
    bed->down.duplex.needs_credit = true;
    chain_init(&early, &bed->pool);
    chain_copy(&early, SLICE_LIT("early "));
    pipe_push(&bed->pipe, PIPE_DOWN, &early, false);
    assert_true(bed->up.duplex.reports_sent && !bed->down.duplex.reports_sent);
    assert_true(bed->down.is_held);
    pipe_start(&bed->pipe);
    assert_false(bed->down.is_held || bed->up.is_held);
    data(&bed->down, "late");
    assert_string_equal(bed->up.sent, "early late");
    assert_int_equal(bed->pipe.n_bytes[PIPE_DOWN], 10);
    bed->up.duplex.events->on_sent(&bed->up.duplex, 10);
    assert_int_equal(bed->down.n_consumed, 10);
    bed->down.duplex.events->on_fin(&bed->down.duplex);
    bed->up.duplex.events->on_fin(&bed->up.duplex);
    assert_true(bed->down.is_finished && bed->up.is_finished);
    assert_string_equal(bed->up.sent, "early late$");
    assert_string_equal(bed->down.sent, "$");
    assert_int_equal(bed->pipe.end, FLOW_OK);
    close_both();
}

static void test_push_with_the_end(void **state) {
    struct chain early;
    chain_init(&early, &bed->pool);
    chain_copy(&early, SLICE_LIT("all"));
    pipe_push(&bed->pipe, PIPE_DOWN, &early, true);
    pipe_start(&bed->pipe);
    data(&bed->up, "answer");
    bed->up.duplex.events->on_fin(&bed->up.duplex);
    assert_string_equal(bed->up.sent, "all$");
    assert_string_equal(bed->down.sent, "answer$");
    assert_true(bed->down.is_finished && bed->up.is_finished);
    close_both();
}

// A side is held while the other one is full, and a cut goes across.
static void test_pressure_and_cut(void **state) {
    pipe_start(&bed->pipe);
    bed->up.can_send = false;
    data(&bed->down, "x");
    assert_true(bed->down.is_held);
    bed->up.can_send = true;
    bed->up.duplex.events->on_writable(&bed->up.duplex);
    assert_false(bed->down.is_held);
    bed->down.duplex.events->on_abort(&bed->down.duplex, FLOW_UPSTREAM_RESET);
    assert_true(bed->up.is_aborted);
    assert_int_equal(bed->pipe.end, FLOW_DOWNSTREAM_RESET);
    close_both();
}

// Passes what comes, with "<>" in the middle of what comes from the server.
static void tap(struct pipe *pipe, enum pipe_side from, const struct seg *seg) {
    uint32_t half = from == PIPE_UP ? seg->len / 2 : 0;
    pipe_forward(pipe, from, seg, 0, half);
    if (from == PIPE_UP) {
        pipe_inject(pipe, SLICE_LIT("<>"));
    }
    pipe_forward(pipe, from, seg, half, seg->len - half);
}

// Bytes of a tap are no bytes of the server: it gets credit for its own, and for no more.
static void test_tap(void **state) {
    bed->up.duplex.needs_credit = true;
    bed->pipe.tap = tap;
    pipe_start(&bed->pipe);
    data(&bed->down, "ask");
    data(&bed->up, "answer");
    assert_string_equal(bed->up.sent, "ask");
    assert_string_equal(bed->down.sent, "ans<>wer");
    assert_int_equal(bed->pipe.n_bytes[PIPE_UP], 6);
    assert_int_equal(bed->pipe.last, PIPE_UP);
    bed->down.duplex.events->on_sent(&bed->down.duplex, 1);
    assert_int_equal(bed->up.n_consumed, 0);
    bed->down.duplex.events->on_sent(&bed->down.duplex, 7);
    assert_int_equal(bed->up.n_consumed, 6);
    bed->pipe.tap = NULL;
    data(&bed->up, "!");
    assert_string_equal(bed->down.sent, "ans<>wer!");
    pipe_cut(&bed->pipe, FLOW_DENIED);
    close_both();
}

// Both sides are told, and each end counts once.
static void test_end(void **state) {
    pipe_start(&bed->pipe);
    pipe_end(&bed->pipe, FLOW_MOVED);
    assert_string_equal(bed->up.sent, "$");
    assert_string_equal(bed->down.sent, "$");
    bed->up.duplex.events->on_fin(&bed->up.duplex);
    assert_false(bed->up.is_finished);
    bed->down.duplex.events->on_fin(&bed->down.duplex);
    assert_true(bed->down.is_finished && bed->up.is_finished);
    assert_string_equal(bed->up.sent, "$");
    assert_string_equal(bed->down.sent, "$");
    assert_int_equal(bed->pipe.end, FLOW_MOVED);
    close_both();
}

// A stream is gone with its two ends; the client's is still waited for, and may not be crossed.
static void test_end_of_a_stream(void **state) {
    for (int crosses = 0; crosses < 2; crosses++) {
        struct end *down = &bed->down, *up = &bed->up;
        pipe_start(&bed->pipe);
        pipe_end(&bed->pipe, FLOW_MOVED);
        up->duplex.events->on_fin(&up->duplex);
        up->duplex.events->on_closed(&up->duplex);
        assert_int_equal(bed->n_done, 0);
        if (crosses) {
            data(down, "ask");
            assert_true(down->is_aborted);
            assert_int_equal(bed->pipe.end, FLOW_CROSSED);
        } else {
            assert_false(down->is_aborted);
            down->duplex.events->on_fin(&down->duplex);
            assert_true(down->is_finished);
            assert_int_equal(bed->pipe.end, FLOW_MOVED);
        }
        down->duplex.events->on_closed(&down->duplex);
        assert_int_equal(bed->n_done, 1);
        teardown(state);
        setup(state);
    }
    close_both();
}

// A request that crossed the end reaches nobody, and its client must not wait for an answer.
static void test_end_is_crossed(void **state) {
    pipe_start(&bed->pipe);
    pipe_end(&bed->pipe, FLOW_MOVED);
    data(&bed->down, "ask");
    assert_string_equal(bed->up.sent, "$");
    assert_true(bed->down.is_aborted && bed->up.is_aborted);
    assert_int_equal(bed->pipe.end, FLOW_CROSSED);
    close_both();
}

// The client is not waited for, nor is the server.
static void test_end_without_answer(void **state) {
    pipe_start(&bed->pipe);
    pipe_end(&bed->pipe, FLOW_MOVED);
    pipe_end_now(&bed->pipe);
    assert_true(bed->down.is_finished && bed->up.is_aborted);
    close_both();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_push, setup, teardown),
        cmocka_unit_test_setup_teardown(test_push_with_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pressure_and_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_of_a_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_is_crossed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_without_answer, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
