// SPDX-License-Identifier: Apache-2.0
//
// All watches of a waypoint against a server of ours, which has lists of objects, refuses what the
// test says, and tells of changes.
#include "common/mesh/source_kube.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/kobj.h"
#include "tests/unit/mesh/kube_bed.h"

enum { KINDS_MAX = 24, NOTES_MAX = 16 };

struct listed { // what the server has of a kind
    const char *plural;
    const char *items;
    uint16_t status; // instead of a list; 0: a list
    bool is_silent; // no answer
};

static struct fixture {
    struct http_bed bed;
    struct kube_client *client;
    struct source_kube *source;
    struct listed kinds[KINDS_MAX];
    uint32_t n_kinds;
    uint32_t n_batches, n_added, n_changed, n_removed, n_news;
    char notes[NOTES_MAX][400]; // "ABSENT telemetries: ..."
    uint32_t n_notes;
} f;

// ---- the server

static struct listed *kind_named(const char *plural) {
    for (uint32_t i = 0; i < f.n_kinds; i++) {
        if (strcmp(f.kinds[i].plural, plural) == 0) {
            return &f.kinds[i];
        }
    }
    assert_true(f.n_kinds < KINDS_MAX);
    f.kinds[f.n_kinds] = (struct listed){.plural = plural, .items = ""};
    return &f.kinds[f.n_kinds++];
}

static void plural_of(const char *path, char plural[64]) {
    size_t len = strcspn(path, "?");
    size_t at = len;
    while (at > 0 && path[at - 1] != '/') {
        at--;
    }
    snprintf(plural, 64, "%.*s", (int)(len - at), path + at);
}

static bool is_watch(const struct bed_request *request) {
    return strstr(request->path, "watch=1") != NULL;
}

static void on_request(struct http_bed *bed, struct bed_request *request) {
    char plural[64], body[8192];
    plural_of(request->path, plural);
    const struct listed *kind = NULL;
    for (uint32_t i = 0; i < f.n_kinds; i++) {
        kind = strcmp(f.kinds[i].plural, plural) == 0 ? &f.kinds[i] : kind;
    }
    if (kind != NULL && kind->is_silent) {
        return;
    }
    if (kind != NULL && kind->status != 0) {
        bed_reply(request, kind->status, "{\"message\":\"not now\"}", true);
        return;
    }
    if (is_watch(request)) {
        bed_reply(request, 200, "", false);
        return;
    }
    snprintf(body, sizeof(body), "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[%s]}",
             kind != NULL && strstr(request->path, "/istio-system/") == NULL ? kind->items : "");
    bed_reply(request, 200, body, true);
}

// The watch of a kind that is open; NULL: there is none.
static struct bed_request *watch_of(const char *plural) {
    for (uint32_t i = f.bed.n_requests; i-- > 0;) {
        struct bed_request *request = &f.bed.requests[i];
        char have[64];
        plural_of(request->path, have);
        if (strcmp(have, plural) == 0 && is_watch(request) && !request->is_gone &&
            strstr(request->path, "/istio-system/") == NULL) {
            return request;
        }
    }
    return NULL;
}

static uint32_t n_asked(const char *part) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < f.bed.n_requests; i++) {
        n += strstr(f.bed.requests[i].path, part) != NULL && !is_watch(&f.bed.requests[i]);
    }
    return n;
}

static void say(const char *plural, const char *event) {
    BED_WAIT(&f.bed, watch_of(plural) != NULL);
    bed_reply(watch_of(plural), 0, event, false);
}

// ---- the client

static void on_batch(void *arg, const struct config_diff *diff) {
    f.n_batches++;
    f.n_added += diff->n_added;
    f.n_changed += diff->n_changed;
    f.n_removed += diff->n_removed;
    f.n_news += source_kube_news(f.source)->n;
}

static void on_notice(void *arg, enum source_kube_notice notice, const struct kube_watch *watch,
                      const char *without) {
    static const char *const names[] = {"AWAY",   "BACK",  "FAILS",  "WORKS",
                                        "ABSENT", "FOUND", "REFUSED"};
    assert_true(f.n_notes < NOTES_MAX);
    snprintf(f.notes[f.n_notes++], sizeof(f.notes[0]), "%s %s%s%s", names[notice],
             watch->params.plural, without[0] != '\0' ? ": " : "", without);
}

static bool was_told(const char *text) {
    for (uint32_t i = 0; i < f.n_notes; i++) {
        if (strncmp(f.notes[i], text, strlen(text)) == 0) {
            return true;
        }
    }
    return false;
}

static int setup(void **state) {
    memset(&f, 0, sizeof(f));
    http_bed_open(&f.bed);
    f.bed.on_request = on_request;
    f.client = kube_bed_client(&f.bed);
    return 0;
}

static int teardown(void **state) {
    source_kube_free(f.source);
    kube_client_free(f.client);
    http_bed_close(&f.bed);
    return 0;
}

static char *open_source(const char *namespaces, const char *mesh_config) {
    char *error = NULL;
    struct source_kube_params params = {.loop = &f.bed.loop,
                                        .client = f.client,
                                        .kobj_flags = KOBJ_LEAN,
                                        .ns = "shop",
                                        .root_ns = "istio-system",
                                        .namespaces = namespaces,
                                        .mesh_config = mesh_config,
                                        .on_batch = on_batch,
                                        .on_notice = on_notice};
    f.source = source_kube_new(&params, &error);
    assert_true((f.source == NULL) == (error != NULL));
    return error;
}

static void start(void) {
    assert_null(open_source(NULL, "istio"));
    assert_false(source_kube_is_synced(f.source));
    BED_WAIT(&f.bed, source_kube_is_synced(f.source));
}

static void turns(int n) {
    for (int i = 0; i < n; i++) {
        http_bed_turn(&f.bed);
    }
}

static bool has(enum kobj_kind kind, const char *ns, const char *name) {
    return config_store_get(source_kube_store(f.source), kind, ns, name) != NULL;
}

#define OBJECT(api, kind, name, rest)                                                              \
    "{\"apiVersion\":\"" api "\",\"kind\":\"" kind "\",\"metadata\":{\"name\":\"" name             \
    "\",\"namespace\":\"shop\",\"resourceVersion\":\"20\"}" rest "}"
#define SERVICE(name) OBJECT("v1", "Service", name, ",\"spec\":{\"ports\":[{\"port\":80}]}")
#define ROUTE(name, rest)                                                                          \
    OBJECT("gateway.networking.k8s.io/v1", "HTTPRoute", name, ",\"spec\":{" rest "}")
#define RULE(name, secret)                                                                         \
    OBJECT("networking.istio.io/v1", "DestinationRule", name,                                      \
           ",\"spec\":{\"host\":\"out\",\"trafficPolicy\":{\"tls\":{\"mode\":\"SIMPLE\","          \
           "\"credentialName\":\"" secret "\"}}}")
#define GOOD "\"parentRefs\":[{\"group\":\"\",\"kind\":\"Service\",\"name\":\"web\"}]"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"

// ---- what is read

// Nothing is handed out before each kind was read; then it is all at once.
static void test_first_batch(void **state) {
    kind_named("services")->items = SERVICE("web");
    kind_named("httproutes")->items = ROUTE("r", GOOD);
    struct listed *pods = kind_named("pods");
    pods->status = 500;
    assert_null(open_source(NULL, "istio"));
    BED_WAIT(&f.bed, watch_of("services") != NULL && watch_of("httproutes") != NULL &&
                         watch_of("endpointslices") != NULL && was_told("FAILS pods"));
    turns(100);
    assert_int_equal(f.n_batches, 0);
    assert_false(source_kube_is_synced(f.source));
    pods->status = 0;
    BED_WAIT(&f.bed, source_kube_is_synced(f.source));
    assert_int_equal(f.n_batches, 1);
    assert_int_equal(f.n_added, 2);
    assert_true(has(KOBJ_SERVICE, "shop", "web") && has(KOBJ_HTTP_ROUTE, "shop", "r"));
    BED_WAIT(&f.bed, was_told("WORKS pods"));
    // Of all namespaces, of those that are served, by name.
    assert_int_equal(n_asked("/api/v1/services?"), 1);
    assert_int_equal(n_asked("/v1/namespaces/shop/httproutes?"), 1);
    assert_int_equal(n_asked("/v1/namespaces/istio-system/httproutes?"), 1);
    assert_int_equal(n_asked("/istio-system/configmaps?fieldSelector=metadata.name%3Distio&"), 1);
    assert_int_equal(n_asked("secrets"), 0);
}

static void test_namespaces(void **state) {
    static const char *const bad[] = {"a,B", "a,,b", "a b", ",", "a/b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *error = open_source(bad[i], "istio");
        assert_non_null(error);
        assert_non_null(strstr(error, "is no list of namespaces"));
        free(error);
    }
    assert_null(open_source("a, b,a", "istio-canary"));
    BED_WAIT(&f.bed, source_kube_is_synced(f.source));
    assert_int_equal(n_asked("/namespaces/a/virtualservices?"), 1);
    assert_int_equal(n_asked("/namespaces/b/virtualservices?"), 1);
    assert_int_equal(n_asked("/namespaces/shop/virtualservices?"), 0);
    assert_int_equal(n_asked("fieldSelector=metadata.name%3Distio-canary&"), 1);
    source_kube_free(f.source);
    assert_null(open_source("*", "istio"));
    BED_WAIT(&f.bed, source_kube_is_synced(f.source));
    assert_int_equal(n_asked("/v1/virtualservices?"), 1);
}

// ---- changes

static void test_changes(void **state) {
    kind_named("services")->items = SERVICE("web");
    start();
    f.n_batches = f.n_added = 0;
    say("services", EVENT("ADDED", SERVICE("a")) EVENT("ADDED", SERVICE("b")));
    say("httproutes", EVENT("ADDED", ROUTE("r", GOOD)));
    say("services", EVENT("ADDED", SERVICE("c")));
    BED_WAIT(&f.bed, f.n_batches > 0);
    assert_int_equal(f.n_batches, 1); // one burst
    assert_int_equal(f.n_added, 4);
    say("services", EVENT("DELETED", SERVICE("web")));
    BED_WAIT(&f.bed, f.n_removed == 1);
    assert_false(has(KOBJ_SERVICE, "shop", "web"));
    // A list, by which what is not in it goes.
    kind_named("services")->items = SERVICE("b") "," SERVICE("d");
    http_bed_cut(&f.bed);
    say("services", "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410}}\n");
    BED_WAIT(&f.bed, has(KOBJ_SERVICE, "shop", "d") && !has(KOBJ_SERVICE, "shop", "a"));
    assert_true(has(KOBJ_SERVICE, "shop", "b"));
}

struct seen {
    uint32_t n;
    uint64_t version;
    char text[200];
};

static void see(void *arg, const struct config_errors *errors, uint64_t version) {
    struct seen *seen = arg;
    seen->n++;
    seen->version = version;
    snprintf(seen->text, sizeof(seen->text), "%s", errors->items[0].object);
}

static struct seen problems(void) {
    struct seen seen = {0};
    source_kube_each_problem(f.source, see, &seen);
    return seen;
}

// What is broken keeps its last good version; its problem is news once, and told anew as often as
// it comes.
static void test_broken(void **state) {
    static const char broken[] = EVENT("MODIFIED", ROUTE("r", "\"parentRefs\":7"));
    kind_named("httproutes")->items = ROUTE("r", GOOD);
    start();
    f.n_batches = f.n_news = 0;
    say("httproutes", broken);
    BED_WAIT(&f.bed, f.n_batches == 1);
    uint32_t n_news = f.n_news;
    assert_true(n_news > 0);
    assert_true(has(KOBJ_HTTP_ROUTE, "shop", "r"));
    struct seen first = problems();
    assert_int_equal(first.n, 1);
    assert_string_equal(first.text, "HTTPRoute shop/r");
    say("httproutes", broken);
    BED_WAIT(&f.bed, f.n_batches == 2);
    assert_int_equal(f.n_news, n_news);
    assert_true(problems().version > first.version);
    say("httproutes", EVENT("MODIFIED", ROUTE("r", GOOD)));
    BED_WAIT(&f.bed, f.n_batches == 3);
    assert_int_equal(problems().n, 0);
    say("httproutes", EVENT("ADDED", ROUTE("s", "\"rules\":7")));
    BED_WAIT(&f.bed, f.n_batches == 4);
    assert_int_equal(problems().n, 1);
    assert_false(has(KOBJ_HTTP_ROUTE, "shop", "s"));
    say("httproutes", EVENT("DELETED", ROUTE("s", "\"rules\":7")));
    BED_WAIT(&f.bed, f.n_batches == 5);
    assert_int_equal(problems().n, 0);
}

static bool is_watched(const char *name) {
    char part[100];
    snprintf(part, sizeof(part), "fieldSelector=metadata.name%%3D%s&", name);
    return n_asked(part) > 0;
}

static void count_secrets(void *arg, const struct kube_watch *watch, bool needed) {
    *(uint32_t *)arg += strcmp(watch->params.plural, "secrets") == 0;
    assert_true(needed != (strcmp(watch->params.plural, "secrets") == 0));
}

static uint32_t n_secrets(void) {
    uint32_t n = 0;
    source_kube_each(f.source, count_secrets, &n);
    return n;
}

// By the names that rules have, each with its CA, for as long as they do.
static void test_secrets(void **state) {
    kind_named("destinationrules")->items = RULE("d", "one");
    start();
    assert_true(is_watched("one") && is_watched("one-cacert"));
    assert_int_equal(n_secrets(), 2);
    say("destinationrules", EVENT("ADDED", RULE("e", "one")) EVENT("MODIFIED", RULE("d", "two")));
    BED_WAIT(&f.bed, is_watched("two") && n_secrets() == 4);
    say("destinationrules", EVENT("DELETED", RULE("e", "one")));
    BED_WAIT(&f.bed, n_secrets() == 2);
}

// ---- what may be missing

// A kind that is not installed counts as read; it is told once for all namespaces.
static void test_absent(void **state) {
    kind_named("grpcroutes")->status = 404;
    start();
    assert_int_equal(f.n_notes, 1);
    assert_string_equal(f.notes[0], "ABSENT grpcroutes");
}

// What is not essential may be refused: it is told what is missing for it, and tried again.
static void test_refused(void **state) {
    static const char *const kinds[] = {"nodes", "gatewayclasses", "referencegrants",
                                        "requestauthentications", "telemetries"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        kind_named(kinds[i])->status = 403;
    }
    start();
    assert_int_equal(f.n_batches, 1);
    assert_int_equal(f.n_notes, ARRAY_LEN(kinds)); // not for each namespace
    assert_true(was_told("REFUSED nodes: "));
    assert_true(was_told("REFUSED referencegrants: no route may use Services of other namespaces"));
    kind_named("nodes")->status = 0;
    BED_WAIT(&f.bed, was_told("WORKS nodes"));
    assert_true(source_kube_is_synced(f.source));
}

static void test_refused_and_essential(void **state) {
    static const char *const kinds[] = {"pods", "services", "authorizationpolicies", "configmaps"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        setup(NULL);
        kind_named(kinds[i])->status = 403;
        assert_null(open_source(NULL, "istio"));
        char note[80];
        snprintf(note, sizeof(note), "FAILS %s", kinds[i]);
        BED_WAIT(&f.bed, was_told(note) && watch_of("telemetries") != NULL);
        turns(100);
        assert_false(source_kube_is_synced(f.source));
        assert_int_equal(f.n_batches, 0);
        kind_named(kinds[i])->status = 0;
        BED_WAIT(&f.bed, source_kube_is_synced(f.source));
        teardown(NULL);
    }
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_first_batch), TEST(test_namespaces),
        TEST(test_changes),     TEST(test_broken),
        TEST(test_secrets),     TEST(test_absent),
        TEST(test_refused),     cmocka_unit_test(test_refused_and_essential),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
