// SPDX-License-Identifier: Apache-2.0
//
// Candidates for one Lease, on a server that is a variable and a version, each with a clock of its
// own.
#include "waypoint/lease.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "tests/unit/base/unit.h"

enum { N = 3 };

static struct server {
    json_t *object;
    int version;
    bool is_away;
} server;

static struct candidate {
    struct lease lease;
    struct rand rand;
    uint64_t offset; // of its clock
    json_t *body; // sent, and not at the server yet
    enum lease_step sent;
} all[N];
static uint64_t now;
static const char *const identities[N] = {"a", "b", "c"};

static uint64_t clock_of(const struct candidate *c) {
    return now + c->offset;
}

static int setup(void **state) {
    now = NS_PER_SEC;
    server = (struct server){0};
    for (size_t i = 0; i < N; i++) {
        all[i] = (struct candidate){.offset = i * 1000000 * NS_PER_SEC};
        rand_seed(&all[i].rand, i);
        lease_init(&all[i].lease, "shop", "way", identities[i], &all[i].rand);
    }
    return 0;
}

static int teardown(void **state) {
    for (size_t i = 0; i < N; i++) {
        json_decref(all[i].body);
        lease_fini(&all[i].lease);
    }
    json_decref(server.object);
    return 0;
}

static const char *version_of(const json_t *object) {
    const char *text =
        json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion"));
    return text != NULL ? text : "";
}

// The write at the server: as the API, with its conflicts.
static bool store(enum lease_step step, const json_t *body) {
    char version[16];
    if (server.is_away || (step == LEASE_CREATE) != (server.object == NULL) ||
        strcmp(version_of(body), version_of(server.object)) != 0) {
        return false;
    }
    json_decref(server.object);
    server.object = json_deep_copy(body);
    snprintf(version, sizeof(version), "%d", ++server.version);
    json_object_set_new(json_object_get(server.object, "metadata"), "resourceVersion",
                        json_string(version));
    return true;
}

static void answer(struct candidate *c) {
    if (store(c->sent, c->body)) {
        lease_written(&c->lease, clock_of(c), server.object);
    } else {
        lease_failed(&c->lease, clock_of(c));
    }
    json_decref(c->body);
    c->body = NULL;
}

// What is due; a write stays on its way when `is_slow`.
static void run(struct candidate *c, bool is_slow) {
    for (int i = 0; i < 4; i++) {
        enum lease_step step = lease_next(&c->lease, clock_of(c));
        if (step == LEASE_GET) {
            if (server.is_away) {
                lease_failed(&c->lease, clock_of(c));
            } else {
                lease_got(&c->lease, clock_of(c), server.object);
            }
        } else if (step != LEASE_WAIT) {
            char text[32];
            snprintf(text, sizeof(text), "%llu", (unsigned long long)now);
            c->sent = step;
            c->body = lease_body(&c->lease, clock_of(c), text);
            if (!is_slow) {
                answer(c);
            }
        }
    }
}

static void pass(uint64_t ms, unsigned who) {
    for (uint64_t i = 0; i < ms; i += 100) {
        now += 100 * NS_PER_MS;
        for (size_t k = 0; k < N; k++) {
            if ((who >> k & 1) != 0) {
                run(&all[k], false);
            }
        }
    }
}

static unsigned leaders(void) {
    unsigned mask = 0;
    for (size_t i = 0; i < N; i++) {
        mask |= lease_is_held(&all[i].lease, clock_of(&all[i])) ? 1U << i : 0;
    }
    return mask;
}

static json_int_t spec_int(const char *key) {
    return json_integer_value(json_object_get(json_object_get(server.object, "spec"), key));
}

static void test_one_leads(void **state) {
    pass(100, 1);
    assert_int_equal(leaders(), 1);
    assert_int_equal(spec_int("leaseTransitions"), 0);
    assert_int_equal(spec_int("leaseDurationSeconds"), 15);
    pass(60000, 7);
    assert_int_equal(leaders(), 1);
    assert_string_equal(lease_holder(&all[1].lease), "a");
    assert_int_equal(spec_int("leaseTransitions"), 0);
    assert_true(server.version >= 29 && server.version <= 31); // every 2 s
}

// It goes silent: it is no leader before another one is, 15 s after its last renewal as that one
// saw it.
static void test_takeover(void **state) {
    pass(3000, 7);
    assert_int_equal(leaders(), 1);
    pass(9500, 6);
    assert_int_equal(leaders() & 6, 0);
    pass(2000, 6);
    assert_int_equal(leaders(), 0);
    pass(6500, 6);
    assert_true(leaders() == 2 || leaders() == 4);
    assert_int_equal(spec_int("leaseTransitions"), 1);
    unsigned second = leaders();
    pass(20000, 7); // the first one is back
    assert_int_equal(leaders(), second);
}

static void test_release(void **state) {
    pass(3000, 7);
    json_t *body = lease_release(&all[0].lease, "2026-01-01T00:00:05.000000Z");
    assert_non_null(body);
    assert_true(store(LEASE_UPDATE, body));
    json_decref(body);
    assert_int_equal(leaders(), 0);
    pass(2500, 7);
    assert_true(leaders() == 2 || leaders() == 4); // at the next look
    assert_null(lease_release(&all[leaders() == 2 ? 2 : 1].lease, "x")); // has nothing to release
}

// A write that was on its way while another one took the Lease does not make two leaders.
static void test_late_write(void **state) {
    pass(3000, 1);
    now += 2 * NS_PER_SEC;
    run(&all[0], true); // a renewal that does not arrive for long
    assert_non_null(all[0].body);
    pass(20000, 6);
    assert_true((leaders() & 6) != 0 && (leaders() & 1) == 0);
    answer(&all[0]);
    assert_int_equal(leaders() & 1, 0);
    pass(10000, 7);
    assert_int_equal(leaders() & 1, 0);
}

static void test_server_away(void **state) {
    pass(3000, 7);
    server.is_away = true;
    pass(9000, 7);
    assert_int_equal(leaders(), 1);
    pass(3000, 7);
    assert_int_equal(leaders(), 0);
    server.is_away = false;
    pass(3000, 7); // for whoever is first to come
    assert_true(leaders() != 0 && (leaders() & (leaders() - 1)) == 0);
}

// Deleted, and what others wrote into it is kept.
static void test_deleted_and_labelled(void **state) {
    pass(3000, 3);
    json_object_set_new(json_object_get(server.object, "metadata"), "labels",
                        json_pack("{s:s}", "a", "b"));
    json_object_set_new(json_object_get(server.object, "metadata"), "resourceVersion",
                        json_string("other"));
    pass(5000, 3);
    assert_non_null(json_object_get(json_object_get(server.object, "metadata"), "labels"));
    json_decref(server.object);
    server.object = NULL;
    pass(5000, 3);
    assert_true(leaders() == 1 || leaders() == 2);
}

// Whatever is slow, silent or away: never two.
static void test_random(void **state) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct rand rand;
        rand_seed(&rand, seed);
        for (int i = 0; i < 600; i++) {
            now += rand_below(&rand, 1500) * NS_PER_MS;
            server.is_away = rand_chance(&rand, 1, 10);
            for (size_t k = 0; k < N; k++) {
                if (all[k].body != NULL && rand_chance(&rand, 1, 3)) {
                    answer(&all[k]);
                } else if (rand_chance(&rand, 2, 3)) {
                    run(&all[k], all[k].body != NULL || rand_chance(&rand, 1, 2));
                }
                assert_true((leaders() & (leaders() - 1)) == 0);
            }
        }
        teardown(state);
        setup(state);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_leads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_takeover, setup, teardown),
        cmocka_unit_test_setup_teardown(test_release, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_server_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleted_and_labelled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
