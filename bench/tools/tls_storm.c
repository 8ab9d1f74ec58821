// SPDX-License-Identifier: Apache-2.0
//
// tls_storm ADDR CERT KEY: new mutual TLS 1.3 connections to an HBONE port, at a rate, each closed
// when the first bytes of the server have come (its SETTINGS: it has accepted the certificate).
//
//   --rate=500 --seconds=2   handshakes a second, for so long
//   --threads=4              this many at a time; what they cannot keep up with comes later
//   --x25519                 that key exchange alone, without the hybrid one
//   --wait                   say "ready" after the first handshake, begin when a line comes in
//
// CERT and KEY are PEM files. The server's certificate is not looked at. JSON on stdout.
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>

#include "bench/tools/load.h"

enum { MAX_THREADS = 64, TIMEOUT_S = 10 };

static uint64_t rate = 500, seconds = 2, n_threads = 4, is_x25519;
static struct load_addr addr;
static SSL_CTX *ctx;
static uint64_t start_ns, n_taken, n_done; // the last two atomic

static SSL_CTX *make_ctx(const char *cert, const char *key) {
    static const uint8_t alpn[] = {2, 'h', '2'};
    const uint16_t groups[] = {SSL_GROUP_X25519_MLKEM768, SSL_GROUP_X25519};
    size_t n_skipped = is_x25519 != 0;
    SSL_CTX *made = SSL_CTX_new(TLS_method());
    if (made == NULL || SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(made, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set1_group_ids(made, groups + n_skipped, 2 - n_skipped) != 1 ||
        SSL_CTX_set_alpn_protos(made, alpn, sizeof(alpn)) != 0) {
        die("tls_storm: %s, %s: %s", cert, key, ERR_reason_error_string(ERR_peek_error()));
    }
    SSL_CTX_set_verify(made, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    return made;
}

static void handshake(void) {
    char first;
    int fd = load_connect(&addr, TIMEOUT_S);
    SSL *ssl = SSL_new(ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1 ||
        SSL_read(ssl, &first, 1) != 1) {
        die("tls_storm: no handshake: %s", ERR_reason_error_string(ERR_peek_error()));
    }
    SSL_free(ssl);
    close(fd);
}

static void *work(void *arg) {
    (void)arg;
    uint64_t end_ns = start_ns + seconds * 1000000000;
    for (;;) {
        uint64_t due =
            start_ns + __atomic_fetch_add(&n_taken, 1, __ATOMIC_RELAXED) * 1000000000 / rate;
        if (due >= end_ns || now_ns() >= end_ns) {
            return NULL;
        }
        struct timespec until = {.tv_sec = (time_t)(due / 1000000000),
                                 .tv_nsec = (long)(due % 1000000000)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
        }
        handshake();
        __atomic_fetch_add(&n_done, 1, __ATOMIC_RELAXED);
    }
}

int main(int argc, char **argv) {
    uint64_t wait = 0;
    const struct load_option options[] = {
        {"rate", &rate, 100000},   {"seconds", &seconds, 600}, {"threads", &n_threads, MAX_THREADS},
        {"x25519", &is_x25519, 1}, {"wait", &wait, 1},         {NULL, NULL, 0}};
    const char *usage = "tls_storm ADDR CERT KEY [--rate=500] [--seconds=2] [--threads=4] "
                        "[--x25519] [--wait]";
    if (load_options(argc, argv, options, usage) != 3 || rate == 0 || n_threads == 0) {
        die("usage: %s", usage);
    }
    addr = load_addr(argv[0]);
    ctx = make_ctx(argv[1], argv[2]);
    handshake();
    load_wait_go(wait != 0);
    double cpu = own_cpu_s();
    pthread_t threads[MAX_THREADS];
    start_ns = now_ns();
    for (uint64_t i = 0; i < n_threads; i++) {
        if (pthread_create(&threads[i], NULL, work, NULL) != 0) {
            die("no thread");
        }
    }
    for (uint64_t i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }
    double took = (double)(now_ns() - start_ns) * 1e-9;
    printf("{\"handshakes\": %lu, \"seconds\": %.4f, \"rate\": %.1f, \"own_cpu_s\": %.4f}\n",
           (unsigned long)n_done, took, (double)n_done / took, own_cpu_s() - cpu);
    SSL_CTX_free(ctx);
    return 0;
}
