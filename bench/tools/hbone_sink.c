// SPDX-License-Identifier: Apache-2.0
//
// hbone_sink ADDR CERT KEY: as much of an HBONE server as new tunnels need whose client side is
// measured: mutual TLS 1.3 with X25519 and no other key exchange (RFC 8446), HTTP/2 (RFC 9113), 200
// to each CONNECT, and in the tunnel the answers of a reqserver. It runs until it is stopped.
//
// CERT and KEY are PEM files. The client has to have a certificate; which one is not looked at.
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>

#include "bench/tools/load_h2.h"

enum { TIMEOUT_S = 600, H2_ACK = 1, H2_END_HEADERS = 4, PREFACE = 24, FRAME_MAX = 16384 };

static SSL_CTX *ctx;

static enum ssl_verify_result_t accept_any(SSL *ssl, uint8_t *alert) {
    (void)ssl;
    (void)alert;
    return ssl_verify_ok;
}

static int select_h2(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                     unsigned in_len, void *arg) {
    static const uint8_t h2[] = {2, 'h', '2'};
    (void)ssl;
    (void)arg;
    return SSL_select_next_proto((uint8_t **)out, out_len, in, in_len, h2, sizeof(h2)) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *make_ctx(const char *cert, const char *key) {
    const uint16_t group = SSL_GROUP_X25519;
    SSL_CTX *made = SSL_CTX_new(TLS_method());
    if (made == NULL || SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(made, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set1_group_ids(made, &group, 1) != 1) {
        die("hbone_sink: %s, %s: %s", cert, key, ERR_reason_error_string(ERR_peek_error()));
    }
    SSL_CTX_set_custom_verify(made, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
    SSL_CTX_set_alpn_select_cb(made, select_h2, NULL);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(made, 0);
    return made;
}

static bool read_all(SSL *ssl, void *into, size_t len) {
    for (size_t got = 0; got < len;) {
        int n = SSL_read(ssl, (uint8_t *)into + got, (int)(len - got));
        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

static size_t put_frame(uint8_t *out, uint8_t type, uint8_t flags, const uint8_t stream[4],
                        const void *payload, size_t len) {
    const uint8_t head[H2_HEAD] = {0,         (uint8_t)(len >> 8), (uint8_t)len, type,     flags,
                                   stream[0], stream[1],           stream[2],    stream[3]};
    memcpy(out, head, sizeof(head));
    if (len > 0) {
        memcpy(out + sizeof(head), payload, len);
    }
    return sizeof(head) + len;
}

// Into `out`: what a frame is answered with.
static size_t answer(const uint8_t head[H2_HEAD], const uint8_t *payload, size_t len,
                     bool *has_begun, uint8_t *out) {
    // The dynamic table is not used (RFC 7541 4.2: said after a SETTINGS that made it smaller).
    static const uint8_t connection[4], status_200[] = {0x20, 0x88};
    uint8_t message[LOAD_MESSAGE_MAX];
    struct load_head request;
    size_t n = 0;
    switch (head[3]) {
    case H2_HEADERS:
        if (!*has_begun) { // in the same record as the first answer, as ztun does it
            *has_begun = true;
            n += put_frame(out + n, H2_SETTINGS, 0, connection, NULL, 0);
            n += put_frame(out + n, H2_SETTINGS, H2_ACK, connection, NULL, 0);
        }
        n += put_frame(out + n, H2_HEADERS, H2_END_HEADERS, head + 5, status_200,
                       sizeof(status_200));
        break;
    case H2_DATA:
        if (len == 0) {
            break; // the end of a flow
        }
        if (len < sizeof(request)) {
            die("hbone_sink: half a request");
        }
        memcpy(&request, payload, sizeof(request));
        if (request.magic != LOAD_MAGIC || request.len != len ||
            request.answer_len < sizeof(request) || request.answer_len > 1024) {
            die("hbone_sink: not a small request");
        }
        request =
            (struct load_head){.magic = LOAD_MAGIC, .len = request.answer_len, .seq = request.seq};
        memcpy(message, &request, sizeof(request));
        memcpy(message + sizeof(request), load_pattern_at(request.seq + 1),
               request.len - sizeof(request));
        n += put_frame(out, H2_DATA, 0, head + 5, message, request.len);
        break;
    default: // SETTINGS, WINDOW_UPDATE, RST_STREAM, GOAWAY: nothing of it matters here
        break;
    }
    return n;
}

static void *serve(void *arg) {
    int fd = (int)(intptr_t)arg;
    uint8_t head[H2_HEAD], payload[FRAME_MAX], out[4096];
    bool has_begun = false;
    SSL *ssl = SSL_new(ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        die("hbone_sink: no connection");
    }
    if (SSL_accept(ssl) != 1) {
        die("hbone_sink: no handshake: %s", ERR_reason_error_string(ERR_peek_error()));
    }
    bool is_open = read_all(ssl, payload, PREFACE);
    while (is_open && read_all(ssl, head, sizeof(head))) {
        size_t len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (len > sizeof(payload)) {
            die("hbone_sink: a frame of %zu bytes", len);
        }
        is_open = read_all(ssl, payload, len);
        size_t n = is_open ? answer(head, payload, len, &has_begun, out) : 0;
        is_open = is_open && (n == 0 || SSL_write(ssl, out, (int)n) == (int)n);
    }
    SSL_free(ssl);
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    const struct load_option options[] = {{NULL, NULL, 0}};
    const char *usage = "hbone_sink ADDR CERT KEY";
    if (load_options(argc, argv, options, usage) != 3) {
        die("usage: %s", usage);
    }
    struct load_addr addr = load_addr(argv[0]);
    load_pattern_init();
    ctx = make_ctx(argv[1], argv[2]);
    int listener = load_listen(&addr);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd < 0) {
            die("accept: %s", strerror(errno));
        }
        load_tune(fd, TIMEOUT_S);
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0) {
            die("no thread");
        }
        pthread_detach(thread);
    }
}
