// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/identity.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_cert.h"
#include "tests/unit/mesh/mesh_fixture.h"

#define ALICE "spiffe://cluster.local/ns/a/sa/alice"
#define BOB "spiffe://cluster.local/ns/a/sa/bob"
enum { TTL = 1000, DAY = 24 * 3600 };
static const int64_t START = 1800000000;

// A CA that answers when the test says so, or at once, or with an error.
static struct {
    struct ca ca;
    struct tls_ca *tls;
    bool is_async;
    const char *error;
    struct ca_request *waiting[64];
    unsigned n_waiting, n_issues, n_cancels;
    const char *other_id; // answers with a certificate of this one
    const char *roots_pem; // and with these; NULL: its own
} fake;

static void answer(struct ca_request *request) {
    struct ca_answer a = {.error = fake.error};
    struct tls_svid svid;
    char *error = NULL;
    if (fake.error != NULL) {
        request->done(request, &a);
        return;
    }
    const char *id = fake.other_id != NULL ? fake.other_id : request->spiffe_id;
    if (!tls_ca_sign(fake.tls, slice_str(id), request->now_wall_s, request->ttl_s, &svid, &error)) {
        fail_msg("%s", error);
    }
    a.cert_chain_pem = slice_str(svid.cert_chain_pem);
    a.key_pem = slice_str(svid.key_pem);
    a.roots_pem = slice_str(fake.roots_pem != NULL ? fake.roots_pem : svid.roots_pem);
    request->done(request, &a);
    tls_svid_fini(&svid);
}

static void fake_issue(struct ca *ca, struct ca_request *request) {
    fake.n_issues++;
    if (fake.is_async) {
        assert_true(fake.n_waiting < ARRAY_LEN(fake.waiting));
        fake.waiting[fake.n_waiting++] = request;
    } else {
        answer(request);
    }
}

static void fake_cancel(struct ca *ca, struct ca_request *request) {
    for (unsigned i = 0; i < fake.n_waiting; i++) {
        if (fake.waiting[i] == request) {
            fake.waiting[i] = fake.waiting[--fake.n_waiting];
            fake.n_cancels++;
            return;
        }
    }
    fail();
}

static void answer_all(void) {
    unsigned n = fake.n_waiting;
    fake.n_waiting = 0;
    for (unsigned i = 0; i < n; i++) {
        answer(fake.waiting[i]);
    }
}

static struct identity_manager *m;
static uint64_t mono;
static int64_t wall;
static unsigned n_events[4], n_new_roots;
static const char *last_label;

static void on_event(void *arg, const struct identity_event *event) {
    n_events[event->kind]++;
    n_new_roots += event->has_new_roots;
    last_label = event->label;
}

static int setup(void **state) {
    static const struct ca_ops ops = {fake_issue, fake_cancel};
    char *cert, *key, *error = NULL;
    memset(&fake, 0, sizeof(fake));
    memset(n_events, 0, sizeof(n_events));
    n_new_roots = 0;
    fake.ca.ops = &ops;
    mono = 1000 * NS_PER_SEC;
    wall = START;
    tls_ca_make_root(SLICE_LIT("cluster.local"), START - 30 * DAY, &cert, &key);
    struct tls_ca_params params = {
        .ca_cert_pem = slice_str(cert), .ca_key_pem = slice_str(key), .now_s = START};
    fake.tls = tls_ca_new(&params, &error);
    assert_non_null(fake.tls);
    free(cert);
    tls_key_pem_free(key);
    fx_init();
    struct identity_manager_params manager = {
        .ca = &fake.ca, .ttl_s = TTL, .seed = 1, .on_event = on_event};
    m = identity_manager_new(&manager);
    return 0;
}

static int teardown(void **state) {
    identity_manager_free(m);
    fx_fini();
    tls_ca_free(fake.tls);
    return 0;
}

static uint64_t tick(void) {
    return identity_manager_tick(m, mono, wall);
}

// Both clocks go on; ticks at each deadline as the control thread would.
static void pass(int64_t seconds) {
    uint64_t end = mono + (uint64_t)seconds * NS_PER_SEC;
    uint64_t deadline = tick();
    unsigned n_ticks = 0;
    while (deadline <= end) {
        assert_true(++n_ticks < 100000);
        uint64_t step = deadline > mono ? deadline - mono : 0;
        static uint64_t rest; // of a second
        mono += step;
        rest += step;
        wall += (int64_t)(rest / NS_PER_SEC);
        rest %= NS_PER_SEC;
        deadline = tick();
    }
    wall += (int64_t)((end - mono) / NS_PER_SEC);
    mono = end;
}

static struct identity *published(const char *id) {
    return snapshot_identity(snapshot_current(), id);
}

static bool copy_info(void *arg, const struct identity_info *info) {
    *(struct identity_info *)arg = *info;
    return false;
}

static struct identity_info info(void) {
    struct identity_info result = {0};
    identity_manager_each(m, copy_info, &result);
    return result;
}

static void test_life(void **state) {
    identity_manager_want(m, ALICE, 1);
    identity_manager_want(m, ALICE, 1);
    identity_manager_want(m, BOB, 1);
    assert_null(published(ALICE));
    uint64_t deadline = tick();
    assert_true(deadline > mono && deadline <= mono + 60 * NS_PER_SEC);
    assert_int_equal(published(ALICE)->state, IDENTITY_READY);
    assert_slice_equal(tls_ctx_identity(published(ALICE)->tls), ALICE);
    assert_non_null(strstr(published(ALICE)->chain_pem, "BEGIN CERTIFICATE"));
    assert_non_null(strstr(published(ALICE)->roots_pem, "BEGIN CERTIFICATE"));
    assert_int_equal(fake.n_issues, 2);

    identity_manager_want(m, ALICE, -1);
    tick();
    assert_non_null(published(ALICE)); // one user is left
    identity_manager_want(m, ALICE, -1);
    tick();
    assert_null(published(ALICE));
    assert_non_null(published(BOB));
    assert_int_equal(n_events[IDENTITY_EVENT_FORGOTTEN], 1);
}

static void test_renewal(void **state) {
    identity_manager_want(m, ALICE, 1);
    tick();
    struct identity_info first = info();
    assert_in_range(first.renew_at - START, TTL / 2, TTL * 6 / 10);
    struct tls_ctx *old = tls_ctx_ref(published(ALICE)->tls);
    pass(TTL / 2 - 1);
    assert_int_equal(fake.n_issues, 1);
    pass(TTL / 10 + 2);
    assert_int_equal(fake.n_issues, 2);
    assert_ptr_not_equal(published(ALICE)->tls, old);
    tls_ctx_unref(old); // a tunnel may keep it
    assert_int_equal(info().n_issued, 2);
    pass(10 * TTL);
    assert_in_range(fake.n_issues, 16, 23); // about each half life, and no storm
}

static void test_ca_away(void **state) {
    identity_manager_want(m, ALICE, 1);
    tick();
    fake.error = "connection refused";
    pass(TTL * 7 / 10);
    assert_int_equal(published(ALICE)->state, IDENTITY_READY); // still valid
    assert_string_equal(published(ALICE)->error, "connection refused");
    unsigned n = fake.n_issues;
    assert_in_range(n, 4, 14); // backs off
    pass(TTL * 4 / 10);
    assert_int_equal(published(ALICE)->state, IDENTITY_FAILED);
    assert_null(published(ALICE)->tls);
    assert_non_null(strstr(published(ALICE)->error, "expired; renewal: connection refused"));
    assert_int_equal(n_events[IDENTITY_EVENT_EXPIRED], 1);
    pass(20 * 60);
    assert_true(fake.n_issues - n <= 14); // at 150 s intervals by now
    fake.error = NULL;
    pass(181);
    assert_int_equal(published(ALICE)->state, IDENTITY_READY);
    assert_string_equal(published(ALICE)->error, "");
}

static void test_backoff(void **state) {
    uint64_t last = 0, base = NS_PER_SEC, first_at_cap = 0;
    bool differs_at_cap = false;
    fake.error = "no";
    identity_manager_want(m, ALICE, 1);
    for (int i = 0; i < 14; i++) {
        unsigned n = fake.n_issues;
        uint64_t deadline = tick();
        while (fake.n_issues == n) {
            mono = deadline;
            deadline = tick();
        }
        assert_int_equal(published(ALICE)->state, IDENTITY_FAILED);
        uint64_t wait = mono - last;
        if (i > 0) {
            assert_in_range(wait, base * 8 / 10, base * 12 / 10);
            base = MIN(2 * base, 150 * NS_PER_SEC);
        }
        if (i > 9) { // those that wait for the same CA do not come at one time
            first_at_cap = first_at_cap != 0 ? first_at_cap : wait;
            differs_at_cap = differs_at_cap || wait != first_at_cap;
        }
        last = mono;
    }
    assert_true(differs_at_cap);
    assert_int_equal(identity_manager_n_failures(m), fake.n_issues);
}

// Who comes while nobody got a certificate does not wait for the end of a long back-off.
static void test_a_new_user_is_tried_soon(void **state) {
    fake.error = "no such pod on the node";
    identity_manager_want(m, ALICE, 1);
    pass(300);
    assert_int_equal(published(ALICE)->state, IDENTITY_FAILED);
    assert_true(tick() - mono > 10 * NS_PER_SEC);
    unsigned n = fake.n_issues;
    identity_manager_want(m, ALICE, 1);
    assert_true(tick() - mono <= 500 * NS_PER_MS);
    assert_int_equal(published(ALICE)->state, IDENTITY_PENDING);
    assert_string_equal(published(ALICE)->error, "");
    for (int i = 0; i < 100; i++) { // a crowd is one attempt, and then back-off begins anew
        identity_manager_want(m, ALICE, 1);
        tick();
    }
    assert_int_equal(fake.n_issues, n);
    pass(1);
    assert_in_range(fake.n_issues, n + 1, n + 2);
    assert_int_equal(published(ALICE)->state, IDENTITY_FAILED);
    fake.error = NULL;
    identity_manager_want(m, ALICE, 1);
    pass(1);
    assert_int_equal(published(ALICE)->state, IDENTITY_READY);
    n = fake.n_issues; // nor does anybody ask for what is there
    identity_manager_want(m, ALICE, 1);
    pass(10);
    assert_int_equal(fake.n_issues, n);
}

// The clock is set a day ahead, then back.
static void test_clock_jumps(void **state) {
    identity_manager_want(m, ALICE, 1);
    tick();
    wall += DAY;
    tick();
    assert_int_equal(published(ALICE)->state, IDENTITY_READY);
    assert_int_equal(fake.n_issues, 2);
    assert_true(info().not_before <= wall && info().not_after > wall);
    wall -= DAY;
    tick();
    assert_int_equal(fake.n_issues, 3); // the one of tomorrow is not valid yet
    assert_true(info().not_before <= wall && info().not_after > wall);
    pass(60);
    assert_int_equal(fake.n_issues, 3);
    // ahead while the CA is away: told, and repaired when it is back
    fake.error = "away";
    wall += DAY;
    tick();
    assert_int_equal(published(ALICE)->state, IDENTITY_FAILED);
    wall -= DAY;
    fake.error = NULL;
    pass(2);
    assert_int_equal(published(ALICE)->state, IDENTITY_READY);
}

static void test_async(void **state) {
    char id[64];
    fake.is_async = true;
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "spiffe://cluster.local/ns/a/sa/s%d", i);
        identity_manager_want(m, id, 1);
    }
    tick();
    assert_int_equal(fake.n_waiting, 8); // at once
    assert_int_equal(published(id)->state, IDENTITY_PENDING);
    identity_manager_want(m, id, -1);
    for (int i = 0; i < 3; i++) {
        answer_all();
        tick();
    }
    assert_int_equal(fake.n_waiting, 0);
    assert_int_equal(identity_manager_n_issued(m) + fake.n_cancels, fake.n_issues);
    assert_null(published(id));
    assert_int_equal(published("spiffe://cluster.local/ns/a/sa/s0")->state, IDENTITY_READY);
}

static void test_many(void **state) {
    char id[64];
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "spiffe://cluster.local/ns/a/sa/s%d", i);
        identity_manager_want(m, id, 1);
    }
    assert_int_equal(tick(), mono); // more at once: other work comes between
    assert_in_range(fake.n_issues, 16, 64);
    pass(1);
    assert_int_equal(fake.n_issues, 100);
}

static void test_bad_answers(void **state) {
    fake.other_id = BOB;
    identity_manager_want(m, ALICE, 1);
    tick();
    assert_int_equal(published(ALICE)->state, IDENTITY_FAILED);
    assert_non_null(strstr(published(ALICE)->error, "another identity"));
    identity_manager_want(m, "spiffe://no", 1);
    fake.other_id = NULL;
    fake.error = "bad id";
    tick();
    assert_int_equal(published("spiffe://no")->state, IDENTITY_FAILED);
}

static void test_crl_and_reissue(void **state) {
    char *error = NULL;
    identity_manager_want(m, ALICE, 1);
    tick();
    struct tls_ctx *first = tls_ctx_ref(published(ALICE)->tls);
    struct slice serial = SLICE_LIT("1234");
    char *crl = tls_ca_make_crl(fake.tls, &serial, 1, wall, 3600);
    assert_non_null(crl);
    assert_true(identity_manager_set_crl(m, slice_str(crl), &error));
    tick();
    assert_ptr_not_equal(published(ALICE)->tls, first); // rebuilt, not issued
    assert_int_equal(fake.n_issues, 1);
    struct tls_ctx *second = tls_ctx_ref(published(ALICE)->tls);
    assert_true(tls_ctx_generation(second) != tls_ctx_generation(first));

    if (!identity_manager_set_crl(m, SLICE_LIT("garbage"), &error)) {
        assert_non_null(error);
        tick();
        assert_ptr_equal(published(ALICE)->tls, second); // the old list stays
        free(error);
    } else {
        fail_msg("a list that is none was taken");
    }
    identity_manager_reissue(m);
    tick();
    assert_int_equal(fake.n_issues, 2);
    assert_ptr_not_equal(published(ALICE)->tls, second);
    tls_ctx_unref(first);
    tls_ctx_unref(second);
    free(crl);
}

// Other trust domains: contexts are rebuilt, nothing is issued; the same again changes nothing.
static void test_aliases(void **state) {
    const struct slice aliases[] = {SLICE_LIT("old"), SLICE_LIT("older")};
    identity_manager_want(m, ALICE, 1);
    tick();
    struct tls_ctx *first = tls_ctx_ref(published(ALICE)->tls);
    assert_true(identity_manager_set_aliases(m, aliases, 2));
    tick();
    struct tls_ctx *second = tls_ctx_ref(published(ALICE)->tls);
    assert_ptr_not_equal(second, first);
    assert_false(identity_manager_set_aliases(m, aliases, 2));
    assert_true(identity_manager_set_aliases(m, aliases, 1));
    identity_manager_want(m, "spiffe://cluster.local/ns/n/sa/later", 1); // has them, too
    tick();
    assert_ptr_not_equal(published(ALICE)->tls, second);
    assert_true(identity_manager_set_aliases(m, NULL, 0));
    assert_int_equal(fake.n_issues, 2);
    tls_ctx_unref(first);
    tls_ctx_unref(second);
}

// A second root beside the first one: others than the first to get it follow, spread, and once.
static void test_new_roots(void **state) {
    char id[64], *roots;
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "spiffe://cluster.local/ns/n/sa/account-%d", i);
        identity_manager_want(m, id, 1);
    }
    tick();
    assert_int_equal(fake.n_issues, 20);
    assert_int_equal(n_new_roots, 0);
    roots = xasprintf("%s%s", tls_ca_roots_pem(fake.tls), tls_ca_roots_pem(fake.tls));
    fake.roots_pem = roots;
    identity_manager_want(m, ALICE, 1);
    tick();
    assert_int_equal(fake.n_issues, 21);
    assert_int_equal(n_new_roots, 0); // ALICE has no others than before
    pass(10);
    assert_true(fake.n_issues > 21 && fake.n_issues < 41);
    pass(IDENTITY_ROOTS_SPREAD_S);
    assert_int_equal(fake.n_issues, 41);
    assert_int_equal(n_new_roots, 20);
    // A CA that still answers with the old ones, now and then: nobody moves.
    fake.roots_pem = NULL;
    identity_manager_want(m, BOB, 1);
    pass(2 * IDENTITY_ROOTS_SPREAD_S);
    assert_int_equal(fake.n_issues, 42);
    free(roots);
}

// Renewals that a slow CA does not answer leave room for those that have no certificate.
static void test_priority(void **state) {
    char id[64];
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "spiffe://cluster.local/ns/n/sa/account-%d", i);
        identity_manager_want(m, id, 1);
    }
    tick();
    fake.is_async = true;
    identity_manager_reissue(m);
    tick();
    assert_int_equal(fake.n_waiting, 6);
    identity_manager_want(m, ALICE, 1);
    identity_manager_want(m, BOB, 1);
    identity_manager_want(m, "spiffe://cluster.local/ns/n/sa/later", 1);
    tick();
    assert_int_equal(fake.n_waiting, 8);
    assert_int_equal(fake.n_issues, 28);
    answer_all();
    tick(); // the third, and renewals
    assert_int_equal(fake.n_waiting, 7);
    for (int i = 0; i < 4; i++) {
        answer_all();
        tick();
    }
    assert_int_equal(fake.n_issues, 20 + 20 + 3);
}

// What came later than the tick that asked: back-off and validity count from then.
static void test_late_answer(void **state) {
    fake.is_async = true;
    identity_manager_want(m, ALICE, 1);
    tick();
    mono += 20 * NS_PER_SEC;
    wall += 20;
    struct ca_request *request = fake.waiting[--fake.n_waiting];
    struct ca_answer answer = {
        .error = "late", .label = "unavailable", .now_mono_ns = mono, .now_wall_s = wall};
    request->done(request, &answer);
    assert_string_equal(last_label, "unavailable");
    uint64_t due = tick();
    assert_int_equal(fake.n_waiting, 0);
    assert_true(due >= mono + 800 * NS_PER_MS && due <= mono + 1200 * NS_PER_MS);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_life),
        TEST(test_renewal),
        TEST(test_ca_away),
        TEST(test_backoff),
        TEST(test_a_new_user_is_tried_soon),
        TEST(test_async),
        TEST(test_clock_jumps),
        TEST(test_many),
        TEST(test_bad_answers),
        TEST(test_crl_and_reissue),
        TEST(test_aliases),
        TEST(test_new_roots),
        TEST(test_priority),
        TEST(test_late_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
