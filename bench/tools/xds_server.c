// SPDX-License-Identifier: Apache-2.0
//
// xds_server ADDR CERT KEY [--services=10000] [--endpoints=100000]: a stand-in for istiod's
// discovery that has nothing to work out: responses are encoded before anything is measured, then
// sent over HTTP/2 and TLS 1.3 as fast as the client opens its windows, the same bytes to all.
//
// A client gets a first response that is empty, so that it is ready. Lines on stdin, each answered
// by a line of JSON when all clients have acknowledged:
//
//   load    the mesh of xds_mesh.h, in one response
//   change  one endpoint of it changes
//
// Says "ready" when it listens. A client that refuses something ends the program. As much HTTP/2
// (RFC 9113) as that takes: a thread for each connection, a stream on it, its header fields are
// not looked at.
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "bench/tools/load_h2.h"
#include "bench/tools/xds_mesh.h"

enum { H2_PING = 6, H2_WINDOW_UPDATE = 8, END_HEADERS = 4, ACK = 1 };
enum { SETTING_INITIAL_WINDOW = 4 };
enum {
    MAX_CONNS = 16,
    FRAME_MAX = 16384, // the least that a peer has to take, and all that we allow
    DATA_MAX = FRAME_MAX - H2_HEAD, // with its head as large as a TLS record
    WINDOW = 65535,
    PREFACE = 24,
    PREFIX = 5, // of a gRPC message
    ACK_TIMEOUT_S = 120,
    SILENCE_S = 3600,
};

struct push {
    struct buf bytes; // a gRPC message
    struct push *next;
};

struct conn {
    SSL *ssl;
    int fd, wake;
    bool is_used, is_subscribed;
    uint32_t stream;
    int64_t conn_window, stream_window, initial_window; // to send
    struct buf in, message, out; // bytes that came, of a gRPC message, to send outside of windows
    struct buf first; // first responses, gRPC messages
    size_t first_sent, push_sent;
    const struct push *push; // that is being sent; NULL: the last one is through
    const struct push *last; // that was taken
    uint64_t acked; // nonce
};

static struct xds_mesh mesh = {.n_services = 10000, .n_endpoints = 100000};
static SSL_CTX *ctx;
// Below the mutex: the pushes (but not what is in them), is_used, is_subscribed, acked.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static struct push pushes; // the first one is empty
static struct push *last_push = &pushes;
static uint64_t n_pushes;
static struct conn conns[MAX_CONNS];

// ---- Messages

// Puts the prefix of a gRPC message in front of what is behind `at`.
static void grpc_wrap(struct buf *out, size_t at) {
    struct buf body;
    buf_init(&body, SIZE_MAX);
    buf_append(&body, slice_skip(buf_slice(out), at));
    buf_truncate(out, at);
    buf_put_u8(out, 0);
    buf_put_u32(out, (uint32_t)body.len);
    buf_append(out, buf_slice(&body));
    buf_fini(&body);
}

struct request {
    struct slice type_url, nonce;
    bool is_refusal;
};

static uint64_t take_varint(struct slice *in) {
    uint64_t value = 0;
    for (unsigned shift = 0; in->len > 0 && shift < 64; shift += 7) {
        uint8_t byte = in->ptr[0];
        *in = slice_skip(*in, 1);
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            return value;
        }
    }
    die("xds_server: a request that cannot be read");
}

static struct request parse_request(struct slice in) {
    struct request request = {0};
    while (in.len > 0) {
        uint64_t tag = take_varint(&in), value = take_varint(&in);
        if ((tag & 7) != 2) { // the request has no other field that is a number
            continue;
        }
        if (value > in.len) {
            die("xds_server: a request that cannot be read");
        }
        struct slice bytes = slice_head(in, value);
        in = slice_skip(in, value);
        request.type_url = tag >> 3 == 2 ? bytes : request.type_url;
        request.nonce = tag >> 3 == 6 ? bytes : request.nonce;
        request.is_refusal |= tag >> 3 == 7;
    }
    return request;
}

static void take_request(struct conn *conn, struct slice body) {
    struct request request = parse_request(body);
    if (request.is_refusal) {
        die("xds_server: the client refuses a resource; its log says why");
    }
    if (request.nonce.len > 0) {
        char text[32];
        snprintf(text, sizeof(text), "%.*s", (int)request.nonce.len,
                 (const char *)request.nonce.ptr);
        pthread_mutex_lock(&mutex);
        conn->acked = MAX(conn->acked, strtoull(text, NULL, 10));
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
        return;
    }
    char url[XDS_MESH_TEXT];
    snprintf(url, sizeof(url), "%.*s", (int)request.type_url.len,
             (const char *)request.type_url.ptr);
    size_t at = conn->first.len;
    xds_mesh_end(&conn->first, url, 0);
    grpc_wrap(&conn->first, at);
    if (strcmp(url, XDS_ADDRESS_URL) == 0) {
        pthread_mutex_lock(&mutex);
        conn->is_subscribed = true;
        pthread_mutex_unlock(&mutex);
    }
}

// ---- HTTP/2

static void put_head(struct buf *out, uint32_t len, uint8_t type, uint8_t flags, uint32_t stream) {
    buf_put_u24(out, len);
    buf_put_u8(out, type);
    buf_put_u8(out, flags);
    buf_put_u32(out, stream);
}

static void put_credit(struct buf *out, uint32_t stream, uint32_t n) {
    put_head(out, 4, H2_WINDOW_UPDATE, 0, stream);
    buf_put_u32(out, n);
}

static void take_settings(struct conn *conn, struct slice payload) {
    for (; payload.len >= 6; payload = slice_skip(payload, 6)) {
        const uint8_t *p = payload.ptr;
        uint32_t value = (uint32_t)p[2] << 24 | (uint32_t)p[3] << 16 | (uint32_t)p[4] << 8 | p[5];
        if (p[0] == 0 && p[1] == SETTING_INITIAL_WINDOW) {
            conn->stream_window += (int64_t)value - conn->initial_window;
            conn->initial_window = value;
        }
    }
    put_head(&conn->out, 0, H2_SETTINGS, ACK, 0);
}

static void begin_stream(struct conn *conn, uint32_t stream) {
    // :status 200, and content-type, a name of the static table, as a literal
    static const char fields[] = "\x88\x0f\x10\x10"
                                 "application/grpc";
    conn->stream = stream;
    conn->stream_window = conn->initial_window;
    put_head(&conn->out, sizeof(fields) - 1, H2_HEADERS, END_HEADERS, stream);
    buf_append(&conn->out, slice_make(fields, sizeof(fields) - 1));
}

static void take_data(struct conn *conn, struct slice payload) {
    buf_append(&conn->message, payload);
    if (payload.len > 0) {
        put_credit(&conn->out, 0, (uint32_t)payload.len);
        put_credit(&conn->out, conn->stream, (uint32_t)payload.len);
    }
    struct slice all = buf_slice(&conn->message);
    while (all.len >= PREFIX) {
        size_t len = (size_t)all.ptr[1] << 24 | (size_t)all.ptr[2] << 16 | (size_t)all.ptr[3] << 8 |
                     all.ptr[4];
        if (all.len < PREFIX + len) {
            break;
        }
        take_request(conn, slice_make(all.ptr + PREFIX, len));
        all = slice_skip(all, PREFIX + len);
    }
    struct buf rest;
    buf_init(&rest, SIZE_MAX);
    buf_append(&rest, all);
    buf_fini(&conn->message);
    conn->message = rest;
}

// False: the client gives up its stream or the connection.
static bool take_frame(struct conn *conn, uint8_t type, uint8_t flags, uint32_t stream,
                       struct slice payload) {
    switch (type) {
    case H2_DATA:
        take_data(conn, payload);
        break;
    case H2_HEADERS:
        if (conn->stream != 0) {
            die("xds_server: a second stream");
        }
        begin_stream(conn, stream);
        break;
    case H2_SETTINGS:
        if ((flags & ACK) == 0) {
            take_settings(conn, payload);
        }
        break;
    case H2_PING:
        if ((flags & ACK) == 0) {
            put_head(&conn->out, (uint32_t)payload.len, H2_PING, ACK, 0);
            buf_append(&conn->out, payload);
        }
        break;
    case H2_WINDOW_UPDATE: {
        uint32_t n = (uint32_t)payload.ptr[0] << 24 | (uint32_t)payload.ptr[1] << 16 |
                     (uint32_t)payload.ptr[2] << 8 | payload.ptr[3];
        *(stream == 0 ? &conn->conn_window : &conn->stream_window) += n;
        break;
    }
    default:
        return type != H2_RST_STREAM && type != H2_GOAWAY;
    }
    return true;
}

static bool take_frames(struct conn *conn) {
    struct slice all = buf_slice(&conn->in);
    bool is_good = true;
    while (is_good && all.len >= H2_HEAD) {
        const uint8_t *p = all.ptr;
        size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        uint32_t stream =
            ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]) & 0x7fffffff;
        if (len > FRAME_MAX || (p[3] == H2_WINDOW_UPDATE && len != 4)) {
            die("xds_server: a frame of type %u with %zu bytes", p[3], len);
        }
        if (all.len < H2_HEAD + len) {
            break;
        }
        is_good = take_frame(conn, p[3], p[4], stream, slice_make(p + H2_HEAD, len));
        all = slice_skip(all, H2_HEAD + len);
    }
    struct buf rest;
    buf_init(&rest, SIZE_MAX);
    buf_append(&rest, all);
    buf_fini(&conn->in);
    conn->in = rest;
    return is_good;
}

// ---- A connection

static bool write_all(struct conn *conn, struct slice bytes) {
    return bytes.len == 0 || SSL_write(conn->ssl, bytes.ptr, (int)bytes.len) == (int)bytes.len;
}

static struct slice to_send(struct conn *conn, size_t **ret_sent) {
    if (conn->first_sent < conn->first.len) {
        *ret_sent = &conn->first_sent;
        return slice_skip(buf_slice(&conn->first), conn->first_sent);
    }
    if (conn->push == NULL) {
        pthread_mutex_lock(&mutex);
        conn->push = conn->is_subscribed ? conn->last->next : NULL;
        pthread_mutex_unlock(&mutex);
        conn->push_sent = 0;
    }
    if (conn->push == NULL) {
        return (struct slice){0};
    }
    *ret_sent = &conn->push_sent;
    return slice_skip(buf_slice(&conn->push->bytes), conn->push_sent);
}

// What the windows allow.
static bool send_data(struct conn *conn) {
    bool is_good = write_all(conn, buf_slice(&conn->out));
    buf_clear(&conn->out);
    for (;;) {
        size_t *sent = NULL;
        struct slice rest = to_send(conn, &sent);
        int64_t window = MIN(conn->conn_window, conn->stream_window);
        if (!is_good || rest.len == 0 || window <= 0) {
            return is_good;
        }
        struct slice part = slice_head(rest, MIN(rest.len, (size_t)MIN(window, DATA_MAX)));
        put_head(&conn->out, (uint32_t)part.len, H2_DATA, 0, conn->stream);
        buf_append(&conn->out, part);
        is_good = write_all(conn, buf_slice(&conn->out));
        buf_clear(&conn->out);
        conn->conn_window -= (int64_t)part.len;
        conn->stream_window -= (int64_t)part.len;
        *sent += part.len;
        if (sent == &conn->push_sent && part.len == rest.len) {
            conn->last = conn->push;
            conn->push = NULL;
        }
    }
}

static bool receive(struct conn *conn) {
    do {
        uint8_t *at = buf_reserve(&conn->in, FRAME_MAX);
        int n = SSL_read(conn->ssl, at, FRAME_MAX);
        if (n <= 0) {
            return false;
        }
        buf_commit(&conn->in, (size_t)n);
    } while (SSL_pending(conn->ssl) > 0);
    return true;
}

static bool open_http(struct conn *conn) {
    conn->ssl = SSL_new(ctx);
    if (conn->ssl == NULL || SSL_set_fd(conn->ssl, conn->fd) != 1 || SSL_accept(conn->ssl) != 1) {
        fprintf(stderr, "xds_server: no handshake: %s\n",
                ERR_reason_error_string(ERR_peek_error()));
        return false;
    }
    uint8_t preface[PREFACE];
    for (int n = 0; n < PREFACE;) {
        int got = SSL_read(conn->ssl, preface + n, PREFACE - n);
        if (got <= 0) {
            return false;
        }
        n += got;
    }
    put_head(&conn->out, 0, H2_SETTINGS, 0, 0);
    return true;
}

static void *serve(void *arg) {
    struct conn *conn = arg;
    bool is_good = open_http(conn) && send_data(conn);
    while (is_good) {
        struct pollfd fds[] = {{conn->fd, POLLIN, 0}, {conn->wake, POLLIN, 0}};
        uint64_t n;
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            die("poll: %s", strerror(errno));
        }
        if (fds[1].revents != 0 && read(conn->wake, &n, sizeof(n)) < 0) {
            die("eventfd: %s", strerror(errno));
        }
        is_good = (fds[0].revents == 0 || (receive(conn) && take_frames(conn))) && send_data(conn);
    }
    struct buf *const bufs[] = {&conn->in, &conn->message, &conn->out, &conn->first};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++) {
        buf_fini(bufs[i]);
    }
    SSL_free(conn->ssl);
    pthread_mutex_lock(&mutex);
    close(conn->fd);
    close(conn->wake);
    *conn = (struct conn){0};
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void start_conn(int fd) {
    pthread_t thread;
    struct conn *conn = NULL;
    load_tune(fd, SILENCE_S);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < MAX_CONNS && conn == NULL; i++) {
        conn = conns[i].is_used ? NULL : &conns[i];
    }
    if (conn == NULL) {
        die("xds_server: more than %d clients", MAX_CONNS);
    }
    *conn = (struct conn){.fd = fd,
                          .wake = eventfd(0, EFD_CLOEXEC),
                          .is_used = true,
                          .conn_window = WINDOW,
                          .initial_window = WINDOW,
                          .last = last_push}; // who comes later gets what comes later
    struct buf *const bufs[] = {&conn->in, &conn->message, &conn->out, &conn->first};
    for (size_t i = 0; i < ARRAY_LEN(bufs); i++) {
        buf_init(bufs[i], SIZE_MAX);
    }
    pthread_mutex_unlock(&mutex);
    if (conn->wake < 0 || pthread_create(&thread, NULL, serve, conn) != 0) {
        die("xds_server: no thread");
    }
    pthread_detach(thread);
}

static void *accept_all(void *arg) {
    for (;;) {
        int fd = accept4(*(int *)arg, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            die("accept: %s", strerror(errno));
        }
        start_conn(fd);
    }
}

// ---- Pushes

// All that are subscribed have acknowledged `nonce`; below the mutex.
static bool is_acked(uint64_t nonce, uint64_t *ret_n_streams) {
    bool is_done = true;
    *ret_n_streams = 0;
    for (size_t i = 0; i < MAX_CONNS; i++) {
        *ret_n_streams += conns[i].is_subscribed;
        is_done &= !conns[i].is_subscribed || conns[i].acked >= nonce;
    }
    return is_done && *ret_n_streams > 0;
}

static void publish(struct push *push) {
    struct timespec until;
    uint64_t n_streams, begin = now_ns(), one = 1;
    double cpu = own_cpu_s();
    size_t len = push->bytes.len;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ACK_TIMEOUT_S;
    pthread_mutex_lock(&mutex);
    last_push->next = push;
    last_push = push;
    for (size_t i = 0; i < MAX_CONNS; i++) {
        if (conns[i].is_used && write(conns[i].wake, &one, sizeof(one)) < 0) {
            die("eventfd: %s", strerror(errno));
        }
    }
    while (!is_acked(n_pushes, &n_streams)) {
        if (pthread_cond_timedwait(&changed, &mutex, &until) != 0) {
            die("xds_server: %lu clients, and not all have acknowledged after %d s", n_streams,
                ACK_TIMEOUT_S);
        }
    }
    pthread_mutex_unlock(&mutex);
    printf("{\"streams\": %lu, \"bytes\": %zu, \"acked_us\": %.1f, \"own_cpu_s\": %.4f}\n",
           n_streams, len, (double)(now_ns() - begin) * 1e-3, own_cpu_s() - cpu);
    fflush(stdout);
}

static struct push *new_push(bool is_load, uint64_t change) {
    struct push *push = calloc(1, sizeof(*push));
    if (push == NULL) {
        die("no memory");
    }
    buf_init(&push->bytes, SIZE_MAX);
    n_pushes++;
    if (is_load) {
        xds_mesh_all(&push->bytes, &mesh, n_pushes);
    } else {
        xds_mesh_change(&push->bytes, &mesh, change, n_pushes);
    }
    grpc_wrap(&push->bytes, 0);
    return push;
}

static void run(void) {
    char line[64];
    uint64_t n_changes = 0;
    while (fgets(line, sizeof(line), stdin) != NULL) {
        bool is_load = strcmp(line, "load\n") == 0;
        if (!is_load && strcmp(line, "change\n") != 0) {
            die("xds_server: there is `load` and `change`, not `%s`", line);
        }
        publish(new_push(is_load, n_changes));
        n_changes += !is_load;
    }
}

static int select_h2(SSL *ssl, const uint8_t **ret_proto, uint8_t *ret_len, const uint8_t *in,
                     unsigned len, void *arg) {
    (void)ssl, (void)arg;
    return SSL_select_next_proto((uint8_t **)ret_proto, ret_len, in, len, (const uint8_t *)"\2h2",
                                 3) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *make_ctx(const char *cert, const char *key) {
    SSL_CTX *made = SSL_CTX_new(TLS_method());
    if (made == NULL || SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(made, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1) {
        die("xds_server: %s, %s: %s", cert, key, ERR_reason_error_string(ERR_peek_error()));
    }
    SSL_CTX_set_alpn_select_cb(made, select_h2, NULL);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    return made;
}

int main(int argc, char **argv) {
    const struct load_option options[] = {{"services", &mesh.n_services, 1000000},
                                          {"endpoints", &mesh.n_endpoints, 10000000},
                                          {NULL, NULL, 0}};
    const char *usage = "xds_server ADDR CERT KEY [--services=10000] [--endpoints=100000]";
    pthread_condattr_t attr;
    pthread_t thread;
    if (load_options(argc, argv, options, usage) != 3 || mesh.n_services == 0 ||
        mesh.n_endpoints < mesh.n_services) {
        die("usage: %s", usage);
    }
    struct load_addr addr = load_addr(argv[0]);
    ctx = make_ctx(argv[1], argv[2]);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attr);
    int fd = load_listen(&addr);
    if (pthread_create(&thread, NULL, accept_all, &fd) != 0) {
        die("xds_server: no thread");
    }
    printf("ready\n");
    fflush(stdout);
    run();
    return 0;
}
