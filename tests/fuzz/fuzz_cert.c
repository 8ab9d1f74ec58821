// SPDX-License-Identifier: Apache-2.0
//
// Everything that takes certificates: PEM lists, CRLs, CA files, SPIFFE ids, and a peer's DER
// chain, raw or as a real one with changes. A changed chain must never pass.
//
// Input: a byte of mode, then text, DER, or changes of 3 bytes each (place, mask).
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cur.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_cert.h"
#include "common/tls/tls_pem.h"
#include "common/tls/tls_spiffe.h"
#include "common/tls/tls_verify_priv.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
    MODE_PEM,
    MODE_CTX,
    MODE_CRL,
    MODE_CA,
    MODE_SPIFFE,
    MODE_DER,
    MODE_CHANGED,
    MODE_PEER,
    N_MODES
};
static const int64_t now_s = INT64_C(1700000000);

static char *ca_cert_pem, *ca_key_pem;
static struct tls_svid svid;
static struct tls_ctx *ctx;
static uint8_t *leaf;
static size_t leaf_len;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    char *error = NULL;
    tls_ca_make_root(SLICE_LIT("cluster.local"), now_s, &ca_cert_pem, &ca_key_pem);
    struct tls_ca_params ca_params = {
        .ca_cert_pem = slice_str(ca_cert_pem), .ca_key_pem = slice_str(ca_key_pem), .now_s = now_s};
    struct tls_ca *ca = tls_ca_new(&ca_params, &error);
    CHECK(ca != NULL);
    CHECK(tls_ca_sign(ca, SLICE_LIT("spiffe://cluster.local/ns/a/sa/b"), now_s, 3600, &svid,
                      &error));
    struct tls_ctx_params params = {
        .cert_chain_pem = slice_str(svid.cert_chain_pem),
        .key_pem = slice_str(svid.key_pem),
        .roots_pem = slice_str(svid.roots_pem),
    };
    ctx = tls_ctx_new(&params, &error);
    CHECK(ctx != NULL);
    STACK_OF(X509) *certs = tls_pem_certs(params.cert_chain_pem, 1, "leaf", &error);
    leaf_len = (size_t)i2d_X509(sk_X509_value(certs, 0), &leaf);
    sk_X509_pop_free(certs, X509_free);
    tls_ca_free(ca);
    return 0;
}

static void try_ctx(struct slice cert, struct slice roots, struct slice crl) {
    char *error = NULL;
    struct tls_ctx_params params = {
        .cert_chain_pem = cert.len > 0 ? cert : slice_str(svid.cert_chain_pem),
        .key_pem = slice_str(svid.key_pem),
        .roots_pem = roots.len > 0 ? roots : slice_str(svid.roots_pem),
        .crl_pem = crl,
    };
    struct tls_ctx *made = tls_ctx_new(&params, &error);
    CHECK((made == NULL) == (error != NULL));
    tls_ctx_unref(made);
    free(error);
}

static void try_ca(struct slice in) {
    for (int which = 0; which < 4; which++) {
        char *error = NULL;
        struct tls_ca_params params = {
            .ca_cert_pem = which == 0 ? in : slice_str(ca_cert_pem),
            .ca_key_pem = which == 1 ? in : slice_str(ca_key_pem),
            .root_cert_pem = which == 2 ? in : slice_make(NULL, 0),
            .cert_chain_pem = which == 3 ? in : slice_make(NULL, 0),
            .now_s = now_s,
        };
        struct tls_ca *ca = tls_ca_new(&params, &error);
        CHECK((ca == NULL) == (error != NULL));
        tls_ca_free(ca);
        free(error);
    }
}

static void try_chain(const struct slice *certs, size_t n, bool must_fail) {
    char detail[TLS_DETAIL_MAX] = "";
    for (int is_server = 0; is_server < 2; is_server++) {
        struct tls_chain *chain = NULL;
        if (tls_verify_chain(ctx, is_server, certs, n, now_s, &chain, detail) == TLS_OK) {
            CHECK(!must_fail);
            CHECK(chain->san.len > 0 && chain->not_before <= now_s && chain->not_after > now_s);
            (void)!tls_verify_identity(ctx, chain, NULL, 0, detail);
            tls_chain_unref(chain);
        }
    }
}

static void try_changed(struct slice in) {
    uint8_t *der = xmalloc(leaf_len);
    struct cur cur = cur_make(in);
    memcpy(der, leaf, leaf_len);
    while (cur.len >= 3) {
        size_t at = cur_u16(&cur) % leaf_len;
        der[at] ^= cur_u8(&cur);
    }
    struct slice certs[] = {slice_make(der, leaf_len)};
    try_chain(certs, 1, memcmp(der, leaf, leaf_len) != 0);
    free(der);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct slice in = slice_skip(slice_make(data, len), 1), none = slice_make(NULL, 0);
    struct tls_cert_info *infos;
    struct tls_spiffe id;
    char *text, *error = NULL;
    size_t n;
    switch (len > 0 ? data[0] % N_MODES : MODE_PEM) {
    case MODE_PEM:
        n = tls_cert_parse(in, &infos, &error);
        if (n > 0) {
            tls_cert_infos_free(infos, n);
            text = tls_cert_normalize(in, &error);
            CHECK(text != NULL);
            free(text);
        }
        free(error);
        break;
    case MODE_CTX:
        try_ctx(in, none, none);
        try_ctx(none, in, none);
        break;
    case MODE_CRL:
        try_ctx(none, none, in);
        break;
    case MODE_CA:
        try_ca(in);
        break;
    case MODE_SPIFFE:
        if (tls_spiffe_parse(in, &id)) {
            CHECK(id.trust_domain.len + id.ns.len + id.sa.len + 17 == in.len);
        }
        break;
    case MODE_DER:
        try_chain(&in, 1, true);
        try_chain((struct slice[]){slice_make(leaf, leaf_len), in}, 2, false);
        break;
    case MODE_PEER: // the opaque form of a hand-over
        tls_peer_free(tls_peer_import(in));
        break;
    default:
        try_changed(in);
    }
    return 0;
}
