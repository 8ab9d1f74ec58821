// SPDX-License-Identifier: Apache-2.0
//
// The gRPC client over plain HTTP/2 on loopback, against a server of ours in the same loop that
// does what each case asks for. TLS, tokens and roots are the end-to-end tests' (grpcio's server).
#include "common/net/grpc_client.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/net/grpc_client_priv.h"
#include "common/net/http_client_priv.h"
#include "common/rt/listener.h"
#include "tests/unit/net/http_client_bed.h"

enum { MESSAGE_MAX = 100000, STREAMS = 4 };

// What the server does with a request.
enum deed {
    ECHO, // each message back as it comes; trailers with the status when the client ends
    SAY, // `answer` and trailers with `status`, at once
    ONLY_TRAILERS, // one head that has the status
    NO_TRAILERS,
    NOT_FOUND, // HTTP 404
    HTML, // HTTP 200, but no gRPC
    RESET, // after `answer`
    CUT, // the connection, after `answer`
    SILENT,
};

struct peer { // a stream at the server
    struct http_stream stream;
    struct bed *bed;
    bool is_sent;
};

struct bed {
    struct http_bed at;
    struct peer peers[16];
    uint32_t n_peers;
    // the case
    enum deed deed;
    struct slice answer;
    const char *status, *message;
    // what came
    char path[64], timeout[16], te[16], authority[64], extra[16];
    bool has_token;
    struct grpc_client *client;
};

// ---- the server --------------------------------------------------------------------------------

static struct peer *of_stream(struct http_stream *stream) {
    return CONTAINER_OF(stream, struct peer, stream);
}

static void send_head(struct peer *peer, uint16_t status, const char *type, bool is_only) {
    struct http_field fields[] = {
        {.name = SLICE_LIT("content-type"), .value = slice_str(type)},
        {.name = SLICE_LIT("grpc-status"), .value = slice_str(peer->bed->status)},
        {.name = SLICE_LIT("grpc-message"), .value = slice_str(peer->bed->message)},
    };
    struct http_head head = {.status = status, .fields = fields, .n_fields = is_only ? 3 : 1};
    http_stream_send_head(&peer->stream, &head, is_only);
}

static void send_bytes(struct peer *peer, struct slice bytes, bool end) {
    struct chain data;
    chain_init(&data, &peer->bed->at.pool);
    chain_copy(&data, bytes);
    http_stream_send_data(&peer->stream, &data, end);
}

static void send_trailers(struct peer *peer) {
    struct http_field fields[] = {
        {.name = SLICE_LIT("grpc-status"), .value = slice_str(peer->bed->status)},
        {.name = SLICE_LIT("grpc-message"), .value = slice_str(peer->bed->message)},
    };
    http_stream_send_trailers(&peer->stream, fields, 2);
}

static void copy_field(const struct http_head *head, const char *name, char *dst, size_t size) {
    for (size_t i = 0; i < head->n_fields; i++) {
        if (slice_eq_str(head->fields[i].name, name)) {
            snprintf(dst, size, "%.*s", SLICE_ARG(head->fields[i].value));
        }
    }
}

static void act(struct peer *peer) {
    struct bed *bed = peer->bed;
    switch (bed->deed) {
    case ONLY_TRAILERS:
        send_head(peer, 200, "application/grpc", true);
        break;
    case NOT_FOUND:
        send_head(peer, 404, "text/plain", false);
        send_bytes(peer, SLICE_LIT("no"), true);
        break;
    case HTML:
        send_head(peer, 200, "text/html", false);
        send_bytes(peer, SLICE_LIT("<html>"), true);
        break;
    case SILENT:
        break;
    default:
        send_head(peer, 200, "application/grpc+proto", false);
        if (bed->deed != ECHO) {
            send_bytes(peer, bed->answer, bed->deed == NO_TRAILERS);
        }
        if (bed->deed == SAY) {
            send_trailers(peer);
        } else if (bed->deed == RESET) {
            http_stream_release(&peer->stream, H2_INTERNAL_ERROR);
        }
        break;
    }
}

static void on_head(struct http_stream *stream, const struct http_head *head, bool end) {
    struct peer *peer = of_stream(stream);
    struct bed *bed = peer->bed;
    char type[32] = "", token[8] = "";
    snprintf(bed->path, sizeof(bed->path), "%.*s", SLICE_ARG(head->path));
    snprintf(bed->authority, sizeof(bed->authority), "%.*s", SLICE_ARG(head->authority));
    copy_field(head, "grpc-timeout", bed->timeout, sizeof(bed->timeout));
    copy_field(head, "te", bed->te, sizeof(bed->te));
    copy_field(head, "x-extra", bed->extra, sizeof(bed->extra));
    copy_field(head, "content-type", type, sizeof(type));
    copy_field(head, "authorization", token, sizeof(token));
    bed->has_token = token[0] != '\0';
    assert_string_equal(type, "application/grpc");
    assert_true(slice_eq_str(head->method, "POST"));
    act(peer);
}

static void on_data(struct http_stream *stream, const struct seg *seg, bool end) {
    struct peer *peer = of_stream(stream);
    http_stream_consumed(stream, seg->len);
    if (peer->bed->deed == ECHO) {
        send_bytes(peer, seg_slice(seg), false);
    }
    blk_unref(seg->blk);
    if (end && peer->bed->deed == ECHO) {
        send_trailers(peer);
    }
}

static void on_end(struct http_stream *stream) {
    struct peer *peer = of_stream(stream);
    if (peer->bed->deed == ECHO) {
        send_trailers(peer);
    }
}

static void on_nothing(struct http_stream *stream) {
}
static void on_trailers(struct http_stream *stream, const struct http_field *fields, size_t n) {
}
static void on_reset(struct http_stream *stream, enum http_reset reset, const char *detail) {
}

static struct http_stream *on_stream(struct http_bed *at) {
    static const struct http_stream_events events = {
        .on_head = on_head,
        .on_data = on_data,
        .on_trailers = on_trailers,
        .on_end = on_end,
        .on_writable = on_nothing,
        .on_reset = on_reset,
    };
    struct bed *bed = CONTAINER_OF(at, struct bed, at);
    assert_true(bed->n_peers < ARRAY_LEN(bed->peers));
    struct peer *peer = &bed->peers[bed->n_peers++];
    peer->bed = bed;
    http_stream_init(&peer->stream, &events, peer);
    return &peer->stream;
}

// ---- the client's owner ------------------------------------------------------------------------

struct user {
    struct grpc_stream stream;
    struct bed *bed;
    struct buf got; // messages, a '|' behind each
    uint32_t n_messages, n_opened, n_closed, n_writable;
    uint32_t cancel_at; // cancels with the n-th message
    bool reopens; // once, from within on_closed
    enum grpc_status status;
    char text[GRPC_CLIENT_TEXT_MAX];
};

static struct user *of_user(struct grpc_stream *stream) {
    return CONTAINER_OF(stream, struct user, stream);
}

static void on_open(struct grpc_stream *stream) {
    of_user(stream)->n_opened++;
}

static void on_message(struct grpc_stream *stream, struct slice message) {
    struct user *user = of_user(stream);
    assert_int_equal(user->n_closed, 0);
    buf_append(&user->got, message);
    buf_append_byte(&user->got, '|');
    if (++user->n_messages == user->cancel_at) {
        grpc_stream_cancel(stream);
    }
}

static void on_writable(struct grpc_stream *stream) {
    of_user(stream)->n_writable++;
}

static void on_closed(struct grpc_stream *stream, enum grpc_status status, const char *text) {
    struct user *user = of_user(stream);
    assert_false(grpc_stream_is_open(stream));
    user->n_closed++;
    user->status = status;
    snprintf(user->text, sizeof(user->text), "%s", text);
    if (user->reopens) {
        user->reopens = false;
        grpc_stream_open(stream, user->bed->client, "/again", 0);
    }
}

static const struct grpc_stream_events events = {.on_open = on_open,
                                                 .on_message = on_message,
                                                 .on_writable = on_writable,
                                                 .on_closed = on_closed};

static void user_init(struct user *user, struct bed *bed) {
    *user = (struct user){.bed = bed};
    buf_init(&user->got, 64 << 20);
    grpc_stream_init(&user->stream, &events);
}

// ---- the bed -----------------------------------------------------------------------------------

static uint16_t listen_somewhere(int *ret_fd) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    *ret_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(*ret_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(*ret_fd, 16), 0);
    assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&sa, &len), 0);
    return ntohs(sa.sin_port);
}

static struct grpc_client *client_new(struct bed *bed, const char *address, char **ret_error) {
    static const struct http_field metadata[] = {
        {.name = SLICE_LIT("x-extra"), .value = SLICE_LIT("yes")}};
    struct grpc_client_config config = {
        .loop = &bed->at.loop,
        .address = address,
        .roots = {.path = "/nonexistent/roots.pem"},
        .token = {.path = "/nonexistent/token"},
        .metadata = metadata,
        .n_metadata = 1,
        .message_max = MESSAGE_MAX,
    };
    return grpc_client_new(&config, ret_error);
}

static void bed_open(struct bed *bed) {
    char *error = NULL;
    *bed = (struct bed){.status = "0", .message = ""};
    http_bed_open(&bed->at);
    bed->at.on_stream = on_stream;
    bed->client = client_new(bed, bed->at.address, &error);
    assert_non_null(bed->client);
    assert_false(grpc_client_is_secure(bed->client));
    assert_string_equal(grpc_client_target(bed->client), bed->at.address + 7);
}

static void bed_close(struct bed *bed) {
    grpc_client_free(bed->client);
    BED_WAIT(&bed->at, bed->at.n_conns == 0); // the client's own ends
    http_bed_close(&bed->at);
}

// ---- cases -------------------------------------------------------------------------------------

static void test_unary(void **state) {
    struct bed bed;
    struct user user;
    bed_open(&bed);
    bed.deed = SAY;
    bed.answer = SLICE_LIT("\0\0\0\0\5hello");
    for (int i = 0; i < 3; i++) {
        user_init(&user, &bed);
        grpc_stream_open(&user.stream, bed.client, "/test.Service/Method", 2500);
        grpc_stream_send(&user.stream, SLICE_LIT("question"), true);
        assert_int_equal(user.n_opened, 0); // nothing before it returns
        BED_WAIT(&bed.at, user.n_closed == 1);
        assert_slice_equal(buf_slice(&user.got), "hello|");
        assert_int_equal(user.status, GRPC_OK);
        assert_string_equal(user.text, "");
        buf_fini(&user.got);
    }
    assert_string_equal(bed.path, "/test.Service/Method");
    assert_string_equal(bed.timeout, "2500m");
    assert_string_equal(bed.te, "trailers");
    assert_string_equal(bed.extra, "yes");
    assert_string_equal(bed.authority, grpc_client_target(bed.client));
    assert_false(bed.has_token); // there is no TLS
    assert_int_equal(bed.at.n_accepted, 1);
    bed_close(&bed);
}

// Messages of all sizes both ways, cut as the frames are.
static void test_both_ways(void **state) {
    struct bed bed;
    struct user user;
    bed_open(&bed);
    bed.deed = ECHO;
    user_init(&user, &bed);
    struct buf want;
    buf_init(&want, 64 << 20);
    char *text = xmalloc(MESSAGE_MAX);
    memset(text, 'm', MESSAGE_MAX);
    grpc_stream_open(&user.stream, bed.client, "/stream", 0);
    for (size_t i = 0; i < 60; i++) {
        struct slice message = slice_make(text, i * i * i % MESSAGE_MAX);
        grpc_stream_send(&user.stream, message, false);
        buf_append(&want, message);
        buf_append_byte(&want, '|');
        BED_WAIT(&bed.at, grpc_stream_can_send(&user.stream));
    }
    grpc_stream_send(&user.stream, slice_make(text, MESSAGE_MAX), false);
    grpc_stream_end(&user.stream);
    BED_WAIT(&bed.at, user.n_closed == 1);
    assert_int_equal(user.status, GRPC_OK);
    assert_int_equal(user.n_opened, 1);
    assert_int_equal(user.n_messages, 61);
    assert_memory_equal(user.got.ptr, want.ptr, want.len);
    assert_int_equal(user.got.len, want.len + MESSAGE_MAX + 1);
    free(text);
    buf_fini(&want);
    buf_fini(&user.got);
    bed_close(&bed);
}

static void test_failures(void **state) {
    static const struct {
        enum deed deed;
        struct slice answer;
        const char *status, *message;
        enum grpc_status want;
        const char *text, *got;
    } cases[] = {
        {ONLY_TRAILERS,
         {0},
         "7",
         "not%20you%21",
         GRPC_PERMISSION_DENIED,
         "PERMISSION_DENIED: not you!",
         ""},
        {ONLY_TRAILERS, {0}, "0", "", GRPC_OK, "", ""},
        {SAY, SLICE_LIT("\0\0\0\0\1a"), "14", "gone", GRPC_UNAVAILABLE, "UNAVAILABLE: gone", "a|"},
        {SAY, SLICE_LIT(""), "99", "", (enum grpc_status)99, "?: ", ""},
        {SAY, SLICE_LIT(""), "x", "", GRPC_UNKNOWN, "without a status", ""},
        {SAY, SLICE_LIT("\0\0\0\0\5ab"), "0", "", GRPC_INTERNAL, "within a message", ""},
        {SAY, SLICE_LIT("\1\0\0\0\1a"), "0", "", GRPC_INTERNAL, "compressed", ""},
        {SAY, SLICE_LIT("\0\0\1\x86\xa1"), "0", "", GRPC_RESOURCE_EXHAUSTED,
         "more than 100000 bytes", ""},
        {NO_TRAILERS, SLICE_LIT("\0\0\0\0\1a"), "", "", GRPC_UNKNOWN, "without a status", "a|"},
        {NOT_FOUND, {0}, "", "", GRPC_UNIMPLEMENTED, "HTTP status 404", ""},
        {HTML, {0}, "", "", GRPC_UNKNOWN, "text/html", ""},
        {RESET, SLICE_LIT("\0\0\0\0\5ab"), "", "", GRPC_INTERNAL, "reset the stream", ""},
    };
    struct bed bed;
    bed_open(&bed);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct user user;
        user_init(&user, &bed);
        bed.deed = cases[i].deed;
        bed.answer = cases[i].answer;
        bed.status = cases[i].status;
        bed.message = cases[i].message;
        bed.n_peers = 0;
        grpc_stream_open(&user.stream, bed.client, "/x", 0);
        grpc_stream_send(&user.stream, SLICE_LIT("q"), true);
        BED_WAIT(&bed.at, user.n_closed == 1);
        assert_int_equal(user.status, cases[i].want);
        assert_non_null(strstr(user.text, cases[i].text));
        if (user.status != GRPC_OK) { // says where
            assert_true(slice_has_prefix(slice_str(user.text),
                                         slice_str(grpc_client_target(bed.client))));
        }
        assert_slice_equal(buf_slice(&user.got), cases[i].got);
        buf_fini(&user.got);
    }
    assert_int_equal(bed.at.n_accepted, 1); // none of it cost the connection
    bed_close(&bed);
}

// The connection is lost: all streams hear of it, and the next one has another.
static void test_connection_lost(void **state) {
    struct bed bed;
    struct user users[STREAMS];
    bed_open(&bed);
    bed.deed = CUT;
    bed.answer = SLICE_LIT("\0\0\0\0\3one\0\0\0\0\5ab");
    for (int i = 0; i < STREAMS; i++) {
        user_init(&users[i], &bed);
        users[i].reopens = i == 0;
        grpc_stream_open(&users[i].stream, bed.client, "/x", 0);
    }
    for (int i = 0; i < STREAMS; i++) {
        BED_WAIT(&bed.at, users[i].n_messages == 1);
    }
    bed.deed = ONLY_TRAILERS;
    http_bed_cut(&bed.at);
    for (int i = 1; i < STREAMS; i++) {
        BED_WAIT(&bed.at, users[i].n_closed == 1);
        assert_int_equal(users[i].status, GRPC_UNAVAILABLE);
        assert_non_null(strstr(users[i].text, "connection was lost"));
    }
    users[0].n_closed = 0;
    BED_WAIT(&bed.at, users[0].n_closed == 1);
    assert_int_equal(bed.at.n_accepted, 2);
    for (int i = 0; i < STREAMS; i++) {
        buf_fini(&users[i].got);
    }
    bed_close(&bed);
}

static bool has_retired(const struct http_client *client) {
    for (const struct list *node = client->conns.next; node != &client->conns; node = node->next) {
        if (LIST_ITEM(node, struct http_client_conn, node)->is_retired) {
            return true;
        }
    }
    return false;
}

// GOAWAY: what runs goes on, what is new uses another connection.
static void test_goaway(void **state) {
    struct bed bed;
    struct user user, other;
    bed_open(&bed);
    bed.deed = ECHO;
    user_init(&user, &bed);
    user_init(&other, &bed);
    grpc_stream_open(&user.stream, bed.client, "/x", 0);
    grpc_stream_send(&user.stream, SLICE_LIT("before"), false);
    BED_WAIT(&bed.at, user.n_messages == 1);
    http_bed_drain(&bed.at);
    BED_WAIT(&bed.at, has_retired(bed.client->http)); // the GOAWAY has come
    grpc_stream_open(&other.stream, bed.client, "/y", 0);
    grpc_stream_send(&other.stream, SLICE_LIT("other"), true);
    BED_WAIT(&bed.at, other.n_closed == 1);
    assert_int_equal(other.status, GRPC_OK);
    assert_int_equal(bed.at.n_accepted, 2);
    grpc_stream_send(&user.stream, SLICE_LIT("after"), true);
    BED_WAIT(&bed.at, user.n_closed == 1);
    assert_int_equal(user.status, GRPC_OK);
    assert_slice_equal(buf_slice(&user.got), "before|after|");
    BED_WAIT(&bed.at, bed.at.n_conns == 1); // the old one ends with its last stream
    buf_fini(&user.got);
    buf_fini(&other.got);
    bed_close(&bed);
}

static void test_deadline(void **state) {
    struct bed bed;
    struct user user;
    bed_open(&bed);
    bed.deed = SILENT;
    user_init(&user, &bed);
    grpc_stream_open(&user.stream, bed.client, "/x", 50);
    BED_WAIT(&bed.at, user.n_closed == 1);
    assert_int_equal(user.status, GRPC_DEADLINE_EXCEEDED);
    assert_non_null(strstr(user.text, "no answer within 50 ms"));
    buf_fini(&user.got);
    bed_close(&bed);
}

// A server that takes nothing: what waits is bounded.
static void test_flood(void **state) {
    struct bed bed;
    struct user user;
    bed_open(&bed);
    bed.deed = SILENT;
    bed.at.http.h2.stream_window = 65535; // SILENT reads, but there is no room for much in a turn
    user_init(&user, &bed);
    grpc_stream_open(&user.stream, bed.client, "/x", 0);
    char *text = xcalloc(1, MESSAGE_MAX);
    size_t n = 0;
    while (n <= GRPC_CLIENT_QUEUE_MAX + MESSAGE_MAX) {
        grpc_stream_send(&user.stream, slice_make(text, MESSAGE_MAX), false);
        n += MESSAGE_MAX;
    }
    assert_false(grpc_stream_can_send(&user.stream));
    BED_WAIT(&bed.at, user.n_closed == 1);
    assert_int_equal(user.status, GRPC_RESOURCE_EXHAUSTED);
    free(text);
    buf_fini(&user.got);
    bed_close(&bed);
}

static void test_writable(void **state) {
    struct bed bed;
    struct user user;
    bed_open(&bed);
    bed.deed = SILENT;
    user_init(&user, &bed);
    grpc_stream_open(&user.stream, bed.client, "/x", 0);
    BED_WAIT(&bed.at, user.n_opened == 1);
    char *text = xcalloc(1, MESSAGE_MAX);
    while (grpc_stream_can_send(&user.stream)) {
        grpc_stream_send(&user.stream, slice_make(text, MESSAGE_MAX), false);
    }
    BED_WAIT(&bed.at, user.n_writable == 1);
    assert_true(grpc_stream_can_send(&user.stream));
    free(text);
    buf_fini(&user.got);
    bed_close(&bed); // with an open stream
}

// Cancelled from within a message, with more of them in the same bytes.
static void test_cancel(void **state) {
    struct bed bed;
    struct user user;
    bed_open(&bed);
    bed.deed = CUT;
    bed.answer = SLICE_LIT("\0\0\0\0\1a\0\0\0\0\1b\0\0\0\0\1c");
    user_init(&user, &bed);
    user.cancel_at = 2;
    grpc_stream_open(&user.stream, bed.client, "/x", 0);
    BED_WAIT(&bed.at, user.n_messages == 2);
    assert_false(grpc_stream_is_open(&user.stream));
    grpc_stream_send(&user.stream, SLICE_LIT("nobody"), true); // harmless
    grpc_stream_cancel(&user.stream);
    for (int i = 0; i < 100; i++) {
        http_bed_turn(&bed.at);
    }
    assert_int_equal(user.n_messages, 2);
    assert_int_equal(user.n_closed, 0);
    // Before there is a connection.
    grpc_stream_open(&user.stream, bed.client, "/y", 1000);
    grpc_stream_cancel(&user.stream);
    buf_fini(&user.got);
    bed_close(&bed);
}

static void test_no_server(void **state) {
    struct bed bed;
    struct user user;
    char *error = NULL, address[64];
    int fd;
    bed_open(&bed);
    snprintf(address, sizeof(address), "http://127.0.0.1:%u", listen_somewhere(&fd));
    close(fd);
    struct grpc_client *client = client_new(&bed, address, &error);
    assert_non_null(client);
    user_init(&user, &bed);
    for (uint32_t i = 1; i <= 2; i++) {
        grpc_stream_open(&user.stream, client, "/x", 5000);
        BED_WAIT(&bed.at, user.n_closed == i);
        assert_int_equal(user.status, GRPC_UNAVAILABLE);
        assert_non_null(strstr(user.text, "Connection refused"));
    }
    grpc_client_free(client);
    // With TLS, without the files it needs.
    client = client_new(&bed, "https://127.0.0.1:1", &error);
    assert_non_null(client);
    assert_true(grpc_client_is_secure(client));
    grpc_stream_open(&user.stream, client, "/x", 5000);
    BED_WAIT(&bed.at, user.n_closed == 3);
    assert_int_equal(user.status, GRPC_UNAVAILABLE);
    assert_non_null(strstr(user.text, "/nonexistent/roots.pem: No such file"));
    grpc_client_free(client);
    // A name that there is not, and one that is.
    client = client_new(&bed, "http://no-such-host.invalid:1", &error);
    assert_non_null(client);
    grpc_stream_open(&user.stream, client, "/x", 0);
    grpc_client_free(client); // while it is looked up
    buf_fini(&user.got);
    bed_close(&bed);
}

static void test_addresses(void **state) {
    static const char *const bad[] = {"",
                                      "https://",
                                      "istiod",
                                      "https://istiod",
                                      "https://istiod:0",
                                      "https://istiod:65536",
                                      "https://istiod:1:2",
                                      "https://ist iod:15012",
                                      "ftp://istiod:1/",
                                      "https://istiod:15012/path",
                                      "[::1:5"};
    static const struct {
        const char *address, *target;
        bool is_secure;
    } good[] = {
        {"istiod.istio-system.svc:15012", "istiod.istio-system.svc:15012", true},
        {"https://istiod:15012/", "istiod:15012", true},
        {"http://[::1]:15010", "[::1]:15010", false},
    };
    struct bed bed;
    bed_open(&bed);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char *error = NULL;
        assert_null(client_new(&bed, bad[i], &error));
        assert_non_null(strstr(error, "https://HOST:PORT"));
        free(error);
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char *error = NULL;
        struct grpc_client *client = client_new(&bed, good[i].address, &error);
        assert_non_null(client);
        assert_string_equal(grpc_client_target(client), good[i].target);
        assert_int_equal(grpc_client_is_secure(client), good[i].is_secure);
        grpc_client_free(client);
    }
    bed_close(&bed);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),     cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_failures),  cmocka_unit_test(test_connection_lost),
        cmocka_unit_test(test_goaway),    cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_flood),     cmocka_unit_test(test_writable),
        cmocka_unit_test(test_cancel),    cmocka_unit_test(test_no_server),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
