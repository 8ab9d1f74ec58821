// SPDX-License-Identifier: Apache-2.0
//
// Copies of live connections for admin: what is known of each, and a cap.
#include "waypoint/conn_list.h"

#include "tests/unit/base/unit.h"

static void count(const struct wconn *conn, uint64_t *ret_sent, uint64_t *ret_received) {
    *ret_sent = conn->id * 10;
    *ret_received = conn->id;
}

static const struct wconn_ops counted = {.protocol = "tcp", .count = count};
static const struct wconn_ops plain = {.protocol = "http"};

// One that waits for its binding: nothing is known but who asked.
static void test_waiting(void **state) {
    struct wworker worker = {.index = 3};
    struct wconn conn = {.worker = &worker, .id = 7, .started_ns = 100};
    struct wconn_list list;
    wconn_list_init(&list, 10);
    wconn_list_add(&list, &conn, 150);
    assert_int_equal(list.n_items, 1);
    const struct wconn_info *info = &list.items[0];
    assert_int_equal(info->id, 7);
    assert_int_equal(info->age_ns, 50);
    assert_int_equal(info->worker, 3);
    assert_false(info->is_accepted);
    assert_string_equal(info->protocol, "");
    assert_string_equal(info->source, "");
    assert_string_equal(info->destination, "");
    assert_string_equal(info->service, "");
    assert_string_equal(info->client_id, "");
    wconn_list_fini(&list);
    assert_null(list.items);
}

static void test_served(void **state) {
    struct wworker worker = {0};
    struct workload client = {.ns = "shop", .name = "client"}, server = {.ns = "db", .name = "one"};
    struct service service = {.hostname = "web.shop.svc.cluster.local"};
    struct wconn conn = {.worker = &worker,
                         .id = 2,
                         .ops = &counted,
                         .source = &client,
                         .destination = &server,
                         .service = &service,
                         .client_id = SLICE_LIT("spiffe://td/ns/shop/sa/client"),
                         .is_accepted = true};
    assert_true(addr_parse(SLICE_LIT("10.0.0.1:4000"), &conn.client));
    assert_true(addr_parse(SLICE_LIT("10.96.0.1:80"), &conn.dst));
    assert_true(addr_parse(SLICE_LIT("10.0.1.1:8080"), &conn.target));
    assert_true(addr_parse(SLICE_LIT("10.0.1.1:15008"), &conn.hbone_addr));
    struct wconn_list list;
    wconn_list_init(&list, 10);
    wconn_list_add(&list, &conn, 0);
    conn.ops = &plain; // counts nothing
    wconn_list_add(&list, &conn, 0);
    memset(&conn, 0, sizeof(conn)); // the copies outlive it
    const struct wconn_info *info = &list.items[0];
    assert_string_equal(info->protocol, "tcp");
    assert_int_equal(info->n_sent, 20);
    assert_int_equal(info->n_received, 2);
    assert_string_equal(info->source, "shop/client");
    assert_string_equal(info->destination, "db/one");
    assert_string_equal(info->service, "web.shop.svc.cluster.local");
    assert_string_equal(info->client_id, "spiffe://td/ns/shop/sa/client");
    assert_true(info->is_accepted);
    assert_int_equal(info->client.port, 4000);
    assert_int_equal(info->dst.port, 80);
    assert_int_equal(info->target.port, 8080);
    assert_int_equal(info->hbone_addr.port, 15008);
    assert_string_equal(list.items[1].protocol, "http");
    assert_int_equal(list.items[1].n_sent, 0);
    wconn_list_fini(&list);
}

// More than the cap are counted; names that are too long are cut.
static void test_cap(void **state) {
    static const char *const names[] = {
        "a-name-of-63-bytes-a-name-of-63-bytes-a-name-of-63-bytes-a-name",
        "a-name-of-253-bytes-a-name-of-253-bytes-a-name-of-253-bytes-a-name-of-253-bytes-a-name-of-"
        "253-bytes-a-name-of-253-bytes-a-name-of-253-bytes-a-name-of-253-bytes-a-name-of-253-"
        "bytes"};
    struct wworker worker = {0};
    struct workload client = {.ns = names[0], .name = names[1]};
    struct wconn conn = {.worker = &worker, .source = &client};
    struct wconn_list list;
    wconn_list_init(&list, 130); // twice beyond the first allocation
    for (conn.id = 1; conn.id <= 200; conn.id++) {
        wconn_list_add(&list, &conn, 0);
    }
    assert_int_equal(list.n_items, 130);
    assert_int_equal(list.n_skipped, 70);
    assert_int_equal(list.items[129].id, 130);
    assert_int_equal(strlen(list.items[0].source), sizeof(list.items[0].source) - 1);
    wconn_list_fini(&list);
    wconn_list_init(&list, 0);
    wconn_list_add(&list, &conn, 0);
    assert_int_equal(list.n_skipped, 1);
    wconn_list_fini(&list);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_served),
        cmocka_unit_test(test_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
