// SPDX-License-Identifier: Apache-2.0
//
// What TLS costs on this machine, as the floor that other measurements are compared with:
//
//   tls_probe [--group x25519mlkem768|x25519|p256] [--handshakes N] [--aead-ms MS]
//
// Handshakes: mutual TLS 1.3 with P-256 certificates over memory, CPU time of each side, by
// BoringSSL alone (with its own chain verification, and with none) and by common/tls (every chain
// new to the cache, and known to it). AEAD: nanoseconds per record to seal and to open in place, by
// EVP_AEAD alone and by tls_record. JSON on stdout; medians of several rounds.
#include <openssl/aead.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/chain.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_ctx.h"
#include "common/tls/tls_handshake.h"
#include "common/tls/tls_record.h"
#include "common/tls/tls_verify.h"

enum { N_ROUNDS = 9, N_SIZES = 7, HEADER = 5, TAG = 16 };

static const char client_id[] = "spiffe://cluster.local/ns/a/sa/client";
static const char server_id[] = "spiffe://cluster.local/ns/b/sa/server";

struct options {
    const char *group_name;
    uint16_t group;
    int n_handshakes;
    int aead_ms;
};

static struct blk_pool pool;
static int64_t now_s;

static double cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n) {
    qsort(values, n, sizeof(*values), compare);
    return values[n / 2];
}

// ---- Handshakes by BoringSSL alone

static enum ssl_verify_result_t accept_any(SSL *ssl, uint8_t *ret_alert) {
    return ssl_verify_ok;
}

static int select_h2(SSL *ssl, const uint8_t **ret_proto, uint8_t *ret_len, const uint8_t *in,
                     unsigned len, void *arg) {
    return SSL_select_next_proto((uint8_t **)ret_proto, ret_len, in, len, (const uint8_t *)"\2h2",
                                 3) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *plain_ctx(const struct tls_svid *svid, uint16_t group, bool do_verify) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    BIO *certs = BIO_new_mem_buf(svid->cert_chain_pem, -1);
    BIO *keys = BIO_new_mem_buf(svid->key_pem, -1);
    BIO *roots = BIO_new_mem_buf(svid->roots_pem, -1);
    X509 *cert = PEM_read_bio_X509(certs, NULL, NULL, NULL);
    X509 *root = PEM_read_bio_X509(roots, NULL, NULL, NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(keys, NULL, NULL, NULL);
    CHECK(SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1);
    CHECK(SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
    CHECK(SSL_CTX_set1_group_ids(ctx, &group, 1) == 1);
    CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root) == 1);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)"\2h2", 3);
    SSL_CTX_set_alpn_select_cb(ctx, select_h2, NULL);
    int mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    if (do_verify) {
        SSL_CTX_set_verify(ctx, mode, NULL);
    } else {
        SSL_CTX_set_custom_verify(ctx, mode, accept_any);
    }
    X509_free(cert);
    X509_free(root);
    EVP_PKEY_free(key);
    BIO_free(certs);
    BIO_free(keys);
    BIO_free(roots);
    ERR_clear_error();
    return ctx;
}

struct cost { // microseconds of CPU a handshake
    double client_us, server_us;
};

static bool step(SSL *ssl, double *spent_ns) {
    double start = cpu_ns();
    bool done = SSL_do_handshake(ssl) == 1;
    ERR_clear_error();
    *spent_ns += cpu_ns() - start;
    return done;
}

// Creation and release of the objects count too: a proxy pays for them for each connection.
static void plain_handshake(SSL_CTX *client_ctx, SSL_CTX *server_ctx, double *client_ns,
                            double *server_ns) {
    BIO *a, *b;
    CHECK(BIO_new_bio_pair(&a, 32768, &b, 32768) == 1);
    double start = cpu_ns();
    SSL *client = SSL_new(client_ctx);
    SSL_set_bio(client, a, a);
    SSL_set_connect_state(client);
    *client_ns += cpu_ns() - start;
    start = cpu_ns();
    SSL *server = SSL_new(server_ctx);
    SSL_set_bio(server, b, b);
    SSL_set_accept_state(server);
    *server_ns += cpu_ns() - start;
    bool client_done = false, server_done = false;
    for (int i = 0; i < 8 && !(client_done && server_done); i++) {
        client_done = client_done || step(client, client_ns);
        server_done = server_done || step(server, server_ns);
    }
    CHECK(client_done && server_done);
    start = cpu_ns();
    SSL_free(client);
    *client_ns += cpu_ns() - start;
    start = cpu_ns();
    SSL_free(server);
    *server_ns += cpu_ns() - start;
}

static struct cost plain_cost(const struct options *opt, const struct tls_svid *client,
                              const struct tls_svid *server, bool do_verify) {
    SSL_CTX *client_ctx = plain_ctx(client, opt->group, do_verify);
    SSL_CTX *server_ctx = plain_ctx(server, opt->group, do_verify);
    double at_client[N_ROUNDS], at_server[N_ROUNDS];
    for (int round = 0; round < N_ROUNDS; round++) {
        double client_ns = 0, server_ns = 0;
        for (int i = 0; i < opt->n_handshakes; i++) {
            plain_handshake(client_ctx, server_ctx, &client_ns, &server_ns);
        }
        at_client[round] = client_ns / opt->n_handshakes / 1e3;
        at_server[round] = server_ns / opt->n_handshakes / 1e3;
    }
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
    return (struct cost){median(at_client, N_ROUNDS), median(at_server, N_ROUNDS)};
}

// ---- Handshakes by common/tls

// Feeds what is under way to hs; returns whether it is done.
static bool feed(struct tls_handshake *hs, struct chain *in, struct chain *out, double *spent_ns) {
    static uint8_t bytes[32768];
    size_t n = chain_peek(in, bytes, sizeof(bytes));
    chain_skip(in, n);
    double start = cpu_ns();
    enum tls_step result = tls_handshake_recv(hs, slice_make(bytes, n), now_s, out);
    *spent_ns += cpu_ns() - start;
    CHECK(result != TLS_STEP_ERROR);
    return result == TLS_STEP_DONE;
}

static void finish(struct tls_handshake *hs, double *spent_ns) {
    double start = cpu_ns();
    struct slice rest;
    struct tls_record *record = tls_handshake_take(hs, &rest);
    tls_handshake_free(hs);
    tls_record_free(record);
    *spent_ns += cpu_ns() - start;
}

static uint16_t own_handshake(struct tls_ctx *client_ctx, struct tls_ctx *server_ctx,
                              double *client_ns, double *server_ns) {
    struct chain up, down;
    struct slice expected = slice_str(server_id);
    chain_init(&up, &pool);
    chain_init(&down, &pool);
    double start = cpu_ns();
    struct tls_handshake *client = tls_handshake_new_client(client_ctx, &expected, 1);
    *client_ns += cpu_ns() - start;
    start = cpu_ns();
    struct tls_handshake *server = tls_handshake_new_server(server_ctx);
    *server_ns += cpu_ns() - start;
    bool client_done = false, server_done = false;
    for (int i = 0; i < 8 && !(client_done && server_done); i++) {
        client_done = client_done || feed(client, &down, &up, client_ns);
        server_done = server_done || feed(server, &up, &down, server_ns);
    }
    CHECK(client_done && server_done);
    uint16_t group = tls_handshake_peer(client)->group;
    finish(client, client_ns);
    finish(server, server_ns);
    return group;
}

static struct tls_ctx *own_ctx(const struct tls_svid *svid, enum tls_compliance compliance) {
    char *error = NULL;
    struct tls_ctx_params params = {
        .cert_chain_pem = slice_str(svid->cert_chain_pem),
        .key_pem = slice_str(svid->key_pem),
        .roots_pem = slice_str(svid->roots_pem),
        .compliance = compliance,
    };
    struct tls_ctx *ctx = tls_ctx_new(&params, &error);
    CHECK(ctx != NULL);
    return ctx;
}

static struct cost own_cost(const struct options *opt, struct tls_ctx *client,
                            struct tls_ctx *server, bool is_cached, uint16_t *ret_group) {
    double at_client[N_ROUNDS], at_server[N_ROUNDS];
    for (int round = 0; round < N_ROUNDS; round++) {
        double client_ns = 0, server_ns = 0;
        for (int i = 0; i < opt->n_handshakes; i++) {
            if (!is_cached) {
                tls_verify_cache_clear();
            }
            *ret_group = own_handshake(client, server, &client_ns, &server_ns);
        }
        at_client[round] = client_ns / opt->n_handshakes / 1e3;
        at_server[round] = server_ns / opt->n_handshakes / 1e3;
    }
    return (struct cost){median(at_client, N_ROUNDS), median(at_server, N_ROUNDS)};
}

static void print_cost(const char *name, struct cost cost, const char *end) {
    printf("    \"%s\": {\"client_us\": %.1f, \"server_us\": %.1f}%s\n", name, cost.client_us,
           cost.server_us, end);
}

static void probe_handshakes(const struct options *opt) {
    char *cert_pem, *key_pem, *error = NULL;
    struct tls_svid client, server;
    uint16_t group = 0;
    tls_ca_make_root(SLICE_LIT("cluster.local"), now_s, &cert_pem, &key_pem);
    struct tls_ca_params params = {
        .ca_cert_pem = slice_str(cert_pem), .ca_key_pem = slice_str(key_pem), .now_s = now_s};
    struct tls_ca *ca = tls_ca_new(&params, &error);
    CHECK(ca != NULL);
    CHECK(tls_ca_sign(ca, slice_str(client_id), now_s, 3600, &client, &error));
    CHECK(tls_ca_sign(ca, slice_str(server_id), now_s, 3600, &server, &error));
    // The policies that lead to the wanted group; X25519 alone is none of ours ("ztun_group"
    // tells).
    enum tls_compliance compliance = opt->group == SSL_GROUP_SECP256R1 ? TLS_COMPLIANCE_FIPS
                                     : opt->group == SSL_GROUP_X25519_MLKEM768
                                         ? TLS_COMPLIANCE_PQC
                                         : TLS_COMPLIANCE_DEFAULT;
    struct tls_ctx *client_ctx = own_ctx(&client, compliance);
    struct tls_ctx *server_ctx = own_ctx(&server, compliance);
    printf("  \"handshake\": {\n    \"group\": \"%s\",\n", opt->group_name);
    print_cost("boringssl_no_chain_check", plain_cost(opt, &client, &server, false), ",");
    print_cost("boringssl", plain_cost(opt, &client, &server, true), ",");
    print_cost("ztun_new_chains", own_cost(opt, client_ctx, server_ctx, false, &group), ",");
    print_cost("ztun_known_chains", own_cost(opt, client_ctx, server_ctx, true, &group), ",");
    printf("    \"ztun_group\": \"%s\"\n  },\n", SSL_get_group_name(group));
    tls_ctx_unref(client_ctx);
    tls_ctx_unref(server_ctx);
    tls_svid_fini(&client);
    tls_svid_fini(&server);
    tls_ca_free(ca);
    tls_verify_cache_clear();
    free(cert_pem);
    free(key_pem);
}

// ---- AEAD

struct aead_cost { // nanoseconds a record
    double seal_ns, open_ns, record_seal_ns, record_open_ns;
};

static void raw_round(const EVP_AEAD_CTX *aead, uint8_t *bytes, size_t len, size_t n,
                      double *ret_seal_ns, double *ret_open_ns) {
    uint8_t nonce[12] = {0}, header[HEADER] = {23, 3, 3};
    uint8_t *tag = bytes + len;
    size_t tag_len;
    double seal_ns = 0, open_ns = 0;
    for (size_t i = 0; i < n; i++) {
        nonce[0]++;
        double start = cpu_ns();
        for (int j = 0; j < 16; j++) { // in place, over its own output: the cost is the same
            EVP_AEAD_CTX_seal_scatter(aead, bytes, tag, &tag_len, TAG, nonce, sizeof(nonce), bytes,
                                      len, NULL, 0, header, HEADER);
        }
        seal_ns += cpu_ns() - start;
        start = cpu_ns();
        for (int j = 0; j < 16; j++) {
            EVP_AEAD_CTX_seal_scatter(aead, bytes, tag, &tag_len, TAG, nonce, sizeof(nonce), bytes,
                                      len, NULL, 0, header, HEADER);
            CHECK(EVP_AEAD_CTX_open_gather(aead, bytes, nonce, sizeof(nonce), bytes, len, tag, TAG,
                                           header, HEADER) == 1);
        }
        open_ns += cpu_ns() - start;
    }
    *ret_seal_ns = seal_ns / (double)n / 16;
    *ret_open_ns = open_ns / (double)n / 16 - *ret_seal_ns;
}

static void record_round(struct tls_record *from, struct tls_record *to, size_t len, size_t n,
                         double *ret_seal_ns, double *ret_open_ns) {
    struct chain plain, out;
    struct blk *blks[16];
    struct seg seg;
    double seal_ns = 0, open_ns = 0;
    chain_init(&plain, &pool);
    chain_init(&out, &pool);
    for (int j = 0; j < 16; j++) {
        blks[j] = blk_new_cold(&pool, BLK_HEADROOM + len + BLK_TAILROOM);
        memset(blks[j]->base, 'x', blks[j]->cap);
    }
    for (size_t i = 0; i < n; i++) {
        double start = cpu_ns();
        for (int j = 0; j < 16; j++) { // one by one, so that small ones are not joined
            chain_give_room(&plain, blk_ref(blks[j]), BLK_HEADROOM, (uint32_t)len, BLK_HEADROOM,
                            BLK_TAILROOM);
            tls_record_seal(from, &plain, &out, SIZE_MAX);
        }
        seal_ns += cpu_ns() - start;
        start = cpu_ns();
        while (chain_pop(&out, &seg)) {
            size_t used, off, data_len, need;
            CHECK(tls_record_open(to, seg_ptr(&seg), seg.len, &used, &off, &data_len, &need) ==
                  TLS_OPEN_DATA);
            blk_unref(seg.blk);
        }
        open_ns += cpu_ns() - start;
    }
    for (int j = 0; j < 16; j++) {
        blk_unref(blks[j]);
    }
    *ret_seal_ns = seal_ns / (double)n / 16;
    *ret_open_ns = open_ns / (double)n / 16;
}

static struct aead_cost probe_size(enum tls_suite suite, size_t len, int ms) {
    static const uint8_t secret[48] = {1};
    bool is_128 = suite == TLS_SUITE_AES_128_GCM_SHA256;
    struct slice s = slice_make(secret, is_128 ? 32 : 48);
    struct tls_record *from = tls_record_new(suite, s, 0, s, 0);
    struct tls_record *to = tls_record_new(suite, s, 0, s, 0);
    uint8_t *bytes = xcalloc(1, len + TAG);
    EVP_AEAD_CTX aead;
    double rounds[4][N_ROUNDS];
    CHECK(EVP_AEAD_CTX_init(&aead, is_128 ? EVP_aead_aes_128_gcm() : EVP_aead_aes_256_gcm(), secret,
                            is_128 ? 16 : 32, TAG, NULL) == 1);
    size_t n = (size_t)(ms * 1e6 / N_ROUNDS / 16 / 4 / (80.0 + (double)len / 8)) + 1;
    for (int i = 0; i < N_ROUNDS; i++) { // interleaved
        raw_round(&aead, bytes, len, n, &rounds[0][i], &rounds[1][i]);
        record_round(from, to, len, n, &rounds[2][i], &rounds[3][i]);
    }
    EVP_AEAD_CTX_cleanup(&aead);
    tls_record_free(from);
    tls_record_free(to);
    free(bytes);
    return (struct aead_cost){median(rounds[0], N_ROUNDS), median(rounds[1], N_ROUNDS),
                              median(rounds[2], N_ROUNDS), median(rounds[3], N_ROUNDS)};
}

static void probe_aead(const struct options *opt) {
    static const size_t sizes[N_SIZES] = {64, 256, 1024, 1420, 4096, 8192, 16384};
    static const struct {
        enum tls_suite suite;
        const char *name;
    } suites[] = {{TLS_SUITE_AES_128_GCM_SHA256, "aes_128_gcm"},
                  {TLS_SUITE_AES_256_GCM_SHA384, "aes_256_gcm"}};
    printf("  \"aead\": [\n");
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        for (size_t j = 0; j < N_SIZES; j++) {
            struct aead_cost c = probe_size(suites[i].suite, sizes[j], opt->aead_ms);
            bool is_last = i + 1 == ARRAY_LEN(suites) && j + 1 == N_SIZES;
            printf("    {\"suite\": \"%s\", \"size\": %zu, \"seal_ns\": %.1f, \"open_ns\": %.1f, "
                   "\"record_seal_ns\": %.1f, \"record_open_ns\": %.1f}%s\n",
                   suites[i].name, sizes[j], c.seal_ns, c.open_ns, c.record_seal_ns,
                   c.record_open_ns, is_last ? "" : ",");
        }
    }
    printf("  ]\n}\n");
}

static bool parse_group(const char *name, struct options *opt) {
    static const struct {
        const char *name;
        uint16_t group;
    } groups[] = {{"x25519mlkem768", SSL_GROUP_X25519_MLKEM768},
                  {"x25519", SSL_GROUP_X25519},
                  {"p256", SSL_GROUP_SECP256R1}};
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        if (strcmp(groups[i].name, name) == 0) {
            opt->group_name = groups[i].name;
            opt->group = groups[i].group;
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    struct options opt = {"x25519mlkem768", SSL_GROUP_X25519_MLKEM768, 200, 200};
    bool ok = argc % 2 == 1;
    for (int i = 1; ok && i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--group") == 0) {
            ok = parse_group(argv[i + 1], &opt);
        } else if (strcmp(argv[i], "--handshakes") == 0) {
            ok = (opt.n_handshakes = (int)strtol(argv[i + 1], NULL, 10)) > 0;
        } else if (strcmp(argv[i], "--aead-ms") == 0) {
            ok = (opt.aead_ms = (int)strtol(argv[i + 1], NULL, 10)) > 0;
        } else {
            ok = false;
        }
    }
    if (!ok) {
        fprintf(stderr, "usage: tls_probe [--group x25519mlkem768|x25519|p256] [--handshakes N] "
                        "[--aead-ms MS]\n");
        return 2;
    }
    now_s = time(NULL);
    blk_pool_init(&pool, 4);
    printf("{\n");
    probe_handshakes(&opt);
    probe_aead(&opt);
    blk_pool_fini(&pool);
    return 0;
}
