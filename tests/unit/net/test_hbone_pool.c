// SPDX-License-Identifier: Apache-2.0
//
// The HBONE client pool on the simulator's network, without faults: room for streams, stale
// tunnels, GOAWAY, expiry, idle tunnels, and tunnels that left the pool.
#include <setjmp.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/rt/fake.h"
#include "tests/unit/net/mesh_bed.h"

enum { FLOWS_MAX = 40, FULL_MAX = 32 };

struct fix {
    struct bed bed;
    struct fake_net *net;
    int app_listener;
    int clients[FLOWS_MAX], servers[FLOWS_MAX];
    uint32_t n_clients, n_servers;
};

static time_t wall_offset; // certificates expire when the tests want

int clock_gettime(clockid_t clock, struct timespec *ret_time) {
    int rc = (int)syscall(SYS_clock_gettime, clock, ret_time);
    ret_time->tv_sec += clock == CLOCK_REALTIME ? wall_offset : 0;
    return rc;
}

static struct io *make_io(void *arg, struct blk_pool *pool) {
    return fake_io_new(arg, pool);
}

static struct addr make_addr(const char *text) {
    struct addr addr;
    assert_true(addr_parse(slice_str(text), &addr));
    return addr;
}

static void fix_up(struct fix *fix, uint32_t max_streams) {
    *fix = (struct fix){.bed = {.out_addr = make_addr("10.0.0.1:15001"),
                                .in_addr = make_addr("10.0.0.2:15008"),
                                .app_addr = make_addr("10.0.0.2:8080")}};
    struct fake_options options = {.seed = 1};
    fix->net = fake_net_new(&options);
    int out_fd = fake_listen(fix->net, -1, &fix->bed.out_addr);
    int in_fd = fake_listen(fix->net, -1, &fix->bed.in_addr);
    fix->app_listener = fake_listen(fix->net, -1, &fix->bed.app_addr);
    bed_init_on(&fix->bed, make_io, fix->net, out_fd, in_fd);
    fix->bed.client.config.h2.max_streams_local = max_streams;
    fix->bed.client.config.n_full_max = FULL_MAX;
}

static void turn(struct fix *fix) {
    struct io *io = fix->bed.io;
    loop_turn(&fix->bed.loop, false);
    for (int fd;
         fix->app_listener >= 0 && (fd = io->ops->accept_now(io, fix->app_listener)) >= 0;) {
        fix->servers[fix->n_servers++] = fd;
    }
    fake_skip(fix->net, NS_PER_MS / 20);
}

static void run_ms(struct fix *fix, uint64_t ms) {
    for (uint64_t end = fake_now(fix->net) + ms * NS_PER_MS; fake_now(fix->net) < end;) {
        turn(fix);
    }
}

static void run_s(struct fix *fix, uint32_t s) { // in larger steps
    for (uint32_t i = 0; i < 10 * s; i++) {
        turn(fix);
        turn(fix);
        fake_skip(fix->net, 100 * NS_PER_MS);
    }
}

static int dial(struct fix *fix) {
    struct addr src = fix->bed.out_addr;
    src.port = (uint16_t)(40000 + fix->n_clients);
    int fd = fake_dial(fix->net, -1, &src, &fix->bed.out_addr);
    assert_true(fd >= 0);
    fix->clients[fix->n_clients++] = fd;
    return fd;
}

static void dial_n(struct fix *fix, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        dial(fix);
        run_ms(fix, 20);
    }
}

// A byte goes through the i-th flow.
static void assert_alive(struct fix *fix, uint32_t i) {
    char byte = 0;
    assert_int_equal(fake_write(fix->net, fix->clients[i], "x", 1), 1);
    run_ms(fix, 20);
    assert_int_equal(fake_read(fix->net, fix->servers[i], &byte, 1), 1);
    assert_int_equal(byte, 'x');
}

static void close_flow(struct fix *fix, uint32_t i) {
    fake_close(fix->net, fix->clients[i], false);
    fake_close(fix->net, fix->servers[i], false);
    fix->clients[i] = fix->servers[i] = -1;
}

static void fix_down(struct fix *fix) {
    for (uint32_t i = 0; i < fix->n_clients; i++) {
        if (fix->clients[i] >= 0) {
            fake_close(fix->net, fix->clients[i], true);
        }
    }
    for (uint32_t i = 0; i < fix->n_servers; i++) {
        if (fix->servers[i] >= 0) {
            fake_close(fix->net, fix->servers[i], true);
        }
    }
    bed_close(&fix->bed);
    for (int i = 0; i < 100 && !bed_is_closed(&fix->bed); i++) {
        run_ms(fix, 50);
    }
    assert_true(bed_is_closed(&fix->bed));
    fake_close(fix->net, fix->app_listener, false);
    fix->app_listener = -1;
    run_ms(fix, 50);
    assert_int_equal(fake_open_fds(fix->net), 0);
    assert_int_equal(fix->bed.client.stats.n_ready, 0);
    bed_free(&fix->bed);
    fake_net_free(fix->net);
    wall_offset = 0;
}

static uint64_t n_tunnels(const struct fix *fix) {
    return fix->bed.client.stats.n_tunnels;
}

// ---- room --------------------------------------------------------------------------------------

static void test_few_flows_share_one_tunnel(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    dial_n(&fix, 9);
    assert_int_equal(fix.bed.n_opened, 9);
    assert_int_equal(n_tunnels(&fix), 1);
    fix_down(&fix);
}

static void test_four_tunnels_while_there_is_room(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 8);
    dial_n(&fix, 32);
    assert_int_equal(fix.bed.n_opened, 32);
    assert_int_equal(n_tunnels(&fix), HBONE_TUNNELS_MAX);
    dial_n(&fix, 1); // all are full of flows that may live for ever
    assert_int_equal(fix.bed.n_opened, 33);
    assert_int_equal(n_tunnels(&fix), HBONE_TUNNELS_MAX + 1);
    assert_alive(&fix, 32);
    fix_down(&fix);
}

static void test_surplus_tunnels_close_soon(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 2);
    dial_n(&fix, 12);
    assert_int_equal(n_tunnels(&fix), 6);
    for (uint32_t i = 0; i < 12; i++) {
        close_flow(&fix, i);
    }
    run_s(&fix, 20);
    assert_int_equal(n_tunnels(&fix), 1);
    fix_down(&fix);
}

static void fill_up(struct fix *fix) {
    fix_up(fix, 1);
    dial_n(fix, FULL_MAX);
    run_ms(fix, 100);
    assert_int_equal(fix->bed.n_opened, FULL_MAX);
    dial_n(fix, 1);
    run_ms(fix, 500);
    assert_int_equal(fix->bed.n_opened, FULL_MAX); // waits
    assert_int_equal(n_tunnels(fix), FULL_MAX);
}

static void test_end_of_a_stream_makes_room(void **state) {
    (void)state;
    struct fix fix;
    fill_up(&fix);
    close_flow(&fix, 7);
    run_ms(&fix, 100);
    assert_int_equal(fix.bed.n_opened, FULL_MAX + 1);
    assert_alive(&fix, FULL_MAX);
    fix_down(&fix);
}

static void test_wait_for_room_ends(void **state) {
    (void)state;
    struct fix fix;
    fill_up(&fix);
    run_s(&fix, HBONE_WAIT_MS / 1000 + 1);
    assert_int_equal(fix.bed.n_failed, 1);
    assert_int_equal(fix.bed.last_fail, FLOW_TIMEOUT);
    assert_alive(&fix, 0);
    fix_down(&fix);
}

// A tunnel that dies is no reason to fail those who wait for room in it or another one.
static void test_lost_tunnel_leaves_who_waits(void **state) {
    (void)state;
    struct fix fix;
    fill_up(&fix);
    bed_abort_servers(&fix.bed, 0);
    run_ms(&fix, 200);
    assert_int_equal(fix.bed.n_opened, FULL_MAX + 1);
    assert_int_equal(fix.bed.n_failed, 0);
    fix_down(&fix);
}

// ---- tunnels that end --------------------------------------------------------------------------

// One flow has come and gone; the next one's CONNECT is on its way on the pooled tunnel.
static void reuse_tunnel(struct fix *fix) {
    fix_up(fix, 100);
    dial_n(fix, 1);
    assert_alive(fix, 0);
    close_flow(fix, 0);
    run_ms(fix, 50);
    assert_int_equal(n_tunnels(fix), 1);
    dial(fix);
    for (int i = 0; i < 1000 && fix->bed.client.stats.n_streams < 2; i++) {
        turn(fix);
    }
    assert_int_equal(fix->bed.client.stats.n_streams, 2);
    assert_int_equal(fix->bed.n_opened, 1);
}

static void test_stale_tunnel_is_retried_once(void **state) {
    (void)state;
    struct fix fix;
    reuse_tunnel(&fix);
    bed_abort_servers(&fix.bed, 0);
    run_ms(&fix, 100);
    assert_int_equal(fix.bed.n_opened, 2);
    assert_int_equal(fix.bed.client.stats.n_stale_retries, 1);
    assert_alive(&fix, 1);
    fix_down(&fix);
}

// Drained in the moment when a stream is under way: the first GOAWAY still lets it in.
static void test_drain_takes_what_is_on_its_way(void **state) {
    (void)state;
    struct fix fix;
    reuse_tunnel(&fix);
    bed_drain_servers(&fix.bed);
    run_ms(&fix, 100);
    assert_int_equal(fix.bed.n_opened, 2);
    assert_int_equal(fix.bed.client.stats.n_stale_retries, 0);
    assert_int_equal(fix.bed.client.stats.n_opened, 1);
    assert_alive(&fix, 1);
    fix_down(&fix);
}

static void test_goaway_sends_new_flows_elsewhere(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    dial_n(&fix, 1);
    bed_drain_servers(&fix.bed);
    run_ms(&fix, 50);
    dial_n(&fix, 1);
    assert_int_equal(n_tunnels(&fix), 2);
    assert_alive(&fix, 0);
    assert_alive(&fix, 1);
    close_flow(&fix, 0);
    run_ms(&fix, 50);
    assert_int_equal(n_tunnels(&fix), 1);
    fix_down(&fix);
}

static enum tls_err nobody_is_valid(void *arg, uint64_t pod_id, const struct tls_peer *peer) {
    (void)peer;
    assert_int_equal(pod_id, 1);
    ++*(int *)arg;
    return TLS_REVOKED;
}

// What left the pool and runs on is still within reach: revocation, removal, exit.
static void test_retired_tunnels_are_cut(void **state) {
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct fix fix;
        int n_checked = 0;
        fix_up(&fix, 100);
        dial_n(&fix, 1);
        bed_drain_servers(&fix.bed);
        run_ms(&fix, 50);
        assert_alive(&fix, 0);
        if (how == 0) {
            hbone_client_recheck(&fix.bed.client, nobody_is_valid, &n_checked);
            assert_int_equal(n_checked, 1);
        } else if (how == 1) {
            hbone_client_close_pod(&fix.bed.client, 1, true, FLOW_POD_REMOVED);
        } else {
            hbone_client_abort_all(&fix.bed.client, FLOW_DRAIN);
        }
        run_ms(&fix, 50);
        assert_int_equal(n_tunnels(&fix), 0);
        assert_int_equal(fix.bed.n_flows, 0);
        char byte;
        assert_true(fake_read(fix.net, fix.clients[0], &byte, 1) < 0); // a reset, no end
        fix_down(&fix);
    }
}

static void test_expired_tunnel_takes_no_stream(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    dial_n(&fix, 1);
    wall_offset = 86400;
    dial_n(&fix, 1);
    assert_int_equal(fix.bed.n_failed, 1); // nor can a new one be made with that certificate
    assert_int_equal(fix.bed.last_fail, FLOW_TLS_FAILURE);
    assert_alive(&fix, 0);
    bed_rotate(&fix.bed);
    dial_n(&fix, 1);
    assert_int_equal(fix.bed.n_opened, 2);
    assert_int_equal(n_tunnels(&fix), 2);
    fix_down(&fix);
}

static void test_idle_tunnels_close_also_of_old_identities(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    dial_n(&fix, 1);
    bed_rotate(&fix.bed);
    dial_n(&fix, 1);
    assert_int_equal(n_tunnels(&fix), 2);
    assert_alive(&fix, 0); // a rotation touches no flow
    run_s(&fix, 400);
    assert_int_equal(n_tunnels(&fix), 2); // in use
    close_flow(&fix, 0);
    close_flow(&fix, 1);
    run_s(&fix, 250);
    assert_int_equal(n_tunnels(&fix), 2);
    run_s(&fix, 100);
    assert_int_equal(n_tunnels(&fix), 0);
    assert_int_equal(fix.bed.n_server_tunnels, 0);
    fix_down(&fix);
}

// ---- requests ----------------------------------------------------------------------------------

static bool gone(void *arg, const struct addr *destination) {
    (void)arg;
    (void)destination;
    return false;
}

// Who waits for a tunnel to an address whose workload has gone is told, and may try another.
static void test_gone_destination_fails_who_waits(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    fake_set_dst(fix.net, &fix.bed.in_addr, FAKE_DST_BLACKHOLE);
    dial_n(&fix, 1);
    assert_int_equal(n_tunnels(&fix), 1);
    hbone_client_retain(&fix.bed.client, gone, NULL);
    run_ms(&fix, 10);
    assert_int_equal(fix.bed.n_failed, 1);
    assert_int_equal(fix.bed.last_fail, FLOW_NO_UPSTREAM);
    assert_int_equal(n_tunnels(&fix), 0);
    fix_down(&fix);
}

static void build(struct hbone_request *request, struct hbone_head *ret_head) {
    (void)request;
    struct hbone_connect connect = {.target = {.addr = make_addr("10.0.0.2:8080")}};
    assert_true(hbone_connect_build(&connect, ret_head));
}

static void never_open(struct hbone_request *request, const struct h2_event *head) {
    (void)request;
    (void)head;
    fail();
}

static void never_fail(struct hbone_request *request, enum flow_end reason, uint16_t status,
                       bool is_retryable) {
    (void)request;
    (void)reason;
    (void)status;
    (void)is_retryable;
    fail();
}

static const struct hbone_request_ops never = {
    .build = build, .on_open = never_open, .on_fail = never_fail};

static struct hbone_route route_of(struct fix *fix) {
    return (struct hbone_route){.pod_id = 1,
                                .tls = fix->bed.client_ctx,
                                .socket = {.netns_fd = -1, .family = 4, .is_tunnel = true},
                                .destination = fix->bed.in_addr,
                                .sans = &fix->bed.expected_san,
                                .n_sans = 1};
}

// A server that does not answer: the stream is reset with CONNECT_ERROR (CANCEL would pass for a
// clean end), and asked nowhere else, for it may have been understood.
static void test_answer_deadline(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    fix.bed.is_silent = true;
    fix.bed.max_retries = 2;
    dial_n(&fix, 1);
    run_s(&fix, HBONE_ANSWER_MS / 1000 - 1);
    assert_int_equal(fix.bed.n_failed, 0);
    run_s(&fix, 2);
    assert_int_equal(fix.bed.n_failed, 1);
    assert_int_equal(fix.bed.last_fail, FLOW_TIMEOUT);
    assert_string_equal(fix.bed.last_detail, "no answer to CONNECT in time");
    assert_int_equal(fix.bed.n_requests, 1);
    assert_int_equal(fix.bed.last_server_err, H2_CONNECT_ERROR);
    assert_int_equal(n_tunnels(&fix), 1); // the others' flows go on
    fix_down(&fix);
}

// A tunnel that asks for nothing is closed, in order; one that has asked may be idle.
static void test_first_connect_deadline(void **state) {
    (void)state;
    for (int asks = 0; asks < 2; asks++) {
        struct fix fix;
        fix_up(&fix, 100);
        struct hbone_request request;
        struct hbone_route route = route_of(&fix);
        hbone_request_init(&request, &never);
        hbone_client_connect(&fix.bed.client, &request, &route);
        for (int i = 0; i < 200 && fix.bed.n_server_tunnels == 0; i++) {
            turn(&fix);
        }
        hbone_request_cancel(&request); // the tunnel is on its way, nobody wants it
        if (asks) {
            dial_n(&fix, 1);
            assert_alive(&fix, 0);
            close_flow(&fix, 0);
        }
        run_s(&fix, HBONE_FIRST_CONNECT_MS / 1000 - 1);
        assert_int_equal(n_tunnels(&fix), 1);
        assert_int_equal(fix.bed.client.stats.n_ready, 1);
        run_s(&fix, 3);
        assert_int_equal(n_tunnels(&fix), asks);
        assert_int_equal(fix.bed.n_server_tunnels, asks);
        fix_down(&fix);
    }
}

// The wall clock is set a day ahead, a day back, and right again: what runs goes on, what is new
// fails while the certificates are not valid, and the tunnel is as good as before in the end.
static void test_clock_is_set(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    dial_n(&fix, 1);
    static const time_t offsets[] = {86400, -86400};
    for (uint32_t i = 0; i < ARRAY_LEN(offsets); i++) {
        wall_offset = offsets[i];
        run_s(&fix, 60); // PINGs, sweeps
        dial_n(&fix, 1);
        assert_int_equal(fix.bed.n_failed, i + 1);
        assert_int_equal(fix.bed.last_fail, FLOW_TLS_FAILURE);
        assert_alive(&fix, 0);
    }
    wall_offset = 0;
    dial_n(&fix, 1);
    assert_int_equal(fix.bed.n_opened, 2);
    assert_alive(&fix, 0);
    fix_down(&fix);
}

// What may be asked of another endpoint: only what cannot have been begun.
static void test_what_is_retried(void **state) {
    (void)state;
    static const struct {
        uint16_t status;
        enum h2_err reset;
        uint32_t n_requests;
    } cases[] = {
        {.status = 503, .n_requests = 3},
        {.status = 400, .n_requests = 1},
        {.status = 401, .n_requests = 1},
        {.status = 404, .n_requests = 1},
        {.status = 500, .n_requests = 1},
        {.status = 502, .n_requests = 1},
        {.status = 504, .n_requests = 1},
        {.reset = H2_REFUSED, .n_requests = 6}, // each endpoint also by a fresh tunnel
        {.reset = H2_CANCEL, .n_requests = 1},
        {.reset = H2_CONNECT_ERROR, .n_requests = 1},
        {.reset = H2_INTERNAL_ERROR, .n_requests = 1},
        {.reset = H2_PROTOCOL_ERROR, .n_requests = 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix fix;
        fix_up(&fix, 100);
        fix.bed.max_retries = 2;
        fix.bed.refuse_status = cases[i].status;
        fix.bed.refuse_reset = cases[i].reset;
        dial_n(&fix, 1);
        run_ms(&fix, 100);
        assert_int_equal(fix.bed.n_failed, 1);
        assert_int_equal(fix.bed.last_status, cases[i].status);
        assert_int_equal(fix.bed.n_requests, cases[i].n_requests);
        fix_down(&fix);
    }
}

// A tunnel that dies when the request is in it: by a fresh one once if it was pooled, then never.
static void test_lost_tunnel_is_not_retried_elsewhere(void **state) {
    (void)state;
    struct fix fix;
    fix_up(&fix, 100);
    fix.bed.is_silent = true;
    fix.bed.max_retries = 2;
    dial_n(&fix, 1);
    run_ms(&fix, 50);
    assert_int_equal(fix.bed.n_requests, 1);
    bed_abort_servers(&fix.bed, 0);
    run_ms(&fix, 100);
    assert_int_equal(fix.bed.n_failed, 1);
    assert_int_equal(fix.bed.last_fail, FLOW_TUNNEL_LOST);
    assert_int_equal(fix.bed.n_requests, 1);
    fix_down(&fix);
}

// ---- revocation --------------------------------------------------------------------------------

static void dial_revoked(struct fix *fix, bool is_server) {
    fix_up(fix, 100);
    fix->bed.max_retries = 2;
    bed_revoke(&fix->bed, is_server);
    dial_n(fix, 1);
    run_ms(fix, 200);
    assert_int_equal(fix->bed.n_opened, 0);
    assert_int_equal(fix->bed.n_failed, 1);
    assert_int_equal(fix->bed.last_fail, FLOW_REVOKED);
    assert_int_equal(fix->bed.last_server_fail, FLOW_REVOKED);
    assert_int_equal(fix->bed.client.stats.n_tls_failed, is_server ? 3 : 0);
}

static void test_revoked_server(void **state) {
    (void)state;
    struct fix fix;
    dial_revoked(&fix, true);
    assert_non_null(strstr(fix.bed.last_detail, "the peer's certificate chain is revoked"));
    fix_down(&fix);
}

// The server judges when the client's handshake is over: its alert is the answer.
static void test_revoked_client(void **state) {
    (void)state;
    struct fix fix;
    dial_revoked(&fix, false);
    assert_non_null(strstr(fix.bed.last_detail, "the peer sent certificate_revoked"));
    fix_down(&fix);
}

// At every moment of a request: no callback follows, nothing is left.
static void test_cancel(void **state) {
    (void)state;
    for (int n_turns = 0; n_turns < 40; n_turns++) {
        struct fix fix;
        fix_up(&fix, 100);
        struct hbone_route route = route_of(&fix);
        struct hbone_request request;
        hbone_request_init(&request, &never);
        hbone_client_connect(&fix.bed.client, &request, &route);
        for (int i = 0; i < n_turns && (request.key == NULL || fix.bed.n_flows == 0); i++) {
            turn(&fix); // until the server has the request, at the latest
        }
        hbone_request_cancel(&request);
        hbone_request_cancel(&request); // harmless
        run_ms(&fix, 50);
        assert_int_equal(fix.bed.n_flows, 0);
        fix_down(&fix);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_flows_share_one_tunnel),
        cmocka_unit_test(test_four_tunnels_while_there_is_room),
        cmocka_unit_test(test_surplus_tunnels_close_soon),
        cmocka_unit_test(test_end_of_a_stream_makes_room),
        cmocka_unit_test(test_wait_for_room_ends),
        cmocka_unit_test(test_lost_tunnel_leaves_who_waits),
        cmocka_unit_test(test_stale_tunnel_is_retried_once),
        cmocka_unit_test(test_drain_takes_what_is_on_its_way),
        cmocka_unit_test(test_goaway_sends_new_flows_elsewhere),
        cmocka_unit_test(test_retired_tunnels_are_cut),
        cmocka_unit_test(test_expired_tunnel_takes_no_stream),
        cmocka_unit_test(test_idle_tunnels_close_also_of_old_identities),
        cmocka_unit_test(test_gone_destination_fails_who_waits),
        cmocka_unit_test(test_first_connect_deadline),
        cmocka_unit_test(test_clock_is_set),
        cmocka_unit_test(test_answer_deadline),
        cmocka_unit_test(test_what_is_retried),
        cmocka_unit_test(test_lost_tunnel_is_not_retried_elsewhere),
        cmocka_unit_test(test_revoked_server),
        cmocka_unit_test(test_revoked_client),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
