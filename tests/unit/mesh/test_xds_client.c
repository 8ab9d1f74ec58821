// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "tests/unit/mesh/xds_fixture.h"

#define MS ((uint64_t)1000000)

// What the client told its user. Contents that begin with '!' are refused.

enum { N_NAMES = 64 };
struct seen {
    char names[XDS_N_TYPES][N_NAMES][64], bodies[XDS_N_TYPES][N_NAMES][64];
    int n[XDS_N_TYPES];
    char nack[8192], answered[256];
    int n_applied, n_set, n_del;
};
static struct seen seen;
static struct xds_client *client;

static int find(enum xds_type type, struct slice name) {
    for (int i = 0; i < seen.n[type]; i++) {
        if (slice_eq_str(name, seen.names[type][i])) {
            return i;
        }
    }
    return -1;
}

static bool on_set(void *arg, enum xds_type type, struct slice name, struct slice body,
                   char error[XDS_ERROR_MAX]) {
    if (body.len > 0 && body.ptr[0] == '!') {
        snprintf(error, XDS_ERROR_MAX,
                 "b\xc3\xa4"
                 "d\n");
        return false;
    }
    int i = find(type, name);
    if (i < 0) {
        i = seen.n[type]++;
        assert_true(i < N_NAMES);
    }
    snprintf(seen.names[type][i], 64, "%.*s", SLICE_ARG(name));
    snprintf(seen.bodies[type][i], 64, "%.*s", SLICE_ARG(body));
    seen.n_set++;
    return true;
}

static void on_del(void *arg, enum xds_type type, struct slice name) {
    int i = find(type, name);
    seen.n_del++;
    if (i >= 0) {
        int last = --seen.n[type];
        memcpy(seen.names[type][i], seen.names[type][last], 64);
        memcpy(seen.bodies[type][i], seen.bodies[type][last], 64);
    }
}

static void on_applied(void *arg, enum xds_type type, const char *nack) {
    seen.n_applied++;
    snprintf(seen.nack, sizeof(seen.nack), "%s", nack);
}

static void on_answered(void *arg, struct slice name, bool exists) {
    size_t len = strlen(seen.answered);
    snprintf(seen.answered + len, sizeof(seen.answered) - len, "%s%.*s ", exists ? "+" : "-",
             SLICE_ARG(name));
}

static const struct xds_client_ops ops = {on_set, on_del, on_applied, on_answered};

static void start(bool on_demand, size_t request_max) {
    struct xds_client_params params = {.node = SLICE_LIT("NODE"),
                                       .on_demand = on_demand,
                                       .seed = 7,
                                       .request_max = request_max,
                                       .ops = &ops};
    memset(&seen, 0, sizeof(seen));
    client = xds_client_new(&params);
}

static int teardown(void **state) {
    xds_client_free(client);
    client = NULL;
    fx_unpack_all();
    return 0;
}

// The next request as a text: "TYPE node=.. sub=a,b unsub=.. known=a:1,b:2 nonce=.. error=..".
static const char *next(void) {
    static char text[8192];
    struct slice message;
    struct buf buf;
    if (!xds_client_pull(client, &message)) {
        return "";
    }
    Xds__Request *r = xds__request__unpack(NULL, message.len, message.ptr);
    assert_non_null(r);
    buf_init(&buf, sizeof(text) - 1);
#define PUT(bytes) buf_append(&buf, slice_make((bytes).data, (bytes).len))
    const char *url = (const char *)r->type_url.data;
    buf_append_str(&buf, memmem(url, r->type_url.len, "Address", 7) != NULL          ? "address"
                         : memmem(url, r->type_url.len, "Authorization", 13) != NULL ? "policy"
                                                                                     : "other");
    if (r->node.len > 0) {
        buf_append_str(&buf, " node=");
        PUT(r->node);
    }
    for (size_t i = 0; i < r->n_resource_names_subscribe; i++) {
        buf_append_str(&buf, i == 0 ? " sub=" : ",");
        PUT(r->resource_names_subscribe[i]);
    }
    for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++) {
        buf_append_str(&buf, i == 0 ? " unsub=" : ",");
        PUT(r->resource_names_unsubscribe[i]);
    }
    for (size_t i = 0; i < r->n_initial_resource_versions; i++) {
        buf_append_str(&buf, i == 0 ? " known=" : ",");
        PUT(r->initial_resource_versions[i]->key);
        buf_append_byte(&buf, ':');
        PUT(r->initial_resource_versions[i]->value);
    }
    if (r->response_nonce.len > 0) {
        buf_append_str(&buf, " nonce=");
        PUT(r->response_nonce);
    }
    if (r->error_detail != NULL) {
        buf_printf(&buf, " error=%d ", r->error_detail->code);
        PUT(r->error_detail->message);
    }
    snprintf(text, sizeof(text), "%s", buf_cstr(&buf));
    buf_fini(&buf);
    xds__request__free_unpacked(r, NULL);
    return text;
}

static void open_stream(void) {
    xds_client_open(client, 0);
    assert_string_equal(next(), "address node=NODE");
    assert_string_equal(next(), "policy node=NODE");
    assert_string_equal(next(), "");
}

static void receive(const struct fx_response *response) {
    const char *error = NULL;
    int type;
    assert_true(xds_client_recv(client, FX_PACK(&response->message), &type, &error));
    assert_true(type == -1 || slice_eq_str(slice_make(response->message.type_url.data,
                                                      response->message.type_url.len),
                                           xds_type_url((enum xds_type)type)));
}

static const char *body_of(enum xds_type type, const char *name) {
    int i = find(type, slice_str(name));
    return i < 0 ? NULL : seen.bodies[type][i];
}

static void test_subscribe(void **state) {
    struct fx_response r;
    start(false, 0);
    open_stream();
    assert_false(xds_client_is_ready(client));
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_add(&r, "a", "1", SLICE_LIT("A"));
    fx_response_add(&r, "b", "1", SLICE_LIT("B"));
    receive(&r);
    assert_string_equal(next(), "address nonce=n1");
    assert_string_equal(next(), "");
    assert_string_equal(body_of(XDS_ADDRESS, "a"), "A");
    assert_string_equal(seen.nack, "");
    assert_true(xds_client_has_type(client, XDS_ADDRESS));
    assert_false(xds_client_is_ready(client));
    fx_response_init(&r, XDS_AUTHORIZATION, "p1"); // an empty one counts, too
    receive(&r);
    assert_string_equal(next(), "policy nonce=p1");
    assert_true(xds_client_is_ready(client));
    fx_response_init(&r, XDS_ADDRESS, "n2");
    fx_response_add(&r, "a", "22", SLICE_LIT("AA"));
    fx_response_remove(&r, "b");
    fx_response_remove(&r, "never");
    receive(&r);
    assert_string_equal(body_of(XDS_ADDRESS, "a"), "AA");
    assert_null(body_of(XDS_ADDRESS, "b"));
    assert_int_equal(xds_client_n_known(client, XDS_ADDRESS), 1);
}

// The same name of another type is another resource.
static void test_types(void **state) {
    struct fx_response r;
    start(false, 0);
    open_stream();
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_add(&r, "ns/a", "1", SLICE_LIT("A"));
    receive(&r);
    fx_response_init(&r, XDS_AUTHORIZATION, "n2");
    fx_response_add(&r, "ns/a", "1", SLICE_LIT("P"));
    receive(&r);
    fx_response_init(&r, XDS_ADDRESS, "n3");
    fx_response_remove(&r, "ns/a");
    receive(&r);
    assert_string_equal(body_of(XDS_AUTHORIZATION, "ns/a"), "P");
    assert_int_equal(xds_client_n_known(client, XDS_AUTHORIZATION), 1);
    assert_int_equal(xds_client_n_known(client, XDS_ADDRESS), 0);
}

static void test_nack(void **state) {
    struct fx_response r;
    start(false, 0);
    open_stream();
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_add(&r, "a", "1", SLICE_LIT("A"));
    fx_response_add(&r, "b", "1", SLICE_LIT("!"));
    fx_response_add(&r, "c", "1", SLICE_LIT("C"));
    receive(&r);
    // The others are applied, and the reason is ASCII: the server's library wants good UTF-8.
    assert_string_equal(next(), "address nonce=n1 error=3 b: b??d?");
    assert_string_equal(body_of(XDS_ADDRESS, "c"), "C");
    assert_null(body_of(XDS_ADDRESS, "b"));
    assert_true(xds_client_has_type(client, XDS_ADDRESS));
    fx_response_init(&r, XDS_ADDRESS, "n2"); // what was good stays, under its old version
    fx_response_add(&r, "a", "2", SLICE_LIT("!"));
    fx_response_add(&r, "b", "2", SLICE_LIT("!"));
    receive(&r);
    assert_string_equal(
        next(), "address nonce=n2 error=3 a: b??d?; b: b??d? (2 of 2 resources were refused)");
    assert_string_equal(body_of(XDS_ADDRESS, "a"), "A");
    xds_client_closed(client, true, 0);
    xds_client_open(client, 0);
    const char *request = next();
    assert_non_null(strstr(request, "a:1"));
    assert_non_null(strstr(request, "c:1"));
    assert_null(strstr(request, "b:"));
}

static void test_bad_resources(void **state) {
    struct fx_response r;
    char name[XDS_NAME_MAX + 2];
    start(false, 0);
    open_stream();
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_add(&r, "", "1", SLICE_LIT("A"));
    receive(&r);
    assert_string_equal(next(),
                        "address nonce=n1 error=3 : a resource needs a name of at most 1024 bytes");
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    fx_response_init(&r, XDS_ADDRESS, "n2");
    fx_response_add(&r, name, "1", SLICE_LIT("A"));
    receive(&r);
    assert_non_null(strstr(next(), "xxx: a resource needs a name"));
    fx_response_init(&r, XDS_ADDRESS, "n3");
    fx_response_add(&r, "a", "1", SLICE_LIT("A"));
    r.contents[0].type_url = fx_bytes(xds_type_url(XDS_AUTHORIZATION));
    receive(&r);
    assert_string_equal(next(), "address nonce=n3 error=3 a: is of another type than the response");
    r.resources[0].resource = NULL;
    receive(&r);
    assert_string_equal(next(), "address nonce=n3 error=3 a: has no content");
    r.message.type_url = fx_bytes("type.googleapis.com/envoy.Cluster");
    receive(&r);
    assert_string_equal(next(), "other nonce=n3 error=3 this type was not asked for");
    assert_int_equal(xds_client_n_known(client, XDS_ADDRESS), 0);
    assert_int_equal(seen.n_set, 0);
    fx_response_init(&r, XDS_ADDRESS, "n4"); // many reasons: the message stays small
    for (int i = 0; i < 60; i++) {
        fx_response_add(&r, name + 1 + i, "1", SLICE_LIT("!"));
    }
    receive(&r);
    assert_true(strlen(next()) < 8192);
    assert_non_null(strstr(seen.nack, "of 60 resources were refused"));
}

static void test_malformed(void **state) {
    int type;
    const char *error = NULL;
    struct fx_response r;
    start(false, 0);
    open_stream();
    assert_false(xds_client_recv(client, slice_make(NULL, 0), &type, &error));
    assert_string_equal(error, "an empty response");
    assert_false(xds_client_recv(client, SLICE_LIT("\x12\xff\xff"), &type, &error));
    assert_string_equal(error, "a response that cannot be read");
    // Two bytes of the wire are an empty resource: no more memory than in proportion.
    uint8_t *many = malloc(400000);
    for (size_t i = 0; i < 400000; i += 2) {
        memcpy(many + i, "\x12\x00", 2);
    }
    assert_false(xds_client_recv(client, slice_make(many, 400000), &type, &error));
    free(many);
    fx_response_init(&r, XDS_ADDRESS, "n1");
    receive(&r);
    assert_string_equal(next(), "address nonce=n1");
}

static void test_reconnect(void **state) {
    struct fx_response r;
    start(false, 0);
    open_stream();
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_add(&r, "a", "v1", SLICE_LIT("A"));
    receive(&r); // its ACK is never pulled, and does not go to the next stream
    xds_client_closed(client, false, 0);
    xds_client_open(client, 0);
    assert_string_equal(next(), "address node=NODE known=a:v1");
    assert_string_equal(next(), "policy node=NODE");
    assert_string_equal(next(), "");
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_remove(&r, "a");
    receive(&r);
    assert_null(body_of(XDS_ADDRESS, "a"));
}

// More is known than fits into a request: all comes again, and what does not is gone.
static void test_sweep(void **state) {
    struct fx_response r;
    start(false, 2000);
    open_stream();
    fx_response_init(&r, XDS_ADDRESS, "n1");
    char names[60][32];
    for (int i = 0; i < 60; i++) {
        snprintf(names[i], sizeof(names[i]), "workload-%d", i);
        fx_response_add(&r, names[i], "1", SLICE_LIT("A"));
    }
    receive(&r);
    xds_client_closed(client, true, 0);
    xds_client_open(client, 0);
    assert_string_equal(next(), "address node=NODE");
    fx_response_init(&r, XDS_AUTHORIZATION, "n1"); // of the other type: nothing happens
    receive(&r);
    assert_int_equal(seen.n[XDS_ADDRESS], 60);
    fx_response_init(&r, XDS_ADDRESS, "n2");
    fx_response_add(&r, names[0], "1", SLICE_LIT("A"));
    fx_response_add(&r, names[1], "2", SLICE_LIT("!")); // its last good version stays
    receive(&r);
    assert_int_equal(seen.n[XDS_ADDRESS], 2);
    assert_int_equal(xds_client_n_known(client, XDS_ADDRESS), 2);
    assert_string_equal(body_of(XDS_ADDRESS, "workload-1"), "A");
    fx_response_init(&r, XDS_ADDRESS, "n3"); // only the first one
    fx_response_add(&r, "other", "1", SLICE_LIT("A"));
    receive(&r);
    assert_int_equal(seen.n[XDS_ADDRESS], 3);
}

static void test_retry(void **state) {
    uint64_t now = 1000 * MS;
    start(false, 0);
    assert_int_equal(xds_client_retry_at(client), 0); // at once
    uint64_t delay = 10 * MS;
    for (int i = 0; i < 14; i++) {
        xds_client_closed(client, false, now);
        uint64_t wait = xds_client_retry_at(client) - now;
        assert_in_range(wait, delay / 2, delay);
        delay = MIN(2 * delay, 15000 * MS);
    }
    xds_client_open(client, now); // not good for long enough
    xds_client_closed(client, false, now + 29999 * MS);
    assert_true(xds_client_retry_at(client) - now - 29999 * MS >= 7500 * MS);
    xds_client_open(client, now);
    xds_client_closed(client, false, now + 30000 * MS);
    assert_in_range(xds_client_retry_at(client) - now - 30000 * MS, 5 * MS, 10 * MS);
    xds_client_closed(client, false, now);
    xds_client_closed(client, false, now);
    xds_client_closed(client, true, now);
    assert_in_range(xds_client_retry_at(client) - now, 5 * MS, 10 * MS);
}

static void test_on_demand(void **state) {
    struct fx_response r;
    start(true, 0);
    assert_int_equal(xds_client_want(client, SLICE_LIT("/10.0.0.9")), XDS_WANT_WAIT); // before
    xds_client_open(client, 0);
    assert_string_equal(next(), "address node=NODE sub=* unsub=*");
    assert_string_equal(next(), "address sub=/10.0.0.9");
    assert_string_equal(next(), "policy node=NODE");
    assert_string_equal(next(), "");
    fx_response_init(&r, XDS_ADDRESS, "n0"); // to the first request: nothing
    receive(&r);
    assert_string_equal(next(), "address nonce=n0");
    assert_string_equal(seen.answered, "");
    assert_int_equal(xds_client_want(client, SLICE_LIT("/10.0.0.9")), XDS_WANT_WAIT);
    assert_int_equal(xds_client_want(client, SLICE_LIT("shop/web")), XDS_WANT_WAIT);
    assert_string_equal(next(), "address sub=shop/web"); // once each
    assert_string_equal(next(), "");
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_add(&r, "uid-9", "1", SLICE_LIT("A"));
    fx_response_alias(&r, "/10.0.0.9");
    fx_response_remove(&r, "shop/web");
    receive(&r);
    assert_string_equal(next(), "address nonce=n1");
    assert_string_equal(seen.answered, "+/10.0.0.9 -shop/web ");
    assert_string_equal(body_of(XDS_ADDRESS, "uid-9"), "A");
    // The server does not answer what is subscribed already.
    assert_int_equal(xds_client_want(client, SLICE_LIT("shop/web")), XDS_WANT_WAIT);
    assert_string_equal(next(), "address sub=shop/web,/again-0 unsub=/again-1");
    assert_int_equal(xds_client_want(client, SLICE_LIT("shop/web")), XDS_WANT_WAIT);
    assert_string_equal(next(), "");
    seen.answered[0] = '\0';
    fx_response_init(&r, XDS_ADDRESS, "n2");
    fx_response_add(&r, "shop/web", "1", SLICE_LIT("W"));
    fx_response_remove(&r, "uid-9");
    receive(&r);
    assert_string_equal(next(), "address nonce=n2");
    assert_string_equal(seen.answered, "+shop/web ");
    seen.answered[0] = '\0';
    assert_string_equal(body_of(XDS_ADDRESS, "shop/web"), "W");
    // It was there, and is not any more under that address: asked again.
    assert_int_equal(xds_client_want(client, SLICE_LIT("/10.0.0.9")), XDS_WANT_WAIT);
    assert_string_equal(next(), "address sub=/10.0.0.9,/again-1 unsub=/again-0");
    xds_client_closed(client, false, 0);
    xds_client_open(client, 0);
    assert_string_equal(next(), "address node=NODE sub=* unsub=* known=shop/web:1");
    const char *request = next(); // all that was ever wanted, in no order
    assert_int_equal(strlen(request), strlen("address sub=/10.0.0.9,shop/web"));
    assert_non_null(strstr(request, "/10.0.0.9"));
    assert_non_null(strstr(request, "shop/web"));
    fx_response_init(&r, XDS_ADDRESS, "n3");
    fx_response_remove(&r, "/10.0.0.9");
    receive(&r);
    assert_string_equal(seen.answered, "-/10.0.0.9 "); // waited over two streams
    // What was absent is so while nobody can be asked.
    seen.answered[0] = '\0';
    assert_int_equal(xds_client_want(client, SLICE_LIT("/10.0.0.9")), XDS_WANT_WAIT);
    xds_client_closed(client, false, 0);
    assert_string_equal(seen.answered, "-/10.0.0.9 ");
    assert_int_equal(xds_client_want(client, SLICE_LIT("/10.0.0.9")), XDS_WANT_ABSENT);
    assert_int_equal(xds_client_want(client, slice_make(NULL, 0)), XDS_WANT_REFUSED);
}

static void test_on_demand_limits(void **state) {
    char name[32];
    size_t n_bytes = 0;
    struct fx_response r;
    start(true, 4096);
    for (int i = 0; i < XDS_DEMANDS_MAX; i++) {
        snprintf(name, sizeof(name), "/10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        assert_int_equal(xds_client_want(client, slice_str(name)), XDS_WANT_WAIT);
    }
    assert_int_equal(xds_client_want(client, SLICE_LIT("/one/more")), XDS_WANT_REFUSED);
    assert_int_equal(xds_client_want(client, SLICE_LIT("/10.0.0.1")), XDS_WANT_WAIT);
    xds_client_open(client, 0);
    struct slice message;
    while (xds_client_pull(client, &message)) { // in pieces
        assert_true(message.len <= 4096);
        n_bytes += message.len;
    }
    assert_true(n_bytes > XDS_DEMANDS_MAX * 8);
    fx_response_init(&r, XDS_ADDRESS, "n1");
    char names[64][64];
    for (int i = 0; i < 64; i++) {
        snprintf(names[i], 64, "%060d", i);
        fx_response_add(&r, names[i], "1", SLICE_LIT("A"));
    }
    receive(&r);
    assert_int_equal(seen.n[XDS_ADDRESS], 64);
    xds_client_closed(client, true, 0);
    xds_client_open(client, 0); // too much to tell: forgotten, since nobody would say what is gone
    assert_int_equal(seen.n[XDS_ADDRESS], 0);
    assert_string_equal(next(), "address node=NODE sub=* unsub=*");
}

// Names that are absent make room, the one that was wanted the longest ago first.
static void test_on_demand_room(void **state) {
    char name[32];
    struct fx_response r;
    struct slice message;
    start(true, 0);
    assert_false(xds_client_is_ready(client));
    for (int i = 0; i < XDS_DEMANDS_MAX; i++) {
        snprintf(name, sizeof(name), "/10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        assert_int_equal(xds_client_want(client, slice_str(name)), XDS_WANT_WAIT);
    }
    xds_client_open(client, 0);
    while (xds_client_pull(client, &message)) {
    }
    fx_response_init(&r, XDS_AUTHORIZATION, "p1");
    receive(&r);
    assert_true(xds_client_is_ready(client)); // nothing need be wanted
    assert_string_equal(next(), "policy nonce=p1");
    fx_response_init(&r, XDS_ADDRESS, "n1");
    fx_response_remove(&r, "/10.0.0.1");
    fx_response_remove(&r, "/10.0.0.2");
    fx_response_remove(&r, "/10.0.0.3");
    receive(&r);
    assert_string_equal(next(), "address nonce=n1");
    assert_int_equal(xds_client_want(client, SLICE_LIT("/10.0.0.1")), XDS_WANT_WAIT);
    assert_string_equal(next(), "address sub=/10.0.0.1,/again-0 unsub=/again-1");
    fx_response_init(&r, XDS_ADDRESS, "n1b");
    fx_response_remove(&r, "/10.0.0.1");
    receive(&r);
    assert_string_equal(next(), "address nonce=n1b");
    assert_int_equal(xds_client_want(client, SLICE_LIT("/new")), XDS_WANT_WAIT);
    assert_string_equal(next(), "address sub=/new unsub=/10.0.0.2");
    fx_response_init(&r, XDS_ADDRESS, "n2"); // what has come is no longer absent
    fx_response_add(&r, "uid-3", "1", SLICE_LIT("A"));
    fx_response_alias(&r, "/10.0.0.3");
    receive(&r);
    assert_string_equal(next(), "address nonce=n2");
    assert_int_equal(xds_client_want(client, SLICE_LIT("/newer")), XDS_WANT_WAIT);
    assert_string_equal(next(), "address sub=/newer unsub=/10.0.0.1");
    assert_int_equal(xds_client_want(client, SLICE_LIT("/newest")), XDS_WANT_REFUSED);
    assert_int_equal(xds_client_n_demands(client), XDS_DEMANDS_MAX);
}

// ---- a server that follows the protocol, streams that break anywhere, bad contents

struct server {
    uint32_t now[N_NAMES / 2]; // version; 0 = not there; odd numbers above 900 are refused
    uint32_t told[N_NAMES / 2]; // what this stream's client has, as far as the server knows
    uint32_t good[N_NAMES / 2]; // the last version that a client was sent and could use
    bool is_new; // its next response has all
};

static bool is_bad(uint32_t version) {
    return version > 900 && version % 2 == 1;
}

static void server_open(struct server *s) {
    struct slice message;
    memset(s->told, 0, sizeof(s->told));
    assert_true(xds_client_pull(client, &message));
    Xds__Request *r = xds__request__unpack(NULL, message.len, message.ptr);
    assert_non_null(r);
    for (size_t i = 0; i < r->n_initial_resource_versions; i++) {
        const Xds__TextEntry *entry = r->initial_resource_versions[i];
        uint64_t index, version;
        struct slice name = slice_make(entry->key.data, entry->key.len);
        assert_true(slice_to_u64(slice_skip(name, 1), N_NAMES / 2 - 1, &index));
        assert_true(slice_to_u64(slice_make(entry->value.data, entry->value.len), 10000, &version));
        s->told[index] = (uint32_t)version;
    }
    xds__request__free_unpacked(r, NULL);
    s->is_new = true;
}

static void server_push(struct server *s, struct rand *rand) {
    struct fx_response r;
    static char names[N_NAMES / 2][8], versions[N_NAMES / 2][8], bodies[N_NAMES / 2][8];
    fx_response_init(&r, XDS_ADDRESS, "n");
    for (int i = 0; i < N_NAMES / 2; i++) {
        if (s->is_new && s->now[i] == 0) {
            s->good[i] = 0; // also when it is just not mentioned
        }
        bool is_due = s->is_new || rand_chance(rand, 1, 2);
        if (s->now[i] == s->told[i] || !is_due) {
            continue;
        }
        snprintf(names[i], sizeof(names[i]), "w%d", i);
        snprintf(versions[i], sizeof(versions[i]), "%u", s->now[i]);
        snprintf(bodies[i], sizeof(bodies[i]), "%s%u", is_bad(s->now[i]) ? "!" : "", s->now[i]);
        if (s->now[i] == 0) {
            fx_response_remove(&r, names[i]);
            s->good[i] = 0;
        } else {
            fx_response_add(&r, names[i], versions[i], slice_str(bodies[i]));
            s->good[i] = is_bad(s->now[i]) ? s->good[i] : s->now[i];
        }
        s->told[i] = s->now[i];
    }
    s->is_new = false;
    receive(&r);
    fx_unpack_all();
}

static void test_random(void **state) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rand rand;
        struct server s = {0};
        rand_seed(&rand, seed);
        start(false, seed % 3 == 0 ? 1300 : 0); // every third one sweeps
        xds_client_open(client, 0);
        server_open(&s);
        for (int i = 0; i < 300; i++) {
            size_t at = rand_below(&rand, N_NAMES / 2);
            switch (rand_below(&rand, 5)) {
            case 0:
            case 1:
                s.now[at] = (uint32_t)rand_range(&rand, 1, 1000);
                break;
            case 2:
                s.now[at] = 0;
                break;
            case 3:
                server_push(&s, &rand);
                break;
            default:
                if (rand_chance(&rand, 1, 8)) {
                    xds_client_closed(client, rand_chance(&rand, 1, 2), 0);
                    xds_client_open(client, 0);
                    server_open(&s);
                }
            }
        }
        s.is_new = true;
        server_push(&s, &rand);
        int n = 0;
        for (int i = 0; i < N_NAMES / 2; i++) {
            char name[8], version[8];
            snprintf(name, sizeof(name), "w%d", i);
            snprintf(version, sizeof(version), "%u", s.good[i]);
            const char *body = body_of(XDS_ADDRESS, name);
            n += s.good[i] != 0;
            assert_true((body != NULL) == (s.good[i] != 0));
            assert_true(body == NULL || strcmp(body, version) == 0);
        }
        assert_int_equal(seen.n[XDS_ADDRESS], n);
        assert_int_equal(xds_client_n_known(client, XDS_ADDRESS), n);
        teardown(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_subscribe, teardown),
        cmocka_unit_test_teardown(test_types, teardown),
        cmocka_unit_test_teardown(test_nack, teardown),
        cmocka_unit_test_teardown(test_bad_resources, teardown),
        cmocka_unit_test_teardown(test_malformed, teardown),
        cmocka_unit_test_teardown(test_reconnect, teardown),
        cmocka_unit_test_teardown(test_sweep, teardown),
        cmocka_unit_test_teardown(test_retry, teardown),
        cmocka_unit_test_teardown(test_on_demand, teardown),
        cmocka_unit_test_teardown(test_on_demand_limits, teardown),
        cmocka_unit_test_teardown(test_on_demand_room, teardown),
        cmocka_unit_test_teardown(test_random, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
