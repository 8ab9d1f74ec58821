// SPDX-License-Identifier: Apache-2.0
//
// Against a TLS stack that shares no code with ours: the programs `openssl s_client` and
// `openssl s_server`, over loopback. Every wait is bounded.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "tests/unit/tls/tls_fixture.h"

enum { BULK = 3 << 20, WAIT_MS = 20000, TEST_S = 120 };

static char dir[] = "/tmp/ztun-test-tls-XXXXXX";
static struct tls_ctx *ctx, *ctx_outside;

static void write_file(const char *name, const char *text) {
    char *path = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static int setup(void **state) {
    struct fix_ca root = {0}, mid = {0};
    struct tls_svid svid;
    char *error = NULL;
    int64_t now = time(NULL); // the programs look at the real clock
    signal(SIGPIPE, SIG_IGN);
    alarm(TEST_S);
    fix_pool_setup(state);
    CHECK(mkdtemp(dir) != NULL);
    tls_ca_make_root(SLICE_LIT("cluster.local"), now, &root.cert_pem, &root.key_pem);
    CHECK(tls_ca_make_intermediate(slice_str(root.cert_pem), slice_str(root.key_pem),
                                   SLICE_LIT("mid"), now, FIX_DAY, &mid.cert_pem, &mid.key_pem,
                                   &error));
    struct tls_ca_params params = {
        .ca_cert_pem = slice_str(mid.cert_pem),
        .ca_key_pem = slice_str(mid.key_pem),
        .root_cert_pem = slice_str(root.cert_pem),
        .now_s = now,
    };
    mid.ca = tls_ca_new(&params, &error);
    CHECK(mid.ca != NULL);
    CHECK(tls_ca_sign(mid.ca, slice_str(FIX_CLIENT), now, 3600, &svid, &error));
    write_file("cert.pem", svid.cert_chain_pem);
    write_file("key.pem", svid.key_pem);
    write_file("roots.pem", svid.roots_pem);
    struct tls_ctx_params ctx_params = {
        .cert_chain_pem = slice_str(svid.cert_chain_pem),
        .key_pem = slice_str(svid.key_pem),
        .roots_pem = slice_str(svid.roots_pem),
    };
    ctx = tls_ctx_new(&ctx_params, &error);
    CHECK(ctx != NULL);
    struct tls_outside_params outside_params = {.roots_pem = slice_str(svid.roots_pem)};
    ctx_outside = tls_ctx_new_outside(&outside_params, &error);
    CHECK(ctx_outside != NULL);
    tls_svid_fini(&svid);
    fix_ca_fini(&mid);
    fix_ca_fini(&root);
    return 0;
}

static int teardown(void **state) {
    static const char *const names[] = {"cert.pem", "key.pem", "roots.pem"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = xasprintf("%s/%s", dir, names[i]);
        unlink(path);
        free(path);
    }
    rmdir(dir);
    tls_ctx_unref(ctx);
    tls_ctx_unref(ctx_outside);
    return fix_pool_teardown(state);
}

// ---- The program

struct program {
    pid_t pid;
    int to, from; // its stdin, its stdout and stderr
    struct buf output;
};

static void program_start(struct program *p, const char *const *args) {
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        if (chdir(dir) == 0) {
            execvp("openssl", (char *const *)args);
        }
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    p->to = in[1];
    p->from = out[0];
    assert_int_equal(fcntl(p->to, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fcntl(p->from, F_SETFL, O_NONBLOCK), 0);
    buf_init(&p->output, 64 << 20);
}

static void program_stop(struct program *p) {
    if (p->to >= 0) {
        close(p->to);
    }
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
    close(p->from);
    buf_fini(&p->output);
}

// True when the output has the text.
static bool program_said(struct program *p, const char *text) {
    return p->output.len > 0 && memmem(p->output.ptr, p->output.len, text, strlen(text)) != NULL;
}

// ---- Our side

struct peer {
    int fd;
    struct tls_handshake *hs;
    struct tls_record *record;
    struct chain out, plain;
    struct buf in, got;
    size_t at; // consumed of `in`
    bool is_closed; // by close_notify
    enum tls_err err; // of a record
    struct program *program;
    struct slice feed; // for the program's stdin
};

static void peer_init(struct peer *peer, struct program *program, bool we_connect) {
    *peer = (struct peer){.fd = -1, .program = program};
    chain_init(&peer->out, &fix_pool);
    chain_init(&peer->plain, &fix_pool);
    buf_init(&peer->in, 64 << 20);
    buf_init(&peer->got, 64 << 20);
    peer->hs = we_connect ? tls_handshake_new_client(ctx, NULL, 0) : tls_handshake_new_server(ctx);
}

static void peer_fini(struct peer *peer) {
    tls_handshake_free(peer->hs);
    tls_record_free(peer->record);
    chain_clear(&peer->out);
    chain_clear(&peer->plain);
    buf_fini(&peer->in);
    buf_fini(&peer->got);
    if (peer->fd >= 0) {
        close(peer->fd);
    }
}

static enum tls_err want_err; // the one that is no failure

static void peer_open(struct peer *peer) {
    size_t used = 0, off, len, need;
    for (;;) {
        switch (tls_record_open(peer->record, peer->in.ptr + peer->at, peer->in.len - peer->at,
                                &used, &off, &len, &need)) {
        case TLS_OPEN_MORE:
            return;
        case TLS_OPEN_DATA:
            buf_append(&peer->got, slice_make(peer->in.ptr + peer->at + off, len));
            break;
        case TLS_OPEN_NONE:
            break;
        case TLS_OPEN_CLOSED:
            peer->is_closed = true;
            return;
        case TLS_OPEN_ERROR:
            peer->err = tls_record_error(peer->record);
            if (peer->err != want_err) {
                fail_msg("%s", tls_err_label(peer->err));
            }
            return;
        }
        peer->at += used;
    }
}

static void peer_shake(struct peer *peer, struct slice bytes) {
    struct slice rest;
    switch (tls_handshake_recv(peer->hs, bytes, time(NULL), &peer->out)) {
    case TLS_STEP_MORE:
        return;
    case TLS_STEP_ERROR:
        fail_msg("%s: %s", tls_err_label(tls_handshake_error(peer->hs)),
                 tls_handshake_error_detail(peer->hs));
        return;
    case TLS_STEP_DONE:
        peer->record = tls_handshake_take(peer->hs, &rest);
        if (rest.len > 0) {
            buf_append(&peer->in, rest);
            peer_open(peer);
        }
    }
}

static void peer_recv(struct peer *peer) {
    uint8_t bytes[20000];
    ssize_t n = recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n > 0 && peer->record == NULL) {
        peer_shake(peer, slice_make(bytes, (size_t)n));
    } else if (n > 0) {
        buf_append(&peer->in, slice_make(bytes, (size_t)n));
        peer_open(peer);
    } else if (n == 0) {
        close(peer->fd);
        peer->fd = -1;
    }
}

static void peer_send(struct peer *peer) {
    struct iovec iov[16];
    size_t n_bytes;
    if (peer->record != NULL) {
        tls_record_seal(peer->record, &peer->plain, &peer->out, 256 << 10);
    }
    struct msghdr msg = {.msg_iov = iov};
    msg.msg_iovlen = (size_t)chain_iovec(&peer->out, iov, ARRAY_LEN(iov), &n_bytes);
    ssize_t n = msg.msg_iovlen > 0 ? sendmsg(peer->fd, &msg, MSG_DONTWAIT) : 0;
    if (n > 0) {
        chain_skip(&peer->out, (size_t)n);
    }
}

static void program_io(struct peer *peer) {
    struct program *p = peer->program;
    uint8_t bytes[20000];
    ssize_t n;
    while ((n = read(p->from, bytes, sizeof(bytes))) > 0) {
        buf_append(&p->output, slice_make(bytes, (size_t)n));
    }
    if (peer->feed.len > 0) {
        n = write(p->to, peer->feed.ptr, MIN(peer->feed.len, (size_t)8192));
        if (n > 0) {
            peer->feed = slice_skip(peer->feed, (size_t)n);
        }
    }
}

// Moves bytes until `done` says so; fails when it takes too long.
static void peer_run(struct peer *peer, bool (*done)(struct peer *)) {
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (!done(peer)) {
        struct pollfd fds[] = {
            {peer->fd, (short)(POLLIN | (chain_empty(&peer->out) ? 0 : POLLOUT)), 0},
            {peer->program->from, POLLIN, 0},
            {peer->feed.len > 0 ? peer->program->to : -1, POLLOUT, 0},
        };
        poll(fds, ARRAY_LEN(fds), 50);
        if (peer->fd >= 0) {
            peer_recv(peer);
        }
        if (peer->fd >= 0) {
            peer_send(peer);
        }
        program_io(peer);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((now.tv_sec - start.tv_sec) * 1000 > WAIT_MS) {
            fail_msg("timeout: %s", buf_cstr(&peer->program->output));
        }
    }
}

static void peer_write(struct peer *peer, struct slice bytes) {
    while (bytes.len > 0) {
        struct slice part = slice_head(bytes, 16384);
        struct blk *blk = blk_new_cold(&fix_pool, part.len + 31);
        memcpy(blk->base + 14, part.ptr, part.len);
        chain_give_room(&peer->plain, blk, 14, (uint32_t)part.len, 14, 17);
        bytes = slice_skip(bytes, part.len);
    }
}

// ---- Conditions

static size_t want_got, want_output, want_updates;
static const uint8_t *want_text; // BULK bytes

static bool has_record(struct peer *peer) {
    return peer->record != NULL && chain_empty(&peer->out);
}
static bool has_got(struct peer *peer) {
    return peer->got.len >= want_got;
}
static bool has_output(struct peer *peer) {
    return peer->program->output.len >= want_output;
}
// The text, apart from the "Read BLOCK" lines that s_server throws in.
static bool has_text(struct peer *peer) {
    static const char noise[] = "Read BLOCK\n";
    const struct buf *output = &peer->program->output;
    struct buf clean;
    if (output->len < BULK) {
        return false;
    }
    buf_init(&clean, output->max);
    for (struct slice rest = buf_slice(output); rest.len > 0;) {
        const uint8_t *at = memmem(rest.ptr, rest.len, noise, sizeof(noise) - 1);
        size_t n = at != NULL ? (size_t)(at - rest.ptr) : rest.len;
        buf_append(&clean, slice_head(rest, n));
        rest = slice_skip(rest, at != NULL ? n + sizeof(noise) - 1 : n);
    }
    bool ok = clean.len >= BULK && memmem(clean.ptr, clean.len, want_text, BULK) != NULL;
    buf_fini(&clean);
    return ok;
}
static bool has_updates(struct peer *peer) {
    struct tls_record_stats stats;
    tls_record_stats(peer->record, &stats);
    return stats.n_read_updates == want_updates && stats.n_write_updates == 1;
}
static bool has_sent(struct peer *peer) {
    return chain_empty(&peer->plain) && chain_empty(&peer->out);
}
static bool has_closed(struct peer *peer) {
    return peer->is_closed;
}
static bool has_address(struct peer *peer) {
    return program_said(peer->program, "ACCEPT ") &&
           peer->program->output.ptr[peer->program->output.len - 1] == '\n';
}

static bool has_failed(struct peer *peer) {
    return peer->err != TLS_OK;
}

// Text that is no command of s_client or s_server at any place.
static uint8_t *bulk_text(void) {
    uint8_t *text = xmalloc(BULK);
    uint64_t seed = 7;
    for (size_t i = 0; i < BULK; i++) {
        text[i] = i % 64 == 63 ? '\n' : (uint8_t)('0' + fix_rand(&seed) % 10);
    }
    return text;
}

// ---- s_client

static int listen_any(uint16_t *ret_port) {
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
    *ret_port = ntohs(sin.sin_port);
    return fd;
}

static void start_client(struct peer *peer, struct program *p, const char *suite,
                         const char *groups, bool is_quiet) {
    uint16_t port;
    int fd = listen_any(&port);
    char *connect_to = xasprintf("127.0.0.1:%u", port);
    const char *const args[] = {"openssl",
                                "s_client",
                                "-connect",
                                connect_to,
                                "-tls1_3",
                                "-alpn",
                                "h2",
                                "-cert",
                                "cert.pem",
                                "-cert_chain",
                                "cert.pem",
                                "-key",
                                "key.pem",
                                "-CAfile",
                                "roots.pem",
                                "-verify_return_error",
                                "-ciphersuites",
                                suite,
                                "-groups",
                                groups,
                                is_quiet ? "-quiet" : NULL,
                                "-no_ign_eof",
                                NULL};
    program_start(p, args);
    peer_init(peer, p, false);
    struct pollfd pfd = {fd, POLLIN, 0};
    assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
    peer->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(peer->fd >= 0);
    close(fd);
    free(connect_to);
    peer_run(peer, has_record);
}

// Key updates by command, text both ways, close_notify.
static void test_s_client_commands(void **state) {
    struct program p;
    struct peer peer;
    start_client(&peer, &p, "TLS_AES_128_GCM_SHA256", "X25519", false);
    const struct tls_peer *id = tls_handshake_peer(peer.hs);
    assert_true(slice_eq_str(id->identity, FIX_CLIENT));
    assert_int_equal(id->suite, TLS_SUITE_AES_128_GCM_SHA256);
    assert_int_equal(id->group, SSL_GROUP_X25519);
    peer.feed = SLICE_LIT("hello\n");
    want_got = 6;
    peer_run(&peer, has_got);
    peer.feed = SLICE_LIT("K\n"); // update, asks for ours
    want_updates = 1;
    peer_run(&peer, has_updates); // a command must be a read of its own
    peer.feed = SLICE_LIT("k\n"); // update, does not ask
    want_updates = 2;
    peer_run(&peer, has_updates);
    peer_write(&peer, SLICE_LIT("from-ztun\n"));
    want_output = p.output.len + 10;
    peer_run(&peer, has_output);
    assert_true(program_said(&p, "from-ztun"));
    assert_true(program_said(&p, "ALPN protocol: h2"));
    assert_true(program_said(&p, "Verification: OK"));
    peer.feed = SLICE_LIT("Q\n");
    peer_run(&peer, has_closed);
    assert_int_equal(tls_record_eof(peer.record), TLS_OK);
    peer_fini(&peer);
    program_stop(&p);
}

static void test_s_client_bulk(void **state) {
    static const char *const suites[] = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"};
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        struct program p;
        struct peer peer;
        uint8_t *text = bulk_text();
        start_client(&peer, &p, suites[i], "P-256", true);
        tls_record_set_key_update_limit(peer.record, 20);
        want_output = p.output.len + BULK;
        want_got = BULK;
        peer_write(&peer, slice_make(text, BULK));
        peer.feed = slice_make(text, BULK);
        peer_run(&peer, has_output);
        peer_run(&peer, has_got);
        assert_memory_equal(peer.got.ptr, text, BULK);
        want_text = text;
        assert_true(has_text(&peer));
        close(p.to);
        p.to = -1;
        peer_run(&peer, has_closed);
        peer_fini(&peer);
        program_stop(&p);
        free(text);
    }
}

// ---- s_server

static void connect_server(struct peer *peer, struct program *p) {
    peer_run(peer, has_address);
    const char *at = strstr(buf_cstr(&p->output), "ACCEPT ");
    const char *colon = strchr(at, ':');
    assert_non_null(colon);
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sin.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(peer->fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    peer_shake(peer, slice_make(NULL, 0));
    peer_run(peer, has_record);
}

static void start_server(struct peer *peer, struct program *p, const char *groups) {
    const char *const args[] = {"openssl",
                                "s_server",
                                "-accept",
                                "127.0.0.1:0",
                                "-naccept",
                                "1",
                                "-tls1_3",
                                "-alpn",
                                "h2",
                                "-cert",
                                "cert.pem",
                                "-cert_chain",
                                "cert.pem",
                                "-key",
                                "key.pem",
                                "-CAfile",
                                "roots.pem",
                                "-Verify",
                                "2",
                                "-verify_return_error",
                                "-num_tickets",
                                "3",
                                "-groups",
                                groups,
                                NULL};
    program_start(p, args);
    peer_init(peer, p, true);
    connect_server(peer, p);
}

// ---- s_server with TLS 1.2: a server outside of the mesh

static void start_server_12(struct peer *peer, struct program *p, const char *suite) {
    const char *const args[] = {"openssl",  "s_server",    "-accept",  "127.0.0.1:0", "-naccept",
                                "1",        "-tls1_2",     "-alpn",    "http/1.1",    "-cert",
                                "cert.pem", "-cert_chain", "cert.pem", "-key",        "key.pem",
                                "-cipher",  suite,         NULL};
    struct slice names[] = {SLICE_LIT(FIX_CLIENT)};
    struct tls_outside_server server = {
        .sni = SLICE_LIT("a"), .names = names, .n_names = 1, .alpn = TLS_ALPN_HTTP1};
    program_start(p, args);
    peer_init(peer, p, true);
    tls_handshake_free(peer->hs);
    peer->hs = tls_handshake_new_outside(ctx_outside, &server);
    connect_server(peer, p);
}

static void test_s_server_12(void **state) {
    static const char *const suites[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                                         "ECDHE-ECDSA-AES256-GCM-SHA384",
                                         "ECDHE-ECDSA-CHACHA20-POLY1305"};
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        struct program p;
        struct peer peer;
        uint8_t *text = bulk_text();
        start_server_12(&peer, &p, suites[i]);
        peer.feed = slice_make(text, BULK);
        peer_write(&peer, slice_make(text, BULK));
        want_got = BULK;
        peer_run(&peer, has_got);
        peer_run(&peer, has_sent);
        assert_memory_equal(peer.got.ptr, text, BULK);
        want_text = text;
        peer_run(&peer, has_text);
        tls_record_close(peer.record, TLS_OK, &peer.out);
        peer_run(&peer, has_closed);
        peer_fini(&peer);
        program_stop(&p);
        free(text);
    }
}

// Another handshake on the connection is refused.
static void test_s_server_12_again(void **state) {
    struct program p;
    struct peer peer;
    want_err = TLS_RENEGOTIATION;
    start_server_12(&peer, &p, "ECDHE-ECDSA-AES128-GCM-SHA256");
    peer.feed = SLICE_LIT("r\n"); // s_server's command
    peer_run(&peer, has_failed);
    assert_int_equal(peer.err, TLS_RENEGOTIATION);
    want_err = TLS_OK;
    peer_fini(&peer);
    program_stop(&p);
}

static void test_s_server(void **state) {
    static const char *const groups[] = {"X25519", "P-256"}; // the second takes a HelloRetryRequest
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        struct program p;
        struct peer peer;
        uint8_t *text = bulk_text();
        start_server(&peer, &p, groups[i]);
        tls_record_set_key_update_limit(peer.record, 50);
        peer.feed = slice_make(text, BULK);
        peer_write(&peer, slice_make(text, BULK));
        want_got = BULK;
        peer_run(&peer, has_got);
        peer_run(&peer, has_sent);
        assert_memory_equal(peer.got.ptr, text, BULK);
        want_text = text;
        peer_run(&peer, has_text);
        tls_record_close(peer.record, TLS_OK, &peer.out);
        peer_run(&peer, has_closed);
        peer_fini(&peer);
        program_stop(&p);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s_client_commands), cmocka_unit_test(test_s_client_bulk),
        cmocka_unit_test(test_s_server),          cmocka_unit_test(test_s_server_12),
        cmocka_unit_test(test_s_server_12_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
