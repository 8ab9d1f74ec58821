// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/route_shun.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "tests/unit/mesh/mesh_fixture.h"

enum { N = 200, NOW = 1000 };

static struct rand rng;
static struct route_shun shun;

static int setup(void **state) {
    (void)state;
    enum { HBONE = WORKLOAD_HBONE };
    fx_init();
    rand_seed(&rng, 7);
    shun = (struct route_shun){0};
    struct workload *client = FX_WORKLOAD("a", "client", "10.0.0.1", .protocol = HBONE);
    struct workload *server = FX_WORKLOAD("a", "server", "10.0.0.2", .protocol = HBONE);
    struct workload *ways[] = {FX_WORKLOAD("a", "way1", "10.0.0.11", .protocol = HBONE),
                               FX_WORKLOAD("a", "way2", "10.0.0.12", .protocol = HBONE),
                               FX_WORKLOAD("a", "way3", "10.0.0.13", .protocol = HBONE)};
    fx_publish(FX_SERVICE(.ns = "a", .name = "way", .vips = "10.1.0.6", .ports = {15008},
                          .members = {ways[0], ways[1], ways[2]}, .more = {.is_waypoint = true}),
               FX_SERVICE(.ns = "a", .name = "web", .vips = "10.1.0.1", .ports = {80},
                          .members = {server}, .more = {.waypoint = "a/way.a.svc.cluster.local"}),
               client, server, ways[0], ways[1], ways[2], NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fx_fini();
    return 0;
}

// How often each of the three is chosen, and refusals.
static void draw(uint64_t now, const char *tried, uint32_t ret_n[4]) {
    struct route_request request = {
        .source = snapshot_workload_by_uid(snapshot_current(), "Kubernetes//Pod/a/client"),
        .original_dst = fx_addr("10.1.0.1:80"),
        .rand = &rng,
    };
    memset(ret_n, 0, 4 * sizeof(*ret_n));
    if (tried != NULL) {
        request.tried[request.n_tried++] = fx_ip(tried);
    }
    for (int i = 0; i < N; i++) {
        struct route route;
        route_shun_outbound(&shun, now, snapshot_current(), &request, &route);
        ret_n[route.action == ROUTE_REFUSE ? 3 : route.target.ip.bytes[3] - 11]++;
    }
}

static void add(const char *ip, uint64_t now) {
    struct ip parsed = fx_ip(ip);
    route_shun_add(&shun, &parsed, now);
}

static void test_shunned_are_left_out(void **state) {
    (void)state;
    uint32_t n[4];
    draw(NOW, NULL, n);
    assert_true(n[0] > N / 6 && n[1] > N / 6 && n[2] > N / 6 && n[3] == 0);
    add("10.0.0.11", NOW);
    draw(NOW + 1, NULL, n);
    assert_true(n[0] == 0 && n[1] > N / 3 && n[2] > N / 3 && n[3] == 0);
    add("10.0.0.12", NOW);
    draw(NOW + 1, NULL, n);
    assert_int_equal(n[2], N);
    // What this flow has tried itself is never tried again: the shunned ones are.
    draw(NOW + 1, "10.0.0.13", n);
    assert_true(n[0] > 0 && n[1] > 0 && n[2] == 0 && n[3] == 0);
}

static void test_it_ends(void **state) {
    (void)state;
    uint32_t n[4];
    struct ip way1 = fx_ip("10.0.0.11");
    add("10.0.0.11", NOW);
    draw(NOW + ROUTE_SHUN_MS * NS_PER_MS - 1, NULL, n);
    assert_int_equal(n[0], 0);
    draw(NOW + ROUTE_SHUN_MS * NS_PER_MS, NULL, n);
    assert_true(n[0] > 0);
    add("10.0.0.11", NOW);
    route_shun_del(&shun, &way1); // reached
    draw(NOW + 1, NULL, n);
    assert_true(n[0] > 0);
}

static void test_all_are_shunned(void **state) {
    (void)state;
    uint32_t n[4];
    add("10.0.0.11", NOW);
    add("10.0.0.12", NOW);
    add("10.0.0.13", NOW);
    draw(NOW + 1, NULL, n);
    assert_true(n[0] > N / 6 && n[1] > N / 6 && n[2] > N / 6 && n[3] == 0);
}

static void test_more_than_there_is_room_for(void **state) {
    (void)state;
    uint32_t n[4];
    char text[32];
    add("10.0.0.11", NOW);
    for (int i = 0; i < ROUTE_SHUN_MAX - 1; i++) {
        snprintf(text, sizeof(text), "10.9.0.%d", i + 1);
        add(text, NOW + 1);
        add(text, NOW + 2); // again: no second place
    }
    draw(NOW + 3, NULL, n);
    assert_int_equal(n[0], 0);
    add("10.9.0.100", NOW + 3); // the oldest one goes
    draw(NOW + 4, NULL, n);
    assert_true(n[0] > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shunned_are_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_are_shunned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_there_is_room_for, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
