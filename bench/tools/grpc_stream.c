// SPDX-License-Identifier: Apache-2.0
//
// A gRPC call that is a stream both ways: messages of 128 bytes, each answered by one of 1 KB
// before the next one is sent.
//
//   grpc_stream --serve ADDR [--life-s=3600]
//   grpc_stream ADDR PATH HOST [--conns=32] [--seconds=5] [--wait]
//
// HTTP/2 with prior knowledge on blocking sockets, a thread and a stream for each connection of the
// client; proxies may put many streams on one connection of the server. Nothing counts the peer's
// windows: of each stream one message is under way, so MAX_CONNS of them stay below the smallest
// window that RFC 9113 starts with. JSON on stdout.
#include <pthread.h>

#include "bench/tools/load_h2.h"

enum {
    MAX_CONNS = 60,
    MAX_STREAMS = 1 << 16, // of a connection of the server, in all
    REQUEST = 5 + 128,
    ANSWER = 5 + 1024,
    UPDATE = 16384, // bytes taken before a window is opened again
    TIMEOUT_S = 20,
};
enum { H2_PING = 6, H2_WINDOW_UPDATE = 8, H2_CONTINUATION };
enum { END_STREAM = 1, END_HEADERS = 4, ACK = 1 };

struct h2 { // one end of a connection
    int fd;
    uint32_t taken; // since the last WINDOW_UPDATE of the connection
    uint8_t type, flags;
    uint32_t stream, len;
    uint8_t payload[1 << 14];
};

static bool send_frame(int fd, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
                       uint32_t len) {
    uint8_t frame[H2_HEAD + ANSWER];
    uint8_t head[H2_HEAD] = {0,
                             (uint8_t)(len >> 8),
                             (uint8_t)len,
                             type,
                             flags,
                             (uint8_t)(stream >> 24),
                             (uint8_t)(stream >> 16),
                             (uint8_t)(stream >> 8),
                             (uint8_t)stream};
    if (len > ANSWER) {
        die("a frame of %u bytes", len);
    }
    memcpy(frame, head, sizeof(head));
    if (len > 0) {
        memcpy(frame + H2_HEAD, payload, len);
    }
    return load_send(fd, frame, H2_HEAD + len, 0);
}

static bool open_window(int fd, uint32_t stream, uint32_t n) {
    uint8_t payload[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    return send_frame(fd, H2_WINDOW_UPDATE, 0, stream, payload, sizeof(payload));
}

// The next frame that is not the connection's own; false at the end.
static bool next_frame(struct h2 *h2) {
    for (;;) {
        uint8_t head[H2_HEAD];
        if (!load_recv(h2->fd, head, sizeof(head))) {
            return false;
        }
        h2->len = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
        h2->type = head[3];
        h2->flags = head[4];
        h2->stream =
            ((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8]) &
            0x7fffffff;
        if (h2->len > sizeof(h2->payload) || !load_recv(h2->fd, h2->payload, h2->len)) {
            return false;
        }
        bool wants_ack = (h2->type == H2_SETTINGS || h2->type == H2_PING) && !(h2->flags & ACK);
        if (wants_ack &&
            !send_frame(h2->fd, h2->type, ACK, 0, h2->payload, h2->type == H2_PING ? h2->len : 0)) {
            return false;
        }
        if (h2->type == H2_DATA) {
            h2->taken += h2->len;
            if (h2->taken >= UPDATE) {
                if (!open_window(h2->fd, 0, h2->taken)) {
                    return false;
                }
                h2->taken = 0;
            }
        }
        if (h2->type == H2_DATA || h2->type == H2_HEADERS || h2->type == H2_RST_STREAM ||
            h2->type == H2_GOAWAY || h2->type == H2_CONTINUATION) {
            return true;
        }
    }
}

// HPACK: a literal that is not indexed, with a name of its own or of the static table.
static size_t put_text(uint8_t *out, const char *text) {
    size_t len = strlen(text);
    if (len > 126) {
        die("%s: too long", text);
    }
    out[0] = (uint8_t)len;
    memcpy(out + 1, text, len);
    return 1 + len;
}

static size_t put_content_type(uint8_t *out) {
    out[0] = 0x0f;
    out[1] = 31 - 15;
    return 2 + put_text(out + 2, "application/grpc");
}

static void message(uint8_t *out, uint32_t len) {
    uint8_t prefix[5] = {0, 0, 0, (uint8_t)((len - 5) >> 8), (uint8_t)(len - 5)};
    memcpy(out, prefix, sizeof(prefix));
    memset(out + 5, 'x', len - 5);
}

// ---- Server
// --------------------------------------------------------------------------------------

static bool answer_data(struct h2 *h2, uint32_t *got, const uint8_t *reply) {
    uint32_t *n = &got[h2->stream / 2];
    for (*n += h2->len; *n >= REQUEST; *n -= REQUEST) {
        if (!send_frame(h2->fd, H2_DATA, 0, h2->stream, reply, ANSWER)) {
            return false;
        }
    }
    return h2->len == 0 || open_window(h2->fd, h2->stream, h2->len);
}

static bool answer_frame(struct h2 *h2, uint32_t *got, const uint8_t *reply) {
    uint8_t fields[64];
    bool is_new = h2->type == H2_HEADERS;
    if (h2->stream / 2 >= MAX_STREAMS || h2->type == H2_GOAWAY) {
        return false;
    }
    if (is_new) {
        fields[0] = 0x88;
        size_t n = 1 + put_content_type(fields + 1);
        if (!send_frame(h2->fd, H2_HEADERS, END_HEADERS, h2->stream, fields, (uint32_t)n)) {
            return false;
        }
    }
    if (h2->type == H2_DATA && !answer_data(h2, got, reply)) {
        return false;
    }
    if ((is_new || h2->type == H2_DATA) && (h2->flags & END_STREAM)) {
        fields[0] = 0;
        size_t n = 1 + put_text(fields + 1, "grpc-status");
        n += put_text(fields + n, "0");
        return send_frame(h2->fd, H2_HEADERS, END_HEADERS | END_STREAM, h2->stream, fields,
                          (uint32_t)n);
    }
    return true;
}

static void *serve(void *arg) {
    struct h2 *h2 = calloc(1, sizeof(*h2));
    uint32_t *got = calloc(MAX_STREAMS, sizeof(*got)); // bytes of the message that comes in
    uint8_t preface[24], reply[ANSWER];
    if (h2 == NULL || got == NULL) {
        die("no memory");
    }
    h2->fd = (int)(intptr_t)arg;
    message(reply, ANSWER);
    load_tune(h2->fd, 0);
    if (load_recv(h2->fd, preface, sizeof(preface)) &&
        send_frame(h2->fd, H2_SETTINGS, 0, 0, NULL, 0)) {
        while (next_frame(h2) && answer_frame(h2, got, reply)) {
        }
    }
    close(h2->fd);
    free(got);
    free(h2);
    return NULL;
}

static void run_server(const char *text, uint64_t life_s) {
    struct load_addr addr = load_addr(text);
    int listener = load_listen(&addr);
    alarm((unsigned)life_s);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0) {
            pthread_detach(thread);
        }
    }
}

// ---- Client
// --------------------------------------------------------------------------------------

static uint64_t end_ns;

struct call {
    struct h2 h2;
    struct load_hist latency;
    pthread_t thread;
};

// One message and its answer.
static void exchange(struct call *call, const uint8_t *request) {
    uint32_t got = 0;
    if (!send_frame(call->h2.fd, H2_DATA, 0, 1, request, REQUEST)) {
        die("grpc_stream: send: %s", strerror(errno));
    }
    while (got < ANSWER) {
        bool is_ok = next_frame(&call->h2) && !(call->h2.flags & END_STREAM) &&
                     (call->h2.type == H2_DATA || call->h2.type == H2_HEADERS);
        if (!is_ok) {
            die("grpc_stream: the stream ended: frame type %u", call->h2.type);
        }
        got += call->h2.type == H2_DATA ? call->h2.len : 0;
    }
    if (got != ANSWER || !open_window(call->h2.fd, 1, ANSWER)) {
        die("grpc_stream: an answer of %u bytes", got);
    }
}

static void open_call(struct call *call, const struct load_addr *addr, const char *path,
                      const char *host) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    uint8_t fields[512], request[REQUEST];
    size_t n = 0;
    fields[n++] = 0x83; // POST
    fields[n++] = 0x86; // http
    fields[n++] = 0x04; // :path
    n += put_text(fields + n, path);
    fields[n++] = 0x01; // :authority
    n += put_text(fields + n, host);
    n += put_content_type(fields + n);
    fields[n++] = 0;
    n += put_text(fields + n, "te");
    n += put_text(fields + n, "trailers");
    call->h2.fd = load_connect(addr, TIMEOUT_S);
    if (!load_send(call->h2.fd, preface, sizeof(preface) - 1, 0) ||
        !send_frame(call->h2.fd, H2_SETTINGS, 0, 0, NULL, 0) ||
        !send_frame(call->h2.fd, H2_HEADERS, END_HEADERS, 1, fields, (uint32_t)n)) {
        die("grpc_stream: %s", strerror(errno));
    }
    message(request, REQUEST);
    exchange(call, request);
}

static void *run_call(void *arg) {
    struct call *call = arg;
    uint8_t request[REQUEST];
    message(request, REQUEST);
    for (uint64_t begin = now_ns(); begin < end_ns; begin = now_ns()) {
        exchange(call, request);
        hist_add(&call->latency, now_ns() - begin);
    }
    if (!send_frame(call->h2.fd, H2_DATA, END_STREAM, 1, NULL, 0) || !next_frame(&call->h2) ||
        call->h2.type != H2_HEADERS || !(call->h2.flags & END_STREAM)) {
        die("grpc_stream: no trailers");
    }
    close(call->h2.fd);
    return NULL;
}

int main(int argc, char **argv) {
    uint64_t n_conns = 32, seconds = 5, wait = 0, is_serve = 0, life_s = 3600;
    const struct load_option options[] = {
        {"conns", &n_conns, MAX_CONNS}, {"seconds", &seconds, 3600}, {"wait", &wait, 1},
        {"serve", &is_serve, 1},        {"life-s", &life_s, 86400},  {NULL, NULL, 0}};
    const char *usage = "grpc_stream --serve ADDR [--life-s=3600] | "
                        "grpc_stream ADDR PATH HOST [--conns=32] [--seconds=5] [--wait]";
    int n = load_options(argc, argv, options, usage);
    if (n != (is_serve ? 1 : 3) || n_conns == 0) {
        die("usage: %s", usage);
    }
    if (is_serve != 0) {
        run_server(argv[0], life_s);
    }
    struct load_addr addr = load_addr(argv[0]);
    struct call *calls = calloc(n_conns, sizeof(*calls));
    if (calls == NULL) {
        die("no memory");
    }
    for (uint64_t i = 0; i < n_conns; i++) {
        open_call(&calls[i], &addr, argv[1], argv[2]);
    }
    load_wait_go(wait != 0);
    double cpu = own_cpu_s();
    uint64_t begin = now_ns();
    end_ns = begin + seconds * 1000000000;
    for (uint64_t i = 0; i < n_conns; i++) {
        if (pthread_create(&calls[i].thread, NULL, run_call, &calls[i]) != 0) {
            die("no thread");
        }
    }
    for (uint64_t i = 0; i < n_conns; i++) {
        pthread_join(calls[i].thread, NULL);
        if (i > 0) {
            hist_merge(&calls[0].latency, &calls[i].latency);
        }
    }
    double took = (double)(now_ns() - begin) * 1e-9;
    printf("{\"requests\": %lu, \"seconds\": %.4f, \"rate\": %.1f, \"own_cpu_s\": %.4f, ",
           (unsigned long)calls[0].latency.n, took, (double)calls[0].latency.n / took,
           own_cpu_s() - cpu);
    hist_print(&calls[0].latency, "");
    printf("}\n");
    return 0;
}
