// SPDX-License-Identifier: Apache-2.0
//
// Handshake input, for both roles: raw bytes from the start, or a real peer's flights with changes
// made to them on the way. Nothing may crash or leak, input stays bounded, and a handshake whose
// encrypted part was changed must not succeed.
//
// Input: a byte of mode; raw bytes, or a list of changes of 4 bytes each (place, mask).
#include <stdlib.h>
#include <string.h>

#include "common/base/chain.h"
#include "common/base/cur.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_ctx.h"
#include "common/tls/tls_handshake.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MODE_SERVER, MODE_CLIENT, MODE_CHANGED_TO_SERVER, MODE_CHANGED_TO_CLIENT, N_MODES };
enum { CHANGES_MAX = 8, FLIGHT_MAX = 16384 };
static const int64_t now_s = INT64_C(1700000000);

static struct tls_ctx *ctx;
static struct blk_pool pool;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char id[] = "spiffe://cluster.local/ns/a/sa/b";
    char *cert_pem, *key_pem, *error = NULL;
    struct tls_svid svid;
    blk_pool_init(&pool, 1);
    tls_ca_make_root(SLICE_LIT("cluster.local"), now_s, &cert_pem, &key_pem);
    struct tls_ca_params ca_params = {
        .ca_cert_pem = slice_str(cert_pem), .ca_key_pem = slice_str(key_pem), .now_s = now_s};
    struct tls_ca *ca = tls_ca_new(&ca_params, &error);
    CHECK(ca != NULL);
    CHECK(tls_ca_sign(ca, slice_str(id), now_s, 3600, &svid, &error));
    struct tls_ctx_params params = {
        .cert_chain_pem = slice_str(svid.cert_chain_pem),
        .key_pem = slice_str(svid.key_pem),
        .roots_pem = slice_str(svid.roots_pem),
        .compliance = TLS_COMPLIANCE_FIPS, // P-256 alone: the cheapest flights
    };
    ctx = tls_ctx_new(&params, &error);
    CHECK(ctx != NULL);
    tls_svid_fini(&svid);
    tls_ca_free(ca);
    free(cert_pem);
    free(key_pem);
    return 0;
}

static void run_raw(struct slice in, bool is_server) {
    struct chain out;
    chain_init(&out, &pool);
    struct tls_handshake *hs =
        is_server ? tls_handshake_new_server(ctx) : tls_handshake_new_client(ctx, NULL, 0);
    if (!is_server) {
        CHECK(tls_handshake_recv(hs, slice_make(NULL, 0), now_s, &out) == TLS_STEP_MORE);
    }
    while (in.len > 0) {
        struct slice part = slice_head(in, 1 + in.len / 3);
        if (tls_handshake_recv(hs, part, now_s, &out) != TLS_STEP_MORE) {
            CHECK(tls_handshake_error(hs) != TLS_OK);
            break;
        }
        in = slice_skip(in, part.len);
    }
    chain_clear(&out);
    tls_handshake_free(hs);
}

struct flow { // bytes one way, and the changes still to be made to them
    struct chain chain;
    size_t n_sent;
    struct slice changes;
};

// Takes what is under way, changed; returns its length.
static size_t deliver(struct flow *flow, uint8_t *bytes) {
    size_t n = chain_peek(&flow->chain, bytes, FLIGHT_MAX);
    chain_skip(&flow->chain, n);
    struct cur cur = cur_make(flow->changes);
    for (size_t i = 0; i < CHANGES_MAX && cur.len >= 4; i++) {
        size_t at = cur_u16(&cur) % 4096;
        uint8_t mask = cur_u8(&cur);
        cur_skip(&cur, 1);
        if (at >= flow->n_sent && at < flow->n_sent + n) {
            bytes[at - flow->n_sent] ^= mask;
        }
    }
    flow->n_sent += n;
    return n;
}

static void run_changed(struct slice changes, bool to_server) {
    struct flow up = {.changes = to_server ? changes : slice_make(NULL, 0)};
    struct flow down = {.changes = to_server ? slice_make(NULL, 0) : changes};
    uint8_t *bytes = xmalloc(FLIGHT_MAX);
    struct tls_handshake *client = tls_handshake_new_client(ctx, NULL, 0);
    struct tls_handshake *server = tls_handshake_new_server(ctx);
    chain_init(&up.chain, &pool);
    chain_init(&down.chain, &pool);
    enum tls_step at_server = TLS_STEP_MORE;
    enum tls_step at_client = tls_handshake_recv(client, slice_make(NULL, 0), now_s, &up.chain);
    bool moved = true;
    while (moved) {
        moved = false;
        if (at_server == TLS_STEP_MORE && !chain_empty(&up.chain)) {
            size_t n = deliver(&up, bytes);
            at_server = tls_handshake_recv(server, slice_make(bytes, n), now_s, &down.chain);
            moved = true;
        }
        if (at_client == TLS_STEP_MORE && !chain_empty(&down.chain)) {
            size_t n = deliver(&down, bytes);
            at_client = tls_handshake_recv(client, slice_make(bytes, n), now_s, &up.chain);
            moved = true;
        }
    }
    CHECK((at_client == TLS_STEP_ERROR) == (tls_handshake_error(client) != TLS_OK));
    CHECK((at_server == TLS_STEP_ERROR) == (tls_handshake_error(server) != TLS_OK));
    if (at_client == TLS_STEP_DONE) {
        CHECK(tls_handshake_peer(client)->identity.len > 0);
    }
    chain_clear(&up.chain);
    chain_clear(&down.chain);
    tls_handshake_free(client);
    tls_handshake_free(server);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct slice in = slice_make(data, len);
    uint8_t mode = len > 0 ? data[0] % N_MODES : MODE_SERVER;
    in = slice_skip(in, 1);
    switch (mode) {
    case MODE_SERVER:
    case MODE_CLIENT:
        run_raw(in, mode == MODE_SERVER);
        break;
    default:
        run_changed(in, mode == MODE_CHANGED_TO_SERVER);
    }
    return 0;
}
