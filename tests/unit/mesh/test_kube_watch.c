// SPDX-License-Identifier: Apache-2.0
//
// List and watch against a server of ours, over HTTP/1.1: each case says what the server answers
// and what the watch asks for next.
#include "common/mesh/kube_watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "tests/unit/mesh/kube_bed.h"

struct fixture {
    struct http_bed bed;
    struct kube_client *client;
    struct kube_watch watch;
    struct arena scratch;
    struct rand rand;
    struct buf log; // what the watch told: "begin;+a=1;-b;end;"
    uint32_t n_seen; // requests of the bed that were looked at
};

static struct fixture *of(struct kube_watch *watch) {
    return CONTAINER_OF(watch, struct fixture, watch);
}

static const char *field(const struct cfg_node *object, const char *path) {
    return cfg_str(cfg_find(object, path, NULL), "?");
}

static void on_begin(struct kube_watch *watch) {
    buf_append_str(&of(watch)->log, "begin;");
}

static void on_set(struct kube_watch *watch, const struct cfg_node *object) {
    assert_string_equal(field(object, "apiVersion"), "example.io/v1");
    assert_string_equal(field(object, "kind"), "Thing");
    buf_printf(&of(watch)->log, "+%s=%s;", field(object, "metadata.name"),
               field(object, "metadata.resourceVersion"));
}

static void on_del(struct kube_watch *watch, const struct cfg_node *object) {
    buf_printf(&of(watch)->log, "-%s;", field(object, "metadata.name"));
}

static void on_end(struct kube_watch *watch) {
    buf_append_str(&of(watch)->log, "end;");
}

static const struct kube_watch_ops ops = {
    .begin = on_begin, .set = on_set, .del = on_del, .end = on_end};

static void fixture_init(struct fixture *f, const char *versions) {
    memset(f, 0, sizeof(*f));
    http_bed_open(&f->bed);
    f->client = kube_bed_client(&f->bed);
    arena_init(&f->scratch, 1 << 30);
    rand_seed(&f->rand, 1);
    buf_init(&f->log, 4096);
    struct kube_watch_params params = {
        .loop = &f->bed.loop,
        .client = f->client,
        .ops = &ops,
        .rand = &f->rand,
        .scratch = &f->scratch,
        .group = "example.io",
        .kind = "Thing",
        .plural = "things",
        .versions = versions,
        .ns = "shop",
        .page_limit = 2,
        .watch_s = 300,
        .grace_ms = 30000,
        .list_ms = 20000,
        .absent_ms = 100,
    };
    kube_watch_init(&f->watch, &params);
    f->watch.backoff.min_ms = 40;
    kube_watch_start(&f->watch);
}

static void fixture_fini(struct fixture *f) {
    kube_watch_fini(&f->watch);
    kube_client_free(f->client);
    http_bed_close(&f->bed);
    arena_fini(&f->scratch);
    buf_fini(&f->log);
}

// Waits for the next request, for as long as a back-off takes; it has to be for `query`.
static struct bed_request *next(struct fixture *f, const char *version, const char *query) {
    char path[600];
    uint32_t n = f->n_seen++;
    BED_WAIT(&f->bed, f->bed.n_requests > n && f->bed.requests[n].is_whole);
    assert_int_equal(f->bed.n_requests, n + 1); // never two at a time
    struct bed_request *request = &f->bed.requests[n];
    snprintf(path, sizeof(path), "/apis/example.io/%s/namespaces/shop/things%s%s", version,
             query[0] != '\0' ? "?" : "", query);
    char *timeout = strstr(request->path, "&timeoutSeconds=");
    if (timeout != NULL) {
        uint64_t seconds = 0;
        assert_true(slice_to_u64(slice_str(timeout + 16), 600, &seconds) && seconds >= 300);
        *timeout = '\0';
    }
    assert_string_equal(request->path, path);
    return request;
}

#define ITEM(name, version)                                                                        \
    "{\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" version "\"}}"
#define LIST(version, items)                                                                       \
    "{\"kind\":\"ThingList\",\"metadata\":{\"resourceVersion\":\"" version "\"},\"items\":[" items \
    "]}"
#define PAGE(version, token, items)                                                                \
    "{\"items\":[" items "],\"metadata\":{\"resourceVersion\":\"" version                          \
    "\",\"continue\":\"" token "\"}}"
#define EVENT(type, name, version)                                                                 \
    "{\"type\":\"" type "\",\"object\":{\"apiVersion\":\"example.io/v1\",\"kind\":\"Thing\","      \
    "\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" version "\"}}}\n"
#define GONE                                                                                       \
    "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}}\n"
#define LIST_0 "limit=2&resourceVersion=0"
#define WATCH(version) "watch=1&allowWatchBookmarks=true&resourceVersion=" version

static void wait_log(struct fixture *f, const char *want) {
    BED_WAIT(&f->bed, f->log.len >= strlen(want));
    assert_string_equal(buf_cstr(&f->log), want);
    buf_clear(&f->log);
}

// A list of one object at version 5, and the watch that follows.
static struct bed_request *begin(struct fixture *f) {
    bed_reply(next(f, "v1", LIST_0), 200, LIST("5", ITEM("a", "3")), true);
    struct bed_request *watch = next(f, "v1", WATCH("5"));
    wait_log(f, "begin;+a=3;end;");
    assert_true(f->watch.has_synced);
    assert_int_equal(f->watch.state, KUBE_WATCH_WATCHING);
    return watch;
}

static void test_pages(void **state) {
    struct fixture f;
    fixture_init(&f, "v1");
    assert_false(f.watch.has_synced);
    bed_reply(next(&f, "v1", LIST_0), 200, PAGE("5", "to/2", ITEM("a", "1") "," ITEM("b", "2")),
              true);
    struct bed_request *page = next(&f, "v1", "limit=2&continue=to%2F2");
    assert_false(f.watch.has_synced);
    bed_reply(page, 200, LIST("5", ITEM("c", "3")), true);
    next(&f, "v1", WATCH("5"));
    wait_log(&f, "begin;+a=1;+b=2;+c=3;end;");
    assert_int_equal(f.watch.n_lists, 1);
    fixture_fini(&f);
}

static void test_events(void **state) {
    struct fixture f;
    fixture_init(&f, "v1");
    struct bed_request *watch = begin(&f);
    bed_reply(watch, 200, EVENT("ADDED", "b", "6") "{\"type\":\"MODI", false);
    wait_log(&f, "+b=6;"); // without waiting for what follows
    bed_reply(watch, 0,
              "FIED\",\"object\":{\"apiVersion\":\"example.io/v1\",\"kind\":\"Thing\","
              "\"metadata\":{\"name\":\"b\",\"resourceVersion\":\"7\"}}}",
              false);
    wait_log(&f, "+b=7;");
    // One that was overtaken, one twice, and only a bookmark.
    bed_reply(watch, 0,
              EVENT("MODIFIED", "b", "6") EVENT("DELETED", "b", "8") EVENT("DELETED", "b", "8")
                  EVENT("BOOKMARK", "", "12"),
              true);
    next(&f, "v1", WATCH("12")); // goes on from the bookmark, without a list
    wait_log(&f, "-b;-b;");
    assert_int_equal(f.watch.n_stale, 1);
    assert_int_equal(f.watch.n_events[KUBE_BOOKMARK], 1);
    assert_int_equal(f.watch.n_lists, 1);
    assert_int_equal(f.watch.n_failures, 0);
    fixture_fini(&f);
}

// Cut within an event: what was whole counts, and the next watch goes on behind it.
static void test_cut(void **state) {
    struct fixture f;
    fixture_init(&f, "v1");
    struct bed_request *watch = begin(&f);
    bed_reply(watch, 200, EVENT("ADDED", "b", "6") "{\"type\":\"ADDED\",\"object\":{\"me", false);
    wait_log(&f, "+b=6;");
    http_bed_cut(&f.bed);
    BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_WAITING);
    assert_non_null(strstr(f.watch.problem, "the connection was lost"));
    watch = next(&f, "v1", WATCH("6"));
    bed_reply(watch, 200, "", false);
    BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_WATCHING); // also without an event
    assert_string_equal(f.watch.problem, "");
    // The same in order: chunks that end early.
    bed_reply(watch, 0, "{\"type\":", true);
    next(&f, "v1", WATCH("6"));
    assert_non_null(strstr(f.watch.problem, "within an event"));
    fixture_fini(&f);
}

// What is known is too old: a list again, and one from the store if that does not help.
static void test_gone(void **state) {
    struct fixture f;
    fixture_init(&f, "v1");
    struct bed_request *watch = begin(&f);
    f.watch.listed_at = 1; // long ago
    bed_reply(watch, 200, GONE, false);
    struct bed_request *list = next(&f, "v1", "limit=2");
    assert_int_equal(f.watch.n_failures, 0);
    bed_reply(list, 200, PAGE("20", "p", ITEM("b", "19")), true);
    // The token of a page expires.
    bed_reply(next(&f, "v1", "limit=2&continue=p"), 410, "{\"reason\":\"Expired\"}", true);
    list = next(&f, "v1", ""); // all at once
    bed_reply(list, 200, LIST("21", ITEM("c", "20")), true);
    watch = next(&f, "v1", WATCH("21"));
    wait_log(&f, "begin;+b=19;begin;+c=20;end;");
    // By status, and at once after the list: that waits.
    bed_reply(watch, 410, "{\"reason\":\"Expired\",\"message\":\"too old\"}", true);
    BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_WAITING);
    assert_non_null(strstr(f.watch.problem, "410 Expired: too old"));
    next(&f, "v1", "");
    assert_true(f.watch.has_synced);
    fixture_fini(&f);
}

static void test_failures(void **state) {
    static const struct {
        uint16_t status;
        const char *body, *problem;
        enum kube_outcome outcome;
    } cases[] = {
        {500, "oops", "status 500: oops", KUBE_BUSY},
        {403, "{\"message\":\"things is forbidden\"}", "things is forbidden", KUBE_FORBIDDEN},
        {200, "not JSON", "no answer of the API", KUBE_BROKEN},
        {200, "{\"items\":[{\"a\":}]}", "not JSON", KUBE_BROKEN},
        {200, "{\"items\":[{}", "before it was whole", KUBE_OK},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        fixture_init(&f, "v1");
        bed_reply(next(&f, "v1", LIST_0), cases[i].status, cases[i].body, true);
        BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_WAITING);
        assert_non_null(strstr(f.watch.problem, cases[i].problem));
        assert_int_equal(f.watch.outcome, cases[i].outcome);
        assert_false(f.watch.has_synced);
        bool is_lost = cases[i].outcome == KUBE_BROKEN;
        bed_reply(next(&f, "v1", is_lost ? "limit=2" : LIST_0), 200, LIST("5", ""), true);
        next(&f, "v1", WATCH("5"));
        assert_string_equal(f.watch.problem, "");
        assert_true(f.watch.has_synced);
        fixture_fini(&f);
    }
}

// Of a watch: what is known stays, and only what makes it doubtful is listed again.
static void test_watch_failures(void **state) {
    static const struct {
        uint16_t status;
        const char *body, *problem, *next;
    } cases[] = {
        {500, "oops", "status 500: oops", WATCH("5")},
        {200, "garbage", "no answer of the API", "limit=2"},
        {200, "{\"type\":\"PARTY\",\"object\":{}}", "no event", "limit=2"},
        {200, "{\"type\":\"ADDED\",\"object\":7}", "no event", "limit=2"},
        {200, "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"message\":\"etcd\"}}", "etcd",
         WATCH("5")},
        {200, "", "ended at once", WATCH("5")},
        {504, "{\"reason\":\"Timeout\",\"message\":\"Too large resource version: 5\"}", "Too large",
         "limit=2"},
        {404, "", "404", "limit=2&resourceVersion=5"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        fixture_init(&f, "v1");
        // A watch that has not ended is given up.
        bool is_open = cases[i].status == 200 && cases[i].body[0] != '\0';
        bed_reply(begin(&f), cases[i].status, cases[i].body, !is_open);
        BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_WAITING);
        assert_non_null(strstr(f.watch.problem, cases[i].problem));
        next(&f, "v1", cases[i].next);
        assert_true(f.watch.has_synced);
        assert_int_equal(f.log.len > 0, strncmp(cases[i].next, "limit", 5) == 0); // "begin;"
        fixture_fini(&f);
    }
}

// The connection is open, and nothing comes any more, also not the end that was asked for: it is
// given up, and goes on from where it was.
static void test_hanging_watch(void **state) {
    struct fixture f;
    fixture_init(&f, "v1");
    f.watch.params.watch_s = 1;
    f.watch.params.grace_ms = 50;
    bed_reply(next(&f, "v1", LIST_0), 200, LIST("5", ITEM("a", "3")), true);
    BED_WAIT(&f.bed, f.bed.n_requests == 2 && f.bed.requests[1].is_whole);
    uint64_t since = clock_mono_ns();
    bed_reply(&f.bed.requests[1], 200, EVENT("ADDED", "b", "6"), false);
    for (int i = 0; i < 200000 && f.bed.n_requests < 3; i++) {
        http_bed_turn(&f.bed);
    }
    uint64_t ms = (clock_mono_ns() - since) / NS_PER_MS;
    assert_int_equal(f.bed.n_requests, 3);
    assert_true(ms >= 1000); // 1 to 2 s as was asked for, the grace, and a pause
    assert_true(f.bed.requests[1].is_gone);
    assert_non_null(strstr(f.bed.requests[2].path, WATCH("6")));
    assert_int_equal(f.watch.n_lists, 1);
    fixture_fini(&f);
}

// A group that is not installed, comes, and goes.
static void test_absent(void **state) {
    struct fixture f;
    fixture_init(&f, "v1 v1beta1");
    bed_reply(next(&f, "v1", LIST_0), 404, "404 page not found", true);
    bed_reply(next(&f, "v1beta1", LIST_0), 404, "", true);
    BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_ABSENT);
    assert_true(f.watch.has_synced); // nothing to wait for
    assert_string_equal(f.watch.problem, "");
    wait_log(&f, "begin;end;");
    bed_reply(next(&f, "v1", LIST_0), 404, "", true);
    bed_reply(next(&f, "v1beta1", LIST_0), 404, "", true);
    bed_reply(next(&f, "v1", LIST_0), 200, LIST("5", ITEM("a", "3")), true);
    struct bed_request *watch = next(&f, "v1", WATCH("5"));
    wait_log(&f, "begin;+a=3;end;");
    assert_int_equal(f.watch.state, KUBE_WATCH_WATCHING);
    bed_reply(watch, 404, "", true);
    // Twice in a row, since it was there.
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            bed_reply(next(&f, "v1beta1", "limit=2&resourceVersion=5"), 404, "", true);
            BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_WAITING);
        } else {
            bed_reply(next(&f, "v1", "limit=2&resourceVersion=5"), 404, "", true);
            bed_reply(next(&f, "v1beta1", "limit=2&resourceVersion=5"), 404, "", true);
        }
    }
    BED_WAIT(&f.bed, f.watch.state == KUBE_WATCH_ABSENT);
    wait_log(&f, "begin;end;");
    fixture_fini(&f);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),    cmocka_unit_test(test_events),
        cmocka_unit_test(test_cut),      cmocka_unit_test(test_gone),
        cmocka_unit_test(test_failures), cmocka_unit_test(test_watch_failures),
        cmocka_unit_test(test_absent),   cmocka_unit_test(test_hanging_watch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
